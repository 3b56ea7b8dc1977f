"""Periods that begin on the user's own day of the month, and credits that live some months.

The second way to find that day walks through the dates one after the other, and shares nothing with
the calendar; that to find its midnight reads the zone files' bytes.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import calendar, ledger, lifetimes
from chalicelib.domain.calendar import Period, period_at, period_start
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days, Months
from chalicelib.domain.plans import AllocateOn, BillingInterval, Plan, PlanCatalogue
from chalicelib.domain.subscriptions import (
    NextAllocation,
    NotDueBecause,
    Subscription,
    SubscriptionStatus,
    due_periods,
    lifetime_of,
    next_allocation,
    not_due_because,
    periods_of,
)
from chalicelib.domain.terms import Terms, successor
from tests.zones.comparison import anniversaries
from tests.zones.oracles import FIRST, midnights_of, stretches_of, zone_path

PARIS = "Europe/Paris"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

CATALOGUE = PlanCatalogue(
    (
        Plan("first", "First", 100, Months(1), lowest=True),
        Plan("own", "Own", 100, Months(1), lowest=False, allocate_on=AllocateOn.ANNIVERSARY),
        Plan("days", "Days", 100, Days(30), lowest=False, allocate_on=AllocateOn.ANNIVERSARY),
    )
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def paris(text: str) -> datetime:
    """The midnight of a date in Paris."""
    return calendar.midnight(PARIS, date.fromisoformat(text))


ADA = Subscription(
    user_id="42",
    email=None,
    timezone=PARIS,
    plan="own",
    billing_interval=BillingInterval.YEARLY,
    status=SubscriptionStatus.ACTIVE,
    started_at=at("2025-01-31T10:00:00Z"),
    eligible_from=at("2025-01-31T10:00:00Z"),
    registered_at=at("2025-01-31T10:00:00Z"),
)
ON_THE_15TH = replace(
    ADA, started_at=at("2025-01-15T10:00:00Z"), eligible_from=at("2025-01-15T10:00:00Z")
)


def due(subscription: Subscription, now: datetime, through: str | None = None) -> list[str]:
    allocated = Period.parse(through) if through else None
    return [str(period) for period in due_periods(subscription, CATALOGUE, allocated, now, now)]


# --- The days -----------------------------------------------------------------------------------


@pytest.mark.parametrize("day", [28, 29, 30, 31])
@pytest.mark.parametrize(
    "name", ["America/Havana", "America/St_Johns", "Asia/Amman", "Pacific/Apia", "UTC", PARIS]
)
def test_an_anniversary_is_the_midnight_of_its_day_or_of_the_last_of_a_shorter_month(
    name: str, day: int
) -> None:
    dates = [date for date in anniversaries(day) if date.year >= 2000]
    midnights = midnights_of(
        stretches_of(zone_path(name).read_bytes()), [(date - FIRST).days for date in dates]
    )
    assert len(dates) == 51 * 12
    for found, second in zip(dates, midnights, strict=True):
        start = EPOCH + second * SECOND
        period = Period.of(found)
        assert period_start(name, period, day) == start
        assert period_at(name, start, day) == period
        assert period_at(name, start - SECOND, day) == period.previous()


def test_the_31st_clamps_to_the_end_of_a_month_and_comes_back() -> None:
    dates = [str(Period(2028, month).date_of(31)) for month in (1, 2, 3, 4, 5)]
    assert dates == ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"]
    assert Period(2026, 2).date_of(29) == date(2026, 2, 28)


zones = st.sampled_from(calendar.zone_names())
moments = st.integers(0, 40 * 366 * 86_400).map(
    lambda later: at("2000-01-01T00:00:00Z") + later * SECOND
)
few = settings(max_examples=300, deadline=None, derandomize=True)


@few
@given(zones, moments, st.integers(1, 31))
def test_every_instant_lies_in_exactly_one_period_of_each_day(
    name: str, moment: datetime, day: int
) -> None:
    period = period_at(name, moment, day)
    assert period_start(name, period, day) <= moment < period_start(name, period.next(), day)


def test_the_day_is_that_of_the_start_where_the_user_lives() -> None:
    late = replace(ADA, started_at=at("2026-05-14T23:30:00Z"))
    assert periods_of(late, CATALOGUE).day == 15
    assert periods_of(replace(late, timezone="America/New_York"), CATALOGUE).day == 14
    assert periods_of(replace(late, plan="first"), CATALOGUE) == (PARIS, 1)
    assert periods_of(replace(late, plan="gone"), CATALOGUE) == (PARIS, 1)
    assert periods_of(replace(late, timezone="Gone/Zone"), CATALOGUE) == ("UTC", 14)


# --- What is due --------------------------------------------------------------------------------


def test_a_period_is_due_from_the_midnight_of_its_own_day_on() -> None:
    start = paris("2026-04-30")
    assert due(ADA, start - SECOND, "2026-03") == []
    assert due(ADA, start, "2026-03") == ["2026-04"]
    assert due(ADA, start, "2026-04") == []
    assert due(ADA, paris("2026-05-31"), "2026-04") == ["2026-05"]
    upcoming = NextAllocation(Period(2026, 4), date(2026, 4, 30), start, 100)
    assert next_allocation(ADA, CATALOGUE, Period(2026, 3), start - HOUR) == upcoming
    because = not_due_because(ADA, CATALOGUE, Period(2026, 3), Period(2026, 4), start - SECOND)
    assert because is NotDueBecause.NOT_BEGUN


def test_of_missed_periods_the_latest_twelve_that_have_begun_are_due() -> None:
    now = paris("2026-07-30")
    assert due(ADA, now)[0] == "2025-07"
    assert due(ADA, now)[-1] == "2026-06"
    assert len(due(ADA, now)) == len(due(ADA, now + DAY)) == 12
    assert due(ADA, now + DAY)[-1] == "2026-07"


def test_the_first_anniversary_is_that_after_the_start() -> None:
    """The day of the start itself began before: a subscription of noon waits for the next month."""
    assert due(ADA, paris("2025-02-28") - SECOND) == []
    assert due(ADA, paris("2025-02-28")) == ["2025-02"]
    at_midnight = replace(ADA, started_at=paris("2025-01-31"), eligible_from=paris("2025-01-31"))
    assert due(at_midnight, paris("2025-01-31")) == ["2025-01"]


# --- A day that changes -------------------------------------------------------------------------


def days_of(subscription: Subscription) -> Iterator[Subscription]:
    """The same user under another plan, start or zone: the day of the month moves."""
    yield replace(subscription, plan="first")
    for day in (1, 5, 15, 28, 31):
        yield replace(subscription, plan="own", started_at=at(f"2025-01-{day:02}T10:00:00Z"))
    yield replace(subscription, plan="own", timezone="Pacific/Kiritimati")


def test_whatever_moves_the_day_from_month_to_month_no_period_is_repeated_or_skipped() -> None:
    """Each day of two years somebody is asked for; the day moves every eleventh."""
    users = list(days_of(ON_THE_15TH))
    through: Period | None = None
    granted: list[Period] = []
    now = paris("2025-03-01")
    for number in range(730):
        user = users[number // 11 % len(users)]
        for period in due_periods(user, CATALOGUE, through, now, now):
            granted.append(period)
            through = period
        now += DAY
    first = granted[0]
    assert granted == [first.plus(months) for months in range(len(granted))]
    assert len(granted) in (23, 24, 25)


def edited(subscription: Subscription, now: datetime, **changes: object) -> Subscription:
    terms = replace(Terms.of(subscription), **changes)  # type: ignore[arg-type]  # of any field
    return successor(subscription, terms, CATALOGUE, now)


BACK = at("2026-07-10T12:00:00Z")
PAUSED_ON_THE_5TH = replace(
    ON_THE_15TH,
    status=SubscriptionStatus.PAUSED,
    started_at=at("2025-01-05T10:00:00Z"),
    eligible_from=at("2025-01-05T10:00:00Z"),
)
CAME_BACK = edited(PAUSED_ON_THE_5TH, BACK, status=SubscriptionStatus.ACTIVE)
"""Paused on the 5th of July, which was their day; back on the 10th."""


def test_a_month_that_began_in_a_pause_is_not_due_because_its_day_moves_behind_the_pause() -> None:
    assert due(CAME_BACK, paris("2026-08-05") - SECOND, "2026-06") == []
    now = at("2026-07-20T12:00:00Z")
    moved = edited(CAME_BACK, now, started_at=at("2025-01-15T10:00:00Z"))
    assert periods_of(moved, CATALOGUE).day == 15
    assert due(moved, now, "2026-06") == []
    assert due(moved, paris("2026-08-15"), "2026-06") == ["2026-08"]


def test_a_month_that_is_still_to_begin_on_the_new_day_is_given() -> None:
    moved = edited(CAME_BACK, BACK + HOUR, started_at=at("2025-01-15T10:00:00Z"))
    assert due(moved, paris("2026-07-15"), "2026-06") == ["2026-07"]
    assert moved.resumed_at == BACK
    # Also if it begins at this very instant.
    at_once = edited(CAME_BACK, paris("2026-07-15"), started_at=at("2025-01-15T10:00:00Z"))
    assert due(at_once, paris("2026-07-15"), "2026-06") == ["2026-07"]


def test_a_month_that_would_begin_at_the_end_of_the_pause_it_was_missed_in_is_not_due() -> None:
    back = edited(PAUSED_ON_THE_5TH, paris("2026-07-15"), status=SubscriptionStatus.ACTIVE)
    now = at("2026-07-20T12:00:00Z")
    moved = edited(back, now, started_at=at("2025-01-15T10:00:00Z"))
    assert due(moved, now, "2026-06") == []


def test_the_month_after_the_one_that_was_missed_is_due_when_the_day_moves() -> None:
    now = at("2026-08-20T12:00:00Z")
    moved = edited(CAME_BACK, now, started_at=at("2025-01-15T10:00:00Z"))
    assert due(moved, now, "2026-06") == ["2026-08"]


def test_a_month_from_whose_start_on_somebody_is_eligible_stays_due_when_the_day_moves() -> None:
    user = replace(ADA, plan="first", eligible_from=date(2026, 7, 1))
    now = at("2026-07-20T12:00:00Z")
    assert due(user, now) == ["2026-07"]
    moved = edited(user, now, plan="own", started_at=at("2025-01-15T10:00:00Z"))
    assert due(moved, now) == ["2026-07"]


def test_a_date_that_is_taken_out_while_the_day_moves_back_pays_for_nothing_before_it() -> None:
    on_the_20th = replace(
        ADA, started_at=at("2025-01-20T10:00:00Z"), eligible_from=date(2026, 7, 10)
    )
    now = at("2026-07-21T12:00:00Z")
    moved = edited(on_the_20th, now, started_at=at("2025-01-05T10:00:00Z"), eligible_from=None)
    assert due(moved, now) == []


def test_a_move_west_over_a_month_that_began_in_a_pause_gives_it_where_it_begins_after_it() -> None:
    """As it does where periods begin on the 1st: the day of the month stays."""
    paused = replace(ADA, plan="first", status=SubscriptionStatus.PAUSED)
    back = edited(paused, at("2026-07-01T05:00:00Z"), status=SubscriptionStatus.ACTIVE)
    now = at("2026-07-02T12:00:00Z")
    assert due(back, now, "2026-06") == []
    moved = edited(back, now, timezone="Pacific/Midway")
    assert due(moved, now, "2026-06") == ["2026-07"]


def test_a_month_that_begins_where_somebody_arrives_is_due_though_the_day_moves_with_them() -> None:
    """On Midway it is the 14th, and their month begins on the 15th; in Kiritimati the 16th."""
    user = replace(
        ADA,
        timezone="Pacific/Midway",
        started_at=at("2025-01-15T12:00:00Z"),
        eligible_from=date(2026, 7, 16),
    )
    now = at("2026-07-15T10:30:00Z")
    arrived = edited(user, now, timezone="Pacific/Kiritimati")
    assert [periods_of(each, CATALOGUE).day for each in (user, arrived)] == [15, 16]
    assert due(arrived, now) == ["2026-07"]


def test_what_we_missed_stays_due_when_the_day_moves() -> None:
    """Nobody swept in June and July: both are owed, before the edit and after it."""
    now = at("2026-07-20T12:00:00Z")
    assert due(ON_THE_15TH, now, "2026-05") == ["2026-06", "2026-07"]
    for day in (1, 10, 20):
        moved = edited(ON_THE_15TH, now, started_at=at(f"2025-01-{day:02}T10:00:00Z"))
        assert due(moved, now, "2026-05") == ["2026-06", "2026-07"]
        assert moved.resumed_at is None
    assert due(edited(ON_THE_15TH, now, plan="first"), now, "2026-05") == ["2026-06", "2026-07"]
    later = edited(ON_THE_15TH, now, started_at=at("2025-01-25T10:00:00Z"))
    assert due(later, now, "2026-05") == ["2026-06"]
    assert due(later, paris("2026-07-25"), "2026-06") == ["2026-07"]


def test_a_start_in_mid_month_that_is_moved_back_pays_for_nothing_before_it() -> None:
    """Registered and started on the 5th, in the morning: the first period is August."""
    registered = at("2026-07-05T08:00:00Z")
    user = replace(
        ADA, started_at=registered, eligible_from=at("2025-01-01T00:00:00Z"), registered_at=None
    )
    now = at("2026-07-20T12:00:00Z")
    assert due(user, now) == []
    for start in ("2026-06-15T00:00:00Z", "2026-06-03T00:00:00Z", "2025-06-19T00:00:00Z"):
        moved = edited(user, now, started_at=at(start))
        assert due(moved, now) == [], start


# --- Lifetimes ----------------------------------------------------------------------------------


def test_credits_of_one_month_die_when_the_next_period_begins_and_of_two_a_month_later() -> None:
    granted = paris("2026-01-31")
    ends = [lifetimes.expires_at(Months(n, day=31), PARIS, granted) for n in (1, 2, 3, 14)]
    assert ends == [paris(day) for day in ("2026-02-28", "2026-03-31", "2026-04-30", "2027-03-31")]
    assert lifetimes.expires_at(Months(1), PARIS, paris("2026-03-01")) == paris("2026-04-01")
    assert lifetimes.expires_at(Days(30), PARIS, paris("2026-05-01")) == paris("2026-05-31")
    assert lifetimes.expires_at(None, PARIS, granted) is None


def test_in_the_middle_of_a_period_the_rest_of_it_is_the_first_month() -> None:
    for moment in (paris("2026-02-28"), at("2026-03-12T10:00:00Z"), paris("2026-03-31") - SECOND):
        assert lifetimes.expires_at(Months(1, day=31), PARIS, moment) == paris("2026-03-31")


@few
@given(zones, moments, st.integers(1, 120), st.integers(1, 31))
def test_credits_of_some_months_live_into_the_future_and_die_at_a_midnight(
    name: str, moment: datetime, months: int, day: int
) -> None:
    end = lifetimes.expires_at(Months(months, day), name, moment)
    assert end is not None
    assert end > moment
    assert calendar.day_start(name, end) == end
    assert (
        len(
            [
                1
                for n in range(1, months + 1)
                if moment < period_start(name, period_at(name, moment, day).plus(n), day) <= end
            ]
        )
        == months
    )


def test_a_lifetime_of_no_months_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^a lifetime is 1 month or more, not 0$"):
        Months(0)


def test_the_lifetime_of_a_plan_goes_by_the_users_own_day() -> None:
    assert lifetime_of(ADA, CATALOGUE) == Months(1, day=31)
    assert lifetime_of(replace(ADA, plan="first"), CATALOGUE) == Months(1)
    assert lifetime_of(replace(ADA, plan="days"), CATALOGUE) == Days(30)


def test_an_allocation_in_time_lives_from_its_start_to_the_next() -> None:
    start = paris("2026-04-30")
    lifetime = Months(1, day=31)
    entry = ledger.allocate(
        Account("42"), Period(2026, 4), 100, PARIS, lifetime, start + HOUR, day=31
    )
    (batch,) = entry.batches
    assert entry.effective_at == batch.granted_at == start
    assert batch.expires_at == paris("2026-05-31")


def test_a_late_allocation_lives_as_if_it_were_of_the_period_that_is_running() -> None:
    """What we missed for months is not dead when it comes at last."""
    now = at("2026-07-20T12:00:00Z")
    account = Account("42")
    for month in (5, 6, 7):
        entry = ledger.allocate(
            account, Period(2026, month), 100, PARIS, Months(1, day=15), now, day=15
        )
        assert entry.effective_at == paris(f"2026-{month:02}-15")
        assert entry.batches[-1].granted_at == paris("2026-07-20")
        assert entry.batches[-1].expires_at == paris("2026-08-15")
        account = Account("42", entry)


def test_a_grant_by_hand_lives_to_the_start_of_the_users_next_period() -> None:
    request = Request("manual#ada#1", "ada", "Goodwill")
    now = at("2026-07-20T12:00:00Z")
    entry = ledger.grant(Account("42"), 5, request, now, PARIS, Months(1, day=15))
    assert entry.batches[0].expires_at == paris("2026-08-15")
