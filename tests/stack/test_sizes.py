"""The two sizes of a stage: what a small one leaves out, and that nothing watches what is not."""

from typing import Any

from bench import cost
from chalicelib.metrics import Metric
from infra.deployment import alarms, packaging
from infra.deployment.symptoms import NAMESPACE
from infra.pages.alarms import markdown
from tests.stack.resolved import Template, transform
from tests.stack.test_template import resources_of_type

ALARM = "AWS::CloudWatch::Alarm"


def alarms_of(template: Template, size: cost.Size) -> dict[str, Any]:
    """The properties of a stage's alarms, by their names without the stage."""
    return {
        alarm["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("credits-${Stage}-"): alarm[
            "Properties"
        ]
        for alarm in resources_of_type(template, ALARM).values()
        if size is cost.Size.FULL or "Condition" not in alarm
    }


def written(template: Template, size: cost.Size) -> set[str]:
    """The metrics that every function of a stage writes."""
    (told,) = {
        str(function["Properties"]["Environment"]["Variables"]["METRICS"])
        for function in resources_of_type(transform(template), "AWS::Lambda::Function").values()
    }
    variable = template["Globals"]["Function"]["Environment"]["Variables"]["METRICS"]
    assert told == str(variable)
    condition, full, small = variable["Fn::If"]
    assert condition == "IsFull"
    names = set((full if size is cost.Size.FULL else small).split(",")) - {""}
    return names or {metric.value for metric in Metric}


def test_a_stage_is_full_unless_its_parameter_says_otherwise(template: Template) -> None:
    assert template["Parameters"]["Size"]["Default"] == "full"
    assert template["Parameters"]["Size"]["AllowedValues"] == list(cost.Size)
    assert template["Conditions"]["IsFull"] == {"Fn::Equals": [{"Ref": "Size"}, "full"]}
    conditions = {
        resource.get("Condition") for resource in resources_of_type(template, ALARM).values()
    }
    assert conditions == {None, "IsFull"}


def test_a_small_stage_keeps_what_tells_of_lost_credits_and_what_takes_a_deployment_back(
    template: Template,
) -> None:
    kept = set(alarms_of(template, cost.Size.SMALL))
    assert kept >= set(alarms.ROLLBACK_ALARMS)
    queues = resources_of_type(template, "AWS::SQS::Queue").values()
    names = [queue["Properties"]["QueueName"]["Fn::Sub"] for queue in queues]
    assert kept >= {
        f"dead-letters-{name.removeprefix('credits-${Stage}-').removesuffix('-dlq')}"
        for name in names
        if name.endswith("-dlq")
    }
    assert kept >= {
        *("allocation-ticks", "expiry-ticks", "allocations-missing", "allocations-duplicate"),
        *("timezone-unknown", "ledger-corrupt"),
    }


def test_no_alarm_reads_a_metric_that_its_stage_does_not_write(template: Template) -> None:
    for size in cost.Size:
        names = written(template, size)
        read = {
            alarm["MetricName"]
            for alarm in alarms_of(template, size).values()
            if alarm["Namespace"] == NAMESPACE
        }
        assert read <= names
        if size is cost.Size.SMALL:
            assert names == read, "what nothing reads is not paid for"


def test_a_dashboard_is_there_where_every_metric_is(template: Template) -> None:
    (dashboard,) = resources_of_type(template, "AWS::CloudWatch::Dashboard").values()
    assert dashboard["Condition"] == "IsFull"
    assert written(template, cost.Size.FULL) == {metric.value for metric in Metric}


def test_the_bill_counts_the_alarms_and_metrics_that_are_there(template: Template) -> None:
    for size in cost.Size:
        assert cost.ALARMS[size] == len(alarms_of(template, size))
        assert set(cost.METRICS[size]) == written(template, size)


def test_the_runbook_says_what_a_small_stage_leaves_out() -> None:
    assert markdown() in (packaging.ROOT / alarms.RUNBOOK).read_text(encoding="utf-8")
