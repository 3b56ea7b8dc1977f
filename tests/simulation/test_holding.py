"""A life of holds, the same every time: each way in which one ends, and mistakes it must find."""

from itertools import count

import pytest

from tests.simulation.drawn import ALONE, Change, Drawn
from tests.simulation.machine import Machine
from tests.simulation.planted_holds import BUGS, OF_HOLDS
from tests.simulation.reference import Violation

VOID = 50
"""How a claw-back becomes a void: see `Machine.claw_back`."""
RELEASED_MEANWHILE, CAPTURED_MEANWHILE = 5, 7
"""Amounts that choose a way: see `Holding.end_meanwhile`."""


def overtaken(amount: int) -> Drawn:
    """While the entry is being written another process ends the hold."""
    change: Change = ("plan", "starter")
    return [(0, 2, 0, 1, ("end", amount, "other", change))]


def live() -> Machine:
    """Ada sets credits aside in every way, and all that was held is over at the end."""
    life = Machine()
    with life.stack:  # also of a life that ends too early
        _live(life)
    return life


def _live(life: Machine) -> None:
    keys = count(1)
    life.the_first_subscribe(ALONE)
    for ways, meanwhile in (
        (("some", "release"), []),
        (("release", "all"), overtaken(CAPTURED_MEANWHILE)),
        (("beyond", "one"), overtaken(RELEASED_MEANWHILE)),
        (("far too much", "too much"), []),
    ):
        life.grant("ada", 100, None, f"g{next(keys)}", [])
        life.story_of_two_ends(0, 0, ways, meanwhile, [])
    life.grant("ada", 50, None, f"g{next(keys)}", [])
    life.grant("ada", 50, None, f"g{next(keys)}", [])
    life.story_of_a_lapse(0, "beyond", 60, -1, [])
    life.claw_back(0, None, 1, f"c{next(keys)}", [])
    life.grant("ada", 100, None, f"g{next(keys)}", [])
    life.story_of_a_lapse(0, "some", 60, 0, [])
    life.grant("ada", 100, None, f"g{next(keys)}", [])
    life.story_of_a_lapse(0, "some", 60, -1, [])
    life.hold_again(0, 0, [])
    life.hold_again(0, 1, [])
    life.read_balance(0, [])
    life.reverse(0, 0, None, f"r{next(keys)}", [])
    for way, offset in ((None, 0), ("some", 0), ("some", 1), ("release", -1), ("beyond", 1)):
        life.story_of_a_hold_that_outlives_its_batch(
            0, 2, 0, way, offset, is_swept=True, before=[], drawn=[]
        )
    for later, way, is_swept in ((0, "one", False), (9, "some", True), (9, None, False)):
        life.story_of_a_hold_that_outlives_its_batch(0, 2, later, way, 1, is_swept, [], [])
    life.story_of_a_hold_that_lapses_at_a_midnight(0, 0, is_batch=True, drawn=[])
    life.story_of_a_hold_that_lapses_at_a_midnight(0, 1, is_batch=False, drawn=[])
    life.story_of_a_reminder(0, 2, [])
    life.story_of_a_reminder(0, 10, [])
    life._grant_for_days("ada", 5)
    life.grant("ada", 40, None, f"g{next(keys)}", [])
    life.claw_back(0, None, VOID, f"v{next(keys)}", [])
    life.hold_all(0, -10, f"h{next(keys)}", 20 * 86_400, [])
    for _ in range(2):
        life.claw_back(0, None, VOID, f"v{next(keys)}", [])
    life.teardown()


def test_a_life_of_holds_is_as_the_reference_says() -> None:
    life = live()
    lines = life.oracle.ledger("ada").lines
    assert sum(line.type == "hold" for line in lines) >= 12
    assert {line.type for line in lines if line.ends} == {"usage", "release"}
    assert any(line.frees_dead for line in lines)
    voids = [line.amount for line in lines if line.operation.startswith("void#")]
    assert voids == [-7, -10]  # the third found nothing that is free
    assert any("is overtaken" in words for words in life.story)


@pytest.mark.parametrize("name", OF_HOLDS)
def test_a_planted_bug_is_found_in_it(name: str) -> None:
    with BUGS[name](), pytest.raises(Violation):
        live()
