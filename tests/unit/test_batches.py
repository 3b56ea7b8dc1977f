"""Credit batches: until when they are usable, in which order they are spent, how credits return."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.batches import (
    Batches,
    CreditBatch,
    Leg,
    Legs,
    Source,
    burn_down,
    in_burn_down_order,
    move,
    returned,
)
from chalicelib.domain.holds import available, dead, spendable

NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
DAY = timedelta(days=1)


def a_batch(
    number: int,
    remaining: int,
    *,
    granted: int | None = None,
    granted_at: datetime = NOW - DAY,
    expires_at: datetime | None = None,
) -> CreditBatch:
    return CreditBatch(
        number, remaining if granted is None else granted, remaining, granted_at, expires_at
    )


def remaining(batches: Batches) -> dict[int, int]:
    return {batch.number: batch.remaining for batch in batches}


# --- Usable or expired --------------------------------------------------------------------------


def test_a_batch_is_usable_until_the_millisecond_before_it_expires() -> None:
    batch = a_batch(1, 10, expires_at=NOW)
    assert batch.is_usable(NOW - DAY)
    assert batch.is_usable(NOW - MILLISECOND)
    assert not batch.is_usable(NOW)
    assert not batch.is_usable(NOW + MILLISECOND)


def test_a_batch_without_expiry_is_always_usable() -> None:
    assert a_batch(1, 10).is_usable(datetime.max.replace(tzinfo=UTC))


def test_available_is_what_usable_batches_hold_and_expired_are_the_others() -> None:
    batches = (
        a_batch(1, 5, expires_at=NOW),
        a_batch(2, 7, expires_at=NOW + MILLISECOND),
        a_batch(3, 11),
        a_batch(4, 13, expires_at=NOW - DAY),
    )
    assert available(batches, (), NOW) == 7 + 11
    assert dead(batches, (), NOW) == (Leg(1, 5), Leg(4, 13))
    assert available((), (), NOW) == 0
    assert dead((), (), NOW) == ()


# --- First in, first out ------------------------------------------------------------------------


def test_batches_are_ordered_by_the_time_of_their_grant_and_then_by_number() -> None:
    late = a_batch(1, 1, granted_at=NOW)
    tenth = a_batch(10, 1, granted_at=NOW - MILLISECOND, expires_at=NOW + DAY)
    second = a_batch(2, 9, granted_at=NOW - MILLISECOND)
    early = a_batch(11, 1, granted_at=NOW - DAY)
    assert in_burn_down_order([late, tenth, second, early]) == (early, second, tenth, late)


@pytest.mark.parametrize(
    ("amount", "legs"),
    [
        (1, (Leg(1, -1),)),
        (9, (Leg(1, -9),)),
        (10, (Leg(1, -10),)),
        (11, (Leg(1, -10), Leg(3, -1))),
        (30, (Leg(1, -10), Leg(3, -20))),
        (31, (Leg(1, -10), Leg(3, -20), Leg(4, -1))),
        (60, (Leg(1, -10), Leg(3, -20), Leg(4, -30))),
        (0, ()),
    ],
)
def test_credits_are_taken_batch_by_batch_and_expired_ones_are_passed_over(
    amount: int, legs: Legs
) -> None:
    batches = (
        a_batch(1, 10, granted=15),
        a_batch(2, 100, expires_at=NOW),
        a_batch(3, 20, expires_at=NOW + MILLISECOND),
        a_batch(4, 30),
    )
    assert burn_down(spendable(batches, (), NOW), amount) == legs


def test_a_usage_can_go_over_ten_batches() -> None:
    batches = tuple(a_batch(number, number) for number in range(1, 11))
    assert burn_down(spendable(batches, (), NOW), 55) == tuple(
        Leg(number, -number) for number in range(1, 11)
    )
    assert burn_down(spendable(batches, (), NOW), 46)[-1] == Leg(10, -1)
    assert len(burn_down(spendable(batches, (), NOW), 45)) == 9


def test_more_than_the_usable_batches_hold_is_never_taken() -> None:
    batches = (a_batch(1, 10), a_batch(2, 100, expires_at=NOW))
    with pytest.raises(ValueError, match=r"^2 of 12 credits are not covered$"):
        burn_down(spendable(batches, (), NOW), 12)


# --- Moving credits -----------------------------------------------------------------------------


def test_moving_changes_the_batches_named_and_closes_emptied_ones() -> None:
    batches = (a_batch(1, 10), a_batch(2, 20, granted=30), a_batch(3, 5))
    after = move(batches, (Leg(1, -10), Leg(2, -1)))
    assert after == (a_batch(2, 19, granted=30), batches[2])
    assert move(batches, (Leg(2, 10),)) == (batches[0], a_batch(2, 30), batches[2])
    assert move(batches, ()) == batches


def test_a_closed_batch_is_reopened_in_its_place_with_what_is_given_to_it() -> None:
    first = a_batch(1, 10, granted_at=NOW - 2 * DAY, expires_at=NOW + DAY)
    second = a_batch(2, 20)
    after = move((second,), (Leg(1, 4),), known=(first, second))
    assert after == (
        a_batch(1, 4, granted=10, granted_at=NOW - 2 * DAY, expires_at=NOW + DAY),
        second,
    )


def test_a_batch_that_is_open_counts_and_not_what_is_known_of_it_from_before() -> None:
    before = a_batch(1, 10)
    now = a_batch(1, 3, granted=10)
    assert remaining(move((now,), (Leg(1, 2),), known=(before,))) == {1: 5}


def test_a_known_batch_that_nothing_is_given_to_stays_closed() -> None:
    assert move((), (), known=(a_batch(1, 10),)) == ()


@pytest.mark.parametrize(
    ("amount", "would_hold"), [(-4, -1), (8, 11)], ids=["less than nothing", "more than granted"]
)
def test_a_batch_can_never_hold_less_than_nothing_or_more_than_was_granted(
    amount: int, would_hold: int
) -> None:
    batches = (a_batch(1, 3, granted=10),)
    with pytest.raises(ValueError, match=rf"^batch 1 would hold {would_hold} of 10$"):
        move(batches, (Leg(1, amount),))
    assert remaining(move(batches, (Leg(1, -3),))) == {}
    assert remaining(move(batches, (Leg(1, 7),))) == {1: 10}


def test_a_leg_to_a_batch_that_nobody_knows_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        move((a_batch(1, 3),), (Leg(2, 1),))


# --- Giving back --------------------------------------------------------------------------------

SPENT: Legs = (Leg(1, -3), Leg(2, -4), Leg(5, -3))


@pytest.mark.parametrize(
    ("skip", "amount", "legs"),
    [
        (0, 10, (Leg(5, 3), Leg(2, 4), Leg(1, 3))),
        (0, 1, (Leg(5, 1),)),
        (0, 3, (Leg(5, 3),)),
        (0, 4, (Leg(5, 3), Leg(2, 1))),
        (1, 2, (Leg(5, 2),)),
        (1, 3, (Leg(5, 2), Leg(2, 1))),
        (3, 1, (Leg(2, 1),)),
        (4, 6, (Leg(2, 3), Leg(1, 3))),
        (9, 1, (Leg(1, 1),)),
        (10, 0, ()),
        (0, 0, ()),
    ],
)
def test_what_was_spent_last_returns_first(skip: int, amount: int, legs: Legs) -> None:
    assert returned(SPENT, skip, amount) == legs


@pytest.mark.parametrize(
    ("skip", "amount", "excess"), [(0, 11, 1), (4, 7, 1), (10, 3, 3), (12, 1, 1)]
)
def test_more_than_was_spent_never_returns(skip: int, amount: int, excess: int) -> None:
    with pytest.raises(ValueError, match=rf"^{excess} credits more than the usage spent$"):
        returned(SPENT, skip, amount)


holdings = st.lists(st.integers(1, 20), min_size=1, max_size=6)


@settings(deadline=None, derandomize=True)
@given(holdings, st.data())
def test_a_usage_with_some_given_back_leaves_what_a_smaller_usage_would_have(
    held: list[int], data: st.DataObject
) -> None:
    batches = tuple(a_batch(number, amount) for number, amount in enumerate(held, start=1))
    used = data.draw(st.integers(1, sum(held)), label="used")
    back = data.draw(st.integers(0, used), label="given back")
    spent = burn_down(spendable(batches, (), NOW), used)
    after = move(move(batches, spent), returned(spent, 0, back), known=batches)
    assert after == move(batches, burn_down(spendable(batches, (), NOW), used - back))


@settings(deadline=None, derandomize=True)
@given(holdings, st.data())
def test_giving_back_in_many_parts_is_giving_back_at_once(
    held: list[int], data: st.DataObject
) -> None:
    batches = tuple(a_batch(number, amount) for number, amount in enumerate(held, start=1))
    used = data.draw(st.integers(1, sum(held)), label="used")
    spent = burn_down(spendable(batches, (), NOW), used)
    after = move(batches, spent)
    given_back = 0
    while given_back < used:
        part = data.draw(st.integers(1, used - given_back), label="part")
        after = move(after, returned(spent, given_back, part), known=batches)
        given_back += part
        assert after == move(batches, burn_down(spendable(batches, (), NOW), used - given_back))
    assert after == batches


def test_the_sources_are_these_words_for_good() -> None:
    """They are stored, and the API answers them."""
    words = ["plan", "purchase", "promotion", "adjustment", "carried_over"]
    assert [source.value for source in Source] == words
