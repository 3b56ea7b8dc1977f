"""Bugs to plant in holds; importing this enters them in the list of all bugs."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chalicelib.domain import batches, holds, ledger, notifications
from chalicelib.domain.batches import Leg
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.holds import Hold
from chalicelib.jobs import notifications as mails
from chalicelib.operations import holds as operations
from chalicelib.store.ledger import LedgerStore
from tests.simulation.planted import BUGS, Bug, becomes, both, bug, instead

__all__ = ["BUGS", "OF_HOLDS"]

_OTHERS = {*BUGS}


def _hold(account: Any, number: int) -> Hold:
    (found,) = (each for each in account.holds if each.number == number)
    return found  # type: ignore[no-any-return]


def _with(entry: LedgerEntry, hold: Hold) -> LedgerEntry:
    """The entry with one more active hold."""
    found = sorted((*entry.holds, hold), key=lambda each: each.number)
    return replace(entry, holds=tuple(found))


# --- What is held ---------------------------------------------------------------------------------


@bug(holds, "earmarked")
def _lapses_by_an_entry(_: Any, found: Any, _now: Any) -> Any:
    """A hold that has lapsed sets credits aside until some entry leaves it out."""
    held = Counter[int]()
    for hold in found:
        held.update({leg.batch: leg.amount for leg in hold.legs})
    return held


@bug(Hold, "is_active")
def _hold_off_by_one(_: Any, self: Hold, now: Any) -> bool:
    """A hold sets credits aside at the very instant it ends."""
    return bool(now <= self.expires_at)


@bug(holds, "spendable")
def _earmarked_twice(_: Any, there: Any, found: Any, now: Any) -> Any:
    """What is held is taken off the available balance twice."""
    held = holds.earmarked(found, now)
    left = {each.number: each.remaining - 2 * held[each.number] for each in there}
    return tuple(
        Leg(each.number, left[each.number])
        for each in there
        if each.is_usable(now) and left[each.number] > 0
    )


@bug(ledger, "spendable")
def _use_spends_what_is_held(original: Any, found: Any, _: Any, now: Any) -> Any:
    """A use spends credits that are held."""
    return original(found, (), now)


@bug(ledger, "claw_back")
def _claw_back_takes_what_is_held(original: Any, *asked: Any, **_: Any) -> Any:
    """A claw-back takes credits that are held."""
    return original(*asked, including_held=True)


# --- How a hold ends ------------------------------------------------------------------------------


@bug(LedgerStore, "_transact")
def _end_without_marker(original: Any, self: LedgerStore, items: Any) -> Any:
    """The end of a hold leaves no marker."""
    is_end = json.loads(items[0]["body"]["S"])["operation"].startswith("end#")
    return original(self, items[:1] if is_end else items)


def _captured_and_kept(original: Any, account: Any, number: int, *asked: Any, **how: Any) -> Any:
    entry = _with(original(account, number, *asked, **how), _hold(account, number))
    return replace(entry, holds=holds.within(entry.holds, entry.batches))


BUGS["a hold is captured twice: it stays, and its end leaves no marker"] = both(
    instead(ledger, "capture", _captured_and_kept), BUGS["the end of a hold leaves no marker"]
)


@bug(ledger, "_active_hold")
def _lapsed_is_captured(_: Any, account: Any, number: int, _now: Any) -> Hold:
    """A hold that has lapsed is captured all the same."""
    return _hold(account, number)


@bug(ledger, "capture")
def _capture_frees_nothing(
    original: Any, account: Any, number: int, *asked: Any, **how: Any
) -> Any:
    """A capture frees nothing of what it does not take."""
    entry = original(account, number, *asked, **how)
    if not entry.released or not entry.amount:
        return entry
    taken = {leg.batch: -leg.amount for leg in entry.legs}
    hold = _hold(account, number)
    rest = [Leg(leg.batch, leg.amount - taken.get(leg.batch, 0)) for leg in hold.legs]
    return _with(entry, replace(hold, legs=tuple(leg for leg in rest if leg.amount)))


@bug(operations.End, "described")
def _ends_of_a_caller(original: Any, self: operations.End) -> Any:
    """Who ends a hold in the same way as somebody else is refused."""
    return original(self) | {"caller": self.caller}


BUGS["who ends a hold otherwise is told that it is done"] = becomes(
    operations.End, "described", lambda _: {"end": True}
)
BUGS["who comes too late to a hold that was ended is told that it lapsed"] = becomes(
    operations, "_ended_otherwise", operations._not_active
)


@bug(ledger, "together")
def _free_before_held(_: Any, *parts: Any) -> Any:
    """A capture beyond its hold names what was free before what was held."""
    return batches.together(*parts[::-1])


# --- Holds that outlive their batch ---------------------------------------------------------------


@bug(ledger, "dead")
def _expiry_takes_what_is_held(original: Any, found: Any, _: Any, now: Any) -> Any:
    """An expiration books out what is held."""
    return original(found, (), now)


def _swept(sweep_at: Callable[[LedgerEntry], Any]) -> Bug:
    return becomes(LedgerEntry, "sweep_at", property(sweep_at))


_sweep_at: Any = LedgerEntry.sweep_at.fget  # type: ignore[attr-defined]

BUGS["a hold keeps a dead batch for ever: no sweep comes after it"] = _swept(
    lambda entry: entry.granted_batch and entry.granted_batch.expires_at
)
BUGS["a hold that lapses keeps its dead batch: only its end is swept for"] = _swept(
    lambda entry: None if entry.opened_hold else _sweep_at(entry)
)
BUGS["what an end frees of a dead batch is booked out once the hold would have lapsed"] = _swept(
    lambda entry: None if entry.hold is not None else _sweep_at(entry)
)


def _dead_is_spendable(_: Any, there: Any, found: Any, now: Any) -> Any:
    held = holds.earmarked(found, now)
    lapsed = {leg.batch for each in found if not each.is_active(now) for leg in each.legs}
    return tuple(
        Leg(each.number, each.remaining - held[each.number])
        for each in there
        if each.is_usable(now) or each.number in lapsed
        if each.remaining > held[each.number]
    )


BUGS["what a hold frees of a dead batch can be spent"] = both(
    instead(holds, "spendable", _dead_is_spendable),
    instead(ledger, "spendable", _dead_is_spendable),
)


@bug(ledger, "capture")
def _released_lives(original: Any, account: Any, number: int, *asked: Any, **how: Any) -> Any:
    """What is released of a dead batch lives again."""
    entry = original(account, number, *asked, **how)
    freed = {leg.batch for leg in _hold(account, number).legs}
    after = tuple(
        replace(each, expires_at=None)
        if each.number in freed and not each.is_usable(entry.posted_at)
        else each
        for each in entry.batches
    )
    return replace(entry, batches=after)


# --- Voids ----------------------------------------------------------------------------------------


@bug(ledger, "void")
def _void_of_all(original: Any, account: Any, batch: int, request: Any, now: Any, **_: Any) -> Any:
    """A void takes what of the batch is held, too."""
    return original(account, batch, request, now, including_held=True)


@bug(ledger, "void")
def _void_in_order(
    original: Any, account: Any, batch: int, request: Any, now: Any, **how: Any
) -> Any:
    """A void takes as much as is left of the batch, in the order of spending."""
    wanted = original(account, batch, request, now, **how)
    return ledger.claw_back(account, -wanted.amount, request, now)


# --- Emails ---------------------------------------------------------------------------------------

BUGS["users are told that credits expire soon which are held for longer"] = becomes(
    mails, "expiring", lambda batch, _: batch.remaining
)


@bug(notifications, "crosses")
def _low_balance_of_a_capture(_: Any, usage: LedgerEntry, threshold: int | None) -> bool:
    """What a capture sets free counts as if it had been available before."""
    after = usage.available_balance()
    before = after - usage.amount - (usage.released or 0)
    return threshold is not None and after < threshold <= before


OF_HOLDS = tuple(name for name in BUGS if name not in _OTHERS)
"""The sentences of those that are in this file."""
