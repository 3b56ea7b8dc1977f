"""Follows the events on the bus of a local stack, by a temporary rule and queue."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import nlargest
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.domain.events import CROSSINGS
from infra.local.stacks import LocalStack

Json = dict[str, Any]

MOST_HEARD = 50
"""How many events of a user are remembered."""


@contextmanager
def following(stack: LocalStack, ended: threading.Event | None = None) -> Iterator[Iterator[Json]]:
    """Within the block: the events as EventBridge delivers them; endless without ``ended``."""
    events, sqs = stack.client("events"), stack.client("sqs")
    name, bus = f"{stack.stack}-follow-{os.getpid()}", stack.stack
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    target = {"Id": "queue", "Arn": asked["Attributes"]["QueueArn"]}
    events.put_rule(Name=name, EventBusName=bus, EventPattern='{"source": ["credits"]}')
    events.put_targets(Rule=name, EventBusName=bus, Targets=[target])
    try:
        yield _received(sqs, url, ended or threading.Event())
    finally:
        events.remove_targets(Rule=name, EventBusName=bus, Ids=["queue"])
        events.delete_rule(Name=name, EventBusName=bus)
        sqs.delete_queue(QueueUrl=url)


def _received(sqs: Any, url: str, ended: threading.Event) -> Iterator[Json]:
    while not ended.is_set():
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", ()):
            yield json.loads(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


class Heard:
    """The latest events of each user since listening began; each once, as it came last."""

    def __init__(self) -> None:
        self._of_users: dict[str, dict[str, Json]] = defaultdict(dict)
        self._lock = threading.Lock()

    def take(self, event: Json) -> None:
        """Remembers an event, in any order and any number of times."""
        detail = event["detail"]
        with self._lock:
            of_user = self._of_users[detail["user_id"]]
            of_user[detail["id"]] = event
            if len(of_user) > MOST_HEARD:
                del of_user[min(of_user, key=lambda id_: _place(of_user[id_]))]

    def of(self, user_id: str) -> list[Json]:
        """The events of a user, newest first; a crossing is newer than the event of its entry."""
        with self._lock:
            return sorted(self._of_users.get(user_id, {}).values(), key=_place, reverse=True)

    def latest(self) -> list[Json]:
        """The latest events of all users, newest first."""
        with self._lock:
            every = [event for events in self._of_users.values() for event in events.values()]
        return nlargest(MOST_HEARD, every, key=lambda event: (_posted_at(event), *_place(event)))


def _posted_at(event: Json) -> str:
    return str(event["detail"]["posted_at"])


def _place(event: Json) -> tuple[int, bool]:
    return event["detail"]["number"], event["detail-type"] in CROSSINGS


@contextmanager
def hearing(stack: LocalStack) -> Iterator[Heard]:
    """Within the block: the events heard so far. It stops listening when the stack is gone."""
    heard, ended = Heard(), threading.Event()

    def listen() -> None:
        try:
            with following(stack, ended) as events:
                for event in events:
                    heard.take(event)
        except (BotoCoreError, ClientError):
            pass  # whatever watches the stack reports that it is gone

    listener = threading.Thread(target=listen, daemon=True, name="events")
    listener.start()
    try:
        yield heard
    finally:
        ended.set()
        listener.join()


def line_of(event: Json) -> str:
    """An event as a line for people."""
    detail = event["detail"]
    crossed = f"  threshold {detail['threshold']}" if "threshold" in detail else ""
    return (
        f"{detail['posted_at']}  {event['detail-type']:<26} {detail['transaction_id']:<12} "
        f"{detail['amount']:+,} = {detail['ledger_balance']:,}, {detail['balance']:,} available"
        f"{crossed}"
    )
