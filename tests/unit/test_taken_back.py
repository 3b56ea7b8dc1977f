"""What refunds and disputes of a payment come to, from events in any order."""

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import reduce
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from chalicelib.domain.damage import WRONG
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.taken_back import Seen, TakenBack

START = parse_instant("at", "2026-01-15T12:00:00Z")
Step = Callable[[TakenBack], TakenBack]


def second(number: int) -> datetime:
    return START + timedelta(seconds=number)


def charge(at: int, refunded: int, paid: int = 5_000) -> Step:
    return lambda known: known.with_charge(paid, Seen(second(at), refunded))


def failure(at: int, amount: int, name: str = "re_1") -> Step:
    return lambda known: known.with_failure(name, Seen(second(at), amount))


def dispute(at: int, amount: int, name: str = "dp_1") -> Step:
    return lambda known: known.with_dispute(name, Seen(second(at), amount))


def after(steps: Iterable[Step]) -> TakenBack:
    return reduce(lambda known, step: step(known), steps, TakenBack())


def in_all(*steps: Step) -> int:
    """What is taken back after the events: the same in every order, and if each comes twice."""
    (found,) = {after(order) for order in permutations(steps)}
    assert after((*steps, *steps)) == found
    return found.in_all


# --- The sum ------------------------------------------------------------------------------------


def test_of_a_payment_of_which_nothing_was_said_nothing_is_taken_back() -> None:
    assert TakenBack().in_all == 0
    assert in_all(charge(0, 0)) == 0


def test_the_example_at_the_top_of_the_module_adds_up() -> None:
    steps = [charge(0, 1_000), dispute(5, 2_000), dispute(9, 0), failure(12, 400)]
    assert [in_all(*steps[:count]) for count in (1, 2, 3, 4)] == [1_000, 3_000, 1_000, 600]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # Refunds are told in all; of one second the larger is the later.
        ([charge(1, 300), charge(2, 500)], 500),
        ([charge(1, 500), charge(2, 300)], 300),
        ([charge(1, 300), charge(1, 500)], 500),
        # A failure counts until the charge knows of it.
        ([charge(1, 500), failure(2, 200)], 300),
        ([charge(1, 500), failure(1, 200)], 300),
        ([charge(1, 500), failure(2, 200), charge(3, 300)], 300),
        ([charge(1, 500), failure(2, 200), charge(3, 800)], 800),
        ([charge(1, 500), failure(2, 200), failure(3, 100, "re_2")], 200),
        # It fails once, however often that is told.
        ([charge(1, 500), failure(2, 200), failure(4, 200)], 300),
        ([charge(1, 500), failure(2, 200), charge(3, 300), failure(4, 200)], 300),
        # Nothing is given back that was not taken.
        ([failure(2, 200)], 0),
        ([charge(1, 100), failure(2, 200)], 0),
        ([charge(1, 100), failure(2, 200), dispute(3, 50)], 50),
        # Of each dispute the newest; of one second, reinstating is the later.
        ([dispute(1, 700), dispute(2, 0)], 0),
        ([dispute(2, 700), dispute(1, 0)], 700),
        ([dispute(1, 700), dispute(1, 0)], 0),
        ([dispute(1, 700), dispute(1, 300, "dp_2")], 1_000),
    ],
)
def test_the_sum_does_not_depend_on_the_order_in_which_the_events_come(
    steps: list[Step], expected: int
) -> None:
    assert in_all(*steps) == expected


SEEN = some.builds(Seen, some.integers(0, 3).map(second), some.sampled_from([0, 1, 400, 5_000]))
NAMES = some.sampled_from(["a", "b"])
STEPS = some.one_of(
    some.builds(lambda seen: lambda known: known.with_charge(5_000, seen), SEEN),
    some.builds(lambda name, seen: lambda known: known.with_failure(name, seen), NAMES, SEEN),
    some.builds(lambda name, seen: lambda known: known.with_dispute(name, seen), NAMES, SEEN),
)


@settings(max_examples=80, deadline=None)
@given(some.lists(STEPS, max_size=10), some.data())
def test_what_is_known_depends_neither_on_the_order_nor_on_how_often_an_event_comes(
    steps: list[Step], data: some.DataObject
) -> None:
    again = data.draw(some.lists(some.sampled_from(steps))) if steps else []
    known = after(steps)
    assert after(data.draw(some.permutations([*steps, *again]))) == known
    assert known.in_all >= 0
    assert TakenBack.from_body(known.body()) == known


def test_what_was_paid_is_what_an_event_of_the_charge_says_first() -> None:
    assert after([dispute(1, 700)]).charged is None
    known = after([charge(1, 0, 5_000), charge(2, 10, 4_000), failure(3, 1), dispute(4, 2)])
    assert known.charged == 5_000


# --- In credits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bought", "paid", "refunded", "taken"),
    [
        (500, 5_000, 0, 0),
        (500, 5_000, 5_000, 500),
        (500, 5_000, 2_500, 250),
        # What remains of a division is the user's.
        (500, 5_000, 9, 0),
        (500, 5_000, 10, 1),
        (500, 5_000, 4_999, 499),
        (3, 100, 34, 1),
        (7, 3, 1, 2),
        # Never more than was bought.
        (500, 5_000, 5_001, 500),
        (500, 5_000, 50_000, 500),
        # A free one.
        (500, 0, 0, 0),
        (500, 0, 5_000, 0),
        # Exact, however large.
        (10**9, 10**12, 10**12 - 1, 10**9 - 1),
    ],
)
def test_the_same_part_of_the_credits_is_taken_back(
    bought: int, paid: int, refunded: int, taken: int
) -> None:
    assert after([charge(0, refunded)]).credits_of(bought, paid) == taken


def test_a_refund_and_a_dispute_together_take_no_more_than_was_bought() -> None:
    both = after([charge(0, 3_000), dispute(1, 5_000)])
    assert (both.in_all, both.credits_of(500, 5_000)) == (8_000, 500)


# --- As text ------------------------------------------------------------------------------------


def test_the_stored_text_is_as_it_always_was() -> None:
    known = after([charge(0, 300), failure(1, 20, "re_2"), failure(2, 10), dispute(3, 40)])
    assert known.body() == (
        '{"charged":5000,"refunded":[1768478400000,300],'
        '"failed":{"re_1":[1768478402000,10],"re_2":[1768478401000,20]},'
        '"disputed":{"dp_1":[1768478403000,40]}}'
    )
    assert TakenBack.from_body(known.body()) == known
    nothing = '{"charged":null,"refunded":null,"failed":{},"disputed":{}}'
    assert TakenBack().body() == nothing
    assert TakenBack.from_body(nothing) == TakenBack()


@pytest.mark.parametrize(
    "wrong",
    [
        {"charged": "5000"},
        {"charged": True},
        {"charged": -1},
        {"refunded": 300},
        {"refunded": [0]},
        {"refunded": [0, 1, 2]},
        {"refunded": [0, -1]},
        {"refunded": [0, 1.0]},
        {"refunded": [-(10**15), 1]},
        {"failed": []},
        {"failed": {"re_1": None}},
        {"disputed": {"dp_1": ["0", 1]}},
        {"disputed": None},
    ],
)
def test_a_damaged_text_is_found_to_be_damaged(wrong: dict[str, Any]) -> None:
    right = json.loads(TakenBack().body())
    with pytest.raises(WRONG):
        TakenBack.from_body(json.dumps(right | wrong))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"charged":null}'])
def test_a_text_that_is_none_of_ours_is_found_to_be_damaged(text: str) -> None:
    with pytest.raises(WRONG):
        TakenBack.from_body(text)
