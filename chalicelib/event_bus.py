"""Publishes the ledger's events on the stage's bus of EventBridge, ten in a request."""

import json
from collections.abc import Sequence
from typing import Any

from chalicelib import aws
from chalicelib.domain.events import SOURCE, CreditEvent
from chalicelib.settings import Settings

EVENTS_A_REQUEST = 10
"""The most events of one PutEvents. Together they may have 256 KB; ten of ours have less than 30
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html)."""


class EventBus:
    """The bus of this stage."""

    def __init__(self, settings: Settings, client: Any = None) -> None:
        self._name = settings.event_bus
        self._client: Any = client or aws.client("events", settings.region)

    def publish(self, events: Sequence[CreditEvent]) -> list[str | None]:
        """Publishes at most `EVENTS_A_REQUEST` events.

        Returns for each event EventBridge's error code, or None if it was accepted: EventBridge
        decides about each event separately.
        """
        answer = self._client.put_events(
            Entries=[
                {
                    "EventBusName": self._name,
                    "Source": SOURCE,
                    "DetailType": event.name.value,
                    "Time": event.at,
                    "Detail": json.dumps(event.detail, separators=(",", ":")),
                }
                for event in events
            ]
        )
        # One answer for each event, in the same order.
        return [taken.get("ErrorCode") for taken in answer["Entries"]]
