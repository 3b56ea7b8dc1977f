"""PartiQL's INSERT for moto, whose own one replaces what is there and takes no parameters."""

import re
from typing import Any

from moto.dynamodb.exceptions import ConditionalCheckFailed
from moto.dynamodb.models import DynamoDBBackend

Json = dict[str, Any]

_INSERT = re.compile(r"""INSERT INTO "([\w-]+)" VALUE \{(.+)\}""")
_MOST_STATEMENTS = 25


def batch_execute_statement(backend: DynamoDBBackend, statements: list[Json]) -> list[Json]:
    """Inserts items one by one; each that is there already is a `DuplicateItem` and stays."""
    assert 1 <= len(statements) <= _MOST_STATEMENTS
    return [_insert(backend, statement) for statement in statements]


def _insert(backend: DynamoDBBackend, statement: Json) -> Json:
    found = _INSERT.fullmatch(statement["Statement"])
    assert found, f"only inserts are known here, not {statement['Statement']}"
    table, attributes = found.groups()
    names = re.findall(r"'(\w+)': \?", attributes)
    try:
        backend.put_item(
            table,
            dict(zip(names, statement["Parameters"], strict=True)),
            condition_expression="attribute_not_exists(user_id)",
        )
    except ConditionalCheckFailed:
        return {"Error": {"Code": "DuplicateItem", "Message": "Duplicate primary key exists"}}
    return {"TableName": table}
