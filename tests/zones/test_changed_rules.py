"""A country changes its clocks, and a new tzdata moves midnights that have been acted on.

What was granted is not granted again, what was not is, and credits die when it was promised and are
booked out. A zone lives by rules that are made here, and these are changed under the product.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from io import BytesIO
from unittest.mock import patch
from zoneinfo import ZoneInfo

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period, month_start
from chalicelib.domain.entries import EntryType, LedgerEntry
from tests.simulation.world import SUBSCRIBED, World, at, simulated

ZONE = "Europe/Paris"
HOUR = timedelta(hours=1)
BEFORE = 1
"""Hours east of Greenwich, until the rules are changed."""

FEBRUARY, MARCH = Period(2026, 2), Period(2026, 3)
STARTED = at("2026-01-31T23:00:00Z")
"""When February begins by the old rules."""

ADMIN = {"caller": "ada", "user_id": "", "scopes": "credits:admin credits:backend"}

MOVES = [
    pytest.param(0, id="an hour later"),
    pytest.param(2, id="an hour earlier"),
    pytest.param(-11, id="half a day later, back into January"),
    pytest.param(13, id="half a day earlier"),
    pytest.param(-23, id="a day later, over the date line"),
    pytest.param(23, id="nearly a day earlier, over the date line"),
]


def zone_with(offset: int, since: datetime | None = None, before: int = BEFORE) -> ZoneInfo:
    """A zone at ``before`` hours, and at ``offset`` hours from an instant on (None: ever since)."""
    moments = [] if since is None else [int(since.timestamp())]
    offsets = [offset] if since is None else [before, offset]
    header = b"TZif" + bytes(16) + struct.pack(">6l", 0, 0, 0, len(moments), len(offsets), 4)
    body = b"".join(struct.pack(">l", moment) for moment in moments)
    body += bytes([1] * len(moments))
    body += b"".join(struct.pack(">lBB", hours * 3600, 0, 0) for hours in offsets)
    return ZoneInfo.from_file(BytesIO(header + body + b"XXX\0"), key=ZONE)


@contextmanager
def living_by(rules: ZoneInfo) -> Iterator[None]:
    """Within the block these are the rules of the zone, as after a deployment with new data."""
    load = calendar._load

    def loaded(name: str) -> ZoneInfo | None:
        return rules if name == ZONE else load(name)

    with patch.object(calendar, "_load", loaded):
        calendar.midnight.cache_clear()
        calendar.period_at.cache_clear()
        try:
            yield
        finally:
            calendar.midnight.cache_clear()
            calendar.period_at.cache_clear()


@pytest.fixture
def world() -> Iterator[World]:
    with simulated():
        world = World()
        with living_by(zone_with(BEFORE)), world.running():
            values = {**SUBSCRIBED, "timezone": ZONE}
            world.call("PUT", "/api/subscriptions/1", ADMIN, values)
            yield world


def tick_through(world: World, last: datetime) -> None:
    """After the present until ``last``: both ticks and all they start.

    The zone is whole hours from Greenwich, so nothing is due at half past and at a quarter to.
    """
    while world.now < last:
        world.now = calendar.tick_at(world.now + calendar.TICK)
        if world.now.minute > 15:
            continue
        for kind in ("expiry", "allocation"):
            world.tick(kind, world.now, [ZONE])
        world.drain()


def entries(world: World, kind: EntryType) -> list[LedgerEntry]:
    """The entries of a type, oldest first; the ledger must verify."""
    world.services.ledger.verify("1")
    history = world.services.ledger.history("1")
    return [entry for entry in reversed(history) if entry.type is kind]


def periods(world: World) -> list[Period | None]:
    return [entry.allocated_through for entry in entries(world, EntryType.ALLOCATION)]


@pytest.mark.parametrize("offset", MOVES)
@pytest.mark.parametrize("hours", [0, 26], ids=["at once", "a day after"])
def test_a_month_that_was_allocated_is_not_allocated_again_when_its_start_moves(
    world: World, offset: int, hours: int
) -> None:
    world.now = STARTED - HOUR
    tick_through(world, STARTED + hours * HOUR)
    assert periods(world) == [FEBRUARY]
    with living_by(zone_with(offset)):
        assert month_start(ZONE, FEBRUARY) == STARTED + (BEFORE - offset) * HOUR
        tick_through(world, STARTED + timedelta(days=10))
        assert periods(world) == [FEBRUARY]
        start = month_start(ZONE, MARCH)
        world.now = start - HOUR
        tick_through(world, start)
        assert periods(world) == [FEBRUARY, MARCH]
        assert entries(world, EntryType.ALLOCATION)[-1].posted_at == start


@pytest.mark.parametrize("offset", MOVES)
def test_a_month_is_allocated_once_when_its_start_moves_before_it_was(
    world: World, offset: int
) -> None:
    """Also where the new start is over already: the re-sweeps make it good."""
    world.now = STARTED - HOUR
    with living_by(zone_with(offset)):
        moved = month_start(ZONE, FEBRUARY)
        tick_through(world, max(moved, STARTED) + timedelta(days=2))
        assert periods(world) == [FEBRUARY]
        (entry,) = entries(world, EntryType.ALLOCATION)
        assert entry.effective_at == moved
        assert moved <= entry.posted_at
        assert entry.posted_at - max(moved, STARTED) <= timedelta(days=1)


@pytest.mark.parametrize("offset", MOVES)
def test_ticks_of_the_past_that_are_replayed_by_the_new_rules_grant_nothing(
    world: World, offset: int
) -> None:
    world.now = STARTED - HOUR
    tick_through(world, STARTED + timedelta(days=2))
    with living_by(zone_with(offset)):
        for hours in range(-26, 48):
            world.tick("allocation", STARTED + hours * HOUR, [ZONE])
        world.drain()
    assert periods(world) == [FEBRUARY]


@pytest.mark.parametrize("offset", MOVES)
@pytest.mark.parametrize("days", [3, 29], ids=["long before", "the day before"])
def test_credits_die_when_it_was_promised_and_are_booked_out_once_though_midnights_moved(
    world: World, offset: int, days: int
) -> None:
    world.now = STARTED - HOUR
    tick_through(world, STARTED)
    (batch,) = world.services.ledger.account("1").batches
    end = batch.expires_at
    assert end == STARTED + timedelta(days=30)
    world.now = STARTED + timedelta(days=days)
    # The clocks are changed for good, as from some instant: the past stays as it was.
    with living_by(zone_with(offset, since=STARTED + timedelta(days=days, hours=2))):
        account = world.services.ledger.account("1")
        assert account.batches[0].expires_at == end
        assert account.available_balance(end - timedelta(milliseconds=1)) == batch.granted
        assert account.available_balance(end) == 0
        world.now = end - timedelta(days=2)
        tick_through(world, end + timedelta(days=3))
        (expired,) = entries(world, EntryType.EXPIRATION)
        assert expired.amount == -batch.granted
        assert expired.effective_at == end
        assert timedelta(0) <= expired.posted_at - end <= timedelta(days=1)


def test_a_day_that_is_skipped_neither_repeats_nor_loses_a_month(world: World) -> None:
    """As in Samoa at the end of 2011: the 28th of February begins, and is the 1st of March."""
    skip = at("2026-02-28T11:00:00Z")
    with living_by(zone_with(13, since=skip, before=-11)):
        assert month_start(ZONE, MARCH) == skip
        world.now = month_start(ZONE, FEBRUARY) - HOUR
        tick_through(world, month_start(ZONE, FEBRUARY))
        world.now = skip - HOUR
        tick_through(world, skip + timedelta(days=9))
        assert periods(world) == [FEBRUARY, MARCH]
