"""The messages for sweeps and workers: a zone to sweep, and users to allocate or expire for."""

import re
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import (
    FieldReader,
    parse_choice,
    parse_correlation_id,
    parse_user_id,
    shown,
)
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ranges import WHOLE, Range

from .texts import decode, encode

USERS_A_MESSAGE = 100
"""How many users one worker message names: as many as one batch read of subscriptions takes."""


class SweepKind(StrEnum):
    """The purpose of a sweep."""

    ALLOCATION = "allocation"
    EXPIRY = "expiry"
    REMINDER = "reminder"


class Sweep(NamedTuple):
    """One pass over one timezone, or over a range of it; with a ``day``, over its anniversaries.

    It covers the midnights from ``first_midnight`` to ``midnight``. They differ if a zone is due
    for several days at one tick. ``as_of`` is the tick's instant: the sweep handles what is due by
    then. ``range`` is a part of the zone that an earlier invocation made. ``cursor`` is the place
    in the range where that invocation stopped; it begins with the timezone's name. ``day``, 1 to
    31: the sweep allocates only to users whose subscriptions started on that day.
    """

    kind: SweepKind
    timezone: str
    first_midnight: datetime
    midnight: datetime
    as_of: datetime
    cursor: str | None = None
    correlation_id: str | None = None
    range: Range = WHOLE
    day: int | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "kind": self.kind.value,
                "timezone": self.timezone,
                "first_midnight": format_instant(self.first_midnight),
                "midnight": format_instant(self.midnight),
                "as_of": format_instant(self.as_of),
                "range": self.range.bits or None,
                "cursor": self.cursor,
                "correlation_id": self.correlation_id,
                **({} if self.day is None else {"day": self.day}),
            }
        )

    @classmethod
    def parse(cls, body: str) -> "Sweep":
        """Reads a message. Raises `InvalidInput` naming every wrong field."""
        fields = FieldReader(decode(body))
        kind = fields.required("kind", parse_choice(SweepKind))
        timezone = fields.required("timezone", calendar.parse_timezone)
        first_midnight = fields.required("first_midnight", parse_instant)
        midnight = fields.required("midnight", parse_instant)
        as_of = fields.required("as_of", parse_instant)
        range_ = fields.optional("range", Range.parse) or WHOLE
        cursor = fields.optional("cursor", _parse_cursor)
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        day = fields.optional("day", _parse_day)
        if day is not None and kind is not SweepKind.ALLOCATION:
            fields.reject("day", "goes with a sweep of allocations only")
        fields.finish()
        if first_midnight > midnight:
            raise InvalidInput.of("first_midnight", "must not be after midnight")
        if cursor is not None and not cursor.startswith(f"{timezone} "):
            raise InvalidInput.of("cursor", f"is of another zone than {timezone}: {shown(cursor)}")
        if range_.is_whole:
            # From a release with another order of the index: its cursor has no meaning here.
            cursor = None
        return cls(
            kind, timezone, first_midnight, midnight, as_of, cursor, correlation_id, range_, day
        )


class UsersMessage(NamedTuple):
    """Some users that a sweep found, at most `USERS_A_MESSAGE`: allocate or expire for each."""

    as_of: datetime
    user_ids: tuple[str, ...]
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "as_of": format_instant(self.as_of),
                "user_ids": list(self.user_ids),
                "correlation_id": self.correlation_id,
            }
        )

    @classmethod
    def parse(cls, body: str) -> "UsersMessage":
        """Reads a message. Raises `InvalidInput` naming all wrong fields, but only the first id."""
        fields = FieldReader(decode(body))
        as_of = fields.required("as_of", parse_instant)
        user_ids = fields.required("user_ids", _parse_user_ids)
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        fields.finish()
        return cls(as_of, user_ids, correlation_id)


def _parse_day(field: str, value: object) -> int:
    if type(value) is int and 1 <= value <= 31:
        return value
    raise InvalidInput.of(field, f"must be a day of the month, 1 to 31; is {shown(value)}")


def _parse_user_ids(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= USERS_A_MESSAGE:
        raise InvalidInput.of(field, f"must be a list of 1 to {USERS_A_MESSAGE} user ids")
    return tuple(parse_user_id(f"{field}[{place}]", item) for place, item in enumerate(value))


_CURSOR = re.compile(r"[\x20-\x7e]{0,400}")


def _parse_cursor(field: str, value: object) -> str:
    if isinstance(value, str) and _CURSOR.fullmatch(value):
        return value
    raise InvalidInput.of(field, f"must be a cursor a sweep gave out; is {shown(value)}")
