"""Every alarm as CloudWatch gets it, of a template with one part of each kind."""

from typing import Any

from chalicelib.metrics import Metric
from infra.deployment import alarm_resources
from infra.deployment.symptoms import NAMESPACE

Json = dict[str, Any]

NAME = "credits-${Stage}-"


def resource(kind: str, **properties: Any) -> Json:
    return {"Type": kind, "Properties": properties}


def queue(name: str) -> Json:
    return resource("AWS::SQS::Queue", QueueName={"Fn::Sub": NAME + name})


def function(name: str, *sources: str) -> Json:
    events = {source: {"Type": source} for source in sources}
    return resource(
        "AWS::Serverless::Function",
        FunctionName={"Fn::Sub": NAME + name},
        MemorySize=64 * len(name),
        Events=events,
    )


def made() -> Json:
    """A template without alarms."""
    return {
        "Mappings": {},
        "Globals": {"Function": {}},
        "Resources": {
            "Sweeps": queue("sweeps"),
            "Mails": queue("notifications"),
            "Dlq": queue("sweeps-dlq"),
            "Reader": function("sweep-zone", "SQS"),
            "Audit": function("audit-ledgers", "Schedule", "DynamoDB"),
            "Ledger": resource(
                "AWS::DynamoDB::Table",
                TableName={"Fn::Sub": f"{NAME}ledger"},
                GlobalSecondaryIndexes=[{"IndexName": "by_zone"}],
            ),
            "RestAPI": resource("AWS::Serverless::Api", Name="the API", StageName="v1"),
        },
    }


def completed() -> Json:
    template = made()
    alarm_resources.complete(template)
    return template


ALARMS = """
dead-letters-sweeps: AWS/SQS ApproximateNumberOfMessagesVisible Maximum >= 1 1, 1 x 60 s, notBreaching, small, QueueName Dlq.QueueName
queue-age-notifications: AWS/SQS ApproximateAgeOfOldestMessage Maximum >= 90000 90000, 1 x 300 s, notBreaching, IsFull, QueueName Mails.QueueName
queue-age-sweeps: AWS/SQS ApproximateAgeOfOldestMessage Maximum >= 1800 900, 1 x 300 s, notBreaching, IsFull, QueueName Sweeps.QueueName
function-errors-audit-ledgers: AWS/Lambda Errors Sum >= 1 1, 1 x 900 s, notBreaching, IsFull, FunctionName Audit
function-errors-sweep-zone: AWS/Lambda Errors Sum >= 10 3, 1 x 900 s, notBreaching, small, FunctionName Reader
function-throttles-audit-ledgers: AWS/Lambda Throttles Sum >= 50 5, 1 x 300 s, notBreaching, IsFull, FunctionName Audit
function-throttles-sweep-zone: AWS/Lambda Throttles Sum >= 50 5, 1 x 300 s, notBreaching, IsFull, FunctionName Reader
recursive-invocations-dropped-sweep-zone: AWS/Lambda RecursiveInvocationsDropped Sum >= 1 1, 1 x 300 s, notBreaching, small, FunctionName Reader
stream-age-audit-ledgers: AWS/Lambda IteratorAge Maximum >= 3600000 900000, 1 x 300 s, notBreaching, IsFull, FunctionName Audit
table-read-throttles-ledger: AWS/DynamoDB ReadThrottleEvents Sum >= 500 50, 2 x 300 s, notBreaching, IsFull, TableName Ledger
table-read-throttles-ledger-by-zone: AWS/DynamoDB ReadThrottleEvents Sum >= 500 50, 2 x 300 s, notBreaching, IsFull, TableName Ledger, GlobalSecondaryIndexName by_zone
table-write-throttles-ledger: AWS/DynamoDB WriteThrottleEvents Sum >= 500 50, 2 x 300 s, notBreaching, IsFull, TableName Ledger
table-write-throttles-ledger-by-zone: AWS/DynamoDB WriteThrottleEvents Sum >= 500 50, 2 x 300 s, notBreaching, IsFull, TableName Ledger, GlobalSecondaryIndexName by_zone
api-5xx: AWS/ApiGateway 5XXError Average >= 0.05 0.01, 2 x 300 s, notBreaching, small, ApiName the API, Stage v1
api-latency: AWS/ApiGateway Latency percentile p99 >= 5000 2000, 3 x 300 s, notBreaching, small, ApiName the API, Stage v1
allocation-ticks: Credits AllocationTicks Sum < 1 1, 4 x 300 s, breaching, small, service credits-${Stage}
expiry-ticks: Credits ExpiryTicks Sum < 1 1, 4 x 300 s, breaching, small, service credits-${Stage}
allocation-lateness: Credits AllocationLateness Maximum >= 3600 1800, 1 x 300 s, notBreaching, IsFull, service credits-${Stage}
allocations-missing: Credits Missing Maximum >= 1 1, 1 x 300 s, ignore, small, service credits-${Stage}
allocations-duplicate: Credits Duplicate Maximum >= 1 1, 1 x 300 s, ignore, small, service credits-${Stage}
timezone-unknown: Credits TimezoneUnknown Maximum >= 1 1, 1 x 300 s, ignore, small, service credits-${Stage}
ledger-corrupt: Credits LedgersCorrupt Maximum >= 1 1, 1 x 300 s, ignore, small, service credits-${Stage}
unexpected-failures: Credits UnexpectedFailures Sum >= 1 1, 1 x 300 s, notBreaching, IsFull, service credits-${Stage}
ledger-changed: Credits LedgerItemsChanged Sum >= 1 1, 1 x 300 s, notBreaching, small, service credits-${Stage}
stripe-events-waiting: Credits StripeEventsWaiting Sum >= 1 1, 1 x 3600 s, notBreaching, small, service credits-${Stage}
mails-failed: Credits MailsFailed Sum >= 100 10, 4 x 900 s, notBreaching, IsFull, service credits-${Stage}
mail-bounces: AWS/SES Reputation.BounceRate Average >= 0.025 0.025, 1 x 3600 s, ignore, IsFull
mail-complaints: AWS/SES Reputation.ComplaintRate Average >= 0.0005 0.0005, 1 x 3600 s, ignore, IsFull
"""  # noqa: E501 - a table
"""Thresholds in dev and in prod; `IsFull`: a small stage has none; last, what the alarm is of."""


def line(template: Json, alarm: Json) -> str:
    """What an alarm is of, when it rings in dev and in prod, for how long, and without data."""
    it = alarm["Properties"]
    mapping, stage, key = it["Threshold"]["Fn::FindInMap"]
    assert (mapping, stage) == ("Alarms", {"Ref": "Stage"})
    thresholds = template["Mappings"]["Alarms"]
    assert thresholds["local"][key] == thresholds["dev"][key]
    sign = {"GreaterThanOrEqualToThreshold": ">=", "LessThanThreshold": "<"}
    statistic = it["Statistic"] if "Statistic" in it else f"percentile {it['ExtendedStatistic']}"
    assert it["EvaluationPeriods"] == it["DatapointsToAlarm"]
    return (
        f"{it['AlarmName']['Fn::Sub'].removeprefix(NAME)}: {it['Namespace']} {it['MetricName']} "
        f"{statistic} {sign[it['ComparisonOperator']]} {thresholds['dev'][key]} "
        f"{thresholds['prod'][key]}, {it['EvaluationPeriods']} x {it['Period']} s, "
        f"{it['TreatMissingData']}, {alarm.get('Condition', 'small')}"
        + "".join(f", {each['Name']} {named(each['Value'])}" for each in it["Dimensions"])
    )


def named(value: Json | str) -> str:
    """The value of a dimension: of a reference, what it refers to."""
    (it,) = value.values() if isinstance(value, dict) else [value]
    return it if isinstance(it, str) else ".".join(it)


def alarms_of(template: Json) -> dict[str, Json]:
    return {
        name: it
        for name, it in template["Resources"].items()
        if it["Type"] == "AWS::CloudWatch::Alarm"
    }


def test_each_alarm_rings_at_its_own_threshold_after_its_own_time() -> None:
    template = completed()
    found = [line(template, alarm) for alarm in alarms_of(template).values()]
    assert found == ALARMS.strip().splitlines()


def test_an_alarm_tells_the_topic_when_it_begins_and_when_it_ends() -> None:
    found = alarms_of(completed())
    for alarm in found.values():
        topic = [{"Ref": "AlarmsTopic"}]
        assert alarm["Properties"]["AlarmActions"] == alarm["Properties"]["OKActions"] == topic
    assert found["DeadLettersSweepsAlarm"]["Properties"]["AlarmDescription"] == {
        "Fn::Sub": "Messages of sweeps failed for good and wait in its dead-letter queue. "
        "See ${RunbookUrl}#dead-letters"
    }


def test_a_small_stage_writes_the_metrics_that_its_alarms_read_and_a_full_one_writes_all() -> None:
    template = completed()
    read = {
        alarm["Properties"]["MetricName"]
        for alarm in alarms_of(template).values()
        if "Condition" not in alarm and alarm["Properties"]["Namespace"] == NAMESPACE
    }
    assert read <= {metric.value for metric in Metric}
    told = template["Globals"]["Function"]["Environment"]["Variables"]["METRICS"]
    assert told == {"Fn::If": ["IsFull", "", ",".join(sorted(read))]}
