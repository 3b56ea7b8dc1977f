"""Turns a month on a running stack, as the deployed schedule would, and shows what came of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table

from chalicelib.domain import calendar
from chalicelib.domain.batches import expired
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import EntryType, LedgerEntry
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, due_periods, monthly_amount
from chalicelib.services import Services
from infra import local, stacks
from infra.importing import progress_bar
from infra.ticks import QUEUES, Ticks

EXPIRY_TURN_AFTER = 30
"""Days from the turn of the month to the expiry turn: what the lowest plan's credits live."""


def instants_of_start(period: Period, zones: Iterable[str]) -> dict[datetime, set[str]]:
    """The instants at which a period begins in some of the zones, and in which."""
    instants: dict[datetime, set[str]] = defaultdict(set)
    for zone in zones:
        instants[calendar.month_start(zone, period)].add(zone)
    return instants


def is_due(subscription: Subscription, catalogue: PlanCatalogue, period: Period) -> bool:
    """Whether a subscription, as it is now, was or will be due for a period at its start."""
    start = calendar.month_start(subscription.timezone, period)
    return period in due_periods(subscription, catalogue, None, start, start)


@dataclass
class Ledgers:
    """Every ledger of the users of this run, read back line by line."""

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
        stack: local.LocalStack,
        services: Services,
        user_ids: list[str],
        console: Console,
        zones: Collection[str] | None = None,
    ) -> None:
        """``zones`` restricts the turn to some timezones; all of them unless given."""
        self._services = services
        self._console = console
        self._zones = zones or calendar.zone_names()
        self._ticks = Ticks(stack)
        self._subscriptions = services.subscriptions.get_many(user_ids)
        # The next month that has begun nowhere yet.
        self.period = max(
            calendar.period_at(zone, services.now()) for zone in calendar.zone_names()
        ).next()

    def allocate(self) -> None:
        """Invokes the allocation tick of every instant at which the month begins somewhere."""
        starts = instants_of_start(self.period, self._zones)
        lateness = self._run_ticks("allocation-tick", f"The month turns to {self.period}", starts)
        entries = [
            entry
            for entry in self._read_ledgers().of_type(EntryType.ALLOCATION)
            if entry.allocated_through == self.period
        ]
        self._show(
            f"Credits allocated for {self.period}", "credits granted", starts, lateness, entries
        )

    def expire(self) -> None:
        """Invokes the expiry tick of every midnight 30 days later, in the zones that have users.

        A sweep of a zone asks 32 index partitions, which the emulator takes a while to answer.
        """
        day = self.period.first_day + timedelta(days=EXPIRY_TURN_AFTER)
        midnights: dict[datetime, set[str]] = defaultdict(set)
        for zone in {subscription.timezone for subscription in self._subscriptions.values()}:
            midnights[calendar.midnight(zone, day)].add(zone)
        lateness = self._run_ticks("expiry-tick", f"The day turns to {day}", midnights)
        entries = list(self._read_ledgers().of_type(EntryType.EXPIRATION))
        self._show(f"Credits expired on {day}", "credits expired", midnights, lateness, entries)

    @property
    def left_at(self) -> datetime:
        """Where the clock is left: a tick before the month after this one begins anywhere."""
        following = self.period.next()
        starts = (calendar.month_start(zone, following) for zone in calendar.zone_names())
        return min(starts) - calendar.TICK

    def check(self) -> bool:
        """Checks what must always hold, shows each with its count; whether all of it does."""
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

    # What is due ----------------------------------------------------------------------------------

    def _is_due(self, subscription: Subscription) -> bool:
        return is_due(subscription, self._services.catalogue, self.period)

    # Ticks ----------------------------------------------------------------------------------------

    def _run_ticks(
        self, function: str, what: str, instants: dict[datetime, set[str]]
    ) -> dict[datetime, float]:
        """Invokes the tick of each instant and waits until all its work is done."""
        lateness = {}
        with progress_bar(self._console) as progress:
            task = progress.add_task(what, total=len(instants))
            for instant in sorted(instants):
                lateness[instant] = self._ticks.run(function, instant, instants[instant])
                progress.advance(task)
        return lateness

    # What is to be seen ---------------------------------------------------------------------------

    def _read_ledgers(self) -> Ledgers:
        """Reads and verifies the ledger of every user."""
        ledgers = Ledgers()

        def read(user_id: str) -> list[LedgerEntry]:
            self._services.ledger.verify(user_id)
            return self._services.ledger.history(user_id, limit=1000)[::-1]

        with ThreadPoolExecutor(stacks.THREADS) as pool:
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
        instants: dict[datetime, set[str]],
        lateness: dict[datetime, float],
        entries: Iterable[LedgerEntry],
    ) -> None:
        """One row per instant at which something happened: zones, users, credits, lateness."""
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
        for instant in sorted(instants):
            table.add_row(
                f"{instant:%Y-%m-%d %H:%M}",
                str(len(instants[instant])),
                f"{users[instant]:,}",
                f"{amounts[instant]:,}",
                f"{lateness[instant]:.1f}",
            )
        footers = (
            f"{len(instants)} instants",
            str(sum(len(zones) for zones in instants.values())),
            f"{users.total():,}",
            f"{amounts.total():,}",
            f"{max(lateness.values()):.1f} at most",
        )
        for column, footer in zip(table.columns, footers, strict=True):
            column.footer = footer
        self._console.print(table)

    def _invariants(self) -> Iterator[tuple[str, int, list[str]]]:
        """Each invariant, how much was checked, and what breaks it."""
        ledgers = self._read_ledgers()
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
            if entry.allocated_through == self.period
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
            [f"{count} messages in {name}-dlq" for name, count in dead.items() if count],
        )

    def _is_right(self, entry: LedgerEntry) -> bool:
        subscription = self._subscriptions[entry.user_id]
        start = calendar.month_start(subscription.timezone, self.period)
        return (
            entry.effective_at == start
            and entry.posted_at >= start
            and entry.amount == monthly_amount(subscription, self._services.catalogue)
        )

    def _wrongly_open(self, ledgers: Ledgers) -> Iterator[str]:
        """Batches open after the expiry turn of their zone, and batches expired before it."""
        day = self.period.first_day + timedelta(days=EXPIRY_TURN_AFTER)
        for user, entries in ledgers.entries.items():
            turned = calendar.midnight(self._subscriptions[user].timezone, day)
            if entries and expired(entries[-1].batches, turned):
                yield f"user {user}: a batch that expired by {format_instant(turned)} is open"
        for entry in ledgers.of_type(EntryType.EXPIRATION):
            if entry.posted_at < entry.effective_at:
                yield f"user {entry.user_id}: credits expired early"
