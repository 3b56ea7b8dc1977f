"""Purchases and refunds: a payment buys credits once, and its refunds take them back.

The payment is the key, for ever, whichever route or webhook reports it: the operation of a
purchase, ``purchase#<payment_id>``, has no caller. A refund reports the total refunded of a
payment, so it needs no key: repeating a report changes nothing, and a smaller total gives credits
back.

    purchase  +500   batch 7: 500   of payment pi_3
    usage     -450   batch 7:  50
    refund     -50                  300 refunded in all: 50 taken, 250 unrecovered
    refund     +50   batch 7:  50   nothing refunded any more, as a dispute was won: 50 given back
"""

from dataclasses import dataclass
from datetime import datetime

from chalicelib.domain import ledger
from chalicelib.domain.batches import BOUGHT_PRIORITY
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import IdempotencyKeyReused, NotFound, PaymentUsed
from chalicelib.domain.fields import shown
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.metadata import Metadata
from chalicelib.domain.prices import Price
from chalicelib.domain.taken_back import TakenBack
from chalicelib.services import Services
from chalicelib.store.ledger import Outcome

CREDITS_BOUGHT = "Credits bought"
"""The default description of a purchase."""


def operation_of(payment_id: str) -> str:
    """The name of the operation of a payment's purchase."""
    return f"purchase#{payment_id}"


@dataclass(frozen=True, slots=True)
class Purchase:
    """Asks to grant what a payment has bought.

    ``expires_in_days``: in local days of the user; None for credits that never expire, whatever the
    user's plan is.
    """

    user_id: str
    amount: int
    payment_id: str
    description: str = CREDITS_BOUGHT
    price: Price | None = None
    expires_in_days: int | None = None
    priority: int = BOUGHT_PRIORITY
    metadata: Metadata = ()

    def described(self) -> dict[str, object]:
        """What another report of the payment must say to count as the same purchase.

        That is the user and the amount. Texts and dates may differ between two reporters.
        """
        return {"user_id": self.user_id, "amount": self.amount}


def buy(services: Services, purchase: Purchase, *, actor: str) -> Outcome:
    """Grants what a payment has bought, once.

    Raises `NotFound` for an unknown user, `PaymentUsed` for a payment that bought something else,
    and `NotAllowed` for a user with too many open batches.
    """
    request = Request(
        operation_of(purchase.payment_id),
        actor,
        purchase.description,
        metadata=purchase.metadata,
    )
    now = services.now()

    def decide(account: Account) -> LedgerEntry:
        return ledger.purchase(
            account,
            purchase.amount,
            purchase.price,
            request,
            now,
            services.subscriptions.get(purchase.user_id).timezone,
            purchase.expires_in_days,
            purchase.priority,
        )

    try:
        return services.ledger.perform(
            purchase.user_id, request.operation, purchase.described(), decide
        )
    except IdempotencyKeyReused:
        raise PaymentUsed(purchase.payment_id) from None


def _place_of(services: Services, payment_id: str) -> tuple[str, int]:
    place = services.ledger.place_of(operation_of(payment_id))
    if place is None:
        raise NotFound(f"there is no purchase of payment {shown(payment_id)}")
    return place


@dataclass(frozen=True, slots=True)
class Refund:
    """Reports what was refunded of a payment.

    ``amount``: the total so far, in credits; less than before if a dispute was won, for example.
    ``observed_at``: when that was seen; None if it is not known.
    """

    payment_id: str
    amount: int
    description: str
    observed_at: datetime | None = None


def refund(services: Services, report: Refund, *, actor: str, dry_run: bool = False) -> Outcome:
    """Takes back what was refunded of a purchase, or gives back what was refunded too much.

    A ``dry_run`` only returns what it would do, and writes nothing.

    See `domain.ledger.refund`. The entry's ``refund`` is the purchase's state; its amount is what
    was taken (negative) or given back. Needs no subscription: the user may be erased. Raises
    `NotFound` for an unknown payment, `NotAllowed` for more than it bought, and `OutdatedEdit` for
    a report with an older observation than the newest one.
    """
    user_id, number = _place_of(services, report.payment_id)
    request = Request(f"refund#{report.payment_id}", actor, report.description)
    return services.ledger.refund(
        user_id,
        number,
        lambda: report.amount,
        report.observed_at,
        request,
        services.now(),
        dry_run=dry_run,
    )


def refund_what_is_known(
    services: Services, payment_id: str, *, description: str, actor: str
) -> None:
    """Refunds a purchase up to the known total, or gives back what exceeds it.

    The total is the sum of the provider's events in the table of payments, in money: the same share
    of the credits is taken back. Raises `NotFound` for a payment that has bought nothing, and
    `NotAllowed`. If there are no such events, refunds reported by others stay.
    """
    user_id, number = _place_of(services, payment_id)
    known = services.stripe.payment(payment_id)
    if known == TakenBack():
        return
    purchase = services.ledger.entry(user_id, number)

    def in_all(known: TakenBack) -> int:
        paid = purchase.price.amount if purchase.price else known.charged or 0
        return known.credits_of(purchase.amount, paid)

    if not in_all(known) and not services.ledger.is_refunded(user_id, number):
        return  # nothing was ever taken
    request = Request(f"refund#{payment_id}", actor, description)
    services.ledger.refund(
        user_id,
        number,
        lambda: in_all(services.stripe.payment(payment_id)),
        None,
        request,
        services.now(),
    )
