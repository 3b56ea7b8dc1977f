"""Both verifiers of statements find what the domain finds, and what only a statement can have.

Each statement is given to the one in Python and to the one in JavaScript, which must say the same.
"""

import base64
import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import credits_client
import pytest
from credits_client import StatementCheck
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chalicelib.domain import verification as domain
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.verification import StoredLine
from infra.pages import statement as statement_page
from tests.stack.node import NODE
from tests.vectors import ROOT, VECTORS

FILE = json.loads(VECTORS.read_text("utf-8"))
POOL: list[dict[str, Any]] = [
    dict(zip(("number", "body", "hash", "erased"), line, strict=False)) for line in FILE["lines"]
]
LEDGERS: list[dict[str, Any]] = FILE["ledgers"]
RIGHT = [ledger for ledger in LEDGERS if ledger["wrong"] is None and len(ledger["lines"]) > 1]
IDS = [f"{place}-{ledger['test']}" for place, ledger in enumerate(LEDGERS)]


Verify = Callable[..., StatementCheck]


class Refused(Exception):
    """Both refused a witness."""


PROGRAM = """
import { createInterface } from "node:readline";
import { verifyStatement } from %s;

for await (const line of createInterface({ input: process.stdin })) {
  const { text, witnesses } = JSON.parse(line);
  const refused = ({ message }) => ({ refused: message });
  console.log(JSON.stringify(await verifyStatement(text, witnesses).catch(refused)));
}
"""


@pytest.fixture(scope="module")
def javascript() -> Iterator[subprocess.Popen[str]]:
    """The verifier in JavaScript: of each line that it reads, it says what it found."""
    module = json.dumps((ROOT / "clients" / "statement" / "verify.mjs").as_uri())
    with subprocess.Popen(
        [NODE / "node", "--input-type=module", "--eval", PROGRAM % module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        yield process
        assert process.stdin
        process.stdin.close()
        assert process.wait() == 0


@pytest.fixture
def verify(javascript: subprocess.Popen[str]) -> Verify:
    """What Python finds; JavaScript must find the same."""

    def both(lines: Sequence[str], witnesses: Sequence[str] = ()) -> StatementCheck:
        assert javascript.stdin
        assert javascript.stdout
        asked = {"text": "\n".join(lines), "witnesses": witnesses}
        javascript.stdin.write(f"{json.dumps(asked)}\n")
        javascript.stdin.flush()
        found = json.loads(javascript.stdout.readline())
        if "refused" in found:
            with pytest.raises(ValueError, match=f"^{re.escape(found['refused'])}$"):
                credits_client.verify_statement(lines, witnesses)
            raise Refused(found["refused"])
        check = credits_client.verify_statement(lines, witnesses)
        assert found == {
            "isRight": check.is_right,
            "line": check.line,
            "problem": check.problem,
            "words": check.words,
            "userId": check.user_id,
            "first": check.first,
            "last": check.last,
            "balance": check.balance,
            "untold": [*check.untold],
            "unseen": [*check.unseen],
        }
        return check

    return both


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


def resealed(lines: Sequence[dict[str, Any]], user_id: str) -> Iterator[dict[str, Any]]:
    """The entries, chained anew, as a forger of a ledger would."""
    previous = "0" * 64
    for line in lines:
        kept, sealed = ("erased", f"\n{line['hash']}") if "erased" in line else ("hash", "")
        text = f"{previous}\n{user_id}\n{line['body']}{sealed}"
        new = {**line, kept: hashlib.sha256(text.encode()).hexdigest()}
        previous = new["hash"]
        yield new


def told(check: StatementCheck) -> list[Any] | None:
    return None if check.is_right else [check.line, check.problem]


def witness(line: dict[str, Any]) -> str:
    return f"{line['number']}:{line['hash'][:12]}"


# --- What the audit finds -------------------------------------------------------------------------


@pytest.mark.parametrize("ledger", LEDGERS, ids=IDS)
def test_what_the_domain_finds_in_a_ledger_is_found_in_its_statement(
    verify: Verify,
    ledger: dict[str, Any],
) -> None:
    check = verify(page(ledger["user_id"], entries(ledger)))
    assert told(check) == ledger["wrong"]
    if check.is_right:
        assert check.balance == json.loads(entries(ledger)[-1]["body"])["balance"]
        assert check.words.startswith("Right: ")
    else:
        assert check.words.startswith(f"Wrong: entry {check.line}: {check.problem}.")


@pytest.mark.parametrize("place", range(len(RIGHT)))
def test_a_statement_of_some_time_is_right_wherever_it_begins(verify: Verify, place: int) -> None:
    user_id, lines = RIGHT[place]["user_id"], entries(RIGHT[place])
    for first in range(1, len(lines) + 1):
        check = verify(page(user_id, lines[first:], lines[:first]))
        assert check.is_right, check.words
        assert (check.first, check.last) == (
            (None, None) if first == len(lines) else (first + 1, len(lines))
        )
        assert f"They begin after entry {first}" in check.words


def test_the_rules_that_need_no_earlier_entry_hold_in_a_statement_of_some_time(
    verify: Verify,
) -> None:
    """The last line is wrong, and the statement begins just before it."""
    found = missed = 0
    for ledger in LEDGERS:
        lines = entries(ledger)
        if ledger["wrong"] and ledger["wrong"][0] == lines[-1]["number"] == len(lines) > 1:
            check = verify(page(ledger["user_id"], lines[-1:], lines[:-1]))
            if check.is_right:
                missed += 1
                assert check.untold == (len(lines),), ledger
                assert f"Of entries {len(lines)} not all can be told" in check.words
            else:
                found += 1
                assert check.line == len(lines)
    assert found > 5 * missed > 0


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value in a body."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_in(value[key], (*path, key))


OTHERS_OF: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, False, 0, 1, -1, 2, 5, 100, 1.0, "", "x", "plan", "2026-08", [], {}, [1, 2]]
)
ALTERED = st.fixed_dictionaries(
    {
        "ledger": st.sampled_from(RIGHT),
        "line": st.integers(0, 10**6),
        "place": st.integers(0, 10**6),
        "by": st.one_of(st.integers(-3, 3), OTHERS_OF, st.just("remove"), st.just("double")),
    }
)


def altered(ledger: dict[str, Any], line: int, place: int, by: Any) -> list[dict[str, Any]]:
    """The entries with one value of one of them altered, and sealed by the forger."""
    lines = [dict(each) for each in entries(ledger)]
    wrong = lines[line % len(lines)]
    body = json.loads(wrong["body"])
    ways = [*places_in(body)]
    *way, last = ways[place % len(ways)]
    inner = body
    for step in way:
        inner = inner[step]
    if by == "remove":
        del inner[last]
    elif by == "double" and isinstance(inner, list):
        inner.append(inner[last])
    elif type(by) is int and type(inner[last]) is int:
        inner[last] += by
    else:
        inner[last] = by
    wrong["body"] = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return [*resealed(lines, ledger["user_id"])]


def wrong_line(user_id: str, lines: Sequence[dict[str, Any]]) -> int | None:
    """The first line that the domain finds wrong."""
    try:
        domain.verify(user_id, (StoredLine(**each) for each in lines))
    except LedgerCorrupt as corrupt:
        return corrupt.number
    return None


def test_a_forged_value_is_found_by_the_domain_and_by_both_in_the_same_line(
    verify: Verify,
) -> None:
    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
    )
    @given(ALTERED)
    def forged(how: dict[str, Any]) -> None:
        lines = altered(**how)
        user_id = how["ledger"]["user_id"]
        check = verify(page(user_id, lines))
        assert (None if check.is_right else check.line) == wrong_line(user_id, lines), check.words

    forged()


def test_a_number_that_no_entry_has_is_refused(verify: Verify) -> None:
    body = LINES[0]["body"].replace('"number":1', f'"number":{2**53 + 1}')
    forged = [*resealed([{**LINES[0], "body": body}], USER)]
    assert told(verify(page(USER, forged))) == [1, "the body is not in its canonical form"]


@pytest.mark.parametrize("form", [" %s", "%s ", "%s\n", "\ufeff%s"])
def test_a_body_with_anything_around_it_is_not_the_one_that_was_written(
    verify: Verify, form: str
) -> None:
    forged = [*resealed([{**LINES[0], "body": form % LINES[0]["body"]}], USER)]
    assert told(verify(page(USER, forged))) == [1, "the body is not in its canonical form"]


# --- Forms, and what the vectors have not ---------------------------------------------------------

LONG = max(RIGHT, key=lambda ledger: len(ledger["lines"]))
USER, LINES = LONG["user_id"], entries(LONG)

CANONICAL = "the body is not in its canonical form"
ORDER = re.findall(
    r"\w+",
    """schema number type amount balance batches legs through operation description actor effective
    posted zone silent correlation usage holds hold released including_held metadata items price
    refund left_out balance_cap sign_up topped_up""",
)
ABSENT = Ellipsis
THEN = 1_782_856_800_000
DAY = 24 * 60 * 60 * 1000
END = 32_503_766_400_000
"""The first instant that no entry has: the year 3000, wherever it begins first."""


def body_of(values: dict[str, Any]) -> str:
    """The text of a body, with its names in their order."""
    there = {name: values[name] for name in ORDER if values.get(name, ABSENT) is not ABSENT}
    return json.dumps(there, ensure_ascii=False, separators=(",", ":"))


def batch(number: int, granted: int, left: int, *more: Any, ends: int | None = None) -> list[Any]:
    return [number, granted, left, THEN, ends, *(more or (50, "adjustment"))]


def made(number: int, type_: str, legs: list[list[int]], *batches: Any, **more: Any) -> Any:
    """The values of an entry; its balance is what its batches hold."""
    at = THEN + number * 1000
    return {
        "schema": 3,
        "number": number,
        "type": type_,
        "amount": sum(amount for _, amount in legs),
        "balance": sum(each[2] for each in batches),
        "batches": [*batches],
        "legs": legs,
        "through": None,
        "operation": f"{type_}#{number}",
        "description": "Zoë’s",
        "actor": "ada",
        "effective": at,
        "posted": at,
        "zone": None,
        "correlation": None,
        **more,
    }


def sealed(*them: dict[str, Any]) -> list[dict[str, Any]]:
    """The entries as they would be stored; one with a ``seal`` is marked as erased."""
    lines: list[dict[str, Any]] = []
    for values in them:
        line = {"number": values["number"], "body": body_of(values), "hash": "0" * 64}
        lines.append(line | ({"erased": ""} if "seal" in values else {}))
    return [*resealed(lines, USER)]


FIRST = made(
    1,
    "allocation",
    [[1, 100]],
    [1, 100, 100, THEN, THEN + 30 * DAY],
    through="2026-07",
    operation="allocation#2026-07",
    zone="Europe/Paris",
)
PAIRS = {f"k{number}": "v" for number in range(10)}
FOREVER = {"batches": [[1, 100, 100, THEN, None]], "zone": None}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"silent": True, "sign_up": True, "correlation": "tick"},
        {"metadata": PAIRS},
        {"metadata": {"k" * 40: "v" * 470 + "é"}},
        {"effective": -86_400_000},
        {"posted": END - 1, **FOREVER},
        *({"batches": [[1, 100, 100, THEN, None, n, "promotion"]], "zone": None} for n in (0, 100)),
        {"schema": 2},
        {"schema": 1, "correlation": ABSENT},
    ],
)
def test_what_an_entry_may_be_at_most_is_right(verify: Verify, changes: dict[str, Any]) -> None:
    lines = sealed(FIRST | changes)
    assert wrong_line(USER, lines) is None
    assert told(verify(page(USER, lines))) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 0, "correlation": ABSENT},
        {"schema": 4},
        {"schema": 1},
        {"schema": 2, "sign_up": True},
        {"schema": 2, "batches": [[1, 100, 100, THEN, None, 20, "plan"]], "zone": None},
        *({name: False} for name in ("silent", "including_held", "sign_up")),
        {"sign_up": 1},
        {"holds": []},
        {"items": []},
        {"metadata": {}},
        {"left_out": 0},
        {"correlation": 5},
        *({"through": month} for month in ("2026-13", "2026-00", "1969-12", "3000-01")),
        {"price": [5, "eur", 1]},
        {"items": [["k", 5, "d", {}]]},
        {"items": [["k", 5, "d", {"a": "b"}, {"a": "b"}]]},
        {"legs": [[1, 100, 0]]},
        {"holds": [[1, THEN, [[1, 5]], 0]]},
        {"refund": [1, 0, 0, None, 0]},
        {"batches": [[1, 100, 100, THEN, None, 50, "plan"]], "zone": None},
        {"batches": [[1, 100, 100, THEN, None, 20]], "zone": None},
        {"batches": [[1, 100, 100, THEN, None, 20, "gift"]], "zone": None},
        *({"batches": [[1, 100, 100, THEN, None, n, "plan"]], "zone": None} for n in (-1, 101)),
        {"metadata": PAIRS | {"z": "v"}},
        {"metadata": {"k" * 41: "v"}},
        {"metadata": {"K": "v"}},
        {"metadata": {"k": "\u0007"}},
        {"metadata": {"k" * 40: "v" * 471 + "é"}},
        {"effective": -86_400_001},
        {"posted": END, **FOREVER},
    ],
    ids=str,
)
def test_an_entry_of_another_form_is_not_one_that_was_written(
    verify: Verify, changes: dict[str, Any]
) -> None:
    lines = sealed(FIRST | changes)
    assert wrong_line(USER, lines) == 1
    assert told(verify(page(USER, lines))) == [1, CANONICAL]


TWO = (
    made(1, "manual", [[1, 50]], batch(1, 50, 50)),
    made(2, "manual", [[2, 70]], batch(1, 50, 50), batch(2, 70, 70)),
)
BOTH = (batch(1, 50, 50), batch(2, 70, 70))
BOUGHT = made(1, "purchase", [[1, 500]], batch(1, 500, 500, 20, "purchase"))
USED = made(2, "usage", [[1, -20]], batch(1, 50, 30))
LEFT_OF_500 = batch(1, 500, 400, 20, "purchase")
USED_OF_500 = made(2, "usage", [[1, -100]], LEFT_OF_500)
OLDEST = "credits were not taken oldest first"
LASTS = "it holds for a time that no hold has"


def held_for(milliseconds: int) -> Any:
    hold = [3, THEN + 3000 + milliseconds, [[1, 5]]]
    return (*TWO, made(3, "hold", [], *BOTH, holds=[hold]))


@pytest.mark.parametrize(
    ("them", "before", "problem"),
    [
        ((*TWO, made(3, "usage", [[1, -50], [2, -1]], batch(2, 70, 69))), 0, None),
        ((*TWO, made(3, "usage", [[1, -50], [2, 0]], batch(2, 70, 70))), 0, OLDEST),
        ((*TWO, made(3, "usage", [], *BOTH)), 0, "a usage takes credits"),
        ((*TWO, made(3, "manual", [], *BOTH)), 0, "it neither grants nor takes"),
        (
            (*TWO, made(3, "manual", [[1, -50], [2, -70]], operation="void#shop#1")),
            0,
            "a void takes all of one batch and no other",
        ),
        (held_for(1), 0, None),
        (held_for(0), 0, LASTS),
        (held_for(30 * DAY), 0, None),
        (held_for(30 * DAY + 1), 0, LASTS),
        (
            (BOUGHT, made(2, "refund", [[1, -500]], refund=[1, 600, 100, None])),
            0,
            "it refunds what was never bought",
        ),
        *(
            (
                (BOUGHT, USED_OF_500, made(3, "refund", legs, left, refund=[1, 10, 20, None])),
                before,
                "it says what cannot be unrecovered",
            )
            for before, legs, left in (
                (0, [[1, 10]], batch(1, 500, 410, 20, "purchase")),
                (2, [], LEFT_OF_500),
            )
        ),
        # Where the statement begins later, what it has not told is believed; what it has is not.
        ((TWO[0], USED, made(3, "reversal", [[1, 20]], batch(1, 50, 50), usage=2)), 2, None),
        *(
            (
                (TWO[0], USED, made(3, "reversal", [[1, 20]], batch(1, 50, 50), usage=usage)),
                2,
                "it names an entry that is not a usage",
            )
            for usage in (0, -1, 3)
        ),
        (
            (TWO[0], USED, made(3, "reversal", [[1, 20]], batch(1, 50, 50, ends=END - 1), usage=2)),
            2,
            "the open batches do not add up",
        ),
        (
            (
                TWO[0],
                USED,
                made(3, "usage", [[1, -10]], batch(1, 50, 20)),
                made(4, "reversal", [[1, 20]], batch(1, 50, 40), usage=3),
            ),
            2,
            "a reversal gives back more than was used",
        ),
    ],
)
def test_a_rule_that_the_last_entry_breaks_is_named_whatever_else_is_in_order(
    verify: Verify, them: tuple[dict[str, Any], ...], before: int, problem: str | None
) -> None:
    lines = sealed(*them)
    assert wrong_line(USER, lines) == (problem and len(lines))
    wrong = told(verify(page(USER, lines[before:], lines[:before])))
    assert wrong == (problem and [len(lines), problem])


HEX = "ab" * 32
ERASED: dict[str, Any] = {
    "seal": True,
    "description": "(erased)",
    "actor": "(erased)",
    "operation": f"usage#(erased) {HEX}",
}


@pytest.mark.parametrize(
    ("left", "is_right"),
    [
        ({}, True),
        ({"items": [[f"(erased) {HEX}", 20, "(erased)"]]}, True),
        ({"description": "Export"}, False),
        ({"actor": USER}, False),
        ({"operation": "usage#shop#1"}, False),
        ({"metadata": {"k": "v"}}, False),
        ({"items": [["job-1", 20, "(erased)"]]}, False),
        ({"items": [[f"(erased) {HEX}", 20, "Export"]]}, False),
        ({"items": [[f"(erased) {HEX}", 20, "(erased)", {"k": "v"}]]}, False),
    ],
)
def test_an_entry_is_erased_when_none_of_its_texts_is_left(
    verify: Verify, left: dict[str, Any], *, is_right: bool
) -> None:
    lines = sealed(TWO[0], USED | ERASED | left)
    assert wrong_line(USER, lines) == (None if is_right else 2)
    problem = "it is marked as erased and still has its texts"
    assert told(verify(page(USER, lines))) == (None if is_right else [2, problem])


def test_of_what_the_system_did_nothing_but_the_description_is_erased(verify: Verify) -> None:
    ends = THEN + 2000
    granted = FIRST | {"batches": [[1, 100, 100, THEN, ends]]}
    expired = made(2, "expiration", [[1, -100]], through="2026-07")
    erased = {"seal": True, "description": "(erased)"}
    lines = sealed(granted | erased, expired | erased)
    assert wrong_line(USER, lines) is None
    assert told(verify(page(USER, lines))) is None


def test_a_ledger_of_the_first_form_is_right_and_goes_on_in_todays(verify: Verify) -> None:
    items = json.loads((ROOT / "tests/fixtures/ledger-schema-1.json").read_text("utf-8"))
    lines = [
        {"number": int(item["entry"][-12:]), "body": item["body"], "hash": item["hash"]}
        for item in items
        if "body" in item
    ]
    last = json.loads(lines[-1]["body"])
    assert last["schema"] == 1
    # Today's form tells what credits come from; of those that are older nobody knows it.
    open_ = [[*each, 50, None] for each in last["batches"]]
    new = [9, 5, 5, last["posted"], None, 50, "adjustment"]
    values = made(9, "manual", [[9, 5]], *open_, new, through=last["through"], effective=0)
    values |= {"posted": last["posted"]}
    body = body_of(values)
    digest = hashlib.sha256(f"{lines[-1]['hash']}\n42\n{body}".encode()).hexdigest()
    lines.append({"number": 9, "body": body, "hash": digest})
    assert wrong_line("42", lines) is None
    check = verify(page("42", lines))
    assert (check.is_right, check.balance) == (True, 162), check.words


# --- What only a statement has --------------------------------------------------------------------


def test_pages_are_one_statement(verify: Verify) -> None:
    pages = [
        *page(USER, LINES[:2], is_end=False),
        *page(USER, LINES[2:5], LINES[:2], is_end=False),
        *page(USER, LINES[5:], LINES[:5]),
    ]
    check = verify(pages)
    assert check.is_right
    assert (check.first, check.last, check.untold) == (1, len(LINES), ())


@pytest.mark.parametrize("counted", [len(LINES) - 1, len(LINES) + 1])
def test_a_last_line_that_counts_other_entries_than_there_are_is_found(
    verify: Verify, counted: int
) -> None:
    *rest, _ = page(USER, LINES)
    foot = {"lines": counted, "next_cursor": None, "is_end": True}
    problem = f"its last line counts {counted} entries, and there are {len(LINES)}"
    assert told(verify([*rest, json.dumps(foot)])) == [None, problem]


@pytest.mark.parametrize(
    "foot", [{"lines": len(LINES)}, {"lines": str(len(LINES)), "is_end": True}]
)
def test_a_last_line_of_another_form_is_refused(verify: Verify, foot: dict[str, Any]) -> None:
    *rest, _ = page(USER, LINES)
    place = len(LINES) + 2
    problem = f"line {place} of the file is not one of a statement"
    assert told(verify([*rest, json.dumps(foot)])) == [None, problem]


def test_a_page_that_is_missing_is_found(verify: Verify) -> None:
    pages = [*page(USER, LINES[:2], is_end=False), *page(USER, LINES[4:], LINES[:4])]
    problem = "a page does not begin where the page before it ended"
    assert told(verify(pages)) == [None, problem]
    others = [*page(USER, LINES[:2], is_end=False), *page("another", LINES[2:], LINES[:2])]
    assert told(verify(others)) == [None, problem]


def test_an_opening_that_is_not_that_of_the_entry_before_is_found(verify: Verify) -> None:
    text = page(USER, LINES[3:], LINES[:3])
    head = json.loads(text[0])
    for name, value in (
        ("body", head["before"]["body"].replace('balance":', 'balance":1')),
        ("previous_hash", "1" * 64),
    ):
        forged = {**head, "before": {**head["before"], name: value}}
        assert told(verify([json.dumps(forged), *text[1:]])) == [
            3,
            "the hash does not match the body and the entry before",
        ]


def test_an_opening_before_the_first_entry_is_no_way_to_bring_credits(verify: Verify) -> None:
    head, *rest = page(USER, LINES[1:], LINES[:1])
    values = json.loads(head)
    for number, previous in ((0, "0" * 64), (1, "1" * 64)):
        body = LINES[0]["body"].replace('"number":1', f'"number":{number}')
        hash_ = hashlib.sha256(f"{previous}\n{USER}\n{body}".encode()).hexdigest()
        opening = {"previous_hash": previous, "number": number, "body": body, "hash": hash_}
        check = verify([json.dumps({**values, "before": opening}), *rest])
        assert not check.is_right, check.words


WHOLE = page(USER, LINES)

OTHERS: dict[str, tuple[list[str], str]] = {
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


def test_a_text_that_is_altered_anywhere_is_found_by_both(verify: Verify) -> None:
    text = "\n".join(page(USER, LINES[2:6], LINES[:2], is_end=False))

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.differing_executors]
    )
    @given(st.integers(0, len(text) - 1), st.integers(0, 2), st.text(st.characters(), max_size=2))
    def altered(place: int, length: int, by: str) -> None:
        forged = text[:place] + by + text[place + length :]
        check = verify(forged.split("\n"), [witness(LINES[3])])
        assert check.is_right or check.problem

    altered()


@pytest.mark.parametrize(("lines", "problem"), OTHERS.values(), ids=OTHERS)
def test_a_file_that_is_no_statement_is_told_by_its_line(
    verify: Verify, lines: list[str], problem: str
) -> None:
    check = verify(lines)
    assert told(check) == [None, problem]
    assert check.words.startswith(f"Wrong: {problem}.")


def test_half_a_character_is_found_and_nothing_breaks(verify: Verify) -> None:
    line = {**LINES[0], "body": LINES[0]["body"].replace("zone", "\ud800")}
    problem = "the hash does not match the body and the entry before"
    assert told(verify(page(USER, [line]))) == [1, problem]


# --- Witnesses ------------------------------------------------------------------------------------


def test_every_line_that_was_witnessed_agrees(verify: Verify) -> None:
    emails = [f"You have 5 credits.\n\nLine {witness(line)}. Keep it." for line in LINES]
    check = verify(page(USER, LINES), emails)
    assert check.is_right
    assert f"What {len(LINES)} emails or events say agrees with it." in check.words


@pytest.mark.parametrize("left", range(len(LINES)))
def test_an_end_that_was_cut_off_is_found_by_what_was_witnessed(verify: Verify, left: int) -> None:
    check = verify(page(USER, LINES[:left]), [witness(LINES[-1])])
    assert told(check) == [left + 1, f"entries up to {len(LINES)} were witnessed and are gone"]


@pytest.mark.parametrize("number", range(1, len(LINES) + 1))
def test_a_ledger_that_was_written_anew_is_found_by_what_was_witnessed(
    verify: Verify, number: int
) -> None:
    first = json.loads(LINES[0]["body"])
    body = json.dumps({**first, "description": "Another"}, separators=(",", ":"))
    forged = [*resealed([{**LINES[0], "body": body}, *LINES[1:]], USER)]
    assert verify(page(USER, forged)).is_right, "by itself it is right"
    check = verify(page(USER, forged), [witness(LINES[number - 1])])
    assert told(check) == [number, "its hash is not the one that was witnessed"]


def test_a_witness_of_a_time_that_is_not_in_it_is_named(verify: Verify) -> None:
    some = page(USER, LINES[3:5], LINES[:3], is_end=False)
    check = verify(some, [witness(LINES[0]), witness(LINES[-1]), witness(LINES[2])])
    assert check.is_right
    assert check.unseen == (1, len(LINES))
    assert f"Witnessed entries that are not in it: 1, {len(LINES)}." in check.words
    unheard = verify(some, [witness(LINES[0])]).words
    assert unheard.endswith(
        "It ends before the ledger does. Witnessed entries that are not in it: 1."
    )
    wrong = verify(some, [f"3:{'0' * 12}"])
    assert told(wrong) == [3, "its hash is not the one that was witnessed"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "15", "15:abc", "15:ABCDEF123456", "abcdef123456", "15:ab12cd34ef5"),
        *("1234567890123:ab12cd34ef56", f"15:{'a' * 65}"),
    ],
)
def test_a_witness_that_says_nothing_is_refused(verify: Verify, text: str) -> None:
    with pytest.raises(Refused, match="such as 15:ab12cd34ef56"):
        verify([], [text])


# --- The page -------------------------------------------------------------------------------------


def test_the_page_is_one_file_that_may_run_its_own_script_and_nothing_else() -> None:
    text = statement_page.PAGE.read_text("utf-8")
    assert text == statement_page.page(), "make reference"
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    allowed = dict(part.split(" ", 1) for part in policy.split("; "))
    assert allowed.pop("default-src") == allowed.pop("base-uri") == "'none'"
    assert allowed.pop("form-action") == "'none'"
    for name in ("script", "style"):
        (content,) = re.findall(rf"<{name}\b[^>]*>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert allowed.pop(f"{name}-src") == f"'sha256-{digest}'"
    assert allowed == {}
    assert "://" not in text
    assert not re.search(r"\s(src|href|action)=", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|eval|import)\b", text)
