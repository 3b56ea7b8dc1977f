"""EventBridge as the publisher sees it: takes events one by one, or refuses those a test names."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

MOST_ENTRIES = 10
MOST_BYTES = 256 * 1024
"""The limits of one PutEvents."""


@dataclass(frozen=True)
class Published:
    """What a consumer of the bus is sent."""

    bus: str
    source: str
    name: str
    time: datetime
    detail: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.detail["id"])


@dataclass
class Bus:
    """``refuse`` says with which code an event is not taken; ``before`` and ``after`` may raise.

    What ``after`` raises is a lost answer: the events were taken.
    """

    published: list[Published] = field(default_factory=list)
    calls: int = 0
    refuse: Callable[[Published], str | None] = lambda _: None
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None

    def put_events(self, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.calls += 1
        assert 1 <= len(Entries) <= MOST_ENTRIES
        assert sum(len(entry["Detail"].encode()) + 200 for entry in Entries) < MOST_BYTES
        self.before()
        answers = [self._take(entry) for entry in Entries]
        self.after()
        return {
            "FailedEntryCount": sum("ErrorCode" in answer for answer in answers),
            "Entries": answers,
        }

    def _take(self, entry: dict[str, Any]) -> dict[str, str]:
        event = Published(
            entry["EventBusName"],
            entry["Source"],
            entry["DetailType"],
            entry["Time"],
            json.loads(entry["Detail"]),
        )
        if code := self.refuse(event):
            return {"ErrorCode": code, "ErrorMessage": "No."}
        self.published.append(event)
        return {"EventId": f"event-{len(self.published)}"}

    def names(self) -> list[str]:
        return [event.name for event in self.published]
