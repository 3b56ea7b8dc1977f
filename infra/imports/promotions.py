"""Grants to many users from a file that somebody has approved by its digest.

docs/promotions.md has the columns and the guarantees.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from chalicelib.domain.batches import DEFAULT_PRIORITY, Source
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import (
    MAXIMUM_AMOUNT,
    FieldReader,
    parse_amount,
    parse_days,
    parse_priority,
    parse_text,
    parse_user_id,
    shown,
)
from chalicelib.operations.adjustments import (
    NEVER,
    Adjustment,
    adjust,
    check_cap,
    operation_of,
    parse_source,
)
from chalicelib.services import Services
from infra.imports.csv_file import Columns, Finding, Row, UnreadableFileError
from infra.imports.earlier import Asked, compared_with_earlier
from infra.imports.importing import Examined, Import, ImportRow, Watch
from infra.imports.receivers import Receiver, receivers_of

COLUMNS = Columns(
    required=("user_id", "amount", "description", "expires_in_days"),
    optional=("priority", "source", "notify"),
    amounts=frozenset({"amount", "expires_in_days", "priority"}),
    texts=frozenset({"description"}),
)

CALLER = "command/grant"
"""The caller that owns the keys. No token can be this caller: subjects cannot contain a slash."""

MOST_USERS = 100_000
MOST_CREDITS = MAXIMUM_AMOUNT
"""The most credits a file may grant: larger sums are typing mistakes, or must be split."""

UNITS_A_GRANT = 4
UNITS_OF_EXPIRY = 1
"""The write units of an ordinary grant: a transaction of an entry and a marker of up to 1 KB each.
A grant that expires also writes to the expiry index."""

_RECENTLY = timedelta(days=30)

_YES_OR_NO = {"true": True, "false": False}


def grant_of(row: Row) -> Adjustment:
    """The grant that a row describes. Raises `InvalidInput`, which names every wrong column."""
    fields = FieldReader(row.fields(COLUMNS), "row")
    priority = fields.optional("priority", parse_priority)
    grant = Adjustment(
        user_id=fields.required("user_id", parse_user_id),
        amount=fields.required("amount", parse_amount),
        description=fields.required("description", parse_text),
        expires_in_days=fields.required("expires_in_days", _parse_lifetime),
        priority=DEFAULT_PRIORITY if priority is None else priority,
        source=fields.optional("source", parse_source) or Source.PROMOTION,
        notify=fields.optional("notify", _parse_boolean) is not False,
    )
    fields.finish()
    return grant


def _parse_lifetime(field: str, value: object) -> int:
    if value == "never":
        return NEVER
    try:
        return parse_days(field, value)
    except InvalidInput as error:
        raise InvalidInput.of(field, f"{error.errors[0].message}, or the word never") from error


def _parse_boolean(field: str, value: object) -> bool:
    # Spreadsheets write TRUE.
    word = _YES_OR_NO.get(value.lower()) if isinstance(value, str) else None
    if word is None:
        raise InvalidInput.of(field, f"must be true or false; is {shown(value)}")
    return word


class Terms(NamedTuple):
    """The terms that several grants of a file can share, in the order in which they are shown."""

    description: str
    expires_in_days: int | None
    source: Source
    priority: int
    notify: bool


@dataclass(frozen=True)
class Promotion:
    """The grants of a file by their lines, and in whose name they are made.

    `name` depends only on what is granted, not on the order of the rows or their lines. Each user's
    key is derived from it, so nobody gets the same promotion twice, even if different people run
    it.
    """

    grants: Mapping[int, Adjustment]
    actor: str

    @classmethod
    def of(cls, rows: Iterable[Row], actor: str) -> Promotion:
        """Reads checked rows. Raises `UnreadableFileError` when they ask for too much."""
        promotion = cls({row.line: grant_of(row) for row in rows}, actor)
        if len(promotion.grants) > MOST_USERS or promotion.credits > MOST_CREDITS:
            raise UnreadableFileError(
                f"asks for {promotion.credits:,} credits for {len(promotion.grants):,} users; the "
                f"most allowed are {MOST_CREDITS:,} for {MOST_USERS:,}: split the file"
            )
        return promotion

    @property
    def credits(self) -> int:
        """How many credits it grants in all."""
        return sum(grant.amount for grant in self.grants.values())

    @property
    def write_units(self) -> int:
        """About how many write units of DynamoDB it takes."""
        expiring = sum(grant.expires_in_days != NEVER for grant in self.grants.values())
        return UNITS_A_GRANT * len(self.grants) + UNITS_OF_EXPIRY * expiring

    @cached_property
    def name(self) -> str:
        """A digest of what is granted to whom. Never change its form: keys are derived from it."""
        lines = [
            [
                *(grant.user_id, grant.amount, grant.description, grant.expires_in_days),
                *(grant.priority, grant.source.value, grant.notify),
            ]
            for grant in sorted(self.grants.values(), key=lambda grant: grant.user_id)
        ]
        return _sha256(lines)

    def digest(self, *place: str) -> str:
        """The digest to approve: it covers the promotion, the actor and this ``place``."""
        return _sha256([self.name, self.actor, *place])

    def by_terms(self) -> dict[Terms, list[int]]:
        """The granted amounts by their terms."""
        amounts = defaultdict(list)
        for grant in self.grants.values():
            days, notify = grant.expires_in_days, grant.notify
            terms = Terms(grant.description, days, grant.source, grant.priority, notify)
            amounts[terms].append(grant.amount)
        return dict(amounts)

    def key_of(self, grant: Adjustment) -> str:
        """The idempotency key of a grant: a user is in a promotion once."""
        return f"{self.name}-{grant.user_id}"

    def examine(self, services: Services, rows: list[Row], watch: Watch) -> Examined:
        """Compares rows with an earlier run, and with the users, their plans and their batches.

        A row that was granted before is right, whatever has happened since.
        """
        grants = {row.line: self.grants[row.line] for row in rows}
        earlier = compared_with_earlier(
            services,
            "user_id",
            {
                operation_of(CALLER, self.key_of(grants[row.line])): Asked(
                    row, grants[row.line].described(self.actor)
                )
                for row in rows
            },
            _granted_otherwise,
            watch,
            "Looking for an earlier run",
        )
        new, findings = earlier.new, earlier.findings
        receivers = receivers_of(services, new, watch)
        findings += receivers.findings
        findings += self._above_cap(services, new, receivers.found)
        warnings = self._alike(services.now(), new, receivers.found)
        return Examined(findings, list(warnings), earlier.written)

    def _above_cap(
        self, services: Services, rows: list[Row], receivers: Mapping[str, Receiver]
    ) -> Iterator[Finding]:
        for row in rows:
            grant = self.grants[row.line]
            if receiver := receivers.get(grant.user_id):
                try:
                    check_cap(services, grant, receiver.subscription)
                except InvalidInput as error:
                    yield Finding(row.problem("amount", error.errors[0].message), [row])

    def _alike(
        self, now: datetime, rows: list[Row], receivers: Mapping[str, Receiver]
    ) -> Iterator[str]:
        """Warns of users who recently got the same: a changed file is a new promotion."""
        alike: list[str] = []
        for row in rows:
            grant = self.grants[row.line]
            receiver = receivers.get(grant.user_id)
            for batch in receiver.account.batches if receiver else ():
                is_same = (batch.granted, batch.source) == (grant.amount, grant.source)
                if is_same and now - batch.granted_at < _RECENTLY:
                    alike.append(f"line {row.line}, batch {grant.user_id}-{batch.number}")
                    break
        if alike:
            yield (
                f"{len(alike):,} of {len(self.grants):,} users were granted the same amount within "
                f"{_RECENTLY.days} days ({alike[0]}). A file that was changed is another "
                "promotion: to add users to one, make a file of those alone."
            )

    def writer(self, services: Services) -> ImportRow:
        """Grants each row under its key, once and for ever."""

        def grant_row(row: Row) -> str:
            grant = self.grants[row.line]
            key = self.key_of(grant)
            done = adjust(services, grant, actor=self.actor, caller=CALLER, key=key)
            return "granted before" if done.replayed else "granted"

        return grant_row

    @property
    def file(self) -> Import:
        """How to check and run its file."""
        return Import(
            noun="grants",
            columns=COLUMNS,
            outcomes=("granted", "granted before"),
            name_of=lambda row, _catalogue, _now: ("user_id", grant_of(row).user_id),
            examine=self.examine,
            writer=self.writer,
            column_notes="The last three may be empty or left out.",
        )


def _granted_otherwise(row: Row, entry: LedgerEntry) -> Finding:
    reason = (
        f"was granted this before, approved by {entry.actor} (transaction {entry.transaction_id}): "
        "only they can finish it; if it is another promotion, give it another description"
    )
    return Finding(row.problem("user_id", reason), [row])


def _sha256(value: object) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()
