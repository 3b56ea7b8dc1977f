"""The verifier of statements finds what the domain finds, and what only a statement can have."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from credits_client import StatementCheck, verify_statement

VECTORS = json.loads((Path(__file__).parents[2] / "statement" / "vectors.json").read_text("utf-8"))
POOL: list[dict[str, Any]] = [
    dict(zip(("number", "body", "hash", "erased"), line, strict=False)) for line in VECTORS["lines"]
]
LEDGERS: list[dict[str, Any]] = VECTORS["ledgers"]
RIGHT = [ledger for ledger in LEDGERS if ledger["wrong"] is None and len(ledger["lines"]) > 1]
IDS = [f"{place}-{ledger['test']}" for place, ledger in enumerate(LEDGERS)]


def entries(ledger: dict[str, Any]) -> list[dict[str, Any]]:
    return [POOL[place] for place in ledger["lines"]]


def page(
    user_id: str,
    lines: Sequence[dict[str, Any]],
    before: Sequence[dict[str, Any]] = (),
    *,
    is_end: bool = True,
) -> list[str]:
    """A page of a statement; ``before``: all entries before it."""
    opening = None
    if before:
        previous = before[-2]["hash"] if len(before) > 1 else "0" * 64
        opening = {"previous_hash": previous, **before[-1]}
    head = {
        "format": "credits-statement-1",
        "user_id": user_id,
        "from": None,
        "to": None,
        "made_at": "2026-12-01T00:00:00Z",
        "before": opening,
    }
    foot = {"lines": len(lines), "next_cursor": None, "is_end": is_end}
    return [json.dumps(each) for each in (head, *lines, foot)]


def told(check: StatementCheck) -> list[Any] | None:
    return None if check.is_right else [check.line, check.problem]


def witness(line: dict[str, Any]) -> str:
    return f"{line['number']}:{line['hash'][:12]}"


# --- What the audit finds -------------------------------------------------------------------------


@pytest.mark.parametrize("ledger", LEDGERS, ids=IDS)
def test_what_the_domain_finds_in_a_ledger_is_found_in_its_statement(
    ledger: dict[str, Any],
) -> None:
    check = verify_statement(page(ledger["user_id"], entries(ledger)))
    assert told(check) == ledger["wrong"]
    if check.is_right:
        assert check.balance == json.loads(entries(ledger)[-1]["body"])["balance"]
        assert check.words.startswith("Right: ")
    else:
        assert check.words.startswith(f"Wrong: entry {check.line}: {check.problem}.")


@pytest.mark.parametrize("place", range(len(RIGHT)))
def test_a_statement_of_some_time_is_right_wherever_it_begins(place: int) -> None:
    user_id, lines = RIGHT[place]["user_id"], entries(RIGHT[place])
    for first in range(1, len(lines) + 1):
        check = verify_statement(page(user_id, lines[first:], lines[:first]))
        assert check.is_right, check.words
        assert (check.first, check.last) == (
            (None, None) if first == len(lines) else (first + 1, len(lines))
        )
        assert f"They begin after entry {first}" in check.words


def test_the_rules_that_need_no_earlier_entry_hold_in_a_statement_of_some_time() -> None:
    """The last line is wrong, and the statement begins just before it."""
    found = missed = 0
    for ledger in LEDGERS:
        lines = entries(ledger)
        if ledger["wrong"] and ledger["wrong"][0] == lines[-1]["number"] == len(lines) > 1:
            check = verify_statement(page(ledger["user_id"], lines[-1:], lines[:-1]))
            if check.is_right:
                missed += 1
                assert check.untold == (len(lines),), ledger
                assert f"Of entries {len(lines)} not all can be told" in check.words
            else:
                found += 1
                assert check.line == len(lines)
    assert found > 5 * missed > 0


# --- What only a statement has --------------------------------------------------------------------

LONG = max(RIGHT, key=lambda ledger: len(ledger["lines"]))
USER, LINES = LONG["user_id"], entries(LONG)


def test_pages_are_one_statement() -> None:
    pages = [
        *page(USER, LINES[:2], is_end=False),
        *page(USER, LINES[2:5], LINES[:2], is_end=False),
        *page(USER, LINES[5:], LINES[:5]),
    ]
    check = verify_statement(pages)
    assert check.is_right
    assert (check.first, check.last, check.untold) == (1, len(LINES), ())


def test_a_page_that_is_missing_is_found() -> None:
    pages = [*page(USER, LINES[:2], is_end=False), *page(USER, LINES[4:], LINES[:4])]
    problem = "a page does not begin where the page before it ended"
    assert told(verify_statement(pages)) == [None, problem]
    others = [*page(USER, LINES[:2], is_end=False), *page("another", LINES[2:], LINES[:2])]
    assert told(verify_statement(others)) == [None, problem]


def test_an_opening_that_is_not_that_of_the_entry_before_is_found() -> None:
    text = page(USER, LINES[3:], LINES[:3])
    head = json.loads(text[0])
    for name, value in (
        ("body", head["before"]["body"].replace('balance":', 'balance":1')),
        ("previous_hash", "1" * 64),
    ):
        forged = {**head, "before": {**head["before"], name: value}}
        assert told(verify_statement([json.dumps(forged), *text[1:]])) == [
            3,
            "the hash does not match the body and the entry before",
        ]


WHOLE = page(USER, LINES)

FILES: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "there is nothing in it"),
    "blank lines": (["", " "], "there is nothing in it"),
    "no head": (WHOLE[1:], "line 1 of the file is not one of a statement"),
    "no foot": (WHOLE[:-1], "its last line is missing: it was cut off"),
    "no JSON": ([*WHOLE[:3], "{"], "line 4 of the file is not one of a statement"),
    "a list": (["[]"], "line 1 of the file is not one of a statement"),
    "a number": (["5"], "line 1 of the file is not one of a statement"),
    "null": ([WHOLE[0], "null"], "line 2 of the file is not one of a statement"),
    "nested too deep": (["[" * 100_000], "line 1 of the file is not one of a statement"),
    "two heads": ([WHOLE[0], *WHOLE], "line 2 of the file is not one of a statement"),
    "an entry behind the end": (
        [*WHOLE, WHOLE[1]],
        f"line {len(WHOLE) + 1} of the file is not one of a statement",
    ),
    "another format": (
        [WHOLE[0].replace("statement-1", "statement-2"), *WHOLE[1:]],
        "line 1 of the file is not one of a statement",
    ),
    "an entry without a hash": (
        [WHOLE[0], '{"number":1,"body":""}'],
        "line 2 of the file is not one of a statement",
    ),
    "another count": (
        [*WHOLE[:-1], WHOLE[-1].replace(f'"lines": {len(LINES)}', '"lines": 3')],
        f"its last line counts 3 entries, and there are {len(LINES)}",
    ),
}


@pytest.mark.parametrize(("lines", "problem"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_statement_is_told_by_its_line(lines: list[str], problem: str) -> None:
    check = verify_statement(lines)
    assert told(check) == [None, problem]
    assert check.words.startswith(f"Wrong: {problem}.")


def test_half_a_character_is_found_and_nothing_breaks() -> None:
    line = {**LINES[0], "body": LINES[0]["body"].replace("zone", "\ud800")}
    problem = "the hash does not match the body and the entry before"
    assert told(verify_statement(page(USER, [line]))) == [1, problem]


# --- Witnesses ------------------------------------------------------------------------------------


def test_every_line_that_was_witnessed_agrees() -> None:
    emails = [f"You have 5 credits.\n\nLine {witness(line)}. Keep it." for line in LINES]
    check = verify_statement(page(USER, LINES), emails)
    assert check.is_right
    assert f"What {len(LINES)} emails or events say agrees with it." in check.words


@pytest.mark.parametrize("left", range(len(LINES)))
def test_an_end_that_was_cut_off_is_found_by_what_was_witnessed(left: int) -> None:
    check = verify_statement(page(USER, LINES[:left]), [witness(LINES[-1])])
    assert told(check) == [left + 1, f"entries up to {len(LINES)} were witnessed and are gone"]


def resealed(lines: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The entries, chained anew, as whoever rewrites a ledger would."""
    previous = "0" * 64
    for line in lines:
        text = f"{previous}\n{USER}\n{line['body']}"
        previous = hashlib.sha256(text.encode()).hexdigest()
        yield {**line, "hash": previous}


@pytest.mark.parametrize("number", range(1, len(LINES) + 1))
def test_a_ledger_that_was_written_anew_is_found_by_what_was_witnessed(number: int) -> None:
    first = json.loads(LINES[0]["body"])
    body = json.dumps({**first, "description": "Another"}, separators=(",", ":"))
    forged = [*resealed([{**LINES[0], "body": body}, *LINES[1:]])]
    assert verify_statement(page(USER, forged)).is_right, "by itself it is right"
    check = verify_statement(page(USER, forged), [witness(LINES[number - 1])])
    assert told(check) == [number, "its hash is not the one that was witnessed"]


def test_a_witness_of_a_time_that_is_not_in_it_is_named() -> None:
    some = page(USER, LINES[3:5], LINES[:3], is_end=False)
    check = verify_statement(some, [witness(LINES[0]), witness(LINES[-1]), witness(LINES[2])])
    assert check.is_right
    assert check.unseen == (1, len(LINES))
    assert f"Witnessed entries that are not in it: 1, {len(LINES)}." in check.words
    wrong = verify_statement(some, [f"3:{'0' * 12}"])
    assert told(wrong) == [3, "its hash is not the one that was witnessed"]


@pytest.mark.parametrize("text", ["", "15", "15:abc", "15:ABCDEF123456", "abcdef123456"])
def test_a_witness_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("such as 15:ab12cd34ef56")):
        verify_statement([], [text])
