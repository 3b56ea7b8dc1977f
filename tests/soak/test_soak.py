"""A short soak of few users with many faults, and that its verdict can be otherwise."""

from collections.abc import Iterator
from unittest.mock import patch

import pytest

from tests.simulation.reference import Violation
from tests.soak import lives
from tests.soak.__main__ import Course, soaking
from tests.soak.lives import Soak
from tests.soak.verdict import credits_of, judge

USERS = 12
DAYS = 40


@pytest.fixture(scope="module")
def soak() -> Iterator[Soak]:
    """Lives that are over."""
    with (
        patch.object(lives, "EVENTS_A_DAY", 0.3),
        patch.object(lives, "FAULTS_IN_1000", 40),
        patch.object(lives, "UNREADABLE_IN_1000", 150),
        soaking(USERS, seed=4) as soak,
    ):
        for _ in soak.live(DAYS):
            pass
        soak.settle()
        yield soak


def test_random_lives_come_to_what_the_reference_expects(soak: Soak) -> None:
    judge(soak)
    assert soak.figures.faults > 10
    assert soak.figures.unreadable > 10
    assert soak.figures.irregular > 10
    found = credits_of(soak)
    assert min(found.granted, found.spent, found.left) > 0


def test_a_mail_sent_twice_is_wrong(soak: Soak) -> None:
    mails = soak.aws.state.mails
    with patch.object(soak.aws.state, "mails", [*mails, mails[0]]), pytest.raises(Violation):
        judge(soak)


def test_a_mail_that_was_not_sent_is_wrong(soak: Soak) -> None:
    mails = soak.aws.state.mails
    with patch.object(soak.aws.state, "mails", mails[1:]), pytest.raises(Violation):
        judge(soak)


def test_a_month_too_many_or_too_few_is_wrong(soak: Soak) -> None:
    person = next(person for person in soak.people.values() if person.ledger.through)
    place = [line.type for line in person.ledger.lines].index("allocation")
    without = [*person.ledger.lines[:place], *person.ledger.lines[place + 1 :]]
    for lines in (without, [*person.ledger.lines, person.ledger.lines[place]]):
        with patch.object(person.ledger, "lines", lines), pytest.raises(Violation):
            judge(soak)


def test_growing_memory_is_seen_from_the_end_of_the_first_year_on() -> None:
    course = Course(users=1, seed=1, memory=[50, 100, 100, 101])
    assert course.growth == pytest.approx(0.01)
    course.memory.append(130)
    assert course.growth == pytest.approx(0.3)
    assert Course(users=1, seed=1, memory=[50]).growth == 0
