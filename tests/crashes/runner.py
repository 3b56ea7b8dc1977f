"""Runs workflows with failures at every point, and compares how they end with the clean run."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

from tests.crashes.failures import GRAVE, Failures, Kind, Point
from tests.crashes.of_stripe import WORKFLOWS
from tests.crashes.workflows import Workflow
from tests.crashes.world import CrashingWorld, Json, crashing
from tests.simulation import world as simulation

PARKED = ("sweeps", "allocations")


@dataclass
class Course:
    """A workflow with its clean run: the calls it makes, and how it ends."""

    workflow: Workflow
    prepared: CrashingWorld
    clean: Failures
    expected: Json
    mail_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By the record of a mail, the mail."""
    asked_for: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str) -> "Course":
        workflow = WORKFLOWS[name]
        prepared = CrashingWorld()
        with prepared.running():
            for step in workflow.before:
                step(prepared)
        prepared.answers = []
        clean = Failures()
        world = _run(workflow, prepared.copy(clean))
        # Once more, with one message at a time: which email does which message ask for?
        alone = Failures()
        asking = _run(workflow, prepared.copy(alone, at_once=1))
        already = len(prepared.aws.state.mails)
        course = cls(workflow, prepared, clean, world.end_state(), asked_for=asking.asked_for)
        assert course.expected == asking.end_state(), "messages must not depend on their company"
        mails = map(asking.told, asking.aws.state.mails[already:])
        course.mail_of = dict(zip(alone.sent, mails, strict=True))
        return course

    def singles(self) -> Iterator[Point]:
        """Every failure at every call of the clean run."""
        for place, seen in enumerate(self.clean.seen):
            yield from (Point(place, kind) for kind in seen.kinds())

    def pairs(self, first: Point, failures: Failures) -> Iterator[tuple[Point, Point]]:
        """A second failure at every call of the recovery from a first one.

        What the SDK mends by itself has none.
        """
        if first.kind is not Kind.LOST_ONCE:
            for place in range(failures.struck_at[0] + 1, len(failures.seen)):
                for kind in failures.seen[place].kinds():
                    if kind in GRAVE:
                        yield first, Point(place, kind)

    def attempt(self, *points: Point) -> tuple[Failures, str]:
        """Runs it with failures at these points; answers what is wrong with its end, if it is."""
        failures = Failures(points)
        try:
            world = _run(self.workflow, self.prepared.copy(failures))
            found = world.end_state()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the failure led to
            return failures, f"{type(error).__name__}: {error}"
        if len(failures.struck_at) < len(points):
            return failures, "the call never came: a run is not like another"
        return failures, difference(self.expectation(failures), found)

    def expectation(self, failures: Failures) -> Json:
        """The clean run's end, but for emails that are in doubt by what docs/mail.md says."""
        expected = dict(self.expected)
        records, mails = dict(expected["records of mails"]), list(expected["mails"])
        for record, was_sent in failures.in_doubt.items():
            records[record] = {"status": "INPROGRESS", "said": None}
            if not was_sent and self.mail_of.get(record) in mails:
                mails.remove(self.mail_of[record])
        in_doubt = failures.in_doubt.keys()
        parked = sorted(body for body, asked in self.asked_for.items() if asked & in_doubt)
        queues = {**expected["queues"], "credits-dev-notifications-dlq": parked}
        return {**expected, "records of mails": records, "mails": mails, "queues": queues}

    def check(self, *points: Point) -> tuple[Failures, "Wrong | None"]:
        """The same; what is wrong with all that it takes to tell it, or None."""
        failures, found = self.attempt(*points)
        return failures, Wrong(self.workflow.name, points, failures, found) if found else None


@dataclass(frozen=True)
class Wrong:
    workflow: str
    points: tuple[Point, ...]
    failures: Failures
    difference: str

    def told(self) -> str:
        """The failures and what came of them, and how to see it again."""
        story = [
            f"  call {point.place + 1}, {self.failures.seen[point.place].name}: {point.kind.value}"
            for point in self.points
            if point.place < len(self.failures.seen)
        ]
        replay = " ".join(map(str, self.points))
        again = f'python -m tests.crashes --workflow "{self.workflow}" --replay "{replay}"'
        return "\n".join([f"{self.workflow}:", *story, f"  {self.difference}", f"  again: {again}"])


def _run(workflow: Workflow, world: CrashingWorld) -> CrashingWorld:
    with ExitStack() as stack:
        stack.enter_context(world.running())
        if workflow.parks:
            at_once = dict.fromkeys(PARKED, 1)
            stack.enter_context(patch.dict(simulation.MOST_RECEIVES, at_once))
        world.milliseconds = workflow.milliseconds
        workflow.run(world)
        world.settle()
        if workflow.parks:
            for queue in PARKED:
                world.queue(f"{queue}-dlq").clear()
    return world


def difference(expected: Any, found: Any, where: str = "") -> str:
    """Where two ends of a workflow differ first; empty when they do not."""
    if expected == found:
        return ""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted({*expected, *found}, key=str):
            if expected.get(key) != found.get(key):
                return difference(expected.get(key), found.get(key), f"{where} {key}".strip())
    return f"{where}: {_short(found)} should be {_short(expected)}"


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) < 600 else f"{text[:600]} …"


# --- In several processes ------------------------------------------------------------------------

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
