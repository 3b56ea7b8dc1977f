"""What a new subscriber is given at once: who, how much, once, and what takes it back."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.languages import Language
from chalicelib.domain.ledger import Account, AllocationTerms
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.subscriptions import (
    NotDueBecause,
    SignUp,
    Subscription,
    amount_for,
    due_periods,
    next_allocation,
    not_due_because,
)
from chalicelib.domain.terms import FIELDS
from chalicelib.mails import facts
from chalicelib.mails.rendering import Frame, render
from chalicelib.plans_file import CatalogueError, parse_catalogue
from chalicelib.product import Product
from tests.registered import register
from tests.unit.test_holds import ZONE, Book, forged, why

FRAME = Frame(Product(), Language.ENGLISH, "https://u", "https://a")
PLANS = """
[[plans]]
id = "none"
name = "None"
monthly_credits = 500
lowest = true

[[plans]]
id = "full"
name = "Full"
monthly_credits = 500
on_signup = "full"

[[plans]]
id = "part"
name = "Part"
monthly_credits = 500
on_signup = "prorated"

[[plans]]
id = "late"
name = "Late"
monthly_credits = 500
on_signup = "full"
grants_since = 2026-07-05

[[plans]]
id = "nothing"
name = "Nothing"
monthly_credits = 0
on_signup = "full"

[[plans]]
id = "own-day"
name = "Own day"
monthly_credits = 500
allocate_on = "anniversary"
"""
CATALOGUE = parse_catalogue(PLANS)
JUNE, JULY, AUGUST = Period(2026, 6), Period(2026, 7), Period(2026, 8)


def at(text: str) -> datetime:
    return parse_instant("at", text)


NOW = at("2026-07-10T10:00:00Z")
BEGINS = at("2026-06-30T22:00:00Z")
"""July, in Paris."""
MILLISECOND = timedelta(milliseconds=1)


def new(plan: str = "part", now: datetime = NOW, **changes: object) -> Subscription:
    values: dict[str, object] = {
        "user_id": "42",
        "timezone": ZONE,
        "plan": plan,
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-07-10T09:00:00Z",
        **changes,
    }
    return register(values, CATALOGUE, now)


def edited(subscription: Subscription, now: datetime, **changes: object) -> Subscription:
    kept = FIELDS - changes.keys()
    values = {"user_id": "42", **changes}
    return register(values, CATALOGUE, now, subscription, kept=kept)


def due(subscription: Subscription, now: datetime, **more: Any) -> list[Period]:
    through = more.get("through")
    return list(due_periods(subscription, CATALOGUE, through, more.get("as_of", now), now))


# --- Who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("plan", "amount"), [("full", 500), ("part", 355)])
def test_a_new_subscriber_is_due_the_running_month(plan: str, amount: int) -> None:
    subscription = new(plan)
    assert subscription.sign_up == SignUp(JULY, amount, NOW)
    assert due(subscription, NOW) == [JULY]
    assert amount_for(subscription, CATALOGUE, JULY) == amount
    assert amount_for(subscription, CATALOGUE, AUGUST) == 500


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": "none"},
        {"plan": "nothing"},
        {"status": "paused"},
        {"status": "cancelled"},
        {"billing_interval": "monthly"},
        # A customer who is moved here.
        {"started_at": "2026-06-30T21:59:59.999Z"},
        {"started_at": "2024-07-10T09:00:00Z"},
        # To come.
        {"started_at": "2026-07-10T10:05:00.001Z"},
        {"eligible_from": "2026-07-10T10:05:00.001Z"},
        {"eligible_from": "2026-07-11"},
        # Over, or over before it begins.
        {"ends_at": "2026-07-10T10:00:00Z"},
        {"started_at": "2026-07-10T10:04:00Z", "ends_at": "2026-07-10T10:04:00Z"},
        # The plan began to grant in the middle of this month.
        {"plan": "late"},
    ],
)
def test_nobody_else_is(changes: dict[str, object]) -> None:
    subscription = new(**changes)  # type: ignore[arg-type]
    assert subscription.sign_up is None
    assert due(subscription, NOW) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"started_at": "2026-06-30T22:00:00Z"},
        {"started_at": "2026-07-10T10:05:00Z"},
        {"eligible_from": "2026-07-10T10:05:00Z"},
        {"eligible_from": "2026-07-10"},
        {"ends_at": "2026-07-10T10:00:00.001Z"},
        # Their own amount depends on no plan.
        {"plan": "late", "allocation_amount": 1},
    ],
)
def test_at_these_borders_they_are(changes: dict[str, object]) -> None:
    subscription = new(**changes)  # type: ignore[arg-type]
    assert due(subscription, NOW) == [JULY]


def test_it_is_due_since_the_registration_whatever_was_decided_of_the_time_before() -> None:
    signed = new(eligible_from="2026-07-01").sign_up
    assert signed is not None
    assert signed.at == NOW


def test_of_a_plan_that_grants_since_a_day_whole_months_after_it_come_at_once() -> None:
    august = at("2026-08-02T10:00:00Z")
    assert due(new("late", august, started_at="2026-08-02T00:00:00Z"), august) == [AUGUST]


def test_the_month_whose_first_day_the_plan_began_to_grant_on_comes_at_once() -> None:
    catalogue = parse_catalogue(PLANS.replace("2026-07-05", "2026-07-01"))
    values = {
        "user_id": "42",
        "timezone": ZONE,
        "plan": "late",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-07-10T09:00:00Z",
    }
    assert register(values, catalogue, NOW).sign_up == SignUp(JULY, 500, NOW)


def test_those_who_are_there_are_given_nothing_by_any_edit() -> None:
    there = new("none")
    for changes in (
        {"plan": "full"},
        {"plan": "full", "started_at": "2026-07-09T00:00:00Z"},
        {"plan": "full", "started_at": "2026-07-10T10:00:00Z"},
    ):
        changed = edited(there, NOW + timedelta(days=1), **changes)
        assert (changed.sign_up, due(changed, NOW + timedelta(days=1))) == (None, [])


def test_who_pauses_at_first_is_given_nothing_when_they_begin() -> None:
    began = edited(new(status="paused"), NOW, status="active")
    assert due(began, NOW) == []


# --- How much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("started_at", "amount"),
    [
        ("2026-06-30T22:00:00Z", 500),
        ("2026-07-01T21:59:59.999Z", 500),
        ("2026-07-01T22:00:00Z", 484),  # 500 * 30 / 31 is 483.9
        ("2026-07-30T21:59:59.999Z", 33),  # 500 * 2 / 31 is 32.3
        ("2026-07-30T22:00:00Z", 17),  # 500 / 31 is 16.1
        ("2026-07-31T21:59:59.999Z", 17),
    ],
)
def test_the_days_that_are_left_count_with_that_of_the_start_and_round_up(
    started_at: str, amount: int
) -> None:
    now = at("2026-07-31T21:59:59.999Z")
    signed = new(now=now, started_at=started_at).sign_up
    assert signed is not None
    assert signed.amount == amount


@pytest.mark.parametrize(("own", "amount"), [(31, 22), (1, 1), (10_000, 7_097), (62, 44)])
def test_an_own_amount_is_prorated_too(own: int, amount: int) -> None:
    signed = new(allocation_amount=own).sign_up
    assert signed is not None
    assert signed.amount == amount


def test_a_month_that_has_begun_while_the_date_went_back_is_paid_by_no_more_than_all() -> None:
    """At St John's, November 2009 had begun when the clock went back to 31 October."""
    now = at("2009-11-01T03:00:00Z")
    zone = "America/St_Johns"
    signed = new(now=now, timezone=zone, started_at="2009-11-01T02:45:00Z").sign_up
    assert signed == SignUp(Period(2009, 11), 500, now)


# --- Once, and what takes it back -----------------------------------------------------------------


def test_what_was_allocated_is_not_due_again_whatever_is_edited() -> None:
    subscription = new()
    assert due(subscription, NOW, through=JULY) == []
    later = NOW + timedelta(days=2)
    for changes in ({"timezone": "Asia/Tokyo"}, {"plan": "full"}, {"email": "a@example.com"}):
        subscription = edited(subscription, later, **changes)
        assert due(subscription, later, through=JULY) == []
        assert subscription.sign_up == SignUp(JULY, 355, NOW)


def test_what_could_not_be_posted_comes_with_the_next_month_as_it_was_decided() -> None:
    moved = edited(new(), NOW, plan="full", timezone="America/New_York")
    in_august = at("2026-08-01T04:00:00Z")
    assert due(moved, in_august) == [JULY, AUGUST]
    assert amount_for(moved, CATALOGUE, JULY) == 355
    upcoming = next_allocation(moved, CATALOGUE, None, in_august)
    assert upcoming is not None
    assert (upcoming.period, upcoming.amount) == (JULY, 355)


def test_a_pause_takes_back_what_was_not_posted_before_it() -> None:
    paused = edited(new(), NOW, status="paused")
    assert due(paused, NOW) == []
    later = NOW + timedelta(days=1)
    assert due(edited(paused, later, status="active"), later) == []


def test_an_end_takes_nothing_back_that_was_due_before_it() -> None:
    later = NOW + timedelta(days=1)
    ended = edited(new(), later, ends_at="2026-07-10T10:00:00.001Z")
    assert due(ended, later) == [JULY]
    assert due(edited(new(), later, ends_at="2026-07-10T10:00:00Z"), later) == []


def test_a_start_or_an_eligibility_that_is_moved_ahead_takes_it_back() -> None:
    for field in ("started_at", "eligible_from"):
        moved = edited(new(), NOW, **{field: "2026-07-20T00:00:00Z"})
        assert due(moved, NOW) == []
        assert due(moved, at("2026-07-25T00:00:00Z")) == []


def test_it_lapses_like_a_month_that_was_missed() -> None:
    subscription = new()
    assert due(subscription, at("2027-06-30T21:59:59.999Z"))[0] == JULY
    assert due(subscription, at("2027-06-30T22:00:00Z"))[0] == AUGUST
    lapsed = not_due_because(subscription, CATALOGUE, None, JULY, at("2027-06-30T22:00:00Z"))
    assert lapsed is NotDueBecause.NOT_ELIGIBLE
    assert not_due_because(subscription, CATALOGUE, None, JULY, NOW) is None
    assert not_due_because(new("none"), CATALOGUE, None, JULY, NOW) is NotDueBecause.NOT_ELIGIBLE


def test_a_run_as_of_an_earlier_month_does_not_grant_it() -> None:
    assert due(new(), NOW, as_of=BEGINS) == [JULY]
    assert due(new(), NOW, as_of=BEGINS - MILLISECOND) == []


def test_who_signs_up_seconds_before_a_month_for_that_month_is_granted_it_when_it_begins() -> None:
    now = BEGINS - timedelta(minutes=1)
    subscription = new(now=now, started_at="2026-06-30T22:00:30Z")
    assert subscription.sign_up == SignUp(JULY, 500, at("2026-06-30T22:00:30Z"))
    assert due(subscription, now) == []
    assert due(subscription, now, as_of=BEGINS) == []
    upcoming = next_allocation(subscription, CATALOGUE, None, now)
    assert upcoming is not None
    assert (upcoming.period, upcoming.at) == (JULY, BEGINS)
    assert due(subscription, BEGINS) == [JULY]
    after = next_allocation(subscription, CATALOGUE, JULY, BEGINS)
    assert after is not None
    assert after.period == AUGUST


def test_what_lapsed_after_an_end_is_not_announced() -> None:
    ended = edited(new(), NOW, ends_at="2026-07-20T00:00:00Z")
    assert next_allocation(ended, CATALOGUE, None, at("2028-01-01T00:00:00Z")) is None


def test_who_flies_back_over_the_date_line_is_told_of_the_month_before_their_sign_up() -> None:
    now = at("2026-06-30T10:00:00Z")  # July begins in Kiritimati, and Midway's 30th is to come
    subscription = new(now=now, timezone="Pacific/Kiritimati", started_at="2026-06-30T10:00:00Z")
    assert subscription.sign_up == SignUp(JULY, 500, now)
    home = {"timezone": "Pacific/Midway", "plan": "own-day", "started_at": "2026-05-30T12:00:00Z"}
    moved = edited(subscription, now, **home)
    begins = at("2026-06-30T11:00:00Z")
    upcoming = next_allocation(moved, CATALOGUE, None, now)
    assert upcoming is not None
    assert (upcoming.period, upcoming.at) == (JUNE, begins)
    assert due(moved, begins) == [JUNE]


# --- The entry ------------------------------------------------------------------------------------


def first(book: Book, signed_up_at: datetime = NOW, now: datetime = NOW) -> LedgerEntry:
    terms = AllocationTerms(signed_up_at=signed_up_at)
    return ledger.allocate(book.account, JULY, 355, ZONE, None, now, terms)


def test_its_entry_is_an_allocation_that_was_due_at_the_sign_up_and_says_that_it_is_the_first() -> (
    None
):
    book = Book()
    entry = book.post(first(book, now=NOW + timedelta(hours=1)))
    assert (entry.operation, entry.description) == (
        "allocation#2026-07",
        "First credits for 2026-07",
    )
    assert (entry.effective_at, entry.sign_up) == (NOW, True)
    assert entry.body().endswith('"correlation":null,"sign_up":true}')
    (batch,) = entry.batches
    assert batch.granted_at == at("2026-07-09T22:00:00Z"), "the day counts whole"


def test_it_is_never_due_after_it_was_posted_nor_before_its_month() -> None:
    book = Book()
    assert first(book, NOW + timedelta(minutes=5)).effective_at == NOW
    moved = ledger.allocate(
        book.account,
        JULY,
        355,
        "America/New_York",
        None,
        NOW,
        AllocationTerms(signed_up_at=BEGINS),
    )
    assert moved.effective_at == at("2026-07-01T04:00:00Z")


def test_only_an_allocation_can_say_that_it_is_the_first() -> None:
    book = Book()
    book.grant(100)
    usage = ledger.use(book.account, 10, why("usage#9"), NOW)
    assert forged(book, replace(usage, sign_up=True)) == "only an allocation is a first"


def test_the_email_says_that_they_are_the_first() -> None:
    book = Book()
    for entry, words in (
        (first(book), "Your first credits are here"),
        (ledger.allocate(Account("42"), JULY, 5, ZONE, None, NOW), "Your July credits are here"),
    ):
        mail = render(MailKind.ALLOCATION, facts.of_allocation(entry), FRAME)
        assert words == mail.subject
        assert words in mail.html


@pytest.mark.parametrize("value", ['"all"', "true", "1", '["full"]', '""'])
def test_a_word_that_is_none_is_named_with_its_line(value: str) -> None:
    with pytest.raises(CatalogueError) as raised:
        parse_catalogue(PLANS.replace('on_signup = "full"', f"on_signup = {value}", 1))
    (line, _) = str(raised.value).split(", is ")
    words = "plans[1].on_signup must be one of 'none', 'full', 'prorated'"
    assert line == f"plans.toml, line 12: {words}"
