"""Invokes the ticks of a stack, as its schedule would, and waits for their work."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from chalicelib.domain.instants import format_instant
from infra.session import ClientFactory

QUEUES = ("sweeps", "allocations", "expiries")
INVOCATION_SECONDS = 120
"""How long to wait for an answer: longer than a function may run, or the SDK would send again."""
DRAIN_DEADLINE_SECONDS = 180.0
MAIL_SECONDS = 3.0
"""The longest attempt to send an email; a message hidden for longer waits after a failure."""

_POLL_SECONDS = 0.1


class TickFailedError(Exception):
    """The stack failed to do the work of a tick; the message says what failed and where to look."""


class Ticking(Protocol):
    """A stack whose ticks can be invoked: its names by short keys, and clients to reach them."""

    @property
    def functions(self) -> Mapping[str, str]:
        """The names of the Lambda functions."""

    @property
    def queues(self) -> Mapping[str, str]:
        """The URLs of the queues."""

    @property
    def client(self) -> ClientFactory:
        """Makes a botocore client."""


class Ticks:
    """The two ticks of a stack, and its queues."""

    def __init__(self, stack: Ticking) -> None:
        self._stack = stack
        self._functions = stack.client("lambda", read_timeout=INVOCATION_SECONDS)
        self._sqs = stack.client("sqs")

    def run(self, function: str, instant: datetime, zones: Collection[str]) -> float:
        """Invokes the tick of an instant and waits until its work is done; returns the seconds.

        The tick gets its zones, which leaves out re-sweeps of zones that are done. Raises
        `TickFailedError`.
        """
        began = time.monotonic()
        self.invoke(function, instant, zones)
        self._wait_until_drained()
        return time.monotonic() - began

    def invoke(self, function: str, instant: datetime, zones: Collection[str] | None) -> None:
        """Invokes the tick of an instant, for some zones or (None) for all that are due.

        Its sweeps have been started when this returns. Raises `TickFailedError`.
        """
        event: dict[str, object] = {"time": format_instant(instant)}
        if zones is not None:
            event["zones"] = sorted(zones)
        answer = self._functions.invoke(
            FunctionName=self._stack.functions[function], Payload=json.dumps(event).encode()
        )
        payload = json.loads(answer["Payload"].read())
        if not payload.get("success"):
            raise TickFailedError(f"{function} of {event['time']} answered {payload}")

    def messages_in(self, queue: str) -> int:
        """How many messages of a queue wait, are being handled, or are delayed."""
        return self._count(
            queue,
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        )

    def _count(self, queue: str, *names: str) -> int:
        attributes = self._sqs.get_queue_attributes(
            QueueUrl=self._stack.queues[queue], AttributeNames=list(names)
        )["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def wait_for_mails(self) -> None:
        """Waits until every requested email has been tried once.

        A failed email is retried by the machine's own clock. This does not wait for it.
        """
        deadline = time.monotonic() + DRAIN_DEADLINE_SECONDS
        quiet_since = time.monotonic()
        while self.messages_in("notifications") and time.monotonic() < deadline:
            if self._count("notifications", "ApproximateNumberOfMessages"):
                quiet_since = time.monotonic()
            elif time.monotonic() - quiet_since > MAIL_SECONDS:
                return
            time.sleep(_POLL_SECONDS)

    def _wait_until_drained(self) -> None:
        deadline = time.monotonic() + DRAIN_DEADLINE_SECONDS
        while waiting := {name: count for name in QUEUES if (count := self.messages_in(name))}:
            if time.monotonic() > deadline:
                raise TickFailedError(
                    f"after {DRAIN_DEADLINE_SECONDS:.0f} s messages still wait: {waiting}"
                )
            time.sleep(_POLL_SECONDS)
