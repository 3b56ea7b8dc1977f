"""Voids a credit batch: takes back its remaining credits, in an admin's name.

    python -m infra void --user-id 42 --batch 7 --reason "..." --actor ada   (make void ...)

Running the same command again changes nothing: it acts once for each key. Without an explicit key,
each batch has its own.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import (
    ENTRY_NUMBER,
    parse_actor,
    parse_key,
    parse_text,
    parse_user_id,
)
from chalicelib.domain.holds import earmarked
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account
from chalicelib.operations.on_request import Void, void_batch
from infra.repair import command
from infra.repair.command import Repair, Summary, parsed

CALLER = "command/void"
"""The caller that owns the keys. No token can be this caller: subjects cannot contain a slash."""


def parse_batch(field: str, value: object, user_id: str) -> int:
    """The number of a batch, from its number or its name: ``7`` or ``42-7``."""
    number = value.removeprefix(f"{user_id}-") if isinstance(value, str) else ""
    if not ENTRY_NUMBER.fullmatch(number):
        raise InvalidInput.of(field, f"must be a batch of user {user_id}: 7, or {user_id}-7")
    return int(number)


def void(repair: Repair, arguments: argparse.Namespace) -> Summary:
    """The command."""
    user_id = parsed("--user-id", parse_user_id, arguments.user_id)
    batch = parse_batch("--batch", arguments.batch, user_id)
    wanted = Void(
        user_id=user_id,
        batch=batch,
        reason=parsed("--reason", parse_text, arguments.reason),
        actor=parsed("--actor", parse_actor, arguments.actor),
        caller=CALLER,
        key=(
            _key_of(user_id, batch, arguments)
            if arguments.key is None
            else parsed("--key", parse_key, arguments.key)
        ),
        notify=not arguments.no_mail,
        including_held=arguments.including_held,
    )
    services = repair.services
    preview = void_batch(services, wanted, dry_run=True)
    facts: dict[str, Any] = {"user_id": user_id, "batch": batch, "replayed": preview.replayed}
    if preview.replayed:
        return _voided_before(repair, wanted, facts | _voided(preview.entry))
    mail = "gets an email" if wanted.notify else "gets no email"
    account = services.ledger.account(user_id)
    voided, held = -preview.entry.amount, _held(repair, account, wanted)
    facts["held"] = held
    remaining = voided if wanted.including_held else voided + held
    what = (
        f"void batch {user_id}-{batch}: {remaining:,} credits remain of "
        f"{_granted(services.ledger.entry(user_id, batch))}{_of_held(held, voided, wanted)}; "
        "the ledger balance becomes "
        f"{preview.entry.balance:,}; the user {mail}"
    )
    if not repair.is_agreed(what):
        return Summary("Nothing was voided.", facts | {"voided": 0})
    outcome = void_batch(services, wanted)
    facts |= _voided(outcome.entry)
    text = f"Voided {facts['voided']:,} credits of batch {user_id}-{batch} in transaction "
    return Summary(f"{text}{facts['transaction_id']}.", facts)


def _key_of(user_id: str, batch: int, arguments: argparse.Namespace) -> str:
    """The key of a batch. Taking held credits is another operation: it may follow the first."""
    return f"batch-{user_id}-{batch}" + ("-including-held" if arguments.including_held else "")


def _held(repair: Repair, account: Account, wanted: Void) -> int:
    """How many credits of the batch are held now."""
    return earmarked(account.holds, account.time(repair.services.now()))[wanted.batch]


def _of_held(held: int, voided: int, wanted: Void) -> str:
    if not held:
        return ""
    if wanted.including_held:
        return f", {held:,} of them held, which their holds lose"
    return f", {held:,} of them held, which stay: {voided:,} are taken (INCLUDING_HELD=1 takes all)"


def _granted(entry: LedgerEntry) -> str:
    expires_at = entry.granted_batch and entry.granted_batch.expires_at
    until = f"expires {format_instant(expires_at)}" if expires_at else "never expires"
    return f"{entry.amount:,} granted {format_instant(entry.effective_at)}, {until}"


def _voided(entry: LedgerEntry) -> dict[str, Any]:
    return {
        "voided": -entry.amount,
        "transaction_id": entry.transaction_id,
        "new_balance": entry.available_balance(),
    }


def _voided_before(repair: Repair, wanted: Void, facts: dict[str, Any]) -> Summary:
    text = f"Voided before, in transaction {facts['transaction_id']}: nothing to do."
    account = repair.services.ledger.account(wanted.user_id)
    remaining = sum(batch.remaining for batch in account.batches if batch.number == wanted.batch)
    held = _held(repair, account, wanted)
    returned = remaining - held
    if held:
        text += f" {held:,} credits of the batch are held; INCLUDING_HELD=1 takes those, too."
    if returned:
        text += (
            f" Since then {returned:,} credits have come back to the batch, by reversals or ends "
            "of holds; to void those too, give another key: --key (KEY=... with make)."
        )
    return Summary(text, facts | {"returned_since": returned}, is_complete=not returned)


def main(words: list[str] | None = None) -> int:
    """Runs the command; the exit status."""
    parser = command.parser_of("void", "Takes back all that remains of one credit batch.")
    parser.add_argument("--user-id", required=True, help="the user who has the batch")
    parser.add_argument("--batch", required=True, help="its number or its name: 7, or 42-7")
    parser.add_argument("--reason", required=True, help="why; the user can read it")
    parser.add_argument("--actor", required=True, help="the admin in whose name it is done")
    parser.add_argument("--key", help="idempotency key; default: one for each batch")
    parser.add_argument("--no-mail", action="store_true", help="send the user no email")
    parser.add_argument("--including-held", action="store_true", help="take what is held, too")
    return command.run(parser, void, words)


if __name__ == "__main__":
    sys.exit(main())
