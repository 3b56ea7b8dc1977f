"""A void over the API: it takes what is left of one batch, and nothing of another."""

from typing import Any

import pytest

from tests.aws.api import ADMIN, BACKEND, Api, Caller, Reply, user
from tests.aws.world import World

Json = dict[str, Any]

WHY = {"description": "Granted to the wrong user"}
OTHER_ADMIN = Caller("eve", "", "credits:admin")


def void(
    api: Api, number: int, caller: Caller = ADMIN, key: str | None = "k", **more: object
) -> Reply:
    # Programs may encode every character that is no letter and no digit.
    return api.post(f"/api/credits/batches/1%2D{number}/void", caller, {**WHY, **more}, key=key)


@pytest.fixture
def two_batches(world: World) -> World:
    """Batch 1 has 30 credits; batch 2, which is spent later, has 50."""
    world.subscribe("1")
    world.grant("1", 30, "a")
    world.grant("1", 50, "b")
    return world


def left(api: Api) -> dict[str, int]:
    batches = api.get("/api/credits/balance?user_id=1", ADMIN).json["batches"]
    return {each["batch_id"]: each["remaining_amount"] for each in batches}


def amounts(world: World) -> list[int]:
    return [entry.amount for entry in world.history()]


def test_a_void_takes_one_batch_whole_and_leaves_the_older_one(
    two_batches: World, api: Api
) -> None:
    reply = void(api, 2)
    assert reply.json == {
        "success": True,
        "new_balance": 30,
        "transaction_id": "1-3",
        "taken": 50,
    }
    assert left(api) == {"1-1": 30}
    last = two_batches.history()[-1]
    assert (last.actor, last.description) == ("ada", "Granted to the wrong user")


def test_of_a_batch_that_is_used_in_part_the_rest_is_taken(two_batches: World, api: Api) -> None:
    use = {"user_id": "1", "amount": 45, "description": "Export"}
    assert api.post("/api/credits/use", BACKEND, use, key="u").status == 200
    assert void(api, 2).json["taken"] == 35
    assert amounts(two_batches) == [30, 50, -45, -35]


def test_a_repeated_void_takes_nothing_more(two_batches: World, api: Api) -> None:
    first = void(api, 1)
    again = void(api, 1)
    assert again.json == first.json
    assert again.headers["idempotency-replayed"] == "true"
    assert amounts(two_batches) == [30, 50, -30]


@pytest.mark.parametrize(
    "more",
    [
        {"number": 2},
        {"description": "Fraud"},
        {"notify": False},
        {"including_held": True},
    ],
)
def test_the_key_of_another_void_is_refused(two_batches: World, api: Api, more: Json) -> None:
    assert void(api, 1).status == 200
    reply = void(api, **{"number": 1, **more})
    assert (reply.status, reply.json["code"]) == (422, "idempotency_key_reused")
    assert amounts(two_batches) == [30, 50, -30]


def test_two_admins_can_use_the_same_key(two_batches: World, api: Api) -> None:
    assert void(api, 1).status == 200
    assert void(api, 2, OTHER_ADMIN).status == 200
    assert [entry.actor for entry in two_batches.history()[2:]] == ["ada", "eve"]


def test_a_void_under_the_key_of_a_grant_is_another_operation(two_batches: World, api: Api) -> None:
    grant = {"user_id": "1", "amount": 5, "description": "Goodwill"}
    assert api.post("/api/credits/allocate", ADMIN, grant, key="k").status == 200
    assert void(api, 3).status == 200
    assert amounts(two_batches) == [30, 50, 5, -5]


@pytest.mark.usefixtures("two_batches")
def test_what_is_held_stays_until_somebody_says_otherwise(api: Api) -> None:
    hold = {"user_id": "1", "amount": 20, "description": "Crawl"}
    assert api.post("/api/credits/holds", BACKEND, hold, key="h").status == 200
    assert void(api, 1, including_held=False).json["taken"] == 10
    all_is_held = void(api, 1, key="k2")
    assert (all_is_held.status, all_is_held.json["code"]) == (422, "not_allowed")
    assert "say including_held to take it back" in all_is_held.json["detail"]
    assert void(api, 1, key="k3", including_held=True).json["taken"] == 20
    assert left(api) == {"1-2": 50}


@pytest.mark.usefixtures("two_batches")
def test_a_hold_keeps_what_a_void_leaves_of_it(api: Api) -> None:
    hold = {"user_id": "1", "amount": 40, "description": "Crawl"}
    assert api.post("/api/credits/holds", BACKEND, hold, key="h").status == 200
    assert void(api, 1, including_held=True).json["taken"] == 30
    (left_of_it,) = api.get("/api/credits/holds?user_id=1", BACKEND).json["holds"]
    assert (left_of_it["hold_id"], left_of_it["amount"]) == ("1-3", 10)


def test_a_batch_of_which_nothing_is_left_is_refused_and_nothing_changes(
    two_batches: World, api: Api
) -> None:
    assert void(api, 1).status == 200
    reply = void(api, 1, key="k2")
    assert (reply.status, reply.json["code"]) == (422, "not_allowed")
    assert reply.json["detail"].startswith("nothing remains of batch 1-1")
    assert amounts(two_batches) == [30, 50, -30]


@pytest.mark.parametrize("name", ["1-9", "1-3", "1-4", "2-1", "1", "-1", "1-", "1-x", "a%20b-1"])
def test_a_batch_that_is_not_there_is_not_found(two_batches: World, api: Api, name: str) -> None:
    used = {"amount": 9, "description": "Export"}
    assert api.post("/api/credits/use", user(), used, key="u").status == 200
    back = {"user_id": "1", "transaction_id": "1-3", "description": "Oops"}
    assert api.post("/api/credits/reverse", BACKEND, back, key="r").status == 200
    reply = api.post(f"/api/credits/batches/{name}/void", ADMIN, WHY, key="k")
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert amounts(two_batches) == [30, 50, -9, 9]


def test_a_void_needs_a_key_and_a_reason_and_knows_no_other_field(
    two_batches: World, api: Api
) -> None:
    path = "/api/credits/batches/1-1/void"
    for body, key, field in (
        (WHY, None, "Idempotency-Key"),
        ({}, "k", "description"),
        ({**WHY, "amount": 5}, "k", "amount"),
        ({**WHY, "notify": "no"}, "k", "notify"),
        ({**WHY, "including_held": 1}, "k", "including_held"),
    ):
        reply = api.post(path, ADMIN, body, key=key)
        assert [error["field"] for error in reply.json["errors"]] == [field]
    assert amounts(two_batches) == [30, 50]


@pytest.mark.parametrize(("notify", "emails"), [(True, 3), (False, 2)])
def test_the_user_is_told_unless_the_request_says_no(
    two_batches: World, api: Api, notify: object, emails: int
) -> None:
    """Two emails are about the grants."""
    assert void(api, 2, notify=notify).status == 200
    two_batches.queue_mails()
    assert len(two_batches.take("notifications")) == emails
