"""Reading what is stored, damaged or of another release: one error, and nothing is quoted."""

from datetime import UTC, datetime

import pytest

from chalicelib.domain.damage import Damage, choice_of, optional_of, value_of
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import CreditsError, InvalidInput, LedgerCorrupt, Unreadable
from chalicelib.domain.instants import from_milliseconds, stored_instant, to_milliseconds


def failing(error: Exception) -> object:
    raise error


def test_a_value_is_read_and_an_optional_one_is_none_without_it() -> None:
    assert value_of({"a": "1"}, "a", int) == 1
    assert optional_of({"a": "1"}, "a", int) == 1
    assert optional_of({"a": "1"}, "b", int) is None


def test_a_value_that_is_missing_is_named() -> None:
    with pytest.raises(Damage, match=r"^b is missing$"):
        value_of({"a": "1"}, "b", int)


def test_what_a_reader_says_is_wrong_is_said_with_the_name() -> None:
    with pytest.raises(Damage, match=r"^a is no text$"):
        value_of({"a": 1}, "a", lambda _: failing(Damage("is no text")))
    with pytest.raises(Damage, match=r"^a is no text$"):
        optional_of({"a": 1}, "a", lambda _: failing(Damage("is no text")))


@pytest.mark.parametrize(
    "error",
    [
        ZeroDivisionError("ada@example.com"),
        OverflowError("ada@example.com"),
        AttributeError("ada@example.com"),
        InvalidInput.of("a", "is ada@example.com"),
        KeyError("ada@example.com"),
        IndexError("ada@example.com"),
        RecursionError("ada@example.com"),
        TypeError("ada@example.com"),
        ValueError("ada@example.com"),
    ],
)
def test_whatever_else_goes_wrong_is_said_without_what_is_stored(error: Exception) -> None:
    with pytest.raises(Damage, match=r"^a is malformed$"):
        value_of({"a": 1}, "a", lambda _: failing(error))


def test_a_word_of_another_release_is_not_quoted() -> None:
    assert choice_of(EntryType, "usage") is EntryType.USAGE
    with pytest.raises(Damage, match=r"^is unknown to this release$"):
        choice_of(EntryType, "ada@example.com")


def test_what_cannot_be_read_is_named_with_its_table_its_key_and_the_reason() -> None:
    error: CreditsError = Unreadable("subscription", "user 1", "status is missing")
    assert str(error) == "subscription of user 1: status is missing"
    assert isinstance(error, Unreadable)
    assert (error.table, error.key, error.reason) == ("subscription", "user 1", "status is missing")
    corrupt = LedgerCorrupt("1", 3, "body is missing")
    assert isinstance(corrupt, Unreadable)
    assert (corrupt.table, corrupt.key) == ("ledger", "user 1, entry 3")
    assert (corrupt.user_id, corrupt.number, corrupt.reason) == ("1", 3, "body is missing")


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(2026, 7, 1, tzinfo=UTC),
        datetime(3000, 1, 1, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
)
def test_an_instant_that_somebody_could_have_given_is_read(instant: datetime) -> None:
    assert stored_instant(to_milliseconds(instant)) == instant
    assert from_milliseconds(to_milliseconds(instant)) == instant


@pytest.mark.parametrize(
    "milliseconds",
    [
        to_milliseconds(datetime(1969, 12, 31, tzinfo=UTC)) - 1,
        to_milliseconds(datetime(3000, 1, 2, tzinfo=UTC)),
        10**18,
        -(10**18),
    ],
)
def test_an_instant_that_nobody_computes_with_is_damage(milliseconds: int) -> None:
    with pytest.raises(ValueError, match=r"^no instant that is computed with$"):
        stored_instant(milliseconds)
