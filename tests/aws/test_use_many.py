"""Several usages at once: each key is charged once, by whichever route it comes."""

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.store.ledger import LedgerStore
from tests.aws.api import ADMIN, BACKEND, Api, Reply, user
from tests.aws.world import World
from tests.wire import cancelled

MANY = "/api/credits/use-many"
USE = "/api/credits/use"


def lead(number: int, amount: int = 2) -> dict[str, Any]:
    return {"key": f"lead-{number}", "amount": amount, "description": f"Lead {number}"}


def charge(api: Api, *leads: dict[str, Any]) -> Reply:
    return api.post(MANY, BACKEND, {"user_id": "1", "items": list(leads)})


@pytest.fixture
def rich(world: World) -> World:
    world.subscribe("1")
    world.grant("1", 100, "gift")
    return world


def test_several_usages_are_one_entry(rich: World, api: Api) -> None:
    reply = charge(api, lead(1), lead(2, 5))
    assert reply.status == 200, reply.text
    assert reply.json == {
        "success": True,
        "transaction_id": "1-2",
        "amount": 7,
        "new_balance": 93,
        "charged": ["lead-1", "lead-2"],
        "already_charged": [],
    }
    assert "idempotency-replayed" not in reply.headers
    rich.services.ledger.audit("1")


@pytest.mark.usefixtures("rich")
def test_the_same_again_charges_nothing_and_says_who_did(api: Api) -> None:
    charge(api, lead(1), lead(2))
    again = charge(api, lead(2), lead(1))
    assert again.json == {
        "success": True,
        "transaction_id": None,
        "amount": 0,
        "new_balance": 96,
        "charged": [],
        "already_charged": [
            {"key": "lead-2", "transaction_id": "1-2"},
            {"key": "lead-1", "transaction_id": "1-2"},
        ],
    }
    assert again.headers["idempotency-replayed"] == "true"


def test_only_what_is_new_is_charged(rich: World, api: Api) -> None:
    charge(api, lead(1))
    reply = charge(api, lead(1), lead(3), lead(2))
    assert (reply.json["amount"], reply.json["charged"]) == (4, ["lead-3", "lead-2"])
    assert rich.history()[-1].description == "Lead 3 and 1 more"
    assert reply.json["already_charged"] == [{"key": "lead-1", "transaction_id": "1-2"}]
    assert rich.balance() == 94
    assert "idempotency-replayed" not in reply.headers
    job = {"user_id": "1", "amount": 10, "description": "Job"}
    assert api.post("/api/credits/holds", BACKEND, job, key="job").status == 200
    assert charge(api, lead(4)).json["new_balance"] == 82


def test_a_lead_is_charged_once_by_whichever_route(rich: World, api: Api) -> None:
    alone = {"user_id": "1", "amount": 2, "description": "Lead 1"}
    assert api.post(USE, BACKEND, alone, key="lead-1").json["transaction_id"] == "1-2"
    assert charge(api, lead(1), lead(2)).json["charged"] == ["lead-2"]
    other = {**alone, "description": "Lead 2"}
    replayed = api.post(USE, BACKEND, other, key="lead-2")
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.json["transaction_id"] == "1-3"
    assert rich.balance() == 96
    rich.services.ledger.audit("1")


def test_the_same_key_for_another_usage_is_refused_and_charges_nothing(
    rich: World, api: Api
) -> None:
    charge(api, lead(1))
    reply = charge(api, lead(2), lead(1, 3))
    assert (reply.status, reply.json["code"]) == (422, "idempotency_key_reused")
    assert "'lead-1'" in reply.json["detail"]
    assert rich.balance() == 98
    assert charge(api, {**lead(1), "metadata": {"campaign": "42"}}).status == 422
    charge(api, {**lead(2), "key": "a#b"})
    assert "'a#b'" in charge(api, {**lead(3), "key": "a#b"}).json["detail"]


def test_what_is_not_covered_together_charges_nothing(rich: World, api: Api) -> None:
    reply = charge(api, lead(1, 60), lead(2, 41))
    assert (reply.status, reply.json["available_balance"]) == (402, 100)
    assert rich.balance() == 100
    assert charge(api, lead(1, 60)).status == 200
    stranger = api.post(MANY, BACKEND, {"user_id": "2", "items": [lead(9)]})
    assert (stranger.status, stranger.json["code"]) == (404, "not_found")


def test_on_a_clock_that_is_late_a_repetition_shows_what_was_left_after_the_last_entry(
    rich: World, api: Api
) -> None:
    rich.grant("1", 50, "soon", expires_in_days=1)
    before = rich.now
    rich.now += timedelta(days=3)
    assert charge(api, lead(1)).json["new_balance"] == 98
    rich.now = before
    assert charge(api, lead(1)).json["new_balance"] == 98


@pytest.mark.usefixtures("rich")
def test_credits_need_cover_only_what_is_new(api: Api) -> None:
    charge(api, lead(1, 90))
    reply = charge(api, lead(1, 90), lead(2, 10))
    assert (reply.status, reply.json["charged"], reply.json["new_balance"]) == (200, ["lead-2"], 0)
    again = charge(api, lead(1, 90), lead(2, 10))
    assert (again.status, again.json["charged"], again.json["new_balance"]) == (200, [], 0)


@pytest.mark.usefixtures("rich")
def test_keys_belong_to_their_caller(api: Api) -> None:
    charge(api, lead(1))
    own = {"amount": 2, "description": "Lead 1"}
    assert api.post(USE, user("1"), own, key="lead-1").json["transaction_id"] == "1-3"


@pytest.mark.usefixtures("rich")
def test_an_entry_shows_its_usages_and_the_history_what_they_came_to(api: Api) -> None:
    charge(api, {**lead(1), "metadata": {"campaign": "42"}}, lead(2))
    full = api.get("/api/credits/transactions/1-2", user("1")).json
    assert full["items"] == [
        {"key": "lead-1", "amount": 2, "description": "Lead 1", "metadata": {"campaign": "42"}},
        {"key": "lead-2", "amount": 2, "description": "Lead 2", "metadata": {}},
    ]
    assert (full["type"], full["amount"], full["actor"]) == ("usage", -4, BACKEND.caller)
    assert full["description"] == "Lead 1 and 1 more"
    latest = api.get("/api/credits/history?limit=1", user("1")).json["items"][0]
    assert {**latest, "items": full["items"]} == full
    assert api.get("/api/credits/transactions/1%2D1", ADMIN).json["items"] == []


@pytest.mark.usefixtures("rich")
@pytest.mark.parametrize(
    "name", ["1-3", "1-0", "1-01", "1-", "1", "1-x", "a%20b-1", "%F0%9F%99%82-1"]
)
def test_a_transaction_that_is_not_there_is_not_found(api: Api, name: str) -> None:
    assert api.get(f"/api/credits/transactions/{name}", BACKEND).status == 404


@pytest.mark.usefixtures("rich")
def test_an_entry_of_others_is_not_shown(api: Api) -> None:
    reply = api.get("/api/credits/transactions/1-1", user("2"))
    assert (reply.status, reply.json["code"]) == (403, "forbidden")


@pytest.mark.parametrize("caller", [user("1"), ADMIN])
def test_only_a_backend_charges_several_usages(rich: World, api: Api, caller: Any) -> None:
    assert api.post(MANY, caller, {"user_id": "1", "items": [lead(1)]}).status == 403
    assert rich.balance() == 100


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([], "items"),
        ("lead", "items"),
        ([lead(number) for number in range(91)], "items"),
        ([lead(1), lead(1)], "items"),
        ([lead(1), {**lead(2), "amount": 0}], "items[1].amount"),
        ([{**lead(1), "key": "a b"}], "items[0].key"),
        ([{**lead(1), "note": "?"}], "items[0].note"),
        ([lead(1), {**lead(2), "key": "a b", "amount": 0}], "items[1].key items[1].amount"),
        ([5], "items[0].body"),
        ([{**lead(1), "metadata": {"K": "v"}}], "items[0].metadata"),
    ],
)
def test_wrong_usages_are_named_and_nothing_is_charged(
    rich: World, api: Api, items: object, field: str
) -> None:
    reply = api.post(MANY, BACKEND, {"user_id": "1", "items": items})
    named = [wrong["field"] for wrong in reply.json["errors"]]
    assert (reply.status, named) == (400, field.split())
    assert rich.balance() == 100


def test_ninety_usages_fit_into_one_entry(rich: World, api: Api) -> None:
    reply = charge(api, *(lead(number, 1) for number in range(90)))
    assert (reply.status, len(reply.json["charged"]), rich.balance()) == (200, 90, 10)
    rich.services.ledger.audit("1")


def test_a_usage_of_many_is_given_back_as_any_usage(rich: World, api: Api) -> None:
    charge(api, lead(1), lead(2))
    back = {"user_id": "1", "transaction_id": "1-2", "amount": 2, "description": "Lead 2 was wrong"}
    assert api.post("/api/credits/reverse", BACKEND, back, key="r").status == 200
    assert rich.balance() == 98
    rich.services.ledger.audit("1")


def test_of_two_that_charge_the_same_at_once_one_charges(
    rich: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact = LedgerStore._transact
    met: list[Reply] = []

    def another_first(self: LedgerStore, items: Any) -> None:
        if not met:
            met.append(None)  # type: ignore[arg-type]
            met[0] = charge(api, lead(2), lead(3))
        transact(self, items)

    monkeypatch.setattr(LedgerStore, "_transact", another_first)
    monkeypatch.setattr(rich.services.ledger, "_pause", lambda _: None)
    reply = charge(api, lead(1), lead(2))
    assert met[0].json["charged"] == ["lead-2", "lead-3"]
    assert reply.json["charged"] == ["lead-1"]
    assert reply.json["already_charged"] == [{"key": "lead-2", "transaction_id": "1-2"}]
    assert rich.balance() == 94
    rich.services.ledger.audit("1")


def test_a_lost_answer_is_found_again(
    rich: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    transact = LedgerStore._transact
    lost: list[str] = []

    def lose_the_answer(self: LedgerStore, items: Any) -> None:
        transact(self, items)
        if not lost:
            lost.append("once")
            raise cancelled("DuplicateItem")

    monkeypatch.setattr(LedgerStore, "_transact", lose_the_answer)
    monkeypatch.setattr(rich.services.ledger, "_pause", lambda _: None)
    reply = charge(api, lead(1), lead(2))
    assert reply.json["already_charged"] == [
        {"key": "lead-1", "transaction_id": "1-2"},
        {"key": "lead-2", "transaction_id": "1-2"},
    ]
    assert rich.balance() == 96
