"""Heads of ledgers: how they are written, read, ordered and folded."""

import pytest

from chalicelib.domain.anchors import Head, in_order, latest, user_digest
from chalicelib.domain.verification import Anchor

A, B = "0a" * 16, "0b" * 16
HASH = "5" * 64


def folded(*heads: Head) -> tuple[list[Head], list[Head]]:
    """What is left of heads in order, and what contradicts it."""
    contradictions: list[Head] = []
    return [*latest(heads, contradictions.append)], contradictions


def test_a_user_is_the_first_half_of_the_digest_of_their_id() -> None:
    assert user_digest("42") == "73475cb40a568e8da8a045ced110137e"
    assert user_digest("é") == "4a99557e4033c3539de2eb65472017ca"


def test_a_head_is_a_line_and_is_what_a_ledger_is_compared_with() -> None:
    head = Head(A, 12, HASH)
    assert head.line() == f"{A} 12 {HASH}\n"
    assert Head.parse(head.line()) == head
    assert head.anchor == Anchor(12, HASH)


@pytest.mark.parametrize("number", [1, 9, 10, 10**12 - 1])
def test_a_number_is_one_that_an_entry_can_have(number: int) -> None:
    assert Head.parse(Head(A, number, HASH).line()).number == number


@pytest.mark.parametrize(
    "line",
    [
        "",
        f"{A} 1 {HASH}",
        f"{A} 1 {HASH}\n\n",
        f" {A} 1 {HASH}\n",
        f"{A}  1 {HASH}\n",
        f"{A[1:]} 1 {HASH}\n",
        f"{A}0 1 {HASH}\n",
        f"{A.upper()} 1 {HASH}\n",
        f"{A} 0 {HASH}\n",
        f"{A} 01 {HASH}\n",
        f"{A} -1 {HASH}\n",
        f"{A} {10**12} {HASH}\n",
        f"{A} 1 {HASH[1:]}\n",
        f"{A} 1 {HASH}5\n",
        f"{A} 1 {'g' * 64}\n",
        f"{A} ٣ {HASH}\n",
    ],
)
def test_anything_else_is_no_head(line: str) -> None:
    with pytest.raises(ValueError, match=r"^it is no head of a ledger$"):
        Head.parse(line)


def test_heads_are_in_order_of_user_and_number_and_not_of_their_hashes() -> None:
    heads = [Head(B, 1, HASH), Head(A, 10, HASH), Head(A, 9, "f" * 64), Head(A, 9, "0" * 64)]
    assert sorted(heads, key=in_order) == [heads[2], heads[3], heads[1], heads[0]]


def test_the_last_head_of_each_user_is_left() -> None:
    first, second, other = Head(A, 1, "1" * 64), Head(A, 2, "2" * 64), Head(B, 1, HASH)
    assert folded() == ([], [])
    assert folded(first, first, second, second, other) == ([second, other], [])


def test_of_a_number_the_hash_that_came_first_is_left_and_the_others_are_told() -> None:
    right, wrong, later = Head(A, 2, "9" * 64), Head(A, 2, "1" * 64), Head(A, 3, "0" * 64)
    assert folded(right, wrong, right) == ([right], [wrong])
    assert folded(right, wrong, later) == ([later], [wrong])
    assert folded(Head(A, 2, HASH), Head(B, 2, "1" * 64)) == (
        [Head(A, 2, HASH), Head(B, 2, "1" * 64)],
        [],
    )
