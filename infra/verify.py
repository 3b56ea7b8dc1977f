"""Walks ledgers line by line and names the first line that is wrong.

python -m infra.verify 42 43 [--stage prod]        (make verify USER_ID=42)
python -m infra.verify --zone Europe/Paris         (make verify ZONE=Europe/Paris)
python -m infra.verify --sample 1000               (make verify SAMPLE=1000)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt
from chalicelib.domain.fields import parse_user_id
from chalicelib.domain.ledger import Account
from chalicelib.jobs import audits
from chalicelib.services import Services
from infra import deploy, local, stacks
from infra.importing import progress_bar


def main(words: list[str] | None = None) -> int:
    """Reads the command line and verifies; the exit status: 1 when a ledger is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.verify",
        description="Checks the hash chain and the arithmetic of users' ledgers, from line 1.",
    )
    parser.add_argument("user_ids", nargs="*", metavar="USER_ID", help="whose ledgers to walk")
    parser.add_argument("--zone", help="of all in a timezone who can receive credits")
    parser.add_argument("--sample", type=int, help="of so many users at random")
    parser.add_argument("--stage", default=local.STAGE, help="default: the running local stack")
    arguments = parser.parse_args(words)
    try:
        services = stacks.services_of(arguments.stage)
        return _verify(services, list(_users(services, arguments)), names_all=arguments.user_ids)
    except (InvalidInput, local.NotRunningError, deploy.DeployError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _users(services: Services, arguments: argparse.Namespace) -> Iterable[str]:
    asked = [arguments.user_ids or None, arguments.zone, arguments.sample]
    if sum(each is not None for each in asked) != 1:
        raise InvalidInput.of("make verify", "needs one of USER_ID=42, ZONE=..., SAMPLE=1000")
    if arguments.zone is not None:
        return audits.users_of_zone(services, calendar.parse_timezone("ZONE", arguments.zone))
    if arguments.sample is not None:
        return audits.users_at_random(services, audits.parse_sample("SAMPLE", arguments.sample))
    return [parse_user_id("USER_ID", user_id) for user_id in arguments.user_ids]


def _verify(services: Services, user_ids: list[str], *, names_all: bool) -> int:
    """Walks ledgers behind a progress bar; of many, only what is wrong is named."""

    def verify(user_id: str) -> Account | LedgerCorrupt:
        try:
            return services.ledger.verify(user_id)
        except LedgerCorrupt as error:
            return error

    wrong = 0
    threads = min(stacks.THREADS, services.threads)
    with (
        progress_bar(Console(stderr=True)) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task("Verifying ledgers", total=len(user_ids))
        for user_id, found in zip(user_ids, pool.map(verify, user_ids), strict=True):
            if isinstance(found, LedgerCorrupt):
                wrong += 1
                print(f"WRONG  {found}")
            elif names_all:
                lines = found.next_number - 1
                print(f"right  user {user_id}: {lines} entries, balance {found.ledger_balance}")
            progress.advance(task)
    if not names_all:
        print(f"{len(user_ids):,} ledgers verified, {wrong:,} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
