"""The workers: post the allocations and expirations of the users in a message.

Whether something is due is decided from the subscription and the last ledger entry, again and for
everybody, however often the message comes: that is what makes a delivery safe to repeat.
"""

from datetime import datetime

from chalicelib.allocations import next_due_allocation
from chalicelib.domain import calendar, ledger
from chalicelib.domain.ledger import LedgerEntry
from chalicelib.messages import UsersMessage
from chalicelib.metrics import Metric, count
from chalicelib.observability import logger
from chalicelib.services import Services

from .records import Answer, Event, for_each_user, handle_records


def allocate_accounts(services: Services, event: Event) -> Answer:
    """Grants every period that is due to the users in an SQS event; answers what failed."""
    return handle_records(event, UsersMessage.parse, lambda message: _allocate(services, message))


def expire_batches(services: Services, event: Event) -> Answer:
    """Books out the expired batches of the users in an SQS event; answers what failed."""
    return handle_records(event, UsersMessage.parse, lambda message: _expire(services, message))


def _allocate(services: Services, message: UsersMessage) -> None:
    now = services.posting_time(message.as_of)
    as_of = min(message.as_of, now)
    subscriptions = services.subscriptions.get_many(message.user_ids)
    posted: list[LedgerEntry] = []

    def allocate(user_id: str) -> None:
        subscription = subscriptions[user_id]
        posted.extend(
            services.ledger.post(
                user_id,
                lambda account: next_due_allocation(services, account, subscription, as_of, now),
            )
        )

    try:
        for_each_user(services.threads, subscriptions, allocate)
    finally:
        _log("allocated", message, posted)
        _count_allocations(posted, message.as_of)


def _expire(services: Services, message: UsersMessage) -> None:
    now = services.posting_time(message.as_of)
    posted: list[LedgerEntry] = []

    def expire(user_id: str) -> None:
        posted.extend(services.ledger.post(user_id, lambda account: ledger.expire(account, now)))

    try:
        for_each_user(services.threads, dict.fromkeys(message.user_ids), expire)
    finally:
        _log("expired", message, posted)


def _count_allocations(posted: list[LedgerEntry], as_of: datetime) -> None:
    """Counts what a message posted, also where some of its users failed."""
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
