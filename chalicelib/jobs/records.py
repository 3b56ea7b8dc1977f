"""Handling a batch of SQS records one by one, and telling SQS which of them failed."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from chalicelib.domain.errors import CreditsError
from chalicelib.observability import correlated, logger
from chalicelib.store.database import FAULTS

FAILURES = (CreditsError, *FAULTS)
"""What handling one record or user can come to; anything else is a bug of ours and fails it all."""

Event = Mapping[str, Any]
Answer = dict[str, list[dict[str, str]]]


class Message(Protocol):
    """What every message of a queue is."""

    @property
    def correlation_id(self) -> str | None:
        """The operation it belongs to; None in a message from before there were any."""


AnyMessage = TypeVar("AnyMessage", bound=Message)


class SomeUsersFailed(CreditsError):
    """Some users of a message could not be handled; the others were."""

    code = "some_users_failed"


def handle_records(
    event: Event, parse: Callable[[str], AnyMessage], handle: Callable[[AnyMessage], None]
) -> Answer:
    """Hands each record's message to ``handle`` and reports those that failed, and only those.

    What is done for a message has its correlation id, or SQS's id of a message that has none.
    SQS delivers the failed ones again and, when they keep failing, moves them to the dead-letter
    queue with their body intact.
    """
    failed = []
    for record in event["Records"]:
        message_id = record["messageId"]
        with correlated(message_id):
            try:
                message = parse(record["body"])
            except FAILURES as error:
                failed.append(_failed(message_id, error))
                continue
            with correlated(message.correlation_id):
                try:
                    handle(message)
                except FAILURES as error:
                    failed.append(_failed(message_id, error))
    return {"batchItemFailures": failed}


def _failed(message_id: str, error: Exception) -> dict[str, str]:
    logger().error("message failed", message_id=message_id, error=describe_failure(error))
    return {"itemIdentifier": message_id}


def for_each_user(threads: int, user_ids: Iterable[str], handle: Callable[[str], object]) -> None:
    """Runs ``handle`` for ``threads`` users at a time.

    One user's failure stops nobody else; at the end `SomeUsersFailed` says who failed and why.
    """
    failures: dict[str, str] = {}
    context = copy_context()  # threads begin without the correlation id

    def attempt(user_id: str) -> None:
        try:
            context.copy().run(handle, user_id)
        except FAILURES as error:
            failures[user_id] = describe_failure(error)

    with ThreadPoolExecutor(threads) as pool:
        users = len(list(pool.map(attempt, user_ids)))
    if failures:
        first = dict(sorted(failures.items())[:10])
        raise SomeUsersFailed(f"{len(failures)} of {users} users failed, such as {first}")


def describe_failure(error: Exception) -> str:
    """A failure as logs show it."""
    return f"{type(error).__name__}: {error}"
