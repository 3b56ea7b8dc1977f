"""When credits will run out: known grants and expiries, and a guess about spending.

Grants, expiries and the ends of holds are exact: the future decisions are made now, on the account
as it will be. Only the rate of spending is a guess, so there is one forecast for each rate, and one
for a rate of zero.

    100 on the 1st, which live 30 days; 40 were spent in the last 7 days
    at that rate   they run out on the 18th: 5 are wanted that day, and 3 are there
    at none        100 expire on the 31st
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import count, groupby
from typing import NamedTuple

from . import calendar, ledger
from .batches import CreditBatch, Leg
from .due import due_allocation
from .entries import SYSTEM, EntryType, LedgerEntry
from .errors import InsufficientCredits
from .ledger import Account, Request
from .plans import PlanCatalogue
from .subscriptions import Subscription, next_allocation, not_allocated_because

HORIZON_DAYS = 365
"""How many days a forecast looks ahead."""

MOST_GRANTS = 50
"""More grants than a forecast can meet: one a month, and the months and steps already owed."""

_FORESEEN = Request("forecast", SYSTEM, "")
_MILLISECOND = timedelta(milliseconds=1)
_DAY = timedelta(days=1)


class Rate(NamedTuple):
    """Credits per number of days, spread evenly; whole credits at the end of each day."""

    credits: int
    days: int

    def through(self, day: int) -> int:
        """All that is spent by the end of day number ``day``."""
        return self.credits * day // self.days


NOTHING = Rate(0, 1)


class Grant(NamedTuple):
    """Credits that will be allocated: when, on which local date, and how many."""

    at: datetime
    on: date
    amount: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The future of an account at a rate, until ``until`` or until it runs out.

    ``runs_out_on``: the first local date that the credits do not cover; None if they last.
    ``expiring``: what expires unused, by the local date on which it is gone.
    """

    until: date
    grants: tuple[Grant, ...]
    expiring: dict[date, int]
    runs_out_on: date | None


def forecast(
    catalogue: PlanCatalogue,
    subscription: Subscription | None,
    account: Account,
    now: datetime,
    rate: Rate = NOTHING,
) -> Forecast:
    """The future of an account if its user spends at a rate from today on.

    Holds are assumed to lapse unused at their end, and the subscription to stay as it is.
    """
    return _Course(catalogue, subscription, account, now, rate).run()


@dataclass
class _Course:
    """An account on its way through the coming days."""

    catalogue: PlanCatalogue
    subscription: Subscription | None
    account: Account
    now: datetime
    rate: Rate
    grants: list[Grant] = field(default_factory=list)
    expiring: Counter[date] = field(default_factory=Counter)

    def run(self) -> Forecast:
        zone = self._timezone
        today = calendar.local_date(zone, self.now)
        until = today + HORIZON_DAYS * _DAY
        end = calendar.midnight(zone, until)
        runs_out, spent_days = None, 0
        moment = comes_at = self.account.time(self.now)
        while runs_out is None and moment < end:
            if moment == comes_at:
                self._grant(moment)
                self.account = _in_lots(self.account, end)
                comes_at = self._comes_after(moment) or end
            self._expire(moment)
            upcoming = min([comes_at, end, *self._ends_after(moment)])
            days = (calendar.local_date(zone, upcoming) - today).days  # days over by then
            short = self._spend(spent_days, days, upcoming - _MILLISECOND)
            runs_out = None if short is None else today + (short - 1) * _DAY
            spent_days, moment = days, upcoming
        if runs_out is None:
            self._expire(end - _MILLISECOND)
        return Forecast(until, tuple(self.grants), dict(self.expiring), runs_out)

    @property
    def _timezone(self) -> str:
        return calendar.known_or_utc(self.subscription.timezone) if self.subscription else "UTC"

    def _after(self, entry: LedgerEntry) -> None:
        self.account = self.account._replace(last=entry)

    def _grant(self, at: datetime) -> None:
        """Grants everything that is due by then."""
        if self.subscription is None or not_allocated_because(self.subscription, self.catalogue):
            return
        for _ in range(MOST_GRANTS):
            entry = due_allocation(self.catalogue, self.account, self.subscription, at, at)
            if entry is None:
                return
            self._after(entry)
            on = calendar.local_date(self._timezone, at)
            self.grants.append(Grant(at, on, entry.amount))

    def _expire(self, at: datetime) -> None:
        entry = ledger.expire(self.account, at)
        if entry is None:
            return
        ends = {batch.number: batch.expires_at for batch in self.account.batches}
        for leg in entry.legs:
            # Credits that a hold kept beyond their expiry are gone when the hold ends.
            expired_at = ends[leg.batch]
            assert expired_at is not None  # noqa: S101 - it has expired
            gone_at = max(expired_at, self.now)
            self.expiring[calendar.local_date(self._timezone, gone_at)] -= leg.amount
        self._after(entry)

    def _comes_after(self, moment: datetime) -> datetime | None:
        """When the next allocation is due."""
        if self.subscription is None:
            return None
        through = self.account.allocated_through
        upcoming = next_allocation(self.subscription, self.catalogue, through, moment)
        return upcoming.at if upcoming and upcoming.at > moment else None

    def _ends_after(self, moment: datetime) -> Iterable[datetime]:
        """When credits expire, or become free again: later spending takes from other batches.

        If nothing is spent, the order in which they do does not matter.
        """
        if self.rate.credits:
            ends = [batch.expires_at for batch in self.account.batches]
            ends += [hold.expires_at for hold in self.account.holds]
            yield from (end for end in ends if end is not None and end > moment)

    def _spend(self, before: int, through: int, at: datetime) -> int | None:
        """Spends the days after day ``before``; gives the first uncovered day, if any."""
        spent = self.rate.through(before)
        if amount := self.rate.through(through) - spent:
            try:
                self._after(ledger.use(self.account, amount, _FORESEEN, at))
            except InsufficientCredits as short:
                covered = spent + short.available
                return next(day for day in count(before) if self.rate.through(day) > covered)
        return None


def _in_lots(account: Account, end: datetime) -> Account:
    """An account with one batch for each run of batches that are spent in turn and end together.

    Until ``end`` it behaves like the original: what lives longer does not end before. Only for an
    account whose next grants are later than its batches, so that no grant comes within a run.
    """
    if account.last is None:
        return account

    def place(batch: CreditBatch) -> tuple[int, datetime | None]:
        return batch.priority, None if batch.is_usable(end) else batch.expires_at

    lots: list[CreditBatch] = []
    lot_of: dict[int, int] = {}
    for _, run in groupby(account.batches, place):
        first, *others = run
        amount = first.remaining + sum(batch.remaining for batch in others)
        lots.append(replace(first, granted=amount, remaining=amount))
        lot_of |= {batch.number: first.number for batch in (first, *others)}
    holds = tuple(
        replace(hold, legs=tuple(Leg(lot_of[leg.batch], leg.amount) for leg in hold.legs))
        for hold in account.holds
    )
    return account._replace(last=replace(account.last, batches=tuple(lots), holds=holds))


class NoRate(StrEnum):
    """Why a window justifies no rate."""

    TOO_NEW = "too_new"
    NOTHING_SPENT = "nothing_spent"
    TOO_MANY_LINES = "too_many_lines"

    @property
    def words(self) -> str:
        """A sentence for people."""
        return _NO_RATE[self]


_NO_RATE = {
    NoRate.TOO_NEW: "The ledger is younger than that.",
    NoRate.NOTHING_SPENT: "Nothing was spent in that time.",
    NoRate.TOO_MANY_LINES: "The lines that were read are of less than a day.",
}


class Spending(NamedTuple):
    """What was spent in the last ``days`` days, and the reason if that justifies no rate.

    ``days``: fewer than those of the window if its lines were too many to read.
    """

    window_days: int
    days: int
    spent: int
    because: NoRate | None

    @property
    def rate(self) -> Rate | None:
        """The guess; None if no guess is justified."""
        return None if self.because else Rate(self.spent, self.days)


def spending_of(newest_first: Sequence[LedgerEntry], now: datetime, window_days: int) -> Spending:
    """What the latest entries say about a window that ends now.

    They reach back to one from before the window, to the first of the ledger, or as far as was
    read. A usage that was given back was not spent.
    """
    known_since = newest_first[-1].posted_at if newest_first else now
    days = min(window_days, (now - known_since) // _DAY)
    is_whole_ledger = not newest_first or newest_first[-1].number == 1
    spent = spent_since(newest_first, now - days * _DAY)
    because = None
    if days < window_days and is_whole_ledger:
        because = NoRate.TOO_NEW
    elif days < 1:
        because = NoRate.TOO_MANY_LINES
    elif spent < 1:
        because = NoRate.NOTHING_SPENT
    return Spending(window_days, days, spent, because)


PACES = (30, 7)
"""The windows for the single rate shown to a person, the better one first: a month has workdays and
weekends; where it justifies no rate, as in a young ledger, a week."""

LONGEST_PACE = max(PACES) * _DAY
"""How far back the latest entries must reach for a pace."""


def pace_of(newest_first: Sequence[LedgerEntry], now: datetime) -> Spending | None:
    """The best justified rate, as `spending_of` gives it; None if no rate is justified."""
    windows = (spending_of(newest_first, now, days) for days in PACES)
    return next((each for each in windows if each.rate), None)


def spent_since(entries: Iterable[LedgerEntry], since: datetime) -> int:
    """The credits that usages spent from an instant on, less what was given back of any usage."""
    wanted = (EntryType.USAGE, EntryType.REVERSAL)
    return -sum(
        entry.amount for entry in entries if entry.type in wanted and entry.posted_at >= since
    )
