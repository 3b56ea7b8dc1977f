"""Bugs to plant: each is a usual way to get crashes wrong, and must be found."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer

from chalicelib.domain.errors import Contention
from chalicelib.event_bus import EventBus
from chalicelib.jobs import outbox
from chalicelib.operations.past_usages import PastUsage
from chalicelib.store.database import Item
from chalicelib.store.ledger import Draft, Inserted, LedgerStore
from chalicelib.store.mails import MailRecords, _Records, read_mail, record_id
from infra.faults import FAULTS
from infra.imports import usages
from tests.simulation import planted, planted_payments, planted_promotions, planted_stripe
from tests.simulation.planted import Bug, becomes, instead


def _marker_after_the_entry(self: LedgerStore, items: Sequence[Item]) -> None:
    for item in items:
        condition = "attribute_not_exists(user_id)"
        put = {"TableName": self._table, "Item": item, "ConditionExpression": condition}
        self._client.call("PutItem", put)


def _mail_recorded_after_it_was_sent(
    self: MailRecords, identity: str, send: Callable[[], Any]
) -> Any:
    for item in self.find([identity]).values():
        return read_mail(identity, item).said
    said = send()
    item = {
        "id": {"S": record_id(identity)},
        "status": {"S": "COMPLETED"},
        "expiration": {"N": str(int(time.time()))},
        "data": {"S": json.dumps(said)},
    }
    self._client.call("PutItem", {"TableName": self._table, "Item": item})
    return said


def _inserts_taken_for_done(original: Any, self: LedgerStore, drafts: Sequence[Draft]) -> Inserted:
    original(self, drafts)
    return Inserted(list(drafts), [], [])


def _failures_acknowledged(original: Any, services: Any, event: Any) -> None:
    with suppress(Contention, *FAULTS):
        original(services, event)


def _refusals_overlooked(original: Any, self: EventBus, events: Any) -> list[None]:
    return [None for _ in original(self, events)]


def _usage_named_by_its_place(original: Any, services: Any, usage: PastUsage) -> Any:
    number = services.ledger.account(usage.user_id).next_number
    return original(services, replace(usage, key=f"{usage.key}-{number}"))


def _usage_known_by_its_user(original: Any, services: Any, usage: PastUsage) -> Any:
    key = usage.key if services.ledger.account(usage.user_id).entry.amount > 0 else usage.user_id
    return original(services, replace(usage, key=key))


_IN_SIMULATION = {
    "an edit is recorded after it is made, and not with it": "replacement of a subscription",
    "an edit is recorded before it is made, and not with it": "replacement of a subscription",
    "who was served before is refused once the credits are gone": "use of all there is",
    "what SQS takes only in part is not sent again": "reminders",
    "a worker acknowledges what failed": "expiry of several users' batches",
    "what a batch read left out is not asked for again": "allocation of missed months",
}
"""Bugs that the simulation finds, too, and in which workflow they show."""

_OF_STRIPE = {
    "an event is marked as done before it is": "a pack is bought by a customer who is known",
    "an address that was learned by a process that died is never given": (
        "Stripe gives a user an address"
    ),
    "a month that could not be posted is answered as done": (
        "Stripe brings a user back, and the month is due"
    ),
}
"""The same of what Stripe's events come to."""

BUGS: dict[str, tuple[str, Bug]] = {
    **{bug: (workflow, planted.BUGS[bug]) for bug, workflow in _IN_SIMULATION.items()},
    **{bug: (workflow, planted_stripe.BUGS[bug]) for bug, workflow in _OF_STRIPE.items()},
    "a refund leaves no link, so the next one does not know of it": (
        "refund of what is spent",
        planted_payments.BUGS["a refund leaves no link, so the next one does not know of it"],
    ),
    "the marker is written after the entry, and not with it": (
        "grant by hand",
        becomes(LedgerStore, "_transact", _marker_after_the_entry),
    ),
    "an email is recorded after it was sent": (
        "mails of allocations",
        becomes(MailRecords, "once", _mail_recorded_after_it_was_sent),
    ),
    "an email in doubt is sent again": (
        "mails of allocations",
        becomes(_Records, "delete_record", DynamoDBPersistenceLayer.delete_record),
    ),
    "the key of a promotion follows from what the user's ledger has already": (
        "promotion from a file",
        planted_promotions.BUGS[
            "the key of a promotion follows from what the user's ledger has already"
        ],
    ),
    "the key of a usage of a file follows from what the user's ledger has already": (
        "usages from the file of an old system",
        instead(usages, "spend_past", _usage_named_by_its_place),
    ),
    "a usage of a file is known by another name when it comes again": (
        "usages from the file of an old system",
        instead(usages, "spend_past", _usage_known_by_its_user),
    ),
    "what a batch of inserts refuses is taken for done": (
        "allocation to users on several pages",
        instead(LedgerStore, "insert", _inserts_taken_for_done),
    ),
    "an event that EventBridge refused is taken for published": (
        "events of a user who runs low",
        instead(EventBus, "publish", _refusals_overlooked),
    ),
    "the stream's function acknowledges what failed": (
        "use of several batches, down to little",
        instead(outbox, "queue_notifications", _failures_acknowledged),
    ),
}
"""What each is, in which workflow it shows, and how it is planted."""
