"""Imports the credits that users have elsewhere, batch by batch, as the opening of their ledgers.

    python -m infra.import_balances file.csv [--stage prod] [--skip-invalid]

(make balances CSV=file.csv; docs/migrating.md)
"""

from __future__ import annotations

import sys
from datetime import datetime
from typing import NamedTuple

from rich.console import Console

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import FieldReader, parse_amount, parse_key, parse_text, parse_user_id
from chalicelib.domain.instants import parse_instant
from chalicelib.operations import carry_over
from chalicelib.services import Services
from infra import csv_file
from infra.csv_file import CheckedFile, Columns, Row
from infra.importing import Import, ImportRow, command

COLUMNS = Columns(
    required=("reference", "user_id", "amount", "granted_at"),
    optional=("expires_at", "description"),
    amounts=frozenset({"amount"}),
)

CALLER = "import/balances"
"""Whose idempotency keys the references are; no token can be this caller, for its slash."""


class Batch(NamedTuple):
    """What is left of one batch: ``reference`` is its name in the system it comes from."""

    reference: str
    user_id: str
    amount: int
    granted_at: datetime
    expires_at: datetime | None
    description: str


def batch_of(row: Row, now: datetime) -> Batch:
    """The batch that a row describes. Raises `InvalidInput` naming every wrong column."""

    def parse_past(field: str, value: object) -> datetime:
        instant = parse_instant(field, value)
        if instant > now:
            raise InvalidInput.of(field, "must not be ahead of the clock")
        return instant

    def parse_future(field: str, value: object) -> datetime:
        instant = parse_instant(field, value)
        if instant <= now:
            raise InvalidInput.of(field, "is over: leave out what has expired")
        return instant

    fields = FieldReader(row.fields(COLUMNS), "row")
    batch = Batch(
        fields.required("reference", parse_key),
        fields.required("user_id", parse_user_id),
        fields.required("amount", parse_amount),
        fields.required("granted_at", parse_past),
        fields.optional("expires_at", parse_future),
        fields.optional("description", parse_text) or "Carried over",
    )
    fields.finish()
    return batch


def check(services: Services, text: str) -> CheckedFile:
    """Checks every row. Raises `UnreadableFileError` for a text without our columns."""
    now = services.now()
    return csv_file.check(text, COLUMNS, lambda row: ("reference", batch_of(row, now).reference))


def writer(services: Services) -> ImportRow:
    """Writes each under its reference, once and for ever."""
    now = services.now()

    def import_row(row: Row) -> str:
        batch = batch_of(row, now)
        outcome = carry_over(
            services,
            batch.user_id,
            batch.amount,
            batch.granted_at,
            batch.expires_at,
            batch.description,
            caller=CALLER,
            key=batch.reference,
        )
        return "unchanged" if outcome.replayed else "new"

    return import_row


BALANCES = Import(
    noun="credit batches",
    columns=COLUMNS,
    outcomes=("new", "unchanged"),
    check=check,
    writer=writer,
    column_notes="The last two may be empty or left out: no expires_at is for ever.",
)


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the import; the exit status."""
    return command(BALANCES, words, "python -m infra balances", Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
