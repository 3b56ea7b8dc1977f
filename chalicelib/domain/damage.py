"""Reads stored values, which can be damaged, or written by a newer release that was rolled back.

A message names the wrong value and never quotes it: it can be about a person.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

from .errors import InvalidInput
from .instants import stored_instant

Stored = TypeVar("Stored")
Value = TypeVar("Value")
Choice = TypeVar("Choice", bound=StrEnum)

WRONG = (
    ArithmeticError,
    AttributeError,
    InvalidInput,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""The errors that reading a foreign value can raise."""


class Damage(ValueError):
    """A stored value is wrong; the message may be logged."""


def value_of(values: Mapping[str, Stored], name: str, parse: Callable[[Stored], Value]) -> Value:
    """A stored value, read by ``parse``. Raises only `Damage`, which names the value."""
    if name not in values:
        raise Damage(f"{name} is missing")
    try:
        return parse(values[name])
    except Damage as error:
        raise Damage(f"{name} {error}") from error
    except WRONG as error:
        raise Damage(f"{name} is malformed") from error


def optional_of(
    values: Mapping[str, Stored], name: str, parse: Callable[[Stored], Value]
) -> Value | None:
    """The same for an optional value."""
    return value_of(values, name, parse) if name in values else None


def choice_of(choices: type[Choice], word: str) -> Choice:
    """The choice that a stored word names."""
    try:
        return choices(word)
    except ValueError as error:
        raise Damage("is unknown to this release") from error


def whole_number(value: object) -> int:
    """A stored whole number."""
    # To Python, 1.0 and True equal 1, but neither is an amount of credits.
    if type(value) is not int:
        raise Damage("is no whole number")
    return value


def count(value: object) -> int:
    """A stored whole number that counts something."""
    number = whole_number(value)
    if number < 0:
        raise Damage("is negative")
    return number


def text(value: object) -> str:
    """A stored text."""
    if not isinstance(value, str):
        raise Damage("is no text")
    return value


def text_or_none(value: object) -> str | None:
    """A stored text, or None for none."""
    return None if value is None else text(value)


def instant(value: object) -> datetime:
    """A stored instant: whole milliseconds since 1970."""
    return stored_instant(whole_number(value))
