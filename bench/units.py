"""Counts requests and capacity units of each operation, on the emulator's DynamoDB.

    python -m bench.units [--users 300] [--json]        (make units)

The counts are exact: every request is counted below botocore, and the database reports its units
(``ReturnConsumedCapacity``). The users a second at the end are not exact: they are those of one
worker on this machine, and include the emulator's own work for every request.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.workload import Context, sqs_event
from chalicelib.domain import calendar
from chalicelib.domain.edits import BY_IMPORT
from chalicelib.domain.holds import MOST_SECONDS
from chalicelib.domain.subscriptions import Subscription
from chalicelib.jobs import workers
from chalicelib.messages.work import USERS_A_MESSAGE, UsersMessage
from chalicelib.operations import on_request
from chalicelib.operations.adjustments import Adjustment, adjust
from chalicelib.operations.holds import End, end_hold, hold_credits
from chalicelib.operations.purchases import Purchase, Refund, buy, refund
from chalicelib.queues import chunks
from chalicelib.services import Services
from infra import reach, terminal
from infra.arguments import whole_number
from infra.local import stacks
from infra.local.services import services_of_local

ZONE = "Europe/Paris"
READS = ("Query", "GetItem", "BatchGetItem", "TransactGetItems")


@dataclass
class Meter:
    """Requests sent, and the read and write units they consumed."""

    requests: int = 0
    read_units: float = 0.0
    write_units: float = 0.0

    def watch(self, client: Any) -> None:
        """Counts every call of a client from now on, of the SDK or of the wire."""
        call = client.call

        def counted(operation: str, parameters: dict[str, Any]) -> Any:
            answered = call(operation, parameters)
            self._count(operation, answered)
            return answered

        client.call = counted

    def _count(self, operation: str, parsed: dict[str, Any]) -> None:
        self.requests += 1
        if operation == "BatchGetItem" and "ConsumedCapacity" not in parsed:
            # The emulator reports no units for it. AWS: half a unit for each item of up to 4 KB.
            items = sum(len(items) for items in parsed["Responses"].values())
            self.read_units += 0.5 * items
        consumed = parsed.get("ConsumedCapacity", [])
        for part in consumed if isinstance(consumed, list) else [consumed]:
            if operation in READS:
                self.read_units += part["CapacityUnits"]
            else:
                self.write_units += part["CapacityUnits"]

    @contextmanager
    def measuring(self) -> Iterator[Meter]:
        """The counts within the block."""
        before = (self.requests, self.read_units, self.write_units)
        measured = Meter()
        yield measured
        measured.requests = self.requests - before[0]
        measured.read_units = self.read_units - before[1]
        measured.write_units = self.write_units - before[2]


@dataclass(frozen=True)
class Figure:
    """One row of the table: per user or per operation."""

    operation: str
    requests: float
    write_units: float
    read_units: float


class Bench:
    """The operations, run in this process with the deployed code over the emulator."""

    def __init__(self, stack: stacks.LocalStack, users: int) -> None:
        self._services: Services = services_of_local(stack)
        self._meter = Meter()
        self._meter.watch(self._services.dynamodb)
        self._users = users
        start = calendar.month_start(ZONE, calendar.period_at(ZONE, self._services.now()).next())
        self._start: datetime = start
        # Only this process's clock: each operation is measured when it is due.
        self._now = start
        self._services.now = lambda: self._now

    def figures(self) -> Iterator[Figure]:
        """Runs everything; one figure per operation."""
        with self._meter.measuring() as measured:
            pro = self._subscribe("pro", "pro")
        yield _figure("register a subscription", measured, len(pro))
        starter = self._subscribe("starter", "starter")
        yield self._allocate("allocate one user, no expiry", pro)
        yield self._allocate("allocate one user, expiring plan", starter)
        yield self._allocate("re-sweep of an allocated user", pro)
        for batches in (1, 3, 10):
            yield self._use(batches)
        yield from self._hold(pro[:20])
        self._now += timedelta(days=1)
        yield from self._hold(
            starter[:20], ", outliving its batch", ended_after=timedelta(days=29, hours=12)
        )
        yield from self._sell(pro[:20])
        yield self._expire(starter)
        yield self._edit(pro)

    def worker_speed(self) -> str:
        """How fast one worker allocates here, and how much of that is its own work."""
        user_ids = self._subscribe("speed", "pro")
        wall, cpu = time.perf_counter(), time.process_time()
        self._allocate("speed", user_ids)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return (
            f"One worker allocates {len(user_ids) / wall:.0f} users a second here. Each user takes "
            f"{cpu / len(user_ids) * 1000:.2f} ms of its CPU; the rest of the "
            f"{wall / len(user_ids) * 1000:.2f} ms it waits for the emulator."
        )

    def _subscribe(self, prefix: str, plan: str) -> list[str]:
        user_ids = [f"{prefix}-{number:06}" for number in range(self._users)]
        for user_id in user_ids:
            values = {
                "user_id": user_id,
                "email": f"{user_id}@example.com",
                "timezone": ZONE,
                "plan": plan,
                "billing_interval": "yearly",
                "status": "active",
                "started_at": "2026-01-01T00:00:00Z",
            }
            reach.enter(self._services, values, self._start)
        return user_ids

    def _allocate(self, name: str, user_ids: list[str]) -> Figure:
        return self._per_user(name, user_ids, self._start, workers.allocate_accounts)

    def _expire(self, user_ids: list[str]) -> Figure:
        moment = self._start + timedelta(days=31)
        return self._per_user(
            "expire a user's due batches", user_ids, moment, workers.expire_batches
        )

    def _per_user(
        self, name: str, user_ids: list[str], as_of: datetime, work: Callable[..., Any]
    ) -> Figure:
        bodies = [
            UsersMessage(as_of, tuple(chunk)).body() for chunk in chunks(user_ids, USERS_A_MESSAGE)
        ]
        self._now = as_of
        with self._meter.measuring() as measured:
            answer = work(self._services, sqs_event(bodies, "work"), Context())
        if answer["batchItemFailures"]:
            raise RuntimeError(f"{name}: {answer}")
        return _figure(name, measured, len(user_ids))

    def _edit(self, user_ids: list[str]) -> Figure:
        def to_business(present: Subscription | None) -> Subscription:
            if present is None:
                raise RuntimeError("nobody is registered")
            return replace(present, plan="business", version=present.version + 1)

        with self._meter.measuring() as measured:
            for user_id in user_ids:
                self._services.subscriptions.change(user_id, to_business, BY_IMPORT, self._now)
        return _figure("edit a subscription", measured, len(user_ids))

    def _use(self, batches: int) -> Figure:
        users = [f"use-{batches}-{number}" for number in range(20)]
        services = self._services
        for user_id in users:
            self._register_for_use(user_id)
            for number in range(batches):
                adjust(
                    services,
                    Adjustment(user_id, 10, "Goodwill"),
                    actor="bench",
                    caller="bench",
                    key=f"{user_id}-{number}",
                )
        with self._meter.measuring() as measured:
            for user_id in users:
                on_request.use_credits(
                    services, user_id, 10 * batches, "Report", caller="bench", key=f"{user_id}-use"
                )
        return _figure(f"use credits over {batches} batches", measured, len(users))

    def _hold(
        self, users: list[str], how: str = "", ended_after: timedelta = timedelta(0)
    ) -> Iterator[Figure]:
        """Two holds for each user: one is captured partly, one is released."""
        opened: dict[str, list[str]] = {"capture": [], "release": []}
        with self._meter.measuring() as measured:
            for end, hold_ids in opened.items():
                hold_ids += [self._held(user_id, f"{user_id}-{end}") for user_id in users]
        yield _figure(f"hold credits{how}", measured, 2 * len(users))
        self._now += ended_after
        for end, hold_ids in opened.items():
            amount = 5 if end == "capture" else 0
            with self._meter.measuring() as measured:
                for hold_id in hold_ids:
                    end_hold(self._services, End(hold_id, amount, "bench"))
            yield _figure(f"{end} a hold{how}", measured, len(users))

    def _sell(self, users: list[str]) -> Iterator[Figure]:
        """A pack for each user, which is fully refunded; then the dispute about it is won."""
        services = self._services
        with self._meter.measuring() as measured:
            for user_id in users:
                buy(services, Purchase(user_id, 10, f"payment-{user_id}"), actor="bench")
        yield _figure("buy credits", measured, len(users))
        for name, in_all in (("refund a purchase", 10), ("give back what was refunded", 0)):
            with self._meter.measuring() as measured:
                for user_id in users:
                    report = Refund(f"payment-{user_id}", in_all, "Dispute")
                    refund(services, report, actor="bench")
            yield _figure(name, measured, len(users))

    def _held(self, user_id: str, key: str) -> str:
        outcome = hold_credits(
            self._services,
            user_id,
            10,
            "Report",
            seconds=MOST_SECONDS,
            caller="bench",
            key=key,
        )
        return outcome.entry.transaction_id

    def _register_for_use(self, user_id: str) -> None:
        values = {
            "user_id": user_id,
            "email": "use@example.com",
            "timezone": ZONE,
            "plan": "pro",
            "billing_interval": "monthly",
            "status": "active",
            "started_at": "2026-01-01T00:00:00Z",
        }
        services = self._services
        reach.enter(services, values, services.now())


def _figure(name: str, measured: Meter, operations_run: int) -> Figure:
    return Figure(
        name,
        round(measured.requests / operations_run, 3),
        round(measured.write_units / operations_run, 3),
        round(measured.read_units / operations_run, 3),
    )


def main(words: list[str] | None = None) -> int:
    """Reads the command line and measures; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.units",
        description="Counts the requests and capacity units of each operation.",
    )
    parser.add_argument(
        "--users", type=whole_number(), default=300, help="users per plan (default 300)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(words)
    os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "ERROR")  # a table, not the worker's own lines
    with stacks.local_stack(say=terminal.progress(), schedules=False) as stack:
        bench = Bench(stack, arguments.users)
        figures = list(bench.figures())
        speed = bench.worker_speed()
    if arguments.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=2))
        return 0
    table = Table("operation", "requests", "write units", "read units", title="Per operation")
    for figure in figures:
        table.add_row(
            figure.operation,
            f"{figure.requests:g}",
            f"{figure.write_units:g}",
            f"{figure.read_units:g}",
        )
    console = Console()
    console.print(table)
    console.print(speed, highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
