"""The bill beside those of its rivals: the usual design on DynamoDB, and Celery with PostgreSQL.

    python -m bench.cost --rival        (make cost RIVAL=1)

All three do the same for the same number of users: allocate, expire, use, show, within the same
time after midnight. The usual design ([usual.py](usual.py)) is serverless, too: its bill is ours
with its own units and bytes. Celery runs day and night on the smallest machines that are fast
enough; their size follows from the CPU that `make bench` measured. Assumptions are marked. Emails
cost the same on each side, and are left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import plots
from bench.capacity import busiest, measured, simulate
from bench.cost import HOURS, PRICES, SOURCES, SWEEPS, Line, Scenario, Size, lines
from bench.reference import conversion
from bench.report import RESULTS

SIZES = (1_000, 100_000, 1_000_000, 10_000_000)

EMAILS = "emails"
"""The line of our bill that is the same on all sides."""


def ours(scenario: Scenario) -> list[Line]:
    """Our bill, without what SES takes for the emails themselves."""
    return [line for line in lines(scenario) if line.what != EMAILS]


# ── The usual design ─────────────────────────────────────────────────────────────────────────────

USUAL_ALLOCATION_BYTES = 732
USUAL_USE_BYTES = 498
"""Stored for good, including the hundred bytes that DynamoDB adds to each item: for an allocation
the batch, the line and the record of the operation; for a use or an expiration the last two. A test
computes them from `bench.usual`."""


def usual(scenario: Scenario) -> list[Line]:
    """The same stage with the usual design. It has no chain of hashes, so no anchors."""
    users, expiring = Decimal(scenario.users), scenario.expiring
    usages, reads, months = scenario.usages, scenario.reads, scenario.months_kept
    stored_a_month = USUAL_ALLOCATION_BYTES + (expiring + usages) * USUAL_USE_BYTES
    stored = users * months * stored_a_month / 1024**3
    kept = f"({USUAL_ALLOCATION_BYTES} B + {expiring + usages} × {USUAL_USE_BYTES} B)"
    other: dict[str, tuple[str, Decimal]] = {
        # Four items in a transaction; a batch that can expire is in an index until it has expired.
        "allocate: write": (f"8 + {expiring} expiring × 1", users * (8 + expiring)),
        "allocate and re-sweep: read": (f"{SWEEPS} sweeps × 1", users * SWEEPS),
        "expire: write": (f"{expiring} × 9", users * expiring * 9),
        # From one batch: the minimum.
        "use: write": (f"{usages} × 8", users * usages * 8),
        "use: read": (f"{usages} × 2", users * usages * 2),
        "read by API": (f"{reads} × 1", users * reads),
        "ledger kept": (f"{months} months × {kept}", stored),
        "ledger's backup": ("the same GB", stored),
    }
    return [
        replace(line, arithmetic=other[line.what][0], quantity=other[line.what][1])
        if line.what in other
        else line
        for line in ours(scenario)
        if "anchor" not in line.what
    ]


# ── Celery ───────────────────────────────────────────────────────────────────────────────────────

BUSY = 0.7
"""The most of its CPU that a machine should need."""

PEAK = 10
"""Assumed: in its busiest moment a product has ten times the average of requests."""

REQUEST_US = 2_000
"""Assumed: CPU of the API's own process for a request, including routing and the token check."""

READ_SHARE = 0.3
"""Assumed: the PostgreSQL CPU of a read, as a share of that of a use."""

MINUTE = 60.0
"""Nobody needs to be done before the end of the first minute: both schedules run each minute."""

ACCOUNT_BYTES, ALLOCATION_BYTES, EXPIRATION_BYTES, USE_BYTES = 202, 353, 230, 361
"""Bytes in PostgreSQL's tables and their indexes, for a user and for each operation: measured with
50,000 users in PostgreSQL 15, by `pg_total_relation_size`. An allocation is a batch and an entry.
"""

INDEX_SHARE = 0.35
"""The share of those bytes in indexes where each new entry goes to a random place."""

SPARE = 1.2
"""Spare room in a volume."""


@dataclass(frozen=True)
class Database:
    """A class of RDS for PostgreSQL, with a standby in a second zone."""

    name: str
    vcpus: int
    memory_gb: int
    baseline: float = 1.0
    """The share of each vCPU that it can use all the time."""


DATABASES = (
    Database("db.t4g.micro", 2, 1, 0.10),
    Database("db.t4g.small", 2, 2, 0.20),
    Database("db.t4g.medium", 2, 4, 0.20),
    Database("db.t4g.large", 2, 8, 0.30),
    Database("db.m7g.large", 2, 8),
    Database("db.m7g.xlarge", 4, 16),
    Database("db.m7g.2xlarge", 8, 32),
)
"""The smallest first; large ones have their CPU all the time, burstable ones for a while."""

VOLUMES = ((20, 3_000), (400, 12_000))
"""gp3: from this many GB on, this many reads and writes a second are included."""

TASKS = ((0.25, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8))
"""Fargate: vCPUs and GB of a task."""


@dataclass(frozen=True)
class Need:
    """What the machines of a size must provide."""

    lateness: float
    """Seconds after midnight until the last credit is there, the same as for Credits as deployed.
    """
    database_vcpus: float
    """At the busiest moment: the turn of a month, or the peak of requests."""
    database_average: float
    worker_vcpus: float
    api_vcpus: float
    stored_gb: float
    hot_gb: float
    """Accounts and their indexes, which every operation reads."""
    index_gb: float
    turn_a_second: float
    """Users who get credits, per second."""


@cache
def _results() -> Any:
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def need(scenario: Scenario) -> Need:
    """How much CPU, memory and storage Celery's machines must have."""
    results = _results()
    sides, to_seconds = results["work"]["allocate"], conversion(results) / 1e6
    # In bulk, the cheapest; a use is a transaction of its own, on a kept connection.
    bulk, alone = sides["celery_bulk"], sides["celery_hundred"]
    users = scenario.users
    zones = busiest(users)
    due = sum(zones)
    late = simulate(replace(measured(), zones=zones)).seconds if due else 0.0
    lateness = max(MINUTE, late)
    seconds = HOURS * 3600
    uses, reads = float(scenario.usages) * users, float(scenario.reads) * users
    average = (uses + READ_SHARE * reads) * alone["postgres"] * to_seconds / seconds
    a_month = (
        ALLOCATION_BYTES
        + float(scenario.expiring) * EXPIRATION_BYTES
        + float(scenario.usages) * USE_BYTES
    )
    stored = users * (ACCOUNT_BYTES + scenario.months_kept * a_month) / 1024**3
    return Need(
        lateness=lateness,
        database_vcpus=due * bulk["postgres"] * to_seconds / lateness + PEAK * average,
        database_average=average,
        worker_vcpus=due * bulk["worker"] * to_seconds / lateness,
        api_vcpus=PEAK * (uses + reads) * REQUEST_US / 1e6 / seconds,
        stored_gb=stored,
        hot_gb=users * ACCOUNT_BYTES / 1024**3,
        index_gb=users * scenario.months_kept * a_month * INDEX_SHARE / 1024**3,
        turn_a_second=due / lateness,
    )


@dataclass(frozen=True)
class Machines:
    """The machines that run day and night."""

    database: Database
    volume_gb: int
    worker: tuple[float, float]
    api: tuple[float, float]
    """Of each of two tasks, in two zones."""


def machines(scenario: Scenario) -> Machines:
    """The cheapest machines that meet the needs."""
    needed = need(scenario)
    bought = [
        (_database_dollars(database, gb), database, gb)
        for database in DATABASES
        if _carries(database, needed)
        for least_gb, iops in VOLUMES
        if (gb := max(least_gb, math.ceil(needed.stored_gb * SPARE)))
        if iops >= disk_reads(database, needed) or gb >= VOLUMES[-1][0]
    ]
    _, database, gb = min(bought, key=lambda found: found[0])
    return Machines(database, gb, _task(needed.worker_vcpus), _task(needed.api_vcpus / 2))


def _carries(database: Database, needed: Need) -> bool:
    return (
        database.vcpus * BUSY >= needed.database_vcpus
        and database.vcpus * database.baseline * BUSY >= needed.database_average
        and database.memory_gb / 2 >= needed.hot_gb
    )


def disk_reads(database: Database, needed: Need) -> float:
    """Reads a second at the turn: one for each user whose place in the index is not in memory."""
    in_memory = max(0.0, database.memory_gb / 2 - needed.hot_gb)
    missed = max(0.0, 1 - in_memory / needed.index_gb) if needed.index_gb else 0.0
    return needed.turn_a_second * missed


def _task(vcpus: float) -> tuple[float, float]:
    return next(task for task in TASKS if task[0] * BUSY >= vcpus)


def _database_dollars(database: Database, gb: int) -> Decimal:
    rented = Line("", "", Decimal(HOURS), f"RDS {database.name} hour")
    return rented.dollars + Line("", "", Decimal(gb), "RDS storage").dollars


def celery(scenario: Scenario) -> list[Line]:
    """The bill of Celery's machines."""
    return list(_celery(scenario))


def _celery(scenario: Scenario) -> Iterator[Line]:
    chosen = machines(scenario)
    hours = Decimal(HOURS)
    users = Decimal(scenario.users)
    requests = users * (scenario.usages + scenario.reads)
    yield Line(
        "PostgreSQL, and its standby",
        f"{chosen.database.name}, {chosen.database.vcpus} vCPUs, {chosen.database.memory_gb} GB",
        hours,
        f"RDS {chosen.database.name} hour",
    )
    yield Line(
        "its volume, backup of the same size included",
        f"{need(scenario).stored_gb:,.1f} GB × {SPARE}, {VOLUMES[0][0]} GB at least",
        Decimal(chosen.volume_gb),
        "RDS storage",
    )
    yield Line("Redis (Valkey), one node", "cache.t4g.micro", hours, "ElastiCache node hour")
    tasks = {"worker, with beat": (1, chosen.worker), "API, in two zones": (2, chosen.api)}
    for what, (count, (vcpus, gb)) in tasks.items():
        told = f"{count} × {vcpus:g} vCPU, {gb:g} GB"
        yield Line(what, told, count * Decimal(str(vcpus)) * hours, "Fargate vCPU hour")
        yield Line(f"{what}: memory", told, count * Decimal(str(gb)) * hours, "Fargate GB hour")
    yield Line("load balancer", "1", hours, "Load balancer hour")
    yield Line(
        "load balancer: requests",
        "25 new connections a second are a unit",
        requests / 3600 / 25,
        "Load balancer unit hour",
    )
    yield Line("addresses", "3 tasks, 2 of the load balancer", 5 * hours, "Public IPv4 hour")
    logged = requests * 512 / 1024**3
    yield Line("logs", "0.5 KB a request", logged, "CloudWatch logs")
    yield Line("metrics", "5: queue, lateness, errors", Decimal(5), "CloudWatch metric")
    yield Line("alarms", "10", Decimal(10), "CloudWatch alarm metric")
    yield Line("secrets", "2", Decimal(2), "Secrets Manager secret")


# ── Side by side ─────────────────────────────────────────────────────────────────────────────────

SIDES: dict[str, Callable[[Scenario], list[Line]]] = {
    "Credits": ours,
    "Credits, a `small` stage": lambda scenario: ours(replace(scenario, size=Size.SMALL)),
    "the usual DynamoDB design": usual,
    "Celery, on machines of its own": celery,
}
CELERY_ONLY = ("RDS", "ElastiCache", "Fargate", "Load balancer", "Public IPv4")
"""The services that only Celery's side uses."""

ANYWAY = "Celery, where those machines are there anyway"
"""Only what credits add to the smallest of them."""


def together(bill: list[Line]) -> Decimal:
    """The dollars of a bill."""
    return sum((line.dollars for line in bill), Decimal(0))


def side_by_side(scenario: Scenario, sizes: Sequence[int] = SIZES) -> dict[str, dict[int, Decimal]]:
    """The dollars a month of each side, for each size."""
    found = {
        side: {users: together(bill(replace(scenario, users=users))) for users in sizes}
        for side, bill in SIDES.items()
    }
    least = together(celery(replace(scenario, users=0)))
    found[ANYWAY] = {
        users: dollars - least for users, dollars in found["Celery, on machines of its own"].items()
    }
    return found


def markdown_of_sides(scenario: Scenario) -> str:
    """The sides, as docs/cost.md shows them."""
    head = ["dollars a month, without emails", *(f"{users:,} users" for users in SIZES)]
    rows = [f"| {' | '.join(head)} |", f"|---{'|--:' * len(SIZES)}|"]
    for side, dollars in side_by_side(scenario).items():
        rows.append(f"| {' | '.join((side, *(f'{each:,.2f}' for each in dollars.values())))} |")
    return "\n".join(rows)


MACHINES_HEAD = (
    "Celery",
    "last credit, s",
    "CPU of PostgreSQL",
    "of workers",
    "of the API",
    "GB",
    "PostgreSQL",
    "worker",
    "API",
)


def rows_of_machines(scenario: Scenario) -> Iterator[tuple[str, ...]]:
    """The needs of each size, and the machines that meet them."""
    for users in SIZES:
        asked = replace(scenario, users=users)
        needed, chosen = need(asked), machines(asked)
        yield (
            f"{users:,} users",
            f"{needed.lateness:,.0f}",
            f"{needed.database_vcpus:.2f}",
            f"{needed.worker_vcpus:.2f}",
            f"{needed.api_vcpus:.2f}",
            f"{needed.stored_gb:,.1f}",
            f"{chosen.database.name}, {chosen.volume_gb:,} GB",
            f"{chosen.worker[0]:g} vCPU",
            f"2 × {chosen.api[0]:g} vCPU",
        )


def markdown_of_machines(scenario: Scenario) -> str:
    """The machines, as docs/cost.md shows them."""
    rows = [f"| {' | '.join(MACHINES_HEAD)} |", f"|---{'|--:' * 5}|---|---|---|"]
    rows += (f"| {' | '.join(cells)} |" for cells in rows_of_machines(scenario))
    return "\n".join(rows)


def markdown_of_prices() -> str:
    """The prices of Celery's machines, with where they are from, as docs/cost.md shows them."""
    rows = ["| what | dollars | source |", "|---|--:|---|"]
    for line in celery(Scenario(users=0)):
        service = next(name for name in SOURCES if line.price.startswith(name))
        if service not in CELERY_ONLY:
            continue
        for name, price in PRICES.items():
            row = f"| {name} | {price:f} | <{SOURCES[service]}> |"
            if name.startswith(service) and row not in rows:
                rows.append(row)
    return "\n".join(rows)


def draw(scenario: Scenario) -> None:
    """Draws the sides, with more sizes in between."""
    sizes = [round(10 ** (tenth / 10)) for tenth in range(30, 71)]
    series: Mapping[str, list[tuple[float, float]]] = {
        side.replace("`", ""): [(users, float(each)) for users, each in dollars.items()]
        for side, dollars in side_by_side(scenario, sizes).items()
    }
    picture = plots.decades("Dollars a month, without emails", series, "users", "dollars")
    plots.write("rivals", picture)


def show(scenario: Scenario, console: Console) -> None:
    """Prints and draws the sides, and the machines."""
    table = Table("dollars a month, without emails", title="Side by side")
    for users in SIZES:
        table.add_column(f"{users:,} users", justify="right")
    for side, dollars in side_by_side(scenario).items():
        table.add_row(side.replace("`", ""), *(f"{each:,.2f}" for each in dollars.values()))
    console.print(table)
    table = Table(*MACHINES_HEAD, title="The smallest machines that keep the same promise")
    for cells in rows_of_machines(scenario):
        table.add_row(*cells)
    console.print(table)
    draw(scenario)
