"""Reads Stripe's events: the fields we need, in every version of its API that may come.

Stripe sends the version with which the endpoint was created. Since 2025-03-31 (basil) the period of
a subscription is in its items (https://docs.stripe.com/changelog/basil). Fields that we do not need
are ignored: Stripe adds some without a new version.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_key

LATEST_SECOND = 32_503_680_000
"""The first second of the year 3000: Stripe's instants are whole seconds since 1970."""

Value = TypeVar("Value")


class Object:
    """An object of Stripe's, or a part of one.

    Its readers raise `InvalidInput` with the place of the error. Null and a missing field mean the
    same: Stripe uses both, and not the same in every version.
    """

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self._values = values
        self.place = place

    @classmethod
    def of(cls, value: object, place: str) -> "Object":
        """A value that must be an object."""
        if not isinstance(value, dict):
            raise InvalidInput.of(place, "must be an object")
        return cls(value, place)

    def has(self, name: str) -> bool:
        """Whether a field is given."""
        return self._values.get(name) is not None

    def part(self, name: str) -> "Object | None":
        """A nested object."""
        return Object.of(self._values[name], self._place(name)) if self.has(name) else None

    def parts(self, name: str) -> "list[Object]":
        """The elements of a list of objects."""
        value = self._values.get(name) or []
        if not isinstance(value, list):
            raise InvalidInput.of(self._place(name), "must be a list")
        return [
            Object.of(each, f"{self._place(name)}[{index}]") for index, each in enumerate(value)
        ]

    def text(self, name: str) -> str | None:
        """A text, of at most 5,000 characters: Stripe's own limit is lower everywhere."""
        return self._optional(name, _text)

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        value = self._values.get(name) or []
        if not isinstance(value, list):
            raise InvalidInput.of(self._place(name), "must be a list")
        return [_text(f"{self._place(name)}[{index}]", each) for index, each in enumerate(value)]

    def key(self, name: str) -> str:
        """The required id in a field."""
        value = self.reference(name)
        if value is None:
            raise InvalidInput.of(self._place(name), "is missing")
        return value

    def reference(self, name: str) -> str | None:
        """The id of another object, which may be embedded as a whole."""
        value = self._values.get(name)
        if isinstance(value, dict):
            value = value.get("id")
        return None if value is None else parse_key(self._place(name), value)

    def whole(self, name: str) -> int:
        """A whole number, 0 or more; 0 if it is missing."""
        return self._optional(name, _whole) or 0

    def instant(self, name: str) -> datetime | None:
        """An instant."""
        return self._optional(name, _instant)

    def is_true(self, name: str) -> bool:
        """Whether a field is true."""
        return self._values.get(name) is True

    def metadata(self, name: str) -> str | None:
        """The team's value under a key of the object's metadata."""
        metadata = self.part("metadata")
        return metadata.text(name) if metadata else None

    def before(self, previous: Mapping[str, Any]) -> "Object":
        """The object as it was, by an event's ``previous_attributes``."""
        return Object(_merged(self._values, previous), self.place)

    def _optional(self, name: str, parse: Callable[[str, object], Value]) -> Value | None:
        return parse(self._place(name), self._values[name]) if self.has(name) else None

    def _place(self, name: str) -> str:
        return f"{self.place}.{name}"


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an object. ``seen_at``: when, to the second.

    ``previous``: the attributes that it changed, with their values before.
    """

    id: str
    type: str
    seen_at: datetime
    object: Object
    previous: Mapping[str, Any] | None


def read_event(body: bytes) -> Event:
    """The event in a body. Raises `InvalidInput`."""
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.of("body", "must be JSON in UTF-8") from error
    event = Object.of(values, "event")
    data = event.part("data")
    found = data.part("object") if data else None
    kind, seen_at = event.text("type"), event.instant("created")
    if data is None or found is None or kind is None or seen_at is None:
        raise InvalidInput.of("event", "must have a type, created and data.object")
    previous = values["data"].get("previous_attributes")
    return Event(
        id=event.key("id"),
        type=kind,
        seen_at=seen_at,
        object=Object(values["data"]["object"], "data.object"),
        previous=previous if isinstance(previous, dict) else None,
    )


def _merged(values: Mapping[str, Any], previous: Mapping[str, Any]) -> dict[str, Any]:
    """Merges previous values into an object: a nested object only has its changed fields."""
    merged = dict(values)
    for name, was in previous.items():
        now = merged.get(name)
        merged[name] = _merged(now, was) if isinstance(now, dict) and isinstance(was, dict) else was
    return merged


def _text(place: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > 5_000:
        raise InvalidInput.of(place, "must be a text")
    return value


def _whole(place: str, value: object) -> int:
    if type(value) is not int or not 0 <= value < 10**15:
        raise InvalidInput.of(place, "must be a whole number of 0 or more")
    return value


def _instant(place: str, value: object) -> datetime:
    if type(value) is not int or not 0 <= value < LATEST_SECOND:
        raise InvalidInput.of(place, "must be an instant in seconds since 1970")
    return datetime.fromtimestamp(value, UTC)
