"""How long credits live that came by hand, which are spent first, and where they are from."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.plans import PlanCatalogue
from chalicelib.jobs import manual
from infra.imports.balances import BALANCES, COLUMNS
from infra.imports.importing import import_rows
from tests.aws.api import ADMIN, BACKEND, Api
from tests.aws.world import World, at

ALLOCATE = "/api/credits/allocate"
BALANCE = "/api/credits/balance?user_id=1"
USE = "/api/credits/use"
GIFT = {"user_id": "1", "amount": 5, "description": "Gift"}

Json = dict[str, Any]
Grant = Callable[..., Json]
"""Grants by hand; answers what the granting answered, without the word of success."""


@pytest.fixture(params=["API", "Lambda"])
def grant(request: pytest.FixtureRequest, world: World, api: Api) -> Grant:
    def by_api(key: str, **more: object) -> Json:
        return dict(api.post(ALLOCATE, ADMIN, {**GIFT, **more}, key=key).json)

    def by_lambda(key: str, **more: object) -> Json:
        event = {**GIFT, "actor": "ada", "idempotency_key": key, **more}
        answer = manual.manual_allocate(world.services, event, world.context)
        return dict(answer.get("error", answer))

    return by_api if request.param == "API" else by_lambda


def batches(api: Api) -> list[Json]:
    found: list[Json] = api.get(BALANCE, ADMIN).json["batches"]
    return found


def wrong(answer: Json) -> list[str]:
    assert answer["code"] == "invalid_input", answer
    return [error["field"] for error in answer["errors"]]


# --- Lifetimes of grants by hand ------------------------------------------------------------------


def test_a_grant_that_says_nothing_lives_as_long_as_credits_of_the_users_plan(
    world: World, api: Api, grant: Grant
) -> None:
    world.subscribe("1", plan="starter")
    assert grant("a")["success"]
    (batch,) = batches(api)
    # At a midnight in Paris, after at least thirty days.
    assert batch["expires_at"] == "2026-02-14T23:00:00Z"
    world.subscribe("1", plan="pro")
    world.now += timedelta(minutes=1)
    assert grant("b")["success"]
    assert [each["expires_at"] for each in batches(api)] == ["2026-02-14T23:00:00Z", None]


def test_null_is_never_and_days_are_days_whatever_the_plan_says(
    world: World, api: Api, grant: Grant
) -> None:
    for plan in ("starter", "pro"):
        world.subscribe("1", plan=plan)
        assert grant(f"{plan}-never", expires_in_days=None)["success"]
        assert grant(f"{plan}-days", expires_in_days=7)["success"]
    expiries = [each["expires_at"] for each in batches(api)]
    assert expiries == [None, "2026-01-22T23:00:00Z"] * 2


def test_a_grant_of_the_lowest_plan_is_swept_after_its_thirty_days(
    world: World, grant: Grant
) -> None:
    world.subscribe("1", plan="starter")
    grant("a")
    world.expire_at("2026-02-14T23:00:00Z")
    assert world.summary() == [("manual", 5, 5), ("expiration", -5, 0)]


def test_the_same_grant_is_the_same_though_the_plan_has_changed_meanwhile(
    world: World, api: Api, grant: Grant
) -> None:
    world.subscribe("1", plan="starter")
    first = grant("a")
    world.subscribe("1", plan="pro")
    assert grant("a") == first
    assert len(batches(api)) == 1
    for other in ({"expires_in_days": None}, {"expires_in_days": 30}):
        assert grant("a", **other)["code"] == "idempotency_key_reused"


def test_a_plan_that_left_the_catalogue_says_no_lifetime_so_the_request_must(
    world: World, api: Api, grant: Grant
) -> None:
    world.subscribe("1", plan="starter")
    plans = tuple(plan for plan in world.services.catalogue.plans if plan.id != "starter")
    world.services.catalogue = PlanCatalogue((replace(plans[0], lowest=True), *plans[1:]))
    assert wrong(grant("a")) == ["expires_in_days"]
    assert world.lines() == []
    assert grant("a", expires_in_days=None)["success"], "the refusal did not use up the key"
    assert grant("b", expires_in_days=7)["success"]
    assert [each["expires_at"] for each in batches(api)] == [None, "2026-01-22T23:00:00Z"]
    assert grant("c", amount=-6)["success"], "a claw-back needs no lifetime"


def test_a_claw_back_has_no_lifetime_no_priority_and_no_source(world: World, grant: Grant) -> None:
    world.subscribe("1")
    grant("a")
    for name, value in (("expires_in_days", 5), ("priority", 0), ("source", "adjustment")):
        assert wrong(grant("b", amount=-1, **{name: value})) == [name]
    assert grant("b", amount=-1, expires_in_days=None)["success"]
    assert world.summary() == [("manual", 5, 5), ("manual", -1, 4)]


# --- Priorities and sources -----------------------------------------------------------------------


def test_the_lowest_priority_is_spent_first_then_the_oldest_and_the_balance_shows_that_order(
    world: World, api: Api, grant: Grant
) -> None:
    world.subscribe("1")
    for key, more in (
        ("a", {}),
        ("b", {"priority": 51}),
        ("c", {"priority": 0, "source": "promotion"}),
        ("d", {"priority": 100}),
        ("e", {"priority": 50, "source": "adjustment"}),
    ):
        world.now += timedelta(minutes=1)
        assert grant(key, **more)["success"]
    assert [(each["batch_id"], each["priority"], each["source"]) for each in batches(api)] == [
        ("1-3", 0, "promotion"),
        ("1-1", 50, "adjustment"),
        ("1-5", 50, "adjustment"),
        ("1-2", 51, "adjustment"),
        ("1-4", 100, "adjustment"),
    ]
    spent = api.post(
        USE, BACKEND, {"user_id": "1", "amount": 23, "description": "Export"}, key="u"
    ).json["batches"]
    assert [(leg["batch_id"], leg["amount"]) for leg in spent] == [
        ("1-3", -5),
        ("1-1", -5),
        ("1-5", -5),
        ("1-2", -5),
        ("1-4", -3),
    ]
    world.services.ledger.audit("1")


def test_a_wrong_priority_or_source_is_named_and_nothing_is_written(
    world: World, grant: Grant
) -> None:
    world.subscribe("1")
    for priority in (-1, 101, 1.0, "50", True, [50]):
        assert wrong(grant("a", priority=priority)) == ["priority"]
    for source in ("plan", "purchase", "carried_over", "gift", "", 5, ["promotion"]):
        assert wrong(grant("a", source=source)) == ["source"]
    assert world.lines() == []


def test_the_default_written_out_is_the_same_request(world: World, grant: Grant) -> None:
    """Keys from before there were priorities stay good."""
    world.subscribe("1")
    first = grant("a")
    assert grant("a", priority=50, source="adjustment", metadata={}) == first
    for other in ({"priority": 49}, {"source": "promotion"}):
        assert grant("a", **other)["code"] == "idempotency_key_reused"
    assert len(world.history()) == 1


def test_monthly_credits_have_the_priority_of_their_plan(world: World, api: Api) -> None:
    world.with_plans("pro", priority=80)
    world.subscribe("1")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.grant("1", 5, "gift")
    world.subscribe("1", plan="business")
    world.allocate_at("2026-02-28T23:00:00Z")
    told = [(each["granted_amount"], each["priority"], each["source"]) for each in batches(api)]
    assert told == [(5, 50, "adjustment"), (2_000, 50, "plan"), (500, 80, "plan")]
    world.services.ledger.audit("1")


def test_a_preview_and_a_run_know_of_priorities(world: World, api: Api) -> None:
    world.with_plans(priority=7)
    world.subscribe("1")
    world.now = at("2026-02-10T12:00:00Z")
    run = {"period": "2026-02", "zones": ["Europe/Paris"]}
    dry = api.post("/api/credits/allocation-runs", ADMIN, {**run, "dry_run": True}).json
    assert [item["amount"] for item in dry["items"]] == [500]
    api.post("/api/credits/allocation-runs", ADMIN, run)
    world.drain()
    assert [each["priority"] for each in batches(api)] == [7]


def test_an_imported_batch_has_its_own_priority_and_says_that_it_was_carried_over(
    world: World, api: Api
) -> None:
    world.now = at("2026-05-20T12:00:00Z")
    world.subscribe("1")
    header = ",".join(COLUMNS.all)
    assert header.endswith(",priority")
    row = "1,{},2026-03-01T05:00:00Z,,Pack"
    rows = [f"b-{n},{row.format(n)},{priority}" for n, priority in enumerate(("", 0, 100), 1)]
    checked = BALANCES.check(world.services, "\n".join([header, *rows, ""]))
    assert not checked.problems
    import_rows(BALANCES, world.services, checked.good)
    assert [
        (each["granted_amount"], each["priority"], each["source"]) for each in batches(api)
    ] == [
        (2, 0, "carried_over"),
        (1, 50, "carried_over"),
        (3, 100, "carried_over"),
    ]
    # Once more, it is all there; with another priority it is another batch under the same name.
    again = BALANCES.check(world.services, "\n".join([header, *rows, ""]))
    assert not again.problems
    other = BALANCES.check(world.services, "\n".join([header, f"b-1,{row.format(1)},51", ""]))
    (problem,) = other.problems
    assert "priority" in str(problem)


@pytest.mark.parametrize("priority", ["-1", "101", "5.5", "high", "1e1"])
def test_a_wrong_priority_of_an_import_is_named_by_its_column(world: World, priority: str) -> None:
    world.subscribe("1")
    content = f"{','.join(COLUMNS.all)}\nb-1,1,5,2025-12-01T05:00:00Z,,Pack,{priority}\n"
    (problem,) = BALANCES.check(world.services, content).problems
    assert "priority" in str(problem)
