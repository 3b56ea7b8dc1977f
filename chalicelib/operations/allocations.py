"""What is due to an account, and runs of the monthly allocation on an admin's request.

The workers grant what `next_due_allocation` decides, and a preview shows its decision: only this
function decides.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.due import due_allocation
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import (
    Contention,
    CreditsError,
    InvalidInput,
    TimezoneUnknown,
    Unreadable,
)
from chalicelib.domain.ledger import Account
from chalicelib.domain.plans import AllocateOn
from chalicelib.domain.subscriptions import (
    NotAllocatedBecause,
    Subscription,
    due_periods,
    monthly_amount,
    not_allocated_because,
)
from chalicelib.messages.work import Sweep, SweepKind
from chalicelib.observability import correlation_id, logger
from chalicelib.services import Services

if TYPE_CHECKING:
    from chalicelib.domain.edits import Editor

MOST_QUERIES = 100
"""The most queries of the timezone index for a page of a preview: most zones have no users at all.
"""


class Zones(NamedTuple):
    """The zones of a run: those where the period has begun, and those where it has not."""

    begun: list[str]
    not_begun: list[str]


class Due(NamedTuple):
    """An allocation that a run would post."""

    entry: LedgerEntry
    timezone: str


class Position(NamedTuple):
    """Where a preview goes on: in a zone, after a user (None: before the first)."""

    timezone: str
    after_user_id: str | None


class NotJudged(NamedTuple):
    """A user for whom nobody can say what is due, and why."""

    user_id: str
    timezone: str
    code: str
    words: str


class PreviewPage(NamedTuple):
    """Some of what a run would post, and where to go on (None: the end)."""

    due: list[Due]
    not_judged: list[NotJudged]
    position: Position | None


def next_due_allocation(
    services: Services,
    account: Account,
    subscription: Subscription,
    as_of: datetime,
    now: datetime,
) -> LedgerEntry | None:
    """The oldest allocation still due to an account; None when nothing is due."""
    catalogue = services.catalogue
    entry = due_allocation(catalogue, account, subscription, as_of, now)
    if entry and entry.begins_period and subscription.allocation_amount is not None:
        amount = monthly_amount(subscription, catalogue)
        if amount < subscription.allocation_amount:
            logger().warning(
                "own amount above the cap of its plan",
                user_id=account.user_id,
                allocation_amount=subscription.allocation_amount,
                allocated=amount,
            )
    return entry


class Saved(NamedTuple):
    """A subscription as it is written now, and the allocations that this made due."""

    subscription: Subscription
    posted: list[LedgerEntry]


def save_subscription(
    services: Services,
    user_id: str,
    decide: Callable[[Subscription | None], Subscription],
    by: "Editor",
    *,
    is_repeated: bool = False,
) -> Saved:
    """Writes what ``decide`` makes of a subscription, and posts what is now due to it.

    Sweeps end a week after a month's start, so what an edit makes due would wait for the next
    month. If it cannot be posted, the edit stands, and the next sweep of the zone posts it.

    ``is_repeated``: whether the caller repeats the edit until it succeeds. Then this raises if
    DynamoDB does not answer or others write too often: the repetition finds the edit made, and
    posts.
    """
    # Readers need not import it.
    from chalicelib.store.errors import faults

    subscription = services.subscriptions.change(user_id, decide, by, services.now())
    posted: list[LedgerEntry] = []
    now = services.now()
    try:
        # If no period can be due, whatever the ledger says, it need not be read: for new or paused
        # users, for example.
        if subscription.raised or due_periods(subscription, services.catalogue, None, now, now):
            posted = services.ledger.post(
                user_id,
                lambda account: next_due_allocation(services, account, subscription, now, now),
            )
    except faults(CreditsError) as error:
        if is_repeated and isinstance(error, faults(Contention)):
            raise
        logger().warning("due allocation not posted", user_id=user_id, error=str(error))
    return Saved(subscription, posted)


def due_at_once(
    services: Services, account: Account, subscription: Subscription
) -> list[LedgerEntry]:
    """What `save_subscription` would post after an edit, as things are now."""
    now = services.now()
    with suppress(CreditsError):  # the edit stands, whatever prevents the posting
        return list(_all_due(services, account, subscription, now, now))
    return []


def _all_due(
    services: Services,
    account: Account,
    subscription: Subscription,
    as_of: datetime,
    now: datetime,
) -> Iterator[LedgerEntry]:
    """Every allocation still due to an account, the oldest first."""
    while entry := next_due_allocation(services, account, subscription, as_of, now):
        yield entry
        account = Account(account.user_id, entry)


def zones_of_run(services: Services, period: Period, zones: Sequence[str] | None) -> Zones:
    """Sorts the chosen zones, or all of them, by whether a period has begun there."""
    sorted_zones = Zones([], [])
    now = services.now()
    for timezone in sorted({*(zones or calendar.zone_names())}):
        has_begun = calendar.month_start(timezone, period) <= now
        (sorted_zones.begun if has_begun else sorted_zones.not_begun).append(timezone)
    return sorted_zones


def start_run(services: Services, period: Period, zones: Sequence[str]) -> int:
    """Enqueues a sweep of each zone for the period and all before it; returns how many.

    Past allocations are not repeated, so a run can be repeated at will.
    """
    starts = ((timezone, calendar.month_start(timezone, period)) for timezone in zones)
    return services.queues.send_sweeps(
        Sweep(
            SweepKind.ALLOCATION,
            timezone,
            start,
            start,
            as_of=_as_of_run(services, period, timezone),
            correlation_id=correlation_id(),
        ).body()
        for timezone, start in starts
    )


def _as_of_run(services: Services, period: Period, timezone: str) -> datetime:
    """The instant that a run of a period uses in a zone where its month has begun.

    By then the period has begun for everybody there, and the next one for nobody. It is the start
    of the month or, if months of any plan begin on anniversaries, the last anniversary. A run does
    not include anniversaries that have not come yet: nothing is due that has not begun by the
    clock.
    """
    has_anniversaries = services.catalogue.allocates_on(AllocateOn.ANNIVERSARY)
    return calendar.period_start(timezone, period, 31 if has_anniversaries else 1)


def preview_run(
    services: Services,
    period: Period,
    zones: Sequence[str],
    position: Position | None,
    limit: int,
) -> PreviewPage:
    """What a run would post to the next ``limit`` users; writes nothing.

    A page can have fewer users than the limit, even none, without being the last.
    """
    due: list[Due] = []
    not_judged: list[NotJudged] = []
    users = 0
    remaining = [zone for zone in zones if position is None or zone >= position.timezone]
    for queries, timezone in enumerate(remaining, 1):
        after = position.after_user_id if position and timezone == position.timezone else None
        page = services.subscriptions.users_of(timezone, after, limit - users)
        for found in _due_to(services, period, timezone, page.user_ids):
            if isinstance(found, Due):
                due.append(found)
            else:
                not_judged.append(found)
        users += len(page.user_ids)
        if page.last_user_id is not None:
            return PreviewPage(due, not_judged, Position(timezone, page.last_user_id))
        if (users >= limit or queries >= MOST_QUERIES) and queries < len(remaining):
            return PreviewPage(due, not_judged, Position(remaining[queries], None))
    return PreviewPage(due, not_judged, None)


def _due_to(
    services: Services, period: Period, timezone: str, user_ids: list[str]
) -> Iterator[Due | NotJudged]:
    as_of = _as_of_run(services, period, timezone)
    now = services.now()
    # Readers need not import it.
    from chalicelib.store.subscriptions import read_subscription

    for user_id, item in services.subscriptions.get_many(user_ids).items():
        reason = None
        try:
            subscription = read_subscription(item)
            reason = not_allocated_because(subscription, services.catalogue)
            account = services.ledger.account(user_id)
            for entry in _all_due(services, account, subscription, as_of, now):
                yield Due(entry, subscription.timezone)
        except (InvalidInput, TimezoneUnknown, Unreadable) as error:
            yield _not_judged(user_id, timezone, reason, error)


def _not_judged(
    user_id: str, timezone: str, reason: NotAllocatedBecause | None, error: CreditsError
) -> NotJudged:
    code, words = (reason.value, reason.words) if reason else (error.code, str(error))
    return NotJudged(user_id, timezone, code, words)


def run_of_user(
    services: Services, period: Period, subscription: Subscription, *, dry_run: bool
) -> PreviewPage:
    """Posts to one user what a run of a period would; a ``dry_run`` only returns it."""
    user_id, timezone = subscription.user_id, subscription.timezone
    as_of, now = _as_of_run(services, period, timezone), services.now()
    reason = not_allocated_because(subscription, services.catalogue)
    try:
        if dry_run:
            account = services.ledger.account(user_id)
            entries = list(_all_due(services, account, subscription, as_of, now))
        else:
            entries = services.ledger.post(
                user_id,
                lambda account: next_due_allocation(services, account, subscription, as_of, now),
            )
    except (InvalidInput, TimezoneUnknown, Unreadable) as error:
        return PreviewPage([], [_not_judged(user_id, timezone, reason, error)], None)
    return PreviewPage([Due(entry, timezone) for entry in entries], [], None)
