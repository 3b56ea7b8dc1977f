"""Statements of PartiQL: writes that IAM can tell apart, where PutItem is one right for them all.

An INSERT refuses a key that exists, so whoever may only insert replaces nothing. An UPDATE names
the attributes it touches, so IAM can say which ones (`dynamodb:Attributes`).

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.insert.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
"""

from collections.abc import Iterable
from typing import Any

from .database import Item

Statement = dict[str, Any]


def insert(table: str, item: Item) -> Statement:
    """Inserts an item unless one has its key."""
    names = ", ".join(f"'{name}': ?" for name in item)
    return {
        "Statement": f'INSERT INTO "{table}" VALUE {{{names}}}',
        "Parameters": [*item.values()],
    }


def update(table: str, changed: Item, removed: Iterable[str], where: Item) -> Statement:
    """Changes some attributes of an item: ``where`` has its key, and what it must be like."""
    sets = "".join(f' SET "{name}" = ?' for name in changed)
    removes = "".join(f' REMOVE "{name}"' for name in removed)
    conditions = " AND ".join(f'"{name}" = ?' for name in where)
    return {
        "Statement": f'UPDATE "{table}"{sets}{removes} WHERE {conditions}',
        "Parameters": [*changed.values(), *where.values()],
    }
