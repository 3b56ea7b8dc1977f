"""PartiQL's INSERT for moto, whose own one replaces what is there and takes no parameters.

Alone, in a batch and in a transaction it is a put under the condition that nothing has the key.
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

Json = dict[str, Any]

_INSERT = re.compile(r"""INSERT INTO "([\w-]+)" VALUE \{(.+)\}""")
_MOST_STATEMENTS = 25
_MOST_CHARACTERS = 8192
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
    """Inserts all items or none; the reasons do not show what is there already."""
    try:
        backend.transact_write_items([{"Put": _put(statement)} for statement in statements])
    except TransactionCanceledException as error:
        reasons = json.loads(error.description)["CancellationReasons"]
        codes = [
            "DuplicateItem" if r["Code"] == "ConditionalCheckFailed" else r["Code"] for r in reasons
        ]
        raise TransactionCanceledException(
            [(None if code == "None" else code, _DUPLICATE, None) for code in codes]
        ) from None
    return []


def _put(statement: Json) -> Json:
    assert len(statement["Statement"]) <= _MOST_CHARACTERS
    found = _INSERT.fullmatch(statement["Statement"])
    assert found, f"only inserts are known here, not {statement['Statement']}"
    table, attributes = found.groups()
    names = re.findall(r"'(\w+)': \?", attributes)
    return {
        "TableName": table,
        "Item": dict(zip(names, statement["Parameters"], strict=True)),
        "ConditionExpression": f"attribute_not_exists({names[0]})",
    }
