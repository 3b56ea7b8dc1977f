"""One measurement, in a process of its own: one side does one piece of work for many users.

    python -m bench.workload ours allocate --users 1000 --endpoint http://127.0.0.1:5555

prints the cost as JSON: CPU of this process for each user (all of its threads, without the
database's process), and the database's counts. Sides: ``ours``, the handlers of `app.py` with
events as Lambda sends them; ``usual``, the usual DynamoDB design; ``floor``, the same requests with
bare botocore and nothing else; ``batched``, the floor with its inserts in batches.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.database import Database

ZONE = "Europe/Paris"
PERIOD = "2027-03"
MIDNIGHT = "2027-02-28T23:00:00Z"
EXPIRED = "2027-03-30T22:00:00Z"
WARM_UP = 100

CLOCK_FILE = Path(__file__).parents[1] / "build" / "bench-clock"

ENVIRONMENT = {
    "STAGE": "local",  # the only stage whose clock can be moved
    "CLOCK_FILE": str(CLOCK_FILE),
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "LEDGER_TABLE": "credits-bench-ledger",
    "SUBSCRIPTIONS_TABLE": "credits-bench-subscriptions",
    "SWEEPS_QUEUE_URL": "http://127.0.0.1/sweeps",
    "ALLOCATIONS_QUEUE_URL": "http://127.0.0.1/allocations",
    "EXPIRIES_QUEUE_URL": "http://127.0.0.1/expiries",
    "NOTIFICATIONS_QUEUE_URL": "http://127.0.0.1/notifications",
    "POWERTOOLS_SERVICE_NAME": "credits",
    "POWERTOOLS_METRICS_NAMESPACE": "Credits",
    "AWS_LAMBDA_FUNCTION_NAME": "credits-bench",
}


def set_clock(instant: str) -> None:
    """Moves the clock of the measured functions, because they post nothing ahead of it."""
    ahead = datetime.fromisoformat(instant) - datetime.now(UTC)
    CLOCK_FILE.parent.mkdir(exist_ok=True)
    CLOCK_FILE.write_text(str(ahead.total_seconds()))


@dataclass
class Measured:
    """The cost of one piece of work, for each user or use."""

    users: int
    cpu_us: float
    seconds: float
    requests: float
    write_units: float
    read_units: float
    peak_rss_mb: float


class Context:
    """Lambda's context, as far as it is used."""

    function_name = "credits-bench"
    memory_limit_in_mb = 1024
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:credits-bench"
    aws_request_id = "bench"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Half a minute, always."""
        return 30_000


def subscription(plan: str) -> dict[str, Any]:
    """A subscription as it is stored, without the user id."""
    return {
        "email": {"S": "ada.lovelace@example.com"},
        "timezone": {"S": ZONE},
        "plan": {"S": plan},
        "billing_interval": {"S": "yearly"},
        "status": {"S": "active"},
        "started_at": {"N": "1735689600000"},
        "eligible_from": {"N": "1803855600000"},
        "allocation_timezone": {"S": ZONE},
        "anniversary": {"S": f"{ZONE}#01"},
        "version": {"N": "1"},
    }


def sqs_event(bodies: list[str], queue: str) -> dict[str, Any]:
    """An event as Lambda makes it from SQS messages."""
    return {
        "Records": [
            {
                "messageId": f"{place:036}",
                "receiptHandle": "handle",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue}",
                "awsRegion": "us-east-1",
            }
            for place, body in enumerate(bodies)
        ]
    }


# ── Ours ─────────────────────────────────────────────────────────────────────────────────────────


class Ours:
    """The functions of `app.py`."""

    def __init__(self, database: Database) -> None:
        set_clock(MIDNIGHT)
        os.environ.update(ENVIRONMENT | {"AWS_ENDPOINT_URL": database.endpoint})
        import app

        self._app = app
        self._database = database

    def turn(self, kind: str, moment: str) -> None:
        """A sweep of the zone, and then the worker for every message that it sent."""
        set_clock(moment)
        sweep = {
            "kind": kind,
            "timezone": ZONE,
            "first_midnight": moment,
            "midnight": moment,
            "as_of": moment,
            "cursor": None,
        }
        answer = self._app.sweep_zone(sqs_event([json.dumps(sweep)], "sweeps"), Context())
        assert not answer["batchItemFailures"], answer  # noqa: S101
        worker = self._app.allocate_accounts if kind == "allocation" else self._app.expire_batches
        messages = self._database.control("messages")
        for start in range(0, len(messages), 10):
            answer = worker(sqs_event(messages[start : start + 10], kind), Context())
            assert not answer["batchItemFailures"], answer  # noqa: S101

    def allocate(self, _: list[str]) -> None:
        """The turn of the month."""
        self.turn("allocation", MIDNIGHT)

    def expire(self, _: list[str]) -> None:
        """The turn of the day on which credits expire."""
        self.turn("expiry", EXPIRED)

    def fill(self, user_ids: list[str], batches: int) -> None:
        """Gives each user that many batches of ten credits."""
        from chalicelib.domain import ledger
        from chalicelib.domain.calendar import Period
        from chalicelib.services import services

        for user_id in user_ids:
            for month in range(1, batches + 1):
                services().ledger.post(
                    user_id,
                    _once(
                        lambda account, month=month: ledger.allocate(  # type: ignore[misc]
                            account,
                            Period(2026, month),
                            10,
                            ZONE,
                            None,
                            datetime(2026, month, 2, tzinfo=UTC),
                        )
                    ),
                )

    def use(self, user_ids: list[str], batches: int) -> None:
        """Each user uses all their credits at once."""
        from chalicelib.operations import on_request
        from chalicelib.services import services

        for user_id in user_ids:
            on_request.use_credits(
                services(),
                user_id,
                10 * batches,
                "Report",
                caller="backend",
                key=f"order-{user_id}",
            )


def _once(decide: Callable[[Any], Any]) -> Callable[[Any], Any]:
    decisions = iter([decide])
    return lambda account: (found := next(decisions, None)) and found(account)


# ── The usual design ─────────────────────────────────────────────────────────────────────────────


class Usual:
    """A balance updated in place, and a transaction of four items."""

    def __init__(self, database: Database) -> None:
        os.environ.update(ENVIRONMENT)
        from bench import usual

        self._usual = usual
        self._connection = usual.connect(database.endpoint)

    def allocate(self, user_ids: list[str]) -> None:
        """The worker's loop."""
        for user_id in user_ids:
            self._usual.allocate(self._connection, user_id, PERIOD, 500)

    def fill(self, user_ids: list[str], batches: int) -> None:
        """Gives each user that many batches of ten credits."""
        for user_id in user_ids:
            for month in range(1, batches + 1):
                self._usual.allocate(self._connection, user_id, f"2026-{month:02}", 10)

    def use(self, user_ids: list[str], batches: int) -> None:
        """Each user uses all their credits at once."""
        for user_id in user_ids:
            self._usual.use(self._connection, user_id, 10 * batches, "order-17")


# ── The floor ────────────────────────────────────────────────────────────────────────────────────


class Floor:
    """The same requests with bare botocore: no logic, no thread, no parameter validation."""

    def __init__(self, database: Database) -> None:
        os.environ.update(ENVIRONMENT)
        import botocore.session
        from botocore.config import Config

        from chalicelib.domain import ledger
        from chalicelib.domain.calendar import Period
        from chalicelib.domain.ledger import Account

        self.client: Any = botocore.session.get_session().create_client(
            "dynamodb",
            region_name="us-east-1",
            endpoint_url=database.endpoint,
            config=Config(parameter_validation=False),
        )
        now = datetime(2027, 3, 1, tzinfo=UTC)
        self._is_expiring = False
        self.entry = ledger.allocate(Account("user"), Period(2027, 3), 500, ZONE, None, now)
        self._table = ENVIRONMENT["LEDGER_TABLE"]

    def query(self, user_id: str) -> None:
        """The last entry."""
        self.client.query(
            TableName=self._table,
            KeyConditionExpression="user_id = :u AND begins_with(entry, :e)",
            ExpressionAttributeValues={":u": {"S": user_id}, ":e": {"S": "entry#"}},
            ScanIndexForward=False,
            ConsistentRead=True,
            Limit=1,
        )

    def _item(self, user_id: str, number: int, *, is_expiring: bool = False) -> dict[str, Any]:
        item = {
            "user_id": {"S": user_id},
            "entry": {"S": f"entry#{number:012}"},
            "body": {"S": self.entry.body()},
            "hash": {"S": "0" * 64},
        }
        if is_expiring:
            item["expiry_partition"] = {"S": f"{ZONE}#07"}
            item["expiry_key"] = {"S": f"{EXPIRED}#{user_id}#{number}"}
        return item

    def put(self, user_id: str, number: int, *, is_expiring: bool = False) -> None:
        """An entry, if its number is free."""
        self.client.put_item(
            TableName=self._table,
            Item=self._item(user_id, number, is_expiring=is_expiring),
            ConditionExpression="attribute_not_exists(user_id)",
        )

    def allocate(self, user_ids: list[str]) -> None:
        """A query and a conditional put."""
        for user_id in user_ids:
            self.query(user_id)
            self.put(user_id, 1)

    def allocate_expiring(self, user_ids: list[str]) -> None:
        """The same, with the two attributes of the expiry index."""
        for user_id in user_ids:
            self.query(user_id)
            self.put(user_id, 1, is_expiring=True)

    def resweep(self, user_ids: list[str]) -> None:
        """A query."""
        for user_id in user_ids:
            self.query(user_id)

    def expire(self, user_ids: list[str]) -> None:
        """A query and a conditional put, after an entry."""
        for user_id in user_ids:
            self.query(user_id)
            self.put(user_id, 2)

    def fill(self, user_ids: list[str], batches: int) -> None:
        """Entries, so that the query finds one."""
        for user_id in user_ids:
            for number in range(1, batches + 1):
                self.put(user_id, number)

    def use(self, user_ids: list[str], batches: int) -> None:
        """A query and a transaction of two conditional puts."""
        put = {
            "TableName": self._table,
            "ConditionExpression": "attribute_not_exists(user_id)",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        for user_id in user_ids:
            self.query(user_id)
            marker = {
                "user_id": {"S": f"operation#usage#backend#order-17-{user_id}"},
                "entry": {"S": "operation"},
                "request": {"S": "0" * 64},
                "owner": {"S": user_id},
                "number": {"N": str(batches + 1)},
                "expired": {"N": "0"},
            }
            self.client.transact_write_items(
                TransactItems=[
                    {"Put": {**put, "Item": self._item(user_id, batches + 1)}},
                    {"Put": {**put, "Item": marker}},
                ]
            )


class Batched(Floor):
    """The floor with 25 inserts in a request, as Credits writes them."""

    def allocate(self, user_ids: list[str]) -> None:
        """A query for each user, and an insert for each as one statement of a batch."""
        insert = f'INSERT INTO "{self._table}" VALUE '
        insert += "{'user_id': ?, 'entry': ?, 'body': ?, 'hash': ?}"
        for start in range(0, len(user_ids), 25):
            statements = []
            for user_id in user_ids[start : start + 25]:
                self.query(user_id)
                item = self._item(user_id, 1)
                statements.append({"Statement": insert, "Parameters": list(item.values())})
            answer = self.client.batch_execute_statement(Statements=statements)
            if any("Error" in each for each in answer["Responses"]):
                raise RuntimeError(answer)


SIDES = {"ours": Ours, "usual": Usual, "floor": Floor, "batched": Batched}

# ── Measuring ────────────────────────────────────────────────────────────────────────────────────


def seed(database: Database, prefix: str, users: int, plan: str = "pro") -> list[str]:
    """Subscribers of the zone."""
    database.control("seed", prefix=prefix, users=users, subscription=subscription(plan))
    return [f"{prefix}-{number:07}" for number in range(users)]


def prepare(database: Database, side: str, work: str, users: int) -> Callable[[], None]:
    """Brings the database into the state before the work; returns the work."""
    plan = "starter" if work in ("allocate_expiring", "expire") else "pro"
    ours_or_other: Any = SIDES[side](database)
    if work.startswith("use"):
        batches = int(work.removeprefix("use"))
        # First the warm-up users, then the others: nobody uses credits twice.
        for user_ids in (seed(database, "warm", WARM_UP), seed(database, "user", users)):
            ours_or_other.fill(user_ids, batches)
            if user_ids[0].startswith("warm"):
                ours_or_other.use(user_ids, batches)
        return lambda: ours_or_other.use(user_ids, batches)
    act = getattr(ours_or_other, work, None) or ours_or_other.allocate
    repeat = work in ("resweep", "expire")
    first = getattr(ours_or_other, "allocate_expiring", None) if plan == "starter" else None
    first = first or ours_or_other.allocate
    warm = seed(database, "warm", WARM_UP, plan)
    first(warm)
    if repeat:
        act(warm)
    user_ids = seed(database, "user", users, plan)
    if side == "ours":
        # The sweep finds its users itself, in the zone's index, so the index must contain only
        # them.
        database.control("forget", tables=["subscriptions", "ledger"])
        seed(database, "user", users, plan)
    if repeat:
        first(user_ids)
    return lambda: act(user_ids)


def peak_rss_mb(process: int | str = "self") -> float:
    """The highest resident memory of a process: this one, or one by its id.

    From /proc, because `getrusage` includes the process that started this one.
    """
    status = Path(f"/proc/{process}/status").read_text()
    return round(int(status.split("VmHWM:")[1].split()[0]) / 1024, 1)


def measure(database: Database, side: str, work: str, users: int) -> Measured:
    """Does the work once."""
    run = prepare(database, side, work, users)
    database.control("counts")
    seconds, cpu = time.perf_counter(), time.process_time()
    run()
    cpu, seconds = time.process_time() - cpu, time.perf_counter() - seconds
    counts = database.control("counts")
    return Measured(
        users=users,
        cpu_us=round(cpu / users * 1e6, 1),
        seconds=round(seconds, 3),
        requests=round(sum(counts["requests"].values()) / users, 4),
        write_units=round(counts["write"] / users, 3),
        read_units=round(counts["read"] / users, 3),
        peak_rss_mb=peak_rss_mb(),
    )


def main() -> int:
    """Reads the command line, measures, prints; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.workload")
    parser.add_argument("side", choices=tuple(SIDES))
    parser.add_argument("work")
    parser.add_argument("--users", type=int, required=True)
    parser.add_argument("--endpoint", required=True)
    arguments = parser.parse_args()
    database = Database(arguments.endpoint, 0)
    standard_output = os.dup(1)
    # The functions write their logs, as in Lambda, but the logs are discarded.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    database.control("reset")
    # Lambda gives a function of up to 1,769 MB at most the time of one CPU. On several CPUs,
    # Python's threads would spend more time passing their lock around.
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    measured = measure(database, arguments.side, arguments.work, arguments.users)
    os.write(standard_output, json.dumps(asdict(measured)).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
