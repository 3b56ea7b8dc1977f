"""A client of DynamoDB: sends an operation with its parameters, and returns the answer.

Parameters and answers are DynamoDB's own JSON
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/Welcome.html): numbers are text, and
binary values are base64. DynamoDB checks the parameters; the SDK would check them before sending.
"""

import json
import os
import time
import zlib
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any
from urllib.parse import quote

from .credentials import Source
from .errors import NoAnswer, ServiceError
from .exchange import Answer
from .retrying import Quota, cost_of, is_passing, pause_after
from .signing import signed
from .transport import Transport

Json = dict[str, Any]

MOST_ATTEMPTS = 4

ONCE = frozenset({"ExecuteTransaction", "TransactWriteItems"})
"""The operations that take a token: DynamoDB carries out each token once, however often it is sent.
"""

SKEWED = frozenset(
    {
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""AWS's codes for a wrong time of signing; they have other causes, too."""

MOST_SKEW_SECONDS = 240
"""AWS refuses clocks that are 5 minutes off; a clock less off than this is not the cause."""

AskAgain = Callable[[str, int], float | None]
"""In how many seconds to send again after an error's code at attempt number n; None: as usual."""


class Client:
    """Calls operations, from any thread. ``ask_again`` can replace the usual pauses and limits."""

    def __init__(
        self,
        region: str,
        transport: Transport,
        credentials: Source,
        ask_again: AskAgain = lambda _code, _attempt: None,
        user_agent: str = "credits",
    ) -> None:
        self.transport = transport
        self.quota = Quota()
        self._region = region
        self._credentials = credentials
        self._ask_again = ask_again
        self._user_agent = user_agent
        self._skew = 0.0

    def call(self, operation: str, parameters: Mapping[str, Any]) -> Json:
        """DynamoDB's answer. Raises `WireError`, and what credentials and ``ask_again`` raise.

        Every attempt sends the same bytes, with the same token, signed anew.
        """
        if operation in ONCE and "ClientRequestToken" not in parameters:
            parameters = {**parameters, "ClientRequestToken": os.urandom(16).hex()}
        body = json.dumps(parameters).encode()
        taken = 1
        for attempt in count(1):
            try:
                said = self._attempt(operation, body)
            except (NoAnswer, ServiceError) as failure:
                pause, cost = self._pause(failure, attempt)
                if pause is None:
                    raise
                taken = cost or taken
            else:
                self.quota.give_back(taken)
                break
            time.sleep(pause)
        return said

    def _pause(self, failure: NoAnswer | ServiceError, attempt: int) -> tuple[float | None, int]:
        """The pause before the next attempt, None if there is none; and its cost."""
        if isinstance(failure, ServiceError):
            pause = self._ask_again(failure.code, attempt)
            if pause is not None:
                return pause, 0
        if attempt >= MOST_ATTEMPTS:
            return None, 0
        if isinstance(failure, _Skewed):
            return 0.0, 0
        cost = cost_of(failure)
        if not is_passing(failure) or not self.quota.take(cost):
            return None, 0
        return pause_after(attempt), cost

    def _attempt(self, operation: str, body: bytes) -> Json:
        headers = {
            "content-type": "application/x-amz-json-1.0",
            "host": self.transport.endpoint.host,
            "x-amz-target": f"DynamoDB_20120810.{operation}",
        }
        now = time.time() + self._skew
        headers = signed(self._credentials(), self._region, "dynamodb", headers, body, now)
        answer = self.transport.send({**headers, "user-agent": self._user_agent, **_trace()}, body)
        expected = answer.headers.get("x-amz-crc32")
        if expected is not None and expected != str(zlib.crc32(answer.body)):
            raise NoAnswer("DynamoDB's answer was damaged on its way")
        if 200 <= answer.status < 300:
            return _read(answer)
        error = _error(operation, answer)
        if error.code in SKEWED and self._is_corrected(answer, now):
            raise _Skewed(operation, error.status, error.code, error.said)
        raise error

    def _is_corrected(self, answer: Answer, signed_at: float) -> bool:
        """Whether our clock was the cause; if so, AWS's clock is used from now on."""
        from email.utils import parsedate_to_datetime

        try:
            theirs = parsedate_to_datetime(answer.headers["date"]).timestamp()
        except (KeyError, ValueError):
            return False
        if abs(theirs - signed_at) < MOST_SKEW_SECONDS:
            return False
        self._skew = theirs - time.time()
        return True


class _Skewed(ServiceError):
    """The request was refused because of our clock, which is no longer used."""


def _read(answer: Answer) -> Json:
    try:
        said = json.loads(answer.body)
    except ValueError as error:
        raise NoAnswer("DynamoDB's answer is no JSON") from error
    if not isinstance(said, dict):
        raise NoAnswer("DynamoDB's answer is no object")
    return said


def _error(operation: str, answer: Answer) -> ServiceError:
    """The error of an answer, whether it came from DynamoDB or from something in between."""
    try:
        said = json.loads(answer.body or b"{}")
    except ValueError:
        said = {}
    if not isinstance(said, dict):
        said = {}
    code = str(said.get("__type", answer.status)).split(":", 1)[0].rpartition("#")[2]
    if code in SKEWED:
        # The lines after it may be the headers as AWS saw them, with the session's token.
        said = {"message": str(said.get("message", said.get("Message", ""))).partition("\n")[0]}
    return ServiceError(operation, answer.status, code, said)


def _trace() -> dict[str, str]:
    """The header that connects the traces of X-Ray, and by which Lambda notices a loop."""
    trace = os.environ.get("_X_AMZN_TRACE_ID")
    if not trace or "AWS_LAMBDA_FUNCTION_NAME" not in os.environ:
        return {}
    return {"x-amzn-trace-id": quote(trace, safe="-=;:+&[]{}\"',")}
