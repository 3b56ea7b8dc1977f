"""Bugs to plant in how much comes; importing this enters them in the list of all bugs."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from chalicelib.api import subscriptions as subscription_routes
from chalicelib.domain import due, ledger, notifications, subscriptions, terms
from chalicelib.domain.ledger import Account, AllocationTerms
from chalicelib.jobs import workers
from chalicelib.operations import allocations
from tests.simulation.planted import both, bug, instead
from tests.simulation.planted_holds import BUGS

__all__ = ["BUGS", "OF_AMOUNTS"]

_OTHERS = {*BUGS}
MILLISECOND = timedelta(milliseconds=1)

# --- Caps -----------------------------------------------------------------------------------------


@bug(ledger, "_room")
def _cap_of_the_batch(_: Any, _account: Account, balance_cap: int, _now: Any) -> int:
    """The cap of a plan sees only the new batch."""
    return balance_cap


@bug(ledger, "_room")
def _cap_without_holds(_: Any, account: Account, balance_cap: int, now: Any) -> int:
    """The cap of a plan forgets credits that are held."""
    return max(0, balance_cap - account.available_balance(now))


@bug(ledger, "_room")
def _cap_with_dead_credits(_: Any, account: Account, balance_cap: int, _now: Any) -> int:
    """The cap of a plan counts credits that have expired and are not booked out."""
    return max(0, balance_cap - account.ledger_balance)


@bug(ledger, "allocate")
def _nothing_fits(original: Any, account: Account, *asked: Any, **more: Any) -> Any:
    """A month of which nothing fits is granted in full."""
    entry = original(account, *asked, **more)
    if entry.amount:
        return entry
    uncapped = [
        each._replace(balance_cap=None) if isinstance(each, AllocationTerms) else each
        for each in asked
    ]
    return original(account, *uncapped, **more)


@bug(notifications, "kind_of")
def _nothing_is_no_news(original: Any, entry: Any, threshold: Any) -> Any:
    """Nobody is told of a month of which nothing fitted."""
    return original(entry, threshold) if entry.amount else None


# --- Sign-ups -------------------------------------------------------------------------------------


def _welcome_again(
    original: Any, services: Any, account: Account, subscription: Any, *asked: Any
) -> Any:
    signed, last = subscription.sign_up, account.last
    if signed and last and account.allocated_through == signed.period and not last.sign_up:
        earlier = replace(last, allocated_through=signed.period.previous())
        account = account._replace(last=earlier)
    return original(services, account, subscription, *asked)


BUGS["a sign-up is granted twice"] = both(
    instead(allocations, "next_due_allocation", _welcome_again),
    instead(workers, "next_due_allocation", _welcome_again),
)


@bug(terms, "_sign_up")
def _moved_here(original: Any, new: Any, *rest: Any) -> Any:
    """A user who started long ago and is moved here is welcomed like a new subscriber."""
    signed = original(replace(new, started_at=new.registered_at), *rest)
    return signed and signed._replace(at=new.registered_at)


@bug(subscription_routes, "successor")
def _those_who_were_there(
    original: Any, existing: Any, wanted: Any, catalogue: Any, now: Any
) -> Any:
    """Those who were there get it, too: an edit is taken for a sign-up."""
    after = original(existing, wanted, catalogue, now)
    if existing is None or after == existing or after.sign_up is not None:
        return after
    return replace(after, sign_up=terms._sign_up(after, catalogue, now))


@bug(terms, "_sign_up")
def _rounded_down(original: Any, new: Any, catalogue: Any, *rest: Any) -> Any:
    """Proration rounds down."""
    signed = original(new, catalogue, *rest)
    whole = signed and subscriptions.monthly_amount(new, catalogue)
    return signed and signed._replace(amount=max(1, signed.amount - (signed.amount < whole)))


@bug(terms, "_sign_up")
def _of_today(original: Any, new: Any, catalogue: Any, now: Any) -> Any:
    """Proration counts the days from the registration, and not from the start."""
    if new.started_at > now or not subscriptions.can_receive(new, catalogue):
        return original(new, catalogue, now)
    is_in = original(new, catalogue, now)
    return is_in and original(replace(new, started_at=now), catalogue, now)


@bug(due, "amount_for")
def _amount_of_today(_: Any, subscription: Any, catalogue: Any, _period: Any) -> Any:
    """A sign-up that is posted late is paid as a whole month."""
    return subscriptions.monthly_amount(subscription, catalogue)


@bug(subscription_routes, "successor")
def _edits_forget(original: Any, existing: Any, *asked: Any) -> Any:
    """An edit forgets what was owed at the sign-up."""
    after = original(existing, *asked)
    return after if existing is None or after == existing else replace(after, sign_up=None)


# --- Steps up -------------------------------------------------------------------------------------


@bug(due, "due_top_up")
def _step_up_again(original: Any, subscription: Any, catalogue: Any, through: Any, at: Any) -> Any:
    """A step up is granted again after a usage."""
    found = original(subscription, catalogue, through, at)
    raised = subscription.raised
    if found is None and raised and raised.period == through and raised.top_ups and at:
        latest = raised.top_ups[-1]
        return latest._replace(at=latest.at + MILLISECOND) if latest.at == at else None
    return found


@bug(terms, "_raised")
def _up_and_down_and_up(original: Any, existing: Any, *rest: Any) -> Any:
    """Who moves up and down and up within a month is granted the difference twice."""
    raised = existing.raised
    if raised:
        existing = replace(existing, raised=raised._replace(level=1))
    return original(existing, *rest)


@bug(due, "due_top_up")
def _step_of_a_month_not_allocated(
    original: Any, subscription: Any, catalogue: Any, _through: Any, at: Any
) -> Any:
    """A step up of a month is granted on top of another."""
    raised = subscription.raised
    return original(subscription, catalogue, raised and raised.period, at)


@bug(terms, "_prorated")
def _whole_difference(_: Any, amount: int, *_rest: Any) -> Any:
    """A step up brings the difference of a whole month."""
    return amount


@bug(due, "topped_up_by")
def _late_month_and_steps(_: Any, _subscription: Any, _period: Any) -> None:
    """A month that is allocated after a step up is topped up as well."""


@bug(ledger, "_entry")
def _forgets_steps(original: Any, *asked: Any, **more: Any) -> Any:
    """A usage forgets which steps up are in the month."""
    return replace(original(*asked, **more), topped_up_at=None)


OF_AMOUNTS = [name for name in BUGS if name not in _OTHERS]
"""The sentences of the bugs in here."""
