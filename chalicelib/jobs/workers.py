"""The workers: post the allocations and expirations of the users in a message.

For each user, the workers decide from the subscription and the last ledger entry whether something
is due. So a message can safely come several times.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import cache, partial
from typing import Any

from chalicelib.domain import calendar, ledger
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account
from chalicelib.domain.subscriptions import Subscription
from chalicelib.messages.work import UsersMessage
from chalicelib.metrics import Metric, count
from chalicelib.observability import logger
from chalicelib.operations.allocations import next_due_allocation
from chalicelib.queues import chunks
from chalicelib.services import Services
from chalicelib.store.ledger import INSERTS_A_REQUEST, DecideOrStop, Draft, draft
from chalicelib.store.subscriptions import read_subscription

from .records import Answer, Event, handle_records, handling_users


def allocate_accounts(services: Services, event: Event, context: Any) -> Answer:
    """Grants all periods due to the users in an SQS event; returns the failed records."""
    url = services.settings.allocations_queue_url
    return handle_records(
        services, url, event, context, UsersMessage.parse, partial(_allocate, services)
    )


def expire_batches(services: Services, event: Event, context: Any) -> Answer:
    """Books out the expired batches of the users in an SQS event; returns the failed records."""
    url = services.settings.expiries_queue_url
    return handle_records(
        services, url, event, context, UsersMessage.parse, partial(_expire, services)
    )


def _allocate(services: Services, message: UsersMessage) -> None:
    now = services.now()
    subscriptions = services.subscriptions.get_many(message.user_ids)

    @cache
    def subscription_of(user_id: str) -> Subscription:
        return read_subscription(subscriptions[user_id])

    def next_allocation(account: Account) -> LedgerEntry | None:
        subscription = subscription_of(account.user_id)
        return next_due_allocation(services, account, subscription, message.as_of, now)

    posted: list[LedgerEntry] = []
    try:
        _post(services, subscriptions, next_allocation, posted)
    finally:
        _log("allocated", message, posted)
        _count_allocations(posted, message.as_of)


def _expire(services: Services, message: UsersMessage) -> None:
    now = services.now()
    posted: list[LedgerEntry] = []
    try:
        user_ids = dict.fromkeys(message.user_ids)
        _post(services, user_ids, lambda account: ledger.expire(account, now), posted)
    finally:
        _log("expired", message, posted)


def _post(
    services: Services, user_ids: Iterable[str], decide: DecideOrStop, posted: list[LedgerEntry]
) -> None:
    """Posts to each user what ``decide`` wants, until it wants no more; adds it to ``posted``.

    Entries of different users share a request. If an entry was refused, its user is read and
    decided again, alone. A throttled entry is inserted again unchanged, with the next entries.
    """
    store = services.ledger
    waits = 0
    with handling_users(services.threads) as users:
        drafts = users.each(user_ids, lambda user_id: draft(store.account(user_id), decide), _alone)
        wanted = [each for each in drafts if each]
        while wanted:
            batches = list(chunks(wanted, INSERTS_A_REQUEST))
            inserted = users.each(batches, store.insert, _users_of)
            appended = [each for batch in inserted for each in batch.appended]
            posted.extend(each.entry for each in appended)
            refused = [each for batch in inserted for each in batch.refused]
            for entries in users.each(
                refused, lambda each: store.post(each.entry.user_id, decide, each), _user_of
            ):
                posted.extend(entries)
            # A user who missed several months gets another entry.
            drafts = users.each(appended, lambda each: draft(each.account, decide), _user_of)
            throttled = [each for batch in inserted for each in batch.throttled]
            # The pause grows only while most entries are throttled.
            waits = waits + 1 if len(throttled) > len(appended) else 1
            again = users.once_there_is_room(waits, throttled, _user_of)
            wanted = [*again, *(each for each in drafts if each)]


def _alone(user_id: str) -> list[str]:
    return [user_id]


def _user_of(each: Draft) -> list[str]:
    return [each.entry.user_id]


def _users_of(drafts: Iterable[Draft]) -> list[str]:
    return [each.entry.user_id for each in drafts]


def _count_allocations(posted: list[LedgerEntry], as_of: datetime) -> None:
    """Counts the entries of a message, even if some of its users failed."""
    if not posted:
        return
    lateness = max(entry.posted_at - entry.effective_at for entry in posted)
    count(Metric.ALLOCATION_LATENESS, lateness.total_seconds())
    # The first sweep is that of the tick in whose quarter of an hour the month began.
    repaired = sum(as_of - entry.effective_at >= calendar.TICK for entry in posted)
    if repaired:
        count(Metric.ALLOCATIONS_REPAIRED, repaired)


def _log(what: str, message: UsersMessage, posted: list[LedgerEntry]) -> None:
    logger().info(
        what,
        users=len(message.user_ids),
        users_changed=len({entry.user_id for entry in posted if entry.amount}),
        credits=sum(entry.amount for entry in posted),
    )
