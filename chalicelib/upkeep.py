"""The state of a stage: how many messages wait, and which alarms ring.

A person waits for the answer, and can ask again: so each call is made once, with a short timeout.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib import aws
from chalicelib.settings import Settings

_READ_TIMEOUT_SECONDS = 2.0

_THREADS = 8
"""How many queues to ask at once."""

_COUNTED = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
)

MOST_RINGING = 100
"""The most alarms of one answer of CloudWatch; a stage has fewer."""


class Depth(NamedTuple):
    """About how many messages are in a queue: None if SQS did not answer."""

    name: str
    waiting: int | None
    in_flight: int | None

    @property
    def holds_dead_letters(self) -> bool:
        """Whether a person must look at its messages."""
        return self.name.endswith("-dlq")


class Ringing(NamedTuple):
    """A ringing alarm: its name without the stage's, its meaning, and where to read on."""

    name: str
    meaning: str
    since: datetime
    runbook: str


class Upkeep:
    """The queues and the alarms of this stage."""

    def __init__(self, settings: Settings, sqs: Any = None, cloudwatch: Any = None) -> None:
        def client(service: str) -> Any:
            region = settings.region
            return aws.client(service, region, read_timeout=_READ_TIMEOUT_SECONDS, attempts=1)

        self._prefix = f"credits-{settings.stage}-"
        self._queue_urls = settings.queue_urls
        self._sqs: Any = sqs or client("sqs")
        self._cloudwatch: Any = cloudwatch or client("cloudwatch")

    def depths(self) -> list[Depth]:
        """Every queue, including those that do not answer."""
        with ThreadPoolExecutor(_THREADS) as pool:
            return list(pool.map(self._depth, self._queue_urls))

    def _depth(self, url: str) -> Depth:
        name = url.rpartition("/")[2].removeprefix(self._prefix)
        try:
            answer = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[*_COUNTED])
        except (BotoCoreError, ClientError):
            return Depth(name, None, None)
        visible, delayed, in_flight = (int(answer["Attributes"][each]) for each in _COUNTED)
        return Depth(name, visible + delayed, in_flight)

    def ringing(self) -> list[Ringing] | None:
        """The alarms that ring, by their names; None if CloudWatch does not answer."""
        try:
            answer = self._cloudwatch.describe_alarms(
                AlarmNamePrefix=self._prefix,
                AlarmTypes=["MetricAlarm"],
                StateValue="ALARM",
                MaxRecords=MOST_RINGING,
            )
        except (BotoCoreError, ClientError):
            return None
        return sorted(map(self._ringing, answer["MetricAlarms"]))

    def _ringing(self, alarm: dict[str, Any]) -> Ringing:
        # The form of infra/deployment/alarm_resources.py.
        meaning, _, runbook = alarm.get("AlarmDescription", "").partition(" See ")
        name = alarm["AlarmName"].removeprefix(self._prefix)
        return Ringing(name, meaning, alarm["StateUpdatedTimestamp"], runbook)
