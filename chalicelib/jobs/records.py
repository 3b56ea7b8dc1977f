"""Handles a batch of SQS records one by one, and tells SQS which of them failed.

A throttled call is repeated while the invocation has time. A record that still fails comes back,
after growing delays: SQS counts every receive, and throttling alone must not use them up. A message
that comes back is handled again; a user who was handled before costs one read.
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
from chalicelib.store.errors import faults
from chalicelib.store.throttling import check_patience, patient, wait_for_room

from .errors import SomeUsersFailed, describe_failure, failures, is_passing

TIME_TO_HAND_BACK = 5_000
"""How long before its timeout a function stops waiting and returns the rest, in milliseconds."""

FIRST_DELAY = 5
LONGEST_DELAY = 300
"""Seconds. After a temporary failure a record comes back after at most the first delay, then twice
that, and so on up to this, but never before half of each. `MaximumReceives` such delays outlast the
half hour in which an on-demand table doubles its capacity (docs/decisions.md)."""

Event = Mapping[str, Any]
Answer = dict[str, list[dict[str, str]]]


class Message(Protocol):
    """The properties of every message of a queue."""

    @property
    def correlation_id(self) -> str | None:
        """The id of its operation; None in a message from an old release."""


AnyMessage = TypeVar("AnyMessage", bound=Message)
Part = TypeVar("Part")
Result = TypeVar("Result")


def waiting(context: Any) -> AbstractContextManager[None]:
    """Within the block, throttled calls of DynamoDB are repeated while the invocation has time."""
    return patient(context.get_remaining_time_in_millis, TIME_TO_HAND_BACK)


def handle_records(
    services: Services,
    queue_url: str,
    event: Event,
    context: Any,
    parse: Callable[[str], AnyMessage],
    handle: Callable[[AnyMessage], None],
) -> Answer:
    """Hands each record's message to ``handle`` and reports only those that failed.

    The work for a message has its correlation id; without one, SQS's id of the message. SQS
    delivers failed messages again. If they keep failing, it moves them to the dead-letter queue
    with their body intact. The messages received most often are handled first, so that no message
    is always too late.
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
                    delay = delay_of(services, error, receives_of(record))
                    with correlated(operation):
                        note(error, message_id=record["messageId"])
                        _log_failure(record, error, delay)
                    delays[record["receiptHandle"]] = delay
                    failed.append({"itemIdentifier": record["messageId"]})
    hand_back(services, queue_url, delays)
    return {"batchItemFailures": failed}


def receives_of(record: Mapping[str, Any]) -> int:
    """How often a message was delivered, including this time."""
    return int(record["attributes"]["ApproximateReceiveCount"])


def growing_delay(receives: int, first: int, longest: int) -> int:
    """Seconds before the next try: at most ``first``, doubled for each further receive.

    Never less than half of that, so that the delays together are long enough.
    """
    ceiling = min(longest, first * 2 ** min(receives - 1, 16))
    return random.randint((ceiling + 1) // 2, ceiling)  # noqa: S311 - spreads, guards nothing


def hand_back(services: Services, queue_url: str, delays: Mapping[str, int]) -> None:
    """Makes failed messages, by their receipt handles, come back after the given seconds."""
    if not delays:
        return  # and no client of SQS is made
    try:
        services.queues.delay(queue_url, delays)
    except faults() as error:
        # They come back anyway, when the queue's own timeout is over.
        logger().warning("messages not delayed", error=describe_failure(error))


def delay_of(services: Services, error: Exception, receives: int) -> int:
    """The number of seconds after which a failed message comes back."""
    if is_passing(error):
        return growing_delay(receives, FIRST_DELAY, LONGEST_DELAY)
    # Waiting does not help: the message is on its way to the dead-letter queue.
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
    """A call for threads, which otherwise lack the correlation id and the patience."""
    context = copy_context()
    return lambda part: context.copy().run(call, part)


class Users:
    """Work for many users, some at a time; one user's failure does not stop the others."""

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
        """The results of ``handle`` for the parts, in order, without failed ones.

        ``users_of`` names the users of a part: if the part fails, they have failed.
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

        # A task for each thread and not for each user: handing out tasks costs time, too.
        waiting = list(parts)
        shares = chunks(waiting, max(1, -(-len(waiting) // self._threads)))
        done = self._pool.map(in_this_context(attempt_all), shares)
        return [answer for answers in done for answer in answers]

    def once_there_is_room(
        self, attempt: int, throttled: Sequence[Part], users_of: Callable[[Part], Iterable[str]]
    ) -> list[Part]:
        """The throttled parts, after a pause; if no time is left, they fail, and none remain."""

        def wait(parts: Sequence[Part]) -> Sequence[Part]:
            wait_for_room(attempt, lambda _: None)
            return parts

        def everybody(parts: Sequence[Part]) -> list[str]:
            return [user for part in parts for user in users_of(part)]

        waited = self.each([throttled] if throttled else [], wait, everybody)
        return [part for parts in waited for part in parts]


@contextmanager
def handling_users(threads: int) -> Iterator[Users]:
    """Lets the block work for users; after it, `SomeUsersFailed` names those who failed."""
    with ThreadPoolExecutor(threads) as pool:
        users = Users(pool, threads)
        yield users
    if users.failures:
        raise SomeUsersFailed(users.failures)


def note(error: Exception, **about: Any) -> None:
    """Reports an unexpected failure of one of many."""
    if isinstance(error, Unreadable) or not isinstance(error, failures()):
        unexpected(error, **about)
