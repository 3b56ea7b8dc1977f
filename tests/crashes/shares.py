"""A share of the failures of a workflow, for one process to try.

Apart from the command: what a process is handed must be found by its module's name.
"""

from dataclasses import dataclass, field

from tests.crashes.runner import Course, Wrong
from tests.crashes.world import crashing

MOST_TOLD = 20


@dataclass
class Tally:
    """What became of a workflow, or of a share of it."""

    workflow: str
    calls: int = 0
    points: int = 0
    pairs: int = 0
    failures: int = 0
    told: list[str] = field(default_factory=list)

    def note(self, wrong: Wrong | None) -> None:
        if wrong:
            self.failures += 1
            self.told += [wrong.told()][: MOST_TOLD - len(self.told)]

    def add(self, other: "Tally") -> None:
        self.calls = other.calls
        self.points += other.points
        self.pairs += other.pairs
        self.failures += other.failures
        self.told += other.told[: MOST_TOLD - len(self.told)]


SHARES = 8
"""Into how many parts a workflow is divided, so that all processes end at about the same time."""


def examine(share: tuple[str, int, bool]) -> Tally:
    """One share of the failures of a workflow, alone and in pairs."""
    name, number, in_pairs = share
    with crashing():
        course = Course.of(name)
        tally = Tally(name, len(course.clean.seen))
        for point in list(course.singles())[number::SHARES]:
            tally.points += 1
            failures, wrong = course.check(point)
            tally.note(wrong)
            for pair in course.pairs(point, failures) if in_pairs and not wrong else ():
                tally.pairs += 1
                tally.note(course.check(*pair)[1])
    return tally
