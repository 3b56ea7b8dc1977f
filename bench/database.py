"""The parts of DynamoDB and SQS that Credits uses, as a cheap process of its own.

    with serving() as database:
        database.endpoint, database.control("seed", ...)

With it we measure the *client*: it gives DynamoDB's answers over loopback in a few microseconds,
and holds ten million users (`bench.crowd`). It knows the conditions, transactions and index queries
that this project and its rivals in the benchmark use, and refuses everything else. It does not
replace the emulator, which the tests run on. The units it reports follow DynamoDB's published rules
and equal those of the emulator (`make units`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench.crowd import Crowd, Row

Values = dict[str, Any]

KEYS: dict[str, tuple[str, str | None]] = {
    "subscriptions": ("user_id", None),
    "ledger": ("user_id", "entry"),
    "usual": ("pk", "sk"),
}
"""The tables: their partition and sort keys."""

INDEXES = {
    "by_timezone": ("subscriptions", "allocation_timezone", "spread"),
    "by_anniversary": ("subscriptions", "anniversary", "spread"),
    "by_address": ("subscriptions", "address", "user_id"),
    "expiring": ("ledger", "expiry_partition", "expiry_key"),
}
"""The indexes, keys only: table, partition and sort key."""

_LAST = "\U0010ffff"

_quoted = json.encoder.encode_basestring
"""A text as JSON: a page of an index has two thousand, and `json.dumps` takes four times as long.
"""

_DUPLICATE = "Duplicate primary key exists in table"


class Refused(Exception):
    """An answer other than 200: the error's name, and the other fields of DynamoDB's answer."""

    def __init__(self, code: str, **more: object) -> None:
        super().__init__(code)
        self.code = code
        self.more = more


class Partition:
    """The items of one partition key, by sort key."""

    __slots__ = ("items", "keys")

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.items: list[bytes] = []

    def get(self, key: str) -> bytes | None:
        """The item under a sort key."""
        place = bisect_left(self.keys, key)
        return self.items[place] if place < len(self.keys) and self.keys[place] == key else None

    def put(self, key: str, item: bytes) -> None:
        """Puts an item, and replaces an existing one."""
        place = bisect_left(self.keys, key)
        if place < len(self.keys) and self.keys[place] == key:
            self.items[place] = item
        else:
            self.keys.insert(place, key)
            self.items.insert(place, item)


class Store:
    """The tables and queues, and one method for each operation."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, Partition]] = {name: {} for name in KEYS}
        self.indexes: dict[str, defaultdict[str, Sequence[Row]]] = {
            name: defaultdict(list) for name in INDEXES
        }
        self.crowds: dict[str, Crowd] = {}
        self.messages: list[str] = []
        self.counts: Counter[str] = Counter()
        self.write_units = 0.0
        self.read_units = 0.0

    def answer(self, operation: str, values: Values) -> bytes:
        """The answer of an operation, as JSON. Raises `Refused`."""
        self.counts[operation] += 1
        method = getattr(self, f"_{operation}", None)
        if method is None:
            raise Refused("UnknownOperationException", message=operation)
        answer: bytes = method(values)
        return answer

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    def _Query(self, values: Values) -> bytes:  # noqa: N802 - named as AWS names it
        key, low, high = _key_condition(values)
        limit = values.get("Limit", 1_000_000)
        if "IndexName" in values:
            return self._query_index(values["IndexName"], key, low, high, limit)
        partition = self.tables[_table(values)].get(key)
        if partition is None:
            return self._read([], _read_units(0, consistent=values.get("ConsistentRead")))
        start, end = bisect_left(partition.keys, low), bisect_right(partition.keys, high)
        if values.get("ScanIndexForward", True):
            found = partition.items[start : min(end, start + limit)]
        else:
            found = partition.items[max(start, end - limit) : end][::-1]
        size = sum(map(len, found))
        return self._read(found, _read_units(size, consistent=values.get("ConsistentRead")))

    def _query_index(self, index: str, key: str, low: str, high: str, limit: int) -> bytes:
        _, partition_name, sort_name = INDEXES[index]
        rows = self.indexes[index].get(key, [])
        start, end = bisect_left(rows, (low, "")), bisect_right(rows, (high, _LAST))
        rows = rows[start : min(end, start + limit)]
        begins = f'{{"{partition_name}":{{"S":{_quoted(key)}}},"{sort_name}":{{"S":'
        found = [
            f'{begins}{_quoted(sort)}}},"user_id":{{"S":{_quoted(user_id)}}}}}'.encode()
            for sort, user_id in rows
        ]
        more = b',"LastEvaluatedKey":%b' % found[-1] if found and start + limit < end else b""
        return self._read(found, _read_units(sum(map(len, found)), consistent=False), more)

    def _read(self, items: list[bytes], units: float, more: bytes = b"") -> bytes:
        self.read_units += units
        return b'{"Items":[%b],"Count":%d,"ScannedCount":%d,"ConsumedCapacity":%b%b}' % (
            b",".join(items),
            len(items),
            len(items),
            _capacity(units),
            more,
        )

    def _GetItem(self, values: Values) -> bytes:  # noqa: N802
        item = self._find(_table(values), values["Key"])
        units = _read_units(len(item or b""), consistent=values.get("ConsistentRead"))
        self.read_units += units
        found = b'"Item":%b,' % item if item else b""
        return b'{%b"ConsumedCapacity":%b}' % (found, _capacity(units))

    def _BatchGetItem(self, values: Values) -> bytes:  # noqa: N802
        parts = []
        for name, wanted in values["RequestItems"].items():
            found = [
                item
                for key in wanted["Keys"]
                if (item := self._find(_short(name), key)) is not None
            ]
            self.read_units += sum(
                _read_units(len(item), consistent=wanted.get("ConsistentRead")) for item in found
            )
            parts.append(b'"%b":[%b]' % (name.encode(), b",".join(found)))
        return b'{"Responses":{%b},"UnprocessedKeys":{}}' % b",".join(parts)

    def _TransactGetItems(self, values: Values) -> bytes:  # noqa: N802
        found = [
            self._find(_table(each["Get"]), each["Get"]["Key"]) for each in values["TransactItems"]
        ]
        self.read_units += 2.0 * len(found)
        parts = (b'{"Item":%b}' % item if item else b"{}" for item in found)
        return b'{"Responses":[%b]}' % b",".join(parts)

    def _find(self, table: str, key: Values) -> bytes | None:
        partition_name, sort_name = KEYS[table]
        name = key[partition_name]["S"]
        partition = self.tables[table].get(name)
        if partition is None:
            crowd = self.crowds.get(name.rpartition("-")[0]) if table == "subscriptions" else None
            return crowd.item(name) if crowd else None
        return partition.get(key[sort_name]["S"] if sort_name else "")

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    def _PutItem(self, values: Values) -> bytes:  # noqa: N802
        table, item = _table(values), values["Item"]
        present = self._find(table, item)
        if not _holds(values, present):
            raise Refused(
                "ConditionalCheckFailedException", message="The conditional request failed"
            )
        units = self._put(table, item)
        return b'{"ConsumedCapacity":%b}' % _capacity(units)

    def _put(self, table: str, item: Values, factor: int = 1) -> float:
        partition_name, sort_name = KEYS[table]
        key, sort = item[partition_name]["S"], item[sort_name]["S"] if sort_name else ""
        body = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
        before = self._find(table, item) if sort_name is None else None
        if before is not None:
            self._unindex(table, json.loads(before))
        partition = self.tables[table].get(key)
        if partition is None:
            partition = self.tables[table][key] = Partition()
        partition.put(sort, body)
        units = write_units(item) * factor
        for name, (of_table, index_partition, index_sort) in INDEXES.items():
            if of_table == table and index_partition in item and index_sort in item:
                row = (item[index_sort]["S"], item["user_id"]["S"])
                insort(self._rows(name, item[index_partition]["S"]), row)
                units += 1
        self.write_units += units
        return units

    def _unindex(self, table: str, item: Values) -> None:
        for name, (of_table, index_partition, index_sort) in INDEXES.items():
            if of_table == table and index_partition in item and index_sort in item:
                rows = self._rows(name, item[index_partition]["S"])
                row = (item[index_sort]["S"], item["user_id"]["S"])
                place = bisect_left(rows, row)
                if place < len(rows) and rows[place] == row:
                    del rows[place]

    def _rows(self, index: str, key: str) -> list[Row]:
        """The rows of a partition of an index, as a list that can be changed."""
        rows = self.indexes[index][key]
        if not isinstance(rows, list):
            rows = self.indexes[index][key] = list(rows)
        return rows

    def _TransactWriteItems(self, values: Values) -> bytes:  # noqa: N802
        writes = []
        reasons: list[Values] = []
        for each in values["TransactItems"]:
            ((kind, part),) = each.items()
            table = _table(part)
            present = self._find(table, part["Item"] if kind == "Put" else part["Key"])
            if _holds(part, present):
                reasons.append({"Code": "None"})
            else:
                reason = {"Code": "ConditionalCheckFailed", "Message": "The condition failed"}
                if present and part.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
                    reason["Item"] = json.loads(present)
                reasons.append(reason)
            writes.append((kind, table, part, present))
        if any(reason["Code"] != "None" for reason in reasons):
            raise Refused(
                "TransactionCanceledException",
                Message="Transaction cancelled",
                CancellationReasons=reasons,
            )
        units = 0.0
        for kind, table, part, present in writes:
            item = part["Item"] if kind == "Put" else _updated(part, present)
            units += self._put(table, item, factor=2)
        return b'{"ConsumedCapacity":[%b]}' % _capacity(units)

    def _BatchWriteItem(self, values: Values) -> bytes:  # noqa: N802
        for name, requests in values["RequestItems"].items():
            for request in requests:
                self._put(_short(name), request["PutRequest"]["Item"])
        return b'{"UnprocessedItems":{}}'

    def _ExecuteStatement(self, values: Values) -> bytes:  # noqa: N802
        """A conditional insert: it is refused if the item exists."""
        table, item = inserted(values)
        if self._find(table, item) is not None:
            raise Refused("DuplicateItemException", message=_DUPLICATE)
        return b'{"Items":[],"ConsumedCapacity":%b}' % _capacity(self._put(table, item))

    def _BatchExecuteStatement(self, values: Values) -> bytes:  # noqa: N802
        """Conditional inserts, each by itself."""
        answers = []
        for statement in values["Statements"]:
            table, item = inserted(statement)
            if self._find(table, item) is None:
                self._put(table, item)
                answers.append(b"{}")
            else:
                answers.append(b'{"Error":{"Code":"DuplicateItem"}}')
        return b'{"Responses":[%b]}' % b",".join(answers)

    def _ExecuteTransaction(self, values: Values) -> bytes:  # noqa: N802
        """Conditional inserts, all or none."""
        inserts = [inserted(statement) for statement in values["TransactStatements"]]
        taken = [self._find(table, item) is not None for table, item in inserts]
        if any(taken):
            raise Refused(
                "TransactionCanceledException",
                Message="Transaction cancelled",
                CancellationReasons=[
                    {"Code": "DuplicateItem", "Message": _DUPLICATE} if each else {"Code": "None"}
                    for each in taken
                ],
            )
        units = sum(self._put(table, item, factor=2) for table, item in inserts)
        return b'{"Responses":[],"ConsumedCapacity":[%b]}' % _capacity(units)

    # ── queues, and the bench's own ──────────────────────────────────────────────────────────────

    def _SendMessageBatch(self, values: Values) -> bytes:  # noqa: N802
        self.messages += (entry["MessageBody"] for entry in values["Entries"])
        sent = [{"Id": each["Id"], "MessageId": each["Id"]} for each in values["Entries"]]
        return json.dumps({"Successful": sent}).encode()

    def _control_reset(self, _: Values) -> bytes:
        self.__init__()  # type: ignore[misc]
        return b"{}"

    def _control_seed(self, values: Values) -> bytes:
        """Makes users of one zone and plan."""
        item: Values = values["subscription"]
        crowd = Crowd(values["prefix"], values["users"], item)
        self.crowds[values["prefix"]] = crowd
        zone = item["allocation_timezone"]["S"]
        present = self.indexes["by_timezone"].get(zone)
        self.indexes["by_timezone"][zone] = sorted((*present, *crowd)) if present else crowd
        return b"{}"

    def _control_write(self, values: Values) -> bytes:
        """Puts any number of items, unconditionally."""
        return self._BatchWriteItem(values)

    def _control_forget(self, values: Values) -> bytes:
        """Empties a table and its indexes, so that the same work can be done again."""
        for table in values["tables"]:
            self.tables[table] = {}
            if table == "subscriptions":
                self.crowds.clear()
            for name, (of_table, *_) in INDEXES.items():
                if of_table == table:
                    self.indexes[name].clear()
        return b"{}"

    def _control_messages(self, _: Values) -> bytes:
        """Returns and removes the messages sent so far."""
        taken, self.messages = self.messages, []
        return json.dumps(taken).encode()

    def _control_counts(self, _: Values) -> bytes:
        """Requests by operation and units since the last call."""
        counts = Counter(
            {name: n for name, n in self.counts.items() if not name.startswith("control")}
        )
        answer = {"requests": counts, "write": self.write_units, "read": self.read_units}
        self.counts.clear()
        self.write_units = self.read_units = 0.0
        return json.dumps(answer).encode()

    def _control_sizes(self, _: Values) -> bytes:
        """How many items each table holds, without the crowds."""
        return json.dumps(
            {
                name: sum(len(partition.keys) for partition in table.values())
                for name, table in self.tables.items()
            }
        ).encode()


# ── The rules of DynamoDB ────────────────────────────────────────────────────────────────────────


def _table(values: Values) -> str:
    return _short(values["TableName"])


def _short(name: str) -> str:
    return name.rpartition("-")[2]


def _capacity(units: float) -> bytes:
    return b'{"TableName":"bench","CapacityUnits":%.1f}' % units


def _read_units(size: int, *, consistent: bool | None) -> float:
    return max(1, -(-size // 4096)) * (1.0 if consistent else 0.5)


def write_units(item: Values) -> int:
    """The units of a write: one a KB of names and values."""
    size = 0
    for name, value in item.items():
        ((_, inner),) = value.items()
        size += len(name) + len(str(inner).encode())
    return max(1, -(-size // 1024))


def _key_condition(values: Values) -> tuple[str, str, str]:
    """The partition, and the least and greatest sort key of a query."""
    given = values["ExpressionAttributeValues"]
    # Without brackets and commas: "a = :0", then nothing, or one condition on the sort key.
    words = values["KeyConditionExpression"].translate(_BRACKETS).split()
    partition = given[words[2]]["S"]
    match words[4:]:
        case []:
            return partition, "", _LAST
        case ["begins_with", _, value]:
            return partition, given[value]["S"], given[value]["S"] + _LAST
        case [_, "BETWEEN", low, "AND", high]:
            return partition, given[low]["S"], given[high]["S"]
        case [_, ">", value]:
            return partition, given[value]["S"] + "\0", _LAST
        case _:
            raise Refused("ValidationException", message=values["KeyConditionExpression"])


_BRACKETS = str.maketrans("(),", "   ")

_ABSENT = re.compile(r"attribute_not_exists ?\((\S+?)\)")
_COMPARED = re.compile(r"(\S+) (=|>=) (:\w+)")


def _holds(part: Values, present: bytes | None) -> bool:  # noqa: PLR0911 - one for each form
    """Whether a condition holds for what is stored."""
    condition = part.get("ConditionExpression")
    if condition is None:
        return True
    if _ABSENT.search(condition):
        return present is None
    if present is None:
        return False
    names, given = part.get("ExpressionAttributeNames", {}), part["ExpressionAttributeValues"]
    item = json.loads(present)
    for name, relation, value in _COMPARED.findall(condition.replace("(", "").replace(")", "")):
        stored, wanted = item.get(names.get(name, name)), given[value]
        if stored is None:
            return False
        if relation == "=" and stored != wanted:
            return False
        if relation == ">=" and int(stored["N"]) < int(wanted["N"]):
            return False
    return True


_ASSIGNMENT = re.compile(r"(\S+) = (?:(\S+) ([+-]) )?(:\w+)")


def _updated(part: Values, present: bytes | None) -> Values:
    """An item after an update of the forms ``SET a = :v`` and ``SET a = a + :v``."""
    item: Values = json.loads(present) if present else dict(part["Key"])
    names, given = part.get("ExpressionAttributeNames", {}), part["ExpressionAttributeValues"]
    for name, base, sign, value in _ASSIGNMENT.findall(part["UpdateExpression"]):
        name = names.get(name, name)  # noqa: PLW2901
        if base:
            change = int(given[value]["N"]) * (-1 if sign == "-" else 1)
            item[name] = {"N": str(int(item.get(name, {"N": "0"})["N"]) + change)}
        else:
            item[name] = given[value]
    return item


def inserted(statement: Values) -> tuple[str, Values]:
    """Table and item of an ``INSERT INTO "t" VALUE {'a': ?, ...}``."""
    table = statement["Statement"].split('"')[1]
    names = re.findall(r"'(\w+)' ?: ?\?", statement["Statement"])
    return _short(table), dict(zip(names, statement["Parameters"], strict=True))


# ── The server ───────────────────────────────────────────────────────────────────────────────────


class _Connection(asyncio.Protocol):
    def __init__(self, store: Store) -> None:
        self._store = store
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._received[:end]).lower()
            length = int(_header(head, b"content-length") or 0)
            if len(self._received) < end + 4 + length:
                return
            original = bytes(self._received[:end])
            body = bytes(self._received[end + 4 : end + 4 + length])
            del self._received[: end + 4 + length]
            place = head.find(b"x-amz-target: ") + len(b"x-amz-target: ")
            target = original[place:].split(b"\r\n", 1)[0].decode()
            self._answer(target.rpartition(".")[2], body)

    def _answer(self, operation: str, body: bytes) -> None:
        status = b"200 OK"
        try:
            content = self._store.answer(operation, json.loads(body))
        except Refused as error:
            status = b"400 Bad Request"
            content = json.dumps({"__type": f"bench#{error.code}", **error.more}).encode()
        assert self._transport is not None  # noqa: S101
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/x-amz-json-1.0\r\n"
            b"x-amzn-RequestId: bench\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(content), content)
        )


def _header(head: bytes, name: bytes) -> bytes | None:
    place = head.find(b"\r\n" + name + b":")
    if place < 0:
        return None
    return head[place + len(name) + 3 :].split(b"\r\n", 1)[0].strip()


async def _serve(listening: socket.socket) -> None:
    store = Store()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(store), sock=listening)
    # Our starter holds the other end of standard input; when it closes, we end.
    ended: asyncio.Future[None] = loop.create_future()

    def end_with_starter() -> None:
        if not ended.done() and not os.read(0, 1):
            ended.set_result(None)

    loop.add_reader(0, end_with_starter)
    async with server:
        await ended


@dataclass(frozen=True)
class Database:
    """A running database: its address, and the bench's own operations."""

    endpoint: str
    process_id: int

    def control(self, what: str, **values: object) -> Any:
        """Calls one of the ``_control_*`` operations."""
        request = urllib.request.Request(  # noqa: S310 - our own address
            self.endpoint,
            data=json.dumps(values).encode(),
            headers={"X-Amz-Target": f"Bench.control_{what}"},
        )
        with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
            return json.loads(response.read())


@contextmanager
def serving() -> Iterator[Database]:
    """An empty database, in a process of its own, until the block ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        os.set_inheritable(listening.fileno(), True)  # noqa: FBT003
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.database", str(listening.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
        port = listening.getsockname()[1]
    try:
        database = Database(f"http://127.0.0.1:{port}", process.pid)
        for _ in range(100):
            try:
                database.control("counts")
                break
            except OSError:
                time.sleep(0.05)
        yield database
    finally:
        assert process.stdin is not None  # noqa: S101
        process.stdin.close()
        process.wait(timeout=60)


if __name__ == "__main__":
    asyncio.run(_serve(socket.socket(fileno=int(sys.argv[1]))))
