"""Usages of the past: what another system has let a user spend, spent here as it was then.

A shadow follows the system that it stands beside in this way. The entry is posted at the instant of
the usage, so it meets the batches that were usable then, whatever has expired since. Time never
runs backwards in a ledger: where something was posted later already, the entry comes at the instant
of that. Its ``effective_at`` is the usage's own all the same.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from chalicelib.domain import ledger
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.instants import format_instant, to_millisecond
from chalicelib.domain.ledger import Account, Request
from chalicelib.operations.on_request import check_user
from chalicelib.services import Services
from chalicelib.store.ledger import Outcome


@dataclass(frozen=True, slots=True)
class PastUsage:
    """Asks to spend what was spent elsewhere at that instant; ``key`` is the usage's name there."""

    user_id: str
    amount: int
    at: datetime
    description: str
    caller: str
    key: str

    @property
    def operation(self) -> str:
        """Its business name: done once under it."""
        return f"usage#{self.caller}#{self.key}"

    def described(self) -> dict[str, object]:
        """What the same usage again must be."""
        return {
            "user_id": self.user_id,
            "amount": self.amount,
            "at": format_instant(self.at),
            "description": self.description,
        }


def spend_past(services: Services, usage: PastUsage) -> Outcome:
    """Spends it, in burn-down order; nothing is posted ahead of the clock.

    Raises `InsufficientCredits` when fewer were available, and `NotFound` for an unknown user.
    """
    request = Request(usage.operation, usage.caller, usage.description)
    at = to_millisecond(min(usage.at, services.now()))

    def decide(account: Account) -> LedgerEntry:
        check_user(services, account)
        return replace(ledger.use(account, usage.amount, request, at), effective_at=at)

    return services.ledger.perform(usage.user_id, usage.operation, usage.described(), decide)
