"""Bugs to plant in when credits come; importing this enters them in the list of all bugs."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from chalicelib.domain import calendar, lifetimes, subscriptions, terms
from chalicelib.domain.entries import EntryType
from chalicelib.domain.ledger import Account
from chalicelib.domain.lifetimes import Months
from chalicelib.domain.plans import BillingInterval, Plan
from chalicelib.domain.subscriptions import Periods, Subscription, SubscriptionStatus
from chalicelib.jobs import completeness, workers
from chalicelib.operations import allocations
from chalicelib.store import subscriptions as subscription_store
from tests.simulation.planted import becomes, bug
from tests.simulation.planted_holds import BUGS

__all__ = ["BUGS", "OF_WHEN"]

_OTHERS = {*BUGS}


@bug(calendar, "anniversaries_at")
def _without_the_31st(_: Any, timezone: str, start: Any) -> list[int]:
    """The anniversary of the 31st is lost in April."""
    return [calendar.local_date(timezone, start).day]


@bug(workers, "next_due_allocation")
def _key_repeats(
    original: Any, services: Any, account: Account, subscription: Any, as_of: Any, now: Any
) -> Any:
    """A changed key repeats a period, whose day is later now."""
    last, through = account.last, account.allocated_through
    if last and through and last.type is EntryType.ALLOCATION:
        start = subscriptions.periods_of(subscription, services.catalogue).start(through)
        if last.effective_at < start <= as_of:
            account = account._replace(last=replace(last, allocated_through=through.previous()))
    return original(services, account, subscription, as_of, now)


@bug(workers, "next_due_allocation")
def _start_skips(original: Any, services: Any, account: Account, *rest: Any) -> Any:
    """A changed started_at skips a period that begins too soon after the last."""
    entry, last = original(services, account, *rest), account.last
    if entry and last and last.type is EntryType.ALLOCATION:
        return entry if entry.effective_at - last.effective_at >= timedelta(days=27) else None
    return entry


@bug(lifetimes, "expires_at")
def _a_day_early(original: Any, lifetime: Any, timezone: str, granted_at: Any) -> Any:
    """Use-it-or-lose-it credits die a day early."""
    end = original(lifetime, timezone, granted_at)
    if not isinstance(lifetime, Months):
        return end
    return max(granted_at + timedelta(hours=1), calendar.day_start(timezone, end - timedelta(1)))


@bug(lifetimes, "expires_at")
def _months_of_the_calendar(original: Any, lifetime: Any, *rest: Any) -> Any:
    """Credits that live some months die on the 1st, whatever the user's own day is."""
    own = replace(lifetime, day=1) if isinstance(lifetime, Months) else lifetime
    return original(own, *rest)


BUGS["monthly users are granted the time before their plan paid them"] = becomes(
    Plan, "since", lambda *_: None
)
BUGS["who pays monthly is in no index, and their plan pays them"] = becomes(
    Subscription,
    "is_swept",
    property(
        lambda self: (
            self.status is SubscriptionStatus.ACTIVE
            and self.billing_interval is BillingInterval.YEARLY
        )
    ),
)
BUGS["all anniversaries are kept under the 1st"] = becomes(
    subscription_store, "anniversary_of", lambda *_: 1
)
BUGS["a month that began in a pause is given, because its day moves behind the pause"] = becomes(
    terms, "periods_of", lambda each, _: Periods(calendar.known_or_utc(each.timezone), 1)
)
BUGS["a run of a month is for those of the 1st only"] = becomes(
    allocations,
    "_as_of_run",
    lambda _, period, timezone: calendar.month_start(timezone, period),
)


@bug(completeness, "tally_of")
def _count_by_the_1st(
    original: Any, subscription: Any, catalogue: Any, period: Any, *rest: Any
) -> Any:
    """An anniversary that has not begun is counted as missing."""
    tally = original(subscription, catalogue, period, *rest)
    is_own = subscriptions.periods_of(subscription, catalogue).day > 1
    user = (subscription.user_id,)
    if is_own and not tally.due:
        return replace(tally, due=1, missing=1, missing_users=user)
    return tally


OF_WHEN = [name for name in BUGS if name not in _OTHERS]
