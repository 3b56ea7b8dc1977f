"""Several usages in one entry: as a decision, as a line, and as verification sees it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.entries import (
    ERASED,
    FIRST_HASH,
    LedgerEntry,
    UsageItem,
    digests_of,
    entry_hash,
    operation_digest,
    without_texts,
)
from chalicelib.domain.errors import InsufficientCredits, LedgerCorrupt
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import MOST_ITEMS, Account, Request
from chalicelib.domain.verification import StoredLine, operation_of, verify

NOW = parse_instant("at", "2026-07-01T10:00:00Z")
WHY = Request("usage#shop", "shop", "Lead 7 and 1 more")
ITEMS = (
    UsageItem("lead-7", 2, "Lead 7", (("campaign", "42"),)),
    UsageItem("lead-8", 3, "Lead 8"),
)
GRANT = ledger.grant(
    Account("42"), 10, Request("manual#1", "ada", "Gift"), NOW, "Europe/Paris", None
)
GRANTED = Account("42", GRANT, entry_hash(FIRST_HASH, "42", GRANT.body()))


def used() -> LedgerEntry:
    return ledger.use_many(GRANTED, [*ITEMS], WHY, NOW)


def line_of(entry: LedgerEntry) -> StoredLine:
    body = entry.body()
    return StoredLine(2, body, entry_hash(GRANTED.last_hash, "42", body))


def test_several_usages_are_one_entry_of_what_they_come_to() -> None:
    entry = used()
    assert (entry.amount, entry.balance, entry.items) == (-5, 5, ITEMS)
    assert verify("42", [StoredLine(1, GRANT.body(), GRANTED.last_hash), line_of(entry)])


def test_usages_that_are_not_covered_together_take_nothing() -> None:
    items = (*ITEMS, UsageItem("lead-9", 6, "Lead 9"))
    with pytest.raises(InsufficientCredits) as refused:
        ledger.use_many(GRANTED, items, WHY, NOW)
    assert (refused.value.requested, refused.value.available) == (11, 10)


def test_the_line_is_kept_as_exactly_this_text_and_read_as_it_was_written() -> None:
    body = used().body()
    assert body.endswith(
        '"correlation":null,"items":[["lead-7",2,"Lead 7",{"campaign":"42"}],'
        '["lead-8",3,"Lead 8"]]}'
    )
    assert LedgerEntry.from_body("42", 2, body) == used()


def test_each_usage_has_the_digest_of_a_usage_by_itself_also_once_it_is_erased() -> None:
    digests = tuple(operation_digest(f"usage#shop#lead-{number}") for number in (7, 8))
    assert digests_of(used()) == digests
    erased = without_texts(used())
    assert digests_of(erased) == digests
    assert without_texts(erased) == erased
    assert [item[1:] for item in erased.items] == [(2, ERASED, ()), (3, ERASED, ())]
    for text in ("lead-7", "Lead 7", "campaign", "Lead 8"):
        assert text not in erased.body()
    operation = operation_of(used())
    assert operation
    assert operation.digests == digests


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (lambda it: replace(it, items=it.items[:1]), "the amount is not the sum of the items"),
        (
            lambda it: replace(it, items=(*it.items, UsageItem("lead-9", 0, "Nothing"))),
            "an item takes no credits",
        ),
        (
            lambda it: replace(it, items=(it.items[0], it.items[1]._replace(key="lead-7"))),
            "its items are too many, or have a key twice",
        ),
    ],
)
def test_a_line_whose_items_do_not_add_up_is_found(
    forge: Callable[[LedgerEntry], LedgerEntry], reason: str
) -> None:
    with pytest.raises(LedgerCorrupt) as found:
        verify("42", [StoredLine(1, GRANT.body(), GRANTED.last_hash), line_of(forge(used()))])
    assert (found.value.number, found.value.reason) == (2, reason)


def test_more_items_than_a_transaction_has_room_for_are_found() -> None:
    grant = ledger.grant(
        Account("42"), 100, Request("manual#1", "ada", "Gift"), NOW, "Europe/Paris", None
    )
    sealed = entry_hash(FIRST_HASH, "42", grant.body())
    for number, is_right in ((MOST_ITEMS, True), (MOST_ITEMS + 1, False)):
        items = [UsageItem(f"k{place}", 1, "Lead") for place in range(number)]
        entry = ledger.use_many(Account("42", grant, sealed), items, WHY, NOW)
        body = entry.body()
        lines = [
            StoredLine(1, grant.body(), sealed),
            StoredLine(2, body, entry_hash(sealed, "42", body)),
        ]
        if is_right:
            assert verify("42", lines).ledger_balance == 10
        else:
            with pytest.raises(LedgerCorrupt, match="its items are too many"):
                verify("42", lines)


def test_only_a_usage_has_items() -> None:
    claw_back = ledger.claw_back(GRANTED, 5, Request("manual#2", "ada", "Oops"), NOW)
    with pytest.raises(LedgerCorrupt, match="it has the items of a usage, but is not a usage"):
        verify(
            "42",
            [
                StoredLine(1, GRANT.body(), GRANTED.last_hash),
                line_of(replace(claw_back, items=ITEMS)),
            ],
        )


@pytest.mark.parametrize(
    "items",
    ['[["k",1]]', '[["k","1","x"]]', '[[1,1,"x"]]', '[["k",1,2]]', '[["k",1,"x",{"K":"v"}]]', "5"],
)
def test_a_line_with_damaged_items_cannot_be_read(items: str) -> None:
    body = used().body()
    start = body.index('"items":')
    with pytest.raises(LedgerCorrupt, match="the body cannot be read \\(items"):
        LedgerEntry.from_body("42", 2, f'{body[:start]}"items":{items}}}')
