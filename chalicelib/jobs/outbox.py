"""Reads the ledger's stream: enqueues emails and events, and counts every movement.

    ledger ─► stream ─► queue_notifications ─┬─► SQS ─► send_notifications ─► SES
    index `expiring` ─► reminder sweeps ─────┘
                        queue_notifications ───► SQS ─► publish_events ─► EventBridge

The stream is the outbox: every committed entry comes out of it, at least once.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.domain.damage import WRONG
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.notifications import may_call_for_a_mail
from chalicelib.messages.notifications import EntryPosted, StrangeRecord
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlated, correlation_id, logger
from chalicelib.services import Services
from chalicelib.store.ledger_items import read_entry

from .events import queue_events
from .records import Event, note


def queue_notifications(services: Services, event: Event) -> None:
    """Enqueues the emails that entries need, and the events of all entries.

    An unreadable record must not fail here: its retries would block all records after it. It fails
    in the sender, whose dead-letter queue keeps the message that names the entry. Raises when SQS
    does not accept the messages: then the stream delivers the same records again.

    Nobody is told about entries that a shadow stage posted, even if the stream delivers them later.
    """
    is_quiet = services.settings.is_quiet
    called_for: list[EntryPosted | StrangeRecord] = []
    entries: list[LedgerEntry] = []
    to_tell: list[Mapping[str, Any]] = []
    for record in event["Records"]:
        try:
            entry = read_entry(record["dynamodb"]["NewImage"])
            is_called_for = may_call_for_a_mail(entry, services.catalogue)
        except Exception as error:  # noqa: BLE001 - whatever it is, the records behind it go on
            note(error, event_id=record.get("eventID"))
            if is_quiet(services.now()):
                continue
            called_for.append(_named(record))
        else:
            entries.append(entry)
            if is_quiet(entry.posted_at):
                continue
            if is_called_for:
                of_entry = entry.correlation_id or correlation_id()
                called_for.append(EntryPosted(entry.user_id, entry.number, of_entry))
        to_tell.append(record)
    services.queues.send_notifications(notification.body() for notification in called_for)
    queue_events(services, to_tell)
    for operation, mails in Counter(posted.correlation_id for posted in called_for).items():
        with correlated(operation):
            logger().info("emails queued", mails=mails)
    _count_movements(entries)


def _named(record: Mapping[str, Any]) -> EntryPosted | StrangeRecord:
    """The message that names an unreadable record; it contains nothing of the record."""
    keys = record.get("dynamodb", {}).get("Keys")
    try:
        user_id, key = keys["user_id"]["S"], keys["entry"]["S"]
        return EntryPosted(user_id, int(key.removeprefix("entry#")), correlation_id())
    except WRONG:
        return StrangeRecord(record.get("eventID"), keys, correlation_id())


_CREDITS = {
    EntryType.ALLOCATION: Metric.CREDITS_ALLOCATED,
    EntryType.EXPIRATION: Metric.CREDITS_EXPIRED,
    EntryType.USAGE: Metric.CREDITS_USED,
    EntryType.REVERSAL: Metric.CREDITS_REVERSED,
}


def _count_movements(entries: Iterable[LedgerEntry]) -> None:
    for entry in entries:
        if entry.type is EntryType.ALLOCATION:
            count(Metric.ALLOCATIONS)
        if metric := _movement(entry):
            count(metric, abs(entry.amount))


def _movement(entry: LedgerEntry) -> Metric | None:
    if not entry.amount:
        return None
    if entry.type is EntryType.MANUAL:
        return Metric.CREDITS_GRANTED if entry.amount > 0 else Metric.CREDITS_CLAWED_BACK
    return _CREDITS.get(entry.type)
