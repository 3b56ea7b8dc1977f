"""Every widget of the dashboard, of a template with one part of each kind."""

import json
from typing import Any

import pytest

from infra.deployment import dashboard
from tests.unit.test_alarms import alarms_of, completed

Json = dict[str, Any]

USUAL: Json = {
    "region": "${AWS::Region}",
    "view": "timeSeries",
    "stacked": False,
    "period": 300,
    "legend": {"position": "bottom"},
}
"""What most graphs have: the table says only where one differs."""

COLORS = {
    "#2563eb": "blue",
    "#16a34a": "green",
    "#ea580c": "orange",
    "#dc2626": "red",
    "#7c3aed": "purple",
    "#0d9488": "teal",
    "#ca8a04": "amber",
    "#64748b": "grey",
    "#db2777": "pink",
}

PAGE = """
Heading: 0 0 6 5
  text
  markdown "# Credits ${Stage}\\nIs the month turning? The second row says it.\\n\\nSomething rings: open the runbook at the alarm's name.\\n\\n`docs/operating.md`"

Alarms: 6 0 18 5
  alarm
  alarms 'all of the stack'

Allocations: 0 5 6 6
  due, blue: Credits Due service credits-${Stage}, Maximum
  allocated, green: Credits Allocations service credits-${Stage}, Sum
  of these by a re-sweep, amber: Credits AllocationsRepaired service credits-${Stage}, Sum
  missing, red: Credits Missing service credits-${Stage}, Maximum
  duplicate, red: Credits Duplicate service credits-${Stage}, Maximum
  timezone unknown, red: Credits TimezoneUnknown service credits-${Stage}, Maximum
  view 'singleValue'
  setPeriodToTimeRange True
  no stacked
  no legend

The turn of the month: allocated against due: 6 5 10 6 in users
  without label, unseen: Credits Allocations service credits-${Stage}, Sum, id allocations, visible False
  without label, unseen: Credits Due service credits-${Stage}, Maximum, id due, visible False
  allocated since the left edge, green: RUNNING_SUM(allocations)
  due, blue: FILL(due, REPEAT)

Lateness of allocations, from the user's midnight: 16 5 8 6 in seconds
  latest, orange: Credits AllocationLateness service credits-${Stage}, Maximum
  annotations {'horizontal': [{'label': 'rings', 'value': '<AllocationLateness>', 'color': '#dc2626'}]}

Messages waiting: 0 11 8 6 in messages
  notifications, blue: AWS/SQS ApproximateNumberOfMessagesVisible QueueName ${Mails.QueueName}, Maximum
  sweeps, teal: AWS/SQS ApproximateNumberOfMessagesVisible QueueName ${Sweeps.QueueName}, Maximum
  stacked True

Age of the oldest message, without emails: 8 11 8 6 in seconds
  sweeps, teal: AWS/SQS ApproximateAgeOfOldestMessage QueueName ${Sweeps.QueueName}, Maximum
  annotations {'horizontal': [{'label': 'rings', 'value': '<QueueAge>', 'color': '#dc2626'}]}

Dead letters: 16 11 8 6 in messages
  sweeps, blue: AWS/SQS ApproximateNumberOfMessagesVisible QueueName ${Dlq.QueueName}, Maximum
  stacked True

Ledger movements: 0 17 12 6 in credits
  allocated, green: Credits CreditsAllocated service credits-${Stage}, Sum
  granted by hand, teal: Credits CreditsGranted service credits-${Stage}, Sum
  given back, purple: Credits CreditsReversed service credits-${Stage}, Sum
  used, blue: Credits CreditsUsed service credits-${Stage}, Sum
  expired, amber: Credits CreditsExpired service credits-${Stage}, Sum
  clawed back, red: Credits CreditsClawedBack service credits-${Stage}, Sum

Absorbed: lost races, requests that came again: 12 17 7 6 in times
  races decided again, purple: Credits ConflictsRetried service credits-${Stage}, Sum
  requests replayed, teal: Credits DuplicatesRefused service credits-${Stage}, Sum

Audit of ledgers, and what is wrong: 19 17 5 6
  verified, green: Credits LedgersVerified service credits-${Stage}, Sum
  corrupt, red: Credits LedgersCorrupt service credits-${Stage}, Sum
  unexpected failures, red: Credits UnexpectedFailures service credits-${Stage}, Sum
  items changed, orange: Credits LedgerItemsChanged service credits-${Stage}, Sum
  events of Stripe waiting, orange: Credits StripeEventsWaiting service credits-${Stage}, Sum
  view 'singleValue'
  setPeriodToTimeRange True
  no stacked
  no legend

API: requests in 5 minutes: 0 23 8 6 in requests
  requests, blue: AWS/ApiGateway Count ApiName the API Stage v1, Sum
  4XX: theirs, amber: AWS/ApiGateway 4XXError ApiName the API Stage v1, Sum
  5XX: ours, red: AWS/ApiGateway 5XXError ApiName the API Stage v1, Sum

API: latency: 8 23 8 6 in milliseconds
  median, blue: AWS/ApiGateway Latency ApiName the API Stage v1, p50
  one in a hundred takes longer, orange: AWS/ApiGateway Latency ApiName the API Stage v1, p99
  annotations {'horizontal': [{'label': 'rings', 'value': '<ApiLatency>', 'color': '#dc2626'}]}

Emails in 5 minutes: 16 23 8 6 in emails
  sent, green: Credits MailsSent service credits-${Stage}, Sum
  attempts failed, red: Credits MailsFailed service credits-${Stage}, Sum

Cost: DynamoDB write units: 0 29 6 6 in units
  ledger, blue: AWS/DynamoDB ConsumedWriteCapacityUnits TableName ${Ledger}, Sum
  stacked True

Cost: DynamoDB read units: 6 29 6 6 in units
  ledger, blue: AWS/DynamoDB ConsumedReadCapacityUnits TableName ${Ledger}, Sum
  stacked True

Cost: Lambda, gigabyte-seconds: 12 29 6 6 in GB·s
  without label, unseen: AWS/Lambda Duration FunctionName ${Audit}, Sum, id d0, visible False
  without label, unseen: AWS/Lambda Duration FunctionName ${Reader}, Sum, id d1, visible False
  all functions, purple: (FILL(d0, 0) * 832 + FILL(d1, 0) * 640) / 1024000

Cost: invocations, emails and events: 18 29 6 6 in times
  without label, unseen: AWS/Lambda Invocations FunctionName ${Audit}, Sum, id i0, visible False
  without label, unseen: AWS/Lambda Invocations FunctionName ${Reader}, Sum, id i1, visible False
  Lambda invocations, purple: FILL(i0, 0) + FILL(i1, 0)
  emails, green: Credits MailsSent service credits-${Stage}, Sum
  events, orange: AWS/SQS NumberOfMessagesDeleted QueueName ${EventsQueue.QueueName}, Sum
"""  # noqa: E501 - a table
"""Of each widget its place, width and height; of each line its label, color, metric, statistic."""


def shown(widget: Json, alarms: list[str]) -> str:
    """All that a widget has, but for what is usual, as in the table."""
    it, title = dict(widget["properties"]), title_of(widget)
    head = f"{title}: {' '.join(str(widget.pop(key)) for key in ('x', 'y', 'width', 'height'))}"
    kind, metrics, unit = widget["type"], it.pop("metrics", []), it.pop("yAxis", None)
    assert widget.keys() == {"type", "properties"}, title
    it.pop("title", None)
    if unit:
        head += f" in {unit['left'].pop('label')}"
        assert unit == {"left": {"min": 0, "showUnits": False}}, title
    if it.get("alarms") == alarms:
        it["alarms"] = "all of the stack"
    lines = [f"{key} {value!r}" for key, value in it.items() if USUAL.get(key) != value]
    lines += [f"no {key}" for key in USUAL if metrics and key not in it]
    lines = [kind] * (kind != "metric") + list(map(line, metrics)) + lines
    return "\n  ".join([head, *lines])


def title_of(widget: Json) -> str:
    return str(widget["properties"].get("title", "Heading"))


def line(metric: list[Any]) -> str:
    """A line of a graph as the table has it."""
    *names, settings = metric
    it = dict(settings)
    color = COLORS[it.pop("color")] if "color" in it else "unseen"
    label, of = it.pop("label", "without label"), it.pop("expression", "")
    more = [str(value) if key == "stat" else f"{key} {value}" for key, value in it.items()]
    return f"{label}, {color}: {', '.join([' '.join(names) + of, *more])}"


TABLE = {each.partition("\n")[0].rpartition(": ")[0]: each for each in PAGE.strip().split("\n\n")}


@pytest.mark.parametrize("title", TABLE)
def test_a_widget_shows_its_lines_at_its_place(title: str) -> None:
    template = completed()
    alarms = [f"${{{name}.Arn}}" for name in alarms_of(template)]
    found = {title_of(widget): widget for widget in dashboard.body(template)["widgets"]}
    assert title in found
    assert shown(found[title], alarms) == TABLE[title]


def test_the_page_has_the_widgets_of_the_table_and_shows_a_day() -> None:
    page = dashboard.body(completed())
    assert [title_of(widget) for widget in page.pop("widgets")] == list(TABLE)
    assert page == {"start": "-PT24H", "periodOverride": "inherit"}


def test_a_full_stage_has_the_page_with_the_thresholds_of_its_own_alarms() -> None:
    template = completed()
    dashboard.complete(template)
    made = template["Resources"]["Dashboard"]
    text, thresholds = made["Properties"]["DashboardBody"].pop("Fn::Sub")
    assert made == {
        "Type": "AWS::CloudWatch::Dashboard",
        "Condition": "IsFull",
        "Properties": {"DashboardName": {"Fn::Sub": "credits-${Stage}"}, "DashboardBody": {}},
    }
    assert thresholds == {
        name: {"Fn::FindInMap": ["Alarms", {"Ref": "Stage"}, name]}
        for name in ("QueueAge", "ApiLatency", "AllocationLateness")
    }
    for name in thresholds:
        text = text.replace(f'"value": ${{{name}}}, ', f'"value": "<{name}>", ')
    assert text == json.dumps(dashboard.body(completed()), ensure_ascii=False)
