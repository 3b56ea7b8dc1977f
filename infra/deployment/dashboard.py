"""The dashboard `credits-<stage>`: one page of CloudWatch that shows a month turning.

`complete` adds it to the packaged template. It shows the queues, functions and tables of the
template; its red lines are the thresholds of infra/deployment/alarms.py. `make dashboard` draws the
same page from sample data (infra/pages/dashboard_picture.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from infra.deployment import alarm_resources, symptoms
from infra.deployment.alarms import RUNBOOK
from infra.deployment.symptoms import NAMESPACE, Json, Part

WIDTH = 24
"""How many columns a dashboard has."""

# Each color has one meaning on the whole page.
BLUE, GREEN, ORANGE, RED = "#2563eb", "#16a34a", "#ea580c", "#dc2626"
PURPLE, TEAL, AMBER, GREY, PINK = "#7c3aed", "#0d9488", "#ca8a04", "#64748b", "#db2777"
PALETTE = (BLUE, TEAL, PURPLE, AMBER, GREEN, ORANGE, RED, GREY, PINK)

FIVE_MINUTES = 300


def complete(template: Json) -> None:
    """Adds the dashboard to a packaged template that has its alarms."""
    text = text_of(body(template))
    thresholds = {
        setting: {"Fn::FindInMap": ["Alarms", {"Ref": "Stage"}, setting]}
        for setting in template["Mappings"]["Alarms"]["prod"]
        if f"${{{setting}}}" in text
    }
    template["Resources"]["Dashboard"] = {
        "Type": "AWS::CloudWatch::Dashboard",
        # A small stage lacks some of the alarms and metrics that the page shows.
        "Condition": "IsFull",
        "Properties": {
            "DashboardName": {"Fn::Sub": "credits-${Stage}"},
            "DashboardBody": {"Fn::Sub": [text, thresholds]},
        },
    }


def text_of(page: Json) -> str:
    """The body for CloudFormation to fill in: thresholds become numbers, everything else texts."""
    text = json.dumps(page, ensure_ascii=False)
    return text.replace('"<', "${").replace('>"', "}")


def body(template: Json) -> Json:
    """The dashboard. `${...}` stands for values that only the deployed stack has."""
    page = _Page()
    page.row(_heading(), _alarm_states(template))
    page.row(_numbers(), _turn(), _lateness())
    page.row(*_queues(template))
    page.row(_movements(), _races(), _audit())
    page.row(*_api(template), _mails())
    page.row(*_costs(template))
    return {"start": "-PT24H", "periodOverride": "inherit", "widgets": page.widgets}


class _Page:
    """Puts widgets into rows, side by side."""

    def __init__(self) -> None:
        self.widgets: list[Json] = []
        self._y = 0

    def row(self, *widgets: Json) -> None:
        x = 0
        for widget in widgets:
            self.widgets.append({"x": x, "y": self._y, **widget})
            x += widget["width"]
        assert x == WIDTH, f"a row is {x} columns wide"  # noqa: S101 - a mistake in this file
        self._y += max(widget["height"] for widget in widgets)


def _threshold(symptom: str, label: str) -> Json:
    line = {"label": label, "value": f"<{alarm_resources.camel(symptom)}>", "color": RED}
    return {"annotations": {"horizontal": [line]}}


def _name(value: Any) -> str:
    """The value of an alarm's dimension, as a text that CloudFormation fills in."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Sub": text}:
            return str(text)
    return str(value)


def _line(
    part: Part, namespace: str, metric: str, label: str, color: str, stat: str = "Sum", **more: Any
) -> list[Any]:
    """One line of a graph."""
    line: list[Any] = [namespace, metric]
    for name, value in part.dimensions.items():
        line += [name, _name(value)]
    named = {"label": label, "color": color} if label else {}
    return [*line, {"stat": stat, **named, **more}]


WHOLE = Part("", symptoms.SERVICE)
_EVENTS = Part("events", {"QueueName": {"Fn::GetAtt": ["EventsQueue", "QueueName"]}})


def _ours(metric: str, label: str, color: str, stat: str = "Sum", **more: Any) -> list[Any]:
    return _line(WHOLE, NAMESPACE, metric, label, color, stat, **more)


def _math(expression: str, label: str, color: str) -> list[Any]:
    return [{"expression": expression, "label": label, "color": color}]


def _graph(
    title: str, width: int, lines: Iterable[list[Any]], *, unit: str = "", **more: Any
) -> Json:
    """A graph over time, six units high, with `unit` on its axis."""
    return {
        "type": "metric",
        "width": width,
        "height": 6,
        "properties": {
            "title": title,
            "region": "${AWS::Region}",
            "view": "timeSeries",
            "stacked": False,
            "period": FIVE_MINUTES,
            "yAxis": {"left": {"min": 0, "label": unit, "showUnits": False}},
            "legend": {"position": "bottom"},
            "metrics": list(lines),
            **more,
        },
    }


def _figures(title: str, width: int, lines: Iterable[list[Any]]) -> Json:
    """The figures for the whole time shown, as large numbers."""
    graph = _graph(title, width, lines)
    graph["properties"] |= {"view": "singleValue", "setPeriodToTimeRange": True}
    for unused in ("stacked", "yAxis", "legend"):
        del graph["properties"][unused]
    return graph


# --- The rows -------------------------------------------------------------------------------------


def _heading() -> Json:
    return {
        "type": "text",
        "width": 6,
        "height": 5,
        "properties": {
            "markdown": "# Credits ${Stage}\n"
            "Is the month turning? The second row says it.\n\n"
            "Something rings: open the runbook at the alarm's name.\n\n"
            f"`{RUNBOOK}`"
        },
    }


def _alarm_states(template: Json) -> Json:
    return {
        "type": "alarm",
        "width": 18,
        "height": 5,
        "properties": {
            "title": "Alarms",
            "alarms": [
                f"${{{alarm.logical_id}.Arn}}" for alarm in alarm_resources.alarms_of(template)
            ],
        },
    }


def _numbers() -> Json:
    return _figures(
        "Allocations",
        6,
        [
            _ours("Due", "due", BLUE, "Maximum"),
            _ours("Allocations", "allocated", GREEN),
            _ours("AllocationsRepaired", "of these by a re-sweep", AMBER),
            _ours("Missing", "missing", RED, "Maximum"),
            _ours("Duplicate", "duplicate", RED, "Maximum"),
            _ours("TimezoneUnknown", "timezone unknown", RED, "Maximum"),
        ],
    )


def _turn() -> Json:
    return _graph(
        "The turn of the month: allocated against due",
        10,
        [
            _ours("Allocations", "", GREEN, id="allocations", visible=False),
            _ours("Due", "", BLUE, "Maximum", id="due", visible=False),
            _math("RUNNING_SUM(allocations)", "allocated since the left edge", GREEN),
            _math("FILL(due, REPEAT)", "due", BLUE),
        ],
        unit="users",
    )


def _lateness() -> Json:
    return _graph(
        "Lateness of allocations, from the user's midnight",
        8,
        [_ours("AllocationLateness", "latest", ORANGE, "Maximum")],
        unit="seconds",
        **_threshold("allocation-lateness", "rings"),
    )


def _queues(template: Json) -> Iterable[Json]:
    queues = list(zip(symptoms.queues(template), PALETTE, strict=False))
    waiting = [
        _line(p, "AWS/SQS", "ApproximateNumberOfMessagesVisible", p.name, color, "Maximum")
        for p, color in queues
    ]
    yield _graph("Messages waiting", 8, waiting, unit="messages", stacked=True)
    # Emails may wait for SES for hours: on the same axis they would dwarf the other queues.
    ages = [
        _line(p, "AWS/SQS", "ApproximateAgeOfOldestMessage", p.name, color, "Maximum")
        for p, color in queues
        if p.name != "notifications"
    ]
    line = _threshold("queue-age", "rings")
    yield _graph("Age of the oldest message, without emails", 8, ages, unit="seconds", **line)
    dead = [
        _line(p, "AWS/SQS", "ApproximateNumberOfMessagesVisible", p.name, color, "Maximum")
        for p, color in zip(symptoms.dead_letter_queues(template), PALETTE, strict=False)
    ]
    yield _graph("Dead letters", 8, dead, unit="messages", stacked=True)


def _movements() -> Json:
    return _graph(
        "Ledger movements",
        12,
        [
            _ours("CreditsAllocated", "allocated", GREEN),
            _ours("CreditsGranted", "granted by hand", TEAL),
            _ours("CreditsReversed", "given back", PURPLE),
            _ours("CreditsUsed", "used", BLUE),
            _ours("CreditsExpired", "expired", AMBER),
            _ours("CreditsClawedBack", "clawed back", RED),
        ],
        unit="credits",
    )


def _races() -> Json:
    return _graph(
        "Absorbed: lost races, requests that came again",
        7,
        [
            _ours("ConflictsRetried", "races decided again", PURPLE),
            _ours("DuplicatesRefused", "requests replayed", TEAL),
        ],
        unit="times",
    )


def _audit() -> Json:
    return _figures(
        "Audit of ledgers, and what is wrong",
        5,
        [
            _ours("LedgersVerified", "verified", GREEN),
            _ours("LedgersCorrupt", "corrupt", RED),
            _ours("UnexpectedFailures", "unexpected failures", RED),
            _ours("LedgerItemsChanged", "items changed", ORANGE),
            _ours("StripeEventsWaiting", "events of Stripe waiting", ORANGE),
        ],
    )


def _api(template: Json) -> Iterable[Json]:
    (api,) = symptoms.the_api(template)

    def line(metric: str, label: str, color: str, stat: str = "Sum") -> list[Any]:
        return _line(api, "AWS/ApiGateway", metric, label, color, stat)

    requests = [
        line("Count", "requests", BLUE),
        line("4XXError", "4XX: theirs", AMBER),
        line("5XXError", "5XX: ours", RED),
    ]
    yield _graph("API: requests in 5 minutes", 8, requests, unit="requests")
    latencies = [
        line("Latency", "median", BLUE, "p50"),
        line("Latency", "one in a hundred takes longer", ORANGE, "p99"),
    ]
    limit = _threshold("api-latency", "rings")
    yield _graph("API: latency", 8, latencies, unit="milliseconds", **limit)


def _mails() -> Json:
    return _graph(
        "Emails in 5 minutes",
        8,
        [_ours("MailsSent", "sent", GREEN), _ours("MailsFailed", "attempts failed", RED)],
        unit="emails",
    )


def _costs(template: Json) -> Iterable[Json]:
    """The things that cost money by use."""
    tables = [part for part in symptoms.tables_and_indexes(template) if len(part.dimensions) == 1]
    for kind in ("Write", "Read"):
        units = [
            _line(part, "AWS/DynamoDB", f"Consumed{kind}CapacityUnits", part.name, color)
            for part, color in zip(tables, PALETTE, strict=False)
        ]
        title = f"Cost: DynamoDB {kind.lower()} units"
        yield _graph(title, 6, units, unit="units", stacked=True)
    functions = list(symptoms.functions(template))
    memory = {
        _name({"Ref": logical_id}): function["MemorySize"]
        for logical_id, function in symptoms.of_type(template, "AWS::Serverless::Function")
    }
    durations = [
        _line(part, "AWS/Lambda", "Duration", "", GREY, id=f"d{number}", visible=False)
        for number, part in enumerate(functions)
    ]
    # Duration is in milliseconds, memory in MB.
    terms = " + ".join(
        f"FILL(d{number}, 0) * {memory[_name(part.dimensions['FunctionName'])]}"
        for number, part in enumerate(functions)
    )
    lines = [*durations, _math(f"({terms}) / 1024000", "all functions", PURPLE)]
    yield _graph("Cost: Lambda, gigabyte-seconds", 6, lines, unit="GB·s")
    invocations = [
        _line(part, "AWS/Lambda", "Invocations", "", GREY, id=f"i{number}", visible=False)
        for number, part in enumerate(functions)
    ]
    calls = " + ".join(f"FILL(i{number}, 0)" for number in range(len(functions)))
    counted = [
        *invocations,
        _math(calls, "Lambda invocations", PURPLE),
        _ours("MailsSent", "emails", GREEN),
        # Events that the publisher has deleted from its queue are on the bus.
        _line(_EVENTS, "AWS/SQS", "NumberOfMessagesDeleted", "events", ORANGE),
    ]
    yield _graph("Cost: invocations, emails and events", 6, counted, unit="times")
