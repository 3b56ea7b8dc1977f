"""What wakes somebody: every alarm of the stack, in one table.

`complete` puts them into the packaged template. What there is one of for each queue, function or
table is derived from the template itself: what is declared is watched. All of them tell the topic
`AlarmsTopic`, when they ring and when they end; what to do then is in docs/operating.md, in the
section that an alarm's description links to.

Metric math would need fewer of them in places, but the emulator refuses it in a template.

A stage of the size `small` has those alone that tell of credits lost or missing, and those that
take a deployment back. Of the metrics of ours it writes those that its alarms read, for each has
its price. infra/pages/alarms.py makes the tables of docs/operating.md about them.
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
"""The alarms that take a deployment back, five of which is what CloudFormation allows. They are of
what runs within any quarter of an hour: a worker that fails only when a month begins would not show
while a deployment is watched. The authorizer's failures are 5XX answers of the API."""

# The product's own metrics: names, and the dimension all of them have.
NAMESPACE = "Credits"
SERVICE = {"service": {"Fn::Sub": "credits-${Stage}"}}


class Missing(Enum):
    """What an alarm makes of a period without data."""

    IS_FINE = "notBreaching"
    """Nothing happened: the metric is there only when something does."""
    IS_THE_FAILURE = "breaching"
    """Something must happen all the time."""
    SAYS_NOTHING = "ignore"
    """What was found stays true until it is looked at again."""


class Statistic(Enum):
    """What is made of the values of a period."""

    AVERAGE = "Average"
    MAXIMUM = "Maximum"
    P99 = "p99"
    SUM = "Sum"


class Rings(Enum):
    """On which side of its threshold an alarm rings."""

    FROM = "GreaterThanOrEqualToThreshold"
    BELOW = "LessThanThreshold"


@dataclass(frozen=True)
class PerStage:
    """A threshold that is not the same where users are. The stage `local` has that of `dev`."""

    dev: float
    prod: float


@dataclass(frozen=True)
class Part:
    """One of what a symptom can be of; `name` is empty for the service as a whole."""

    name: str
    dimensions: Mapping[str, Json | str]


@dataclass(frozen=True)
class Symptom:
    """One line of the table: what is wrong, and how to tell from a metric.

    It rings when each of the last `periods` periods, of `seconds` each, is on the wrong side of the
    threshold. `meaning` is one sentence, in which `{part}` is the part's name; `name` is also that
    of the runbook's section. `parts_with_own_threshold` has the thresholds of parts that differ.
    `in_small`: credits may be lost or missing, so a small stage has it, too.
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
    """The resources of a type: their names in the template, and their properties."""
    for logical_id, resource in sorted(template["Resources"].items()):
        if resource["Type"] == resource_type:
            yield logical_id, resource["Properties"]


def _short_name(name: Json) -> str:
    """The part of a physical name that is not the stage's: `credits-${Stage}-sweeps` is sweeps."""
    text: str = name["Fn::Sub"]
    return text.removeprefix("credits-${Stage}-")


def _whole_service(_template: Json) -> Iterator[Part]:
    yield Part("", SERVICE)


def _whole_account(_template: Json) -> Iterator[Part]:
    yield Part("", {})


def the_api(template: Json) -> Iterator[Part]:
    """The API, as CloudWatch knows it."""
    api = template["Resources"]["RestAPI"]["Properties"]
    yield Part("", {"ApiName": api["Name"], "Stage": api["StageName"]})


def all_queues(template: Json) -> Iterator[Part]:
    """Every queue, dead-letter queues too."""
    for logical_id, queue in of_type(template, "AWS::SQS::Queue"):
        dimensions = {"QueueName": {"Fn::GetAtt": [logical_id, "QueueName"]}}
        yield Part(_short_name(queue["QueueName"]), dimensions)


def queues(template: Json) -> Iterator[Part]:
    """The queues that are worked off."""
    return (part for part in all_queues(template) if not part.name.endswith("-dlq"))


def dead_letter_queues(template: Json) -> Iterator[Part]:
    """The dead-letter queues, by the names of what is in front of them."""
    for part in all_queues(template):
        if part.name.endswith("-dlq"):
            yield Part(part.name.removesuffix("-dlq"), part.dimensions)


def functions(template: Json) -> Iterator[Part]:
    """Every function."""
    for logical_id, function in of_type(template, "AWS::Serverless::Function"):
        yield Part(_short_name(function["FunctionName"]), {"FunctionName": {"Ref": logical_id}})


def queue_readers(template: Json) -> Iterator[Part]:
    """The functions that read a queue: any of them can be in a loop."""
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
    """Every table, and every index: an index throttles on its own account."""
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
    # Not before the next tick has swept the same zones again, nor while a message that failed a few
    # times waits to be tried again, or one whose function died waits out its six minutes. Mails
    # wait on purpose: for the rate of SES, and for tomorrow.
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
    # Three: an event that fails is tried three times, and a queue's message so often in a quarter
    # of an hour. What fails once and then succeeds wakes nobody.
    Symptom(
        "function-errors",
        "The function {part} keeps failing: it raises, times out, or runs out of memory.",
        functions,
        "AWS/Lambda",
        "Errors",
        Statistic.SUM,
        PerStage(dev=10, prod=3),
        seconds=900,
        # What the audit cannot do is a reason to look at once: it may be what it is there to find.
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
    # Lambda says it nowhere else: no error, no throttle, no line in a log, and no dead letter.
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
    # A table that is growing into a larger load throttles for moments, and requests are repeated.
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
    # Twenty minutes without one. It also rings when a stack is new, until its first tick.
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
    # The first re-sweep comes after a quarter of an hour: what it repaired is no reason to wake up.
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
    # Their sweeps have no midnight any more: nobody else would notice.
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
    # Whatever it is, it is of one user or record, and is met again until somebody looks. Where it
    # keeps work from being done it ends as a dead letter, too, half an hour later.
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
    # Of what is over SES's rate, which is normal, nothing is counted. Some addresses fail always.
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
    # Half of what makes SES review an account (5 % and 0.1 %; at double that it stops it). SES
    # publishes both from time to time only, and for the whole account, as the review goes.
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
    """One alarm: a symptom, of one part."""

    symptom: Symptom
    part: Part

    @property
    def name(self) -> str:
        """Its name without the stack's: `dead-letters-sweeps`."""
        return "-".join(word for word in (self.symptom.name, self.part.name) if word)

    @property
    def logical_id(self) -> str:
        """Its name in the template."""
        return camel(self.name) + "Alarm"

    @property
    def in_small(self) -> bool:
        """Whether a small stage has it: a deployment is taken back there, too."""
        return self.symptom.in_small or self.name in ROLLBACK_ALARMS

    @property
    def threshold(self) -> PerStage:
        """The part's own threshold, or the symptom's."""
        symptom = self.symptom
        return symptom.parts_with_own_threshold.get(self.part.name, symptom.threshold)

    @property
    def setting(self) -> str:
        """The name of the threshold among the settings of each stage."""
        is_own = self.part.name in self.symptom.parts_with_own_threshold
        return camel(self.name if is_own else self.symptom.name)

    def resource(self) -> Json:
        """The alarm as CloudFormation takes it."""
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
    """`dead-letters` as CloudFormation takes names: DeadLetters."""
    return "".join(word.capitalize() for word in re.split(r"\W+", name))


def alarms_of(template: Json) -> list[Alarm]:
    """Every alarm that the resources of a template call for."""
    return [Alarm(symptom, part) for symptom in SYMPTOMS for part in symptom.parts(template)]


def metrics_of_small() -> list[str]:
    """The metrics of ours that a small stage writes: those that its alarms read."""
    return sorted(
        symptom.metric
        for symptom in SYMPTOMS
        if symptom.in_small and symptom.namespace == NAMESPACE
    )


def complete(template: Json) -> None:
    """Adds to a packaged template its alarms, the thresholds of each stage, and what is counted."""
    found = alarms_of(template)
    thresholds = {alarm.setting: alarm.threshold for alarm in found}
    dev = {name: threshold.dev for name, threshold in thresholds.items()}
    prod = {name: threshold.prod for name, threshold in thresholds.items()}
    template["Mappings"]["Alarms"] = {"local": dev, "dev": dev, "prod": prod}
    template["Resources"] |= {alarm.logical_id: alarm.resource() for alarm in found}
    # SAM adds the variables of `Globals` to those of each function. Empty is every metric.
    template["Globals"]["Function"]["Environment"] = {
        "Variables": {"METRICS": {"Fn::If": ["IsFull", "", ",".join(metrics_of_small())]}}
    }
