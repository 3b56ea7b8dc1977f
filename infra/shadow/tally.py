"""The sum of all users' comparisons: how many differ, by what, and who the most."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from chalicelib.domain.instants import format_instant
from infra.whatif.tally import Difference

from .comparison import Comparison
from .findings import Code, Finding
from .nights import Night

EXAMPLES = 3
"""How many users are named for each kind of finding."""

MOST_NAMED = 20
"""How many users with more credits are named, and how many with less."""


@dataclass
class Line:
    """A kind of finding. ``credits``: how many more credits the old system has because of it."""

    code: Code
    users: int = 0
    times: int = 0
    credits: int = 0
    examples: list[tuple[str, Finding]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The same as values for JSON."""
        return {
            "finding": self.code.value,
            "explained": self.code.is_explained,
            "users": self.users,
            "times": self.times,
            "credits": self.credits,
            "examples": [f"{user_id}: {finding}" for user_id, finding in self.examples],
        }


@dataclass
class Tally:
    """The sums. ``less``, ``more``: users who would have so after the switch, most first."""

    until: datetime
    users: int = 0
    same: int = 0
    explained: int = 0
    by_code: dict[Code, Line] = field(default_factory=dict)
    less: list[Difference] = field(default_factory=list)
    more: list[Difference] = field(default_factory=list)
    credits: int = 0

    @property
    def unexplained(self) -> int:
        """Users with a difference that is no fault of the old system. It must be zero."""
        return self.users - self.same - self.explained

    @property
    def lines(self) -> list[Line]:
        """The kinds of findings; those that block the switch come first."""
        return [self.by_code[code] for code in Code if code in self.by_code]

    def add(self, found: Comparison, plan: str) -> None:
        """Adds a user."""
        self.users += 1
        self.same += found.is_same
        self.explained += found.is_explained and not found.is_same
        self.credits += found.difference
        for code in {finding.code for finding in found.findings}:
            self.by_code.setdefault(code, Line(code)).users += 1
        for finding in found.findings:
            line = self.by_code[finding.code]
            line.times += 1
            line.credits += finding.credits
            if len(line.examples) < EXAMPLES:
                line.examples.append((found.user_id, finding))
        more = Difference(-found.difference, found.user_id, plan, found.there, found.here)
        if more.credits < 0:
            self.less = heapq.nsmallest(MOST_NAMED, [*self.less, more])
        elif more.credits > 0:
            self.more = heapq.nlargest(MOST_NAMED, [*self.more, more])

    def night(self, digest: str) -> Night:
        """The part of it that is stored."""
        return Night(self.until, self.users, self.same, self.explained, self.unexplained, digest)

    def as_json(self) -> dict[str, Any]:
        """The same as values for JSON."""
        return {
            "until": format_instant(self.until),
            "users": self.users,
            "same": self.same,
            "explained": self.explained,
            "unexplained": self.unexplained,
            "credits": self.credits,
            "findings": [line.as_json() for line in self.lines],
            "less": _named(self.less),
            "more": _named(self.more),
        }


def _named(users: Sequence[Difference]) -> list[dict[str, Any]]:
    return [
        {"user_id": each.user_id, "plan": each.plan, "there": each.had, "here": each.would_have}
        for each in users
    ]
