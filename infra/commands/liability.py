"""Says which credits were outstanding at an instant, and what had been paid for them.

python -m infra liability 2026-10-31T24:00Z [--stage prod] [--json | --as-csv]
(make liability AT=2026-10-31T24:00Z)

Reads the ledger once, from end to end: each user's last entry at or before the instant says what
they had then. By source, by the plan that the user has today, and by the month (UTC) in which the
credits expire. What was paid is that of what is left: half of a pack is worth half of its price.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import groupby
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from chalicelib.domain.batches import Source
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, Unreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.prices import Price
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.errors import FAULTS
from chalicelib.store.ledger_items import owner_of, read_entry
from chalicelib.store.subscriptions import read_subscription
from infra import reach, session
from infra.arguments import add_stage
from infra.local import stacks
from infra.terminal import progress_bar

USERS_AT_ONCE = 100
"""How many subscriptions are read at once."""

_END_OF_DAY = re.compile(r"T24:00(:00)?(?=Z$|[+-][0-9]{2}:[0-9]{2}$)")
_WITHOUT_SECONDS = re.compile(r"(T[0-9]{2}:[0-9]{2})(?![:0-9])")

COLUMNS = ("source", "plan", "expires", "credits", "paid", "currency")


class Row(NamedTuple):
    """What is counted together. None: of before there were sources; nobody's plan; never; no price.

    ``expires``: a month, such as 2026-11; ``expired`` for credits that no sweep has booked out yet.
    """

    source: str | None
    plan: str | None
    expires: str | None
    currency: str | None


@dataclass
class Liability:
    """Outstanding credits, and the price of each row's, in minor units."""

    credits: Counter[Row] = field(default_factory=Counter)
    paid: defaultdict[Row, Fraction] = field(default_factory=lambda: defaultdict(Fraction))
    balances: int = 0
    """The sum of the last lines: all credits together must be as many."""
    users: int = 0
    unrecovered: int = 0
    """Refunded credits that could not be taken back, because they were spent, say."""
    unreadable: list[str] = field(default_factory=list)


class _Held(NamedTuple):
    """A user's last entry by then, and how their purchases stood: prices, and what was lost."""

    entry: LedgerEntry
    prices: dict[int, Price]
    unrecovered: dict[int, int]


def main(words: list[str] | None = None) -> int:
    """Reads the command line and the ledger; the exit status: 1 if not all could be counted."""
    parser = argparse.ArgumentParser(
        prog="python -m infra liability",
        description="Counts the credits that were outstanding at an instant, and what was paid.",
    )
    parser.add_argument("at", metavar="AT", help="the instant, such as 2026-10-31T24:00Z")
    add_stage(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--as-csv", action="store_true", help="print CSV instead of a table")
    arguments = parser.parse_args(words)
    try:
        at = parse_at("AT", arguments.at)
        services = reach.services_of(arguments.stage, arguments.region)
        if at > services.now():
            now = format_instant(services.now())
            raise InvalidInput.of("AT", f"must not be in the future; it is {now} now")
        found = count(services, at)
    except (InvalidInput, stacks.NotRunningError, session.AwsError, *FAULTS) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(_as_json(found, at)))
    elif arguments.as_csv:
        _write_csv(found)
    else:
        _show(found, at)
    return _told_of_faults(found)


def parse_at(name: str, text: str) -> datetime:
    """An instant, with or without seconds; 24:00 is the midnight at the end of the day."""
    at_midnight = _END_OF_DAY.sub("T00:00:00", text)
    instant = parse_instant(name, _WITHOUT_SECONDS.sub(r"\1:00", at_midnight))
    return instant + timedelta(days=1) if at_midnight != text else instant


def count(services: Services, at: datetime) -> Liability:
    """What was outstanding at an instant, behind a progress bar; says first what it will read."""
    items, size = services.ledger.size()
    units = -(-size // 8192)
    print(
        f"Reads the whole ledger, some {items:,} items as DynamoDB counted them in the last six "
        f"hours: about {units:,} read units, and half a unit for each user's plan.",
        file=sys.stderr,
    )
    found = Liability()
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("Reading the ledger", total=max(items, 1))
        walked = progress.track(services.ledger.walk(), task_id=task)
        waiting: list[_Held] = []
        for user_id, entries in groupby(walked, owner_of):
            held = _held_at(user_id, entries, at, found)
            if held:
                waiting.append(held)
            if len(waiting) == USERS_AT_ONCE:
                _add(services, found, waiting, at)
                waiting = []
        _add(services, found, waiting, at)
    return found


def _held_at(user_id: str, items: Iterator[Item], at: datetime, found: Liability) -> _Held | None:
    """What a user had at an instant; None if nothing had happened to them by then."""
    last: LedgerEntry | None = None
    prices: dict[int, Price] = {}
    unrecovered: dict[int, int] = {}
    is_readable = True
    for item in items:
        try:
            entry = read_entry(item)
        except LedgerCorrupt:
            is_readable = False
            continue
        if entry.posted_at > at:
            continue
        last = entry
        if entry.type is EntryType.PURCHASE and entry.price:
            prices[entry.number] = entry.price
        if entry.refund:
            unrecovered[entry.refund.purchase] = entry.refund.unrecovered
    if not is_readable:
        found.unreadable.append(user_id)
        return None
    return _Held(last, prices, unrecovered) if last else None


def _add(services: Services, found: Liability, held: list[_Held], at: datetime) -> None:
    plans = dict(_plans_of(services, [each.entry.user_id for each in held]))
    for entry, prices, unrecovered in held:
        found.users += 1
        found.unrecovered += sum(unrecovered.values())
        found.balances += entry.balance
        for batch in entry.batches:
            expires = None
            if batch.expires_at:
                is_usable = batch.is_usable(at)
                expires = batch.expires_at.strftime("%Y-%m") if is_usable else "expired"
            price = prices.get(batch.number) if batch.source is Source.PURCHASE else None
            row = Row(batch.source, plans.get(entry.user_id), expires, price and price.currency)
            found.credits[row] += batch.remaining
            if price:
                found.paid[row] += Fraction(price.amount * batch.remaining, batch.granted)


def _plans_of(services: Services, user_ids: list[str]) -> Iterator[tuple[str, str]]:
    for user_id, item in services.subscriptions.get_many(user_ids).items():
        try:
            yield user_id, read_subscription(item).plan
        except Unreadable:
            continue  # their credits are counted all the same


def _rows(found: Liability) -> Iterator[dict[str, Any]]:
    for row in sorted(found.credits, key=lambda row: tuple(each or "" for each in row)):
        yield {
            "source": row.source,
            "plan": row.plan,
            "expires": row.expires,
            "credits": found.credits[row],
            "paid": round(found.paid[row]) if row.currency else None,
            "currency": row.currency,
        }


def _sums(found: Liability) -> dict[str, int]:
    """What was paid in all, in minor units of each currency."""
    sums: defaultdict[str, Fraction] = defaultdict(Fraction)
    for row, paid in found.paid.items():
        sums[str(row.currency)] += paid
    return {currency: round(sums[currency]) for currency in sorted(sums)}


def _as_json(found: Liability, at: datetime) -> dict[str, Any]:
    return {
        "at": format_instant(at),
        "users": found.users,
        "credits": found.credits.total(),
        "paid": _sums(found),
        "unrecovered": found.unrecovered,
        "rows": [*_rows(found)],
        "unreadable": found.unreadable,
    }


def _write_csv(found: Liability) -> None:
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    writer.writerows(_rows(found))


def _show(found: Liability, at: datetime) -> None:
    table = Table(*COLUMNS, title=f"Outstanding at {format_instant(at)}")
    for row in _rows(found):
        named = {**row, "source": row["source"] or "unknown", "plan": row["plan"] or "none"}
        named |= {"expires": row["expires"] or "never", "currency": row["currency"] or ""}
        named["paid"] = "" if row["paid"] is None else f"{row['paid']:,}"
        table.add_row(*(str(named[name]) for name in COLUMNS))
    console = Console()
    console.print(table)
    paid = ", ".join(f"{amount:,} {currency}" for currency, amount in _sums(found).items())
    told = f"{found.credits.total():,} credits of {found.users:,} users"
    told += f"; paid for, in minor units: {paid or 'none'}"
    console.print(f"{told}; refunded and unrecovered: {found.unrecovered:,}", highlight=False)


def _told_of_faults(found: Liability) -> int:
    """Says what is wrong with the count; the exit status."""
    if found.unreadable:
        few = ", ".join(found.unreadable[:5])
        print(
            f"error: {len(found.unreadable):,} ledgers cannot be read and are not counted, such as "
            f"those of {few}; look at them with make verify",
            file=sys.stderr,
        )
    if found.credits.total() != found.balances:
        print(
            f"error: the last lines say {found.balances:,} credits, and their batches have "
            f"{found.credits.total():,}; look for the ledger with make verify ALL=1",
            file=sys.stderr,
        )
        return 1
    return 1 if found.unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
