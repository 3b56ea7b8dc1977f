"""Who the user is to the credit system, and when credits are due to them.

A subscription is a plain fact sheet: changing it never touches the ledger. What follows from it
(the next allocation and its amount, or the reason there is none) is derived whenever it is asked
for, and so is never stale.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, NamedTuple

from . import calendar
from .addresses import digest_of, parse_email, same_address
from .calendar import Period
from .errors import InvalidInput, OutdatedEdit
from .fields import (
    FieldReader,
    Parsed,
    Parser,
    parse_amount,
    parse_choice,
    parse_user_id,
)
from .instants import (
    CLOCKS_DIFFER,
    format_instant,
    parse_date_or_instant,
    parse_instant,
    to_millisecond,
)
from .notifications import ALL_KINDS, MailKind
from .plans import PlanCatalogue

Moment = datetime | date
"""An instant, or a local date: the midnight at which it begins where the user lives."""

MOST_MISSED_PERIODS = 12
"""An outage is made good for this many periods back, the current one included; older ones lapse."""


class BillingInterval(StrEnum):
    """How often the user pays. Only yearly subscriptions receive monthly credits."""

    MONTHLY = "monthly"
    YEARLY = "yearly"


class SubscriptionStatus(StrEnum):
    """Only active subscriptions receive credits."""

    ACTIVE = "active"
    PAUSED = "paused"
    CANCELLED = "cancelled"


class SuppressedBecause(StrEnum):
    """Why an address is not written to any more, whatever its owner wishes."""

    BOUNCE = "bounce"
    COMPLAINT = "complaint"


class Suppression(NamedTuple):
    """That an address the user had before is suppressed: ``address_digest`` says which."""

    address_digest: str
    because: SuppressedBecause


class NotAllocatedBecause(StrEnum):
    """Why no allocation will ever be due as the subscription stands, as a code."""

    PAUSED = "subscription_paused"
    CANCELLED = "subscription_cancelled"
    BILLED_MONTHLY = "billed_monthly"
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
    NotAllocatedBecause.BILLED_MONTHLY: "Monthly credits come with yearly billing only.",
    NotAllocatedBecause.PLAN_GRANTS_NOTHING: "The plan grants no monthly credits.",
    NotAllocatedBecause.PLAN_UNKNOWN: "The plan is no longer in the catalogue of plans.",
    NotAllocatedBecause.TIMEZONE_UNKNOWN: "The timezone is no longer in the database of timezones.",
    NotAllocatedBecause.ENDED: "The subscription ends before the next allocation.",
}


_OF_STATUS = {
    SubscriptionStatus.PAUSED: NotAllocatedBecause.PAUSED,
    SubscriptionStatus.CANCELLED: NotAllocatedBecause.CANCELLED,
}


class NotDueBecause(StrEnum):
    """Why the allocation of one period is not due, though allocations are to come, as a code."""

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


@dataclass(frozen=True, slots=True)
class Subscription:
    """One user's subscription.

    A period is allocated only if it starts at or after ``eligible_from``, ``started_at`` and
    ``resumed_at``, and before ``ends_at``.

    ``eligible_from`` is what somebody asked for: the system never moves it. The default is
    ``registered_at``, the first registration.
    ``resumed_at``: when the subscription last came back from a state without allocations.
    ``observed_at``: when the newest edit that says so saw what it reports.
    ``allocation_amount``: the user's own monthly amount; None means the plan's.
    ``version`` counts the edits, from 1; it is what concurrent editors compare.
    ``notifications``: the kinds of mails the user wants. ``suppressed``: why the address gets none
    all the same; another address is written to again.
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

    @property
    def can_receive(self) -> bool:
        """Whether sweeps should look at it at all, whatever its plan grants."""
        return (
            self.status is SubscriptionStatus.ACTIVE
            and self.billing_interval is BillingInterval.YEARLY
        )


class NextAllocation(NamedTuple):
    """The next allocation of a subscription: of which period, from which instant on, how much."""

    period: Period
    at: datetime
    amount: int


def monthly_amount(subscription: Subscription, catalogue: PlanCatalogue) -> int:
    """Credits per period: the subscription's own amount, else its plan's.

    Of an own amount above the plan's cap, as from before there was one, no more than the cap.
    """
    if subscription.allocation_amount is not None:
        return min(subscription.allocation_amount, catalogue.cap_of(subscription.plan))
    return catalogue.get(subscription.plan).monthly_credits


def not_allocated_because(
    subscription: Subscription, catalogue: PlanCatalogue
) -> NotAllocatedBecause | None:
    """The reason no allocation is to come; None when one is.

    A plan that has left the catalogue is a reason like the others in an answer, and so is a
    timezone that has left its database. `due_periods` raises for both: nobody knows what is owed
    then, and it must not pass for nothing.
    """
    if subscription.status in _OF_STATUS:
        return _OF_STATUS[subscription.status]
    if subscription.billing_interval is BillingInterval.MONTHLY:
        return NotAllocatedBecause.BILLED_MONTHLY
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

    A period lapses by the clock: of those that have begun at ``now``, the latest
    `MOST_MISSED_PERIODS` can be due, whatever moment of the past is asked about. Nothing is due
    that has not begun at ``now``.

    Raises `InvalidInput` for a subscription that can receive and whose plan is not in the
    catalogue, and `TimezoneUnknown` for one whose timezone is not in its database: what is owed to
    it cannot be told, and is not nothing.
    """
    if subscription.can_receive:
        calendar.check_known(subscription.timezone)
        catalogue.get(subscription.plan)
    if not_allocated_because(subscription, catalogue):
        return ()
    timezone = subscription.timezone
    first_instant = _first_instant(subscription, catalogue)
    oldest = calendar.period_at(timezone, now).plus(1 - MOST_MISSED_PERIODS)
    if allocated_through is not None:
        oldest = max(oldest, allocated_through.next())
    due: list[Period] = []
    period = calendar.period_at(timezone, min(as_of, now))
    while period >= oldest:
        start = calendar.month_start(timezone, period)
        if start < first_instant:
            break
        if not _has_ended(subscription, start):
            due.append(period)
        period = period.previous()
    return tuple(reversed(due))


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
    start = calendar.month_start(subscription.timezone, period)
    if now < start:
        return NotDueBecause.NOT_BEGUN
    if start < _first_instant(subscription, catalogue):
        return NotDueBecause.NOT_ELIGIBLE
    if _has_ended(subscription, start):
        return NotDueBecause.ENDED
    is_due = period in due_periods(subscription, catalogue, allocated_through, now, now)
    return None if is_due else NotDueBecause.LAPSED


def next_allocation(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    now: datetime,
) -> NextAllocation | None:
    """The first allocation that is still to be made, an overdue one included; None when none is."""
    if not_allocated_because(subscription, catalogue):
        return None
    due = due_periods(subscription, catalogue, allocated_through, now, now)
    period = due[0] if due else _first_to_come(subscription, catalogue, allocated_through, now)
    start = calendar.month_start(subscription.timezone, period)
    if _has_ended(subscription, start):
        return None
    return NextAllocation(period, start, monthly_amount(subscription, catalogue))


def _first_to_come(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    now: datetime,
) -> Period:
    timezone = subscription.timezone
    earliest = max(now, _first_instant(subscription, catalogue))
    first = calendar.period_at(timezone, earliest)
    # A period whose start is past is not to come, unless eligibility begins exactly there.
    if calendar.month_start(timezone, first) < earliest:
        first = first.next()
    return first if allocated_through is None else max(first, allocated_through.next())


def _first_instant(subscription: Subscription, catalogue: PlanCatalogue) -> datetime:
    """No period that begins earlier is due."""
    timezone = calendar.known_or_utc(subscription.timezone)
    instants = [instant_of(subscription.eligible_from, timezone), subscription.started_at]
    if subscription.resumed_at is not None:
        instants.append(subscription.resumed_at)
    if subscription.allocation_amount is None and subscription.plan in catalogue:
        grants_since = catalogue.get(subscription.plan).grants_since
        if grants_since is not None:
            instants.append(calendar.midnight(timezone, grants_since))
    return max(instants)


def _has_ended(subscription: Subscription, instant: datetime) -> bool:
    return subscription.ends_at is not None and subscription.ends_at <= instant


def instant_of(moment: Moment, timezone: str) -> datetime:
    """The instant that is meant by one, or by a local date of a timezone."""
    # To Python, an instant is a date too.
    return moment if isinstance(moment, datetime) else calendar.midnight(timezone, moment)


# --- Edits --------------------------------------------------------------------------------------

FIELDS = frozenset(
    {
        "user_id",
        "email",
        "timezone",
        "plan",
        "billing_interval",
        "status",
        "started_at",
        "eligible_from",
        "ends_at",
        "allocation_amount",
        "notifications",
        "observed_at",
    }
)
"""What `register` reads. An edit that is to keep all it does not name is given these to keep."""


def register(
    values: Mapping[str, object],
    catalogue: PlanCatalogue,
    now: datetime,
    existing: Subscription | None = None,
    kept: Collection[str] = (),
) -> Subscription:
    """The subscription that ``values`` describe, as the successor of ``existing``.

    ``kept``: the fields that stay as they are in ``existing`` when they are not in ``values``,
    whatever today's rules are: an address that was never given, a plan that has left the catalogue.
    Any other field that is left out, or null, gets its default. Whatever is kept,
    ``notifications`` stay as they are: they are not the caller's to reset.

    An own amount has its plan's cap, also when it is the plan that changes. One that is above it
    and stays, on the plan it is on, is no edit.

    Raises `InvalidInput` naming every wrong field, and `OutdatedEdit` when the stored subscription
    was observed after ``observed_at``. Answers ``existing`` itself when nothing changes.

    Nobody is given anything for a time without allocations. So ``eligible_from`` is by itself the
    first registration: importing years of old subscribers grants nothing for the past. And a user
    who comes back (from a pause, a cancellation, monthly billing, a plan that grants nothing, an
    end, a start or an eligibility that lay ahead) has resumed ``now``. Only a changed
    ``eligible_from`` decides otherwise; to repeat the stored one decides nothing.
    """
    now = to_millisecond(now)
    described = _described(values, catalogue, now, existing, kept)
    if existing is None:
        return described
    return _successor(existing, described, catalogue, now)


def _described(
    values: Mapping[str, object],
    catalogue: PlanCatalogue,
    now: datetime,
    existing: Subscription | None,
    kept: Collection[str],
) -> Subscription:
    """What an edit asks for: the values as they are given, the defaults and what is kept."""
    fields = FieldReader(values, "subscription")
    before: Any = existing
    stays = frozenset(kept) - values.keys() if existing else frozenset()

    def required(name: str, parser: Parser[Parsed]) -> Parsed:
        value: Parsed = getattr(before, name) if name in stays else fields.required(name, parser)
        return value

    def optional(name: str, parser: Parser[Parsed]) -> Parsed | None:
        value: Parsed | None = (
            getattr(before, name) if name in stays else fields.optional(name, parser)
        )
        return value

    registered_at = existing.registered_at if existing else now
    user_id = fields.required("user_id", parse_user_id)
    email = optional("email", parse_email)
    timezone = required("timezone", calendar.parse_timezone)
    plan = required("plan", _parse_plan(catalogue))
    billing_interval = required("billing_interval", parse_choice(BillingInterval))
    status = required("status", parse_choice(SubscriptionStatus))
    started_at = required("started_at", parse_instant)
    eligible_from = optional("eligible_from", parse_date_or_instant)
    ends_at = optional("ends_at", parse_instant)
    allocation_amount = optional("allocation_amount", parse_amount)
    notifications = optional("notifications", _parse_kinds)
    observed_at = fields.optional("observed_at", _parse_past(now))
    is_kept = existing and (existing.plan, existing.allocation_amount) == (plan, allocation_amount)
    if allocation_amount and plan in catalogue and not is_kept:
        cap = catalogue.cap_of(plan)
        if allocation_amount > cap:
            message = f"must be at most {cap:,} on plan {plan!r}, or null for the plan's own"
            fields.reject("allocation_amount", f"{message}; is {allocation_amount:,}")
    fields.finish()
    if notifications is None:
        notifications = existing.notifications if existing else ALL_KINDS
    return Subscription(
        user_id=user_id,
        email=email,
        timezone=timezone,
        plan=plan,
        billing_interval=billing_interval,
        status=status,
        started_at=started_at,
        # Of a subscription from before registrations were kept, only this is known.
        eligible_from=eligible_from or registered_at or before.eligible_from,
        allocation_amount=allocation_amount,
        notifications=notifications,
        registered_at=registered_at,
        ends_at=ends_at,
        observed_at=observed_at,
    )


def _successor(
    existing: Subscription, described: Subscription, catalogue: PlanCatalogue, now: datetime
) -> Subscription:
    observed_before, observed_now = existing.observed_at, described.observed_at
    if observed_before and observed_now and observed_now < observed_before:
        raise OutdatedEdit(
            f"what is stored of user {existing.user_id} was observed at "
            f"{format_instant(observed_before)}, after what this edit reports"
        )
    described = replace(
        described,
        version=existing.version,
        observed_at=observed_now or observed_before,
        resumed_at=existing.resumed_at,
    )
    described = _with_suppression(existing, described)
    if _decides(existing, described):
        described = replace(described, resumed_at=None)
    elif since := _nothing_before(existing, described, catalogue, now):
        described = replace(described, resumed_at=since)
    return existing if described == existing else replace(described, version=existing.version + 1)


def _with_suppression(existing: Subscription, described: Subscription) -> Subscription:
    """An edit with what is known of its address; an address that comes back is as it was left."""
    if same_address(described.email, existing.email):
        return replace(
            described,
            suppressed=existing.suppressed,
            suppressed_before=existing.suppressed_before,
        )
    known = existing.suppressed_before
    if existing.suppressed and existing.email:
        known = Suppression(digest_of(existing.email), existing.suppressed)
    because = None
    if known and described.email and digest_of(described.email) == known.address_digest:
        because = known.because
    return replace(described, suppressed=because, suppressed_before=known)


def _nothing_before(
    existing: Subscription, described: Subscription, catalogue: PlanCatalogue, now: datetime
) -> datetime | None:
    """From when on an edit can make periods due, None when it lifts no bound of the past.

    A time for which nothing was given as things were known then stays one, whatever is said of it
    now: a start or an end in the past that is moved makes nothing due.
    """
    # Both are looked at where the user lives from now on: to move is not to come back.
    before = replace(existing, timezone=described.timezone)
    # Whatever bounds there are besides: they can be moved later, and the pause stays a pause.
    is_back = _is_barred(before, catalogue) and not _is_barred(described, catalogue)
    is_prolonged = _has_ended(before, now) and not (
        described.ends_at and before.ends_at and described.ends_at <= before.ends_at
    )
    if is_back or is_prolonged:
        return now
    # Also of a subscription that has ended: what began before its end can still be due.
    first = min(_first_instant(before, catalogue), now)
    return first if _first_instant(described, catalogue) < first else None


def _decides(existing: Subscription, described: Subscription) -> bool:
    """Whether an edit names another ``eligible_from`` than there is; the default is nobody's."""
    if described.eligible_from == described.registered_at:
        return False
    timezone = calendar.known_or_utc(existing.timezone)
    return instant_of(described.eligible_from, timezone) != instant_of(
        existing.eligible_from, timezone
    )


def without_mails(subscription: Subscription, kind: MailKind | None) -> Subscription:
    """The successor that gets no mails of a kind, or with None no mails at all."""
    unwanted = ALL_KINDS if kind is None else {kind}
    if subscription.notifications.isdisjoint(unwanted):
        return subscription
    return replace(
        subscription,
        notifications=subscription.notifications - unwanted,
        version=subscription.version + 1,
    )


def without_suppression(subscription: Subscription, version: int) -> Subscription:
    """The successor, of ``version``, whose address is written to again."""
    return replace(subscription, suppressed=None, suppressed_before=None, version=version)


def suppress(subscription: Subscription, address: str, reason: SuppressedBecause) -> Subscription:
    """The successor whose address is not written to, if it still is that address."""
    if not same_address(subscription.email, address):
        return subscription
    if subscription.suppressed is reason:
        return subscription
    return replace(subscription, suppressed=reason, version=subscription.version + 1)


def _is_barred(subscription: Subscription, catalogue: PlanCatalogue) -> bool:
    """Whether its state allows no allocations, whatever bounds it has in time."""
    # One whose plan or timezone is known no more is not: it has missed what we owe it.
    reason = not_allocated_because(subscription, catalogue)
    return reason not in (
        None,
        NotAllocatedBecause.PLAN_UNKNOWN,
        NotAllocatedBecause.TIMEZONE_UNKNOWN,
    )


def _parse_plan(catalogue: PlanCatalogue) -> Parser[str]:
    return lambda field, value: catalogue.get(value, field).id


def _parse_kinds(field: str, value: object) -> frozenset[MailKind]:
    words = ", ".join(MailKind)
    if not isinstance(value, list):
        raise InvalidInput.of(field, f"must be a list of the kinds of mails wanted: {words}")
    parse = parse_choice(MailKind)
    return frozenset(parse(f"{field}[{place}]", kind) for place, kind in enumerate(value))


def _parse_past(now: datetime) -> Parser[datetime]:
    def parse(field: str, value: object) -> datetime:
        instant = parse_instant(field, value)
        if instant > now + CLOCKS_DIFFER:
            raise InvalidInput.of(field, "must not be ahead of the clock")
        return instant

    return parse
