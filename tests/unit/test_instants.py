"""Instants and dates as text: what is read, what is refused and why, and what is written."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import (
    CLOCKS_DIFFER,
    format_instant,
    parse_date,
    parse_date_or_instant,
    parse_instant,
    stored_instant,
    to_millisecond,
    to_milliseconds,
    to_next_second,
)


def utc(year: int, month: int, day: int, hour: int = 0) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


def after_1970(microseconds: int) -> datetime:
    return utc(1970, 1, 1) + timedelta(microseconds=microseconds)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-01T04:00:00Z", utc(2026, 7, 1, 4)),
        ("2026-07-01T00:00:00-04:00", utc(2026, 7, 1, 4)),
        ("2026-07-01T09:45:00+05:45", utc(2026, 7, 1, 4)),
        ("2026-07-01t04:00:00z", utc(2026, 7, 1, 4)),
        ("2026-07-01T04:00:00.5Z", utc(2026, 7, 1, 4) + timedelta(milliseconds=500)),
        ("2026-07-01T04:00:00.123999Z", utc(2026, 7, 1, 4) + timedelta(milliseconds=123)),
    ],
)
def test_an_instant_is_read_as_utc(text: str, expected: datetime) -> None:
    assert parse_instant("at", text) == expected
    assert parse_instant("at", text).tzinfo is UTC


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("2026-07-01T04:00:00", "at: has no UTC offset: add Z for UTC"),
        ("2026-07-01T04:00:00.1234567Z", "at: must have at most six digits of a second"),
        ("2026-02-30T04:00:00Z", "at: is not a date and time that exists: day is out of range"),
        ("2026-07-01T24:00:00Z", "at: is not a date and time that exists"),
        ("2026-07-01T23:59:60Z", "at: is not a date and time that exists"),
        ("1969-12-31T23:59:59Z", "at: must be in a year from 1970 to 2999, is 1969"),
        ("0001-01-01T00:00:00+14:00", "at: must be in a year from 1970 to 2999, is 0001"),
        ("9999-12-31T23:59:59-12:00", "at: must be in a year from 1970 to 2999, is 9999"),
        *[
            (text, "at: must be a date and time written like 2026-07-01T04:00:00Z")
            for text in [
                "2026-07-01",
                "2026-07-01 04:00:00Z",
                "2026-07-01T04:00Z",
                "20260701T040000Z",
                "2026-W27-3T04:00:00Z",
                "2026-07-01T04:00:00Z\n",
                "2026-07-01T04:00:00+0400",
                "2026-07-01T04:00:00+24:00",
                "2026-07-01T04:00:00,5Z",
                *("12026-07-01T04:00:00Z", "2026-007-01T04:00:00Z", "2026-07-001T04:00:00Z"),
                *("2026-07-01T004:00:00Z", "2026-07-01T04:000:00Z", "2026-07-01T04:00:000Z"),
                *("x026-07-01T04:00:00Z", "2026-0x-01T04:00:00Z", "2026-07-0xT04:00:00Z"),
                *("2026-07-01T0x:00:00Z", "2026-07-01T04:0x:00Z", "2026-07-01T04:00:0xZ"),
                *("2026-07-01T04:00:00.xZ", "2026-07-01T04:00:00.Z", "2026-07-01T04:00:00+0x:00"),
                *("2026-07-01T04:00:00+04:0x", "2026-07-01T04:00:00+04:60"),
                *("2026-07-01T04:00:00!", "2026-07-01T04:00:00*04:00"),
                "now",
                "",
                1782878400,
                None,
            ]
        ],
    ],
)
def test_what_is_not_an_instant_is_refused_with_the_reason(wrong: object, advice: str) -> None:
    with pytest.raises(InvalidInput) as error:
        parse_instant("at", wrong)
    assert str(error.value).startswith(advice)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.integers(0, to_milliseconds(utc(2999, 1, 1)) * 1000).map(after_1970))
def test_an_instant_that_is_written_reads_back_as_itself(instant: datetime) -> None:
    assert parse_instant("at", format_instant(instant)) == to_millisecond(instant)


def test_an_instant_is_written_in_utc_with_milliseconds_only_when_there_are_any() -> None:
    assert format_instant(utc(2026, 7, 1, 4)) == "2026-07-01T04:00:00Z"
    half = utc(2026, 7, 1, 4) + timedelta(milliseconds=500)
    assert format_instant(half) == "2026-07-01T04:00:00.500Z"
    assert format_instant(after_1970(999)) == "1970-01-01T00:00:00Z"
    assert format_instant(after_1970(1000)) == "1970-01-01T00:00:00.001Z"
    with pytest.raises(ValueError, match=r"^an instant needs a timezone, and .* has none$"):
        format_instant(utc(2026, 7, 1, 4).replace(tzinfo=None))


def test_an_instant_is_rounded_up_to_the_second() -> None:
    for microseconds, seconds in ((0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2)):
        assert to_next_second(after_1970(microseconds)) == after_1970(seconds * 1_000_000)


def test_an_instant_is_stored_if_one_could_have_given_it_with_an_offset() -> None:
    first, end = utc(1969, 12, 31), utc(3000, 1, 2)
    for right in (first, end - timedelta(milliseconds=1)):
        assert stored_instant(to_milliseconds(right)) == right
    for wrong in (first - timedelta(milliseconds=1), end):
        with pytest.raises(ValueError, match="no instant that is computed with"):
            stored_instant(to_milliseconds(wrong))


def test_a_naive_instant_has_no_milliseconds() -> None:
    with pytest.raises(ValueError, match="an instant needs a timezone"):
        to_millisecond(utc(2026, 7, 1).replace(tzinfo=None))


def test_clocks_may_differ_by_five_minutes() -> None:
    assert timedelta(minutes=5) == CLOCKS_DIFFER


def test_a_date_is_read_like_2026_07_01_and_nothing_else() -> None:
    assert parse_date("on", "2026-07-01") == date(2026, 7, 1)
    written = (
        "12026-07-01",
        "2026-007-01",
        "2026-07-001",
        "x026-07-01",
        "2026-0x-01",
        "2026-07-0x",
    )
    longer = ("2026-7-1", "20260701", "2026-07-01T00:00:00Z", "2026-07-01\n")
    for wrong in (*written, *longer, "", None, 5):
        with pytest.raises(InvalidInput, match="on: must be a date written like 2026-07-01"):
            parse_date("on", wrong)
    with pytest.raises(InvalidInput, match="on: is not a date that exists"):
        parse_date("on", "2026-02-29")
    for outside in ("1969-12-31", "3000-01-01"):
        with pytest.raises(InvalidInput, match="on: must be in a year from 1970 to 2999"):
            parse_date("on", outside)


def test_a_local_date_or_an_instant_is_read_and_the_field_is_named_when_it_is_neither() -> None:
    assert parse_date_or_instant("on", "2026-07-01") == date(2026, 7, 1)
    assert parse_date_or_instant("on", "2026-07-01T00:00:00Z") == utc(2026, 7, 1)
    with pytest.raises(InvalidInput, match=r"^on: is not a date that exists"):
        parse_date_or_instant("on", "2026-02-29")
    for wrong in ("2026-7-1", 5, None):
        with pytest.raises(
            InvalidInput, match=r"^on: .*; or a local date written like 2026-07-01$"
        ):
            parse_date_or_instant("on", wrong)
