"""What other programs are told of an entry: from the entry alone, and the same whenever."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.events import OF_ENTRY, SOURCE, CreditEvent, EventName, events_of
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.prices import Price
from tests.schemas import delivered, problems_of, schema

NOW = datetime(2026, 7, 1, 4, 0, 0, 123_000, tzinfo=UTC)
WHY = Request("usage#app#1", "ada", "Because")
HASH = "0123456789abcdef" * 4


def utc() -> str:
    return "UTC"


def after(*entries: LedgerEntry) -> Account:
    return Account("42", entries[-1] if entries else None)


def granted(amount: int = 100, before: LedgerEntry | None = None) -> LedgerEntry:
    return ledger.grant(Account("42", before), amount, WHY, NOW, "UTC", None)


def used(amount: int, before: LedgerEntry) -> LedgerEntry:
    return ledger.use(after(before), amount, WHY, NOW)


def held(amount: int, before: LedgerEntry) -> LedgerEntry:
    return ledger.hold(after(before), amount, 60, WHY, NOW, utc)


def one_of_each() -> list[LedgerEntry]:
    """An entry of every type."""
    allocated = ledger.allocate(Account("42"), Period(2026, 7), 100, "UTC", Days(1), NOW)
    ends = allocated.batches[0].expires_at
    assert ends
    expired = ledger.expire(after(allocated), ends)
    bought = ledger.purchase(after(allocated), 30, Price(300, "eur"), WHY, NOW, "UTC")
    refunded = ledger.refund(after(bought), bought.batches[-1], None, 10, None, WHY, NOW)
    usage = used(10, allocated)
    opened = held(40, allocated)
    assert expired
    assert refunded
    return [
        allocated,
        expired,
        bought,
        refunded.entry,
        usage,
        ledger.reverse(after(usage), usage, allocated, 0, 4, WHY, NOW).entry,
        opened,
        ledger.capture(after(opened), 2, 0, WHY, NOW, utc),
        ledger.capture(after(opened), 2, 31, WHY, NOW, utc),
        granted(),
    ]


def named(events: Iterable[CreditEvent]) -> list[str]:
    return [event.name.removeprefix("credits.") for event in events]


# --- The event of an entry --------------------------------------------------------------------


def test_every_type_of_entry_has_its_own_name_and_is_as_the_schema_says() -> None:
    found = {entry.type: events_of(entry, HASH, 0)[0] for entry in one_of_each()}
    assert {type_: event.name for type_, event in found.items()}.items() <= OF_ENTRY.items()
    assert set(OF_ENTRY) == set(EntryType)
    assert len(set(OF_ENTRY.values())) == len(OF_ENTRY)
    for event in found.values():
        assert problems_of(delivered(event)) == []


def test_the_schema_names_every_event_and_no_other() -> None:
    names = schema()["properties"]["detail-type"]["enum"]
    assert sorted(names) == sorted(EventName)
    assert schema()["properties"]["source"]["const"] == SOURCE


def test_an_event_says_what_its_entry_says() -> None:
    usage = replace(used(30, granted()), metadata=(("order", "17"),))
    (event,) = events_of(usage, HASH, 0)
    assert (event.name, event.at) == (EventName.USED, NOW)
    assert event.detail == {
        "version": 1,
        "id": "credits.used 42-2",
        "user_id": "42",
        "number": 2,
        "transaction_id": "42-2",
        "posted_at": "2026-07-01T04:00:00.123Z",
        "amount": -30,
        "balance": 70,
        "ledger_balance": 70,
        "hash": "0123456789ab",
        "metadata": {"order": "17"},
    }


def test_a_hold_its_release_and_its_capture_name_it_and_say_how_much_they_set_aside_or_free() -> (
    None
):
    opened = held(40, granted())
    released = ledger.capture(after(opened), 2, 0, WHY, NOW, utc)
    captured = ledger.capture(after(opened), 2, 31, WHY, NOW, utc)

    def told(entry: LedgerEntry) -> dict[str, Any]:
        (event,) = events_of(entry, HASH, 0)
        wanted = ("amount", "balance", "ledger_balance", "hold_id")
        more = ("held_amount", "released_amount")
        return {name: event.detail[name] for name in (*wanted, *more) if name in event.detail}

    assert told(opened) == {
        "amount": 0,
        "balance": 60,
        "ledger_balance": 100,
        "hold_id": "42-2",
        "held_amount": 40,
    }
    assert told(released) == {
        "amount": 0,
        "balance": 100,
        "ledger_balance": 100,
        "hold_id": "42-2",
        "released_amount": 40,
    }
    assert told(ledger.capture(after(opened), 2, 40, WHY, NOW, utc))["released_amount"] == 0
    assert told(captured) == {
        "amount": -31,
        "balance": 69,
        "ledger_balance": 69,
        "hold_id": "42-2",
        "released_amount": 9,
    }


def test_the_balance_is_what_could_be_spent_without_expired_credits() -> None:
    first = ledger.grant(Account("42"), 100, WHY, NOW, "UTC", Days(1))
    later = first.batches[0].expires_at
    assert later
    second = ledger.grant(after(first), 60, WHY, later, "UTC", None)
    (event,) = events_of(second, HASH, 0)
    assert (event.detail["balance"], event.detail["ledger_balance"]) == (60, 160)


def test_ten_of_the_largest_events_are_far_from_the_most_that_eventbridge_takes() -> None:
    wide = "\N{GRINNING FACE}" * 125
    usage = replace(
        used(10**9, granted(10**9)),
        user_id="u" * 128,
        number=10**12 - 1,
        metadata=(("key1", wide),),
    )
    largest = max(events_of(usage, HASH, 1_000_000), key=lambda event: len(str(event.detail)))
    assert len(json.dumps(largest.detail).encode()) * 10 < 30_000


# --- Crossings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "crossings"),
    [
        (80, []),  # exactly the threshold is left
        (81, ["balance_low"]),
        (100, ["balance_low", "exhausted"]),
    ],
)
def test_a_balance_is_low_from_the_first_credit_below_the_threshold(
    amount: int, crossings: list[str]
) -> None:
    assert named(events_of(used(amount, granted()), HASH, 20)[1:]) == crossings


@pytest.mark.parametrize(
    ("had", "amount", "crossings"),
    [
        (0, 19, []),
        (0, 20, ["balance_recovered"]),  # exactly the threshold
        (19, 1, ["balance_recovered"]),
        (20, 1, []),  # it was not low
    ],
)
def test_a_balance_has_recovered_from_the_threshold_on(
    had: int, amount: int, crossings: list[str]
) -> None:
    before = granted(had) if had else None
    assert named(events_of(granted(amount, before), HASH, 20)[1:]) == crossings


def test_a_balance_of_exactly_the_threshold_is_not_low_yet() -> None:
    assert named(events_of(used(1, granted(20)), HASH, 20)) == ["used", "balance_low"]


def test_what_stays_below_the_threshold_or_at_nothing_crosses_nothing_again() -> None:
    low = used(90, granted())
    assert named(events_of(used(5, low), HASH, 20)) == ["used"]
    assert named(events_of(used(10, low), HASH, 20)) == ["used", "exhausted"]
    nothing = ledger.claw_back_what_is_left(after(used(100, granted())), 5, WHY, NOW)
    assert named(events_of(nothing, HASH, 20)) == ["adjusted"]


def test_without_a_threshold_no_balance_is_low_and_none_recovers_but_one_is_exhausted() -> None:
    usage = used(100, granted())
    assert named(events_of(granted(), HASH, 0)) == ["adjusted"]
    assert named(events_of(usage, HASH, 0)) == ["used", "exhausted"]


def test_a_hold_crosses_nothing_and_its_capture_does() -> None:
    opened = held(90, granted())
    captured = ledger.capture(after(opened), 2, 90, WHY, NOW, utc)
    assert named(events_of(opened, HASH, 20)) == ["held"]
    assert named(events_of(captured, HASH, 20)) == ["used", "balance_low"]


def test_a_crossing_says_the_threshold_and_that_is_part_of_its_id() -> None:
    usage = used(95, granted())
    (_, low) = events_of(usage, HASH, 20)
    (_, other) = events_of(usage, HASH, 10)
    assert (low.detail["threshold"], low.detail["number"]) == (20, 2)
    assert low.detail["id"] == "credits.balance_low 42-2 20"
    assert other.detail["id"] == "credits.balance_low 42-2 10"
    for event in (low, *events_of(used(100, granted()), HASH, 20)):
        assert problems_of(delivered(event)) == []


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["grant", "use", "hold", "wait"]), st.integers(1, 60)),
        max_size=30,
    )
)
def test_a_low_balance_and_its_recovery_take_turns_whatever_expires_and_lapses_in_between(
    steps: list[tuple[str, int]],
) -> None:
    account, now, entries = Account("42"), NOW, list[LedgerEntry]()

    def post(entry: LedgerEntry | None) -> None:
        nonlocal account
        if entry is not None:
            entries.append(entry)
            account = after(entry)

    for step, size in steps:
        post(ledger.expire(account, now))
        available = account.available_balance(now)
        if step == "grant":
            post(ledger.grant(account, size, WHY, now, "UTC", Days(1)))
        elif step == "wait":
            now += timedelta(hours=size)
        elif available:
            amount = min(size, available)
            post(
                ledger.use(account, amount, WHY, now)
                if step == "use"
                else ledger.hold(account, amount, 7200, WHY, now, utc)
            )
    events = [event for entry in entries for event in events_of(entry, HASH, 30)]
    turns = [
        event.name
        for event in events
        if event.name in (EventName.BALANCE_LOW, EventName.BALANCE_RECOVERED)
    ]
    assert all(one is not other for one, other in pairwise(turns))
    assert turns[:1] in ([], [EventName.BALANCE_RECOVERED])  # a ledger begins at nothing
    is_low = not entries or entries[-1].balance < 30
    assert is_low is (turns[-1:] != [EventName.BALANCE_RECOVERED])
    assert len({event.detail["id"] for event in events}) == len(events)
