"""Reads JSON into the classes of `answers`, by their type hints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from datetime import date, datetime, timezone
from functools import cache
from types import UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Unreadable(ValueError):
    """An answer is not what the contract says; the message names the field."""


def read(kind: type[T], value: object) -> T:
    """An object of a class, from its JSON. Raises `Unreadable`; unknown fields are ignored."""
    if not isinstance(value, Mapping):
        raise Unreadable(f"{kind.__name__} is not an object")
    found = {}
    for name, (hint, is_optional) in _fields_of(cast(Any, kind)).items():
        if name in value:
            try:
                found[name] = _value(hint, value[name])
            except (TypeError, ValueError) as error:
                raise Unreadable(f"{kind.__name__}.{name} cannot be read: {error}") from error
        elif not is_optional:
            raise Unreadable(f"{kind.__name__}.{name} is missing")
    return kind(**found)


@cache
def _fields_of(kind: Any) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(kind)
    return {each.name: (hints[each.name], each.default is not MISSING) for each in fields(kind)}


def _value(hint: Any, value: object) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is object:
        return tuple(value) if isinstance(value, list) else value
    if origin in (Union, UnionType):
        return _one_of(inner, value)
    if origin is tuple:
        return tuple(_value(inner[0], each) for each in _of_type(list, value))
    if hint in (datetime, date):
        return _time(hint, _of_type(str, value))
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, value)
    return _of_type(dict if origin else hint, value)


def _of_type(wanted: type[T], value: object) -> T:
    if type(value) is not wanted:  # not isinstance: to Python, true is a number
        raise TypeError(f"it is not of type {wanted.__name__}")
    return value


def _one_of(hints: tuple[Any, ...], value: object) -> Any:
    if value is None and type(None) in hints:
        return None
    wanted = [hint for hint in hints if hint is not type(None)]
    if wanted == [datetime, date]:
        wanted = [datetime if isinstance(value, str) and "T" in value else date]
    return _value(wanted[0], value)


def _time(hint: Any, value: str) -> date:
    if hint is date:
        return date.fromisoformat(value)
    # Python 3.10 cannot read the Z.
    found = datetime.fromisoformat(value.replace("Z", "+00:00"))
    if found.tzinfo is None:
        raise ValueError("the instant has no offset")
    return found.astimezone(timezone.utc)
