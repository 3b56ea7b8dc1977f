"""What a new process loads to serve: for reading, spending and a worker's message no SDK."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from bench.cpu import BALANCE, ENVIRONMENT, USE, USER, api_event, entries, ledger_item
from bench.cpu import subscription_item as subscription

ROOT = Path(__file__).parents[2]

HOLD = ("POST", "/api/credits/holds", {"user_id": USER, "amount": 10, "description": "Report"})
WORK = {"as_of": "2026-05-01T00:00:00Z", "user_ids": [USER], "correlation_id": None}

SERVE = """
import json, os, sys
import app

class Context:
    aws_request_id = "one"
    def get_remaining_time_in_millis(self):
        return 30_000

def serve(function, event):
    return getattr(app, function)(event, Context())

answers = [serve(*each) for each in json.loads(os.environ["ASKED"])]
print(json.dumps([answers, sorted(sys.modules)]))
"""

ANSWERS: dict[str, Any] = {
    "Query": {"Items": [ledger_item(entries()[-1])]},
    "GetItem": {"Item": subscription()},
    "BatchGetItem": {
        "Responses": {"subscriptions": [subscription()]},
        "UnprocessedKeys": {},
    },
    "BatchExecuteStatement": {"Responses": [{"TableName": "ledger"}]},
}
"""What DynamoDB says; an empty object to everything else."""


class _Database(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        said = json.dumps(ANSWERS.get(self.headers["x-amz-target"].partition(".")[2], {})).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def _database() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Database)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def message(body: object, queue: str = "allocations") -> dict[str, Any]:
    """An event of SQS."""
    attributes = {"ApproximateReceiveCount": "1"}
    record = {"messageId": "m", "receiptHandle": "r", "body": json.dumps(body)}
    source = {"eventSourceARN": f"arn:aws:sqs:eu-west-1:1:{queue}", "attributes": attributes}
    return {"Records": [record | source]}


def served(*asked: tuple[str, dict[str, Any]]) -> tuple[list[Any], set[str]]:
    """What a new process answers to the events of some functions, and the modules it has then."""
    with _database() as url:
        run = subprocess.run(
            [sys.executable, "-c", SERVE],
            cwd=ROOT,
            env=os.environ | ENVIRONMENT | {"AWS_ENDPOINT_URL": url, "ASKED": json.dumps(asked)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    answers, modules = json.loads(run.stdout.splitlines()[-1])
    return answers, set(modules)


def of_the_sdk(modules: set[str]) -> set[str]:
    """The modules of the SDK and of PynamoDB.

    Not the name ``botocore`` alone: Powertools' logger asks whether there is such a package, which
    loads one file of it.
    """
    names = ("boto3", "botocore", "pynamodb", "s3transfer", "urllib3")
    return {each for each in modules - {"botocore"} if each.split(".")[0] in names}


@pytest.mark.parametrize("route", [BALANCE, USE, HOLD], ids=["a read", "a use", "a hold"])
def test_a_request_loads_no_sdk(route: tuple[str, str, object]) -> None:
    event = api_event(*route)
    if route is HOLD:  # only the product's backend holds
        caller = {"user_id": "", "caller": "shop", "scopes": "credits:backend"}
        event["requestContext"]["authorizer"] |= caller
    ((answer,), modules) = served(("app", event))
    assert answer["statusCode"] in (200, 201), answer
    assert of_the_sdk(modules) == set()
    assert "aws_lambda_powertools" not in modules, "nothing is logged"


@pytest.mark.parametrize("function", ["allocate_accounts", "expire_batches"])
def test_a_message_of_a_worker_loads_no_sdk(function: str) -> None:
    ((answer,), modules) = served((function, message(WORK)))
    assert answer == {"batchItemFailures": []}
    assert of_the_sdk(modules) == set()
    of_others = {f"chalicelib.domain.{each}" for each in ("completeness", "edits", "events")}
    assert modules.isdisjoint(of_others), "each function loads what it needs"


def test_what_sends_emails_loads_forecasts_only_for_the_one_kind_that_has_them() -> None:
    program = "import sys, chalicelib.jobs.notifications; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = run.stdout.split()
    assert "chalicelib.mails.facts" in loaded
    assert "chalicelib.domain.forecasts" not in loaded


def test_a_module_of_the_sdk_that_is_loaded_again_is_noticed() -> None:
    loaded = {"botocore", "botocore.client", "pynamodb.connection", "json", "boto3"}
    assert of_the_sdk(loaded) == {"botocore.client", "pynamodb.connection", "boto3"}
