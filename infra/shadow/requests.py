"""Usages, purchases and adjustments: matches both sides by their references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from chalicelib.domain.entries import LedgerEntry
from infra.imports.movements import Kind, Movement

from .book import Book, Told, last_before
from .findings import Code, Finding
from .life import OF_THE_OLD, Action, Grant, Life, Take
from .shifts import length
from .steps import Step, Window

_UNTIL_IT_IS_TOLD = timedelta(hours=36)
"""The longest time until a usage is reported here: by a daily file."""


def name(movement: Movement) -> str:
    """The name, in a life, of a movement that only the old system has."""
    return f"old:{movement.line}"


def is_of_the_old(lot: str) -> bool:
    """Whether only the old system has a lot."""
    return lot.startswith("old:")


def order(movement: Movement) -> int:
    """Its order among movements of the same instant: that of the file."""
    return OF_THE_OLD + movement.line


def steps(
    book: Book, entries: Sequence[LedgerEntry], movements: Iterable[Movement], window: Window
) -> Iterator[Step]:
    """The steps for these movements, and for our entries without a movement."""
    left = {True: dict(book.usages), False: dict(book.others)}
    for movement in movements:
        told = left[movement.kind is Kind.USAGE].pop(movement.reference, None)
        if told is None:
            yield _not_told(movement, entries, window)
            continue
        yield _moved(movement, told, window)
        if told.amount != movement.amount:
            yield _other_amount(movement, told)
    for reference, told in (*left[True].items(), *left[False].items()):
        if told.amount:
            yield _not_there(reference, told, window)


def _not_told(movement: Movement, entries: Sequence[LedgerEntry], window: Window) -> Step:
    def edit(life: Life) -> Life:
        return life.having({name(movement): _as_action(movement)})

    least = _least_available(entries, movement.at)
    is_covered = least is None or least >= -movement.amount
    what = _in_words(movement)
    if movement.kind is Kind.USAGE and not is_covered:
        words = f"{what}; {least:,} could be spent here"
        return Step(edit, Finding(Code.REFUSED, words, movement.at, movement.line))
    if window.is_pending(movement.at):
        return Step(edit)
    return Step(edit, Finding(Code.NOT_TOLD, what, movement.at, movement.line))


def _in_words(movement: Movement) -> str:
    return f"{movement.kind} {movement.reference}, {movement.amount:+,}"


def _least_available(entries: Sequence[LedgerEntry], at: datetime) -> int | None:
    """The least available between a usage and its report; None without a ledger."""
    last = last_before(entries, at)
    if not entries:
        return 0
    found = [last.available_balance(at) if last else 0]
    end = at + _UNTIL_IT_IS_TOLD
    found += [entry.available_balance() for entry in entries if at < entry.posted_at <= end]
    return min(found)


def _as_action(movement: Movement) -> Action:
    at, its, amount = movement.at, order(movement), movement.amount
    if amount < 0:
        return Take(at, its, -amount)
    # The file does not state its lifetime.
    return Grant(at, its, amount, at, its, 50, None)


def _moved(movement: Movement, told: Told, window: Window) -> Step:
    """Moves our entry to the instant that the old system names."""
    actions: Mapping[str, Action] = {
        part.name: part.action._replace(at=movement.at, order=order(movement))
        for part in told.parts
    }

    def edit(life: Life) -> Life:
        return life.having(actions)

    if told.entry.posted_at > window.until:
        return Step(edit)
    what = _in_words(movement)
    late = told.entry.posted_at - movement.at
    if late > timedelta(0):
        code, words = Code.TOLD_LATE, f"{what}, after {length(late)}"
    else:
        code, words = Code.TOLD_EARLY, f"{what}, {length(-late)} before"
    # The earlier of both: what expired in between follows from it.
    at = min(movement.at, told.entry.posted_at)
    found = Finding(code, words, at, movement.line, told.entry.number)
    return Step(edit, found, if_it_matters=True)


def _other_amount(movement: Movement, told: Told) -> Step:
    """Replaces the amount of our entry by the old system's."""
    (lot, was), *_ = told.parts
    action = _as_action(movement)
    if isinstance(was, Grant) and isinstance(action, Grant):
        action = was._replace(at=action.at, order=action.order, amount=action.amount)
    else:
        lot = name(movement)

    def edit(life: Life) -> Life:
        return life.without(part.name for part in told.parts).having({lot: action})

    words = f"{movement.reference}, {movement.amount:+,} there and {told.amount:+,} here"
    place = (movement.line, told.entry.number)
    return Step(edit, Finding(Code.OTHER_AMOUNT, words, movement.at, *place))


def _not_there(reference: str, told: Told, window: Window) -> Step:
    def edit(life: Life) -> Life:
        return life.without(part.name for part in told.parts)

    at, number = told.entry.posted_at, told.entry.number
    if window.is_pending(at):
        return Step(edit)
    words = f"{told.entry.type} {reference}, {told.amount:+,}"
    return Step(edit, Finding(Code.NOT_THERE, words, at, entry=number))
