"""Handling a batch of SQS records one by one, and telling SQS which of them failed.

What is throttled is waited for while the invocation has time. What then failed comes back soon, and
later each time: SQS counts every receive, and throttling alone must not use them up. A message that
comes back is handled anew; a user who was handled before costs one read.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from contextvars import copy_context
from typing import Any, Protocol, TypeVar

from chalicelib.domain.errors import Unreadable
from chalicelib.invocations import unexpected
from chalicelib.observability import correlated, logger
from chalicelib.queues import chunks
from chalicelib.services import Services
from chalicelib.store.errors import FAULTS
from chalicelib.store.throttling import check_patience, patient, wait_for_room

from .errors import FAILURES, SomeUsersFailed, describe_failure, is_passing

TIME_TO_HAND_BACK = 5_000
"""Milliseconds before its timeout at which a function stops waiting and hands back what is left."""

FIRST_DELAY = 5
LONGEST_DELAY = 300
"""Seconds. What fails in passing comes back after at most the first, then twice that, up to the
longest, and after at least half of it. `MaximumReceives` of them outlast the half an hour in which
an on-demand table doubles (docs/decisions.md)."""

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


def waiting(context: Any) -> AbstractContextManager[None]:
    """Within the block, DynamoDB is waited for as long as the invocation has time for it."""
    return patient(context.get_remaining_time_in_millis, TIME_TO_HAND_BACK)


def handle_records(
    services: Services,
    queue_url: str,
    event: Event,
    context: Any,
    parse: Callable[[str], AnyMessage],
    handle: Callable[[AnyMessage], None],
) -> Answer:
    """Hands each record's message to ``handle`` and reports those that failed, and only those.

    What is done for a message has its correlation id, or SQS's id of a message that has none.
    SQS delivers the failed ones again and, when they keep failing, moves them to the dead-letter
    queue with their body intact. Messages received most often come first: none is always too late.
    """
    delays: dict[str, int] = {}
    failed: list[dict[str, str]] = []
    with waiting(context):
        for record in sorted(event["Records"], key=receives_of, reverse=True):
            with correlated(record["messageId"]):
                operation: str | None = None
                try:
                    message = parse(record["body"])
                    operation = message.correlation_id
                    with correlated(operation):
                        check_patience()
                        handle(message)
                except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                    delay = _delay(services, error, receives_of(record))
                    with correlated(operation):
                        note(error, message_id=record["messageId"])
                        _log_failure(record, error, delay)
                    delays[record["receiptHandle"]] = delay
                    failed.append({"itemIdentifier": record["messageId"]})
    hand_back(services, queue_url, delays)
    return {"batchItemFailures": failed}


def receives_of(record: Mapping[str, Any]) -> int:
    """How often a message was delivered, this time included."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def growing_delay(receives: int, first: int, longest: int) -> int:
    """Seconds after which to try again: ``first`` at most, twice that after each further receive.

    Never less than half of it, so that the delays together outlast what they are for.
    """
    ceiling = min(longest, first * 2 ** min(receives - 1, 16))
    return random.randint((ceiling + 1) // 2, ceiling)  # noqa: S311 - spreads, guards nothing


def hand_back(services: Services, queue_url: str, delays: Mapping[str, int]) -> None:
    """Lets messages that failed, by their receipt handles, come back after so many seconds."""
    if not delays:
        return  # and no client of SQS is made
    try:
        services.queues.delay(queue_url, delays)
    except FAULTS as error:
        # They come back all the same, when the queue's own timeout is over.
        logger().warning("messages not delayed", error=describe_failure(error))


def _delay(services: Services, error: Exception, receives: int) -> int:
    if is_passing(error):
        return growing_delay(receives, FIRST_DELAY, LONGEST_DELAY)
    # Waiting mends nothing: it is on its way to the dead-letter queue.
    return services.settings.retry_seconds


def _log_failure(record: Mapping[str, Any], error: Exception, delay: int) -> None:
    log = logger().warning if is_passing(error) else logger().error
    log(
        "message failed",
        message_id=record["messageId"],
        error=describe_failure(error),
        receives=receives_of(record),
        again_in_seconds=delay,
    )


def in_this_context(call: Callable[[Part], Result]) -> Callable[[Part], Result]:
    """A call for threads, which begin without the correlation id and without patience."""
    context = copy_context()
    return lambda part: context.copy().run(call, part)


class Users:
    """Work for many users, some of them at a time; one user's failure does not stop the others."""

    def __init__(self, pool: Executor, threads: int) -> None:
        self._pool = pool
        self._threads = threads
        self.failures: dict[str, Exception] = {}

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
                check_patience()
                yield handle(part)
            except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                users = list(users_of(part))
                note(error, users=users)
                self.failures.update(dict.fromkeys(users, error))

        def attempt_all(share: list[Part]) -> list[Result]:
            return [answer for part in share for answer in attempt(part)]

        # A task for each thread and not for each user: handing out tasks costs, too.
        waiting = list(parts)
        shares = chunks(waiting, max(1, -(-len(waiting) // self._threads)))
        done = self._pool.map(in_this_context(attempt_all), shares)
        return [answer for answers in done for answer in answers]

    def once_there_is_room(
        self, attempt: int, throttled: Sequence[Part], users_of: Callable[[Part], Iterable[str]]
    ) -> list[Part]:
        """What was throttled, after a pause; nothing where there is no time, and it has failed."""

        def wait(parts: Sequence[Part]) -> Sequence[Part]:
            wait_for_room(attempt, lambda _: None)
            return parts

        def everybody(parts: Sequence[Part]) -> list[str]:
            return [user for part in parts for user in users_of(part)]

        waited = self.each([throttled] if throttled else [], wait, everybody)
        return [part for parts in waited for part in parts]


@contextmanager
def handling_users(threads: int) -> Iterator[Users]:
    """Within the block, users can be worked for; behind it `SomeUsersFailed` says who failed."""
    with ThreadPoolExecutor(threads) as pool:
        users = Users(pool, threads)
        yield users
    if users.failures:
        raise SomeUsersFailed(users.failures)


def note(error: Exception, **about: Any) -> None:
    """Reports an unexpected failure of one of many."""
    if isinstance(error, Unreadable) or not isinstance(error, FAILURES):
        unexpected(error, **about)
