"""The clock of the local stack: ahead of this machine's, and moved forward only.

    python -m infra.clock --to "next 1st" --zone Europe/Paris
    (make clock TO="next 1st" ZONE=Europe/Paris)

Whatever the stack does after that (balances, expiry, spending, countdowns) is as of the new time.
On its way the clock stops at each instant at which something is due, and the ticks of that instant
do it, as the schedule would have. Ticks at which nothing is due would change nothing: left out.
"""

from __future__ import annotations

import argparse
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.services import read_clock
from chalicelib.store.ledger import read_entry
from infra import local, stacks, ticks
from infra.importing import progress_bar

FARTHEST = timedelta(days=366)
"""How far the clock is moved at once: each month of it takes the better part of a minute."""

_ENTRIES_A_READ = 100
_MILLISECOND = timedelta(milliseconds=1)

_DAYS = re.compile(r"\+ ?([1-9][0-9]{0,2}) days?")


class Step(NamedTuple):
    """An instant at which something is due, and in which timezones."""

    at: datetime
    allocation: frozenset[str]
    expiry: frozenset[str]


Watch = Callable[[Step], None]


def parse_moment(text: object, now: datetime, timezone: str) -> datetime:
    """A moment to move to: `next midnight`, `next 1st`, `+30 days`, or an instant.

    Raises `InvalidInput` on ``to``, also for a moment that is past or too far away.
    """
    if text == "next midnight":
        moment = calendar.next_midnight(timezone, now)
    elif text == "next 1st":
        moment = calendar.month_start(timezone, calendar.period_at(timezone, now).next())
    elif isinstance(text, str) and (days := _DAYS.fullmatch(text)):
        moment = now + timedelta(days=int(days[1]))
    else:
        try:
            moment = parse_instant("to", text)
        except InvalidInput as error:
            raise InvalidInput.of(
                "to",
                "must be 'next midnight', 'next 1st', '+30 days' or written like "
                "2026-07-01T04:00:00Z",
            ) from error
    if moment <= now:
        raise InvalidInput.of(
            "to", f"must be after {format_instant(now)}: the clock moves forward only"
        )
    if moment - now > FARTHEST:
        raise InvalidInput.of("to", f"must be at most {FARTHEST.days} days ahead; go step by step")
    return moment


class LocalClock:
    """The clock of one local stack."""

    def __init__(self, stack: local.LocalStack) -> None:
        self._services = stacks.services_of_local(stack)
        self._ticks = ticks.Ticks(stack)
        self._stack = stack
        self._file = Path(stack.clock_file)
        self._moving = threading.Lock()
        self._expiring: dict[datetime, set[str]] = {}
        # What was due before is done: by `make run`, or by the stack's own schedule.
        self._done_through = self.now()

    def now(self) -> datetime:
        """The present instant of the stack."""
        return self._services.now()

    def is_tick_due(self) -> bool:
        """Whether a quarter of an hour has begun since, at which the schedule would have ticked."""
        return calendar.tick_at(self.now()) > calendar.tick_at(self._done_through)

    def set(self, instant: datetime) -> None:
        """Moves the clock and does nothing of what is due on the way. Never moves it back."""
        ahead = (instant - read_clock()).total_seconds()
        if ahead > float(self._file.read_text()):
            new = self._file.with_suffix(".new")
            new.write_text(str(ahead))
            new.replace(self._file)  # whoever reads it meanwhile reads the old one or the new one
        self._done_through = max(self._done_through, instant)

    def move(self, to: datetime, watch: Watch | None = None) -> None:
        """Moves the clock, by way of everything that is due; ``watch`` is told each step done.

        Raises `TickFailedError`; the clock then stands where that happened.
        """
        with self._moving:
            zones = self._read_users(self.user_ids())
            while step := self._next_step(zones, to):
                self.set(step.at)
                for function, of_step in (
                    ("expiry-tick", step.expiry),
                    ("allocation-tick", step.allocation),
                ):
                    if of_step:
                        self._ticks.run(function, step.at, of_step)
                # What has just been granted can expire before the end of the way.
                self._read_users({user for zone in step.allocation for user in zones[zone]})
                if watch:
                    watch(step)
            self.set(to)

    def user_ids(self) -> list[str]:
        """Every user of the stack."""
        pages = self._stack.client("dynamodb").get_paginator("scan")
        return [
            item["user_id"]["S"]
            for page in pages.paginate(
                TableName=self._stack.tables["subscriptions"], ProjectionExpression="user_id"
            )
            for item in page["Items"]
        ]

    def _next_step(self, zones: Iterable[str], to: datetime) -> Step | None:
        """The first instant after what is done, and until ``to``, at which something is due."""
        months: dict[datetime, set[str]] = defaultdict(set)
        for zone in zones:
            period = calendar.period_at(zone, self._done_through).next()
            months[calendar.month_start(zone, period)].add(zone)
        due = [at for at in (*months, *self._expiring) if self._done_through < at <= to]
        if not due:
            return None
        at = min(due)
        return Step(at, frozenset(months.get(at, ())), frozenset(self._expiring.get(at, ())))

    def _read_users(self, user_ids: Iterable[str]) -> dict[str, list[str]]:
        """The zones of those who can be given credits, and in them who; notes what expires when.

        A batch is booked out by the sweep of the zone that it was granted in.
        """
        services = self._services
        subscriptions = services.subscriptions.get_many(user_ids)
        with ThreadPoolExecutor(stacks.THREADS) as pool:
            accounts = list(pool.map(services.ledger.account, subscriptions))
        grants = [
            (account.user_id, batch.number)
            for account in accounts
            for batch in account.batches
            if batch.expires_at and batch.expires_at > self._done_through
        ]
        ahead = timedelta(days=services.settings.expiring_soon_days)
        for start in range(0, len(grants), _ENTRIES_A_READ):
            for item in services.ledger.entries(grants[start : start + _ENTRIES_A_READ]).values():
                grant = read_entry(item)
                batch, zone = grant.granted_batch, grant.expiry_timezone
                if batch and batch.expires_at and zone:
                    # Batches of another system need not end at a midnight.
                    end = calendar.next_midnight(zone, batch.expires_at - _MILLISECOND)
                    reminder = calendar.midnight(zone, calendar.local_date(zone, end) - ahead)
                    self._expiring.setdefault(end, set()).add(zone)
                    self._expiring.setdefault(reminder, set()).add(zone)
        zones: dict[str, list[str]] = defaultdict(list)
        for subscription in subscriptions.values():
            if subscription.can_receive:
                zones[subscription.timezone].append(subscription.user_id)
        return zones


# --- The command ----------------------------------------------------------------------------------


def main(words: list[str] | None = None) -> int:
    """Moves the clock of the running local stack; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m infra clock",
        description="Shows the clock of the running local stack, or moves it forward.",
        epilog='make clock TO="next 1st" ZONE=Europe/Paris',
    )
    parser.add_argument(
        "--to", help="'next midnight', 'next 1st', '+30 days' or 2027-01-01T05:00:00Z"
    )
    parser.add_argument("--zone", default="UTC", help="whose midnight or 1st (default: UTC)")
    arguments = parser.parse_args(words)
    try:
        clock = LocalClock(local.running_stack())
        if arguments.to is not None:
            zone = calendar.parse_timezone("zone", arguments.zone)
            began = clock.now()
            to = parse_moment(arguments.to, began, zone)
            with progress_bar(Console(stderr=True)) as progress:
                task = progress.add_task("Moving the clock", total=(to - began).days + 1)
                clock.move(to, lambda step: progress.update(task, completed=(step.at - began).days))
                progress.update(task, completed=(to - began).days + 1)
        print(format_instant(clock.now()))
    except (InvalidInput, local.NotRunningError, ticks.TickFailedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
