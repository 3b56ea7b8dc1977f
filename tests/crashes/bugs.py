"""Bugs to plant: each is a usual way to get crashes wrong, and must be found."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest.mock import patch

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer

from chalicelib.domain.errors import Contention
from chalicelib.jobs import outbox, records
from chalicelib.queues import Queues
from chalicelib.store.database import Item
from chalicelib.store.edits import key_of
from chalicelib.store.errors import FAULTS
from chalicelib.store.ledger import Draft, Inserted, LedgerStore
from chalicelib.store.mails import MailRecords, _Records, read_mail, record_id
from chalicelib.store.subscriptions import SubscriptionStore

Bug = Callable[[], AbstractContextManager[object]]


def _marker_after_the_entry() -> AbstractContextManager[object]:
    def transact(self: LedgerStore, items: Sequence[Item]) -> None:
        for item in items:
            condition = "attribute_not_exists(user_id)"
            self._client.put_item(TableName=self._table, Item=item, ConditionExpression=condition)

    return patch.object(LedgerStore, "_transact", transact)


def _marker_not_looked_for() -> AbstractContextManager[object]:
    return patch.object(LedgerStore, "_marker", lambda *_: None)


def _mail_recorded_after_it_was_sent() -> AbstractContextManager[object]:
    def once(self: MailRecords, identity: str, send: Callable[[], Any]) -> Any:
        for item in self.find([identity]).values():
            return read_mail(identity, item).said
        said = send()
        item = {
            "id": {"S": record_id(identity)},
            "status": {"S": "COMPLETED"},
            "expiration": {"N": str(int(time.time()))},
            "data": {"S": json.dumps(said)},
        }
        client: Any = self._connection.client
        client.put_item(TableName=self._table, Item=item)
        return said

    return patch.object(MailRecords, "once", once)


def _mail_in_doubt_sent_again() -> AbstractContextManager[object]:
    return patch.object(_Records, "delete_record", DynamoDBPersistenceLayer.delete_record)


def _refused_inserts_taken_for_done() -> AbstractContextManager[object]:
    original = LedgerStore.insert

    def insert(self: LedgerStore, drafts: Sequence[Draft]) -> Inserted:
        original(self, drafts)
        return Inserted(list(drafts), [], [])

    return patch.object(LedgerStore, "insert", insert)


def _untaken_messages_forgotten() -> AbstractContextManager[object]:
    def send(self: Queues, queue_url: str, bodies: Sequence[str]) -> None:
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        self._client.send_message_batch(QueueUrl=queue_url, Entries=entries)

    return patch.object(Queues, "_send_chunk", send)


def _stream_acknowledges_what_failed() -> AbstractContextManager[object]:
    original = outbox.queue_notifications

    def queue(services: Any, event: Any) -> None:
        with suppress(Contention, *FAULTS):
            original(services, event)

    return patch.object(outbox, "queue_notifications", queue)


def _worker_acknowledges_what_failed() -> AbstractContextManager[object]:
    def handle(*arguments: Any) -> Any:
        records.handle_records(*arguments)
        return {"batchItemFailures": []}

    return patch("chalicelib.jobs.workers.handle_records", handle)


def _unprocessed_forgotten() -> AbstractContextManager[object]:
    original = SubscriptionStore.get_many

    def get_many(self: SubscriptionStore, user_ids: Any) -> Any:
        with patch("chalicelib.store.database.attempts_for_room", lambda _: iter((0,))):
            try:
                return original(self, user_ids)
            except Contention:
                return {}

    return patch.object(SubscriptionStore, "get_many", get_many)


def _edits_in_two_writes(first: int) -> Bug:
    """Each statement of an edit is a write by itself: number ``first`` of them before the other."""

    def write(self: SubscriptionStore, wanted: Any, present: Any, edit: Any) -> frozenset[str]:
        key = key_of(edit.version, self._new_id())
        statements = [self._edits.insertion(edit, key), self._statement(wanted, present)]
        client: Any = self._connection.client
        for statement in (statements[first], statements[1 - first]):
            client.execute_transaction(TransactStatements=[statement])
        return frozenset()

    return lambda: patch.object(SubscriptionStore, "_write", write)


BUGS: dict[str, tuple[str, Bug]] = {
    "an edit is recorded after it is made, and not with it": (
        "replacement of a subscription",
        _edits_in_two_writes(first=1),
    ),
    "an edit is recorded before it is made, and not with it": (
        "replacement of a subscription",
        _edits_in_two_writes(first=0),
    ),
    "the marker is written after the entry, and not with it": (
        "grant by hand",
        _marker_after_the_entry,
    ),
    "who is refused is not asked whether it was granted before": (
        "use of all there is",
        _marker_not_looked_for,
    ),
    "a mail is recorded after it was sent": (
        "mails of allocations",
        _mail_recorded_after_it_was_sent,
    ),
    "a mail in doubt is sent again": ("mails of allocations", _mail_in_doubt_sent_again),
    "what a batch of inserts refuses is taken for done": (
        "allocation to users on several pages",
        _refused_inserts_taken_for_done,
    ),
    "what the queue did not take is forgotten": ("reminders", _untaken_messages_forgotten),
    "the stream's function acknowledges what failed": (
        "use of several batches, down to little",
        _stream_acknowledges_what_failed,
    ),
    "a worker acknowledges what failed": (
        "expiry of several users' batches",
        _worker_acknowledges_what_failed,
    ),
    "what a batch read left out is not asked for again": (
        "allocation of missed months",
        _unprocessed_forgotten,
    ),
}
"""What each is, in which workflow it shows, and how it is planted."""
