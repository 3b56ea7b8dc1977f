"""Holds: what they set aside, how they end, and what becomes of credits that expire meanwhile."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.batches import CreditBatch, Leg, Source
from chalicelib.domain.entries import EntryType, LedgerEntry, UsageItem, entry_hash, without_texts
from chalicelib.domain.errors import (
    CreditsError,
    HoldEnded,
    InsufficientCredits,
    LedgerCorrupt,
    NotAllowed,
    NotFound,
)
from chalicelib.domain.holds import MOST_SECONDS, Hold, expiring, within
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import MOST_HELD_LEGS, MOST_HOLDS, Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.verification import StoredLine, verify

USER = "42"
ZONE = "Europe/Paris"
MILLISECOND = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
START = parse_instant("at", "2026-07-01T10:00:00Z")
MIDNIGHT = parse_instant("at", "2026-07-02T22:00:00Z")
"""When credits granted at the start for a day are gone, in Paris."""


def zone() -> str:
    return ZONE


def no_zone() -> str:
    raise AssertionError("the timezone was asked for without need")


def why(operation: str) -> Request:
    return Request(operation, "shop", "A job")


@dataclass
class Book:
    """A ledger in memory, which every test verifies line by line."""

    account: Account = field(default_factory=lambda: Account(USER))
    lines: list[StoredLine] = field(default_factory=list)

    def post(self, entry: LedgerEntry) -> LedgerEntry:
        body = entry.body()
        sealed = entry_hash(self.account.last_hash, USER, body)
        self.lines.append(StoredLine(entry.number, body, sealed))
        self.account = Account(USER, LedgerEntry.from_body(USER, entry.number, body), sealed)
        assert verify(USER, self.lines) == self.account
        assert self.account.last == entry
        return entry

    def grant(
        self, amount: int, days: int | None = None, now: datetime = START, priority: int = 50
    ) -> LedgerEntry:
        why_ = why(f"manual#{self.account.next_number}")
        return self.post(
            ledger.grant(
                self.account, amount, why_, now, ZONE, Days(days) if days else None, priority
            )
        )

    def use(self, amount: int, now: datetime = START) -> LedgerEntry:
        why_ = why(f"usage#{self.account.next_number}")
        return self.post(ledger.use(self.account, amount, why_, now))

    def hold(
        self,
        amount: int,
        seconds: int = 3600,
        now: datetime = START,
        timezone: Callable[[], str] = no_zone,
    ) -> LedgerEntry:
        why_ = why(f"hold#{self.account.next_number}")
        return self.post(ledger.hold(self.account, amount, seconds, why_, now, timezone))

    def capture(
        self,
        number: int,
        amount: int,
        now: datetime = START,
        timezone: Callable[[], str] = no_zone,
        *,
        beyond_hold: bool = False,
    ) -> LedgerEntry:
        return self.post(
            ledger.capture(
                self.account,
                number,
                amount,
                why(f"end#{USER}-{number}"),
                now,
                timezone,
                beyond_hold=beyond_hold,
            )
        )

    def claw_back(
        self, amount: int, now: datetime = START, *, including_held: bool = False
    ) -> LedgerEntry:
        why_ = why(f"manual#{self.account.next_number}")
        return self.post(
            ledger.claw_back(self.account, amount, why_, now, including_held=including_held)
        )

    def void(
        self, batch: int, now: datetime = START, *, including_held: bool = False
    ) -> LedgerEntry:
        why_ = why(f"void#{self.account.next_number}")
        return self.post(ledger.void(self.account, batch, why_, now, including_held=including_held))

    def expire(self, now: datetime) -> LedgerEntry:
        entry = ledger.expire(self.account, now)
        assert entry is not None
        return self.post(entry)

    def available(self, now: datetime = START) -> int:
        return self.account.available_balance(now)

    @property
    def held(self) -> dict[int, dict[int, int]]:
        """What each hold sets aside of which batch."""
        return {hold.number: dict(hold.legs) for hold in self.account.holds}


@pytest.fixture
def book() -> Book:
    return Book()


# --- Setting aside ------------------------------------------------------------------------------


def test_a_hold_moves_no_credits_and_they_cannot_be_spent_otherwise(book: Book) -> None:
    book.grant(100)
    entry = book.hold(30)
    assert (entry.type, entry.amount, entry.balance, entry.legs) == (EntryType.HOLD, 0, 100, ())
    assert entry.opened_hold == Hold(2, (Leg(1, 30),), START + HOUR)
    assert entry.available_balance() == 70
    with pytest.raises(InsufficientCredits) as refused:
        book.use(71)
    assert (refused.value.requested, refused.value.available) == (71, 70)
    book.use(70)
    assert book.available() == 0
    assert book.held == {2: {1: 30}}


def test_credits_are_held_in_the_order_of_spending_and_never_twice(book: Book) -> None:
    book.grant(10)
    book.grant(20)
    book.hold(15)
    book.hold(15)
    assert book.held == {3: {1: 10, 2: 5}, 4: {2: 15}}
    with pytest.raises(InsufficientCredits):
        book.hold(1)


def test_a_usage_passes_over_what_is_held(book: Book) -> None:
    for _ in range(3):
        book.grant(10)
    book.hold(15)
    assert book.use(8).legs == (Leg(2, -5), Leg(3, -3))


def test_a_hold_that_is_not_covered_is_refused_whole(book: Book) -> None:
    book.grant(10)
    with pytest.raises(InsufficientCredits) as refused:
        book.hold(11)
    assert (refused.value.requested, refused.value.available) == (11, 10)


@pytest.mark.parametrize("amount", [0, -1])
def test_nobody_holds_less_than_a_credit(book: Book, amount: int) -> None:
    book.grant(10)
    with pytest.raises(ValueError, match="1 credit or more"):
        book.hold(amount)


def test_a_hold_ends_by_itself_to_the_millisecond_and_the_next_line_leaves_it_out(
    book: Book,
) -> None:
    book.grant(100)
    book.hold(30, seconds=60)
    end = START + timedelta(seconds=60)
    assert book.available(end - MILLISECOND) == 70
    assert book.available(end) == 100
    assert book.use(1, end - MILLISECOND).holds != ()
    assert book.use(99, end).holds == ()


def test_a_user_has_at_most_so_many_active_holds(book: Book) -> None:
    book.grant(1_000)
    book.hold(1, seconds=1)
    many = tuple(Hold(number, (Leg(1, 1),), START + HOUR) for number in range(3, MOST_HOLDS + 2))
    assert book.account.last
    last = replace(book.account.last, number=MOST_HOLDS + 2)
    book.account = Account(USER, replace(last, holds=(*last.holds, *many)))
    reason = (
        "^the user already has 100 active holds, the most allowed; capture or release some first$"
    )
    with pytest.raises(NotAllowed, match=reason):
        ledger.hold(book.account, 1, 60, why("hold#9"), START, no_zone)
    later = START + timedelta(seconds=1)
    assert len(ledger.hold(book.account, 1, 60, why("hold#9"), later, no_zone).holds) == MOST_HOLDS


def test_holds_set_aside_at_most_so_many_parts_of_batches() -> None:
    legs = tuple(Leg(number, 1) for number in range(1, 1_001))
    batches = tuple(CreditBatch(number, 4, 4, START, None) for number in range(1, 1_001))
    held = tuple(Hold(number, legs, START + HOUR) for number in (2_000, 2_001))
    entry = ledger.grant(Account(USER), 4, why("manual#1"), START, ZONE, None)
    account = Account(USER, replace(entry, number=2_001, batches=batches, holds=held))
    assert sum(len(hold.legs) for hold in held) == MOST_HELD_LEGS
    reason = (
        "^all holds of the user together would set aside more than 2000 parts of credit batches; "
        "capture or release some first$"
    )
    with pytest.raises(NotAllowed, match=reason):
        ledger.hold(account, 1, 60, why("hold#1"), START, no_zone)
    one_less = (held[0], replace(held[1], legs=legs[1:]))
    account = Account(USER, replace(entry, number=2_001, batches=batches, holds=one_less))
    opened = ledger.hold(account, 1, 60, why("hold#1"), START, no_zone)
    assert sum(len(hold.legs) for hold in opened.holds) == MOST_HELD_LEGS


# --- Ending -------------------------------------------------------------------------------------


def test_a_capture_is_a_usage_of_what_was_held_and_frees_the_rest_in_the_same_line(
    book: Book,
) -> None:
    book.grant(10)
    book.grant(40)
    book.hold(30)
    entry = book.capture(3, 12)
    assert (entry.type, entry.amount, entry.balance) == (EntryType.USAGE, -12, 38)
    assert entry.legs == (Leg(1, -10), Leg(2, -2))
    assert (entry.hold, entry.released, entry.holds) == (3, 18, ())
    assert entry.available_balance() == 38


def test_a_capture_of_all_that_is_held_releases_nothing(book: Book) -> None:
    book.grant(30)
    book.hold(30)
    entry = book.capture(2, 30)
    assert (entry.amount, entry.released, entry.batches) == (-30, 0, ())


def test_a_capture_takes_no_more_than_is_held(book: Book) -> None:
    book.grant(100)
    book.hold(30)
    with pytest.raises(NotAllowed) as refused:
        book.capture(2, 31)
    assert str(refused.value) == (
        "hold 42-2 holds 30 credits, and 31 are to be captured; say beyond_hold to take the rest "
        "from the available credits"
    )


def test_a_capture_beyond_the_hold_takes_the_rest_from_what_is_available(book: Book) -> None:
    book.grant(30)
    book.grant(100)
    book.hold(20)
    book.hold(50)
    entry = book.capture(3, 45, beyond_hold=True)
    # 20 held of batch 1; of what is left, the other hold has 10 of batch 1 and 40 of batch 2.
    assert entry.legs == (Leg(1, -20), Leg(2, -25))
    assert (entry.amount, entry.released) == (-45, 0)
    assert book.held == {4: {1: 10, 2: 40}}


def test_a_capture_beyond_the_hold_moves_a_batch_once(book: Book) -> None:
    book.grant(100)
    book.hold(20)
    assert book.capture(2, 45, beyond_hold=True).legs == (Leg(1, -45),)


def test_a_capture_beyond_the_hold_that_is_not_covered_takes_nothing(book: Book) -> None:
    book.grant(100)
    book.hold(20)
    book.hold(50)
    with pytest.raises(InsufficientCredits) as refused:
        book.capture(2, 51, beyond_hold=True)
    assert (refused.value.requested, refused.value.available) == (51, 50)
    assert len(book.account.holds) == 2


def test_a_capture_of_nothing_is_a_release(book: Book) -> None:
    book.grant(100)
    book.hold(30)
    entry = book.capture(2, 0)
    assert (entry.type, entry.amount, entry.legs) == (EntryType.RELEASE, 0, ())
    assert (entry.hold, entry.released, entry.available_balance()) == (2, 30, 100)


def test_a_hold_ends_once(book: Book) -> None:
    book.grant(100)
    book.hold(30)
    book.capture(2, 10)
    with pytest.raises(NotFound, match=r"^user 42 has no active hold 42-2$"):
        book.capture(2, 10)
    with pytest.raises(NotFound, match="no active hold 42-1"):
        book.capture(1, 0)


def test_a_hold_that_has_lapsed_cannot_be_captured_and_says_since_when(book: Book) -> None:
    book.grant(100)
    book.hold(30)
    book.capture(2, 30, START + HOUR - MILLISECOND)
    book.hold(30)
    with pytest.raises(HoldEnded) as refused:
        book.capture(4, 1, START + 2 * HOUR)
    assert (refused.value.ended, refused.value.at) == (
        "lapsed",
        format_instant(START + 2 * HOUR - MILLISECOND),
    )


def test_that_a_hold_has_ended_is_said_in_words() -> None:
    at = "2026-07-01T10:00:00Z"
    assert str(HoldEnded("lapsed", at)) == f"the hold lapsed at {at}"
    by = HoldEnded("captured", at, "42-7")
    assert str(by) == f"the hold was captured at {at} by transaction 42-7"


def test_a_captured_usage_is_given_back_as_any_usage(book: Book) -> None:
    book.grant(10)
    grant = book.grant(40)
    book.hold(30)
    usage = book.capture(3, 25)
    before = LedgerEntry.from_body(USER, 3, book.lines[2].body)
    reversal = ledger.reverse(book.account, usage, before, 0, 20, why("reversal#1"), START)
    book.post(reversal.entry)
    assert reversal.entry.legs == (Leg(2, 15), Leg(1, 5))
    assert grant.number == 2


# --- Batches that expire while they are held ----------------------------------------------------


def test_what_is_held_outlives_its_batch_and_what_is_not_is_booked_out(book: Book) -> None:
    book.grant(100, days=1)
    held = book.hold(30, seconds=3 * 24 * 3600, timezone=zone)
    assert book.available(MIDNIGHT) == 0
    assert book.expire(MIDNIGHT).legs == (Leg(1, -70),)
    assert ledger.expire(book.account, MIDNIGHT + DAY) is None
    captured = book.capture(2, 30, MIDNIGHT + 12 * HOUR)
    assert (captured.amount, captured.balance) == (-30, 0)
    assert held.expiry_timezone == ZONE


def test_an_expiration_passes_over_a_batch_of_which_all_is_held(book: Book) -> None:
    book.grant(30, days=1)
    book.grant(20, days=1)
    book.hold(30, seconds=3 * 24 * 3600, timezone=zone)
    assert book.expire(MIDNIGHT).legs == (Leg(2, -20),)


def test_what_a_hold_frees_in_an_expired_batch_is_dead(book: Book) -> None:
    book.grant(100, days=1)
    book.grant(5)
    book.hold(102, seconds=3 * 24 * 3600, timezone=zone)
    entry = book.capture(3, 90, MIDNIGHT, zone)
    assert (entry.released, entry.available_balance(), entry.balance) == (12, 5, 15)
    assert book.expire(MIDNIGHT).legs == (Leg(1, -10),)


def test_what_a_lapsed_hold_leaves_in_an_expired_batch_is_booked_out_then(book: Book) -> None:
    book.grant(100, days=1)
    book.hold(100, seconds=3 * 24 * 3600, timezone=zone)
    end = START + 3 * DAY
    assert ledger.expire(book.account, end - MILLISECOND) is None
    entry = book.expire(end)
    assert (entry.legs, entry.holds) == ((Leg(1, -100),), ())


@pytest.mark.parametrize(
    ("seconds", "is_swept"),
    [((MIDNIGHT - START).total_seconds(), False), ((MIDNIGHT - START).total_seconds() + 1, True)],
)
def test_only_a_hold_that_outlives_a_batch_is_swept_when_it_ends(
    book: Book,
    seconds: float,
    is_swept: bool,  # noqa: FBT001 - it reads as a table
) -> None:
    book.grant(100, days=1)
    entry = book.hold(30, int(seconds), timezone=zone if is_swept else no_zone)
    assert entry.sweep_at == (START + timedelta(seconds=seconds) if is_swept else None)


def test_an_end_that_frees_dead_credits_is_swept_at_once_and_another_is_not(book: Book) -> None:
    book.grant(100, days=1)
    book.hold(20, seconds=3 * 24 * 3600, timezone=zone)
    book.hold(20, seconds=3 * 24 * 3600, timezone=zone)
    assert book.capture(2, 5, MIDNIGHT - MILLISECOND).sweep_at is None
    assert book.capture(3, 5, MIDNIGHT, zone).sweep_at == MIDNIGHT


def test_the_release_of_a_single_credit_that_has_expired_is_swept_at_once(book: Book) -> None:
    book.grant(1, days=1)
    book.hold(1, seconds=3 * 24 * 3600, timezone=zone)
    assert book.capture(2, 0, MIDNIGHT, zone).sweep_at == MIDNIGHT


def test_of_two_holds_the_one_that_is_named_ends(book: Book) -> None:
    book.grant(100)
    book.hold(30)
    book.hold(20)
    assert book.capture(3, 20).holds == (Hold(2, (Leg(1, 30),), START + HOUR),)


def test_with_a_batch_expires_what_no_hold_keeps_then(book: Book) -> None:
    book.grant(100, days=1)
    book.hold(30, seconds=3 * 24 * 3600, timezone=zone)
    book.hold(20)
    (batch,) = book.account.batches
    assert expiring(batch, book.account.holds) == 70
    assert expiring(replace(batch, expires_at=None), book.account.holds) == 0


# --- Taking back what is held -------------------------------------------------------------------


def test_a_claw_back_takes_nothing_that_is_held_unless_told_so(book: Book) -> None:
    book.grant(100)
    book.hold(60)
    with pytest.raises(InsufficientCredits) as refused:
        book.claw_back(41)
    assert refused.value.available == 40
    entry = book.claw_back(50, including_held=True)
    assert (entry.amount, entry.balance, entry.including_held) == (-50, 50, True)
    assert book.held == {2: {1: 50}}
    assert book.capture(2, 50).amount == -50


def test_a_claw_back_that_need_not_touch_the_held_does_not(book: Book) -> None:
    book.grant(100)
    book.hold(60)
    entry = book.claw_back(40, including_held=True)
    assert (entry.including_held, entry.available_balance()) == (False, 0)
    assert book.held == {2: {1: 60}}


def test_a_claw_back_including_the_held_takes_the_free_first_and_the_latest_hold_loses(
    book: Book,
) -> None:
    book.grant(10)
    book.grant(100)
    book.hold(30)
    book.hold(50)
    entry = book.claw_back(75, including_held=True)
    assert dict(entry.legs) == {1: -10, 2: -65}
    assert book.held == {3: {2: 20}, 4: {2: 15}}


def test_what_is_free_of_a_batch_without_holds_is_clawed_back_before_the_held(book: Book) -> None:
    book.grant(20)
    book.hold(20)
    book.grant(10, priority=10)
    assert book.claw_back(15, including_held=True).legs == (Leg(3, -10), Leg(1, -5))
    assert book.held == {2: {1: 15}}


def test_more_than_is_there_is_not_clawed_back_from_holds_either(book: Book) -> None:
    book.grant(100)
    book.hold(60)
    with pytest.raises(InsufficientCredits) as refused:
        book.claw_back(101, including_held=True)
    assert (refused.value.requested, refused.value.available) == (101, 100)


def test_what_is_held_of_an_expired_batch_is_not_clawed_back(book: Book) -> None:
    book.grant(40, days=1)
    book.grant(10)
    book.hold(45, seconds=3 * 24 * 3600, timezone=zone)
    with pytest.raises(InsufficientCredits) as refused:
        book.claw_back(11, MIDNIGHT, including_held=True)
    assert refused.value.available == 10
    assert book.claw_back(10, MIDNIGHT, including_held=True).legs == (Leg(2, -10),)
    assert book.held == {3: {1: 40}}


def test_a_hold_from_which_all_was_taken_can_still_be_ended(book: Book) -> None:
    book.grant(10)
    book.hold(10)
    book.claw_back(10, including_held=True)
    assert book.held == {2: {}}
    book.grant(7)
    assert book.capture(2, 3, beyond_hold=True).legs == (Leg(4, -3),)


def test_what_is_left_is_clawed_back_with_or_without_the_held(book: Book) -> None:
    book.grant(100)
    book.hold(60)
    left = ledger.claw_back_what_is_left(book.account, 500, why("manual#9"), START)
    assert left.amount == -40
    everything = ledger.claw_back_what_is_left(
        book.account, 500, why("manual#9"), START, including_held=True
    )
    assert book.post(everything).amount == -100


def test_a_void_leaves_what_is_held_unless_told_so(book: Book) -> None:
    book.grant(100)
    book.hold(60)
    assert book.void(1).legs == (Leg(1, -40),)
    reason = "all that remains of batch 42-1 is held; say including_held to take it back"
    with pytest.raises(NotAllowed, match=f"^{reason}$"):
        book.void(1)
    entry = book.void(1, including_held=True)
    assert (entry.legs, entry.including_held) == ((Leg(1, -60),), True)
    assert book.held == {2: {}}


def test_a_void_of_a_batch_without_holds_is_no_matter_of_holds(book: Book) -> None:
    book.grant(100)
    assert not book.void(1, including_held=True).including_held


# --- Priority -----------------------------------------------------------------------------------


def test_the_lowest_priority_is_spent_first_and_then_the_oldest(book: Book) -> None:
    book.grant(10, priority=60)
    book.grant(10)
    book.grant(10)
    book.grant(10, priority=0)
    assert book.use(35).legs == (Leg(4, -10), Leg(2, -10), Leg(3, -10), Leg(1, -5))


# --- As it is stored ----------------------------------------------------------------------------


def test_the_lines_of_a_hold_and_its_capture_are_kept_as_exactly_these_texts(book: Book) -> None:
    book.grant(100)
    request = replace(why("hold#shop#j1"), metadata=(("campaign", "42"),))
    held = ledger.hold(book.account, 30, 60, request, START, no_zone)
    assert held.body() == (
        '{"schema":3,"number":2,"type":"hold","amount":0,"balance":100,'
        '"batches":[[1,100,100,1782900000000,null,50,"adjustment"]],"legs":[],"through":null,'
        '"operation":"hold#shop#j1","description":"A job","actor":"shop",'
        '"effective":1782900000000,"posted":1782900000000,"zone":null,"correlation":null,'
        '"holds":[[2,1782900060000,[[1,30]]]],"metadata":{"campaign":"42"}}'
    )
    book.post(held)
    captured = book.capture(2, 10)
    assert captured.body().endswith('"correlation":null,"hold":2,"released":20}')
    book.hold(5)
    assert (
        book.claw_back(90, including_held=True)
        .body()
        .endswith('"holds":[[4,1782903600000,[]]],"including_held":true}')
    )


def test_an_erased_line_has_no_metadata_and_keeps_its_holds(book: Book) -> None:
    book.grant(100)
    request = replace(why("hold#shop#j1"), metadata=(("email", "ada@example.com"),))
    held = ledger.hold(book.account, 30, 60, request, START, no_zone)
    erased = without_texts(held)
    assert (erased.metadata, erased.holds) == ((), held.holds)
    assert "ada@example.com" not in erased.body()


def test_why_a_line_of_form_3_cannot_be_read_is_said(book: Book) -> None:
    book.grant(100)
    request = replace(why("hold#1"), metadata=(("k", "v"),))
    body = ledger.hold(book.account, 30, 60, request, START, no_zone).body()
    for right, wrong, reason in (
        ('"holds":[[2,', '"holds":[["2",', "holds is no whole number"),
        ("[[1,30]]", "[[1]]", "holds is malformed"),
        ('"metadata":{"k":"v"}', '"metadata":{"k":1}', "metadata are not pairs of short texts"),
        ('"metadata":{"k":"v"}', '"metadata":["k"]', "metadata are not pairs of short texts"),
        ('50,"adjustment"', '101,"adjustment"', "batches has a priority that no batch has"),
        ('50,"adjustment"', '-1,"adjustment"', "batches has a priority that no batch has"),
        ('50,"adjustment"', '50,"gift"', "batches is unknown to this release"),
        ('null,50,"adjustment"', "null,50", "batches is malformed"),
    ):
        assert right in body
        with pytest.raises(LedgerCorrupt) as refused:
            LedgerEntry.from_body(USER, 2, body.replace(right, wrong))
        assert refused.value.reason == f"the body cannot be read ({reason})"


def test_a_line_of_an_earlier_form_has_none_of_it(book: Book) -> None:
    book.grant(100)
    book.hold(30)
    assert book.account.last
    old = replace(book.account.last, schema=2)
    assert '"holds"' not in old.body()
    assert '"adjustment"' not in old.body()


# --- What verification finds --------------------------------------------------------------------

Forgery = Callable[[LedgerEntry], LedgerEntry]


def forged(book: Book, entry: LedgerEntry) -> str:
    """What is said of a line whose hash is right, behind those of the book."""
    body = entry.body()
    line = StoredLine(entry.number, body, entry_hash(book.account.last_hash, USER, body))
    with pytest.raises(LedgerCorrupt) as found:
        verify(USER, [*book.lines, line])
    assert found.value.number == entry.number
    return found.value.reason


def _two_holds() -> Book:
    """40 of 100 held by entry 3, and 30 by entry 4; batch 1 expires at midnight, batch 2 never."""
    book = Book()
    book.grant(50, days=1)
    book.grant(50)
    book.hold(40, seconds=5 * 24 * 3600, timezone=zone)
    book.hold(30, seconds=5 * 24 * 3600, timezone=zone)
    return book


def _a_hold(book: Book) -> LedgerEntry:
    return ledger.hold(book.account, 10, 60, why("hold#9"), START, no_zone)


def _a_capture(book: Book) -> LedgerEntry:
    return ledger.capture(book.account, 3, 10, why("end#42-3"), START, no_zone)


def _all_and_more(book: Book) -> LedgerEntry:
    return ledger.capture(book.account, 3, 45, why("end#42-3"), START, no_zone, beyond_hold=True)


def _a_release(book: Book) -> LedgerEntry:
    return ledger.capture(book.account, 3, 0, why("end#42-3"), START, no_zone)


def _a_usage(book: Book) -> LedgerEntry:
    return ledger.use(book.account, 10, why("usage#9"), START)


def _a_claw_back(book: Book) -> LedgerEntry:
    return ledger.claw_back(book.account, 60, why("manual#9"), START, including_held=True)


def _a_claw_back_of_the_free(book: Book) -> LedgerEntry:
    return ledger.claw_back(book.account, 30, why("manual#9"), START)


def _a_grant(book: Book) -> LedgerEntry:
    return ledger.grant(book.account, 10, why("manual#9"), START, ZONE, None)


def _a_void(book: Book) -> LedgerEntry:
    return ledger.void(book.account, 2, why("void#9"), START, including_held=True)


def _an_expiration(book: Book) -> LedgerEntry:
    """What a sweep writes if it does not know of holds."""
    entry = ledger.expire(Account(USER, replace(_last(book), holds=())), MIDNIGHT)
    assert entry is not None
    return replace(entry, holds=book.account.holds)


def _last(book: Book) -> LedgerEntry:
    assert book.account.last is not None
    return book.account.last


def _opened(entry: LedgerEntry, **changes: Any) -> LedgerEntry:
    *others, opened = entry.holds
    return replace(entry, holds=(*others, replace(opened, **changes)))


BROKEN: list[tuple[Callable[[Book], LedgerEntry], Forgery, str]] = [
    (_a_hold, lambda it: replace(it, holds=it.holds[:2]), "it opens a hold that it is not"),
    (_a_usage, lambda it: replace(it, holds=(*it.holds, Hold(5, (), START + HOUR))),
     "it opens a hold that it is not"),
    (_a_hold, lambda it: _opened(it, legs=(Leg(2, 31),)),
     "more is held of a batch than remains of it"),
    (_a_hold, lambda it: _opened(it, legs=(Leg(9, 1),)),
     "more is held of a batch than remains of it"),
    (_a_hold, lambda it: _opened(it, legs=(Leg(2, 0),)),
     "a hold sets nothing aside in a batch"),
    (_a_hold, lambda it: _opened(it, legs=()), "credits were not held oldest first"),
    (_a_hold, lambda it: _opened(it, expires_at=START),
     "it holds for a time that no hold has"),
    (_a_hold, lambda it: _opened(it, expires_at=START + 30 * DAY + MILLISECOND),
     "it holds for a time that no hold has"),
    (_a_hold, lambda it: replace(it, expiry_timezone=ZONE), "the zone of its expiry is wrong"),
    (_a_usage, lambda it: replace(it, holds=it.holds[1:]),
     "a hold left early, stayed too long, or is another"),
    (_a_usage, lambda it: replace(it, holds=it.holds[::-1]),
     "a hold left early, stayed too long, or is another"),
    (_a_usage, lambda it: _opened(it, expires_at=START + HOUR),
     "a hold left early, stayed too long, or is another"),
    (_a_usage, lambda it: replace(it, hold=9, released=0),
     "it ends a hold that is not active"),
    (_a_usage, lambda it: replace(it, including_held=True),
     "only a claw-back takes the held"),
    (_a_capture, lambda it: replace(it, hold=None, released=None),
     "a hold left early, stayed too long, or is another"),
    (_a_capture, lambda it: replace(it, hold=4),
     "a hold left early, stayed too long, or is another"),
    (_a_capture, lambda it: replace(it, released=29),
     "it does not release the rest of its hold"),
    (_a_capture, lambda it: replace(it, released=31),
     "it does not release the rest of its hold"),
    (_all_and_more, lambda it: replace(it, released=1),
     "it does not release the rest of its hold"),
    (_a_release, lambda it: replace(it, released=39), "it does not release what was held"),
    (_a_release, lambda it: replace(it, expiry_timezone=ZONE),
     "the zone of its expiry is wrong"),
    (_a_release, lambda it: _with(it, (Leg(1, -10),), {1: 40, 2: 50}),
     "a release moves no credits"),
    (_a_claw_back, lambda it: replace(it, including_held=False),
     "a hold left early, stayed too long, or is another"),
    (_a_claw_back, lambda it: replace(it, holds=it.holds[:1]),
     "a hold left that was not ended"),
    (_a_claw_back, lambda it: _opened(it, legs=(Leg(2, 1),)),
     "the holds did not keep what is left"),
    (_a_void, lambda it: replace(it, including_held=False),
     "a hold left early, stayed too long, or is another"),
    (_a_usage, lambda it: replace(it, released=0),
     "what it releases and what hold it ends do not go together"),
    (_a_capture, lambda it: replace(it, released=None),
     "what it releases and what hold it ends do not go together"),
    (_a_capture, lambda it: replace(it, items=(UsageItem("k", 10, "Lead"),)),
     "it has the items of a usage, but is not a usage"),
    (_a_grant, lambda it: replace(it, including_held=True),
     "only a claw-back takes the held"),
    (_a_claw_back_of_the_free, lambda it: replace(it, including_held=True),
     "credits were not taken oldest first"),
    (_an_expiration, lambda it: it, "more is held of a batch than remains of it"),
]  # fmt: skip


def test_a_line_that_breaks_a_rule_of_holds_is_found() -> None:
    for made, forge, reason in BROKEN:
        book = _two_holds()
        assert forged(book, forge(made(book))) == reason


def _with(entry: LedgerEntry, legs: tuple[Leg, ...], batches: dict[int, int]) -> LedgerEntry:
    """A line with other legs, and all that follows from them."""
    amount = sum(leg.amount for leg in legs)
    before = entry.balance - entry.amount
    known = {1: (50, START, MIDNIGHT), 2: (50, START, None)}
    return replace(
        entry,
        legs=legs,
        amount=amount,
        balance=before + amount,
        batches=tuple(
            CreditBatch(number, granted, left, granted_at, end, source=Source.ADJUSTMENT)
            for number, (granted, granted_at, end) in known.items()
            if (left := batches[number])
        ),
    )


def _taken_back(entry: LedgerEntry, legs: tuple[Leg, ...], batches: dict[int, int]) -> LedgerEntry:
    """The same, and what the holds keep after it."""
    other = _with(entry, legs, batches)
    return replace(other, holds=within(_last(_two_holds()).holds, other.batches))


def test_a_claw_back_that_takes_what_is_held_before_what_is_free_is_found() -> None:
    book = _two_holds()
    # 30 of batch 2 are free. All 50 of batch 1 are held, and then 20 of batch 2.
    honest = _a_claw_back(book)
    assert _taken_back(honest, (Leg(2, -30), Leg(1, -30)), {1: 20, 2: 20}) == honest
    for legs, batches in (
        ((Leg(1, -50), Leg(2, -10)), {1: 0, 2: 40}),
        ((Leg(2, -50), Leg(1, -10)), {1: 40, 2: 0}),
        ((Leg(1, -10),), {1: 40, 2: 50}),
    ):
        forgery = _taken_back(honest, legs, batches)
        assert forged(book, forgery) == "credits were not taken oldest first"


def test_what_is_held_of_an_expired_batch_is_taken_back_by_nobody() -> None:
    book = _two_holds()
    void = ledger.void(book.account, 1, why("void#9"), START, including_held=True)
    for entry, reason in (
        (_a_claw_back(book), "credits were not taken oldest first"),
        (void, "a void takes all of one batch and no other"),
    ):
        late = replace(entry, posted_at=MIDNIGHT, effective_at=MIDNIGHT)
        assert forged(book, late) == reason


def test_a_claw_back_of_the_held_takes_all_that_is_free_and_nothing_that_has_expired() -> None:
    book = Book()
    book.grant(20)
    book.hold(20, seconds=3 * 24 * 3600)
    book.grant(30, days=1)
    book.grant(30)
    # At midnight batch 3 is dead, batch 4 is free, and batch 1 is held.
    honest = ledger.claw_back(book.account, 40, why("manual#9"), MIDNIGHT, including_held=True)
    assert honest.legs == (Leg(4, -30), Leg(1, -10))
    first, dead, free = book.account.batches
    for legs, batches in (
        ((Leg(3, -30), Leg(1, -10)), (replace(first, remaining=10), free)),
        ((Leg(4, -30), Leg(3, -30), Leg(1, -10)), (replace(first, remaining=10),)),
    ):
        amount = sum(leg.amount for leg in legs)
        forgery = replace(honest, legs=legs, amount=amount, balance=80 + amount, batches=batches)
        assert forged(book, forgery) == "credits were not taken oldest first"
    assert dead.remaining == 30
    book.post(honest)


def test_an_adjustment_of_nothing_takes_nothing_that_is_held() -> None:
    book = Book()
    nothing = ledger.claw_back_what_is_left(book.account, 5, why("manual#1"), START)
    assert forged(book, replace(nothing, including_held=True)) == "only a claw-back takes the held"
    book.post(nothing)


def test_a_capture_beyond_its_hold_of_what_is_not_the_oldest_or_has_expired_is_found() -> None:
    book = Book()
    book.grant(50, days=1)
    book.grant(50)
    book.hold(20, seconds=3 * 24 * 3600, timezone=zone)
    reason = "what a capture took beyond its hold was not free, or not the oldest"
    capture = ledger.capture(book.account, 3, 45, why("end#9"), START, no_zone, beyond_hold=True)
    assert capture.legs == (Leg(1, -45),)
    later = _with(capture, (Leg(1, -20), Leg(2, -25)), {1: 30, 2: 25})
    assert forged(book, later) == reason
    dead = replace(capture, posted_at=MIDNIGHT, effective_at=MIDNIGHT)
    assert forged(book, dead) == reason


def test_a_usage_that_takes_other_credits_than_the_oldest_free_is_found() -> None:
    book = _two_holds()
    # 40 and 10 of batch 1 are held, and 20 of batch 2: the ten that are free are of batch 2.
    usage = _with(_a_usage(book), (Leg(1, -10),), {1: 40, 2: 50})
    assert forged(book, usage) == "more is held of a batch than remains of it"


def test_a_capture_of_other_credits_than_it_holds_is_found() -> None:
    book = _two_holds()
    capture = _with(_a_capture(book), (Leg(2, -10),), {1: 50, 2: 40})
    assert forged(book, capture) == "credits were not captured oldest first"
    beyond = _with(_all_and_more(book), (Leg(1, -39), Leg(2, -6)), {1: 11, 2: 44})
    assert forged(book, beyond) == "a capture leaves a part of what is held"


def test_a_capture_that_takes_more_of_a_batch_than_it_holds_of_it_is_found() -> None:
    book = Book()
    book.grant(30)
    book.grant(20)
    book.hold(20)
    book.hold(30)
    book.capture(3, 0)
    assert book.held == {4: {1: 10, 2: 20}}
    capture = ledger.capture(book.account, 4, 15, why("end#9"), START, no_zone)
    first, second = book.account.batches
    forgery = replace(capture, legs=(Leg(1, -15),), batches=(replace(first, remaining=15), second))
    assert forged(book, forgery) == "credits were not captured oldest first"


def test_a_capture_beyond_its_hold_that_takes_what_another_holds_is_found() -> None:
    book = _two_holds()
    beyond = _with(_all_and_more(book), (Leg(1, -45),), {1: 5, 2: 50})
    assert forged(book, beyond) == "more is held of a batch than remains of it"


def test_a_hold_of_other_credits_than_the_oldest_free_is_found() -> None:
    book = Book()
    book.grant(50)
    book.grant(50)
    entry = ledger.hold(book.account, 10, 60, why("hold#9"), START, no_zone)
    assert forged(book, _opened(entry, legs=(Leg(2, 10),))) == "credits were not held oldest first"


def test_a_lapsed_hold_that_stays_or_is_captured_is_found() -> None:
    book = Book()
    book.grant(50)
    book.hold(40, seconds=60)
    later = START + timedelta(seconds=60)
    usage = ledger.use(book.account, 10, why("usage#9"), later)
    stays = replace(usage, holds=book.account.holds)
    assert forged(book, stays) == "a hold left early, stayed too long, or is another"
    capture = ledger.capture(book.account, 2, 10, why("end#42-2"), START, no_zone)
    late = replace(capture, posted_at=later, effective_at=later)
    assert forged(book, late) == "it ends a hold that is not active"


def test_a_hold_that_moves_credits_is_found() -> None:
    book = Book()
    book.grant(50)
    entry = ledger.hold(book.account, 10, 60, why("hold#9"), START, no_zone)
    taken = replace(
        entry,
        amount=-10,
        balance=40,
        legs=(Leg(1, -10),),
        batches=(CreditBatch(1, 50, 40, START, None, source=Source.ADJUSTMENT),),
    )
    assert forged(book, taken) == "a hold moves no credits"


def test_an_adjustment_does_not_end_a_hold() -> None:
    book = _two_holds()
    entry = ledger.claw_back(book.account, 10, why("manual#9"), START)
    ended = replace(entry, hold=3, released=40, holds=entry.holds[1:])
    assert forged(book, ended) == "it ends a hold, and is neither a usage nor a release"


def test_an_end_that_leaves_dead_credits_names_the_zone_that_books_them_out() -> None:
    book = _two_holds()
    entry = ledger.capture(book.account, 3, 0, why("end#42-3"), MIDNIGHT, zone)
    assert entry.expiry_timezone == ZONE
    assert forged(book, replace(entry, expiry_timezone=None)) == "the zone of its expiry is wrong"


# --- Beside a model in which every credit is a thing of its own ---------------------------------


@dataclass
class Credit:
    """One credit: of a batch, and perhaps set aside by a hold."""

    batch: int
    rank: tuple[int, datetime, int]
    dies: datetime | None
    hold: int | None = None


class Purse:
    """What a user has, credit by credit: slow, and without any sums."""

    def __init__(self) -> None:
        self.credits: list[Credit] = []
        self.ends: dict[int, datetime] = {}

    def lapse(self, now: datetime) -> None:
        for credit in self.credits:
            if credit.hold is not None and self.ends[credit.hold] <= now:
                credit.hold = None

    def alive(self, credit: Credit, now: datetime) -> bool:
        return credit.dies is None or now < credit.dies

    def free(self, now: datetime) -> list[Credit]:
        self.lapse(now)
        there = [it for it in self.credits if it.hold is None and self.alive(it, now)]
        return sorted(there, key=lambda it: it.rank)

    def held(self, number: int) -> list[Credit]:
        return sorted((it for it in self.credits if it.hold == number), key=lambda it: it.rank)

    def lose(self, gone: list[Credit]) -> None:
        self.credits = [it for it in self.credits if all(it is not other for other in gone)]


class Story:
    """The ledger and the purse, which live through the same."""

    def __init__(self) -> None:
        self.book, self.purse, self.now = Book(), Purse(), START

    def go_on(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        self.purse.lapse(self.now)

    @property
    def free(self) -> list[Credit]:
        return self.purse.free(self.now)

    def grant(self, amount: int, choice: int) -> None:
        days, priority = (None, 1, 2, 3)[choice], (50, 50, 40, 60)[amount % 4]
        batch = self.book.grant(amount, days, self.now, priority).granted_batch
        assert batch
        rank = (priority, self.now, batch.number)
        for _ in range(amount):
            self.purse.credits.append(Credit(batch.number, rank, batch.expires_at))

    def use(self, amount: int, _: int) -> None:
        taken = self.free[:amount]
        self.book.use(amount, self.now)
        self.purse.lose(taken)

    def claw_back(self, amount: int, _: int) -> None:
        taken = self.free[:amount]
        self.book.claw_back(amount, self.now)
        self.purse.lose(taken)

    def claw_back_the_held(self, amount: int, choice: int) -> None:
        amount += len(self.free) if choice else 0
        held = [it for it in self.purse.credits if it.hold and self.purse.alive(it, self.now)]
        # Of a batch, the latest hold loses first.
        held.sort(key=lambda it: (it.rank, -(it.hold or 0)))
        taken = [*self.free, *held][:amount]
        self.book.claw_back(amount, self.now, including_held=True)
        self.purse.lose(taken)

    def void(self, amount: int, choice: int) -> None:
        numbers = [batch.number for batch in self.book.account.batches]
        number, including_held = numbers[amount % len(numbers)] if numbers else 0, choice > 1
        credits_ = self.purse.credits if including_held else self.free
        taken = [it for it in credits_ if it.batch == number]
        self.book.void(number, self.now, including_held=including_held)
        self.purse.lose(taken)

    def hold(self, amount: int, choice: int) -> None:
        number, chosen = self.book.account.next_number, self.free[:amount]
        lasts = (60, 7_200, 90_000, MOST_SECONDS)[choice]
        self.book.hold(amount, lasts, self.now, zone)
        self.purse.ends[number] = self.now + timedelta(seconds=lasts)
        for credit in chosen:
            credit.hold = number

    def capture(self, amount: int, choice: int, *, beyond: bool = False) -> None:
        active = [hold.number for hold in self.book.account.holds if hold.expires_at > self.now]
        number = active[choice % len(active)] if active else 0
        held, free = self.purse.held(number), self.free
        self.book.capture(number, amount, self.now, zone, beyond_hold=beyond)
        self.purse.lose([*held[:amount], *free[: max(0, amount - len(held))]])
        for credit in self.purse.held(number):
            credit.hold = None

    def capture_beyond(self, amount: int, choice: int) -> None:
        self.capture(amount, choice, beyond=True)

    def release(self, _: int, choice: int) -> None:
        self.capture(0, choice)

    def expire(self, _: int, __: int) -> None:
        entry = ledger.expire(self.book.account, self.now)
        if entry:
            self.book.post(entry)
        unheld = [credit for credit in self.purse.credits if credit.hold is None]
        self.purse.lose([credit for credit in unheld if not self.purse.alive(credit, self.now)])

    def check(self) -> None:
        account = self.book.account
        assert account.ledger_balance == len(self.purse.credits)
        assert account.available_balance(self.now) == len(self.free)
        for hold in account.holds:
            if self.now < hold.expires_at:
                held = Counter(credit.batch for credit in self.purse.held(hold.number))
                assert (dict(hold.legs), hold.amount) == (held, held.total())


STEPS = (
    *(["grant"] * 5 + ["hold"] * 5 + ["capture"] * 3 + ["capture_beyond"] * 2 + ["release", "use"]),
    *(["claw_back", "expire"] + ["claw_back_the_held"] * 2 + ["void"] * 2),
)


@pytest.mark.parametrize("seed", range(20))
def test_holds_do_what_a_purse_of_single_credits_does(seed: int) -> None:
    draw, story, happened = Random(seed), Story(), Counter[str]()
    for what in draw.choices(STEPS, k=60):
        story.go_on(draw.choice((*[0] * 9, 1, 3_600, 50_000, 100_000)))
        before, free = len(story.purse.credits), len(story.free)
        amount = draw.randint(1, 12)
        try:
            getattr(story, what)(amount, draw.randrange(4))
        except CreditsError:
            assert len(story.purse.credits) == before
            assert what not in ("use", "hold", "claw_back") or amount > free
        else:
            happened[what] += 1
        story.check()
    assert len(happened) >= 6, "else it is the story of little but refusals"


def test_an_expiration_is_named_by_its_instant_to_the_millisecond() -> None:
    """A batch that was carried over ends when it ended before."""
    book = Book()
    last = book.grant(20, days=1)
    (batch,) = last.batches
    end = MIDNIGHT + timedelta(milliseconds=7)
    carried = replace(last, batches=(replace(batch, expires_at=end),))
    expired = ledger.expire(Account(USER, carried), MIDNIGHT + DAY)
    assert expired is not None
    assert expired.operation == "expiration#2026-07-02T22:00:00.007Z"
