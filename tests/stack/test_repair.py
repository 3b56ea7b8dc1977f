"""Repair by hand on the deployed stack: what really died is really made good."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.entries import EntryType
from chalicelib.domain.instants import format_instant
from chalicelib.messages.work import USERS_A_MESSAGE, UsersMessage
from chalicelib.services import Services
from infra import reach
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack
from infra.repair import redrive, replay
from tests.stack.conftest import quick_redelivery, wait_for

USERS = [f"killed-{number:03}" for number in range(USERS_A_MESSAGE)]


@pytest.fixture(autouse=True)
def _commands_reach_the_stack(stack: LocalStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "reach", lambda *_: reach.reach_local(stack))


def subscribe(services: Services, user_id: str, timezone: str) -> None:
    now = services.now()
    this_month = calendar.period_at(timezone, now)
    values = {
        "user_id": user_id,
        "email": "killed@example.com",
        "timezone": timezone,
        "plan": "pro",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
        "eligible_from": format_instant(calendar.month_start(timezone, this_month)),
        "notifications": [],
    }
    reach.enter(services, values, now)


def allocations_of(services: Services, user_id: str) -> int:
    services.ledger.verify(user_id)
    entries = services.ledger.history(user_id, limit=100)
    return sum(entry.type is EntryType.ALLOCATION for entry in entries)


def processes_of(stack: LocalStack, function: str) -> Iterator[int]:
    """The processes of a function, on this stack's emulator and no other."""
    wanted = {
        f"AWS_LAMBDA_FUNCTION_NAME={stack.functions[function]}".encode(),
        f"GATEWAY_PORT={stack.endpoint_url.rpartition(':')[2]}".encode(),
    }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if wanted <= {*environment.split(b"\0")}:
            yield int(process.name)


def kill(stack: LocalStack, function: str) -> None:
    for process in processes_of(stack, function):
        os.kill(process, signal.SIGKILL)


@contextmanager
def killed_again_and_again(stack: LocalStack, function: str) -> Iterator[None]:
    """Within the block no process of a function lives long enough to end its work."""
    over = threading.Event()

    def go_on() -> None:
        kill(stack, function)
        while not over.wait(0.02):
            kill(stack, function)

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(go_on)
        try:
            yield
        finally:
            over.set()
            killing.result()


def test_a_worker_that_is_killed_until_its_message_is_dead_is_redriven_and_the_ledger_is_right(
    stack: LocalStack, capsys: pytest.CaptureFixture[str]
) -> None:
    services = services_of_local(stack)
    for user_id in USERS:
        subscribe(services, user_id, "UTC")
    now = services.now()
    sqs = stack.client("sqs")
    poison = '{"this is": "no message of ours"}'

    def dead() -> int:
        attributes: dict[str, Any] = sqs.get_queue_attributes(
            QueueUrl=stack.queues["allocations-dlq"],
            AttributeNames=["ApproximateNumberOfMessages"],
        )["Attributes"]
        return int(attributes["ApproximateNumberOfMessages"])

    def send(user_ids: list[str]) -> None:
        body = UsersMessage(now, tuple(user_ids)).body()
        sqs.send_message(QueueUrl=stack.queues["allocations"], MessageBody=body)

    def done() -> list[str]:
        return [user_id for user_id in USERS if services.ledger.account(user_id).last]

    with quick_redelivery(stack, "allocations"):
        # A worker is too quick to be met at its work: half of it is done beforehand.
        send(USERS[::2])
        wait_for(lambda: len(done()) == len(USERS) / 2, "half of the users")
        killed_at = time.monotonic()
        with killed_again_and_again(stack, "allocate-accounts"):
            send(USERS)
            wait_for(lambda: dead() == 1, "the message in the dead-letter queue", 90)
        before = done()
        assert before == USERS[::2]

        sqs.send_message(QueueUrl=stack.queues["allocations"], MessageBody=poison)
        wait_for(lambda: dead() == 2, "the poison there, too", 60)
        redriven_at = time.monotonic()
        assert redrive.main(["--queue", "allocations", "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["moved"] == 2
        wait_for(
            lambda: done() == USERS,
            "the rest of the users",
            60,
        )
        repaired_at = time.monotonic()
        assert all(allocations_of(services, user_id) == 1 for user_id in USERS)
        wait_for(lambda: dead() == 1, "the poison, back where it was", 60)
    with capsys.disabled():
        print(  # noqa: T201 - the figure of docs/repair.md
            f"\n{len(USERS)} users, worker killed after {len(before)}: repaired "
            f"{repaired_at - redriven_at:.1f} s after the redrive, "
            f"{repaired_at - killed_at:.1f} s after the first kill"
        )
    sqs.purge_queue(QueueUrl=stack.queues["allocations-dlq"])


def test_a_replayed_tick_runs_on_the_stack_and_allocates(stack: LocalStack) -> None:
    services = services_of_local(stack)
    timezone = "Pacific/Chatham"
    subscribe(services, "replayed", timezone)
    period = calendar.period_at(timezone, services.now())
    midnight = format_instant(calendar.month_start(timezone, period))
    words = ["--from", midnight, "--kind", "allocation", "--zones", timezone, "--yes"]
    assert replay.main(words) == 0
    wait_for(lambda: services.ledger.account("replayed").last, "the allocation")
    assert replay.main(words) == 0
    assert allocations_of(services, "replayed") == 1
