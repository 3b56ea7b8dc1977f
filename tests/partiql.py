"""An UPDATE of PartiQL, read for the models of DynamoDB that tests run on."""

import re
from typing import Any, NamedTuple

Json = dict[str, Any]

MOST_CHARACTERS = 8192
"""Of a statement; its parameters do not count
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExecuteStatement.html)."""


class Update(NamedTuple):
    """What an UPDATE does, and what the item must be like, its key included."""

    table: str
    changed: Json
    removed: list[str]
    where: Json


_UPDATE = re.compile(
    r"""UPDATE "([\w.-]+)"((?: SET "\w+" = \?)+)((?: REMOVE "\w+")*) """
    r"""WHERE ("\w+" = \?(?: AND "\w+" = \?)*)"""
)


def read_update(statement: Json) -> Update:
    """An UPDATE in our spelling; the models of DynamoDB read it so."""
    assert len(statement["Statement"]) <= MOST_CHARACTERS
    found = _UPDATE.fullmatch(statement["Statement"])
    assert found, f"{statement['Statement']} is no UPDATE that is known here"
    changed, removed, where = (re.findall(r'"(\w+)"', part) for part in found.groups()[1:])
    assert len({*changed, *removed}) == len(changed) + len(removed), "each attribute once"
    values = iter(statement["Parameters"])
    read = Update(
        found[1],
        {name: next(values) for name in changed},
        removed,
        {name: next(values) for name in where},
    )
    assert next(values, None) is None, "a parameter too many"
    return read
