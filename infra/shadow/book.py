"""Reads a ledger as a life, and finds in it the entries for the old system's references."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain.batches import Legs
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.holds import dead
from chalicelib.domain.ledger import VOID
from infra.imports.balances import CALLER as CARRIED_OVER

from .life import Action, Give, Grant, Hold, Life, Release, Take

_CARRIED_OVER = f"manual#{CARRIED_OVER}#"


class Named(NamedTuple):
    """A part of an entry: its name and its action in a life."""

    name: str
    action: Action


@dataclass
class Told:
    """What Credits recorded under a reference."""

    parts: list[Named]
    amount: int
    entry: LedgerEntry


@dataclass
class Book:
    """A ledger.

    ``life``: everything posted by the end; ``opening``: what is from before the start.
    ``allocations``: those since the start that granted anything, even after the end. ``told``: what
    was recorded by reference since the start: usages, and everything else.
    """

    life: Life
    opening: Life
    allocations: list[LedgerEntry]
    usages: dict[str, Told]
    others: dict[str, Told]


def read(entries: Sequence[LedgerEntry], start: datetime, until: datetime) -> Book:
    """Reads a ledger from its first entry on."""
    by_number = {entry.number: entry for entry in entries}
    life, opening = dict[str, Action](), dict[str, Action]()
    allocations = []
    told = defaultdict[bool, dict[str, Told]](dict)
    for entry in entries:
        is_carried = entry.operation.startswith(_CARRIED_OVER)
        parts = [*_parts(entry, start if is_carried else None)]
        if is_carried or entry.posted_at < start:
            opening |= dict(parts)
        elif entry.type is EntryType.ALLOCATION:
            allocations += [entry] if parts else []
        else:
            for reference, part in zip(_references(entry, by_number), parts, strict=False):
                of_kind = told[entry.type is EntryType.USAGE]
                known = of_kind.setdefault(reference, Told([], 0, entry))
                known.parts.append(part)
                known.amount += _amount(part.action)
        if entry.posted_at <= until:
            life |= dict(parts)
    return Book(Life(life), Life(opening), allocations, told[True], told[False])


def balance(entries: Sequence[LedgerEntry], at: datetime) -> int:
    """The ledger's balance at an instant, by comparison: without expired credits."""
    last = last_before(entries, at)
    if last is None:
        return 0
    return last.balance - sum(leg.amount for leg in dead(last.batches, last.holds, at))


def last_before(entries: Sequence[LedgerEntry], at: datetime) -> LedgerEntry | None:
    """The last entry posted at or before an instant."""
    found = None
    for entry in entries:
        if entry.posted_at > at:
            break
        found = entry
    return found


def lot(entry: LedgerEntry) -> str:
    """The name of the lot that an entry granted."""
    return str(entry.number)


def grant(entry: LedgerEntry) -> Grant:
    """The grant of an entry."""
    batch = entry.granted_batch
    assert batch is not None  # noqa: S101 - only asked of those that did
    return Grant(
        entry.posted_at,
        entry.number,
        entry.amount,
        batch.granted_at,
        batch.number,
        batch.priority,
        batch.expires_at,
    )


def _parts(entry: LedgerEntry, start: datetime | None) -> Iterator[Named]:
    """The parts of an entry in a life; carried-over batches exist from the start."""
    at, number, name = entry.posted_at, entry.number, str(entry.number)
    if entry.granted_batch:
        its = grant(entry)
        yield Named(name, its._replace(at=min(at, start)) if start else its)
        return
    match entry.type:
        case EntryType.USAGE if entry.items:
            for place, item in enumerate(entry.items):
                yield Named(f"{name}.{place}", Take(at, number, item.amount))
        case EntryType.USAGE:
            hold = None if entry.hold is None else str(entry.hold)
            yield Named(name, Take(at, number, -entry.amount, hold=hold))
        case EntryType.HOLD if opened := entry.opened_hold:
            yield Named(name, Hold(at, number, opened.amount, opened.expires_at))
        case EntryType.RELEASE if entry.hold is not None:
            yield Named(name, Release(at, number, str(entry.hold)))
        case EntryType.MANUAL | EntryType.REFUND if entry.amount < 0:
            is_named = entry.type is EntryType.REFUND or entry.operation.startswith(VOID)
            legs = _legs(entry.legs) if is_named or entry.including_held else ()
            yield Named(name, Take(at, number, -entry.amount, legs))
        case EntryType.REVERSAL | EntryType.REFUND if entry.amount > 0:
            yield Named(name, Give(at, number, _legs(entry.legs)))
        case _:
            return


def _legs(legs: Legs) -> tuple[tuple[str, int], ...]:
    return tuple((str(leg.batch), abs(leg.amount)) for leg in legs)


def _amount(action: Action) -> int:
    match action:
        case Grant():
            return action.amount
        case Take():
            return -action.amount
        case Give():
            return sum(amount for _, amount in action.legs)
        case _:
            return 0


def _references(entry: LedgerEntry, by_number: dict[int, LedgerEntry]) -> list[str]:
    """The old system's names for what an entry books: the idempotency key of each request."""
    if entry.type is EntryType.HOLD or entry.type is EntryType.RELEASE:
        return []
    if entry.items:
        return [item.key for item in entry.items]
    if entry.type is EntryType.REFUND:
        return [entry.operation]
    # A capture is requested by the name of its hold, which has the key.
    opened = entry if entry.hold is None else by_number.get(entry.hold, entry)
    return [entry.payment_id or opened.operation.split("#", 2)[-1]]
