"""What went in and out of an account by month: computed alike for ledgers and replays.

Credits expire by comparison, whenever a sweep books them out. So they count for the month in which
they could no longer be spent. What is left at the end of a month is what can still be spent, or is
held.

    left before + granted + other - spent - expired = left
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.holds import dead
from chalicelib.domain.ledger import Account


class Flows(NamedTuple):
    """Credits of a month. ``other``: bought, refunded, granted or taken back by hand.

    ``spent``: by usages, less what was given back of any. ``refused``: of usages that were not
    covered. ``left``: at its end.
    """

    granted: int = 0
    other: int = 0
    spent: int = 0
    expired: int = 0
    refused: int = 0
    left: int = 0

    def __add__(self, more: object) -> Flows:
        """The sum of two users, or of two months; for ``left``, the sum of both."""
        if not isinstance(more, Flows):
            return NotImplemented
        return Flows(*(one + other for one, other in zip(self, more, strict=True)))


NOTHING = Flows()

_FIELD = {
    EntryType.ALLOCATION: ("granted", 1),
    EntryType.USAGE: ("spent", -1),
    EntryType.REVERSAL: ("spent", -1),
    EntryType.MANUAL: ("other", 1),
    EntryType.PURCHASE: ("other", 1),
    EntryType.REFUND: ("other", 1),
}


def flows(
    opening: Account, entries: Iterable[LedgerEntry], bounds: Sequence[datetime]
) -> tuple[Flows, ...]:
    """The flows of each month, starting with the account as it was before the first.

    ``bounds``: the first instant of each month, and of the one after the last. ``entries``: those
    within, in order.
    """
    found: list[Flows] = []
    account, waiting = opening, list(entries)
    place, gone = 0, _dead(account, bounds[0])
    booked = 0
    for end in bounds[1:]:
        sums = dict.fromkeys(("granted", "other", "spent"), 0)
        while place < len(waiting) and waiting[place].posted_at < end:
            entry = waiting[place]
            if entry.type is EntryType.EXPIRATION:
                booked -= entry.amount
            elif entry.type in _FIELD:
                name, sign = _FIELD[entry.type]
                sums[name] += sign * entry.amount
            account, place = account._replace(last=entry), place + 1
        dead_now = _dead(account, end)
        expired = booked + dead_now - gone
        gone += expired
        found.append(Flows(**sums, expired=expired, left=account.ledger_balance - dead_now))
    return tuple(found)


def _dead(account: Account, at: datetime) -> int:
    return sum(leg.amount for leg in dead(account.batches, account.holds, at))
