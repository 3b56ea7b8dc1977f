"""The line of a ledger as it is stored: the words that every ledger has, for ever."""

from chalicelib.domain import ledger
from chalicelib.domain.batches import Source
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days

NOW = parse_instant("at", "2026-07-01T10:00:00Z")
LATER = parse_instant("at", "2026-09-01T10:00:00Z")
WHY = Request("manual#1", "ada", "Because")


def after(*entries: LedgerEntry) -> Account:
    return Account("42", entries[-1])


def test_the_types_of_lines_and_the_sources_of_batches_are_stored_as_these_words() -> None:
    granted = ledger.allocate(Account("42"), Period(2026, 7), 9, "UTC", Days(30), NOW)
    used = ledger.use(after(granted), 5, WHY, NOW)
    returned = ledger.reverse(after(used), used, granted, 0, 5, WHY, NOW).entry
    held = ledger.hold(after(returned), 5, 60, WHY, NOW, lambda: "UTC")
    released = ledger.capture(after(held), 4, 0, WHY, NOW, lambda: "UTC")
    expired = ledger.expire(after(released), LATER)
    assert expired
    given = ledger.grant(after(expired), 5, WHY, NOW, "UTC", None)
    lines = (granted, used, returned, held, released, expired, given)
    for entry, word in zip(
        lines,
        ("allocation", "usage", "reversal", "hold", "release", "expiration", "manual"),
        strict=True,
    ):
        assert f'"type":"{word}"' in entry.body()
    words = ("plan", "purchase", "promotion", "adjustment", "carried_over")
    for source, word in zip(Source, words, strict=True):
        body = ledger.grant(Account("42"), 5, WHY, NOW, "UTC", None, 10, source).body()
        assert f',10,"{word}"]]' in body


def test_the_types_are_these_words_for_good() -> None:
    """They are stored, and the API answers them."""
    words = ("allocation", "expiration", "usage", "manual", "reversal")
    later = ("hold", "release", "purchase", "refund")
    assert {type_.value for type_ in EntryType} == {*words, *later}
