"""The cap of a plan: an allocation fills up what the user has, and says what it left out."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.languages import Language
from chalicelib.domain.ledger import AllocationTerms
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.notifications import MailKind, kind_of
from chalicelib.domain.subscriptions import next_allocation
from chalicelib.mails import facts
from chalicelib.mails.rendering import Frame, render
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.product import Product
from tests.registered import register
from tests.unit.test_holds import START, ZONE, Book, forged, why

JULY, AUGUST = Period(2026, 7), Period(2026, 8)
IN_AUGUST = START + timedelta(days=32)
FRAME = Frame(Product(), Language.ENGLISH, "https://u", "https://a")
PLAN = """
[[plans]]
id = "club"
name = "Club"
monthly_credits = 100
lowest = true
balance_cap = {}
"""


def allocated(book: Book, cap: int | None, amount: int = 100) -> LedgerEntry:
    entry = ledger.allocate(
        book.account, JULY, amount, ZONE, None, START, AllocationTerms(balance_cap=cap)
    )
    return book.post(entry)


def said(entry: LedgerEntry) -> tuple[int, int, int | None]:
    return entry.amount, entry.left_out, entry.balance_cap


@pytest.mark.parametrize(
    ("there", "cap", "expected"),
    [
        (400, None, (100, 0, None)),
        (400, 501, (100, 0, None)),
        (400, 500, (100, 0, None)),
        (400, 499, (99, 1, 499)),
        (400, 401, (1, 99, 401)),
        (400, 400, (0, 100, 400)),
        (400, 300, (0, 100, 300)),
    ],
)
def test_an_allocation_fills_up_to_the_cap_and_says_what_it_left_out(
    there: int, cap: int | None, expected: tuple[int, int, int | None]
) -> None:
    book = Book()
    book.grant(there)
    entry = allocated(book, cap)
    assert said(entry) == expected
    assert entry.balance == there + entry.amount


def test_a_first_allocation_is_capped_too() -> None:
    assert said(allocated(Book(), 40)) == (40, 60, 40)
    assert said(allocated(Book(), 1)) == (1, 99, 1)


def test_a_month_of_which_nothing_fits_is_over_and_has_no_batch() -> None:
    book = Book()
    book.grant(100)
    entry = allocated(book, 100)
    assert (entry.type, entry.legs, entry.granted_batch) == (EntryType.ALLOCATION, (), None)
    assert (entry.allocated_through, entry.operation) == (JULY, "allocation#2026-07")
    assert (entry.sweep_at, entry.expiry_timezone) == (None, None)


def test_held_credits_count_as_there() -> None:
    book = Book()
    book.grant(100)
    book.hold(90)
    assert said(allocated(book, 150)) == (50, 50, 150)


def test_expired_credits_count_as_gone_also_while_they_are_held() -> None:
    book = Book()
    book.grant(100, days=1)
    book.hold(30, seconds=30 * 86_400, timezone=lambda: ZONE)
    late = START + timedelta(days=3)
    for period, cap, expected in (
        (JULY.previous(), 120, (100, 0, None)),
        (JULY, 140, (40, 60, 140)),
    ):
        terms = AllocationTerms(balance_cap=cap)
        entry = ledger.allocate(book.account, period, 100, ZONE, None, late, terms)
        assert said(book.post(entry)) == expected


def test_each_missed_month_is_capped_in_turn() -> None:
    book = Book()
    amounts = []
    for month in (5, 6, 7):
        asked = (Period(2026, month), 100, ZONE, None, IN_AUGUST)
        amounts.append(
            book.post(
                ledger.allocate(book.account, *asked, AllocationTerms(balance_cap=150))
            ).amount
        )
    assert amounts == [100, 50, 0]


def test_of_a_capped_part_the_credits_expire_as_of_a_whole_allocation() -> None:
    book = Book()
    book.grant(100)
    entry = ledger.allocate(
        book.account, JULY, 100, ZONE, Days(30), START, AllocationTerms(balance_cap=150)
    )
    assert book.post(entry).expiry_timezone == ZONE


def test_grants_by_hand_are_not_capped() -> None:
    book = Book()
    allocated(book, 100)
    assert book.grant(900).balance == 1_000


def test_an_entry_that_left_nothing_out_is_stored_as_ever() -> None:
    asked = (Book().account, JULY, 100, ZONE, Days(30), START)
    assert (
        ledger.allocate(*asked, AllocationTerms(balance_cap=100)).body()
        == ledger.allocate(*asked).body()
    )


def test_what_was_left_out_is_at_the_end_of_the_text() -> None:
    body = allocated(Book(), 40).body()
    assert body.endswith('"correlation":null,"left_out":60,"balance_cap":40}')
    for wrong in ("null", "true", "60.0", '"60"'):
        with pytest.raises(LedgerCorrupt, match="left_out is no whole number"):
            LedgerEntry.from_body("42", 1, body.replace("60,", f"{wrong},"))


# --- Forgeries ------------------------------------------------------------------------------------


def _part(book: Book) -> LedgerEntry:
    return ledger.allocate(
        book.account, JULY, 100, ZONE, None, START, AllocationTerms(balance_cap=150)
    )


def _none(book: Book) -> LedgerEntry:
    return ledger.allocate(
        book.account, JULY, 100, ZONE, None, START, AllocationTerms(balance_cap=90)
    )


def _usage(book: Book) -> LedgerEntry:
    return ledger.use(book.account, 10, why("usage#9"), START)


Made = Callable[[Book], LedgerEntry]
FULL = "it does not fill the balance up to its cap"
DISAGREE = "its cap and what it left out disagree"


@pytest.mark.parametrize(
    ("made", "forge", "rule"),
    [
        (_part, lambda it: replace(it, balance_cap=149), FULL),
        (_part, lambda it: replace(it, balance_cap=151), FULL),
        (_none, lambda it: replace(it, balance_cap=101), FULL),
        (_part, lambda it: replace(it, left_out=0), DISAGREE),
        (_part, lambda it: replace(it, balance_cap=None), DISAGREE),
        (_none, lambda it: replace(it, left_out=-1), "an allocation grants a batch"),
        (_none, lambda it: replace(it, left_out=0, balance_cap=None),
         "an allocation grants a batch"),
        (_part, lambda it: replace(it, left_out=-50), "it leaves out what no allocation does"),
        (_none, lambda it: replace(it, balance_cap=0), "it leaves out what no allocation does"),
        (_usage, lambda it: replace(it, left_out=1, balance_cap=150),
         "only an allocation leaves credits out"),
    ],
)  # fmt: skip
def test_a_line_that_breaks_a_rule_of_the_cap_is_found(
    made: Made, forge: Callable[[LedgerEntry], LedgerEntry], rule: str
) -> None:
    book = Book()
    book.grant(100)
    book.hold(60)
    honest = made(book)
    assert forged(book, forge(honest)) == rule


def test_an_allocation_that_takes_and_says_that_it_left_out_is_found() -> None:
    book = Book()
    book.grant(100)
    taken = ledger.claw_back(book.account, 10, why("manual#9"), START)
    forgery = replace(
        taken,
        type=EntryType.ALLOCATION,
        allocated_through=JULY,
        operation="allocation#2026-07",
        left_out=110,
        balance_cap=90,
    )
    assert forged(book, forgery) == "an allocation moves its own batch, and no other"


# --- What is told of it ---------------------------------------------------------------------------


def told(entry: LedgerEntry) -> tuple[str, str, str]:
    mail = render(MailKind.ALLOCATION, facts.of_allocation(entry), FRAME)
    return mail.subject, mail.text, mail.html


def test_the_email_says_how_much_was_left_out_and_why() -> None:
    book = Book()
    book.grant(400)
    subject, text, html = told(allocated(book, 498))
    assert subject == "Your July credits are here"
    assert "We added 98 credits for July." in text
    why = "Monthly credits fill up what you have, reserved credits included, to 498 credits."
    assert why in text
    assert why.replace("498 ", "498\N{NO-BREAK SPACE}") in html
    assert "They do not expire." in text
    assert "Left out: 2 credits\n" in text
    assert "2\N{NO-BREAK SPACE}credits</td>" in html


def test_a_month_that_brought_nothing_is_told_and_says_nothing_of_an_expiry() -> None:
    book = Book()
    book.grant(400)
    entry = allocated(book, 400, amount=1)
    assert kind_of(entry, None) is MailKind.ALLOCATION
    subject, text, html = told(entry)
    assert subject == "No room for your July credits"
    assert "Left out: 1 credit\n" in text
    assert "expire" not in text
    assert "do not expire" not in html


def test_an_email_of_a_whole_allocation_says_nothing_of_a_cap() -> None:
    for text in told(allocated(Book(), None)):
        assert "left out" not in text.lower()


def test_the_next_allocation_says_up_to_what_it_fills() -> None:
    for line, cap in ((150, 150), ("1_000_000_000", 1_000_000_000), (1, 1)):
        catalogue = parse_catalogue(PLAN.format(line))
        subscription = register(
            {
                "user_id": "42",
                "timezone": ZONE,
                "plan": "club",
                "billing_interval": "yearly",
                "status": "active",
                "started_at": "2026-06-01T00:00:00Z",
            },
            catalogue,
            START,
        )
        upcoming = next_allocation(subscription, catalogue, None, START)
        assert upcoming is not None
        assert (upcoming.period, upcoming.amount, upcoming.balance_cap) == (AUGUST, 100, cap)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("0", "a whole number of 1 or more (leave it out for no cap), is 0"),
        ("-1", "a whole number of 1 or more (leave it out for no cap), is -1"),
        ("1.5", "a whole number of 1 or more (leave it out for no cap), is 1.5"),
        ("true", "a whole number of 1 or more (leave it out for no cap), is true"),
        ("1_000_000_001", "at most 1,000,000,000 (leave it out for no cap), is 1000000001"),
    ],
)
def test_a_cap_that_is_none_is_named_with_its_line(value: str, problem: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        parse_catalogue(PLAN.format(value))
    assert str(raised.value) == f"plans.toml, line 7: plans[0].balance_cap must be {problem}"
