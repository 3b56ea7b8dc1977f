"""The deployed stack tells of what happens to credits, and tells it again."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest

from chalicelib.operations import on_request
from infra import reach
from infra.commands import events as command
from infra.deployment.deployed import describe
from infra.local.events import following, line_of
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack
from tests.schemas import problems_of
from tests.stack.test_repair import subscribe

USER = "tells-of-events"


@pytest.fixture
def heard(stack: LocalStack) -> Iterator[Iterator[dict[str, Any]]]:
    """The events of our user, as a rule on the bus delivers them."""
    with following(stack) as everything:
        yield (event for event in everything if event["detail"]["user_id"] == USER)


def test_what_happens_is_told_of_on_the_bus_and_told_again_as_it_was(
    stack: LocalStack, heard: Iterator[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = services_of_local(stack)
    subscribe(services, USER, "Europe/Paris")
    stack.client("lambda").invoke(
        FunctionName=stack.functions["manual-allocate"],
        Payload=f'{{"user_id": "{USER}", "amount": 25, "reason": "Goodwill", "actor": "ada", '
        '"idempotency_key": "a", "metadata": {"case": "7"}}',
    )
    on_request.use_credits(services, USER, 10, "Report", caller="shop", key="b")
    told = {event["detail"]["id"]: event for event in islice(heard, 4)}
    assert sorted(told) == [
        f"credits.adjusted {USER}-1",
        f"credits.balance_low {USER}-2 20",
        f"credits.balance_recovered {USER}-1 20",
        f"credits.used {USER}-2",
    ]
    for event in told.values():
        assert problems_of(event) == []
        assert event["detail"]["transaction_id"] in line_of(event)
    assert told[f"credits.adjusted {USER}-1"]["detail"]["metadata"] == {"case": "7"}
    monkeypatch.setattr(reach, "reach", lambda *_: reach.reach_local(stack))
    assert command.main(["--user-id", USER, "--from", "2", "--yes"]) == 0
    again = {event["detail"]["id"]: event for event in islice(heard, 2)}
    assert {name: event["detail"] for name, event in again.items()} == {
        name: told[name]["detail"] for name in told if f"{USER}-2" in name
    }


def test_the_stack_names_its_bus(stack: LocalStack) -> None:
    bus = describe(stack.stage, stack.client).outputs["EventBusName"]
    assert bus == stack.stack
    assert stack.client("events").describe_event_bus(Name=bus)["Name"] == bus


def test_nothing_is_left_of_who_followed(stack: LocalStack) -> None:
    with following(stack):
        pass
    assert stack.client("events").list_rules(EventBusName=stack.stack)["Rules"] == []
    assert (
        not stack.client("sqs")
        .list_queues(QueueNamePrefix=f"{stack.stack}-follow")
        .get("QueueUrls")
    )
