"""Ten million users in one zone: how long chains of invocations get, and how soon they end.

    python -m bench.very_many

The deployed functions page an index that is made up on the way. A simulated clock adds the time of
each page (`bench.capacity`). As many functions run at a time as are deployed.
"""

from __future__ import annotations

import heapq
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.table import Table

from bench.capacity import Setting
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.ranges import PLACES, Range
from chalicelib.jobs import completeness, sweeps
from chalicelib.messages.checks import ZoneCheck
from chalicelib.messages.work import Sweep, SweepKind
from chalicelib.store.ledger_items import EXPIRY_SHARDS
from chalicelib.store.ledger_reading import ExpiringPage
from chalicelib.store.subscriptions import SubscriptionStore, UsersPage

MILLIONS = 10_000_000
MIDNIGHT = datetime(2026, 1, 31, 23, tzinfo=UTC)
LAMBDA_SECONDS = 60.0
READERS = Setting().sweep_concurrency

PAGE_SECONDS = Setting().page_ms / 1000 + Setting().sweep_cpu_ms / (512 / 1769)
"""A page of 1,000 users, as it is deployed: its query, its CPU, and a request to SQS."""

READ_SECONDS = 0.04
"""A page of 1,000 expiries, few of which are sent on: only its query."""

SEND_SECONDS = 0.014
"""Ten messages: they take most of the time of reminders."""

COUNT_SECONDS = 100 / 260
"""A page of 100 users of the count: a query for each."""


@dataclass
class Cloud:
    """A zone, the queues it fills, and how long each call takes."""

    users: int
    seconds: float = 0.0
    """The time that the running invocation has used."""
    slowness: float = 1.0
    sent: list[str] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)
    index: Any = None
    """The expiry index."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """The first and the last user of each page that was read."""
    handed_on: int = 0

    def take(self, seconds: float) -> None:
        """Adds the time of a call."""
        self.seconds += seconds * self.slowness

    def get_remaining_time_in_millis(self) -> int:
        """Lambda's context for the running function."""
        return int((LAMBDA_SECONDS - self.seconds) * 1000)

    def users_of(
        self, _zone: str, after: str | None, limit: int, range_: Range, _day: int | None = None
    ) -> UsersPage:
        """User n of the zone has the place n / users; only the last user of a page gets a name."""
        self.take(PAGE_SECONDS * limit / 1000)
        first, end = (-(-place * self.users // PLACES) for place in (range_.first, range_.last + 1))
        start = max(first, int(after) + 1 if after else 0)
        stop = min(start + limit, end)
        self.spans.append((start, stop))
        last = str(stop - 1)
        return UsersPage([last] * (stop - start), last if stop < end else None)

    pages_of = SubscriptionStore.pages_of

    def send(self, bodies: Iterable[str]) -> int:
        """Sends to the queue that the function reads."""
        before = len(self.sent)
        self.sent += bodies
        sent = len(self.sent) - before
        self.take(-(-sent // 10) * SEND_SECONDS)
        return sent

    def hand_on(self, bodies: Iterable[str]) -> int:
        """Sends reminders."""
        sent = sum(1 for _ in bodies)
        self.handed_on += sent
        self.take(-(-sent // 10) * SEND_SECONDS)
        return sent

    def keys(self, prefix: str) -> list[str]:
        """The keys of the reports."""
        self.take(0.05)
        return [key for key in self.reports if key.startswith(prefix)]

    def put(self, key: str, text: str, _kind: str = "") -> None:
        """Writes a report."""
        self.take(0.05)
        self.reports[key] = text

    def get(self, key: str) -> str:
        """A report."""
        self.take(0.05 / 8)
        return self.reports[key]

    @property
    def services(self) -> Any:
        """The services of the functions."""
        queues = SimpleNamespace(
            send_sweeps=self.send,
            send_checks=self.send,
            send_notifications=self.hand_on,
            send_allocations=lambda bodies: sum(1 for _ in bodies),
        )
        return SimpleNamespace(
            subscriptions=self,
            ledger=self.index,
            queues=queues,
            reports=self,
            now=lambda: MIDNIGHT,
            settings=SimpleNamespace(
                expiring_soon_days=3,
                sweeps_queue_url="sweeps",
                checks_queue_url="checks",
                is_quiet=lambda _at: False,
            ),
            threads=1,
        )


@dataclass(frozen=True)
class Course:
    """The result of a chain."""

    hops: int
    invocations: int
    longest: float
    over_after: float
    """Seconds, with the deployed number of readers."""


def run(cloud: Cloud, handle: Callable[[Any, Any, Any], Any], body: str) -> Course:
    """Delivers a message and all messages that it leads to, each to a free function."""
    waiting = [(0.0, 1, body)]
    free = [0.0] * READERS
    hops = invocations = 0
    longest = over_after = 0.0
    while waiting:
        ready, hop, body = heapq.heappop(waiting)
        cloud.seconds, cloud.sent = 0.0, []
        record = {"messageId": "m", "receiptHandle": "r", "body": body}
        attributes = {"ApproximateReceiveCount": "1"}
        event = {"Records": [{**record, "attributes": attributes}]}
        if handle(cloud.services, event, cloud) != {"batchItemFailures": []}:
            raise RuntimeError(f"it failed with {body}")
        end = max(ready, heapq.heappop(free)) + cloud.seconds
        heapq.heappush(free, end)
        for sent in cloud.sent:
            heapq.heappush(waiting, (end, hop + 1, sent))
        hops, invocations = max(hops, hop), invocations + 1
        longest, over_after = max(longest, cloud.seconds), max(over_after, end)
    return Course(hops, invocations, longest, over_after)


SWEEP = Sweep(SweepKind.ALLOCATION, "Asia/Shanghai", MIDNIGHT, MIDNIGHT, MIDNIGHT)


@contextmanager
def placed(place_of: Callable[[str], int]) -> Iterator[None]:
    """Gives users these places within the block."""
    with ExitStack() as stack:
        for module in ("domain.ranges", "jobs.sweeps"):
            stack.enter_context(patch(f"chalicelib.{module}.place_of", place_of))
        yield


def swept(cloud: Cloud, sweep: Sweep = SWEEP) -> Course:
    """The allocation sweep of a zone."""
    with placed(lambda user_id: int(user_id) * PLACES // cloud.users):
        return run(cloud, sweeps.sweep_zones, sweep.body())


def counted(cloud: Cloud) -> Course:
    """The monthly count of a zone in which everybody was allocated."""

    def tallies(_services: Any, _period: Period, user_ids: list[str]) -> list[Tally]:
        cloud.take(COUNT_SECONDS * len(user_ids) / 100)
        return [Tally(len(user_ids), len(user_ids))]

    check = ZoneCheck("run", Period(2026, 2), "Asia/Shanghai", 1)
    with (
        placed(lambda user_id: int(user_id) * PLACES // cloud.users),
        patch.object(completeness, "_tallies", tallies),
    ):
        return run(cloud, completeness.check_zones, check.body())


def reminded(cloud: Cloud) -> Course:
    """The reminders of credits that end at one midnight, in one shard of the zone's index.

    The other shards are as large. They are read side by side, so the result holds for all of them.
    """
    end = datetime(2026, 2, 3, 23, tzinfo=UTC)

    def expiring(
        _zone: str, shard: int, _after: Any, _until: Any, key: str | None, limit: int
    ) -> ExpiringPage:
        if shard:
            return ExpiringPage([], None, [])
        cloud.take(READ_SECONDS * limit / 1000)
        start = int(key) + 1 if key else 0
        stop = min(start + limit, cloud.users)
        last = str(stop - 1) if stop < cloud.users else None
        return ExpiringPage([str(n) for n in range(start, stop)], last, [end] * (stop - start))

    cloud.index = SimpleNamespace(expiring=expiring)
    # This factor spreads neighbours evenly.
    with placed(cache(lambda user_id: int(user_id) * 2_654_435_761 % PLACES)):
        return run(cloud, sweeps.sweep_zones, SWEEP._replace(kind=SweepKind.REMINDER).body())


def main() -> int:
    """Runs all three and prints the table; the exit status."""
    os.environ["POWERTOOLS_LOG_LEVEL"] = "ERROR"
    table = Table("ten million users", "chain", "invocations", "longest s", "over after s")
    for what, course in (
        ("allocation sweep", swept(Cloud(MILLIONS))),
        ("monthly count", counted(Cloud(MILLIONS))),
        ("reminders of a shard", reminded(Cloud(MILLIONS // EXPIRY_SHARDS))),
    ):
        table.add_row(
            what,
            str(course.hops),
            f"{course.invocations:,}",
            f"{course.longest:.0f}",
            f"{course.over_after:,.0f}",
        )
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
