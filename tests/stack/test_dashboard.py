"""The dashboard: that CloudWatch gets a page that makes sense, and that the picture is of it."""

import json
import re
from xml.etree import ElementTree as ET

from infra.deployment import alarm_resources, alarms, dashboard, packaging
from infra.local.stacks import LocalStack
from infra.pages import dashboard_picture
from tests.stack.resolved import Template
from tests.stack.test_template import resources_of_type


def test_the_deployed_dashboard_names_what_is_deployed(stack: LocalStack) -> None:
    cloudwatch = stack.client("cloudwatch")
    text = cloudwatch.get_dashboard(DashboardName="credits-local")["DashboardBody"]
    assert "${" not in text
    page = json.loads(text)
    (states,) = [w["properties"] for w in page["widgets"] if w["type"] == "alarm"]
    pages = cloudwatch.get_paginator("describe_alarms").paginate(AlarmNamePrefix="credits-local-")
    assert set(states["alarms"]) == {
        alarm["AlarmArn"] for found in pages for alarm in found["MetricAlarms"]
    }
    named = {
        (metric[i], metric[i + 1])
        for widget in page["widgets"]
        for metric in widget["properties"].get("metrics", [])
        for i in range(2, len(metric) - 1, 2)
    }
    for queue in stack.queues:
        assert ("QueueName", f"credits-local-{queue}") in named
    for table in stack.tables.values():
        assert ("TableName", table) in named
    for function in stack.functions.values():
        assert ("FunctionName", function) in named
    assert ("service", "credits-local") in named


def test_red_lines_are_where_alarms_ring(stack: LocalStack) -> None:
    cloudwatch = stack.client("cloudwatch")
    page = json.loads(cloudwatch.get_dashboard(DashboardName="credits-local")["DashboardBody"])
    lines = {
        line["value"]
        for widget in page["widgets"]
        for line in widget["properties"].get("annotations", {}).get("horizontal", [])
    }
    names = ("allocation-lateness", "queue-age-sweeps", "api-latency")
    pages = cloudwatch.describe_alarms(AlarmNames=[f"credits-local-{name}" for name in names])
    assert lines == {alarm["Threshold"] for alarm in pages["MetricAlarms"]}


def test_widgets_lie_side_by_side(template: Template) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in dashboard.body(template)["widgets"]:
        place = {
            (x, y)
            for x in range(widget["x"], widget["x"] + widget["width"])
            for y in range(widget["y"], widget["y"] + widget["height"])
        }
        assert not place & taken
        assert all(x < dashboard.WIDTH for x, _ in place)
        taken |= place


def test_every_expression_is_made_of_lines_of_its_own_graph(template: Template) -> None:
    functions = {"RUNNING_SUM", "FILL", "REPEAT"}
    for widget in dashboard.body(template)["widgets"]:
        settings = [metric[-1] for metric in widget["properties"].get("metrics", [])]
        ids = {line["id"] for line in settings if "id" in line}
        used = {
            word
            for line in settings
            for word in re.findall(r"[A-Za-z_]\w*", line.get("expression", ""))
        }
        assert used - functions == ids


def test_gigabyte_seconds_count_every_function_with_its_memory(template: Template) -> None:
    graphs = {w["properties"].get("title"): w for w in dashboard.body(template)["widgets"]}
    lines = graphs["Cost: Lambda, gigabyte-seconds"]["properties"]["metrics"]
    ids = {line[-1]["id"]: line[3] for line in lines if "id" in line[-1]}
    (expression,) = [line[-1]["expression"] for line in lines if "expression" in line[-1]]
    terms = dict(re.findall(r"FILL\((d\d+), 0\) \* (\d+)", expression))
    assert {ids[name]: int(memory) for name, memory in terms.items()} == {
        f"${{{name}}}": function["Properties"]["MemorySize"]
        for name, function in resources_of_type(template, "AWS::Serverless::Function").items()
    }


def test_the_picture_shows_every_widget_and_every_line(template: Template) -> None:
    page = dashboard_picture.filled_in(template)
    picture = dashboard_picture.draw(page)
    # It is the same every time, and so the one in the repository.
    assert picture == dashboard_picture.PICTURE.read_text(), "draw it anew: make dashboard"
    texts = {element.text for element in ET.fromstring(picture).iter() if element.text}  # noqa: S314 - our own
    for widget in page["widgets"]:
        properties = widget["properties"]
        if "metrics" in properties:
            assert properties["title"] in texts
        for metric in properties.get("metrics", []):
            if metric[-1].get("visible", True):
                assert metric[-1]["label"] in texts
    assert f"Alarms ({len(alarm_resources.alarms_of(template))})" in texts


def test_only_what_is_quiet_on_a_good_day_is_a_flat_line_in_the_picture(
    template: Template,
) -> None:
    day = dashboard_picture.Day()
    flat: dict[str, list[str]] = {}
    for widget in dashboard_picture.filled_in(template)["widgets"]:
        properties = widget["properties"]
        is_graph, title = properties.get("view") == "timeSeries", properties.get("title", "")
        for line in properties["metrics"] if is_graph else ():
            is_shown = line[-1].get("visible", True)
            if is_shown and not any(day.values(line[-1]["label"], title)):
                flat.setdefault(title, []).append(line[-1]["label"])
    assert "sweeps" in flat.pop("Dead letters")
    assert flat == {
        "Messages waiting": ["checks", "events", "expiries"],
        "Age of the oldest message, without emails": ["checks", "events", "expiries"],
        "Ledger movements": ["clawed back"],
        "Cost: DynamoDB write units": ["edits", "stripe"],
        "Cost: DynamoDB read units": ["edits", "mails", "stripe"],
        "Cost: invocations, emails and events": ["events"],
    }


def test_there_is_a_picture_of_it_in_the_runbook() -> None:
    assert dashboard_picture.PICTURE.exists()
    runbook = packaging.ROOT / alarms.RUNBOOK
    link = dashboard_picture.PICTURE.relative_to(runbook.parent)
    assert f"]({link})" in runbook.read_text()
