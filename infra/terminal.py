"""Shows a command's progress to a person at a terminal, and lets them end it."""

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
"""Called with the progress, one line at a time."""

Confirm = Callable[[], bool]
"""Asks whether to make the changes that were shown."""


def say_nothing(_line: str) -> None:
    """Show no progress."""


def agree() -> bool:
    """Agree to any change."""
    return True


def is_agreed(console: Console, question: str = "Go on?") -> bool:
    """Asks a person whether to go on; everything but yes is no, even Ctrl-D."""
    try:
        answer = console.input(f"{question} \\[y/N] ")
    except EOFError:
        console.print()  # the cursor is still behind the question
        return False
    return answer.strip().lower() in ("y", "yes")


def progress() -> Say:
    """A `say` that prints to standard error, with the seconds since it was made."""
    start = time.monotonic()

    def say(line: str) -> None:
        print(f"{time.monotonic() - start:6.1f} s  {line}", file=sys.stderr, flush=True)

    return say


def progress_bar(console: Console) -> Progress:
    """The progress bar for long work."""
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
    """A bar of the days between two instants; yields the function that moves it to an instant."""
    days = (to - began).days + 1
    with progress_bar(console) as progress:
        task = progress.add_task(what, total=days)
        yield lambda at: progress.update(task, completed=(at - began).days)
        progress.update(task, completed=days)


def end_on_sigterm() -> None:
    """Treat SIGTERM as Ctrl-C, so that either ends the stack and all of its processes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell starts background jobs with SIGINT ignored; here a SIGINT must end the job, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
