"""Draws the dashboard on the day a month begins, from sample data.

It draws the same body that CloudFormation gets; `make dashboard` writes it to docs/images/. The
allocations are those of infra/sample/subscriptions.csv on 1 December 2026, where each subscriber
stands for 200. Everything else is invented to fit them. The result is the same every time.
"""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from infra.deployment import alarm_resources, dashboard, packaging
from infra.deployment.symptoms import Json

PICTURE = packaging.ROOT / "docs" / "images" / "dashboard" / "dashboard.svg"
SUBSCRIPTIONS = packaging.ROOT / "infra" / "sample" / "subscriptions.csv"

PERIOD = Period(2026, 12)
START = datetime(2026, 11, 30, 8, tzinfo=UTC)
STEP = timedelta(minutes=5)
STEPS = 30 * 12
"""Thirty hours: from before the first zone's midnight until after the last one's."""
EACH_STANDS_FOR = 200

# In pixels: a column, a row, and the gap between two widgets.
COLUMN, ROW, GAP = 56, 42, 10
INK, FAINT, RULE, PAPER, CARD = "#1e293b", "#64748b", "#e2e8f0", "#f1f5f9", "#ffffff"
FONT = "font-family=\"Inter, 'Helvetica Neue', Arial, sans-serif\""

Values = list[float | None]


# --- The sample data ------------------------------------------------------------------------------


class Day:
    """The metrics of a day on which a month begins, by the titles and labels of graphs."""

    def __init__(self) -> None:
        self._random = random.Random(12)  # noqa: S311 - the same every time is the point
        self.due_at = self._due_at()
        self.allocations = [0.0] * STEPS
        for step, users in sorted(self.due_at.items()):
            self._work_off(step, users)
        self.due = sum(self.due_at.values())

    @staticmethod
    def _due_at() -> Counter[int]:
        """The users who are due, by the step in which their month begins."""
        due: Counter[int] = Counter()
        with SUBSCRIPTIONS.open(newline="") as file:
            for row in csv.DictReader(file):
                if (row["status"], row["billing_interval"]) == ("active", "yearly"):
                    begins = calendar.month_start(row["timezone"], PERIOD)
                    due[int((begins - START) / STEP)] += EACH_STANDS_FOR
        return due

    def _work_off(self, step: int, users: float) -> None:
        """At most 9,000 users in five minutes: the sample has few workers."""
        while users > 0:
            done = min(users, 9000.0)
            self.allocations[step] += done
            users -= done
            step += 1

    def _wave(self, middle: float, swing: float, noise: float = 0.1) -> Values:
        """The traffic of a day, lowest at four in the morning."""
        return [
            max(
                0.0,
                (middle - swing * math.cos((step / 12 + START.hour - 4) / 24 * math.tau))
                * (1 + self._random.uniform(-noise, noise)),
            )
            for step in range(STEPS)
        ]

    def _rarely(self, chance: float, most: int) -> Values:
        return [
            float(self._random.randint(1, most)) if self._random.random() < chance else 0.0
            for _ in range(STEPS)
        ]

    def _of_allocations(self, factor: float, rest: float = 0.0) -> Values:
        return [
            value * factor + self._random.uniform(0.92, 1.08) * rest for value in self.allocations
        ]

    def _mails(self) -> Values:
        """One email for each allocation, 14 a second."""
        sent: Values = []
        waiting = 0.0
        for value in self.allocations:
            waiting += value
            sent.append(min(waiting, 4200.0))
            waiting -= min(waiting, 4200.0)
        return sent

    def _waiting_mails(self) -> Values:
        sent = self._mails()
        waiting: Values = []
        for value, mails in zip(self.allocations, sent, strict=True):
            waiting.append((waiting[-1] or 0.0 if waiting else 0.0) + value - (mails or 0.0))
        return waiting

    def values(self, label: str, title: str) -> Values:  # noqa: C901, PLR0911, PLR0912 - a table
        """The line with this label, in the graph with this title."""
        nothing: Values = [0.0] * STEPS
        match title.partition(":")[0], label:
            case "The turn of the month", "allocated since the left edge":
                return [sum(self.allocations[: step + 1]) for step in range(STEPS)]
            case "The turn of the month", "due":
                seen = [self._counted_by(step) for step in range(STEPS)]
                return [value or None for value in seen]
            case "Lateness of allocations, from the user's midnight", _:
                return [
                    self._random.uniform(8, 20) + value / 40 if value else None
                    for value in self.allocations
                ]
            case "Messages waiting", "notifications":
                return self._waiting_mails()
            case "Messages waiting", "allocations":
                return self._of_allocations(1 / 100 * 0.6)
            case "Messages waiting" | "Age of the oldest message, without emails", "sweeps":
                # A tick enqueues them, and they are gone within seconds.
                return [
                    float(self._random.randint(0, 4)) if step % 3 == 0 else 0.0
                    for step in range(STEPS)
                ]
            case "Age of the oldest message, without emails", "allocations":
                return [value / 45 for value in self.allocations]
            case "Ledger movements", "allocated":
                return self._of_allocations(520 * 0.6)
            case "Ledger movements", "used":
                return self._wave(260_000, 180_000)
            case "Ledger movements", "expired":
                return self._of_allocations(75)
            case "Ledger movements", "granted by hand":
                return [value * 500 for value in self._rarely(0.05, 6) if value is not None]
            case "Ledger movements", "given back":
                return self._wave(2200, 1500, 0.5)
            case "Absorbed", "races decided again":
                return self._rarely(0.04, 5)
            case "Absorbed", "requests replayed":
                return self._rarely(0.06, 6)
            case "API", "requests":
                return self._wave(5200, 3600)
            case "API", "4XX: theirs":
                return self._wave(110, 70, 0.4)
            case "API", "5XX: ours":
                return self._rarely(0.01, 2)
            case "API", "median":
                return self._wave(46, 6, 0.08)
            case "API", "one in a hundred takes longer":
                return self._wave(390, 70, 0.3)
            case "Emails in 5 minutes" | "Cost", "sent" | "emails":
                return self._mails()
            case "Emails in 5 minutes", "attempts failed":
                return self._rarely(0.04, 5)
            case "Cost", "ledger" if "write" in title:
                return self._of_allocations(1.55, rest=11_000)
            case "Cost", "ledger":
                return self._of_allocations(2.1, rest=9_000)
            case "Cost", "subscriptions" if "write" in title:
                return self._wave(300, 160, 0.2)
            case "Cost", "subscriptions":
                return self._of_allocations(0.5, rest=2_600)
            case "Cost", "mails" if "write" in title:
                return [2 * (value or 0.0) for value in self._mails()]
            case "Cost", "all functions":
                return self._of_allocations(0.012, rest=190)
            case "Cost", "Lambda invocations":
                return self._of_allocations(0.3, rest=5_600)
        return nothing

    def _counted_by(self, step: int) -> float:
        """The users due until this step: a check counts each zone an hour after its midnight."""
        return sum(users for at, users in self.due_at.items() if at + 12 <= step)

    def figure(self, label: str) -> float:
        """A figure for the whole time."""
        repaired = 400.0
        return {
            "due": float(self.due),
            "allocated": sum(self.allocations),
            "of these by a re-sweep": repaired,
            "verified": 500.0,
        }.get(label, 0.0)


# --- The drawing ----------------------------------------------------------------------------------


def _number(value: float) -> str:
    """A number as an axis shows it: 1.5k, 20M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + letter
    return f"{value:.1f}".removesuffix(".0")


def _ceiling(highest: float) -> float:
    """The end of an axis: the next 1, 2, 4, 6 or 8 followed by zeros."""
    if highest <= 0:
        return 1.0
    noughts = 10.0 ** math.floor(math.log10(highest))
    return next(n * noughts for n in (1, 2, 4, 6, 8, 10) if n * noughts >= highest)


def _write(x: float, y: float, text: str, size: float = 11, color: str = FAINT, **more: str) -> str:
    attributes = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in more.items())
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}"{attributes}>'
        f"{escape(text)}</text>"
    )


class Card:
    """A widget's place in the picture."""

    def __init__(self, widget: Json) -> None:
        self.x = GAP + widget["x"] * COLUMN
        self.y = GAP + widget["y"] * ROW
        self.width = widget["width"] * COLUMN - GAP
        self.height = widget["height"] * ROW - GAP
        outline = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        self.parts = [f'<rect {outline} rx="6" fill="{CARD}" stroke="{RULE}"/>']

    def title(self, text: str) -> None:
        """Writes the widget's title."""
        bold = {"font_weight": "600"}
        self.parts.append(_write(self.x + 14, self.y + 22, text, 13, INK, **bold))


def _draw_text(card: Card, properties: Json, _day: Day) -> None:
    y = card.y + 36
    for line in properties["markdown"].splitlines():
        if line.startswith("# "):
            card.parts.append(_write(card.x + 16, y, line[2:], 22, INK, font_weight="700"))
            y += 30
            continue
        for words in _wrapped(line.strip("`"), 42):
            card.parts.append(_write(card.x + 16, y, words, 12, FAINT))
            y += 18
        y += 0 if line else 8


def _wrapped(line: str, width: int) -> list[str]:
    return re.findall(rf".{{1,{width}}}(?:\s|$)", line)


def _draw_alarms(card: Card, properties: Json, _day: Day) -> None:
    names = properties["alarms"]
    card.title(f"Alarms ({len(names)})")
    columns = 6
    rows = math.ceil(len(names) / columns)
    width = (card.width - 28) / columns
    height = (card.height - 40) / rows
    for number, name in enumerate(names):
        x = card.x + 14 + (number // rows) * width
        y = card.y + 34 + (number % rows) * height
        card.parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width - 6:.1f}" height="{height - 3:.1f}" '
            f'rx="3" fill="#dcfce7"/>'
        )
        fits = int((width - 14) / 4.5)
        shown = name if len(name) <= fits else name[: fits - 1] + "…"
        card.parts.append(_write(x + 6, y + height / 2 + 2, shown, 9, "#166534"))


def _draw_figures(card: Card, properties: Json, day: Day) -> None:
    card.title(properties["title"])
    lines = properties["metrics"]
    across = 2 if len(lines) > 2 else 1
    down = math.ceil(len(lines) / across)
    for number, line in enumerate(lines):
        label, color = line[-1]["label"], line[-1]["color"]
        x = card.x + 18 + (number % across) * (card.width - 24) / across
        y = card.y + 30 + (number // across + 0.62) * (card.height - 44) / down
        value = day.figure(label)
        card.parts.append(
            _write(x, y, f"{value:,.0f}", 25, color if value else FAINT, font_weight="650")
        )
        card.parts.append(_write(x, y + 17, label, 11, FAINT))


def _draw_graph(card: Card, properties: Json, day: Day) -> None:
    card.title(properties["title"])
    shown = [line[-1] for line in properties["metrics"] if line[-1].get("visible", True)]
    lines = [day.values(line["label"], properties["title"]) for line in shown]
    if properties["stacked"]:
        lines = _stacked(lines)
    limits = properties.get("annotations", {}).get("horizontal", [])
    highest = max([v for line in lines for v in line if v] + [a["value"] for a in limits] + [0])
    top = _ceiling(highest * 1.02)
    legend = _legend_rows([line["label"] for line in shown], card.width - 28)
    left, right = card.x + 52, card.x + card.width - 16
    upper, lower = card.y + 52, card.y + card.height - 26 - 16 * len(legend)

    def place(step: float, value: float) -> tuple[float, float]:
        x = left + step / (STEPS - 1) * (right - left)
        return x, lower - value / top * (lower - upper)

    card.parts.append(_write(card.x + 14, upper - 12, properties["yAxis"]["left"]["label"], 10))
    for part in range(3):
        _, y = place(0, top * part / 2)
        card.parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{RULE}"/>')
        tick = _number(top * part / 2)
        card.parts.append(_write(left - 6, y + 4, tick, 10, text_anchor="end"))
    for hour in range(0, 30, 6):
        moment = START + timedelta(hours=hour + 4)
        x, _ = place((hour + 4) * 12, 0)
        text = f"{moment:%H:%M}" if moment.hour else f"{moment:%-d %b}"
        card.parts.append(_write(x, lower + 14, text, 10, text_anchor="middle"))
    order = list(zip(shown, lines, strict=True))
    for line, values in reversed(order) if properties["stacked"] else order:
        card.parts += _path(values, place, line["color"], is_filled=properties["stacked"])
    for limit in limits:
        _, y = place(0, limit["value"])
        color = limit["color"]
        dashed = 'stroke-dasharray="5 4"'
        card.parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="{color}" {dashed}/>')
        label = f"{limit['label']} from {_number(limit['value'])}"
        card.parts.append(_write(right, y - 5, label, 10, color, text_anchor="end"))
    _draw_legend(card, legend, {line["label"]: line["color"] for line in shown})


def _stacked(lines: Sequence[Values]) -> list[Values]:
    sums: list[Values] = []
    for line in lines:
        below = sums[-1] if sums else [0.0] * STEPS
        sums.append([(a or 0.0) + (b or 0.0) for a, b in zip(line, below, strict=True)])
    return sums


def _path(
    values: Values,
    place: Callable[[float, float], tuple[float, float]],
    color: str,
    *,
    is_filled: bool,
) -> list[str]:
    """A line, with gaps where data are missing; a single value is a dot."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for step, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append(place(step, value))
    drawn = []
    _, bottom = place(0, 0)
    for piece in filter(None, pieces):
        if len(piece) == 1:
            ((x, y),) = piece
            drawn.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.4" fill="{color}"/>')
            continue
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y in _corners(piece))
        if is_filled:
            area = f"M{piece[0][0]:.1f} {bottom:.1f}L{line}L{piece[-1][0]:.1f} {bottom:.1f}Z"
            drawn.append(f'<path d="{area}" fill="{color}"/>')
        else:
            shape = 'fill="none" stroke-width="1.7" stroke-linejoin="round"'
            drawn.append(f'<path d="M{line}" stroke="{color}" {shape}/>')
    return drawn


def _corners(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points without those within a level stretch."""
    inner = zip(points, points[1:], points[2:], strict=False)
    return [
        points[0],
        *(point for before, point, after in inner if {before[1], after[1]} != {point[1]}),
        points[-1],
    ]


def _legend_rows(labels: list[str], width: float) -> list[list[tuple[float, str]]]:
    """The labels, each with its start, in as many rows as they need."""
    rows: list[list[tuple[float, str]]] = [[]]
    x = 0.0
    for label in labels:
        needed = 30 + 5.6 * len(label)
        if rows[-1] and x + needed > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, label))
        x += needed
    return rows


def _draw_legend(card: Card, rows: list[list[tuple[float, str]]], colors: dict[str, str]) -> None:
    for number, row in enumerate(reversed(rows)):
        y = card.y + card.height - 12 - 16 * number
        for x, label in row:
            left = card.x + 14 + x
            card.parts.append(
                f'<rect x="{left:.1f}" y="{y - 8:.1f}" width="10" height="10" rx="2" '
                f'fill="{colors[label]}"/>'
            )
            card.parts.append(_write(left + 15, y + 1, label, 10.5))


def draw(page: Json) -> str:
    """The picture of a dashboard whose body has been filled in, as SVG."""
    day = Day()
    draw_properties: dict[str, Callable[[Card, Json, Day], None]] = {
        "text": _draw_text,
        "alarm": _draw_alarms,
        "singleValue": _draw_figures,
        "timeSeries": _draw_graph,
    }
    cards = []
    for widget in page["widgets"]:
        card = Card(widget)
        kind = widget["properties"].get("view", widget["type"])
        draw_properties[kind](card, widget["properties"], day)
        cards.append(card)
    width = dashboard.WIDTH * COLUMN + GAP
    height = max(card.y + card.height for card in cards) + GAP
    drawn = "\n".join("\n".join(card.parts) for card in cards)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" {FONT}>\n'
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>\n{drawn}\n</svg>\n'
    )


def filled_in(template: Json) -> Json:
    """The body of a packaged template's dashboard, filled in as far as a picture needs."""
    known: dict[str, Any] = {
        **template["Mappings"]["Alarms"]["prod"],
        "Stage": "prod",
        **{f"{alarm.logical_id}.Arn": alarm.name for alarm in alarm_resources.alarms_of(template)},
    }
    text = dashboard.text_of(dashboard.body(template))
    page: Json = json.loads(
        re.sub(r"\$\{([^}]+)\}", lambda name: str(known.get(name[1], name[1])), text)
    )
    return page
