"""What an edit asks for, and the subscription that it makes.

    values of a request ─► read_terms ─► terms ─► successor ─► the next subscription
                              ▲                      ▲
                              └─── the stored one ───┘

Nobody gets anything for a time without allocations. So the default of ``eligible_from`` is the
first registration: importing years of old subscribers grants nothing for the past. And a user who
comes back (from a pause, a cancellation, monthly billing, a plan that grants nothing, an end, a
start or an eligibility that lay ahead) has resumed ``now``. Only a changed ``eligible_from``
overrides this; repeating the stored one does not.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from . import calendar
from .addresses import digest_of, parse_email, same_address
from .calendar import Period
from .errors import InvalidInput, OutdatedEdit
from .fields import FieldReader, Parsed, Parser, parse_amount, parse_choice, parse_user_id
from .instants import (
    CLOCKS_DIFFER,
    format_instant,
    parse_date_or_instant,
    parse_instant,
    parse_past,
    to_millisecond,
)
from .languages import DEFAULT, Language, parse_language
from .notifications import ALL_KINDS, MailKind
from .plans import BillingInterval, OnPlanChange, OnSignup, PlanCatalogue
from .subscriptions import (
    Moment,
    NotAllocatedBecause,
    Periods,
    Raised,
    SignUp,
    Subscription,
    SubscriptionStatus,
    Suppression,
    TopUp,
    first_instant,
    grants_since,
    has_ended,
    instant_of,
    monthly_amount,
    not_allocated_because,
    periods_of,
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What an edit asks for. None stands for the default.

    ``observed_at``: when the editor saw what the edit reports.
    """

    user_id: str
    email: str | None
    timezone: str
    plan: str
    billing_interval: BillingInterval
    status: SubscriptionStatus
    started_at: datetime
    eligible_from: Moment | None
    ends_at: datetime | None
    allocation_amount: int | None
    notifications: frozenset[MailKind] | None
    observed_at: datetime | None = None
    language: Language | None = None

    @classmethod
    def of(cls, subscription: Subscription) -> "Terms":
        """The terms of an edit that repeats what is stored."""
        return cls(
            user_id=subscription.user_id,
            email=subscription.email,
            timezone=subscription.timezone,
            plan=subscription.plan,
            billing_interval=subscription.billing_interval,
            status=subscription.status,
            started_at=subscription.started_at,
            eligible_from=subscription.eligible_from,
            ends_at=subscription.ends_at,
            allocation_amount=subscription.allocation_amount,
            notifications=subscription.notifications,
            language=subscription.language,
        )


MOST_TOP_UPS = 10
"""The most steps up within a period that are owed at once."""

FIELDS = frozenset(Terms.__dataclass_fields__)
"""The fields that `read_terms` reads. An edit that keeps unnamed fields passes these as kept."""


def read_terms(
    values: Mapping[str, object],
    catalogue: PlanCatalogue,
    now: datetime,
    stored: Terms | None = None,
    kept: Collection[str] = (),
) -> Terms:
    """The terms that ``values`` name. Raises `InvalidInput` naming every wrong field.

    ``kept``: if these fields are not in ``values``, they stay as they are ``stored``, whatever
    today's rules are: an address that was never given, a plan that has left the catalogue. Any
    other field that is left out, or null, gets its default.

    An own amount is limited by its plan's cap, even when only the plan changes. A stored amount
    above the cap may stay while the plan stays.
    """
    fields = FieldReader(values, "subscription")
    stays = frozenset(kept) - values.keys() if stored else frozenset()

    def required(name: str, parser: Parser[Parsed]) -> Parsed:
        value: Parsed = getattr(stored, name) if name in stays else fields.required(name, parser)
        return value

    def optional(name: str, parser: Parser[Parsed]) -> Parsed | None:
        value: Parsed | None = (
            getattr(stored, name) if name in stays else fields.optional(name, parser)
        )
        return value

    terms = Terms(
        user_id=fields.required("user_id", parse_user_id),
        email=optional("email", parse_email),
        timezone=required("timezone", calendar.parse_timezone),
        plan=required("plan", _parse_plan(catalogue)),
        billing_interval=required("billing_interval", parse_choice(BillingInterval)),
        status=required("status", parse_choice(SubscriptionStatus)),
        started_at=required("started_at", parse_instant),
        eligible_from=optional("eligible_from", parse_date_or_instant),
        ends_at=optional("ends_at", parse_instant),
        allocation_amount=optional("allocation_amount", parse_amount),
        notifications=optional("notifications", _parse_kinds),
        observed_at=optional("observed_at", parse_past(now)),
        language=optional("language", parse_language),
    )
    amount, plan = terms.allocation_amount, terms.plan
    is_kept = stored and (stored.plan, stored.allocation_amount) == (plan, amount)
    if amount and plan in catalogue and not is_kept:
        cap = catalogue.cap_of(plan)
        if amount > cap:
            message = f"must be at most {cap:,} on plan {plan!r}, or null for the plan's own"
            fields.reject("allocation_amount", f"{message}; is {amount:,}")
    fields.finish()
    return terms


def successor(
    existing: Subscription | None, terms: Terms, catalogue: PlanCatalogue, now: datetime
) -> Subscription:
    """The subscription that the terms make of ``existing``, or of nothing.

    Returns ``existing`` itself when nothing changes. If the terms do not name ``notifications`` or
    a ``language``, these stay: the caller must not reset them. Raises `OutdatedEdit` when the
    stored subscription was observed after the terms were.
    """
    now = to_millisecond(now)
    described = _described(terms, existing, now)
    if existing is None:
        return replace(described, sign_up=_sign_up(described, catalogue, now))
    _refuse_outdated(existing, terms)
    described = replace(
        described,
        version=existing.version,
        observed_at=terms.observed_at or existing.observed_at,
        resumed_at=existing.resumed_at,
        sign_up=existing.sign_up,
        contracts=existing.contracts,
    )
    described = _with_suppression(existing, described)
    if _decides(existing, described):
        described = replace(described, resumed_at=None)
    elif since := _nothing_before(existing, described, catalogue, now):
        described = replace(described, resumed_at=since)
    described = replace(described, raised=_raised(existing, described, catalogue, now))
    return existing if described == existing else replace(described, version=existing.version + 1)


def _described(terms: Terms, existing: Subscription | None, now: datetime) -> Subscription:
    """What the terms ask for, with the defaults, as the first version."""
    registered_at: datetime | None = now
    by_default: Moment = now
    wanted, language = ALL_KINDS, DEFAULT
    if existing:
        registered_at, wanted = existing.registered_at, existing.notifications
        language = existing.language
        # A subscription from before registrations were recorded only has the latter.
        by_default = existing.registered_at or existing.eligible_from
    return Subscription(
        user_id=terms.user_id,
        email=terms.email,
        timezone=terms.timezone,
        plan=terms.plan,
        billing_interval=terms.billing_interval,
        status=terms.status,
        started_at=terms.started_at,
        eligible_from=terms.eligible_from or by_default,
        allocation_amount=terms.allocation_amount,
        notifications=wanted if terms.notifications is None else terms.notifications,
        registered_at=registered_at,
        ends_at=terms.ends_at,
        observed_at=terms.observed_at,
        language=terms.language or language,
    )


def _sign_up(new: Subscription, catalogue: PlanCatalogue, now: datetime) -> SignUp | None:
    """What a new subscriber gets for the period that is running, as their plan says.

    Only one who started within it: a subscriber who started before is a customer being migrated.
    """
    on_signup = catalogue.get(new.plan).on_signup
    if on_signup is OnSignup.NONE or not_allocated_because(new, catalogue):
        return None
    at = max(now, first_instant(new, catalogue))
    if at > now + CLOCKS_DIFFER or has_ended(new, at):
        return None
    periods = periods_of(new, catalogue)
    period = periods.at(at)
    start, since = periods.start(period), grants_since(new, catalogue)
    if new.started_at < start or (since and start < since):
        return None
    amount = monthly_amount(new, catalogue)
    if on_signup is OnSignup.PRORATED:
        amount = _prorated(amount, periods, period, new.timezone, new.started_at)
    return SignUp(period, amount, at)


def _raised(
    existing: Subscription, described: Subscription, catalogue: PlanCatalogue, now: datetime
) -> Raised | None:
    """What an edit of the monthly amount brings for the period that is running.

    A step up to a plan that tops up is owed the difference to the highest amount so far: the period
    has already brought that. A user who comes back from a time without allocations, or whose
    periods move to another day, is owed nothing before the next.
    """
    if not catalogue.tops_up:
        return existing.raised
    if not_allocated_because(existing, catalogue) or not_allocated_because(described, catalogue):
        return existing.raised
    was, amount = monthly_amount(existing, catalogue), monthly_amount(described, catalogue)
    if was == amount:
        return existing.raised
    periods = periods_of(described, catalogue)
    period = periods.at(now)
    level = was
    top_ups: tuple[TopUp, ...] = ()
    if existing.raised and existing.raised.period == period:
        level, top_ups = max(existing.raised.level, was), existing.raised.top_ups
    since = grants_since(described, catalogue)
    tops_up = (
        described.plan != existing.plan
        and catalogue.get(described.plan).on_plan_change is OnPlanChange.DIFFERENCE
        and periods_of(existing, catalogue).day == periods.day
        and not (since and periods.start(period) < since)
        and len(top_ups) < MOST_TOP_UPS
    )
    if amount > level and tops_up:
        at = max([now, *(top_up.at + _MILLISECOND for top_up in top_ups)])
        part = _prorated(amount - level, periods, period, described.timezone, now)
        top_ups = (*top_ups, TopUp(part, at))
    return Raised(period, max(level, amount), top_ups)


def _prorated(
    amount: int, periods: Periods, period: Period, timezone: str, instant: datetime
) -> int:
    """The part of an amount for the local days of a period from an instant on, rounded up."""
    first, end = period.date_of(periods.day), period.next().date_of(periods.day)
    left = (end - calendar.running_day(timezone, instant)).days
    return -(-amount * left // (end - first).days)


def _refuse_outdated(existing: Subscription, terms: Terms) -> None:
    before, now = existing.observed_at, terms.observed_at
    if before and now and now < before:
        raise OutdatedEdit(
            f"what is stored of user {existing.user_id} was observed at {format_instant(before)}, "
            "after what this edit reports"
        )


def _with_suppression(existing: Subscription, described: Subscription) -> Subscription:
    """An edit with what is known of its address; an address that comes back keeps its old state."""
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
    """From when on an edit can make periods due; None when it lifts no bound of the past.

    A time for which nothing was given, by the facts known then, stays so, whatever is said of it
    now: moving a start or an end that lies in the past makes nothing due.
    """
    # Both use the new timezone: a move is not a return.
    before = replace(existing, timezone=described.timezone)
    # Whatever other bounds there are: they can be moved later, and the pause stays a pause.
    is_back = _is_barred(before, catalogue) and not _is_barred(described, catalogue)
    is_prolonged = has_ended(before, now) and not (
        described.ends_at and before.ends_at and described.ends_at <= before.ends_at
    )
    if is_back or is_prolonged:
        return now
    # Also for a subscription that has ended: what began before its end can still be due.
    first, bound = min(first_instant(before, catalogue), now), first_instant(described, catalogue)
    # A move, too, can change the day of the month on which the user's periods begin. The last
    # period that began before the bound, in a pause for example, does not become due only because
    # it begins later now.
    was, becomes = periods_of(existing, catalogue), periods_of(described, catalogue)
    over = was.at(min(first_instant(existing, catalogue) - _MILLISECOND, now))
    if was.day != becomes.day and max(first, bound) <= becomes.start(over) <= now:
        return min(becomes.start(over) + _MILLISECOND, now)
    return first if bound < first else None


_MILLISECOND = timedelta(milliseconds=1)


def _decides(existing: Subscription, described: Subscription) -> bool:
    """Whether an edit names another ``eligible_from`` than the stored one; a default does not."""
    if described.eligible_from == described.registered_at:
        return False
    timezone = calendar.known_or_utc(existing.timezone)
    return instant_of(described.eligible_from, timezone) != instant_of(
        existing.eligible_from, timezone
    )


def _is_barred(subscription: Subscription, catalogue: PlanCatalogue) -> bool:
    """Whether its state allows no allocations, whatever its time bounds are."""
    # An unknown plan or timezone is no such state: the user has missed what we owe them.
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
        raise InvalidInput.of(field, f"must be a list of the kinds of emails wanted: {words}")
    parse = parse_choice(MailKind)
    return frozenset(parse(f"{field}[{place}]", kind) for place, kind in enumerate(value))
