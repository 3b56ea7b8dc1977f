"""Reads the ledger table: accounts, pages of a history, whole ledgers, expiring batches.

Everything that decisions use is read strongly consistently; only the index lags behind.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import NamedTuple

from chalicelib.domain.entries import (
    FIRST_HASH,
    EntryType,
    LedgerEntry,
    digests_of,
    operation_digest,
)
from chalicelib.domain.errors import Contention, InvalidInput, LedgerCorrupt, NotFound
from chalicelib.domain.fields import shown
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.metadata import Metadata
from chalicelib.domain.verification import (
    Anchor,
    Marker,
    Operation,
    StoredLine,
    check_links,
    check_markers,
    operation_of,
    verify,
)
from chalicelib.retries import Pause, pause_with_jitter

from .database import (
    Item,
    end_of_page,
    every_item,
    every_item_from,
    races,
    read_item,
    read_many,
    text,
)
from .ledger_items import (
    MARKER,
    account_of,
    audited_link,
    audited_marker,
    entry_key,
    entry_of,
    expiry_of,
    is_entry,
    item_key,
    item_of,
    marker_key,
    number_of,
    owner_of,
    read_entry,
    read_line,
    read_marker,
)
from .wire.client import Client

ENTRIES_A_SEARCH = 1_000
"""The most entries searched for a page of a type: a rare type must not cost a whole ledger."""

ENTRIES_A_READ = 250
"""How many entries one query reads."""


class HistoryPage(NamedTuple):
    """Some of the wanted entries, newest first, and the number to go on below (None: the end)."""

    entries: list[LedgerEntry]
    below: int | None


class ExpiringPage(NamedTuple):
    """One page of the expiry index: the users of its batches, and the sort key to go on after.

    ``instants``: when each batch expires; None if its key cannot be read.
    """

    user_ids: list[str]
    last_key: str | None
    instants: list[datetime | None]


class LedgerReader:
    """All reading of the ledger table."""

    def __init__(self, client: Client, table: str, pause: Pause = pause_with_jitter) -> None:
        self._client = client
        self._table = table
        self._pause = pause

    def account(self, user_id: str) -> Account:
        """The user's account as of now: one strongly consistent query."""
        last = next(self._items(user_id, "entry#", "entry$", page=1), None)
        return account_of(last) if last else Account(user_id)

    def entry(self, user_id: str, entry_number: int) -> LedgerEntry:
        """One entry. Raises `NotFound`."""
        return read_entry(self._entry_item(user_id, entry_number))

    def account_after(self, user_id: str, entry_number: int) -> Account:
        """The account after an entry. Raises `NotFound`."""
        return account_of(self._entry_item(user_id, entry_number))

    def entries(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Item]:
        """Existing entries as stored, by user id and number; for `read_entry` to read.

        Strongly consistent; keys that DynamoDB leaves unprocessed are read again. Raises
        `Contention` if some stay unprocessed.
        """
        items = self._get_many((user_id, entry_key(number)) for user_id, number in places)
        return {(owner_of(item), number_of(item)): item for item in items}

    def place_of(self, operation: str) -> tuple[str, int] | None:
        """The user and the number of an operation's entry; None if there is no such operation.

        An operation that is being performed right now may be overlooked.
        """
        item = self._item(marker_key(operation_digest(operation)), MARKER)
        if item is None:
            return None
        marker = read_marker(item)
        return marker.owner, marker.number

    def newest_first(
        self, user_id: str, below: int | None = None, page: int = ENTRIES_A_READ
    ) -> Iterator[LedgerEntry]:
        """All entries, newest first; only those numbered less than ``below`` if it is given.

        They are read ``page`` at a time, when needed.
        """
        if below is not None and below <= 1:
            return
        highest = entry_key(below - 1) if below else "entry$"
        for item in self._items(user_id, "entry#", highest, page=page):
            yield read_entry(item)

    def history(
        self, user_id: str, below: int | None = None, limit: int = 100
    ) -> list[LedgerEntry]:
        """The first ``limit`` of them, or all if there are fewer."""
        return list(islice(self.newest_first(user_id, below, limit), limit))

    def back_to(
        self,
        user_id: str,
        since: datetime,
        most: int,
        below: int | None = None,
        page: int = ENTRIES_A_READ,
    ) -> list[LedgerEntry]:
        """The newest entries down to the first from before ``since``, but at most ``most``.

        ``below`` and ``page``: as in `newest_first`.
        """
        found: list[LedgerEntry] = []
        for entry in islice(self.newest_first(user_id, below, page), most):
            found.append(entry)
            if entry.posted_at < since:
                break
        return found

    def page(
        self,
        user_id: str,
        limit: int,
        below: int | None = None,
        *,
        kind: EntryType | None = None,
        since: datetime | None = None,
        metadata: Metadata = (),
        search: str = "",
    ) -> HistoryPage:
        """A page of the history: entries of a type if given, none posted before ``since``.

        ``metadata``: the pairs that they must have. ``search``: a text that their description or a
        value of their metadata must contain; capitals do not count. A page can have fewer than
        ``limit`` entries without being the last: a search reads at most `ENTRIES_A_SEARCH` entries
        for a page.
        """
        found: list[LedgerEntry] = []
        is_all = kind is None and not metadata and not search
        sought = search.casefold()
        entries = self.newest_first(user_id, below, limit if is_all else ENTRIES_A_READ)
        for searched, entry in enumerate(entries, 1):
            if since is not None and entry.posted_at < since:
                break
            is_wanted = (kind is None or entry.type is kind) and {*metadata} <= {*entry.metadata}
            if is_wanted and (not sought or _says(entry, sought)):
                found.append(entry)
            if len(found) == limit or searched == ENTRIES_A_SEARCH:
                return HistoryPage(found, entry.number if entry.number > 1 else None)
        return HistoryPage(found, None)

    def account_at(self, user_id: str, instant: datetime) -> Account:
        """The account as it was at an instant: a binary search over the entry numbers."""
        account = self.account(user_id)
        if account.last is None or account.last.posted_at <= instant:
            return account
        low, high = 0, account.last.number  # entry `low` is posted by then, entry `high` is not
        found = Account(user_id)
        while high - low > 1:
            middle = (low + high) // 2
            then = account_of(self._entry_item(user_id, middle))
            if then.last and then.last.posted_at <= instant:
                low, found = middle, then
            else:
                high = middle
        return found

    def number_since(self, user_id: str, instant: datetime) -> int:
        """The number of the first entry posted at an instant or later; it may not exist yet."""
        # Instants are kept to the millisecond.
        return self.account_at(user_id, instant - timedelta(milliseconds=1)).next_number

    def items(self, user_id: str) -> Iterator[Item]:
        """Every entry as stored, oldest first, damaged or not; for `read_line`."""
        return self._items(user_id, "entry#", "entry$", page=1000, newest_first=False)

    def lines(self, user_id: str) -> Iterator[StoredLine]:
        """Every line as stored, oldest first. Raises `LedgerCorrupt` for a damaged line."""
        return (line for line, _ in self._stored(user_id))

    def lines_from(self, user_id: str, number: int, page: int) -> Iterator[StoredLine]:
        """The lines from a number on, as `lines`, read ``page`` at a time when needed."""
        first = entry_key(number)
        for item in self._items(user_id, first, "entry$", page=page, newest_first=False):
            yield read_line(item, number)

    def verify(self, user_id: str) -> Account:
        """Walks the whole ledger; raises `LedgerCorrupt` at the first wrong line."""
        return verify(user_id, self._checked_lines(user_id, []))

    def audit(self, user_id: str, anchor: Anchor | None = None) -> Account:
        """The same; also checks that the ledger has its anchor, and the items beside its entries.

        These are the markers, and the links of reversals and refunds; see `domain.verification`.
        """
        for _ in races(self._pause):
            operations: list[Operation] = []
            account = verify(user_id, self._checked_lines(user_id, operations), anchor)
            try:
                self._check_beside(user_id, operations)
            except LedgerCorrupt:
                # A writer may have appended between the walk and this check.
                if self.account(user_id).last_hash == account.last_hash:
                    raise
            else:
                return account
        raise Contention(f"the ledger of user {user_id} is written too often at the moment")

    def _check_beside(self, user_id: str, operations: Sequence[Operation]) -> None:
        """Checks that each operation on request has its marker, and reversals and refunds links."""
        found = map(audited_marker, self.markers(_digests(operations)))
        markers = {marker.digest: marker for marker in found}
        check_markers(user_id, operations, markers)
        links = [audited_link(item) for item in self.reversals(user_id)]
        check_links(user_id, operations, markers, links)

    def check_markers(self, markers: Sequence[Marker]) -> list[LedgerCorrupt]:
        """The problems of any markers of the table: each must name its own entry."""
        entries = self.entries((marker.owner, marker.number) for marker in markers)
        wrong: list[LedgerCorrupt] = []
        for marker in markers:
            try:
                if marker.digest not in digests_of(entry_of(marker, entries)):
                    problem = "the marker of another operation names it"
                    raise LedgerCorrupt(marker.owner, marker.number, problem)
            except LedgerCorrupt as error:
                wrong.append(error)
        return wrong

    def _checked_lines(self, user_id: str, operations: list[Operation]) -> Iterator[StoredLine]:
        """Every line; after the verification, the items beside the entries are checked.

        The operations on request are added to ``operations``.
        """
        previous_hash = FIRST_HASH
        for line, item in self._stored(user_id):
            yield line
            entry = LedgerEntry.from_body(user_id, line.number, line.body)
            # If the texts of a line were erased, its hash is that of its former body.
            as_written = item_of(entry, previous_hash) | {"hash": text(line.hash)}
            if line.erased is not None:
                as_written["erased"] = text(line.erased)
            if item != as_written:
                raise LedgerCorrupt(
                    user_id, line.number, "its index keys are not those of the body"
                )
            if operation := operation_of(entry):
                operations.append(operation)
            previous_hash = line.hash

    def _stored(self, user_id: str) -> Iterator[tuple[StoredLine, Item]]:
        last = 0
        for item in self.items(user_id):
            line = read_line(item, last + 1)
            last = line.number
            yield line, item

    def markers(self, digests: Iterable[str]) -> Iterator[Item]:
        """Existing markers as stored, by the digests of `domain.entries.digests_of`."""
        return self._get_many((marker_key(digest), MARKER) for digest in digests)

    def reversals(self, user_id: str) -> Iterator[Item]:
        """The links of a user's reversals and refunds as stored, usage by usage."""
        return self._items(user_id, "reversal#", "reversal$", page=1000, newest_first=False)

    def expiring(
        self,
        timezone: str,
        shard: int,
        after: datetime,
        until: datetime,
        last_key: str | None,
        limit: int,
    ) -> ExpiringPage:
        """The users whose batches expire in ``(after, until]``, from a shard of a timezone's index.

        A page can have fewer than ``limit``, even none, without being the last. Raises
        `InvalidInput` for a ``last_key`` after all of them.
        """
        # '$' sorts directly after '#': so both bounds sort after every key of their instant.
        lower = f"{last_key}\0" if last_key else f"{format_instant(after)}$"
        upper = f"{format_instant(until)}$"
        if lower > upper:  # DynamoDB would refuse that as a malformed request
            raise InvalidInput.of("cursor", f"lies behind the sweep; is {shown(last_key)}")
        response = self._client.call(
            "Query",
            {
                "TableName": self._table,
                "IndexName": "expiring",
                "KeyConditionExpression": (
                    "expiry_partition = :shard AND expiry_key BETWEEN :first AND :last"
                ),
                "ExpressionAttributeValues": {
                    ":shard": text(f"{timezone}#{shard:02}"),
                    ":first": text(lower),
                    ":last": text(upper),
                },
                "Limit": limit,
                "ReturnConsumedCapacity": "TOTAL",
            },
        )
        items = response["Items"]
        return ExpiringPage(
            [owner_of(item) for item in items],
            end_of_page(response, "expiry_key"),
            [expiry_of(item) for item in items],
        )

    def scan(self, start: str, page: int) -> Iterator[Item]:
        """Every item once, in the table's own order; ``start`` says where to begin."""
        request = {"TableName": self._table, "Limit": page}
        return every_item_from(self._client, item_key(start, "entry#"), request)

    def walk(self) -> Iterator[Item]:
        """Every entry of everybody, as stored: user by user, each user's in order.

        It also reads the other items and leaves them out. Entries of the last second may be
        missing.
        """
        return filter(is_entry, every_item(self._client, "Scan", {"TableName": self._table}))

    def size(self) -> tuple[int, int]:
        """The items and the bytes of the table, as DynamoDB counts them every six hours."""
        table = self._client.call("DescribeTable", {"TableName": self._table})["Table"]
        return table["ItemCount"], table["TableSizeBytes"]

    def _items(
        self, user_id: str, first: str, last: str, page: int, *, newest_first: bool = True
    ) -> Iterator[Item]:
        """All items of a user with sort keys from ``first`` to ``last``, strongly consistent.

        They are read ``page`` at a time, when needed.
        """
        return every_item(
            self._client,
            "Query",
            {
                "TableName": self._table,
                "KeyConditionExpression": "user_id = :user AND entry BETWEEN :first AND :last",
                "ExpressionAttributeValues": {
                    ":user": text(user_id),
                    ":first": text(first),
                    ":last": text(last),
                },
                "Limit": page,
                "ConsistentRead": True,
                "ScanIndexForward": not newest_first,
            },
        )

    def _get_many(self, keys: Iterable[tuple[str, str]]) -> Iterator[Item]:
        """Existing items by partition and sort key, in no order."""
        wanted = [item_key(*key) for key in {*keys}]
        return read_many(
            self._client,
            self._table,
            wanted,
            self._pause,
            called="entries",
            consistent=True,
        )

    def _item(self, partition: str, key: str) -> Item | None:
        return read_item(self._client, self._table, item_key(partition, key))

    def _entry_item(self, user_id: str, entry_number: int) -> Item:
        item = self._item(user_id, entry_key(entry_number))
        if item is None:
            raise NotFound(f"user {user_id} has no transaction {user_id}-{entry_number}")
        return item


def _says(entry: LedgerEntry, sought: str) -> bool:
    """Whether an entry's texts contain ``sought``, which is case-folded."""
    items = ((item.description, item.metadata) for item in entry.items)
    return any(
        sought in text.casefold()
        for description, metadata in ((entry.description, entry.metadata), *items)
        for text in (description, *(value for _, value in metadata))
    )


def _digests(operations: Iterable[Operation]) -> Iterator[str]:
    return (digest for operation in operations for digest in operation.digests)
