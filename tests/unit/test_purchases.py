"""What a payment has bought, and what becomes of it: the decisions, their lines and their audit."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from chalicelib.domain import ledger
from chalicelib.domain.batches import CreditBatch, Leg, Source
from chalicelib.domain.entries import (
    ERASED,
    FIRST_HASH,
    EntryType,
    LedgerEntry,
    Refund,
    digests_of,
    entry_hash,
    without_texts,
)
from chalicelib.domain.errors import InvalidInput, LedgerCorrupt, NotAllowed, OutdatedEdit
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import MOST_OPEN_BATCHES, Account, Request
from chalicelib.domain.notifications import MailKind, kind_of
from chalicelib.domain.prices import HIGHEST_PRICE, Price, parse_price
from chalicelib.domain.verification import (
    Link,
    Marker,
    Operation,
    StoredLine,
    check_links,
    check_markers,
    operation_of,
    verify,
)

USER = "42"
ZONE = "Europe/Paris"
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return parse_instant("at", text)


START = at("2026-07-01T10:00:00Z")


class Book:
    """A ledger that is written line by line; its purchase is entry 1, of 100 credits."""

    def __init__(self, amount: int = 100, days: int | None = None) -> None:
        self.entries: list[LedgerEntry] = []
        self.now = START
        self.links: list[Link] = []
        why = Request("purchase#pi_1", "till", "Pack of 100")
        price = Price(990, "EUR")
        self.post(ledger.purchase(self.account, amount, price, why, self.now, ZONE, days))

    @property
    def account(self) -> Account:
        return Account(USER, self.entries[-1]) if self.entries else Account(USER)

    @property
    def bought(self) -> LedgerEntry:
        return self.entries[0]

    @property
    def stands(self) -> Refund | None:
        found = [entry.refund for entry in self.entries if entry.refund]
        return found[-1] if found else None

    def post(self, entry: LedgerEntry | None) -> LedgerEntry:
        assert entry is not None
        self.entries.append(entry)
        return entry

    def why(self, kind: str) -> Request:
        return Request(f"{kind}#shop#{len(self.entries)}", "shop", "Because")

    def use(self, amount: int) -> LedgerEntry:
        return self.post(ledger.use(self.account, amount, self.why("usage"), self.now))

    def hold(self, amount: int, seconds: int = 600) -> LedgerEntry:
        why = self.why("hold")
        return self.post(ledger.hold(self.account, amount, seconds, why, self.now, lambda: ZONE))

    def report(
        self, in_all: int, observed_at: datetime | None = None
    ) -> tuple[LedgerEntry | None, int]:
        """What a report comes to, and what had expired of it."""
        why = Request("refund#pi_1", "till", "Asked for it")
        batch = self.bought.granted_batch
        assert batch
        found = ledger.refund(self.account, batch, self.stands, in_all, observed_at, why, self.now)
        if found is None:
            return None, 0
        self.post(found.entry)
        number = found.entry.number
        self.links.append(Link(1, len(self.links) + 1, in_all, number, found.expired))
        return found

    def refund(self, in_all: int, observed_at: datetime | None = None) -> tuple[int, int, int]:
        """What it moves, what is unrecovered then, and what had expired."""
        entry, expired = self.report(in_all, observed_at)
        assert entry is not None
        assert entry.refund is not None
        return entry.amount, entry.refund.unrecovered, expired

    def lines(self) -> list[StoredLine]:
        return sealed(self.entries)

    def verified(self) -> "Book":
        """This book, which must verify, with its links."""
        account = verify(USER, self.lines())
        assert account.last == self.entries[-1]
        check_links(USER, self.operations(), markers(self.operations()), self.links)
        return self

    def operations(self) -> list[Operation]:
        return [it for entry in self.entries if (it := operation_of(entry))]


def sealed(entries: list[LedgerEntry]) -> list[StoredLine]:
    lines = []
    last_hash = FIRST_HASH
    for entry in entries:
        body = entry.body()
        last_hash = entry_hash(last_hash, USER, body)
        lines.append(StoredLine(entry.number, body, last_hash))
    return lines


def markers(operations: list[Operation]) -> dict[str, Marker]:
    return {
        digest: Marker(digest, "request", USER, operation.number, 0)
        for operation in operations
        for digest in operation.digests
    }


# --- Purchases ----------------------------------------------------------------------------------


def test_a_purchase_grants_a_batch_that_never_expires_and_is_used_after_those_of_the_plan() -> None:
    entry = Book().verified().bought
    assert (entry.type, entry.amount, entry.legs) == (EntryType.PURCHASE, 100, (Leg(1, 100),))
    assert entry.batches == (CreditBatch(1, 100, 100, START, None, 60, Source.PURCHASE),)
    assert (entry.price, entry.payment_id) == (Price(990, "EUR"), "pi_1")
    assert kind_of(entry, None) is MailKind.PURCHASE


def test_a_purchase_may_expire_at_a_midnight_after_so_many_days() -> None:
    entry = Book(days=30).verified().bought
    assert entry.granted_batch
    assert entry.granted_batch.expires_at == at("2026-07-31T22:00:00Z")
    assert entry.sweep_at == entry.granted_batch.expires_at


def test_a_purchase_is_refused_where_too_many_batches_are_open() -> None:
    book = Book()
    batches = tuple(
        CreditBatch(number, 1, 1, START, None) for number in range(1, MOST_OPEN_BATCHES + 1)
    )
    full = Account(USER, replace(book.bought, batches=batches))
    with pytest.raises(NotAllowed, match="already has 1000 open credit batches"):
        ledger.purchase(full, 1, None, book.why("purchase"), START, ZONE)


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ({"amount": 0, "currency": "EUR"}, Price(0, "EUR")),
        ({"amount": 990, "currency": "eur"}, Price(990, "EUR")),
        ({"amount": HIGHEST_PRICE, "currency": "Jpy"}, Price(HIGHEST_PRICE, "JPY")),
    ],
)
def test_a_price_is_whole_minor_units_of_a_currency_in_capitals(
    value: object, price: Price
) -> None:
    assert parse_price("price", value) == price


@pytest.mark.parametrize(
    ("value", "errors"),
    [
        (5, ["price"]),
        ({}, ["price.amount", "price.currency"]),
        ({"amount": -1, "currency": "EUR"}, ["price.amount"]),
        ({"amount": 9.9, "currency": "EUR"}, ["price.amount"]),
        ({"amount": HIGHEST_PRICE + 1, "currency": "EUR"}, ["price.amount"]),
        ({"amount": True, "currency": "EURO"}, ["price.amount", "price.currency"]),
        ({"amount": 1, "currency": "E R"}, ["price.currency"]),
        ({"amount": 1, "currency": 978}, ["price.currency"]),
        ({"amount": 1, "currency": "EUR", "tax": 1}, ["price.tax"]),
    ],
)
def test_a_price_of_another_kind_is_refused_and_each_wrong_place_named(
    value: object, errors: list[str]
) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_price("price", value)
    assert [error.field for error in refused.value.errors] == errors


def test_a_price_is_refused_with_what_it_must_be() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_price("price", {"amount": -1, "currency": "E\nR"})
    assert [error.message for error in refused.value.errors] == [
        "must be a whole number of minor units from 0 to 1,000,000,000,000; is -1 (int)",
        "must be the three letters of a currency, EUR; is 'E\\nR'",
    ]


# --- Refunds ------------------------------------------------------------------------------------


def test_a_refund_takes_the_difference_to_what_was_taken_before() -> None:
    book = Book()
    assert book.refund(30) == (-30, 0, 0)
    assert book.refund(100) == (-70, 0, 0)
    assert book.verified().account.ledger_balance == 0
    assert book.stands == Refund(1, 100, 0)
    assert [kind_of(entry, None) for entry in book.entries[1:]] == [MailKind.REFUND] * 2


def test_what_was_spent_is_unrecovered_and_no_balance_falls_below_zero() -> None:
    book = Book()
    book.use(80)
    assert book.refund(100) == (-20, 80, 0)
    assert book.verified().account.ledger_balance == 0


def test_where_nothing_is_left_the_line_says_what_is_unrecovered_and_nobody_is_told() -> None:
    book = Book()
    book.use(100)
    assert book.refund(40) == (0, 40, 0)
    entry = book.verified().entries[-1]
    assert (entry.legs, kind_of(entry, None)) == ((), None)


def test_a_refund_takes_from_no_other_batch() -> None:
    book = Book()
    grant = ledger.grant(book.account, 50, book.why("manual"), START, ZONE, None, priority=70)
    book.post(grant)
    book.use(90)
    assert book.refund(100) == (-10, 90, 0)
    assert {batch.number: batch.remaining for batch in book.verified().account.batches} == {2: 50}


def test_a_refund_leaves_what_is_held_until_the_hold_is_over() -> None:
    book = Book()
    book.hold(60)
    assert book.refund(100) == (-40, 60, 0)
    book.now += timedelta(seconds=600)
    assert book.report(100) == (None, 0)  # nothing new, so it does not take the rest either
    assert book.verified().account.available_balance(book.now) == 60


def test_a_report_of_more_takes_what_an_earlier_one_could_not() -> None:
    book = Book()
    book.hold(60)
    assert book.refund(90) == (-40, 50, 0)
    book.now += timedelta(seconds=600)
    assert book.refund(91) == (-51, 0, 0)
    assert book.verified().account.ledger_balance == 9


def test_credits_that_came_back_to_the_batch_can_be_taken_by_a_later_report() -> None:
    book = Book()
    usage = book.use(100)
    assert book.refund(50) == (0, 50, 0)
    back = ledger.reverse(book.account, usage, book.bought, 0, 70, book.why("reversal"), book.now)
    book.post(back.entry)
    assert book.refund(60) == (-60, 0, 0)
    assert book.account.ledger_balance == 10
    verify(USER, book.lines())


def test_the_same_seen_again_later_takes_nothing_that_came_back_meanwhile() -> None:
    book = Book()
    usage = book.use(100)
    assert book.refund(50, START) == (0, 50, 0)
    back = ledger.reverse(book.account, usage, book.bought, 0, 70, book.why("reversal"), book.now)
    book.post(back.entry)
    assert book.refund(50, START + DAY) == (0, 50, 0)
    assert book.refund(40, START + 2 * DAY) == (0, 40, 0)  # less than before takes nothing either
    assert book.account.ledger_balance == 70
    verify(USER, book.lines())


def test_two_reports_of_one_instant_count_both() -> None:
    book = Book()
    book.refund(30, START)
    assert book.refund(50, START) == (-20, 0, 0)
    verify(USER, book.lines())


def test_less_than_before_gives_back_what_was_taken_and_no_more() -> None:
    book = Book()
    book.use(80)
    assert book.refund(100) == (-20, 80, 0)
    assert book.refund(50) == (0, 30, 0)  # 20 were taken, and 50 are still refunded
    assert book.refund(15) == (5, 0, 0)
    assert book.refund(0) == (15, 0, 0)
    assert book.verified().account.ledger_balance == 20
    assert kind_of(book.entries[-1], None) is MailKind.REFUND


def test_what_is_given_back_to_an_expired_batch_stays_expired_and_is_told() -> None:
    book = Book(days=1)
    assert book.refund(60) == (-60, 0, 0)
    book.now += 3 * DAY
    assert book.refund(10) == (0, 0, 50)
    assert book.refund(100) == (0, 90, 0)  # what has expired cannot be taken
    assert book.refund(10) == (0, 0, 0)
    book.post(ledger.expire(book.account, book.now))
    assert book.verified().account.ledger_balance == 0


@pytest.mark.parametrize("observed_at", [None, START])
def test_a_report_that_says_nothing_new_makes_no_line(observed_at: datetime | None) -> None:
    book = Book()
    book.refund(30, observed_at)
    assert book.report(30, observed_at) == (None, 0)
    assert book.report(30) == (None, 0)


def test_the_first_report_makes_a_line_though_it_moves_nothing() -> None:
    book = Book()
    assert book.refund(0) == (0, 0, 0)
    assert book.report(0) == (None, 0)
    book.verified()


SEEN = START + timedelta(milliseconds=250)
KNOWN = (
    "^what is known of the payment's refunds was observed at 2026-07-01T10:00:00.250Z, after what "
    "this report saw$"
)


def test_a_report_that_saw_less_than_the_newest_one_is_refused() -> None:
    book = Book()
    book.refund(30, SEEN)
    with pytest.raises(OutdatedEdit, match=KNOWN):
        book.report(20, START - DAY)
    with pytest.raises(OutdatedEdit):
        book.report(30, START - DAY)
    assert book.refund(20) == (10, 0, 0)  # nobody said when
    assert book.stands == Refund(1, 20, 0, SEEN)
    with pytest.raises(OutdatedEdit):
        book.report(90, START - DAY)
    assert book.refund(90, SEEN) == (-70, 0, 0)


def test_reports_in_any_order_end_as_the_newest_one_says() -> None:
    """A dispute takes the money at 10 and is won at 12, and what was seen at 11 comes last."""
    book = Book()
    book.refund(0, START + timedelta(hours=2))
    for hours, in_all in ((0, 100), (1, 100)):
        with pytest.raises(OutdatedEdit):
            book.report(in_all, START + timedelta(hours=hours))
    other = Book()
    other.refund(100, START)
    other.refund(0, START + timedelta(hours=2))
    other.refund(0, START + timedelta(hours=3))  # the same, seen later: a line that moves nothing
    with pytest.raises(OutdatedEdit):
        other.report(100, START + timedelta(hours=2))
    assert book.verified().account.ledger_balance == 100
    assert other.verified().account.ledger_balance == 100


def test_more_than_was_bought_is_not_refunded() -> None:
    with pytest.raises(NotAllowed, match="bought 100 credits; 101 of them cannot be refunded"):
        Book().report(101)


def test_what_is_given_back_opens_no_more_batches_than_are_allowed() -> None:
    book = Book(1)
    book.refund(1)
    batches = tuple(
        CreditBatch(number, 1, 1, START, None) for number in range(9, MOST_OPEN_BATCHES + 9)
    )
    book.entries[-1] = replace(book.entries[-1], batches=batches)
    with pytest.raises(NotAllowed, match="would have 1001 open credit batches"):
        book.report(0)


class Life(Book):
    """A book in which anything happens, and what was taken back of its purchase by its own sums."""

    def __init__(self, days: int | None) -> None:
        super().__init__(days=days)
        self.taken = 0
        self.used: list[tuple[LedgerEntry, LedgerEntry]] = []

    @property
    def free(self) -> int:
        """What can be taken: there is one batch alone."""
        return self.account.available_balance(self.now)

    def wait(self, days: int) -> None:
        self.now += days * DAY

    def spend(self, amount: int) -> None:
        if amount <= self.free:
            before = self.entries[-1]
            self.used.append((self.use(amount), before))

    def earmark(self, amount: int) -> None:
        if amount <= self.free:
            self.hold(amount)

    def claw(self, amount: int) -> None:
        if amount <= self.free:
            self.post(ledger.claw_back(self.account, amount, self.why("manual"), self.now))

    def give_back(self, _amount: int) -> None:
        if self.used:
            usage, before = self.used.pop()
            why = self.why("reversal")
            back = ledger.reverse(self.account, usage, before, 0, None, why, self.now)
            self.post(back.entry)

    def reported(self, in_all: int) -> None:
        before, free = (self.stands.in_all if self.stands else 0), self.free
        entry, expired = self.report(in_all)
        if entry is not None:
            more = in_all - self.taken
            expected = min(more, free) if in_all > before else min(more, 0)
            assert -entry.amount - expired == expected
            self.taken += expected
            assert 0 <= self.taken <= in_all


STEPS = (Life.wait, Life.spend, Life.earmark, Life.claw, Life.give_back, Life.reported)


@settings(deadline=None, derandomize=True)
@given(
    some.sampled_from([None, 1, 3]),
    some.lists(some.tuples(some.sampled_from(STEPS), some.integers(1, 100)), max_size=12),
)
def test_whatever_happens_refunds_take_no_more_than_they_say_and_give_back_no_more_than_they_took(
    days: int | None, story: list[tuple[Callable[[Life, int], None], int]]
) -> None:
    life = Life(days)
    for step, size in story:
        step(life, size)
    verify(USER, life.lines())
    of_payment = [
        each for each in life.operations() if each.type in (EntryType.PURCHASE, EntryType.REFUND)
    ]
    check_links(USER, of_payment, markers(of_payment), life.links)


# --- Their lines --------------------------------------------------------------------------------


def test_the_lines_are_read_as_they_were_written_and_others_keep_their_text() -> None:
    book = Book()
    book.refund(40, START)
    book.refund(30)
    for entry in book.entries:
        assert LedgerEntry.from_body(USER, entry.number, entry.body()) == entry
    assert book.bought.body().endswith(',"price":[990,"EUR"]}')
    assert book.entries[1].body().endswith(',"refund":[1,40,0,1782900000000]}')
    used = book.use(5).body()
    assert '"price"' not in used
    assert '"refund"' not in used


@pytest.mark.parametrize(
    ("place", "text"),
    [
        *(("price", text) for text in ("5", "[]", "[1]", '[1,"EUR",2]', '["1","EUR"]', "[1,2]")),
        *(("refund", text) for text in ("5", "[1,2,3]", "[1,2,3,null,4]", '[1,2,"3",null]')),
        *(("refund", text) for text in ('["1",2,3,null]', '[1,"2",3,null]')),
        *(("refund", f"[1,2,3,{text}]") for text in ("true", '"2026"', "1e99")),
    ],
)
def test_a_line_with_another_price_or_refund_cannot_be_read(place: str, text: str) -> None:
    book = Book()
    book.refund(40)
    entry = book.entries[0 if place == "price" else 1]
    written = entry.body()
    beginning, _, _ = written.partition(f',"{place}":')
    with pytest.raises(LedgerCorrupt, match=f"{place} "):
        LedgerEntry.from_body(USER, entry.number, f'{beginning},"{place}":{text}}}')


def test_an_erasure_takes_the_payment_and_leaves_the_numbers_and_what_it_is_known_by() -> None:
    book = Book()
    book.refund(40)
    for entry in book.entries:
        erased = without_texts(entry)
        assert (erased.payment_id, erased.description) == (None, ERASED)
        assert "pi_1" not in erased.body()
        assert (erased.price, erased.refund) == (entry.price, entry.refund)
        assert digests_of(erased) == digests_of(entry)
        assert without_texts(erased) == erased


# --- Their audit --------------------------------------------------------------------------------


def stories() -> Book:
    """2 uses 70, 3 refunds 60 (30 taken), 4 refunds 10 (20 back), 5 a grant."""
    book = Book(days=30)
    book.use(70)
    book.refund(60, START)
    book.refund(10, START + DAY)
    book.post(ledger.grant(book.account, 5, book.why("manual"), START + DAY, ZONE, None))
    return book.verified()


STORY = stories()


def with_refund(entry: LedgerEntry, **changes: Any) -> LedgerEntry:
    assert entry.refund
    return replace(entry, refund=entry.refund._replace(**changes))


def moved(entry: LedgerEntry, by: int, batch: int = 1, **refund: Any) -> LedgerEntry:
    """The same line, which moves a batch by so much more; its state adds up."""
    granted = {1: STORY.bought.batches[0]}
    left = {it.number: it for it in entry.batches}
    now = (left[batch].remaining if batch in left else 0) + by
    left[batch] = replace(left.get(batch, granted[1]), remaining=now)
    legs = {leg.batch: leg.amount for leg in entry.legs}
    legs[batch] = legs.get(batch, 0) + by
    return with_refund(
        replace(
            entry,
            amount=entry.amount + by,
            balance=entry.balance + by,
            legs=tuple(Leg(*leg) for leg in legs.items() if leg[1]),
            batches=tuple(it for it in left.values() if it.remaining),
        ),
        **refund,
    )


Forgery = Callable[[LedgerEntry], LedgerEntry]

FORGERIES: dict[str, tuple[int, Forgery, str]] = {
    "a purchase of a plan's credits": (
        1,
        lambda it: replace(it, batches=(replace(it.batches[0], source=Source.PLAN),)),
        "a purchase alone grants what was bought",
    ),
    "a grant by hand of what was bought": (
        1,
        lambda it: replace(it, type=EntryType.MANUAL, price=None),
        "a purchase alone grants what was bought",
    ),
    "a purchase that takes": (
        2,
        lambda it: replace(it, type=EntryType.PURCHASE),
        "a purchase grants a batch",
    ),
    "a usage with a refund": (
        2,
        lambda it: replace(it, refund=Refund(1, 1, 0)),
        "it says what was refunded, and is no refund, or the other way round",
    ),
    "a refund that does not say of what": (
        3,
        lambda it: replace(it, refund=None),
        "it says what was refunded, and is no refund, or the other way round",
    ),
    "a refund of what is no purchase": (
        3,
        lambda it: with_refund(it, purchase=2),
        "it names an entry that is not a purchase",
    ),
    "a refund of itself": (
        3,
        lambda it: with_refund(it, purchase=3),
        "it names an entry that is not a purchase",
    ),
    "a refund of more than was bought": (
        3,
        lambda it: with_refund(it, in_all=101, unrecovered=71),
        "it refunds what was never bought",
    ),
    "a refund of less than nothing": (
        4,
        lambda it: moved(it, 11, in_all=-1, unrecovered=0),
        "it refunds what was never bought",
    ),
    "more unrecovered than refunded": (
        4,
        lambda it: with_refund(it, unrecovered=11),
        "it says what cannot be unrecovered",
    ),
    "less unrecovered than nothing": (
        4,
        lambda it: with_refund(it, unrecovered=-1),
        "it says what cannot be unrecovered",
    ),
    "a refund that was seen before the one before": (
        4,
        lambda it: with_refund(it, observed_at=START - DAY),
        "it was observed before the refund before it",
    ),
    "a refund that forgets when it was seen": (
        4,
        lambda it: with_refund(it, observed_at=None),
        "it was observed before the refund before it",
    ),
    "a refund that takes less than it can": (
        3,
        lambda it: moved(it, 10, unrecovered=40),
        "it does not take back what it can",
    ),
    "a refund that is counted twice": (
        3,
        lambda it: with_refund(it, unrecovered=0),
        "it does not take back what it can",
    ),
    "a won dispute that gives back more than was taken": (
        4,
        lambda it: moved(it, 10, in_all=10, unrecovered=10),
        "it does not give back what was taken too much",
    ),
    "a won dispute that gives back less": (
        4,
        lambda it: moved(it, -5, in_all=10, unrecovered=0),
        "a refund moves its purchase's batch, and no other",
    ),
    "a refund that takes and does not say so": (
        3,
        lambda it: moved(it, 30),
        "a refund moves its purchase's batch, and no other",
    ),
}


@pytest.mark.parametrize(("number", "forge", "rule"), FORGERIES.values(), ids=FORGERIES)
def test_a_forged_line_is_refused_for_the_rule_it_breaks(
    number: int, forge: Forgery, rule: str
) -> None:
    forged = forge(STORY.entries[number - 1])
    with pytest.raises(LedgerCorrupt) as caught:
        verify(USER, sealed([*STORY.entries[: number - 1], forged]))
    assert (caught.value.number, caught.value.reason) == (number, rule)


def test_a_refund_from_another_batch_or_of_held_credits_is_refused() -> None:
    book = Book()
    book.post(ledger.grant(book.account, 50, book.why("manual"), START, ZONE, None, priority=70))
    book.hold(60)
    right, _ = book.report(70)
    assert right is not None
    held = with_refund(
        replace(
            right,
            amount=-70,
            balance=80,
            legs=(Leg(1, -70),),
            batches=tuple(
                replace(it, remaining=30) if it.number == 1 else it for it in right.batches
            ),
            holds=(replace(right.holds[0], legs=(Leg(1, 30),)),),
        ),
        unrecovered=0,
    )
    other = with_refund(
        replace(
            right,
            amount=-70,
            balance=80,
            legs=(Leg(1, -40), Leg(2, -30)),
            batches=tuple(
                replace(it, remaining=20) if it.number == 2 else it for it in right.batches
            ),
        ),
        unrecovered=0,
    )
    for forged in (held, other):
        with pytest.raises(LedgerCorrupt) as caught:
            verify(USER, sealed([*book.entries[:-1], forged]))
        assert caught.value.number == right.number


def test_a_refund_of_a_dead_batch_revives_nothing() -> None:
    book = Book(days=1)
    book.refund(60)
    book.now += 3 * DAY
    book.refund(10)
    revived = moved(book.entries[-1], 50)
    with pytest.raises(LedgerCorrupt, match="moves its purchase's batch, and no other"):
        verify(USER, sealed([*book.entries[:-1], revived]))


def test_a_refund_has_no_marker_and_a_purchase_has_one() -> None:
    operations = STORY.operations()
    found = markers(operations)
    check_markers(USER, operations, found)
    assert [len(operation.digests) for operation in operations] == [1, 1, 0, 0, 1]
    found.pop(operations[0].digests[0])
    with pytest.raises(LedgerCorrupt, match="its operation has no marker"):
        check_markers(USER, operations, found)


@pytest.mark.parametrize(
    "links",
    [
        [],
        STORY.links[:1],
        STORY.links[1:],
        [STORY.links[0], STORY.links[1]._replace(in_all=11)],
        [STORY.links[0], STORY.links[1]._replace(number=3)],
        [STORY.links[0], STORY.links[1]._replace(expired=1)],
        [*STORY.links, Link(1, 3, 10, 4)],
        [*STORY.links[:1], STORY.links[1]._replace(sequence=3)],
    ],
)
def test_links_that_do_not_agree_with_the_refunds_are_named_with_their_purchase(
    links: list[Link],
) -> None:
    operations = STORY.operations()
    check_links(USER, operations, markers(operations), reversed(STORY.links))
    with pytest.raises(LedgerCorrupt) as caught:
        check_links(USER, operations, markers(operations), links)
    assert (caught.value.user_id, caught.value.number) == (USER, 1)
    assert caught.value.reason == "the links of its refunds do not agree"


@pytest.mark.parametrize("schema", [1, 2])
def test_a_line_of_an_earlier_form_says_nothing_that_only_later_ones_do(schema: int) -> None:
    book = Book()
    book.hold(5)
    refunded, _ = book.report(40)
    assert refunded is not None
    plain = replace(refunded, batches=(), holds=(), refund=None, schema=schema)
    written = plain.body()[:-1] + ',"refund":[1,40,0,null],"price":[1,"EUR"],"metadata":{"a":"b"}}'
    if schema == 1:
        plain = replace(plain, correlation_id=None)
    assert LedgerEntry.from_body(USER, plain.number, written) == plain
    batches = '"batches":[[1,100,60,1782900000000,null,60,"purchase"]]'
    with pytest.raises(LedgerCorrupt, match="batches is malformed"):
        LedgerEntry.from_body(USER, 3, plain.body().replace('"batches":[]', batches))
