"""Past usages: what a user spent in another system, spent here at its original time.

A shadow stage follows the old system in this way. The entry is posted at the instant of the usage,
so it takes from the batches that were usable then, whatever has expired since. Time never runs
backwards in a ledger: if something later is posted already, the entry gets that instant. Its
``effective_at`` is always the usage's own.
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
    """Asks to spend what was spent elsewhere at an instant; ``key`` is the usage's name there."""

    user_id: str
    amount: int
    at: datetime
    description: str
    caller: str
    key: str

    @property
    def operation(self) -> str:
        """The operation's name: performed once."""
        return f"usage#{self.caller}#{self.key}"

    def described(self) -> dict[str, object]:
        """What another request must say to count as the same usage."""
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
