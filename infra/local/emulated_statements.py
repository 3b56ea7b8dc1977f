"""Makes PartiQL behave as in DynamoDB, where ministack is more lenient or lacks something."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Self

from ministack.core import iam_actions, iam_evaluator
from ministack.services import dynamodb

Json = dict[str, Any]
Answer = tuple[int, Json, bytes]
Execute = Callable[[Json], Answer]

_OPERATIONS = ("ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction")

_DUPLICATE = "Duplicate primary key exists in table"


def make_strict() -> None:
    """Makes the emulator of this process authorize, run, measure and stream PartiQL as AWS does.

    It replaces parts of ministack, so call it before the emulator starts.
    """
    checks = iam_actions.dynamodb_transaction_checks
    iam_actions.dynamodb_transaction_checks = _authorizing(checks)
    iam_evaluator.enforce = _seeing_each(iam_evaluator.enforce)
    dynamodb._partiql_insert = _insert  # noqa: SLF001 - they have no other door
    dynamodb._execute_statement = _streamed(_measured(dynamodb._execute_statement))  # noqa: SLF001
    dynamodb._batch_execute_statement = _measured(dynamodb._batch_execute_statement)  # noqa: SLF001
    dynamodb._execute_transaction = _inserting(_streamed(dynamodb._execute_transaction))  # noqa: SLF001


def _statements(request: Json) -> list[Json]:
    """The statements of a request: its only one, or those of a batch or a transaction."""
    found = request.get("TransactStatements", request.get("Statements", [request]))
    return found if isinstance(found, list) else []


def _parsed(request: Json) -> list[Json]:
    """The statements as ministack parses them. Raises ValueError and LookupError."""
    return [
        dynamodb._parse_partiql(each["Statement"], each.get("Parameters", []))  # noqa: SLF001
        for each in _statements(request)
    ]


def _read(body: bytes) -> Json:
    found: Json = json.loads(body)
    return found


# --- Rights ---------------------------------------------------------------------------------------


def _authorizing(known: Callable[..., list[tuple[str, str]]]) -> Callable[..., Any]:
    """Authorizes each statement by the right to its verb on its table or index.

    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html) ministack asks
    for rights named after the operations, such as `dynamodb:ExecuteTransaction`, which IAM does not
    have. ministack handles a request with a statement we cannot parse, and so refuses it.
    """

    def checks(action: str, body: bytes, region: str, account: str) -> list[tuple[str, str]]:
        if action.removeprefix("dynamodb:") not in _OPERATIONS:
            return known(action, body, region, account)
        try:
            parsed = _parsed(_read(body))
        except (ValueError, LookupError):
            return []
        tables = f"arn:aws:dynamodb:{region}:{account}:table"
        return [
            (
                f"dynamodb:PartiQL{each['op'].capitalize()}",
                _Asked(
                    f"{tables}/{each['table']}"
                    + (f"/index/{each['index']}" if each.get("index") else ""),
                    _conditions(each),
                ),
            )
            for each in parsed
        ]

    return checks


class _Asked(str):
    """A resource, and the facts about its statement that IAM conditions can check."""

    __slots__ = ("conditions",)
    conditions: Json

    def __new__(cls, resource: str, conditions: Json) -> Self:
        asked = super().__new__(cls, resource)
        asked.conditions = conditions
        return asked


def _conditions(parsed: Json) -> Json:
    """The top-level attributes that a statement names, in its conditions too, and what it returns.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/specifying-conditions.html
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html
    """
    if parsed["op"] == "INSERT":
        return {"dynamodb:Attributes": sorted(parsed["item"])}
    if parsed["op"] != "UPDATE":
        return {}
    changed = [path for path, _ in parsed["assignments"]]
    read = (*_paths(parsed["where"]), *_paths(parsed["assignments"]))
    named = {path[0] for path in (*changed, *parsed["removes"], *read)}
    returned = (parsed["returning"] or "NONE").upper().removesuffix(" *").replace(" ", "_")
    return {
        "dynamodb:Attributes": sorted(named),
        "dynamodb:ReturnValues": returned.replace("MODIFIED", "UPDATED"),
    }


def _paths(node: Any) -> Iterator[list[str]]:
    """Every attribute that an expression reads, with the path inside it."""
    if isinstance(node, tuple) and node and node[0] == "path":
        yield node[1]
    elif isinstance(node, tuple | list):
        for part in node:
            yield from _paths(part)


def _seeing_each(known: Callable[..., Any]) -> Callable[..., Any]:
    """Shows IAM's conditions the statement that is being authorized.

    ministack shows them the request as a whole, without its statements.
    """

    def enforce(*asked: Any, resource_arn: str = "*", **more: Any) -> Any:
        if isinstance(resource_arn, _Asked):
            context = more.get("service_context") or {}
            more["service_context"] = {**context, **resource_arn.conditions}
        return known(*asked, resource_arn=resource_arn, **more)

    return enforce


# --- INSERT ---------------------------------------------------------------------------------------


def _put(table: Json, parsed: Json) -> Json:
    """An INSERT as a put, under the condition that no item has the key."""
    item = parsed["item"]
    return {
        "TableName": parsed["table"],
        # A document given as a parameter is wrapped in its type.
        "Item": item["M"] if set(item) == {"M"} else item,
        "ConditionExpression": "attribute_not_exists(#key)",
        "ExpressionAttributeNames": {"#key": table["pk_name"]},
    }


def _insert(table: Json, parsed: Json) -> Answer:
    """Runs an INSERT, alone or in a batch: validated, measured and streamed as a put.

    An existing item is a `DuplicateItemException`
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.insert.html).
    ministack's own INSERT takes any value for the key of an index and writes no stream record.
    """
    asked = _put(table, parsed) | {"ReturnConsumedCapacity": "TOTAL"}
    status, headers, body = dynamodb._put_item(asked)  # noqa: SLF001
    answer = _read(body)
    if status == 200:
        _more_units[parsed["table"]] += answer["ConsumedCapacity"]["CapacityUnits"] - 1
        return status, headers, b'{"Items":[]}'
    if answer["__type"].endswith("ConditionalCheckFailedException"):
        return _refusal({"__type": "DuplicateItemException", "message": _DUPLICATE})
    return status, headers, body


def _inserting(execute: Execute) -> Execute:
    """Turns a transaction of inserts and plain updates into one of puts and updates.

    The reason for each existing item is `DuplicateItem`
    (https://github.com/amzn/smoke-dynamodb/pull/90 has seen it). ministack itself gives only one
    reason, by another name, and writes no stream records. It still handles other transactions.
    """

    def executed(request: Json) -> Answer:
        parsed: list[Json] = []
        with suppress(ValueError, LookupError):
            parsed = _parsed(request)
        tables = [dynamodb._tables.get(each["table"]) for each in parsed]  # noqa: SLF001
        pairs = [pair for pair in zip(tables, parsed, strict=True) if pair[0]]
        writes = [write for pair in pairs if (write := _write(*pair))]
        if not writes or len(writes) < len(parsed):
            return execute(request)
        more = {name: value for name, value in request.items() if name != "TransactStatements"}
        status, headers, body = dynamodb._transact_write_items({"TransactItems": writes} | more)  # noqa: SLF001
        answer = _read(body)
        if status == 200:
            return status, headers, json.dumps({"Responses": []} | answer).encode()
        for write, reason in zip(writes, answer.get("CancellationReasons", ()), strict=False):
            if "Put" in write and reason["Code"] == "ConditionalCheckFailed":
                reason |= {"Code": "DuplicateItem", "Message": _DUPLICATE}
        return _refusal(answer)

    return executed


def _write(table: Json, parsed: Json) -> Json | None:
    """A statement as a part of a transaction; None for a statement that we do not handle."""
    if parsed["op"] == "INSERT":
        return {"Put": _put(table, parsed)}
    values = {path[0]: value[1] for path, value in parsed.get("assignments", ())}
    is_plain = (
        parsed["op"] == "UPDATE"
        and all(len(path) == 1 and value[0] == "lit" for path, value in parsed["assignments"])
        and all(len(path) == 1 for path in parsed["removes"])
        and _is_equal_to_values(parsed["where"])
    )
    where = {name: value for name, _, value in parsed["conditions"]}
    keys = [table[key] for key in ("pk_name", "sk_name") if table.get(key)]
    if not is_plain or not values or not {*keys} <= {*where}:
        return None
    removed = [path[0] for path in parsed["removes"]]
    sets = ", ".join(f"#{name} = :{name}" for name in values)
    removes = f" REMOVE {', '.join(f'#{name}' for name in removed)}" if removed else ""
    return {
        "Update": {
            "TableName": parsed["table"],
            "Key": {key: where[key] for key in keys},
            "UpdateExpression": f"SET {sets}{removes}",
            "ConditionExpression": " AND ".join(f"#{name} = :was_{name}" for name in where),
            "ExpressionAttributeNames": {f"#{n}": n for n in (*values, *removed, *where)},
            "ExpressionAttributeValues": {f":{name}": value for name, value in values.items()}
            | {f":was_{name}": value for name, value in where.items()},
        }
    }


def _is_equal_to_values(where: Any) -> bool:
    """Whether a condition only compares attributes with values, joined by AND."""
    if where[0] == "and":
        return all(_is_equal_to_values(part) for part in where[1:])
    _, operator, attribute, value = where if len(where) == 4 else ("", "", "", "")
    is_flat = attribute[:1] == ("path",) and len(attribute[1]) == 1
    return is_flat and (where[0], operator, value[:1]) == ("cmp", "=", ("lit",))


def _refusal(body: Json) -> Answer:
    headers = {"Content-Type": "application/x-amz-json-1.0", "x-amzn-errortype": body["__type"]}
    return 400, headers, json.dumps(body, ensure_ascii=False).encode()


# --- Units ----------------------------------------------------------------------------------------

_more_units: Counter[str] = Counter()
"""By table, the cost of inserts beyond one unit each: ministack ignores their size and index."""


def _measured(execute: Execute) -> Execute:
    """Reports the real cost of the inserts of a request."""

    def executed(request: Json) -> Answer:
        before = _more_units.copy()
        status, headers, body = execute(request)
        answer = _read(body)
        consumed = answer.get("ConsumedCapacity", [])
        for part in consumed if isinstance(consumed, list) else [consumed]:
            table = part["TableName"]
            part["CapacityUnits"] += _more_units[table] - before[table]
        return status, headers, json.dumps(answer, ensure_ascii=False).encode()

    return executed


# --- Streams --------------------------------------------------------------------------------------


def _streamed(execute: Execute) -> Execute:
    """Writes updates and deletions to the stream of the table: ministack does not."""

    def executed(request: Json) -> Answer:
        before = [(place, _item_at(*place)) for place in _places(request)]
        answer = execute(request)
        for place, old in before:
            new = _item_at(*place)
            if new != old:
                kind, table = "MODIFY" if new else "REMOVE", place[0]["TableName"]
                dynamodb._emit_stream_event(table, kind, old, new)  # noqa: SLF001
        return answer

    return executed


def _item_at(table: Json, partition: str, sort: str) -> Json | None:
    found: Json | None = table["items"].get(partition, {}).get(sort)
    return found


def _places(request: Json) -> Iterator[tuple[Json, str, str]]:
    """The tables in which a request updates and deletes items; inserts stream by themselves."""
    with suppress(ValueError, LookupError):
        for each in _parsed(request):
            if each["op"] in ("UPDATE", "DELETE"):
                table = dynamodb._tables[each["table"]]  # noqa: SLF001
                partition, sort, _, error = dynamodb._partiql_key_target(table, each)  # noqa: SLF001
                if not error:
                    yield table, partition, sort
