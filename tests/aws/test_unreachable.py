"""AWS that does not answer at all is an outage, and reported as one: it is no bug of ours."""

from typing import Any

import pytest

from chalicelib.operations.adjustments import Adjustment, adjust
from chalicelib.store.wire.errors import NoAnswer
from infra.faults import FAULTS
from tests.aws.api import Api, user
from tests.aws.world import World, at
from tests.wire import silence

SILENCES = [silence(), NoAnswer("unreachable", is_timeout=True, is_connected=False)]


def fall_silent(world: World, monkeypatch: pytest.MonkeyPatch, what: str, error: Exception) -> None:
    """From now on calls of an operation end without an answer, however often the SDK asks."""
    client = world.services.dynamodb
    original = client.call

    def call(operation: str, arguments: Any) -> Any:
        if operation == what:
            raise error
        return original(operation, arguments)

    monkeypatch.setattr(client, "call", call)


@pytest.mark.parametrize("error", SILENCES)
@pytest.mark.parametrize("operation", ["ExecuteTransaction", "TransactGetItems"])
def test_a_request_that_dynamodb_does_not_answer_is_told_to_come_again(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch, operation: str, error: Exception
) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    fall_silent(world, monkeypatch, operation, error)
    # More than there is: the marker is looked for with TransactGetItems. As much: it is written.
    amount = 6 if operation == "TransactGetItems" else 5
    reply = api.post(
        "/api/credits/use", user(), {"amount": amount, "description": "Export"}, key="b"
    )
    assert (reply.status, reply.json["code"]) == (503, "unavailable")
    assert world.balance() == 5


@pytest.mark.parametrize("error", SILENCES)
def test_a_worker_whose_writes_are_not_answered_reports_its_messages_and_does_not_crash(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world.subscribe()
    world.allocation_tick("2026-01-31T23:00:00Z")
    world.deliver_waiting("sweeps")
    bodies = world.take("allocations")
    with monkeypatch.context() as outage:
        fall_silent(world, outage, "BatchExecuteStatement", error)
        assert world.deliver("allocations", bodies) == bodies
    assert world.deliver("allocations", bodies) == []
    assert world.balance() == 500


@pytest.mark.parametrize("error", SILENCES)
def test_an_edit_that_is_not_answered_is_an_outage(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world.subscribe()
    fall_silent(world, monkeypatch, "ExecuteTransaction", error)
    with pytest.raises(FAULTS):
        world.subscribe(plan="business")


def test_the_manual_allocation_raises_an_outage_that_lambda_can_report(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.now = at("2026-02-01T00:00:00Z")
    world.subscribe()
    fall_silent(world, monkeypatch, "ExecuteTransaction", SILENCES[0])
    with pytest.raises(FAULTS):
        adjust(world.services, Adjustment("1", 5, "Goodwill"), actor="ada", caller="test", key="a")
