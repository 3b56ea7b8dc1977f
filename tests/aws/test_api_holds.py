"""Holds over the API: credits set aside, captured, released or lapsed, to the millisecond."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.api.principal import caller_of
from chalicelib.domain import entries
from chalicelib.domain.entries import FIRST_HASH, entry_hash
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.holds import DEFAULT_SECONDS, MOST_SECONDS
from chalicelib.domain.instants import format_instant
from infra import reach
from infra.commands import verify
from infra.repair import erase, export
from tests.aws.api import ADMIN, BACKEND, Api, Caller, Reply, user
from tests.aws.repair import Terminal
from tests.aws.test_store import asked, at_http, lost_once
from tests.aws.world import World, at, client

HOLDS = "/api/credits/holds"
USE = "/api/credits/use"
ALLOCATE = "/api/credits/allocate"
REVERSE = "/api/credits/reverse"
BALANCE = "/api/credits/balance?user_id=1"
SCHEDULE = "/api/credits/allocation-schedule?user_id=1"
HISTORY = "/api/credits/history?user_id=1"

REPORT = {"user_id": "1", "amount": 40, "description": "Report"}
EXPORT = {"user_id": "1", "amount": 30, "description": "Export"}

PARIS_MAY = "2026-04-30T22:00:00Z"
PARIS_31_MAY = "2026-05-30T22:00:00Z"
DAY = 24 * 60 * 60

Json = dict[str, Any]


@pytest.fixture
def hundred(world: World) -> World:
    """A world in which user 1 has a hundred credits that never expire."""
    world.subscribe("1")
    world.grant("1", 100, "hundred")
    return world


@pytest.fixture
def starter(world: World) -> World:
    """User 1 was allocated a hundred credits in May, which die at midnight on the 31st in Paris."""
    world.now = at("2026-04-15T12:00:00Z")
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.take("notifications")
    return world


def hold(api: Api, amount: int = 40, *, key: str = "h", **more: object) -> str:
    """The id of a new hold."""
    reply = api.post(HOLDS, BACKEND, {**REPORT, "amount": amount, **more}, key=key)
    assert reply.status == 200, reply.text
    hold_id: str = reply.json["hold_id"]
    return hold_id


def capture(api: Api, hold_id: str, amount: int, caller: Caller = BACKEND, **more: object) -> Reply:
    return api.post(f"{HOLDS}/{hold_id}/capture", caller, {"amount": amount, **more})


def release(api: Api, hold_id: str, caller: Caller = BACKEND, **more: object) -> Reply:
    return api.post(f"{HOLDS}/{hold_id}/release", caller, more)


def has(api: Api) -> tuple[int, int, int]:
    """Available, held and ledger balance of user 1, as their backend reads it."""
    found = api.get(BALANCE, BACKEND).json
    return found["available_balance"], found["held_balance"], found["ledger_balance"]


def fields(reply: Reply) -> list[str]:
    assert reply.status == 400, reply.text
    return [error["field"] for error in reply.json["errors"]]


def ended(reply: Reply) -> tuple[str, str, str | None]:
    """How a hold is said to have ended, when, and by which transaction."""
    assert (reply.status, reply.json["code"]) == (410, "hold_ended"), reply.text
    return reply.json["ended"], reply.json["ended_at"], reply.json["transaction_id"]


def assert_replayed(again: Reply, first: Reply) -> None:
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status, again.json) == (200, first.json)


# --- Setting aside --------------------------------------------------------------------------------


def test_what_is_held_stays_in_the_ledger_and_nobody_can_spend_it(hundred: World, api: Api) -> None:
    reply = api.post(HOLDS, BACKEND, {**REPORT, "expires_in_seconds": 900}, key="h")
    assert reply.json == {
        "success": True,
        "new_balance": 60,
        "transaction_id": "1-2",
        "hold_id": "1-2",
        "amount": 40,
        "expires_at": "2026-01-15T12:15:00.250Z",
    }
    assert has(api) == (60, 40, 100)
    too_much = api.post(USE, BACKEND, {**EXPORT, "amount": 61}, key="u")
    assert (too_much.status, too_much.json["available_balance"]) == (402, 60)
    assert api.post(USE, BACKEND, {**EXPORT, "amount": 60}, key="u").json["new_balance"] == 0
    assert has(api) == (0, 40, 40)
    assert [entry.actor for entry in hundred.history()] == ["ada", "shop", "shop"]


def test_the_oldest_credits_are_held_and_the_balance_says_which(hundred: World, api: Api) -> None:
    hundred.now += timedelta(hours=1)
    hundred.grant("1", 50, "younger")
    assert hold(api, 120) == "1-3"
    found = api.get(BALANCE, BACKEND).json
    assert [(each["batch_id"], each["held_amount"]) for each in found["batches"]] == [
        ("1-1", 100),
        ("1-2", 20),
    ]
    assert found["holds"] == [
        {"hold_id": "1-3", "amount": 120, "expires_at": "2026-01-15T14:00:00.250Z"}
    ]
    assert api.get(HISTORY, BACKEND).json["items"][0]["held_amount"] == 120


def test_a_hold_of_more_than_is_available_holds_nothing_and_keeps_its_key(
    hundred: World, api: Api
) -> None:
    hold(api, 70)
    reply = api.post(HOLDS, BACKEND, REPORT, key="more")
    assert (reply.status, reply.json["available_balance"]) == (402, 30)
    assert len(hundred.history()) == 2
    hundred.grant("1", 10, "ten")
    assert api.post(HOLDS, BACKEND, REPORT, key="more").status == 200


def test_a_hold_said_again_is_the_same_hold_even_once_it_is_over(hundred: World, api: Api) -> None:
    first = api.post(HOLDS, BACKEND, {**REPORT, "metadata": {"report": "7"}}, key="h")
    capture(api, "1-2", 40)
    hundred.now += timedelta(days=400)
    again = api.post(HOLDS, BACKEND, {**REPORT, "metadata": {"report": "7"}}, key="h")
    assert_replayed(again, first)
    assert len(hundred.history()) == 3


def test_a_key_is_of_one_hold_and_of_one_caller(hundred: World, api: Api) -> None:
    hold(api, 10)
    for changed in (
        {"amount": 11},
        {"description": "Another"},
        {"expires_in_seconds": 60},
        {"metadata": {"report": "8"}},
    ):
        reply = api.post(HOLDS, BACKEND, {**REPORT, "amount": 10, **changed}, key="h")
        assert (reply.status, reply.json["code"]) == (422, "idempotency_key_reused"), changed
    assert api.post(HOLDS, ADMIN, {**REPORT, "amount": 10}, key="h").json["hold_id"] == "1-3"
    assert api.post(USE, BACKEND, {**EXPORT, "amount": 10}, key="h").json["new_balance"] == 70
    assert len(hundred.history()) == 4


def test_a_hold_is_of_an_hour_unless_it_says_how_long(hundred: World, api: Api) -> None:
    for seconds, more in (
        (DEFAULT_SECONDS, {}),
        (1, {"expires_in_seconds": 1}),
        (MOST_SECONDS, {"expires_in_seconds": MOST_SECONDS}),
    ):
        reply = api.post(HOLDS, ADMIN, {**REPORT, "amount": 1, **more}, key=f"{seconds}")
        until = hundred.now + timedelta(seconds=seconds)
        assert reply.json["expires_at"] == format_instant(until)


def test_a_wrong_field_of_a_hold_or_its_end_is_named_and_nothing_is_written(
    hundred: World, api: Api
) -> None:
    hold_id = hold(api)
    wrong: dict[str, tuple[object, ...]] = {
        "user_id": ("", "a b", None, True),
        "amount": (0, -1, 1.0, "5", True, 1_000_000_001, None),
        "description": ("", 5, "two\nlines", "x" * 501, None),
        "expires_in_seconds": (0, -1, 1.5, "60", True, MOST_SECONDS + 1),
        "beyond_hold": (True,),
        "nonsense": (1,),
    }
    for field, values in wrong.items():
        for value in values:
            reply = api.post(HOLDS, BACKEND, {**REPORT, field: value}, key="w")
            assert fields(reply) == [field], value
    assert fields(api.post(HOLDS, BACKEND, REPORT)) == ["Idempotency-Key"]
    of_ends: dict[str, tuple[object, ...]] = {
        "amount": (-1, 1.0, "5", True, 1_000_000_001, None),
        "description": ("", 5, "x" * 501),
        "beyond_hold": ("yes", 1),
        "user_id": ("1",),
    }
    for field, values in of_ends.items():
        for value in values:
            body = {"amount": 1, field: value}
            reply = api.post(f"{HOLDS}/{hold_id}/capture", BACKEND, body)
            assert fields(reply) == [field], value
    reply = api.post(f"{HOLDS}/{hold_id}/release", BACKEND, {"amount": 1, "metadata": {}})
    assert fields(reply) == ["amount", "metadata"]
    assert len(hundred.history()) == 2


def test_nothing_is_held_of_who_is_not_there_or_has_nothing(world: World, api: Api) -> None:
    assert api.post(HOLDS, BACKEND, REPORT, key="h").status == 404
    world.subscribe("1")
    reply = api.post(HOLDS, BACKEND, REPORT, key="h")
    assert (reply.status, reply.json["available_balance"]) == (402, 0)
    assert world.lines() == []


def test_a_hundred_holds_are_active_at_most_and_an_ended_one_makes_room(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.domain.ledger.MOST_HOLDS", 3)
    first, second = hold(api, 1, key="1"), hold(api, 1, key="2", expires_in_seconds=60)
    hold(api, 1, key="3")
    one_more = {**REPORT, "amount": 1}
    reply = api.post(HOLDS, BACKEND, one_more, key="4")
    assert (reply.status, reply.json["code"]) == (422, "not_allowed")
    assert "capture or release some first" in reply.json["detail"]
    release(api, first)
    assert api.post(HOLDS, BACKEND, one_more, key="4").status == 200
    assert api.post(HOLDS, BACKEND, one_more, key="5").status == 422
    hundred.now += timedelta(seconds=60)  # the second has lapsed, and no line says so yet
    assert api.post(HOLDS, BACKEND, one_more, key="5").status == 200
    assert ended(release(api, second))[0] == "lapsed"


# --- Capturing and releasing ----------------------------------------------------------------------


def test_a_capture_uses_what_the_job_came_to_and_frees_the_rest_in_one_line(
    hundred: World, api: Api
) -> None:
    reply = capture(api, hold(api), 31, description="Report on 200 companies")
    assert reply.json == {
        "success": True,
        "new_balance": 69,
        "transaction_id": "1-3",
        "captured": 31,
        "released": 9,
        "batches": [{"batch_id": "1-1", "amount": -31}],
    }
    assert has(api) == (69, 0, 69)
    usage = hundred.history()[-1]
    assert (usage.type.value, usage.description) == ("usage", "Report on 200 companies")
    assert usage.actor == BACKEND.caller


def test_a_release_frees_everything_and_uses_nothing(hundred: World, api: Api) -> None:
    reply = release(api, hold(api), ADMIN, dry_run=False)
    assert reply.json == {
        "success": True,
        "new_balance": 100,
        "transaction_id": "1-3",
        "released": 40,
    }
    assert has(api) == (100, 0, 100)
    assert hundred.summary()[1:] == [("hold", 0, 100), ("release", 0, 100)]
    assert [entry.actor for entry in hundred.history()[1:]] == [BACKEND.caller, ADMIN.caller]


def test_the_same_end_again_is_answered_the_same_without_a_key_for_every_caller(
    hundred: World, api: Api
) -> None:
    first = capture(api, hold(api), 31, metadata={"report": "7"})
    other = release(api, hold(api, key="other"))
    hundred.grant("1", 500, "later")
    hundred.now += timedelta(days=400)
    for caller in (BACKEND, ADMIN):
        assert_replayed(capture(api, "1-2", 31, caller, metadata={"report": "7"}), first)
        assert_replayed(release(api, "1-4", caller), other)
    assert_replayed(
        capture(api, "1-4", 0),
        Reply(200, {}, json.dumps({**other.json, "captured": 0, "batches": []})),
    )
    assert len(hundred.history()) == 6


def test_another_end_is_told_how_when_and_by_which_transaction_the_hold_ended(
    hundred: World, api: Api
) -> None:
    hold_id = hold(api)
    hundred.now = at("2026-01-15T12:03:00.250Z")
    capture(api, hold_id, 31)
    hundred.now = at("2026-01-15T12:05:00Z")
    how = ("captured", "2026-01-15T12:03:00.250Z", "1-3")
    for other in (
        release(api, hold_id),
        capture(api, hold_id, 30),
        capture(api, hold_id, 31, description="Another text"),
        capture(api, hold_id, 31, metadata={"report": "8"}),
        capture(api, hold_id, 31, beyond_hold=True),
        capture(api, hold_id, 1000),
    ):
        assert ended(other) == how
    hold_id = hold(api, key="other")
    release(api, hold_id)
    assert ended(capture(api, hold_id, 1)) == ("released", "2026-01-15T12:05:00Z", "1-5")
    assert len(hundred.history()) == 5


def test_no_more_than_is_held_is_captured_unless_the_caller_says_so(
    hundred: World, api: Api
) -> None:
    hold_id = hold(api)
    no_more: tuple[dict[str, Any], ...] = ({}, {"beyond_hold": False})
    for more in no_more:
        reply = capture(api, hold_id, 41, **more)
        assert (reply.status, reply.json["code"]) == (422, "not_allowed")
        assert "beyond_hold" in reply.json["detail"]
    assert has(api) == (60, 40, 100)
    beyond = capture(api, hold_id, 41, beyond_hold=True)
    assert (beyond.json["captured"], beyond.json["released"]) == (41, 0)
    assert has(api) == (59, 0, 59)
    assert hundred.summary()[-1] == ("usage", -41, 59)


@pytest.mark.usefixtures("hundred")
def test_a_capture_beyond_the_hold_takes_nothing_if_the_rest_is_not_there(api: Api) -> None:
    hold_id = hold(api)
    hold(api, 50, key="other")
    reply = capture(api, hold_id, 51, beyond_hold=True)
    # The hold is the caller's own: with the 10 that are free, so much can be captured.
    assert (reply.status, reply.json["available_balance"]) == (402, 50)
    assert has(api) == (10, 90, 100)
    assert capture(api, hold_id, 50, beyond_hold=True).json["new_balance"] == 0
    assert has(api) == (0, 50, 50)


def test_a_capture_below_the_hold_may_go_beyond_and_does_not(hundred: World, api: Api) -> None:
    hold_id = hold(api)
    reply = capture(api, hold_id, 5, beyond_hold=True)
    assert (reply.json["captured"], reply.json["released"]) == (5, 35)
    assert hundred.balance() == 95


def test_there_is_no_hold_of_an_id_that_no_hold_has(hundred: World, api: Api) -> None:
    hold(api)
    for hold_id in ("1-1", "1-9", "nobody-2", "1-999999999999"):
        for reply in (capture(api, hold_id, 1), release(api, hold_id)):
            assert (reply.status, reply.json["code"]) == (404, "not_found"), hold_id
    assert len(hundred.history()) == 2


def test_nothing_is_asked_of_the_table_for_an_id_that_cannot_be_of_a_hold(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB would refuse a key that is too long, as if the fault were ours."""
    calls = asked(hundred, monkeypatch)
    wrong = ["1-0", "1-02", "-2", "2", "1-", "1-2x", "1-%C2%B2", "1-" + "9" * 13, "%20-2", "%00-2"]
    for hold_id in (*wrong, "1%2F2", "operation%23a-2", "x" * 129 + "-2", "x" * 3000 + "-2"):
        reply = release(api, hold_id)
        assert (reply.status, reply.json["code"]) == (404, "not_found"), hold_id
    assert calls == []


def test_a_hold_of_a_user_whose_id_is_escaped_in_a_path_can_be_ended(
    world: World, api: Api
) -> None:
    world.subscribe("auth0|a-b@c.example", email="ada@example.com")
    world.grant("auth0|a-b@c.example", 9, "nine")
    body = {"user_id": "auth0|a-b@c.example", "amount": 4, "description": "Report"}
    assert api.post(HOLDS, BACKEND, body, key="h").json["hold_id"] == "auth0|a-b@c.example-2"
    assert release(api, "auth0%7Ca-b%40c.example-2").json["released"] == 4


def test_the_usage_of_a_capture_is_given_back_as_any_usage_and_a_hold_is_none(
    hundred: World, api: Api
) -> None:
    transaction_id = capture(api, hold(api), 31).json["transaction_id"]
    back = {"user_id": "1", "transaction_id": transaction_id, "description": "Failed"}
    assert api.post(REVERSE, BACKEND, {**back, "amount": 11}, key="r").json["new_balance"] == 80
    assert api.post(REVERSE, BACKEND, back, key="s").json["returned_amount"] == 20
    hold_id = hold(api, key="other")
    reply = api.post(REVERSE, BACKEND, {**back, "transaction_id": hold_id}, key="t")
    assert (reply.status, reply.json["code"]) == (422, "not_allowed")
    assert hundred.balance() == 60


# --- Ending by itself -----------------------------------------------------------------------------


def test_a_hold_can_be_captured_to_its_last_millisecond_and_not_after(
    hundred: World, api: Api
) -> None:
    first, second = hold(api, 40, key="1"), hold(api, 40, key="2")
    hundred.now = at("2026-01-15T13:00:00.249Z")
    assert has(api) == (20, 80, 100)
    assert capture(api, first, 40).status == 200
    hundred.now = at("2026-01-15T13:00:00.250Z")
    assert has(api) == (60, 0, 60)
    for reply in (capture(api, second, 40), release(api, second)):
        assert ended(reply) == ("lapsed", "2026-01-15T13:00:00.250Z", None)
    assert api.post(USE, BACKEND, {**EXPORT, "amount": 60}, key="u").status == 200
    # Now a line has been written that leaves it out; later it is told just the same.
    hundred.now += timedelta(seconds=1)
    for reply in (capture(api, second, 40), release(api, second)):
        assert ended(reply) == ("lapsed", "2026-01-15T13:00:00.250Z", None)
    assert hundred.summary()[-1] == ("usage", -60, 0)


def test_the_balance_of_a_past_instant_has_the_holds_of_that_instant(
    hundred: World, api: Api
) -> None:
    hold_id = hold(api, expires_in_seconds=60)
    hundred.now = at("2026-01-15T12:00:30Z")
    release(api, hold_id)
    hold(api, 10, key="other", expires_in_seconds=30)
    hundred.now = at("2026-01-16T12:00:00Z")

    def then(instant: str) -> tuple[int, int, int]:
        found = api.get(f"{BALANCE}&at={instant}", BACKEND).json
        return found["available_balance"], found["held_balance"], len(found["holds"])

    assert then("2026-01-15T12:00:29.999Z") == (60, 40, 1)
    assert then("2026-01-15T12:00:30Z") == (90, 10, 1)
    assert then("2026-01-15T12:00:59.999Z") == (90, 10, 1)
    assert then("2026-01-15T12:01:00Z") == (100, 0, 0)


# --- Listing --------------------------------------------------------------------------------------


def test_active_holds_are_listed_the_oldest_first_and_ended_ones_are_not(
    hundred: World, api: Api
) -> None:
    assert api.get(f"{HOLDS}?user_id=1", BACKEND).json == {"holds": []}
    hold(api, 1, key="1", expires_in_seconds=60)
    hundred.now += timedelta(seconds=1)
    hold(api, 2, key="2", metadata={"report": "7"})
    release(api, hold(api, 3, key="3"))
    hold(api, 4, key="4", description="Another")
    hundred.now = at("2026-01-15T12:01:00.250Z")
    second, fourth = api.get(f"{HOLDS}?user_id=1", BACKEND).json["holds"]
    assert second == {
        "hold_id": "1-3",
        "amount": 2,
        "description": "Report",
        "held_at": "2026-01-15T12:00:01.250Z",
        "expires_at": "2026-01-15T13:00:01.250Z",
        "metadata": {"report": "7"},
    }
    assert (fourth["hold_id"], fourth["amount"], fourth["description"]) == ("1-6", 4, "Another")
    # Where a clock is behind the ledger, the ledger's time counts: the first has lapsed.
    hundred.grant("1", 1, "now")
    hundred.now = at("2026-01-15T12:00:30Z")
    assert api.get(f"{HOLDS}?user_id=1", BACKEND).json["holds"] == [second, fourth]


@pytest.mark.usefixtures("hundred")
def test_users_read_their_own_holds_and_nobody_elses(api: Api) -> None:
    hold(api)
    for path in (HOLDS, f"{HOLDS}?user_id=1"):
        assert len(api.get(path, user()).json["holds"]) == 1
    assert api.get(f"{HOLDS}?user_id=1", user("2")).status == 403
    assert api.get(f"{HOLDS}?user_id=1", Caller("u", "1", "credits:use")).status == 403
    for caller in (BACKEND, ADMIN):
        assert len(api.get(f"{HOLDS}?user_id=1", caller).json["holds"]) == 1
        assert api.get(f"{HOLDS}?user_id=9", caller).status == 404


@pytest.mark.usefixtures("hundred")
def test_users_set_nothing_aside_and_end_nothing_not_even_their_own(api: Api) -> None:
    hold_id = hold(api)
    for caller in (user(), Caller("u", "1", "credits:read"), Caller("u", "1", "")):
        assert api.post(HOLDS, caller, REPORT, key="u").status == 403
        assert capture(api, hold_id, 1, caller).status == 403
        assert release(api, hold_id, caller).status == 403
        assert release(api, "1-9", caller).status == 403, "it is not told what there is"
    assert has(api) == (60, 40, 100)


@pytest.mark.usefixtures("hundred")
def test_a_backend_reads_anybodys_credits_and_must_say_whose(api: Api) -> None:
    for path in ("balance", "allocation-schedule", "history", "holds"):
        assert api.get(f"/api/credits/{path}?user_id=1", BACKEND).status == 200
        assert api.get(f"/api/credits/{path}?user_id=9", BACKEND).status == 404
        reply = api.get(f"/api/credits/{path}", BACKEND)
        assert reply.status in (400, 403)


# --- The history ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("hundred")
def test_the_history_says_what_was_held_and_what_was_freed(api: Api) -> None:
    capture(api, hold(api), 31)
    release(api, hold(api, 5, key="other"))
    items = api.get(HISTORY, user()).json["items"]
    told = ("type", "amount", "balance_after", "hold_id", "held_amount", "released_amount")
    assert [tuple(item[name] for name in told) for item in items] == [
        ("release", 0, 69, "1-4", None, 5),
        ("hold", 0, 69, "1-4", 5, None),
        ("usage", -31, 69, "1-2", None, 9),
        ("hold", 0, 100, "1-2", 40, None),
        ("manual", 100, 100, None, None, None),
    ]
    held = api.get(f"{HISTORY}&type=hold", BACKEND).json["items"]
    assert [item["hold_id"] for item in held] == ["1-4", "1-2"]
    released = api.get(f"{HISTORY}&type=release", BACKEND).json["items"]
    assert [item["description"] for item in released] == ["Release of hold 1-4"]
    table = api.get(HISTORY, user(), headers={"Accept": "text/csv"}).text.splitlines()
    assert table[0].endswith(
        ",released_amount,payment_id,price,refunded_amount,unrecovered_amount,"
        "left_out_amount,balance_cap,metadata"
    )
    assert table[3].endswith(",1-2,,9,,,,,,,")
    assert table[4].endswith(",1-2,40,,,,,,,,")


# --- Across the expiry of what is held ------------------------------------------------------------


def test_what_is_held_outlives_its_batch_and_the_sweep_books_out_the_others_only(
    starter: World, api: Api
) -> None:
    starter.now = at("2026-05-30T12:00:00Z")
    hold_id = hold(api, 40, expires_in_seconds=DAY)
    schedule = api.get(SCHEDULE, BACKEND).json
    assert schedule["expiring_credits"] == [{"amount": 60, "expires_at": "2026-05-31"}]
    starter.expire_at(PARIS_31_MAY)
    assert starter.summary()[-1] == ("expiration", -60, 40)
    assert has(api) == (0, 40, 40)
    starter.now = at("2026-05-31T11:59:59.999Z")
    reply = capture(api, hold_id, 40)
    assert (reply.status, reply.json["new_balance"]) == (200, 0)
    starter.expire_at("2026-05-31T22:00:00Z")
    assert starter.summary()[-1] == ("usage", -40, 0)


def test_the_schedule_leaves_out_a_day_on_which_everything_is_still_held(
    starter: World, api: Api
) -> None:
    starter.now = at("2026-05-30T12:00:00Z")
    hold(api, 100, expires_in_seconds=DAY)
    assert api.get(SCHEDULE, BACKEND).json["expiring_credits"] == []
    assert api.get(SCHEDULE, BACKEND).json["current_balance"] == 0
    # A hold that is over before the batch is keeps nothing from expiring.
    release(api, "1-2")
    hold(api, 100, key="short", expires_in_seconds=60)
    schedule = api.get(SCHEDULE, BACKEND).json
    assert schedule["expiring_credits"] == [{"amount": 100, "expires_at": "2026-05-31"}]


def test_what_a_lapsed_hold_leaves_of_an_expired_batch_is_booked_out_by_the_next_sweep(
    starter: World, api: Api
) -> None:
    starter.now = at("2026-05-30T12:00:00Z")
    hold(api, 40, expires_in_seconds=DAY)
    starter.expire_at(PARIS_31_MAY)
    starter.now = at("2026-05-31T12:00:00Z")
    assert has(api) == (0, 0, 40), "the credits are dead, and a line will say so"
    starter.expire_at("2026-05-31T22:00:00Z")
    assert starter.summary()[-1] == ("expiration", -40, 0)
    entry = starter.history()[-1]
    assert entry.effective_at == at(PARIS_31_MAY)
    before = starter.lines()
    starter.expire_at("2026-05-31T22:15:00Z")
    assert starter.lines() == before


@pytest.mark.parametrize("captured", [0, 15])
def test_what_an_early_end_frees_of_an_expired_batch_is_booked_out_by_the_next_sweep(
    starter: World, api: Api, captured: int
) -> None:
    """It was to be held for a fortnight: no sweep of that end comes for long."""
    starter.now = at("2026-05-30T12:00:00Z")
    hold_id = hold(api, 40, expires_in_seconds=14 * DAY)
    starter.expire_at(PARIS_31_MAY)
    starter.now = at("2026-06-03T12:00:00Z")
    reply = capture(api, hold_id, captured)
    assert (reply.json["released"], reply.json["new_balance"]) == (40 - captured, 0)
    assert has(api) == (0, 0, 40 - captured)
    starter.expire_at("2026-06-03T22:00:00Z")
    assert starter.summary()[-1] == ("expiration", captured - 40, 0)


def test_a_hold_that_was_ended_early_is_booked_out_though_its_user_was_erased(
    starter: World, api: Api, terminal: Terminal
) -> None:
    starter.now = at("2026-05-30T12:00:00Z")
    hold_id = hold(api, 40, expires_in_seconds=2 * DAY)
    starter.expire_at(PARIS_31_MAY)
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    starter.now = at("2026-05-31T12:00:00Z")
    assert release(api, hold_id).status == 200
    starter.expire_at("2026-05-31T22:00:00Z")
    assert starter.summary()[-1] == ("expiration", -40, 0)


def test_a_capture_beyond_a_hold_whose_batch_is_dead_frees_nothing_of_it(
    starter: World, api: Api
) -> None:
    starter.now = at("2026-05-30T12:00:00Z")
    hold_id = hold(api, 40, expires_in_seconds=2 * DAY)
    starter.grant("1", 30, "new")
    starter.expire_at(PARIS_31_MAY)
    starter.now = at("2026-05-31T12:00:00Z")
    batches = api.get(BALANCE, BACKEND).json["batches"]
    assert [(each["batch_id"], each["held_amount"]) for each in batches] == [
        ("1-1", 40),
        ("1-3", 0),
    ]
    reply = capture(api, hold_id, 60, beyond_hold=True)
    assert reply.json["batches"] == [
        {"batch_id": "1-1", "amount": -40},
        {"batch_id": "1-3", "amount": -20},
    ]
    assert has(api) == (10, 0, 10)


def test_the_email_before_an_expiry_does_not_speak_of_credits_that_are_held(
    starter: World, api: Api
) -> None:
    starter.now = at("2026-05-20T12:00:00Z")
    hold(api, 40, expires_in_seconds=20 * DAY)
    starter.expire_at("2026-05-27T22:00:00Z")
    assert starter.send_mails() == []
    (mail,) = starter.outbox.sent
    assert (mail.kind, "60" in mail.text, "100" in mail.text) == ("expiring_soon", True, False)
    # Nor does one speak of the end of the hold as if credits expired then.
    for day in (5, 6, 7, 8, 9, 10):
        starter.expire_at(f"2026-06-{day:02}T22:00:00Z")
        starter.send_mails()
    assert len(starter.outbox.sent) == 1


# --- Taking back what is held ---------------------------------------------------------------------


def test_a_claw_back_leaves_what_is_held_unless_the_admin_says_otherwise(
    hundred: World, api: Api
) -> None:
    hold_id = hold(api)
    back = {"user_id": "1", "amount": -70, "description": "Chargeback"}
    reply = api.post(ALLOCATE, ADMIN, back, key="c")
    assert (reply.status, reply.json["available_balance"]) == (402, 60)
    assert api.post(ALLOCATE, ADMIN, {**back, "including_held": True}, key="c").status == 200
    assert has(api) == (0, 30, 30)
    assert capture(api, hold_id, 31).status == 422
    assert capture(api, hold_id, 30).status == 200
    assert hundred.summary()[-1] == ("usage", -30, 0)


def test_what_is_left_is_clawed_back_with_or_without_what_is_held(hundred: World, api: Api) -> None:
    hold_id = hold(api)
    back = {"user_id": "1", "amount": -500, "description": "Fraud", "up_to_available": True}
    assert api.post(ALLOCATE, ADMIN, back, key="a").json["amount"] == -60
    more = api.post(ALLOCATE, ADMIN, {**back, "including_held": True}, key="b")
    assert (more.json["amount"], more.json["new_balance"]) == (-40, 0)
    # Everything was taken from the hold; it can still be ended, once.
    assert has(api) == (0, 0, 0)
    assert release(api, hold_id).json["released"] == 0
    assert hundred.summary()[-1] == ("release", 0, 0)


def test_a_grant_takes_nothing_so_it_includes_nothing_held(hundred: World, api: Api) -> None:
    grant = {"user_id": "1", "amount": 5, "description": "Gift", "including_held": True}
    assert fields(api.post(ALLOCATE, ADMIN, grant, key="g")) == ["including_held"]
    assert len(hundred.history()) == 1


# --- Races, and answers that get lost -------------------------------------------------------------


def racing(world: World, monkeypatch: pytest.MonkeyPatch, overtaking: Callable[[], object]) -> None:
    """Lets something happen once a request has decided, just before it writes."""
    ledger = world.services.ledger
    transact = ledger._transact

    def overtaken(items: Any) -> None:
        monkeypatch.setattr(ledger, "_transact", transact)
        overtaking()
        transact(items)

    monkeypatch.setattr(ledger, "_transact", overtaken)


def test_of_two_ends_at_once_one_ends_the_hold_and_the_other_is_told_how(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_id = hold(api)
    replies: list[Reply] = []
    racing(hundred, monkeypatch, lambda: replies.append(capture(api, hold_id, 31)))
    assert ended(release(api, hold_id)) == ("captured", "2026-01-15T12:00:00.250Z", "1-3")
    assert replies[0].status == 200
    assert hundred.summary()[1:] == [("hold", 0, 100), ("usage", -31, 69)]


def test_of_two_equal_ends_at_once_both_are_answered_with_the_one_entry(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_id = hold(api)
    replies: list[Reply] = []
    racing(hundred, monkeypatch, lambda: replies.append(capture(api, hold_id, 31, ADMIN)))
    assert_replayed(capture(api, hold_id, 31), replies[0])
    assert len(hundred.history()) == 3


def test_of_two_holds_of_the_last_credits_at_once_one_is_refused(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    racing(hundred, monkeypatch, lambda: hold(api, 70, key="first"))
    reply = api.post(HOLDS, BACKEND, {**REPORT, "amount": 70}, key="second")
    assert (reply.status, reply.json["available_balance"]) == (402, 30)
    assert len(hundred.history()) == 2


def test_a_capture_that_meets_a_usage_does_not_lose_its_hold(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_id = hold(api)
    racing(
        hundred,
        monkeypatch,
        lambda: api.post(USE, BACKEND, {**EXPORT, "amount": 60}, key="u"),
    )
    assert capture(api, hold_id, 40).json["new_balance"] == 0
    assert hundred.summary()[-2:] == [("usage", -60, 40), ("usage", -40, 0)]


def test_a_hold_or_an_end_whose_answer_was_lost_is_there_once(
    hundred: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_http(hundred, patch, "ExecuteTransaction", lost_once(patch))
        hold_id = hold(api)
    with monkeypatch.context() as patch:
        at_http(hundred, patch, "ExecuteTransaction", lost_once(patch))
        assert capture(api, hold_id, 31).json["captured"] == 31
    assert hundred.summary()[1:] == [("hold", 0, 100), ("usage", -31, 69)]


# --- Audits, exports and erasures -----------------------------------------------------------------


def test_a_ledger_with_holds_of_every_fate_is_right(
    starter: World, api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    starter.now = at("2026-05-30T12:00:00Z")
    capture(api, hold(api, 10, key="1"), 7, metadata={"a": "b"})
    release(api, hold(api, 10, key="2"))
    hold(api, 10, key="3", expires_in_seconds=1)
    hold(api, 10, key="4", expires_in_seconds=DAY)
    taken = {"user_id": "1", "amount": -80, "description": "Fraud", "including_held": True}
    api.post(ALLOCATE, ADMIN, taken, key="c")
    starter.expire_at(PARIS_31_MAY)
    starter.expire_at("2026-05-31T22:00:00Z")
    starter.services.ledger.audit("1")
    monkeypatch.setattr(reach, "services_of", lambda *_: starter.services)
    assert verify.main(["1"]) == 0
    assert "right  user 1" in capsys.readouterr().out


def test_an_end_without_its_marker_is_found(hundred: World, api: Api) -> None:
    release(api, hold(api))
    (marker,) = [
        line
        for line in hundred.lines()
        if line["entry"]["S"] == "operation" and line["number"]["N"] == "3"
    ]
    client("dynamodb").delete_item(
        TableName=hundred.settings.ledger_table,
        Key={name: marker[name] for name in ("user_id", "entry")},
    )
    with pytest.raises(LedgerCorrupt, match="marker"):
        hundred.services.ledger.audit("1")


@pytest.mark.usefixtures("hundred")
def test_an_export_has_the_holds_their_ends_and_their_metadata(
    api: Api, terminal: Terminal
) -> None:
    capture(api, hold(api, metadata={"report": "of Grace"}), 31, metadata={"pages": "200"})
    exported = terminal.run(export.main, "--user-id", "1").facts
    _, held, captured = [line["entry"] for line in exported["ledger"]]
    assert held["metadata"] == {"report": "of Grace"}
    assert held["holds"][0][0] == 2
    assert (captured["hold"], captured["released"], captured["metadata"]) == (
        2,
        9,
        {"pages": "200"},
    )
    assert sorted(marker["number"] for marker in exported["markers"]) == [1, 2, 3]


def test_an_erasure_takes_the_texts_of_holds_and_their_ends_are_still_recognised(
    hundred: World, api: Api, terminal: Terminal
) -> None:
    about: Json = {"description": "Report for Grace", "metadata": {"name": "grace hopper"}}
    first = capture(api, hold(api, **about), 31, **about)
    released = release(api, hold(api, 3, key="r-grace", **about))
    active = hold(api, 2, key="grace", **about)
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    kept = str(hundred.lines()).lower()
    assert "grace" not in kept
    assert "metadata" not in kept
    hundred.services.ledger.audit("1")
    assert_replayed(capture(api, "1-2", 31, **about), first)
    assert_replayed(release(api, "1-4"), released)
    assert ended(capture(api, "1-2", 30)) == ("captured", "2026-01-15T12:00:00.250Z", "1-3")
    (listed,) = api.get(f"{HOLDS}?user_id=1", BACKEND).json["holds"]
    assert (listed["hold_id"], listed["metadata"]) == (active, {})
    assert "race" not in listed["description"]
    assert capture(api, active, 2).status == 200
    hundred.services.ledger.audit("1")


# --- Forms of lines -------------------------------------------------------------------------------


def write_line(world: World, previous_hash: str, body: Json) -> str:
    """Writes a line as a release of its time did; its hash."""
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    sealed = entry_hash(previous_hash, "1", text)
    item = {
        "user_id": {"S": "1"},
        "entry": {"S": f"entry#{body['number']:012}"},
        "body": {"S": text},
        "hash": {"S": sealed},
    }
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    return sealed


def old_line(schema: int, number: int, amount: int, batches: list[list[object]]) -> Json:
    """An adjustment of an admin as forms 1 and 2 have it."""
    return {
        "schema": schema,
        "number": number,
        "type": "allocation",
        "amount": amount,
        "balance": sum(int(str(batch[2])) for batch in batches),
        "batches": batches,
        "legs": [[number, amount]],
        "through": f"2025-1{number}",
        "operation": f"allocation#2025-1{number}",
        "description": f"Monthly credits for 2025-1{number}",
        "actor": "system",
        "effective": 1_700_000_000_000 + number,
        "posted": 1_700_000_000_000 + number,
        "zone": None,
        **({"correlation": None} if schema >= 2 else {}),
    }


@pytest.fixture
def old(world: World) -> World:
    """User 1 has a line of form 1 and one of form 2."""
    world.subscribe("1")
    first: list[object] = [1, 60, 60, 1_700_000_000_001, None]
    second: list[object] = [2, 40, 40, 1_700_000_000_002, None]
    hash_1 = write_line(world, FIRST_HASH, old_line(1, 1, 60, [first]))
    write_line(world, hash_1, old_line(2, 2, 40, [first, second]))
    return world


def test_a_ledger_of_lines_of_every_form_is_right_and_goes_on(old: World, api: Api) -> None:
    assert capture(api, hold(api, 70), 65).json["batches"] == [
        {"batch_id": "1-1", "amount": -60},
        {"batch_id": "1-2", "amount": -5},
    ]
    old.grant("1", 5, "new")
    bodies = [json.loads(line["body"]["S"]) for line in old.lines() if "body" in line]
    assert [body["schema"] for body in bodies] == [1, 2, 3, 3, 3]
    old.services.ledger.audit("1")
    batches = api.get(BALANCE, BACKEND).json["batches"]
    assert [(each["priority"], each["source"]) for each in batches] == [
        (50, None),
        (50, "adjustment"),
    ]


def test_a_release_before_holds_says_that_a_line_is_of_a_newer_one(
    old: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    old.services.ledger.verify("1")
    hold(api)
    monkeypatch.setattr(entries, "SCHEMA", 2)
    with pytest.raises(LedgerCorrupt, match=r"entry 3.*schema is unknown to this release"):
        old.services.ledger.verify("1")
    with pytest.raises(LedgerCorrupt, match=r"schema is unknown to this release"):
        old.services.ledger.account("1")


def test_a_caller_whose_name_has_signs_of_ours_has_keys_of_their_own(
    hundred: World, api: Api
) -> None:
    odd = Caller(caller_of("sub", "shop#h/1"), "", "credits:backend")
    assert api.post(HOLDS, odd, REPORT, key="h").json["hold_id"] == "1-2"
    assert api.post(HOLDS, BACKEND, REPORT, key="h").json["hold_id"] == "1-3"
    assert hundred.balance() == 20
