"""Measures a sweep of a million users in one zone, killed on its way, beside one of ten thousand.

    python -m bench.scale [--users 1000000]        (make scale)

The deployed function pages the zone's index in a process of its own, against `bench.database`. It
divides the zone into ranges, and each of them is delivered, too. Once the function is killed
(SIGKILL) in the middle of a range, and its message is delivered again, as SQS would do. At the end
every user must be in a message. A worker then allocates to the users of the last messages.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.database import Database, serving
from bench.workload import (
    ENVIRONMENT,
    MIDNIGHT,
    ZONE,
    Context,
    peak_rss_mb,
    seed,
    set_clock,
    sqs_event,
)
from infra.arguments import whole_number

WORKED = 50
"""How many messages the worker is given."""


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
    process = _started(database, function, *events)
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


def run(users: int, *, kill: bool) -> dict[str, Any]:
    """Sweeps that many users; returns the measurements."""
    with serving() as database:
        seed(database, "user", users)
        set_clock(MIDNIGHT)
        sweep = {"kind": "allocation", "timezone": ZONE}
        sweep |= dict.fromkeys(("first_midnight", "midnight", "as_of"), MIDNIGHT)
        waiting = [(1, json.dumps(sweep))]
        handed: list[str] = []
        memory: list[float] = []
        invocations = longest = 0
        database.control("counts")
        while waiting:
            # A process handles as many events as there are for it, as in Lambda.
            hop = waiting[0][0]
            bodies = [body for hops, body in waiting if hops == hop]
            waiting = [(hops, body) for hops, body in waiting if hops > hop]
            invocations, longest = invocations + len(bodies), max(longest, hop)
            if kill and hop > 1:
                kill = False
                invocations += 1
                handed += killed(database, bodies[0])
            memory.append(invoke(database, "sweep_zone", *([body] for body in bodies)))
            for message in database.control("messages"):
                if '"kind"' in message:
                    waiting.append((hop + 1, message))
                else:
                    handed.append(message)
        requests = sum(database.control("counts")["requests"].values())
        times = Counter(user for message in handed for user in json.loads(message)["user_ids"])
        if len(times) != users:
            raise RuntimeError(f"{users - len(times)} users are in no message")
        database.control("counts")
        worker = invoke(database, "allocate_accounts", handed[-10:])
        for start in range(0, min(WORKED, len(handed)), 10):
            invoke(database, "allocate_accounts", handed[start : start + 10])
        counts = database.control("counts")
        allocated = database.control("sizes")["ledger"]
        return {
            "users": users,
            "invocations": invocations,
            "longest_chain": longest,
            "messages_per_1000_users": round(len(handed) / users * 1000, 3),
            "users_handed_on_twice": sum(1 for count in times.values() if count > 1),
            "requests_per_1000_users": round(requests / users * 1000, 3),
            "sweep_mb": round(max(memory), 1),
            "worker_mb": round(worker, 1),
            "allocated": allocated,
            "requests_per_allocation": round(sum(counts["requests"].values()) / allocated, 3),
            "write_units_per_allocation": round(counts["write"] / allocated, 3),
        }


def main(words: list[str] | None = None) -> int:
    """Reads the command line, sweeps, prints; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--users", type=whole_number(), default=1_000_000, help="default 1,000,000")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    arguments = parser.parse_args(words)
    if arguments.child:
        return child(arguments.child, arguments.endpoint)
    sides = [run(10_000, kill=False), run(arguments.users, kill=False)]
    sides.append(run(arguments.users, kill=True))
    table = Table("", "ten thousand", "many", "many, killed once", title="A sweep of one zone")
    for name in sides[0]:
        table.add_row(name.replace("_", " "), *(f"{side[name]:,}" for side in sides))
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
