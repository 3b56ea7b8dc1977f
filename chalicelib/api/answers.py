"""The answer of a route, and the shapes that several routes share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.subscriptions import NotAllocatedBecause

if TYPE_CHECKING:
    from chalicelib.store.ledger import Outcome

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: a body (an object becomes JSON, a text stays), a status, and extra headers.

    ``tells_of``: the users whose credits it shows, besides a user whom the request names.
    """

    body: Json | str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    tells_of: frozenset[str] = frozenset()


def performed(outcome: "Outcome", **more: object) -> Answer:
    """The answer of an operation on request; a header marks the answer to a repeated request."""
    entry = outcome.entry
    return Answer(
        {
            "success": True,
            "new_balance": entry.available_balance(),
            "transaction_id": entry.transaction_id,
            **more,
        },
        headers={"Idempotency-Replayed": "true"} if outcome.replayed else {},
    )


def why_not(reason: NotAllocatedBecause | None) -> Json | None:
    """Why no allocation will come, for programs and for people."""
    return None if reason is None else {"code": reason.value, "words": reason.words}


def moves(entry: LedgerEntry) -> list[Json]:
    """Which credit batches an entry moved, and by how much."""
    return [
        {"batch_id": batch_id(entry.user_id, leg.batch), "amount": leg.amount} for leg in entry.legs
    ]


def batch_id(user_id: str, number: int) -> str:
    """A credit batch's name: that of the transaction that granted it."""
    return f"{user_id}-{number}"
