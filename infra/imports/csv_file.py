"""Reads CSV files strictly, so that every row is checked before any is used.

It accepts harmless additions of spreadsheets: a byte order mark, semicolons or tabs between the
columns, blanks and capitals in the header, empty columns and rows. It refuses values that a
spreadsheet has changed and says why: nobody can guess lost digits.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from chalicelib.domain.errors import InvalidInput

# The fields refuse longer values anyway. This limit keeps a file that is not CSV out of memory.
_LONGEST_FIELD = 10_000

_SEPARATORS = ",;\t"
_BYTE_ORDER_MARK = "\ufeff"

_OTHER_FILES = {
    b"PK\x03\x04": "is a spreadsheet or an archive, not text",
    b"\xd0\xcf\x11\xe0": "is a spreadsheet, not text",
    b"\xff\xfe": "is not UTF-8 text but UTF-16",
    b"\xfe\xff": "is not UTF-8 text but UTF-16",
}
"""The first bytes of files that were saved in another format by mistake."""


class UnreadableFileError(Exception):
    """The file is not a CSV file with our columns; the message says what to do."""


class Columns(NamedTuple):
    """The columns of a kind of file; the optional ones may be empty or left out.

    ``amounts``: columns whose plain digits are read as numbers. ``texts``: columns with free text,
    which is not checked for a spreadsheet's mistakes.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    amounts: frozenset[str]
    texts: frozenset[str]

    @property
    def all(self) -> tuple[str, ...]:
        """All of them, the required ones first."""
        return (*self.required, *self.optional)


@dataclass(frozen=True)
class Row:
    """A row, the line of the file on which it starts, and its exact text."""

    line: int
    raw: str
    values: dict[str, str]

    def fields(self, columns: Columns) -> dict[str, object]:
        """The values for a parser: an empty one is None, amounts are numbers.

        Columns that the file lacks are left out.
        """
        values: dict[str, object] = {
            name: value.strip() or None for name, value in self.values.items()
        }
        for name in columns.amounts & values.keys():
            digits = values[name]
            # Only plain digits become a number. Anything else stays text, and its field refuses it.
            if (
                isinstance(digits, str)
                and digits.isascii()
                and digits.isdigit()
                and len(digits) < 20
            ):
                values[name] = int(digits)
        return values

    def problem(self, field: str, reason: str) -> Problem:
        """A problem of one field of this row."""
        return Problem(self.line, field, self.values.get(field, ""), reason)


class Problem(NamedTuple):
    """What is wrong with one field of one row."""

    line: int
    field: str
    value: str
    reason: str


class Finding(NamedTuple):
    """A problem, and the rows that cannot be imported because of it."""

    problem: Problem
    rows: list[Row]


@dataclass(frozen=True)
class CheckedFile:
    """The rows that can be imported, those that cannot, and why.

    ``header``: the header as it stands in the file. ``warnings``: rows that can be imported, but
    probably mean something else. ``written``: how many rows were written before, if that was
    checked.
    """

    header: str
    good: list[Row]
    bad: list[Row]
    problems: list[Problem]
    warnings: list[str]
    written: int = 0

    def rejecting(self, findings: Iterable[Finding], warnings: list[str]) -> CheckedFile:
        """The same file after more findings in its good rows."""
        findings = list(findings)
        rejected = {row.line for finding in findings for row in finding.rows}
        by_line = {row.line: row for row in (*self.good, *self.bad)}
        bad = rejected | {row.line for row in self.bad}
        return replace(
            self,
            good=[row for row in self.good if row.line not in rejected],
            bad=[by_line[line] for line in sorted(bad)],
            problems=sorted([*self.problems, *(finding.problem for finding in findings)]),
            warnings=warnings,
        )

    @property
    def rejected(self) -> str:
        """The rows that cannot be imported, as a file of their own: byte for byte as they were."""
        return self.text_of(self.bad)

    def text_of(self, rows: Iterable[Row]) -> str:
        """Some rows as a file of their own, byte for byte as they were."""
        return self.header + "".join(row.raw for row in rows)


def read(path: Path) -> str:
    """The unchanged text of a file. Raises `UnreadableFileError`, which says what to do."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableFileError(f"cannot be read: {error.strerror}") from error
    advice = "save it as UTF-8 CSV (Excel calls that CSV UTF-8)"
    for beginning, what in _OTHER_FILES.items():
        if content.startswith(beginning):
            raise UnreadableFileError(f"{what}; {advice}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableFileError(f"line {line} is not UTF-8 text; {advice}") from error
    if "\0" in text:
        raise UnreadableFileError(f"has zero bytes in it, as UTF-16 text has; {advice}")
    return text


def check(text: str, columns: Columns, name_of: Callable[[Row], tuple[str, str]]) -> CheckedFile:
    """Checks every row of a CSV text.

    ``name_of`` parses a row and raises `InvalidInput` for a wrong one. It returns the column and
    the value that identify the row. If two rows have the same value, nobody knows which one is
    meant, so both are wrong. Raises `UnreadableFileError` for a text without our columns.
    """
    csv.field_size_limit(_LONGEST_FIELD)
    file = _File(text, columns)
    checked = CheckedFile(file.header, [], [], [], [])
    seen: dict[str, Row] = {}
    again: dict[int, Finding] = {}
    for row, of_shape in file.rows():
        problems = of_shape or _problems_of_values(row, columns, name_of, seen, again)
        checked.problems.extend(problems)
        (checked.bad if problems else checked.good).append(row)
    return checked.rejecting(again.values(), [])


def _problems_of_values(
    row: Row,
    columns: Columns,
    name_of: Callable[[Row], tuple[str, str]],
    seen: dict[str, Row],
    again: dict[int, Finding],
) -> list[Problem]:
    """The problems of a row. Problems of earlier rows that it repeats go into ``again``."""
    problems = _mangled(row, columns)
    fields = {problem.field for problem in problems}
    try:
        column, name = name_of(row)
    except InvalidInput as error:
        others = [wrong for wrong in error.errors if wrong.field not in fields]
        return problems + [row.problem(wrong.field, wrong.message) for wrong in others]
    first = seen.setdefault(name, row)
    if first is not row:
        advice = "keep one of the two"
        problems.append(row.problem(column, f"is on line {first.line}, too; {advice}"))
        problem = first.problem(column, f"is on line {row.line}, too; {advice}")
        again.setdefault(first.line, Finding(problem, [first]))
    return problems


# --- The file as a whole --------------------------------------------------------------------------


class _Lines:
    """The lines of a text one by one. It remembers the lines of the current row."""

    def __init__(self, text: str) -> None:
        self._lines = io.StringIO(text, newline="")
        self._taken = ""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._taken += line
        return line.removeprefix(_BYTE_ORDER_MARK)

    def taken(self) -> str:
        """The lines used since the last call, as they stand in the file."""
        taken, self._taken = self._taken, ""
        return taken


class _File:
    """A CSV text with our header."""

    def __init__(self, text: str, columns: Columns) -> None:
        self._lines = _Lines(text)
        self._reader = csv.reader(
            self._lines, strict=True, delimiter=_separator(text), skipinitialspace=True
        )
        self._names = [_column(name) for name in self._next() or ()]
        self.header = self._lines.taken()
        _check_header(self._names, columns)

    def rows(self) -> Iterator[tuple[Row, list[Problem]]]:
        """Each row that has any value, and the problems of its shape."""
        while True:
            line = self._reader.line_num + 1
            cells = self._next()
            raw = self._lines.taken()
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                values = {
                    name: cell for name, cell in zip(self._names, cells, strict=False) if name
                }
                row = Row(line, raw, values)
                yield row, list(self._problems_of_shape(row, cells))

    def _problems_of_shape(self, row: Row, cells: list[str]) -> Iterator[Problem]:
        # Every column needs a cell: a missing cell read as empty would clear the stored value.
        for name in self._names[len(cells) :]:
            if name:
                yield row.problem(
                    name,
                    f"the row ends before this column: it has {len(cells)} values, and the header "
                    f"{len(self._names)} columns; an empty value needs its separator, too",
                )
                return
        for place, cell in enumerate(cells):
            if cell.strip() and not (place < len(self._names) and self._names[place]):
                reason = "the header names no such column; a value with a separator needs quotes"
                yield Problem(row.line, f"column {place + 1}", cell, reason)

    def _next(self) -> list[str] | None:
        try:
            return next(self._reader, None)
        except csv.Error as error:
            raise UnreadableFileError(
                f"line {self._reader.line_num}: this is not CSV ({error})"
            ) from error


def _separator(text: str) -> str:
    """The separator of the header's columns; no column name contains a separator."""
    header = next(io.StringIO(text, newline=""), "")
    found = [separator for separator in _SEPARATORS if separator in header]
    if len(found) > 1:
        names = {",": "commas", ";": "semicolons", "\t": "tabs"}
        raise UnreadableFileError(
            f"line 1: has {' and '.join(names[each] for each in found)}; separate the columns with "
            "one of them only"
        )
    return found[0] if found else ","


def _column(name: str) -> str:
    """A column's name in our spelling: `User ID ` becomes `user_id`."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower())


def _check_header(names: list[str], columns: Columns) -> None:
    named = [name for name in names if name]
    missing = [name for name in columns.required if name not in named]
    unknown = [name for name in named if name not in columns.all]
    twice = sorted({name for name in named if named.count(name) > 1})
    if missing or unknown or twice:
        raise UnreadableFileError(
            f"line 1: the columns must be {','.join(columns.all)} "
            f"({', '.join(columns.optional)} may be left out)"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(name[:40] for name in unknown[:10])}" if unknown else "")
            + (f"; twice: {', '.join(name[:40] for name in twice[:10])}" if twice else "")
        )


# --- Values that programs have changed ------------------------------------------------------------

_OF_ANY = (
    (
        re.compile(r"NULL|null|None|NaN|nan|undefined|\\N"),
        "is what programs write for no value; leave it empty",
    ),
    (
        re.compile(r"#(?:N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)"),
        "is an error of a spreadsheet; correct its formula",
    ),
)
"""Texts that are never a value in any column, and the advice for each."""

_OF_NUMBERS = (
    (
        # With decimals or a sign: `5e12` can be an id, because no program writes a number like
        # that.
        re.compile(r"[0-9]+[.,][0-9]+[eE][+-]?[0-9]+|[0-9]+[eE][+-][0-9]+"),
        (
            "is a number that a spreadsheet has shortened, and its digits are lost; format the "
            "column as text and export it again"
        ),
    ),
    (
        re.compile(r"[0-9]{1,3}(?:[, '’\u00a0\u202f][0-9]{3})+"),
        "has thousands separators; write its digits only",
    ),
    (
        re.compile(r"[0-9]+[.,]0+"),
        (
            "is a number that a program has given decimals; write what is before them, and format "
            "the column as text"
        ),
    ),
    (
        re.compile("'.*"),
        "begins with the apostrophe by which spreadsheets tell text; leave it out",
    ),
)
"""The same for columns without free text: ids, numbers and times."""


def _mangled(row: Row, columns: Columns) -> list[Problem]:
    """Values that a program has changed: most of them could be taken for user ids."""
    problems = []
    for name, cell in row.values.items():
        for pattern, reason in _OF_ANY if name in columns.texts else _OF_ANY + _OF_NUMBERS:
            if pattern.fullmatch(cell.strip()):
                problems.append(row.problem(name, reason))
                break
    return problems
