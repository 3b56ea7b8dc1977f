"""Bugs to plant in what Stripe's events come to; importing this enters them in the list of all."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

from chalicelib.api import stripe as api
from chalicelib.domain import billing
from chalicelib.domain.billing import stands_at
from chalicelib.domain.errors import CreditsError
from chalicelib.domain.subscriptions import SubscriptionStatus
from chalicelib.domain.taken_back import Seen, TakenBack
from chalicelib.store.ledger import LedgerStore
from chalicelib.store.stripe import Customer
from chalicelib.stripe import contracts, webhook
from chalicelib.stripe.errors import Waiting
from infra.faults import FAULTS
from tests.simulation.planted import becomes, both, bug
from tests.simulation.planted_holds import BUGS

__all__ = ["BUGS", "OF_STRIPE"]

_OTHERS = {*BUGS}


# --- Events ---------------------------------------------------------------------------------------


@bug(api, "take_in")
def _done_before_it_is(original: Any, services: Any, event: Any) -> str:
    """An event is marked as done before it is."""
    name = f"done-{event.id}"
    if services.stripe.customer(name).email:
        return "done"
    services.stripe.learn(name, Customer(None, "done"))
    did: str = original(services, event)
    return did


@bug(webhook, "_buy")
def _never_waits(original: Any, *asked: Any) -> str:
    """A purchase of a user who is not known yet is answered, and forgotten."""
    with suppress(Waiting):
        did: str = original(*asked)
        return did
    return webhook.IGNORED


# --- Contracts ------------------------------------------------------------------------------------


@bug(webhook, "with_report")
def _last_heard(original: Any, known: Any, contract_id: str, *asked: Any) -> Any:
    """The event that comes last counts, however old it is."""
    return original([it for it in known if it.id != contract_id], contract_id, *asked)


@bug(webhook, "with_report")
def _by_arrival(original: Any, known: Any, contract_id: str, seen_at: Any, *asked: Any) -> Any:
    """Of events of one second that counts which comes last."""
    others = [it for it in known if (it.id, it.seen_at) != (contract_id, seen_at)]
    return original(others, contract_id, seen_at, *asked)


@bug(billing, "entitlement")
def _last_contract(_: Any, known: Any) -> Any:
    """The contract of the last event counts, though another one is active."""
    return stands_at(max(known, key=lambda each: each.seen_at))


BUGS["a contract that was never paid registers its user"] = both(
    becomes(contracts, "_NEVER_PAID", frozenset()),
    becomes(contracts, "_status", lambda *_: SubscriptionStatus.ACTIVE),
)


BUGS["a contract that is of something else now goes on as it was"] = becomes(
    contracts, "_without", lambda *_: None
)


@bug(billing, "_counts_from_then")
def _counts_from_now(*_: Any) -> bool:
    """What Stripe tells late counts from when it is told."""
    return False


@bug(webhook, "save_subscription")
def _posted_at_leisure(original: Any, *asked: Any, **_: Any) -> Any:
    """A month that could not be posted is answered as done."""
    return original(*asked)


# --- Customers ------------------------------------------------------------------------------------


@bug(Customer, "with_more")
def _moves(_: Any, self: Customer, said: Customer) -> Customer:
    """A customer moves to another user by a later event."""
    return Customer(said.user_id or self.user_id, said.email or self.email)


@bug(webhook, "_give_news")
def _again(_: Any, services: Any, __: Customer, customer: Customer, event: Any) -> None:
    """An address that a user took away comes back with other news of their customer."""
    webhook._give_address(services, customer, event)


@bug(webhook, "_learn")
def _only_news(_: Any, services: Any, customer_id: str, said: Any, event: Any) -> Any:
    """An address that was learned by a process that died is never given."""
    before = services.stripe.customer(customer_id)
    known = services.stripe.learn(customer_id, said)
    webhook._check_user(customer_id, known, said)
    if known != before:
        webhook._give_address(services, known, event)
    return known


# --- Payments -------------------------------------------------------------------------------------


@bug(webhook, "_buy")
def _by_event(original: Any, services: Any, event: Any, _: str, *asked: Any) -> Any:
    """A payment buys once for each event that tells of it."""
    return original(services, event, event.id, *asked)


@bug(webhook, "_buy")
def _without_looking_back(original: Any, services: Any, *asked: Any) -> Any:
    """What was taken back of a payment before it bought is forgotten."""
    payment_id = asked[1]
    known = services.stripe.payment(payment_id)
    services.stripe.note(payment_id, lambda _: TakenBack())
    did = original(services, *asked)
    services.stripe.note(payment_id, lambda _: known)
    return did


@bug(TakenBack, "with_charge")
def _adds_up(original: Any, self: TakenBack, charged: int, refunded: Seen) -> Any:
    """What a charge says of refunds is added up."""
    before = self.refunded.amount if self.refunded else 0
    return original(self, charged, refunded._replace(amount=refunded.amount + before))


@bug(TakenBack, "with_failure")
def _never_fails(_: Any, self: TakenBack, *_asked: Any) -> Any:
    """A refund that failed counts all the same."""
    return self


@bug(TakenBack, "with_dispute")
def _never_won(original: Any, self: TakenBack, name: str, withdrawn: Seen) -> Any:
    """What comes back of a dispute is forgotten."""
    return original(self, name, withdrawn) if withdrawn.amount else self


@bug(TakenBack, "with_dispute")
def _won_twice(original: Any, self: TakenBack, name: str, withdrawn: Seen) -> Any:
    """What comes back of a dispute is given back twice."""
    found = original(self, name, withdrawn)
    back = dict(self.disputed).get(name)
    if withdrawn.amount or not back or not back.amount:
        return found
    return replace(found, failed=(*found.failed, (name, back._replace(at=withdrawn.at))))


@bug(LedgerStore, "refund")
def _read_too_soon(
    original: Any, self: Any, user_id: str, number: int, report: Any, *asked: Any
) -> Any:
    """What is taken back is read before how the purchase stands."""
    in_all = report()
    return original(self, user_id, number, lambda: in_all, *asked)


@bug(webhook, "_take_back")
def _never_asked_again(original: Any, *asked: Any) -> str:
    """What could not be taken back is answered as done."""
    try:
        did: str = original(*asked)
    except (CreditsError, *FAULTS):
        return "refund"
    return did


OF_STRIPE = tuple(name for name in BUGS if name not in _OTHERS)
"""The sentences of those that are in this file."""
