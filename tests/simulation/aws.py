"""AWS in memory, below botocore: exactly the operations Credits uses, strictly, and their failures.

Clients are the real ones. What they would put on the wire is answered here (`before-send`), so the
serializers, the parsers and the retries of the SDK all take part. An operation or a parameter that
is not modelled stops the simulation by name: nothing is answered by guessing.
"""

import io
import json
import re
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import yaml
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.retries import quota

from chalicelib.store.database import connect

REGION = "eu-west-1"
RESOURCES = Path(__file__).parents[2] / "infra" / "resources.yaml"

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


@dataclass(frozen=True)
class Call:
    """One request as it comes from the SDK; every attempt of the SDK is one."""

    service: str
    operation: str
    parameters: Json

    def __str__(self) -> str:
        return f"{self.service}.{self.operation}"


# --- DynamoDB -------------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s*([#:]?[A-Za-z_][\w.]*|[#:]\d+|<>|<=|>=|[()=<>,])")


class _Parser:
    """Reads condition expressions into nested tuples."""

    def __init__(self, text: str) -> None:
        self._tokens = _TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text):
            raise NotModelledError(f"expression {text}")

    def parse(self) -> Any:
        parsed = self._either()
        if self._tokens:
            raise NotModelledError(f"expression goes on with {self._tokens}")
        return parsed

    def _either(self) -> Any:
        left = self._all()
        while self._next_is("OR"):
            left = ("OR", left, self._all())
        return left

    def _all(self) -> Any:
        left = self._one()
        while self._next_is("AND"):
            left = ("AND", left, self._one())
        return left

    def _one(self) -> Any:
        if self._next_is("("):
            inner = self._either()
            self._expect(")")
            return inner
        word = self._tokens.pop(0)
        if word in ("attribute_exists", "attribute_not_exists"):
            self._expect("(")
            name = self._tokens.pop(0)
            self._expect(")")
            return (word, name)
        if word == "begins_with":
            self._expect("(")
            name = self._tokens.pop(0)
            self._expect(",")
            value = self._tokens.pop(0)
            self._expect(")")
            return (word, name, value)
        operator = self._tokens.pop(0)
        if operator == "BETWEEN":
            low = self._tokens.pop(0)
            self._expect("AND")
            return (operator, word, low, self._tokens.pop(0))
        if operator not in ("=", "<", "<=", ">", ">="):
            raise NotModelledError(f"operator {operator}")
        return (operator, word, self._tokens.pop(0))

    def _next_is(self, word: str) -> bool:
        if self._tokens and self._tokens[0] == word:
            self._tokens.pop(0)
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._next_is(word):
            raise NotModelledError(f"{word} expected before {self._tokens}")


@cache
def _parsed(expression: str) -> Any:
    return _Parser(expression).parse()


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

    parsed: Any
    names: Mapping[str, str]
    values: Mapping[str, Json]

    @classmethod
    def of(cls, parameters: Json, name: str = "ConditionExpression") -> "_Condition":
        return cls(
            _parsed(parameters[name]),
            parameters.get("ExpressionAttributeNames", {}),
            parameters.get("ExpressionAttributeValues", {}),
        )

    def name(self, word: str) -> str:
        return self.names[word] if word.startswith("#") else word

    def value(self, word: str) -> str | int:
        return _plain(self.values[word])

    def holds(self, item: Json, node: Any = None) -> bool:  # noqa: PLR0911 - as above
        node = node or self.parsed
        match node:
            case ("AND", left, right):
                return self.holds(item, left) and self.holds(item, right)
            case ("OR", left, right):
                return self.holds(item, left) or self.holds(item, right)
            case ("attribute_exists", name):
                return self.name(name) in item
            case ("attribute_not_exists", name):
                return self.name(name) not in item
            case (operator, name, value):
                attribute = item.get(self.name(name))
                if attribute is None:
                    return False
                left_value: Any = _plain(attribute)
                right_value: Any = self.value(value)
                if type(left_value) is not type(right_value):
                    return False
                compared: dict[Any, bool] = {
                    "=": left_value == right_value,
                    "<": left_value < right_value,
                    ">": left_value > right_value,
                }
                if operator in compared:
                    return compared[operator]
        raise NotModelledError(f"condition {node}")

    def range(self) -> tuple[dict[str, str], str | None, str, str]:
        """Of a key condition: the values that are fixed, and the bounds of the one that is not."""
        fixed: dict[str, str] = {}
        ranged: tuple[str | None, str, str] = (None, "", "\U0010ffff")
        nodes = [self.parsed]
        while nodes:
            node = nodes.pop()
            match node:
                case ("AND", left, right):
                    nodes += [left, right]
                case ("=", name, value):
                    fixed[self.name(name)] = str(self.value(value))
                case ("begins_with", name, value):
                    prefix = str(self.value(value))
                    ranged = (self.name(name), prefix, prefix + "\U0010ffff")
                case ("BETWEEN", name, low, high):
                    ranged = (self.name(name), str(self.value(low)), str(self.value(high)))
                case (">", name, value):
                    ranged = (self.name(name), str(self.value(value)) + "\0", "\U0010ffff")
                case _:
                    raise NotModelledError(f"key condition {node}")
        return fixed, *ranged


_MOST_ITEM_BYTES = 400 * 1024

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

    def copy(self) -> "Table":
        """Items are replaced and never altered, so they can be shared."""
        partitions = {
            name: {partition: list(rows) for partition, rows in index.items()}
            for name, index in self.partitions.items()
        }
        return Table(
            self.name, self.keys, self.indexes, self.has_stream, dict(self.items), partitions
        )

    def key_of(self, item: Json) -> Key:
        hash_key, *range_key = (str(item[name]["S"]) for name in self.keys)
        return hash_key, range_key[0] if range_key else ""

    def key_item(self, key: Key) -> Json:
        return {name: {"S": value} for name, value in zip(self.keys, key, strict=False)}

    def get(self, key_item: Json) -> Json | None:
        if set(key_item) != set(self.keys):
            raise Refused("ValidationException")
        return self.items.get(self.key_of(key_item))

    def put(self, item: Json) -> None:
        for name, attribute in item.items():
            if "" in attribute.values() and name in {*self.keys, *self._index_keys()}:
                raise Refused("ValidationException")
        if bytes_of(item) > _MOST_ITEM_BYTES:
            raise Refused("ValidationException")
        self.delete(item)
        key = self.key_of(item)
        self.items[key] = item
        for rows, row in self._rows(item, key):
            insort(rows, row)

    def delete(self, key_item: Json) -> None:
        key = self.key_of(key_item)
        old = self.items.pop(key, None)
        if old is not None:
            for rows, row in self._rows(old, key):
                rows.remove(row)

    def _index_keys(self) -> Iterator[str]:
        for keys in self.indexes.values():
            yield from keys

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
            raise NotModelledError(f"key condition {condition}")
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
        # Of an index there are the keys only.
        names = {*self.keys, *keys} if index else None
        items: list[Json] = []
        left = most_bytes
        answer: Json = {}
        for _, key in found:
            item = self.items[key]
            if names is not None:
                item = {name: item[name] for name in names}
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


_PARAMETERS = {
    "BatchExecuteStatement": {"Statements"},
    "BatchGetItem": {"RequestItems"},
    "DeleteItem": {"TableName", "Key"},
    "ExecuteStatement": {"Statement", "Parameters"},
    "ExecuteTransaction": {"TransactStatements", "ClientRequestToken"},
    "GetItem": {"TableName", "Key", "ConsistentRead"},
    "PutItem": {
        "TableName",
        "Item",
        "ConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "ReturnValuesOnConditionCheckFailure",
    },
    "Query": {
        "TableName",
        "IndexName",
        "KeyConditionExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
        "Limit",
        "ScanIndexForward",
        "ConsistentRead",
        "ExclusiveStartKey",
    },
    "TransactGetItems": {"TransactItems"},
    "UpdateItem": {
        "TableName",
        "Key",
        "UpdateExpression",
        "ExpressionAttributeNames",
        "ExpressionAttributeValues",
    },
}


@dataclass
class Tables:
    """DynamoDB."""

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
        self._check(parameters, "ConditionalCheckFailedException")
        self._insert(parameters["TableName"], parameters["Item"])
        return {}

    def _UpdateItem(self, parameters: Json) -> Json:  # noqa: N802
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
        self.tables[parameters["TableName"]].delete(parameters["Key"])
        return {}

    def _TransactGetItems(self, parameters: Json) -> Json:  # noqa: N802
        return {"Responses": [self._GetItem(entry["Get"]) for entry in parameters["TransactItems"]]}

    def _batch_get(self, parameters: Json, most: int | None) -> Json:
        responses: Json = {}
        unprocessed: Json = {}
        for name, wanted in parameters["RequestItems"].items():
            table = self.tables[name]
            keys = [table.key_of(key) for key in wanted["Keys"]]
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
        """Inserts, all or none; a reason does not show what is there already."""
        token, statements = parameters["ClientRequestToken"], parameters["TransactStatements"]
        asked = json.dumps(statements, sort_keys=True)
        if token in self.tokens:
            if self.tokens[token] != asked:
                raise Refused("IdempotentParameterMismatchException")
            return {"Responses": []}
        inserts = self._insertions(statements)
        if inserts is None or not 1 <= len(inserts) <= 100:
            raise Refused("ValidationException")
        taken = [self._is_taken(name, item) for name, item in inserts]
        if any(taken):
            reasons = [{"Code": "DuplicateItem" if is_taken else "None"} for is_taken in taken]
            raise Refused("TransactionCanceledException", CancellationReasons=reasons)
        for name, item in inserts:
            self._insert(name, item)
        self.tokens[token] = asked
        return {"Responses": []}

    def _insertions(self, statements: list[Json]) -> list[tuple[str, Json]] | None:
        """The table and item of each insert; None when two are about one item."""
        inserts = [_insertion(statement) for statement in statements]
        places = {(name, self.tables[name].key_of(item)) for name, item in inserts}
        return inserts if len(places) == len(inserts) else None

    def _is_taken(self, name: str, item: Json) -> bool:
        return self.tables[name].key_of(item) in self.tables[name].items

    def _check(self, put: Json, code: str) -> None:
        table = self.tables[put["TableName"]]
        if "ConditionExpression" not in put:
            return
        present = table.get({name: put["Item"][name] for name in table.keys})
        if not _Condition.of(put).holds(present or {}):
            returned = put.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
            more: Json = {"Item": present} if returned and present else {}
            raise Refused(code, **more)

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


# --- SQS, SES, Secrets Manager --------------------------------------------------------------------


@dataclass
class Message:
    """A message in a queue; ``visible_at`` is when it may be received (0: at once)."""

    id: str
    body: str
    receives: int = 0
    visible_at: float = 0


@dataclass(frozen=True)
class Mail:
    """What SES took."""

    user_id: str
    kind: str
    address: str
    subject: str
    text: str
    correlation: str = ""


@dataclass
class State:
    """All that AWS keeps."""

    dynamodb: Tables = field(default_factory=Tables)
    queues: dict[str, list[Message]] = field(default_factory=dict)
    mails: list[Mail] = field(default_factory=list)
    messages: int = 0

    def copy(self) -> "State":
        queues = {
            name: [Message(m.id, m.body, m.receives, m.visible_at) for m in messages]
            for name, messages in self.queues.items()
        }
        return State(self.dynamodb.copy(), queues, list(self.mails), self.messages)


@dataclass
class Services:
    """Everything in AWS that Credits talks to. ``interfere`` decides what becomes of each call."""

    state: State = field(default_factory=State)
    clock: Callable[[], float] = lambda: 0.0
    calls: int = 0
    interfere: "Interference | None" = None
    sent: list[tuple[str, str]] = field(default_factory=list)
    """The queue and the body of every message that was ever taken, in that order."""
    put: list[tuple[str, Json]] = field(default_factory=list)
    """The table and the item of every plain put that was ever made, in that order."""

    def answer(self, call: Call) -> Json:
        """Performs a call, unless something interferes."""
        self.calls += 1
        if self.interfere is None:
            return self.perform(call)
        return self.interfere(call, self.perform)

    def perform(self, call: Call, most: int | None = None) -> Json:
        """What the service does. ``most``: a part of what was asked for is enough."""
        if call.service == "dynamodb":
            answer = self.state.dynamodb.perform(call.operation, call.parameters, most)
            if call.operation == "PutItem":
                self.put.append((call.parameters["TableName"], call.parameters["Item"]))
            return answer
        if call.service == "sqs" and call.operation == "SendMessageBatch":
            return self._send(call.parameters, most)
        if call.service == "sqs" and call.operation == "ChangeMessageVisibilityBatch":
            return self._delay(call.parameters)
        if call.service == "sesv2" and call.operation == "SendEmail":
            return self._mail(call.parameters)
        raise NotModelledError(str(call))

    def _send(self, parameters: Json, most: int | None) -> Json:
        name = parameters["QueueUrl"].rpartition("/")[2]
        queue = self.state.queues[name]
        entries = parameters["Entries"]
        if not 1 <= len(entries) <= 10 or len({entry["Id"] for entry in entries}) < len(entries):
            raise Refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
        taken = entries if most is None else entries[:most]
        for entry in taken:
            self.state.messages += 1
            queue.append(Message(f"message-{self.state.messages}", entry["MessageBody"]))
            self.sent.append((name, entry["MessageBody"]))
        failed = [
            {"Id": entry["Id"], "Code": "InternalError", "SenderFault": False}
            for entry in entries[len(taken) :]
        ]
        done = [
            {"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": _md5(entry)}
            for entry in taken
        ]
        return {"Successful": done, "Failed": failed}

    def _delay(self, parameters: Json) -> Json:
        queue = self.state.queues[parameters["QueueUrl"].rpartition("/")[2]]
        by_id = {message.id: message for message in queue}
        done, failed = [], []
        for entry in parameters["Entries"]:
            if not 0 <= entry["VisibilityTimeout"] <= 43_200:
                raise Refused("InvalidParameterValue")
            message = by_id.get(entry["ReceiptHandle"].removeprefix("receipt of "))
            if message is None:  # deleted meanwhile
                code = "AWS.SimpleQueueService.MessageNotInflight"
                failed.append({"Id": entry["Id"], "Code": code, "SenderFault": True})
                continue
            message.visible_at = self.clock() + entry["VisibilityTimeout"]
            done.append({"Id": entry["Id"]})
        return {"Successful": done, "Failed": failed}

    def _mail(self, parameters: Json) -> Json:
        tags = {tag["Name"]: tag["Value"] for tag in parameters["EmailTags"]}
        (address,) = parameters["Destination"]["ToAddresses"]
        content = parameters["Content"]["Simple"]
        self.state.mails.append(
            Mail(
                bytes.fromhex(tags["user"]).decode(),
                tags["kind"],
                address,
                content["Subject"]["Data"],
                content["Body"]["Text"]["Data"],
                tags.get("correlation", ""),
            )
        )
        return {"MessageId": f"mail-{len(self.state.mails)}"}


Perform = Callable[..., Json]
Interference = Callable[[Call, Perform], Json]


def _md5(entry: Json) -> str:
    import hashlib

    return hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest()


def create(stage: str) -> State:
    """The tables and queues of ``infra/resources.yaml``, empty."""
    state = State()
    for resource in _resources():
        properties = resource["Properties"]
        if resource.get("Type") == "AWS::DynamoDB::Table":
            name = properties["TableName"]["Fn::Sub"].replace("${Stage}", stage)
            state.dynamodb.tables[name] = Table(
                name,
                _key_names(properties["KeySchema"]),
                {
                    index["IndexName"]: _key_names(index["KeySchema"])  # type: ignore[misc]
                    for index in properties.get("GlobalSecondaryIndexes", ())
                },
                "StreamSpecification" in properties,
            )
        if resource.get("Type") == "AWS::SQS::Queue":
            name = properties["QueueName"]["Fn::Sub"].replace("${Stage}", stage)
            state.queues[name] = []
    return state


@cache
def _resources() -> tuple[Json, ...]:
    document = yaml.safe_load(RESOURCES.read_text(encoding="utf-8"))
    return tuple(document["Resources"].values())


def _key_names(schema: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    by_kind = {key["KeyType"]: key["AttributeName"] for key in schema}
    return tuple(by_kind[kind] for kind in ("HASH", "RANGE") if kind in by_kind)


# --- Between botocore and the wire ----------------------------------------------------------------


class _Body(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


_ANSWERING: list[Services] = []
"""Whose turn it is to answer: the last one."""


@contextmanager
def answering(services: Services) -> Iterator[None]:
    """Within the block these services answer what `client` and `dynamodb` clients ask."""
    _ANSWERING.append(services)
    try:
        yield
    finally:
        _ANSWERING.pop()


def _before_send(request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
    service, operation = event_name.split(".")[1:]
    sent: Any = request.body or b"{}"
    call = Call(service, operation, json.loads(sent))
    status, answer = 200, Json()
    try:
        answer = _ANSWERING[-1].answer(call)
    except Refused as error:
        status, answer = error.status, error.body
    raw = _Body(json.dumps(answer).encode())
    headers: dict[str, Any] = {}
    if status >= 400:
        headers["x-amzn-errortype"] = answer["__type"]
    return AWSResponse(request.url, status, headers, raw)  # type: ignore[arg-type]


_BUCKETS: list[quota.RetryQuota] = []
"""What limits the retries of a client, and lasts as long as the client does."""


def refill_retries() -> None:
    """A client retries less once it had to retry much: makes it forget."""
    for bucket in _BUCKETS:
        bucket.release(bucket.INITIAL_CAPACITY)


class _KnownQuota(quota.RetryQuota):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        _BUCKETS.append(self)


@contextmanager
def _quotas_known() -> Iterator[None]:
    original = quota.RetryQuota
    quota.RetryQuota = _KnownQuota  # type: ignore[misc]
    try:
        yield
    finally:
        quota.RetryQuota = original  # type: ignore[misc]


def _attached(client: Any) -> Any:
    client.meta.events.register_first("before-send.*.*", _before_send)
    return client


@cache
def dynamodb() -> Any:
    """The client that the product makes for itself."""
    with _quotas_known():
        return _attached(
            connect(REGION, access_key="simulated", secret_key="simulated").client  # noqa: S106
        )


@cache
def client(service: str, attempts: int) -> Any:
    """A client with as many attempts as the product allows it."""
    with _quotas_known():
        return _attached(
            botocore.session.get_session().create_client(
                service,
                region_name=REGION,
                aws_access_key_id="simulated",
                aws_secret_access_key="simulated",  # noqa: S106
                config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
            )
        )
