"""What the commands that import a file have in common: check it all, then write it row by row.

Every row is checked first, by itself and against what is stored; nothing is written while one is
wrong. The rows of one user are written one after the other, in the order of the file. Importing a
file again changes nothing, and an import that was interrupted is finished by running it again.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from chalicelib.domain.errors import CreditsError, Unreadable
from chalicelib.domain.plans import CatalogueError, PlanCatalogue, parse_catalogue
from chalicelib.services import PLANS_FILE, Services, read_clock
from chalicelib.store.errors import FAULTS
from infra import csv_file, local, session, stacks
from infra.arguments import add_stage
from infra.csv_file import CheckedFile, Columns, Finding, Problem, Row, UnreadableFileError

MOST_PROBLEMS_SHOWN = 50

KEYS_A_READ = 100
"""How many things one request reads: as many keys as DynamoDB takes."""

INTERRUPTED = 130
"""The exit status of a program that was ended by Ctrl-C."""

Key = TypeVar("Key")
Value = TypeVar("Value")

ImportRow = Callable[[Row], str]
"""Writes a row that was checked, in a way that can be repeated; answers what became of it."""

Advance = Callable[[int], object]
"""Is told how much more of a work is done."""

Watch = Callable[[str, int], Advance]
"""Is told that work of a name and a size begins; answers what is to be told of its progress."""


class Examined(NamedTuple):
    """What was found in rows when they were compared with what is stored."""

    findings: list[Finding]
    warnings: list[str]


@dataclass(frozen=True)
class Import:
    """A kind of file and how its rows are checked and written.

    ``name_of`` checks a row by itself; see `csv_file.check`. ``examine`` compares rows that are
    right by themselves with what is stored.
    """

    noun: str
    columns: Columns
    outcomes: tuple[str, ...]
    name_of: Callable[[Row, PlanCatalogue, datetime], tuple[str, str]]
    examine: Callable[[Services, list[Row], Watch], Examined]
    writer: Callable[[Services], ImportRow]
    column_notes: str

    def check_alone(self, text: str, catalogue: PlanCatalogue, now: datetime) -> CheckedFile:
        """Checks every row by itself. Raises `UnreadableFileError` for a text of other columns."""
        return csv_file.check(text, self.columns, lambda row: self.name_of(row, catalogue, now))

    def check(self, services: Services, text: str, watch: Watch | None = None) -> CheckedFile:
        """Checks every row, also against what is stored. Raises `UnreadableFileError`."""
        alone = self.check_alone(text, services.catalogue, services.now())
        examined = self.examine(services, alone.good, watch or _unwatched)
        return alone.rejecting(examined.findings, examined.warnings)


@dataclass
class Imported:
    """What became of the rows, and which failed."""

    outcomes: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[word]:,} {word}" for word in self.outcomes)


def catalogue() -> PlanCatalogue:
    """The plans that a file is checked by when no stack is at hand. Raises `CatalogueError`."""
    return parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)


# --- Reading and writing many ---------------------------------------------------------------------


def user_id_of(row: Row) -> str:
    """Whose row it is."""
    return row.values["user_id"].strip()


def unreadable(error: Unreadable) -> str:
    """Why a row cannot be compared with what is stored."""
    return f"what is stored cannot be read ({error}); leave the row out until it is repaired"


def read_many(
    keys: Sequence[Key],
    read: Callable[[Sequence[Key]], Mapping[Key, Value]],
    advance: Advance,
    at_once: int = KEYS_A_READ,
) -> dict[Key, Value]:
    """What ``read`` answers for some keys at once, for all of them, many requests at a time."""
    parts = [keys[start : start + at_once] for start in range(0, len(keys), at_once)]
    found: dict[Key, Value] = {}
    with ThreadPoolExecutor(stacks.THREADS) as pool:
        for part, values in zip(parts, pool.map(read, parts), strict=True):
            found.update(values)
            advance(len(part))
    return found


def import_rows(
    kind: Import, services: Services, rows: list[Row], advance: Advance = lambda _: None
) -> Imported:
    """Writes rows that were checked: many users at once, each user's rows in their order.

    What DynamoDB is too busy to take is sent again. After a row that fails for good its user's
    later ones are not written: their order would be lost. All of them are in the answer.
    """
    imported = Imported(kind.outcomes)
    import_row = kind.writer(services)
    by_user: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_user[user_id_of(row)].append(row)

    def import_user(rows: list[Row]) -> Imported:
        of_user = Imported(kind.outcomes)
        for place, row in enumerate(rows):
            try:
                of_user.counts[import_row(row)] += 1
            except Exception as error:  # noqa: BLE001 - the rows of others go on
                of_user.failures = [
                    Problem(row.line, "", "", session.words(error)),
                    *(
                        later.problem("user_id", f"comes after line {row.line}, which failed")
                        for later in rows[place + 1 :]
                    ),
                ]
                break
            advance(1)
        return of_user

    with ThreadPoolExecutor(stacks.THREADS) as pool:
        futures = [pool.submit(import_user, rows) for rows in by_user.values()]
        try:
            for future in as_completed(futures):
                of_user = future.result()
                imported.counts += of_user.counts
                imported.failures += of_user.failures
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    imported.failures.sort()
    return imported


# --- What people see ------------------------------------------------------------------------------


def check_with_progress(
    kind: Import, services: Services, text: str, console: Console
) -> CheckedFile:
    """Checks every row behind a progress bar, and shows what is probably meant otherwise."""
    with _watched(console) as watch:
        checked = kind.check(services, text, watch)
    show_warnings(console, checked.warnings)
    return checked


def import_with_progress(
    kind: Import, services: Services, rows: list[Row], console: Console
) -> Imported:
    """Imports rows behind a progress bar."""
    with _watched(console) as watch:
        return import_rows(kind, services, rows, watch(f"Importing {kind.noun}", len(rows)))


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
def _watched(console: Console) -> Iterator[Watch]:
    with progress_bar(console) as progress:

        def watch(what: str, size: int) -> Advance:
            task = progress.add_task(what, total=size)
            return lambda more: progress.advance(task, more)

        yield watch


def _unwatched(_what: str, _size: int) -> Advance:
    return lambda _more: None


def show_problems(console: Console, problems: list[Problem]) -> None:
    """Prints what is wrong as a table: line, field, value, reason."""
    table = Table("line", "field", "value", "reason", title="Rows that cannot be imported")
    for problem in problems[:MOST_PROBLEMS_SHOWN]:
        shown = problem.value if len(problem.value) <= 40 else f"{problem.value[:37]}..."
        table.add_row(*map(_plain, (str(problem.line), problem.field, repr(shown), problem.reason)))
    console.print(table)
    if len(problems) > MOST_PROBLEMS_SHOWN:
        console.print(f"... and {len(problems) - MOST_PROBLEMS_SHOWN} more problems")


def show_warnings(console: Console, warnings: list[str]) -> None:
    """Prints what can be imported and is probably meant otherwise."""
    for warning in warnings[:MOST_PROBLEMS_SHOWN]:
        console.print(f"Warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if len(warnings) > MOST_PROBLEMS_SHOWN:
        console.print(f"... and {len(warnings) - MOST_PROBLEMS_SHOWN} more warnings")


def _plain(text: str) -> str:
    """A text that rich prints as it is."""
    return text.replace("[", "\\[")


# --- The command ----------------------------------------------------------------------------------


def command(kind: Import, words: list[str] | None, program: str, console: Console) -> int:
    """Reads the command line and runs an import; the exit status."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=f"Imports {kind.noun} from a CSV file. Nothing is written while a row is "
        "wrong, and importing the same file again changes nothing.",
        epilog=f"Columns: {','.join(kind.columns.all)}. {kind.column_notes}",
    )
    parser.add_argument("file", type=Path, help="the CSV file")
    add_stage(parser)
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="import the good rows and save the wrong ones to <file>.invalid.csv",
    )
    arguments = parser.parse_args(words)
    try:
        return _run(kind, arguments, console)
    except UnreadableFileError as error:
        console.print(f"error: {arguments.file}: {error}", markup=False, soft_wrap=True)
    except (CatalogueError, local.NotRunningError, session.AwsError) as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
    except (CreditsError, *FAULTS) as error:
        said = session.words(error)
        console.print(f"error: {said}\nNothing was written.", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same import again to finish it.")
        return INTERRUPTED
    return 1


def _run(kind: Import, arguments: argparse.Namespace, console: Console) -> int:
    stacks.check_name(arguments.stage)
    text = csv_file.read(arguments.file)
    services = _services(kind, text, arguments, console)
    checked = check_with_progress(kind, services, text, console)
    if checked.problems:
        show_problems(console, checked.problems)
        if not arguments.skip_invalid:
            console.print(
                f"{len(checked.bad)} of {len(checked.bad) + len(checked.good)} rows are wrong. "
                "Nothing was written. Correct them, or import the others with --skip-invalid "
                "(make: SKIP_INVALID=1)."
            )
            return 1
        _save_rejected(checked, arguments.file, console)
    imported = import_with_progress(kind, services, checked.good, console)
    console.print(f"Imported {len(checked.good):,} {kind.noun}: {imported}.")
    if imported.failures:
        show_problems(console, imported.failures)
        console.print("These rows were not written. Run the same import again to finish it.")
        return 1
    return 0


def _services(kind: Import, text: str, arguments: argparse.Namespace, console: Console) -> Services:
    """The services of a stage. When it is out of reach, what is wrong with the file is told too."""
    try:
        return stacks.services_of(arguments.stage, arguments.region)
    except (local.NotRunningError, session.AwsError):
        checked = kind.check_alone(text, catalogue(), read_clock())
        if checked.problems:
            show_problems(console, checked.problems)
        raise


def _save_rejected(checked: CheckedFile, path: Path, console: Console) -> None:
    rejected = path.with_name(f"{path.stem}.invalid.csv")
    try:
        rejected.write_bytes(checked.rejected.encode())
    except OSError as error:
        raise UnreadableFileError(
            f"the wrong rows cannot be saved to {rejected}: {error.strerror}. Nothing was written"
        ) from error
    console.print(f"{len(checked.bad)} wrong rows are saved to {rejected}")
