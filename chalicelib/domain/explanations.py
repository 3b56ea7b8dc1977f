"""Why credits could or could not be taken at an instant: the decision made again, with reasons.

A refusal leaves no line in the ledger, so its explanation is computed: the account as it was then,
and the same decision as then, by the same functions of `ledger`. Nothing is guessed, and nothing is
stored for it.

    50 are asked for at 2026-05-31T05:00:00Z
    batch 1   20 of 100 left, expired          0 to take    "expired", 20
    batch 2   50 of  50 left, 30 of them held  20 to take   "held", 30
    refused: 30 are missing
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from . import ledger
from .batches import CreditBatch, Leg, Legs, together
from .entries import SYSTEM, EntryType, LedgerEntry
from .errors import CreditsError, InsufficientCredits
from .holds import Holds, active, dead, earmarked
from .instants import format_instant
from .ledger import VOID, Account, Request

_AGAIN = Request("explanation", SYSTEM, "")
"""The request of a decision made again; nothing of it is shown."""


class Decision(StrEnum):
    """The outcome for a requested amount."""

    COVERED = "covered"
    REFUSED = "insufficient_credits"
    NOTHING_ASKED = "nothing_asked"


class ReasonCode(StrEnum):
    """Why credits of open batches could not be taken."""

    HELD = "held"
    EXPIRED = "expired"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Reason:
    """Credits that could not be taken, and why.

    ``until``: when the last of the holds ends; when the last of the batches expired.
    """

    code: ReasonCode
    amount: int = 0
    until: datetime | None = None

    @property
    def words(self) -> str:
        """A sentence for people."""
        when = format_instant(self.until) if self.until else ""
        if self.code is ReasonCode.HELD:
            return f"{_credits(self.amount)} {_were(self.amount)} held, the last until {when}."
        if self.code is ReasonCode.EXPIRED:
            return f"{_credits(self.amount)} had expired, the last at {when}."
        return "Nothing was left of any credit batch."


@dataclass(frozen=True, slots=True)
class BatchThen:
    """A batch at that time: how much of it the decision could take, and how much it took."""

    batch: CreditBatch
    held: int
    open: int
    taken: int


@dataclass(frozen=True, slots=True)
class Explanation:
    """An account at an instant, and the decision about an amount.

    ``amount``: the requested amount; None if there is none. ``available``: what could be taken for
    it. ``reasons``: which credits of open batches could not. ``takes_the_same``: whether the
    decision, made again, takes the same as the entry did; None without such an entry.
    """

    at: datetime
    amount: int | None
    available: int
    batches: tuple[BatchThen, ...]
    holds: Holds
    reasons: tuple[Reason, ...]
    takes_the_same: bool | None = None

    @property
    def missing(self) -> int:
        """How many more credits would have been needed."""
        return max(0, (self.amount or 0) - self.available)

    @property
    def decision(self) -> Decision:
        """The outcome for the amount."""
        if self.amount is None:
            return Decision.NOTHING_ASKED
        return Decision.REFUSED if self.missing else Decision.COVERED

    @property
    def words(self) -> str:
        """The decision in a sentence or two, for people."""
        when, available = format_instant(self.at), self.available
        could = f"At {when}, {_credits(available)} {_were(available)} available"
        if self.amount is None:
            return f"{could}."
        asked = f"{could} and {self.amount:,} asked for"
        if self.missing:
            return f"{asked}: {self.missing:,} too few, so none was taken."
        batches = sum(each.taken > 0 for each in self.batches)
        of = "one credit batch" if batches == 1 else f"{batches:,} credit batches"
        return f"{asked}. They come from {of}, in the order of use."


def explain(account: Account, amount: int | None, at: datetime) -> Explanation:
    """The outcome for an amount at an instant, on the account as it was then."""
    at = account.time(at)
    taken: Legs = ()
    if amount is not None:
        with suppress(InsufficientCredits):
            taken = ledger.use(account, amount, _AGAIN, at).legs
    return _explanation(account, at, account.spendable(at), amount, taken)


def explain_entry(before: Account, entry: LedgerEntry) -> Explanation:
    """Why an entry took its credits from these batches, given the account before it.

    Usages, captures, holds and claw-backs are decided again. For the other types nobody asked for
    an amount in the order of use, so only the account before them is shown.
    """
    at, opened = entry.posted_at, entry.opened_hold
    taken = tuple(Leg(leg.batch, -leg.amount) for leg in opened.legs) if opened else entry.legs
    amount = -sum(leg.amount for leg in taken)
    if amount < 1 or not _is_asked(entry):
        return _explanation(before, at, before.spendable(at))
    again: Legs = ()
    with suppress(CreditsError):
        again = _decide_again(before, entry, amount)
    return _explanation(
        before,
        at,
        _reachable(before, entry),
        amount,
        taken,
        own_hold=entry.hold,
        takes_the_same=again == taken,
    )


def _is_asked(entry: LedgerEntry) -> bool:
    """Whether an amount was asked for, to be taken in the order of use."""
    if entry.type is EntryType.MANUAL:
        return not entry.operation.startswith(VOID)
    return entry.type in (EntryType.USAGE, EntryType.HOLD)


def _decide_again(before: Account, entry: LedgerEntry, amount: int) -> Legs:
    """What the decision behind the entry takes. Raises `CreditsError` if it refuses."""
    now = entry.posted_at
    if entry.type is EntryType.MANUAL:
        held = entry.including_held
        return ledger.claw_back(before, amount, _AGAIN, now, including_held=held).legs
    if entry.hold is None:
        return ledger.use(before, amount, _AGAIN, now).legs
    again = ledger.capture(before, entry.hold, amount, _AGAIN, now, _somewhere, beyond_hold=True)
    return again.legs


def _reachable(before: Account, entry: LedgerEntry) -> Legs:
    """What the decision about an entry can take of each batch, including held credits."""
    at = entry.posted_at
    if entry.including_held:
        return tuple(
            Leg(batch.number, batch.remaining) for batch in before.batches if batch.is_usable(at)
        )
    own = (hold for hold in active(before.holds, at) if hold.number == entry.hold)
    return together(before.spendable(at), *(hold.legs for hold in own))


def _explanation(
    account: Account,
    at: datetime,
    reachable: Legs,
    amount: int | None = None,
    taken: Legs = (),
    *,
    own_hold: int | None = None,
    takes_the_same: bool | None = None,
) -> Explanation:
    held, could, took = earmarked(account.holds, at), dict(reachable), dict(taken)
    batches = tuple(
        BatchThen(batch, held[batch.number], could.get(batch.number, 0), -took.get(batch.number, 0))
        for batch in account.batches
    )
    return Explanation(
        at,
        amount,
        sum(could.values()),
        batches,
        active(account.holds, at),
        tuple(_reasons(account, batches, at, own_hold)),
        takes_the_same,
    )


def _reasons(
    account: Account, batches: Iterable[BatchThen], at: datetime, own_hold: int | None
) -> Iterator[Reason]:
    gone = dead(account.batches, account.holds, at)
    if expired := sum(leg.amount for leg in gone):
        ends = {batch.number: batch.expires_at for batch in account.batches}
        yield Reason(
            ReasonCode.EXPIRED, expired, max(filter(None, (ends[leg.batch] for leg in gone)))
        )
    rest = sum(each.batch.remaining - each.open for each in batches) - expired
    if rest:
        others = (hold for hold in active(account.holds, at) if hold.number != own_hold)
        yield Reason(ReasonCode.HELD, rest, max(hold.expires_at for hold in others))
    if not account.batches:
        yield Reason(ReasonCode.EMPTY)


def _credits(amount: int) -> str:
    return "1 credit" if amount == 1 else f"{amount:,} credits"


def _were(amount: int) -> str:
    return "was" if amount == 1 else "were"


def _somewhere() -> str:
    """A timezone for a decision of which only the legs are used."""
    return "UTC"
