"""Sends the emails that the messages of a queue request.

A message only names the user and the entry. The content of the email comes from the entry. Whether
the user wants it, the address and the language are read when it is sent. Nothing here writes to the
ledger: credits do not depend on whether an email is sent.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from chalicelib.domain import notifications as identities
from chalicelib.domain.errors import NotFound
from chalicelib.domain.holds import expiring
from chalicelib.domain.instants import format_instant
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.subscriptions import Subscription
from chalicelib.mails import facts
from chalicelib.mails.errors import MailPostponed, MailsUnrecorded
from chalicelib.mails.facts import Facts
from chalicelib.mails.rendering import Frame, render
from chalicelib.messages.notifications import (
    EntryPosted,
    ExpiringSoon,
    Notification,
    parse_notification,
)
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlated, logger
from chalicelib.operations import emails
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.subscriptions import read_subscription

from .errors import describe_failure, passing
from .records import (
    Answer,
    Event,
    growing_delay,
    hand_back,
    in_this_context,
    note,
    receives_of,
    waiting,
)

LONGEST_DELAY = 360
"""The longest delay before an email is tried again, in units of the first delay."""

_SENT = "sent"


@dataclass
class _Batch:
    """The records of one event: their requests and their results."""

    handles: dict[str, str] = field(default_factory=dict)
    receives: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, Notification] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    @classmethod
    def of(cls, event: Event) -> "_Batch":
        batch = cls()
        for record in event["Records"]:
            message_id = record["messageId"]
            batch.handles[message_id] = record["receiptHandle"]
            batch.receives[message_id] = receives_of(record)
            try:
                batch.wanted[message_id] = parse_notification(record["body"])
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                batch.fail(message_id, error)
        return batch

    def fail(self, message_id: str, error: Exception) -> None:
        """Records that a message must come back."""
        note(error, message_id=message_id)
        self.failed[message_id] = error

    def operation(self, message_id: str) -> str:
        """The correlation id of a message; if it has none, SQS's id of it."""
        notification = self.wanted.get(message_id)
        return (notification and notification.correlation_id) or message_id


def send_notifications(services: Services, event: Event, context: Any) -> Answer:
    """Sends the emails that the messages of an SQS event request; returns the failed ones.

    A failed message comes back after a delay that grows with each failure. In the end it goes to
    the dead-letter queue. No failure stops another message.
    """
    batch = _Batch.of(event)
    with waiting(context):
        outcomes = _send(services, batch)
    _report(batch, outcomes)
    _hand_back(services, batch)
    return {"batchItemFailures": [{"itemIdentifier": failed} for failed in batch.failed]}


def _send(services: Services, batch: _Batch) -> dict[str, str]:
    """The results of the emails that did not fail, one word each."""
    outcomes: dict[str, str] = {}
    try:
        sender = _Sender(services, batch.wanted.values())
        services.mailer.drop_old_connections()
    except Exception as error:  # noqa: BLE001 - whatever it is, they come back
        for message_id in batch.wanted:
            batch.fail(message_id, error)
        return outcomes

    def attempt(message_id: str) -> None:
        with correlated(batch.operation(message_id)):
            try:
                outcomes[message_id] = sender.send(batch.wanted[message_id])
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                batch.fail(message_id, error)

    with ThreadPoolExecutor(services.threads) as pool:
        list(pool.map(in_this_context(attempt), batch.wanted))
    return outcomes


def _report(batch: _Batch, outcomes: Mapping[str, str]) -> None:
    """Logs a line for each operation with the results of its emails, and counts all of them."""
    by_operation: dict[str, Counter[str]] = {}
    for message_id in batch.wanted:
        counted = by_operation.setdefault(batch.operation(message_id), Counter())
        counted[outcomes.get(message_id, "failed")] += 1
    for operation, counted in by_operation.items():
        with correlated(operation):
            logger().info("mails", outcomes=dict(counted))
    sent = sum(counted[_SENT] for counted in by_operation.values())
    failed = sum(not isinstance(error, MailPostponed) for error in batch.failed.values())
    for metric, mails in ((Metric.MAILS_SENT, sent), (Metric.MAILS_FAILED, failed)):
        if mails:
            count(metric, mails)


def _hand_back(services: Services, batch: _Batch) -> None:
    delays = {}
    for message_id, error in batch.failed.items():
        delay = _delay(services, error, batch.receives[message_id])
        delays[batch.handles[message_id]] = delay
        notification = batch.wanted.get(message_id)
        with correlated(batch.operation(message_id)):
            logger().warning(
                "mail not sent",
                message_id=message_id,
                user_id=notification and notification.user_id,
                number=notification.number if isinstance(notification, EntryPosted) else None,
                error=describe_failure(error),
                receives=batch.receives[message_id],
                again_in_seconds=delay,
            )
    hand_back(services, services.settings.notifications_queue_url, delays)


def _delay(services: Services, error: Exception, receives: int) -> int:
    """The number of seconds after which a message comes back."""
    unit = services.settings.mail_retry_seconds
    if isinstance(error, (MailPostponed, MailsUnrecorded, *passing())):
        # The retries together must outlast the rolling day of SES's quota.
        return growing_delay(receives, 2 * unit, LONGEST_DELAY * unit)
    # Waiting does not help: the message is on its way to the dead-letter queue.
    return unit


class _Email(NamedTuple):
    """The content of an email, which does not depend on its recipient."""

    kind: MailKind
    facts: Facts
    witness: str


class _Sender:
    """Sends the emails of one batch, whose entries and subscriptions it has read at once."""

    def __init__(self, services: Services, notifications: Iterable[Notification]) -> None:
        self._services = services
        notifications = list(notifications)
        self._subscriptions = services.subscriptions.get_many(
            notification.user_id for notification in notifications
        )
        self._entries = services.ledger.entries(
            (notification.user_id, notification.number)
            for notification in notifications
            if isinstance(notification, EntryPosted)
        )

    def send(self, notification: Notification) -> str:
        """Sends an email unless it was sent before or is unwanted; returns the outcome."""
        user_id = notification.user_id
        stored = self._subscriptions.get(user_id) or self._not_seen_yet(user_id)
        if stored is None:
            # Entries without a subscription: the user has been erased since.
            if self._services.ledger.account(user_id).last:
                return "user is gone"
            raise NotFound(f"there is no user {user_id}")
        subscription = read_subscription(stored)
        if isinstance(notification, ExpiringSoon):
            return self._remind(notification, subscription)
        account = emails.account_among(self._entries, user_id, notification.number)
        entry = account.entry
        kind = emails.called_for(self._services, entry, subscription)
        if kind is None:
            return "not called for"
        if kind not in subscription.notifications:
            return "not wanted"
        identity = emails.identity_of(kind, entry)
        told = emails.facts_of(self._services, kind, entry, subscription)
        return self._once(identity, _Email(kind, told, account.witness), subscription)

    def _not_seen_yet(self, user_id: str) -> Item | None:
        """Reads a subscription again: a batch read can lag behind a write."""
        return self._services.subscriptions.get_many([user_id], consistent=True).get(user_id)

    def _remind(self, reminder: ExpiringSoon, subscription: Subscription) -> str:
        """Sends one email about credits that expire at an instant, if any of them are left."""
        if MailKind.EXPIRING_SOON not in subscription.notifications:
            return "not wanted"
        now = self._services.now()
        account = self._services.ledger.account(reminder.user_id)
        dying = [
            batch
            for batch in account.batches
            if batch.expires_at == reminder.expires_at and batch.is_usable(now)
        ]
        amount = sum(expiring(batch, account.holds) for batch in dying)
        if not amount:
            return "not called for"
        oldest = dying[0].number
        grant = emails.grants_of(self._services, reminder.user_id, [oldest])[oldest]
        told = facts.of_credits_expiring_soon(amount, grant, account, now)
        identity = identities.of_expiring_soon(reminder.user_id, reminder.expires_at)
        email = _Email(MailKind.EXPIRING_SOON, told, account.witness)
        return self._once(identity, email, subscription)

    def _once(self, identity: str, email: "_Email", subscription: Subscription) -> str:
        """Sends an email unless it was sent before; returns the outcome in a word."""
        address = subscription.email
        if address is None:
            return "no address"
        if subscription.suppressed:
            return "suppressed"
        links = self._services.unsubscribe_links
        sent_now = False

        def send() -> dict[str, Any]:
            nonlocal sent_now
            frame = Frame(
                self._services.settings.product,
                subscription.language,
                links.link(subscription.user_id, email.kind),
                links.link(subscription.user_id, None),
                email.witness,
            )
            mail = render(email.kind, email.facts, frame)
            message_id = self._services.mailer.send(subscription.user_id, address, mail)
            sent_now = True
            sent_at = format_instant(self._services.now())
            return {"kind": email.kind.value, "message_id": message_id, "sent_at": sent_at}

        self._services.mail_records.once(identity, send)
        return _SENT if sent_now else "sent before"
