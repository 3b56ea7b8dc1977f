"""How long a month's turn takes on AWS: a simulation from measured CPU and published quotas.

    python -m bench.capacity [--json]        (make capacity)

A discrete-event simulation. Sweeps page each zone that has the same midnight, and enqueue its
users, a hundred in a message; a zone of many users is swept in parallel ranges. Lambda takes ten
messages in an invocation, and its poller limits how many invocations run at once. Each user costs
CPU, one round trip, a share of another, and write units. The table and its expiry index provide
write units at their maximum rates. Users live where people live (`bench.population`). Latencies of
AWS are assumptions, and are marked. The dollars are those of the simulated course
(`bench.cost.PRICES`).
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from bench import plots
from bench.cost import HOURS, PRICES
from bench.population import people
from bench.reference import conversion
from bench.report import RESULTS
from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.ranges import bits_for
from chalicelib.jobs.records import FIRST_DELAY, LONGEST_DELAY, TIME_TO_HAND_BACK
from chalicelib.jobs.sweeps import USERS_A_PAGE, USERS_A_RANGE
from chalicelib.messages.work import SweepKind

INDEX_UNITS_A_USER = Decimal("0.01")
"""Of the sweep: a page of 1,000 keys of the zone's index costs ten units."""

INVOCATIONS_A_POLLER = 10
"""Of a provisioned poller, at once."""

PERIOD = Period(2027, 3)
"""The month that begins; another one moves some zones by an hour."""

SOURCES = {
    "SQS pollers": (
        "5 invocations at first, 300 more a minute, 1,250 at most",
        "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html",
    ),
    "SQS pollers, provisioned": (
        "2 to 200 always there, 10 invocations each, 1,000 more a minute; no maximum concurrency",
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
    "on-demand table that grows": (
        "twice its previous peak at once; beyond that within 30 minutes it may be throttled",
        "https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html",
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
"""Looked up in stored copies of these pages on 2026-11-23 to 2026-11-30. SES is only named. The
simulation leaves out that a table grows: its rates stay the same."""


@dataclass(frozen=True)
class Setting:
    """The deployed settings, and the assumptions."""

    zones: tuple[int, ...] = (1_000_000,)
    """The users of each zone whose month begins at this instant."""
    expiring: float = 0.3
    """The share of users whose grant is also in the expiry index."""
    memory_mb: int = 1024
    sweep_memory_mb: int = 512
    concurrency: int = 20
    pollers: int = 0
    """Of `allocate-accounts`, in provisioned mode, always present; 0 is the usual mode."""
    sweep_concurrency: int = 20
    warm_writes: int = 4_000
    warm_reads: int = 12_000
    shards: int = 32
    cpu_ms: float = 2.0
    """CPU of a user on one vCPU; measured."""
    sweep_cpu_ms: float = 0.02
    """CPU of a user in the sweep; measured."""
    round_trip_ms: float = 5.0
    """Assumed, for the query of a user's last entry."""
    insert_ms: float = 15.0
    """Assumed, for a request that inserts 25 entries."""
    page_ms: float = 35.0
    """Assumed: a query of 1,000 keys, and a request to SQS."""
    index_pages: int = 300
    """Of one zone per second: its index is one partition, and a page of 1,000 keys costs ten units.
    """
    threads: int = 8
    cold_ms: float = 600.0
    """Assumed, for an environment's first invocation."""
    timeout_ms: float = 60_000.0

    @property
    def users(self) -> int:
        """All users whose month begins."""
        return sum(self.zones)

    @property
    def at_first(self) -> int:
        """Invocations of the worker when work suddenly appears."""
        return INVOCATIONS_A_POLLER * self.pollers or 5

    @property
    def more_a_minute(self) -> int:
        """How many invocations of the worker Lambda adds a minute."""
        return 1_000 if self.pollers else 300

    @property
    def vcpu(self) -> float:
        """The share of a CPU that a worker has."""
        return min(1.0, self.memory_mb / 1769)  # Python's threads share one


@dataclass(frozen=True)
class Turn:
    """The results of a simulation."""

    seconds: float
    enqueued_seconds: float
    peak_writes: float
    most_concurrent: int
    most_receives: int
    """Per message: more than one if an invocation had no time left to wait for the table."""
    invocations: int
    """Of the worker."""
    gb_seconds: float
    """Of the worker and the sweep, as Lambda charges them, cold starts included."""
    curve: tuple[tuple[float, float], ...]


def handed_on(setting: Setting) -> list[tuple[float, int]]:
    """When the users of each page are enqueued, and how many they are.

    The first invocation of a large zone sends on one page and divides the rest into ranges.
    """
    page_seconds = _page_seconds(setting)
    readers = [_grown_at(reader) for reader in range(min(setting.sweep_concurrency, 1_250))]
    waiting = [(0.0, zone, users) for zone, users in enumerate(setting.zones)]
    heapq.heapify(waiting)
    read: list[tuple[float, int, int]] = []
    while waiting:
        ready, zone, users = heapq.heappop(waiting)
        time = max(ready, heapq.heappop(readers)) + 0.02
        a_range = USERS_A_RANGE[SweepKind.ALLOCATION]
        is_divided = not ready and users > a_range
        begun = min(USERS_A_PAGE, users) if is_divided else users
        for start in range(0, begun, USERS_A_PAGE):
            time += page_seconds
            read.append((time, zone, min(USERS_A_PAGE, begun - start)))
        if is_divided:
            parts = 1 << bits_for(users, a_range)
            time += -(-parts // 10) * setting.insert_ms / 1000
            left = users - begun
            shares = (left // parts + (part < left % parts) for part in range(parts))
            for share in shares:
                heapq.heappush(waiting, (time, zone, share))
        heapq.heappush(readers, time)
    # The index of a zone is limited by its partition.
    free = [0.0] * len(setting.zones)
    pages = []
    for time, zone, users in sorted(read):
        free[zone] = max(time, free[zone] + 1 / setting.index_pages)
        pages.append((free[zone], users))
    return sorted(pages)


def _page_seconds(setting: Setting) -> float:
    """The time of the sweep for a page of 1,000 users."""
    cpu = setting.sweep_cpu_ms / min(1.0, setting.sweep_memory_mb / 1769)
    return setting.page_ms / 1000 + cpu


def _grown_at(place: int, at_first: int = 5, more_a_minute: int = 300) -> float:
    """When the pollers have grown to this number of invocations at once."""
    return max(0.0, (place + 1 - at_first) / more_a_minute * 60)


def simulate(setting: Setting) -> Turn:
    """One instant's midnights, page by page: a page of a sweep is an invocation of a worker."""
    pages = [(ready, users, 0) for ready, users in handed_on(setting)]
    enqueued = max(ready for ready, *_ in pages)
    heapq.heapify(pages)
    cpu_bound = 100 * setting.cpu_ms / 1000 / setting.vcpu
    queries = -(-100 // setting.threads) * setting.round_trip_ms / 1000
    waiting_bound = queries + setting.insert_ms / 1000  # four inserts at once
    message_seconds = max(cpu_bound, waiting_bound) + 0.01
    table_rate = setting.warm_writes
    index_rate = min(setting.warm_writes, setting.shards * 1_000)
    # Users are written no faster than the table, the index and reads provide units.
    pace = max(1 / table_rate, setting.expiring / index_rate, 1.5 / setting.warm_reads)
    free: list[float] = []
    started, most_receives, invocations, busy = 0, 0, 0, 0.0
    limit = min(setting.concurrency, 1_250)
    units_until, now, last = 0.0, 0.0, 0.0
    finished: list[tuple[float, int]] = []
    patience = (setting.timeout_ms - TIME_TO_HAND_BACK) / 1000
    while pages:
        ready, users, receives = heapq.heappop(pages)
        receives += 1
        most_receives = max(most_receives, receives)
        # A slot: a new one if the pollers have grown to it, else the first to become free.
        grown_at = _grown_at(started, setting.at_first, setting.more_a_minute)
        can_grow = started < limit
        if can_grow and (not free or max(ready, grown_at) <= max(ready, free[0])):
            now = max(ready, grown_at)
            started += 1
            begin = now + setting.cold_ms / 1000
        else:
            now = max(ready, heapq.heappop(free))
            begin = now
        # Units are assigned in turn; a late invocation waits for them while it has time.
        units_until = max(units_until, begin)
        served = min(users, max(0, int((begin + patience - units_until) / pace)))
        units_until += served * pace
        worked = begin + -(-users // 100) * message_seconds
        end = max(worked, units_until if served else begin + patience)
        heapq.heappush(free, end)
        invocations, busy = invocations + 1, busy + end - now
        if served < users:
            # On average: the pause is a random time between half of this and all of it.
            delay = 0.75 * min(LONGEST_DELAY, FIRST_DELAY * 2 ** (receives - 1))
            heapq.heappush(pages, (end + delay, users - served, receives))
        if served:
            finished.append((end, served))
        last = max(last, end)
    curve, most = _credited(finished)
    if last <= 3:
        most = setting.users / last
    return Turn(
        seconds=round(last, 1),
        enqueued_seconds=round(enqueued, 1),
        peak_writes=round(
            min(most * (1 + setting.expiring), table_rate + index_rate * setting.expiring)
        ),
        most_concurrent=started,
        most_receives=most_receives,
        invocations=invocations,
        gb_seconds=round(
            busy * setting.memory_mb / 1024
            + setting.users / 1000 * _page_seconds(setting) * setting.sweep_memory_mb / 1024,
            1,
        ),
        curve=curve,
    )


def _credited(
    finished: list[tuple[float, int]],
) -> tuple[tuple[tuple[float, float], ...], float]:
    """How many have their credits at each moment, thinned out; and the most users in a second."""
    finished.sort()
    per_second: Counter[int] = Counter()
    curve, credited = [(0.0, 0.0)], 0
    for end, users in finished:
        per_second[int(end)] += users
        credited += users
        curve.append((end, float(credited)))
    step = max(1, len(finished) // 60)
    return (*curve[::step], curve[-1]), max(per_second.values())


def saturated(setting: Setting) -> str:
    """The bottleneck of the turn: making this setting ten times better would shorten it most."""
    better = {
        "DynamoDB's rates": replace(
            setting,
            warm_writes=10 * setting.warm_writes,
            warm_reads=10 * setting.warm_reads,
            shards=10 * setting.shards,
        ),
        "the concurrency set": replace(setting, concurrency=10 * setting.concurrency),
        "how fast pollers grow": replace(setting, pollers=max(40, 10 * setting.pollers)),
        "the sweep's paging": replace(
            setting,
            sweep_concurrency=10 * setting.sweep_concurrency,
            page_ms=setting.page_ms / 10,
            sweep_cpu_ms=setting.sweep_cpu_ms / 10,
            index_pages=10 * setting.index_pages,
        ),
        "work and cold starts of an invocation": replace(
            setting, cpu_ms=setting.cpu_ms / 10, cold_ms=setting.cold_ms / 10
        ),
    }
    return min(better, key=lambda name: simulate(better[name]).seconds)


def instants() -> dict[datetime, dict[str, float]]:
    """The instants at which a month begins somewhere, with the share of people of each zone."""
    population = people()
    everybody = sum(population.values())
    found: dict[datetime, dict[str, float]] = {}
    for timezone, count in population.items():
        start = calendar.month_start(timezone, PERIOD)
        found.setdefault(start, {})[timezone] = count / everybody
    return dict(sorted(found.items()))


def busiest(users: int) -> tuple[int, ...]:
    """The users of each zone at the busiest instant, of this many users all over the world."""
    shares = max(instants().values(), key=lambda zones: sum(zones.values()))
    counts = (round(users * share) for share in shares.values())
    return tuple(count for count in counts if count)


def measured() -> Setting:
    """The setting as deployed, with the CPU that the last `make bench` measured."""
    results = json.loads(RESULTS.read_text())
    to_ms = conversion(results) / 1000
    cpu_us = results["work"]["allocate"]["ours"]["cpu_us"]["median"]
    sweep_us = results["growth"]["sweep as a zone grows"]["cpu_us"]
    return Setting(cpu_ms=cpu_us * to_ms, sweep_cpu_ms=sweep_us * to_ms)


def tuned(setting: Setting) -> Setting:
    """With the settings that a million users in one zone need within a minute."""
    return replace(
        setting,
        memory_mb=1769,
        sweep_memory_mb=1769,
        concurrency=400,
        pollers=2,
        warm_writes=40_000,
        warm_reads=40_000,
        page_ms=20,
    )


def raised(setting: Setting) -> Setting:
    """Beyond the usual quotas of an account, which AWS raises on request."""
    return replace(tuned(setting), warm_writes=120_000, warm_reads=200_000)


def cases(setting: Setting) -> dict[str, Setting]:
    """The cases: sizes, spread over the world or in one zone, as deployed and tuned."""
    found: dict[str, Setting] = {}
    for users in (10_000, 1_000_000, 10_000_000):
        for where, zones in (("over the world", busiest(users)), ("in one zone", (users,))):
            found[f"{users:,} {where}, as deployed"] = replace(setting, zones=zones)
            found[f"{users:,} {where}, tuned"] = replace(tuned(setting), zones=zones)
            if users > 1_000_000:
                found[f"{users:,} {where}, quotas raised"] = replace(raised(setting), zones=zones)
    return found


def throttled(setting: Setting) -> dict[str, Setting]:
    """A million users in one zone, with a table that takes a limited number of writes a second."""
    return {
        f"1,000,000 in one zone, {writes:,} writes/s": replace(
            setting, zones=(1_000_000,), warm_writes=writes
        )
        for writes in (100, 500, 1_000, 2_000, 4_000, 8_000)
    }


@dataclass(frozen=True)
class Bill:
    """What a turn costs, in dollars."""

    units: Decimal
    """Of DynamoDB: independent of the speed."""
    functions: Decimal
    """Lambda and SQS."""
    a_month: Decimal
    """Costs between the turns: provisioned pollers."""
    once: Decimal
    """Warm throughput beyond that of a new table."""


NEW = Setting()
"""Of a new table: its warm throughput costs nothing."""


def bill(setting: Setting, turn: Turn) -> Bill:
    """The dollars of all users of a setting whose month begins at this instant."""
    users = Decimal(setting.users)
    expiring = Decimal(str(setting.expiring))
    written, read = users * (1 + expiring), users * (Decimal("1.5") + INDEX_UNITS_A_USER)
    # The index of expiries is written, too. It provides units at its own rate, at least as fast.
    warmed = 2 * (setting.warm_writes - NEW.warm_writes)
    read_warmed = setting.warm_reads - NEW.warm_reads
    return Bill(
        units=written * PRICES["DynamoDB write unit"] + read * PRICES["DynamoDB read unit"],
        functions=Decimal(str(turn.gb_seconds)) * PRICES["Lambda GB-second"]
        + turn.invocations * PRICES["Lambda request"]
        + users * 3 / 1000 * PRICES["SQS request"],
        a_month=setting.pollers * HOURS * PRICES["Lambda event poller hour"],
        once=max(0, warmed) * PRICES["DynamoDB provisioned write hour"]
        + max(0, read_warmed) * PRICES["DynamoDB provisioned read hour"],
    )


def minute(turn: Turn) -> int:
    """The minute after midnight in which the last credit arrives; the first minute is 1."""
    return max(1, math.ceil(turn.seconds / 60))


def _pollers(of: Setting) -> str:
    return f"{of.pollers}, {of.concurrency // INVOCATIONS_A_POLLER}" if of.pollers else "none"


def _standing(of: Setting) -> Bill:
    return bill(of, simulate(replace(of, zones=(1,))))


SETTINGS: tuple[tuple[str, Callable[[Setting], str]], ...] = (
    ("warm writes a second: ledger, `expiring`", lambda of: f"{of.warm_writes:,}"),
    ("warm reads a second: ledger", lambda of: f"{of.warm_reads:,}"),
    ("`allocate-accounts`: invocations at once", lambda of: f"{of.concurrency:,}"),
    ("`allocate-accounts`: provisioned pollers, least and most", _pollers),
    ("`allocate-accounts`: memory, MB", lambda of: f"{of.memory_mb:,}"),
    ("`sweep-zone`: memory, MB", lambda of: f"{of.sweep_memory_mb:,}"),
    ("dollars once", lambda of: f"{_standing(of).once:,.2f}"),
    ("dollars a month, always", lambda of: f"{_standing(of).a_month:,.2f}"),
)
"""The settings to change, and their cost without any turn."""


def markdown_of_settings(setting: Setting) -> str:
    """The settings to change, as docs/scale.md shows them."""
    sides = (setting, tuned(setting), raised(setting))
    lines = ["| what | as deployed | tuned | quotas raised |", "|---|--:|--:|--:|"]
    lines += [f"| {' | '.join((what, *map(told, sides)))} |" for what, told in SETTINGS]
    return "\n".join(lines)


def markdown(turns: Mapping[str, tuple[Setting, Turn]]) -> str:
    """How long a turn takes and what it costs, as docs/scale.md shows it."""
    head = (
        "users",
        "at the busiest instant",
        "last credit, s after midnight",
        "in minute",
        "write units a second, at most",
        "workers at once",
        "dollars of it",
    )
    lines = [f"| {' | '.join(head)} |", f"|---{'|--:' * (len(head) - 1)}|"]
    for name, (case, turn) in turns.items():
        paid = bill(case, turn)
        cells = (
            name,
            f"{case.users:,}",
            f"{turn.seconds:,.0f}",
            str(minute(turn)),
            f"{turn.peak_writes:,.0f}",
            f"{turn.most_concurrent:,}",
            f"{paid.units + paid.functions:,.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Reads the command line, simulates, prints and draws; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/scale.md")
    arguments = parser.parse_args(words)
    if not RESULTS.exists():
        Console(stderr=True).print("error: nothing is measured yet. Measure first: make bench")
        return 1
    deployed = measured()
    asked = cases(deployed) | throttled(deployed)
    turns = {name: (case, simulate(case)) for name, case in asked.items()}
    if arguments.json:
        said = {
            name: asdict(turn) | {"dollars": asdict(bill(case, turn))}
            for name, (case, turn) in turns.items()
        }
        print(json.dumps(said, indent=1, default=str))
        return 0
    if arguments.markdown:
        shown = {name: turns[name] for name in cases(deployed)}
        print(markdown(shown), markdown_of_settings(deployed), sep="\n\n")
        return 0
    table = Table("users", "busiest instant", "last credit s", "enqueued s", title="A month's turn")
    for column in ("minute", "writes/s at most", "concurrent", "receives", "dollars", "held up by"):
        table.add_column(column, justify="right")
    for name, (case, turn) in turns.items():
        table.add_row(
            name,
            f"{case.users:,}",
            f"{turn.seconds:,.0f}",
            f"{turn.enqueued_seconds:,.0f}",
            str(minute(turn)),
            f"{turn.peak_writes:,.0f}",
            str(turn.most_concurrent),
            str(turn.most_receives),
            f"{bill(case, turn).units + bill(case, turn).functions:,.2f}",
            saturated(case),
        )
    console = Console(width=150)
    console.print(table)
    table = Table("what to set", "as deployed", "tuned", "quotas raised", title="Settings")
    for what, told in SETTINGS:
        sides = (deployed, tuned(deployed), raised(deployed))
        table.add_row(what.replace("`", ""), *map(told, sides))
    console.print(table)
    million = {
        name: turn.curve
        for name, (_, turn) in turns.items()
        if name.startswith("1,000,000") and name in cases(deployed)
    }
    plots.write(
        "turn",
        plots.lines(
            "A million users: credits posted after midnight",
            million,
            "seconds after midnight at the busiest instant",
            "users",
        ),
    )
    plots.write(
        "instants",
        plots.columns(
            "People whose month begins, by UTC hour of the turn",
            {f"{start:%H:%M}": 100 * sum(zones.values()) for start, zones in instants().items()},
            "%",
        ),
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
