"""Measures everything in one run: requests and units exactly, CPU as ratios.

    python -m bench [--users 10000] [--rounds 5] [--without-celery] [--only allocate]   (make bench)

Each measurement is a process of its own; the variants of a piece of work take turns, A B A B, so
that what disturbs the machine disturbs all of them. What it prints goes into bench/results.json,
and its pictures into docs/images/bench. How to read it: bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import cpu, growth, plots, rival
from bench.database import Database, serving
from bench.workload import seed

RESULTS = Path(__file__).parent / "results.json"

WORK = {
    "allocate": ("floor", "batched", "ours", "usual"),
    "allocate_expiring": ("floor", "ours"),
    "resweep": ("floor", "ours", "usual"),
    "expire": ("floor", "ours"),
    "use1": ("floor", "ours", "usual"),
    "use3": ("floor", "ours", "usual"),
    "use10": ("floor", "ours", "usual"),
}
CELERY = ("user", "hundred", "bulk")

Figures = dict[str, Any]


def one(database: Database, side: str, work: str, users: int) -> Figures:
    """One measurement."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "bench.workload", side, work),
            *("--users", str(users), "--endpoint", database.endpoint),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{side} {work}: {run.stderr}")
    figures: Figures = json.loads(run.stdout)
    return figures


def spread(values: list[float]) -> Figures:
    """Median, least and greatest."""
    return {
        "median": round(statistics.median(values), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
    }


def measure(arguments: argparse.Namespace, progress: Progress) -> Figures:
    """Everything, interleaved."""
    found: dict[str, dict[str, list[Figures]]] = {}
    with ExitStack() as stack:
        database = stack.enter_context(serving())
        celery = None if arguments.without_celery else stack.enter_context(rival.running())
        works = {name: WORK[name] for name in WORK if name.startswith(arguments.only)}
        steps = sum(map(len, works.values())) + (len(CELERY) if celery else 0)
        task = progress.add_task("work", total=arguments.rounds * steps)
        for _ in range(arguments.rounds):
            for work, sides in works.items():
                # Uses are prepared one by one, which takes longer than to measure them.
                users = arguments.users // 10 if work.startswith("use") else arguments.users
                for side in sides:
                    progress.update(task, description=f"{side} {work}", advance=1)
                    figures = one(database, side, work, users)
                    found.setdefault(work, {}).setdefault(side, []).append(figures)
                if work == "allocate" and celery:
                    for how in CELERY:
                        progress.update(task, description=f"celery {how}", advance=1)
                        figures = celery.measure(how, arguments.users)
                        found[work].setdefault(f"celery_{how}", []).append(figures)
    return {
        work: {
            side: runs[-1] | {"cpu_us": spread([run["cpu_us"] for run in runs])}
            for side, runs in sides.items()
        }
        for work, sides in found.items()
    }


def measure_api(rounds: int) -> Figures:
    """Routes, warm."""
    return {
        name: {
            side: spread(values)
            for side, values in cpu.interleaved(
                {
                    "floor": partial(cpu.cpu_of, floor, 200),
                    "handler": partial(cpu.cpu_of, handler, 200),
                    "route": partial(cpu.cpu_of, route, 200),
                },
                rounds,
            ).items()
        }
        for name, route, handler, floor in cpu.routes()
    }


def measure_cold(rounds: int) -> Figures:
    """Imports and clients, each in a fresh process."""
    with cpu.packaged() as places, serving() as database:
        seed(database, cpu.COLD_USER.partition("-")[0], 1)
        variants = {
            name: partial(cpu.measure_cold, name, place, database) for name, place in places.items()
        }
        measured = cpu.interleaved(variants, rounds)
    return {name: spread(found) for name, found in measured.items()}


def ratio(figures: Figures, over: Figures) -> float:
    """Of the medians."""
    return round(float(figures["median"]) / float(over["median"]), 2)


def targets(  # noqa: C901 - a list, not a decision
    results: Figures,
) -> list[tuple[str, float, str, float, bool]]:
    """What was aimed at: its name, what was measured, ``<=`` or ``>=``, the aim, whether met."""
    rows: list[tuple[str, float, str, float]] = []
    work = results["work"]
    for name, units in {"allocate": 1, "expire": 1, "allocate_expiring": 2, "resweep": 0}.items():
        if name in work:
            rows.append((f"write units, {name}", work[name]["ours"]["write_units"], "<=", units))
    for batches in (1, 3, 10):
        if f"use{batches}" in work:
            ours, floor = work[f"use{batches}"]["ours"], work[f"use{batches}"]["floor"]
            rows.append((f"write units, use of {batches} batches", ours["write_units"], "<=", 4))
            over = ratio(ours["cpu_us"], floor["cpu_us"])
            rows.append((f"CPU over the floor, use of {batches} batches", over, "<=", 1.3))
    for name in ("allocate", "allocate_expiring"):
        if name in work:
            ours = work[name]["ours"]
            rows.append((f"requests, {name}", ours["requests"], "<=", 2.1))
            over = ratio(ours["cpu_us"], work[name]["floor"]["cpu_us"])
            rows.append((f"CPU over the floor, {name}", over, "<=", 1.25))
            rows.append((f"resident MB, {name}", ours["peak_rss_mb"], "<=", 128))
    for how, aim in {"user": 4.0, "hundred": 2.0, "bulk": 1.0}.items():
        if f"celery_{how}" in work.get("allocate", {}):
            less = ratio(work["allocate"][f"celery_{how}"]["cpu_us"], ours_allocating(work))
            rows.append((f"times less CPU than Celery, {how}", less, ">=", aim))
    for name, sides in results["api"].items():
        aim = 1.3
        rows.append(
            (f"handler over its calls, {name}", ratio(sides["handler"], sides["floor"]), "<=", aim)
        )
    cold = results["cold"]
    rows.append(
        ("cold start of the API over the SDK", ratio(cold["api"], cold["floor"]), "<=", 1.35)
    )
    rows.append(
        ("cold start of a worker over the SDK", ratio(cold["worker"], cold["floor"]), "<=", 1.2)
    )
    for name, times in results["growth"].items():
        rows.append((f"cost, {name}", times["ratio"], "<=", 1.05))
    return [
        (name, value, sign, aim, value <= aim if sign == "<=" else value >= aim)
        for name, value, sign, aim in rows
    ]


def ours_allocating(work: Figures) -> Figures:
    """Our CPU for an allocation."""
    figures: Figures = work["allocate"]["ours"]["cpu_us"]
    return figures


def show(results: Figures, console: Console) -> None:
    """Prints the tables."""

    def shown(figures: Figures) -> str:
        return f"{figures['median']:,.0f} ({figures['min']:,.0f} to {figures['max']:,.0f})"

    table = Table("work", "side", "CPU µs", "over floor", "requests", "write units", "read units")
    for work, sides in results["work"].items():
        for side, figures in sides.items():
            table.add_row(
                work,
                side,
                shown(figures["cpu_us"]),
                f"{ratio(figures['cpu_us'], sides['floor']['cpu_us']):.2f} ×",
                *(
                    f"{figures.get(name, ''):}"
                    for name in ("requests", "write_units", "read_units")
                ),
            )
    console.print(table)
    table = Table(
        "request", "bare calls µs", "handler µs", "route µs", "handler over", "route over"
    )
    for name, sides in results["api"].items():
        overs = (f"{ratio(sides[side], sides['floor']):.2f} ×" for side in ("handler", "route"))
        table.add_row(name, *(shown(sides[side]) for side in ("floor", "handler", "route")), *overs)
    console.print(table)
    table = Table("cold start", "CPU ms", "over the SDK")
    for name, figures in results["cold"].items():
        floor = "floor, first call" if "first" in name else "floor"
        table.add_row(name, shown(figures), f"{ratio(figures, results['cold'][floor]):.2f} ×")
    console.print(table)
    table = Table("target", "measured", "aim", "met")
    for name, value, sign, aim, met in targets(results):
        table.add_row(name, f"{value:g}", f"{sign} {aim:g}", "yes" if met else "NO")
    console.print(table)


def main(words: list[str] | None = None) -> int:
    """Reads the command line and measures; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=int, default=10_000, help="default 10,000")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default 5)")
    parser.add_argument("--without-celery", action="store_true", help="needs no servers then")
    parser.add_argument("--only", default="", help="only work whose name begins so; keeps no file")
    arguments = parser.parse_args(words)
    console = Console(width=130)
    with Progress(console=Console(stderr=True)) as progress:
        try:
            results: Figures = {
                "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": f"{platform.machine()}, Python {platform.python_version()}",
                "users": arguments.users,
                "rounds": arguments.rounds,
                "cold": measure_cold(max(5, arguments.rounds)),
                "work": measure(arguments, progress),
                "growth": {} if arguments.only else growth.measure(arguments.rounds),
                "api": measure_api(max(5, arguments.rounds)),
            }
        except rival.Missing as error:
            console.print(f"error: {error}", "Or leave it out: make bench CELERY=no", style="red")
            return 1
    show(results, console)
    if not arguments.only:
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        plots.draw(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
