"""The ledger table: appends entries exactly once and reads them back.

Every write is PartiQL's `INSERT`, alone, in a batch or in a transaction. It refuses a key that
exists (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.insert.html).
For an entry this is the optimistic lock (only one writer gets number n+1) and the order. For
scheduled work it is also the idempotency; for work on request the marker in the same transaction
provides that. No writer can leave the condition out, by mistake or on purpose: the only right to
write that our functions have is the right to insert, `dynamodb:PartiQLInsert`. The exception is
`erase`, which takes the texts out of a person's entries: an operator runs it with their own rights.

    writer A                      writer B
    reads entry 7                 reads entry 7
    inserts entry 8: accepted
                                  inserts entry 8: refused
                                  reads entry 8, decides again
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain import ledger
from chalicelib.domain.batches import CreditBatch
from chalicelib.domain.entries import (
    FIRST_HASH,
    LedgerEntry,
    erased_hash,
    operation_digest,
    without_texts,
)
from chalicelib.domain.errors import (
    Contention,
    CreditsError,
    IdempotencyKeyReused,
    LedgerCorrupt,
    Unreadable,
)
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.metadata import metadata_described
from chalicelib.domain.verification import Link, Marker, StoredLine
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlation_id

from . import partiql
from .database import Item, number, races, text
from .ledger_items import (
    MARKER,
    entry_key,
    entry_of,
    item_key,
    item_of,
    item_of_link,
    links_key,
    marker_key,
    owner_of,
    read_link,
    read_marker,
)
from .ledger_reading import LedgerReader
from .throttling import THROTTLES
from .wire.errors import ServiceError

INSERTS_A_REQUEST = 25
"""DynamoDB's limit of statements in a batch."""

Decide = Callable[[Account], LedgerEntry]
DecideOrStop = Callable[[Account], LedgerEntry | None]


class Outcome(NamedTuple):
    """The result of an operation on request.

    ``replayed``: the entry existed before, because this request repeats an earlier one.
    ``expired``: in a reversal or a refund, how many credits could not return because their batch
    expired.
    """

    entry: LedgerEntry
    replayed: bool
    expired: int = 0


class Performed(NamedTuple):
    """The entry of an operation performed before, and whether the same request performed it."""

    entry: LedgerEntry
    is_same: bool


class ManyPerformed(NamedTuple):
    """The result of several operations that share an entry.

    ``entry``: of those performed now; None if all were performed before. ``account``: as it was
    then. ``before``: the markers of those performed before, by operation.
    """

    entry: LedgerEntry | None
    account: Account
    before: dict[str, Marker]


class Draft(NamedTuple):
    """A decided but unwritten entry, and its item for the table."""

    entry: LedgerEntry
    item: Item

    @property
    def account(self) -> Account:
        """The account after the entry is written."""
        return Account(self.entry.user_id, self.entry, self.item["hash"]["S"])


class Inserted(NamedTuple):
    """The results of some drafts: written, to be decided again, or to be inserted again."""

    appended: list[Draft]
    refused: list[Draft]
    throttled: list[Draft]


class _Posting(NamedTuple):
    """An entry, and the items that must be written together with it."""

    entry: LedgerEntry
    also: Sequence[Item] = ()
    expired: int = 0


def draft(account: Account, decide: DecideOrStop) -> Draft | None:
    """The entry that ``decide`` wants next, ready to be written; None if it wants none."""
    decided = decide(account)
    if decided is None:
        return None
    entry = _correlated(decided)
    return Draft(entry, item_of(entry, account.last_hash))


def _correlated(entry: LedgerEntry) -> LedgerEntry:
    """The entry with the current operation's correlation id, which connects ledger and logs."""
    return replace(entry, correlation_id=correlation_id())


def _marker_item(operation: str, request_hash: str, entry: LedgerEntry, expired: int = 0) -> Item:
    """The item that keeps an operation from being performed twice."""
    return {
        "user_id": text(marker_key(operation_digest(operation))),
        "entry": text(MARKER),
        "request": text(request_hash),
        "owner": text(entry.user_id),
        "number": number(entry.number),
        "expired": number(expired),
    }


def fingerprint(request: Mapping[str, object]) -> str:
    """A digest that distinguishes different requests under one idempotency key."""
    canonical = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class LedgerStore(LedgerReader):
    """All access to the ledger table: reading, and appending exactly once."""

    def post(
        self, user_id: str, decide: DecideOrStop, tried: Draft | None = None
    ) -> list[LedgerEntry]:
        """Scheduled work: appends the entries that ``decide`` returns, until it returns None.

        Idempotent by state: ``decide`` sees earlier work in the account. Returns the appended
        entries, including one that was refused because it existed already (its answer was lost).
        ``tried``: an entry that `insert` refused. Raises `Contention` when others keep winning the
        race for the next number.
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
        """Appends entries, each of another user, at most `INSERTS_A_REQUEST`, in one request.

        This is not a transaction: each entry is inserted if its number is free, independently of
        the others. An entry that lost a race, or failed, is refused: `post` then decides it again
        from the stored data, even after a lost answer. A throttled entry can be inserted again
        unchanged.
        """
        statements = [partiql.insert(self._table, each.item) for each in drafts]
        response = self._client.call(
            "BatchExecuteStatement", {"Statements": statements, "ReturnConsumedCapacity": "TOTAL"}
        )
        inserted = Inserted([], [], [])
        for each, answer in zip(drafts, response["Responses"], strict=True):
            error = answer.get("Error")
            if error is None:
                inserted.appended.append(each)
            elif error["Code"] in THROTTLES:
                inserted.throttled.append(each)
            else:
                # A lost race, or a permanent fault, which `post` then meets for this user alone.
                inserted.refused.append(each)
        if inserted.refused:
            count(Metric.CONFLICTS_RETRIED, len(inserted.refused))
        return inserted

    def perform(
        self,
        user_id: str,
        operation: str,
        request: Mapping[str, object],
        decide: Decide,
        *,
        dry_run: bool = False,
    ) -> Outcome:
        """Work on request, once per ``operation``: a repeated request returns the first entry.

        A ``dry_run`` returns or raises what the request would now, and writes nothing. Raises what
        ``decide`` raises, `IdempotencyKeyReused` for another request under the same operation, and
        `Contention` when the bounded retries fail.
        """
        return self._perform(
            user_id,
            operation,
            fingerprint(request),
            lambda account: _Posting(decide(account)),
            dry_run=dry_run,
        )

    def perform_many(
        self,
        user_id: str,
        requests: Mapping[str, Mapping[str, object]],
        decide: Callable[[Account, Collection[str]], LedgerEntry],
    ) -> ManyPerformed:
        """Several operations on request in one entry, each performed at most once.

        ``requests`` by operation. ``decide`` is told which of them were not performed before. An
        operation can also be performed by itself, with `perform`: its marker is the same. Raises
        what ``decide`` raises, `IdempotencyKeyReused` for another request under the same operation,
        and `Contention` when the bounded retries fail.
        """
        before: dict[str, Marker] = {}
        for attempt in races(self._pause):
            account = self.account(user_id)
            new = [operation for operation in requests if operation not in before]
            if not new:
                count(Metric.DUPLICATES_REFUSED)
                return ManyPerformed(None, account, before)
            try:
                entry = _correlated(decide(account, new))
            except CreditsError:
                # Refused as things are now; but some may have been performed, and cost nothing.
                found = self._performed_among(requests, new)
                if not found:
                    raise
                before |= found
                continue
            markers = (
                _marker_item(operation, fingerprint(requests[operation]), entry)
                for operation in new
            )
            try:
                self._transact((item_of(entry, account.last_hash), *markers))
            except ServiceError as error:
                codes = partiql.cancelled_for(error)
                if codes & partiql.TAKEN:
                    before |= self._performed_among(requests, new)
                if not partiql.is_lost_race(codes):
                    raise
                partiql.give_way(attempt + 1, codes)
            else:
                return ManyPerformed(entry, account, before)
        raise Contention(f"the ledger of user {user_id} is written too often at the moment")

    def _performed_among(
        self, requests: Mapping[str, Mapping[str, object]], operations: Sequence[str]
    ) -> dict[str, Marker]:
        found = self._markers(operations)
        for operation, marker in found.items():
            if marker.request != fingerprint(requests[operation]):
                raise IdempotencyKeyReused(operation.split("#", 2)[-1])
        return found

    def performed(self, operation: str, request: Mapping[str, object]) -> Outcome | None:
        """The result of an operation that was performed before; None if it was not.

        Raises `IdempotencyKeyReused` if it was performed for another request.
        """
        marker = self._marker(operation)
        return self._replay(operation, fingerprint(request), marker) if marker else None

    def performed_before(
        self, requests: Mapping[str, Mapping[str, object]]
    ) -> dict[str, Performed | Unreadable]:
        """The results of those operations that were performed before; ``requests`` by operation.

        An operation that is being performed right now may be missing: performing it again then
        meets the marker. If a marker or an entry cannot be read, the error is in its place. Raises
        `Contention` if some keys stay unprocessed.
        """
        operations = {marker_key(operation_digest(operation)): operation for operation in requests}
        found: dict[str, Performed | Unreadable] = {}
        markers: dict[str, Marker] = {}
        for item in self._get_many((key, MARKER) for key in operations):
            operation = operations[owner_of(item)]
            try:
                markers[operation] = read_marker(item)
            except Unreadable as error:
                found[operation] = error
        entries = self.entries((marker.owner, marker.number) for marker in markers.values())
        for operation, marker in markers.items():
            try:
                found[operation] = Performed(
                    entry_of(marker, entries),
                    marker.request == fingerprint(requests[operation]),
                )
            except Unreadable as error:
                found[operation] = error
        return found

    def reverse(
        self,
        user_id: str,
        usage_number: int,
        amount: int | None,
        request: Request,
        now: datetime,
        *,
        dry_run: bool = False,
    ) -> Outcome:
        """Gives a usage back, fully (``amount`` None) or partly; see `domain.ledger.reverse`.

        A ``dry_run`` writes nothing; see `perform`.
        """
        described = {
            "user_id": user_id,
            "usage": usage_number,
            "amount": amount,
            "description": request.description,
            **metadata_described(request.metadata),
        }

        def decide(account: Account) -> _Posting:
            usage = self.entry(user_id, usage_number)
            # Entry 1 cannot be a usage: the domain refuses it before it looks at the entry before.
            before = self.entry(user_id, usage_number - 1) if usage_number > 1 else usage
            last = self._last_link(user_id, usage_number)
            reversal = ledger.reverse(account, usage, before, last.in_all, amount, request, now)
            # The condition of its insert makes a reversal fail that has not seen the one before it.
            link = Link(usage_number, last.sequence + 1, reversal.reversed_in_all)
            return _Posting(reversal.entry, (item_of_link(user_id, link),), reversal.expired)

        return self._perform(
            user_id, request.operation, fingerprint(described), decide, dry_run=dry_run
        )

    def refund(
        self,
        user_id: str,
        purchase_number: int,
        report: Callable[[], int],
        observed_at: datetime | None,
        request: Request,
        now: datetime,
        *,
        dry_run: bool = False,
    ) -> Outcome:
        """Takes a purchase back, or gives back what was taken; see `domain.ledger.refund`.

        ``report`` says what was refunded in all. It is called after the state of the purchase was
        read, and again after a lost race: so its data is never older than the state it changes.

        Idempotent by state: the last link of the purchase names the latest refund, and so its
        state. A report that says nothing new returns that refund. A ``dry_run`` writes nothing.
        Raises what the decision raises, and `Contention` when the bounded retries fail.
        """
        for attempt in races(self._pause):
            account = self.account(user_id)
            last = self._last_link(user_id, purchase_number)
            if last.number >= account.next_number:
                continue  # another refund came between the two reads
            before = self.entry(user_id, last.number) if last.number else None
            stands = before.refund if before else None
            batch = self._batch(account, purchase_number)
            in_all = report()
            refunded = ledger.refund(account, batch, stands, in_all, observed_at, request, now)
            if refunded is None:
                assert before is not None  # noqa: S101 - the first report says something new
                count(Metric.DUPLICATES_REFUSED)
                return Outcome(before, replayed=True, expired=last.expired)
            entry, expired = _correlated(refunded.entry), refunded.expired
            if dry_run:
                return Outcome(entry, replayed=False, expired=expired)
            link = Link(purchase_number, last.sequence + 1, in_all, entry.number, expired)
            try:
                self._transact((item_of(entry, account.last_hash), item_of_link(user_id, link)))
            except ServiceError as error:
                codes = partiql.cancelled_for(error)
                if not partiql.is_lost_race(codes):
                    raise
                partiql.give_way(attempt + 1, codes)
            else:
                return Outcome(entry, replayed=False, expired=expired)
        raise Contention(f"the ledger of user {user_id} is written too often at the moment")

    def is_refunded(self, user_id: str, purchase_number: int) -> bool:
        """Whether a refund of a purchase was ever reported."""
        return self._last_link(user_id, purchase_number).sequence > 0

    def _batch(self, account: Account, number: int) -> CreditBatch:
        """A batch of an account; if it is closed, as it was granted."""
        found = next((batch for batch in account.batches if batch.number == number), None)
        batch = found or self.entry(account.user_id, number).granted_batch
        if batch is None:
            raise LedgerCorrupt(account.user_id, number, "it is to have granted credits")
        return batch

    def erase(self, user_id: str, names: Collection[str] = ()) -> Iterator[bool]:
        """Takes the texts out of a ledger, entry by entry; yields whether it changed each.

        See `domain.entries.without_texts` for ``names``. Entries erased before stay unchanged, so
        you can finish a killed erasure by running it again. Amounts, numbers and the hash that
        chains the next entry stay. Writers may go on meanwhile. Raises `LedgerCorrupt` before
        anything is changed: an erasure must not seal a tampered ledger.
        """
        self.verify(user_id)
        previous_hash = FIRST_HASH
        for line in self.lines(user_id):
            entry = LedgerEntry.from_body(user_id, line.number, line.body)
            erased = without_texts(entry, names)
            yield erased != entry and self._replace_body(line, erased, previous_hash)
            previous_hash = line.hash

    def _replace_body(self, line: StoredLine, entry: LedgerEntry, previous_hash: str) -> bool:
        """Whether the entry replaced the line; False if another writer did so meanwhile."""
        from pynamodb.expressions.operand import Path

        from .conditions import changing

        body = entry.body()
        seal = erased_hash(previous_hash, entry.user_id, body, line.hash)
        as_read = (Path("body") == line.body) & (Path("hash") == line.hash)
        request = {
            "TableName": self._table,
            "Key": item_key(entry.user_id, entry_key(entry.number)),
            "ReturnConsumedCapacity": "TOTAL",
        }
        actions = [Path("body").set(body), Path("erased").set(seal)]
        try:
            self._client.call("UpdateItem", request | changing(actions, as_read))
        except ServiceError as error:
            if error.code == "ConditionalCheckFailedException":
                return False
            raise
        return True

    def _perform(
        self,
        user_id: str,
        operation: str,
        request_hash: str,
        decide: Callable[[Account], _Posting],
        *,
        dry_run: bool,
    ) -> Outcome:
        for attempt in races(self._pause):
            account = self.account(user_id)
            try:
                posting = decide(account)
            except CreditsError:
                # Refused as things are now, but it may have been granted before: then replay.
                marker = self._marker(operation)
                if marker:
                    return self._replay(operation, request_hash, marker)
                raise
            entry = _correlated(posting.entry)
            if dry_run:
                marker = self._marker(operation)
                if marker:
                    return self._replay(operation, request_hash, marker)
                return Outcome(entry, replayed=False, expired=posting.expired)
            marker_item = _marker_item(operation, request_hash, entry, posting.expired)
            items = (item_of(entry, account.last_hash), marker_item, *posting.also)
            try:
                self._transact(items)
            except ServiceError as error:
                codes = partiql.cancelled_for(error)
                # DynamoDB does not say which key exists: another writer's entry, or this very
                # operation.
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
        """Whether the entry was inserted; False if its number is taken, or is just being taken."""
        statement = partiql.insert(self._table, item)
        try:
            self._client.call("ExecuteStatement", statement | {"ReturnConsumedCapacity": "TOTAL"})
        except ServiceError as error:
            if error.code in partiql.LOST_RACES:
                return False
            raise
        return True

    def _transact(self, items: Sequence[Item]) -> None:
        """Inserts all items or none.

        The wire gives the request a token: DynamoDB carries it out once, even if it is sent again
        (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExecuteTransaction.html).
        """
        statements = [partiql.insert(self._table, item) for item in items]
        self._client.call(
            "ExecuteTransaction",
            {"TransactStatements": statements, "ReturnConsumedCapacity": "TOTAL"},
        )

    def _marker(self, operation: str) -> Marker | None:
        """The marker of an operation, read so that one that is still being committed is seen."""
        return self._markers([operation]).get(operation)

    def _markers(self, operations: Sequence[str]) -> dict[str, Marker]:
        """The existing markers of operations, read in the same way."""
        keys = [item_key(marker_key(operation_digest(each)), MARKER) for each in operations]
        gets = [{"Get": {"TableName": self._table, "Key": key}} for key in keys]
        for attempt in races(self._pause):
            try:
                response = self._client.call(
                    "TransactGetItems", {"TransactItems": gets, "ReturnConsumedCapacity": "TOTAL"}
                )
            except ServiceError as error:
                if error.code != "TransactionCanceledException":
                    raise
                partiql.give_way(attempt + 1, partiql.cancelled_for(error))
            else:
                items = (answer.get("Item") for answer in response["Responses"])
                found = zip(operations, items, strict=True)
                return {operation: read_marker(item) for operation, item in found if item}
        raise Contention(f"operation {operations[0]} is being written at the moment")

    def _last_link(self, user_id: str, entry_number: int) -> Link:
        """The last link of a usage or a purchase; without one, a link of zeros."""
        key = links_key(entry_number)
        last = next(self._items(user_id, key, f"{key[:-1]}$", page=1), None)
        return read_link(last, entry_number) if last else Link(entry_number, 0, 0)
