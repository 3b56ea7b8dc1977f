"""Credit batches: what was granted at once, what is left of it, and the order it is spent in.

All functions are pure; amounts are whole credits; instants are aware UTC datetimes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple

Batches = tuple["CreditBatch", ...]
Legs = tuple["Leg", ...]


class Leg(NamedTuple):
    """How much one entry moved in one batch: positive gives, negative takes."""

    batch: int
    amount: int


@dataclass(frozen=True, slots=True)
class CreditBatch:
    """A lot of credits granted at once.

    ``number`` is the number of the ledger entry that granted it, and so its name within the ledger.
    ``expires_at`` is exclusive: the batch is usable iff ``now < expires_at``; None never expires.
    """

    number: int
    granted: int
    remaining: int
    granted_at: datetime
    expires_at: datetime | None

    def is_usable(self, now: datetime) -> bool:
        """Whether its credits can be spent at ``now``: the one place that decides about expiry."""
        return self.expires_at is None or now < self.expires_at


def in_burn_down_order(batches: Iterable[CreditBatch]) -> Batches:
    """First in, first out: by ``granted_at``, then by entry number."""
    return tuple(sorted(batches, key=lambda batch: (batch.granted_at, batch.number)))


def available(batches: Iterable[CreditBatch], now: datetime) -> int:
    """The available balance: credits that could be spent at ``now``."""
    return sum(batch.remaining for batch in batches if batch.is_usable(now))


def expired(batches: Iterable[CreditBatch], now: datetime) -> Batches:
    """The batches past their ``expires_at``."""
    return tuple(batch for batch in batches if not batch.is_usable(now))


def burn_down(batches: Sequence[CreditBatch], amount: int, now: datetime) -> Legs:
    """The legs that take ``amount`` from the usable batches, oldest first.

    The caller has checked that ``amount`` is available.
    """
    legs = []
    left = amount
    for batch in batches:
        if left and batch.is_usable(now):
            taken = min(left, batch.remaining)
            legs.append(Leg(batch.number, -taken))
            left -= taken
    if left:
        raise ValueError(f"{left} of {amount} credits are not covered by usable batches")
    return tuple(legs)


def move(batches: Batches, legs: Legs, known: Iterable[CreditBatch] = ()) -> Batches:
    """The open batches after ``legs``: emptied ones leave, and ``known`` ones can return.

    ``known`` holds batches that may no longer be open; a leg that gives to one of them reopens it.
    """
    after = {batch.number: batch for batch in batches}
    closed = {batch.number: replace(batch, remaining=0) for batch in known}
    for leg in legs:
        batch = after.get(leg.batch) or closed[leg.batch]
        remaining = batch.remaining + leg.amount
        if not 0 <= remaining <= batch.granted:
            raise ValueError(f"batch {leg.batch} would hold {remaining} of {batch.granted}")
        after[leg.batch] = replace(batch, remaining=remaining)
    return in_burn_down_order(batch for batch in after.values() if batch.remaining)


def returned(spent: Legs, skip: int, amount: int) -> Legs:
    """The legs that give ``amount`` of a usage back, after ``skip`` credits given back before.

    Credits return in the reverse order of their spending, so that a usage of 10 with 4 given back
    leaves every batch as a usage of 6 would have.
    """
    legs = []
    for leg in reversed(spent):
        used = -leg.amount
        passed = min(skip, used)
        skip -= passed
        given = min(amount, used - passed)
        amount -= given
        if given:
            legs.append(Leg(leg.batch, given))
    if amount:
        raise ValueError(f"{amount} credits more than the usage spent")
    return tuple(legs)
