"""Decides which emails a ledger entry needs, from the entry alone, so it can be decided again.

We keep no record of announcements. An email requested twice has the same identity both times, and
the store sends it once. An identity never depends on the subscription or the catalogue: they may
have changed when a message comes again.
"""

from datetime import datetime
from enum import StrEnum

from .entries import EntryType, LedgerEntry
from .instants import to_milliseconds
from .plans import PlanCatalogue


class MailKind(StrEnum):
    """The kinds of email; users choose among them."""

    ALLOCATION = "allocation"
    EXPIRATION = "expiration"
    EXPIRING_SOON = "expiring_soon"
    MANUAL = "manual"
    PURCHASE = "purchase"
    REFUND = "refund"
    LOW_BALANCE = "low_balance"


ALL_KINDS = frozenset(MailKind)

_KINDS = {
    EntryType.ALLOCATION: MailKind.ALLOCATION,
    EntryType.EXPIRATION: MailKind.EXPIRATION,
    EntryType.MANUAL: MailKind.MANUAL,
    EntryType.PURCHASE: MailKind.PURCHASE,
    EntryType.REFUND: MailKind.REFUND,
}


def kind_of(entry: LedgerEntry, low_balance_threshold: int | None) -> MailKind | None:
    """The kind of email about an entry; None for no email."""
    if entry.type is EntryType.USAGE:
        return MailKind.LOW_BALANCE if crosses(entry, low_balance_threshold) else None
    # A claw-back or refund that found no credits is no news for the user; a month without any is.
    is_news = bool(entry.amount or entry.left_out)
    return _KINDS.get(entry.type) if is_news and not entry.silent else None


def crosses(usage: LedgerEntry, threshold: int | None) -> bool:
    """Whether a usage took the available balance from at least the threshold to below it."""
    after = usage.available_balance()
    return threshold is not None and after < threshold <= after - usage.amount


def may_call_for_a_mail(entry: LedgerEntry, catalogue: PlanCatalogue) -> bool:
    """Whether an entry needs an email on any plan: for callers who do not know the user's plan."""
    thresholds = {plan.low_balance_threshold for plan in catalogue.plans}
    return any(kind_of(entry, threshold) for threshold in (None, *thresholds))


def last_grant(entry: LedgerEntry) -> int:
    """The number of the latest grant that an entry knows: a batch has the number of its grant.

    A low balance is announced once for each grant. A grant re-arms it; a reversal does not.
    """
    return max((*(leg.batch for leg in entry.legs), *(batch.number for batch in entry.batches)))


# --- The identities of emails: the same news has the same identity -------------------------------


def of_entry(kind: MailKind, entry: LedgerEntry) -> str:
    """One email for each entry: allocations, expirations, adjustments, purchases and refunds."""
    return f"{kind} {entry.transaction_id}"


def of_low_balance(usage: LedgerEntry) -> str:
    """One email for each grant, which arms it."""
    return f"{MailKind.LOW_BALANCE} {usage.user_id} {last_grant(usage)}"


def of_expiring_soon(user_id: str, expires_at: datetime) -> str:
    """One email for each instant of expiry."""
    return f"{MailKind.EXPIRING_SOON} {user_id} {to_milliseconds(expires_at)}"


def identities(entry: LedgerEntry) -> frozenset[str]:
    """Every email that can have been sent because of an entry."""
    found: set[str] = set()
    if entry.type is EntryType.USAGE:
        found.add(of_low_balance(entry))
    elif entry.type in _KINDS:
        found.add(of_entry(_KINDS[entry.type], entry))
    batch = entry.granted_batch
    if batch and batch.expires_at:
        found.add(of_expiring_soon(entry.user_id, batch.expires_at))
    return frozenset(found)
