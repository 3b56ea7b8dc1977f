"""DynamoDB in memory: exactly the operations Credits uses, strictly.

An operation or a parameter that is not modelled stops the simulation by name: nothing is answered
by guessing. It is held to moto and to the emulator (`conformance`).
"""

import ast
import json
import operator
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from tests.partiql import read_update

Json = dict[str, Any]
Key = tuple[str, str]


class NotModelledError(BaseException):
    """The product asks AWS for something that this model does not know; no handler may catch it."""


class Refused(Exception):
    """An error answer of a service."""

    def __init__(self, code: str, status: int = 400, **more: object) -> None:
        super().__init__(code)
        self.status = status
        self.body: Json = {"__type": code, "message": code, **more}


_BETWEEN = re.compile(r"([#\w]+) BETWEEN (:\w+) AND (:\w+)")
_AS_IN_PYTHON = {" = ": " == ", " AND ": " and ", " OR ": " or ", "#": "name_", ":": "value_"}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.Lt: operator.lt,
    ast.Gt: operator.gt,
}


@cache
def _parsed(expression: str) -> ast.expr:
    """A condition, read by Python's own parser."""
    text = _BETWEEN.sub(r"\2 <= \1 <= \3", expression)
    for theirs, ours in _AS_IN_PYTHON.items():
        text = text.replace(theirs, ours)
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise NotModelledError(f"expression {expression}") from error


def _word(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    raise NotModelledError(f"{ast.unparse(node)} in an expression")


def _plain(attribute: Json) -> str | int:
    ((kind, value),) = attribute.items()
    if kind == "S":
        return str(value)
    if kind == "N":
        return int(value)
    raise NotModelledError(f"an attribute of type {kind}")


@dataclass(frozen=True)
class _Condition:
    """A condition expression with its names and values."""

    parsed: ast.expr
    names: Mapping[str, str]
    values: Mapping[str, Json]

    @classmethod
    def of(cls, parameters: Json, name: str = "ConditionExpression") -> "_Condition":
        return cls(
            _parsed(parameters[name]),
            parameters.get("ExpressionAttributeNames", {}),
            parameters.get("ExpressionAttributeValues", {}),
        )

    def name(self, node: ast.expr) -> str:
        word = _word(node)
        return self.names[f"#{word[5:]}"] if word.startswith("name_") else word

    def value(self, node: ast.expr) -> Any:
        return _plain(self.values[f":{_word(node).removeprefix('value_')}"])

    def holds(self, item: Json, node: ast.expr | None = None) -> bool:
        match node or self.parsed:
            case ast.BoolOp(op=ast.And(), values=parts):
                return all(self.holds(item, part) for part in parts)
            case ast.BoolOp(op=ast.Or(), values=parts):
                return any(self.holds(item, part) for part in parts)
            case ast.Call(func=ast.Name(id="attribute_exists"), args=[name]):
                return self.name(name) in item
            case ast.Call(func=ast.Name(id="attribute_not_exists"), args=[name]):
                return self.name(name) not in item
            case ast.Compare(left=name, ops=[how], comparators=[value]) if (
                type(how) in _COMPARISONS
            ):
                attribute = item.get(self.name(name))
                if attribute is None:
                    return False
                found, wanted = _plain(attribute), self.value(value)
                return type(found) is type(wanted) and _COMPARISONS[type(how)](found, wanted)
        raise NotModelledError(f"condition {ast.unparse(node or self.parsed)}")

    def range(self) -> tuple[dict[str, str], str | None, str, str]:
        """Of a key condition: the values that are fixed, and the bounds of the one that is not."""
        fixed: dict[str, str] = {}
        ranged: tuple[str | None, str, str] = (None, "", "\U0010ffff")
        for node in self.parsed.values if isinstance(self.parsed, ast.BoolOp) else [self.parsed]:
            match node:
                case ast.Compare(left=name, ops=[ast.Eq()], comparators=[value]):
                    fixed[self.name(name)] = self.value(value)
                case ast.Compare(left=name, ops=[ast.Gt()], comparators=[value]):
                    ranged = (self.name(name), self.value(value) + "\0", "\U0010ffff")
                case ast.Compare(left=low, ops=[ast.LtE(), ast.LtE()], comparators=[name, high]):
                    ranged = (self.name(name), self.value(low), self.value(high))
                case ast.Call(func=ast.Name(id="begins_with"), args=[name, value]):
                    prefix = self.value(value)
                    ranged = (self.name(name), prefix, prefix + "\U0010ffff")
                case _:
                    raise NotModelledError(f"key condition {ast.unparse(self.parsed)}")
        return fixed, *ranged


_MOST_ITEM_BYTES = 400 * 1024
_MOST_KEY_BYTES = (2048, 1024)
"""Of a partition key and of a sort key
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)."""

MOST_PAGE_BYTES = 1_000_000
"""A page of a query ends there, whatever its limit is
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Query.Pagination.html)."""


def bytes_of(item: Json) -> int:
    """About the size of an item as DynamoDB counts it: names and values."""
    return sum(
        len(name.encode()) + len(str(value).encode())
        for name, attribute in item.items()
        for value in attribute.values()
    )


@dataclass
class Table:
    """Items by key, and what lies in each partition of the table and of its indexes in order."""

    name: str
    keys: tuple[str, ...]
    indexes: dict[str, tuple[str, str]]
    has_stream: bool = False
    items: dict[Key, Json] = field(default_factory=dict)
    partitions: dict[str, dict[str, list[tuple[str, Key]]]] = field(default_factory=dict)
    writes: int = 0

    def copy(self) -> "Table":
        """Items are replaced and never altered, so they can be shared."""
        partitions = {
            name: {partition: list(rows) for partition, rows in index.items()}
            for name, index in self.partitions.items()
        }
        return replace(self, items=dict(self.items), partitions=partitions)

    def key_of(self, item: Json) -> Key:
        hash_key, *range_key = (str(item[name]["S"]) for name in self.keys)
        return hash_key, range_key[0] if range_key else ""

    def key_item(self, key: Key) -> Json:
        return {name: {"S": value} for name, value in zip(self.keys, key, strict=False)}

    def get(self, key_item: Json) -> Json | None:
        if set(key_item) != set(self.keys):
            raise Refused("ValidationException")
        return self.items.get(self.checked_key_of(key_item))

    def checked_key_of(self, item: Json) -> Key:
        """The key of an item. DynamoDB takes no key that is empty or too long."""
        self._check_keys(item, self.keys)
        return self.key_of(item)

    @staticmethod
    def _check_keys(item: Json, names: Iterable[str]) -> None:
        for name, most in zip(names, _MOST_KEY_BYTES, strict=False):
            if name in item and not 0 < len(str(item[name]["S"]).encode()) <= most:
                raise Refused("ValidationException")

    def put(self, item: Json) -> None:
        for keys in (self.keys, *self.indexes.values()):
            self._check_keys(item, keys)
        if bytes_of(item) > _MOST_ITEM_BYTES:
            raise Refused("ValidationException")
        self.delete(item)
        key = self.key_of(item)
        self.items[key] = item
        for rows, row in self._rows(item, key):
            insort(rows, row)

    def delete(self, key_item: Json) -> None:
        key = self.key_of(key_item)
        self.writes += 1
        old = self.items.pop(key, None)
        if old is not None:
            for rows, row in self._rows(old, key):
                rows.remove(row)

    def _rows(self, item: Json, key: Key) -> Iterator[tuple[list[tuple[str, Key]], Any]]:
        for name, keys in {"": self.keys, **self.indexes}.items():
            if all(attribute in item for attribute in keys):
                partition, *order = (str(item[attribute]["S"]) for attribute in keys)
                rows = self.partitions.setdefault(name, {}).setdefault(partition, [])
                yield rows, (order[0] if order else "", key)

    def query(self, parameters: Json, most: int | None, most_bytes: int) -> Json:
        """A page; ``most`` items and bytes at most, however many were asked for."""
        index = parameters.get("IndexName", "")
        keys = self.indexes[index] if index else self.keys
        if index and parameters.get("ConsistentRead"):
            raise Refused("ValidationException")
        condition = _Condition.of(parameters, "KeyConditionExpression")
        fixed, ranged, low, high = condition.range()
        if set(fixed) != {keys[0]} or ranged not in (None, keys[1]):
            raise NotModelledError(f"key condition {ast.unparse(condition.parsed)}")
        self._check_keys({keys[0]: {"S": fixed[keys[0]]}}, keys)
        if low > high:  # as AWS says; moto finds nothing
            raise Refused("ValidationException")
        rows = self.partitions.get(index, {}).get(fixed[keys[0]], [])
        found = rows[
            bisect_left(rows, (low, ("", ""))) : bisect_right(rows, (high, ("\U0010ffff", "")))
        ]
        if not parameters.get("ScanIndexForward", True):
            found.reverse()
        start = parameters.get("ExclusiveStartKey")
        if start is not None:
            places = [row[1] for row in found]
            found = found[places.index(self.key_of(start)) + 1 :]
        limit = min(parameters.get("Limit", 1_000_000), most or 1_000_000)
        items: list[Json] = []
        left = most_bytes
        answer: Json = {}
        for _, key in found:
            # Of an index there are the keys only.
            item = self._last_key(key, keys) if index else self.items[key]
            left -= bytes_of(item)
            if items and (len(items) >= limit or left < 0):
                break
            items.append(item)
        if items and (len(items) >= limit or len(items) < len(found)):
            # As soon as the limit is reached, also when there is nothing behind it.
            answer["LastEvaluatedKey"] = self._last_key(found[len(items) - 1][1], keys)
        return {"Items": items, "Count": len(items), "ScannedCount": len(items), **answer}

    def _last_key(self, key: Key, keys: tuple[str, ...]) -> Json:
        return {name: self.items[key][name] for name in {*self.keys, *keys}}


_CONDITIONAL = "ConditionExpression ExpressionAttributeNames ExpressionAttributeValues"
_PARAMETERS = {
    operation: {*words.split()}
    for operation, words in {
        "BatchExecuteStatement": "Statements",
        "BatchGetItem": "RequestItems",
        "DeleteItem": f"TableName Key {_CONDITIONAL}",
        "ExecuteStatement": "Statement Parameters",
        "ExecuteTransaction": "TransactStatements ClientRequestToken",
        "GetItem": "TableName Key ConsistentRead",
        "PutItem": f"TableName Item {_CONDITIONAL} ReturnValuesOnConditionCheckFailure",
        "Query": "TableName IndexName KeyConditionExpression ExpressionAttributeNames "
        "ExpressionAttributeValues Limit ScanIndexForward ConsistentRead ExclusiveStartKey",
        "Scan": "TableName ConsistentRead ExclusiveStartKey ExpressionAttributeNames Limit "
        "ProjectionExpression FilterExpression ExpressionAttributeValues",
        "TransactGetItems": "TransactItems",
        "UpdateItem": f"TableName Key UpdateExpression {_CONDITIONAL}",
    }.items()
}


@dataclass
class Tables:
    tables: dict[str, Table] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    stream: list[Json] = field(default_factory=list)
    """New items of tables that have a stream, in the order they were committed."""
    most_page_bytes: int = field(default_factory=lambda: MOST_PAGE_BYTES)
    """A life with small pages is as one with many entries."""

    def copy(self) -> "Tables":
        tables = {name: table.copy() for name, table in self.tables.items()}
        return Tables(tables, dict(self.tokens), list(self.stream), self.most_page_bytes)

    def perform(self, operation: str, parameters: Json, most: int | None = None) -> Json:
        """``most``: how many items or keys are handled of those that one request may ask for."""
        unknown = set(parameters) - _PARAMETERS.get(operation, set()) - {"ReturnConsumedCapacity"}
        if operation not in _PARAMETERS or unknown:
            raise NotModelledError(f"dynamodb.{operation} with {sorted(unknown)}")
        if operation == "Query":
            table = self.tables[parameters["TableName"]]
            return table.query(parameters, most, self.most_page_bytes)
        if operation == "BatchGetItem":
            return self._batch_get(parameters, most)
        method: Callable[[Json], Json] = getattr(self, f"_{operation}")
        return method(parameters)

    def _GetItem(self, parameters: Json) -> Json:  # noqa: N802 - named as the operation
        item = self.tables[parameters["TableName"]].get(parameters["Key"])
        return {"Item": item} if item else {}

    def _PutItem(self, parameters: Json) -> Json:  # noqa: N802
        self._check(parameters)
        self._insert(parameters["TableName"], parameters["Item"])
        return {}

    def _UpdateItem(self, parameters: Json) -> Json:  # noqa: N802
        self._check(parameters)
        table = self.tables[parameters["TableName"]]
        word, _, assignments = parameters["UpdateExpression"].partition(" ")
        if word != "SET":
            raise NotModelledError(parameters["UpdateExpression"])
        item = dict(table.get(parameters["Key"]) or parameters["Key"])
        for assignment in assignments.split(","):
            name, value = (side.strip() for side in assignment.split("="))
            item[parameters["ExpressionAttributeNames"][name]] = parameters[
                "ExpressionAttributeValues"
            ][value]
        self._insert(table.name, item)
        return {}

    def _DeleteItem(self, parameters: Json) -> Json:  # noqa: N802
        self._check(parameters)
        self.tables[parameters["TableName"]].delete(parameters["Key"])
        return {}

    def _Scan(self, parameters: Json) -> Json:  # noqa: N802
        """A page, in the order of the keys."""
        table = self.tables[parameters["TableName"]]
        start = parameters.get("ExclusiveStartKey")
        after = table.key_of(start) if start else ("", "")
        found = sorted(key for key in table.items if key > after)
        page = found[: parameters.get("Limit")]
        more = {"LastEvaluatedKey": table.key_item(page[-1])} if len(page) < len(found) else {}
        items = [table.items[key] for key in page]
        if "FilterExpression" in parameters:
            names = parameters["ExpressionAttributeNames"]
            values = parameters["ExpressionAttributeValues"]
            equal = [each.split(" = ") for each in parameters["FilterExpression"].split(" AND ")]
            wanted = {names[name]: values[value] for name, value in equal}
            items = [item for item in items if wanted.items() <= item.items()]
        if "ProjectionExpression" in parameters:
            words = parameters["ProjectionExpression"].split(",")
            short = parameters.get("ExpressionAttributeNames", {})
            names = [short[word] if word[0] == "#" else word for word in map(str.strip, words)]
            items = [{name: item[name] for name in names if name in item} for item in items]
        return {"Items": items, "Count": len(items), "ScannedCount": len(page), **more}

    def _TransactGetItems(self, parameters: Json) -> Json:  # noqa: N802
        return {"Responses": [self._GetItem(entry["Get"]) for entry in parameters["TransactItems"]]}

    def _batch_get(self, parameters: Json, most: int | None) -> Json:
        responses: Json = {}
        unprocessed: Json = {}
        for name, wanted in parameters["RequestItems"].items():
            table = self.tables[name]
            keys = [table.checked_key_of(key) for key in wanted["Keys"]]
            if len(keys) > 100 or len(set(keys)) < len(keys) or set(wanted) - _READ:
                raise Refused("ValidationException")
            handled = keys if most is None else keys[:most]
            found = (table.items.get(key) for key in handled)
            responses[name] = [item for item in found if item]
            if len(handled) < len(keys):
                left = [table.key_item(key) for key in keys[len(handled) :]]
                unprocessed[name] = {**wanted, "Keys": left}
        return {"Responses": responses, "UnprocessedKeys": unprocessed}

    def _ExecuteStatement(self, parameters: Json) -> Json:  # noqa: N802
        known = {name: parameters[name] for name in ("Statement", "Parameters")}
        name, item = _insertion(known)
        if self._is_taken(name, item):
            raise Refused("DuplicateItemException")
        self._insert(name, item)
        return {"Items": []}

    def _BatchExecuteStatement(self, parameters: Json) -> Json:  # noqa: N802
        """Inserts, each for itself: what stands in the way of one is no matter to the others."""
        statements = parameters["Statements"]
        if not 1 <= len(statements) <= 25:
            raise Refused("ValidationException")
        inserts = self._insertions(statements)
        if inserts is None:
            raise NotModelledError("two statements of a batch about one item")
        return {"Responses": [self._insert_new(name, item) for name, item in inserts]}

    def _insert_new(self, name: str, item: Json) -> Json:
        """A statement's own answer: PartiQL inserts only what is not there."""
        if self._is_taken(name, item):
            words = "Duplicate primary key exists in table"
            return {"Error": {"Code": "DuplicateItem", "Message": words}}
        self._insert(name, item)
        return {"TableName": name}

    def _ExecuteTransaction(self, parameters: Json) -> Json:  # noqa: N802
        """Does all or nothing; a reason does not show what is there already."""
        token, statements = parameters["ClientRequestToken"], parameters["TransactStatements"]
        asked = json.dumps(statements, sort_keys=True)
        if token in self.tokens:
            if self.tokens[token] != asked:
                raise Refused("IdempotentParameterMismatchException")
            return {"Responses": []}
        writes = [self._write_of(statement) for statement in statements]
        places = {(name, self.tables[name].key_of(item)) for name, item, _ in writes}
        if not 1 <= len(writes) <= 100 or len(places) < len(writes):
            raise Refused("ValidationException")
        if any(code for _, _, code in writes):
            reasons = [{"Code": code or "None"} for _, _, code in writes]
            raise Refused("TransactionCanceledException", CancellationReasons=reasons)
        for name, item, _ in writes:
            self._insert(name, item)
        self.tokens[token] = asked
        return {"Responses": []}

    def _write_of(self, statement: Json) -> tuple[str, Json, str | None]:
        """The table and the item that a statement leaves there, and why it is refused, if it is."""
        if statement["Statement"].startswith("INSERT"):
            name, item = _insertion(statement)
            return name, item, "DuplicateItem" if self._is_taken(name, item) else None
        update = read_update(statement)
        table = self.tables[update.table]
        present = table.get({name: update.where[name] for name in table.keys})
        if any((present or {}).get(name) != value for name, value in update.where.items()):
            return update.table, update.where, "ConditionalCheckFailed"
        left = {
            name: value for name, value in (present or {}).items() if name not in update.removed
        }
        return update.table, {**left, **update.changed}, None

    def left_by(self, statements: list[Json]) -> Iterator[tuple[str, Json]]:
        """The table and the item that each statement of a transaction has left there."""
        for statement in statements:
            if statement["Statement"].startswith("INSERT"):
                yield _insertion(statement)
            else:
                update = read_update(statement)
                table = self.tables[update.table]
                yield update.table, table.items[table.key_of(update.where)]

    def _insertions(self, statements: list[Json]) -> list[tuple[str, Json]] | None:
        """The table and item of each insert; None when two are about one item."""
        inserts = [_insertion(statement) for statement in statements]
        places = {(name, self.tables[name].key_of(item)) for name, item in inserts}
        return inserts if len(places) == len(inserts) else None

    def _is_taken(self, name: str, item: Json) -> bool:
        return self.tables[name].key_of(item) in self.tables[name].items

    def _check(self, write: Json) -> None:
        """The condition of a put, an update or a deletion."""
        table = self.tables[write["TableName"]]
        if "ConditionExpression" not in write:
            return
        named = write.get("Key") or write["Item"]
        present = table.get({name: named[name] for name in table.keys})
        if not _Condition.of(write).holds(present or {}):
            returned = write.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
            more: Json = {"Item": present} if returned and present else {}
            raise Refused("ConditionalCheckFailedException", **more)

    def _insert(self, name: str, item: Json) -> None:
        table = self.tables[name]
        kind = "INSERT" if table.key_of(item) not in table.items else "MODIFY"
        table.put(item)
        if table.has_stream:
            keys = {key: item[key] for key in table.keys}
            change = {"Keys": keys, "NewImage": item, "SequenceNumber": str(len(self.stream))}
            self.stream.append({"eventName": kind, "dynamodb": change})


_READ = {"Keys", "ConsistentRead"}

_MOST_CHARACTERS = 8192
"""Of a statement; its parameters do not count
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExecuteStatement.html)."""

_INSERT = re.compile(
    r"""INSERT INTO "(?P<table>[\w.-]+)" VALUE \{(?P<pairs>'\w+': \?(, '\w+': \?)*)\}"""
)


def _insertion(statement: Json) -> tuple[str, Json]:
    """The table and the item of ``INSERT INTO "table" VALUE {'name': ?, …}``."""
    match = _INSERT.fullmatch(statement["Statement"])
    if match is None or set(statement) != {"Statement", "Parameters"}:
        raise NotModelledError(f"statement {statement}")
    names = re.findall(r"'(\w+)'", match["pairs"])
    if (
        len({*names}) < len(names)
        or len(names) != len(statement["Parameters"])
        or len(statement["Statement"]) > _MOST_CHARACTERS
    ):
        raise Refused("ValidationException")
    return match["table"], dict(zip(names, statement["Parameters"], strict=True))
