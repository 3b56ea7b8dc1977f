"""The outbox of the local stack: what counts as sent, and when all of it has been."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from infra.local import outbox
from infra.local.stacks import LocalStack

Json = dict[str, Any]


def record(number: int, status: str, **said: str) -> Json:
    return {
        "id": {"S": f"mail#{number}"},
        "status": {"S": status},
        "expiration": {"N": "1790000000"},
        "data": {"S": json.dumps(said)},
    }


RECORDS = [
    [
        record(1, "COMPLETED", kind="allocation", message_id="m1", sent_at="2026-06-01T00:00:00Z"),
        record(2, "COMPLETED", kind="allocation", message_id="m2", sent_at="2026-06-02T00:00:00Z"),
        record(3, "INPROGRESS", kind="manual"),
    ],
    [
        {"id": {"S": "mail#4"}, "status": {"S": "tampered"}},
        record(5, "COMPLETED", kind="purchase", message_id="m5", sent_at="2026-06-03T00:00:00Z"),
    ],
]
OUTBOX = {"1": [{"MessageId": "m1"}, {"MessageId": "m2"}], "2": [{"MessageId": "m5"}]}


class Stack:
    """In place of a stack, with the counts of its queue, look by look, and of its dead letters."""

    mail_url = "http://mails"
    tables = {"mails": "the-mails"}  # noqa: RUF012
    queues = {"notifications": "alive", "notifications-dlq": "dead"}  # noqa: RUF012

    def __init__(self, *looks: tuple[int, int], dead: int = 0) -> None:
        self.looks = list(looks) or [(0, 0)]
        self.dead = dead

    def client(self, service: str) -> Any:
        assert service in ("sqs", "dynamodb")
        return self

    def get_paginator(self, name: str) -> Any:
        assert name == "scan"
        return self

    def paginate(self, TableName: str) -> list[Json]:  # noqa: N803
        assert TableName == "the-mails"
        return [{"Items": items} for items in RECORDS]

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Json:  # noqa: N803
        waiting, hidden = self.looks[0] if QueueUrl == "alive" else (self.dead, 99)
        if QueueUrl == "alive" and len(self.looks) > 1:
            self.looks.pop(0)
        counts = {"": waiting, "NotVisible": hidden}
        prefix = "ApproximateNumberOfMessages"
        return {"Attributes": {name: str(counts[name[len(prefix) :]]) for name in AttributeNames}}


def made(*looks: tuple[int, int], dead: int = 0) -> LocalStack:
    return cast("LocalStack", Stack(*looks, dead=dead))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves only where somebody sleeps, and what the outbox has, look by look."""
    moment = [0.0]

    def sleep(seconds: float) -> None:
        moment[0] += seconds

    monkeypatch.setattr(outbox, "time", SimpleNamespace(monotonic=lambda: moment[0], sleep=sleep))

    @contextmanager
    def opened(url: str, timeout: float) -> Iterator[Any]:
        assert (url, timeout) == ("http://mails", 60)
        yield io.BytesIO(json.dumps({"messages": OUTBOX}).encode())

    monkeypatch.setattr("urllib.request.urlopen", opened)
    return moment


@pytest.mark.usefixtures("now")
def test_the_emails_of_all_accounts_are_in_the_outbox_oldest_first() -> None:
    assert [mail["MessageId"] for mail in outbox.sent_mails(made())] == ["m1", "m2", "m5"]


def test_emails_are_counted_by_kind_and_those_in_doubt_or_unreadable_apart() -> None:
    counts = {"allocation": 2, "in doubt": 1, "unreadable": 1, "purchase": 1}
    assert outbox.count_by_kind(made()) == counts
    assert outbox.sent_at(made()) == {
        "m1": "2026-06-01T00:00:00Z",
        "m2": "2026-06-02T00:00:00Z",
        "m5": "2026-06-03T00:00:00Z",
    }
    assert outbox.dead_letters(made(dead=7)) == 7


@pytest.mark.parametrize(
    ("looks", "ends_at"),
    [
        ([(0, 0)], 5.0),
        ([(2, 0), (0, 1), (0, 1), (0, 0)], 6.0),
        ([(0, 0), (0, 0), (1, 0), (0, 0)], 6.0),
    ],
)
def test_all_is_sent_once_nothing_waits_for_five_seconds(
    looks: list[tuple[int, int]], ends_at: float, now: list[float]
) -> None:
    outbox.wait_until_sent(made(*looks))
    assert now == [ends_at]


def test_an_outbox_that_still_grows_is_waited_for_but_not_for_ever(
    now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "sent_mails", lambda _: range(min(int(now[0]), 9)))
    outbox.wait_until_sent(made())
    assert now == [14.0]
    monkeypatch.setattr(outbox, "sent_mails", lambda _: range(int(now[0])))
    outbox.wait_until_sent(made())
    assert now == [14.0 + 180.0]


@pytest.mark.parametrize("dead", [0, 1, 1200])
def test_what_users_were_told_is_shown_by_kind_with_what_failed_and_where_it_can_be_read(
    dead: int, now: list[float]
) -> None:
    screen = io.StringIO()
    outbox.show_sent(made(dead=dead), "http://127.0.0.1:1", Console(file=screen, width=90))
    assert now == [5.0], "all have been sent"
    rows = [
        [cell.strip() for cell in line.strip("│┃ ").replace("┃", "│").split("│")]
        for line in screen.getvalue().splitlines()
        if "│" in line
    ]
    assert dict(row for row in rows if row[1] != "0") == {
        "about monthly credits": "2",
        "about credits that you bought": "1",
        "in doubt": "1",
        "unreadable": "1",
        **({"in the dead-letter queue": f"{dead:,}"} if dead else {}),
        "in the outbox": "3",
    }
    assert screen.getvalue().endswith("Read them at http://127.0.0.1:1/#/lab/outbox\n\n")
