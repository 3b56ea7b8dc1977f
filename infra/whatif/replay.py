"""Replays a user's past under other plans, with the decisions of the domain and nothing else.

Requests of people and programs are repeated at the same instants: usages, holds and their ends,
reversals, purchases, refunds, adjustments, edits. What the plans decide is decided anew:
allocations and expiries.

    2026-03-01  allocation +100      the plans that are asked about grant 50
    2026-03-10  usage       -30      asked again: covered
    2026-03-20  usage       -40      asked again: 20 are there, so 40 are refused
    2026-03-21  reversal    +10      of the usage that was refused: there is nothing to give back

If the ledger allocated a month late, the replay is as late. So with the plans of the time the
replay reproduces the ledger, to the credit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from chalicelib.domain import ledger
from chalicelib.domain.batches import CreditBatch
from chalicelib.domain.calendar import Period
from chalicelib.domain.due import due_allocation
from chalicelib.domain.entries import SYSTEM, EntryType, LedgerEntry, Refund
from chalicelib.domain.errors import CreditsError, NotFound
from chalicelib.domain.ledger import VOID, Account, Request
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import (
    Subscription,
    due_periods,
    due_top_up,
    next_allocation,
    not_allocated_because,
    sign_up_for,
)

from .flows import Flows, flows
from .past import Course, Past, Step, edited

_AGAIN = Request("what-if", SYSTEM, "")
_MILLISECOND = timedelta(milliseconds=1)
_IN_TIME = timedelta(0)


def _somewhere() -> str:
    """A timezone for decisions that record it for a sweep: there are no sweeps here."""
    return "UTC"


class Refused(NamedTuple):
    """A usage that was not covered."""

    at: datetime
    amount: int


@dataclass
class Replay:
    """A user's account on its way through the past again.

    ``catalogue``: the plans in question; ``as_it_was``: those of the time, which say what was owed
    before. ``bounds``: the months; see `flows`. ``not_repeated``: the numbers of entries whose
    requests could not be repeated, because what they name does not exist under these plans.
    """

    catalogue: PlanCatalogue
    as_it_was: PlanCatalogue
    past: Past
    course: Course
    bounds: Sequence[datetime]
    subscription: Subscription | None = field(init=False)
    opening: Account = field(init=False)
    account: Account = field(init=False)
    posted: list[LedgerEntry] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    not_repeated: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = self.bounds[0]
        before = [entry for entry in self.past.entries if entry.posted_at < start]
        self._known = len(before)
        """The entries up to this number are those of the ledger: their numbers do not change."""
        user_id = self.past.subscription.user_id
        self.opening = Account(user_id, before[-1] if before else None)
        self.account = self.opening
        self._moment = start
        self.subscription = self._at_the_opening(start)
        self._late = _lateness(self.past.entries)
        self._next: tuple[datetime] | tuple[()] | None = None
        # By their numbers in the ledger: the batches here, if they exist.
        self._batches: dict[int, CreditBatch] = {}
        self._holds: dict[int, int] = {}
        self._usages: dict[int, tuple[LedgerEntry, LedgerEntry]] = {}
        self._allocated: dict[object, CreditBatch] = {}
        self._asked_back: dict[int, int] = {}
        self._reversals: dict[int, int] = {}
        self._refunds: dict[int, Refund] = {}
        for entry in before:
            self._remember(entry)

    def run(self) -> tuple[Flows, ...]:
        """Replays everything; returns what went in and out, month by month."""
        steps = deque(self.course.steps)
        entries = deque(self.past.entries[self._known :])
        for end in self.bounds[1:]:
            while True:
                edit_at = steps[0].at if steps else end
                entry_at = entries[0].posted_at if entries else end
                if min(edit_at, entry_at) >= end:
                    break
                if edit_at <= entry_at:
                    self._edit(steps.popleft())
                else:
                    self._repeat(entries.popleft())
            self._grant_until(end)
            self._expire(end - _MILLISECOND)
            self.plans.append(self.subscription.plan if self.subscription else "")
        found = flows(self.opening, self.posted, self.bounds)
        return tuple(
            month._replace(refused=sum(each.amount for each in self.refused if a <= each.at < b))
            for month, a, b in zip(found, self.bounds, self.bounds[1:], strict=False)
        )

    # --- What the plans decide --------------------------------------------------------------------

    def _at_the_opening(self, start: datetime) -> Subscription | None:
        """The subscription at the start; the plans in question grant nothing for the time before.

        They count from the start on, like newly deployed plans: what was owed then under the plans
        of the time, and nothing else, is still owed.
        """
        opening, at = self.course.opening, start - _MILLISECOND
        if opening is None or not self._due(self.catalogue, opening, at):
            return opening
        if self._due(self.as_it_was, opening, at):
            return opening
        return replace(opening, resumed_at=max(start, opening.resumed_at or start))

    def _due(self, catalogue: PlanCatalogue, opening: Subscription, at: datetime) -> bool:
        if not_allocated_because(opening, catalogue):
            return False
        return bool(due_periods(opening, catalogue, self.opening.allocated_through, at, at))

    def _edit(self, step: Step) -> None:
        self._grant_until(step.at)
        self.subscription = edited(self.subscription, step, self.catalogue)
        self._moment, self._next = max(self._moment, step.at), None

    def _grant_until(self, until: datetime, *, inclusive: bool = False) -> None:
        """Grants everything due before an instant (or by then), each at its own instant."""
        while at := self._next_at():
            if at > until or (at == until and not inclusive):
                return
            self._moment, self._next = at, None
            assert self.subscription is not None  # noqa: S101 - something is due to it
            entry = due_allocation(self.catalogue, self.account, self.subscription, at, at)
            if entry is None:
                self._next = ()
                return
            self._post(entry)
            if batch := entry.granted_batch:
                self._allocated[_name(entry)] = batch

    def _next_at(self) -> datetime | None:
        """When the next allocation comes; valid until the next entry or edit."""
        if self._next is None:
            at = self._coming()
            self._next = (at,) if at else ()
        return self._next[0] if self._next else None

    def _coming(self) -> datetime | None:
        if self.subscription is None:
            return None
        subscription, account = self.subscription, self.account
        through = account.allocated_through
        step = due_top_up(subscription, self.catalogue, through, account.topped_up_at)
        if step:
            return max(self._moment, step.at + self._late.get(step.at, _IN_TIME))
        coming = next_allocation(subscription, self.catalogue, through, self._moment)
        if coming is None:
            return None
        signed = sign_up_for(subscription, coming.period)
        due_at = max(coming.at, signed.at) if signed else coming.at
        return max(self._moment, due_at + self._late.get(coming.period, _IN_TIME))

    def _expire(self, at: datetime) -> None:
        if entry := ledger.expire(self.account, at):
            self._post(entry)

    # --- Requests ---------------------------------------------------------------------------------

    def _repeat(self, entry: LedgerEntry) -> None:
        at = entry.posted_at
        self._grant_until(at, inclusive=entry.type is EntryType.ALLOCATION)
        self._moment = max(self._moment, at)
        match entry.type:
            case EntryType.ALLOCATION:
                return
            case EntryType.EXPIRATION:
                self._expire(at)
                return
            case EntryType.USAGE:
                self._use(entry)
                return
        try:
            self._ask(entry)
        except CreditsError:
            self.not_repeated.append(entry.number)

    def _use(self, entry: LedgerEntry) -> None:
        at, amount, before = entry.posted_at, -entry.amount, self.account.last
        try:
            if entry.hold is None:
                used = ledger.use(self.account, amount, _AGAIN, at)
            else:
                number = self._hold(entry.hold)
                used = ledger.capture(
                    self.account, number, amount, _AGAIN, at, _somewhere, beyond_hold=True
                )
        except CreditsError:
            self.refused.append(Refused(at, amount))
            return
        self._post(used)
        assert before is not None  # noqa: S101 - something was there to spend
        self._usages[entry.number] = used, before

    def _hold(self, number: int) -> int:
        """A hold's number here; 0, which no hold has, if the hold was refused."""
        return number if number <= self._known else self._holds.get(number, 0)

    def _ask(self, entry: LedgerEntry) -> None:
        """Repeats a request that is not a usage. Raises the domain's refusal."""
        match entry.type:
            case EntryType.HOLD:
                opened = entry.opened_hold
                assert opened is not None  # noqa: S101 - every such entry opens one
                seconds = (opened.expires_at - entry.posted_at) // timedelta(seconds=1)
                again = ledger.hold(
                    self.account, opened.amount, seconds, _AGAIN, entry.posted_at, _somewhere
                )
                self._holds[entry.number] = again.number
                self._post(again)
            case EntryType.RELEASE:
                number = self._hold(entry.hold or 0)
                now = entry.posted_at
                self._post(ledger.capture(self.account, number, 0, _AGAIN, now, _somewhere))
            case EntryType.REVERSAL:
                self._reverse(entry)
            case EntryType.REFUND:
                self._refund(entry)
            case _:
                self._by_hand(entry)

    def _by_hand(self, entry: LedgerEntry) -> None:
        """A purchase or an adjustment."""
        now, batch = entry.posted_at, entry.granted_batch
        if batch:
            # It keeps its original dates: the entry does not say whether the request named them.
            again = ledger.carry_over(
                self.account,
                batch.granted,
                batch.granted_at,
                batch.expires_at,
                _AGAIN,
                now,
                _somewhere(),
                batch.priority,
            )
            again = replace(again, type=entry.type)
            granted = again.granted_batch
            assert granted is not None  # noqa: S101 - that is what it does
            self._batches[entry.number] = granted
            self._post(again)
            return
        held = entry.including_held
        if entry.operation.startswith(VOID):
            (leg,) = entry.legs
            named = self._batch(leg.batch)
            number = named.number if named else 0
            self._post(ledger.void(self.account, number, _AGAIN, now, including_held=held))
        elif entry.amount:
            self._post(
                ledger.claw_back_what_is_left(
                    self.account, -entry.amount, _AGAIN, now, including_held=held
                )
            )
        # Otherwise it found nothing to take; no entry says how much it asked for.

    def _batch(self, number: int) -> CreditBatch | None:
        """A batch as it was granted here, by its number in the ledger."""
        if number in self._batches:
            return self._batches[number]
        return self._allocated.get(_name(self.past.entries[number - 1]))

    def _reverse(self, entry: LedgerEntry) -> None:
        usage = entry.usage
        if usage is None:
            raise NotFound("the reversal is from before it was written down of what it is")
        asked = self._asked_for(entry, usage)
        if usage not in self._usages:
            raise NotFound("the usage was refused")
        used, before = self._usages[usage]
        done = self._asked_back.get(usage, 0)
        reversal = ledger.reverse(self.account, used, before, done, asked, _AGAIN, entry.posted_at)
        self._asked_back[usage] = reversal.reversed_in_all
        self._post(reversal.entry)

    def _asked_for(self, entry: LedgerEntry, usage: int) -> int:
        """How much of the usage a reversal gave back, including expired credits."""
        place = self._reversals.get(usage, 0)
        self._reversals[usage] = place + 1
        in_all = self.past.given_back.get(usage, ())
        if place < len(in_all):
            return in_all[place] - (in_all[place - 1] if place else 0)
        return entry.amount

    def _refund(self, entry: LedgerEntry) -> None:
        assert entry.refund is not None  # noqa: S101 - every such entry says what it is of
        number = entry.refund.purchase
        batch = self._batches.get(number)
        if batch is None:
            raise NotFound("the purchase is not there")
        before = self._refunds.get(number)
        in_all, observed_at = entry.refund.in_all, entry.refund.observed_at
        refunded = ledger.refund(
            self.account, batch, before, in_all, observed_at, _AGAIN, entry.posted_at
        )
        if refunded:
            assert refunded.entry.refund is not None  # noqa: S101 - as above
            self._refunds[number] = refunded.entry.refund
            self._post(refunded.entry)

    # --- Posting ----------------------------------------------------------------------------------

    def _post(self, entry: LedgerEntry) -> None:
        self.posted.append(entry)
        self.account = self.account._replace(last=entry)
        if entry.type is EntryType.ALLOCATION:
            self._next = None

    def _remember(self, entry: LedgerEntry) -> None:
        """Takes in an earlier line of the ledger, because later ones name it."""
        if batch := entry.granted_batch:
            self._batches[entry.number] = batch
        if entry.type is EntryType.USAGE and entry.number > 1:
            self._usages[entry.number] = entry, self.past.entries[entry.number - 2]
        if entry.type is EntryType.REVERSAL and entry.usage is not None:
            asked = self._asked_for(entry, entry.usage)
            self._asked_back[entry.usage] = self._asked_back.get(entry.usage, 0) + asked
        if entry.refund:
            self._refunds[entry.refund.purchase] = entry.refund


def _name(entry: LedgerEntry) -> Period | datetime | None:
    """The name of an allocation: its period, or the step up that it is for."""
    if entry.type is not EntryType.ALLOCATION:
        return None
    return entry.allocated_through if entry.begins_period else entry.topped_up_at


def _lateness(entries: Sequence[LedgerEntry]) -> dict[object, timedelta]:
    """How late each allocation was posted, by its name."""
    return {
        _name(entry): max(_IN_TIME, entry.posted_at - entry.effective_at)
        for entry in entries
        if entry.type is EntryType.ALLOCATION
    }
