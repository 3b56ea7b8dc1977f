"""Why credits could be taken, or could not: the same decision, by the same account, in words."""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.batches import Leg, Legs
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import CreditsError, InsufficientCredits
from chalicelib.domain.explanations import Decision, Reason, ReasonCode, explain, explain_entry
from chalicelib.domain.ledger import VOID, Account
from tests.unit.test_holds import DAY, HOUR, MIDNIGHT, START, USER, Book, why, zone

END_OF_HOLD = START + 3 * DAY


def book_of_the_page() -> Book:
    """The example of the module: 20 expire at `MIDNIGHT`, and of 50 others 30 are held."""
    book = Book()
    book.grant(20, days=1)
    book.grant(50, priority=10)
    book.hold(30, seconds=3 * 86_400)
    return book


def test_a_refusal_says_how_many_were_missing_held_and_expired() -> None:
    found = explain(book_of_the_page().account, 50, MIDNIGHT)
    assert (found.decision, found.available, found.missing) == (Decision.REFUSED, 20, 30)
    assert found.words == (
        "At 2026-07-02T22:00:00Z, 20 credits were available and 50 asked for: "
        "30 too few, so none was taken."
    )
    assert found.reasons == (
        Reason(ReasonCode.EXPIRED, 20, MIDNIGHT),
        Reason(ReasonCode.HELD, 30, END_OF_HOLD),
    )
    assert [reason.words for reason in found.reasons] == [
        "20 credits had expired, the last at 2026-07-02T22:00:00Z.",
        "30 credits were held, the last until 2026-07-04T10:00:00Z.",
    ]
    assert [(each.batch.number, each.held, each.open, each.taken) for each in found.batches] == [
        (2, 30, 20, 0),
        (1, 0, 0, 0),
    ]
    assert [hold.number for hold in found.holds] == [3]


def test_instants_are_said_to_the_millisecond() -> None:
    book = Book()
    book.grant(20)
    book.hold(20, seconds=3_600)
    found = explain(book.account, 1, START + timedelta(milliseconds=250))
    assert found.words.startswith("At 2026-07-01T10:00:00.250Z, 0 credits were available")
    held = Reason(ReasonCode.HELD, 20, END_OF_HOLD + timedelta(milliseconds=7))
    assert held.words == "20 credits were held, the last until 2026-07-04T10:00:00.007Z."


def test_what_is_covered_says_how_much_of_which_batch_is_taken() -> None:
    found = explain(book_of_the_page().account, 30, START)
    assert (found.decision, found.missing) == (Decision.COVERED, 0)
    assert [(each.batch.number, each.taken) for each in found.batches] == [(2, 20), (1, 10)]
    assert found.words == (
        "At 2026-07-01T10:00:00Z, 40 credits were available and 30 asked for. "
        "They come from 2 credit batches, in the order of use."
    )
    one = explain(book_of_the_page().account, 20, START)
    assert one.words.endswith("They come from one credit batch, in the order of use.")


def test_a_fault_of_ours_is_no_refusal_to_explain(monkeypatch: pytest.MonkeyPatch) -> None:
    book = book_of_the_page()
    before, usage = book.account, book.use(5)

    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(ledger, "use", breaks)
    with pytest.raises(ZeroDivisionError):
        explain(before, 1, START)
    with pytest.raises(ZeroDivisionError):
        explain_entry(before, usage)


def test_without_an_amount_only_the_account_is_explained() -> None:
    found = explain(book_of_the_page().account, None, MIDNIGHT)
    assert (found.decision, found.missing, found.available) == (Decision.NOTHING_ASKED, 0, 20)
    assert found.words == "At 2026-07-02T22:00:00Z, 20 credits were available."


def test_who_has_nothing_at_all_is_told_so() -> None:
    found = explain(Account(USER), 1, START)
    assert (found.decision, found.reasons) == (Decision.REFUSED, (Reason(ReasonCode.EMPTY),))
    assert found.words == (
        "At 2026-07-01T10:00:00Z, 0 credits were available and 1 asked for: "
        "1 too few, so none was taken."
    )
    assert found.reasons[0].words == "Nothing was left of any credit batch."


def test_a_hold_that_has_lapsed_is_no_reason_any_more() -> None:
    account = book_of_the_page().account
    before = explain(account, None, END_OF_HOLD - timedelta(milliseconds=1))
    assert ReasonCode.HELD in {reason.code for reason in before.reasons}
    after = explain(account, None, END_OF_HOLD)
    assert ReasonCode.HELD not in {reason.code for reason in after.reasons}
    assert (after.holds, after.available) == ((), 50)


def test_of_a_capture_the_credits_of_its_own_hold_are_open_and_those_of_others_are_not() -> None:
    book = book_of_the_page()
    other = book.hold(5)
    before = book.account
    entry = book.capture(3, 35, beyond_hold=True, now=START + HOUR / 2)
    found = explain_entry(before, entry)
    assert (found.amount, found.available, found.takes_the_same) == (35, 65, True)  # 30 its own
    assert found.reasons == (Reason(ReasonCode.HELD, 5, other.holds[-1].expires_at),)


def test_a_capture_can_spend_what_its_hold_has_kept_of_an_expired_batch() -> None:
    book = Book()
    book.grant(10, days=1)
    book.hold(6, seconds=3 * 86_400, timezone=zone)
    before = book.account
    found = explain_entry(before, book.capture(2, 6, now=MIDNIGHT))
    assert (found.available, found.missing, found.takes_the_same) == (6, 0, True)
    assert found.reasons == (Reason(ReasonCode.EXPIRED, 4, MIDNIGHT),)


def test_a_claw_back_of_held_credits_finds_them_open() -> None:
    book = book_of_the_page()
    before = book.account
    entry = book.post(ledger.claw_back(before, 60, why("manual#4"), START, including_held=True))
    found = explain_entry(before, entry)
    assert (found.amount, found.available, found.takes_the_same) == (60, 70, True)


def test_an_entry_that_took_other_credits_than_it_is_decided_to_take_is_found_out() -> None:
    book = book_of_the_page()
    entry = ledger.use(book.account, 10, why("usage#4"), START)
    assert explain_entry(book.account, entry).takes_the_same is True
    forged = replace(entry, legs=(Leg(1, -10),))
    assert explain_entry(book.account, forged).takes_the_same is False
    more_than_there_was = replace(entry, legs=(Leg(2, -41),), amount=-41)
    assert explain_entry(book.account, more_than_there_was).takes_the_same is False


def test_what_nobody_asked_an_amount_for_shows_the_account_before_it() -> None:
    book = book_of_the_page()
    before = book.account
    expiration = ledger.expire(before, MIDNIGHT)
    assert expiration is not None
    void = ledger.void(before, 1, why(f"{VOID}x"), START)
    grant = ledger.grant(before, 5, why("manual#4"), START, "UTC", None)
    for entry in (expiration, void, grant):
        found = explain_entry(before, entry)
        assert (found.amount, found.takes_the_same) == (None, None)
        assert found.decision is Decision.NOTHING_ASKED
        assert [each.taken for each in found.batches] == [0, 0]


def test_every_line_of_any_ledger_decides_the_same_again_and_every_refusal_adds_up() -> None:
    assert sum(asked_in_a_life(seed) for seed in range(25)) > 250


def asked_in_a_life(seed: int) -> int:
    """Explains everything that happens to a ledger; returns how often an amount was asked for."""
    random, book = Random(seed), Book()
    now, asked = START, 0
    for _ in range(60):
        now += random.choice((HOUR / 7, HOUR, DAY))
        before, amount = book.account, random.randint(1, 40)
        with suppress(CreditsError):
            asked += _one_step(random, book, amount, now)
        found = explain(before, amount, now)
        at = before.time(now)
        took = {each.batch.number: -each.taken for each in found.batches if each.taken}
        legs: Legs = ()
        with suppress(InsufficientCredits):
            legs = ledger.use(before, amount, why("x"), now).legs
        assert took == dict(legs)
        assert found.decision is (Decision.COVERED if legs else Decision.REFUSED)
        assert found.missing == (0 if legs else amount - found.available)
        assert found.available == before.available_balance(at)
        unreachable = sum(reason.amount for reason in found.reasons)
        assert found.available + unreachable == before.ledger_balance
        if book.account.last is not before.last:
            entry = book.account.last
            assert entry is not None
            how = explain_entry(before, entry)
            is_asked = entry.type in (EntryType.USAGE, EntryType.HOLD) or (
                entry.type is EntryType.MANUAL and entry.amount < 0
            )
            assert how.takes_the_same is (True if is_asked else None)
            assert how.missing == 0
    return asked


def _one_step(random: Random, book: Book, amount: int, now: datetime) -> int:
    """Something that happens to a ledger; 1 if an amount was asked for."""
    step = random.randrange(8)
    account, holds = book.account, book.account.holds
    if step < 2:
        book.grant(amount, random.choice((None, 1, 3)), now, random.choice((10, 50, 50)))
        return 0
    if step == 2:
        if expiration := ledger.expire(account, now):
            book.post(expiration)
        return 0
    if step == 3:
        book.hold(amount, random.choice((600, 90_000)), now, zone)
    elif step == 4 and holds:
        hold = random.choice(holds)
        book.capture(hold.number, amount, now, zone, beyond_hold=True)
    elif step == 5:
        held = random.random() < 0.5
        request = why(f"manual#{account.next_number}")
        book.post(ledger.claw_back(account, amount, request, now, including_held=held))
    else:
        book.use(amount, now)
    return 1
