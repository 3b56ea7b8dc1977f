"""The results of replays, added up over users: by month and plan, and who gains and loses most.

A tally is kept as JSON between two runs, so that an interrupted command can go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.ledger import Account
from chalicelib.domain.plans import PlanCatalogue

from .flows import NOTHING, Flows, flows
from .past import Past, course_of
from .replay import Replay

MOST_NAMED = 10
"""How many users who gain, and who lose, are named; and how many for each problem."""

NO_PLAN = ""
"""The plan of a user before they registered."""


class Question(NamedTuple):
    """The question: which plans, and from the first month to the last, where each user lives."""

    plans: PlanCatalogue
    as_it_was: PlanCatalogue
    first: Period
    last: Period

    @property
    def months(self) -> list[Period]:
        """Every month, including the first and the last."""
        return [self.first.plus(n) for n in range(self.first.months_until(self.last) + 1)]


class Outcome(NamedTuple):
    """A user's answer, month by month. ``plans``: the user's plan at the end of each month.

    ``is_reproduced``: whether the replay under the plans of the time equals the ledger.
    ``is_known``: whether the records of edits reach back to the first month. ``not_repeated``: how
    many requests could not be repeated.
    """

    user_id: str
    plans: Sequence[str]
    was: Sequence[Flows]
    would: Sequence[Flows]
    is_reproduced: bool = True
    is_known: bool = True
    not_repeated: int = 0


def outcome(question: Question, past: Past) -> Outcome:
    """Replays a user's past twice: under the plans in question, and as it was.

    Raises `CreditsError` if nobody can say what would have been.
    """
    subscription = past.subscription
    timezone = calendar.known_or_utc(subscription.timezone)
    end = question.last.next()
    bounds = [calendar.month_start(timezone, month) for month in (*question.months, end)]
    course = course_of(subscription, past.edits, bounds[0], question.as_it_was)
    control, would = (
        Replay(plans, question.as_it_was, past, course, bounds)
        for plans in (question.as_it_was, question.plans)
    )
    before = [entry for entry in past.entries if entry.posted_at < bounds[0]]
    opening = Account(subscription.user_id, before[-1] if before else None)
    was = flows(opening, past.entries[len(before) :], bounds)
    is_reproduced = control.run() == was
    return Outcome(
        subscription.user_id,
        control.plans,
        was,
        would.run(),
        is_reproduced,
        course.is_known,
        len(would.not_repeated),
    )


class Difference(NamedTuple):
    """How many more credits a user would have had: spent by the end, or left then."""

    credits: int
    user_id: str
    plan: str
    had: int
    would_have: int


Cell = tuple[str, str]
"""A month and a plan."""


@dataclass
class Tally:
    """The sums over users. ``gain`` and ``lose``: the users who gain or lose most, in order."""

    was: dict[Cell, Flows] = field(default_factory=dict)
    would: dict[Cell, Flows] = field(default_factory=dict)
    users: int = 0
    changed: int = 0
    gain: list[Difference] = field(default_factory=list)
    lose: list[Difference] = field(default_factory=list)
    not_repeated: int = 0
    unknown: int = 0
    """Users whose records of edits do not reach back far enough."""
    differing: int = 0
    """Users whose replay under the plans of the time does not equal their ledger."""
    left_out: int = 0
    named: dict[str, list[str]] = field(default_factory=dict)
    """Some of those users, by problem."""

    def add(self, question: Question, found: Outcome) -> None:
        """Adds a user's answer."""
        self.users += 1
        self.not_repeated += found.not_repeated
        if not found.is_known:
            self.unknown += 1
        if not found.is_reproduced:
            self.differing += 1
            self._name("differing", found.user_id)
        for month, plan, was, would in zip(
            question.months, found.plans, found.was, found.would, strict=True
        ):
            cell = str(month), plan
            self.was[cell] = self.was.get(cell, NOTHING) + was
            self.would[cell] = self.would.get(cell, NOTHING) + would
        had, would_have = _had(found.was), _had(found.would)
        more = Difference(would_have - had, found.user_id, found.plans[-1], had, would_have)
        self.changed += more.credits != 0 or found.was != found.would
        self.gain = _most([*self.gain, more], 1)
        self.lose = _most([*self.lose, more], -1)

    def leave_out(self, user_id: str, why: object) -> None:
        """Counts a user whose past cannot be replayed."""
        self.left_out += 1
        self._name("left_out", f"{user_id}: {why}")

    def _name(self, kind: str, what: str) -> None:
        names = self.named.setdefault(kind, [])
        if len(names) < MOST_NAMED:
            names.append(what)

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs and for `from_json`."""
        return {
            "users": self.users,
            "changed": self.changed,
            "rows": [
                {
                    "month": month,
                    "plan": plan or None,
                    "was": self.was[month, plan]._asdict(),
                    "would": self.would[month, plan]._asdict(),
                }
                for month, plan in sorted(self.was)
            ],
            "gain": [each._asdict() for each in self.gain],
            "lose": [each._asdict() for each in self.lose],
            "not_repeated": self.not_repeated,
            "unknown": self.unknown,
            "differing": self.differing,
            "left_out": self.left_out,
            "named": self.named,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Tally:
        """Reads what `as_json` made."""
        rows = {(row["month"], row["plan"] or NO_PLAN): row for row in kept["rows"]}
        return cls(
            was={cell: Flows(**row["was"]) for cell, row in rows.items()},
            would={cell: Flows(**row["would"]) for cell, row in rows.items()},
            gain=[Difference(**each) for each in kept["gain"]],
            lose=[Difference(**each) for each in kept["lose"]],
            **{
                name: kept[name]
                for name in (
                    *("users", "changed", "not_repeated", "unknown", "differing", "left_out"),
                    "named",
                )
            },
        )


def _had(months: Iterable[Flows]) -> int:
    """A user's total: all that they spent, and what is left at the end."""
    months = list(months)
    return sum(month.spent for month in months) + months[-1].left


def _most(differences: list[Difference], sign: int) -> list[Difference]:
    differing = (each for each in differences if each.credits * sign > 0)
    return sorted(differing, key=lambda each: (-each.credits * sign, each.user_id))[:MOST_NAMED]


class Line(NamedTuple):
    """The sums of a month, or of a plan, or of everything."""

    name: str
    was: Flows
    would: Flows


def by_month(tally: Tally) -> list[Line]:
    """A line for each month; what is left is that at its end."""
    return _lines(tally, 0)


def by_plan(tally: Tally) -> list[Line]:
    """A line for each plan; what is left is that of its users at the end of the last month."""
    return [line._replace(name=line.name or "none yet") for line in _lines(tally, 1)]


def in_all(tally: Tally) -> Line:
    """One line for everything."""
    lines = by_plan(tally)
    was, would = ([line.was for line in lines], [line.would for line in lines])
    return Line("all", sum(was, NOTHING), sum(would, NOTHING))


def _lines(tally: Tally, part: int) -> list[Line]:
    last = max((month for month, _ in tally.was), default="")
    names = sorted({cell[part] for cell in tally.was})

    def added(cells: Mapping[Cell, Flows], name: str) -> Flows:
        found = NOTHING
        for cell, its in cells.items():
            if cell[part] == name:
                is_end = part == 0 or cell[0] == last
                found += its if is_end else its._replace(left=0)
        return found

    return [Line(name, added(tally.was, name), added(tally.would, name)) for name in names]


def doubts(found: Tally) -> Iterator[str]:
    """How reliable the answer is, in sentences; the first is always there."""
    same = found.users - found.differing
    yield (
        f"Replayed: {_counted(found.users, 'user')}, of whom {found.changed:,} would see a "
        "difference. Under today's plans the replay is the ledger, to the credit, of "
        f"{same:,} of them."
    )
    if found.differing:
        yield (
            f"Not of {found.differing:,}, such as {', '.join(found.named['differing'])}: plans "
            "were changed in that time, or a sweep did not come for what was due."
        )
    if found.unknown:
        yield (
            f"The records of edits do not reach back to the first month for "
            f"{_counted(found.unknown, 'user')}: their subscription is taken as it was before the "
            "first record, or as it is."
        )
    if found.not_repeated:
        yield (
            f"{_counted(found.not_repeated, 'request')} could not be asked again: what they name "
            "would not be there (a hold or a usage that would be refused, say)."
        )
    if found.left_out:
        few = "; ".join(found.named["left_out"][:3])
        yield f"Left out: {_counted(found.left_out, 'user')} whose past cannot be read: {few}"


def _counted(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number:,} {what}s"
