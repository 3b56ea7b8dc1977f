"""A statement: lines of the ledger exactly as they are sealed, for anybody who wants to check them.

The first line names the user and has the entry before the statement's lines. Then come the lines,
oldest first. The last line says how many they were, and whether more follow. See
docs/statements.md.
"""

import json
from collections.abc import Iterable
from typing import NamedTuple

from chalicelib.domain.entries import FIRST_HASH
from chalicelib.domain.fields import ENTRY_NUMBER, parse_user_id
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.verification import StoredLine

from . import cursors
from .answers import Answer, Json
from .calls import LARGEST_PAGE, Call, ensure_user, parse_limit

FORMAT = "credits-statement-1"
"""The first field of every statement: it tells a reader the format."""

MOST_BYTES = 2_000_000
"""The most bytes of a page with several lines. Lambda answers at most 6 MB of JSON, in which quotes
and backslashes of the text take twice the room."""


def statement(call: Call) -> Answer:
    """The lines of a user's ledger between two instants, in pages."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    limit = query.optional("limit", parse_limit)
    since = query.optional("from", parse_instant)
    until = query.optional("to", parse_instant)
    cursor = query.optional("cursor", cursors.parse_cursor)
    if since and until and since >= until:
        query.reject("to", "must be after from")
    query.finish()
    ledger, whose = call.services.ledger, call.principal.reads_credits_of(user_id)
    listing = f"statement {whose} {since} {until}"
    position = cursors.decode(listing, cursor, ENTRY_NUMBER.pattern)
    first = 1
    if position is not None:
        first = int(position)
    elif since is not None:
        first = ledger.number_since(whose, since)
    end = ledger.number_since(whose, until) if until else None
    # Two lines more: the first opens the account, and the second is sealed with the first's hash.
    stored = ledger.lines_from(whose, max(1, first - 2), (limit or LARGEST_PAGE) + 3)
    page = _page(stored, first, end, limit or LARGEST_PAGE)
    ensure_user(call.services, whose, has_entries=bool(page.lines or page.before))
    next_cursor = cursors.encode(listing, str(page.next)) if page.next else None
    head = {
        "format": FORMAT,
        "user_id": whose,
        "from": since and format_instant(since),
        "to": until and format_instant(until),
        "made_at": format_instant(call.services.now()),
        "before": page.before,
    }
    foot = {"lines": len(page.lines), "next_cursor": next_cursor, "is_end": page.is_end}
    texts = [_text(head), *page.lines, _text(foot)]
    return Answer(
        "".join(f"{text}\n" for text in texts),
        headers={"Content-Type": "text/plain; charset=utf-8"},
    )


class _Page(NamedTuple):
    """Lines as texts, and the entry before them; the number to go on with, if more follow.

    ``is_end``: the last line was the last one of the ledger.
    """

    before: Json | None
    lines: list[str]
    next: int | None
    is_end: bool


def _page(stored: Iterable[StoredLine], first: int, end: int | None, limit: int) -> _Page:
    """The page of the lines from number ``first`` to before number ``end``."""
    before: Json | None = None
    previous_hash, size = FIRST_HASH, 0
    lines: list[str] = []
    for line in stored:
        if line.number < first:
            before = {"previous_hash": previous_hash, **_values(line)}
            previous_hash = line.hash
            continue
        if end is not None and line.number >= end:
            return _Page(before, lines, None, is_end=False)
        text = _text(_values(line))
        size += len(text.encode())
        if len(lines) == limit or (lines and size > MOST_BYTES):
            return _Page(before, lines, line.number, is_end=False)
        lines.append(text)
    return _Page(before, lines, None, is_end=True)


def _values(line: StoredLine) -> Json:
    """A line; only a line whose texts were erased has a second seal."""
    values = line._asdict()
    if line.erased is None:
        del values["erased"]
    return values


def _text(values: Json) -> str:
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
