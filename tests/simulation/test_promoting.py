"""A life of promotions, the same every time, and mistakes it must find."""

from dataclasses import replace
from itertools import product

import pytest

from tests.simulation.drawn import ALONE, Change, Drawn
from tests.simulation.faults import Fault
from tests.simulation.machine import Machine
from tests.simulation.planted_promotions import BUGS, OF_PROMOTIONS
from tests.simulation.reference import Violation


def struck(fault: int, aim: int, *, what: str = "again", times: int = 1) -> Drawn:
    """Trouble at a call; see `Life._troubles`."""
    change: Change = ("plan", "starter")
    return [(fault, aim, 0, times, (what, 1, "other", change))]


FAULTS = (
    *(Fault.LOST, Fault.CONFLICT, Fault.BROKEN, Fault.THROTTLED),
    *(Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.MEANWHILE),
)
WRITES = (3, 4, 5)
"""The aims that are writes."""


def live() -> Machine:
    """Promotions are run, with every fault at every write, and run again."""
    life = Machine()
    with life.stack:  # also of a life that ends too early
        _live(life)
    return life


def _live(life: Machine) -> None:
    life.the_first_subscribe(replace(ALONE, faults=FAULTS))
    for number, plan in ((1, "pro"), (2, "free")):
        life.subscribe(number, plan, "yearly", None, -40, [])
    for place, (fault, aim) in enumerate(product(range(len(FAULTS)), WRITES)):
        gifts, days, times = [1, 30 + place, 100], (None, 1, 30)[place % 3], (1, 40)[place % 2]
        drawn = struck(fault, aim, times=times)
        life.promote(1, gifts, days, place, drawn, silent=bool(place % 2))
        life.promote_again(0, [])
    life.promote(2, [30, 1], None, 0, struck(-1, 3, what="use"), silent=False)
    life.promote(2, [30], None, 0, [], silent=False)
    life.teardown()


def test_a_life_of_promotions_is_as_the_reference_says() -> None:
    life = live()
    granted = [line for user in life.oracle.ledgers.values() for line in user.lines]
    files = len(FAULTS) * len(WRITES)
    # Three users each, then two, then one.
    of_promotions = [line for line in granted if "#command/grant#" in line.operation]
    assert (len(life.promotions), len(of_promotions)) == (files + 2, 3 * files + 2 + 1)
    assert {line.silent for line in of_promotions} == {True, False}
    assert sum("the process dies" in words for words in life.story) == 2 * len(WRITES)


@pytest.mark.parametrize("name", OF_PROMOTIONS)
def test_a_planted_bug_is_found_in_it(name: str) -> None:
    with BUGS[name](), pytest.raises(Violation):
        live()
