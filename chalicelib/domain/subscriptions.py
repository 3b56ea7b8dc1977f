"""Who the user is to the credit system, and when credits are due to them.

A subscription is a plain fact sheet: changing it never touches the ledger. What follows from it
(the next allocation and its amount, or the reason there is none) is derived whenever it is asked
for, and so is never stale.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from . import calendar
from .addresses import parse_email, same_address
from .calendar import Period
from .errors import InvalidInput
from .fields import (
    FieldReader,
    Parser,
    parse_amount,
    parse_choice,
    parse_user_id,
)
from .instants import parse_instant, to_millisecond
from .notifications import ALL_KINDS, MailKind
from .plans import PlanCatalogue

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


class NotAllocatedBecause(StrEnum):
    """Why no allocation will ever be due as the subscription stands, as a code."""

    PAUSED = "subscription_paused"
    CANCELLED = "subscription_cancelled"
    BILLED_MONTHLY = "billed_monthly"
    PLAN_GRANTS_NOTHING = "plan_grants_nothing"
    PLAN_UNKNOWN = "plan_unknown"

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
}


class NotDueBecause(StrEnum):
    """Why the allocation of one period is not due, though allocations are to come, as a code."""

    ALLOCATED_BEFORE = "allocated_before"
    NOT_BEGUN = "not_begun"
    NOT_ELIGIBLE = "not_eligible"
    LAPSED = "lapsed"

    @property
    def words(self) -> str:
        """The same for people."""
        return _PERIOD_WORDS[self]


_PERIOD_WORDS = {
    NotDueBecause.ALLOCATED_BEFORE: "This period, or a later one, has been allocated before.",
    NotDueBecause.NOT_BEGUN: "The period has not begun where the user lives.",
    NotDueBecause.NOT_ELIGIBLE: "The period began before the subscription was eligible.",
    NotDueBecause.LAPSED: f"The period has lapsed: the latest {MOST_MISSED_PERIODS} are made good.",
}


@dataclass(frozen=True, slots=True)
class Subscription:
    """One user's subscription.

    ``eligible_from``: only periods that start at or after it are ever allocated.
    ``allocation_amount``: the user's own monthly amount; None means the plan's.
    ``version`` counts the edits, from 1; it is what concurrent editors compare.
    ``notifications``: the kinds of mails the user wants. ``suppressed``: why the address gets none
    all the same; another address is written to again. ``email``: None for a user who gets none.
    """

    user_id: str
    email: str | None
    timezone: str
    plan: str
    billing_interval: BillingInterval
    status: SubscriptionStatus
    started_at: datetime
    eligible_from: datetime
    allocation_amount: int | None = None
    version: int = 1
    notifications: frozenset[MailKind] = ALL_KINDS
    suppressed: SuppressedBecause | None = None

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
    """Credits per period: the subscription's own amount, else its plan's."""
    if subscription.allocation_amount is not None:
        return subscription.allocation_amount
    return catalogue.get(subscription.plan).monthly_credits


def not_allocated_because(
    subscription: Subscription, catalogue: PlanCatalogue
) -> NotAllocatedBecause | None:
    """The reason no allocation is to come; None when one is.

    A plan that has left the catalogue is a reason like the others for whoever asks. It is none for
    `due_periods`: nobody knows what is owed then, and it must not pass for nothing.
    """
    if subscription.status is SubscriptionStatus.PAUSED:
        return NotAllocatedBecause.PAUSED
    if subscription.status is SubscriptionStatus.CANCELLED:
        return NotAllocatedBecause.CANCELLED
    if subscription.billing_interval is BillingInterval.MONTHLY:
        return NotAllocatedBecause.BILLED_MONTHLY
    if subscription.plan not in catalogue:
        return NotAllocatedBecause.PLAN_UNKNOWN
    if monthly_amount(subscription, catalogue) == 0:
        return NotAllocatedBecause.PLAN_GRANTS_NOTHING
    return None


def due_periods(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    as_of: datetime,
) -> tuple[Period, ...]:
    """The periods to allocate as of an instant, oldest first, at most `MOST_MISSED_PERIODS`.

    Raises `InvalidInput` for a subscription that can receive and whose plan is not in the
    catalogue: what is owed to it cannot be told, and is not nothing.
    """
    if subscription.can_receive:
        catalogue.get(subscription.plan)
    if not_allocated_because(subscription, catalogue):
        return ()
    current = calendar.period_at(subscription.timezone, as_of)
    due: list[Period] = []
    period = current
    while (
        len(due) < MOST_MISSED_PERIODS
        and (allocated_through is None or period > allocated_through)
        and calendar.month_start(subscription.timezone, period) >= subscription.eligible_from
    ):
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
    start = calendar.month_start(subscription.timezone, period)
    if allocated_through is not None and period <= allocated_through:
        return NotDueBecause.ALLOCATED_BEFORE
    if reason := not_allocated_because(subscription, catalogue):
        return reason
    if now < start:
        return NotDueBecause.NOT_BEGUN
    if start < subscription.eligible_from:
        return NotDueBecause.NOT_ELIGIBLE
    if period not in due_periods(subscription, catalogue, allocated_through, now):
        return NotDueBecause.LAPSED
    return None


def next_allocation(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    allocated_through: Period | None,
    now: datetime,
) -> NextAllocation | None:
    """The first allocation that is still to be made, an overdue one included; None when none is."""
    if not_allocated_because(subscription, catalogue):
        return None
    due = due_periods(subscription, catalogue, allocated_through, now)
    period = due[0] if due else _first_period_to_come(subscription, allocated_through, now)
    return NextAllocation(
        period,
        calendar.month_start(subscription.timezone, period),
        monthly_amount(subscription, catalogue),
    )


def _first_period_to_come(
    subscription: Subscription, allocated_through: Period | None, now: datetime
) -> Period:
    timezone = subscription.timezone
    first = calendar.period_at(timezone, max(now, subscription.eligible_from))
    if allocated_through is not None:
        first = max(first, allocated_through)
    # A period whose start is past is not to come, unless eligibility begins exactly there.
    if first != allocated_through and calendar.month_start(timezone, first) >= max(
        subscription.eligible_from, now
    ):
        return first
    return first.next()


def register(
    values: Mapping[str, object],
    catalogue: PlanCatalogue,
    now: datetime,
    existing: Subscription | None = None,
    kept: Collection[str] = (),
) -> Subscription:
    """The subscription that ``values`` describe in full, as the successor of ``existing``.

    ``kept``: of ``email`` and ``plan``, what is not in ``values`` and stays as it is in
    ``existing``, whatever today's rules are: an address that was never given, a plan that has left
    the catalogue.

    Optional fields: ``email``, ``eligible_from``, ``allocation_amount``, ``notifications`` (left out, the
    user's wishes stay as they are: they are not the caller's to reset). Raises `InvalidInput`
    naming every wrong field. Without an explicit ``eligible_from`` a new subscription is eligible
    from the later of its start and ``now``, so that importing years of old subscribers grants
    nothing for the past; one that comes back from a state without allocations (paused, cancelled,
    billed monthly, a plan that grants nothing) is eligible from ``now`` and never earlier than
    before. Answers ``existing`` itself when nothing changes.
    """
    now = to_millisecond(now)
    fields = FieldReader(values, "subscription")
    user_id = fields.required("user_id", parse_user_id)
    email = (
        existing.email if existing and "email" in kept else fields.optional("email", parse_email)
    )
    timezone = fields.required("timezone", calendar.parse_timezone)
    plan = (
        existing.plan
        if existing and "plan" in kept
        else fields.required("plan", _parse_plan(catalogue))
    )
    billing_interval = fields.required("billing_interval", parse_choice(BillingInterval))
    status = fields.required("status", parse_choice(SubscriptionStatus))
    started_at = fields.required("started_at", parse_instant)
    eligible_from = fields.optional("eligible_from", parse_instant)
    allocation_amount = fields.optional("allocation_amount", parse_amount)
    notifications = fields.optional("notifications", _parse_kinds)
    fields.finish()
    described = Subscription(
        user_id=user_id,
        email=email,
        timezone=timezone,
        plan=plan,
        billing_interval=billing_interval,
        status=status,
        started_at=started_at,
        eligible_from=eligible_from or max(started_at, now),
        allocation_amount=allocation_amount,
        notifications=ALL_KINDS if notifications is None else notifications,
    )
    if existing is None:
        return described
    described = replace(
        described,
        notifications=existing.notifications if notifications is None else notifications,
        suppressed=existing.suppressed if same_address(email, existing.email) else None,
    )
    if eligible_from is None:
        resumes = _receives(described, catalogue) and not _receives(existing, catalogue)
        described = replace(
            described,
            eligible_from=max(now, started_at, existing.eligible_from)
            if resumes
            else existing.eligible_from,
        )
    described = replace(described, version=existing.version)
    return existing if described == existing else replace(described, version=existing.version + 1)


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
    """The successor, of a version, whose address is written to again, if it was not."""
    if subscription.suppressed is None:
        return subscription
    return replace(subscription, suppressed=None, version=version)


def suppress(subscription: Subscription, address: str, reason: SuppressedBecause) -> Subscription:
    """The successor whose address is not written to, if it still is that address."""
    if not same_address(subscription.email, address):
        return subscription
    if subscription.suppressed is reason:
        return subscription
    return replace(subscription, suppressed=reason, version=subscription.version + 1)


def _receives(subscription: Subscription, catalogue: PlanCatalogue) -> bool:
    # One whose plan has left the catalogue does: it has missed what we owe it.
    reason = not_allocated_because(subscription, catalogue)
    return reason in (None, NotAllocatedBecause.PLAN_UNKNOWN)


def _parse_plan(catalogue: PlanCatalogue) -> Parser[str]:
    return lambda field, value: catalogue.get(value, field).id


def _parse_kinds(field: str, value: object) -> frozenset[MailKind]:
    words = ", ".join(MailKind)
    if not isinstance(value, list):
        raise InvalidInput.of(field, f"must be a list of the kinds of mails wanted: {words}")
    parse = parse_choice(MailKind)
    return frozenset(parse(f"{field}[{place}]", kind) for place, kind in enumerate(value))
