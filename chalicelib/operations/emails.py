"""The emails about a user's entries: the content of each, and what is recorded of it.

The job that sends emails and support staff use the same functions, so both see the same.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from chalicelib.domain import notifications
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import CreditsError, InvalidInput, NotFound, Unreadable
from chalicelib.domain.languages import DEFAULT, Language
from chalicelib.domain.ledger import Account
from chalicelib.domain.notifications import MailKind, kind_of
from chalicelib.domain.subscriptions import Subscription
from chalicelib.mails import facts
from chalicelib.mails.facts import Facts
from chalicelib.mails.rendering import Frame, Mail, render, subject_of
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.ledger_items import account_of
from chalicelib.store.mails import MailStatus, read_mail

if TYPE_CHECKING:
    from chalicelib.domain.forecasts import Spending

_OF_ENTRY_ALONE: Mapping[MailKind, Callable[[LedgerEntry], Facts]] = {
    MailKind.ALLOCATION: facts.of_allocation,
    MailKind.MANUAL: facts.of_manual_change,
    MailKind.PURCHASE: facts.of_purchase,
    MailKind.REFUND: facts.of_refund,
}
"""The kinds whose facts are all in the entry."""

LINES_OF_A_PACE = 250
"""The most lines that are read for a low balance's pace. If there are more, the newest are used."""

LINES_A_READ = 50
"""How many lines one query reads: as many as most users have in some months."""

DEAD_LINK = "https://unsubscribe.invalid/"
"""Replaces the unsubscribe links of an email that is only viewed: it leads nowhere, because only
the user may end their emails (RFC 2606: there is no domain ``invalid``)."""


class EmailState(StrEnum):
    """What is recorded of an email."""

    SENT = "sent"
    IN_DOUBT = "in_doubt"
    UNRECORDED = "unrecorded"
    UNREADABLE = "unreadable"


class Email(NamedTuple):
    """An email that an entry needs, or a reminder of when the credits it granted expire.

    ``subject``: None if the entry alone does not determine it. ``sent_at``: as text; None if it was
    not sent, or by a release that did not record it.
    """

    kind: MailKind
    entry: LedgerEntry
    subject: str | None
    state: EmailState
    sent_at: str | None


def called_for(services: Services, entry: LedgerEntry, of: Subscription | None) -> MailKind | None:
    """The kind of email that an entry needs on its user's plan; None if it needs no email."""
    return kind_of(entry, _low_balance_threshold(services, of))


def identity_of(kind: MailKind, entry: LedgerEntry) -> str:
    """The identity of the email that an entry needs."""
    if kind is MailKind.LOW_BALANCE:
        return notifications.of_low_balance(entry)
    return notifications.of_entry(kind, entry)


def facts_of(
    services: Services,
    kind: MailKind,
    entry: LedgerEntry,
    subscription: Subscription | None,
    *,
    in_full: bool = True,
) -> Facts:
    """The facts of the email that an entry needs. Raises `NotFound` if its user is unknown.

    Only a low balance's extra facts (the next credits, and how long the rest will last) follow the
    current plan and subscription. ``in_full``: include facts that no subject uses.
    """
    if kind in _OF_ENTRY_ALONE:
        return _OF_ENTRY_ALONE[kind](entry)
    if kind is MailKind.EXPIRATION:
        batches = [leg.batch for leg in entry.legs]
        return facts.of_expiration(entry, grants_of(services, entry.user_id, batches))
    if subscription is None:
        raise NotFound(f"there is no user {entry.user_id}")
    spending = _spending_before(services, entry) if in_full else None
    return facts.of_low_balance(entry, subscription, services.catalogue, services.now(), spending)


def _spending_before(services: Services, usage: LedgerEntry) -> "Spending | None":
    """The spending that gives a user's pace, including a usage; None if there is no pace.

    If a line cannot be read, the email is still sent: then there is no pace.
    """
    # Only one kind of email needs it.
    from chalicelib.domain.forecasts import LONGEST_PACE, pace_of

    since = usage.posted_at - LONGEST_PACE
    try:
        latest = services.ledger.back_to(
            usage.user_id, since, LINES_OF_A_PACE, usage.number + 1, LINES_A_READ
        )
    except Unreadable:
        return None
    return pace_of(latest, usage.posted_at)


def grants_of(services: Services, user_id: str, batches: Sequence[int]) -> dict[int, LedgerEntry]:
    """The entries that granted some batches: a batch has the number of its grant."""
    items = services.ledger.entries((user_id, number) for number in batches)
    return {number: entry_among(items, user_id, number) for number in batches}


def account_among(items: Mapping[tuple[str, int], Item], user_id: str, number: int) -> Account:
    """The account after an entry, from those that were read. Raises `NotFound`."""
    if (user_id, number) not in items:
        raise NotFound(f"user {user_id} has no transaction {user_id}-{number}")
    return account_of(items[user_id, number])


def entry_among(items: Mapping[tuple[str, int], Item], user_id: str, number: int) -> LedgerEntry:
    """An entry, from those that were read. Raises `NotFound`."""
    return account_among(items, user_id, number).entry


def preview(services: Services, account: Account, subscription: Subscription | None) -> Mail:
    """The email about the last entry of an account, which has one, as it is or was sent.

    Only its links differ. Raises `NotFound`.
    """
    entry = account.entry
    kind = called_for(services, entry, subscription)
    if kind is None:
        raise NotFound(f"transaction {entry.transaction_id} calls for no email")
    told = facts_of(services, kind, entry, subscription)
    product = services.settings.product
    language = _language_of(subscription)
    return render(kind, told, Frame(product, language, DEAD_LINK, DEAD_LINK, account.witness))


def _language_of(subscription: Subscription | None) -> Language:
    """The language of a user's emails; the default if the user was removed."""
    return subscription.language if subscription else DEFAULT


def emails_about(
    services: Services, entries: Sequence[LedgerEntry], subscription: Subscription | None
) -> list[Email]:
    """The emails about some entries of a user, in the order of the entries, newest first.

    The emails that entries need are all included, sent or not; reminders only if recorded.
    """
    wanted: dict[str, tuple[MailKind, LedgerEntry]] = {}

    def want(identity: str, kind: MailKind, entry: LedgerEntry) -> None:
        # If several entries need one email, it tells of the oldest of them.
        wanted.pop(identity, None)
        wanted[identity] = kind, entry

    for entry in entries:
        if kind := called_for(services, entry, subscription):
            want(identity_of(kind, entry), kind, entry)
        batch = entry.granted_batch
        if batch and batch.expires_at:
            reminder = notifications.of_expiring_soon(entry.user_id, batch.expires_at)
            want(reminder, MailKind.EXPIRING_SOON, entry)
    records = services.mail_records.find(wanted)
    return [
        _email(services, kind, entry, subscription, identity, records.get(identity))
        for identity, (kind, entry) in wanted.items()
        if identity in records or kind is not MailKind.EXPIRING_SOON
    ]


def _email(
    services: Services,
    kind: MailKind,
    entry: LedgerEntry,
    subscription: Subscription | None,
    identity: str,
    item: Item | None,
) -> Email:
    state, sent_at = _recorded(identity, item)
    subject = None
    if kind is not MailKind.EXPIRING_SOON:
        try:
            told = facts_of(services, kind, entry, subscription, in_full=False)
        except CreditsError:
            pass  # the user was removed, or a grant of their credits cannot be read
        else:
            subject = subject_of(kind, told, _language_of(subscription))
    return Email(kind, entry, subject, state, sent_at)


def _recorded(identity: str, item: Item | None) -> tuple[EmailState, str | None]:
    if item is None:
        return EmailState.UNRECORDED, None
    try:
        record = read_mail(identity, item)
    except Unreadable:
        return EmailState.UNREADABLE, None
    is_sent = record.status is MailStatus.COMPLETED
    return EmailState.SENT if is_sent else EmailState.IN_DOUBT, record.said.get("sent_at")


def _low_balance_threshold(services: Services, subscription: Subscription | None) -> int | None:
    if subscription is None:
        return None
    try:
        return services.catalogue.get(subscription.plan).low_balance_threshold
    except InvalidInput:
        return None  # the plan has left the catalogue: its threshold is unknown
