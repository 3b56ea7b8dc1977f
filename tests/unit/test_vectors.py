"""The test vectors of statements: what they say is what the domain finds, in every respect."""

import ast
import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.domain import verification
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.verification import StoredLine, verify
from tests.vectors import CANONICAL, VECTORS

FILE: dict[str, Any] = json.loads(VECTORS.read_text("utf-8"))
LINES = [StoredLine(*line) for line in FILE["lines"]]
LEDGERS = FILE["ledgers"]


@pytest.mark.parametrize("ledger", LEDGERS, ids=[each["test"] for each in LEDGERS])
def test_a_vector_says_what_the_domain_finds(ledger: dict[str, Any]) -> None:
    lines = [LINES[place] for place in ledger["lines"]]
    if ledger["wrong"] is None:
        assert verify(ledger["user_id"], lines).next_number == len(lines) + 1
        return
    with pytest.raises(LedgerCorrupt) as caught:
        verify(ledger["user_id"], lines)
    reason = caught.value.reason
    said = CANONICAL if reason.startswith("the body cannot be read") else reason
    assert [caught.value.number, said] == ledger["wrong"]


def problems() -> Iterator[str]:
    """The texts that the rules of the domain find a line wrong with."""
    for node in ast.walk(ast.parse(inspect.getsource(verification))):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            _, problem = node.value.elts
            assert isinstance(problem, ast.Constant)
            yield str(problem.value)


def test_every_rule_of_the_domain_is_broken_by_a_vector() -> None:
    broken = {ledger["wrong"][1] for ledger in LEDGERS if ledger["wrong"]}
    assert {*problems()} - broken == set()


def test_every_type_of_entry_is_in_a_right_vector_and_so_is_an_erased_one() -> None:
    places = {place for ledger in LEDGERS if not ledger["wrong"] for place in ledger["lines"]}
    lines = [LINES[place] for place in places]
    assert {json.loads(line.body)["type"] for line in lines} == {*EntryType}
    assert any(line.erased for line in lines)
