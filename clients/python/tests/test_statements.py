"""The verifier of statements finds in each test vector what the vector says is wrong."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from credits_client import Credits, verify_statement

VECTORS = json.loads((Path(__file__).parents[2] / "statement" / "vectors.json").read_text("utf-8"))


@pytest.mark.parametrize("ledger", VECTORS["ledgers"], ids=lambda ledger: ledger["test"])
def test_a_statement_is_right_or_wrong_as_the_vector_says(ledger: dict[str, Any]) -> None:
    names = ("number", "body", "hash", "erased")
    lines = [dict(zip(names, VECTORS["lines"][place])) for place in ledger["lines"]]  # noqa: B905
    head = {
        "format": "credits-statement-1",
        "user_id": ledger["user_id"],
        "made_at": "2026-12-01T00:00:00Z",
        "before": None,
    }
    foot = {"lines": len(lines), "next_cursor": None, "is_end": True}
    check = verify_statement(json.dumps(each) for each in (head, *lines, foot))
    assert (None if check.is_right else [check.line, check.problem]) == ledger["wrong"]


def test_only_a_newline_ends_a_line_of_a_statement() -> None:
    """Python ends lines at more letters than that, and users may write them."""
    lines = ('{"description": "a\u2028b\x85c\x0bd"}', '{"next_cursor": null}')
    answer = httpx.Response(200, text="\n".join([*lines, ""]))
    with httpx.Client(transport=httpx.MockTransport(lambda _: answer)) as http:
        client = Credits("https://api.example.com", "t", http=http)
        assert client.statement_page("1").items == lines
