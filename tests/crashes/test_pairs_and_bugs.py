"""Two failures in a row, whether every function is covered, and whether the tests can fail."""

import random

import pytest

from tests.crashes.bugs import BUGS
from tests.crashes.failures import Failures, Kind, Point
from tests.crashes.of_stripe import WORKFLOWS
from tests.crashes.runner import Course
from tests.crashes.world import reachable

FIRST_FAILURES = 2
SECOND_FAILURES = 2


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_second_failure_in_the_recovery_makes_no_difference_either(name: str) -> None:
    """A few of them; ``python -m tests.crashes`` tries all."""
    course = Course.of(name)
    chance = random.Random(name)  # the same pairs every time
    firsts = [point for point in course.singles() if point.kind is not Kind.LOST_ONCE]
    for first in chance.sample(firsts, FIRST_FAILURES):
        failures, wrong = course.check(first)
        assert wrong is None, wrong.told()
        pairs = list(course.pairs(first, failures))
        for pair in chance.sample(pairs, min(SECOND_FAILURES, len(pairs))):
            _, wrong = course.check(*pair)
            assert wrong is None, wrong.told()


def test_every_function_and_every_route_of_the_app_is_invoked_by_some_workflow(
    invoked: set[str],
) -> None:
    for name in WORKFLOWS:
        Course.of(name)
    assert invoked == reachable()


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str) -> None:
    workflow, plant = BUGS[bug]
    with plant():
        course = Course.of(workflow)
        assert any(course.check(point)[1] for point in course.singles())


def test_a_batch_of_inserts_is_done_in_part_at_some_point() -> None:
    course = Course.of("allocation to users on several pages")
    inserts = [
        Point(place, kind)
        for place, seen in enumerate(course.clean.seen)
        for kind in seen.kinds()
        if "BatchExecuteStatement" in seen.name
    ]
    assert {point.kind for point in inserts} == {*Kind}


def test_what_ended_otherwise_says_how_to_see_it_again() -> None:
    course = Course.of("grant by hand")
    course.expected["answers"] = []
    _, wrong = course.check(Point(0, Kind.KILLED_AFTER))
    assert wrong is not None
    assert '--workflow "grant by hand" --replay "0:KILLED_AFTER"' in wrong.told()
    assert Point.parse("0:KILLED_AFTER") == wrong.points[0]


def test_failures_strike_where_they_are_told_to_and_nowhere_else() -> None:
    failures = Failures((Point(1, Kind.FAILS), Point(7, Kind.KILLED_BEFORE)))
    course = Course.of("grant by hand")
    with_both, wrong = course.check(*failures.points)
    assert wrong is None
    # Four attempts of the SDK, from call 1 to call 4.
    assert with_both.struck_at == [4, 7]
