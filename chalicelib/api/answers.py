"""The answer of a route, and the shapes that several routes share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.holds import Hold, active, earmarked
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.subscriptions import NotAllocatedBecause

if TYPE_CHECKING:
    from chalicelib.domain.forecasts import NoRate
    from chalicelib.operations.emails import Email
    from chalicelib.store.ledger import Outcome

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: a body (an object becomes JSON, a text stays), a status, and extra headers.

    ``tells_of``: the users whose credits it shows, apart from a user whom the request names.
    """

    body: Json | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    tells_of: frozenset[str] = frozenset()


def performed(outcome: "Outcome", *, dry_run: bool = False, **more: object) -> Answer:
    """The answer of an operation on request; a header marks the answer to a repeated request.

    A dry run gets the same answer, with the line that the history would have.
    """
    entry = outcome.entry
    return Answer(
        {
            "success": True,
            "new_balance": entry.available_balance(),
            "transaction_id": entry.transaction_id,
            **more,
            **({"dry_run": True, "transaction": line(entry)} if dry_run else {}),
        },
        headers={"Idempotency-Replayed": "true"} if outcome.replayed else {},
        tells_of=frozenset({entry.user_id}) if dry_run else frozenset(),
    )


def why_not(reason: "NotAllocatedBecause | NoRate | None") -> Json | None:
    """The reason why something does not exist, for programs and for people."""
    return None if reason is None else {"code": reason.value, "words": reason.words}


def moves(entry: LedgerEntry) -> list[Json]:
    """Which credit batches an entry moved, and by how much."""
    return [
        {"batch_id": batch_id(entry.user_id, leg.batch), "amount": leg.amount} for leg in entry.legs
    ]


def balance_at(account: Account, as_of: datetime) -> Json:
    """What a user has at an instant, batch by batch."""
    whose, held = account.user_id, earmarked(account.holds, as_of)
    return {
        "available_balance": account.available_balance(as_of),
        "held_balance": sum(held.values()),
        "ledger_balance": account.ledger_balance,
        "as_of": format_instant(as_of),
        "batches": [
            {
                "batch_id": batch_id(whose, batch.number),
                "granted_amount": batch.granted,
                "remaining_amount": batch.remaining,
                "granted_at": format_instant(batch.granted_at),
                "expires_at": batch.expires_at and format_instant(batch.expires_at),
                "held_amount": held[batch.number],
                "priority": batch.priority,
                "source": batch.source,
            }
            for batch in account.batches
        ],
        "holds": [hold_line(whose, hold) for hold in active(account.holds, as_of)],
    }


def by_day(amounts: Mapping[date, int]) -> list[Json]:
    """Credits by the local date on which they expire; dates without any are left out."""
    return [
        {"amount": amount, "expires_at": day.isoformat()}
        for day, amount in sorted(amounts.items())
        if amount > 0
    ]


def hold_line(user_id: str, hold: Hold) -> Json:
    """An active hold."""
    return {
        "hold_id": batch_id(user_id, hold.number),
        "amount": hold.amount,
        "expires_at": format_instant(hold.expires_at),
    }


def line(entry: LedgerEntry) -> Json:
    """An entry as a line of the history."""
    is_allocation = entry.type is EntryType.ALLOCATION
    return {
        "transaction_id": entry.transaction_id,
        "type": entry.type.value,
        "amount": entry.amount,
        "balance_after": entry.balance,
        "description": entry.description,
        "actor": entry.actor,
        "effective_at": format_instant(entry.effective_at),
        "posted_at": format_instant(entry.posted_at),
        "allocation_period": str(entry.allocated_through) if is_allocation else None,
        "batches": moves(entry),
        **_hold_of(entry),
        **_payment_of(entry),
        "left_out_amount": entry.left_out or None,
        "balance_cap": entry.balance_cap,
        "metadata": dict(entry.metadata),
    }


def email_line(email: "Email") -> Json:
    """An email about an entry, and what is recorded of it."""
    return {
        "type": email.kind.value,
        "transaction_id": email.entry.transaction_id,
        "subject": email.subject,
        "state": email.state.value,
        "posted_at": format_instant(email.entry.posted_at),
        "sent_at": email.sent_at,
    }


def _hold_of(entry: LedgerEntry) -> Json:
    """The hold that an entry opened or ended; how much it set aside, and how much it freed."""
    opened = entry.opened_hold
    number = entry.number if opened else entry.hold
    return {
        "hold_id": number and batch_id(entry.user_id, number),
        "held_amount": opened and opened.amount,
        "released_amount": entry.released,
    }


def _payment_of(entry: LedgerEntry) -> Json:
    """The payment of a purchase or a refund, and its state then."""
    refund = entry.refund
    return {
        "payment_id": entry.payment_id,
        "price": entry.price and entry.price._asdict(),
        "refunded_amount": refund and refund.in_all,
        "unrecovered_amount": refund and refund.unrecovered,
    }


def batch_id(user_id: str, number: int) -> str:
    """A credit batch's id: that of the transaction that granted it."""
    return f"{user_id}-{number}"
