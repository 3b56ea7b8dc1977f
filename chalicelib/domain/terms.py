"""What an edit asks for, and the subscription that it makes.

    values of a request ─► read_terms ─► terms ─► successor ─► the next subscription
                               ▲                      ▲
                               └─── the stored one ───┘

Nobody is given anything for a time without allocations. So ``eligible_from`` is by itself the first
registration: importing years of old subscribers grants nothing for the past. And a user who comes
back (from a pause, a cancellation, monthly billing, a plan that grants nothing, an end, a start or
an eligibility that lay ahead) has resumed ``now``. Only a changed ``eligible_from`` decides
otherwise; to repeat the stored one decides nothing.
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
"""What `read_terms` reads. An edit that keeps all it does not name is given these to keep."""


def read_terms(
    values: Mapping[str, object],
    catalogue: PlanCatalogue,
    now: datetime,
    stored: Terms | None = None,
    kept: Collection[str] = (),
) -> Terms:
    """The terms that ``values`` name. Raises `InvalidInput` naming every wrong field.

    ``kept``: the fields that stay as they are ``stored`` when they are not in ``values``, whatever
    today's rules are: an address that was never given, a plan that has left the catalogue. Any
    other field that is left out, or null, gets its default.

    An own amount has its plan's cap, also when it is the plan that changes. One that is above it
    and stays, on the plan it is on, is no edit.
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
    """The subscription that terms make of the existing one, or of none.

    Answers ``existing`` itself when nothing changes. ``notifications`` and a ``language`` that the
    terms do not name stay as they are: they are not the caller's to reset. Raises `OutdatedEdit`
    when the stored subscription was observed after the terms were.
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
    """What the terms ask for, with the defaults, as the first of its kind."""
    registered_at: datetime | None = now
    by_default: Moment = now
    wanted, language = ALL_KINDS, DEFAULT
    if existing:
        registered_at, wanted = existing.registered_at, existing.notifications
        language = existing.language
        # Of a subscription from before registrations were kept, only the latter is known.
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
    """What a new subscriber is given for the period that is running, as their plan says.

    Only one who started within it: whoever started before is a customer who is moved here.
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
    """What an edit of the monthly amount comes to for the period that is running.

    A step up to a plan that tops up is owed the difference to the highest amount so far, of which
    the period has brought all there is. Who comes back from a time without allocations, or begins
    periods on another day, is owed nothing before the next.
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
    is_prolonged = has_ended(before, now) and not (
        described.ends_at and before.ends_at and described.ends_at <= before.ends_at
    )
    if is_back or is_prolonged:
        return now
    # Also of a subscription that has ended: what began before its end can still be due.
    first, bound = min(first_instant(before, catalogue), now), first_instant(described, catalogue)
    # A move, too, can take the day on which the user's periods begin to another day of the month.
    # The last one that had begun before all that makes it due, in a pause say, is not due because
    # it begins later now.
    was, becomes = periods_of(existing, catalogue), periods_of(described, catalogue)
    over = was.at(min(first_instant(existing, catalogue) - _MILLISECOND, now))
    if was.day != becomes.day and max(first, bound) <= becomes.start(over) <= now:
        return min(becomes.start(over) + _MILLISECOND, now)
    return first if bound < first else None


_MILLISECOND = timedelta(milliseconds=1)


def _decides(existing: Subscription, described: Subscription) -> bool:
    """Whether an edit names another ``eligible_from`` than there is; the default is nobody's."""
    if described.eligible_from == described.registered_at:
        return False
    timezone = calendar.known_or_utc(existing.timezone)
    return instant_of(described.eligible_from, timezone) != instant_of(
        existing.eligible_from, timezone
    )


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
