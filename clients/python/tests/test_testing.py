"""The fakes beyond what they share with the API (tests/aws/test_python_client.py has that)."""

import asyncio
import doctest
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from credits_client import (
    Credits,
    HoldEnded,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidInput,
    NotAllowed,
    Unreachable,
    testing,
)
from credits_client.routes import UseItem
from credits_client.testing import AsyncFakeCredits, Books, FakeCredits, NotInTheFake

NOW = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)


def test_the_example_of_the_module_works() -> None:
    assert doctest.testmod(testing) == (0, 4)


UNKNOWN: list[Callable[[Credits], Any]] = [
    lambda client: client.plans(),
    lambda client: client.schedule("1"),
    lambda client: client.purchase("1", 5, "pi_1"),
    lambda client: client.allocate("1", 5, "Goodwill"),
    lambda client: client.void_batch("1-1", "Mistake"),
    lambda client: client.reverse("1", "1-1", description="Empty"),
    lambda client: client.subscription("1"),
    lambda client: client.balance("1", at=NOW),
    lambda client: list(client.history("1", since=NOW)),
    lambda client: list(client.history("1", search="crawl")),
    lambda client: client.release("1-2", dry_run=True),
]


@pytest.mark.parametrize("ask", UNKNOWN)
def test_what_the_fake_does_not_know_it_refuses_loudly(ask: Callable[[Credits], Any]) -> None:
    client = FakeCredits()
    client.grant("1", 10)
    client.hold("1", 1, "Crawl", key="crawl")
    with pytest.raises(NotInTheFake, match="the fake does not know"):
        ask(client)
    assert client.balance("1").available_balance == 9


def test_a_fake_that_is_down_cannot_be_reached_until_it_is_up_again() -> None:
    client = FakeCredits()
    client.grant("1", 10)
    client.is_down = True
    with pytest.raises(Unreachable):
        client.use("1", 1)
    client.is_down = False
    assert client.use("1", 1).new_balance == 9


def test_time_is_that_of_the_clock_and_what_has_passed() -> None:
    now = [NOW]
    client = FakeCredits(clock=lambda: now[0])
    client.grant(1, 10, expires_at=NOW + timedelta(days=2))
    assert client.balance("1").as_of == client.now == NOW
    now[0] += timedelta(days=1)
    client.pass_time(timedelta(days=1) - timedelta(milliseconds=1))
    assert client.balance("1").available_balance == 10
    client.pass_time(timedelta(milliseconds=1))
    assert client.balance("1").available_balance == 0


def test_two_fakes_can_share_their_books() -> None:
    books = Books()
    books.grant("1", 10)
    FakeCredits(books).use("1", 4)
    assert asyncio.run(AsyncFakeCredits(books).balance("1")).available_balance == 6


def test_a_user_without_credits_is_known() -> None:
    client = FakeCredits()
    client.add_user("1")
    assert client.balance("1").available_balance == 0
    assert client.health().status == "ok"


@pytest.mark.parametrize("amount", [0, -1, 1_000_000_001])
def test_a_grant_of_no_amount_is_refused(amount: int) -> None:
    with pytest.raises(ValueError, match="amount must be from 1 to 1000000000"):
        FakeCredits().grant("1", amount)


def test_a_fake_is_a_client_to_type_checks() -> None:
    assert isinstance(FakeCredits(), Credits)


@pytest.fixture
def fake() -> FakeCredits:
    """User 1 has 10 credits; the clock stands."""
    client = FakeCredits(clock=lambda: NOW + timedelta(microseconds=1_999))
    client.grant("1", 10)
    return client


def test_instants_are_whole_milliseconds(fake: FakeCredits) -> None:
    assert fake.now == fake.balance("1").as_of == NOW + timedelta(milliseconds=1)


def test_a_hold_is_there_until_its_end_and_not_at_it(fake: FakeCredits) -> None:
    fake.hold("1", 4, "Crawl", key="h", expires_in_seconds=60)
    fake.pass_time(timedelta(seconds=60) - timedelta(milliseconds=1))
    assert fake.balance("1").held_balance == 4
    fake.pass_time(timedelta(milliseconds=1))
    assert (fake.balance("1").held_balance, fake.holds("1")) == (0, ())


def test_a_hold_that_has_lapsed_is_not_captured_and_says_when_it_lapsed() -> None:
    fake = FakeCredits(clock=lambda: NOW)
    fake.grant("1", 10)
    hold = fake.hold("1", 4, "Crawl", key="h", expires_in_seconds=60)
    fake.pass_time(timedelta(seconds=60))
    with pytest.raises(HoldEnded) as refused:
        fake.capture(hold.hold_id, 4)
    ended = refused.value
    assert (ended.ended, ended.ended_at, ended.transaction_id) == ("lapsed", hold.expires_at, None)
    assert ended.detail == "the hold was lapsed at 2026-01-15T12:01:00Z"


def test_what_is_held_is_used_by_its_capture_alone(fake: FakeCredits) -> None:
    hold = fake.hold("1", 4, "Crawl", key="h")
    fake.grant("1", 5)
    used = fake.use("1", 8, key="u")
    assert [(each.batch_id, each.amount) for each in used.batches] == [("1-1", -6), ("1-3", -2)]
    with pytest.raises(InsufficientCredits) as refused:
        fake.use("1", 4, key="v")
    assert refused.value.available_balance == 3
    with pytest.raises(InsufficientCredits) as refused:
        hold.capture(8, beyond_hold=True)
    assert refused.value.available_balance == 7
    captured = hold.capture(7, beyond_hold=True)
    assert (captured.captured, captured.released, captured.new_balance) == (7, 0, 0)


def test_a_hold_that_was_released_is_not_captured(fake: FakeCredits) -> None:
    hold = fake.hold("1", 4, "Crawl", key="h")
    released = hold.release()
    for _ in range(2):
        with pytest.raises(HoldEnded) as refused:
            hold.capture(4)
        ended = refused.value
        assert (ended.ended, ended.transaction_id) == ("released", released.transaction_id)


def test_a_description_has_five_hundred_letters_at_most(fake: FakeCredits) -> None:
    assert fake.use("1", 1, "x" * 500, key="u").new_balance == 9
    with pytest.raises(InvalidInput, match="description: must be a text that is not blank, of at"):
        fake.use("1", 1, "x" * 501, key="v")


def test_a_hold_lasts_thirty_days_at_most(fake: FakeCredits) -> None:
    longest = 30 * 24 * 3600
    hold = fake.hold("1", 4, "Crawl", key="h", expires_in_seconds=longest)
    assert hold.expires_at == fake.now + timedelta(days=30)
    for seconds in (0, longest + 1):
        with pytest.raises(InvalidInput, match="from 1 to 2,592,000"):
            fake.hold("1", 1, "Crawl", key="i", expires_in_seconds=seconds)


def test_credits_of_a_lower_priority_are_used_first_however_young_they_are(
    fake: FakeCredits,
) -> None:
    fake.pass_time(timedelta(days=1))
    fake.grant("1", 5, priority=10)
    used = fake.use("1", 6, key="u")
    assert [(each.batch_id, each.amount) for each in used.batches] == [("1-2", -5), ("1-1", -1)]


def test_the_last_page_has_no_next_even_when_it_is_full(fake: FakeCredits) -> None:
    fake.use("1", 1, key="a")
    newest = fake.history_page("1", limit=1)
    assert (newest.items[0].transaction_id, newest.next_cursor is None) == ("1-2", False)
    assert fake.history_page("1", limit=2).next_cursor is None
    assert [line.transaction_id for line in fake.history("1", limit=1)] == ["1-2", "1-1"]
    for number in range(20):
        fake.grant("1", 1 + number)
    page = fake.history_page("1")
    assert (len(page.items), page.items[0].amount, page.next_cursor is None) == (20, 20, False)


def test_of_several_usages_the_new_ones_are_charged_and_only_all_the_old_are_a_repetition(
    fake: FakeCredits,
) -> None:
    def charge(*numbers: int) -> Any:
        leads = [UseItem(key=f"lead-{n}", amount=n, description=f"Lead {n}") for n in numbers]
        return fake.use_many("1", leads)

    assert (charge(1).amount, charge(1, 2).amount, charge(2, 1).amount) == (1, 2, 0)
    assert fake.balance("1").available_balance == 7
    fake.grant("1", 9)
    assert charge(2, 4, 5).amount == 9
    texts = [line.description for line in fake.history("1", type="usage")]
    assert texts == ["Lead 4 and 1 more", "Lead 2", "Lead 1"]
    headers = []
    for items in ([3, 1], [3]):
        leads = [{"key": f"lead-{n}", "amount": n, "description": f"Lead {n}"} for n in items]
        request = httpx.Request(
            "POST", "http://fake/api/credits/use-many", json={"user_id": "1", "items": leads}
        )
        headers.append(fake.books.answer(request).headers.get("Idempotency-Replayed"))
    assert headers == [None, "true"]


def test_a_hundred_holds_are_active_at_most_and_lapsed_ones_do_not_count(
    fake: FakeCredits,
) -> None:
    fake.grant("1", 200)
    for number in range(100):
        fake.hold("1", 1, "Crawl", key=f"{number}", expires_in_seconds=60)
    with pytest.raises(NotAllowed, match="100 active holds"):
        fake.hold("1", 1, "Crawl", key="last")
    fake.pass_time(timedelta(minutes=1))
    assert fake.hold("1", 1, "Crawl", key="last").amount == 1


def test_a_key_is_of_one_request_and_of_one_user(fake: FakeCredits) -> None:
    fake.grant("2", 10)
    fake.use("1", 3, "Export", key="k")
    assert fake.use("1", 3, "Export", key="k").new_balance == 7
    for user_id, amount, text in (("2", 3, "Export"), ("1", 4, "Export"), ("1", 3, "Other")):
        with pytest.raises(IdempotencyKeyReused):
            fake.use(user_id, amount, text, key="k")
    assert [fake.balance(each).available_balance for each in ("1", "2")] == [7, 10]


def test_threads_that_use_the_last_credits_at_once_never_use_more_than_there_are(
    fake: FakeCredits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first looks at what there is."""
    is_looking, went_on = threading.Event(), threading.Event()
    look = testing._Account.spendable

    def slowly(account: Any, now: datetime) -> Any:
        found = look(account, now)
        if not is_looking.is_set():
            is_looking.set()
            went_on.wait(0.1)
        return found

    monkeypatch.setattr(testing._Account, "spendable", slowly)

    def second() -> str:
        is_looking.wait(5)
        try:
            fake.use("1", 10, key="second")
        except InsufficientCredits:
            return "refused"
        finally:
            went_on.set()
        return "used"

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(second)
        fake.use("1", 10, key="first")
        assert answer.result() == "refused"
    assert fake.balance("1").ledger_balance == 0
