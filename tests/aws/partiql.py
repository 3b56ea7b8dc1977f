"""PartiQL for moto, whose own one replaces what is there and takes no parameters.

An INSERT, alone, in a batch and in a transaction, is a put under the condition that nothing has the
key. An UPDATE in a transaction is one under the condition that all it asks for holds.
"""

import json
import re
from typing import Any

import pytest
from moto.dynamodb.exceptions import (
    ConditionalCheckFailed,
    DynamodbException,
    TransactionCanceledException,
)
from moto.dynamodb.models import DynamoDBBackend

from tests.partiql import MOST_CHARACTERS, read_update

Json = dict[str, Any]

_INSERT = re.compile(r"""INSERT INTO "([\w-]+)" VALUE \{(.+)\}""")
_MOST_STATEMENTS = 25
_DUPLICATE = "Duplicate primary key exists in table"


class DuplicateItem(DynamodbException):
    """What an INSERT by itself is refused with."""

    def __init__(self) -> None:
        super().__init__("com.amazonaws.dynamodb.v20120810#DuplicateItemException", _DUPLICATE)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has moto execute inserts as DynamoDB does, and nothing else."""
    for function in (execute_statement, batch_execute_statement, execute_transaction):
        monkeypatch.setattr(DynamoDBBackend, function.__name__, function)


def execute_statement(
    backend: DynamoDBBackend, statement: str, parameters: list[Json]
) -> list[Json]:
    """Inserts an item, unless it is there already."""
    put = _put({"Statement": statement, "Parameters": parameters})
    try:
        backend.put_item(
            put["TableName"], put["Item"], condition_expression=put["ConditionExpression"]
        )
    except ConditionalCheckFailed:
        raise DuplicateItem from None
    return []


def batch_execute_statement(backend: DynamoDBBackend, statements: list[Json]) -> list[Json]:
    """Inserts items one by one; each that is there already is a `DuplicateItem` and stays."""
    assert 1 <= len(statements) <= _MOST_STATEMENTS
    return [_answer(backend, statement) for statement in statements]


def _answer(backend: DynamoDBBackend, statement: Json) -> Json:
    table = _put(statement)["TableName"]
    try:
        execute_statement(backend, statement["Statement"], statement["Parameters"])
    except DuplicateItem:
        return {"Error": {"Code": "DuplicateItem", "Message": _DUPLICATE}, "TableName": table}
    return {"TableName": table}


def execute_transaction(backend: DynamoDBBackend, statements: list[Json]) -> list[Json]:
    """Does all or nothing; the reasons do not show what is there already."""
    parts = [_part(backend, statement) for statement in statements]
    try:
        backend.transact_write_items(parts)
    except TransactionCanceledException as error:
        reasons = json.loads(error.description)["CancellationReasons"]
        codes = [
            "DuplicateItem" if r["Code"] == "ConditionalCheckFailed" and "Put" in p else r["Code"]
            for p, r in zip(parts, reasons, strict=True)
        ]
        raise TransactionCanceledException(
            [(None if code == "None" else code, _DUPLICATE, None) for code in codes]
        ) from None
    return []


def _part(backend: DynamoDBBackend, statement: Json) -> Json:
    if statement["Statement"].startswith("INSERT"):
        return {"Put": _put(statement)}
    update = read_update(statement)
    keys = {name for name in backend.tables[update.table].table_key_attrs if name}
    removed = f" REMOVE {', '.join(f'#{name}' for name in update.removed)}"
    sets = ", ".join(f"#{name} = :{name}" for name in update.changed)
    names = {*update.changed, *update.removed, *update.where}
    return {
        "Update": {
            "TableName": update.table,
            "Key": {name: update.where[name] for name in keys},
            "UpdateExpression": f"SET {sets}{removed if update.removed else ''}",
            "ConditionExpression": " AND ".join(f"#{name} = :_{name}" for name in update.where),
            "ExpressionAttributeNames": {f"#{name}": name for name in names},
            "ExpressionAttributeValues": {
                **{f":{name}": value for name, value in update.changed.items()},
                **{f":_{name}": value for name, value in update.where.items()},
            },
        }
    }


def _put(statement: Json) -> Json:
    assert len(statement["Statement"]) <= MOST_CHARACTERS
    found = _INSERT.fullmatch(statement["Statement"])
    assert found, f"only inserts are known here, not {statement['Statement']}"
    table, attributes = found.groups()
    names = re.findall(r"'(\w+)': \?", attributes)
    return {
        "TableName": table,
        "Item": dict(zip(names, statement["Parameters"], strict=True)),
        "ConditionExpression": f"attribute_not_exists({names[0]})",
    }
