"""Bugs to plant in holds; importing this enters them in the list of all bugs."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from chalicelib.domain import batches, holds, ledger, notifications
from chalicelib.domain.batches import Leg
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.holds import Hold
from chalicelib.jobs import notifications as mails
from chalicelib.operations import holds as operations
from chalicelib.store.ledger import LedgerStore
from tests.simulation.planted import BUGS, Bug

__all__ = ["BUGS", "OF_HOLDS"]

_OTHERS = {*BUGS}


def bug(sentence: str) -> Callable[[Bug], Bug]:
    """Enters a bug in the list."""

    def enter(plant: Bug) -> Bug:
        BUGS[sentence] = plant
        return plant

    return enter


@contextmanager
def all_of(*patches: AbstractContextManager[object]) -> Iterator[None]:
    """Several changes that make one bug."""
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield


# --- What is held ---------------------------------------------------------------------------------


def _earmarked(found: Any, _now: Any) -> Any:
    """What all holds of the last entry set aside, whatever the time."""
    held = Counter[int]()
    for hold in found:
        held.update({leg.batch: leg.amount for leg in hold.legs})
    return held


@bug("a hold that has lapsed sets credits aside until some entry leaves it out")
def _lapses_by_an_entry() -> AbstractContextManager[object]:
    return patch.object(holds, "earmarked", _earmarked)


@bug("a hold sets credits aside at the very instant it ends")
def _hold_off_by_one() -> AbstractContextManager[object]:
    return patch.object(Hold, "is_active", lambda self, now: now <= self.expires_at)


@bug("what is held is taken off the available balance twice")
def _earmarked_twice() -> AbstractContextManager[object]:
    def spendable(there: Any, found: Any, now: Any) -> Any:
        held = holds.earmarked(found, now)
        left = {each.number: each.remaining - 2 * held[each.number] for each in there}
        return tuple(
            Leg(each.number, left[each.number])
            for each in there
            if each.is_usable(now) and left[each.number] > 0
        )

    return patch.object(holds, "spendable", spendable)


@bug("a use spends credits that are held")
def _use_spends_what_is_held() -> AbstractContextManager[object]:
    original = holds.spendable
    return patch.object(ledger, "spendable", lambda found, _, now: original(found, (), now))


@bug("a claw-back takes credits that are held")
def _claw_back_takes_what_is_held() -> AbstractContextManager[object]:
    original = ledger.claw_back

    def claw_back(*asked: Any, **_: Any) -> Any:
        return original(*asked, including_held=True)

    return patch.object(ledger, "claw_back", claw_back)


# --- How a hold ends ------------------------------------------------------------------------------


@bug("the end of a hold leaves no marker")
def _end_without_marker() -> AbstractContextManager[object]:
    original = LedgerStore._transact

    def transact(self: LedgerStore, items: Any) -> None:
        is_end = json.loads(items[0]["body"]["S"])["operation"].startswith("end#")
        original(self, items[:1] if is_end else items)

    return patch.object(LedgerStore, "_transact", transact)


@bug("a hold is captured twice: it stays, and its end leaves no marker")
def _captured_twice() -> AbstractContextManager[object]:
    def capture(account: Any, number: int, *asked: Any, **how: Any) -> Any:
        entry = original(account, number, *asked, **how)
        kept = [each for each in account.holds if each.number == number]
        found = sorted((*entry.holds, *kept), key=lambda each: each.number)
        return replace(entry, holds=holds.within(tuple(found), entry.batches))

    original = ledger.capture
    return all_of(patch.object(ledger, "capture", capture), _end_without_marker())


@bug("a hold that has lapsed is captured all the same")
def _lapsed_is_captured() -> AbstractContextManager[object]:
    def active_hold(account: Any, number: int, _now: Any) -> Hold:
        found: Hold = holds.by_number(account.holds)[number]
        return found

    return patch.object(ledger, "_active_hold", active_hold)


@bug("a capture frees nothing of what it does not take")
def _capture_frees_nothing() -> AbstractContextManager[object]:
    original = ledger.capture

    def capture(account: Any, number: int, *asked: Any, **how: Any) -> Any:
        entry = original(account, number, *asked, **how)
        if not entry.released or not entry.amount:
            return entry
        taken = {leg.batch: -leg.amount for leg in entry.legs}
        (hold,) = (each for each in account.holds if each.number == number)
        rest = [Leg(leg.batch, leg.amount - taken.get(leg.batch, 0)) for leg in hold.legs]
        kept = replace(hold, legs=tuple(leg for leg in rest if leg.amount))
        found = sorted((*entry.holds, kept), key=lambda each: each.number)
        return replace(entry, holds=tuple(found))

    return patch.object(ledger, "capture", capture)


@bug("who ends a hold in the same way as somebody else is refused")
def _ends_of_a_caller() -> AbstractContextManager[object]:
    original = operations.End.described
    return patch.object(
        operations.End, "described", lambda self: original(self) | {"caller": self.caller}
    )


@bug("who ends a hold otherwise is told that it is done")
def _another_end_is_the_same() -> AbstractContextManager[object]:
    return patch.object(operations.End, "described", lambda _: {"end": True})


@bug("who comes too late to a hold that was ended is told that it lapsed")
def _ended_is_lapsed() -> AbstractContextManager[object]:
    return patch.object(operations, "_ended_otherwise", operations._not_active)


@bug("a capture beyond its hold names what was free before what was held")
def _free_before_held() -> AbstractContextManager[object]:
    original = batches.together
    return patch.object(ledger, "together", lambda *parts: original(*parts[::-1]))


# --- Holds that outlive their batch ---------------------------------------------------------------


@bug("an expiration books out what is held")
def _expiry_takes_what_is_held() -> AbstractContextManager[object]:
    original = holds.dead
    return patch.object(ledger, "dead", lambda found, _, now: original(found, (), now))


@bug("a hold keeps a dead batch for ever: no sweep comes after it")
def _no_sweep_after_holds() -> AbstractContextManager[object]:
    def sweep_at(self: LedgerEntry) -> Any:
        return self.granted_batch and self.granted_batch.expires_at

    return patch.object(LedgerEntry, "sweep_at", property(sweep_at))


@bug("a hold that lapses keeps its dead batch: only its end is swept for")
def _no_sweep_after_a_lapse() -> AbstractContextManager[object]:
    original = LedgerEntry.sweep_at.fget  # type: ignore[attr-defined]

    def sweep_at(self: LedgerEntry) -> Any:
        return None if self.opened_hold else original(self)

    return patch.object(LedgerEntry, "sweep_at", property(sweep_at))


@bug("what an end frees of a dead batch is booked out once the hold would have lapsed")
def _no_sweep_after_an_end() -> AbstractContextManager[object]:
    original = LedgerEntry.sweep_at.fget  # type: ignore[attr-defined]

    def sweep_at(self: LedgerEntry) -> Any:
        return None if self.hold is not None else original(self)

    return patch.object(LedgerEntry, "sweep_at", property(sweep_at))


@bug("what a hold frees of a dead batch can be spent")
def _dead_is_spendable() -> AbstractContextManager[object]:
    def spendable(there: Any, found: Any, now: Any) -> Any:
        held = holds.earmarked(found, now)
        lapsed = {leg.batch for each in found if not each.is_active(now) for leg in each.legs}
        return tuple(
            Leg(each.number, each.remaining - held[each.number])
            for each in there
            if each.is_usable(now) or each.number in lapsed
            if each.remaining > held[each.number]
        )

    return all_of(
        patch.object(holds, "spendable", spendable), patch.object(ledger, "spendable", spendable)
    )


@bug("what is released of a dead batch lives again")
def _released_lives() -> AbstractContextManager[object]:
    original = ledger.capture

    def capture(
        account: Any, number: int, amount: int, request: Any, now: Any, *more: Any, **how: Any
    ) -> Any:
        entry = original(account, number, amount, request, now, *more, **how)
        freed = {leg.batch for leg in holds.by_number(account.holds)[number].legs}
        after = tuple(
            replace(each, expires_at=None)
            if each.number in freed and not each.is_usable(entry.posted_at)
            else each
            for each in entry.batches
        )
        return replace(entry, batches=after)

    return patch.object(ledger, "capture", capture)


# --- Mails ----------------------------------------------------------------------------------------


@bug("users are told that credits expire soon which are held for longer")
def _reminded_of_what_is_held() -> AbstractContextManager[object]:
    return patch.object(mails, "earmarked", lambda *_: Counter[int]())


@bug("what a capture sets free counts as if it had been available before")
def _low_balance_of_a_capture() -> AbstractContextManager[object]:
    def crosses(usage: LedgerEntry, threshold: int | None) -> bool:
        after = usage.available_balance()
        before = after - usage.amount - (usage.released or 0)
        return threshold is not None and after < threshold <= before

    return patch.object(notifications, "crosses", crosses)


OF_HOLDS = tuple(name for name in BUGS if name not in _OTHERS)
"""The sentences of those that are in this file."""
