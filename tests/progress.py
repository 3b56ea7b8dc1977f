"""The bar that the commands of the proof show while they work, on a terminal only."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar(console: Console, width: int = 0, *, auto_refresh: bool = True) -> Progress:
    """A bar whose description is at least ``width`` characters wide, so that it stays in place.

    A process that forks refreshes it by hand: a thread that draws would be in the middle of
    something at each fork.
    """
    return Progress(
        TextColumn(f"{{task.description:<{width}}}" if width else "{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        auto_refresh=auto_refresh,
    )
