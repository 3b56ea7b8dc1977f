"""Imports subscriptions from a CSV file: reads, checks and writes a row."""

from __future__ import annotations

from datetime import datetime

from chalicelib.domain.edits import BY_IMPORT
from chalicelib.domain.errors import InvalidInput, OutdatedEdit, Unreadable
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import SignUp, Subscription
from chalicelib.domain.terms import Terms, read_terms, successor
from chalicelib.operations.allocations import save_subscription
from chalicelib.services import Services
from chalicelib.store.subscriptions import read_subscription
from infra.imports.csv_file import Columns, Finding, Row
from infra.imports.importing import (
    Examined,
    Import,
    ImportRow,
    Watch,
    read_many,
    unreadable,
    user_id_of,
)
from infra.imports.midnights import MisreadMidnights

COLUMNS = Columns(
    required=(
        "user_id",
        "timezone",
        "plan",
        "billing_interval",
        "status",
        "started_at",
    ),
    optional=("email", "eligible_from", "allocation_amount", "ends_at", "observed_at", "language"),
    amounts=frozenset({"allocation_amount"}),
    texts=frozenset({"email"}),
)


def subscription_of(
    row: Row, catalogue: PlanCatalogue, now: datetime, existing: Subscription | None
) -> Subscription:
    """The subscription after a row is applied. Columns that the file lacks stay unchanged.

    Raises `InvalidInput`, which names every wrong column, and `OutdatedEdit`.
    """
    stored = Terms.of(existing) if existing else None
    terms = read_terms(row.fields(COLUMNS), catalogue, now, stored, kept=COLUMNS.optional)
    return successor(existing, terms, catalogue, now)


def name_of(row: Row, catalogue: PlanCatalogue, now: datetime) -> tuple[str, str]:
    """Checks a row by itself. A file may have each user once."""
    return "user_id", subscription_of(row, catalogue, now, None).user_id


def examine(services: Services, rows: list[Row], watch: Watch) -> Examined:
    """Compares rows with the subscriptions that they change."""
    now = services.now()
    stored = read_many(
        [user_id_of(row) for row in rows],
        lambda user_ids: services.subscriptions.get_many(user_ids, consistent=True),
        watch("Comparing with the subscriptions", len(rows)),
    )
    findings: list[Finding] = []
    midnights = MisreadMidnights(services.catalogue, now)
    signed: list[SignUp] = []
    for row in rows:
        item = stored.get(user_id_of(row))
        try:
            existing = read_subscription(item) if item else None
            subscription = subscription_of(row, services.catalogue, now, existing)
        except InvalidInput as error:
            findings += [
                Finding(row.problem(wrong.field, wrong.message), [row]) for wrong in error.errors
            ]
        except Unreadable as error:
            findings.append(Finding(row.problem("user_id", unreadable(error)), [row]))
        except OutdatedEdit:
            pass  # not a mistake in the file: writing reports the outcome
        else:
            midnights.look_at(subscription, existing)
            if existing is None and subscription.sign_up:
                signed.append(subscription.sign_up)
    return Examined(findings, [*midnights.warnings(), *_told_of(signed)])


def _told_of(signed: list[SignUp]) -> list[str]:
    """What new subscribers get at once: it is rarely meant for a file of all existing customers."""
    if not signed:
        return []
    amount = sum(each.amount for each in signed)
    who = f"{len(signed):,} of the new users started in the month that is running"
    return [f"{who}, and are granted {amount:,} credits at once (on_signup in the plans)"]


def writer(services: Services) -> ImportRow:
    """Writes each row on condition that nobody edited the subscription meanwhile."""

    def import_row(row: Row) -> str:
        before: list[Subscription | None] = []

        def decide(existing: Subscription | None) -> Subscription:
            before.append(existing)
            # Read the clock for each row: a month can begin while a long file is written. A pause
            # that ends with the row then covers that beginning.
            return subscription_of(row, services.catalogue, services.now(), existing)

        try:
            after = save_subscription(services, user_id_of(row), decide, BY_IMPORT).subscription
        except OutdatedEdit:
            return "outdated"
        if before[-1] is None:
            return "new"
        return "unchanged" if after == before[-1] else "changed"

    return import_row


SUBSCRIPTIONS = Import(
    noun="subscriptions",
    columns=COLUMNS,
    outcomes=("new", "changed", "unchanged", "outdated"),
    name_of=name_of,
    examine=examine,
    writer=writer,
    column_notes=f"{', '.join(COLUMNS.optional)} may be left out, and then stay as they are; an "
    "empty one is cleared. Of a new user they get their defaults.",
)
