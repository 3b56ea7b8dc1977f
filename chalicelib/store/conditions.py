"""The conditions and changes of the few writes that are not statements, composed by PynamoDB.

Import it only where such a write is made: it imports PynamoDB, which reading and spending do not
need.
"""

from collections.abc import Sequence
from typing import Any

from pynamodb.expressions.condition import Condition
from pynamodb.expressions.operand import Path
from pynamodb.expressions.update import Action, Update

from .database import Item, Request


def when(condition: Condition) -> Request:
    """The parameters that make a write depend on a condition."""
    return _named({"ConditionExpression": condition})


def changing(actions: Sequence[Action], condition: Condition) -> Request:
    """The parameters that change some attributes of an item under a condition."""
    return _named({"UpdateExpression": Update(*actions), "ConditionExpression": condition})


def is_still(item: Item | None) -> Condition:
    """That an item still has the version that was read (if any), or still does not exist."""
    version = Path("version")
    there = item is not None and "version" in item
    return version == item["version"] if item and there else version.does_not_exist()


def _named(expressions: dict[str, Any]) -> Request:
    names: dict[str, str] = {}
    values: dict[str, Any] = {}
    request: Request = {
        name: expression.serialize(names, values) for name, expression in expressions.items()
    }
    request["ExpressionAttributeNames"] = {short: name for name, short in names.items()}
    if values:  # DynamoDB refuses an empty one
        request["ExpressionAttributeValues"] = values
    return request
