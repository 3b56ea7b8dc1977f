"""Every alarm of the stack, in one table.

`complete` adds the alarms to the packaged template. The queues, functions and tables to watch are
read from the template itself, so every declared resource is watched. Every alarm publishes to the
topic `AlarmsTopic` when it starts and when it ends. Its description links to a section of
docs/operating.md that says what to do.

Metric math would need fewer alarms in places, but the emulator refuses it in a template.

A stage of the size `small` has only the alarms for lost or missing credits, and those that roll a
deployment back. Each custom metric costs money, so a small stage writes only the metrics that its
alarms read. infra/pages/alarms.py makes the tables of docs/operating.md from this table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Json = dict[str, Any]

RUNBOOK = "docs/operating.md"

ROLLBACK_ALARMS = (
    "api-5xx",
    "api-latency",
    "function-errors-allocation-tick",
    "function-errors-sweep-zone",
    "function-errors-queue-notifications",
)
"""The alarms that roll a deployment back. CloudFormation allows five. They watch what runs in every
quarter of an hour: a worker that only runs when a month begins could not fail while a deployment is
watched. Failures of the authorizer count as 5XX answers of the API."""

# The product's own metrics: their namespace, and the dimension that all of them have.
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
    """One line of the table: what is wrong, and which metric shows it.

    The alarm rings when each of the last `periods` periods, of `seconds` each, is on the wrong side
    of the threshold. `meaning` is one sentence; `{part}` in it stands for the part's name. The
    section of the runbook is called `name`, too. `parts_with_own_threshold` holds the thresholds of
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


# --- What there is to watch, in a template --------------------------------------------------------


def of_type(template: Json, resource_type: str) -> Iterator[tuple[str, Json]]:
    """The resources of a type: their logical ids in the template, and their properties."""
    for logical_id, resource in sorted(template["Resources"].items()):
        if resource["Type"] == resource_type:
            yield logical_id, resource["Properties"]


def _short_name(name: Json) -> str:
    """A physical name without the stage: `credits-${Stage}-sweeps` becomes sweeps."""
    text: str = name["Fn::Sub"]
    return text.removeprefix("credits-${Stage}-")


def _whole_service(_template: Json) -> Iterator[Part]:
    yield Part("", SERVICE)


def _whole_account(_template: Json) -> Iterator[Part]:
    yield Part("", {})


def the_api(template: Json) -> Iterator[Part]:
    """The API, by the dimension that CloudWatch uses for it."""
    api = template["Resources"]["RestAPI"]["Properties"]
    yield Part("", {"ApiName": api["Name"], "Stage": api["StageName"]})


def all_queues(template: Json) -> Iterator[Part]:
    """Every queue, dead-letter queues too."""
    for logical_id, queue in of_type(template, "AWS::SQS::Queue"):
        dimensions = {"QueueName": {"Fn::GetAtt": [logical_id, "QueueName"]}}
        yield Part(_short_name(queue["QueueName"]), dimensions)


def queues(template: Json) -> Iterator[Part]:
    """The queues that a function reads."""
    return (part for part in all_queues(template) if not part.name.endswith("-dlq"))


def dead_letter_queues(template: Json) -> Iterator[Part]:
    """The dead-letter queues, named after what they serve."""
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


# --- The table ------------------------------------------------------------------------------------

SYMPTOMS = (
    Symptom(
        "dead-letters",
        "Messages of {part} failed for good and wait in its dead-letter queue.",
        dead_letter_queues,
        "AWS/SQS",
        "ApproximateNumberOfMessagesVisible",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        seconds=60,
        in_small=True,
    ),
    # It must not ring before the next tick has swept the same zones again. Nor while a message that
    # failed a few times waits for its next try, or one whose function died waits out its six
    # minutes. Emails wait on purpose: for the rate of SES, and for tomorrow.
    Symptom(
        "queue-age",
        "The queue {part} is not worked off: its oldest message waits too long.",
        queues,
        "AWS/SQS",
        "ApproximateAgeOfOldestMessage",
        Statistic.MAXIMUM,
        PerStage(dev=1800, prod=900),
        parts_with_own_threshold={"notifications": PerStage(dev=90_000, prod=90_000)},
    ),
    # Three: a failing event is tried three times, and so is a queue's message within a quarter of
    # an hour. What fails once and then succeeds wakes nobody.
    Symptom(
        "function-errors",
        "The function {part} keeps failing: it raises, times out, or runs out of memory.",
        functions,
        "AWS/Lambda",
        "Errors",
        Statistic.SUM,
        PerStage(dev=10, prod=3),
        seconds=900,
        # A failing audit needs a look at once: it may fail because of what it should find.
        parts_with_own_threshold={"audit-ledgers": PerStage(dev=1, prod=1)},
    ),
    Symptom(
        "function-throttles",
        "Lambda refuses to run the function {part}: the account's concurrency is used up.",
        functions,
        "AWS/Lambda",
        "Throttles",
        Statistic.SUM,
        PerStage(dev=50, prod=5),
    ),
    # Lambda reports it nowhere else: no error, no throttle, no line in a log, no dead letter.
    Symptom(
        "recursive-invocations-dropped",
        "Lambda takes {part} for an endless loop and has dropped what it should have handled.",
        queue_readers,
        "AWS/Lambda",
        "RecursiveInvocationsDropped",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        in_small=True,
    ),
    Symptom(
        "stream-age",
        "The function {part} is behind the ledger's stream, which forgets after 24 hours.",
        stream_readers,
        "AWS/Lambda",
        "IteratorAge",
        Statistic.MAXIMUM,
        PerStage(dev=3_600_000, prod=900_000),
    ),
    # A table that adapts to a larger load throttles for moments, and requests are repeated.
    Symptom(
        "table-read-throttles",
        "DynamoDB throttles reads of {part}.",
        tables_and_indexes,
        "AWS/DynamoDB",
        "ReadThrottleEvents",
        Statistic.SUM,
        PerStage(dev=500, prod=50),
        periods=2,
    ),
    Symptom(
        "table-write-throttles",
        "DynamoDB throttles writes to {part}.",
        tables_and_indexes,
        "AWS/DynamoDB",
        "WriteThrottleEvents",
        Statistic.SUM,
        PerStage(dev=500, prod=50),
        periods=2,
    ),
    Symptom(
        "api-5xx",
        "The API answers too many requests with an error of ours.",
        the_api,
        "AWS/ApiGateway",
        "5XXError",
        Statistic.AVERAGE,
        PerStage(dev=0.05, prod=0.01),
        periods=2,
    ),
    Symptom(
        "api-latency",
        "One request in a hundred to the API takes too long.",
        the_api,
        "AWS/ApiGateway",
        "Latency",
        Statistic.P99,
        PerStage(dev=5000, prod=2000),
        periods=3,
    ),
    # Twenty minutes without a tick. It also rings while a new stack waits for its first tick.
    Symptom(
        "allocation-ticks",
        "The allocation ticks have stopped: nobody will be allocated at the next midnight.",
        _whole_service,
        NAMESPACE,
        "AllocationTicks",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        periods=4,
        rings=Rings.BELOW,
        missing=Missing.IS_THE_FAILURE,
        in_small=True,
    ),
    Symptom(
        "expiry-ticks",
        "The expiry ticks have stopped: expired credits stay in the ledger, unspendable.",
        _whole_service,
        NAMESPACE,
        "ExpiryTicks",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        periods=4,
        rings=Rings.BELOW,
        missing=Missing.IS_THE_FAILURE,
        in_small=True,
    ),
    # The first re-sweep comes after a quarter of an hour: what it repairs wakes nobody.
    Symptom(
        "allocation-lateness",
        "Credits were allocated long after the user's month began.",
        _whole_service,
        NAMESPACE,
        "AllocationLateness",
        Statistic.MAXIMUM,
        PerStage(dev=3600, prod=1800),
    ),
    Symptom(
        "allocations-missing",
        "Users who are due have no allocation for this month.",
        _whole_service,
        NAMESPACE,
        "Missing",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    Symptom(
        "allocations-duplicate",
        "Users have more than one allocation for this month.",
        _whole_service,
        NAMESPACE,
        "Duplicate",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    # Such a zone has no midnight any more, so no sweep comes: nothing else would notice.
    Symptom(
        "timezone-unknown",
        "Users live in a timezone that is no longer in the database: they are not swept.",
        _whole_service,
        NAMESPACE,
        "TimezoneUnknown",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    Symptom(
        "ledger-corrupt",
        "A ledger does not verify: a line is missing, changed or wrong.",
        _whole_service,
        NAMESPACE,
        "LedgersCorrupt",
        Statistic.MAXIMUM,
        PerStage(dev=1, prod=1),
        missing=Missing.SAYS_NOTHING,
        in_small=True,
    ),
    # The trouble concerns one user or record, and comes back until somebody looks. Where it stops
    # work, the message also becomes a dead letter, half an hour later.
    Symptom(
        "unexpected-failures",
        "Something stored cannot be read, or a bug was met; the other users were served.",
        _whole_service,
        NAMESPACE,
        "UnexpectedFailures",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
    ),
    Symptom(
        "ledger-changed",
        "Somebody changed or removed items of the ledger: a person's erasure, or tampering.",
        _whole_service,
        NAMESPACE,
        "LedgerItemsChanged",
        Statistic.SUM,
        PerStage(dev=1, prod=1),
        in_small=True,
    ),
    # Emails above SES's rate are normal and are not counted. Some addresses always fail.
    Symptom(
        "mails-failed",
        "Mails have kept failing for an hour.",
        _whole_service,
        NAMESPACE,
        "MailsFailed",
        Statistic.SUM,
        PerStage(dev=100, prod=10),
        seconds=900,
        periods=4,
    ),
    # SES reviews an account at 5 % and 0.1 %, and stops it at double that: we ring at half of it.
    # SES publishes both only from time to time. They are about the whole account, as a review is.
    Symptom(
        "mail-bounces",
        "Half way to SES's review of the account for bounces (5 %).",
        _whole_account,
        "AWS/SES",
        "Reputation.BounceRate",
        Statistic.AVERAGE,
        PerStage(dev=0.025, prod=0.025),
        seconds=3600,
        missing=Missing.SAYS_NOTHING,
    ),
    Symptom(
        "mail-complaints",
        "Half way to SES's review of the account for complaints (0.1 %).",
        _whole_account,
        "AWS/SES",
        "Reputation.ComplaintRate",
        Statistic.AVERAGE,
        PerStage(dev=0.0005, prod=0.0005),
        seconds=3600,
        missing=Missing.SAYS_NOTHING,
    ),
)


# --- From the table to the template ---------------------------------------------------------------


@dataclass(frozen=True)
class Alarm:
    """One alarm: a symptom of one part."""

    symptom: Symptom
    part: Part

    @property
    def name(self) -> str:
        """Its name without the name of the stack: `dead-letters-sweeps`."""
        return "-".join(word for word in (self.symptom.name, self.part.name) if word)

    @property
    def logical_id(self) -> str:
        """Its logical id in the template."""
        return camel(self.name) + "Alarm"

    @property
    def in_small(self) -> bool:
        """Whether a small stage has it: deployments are rolled back there, too."""
        return self.symptom.in_small or self.name in ROLLBACK_ALARMS

    @property
    def threshold(self) -> PerStage:
        """The threshold of the part; without one, that of the symptom."""
        symptom = self.symptom
        return symptom.parts_with_own_threshold.get(self.part.name, symptom.threshold)

    @property
    def setting(self) -> str:
        """The key of the threshold in the template's settings of each stage."""
        is_own = self.part.name in self.symptom.parts_with_own_threshold
        return camel(self.name if is_own else self.symptom.name)

    def resource(self) -> Json:
        """The alarm in CloudFormation's form."""
        symptom = self.symptom
        meaning = symptom.meaning.format(part=self.part.name)
        statistic = symptom.statistic
        kind = "ExtendedStatistic" if statistic is Statistic.P99 else "Statistic"
        return {
            "Type": "AWS::CloudWatch::Alarm",
            **({} if self.in_small else {"Condition": "IsFull"}),
            "Properties": {
                "AlarmName": {"Fn::Sub": f"credits-${{Stage}}-{self.name}"},
                "AlarmDescription": f"{meaning} See {RUNBOOK}#{symptom.name}",
                "Namespace": symptom.namespace,
                "MetricName": symptom.metric,
                "Dimensions": [
                    {"Name": name, "Value": value} for name, value in self.part.dimensions.items()
                ],
                kind: statistic.value,
                "Period": symptom.seconds,
                "EvaluationPeriods": symptom.periods,
                "DatapointsToAlarm": symptom.periods,
                "ComparisonOperator": symptom.rings.value,
                "Threshold": {"Fn::FindInMap": ["Alarms", {"Ref": "Stage"}, self.setting]},
                "TreatMissingData": symptom.missing.value,
                "AlarmActions": [{"Ref": "AlarmsTopic"}],
                "OKActions": [{"Ref": "AlarmsTopic"}],
            },
        }


def camel(name: str) -> str:
    """A name in CloudFormation's form: `dead-letters` becomes DeadLetters."""
    return "".join(word.capitalize() for word in re.split(r"\W+", name))


def alarms_of(template: Json) -> list[Alarm]:
    """Every alarm that the resources of a template need."""
    return [Alarm(symptom, part) for symptom in SYMPTOMS for part in symptom.parts(template)]


def metrics_of_small() -> list[str]:
    """The custom metrics that a small stage writes: those that its alarms read."""
    return sorted(
        symptom.metric
        for symptom in SYMPTOMS
        if symptom.in_small and symptom.namespace == NAMESPACE
    )


def complete(template: Json) -> None:
    """Adds the alarms, the thresholds of each stage and the list of metrics to a template."""
    found = alarms_of(template)
    thresholds = {alarm.setting: alarm.threshold for alarm in found}
    dev = {name: threshold.dev for name, threshold in thresholds.items()}
    prod = {name: threshold.prod for name, threshold in thresholds.items()}
    template["Mappings"]["Alarms"] = {"local": dev, "dev": dev, "prod": prod}
    template["Resources"] |= {alarm.logical_id: alarm.resource() for alarm in found}
    # SAM adds the variables of `Globals` to those of each function. Empty means every metric.
    template["Globals"]["Function"]["Environment"] = {
        "Variables": {"METRICS": {"Fn::If": ["IsFull", "", ",".join(metrics_of_small())]}}
    }
