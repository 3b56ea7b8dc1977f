"""Reading a CSV file of subscriptions: every row is checked before anything is written."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, register

REQUIRED = (
    "user_id",
    "email",
    "timezone",
    "plan",
    "billing_interval",
    "status",
    "started_at",
)
OPTIONAL = ("eligible_from", "allocation_amount")
COLUMNS = (*REQUIRED, *OPTIONAL)

# Longer ones are refused by the fields anyway; this keeps a file that is no CSV out of memory.
_LONGEST_FIELD = 10_000


class UnreadableFileError(Exception):
    """The file as a whole is not a CSV file of subscriptions; the message says what to do."""


@dataclass(frozen=True)
class Row:
    """A row and the line of the file it starts on."""

    line: int
    values: dict[str, str]

    def fields(self) -> dict[str, object]:
        """The values as `register` takes them: empty means absent, amounts are numbers."""
        values: dict[str, object] = {
            name: value.strip() or None for name, value in self.values.items()
        }
        amount = values.get("allocation_amount")
        # Only plain digits become a number; the rest stays text, which the field then refuses.
        if isinstance(amount, str) and amount.isascii() and amount.isdigit() and len(amount) < 20:
            values["allocation_amount"] = int(amount)
        return values


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


def check(text: str, catalogue: PlanCatalogue, now: datetime) -> CheckedFile:
    """Checks every row of a CSV text. Raises `UnreadableFileError` for one without our columns."""
    checked = CheckedFile([], [], [])
    seen: dict[str, int] = {}
    for row in _rows(text):
        problems = list(_problems(row, catalogue, now, seen))
        checked.problems.extend(problems)
        (checked.bad if problems else checked.good).append(row)
    return checked


def subscription_of(
    row: Row, catalogue: PlanCatalogue, now: datetime, existing: Subscription | None
) -> Subscription:
    """The subscription a row describes, as the successor of ``existing``."""
    return register(row.fields(), catalogue, now, existing)


def write(rows: list[Row]) -> str:
    """Rows as a CSV text that can be imported once it is corrected."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.values for row in rows)
    return text.getvalue()


def _rows(text: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, [])
        _check_header(header)
        line = reader.line_num + 1
        for values in reader:
            if values:
                yield Row(line, _named(header, values))
            line = reader.line_num + 1
    except csv.Error as error:
        raise UnreadableFileError(f"line {reader.line_num}: this is not CSV ({error})") from error


def _check_header(header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    if missing or unknown or len(set(header)) != len(header):
        raise UnreadableFileError(
            f"line 1: the columns must be {','.join(COLUMNS)} (the last two may be left out)"
            + (f"; missing: {', '.join(missing)}" if missing else "")
            + (f"; unknown: {', '.join(name[:40] for name in unknown[:10])}" if unknown else "")
        )


def _named(header: list[str], values: list[str]) -> dict[str, str]:
    named = dict(zip(header, values, strict=False))
    if len(values) > len(header):
        named["too many values"] = ",".join(values[len(header) :])
    return named


def _problems(
    row: Row, catalogue: PlanCatalogue, now: datetime, seen: dict[str, int]
) -> Iterator[Problem]:
    def problem(field: str, reason: str) -> Problem:
        return Problem(row.line, field, row.values.get(field, ""), reason)

    try:
        subscription = subscription_of(row, catalogue, now, None)
    except InvalidInput as error:
        for wrong in error.errors:
            yield problem(wrong.field, wrong.message)
        return
    first = seen.setdefault(subscription.user_id, row.line)
    if first != row.line:
        yield problem("user_id", f"is on line {first} already; keep one of the two")
