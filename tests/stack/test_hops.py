"""The emulator ends a chain of invocations through a queue, as Lambda does, without a word."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain.instants import format_instant
from chalicelib.messages.work import Sweep, SweepKind
from infra import reach
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack
from tests.aws.world import at
from tests.stack.conftest import wait_for

NOON = at("2026-02-01T12:00:00Z")


def send_sweep(stack: LocalStack, zone: str, hops: int, kind: SweepKind = SweepKind.EXPIRY) -> None:
    """Sends a sweep as a function does that was the so many-th of its chain."""
    sqs = stack.client("sqs")
    sqs.meta.events.register(
        "before-call",
        lambda params, **_: params["headers"].update({"X-Ministack-Invoke-Depth": str(hops)}),
    )
    body = Sweep(kind, zone, NOON, NOON, NOON).body()
    sqs.send_message(QueueUrl=stack.queues["sweeps"], MessageBody=body)


def counted(stack: LocalStack, metric: str, function: str) -> float:
    now = datetime.now(UTC)
    found = stack.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName=metric,
        Dimensions=[{"Name": "FunctionName", "Value": stack.functions[function]}],
        StartTime=format_instant(now - timedelta(hours=1)),
        EndTime=format_instant(now + timedelta(hours=1)),
        Period=7200,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in found["Datapoints"]))


def waiting(stack: LocalStack, queue: str) -> int:
    names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    found: Any = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.queues[queue], AttributeNames=list(names)
    )
    return sum(int(found["Attributes"][name]) for name in names)


@pytest.fixture
def terminating(stack: LocalStack) -> Any:
    """The function has its default within the block, and not what the template says."""
    functions, name = stack.client("lambda"), stack.functions["sweep-zone"]
    functions.put_function_recursion_config(FunctionName=name, RecursiveLoop="Terminate")
    yield
    functions.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")


@pytest.mark.usefixtures("terminating")
def test_the_seventeenth_invocation_of_a_chain_is_dropped_with_its_message(
    stack: LocalStack,
) -> None:
    dropped = counted(stack, "RecursiveInvocationsDropped", "sweep-zone")
    send_sweep(stack, "Antarctica/Vostok", hops=15)
    wait_for(lambda: not waiting(stack, "sweeps"), "the sixteenth invocation")
    assert counted(stack, "RecursiveInvocationsDropped", "sweep-zone") == dropped
    send_sweep(stack, "Antarctica/Vostok", hops=16)
    wait_for(
        lambda: counted(stack, "RecursiveInvocationsDropped", "sweep-zone") == dropped + 1,
        "the seventeenth",
    )
    wait_for(lambda: not waiting(stack, "sweeps"), "the message to be gone")
    assert waiting(stack, "sweeps-dlq") == 0


def test_the_template_lets_sweeps_and_checks_loop_and_nothing_else(stack: LocalStack) -> None:
    functions = stack.client("lambda")
    found = {
        short: functions.get_function_recursion_config(FunctionName=name)["RecursiveLoop"]
        for short, name in stack.functions.items()
    }
    allowed = {short for short, loop in found.items() if loop == "Allow"}
    assert allowed == {"sweep-zone", "check-zone"}


def test_what_a_function_sends_is_a_hop_further_than_what_it_was_sent(stack: LocalStack) -> None:
    """A sweep may be the sixteenth of its chain; the worker that it sends to is then cut off."""
    services = services_of_local(stack)
    values = {
        "user_id": "far",
        "email": "far@example.com",
        "timezone": "Indian/Kerguelen",
        "plan": "pro",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
    }
    reach.enter(services, values, services.now())
    dropped = counted(stack, "RecursiveInvocationsDropped", "allocate-accounts")
    send_sweep(stack, "Indian/Kerguelen", 15, SweepKind.ALLOCATION)
    wait_for(
        lambda: counted(stack, "RecursiveInvocationsDropped", "allocate-accounts") > dropped,
        "the worker to be cut off",
    )
