"""Shared by the commands that import a file: check all rows, then write them one by one.

First every row is checked, by itself and against the stored data. Nothing is written if any row is
wrong. The rows of one user are written in the order of the file. Importing a file again changes
nothing. To finish an interrupted import, run it again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.domain.errors import Unreadable
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.plans_file import parse_catalogue
from chalicelib.services import PLANS_FILE, Services
from infra import session
from infra.deployment import stage_services
from infra.imports import csv_file
from infra.imports.csv_file import CheckedFile, Columns, Finding, Problem, Row
from infra.terminal import progress_bar

MOST_PROBLEMS_SHOWN = 50

KEYS_A_READ = 100
"""How many keys one request reads: DynamoDB's maximum."""


Key = TypeVar("Key")
Value = TypeVar("Value")

ImportRow = Callable[[Row], str]
"""Writes a checked row, in a way that can be repeated; returns the outcome."""

Advance = Callable[[int], object]
"""Called with the amount of work done since the last call."""

Watch = Callable[[str, int], Advance]
"""Called when work begins, with its name and size; returns the function to call with progress."""


class Examined(NamedTuple):
    """The result of comparing rows with the stored data.

    ``written``: how many rows were written before, for kinds of files that need this.
    """

    findings: list[Finding]
    warnings: list[str]
    written: int = 0


class RefusedRowError(Exception):
    """A row is right but cannot be written in the present state; the user's later rows go on.

    ``field``: the column that the refusal is about.
    """

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        super().__init__(reason)


@dataclass(frozen=True)
class Import:
    """A kind of file, and how to check and write its rows.

    ``name_of`` checks a row by itself; see `csv_file.check`. ``examine`` compares such rows with
    the stored data. ``order_of``: the sort key for the rows of a user; None keeps the order of the
    file.
    """

    noun: str
    columns: Columns
    outcomes: tuple[str, ...]
    name_of: Callable[[Row, PlanCatalogue, datetime], tuple[str, str]]
    examine: Callable[[Services, list[Row], Watch], Examined]
    writer: Callable[[Services], ImportRow]
    column_notes: str
    order_of: Callable[[Row], datetime] | None = None

    def check_alone(self, text: str, catalogue: PlanCatalogue, now: datetime) -> CheckedFile:
        """Checks every row by itself. Raises `UnreadableFileError` for a text of other columns."""
        return csv_file.check(text, self.columns, lambda row: self.name_of(row, catalogue, now))

    def check(self, services: Services, text: str, watch: Watch | None = None) -> CheckedFile:
        """Checks every row, also against the stored data. Raises `UnreadableFileError`."""
        alone = self.check_alone(text, services.catalogue, services.now())
        examined = self.examine(services, alone.good, watch or _unwatched)
        checked = alone.rejecting(examined.findings, examined.warnings)
        return replace(checked, written=examined.written)


REFUSED = "refused"
"""The outcome of a refused row."""


@dataclass
class Imported:
    """The outcomes of the rows, the failures, and what was refused."""

    outcomes: tuple[str, ...]
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Problem] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[word]:,} {word}" for word in self.outcomes)


def catalogue() -> PlanCatalogue:
    """The plans for checking a file without a stack. Raises `CatalogueError`."""
    return parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"), PLANS_FILE.name)


# --- Reading and writing in parallel --------------------------------------------------------------


def user_id_of(row: Row) -> str:
    """The user id of a row."""
    return row.values["user_id"].strip()


def unreadable(error: Unreadable) -> str:
    """Why a row cannot be compared with the stored data."""
    return f"what is stored cannot be read ({error}); leave the row out until it is repaired"


def read_many(
    keys: Sequence[Key],
    read: Callable[[Sequence[Key]], Mapping[Key, Value]],
    advance: Advance,
    at_once: int = KEYS_A_READ,
) -> dict[Key, Value]:
    """Calls ``read`` with some keys at once until all are read, in many parallel requests."""
    parts = [keys[start : start + at_once] for start in range(0, len(keys), at_once)]
    found: dict[Key, Value] = {}
    with ThreadPoolExecutor(stage_services.THREADS) as pool:
        for part, values in zip(parts, pool.map(read, parts), strict=True):
            found.update(values)
            advance(len(part))
    return found


def import_rows(
    kind: Import, services: Services, rows: list[Row], advance: Advance = lambda _: None
) -> Imported:
    """Writes checked rows: many users at once, each user's rows in order.

    When DynamoDB is too busy, the write is repeated. If a row fails for good, the user's later rows
    are not written, because that would break their order. The result names all of them. A refused
    row blocks no other row.
    """
    imported = Imported(kind.outcomes)
    import_row = kind.writer(services)
    by_user: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=kind.order_of) if kind.order_of else rows:
        by_user[user_id_of(row)].append(row)

    def import_user(rows: list[Row]) -> Imported:
        of_user = Imported(kind.outcomes)
        for place, row in enumerate(rows):
            try:
                of_user.counts[import_row(row)] += 1
            except RefusedRowError as refusal:
                of_user.counts[REFUSED] += 1
                of_user.refused.append(row.problem(refusal.field, str(refusal)))
            except Exception as error:  # noqa: BLE001 - the rows of other users go on
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

    with ThreadPoolExecutor(stage_services.THREADS) as pool:
        futures = [pool.submit(import_user, rows) for rows in by_user.values()]
        try:
            for future in as_completed(futures):
                of_user = future.result()
                imported.counts += of_user.counts
                imported.failures += of_user.failures
                imported.refused += of_user.refused
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise
    imported.failures.sort()
    imported.refused.sort()
    return imported


# --- Output ---------------------------------------------------------------------------------------


def check_with_progress(
    kind: Import, services: Services, text: str, console: Console
) -> CheckedFile:
    """Checks every row behind a progress bar, and shows the warnings."""
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
    """Prints the problems as a table: line, field, value, reason."""
    table = Table("line", "field", "value", "reason", title="Rows that cannot be imported")
    for problem in problems[:MOST_PROBLEMS_SHOWN]:
        shown = problem.value if len(problem.value) <= 40 else f"{problem.value[:37]}..."
        table.add_row(*map(Text, (str(problem.line), problem.field, repr(shown), problem.reason)))
    console.print(table)
    if len(problems) > MOST_PROBLEMS_SHOWN:
        console.print(f"... and {len(problems) - MOST_PROBLEMS_SHOWN} more problems")


def show_warnings(console: Console, warnings: list[str]) -> None:
    """Prints warnings: rows that can be imported, but probably mean something else."""
    for warning in warnings[:MOST_PROBLEMS_SHOWN]:
        console.print(f"Warning: {warning}", markup=False, highlight=False, soft_wrap=True)
    if len(warnings) > MOST_PROBLEMS_SHOWN:
        console.print(f"... and {len(warnings) - MOST_PROBLEMS_SHOWN} more warnings")
