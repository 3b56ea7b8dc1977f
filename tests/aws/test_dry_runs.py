"""Dry runs over the API: the answer of the real thing, the line it would make, and no trace."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.aws.api import ADMIN, BACKEND, BILLING, Api, Reply, user
from tests.aws.damage import damage_subscription, having
from tests.aws.world import World, at, client

Json = dict[str, Any]

ALLOCATE = "/api/credits/allocate"
REVERSE = "/api/credits/reverse"
REFUNDS = "/api/credits/refunds"
VOID = "/api/credits/batches/1-1/void"
RUNS = "/api/credits/allocation-runs"
SUBSCRIPTION = "/api/subscriptions/1"


def stored(world: World) -> dict[str, list[str]]:
    """All items of all tables."""
    tables = (
        world.settings.ledger_table,
        world.settings.subscriptions_table,
        world.settings.edits_table,
        world.settings.stripe_table,
    )
    return {
        table: sorted(map(str, client("dynamodb").scan(TableName=table)["Items"]))
        for table in tables
    }


@pytest.fixture
def tried(world: World, api: Api) -> Callable[..., Reply]:
    """Sends a request as a dry run; it must leave every table as it was, and queue nothing."""

    def send(path: str, body: Json, *, method: str = "POST", key: str | None = None) -> Reply:
        before = stored(world)
        reply = api.send(method, path, ADMIN, {**body, "dry_run": True}, key=key)
        assert stored(world) == before
        assert world.take("sweeps") == []
        return reply

    return send


@pytest.fixture
def busy(world: World, api: Api) -> World:
    """User 1 has 100 granted credits, a usage (2), a hold (3) and a purchase (4)."""
    world.subscribe("1")
    world.grant("1", 100, "gift")
    use = {"amount": 30, "description": "Export"}
    assert api.post("/api/credits/use", user("1"), use, key="u").status == 200
    hold = {"user_id": "1", "amount": 10, "description": "Crawl"}
    assert api.post("/api/credits/holds", BACKEND, hold, key="h").status == 200
    pack = {"user_id": "1", "amount": 50, "payment_id": "pi_1"}
    assert api.post("/api/credits/purchases", BILLING, pack).status == 200
    return world


REQUESTS: tuple[tuple[str, Json], ...] = (
    (ALLOCATE, {"user_id": "1", "amount": 20, "description": "Goodwill", "expires_in_days": 14}),
    (ALLOCATE, {"user_id": "1", "amount": -20, "description": "Mistake"}),
    (
        ALLOCATE,
        {"user_id": "1", "amount": -900, "description": "All of it", "up_to_available": True},
    ),
    (
        REVERSE,
        {"user_id": "1", "transaction_id": "1-2", "amount": 10, "description": "Ten were empty"},
    ),
    ("/api/credits/holds/1-3/release", {}),
    (REFUNDS, {"payment_id": "pi_1", "amount": 20, "description": "Asked for it"}),
    (VOID, {"description": "Mistake"}),
    (VOID, {"description": "Fraud", "including_held": True, "notify": False}),
)


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_dry_run_answers_what_the_real_thing_then_does(
    api: Api, tried: Callable[..., Reply], path: str, body: Json
) -> None:
    dry = tried(path, body, key="k")
    assert dry.status == 200, dry.text
    real = api.post(path, ADMIN, body, key="k")
    assert {"dry_run": True, **real.json}.items() <= dry.json.items()
    history = api.get("/api/credits/history?user_id=1&limit=1", ADMIN).json["items"]
    assert [dry.json["transaction"]] == history
    assert "Idempotency-Replayed".lower() not in dry.headers


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_dry_run_of_what_was_done_shows_what_was_done(
    api: Api, tried: Callable[..., Reply], path: str, body: Json
) -> None:
    real = api.post(path, ADMIN, body, key="k")
    again = tried(path, body, key="k")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json["transaction_id"] == real.json["transaction_id"]
    assert again.json["transaction"]["transaction_id"] == real.json["transaction_id"]


@pytest.mark.usefixtures("busy")
@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (ALLOCATE, {"user_id": "1", "amount": -900, "description": "Too much"}, 402),
        (ALLOCATE, {"user_id": "2", "amount": 1, "description": "Nobody"}, 404),
        (ALLOCATE, {"user_id": "1", "amount": 10**9, "description": "Above the cap"}, 400),
        (REVERSE, {"user_id": "1", "transaction_id": "1-1", "description": "No usage"}, 422),
        (REVERSE, {"user_id": "1", "transaction_id": "1-9", "description": "No entry"}, 404),
        ("/api/credits/holds/1-1/release", {}, 404),
        (REFUNDS, {"payment_id": "pi_2", "amount": 1, "description": "Unknown"}, 404),
        (REFUNDS, {"payment_id": "pi_1", "amount": 51, "description": "Too much"}, 422),
        ("/api/credits/batches/1-2/void", {"description": "No batch"}, 404),
        ("/api/credits/batches/1-9/void", {"description": "No entry"}, 404),
    ],
)
def test_a_dry_run_is_refused_as_the_real_thing_is(
    api: Api, tried: Callable[..., Reply], path: str, body: Json, status: int
) -> None:
    dry = tried(path, body, key="k")
    real = api.post(path, ADMIN, body, key="k")
    assert (dry.status, real.status) == (status, status)
    same = {**real.json, "request_id": ""}
    assert {**dry.json, "request_id": ""} == same


@pytest.mark.usefixtures("busy")
def test_a_key_that_was_used_for_another_request_is_refused_before_it_is_tried(
    api: Api, tried: Callable[..., Reply]
) -> None:
    body = {"user_id": "1", "amount": 20, "description": "Goodwill"}
    api.post(ALLOCATE, ADMIN, body, key="k")
    assert tried(ALLOCATE, {**body, "amount": 30}, key="k").json["code"] == "idempotency_key_reused"
    assert tried(ALLOCATE, body).status == 400


def test_dry_run_is_true_or_false(busy: World, api: Api) -> None:
    for path, body in (*REQUESTS, (RUNS, {"period": "2026-01", "user_id": "1"})):
        before = stored(busy)
        reply = api.post(path, ADMIN, {**body, "dry_run": "yes"}, key="k")
        assert [error["field"] for error in reply.json["errors"]] == ["dry_run"]
        assert stored(busy) == before


# --- Subscriptions ------------------------------------------------------------------------------


def test_a_tried_edit_shows_the_subscription_after_it_and_what_it_would_allocate(
    world: World, api: Api, tried: Callable[..., Reply]
) -> None:
    world.subscribe("1", status="paused", eligible_from="2026-01-01")
    change = {"status": "active", "eligible_from": "2026-01-01", "plan": "starter"}
    dry = tried(SUBSCRIPTION, change, method="PATCH")
    assert dry.status == 200, dry.text
    etag = dry.headers["etag"]
    assert etag == api.get(SUBSCRIPTION, ADMIN).headers["etag"]
    real = api.patch(SUBSCRIPTION, ADMIN, change, headers={"If-Match": etag})
    posted = world.history("1")
    assert dry.json.pop("dry_run") is True
    after = {**dry.json}
    due = [(item["allocation_period"], item["amount"]) for item in after.pop("due")]
    del after["dry_run"]
    assert after == real.json
    assert due == [(str(entry.allocated_through), entry.amount) for entry in posted]


def test_an_edit_that_allocates_shows_each_allocation(
    world: World, api: Api, tried: Callable[..., Reply]
) -> None:
    world.subscribe("1")
    change = {"eligible_from": "2025-12-01"}
    dry = tried(SUBSCRIPTION, change, method="PATCH").json
    assert [item["allocation_period"] for item in dry["due"]] == ["2025-12", "2026-01"]
    assert dry["next_credit_allocation"] == "2026-02-01"
    api.patch(SUBSCRIPTION, ADMIN, change)
    assert [str(entry.allocated_through) for entry in world.history()] == ["2025-12", "2026-01"]


def test_a_tried_edit_of_a_plan_that_has_left_the_catalogue_allocates_nothing(
    world: World, tried: Callable[..., Reply]
) -> None:
    world.subscribe("1", email="old@example.com")
    damage_subscription(having("plan", {"S": "gone"}))
    world.now = at("2026-02-20T12:00:00Z")
    dry = tried(SUBSCRIPTION, {"email": "new@example.com"}, method="PATCH")
    assert (dry.status, dry.json["email"], dry.json["due"]) == (200, "new@example.com", [])


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        ({"plan": "nope"}, {}, 400),
        ({"status": "paused"}, {"If-Match": '"9"'}, 412),
        ({"mail_suppressed_because": "bounce"}, {}, 400),
    ],
)
def test_a_tried_edit_is_refused_as_the_edit_is(
    world: World, api: Api, change: Json, headers: dict[str, str], status: int
) -> None:
    world.subscribe("1")
    before = stored(world)
    for body in ({**change, "dry_run": True}, change):
        assert api.patch(SUBSCRIPTION, ADMIN, body, headers=headers).status == status
    assert api.patch("/api/subscriptions/2", ADMIN, {"dry_run": True}).status == 404
    assert stored(world) == before


def test_a_backend_may_not_try_what_it_may_not_do(world: World, api: Api) -> None:
    world.subscribe("1")
    change = {"allocation_amount": 10_000, "dry_run": True}
    assert api.patch(SUBSCRIPTION, BACKEND, change).status == 403
    assert api.patch(SUBSCRIPTION, BACKEND, {"status": "paused", "dry_run": True}).status == 200


# --- What is due to one user --------------------------------------------------------------------


def test_what_is_due_to_one_user_is_shown_and_then_allocated_at_once(
    world: World, api: Api, tried: Callable[..., Reply]
) -> None:
    world.subscribe("1", eligible_from="2025-11-01", started_at="2025-11-01T00:00:00Z")
    world.subscribe("2", eligible_from="2025-11-01")
    world.now = at("2026-02-20T12:00:00Z")
    before = world.summary("2")
    for period, due in (("2026-01", ["2025-12", "2026-01"]), ("2026-02", ["2026-02"])):
        body = {"period": period, "user_id": "1"}
        dry = tried(RUNS, body).json
        real = api.post(RUNS, ADMIN, body)
        assert real.status == 200
        assert {**dry, "dry_run": False} == real.json
        assert [item["allocation_period"] for item in dry["items"]] == due
    assert world.summary("1")[-1][:2] == ("allocation", 500)
    assert world.summary("2") == before
    assert api.post(RUNS, ADMIN, body).json["items"] == []
    assert world.take("sweeps") == []


def test_a_month_that_has_not_begun_where_the_user_lives_is_refused(world: World, api: Api) -> None:
    world.subscribe("1", timezone="America/New_York")
    world.now = at("2026-02-01T01:00:00Z")
    for dry_run in (True, False):
        body = {"period": "2026-02", "user_id": "1", "dry_run": dry_run}
        reply = api.post(RUNS, ADMIN, body)
        assert [error["field"] for error in reply.json["errors"]] == ["period"]
        assert "America/New_York" in reply.json["detail"]


def test_a_user_whom_nobody_can_judge_is_named_and_gets_nothing(world: World, api: Api) -> None:
    world.subscribe("1")
    client("dynamodb").update_item(
        TableName=world.settings.subscriptions_table,
        Key={"user_id": {"S": "1"}},
        UpdateExpression="SET #plan = :gone",
        ExpressionAttributeNames={"#plan": "plan"},
        ExpressionAttributeValues={":gone": {"S": "gone"}},
    )
    world.now = at("2026-02-20T12:00:00Z")
    for dry_run in (True, False):
        body = {"period": "2026-02", "user_id": "1", "dry_run": dry_run}
        reply = api.post(RUNS, ADMIN, body).json
        assert [each["user_id"] for each in reply["not_judged"]] == ["1"]
        assert reply["items"] == []
    assert world.summary("1") == []


def test_a_run_of_one_user_is_of_no_zone_and_has_no_pages(world: World, api: Api) -> None:
    world.subscribe("1")
    body = {"period": "2026-01", "user_id": "1", "zones": ["UTC"], "limit": 1, "dry_run": True}
    reply = api.post(RUNS, ADMIN, body)
    assert {error["field"] for error in reply.json["errors"]} == {"zones", "limit"}
    unknown = {"period": "2026-01", "user_id": "2"}
    assert api.post(RUNS, ADMIN, unknown).status == 404
