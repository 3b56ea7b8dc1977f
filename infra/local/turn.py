"""Turns a month on a running stack, as the deployed schedule would, and shows the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table

from chalicelib.domain import calendar
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.holds import dead
from chalicelib.domain.instants import format_instant
from chalicelib.domain.subscriptions import (
    Subscription,
    monthly_amount,
)
from chalicelib.services import Services
from chalicelib.store.subscriptions import readable
from infra.deployment import stage_services
from infra.local import stacks
from infra.local.clock import LocalClock, Step
from infra.local.month import instants_of_start, is_due
from infra.terminal import moving_bar
from infra.ticks import QUEUES, Ticks

EXPIRY_TURN_AFTER = 30
"""Days from the turn of the month to the expiry turn: the lifetime of the lowest plan's credits."""


@dataclass
class Ledgers:
    """The ledgers of all users of this run, read line by line."""

    entries: dict[str, list[LedgerEntry]] = field(default_factory=dict)
    corrupt: list[LedgerCorrupt] = field(default_factory=list)

    def of_type(self, kind: EntryType) -> Iterator[LedgerEntry]:
        """All entries of one type."""
        return (
            entry for entries in self.entries.values() for entry in entries if entry.type is kind
        )


class Turning:
    """One turn of the month and the expiry turn after it, for the users of one file."""

    def __init__(
        self,
        stack: stacks.LocalStack,
        services: Services,
        user_ids: list[str],
        console: Console,
        zones: Collection[str] | None = None,
    ) -> None:
        """``zones`` restricts the turn to some timezones; the default is all of them."""
        self._services = services
        self._console = console
        self._zones = zones or calendar.zone_names()
        self._ticks = Ticks(stack)
        self._clock = LocalClock(stack)
        self._subscriptions = readable(services.subscriptions.get_many(user_ids))
        # The next month that has not begun anywhere yet.
        self.period = max(
            calendar.period_at(zone, services.now()) for zone in calendar.zone_names()
        ).next()

    def allocate(self) -> None:
        """Moves the clock until the month has begun in every zone."""
        starts = instants_of_start(self.period, self._zones)
        steps = self._move_clock(f"The month turns to {self.period}", max(starts), self._zones)
        entries = [
            entry
            for entry in self._read_ledgers().of_type(EntryType.ALLOCATION)
            if entry.begins_period and entry.allocated_through == self.period
        ]
        self._show(
            f"Credits allocated for {self.period}",
            "credits granted",
            {step.at: (len(step.allocation), took) for step, took in steps if step.at in starts},
            entries,
        )

    def expire(self) -> None:
        """Moves the clock until the day 30 days later has begun in every zone with users.

        On the way reminders are sent, and the next month begins in zones where it starts earlier.
        """
        day = self.period.first_day + timedelta(days=EXPIRY_TURN_AFTER)
        zones = {subscription.timezone for subscription in self._subscriptions.values()}
        midnights = {calendar.midnight(zone, day) for zone in zones}
        steps = self._move_clock(f"The days turn to {day}", max(midnights))
        entries = [
            entry
            for entry in self._read_ledgers().of_type(EntryType.EXPIRATION)
            if entry.effective_at in midnights
        ]
        self._show(
            f"Credits expired on {day}",
            "credits expired",
            {step.at: (len(step.expiry), took) for step, took in steps if step.at in midnights},
            entries,
        )

    def check(self) -> bool:
        """Checks every invariant and shows it with its count; returns whether all hold."""
        checks = list(self._invariants())
        table = Table("invariant", "checked", "broken", "", title="What must always hold")
        for name, checked, broken in checks:
            verdict = "[green]holds[/]" if not broken else "[red]BROKEN[/]"
            table.add_row(name, f"{checked:,}", f"{len(broken):,}", verdict)
        self._console.print(table)
        for name, _, broken in checks:
            for example in broken[:5]:
                self._console.print(f"[red]{name}:[/] {example}")
        return not any(broken for _, _, broken in checks)

    # Due allocations ------------------------------------------------------------------------------

    def _is_due(self, subscription: Subscription) -> bool:
        return is_due(subscription, self._services.catalogue, self.period)

    # The clock ------------------------------------------------------------------------------------

    def _move_clock(
        self, what: str, to: datetime, everywhere: Collection[str] = ()
    ) -> list[tuple[Step, float]]:
        """Moves the clock; returns the steps on its way, and the seconds that each took."""
        steps = []

        def watch(step: Step, took: float) -> None:
            steps.append((step, took))
            show(step.at)

        with moving_bar(self._console, what, self._clock.now(), to) as show:
            self._clock.move(to, watch, everywhere)
        return steps

    # Output ---------------------------------------------------------------------------------------

    def _read_ledgers(self, *, verified: bool = False) -> Ledgers:
        """Reads the ledger of every user, and verifies it on request."""
        ledgers = Ledgers()

        def read(user_id: str) -> list[LedgerEntry]:
            if verified:
                self._services.ledger.verify(user_id)
            return self._services.ledger.history(user_id, limit=1000)[::-1]

        with ThreadPoolExecutor(stage_services.THREADS) as pool:
            futures = {user_id: pool.submit(read, user_id) for user_id in self._subscriptions}
            for user_id, future in futures.items():
                try:
                    ledgers.entries[user_id] = future.result()
                except LedgerCorrupt as error:
                    ledgers.corrupt.append(error)
        return ledgers

    def _show(
        self,
        title: str,
        credits_column: str,
        instants: dict[datetime, tuple[int, float]],
        entries: Iterable[LedgerEntry],
    ) -> None:
        """A row for each instant at which something happened: zones, users, credits, lateness.

        ``instants``: the number of zones, and the seconds until all was done.
        """
        users: Counter[datetime] = Counter()
        amounts: Counter[datetime] = Counter()
        for entry in entries:
            users[entry.effective_at] += 1
            amounts[entry.effective_at] += abs(entry.amount)
        table = Table(
            "UTC instant",
            "zones",
            "users",
            credits_column,
            "seconds late",
            title=title,
            show_footer=True,
        )
        for column in table.columns[1:]:
            column.justify = "right"
        for instant, (zones, took) in sorted(instants.items()):
            table.add_row(
                f"{instant:%Y-%m-%d %H:%M}",
                str(zones),
                f"{users[instant]:,}",
                f"{amounts[instant]:,}",
                f"{took:.1f}",
            )
        latest = max((took for _, took in instants.values()), default=0.0)
        footers = (
            f"{len(instants)} instants",
            str(sum(zones for zones, _ in instants.values())),
            f"{users.total():,}",
            f"{amounts.total():,}",
            f"{latest:.1f} at most",
        )
        for column, footer in zip(table.columns, footers, strict=True):
            column.footer = footer
        self._console.print(table)

    def _invariants(self) -> Iterator[tuple[str, int, list[str]]]:
        """Each invariant, how much was checked, and the violations."""
        ledgers = self._read_ledgers(verified=True)
        yield (
            "every ledger verifies: numbers, hashes, balances, order of spending",
            sum(len(entries) for entries in ledgers.entries.values()),
            [str(error) for error in ledgers.corrupt],
        )
        due = {
            user for user, subscription in self._subscriptions.items() if self._is_due(subscription)
        }
        allocations = [
            entry
            for entry in ledgers.of_type(EntryType.ALLOCATION)
            if entry.begins_period and entry.allocated_through == self.period
        ]
        times = Counter(entry.user_id for entry in allocations)
        yield (
            "everybody who was due was allocated, once",
            len(due),
            [f"user {user}: {times[user]} times" for user in sorted(due) if times[user] != 1],
        )
        yield (
            "nobody who was not due was allocated",
            len(self._subscriptions) - len(due),
            [f"user {user}" for user in sorted(times) if user not in due],
        )
        yield (
            "no allocation before the local midnight of the 1st, and each of the right amount",
            len(allocations),
            [f"user {entry.user_id}" for entry in allocations if not self._is_right(entry)],
        )
        yield (
            "every batch past its expiry is booked out, and none before",
            sum(len(entries[-1].batches) for entries in ledgers.entries.values() if entries),
            list(self._wrongly_open(ledgers)),
        )
        dead = {name: self._ticks.messages_in(f"{name}-dlq") for name in QUEUES}
        yield (
            "no message in a dead-letter queue",
            len(dead),
            [f"{name}-dlq: {count:,}" for name, count in dead.items() if count],
        )

    def _is_right(self, entry: LedgerEntry) -> bool:
        subscription = self._subscriptions[entry.user_id]
        start = calendar.month_start(subscription.timezone, self.period)
        return (
            entry.effective_at == start
            and entry.posted_at >= start
            and entry.amount + entry.left_out
            == monthly_amount(subscription, self._services.catalogue)
        )

    def _wrongly_open(self, ledgers: Ledgers) -> Iterator[str]:
        """Batches open after the expiry turn of their zone, and batches expired before it."""
        day = self.period.first_day + timedelta(days=EXPIRY_TURN_AFTER)
        for user, entries in ledgers.entries.items():
            turned = calendar.midnight(self._subscriptions[user].timezone, day)
            if entries and dead(entries[-1].batches, entries[-1].holds, turned):
                yield f"user {user}: a batch that expired by {format_instant(turned)} is open"
        for entry in ledgers.of_type(EntryType.EXPIRATION):
            if entry.posted_at < entry.effective_at:
                yield f"user {entry.user_id}: credits expired early"
