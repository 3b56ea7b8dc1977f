"""What a step up to a larger plan brings within a period: how much, once, what takes it back."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.errors import LedgerCorrupt, NotAllowed
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import AllocationTerms
from chalicelib.domain.lifetimes import Days, Lifetime
from chalicelib.domain.subscriptions import Raised, Subscription, TopUp, due_top_up, topped_up_by
from chalicelib.domain.terms import FIELDS, MOST_TOP_UPS
from chalicelib.plans_file import CatalogueError, parse_catalogue
from tests.registered import register
from tests.unit.test_holds import ZONE, Book, forged, why

PLANS = """
[[plans]]
id = "small"
name = "Small"
monthly_credits = 100
lowest = true

[[plans]]
id = "pro"
name = "Pro"
monthly_credits = 500
on_plan_change = "difference"

[[plans]]
id = "large"
name = "Large"
monthly_credits = 2000
on_plan_change = "difference"

[[plans]]
id = "slow"
name = "Slow"
monthly_credits = 3000

[[plans]]
id = "late"
name = "Late"
monthly_credits = 3000
on_plan_change = "difference"
grants_since = 2026-07-05

[[plans]]
id = "own-day"
name = "Own day"
monthly_credits = 3000
on_plan_change = "difference"
allocate_on = "anniversary"
"""
CATALOGUE = parse_catalogue(PLANS)
JULY, AUGUST = Period(2026, 7), Period(2026, 8)
DAY = timedelta(days=1)
MILLISECOND = timedelta(milliseconds=1)


def at(text: str) -> datetime:
    return parse_instant("at", text)


BEGAN = at("2026-06-30T22:00:00Z")
NOW = at("2026-07-10T10:00:00Z")
"""In Paris 22 of 31 days are left."""


def there(plan: str = "small", **changes: object) -> Subscription:
    values: dict[str, object] = {
        "user_id": "42",
        "timezone": ZONE,
        "plan": plan,
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-07T00:00:00Z",
        **changes,
    }
    return register(values, CATALOGUE, at("2026-05-10T10:00:00Z"))


def edited(subscription: Subscription, now: datetime, **changes: object) -> Subscription:
    kept = FIELDS - changes.keys()
    return register({"user_id": "42", **changes}, CATALOGUE, now, subscription, kept=kept)


def amounts(subscription: Subscription) -> list[int]:
    raised = subscription.raised
    return [each.amount for each in raised.top_ups] if raised else []


def owed(
    subscription: Subscription, through: Period | None = JULY, latest: datetime | None = None
) -> TopUp | None:
    return due_top_up(subscription, CATALOGUE, through, latest)


# --- How much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "amount"),
    [
        ("2026-06-30T22:00:00Z", 400),
        ("2026-07-01T21:59:59.999Z", 400),
        ("2026-07-01T22:00:00Z", 388),  # 400 * 30 / 31 is 387.1
        ("2026-07-10T10:00:00Z", 284),  # 400 * 22 / 31 is 283.9
        ("2026-07-31T21:59:59.999Z", 13),  # 400 / 31 is 12.9
    ],
)
def test_a_step_up_is_owed_the_difference_for_the_days_left_with_today_rounded_up(
    now: str, amount: int
) -> None:
    stepped = edited(there(), at(now), plan="pro")
    assert stepped.raised == Raised(JULY, 500, (TopUp(amount, at(now)),))
    assert owed(stepped) == TopUp(amount, at(now))


def test_each_step_counts_from_the_highest_amount_so_far() -> None:
    pro = edited(there(), NOW, plan="pro")
    large = edited(pro, NOW + DAY, plan="large")
    assert amounts(large) == [284, 1017]  # 1500 * 21 / 31 is 1016.1
    small = edited(large, NOW + 2 * DAY, plan="small")
    again = edited(edited(small, NOW + 3 * DAY, plan="pro"), NOW + 4 * DAY, plan="large")
    assert amounts(again) == [284, 1017]
    assert again.raised is not None
    assert again.raised.level == 2000


def test_who_was_on_the_larger_plan_when_the_period_was_allocated_gains_nothing() -> None:
    down = edited(there("pro"), NOW, plan="small")
    assert down.raised == Raised(JULY, 500, ())
    assert amounts(edited(down, NOW + DAY, plan="pro")) == []
    assert amounts(edited(down, NOW + DAY, plan="large")) == [1017]


def test_two_steps_in_a_millisecond_are_two() -> None:
    large = edited(edited(there(), NOW, plan="pro"), NOW, plan="large")
    assert large.raised is not None
    assert [each.at for each in large.raised.top_ups] == [NOW, NOW + MILLISECOND]


def test_another_period_begins_anew() -> None:
    pro = edited(there(), NOW, plan="pro")
    august = at("2026-08-01T10:00:00Z")
    assert edited(pro, august, plan="large").raised == Raised(AUGUST, 2000, (TopUp(1500, august),))


def test_own_amounts_count_and_only_a_change_of_plan_is_a_step() -> None:
    raised = edited(there(), NOW, allocation_amount=300)
    assert raised.raised == Raised(JULY, 300, ())
    assert amounts(edited(raised, NOW, allocation_amount=None, plan="pro")) == [142]
    assert amounts(edited(there("pro"), NOW, allocation_amount=600)) == []
    assert edited(there("pro"), NOW, email="a@example.com").raised is None


def test_an_edit_that_changes_no_amount_keeps_what_is_owed() -> None:
    pro = edited(there(), NOW, plan="pro")
    assert edited(pro, NOW + DAY, email="a@example.com").raised == pro.raised


def test_what_is_owed_is_kept_when_no_plan_tops_up_any_more() -> None:
    pro = edited(there(), NOW, plan="pro")
    catalogue = parse_catalogue(PLANS.replace('"difference"', '"next_period"'))
    values = {"user_id": "42", "plan": "large"}
    kept = FIELDS - {"plan"}
    assert register(values, catalogue, NOW + DAY, pro, kept=kept).raised == pro.raised


def test_a_step_after_a_pause_counts_from_the_highest_amount_before_it() -> None:
    paused = edited(edited(there(), NOW, plan="pro"), NOW + DAY, status="paused")
    back = edited(paused, NOW + 2 * DAY, status="active", plan="small")
    large = edited(back, NOW + 3 * DAY, plan="large")
    assert amounts(large) == [284, 920]  # 1500 * 19 / 31 is 919.4


def test_who_comes_back_on_a_larger_plan_gains_nothing_by_stepping_down_and_up_again() -> None:
    paused = edited(edited(there(), NOW, plan="pro"), NOW + DAY, status="paused")
    back = edited(paused, NOW + 2 * DAY, status="active", plan="large")
    down = edited(back, NOW + 3 * DAY, plan="small")
    assert amounts(edited(down, NOW + 4 * DAY, plan="large")) == [284]


def test_a_plan_that_has_granted_since_the_period_began_tops_it_up() -> None:
    catalogue = parse_catalogue(PLANS.replace("2026-07-05", "2026-07-01"))
    values = {"user_id": "42", "plan": "late"}
    late = register(values, catalogue, NOW, there(), kept=FIELDS - {"plan"})
    assert amounts(late) == [2059]  # 2900 * 22 / 31 is 2058.1


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({}, {"plan": "slow"}),
        ({}, {"plan": "late"}),
        ({}, {"plan": "own-day"}),
        ({"plan": "large"}, {"plan": "pro"}),
        ({"status": "paused"}, {"status": "active", "plan": "pro"}),
        ({"billing_interval": "monthly"}, {"billing_interval": "yearly", "plan": "pro"}),
        ({}, {"status": "paused", "plan": "pro"}),
    ],
)
def test_other_changes_bring_nothing_at_once(
    first: dict[str, object], then: dict[str, object]
) -> None:
    assert amounts(edited(there(**first), NOW, **then)) == []  # type: ignore[arg-type]


def test_where_no_plan_tops_up_nothing_is_kept() -> None:
    catalogue = parse_catalogue(PLANS.replace('"difference"', '"next_period"'))
    values = {"user_id": "42", "plan": "large"}
    kept = FIELDS - {"plan"}
    assert register(values, catalogue, NOW, there(), kept=kept).raised is None


def test_no_more_than_ten_steps_of_a_period_come_at_once() -> None:
    subscription = there(allocation_amount=1)
    for number in range(MOST_TOP_UPS + 2):
        plan = ("pro", "large")[number % 2]
        subscription = edited(subscription, NOW, plan=plan, allocation_amount=2 + number)
    assert len(amounts(subscription)) == MOST_TOP_UPS


# --- When, and once -------------------------------------------------------------------------------


def test_a_step_is_owed_on_top_of_its_own_period_once() -> None:
    large = edited(edited(there(), NOW, plan="pro"), NOW + DAY, plan="large")
    first, second = TopUp(284, NOW), TopUp(1017, NOW + DAY)
    assert owed(large, None) is owed(large, JULY.previous()) is owed(large, AUGUST) is None
    assert owed(large) == first
    assert owed(large, latest=NOW - MILLISECOND) == first
    assert owed(large, latest=NOW) == second
    assert owed(large, latest=NOW + DAY) is None


def test_a_pause_takes_back_what_was_not_posted_before_it_and_an_end_does_not() -> None:
    pro = edited(there(), NOW, plan="pro")
    paused = edited(pro, NOW + DAY, status="paused")
    assert owed(paused) is None
    assert owed(edited(paused, NOW + 2 * DAY, status="active")) is None
    assert owed(edited(pro, NOW + DAY, ends_at="2026-07-10T10:00:00.001Z")) is not None
    assert owed(edited(pro, NOW + DAY, ends_at="2026-07-10T10:00:00Z")) is None
    assert owed(edited(pro, NOW + DAY, eligible_from="2026-08-01")) is None
    assert owed(edited(pro, NOW + DAY, eligible_from="2026-07-10T10:00:00Z")) is not None


def test_the_amount_of_a_subscription_has_its_steps_in_a_period_up_to_the_latest() -> None:
    pro = edited(there(), NOW, plan="pro")
    large = edited(pro, NOW + DAY, plan="large")
    assert topped_up_by(pro, JULY) == NOW
    assert topped_up_by(large, JULY) == NOW + DAY
    assert topped_up_by(large, AUGUST) is None
    assert topped_up_by(there(), JULY) is None
    assert topped_up_by(edited(there("pro"), NOW, plan="small"), JULY) is None


# --- The entry ------------------------------------------------------------------------------------


def july(book: Book, **terms: datetime) -> LedgerEntry:
    asked = (JULY, 100, ZONE, None, BEGAN, AllocationTerms(**terms))  # type: ignore[arg-type]
    return book.post(ledger.allocate(book.account, *asked))


def stepped(
    book: Book,
    amount: int,
    moment: datetime = NOW,
    cap: int | None = None,
    lifetime: Lifetime = None,
) -> LedgerEntry:
    terms = AllocationTerms(balance_cap=cap)
    return ledger.top_up(book.account, TopUp(amount, moment), ZONE, lifetime, NOW + DAY, terms)


def test_a_top_up_is_an_allocation_on_top_of_the_last_and_every_line_after_it_knows() -> None:
    book = Book()
    july(book)
    entry = book.post(stepped(book, 284))
    assert (entry.type, entry.begins_period) == (EntryType.ALLOCATION, False)
    assert (entry.allocated_through, entry.topped_up_at) == (JULY, NOW)
    assert entry.operation == "plan_change#2026-07#2026-07-10T10:00:00Z"
    assert entry.description == "Credits of the larger plan for 2026-07"
    assert (entry.effective_at, entry.balance) == (NOW, 384)
    assert entry.body().endswith(f'"topped_up":{round(NOW.timestamp() * 1000)}}}')
    assert book.use(5, now=NOW + DAY).topped_up_at == NOW
    with pytest.raises(NotAllowed):
        stepped(book, 284)
    book.post(stepped(book, 10, NOW + MILLISECOND))
    august = (AUGUST, 500, ZONE, None, at("2026-07-31T22:00:00Z"))
    assert book.post(ledger.allocate(book.account, *august)).topped_up_at is None


def test_it_is_capped_like_the_month_and_says_so_also_if_nothing_fits() -> None:
    book = Book()
    july(book)
    part = book.post(stepped(book, 284, cap=300))
    assert (part.amount, part.left_out, part.balance_cap) == (200, 84, 300)
    none = book.post(stepped(book, 50, NOW + MILLISECOND, cap=300))
    assert (none.amount, none.left_out, none.topped_up_at) == (0, 50, NOW + MILLISECOND)
    assert none.effective_at == NOW + MILLISECOND


def test_its_credits_live_as_long_as_those_of_the_plan() -> None:
    book = Book()
    july(book)
    entry = stepped(book, 284, lifetime=Days(30))
    assert entry.granted_batch is not None
    assert entry.granted_batch.expires_at == at("2026-08-09T22:00:00Z")


def test_a_step_by_a_clock_that_is_ahead_counts_from_now() -> None:
    book = Book()
    july(book)
    entry = stepped(book, 284, NOW + 2 * DAY)
    assert (entry.effective_at, entry.topped_up_at) == (NOW + DAY, NOW + 2 * DAY)


def test_there_is_nothing_to_top_up_before_a_period_is_allocated() -> None:
    with pytest.raises(NotAllowed, match=r"^there is no period to top up, or it was done before$"):
        stepped(Book(), 284)


def test_a_period_that_is_allocated_late_has_the_steps_in_it() -> None:
    book = Book()
    july(book, topped_up_at=NOW)
    with pytest.raises(NotAllowed):
        stepped(book, 284)


def test_a_forged_top_up_is_found() -> None:
    book = Book()
    july(book)
    honest = stepped(book, 284)
    for forgery, rule in (
        (replace(honest, topped_up_at=None), "a period was topped up twice"),
        (replace(honest, allocated_through=AUGUST), "it tops up a period that is not the last"),
        (replace(honest, operation="plan_change#2026-07"), "the operation names another period"),
        (replace(honest, sign_up=True), "what tops up a period is not a first"),
        (replace(honest, operation="allocation#2026-07"),
         "the allocated period did not move forward"),
    ):  # fmt: skip
        assert forged(book, forgery) == rule
    book.post(honest)
    twice = replace(stepped(book, 5, NOW + MILLISECOND), topped_up_at=NOW)
    assert forged(book, twice) == "a period was topped up twice"
    usage = ledger.use(book.account, 1, why("usage#9"), NOW + DAY)
    for moment in (None, NOW + MILLISECOND):
        assert forged(book, replace(usage, topped_up_at=moment)) == (
            "what tops up the period changed without an allocation"
        )


def test_a_top_up_of_no_period_at_all_is_found() -> None:
    grant = ledger.grant(Book().account, 5, why("manual#1"), NOW, ZONE, None)
    forgery = replace(
        grant,
        type=EntryType.ALLOCATION,
        operation="plan_change#None#2026-07-10T10:00:00Z",
        topped_up_at=NOW,
    )
    assert forged(Book(), forgery) == "it tops up a period that is not the last"


@pytest.mark.parametrize("value", ["null", "true", '"2026"', "1.5", "[]"])
def test_a_step_that_cannot_be_read_is_named(value: str) -> None:
    book = Book()
    july(book)
    body = stepped(book, 284).body()
    head, _, _ = body.partition('"topped_up":')
    with pytest.raises(LedgerCorrupt, match="topped_up"):
        LedgerEntry.from_body("42", 2, f'{head}"topped_up":{value}}}')


def test_a_word_that_is_none_is_named_with_its_line() -> None:
    with pytest.raises(CatalogueError) as raised:
        parse_catalogue(PLANS.replace('"difference"', '"now"', 1))
    words = "plans[1].on_plan_change must be one of 'next_period', 'difference', is 'now'"
    assert str(raised.value) == f"plans.toml, line 12: {words}"
