"""Measures the CPU of a cold start and of one request, beside the bare SDK with the same calls.

Each cold start is measured in a fresh process, from the deployed archive: a function's imports and
its client, against importing botocore and making one DynamoDB client. A request is measured warm:
the whole route in this process, against its DynamoDB calls made with bare botocore. The network is
replaced below the SDK (`bench.transport`), so only CPU counts.
`make bench` interleaves them.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import botocore

from bench import workload
from bench.database import Database
from bench.transport import Transport
from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account
from infra.deployment import packaging

ENVIRONMENT = {
    "STAGE": "dev",
    "AWS_REGION": "eu-west-1",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_ACCESS_KEY_ID": "bench",
    "AWS_SECRET_ACCESS_KEY": "bench",
    "LEDGER_TABLE": "ledger",
    "SUBSCRIPTIONS_TABLE": "subscriptions",
    "SWEEPS_QUEUE_URL": "https://sqs.invalid/sweeps",
    "POWERTOOLS_SERVICE_NAME": "credits",
    "POWERTOOLS_LOG_LEVEL": "ERROR",
    "POWERTOOLS_METRICS_NAMESPACE": "Credits",
}
USER = "42"

Call = Callable[[], object]


def subscription_item() -> dict[str, Any]:
    """A subscription in DynamoDB's answer."""
    return {
        "user_id": {"S": USER},
        "email": {"S": "ada@example.com"},
        "timezone": {"S": "Europe/Paris"},
        "plan": {"S": "pro"},
        "billing_interval": {"S": "yearly"},
        "status": {"S": "active"},
        "started_at": {"N": "1735689600000"},
        "eligible_from": {"N": "1735689600000"},
        "allocation_timezone": {"S": "Europe/Paris"},
        "anniversary": {"S": "Europe/Paris#01"},
        "version": {"N": "1"},
    }


def entries() -> list[LedgerEntry]:
    """An ordinary user's ledger, oldest first: three allocations, three open batches."""
    account = Account(USER)
    posted = []
    for month in (1, 2, 3):
        now = datetime(2026, month, 2, tzinfo=UTC)
        entry = ledger.allocate(account, Period(2026, month), 500, "Europe/Paris", None, now)
        account = Account(USER, entry, "0" * 64)
        posted.append(entry)
    return posted


def ledger_item(entry: LedgerEntry) -> dict[str, Any]:
    """An entry in DynamoDB's answer."""
    return {
        "user_id": {"S": USER},
        "entry": {"S": f"entry#{entry.number:012}"},
        "body": {"S": entry.body()},
        "hash": {"S": "0" * 64},
    }


def answer_queries(transport: Transport, found: list[LedgerEntry]) -> None:
    """Makes every query find these entries from now on."""
    items = [ledger_item(entry) for entry in found]
    transport.answer("Query", {"Items": items, "Count": len(items), "ScannedCount": len(items)})


def answers() -> Transport:
    """A transport that knows one user."""
    transport = Transport()
    answer_queries(transport, entries()[-1:])
    transport.answer("GetItem", {"Item": subscription_item()})
    return transport


def api_event(method: str, path: str, body: object = None, user_id: str = USER) -> dict[str, Any]:
    """An event of API Gateway as it reaches the function, from a user with a user's scopes."""
    return {
        "resource": path,
        "path": path,
        "httpMethod": method,
        "headers": {"Content-Type": "application/json", "Idempotency-Key": "order-17"},
        "multiValueHeaders": {
            "Content-Type": ["application/json"],
            "Idempotency-Key": ["order-17"],
        },
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "httpMethod": method,
            "resourcePath": path,
            "path": path,
            "requestId": "bench",
            "identity": {"sourceIp": "127.0.0.1"},
            "authorizer": {
                "user_id": user_id,
                "caller": user_id,
                "scopes": "credits:read credits:use",
                "principalId": user_id,
            },
        },
        "body": json.dumps(body) if body is not None else None,
        "isBase64Encoded": False,
    }


SCHEDULE = ("GET", "/api/credits/allocation-schedule", None)
BALANCE = ("GET", "/api/credits/balance", None)
HISTORY = ("GET", "/api/credits/history", None)
USE = ("POST", "/api/credits/use", {"amount": 10, "description": "Report"})


# ── Cold starts: each runs in a process of its own ──────────────────────────────────────────────


_SDK = """
import botocore.session
client = botocore.session.get_session().create_client("dynamodb", region_name="us-east-1")
"""
_API = """
import app
from chalicelib.api import account, exchange
from chalicelib.services import services
_ = (services().ledger, services().subscriptions, services().catalogue)
"""
_WORKER = """
import app
from chalicelib.jobs import workers
from chalicelib.services import services
_ = (services().ledger, services().subscriptions, services().catalogue)
"""
_FIRST = """
import json, os
class Context:
    aws_request_id = "bench"
    def get_remaining_time_in_millis(self):
        return 30_000
answer = app.{function}(json.loads(os.environ["EVENT"]), Context())
assert answer in ({{"batchItemFailures": []}},) or answer["statusCode"] == 200, answer
"""
COLD_USER = "user-0000000"

COLD = {
    "floor": _SDK,
    "floor, packed": _SDK,
    "api": _API,
    "worker": _WORKER,
    "floor, first call": _SDK
    + f'client.get_item(TableName="b-subscriptions", Key={{"user_id": {{"S": "{COLD_USER}"}}}})',
    "api, first request": _API + _FIRST.format(function="app"),
    "worker, first message": _WORKER + _FIRST.format(function="allocate_accounts"),
}
"""Cold starts. Until a function can take its first event: importing botocore and making one
DynamoDB client; the imports and the client of the API function; those of a worker. And including
the first event: one call, the balance of a user, the allocation of a user."""

TIMED = """
import time
before = time.process_time_ns()
{script}
print((time.process_time_ns() - before) / 1e6)
"""


@contextmanager
def packaged() -> Iterator[tuple[int, dict[str, Path]]]:
    """The bytes of the archive, and where each variant of a cold start imports from.

    The functions import from the deployed archive, unpacked as in Lambda. The floor imports from
    the SDK as pip installs it; ``floor, packed`` from that of the archive.
    """
    installed = Path(botocore.__file__).parents[1]
    with tempfile.TemporaryDirectory(prefix="credits-bench-") as name:
        package = packaging.package("dev", Path(name) / "package", region="us-east-1")
        archive = Path(name) / "archive"
        with zipfile.ZipFile(package.archive) as packed:
            packed.extractall(archive)
        as_installed = ("floor", "floor, first call")
        places = dict.fromkeys(COLD, archive) | dict.fromkeys(as_installed, installed)
        yield package.archive.stat().st_size, places


def measure_cold(variant: str, imported_from: Path, database: Database) -> float:
    """Milliseconds of CPU of one cold start, in a process that has imported nothing else."""
    return float(_started(variant, imported_from, database).stdout.splitlines()[-1])


IMPORTING = ("api, first request", "worker, first message")
"""The cold starts whose imports are counted: they load everything that a first event needs."""


def imports(variant: str, imported_from: Path, database: Database) -> dict[str, float]:
    """Milliseconds that a cold start spends on loading modules, by package, as Python counts them.

    They are wall-clock time, and counting takes longer than loading: read them as shares.
    """
    spent: dict[str, float] = {}
    for line in _started(variant, imported_from, database, "-X", "importtime").stderr.splitlines():
        if found := _IMPORTED.fullmatch(line):
            microseconds, name = found.groups()
            package = name.partition(".")[0]
            if package == "chalicelib" and name.count(".") > 1:
                package = ".".join(name.split(".")[:2])
            elif package in sys.stdlib_module_names or package.startswith("_"):
                package = "Python's library"
            spent[package] = spent.get(package, 0) + int(microseconds) / 1000
    return spent


_IMPORTED = re.compile(r"import time: +([0-9]+) \| +[0-9]+ \| *([\w.]+)")


def _started(
    variant: str, imported_from: Path, database: Database, *options: str
) -> subprocess.CompletedProcess[str]:
    database.control("forget", tables=["ledger"])
    workload.set_clock(workload.MIDNIGHT)
    message = {"as_of": workload.MIDNIGHT, "user_ids": [COLD_USER], "correlation_id": None}
    event = (
        workload.sqs_event([json.dumps(message)], "allocations")
        if variant.startswith("worker")
        else api_event(*BALANCE, user_id=COLD_USER)
    )
    run = subprocess.run(
        # -S: ignore packages installed on this machine.
        [sys.executable, "-S", *options, "-c", TIMED.format(script=COLD[variant])],
        env=os.environ
        | workload.ENVIRONMENT
        | {"PYTHONPATH": str(imported_from), "AWS_ENDPOINT_URL": database.endpoint}
        | {"EVENT": json.dumps(event)},
        cwd=imported_from,
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{variant}: {run.stderr}")
    return run


# ── One warm request ────────────────────────────────────────────────────────────────────────────


def bare_calls(client: Any, *operations: str) -> Callable[[], None]:
    """The same DynamoDB calls as a route makes, with bare botocore."""
    keys = {"user_id": {"S": USER}}
    item = ledger_item(entries()[-1])
    marker = {"user_id": {"S": "operation#usage#42#order-17"}, "entry": {"S": "operation"}}
    insertions = [
        {
            "Statement": 'INSERT INTO "ledger" VALUE {'
            + ", ".join(f"'{n}': ?" for n in each)
            + "}",
            "Parameters": list(each.values()),
        }
        for each in (item, marker)
    ]

    def call() -> None:
        for operation in operations:
            match operation:
                case "Query":
                    client.query(
                        TableName="ledger",
                        KeyConditionExpression="user_id = :u AND begins_with(entry, :e)",
                        ExpressionAttributeValues={":u": {"S": USER}, ":e": {"S": "entry#"}},
                        ScanIndexForward=False,
                        ConsistentRead=True,
                        Limit=1,
                    )
                case "GetItem":
                    client.get_item(TableName="subscriptions", Key=keys, ConsistentRead=True)
                case "ExecuteTransaction":
                    client.execute_transaction(TransactStatements=insertions)
                case _:
                    raise ValueError(operation)

    return call


def serve(app: Callable[[object, object], dict[str, Any]], event: dict[str, Any]) -> None:
    """One request through the app; anything but 200 is an error of the bench."""
    answer = app(copy.deepcopy(event), workload.Context())
    if answer["statusCode"] != 200:
        raise RuntimeError(answer)


def handle(request: Any, view: Any) -> None:
    """One request through its handler, without Chalice's routing."""
    from chalicelib.api import exchange

    answer = exchange.respond(request, view)
    if answer.status_code != 200:
        raise RuntimeError(answer.body)


def routes() -> Iterator[tuple[str, Call, Call, Call]]:
    """Each route as a warm call, its handler alone, and its floor: the calls it made."""
    import botocore.session
    from botocore.config import Config

    os.environ.update(ENVIRONMENT)
    transport = answers()
    transport.install()
    from chalice.app import Request

    import app
    from chalicelib.api import account

    views = {
        SCHEDULE[1]: account.allocation_schedule,
        BALANCE[1]: account.balance,
        HISTORY[1]: account.history,
        USE[1]: account.use,
    }
    client = botocore.session.get_session().create_client(
        "dynamodb", region_name="eu-west-1", config=Config(parameter_validation=False)
    )
    for name, (method, path, body) in {
        "read the schedule": SCHEDULE,
        "read the balance": BALANCE,
        "read a history page": HISTORY,
        "use credits": USE,
    }.items():
        route = partial(serve, app.app, api_event(method, path, body))
        answer_queries(transport, entries()[::-1] if path == HISTORY[1] else entries()[-1:])
        route()
        transport.calls.clear()
        route()
        handler = partial(
            handle, Request(api_event(method, path, body), workload.Context()), views[path]
        )
        yield name, route, handler, bare_calls(client, *transport.calls)


def cpu_of(call: Callable[[], object], times: int = 50) -> float:
    """Microseconds of CPU for one call."""
    before = time.process_time_ns()
    for _ in range(times):
        call()
    return (time.process_time_ns() - before) / times / 1000


def interleaved(variants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measures A B A B …, so that a disturbance of the machine meets all of them."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, measure in variants.items():
            found[name].append(measure())
    return found
