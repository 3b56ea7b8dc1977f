"""Metadata: which pairs of texts are taken, and what is said of those that are not."""

import pytest

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.metadata import metadata_described, parse_metadata


def refusal(value: object) -> tuple[str, str]:
    """The field that is refused, and why."""
    with pytest.raises(InvalidInput) as refused:
        parse_metadata("metadata", value)
    (error,) = refused.value.errors
    return error.field, error.message


def test_pairs_are_kept_in_the_order_of_their_keys() -> None:
    assert parse_metadata("metadata", {"team": "", "a_9": "Zoë"}) == (("a_9", "Zoë"), ("team", ""))
    assert parse_metadata("metadata", {}) == ()


def test_the_bounds_are_allowed_and_one_more_is_refused_with_the_reason() -> None:
    for most in (
        {str(number): "x" for number in range(10)},
        {"a": "x" * 511},
        {"aa": "ß" * 255},
        {"k" * 40: ""},
    ):
        assert dict(parse_metadata("metadata", most)) == most
    keys = "must have keys of 1 to 40 of a-z, 0-9 and _; one is"
    size = "must have at most 512 bytes, keys and values together; has 513"
    for wrong, problem in (
        ("x", ("metadata", "must be an object of texts; is 'x'")),
        (
            {str(number): "x" for number in range(11)},
            ("metadata", "must have at most 10 pairs; has 11"),
        ),
        ({"": "x"}, ("metadata", f"{keys} ''")),
        ({"a": "x", "A": "x"}, ("metadata", f"{keys} 'A'")),
        ({"B": 1}, ("metadata", f"{keys} 'B'")),
        ({"a-b": "x"}, ("metadata", f"{keys} 'a-b'")),
        ({5: "x"}, ("metadata", f"{keys} 5 (int)")),
        ({"a": 1}, ("metadata.a", "must be a text of one line; is 1 (int)")),
        ({"a": "x\n"}, ("metadata.a", "must be a text of one line; is 'x\\n'")),
        ({"a": "x\x7f"}, ("metadata.a", "must be a text of one line; is 'x\\x7f'")),
        ({"a": "x" * 512}, ("metadata", size)),
        ({"a": "ß" * 256}, ("metadata", size)),
    ):
        assert refusal(wrong) == problem
    assert refusal({"k" * 41: "x"})[0] == "metadata"


def test_a_request_without_metadata_is_described_as_it_was_before_there_was_any() -> None:
    assert metadata_described(()) == {}
    assert metadata_described((("a", "x"),)) == {"metadata": {"a": "x"}}
