"""A talk: the steps until a request has its final answer, without performing them.

A talk is a generator. It yields the next step, receives its outcome, and returns the answer or
raises why there is none. The two clients perform these steps, one in sync code and one in async.
"""

from __future__ import annotations

import email.utils
import logging
import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, TypeVar

import httpx

from .errors import APIError, CreditsError, NoAnswer, NoToken, Timeout, Unreachable, of_problem
from .reading import Unreadable
from .routes import Request, problem

T = TypeVar("T")

log = logging.getLogger("credits_client")

PASSING = frozenset({409, 429, 502, 503, 504})
"""The statuses of temporary problems, of the API or of what is in front of it: try again later.

500 is not one of them: it is a mistake in the API or in the stored data, and comes again.
"""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""With these, the request has not left this machine."""

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0


@dataclass(frozen=True)
class Ask:
    """Get a token; ``refused`` is the one that the API has just refused."""

    refused: str | None


@dataclass(frozen=True)
class Send:
    """Send this, and report the answer."""

    request: httpx.Request


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds."""

    seconds: float


Step = Ask | Send | Pause
Talk = Generator[Step, Any, T]


@dataclass(frozen=True)
class Manners:
    """How a client talks to the API.

    ``attempts``: how often one request is sent at most. ``patience``: no further attempt begins
    later than this many seconds after the first.
    """

    attempts: int
    patience: float
    clock: Callable[[], float]
    random: Callable[[], float]

    def talk(self, request: Request[T], built: Callable[[str | None], httpx.Request]) -> Talk[T]:
        """Sends a request until it has a final answer; ``built`` makes it, with a token.

        A refused token is renewed once, and the request sent once more: that does not count as an
        attempt.
        """
        began = self.clock()
        attempt = 1
        token: str | None = None
        refused: str | None = None
        failure: CreditsError | None = None
        while True:
            try:
                if token is None and not request.is_public:
                    token = yield Ask(refused)
                    if failure is not None and token == refused:
                        raise failure
                response: httpx.Response = yield Send(built(token))
            except (httpx.RequestError, NoToken) as error:
                failure, pause_asked = _failure_of(error, request), 0.0
                may_repeat = _may_repeat(error, request)
            else:
                if response.is_success:
                    return _answer(request, response)
                failure, pause_asked = _refusal(request, response), _retry_after(response)
                if response.status_code == 401 and token is not None and refused is None:
                    refused, token = token, None
                    continue
                may_repeat = response.status_code in PASSING and (
                    request.is_repeatable or isinstance(failure, APIError)
                )
            pause = self._pause(attempt, pause_asked)
            elapsed = self.clock() - began
            if not may_repeat or attempt >= self.attempts or elapsed + pause > self.patience:
                raise failure
            attempt += 1
            # The route and not the path, because a path names a user.
            log.info(
                "%s %s: %s; attempt %d of %d follows in %.2f s",
                *(request.method, request.route, _name(failure), attempt, self.attempts, pause),
            )
            yield Pause(pause)

    def _pause(self, attempt: int, asked: float) -> float:
        """How many seconds to wait after an attempt: a random part of a span that doubles.

        The whole span is random, so that clients that failed together do not come back together.
        The wait that the API asks for comes on top.
        """
        span: float = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
        return asked + span * self.random()


def _answer(request: Request[T], response: httpx.Response) -> T:
    try:
        return request.read(response)
    except Unreadable as error:
        raise NoAnswer(_foreign(request, response, error)) from error


def _refusal(request: Request[T], response: httpx.Response) -> CreditsError:
    try:
        found = of_problem(problem(response))
    except Unreadable as error:
        return NoAnswer(_foreign(request, response, error))
    if response.status_code == 504:  # API Gateway's wait timed out: it may have been done
        return Timeout(f"{request.method} {request.route} was not answered: {found.detail}")
    return found


def _foreign(request: Request[T], response: httpx.Response, error: Unreadable) -> str:
    return (
        f"{request.method} {request.route}: an answer {response.status_code} that is not the "
        f"API's ({error})"
    )


def _failure_of(error: httpx.RequestError | NoToken, request: Request[T]) -> CreditsError:
    if isinstance(error, NoToken):
        return error
    kind = Timeout if isinstance(error, httpx.TimeoutException) else Unreachable
    failure = kind(f"{request.method} {request.route} was not answered: {error!r}")
    failure.__cause__ = error
    return failure


def _may_repeat(error: httpx.RequestError | NoToken, request: Request[T]) -> bool:
    if isinstance(error, NoToken):
        return error.is_passing
    if isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return False  # it will be wrong again
    return request.is_repeatable or isinstance(error, NEVER_SENT)


def _name(failure: CreditsError) -> str:
    return failure.code if isinstance(failure, APIError) else type(failure).__name__


def _retry_after(response: httpx.Response) -> float:
    """How many seconds an answer asks to wait: a number, or until a date (RFC 9110)."""
    text = response.headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            until = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return 0.0
        seconds = (until - datetime.now(timezone.utc)).total_seconds() if until.tzinfo else 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else 0.0
