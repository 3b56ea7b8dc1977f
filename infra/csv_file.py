"""CSV files that people hand in: read strictly, so that every row is checked before any is used."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chalicelib.domain.errors import InvalidInput

# Longer ones are refused by the fields anyway; this keeps a file that is no CSV out of memory.
_LONGEST_FIELD = 10_000


class UnreadableFileError(Exception):
    """The file as a whole is not a CSV file with our columns; the message says what to do."""


class Columns(NamedTuple):
    """The columns of a kind of file; the optional ones may be empty or left out.

    ``amounts`` are those whose plain digits are read as numbers.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    amounts: frozenset[str]

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, in the order they are written in."""
        return (*self.required, *self.optional)


@dataclass(frozen=True)
class Row:
    """A row and the line of the file it starts on."""

    line: int
    values: dict[str, str]

    def fields(self, columns: Columns) -> dict[str, object]:
        """The values as parsers take them: empty means absent, amounts are numbers."""
        values: dict[str, object] = {
            name: value.strip() or None for name, value in self.values.items()
        }
        for name in columns.amounts & values.keys():
            digits = values[name]
            # Only plain digits become a number; the rest stays text, which its field then refuses.
            if (
                isinstance(digits, str)
                and digits.isascii()
                and digits.isdigit()
                and len(digits) < 20
            ):
                values[name] = int(digits)
        return values

    def problem(self, field: str, reason: str) -> Problem:
        """What is wrong with one field of this row."""
        return Problem(self.line, field, self.values.get(field, ""), reason)


class Problem(NamedTuple):
    """What is wrong with one field of one row."""

    line: int
    field: str
    value: str
    reason: str


@dataclass(frozen=True)
class CheckedFile:
    """The rows that can be imported, those that cannot, and why."""

    good: list[Row]
    bad: list[Row]
    problems: list[Problem]


def read(path: Path) -> str:
    """The text of a file. Raises `UnreadableFileError`, which says what to do."""
    try:
        # utf-8-sig: spreadsheets like to put a byte order mark in front.
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFileError("is not UTF-8 text; save it as UTF-8 CSV") from error


def check(text: str, columns: Columns, name_of: Callable[[Row], tuple[str, str]]) -> CheckedFile:
    """Checks every row of a CSV text.

    ``name_of`` parses a row, raising `InvalidInput` for a wrong one, and answers the column and the
    value that no other row may have. Raises `UnreadableFileError` for a text without our columns.
    """
    checked = CheckedFile([], [], [])
    seen: dict[str, int] = {}
    for row in _rows(text, columns):
        try:
            column, name = name_of(row)
        except InvalidInput as error:
            problems = [row.problem(wrong.field, wrong.message) for wrong in error.errors]
        else:
            first = seen.setdefault(name, row.line)
            problems = (
                [row.problem(column, f"is on line {first} already; keep one of the two")]
                if first != row.line
                else []
            )
        checked.problems.extend(problems)
        (checked.bad if problems else checked.good).append(row)
    return checked


def write(rows: list[Row], columns: Columns) -> str:
    """Rows as a CSV text that can be imported once it is corrected."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns.all, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.values for row in rows)
    return text.getvalue()


def _rows(text: str, columns: Columns) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_header(header, columns)
        line = reader.line_num + 1
        for values in reader:
            if values:
                yield Row(line, _named(header, values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFileError(f"line {reader.line_num}: this is not CSV ({error})") from error


def _check_header(header: list[str], columns: Columns) -> None:
    missing = [name for name in columns.required if name not in header]
    unknown = [name for name in header if name not in columns.all]
    if missing or unknown or len(set(header)) != len(header):
        raise UnreadableFileError(
            f"line 1: the columns must be {','.join(columns.all)} "
            f"({', '.join(columns.optional)} may be left out)"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(name[:40] for name in unknown[:10])}" if unknown else "")
        )


def _named(header: list[str], values: list[str]) -> dict[str, str]:
    named = dict(zip(header, values, strict=False))
    if len(values) > len(header):
        named["too many values"] = ",".join(values[len(header) :])
    return named
