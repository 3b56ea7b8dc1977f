"""How the events of a local stack are followed, and what the console remembers of them."""

import json
import os
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from infra.local.events import MOST_HEARD, Heard, following, hearing, line_of
from infra.local.stacks import LocalStack


def event(name: str, number: int, user_id: str = "42") -> dict[str, Any]:
    detail = {
        "id": f"{name} {user_id}-{number}",
        "user_id": user_id,
        "number": number,
        "posted_at": f"2026-07-01T00:{number:02}:00Z",
    }
    return {"detail-type": name, "detail": detail}


def shown(heard: Heard, user_id: str = "42") -> list[str]:
    return [found["detail"]["id"] for found in heard.of(user_id)]


def test_events_are_shown_newest_first_and_once_however_they_come() -> None:
    heard = Heard()
    for each in (
        event("credits.used", 2),
        event("credits.exhausted", 2),
        event("credits.used", 3, "7"),
        event("credits.used", 2),
        event("credits.adjusted", 1),
        event("credits.used", 2),
    ):
        heard.take(each)
    assert shown(heard) == ["credits.exhausted 42-2", "credits.used 42-2", "credits.adjusted 42-1"]
    again = event("credits.used", 2)
    again["detail"]["balance"] = 5
    heard.take(again)
    assert heard.of("42")[1] == again, "as it came last"
    assert shown(heard, "7") == ["credits.used 7-3"]
    assert shown(heard, "nobody") == []


def test_the_oldest_entries_are_forgotten() -> None:
    heard = Heard()
    for number in (1, *range(MOST_HEARD + 5, 1, -1)):
        heard.take(event("credits.used", number))
    last = MOST_HEARD + 5
    numbers = [found["detail"]["number"] for found in heard.of("42")]
    assert numbers == list(range(last, last - MOST_HEARD, -1))


def test_the_latest_of_all_users_are_newest_first_and_no_more_than_of_one() -> None:
    heard = Heard()
    for number in range(1, MOST_HEARD):
        heard.take(event("credits.used", number, user_id=f"user {number % 3}"))
    last = MOST_HEARD
    for names in ("exhausted", "used"), ("used", "exhausted"):
        for name in names:
            heard.take(event(f"credits.{name}", last, user_id=f"42 {names[0]} first"))
    late = event("credits.used", 1, user_id="late")
    late["detail"]["posted_at"] = "2026-07-02T00:00:00Z"
    heard.take(late)
    latest = [found["detail"]["id"] for found in heard.latest()]
    assert latest[:6] == [
        "credits.used late-1",
        f"credits.exhausted 42 exhausted first-{last}",
        f"credits.exhausted 42 used first-{last}",
        f"credits.used 42 exhausted first-{last}",
        f"credits.used 42 used first-{last}",
        f"credits.used user {(last - 1) % 3}-{last - 1}",
    ]
    assert len(latest) == MOST_HEARD
    assert "credits.used user 1-1" not in latest


# --- On the bus -----------------------------------------------------------------------------------


class Bus:
    """In place of a stack, its EventBridge and its SQS: what is there, and what was done to it."""

    stack = "credits-local"

    def __init__(self, *answers: list[dict[str, Any]], error: Exception | None = None) -> None:
        self.answers = list(answers)
        self.error = error
        self.heard_all = threading.Event()
        self.done: list[tuple[str, dict[str, Any]]] = []

    def client(self, service: str) -> Any:
        assert service in ("events", "sqs")
        return self

    def __getattr__(self, name: str) -> Callable[..., dict[str, Any]]:
        def call(**asked: Any) -> dict[str, Any]:
            self.done.append((name, asked))
            return {"QueueUrl": "http://queue", "Attributes": {"QueueArn": "arn:queue"}}

        return call

    def receive_message(self, **asked: Any) -> dict[str, Any]:
        self.done.append(("receive_message", asked))
        if self.answers:
            bodies = self.answers.pop(0)
            named = [{"Body": json.dumps(body), "ReceiptHandle": body["n"]} for body in bodies]
            return {"Messages": named} if named else {}
        self.heard_all.set()
        if self.error:
            raise self.error
        return {}

    def deleted(self) -> list[str]:
        return [asked["ReceiptHandle"] for name, asked in self.done if name == "delete_message"]


def test_events_are_followed_by_a_rule_and_a_queue_that_last_as_long() -> None:
    ended = threading.Event()
    bus = Bus([{"n": "1"}, {"n": "ü"}], [], [{"n": "3"}])
    name = f"credits-local-follow-{os.getpid()}"
    with following(cast("LocalStack", bus), ended) as events:
        of_bus = {"Name": name, "EventBusName": "credits-local"}
        target = {"Id": "queue", "Arn": "arn:queue"}
        assert bus.done == [
            ("create_queue", {"QueueName": name}),
            (
                "get_queue_attributes",
                {"QueueUrl": "http://queue", "AttributeNames": ["QueueArn"]},
            ),
            ("put_rule", {**of_bus, "EventPattern": '{"source": ["credits"]}'}),
            (
                "put_targets",
                {"Rule": name, "EventBusName": "credits-local", "Targets": [target]},
            ),
        ]
        # One that is being dealt with comes again if the follower dies of it.
        for event_, deleted in (("1", []), ("ü", ["1"]), ("3", ["1", "ü"])):
            assert next(events) == {"n": event_}
            assert bus.deleted() == deleted
        ended.set()
        bus.error = AssertionError("it asks again although it was told to end")
        assert [*events] == []
        assert bus.deleted() == ["1", "ü", "3"]
        asked = [given for name, given in bus.done if name == "receive_message"]
        waits = {"QueueUrl": "http://queue", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1}
        assert asked == [waits] * 3, "it ends within a second of being told"
        bus.done.clear()
    assert bus.done == [
        ("remove_targets", {"Rule": name, "EventBusName": "credits-local", "Ids": ["queue"]}),
        ("delete_rule", of_bus),
        ("delete_queue", {"QueueUrl": "http://queue"}),
    ]


@pytest.mark.parametrize(
    "error",
    [
        None,
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
        ClientError({"Error": {"Code": "QueueDoesNotExist"}}, "ReceiveMessage"),
    ],
)
def test_what_listens_hears_all_and_ends_with_its_block_or_with_the_stack(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", died.append)
    told = [event("credits.used", number) | {"n": str(number)} for number in (1, 2)]
    bus = Bus(told, error=error)
    with hearing(cast("LocalStack", bus)) as heard:
        assert bus.heard_all.wait(10)
    assert [shown["detail"]["number"] for shown in heard.of("42")] == [2, 1]
    assert "events" not in {thread.name for thread in threading.enumerate()}
    assert (died, bus.done[-1][0]) == ([], "delete_queue")


def test_an_event_is_a_line_with_what_it_moved_what_there_is_and_what_can_be_spent() -> None:
    detail = {
        "posted_at": "2026-07-01T00:00:00Z",
        "transaction_id": "42-7",
        "amount": -1500,
        "ledger_balance": 2500,
        "balance": 1000,
    }
    used = {"detail-type": "credits.used", "detail": detail}
    assert line_of(used) == (
        "2026-07-01T00:00:00Z  credits.used               42-7         "
        "-1,500 = 2,500, 1,000 available"
    )
    crossed = {"detail-type": "credits.low", "detail": {**detail, "amount": 5, "threshold": 0}}
    assert line_of(crossed).endswith("42-7         +5 = 2,500, 1,000 available  threshold 0")
