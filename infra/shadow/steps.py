"""The steps that lead from the life of our ledger to that of the old system.

Each step is a finding, or a small difference that is no finding: for example an allocation that
came three minutes later there. The effect of a finding is how much its step changes the final
balance.
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
    """The compared time: from ``start`` to ``until``, inclusive.

    Within the ``tolerance`` nothing is late. What one side has in the last moments before the end
    may still come on the other.
    """

    start: datetime
    until: datetime
    tolerance: timedelta

    def is_pending(self, at: datetime) -> bool:
        """Whether something that happened at an instant may still come on the other side."""
        return at + self.tolerance > self.until


class Step(NamedTuple):
    """A step; ``found`` is None for something that may still come on the other side.

    ``if_it_matters``: it is a finding only if it changes the final balance.
    """

    edit: Edit
    found: Finding | None = None
    if_it_matters: bool = False


class Walked(NamedTuple):
    """The life after all steps, and the findings on the way, by their time.

    ``pending``: the effect of the steps without a finding.
    """

    life: Life
    findings: list[Finding]
    pending: int


def walk(life: Life, steps: Sequence[Step], until: datetime) -> Walked:
    """Takes all steps, the findings by their time."""
    path = _Path(life, until)
    pending = path.go(step.edit for step in steps if step.found is None)
    small = [step for step in steps if step.found and step.if_it_matters]
    # Nearly always none of them matters: then there is no need to find out which.
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
        """Takes some steps; returns how much they change the final balance."""
        if self.balance is None:
            (self.balance,) = self.life.balances([self.until])
        for edit in edits:
            self.life = edit(self.life)
        before, (self.balance,) = self.balance, self.life.balances([self.until])
        return self.balance - before
