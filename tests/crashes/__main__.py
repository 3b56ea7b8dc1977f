"""Every workflow with a failure at each of its calls, and with each pair of failures.

Each ends as its clean run, or it is told where it does not and how to see it again.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

from rich.console import Console
from rich.table import Table

from tests.crashes.failures import Point
from tests.crashes.of_stripe import WORKFLOWS
from tests.crashes.runner import SHARES, Course, Tally, examine
from tests.crashes.world import crashing
from tests.parallel import in_processes
from tests.progress import progress_bar


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.crashes",
        description=f"{__doc__} Ctrl-C ends it early: what was tried until then is reported.",
    )
    parser.add_argument("--workflow", choices=WORKFLOWS, metavar="NAME", help="only this one")
    parser.add_argument("--singles", action="store_true", help="leave out the pairs")
    parser.add_argument("--replay", default="", help="what an earlier failure printed")
    parser.add_argument("--list", action="store_true", help="name the workflows, and end")
    parser.add_argument(
        "--shares",
        type=int,
        choices=range(1, SHARES + 1),
        default=SHARES,
        metavar="N",
        help=f"how many {SHARES}ths of all failures to try ({SHARES}: all)",
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="at a time")
    arguments = parser.parse_args(words)
    if arguments.list:
        print("\n".join(WORKFLOWS))
        return 0
    if arguments.replay:
        if not arguments.workflow:
            parser.error("--replay needs --workflow")
        try:
            points = [Point.parse(word) for word in arguments.replay.split()]
        except (KeyError, ValueError):
            parser.error("--replay takes what a failure printed, such as '3:KILLED_AFTER 5:LOST'")
        return replay(arguments.workflow, points)
    names = [arguments.workflow] if arguments.workflow else list(WORKFLOWS)
    in_pairs = not arguments.singles
    return examine_all(names, arguments.shares, arguments.processes, in_pairs=in_pairs)


def replay(name: str, points: list[Point]) -> int:
    with crashing():
        failures, wrong = Course.of(name).check(*points)
    for place, seen in enumerate(failures.seen):
        words = [point.kind.value for point in points if point.place == place]
        print(f"call {place + 1}: {seen.name}{': ' if words else ''}{', '.join(words)}")
    print(wrong.told() if wrong else "It ends as the clean run.")
    return 1 if wrong else 0


def examine_all(names: list[str], shares: int, processes: int, *, in_pairs: bool) -> int:
    began = time.monotonic()
    tallies = {name: Tally(name) for name in names}
    # Neighbours are of different workflows: the long ones do not come all at the end.
    work = [(name, number, in_pairs) for number in range(shares) for name in names]
    with progress_bar(Console(stderr=True)) as progress:
        task = progress.add_task("failures", total=len(names) * shares)
        done = 0
        with suppress(KeyboardInterrupt):
            for tally in in_processes(examine, work, processes):
                tallies[tally.workflow].add(tally)
                progress.advance(task)
                done += 1
    print_table(tallies.values())
    found = list(tallies.values())
    failures = sum(tally.failures for tally in found)
    for tally in found:
        for told in tally.told:
            print(f"\n{told}")
    minutes = (time.monotonic() - began) / 60
    whole = len(names) * SHARES
    part = "" if done == whole else f"{done} of {whole} parts: "
    print(
        f"{part}{len(found)} workflows of {sum(tally.calls for tally in found)} calls to AWS: "
        f"{sum(tally.points for tally in found):,} single failures and "
        f"{sum(tally.pairs for tally in found):,} pairs in {minutes:.0f} minutes, "
        f"{failures:,} of them ended otherwise than the clean run"
    )
    return 1 if failures or done < len(names) * shares else 0


def print_table(tallies: Iterable[Tally]) -> None:
    table = Table("workflow", box=None)
    for head in ("calls", "points", "pairs", "ended otherwise"):
        table.add_column(head, justify="right")
    for tally in tallies:
        counted = (tally.calls, tally.points, tally.pairs, tally.failures)
        table.add_row(tally.workflow, *(f"{count:,}" for count in counted))
    Console(width=110).print(table)


if __name__ == "__main__":
    sys.exit(main())
