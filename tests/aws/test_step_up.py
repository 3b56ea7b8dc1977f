"""Steps up to a larger plan, through the API and the sweeps: at once, once, and never lost."""

from unittest.mock import patch

import pytest

from chalicelib.domain.errors import Contention
from chalicelib.domain.plans import OnPlanChange
from chalicelib.jobs.completeness import start_checks
from chalicelib.store.ledger import LedgerStore
from tests.aws.api import ADMIN, BACKEND, Api, user
from tests.aws.test_balance_cap import FEBRUARY, HISTORY, MARCH, RUNS
from tests.aws.world import World, at

PATH = "/api/subscriptions/1"


@pytest.fixture(autouse=True)
def world(world: World) -> World:
    """User 1 has February's 100 credits; it is 10 February, and 19 of its 28 days are left."""
    world.with_plans(on_plan_change=OnPlanChange.DIFFERENCE)
    world.subscribe("1", plan="starter")
    world.allocate_at(FEBRUARY)
    world.now = at("2026-02-10T12:00:00Z")
    return world


def amounts(world: World) -> list[int]:
    return [amount for kind, amount, _ in world.summary() if kind == "allocation"]


def test_a_backend_moves_a_user_up_and_the_difference_is_there(world: World, api: Api) -> None:
    assert api.patch(PATH, BACKEND, {"plan": "pro"}).status == 200
    assert amounts(world) == [100, 272]  # 400 * 19 / 28 is 271.4
    newest = api.get(HISTORY, user()).json["items"][0]
    told = ("type", "description", "allocation_period", "effective_at")
    assert [newest[name] for name in told] == [
        "allocation",
        "Credits of the larger plan for 2026-02",
        "2026-02",
        "2026-02-10T12:00:00Z",
    ]
    world.services.ledger.verify("1")


def test_up_and_down_and_up_brings_it_once_and_the_next_month_is_whole(
    world: World, api: Api
) -> None:
    for plan in ("pro", "starter", "pro", "pro"):
        api.patch(PATH, BACKEND, {"plan": plan})
    api.post(RUNS, ADMIN, {"period": "2026-02", "zones": ["Europe/Paris"]})
    world.drain()
    assert amounts(world) == [100, 272]
    world.allocate_at(MARCH)
    assert amounts(world) == [100, 272, 500]


def test_what_could_not_be_posted_comes_with_the_next_sweep_before_its_month(
    world: World, api: Api
) -> None:
    with patch.object(LedgerStore, "post", side_effect=Contention("too busy")):
        assert api.patch(PATH, BACKEND, {"plan": "pro"}).status == 200
    asked = {"period": "2026-02", "zones": ["Europe/Paris"], "dry_run": True}
    (item,) = api.post(RUNS, ADMIN, asked).json["items"]
    assert (item["allocation_period"], item["amount"]) == ("2026-02", 272)
    world.allocate_at(MARCH)
    assert amounts(world) == [100, 272, 500]


def test_who_sends_the_edit_again_because_nothing_came_gets_it_then(world: World, api: Api) -> None:
    with patch.object(LedgerStore, "post", side_effect=Contention("too busy")):
        api.patch(PATH, BACKEND, {"plan": "pro"})
    api.patch(PATH, BACKEND, {"plan": "pro"})
    assert amounts(world) == [100, 272]


def test_a_month_that_was_topped_up_is_complete_and_no_duplicate(world: World, api: Api) -> None:
    api.patch(PATH, BACKEND, {"plan": "pro"})
    answer = start_checks(world.services, {"period": "2026-02", "zones": ["Europe/Paris"]})
    world.drain()
    report = world.services.reports.get(f"{answer['summary']}.json")
    assert '"complete": true, "due": 1, "allocated": 1, "missing": 0, "duplicate": 0' in report


def test_the_user_is_told(world: World, api: Api) -> None:
    world.stream()
    api.patch(PATH, BACKEND, {"plan": "pro"})
    world.queue_mails()
    assert world.send_mails() == []
    assert "Your February credits are here" in world.outbox.subjects()


def test_a_step_that_is_stored_is_read_as_it_was_decided(world: World, api: Api) -> None:
    api.patch(PATH, BACKEND, {"plan": "pro"})
    api.patch(PATH, BACKEND, {"plan": "business"})
    raised = world.services.subscriptions.get("1").raised
    assert raised is not None
    assert (str(raised.period), raised.level) == ("2026-02", 2_000)
    assert [step.amount for step in raised.top_ups] == [272, 1_018]
