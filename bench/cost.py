"""What Credits costs a month on AWS: measured units times published prices.

    python -m bench.cost [--users 1000000] [--usages 4] [--size small] [--rival]        (make cost)

`make units` and the tests count requests, capacity units and bytes. How often a product asks is an
assumption; change it on the command line. Durations of functions are estimates and marked as such,
because only a deployed stack can measure them. Free tiers and discounts are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table

from chalicelib.metrics import Metric
from infra.arguments import number, whole_number
from infra.deployment.alarms import metrics_of_small

MILLION = Decimal(1_000_000)

PRICES = {
    "DynamoDB write unit": Decimal("0.625") / MILLION,
    "DynamoDB read unit": Decimal("0.125") / MILLION,
    "DynamoDB storage": Decimal("0.25"),
    "DynamoDB point-in-time recovery": Decimal("0.20"),
    "DynamoDB provisioned write hour": Decimal("0.00065"),
    "DynamoDB provisioned read hour": Decimal("0.00013"),
    "Lambda request": Decimal("0.20") / MILLION,
    "Lambda GB-second": Decimal("0.0000166667"),
    "Lambda event poller hour": Decimal("0.00925"),
    "SQS request": Decimal("0.40") / MILLION,
    "API Gateway request": Decimal("3.50") / MILLION,
    "SES email": Decimal("0.10") / 1000,
    "CloudWatch logs": Decimal("0.50"),
    "CloudWatch metric": Decimal("0.30"),
    "CloudWatch alarm metric": Decimal("0.10"),
    "CloudWatch dashboard": Decimal("3.00"),
    "Secrets Manager secret": Decimal("0.40"),
    "KMS key": Decimal("1.00"),
    "EventBridge event": Decimal("1.00") / MILLION,
    "S3 write": Decimal("0.005") / 1000,
    "S3 read": Decimal("0.0004") / 1000,
    "S3 storage": Decimal("0.023"),
    # Celery's machines, for `--rival`. RDS with a standby in a second zone; ARM everywhere.
    "RDS db.t4g.micro hour": Decimal("0.032"),
    "RDS db.t4g.small hour": Decimal("0.065"),
    "RDS db.t4g.medium hour": Decimal("0.129"),
    "RDS db.t4g.large hour": Decimal("0.258"),
    "RDS db.m7g.large hour": Decimal("0.337"),
    "RDS db.m7g.xlarge hour": Decimal("0.674"),
    "RDS db.m7g.2xlarge hour": Decimal("1.348"),
    "RDS storage": Decimal("0.23"),
    "ElastiCache node hour": Decimal("0.0128"),
    "Fargate vCPU hour": Decimal("0.03238"),
    "Fargate GB hour": Decimal("0.00356"),
    "Load balancer hour": Decimal("0.0225"),
    "Load balancer unit hour": Decimal("0.008"),
    "Public IPv4 hour": Decimal("0.005"),
}
"""US dollars a unit (a GB is a GB-month, or an ingested GB), us-east-1, read on 2026-11-23; hourly
prices on 2026-11-30, in copies of AWS's price list of 2026-09-19."""

SOURCES = {
    "DynamoDB": "https://aws.amazon.com/dynamodb/pricing/on-demand/",
    "Lambda": "https://aws.amazon.com/lambda/pricing/",
    "SQS": "https://aws.amazon.com/sqs/pricing/",
    "API Gateway": "https://aws.amazon.com/api-gateway/pricing/",
    "SES": "https://aws.amazon.com/ses/pricing/",
    "CloudWatch": "https://aws.amazon.com/cloudwatch/pricing/",
    "Secrets Manager": "https://aws.amazon.com/secrets-manager/pricing/",
    "KMS": "https://aws.amazon.com/kms/pricing/",
    "S3": "https://aws.amazon.com/s3/pricing/",
    "EventBridge": "https://aws.amazon.com/eventbridge/pricing/",
    "RDS": "https://aws.amazon.com/rds/postgresql/pricing/",
    "ElastiCache": "https://aws.amazon.com/elasticache/pricing/",
    "Fargate": "https://aws.amazon.com/fargate/pricing/",
    "Load balancer": "https://aws.amazon.com/elasticloadbalancing/pricing/",
    "Public IPv4": "https://aws.amazon.com/vpc/pricing/",
}

SWEEPS = 11
"""The run and its re-sweeps: `calendar.RESWEEP_AGES`."""

ENTRY_BYTES = 900
"""The most bytes of an ordinary entry with its keys and its place in the expiry index; a test
checks this."""

MARKER_BYTES = 300
"""The marker of an operation on request."""

HEAD_BYTES = 45
"""The most bytes of an anchor in a digest, compressed: most of its 105 characters are random digits
of 4 bits. A test checks this."""

RECORDS_A_BATCH = 3_000
"""How many entries the stream delivers at once under load: 6 MB."""

BATCH_WINDOWS = 4 * 30 * 24 * 12
"""The batches of a month with little load: one every 5 minutes, from a stream of four shards."""

DAYS_ANCHORED = 365
"""How many days of digests are kept: `AnchorDays`."""

POLLING_REQUESTS = 5 * 3 * 60 * 24 * 30
"""A month of long polls of an idle queue: Lambda keeps five under way, of 20 seconds each."""

HOURS = 30 * 24
"""The hours of a month: CloudWatch charges a metric for each hour in which it is written."""

CROSSINGS = Decimal("0.5")
"""How many crossings a user has in a month: a low balance every other month, and its end."""

IDLE_HOURS = {
    Metric.ALLOCATION_TICKS: HOURS,
    Metric.EXPIRY_TICKS: HOURS,
    # The audit of each day, and the two checks of completeness.
    Metric.LEDGERS_VERIFIED: 30,
    Metric.LEDGERS_CORRUPT: 30,
    Metric.DUE: 2,
    Metric.MISSING: 2,
    Metric.DUPLICATE: 2,
    Metric.TIMEZONE_UNKNOWN: 2,
}
"""For metrics that are written without traffic: in how many hours of a month."""


class Size(StrEnum):
    """The parameter `Size` of a stage."""

    FULL = "full"
    SMALL = "small"


ALARMS = {Size.FULL: 90, Size.SMALL: 28}
METRICS = {Size.FULL: tuple(Metric), Size.SMALL: tuple(map(Metric, metrics_of_small()))}
DASHBOARDS = {Size.FULL: 1, Size.SMALL: 0}


@dataclass(frozen=True)
class Scenario:
    """How a product uses Credits: numbers for each user and month, unless stated otherwise."""

    users: int = 1_000_000
    expiring: Decimal = Decimal("0.3")
    """The share of users whose plan's credits expire."""
    usages: Decimal = Decimal(4)
    reads: Decimal = Decimal(4)
    """Schedules, balances and pages of history."""
    mails: Decimal = Decimal("1.5")
    """Emails: the allocation and, for users whose credits expire, a reminder or an expiration."""
    months_kept: int = 12
    """The age of the ledgers: they only grow."""
    queues: int = 5
    size: Size = Size.FULL
    events: bool = False
    """Whether every entry is published on the bus."""


@dataclass(frozen=True)
class Line:
    """One line of the bill: a quantity of something with a price."""

    what: str
    arithmetic: str
    quantity: Decimal
    price: str

    @property
    def dollars(self) -> Decimal:
        """Its cost a month."""
        return self.quantity * PRICES[self.price]


def lines(scenario: Scenario) -> Iterator[Line]:
    """The bill of a month."""
    users = Decimal(scenario.users)
    expiring, usages, reads = scenario.expiring, scenario.usages, scenario.reads
    mails, calls = scenario.mails, usages + reads
    entries = 1 + expiring + usages
    yield Line(
        "allocate: write",
        f"1 + {expiring} expiring × 1",
        users * (1 + expiring),
        "DynamoDB write unit",
    )
    yield Line(
        "allocate and re-sweep: read",
        f"{SWEEPS} sweeps × 1.5",
        users * SWEEPS * Decimal("1.5"),
        "DynamoDB read unit",
    )
    yield Line("expire: write", f"{expiring} × 1", users * expiring, "DynamoDB write unit")
    yield Line(
        "expire and re-sweep: read",
        f"{expiring} × {SWEEPS} sweeps × 1",
        users * expiring * SWEEPS,
        "DynamoDB read unit",
    )
    yield Line(
        "use: write",
        f"{usages} × 4",
        users * usages * 4,
        "DynamoDB write unit",
    )
    yield Line("use: read", f"{usages} × 1", users * usages, "DynamoDB read unit")
    yield Line("read by API", f"{reads} × 2", users * reads * 2, "DynamoDB read unit")
    yield Line("emails: records", f"{mails} × 2", users * mails * 2, "DynamoDB write unit")
    yield Line("emails: read", f"{mails} × 2", users * mails * 2, "DynamoDB read unit")
    # The subscription and the ledger of each user, and all items again to find unknown zones.
    yield Line(
        "completeness, twice",
        "2 × (0.5 + 1 + 0.05)",
        users * 2 * Decimal("1.55"),
        "DynamoDB read unit",
    )
    stored = (
        users * scenario.months_kept * (entries * ENTRY_BYTES + usages * MARKER_BYTES) / 1024**3
    )
    growth = (
        f"{scenario.months_kept} months × "
        f"({entries} × {ENTRY_BYTES} B + {usages} × {MARKER_BYTES} B)"
    )
    yield Line("ledger kept", growth, stored, "DynamoDB storage")
    yield Line("ledger's backup", "the same GB", stored, "DynamoDB point-in-time recovery")

    # A message has 100 users; ten messages are one request to send, receive and delete.
    swept = users * SWEEPS * (1 + expiring) / 1000
    told = users * mails / 10
    yield Line(
        "messages",
        f"3 × ({SWEEPS} sweeps × {1 + expiring} / 1,000 + {mails} emails / 10)",
        3 * (swept + told),
        "SQS request",
    )
    idle = Decimal(POLLING_REQUESTS * scenario.queues)
    yield Line(
        "polling",
        f"{scenario.queues} queues × {POLLING_REQUESTS:,}, with or without traffic",
        idle,
        "SQS request",
    )
    streamed = users * entries / 100
    batches = min(users * entries, BATCH_WINDOWS + users * entries / RECORDS_A_BATCH)
    invocations = users * calls * Decimal("1.5") + swept + told + streamed + batches
    yield Line(
        "invocations",
        f"{calls} × 1.5 with authorizer + sweeps + emails / 10 + entries / 100 + batches",
        invocations,
        "Lambda request",
    )
    yield Line(
        "duration of the API (estimate)",
        f"{calls} × (25 ms + half of them 10 ms) × 0.5 GB",
        users * calls * Decimal("0.030") * Decimal("0.5"),
        "Lambda GB-second",
    )
    yield Line(
        "duration of workers (estimate)",
        f"(10 ms + {SWEEPS - 1} × 3 ms) × {1 + expiring} × 1 GB",
        users * (Decimal("0.010") + (SWEEPS - 1) * Decimal("0.003")) * (1 + expiring),
        "Lambda GB-second",
    )
    yield Line(
        "duration of emails (estimate)",
        f"{mails} × 30 ms × 0.5 GB",
        users * mails * Decimal("0.030") * Decimal("0.5"),
        "Lambda GB-second",
    )
    yield Line(
        "anchors: written",
        f"{BATCH_WINDOWS:,} batches + entries / {RECORDS_A_BATCH:,} + 30 digests",
        batches + 30,
        "S3 write",
    )
    yield Line("anchors: read", "each batch + 2 × 30 digests", batches + 60, "S3 read")
    yield Line(
        "anchors kept",
        f"{DAYS_ANCHORED} digests × {HEAD_BYTES} B",
        users * DAYS_ANCHORED * HEAD_BYTES / 1024**3,
        "S3 storage",
    )
    yield Line(
        "duration of anchoring (estimate)",
        "batches × 100 ms × 0.5 GB + 30 × 2 × 10 µs × 1 GB",
        batches * Decimal("0.05") + users * 60 * Decimal("0.00001"),
        "Lambda GB-second",
    )
    yield Line("requests", f"{calls}", users * calls, "API Gateway request")
    yield Line("emails", f"{mails}", users * mails, "SES email")
    yield Line(
        "logs",
        "1 KB an invocation, 0.5 KB an API request",
        (invocations * 1024 + users * calls * 512) / 1024**3,
        "CloudWatch logs",
    )
    metrics, alarms = METRICS[scenario.size], ALARMS[scenario.size]
    hours = sum(HOURS if users else IDLE_HOURS.get(metric, 0) for metric in metrics)
    yield Line(
        "metrics",
        f"{len(metrics)}, for any number of users",
        Decimal(hours) / HOURS,
        "CloudWatch metric",
    )
    yield Line(
        "alarms",
        f"{alarms}, for any number of users",
        Decimal(alarms),
        "CloudWatch alarm metric",
    )
    dashboards = DASHBOARDS[scenario.size]
    yield Line("dashboard", f"{dashboards}", Decimal(dashboards), "CloudWatch dashboard")
    yield Line("unsubscribe key, Stripe's secret", "2", Decimal(2), "Secrets Manager secret")
    yield Line("key of the alarms' topic", "1", Decimal(1), "KMS key")
    if scenario.events:
        yield from lines_of_events(scenario)


def lines_of_events(scenario: Scenario) -> Iterator[Line]:
    """What the events of a month add to the bill: one for each entry, and those of crossings."""
    entries = 1 + scenario.expiring + scenario.usages
    each = entries + CROSSINGS
    events = scenario.users * each
    yield Line("events", f"{entries} entries + {CROSSINGS} crossings", events, "EventBridge event")
    # Ten are one request to send, receive and delete, and one invocation.
    yield Line("messages of events", f"3 × {each} / 10", events * 3 / 10, "SQS request")
    polls = Decimal(POLLING_REQUESTS)
    yield Line("polling for events", f"1 queue × {POLLING_REQUESTS:,}", polls, "SQS request")
    yield Line("invocations of events", f"{each} / 10", events / 10, "Lambda request")
    yield Line(
        "duration of events (estimate)",
        f"{each} / 10 × 50 ms × 0.5 GB",
        events / 10 * Decimal("0.050") * Decimal("0.5"),
        "Lambda GB-second",
    )
    logged = events / 10 * 1024 / 1024**3
    yield Line("logs of events", "1 KB an invocation", logged, "CloudWatch logs")


def markdown_of_events(scenario: Scenario) -> str:
    """What events add, as docs/cost.md shows it."""
    return _table(list(lines_of_events(scenario)))


def markdown(scenario: Scenario) -> str:
    """The bill as docs/cost.md shows it."""
    return _table(list(lines(scenario)))


def _table(bill: Sequence[Line]) -> str:
    rows = [
        "| what | a user and month | quantity | unit | price of a unit | dollars a month |",
        "|---|---|--:|---|--:|--:|",
        *(
            f"| {line.what} | {line.arithmetic} | {_quantity(line.quantity)} | {line.price} "
            f"| {_price(PRICES[line.price])} | {line.dollars:,.2f} |"
            for line in bill
        ),
        f"| **together** | | | | | **{sum(line.dollars for line in bill):,.2f}** |",
    ]
    return "\n".join(rows)


def sizes(scenario: Scenario) -> Iterator[tuple[str, Decimal, Decimal]]:
    """The differences between the two sizes, and whole bills: without traffic, then in a scenario.

    Each with the dollars of the full and the small stage.
    """
    idle = replace(scenario, users=0)
    for line, other in zip(*(lines(replace(idle, size=size)) for size in Size), strict=True):
        if round(line.dollars, 2) or round(other.dollars, 2):
            yield line.what, line.dollars, other.dollars
    for what, asked in (("together, without users", idle), (_users(scenario), scenario)):
        full, small = (_total(replace(asked, size=size)) for size in Size)
        yield what, full, small


def _users(scenario: Scenario) -> str:
    return f"together, with {scenario.users:,} users"


def _total(scenario: Scenario) -> Decimal:
    return sum((line.dollars for line in lines(scenario)), Decimal(0))


def markdown_of_sizes(scenario: Scenario) -> str:
    """Both sizes side by side, as docs/cost.md shows them."""
    rows = ["| dollars a month | `full` | `small` |", "|---|--:|--:|"]
    for what, full, small in sizes(scenario):
        cells = (what, f"{full:,.2f}", f"{small:,.2f}")
        is_total = what.startswith("together")
        rows.append(f"| {' | '.join(f'**{cell}**' if is_total else cell for cell in cells)} |")
    return "\n".join(rows)


def by_service(scenario: Scenario) -> dict[str, Decimal]:
    """Dollars a month of each service, the greatest first."""
    totals = dict.fromkeys(SOURCES, Decimal(0))
    for line in lines(scenario):
        totals[next(name for name in SOURCES if line.price.startswith(name))] += line.dollars
    found = {name: dollars for name, dollars in totals.items() if dollars}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _quantity(quantity: Decimal) -> str:
    return f"{quantity:,.0f}" if quantity >= 100 else f"{quantity:,.1f}"


def _price(price: Decimal) -> str:
    return f"{price * MILLION:g} / million" if price < Decimal("0.001") else f"{price:g}"


def _scenario(options: Mapping[str, Any]) -> Scenario:
    """The scenario with the given options; the rest is the default."""
    return Scenario(**{name: value for name, value in options.items() if value is not None})


def _beside(
    parser: argparse.ArgumentParser,
    options: Mapping[str, Any],
    *,
    as_json: bool,
    as_markdown: bool,
) -> int:
    """Prints the bills of the rivals, too."""
    from bench import bills  # it needs the definitions above

    for name in ("users", "size", "events"):
        if options[name]:
            parser.error(
                f"argument --{name}: leave it out with --rival, which shows a thousand to ten "
                "million users, both sizes of a stage, and no events"
            )
    scenario = _scenario(options)
    if as_json:
        print(json.dumps(bills.side_by_side(scenario), default=str))
    elif as_markdown:
        tables = (bills.markdown_of_sides(scenario), bills.markdown_of_machines(scenario))
        print(*tables, bills.markdown_of_prices(), sep="\n\n")
    else:
        bills.show(scenario, Console(width=140))
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Reads the command line and prints the bill; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.cost",
        description="Prints what a month of Credits costs on AWS, in dollars.",
    )
    usual = Scenario()
    parser.add_argument("--users", type=whole_number(), help="default 1,000,000")
    parser.add_argument(
        "--expiring", type=number(most=1), default=usual.expiring, help="share on an expiring plan"
    )
    parser.add_argument(
        "--usages", type=number(), default=usual.usages, help="a user and month (default 4)"
    )
    parser.add_argument(
        "--reads", type=number(), default=usual.reads, help="a user and month (default 4)"
    )
    parser.add_argument(
        "--mails", type=number(), default=usual.mails, help="a user and month (default 1.5)"
    )
    parser.add_argument(
        "--months-kept",
        type=whole_number(most=1_200),
        default=usual.months_kept,
        help="age of the ledgers (default 12)",
    )
    parser.add_argument("--size", type=Size, choices=list(Size), help="of the stage (default full)")
    parser.add_argument("--events", action="store_true", help="of a stage that sends events")
    parser.add_argument(
        "--rival",
        action="store_true",
        help="the usual design and Celery beside it, for a thousand to ten million users",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--markdown", action="store_true", help="print the tables of docs/cost.md")
    options = vars(parser.parse_args(words))
    as_json, as_markdown = options.pop("json"), options.pop("markdown")
    if options.pop("rival"):
        return _beside(parser, options, as_json=as_json, as_markdown=as_markdown)
    scenario = _scenario(options)
    bill = list(lines(scenario))
    if as_json:
        print(json.dumps([asdict(line) | {"dollars": line.dollars} for line in bill], default=str))
        return 0
    if as_markdown:
        tables = (markdown, markdown_of_sizes, markdown_of_events)
        print(*(table(scenario) for table in tables), sep="\n\n")
        return 0
    table = Table(title=f"A month of {scenario.users:,} users, in dollars", show_footer=True)
    together = sum(line.dollars for line in bill)
    table.add_column("what", "together")
    table.add_column("a user and month")
    table.add_column("quantity", justify="right")
    table.add_column("unit")
    table.add_column("dollars", f"{together:,.2f}", justify="right")
    for line in bill:
        table.add_row(
            line.what, line.arithmetic, _quantity(line.quantity), line.price, f"{line.dollars:,.2f}"
        )
    console = Console()
    console.print(table)
    for service, dollars in by_service(scenario).items():
        console.print(f"{service:<16} {dollars:>10,.2f}", highlight=False)
    beside = Table("a stage of the size", title="Both sizes, in dollars a month")
    for size in Size:
        beside.add_column(size.value, justify="right")
    for what, full, small in sizes(scenario):
        beside.add_row(what, f"{full:,.2f}", f"{small:,.2f}")
    console.print(beside)
    return 0


if __name__ == "__main__":
    sys.exit(main())
