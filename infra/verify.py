"""Walks ledgers line by line and names the first line that is wrong.

python -m infra.verify 42 43 [--stage prod]        (make verify USER_ID=42)
"""

from __future__ import annotations

import argparse
import sys

from chalicelib.domain.errors import InvalidInput, LedgerCorrupt
from chalicelib.domain.fields import parse_user_id
from infra import deploy, local, stacks


def main(words: list[str] | None = None) -> int:
    """Reads the command line and verifies; the exit status: 1 when a ledger is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.verify",
        description="Checks the hash chain and the arithmetic of users' ledgers, from line 1.",
    )
    parser.add_argument("user_ids", nargs="+", metavar="USER_ID", help="whose ledgers to walk")
    parser.add_argument("--stage", default=local.STAGE, help="default: the running local stack")
    arguments = parser.parse_args(words)
    try:
        user_ids = [parse_user_id("USER_ID", user_id) for user_id in arguments.user_ids]
        services = stacks.services_of(arguments.stage)
    except (InvalidInput, local.NotRunningError, deploy.DeployError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    wrong = 0
    for user_id in user_ids:
        try:
            account = services.ledger.verify(user_id)
        except LedgerCorrupt as error:
            wrong += 1
            print(f"WRONG  {error}")
        else:
            lines = account.next_number - 1
            print(f"right  user {user_id}: {lines} entries, balance {account.ledger_balance}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
