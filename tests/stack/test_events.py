"""The deployed stack tells of what happens to credits, and tells it again."""

import json
import queue
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from typing import Any

import pytest
import yaml

from chalicelib.operations import on_request
from infra import reach
from infra.commands import events as command
from infra.deployment.deployed import describe
from infra.deployment.parameters import TEMPLATE_FILE
from infra.local.events import following, line_of
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack
from tests.schemas import problems_of
from tests.stack.test_repair import subscribe

USER = "tells-of-events"
ROLE = "arn:aws:iam::000000000000:role/webhook"


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


class Receiver(HTTPServer):
    """A webhook's receiver on this machine: what it was sent, and with which secret."""

    def __init__(self) -> None:
        self.heard: queue.Queue[tuple[str | None, Any]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.put((self.headers["X-Credits-Secret"], json.loads(body)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_webhook_is_sent_the_whole_event_with_its_secret(
    stack: LocalStack, receiver: Receiver
) -> None:
    """The emulator's CloudFormation makes no API destination: it is made as the template has it."""
    declared = yaml.safe_load(TEMPLATE_FILE.read_text("utf-8"))["Resources"]
    connection, destination, rule = (
        declared[f"Webhook{part}"]["Properties"] for part in ("Connection", "Destination", "Rule")
    )
    events, name = stack.client("events"), f"{stack.stack}-webhook"
    made = events.create_connection(
        Name=name,
        AuthorizationType=connection["AuthorizationType"],
        AuthParameters={
            "ApiKeyAuthParameters": {"ApiKeyName": "X-Credits-Secret", "ApiKeyValue": "sesame"}
        },
    )
    url = f"http://127.0.0.1:{receiver.server_port}/credits"
    leads_to = events.create_api_destination(
        Name=name,
        ConnectionArn=made["ConnectionArn"],
        HttpMethod=destination["HttpMethod"],
        InvocationEndpoint=url,
    )
    pattern = json.dumps(rule["EventPattern"])
    events.put_rule(Name=name, EventBusName=stack.stack, EventPattern=pattern)
    target = {
        "Id": "webhook",
        "Arn": leads_to["ApiDestinationArn"],
        "RoleArn": ROLE,
    }
    events.put_targets(Rule=name, EventBusName=stack.stack, Targets=[target])
    try:
        services, user_id = services_of_local(stack), f"{USER}-by-webhook"
        subscribe(services, user_id, "Europe/Paris")
        stack.client("lambda").invoke(
            FunctionName=stack.functions["manual-allocate"],
            Payload=f'{{"user_id": "{user_id}", "amount": 5, "reason": "Goodwill", "actor": "ada", '
            '"idempotency_key": "by-webhook"}',
        )
        sent = iter(partial(receiver.heard.get, timeout=30), None)
        header, event = next(each for each in sent if each[1]["detail"]["user_id"] == user_id)
    finally:
        events.remove_targets(Rule=name, EventBusName=stack.stack, Ids=["webhook"])
        events.delete_rule(Name=name, EventBusName=stack.stack)
        events.delete_api_destination(Name=name)
        events.delete_connection(Name=name)
    assert header == "sesame"
    assert problems_of(event) == []
    assert event["detail"]["id"] == f"credits.adjusted {user_id}-1"


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
