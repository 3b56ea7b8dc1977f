"""Imports subscriptions from a CSV file into the running local stack or a deployed one.

    python -m infra.import_subscriptions file.csv [--stage prod] [--skip-invalid]

(make import CSV=file.csv)
"""

from __future__ import annotations

import sys

from rich.console import Console

from chalicelib.domain.subscriptions import Subscription, register
from chalicelib.services import Services
from infra import csv_file
from infra.csv_file import CheckedFile, Columns, Row
from infra.importing import Import, ImportRow, command

COLUMNS = Columns(
    required=(
        "user_id",
        "email",
        "timezone",
        "plan",
        "billing_interval",
        "status",
        "started_at",
    ),
    optional=("eligible_from", "allocation_amount"),
    amounts=frozenset({"allocation_amount"}),
)


def check(services: Services, text: str) -> CheckedFile:
    """Checks every row. Raises `UnreadableFileError` for a text without our columns."""
    now = services.now()

    def name_of(row: Row) -> tuple[str, str]:
        subscription = register(row.fields(COLUMNS), services.catalogue, now, None)
        return "user_id", subscription.user_id

    return csv_file.check(text, COLUMNS, name_of)


def writer(services: Services) -> ImportRow:
    """Writes each under the condition that nobody edited the subscription meanwhile."""
    now = services.now()

    def import_row(row: Row) -> str:
        before: list[Subscription | None] = []

        def decide(existing: Subscription | None) -> Subscription:
            before.append(existing)
            return register(row.fields(COLUMNS), services.catalogue, now, existing)

        after = services.subscriptions.change(row.values["user_id"].strip(), decide)
        if before[-1] is None:
            return "new"
        return "unchanged" if after == before[-1] else "changed"

    return import_row


SUBSCRIPTIONS = Import(
    noun="subscriptions",
    columns=COLUMNS,
    outcomes=("new", "changed", "unchanged"),
    check=check,
    writer=writer,
    column_notes="The last two may be empty or left out.",
)


def main(words: list[str] | None = None) -> int:
    """Reads the command line and runs the import; the exit status."""
    return command(SUBSCRIPTIONS, words, "python -m infra import", Console(stderr=True))


if __name__ == "__main__":
    sys.exit(main())
