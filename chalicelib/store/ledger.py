"""The ledger table: appends entries exactly once and reads them back.

Keys of table ``ledger`` (partition ``user_id``, sort ``entry``):

    <user id>                entry#000000000042       entry 42 of the user's ledger
    <user id>                reversal#000000000042#000001  first reversal of the usage in entry 42
    operation#<its SHA-256>  operation                marker of an operation on request, forever

    index ``expiring``       <timezone>#<shard>       <expires_at>#<user id>#<batch>

Every write is PartiQL's `INSERT`, alone, in a batch or in a transaction: it refuses a key that
exists
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.insert.html). For an
entry that is the optimistic lock (only one writer gets number n+1), the order, and for scheduled
work the idempotency; for work on request the marker in the same transaction adds it. No writer
leaves the condition out by mistake or on purpose: the right to insert, `dynamodb:PartiQLInsert`, is
the only one to write that our functions have. Markers hold no text of anybody: callers and their
keys are in the entries alone. The exception is `erase`, which takes the texts out of the entries of
a person: an operator runs it with their own rights.

    writer A                      writer B
    reads entry 7                 reads entry 7
    inserts entry 8: accepted
                                  inserts entry 8: refused
                                  reads entry 8, decides again
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from botocore.exceptions import ClientError
from pynamodb.connection import Connection
from pynamodb.exceptions import TransactGetError, UpdateError
from pynamodb.expressions.operand import Path

from chalicelib.domain import ledger
from chalicelib.domain.anchors import Head, user_digest
from chalicelib.domain.damage import Damage, value_of
from chalicelib.domain.errors import (
    Contention,
    CreditsError,
    IdempotencyKeyReused,
    InvalidInput,
    LedgerCorrupt,
    NotFound,
    Unreadable,
)
from chalicelib.domain.fields import shown
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import (
    FIRST_HASH,
    Account,
    EntryType,
    LedgerEntry,
    Request,
    digest_of,
    entry_hash,
    erased_hash,
    operation_digest,
    without_texts,
)
from chalicelib.domain.verification import (
    Anchor,
    Link,
    Operation,
    Performance,
    StoredLine,
    check_links,
    check_markers,
    operation_of,
    verify,
)
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlation_id
from chalicelib.retries import Pause, pause_with_jitter

from . import partiql
from .database import (
    MOST_KEYS_A_BATCH,
    Item,
    describe,
    end_of_page,
    error_code,
    number,
    races,
    text,
)
from .reading import as_text, as_whole, read
from .throttling import THROTTLES, attempts_for_room

EXPIRY_SHARDS = 32
"""Index partitions per timezone: one takes 1,000 writes a second, a midnight can bring more."""

ENTRIES_A_SEARCH = 1_000
"""How many entries are searched for one page of a type: a rare one must not cost a whole ledger."""

ENTRIES_A_READ = 250
"""How many of them one query reads."""

INSERTS_A_REQUEST = 25
"""DynamoDB's limit of statements in a batch."""

_ENTRY_KEY = re.compile(r"entry#[0-9]{12,}")
_REVERSAL_KEY = re.compile(r"reversal#([0-9]{12,})#([0-9]{6,})")

Decide = Callable[[Account], LedgerEntry]
DecideOrStop = Callable[[Account], LedgerEntry | None]


class Outcome(NamedTuple):
    """What an operation on request came to.

    ``replayed``: the entry was there before, this request repeats an earlier one.
    ``expired``: of a reversal, the credits that could not return because their batch expired.
    """

    entry: LedgerEntry
    replayed: bool
    expired: int = 0


class Performed(NamedTuple):
    """The entry of an operation that was performed before, and whether by the same request."""

    entry: LedgerEntry
    is_same: bool


class HistoryPage(NamedTuple):
    """Some of the wanted entries, newest first, and the number to go on below (None: the end)."""

    entries: list[LedgerEntry]
    below: int | None


class ExpiringPage(NamedTuple):
    """One page of the expiry index: whose batches, and the sort key to go on after, if any.

    ``instants``: when each of them expires, None where its key cannot be read.
    """

    user_ids: list[str]
    last_key: str | None
    instants: list[datetime | None]


class Draft(NamedTuple):
    """An entry that was decided on and is not written yet, and what is to be stored of it."""

    entry: LedgerEntry
    item: Item

    @property
    def account(self) -> Account:
        """The account once it is written."""
        return Account(self.entry.user_id, self.entry, self.item["hash"]["S"])


class Inserted(NamedTuple):
    """What became of some drafts: written now, to be decided again, or to be inserted again."""

    appended: list[Draft]
    refused: list[Draft]
    throttled: list[Draft]


class Marker(NamedTuple):
    """What is kept of an operation: by which request, and which entry of whom it came to.

    ``expired``: what a reversal could not give back.
    """

    request: str
    owner: str
    number: int
    expired: int


class ReversalLink(NamedTuple):
    """The how-manieth reversal of a usage this was, and how much they have given back in all."""

    sequence: int
    reversed_in_all: int


class _Posting(NamedTuple):
    """An entry with what must be written with it or not at all."""

    entry: LedgerEntry
    also: Sequence[Item] = ()
    expired: int = 0


def fingerprint(request: Mapping[str, object]) -> str:
    """What tells one request from another under the same idempotency key."""
    canonical = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class LedgerStore:
    """All access to the ledger table.

    The calls of every allocation and use go to PynamoDB's client itself, with expressions that are
    written out: composing them anew for each user took a fifth of a worker's CPU.
    """

    def __init__(
        self, connection: Connection, table: str, pause: Pause = pause_with_jitter
    ) -> None:
        self._connection = connection
        self._table = table
        self._pause = pause
        describe(
            connection,
            table,
            ("user_id", "entry"),
            expiring=("expiry_partition", "expiry_key"),
        )

    @property
    def _client(self) -> Any:
        # Asked for each time: PynamoDB replaces a client that has found no credentials.
        return self._connection.client

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def account(self, user_id: str) -> Account:
        """The user's account as of now: one strongly consistent query."""
        last = next(self._items(user_id, "entry#", "entry$", page=1), None)
        return _account(last) if last else Account(user_id)

    def entry(self, user_id: str, entry_number: int) -> LedgerEntry:
        """One entry. Raises `NotFound`."""
        return _entry(self._entry_item(user_id, entry_number))

    def entries(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Item]:
        """Entries by user id and number as stored, those that exist; for `read_entry` to read.

        Strongly consistent; what DynamoDB leaves unprocessed is asked for again. Raises
        `Contention` if it never answers.
        """
        items = self._get_many((user_id, _entry_key(number)) for user_id, number in places)
        return {(_owner(item), _number(item)): item for item in items}

    def performed_before(
        self, requests: Mapping[str, Mapping[str, object]]
    ) -> dict[str, Performed | Unreadable]:
        """Of the requests by operation, those whose operation was performed before.

        One that is just being performed may be missing: whoever performs it meets the marker. In
        the place of one whose marker or entry cannot be read is the reason.
        Raises `Contention` if DynamoDB never answers.
        """
        operations = {_marker_key(operation_digest(operation)): operation for operation in requests}
        found: dict[str, Performed | Unreadable] = {}
        markers: dict[str, Marker] = {}
        for item in self._get_many((key, _MARKER) for key in operations):
            operation = operations[_owner(item)]
            try:
                markers[operation] = read_marker(item)
            except Unreadable as error:
                found[operation] = error
        entries = self.entries((marker.owner, marker.number) for marker in markers.values())
        for operation, marker in markers.items():
            try:
                found[operation] = Performed(
                    _entry_of(marker, entries),
                    marker.request == fingerprint(requests[operation]),
                )
            except Unreadable as error:
                found[operation] = error
        return found

    def newest_first(
        self, user_id: str, below: int | None = None, page: int = ENTRIES_A_READ
    ) -> Iterator[LedgerEntry]:
        """All entries, those numbered less than ``below`` when given.

        They are read ``page`` at a time, as they are wanted.
        """
        if below is not None and below <= 1:
            return
        highest = _entry_key(below - 1) if below else "entry$"
        for item in self._items(user_id, "entry#", highest, page=page):
            yield _entry(item)

    def history(
        self, user_id: str, below: int | None = None, limit: int = 100
    ) -> list[LedgerEntry]:
        """The first ``limit`` of them; fewer are all there are."""
        return list(islice(self.newest_first(user_id, below, limit), limit))

    def page(
        self,
        user_id: str,
        limit: int,
        below: int | None = None,
        *,
        kind: EntryType | None = None,
        since: datetime | None = None,
    ) -> HistoryPage:
        """A page of the history: entries of a type if given, none posted before ``since``.

        A page can hold fewer than ``limit`` entries and still not be the last: entries of a type
        are searched for among `ENTRIES_A_SEARCH` at a time.
        """
        found: list[LedgerEntry] = []
        entries = self.newest_first(user_id, below, limit if kind is None else ENTRIES_A_READ)
        for searched, entry in enumerate(entries, 1):
            if since is not None and entry.posted_at < since:
                break
            if kind is None or entry.type is kind:
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
            then = _account(self._entry_item(user_id, middle))
            if then.last and then.last.posted_at <= instant:
                low, found = middle, then
            else:
                high = middle
        return found

    def items(self, user_id: str) -> Iterator[Item]:
        """Every entry as stored, oldest first, whatever is wrong with it; for `read_line`."""
        return self._items(user_id, "entry#", "entry$", page=1000, newest_first=False)

    def lines(self, user_id: str) -> Iterator[StoredLine]:
        """Every line as stored, oldest first. Raises `LedgerCorrupt` for one that is none."""
        return (line for line, _ in self._stored(user_id))

    def verify(self, user_id: str) -> Account:
        """Walks the whole ledger; raises `LedgerCorrupt` at the first wrong line."""
        return verify(user_id, self._checked_lines(user_id, []))

    def audit(self, user_id: str, anchor: Anchor | None = None) -> Account:
        """The same, and whether its anchor is in it, and what stands beside the entries.

        That is their markers and the links of reversals; see `domain.verification`.
        """
        for _ in races(self._pause):
            operations: list[Operation] = []
            account = verify(user_id, self._checked_lines(user_id, operations), anchor)
            try:
                self._check_beside(user_id, operations)
            except LedgerCorrupt:
                # A writer may have been at work between the walk and this.
                if self.account(user_id).last_hash == account.last_hash:
                    raise
            else:
                return account
        raise Contention(f"the ledger of user {user_id} is written too often at the moment")

    def _check_beside(self, user_id: str, operations: Sequence[Operation]) -> None:
        """Whether each operation on request has its marker, and each reversal its link."""
        found = map(performance_of, self.markers(operation.digest for operation in operations))
        markers = {marker.digest: marker for marker in found}
        check_markers(user_id, operations, markers)
        links = [_link(item) for item in self.reversals(user_id)]
        check_links(user_id, operations, markers, links)

    def check_markers(self, markers: Sequence[Performance]) -> list[LedgerCorrupt]:
        """What is wrong with markers, wherever they were met: they must name their own entries."""
        entries = self.entries((marker.owner, marker.number) for marker in markers)
        wrong: list[LedgerCorrupt] = []
        for marker in markers:
            try:
                if digest_of(_entry_of(marker, entries)) != marker.digest:
                    problem = "the marker of another operation names it"
                    raise LedgerCorrupt(marker.owner, marker.number, problem)
            except LedgerCorrupt as error:
                wrong.append(error)
        return wrong

    def scan(self, start: str, page: int) -> Iterator[Item]:
        """Every item once, in the table's own order, beginning somewhere that ``start`` says."""
        after: Item | None = _key(start, "entry#")
        seen: set[tuple[str, str]] = set()
        # From the place to the table's end, and then from its beginning.
        for _ in range(2):
            while True:
                response = self._client.scan(
                    TableName=self._table,
                    Limit=page,
                    ReturnConsumedCapacity="TOTAL",
                    **({"ExclusiveStartKey": after} if after else {}),
                )
                for item in response["Items"]:
                    key = (item["user_id"]["S"], item["entry"]["S"])
                    if key not in seen:
                        seen.add(key)
                        yield item
                after = response.get("LastEvaluatedKey")
                if after is None:
                    break

    def _checked_lines(self, user_id: str, operations: list[Operation]) -> Iterator[StoredLine]:
        """Every line; once it has been verified, what the table keeps beside it is checked.

        The operations on request are added to ``operations``.
        """
        previous_hash = FIRST_HASH
        for line, item in self._stored(user_id):
            yield line
            entry = LedgerEntry.from_body(user_id, line.number, line.body)
            # The hash of a line whose texts were erased is that of its former body.
            as_written = _item(entry, previous_hash) | {"hash": text(line.hash)}
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
        """The markers of operations as stored, those that exist: by `domain.ledger.digest_of`."""
        return self._get_many((_marker_key(digest), _MARKER) for digest in digests)

    def reversals(self, user_id: str) -> Iterator[Item]:
        """The links of a user's reversals as stored, usage by usage."""
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
        """Whose batches expire in ``(after, until]``, from one shard of a timezone's index.

        A page can hold fewer than ``limit``, even none, and still not be the last.
        Raises `InvalidInput` for a ``last_key`` that lies behind them all.
        """
        # '$' sorts directly after '#': both bounds stand behind every key of their instant.
        lower = f"{last_key}\0" if last_key else f"{format_instant(after)}$"
        upper = f"{format_instant(until)}$"
        if lower > upper:  # DynamoDB would refuse that as if it were our mistake
            raise InvalidInput.of("cursor", f"lies behind the sweep; is {shown(last_key)}")
        response = self._connection.query(
            self._table,
            f"{timezone}#{shard:02}",
            Path("expiry_key").between(lower, upper),
            index_name="expiring",
            limit=limit,
        )
        items = response["Items"]
        return ExpiringPage(
            [_owner(item) for item in items],
            end_of_page(response, "expiry_key"),
            [_expiry(item) for item in items],
        )

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def post(
        self, user_id: str, decide: DecideOrStop, tried: Draft | None = None
    ) -> list[LedgerEntry]:
        """Scheduled work: appends what ``decide`` says until it says None.

        Idempotent by state: ``decide`` sees in the account what has been done before. Answers the
        entries appended; one that was refused because it was there already, its answer having been
        lost, is one of them. ``tried``: what `insert` refused. Raises `Contention` when others keep
        winning the race for the next number.
        """
        posted: list[LedgerEntry] = []
        for _ in races(self._pause):
            account = self.account(user_id)
            if tried and account.last_hash == tried.account.last_hash:
                posted.append(tried.entry)
            while tried := draft(account, decide):
                if not self._append(tried.item):
                    break
                posted.append(tried.entry)
                account = tried.account
            else:
                return posted
        raise Contention(f"the ledger of user {user_id} is written too often at the moment")

    def insert(self, drafts: Sequence[Draft]) -> Inserted:
        """Appends entries of as many users, at most `INSERTS_A_REQUEST`, in one request.

        It is no transaction: each entry is inserted if its number is free, whatever becomes of the
        others. What lost a race, or failed, is refused: `post` then decides it again, from what is
        stored, and so after an answer that was lost. What was throttled is as good as it was, and
        can be inserted again as it is.
        """
        response = self._client.batch_execute_statement(
            Statements=[partiql.insert(self._table, each.item) for each in drafts],
            ReturnConsumedCapacity="TOTAL",
        )
        inserted = Inserted([], [], [])
        for each, answer in zip(drafts, response["Responses"], strict=True):
            error = answer.get("Error")
            if error is None:
                inserted.appended.append(each)
            elif error["Code"] in THROTTLES:
                inserted.throttled.append(each)
            else:
                # A lost race; or what no other try mends: `post` then meets it for this user alone.
                inserted.refused.append(each)
        if inserted.refused:
            count(Metric.CONFLICTS_RETRIED, len(inserted.refused))
        return inserted

    def perform(
        self, user_id: str, operation: str, request: Mapping[str, object], decide: Decide
    ) -> Outcome:
        """Work on request, once per ``operation``: the same request again answers the first entry.

        Raises what ``decide`` raises, `IdempotencyKeyReused` for another request under the same
        operation, and `Contention` when bounded retries do not suffice.
        """
        return self._perform(
            user_id, operation, fingerprint(request), lambda account: _Posting(decide(account))
        )

    def performed(self, operation: str, request: Mapping[str, object]) -> Outcome | None:
        """What an operation came to that was performed before, None when it was not.

        Raises `IdempotencyKeyReused` when it was performed for another request.
        """
        marker = self._marker(operation)
        return self._replay(operation, fingerprint(request), marker) if marker else None

    def reverse(
        self,
        user_id: str,
        usage_number: int,
        amount: int | None,
        request: Request,
        now: datetime,
    ) -> Outcome:
        """Gives a usage back, wholly (``amount`` None) or partly; see `domain.ledger.reverse`."""
        described = {"user_id": user_id, "usage": usage_number, "amount": amount} | {
            "description": request.description
        }

        def decide(account: Account) -> _Posting:
            usage = self.entry(user_id, usage_number)
            # Entry 1 cannot be a usage: the domain refuses it before it looks at the one before.
            before = self.entry(user_id, usage_number - 1) if usage_number > 1 else usage
            sequence, reversed_before = self._last_reversal(user_id, usage_number)
            reversal = ledger.reverse(account, usage, before, reversed_before, amount, request, now)
            # Its own condition makes a reversal that has not seen the one before it fail.
            link: Item = {
                "user_id": text(user_id),
                "entry": text(f"{_reversals_key(usage_number)}{sequence + 1:06}"),
                "sequence": number(sequence + 1),
                "reversed_in_all": number(reversal.reversed_in_all),
            }
            return _Posting(reversal.entry, (link,), reversal.expired)

        return self._perform(user_id, request.operation, fingerprint(described), decide)

    def erase(self, user_id: str, names: Collection[str] = ()) -> Iterator[bool]:
        """Takes the texts out of a ledger, entry by entry; whether each was changed by this.

        See `domain.ledger.without_texts` for ``names``. What was erased before is left as it is, so
        that an erasure that was killed is finished by another. Amounts, numbers and the hash that
        the next entry is chained to stay; writers may go on meanwhile. Raises `LedgerCorrupt`
        before anything is changed: an erasure must not seal what somebody tampered with.
        """
        self.verify(user_id)
        previous_hash = FIRST_HASH
        for line in self.lines(user_id):
            entry = LedgerEntry.from_body(user_id, line.number, line.body)
            erased = without_texts(entry, names)
            yield erased != entry and self._replace_body(line, erased, previous_hash)
            previous_hash = line.hash

    def _replace_body(self, line: StoredLine, entry: LedgerEntry, previous_hash: str) -> bool:
        """Whether the entry was stored over the line; False when another did so meanwhile."""
        body = entry.body()
        seal = erased_hash(previous_hash, entry.user_id, body, line.hash)
        try:
            self._connection.update_item(
                self._table,
                entry.user_id,
                _entry_key(entry.number),
                actions=[Path("body").set(text(body)), Path("erased").set(text(seal))],
                condition=(Path("body") == text(line.body)) & (Path("hash") == text(line.hash)),
            )
        except UpdateError as error:
            if error_code(error) == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def _perform(
        self, user_id: str, operation: str, request_hash: str, decide: Callable[[Account], _Posting]
    ) -> Outcome:
        for attempt in races(self._pause):
            account = self.account(user_id)
            try:
                posting = decide(account)
            except CreditsError:
                # Refused as things stand now, but it may have been granted before: then replay.
                marker = self._marker(operation)
                if marker:
                    return self._replay(operation, request_hash, marker)
                raise
            entry = _correlated(posting.entry)
            marker_item: Item = {
                "user_id": text(_marker_key(operation_digest(operation))),
                "entry": text(_MARKER),
                "request": text(request_hash),
                "owner": text(user_id),
                "number": number(entry.number),
                "expired": number(posting.expired),
            }
            items = (_item(entry, account.last_hash), marker_item, *posting.also)
            try:
                self._transact(items)
            except ClientError as error:
                codes = partiql.cancelled_for(error)
                # What is there already is not said: an entry of others, or this very operation.
                marker = self._marker(operation) if codes & partiql.TAKEN else None
                if marker:
                    return self._replay(operation, request_hash, marker)
                if not partiql.is_lost_race(codes):
                    raise
                partiql.give_way(attempt + 1, codes)
            else:
                return Outcome(entry, replayed=False, expired=posting.expired)
        raise Contention(f"the ledger of user {user_id} is written too often at the moment")

    def _replay(self, operation: str, request_hash: str, marker: Marker) -> Outcome:
        if marker.request != request_hash:
            raise IdempotencyKeyReused(operation.split("#", 2)[-1])
        entry = self.entry(marker.owner, marker.number)
        count(Metric.DUPLICATES_REFUSED)
        return Outcome(entry, replayed=True, expired=marker.expired)

    def _append(self, item: Item) -> bool:
        """Whether the entry was inserted; False when its number is taken, or just being taken."""
        statement = partiql.insert(self._table, item)
        try:
            self._client.execute_statement(**statement, ReturnConsumedCapacity="TOTAL")
        except ClientError as error:
            if error_code(error) in partiql.LOST_RACES:
                return False
            raise
        return True

    def _transact(self, items: Sequence[Item]) -> None:
        """Inserts all items or none.

        The SDK gives the request a token: DynamoDB carries it out once, however often the SDK asks
        (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExecuteTransaction.html).
        """
        self._client.execute_transaction(
            TransactStatements=[partiql.insert(self._table, item) for item in items],
            ReturnConsumedCapacity="TOTAL",
        )

    def _marker(self, operation: str) -> Marker | None:
        """The marker of an operation, read so that one still being committed is not overlooked."""
        key = {"user_id": text(_marker_key(operation_digest(operation))), "entry": text(_MARKER)}
        for attempt in races(self._pause):
            try:
                response = self._connection.transact_get_items(
                    [{"TableName": self._table, "Key": key}]
                )
            except TransactGetError as error:
                if error_code(error) != "TransactionCanceledException":
                    raise
                codes = {why.code for why in error.cancellation_reasons if why}
                partiql.give_way(attempt + 1, codes)
            else:
                item = response["Responses"][0].get("Item")
                return read_marker(item) if item else None
        raise Contention(f"operation {operation} is being written at the moment")

    def _last_reversal(self, user_id: str, usage_number: int) -> ReversalLink:
        """How many reversals a usage has had, and how many credits they gave back."""
        key = _reversals_key(usage_number)
        last = next(self._items(user_id, key, f"{key[:-1]}$", page=1), None)
        return read_reversal(last) if last else ReversalLink(0, 0)

    def _items(
        self, user_id: str, first: str, last: str, page: int, *, newest_first: bool = True
    ) -> Iterator[Item]:
        """All items of a user with sort keys from ``first`` to ``last``, strongly consistent.

        They are read ``page`` at a time, and no page before its first item is wanted.
        """
        after: str | None = None
        while True:
            response = self._client.query(
                TableName=self._table,
                KeyConditionExpression="user_id = :user AND entry BETWEEN :first AND :last",
                ExpressionAttributeValues={
                    ":user": {"S": user_id},
                    ":first": {"S": first},
                    ":last": {"S": last},
                },
                Limit=page,
                ConsistentRead=True,
                ScanIndexForward=not newest_first,
                ReturnConsumedCapacity="TOTAL",
                **({"ExclusiveStartKey": _key(user_id, after)} if after else {}),
            )
            yield from response["Items"]
            after = end_of_page(response, "entry")
            if after is None:
                return

    def _get_many(self, keys: Iterable[tuple[str, str]]) -> Iterator[Item]:
        """Items by partition and sort key, those that exist, in no order."""
        wanted = [{"user_id": user_id, "entry": entry} for user_id, entry in {*keys}]
        for start in range(0, len(wanted), MOST_KEYS_A_BATCH):
            yield from self._get_batch(wanted[start : start + MOST_KEYS_A_BATCH])

    def _get_batch(self, missing: list[dict[str, str]]) -> list[Item]:
        found: list[Item] = []
        for _ in attempts_for_room(self._pause):
            response = self._connection.batch_get_item(
                self._table,
                missing,  # type: ignore[arg-type]  # its annotation knows of no sort keys
                consistent_read=True,
            )
            found += response["Responses"].get(self._table, ())
            unprocessed = response.get("UnprocessedKeys", {}).get(self._table, {})
            missing = [
                {"user_id": key["user_id"]["S"], "entry": key["entry"]["S"]}
                for key in unprocessed.get("Keys", ())
            ]
            if not missing:
                return found
        raise Contention(f"{len(missing)} entries could not be read at the moment")

    def _entry_item(self, user_id: str, entry_number: int) -> Item:
        response = self._connection.get_item(
            self._table, user_id, _entry_key(entry_number), consistent_read=True
        )
        item: Item | None = response.get("Item")
        if item is None:
            raise NotFound(f"user {user_id} has no transaction {user_id}-{entry_number}")
        return item


def draft(account: Account, decide: DecideOrStop) -> Draft | None:
    """The entry that ``decide`` wants next, ready to be written; None when it wants none."""
    decided = decide(account)
    if decided is None:
        return None
    entry = _correlated(decided)
    return Draft(entry, _item(entry, account.last_hash))


def read_entry(item: Item) -> LedgerEntry:
    """An entry as the table and its stream have it. Raises `LedgerCorrupt`."""
    return _entry(item)


def performance_of(item: Item) -> Performance:
    """What a marker says, for an audit. Raises `LedgerCorrupt`, in the marker's own name."""
    try:
        marker = read_marker(item)
    except Unreadable as error:
        raise LedgerCorrupt(_owner(item), 0, error.reason) from error
    digest = _owner(item).removeprefix(_MARKERS)
    return Performance(digest, marker.owner, marker.number, marker.expired)


def read_head(item: Item) -> Head:
    """The head that an entry is, as the stream has it. Raises `LedgerCorrupt`."""
    user_id, line = _owner(item), read_line(item)
    try:
        return Head.parse(f"{user_digest(user_id)} {line.number} {line.hash}\n")
    except ValueError as error:
        raise LedgerCorrupt(user_id, line.number, str(error)) from error


def is_marker(item: Item) -> bool:
    """Whether an item of the table is the marker of an operation."""
    return bool(item["user_id"]["S"].startswith(_MARKERS))


def _link(item: Item) -> Link:
    """A reversal's link, for an audit. Raises `LedgerCorrupt`."""
    user_id, key = _owner(item), item["entry"]["S"]
    found = _REVERSAL_KEY.fullmatch(key)
    if not found:
        raise LedgerCorrupt(user_id, 0, f"its key is {key!r}")
    usage, sequence = map(int, found.groups())
    try:
        link = read_reversal(item)
    except Unreadable as error:
        raise LedgerCorrupt(user_id, usage, error.reason) from error
    if link.sequence != sequence:
        raise LedgerCorrupt(user_id, usage, f"the sequence of {key} is another")
    return Link(usage, sequence, link.reversed_in_all)


def _correlated(entry: LedgerEntry) -> LedgerEntry:
    """The entry with the id of the operation under way: it joins the ledger to the logs."""
    return replace(entry, correlation_id=correlation_id())


def _entry_key(entry_number: int) -> str:
    return f"entry#{entry_number:012}"


def _key(user_id: str, entry: str) -> Item:
    return {"user_id": text(user_id), "entry": text(entry)}


def _reversals_key(usage_number: int) -> str:
    return f"reversal#{usage_number:012}#"


def _marker_key(digest: str) -> str:
    return f"{_MARKERS}{digest}"


def _item(entry: LedgerEntry, previous_hash: str) -> Item:
    body = entry.body()
    item = {
        "user_id": text(entry.user_id),
        "entry": text(_entry_key(entry.number)),
        "body": text(body),
        "hash": text(entry_hash(previous_hash, entry.user_id, body)),
    }
    batch = entry.granted_batch
    if entry.expiry_timezone and batch and batch.expires_at:
        shard = zlib.crc32(entry.user_id.encode()) % EXPIRY_SHARDS
        item["expiry_partition"] = text(f"{entry.expiry_timezone}#{shard:02}")
        item["expiry_key"] = text(
            f"{format_instant(batch.expires_at)}#{entry.user_id}#{batch.number}"
        )
    return item


def _entry(item: Item) -> LedgerEntry:
    number = _number(item)
    return LedgerEntry.from_body(_owner(item), number, _attribute(item, number, "body"))


def read_line(item: Item, supposed: int = 0) -> StoredLine:
    """An entry as the audit walks it. Raises `LedgerCorrupt`, with the number it should have."""
    number = _number(item, supposed)
    body, hash_ = (_attribute(item, number, name) for name in ("body", "hash"))
    erased = _attribute(item, number, "erased") if "erased" in item else None
    return StoredLine(number, body, hash_, erased)


def _account(item: Item) -> Account:
    entry = _entry(item)
    return Account(entry.user_id, entry, _attribute(item, entry.number, "hash"))


def _expiry(item: Item) -> datetime | None:
    instant, _, _ = item["expiry_key"]["S"].partition("#")
    try:
        return parse_instant("expiry_key", instant)
    except InvalidInput:
        return None


def _owner(item: Item) -> str:
    user_id: str = item["user_id"]["S"]  # a key: DynamoDB stores no item without one
    return user_id


def _number(item: Item, supposed: int = 0) -> int:
    """The number in an entry's key, else `LedgerCorrupt` of the one that it should be."""
    key = item["entry"]["S"]
    if not _ENTRY_KEY.fullmatch(key):
        raise LedgerCorrupt(_owner(item), supposed, f"its key is {key!r}")
    return int(key.removeprefix("entry#"))


def _attribute(item: Item, number: int, name: str) -> str:
    """A text of an entry. Raises `LedgerCorrupt`."""
    try:
        return value_of(item, name, as_text)
    except Damage as error:
        raise LedgerCorrupt(_owner(item), number, str(error)) from error


def _entry_of(marker: Marker | Performance, entries: Mapping[tuple[str, int], Item]) -> LedgerEntry:
    """What an operation came to. Raises `LedgerCorrupt`."""
    item = entries.get((marker.owner, marker.number))
    if item is None:
        raise LedgerCorrupt(marker.owner, marker.number, "it has a marker and is not there")
    return _entry(item)


def read_marker(item: Item) -> Marker:
    """The marker of an operation as the table has it. Raises `Unreadable`."""
    return read("ledger", _owner(item), item, _marker_of)


def _marker_of(item: Item) -> Marker:
    return Marker(
        request=value_of(item, "request", as_text),
        owner=value_of(item, "owner", as_text),
        number=value_of(item, "number", as_whole),
        expired=value_of(item, "expired", as_whole),
    )


def read_reversal(item: Item) -> ReversalLink:
    """The link of a reversal as the table has it. Raises `Unreadable`."""
    return read("ledger", f"user {_owner(item)}, {item['entry']['S']}", item, _reversal_of)


def _reversal_of(item: Item) -> ReversalLink:
    return ReversalLink(
        sequence=value_of(item, "sequence", as_whole),
        reversed_in_all=value_of(item, "reversed_in_all", as_whole),
    )


_MARKER = "operation"
"""The sort key of every marker."""

_MARKERS = "operation#"
"""How the partition key of every marker begins: no user id can, for it has a number sign."""
