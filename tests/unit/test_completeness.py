"""The monthly count's rules: who was due, who was left out, and how parts add up."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import MOST_NAMED, Tally, tally_of
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import Subscription, SubscriptionStatus
from chalicelib.plans_file import parse_catalogue

CATALOGUE = parse_catalogue(
    '[[plans]]\nid = "pro"\nname = "Pro"\nmonthly_credits = 500\nlowest = true\n'
)
FEBRUARY, MARCH = Period(2026, 2), Period(2026, 3)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATE = 28 * 24 * 3600
"""How late February's credits are now, in seconds."""
ADA = Subscription(
    user_id="ada",
    email=None,
    timezone="UTC",
    plan="pro",
    billing_interval=BillingInterval.YEARLY,
    status=SubscriptionStatus.ACTIVE,
    started_at=datetime(2025, 1, 1, tzinfo=UTC),
    eligible_from=datetime(2026, 2, 1, tzinfo=UTC),
)


def allocated(period: Period, before: LedgerEntry | None = None) -> LedgerEntry:
    return ledger.allocate(Account("ada", before), period, 500, "UTC", None, NOW)


def granted(before: LedgerEntry | None = None) -> LedgerEntry:
    return ledger.grant(Account("ada", before), 5, Request("m#1", "a", "b"), NOW, "UTC", None)


def tally(*entries: LedgerEntry, subscription: Subscription = ADA, now: datetime = NOW) -> Tally:
    """What the count for February makes of these entries, newest first."""
    return tally_of(subscription, CATALOGUE, FEBRUARY, entries, now)


def test_a_month_that_has_lapsed_is_due_to_nobody_any_more() -> None:
    in_a_year = datetime(2027, 1, 31, tzinfo=UTC)
    assert tally(now=in_a_year) == Tally(due=1, missing=1, missing_users=("ada",))
    assert tally(now=in_a_year + timedelta(days=1)) == Tally()
    assert tally(allocated(FEBRUARY), now=in_a_year + timedelta(days=1)) == Tally(
        1, 1, lateness_seconds=LATE
    )


def test_a_user_who_was_due_and_has_the_months_allocation_is_allocated() -> None:
    first, done = allocated(FEBRUARY), Tally(due=1, allocated=1, lateness_seconds=LATE)
    assert tally(first) == done
    assert tally(granted(first), first) == done
    assert tally(allocated(MARCH, first), first) == done


def test_a_user_who_was_due_and_has_no_allocation_is_missing() -> None:
    missing = Tally(due=1, missing=1, missing_users=("ada",))
    assert tally() == missing
    assert tally(granted()) == missing
    january = allocated(Period(2026, 1))
    # The first of February is the very instant from which Ada is eligible.
    assert tally(granted(january), january) == missing


def test_a_user_allocated_a_later_month_or_not_eligible_yet_was_not_due() -> None:
    assert tally(allocated(MARCH)) == Tally()
    later = replace(ADA, eligible_from=datetime(2026, 2, 1, 0, 0, 1, tzinfo=UTC))
    assert tally(subscription=later) == Tally()
    assert tally(subscription=replace(ADA, status=SubscriptionStatus.PAUSED)) == Tally()


def test_a_user_allocated_a_month_twice_is_a_duplicate_and_counts_once() -> None:
    once = allocated(FEBRUARY)
    twice = replace(once, number=2, posted_at=NOW + timedelta(days=1))
    expected = Tally(1, 1, duplicate=1, duplicate_users=("ada",), lateness_seconds=LATE)
    assert tally(twice, once) == expected


def test_an_allocation_is_as_late_as_it_was_posted_after_its_month_began() -> None:
    begins = datetime(2026, 2, 1, tzinfo=UTC)
    for late, seconds in ((0, 0), (999, 0), (1_000, 1), (90_500, 90)):
        first = replace(allocated(FEBRUARY), posted_at=begins + timedelta(milliseconds=late))
        assert tally(first).lateness_seconds == seconds


def test_a_plan_that_has_left_the_catalogue_cannot_be_judged() -> None:
    with pytest.raises(InvalidInput, match="plan: unknown plan 'gone'"):
        tally(subscription=replace(ADA, plan="gone"))


def test_parts_add_up_and_name_the_first_twenty_users_of_each_kind() -> None:
    one = Tally(1, 2, 3, 4, 5, ("a",), ("b",), ("c",), 7)
    other = Tally(10, 20, 30, 40, 50, ("d",), ("e",), ("f",), 6)
    both = Tally(11, 22, 33, 44, 55, ("a", "d"), ("b", "e"), ("c", "f"), 7)
    assert one + other == both
    assert (other + one).lateness_seconds == 7

    many = tuple(str(number) for number in range(MOST_NAMED))
    full = Tally(missing_users=many, duplicate_users=many, unchecked_users=many)
    assert full + one == replace(
        one, missing_users=many, duplicate_users=many, unchecked_users=many
    )


@pytest.mark.parametrize("wrong", ["missing", "duplicate", "unchecked"])
def test_a_month_is_complete_when_nobody_is_missing_twice_or_unchecked(wrong: str) -> None:
    assert Tally(due=1, allocated=1).is_complete
    found: dict[str, Any] = {wrong: 1}
    assert not Tally(**found).is_complete


def test_a_tally_survives_being_written_and_read() -> None:
    tally = Tally(1, 2, 3, 4, 5, ("a",), ("b",), ("c",), 6)
    written = tally.values()
    assert written == {
        "due": 1,
        "allocated": 2,
        "missing": 3,
        "duplicate": 4,
        "unchecked": 5,
        "missing_users": ("a",),
        "duplicate_users": ("b",),
        "unchecked_users": ("c",),
        "lateness_seconds": 6,
    }
    read = {name: list(value) if type(value) is tuple else value for name, value in written.items()}
    assert Tally.parse("tally", read) == tally
    before_lateness = {name: value for name, value in read.items() if name != "lateness_seconds"}
    assert Tally.parse("tally", before_lateness) == replace(tally, lateness_seconds=0)
    most = [str(number) for number in range(MOST_NAMED)]
    assert Tally.parse("tally", {**read, "missing_users": most}).missing_users == tuple(most)
    assert Tally.parse("tally", {**read, "due": 0}).due == 0
    for name in before_lateness:
        with pytest.raises(InvalidInput, match=f"^{name}: is required"):
            Tally.parse("tally", {**read, name: None})


def test_a_duplicate_is_counted_as_it_is_read() -> None:
    once = allocated(FEBRUARY)
    found = tally(replace(once, number=2), once)
    assert type(found.values()["duplicate"]) is int


def test_of_many_who_could_not_be_judged_the_first_twenty_are_named() -> None:
    users = [str(number) for number in range(MOST_NAMED + 1)]
    found = Tally.unchecked_of(*users)
    assert (found.unchecked, found.unchecked_users) == (21, tuple(users[:20]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"due": -1}, "due: must be a whole number of 0 or more"),
        ({"missing": 1.0}, "missing: must be a whole number of 0 or more"),
        ({"unchecked": True}, "unchecked: must be a whole number of 0 or more"),
        ({"allocated": None}, "allocated: is required"),
        ({"missing_users": "a"}, "missing_users: must be a list of at most 20 user ids"),
        (
            {"duplicate_users": [str(number) for number in range(MOST_NAMED + 1)]},
            "duplicate_users: must be a list of at most 20 user ids",
        ),
        ({"unchecked_users": ["a", ""]}, "unchecked_users[1]: must be 1 to"),
        ({"lateness_seconds": -1}, "lateness_seconds: must be a whole number of 0 or more"),
        ({"more": 1}, "more: is not a known field"),
    ],
)
def test_what_no_tally_has_written_is_refused(change: dict[str, Any], message: str) -> None:
    written = {name: list(v) if type(v) is tuple else v for name, v in Tally().values().items()}
    with pytest.raises(InvalidInput) as refused:
        Tally.parse("tally", {**written, **change})
    assert str(refused.value).startswith(message)
    with pytest.raises(InvalidInput, match=r"^tally: must be an object"):
        Tally.parse("tally", None)
