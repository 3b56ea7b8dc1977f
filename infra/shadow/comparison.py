"""Compares a user's ledger with the movements of the old system, and names every difference.

The ledger is read as a life (`book`, `life`). This is changed into the old system's life, finding
by finding (`requests`, `grants`, `expiries`, `steps`): a second grant is inserted, a late
allocation is moved. The effect of a finding is how much it changes the final balance. If all
differences have been found, the changed life ends with the old system's balance. If not, the rest
is unexplained: `differs by 12 since line 17`.

Pure: it performs nothing, and reads no clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import NamedTuple

from chalicelib.domain.entries import EntryType, LedgerEntry
from infra.imports.movements import Kind, Movement

from . import book, expiries, grants, requests
from .findings import Code, Finding
from .grants import Coming
from .life import Life
from .shifts import Zones
from .steps import Step, Window, walk

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_SCHEDULED = frozenset({Kind.ALLOCATION, Kind.EXPIRATION})


class Shadow(NamedTuple):
    """What Credits knows of a user. ``entries``: all, from the first, even after the end.

    ``coming``: the next allocation, if there will be one.
    """

    user_id: str
    entries: Sequence[LedgerEntry]
    zones: Zones
    coming: Coming | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of a user's comparison.

    ``there``, ``here``: the final balances of the old system and of our ledger. What one side has
    and the other may still get (`Window.is_pending`) is included in both.
    """

    user_id: str
    there: int
    here: int
    findings: tuple[Finding, ...] = ()

    @property
    def difference(self) -> int:
        """How many more credits the old system has."""
        return self.there - self.here

    @property
    def is_same(self) -> bool:
        """Whether there is no difference."""
        return not self.findings

    @property
    def is_explained(self) -> bool:
        """Whether every difference is a fault of the old system."""
        return all(finding.code.is_explained for finding in self.findings)


def compare(
    shadow: Shadow,
    movements: Sequence[Movement],
    start: datetime | None,
    until: datetime,
    tolerance: timedelta,
) -> Comparison:
    """Compares a user between two instants; the default start is their first entry.

    ``movements``: the user's, by their instants; those from before the start do not count.
    """
    entries = shadow.entries
    start = start or (entries[0].posted_at if entries else _EVER)
    window = Window(start, until, tolerance)
    compared = [each for each in movements if start <= each.at <= until]
    first = _compare(shadow, compared, window, _Habits())
    if first.is_clear:
        return first.comparison
    has_holds = any(entry.type is EntryType.HOLD for entry in entries)
    others = [
        _Habits(spends_dead, holds)
        for spends_dead in (False, True)
        for holds in {True, not has_holds}
    ]
    found = [_compare(shadow, compared, window, habits) for habits in others]
    return min((first, *found), key=lambda each: each.rank).comparison


class _Habits(NamedTuple):
    """Properties of the old system that its file does not state.

    ``spends_dead``: some systems let expired credits be spent until their job has booked them out.
    ``holds``: whether it sets credits aside as we do, so that they outlive their expiry.
    """

    spends_dead: bool = False
    holds: bool = True


class _Compared(NamedTuple):
    comparison: Comparison
    unexplained: int
    is_clear: bool

    @property
    def rank(self) -> tuple[int, int]:
        """The lowest rank explains most, with the fewest findings."""
        return abs(self.unexplained), len(self.comparison.findings)


def _compare(
    shadow: Shadow, movements: Sequence[Movement], window: Window, habits: _Habits
) -> _Compared:
    its = book.read(shadow.entries, window.start, window.until)
    life = replace(its.life, spends_dead=habits.spends_dead)
    allocations = [each for each in movements if each.kind is Kind.ALLOCATION]
    expirations = [each for each in movements if each.kind is Kind.EXPIRATION]
    asked = [each for each in movements if each.kind not in _SCHEDULED]

    granted = grants.match(its.allocations, shadow.coming, allocations, window, shadow.zones)
    steps = [*requests.steps(its, shadow.entries, asked, window), *granted.steps]
    if not habits.holds:
        held = Finding(Code.HELD, "", window.start)
        steps.insert(0, Step(Life.without_holds, held, if_it_matters=True))
    theirs = reduce(lambda life, step: step.edit(life), steps, life)
    expired = expiries.book(theirs, expirations, granted.shifts, window, shadow.zones)
    walked = walk(life, [*steps, *expired.steps], window.until)

    (opening,) = its.opening.balances([window.start])
    there = opening + sum(each.amount for each in movements)
    here = book.balance(shadow.entries, window.until)
    (played,) = life.balances([window.until])
    (explained,) = walked.life.balances([window.until])
    unexplained = (there - explained) + (played - here)
    findings = walked.findings
    if unexplained:
        findings = [
            _unexplained(unexplained, shadow, opening, movements, walked.life, window),
            *findings,
        ]
    return _Compared(
        Comparison(shadow.user_id, there, here + walked.pending, tuple(findings)),
        unexplained,
        not unexplained and not expired.is_doubtful,
    )


def _unexplained(
    difference: int,
    shadow: Shadow,
    opening: int,
    movements: Sequence[Movement],
    explained: Life,
    window: Window,
) -> Finding:
    """The remaining difference, and the line since which it persists."""
    lines, stood, balance = dict[datetime, int](), dict[datetime, int](), opening
    for each in movements:
        balance += each.amount
        lines.setdefault(each.at, each.line)
        stood[each.at] = balance
    since = None
    for at, played in zip(stood, explained.balances([*stood]), strict=True):
        since = (since or at) if stood[at] != played else None
    at = since or window.until
    last = book.last_before(shadow.entries, at)
    words = f"{abs(difference):,} {'more' if difference > 0 else 'less'} there"
    return Finding(
        Code.UNEXPLAINED,
        words,
        at,
        lines[since] if since else None,
        last.number if last else None,
        difference,
    )
