"""The clock of the local stack. It is ahead of this machine's clock, and only moves forward.

After a move, everything in the stack uses the new time: balances, expiry, spending, countdowns.
During a move the clock stops at each tick whose sweeps have something to do, re-sweeps included,
and the tick runs as the schedule would have run it. Sweeps that would find nothing are left out.
"""

from __future__ import annotations

import fcntl
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import RESWEEP_AGES
from chalicelib.domain.errors import CreditsError, InvalidInput, Unreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.notifications import MailKind, of_expiring_soon
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import (
    Subscription,
    can_receive,
    next_allocation,
    periods_of,
)
from chalicelib.jobs.ticks import REMINDER_AGES
from chalicelib.queues import chunks
from chalicelib.services import read_clock
from chalicelib.store.ledger_items import read_entry
from chalicelib.store.subscriptions import readable
from infra import ticks
from infra.deployment import stage_services
from infra.faults import FAULTS
from infra.local import stacks
from infra.local.services import services_of_local

FARTHEST = timedelta(days=366)
"""How far one move may go: each month takes a minute or two."""

STOPPED_BY = (ticks.TickFailedError, CreditsError, *FAULTS)
"""The errors that stop the clock during a move. It then stays at the tick of the error."""

_ITEMS_A_READ = 100
_MILLISECOND = timedelta(milliseconds=1)

_DAYS = re.compile(r"\+ ?([1-9][0-9]{0,2}) days?")


class Step(NamedTuple):
    """A tick whose sweeps have something to do, and the timezones where they do it."""

    at: datetime
    allocation: frozenset[str]
    expiry: frozenset[str]
    reminders: frozenset[str]


Watch = Callable[[Step, float], None]
"""Called after each step, with the seconds that it took."""


class Midnight(NamedTuple):
    """A midnight of a timezone. A sweep follows at once, and more of them at some later times."""

    timezone: str
    at: datetime

    def next_tick(self, ages: Iterable[timedelta], after: datetime) -> datetime | None:
        """The first tick later than ``after`` that sweeps for it; None if no tick does."""
        first = calendar.tick_at(self.at + calendar.TICK - _MILLISECOND)
        return min((first + age for age in ages if first + age > after), default=None)


class Open(NamedTuple):
    """The work that sweeps have for a user, now or later.

    ``timezone``: where they receive credits; None if they cannot. ``day``: the day of the month on
    which their periods begin. ``is_overdue``: an allocation is missing. ``ends``: the midnights at
    which open batches are booked out. ``reminders``: the midnights of the unsent emails that
    announce this.
    """

    timezone: str | None
    is_overdue: bool = False
    day: int = 1
    ends: frozenset[Midnight] = frozenset()
    reminders: frozenset[Midnight] = frozenset()


def next_step(
    users: Collection[Open], done: datetime, to: datetime, everywhere: Iterable[str] = ()
) -> Step | None:
    """The first tick after ``done``, and no later than ``to``, whose sweeps have something to do.

    The first sweep of a month always counts, in zones with users and in those of ``everywhere``.
    """
    inhabited = {(user.timezone, user.day) for user in users if user.timezone}
    overdue = {(user.timezone, user.day) for user in users if user.timezone and user.is_overdue}
    everywhere_on_the_1st = ((zone, 1) for zone in everywhere)
    months = {_start(*where, done, 1) for where in inhabited.union(everywhere_on_the_1st)}
    months |= {_start(*where, done, 0) for where in overdue}
    allocation = _by_tick(months, RESWEEP_AGES, done)
    expiry = _by_tick((end for user in users for end in user.ends), RESWEEP_AGES, done)
    reminders = _by_tick(
        (reminder for user in users for reminder in user.reminders), REMINDER_AGES, done
    )
    at = min((*allocation, *expiry, *reminders), default=None)
    if at is None or at > to:
        return None
    return Step(at, frozenset(allocation[at]), frozenset(expiry[at]), frozenset(reminders[at]))


def _start(timezone: str, day: int, instant: datetime, months_later: int) -> Midnight:
    period = calendar.period_at(timezone, instant, day).plus(months_later)
    return Midnight(timezone, calendar.period_start(timezone, period, day))


def _by_tick(
    midnights: Iterable[Midnight], ages: Iterable[timedelta], after: datetime
) -> defaultdict[datetime, set[str]]:
    """The zones to sweep, by the next tick of their midnights."""
    zones: defaultdict[datetime, set[str]] = defaultdict(set)
    for midnight in set(midnights):
        if tick := midnight.next_tick(ages, after):
            zones[tick].add(midnight.timezone)
    return zones


def parse_target(text: object, timezone: str) -> Callable[[datetime], datetime]:
    """Where to move to, seen from now: `next midnight`, `next 1st`, `+30 days`, or an instant.

    Raises `InvalidInput` on ``to``.
    """
    if text == "next midnight":
        return lambda now: calendar.next_midnight(timezone, now)
    if text == "next 1st":
        return lambda now: calendar.month_start(timezone, calendar.period_at(timezone, now).next())
    if isinstance(text, str) and (days := _DAYS.fullmatch(text)):
        ahead = timedelta(days=int(days[1]))
        return lambda now: now + ahead
    try:
        moment = parse_instant("to", text)
    except InvalidInput as error:
        raise InvalidInput.of(
            "to",
            "must be 'next midnight', 'next 1st', '+30 days' or written like 2026-07-01T04:00:00Z",
        ) from error
    return lambda _: moment


def parse_moment(text: object, now: datetime, timezone: str) -> datetime:
    """The instant of `parse_target`. Raises `InvalidInput` also if it is past or too far ahead."""
    moment = parse_target(text, timezone)(now)
    if moment <= now:
        raise InvalidInput.of(
            "to", f"must be after {format_instant(now)}: the clock moves forward only"
        )
    if moment - now > FARTHEST:
        raise InvalidInput.of("to", f"must be at most {FARTHEST.days} days ahead; go step by step")
    return moment


class LocalClock:
    """The clock of one local stack."""

    def __init__(self, stack: stacks.LocalStack) -> None:
        self._services = services_of_local(stack)
        self._ticks = ticks.Ticks(stack)
        self._stack = stack
        self._file = Path(stack.clock_file)
        self._done_file = self._file.with_suffix(".done")
        self._zones_of_batches: dict[tuple[str, int], str] = {}
        if not self._done_file.exists():
            # The stack is new: it does not catch up on earlier work.
            _write(self._done_file, format_instant(self.now()))

    def now(self) -> datetime:
        """The present instant of the stack."""
        return self._services.now()

    def is_tick_due(self) -> bool:
        """Whether the schedule would have ticked since: a new quarter of an hour has begun."""
        return calendar.tick_at(self.now()) > calendar.tick_at(self._done_through())

    def move(
        self, to: datetime, watch: Watch | None = None, everywhere: Collection[str] = ()
    ) -> None:
        """Moves the clock forward and runs every tick on the way that has something to do.

        In the zones of ``everywhere`` months begin even if no user lives there. Raises one of
        `STOPPED_BY`.
        """
        with self._alone():
            users = self._read(self.user_ids())
            while step := next_step(users.values(), self._done_through(), to, everywhere):
                self._set(step.at)
                took = self._run(step)
                users |= self._read([name for name in users if _is_touched(users[name], step)])
                if watch:
                    watch(step, took)
            self._set(to)

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

    # Moving ---------------------------------------------------------------------------------------

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Lets one thread of one process at a time move: the console and a command share it."""
        with self._file.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _done_through(self) -> datetime:
        """The instant up to which all due work is done, by any process."""
        return parse_instant("done", self._done_file.read_text())

    def _set(self, instant: datetime) -> None:
        ahead = (instant - read_clock()).total_seconds()
        if ahead > float(self._file.read_text()):
            _write(self._file, str(ahead))
        _write(self._done_file, format_instant(max(self._done_through(), instant)))

    def _run(self, step: Step) -> float:
        """Runs the ticks of a step until their work is done; the seconds it took."""
        took = 0.0
        for function, zones in (
            ("expiry-tick", step.expiry | step.reminders),
            ("allocation-tick", step.allocation),
        ):
            if zones:
                took += self._ticks.run(function, step.at, zones)
        if step.reminders:
            # Emails name the present credits: once the clock has moved on, these may have expired.
            self._ticks.wait_for_mails()
        return took

    # Open work ------------------------------------------------------------------------------------

    def _read(self, user_ids: Collection[str]) -> dict[str, Open]:
        """The open work for users, after everything done so far."""
        subscriptions = readable(self._services.subscriptions.get_many(user_ids))
        with ThreadPoolExecutor(stage_services.THREADS) as pool:
            accounts = [
                account for account in pool.map(self._account, subscriptions) if account is not None
            ]
        self._read_zones_of_batches(accounts)
        done = self._done_through()
        catalogue = self._services.catalogue
        found = {
            user: Open(
                _zone_of(subscription, catalogue), day=periods_of(subscription, catalogue).day
            )
            for user, subscription in subscriptions.items()
        }
        reminders = self._reminders(accounts, subscriptions, done)
        for account in accounts:
            user_id = account.user_id
            found[user_id] = found[user_id]._replace(
                is_overdue=self._is_overdue(subscriptions[user_id], account, done),
                ends=frozenset(end for _, end in self._ends(account)),
                reminders=frozenset(reminders[user_id]),
            )
        return found

    def _is_overdue(self, subscription: Subscription, account: Account, done: datetime) -> bool:
        if _zone_of(subscription, self._services.catalogue) is None:
            return False
        upcoming = next_allocation(
            subscription, self._services.catalogue, account.allocated_through, done
        )
        return upcoming is not None and upcoming.at <= done

    def _account(self, user_id: str) -> Account | None:
        try:
            return self._services.ledger.account(user_id)
        except Unreadable:
            return None  # the sweeps report it and serve the other users

    def _read_zones_of_batches(self, accounts: Iterable[Account]) -> None:
        """Reads in which zone each batch was granted: the sweep of that zone books it out."""
        grants = [
            grant
            for account in accounts
            for batch in account.batches
            if batch.expires_at
            and (grant := (account.user_id, batch.number)) not in self._zones_of_batches
        ]
        for chunk in chunks(grants, _ITEMS_A_READ):
            for item in self._services.ledger.entries(chunk).values():
                try:
                    entry = read_entry(item)
                except Unreadable:
                    continue  # as in `_account`
                # A zone that has left tzdata is not swept.
                if entry.expiry_timezone in calendar.zone_names():
                    self._zones_of_batches[entry.user_id, entry.number] = entry.expiry_timezone

    def _ends(self, account: Account) -> Iterator[tuple[datetime, Midnight]]:
        """When the open batches of a user expire, and the midnights that book them out."""
        for batch in account.batches:
            zone = self._zones_of_batches.get((account.user_id, batch.number))
            if batch.expires_at and zone:
                # Imported batches need not end at a midnight.
                end = calendar.next_midnight(zone, batch.expires_at - _MILLISECOND)
                yield batch.expires_at, Midnight(zone, end)

    def _reminders(
        self, accounts: Iterable[Account], subscriptions: dict[str, Subscription], done: datetime
    ) -> dict[str, set[Midnight]]:
        """The midnights of reminders that have not been sent."""
        days = timedelta(days=self._services.settings.expiring_soon_days)
        wanted: list[tuple[str, str, Midnight]] = []
        for account in accounts:
            user_id = account.user_id
            if not (days and _is_reminded(subscriptions[user_id])):
                continue
            for expires_at, (zone, end) in self._ends(account):
                day = calendar.local_date(zone, end) - days
                reminder = Midnight(zone, calendar.midnight(zone, day))
                if reminder.next_tick(REMINDER_AGES, done):
                    wanted.append((of_expiring_soon(user_id, expires_at), user_id, reminder))
        sent = {
            identity
            for identities in chunks({identity for identity, _, _ in wanted}, _ITEMS_A_READ)
            for identity in self._services.mail_records.find(identities)
        }
        reminders: dict[str, set[Midnight]] = defaultdict(set)
        for identity, user_id, reminder in wanted:
            if identity not in sent:
                reminders[user_id].add(reminder)
        return reminders


def _zone_of(subscription: Subscription, catalogue: PlanCatalogue) -> str | None:
    """The zone in which a user receives credits; None if they cannot, or tzdata lacks the zone."""
    is_known = subscription.timezone in calendar.zone_names()
    return subscription.timezone if is_known and can_receive(subscription, catalogue) else None


def _is_reminded(subscription: Subscription) -> bool:
    return bool(
        subscription.email
        and not subscription.suppressed
        and MailKind.EXPIRING_SOON in subscription.notifications
    )


def _is_touched(user: Open, step: Step) -> bool:
    """Whether a step can have changed the open work for a user."""
    # A reminder is in the zone of the end that it announces.
    zones = {midnight.timezone for midnight in user.ends}
    return user.timezone in step.allocation or not zones.isdisjoint(step.expiry | step.reminders)


def _write(file: Path, text: str) -> None:
    """Replaces a file in one step: readers see the old text or the new one, never a part."""
    new = file.with_suffix(f"{file.suffix}.new")
    new.write_text(text)
    new.replace(file)
