"""PartiQL statements, and why DynamoDB refuses one or cancels a transaction of several.

IAM can tell these writes apart, while PutItem is one right for all of them: an INSERT refuses a key
that exists, so the right to insert replaces nothing. An UPDATE names the attributes it touches, so
IAM can say which ones (`dynamodb:Attributes`).

https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.insert.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-reference.update.html
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ql-iam.html
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from .database import Item
from .throttling import THROTTLES, wait_for_room
from .wire.errors import ServiceError

TAKEN = {"ConditionalCheckFailed", "DuplicateItem", "DuplicateItemException"}
"""DynamoDB's codes for a key that already exists: for one statement of a batch
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html), for a
transaction (seen by https://github.com/amzn/smoke-dynamodb/pull/90), and for a request by itself.
"""

LOST_RACES = {*TAKEN, "TransactionConflict", "TransactionConflictException"}
"""DynamoDB's codes if somebody else has written an item, or is about to."""

PASSING_REASONS = {*LOST_RACES, *THROTTLES}
"""Reasons of a cancelled transaction that may succeed when it is decided again."""

Statement = dict[str, Any]


def insert(table: str, item: Item) -> Statement:
    """Inserts an item unless its key exists."""
    return {"Statement": insert_into(table, tuple(item)), "Parameters": [*item.values()]}


@cache
def insert_into(table: str, names: tuple[str, ...]) -> str:
    """The INSERT of an item with these attributes; items have only a few sets of attributes.

    The values are parameters: so no statement comes near the limit of 8,192 characters
    (https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ParameterizedStatement.html).
    """
    attributes = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table}" VALUE {{{attributes}}}'


def update(table: str, changed: Item, removed: Iterable[str], where: Item) -> Statement:
    """Changes some attributes of an item: ``where`` has its key and the values it must have."""
    sets = "".join(f' SET "{name}" = ?' for name in changed)
    removes = "".join(f' REMOVE "{name}"' for name in removed)
    conditions = " AND ".join(f'"{name}" = ?' for name in where)
    return {
        "Statement": f'UPDATE "{table}"{sets}{removes} WHERE {conditions}',
        "Parameters": [*changed.values(), *where.values()],
    }


def cancelled_for(error: ServiceError) -> frozenset[str]:
    """Why a transaction was cancelled, in DynamoDB's own codes; empty for any other error.

    A code does not say which item it is about: an existing item may be anybody's.
    """
    return frozenset(why["Code"] for why in error.said.get("CancellationReasons", ())) - {"None"}


def is_lost_race(codes: frozenset[str]) -> bool:
    """Whether a new decision may succeed: other writers came first, or there were too many.

    The wire never retries a cancelled transaction, as the SDK does not: we do.
    """
    return bool(codes) and codes <= PASSING_REASONS


def give_way(attempt: int, codes: Iterable[str]) -> None:
    """Waits if a transaction was cancelled for lack of throughput. Raises `OutOfTime`."""
    if not THROTTLES.isdisjoint(codes):
        wait_for_room(attempt, lambda _: None)  # `database.races` pauses anyway
