"""Follows the events on the bus of a local stack, by a rule and a queue that last as long."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infra.local.stacks import LocalStack

Json = dict[str, Any]


@contextmanager
def following(stack: LocalStack) -> Iterator[Iterator[Json]]:
    """Within the block: the events as EventBridge delivers them, without an end."""
    events, sqs = stack.client("events"), stack.client("sqs")
    name, bus = f"{stack.stack}-follow-{os.getpid()}", stack.stack
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    target = {"Id": "queue", "Arn": asked["Attributes"]["QueueArn"]}
    events.put_rule(Name=name, EventBusName=bus, EventPattern='{"source": ["credits"]}')
    events.put_targets(Rule=name, EventBusName=bus, Targets=[target])
    try:
        yield _received(sqs, url)
    finally:
        events.remove_targets(Rule=name, EventBusName=bus, Ids=["queue"])
        events.delete_rule(Name=name, EventBusName=bus)
        sqs.delete_queue(QueueUrl=url)


def _received(sqs: Any, url: str) -> Iterator[Json]:
    while True:
        answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        for message in answer.get("Messages", ()):
            yield json.loads(message["Body"])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


def line_of(event: Json) -> str:
    """An event as a line for people."""
    detail = event["detail"]
    crossed = f"  threshold {detail['threshold']}" if "threshold" in detail else ""
    return (
        f"{detail['posted_at']}  {event['detail-type']:<26} {detail['transaction_id']:<12} "
        f"{detail['amount']:+,} = {detail['ledger_balance']:,}, {detail['balance']:,} available"
        f"{crossed}"
    )
