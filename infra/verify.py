"""Walks ledgers line by line and names the first line that is wrong.

python -m infra.verify 42 43 [--stage prod]        (make verify USER_ID=42)
python -m infra.verify --zone Europe/Paris         (make verify ZONE=Europe/Paris)
python -m infra.verify --sample 1000               (make verify SAMPLE=1000)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, NotFound
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.ledger import Account
from chalicelib.jobs import audits
from chalicelib.services import Services
from chalicelib.store.database import FAULTS
from infra import local, session, stacks
from infra.arguments import add_stage
from infra.importing import progress_bar


def main(words: list[str] | None = None) -> int:
    """Reads the command line and verifies; the exit status.

    It is 1 when a ledger is wrong, when there is no such user, and when nothing was verified.
    """
    parser = argparse.ArgumentParser(
        prog="python -m infra verify",
        description="Checks the hash chain and the arithmetic of users' ledgers, from line 1.",
    )
    parser.add_argument("user_ids", nargs="*", metavar="USER_ID", help="whose ledgers to walk")
    parser.add_argument("--zone", help="of all in a timezone who can receive credits")
    parser.add_argument("--sample", type=int, help="of so many users at random")
    add_stage(parser)
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON instead")
    arguments = parser.parse_args(words)
    try:
        users = _users(arguments)
        services = stacks.services_of(arguments.stage, arguments.region)
        found = _verify(services, list(users(services)))
    except (InvalidInput, local.NotRunningError, session.AwsError, *FAULTS) as error:
        print(f"error: {session.words(error)}", file=sys.stderr)
        return 1
    if arguments.json:
        print(_as_json(found))
    else:
        _show(found, names_all=bool(arguments.user_ids))
    if not found:
        whom = (
            f"lives in {arguments.zone} and can receive credits" if arguments.zone else "is there"
        )
        print(f"error: nobody {whom}: nothing was verified", file=sys.stderr)
    is_right = all(isinstance(outcome, Account) for outcome in found.values())
    return 0 if found and is_right else 1


def _users(arguments: argparse.Namespace) -> Callable[[Services], Iterable[str]]:
    """Whose ledgers are asked for; they are looked up when the stage is there."""
    asked = [arguments.user_ids or None, arguments.zone, arguments.sample]
    if sum(each is not None for each in asked) != 1:
        raise InvalidInput.of("make verify", "needs one of USER_ID=42, ZONE=..., SAMPLE=1000")
    if arguments.zone is not None:
        zone = calendar.parse_timezone("ZONE", arguments.zone)
        return lambda services: audits.users_of_zone(services, zone)
    if arguments.sample is not None:
        sample = audits.parse_sample("SAMPLE", arguments.sample)
        return lambda services: audits.users_at_random(services, sample)
    user_ids = [parse_user_id("USER_ID", user_id) for user_id in arguments.user_ids]
    return lambda _: user_ids


Outcome = Account | LedgerCorrupt | NotFound
"""What a ledger adds up to, or its first wrong line, or that there is no such user."""


def _verify(services: Services, user_ids: list[str]) -> dict[str, Outcome]:
    """Walks ledgers behind a progress bar."""

    def verify(user_id: str) -> Outcome:
        try:
            return audits.verify_user(services, user_id)
        except (LedgerCorrupt, NotFound) as error:
            return error

    found: dict[str, Outcome] = {}
    threads = min(stacks.THREADS, services.threads)
    with (
        progress_bar(Console(stderr=True)) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task("Verifying ledgers", total=len(user_ids))
        for user_id, outcome in zip(user_ids, pool.map(verify, user_ids), strict=True):
            found[user_id] = outcome
            progress.advance(task)
    return found


def _show(found: dict[str, Outcome], *, names_all: bool) -> None:
    """For people; of many ledgers, only what is wrong is named."""
    wrong = 0
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


def _as_json(found: dict[str, Outcome]) -> str:
    """For machines: how many were verified, each that is wrong, and who there is not."""
    wrong = [
        {"user_id": error.user_id, "number": error.number, "reason": error.reason}
        for error in found.values()
        if isinstance(error, LedgerCorrupt)
    ]
    unknown = [user_id for user_id, outcome in found.items() if isinstance(outcome, NotFound)]
    return json.dumps({"verified": _verified(found), "wrong": wrong, "unknown": unknown})


if __name__ == "__main__":
    sys.exit(main())
