"""The movements of credits in another system: a row for each, from that system's own records.

docs/migrating.md has the columns. One file serves two commands: `make usages` spends its usages
here, and `make shadow` compares all movements with the ledgers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chalicelib.domain.fields import (
    FieldReader,
    parse_choice,
    parse_key,
    parse_signed_amount,
    parse_text,
    parse_user_id,
)
from chalicelib.domain.instants import parse_past
from chalicelib.domain.plans import PlanCatalogue
from infra.imports import csv_file
from infra.imports.csv_file import CheckedFile, Columns, Row, UnreadableFileError

COLUMNS = Columns(
    required=("reference", "user_id", "at", "kind", "amount"),
    optional=("description",),
    amounts=frozenset({"amount"}),
    texts=frozenset({"description"}),
)

MOST_MOVEMENTS = 2_000_000
"""The most rows of a file: some 3 GB of memory."""

_SIGNED = re.compile(r"[+-][0-9]{1,19}", re.ASCII)


class Kind(StrEnum):
    """The kind of a movement. Reversals, refunds and corrections are adjustments."""

    ALLOCATION = "allocation"
    EXPIRATION = "expiration"
    USAGE = "usage"
    PURCHASE = "purchase"
    ADJUSTMENT = "adjustment"


_GIVES = frozenset({Kind.ALLOCATION, Kind.PURCHASE})
_TAKES = frozenset({Kind.EXPIRATION, Kind.USAGE})


@dataclass(frozen=True, slots=True)
class Movement:
    """A movement of another system, and the line of the file on which it stands.

    ``reference``: its name there, unique for ever; for a usage, also the idempotency key under
    which it is spent here. ``amount``: signed, as in a ledger. ``description``: empty for none.
    """

    line: int
    reference: str
    user_id: str
    at: datetime
    kind: Kind
    amount: int
    description: str = ""


def movement_of(row: Row, now: datetime) -> Movement:
    """The movement in a row. Raises `InvalidInput`, which names every wrong column."""
    fields = FieldReader(row.fields(COLUMNS), "row")
    movement = Movement(
        line=row.line,
        reference=fields.required("reference", parse_key),
        user_id=fields.required("user_id", parse_user_id),
        at=fields.required("at", parse_past(now)),
        kind=fields.required("kind", _parse_kind),
        amount=fields.required("amount", _parse_amount),
        description=fields.optional("description", parse_text) or "",
    )
    amount: int | None = movement.amount  # None if it could not be read
    if amount is not None:
        if movement.kind in _TAKES and amount > 0:
            fields.reject(
                "amount", f"must be negative: this kind, {movement.kind}, takes; is {amount}"
            )
        if movement.kind in _GIVES and amount < 0:
            fields.reject(
                "amount",
                f"must be positive: this kind, {movement.kind}, gives; is {amount}. What was "
                "taken back is an adjustment",
            )
    fields.finish()
    return movement


def _parse_kind(field: str, value: object) -> Kind:
    return parse_choice(Kind)(field, value.lower() if isinstance(value, str) else value)


def _parse_amount(field: str, value: object) -> int:
    # A row only makes numbers of plain digits, and most of these have a sign.
    is_signed = isinstance(value, str) and _SIGNED.fullmatch(value)
    return parse_signed_amount(field, int(str(value)) if is_signed else value)


def name_of(row: Row, _catalogue: PlanCatalogue, now: datetime) -> tuple[str, str]:
    """Checks a row by itself. A file may have each reference once."""
    return "reference", movement_of(row, now).reference


def check(text: str, now: datetime) -> CheckedFile:
    """Checks every row of a text. Raises `UnreadableFileError` for other columns or too many rows.

    The good rows are read by `read`.
    """
    lines = text.count("\n")
    if lines > MOST_MOVEMENTS:
        raise UnreadableFileError(
            f"has {lines:,} lines, and {MOST_MOVEMENTS:,} are the most allowed: export fewer users "
            "or days"
        )
    return csv_file.check(text, COLUMNS, lambda row: ("reference", movement_of(row, now).reference))


def read(rows: Iterable[Row], now: datetime) -> list[Movement]:
    """The movements of checked rows, in the order of their instants, then of the file."""
    found = [movement_of(row, now) for row in rows]
    found.sort(key=lambda movement: (movement.at, movement.line))
    return found
