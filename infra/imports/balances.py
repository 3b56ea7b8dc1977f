"""Imports credits from another system, batch by batch, as the first lines of users' ledgers.

docs/migrating.md has the columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from chalicelib.domain.batches import DEFAULT_PRIORITY
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import (
    FieldReader,
    parse_amount,
    parse_key,
    parse_priority,
    parse_text,
    parse_user_id,
)
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.operations.on_request import CarryOver, carry_over
from chalicelib.services import Services
from infra.imports.csv_file import Columns, Finding, Row
from infra.imports.earlier import Asked, compared_with_earlier
from infra.imports.importing import (
    Examined,
    Import,
    ImportRow,
    Watch,
)
from infra.imports.receivers import receivers_of

COLUMNS = Columns(
    required=("reference", "user_id", "amount", "granted_at"),
    optional=("expires_at", "description", "priority"),
    amounts=frozenset({"amount", "priority"}),
    texts=frozenset({"description"}),
)

CALLER = "import/balances"
"""The caller that owns the references as idempotency keys. No token is it, because of the slash."""


def batch_of(row: Row, now: datetime) -> CarryOver:
    """The batch that a row describes. Raises `InvalidInput`, which names every wrong column."""

    def parse_past(field: str, value: object) -> datetime:
        instant = parse_instant(field, value)
        if instant > now:
            raise InvalidInput.of(field, "must not be ahead of the clock")
        return instant

    fields = FieldReader(row.fields(COLUMNS), "row")
    reference = fields.required("reference", parse_key)
    priority = fields.optional("priority", parse_priority)
    batch = CarryOver(
        user_id=fields.required("user_id", parse_user_id),
        amount=fields.required("amount", parse_amount),
        granted_at=fields.required("granted_at", parse_past),
        expires_at=fields.optional("expires_at", parse_instant),
        description=fields.optional("description", parse_text) or "Carried over",
        caller=CALLER,
        key=reference,
        priority=DEFAULT_PRIORITY if priority is None else priority,
    )
    fields.finish()
    return batch


def name_of(row: Row, _catalogue: PlanCatalogue, now: datetime) -> tuple[str, str]:
    """Checks a row by itself. A file may have each reference once."""
    return "reference", batch_of(row, now).key


# --- Against what is stored -----------------------------------------------------------------------


def examine(services: Services, rows: list[Row], watch: Watch) -> Examined:
    """Compares rows with earlier imports, and with the users and their open batches.

    A row that was imported before with the same values is right, whatever happened to it since.
    """
    now = services.now()
    batches = {row.line: batch_of(row, now) for row in rows}
    earlier = compared_with_earlier(
        services,
        "reference",
        {batches[row.line].operation: Asked(row, batches[row.line].described()) for row in rows},
        lambda row, entry: _imported_otherwise(row, batches[row.line], entry),
        watch,
        "Comparing with earlier imports",
    )
    findings = earlier.findings
    findings += _expired(earlier.new, batches, now)
    findings += receivers_of(services, earlier.new, watch).findings
    return Examined(findings, [])


def _imported_otherwise(row: Row, batch: CarryOver, entry: LedgerEntry) -> Finding:
    """Names the first column in which a row differs from the earlier import of its reference."""
    granted = entry.granted_batch
    granted_at = granted.granted_at if granted else entry.effective_at
    expires_at = granted.expires_at if granted else None
    is_other = {
        "amount": batch.amount != entry.amount,
        "user_id": batch.user_id != entry.user_id,
        "granted_at": batch.granted_at != granted_at,
        "expires_at": batch.expires_at != expires_at,
        "description": batch.description != entry.description,
        "priority": granted is not None and batch.priority != granted.priority,
    }
    column = next((name for name, differs in is_other.items() if differs), "reference")
    until = f"expiring {format_instant(expires_at)}" if expires_at else "never expiring"
    reason = (
        f"the reference {batch.key} was imported before, as {entry.amount:,} credits of user "
        f"{entry.user_id}, granted {format_instant(granted_at)}, {until}, "
        f"{entry.description!r} (transaction {entry.transaction_id}); leave the row out, or give "
        "it a reference of its own if it is another batch"
    )
    return Finding(row.problem(column, reason), [row])


def _expired(rows: list[Row], batches: dict[int, CarryOver], now: datetime) -> Iterator[Finding]:
    for row in rows:
        expires_at = batches[row.line].expires_at
        if expires_at and expires_at <= now:
            yield Finding(row.problem("expires_at", "is over: leave out what has expired"), [row])


def writer(services: Services) -> ImportRow:
    """Writes each row under its reference, once and for ever."""
    now = services.now()

    def import_row(row: Row) -> str:
        return "unchanged" if carry_over(services, batch_of(row, now)).replayed else "new"

    return import_row


BALANCES = Import(
    noun="credit batches",
    columns=COLUMNS,
    outcomes=("new", "unchanged"),
    name_of=name_of,
    examine=examine,
    writer=writer,
    column_notes="The last two may be empty or left out: no expires_at is for ever.",
)
