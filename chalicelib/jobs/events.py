"""Publishes the ledger's events on the stage's bus: at least once; no event delays another.

    ledger ─► stream ─► queue_notifications ─► SQS events ─► publish_events ─► EventBridge

A message is one complete event. So nothing is read to publish it. If EventBridge refuses one event,
the others need not come again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from chalicelib.domain.errors import Contention
from chalicelib.domain.events import events_of
from chalicelib.event_bus import EVENTS_A_REQUEST
from chalicelib.messages.events import ToPublish
from chalicelib.messages.notifications import StrangeRecord
from chalicelib.observability import correlated, correlation_id, logger
from chalicelib.queues import chunks
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.ledger_items import account_of

from .errors import describe_failure
from .records import Answer, Event, delay_of, hand_back, note, receives_of


def queue_events(services: Services, records: Iterable[Mapping[str, Any]]) -> None:
    """Enqueues the events of new entries, if the stage sends events.

    For an unreadable record it enqueues a message that names it, which becomes a dead letter.
    Raises when SQS does not accept the messages: then the stream delivers the same records again.
    """
    if services.settings.events_queue_url:
        services.queues.send_events(
            body for record in records for body in _messages(services, record)
        )


def messages_of(item: Item, low_balance: int) -> list[str]:
    """The messages of an entry's events, from its item. Raises `LedgerCorrupt`."""
    account = account_of(item)
    assert account.last is not None  # noqa: S101 - it is what was read
    operation = account.last.correlation_id or correlation_id()
    events = events_of(account.last, account.last_hash, low_balance)
    return [ToPublish(event, operation).body() for event in events]


def _messages(services: Services, record: Mapping[str, Any]) -> list[str]:
    try:
        return messages_of(record["dynamodb"]["NewImage"], services.settings.low_balance)
    except Exception as error:  # noqa: BLE001 - whatever it is, the records behind it go on
        note(error, event_id=record.get("eventID"))
        keys = record.get("dynamodb", {}).get("Keys")
        return [StrangeRecord(record.get("eventID"), keys, correlation_id()).body()]


def publish_events(services: Services, event: Event) -> Answer:
    """Publishes the events of some messages; returns those that EventBridge did not accept.

    These come back after growing delays, and go to the dead-letter queue in the end.
    """
    records = {record["messageId"]: record for record in event["Records"]}
    wanted: dict[str, ToPublish] = {}
    failed: dict[str, Exception] = {}
    for message_id, record in records.items():
        try:
            wanted[message_id] = ToPublish.parse(record["body"])
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            failed[message_id] = error
    for chunk in chunks(wanted.items(), EVENTS_A_REQUEST):
        failed |= _publish(services, dict(chunk))
    _report(wanted, failed)
    _hand_back(services, records, wanted, failed)
    return {"batchItemFailures": [{"itemIdentifier": failure} for failure in failed]}


def _publish(services: Services, wanted: Mapping[str, ToPublish]) -> dict[str, Exception]:
    """Publishes the events of messages in one request; returns why some were not accepted."""
    try:
        refusals = services.event_bus.publish([message.event for message in wanted.values()])
    except Exception as error:  # noqa: BLE001 - whatever it is, they come back
        return dict.fromkeys(wanted, error)
    return {
        message_id: Contention(f"EventBridge did not take it: {code}")
        for message_id, code in zip(wanted, refusals, strict=True)
        if code is not None
    }


def _report(wanted: Mapping[str, ToPublish], failed: Mapping[str, Exception]) -> None:
    """Logs how many events of each operation were published."""
    published = Counter(
        message.correlation_id for each, message in wanted.items() if each not in failed
    )
    for operation, events in published.items():
        with correlated(operation):
            logger().info("events published", events=events)


def _hand_back(
    services: Services,
    records: Mapping[str, Mapping[str, Any]],
    wanted: Mapping[str, ToPublish],
    failed: Mapping[str, Exception],
) -> None:
    delays = {}
    for message_id, error in failed.items():
        receives = receives_of(records[message_id])
        delay = delay_of(services, error, receives)
        delays[records[message_id]["receiptHandle"]] = delay
        with correlated(wanted[message_id].correlation_id if message_id in wanted else message_id):
            note(error, message_id=message_id)
            logger().warning(
                "event not published",
                message_id=message_id,
                error=describe_failure(error),
                receives=receives,
                again_in_seconds=delay,
            )
    hand_back(services, services.settings.events_queue_url, delays)
