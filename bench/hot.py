"""One account used by many callers at once: uses a second, waiting times, and the cost of waiting.

    python -m bench.hot [--seconds 5]        (make hot)

A use reads the account and inserts the next line. If several callers read the same line, one wins
and the others read again. The operations run in this process with the deployed code over the
emulator, one thread a caller, so the times include the emulator and this machine's CPU. The counts
do not: requests, lost races and capacity units are the same for such a course on AWS.

The figures are stored in bench/hot.json under the way in which requests are sent, so that a run can
be compared with one from before that changed.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import platform
import random
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import plots
from bench.cost import MILLION, PRICES
from bench.database import inserted, write_units
from chalicelib.domain import ledger
from chalicelib.domain.entries import LedgerEntry, UsageItem
from chalicelib.domain.errors import Contention
from chalicelib.domain.ledger import Account, Request
from chalicelib.operations import on_request
from chalicelib.operations.holds import End, end_hold, hold_credits
from chalicelib.retries import MOST_ATTEMPTS, longest_pause
from chalicelib.services import Services
from chalicelib.store.wire.errors import ServiceError
from infra import reach, terminal
from infra.arguments import whole_number
from infra.local import stacks
from infra.local.services import services_of_local

RESULTS = Path(__file__).with_name("hot.json")

CALLERS = (1, 8, 64)

KEPT_SECONDS = 5
"""A measurement shorter than this is only a trial."""

PLENTY = 1_000_000_000
"""Credits that no callers can use up."""

SENT_BY = "the wire"
"""How requests are sent now: by `store.wire`. Before, it was "the SDK"."""

Act = Callable[[Services, str, str], None]
"""What a caller repeats: with the services, the user's id, and a key of its own."""


def use_one(services: Services, user_id: str, key: str) -> None:
    """One use."""
    on_request.use_credits(services, user_id, 1, "Report", caller="bench", key=key)


def use_many(services: Services, user_id: str, key: str, *, keys: int) -> None:
    """That many uses in one entry."""
    items = [UsageItem(f"{key}-{number}", 1, "Report") for number in range(keys)]
    on_request.use_many(services, user_id, items, caller="bench")


def hold_and_capture(services: Services, user_id: str, key: str) -> None:
    """A job: credits set aside, and then charged."""
    held = hold_credits(services, user_id, 50, "Job", seconds=3_600, caller="bench", key=key)
    end_hold(services, End(held.entry.transaction_id, 50, "bench"))


WORK: dict[str, tuple[Act, int]] = {
    "use": (use_one, 1),
    "use-many of 1": (partial(use_many, keys=1), 1),
    "use-many of 10": (partial(use_many, keys=10), 10),
    "use-many of 50": (partial(use_many, keys=50), 50),
    "hold and capture": (hold_and_capture, 1),
}
"""The measured work, and how many uses or jobs each call does."""


class Meter:
    """Requests, lost races and units, from all threads.

    The emulator reports no units for what it refuses. AWS charges them: "This capacity is consumed
    even when the transaction is canceled"
    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html).
    So those of a refused transaction are computed from its items: two a KB and item.
    """

    def __init__(self, client: Any) -> None:
        self._lock = threading.Lock()
        self.clear()
        call = client.call

        def counted(operation: str, parameters: dict[str, Any]) -> Any:
            try:
                answered = call(operation, parameters)
            except ServiceError as error:
                is_lost = error.code == "TransactionCanceledException"
                self._count(operation, parameters, is_lost=is_lost)
                raise
            self._count(operation, parameters, answered)
            return answered

        client.call = counted

    def clear(self) -> None:
        """Counts from zero again."""
        self.requests = self.lost = 0
        self.write_units = self.read_units = self.lost_write_units = 0.0

    def _count(
        self,
        operation: str,
        parameters: dict[str, Any],
        answered: dict[str, Any] | None = None,
        *,
        is_lost: bool = False,
    ) -> None:
        written = read = 0.0
        consumed = (answered or {}).get(CONSUMED, [])
        parts = consumed if isinstance(consumed, list) else [consumed]
        reported = sum(part["CapacityUnits"] for part in parts)
        if operation == "ExecuteTransaction":
            statements = parameters["TransactStatements"]
            computed = 2.0 * sum(write_units(inserted(each)[1]) for each in statements)
            written = computed if answered is None else reported
        elif operation == "TransactGetItems":  # its units are not requested; they are two a key
            read = 2.0 * len(parameters["TransactItems"])
        else:
            read = reported
        with self._lock:
            self.requests += 1
            self.read_units += read
            self.write_units += written
            if is_lost and operation == "ExecuteTransaction":
                self.lost += 1
                self.lost_write_units += written


CONSUMED = "ConsumedCapacity"


@dataclass(frozen=True)
class Row:
    """The results for a number of callers, for each use or job, unless stated otherwise."""

    work: str
    callers: int
    a_second: float
    """Uses, or jobs, of all callers together."""
    p50_ms: float
    p99_ms: float
    """How long a call takes; a call of use-many does several uses."""
    lost: float
    """Lost races a call."""
    requests: float
    write_units: float
    lost_write_units: float
    """The write units that were spent on lost races."""
    read_units: float
    failed: int
    """Calls that failed after all attempts."""


class Hot:
    """One account after another, each used by several callers at once."""

    def __init__(self, stack: stacks.LocalStack) -> None:
        self._services: Services = services_of_local(stack, threads=max(CALLERS))
        for work in WORK:
            for callers in CALLERS:
                self._open(_user_of(work, callers))
        self._meter = Meter(self._services.dynamodb)

    def measure(self, work: str, callers: int, seconds: float) -> Row:
        """That many callers do the same for that many seconds."""
        user_id = _user_of(work, callers)
        act, uses = WORK[work]
        act(self._services, user_id, f"{user_id}-warm")
        self._meter.clear()
        taken: list[float] = []
        failed: list[str] = []
        begun = threading.Barrier(callers)

        def call(caller: int) -> tuple[float, float]:
            begun.wait()
            began = now = time.perf_counter()
            number = 0
            while now < began + seconds:
                number += 1
                try:
                    act(self._services, user_id, f"{user_id}-{caller}-{number}")
                except Contention:
                    failed.append(user_id)
                    now = time.perf_counter()
                else:
                    start, now = now, time.perf_counter()
                    taken.append(now - start)
            return began, now

        with ThreadPoolExecutor(callers) as threads:
            spans = list(threads.map(call, range(callers)))
        lasted = max(end for _, end in spans) - min(began for began, _ in spans)
        done = len(taken) * uses
        return Row(
            work,
            callers,
            round(done / lasted, 1),
            round(statistics.median(taken) * 1000, 1),
            round(statistics.quantiles(taken, n=100)[-1] * 1000, 1),
            round(self._meter.lost / len(taken), 2),
            round(self._meter.requests / done, 2),
            round(self._meter.write_units / done, 2),
            round(self._meter.lost_write_units / done, 2),
            round(self._meter.read_units / done, 2),
            len(failed),
        )

    def _open(self, user_id: str) -> None:
        services = self._services
        values = {
            "user_id": user_id,
            "email": "hot@example.com",
            "timezone": "UTC",
            "plan": "pro",
            "billing_interval": "monthly",
            "status": "active",
            "started_at": "2026-01-01T00:00:00Z",
        }
        reach.enter(services, values, services.now())
        opening = Request("opening", "bench", "Plenty")

        def grant(account: Account) -> LedgerEntry | None:
            if account.last:
                return None
            return ledger.grant(account, PLENTY, opening, services.now(), "UTC", None)

        services.ledger.post(user_id, grant)


def _user_of(work: str, callers: int) -> str:
    return f"{work.replace(' ', '-')}-{callers}"


QUERY_SECONDS = 0.005
CPU_SECONDS = 0.003
TRANSACTION_SECONDS = 0.015
MARKER_SECONDS = 0.010
"""Assumed for AWS: the query of the last entry, our own work at 512 MB, the transaction, and, after
a lost race, reading the marker of the operation. The table is half-way: it reads or locks after
half of the time, and the answer takes the other half."""

SIMULATED_SECONDS = 200.0

API_GB = Decimal("0.5")
"""The memory of the API's function."""


@dataclass(frozen=True)
class Course:
    """What callers of one account would achieve on AWS, by simulation."""

    callers: int
    a_second: float
    """Successful calls of all callers together."""
    p50_ms: float
    p99_ms: float
    lost: float
    """Lost races a call."""
    failed: float
    """The share of calls that fail after all attempts."""

    @property
    def dollars(self) -> Decimal:
        """The cost of a million uses of this kind: units, and Lambda's time, including waits."""
        lost = Decimal(str(self.lost))
        seconds = Decimal(str(self.callers / self.a_second))
        return MILLION * (
            4 * (1 + lost) * PRICES["DynamoDB write unit"]
            # A lost race reads the operation's marker, as a transaction, and the new last line.
            + (1 + 3 * lost) * PRICES["DynamoDB read unit"]
            + seconds * API_GB * PRICES["Lambda GB-second"]
        )


@cache
def simulated(callers: int) -> Course:
    """Callers on machines of their own, so nobody takes another's CPU.

    Of several transactions for the next line, the first to arrive locks it until it is committed,
    and the others are refused. Pauses are those of `chalicelib.retries`.
    """
    chance = random.Random(callers)  # noqa: S311 - a simulation

    def about(seconds: float) -> float:
        return seconds * chance.uniform(0.7, 1.3)

    # When a caller acts at the table: the caller, the line they read (or None: they are about to
    # read), the attempt, and when their call began.
    waiting: list[tuple[float, int, int | None, int, float]] = []

    def begin(caller: int, at: float, attempt: int, since: float) -> None:
        heapq.heappush(waiting, (at + about(QUERY_SECONDS) / 2, caller, None, attempt, since))

    for caller in range(callers):
        at = about(QUERY_SECONDS)
        begin(caller, at, 0, at)
    lines, committed_at, lost, failed = 0, 0.0, 0, 0
    taken: list[float] = []
    while (now := waiting[0][0]) < SIMULATED_SECONDS:
        _, caller, seen, attempt, since = heapq.heappop(waiting)
        if seen is None:
            seen = lines if now >= committed_at else lines - 1
            answered = now + QUERY_SECONDS / 2 + about(CPU_SECONDS)
            at = answered + about(TRANSACTION_SECONDS) / 4
            heapq.heappush(waiting, (at, caller, seen, attempt, since))
            continue
        answered = now + about(TRANSACTION_SECONDS) * 3 / 4
        if seen == lines and now >= committed_at:
            lines += 1
            committed_at = now + TRANSACTION_SECONDS / 2
            taken.append(answered - since)
            begin(caller, answered, 0, answered)
            continue
        lost += 1
        attempt += 1
        again = answered + about(MARKER_SECONDS)
        if attempt == MOST_ATTEMPTS:
            failed += 1
            begin(caller, again, 0, again)
        else:
            begin(caller, again + chance.uniform(0, longest_pause(attempt)), attempt, since)
    return Course(
        callers,
        round(len(taken) / SIMULATED_SECONDS, 1),
        round(statistics.median(taken) * 1000),
        round(statistics.quantiles(taken, n=100)[-1] * 1000),
        round(lost / len(taken), 2),
        round(failed / (len(taken) + failed), 4),
    )


HEAD = (
    "requests by",
    "what",
    "callers",
    "uses a second",
    "p50, ms",
    "p99, ms",
    "lost races a call",
    "write units a use",
    "of them lost",
    "read units a use",
)


def rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of the table, for all measured ways."""
    return [
        (
            sent_by,
            row["work"],
            str(row["callers"]),
            f"{row['a_second']:,.0f}",
            f"{row['p50_ms']:,.0f}",
            f"{row['p99_ms']:,.0f}",
            f"{row['lost']:.1f}",
            f"{row['write_units']:.1f}",
            f"{row['lost_write_units']:.1f}",
            f"{row['read_units']:.1f}",
        )
        for sent_by, side in results.items()
        for row in side["rows"]
    ]


def markdown(results: dict[str, Any]) -> str:
    """The table as docs/scale.md shows it."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|---|" + "--:|" * (len(HEAD) - 2)]
    lines += (f"| {' | '.join(cells)} |" for cells in rows(results))
    for sent_by, side in results.items():
        at = (
            f"{side['measured_at']}, {side['machine']}, {side['cores']} cores, "
            f"at a load of {side['load']} when it began"
        )
        lines += ["", f"By {sent_by}: {at}."]
    return "\n".join(lines)


def markdown_of_courses() -> str:
    """What callers would achieve on AWS, as docs/scale.md shows it."""
    head = (
        "callers at once",
        "calls a second",
        "p50, ms",
        "p99, ms",
        "lost races a call",
        "given up",
        "dollars a million uses",
    )
    lines = [f"| {' | '.join(head)} |", "|" + "--:|" * len(head)]
    for course in map(simulated, CALLERS):
        cells = (
            f"{course.callers}",
            f"{course.a_second:,.0f}",
            f"{course.p50_ms:,.0f}",
            f"{course.p99_ms:,.0f}",
            f"{course.lost:.1f}",
            f"{course.failed:.1%}",
            f"{course.dollars:,.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: dict[str, Any]) -> None:
    """The picture: uses a second of each kind of work."""
    values = {
        f"{row['work']}, {row['callers']}" + (f", {sent_by}" if len(results) > 1 else ""): row[
            "a_second"
        ]
        for sent_by, side in results.items()
        for row in side["rows"]
    }
    title = "One account on the emulator: uses a second, by callers at once"
    plots.write("hot", plots.bars(title, values))


def main(words: Sequence[str] | None = None) -> int:
    """Reads the command line, measures, stores and prints; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.hot",
        description="Measures one account that 1, 8 and 64 callers use at once.",
    )
    parser.add_argument(
        "--seconds",
        type=whole_number(most=3_600),
        default=5,
        help="how long each measurement takes (default 5; a shorter one than 5 keeps no file)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument(
        "--markdown", action="store_true", help="measure nothing; print the tables of docs/scale.md"
    )
    arguments = parser.parse_args(words)
    before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    if arguments.markdown:
        print(markdown(before), markdown_of_courses(), sep="\n\n")
        return 0
    os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "ERROR")
    asked = [(work, callers) for work in WORK for callers in CALLERS]
    load = round(os.getloadavg()[0], 1)
    with stacks.local_stack(say=terminal.progress(), schedules=False) as stack:
        hot = Hot(stack)
        measured: list[Row] = []
        with terminal.progress_bar(Console(stderr=True)) as progress:
            task = progress.add_task("", total=len(asked))
            for work, callers in asked:
                progress.update(task, description=f"{work}, {callers} callers")
                measured.append(hot.measure(work, callers, arguments.seconds))
                progress.advance(task)
    side = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
        "cores": os.cpu_count(),
        "load": load,
        "rows": [asdict(row) for row in measured],
    }
    if arguments.seconds >= KEPT_SECONDS:
        results = before | {SENT_BY: side}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        draw(results)
    if arguments.json:
        print(json.dumps({SENT_BY: side}, indent=1))
        return 0
    table = Table(*HEAD, title="One account")
    for cells in rows(before | {SENT_BY: side}):
        table.add_row(*cells)
    Console(width=130).print(table)
    given_up = sum(row.failed for row in measured)
    Console().print(f"Given up after all attempts: {given_up} calls.", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
