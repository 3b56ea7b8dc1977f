"""The steps that lead from the life of our ledger to that of the old system.

Each step is a finding, or one of the many small things that are none: an allocation that came three
minutes later there. What a finding brings is how the balance at the end changes by its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from .findings import Finding
from .life import Life

Edit = Callable[[Life], Life]


class Window(NamedTuple):
    """What is compared: from ``start`` to ``until``, with it.

    Within the ``tolerance`` nothing is late; and what one side has in the last moments before the
    end may still come on the other.
    """

    start: datetime
    until: datetime
    tolerance: timedelta

    def is_pending(self, at: datetime) -> bool:
        """Whether what happened at an instant may still come on the other side."""
        return at + self.tolerance > self.until


class Step(NamedTuple):
    """A step; ``found`` is None for what may still come on the other side.

    ``if_it_matters``: it is a finding only if it makes a difference in the end.
    """

    edit: Edit
    found: Finding | None = None
    if_it_matters: bool = False


class Walked(NamedTuple):
    """The life at the end of all steps, and the findings on the way, by their time.

    ``pending``: what the steps without a finding came to.
    """

    life: Life
    findings: list[Finding]
    pending: int


def walk(life: Life, steps: Sequence[Step], until: datetime) -> Walked:
    """Goes through all steps, the findings by their time."""
    path = _Path(life, until)
    pending = path.go(step.edit for step in steps if step.found is None)
    small = [step for step in steps if step.found and step.if_it_matters]
    # Nearly always none of them matters: then it is not asked which one.
    if replace(path).go(step.edit for step in small):
        steps = [step for step in steps if step.found]
    else:
        path.go(step.edit for step in small)
        steps = [step for step in steps if step.found and not step.if_it_matters]
    findings = []
    for step, found in sorted(
        ((step, step.found) for step in steps if step.found), key=lambda pair: pair[1].at
    ):
        came = path.go([step.edit])
        if came or not step.if_it_matters:
            findings.append(replace(found, credits=came))
    return Walked(path.life, findings, pending)


@dataclass
class _Path:
    life: Life
    until: datetime
    balance: int | None = None

    def go(self, edits: Iterable[Edit]) -> int:
        """Goes on by some steps; how the balance at the end changes."""
        if self.balance is None:
            (self.balance,) = self.life.balances([self.until])
        for edit in edits:
            self.life = edit(self.life)
        before, (self.balance,) = self.balance, self.life.balances([self.until])
        return self.balance - before
