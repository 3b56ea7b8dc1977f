"""Ten million users in one zone: no chain of invocations is long, and nobody is read twice.

The real functions page an index that is made up as they go, on a clock that goes by what
`bench.capacity` takes each page for. Lambda runs as many of them at a time as are deployed.
"""

import heapq
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

from bench.capacity import Setting
from chalicelib.domain import ranges
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.ranges import MOST_HOPS, PLACES, Range
from chalicelib.jobs import completeness, sweeps
from chalicelib.messages import Sweep, SweepKind, ZoneCheck
from chalicelib.store.ledger import EXPIRY_SHARDS, ExpiringPage
from chalicelib.store.subscriptions import UsersPage

MILLIONS = 10_000_000
MIDNIGHT = datetime(2026, 1, 31, 23, tzinfo=UTC)
LAMBDA_SECONDS = 60.0
LOOP_IS_CUT_AT = 16
READERS = Setting().concurrency

PAGE_SECONDS = Setting().page_ms / 1000 + Setting().sweep_cpu_ms / (512 / 1769)
"""A page of 1,000 users, as it is deployed: its query, its CPU, and a request to SQS."""

SEND_SECONDS = 0.014
"""Ten messages: of the reminders, that is what takes the time."""

COUNT_SECONDS = 100 / 260
"""A page of 100 users of the count, each of whom has a query."""


@dataclass
class Cloud:
    """A zone, the queues it fills, and how long each call takes."""

    users: int
    seconds: float = 0.0
    """What the invocation that runs has taken."""
    slowness: float = 1.0
    sent: list[str] = field(default_factory=list)
    reports: dict[str, str] = field(default_factory=dict)
    spans: list[tuple[int, int]] = field(default_factory=list)
    """From which user to which a page was read."""
    handed_on: int = 0

    def take(self, seconds: float) -> None:
        self.seconds += seconds * self.slowness

    def get_remaining_time_in_millis(self) -> int:
        return int((LAMBDA_SECONDS - self.seconds) * 1000)

    def users_of(self, _zone: str, after: str | None, limit: int, range_: Range) -> UsersPage:
        """User n of the zone has the place n / users; of a page only the last one has a name."""
        self.take(PAGE_SECONDS * limit / 1000)
        first, end = (-(-place * self.users // PLACES) for place in (range_.first, range_.last + 1))
        start = max(first, int(after) + 1 if after else 0)
        stop = min(start + limit, end)
        self.spans.append((start, stop))
        last = str(stop - 1)
        return UsersPage([last] * (stop - start), last if stop < end else None)

    def send(self, bodies: Iterable[str]) -> int:
        before = len(self.sent)
        self.sent += bodies
        sent = len(self.sent) - before
        self.take(-(-sent // 10) * SEND_SECONDS)
        return sent

    def hand_on(self, bodies: Iterable[str]) -> int:
        sent = sum(1 for _ in bodies)
        self.handed_on += sent
        self.take(-(-sent // 10) * SEND_SECONDS)
        return sent

    def keys(self, prefix: str) -> list[str]:
        self.take(0.05)
        return [key for key in self.reports if key.startswith(prefix)]

    def put(self, key: str, text: str, _kind: str = "") -> None:
        self.take(0.05)
        self.reports[key] = text

    def get(self, key: str) -> str:
        self.take(0.05 / 8)
        return self.reports[key]

    @property
    def services(self) -> Any:
        queues = SimpleNamespace(
            send_sweeps=self.send,
            send_checks=self.send,
            send_notifications=self.hand_on,
            send_allocations=lambda bodies: sum(1 for _ in bodies),
        )
        return SimpleNamespace(
            subscriptions=self,
            queues=queues,
            reports=self,
            settings=SimpleNamespace(expiring_soon_days=3),
            threads=1,
        )


@dataclass(frozen=True)
class Course:
    """How a chain went."""

    hops: int
    invocations: int
    longest: float
    over_after: float
    """Seconds, with so many readers as are deployed."""


def run(cloud: Cloud, handle: Callable[[Any, Any, Any], Any], body: str) -> Course:
    """Delivers a message, and those it leads to, each to a function that is free."""
    waiting = [(0.0, 1, body)]
    free = [0.0] * READERS
    hops = invocations = 0
    longest = over_after = 0.0
    while waiting:
        ready, hop, body = heapq.heappop(waiting)
        cloud.seconds, cloud.sent = 0.0, []
        event = {"Records": [{"messageId": "m", "body": body}]}
        assert handle(cloud.services, event, cloud) == {"batchItemFailures": []}
        end = max(ready, heapq.heappop(free)) + cloud.seconds
        heapq.heappush(free, end)
        for sent in cloud.sent:
            heapq.heappush(waiting, (end, hop + 1, sent))
        hops, invocations = max(hops, hop), invocations + 1
        longest, over_after = max(longest, cloud.seconds), max(over_after, end)
    return Course(hops, invocations, longest, over_after)


def gone_through(cloud: Cloud) -> None:
    """Every user was in a page, and in one."""
    reached = 0
    for start, stop in sorted(set(cloud.spans)):
        assert start <= reached
        reached = max(reached, stop)
    assert reached == cloud.users


@pytest.fixture(autouse=True)
def _places_are_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def place_of(user_id: str) -> int:
        return int(user_id) * PLACES // MILLIONS

    for module in (ranges, sweeps):
        monkeypatch.setattr(module, "place_of", place_of)


SWEEP = Sweep(SweepKind.ALLOCATION, "Asia/Shanghai", MIDNIGHT, MIDNIGHT, MIDNIGHT)


def test_an_invocation_has_time_for_a_range_of_each_kind() -> None:
    seconds = {
        "allocation": sweeps.USERS_A_RANGE[SweepKind.ALLOCATION] * PAGE_SECONDS / 1000,
        "expiry": sweeps.USERS_A_RANGE[SweepKind.EXPIRY] * PAGE_SECONDS / 1000,
        "reminder": sweeps.USERS_A_RANGE[SweepKind.REMINDER] * SEND_SECONDS / 10,
        "count": completeness.USERS_A_RANGE * COUNT_SECONDS / 100,
        # A page of a scan is a megabyte: some 2,500 users, at a third of a second.
        "strangers": MILLIONS / 2**completeness.SEGMENT_BITS / 2500 / 3,
    }
    has = LAMBDA_SECONDS - sweeps.TIME_TO_HAND_OVER / 1000
    assert {what for what, takes in seconds.items() if takes > has / 2} == set()


def test_ten_million_users_of_a_zone_are_handed_on_within_a_minute_in_two_hops() -> None:
    cloud = Cloud(MILLIONS)
    course = run(cloud, sweeps.sweep_zones, SWEEP.body())
    gone_through(cloud)
    assert course.hops == 2
    assert course.invocations == 1 + 256
    assert course.longest < 10
    assert course.over_after < 60
    # One page is read twice: what the zone's own invocation had begun of its first range.
    assert sum(stop - start for start, stop in cloud.spans) <= MILLIONS + 1000


def test_a_zone_that_one_invocation_is_enough_for_is_swept_by_one() -> None:
    cloud = Cloud(MILLIONS)
    course = run(cloud, sweeps.sweep_zones, replace(SWEEP, range=Range("0" * 8)).body())
    assert (course.hops, course.invocations, cloud.sent) == (1, 1, [])


@pytest.mark.parametrize("slowness", [20.0, 200.0])
def test_however_slow_the_index_is_no_chain_is_longer_than_five(slowness: float) -> None:
    """A page of a thousand users takes half a minute at last, and no range is too narrow for it."""
    cloud = Cloud(MILLIONS // 10, slowness=slowness)
    course = run(cloud, sweeps.sweep_zones, SWEEP.body())
    gone_through(cloud)
    assert course.hops <= MOST_HOPS < LOOP_IS_CUT_AT


def test_ten_million_users_of_a_zone_are_counted_in_two_hops_and_add_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cloud = Cloud(MILLIONS)

    def tallies(_services: Any, _period: Period, user_ids: list[str]) -> list[Tally]:
        cloud.take(COUNT_SECONDS * len(user_ids) / 100)
        return [Tally(len(user_ids), len(user_ids))]

    monkeypatch.setattr(completeness, "_tallies", tallies)
    check = ZoneCheck("run", Period(2026, 2), "Asia/Shanghai", 1)
    course = run(cloud, completeness.check_zones, check.body())
    gone_through(cloud)
    assert course.hops == 2
    assert course.longest < LAMBDA_SECONDS - sweeps.TIME_TO_HAND_OVER / 1000
    (summary,) = [text for key, text in cloud.reports.items() if key.endswith("summary.json")]
    assert json.loads(summary)["due"] == json.loads(summary)["allocated"] == MILLIONS


def test_the_reminders_of_ten_million_users_whose_credits_end_at_one_midnight_take_few_hops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the shards of the expiry index one is gone through: the others are as large."""
    of_shard = MILLIONS // EXPIRY_SHARDS
    cloud = Cloud(of_shard)
    end = datetime(2026, 2, 3, 23, tzinfo=UTC)

    @cache
    def place_of(user_id: str) -> int:
        return int(user_id) * 2_654_435_761 % PLACES  # spreads them evenly

    for module in (ranges, sweeps):
        monkeypatch.setattr(module, "place_of", place_of)

    def expiring(
        _zone: str, shard: int, _after: Any, _until: Any, key: str | None, limit: int
    ) -> ExpiringPage:
        cloud.take(PAGE_SECONDS * limit / 1000)
        if shard:
            return ExpiringPage([], None, [])
        start = int(key) + 1 if key else 0
        stop = min(start + limit, of_shard)
        last = str(stop - 1) if stop < of_shard else None
        return ExpiringPage([str(n) for n in range(start, stop)], last, [end] * (stop - start))

    monkeypatch.setattr(Cloud, "services", property(with_index(cloud.services, expiring)))
    course = run(cloud, sweeps.sweep_zones, replace(SWEEP, kind=SweepKind.REMINDER).body())
    assert of_shard <= cloud.handed_on < 1.01 * of_shard
    assert course.hops <= 4 < MOST_HOPS
    assert course.longest < LAMBDA_SECONDS


def with_index(services: Any, expiring: Callable[..., ExpiringPage]) -> Callable[[Any], Any]:
    services.ledger = SimpleNamespace(expiring=expiring)
    return lambda _: services
