"""Shared by the repair commands: options, the question, the dry run, progress, the summary.

A command first reads. Then it says what it is about to do and calls `Repair.is_agreed`. Then it
acts and returns a `Summary`. Standard output is for programs (`--json`, exported data), standard
error for people. To finish an interrupted command, run it again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chalicelib.domain.errors import CreditsError
from chalicelib.domain.fields import FieldReader, Parser
from chalicelib.services import Services
from infra import reach, session
from infra.arguments import add_stage
from infra.faults import FAULTS
from infra.local import stacks
from infra.reach import Reach
from infra.terminal import is_agreed, progress_bar

Element = TypeVar("Element")
Result = TypeVar("Result")
Parsed = TypeVar("Parsed")

FAILURES = (CreditsError, *FAULTS)
"""Errors in one part of a command's work that do not end the command."""

INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended."""


class RepairError(Exception):
    """The command cannot do its work; the message says why, and what to do."""


@dataclass(frozen=True)
class Summary:
    """The result of a command: a sentence for people, facts for programs.

    ``is_complete``: whether the command did all of its work; if not, the exit status is 1.
    """

    text: str
    facts: dict[str, Any]
    is_complete: bool = True


class Repair:
    """A stage within reach, and the person at the terminal."""

    def __init__(
        self,
        stage: str,
        console: Console,
        *,
        region: str | None = None,
        is_dry_run: bool = False,
        is_unasked: bool = False,
    ) -> None:
        self._stage = stage
        self._region = region
        self.is_dry_run = is_dry_run
        self._console = console
        self._is_unasked = is_unasked

    @cached_property
    def reach(self) -> Reach:
        """The parts of the stage; looked up only after the options have been read."""
        return reach.reach(self._stage, self._region)

    @property
    def services(self) -> Services:
        """The services of the stage."""
        return self.reach.services

    def say(self, line: str) -> None:
        """Shows the person a message."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def show(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Shows a table; columns whose name begins with # are numbers."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            is_number = column.startswith("#")
            table.add_column(
                column.lstrip("#"), justify="right" if is_number else "left", overflow="fold"
            )
        for row in rows:
            table.add_row(
                *(f"{cell:,}" if isinstance(cell, int) else Text(str(cell)) for cell in row)
            )
        self._console.print(table)

    def is_agreed(self, what: str) -> bool:
        """Shows what the command is about to do and asks; False in a dry run.

        Raises `RepairError` when the person says no, and when there is nobody to ask.
        """
        if self.is_dry_run:
            self.say(f"Would {what}. This is a dry run: nothing is changed.")
            return False
        self.say(f"About to {what}.")
        if self._is_unasked:
            return True
        if not sys.stdin.isatty():
            raise RepairError(
                "There is nobody to ask. Add --yes (YES=1 with make) to do it unasked."
            )
        if not is_agreed(self._console):
            raise RepairError("Declined: nothing was changed.")
        return True

    def follow(
        self, what: str, elements: Iterable[Element], total: int | None = None
    ) -> Iterator[Element]:
        """The elements one by one, behind a progress bar."""
        with progress_bar(self._console) as progress:
            task = progress.add_task(what, total=total)
            for element in elements:
                yield element
                progress.advance(task)

    def each(
        self, what: str, elements: Sequence[Element], do: Callable[[Element], Result]
    ) -> dict[Element, Result | Exception]:
        """The results of ``do`` for each element, many at once, behind a progress bar.

        A failure is the result of its own element and stops no other.
        """
        results: dict[Element, Result | Exception] = {}
        with ThreadPoolExecutor(self.services.threads) as pool:
            futures = {pool.submit(do, element): element for element in elements}
            try:
                for future in self.follow(what, as_completed(futures), len(futures)):
                    try:
                        results[futures[future]] = future.result()
                    except Exception as error:  # noqa: BLE001 - it is the element's result
                        results[futures[future]] = error
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
        return {element: results[element] for element in elements if element in results}


def parser_of(name: str, description: str, *, changes: bool = True) -> argparse.ArgumentParser:
    """The parser of a command, with the options of all commands."""
    parser = argparse.ArgumentParser(
        prog=f"python -m infra {name}",
        description=description,
        epilog=f"docs/repair.md says when to use it, with an example. With make: make {name} ...",
    )
    add_stage(parser)
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    if changes:
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="also print the outcome as JSON")
    return parser


def run(
    parser: argparse.ArgumentParser,
    command: Callable[[Repair, argparse.Namespace], Summary],
    words: list[str] | None = None,
) -> int:
    """Reads the command line and runs the command; the exit status."""
    arguments = parser.parse_args(words)
    console = Console(stderr=True)
    try:
        reach.check_name(arguments.stage)
        repair = Repair(
            arguments.stage,
            console,
            region=arguments.region,
            is_dry_run=arguments.dry_run,
            is_unasked=getattr(arguments, "yes", False),
        )
        summary = command(repair, arguments)
    except (RepairError, stacks.NotRunningError, session.AwsError, *FAILURES) as error:
        console.print(
            f"error: {session.words(error)}", markup=False, highlight=False, soft_wrap=True
        )
        return 1
    except KeyboardInterrupt:
        console.print("Interrupted. Run the same command again to finish what it began.")
        return INTERRUPTED
    repair.say(summary.text)
    if getattr(arguments, "json", False):
        print(json.dumps({"dry_run": repair.is_dry_run, **summary.facts}))
    return 0 if summary.is_complete else 1


def parsed(field: str, parser: Parser[Parsed], value: object) -> Parsed:
    """One option's value, read as the API reads it. Raises `InvalidInput` naming the option."""
    reader = FieldReader({field: value}, "options")
    result = reader.required(field, parser)
    reader.finish()
    return result
