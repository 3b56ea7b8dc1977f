"""Measures a sweep of a million users in one zone, killed midway, beside one of ten thousand.

    python -m bench.scale [--users 1000000]        (make scale)

The deployed function pages the zone's index in a process of its own, against `bench.database`. It
divides the zone into ranges, and each range is delivered, too. One time the function is killed
(SIGKILL) in the middle of a range, and its message is delivered again, as SQS would do. At the end
every user must be in a message. A worker then allocates to the users of the last messages.

Memory is bounded: sixteen bytes a user in the database's process while it makes them, and one byte
in this process, on top of a process's usual memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.crowd import MOST_USERS
from bench.database import Database, serving
from bench.workload import (
    ENVIRONMENT,
    MIDNIGHT,
    ZONE,
    Context,
    peak_rss_mb,
    set_clock,
    sqs_event,
    subscription,
)
from infra.arguments import whole_number
from infra.terminal import progress_bar

WORKED = 50
"""How many messages the worker gets."""


def child(function: str, endpoint: str) -> int:
    """Handles the events on standard input one after the other; prints the memory used."""
    os.environ.update(ENVIRONMENT | {"AWS_ENDPOINT_URL": endpoint, "POWERTOOLS_LOG_LEVEL": "ERROR"})
    import app

    events = json.load(sys.stdin)
    answers = [getattr(app, function)(event, Context()) for event in events]
    print(peak_rss_mb())
    return sum(len(answer["batchItemFailures"]) for answer in answers)


def invoke(database: Database, function: str, *events: list[str]) -> float:
    """The peak memory in MB of a process that handles each of these messages."""
    return _ended(_started(database, function, *events), function)


def _ended(process: subprocess.Popen[str], function: str) -> float:
    said, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{function} failed")
    return float(said.splitlines()[-1])


def killed(database: Database, body: str) -> list[str]:
    """Runs a sweep that dies as soon as it has sent something; returns what it sent."""
    process = _started(database, "sweep_zone", [body])
    sent: list[str] = []
    while not sent:
        time.sleep(0.005)
        sent += database.control("messages")
    process.kill()
    process.communicate()
    sent += database.control("messages")
    return sent


def _started(database: Database, function: str, *events: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.scale", "--child", function, "--endpoint", database.endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None  # noqa: S101
    process.stdin.write(json.dumps([sqs_event(bodies, function) for bodies in events]))
    process.stdin.flush()
    process.stdin.close()
    process.stdin = None
    return process


class Handed:
    """The users that the sweep has sent on, and how often: a byte a user. Keeps the last ones."""

    def __init__(self, users: int) -> None:
        self._times = bytearray(users)
        self.messages = 0
        self.last: deque[str] = deque(maxlen=WORKED)

    def add(self, message: str) -> int:
        """Counts the users of a message; returns how many of them are in no earlier one."""
        new = 0
        self.messages += 1
        self.last.append(message)
        for user_id in json.loads(message)["user_ids"]:
            number = int(user_id.rpartition("-")[2])
            new += not self._times[number]
            self._times[number] = min(255, self._times[number] + 1)
        return new

    @property
    def missing(self) -> int:
        """How many users are in no message."""
        return self._times.count(0)

    @property
    def twice(self) -> int:
        """How many users are in more than one."""
        return len(self._times) - self._times.count(0) - self._times.count(1)


def run(users: int, *, kill: bool, tell: Callable[[int], object]) -> dict[str, Any]:
    """Sweeps that many users; returns the measurements. ``tell`` gets the progress, in users.

    Messages are counted and dropped while the sweep runs, so that memory does not grow with them.
    """
    with serving() as database:
        database.control("seed", prefix="user", users=users, subscription=subscription("pro"))
        set_clock(MIDNIGHT)
        sweep = {"kind": "allocation", "timezone": ZONE}
        sweep |= dict.fromkeys(("first_midnight", "midnight", "as_of"), MIDNIGHT)
        waiting = [(1, json.dumps(sweep))]
        handed = Handed(users)
        memory: list[float] = []
        invocations = longest = 0
        database.control("counts")
        began = time.monotonic()

        def take(hop: int, messages: list[str]) -> None:
            for message in messages:
                if '"kind"' in message:
                    waiting.append((hop + 1, message))
                else:
                    tell(handed.add(message))

        while waiting:
            # A process handles all events that wait for it, as in Lambda.
            hop = waiting[0][0]
            bodies = [body for hops, body in waiting if hops == hop]
            waiting[:] = [(hops, body) for hops, body in waiting if hops > hop]
            invocations, longest = invocations + len(bodies), max(longest, hop)
            if kill and hop > 1:
                kill = False
                invocations += 1
                take(hop, killed(database, bodies[0]))
            process = _started(database, "sweep_zone", *([body] for body in bodies))
            while process.poll() is None:
                time.sleep(0.1)
                take(hop, database.control("messages"))
            take(hop, database.control("messages"))
            memory.append(_ended(process, "sweep_zone"))
        seconds = time.monotonic() - began
        requests = _requests(database.control("counts"))
        if handed.missing:
            raise RuntimeError(f"{handed.missing:,} users are in no message")
        last = list(handed.last)
        worker = max(
            invoke(database, "allocate_accounts", last[start : start + 10])
            for start in range(0, len(last), 10)
        )
        counts = database.control("counts")
        allocated = database.control("sizes")["ledger"]
        return {
            "users": users,
            "invocations": invocations,
            "longest_chain": longest,
            "messages_per_1000_users": round(handed.messages / users * 1000, 3),
            "users_handed_on_twice": handed.twice,
            "requests_per_1000_users": round(requests / users * 1000, 3),
            "sweep_seconds": round(seconds, 1),
            "sweep_mb": round(max(memory), 1),
            "worker_mb": round(worker, 1),
            "bench_mb": round(peak_rss_mb() + peak_rss_mb(database.process_id), 1),
            "allocated": allocated,
            "requests_per_allocation": round(_requests(counts) / allocated, 3),
            "write_units_per_allocation": round(counts["write"] / allocated, 3),
        }


def _requests(counts: dict[str, Any]) -> int:
    """The requests to DynamoDB and SQS by the function, without our own."""
    return sum(counts["requests"].values())


def main(words: list[str] | None = None) -> int:
    """Reads the command line, sweeps, prints; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument(
        "--users", type=whole_number(most=MOST_USERS), default=1_000_000, help="default 1,000,000"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.child:
        return child(arguments.child, arguments.endpoint)
    asked = {
        "ten thousand": (10_000, False),
        "many": (arguments.users, False),
        "many, killed once": (arguments.users, True),
    }
    sides = []
    with progress_bar(Console(stderr=True)) as progress:
        tasks = {name: progress.add_task(name, total=users) for name, (users, _) in asked.items()}
        for name, (users, kill) in asked.items():
            sides.append(run(users, kill=kill, tell=partial(progress.advance, tasks[name])))
    table = Table("", *asked, title="A sweep of one zone")
    for name in sides[0]:
        table.add_row(name.replace("_", " "), *(f"{side[name]:,}" for side in sides))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
