"""Compares every local midnight of every timezone from 1970 to 2050 with two other ways to find it.

    python -m tests.zones
    python -m tests.zones Europe/Paris America/Havana

Exit status 0: all agree. 1: some do not, and which.
"""

import argparse
import sys
from collections import Counter

from rich.console import Console
from rich.table import Table

from chalicelib.domain import calendar
from tests.progress import progress_bar
from tests.zones.comparison import Compared, compare
from tests.zones.oracles import FIRST, LAST

MOST_SHOWN = 20


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.zones",
        description=f"Every local midnight of every timezone, {FIRST:%Y} to {LAST:%Y}: the "
        "calendar against a reader of the zone files and against the C library.",
    )
    parser.add_argument("zones", nargs="*", metavar="ZONE", help="default: all")
    arguments = parser.parse_args(words)
    unknown = set(arguments.zones) - set(calendar.zone_names())
    if unknown:
        parser.error(f"no timezones: {', '.join(sorted(unknown))}")
    names = arguments.zones or calendar.zone_names()
    with progress_bar(Console(stderr=True), 32) as progress:
        task = progress.add_task("", total=len(names))
        compared = compare(
            names, tell=lambda name: progress.update(task, advance=1, description=name)
        )
    Console(width=100).print(_table(compared))
    for disagreement in compared.disagreements[:MOST_SHOWN]:
        print(disagreement)
    print(
        f"{compared.midnights:,} midnights of {compared.zones} zones, {compared.month_starts:,} of "
        f"them month starts, and {compared.anniversaries:,} starts of months of the 28th to the "
        f"31st, {FIRST:%Y} to {LAST:%Y}, compared with the zone files and the C library: "
        f"{len(compared.disagreements):,} disagreements"
    )
    return 1 if compared.disagreements else 0


def _table(compared: Compared) -> Table:
    table = Table("", "", title="Where months begin", show_header=False)
    instants = Counter(len(starts) for starts in compared.starts.values())
    spread = max(max(starts) - min(starts) for starts in compared.starts.values()) / 3600
    late = sorted(((last, name) for name, last in compared.off_grid.items()), reverse=True)
    for what, figure in (
        ("zones", f"{compared.zones} names of {compared.files} different files"),
        ("months", f"{len(compared.starts)}"),
        (
            "instants a month",
            ", ".join(f"{n} ({times} months)" for n, times in sorted(instants.items())),
        ),
        ("from the first to the last", f"{spread:g} hours at most"),
        (
            "months not on a quarter hour, UTC",
            "; ".join(f"{name} until {last}" for last, name in late) or "none",
        ),
        ("disagreements", f"{len(compared.disagreements):,}"),
    ):
        table.add_row(what, figure)
    return table


if __name__ == "__main__":
    sys.exit(main())
