"""The events that other programs receive about a ledger entry, made from the entry alone.

An event depends only on one entry, its hash and the stage's low balance. So it can be made again
from the ledger at any time, and comes out the same under the same id.

Crossings use the ledger balance, which includes held credits. Each entry says the balance before
and after itself, so a low balance and its recovery alternate, and none is missed. The available
balance also changes when credits expire and holds lapse, and no entry records that at that moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from .entries import HASH_DIGITS, EntryType, LedgerEntry
from .instants import format_instant

SOURCE = "credits"
"""The source of every event, in EventBridge's sense."""

VERSION = 1
"""The form of the details. Adding fields does not change it."""


class EventName(StrEnum):
    """What has happened; EventBridge's detail type."""

    ALLOCATED = "credits.allocated"
    EXPIRED = "credits.expired"
    USED = "credits.used"
    ADJUSTED = "credits.adjusted"
    REVERSED = "credits.reversed"
    HELD = "credits.held"
    RELEASED = "credits.released"
    PURCHASED = "credits.purchased"
    REFUNDED = "credits.refunded"
    BALANCE_LOW = "credits.balance_low"
    BALANCE_RECOVERED = "credits.balance_recovered"
    EXHAUSTED = "credits.exhausted"


OF_ENTRY: Mapping[EntryType, EventName] = {
    EntryType.ALLOCATION: EventName.ALLOCATED,
    EntryType.EXPIRATION: EventName.EXPIRED,
    EntryType.USAGE: EventName.USED,
    EntryType.MANUAL: EventName.ADJUSTED,
    EntryType.REVERSAL: EventName.REVERSED,
    EntryType.HOLD: EventName.HELD,
    EntryType.RELEASE: EventName.RELEASED,
    EntryType.PURCHASE: EventName.PURCHASED,
    EntryType.REFUND: EventName.REFUNDED,
}
"""The event of every entry of a type."""

CROSSINGS = frozenset(EventName) - frozenset(OF_ENTRY.values())
"""The events of an entry that moved the ledger balance across a threshold."""


@dataclass(frozen=True, slots=True)
class CreditEvent:
    """One event: its name, when its entry was posted, and what it says."""

    name: EventName
    at: datetime
    detail: Mapping[str, Any]


def events_of(entry: LedgerEntry, hash_: str, low_balance: int) -> tuple[CreditEvent, ...]:
    """The events of an entry with that hash: its own first, then its crossings.

    ``low_balance``: a ledger balance below it is low; 0 means that the stage has no low balance.
    """
    before, after = entry.balance - entry.amount, entry.balance
    threshold = {"threshold": low_balance}
    events = [_event(OF_ENTRY[entry.type], entry, hash_, **_of_holds(entry))]
    if after < low_balance <= before:
        events.append(_event(EventName.BALANCE_LOW, entry, hash_, **threshold))
    if before < low_balance <= after:
        events.append(_event(EventName.BALANCE_RECOVERED, entry, hash_, **threshold))
    if after == 0 < before:
        events.append(_event(EventName.EXHAUSTED, entry, hash_))
    return tuple(events)


def _event(name: EventName, entry: LedgerEntry, hash_: str, **more: object) -> CreditEvent:
    threshold = more.get("threshold")
    detail = {
        "version": VERSION,
        # A crossing of another threshold is another event.
        "id": " ".join(
            (name, entry.transaction_id, *(() if threshold is None else (str(threshold),)))
        ),
        "user_id": entry.user_id,
        "number": entry.number,
        "transaction_id": entry.transaction_id,
        "posted_at": format_instant(entry.posted_at),
        "amount": entry.amount,
        "balance": entry.available_balance(),
        "ledger_balance": entry.balance,
        "hash": hash_[:HASH_DIGITS],
        **more,
        **({"metadata": dict(entry.metadata)} if entry.metadata else {}),
    }
    return CreditEvent(name, entry.posted_at, detail)


def _of_holds(entry: LedgerEntry) -> dict[str, object]:
    """The hold that an entry opened or ended, and how much it set aside or freed."""
    if opened := entry.opened_hold:
        return {"hold_id": entry.transaction_id, "held_amount": opened.amount}
    if entry.hold is not None:
        return {"hold_id": f"{entry.user_id}-{entry.hold}", "released_amount": entry.released or 0}
    return {}
