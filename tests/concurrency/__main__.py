"""Real concurrency: many threads in several processes, killed at random; then a full audit.

    python -m tests.concurrency                               3 minutes, 4 processes of 16 threads
    python -m tests.concurrency --minutes 0.5 --seed 7        shorter, with other dice
    python -m tests.concurrency --plant keys-forgotten        with a bug that the audit must find

All of it runs on this machine: an emulated DynamoDB on loopback, and the product's own code. Exit
status 0: nothing is wrong. Otherwise 1, with what is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from infra.local.emulator import EmulatorError

from .plan import Plan
from .plants import PLANTS
from .run import JOURNALS, Outcome, RunFailedError, run

MOST = {"minutes": 30, "processes": 16, "threads": 64}
MOST_SHOWN = 20
_HOW = ("done", "replayed", "refused", "failed", "unanswered")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.concurrency",
        description="Many threads in several processes do everything to a few hot users and many "
        "cold ones; processes are killed at random; afterwards every ledger is audited.",
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (default: 3)")
    parser.add_argument("--processes", type=int, default=4, help="how many (default: 4)")
    parser.add_argument("--threads", type=int, default=16, help="in each process (default: 16)")
    parser.add_argument("--hot", type=int, default=20, help="hot users (default: 20)")
    parser.add_argument("--cold", type=int, default=2_000, help="cold users (default: 2,000)")
    parser.add_argument("--seed", type=int, default=1, help="of all dice (default: 1)")
    parser.add_argument("--plant", choices=sorted(PLANTS), default="", help="a bug to plant")
    options = vars(parser.parse_args(arguments))
    for name, most in MOST.items():
        if not 0 < options[name] <= most:
            parser.error(f"--{name} must be more than 0 and at most {most}")
    plan = Plan(seconds=options.pop("minutes") * 60, **options)
    errors = Console(stderr=True)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("starting the emulator", total=1.0)
        try:
            outcome = run(
                plan, lambda what, done: progress.update(task, description=what, completed=done)
            )
        except (RunFailedError, EmulatorError) as error:
            errors.print(f"error: {error}", markup=False)
            return 1
    return _say(outcome, plan)


def _say(outcome: Outcome, plan: Plan) -> int:
    findings = outcome.findings
    console = Console(markup=False, highlight=False, soft_wrap=True)
    table = Table("operation", *_HOW, title="What was asked for")
    for column in table.columns[1:]:
        column.justify = "right"
    for kind, ended in findings.ended.items():
        table.add_row(kind, *(f"{ended[how]:,}" for how in _HOW))
    console.print(table)
    for violation in findings.wrong[:MOST_SHOWN]:
        console.print(f"wrong: {violation}")
    if len(findings.wrong) > MOST_SHOWN:
        console.print(f"... and {len(findings.wrong) - MOST_SHOWN:,} more")
    if findings.wrong:
        console.print(f"The journals are in {JOURNALS}; the same dice again: --seed {plan.seed}")
    console.print(
        f"{findings.attempts:,} operations in {outcome.seconds:.0f} s, {outcome.kills} processes "
        f"killed, {findings.races_lost:,} races lost and decided again, {findings.entries:,} "
        f"entries audited, {len(findings.wrong):,} violations"
    )
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
