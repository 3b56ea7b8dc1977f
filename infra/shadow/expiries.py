"""Expiries: finds which lots the old system's bookings expired, and what is wrong with them.

The file does not name the lots. So the old system's life is played up to each booking, to see what
it could have expired. The best guess is what is due then, with the same amount left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from infra.imports.movements import Movement

from .findings import Code, Finding
from .life import OF_THE_OLD, Expire, Life
from .requests import is_of_the_old, name, order
from .shifts import Why, Zones
from .steps import Step, Window

_CODES = {
    Why.LATE: Code.EXPIRED_LATE,
    Why.EARLY: Code.EXPIRED_EARLY,
    Why.ZONE: Code.EXPIRED_WRONG_ZONE,
    Why.OFFSET: Code.EXPIRED_WRONG_OFFSET,
}

_DOUBTFUL = (Code.EXPIRED_AMOUNT, Code.NOT_EXPIRED)

_NEVER = 9


@dataclass
class _Due:
    """Lots that expire at an instant.

    ``shift``: how far the old system's grants of them were from ours; its expiries may be as far
    off. ``at`` is None for a lot that only the old system has: its expiry is unknown.
    """

    at: datetime | None
    shift: timedelta
    lots: tuple[str, ...]
    booked: list[Expire] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    there: int = 0

    def is_on_time(self, at: datetime, tolerance: timedelta) -> bool:
        """Whether an instant is the expected one, or as far off as the grant was."""
        due = self.at or at
        return abs(at - due) <= tolerance or abs(at - due - self.shift) <= tolerance


@dataclass
class Booked:
    """The lots of the bookings. ``is_doubtful``: some amounts differ from the expected rest."""

    steps: list[Step] = field(default_factory=list)
    is_doubtful: bool = False


def book(
    life: Life,
    movements: Sequence[Movement],
    shifts: Mapping[str, timedelta],
    window: Window,
    zones: Zones,
) -> Booked:
    """Finds the lots of each booking. ``life``: the old system's, without its expiries."""
    dues = _dues(life, shifts)
    life = life.keeping(lot for due in dues for lot in due.lots)
    booked = Booked()
    for movement in movements:
        left = life.left(movement.at, order(movement))
        found = _best(dues, left, movement, window.tolerance)
        if found is None:
            booked.is_doubtful = True
            continue
        due, lots = found
        expire = Expire(movement.at, order(movement), -movement.amount, lots)
        before = sum(each.amount for each in due.booked)
        due.there = before + sum(left.get(lot, 0) for lot in due.lots)
        due.booked.append(expire)
        due.lines.append(movement.line)
        life = life.having({name(movement): expire})
    end = life.left(window.until, 2 * OF_THE_OLD)
    for due in dues:
        left_over = sum(end.get(lot, 0) for lot in due.lots)
        booked.steps += _steps(due, left_over, window, zones)
    booked.is_doubtful |= any(
        step.found is not None and step.found.code in _DOUBTFUL for step in booked.steps
    )
    return booked


def _dues(life: Life, shifts: Mapping[str, timedelta]) -> list[_Due]:
    groups = defaultdict[tuple[datetime, timedelta], list[str]](list)
    dues = []
    for lot, grant in life.grants.items():
        if grant.expires_at:
            groups[grant.expires_at, shifts.get(lot, timedelta(0))].append(lot)
        elif is_of_the_old(lot):
            dues.append(_Due(None, timedelta(0), (lot,)))
    dues += [_Due(at, shift, tuple(lots)) for (at, shift), lots in sorted(groups.items())]
    return dues


def _best(
    dues: Sequence[_Due], left: Mapping[str, int], movement: Movement, tolerance: timedelta
) -> tuple[_Due, tuple[str, ...]] | None:
    """The lots that fit a booking best; None if nothing could expire then."""
    found = []
    for place, due in enumerate(dues):
        for lots in (due.lots, *((lot,) for lot in due.lots)):
            there = sum(left.get(lot, 0) for lot in lots)
            rank = _rank(due, there, movement, tolerance) if there else _NEVER
            if rank < _NEVER:
                off = abs(movement.at - (due.at or movement.at))
                found.append((rank, off, -len(lots), place, lots))
    if not found:
        return None
    *_, place, lots = min(found)
    return dues[place], lots


def _rank(due: _Due, there: int, movement: Movement, tolerance: timedelta) -> int:
    is_exact = there == -movement.amount
    if due.at is None:
        return 3 if is_exact else _NEVER
    if due.is_on_time(movement.at, tolerance):
        return 0 if is_exact else 1
    is_late = due.at < movement.at
    if is_exact:
        return 2 if is_late else 4
    return 5 if is_late else _NEVER


def _steps(due: _Due, left_over: int, window: Window, zones: Zones) -> Iterator[Step]:
    def kept(life: Life) -> Life:
        return life.keeping(due.lots)

    if not due.booked:
        if due.at is None or due.at > window.until:
            return
        if window.is_pending(due.at) or window.is_pending(due.at + due.shift):
            yield Step(kept)
        elif left_over:
            yield Step(kept, Finding(Code.NOT_EXPIRED, f"{left_over:,}", due.at))
        return
    first, line = due.booked[0], due.lines[0]
    in_all = sum(each.amount for each in due.booked)
    as_booked = {f"old:{line}": each for line, each in zip(due.lines, due.booked, strict=True)}
    is_whole = not left_over and in_all <= due.there
    whole = {f"old:{line}": first._replace(amount=due.there, lots=due.lots)}
    at_first = as_booked if is_whole else whole

    def booked(life: Life) -> Life:
        return kept(life).having(at_first)

    shift = None
    if due.at and not due.is_on_time(first.at, window.tolerance):
        shift = zones.shift(due.at, first.at, window.tolerance)
    if shift:
        words = f"{in_all:,} {shift.words}"
        yield Step(booked, Finding(_CODES[shift.why], words, first.at, line))
    else:
        words = f"{in_all:,}, and something came between"
        yield Step(booked, Finding(Code.EXPIRED_LATE, words, first.at, line), if_it_matters=True)
    if not is_whole:
        words = f"{in_all:,} and not {due.there:,}"
        yield Step(
            lambda life: life.having(as_booked),
            Finding(Code.EXPIRED_AMOUNT, words, first.at, line),
        )
