"""What the commands that import a file have in common: check it all, then write it row by row.

Nothing is written while a row is wrong. Importing a file again changes nothing, and an import that
was interrupted is finished by running it again.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from chalicelib.domain.errors import CreditsError
from chalicelib.services import Services
from chalicelib.store.database import FAULTS
from infra import csv_file, deploy, local, stacks
from infra.csv_file import CheckedFile, Columns, Problem, Row, UnreadableFileError

MOST_PROBLEMS_SHOWN = 50

ImportRow = Callable[[Row], str]
"""Writes a row that was checked, in a way that can be repeated; answers what became of it."""


@dataclass(frozen=True)
class Import:
    """A kind of file and how its rows are checked and written."""

    noun: str
    columns: Columns
    outcomes: tuple[str, ...]
    check: Callable[[Services, str], CheckedFile]
    writer: Callable[[Services], ImportRow]
    column_notes: str


@dataclass
class Imported:
    """What became of the rows, and which failed."""

    outcomes: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[word]:,} {word}" for word in self.outcomes)


def import_rows(
    kind: Import, services: Services, rows: list[Row], advance: Callable[[], object] = lambda: None
) -> Imported:
    """Writes rows that were checked, many at once; ``advance`` is called after each.

    What DynamoDB is too busy to take is sent again; what fails for good is in the answer.
    """
    imported = Imported(kind.outcomes)
    import_row = kind.writer(services)
    with ThreadPoolExecutor(stacks.THREADS) as pool:
        futures = {pool.submit(import_row, row): row for row in rows}
        for future in as_completed(futures):
            try:
                imported.counts[future.result()] += 1
            except (CreditsError, *FAULTS) as error:
                imported.failures.append(Problem(futures[future].line, "", "", str(error)))
            advance()
    return imported


def import_with_progress(
    kind: Import, services: Services, rows: list[Row], console: Console
) -> Imported:
    """Imports rows behind a progress bar."""
    with progress_bar(console) as progress:
        task = progress.add_task(f"Importing {kind.noun}", total=len(rows))
        return import_rows(kind, services, rows, lambda: progress.advance(task))


def progress_bar(console: Console) -> Progress:
    """The bar that long work shows on a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )


def show_problems(console: Console, problems: list[Problem]) -> None:
    """Prints what is wrong as a table: line, field, value, reason."""
    table = Table("line", "field", "value", "reason", title="Rows that cannot be imported")
    for problem in problems[:MOST_PROBLEMS_SHOWN]:
        shown = problem.value if len(problem.value) <= 40 else f"{problem.value[:37]}..."
        table.add_row(str(problem.line), problem.field, repr(shown), problem.reason)
    console.print(table)
    if len(problems) > MOST_PROBLEMS_SHOWN:
        console.print(f"... and {len(problems) - MOST_PROBLEMS_SHOWN} more problems")


def command(kind: Import, words: list[str] | None, program: str, console: Console) -> int:
    """Reads the command line and runs an import; the exit status."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"Imports {kind.noun} from a CSV file. Nothing is written while a row is "
        "wrong, and importing the same file again changes nothing.",
        epilog=f"Columns: {','.join(kind.columns.all)}. {kind.column_notes}",
    )
    parser.add_argument("file", type=Path, help="the CSV file")
    parser.add_argument(
        "--stage", default=local.STAGE, help="where to: the running local stack unless given"
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="import the good rows and save the wrong ones to <file>.invalid.csv",
    )
    arguments = parser.parse_args(words)
    try:
        return _run(kind, arguments, console)
    except UnreadableFileError as error:
        console.print(f"error: {arguments.file}: {error}", markup=False)
    except (local.NotRunningError, deploy.DeployError) as error:
        console.print(f"error: {error}", markup=False)
    return 1


def _run(kind: Import, arguments: argparse.Namespace, console: Console) -> int:
    services = stacks.services_of(arguments.stage)
    path: Path = arguments.file
    checked = kind.check(services, csv_file.read(path))
    if checked.problems:
        show_problems(console, checked.problems)
        if not arguments.skip_invalid:
            console.print(
                f"{len(checked.bad)} of {len(checked.bad) + len(checked.good)} rows are wrong. "
                "Nothing was written. Correct them, or import the others with --skip-invalid "
                "(make: SKIP_INVALID=1)."
            )
            return 1
        rejected = path.with_name(f"{path.stem}.invalid.csv")
        rejected.write_text(csv_file.write(checked.bad, kind.columns), encoding="utf-8")
        console.print(f"{len(checked.bad)} wrong rows are saved to {rejected}")
    imported = import_with_progress(kind, services, checked.good, console)
    console.print(f"Imported {len(checked.good):,} {kind.noun}: {imported}.")
    if imported.failures:
        show_problems(console, imported.failures)
        console.print("These rows were not written. Run the same import again to finish it.")
        return 1
    return 0
