"""Subscriptions: what is due, what comes next and why nothing does, and what an edit changes."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period, month_start, period_at
from chalicelib.domain.errors import FieldError, InvalidInput, OutdatedEdit, TimezoneUnknown
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.notifications import ALL_KINDS, MailKind
from chalicelib.domain.plans import BillingInterval, PlanCatalogue
from chalicelib.domain.subscriptions import (
    MOST_MISSED_PERIODS,
    NextAllocation,
    NotAllocatedBecause,
    NotDueBecause,
    Subscription,
    SubscriptionStatus,
    SuppressedBecause,
    can_receive,
    due_periods,
    monthly_amount,
    next_allocation,
    no_allocation_because,
    not_allocated_because,
    not_due_because,
    suppress,
    without_mails,
    without_suppression,
)
from chalicelib.domain.terms import FIELDS
from chalicelib.plans_file import parse_catalogue
from tests.registered import register

CATALOGUE = parse_catalogue(
    """
    [[plans]]
    id = "free"
    name = "Free"
    monthly_credits = 0
    lowest = true

    [[plans]]
    id = "starter"
    name = "Starter"
    monthly_credits = 100
    credit_lifetime_days = 30

    [[plans]]
    id = "pro"
    name = "Pro"
    monthly_credits = 500
    """
)

CAPPED = PlanCatalogue(
    tuple(
        replace(plan, most_credits_at_once=600) if plan.id == "pro" else plan
        for plan in CATALOGUE.plans
    )
)
"""The same, and on pro no more than 600 credits at once."""

MILLISECOND = timedelta(milliseconds=1)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

KIRITIMATI = "Pacific/Kiritimati"  # UTC+14
MIDWAY = "Pacific/Midway"  # UTC-11


def at(text: str) -> datetime:
    return parse_instant("at", text)


def periods(*texts: str) -> tuple[Period, ...]:
    return tuple(Period.parse(text) for text in texts)


def due_at(
    subscription: Subscription, allocated_through: Period | None, now: datetime
) -> tuple[Period, ...]:
    return due_periods(subscription, CATALOGUE, allocated_through, now, now)


ADA = Subscription(
    user_id="42",
    email="ada@example.com",
    timezone="Europe/Paris",
    plan="pro",
    billing_interval=BillingInterval.YEARLY,
    status=SubscriptionStatus.ACTIVE,
    started_at=at("2025-01-01T00:00:00Z"),
    eligible_from=at("2025-01-01T00:00:00Z"),
)

PAUSED = {"status": SubscriptionStatus.PAUSED}
CANCELLED = {"status": SubscriptionStatus.CANCELLED}
MONTHLY = {"billing_interval": BillingInterval.MONTHLY}
FREE = {"plan": "free"}
NOTHING_OF_THE_OWN = {"allocation_amount": 0}

JULY_IN_PARIS = at("2026-06-30T22:00:00Z")


# --- What a subscription is given, and why nothing ----------------------------------------------


def test_the_amount_is_the_plans_or_the_subscriptions_own() -> None:
    assert monthly_amount(ADA, CATALOGUE) == 500
    assert monthly_amount(replace(ADA, plan="starter"), CATALOGUE) == 100
    assert monthly_amount(replace(ADA, allocation_amount=7), CATALOGUE) == 7
    assert monthly_amount(replace(ADA, plan="free", allocation_amount=7), CATALOGUE) == 7
    assert monthly_amount(replace(ADA, allocation_amount=0), CATALOGUE) == 0


def test_an_own_amount_is_paid_as_far_as_the_cap_of_its_own_plan() -> None:
    for plan, cap in (("pro", 600), ("starter", 10_000), ("gone", 10_000)):
        above = replace(ADA, plan=plan, allocation_amount=10_001)
        assert monthly_amount(above, CAPPED) == cap
        assert monthly_amount(replace(above, allocation_amount=599), CAPPED) == 599


@pytest.mark.parametrize(
    ("changes", "reason", "code", "words"),
    [
        (
            PAUSED,
            NotAllocatedBecause.PAUSED,
            "subscription_paused",
            "The subscription is paused.",
        ),
        (
            CANCELLED,
            NotAllocatedBecause.CANCELLED,
            "subscription_cancelled",
            "The subscription is cancelled.",
        ),
        (
            MONTHLY,
            NotAllocatedBecause.BILLED_MONTHLY,
            "billed_monthly",
            "The plan grants nothing to monthly subscriptions.",
        ),
        (
            FREE,
            NotAllocatedBecause.PLAN_GRANTS_NOTHING,
            "plan_grants_nothing",
            "The plan grants no monthly credits.",
        ),
        (
            NOTHING_OF_THE_OWN,
            NotAllocatedBecause.PLAN_GRANTS_NOTHING,
            "plan_grants_nothing",
            "The plan grants no monthly credits.",
        ),
        (
            FREE | MONTHLY | CANCELLED,
            NotAllocatedBecause.CANCELLED,
            "subscription_cancelled",
            "The subscription is cancelled.",
        ),
    ],
)
def test_a_subscription_that_is_given_nothing_says_why(
    changes: dict[str, object], reason: NotAllocatedBecause, code: str, words: str
) -> None:
    subscription = replace(ADA, **changes)  # type: ignore[arg-type]
    assert not_allocated_because(subscription, CATALOGUE) is reason
    assert (reason.value, reason.words) == (code, words)
    # However much was missed, and whatever is to come.
    assert due_at(subscription, None, JULY_IN_PARIS) == ()
    assert next_allocation(subscription, CATALOGUE, None, JULY_IN_PARIS) is None


def test_a_subscription_that_is_given_credits_has_no_reason_not_to() -> None:
    assert not_allocated_because(ADA, CATALOGUE) is None
    free_with_own_amount = replace(ADA, plan="free", allocation_amount=1)
    assert not_allocated_because(free_with_own_amount, CATALOGUE) is None
    assert due_at(free_with_own_amount, Period(2026, 6), JULY_IN_PARIS) == (periods("2026-07"))


@pytest.mark.parametrize(
    ("changes", "can"),
    [({}, True), (FREE, True), (PAUSED, False), (CANCELLED, False), (MONTHLY, True)],
)
def test_sweeps_look_at_active_subscriptions_whatever_the_plan(
    changes: dict[str, object],
    can: bool,  # noqa: FBT001
) -> None:
    assert replace(ADA, **changes).is_swept is can  # type: ignore[arg-type]


def test_a_plan_that_left_the_catalogue_is_reported_and_grants_nothing_silently() -> None:
    stranded = replace(ADA, plan="gold")
    with pytest.raises(InvalidInput, match="plan: unknown plan 'gold'"):
        due_at(stranded, None, JULY_IN_PARIS)
    # An amount of the own does not say for how long its credits live.
    with pytest.raises(InvalidInput, match="plan: unknown plan 'gold'"):
        due_at(replace(stranded, allocation_amount=7), None, JULY_IN_PARIS)
    # A question is answered.
    assert not_allocated_because(stranded, CATALOGUE) is NotAllocatedBecause.PLAN_UNKNOWN
    assert next_allocation(stranded, CATALOGUE, None, JULY_IN_PARIS) is None
    assert due_at(replace(stranded, **PAUSED), None, JULY_IN_PARIS) == ()  # type: ignore[arg-type]


def test_users_billed_in_a_way_that_only_other_plans_pay_are_given_nothing() -> None:
    both = frozenset(BillingInterval)
    catalogue = PlanCatalogue(
        tuple(
            replace(plan, billing_intervals=both, monthly_since=date(2026, 7, 1))
            if plan.id == "starter"
            else plan
            for plan in CATALOGUE.plans
        )
    )
    monthly = replace(ADA, billing_interval=BillingInterval.MONTHLY)
    assert not can_receive(monthly, catalogue)
    assert not_allocated_because(monthly, catalogue) is NotAllocatedBecause.BILLED_MONTHLY
    # And what a plan pays since a day it pays for no month before it.
    paid = replace(monthly, plan="starter")
    assert can_receive(paid, catalogue)
    assert due_periods(paid, catalogue, None, JULY_IN_PARIS, JULY_IN_PARIS) == periods("2026-07")


def test_of_a_plan_and_a_timezone_that_are_both_gone_the_timezone_is_named() -> None:
    stranded = replace(ADA, plan="gold", timezone="Asia/Gone")
    with pytest.raises(TimezoneUnknown):
        due_at(stranded, None, JULY_IN_PARIS)
    assert not_allocated_because(stranded, CATALOGUE) is NotAllocatedBecause.TIMEZONE_UNKNOWN


def test_who_comes_back_where_the_timezone_is_unknown_is_given_nothing_for_the_pause() -> None:
    stranded = registered(now=NOW - 90 * DAY, status="paused", eligible_from="2026-05-01")
    stranded = replace(stranded, timezone="Asia/Gone")
    back = register({"user_id": "42", "status": "active"}, CATALOGUE, NOW, stranded, kept=FIELDS)
    values = {"user_id": "42", "timezone": "Europe/Paris"}
    mended = register(values, CATALOGUE, NOW + DAY, back, kept=FIELDS)
    assert due_at(mended, None, NOW + DAY) == ()


def test_what_an_edit_keeps_is_not_checked_again() -> None:
    stranded = replace(ADA, plan="gold", email=None)
    values = {
        "user_id": "42",
        "timezone": "Asia/Tokyo",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
    }
    edited = register(values, CATALOGUE, JULY_IN_PARIS, stranded, kept=("email", "plan"))
    assert edited == replace(stranded, timezone="Asia/Tokyo", version=2)
    # There is nothing to keep of a subscription that is new.
    with pytest.raises(InvalidInput, match="plan: is required"):
        register(values, CATALOGUE, JULY_IN_PARIS, None, kept=("email", "plan"))


def test_what_is_due_in_a_timezone_that_left_the_database_is_unknown() -> None:
    stranded = replace(ADA, timezone="Asia/Gone")
    gone = NotAllocatedBecause.TIMEZONE_UNKNOWN
    with pytest.raises(TimezoneUnknown, match="'Asia/Gone' is no longer in the database"):
        due_periods(stranded, CATALOGUE, None, JULY_IN_PARIS, JULY_IN_PARIS)
    # A question is answered.
    assert not_allocated_because(stranded, CATALOGUE) is gone
    assert next_allocation(stranded, CATALOGUE, None, JULY_IN_PARIS) is None
    assert not_due_because(stranded, CATALOGUE, None, Period(2026, 7), JULY_IN_PARIS) is gone
    paused = replace(stranded, **PAUSED)  # type: ignore[arg-type]
    assert due_periods(paused, CATALOGUE, None, JULY_IN_PARIS, JULY_IN_PARIS) == ()
    assert not_allocated_because(paused, CATALOGUE) is NotAllocatedBecause.PAUSED


@pytest.mark.parametrize("eligible_from", [ADA.eligible_from, date(2026, 5, 1)])
def test_a_user_who_moves_out_of_an_unknown_timezone_gets_what_was_missed(
    eligible_from: datetime | date,
) -> None:
    stranded = replace(ADA, timezone="Asia/Gone", eligible_from=eligible_from)
    values = {"user_id": "42", "timezone": "Europe/Paris"}
    mended = register(values, CATALOGUE, JULY_IN_PARIS, stranded, kept=FIELDS)
    assert mended == replace(stranded, timezone="Europe/Paris", version=2)
    assert due_periods(mended, CATALOGUE, None, JULY_IN_PARIS, JULY_IN_PARIS) != ()
    # What is kept is not checked again, and another wish is one there, too.
    other = register(
        {"user_id": "42", "eligible_from": "2026-06-01"},
        CATALOGUE,
        JULY_IN_PARIS,
        replace(stranded, resumed_at=JULY_IN_PARIS),
        kept=FIELDS,
    )
    assert (other.timezone, other.eligible_from) == ("Asia/Gone", date(2026, 6, 1))
    assert other.resumed_at is None


# --- Why one period is not due ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("period", "through", "changes", "reason"),
    [
        ("2026-07", None, {}, None),
        ("2026-06", None, {}, None),
        ("2025-08", None, {}, None),
        ("2025-07", None, {}, NotDueBecause.LAPSED),
        ("2026-08", None, {}, NotDueBecause.NOT_BEGUN),
        ("2026-07", "2026-07", {}, NotDueBecause.ALLOCATED_BEFORE),
        ("2026-06", "2026-07", {}, NotDueBecause.ALLOCATED_BEFORE),
        ("2026-07", "2026-07", PAUSED, NotDueBecause.ALLOCATED_BEFORE),
        ("2026-07", "2026-06", PAUSED, NotAllocatedBecause.PAUSED),
        ("2026-07", None, {"plan": "gold"}, NotAllocatedBecause.PLAN_UNKNOWN),
        (
            "2026-07",
            None,
            {"eligible_from": JULY_IN_PARIS + MILLISECOND},
            NotDueBecause.NOT_ELIGIBLE,
        ),
        ("2026-07", None, {"eligible_from": JULY_IN_PARIS}, None),
        (
            "2026-07",
            None,
            {"eligible_from": JULY_IN_PARIS, "ends_at": JULY_IN_PARIS},
            NotDueBecause.ENDED,
        ),
        ("2025-07", None, {"eligible_from": date(2025, 7, 1)}, NotDueBecause.LAPSED),
    ],
)
def test_why_a_period_is_not_due(
    period: str,
    through: str | None,
    changes: dict[str, object],
    reason: NotAllocatedBecause | NotDueBecause | None,
) -> None:
    subscription = replace(ADA, **changes)  # type: ignore[arg-type]
    allocated_through = Period.parse(through) if through else None
    asked = Period.parse(period)
    found = not_due_because(subscription, CATALOGUE, allocated_through, asked, JULY_IN_PARIS)
    assert found is reason
    assert reason is None or reason.words.endswith(".")


def test_the_latest_twelve_periods_are_the_ones_an_outage_is_made_good_for() -> None:
    assert str(MOST_MISSED_PERIODS) in NotDueBecause.LAPSED.words


# --- What is due --------------------------------------------------------------------------------


def test_a_period_is_due_from_its_start_and_not_a_millisecond_earlier() -> None:
    june = Period(2026, 6)
    assert due_at(ADA, june, JULY_IN_PARIS - MILLISECOND) == ()
    assert due_at(ADA, june, JULY_IN_PARIS) == periods("2026-07")
    assert due_at(ADA, june, JULY_IN_PARIS + 30 * DAY) == periods("2026-07")


@pytest.mark.parametrize("through", ["2026-07", "2026-08", "2027-01"])
def test_a_period_that_was_allocated_is_not_due_nor_is_one_before_it(through: str) -> None:
    assert due_at(ADA, Period.parse(through), JULY_IN_PARIS) == ()


@pytest.mark.parametrize(
    ("eligible_from", "due"),
    [
        (JULY_IN_PARIS - MILLISECOND, periods("2026-07")),
        (JULY_IN_PARIS, periods("2026-07")),
        (JULY_IN_PARIS + MILLISECOND, ()),
        (at("2026-05-31T22:00:00Z"), periods("2026-06", "2026-07")),
        (at("2026-05-31T22:00:00.001Z"), periods("2026-07")),
        (at("2030-01-01T00:00:00Z"), ()),
    ],
)
def test_only_periods_that_start_at_or_after_eligible_from_are_due(
    eligible_from: datetime, due: tuple[Period, ...]
) -> None:
    subscription = replace(ADA, eligible_from=eligible_from)
    assert due_at(subscription, None, JULY_IN_PARIS + DAY) == due


def test_a_missed_march_and_april_are_due_in_may_oldest_first() -> None:
    in_may = at("2026-05-02T00:00:00Z")
    due = due_at(ADA, Period(2026, 2), in_may)
    assert due == periods("2026-03", "2026-04", "2026-05")
    # One by one: each that is granted leaves the others.
    assert due_at(ADA, due[0], in_may) == due[1:]
    assert due_at(ADA, due[1], in_may) == due[2:]
    assert due_at(ADA, due[2], in_may) == ()


@pytest.mark.parametrize(
    ("through", "first", "count"),
    [
        (None, "2025-08", 12),
        ("2025-06", "2025-08", 12),
        ("2025-07", "2025-08", 12),
        ("2025-08", "2025-09", 11),
    ],
)
def test_at_most_twelve_periods_are_made_good_the_latest_ones(
    through: str | None, first: str, count: int
) -> None:
    allocated = None if through is None else Period.parse(through)
    due = due_at(ADA, allocated, JULY_IN_PARIS)
    assert due == tuple(Period.parse(first).plus(months) for months in range(count))
    assert due[-1] == Period(2026, 7)


def replay(moves: dict[datetime, str], until: datetime) -> Iterator[tuple[datetime, Period]]:
    """What a user who moves between timezones is allocated, and when, looked at every hour."""
    now = min(moves)
    subscription = replace(ADA, eligible_from=now)
    through: Period | None = None
    while now <= until:
        if now in moves:
            subscription = replace(subscription, timezone=moves[now])
        for period in due_at(subscription, through, now):
            through = period
            yield now, period
        now += HOUR


@pytest.mark.parametrize("there", range(-48, 49, 7))
@pytest.mark.parametrize("stays", [1, 6, 25, 26, 49])
@pytest.mark.parametrize(("home", "away"), [(KIRITIMATI, MIDWAY), (MIDWAY, KIRITIMATI)])
def test_moving_round_the_date_line_and_back_round_a_1st_repeats_and_skips_no_month(
    there: int, stays: int, home: str, away: str
) -> None:
    first_of_july = at("2026-07-01T00:00:00Z")
    moves = {
        at("2026-05-20T00:00:00Z"): home,
        first_of_july + there * HOUR: away,
        first_of_july + (there + stays) * HOUR: home,
    }
    granted = list(replay(moves, until=at("2026-09-03T00:00:00Z")))
    assert [period for _, period in granted] == list(
        periods("2026-06", "2026-07", "2026-08", "2026-09")
    )


def test_the_month_comes_early_to_a_user_who_moves_east_and_not_again_on_moving_back() -> None:
    moves = {
        at("2026-06-20T00:00:00Z"): MIDWAY,
        at("2026-06-30T12:00:00Z"): KIRITIMATI,  # where July began two hours ago
        at("2026-07-01T00:00:00Z"): MIDWAY,  # where it is June
    }
    assert list(replay(moves, until=at("2026-08-02T00:00:00Z"))) == [
        (at("2026-06-30T12:00:00Z"), Period(2026, 7)),
        (at("2026-08-01T11:00:00Z"), Period(2026, 8)),
    ]


# --- What comes next ----------------------------------------------------------------------------


def upcoming(
    now: datetime, through: str | None = None, **changes: object
) -> tuple[str, datetime, int]:
    subscription = replace(ADA, **changes)  # type: ignore[arg-type]
    allocated = None if through is None else Period.parse(through)
    coming = next_allocation(subscription, CATALOGUE, allocated, now)
    assert coming is not None
    return str(coming.period), coming.at, coming.amount


def test_the_next_allocation_is_the_next_local_month_start_with_its_amount() -> None:
    now = at("2026-06-15T00:00:00Z")
    coming = next_allocation(ADA, CATALOGUE, Period(2026, 6), now)
    assert coming == NextAllocation(Period(2026, 7), date(2026, 7, 1), JULY_IN_PARIS, 500)
    assert upcoming(now, "2026-06", allocation_amount=7) == ("2026-07", JULY_IN_PARIS, 7)
    assert upcoming(now, "2026-06", timezone=MIDWAY) == (
        "2026-07",
        at("2026-07-01T11:00:00Z"),
        500,
    )


def test_an_allocation_that_is_overdue_is_the_next_and_the_oldest_of_several() -> None:
    april = at("2026-03-31T22:00:00Z")
    assert upcoming(JULY_IN_PARIS + DAY, "2026-06") == ("2026-07", JULY_IN_PARIS, 500)
    assert upcoming(JULY_IN_PARIS, "2026-06") == ("2026-07", JULY_IN_PARIS, 500)
    assert upcoming(JULY_IN_PARIS, "2026-03") == ("2026-04", april, 500)
    assert upcoming(JULY_IN_PARIS - MILLISECOND, "2026-06") == ("2026-07", JULY_IN_PARIS, 500)


def test_once_the_running_month_is_allocated_the_next_one_is_to_come() -> None:
    august = at("2026-07-31T22:00:00Z")
    assert upcoming(JULY_IN_PARIS, "2026-07") == ("2026-08", august, 500)
    assert upcoming(august - MILLISECOND, "2026-07") == ("2026-08", august, 500)


@pytest.mark.parametrize(
    ("eligible_from", "through", "period", "starts"),
    [
        # Who comes in the middle of a month waits for the next.
        ("2026-07-10T00:00:00Z", None, "2026-08", "2026-07-31T22:00:00Z"),
        ("2026-06-30T22:00:00.001Z", None, "2026-08", "2026-07-31T22:00:00Z"),
        # Who will be eligible waits until then, and for the month start after.
        ("2026-10-15T00:00:00Z", None, "2026-11", "2026-10-31T23:00:00Z"),
        ("2026-09-30T22:00:00Z", None, "2026-10", "2026-09-30T22:00:00Z"),
        ("2026-09-30T22:00:00.001Z", None, "2026-11", "2026-10-31T23:00:00Z"),
        ("2026-09-30T21:59:59.999Z", None, "2026-10", "2026-09-30T22:00:00Z"),
        # What has been allocated does not come again, wherever and however it was.
        ("2026-07-10T00:00:00Z", "2026-06", "2026-08", "2026-07-31T22:00:00Z"),
        ("2026-09-30T22:00:00Z", "2026-09", "2026-10", "2026-09-30T22:00:00Z"),
        ("2026-09-30T22:00:00Z", "2026-10", "2026-11", "2026-10-31T23:00:00Z"),
        ("2026-09-30T22:00:00Z", "2026-12", "2027-01", "2026-12-31T23:00:00Z"),
        ("2025-01-01T00:00:00Z", "2026-08", "2026-09", "2026-08-31T22:00:00Z"),
        ("2025-01-01T00:00:00Z", "2026-12", "2027-01", "2026-12-31T23:00:00Z"),
    ],
)
def test_the_next_allocation_respects_eligibility_and_what_has_been_allocated(
    eligible_from: str, through: str | None, period: str, starts: str
) -> None:
    now = at("2026-07-12T00:00:00Z")
    coming = upcoming(now, through, eligible_from=at(eligible_from))
    assert coming == (period, at(starts), 500)


def test_what_lapsed_before_a_subscription_had_ended_is_not_to_come() -> None:
    ended = replace(ADA, ends_at=at("2025-03-01T00:00:00Z"))
    assert next_allocation(ended, CATALOGUE, None, JULY_IN_PARIS) is None


def test_a_user_allocated_a_month_ahead_of_the_zone_waits_for_the_one_after() -> None:
    """Allocated July in Kiritimati, then moved to Midway, where it is June for another day."""
    now = at("2026-06-30T11:00:00Z")
    coming = upcoming(now, "2026-07", timezone=MIDWAY)
    assert coming == ("2026-08", at("2026-08-01T11:00:00Z"), 500)


zones = st.sampled_from(
    ["Europe/Paris", KIRITIMATI, MIDWAY, "America/Havana", "Asia/Kathmandu", "America/St_Johns"]
)
instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(  # noqa: DTZ001
    lambda moment: at(moment.isoformat(timespec="seconds") + "Z")
)
month_starts = st.builds(
    lambda zone, months: month_start(zone, Period(2026, 1).plus(months)), zones, st.integers(0, 23)
)
moments = instants | month_starts
through_periods = st.none() | st.integers(0, 30).map(lambda months: Period(2025, 11).plus(months))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(zones, moments, moments, through_periods)
def test_what_is_announced_is_the_first_that_falls_due(
    timezone: str, eligible_from: datetime, now: datetime, through: Period | None
) -> None:
    subscription = replace(ADA, timezone=timezone, eligible_from=eligible_from)
    coming = next_allocation(subscription, CATALOGUE, through, now)
    assert coming is not None
    assert coming.at == month_start(timezone, coming.period)
    moment = max(now, coming.at)
    assert due_at(subscription, through, moment)[0] == coming.period
    if moment > now:
        assert due_at(subscription, through, moment - MILLISECOND) == ()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(zones, moments, moments, through_periods)
def test_due_periods_are_those_that_the_rule_says_and_no_others(
    timezone: str, eligible_from: datetime, now: datetime, through: Period | None
) -> None:
    """The rule as it is written, asked of every month there is."""
    subscription = replace(ADA, timezone=timezone, eligible_from=eligible_from)
    every = [Period(2025, 1).plus(months) for months in range(60)]
    expected = [
        period
        for period in every
        if eligible_from <= calendar.month_start(timezone, period) <= now
        and (through is None or through < period)
    ]
    due = due_at(subscription, through, now)
    assert due == tuple(expected[-12:])
    assert all(later == earlier.next() for earlier, later in pairwise(due))
    assert not due or due[-1] == period_at(timezone, now)


# --- Registering --------------------------------------------------------------------------------

NOW = at("2026-07-12T10:00:00.123Z")

VALUES: dict[str, object] = {
    "user_id": 42,
    "email": "ada@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}


def registered(
    existing: Subscription | None = None, now: datetime = NOW, **changes: object
) -> Subscription:
    return register(VALUES | changes, CATALOGUE, now, existing)


def test_a_new_subscription_is_what_its_values_say() -> None:
    assert registered() == Subscription(
        user_id="42",
        email="ada@example.com",
        timezone="Europe/Paris",
        plan="pro",
        billing_interval=BillingInterval.YEARLY,
        status=SubscriptionStatus.ACTIVE,
        started_at=at("2025-01-01T00:00:00Z"),
        eligible_from=NOW,
        allocation_amount=None,
        version=1,
        registered_at=NOW,
    )
    assert registered(allocation_amount=7).allocation_amount == 7


@pytest.mark.parametrize(
    ("started_at", "first"),
    [
        ("2019-03-01T00:00:00Z", "2026-08"),
        ("2026-07-12T10:00:00.124Z", "2026-08"),
        ("2026-07-31T22:00:00Z", "2026-08"),
        ("2026-07-31T22:00:00.001Z", "2026-09"),
        ("2027-01-05T00:00:00Z", "2027-02"),
    ],
)
def test_a_new_subscription_waits_for_the_month_after_its_start_and_its_registration(
    started_at: str, first: str
) -> None:
    without = {name: value for name, value in VALUES.items() if name != "eligible_from"}
    for values in (without, without | {"eligible_from": None}):
        new = register(values | {"started_at": started_at}, CATALOGUE, NOW)
        assert new.eligible_from == NOW
        coming = next_allocation(new, CATALOGUE, None, NOW)
        assert coming is not None
        assert str(coming.period) == first
        assert due_at(new, None, coming.at) == (coming.period,)
        assert due_at(new, None, coming.at - MILLISECOND) == ()


def test_importing_an_old_subscriber_grants_nothing_for_the_past() -> None:
    old = registered(started_at="2019-03-01T00:00:00Z")
    assert due_at(old, None, NOW) == ()
    assert upcoming(NOW, None, eligible_from=old.eligible_from)[0] == "2026-08"


@pytest.mark.parametrize("explicit", ["2019-03-01T00:00:00Z", "2030-01-01T00:00:00.500Z"])
def test_an_explicit_eligible_from_is_kept_earlier_or_later(explicit: str) -> None:
    new = registered(eligible_from=explicit)
    assert new.eligible_from == at(explicit)
    paused = registered(new, status="paused")
    resumed = registered(paused, status="active", eligible_from=explicit)
    assert resumed.eligible_from == at(explicit)


def test_now_is_kept_to_the_millisecond() -> None:
    assert registered(now=NOW + 999 * MICROSECOND).eligible_from == NOW


STATES_WITHOUT_ALLOCATIONS: list[dict[str, Any]] = [
    {"status": "paused"},
    {"status": "cancelled"},
    {"billing_interval": "monthly"},
    {"plan": "free"},
]


@pytest.mark.parametrize("state", STATES_WITHOUT_ALLOCATIONS)
def test_a_user_who_returns_from_a_pause_is_given_nothing_for_it(
    state: dict[str, Any],
) -> None:
    before = registered(now=NOW - 400 * DAY, **state)
    assert before.resumed_at is None
    back = registered(before)
    assert back.resumed_at == NOW
    assert back.eligible_from == NOW - 400 * DAY
    assert due_at(back, None, NOW + HOUR) == ()
    assert due_at(back, None, at("2026-07-31T22:00:00Z")) == periods("2026-08")


@pytest.mark.parametrize("state", STATES_WITHOUT_ALLOCATIONS)
@pytest.mark.parametrize("other", STATES_WITHOUT_ALLOCATIONS)
def test_a_user_who_goes_from_one_pause_to_another_has_not_returned(
    state: dict[str, Any], other: dict[str, Any]
) -> None:
    active = registered(now=NOW - 400 * DAY)
    first = registered(active, now=NOW - 300 * DAY, **state)
    assert first.resumed_at is None
    second = registered(first, now=NOW - 200 * DAY, **(state | other))
    assert second.resumed_at is None
    assert registered(second).resumed_at == NOW


def test_an_own_amount_on_a_plan_that_grants_nothing_begins_now() -> None:
    free = registered(now=NOW - 400 * DAY, plan="free")
    own = registered(free, plan="free", allocation_amount=5)
    assert own.resumed_at == NOW
    # And it is that amount, and not the plan, that was received all the time.
    moved = registered(own, now=NOW + DAY, plan="pro", allocation_amount=5)
    assert moved.resumed_at == NOW


def test_no_later_edit_forgets_that_somebody_came_back() -> None:
    paused = registered(now=NOW - 400 * DAY, status="paused")
    back = registered(paused, now=NOW - DAY)
    edited = registered(back, email="ada@home.example")
    assert edited.resumed_at == back.resumed_at == NOW - DAY
    # Also where a date to come hides it: the date may be taken back one day.
    waiting = registered(
        registered(now=NOW - 400 * DAY, status="paused", eligible_from="2027-03-01"),
        now=NOW - DAY,
        eligible_from="2027-03-01",
    )
    later = registered(waiting, eligible_from="2027-03-01", email="ada@home.example")
    assert later.resumed_at == waiting.resumed_at == NOW - DAY


def test_an_edit_of_what_has_ended_is_no_return_while_the_end_stays() -> None:
    ended = registered(now=NOW - 400 * DAY, ends_at="2026-06-20T00:00:00Z")
    edited = registered(ended, ends_at="2026-06-20T00:00:00Z", email="ada@home.example")
    assert edited.resumed_at is None


def test_a_date_and_the_instant_of_its_midnight_where_the_user_lives_are_one_decision() -> None:
    paused = registered(now=NOW - 400 * DAY, status="paused", eligible_from="2026-01-01")
    back = registered(paused, now=NOW - DAY, eligible_from="2026-01-01")
    same = registered(back, eligible_from="2025-12-31T23:00:00Z")
    assert same.resumed_at == back.resumed_at == NOW - DAY
    another = registered(back, eligible_from="2026-01-01T00:00:00Z")
    assert another.resumed_at is None


def test_a_user_who_returns_at_the_very_start_of_a_month_receives_it() -> None:
    paused = registered(status="paused", now=NOW - 400 * DAY)
    back = registered(paused, now=JULY_IN_PARIS)
    assert due_at(back, None, JULY_IN_PARIS) == periods("2026-07")
    late = registered(paused, now=JULY_IN_PARIS + MILLISECOND)
    assert due_at(late, None, JULY_IN_PARIS + DAY) == ()


@pytest.mark.parametrize("state", STATES_WITHOUT_ALLOCATIONS)
def test_a_user_who_returns_after_the_end_is_given_nothing_for_the_pause_before_it(
    state: dict[str, Any],
) -> None:
    paused = registered(now=NOW - 400 * DAY, **state)
    ended = registered(paused, now=NOW - DAY, ends_at="2026-06-20T00:00:00Z", **state)
    back = registered(ended, ends_at="2026-06-20T00:00:00Z")
    assert due_at(back, None, NOW) == ()
    at_once = registered(paused, ends_at="2026-06-20T00:00:00Z")
    assert due_at(at_once, None, NOW) == ()


def test_a_user_who_returns_before_a_date_is_given_nothing_for_the_pause_when_it_is_removed() -> (
    None
):
    pro = replace(CATALOGUE.get("pro"), grants_since=date(2026, 9, 1))
    later = PlanCatalogue(tuple(pro if plan.id == "pro" else plan for plan in CATALOGUE.plans))
    paused = registered(now=NOW - 400 * DAY, status="paused")
    back = register(VALUES, later, NOW, paused)
    assert due_at(back, None, NOW) == ()


described = st.fixed_dictionaries(
    {
        "timezone": st.sampled_from(("Europe/Paris", KIRITIMATI, MIDWAY)),
        "plan": st.sampled_from(("free", "starter", "pro")),
        "billing_interval": st.sampled_from(("yearly", "yearly", "monthly")),
        "status": st.sampled_from(("active", "active", "paused", "cancelled")),
        "allocation_amount": st.sampled_from((None, None, 5)),
        "started_at": st.sampled_from(
            ("2025-01-01T00:00:00Z", "2026-05-15T00:00:00Z", "2027-01-05T00:00:00Z")
        ),
        "ends_at": st.sampled_from(
            (None, "2026-04-20T00:00:00Z", "2026-06-20T00:00:00Z", "2027-06-20T00:00:00Z")
        ),
    }
)
"""What can be said of a subscription, apart from the date that is a decision."""


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(described, min_size=2, max_size=4), st.sampled_from(("2025-09-01", None)))
def test_no_edit_makes_a_month_due_that_was_not_due_before_it(
    versions: list[dict[str, Any]], agreed: str | None
) -> None:
    later = PlanCatalogue(
        tuple(
            replace(plan, grants_since=date(2026, 5, 1)) if plan.id == "starter" else plan
            for plan in CATALOGUE.plans
        )
    )
    agreed_on = {"eligible_from": agreed} if agreed else {}
    first, *edits = versions
    known = register(VALUES | first | agreed_on, later, NOW - 400 * DAY)
    for edit in edits:
        edited = register(VALUES | edit | agreed_on, later, NOW, known)
        before = replace(known, timezone=edited.timezone)
        allowed = due_periods(before, later, None, NOW, NOW)
        assert set(due_periods(edited, later, None, NOW, NOW)) <= set(allowed)
        known = edited


def test_coming_back_gives_nobody_anything_before_the_start_or_an_agreed_date() -> None:
    paused = registered(status="paused", now=NOW - 400 * DAY)
    later = registered(paused, started_at="2027-01-01T00:00:00Z")
    assert upcoming_of(later) == "2027-02"
    agreed = registered(status="paused", eligible_from="2027-03-01T00:00:00Z")
    assert upcoming_of(registered(agreed, eligible_from="2027-03-01T00:00:00Z")) == "2027-04"


def test_a_plan_that_left_the_catalogue_does_not_forfeit_what_was_missed_on_it() -> None:
    """Its allocations failed, which was our fault: the move to another plan is no coming back."""
    stranded = replace(registered(now=NOW - 70 * DAY), plan="gold")
    moved = registered(stranded)
    assert moved.resumed_at is None
    assert due_at(moved, Period(2026, 5), NOW) == periods("2026-06", "2026-07")
    # Unless it was paused as well.
    paused = replace(stranded, status=SubscriptionStatus.PAUSED)
    assert registered(paused).resumed_at == NOW


@pytest.mark.parametrize(
    "edit",
    [
        {"email": "ada@home.example"},
        {"timezone": MIDWAY},
        {"plan": "starter"},
        {"plan": "free"},
        {"allocation_amount": 5},
        {"status": "paused"},
        {"status": "cancelled"},
        {"billing_interval": "monthly"},
        {"started_at": "2026-01-01T00:00:00Z"},
    ],
)
def test_any_other_edit_keeps_eligible_from_and_counts_a_version(edit: dict[str, Any]) -> None:
    before = replace(registered(now=NOW - 40 * DAY), version=7)
    after = registered(before, **edit)
    assert after == replace(
        register(VALUES | edit, CATALOGUE, NOW),
        eligible_from=NOW - 40 * DAY,
        registered_at=NOW - 40 * DAY,
        version=8,
    )


def test_an_edit_that_changes_nothing_answers_the_subscription_itself() -> None:
    before = replace(registered(now=NOW - 40 * DAY, allocation_amount=5), version=7)
    assert registered(before, allocation_amount=5) is before
    explicit = before.eligible_from.isoformat()
    assert registered(before, allocation_amount=5, eligible_from=explicit) is before
    assert registered(before, allocation_amount=None) is not before


def test_an_explicit_eligible_from_alone_is_a_change() -> None:
    before = registered(now=NOW - 40 * DAY)
    after = registered(before, eligible_from="2026-01-01T00:00:00Z")
    assert after.eligible_from == at("2026-01-01T00:00:00Z")
    assert after.version == 2


def upcoming_of(subscription: Subscription, now: datetime = NOW) -> str:
    coming = next_allocation(subscription, CATALOGUE, None, now)
    assert coming is not None
    return str(coming.period)


# --- Nobody is given anything for a time without allocations --------------------------------------

LONG_AGO = "2025-03-01T00:00:00Z"


@pytest.mark.parametrize("given", [LONG_AGO, "2025-03-01", None])
@pytest.mark.parametrize("state", STATES_WITHOUT_ALLOCATIONS)
def test_an_eligible_from_that_is_repeated_is_no_decision_however_often(
    state: dict[str, Any], given: str | None
) -> None:
    """As a nightly file does, and a program that reads, changes one field and writes all back."""
    active = registered(now=NOW - 90 * DAY, eligible_from=given)
    for away, back in ((60, 50), (40, 30), (20, 0)):
        gone = registered(active, now=NOW - away * DAY, eligible_from=given, **state)
        for _ in range(2):
            active = registered(gone, now=NOW - back * DAY, eligible_from=given)
            gone = active
        assert active.resumed_at == NOW - back * DAY
    assert due_at(active, Period(2026, 4), NOW) == ()
    assert upcoming_of(active) == "2026-08"


def test_an_eligible_from_that_changes_is_a_decision_and_pays_for_a_pause() -> None:
    paused = registered(now=NOW - 90 * DAY, status="paused", eligible_from=LONG_AGO)
    resumed = registered(paused, now=NOW - DAY, eligible_from=LONG_AGO)
    assert due_at(resumed, Period(2026, 4), NOW) == ()
    decided = registered(resumed, eligible_from="2026-05-31T22:00:00Z")
    assert due_at(decided, Period(2026, 4), NOW) == periods("2026-06", "2026-07")
    # At once with the return, too.
    at_once = registered(paused, eligible_from="2026-05-31T22:00:00Z")
    assert due_at(at_once, Period(2026, 4), NOW) == periods("2026-06", "2026-07")
    # But not when it was decided during the pause: that paid for nothing yet.
    during = registered(paused, now=NOW - DAY, status="paused", eligible_from="2026-05-31")
    assert due_at(registered(during, eligible_from="2026-05-31"), Period(2026, 4), NOW) == ()


def test_a_local_date_is_the_midnight_where_the_user_lives_and_moves_with_them() -> None:
    new = registered(eligible_from="2026-09-01")
    for timezone in ("Europe/Paris", "Asia/Tokyo", MIDWAY):
        moved = registered(new, timezone=timezone, eligible_from="2026-09-01")
        assert upcoming_of(moved) == "2026-09"
        assert moved.resumed_at is None
    # At midnight in UTC, September has begun in Paris and in Tokyo, and not on Midway.
    for timezone, first in (
        ("Europe/Paris", "2026-10"),
        ("Asia/Tokyo", "2026-10"),
        (MIDWAY, "2026-09"),
    ):
        in_utc = registered(timezone=timezone, eligible_from="2026-09-01T00:00:00Z")
        assert upcoming_of(in_utc) == first


def test_a_date_that_is_repeated_after_a_move_is_no_decision() -> None:
    paused = registered(now=NOW - 90 * DAY, status="paused", eligible_from="2025-03-01")
    resumed = registered(paused, now=NOW - DAY, eligible_from="2025-03-01")
    moved = registered(resumed, timezone="Asia/Tokyo", eligible_from="2025-03-01")
    assert moved.resumed_at == NOW - DAY
    again = registered(moved, timezone="Asia/Tokyo", eligible_from="2025-03-01")
    assert again is moved


@pytest.mark.parametrize("blocked_until", ["2062-01-01T00:00:00Z", "2062-01-01"])
def test_eligibility_goes_back_to_the_rules_and_pays_nothing_for_the_time_before(
    blocked_until: str,
) -> None:
    blocked = registered(now=NOW - 90 * DAY, eligible_from=blocked_until)
    assert upcoming_of(blocked) in ("2062-01", "2062-02")
    freed = registered(blocked)
    assert freed.eligible_from == NOW - 90 * DAY
    assert due_at(freed, None, NOW) == ()
    assert upcoming_of(freed) == "2026-08"
    # Who was eligible all the time loses nothing that is still owed.
    early = registered(now=NOW - 90 * DAY, eligible_from=LONG_AGO)
    assert due_at(registered(early), Period(2026, 5), NOW) == periods("2026-06", "2026-07")


def test_no_period_begins_before_the_start_wherever_it_is_moved() -> None:
    new = registered(now=NOW - 90 * DAY)
    later = registered(new, started_at="2026-10-10T00:00:00Z")
    assert upcoming_of(later) == "2026-11"
    assert due_at(later, Period(2026, 4), at("2026-10-31T22:00:00Z")) == ()
    # Back to an earlier one: the next 1st, and nothing for the time in which it lay ahead.
    back = registered(later, now=NOW + DAY)
    assert upcoming_of(back, NOW + DAY) == "2026-08"
    assert due_at(back, Period(2026, 4), NOW + DAY) == ()


def test_a_start_ahead_that_is_moved_to_the_past_is_a_start_now() -> None:
    new = registered(started_at="2027-01-05T00:00:00Z")
    assert upcoming_of(new) == "2027-02"
    moved = registered(new, now=NOW + 40 * DAY, started_at="2026-06-01T00:00:00Z")
    assert due_at(moved, None, NOW + 40 * DAY) == ()
    assert upcoming_of(moved, NOW + 40 * DAY) == "2026-09"


@pytest.mark.parametrize("bound", ["started_at", "eligible_from"])
def test_a_time_before_a_start_that_has_passed_stays_one_whatever_is_said_of_it_now(
    bound: str,
) -> None:
    bounds: dict[str, Any] = {bound: "2026-06-10T00:00:00Z"}
    new = registered(now=NOW - 90 * DAY, **bounds)
    moved = registered(new)
    assert moved.eligible_from == NOW - 90 * DAY
    assert due_at(moved, None, NOW) == periods("2026-07")
    assert due_at(registered(moved, timezone=MIDWAY), None, NOW) == periods("2026-07")


def test_a_date_ahead_that_is_taken_back_pays_nothing_after_an_end_either() -> None:
    """What began before the end could still be due, and was not while the date lay ahead."""
    ended = registered(
        now=NOW - 90 * DAY, ends_at="2026-07-10T00:00:00Z", eligible_from="2026-09-01"
    )
    assert due_at(ended, Period(2026, 5), NOW) == ()
    freed = registered(ended, ends_at="2026-07-10T00:00:00Z")
    assert due_at(freed, Period(2026, 5), NOW) == ()
    assert freed.resumed_at == NOW


def test_an_end_that_was_over_is_no_other_end_in_the_past() -> None:
    ended = registered(now=NOW - 90 * DAY, ends_at="2026-05-15T00:00:00Z")
    assert due_at(ended, None, NOW) == periods("2026-05")
    prolonged = registered(ended, ends_at="2026-06-20T00:00:00Z")
    assert due_at(prolonged, Period(2026, 5), NOW) == ()
    cut = registered(ended, ends_at="2026-05-10T00:00:00Z")
    assert due_at(cut, None, NOW) == periods("2026-05")


def test_to_move_is_not_to_come_back() -> None:
    new = registered(timezone=MIDWAY, eligible_from="2026-08-01")
    arrives = at("2026-07-31T20:00:00Z")
    moved = registered(new, now=arrives, timezone=KIRITIMATI, eligible_from="2026-08-01")
    assert due_at(moved, None, arrives) == periods("2026-08")


def test_an_eligible_from_before_the_start_allocates_nothing_before_the_start() -> None:
    new = registered(started_at="2026-09-15T00:00:00Z", eligible_from="2026-05-01")
    assert due_at(new, None, NOW) == ()
    assert upcoming_of(new) == "2026-10"


def test_no_period_is_due_that_begins_at_the_end_or_after_it() -> None:
    august = at("2026-07-31T22:00:00Z")
    last = registered(now=NOW - 90 * DAY, ends_at="2026-07-31T22:00:00Z")
    assert due_at(last, Period(2026, 5), august) == periods("2026-06", "2026-07")
    assert next_allocation(last, CATALOGUE, Period(2026, 7), NOW) is None
    assert no_allocation_because(last, CATALOGUE, Period(2026, 7), NOW) is NotAllocatedBecause.ENDED
    assert no_allocation_because(last, CATALOGUE, Period(2026, 6), NOW) is None
    reason = not_due_because(last, CATALOGUE, Period(2026, 7), Period(2026, 8), august)
    assert reason is NotDueBecause.ENDED
    a_moment_more = registered(now=NOW - 90 * DAY, ends_at="2026-07-31T22:00:00.001Z")
    assert due_at(a_moment_more, Period(2026, 7), august) == periods("2026-08")


def test_an_end_that_is_put_off_in_time_skips_nothing_and_one_that_was_over_is_a_return() -> None:
    ending = registered(now=NOW - 90 * DAY, ends_at="2026-06-15T00:00:00Z")
    in_time = registered(ending, now=at("2026-06-14T00:00:00Z"), ends_at="2027-06-15T00:00:00Z")
    assert due_at(in_time, Period(2026, 6), NOW) == periods("2026-07")
    too_late = registered(ending, ends_at="2027-06-15T00:00:00Z")
    assert too_late.resumed_at == NOW
    assert due_at(too_late, Period(2026, 6), NOW) == ()
    assert due_at(registered(ending), Period(2026, 6), NOW) == ()


GRANTING_SINCE = parse_catalogue(
    """
    [[plans]]
    id = "pro"
    name = "Pro"
    monthly_credits = 10
    grants_since = 2026-07-01
    lowest = true

    [[plans]]
    id = "soon"
    name = "Soon"
    monthly_credits = 10
    grants_since = 2026-09-02
    """
)


@pytest.mark.parametrize("timezone", ["Europe/Paris", KIRITIMATI, MIDWAY])
def test_a_plan_that_begins_to_grant_grants_nothing_for_the_time_before(timezone: str) -> None:
    subscriber = replace(ADA, timezone=timezone)
    now = at("2026-07-12T00:00:00Z")
    assert due_periods(subscriber, GRANTING_SINCE, None, now, now) == periods("2026-07")
    reason = not_due_because(subscriber, GRANTING_SINCE, None, Period(2026, 6), now)
    assert reason is NotDueBecause.NOT_ELIGIBLE
    # An amount of the own is no plan's.
    own = replace(subscriber, allocation_amount=7)
    assert due_periods(own, GRANTING_SINCE, None, now, now)[-2:] == periods("2026-06", "2026-07")
    soon = next_allocation(replace(subscriber, plan="soon"), GRANTING_SINCE, None, now)
    assert soon is not None
    assert str(soon.period) == "2026-10"


def test_a_plan_that_will_grant_is_a_state_without_allocations() -> None:
    waiting = register(VALUES | {"plan": "soon"}, GRANTING_SINCE, NOW - 90 * DAY)
    moved = register(VALUES, GRANTING_SINCE, NOW, waiting)
    assert moved.resumed_at == NOW
    assert due_periods(moved, GRANTING_SINCE, None, NOW, NOW) == ()


def test_what_has_lapsed_by_the_clock_is_not_due_whatever_moment_is_asked_about() -> None:
    years_ago = at("2025-03-15T00:00:00Z")
    assert due_periods(ADA, CATALOGUE, None, years_ago, JULY_IN_PARIS) == ()
    a_year_ago = at("2025-09-15T00:00:00Z")
    asked = due_periods(ADA, CATALOGUE, None, a_year_ago, JULY_IN_PARIS)
    assert asked == periods("2025-08", "2025-09")


def test_nothing_is_due_ahead_of_the_clock_whatever_moment_is_asked_about() -> None:
    assert due_periods(
        ADA, CATALOGUE, Period(2026, 6), at("2026-12-05T00:00:00Z"), JULY_IN_PARIS
    ) == (periods("2026-07"))


def test_edits_that_were_observed_arrive_in_any_order_and_the_newest_stays() -> None:
    first, second = NOW - 2 * HOUR, NOW - HOUR
    stored = registered(now=NOW - DAY)
    newer = registered(stored, plan="starter", observed_at=second.isoformat())
    assert newer.observed_at == second
    with pytest.raises(OutdatedEdit) as outdated:
        registered(newer, plan="free", observed_at=first.isoformat())
    assert str(outdated.value) == (
        "what is stored of user 42 was observed at 2026-07-12T09:00:00.123Z, after what this edit "
        "reports"
    )
    assert registered(newer, plan="starter", observed_at=second.isoformat()) is newer
    # An edit that says nothing of it is somebody's wish of now.
    unsaid = registered(newer, plan="free")
    assert (unsaid.plan, unsaid.observed_at) == ("free", second)
    # The clock of who observed it may differ by five minutes from ours.
    ahead = NOW + timedelta(minutes=5)
    assert registered(observed_at=ahead.isoformat()).observed_at == ahead
    assert wrong_fields(observed_at=(ahead + MILLISECOND).isoformat()) == (
        FieldError("observed_at", "must not be ahead of the clock"),
    )
    (wrong,) = wrong_fields(observed_at="yesterday")
    assert wrong.field == "observed_at"


def test_every_field_can_be_kept() -> None:
    before = registered(
        now=NOW - DAY,
        eligible_from="2026-08-01",
        ends_at="2027-01-01T00:00:00Z",
        allocation_amount=7,
        notifications=["manual"],
    )
    assert register({"user_id": "42"}, CATALOGUE, NOW, before, kept=FIELDS) is before
    cleared = {"eligible_from": None, "ends_at": None, "allocation_amount": None}
    assert register({"user_id": "42", **cleared}, CATALOGUE, NOW, before, kept=FIELDS) == replace(
        before,
        eligible_from=NOW - DAY,
        resumed_at=NOW,
        ends_at=None,
        allocation_amount=None,
        version=2,
    )


def wrong_fields(**changes: Any) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidInput) as caught:
        registered(**changes)
    return caught.value.errors


def test_all_wrong_fields_are_reported_at_once() -> None:
    errors = wrong_fields(
        user_id="a b",
        email="ada",
        timezone="Europe/Pariss",
        plan="prro",
        billing_interval="weekly",
        status="on hold",
        started_at="yesterday",
        eligible_from="2026-07-01T00:00:00",
        allocation_amount=0,
        colour="red",
    )
    is_no_instant = "must be a date and time written like 2026-07-01T04:00:00Z"
    assert errors == (
        FieldError(
            "user_id",
            "must be 1 to 128 letters, digits and . _ : @ | + = -, or a whole number; is 'a b'",
        ),
        FieldError("email", "must be an email address such as ada@example.com"),
        FieldError("timezone", "unknown timezone 'Europe/Pariss'; did you mean 'Europe/Paris'?"),
        FieldError("plan", "unknown plan 'prro'; did you mean 'pro'?"),
        FieldError("billing_interval", "must be one of monthly, yearly; is 'weekly'"),
        FieldError("status", "must be one of active, paused, cancelled; is 'on hold'"),
        FieldError("started_at", is_no_instant),
        FieldError(
            "eligible_from",
            "has no UTC offset: add Z for UTC, or an offset such as -04:00, at its end; "
            "or a local date written like 2026-07-01",
        ),
        FieldError(
            "allocation_amount", "must be a whole number from 1 to 1,000,000,000; is 0 (int)"
        ),
        FieldError(
            "colour",
            "is not a known field; the fields are allocation_amount, billing_interval, "
            "eligible_from, email, ends_at, language, notifications, observed_at, plan, "
            "started_at, status, timezone, user_id",
        ),
    )


def test_an_own_amount_is_refused_above_the_cap_of_its_plan() -> None:
    wrong = "must be at most 600 on plan 'pro', or null for the plan's own; is 601"
    assert register(VALUES | {"allocation_amount": 600}, CAPPED, NOW).allocation_amount == 600
    with pytest.raises(InvalidInput) as refused:
        register(VALUES | {"allocation_amount": 601}, CAPPED, NOW)
    assert refused.value.errors == (FieldError("allocation_amount", wrong),)
    # An unknown plan has no cap: the plan is what is wrong.
    assert [each.field for each in wrong_fields(plan="prro", allocation_amount=10_001)] == ["plan"]


def test_an_own_amount_from_before_the_cap_stays_through_edits_of_anything_else() -> None:
    before = registered(allocation_amount=700, plan="pro")
    values = VALUES | {"allocation_amount": 700}
    edited = register(values | {"email": "ada@example.org"}, CAPPED, NOW, before)
    assert edited == replace(before, email="ada@example.org", version=2)
    with pytest.raises(InvalidInput, match="allocation_amount: must be at most 600"):
        register(values | {"allocation_amount": 699}, CAPPED, NOW, before)
    elsewhere = replace(before, plan="starter")
    with pytest.raises(InvalidInput, match="allocation_amount: must be at most 600"):
        register(values, CAPPED, NOW, elsewhere)


def test_wrong_values_are_refused_for_an_edit_too() -> None:
    with pytest.raises(InvalidInput, match="timezone: unknown timezone"):
        registered(registered(), timezone="Europe/Pariss")


@pytest.mark.parametrize("field", [field for field in VALUES if field != "email"])
def test_a_subscription_needs_each_of_its_facts(field: str) -> None:
    assert wrong_fields(**{field: None}) == (FieldError(field, "is required"),)


def test_a_subscription_needs_no_address() -> None:
    nameless = registered(email=None)
    assert nameless.email is None
    assert registered(nameless, email="ada@example.com").email == "ada@example.com"
    assert registered(registered(), email=None).email is None


def test_what_is_no_mapping_is_no_subscription() -> None:
    with pytest.raises(InvalidInput, match="subscription: must be an object with named fields"):
        register([VALUES], CATALOGUE, NOW)  # type: ignore[arg-type]


# --- Wishes about emails, and addresses that are not written to -----------------------------------


def test_a_user_without_a_wish_gets_all_emails_and_a_wish_stays_through_edits() -> None:
    assert registered().notifications == ALL_KINDS
    wish = frozenset({MailKind.ALLOCATION})
    chosen = registered(notifications=["allocation"])
    assert chosen.notifications == wish
    assert registered(chosen, plan="starter").notifications == wish
    assert registered(chosen, notifications=[]).notifications == frozenset()


def test_an_address_stays_suppressed_until_there_is_another() -> None:
    bounced = replace(registered(), suppressed=SuppressedBecause.BOUNCE)
    assert registered(bounced, plan="starter").suppressed is SuppressedBecause.BOUNCE
    assert registered(bounced, email="new@example.com").suppressed is None
    other_capitals = registered(bounced, email="ADA@Example.COM")
    assert other_capitals == replace(bounced, email=other_capitals.email, version=2)
    assert without_suppression(bounced, 9) == replace(bounced, suppressed=None, version=9)


@pytest.mark.parametrize("meanwhile", [None, "other@example.com"])
def test_an_address_that_comes_back_is_suppressed_as_it_was_left(meanwhile: str | None) -> None:
    bounced = suppress(registered(), "ada@example.com", SuppressedBecause.BOUNCE)
    away = registered(bounced, email=meanwhile)
    assert away.suppressed is None
    assert away.suppressed_before is not None
    assert "ada" not in away.suppressed_before.address_digest
    # Whatever else is edited meanwhile, it is remembered.
    away = registered(away, email=meanwhile, plan="starter")
    back = registered(away, email="ADA@Example.com")
    assert back.suppressed is SuppressedBecause.BOUNCE
    assert registered(away, email="third@example.com").suppressed is None
    # An admin lifts it for good.
    lifted = without_suppression(back, 9)
    gone = registered(lifted, email=meanwhile)
    assert registered(gone).suppressed is None


def test_a_kind_of_email_can_be_declined_or_all_of_them_once() -> None:
    without_one = without_mails(ADA, MailKind.MANUAL)
    assert without_one == replace(ADA, notifications=ALL_KINDS - {MailKind.MANUAL}, version=2)
    assert without_mails(without_one, MailKind.MANUAL) is without_one
    without_any = without_mails(without_one, None)
    assert without_any == replace(ADA, notifications=frozenset(), version=3)
    assert without_mails(without_any, None) is without_any


def test_the_address_that_bounced_is_suppressed_and_no_other() -> None:
    bounced = suppress(ADA, "ADA@Example.com", SuppressedBecause.BOUNCE)
    assert bounced == replace(ADA, suppressed=SuppressedBecause.BOUNCE, version=2)
    assert suppress(bounced, "ada@example.com", SuppressedBecause.BOUNCE) is bounced
    complained = suppress(bounced, "ada@example.com", SuppressedBecause.COMPLAINT)
    assert complained == replace(bounced, suppressed=SuppressedBecause.COMPLAINT, version=3)
    assert suppress(ADA, "old@example.com", SuppressedBecause.BOUNCE) is ADA
    unknown = replace(ADA, email=None)
    assert suppress(unknown, "ada@example.com", SuppressedBecause.BOUNCE) is unknown


@pytest.mark.parametrize(
    ("wishes", "field", "message"),
    [
        (
            "manual",
            "notifications",
            (
                "must be a list of the kinds of emails wanted: "
                "allocation, expiration, expiring_soon, manual, purchase, refund, low_balance"
            ),
        ),
        (
            ["manual", "all"],
            "notifications[1]",
            (
                "must be one of allocation, expiration, expiring_soon, manual, purchase, "
                "refund, low_balance; is 'all'"
            ),
        ),
    ],
)
def test_what_is_no_list_of_kinds_of_emails_is_refused_with_the_kinds(
    wishes: object, field: str, message: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        registered(notifications=wishes)
    assert refused.value.errors == (FieldError(field, message),)


def test_the_codes_that_others_store_and_compare_stay_as_they_are() -> None:
    assert [str(each) for each in SuppressedBecause] == ["bounce", "complaint"]
    assert [str(each) for each in NotDueBecause] == [
        "allocated_before",
        "not_begun",
        "not_eligible",
        "subscription_ended",
        "lapsed",
    ]
    assert [str(each) for each in NotAllocatedBecause] == [
        "subscription_paused",
        "subscription_cancelled",
        "billed_monthly",
        "billed_yearly",
        "plan_grants_nothing",
        "plan_unknown",
        "timezone_unknown",
        "subscription_ended",
    ]


def test_people_are_told_these_words_of_an_end_or_of_a_timezone_that_is_gone() -> None:
    gone = NotAllocatedBecause.TIMEZONE_UNKNOWN
    assert gone.words == "The timezone is no longer in the database of timezones."
    ended = NotAllocatedBecause.ENDED
    assert ended.words == "The subscription ends before the next allocation."
    assert NotDueBecause.ENDED.words == "The subscription ends before the period begins."


def test_the_codes_are_these_for_good() -> None:
    """Clients decide by them."""
    states = ("subscription_paused", "subscription_cancelled", "billed_monthly", "billed_yearly")
    plans = ("plan_grants_nothing", "plan_unknown", "timezone_unknown", "subscription_ended")
    assert [*NotAllocatedBecause] == [*states, *plans]
    period = ["allocated_before", "not_begun", "not_eligible", "subscription_ended", "lapsed"]
    assert [*NotDueBecause] == period
