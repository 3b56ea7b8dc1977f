"""Handling a batch of SQS records one by one, and telling SQS which of them failed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from chalicelib.domain.errors import CreditsError
from chalicelib.observability import correlated, logger
from chalicelib.queues import chunks
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
Part = TypeVar("Part")
Result = TypeVar("Result")


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


class Users:
    """Work for many users, some of them at a time; one user's failure stops nobody else."""

    def __init__(self, pool: Executor, threads: int) -> None:
        self._pool = pool
        self._threads = threads
        self._context = copy_context()  # threads begin without the correlation id
        self.failures: dict[str, str] = {}

    def each(
        self,
        parts: Iterable[Part],
        handle: Callable[[Part], Result],
        users_of: Callable[[Part], Iterable[str]],
    ) -> list[Result]:
        """What ``handle`` answers to the parts, without those that failed, in their order.

        ``users_of`` says which users' work a part is: they are the ones whose failure it is.
        """

        def attempt(part: Part) -> Iterator[Result]:
            try:
                yield handle(part)
            except FAILURES as error:
                self.failures.update(dict.fromkeys(users_of(part), describe_failure(error)))

        def attempt_all(share: list[Part]) -> list[Result]:
            return [answer for part in share for answer in attempt(part)]

        # A task for each thread and not for each user: handing out tasks costs, too.
        waiting = list(parts)
        shares = chunks(waiting, max(1, -(-len(waiting) // self._threads)))
        done = self._pool.map(lambda share: self._context.copy().run(attempt_all, share), shares)
        return [answer for answers in done for answer in answers]


@contextmanager
def handling_users(threads: int) -> Iterator[Users]:
    """Within the block, users can be worked for; behind it `SomeUsersFailed` says who failed."""
    with ThreadPoolExecutor(threads) as pool:
        users = Users(pool, threads)
        yield users
    if users.failures:
        first = dict(sorted(users.failures.items())[:10])
        raise SomeUsersFailed(f"{len(users.failures)} users failed, such as {first}")


def describe_failure(error: Exception) -> str:
    """A failure as logs show it."""
    return f"{type(error).__name__}: {error}"
