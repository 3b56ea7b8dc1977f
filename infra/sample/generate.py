"""Makes the sample subscriptions: ``python -m infra sample --help``.

The same seed and count always make the same file; without arguments the generator makes the one in
the repository. Most users live in a few large zones, as the users of a real product do. Some live
in the zones that have broken software before: offsets of half and quarter hours, two midnights in
Havana, the first and the last place on Earth to reach the 1st.
"""

import argparse
import csv
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TextIO

from chalicelib.domain.instants import format_instant

COLUMNS = (
    "user_id",
    "email",
    "timezone",
    "plan",
    "billing_interval",
    "status",
    "started_at",
    "eligible_from",
    "allocation_amount",
)

SEED = 2026
COUNT = 1_000
OUTPUT = Path(__file__).with_name("subscriptions.csv")
MOST_COUNT = 10_000_000

CERTAIN_ZONES = (
    # Every name whose offset is not a whole hour, including links such as Asia/Calcutta: old
    # browsers and old sign-up forms have sent such names. The tests notice if one is missing.
    "America/St_Johns",
    "Asia/Calcutta",
    "Asia/Colombo",
    "Asia/Kabul",
    "Asia/Kathmandu",
    "Asia/Katmandu",
    "Asia/Kolkata",
    "Asia/Rangoon",
    "Asia/Tehran",
    "Asia/Yangon",
    "Australia/Adelaide",
    "Australia/Broken_Hill",
    "Australia/Darwin",
    "Australia/Eucla",
    "Australia/LHI",
    "Australia/Lord_Howe",
    "Australia/North",
    "Australia/South",
    "Australia/Yancowinna",
    "Canada/Newfoundland",
    "Indian/Cocos",
    "Iran",
    "NZ-CHAT",
    "Pacific/Chatham",
    "Pacific/Marquesas",
    # Clock changes at midnight itself.
    "America/Asuncion",
    "America/Havana",
    "America/Santiago",
    "Asia/Amman",
    "Asia/Beirut",
    "Africa/Cairo",
    # The first and the last zone to reach a new day, and two that are 25 hours and one sea apart.
    "Pacific/Kiritimati",
    "Pacific/Apia",
    "Pacific/Midway",
    "Etc/GMT+12",
)
"""Zones that the sample always has. Each has an active yearly subscription to the lowest plan, so
that credits arrive and expire there."""

ZONE_WEIGHTS = {
    "America/New_York": 140,
    "America/Los_Angeles": 95,
    "America/Chicago": 85,
    "Europe/London": 85,
    "Europe/Berlin": 60,
    "Asia/Kolkata": 60,
    "Europe/Paris": 45,
    "America/Sao_Paulo": 40,
    "America/Toronto": 35,
    "Australia/Sydney": 30,
    "Asia/Tokyo": 30,
    "Europe/Madrid": 25,
    "Europe/Amsterdam": 25,
    "America/Denver": 25,
    "Asia/Singapore": 20,
    "America/Mexico_City": 20,
    "Europe/Rome": 20,
    "America/Vancouver": 15,
    "Europe/Stockholm": 15,
    "Europe/Warsaw": 15,
    "Europe/Zurich": 12,
    "Africa/Lagos": 12,
    "America/Bogota": 12,
    "America/Argentina/Buenos_Aires": 12,
    "Asia/Shanghai": 12,
    "Asia/Seoul": 12,
    "Asia/Jakarta": 12,
    "Asia/Manila": 10,
    "Africa/Johannesburg": 10,
    "Africa/Nairobi": 10,
    "Asia/Dubai": 10,
    "Asia/Hong_Kong": 10,
    "Asia/Jerusalem": 10,
    "Europe/Dublin": 10,
    "Europe/Istanbul": 10,
    "Europe/Lisbon": 10,
    "Europe/Vienna": 10,
    "Pacific/Auckland": 10,
    "Australia/Melbourne": 10,
    "Australia/Brisbane": 8,
    "America/Phoenix": 8,
    "America/Lima": 8,
    "Asia/Karachi": 8,
    "Asia/Dhaka": 8,
    "Asia/Ho_Chi_Minh": 8,
    "Asia/Bangkok": 8,
    "Europe/Kyiv": 8,
    "Europe/Athens": 6,
    "Europe/Bucharest": 6,
    "Europe/Copenhagen": 6,
    "Europe/Helsinki": 6,
    "Europe/Oslo": 6,
    "Europe/Prague": 6,
    "Africa/Casablanca": 5,
    "America/Halifax": 5,
    "America/Caracas": 4,
    "America/Anchorage": 4,
    "Pacific/Honolulu": 4,
    "Australia/Perth": 4,
    "UTC": 4,
    "Atlantic/Azores": 2,
    "Atlantic/Reykjavik": 2,
    "Asia/Tashkent": 2,
    "America/Nuuk": 1,
    "Antarctica/Troll": 1,
}

PLAN_WEIGHTS = {"starter": 55, "pro": 33, "business": 12}
BILLING_WEIGHTS = {"yearly": 60, "monthly": 40}
STATUS_WEIGHTS = {"active": 86, "cancelled": 9, "paused": 5}
OWN_AMOUNT_SHARE = 0.06
ELIGIBLE_LATER_SHARE = 0.015
EXAMPLE_COM_SHARE = 0.7
OWN_AMOUNTS = (50, 150, 250, 750, 1_000, 5_000, 10_000)

_FIRST_START = datetime(2023, 1, 1, tzinfo=UTC)
_LAST_START = datetime(2026, 11, 1, tzinfo=UTC)

_FIRST_NAMES = (
    *("ada", "alan", "amina", "anders", "beatriz", "chen", "dilan", "elena", "emeka", "fatima"),
    *("grace", "hana", "ines", "ivan", "jonas", "kofi", "leila", "linus", "maria", "mateo"),
    *("mei", "nadia", "noah", "olga", "priya", "ravi", "rosa", "sven", "tala", "yuki"),
)
_LAST_NAMES = (
    *("abe", "alvarez", "andersen", "banerjee", "bauer", "castro", "cohen", "diallo", "dubois"),
    *("eriksen", "fischer", "garcia", "haddad", "hughes", "ivanova", "jansen", "kaya", "kim"),
    *("lopez", "mbeki", "moreau", "nakamura", "nguyen", "okafor", "patel", "rossi", "santos"),
    *("silva", "tanaka", "wilson"),
)


def subscriptions(seed: int = SEED, count: int = COUNT) -> Iterator[dict[str, str]]:
    """``count`` rows for the import, in the order in which the users signed up.

    If there are fewer rows than CERTAIN_ZONES, only the first of those zones are in it.
    """
    chance = random.Random(seed)
    certain = CERTAIN_ZONES[:count]
    zones = [(zone, True) for zone in certain]
    zones += [(zone, False) for zone in _chosen(chance, ZONE_WEIGHTS, count - len(certain))]
    chance.shuffle(zones)
    starts = sorted(_started_at(chance) for _ in range(count))
    for number, ((zone, is_certain), started_at) in enumerate(zip(zones, starts, strict=True), 1):
        # Drawn for certain zones, too: so changing their list changes nobody else's plan.
        plan = _chosen(chance, PLAN_WEIGHTS)[0]
        billing_interval = _chosen(chance, BILLING_WEIGHTS)[0]
        status = _chosen(chance, STATUS_WEIGHTS)[0]
        if is_certain:
            plan, billing_interval, status = "starter", "yearly", "active"
        has_own_amount = chance.random() < OWN_AMOUNT_SHARE and billing_interval == "yearly"
        own_amount = chance.choices(OWN_AMOUNTS)[0]
        is_eligible_later = chance.random() < ELIGIBLE_LATER_SHARE and not is_certain
        yield {
            "user_id": str(number),
            "email": _email(chance, number),
            "timezone": zone,
            "plan": plan,
            "billing_interval": billing_interval,
            "status": status,
            "started_at": format_instant(started_at),
            "eligible_from": _eligible_from(chance).isoformat() if is_eligible_later else "",
            "allocation_amount": str(own_amount) if has_own_amount else "",
        }


def write_csv(file: TextIO, seed: int = SEED, count: int = COUNT) -> None:
    """Write the rows with a header, in the form that the import reads."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(subscriptions(seed, count))


def _chosen(chance: random.Random, weights: dict[str, int], count: int = 1) -> list[str]:
    return chance.choices(list(weights), list(weights.values()), k=count)


def _started_at(chance: random.Random) -> datetime:
    # The square root makes later starts likelier: the product grows.
    share = chance.random() ** 0.5
    return _FIRST_START + timedelta(
        seconds=int(share * (_LAST_START - _FIRST_START).total_seconds())
    )


def _eligible_from(chance: random.Random) -> date:
    # A prepaid contract whose credits begin later: so late that the sample gets the same credits in
    # each of the coming years. An import makes up for credits due in the past.
    return date(2030 + int(chance.random() * 5), 1, 1)


def _email(chance: random.Random, number: int) -> str:
    first = chance.choices(_FIRST_NAMES)[0]
    last = chance.choices(_LAST_NAMES)[0]
    # Reserved for examples (RFC 2606): no email to them reaches anyone.
    domain = "example.com" if chance.random() < EXAMPLE_COM_SHARE else "example.org"
    return f"{first}.{last}.{number}@{domain}"


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST_COUNT:
        raise argparse.ArgumentTypeError(
            f"must be a whole number from 1 to {MOST_COUNT:,}, is {text!r}"
        )
    return count


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m infra sample",
        description="Writes sample subscriptions as a CSV file that `make import` reads.",
        epilog="The same seed and count always make the same file.",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument(
        "--count", type=_count, default=COUNT, help="number of subscriptions; default: %(default)s"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        help="the file to write; default: subscriptions.csv beside this module",
    )
    options = parser.parse_args(arguments)
    try:
        with options.output.open("w", encoding="utf-8", newline="") as file:
            write_csv(file, options.seed, options.count)
    except OSError as error:
        parser.exit(1, f"cannot write {options.output}: {error.strerror}\n")
    print(f"{options.count:,} subscriptions written to {options.output}")


if __name__ == "__main__":
    main()
