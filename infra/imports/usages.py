"""Spends in a shadow what the old system has let users spend, from the file of its movements.

docs/migrating.md has the columns, and says when each usage is posted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime

from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InsufficientCredits, Unreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.operations.past_usages import PastUsage, spend_past
from chalicelib.services import Services
from infra.imports import movements
from infra.imports.csv_file import Finding, Row
from infra.imports.importing import (
    Examined,
    Import,
    ImportRow,
    RefusedRowError,
    Watch,
    read_many,
    user_id_of,
)
from infra.imports.movements import COLUMNS, Kind
from infra.imports.receivers import cannot_read

CALLER = "import/usages"
"""The caller that owns the references as idempotency keys. Its slash keeps tokens from being it."""


def usage_of(row: Row, now: datetime) -> PastUsage | None:
    """The usage that a row tells of; None for another kind. Raises `InvalidInput`."""
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
    """The instant of a row that is right: a user's rows are spent in this order."""
    return parse_instant("at", row.values["at"].strip())


# --- Against what is stored -----------------------------------------------------------------------


def examine(services: Services, rows: list[Row], watch: Watch) -> Examined:
    """Compares the usages with earlier runs, and looks for their users.

    One that was spent before, with the same values, is right whatever happened to it since.
    """
    now = services.now()
    usages = {usage.operation: (row, usage) for row in rows if (usage := usage_of(row, now))}
    before = read_many(
        list(usages),
        lambda operations: services.ledger.performed_before(
            {operation: usages[operation][1].described() for operation in operations}
        ),
        watch("Comparing with earlier runs", len(usages)),
    )
    findings: list[Finding] = []
    new: list[Row] = []
    written = 0
    for operation, (row, usage) in usages.items():
        performed = before.get(operation)
        if performed is None:
            new.append(row)
        elif isinstance(performed, Unreadable):
            findings.append(cannot_read("reference", performed, [row]))
        elif performed.is_same:
            written += 1
        else:
            findings.append(_spent_otherwise(row, usage, performed.entry))
    findings += _strangers(services, new, watch)
    return Examined(findings, [], written)


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


def _strangers(services: Services, rows: list[Row], watch: Watch) -> Iterator[Finding]:
    """The rows of users who are not registered."""
    by_user: dict[str, list[Row]] = {}
    for row in rows:
        by_user.setdefault(user_id_of(row), []).append(row)
    registered: Mapping[str, object] = read_many(
        list(by_user),
        lambda user_ids: services.subscriptions.get_many(user_ids, consistent=True),
        watch("Looking for the users", len(by_user)),
    )
    for user_id, of_user in by_user.items():
        if user_id not in registered:
            reason = f"there is no user {user_id}; import their subscription first"
            for row in of_user:
                yield Finding(row.problem("user_id", reason), [row])


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
