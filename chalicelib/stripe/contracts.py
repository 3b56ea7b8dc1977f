"""Stripe's subscriptions as our contracts: what each state entitles a user to."""

from datetime import datetime

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.price_list import CreditPrice, PlanPrice, PriceList
from chalicelib.domain.subscriptions import Billed, Report, SubscriptionStatus

from .errors import Waiting
from .events import Event, Object

_NEVER_PAID = {"incomplete", "incomplete_expired"}
"""The first payment has not come, and may never come: there is no subscription yet."""


def read_report(event: Event, prices: PriceList) -> Report | None:
    """What an event of a subscription says; None if there is none yet, or it has no plan.

    Raises `Waiting` for a price that is not in the list, and `InvalidInput`.
    """
    billed, before = _billed(event.object, prices), _before(event, prices)
    if billed is None and before is not None:
        billed = _without(event, before, prices)
    return None if billed is None else Report(event.id, billed, before)


def _without(event: Event, before: Billed, prices: PriceList) -> Billed | None:
    """The state of a contract whose subscription no longer pays for a plan.

    It is paused if it is in a trial that grants nothing. It is over if it now pays for something
    else: from then on nothing of it concerns us, not even its real end.
    """
    if _waits_for_trial(event.object, prices):
        return before._replace(status=SubscriptionStatus.PAUSED)
    if _plan_price(_items(event.object), prices) is not None:
        return None
    return before._replace(status=SubscriptionStatus.CANCELLED, ends_at=event.seen_at)


def _before(event: Event, prices: PriceList) -> Billed | None:
    """The state before, if the event says it and the list still knows its price."""
    if event.previous is None:
        return None
    try:
        return _billed(event.object.before(event.previous), prices)
    except (InvalidInput, Waiting):
        return None


def _billed(subscription: Object, prices: PriceList) -> Billed | None:
    if subscription.text("status") in _NEVER_PAID or _waits_for_trial(subscription, prices):
        return None
    parts = _items(subscription)
    price = _plan_price(parts, prices)
    if price is None:
        return None
    return Billed(
        plan=price.plan,
        billing_interval=price.billing_interval,
        status=_status(subscription, prices),
        started_at=_started_at(subscription, prices),
        ends_at=_ends_at(subscription, parts),
    )


def _waits_for_trial(subscription: Object, prices: PriceList) -> bool:
    return subscription.text("status") == "trialing" and not prices.grants_in_trials


def _items(subscription: Object) -> list[Object]:
    items = subscription.part("items")
    return items.parts("data") if items else []


def _plan_price(items: list[Object], prices: PriceList) -> PlanPrice | None:
    """The price that stands for a plan; None if only other things are paid for."""
    ids = [price for item in items if (price := item.reference("price")) is not None]
    plans = {it for each in ids if isinstance(it := prices.prices.get(each), PlanPrice)}
    if len(plans) > 1:
        raise Waiting(f"the subscription has the prices of {len(plans)} plans: {', '.join(ids)}")
    if plans:
        return plans.pop()
    unknown = [each for each in ids if each not in prices.prices]
    if unknown:
        raise Waiting(f"stripe.toml does not have the price {', '.join(unknown)}")
    bought = [each for each in ids if isinstance(prices.prices[each], CreditPrice)]
    if bought:
        raise Waiting(f"the price {', '.join(bought)} buys credits, and is paid again and again")
    return None


def _status(subscription: Object, prices: PriceList) -> SubscriptionStatus:
    state = subscription.text("status")
    if state == "canceled":
        return SubscriptionStatus.CANCELLED
    if subscription.has("pause_collection") or state in {"paused", "unpaid"}:
        return SubscriptionStatus.PAUSED
    if state == "past_due" and not prices.grants_past_due:
        return SubscriptionStatus.PAUSED
    if state in {"active", "trialing", "past_due"}:
        return SubscriptionStatus.ACTIVE
    raise InvalidInput.of(f"{subscription.place}.status", "is no state of a subscription")


def _started_at(subscription: Object, prices: PriceList) -> datetime:
    begun = subscription.instant("start_date") or subscription.instant("created")
    if begun is None:
        raise InvalidInput.of(f"{subscription.place}.start_date", "is missing")
    if prices.grants_in_trials:
        return begun
    trial_end = subscription.instant("trial_end")
    return max(begun, trial_end) if trial_end else begun


def _ends_at(subscription: Object, items: list[Object]) -> datetime | None:
    """When it ended or will end. A pause, or an overdue payment, is no end."""
    if subscription.text("status") == "canceled":
        return subscription.instant("ended_at") or subscription.instant("canceled_at")
    if ends_at := subscription.instant("cancel_at"):
        return ends_at
    if not subscription.is_true("cancel_at_period_end"):
        return None
    ends = [part.instant("current_period_end") for part in (subscription, *items)]
    return max((each for each in ends if each is not None), default=None)
