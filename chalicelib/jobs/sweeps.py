"""Sweeps: page through one timezone's index and hand its users on, a hundred to a message.

A sweep that runs out of time sends itself on with a cursor. One that dies is delivered again and
starts from its own cursor; what it hands on twice changes nothing, the workers see to that.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import shown
from chalicelib.messages import (
    USERS_A_MESSAGE,
    ExpiringSoon,
    Sweep,
    SweepKind,
    UsersMessage,
)
from chalicelib.observability import correlation_id, logger
from chalicelib.queues import MESSAGES_A_REQUEST, chunks
from chalicelib.services import Services
from chalicelib.store.ledger import EXPIRY_SHARDS

from .records import Answer, Event, handle_records

USERS_A_PAGE = USERS_A_MESSAGE * MESSAGES_A_REQUEST
"""A page of the index fills exactly one request to SQS."""

TIME_TO_HAND_OVER = 10_000
"""Milliseconds before its timeout at which a function stops paging and hands the sweep on."""

Page = tuple[list[str], str | None]
"""Users of a zone, and the cursor behind them (None: the zone is done)."""


def sweep_zones(services: Services, event: Event, context: Any) -> Answer:
    """Handles the sweeps in an SQS event; answers those that failed."""
    remaining_time: Callable[[], int] = context.get_remaining_time_in_millis

    def is_time_up() -> bool:
        return remaining_time() < TIME_TO_HAND_OVER

    return handle_records(
        services,
        services.settings.sweeps_queue_url,
        event,
        context,
        Sweep.parse,
        lambda sweep: _sweep(services, sweep, is_time_up),
    )


def _sweep(services: Services, sweep: Sweep, is_time_up: Callable[[], bool]) -> None:
    if sweep.kind is SweepKind.REMINDER:
        _remind(services, sweep, is_time_up)
        return
    if sweep.kind is SweepKind.ALLOCATION:
        pages, send = _allocation_pages(services, sweep), services.queues.send_allocations
    else:
        pages, send = _expiry_pages(services, sweep), services.queues.send_expiries
    users = 0
    for user_ids, cursor in pages:
        users += len(user_ids)
        send(
            UsersMessage(sweep.as_of, tuple(chunk), correlation_id()).body()
            for chunk in chunks(user_ids, USERS_A_MESSAGE)
        )
        if cursor and is_time_up():
            services.queues.send_sweeps(
                [replace(sweep, cursor=cursor, correlation_id=correlation_id()).body()]
            )
            break
    if users:
        logger().info("sweep", kind=sweep.kind.value, timezone=sweep.timezone, users=users)


def _allocation_pages(services: Services, sweep: Sweep) -> Iterator[Page]:
    """The users of the zone who can receive allocations."""
    after = sweep.cursor.removeprefix(f"{sweep.timezone} ") if sweep.cursor else None
    while True:
        page = services.subscriptions.users_of(sweep.timezone, after, USERS_A_PAGE)
        after = page.last_user_id
        yield page.user_ids, f"{sweep.timezone} {after}" if after else None
        if after is None:
            return


def _remind(services: Services, sweep: Sweep, is_time_up: Callable[[], bool]) -> None:
    """Announces what expires on the days that end some days after the sweep's midnights.

    Each user and instant is a message of its own: whether credits are left, and whether the user
    was told before, is for the sender to see.
    """
    days = timedelta(days=services.settings.expiring_soon_days)
    if not days:
        return
    timezone = sweep.timezone
    first = calendar.local_date(timezone, sweep.first_midnight) + days
    last = calendar.local_date(timezone, sweep.midnight) + days
    after = calendar.midnight(timezone, first - timedelta(days=1))
    reminders = 0
    for expiring, cursor in _expiring_pages(
        services, sweep, after, calendar.midnight(timezone, last)
    ):
        reminders += services.queues.send_notifications(
            ExpiringSoon(user_id, expires_at, sweep.as_of, correlation_id()).body()
            for user_id, expires_at in expiring
        )
        if cursor and is_time_up():
            services.queues.send_sweeps(
                [replace(sweep, cursor=cursor, correlation_id=correlation_id()).body()]
            )
            break
    if reminders:
        logger().info("sweep", kind=sweep.kind.value, timezone=timezone, users=reminders)


def _expiry_pages(services: Services, sweep: Sweep) -> Iterator[Page]:
    """The users with batches that expire on the days that end at the sweep's midnights.

    Whole days and not their midnights alone: a change of the zone's rules may have moved those.
    """
    after = calendar.day_start(sweep.timezone, sweep.first_midnight - timedelta(seconds=1))
    for expiring, cursor in _expiring_pages(services, sweep, after, sweep.midnight):
        # A user with several batches is named once.
        yield list(dict.fromkeys(user_id for user_id, _ in expiring)), cursor


def _expiring_pages(
    services: Services, sweep: Sweep, after: datetime, until: datetime
) -> Iterator[tuple[list[tuple[str, datetime]], str | None]]:
    """Pages of whose batches expire in ``(after, until]``, and the cursor behind each page."""
    shard, key = _expiry_position(sweep)
    found: dict[tuple[str, datetime], None] = {}
    while shard < EXPIRY_SHARDS:
        page = services.ledger.expiring(
            sweep.timezone, shard, after, until, key, USERS_A_PAGE - len(found)
        )
        found.update(dict.fromkeys(zip(page.user_ids, page.instants, strict=True)))
        key = page.last_key
        if key is None:
            shard += 1
        if len(found) >= USERS_A_PAGE:
            more = shard < EXPIRY_SHARDS
            yield list(found), f"{sweep.timezone} {shard:02} {key or ''}" if more else None
            found = {}
    if found:
        yield list(found), None


def _expiry_position(sweep: Sweep) -> tuple[int, str | None]:
    """The shard and the key in it to go on after."""
    if sweep.cursor is None:
        return 0, None
    shard, _, key = sweep.cursor.removeprefix(f"{sweep.timezone} ").partition(" ")
    if not (shard.isascii() and shard.isdigit() and int(shard) < EXPIRY_SHARDS):
        raise InvalidInput.of(
            "cursor", f"must be a cursor a sweep gave out; is {shown(sweep.cursor)}"
        )
    return int(shard), key or None
