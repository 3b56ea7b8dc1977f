"""The messages in the queues: small JSON texts, checked strictly when they arrive.

Each carries the correlation id of its operation. A message can wait for 14 days, and as long again
in a dead-letter queue, so older messages without such an id can be read, too.
"""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.events import CreditEvent, EventName
from chalicelib.domain.fields import (
    FieldReader,
    parse_choice,
    parse_correlation_id,
    parse_user_id,
    shown,
)
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ranges import WHOLE, Range

USERS_A_MESSAGE = 100
"""How many users one worker message carries: as many as one batch read of subscriptions takes."""


class SweepKind(StrEnum):
    """The purpose of a sweep."""

    ALLOCATION = "allocation"
    EXPIRY = "expiry"
    REMINDER = "reminder"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One pass over one timezone, or over a range of it; with a ``day``, over its anniversaries.

    It covers the midnights from ``first_midnight`` to ``midnight``. They differ if a zone is due
    for several days at one tick. ``as_of`` is the tick's instant: the sweep handles what is due by
    then. ``range`` is a part of the zone that an earlier invocation made. ``cursor`` is the place
    in the range where that invocation stopped; it begins with the timezone's own name. ``day``, 1
    to 31: an allocation sweep of those whose subscriptions started on it, and of nobody else.
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
        return _encode(
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
        fields = FieldReader(_decode(body))
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
            # From a release whose index had another order: its cursor has no meaning here.
            cursor = None
        return cls(
            kind, timezone, first_midnight, midnight, as_of, cursor, correlation_id, range_, day
        )


@dataclass(frozen=True, slots=True)
class UsersMessage:
    """Some users that a sweep found, at most `USERS_A_MESSAGE`: allocate or expire for each."""

    as_of: datetime
    user_ids: tuple[str, ...]
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return _encode(
            {
                "as_of": format_instant(self.as_of),
                "user_ids": list(self.user_ids),
                "correlation_id": self.correlation_id,
            }
        )

    @classmethod
    def parse(cls, body: str) -> "UsersMessage":
        """Reads a message. Raises `InvalidInput` naming every wrong field, of the ids the first."""
        fields = FieldReader(_decode(body))
        as_of = fields.required("as_of", parse_instant)
        user_ids = fields.required("user_ids", _parse_user_ids)
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        fields.finish()
        return cls(as_of, user_ids, correlation_id)


UNKNOWN_ZONES = "unknown"
"""Stands in a count for all zones that the database does not have."""


@dataclass(frozen=True, slots=True)
class ZoneCheck:
    """Counts one zone, or a range of it, for a period; a run counts ``zones`` zones.

    ``timezone`` can be `UNKNOWN_ZONES`, for users in zones that the database has no longer.
    """

    run: str
    period: Period
    timezone: str
    zones: int
    range: Range = WHOLE
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return _encode(
            {
                "run": self.run,
                "period": str(self.period),
                "timezone": self.timezone,
                "zones": self.zones,
                "range": self.range.bits or None,
                "correlation_id": self.correlation_id,
            }
        )

    @classmethod
    def parse(cls, body: str) -> "ZoneCheck":
        """Reads a message. Raises `InvalidInput` naming every wrong field."""
        fields = FieldReader(_decode(body))
        run = fields.required("run", parse_correlation_id)
        period = fields.required("period", lambda field, value: Period.parse(value, field))
        timezone = fields.required("timezone", _parse_checked_zone)
        zones = fields.required("zones", _parse_zones)
        range_ = fields.optional("range", Range.parse) or WHOLE
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        # From a release that went through a zone in one chain: the zone is counted again.
        fields.optional("after", parse_user_id)
        fields.optional("tally", Tally.parse)
        fields.finish()
        return cls(run, period, timezone, zones, range_, correlation_id)


@dataclass(frozen=True, slots=True)
class EntryPosted:
    """A ledger entry that needs an email. The sender reads the content when it sends the email."""

    user_id: str
    number: int
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return _encode(
            {
                "user_id": self.user_id,
                "number": self.number,
                "correlation_id": self.correlation_id,
            }
        )


@dataclass(frozen=True, slots=True)
class StrangeRecord:
    """A record of the ledger's stream whose entry cannot be named: a person must look at it.

    `parse_notification` refuses it, so that it becomes a dead letter.
    """

    event_id: str | None
    keys: object
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return _encode(
            {
                "event_id": self.event_id,
                "keys": self.keys,
                "correlation_id": self.correlation_id,
            }
        )


@dataclass(frozen=True, slots=True)
class ExpiringSoon:
    """Credits of a user expire at an instant unless they are used before; as of a tick's time."""

    user_id: str
    expires_at: datetime
    as_of: datetime
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return _encode(
            {
                "user_id": self.user_id,
                "expires_at": format_instant(self.expires_at),
                "as_of": format_instant(self.as_of),
                "correlation_id": self.correlation_id,
            }
        )


Notification = EntryPosted | ExpiringSoon


def parse_notification(body: str) -> Notification:
    """Reads a message of the notifications queue. Raises `InvalidInput` naming wrong fields."""
    values = _decode(body)
    fields = FieldReader(values)
    user_id = fields.required("user_id", parse_user_id)
    correlation_id = fields.optional("correlation_id", parse_correlation_id)
    if isinstance(values, dict) and "expires_at" in values:
        expires_at = fields.required("expires_at", parse_instant)
        as_of = fields.required("as_of", parse_instant)
        fields.finish()
        return ExpiringSoon(user_id, expires_at, as_of, correlation_id)
    number = fields.required("number", _parse_number)
    fields.finish()
    return EntryPosted(user_id, number, correlation_id)


@dataclass(frozen=True, slots=True)
class ToPublish:
    """An event for the stage's bus, with all that it says."""

    event: CreditEvent
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return _encode(
            {
                "name": self.event.name.value,
                "at": format_instant(self.event.at),
                "detail": self.event.detail,
                "correlation_id": self.correlation_id,
            }
        )

    @classmethod
    def parse(cls, body: str) -> "ToPublish":
        """Reads a message. Raises `InvalidInput` naming every wrong field."""
        fields = FieldReader(_decode(body))
        name = fields.required("name", parse_choice(EventName))
        at = fields.required("at", parse_instant)
        detail = fields.required("detail", _parse_detail)
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        fields.finish()
        return cls(CreditEvent(name, at, detail), correlation_id)


def _parse_detail(field: str, value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise InvalidInput.of(field, f"must be what an event says; is {shown(value)}")


def _parse_day(field: str, value: object) -> int:
    if type(value) is int and 1 <= value <= 31:
        return value
    raise InvalidInput.of(field, f"must be a day of the month, 1 to 31; is {shown(value)}")


def _parse_number(field: str, value: object) -> int:
    if type(value) is int and 1 <= value < 10**12:
        return value
    raise InvalidInput.of(field, f"must be the number of a ledger entry; is {shown(value)}")


def _parse_checked_zone(field: str, value: object) -> str:
    return UNKNOWN_ZONES if value == UNKNOWN_ZONES else calendar.parse_timezone(field, value)


def _parse_zones(field: str, value: object) -> int:
    if type(value) is int and value >= 1:
        return value
    raise InvalidInput.of(field, f"must be how many zones are counted; is {shown(value)}")


def _parse_user_ids(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= USERS_A_MESSAGE:
        raise InvalidInput.of(field, f"must be a list of 1 to {USERS_A_MESSAGE} user ids")
    return tuple(parse_user_id(f"{field}[{place}]", item) for place, item in enumerate(value))


_CURSOR = re.compile(r"[\x20-\x7e]{0,400}")


def _parse_cursor(field: str, value: object) -> str:
    if isinstance(value, str) and _CURSOR.fullmatch(value):
        return value
    raise InvalidInput.of(field, f"must be a cursor a sweep gave out; is {shown(value)}")


def _encode(values: dict[str, object]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _decode(body: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidInput.of("body", f"must be JSON ({error})") from error
