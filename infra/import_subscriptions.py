"""Imports subscriptions from a CSV file into the running local stack or a deployed one.

    python -m infra.import_subscriptions file.csv [--stage prod] [--skip-invalid]

Every row is checked before anything is written. Importing a file again changes nothing, and an
import that was interrupted is finished by running it again.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from chalicelib.domain.errors import CreditsError
from chalicelib.domain.subscriptions import Subscription
from chalicelib.services import Services
from chalicelib.store.database import FAULTS
from infra import deploy, local, stacks
from infra.subscriptions_csv import (
    COLUMNS,
    CheckedFile,
    Problem,
    Row,
    UnreadableFileError,
    check,
    subscription_of,
    write,
)

MOST_PROBLEMS_SHOWN = 50


@dataclass
class Imported:
    """What became of the rows: how many were new, changed or unchanged, and which failed."""

    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        counted = [f"{self.counts[word]:,} {word}" for word in ("new", "changed", "unchanged")]
        return ", ".join(counted)


def import_rows(
    services: Services, rows: list[Row], advance: Callable[[], object] = lambda: None
) -> Imported:
    """Writes rows that were checked, many at once; ``advance`` is called after each.

    Each is written under the condition that nobody edited the subscription meanwhile, and what
    DynamoDB is too busy to take is sent again; what fails for good is in the answer.
    """
    now = services.now()
    imported = Imported()

    def import_row(row: Row) -> str:
        before: list[Subscription | None] = []

        def decide(existing: Subscription | None) -> Subscription:
            before.append(existing)
            return subscription_of(row, services.catalogue, now, existing)

        after = services.subscriptions.change(row.values["user_id"].strip(), decide)
        if before[-1] is None:
            return "new"
        return "unchanged" if after == before[-1] else "changed"

    with ThreadPoolExecutor(stacks.THREADS) as pool:
        futures = {pool.submit(import_row, row): row for row in rows}
        for future in as_completed(futures):
            try:
                imported.counts[future.result()] += 1
            except (CreditsError, *FAULTS) as error:
                imported.failures.append(Problem(futures[future].line, "", "", str(error)))
            advance()
    return imported


def progress_bar(console: Console) -> Progress:
    """The bar that long work shows on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def read_file(services: Services, path: Path) -> CheckedFile:
    """Reads and checks a file. Raises `UnreadableFileError`, which says what to do."""
    try:
        # utf-8-sig: spreadsheets like to put a byte order mark in front.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError("is not UTF-8 text; save it as UTF-8 CSV") from error
    return check(text, services.catalogue, services.now())


def import_with_progress(services: Services, rows: list[Row], console: Console) -> Imported:
    """Imports rows behind a progress bar."""
    with progress_bar(console) as progress:
        task = progress.add_task("Importing subscriptions", total=len(rows))
        return import_rows(services, rows, lambda: progress.advance(task))


def show_problems(console: Console, problems: list[Problem]) -> None:
    """Prints what is wrong as a table: line, field, value, reason."""
    table = Table("line", "field", "value", "reason", title="Rows that cannot be imported")
    for problem in problems[:MOST_PROBLEMS_SHOWN]:
        shown = problem.value if len(problem.value) <= 40 else f"{problem.value[:37]}..."
        table.add_row(str(problem.line), problem.field, repr(shown), problem.reason)
    console.print(table)
    if len(problems) > MOST_PROBLEMS_SHOWN:
        console.print(f"... and {len(problems) - MOST_PROBLEMS_SHOWN} more problems")


def run(arguments: argparse.Namespace, console: Console) -> int:
    """The command; answers its exit status."""
    services = stacks.services_of(arguments.stage)
    path: Path = arguments.file
    checked = read_file(services, path)
    if checked.problems:
        show_problems(console, checked.problems)
        if not arguments.skip_invalid:
            console.print(
                f"{len(checked.bad)} of {len(checked.bad) + len(checked.good)} rows are wrong. "
                "Nothing was written. Correct them, or import the others with --skip-invalid "
                "(make import CSV=... SKIP_INVALID=1)."
            )
            return 1
        rejected = path.with_name(f"{path.stem}.invalid.csv")
        rejected.write_text(write(checked.bad), encoding="utf-8")
        console.print(f"{len(checked.bad)} wrong rows are saved to {rejected}")
    imported = import_with_progress(services, checked.good, console)
    console.print(f"Imported {len(checked.good):,} subscriptions: {imported}.")
    if imported.failures:
        show_problems(console, imported.failures)
        console.print("These rows were not written. Run the same import again to finish it.")
        return 1
    return 0


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the import; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.import_subscriptions",
        description="Imports subscriptions from a CSV file. Nothing is written while a row is "
        "wrong, and importing the same file again changes nothing.",
        epilog=f"Columns: {','.join(COLUMNS)}. The last two may be empty or left out.",
    )
    parser.add_argument("file", type=Path, help="the CSV file (make import CSV=file.csv)")
    parser.add_argument(
        "--stage", default=local.STAGE, help="where to: the running local stack unless given"
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="import the good rows and save the wrong ones to <file>.invalid.csv",
    )
    arguments = parser.parse_args(words)
    console = Console(stderr=True)
    try:
        return run(arguments, console)
    except UnreadableFileError as error:
        console.print(f"error: {arguments.file}: {error}", markup=False)
    except (local.NotRunningError, deploy.DeployError) as error:
        console.print(f"error: {error}", markup=False)
    return 1


if __name__ == "__main__":
    sys.exit(main())
