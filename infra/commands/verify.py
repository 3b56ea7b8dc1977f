"""Checks ledgers line by line and names the first wrong line.

python -m infra verify 42 43 [--stage prod]        (make verify USER_ID=42)
python -m infra verify --zone Europe/Paris         (make verify ZONE=Europe/Paris)
python -m infra verify --sample 1000               (make verify SAMPLE=1000)
python -m infra verify --all                       (make verify ALL=1)

Each ledger is compared with its anchor in the newest digest, or (``--anchors``, ANCHORS=) in the
newest digest from before an instant. With ``--all``, every anchor must have a ledger, too.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from itertools import chain

from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.anchors import Head, user_digest
from chalicelib.domain.errors import AnchorUnreadable, InvalidInput, LedgerCorrupt, NotFound
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.verification import Anchor
from chalicelib.jobs import audits
from chalicelib.services import Services
from chalicelib.store.anchors import Anchored
from infra import reach, session
from infra.arguments import add_stage
from infra.deployment import stage_services
from infra.faults import FAULTS
from infra.local import stacks
from infra.terminal import progress_bar


def main(words: list[str] | None = None) -> int:
    """Reads the command line and verifies; the exit status.

    It is 1 when a ledger is wrong, when a user does not exist, and when nothing was verified.
    """
    parser = argparse.ArgumentParser(
        prog="python -m infra verify",
        description="Checks the hash chain and the arithmetic of users' ledgers, from line 1.",
    )
    parser.add_argument("user_ids", nargs="*", metavar="USER_ID", help="users to verify")
    parser.add_argument("--zone", help="verify all users of a timezone who can receive credits")
    parser.add_argument("--sample", type=int, help="verify this number of users, drawn at random")
    parser.add_argument("--all", action="store_true", help="verify every user and every anchor")
    parser.add_argument(
        "--anchors", metavar="INSTANT", help="compare with the newest anchors from before it"
    )
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON instead")
    arguments = parser.parse_args(words)
    try:
        users = _users(arguments)
        anchors = arguments.anchors
        before = parse_instant("ANCHORS", anchors) if anchors is not None else None
        services = reach.services_of(arguments.stage, arguments.region)
        # Choose the anchors before listing the users: later anchors can be of users who came
        # meanwhile.
        heads = services.anchors.newest(before)[1] if arguments.all else ()
        user_ids = list(users(services))
        anchored = services.anchors.find(user_ids, before)
        found = _verify(services, user_ids, anchored.anchors)
        gone = _gone(user_ids, heads)
    except (
        *(AnchorUnreadable, InvalidInput),
        *(stacks.NotRunningError, session.AwsError, *FAULTS),
    ) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(_as_json(found, gone, anchored))
    else:
        _show(found, gone, names_all=bool(arguments.user_ids))
        print(_compared(anchored, services.now()))
    if not found:
        whom = (
            f"lives in {arguments.zone} and can receive credits" if arguments.zone else "is there"
        )
        print(f"error: nobody {whom}: nothing was verified", file=sys.stderr)
    is_right = all(isinstance(outcome, Account) for outcome in found.values())
    return 0 if found and is_right and not gone else 1


def _users(arguments: argparse.Namespace) -> Callable[[Services], Iterable[str]]:
    """Checks which ledgers are requested; returns a function that finds the users in a stage."""
    asked = [arguments.user_ids or None, arguments.zone, arguments.sample, arguments.all or None]
    if sum(each is not None for each in asked) != 1:
        raise InvalidInput.of(
            "make verify", "needs one of USER_ID=42, ZONE=..., SAMPLE=1000, ALL=1"
        )
    if arguments.all:
        return everybody
    if arguments.zone is not None:
        zone = calendar.parse_timezone("ZONE", arguments.zone)
        return lambda services: audits.users_of_zone(services, zone)
    if arguments.sample is not None:
        sample = audits.parse_sample("SAMPLE", arguments.sample)
        return lambda services: audits.users_at_random(services, sample)
    user_ids = [parse_user_id("USER_ID", user_id) for user_id in arguments.user_ids]
    return lambda _: user_ids


def everybody(services: Services) -> Iterator[str]:
    """Every user with a subscription or a ledger, once."""
    subscribers = services.subscriptions.scan(secrets.token_hex(8), audits.ITEMS_A_PAGE)
    seen: set[str] = set()
    for user_id in chain(subscribers, audits.users_with_ledgers(services)):
        if user_id not in seen:
            seen.add(user_id)
            yield user_id


def _gone(user_ids: list[str], heads: Iterable[Head]) -> list[Head]:
    """The anchors without a user: their whole ledgers are gone."""
    there = {user_digest(user_id) for user_id in user_ids}
    return [head for head in heads if head.user not in there]


Outcome = Account | LedgerCorrupt | NotFound
"""The balances of a ledger, or its first wrong line, or the message that no such user exists."""


def _verify(
    services: Services, user_ids: list[str], anchors: Mapping[str, Anchor]
) -> dict[str, Outcome]:
    """Checks ledgers behind a progress bar."""

    def verify(user_id: str) -> Outcome:
        try:
            return audits.verify_user(services, user_id, anchors.get(user_id))
        except (LedgerCorrupt, NotFound) as error:
            return error

    found: dict[str, Outcome] = {}
    threads = min(stage_services.THREADS, services.threads)
    with (
        progress_bar(Console(stderr=True)) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task("Verifying ledgers", total=len(user_ids))
        for user_id, outcome in zip(user_ids, pool.map(verify, user_ids), strict=True):
            found[user_id] = outcome
            progress.advance(task)
    return found


def _show(found: dict[str, Outcome], gone: list[Head], *, names_all: bool) -> None:
    """The result for people; if there are many ledgers, only the wrong ones are named."""
    wrong = len(gone)
    for head in gone:
        print(f"GONE   the ledger of the user whose digest is {head.user}, {head.number} entries")
    for user_id, outcome in found.items():
        if isinstance(outcome, LedgerCorrupt):
            wrong += 1
            print(f"WRONG  {outcome}")
        elif isinstance(outcome, NotFound):
            print(f"NONE   {outcome}")
        elif names_all:
            lines = outcome.next_number - 1
            entries = f"{lines} entries" if lines else "no entries yet"
            print(f"right  user {user_id}: {entries}, balance {outcome.ledger_balance}")
    if not names_all:
        print(f"{_verified(found):,} ledgers verified, {wrong:,} of them wrong")


def _verified(found: dict[str, Outcome]) -> int:
    return sum(not isinstance(outcome, NotFound) for outcome in found.values())


def _compared(anchored: Anchored, now: datetime) -> str:
    """Which anchors the ledgers were compared with, and how old they are."""
    if anchored.taken_at is None:
        return "There are no anchors yet: an end that was cut off or written anew is not found."
    hours = (now - anchored.taken_at) // timedelta(hours=1)
    return (
        f"{len(anchored.anchors):,} of them compared with the anchors of "
        f"{format_instant(anchored.taken_at)}, {hours:,} hours old"
    )


def _as_json(found: dict[str, Outcome], gone: list[Head], anchored: Anchored) -> str:
    """The result for programs: the number verified, the wrong ledgers, and the missing users."""
    wrong = [
        {"user_id": error.user_id, "number": error.number, "reason": error.reason}
        for error in found.values()
        if isinstance(error, LedgerCorrupt)
    ]
    unknown = [user_id for user_id, outcome in found.items() if isinstance(outcome, NotFound)]
    return json.dumps(
        {
            "verified": _verified(found),
            "wrong": wrong,
            "unknown": unknown,
            "gone": [head.user for head in gone],
            "anchors": anchored.taken_at and format_instant(anchored.taken_at),
            "compared": len(anchored.anchors),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
