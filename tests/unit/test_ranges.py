"""Ranges: whatever a zone is divided into, it is everybody, each user once."""

import hashlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.calendar import zone_names
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.ranges import (
    BITS_A_SPLIT,
    MOST_BITS,
    MOST_BITS_AT_ONCE,
    MOST_HOPS,
    PLACES,
    WHOLE,
    Range,
    bits_for,
    place_of,
    tiling,
)

bits = st.text("01", max_size=MOST_BITS)
ranges = st.builds(Range, bits)


def test_the_place_of_a_user_is_the_beginning_of_the_sha_256_of_the_id() -> None:
    assert place_of("ada") == int(hashlib.sha256(b"ada").hexdigest()[:8], 16)
    assert place_of("1") == 0x6B86B273


def test_a_range_has_the_places_that_begin_with_its_bits() -> None:
    assert (WHOLE.first, WHOLE.last) == (0, PLACES - 1)
    quarter = Range("01")
    assert (quarter.first, quarter.last) == (PLACES // 4, PLACES // 2 - 1)
    assert "1" in quarter  # 0x6b…
    assert "1" not in Range("00")
    assert "1" not in Range("1")


@settings(deadline=None)
@given(ranges, st.integers(1, 6))
def test_the_parts_of_a_range_are_it_in_order_without_a_gap(whole: Range, count: int) -> None:
    parts = whole.parts(count)
    assert len(parts) == 2**count
    assert (parts[0].first, parts[-1].last) == (whole.first, whole.last)
    assert all(left.last + 1 == right.first for left, right in itertools.pairwise(parts))
    assert all(part.bits.startswith(whole.bits) for part in parts)


@settings(deadline=None)
@given(ranges, ranges)
def test_two_ranges_are_apart_or_one_lies_within_the_other(one: Range, other: Range) -> None:
    is_apart = one.last < other.first or other.last < one.first
    is_within = one.first <= other.first <= other.last <= one.last
    is_around = other.first <= one.first <= one.last <= other.last
    assert is_apart or is_within or is_around


@pytest.mark.parametrize("wrong", ["", "2", "0" * 17, " 0", "0\n", 0, None, ["0"], "\u0661"])
def test_only_bits_are_read_as_a_range(wrong: object) -> None:
    with pytest.raises(InvalidInput, match="range: must be 1 to 16 of the digits 0 and 1"):
        Range.parse("range", wrong)
    assert Range.parse("range", "0" * 16) == Range("0" * 16)
    assert Range.parse("range", "1") == Range("1")


@pytest.mark.parametrize(
    ("users", "expected"),
    [(11, 1), (20, 1), (21, 2), (40, 2), (41, 3), (160, 4), (161, 5), (40_960, 12), (10**9, 12)],
)
def test_a_zone_is_divided_into_ranges_that_one_invocation_is_enough_for(
    users: int, expected: int
) -> None:
    assert bits_for(users, 10) == expected


def test_how_many_users_there_are_is_told_by_how_far_the_first_of_them_reach() -> None:
    users = sorted((f"user-{number}" for number in range(100_000)), key=place_of)
    for whole in (WHOLE, Range("0110")):
        inside = [user for user in users if user in whole]
        assert whole.expected(1000, inside[999]) == pytest.approx(len(inside), rel=0.1)
        assert whole.expected(len(inside), inside[-1]) == pytest.approx(len(inside), rel=0.001)


def test_how_many_users_are_expected_is_their_share_of_the_places_that_were_passed() -> None:
    for user_id in ("ada", "berta", "carl", "dora"):
        place = place_of(user_id)
        pair = Range(f"{place >> 1:031b}")
        assert pair.expected(6, user_id) == (6 if place & 1 else 12)


def test_few_users_are_divided_into_two_if_at_all() -> None:
    assert bits_for(1, 100) == bits_for(100, 100) == bits_for(200, 100) == 1
    assert bits_for(201, 100) == 2


def test_a_range_is_divisible_as_long_as_sixteen_bits_are_enough() -> None:
    assert Range("0" * 12).is_divisible
    assert not Range("0" * 13).is_divisible


def test_a_range_is_divided_so_often_and_no_oftener() -> None:
    """However it begins, and whatever fails: this is what bounds the chain of invocations."""
    for first in range(1, MOST_BITS_AT_ONCE + 1):
        narrowing = WHOLE.parts(first)[-1]
        hops = 2
        while narrowing.is_divisible and hops < 99:
            narrowing = narrowing.parts()[0]
            hops += 1
        assert hops <= MOST_HOPS == 5
        assert len(narrowing.bits) <= MOST_BITS


# --- Adding up ------------------------------------------------------------------------------------


def test_a_zone_is_complete_when_every_user_is_in_some_range() -> None:
    assert tiling([]) is None
    assert tiling([WHOLE]) == [WHOLE]
    halves = WHOLE.parts(1)
    assert tiling(halves) == halves
    assert tiling(halves[:1]) is None
    assert tiling(halves[1:]) is None
    assert tiling([Range("00"), Range("1")]) is None


def test_a_wider_range_takes_the_place_of_those_within_it() -> None:
    zero, one = WHOLE.parts(1)
    assert tiling([*zero.parts(2), one, zero]) == [zero, one]
    assert tiling([*zero.parts(), *one.parts()[:-1], one]) == [*zero.parts(), one]
    assert tiling([*zero.parts(), *one.parts()[:-1]]) is None
    assert tiling([*WHOLE.parts(), WHOLE]) == [WHOLE]


@settings(deadline=None)
@given(st.data())
def test_whatever_is_divided_and_comes_in_whatever_order_adds_up_to_everybody_once(
    data: st.DataObject,
) -> None:
    reported: set[Range] = set()
    waiting = [WHOLE]
    while waiting:
        each = waiting.pop()
        is_divided = len(reported) < 50 and each.is_divisible and data.draw(st.booleans())
        # A message that comes twice may be divided once and gone through once.
        if not is_divided or data.draw(st.booleans()):
            reported.add(each)
        if is_divided:
            waiting += each.parts(data.draw(st.integers(1, BITS_A_SPLIT)))
    arriving = data.draw(st.permutations(sorted(reported)))
    tiles = tiling(arriving)
    assert tiles is not None
    assert sum(tile.last - tile.first + 1 for tile in tiles) == PLACES
    assert tiles[0].first == 0
    assert all(left.last + 1 == right.first for left, right in itertools.pairwise(tiles))
    # Nothing is complete without one of those it is made of, and those in its place.
    missing = data.draw(st.sampled_from(tiles))
    left = [each for each in reported if not each.bits.startswith(missing.bits)]
    assert tiling(left) is None


def test_no_folder_of_a_zones_ranges_is_within_that_of_another() -> None:
    folders = [f"{zone}/" for zone in zone_names()]
    assert not any(
        other.startswith(folder) for folder in folders for other in folders if other != folder
    )
