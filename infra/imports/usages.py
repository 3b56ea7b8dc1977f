"""Spends in a shadow what users spent in the old system, from the file of its movements.

docs/migrating.md has the columns, and says when each usage is posted.
"""

from __future__ import annotations

from datetime import datetime

from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InsufficientCredits
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.operations.past_usages import PastUsage, spend_past
from chalicelib.services import Services
from infra.imports import movements
from infra.imports.csv_file import Finding, Row
from infra.imports.earlier import Asked, compared_with_earlier
from infra.imports.importing import (
    Examined,
    Import,
    ImportRow,
    RefusedRowError,
    Watch,
)
from infra.imports.movements import COLUMNS, Kind
from infra.imports.receivers import registered_of

CALLER = "import/usages"
"""The caller that owns the references as idempotency keys. No token is it, because of the slash."""


def usage_of(row: Row, now: datetime) -> PastUsage | None:
    """The usage in a row; None for another kind. Raises `InvalidInput`."""
    movement = movements.movement_of(row, now)
    if movement.kind is not Kind.USAGE:
        return None
    return PastUsage(
        user_id=movement.user_id,
        amount=-movement.amount,
        at=movement.at,
        description=movement.description or "Usage",
        caller=CALLER,
        key=movement.reference,
    )


def order_of(row: Row) -> datetime:
    """The instant of a checked row: a user's rows are spent in this order."""
    return parse_instant("at", row.values["at"].strip())


# --- Against what is stored -----------------------------------------------------------------------


def examine(services: Services, rows: list[Row], watch: Watch) -> Examined:
    """Compares the usages with earlier runs, and looks for their users.

    A usage that was spent before with the same values is right, whatever happened to it since.
    """
    now = services.now()
    usages = {row.line: usage for row in rows if (usage := usage_of(row, now))}
    earlier = compared_with_earlier(
        services,
        "reference",
        {
            usages[row.line].operation: Asked(row, usages[row.line].described())
            for row in rows
            if row.line in usages
        },
        lambda row, entry: _spent_otherwise(row, usages[row.line], entry),
        watch,
        "Comparing with earlier runs",
    )
    findings = [*earlier.findings, *registered_of(services, earlier.new, watch).strangers]
    return Examined(findings, [])


def _spent_otherwise(row: Row, usage: PastUsage, entry: LedgerEntry) -> Finding:
    """Names the first column in which a row differs from the earlier one of its reference."""
    is_other = {
        "amount": -usage.amount != entry.amount,
        "user_id": usage.user_id != entry.user_id,
        "at": usage.at != entry.effective_at,
        "description": usage.description != entry.description,
    }
    column = next((name for name, differs in is_other.items() if differs), "reference")
    reason = (
        f"the reference {usage.key} was spent before, as {-entry.amount:,} credits of user "
        f"{entry.user_id}, {format_instant(entry.effective_at)}, {entry.description!r} "
        f"(transaction {entry.transaction_id}); leave the row out, or give it a reference of its "
        "own if it is another usage"
    )
    return Finding(row.problem(column, reason), [row])


def writer(services: Services) -> ImportRow:
    """Spends each usage under its reference, once and for ever."""
    now = services.now()

    def spend_row(row: Row) -> str:
        usage = usage_of(row, now)
        if usage is None:
            return "of another kind"
        try:
            done = spend_past(services, usage)
        except InsufficientCredits as error:
            raise RefusedRowError("amount", str(error)) from error
        return "spent before" if done.replayed else "spent"

    return spend_row


USAGES = Import(
    noun="movements",
    columns=COLUMNS,
    outcomes=("spent", "spent before", "refused", "of another kind"),
    name_of=movements.name_of,
    examine=examine,
    writer=writer,
    column_notes="Only usages are spent. The last column may be empty or left out.",
    order_of=order_of,
)
