"""A user's subscription, and when credits are due because of it.

A subscription is a plain fact sheet: changing it never touches the ledger. What follows from it
(the next allocation and its amount, or the reason why none will come) is derived at every request,
so it is never stale.
"""

from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import NamedTuple

from . import calendar
from .addresses import same_address
from .calendar import Period
from .languages import DEFAULT, Language
from .lifetimes import Lifetime, Months
from .notifications import ALL_KINDS, MailKind
from .plans import AllocateOn, BillingInterval, PlanCatalogue

Moment = datetime | date
"""An instant, or a local date: the midnight at which it begins where the user lives."""

MOST_MISSED_PERIODS = 12
"""Missed periods are made good this many periods back, the current one included; older ones lapse.
"""


class SubscriptionStatus(StrEnum):
    """Only active subscriptions receive credits."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class SuppressedBecause(StrEnum):
    """Why an address gets no more emails, whatever its owner wishes."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"


class Suppression(NamedTuple):
    """The suppression of an earlier address of the user, known by its ``address_digest``."""

    address_digest: str
    because: SuppressedBecause


class NotAllocatedBecause(StrEnum):
    """Why no allocation will be due while the subscription stays as it is, as a code."""

    PAUSED = "subscription_paused"
    CANCELLED = "subscription_cancelled"
    BILLED_MONTHLY = "billed_monthly"
    BILLED_YEARLY = "billed_yearly"
    PLAN_GRANTS_NOTHING = "plan_grants_nothing"
    PLAN_UNKNOWN = "plan_unknown"
    TIMEZONE_UNKNOWN = "timezone_unknown"
    ENDED = "subscription_ended"

    @property
    def words(self) -> str:
        """The same for people."""
        return _WORDS[self]


_WORDS = {
    NotAllocatedBecause.PAUSED: "The subscription is paused.",
    NotAllocatedBecause.CANCELLED: "The subscription is cancelled.",
    NotAllocatedBecause.BILLED_MONTHLY: "The plan grants nothing to monthly subscriptions.",
    NotAllocatedBecause.BILLED_YEARLY: "The plan grants nothing to yearly subscriptions.",
    NotAllocatedBecause.PLAN_GRANTS_NOTHING: "The plan grants no monthly credits.",
    NotAllocatedBecause.PLAN_UNKNOWN: "The plan is no longer in the catalogue of plans.",
    NotAllocatedBecause.TIMEZONE_UNKNOWN: "The timezone is no longer in the database of timezones.",
    NotAllocatedBecause.ENDED: "The subscription ends before the next allocation.",
}


_OF_STATUS = {
    SubscriptionStatus.PAUSED: NotAllocatedBecause.PAUSED,
    SubscriptionStatus.CANCELLED: NotAllocatedBecause.CANCELLED,
}

_OF_INTERVAL = {
    BillingInterval.MONTHLY: NotAllocatedBecause.BILLED_MONTHLY,
    BillingInterval.YEARLY: NotAllocatedBecause.BILLED_YEARLY,
}

_NOBODY_KNOWS = frozenset({NotAllocatedBecause.TIMEZONE_UNKNOWN, NotAllocatedBecause.PLAN_UNKNOWN})
"""With these reasons, something may be due, but nobody can tell."""


class NotDueBecause(StrEnum):
    """Why the allocation of one period is not due, though allocations will come, as a code."""

    ALLOCATED_BEFORE = "allocated_before"
    NOT_BEGUN = "not_begun"
    NOT_ELIGIBLE = "not_eligible"
    ENDED = "subscription_ended"
    LAPSED = "lapsed"

    @property
    def words(self) -> str:
        """The same for people."""
        return _PERIOD_WORDS[self]


_PERIOD_WORDS = {
    NotDueBecause.ALLOCATED_BEFORE: "This period, or a later one, has been allocated before.",
    NotDueBecause.NOT_BEGUN: "The period has not begun where the user lives.",
    NotDueBecause.NOT_ELIGIBLE: "The period began before the subscription was eligible.",
    NotDueBecause.ENDED: "The subscription ends before the period begins.",
    NotDueBecause.LAPSED: f"The period has lapsed: the latest {MOST_MISSED_PERIODS} are made good.",
}


class SignUp(NamedTuple):
    """What a new subscriber is owed for the period that was running, as it was decided then.

    ``at``: when they signed up. It is due from then on, for as long as a period that began then
    would be.
    """

    period: Period
    amount: int
    at: datetime


class TopUp(NamedTuple):
    """What is owed for moving up to a larger plan within a period, and since when."""

    amount: int
    at: datetime


class Raised(NamedTuple):
    """The highest monthly amount in a period so far, and what each step up to it was owed."""

    period: Period
    level: int
    top_ups: tuple[TopUp, ...]


class Billed(NamedTuple):
    """What a user pays for, and so is entitled to, according to the payment provider."""

    plan: str
    billing_interval: BillingInterval
    status: SubscriptionStatus
    started_at: datetime
    ends_at: datetime | None


class Report(NamedTuple):
    """What one event of a provider says of a contract, and the state before, if it says that."""

    event_id: str
    billed: Billed
    before: Billed | None


class Contract(NamedTuple):
    """A subscription with a provider, by what its newest events say: those of one second.

    ``seen_at``: that second.
    """

    id: str
    seen_at: datetime
    reports: tuple[Report, ...]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One user's subscription.

    A period is allocated only if it starts at or after ``eligible_from``, ``started_at`` and
    ``resumed_at``, and before ``ends_at``.

    ``eligible_from``: as an editor asked; the system never moves it. The default is
    ``registered_at``, the first registration. ``resumed_at``: when the subscription last came back
    from a state without allocations. ``observed_at``: the time of observation that the newest edit
    with one reported. ``allocation_amount``: the user's own monthly amount; None means the plan's.
    ``version`` counts the edits, from 1; concurrent editors compare it. ``notifications``: the
    kinds of emails that the user wants. ``suppressed``: why the address gets no emails all the
    same; a new address gets them again. ``language``: that of the emails. ``sign_up``: what the
    plan gave at the first registration, if anything. ``raised``: the steps up in the latest period
    in which the amount changed. ``contracts``: those with a payment provider that reports by
    itself; see `billing`.
    """

    user_id: str
    email: str | None
    timezone: str
    plan: str
    billing_interval: BillingInterval
    status: SubscriptionStatus
    started_at: datetime
    eligible_from: Moment
    allocation_amount: int | None = None
    version: int = 1
    notifications: frozenset[MailKind] = ALL_KINDS
    suppressed: SuppressedBecause | None = None
    suppressed_before: Suppression | None = None
    registered_at: datetime | None = None
    resumed_at: datetime | None = None
    ends_at: datetime | None = None
    observed_at: datetime | None = None
    sign_up: SignUp | None = None
    raised: Raised | None = None
    contracts: tuple[Contract, ...] = ()
    language: Language = DEFAULT

    @property
    def is_swept(self) -> bool:
        """Whether sweeps look at it at all, whatever any catalogue says of its plan."""
        return self.status is SubscriptionStatus.ACTIVE


class NextAllocation(NamedTuple):
    """The next allocation of a subscription: its period, its instant, and its amount.

    ``on``: the local date that begins at that instant. ``balance_cap``: it fills the user's balance
    of that time up to this at most.
    """

    period: Period
    on: date
    at: datetime
    amount: int
    balance_cap: int | None = None


class Periods(NamedTuple):
    """When the periods of a subscription begin: on a ``day`` of the month, where the user lives."""

    timezone: str
    day: int

    def start(self, period: Period) -> datetime:
        """The instant at which a period begins."""
        return calendar.period_start(self.timezone, period, self.day)

    def at(self, instant: datetime) -> Period:
        """The period that is running at an instant: the latest that has begun."""
        return calendar.period_at(self.timezone, instant, self.day)


def periods_of(subscription: Subscription, catalogue: PlanCatalogue) -> Periods:
    """The periods of a subscription, as it and its plan are now.

    If its plan has left the catalogue, they begin on the 1st. If its timezone has left the
    database, they begin as in UTC: nothing is granted there.
    """
    timezone = calendar.known_or_utc(subscription.timezone)
    return Periods(timezone, _allocation_day(subscription, timezone, catalogue))


def _allocation_day(subscription: Subscription, timezone: str, catalogue: PlanCatalogue) -> int:
    if subscription.plan not in catalogue:
        return 1
    if catalogue.get(subscription.plan).allocate_on is AllocateOn.FIRST_OF_MONTH:
        return 1
    return anniversary_of(subscription.started_at, timezone)


def anniversary_of(started_at: datetime, timezone: str) -> int:
    """The day of the month, 1 to 31, on which a subscription started where the user lives."""
    return calendar.local_date(timezone, started_at).day


def lifetime_of(subscription: Subscription, catalogue: PlanCatalogue) -> Lifetime:
    """For how long credits of the user's plan live. Raises `InvalidInput` for an unknown plan."""
    lifetime = catalogue.get(subscription.plan).credit_lifetime
    if isinstance(lifetime, Months):
        return replace(lifetime, day=periods_of(subscription, catalogue).day)
    return lifetime


def monthly_amount(subscription: Subscription, catalogue: PlanCatalogue) -> int:
    """Credits per period: the subscription's own amount, else its plan's.

    An own amount above the plan's cap (from before the cap existed) counts as the cap.
    """
    if subscription.allocation_amount is not None:
        return min(subscription.allocation_amount, catalogue.cap_of(subscription.plan))
    return catalogue.get(subscription.plan).monthly_credits


def can_receive(subscription: Subscription, catalogue: PlanCatalogue) -> bool:
    """Whether its status and its billing allow allocations, however much its plan grants."""
    is_paid_for = catalogue.grants_to(subscription.plan, subscription.billing_interval)
    return subscription.is_swept and is_paid_for


def amount_for(subscription: Subscription, catalogue: PlanCatalogue, period: Period) -> int:
    """Credits for a period: the monthly amount, or what was decided at the sign-up."""
    signed = sign_up_for(subscription, period)
    return signed.amount if signed else monthly_amount(subscription, catalogue)


def sign_up_for(subscription: Subscription, period: Period) -> SignUp | None:
    """The sign-up, if it was in that period and brought something."""
    signed = subscription.sign_up
    return signed if signed is not None and signed.period == period else None


def not_allocated_because(
    subscription: Subscription, catalogue: PlanCatalogue
) -> NotAllocatedBecause | None:
    """The reason why no allocation will come; None if one will.

    Here, a plan that has left the catalogue is a reason like the others, and so is a timezone that
    has left its database. `due_periods` raises for both: then nobody knows what is due, and it must
    not count as nothing.
    """
    if subscription.status in _OF_STATUS:
        return _OF_STATUS[subscription.status]
    if not catalogue.grants_to(subscription.plan, subscription.billing_interval):
        return _OF_INTERVAL[subscription.billing_interval]
    if not calendar.is_known(subscription.timezone):
        return NotAllocatedBecause.TIMEZONE_UNKNOWN
    if subscription.plan not in catalogue:
        return NotAllocatedBecause.PLAN_UNKNOWN
    if monthly_amount(subscription, catalogue) == 0:
        return NotAllocatedBecause.PLAN_GRANTS_NOTHING
    return None


def no_allocation_because(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    now: datetime,
) -> NotAllocatedBecause | None:
    """The reason `next_allocation` finds no allocation; None when it finds one."""
    reason = not_allocated_because(subscription, catalogue)
    if reason or next_allocation(subscription, catalogue, allocated_through, now):
        return reason
    return NotAllocatedBecause.ENDED


def due_periods(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    as_of: datetime,
    now: datetime,
) -> tuple[Period, ...]:
    """The periods to allocate that had begun at ``as_of``, oldest first.

    A period lapses by the clock: only the latest `MOST_MISSED_PERIODS` of those that have begun at
    ``now`` can be due, whatever ``as_of`` is. A period that has not begun at ``now`` is not due.

    Raises `InvalidInput` for a subscription that can receive and whose plan is not in the
    catalogue, and `TimezoneUnknown` for one whose timezone is not in its database: then nobody
    knows what is due, and it must not count as nothing.
    """
    if reason := not_allocated_because(subscription, catalogue):
        if reason in _NOBODY_KNOWS:
            calendar.check_known(subscription.timezone)
            catalogue.get(subscription.plan)
        return ()
    periods = periods_of(subscription, catalogue)
    newest = period = periods.at(min(as_of, now))
    if allocated_through is not None and newest <= allocated_through:
        return ()  # nearly always, for nearly everybody
    earliest = first_instant(subscription, catalogue)
    oldest = periods.at(now).plus(1 - MOST_MISSED_PERIODS)
    if allocated_through is not None:
        oldest = max(oldest, allocated_through.next())
    due: list[Period] = []
    while period >= oldest:
        start = periods.start(period)
        if start < earliest:
            break
        if not has_ended(subscription, start):
            due.append(period)
        period = period.previous()
    signed = _owed_at_sign_up(subscription, earliest)
    if signed and oldest <= signed.period <= newest:
        due.append(signed.period)
    return tuple(sorted({*due}))


def due_top_up(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    topped_up_at: datetime | None,
) -> TopUp | None:
    """The oldest step up still owed on top of the period allocated last.

    ``topped_up_at``: the latest step in the ledger, of this period. Like a period that began at its
    instant, a step is no longer owed after a pause, or once a bound is moved past it.
    """
    raised = subscription.raised
    if raised is None or raised.period != allocated_through:
        return None
    if not_allocated_because(subscription, catalogue):
        return None
    earliest = first_instant(subscription, catalogue)
    for top_up in raised.top_ups:
        is_new = topped_up_at is None or top_up.at > topped_up_at
        if is_new and top_up.at >= earliest and not has_ended(subscription, top_up.at):
            return top_up
    return None


def topped_up_by(subscription: Subscription, period: Period) -> datetime | None:
    """The latest step up in a period; the subscription's current amount includes them all."""
    raised = subscription.raised
    if raised is None or raised.period != period or not raised.top_ups:
        return None
    return raised.top_ups[-1].at


def _owed_at_sign_up(subscription: Subscription, earliest: datetime) -> SignUp | None:
    """What is owed for the period of the sign-up, if nothing has ruled it out since."""
    signed = subscription.sign_up
    if signed is None or signed.at < earliest or has_ended(subscription, signed.at):
        return None
    return signed


def not_due_because(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    period: Period,
    now: datetime,
) -> NotAllocatedBecause | NotDueBecause | None:
    """The reason a period's allocation is not due at ``now``; None when it is."""
    if allocated_through is not None and period <= allocated_through:
        return NotDueBecause.ALLOCATED_BEFORE
    if reason := not_allocated_because(subscription, catalogue):
        return reason
    start = periods_of(subscription, catalogue).start(period)
    if now < start:
        return NotDueBecause.NOT_BEGUN
    if period in due_periods(subscription, catalogue, allocated_through, now, now):
        return None
    if start < first_instant(subscription, catalogue):
        return NotDueBecause.NOT_ELIGIBLE
    return NotDueBecause.ENDED if has_ended(subscription, start) else NotDueBecause.LAPSED


def next_allocation(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    now: datetime,
) -> NextAllocation | None:
    """The first allocation still to be made, including an overdue one; None if none will come."""
    if not_allocated_because(subscription, catalogue):
        return None
    due = due_periods(subscription, catalogue, allocated_through, now, now)
    period = due[0] if due else _first_to_come(subscription, catalogue, allocated_through, now)
    periods = periods_of(subscription, catalogue)
    start = periods.start(period)
    if has_ended(subscription, start):
        return None
    amount = amount_for(subscription, catalogue, period)
    balance_cap = catalogue.get(subscription.plan).balance_cap
    return NextAllocation(period, period.date_of(periods.day), start, amount, balance_cap)


def _first_to_come(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    now: datetime,
) -> Period:
    periods = periods_of(subscription, catalogue)
    bound = first_instant(subscription, catalogue)
    earliest = max(now, bound)
    first = periods.at(earliest)
    # A period that has started is not a coming one, unless eligibility begins exactly there.
    if periods.start(first) < earliest:
        first = first.next()
    # If their clock is ahead of ours, a user can sign up for a period that is about to begin.
    signed = _owed_at_sign_up(subscription, bound)
    if signed and periods.start(signed.period) > now:
        first = min(first, signed.period)
    return first if allocated_through is None else max(first, allocated_through.next())


def first_instant(subscription: Subscription, catalogue: PlanCatalogue) -> datetime:
    """The earliest start of a period that can be due."""
    timezone = calendar.known_or_utc(subscription.timezone)
    instants = [instant_of(subscription.eligible_from, timezone), subscription.started_at]
    if subscription.resumed_at is not None:
        instants.append(subscription.resumed_at)
    if since := grants_since(subscription, catalogue):
        instants.append(since)
    return max(instants)


def grants_since(subscription: Subscription, catalogue: PlanCatalogue) -> datetime | None:
    """When the plan began to grant to the user; None if it always has.

    For a user with an amount of their own, it is when the plan began to pay their billing interval.
    """
    if subscription.plan not in catalogue:
        return None
    plan = catalogue.get(subscription.plan)
    days = [plan.since(subscription.billing_interval)]
    if subscription.allocation_amount is None:
        days.append(plan.grants_since)
    timezone = calendar.known_or_utc(subscription.timezone)
    return max((calendar.midnight(timezone, day) for day in days if day), default=None)


def has_ended(subscription: Subscription, instant: datetime) -> bool:
    """Whether its end has come at an instant."""
    return subscription.ends_at is not None and subscription.ends_at <= instant


def instant_of(moment: Moment, timezone: str) -> datetime:
    """The instant that is meant by an instant, or by a local date in a timezone."""
    # To Python, an instant is a date too.
    return moment if isinstance(moment, datetime) else calendar.midnight(timezone, moment)


def without_mails(subscription: Subscription, kind: MailKind | None) -> Subscription:
    """The next version, which gets no emails of a kind, or no emails at all for None."""
    unwanted = ALL_KINDS if kind is None else {kind}
    if subscription.notifications.isdisjoint(unwanted):
        return subscription
    return replace(
        subscription,
        notifications=subscription.notifications - unwanted,
        version=subscription.version + 1,
    )


def without_suppression(subscription: Subscription, version: int) -> Subscription:
    """The next version, number ``version``, whose address gets emails again."""
    return replace(subscription, suppressed=None, suppressed_before=None, version=version)


def suppress(subscription: Subscription, address: str, reason: SuppressedBecause) -> Subscription:
    """The next version, whose address gets no more emails, if it is still that address."""
    if not same_address(subscription.email, address):
        return subscription
    if subscription.suppressed is reason:
        return subscription
    return replace(subscription, suppressed=reason, version=subscription.version + 1)
