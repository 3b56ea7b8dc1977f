"""Allocations: matches the old system's with ours, and finds what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from chalicelib.domain.entries import LedgerEntry
from infra.imports.movements import Movement

from . import book
from .findings import Code, Finding
from .life import Grant, Life
from .requests import name, order
from .shifts import Why, Zones
from .steps import Step, Window

EARLIEST = timedelta(hours=28)
"""How long before it is due an allocation may come: the farthest wrong zone."""

LATEST = timedelta(days=14)
"""An allocation that comes later is not for that month any more."""

_OF_ANOTHER_AMOUNT = timedelta(hours=6)
"""If two may be for the same month, one with the right amount may be this much farther off."""

_CODES = {
    Why.LATE: Code.LATE,
    Why.EARLY: Code.EARLY,
    Why.ZONE: Code.WRONG_ZONE,
    Why.OFFSET: Code.WRONG_OFFSET,
}


class Coming(NamedTuple):
    """An allocation that is still to come here: when, how much, and for which period."""

    at: datetime
    amount: int
    period: str


@dataclass(frozen=True)
class _Due:
    """An allocation of ours: when it was due, and when it came, which an edit can make much later.

    ``grant`` is None if it has not come yet.
    """

    at: datetime
    posted_at: datetime
    amount: int
    period: str
    lot: str
    grant: Grant | None = None
    number: int | None = None
    is_there: bool = False

    def off(self, at: datetime) -> timedelta:
        """The distance of an instant to the nearer of the two."""
        return min(at - self.at, at - self.posted_at, key=abs)

    def may_be(self, at: datetime) -> bool:
        """Whether an allocation of that instant can match it."""
        return -EARLIEST <= self.off(at) <= LATEST


@dataclass
class Matched:
    """The steps, and how far each of the old system's lots is from ours: expiries shift, too."""

    steps: list[Step] = field(default_factory=list)
    shifts: dict[str, timedelta] = field(default_factory=dict)


def match(
    allocations: Sequence[LedgerEntry],
    coming: Coming | None,
    movements: Sequence[Movement],
    window: Window,
    zones: Zones,
) -> Matched:
    """Finds the matching allocation of ours for each of the old system's."""
    due = [_of(entry, window) for entry in allocations]
    if coming and all(each.at < coming.at for each in due):
        due.append(_Due(coming.at, coming.at, coming.amount, coming.period, "coming"))
    pairs = _pairs(due, movements)
    matched = Matched()
    taken = {movement.line: each for each, movement in pairs}
    for each, movement in pairs:
        matched.steps += _compared(each, movement, window, zones, matched.shifts)
    for movement in movements:
        if movement.line not in taken:
            matched.steps.append(_extra(movement, pairs, matched.shifts))
    lots = {each.lot for each, _ in pairs}
    for each in due:
        if each.is_there and each.lot not in lots:
            matched.steps.append(_missing(each, window))
    return matched


def _of(entry: LedgerEntry, window: Window) -> _Due:
    return _Due(
        entry.effective_at,
        entry.posted_at,
        entry.amount,
        str(entry.allocated_through),
        book.lot(entry),
        book.grant(entry),
        entry.number,
        entry.posted_at <= window.until,
    )


def _pairs(due: Sequence[_Due], movements: Sequence[Movement]) -> list[tuple[_Due, Movement]]:
    """The nearest pairs first; each allocation is in one pair."""
    near = []
    for place, each in enumerate(due):
        for movement in movements:
            if each.may_be(movement.at):
                more = timedelta(0) if movement.amount == each.amount else _OF_ANOTHER_AMOUNT
                near.append((abs(each.off(movement.at)) + more, place, movement.line, movement))
    found = list[tuple[_Due, Movement]]()
    lots, lines = set[int](), set[int]()
    for _, place, line, movement in sorted(near, key=lambda pair: pair[:3]):
        if place not in lots and line not in lines:
            lots.add(place)
            lines.add(line)
            found.append((due[place], movement))
    return found


def _compared(
    due: _Due,
    movement: Movement,
    window: Window,
    zones: Zones,
    shifts: dict[str, timedelta],
) -> Iterator[Step]:
    at, its = movement.at, order(movement)
    granted = due.grant or Grant(at, its, due.amount, at, its, 50, None)
    lot = due.lot if due.grant else name(movement)

    def moved(life: Life) -> Life:
        return life.having({lot: granted._replace(at=at, order=its)})

    def of_its_amount(life: Life) -> Life:
        return life.having({lot: granted._replace(at=at, order=its, amount=movement.amount)})

    place = (movement.line, due.number)
    is_on_time = abs(due.off(at)) <= window.tolerance
    shift = None if is_on_time else zones.shift(due.at, at, window.tolerance)
    shifts[lot] = due.off(at)
    what = f"{due.amount:,} for {due.period}"
    if shift:
        yield Step(moved, Finding(_CODES[shift.why], f"{what} {shift.words}", at, *place))
    else:
        late = Finding(Code.LATE, f"{what}, and something came between", at, *place)
        yield Step(moved, late, if_it_matters=True)
    if movement.amount != due.amount:
        words = f"{movement.amount:,} and not {what}"
        yield Step(of_its_amount, Finding(Code.WRONG_AMOUNT, words, at, *place))


def _extra(
    movement: Movement, pairs: Sequence[tuple[_Due, Movement]], shifts: dict[str, timedelta]
) -> Step:
    """A second allocation for a month, or an allocation for nothing."""
    at, its, amount = movement.at, order(movement), movement.amount
    first = next(
        (
            (due, other)
            for due, other in sorted(pairs, key=lambda pair: abs(at - pair[1].at))
            if amount in (other.amount, due.amount) and due.may_be(at)
        ),
        None,
    )
    expires_at = first[0].grant.expires_at if first and first[0].grant else None
    again = Grant(at, its, amount, at, its, 50, expires_at)

    def edit(life: Life) -> Life:
        return life.having({name(movement): again})

    if first:
        due, other = first
        shifts[name(movement)] = due.off(at)
        words = f"{amount:,} for {due.period} on line {other.line}, and again"
        found = Finding(Code.GRANTED_TWICE, words, at, movement.line, due.number)
    else:
        found = Finding(Code.NOT_DUE, f"{amount:,}", at, movement.line)
    return Step(edit, found)


def _missing(due: _Due, window: Window) -> Step:
    def edit(life: Life) -> Life:
        return life.without([due.lot])

    if window.is_pending(due.at):
        return Step(edit)
    words = f"{due.amount:,} for {due.period}"
    return Step(edit, Finding(Code.NOT_GRANTED, words, due.at, entry=due.number))
