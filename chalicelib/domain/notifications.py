"""Which mails a ledger entry calls for: decided from the entry alone, so it can be asked again.

No state says what has been announced. A mail that is asked for twice has the same identity twice,
and the store sends it once.
"""

from enum import StrEnum

from .ledger import EntryType, LedgerEntry
from .plans import PlanCatalogue


class MailKind(StrEnum):
    """What a mail is about; users choose among them."""

    ALLOCATION = "allocation"
    EXPIRATION = "expiration"
    EXPIRING_SOON = "expiring_soon"
    MANUAL = "manual"
    LOW_BALANCE = "low_balance"

    @property
    def words(self) -> str:
        """What it is about, for people."""
        return _WORDS[self]


_WORDS = {
    MailKind.ALLOCATION: "monthly credits",
    MailKind.EXPIRATION: "expired credits",
    MailKind.EXPIRING_SOON: "credits that expire soon",
    MailKind.MANUAL: "credits added or taken back by hand",
    MailKind.LOW_BALANCE: "a low balance",
}

ALL_KINDS = frozenset(MailKind)

_KINDS = {
    EntryType.ALLOCATION: MailKind.ALLOCATION,
    EntryType.EXPIRATION: MailKind.EXPIRATION,
    EntryType.MANUAL: MailKind.MANUAL,
}


def kind_of(entry: LedgerEntry, low_balance_threshold: int | None) -> MailKind | None:
    """What the user is told about an entry, None for nothing."""
    if entry.type is EntryType.USAGE:
        return MailKind.LOW_BALANCE if crosses(entry, low_balance_threshold) else None
    return None if entry.silent else _KINDS.get(entry.type)


def crosses(usage: LedgerEntry, threshold: int | None) -> bool:
    """Whether a usage took the available balance from the threshold or more to less than it."""
    after = usage.available_balance()
    return threshold is not None and after < threshold <= after - usage.amount


def may_call_for_a_mail(entry: LedgerEntry, catalogue: PlanCatalogue) -> bool:
    """Whether an entry calls for a mail on any plan: asked where the user's plan is not known."""
    thresholds = {plan.low_balance_threshold for plan in catalogue.plans}
    return any(kind_of(entry, threshold) for threshold in (None, *thresholds))


def last_grant(entry: LedgerEntry) -> int:
    """The number of the latest grant an entry knows of: a batch bears the number of its grant.

    A balance that is low is told once for each: a grant re-arms it, and credits given back do not.
    """
    return max((*(leg.batch for leg in entry.legs), *(batch.number for batch in entry.batches)))
