"""Sends messages to SQS, ten in a request, and sends those again that SQS did not accept."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

from chalicelib import aws
from chalicelib.domain.errors import Contention
from chalicelib.retries import Pause, attempts, pause_with_jitter
from chalicelib.settings import Settings

MESSAGES_A_REQUEST = 10
"""The most messages of one SendMessageBatch (SQS's limit)."""

Element = TypeVar("Element")


class Queues:
    """The work queues of this stage."""

    def __init__(
        self, settings: Settings, pause: Pause = pause_with_jitter, client: Any = None
    ) -> None:
        self._settings = settings
        self._pause = pause
        self._client: Any = client or aws.client("sqs", settings.region)

    def send_sweeps(self, bodies: Iterable[str]) -> int:
        """Enqueues sweeps; returns how many."""
        return self._send(self._settings.sweeps_queue_url, bodies)

    def send_allocations(self, bodies: Iterable[str]) -> int:
        """Enqueues users to allocate to; returns how many messages."""
        return self._send(self._settings.allocations_queue_url, bodies)

    def send_expiries(self, bodies: Iterable[str]) -> int:
        """Enqueues users whose batches may have expired; returns how many messages."""
        return self._send(self._settings.expiries_queue_url, bodies)

    def send_checks(self, bodies: Iterable[str]) -> int:
        """Enqueues zones to count; returns how many."""
        return self._send(self._settings.checks_queue_url, bodies)

    def send_notifications(self, bodies: Iterable[str]) -> int:
        """Enqueues notifications of users; returns how many messages."""
        return self._send(self._settings.notifications_queue_url, bodies)

    def send_events(self, bodies: Iterable[str]) -> int:
        """Enqueues events for the bus; returns how many messages."""
        return self._send(self._settings.events_queue_url, bodies)

    def delay(self, queue_url: str, seconds: Mapping[str, int]) -> None:
        """Makes messages, by their receipt handles, come back that many seconds from now.

        The delay is for this receive only, and the receive counts. A message that SQS does not
        delay comes back after the queue's own visibility timeout
        (https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ChangeMessageVisibility.html).
        """
        for chunk in chunks(seconds.items(), MESSAGES_A_REQUEST):
            self._client.change_message_visibility_batch(
                QueueUrl=queue_url,
                Entries=[
                    {"Id": str(place), "ReceiptHandle": handle, "VisibilityTimeout": delay}
                    for place, (handle, delay) in enumerate(chunk)
                ],
            )

    def _send(self, queue_url: str, bodies: Iterable[str]) -> int:
        sent = 0
        for chunk in chunks(bodies, MESSAGES_A_REQUEST):
            self._send_chunk(queue_url, chunk)
            sent += len(chunk)
        return sent

    def _send_chunk(self, queue_url: str, bodies: Sequence[str]) -> None:
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        for _ in attempts(self._pause):
            answer = self._client.send_message_batch(QueueUrl=queue_url, Entries=entries)
            failed = {failure["Id"] for failure in answer.get("Failed", ())}
            entries = [entry for entry in entries if entry["Id"] in failed]
            if not entries:
                return
        raise Contention(f"SQS did not take {len(entries)} messages")


def chunks(elements: Iterable[Element], size: int) -> Iterator[list[Element]]:
    """The elements in lists of ``size``, the last one shorter."""
    iterator = iter(elements)
    while chunk := list(islice(iterator, size)):
        yield chunk
