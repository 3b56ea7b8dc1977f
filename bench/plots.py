"""The pictures of the documentation: bars and lines as SVG, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

IMAGES = Path(__file__).parents[1] / "docs" / "images" / "bench"
COLOURS = ("#2a78d6", "#d97706", "#15803d", "#9333ea", "#dc2626", "#64748b")
_STYLE = (
    "<style>text{font:13px system-ui,sans-serif;fill:#334155}.t{font-weight:600;font-size:15px}"
    "line{stroke:#94a3b8;stroke-width:.5}"
    "@media(prefers-color-scheme:dark){text{fill:#cbd5e1}}</style>"
)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(title)}">{_STYLE}'
        f'<text x="8" y="22" class="t">{escape(title)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def bars(title: str, values: Mapping[str, float], unit: str = "") -> str:
    """Horizontal bars, one for each value."""
    greatest = max(values.values())
    parts = []
    for place, (name, value) in enumerate(values.items()):
        y = 40 + place * 28
        length = max(1, value / greatest * 380)
        colour = COLOURS[0] if name.startswith("Credits") else COLOURS[5]
        parts.append(
            f'<text x="240" y="{y + 14}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="250" y="{y}" width="{length:.1f}" height="19" rx="2" fill="{colour}"/>'
            f'<text x="{256 + length:.1f}" y="{y + 14}">{value:,.4g}{escape(unit)}</text>'
        )
    return _svg(740, 56 + 28 * len(values), title, parts)


def columns(title: str, values: Mapping[str, float], unit: str = "") -> str:
    """Columns side by side; the highest ones show their values."""
    width, height, top, bottom = 740, 260, 50, 50
    greatest = max(values.values())
    each = (width - 20) / len(values)
    parts = []
    for place, (name, value) in enumerate(values.items()):
        tall = max(1, value / greatest * (height - top - bottom))
        x = 10 + place * each
        middle = x + each / 2
        parts.append(
            f'<rect x="{x:.1f}" y="{height - bottom - tall:.1f}" width="{each - 2:.1f}" '
            f'height="{tall:.1f}" rx="2" fill="{COLOURS[0]}"/>'
            f'<text transform="translate({middle + 4:.1f} {height - 8}) rotate(-90)">'
            f"{escape(name)}</text>"
        )
        if value >= greatest / 20:
            parts.append(
                f'<text x="{middle:.1f}" y="{height - bottom - tall - 5:.1f}" '
                f'text-anchor="middle">{value:.0f}{escape(unit)}</text>'
            )
    return _svg(width, height, title, parts)


def lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str
) -> str:
    """One line for each series, from zero."""
    width, height, left, top, bottom = 740, 360, 70, 40, 50
    right = 20
    most_x = max(x for points in series.values() for x, _ in points) or 1
    most_y = max(y for points in series.values() for _, y in points) or 1
    parts = []
    for step in range(5):
        y = height - bottom - step / 4 * (height - top - bottom)
        x = left + step / 4 * (width - left - right)
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">'
            f"{most_y * step / 4:,.3g}</text>"
            f'<text x="{x:.1f}" y="{height - bottom + 18}" text-anchor="middle">'
            f"{most_x * step / 4:,.3g}</text>"
        )
    for place, (name, points) in enumerate(series.items()):
        path = " ".join(
            f"{left + x / most_x * (width - left - right):.1f},"
            f"{height - bottom - y / most_y * (height - top - bottom):.1f}"
            for x, y in points
        )
        colour = COLOURS[place % len(COLOURS)]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{left + 10}" y="{top + 16 + 18 * place}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    parts.append(
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">{escape(x_name)}</text>'
    )
    parts.append(f'<text x="{left}" y="{top - 6}" text-anchor="end">{escape(y_name)}</text>')
    return _svg(width, height, title, parts)


def decades(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str
) -> str:
    """One line for each series, on logarithmic axes; values below 1 are shown as 1.

    Every third line is dashed, so that a line beneath it can be seen.
    """
    width, height, left, top, bottom, right = 740, 420, 80, 140, 50, 50
    xs = [math.log10(x) for points in series.values() for x, _ in points]
    most_y = math.ceil(max(math.log10(max(y, 1)) for points in series.values() for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - min(xs)) / (max(xs) - min(xs))
        up = math.log10(max(y, 1)) / most_y
        return left + along * (width - left - right), height - bottom - up * (height - top - bottom)

    parts = []
    for power in range(most_y + 1):
        _, y = place(10 ** min(xs), 10**power)
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10**power:,}</text>'
        )
    for power in range(math.floor(min(xs)), math.ceil(max(xs)) + 1):
        x, y = place(10**power, 1)
        parts.append(f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle">{10**power:,}</text>')
    for number, (name, points) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        dashes = ' stroke-dasharray="7 5"' if number % 3 == 2 else ""
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
            f'<text x="{left + 10}" y="{44 + 18 * number}" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    parts.append(
        f'<text x="{width / 2}" y="{height - 8}" text-anchor="middle">{escape(x_name)}</text>'
        f'<text x="{left}" y="{top - 8}" text-anchor="end">{escape(y_name)}</text>'
    )
    return _svg(width, height, title, parts)


def write(name: str, picture: str) -> None:
    """Writes a picture."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / f"{name}.svg").write_text(picture, encoding="utf-8")


NAMES = {
    "floor": "bare botocore, no logic",
    "batched": "bare botocore, in batches",
    "ours": "Credits",
    "usual": "usual DynamoDB design",
    "celery_user": "Celery, a task a user",
    "celery_hundred": "Celery, a task of 100",
    "celery_bulk": "Celery, 100 in bulk",
}


def draw(results: Mapping[str, Any]) -> None:
    """The pictures of a run."""
    sides = results["work"]["allocate"]
    write(
        "allocate-cpu",
        bars(
            "CPU to allocate to one user",
            {NAMES[side]: figures["cpu_us"]["median"] for side, figures in sides.items()},
            " µs",
        ),
    )
    units = {"Credits, allocation": sides["ours"]["write_units"]}
    units["usual design, allocation"] = sides["usual"]["write_units"]
    for batches in (1, 3, 10):
        use = results["work"][f"use{batches}"]
        units[f"Credits, use of {batches}"] = use["ours"]["write_units"]
        units[f"usual design, use of {batches}"] = use["usual"]["write_units"]
    write("write-units", bars("DynamoDB write units of one operation", units))
