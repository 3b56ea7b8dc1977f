"""Instants and dates as text and as numbers: the one formatter of the API, the logs and the emails.

An instant is an aware ``datetime`` in UTC, kept to the millisecond.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from .errors import InvalidInput

# Whatever can be written can be computed with: within these years no offset and no credit lifetime
# reaches the ends of Python's calendar (years 1 and 9999).
_FIRST_YEAR = 1970
_LAST_YEAR = 2999

CLOCKS_DIFFER = timedelta(minutes=5)
"""How far two machines' clocks may differ: an instant farther ahead of ours lies in the future."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

# An offset can move an instant within the years to a day outside them.
_FIRST_MILLISECOND, _END_OF_MILLISECONDS = (
    (datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=days) - _EPOCH) // _MILLISECOND
    for year, days in ((_FIRST_YEAR, -1), (_LAST_YEAR + 1, 1))
)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?P<fraction>\.[0-9]+)?"
    r"(?P<offset>[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
)


def parse_instant(field: str, value: object) -> datetime:
    """Read an RFC 3339 date-time with its offset, as UTC, rounded down to the millisecond.

    ``2026-07-01T04:00:00Z``, ``2026-07-01T00:00:00-04:00``, up to six digits of a second. Without
    an offset it would be ambiguous, so that is refused: InvalidInput on ``field``.
    """
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if match is None or not isinstance(value, str):
        raise InvalidInput.of(field, "must be a date and time written like 2026-07-01T04:00:00Z")
    if match["offset"] is None:
        raise InvalidInput.of(
            field, "has no UTC offset: add Z for UTC, or an offset such as -04:00, at its end"
        )
    if match["fraction"] is not None and len(match["fraction"]) > 7:
        raise InvalidInput.of(field, "must have at most six digits of a second")
    try:
        instant = datetime.fromisoformat(value.upper())
    except ValueError as error:
        raise InvalidInput.of(field, f"is not a date and time that exists: {error}") from error
    # Before the conversion to UTC, which fails at the very ends of the calendar.
    check_year(instant.year, field)
    return to_millisecond(instant)


def parse_past(now: datetime) -> Callable[[str, object], datetime]:
    """A parser for instants that are not ahead of our clock by more than clocks may differ."""

    def parse(field: str, value: object) -> datetime:
        instant = parse_instant(field, value)
        if instant > now + CLOCKS_DIFFER:
            raise InvalidInput.of(field, "must not be ahead of the clock")
        return instant

    return parse


def format_instant(instant: datetime) -> str:
    """Write an instant as RFC 3339 in UTC: ``2026-07-01T04:00:00Z``.

    Milliseconds are written only when there are any. Such texts sort like the instants as long as
    all of them are whole seconds, which midnights are: use no other instants in sort keys.
    """
    precision = "milliseconds" if instant.microsecond >= 1000 else "seconds"
    return as_utc(instant).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def parse_date(field: str, value: object) -> date:
    """Read a local date, ``2026-07-01``; anything else is InvalidInput on ``field``."""
    if not isinstance(value, str) or _DATE.fullmatch(value) is None:
        raise InvalidInput.of(field, "must be a date written like 2026-07-01")
    try:
        day = date.fromisoformat(value)
    except ValueError as error:
        raise InvalidInput.of(field, f"is not a date that exists: {error}") from error
    check_year(day.year, field)
    return day


def parse_date_or_instant(field: str, value: object) -> datetime | date:
    """Read a local date if the text is only a date, else an instant."""
    if isinstance(value, str) and _DATE.fullmatch(value):
        return parse_date(field, value)
    try:
        return parse_instant(field, value)
    except InvalidInput as error:
        (wrong,) = error.errors
        raise InvalidInput.of(
            field, f"{wrong.message}; or a local date written like 2026-07-01"
        ) from error


def check_year(year: int, field: str) -> None:
    """Raises InvalidInput on ``field`` for a year outside the supported ones."""
    if not _FIRST_YEAR <= year <= _LAST_YEAR:
        raise InvalidInput.of(
            field, f"must be in a year from {_FIRST_YEAR} to {_LAST_YEAR}, is {year:04d}"
        )


def as_utc(instant: datetime) -> datetime:
    """The same instant in UTC. Naive datetimes raise ValueError: they name no instant."""
    if instant.tzinfo is None:
        raise ValueError(f"an instant needs a timezone, and {instant.isoformat()} has none")
    return instant.astimezone(UTC)


def to_milliseconds(instant: datetime) -> int:
    """Whole milliseconds since 1970, rounded down: exact, without a float on the way."""
    return (instant - _EPOCH) // _MILLISECOND


def from_milliseconds(milliseconds: int) -> datetime:
    """The inverse of `to_milliseconds`."""
    return _EPOCH + milliseconds * _MILLISECOND


def stored_instant(milliseconds: int) -> datetime:
    """An instant as it is stored. Raises ValueError for one outside the supported years."""
    if not _FIRST_MILLISECOND <= milliseconds < _END_OF_MILLISECONDS:
        raise ValueError("no instant that is computed with")
    return from_milliseconds(milliseconds)


def to_millisecond(instant: datetime) -> datetime:
    """The instant in UTC, rounded down to the millisecond."""
    return from_milliseconds(to_milliseconds(as_utc(instant)))


def to_next_second(instant: datetime) -> datetime:
    """The instant, rounded up to the second."""
    return instant + timedelta(microseconds=-instant.microsecond % 1_000_000)
