"""Sweeps: page through one timezone's index and send its users on, a hundred in a message.

    zone ─┬─► range 0000 ─► …          a zone of very many users is divided into ranges, which are
          ├─► range 0001 ─► …          swept at the same time; a range that proves too large for
          └─► …                        one invocation is divided again, into ever narrower ones

The rest of a sweep never goes to a single successor: the chain of invocations would grow with the
zone, and Lambda stops chains longer than about 16. If a sweep dies, its message is delivered again
and it starts from its beginning. It may then send users on twice; the workers make sure that this
changes nothing.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput, Unreadable
from chalicelib.domain.fields import shown
from chalicelib.domain.ranges import Range, bits_for, place_of
from chalicelib.messages.notifications import ExpiringSoon
from chalicelib.messages.work import USERS_A_MESSAGE, Sweep, SweepKind, UsersMessage
from chalicelib.observability import correlation_id, logger
from chalicelib.queues import MESSAGES_A_REQUEST, chunks
from chalicelib.services import Services
from chalicelib.store.ledger_items import EXPIRY_SHARDS

from .records import Answer, Event, handle_records, note

USERS_A_PAGE = USERS_A_MESSAGE * MESSAGES_A_REQUEST
"""A page of the index fills exactly one request to SQS."""

USERS_A_RANGE = {
    SweepKind.ALLOCATION: 50_000,
    SweepKind.EXPIRY: 50_000,
    SweepKind.REMINDER: 10_000,
}
"""How many users one invocation sends on in a small part of its time: larger zones are divided.
Each reminder is a message of its own, so reminders take longer."""

TIME_TO_HAND_OVER = 10_000
"""Milliseconds before its timeout at which a function stops paging and hands the sweep on."""


class Page(NamedTuple):
    """The users that a sweep has found, and the cursor after them (None: it is over).

    ``expected``: about how many users the range has. ``instants``: when the batch of each user
    expires, in a sweep about expiry.
    """

    user_ids: list[str]
    cursor: str | None
    expected: int
    instants: list[datetime | None]


def sweep_zones(services: Services, event: Event, context: Any) -> Answer:
    """Handles the sweeps in an SQS event; returns those that failed."""
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
    users = 0
    for page in _pages(services, sweep):
        users += _hand_on(services, sweep, page)
        if page.cursor and _is_to_be_divided(sweep, page.expected, is_time_up):
            services.queues.send_sweeps(
                part._replace(correlation_id=correlation_id()).body()
                for part in _rest(sweep, page.cursor, page.expected)
            )
            break
    if users:
        logger().info(
            "sweep",
            kind=sweep.kind.value,
            timezone=sweep.timezone,
            range=sweep.range.bits,
            users=users,
            day=sweep.day,
        )


def _pages(services: Services, sweep: Sweep) -> Iterator[Page]:
    if sweep.kind is SweepKind.ALLOCATION:
        return _allocation_pages(services, sweep)
    if sweep.kind is SweepKind.EXPIRY:
        return _expiry_pages(services, sweep)
    return _reminder_pages(services, sweep)


def _hand_on(services: Services, sweep: Sweep, page: Page) -> int:
    """Sends a page to its workers; returns the number of users or reminders."""
    if sweep.kind is SweepKind.REMINDER:
        # Each user and instant is a message of its own. The sender checks whether credits are left,
        # and whether the email was sent before.
        return services.queues.send_notifications(
            ExpiringSoon(user_id, expires_at, sweep.as_of, correlation_id()).body()
            for user_id, expires_at in zip(page.user_ids, page.instants, strict=True)
            if expires_at
        )
    queues = services.queues
    is_allocation = sweep.kind is SweepKind.ALLOCATION
    send = queues.send_allocations if is_allocation else queues.send_expiries
    user_ids = dict.fromkeys(page.user_ids)  # a user with several batches is named once
    send(
        UsersMessage(sweep.as_of, tuple(chunk), correlation_id()).body()
        for chunk in chunks(user_ids, USERS_A_MESSAGE)
    )
    return len(user_ids)


# --- Ranges ---------------------------------------------------------------------------------------


def _is_to_be_divided(sweep: Sweep, expected: int, is_time_up: Callable[[], bool]) -> bool:
    return _is_too_large(sweep, expected) or (sweep.range.is_divisible and is_time_up())


def _is_too_large(sweep: Sweep, expected: int) -> bool:
    return sweep.range.is_whole and expected > USERS_A_RANGE[sweep.kind]


def _rest(sweep: Sweep, cursor: str, expected: int) -> Iterator[Sweep]:
    """The rest of a sweep after a cursor, in ranges; the range with the cursor keeps it."""
    if sweep.kind is not SweepKind.ALLOCATION:
        return _rest_of_shards(sweep, cursor)
    is_too_large = _is_too_large(sweep, expected)
    bits = bits_for(expected, USERS_A_RANGE[sweep.kind]) if is_too_large else None
    user_id = _last_user(sweep, cursor)
    return (
        sweep._replace(range=part, cursor=cursor if user_id in part else None)
        for part in sweep.range.parts(bits)
        if part.last >= place_of(user_id)
    )


def _rest_of_shards(sweep: Sweep, cursor: str) -> Iterator[Sweep]:
    """The same for a sweep through the expiry index: its shards, and then parts of a shard."""
    shard, _ = _expiry_position(sweep, cursor)
    shard_bits = _shard_bits()
    if len(sweep.range.bits) < shard_bits:
        for part in sweep.range.parts(shard_bits - len(sweep.range.bits)):
            number = int(part.bits, 2)
            if number >= shard:
                yield sweep._replace(range=part, cursor=cursor if number == shard else None)
    else:
        for part in sweep.range.parts():
            yield sweep._replace(range=part, cursor=cursor)


def _shard_bits() -> int:
    """How many bits of a range are the number of a shard of the expiry index.

    Further bits are those of the users' places: such a sweep reads the whole shard, which is quick,
    and sends on a part of it.
    """
    return EXPIRY_SHARDS.bit_length() - 1


def _last_user(sweep: Sweep, cursor: str) -> str:
    return cursor.removeprefix(f"{sweep.timezone} ")


# --- Reading the index ----------------------------------------------------------------------------


def _allocation_pages(services: Services, sweep: Sweep) -> Iterator[Page]:
    """The users of the range whose subscriptions are active; for a day, its anniversaries."""
    after = _last_user(sweep, sweep.cursor) if sweep.cursor else None
    pages = services.subscriptions.pages_of(
        sweep.timezone, USERS_A_PAGE, after, sweep.range, sweep.day
    )
    users = 0
    for user_ids, last in pages:
        users += len(user_ids)
        if last is None:
            yield Page(user_ids, None, users, [])
        else:
            expected = sweep.range.expected(users, last)
            yield Page(user_ids, f"{sweep.timezone} {last}", expected, [])


def _reminder_pages(services: Services, sweep: Sweep) -> Iterator[Page]:
    """The users whose batches expire on days that end some days after the sweep's midnights."""
    settings = services.settings
    days = timedelta(days=settings.expiring_soon_days)
    if not days or settings.is_quiet(services.now()):
        return
    timezone = sweep.timezone
    first = calendar.local_date(timezone, sweep.first_midnight) + days
    last = calendar.local_date(timezone, sweep.midnight) + days
    after = calendar.midnight(timezone, first - timedelta(days=1))
    yield from _expiring_pages(services, sweep, after, calendar.midnight(timezone, last))


def _expiry_pages(services: Services, sweep: Sweep) -> Iterator[Page]:
    """The users whose batches expire on days that end at the sweep's midnights.

    Whole days, not only their midnights: a change of the zone's rules may have moved these.
    """
    after = calendar.day_start(sweep.timezone, sweep.first_midnight - timedelta(seconds=1))
    return _expiring_pages(services, sweep, after, sweep.midnight)


def _expiring_pages(
    services: Services, sweep: Sweep, after: datetime, until: datetime
) -> Iterator[Page]:
    """The users whose batches expire in ``(after, until]``."""
    shards = _shards(sweep)
    users = Range(sweep.range.bits[_shard_bits() :])
    is_all = users.is_whole
    shard, key = _expiry_position(sweep, sweep.cursor) if sweep.cursor else (shards.start, None)
    found: dict[tuple[str, datetime | None], None] = {}
    seen = reads = 0
    while shard in shards:
        # A sweep that leaves out most of what it reads must not read ever smaller pages.
        limit = USERS_A_PAGE - len(found) if is_all else USERS_A_PAGE
        page = services.ledger.expiring(sweep.timezone, shard, after, until, key, limit)
        batches = list(zip(page.user_ids, page.instants, strict=True))
        for user_id in (user_id for user_id, instant in batches if instant is None):
            # Sent on all the same: the ledger decides what expires.
            note(Unreadable("ledger", f"user {user_id}", "an expiry_key names no instant"))
        found.update((batch, None) for batch in batches if is_all or batch[0] in users)
        seen += len(page.user_ids)
        reads += 1
        key = page.last_key
        if key is None:
            shard += 1
        is_over = shard not in shards
        if is_over or len(found) >= USERS_A_PAGE or reads == EXPIRY_SHARDS:
            yield Page(
                [user_id for user_id, _ in found],
                None if is_over else f"{sweep.timezone} {shard:02} {key or ''}",
                seen * EXPIRY_SHARDS // max(1, shard),
                [instant for _, instant in found],
            )
            found, reads = {}, 0


def _shards(sweep: Sweep) -> range:
    """The shards of the expiry index that a sweep goes through."""
    missing = max(0, _shard_bits() - len(sweep.range.bits))
    first = int(sweep.range.bits[: _shard_bits()] or "0", 2) << missing
    return range(first, first + (1 << missing))


def _expiry_position(sweep: Sweep, cursor: str) -> tuple[int, str | None]:
    """The shard and the key in it to go on after."""
    shard, _, key = cursor.removeprefix(f"{sweep.timezone} ").partition(" ")
    if shard.isascii() and shard.isdigit() and int(shard) in _shards(sweep):
        return int(shard), key or None
    raise InvalidInput.of("cursor", f"must be a cursor a sweep gave out; is {shown(cursor)}")
