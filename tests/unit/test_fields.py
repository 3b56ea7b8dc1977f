"""Reading untrusted values: what is taken, what is refused, and with which words."""

import re
from collections.abc import Callable
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import entries
from chalicelib.domain.errors import FieldError, InvalidInput, NotFound
from chalicelib.domain.fields import (
    RESERVED_ACTORS,
    FieldReader,
    is_reserved,
    parse_actor,
    parse_amount,
    parse_boolean,
    parse_choice,
    parse_correlation_id,
    parse_days,
    parse_key,
    parse_signed_amount,
    parse_text,
    parse_user_id,
    place_of,
    shown,
)
from infra.imports import balances, usages

LONE_SURROGATE = "\ud800"

# JSON's other types: what a caller sends by mistake wherever something else is wanted.
NO_NUMBER: list[object] = [0.0, 1.0, 5.5, float("nan"), True, False, "5", "", None, [5], {"a": 5}]
NO_STRING: list[object] = [None, True, 1.5, ["a"], {"a": "b"}, b"a"]


class Colour(StrEnum):
    RED = "red"
    DARK_BLUE = "dark_blue"


def refusal(parser: Callable[[str, object], object], value: object) -> str:
    """What the one error about a field says."""
    with pytest.raises(InvalidInput) as caught:
        parser("the_field", value)
    (error,) = caught.value.errors
    assert error.field == "the_field"
    return error.message


def nested(depth: int) -> list[object]:
    """Lists in lists: what JSON can hold and Python cannot print."""
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


# --- User ids -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "user_id",
    ["a", "Z", "0", "9", "007", "ada@example.com", "auth0|42", "a.b_c:d+e=f-g", "x" * 128],
)
def test_a_user_id_of_the_documented_alphabet_is_taken_as_it_is(user_id: str) -> None:
    assert parse_user_id("user_id", user_id) == user_id


@pytest.mark.parametrize(
    ("number", "user_id"),
    [(0, "0"), (1, "1"), (42, "42"), (10**18 - 1, "999999999999999999")],
)
def test_a_whole_number_is_a_user_id_and_means_its_digits(number: int, user_id: str) -> None:
    assert parse_user_id("user_id", number) == user_id


@pytest.mark.parametrize(
    ("wrong", "as_shown"),
    [
        (-1, "-1 (int)"),
        (True, "True (bool)"),
        (1.0, "1.0 (float)"),
        ("", "''"),
        ("x" * 129, "'" + "x" * 56 + "..."),
        ("a b", "'a b'"),
        ("a#b", "'a#b'"),
        ("a/b", "'a/b'"),
        ("a\n", "'a\\n'"),
        ("zoë", "'zo\\xeb'"),
        ("٣", "'\\u0663'"),
        (LONE_SURROGATE, "'\\ud800'"),
        (["a"], "['a'] (list)"),
        ({}, "{} (dict)"),
        (b"a", "b'a' (bytes)"),
        (None, "missing"),
    ],
)
def test_what_is_no_user_id_is_refused_with_the_alphabet(wrong: object, as_shown: str) -> None:
    assert refusal(parse_user_id, wrong) == (
        "must be 1 to 128 letters, digits and . _ : @ | + = -, or a whole number; is " + as_shown
    )


@pytest.mark.parametrize("number", [10**18, 1312000000000000000, 10**40])
def test_a_number_that_is_too_long_for_a_user_id_is_refused_with_the_bound(number: int) -> None:
    assert refusal(parse_user_id, number) == (
        "must have at most 18 digits as a number; send a longer one as a text, in quotation "
        f"marks; is {shown(number)}"
    )
    assert parse_user_id("user_id", "1312000000000000000") == "1312000000000000000"


# --- Amounts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [1, 2, 999_999_999, 1_000_000_000])
def test_an_amount_is_a_whole_number_from_one_to_a_billion(amount: int) -> None:
    assert parse_amount("amount", amount) == amount
    assert type(parse_amount("amount", amount)) is int


@pytest.mark.parametrize("wrong", [0, -1, 1_000_000_001, 10**30, *NO_NUMBER])
def test_any_other_amount_is_refused_with_the_bounds(wrong: object) -> None:
    assert refusal(parse_amount, wrong) == (
        f"must be a whole number from 1 to 1,000,000,000; is {shown(wrong)}"
    )


@pytest.mark.parametrize("amount", [1, -1, 1_000_000_000, -1_000_000_000])
def test_a_signed_amount_goes_either_way_up_to_a_billion(amount: int) -> None:
    assert parse_signed_amount("amount", amount) == amount


@pytest.mark.parametrize("wrong", [0, 1_000_000_001, -1_000_000_001, *NO_NUMBER])
def test_a_signed_amount_of_zero_or_beyond_a_billion_is_refused(wrong: object) -> None:
    assert refusal(parse_signed_amount, wrong) == (
        "must be a whole number other than 0, of at most 1,000,000,000 either way; "
        f"is {shown(wrong)}"
    )


@pytest.mark.parametrize("days", [1, 30, 3650])
def test_a_lifetime_is_one_day_to_ten_years(days: int) -> None:
    assert parse_days("days", days) == days


@pytest.mark.parametrize("wrong", [0, -1, 3651, *NO_NUMBER])
def test_any_other_lifetime_is_refused_with_the_bounds(wrong: object) -> None:
    assert refusal(parse_days, wrong) == (
        f"must be a whole number of days from 1 to 3650; is {shown(wrong)}"
    )


# --- Texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x", "x"),
        ("Goodwill for the outage of 3 May", "Goodwill for the outage of 3 May"),
        ("  spaces round it  ", "spaces round it"),
        ("Zoë's crédit — 日本 🎁", "Zoë's crédit — 日本 🎁"),
        ("no\u00a0break", "no\u00a0break"),
        ("x" * 500, "x" * 500),
    ],
)
def test_a_text_is_kept_without_the_spaces_round_it(text: str, kept: str) -> None:
    assert parse_text("reason", text) == kept
    assert parse_actor("actor", text) == kept


def test_the_reserved_names_are_those_that_the_ledger_itself_writes() -> None:
    assert {entries.SYSTEM, entries.ERASED, balances.CALLER, usages.CALLER} == RESERVED_ACTORS


def test_a_name_is_reserved_however_it_is_written() -> None:
    for name in RESERVED_ACTORS:
        assert is_reserved(f" {name.upper()}\t")
    assert not is_reserved("ada")


def test_a_transaction_of_no_such_form_is_named_as_it_was_sent() -> None:
    with pytest.raises(NotFound, match=r"^there is no hold 'a\\nb'$"):
        place_of("a\nb", "hold")
    with pytest.raises(NotFound, match=r"^there is no transaction 'a'$"):
        place_of("a")


@pytest.mark.parametrize("name", sorted(RESERVED_ACTORS))
@pytest.mark.parametrize("spelled", [str, str.upper, str.title, " {} ".format])
def test_nobody_acts_in_a_name_that_the_ledger_itself_writes(
    name: str, spelled: Callable[[str], str]
) -> None:
    said = refusal(parse_actor, spelled(name))
    assert said == (
        "must say who asks, and not a name that the ledger itself uses; is "
        f"{spelled(name).strip()!r}"
    )


@pytest.mark.parametrize("name", ["ada", "the system", "systems", "import", "ada (erased)"])
def test_a_name_that_only_resembles_a_reserved_one_may_act(name: str) -> None:
    assert parse_actor("actor", name) == name


@pytest.mark.parametrize("wrong", ["", " ", "x" * 501, "two\nlines", *NO_STRING])
def test_an_actor_is_a_text_like_any_other(wrong: object) -> None:
    assert refusal(parse_actor, wrong) == refusal(parse_text, wrong)


@pytest.mark.parametrize("wrong", ["", " ", " \t\n", "\u00a0", *NO_STRING, 5])
def test_a_blank_text_or_none_at_all_is_refused(wrong: object) -> None:
    assert refusal(parse_text, wrong) == f"must be a text that is not blank; is {shown(wrong)}"


@pytest.mark.parametrize("length", [501, 100_000])
def test_a_text_of_more_than_500_characters_is_refused_with_its_length(length: int) -> None:
    assert refusal(parse_text, "x" * length) == f"must be at most 500 characters; has {length}"


@pytest.mark.parametrize(
    "control",
    ["\x00", "\t", "\n", "\r", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9f", "\u2028", "\u2029"],
)
def test_a_text_with_a_control_character_or_a_second_line_is_refused(control: str) -> None:
    message = "must be one line without control characters"
    assert refusal(parse_text, f"two{control}lines") == message
    assert refusal(parse_text, f"two{control}") == message
    # Next to each range of them there are characters that are fine.
    assert parse_text("reason", "a ~\u00a0\u2027\u202ab") == "a ~\u00a0\u2027\u202ab"


def test_a_text_that_cannot_be_stored_as_utf_8_is_refused() -> None:
    assert refusal(parse_text, f"half a pair {LONE_SURROGATE}") == "must be valid Unicode text"


@settings(deadline=None, derandomize=True)
@given(st.text(max_size=20))
def test_a_text_that_is_taken_is_one_line_that_can_be_stored(text: str) -> None:
    try:
        taken = parse_text("reason", text)
    except InvalidInput:
        return
    assert taken.splitlines() == [taken]
    assert taken == text.strip() == taken.encode().decode()


@pytest.mark.parametrize("key", ["!", "~", "a", "order-17#2", "x" * 255])
def test_an_idempotency_key_is_visible_ascii(key: str) -> None:
    assert parse_key("idempotency_key", key) == key


@pytest.mark.parametrize(
    "wrong", ["", " ", "a b", "a\n", "a\x1f", "a\x7f", "é", "x" * 256, LONE_SURROGATE, *NO_STRING]
)
def test_any_other_idempotency_key_is_refused(wrong: object) -> None:
    assert refusal(parse_key, wrong) == (
        f"must be 1 to 255 visible ASCII characters without spaces; is {shown(wrong)}"
    )


# --- Choices ------------------------------------------------------------------------------------


def test_a_choice_is_one_of_its_words() -> None:
    assert parse_choice(Colour)("colour", "red") is Colour.RED
    assert parse_choice(Colour)("colour", "dark_blue") is Colour.DARK_BLUE


@pytest.mark.parametrize("wrong", ["Red", "RED", "red ", "", "green", 0, True, ["red"], {}, None])
def test_any_other_choice_is_refused_with_the_words(wrong: object) -> None:
    message = f"must be one of red, dark_blue; is {shown(wrong)}"
    assert refusal(parse_choice(Colour), wrong) == message


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_is_true_or_false(value: bool) -> None:  # noqa: FBT001
    assert parse_boolean("dry_run", value) is value


@pytest.mark.parametrize("wrong", [0, 1, "true", "false", "", None, [], [True]])
def test_what_only_resembles_a_boolean_is_refused(wrong: object) -> None:
    assert refusal(parse_boolean, wrong) == f"must be true or false; is {shown(wrong)}"


# --- Showing a value ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "missing"),
        ("missing", "'missing'"),
        ("a\nb\ud800é", "'a\\nb\\ud800\\xe9'"),
        (5, "5 (int)"),
        (5.0, "5.0 (float)"),
        (["é"], "['\\xe9'] (list)"),
        ("x" * 58, "'" + "x" * 58 + "'"),
        ("x" * 59, "'" + "x" * 56 + "..."),
        (10**53, f"{10**53} (int)"),
        (10**54, f"{10**54} (..."),
    ],
)
def test_a_value_is_shown_in_ascii_within_sixty_characters(value: object, text: str) -> None:
    assert shown(value) == text
    assert len(text) <= 60


@pytest.mark.parametrize(
    ("value", "kind"), [(nested(100_000), "list"), (10**5_000, "int")], ids=["nested", "digits"]
)
def test_a_value_that_python_cannot_print_is_refused_like_any_other(
    value: object, kind: str
) -> None:
    assert shown(value) == f"a value that is too large to show ({kind})"
    assert refusal(parse_amount, value).endswith(f"is a value that is too large to show ({kind})")
    assert refusal(parse_user_id, value).endswith(f"({kind})")


# --- FieldReader --------------------------------------------------------------------------------


def test_a_reader_answers_the_parsed_values() -> None:
    fields = FieldReader({"user_id": 7, "amount": 5, "reason": " why ", "note": None})
    assert fields.required("user_id", parse_user_id) == "7"
    assert fields.optional("amount", parse_amount) == 5
    assert fields.required("reason", parse_text) == "why"
    assert fields.optional("note", parse_text) is None
    assert fields.optional("absent", parse_text) is None
    fields.finish()


def test_all_wrong_fields_are_reported_at_once_in_the_order_they_are_asked_for() -> None:
    fields = FieldReader({"amount": 0, "note": 5, "colour": None, "extra": 1, "more": 2})
    fields.required("user_id", parse_user_id)
    fields.required("colour", parse_choice(Colour))
    fields.required("amount", parse_amount)
    fields.optional("note", parse_text)
    fields.reject("amount", "goes against the note")
    with pytest.raises(InvalidInput) as caught:
        fields.finish()
    known = "the fields are amount, colour, note, user_id"
    assert caught.value.errors == (
        FieldError("user_id", "is required"),
        FieldError("colour", "is required"),
        FieldError("amount", "must be a whole number from 1 to 1,000,000,000; is 0 (int)"),
        FieldError("note", "must be a text that is not blank; is 5 (int)"),
        FieldError("amount", "goes against the note"),
        FieldError("extra", f"is not a known field; {known}"),
        FieldError("more", f"is not a known field; {known}"),
    )
    assert str(caught.value).startswith("user_id: is required; colour: is required; amount: must")


def test_a_wrong_optional_field_is_not_taken_for_an_absent_one() -> None:
    fields = FieldReader({"amount": 0})
    fields.optional("amount", parse_amount)
    with pytest.raises(InvalidInput, match=r"^amount: must be a whole number"):
        fields.finish()


def test_an_object_that_is_to_be_empty_has_no_known_fields() -> None:
    FieldReader({}).finish()
    with pytest.raises(InvalidInput) as caught:
        FieldReader({"extra": 1}).finish()
    message = "is not a known field; no fields are allowed"
    assert caught.value.errors == (FieldError("extra", message),)


@pytest.mark.parametrize("falsy", [0, False, "", [], {}])
def test_only_null_is_as_good_as_absent(falsy: object) -> None:
    fields = FieldReader({"reason": falsy, "note": falsy})
    fields.required("reason", parse_text)
    fields.optional("note", parse_text)
    with pytest.raises(InvalidInput) as caught:
        fields.finish()
    message = f"must be a text that is not blank; is {shown(falsy)}"
    assert caught.value.errors == (FieldError("reason", message), FieldError("note", message))


def test_the_name_of_an_unknown_field_is_cut_and_can_be_sent_back() -> None:
    fields = FieldReader({"x" * 101: 1, f"{LONE_SURROGATE}é": 2})
    with pytest.raises(InvalidInput) as caught:
        fields.finish()
    assert [error.field for error in caught.value.errors] == ["x" * 100, "\\ud800é"]
    assert str(caught.value).encode()


@pytest.mark.parametrize(
    "values", [None, 5, "text", b"{}", [], [["amount", 5]], True, {5: 1}, {"a": 1, None: 2}]
)
def test_what_is_no_object_with_named_fields_is_refused(values: object) -> None:
    message = f"must be an object with named fields; is {shown(values)}"
    with pytest.raises(InvalidInput, match=f"^body: {re.escape(message)}$"):
        FieldReader(values)
    with pytest.raises(InvalidInput, match=f"^event: {re.escape(message)}$"):
        FieldReader(values, "event")


def test_an_object_nested_too_deep_to_print_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"is a value that is too large to show \(list\)$"):
        FieldReader(nested(100_000))


def test_a_refusal_names_twenty_unknown_fields_and_counts_the_others() -> None:
    fields = FieldReader({f"x{number}": 1 for number in range(25)})
    with pytest.raises(InvalidInput) as refused:
        fields.finish()
    assert len(refused.value.errors) == 20
    assert "nor are 5 others" in refused.value.errors[0].message


@pytest.mark.parametrize(
    ("unknown", "others"), [(20, ""), (21, ", nor is 1 other"), (22, ", nor are 2 others")]
)
def test_a_refusal_speaks_of_others_only_where_there_are_some(unknown: int, others: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        FieldReader({f"x{number}": 1 for number in range(unknown)}).finish()
    message = f"is not a known field{others}; no fields are allowed"
    assert {error.message for error in refused.value.errors} == {message}


@pytest.mark.parametrize(
    "text", ["a", "Z", "0", "-", "1-5759e988-bd862e3fe1be46a994272793", "x" * 64]
)
def test_a_correlation_id_is_letters_digits_and_hyphens(text: str) -> None:
    assert parse_correlation_id("id", text) == text


@pytest.mark.parametrize("wrong", ["", "x" * 65, "a b", "a_b", "a\n", "é", 5, None, ["a"]])
def test_any_other_correlation_id_is_refused(wrong: object) -> None:
    assert (
        refusal(parse_correlation_id, wrong)
        == f"must be 1 to 64 letters, digits and -; is {shown(wrong)}"
    )


@pytest.mark.parametrize("values", [{"text": "a"}, {"words": "a"}, {"text": "a", "words": None}])
def test_a_field_is_taken_by_its_former_name_too(values: dict[str, object]) -> None:
    fields = FieldReader(values)

    assert fields.required("text", parse_text, formerly="words") == "a"
    fields.finish()


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({}, FieldError("text", "is required")),
        ({"words": 5}, FieldError("words", "must be a text that is not blank; is 5 (int)")),
        (
            {"text": "a", "words": "b"},
            FieldError("words", "is the former name of text; give text only"),
        ),
    ],
)
def test_a_wrong_field_is_named_as_it_was_sent(
    values: dict[str, object], error: FieldError
) -> None:
    fields = FieldReader(values)
    fields.required("text", parse_text, formerly="words")

    with pytest.raises(InvalidInput) as caught:
        fields.finish()

    assert caught.value.errors == (error,)


def test_a_former_name_is_known_and_not_recommended() -> None:
    fields = FieldReader({"words": "a", "other": 1})
    fields.required("text", parse_text, formerly="words")

    with pytest.raises(InvalidInput) as caught:
        fields.finish()

    assert caught.value.errors == (
        FieldError("other", "is not a known field; the fields are text"),
    )
