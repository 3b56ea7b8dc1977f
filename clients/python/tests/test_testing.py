"""The fakes beyond what they share with the API (tests/aws/test_python_client.py has that)."""

import asyncio
import doctest
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from credits_client import Credits, Unreachable, testing
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


def test_a_fake_is_a_client_to_whoever_asks() -> None:
    assert isinstance(FakeCredits(), Credits)
