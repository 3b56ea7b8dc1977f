"""Reads items: an item that cannot be read raises only `Unreadable`.

Each table has one reader. So work for many users can skip the user whose item is damaged.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from chalicelib.domain.damage import Choice, Damage, choice_of
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.instants import stored_instant

from .database import Item

Read = TypeVar("Read")

Attribute = dict[str, Any]
"""A value in the form of DynamoDB's API: its type, and the value as text."""


def read(table: str, key: str, item: Item, reader: Callable[[Item], Read]) -> Read:
    """An item, read by its reader. Raises `Unreadable`."""
    try:
        return reader(item)
    except Damage as error:
        raise Unreadable(table, key, str(error)) from error


def as_text(attribute: Attribute) -> str:
    """The value of a string attribute."""
    return _of_type("S", attribute)


def as_whole(attribute: Attribute) -> int:
    """The value of a number attribute that counts something."""
    value = int(_of_type("N", attribute))
    if value < 0:
        raise Damage("is negative")
    return value


def as_instant(attribute: Attribute) -> datetime:
    """The value of a number attribute that is an instant."""
    return stored_instant(int(_of_type("N", attribute)))


def as_choice(choices: type[Choice]) -> Callable[[Attribute], Choice]:
    """Reads the value of a string attribute that is one of a few words."""
    return lambda attribute: choice_of(choices, as_text(attribute))


def _of_type(kind: str, attribute: Attribute) -> str:
    value = attribute.get(kind)
    if not isinstance(value, str):
        raise Damage(f"is not of type {kind}")
    return value
