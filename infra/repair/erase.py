"""Erases a person: their subscription with its address, its edits, and the ledger's texts.

Their link to Stripe's customers is removed, too. A later event of Stripe would restore it, so
delete the customer there first.

    python -m infra erase --user-id 42 [--subject "auth0|42"]     (make erase USER_ID=42)

Amounts, instants, numbers and the chain of hashes stay: accounts must be kept, and `make verify`
still finds the ledger right. To finish an interrupted erasure, run the same command again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from chalicelib.api.principal import caller_of
from chalicelib.domain.entries import LedgerEntry, without_texts
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_text, parse_user_id
from chalicelib.store.database import Item
from infra.repair import command
from infra.repair.command import Repair, Summary, parsed


def erase(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    user_id = parsed("--user-id", parse_user_id, arguments.user_id)
    subjects = [name for subject in arguments.subject for name in _names(subject)]
    services = repair.services
    account = services.ledger.verify(user_id)
    # Includes a subscription that cannot be read.
    has_subscription = user_id in services.subscriptions.get_many([user_id], consistent=True)
    entries = account.next_number - 1
    texts = sum(
        without_texts(entry, subjects) != entry
        for line in services.ledger.lines(user_id)
        for entry in [LedgerEntry.from_body(user_id, line.number, line.body)]
    )
    edits = sum(1 for _ in services.edits.items(user_id))
    customers = sum(1 for _ in _customers_of(repair, user_id))
    facts: dict[str, Any] = {
        "user_id": user_id,
        "subscription_removed": False,
        "edits_removed": 0,
        "customers_removed": 0,
        "texts_erased": 0,
    }
    if not has_subscription and not texts and not edits and not customers:
        return Summary(f"Nothing is kept of user {user_id} that could be erased.", facts)
    subscription = "the subscription, with its address," if has_subscription else "no subscription,"
    what = (
        f"erase for good {subscription} {edits:,} records of edits of it, "
        f"{_counted(customers)}and the texts of "
        f"{texts:,} of {entries:,} ledger entries of user {user_id}, whose ledger balance of "
        f"{account.ledger_balance:,} credits stays; nobody can undo it"
    )
    if not repair.is_agreed(what):
        return Summary("Nothing was erased.", facts)
    # First the source of new texts and emails: from here on, no sweep finds the user.
    facts["subscription_removed"] = services.subscriptions.remove(user_id)
    # Now nothing makes new records; the existing ones also contain addresses.
    facts["edits_removed"] = sum(1 for _ in services.edits.erase(user_id))
    if customers:
        facts["customers_removed"] = sum(1 for _ in services.stripe.erase(user_id))
    erasing = services.ledger.erase(user_id, subjects)
    facts["texts_erased"] = sum(repair.follow("Erasing texts", erasing, entries))
    services.ledger.verify(user_id)
    removed = "the subscription, " if facts["subscription_removed"] else ""
    return Summary(
        f"Erased {removed}{facts['edits_removed']:,} records of edits and the texts of "
        f"{facts['texts_erased']:,} entries of user {user_id}; the ledger is right.",
        facts,
    )


def _customers_of(repair: Repair, user_id: str) -> Iterator[Item]:
    """Stripe's customers who are the user; stages of earlier releases know none."""
    services = repair.services
    return services.stripe.customers_of(user_id) if services.settings.stripe_table else iter(())


def _counted(customers: int) -> str:
    return f"who they are to Stripe ({customers:,} customers), " if customers else ""


def _names(subject: str) -> list[str]:
    """The person's names as an actor in a ledger: typed by somebody, or written by the API."""
    names = [parsed("--subject", parse_text, subject)]
    with suppress(InvalidInput):  # too long for a subject of a token
        names.append(caller_of("--subject", subject))
    return names


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = command.parser_of("erase", "Erases a person; the numbers of the ledger stay.")
    parser.add_argument("--user-id", required=True, help="the user to erase")
    parser.add_argument(
        "--subject",
        action="append",
        default=[],
        help="the user's name in tokens, if it is not the user id; can be repeated",
    )
    return command.run(parser, erase, words)


if __name__ == "__main__":
    sys.exit(main())
