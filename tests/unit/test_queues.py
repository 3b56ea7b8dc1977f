"""Sending to SQS: ten at a time, each to its queue, and what SQS took is not sent again."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from chalicelib.domain.errors import Contention
from chalicelib.queues import Queues
from chalicelib.settings import Settings

SETTINGS = Settings.read({"STAGE": "prod", "AWS_REGION": "eu-west-1"})._replace(
    sweeps_queue_url="https://sqs/sweeps",
    allocations_queue_url="https://sqs/allocations",
    expiries_queue_url="https://sqs/expiries",
    checks_queue_url="https://sqs/checks",
    notifications_queue_url="https://sqs/notifications",
    events_queue_url="https://sqs/events",
)


class Sqs:
    """Takes at most ten entries a request, as SQS does, and refuses those it is told to, once."""

    def __init__(self, *refused: str) -> None:
        self.refused = {*refused}
        self.requests: list[list[str]] = []
        self.urls: list[str] = []
        self.delays: list[dict[str, int]] = []

    def send_message_batch(self, **request: Any) -> dict[str, Any]:
        entries = self._entries(request)
        self.requests.append([entry["MessageBody"] for entry in entries])
        failed = [entry for entry in entries if entry["MessageBody"] in self.refused]
        self.refused -= {entry["MessageBody"] for entry in failed}
        return {"Failed": [{"Id": entry["Id"]} for entry in failed]} if failed else {}

    def change_message_visibility_batch(self, **request: Any) -> None:
        entries = self._entries(request)
        self.delays.append({it["ReceiptHandle"]: it["VisibilityTimeout"] for it in entries})

    def _entries(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = request["Entries"]
        assert 1 <= len(entries) <= 10, "SQS refuses the whole request"
        assert len({entry["Id"] for entry in entries}) == len(entries), "ids must differ"
        self.urls.append(request["QueueUrl"])
        return entries


def queues(sqs: Sqs) -> Queues:
    return Queues(SETTINGS, lambda _: None, sqs)


def numbered(first: int, last: int) -> list[str]:
    return [f"body {number}" for number in range(first, last + 1)]


def test_messages_go_ten_at_a_time_and_all_of_them() -> None:
    sqs = Sqs()
    assert queues(sqs).send_sweeps(numbered(1, 25)) == 25
    assert sqs.requests == [numbered(1, 10), numbered(11, 20), numbered(21, 25)]
    assert queues(sqs).send_sweeps([]) == 0


def test_what_sqs_did_not_take_is_sent_again_and_nothing_else() -> None:
    sqs = Sqs("body 2", "body 9", "body 12")
    assert queues(sqs).send_sweeps(numbered(1, 13)) == 13
    assert sqs.requests == [
        numbered(1, 10),
        ["body 2", "body 9"],
        numbered(11, 13),
        ["body 12"],
    ]


def test_the_sender_is_told_when_sqs_did_not_take_all_messages() -> None:
    class Full(Sqs):
        def send_message_batch(self, **request: Any) -> dict[str, Any]:
            self.refused = {"body 3", "body 4"}
            return super().send_message_batch(**request)

    sqs, pauses = Full(), list[int]()
    with pytest.raises(Contention, match="SQS did not take 2 messages"):
        Queues(SETTINGS, pauses.append, sqs).send_sweeps(numbered(1, 5))
    assert sqs.requests == [numbered(1, 5), *[numbered(3, 4)] * 24], "25 attempts, and no more"
    assert pauses == [*range(1, 25)], "ever longer ones, before each but the first"


@pytest.mark.parametrize(
    ("send", "queue"),
    [
        (Queues.send_sweeps, "sweeps"),
        (Queues.send_allocations, "allocations"),
        (Queues.send_expiries, "expiries"),
        (Queues.send_checks, "checks"),
        (Queues.send_notifications, "notifications"),
        (Queues.send_events, "events"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_message_has_its_queue(
    send: Callable[[Queues, Iterable[str]], int], queue: str
) -> None:
    sqs = Sqs()
    assert send(queues(sqs), ["a", "b"]) == 2
    assert sqs.urls == [f"https://sqs/{queue}"]


def test_any_number_of_messages_is_delayed_each_by_its_own_seconds() -> None:
    sqs = Sqs()
    seconds = {f"handle {number}": number for number in range(1, 24)}
    queues(sqs).delay("https://sqs/expiries", seconds)
    assert [len(request) for request in sqs.delays] == [10, 10, 3]
    assert {handle: it for request in sqs.delays for handle, it in request.items()} == seconds
    assert set(sqs.urls) == {"https://sqs/expiries"}
