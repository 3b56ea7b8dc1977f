"""The messages in the queues: what is written is read, and anything else is refused by name."""

import inspect
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.errors import FieldError, InvalidInput
from chalicelib.domain.events import CreditEvent, EventName
from chalicelib.domain.ranges import WHOLE, Range
from chalicelib.messages import checks, events, notifications, work
from chalicelib.messages.checks import ZoneCheck
from chalicelib.messages.events import ToPublish
from chalicelib.messages.notifications import (
    EntryPosted,
    ExpiringSoon,
    Notification,
    StrangeRecord,
    parse_notification,
)
from chalicelib.messages.work import USERS_A_MESSAGE, Sweep, SweepKind, UsersMessage

MIDNIGHT = datetime(2026, 6, 30, 22, tzinfo=UTC)
FIRST_MIDNIGHT = MIDNIGHT - timedelta(days=2)
AS_OF = MIDNIGHT + timedelta(minutes=15, milliseconds=7)
END = MIDNIGHT + timedelta(milliseconds=1)

SWEEP = {
    "kind": "allocation",
    "timezone": "Europe/Paris",
    "first_midnight": "2026-06-28T22:00:00Z",
    "midnight": "2026-06-30T22:00:00Z",
    "as_of": "2026-06-30T22:15:00.007Z",
    "range": "0111",
    "cursor": "Europe/Paris 42",
}
USERS = {"as_of": "2026-06-30T22:15:00.007Z", "user_ids": ["1", "2"]}

IS_NO_INSTANT = "must be a date and time written like 2026-07-01T04:00:00Z"

# Bodies that are not a message of any kind. The queues are ours, but anybody who may send to them
# may send anything.
MALFORMED = {
    "nothing": "",
    "half of it": '{"kind": "allocation"',
    "two values": "{} {}",
    "Python": "{'kind': 'allocation'}",
    "nested deep": "[" * 100_000,
    "nested deep in a field": '{"cursor":' * 100_000,
    "a number of too many digits": '{"as_of": ' + "9" * 5_000 + "}",
    "a list": "[]",
    "a text": '"kind"',
    "a number": "5",
    "null": "null",
    "NaN": "NaN",
    "infinity": "-Infinity",
}


def errors(parse: Callable[[str], object], body: str) -> tuple[FieldError, ...]:
    with pytest.raises(InvalidInput) as caught:
        parse(body)
    return caught.value.errors


def sweep_errors(**changes: object) -> tuple[FieldError, ...]:
    return errors(Sweep.parse, json.dumps(SWEEP | changes))


def users_errors(**changes: object) -> tuple[FieldError, ...]:
    return errors(UsersMessage.parse, json.dumps(USERS | changes))


# --- Both kinds ---------------------------------------------------------------------------------


@pytest.mark.parametrize("parse", [Sweep.parse, UsersMessage.parse])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_body_is_refused(parse: Callable[[str], object], body: str) -> None:
    (error,) = errors(parse, body)
    assert error.field == "body"
    assert error.message.startswith(("must be JSON (", "must be an object with named fields; is "))
    assert len(error.message) < 200


def test_a_body_that_is_no_json_is_refused_with_the_place() -> None:
    (error,) = errors(Sweep.parse, '{"kind": }')
    assert error.message == "must be JSON (Expecting value: line 1 column 10 (char 9))"


# --- Sweeps -------------------------------------------------------------------------------------


def test_a_sweep_is_written_as_compact_json() -> None:
    sweep = Sweep(SweepKind.EXPIRY, "Asia/Kathmandu", FIRST_MIDNIGHT, MIDNIGHT, AS_OF)
    assert sweep.body() == (
        '{"kind":"expiry","timezone":"Asia/Kathmandu","first_midnight":"2026-06-28T22:00:00Z",'
        '"midnight":"2026-06-30T22:00:00Z","as_of":"2026-06-30T22:15:00.007Z","range":null,'
        '"cursor":null,"correlation_id":null}'
    )
    assert '"range":"0111"' in sweep._replace(range=Range("0111")).body()


@pytest.mark.parametrize("kind", SweepKind)
@pytest.mark.parametrize("cursor", [None, "Europe/Paris 42", "Europe/Paris 07 key"])
def test_a_sweep_is_read_as_it_was_written(kind: SweepKind, cursor: str | None) -> None:
    sweep = Sweep(
        kind, "Europe/Paris", FIRST_MIDNIGHT, MIDNIGHT, AS_OF, cursor, "tick", Range("01")
    )
    assert Sweep.parse(sweep.body()) == sweep


def test_a_sweep_of_an_anniversary_is_read_as_it_was_written_and_others_do_not_name_a_day() -> None:
    sweep = Sweep(SweepKind.ALLOCATION, "Europe/Paris", FIRST_MIDNIGHT, MIDNIGHT, AS_OF, day=31)
    assert sweep.body().endswith('"correlation_id":null,"day":31}')
    assert Sweep.parse(sweep.body()) == sweep
    assert "day" not in sweep._replace(day=None).body().replace("midnight", "")


@pytest.mark.parametrize("day", [0, 32, "5", 1.0, True, [1]])
def test_a_day_that_no_month_has_is_refused(day: object) -> None:
    (error,) = sweep_errors(day=day)
    assert error.field == "day"
    assert error.message.startswith("must be a day of the month, 1 to 31; is ")


@pytest.mark.parametrize("kind", ["expiry", "reminder"])
def test_only_allocations_have_anniversaries(kind: str) -> None:
    assert [(error.field, error.message) for error in sweep_errors(kind=kind, day=5)] == [
        ("day", "goes with a sweep of allocations only")
    ]


def test_a_sweep_without_a_range_is_of_the_whole_zone_from_its_beginning() -> None:
    """So are those of a release that stopped in the order of the ids."""
    body = json.dumps({name: value for name, value in SWEEP.items() if name != "range"})
    assert Sweep.parse(body) == Sweep(
        SweepKind.ALLOCATION, "Europe/Paris", FIRST_MIDNIGHT, MIDNIGHT, AS_OF
    )


def test_a_sweep_without_a_cursor_starts_at_the_beginning() -> None:
    body = json.dumps({name: value for name, value in SWEEP.items() if name != "cursor"})
    assert Sweep.parse(body) == Sweep(
        SweepKind.ALLOCATION,
        "Europe/Paris",
        FIRST_MIDNIGHT,
        MIDNIGHT,
        AS_OF,
        None,
        range=Range("0111"),
    )


@pytest.mark.parametrize("field", ["kind", "timezone", "first_midnight", "midnight", "as_of"])
def test_a_sweep_needs_each_of_its_other_fields(field: str) -> None:
    body = json.dumps({name: value for name, value in SWEEP.items() if name != field})
    assert errors(Sweep.parse, body) == (FieldError(field, "is required"),)
    assert sweep_errors(**{field: None}) == (FieldError(field, "is required"),)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"kind": "usage"}, "kind", "must be one of allocation, expiry, reminder; is 'usage'"),
        (
            {"kind": ["expiry"]},
            "kind",
            "must be one of allocation, expiry, reminder; is ['expiry'] (list)",
        ),
        (
            {"kind": float("nan")},
            "kind",
            "must be one of allocation, expiry, reminder; is nan (float)",
        ),
        ({"first_midnight": "2026-06-28"}, "first_midnight", IS_NO_INSTANT),
        ({"midnight": 1782856800000}, "midnight", IS_NO_INSTANT),
        ({"midnight": float("nan")}, "midnight", IS_NO_INSTANT),
        ({"as_of": float("inf")}, "as_of", IS_NO_INSTANT),
        ({"as_of": "x" * 100_000}, "as_of", IS_NO_INSTANT),
        ({"as_of": {}}, "as_of", IS_NO_INSTANT),
        ({"cursor": 5}, "cursor", "must be a cursor a sweep gave out; is 5 (int)"),
        ({"range": "012"}, "range", "must be 1 to 16 of the digits 0 and 1; is '012'"),
        (
            {"cursor": "Europe/Paris " + "x" * 388},
            "cursor",
            "must be a cursor a sweep gave out; is 'Europe/Paris " + "x" * 43 + "...",
        ),
        (
            {"extra": 1},
            "extra",
            "is not a known field; the fields are as_of, correlation_id, cursor, ",
        ),
    ],
)
def test_a_wrong_field_of_a_sweep_is_named(
    changes: dict[str, Any], field: str, message: str
) -> None:
    (error,) = sweep_errors(**changes)
    assert error.field == field
    assert error.message.startswith(message)


def test_all_wrong_fields_of_a_sweep_are_named_at_once() -> None:
    wrong = sweep_errors(
        kind=1,
        timezone="Europe/Pariss",
        first_midnight=2,
        midnight=3,
        as_of=4,
        cursor=5,
        extra=6,
    )
    assert [error.field for error in wrong] == [
        "kind",
        "timezone",
        "first_midnight",
        "midnight",
        "as_of",
        "cursor",
        "extra",
    ]
    assert wrong[1].message == "unknown timezone 'Europe/Pariss'; did you mean 'Europe/Paris'?"


@pytest.mark.parametrize(
    "cursor",
    ["", "42", "Europe/Paris", "Europe/Paris42", "Asia/Tokyo 42", " Europe/Paris 42", "EUROPE"],
)
def test_a_cursor_of_another_zone_is_refused(cursor: str) -> None:
    message = f"is of another zone than Europe/Paris: '{cursor}'"
    assert sweep_errors(cursor=cursor) == (FieldError("cursor", message),)


def test_a_cursor_has_at_most_400_characters() -> None:
    longest = "Europe/Paris ".ljust(400, "x")
    assert Sweep.parse(json.dumps(SWEEP | {"cursor": longest})).cursor == longest


# --- Users --------------------------------------------------------------------------------------


def test_the_users_of_a_page_are_written_as_compact_json() -> None:
    assert UsersMessage(AS_OF, ("1", "b")).body() == (
        '{"as_of":"2026-06-30T22:15:00.007Z","user_ids":["1","b"],"correlation_id":null}'
    )


user_ids = st.text("AZaz09._:@|+=-", min_size=1, max_size=128)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(user_ids, min_size=1, max_size=USERS_A_MESSAGE),
    st.datetimes(datetime(1970, 1, 1), datetime(2999, 12, 31)),  # noqa: DTZ001
)
def test_the_users_of_a_page_are_read_as_they_were_written(
    ids: list[str], instant: datetime
) -> None:
    as_of = instant.replace(microsecond=instant.microsecond // 1000 * 1000, tzinfo=UTC)
    message = UsersMessage(as_of, tuple(ids))
    assert UsersMessage.parse(message.body()) == message


def test_a_number_among_the_users_means_its_digits() -> None:
    assert UsersMessage.parse(json.dumps(USERS | {"user_ids": [42]})).user_ids == ("42",)


@pytest.mark.parametrize("count", [1, 100])
def test_a_message_names_one_to_a_hundred_users(count: int) -> None:
    ids = [str(number) for number in range(count)]
    assert UsersMessage.parse(json.dumps(USERS | {"user_ids": ids})).user_ids == tuple(ids)


@pytest.mark.parametrize(
    "wrong",
    [[], [str(number) for number in range(101)], "1", 5, {"1": "2"}, True, float("nan")],
    ids=["0 users", "101 users", "text", "number", "object", "bool", "NaN"],
)
def test_anything_but_a_list_of_one_to_a_hundred_users_is_refused(wrong: object) -> None:
    message = "must be a list of 1 to 100 user ids"
    assert users_errors(user_ids=wrong) == (FieldError("user_ids", message),)


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 129, -1, 1.5, True, None, ["1"], "\ud800"])
def test_a_wrong_user_id_is_named_by_its_place(wrong: object) -> None:
    (error,) = users_errors(user_ids=["1", wrong, "2"])
    assert error.field == "user_ids[1]"
    assert error.message.startswith("must be 1 to 128 letters, digits and . _ : @ | + = -, or")


@pytest.mark.parametrize("field", ["as_of", "user_ids"])
def test_a_message_to_a_worker_needs_both_fields(field: str) -> None:
    body = json.dumps({name: value for name, value in USERS.items() if name != field})
    assert errors(UsersMessage.parse, body) == (FieldError(field, "is required"),)


def test_all_wrong_fields_of_a_message_to_a_worker_are_named_at_once() -> None:
    assert users_errors(as_of="today", user_ids=[], kind="expiry") == (
        FieldError("as_of", IS_NO_INSTANT),
        FieldError("user_ids", "must be a list of 1 to 100 user ids"),
        FieldError("kind", "is not a known field; the fields are as_of, correlation_id, user_ids"),
    )


def test_a_message_nested_as_deep_as_json_can_be_read_is_refused_and_no_crash() -> None:
    """Where reading succeeds and showing what was read is one level too much."""
    for depth in range(850, 1_000):
        for body in (
            '{"kind":' + "[" * depth + "]" * depth + "}",
            '{"user_ids":[' + "[" * depth + "]" * depth + "]}",
        ):
            for parse in (Sweep.parse, UsersMessage.parse):
                with pytest.raises(InvalidInput):
                    parse(body)


def test_instants_that_are_no_instants_name_the_field() -> None:
    pattern = re.escape(IS_NO_INSTANT)
    with pytest.raises(InvalidInput, match=f"^as_of: {pattern}$"):
        UsersMessage.parse(json.dumps(USERS | {"as_of": "2026-07-01"}))


# --- What users are told ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "notification",
    [
        EntryPosted("a|b", 1),
        EntryPosted("1", 999_999_999_999),
        ExpiringSoon("1", END, AS_OF),
    ],
)
def test_a_notification_reads_back_as_itself(notification: Notification) -> None:
    assert parse_notification(notification.body()) == notification


@pytest.mark.parametrize("number", [0, -1, 10**12, True, 1.0, "1"])
def test_a_notification_names_an_entry_by_a_number_of_twelve_digits_at_most(number: object) -> None:
    parse_notification(json.dumps({"user_id": "1", "number": 10**12 - 1}))
    with pytest.raises(InvalidInput):
        parse_notification(json.dumps({"user_id": "1", "number": number}))


@pytest.mark.parametrize("zones", [0, -1, True, 1.0, "1", None])
def test_a_check_is_of_one_zone_at_least(zones: object) -> None:
    values = json.loads(ZoneCheck("run", Period(2026, 7), "Europe/Paris", 1).body())
    ZoneCheck.parse(json.dumps(values))
    with pytest.raises(InvalidInput):
        ZoneCheck.parse(json.dumps(values | {"zones": zones}))


def test_a_check_is_read_as_it_was_written_with_its_range() -> None:
    for range_ in (WHOLE, Range("0110")):
        check = ZoneCheck("run", Period(2026, 7), "Europe/Paris", 2, range_, "tick")
        assert ZoneCheck.parse(check.body()) == check


def test_a_check_that_was_under_way_in_an_earlier_release_begins_anew() -> None:
    check = ZoneCheck("run", Period(2026, 7), "Europe/Paris", 2)
    body = json.loads(check.body()) | {"after": "42", "tally": Tally(1, 1).values()}
    del body["range"]
    assert ZoneCheck.parse(json.dumps(body)) == check


def test_a_sweep_covers_its_midnights_from_the_first_to_the_last() -> None:
    for first, is_right in ((MIDNIGHT, True), (MIDNIGHT + timedelta(days=1), False)):
        body = Sweep(SweepKind.EXPIRY, "Europe/Paris", first, MIDNIGHT, MIDNIGHT).body()
        if is_right:
            assert Sweep.parse(body).first_midnight == first
        else:
            with pytest.raises(InvalidInput, match="first_midnight"):
                Sweep.parse(body)


# --- What the release before has put into the queues --------------------------------------------

KEYS = {"user_id": {"S": "é"}, "entry": {"S": "entry#x"}}

WRITTEN: list[tuple[Any, str]] = [
    (
        Sweep(
            SweepKind.REMINDER,
            "Asia/Tokyo",
            FIRST_MIDNIGHT,
            MIDNIGHT,
            AS_OF,
            "Asia/Tokyo 07 key",
            "tick-1",
            Range("00111"),
        ),
        (
            '{"kind":"reminder","timezone":"Asia/Tokyo","first_midnight":"2026-06-28T22:00:00Z",'
            '"midnight":"2026-06-30T22:00:00Z","as_of":"2026-06-30T22:15:00.007Z","range":"00111",'
            '"cursor":"Asia/Tokyo 07 key","correlation_id":"tick-1"}'
        ),
    ),
    (
        Sweep(
            SweepKind.ALLOCATION,
            "Asia/Tokyo",
            MIDNIGHT,
            MIDNIGHT,
            AS_OF,
            correlation_id="tick-4",
            day=31,
        ),
        (
            '{"kind":"allocation","timezone":"Asia/Tokyo","first_midnight":"2026-06-30T22:00:00Z",'
            '"midnight":"2026-06-30T22:00:00Z","as_of":"2026-06-30T22:15:00.007Z","range":null,'
            '"cursor":null,"correlation_id":"tick-4","day":31}'
        ),
    ),
    (
        UsersMessage(AS_OF, ("1", "b|2"), "tick-2"),
        '{"as_of":"2026-06-30T22:15:00.007Z","user_ids":["1","b|2"],"correlation_id":"tick-2"}',
    ),
    (
        ZoneCheck("run-1", Period(2026, 7), "Asia/Tokyo", 599, Range("0110"), "check-1"),
        (
            '{"run":"run-1","period":"2026-07","timezone":"Asia/Tokyo","zones":599,"range":"0110",'
            '"correlation_id":"check-1"}'
        ),
    ),
    (
        ZoneCheck("run-1", Period(2026, 7), "unknown", 599),
        (
            '{"run":"run-1","period":"2026-07","timezone":"unknown","zones":599,"range":null,'
            '"correlation_id":null}'
        ),
    ),
    (
        EntryPosted("b|2", 17, "op-1"),
        '{"user_id":"b|2","number":17,"correlation_id":"op-1"}',
    ),
    (
        ExpiringSoon("1", END, AS_OF, "tick-3"),
        (
            '{"user_id":"1","expires_at":"2026-06-30T22:00:00.001Z","as_of":"2026-06-30T22:15:00.007Z",'
            '"correlation_id":"tick-3"}'
        ),
    ),
    (
        ToPublish(CreditEvent(EventName.USED, AS_OF, {"id": "credits.used 1-2", "é": 1}), "op-3"),
        (
            '{"name":"credits.used","at":"2026-06-30T22:15:00.007Z",'
            '"detail":{"id":"credits.used 1-2","\\u00e9":1},"correlation_id":"op-3"}'
        ),
    ),
    (
        StrangeRecord("e1", KEYS, "op-2"),
        (
            '{"event_id":"e1","keys":{"user_id":{"S":"\\u00e9"},"entry":{"S":"entry#x"}},'
            '"correlation_id":"op-2"}'
        ),
    ),
]


@pytest.mark.parametrize(
    ("message", "body"), WRITTEN, ids=[type(message).__name__ for message, _ in WRITTEN]
)
def test_a_message_is_written_as_ever_and_those_of_the_release_before_are_read(
    message: Any, body: str
) -> None:
    """A message waits for two weeks, as long again as a dead letter, and outlives its release."""
    assert message.body() == body
    if isinstance(message, StrangeRecord):
        with pytest.raises(InvalidInput):
            parse_notification(body)
        unnamed = json.loads(StrangeRecord(None, KEYS).body())
        assert unnamed == {"event_id": None, "keys": KEYS, "correlation_id": None}
        return
    is_notification = isinstance(message, EntryPosted | ExpiringSoon)
    parse = parse_notification if is_notification else type(message).parse
    assert parse(body) == message
    with pytest.raises(InvalidInput) as raised:
        parse(json.dumps({**json.loads(body), "more": 1}))
    assert [wrong.field for wrong in raised.value.errors] == ["more"]


def test_every_kind_of_message_is_among_those_that_are_written_as_ever() -> None:
    kinds = {
        kind
        for module in (checks, events, notifications, work)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__ and hasattr(kind, "body")
    }
    assert kinds == {type(message) for message, _ in WRITTEN}
