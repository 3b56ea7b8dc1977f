"""Shared by the commands that import a file: their options and their output."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from chalicelib.domain.errors import CreditsError
from chalicelib.plans_file import CatalogueError
from chalicelib.services import Services, read_clock
from infra import reach, session
from infra.arguments import add_stage
from infra.faults import FAULTS
from infra.imports import csv_file
from infra.imports.csv_file import CheckedFile, Problem, UnreadableFileError
from infra.imports.importing import (
    REFUSED,
    Import,
    catalogue,
    check_with_progress,
    import_with_progress,
    show_problems,
)
from infra.local import stacks

Found = TypeVar("Found")

ServicesOf = Callable[[str, str | None], Services]

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended."""


def command(
    kind: Import,
    words: list[str] | None,
    program: str,
    console: Console,
    services_of: ServicesOf | None = None,
) -> int:
    """Reads the command line and runs an import; the exit status.

    ``services_of`` finds the services of a stage, by its name and region; the default finds any.
    """
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
    find = services_of or reach.services_of
    return attempt(lambda: _run(kind, arguments, console, find), arguments.file, console)


def attempt(work: Callable[[], int], file: Path, console: Console) -> int:
    """Runs a command's work on a file; returns the exit status, and prints why it failed."""
    try:
        return work()
    except UnreadableFileError as error:
        console.print(f"error: {file}: {error}", markup=False, soft_wrap=True)
    except (CatalogueError, stacks.NotRunningError, session.AwsError) as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True)
    except (CreditsError, *FAULTS) as error:
        said = session.words(error)
        console.print(f"error: {said}\nNothing was written.", markup=False, soft_wrap=True)
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to finish it.")
        return INTERRUPTED
    return 1


def _run(
    kind: Import, arguments: argparse.Namespace, console: Console, services_of: ServicesOf
) -> int:
    reach.check_name(arguments.stage)
    text = csv_file.read(arguments.file)
    services = reached(lambda: services_of(arguments.stage, arguments.region), kind, text, console)
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
        nothing = ". Nothing was written"
        rejected = _save(checked.rejected, arguments.file, "invalid", "the wrong rows", nothing)
        console.print(
            f"{len(checked.bad)} wrong rows are saved to {rejected}", markup=False, soft_wrap=True
        )
    imported = import_with_progress(kind, services, checked.good, console)
    console.print(f"Imported {len(checked.good):,} {kind.noun}: {imported}.")
    if imported.failures:
        show_problems(console, imported.failures)
        console.print("These rows were not written. Run the same import again to finish it.")
    if imported.refused:
        _tell_refused(imported.refused, checked, arguments.file, console)
    return 1 if imported.failures or imported.refused else 0


def reached(find: Callable[[], Found], kind: Import, text: str, console: Console) -> Found:
    """The parts of a stage. If it is out of reach, the mistakes in the file are shown, too."""
    try:
        return find()
    except (stacks.NotRunningError, session.AwsError):
        checked = kind.check_alone(text, catalogue(), read_clock())
        if checked.problems:
            show_problems(console, checked.problems)
        raise


def _tell_refused(
    refused: list[Problem], checked: CheckedFile, path: Path, console: Console
) -> None:
    show_problems(console, refused)
    lines = {problem.line for problem in refused}
    text = checked.text_of(row for row in checked.good if row.line in lines)
    saved = _save(text, path, REFUSED, "the refused rows")
    console.print(
        f"{len(refused):,} refused rows are saved to {saved}: import that file once there is "
        "enough.",
        markup=False,
        soft_wrap=True,
    )


def _save(text: str, path: Path, name: str, rows: str, so_far: str = "") -> Path:
    """Writes some ``rows`` beside the file they come from. Raises `UnreadableFileError`."""
    saved = path.with_name(f"{path.stem}.{name}.csv")
    try:
        saved.write_bytes(text.encode())
    except OSError as error:
        raise UnreadableFileError(
            f"{rows} cannot be saved to {saved}: {error.strerror}{so_far}"
        ) from error
    return saved
