"""Which emails an entry calls for: decided from the entry alone."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.notifications import (
    MailKind,
    crosses,
    identities,
    kind_of,
    last_grant,
    may_call_for_a_mail,
)
from chalicelib.plans_file import parse_catalogue
from chalicelib.services import PLANS_FILE

NOW = datetime(2026, 7, 1, 4, tzinfo=UTC)
WHY = Request("usage#app#1", "ada", "Because")
CATALOGUE = parse_catalogue(PLANS_FILE.read_text(encoding="utf-8"))


def granted(amount: int = 100, request: Request = WHY) -> LedgerEntry:
    return ledger.grant(Account("42"), amount, request, NOW, "UTC", None)


def used(amount: int, before: LedgerEntry | None = None) -> LedgerEntry:
    return ledger.use(Account("42", before or granted()), amount, WHY, NOW)


def test_a_claw_back_that_found_nothing_left_calls_for_no_email() -> None:
    nothing = ledger.claw_back_what_is_left(Account("42"), 5, WHY, NOW)
    some = ledger.claw_back_what_is_left(Account("42", granted()), 5, WHY, NOW)
    assert kind_of(nothing, 50) is None
    assert kind_of(some, 50) is MailKind.MANUAL
    assert not may_call_for_a_mail(nothing, CATALOGUE)


@pytest.mark.parametrize(
    ("amount", "threshold", "expected"),
    [
        (50, 50, False),  # exactly the threshold is left
        (51, 50, True),
        (1, 100, True),  # from exactly the threshold to below it
        (1, 101, False),  # it was below before
        (100, 1, True),
        (51, None, False),
    ],
)
def test_a_usage_crosses_from_the_threshold_or_more_to_less(
    amount: int, threshold: int | None, *, expected: bool
) -> None:
    assert crosses(used(amount), threshold) is expected
    kind = MailKind.LOW_BALANCE if expected else None
    assert kind_of(used(amount), threshold) is kind


def test_credits_that_have_expired_do_not_hold_the_balance_up() -> None:
    first = ledger.grant(Account("42"), 100, WHY, NOW, "UTC", Days(1))
    assert first.batches[0].expires_at is not None
    later = first.batches[0].expires_at
    second = ledger.grant(Account("42", first), 60, WHY, later, "UTC", None)
    usage = ledger.use(Account("42", second), 20, WHY, later)
    assert usage.balance == 140
    assert crosses(usage, 50)


def test_each_type_of_entry_has_its_kind_and_a_reversal_none() -> None:
    allocated = ledger.allocate(Account("42"), Period(2026, 7), 100, "UTC", Days(1), NOW)
    assert kind_of(allocated, 20) is MailKind.ALLOCATION
    assert kind_of(granted(), 20) is MailKind.MANUAL
    assert kind_of(ledger.claw_back(Account("42", granted()), 5, WHY, NOW), 20) is MailKind.MANUAL
    expires_at = allocated.batches[0].expires_at
    assert expires_at is not None
    expired = ledger.expire(Account("42", allocated), expires_at)
    assert expired is not None
    assert kind_of(expired, 20) is MailKind.EXPIRATION
    before, usage = granted(), used(90)
    reversal = ledger.reverse(Account("42", usage), usage, before, 0, None, WHY, NOW).entry
    assert kind_of(reversal, 20) is None


def test_a_silent_entry_calls_for_no_email_and_says_so_in_its_body() -> None:
    silent = granted(request=replace(WHY, silent=True))
    assert kind_of(silent, 20) is None
    assert not may_call_for_a_mail(silent, CATALOGUE)
    assert silent.body().endswith(',"silent":true,"correlation":null}')
    assert LedgerEntry.from_body("42", 1, silent.body()) == silent


def test_an_entry_that_is_not_silent_has_the_body_it_always_had() -> None:
    assert "silent" not in granted().body()


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(40, False), (51, True), (79, True), (81, True), (1, False)],
)
def test_a_usage_is_worth_a_message_when_it_crosses_the_threshold_of_any_plan(
    amount: int, *, expected: bool
) -> None:
    # Of 100 credits; the plans that ship have thresholds of 20, 50 and 200.
    assert may_call_for_a_mail(used(amount), CATALOGUE) is expected


def test_the_last_grant_is_known_from_the_batches_and_the_legs() -> None:
    first = granted(10)
    assert last_grant(used(5, first)) == 1
    assert last_grant(used(10, first)) == 1  # its batch is closed by this very usage
    second = ledger.grant(Account("42", first), 10, WHY, NOW, "UTC", None)
    assert last_grant(used(5, second)) == 2


def test_what_emails_are_known_by_stays_as_it_is_for_else_all_would_be_sent_again() -> None:
    allocated = ledger.allocate(Account("42"), Period(2026, 7), 100, "Europe/Paris", Days(1), NOW)
    expires_at = allocated.batches[0].expires_at
    assert expires_at is not None
    expired = ledger.expire(Account("42", allocated), expires_at)
    assert expired is not None
    reversal = ledger.reverse(Account("42", used(90)), used(90), granted(), 0, None, WHY, NOW).entry

    assert identities(allocated) == {
        "allocation 42-1",
        "expiring_soon 42 1782943200000",
    }
    assert identities(granted()) == {"manual 42-1"}
    assert identities(used(1)) == {"low_balance 42 1"}
    assert identities(expired) == {"expiration 42-2"}
    assert identities(reversal) == set()
