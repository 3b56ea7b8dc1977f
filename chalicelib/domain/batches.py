"""Credit batches: the credits of one grant, how many of them are left, and the order of spending.

All functions are pure; amounts are whole credits; instants are aware UTC datetimes.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

Batches = tuple["CreditBatch", ...]
Legs = tuple["Leg", ...]


class Leg(NamedTuple):
    """How much one entry moved in one batch: positive gives, negative takes."""

    batch: int
    amount: int


class Source(StrEnum):
    """Where the credits of a batch come from."""

    PLAN = "plan"
    PURCHASE = "purchase"
    PROMOTION = "promotion"
    ADJUSTMENT = "adjustment"
    CARRIED_OVER = "carried_over"


DEFAULT_PRIORITY = 50
"""The priority of a batch whose grant names no priority. Equal priorities are spent FIFO."""

BOUGHT_PRIORITY = 60
"""The default for a purchase: bought credits do not expire, so the plan's are spent first."""


@dataclass(frozen=True, slots=True)
class CreditBatch:
    """The credits of one grant.

    ``number`` is the number of the ledger entry that granted it, and so its name within the ledger.
    ``expires_at`` is exclusive: the batch is usable iff ``now < expires_at``; with None it never
    expires. ``priority``: 0 to 100, lower is spent first. ``source``: None in batches from before
    it was recorded.
    """

    number: int
    granted: int
    remaining: int
    granted_at: datetime
    expires_at: datetime | None
    priority: int = DEFAULT_PRIORITY
    source: Source | None = Source.PLAN

    def is_usable(self, now: datetime) -> bool:
        """Whether its credits can be spent at ``now``: the one place that decides about expiry."""
        return self.expires_at is None or now < self.expires_at


def in_burn_down_order(batches: Iterable[CreditBatch]) -> Batches:
    """By priority, the lowest first; then first in, first out, by ``granted_at`` and number."""
    return tuple(
        sorted(batches, key=lambda batch: (batch.priority, batch.granted_at, batch.number))
    )


def burn_down(spendable: Iterable[Leg], amount: int) -> Legs:
    """The legs that take ``amount`` from what each batch has to spend, the first batch first.

    The caller has checked that the batches have enough.
    """
    legs = []
    left = amount
    for batch, spendable_amount in spendable:
        taken = min(left, spendable_amount)
        if taken:
            legs.append(Leg(batch, -taken))
            left -= taken
    if left:
        raise ValueError(f"{left} of {amount} credits are not covered")
    return tuple(legs)


def together(*parts: Legs) -> Legs:
    """One leg for each batch that any of the parts moves, in the order they name them."""
    sums: dict[int, int] = {}
    for leg in (leg for part in parts for leg in part):
        sums[leg.batch] = sums.get(leg.batch, 0) + leg.amount
    return tuple(Leg(batch, amount) for batch, amount in sums.items())


def move(batches: Batches, legs: Legs, known: Iterable[CreditBatch] = ()) -> Batches:
    """The open batches after ``legs``: emptied batches leave, ``known`` batches can return.

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
