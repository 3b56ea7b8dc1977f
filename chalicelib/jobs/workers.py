"""The workers: post the allocations and expirations of the users in a message.

Whether something is due is decided from the subscription and the last ledger entry, again and for
everybody, however often the message comes: that is what makes a delivery safe to repeat.
"""

from chalicelib.allocations import next_due_allocation
from chalicelib.domain import ledger
from chalicelib.messages import UsersMessage
from chalicelib.observability import logger
from chalicelib.services import Services

from .records import Answer, Event, for_each_user, handle_records


def allocate_accounts(services: Services, event: Event) -> Answer:
    """Grants every period that is due to the users in an SQS event; answers what failed."""
    return handle_records(event, lambda body: _allocate(services, UsersMessage.parse(body)))


def expire_batches(services: Services, event: Event) -> Answer:
    """Books out the expired batches of the users in an SQS event; answers what failed."""
    return handle_records(event, lambda body: _expire(services, UsersMessage.parse(body)))


def _allocate(services: Services, message: UsersMessage) -> None:
    now = services.posting_time(message.as_of)
    as_of = min(message.as_of, now)
    subscriptions = services.subscriptions.get_many(message.user_ids)

    def allocate(user_id: str) -> int:
        subscription = subscriptions[user_id]
        posted = services.ledger.post(
            user_id,
            lambda account: next_due_allocation(services, account, subscription, as_of, now),
        )
        return sum(entry.amount for entry in posted)

    amounts = for_each_user(services.threads, subscriptions, allocate)
    _log("allocated", message, amounts)


def _expire(services: Services, message: UsersMessage) -> None:
    now = services.posting_time(message.as_of)

    def expire(user_id: str) -> int:
        posted = services.ledger.post(user_id, lambda account: ledger.expire(account, now))
        return sum(entry.amount for entry in posted)

    amounts = for_each_user(services.threads, dict.fromkeys(message.user_ids), expire)
    _log("expired", message, amounts)


def _log(what: str, message: UsersMessage, amounts: list[int]) -> None:
    logger().info(
        what,
        users=len(message.user_ids),
        users_changed=sum(1 for amount in amounts if amount),
        credits=sum(amounts),
    )
