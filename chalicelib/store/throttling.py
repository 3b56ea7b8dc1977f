"""Waits when DynamoDB throttles, for as long as an invocation can spare.

DynamoDB refuses calls above the throughput of a table, an index, a partition or the account; they
may succeed a moment later. It does so in four ways: for a request, for one statement of a batch,
for a transaction, and by leaving keys of a batch unprocessed
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html).

The wire sends a request up to four times, however little time the caller has left. So an invocation
says how long it can wait (`patient`). Then it waits here, and our pauses replace those of the wire
(`ask_again`). Outside of `patient` the wire waits as the SDK does.
"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from chalicelib.retries import Pause

from .errors import OutOfTime

MOST_WAITS = 25
"""How often one call is tried while DynamoDB throttles, however much time is left."""

SHORTEST_CEILING = 0.2
LONGEST_CEILING = 4.0
"""Seconds. A pause is at most this long, and at least half of it, so that others get a turn."""

THROTTLES = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
    }
)
"""The codes of requests, of statements
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchStatementError.html) and of
cancelled transactions that were refused for lack of throughput: nothing was carried out."""


class _Patience:
    """How long one invocation can wait. ``left`` returns its remaining time in milliseconds."""

    def __init__(self, left: Callable[[], float], least: float) -> None:
        self._left = left
        self._least = least
        self.is_over = False

    def pause(self, attempt: int) -> float:
        """For how many seconds to wait after attempt number n (1, 2, …). Raises `OutOfTime`."""
        ceiling = min(LONGEST_CEILING, SHORTEST_CEILING * 2 ** min(attempt - 1, 16))
        seconds = random.uniform(ceiling / 2, ceiling)  # noqa: S311 - spreads, guards nothing
        self.is_over = self.is_over or self._left() - seconds * 1000 < self._least
        self.check()
        if attempt >= MOST_WAITS:
            raise OutOfTime(f"DynamoDB has had no room {attempt} times")
        return seconds

    def check(self) -> None:
        """Raises `OutOfTime` once a wait was refused for lack of time."""
        if self.is_over:
            raise OutOfTime("DynamoDB has no room, and there is no time left to wait for it")


_patience: ContextVar[_Patience | None] = ContextVar("patience", default=None)


@contextmanager
def patient(left: Callable[[], float], least: float) -> Iterator[None]:
    """Within the block, throttled calls are repeated until ``least`` milliseconds are left.

    ``left`` returns the remaining milliseconds, as Lambda's context does. The same holds for
    threads that run in a copy of the context.
    """
    token = _patience.set(_Patience(left, least))
    try:
        yield
    finally:
        _patience.reset(token)


def check_patience() -> None:
    """Raises `OutOfTime` if the time ran out for any call: then nothing new begins."""
    if patience := _patience.get():
        patience.check()


def wait_for_room(attempt: int, otherwise: Pause) -> None:
    """Waits after attempt number n (1, 2, …) was throttled; ``otherwise`` waits outside `patient`.

    Raises `OutOfTime`.
    """
    if patience := _patience.get():
        time.sleep(patience.pause(attempt))
    else:
        otherwise(attempt)


def attempts_for_room(pause: Pause) -> Iterator[int]:
    """Counts bounded attempts at a partial operation, waiting before each but the first.

    ``pause`` waits outside `patient`. Raises `OutOfTime`.
    """
    for attempt in range(MOST_WAITS):
        if attempt:
            wait_for_room(attempt, pause)
        yield attempt


def ask_again(code: str, attempt: int) -> float | None:
    """The wire asks after an error: in how many seconds to send the request again.

    None leaves the decision to the wire. Our pauses take precedence, so that none of the wire's
    outlasts an invocation. Raises `OutOfTime`.
    """
    patience = _patience.get()
    return patience.pause(attempt) if patience and code in THROTTLES else None
