"""Writes the results of the last `make bench` into bench/README.md, so that both agree.

python -m bench.report
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.plots import NAMES
from bench.targets import ratio, targets

RESULTS = Path(__file__).with_name("results.json")
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- results: written by make bench -->\n", "<!-- end of results -->\n"

Figures = dict[str, Any]


def markdown(results: Figures) -> str:
    """The tables of a run."""
    return "\n".join(_lines(results)) + "\n"


def _lines(results: Figures) -> Iterator[str]:
    yield (
        f"Measured {results['measured_at']}, {results['machine']}: {results['users']:,} users, "
        f"{results['rounds']} rounds of each."
    )
    yield ""
    yield "| CPU of a user or use, µs | median | least to greatest | over the floor | requests | write units | read units |"  # noqa: E501
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for work, sides in results["work"].items():
        for side, figures in sides.items():
            over = ratio(figures["cpu_us"], sides["floor"]["cpu_us"])
            counts = (figures.get(name, "") for name in ("requests", "write_units", "read_units"))
            yield _row(f"{work}: {NAMES[side]}", *_spread(figures["cpu_us"]), f"{over} ×", *counts)
    yield ""
    yield "| request, µs | bare calls | handler | route | handler over | route over |"
    yield "|---|--:|--:|--:|--:|--:|"
    for name, sides in results["api"].items():
        medians = (f"{sides[side]['median']:,.0f}" for side in ("floor", "handler", "route"))
        overs = (f"{ratio(sides[side], sides['floor'])} ×" for side in ("handler", "route"))
        yield _row(name, *medians, *overs)
    yield ""
    yield "| cold start, ms | median | least to greatest | over the SDK |"
    yield "|---|--:|--:|--:|"
    for name, figures in results["cold"].items():
        floor = "floor, first call" if "first" in name else "floor"
        over = ratio(figures, results["cold"][floor])
        yield _row(name, *_spread(figures), f"{over} ×")
    yield ""
    if results.get("imports"):  # a run of an earlier release did not count them
        yield "| imports of a cold start, ms | API | worker |"
        yield "|---|--:|--:|"
        api, worker = results["imports"].values()
        for package in sorted({*api, *worker}, key=lambda each: (-api.get(each, 0), each)):
            spent = [each.get(package, 0) for each in (api, worker)]
            if max(spent) >= 0.1:
                yield _row(package, *(f"{each:.1f}" for each in spent))
        yield ""
    yield "| aim | measured | to be | met |"
    yield "|---|--:|--:|---|"
    for name, value, sign, aim, met in targets(results):
        shown = {"<=": "≤", ">=": "≥"}[sign]
        yield _row(name, f"{value:g}", f"{shown} {aim:g}", "yes" if met else "**no**")


def _spread(figures: Figures) -> tuple[str, str]:
    return f"{figures['median']:,.0f}", f"{figures['min']:,.0f} to {figures['max']:,.0f}"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def write() -> None:
    """Puts the tables between their markers."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{markdown(results)}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.exit(0)
