"""A process may die before or after any call to AWS: redelivery brings the same ledgers about."""

from collections.abc import Callable

import pytest
from moto.backends import get_backend

from tests.aws.faults import Faults, Killed
from tests.aws.world import World, at


def allocate(world: World) -> None:
    world.allocation_tick("2026-01-31T23:00:00Z")
    world.drain()


def allocate_missed(world: World) -> None:
    world.allocation_tick("2026-03-31T22:00:00Z")
    world.drain()


def expire(world: World) -> None:
    world.expiry_tick("2026-03-02T23:00:00Z")
    world.drain()


def grant(world: World) -> None:
    assert world.grant("1", 50, "key-1")["success"]


def claw_back(world: World) -> None:
    assert world.grant("2", -30, "key-2", reason="Mistake")["success"]


WORKFLOWS: dict[str, tuple[list[Callable[[World], None]], Callable[[World], None]]] = {
    "allocation": ([], allocate),
    "allocation of missed months": ([], allocate_missed),
    "expiry": ([allocate], expire),
    "grant": ([allocate], grant),
    "claw-back": ([allocate], claw_back),
}


def prepared_world(before: list[Callable[[World], None]]) -> World:
    world = World(now=at("2026-01-15T12:00:00Z"))
    for user_id in ("1", "2"):
        world.subscribe(user_id, plan="starter")
    for step in before:
        step(world)
    return world


def run_with(
    faults: Faults, before: list[Callable[[World], None]], workflow: Callable[[World], None]
) -> list[object]:
    """The ledger after a workflow that dies where ``faults`` says and is then done again."""
    for service in ("dynamodb", "sqs"):
        get_backend(service).reset()
    world = prepared_world(before)
    world.services = world.restarted()
    try:
        with faults.on(world.services):
            workflow(world)
    except Killed:
        world.services = world.restarted()
        workflow(world)
    return world.lines()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_killed_before_or_after_any_call_and_redelivered_the_ledgers_are_those_of_a_clean_run(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer shards are fewer calls of the same kind.
    monkeypatch.setattr("chalicelib.store.ledger.EXPIRY_SHARDS", 3)
    monkeypatch.setattr("chalicelib.jobs.sweeps.EXPIRY_SHARDS", 3)
    before, workflow = WORKFLOWS[name]
    clean = Faults()
    expected = run_with(clean, before, workflow)
    assert clean.calls
    for place in range(len(clean.calls)):
        for after in (False, True):
            faults = Faults(kill_at=place, after=after)
            assert run_with(faults, before, workflow) == expected, (clean.calls[place], after)
            assert faults.dead


def test_the_calls_of_an_allocation_are_those_the_budget_allows(world: World) -> None:
    for number in range(10):
        world.subscribe(str(number))
    world.services = world.restarted()
    faults = Faults()
    with faults.on(world.services):
        allocate(world)
    counted = {call: faults.calls.count(call) for call in faults.calls}
    assert counted == {
        "sqs.SendMessageBatch": 2,  # the tick's and the sweep's
        "dynamodb.Query": 1 + 10,  # the index page, and each user's last entry
        "dynamodb.BatchGetItem": 1,
        "dynamodb.BatchExecuteStatement": 1,  # all ten inserts
    }
