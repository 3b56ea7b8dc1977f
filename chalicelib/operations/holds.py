"""Holds on request: set credits aside under a key; capture or release them once, without a key.

A hold ends once, so all its ends are one operation, ``end#<hold id>``. Repeating an end returns the
first answer; another end is refused with how the hold ended.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain import ledger
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.errors import HoldEnded, IdempotencyKeyReused, NotFound, Unreadable
from chalicelib.domain.fields import place_of
from chalicelib.domain.holds import Hold, active
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.metadata import Metadata, metadata_described
from chalicelib.services import Services
from chalicelib.store.ledger import Outcome
from chalicelib.store.ledger_items import read_entry

from .on_request import check_user


def hold_credits(
    services: Services,
    user_id: str,
    amount: int,
    description: str,
    *,
    seconds: int,
    caller: str,
    key: str,
    metadata: Metadata = (),
) -> Outcome:
    """Sets a user's credits aside, in the order of spending.

    Raises `InsufficientCredits` when fewer are available, `NotFound` for an unknown user, and
    `NotAllowed` for a user with too many holds.
    """
    request = Request(f"hold#{caller}#{key}", caller, description, metadata=metadata)
    now = services.now()

    def timezone() -> str:
        return services.subscriptions.get(user_id).timezone

    def decide(account: Account) -> LedgerEntry:
        check_user(services, account)
        return ledger.hold(account, amount, seconds, request, now, timezone)

    described = {
        "user_id": user_id,
        "amount": amount,
        "description": description,
        "expires_in_seconds": seconds,
        **metadata_described(metadata),
    }
    return services.ledger.perform(user_id, request.operation, described, decide)


@dataclass(frozen=True, slots=True)
class End:
    """Asks to end a hold: to capture ``amount`` of it, or with 0 to release it.

    ``hold_id`` is the transaction id of the entry that opened it.
    """

    hold_id: str
    amount: int
    caller: str
    description: str | None = None
    metadata: Metadata = ()
    beyond_hold: bool = False

    @property
    def operation(self) -> str:
        """The operation's name: all ends of a hold are one operation."""
        return f"end#{self.hold_id}"

    @property
    def place(self) -> tuple[str, int]:
        """The user, and the number of the entry that opened the hold. Raises `NotFound`."""
        return place_of(self.hold_id, "hold")

    def described(self) -> dict[str, object]:
        """What another request must say to count as the same end."""
        return {
            "amount": self.amount,
            **({"description": self.description} if self.description else {}),
            **metadata_described(self.metadata),
            **({"beyond_hold": True} if self.beyond_hold else {}),
        }


def end_hold(services: Services, end: End, *, dry_run: bool = False) -> Outcome:
    """Captures or releases a hold, once; a ``dry_run`` only returns what it would do.

    Raises `NotFound` for an unknown hold, `HoldEnded` for one that ended in another way,
    `NotAllowed` for more than it holds, and `InsufficientCredits` if it may go beyond and the rest
    is not covered.
    """
    user_id, number = end.place
    what = "Capture" if end.amount else "Release"
    text = end.description or f"{what} of hold {end.hold_id}"
    request = Request(end.operation, end.caller, text, metadata=end.metadata)
    now = services.now()

    def timezone() -> str:
        # Not the user's of today, who may be erased. A hold that outlives a batch names its zone.
        zone = services.ledger.entry(user_id, number).expiry_timezone
        if zone is None:
            raise ValueError(f"hold {end.hold_id} names no timezone")
        return zone

    def decide(account: Account) -> LedgerEntry:
        if all(hold.number != number for hold in account.holds):
            raise _not_active(services, end)
        return ledger.capture(
            account, number, end.amount, request, now, timezone, beyond_hold=end.beyond_hold
        )

    try:
        return services.ledger.perform(
            user_id, end.operation, end.described(), decide, dry_run=dry_run
        )
    except IdempotencyKeyReused:
        raise _ended_otherwise(services, end) from None


def _not_active(services: Services, end: End) -> NotFound | HoldEnded:
    """Why a hold is not in its account: unknown or lapsed. `perform` knows the other ends."""
    user_id, number = end.place
    try:
        opened = services.ledger.entry(user_id, number).opened_hold
    except NotFound:
        opened = None
    if opened is None:
        return NotFound(f"there is no hold {end.hold_id}")
    return HoldEnded("lapsed", format_instant(opened.expires_at))


def _ended_otherwise(services: Services, end: End) -> HoldEnded:
    """How a hold ended, when another request ended it."""
    ended = services.ledger.performed_before({end.operation: end.described()})[end.operation]
    if isinstance(ended, Unreadable):
        raise ended
    entry = ended.entry
    how = "released" if entry.type is EntryType.RELEASE else "captured"
    return HoldEnded(how, format_instant(entry.posted_at), entry.transaction_id)


class ActiveHold(NamedTuple):
    """A hold as it is now, and the entry that opened it."""

    hold: Hold
    entry: LedgerEntry


def active_holds(services: Services, account: Account, now: datetime) -> list[ActiveHold]:
    """The active holds of an account, the oldest first."""
    user_id, holds = account.user_id, active(account.holds, now)
    items = services.ledger.entries((user_id, hold.number) for hold in holds)
    return [ActiveHold(hold, read_entry(items[user_id, hold.number])) for hold in holds]
