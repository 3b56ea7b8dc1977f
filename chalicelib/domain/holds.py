"""Holds: credits set aside for a job, so that nothing else spends them until it is over.

A hold is an earmark, not a debit: batches and balances do not move. It ends by comparison, like a
batch: from ``expires_at`` on its credits can be spent again, whether or not any job runs. Until
then it keeps its credits, even if their batch expires meanwhile. Credits that it frees in an
expired batch are dead.

    batches   1: 70 of 100, expired      3: 50
    holds     2: 40 of batch 1, 10 of batch 3
    spendable 40 of batch 3 (none of batch 1: 40 are held, the other 30 are dead)
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from .batches import Batches, CreditBatch, Leg, Legs

Holds = tuple["Hold", ...]

MOST_SECONDS = 30 * 24 * 60 * 60
"""The longest hold: 30 days."""

DEFAULT_SECONDS = 60 * 60


@dataclass(frozen=True, slots=True)
class Hold:
    """Credits set aside.

    ``number`` is the number of the entry that opened it. ``legs`` say how much of which batch, in
    the order of spending; every amount is positive. ``expires_at`` is exclusive.
    """

    number: int
    legs: Legs
    expires_at: datetime

    @property
    def amount(self) -> int:
        """The sum of what it sets aside."""
        return sum(leg.amount for leg in self.legs)

    def is_active(self, now: datetime) -> bool:
        """Whether it has not lapsed at ``now``: the one place that decides this."""
        return now < self.expires_at


def active(holds: Iterable[Hold], now: datetime) -> Holds:
    """The holds that have not lapsed."""
    return tuple(hold for hold in holds if hold.is_active(now))


def earmarked(holds: Iterable[Hold], now: datetime) -> Counter[int]:
    """How many credits of each batch the active holds set aside."""
    found: Counter[int] = Counter()
    for hold in holds:
        if hold.is_active(now):
            for leg in hold.legs:
                found[leg.batch] += leg.amount
    return found


def spendable(batches: Iterable[CreditBatch], holds: Iterable[Hold], now: datetime) -> Legs:
    """The spendable credits of each usable batch that has any; in the order of the batches."""
    return _not_held((batch for batch in batches if batch.is_usable(now)), holds, now)


def available(batches: Iterable[CreditBatch], holds: Iterable[Hold], now: datetime) -> int:
    """The available balance: credits that could be spent at ``now``."""
    return sum(leg.amount for leg in spendable(batches, holds, now))


def dead(batches: Iterable[CreditBatch], holds: Iterable[Hold], now: datetime) -> Legs:
    """What has expired of each batch and is not held: nobody can spend it any more."""
    return _not_held((batch for batch in batches if not batch.is_usable(now)), holds, now)


def _not_held(batches: Iterable[CreditBatch], holds: Iterable[Hold], now: datetime) -> Legs:
    held = earmarked(holds, now)
    return tuple(
        Leg(batch.number, batch.remaining - held[batch.number])
        for batch in batches
        if batch.remaining > held[batch.number]
    )


def expiring(batch: CreditBatch, holds: Iterable[Hold]) -> int:
    """How many credits expire with a batch: those still held then do not."""
    if batch.expires_at is None:
        return 0
    return batch.remaining - earmarked(holds, batch.expires_at)[batch.number]


def outlives(hold: Hold, batches: Iterable[CreditBatch]) -> bool:
    """Whether one of its batches expires before the hold ends, so that it can free dead credits."""
    expiries = {batch.number: batch.expires_at for batch in batches}
    return any(
        (expires_at := expiries[leg.batch]) is not None and expires_at < hold.expires_at
        for leg in hold.legs
    )


def within(holds: Holds, batches: Batches) -> Holds:
    """The holds, cut to what the batches still have; the latest hold loses first."""
    left: dict[int, int] = {batch.number: batch.remaining for batch in batches}
    return tuple(_cut(hold, left) for hold in holds)


def _cut(hold: Hold, left: dict[int, int]) -> Hold:
    legs = []
    for leg in hold.legs:
        kept = min(leg.amount, left.get(leg.batch, 0))
        left[leg.batch] = left.get(leg.batch, 0) - kept
        if kept:
            legs.append(Leg(leg.batch, kept))
    return replace(hold, legs=tuple(legs))


def without(holds: Iterable[Hold], number: int) -> Holds:
    """The holds except one."""
    return tuple(hold for hold in holds if hold.number != number)
