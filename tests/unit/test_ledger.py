"""The ledger: what each decision writes, what it refuses, and the text a line is kept as."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import ledger
from chalicelib.domain.batches import CreditBatch, Leg, Source
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import (
    ERASED,
    FIRST_HASH,
    EntryType,
    LedgerEntry,
    digest_of,
    entry_hash,
    erased_hash,
    operation_digest,
    without_texts,
)
from chalicelib.domain.errors import CreditsError, InsufficientCredits, LedgerCorrupt, NotAllowed
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import MOST_OPEN_BATCHES, Account, Request, Reversal
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.verification import StoredLine, verify

NEW_YORK = "America/New_York"
JULY = Period(2026, 7)
MILLISECOND = timedelta(milliseconds=1)
MICROSECOND = timedelta(microseconds=1)
DAY = timedelta(days=1)


def at(text: str) -> datetime:
    return parse_instant("at", text)


def why(operation: str = "usage#app#1") -> Request:
    return Request(operation, "ada", "Because")


class Book:
    """A ledger in memory: what the store does, without a store."""

    def __init__(self) -> None:
        self.account = Account("42")
        self.entries: list[LedgerEntry] = []
        self.lines: list[StoredLine] = []

    def post(self, entry: LedgerEntry) -> LedgerEntry:
        body = entry.body()
        sealed = entry_hash(self.account.last_hash, "42", body)
        self.entries.append(entry)
        self.lines.append(StoredLine(entry.number, body, sealed))
        self.account = Account("42", entry, sealed)
        return entry

    def allocate(
        self, now: str, amount: int = 100, days: int | None = 30, period: Period = JULY
    ) -> LedgerEntry:
        return self.post(
            ledger.allocate(
                self.account, period, amount, NEW_YORK, Days(days) if days else None, at(now)
            )
        )

    def grant(self, now: str, amount: int, days: int | None = None) -> LedgerEntry:
        return self.post(
            ledger.grant(
                self.account, amount, why(), at(now), NEW_YORK, Days(days) if days else None
            )
        )

    def use(self, now: str, amount: int) -> LedgerEntry:
        return self.post(ledger.use(self.account, amount, why(), at(now)))

    def expire(self, now: str) -> LedgerEntry:
        entry = ledger.expire(self.account, at(now))
        assert entry is not None
        return self.post(entry)

    def reverse(
        self, now: str, usage: LedgerEntry, amount: int | None, reversed_before: int = 0
    ) -> Reversal:
        reversal = ledger.reverse(
            self.account,
            usage,
            self.entries[usage.number - 2],
            reversed_before,
            amount,
            why("reversal#app#1"),
            at(now),
        )
        self.post(reversal.entry)
        return reversal

    @property
    def remaining(self) -> dict[int, int]:
        """What the open batches hold, in burn-down order."""
        return {batch.number: batch.remaining for batch in self.account.batches}


@pytest.fixture
def book() -> Book:
    return Book()


# --- The account --------------------------------------------------------------------------------


def test_a_user_without_entries_has_an_empty_account() -> None:
    account = Account("42")
    assert account.batches == ()
    assert account.allocated_through is None
    assert account.next_number == 1
    assert account.ledger_balance == 0
    assert account.available_balance(at("2026-07-01T00:00:00Z")) == 0
    assert account.last_hash == "0" * 64


def test_the_last_entry_is_the_account(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    last = book.use("2026-07-02T00:00:00Z", 30)
    assert book.account.batches == last.batches
    assert book.account.allocated_through == JULY
    assert book.account.next_number == 3
    assert book.account.ledger_balance == 70
    assert book.account.available_balance(at("2026-07-31T04:00:00Z") - MILLISECOND) == 70
    assert book.account.available_balance(at("2026-07-31T04:00:00Z")) == 0


def test_an_entry_knows_its_name_its_batch_and_what_was_available_after_it(book: Book) -> None:
    grant = book.allocate("2026-07-01T04:00:00Z")
    usage = book.use("2026-07-02T00:00:00Z", 30)
    assert usage.transaction_id == "42-2"
    assert grant.granted_batch == grant.batches[0]
    assert usage.granted_batch is None
    assert usage.available_balance() == 70
    assert usage.available_balance(at("2026-07-31T04:00:00Z")) == 0


def test_time_is_kept_to_the_millisecond_and_never_runs_backwards(book: Book) -> None:
    now = at("2026-07-01T04:00:00Z")
    assert book.account.time(now + 999 * MICROSECOND) == now
    book.allocate("2026-07-01T04:00:00.007Z")
    posted = now + 7 * MILLISECOND
    assert book.account.time(now) == posted
    assert book.account.time(posted - MICROSECOND) == posted
    assert book.account.time(posted + MILLISECOND) == posted + MILLISECOND
    assert book.account.time(now + DAY + MICROSECOND) == now + DAY


@pytest.mark.parametrize(
    "decide",
    [
        lambda account, now: ledger.allocate(account, JULY.next(), 5, NEW_YORK, Days(30), now),
        lambda account, now: ledger.use(account, 5, why(), now),
        lambda account, now: ledger.claw_back(account, 5, why(), now),
        lambda account, now: ledger.grant(account, 5, why(), now, NEW_YORK, Days(30)),
        ledger.expire,
    ],
    ids=["allocate", "use", "claw back", "grant", "expire"],
)
def test_an_entry_is_never_posted_before_the_one_before_it(
    book: Book, decide: Callable[[Account, datetime], LedgerEntry]
) -> None:
    """The clocks of two machines differ; the batch that died by the last line stays dead."""
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-15T04:00:00Z", 10)
    last = book.use("2026-08-15T12:00:00.007Z", 1)
    entry = decide(book.account, last.posted_at - DAY * 40)
    assert entry.posted_at == last.posted_at
    assert entry.number == 4


def test_a_batch_that_died_by_the_last_line_cannot_be_taken_back_by_a_slow_clock(
    book: Book,
) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-15T04:00:00Z", 10)
    last = book.use("2026-08-15T12:00:00.007Z", 1)
    with pytest.raises(NotAllowed, match="batch 42-1 has expired"):
        ledger.void(book.account, 1, why("void#app#1"), last.posted_at - DAY * 40)


# --- Allocation ---------------------------------------------------------------------------------


def test_an_allocation_in_time_is_granted_due_and_posted_at_the_local_midnight() -> None:
    midnight = at("2026-07-01T04:00:00Z")
    entry = ledger.allocate(Account("42"), JULY, 100, NEW_YORK, Days(30), midnight)
    batch = CreditBatch(1, 100, 100, midnight, at("2026-07-31T04:00:00Z"))
    assert entry == LedgerEntry(
        user_id="42",
        number=1,
        type=EntryType.ALLOCATION,
        amount=100,
        balance=100,
        batches=(batch,),
        legs=(Leg(1, 100),),
        allocated_through=JULY,
        operation="allocation#2026-07",
        description="Monthly credits for 2026-07",
        actor="system",
        effective_at=midnight,
        posted_at=midnight,
        expiry_timezone=NEW_YORK,
    )


@pytest.mark.parametrize(
    ("posted", "granted", "expires"),
    [
        ("2026-07-01T04:07:00.001Z", "2026-07-01T04:00:00Z", "2026-07-31T04:00:00Z"),
        ("2026-07-02T03:59:59.999Z", "2026-07-01T04:00:00Z", "2026-07-31T04:00:00Z"),
        ("2026-07-02T04:00:00Z", "2026-07-02T04:00:00Z", "2026-08-01T04:00:00Z"),
        ("2026-07-18T14:00:00Z", "2026-07-18T04:00:00Z", "2026-08-17T04:00:00Z"),
        # The clocks go back on 1 November: the days of 24 hours that remain end an hour later.
        ("2026-10-15T14:00:00Z", "2026-10-15T04:00:00Z", "2026-11-14T05:00:00Z"),
    ],
)
def test_an_allocation_posted_late_counts_from_the_start_of_the_local_day(
    book: Book, posted: str, granted: str, expires: str
) -> None:
    entry = book.allocate(posted)
    assert entry.batches == (CreditBatch(1, 100, 100, at(granted), at(expires)),)
    assert entry.effective_at == at("2026-07-01T04:00:00Z")
    assert entry.posted_at == at(posted)


def test_credits_without_a_lifetime_never_expire_and_no_sweep_looks_for_them(book: Book) -> None:
    entry = book.allocate("2026-07-01T04:00:00Z", days=None)
    assert entry.batches[0].expires_at is None
    assert entry.expiry_timezone is None


def test_missed_periods_are_granted_one_by_one_and_each_keeps_its_own_due_instant(
    book: Book,
) -> None:
    for month in (3, 4, 5):
        book.allocate("2026-05-01T04:00:00Z", period=Period(2026, month))
    assert [entry.operation for entry in book.entries] == [
        "allocation#2026-03",
        "allocation#2026-04",
        "allocation#2026-05",
    ]
    assert [entry.effective_at for entry in book.entries] == [
        at("2026-03-01T05:00:00Z"),
        at("2026-04-01T04:00:00Z"),
        at("2026-05-01T04:00:00Z"),
    ]
    # All promised days are still to come, and the oldest period is spent first.
    assert {batch.granted_at for batch in book.account.batches} == {at("2026-05-01T04:00:00Z")}
    assert {batch.expires_at for batch in book.account.batches} == {at("2026-05-31T04:00:00Z")}
    assert [batch.number for batch in book.account.batches] == [1, 2, 3]
    assert book.account.ledger_balance == 300


@pytest.mark.parametrize("period", [JULY, JULY.previous(), JULY.plus(-12)])
def test_a_period_is_never_allocated_again_nor_one_before_it(book: Book, period: Period) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    with pytest.raises(NotAllowed, match=rf"^period {period} was allocated before$"):
        book.allocate("2026-08-01T04:00:00Z", period=period)
    assert book.allocate("2026-08-01T04:00:00Z", period=JULY.next()).allocated_through == (
        Period(2026, 8)
    )


def test_the_allocated_period_outlives_all_other_entries(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    usage = book.use("2026-07-02T00:00:00Z", 30)
    book.grant("2026-07-02T00:00:00Z", 5)
    book.reverse("2026-07-02T00:00:00Z", usage, 10)
    book.expire("2026-08-01T00:00:00Z")
    assert [entry.allocated_through for entry in book.entries] == [JULY] * 5


# --- Usage and claw-back ------------------------------------------------------------------------


def test_a_usage_takes_the_oldest_credits_and_says_from_where(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    entry = book.use("2026-07-03T00:00:00.123Z", 120)
    assert entry == LedgerEntry(
        user_id="42",
        number=3,
        type=EntryType.USAGE,
        amount=-120,
        balance=30,
        batches=(
            CreditBatch(2, 50, 30, at("2026-07-02T00:00:00Z"), None, source=Source.ADJUSTMENT),
        ),
        legs=(Leg(1, -100), Leg(2, -20)),
        allocated_through=JULY,
        operation="usage#app#1",
        description="Because",
        actor="ada",
        effective_at=at("2026-07-03T00:00:00.123Z"),
        posted_at=at("2026-07-03T00:00:00.123Z"),
        expiry_timezone=None,
    )


def test_an_allocation_posted_after_a_grant_of_the_same_day_is_spent_before_it(book: Book) -> None:
    book.grant("2026-07-01T15:00:00Z", 50)
    book.allocate("2026-07-01T16:00:00Z")
    assert book.use("2026-07-01T17:00:00Z", 120).legs == (Leg(2, -100), Leg(1, -20))


def test_a_claw_back_takes_credits_like_a_usage_in_the_admins_name(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    now = at("2026-07-03T00:00:00Z")
    entry = ledger.claw_back(book.account, 120, why("manual#api#7"), now)
    assert (entry.type, entry.amount, entry.balance) == (EntryType.MANUAL, -120, 30)
    assert entry.legs == (Leg(1, -100), Leg(2, -20))
    assert (entry.operation, entry.actor) == ("manual#api#7", "ada")
    assert entry.expiry_timezone is None


Take = Callable[[Account, int, Request, datetime], LedgerEntry]


def test_a_claw_back_of_what_is_left_takes_the_oldest_credits_that_are_usable(book: Book) -> None:
    now = at("2026-07-03T00:00:00Z")
    book.grant("2026-07-01T00:00:00Z", 50)
    book.grant("2026-07-02T00:00:00Z", 30)
    some = ledger.claw_back_what_is_left(book.account, 60, why("manual#api#7"), now)
    assert some == ledger.claw_back(book.account, 60, why("manual#api#7"), now)
    everything = ledger.claw_back_what_is_left(book.account, 81, why("manual#api#7"), now)
    assert everything == ledger.claw_back(book.account, 80, why("manual#api#7"), now)


def test_a_claw_back_of_what_is_left_where_nothing_is_says_that_it_was_asked_for(
    book: Book,
) -> None:
    granted = book.grant("2026-07-01T00:00:00Z", 50, days=1)
    now = at("2026-08-03T00:00:00Z")
    entry = book.post(ledger.claw_back_what_is_left(book.account, 60, why("manual#api#7"), now))
    assert (entry.type, entry.amount, entry.legs) == (EntryType.MANUAL, 0, ())
    assert (entry.balance, entry.batches) == (50, granted.batches), "what has expired is not taken"
    assert (entry.operation, entry.posted_at) == ("manual#api#7", now)


@pytest.mark.parametrize("take", [ledger.use, ledger.claw_back])
def test_all_that_is_available_can_be_taken_and_one_more_is_refused_whole(
    book: Book, take: Take
) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    now = at("2026-07-31T04:00:00Z")
    assert take(book.account, 150, why(), now - MILLISECOND).balance == 0
    with pytest.raises(
        InsufficientCredits, match=r"^151 credits were asked for, 150 are available$"
    ) as caught:
        take(book.account, 151, why(), now - MILLISECOND)
    assert (caught.value.requested, caught.value.available) == (151, 150)
    # At the very instant of its expiry the batch is worth nothing, swept or not.
    assert take(book.account, 50, why(), now).legs == (Leg(2, -50),)
    with pytest.raises(InsufficientCredits) as caught:
        take(book.account, 51, why(), now)
    assert (caught.value.requested, caught.value.available) == (51, 50)


def test_an_expired_batch_that_is_not_swept_yet_stays_in_the_balance_and_is_not_spent(
    book: Book,
) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    entry = book.use("2026-08-02T00:00:00Z", 20)
    assert entry.balance == 130
    assert entry.available_balance() == 30
    assert book.remaining == {1: 100, 2: 30}


# --- Expiration ---------------------------------------------------------------------------------


def test_expiry_books_out_exactly_the_dead_batches_and_is_due_when_the_last_of_them_died(
    book: Book,
) -> None:
    book.allocate("2026-07-01T04:00:00Z")  # dies on 31 July
    book.grant("2026-07-20T00:00:00Z", 5, days=2)  # dies on 22 July: day 19 is not over yet
    book.grant("2026-07-21T00:00:00Z", 7)  # never dies
    book.grant("2026-07-22T00:00:00Z", 9, days=30)  # dies on 21 August
    book.use("2026-07-23T00:00:00Z", 40)
    entry = book.expire("2026-07-31T04:02:00Z")
    assert entry == LedgerEntry(
        user_id="42",
        number=6,
        type=EntryType.EXPIRATION,
        amount=-65,
        balance=16,
        batches=(
            CreditBatch(3, 7, 7, at("2026-07-21T00:00:00Z"), None, source=Source.ADJUSTMENT),
            CreditBatch(
                4,
                9,
                9,
                at("2026-07-22T00:00:00Z"),
                at("2026-08-21T04:00:00Z"),
                source=Source.ADJUSTMENT,
            ),
        ),
        legs=(Leg(1, -60), Leg(2, -5)),
        allocated_through=JULY,
        operation="expiration#2026-07-31T04:00:00Z",
        description="Credits reached their expiry",
        actor="system",
        effective_at=at("2026-07-31T04:00:00Z"),
        posted_at=at("2026-07-31T04:02:00Z"),
        expiry_timezone=None,
    )
    assert ledger.expire(book.account, at("2026-08-21T03:59:59.999Z")) is None


def test_nothing_expires_before_its_instant(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    assert ledger.expire(book.account, at("2026-07-31T03:59:59.999Z")) is None
    assert ledger.expire(Account("42"), at("2026-07-31T04:00:00Z")) is None
    assert book.expire("2026-07-31T04:00:00Z").balance == 0


# --- Grants by hand -----------------------------------------------------------------------------


def test_a_grant_by_hand_counts_from_now_and_never_expires() -> None:
    now = at("2026-05-18T14:00:00.250Z")
    entry = ledger.grant(Account("42"), 50, why("manual#api#7"), now, NEW_YORK, None)
    assert entry == LedgerEntry(
        user_id="42",
        number=1,
        type=EntryType.MANUAL,
        amount=50,
        balance=50,
        batches=(CreditBatch(1, 50, 50, now, None, source=Source.ADJUSTMENT),),
        legs=(Leg(1, 50),),
        allocated_through=None,
        operation="manual#api#7",
        description="Because",
        actor="ada",
        effective_at=now,
        posted_at=now,
        expiry_timezone=None,
    )


@pytest.mark.parametrize(
    ("now", "days", "expires"),
    [
        ("2026-05-18T14:00:00Z", 30, "2026-06-18T04:00:00Z"),
        ("2026-05-01T04:00:00Z", 30, "2026-05-31T04:00:00Z"),
        ("2026-05-01T04:00:00Z", 1, "2026-05-02T04:00:00Z"),
        ("2026-05-01T04:00:00.001Z", 1, "2026-05-03T04:00:00Z"),
    ],
)
def test_a_grant_by_hand_can_expire_after_whole_local_days(
    now: str, days: int, expires: str
) -> None:
    entry = ledger.grant(Account("42"), 50, why(), at(now), NEW_YORK, Days(days))
    assert entry.batches == (
        CreditBatch(1, 50, 50, at(now), at(expires), source=Source.ADJUSTMENT),
    )
    assert entry.expiry_timezone == NEW_YORK


def test_the_thousandth_open_batch_is_the_last_that_is_granted_on_request(book: Book) -> None:
    assert MOST_OPEN_BATCHES == 1_000
    first = book.grant("2026-06-01T00:00:00Z", 1)
    many = tuple(replace(first.batches[0], number=number) for number in range(1, 1_000))
    now = at("2026-07-01T04:00:00Z")
    nearly = Account("42", replace(first, number=999, balance=999, batches=many))
    full = Account("42", ledger.grant(nearly, 1, why(), now, NEW_YORK, None))
    assert len(full.batches) == 1_000
    message = (
        "the user already has 1000 open credit batches, the most allowed on request; "
        "use, claw back or void some first"
    )
    with pytest.raises(NotAllowed, match=f"^{re.escape(message)}$"):
        ledger.grant(full, 1, why(), now, NEW_YORK, None)
    with pytest.raises(NotAllowed, match=f"^{re.escape(message)}$"):
        ledger.carry_over(full, 1, now, None, why(), now, NEW_YORK)
    # What is promised is granted all the same.
    assert ledger.allocate(full, JULY, 1, NEW_YORK, None, now).balance == 1_001


def test_reversals_open_no_more_batches_than_grants_may(book: Book) -> None:
    """Usages close batches and reversals open them again: in turn they would open any number."""
    first = book.grant("2026-06-01T00:00:00Z", 1)
    many = tuple(replace(first.batches[0], number=number) for number in range(1, 1_001))
    now = at("2026-07-01T04:00:00Z")
    full = Account("42", replace(first, number=1_000, balance=1_000, batches=many))
    usage = ledger.use(full, 1_000, why(), now)
    granted = ledger.grant(Account("42", usage), 1, why(), now, NEW_YORK, None)
    assert full.last
    reverse = partial(ledger.reverse, Account("42", granted), usage, full.last, 0)
    message = (
        "the user would have 1001 open credit batches, and 1000 are the most allowed on request; "
        "give back less, or use, claw back or void some first"
    )
    with pytest.raises(NotAllowed, match=f"^{re.escape(message)}$"):
        reverse(None, why(), now)
    assert len(reverse(999, why(), now).entry.batches) == 1_000
    # Where promises have opened more, what opens none more is given back all the same.
    more = tuple(replace(first.batches[0], number=n, granted=2) for n in range(1, 1_002))
    over = Account("42", replace(first, number=1_001, balance=1_001, batches=more))
    small = ledger.use(over, 1, why(), now)
    promised = ledger.allocate(Account("42", small), JULY, 1, NEW_YORK, None, now)
    partly = replace(promised.batches[0], number=1, granted=2)
    account = Account("42", replace(promised, batches=(partly, *promised.batches)))
    assert over.last
    assert ledger.reverse(account, small, over.last, 0, 1, why(), now).entry.amount == 1


# --- Void ---------------------------------------------------------------------------------------


def test_a_void_takes_all_that_remains_of_the_batch_it_names_and_nothing_else(book: Book) -> None:
    book.grant("2026-07-01T00:00:00Z", 100)
    book.grant("2026-07-02T00:00:00Z", 50)
    book.use("2026-07-03T00:00:00Z", 120)
    book.grant("2026-07-04T00:00:00Z", 7)
    request = Request("void#ops#key", "ada", "Granted to the wrong user")
    entry = book.post(ledger.void(book.account, 4, request, at("2026-07-05T00:00:00Z")))
    assert (entry.type, entry.amount, entry.legs) == (EntryType.MANUAL, -7, (Leg(4, -7),))
    assert (entry.actor, entry.description) == ("ada", "Granted to the wrong user")
    assert book.remaining == {2: 30}
    book.post(ledger.void(book.account, 2, request, at("2026-07-05T00:00:00Z")))
    assert (book.remaining, book.account.ledger_balance) == ({}, 0)
    assert verify("42", book.lines) == book.account


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1, "batch 42-1 has expired: nothing usable remains of it"),
        (2, "nothing remains of batch 42-2"),
        (3, "nothing remains of batch 42-3"),
        (9, "nothing remains of batch 42-9"),
    ],
)
def test_where_nothing_usable_remains_there_is_nothing_to_void(
    book: Book, number: int, message: str
) -> None:
    book.grant("2026-07-01T00:00:00Z", 100, days=1)
    book.grant("2026-07-02T00:00:00Z", 50)
    book.post(ledger.void(book.account, 2, why("void#a#1"), at("2026-07-02T00:00:00Z")))
    with pytest.raises(NotAllowed, match=f"^{re.escape(message)}$"):
        ledger.void(book.account, number, why("void#a#2"), at("2026-07-03T04:00:00Z"))


def test_a_batch_that_was_voided_takes_back_what_is_returned_of_a_usage(book: Book) -> None:
    book.grant("2026-07-01T00:00:00Z", 100)
    usage = book.use("2026-07-02T00:00:00Z", 40)
    book.post(ledger.void(book.account, 1, why("void#a#1"), at("2026-07-03T00:00:00Z")))
    book.reverse("2026-07-04T00:00:00Z", usage, None)
    assert book.remaining == {1: 40}
    book.post(ledger.void(book.account, 1, why("void#a#2"), at("2026-07-05T00:00:00Z")))
    assert book.remaining == {}
    assert verify("42", book.lines) == book.account


# --- Erased texts -------------------------------------------------------------------------------


def test_of_an_entry_on_request_only_the_texts_are_erased(book: Book) -> None:
    book.grant("2026-07-01T00:00:00Z", 100)
    request = Request("usage#shop#order-17", "shop", "A poem for Zoë", silent=True)
    entry = book.post(ledger.use(book.account, 1, request, at("2026-07-02T00:00:00Z")))
    digest = sha256(b"usage#shop#order-17").hexdigest()
    erased = without_texts(entry)
    assert erased == replace(entry, description="(erased)", operation=f"usage#(erased) {digest}")
    assert without_texts(erased) == erased
    assert digest_of(erased) == digest_of(entry) == operation_digest(entry.operation) == digest


@pytest.mark.parametrize(("actor", "names"), [("42", ()), ("auth0|zoe", ("auth0|zoe",))])
def test_a_user_is_erased_as_an_actor_an_admin_is_not(
    book: Book, actor: str, names: tuple[str, ...]
) -> None:
    book.grant("2026-07-01T00:00:00Z", 100)
    request = Request(f"usage#{actor}#order-17", actor, "A poem")
    entry = book.post(ledger.use(book.account, 1, request, at("2026-07-02T00:00:00Z")))
    erased = without_texts(entry, names)
    assert erased.actor == "(erased)"
    assert f'"{actor}' not in erased.body()
    assert f"#{actor}" not in erased.body()
    # Who names the subject only later erases the rest, and the digest stays that of the operation.
    assert without_texts(without_texts(entry), names) == erased
    granted = without_texts(book.entries[0], names)
    assert (granted.actor, granted.description) == ("ada", "(erased)")


def test_what_scheduled_work_wrote_is_about_nobody(book: Book) -> None:
    entry = book.allocate("2026-07-01T04:00:00Z")
    assert without_texts(entry, ("system",)) == entry


def test_the_seal_of_an_erased_line_is_of_the_hash_before_the_user_the_body_and_its_own_hash() -> (
    None
):
    assert erased_hash("a" * 64, "42", "{}", "b" * 64) == entry_hash(
        "a" * 64, "42", "{}\n" + "b" * 64
    )


# --- Reversal -----------------------------------------------------------------------------------


def test_a_usage_is_given_back_to_the_batches_it_came_from_last_spent_first(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    usage = book.use("2026-07-03T00:00:00Z", 120)
    reversal = book.reverse("2026-07-04T00:00:00Z", usage, None)
    assert reversal == Reversal(
        entry=LedgerEntry(
            user_id="42",
            number=4,
            type=EntryType.REVERSAL,
            amount=120,
            balance=150,
            batches=book.entries[1].batches,
            legs=(Leg(2, 20), Leg(1, 100)),
            allocated_through=JULY,
            operation="reversal#app#1",
            description="Because",
            actor="ada",
            effective_at=at("2026-07-04T00:00:00Z"),
            posted_at=at("2026-07-04T00:00:00Z"),
            expiry_timezone=None,
            usage=3,
        ),
        expired=0,
        reversed_in_all=120,
    )


def test_a_usage_is_given_back_in_parts_until_nothing_is_left_of_it(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    usage = book.use("2026-07-03T00:00:00Z", 120)
    first = book.reverse("2026-07-04T00:00:00Z", usage, 5)
    assert (first.entry.legs, first.reversed_in_all) == ((Leg(2, 5),), 5)
    second = book.reverse("2026-07-04T00:00:00Z", usage, 25, first.reversed_in_all)
    assert (second.entry.legs, second.reversed_in_all) == ((Leg(2, 15), Leg(1, 10)), 30)
    assert book.remaining == {1: 10, 2: 50}
    third = book.reverse("2026-07-04T00:00:00Z", usage, None, second.reversed_in_all)
    assert (third.entry.legs, third.reversed_in_all) == ((Leg(1, 90),), 120)
    assert book.remaining == {1: 100, 2: 50}
    for amount in (None, 1):
        with pytest.raises(NotAllowed, match=r"120 were given back before; 0 can be$"):
            book.reverse("2026-07-04T00:00:00Z", usage, amount, 120)


@pytest.mark.parametrize(("amount", "reversed_before"), [(121, 0), (116, 5), (1_000, 119)])
def test_more_than_is_left_of_a_usage_is_refused_whole(
    book: Book, amount: int, reversed_before: int
) -> None:
    book.allocate("2026-07-01T04:00:00Z", amount=150)
    usage = book.use("2026-07-03T00:00:00Z", 120)
    message = (
        f"of the 120 credits of transaction 42-2 {reversed_before} were given back before; "
        f"{120 - reversed_before} can be"
    )
    with pytest.raises(NotAllowed, match=f"^{re.escape(message)}$"):
        book.reverse("2026-07-04T00:00:00Z", usage, amount, reversed_before)


def test_the_last_credit_of_a_usage_can_be_given_back(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z", amount=150)
    usage = book.use("2026-07-03T00:00:00Z", 120)
    book.reverse("2026-07-04T00:00:00Z", usage, 119)
    reversal = book.reverse("2026-07-04T00:00:00Z", usage, 1, 119)
    assert (reversal.entry.amount, reversal.reversed_in_all, book.remaining) == (1, 120, {1: 150})


def test_only_usages_can_be_given_back(book: Book) -> None:
    allocation = book.allocate("2026-07-01T04:00:00Z")
    claw_back = book.post(
        ledger.claw_back(book.account, 10, why(), at("2026-07-02T00:00:00Z")),
    )
    usage = book.use("2026-07-03T00:00:00Z", 10)
    reversal = book.reverse("2026-07-04T00:00:00Z", usage, None).entry
    expiration = book.expire("2026-08-01T00:00:00Z")
    for entry in (allocation, claw_back, reversal, expiration):
        message = f"transaction 42-{entry.number} is no usage but {entry.type.value}"
        with pytest.raises(NotAllowed, match=f"^{message}$"):
            book.reverse("2026-08-02T00:00:00Z", entry, None)


def test_what_has_expired_meanwhile_stays_expired_and_the_answer_says_how_much(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    book.grant("2026-07-02T00:00:00Z", 50)
    usage = book.use("2026-07-03T00:00:00Z", 120)
    reversal = book.reverse("2026-07-31T04:00:00Z", usage, None)
    assert reversal.expired == 100
    assert reversal.reversed_in_all == 120
    assert reversal.entry.legs == (Leg(2, 20),)
    assert reversal.entry.amount == 20
    assert book.remaining == {2: 50}


def test_a_millisecond_before_the_expiry_all_of_it_still_returns(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    usage = book.use("2026-07-03T00:00:00Z", 100)
    reversal = book.reverse("2026-07-31T03:59:59.999Z", usage, None)
    assert reversal.expired == 0
    # The batch is open again, with its own grant and its own expiry.
    assert book.account.batches == book.entries[0].batches


def test_a_usage_whose_batches_have_all_expired_gives_nothing_back_and_is_used_up(
    book: Book,
) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    usage = book.use("2026-07-03T00:00:00Z", 60)
    book.expire("2026-08-01T00:00:00Z")
    reversal = book.reverse("2026-08-02T00:00:00Z", usage, 45)
    assert (reversal.entry.legs, reversal.entry.amount, reversal.entry.balance) == ((), 0, 0)
    assert (reversal.expired, reversal.reversed_in_all) == (45, 45)
    assert verify("42", book.lines) == book.account


def test_credits_return_to_a_batch_that_others_have_gone_on_spending_from(book: Book) -> None:
    book.allocate("2026-07-01T04:00:00Z")
    usage = book.use("2026-07-02T00:00:00Z", 60)
    book.use("2026-07-03T00:00:00Z", 30)
    book.reverse("2026-07-04T00:00:00Z", usage, 20)
    assert book.remaining == {1: 30}


# --- The worked example -------------------------------------------------------------------------

README = (Path(ledger.__file__).parent / "README.md").read_text(encoding="utf-8")


def as_the_readme_shows(entry: LedgerEntry) -> str:
    batches = ", ".join(f"{batch.number}: {batch.remaining}" for batch in entry.batches)
    return (
        f"{entry.number}  {format_instant(entry.posted_at)}  {entry.type.value:<10}  "
        f"{entry.amount:>+6}  {entry.balance:>7}  {batches}"
    )


def test_the_ledger_in_the_readme_is_what_comes_of_its_story(book: Book) -> None:
    book.allocate("2026-05-01T04:00:00Z", period=Period(2026, 5))
    book.grant("2026-05-18T14:00:00Z", 50, days=30)
    usage = book.use("2026-05-20T15:00:00Z", 120)
    book.reverse("2026-05-21T15:00:00Z", usage, 40)
    book.expire("2026-05-31T04:00:00Z")
    book.allocate("2026-06-01T04:00:00Z", period=Period(2026, 6))
    rest = book.reverse("2026-06-02T15:00:00Z", usage, None, 40)
    assert "\n".join(as_the_readme_shows(entry) for entry in book.entries) in README
    assert (rest.expired, rest.reversed_in_all) == (80, 120)
    assert book.entries[1].batches[1].expires_at == at("2026-06-18T04:00:00Z")
    assert verify("42", book.lines) == book.account


# --- The text of a line -------------------------------------------------------------------------

# The form in which every ledger that exists is stored. If one of these two must change, SCHEMA
# must change with it, and lines of the old form must stay readable: test_signals.py has some.
GRANT_BODY = (
    '{"schema":3,"number":1,"type":"allocation","amount":100,"balance":100,'
    '"batches":[[1,100,100,1782878400000,1785470400000]],"legs":[[1,100]],"through":"2026-07",'
    '"operation":"allocation#2026-07","description":"Monthly credits for 2026-07",'
    '"actor":"system","effective":1782878400000,"posted":1782878400000,'
    '"zone":"America/New_York","correlation":null}'
)
USAGE_BODY = (
    '{"schema":3,"number":3,"type":"usage","amount":-120,"balance":30,'
    '"batches":[[2,50,30,1782950400250,null,50,"adjustment"]],"legs":[[1,-100],[2,-20]],"through":"2026-07",'
    '"operation":"usage#app#1","description":"Zoë — 日本","actor":"ada","effective":1783036800123,'
    '"posted":1783036800123,"zone":null,"correlation":"c2-4f"}'
)


def test_a_line_of_the_second_form_is_read_and_keeps_its_form() -> None:
    body = GRANT_BODY.replace('"schema":3', '"schema":2').replace("null}", '"c2-4f"}')
    entry = LedgerEntry.from_body("42", 1, body)
    assert (entry.schema, entry.correlation_id) == (2, "c2-4f")
    assert (entry.batches[0].priority, entry.batches[0].source) == (50, None)
    assert entry.body() == body


def test_a_line_of_the_first_form_is_read_and_keeps_its_form() -> None:
    body = GRANT_BODY.replace('"schema":3', '"schema":1').replace(',"correlation":null', "")
    entry = LedgerEntry.from_body("42", 1, body)
    assert (entry.schema, entry.correlation_id) == (1, None)
    assert entry.body() == body


@pytest.mark.parametrize(
    "key", ["ada@example.com", "for#ada#1", "(erased)", "(erased)#" + "0" * 64, "0" * 64]
)
def test_of_an_operation_its_kind_and_its_digest_stay_whatever_the_caller_and_the_key_were(
    key: str,
) -> None:
    entry = LedgerEntry.from_body("42", 3, USAGE_BODY)
    asked = replace(entry, operation=f"usage#ada#{key}")
    digest = sha256(asked.operation.encode()).hexdigest()
    assert without_texts(asked).operation == f"usage#{ERASED} {digest}"
    assert digest_of(without_texts(asked)) == digest_of(asked) == digest


def test_a_user_named_like_scheduled_work_is_erased_all_the_same() -> None:
    entry = replace(LedgerEntry.from_body("42", 3, USAGE_BODY), actor="system")
    assert without_texts(entry).description == ERASED
    assert without_texts(entry, ["system"]).actor == ERASED


def test_a_line_is_kept_as_exactly_this_text(book: Book) -> None:
    assert book.allocate("2026-07-01T04:00:00Z").body() == GRANT_BODY
    book.grant("2026-07-02T00:00:00.250Z", 50)
    request = Request("usage#app#1", "ada", "Zoë — 日本")
    now = at("2026-07-03T00:00:00.123Z")
    usage = ledger.use(book.account, 120, request, now)
    assert replace(usage, correlation_id="c2-4f").body() == USAGE_BODY


def test_a_line_is_read_as_it_was_written(book: Book) -> None:
    grant = book.allocate("2026-07-01T04:00:00Z")
    assert LedgerEntry.from_body("42", 1, GRANT_BODY) == grant
    usage = LedgerEntry.from_body("7", 3, USAGE_BODY)
    assert usage.user_id == "7"
    assert usage.body() == USAGE_BODY
    assert usage.batches == (
        CreditBatch(2, 50, 30, at("2026-07-02T00:00:00.250Z"), None, source=Source.ADJUSTMENT),
    )
    assert usage.legs == (Leg(1, -100), Leg(2, -20))
    assert usage.expiry_timezone is None
    assert usage.correlation_id == "c2-4f"
    never = LedgerEntry.from_body("42", 1, GRANT_BODY.replace('"2026-07"', "null"))
    assert never.allocated_through is None


def test_the_line_of_an_ordinary_user_fits_into_a_write_unit(book: Book) -> None:
    """One KB for the item: the body, and some 200 bytes of keys, hash and attribute names."""
    for month in range(1, 6):
        book.allocate(f"2026-{month:02}-01T12:00:00Z", period=Period(2026, month), amount=2_000)
    entry = replace(book.entries[-1], correlation_id="4f2c7c52-6f0d-4f5e-9d6f-0d9a4b8f3c11")
    assert len(entry.body().encode()) < 1024 - 200


def test_the_hash_of_a_line_is_sha_256_over_the_hash_before_the_user_and_the_body() -> None:
    # printf '%s\n%s\n%s' <64 zeros> 42 '{"é":1}' | sha256sum
    known = "9d41bc30f5a19ce7db5a894218e3c408743710b3bcf7571becb37cbbf467be1d"
    assert entry_hash(FIRST_HASH, "42", '{"é":1}') == known
    assert (
        entry_hash(known, "42", '{"é":1}')
        == "2b510d20041499227cbd3cad97b50f989eea261975d4a6cdafd7c4c7d9673708"
    )


@pytest.mark.parametrize(
    "other",
    [
        ("1" * 64, "42", "body"),
        (FIRST_HASH, "43", "body"),
        (FIRST_HASH, "42", "body "),
        (FIRST_HASH, "4", "2body"),
    ],
)
def test_another_hash_before_another_user_or_another_body_has_another_hash(
    other: tuple[str, str, str],
) -> None:
    assert entry_hash(*other) != entry_hash(FIRST_HASH, "42", "body")


NO_NUMBER: list[object] = [1.0, 1.5, True, "1", None, [1], {}, float("nan")]
NO_TEXT: list[object] = [None, 5, True, ["a"], {}]
NO_INSTANT: list[object] = [*NO_NUMBER, 10**18, -(10**18)]

WRONG: dict[str, list[object]] = {
    "schema": [*NO_NUMBER, 0, 4],
    "correlation": [5, 0, False, [], {}],
    "number": NO_NUMBER,
    "type": ["grant", "Allocation", "", 5, None, []],
    "amount": NO_NUMBER,
    "balance": NO_NUMBER,
    "batches": [
        None,
        5,
        "ab",
        {"abcde": 1},
        [5],
        [[]],
        [[1, 100, 100, 0]],
        [[1, 100, 100, 0, None, None]],
        *[[[wrong, 100, 100, 0, None]] for wrong in NO_NUMBER],
        *[[[1, wrong, 100, 0, None]] for wrong in NO_NUMBER],
        *[[[1, 100, wrong, 0, None]] for wrong in NO_NUMBER],
        *[[[1, 100, 100, wrong, None]] for wrong in NO_INSTANT],
        *[[[1, 100, 100, 0, wrong]] for wrong in NO_INSTANT if wrong is not None],
    ],
    "legs": [
        None,
        5,
        "ab",
        {"ab": 1},
        [5],
        [[]],
        [[1]],
        [[1, 2, 3]],
        *[[[wrong, 100]] for wrong in NO_NUMBER],
        *[[[1, wrong]] for wrong in NO_NUMBER],
    ],
    "through": ["", "2026-7", "2026-13", "2026-07-01", "0000-01", 0, 202607, False, [], {}],
    "operation": NO_TEXT,
    "description": NO_TEXT,
    "actor": NO_TEXT,
    "effective": NO_INSTANT,
    "posted": NO_INSTANT,
    "zone": [5, 0, False, [], {}],
}


def corruption(body: str, number: int = 1) -> str:
    """Why a body cannot be read as entry ``number`` of user 42."""
    with pytest.raises(LedgerCorrupt) as caught:
        LedgerEntry.from_body("42", number, body)
    assert (caught.value.user_id, caught.value.number) == ("42", number)
    assert str(caught.value) == f"ledger of user 42, entry {number}: {caught.value.reason}"
    return caught.value.reason


def test_a_line_with_a_value_of_the_wrong_kind_cannot_be_read() -> None:
    for name, wrong in ((name, wrong) for name, values in WRONG.items() for wrong in values):
        body = json.dumps(json.loads(GRANT_BODY) | {name: wrong})
        assert corruption(body).startswith(f"the body cannot be read ({name} "), (name, wrong)


@pytest.mark.parametrize("name", json.loads(GRANT_BODY))
def test_a_line_without_one_of_its_values_cannot_be_read(name: str) -> None:
    values = json.loads(GRANT_BODY)
    del values[name]
    assert corruption(json.dumps(values)) == f"the body cannot be read ({name} is missing)"


@pytest.mark.parametrize(
    "body",
    ["", "{", GRANT_BODY[:-1], GRANT_BODY + "}", "null", "5", "[]", '"x"', "{}", "[" * 100_000],
    ids=["", "{", "cut", "}}", "null", "5", "[]", "text", "{}", "deep"],
)
def test_what_is_no_line_cannot_be_read(body: str) -> None:
    assert corruption(body).startswith("the body cannot be read (")


@pytest.mark.parametrize("body", ["null", "5", "[]", '"x"'])
def test_a_line_of_json_that_is_no_object_cannot_be_read(body: str) -> None:
    assert corruption(body) == "the body cannot be read (it is no object)"


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ('"schema":3', '"schema":4', "schema is unknown to this release"),
        ('"amount":100', '"amount":1.5', "amount is no whole number"),
        ('"system"', "5", "actor is no text"),
        ('"schema":3', '"schema":3,"silent":1', "silent is neither true nor false"),
        ('"schema":3', '"schema":0', "schema is unknown to this release"),
        ('"2026-07"', "7", "through is malformed"),
        ('"allocation"', '"ada@example.com"', "type is unknown to this release"),
        ('"legs":[[1,100]]', '"legs":[["ada@example.com",100]]', "legs is no whole number"),
        ('"legs":[[1,100]]', '"legs":[[1]]', "legs is malformed"),
        ("{", "[{", "it is no JSON"),
    ],
)
def test_why_a_line_cannot_be_read_is_said(right: str, wrong: str, error: str) -> None:
    body = GRANT_BODY.replace(right, wrong, 1)
    assert corruption(body) == f"the body cannot be read ({error})"


def test_a_line_that_bears_another_number_than_its_key_is_corrupt() -> None:
    assert corruption(GRANT_BODY, number=2) == "the body says number 1"


# --- Against a model ----------------------------------------------------------------------------
#
# A second ledger that knows no entries, no legs and no datetimes: every single credit is a token
# that lies in its lot or was spent from it. Time is milliseconds, in a timezone without surprises.

A_DAY = 86_400_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = 1_782_864_000_000  # 2026-07-01T00:00:00Z

Step = tuple[Any, ...]


def instant(milliseconds: int) -> datetime:
    return EPOCH + timedelta(milliseconds=milliseconds)


def month_of(milliseconds: int) -> int:
    """Months since the year 0."""
    return instant(milliseconds).year * 12 + instant(milliseconds).month - 1


@dataclass
class Lot:
    tokens: int
    since: int
    until: int | None


@dataclass
class Model:
    """Answers for each step by how much the balance changed; None when nothing was to be done."""

    time: int = START
    lots: dict[int, Lot] = field(default_factory=dict)
    months: int = 0
    """The month allocated last."""
    spent: dict[int, list[int]] = field(default_factory=dict)
    """Of each usage: the lot of each token, in order, that has not been given back."""
    lost: int = 0
    """Tokens of the last reversal that found their lot dead."""

    def is_alive(self, lot: int) -> bool:
        until = self.lots[lot].until
        return until is None or self.time < until

    def in_order(self) -> list[int]:
        """The lots that hold something, those to spend first before the others."""
        held = [number for number, lot in self.lots.items() if lot.tokens]
        return sorted(held, key=lambda number: (self.lots[number].since, number))

    def available(self) -> int:
        return sum(self.lots[number].tokens for number in self.in_order() if self.is_alive(number))

    def take_step(self, step: Step, number: int) -> int | None:  # noqa: PLR0911
        """Takes a step that, if anything comes of it, makes entry ``number``."""
        match step:
            case ("allocate", amount, days, months_ago):
                months = month_of(self.time) - months_ago
                if months <= self.months:
                    return None
                self.months = months
                return self._give(number, amount, self.time // A_DAY * A_DAY, days)
            case ("grant", amount, days):
                return self._give(number, amount, self.time, days)
            case ("use" | "claw back", amount):
                taken = self._take(amount)
                if taken and step[0] == "use":
                    self.spent[number] = taken
                return -len(taken) or None
            case ("expire",):
                return self._bury()
            case ("void", lot):
                return self._void(lot)
            case ("reverse", usage, amount):
                return self._give_back(usage, amount)
        raise AssertionError(step)

    def _give(self, number: int, amount: int, since: int, days: int | None) -> int:
        first_midnight = -(-since // A_DAY)
        until = None if days is None else (first_midnight + days) * A_DAY
        self.lots[number] = Lot(amount, since, until)
        return amount

    def _take(self, amount: int) -> list[int]:
        taken: list[int] = []
        if amount <= self.available():
            for number in self.in_order():
                while self.is_alive(number) and self.lots[number].tokens and len(taken) < amount:
                    self.lots[number].tokens -= 1
                    taken.append(number)
        return taken

    def _bury(self) -> int | None:
        buried = 0
        for number, lot in self.lots.items():
            if not self.is_alive(number):
                buried += lot.tokens
                lot.tokens = 0
        return -buried or None

    def _void(self, lot: int) -> int | None:
        if lot not in self.lots or not self.is_alive(lot):
            return None
        tokens, self.lots[lot].tokens = self.lots[lot].tokens, 0
        return -tokens or None

    def _give_back(self, usage: int, amount: int | None) -> int | None:
        left = self.spent.get(usage, [])
        wanted = len(left) if amount is None else amount
        if not left or wanted > len(left):
            return None
        self.lost = 0
        for _ in range(wanted):
            lot = left.pop()
            if self.is_alive(lot):
                self.lots[lot].tokens += 1
            else:
                self.lost += 1
        return wanted - self.lost


class Twins:
    """The ledger and the model, taken through the same steps."""

    def __init__(self) -> None:
        self.book = Book()
        self.model = Model()
        self.clock = START
        self.reversed_in_all: dict[int, int] = {}

    def take_step(self, step: Step) -> None:
        if step[0] == "wait":
            self.clock += step[1]
            return
        if step[0] == "reverse":
            step = ("reverse", self._usage(step[1]), step[2])
        last = self.book.account.last
        self.model.time = self.clock
        if last and instant(self.clock) < last.posted_at:
            self.model.time = (last.posted_at - EPOCH) // MILLISECOND
        expected = self.model.take_step(step, len(self.book.entries) + 1)
        try:
            # The clock shows more than the milliseconds a ledger keeps.
            entry = self._decide(step, instant(self.clock) + 999 * MICROSECOND)
        except CreditsError:
            entry = None
        assert (entry.amount if entry else None) == expected
        if entry:
            self.book.post(entry)
            assert entry.number == len(self.book.entries)
            assert entry.posted_at == instant(self.model.time)
        self._compare()

    def _usage(self, place: int) -> int:
        usages = list(self.model.spent)
        return usages[place % len(usages)] if usages else 0

    def _decide(  # noqa: PLR0911
        self, step: Step, now: datetime
    ) -> LedgerEntry | None:
        account = self.book.account
        match step:
            case ("allocate", amount, days, months_ago):
                year, month = divmod(month_of(self.model.time) - months_ago, 12)
                period, lifetime = Period(year, month + 1), Days(days) if days else None
                return ledger.allocate(account, period, amount, "UTC", lifetime, now)
            case ("grant", amount, days):
                lifetime = Days(days) if days else None
                return ledger.grant(account, amount, why(), now, "UTC", lifetime)
            case ("use", amount):
                return ledger.use(account, amount, why(), now)
            case ("claw back", amount):
                return ledger.claw_back(account, amount, why(), now)
            case ("void", lot):
                return ledger.void(account, lot, why("void#app#1"), now)
            case ("reverse", usage, amount):
                return self._reverse(usage, amount, now) if usage else None
        return ledger.expire(account, now)

    def _reverse(self, usage: int, amount: int | None, now: datetime) -> LedgerEntry:
        before_usage, entry = self.book.entries[usage - 2 : usage]
        reversed_before = self.reversed_in_all.get(usage, 0)
        reversal = ledger.reverse(
            self.book.account, entry, before_usage, reversed_before, amount, why(), now
        )
        self.reversed_in_all[usage] = reversal.reversed_in_all
        assert reversal.expired == self.model.lost
        assert reversal.reversed_in_all == -entry.amount - len(self.model.spent[usage])
        return reversal.entry

    def _compare(self) -> None:
        account, model = self.book.account, self.model
        assert [
            (batch.number, batch.remaining, batch.granted_at, batch.expires_at)
            for batch in account.batches
        ] == [
            (number, lot.tokens, instant(lot.since), lot.until and instant(lot.until))
            for number, lot in ((number, model.lots[number]) for number in model.in_order())
        ]
        assert account.ledger_balance == sum(lot.tokens for lot in model.lots.values())
        assert account.available_balance(instant(model.time)) == model.available()


amounts = st.integers(1, 60)
lifetimes = st.none() | st.integers(1, 40)
steps = st.one_of(
    st.tuples(
        st.just("wait"),
        st.sampled_from([-3_600_000, 1, 60_000, A_DAY - 1, A_DAY, 9 * A_DAY, 31 * A_DAY]),
    ),
    st.tuples(st.just("allocate"), amounts, lifetimes, st.integers(0, 1)),
    st.tuples(st.just("grant"), amounts, lifetimes),
    st.tuples(st.just("use"), amounts),
    st.tuples(st.just("claw back"), amounts),
    st.tuples(st.just("expire")),
    st.tuples(st.just("void"), st.integers(1, 9)),
    st.tuples(st.just("reverse"), st.integers(0, 5), st.none() | st.integers(1, 30)),
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(steps, min_size=5, max_size=40))
def test_whatever_happens_the_ledger_and_a_box_of_tokens_agree_and_the_ledger_verifies(
    history: list[Step],
) -> None:
    twins = Twins()
    for step in history:
        twins.take_step(step)
    entries = twins.book.entries
    assert verify("42", twins.book.lines) == twins.book.account
    for entry in entries:
        assert LedgerEntry.from_body("42", entry.number, entry.body()) == entry
    assert all(earlier.posted_at <= later.posted_at for earlier, later in pairwise(entries))


@pytest.mark.parametrize("amount", [0, -5])
def test_no_decision_moves_less_than_one_credit_even_unchecked(amount: int) -> None:
    book = Book()
    book.grant("2026-07-01T12:00:00Z", 100)
    usage = book.use("2026-07-01T13:00:00Z", 10)
    now = at("2026-07-01T14:00:00Z")
    too_little = pytest.raises(ValueError, match=r"^an amount is 1 credit or more, not ")
    with too_little:
        ledger.use(book.account, amount, why(), now)
    with too_little:
        ledger.claw_back(book.account, amount, why(), now)
    with too_little:
        ledger.grant(book.account, amount, why(), now, NEW_YORK, None)
    with too_little:
        ledger.allocate(book.account, JULY, amount, NEW_YORK, None, now)
    with too_little:
        ledger.reverse(book.account, usage, book.entries[0], 0, amount, why(), now)


def test_credits_carried_over_keep_their_dates_and_their_place_in_the_order() -> None:
    now = datetime(2026, 7, 10, tzinfo=UTC)
    request = Request("manual#import#b-1", "import", "Carried over")
    given = ledger.grant(Account("42"), 10, request, now, "UTC", None)
    granted_at, expires_at = now - timedelta(days=90), now + timedelta(milliseconds=1)
    entry = ledger.carry_over(
        Account("42", given, "0" * 64),
        40,
        granted_at + 999 * MICROSECOND,
        expires_at + 999 * MICROSECOND,
        request,
        now,
        "Europe/Paris",
    )
    assert [(batch.number, batch.remaining) for batch in entry.batches] == [(2, 40), (1, 10)]
    assert entry.batches[0].granted_at == granted_at
    assert entry.batches[0].expires_at == expires_at
    assert (entry.type, entry.posted_at, entry.expiry_timezone) == (
        EntryType.MANUAL,
        now,
        "Europe/Paris",
    )


def test_credits_of_the_future_or_that_have_expired_are_not_carried_over() -> None:
    now = datetime(2026, 7, 10, tzinfo=UTC)
    request = Request("manual#import#b-1", "import", "Carried over")
    for granted_at, expires_at, why_not in (
        (
            now + timedelta(milliseconds=1),
            None,
            "credits granted at 2026-07-10T00:00:00.001Z are of a later time",
        ),
        (now - timedelta(days=1), now, "the credits have expired"),
    ):
        with pytest.raises(NotAllowed) as refused:
            ledger.carry_over(Account("42"), 40, granted_at, expires_at, request, now, "UTC")
        assert str(refused.value) == why_not
    assert ledger.carry_over(Account("42"), 40, now, None, request, now, "UTC").balance == 40


def test_unless_they_are_told_so_nobody_takes_held_credits_or_more_than_is_held() -> None:
    now = at("2026-07-10T12:00:00Z")
    granted = ledger.grant(Account("42"), 100, why(), now, NEW_YORK, None)
    held = ledger.hold(Account("42", granted), 60, 600, why(), now, lambda: NEW_YORK)
    account = Account("42", held)
    with pytest.raises(InsufficientCredits):
        ledger.claw_back(account, 41, why(), now)
    assert ledger.void(account, 1, why(), now).amount == -40
    with pytest.raises(NotAllowed):
        ledger.capture(account, 2, 61, why(), now, lambda: NEW_YORK)
