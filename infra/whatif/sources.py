"""The sources of users' pasts: the tables of a stage, or exports of them."""

from __future__ import annotations

import hashlib
import heapq
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from rich.progress import Progress

from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import CreditsError, NotFound
from chalicelib.domain.instants import format_instant
from chalicelib.jobs import audits
from chalicelib.store.database import Item
from chalicelib.store.edits import read_edit
from chalicelib.store.ledger_items import audited_link, is_entry, is_marker, owner_of, read_entry
from chalicelib.store.subscriptions import read_subscription
from infra import reach
from infra.deployment import stage_services
from infra.imports.stage_export import Exported, advised, find_in
from infra.imports.table_export import ExportError

from .past import Past

SAMPLE = 1_000
"""How many users a sample has."""

USERS_AT_ONCE = 100
"""How many users are read from the tables between two saves of the progress."""

ITEMS_AT_ONCE = 1_000_000
"""How many items of exports are kept in memory at once: some 2 GB."""

BYTES_A_UNIT = 4_096

Read = tuple[str, Past | CreditsError]
"""A user's past, or why it cannot be read."""


class Source(Protocol):
    """A source of pasts. Its text distinguishes it from all other sources."""

    @property
    def at_once(self) -> int:
        """How many users to request at once."""

    def cost(self, to_come: int | None) -> str:
        """The cost of reading, as a sentence; for so many users, or with None for all users."""

    def users(self) -> list[str]:
        """The users of the question."""

    def pasts(self, users: Sequence[str], progress: Progress) -> Iterator[Read]:
        """The pasts of these users, in order. Raises `ExportError`."""


class _Items(NamedTuple):
    """The stored items of a user."""

    subscription: Item | None
    ledger: Iterable[Item]
    edits: Iterable[Item]
    links: Iterable[Item]


def _past(stored: _Items) -> Past | CreditsError:
    try:
        if stored.subscription is None:
            return NotFound("the subscription was removed meanwhile")
        subscription = read_subscription(stored.subscription)
        entries = [read_entry(item) for item in stored.ledger]
        edits = [read_edit(item) for item in stored.edits]
        given_back = defaultdict[int, list[int]](list)
        if any(entry.type is EntryType.REVERSAL for entry in entries):
            links = map(audited_link, stored.links)
            for link in sorted(links, key=lambda link: (link.of, link.sequence)):
                given_back[link.of].append(link.in_all)
    except CreditsError as error:
        return error
    return Past(entries, subscription, edits, given_back)


@dataclass(frozen=True)
class Tables:
    """The tables of a stage. ``is_sample``: read a sample of the subscribers, or all."""

    stage: reach.Reach
    is_sample: bool

    def __str__(self) -> str:
        return f"{self.stage.stage} {self.stage.account} {self.is_sample}"

    @property
    def at_once(self) -> int:
        """As many as are lost if the command is interrupted."""
        return USERS_AT_ONCE

    def cost(self, to_come: int | None) -> str:
        """By DynamoDB's counts of the last six hours."""
        services = self.stage.services
        _, size = services.ledger.size()
        described: dict[str, Any] = self.stage.client("dynamodb").describe_table(
            TableName=services.settings.subscriptions_table
        )
        count, bytes_ = (described["Table"][name] for name in ("ItemCount", "TableSizeBytes"))
        count = max(1, count)
        users = min(SAMPLE, count) if self.is_sample else count
        # A scan takes half a unit for as many bytes; a query of edits at least one.
        listing = -(-bytes_ * users // count // (2 * BYTES_A_UNIT)) if to_come is None else 0
        users = users if to_come is None else to_come
        units = listing + users * (2 + -(-size // count // BYTES_A_UNIT))
        return (
            f"Reads the subscriptions, edits and ledgers of about {users:,} users, and writes "
            f"nothing: about {units:,} read units, with ledgers of {size // count:,} bytes, as "
            "they are on average. Exports of the tables take none: EXPORT="
        )

    def users(self) -> list[str]:
        """A sample from a random place of the table on, or all."""
        services = self.stage.services
        if self.is_sample:
            return [*audits.users_at_random(services, SAMPLE)]
        return [*services.subscriptions.scan(secrets.token_hex(8), audits.ITEMS_A_PAGE)]

    def pasts(self, users: Sequence[str], progress: Progress) -> Iterator[Read]:
        """Some queries for each user, several users at a time."""
        del progress  # the progress bar of the users is enough
        with ThreadPoolExecutor(min(stage_services.THREADS, self.stage.services.threads)) as pool:
            yield from zip(users, pool.map(self._read, users), strict=True)

    def _read(self, user_id: str) -> Past | CreditsError:
        services = self.stage.services
        return _past(
            _Items(
                services.subscriptions.get_many([user_id], consistent=True).get(user_id),
                services.ledger.items(user_id),
                services.edits.items(user_id),
                services.ledger.reversals(user_id),
            )
        )


@dataclass(frozen=True)
class Exports:
    """Exports of the three tables: they use none of the tables' capacity."""

    ledger: Exported
    subscriptions: Exported
    edits: Exported
    is_sample: bool

    def __str__(self) -> str:
        return f"{self.ledger} {self.subscriptions} {self.edits} {self.is_sample}"

    @property
    def at_once(self) -> int:
        """As many as fit into memory: the exports are read again for each such part."""
        items = self.ledger.export.summary.items + self.edits.export.summary.items
        count = max(1, self.subscriptions.export.summary.items)
        return max(1, ITEMS_AT_ONCE * count // max(1, items))

    def cost(self, to_come: int | None) -> str:
        """How often the exports are read."""
        count = self.subscriptions.export.summary.items
        users = min(SAMPLE, count) if self.is_sample else count
        times = -(-(users if to_come is None else to_come) // self.at_once)
        exports = (self.ledger, self.subscriptions, self.edits)
        return "\n".join(
            [*(f"Reads {each}." for each in exports), f"Each {times:,} times: 0 read units."]
        )

    def users(self) -> list[str]:
        """All subscribers, or those with the lowest digests: always the same ones."""
        items = self.subscriptions.export.read("user_id")
        with advised(self.subscriptions.field, self.subscriptions.table):
            ids = (owner_of(item) for item in items)
            return heapq.nsmallest(SAMPLE, ids, key=_spread) if self.is_sample else sorted(ids)

    def pasts(self, users: Sequence[str], progress: Progress) -> Iterator[Read]:
        """Reads all exports, and keeps these users' items."""
        wanted = frozenset(users)
        ledger, edits, links = (defaultdict[str, list[Item]](list) for _ in range(3))
        terms: dict[str, Item] = {}
        for item in self.subscriptions.read(progress, "Reading subscriptions", "user_id"):
            if owner_of(item) in wanted:
                terms[owner_of(item)] = item
        for item in self.edits.read(progress, "Reading edits", "user_id", "edit"):
            if owner_of(item) in wanted:
                edits[owner_of(item)].append(item)
        for item in self.ledger.read(progress, "Reading the ledger", "user_id", "entry"):
            if owner_of(item) in wanted and not is_marker(item):
                (ledger if is_entry(item) else links)[owner_of(item)].append(item)
        for user in users:
            entries = sorted(ledger[user], key=lambda item: str(item["entry"]["S"]))
            yield user, _past(_Items(terms.get(user), entries, edits[user], links[user]))


def find_exports(
    stage: reach.Reach,
    places: tuple[str, str, str],
    until: datetime,
    *,
    is_sample: bool,
) -> Exports:
    """The exports in those places: of the ledger, the subscriptions and the edits.

    Raises `ExportError` for an export that does not reach to an instant, and `InvalidInput`.
    """
    settings = stage.services.settings
    tables = (settings.ledger_table, settings.subscriptions_table, settings.edits_table)
    names = ("EXPORT", "SUBSCRIPTIONS", "EDITS")
    ledger, subscriptions, edits = (
        find_in(stage, *each) for each in zip(names, places, tables, strict=True)
    )
    for export in (ledger, subscriptions, edits):
        at = export.export.summary.at
        least = max(until, subscriptions.export.summary.at) if export is edits else until
        if at < least:
            with advised(export.field, export.table):
                raise ExportError(
                    f"{export.export.place} has what was written until {format_instant(at)}: name "
                    f"one of {format_instant(least)} or later"
                )
    return Exports(ledger, subscriptions, edits, is_sample)


def _spread(user_id: str) -> bytes:
    return hashlib.sha256(user_id.encode()).digest()
