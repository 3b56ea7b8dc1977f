"""Sends one email for each of many allocations, under duplicate deliveries and throttling.

    python -m bench.mails [--users 10000] [--duplicates 0.3] [--throttled 0.2] [--json]

The deployed functions do the work on the emulator, with the ledger's own stream, the queues, and as
many senders as the stage `local` has. A relay between the sender and AWS counts the requests and
answers some of those to SES with 429. Some messages are enqueued a second time, in any order.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from bench.workload import Context, sqs_event
from chalicelib.jobs import workers
from chalicelib.messages.notifications import EntryPosted
from chalicelib.messages.work import USERS_A_MESSAGE, UsersMessage
from chalicelib.queues import chunks
from chalicelib.services import Services
from infra import reach, terminal
from infra.deployment import stage_services
from infra.local import outbox, stacks
from infra.local.guard import GuardedHandler
from infra.local.services import queues_of_local, services_of_local

START = datetime(2026, 9, 30, 22, 0, tzinfo=UTC)  # October begins in Paris
RELAYED = ("DYNAMODB", "SQS", "SESV2", "SECRETS_MANAGER")
DEADLINE_SECONDS = 3600.0
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Relay:
    """Passes requests on to the emulator, counts them, and throttles some of those to SES."""

    def __init__(self, target: str, throttled: float) -> None:
        self.counts: Counter[str] = Counter()
        self._host = urlsplit(target).netloc
        self._throttled = throttled
        self._dice = random.Random(1)  # noqa: S311 - a measurement that can be repeated
        self._lock = threading.Lock()

    def is_throttled(self, name: str) -> bool:
        """Whether SES refuses this request; counts the outcome."""
        with self._lock:
            refused = name == "ses SendEmail" and self._dice.random() < self._throttled
            self.counts[f"{name} (throttled)" if refused else name] += 1
            return refused

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """The emulator's answer."""
        # A connection for each request: the emulator could close a kept one meanwhile, and the
        # bench should not measure that fault.
        with closing(http.client.HTTPConnection(self._host, timeout=120)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()


def _handler(relay: Relay) -> type[GuardedHandler]:
    class Handler(GuardedHandler, BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if relay.is_throttled(_name(self.path, self.headers.get("X-Amz-Target", ""))):
                refusal = b'{"message":"Maximum sending rate exceeded."}'
                self._answer(429, {"x-amzn-ErrorType": "TooManyRequestsException"}, refusal)
                return
            self._answer(*relay.forward("POST", self.path, dict(self.headers), body))

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    return Handler


def _name(path: str, target: str) -> str:
    if path.startswith("/v2/email/outbound-emails"):
        return "ses SendEmail"
    service, _, operation = target.partition(".")
    return f"{service.partition('_')[0].lower()} {operation}"


@contextmanager
def relay(stack: stacks.LocalStack, throttled: float) -> Iterator[Relay]:
    """Puts a relay between the sender and the emulator."""
    between = Relay(stack.endpoint_url, throttled)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(between))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    functions, name = stack.client("lambda"), stack.functions["send-notifications"]
    variables = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
    address = f"http://127.0.0.1:{server.server_port}"
    named = {f"AWS_ENDPOINT_URL_{service}": address for service in RELAYED}
    functions.update_function_configuration(
        FunctionName=name, Environment={"Variables": variables | named}
    )
    try:
        yield between
    finally:
        server.shutdown()


def subscribe(services: Services, user_ids: list[str]) -> None:
    """Registers users in Paris, on the plan whose credits expire."""

    def put(user_id: str) -> None:
        values = {
            "user_id": user_id,
            "email": f"{user_id}@example.com",
            "timezone": "Europe/Paris",
            "plan": "starter",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2026-01-01T00:00:00Z",
            "eligible_from": "2026-09-30T22:00:00Z",
        }
        reach.enter(services, values, START)

    with ThreadPoolExecutor(stage_services.THREADS) as pool:
        list(pool.map(put, user_ids))


def allocate(services: Services, user_ids: list[str]) -> None:
    """Does in this process what the deployed worker does with the messages of a month's turn."""
    for chunk in chunks(user_ids, USERS_A_MESSAGE):
        event = sqs_event([UsersMessage(START, tuple(chunk)).body()], "allocations")
        if workers.allocate_accounts(services, event, Context())["batchItemFailures"]:
            raise RuntimeError("an allocation failed")


def deliver_again(services: Services, user_ids: list[str], share: float) -> int:
    """Enqueues the emails of some users again; returns how many."""
    dice = random.Random(2)  # noqa: S311 - a measurement that can be repeated
    again = dice.sample(user_ids, int(len(user_ids) * share))
    # The first entry of each user is October's allocation, the only one due.
    return services.queues.send_notifications(EntryPosted(user_id, 1).body() for user_id in again)


def run(
    stack: stacks.LocalStack, users: int, duplicates: float, throttled: float
) -> dict[str, Any]:
    """Allocates, waits for the emails, counts."""
    services = services_of_local(stack)
    services.queues = queues_of_local(stack)
    user_ids = [f"user-{number}" for number in range(users)]
    subscribe(services, user_ids)
    with relay(stack, throttled) as between:
        began = time.monotonic()
        allocate(services, user_ids)
        allocated = time.monotonic() - began
        again = deliver_again(services, user_ids, duplicates)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while _done(stack) < users and time.monotonic() < deadline:
            time.sleep(5)
        outbox.wait_until_sent(stack)
        counts = dict(between.counts)
    recipients = Counter(address for mail in outbox.sent_mails(stack) for address in mail["To"])
    # Each ledger must have the one allocation and nothing else.
    wrong = [user for user in user_ids if services.ledger.account(user).next_number != 2]
    return {
        "users": users,
        "mails": recipients.total(),
        "users_mailed": len(recipients),
        "mailed_twice": sum(1 for count in recipients.values() if count > 1),
        "duplicates_enqueued": again,
        "dead_letters": outbox.dead_letters(stack),
        "ledgers_changed": len(wrong),
        "seconds_to_allocate": round(allocated, 1),
        "seconds_until_mailed": round(time.monotonic() - began - outbox.SETTLE_SECONDS, 1),
        "requests": counts,
        "requests_a_mail": round(sum(counts.values()) / max(1, recipients.total()), 2),
    }


def _done(stack: stacks.LocalStack) -> int:
    """Emails that were sent, or failed for good."""
    return outbox.count_by_kind(stack)["allocation"] + outbox.dead_letters(stack)


def show(figures: dict[str, Any], console: Console) -> None:
    """Prints the figures as a table."""
    table = Table("", "", title="Mails of a month's turn", show_header=False)
    table.columns[1].justify = "right"
    for name, value in figures.items():
        if name != "requests":
            table.add_row(name.replace("_", " "), f"{value:,}")
    for name, count in sorted(figures["requests"].items()):
        table.add_row(f"  {name}", f"{count:,}")
    console.print(table)


def main(words: list[str] | None = None) -> int:
    """Reads the command line and measures; the exit status is 1 unless each user got one email."""
    parser = argparse.ArgumentParser(prog="python -m bench.mails")
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--duplicates", type=float, default=0.3, help="share delivered again")
    parser.add_argument("--throttled", type=float, default=0.2, help="share that SES refuses")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args(words)
    os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "ERROR")  # a table, not the worker's own lines
    with stacks.local_stack(say=terminal.progress(), schedules=False) as stack:
        figures = run(stack, arguments.users, arguments.duplicates, arguments.throttled)
    if arguments.json:
        print(json.dumps(figures))
    else:
        show(figures, Console())
    is_right = figures["mails"] == figures["users_mailed"] == figures["users"]
    return 0 if is_right and not figures["dead_letters"] else 1


if __name__ == "__main__":
    sys.exit(main())
