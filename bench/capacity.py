"""How long a month's turn takes on AWS: a simulation from measured CPU and published quotas.

    python -m bench.capacity [--json]        (make capacity)

A discrete-event simulation: a sweep pages a zone and enqueues its users, a hundred a message;
Lambda takes ten messages an invocation, with as many invocations at once as its poller has grown
to; each user takes CPU, two round trips and write units, which the table and its expiry index give
out at the rates they are good for. What it does not know is AWS itself: latencies are assumptions,
and marked.
"""

from __future__ import annotations

import argparse
import heapq
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import plots

RESULTS = Path(__file__).parent / "results.json"

SOURCES = {
    "SQS pollers": (
        "5 at first, 300 more a minute, 1,250 at most; provisioned mode grows three times faster",
        "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html",
    ),
    "Lambda concurrency": (
        "1,000 an account unless raised",
        "https://docs.aws.amazon.com/lambda/latest/operatorguide/scaling-concurrency.html",
    ),
    "Lambda scaling rate": (
        "1,000 environments each 10 s and function",
        "https://docs.aws.amazon.com/lambda/latest/dg/scaling-behavior.html",
    ),
    "Lambda CPU": (
        "one vCPU at 1,769 MB, in proportion below",
        "https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html",
    ),
    "new on-demand table": (
        "4,000 writes and 12,000 reads a second, more when warmed",
        "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/warm-throughput-scenarios.html",
    ),
    "DynamoDB partition": (
        "1,000 writes and 3,000 reads a second",
        "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html",
    ),
    "DynamoDB table": (
        "40,000 writes and 40,000 reads a second unless raised",
        "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html",
    ),
    "SQS batch": (
        "10 messages or 1 MiB a request",
        "https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html",
    ),
    "SES": (
        "the account's own sending rate; 14 a second is where production access often begins",
        "https://docs.aws.amazon.com/ses/latest/dg/quotas.html",
    ),
}
"""Looked up in stored copies of these pages on 2026-11-23; SES is named only, not simulated."""

POPULATION = {
    "Asia/Kolkata": 1451,
    "Asia/Shanghai": 1419,
    "Africa/Lagos": 233,
    "Asia/Karachi": 251,
    "Asia/Jakarta": 230,
    "Asia/Makassar": 53,
    "Asia/Dhaka": 174,
    "America/New_York": 164,
    "America/Chicago": 101,
    "America/Denver": 24,
    "America/Los_Angeles": 54,
    "America/Sao_Paulo": 196,
    "America/Manaus": 16,
    "Europe/Moscow": 98,
    "Asia/Yekaterinburg": 22,
    "Asia/Novosibirsk": 25,
    "Africa/Addis_Ababa": 132,
    "America/Mexico_City": 131,
    "Asia/Tokyo": 124,
    "Africa/Cairo": 117,
    "Asia/Manila": 116,
    "Africa/Kinshasa": 109,
    "Asia/Ho_Chi_Minh": 101,
    "Asia/Tehran": 92,
    "Europe/Istanbul": 87,
    "Europe/Berlin": 85,
    "Asia/Bangkok": 72,
    "Europe/London": 69,
    "Africa/Dar_es_Salaam": 69,
    "Europe/Paris": 67,
    "Africa/Johannesburg": 64,
    "Europe/Rome": 59,
    "Africa/Nairobi": 56,
    "Asia/Yangon": 55,
    "America/Bogota": 53,
    "Asia/Seoul": 52,
    "Europe/Madrid": 48,
    "Africa/Algiers": 47,
    "Asia/Baghdad": 46,
    "America/Argentina/Buenos_Aires": 46,
    "Asia/Kabul": 43,
    "Europe/Warsaw": 39,
    "Africa/Casablanca": 38,
    "Europe/Kyiv": 38,
    "America/Toronto": 25,
    "Asia/Tashkent": 36,
    "Asia/Riyadh": 34,
    "America/Lima": 34,
    "Asia/Kathmandu": 30,
    "Australia/Sydney": 24,
    "Asia/Colombo": 23,
    "Pacific/Auckland": 5,
}
"""Millions of people in the most populous zones, after the UN's World Population Prospects 2024
(https://population.un.org/wpp/). Approximate: entered by hand, not checked number by number, and
countries with several zones are split by their regions, roughly. What is used is the largest share.
"""


@dataclass(frozen=True)
class Setting:
    """What is deployed, and what is assumed."""

    users: int = 1_000_000
    expiring: float = 0.3
    """The share of users whose grant is in the expiry index too."""
    memory_mb: int = 1024
    sweep_memory_mb: int = 512
    concurrency: int = 20
    pollers_at_first: int = 5
    pollers_a_minute: int = 300
    warm_writes: int = 4_000
    warm_reads: int = 12_000
    shards: int = 32
    cpu_ms: float = 2.0
    """CPU of a user on one vCPU; measured."""
    sweep_cpu_ms: float = 0.02
    """CPU of a user in the sweep; measured."""
    round_trip_ms: float = 5.0
    """Assumed, for each of the two requests of a user."""
    page_ms: float = 35.0
    """Assumed: a query of 1,000 keys, and a request to SQS."""
    threads: int = 16
    cold_ms: float = 600.0
    """Assumed, of an environment's first invocation."""

    @property
    def vcpu(self) -> float:
        """The share of a CPU that a worker has."""
        return min(1.0, self.memory_mb / 1769)  # Python's threads share one


@dataclass(frozen=True)
class Turn:
    """What came of it."""

    seconds: float
    enqueued_seconds: float
    peak_writes: float
    most_concurrent: int
    curve: tuple[tuple[float, float], ...]


def simulate(setting: Setting) -> Turn:
    """One zone's midnight, message by message."""
    page_seconds = setting.page_ms / 1000 + setting.sweep_cpu_ms / min(
        1.0, setting.sweep_memory_mb / 1769
    )
    messages = -(-setting.users // 100)
    invocations = -(-messages // 10)
    cpu_bound = 100 * setting.cpu_ms / 1000 / setting.vcpu
    waiting_bound = 100 * 2 * setting.round_trip_ms / 1000 / setting.threads
    message_seconds = max(cpu_bound, waiting_bound) + 0.01
    writes = 100 * (1 + setting.expiring)
    table_rate = setting.warm_writes
    index_rate = min(setting.warm_writes, setting.shards * 1_000)
    # A message is written no faster than table, index and reads give units out.
    pace = max(100 / table_rate, 100 * setting.expiring / index_rate, 150 / setting.warm_reads)
    free: list[float] = []
    started = 0
    limit = min(setting.concurrency, 1_250)
    units_until, now, most, last = 0.0, 0.0, 0, 0.0
    finished: list[float] = []
    for number in range(invocations):
        ready = (number + 1) * page_seconds + 0.02
        # A place: a new one when the pollers have grown to it, else the one that is free first.
        grown_at = max(
            0.0, (started + 1 - setting.pollers_at_first) / setting.pollers_a_minute * 60
        )
        can_grow = started < limit
        if can_grow and (not free or max(ready, grown_at) <= max(ready, free[0])):
            now = max(ready, grown_at)
            started += 1
            begin = now + setting.cold_ms / 1000
        else:
            now = max(ready, heapq.heappop(free))
            begin = now
        # Units are given out in turn; whoever is late waits for them.
        worked = begin + 10 * message_seconds
        units_until = max(units_until, begin) + 10 * pace
        end = max(worked, units_until)
        heapq.heappush(free, end)
        most = max(most, sum(1 for until in free if until > now) if number % 50 == 0 else most)
        finished.append(end)
        last = max(last, end)
    finished.sort()
    per_second: dict[int, float] = {}
    for end in finished:
        per_second[int(end)] = per_second.get(int(end), 0) + 10 * writes
    step = max(1, len(finished) // 60)
    curve = [(0.0, 0.0), *((end, (place + 1) * 1000.0) for place, end in enumerate(finished))]
    peak = max(per_second.values()) if last > 3 else setting.users * (1 + setting.expiring) / last
    return Turn(
        seconds=round(last, 1),
        enqueued_seconds=round(invocations * page_seconds, 1),
        peak_writes=round(min(peak, table_rate + index_rate * setting.expiring)),
        most_concurrent=started,
        curve=(*curve[::step], curve[-1]),
    )


def saturated(setting: Setting) -> str:
    """What holds the turn up: that which, made ten times as good, would shorten it most."""
    better = {
        "DynamoDB's rates": replace(
            setting,
            warm_writes=10 * setting.warm_writes,
            warm_reads=10 * setting.warm_reads,
            shards=10 * setting.shards,
        ),
        "the concurrency set": replace(setting, concurrency=10 * setting.concurrency),
        "how fast pollers grow": replace(setting, pollers_a_minute=10 * setting.pollers_a_minute),
        "the sweep's paging": replace(
            setting, page_ms=setting.page_ms / 10, sweep_cpu_ms=setting.sweep_cpu_ms / 10
        ),
        "work and cold starts of an invocation": replace(
            setting, cpu_ms=setting.cpu_ms / 10, cold_ms=setting.cold_ms / 10
        ),
    }
    return min(better, key=lambda name: simulate(better[name]).seconds)


def largest_share() -> float:
    """Of all people, those in the most populous zone."""
    return max(POPULATION.values()) / sum(POPULATION.values())


def measured() -> Setting:
    """The setting as deployed, with the CPU that the last `make bench` measured."""
    results = json.loads(RESULTS.read_text())
    cpu_ms = results["work"]["allocate"]["ours"]["cpu_us"]["median"] / 1000
    sweep = results["growth"]["sweep as a zone grows"]["cpu_us"] / 1000
    return Setting(cpu_ms=cpu_ms, sweep_cpu_ms=sweep)


def cases(setting: Setting) -> dict[str, Setting]:
    """What is asked: sizes, spread over the world or in one zone, as deployed and tuned."""
    tuned = replace(
        setting,
        memory_mb=1769,
        sweep_memory_mb=1769,
        concurrency=400,
        pollers_a_minute=900,
        warm_writes=40_000,
        warm_reads=40_000,
        page_ms=20,
    )
    share = largest_share()
    found: dict[str, Setting] = {}
    for users in (10_000, 1_000_000, 10_000_000):
        spread = int(users * share)
        found[f"{users:,} over the world, as deployed"] = replace(setting, users=spread)
        found[f"{users:,} in one zone, as deployed"] = replace(setting, users=users)
        found[f"{users:,} in one zone, tuned"] = replace(tuned, users=users)
    return found


def main(words: list[str] | None = None) -> int:
    """Reads the command line, simulates, prints and draws; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args(words)
    if not RESULTS.exists():
        Console(stderr=True).print("error: nothing is measured yet. Measure first: make bench")
        return 1
    turns = {name: (case, simulate(case)) for name, case in cases(measured()).items()}
    if arguments.json:
        print(json.dumps({name: asdict(turn) for name, (_, turn) in turns.items()}, indent=1))
        return 0
    table = Table("users", "busiest zone", "last credit s", "enqueued s", title="A month's turn")
    for column in ("writes/s at most", "concurrent", "held up by"):
        table.add_column(column, justify="right")
    for name, (case, turn) in turns.items():
        table.add_row(
            name,
            f"{case.users:,}",
            f"{turn.seconds:,.0f}",
            f"{turn.enqueued_seconds:,.0f}",
            f"{turn.peak_writes:,.0f}",
            str(turn.most_concurrent),
            saturated(case),
        )
    Console(width=150).print(table)
    million = {
        name: turn.curve for name, (_, turn) in turns.items() if name.startswith("1,000,000")
    }
    plots.write(
        "turn",
        plots.lines(
            "A million users: credits posted after midnight",
            million,
            "seconds after midnight of the busiest zone",
            "users",
        ),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
