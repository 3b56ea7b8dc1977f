"""What a person at a terminal sees of a command's work, and how they end it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Say = Callable[[str], None]
"""Is told what is happening, a line at a time."""

Confirm = Callable[[], bool]
"""Is asked whether what was shown may be done."""


def say_nothing(_line: str) -> None:
    """Keep progress to oneself."""


def agree() -> bool:
    """Agree to any change."""
    return True


def progress() -> Say:
    """A `say` that prints to standard error, with the seconds since it was made."""
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {line}", file=sys.stderr, flush=True)

    return say


def progress_bar(console: Console) -> Progress:
    """The bar that long work shows on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


@contextmanager
def moving_bar(
    console: Console, what: str, began: datetime, to: datetime
) -> Iterator[Callable[[datetime], None]]:
    """A bar of the days from one instant to another; yields what shows how far the clock is."""
    days = (to - began).days + 1
    with progress_bar(console) as progress:
        task = progress.add_task(what, total=days)
        yield lambda at: progress.update(task, completed=(at - began).days)
        progress.update(task, completed=days)


def end_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C, so that either ends the stack and every process of it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with SIGINT ignored; whoever sends it means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
