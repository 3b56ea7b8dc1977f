"""What was meant by a name that is nearly right."""

import pytest

from chalicelib.domain.nearest import is_slip, nearest, spelling


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("gold", "gold"),
        ("gld", "gold"),
        ("golld", "gold"),
        ("golf", "gold"),
        ("bold", "gold"),
        ("glod", "gold"),
        ("ogld", "gold"),
        ("godl", "gold"),
        ("old", "gold"),
        ("gol", "gold"),
        ("", "g"),
        ("", ""),
    ],
)
def test_a_slip_is_one_letter(written: str, meant: str) -> None:
    assert is_slip(written, meant)
    assert is_slip(meant, written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("go", "gold"),
        ("dlog", "gold"),
        ("ogdl", "gold"),
        ("bald", "gold"),
        ("glodd", "gold"),
        ("ab", "azbz"),
    ],
)
def test_two_slips_are_another_word(written: str, meant: str) -> None:
    assert not is_slip(written, meant)
    assert not is_slip(meant, written)


def test_blanks_hyphens_and_underscores_part_words_alike() -> None:
    assert spelling(" New  York-City_Hall ") == "new_york_city_hall"


def test_the_name_itself_counts_before_those_that_are_a_slip_away() -> None:
    assert nearest("Free", ["fre", "free", "frees"]) == "free"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("Pro", "pro"),
        (" pro\n", "pro"),
        ("prod", "pro"),
        ("small Team", "small-team"),
        ("small_team", "small-team"),
        ("prox", None),  # as near to the one as to the other
        ("premium", None),
        ("", None),
    ],
)
def test_what_was_meant_is_a_known_name_or_nothing(wrong: str, meant: str | None) -> None:
    assert nearest(wrong, ["pro", "prox2", "small-team"]) == meant
