"""A short stretch of the years, with many faults; and that they can be wrong."""

from unittest.mock import patch

import pytest

from tests.simulation.life import Life
from tests.simulation.oracle import Oracle
from tests.simulation.reference import Ledger, Violation
from tests.simulation.world import World
from tests.simulation.years import Course, Years, live

USERS = 12
DAYS = 34


class Troubled(Years):
    """Much happens in little time."""

    events_a_day = 0.3
    faults_in_1000 = 150


def test_random_lives_come_to_what_the_reference_expects() -> None:
    life, struck = Troubled(USERS, seed=4), Life.struck
    course = live(life, DAYS)
    assert Life.struck - struck > 10
    assert life.irregular > 10
    assert min(course.years[-1].granted, course.years[-1].spent, course.years[-1].left) > 0


def test_credits_that_do_not_add_up_are_wrong() -> None:
    life = Years(1, seed=1)
    life.world = World()
    life.oracle = Oracle(life.world, ledgers={"ada": Ledger()})
    assert life.credits().adds_up
    with patch.object(Ledger, "balance", 1), pytest.raises(Violation):
        life.credits()


def test_growing_memory_is_seen_from_the_end_of_the_first_year_on() -> None:
    course = Course(memory=[50, 100, 100, 101])
    assert course.growth == pytest.approx(0.01)
    course.memory.append(130)
    assert course.growth == pytest.approx(0.3)
    assert Course(memory=[50]).growth == 0
