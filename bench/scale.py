"""A sweep of a million users in one zone, killed on its way, beside one of ten thousand.

    python -m bench.scale [--users 1000000]        (make scale)

The deployed function pages the zone's index in a process of its own, against `bench.database`. Once
it is killed (SIGKILL) in mid-page, and its message delivered again, as SQS does; and whenever its
time is up it hands over with a cursor, which is delivered too. At the end everybody must be in a
message. A worker then allocates to the users of the last messages.
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


class Hurried(Context):
    """A context whose time runs out: an invocation of six seconds."""

    def __init__(self) -> None:
        self._end = time.monotonic() + 6

    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]
        """What is left before a sweep must hand over, and ten seconds more."""
        return int((self._end - time.monotonic()) * 1000) + 10_000


def child(function: str, endpoint: str) -> int:
    """One invocation, its event on standard input; prints the memory it took."""
    os.environ.update(ENVIRONMENT | {"AWS_ENDPOINT_URL": endpoint, "POWERTOOLS_LOG_LEVEL": "ERROR"})
    import app

    answer = getattr(app, function)(json.load(sys.stdin), Hurried())
    print(peak_rss_mb())
    return len(answer["batchItemFailures"])


def invoke(
    database: Database, function: str, bodies: list[str], kill_after: float | None = None
) -> float | None:
    """Peak memory of an invocation in MB; None when it was killed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.scale", "--child", function, "--endpoint", database.endpoint],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    event = json.dumps(sqs_event(bodies, function))
    if kill_after is not None:
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(event)
        process.stdin.close()
        time.sleep(kill_after)
        process.kill()
        process.wait()
        return None
    said, _ = process.communicate(event)
    if process.returncode:
        raise RuntimeError(f"{function} failed")
    return float(said.splitlines()[-1])


def run(users: int, *, kill: bool) -> dict[str, Any]:
    """Sweeps that many users; what it took."""
    with serving() as database:
        seed(database, "user", users)
        set_clock(MIDNIGHT)
        sweep = {"kind": "allocation", "timezone": ZONE, "cursor": None}
        sweep |= dict.fromkeys(("first_midnight", "midnight", "as_of"), MIDNIGHT)
        waiting = [json.dumps(sweep)]
        handed: list[str] = []
        memory: list[float] = []
        kills = int(kill)
        invocations = 0
        database.control("counts")
        while waiting:
            body = waiting.pop()
            invocations += 1
            if kills:
                kills -= 1
                invoke(database, "sweep_zone", [body], kill_after=4.0)
                waiting.append(body)
            else:
                memory.append(invoke(database, "sweep_zone", [body]) or 0.0)
            for message in database.control("messages"):
                (waiting if '"kind"' in message else handed).append(message)
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
            "messages_per_1000_users": round(len(handed) / users * 1000, 3),
            "users_handed_on_twice": sum(1 for count in times.values() if count > 1),
            "requests_per_1000_users": round(requests / users * 1000, 3),
            "sweep_mb": round(max(memory), 1),
            "worker_mb": round(worker or 0.0, 1),
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
