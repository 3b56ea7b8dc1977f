"""Profiles a worker during the allocation of a month, and shows its CPU by package.

    python -m bench.profile [--users 2000] [--work allocate]

The profiler sees one thread, so the users are handled one after the other here. It makes every call
slower, so read the shares, not the times.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from bench import workload
from bench.database import serving

_PACKAGE = re.compile(r"site-packages/(\w+)")
_ROOT = str(Path(__file__).parents[1])
_WAITING = ("recv_into", "sendall")


class _OneByOne:
    """Replaces a pool of threads."""

    def __init__(self, _threads: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, handle: Callable[[Any], Any], parts: Iterable[Any]) -> list[Any]:
        return [handle(part) for part in parts]


@contextmanager
def _quiet() -> Iterator[None]:
    """Discards the logs of the functions after they are written."""
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        yield
    finally:
        os.dup2(output, 1)


def profiled(work: str, users: int) -> Counter[str]:
    """Seconds by package; functions built into Python count for their callers."""
    profile = cProfile.Profile()
    with (
        serving() as database,
        _quiet(),
        patch("chalicelib.jobs.records.ThreadPoolExecutor", _OneByOne),
    ):
        run = workload.prepare(database, "ours", work, users)
        profile.enable()
        run()
        profile.disable()
    seconds: Counter[str] = Counter()
    statistics: Any = pstats.Stats(profile)
    for (file, _, function), (_, _, own, _, callers) in statistics.stats.items():
        if file != "~":
            seconds[_package(file)] += own
            continue
        for (caller_file, _, _), (_, _, of_caller, _) in callers.items():
            # Time in the socket is the kernel's work, and waiting for the database.
            is_socket = any(name in function for name in _WAITING)
            seconds["the socket" if is_socket else _package(caller_file)] += of_caller
    return seconds


def _package(file: str) -> str:
    if found := _PACKAGE.search(file):
        return found[1]
    if file.startswith(_ROOT):
        return Path(file).relative_to(_ROOT).parts[0]
    return "Python's library"


def main(words: list[str] | None = None) -> int:
    """Reads the command line, profiles, prints; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.profile", description=__doc__)
    parser.add_argument("--users", type=int, default=2_000, help="default 2,000")
    parser.add_argument("--work", default="allocate", choices=("allocate", "resweep", "expire"))
    arguments = parser.parse_args(words)
    seconds = profiled(arguments.work, arguments.users)
    del seconds["the socket"]
    table = Table(
        "package", "share", title=f"CPU of a worker: {arguments.work}, without the socket"
    )
    for package, spent in seconds.most_common(10):
        table.add_row(package, f"{spent / seconds.total():.1%}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
