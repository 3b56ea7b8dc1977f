"""The alarms' form, and the parts of a template that they can watch.

infra/deployment/alarms.py has the table of all alarms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Json = dict[str, Any]

# The product's own metrics: their namespace, and the dimension of them all.
NAMESPACE = "Credits"
SERVICE = {"service": {"Fn::Sub": "credits-${Stage}"}}


class Missing(Enum):
    """How an alarm reads a period without data."""

    IS_FINE = "notBreaching"
    """No data is fine: the metric is only written when something happens."""
    IS_THE_FAILURE = "breaching"
    """No data is an alarm: something must happen all the time."""
    SAYS_NOTHING = "ignore"
    """No data keeps the state: a finding stays true until the next check."""


class Statistic(Enum):
    """How the values of a period become one number."""

    AVERAGE = "Average"
    MAXIMUM = "Maximum"
    P99 = "p99"
    SUM = "Sum"


class Rings(Enum):
    """The side of its threshold on which an alarm rings."""

    FROM = "GreaterThanOrEqualToThreshold"
    BELOW = "LessThanThreshold"


@dataclass(frozen=True)
class PerStage:
    """A threshold that differs between prod and dev. The stage `local` uses that of `dev`."""

    dev: float
    prod: float


@dataclass(frozen=True)
class Part:
    """A queue, function or table that a symptom is about; `name` is empty for the whole service."""

    name: str
    dimensions: Mapping[str, Json | str]


@dataclass(frozen=True)
class Symptom:
    """A line of the table: what is wrong, and which metric shows it.

    The alarm rings when each of the last `periods` periods, of `seconds` each, is on the wrong side
    of the threshold. `meaning` is one sentence; `{part}` in it stands for the part's name. The
    section of the runbook has the same `name`. `parts_with_own_threshold` holds the thresholds of
    parts that differ. `in_small`: credits may be lost or missing, so a small stage has it, too.
    """

    name: str
    meaning: str
    parts: Callable[[Json], Iterator[Part]]
    namespace: str
    metric: str
    statistic: Statistic
    threshold: PerStage
    seconds: int = 300
    periods: int = 1
    rings: Rings = Rings.FROM
    missing: Missing = Missing.IS_FINE
    parts_with_own_threshold: Mapping[str, PerStage] = field(default_factory=dict)
    in_small: bool = False


# --- The parts to watch, in a template ------------------------------------------------------------


def of_type(template: Json, resource_type: str) -> Iterator[tuple[str, Json]]:
    """The resources of a type: their logical ids in the template, and their properties."""
    for logical_id, resource in sorted(template["Resources"].items()):
        if resource["Type"] == resource_type:
            yield logical_id, resource["Properties"]


def _short_name(name: Json) -> str:
    """A physical name without the stage: `credits-${Stage}-sweeps` becomes sweeps."""
    text: str = name["Fn::Sub"]
    return text.removeprefix("credits-${Stage}-")


def whole_service(_template: Json) -> Iterator[Part]:
    """The service, by the dimension of its own metrics."""
    yield Part("", SERVICE)


def whole_account(_template: Json) -> Iterator[Part]:
    """The whole account: metrics without a dimension."""
    yield Part("", {})


def the_api(template: Json) -> Iterator[Part]:
    """The API, by the dimension that CloudWatch uses for it."""
    api = template["Resources"]["RestAPI"]["Properties"]
    yield Part("", {"ApiName": api["Name"], "Stage": api["StageName"]})


def all_queues(template: Json) -> Iterator[Part]:
    """Every queue, including dead-letter queues."""
    for logical_id, queue in of_type(template, "AWS::SQS::Queue"):
        dimensions = {"QueueName": {"Fn::GetAtt": [logical_id, "QueueName"]}}
        yield Part(_short_name(queue["QueueName"]), dimensions)


def queues(template: Json) -> Iterator[Part]:
    """The queues that a function reads."""
    return (part for part in all_queues(template) if not part.name.endswith("-dlq"))


def dead_letter_queues(template: Json) -> Iterator[Part]:
    """The dead-letter queues, named after the parts that they serve."""
    for part in all_queues(template):
        if part.name.endswith("-dlq"):
            yield Part(part.name.removesuffix("-dlq"), part.dimensions)


def functions(template: Json) -> Iterator[Part]:
    """Every function."""
    for logical_id, function in of_type(template, "AWS::Serverless::Function"):
        yield Part(_short_name(function["FunctionName"]), {"FunctionName": {"Ref": logical_id}})


def queue_readers(template: Json) -> Iterator[Part]:
    """The functions that read a queue: each of them could get into an endless loop."""
    return _readers(template, "SQS")


def stream_readers(template: Json) -> Iterator[Part]:
    """The functions that read a table's stream."""
    return _readers(template, "DynamoDB")


def _readers(template: Json, source: str) -> Iterator[Part]:
    for logical_id, function in of_type(template, "AWS::Serverless::Function"):
        events = function.get("Events", {}).values()
        if any(event["Type"] == source for event in events):
            yield Part(_short_name(function["FunctionName"]), {"FunctionName": {"Ref": logical_id}})


def tables_and_indexes(template: Json) -> Iterator[Part]:
    """Every table and every index: an index throttles by itself."""
    for logical_id, table in of_type(template, "AWS::DynamoDB::Table"):
        name = _short_name(table["TableName"])
        yield Part(name, {"TableName": {"Ref": logical_id}})
        for index in table.get("GlobalSecondaryIndexes", ()):
            index_name = index["IndexName"]
            yield Part(
                f"{name}-{index_name.replace('_', '-')}",
                {"TableName": {"Ref": logical_id}, "GlobalSecondaryIndexName": index_name},
            )
