"""Measures everything in one run: requests and units exactly, CPU as ratios.

    python -m bench [--users 10000] [--rounds 5] [--without-celery] [--only allocate]   (make bench)

Each measurement is a process of its own. The variants of a piece of work take turns, A B A B, so
that a disturbance of the machine meets all of them. The results go into bench/results.json, the
pictures into docs/images/bench. bench/README.md says how to read them.
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
from itertools import chain
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import cpu, growth, plots, report, rival
from bench.database import Database, serving
from bench.report import RESULTS
from bench.targets import ratio, targets
from bench.workload import seed
from infra.arguments import whole_number

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


PARTS = {"postgres", "redis", "worker"}
"""The processes whose CPU adds up to the rival's."""


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
    """Measures everything, interleaved."""
    found: dict[str, dict[str, list[Figures]]] = {}
    with ExitStack() as stack:
        database = stack.enter_context(serving())
        celery = None if arguments.without_celery else stack.enter_context(rival.running())
        works = {name: WORK[name] for name in WORK if name.startswith(arguments.only)}
        steps = sum(map(len, works.values())) + (len(CELERY) if celery else 0)
        task = progress.add_task("work", total=arguments.rounds * steps)
        for _ in range(arguments.rounds):
            for work, sides in works.items():
                # Uses are prepared one by one, which takes longer than measuring them.
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
            side: runs[-1]
            | {part: statistics.median(run[part] for run in runs) for part in PARTS & {*runs[-1]}}
            | {"cpu_us": spread([run["cpu_us"] for run in runs])}
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
    """The archive: its size, and imports and clients from it, each in a fresh process."""
    with cpu.packaged() as (archive_bytes, places), serving() as database:
        seed(database, cpu.COLD_USER.partition("-")[0], 1)
        variants = {
            name: partial(cpu.measure_cold, name, place, database) for name, place in places.items()
        }
        measured = cpu.interleaved(variants, rounds)
        loaded = {
            name: [cpu.imports(name, places[name], database) for _ in range(rounds)]
            for name in cpu.IMPORTING
        }
    return {
        "archive_mb": round(archive_bytes / 1e6, 1),
        "cold": {name: spread(found) for name, found in measured.items()},
        "imports": {
            name: {
                package: round(statistics.median(run.get(package, 0) for run in runs), 1)
                for package in sorted({*chain(*runs)})
            }
            for name, runs in loaded.items()
        },
    }


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
    table = Table("imports", "ms", "by package")
    for name, packages in results["imports"].items():
        by_cost = sorted(packages.items(), key=lambda each: -each[1])
        shares = ", ".join(f"{package} {spent:g}" for package, spent in by_cost if spent >= 0.1)
        table.add_row(name, f"{sum(packages.values()):.0f}", shares)
    console.print(table)
    table = Table("target", "measured", "aim", "met")
    for name, value, sign, aim, met in targets(results):
        table.add_row(name, f"{value:g}", f"{sign} {aim:g}", "yes" if met else "NO")
    console.print(table)


def main(words: list[str] | None = None) -> int:
    """Reads the command line and measures; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("--users", type=whole_number(), default=10_000, help="default 10,000")
    parser.add_argument(
        "--rounds",
        type=whole_number(most=1_000),
        default=5,
        help="measurements of each (default 5)",
    )
    parser.add_argument(
        "--without-celery",
        action="store_true",
        help="leave out Celery, which needs PostgreSQL and Redis",
    )
    parser.add_argument(
        "--only", default="", help="measure only work whose name begins with this; keep no file"
    )
    arguments = parser.parse_args(words)
    console = Console(width=130)
    with Progress(console=Console(stderr=True)) as progress:
        try:
            results: Figures = {
                "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": f"{platform.machine()}, Python {platform.python_version()}",
                "users": arguments.users,
                "rounds": arguments.rounds,
                **measure_cold(max(5, arguments.rounds)),
                "work": measure(arguments, progress),
                "growth": {} if arguments.only else growth.measure(arguments.rounds),
                # They are short, and five rounds scatter by a tenth.
                "api": measure_api(max(25, arguments.rounds)),
            }
        except rival.Missing as error:
            console.print(f"error: {error}", "Or leave it out: make bench CELERY=no", style="red")
            return 1
    show(results, console)
    if not arguments.only:
        RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        plots.draw(results)
        report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
