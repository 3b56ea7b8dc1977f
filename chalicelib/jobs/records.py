"""Handling a batch of SQS records one by one, and telling SQS which of them failed."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from chalicelib.domain.errors import CreditsError
from chalicelib.observability import logger
from chalicelib.store.database import FAULTS

FAILURES = (CreditsError, *FAULTS)
"""What handling one record or user can come to; anything else is a bug of ours and fails it all."""

Event = Mapping[str, Any]
Answer = dict[str, list[dict[str, str]]]


class SomeUsersFailed(CreditsError):
    """Some users of a message could not be handled; the others were."""

    code = "some_users_failed"


def handle_records(event: Event, handle: Callable[[str], None]) -> Answer:
    """Hands each record's body to ``handle`` and reports those that failed, and only those.

    SQS delivers the failed ones again and, when they keep failing, moves them to the dead-letter
    queue with their body intact.
    """
    failed = []
    for record in event["Records"]:
        try:
            handle(record["body"])
        except FAILURES as error:
            logger().error(
                "message failed", message_id=record["messageId"], error=describe_failure(error)
            )
            failed.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failed}


def for_each_user(threads: int, user_ids: Iterable[str], handle: Callable[[str], int]) -> list[int]:
    """Runs ``handle`` for ``threads`` users at a time and answers its results.

    One user's failure stops nobody else; at the end `SomeUsersFailed` says who failed and why.
    """
    failures: dict[str, str] = {}

    def attempt(user_id: str) -> int:
        try:
            return handle(user_id)
        except FAILURES as error:
            failures[user_id] = describe_failure(error)
            return 0

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(attempt, user_ids))
    if failures:
        first = dict(sorted(failures.items())[:10])
        raise SomeUsersFailed(f"{len(failures)} of {len(results)} users failed, such as {first}")
    return results


def describe_failure(error: Exception) -> str:
    """A failure as logs show it."""
    return f"{type(error).__name__}: {error}"
