"""Turns API Gateway's request into its response: the steps that all routes share.

    request ─► dress ─► Chalice's routing ─► respond ─► the route
                 ▲                             │
                 └── headers of every answer ◄─┴── refusals and outages as problems

Chalice itself answers bugs, and methods that no route has, in its own format; `dress` turns those
answers into problems, too.
"""

import json
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from chalice.app import Request, Response

from chalicelib.domain.errors import CreditsError, Unreadable
from chalicelib.invocations import unexpected
from chalicelib.observability import correlated, logger
from chalicelib.services import services
from chalicelib.store.throttling import patient

from . import problems, trail
from .answers import Answer
from .calls import Call

View = Callable[[Call], Answer]

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of every answer, unless the route sets its own."""

LONGEST_WAIT = 5_000
"""How long a request may wait for throttled DynamoDB, in milliseconds since its start. Then the
caller is told to retry later, long before the function or the caller gives up."""


def respond(request: Request, view: View) -> Response:
    """Answers a request with a route's view; a refusal is an answer too.

    Any error that is neither a refusal nor an outage of AWS is a bug: Chalice logs it and answers
    500.
    """
    request_id = request_id_of(request)
    context: Any = request.lambda_context
    left = context.get_remaining_time_in_millis
    call = Call(request, services())
    try:
        with patient(left, left() - LONGEST_WAIT):
            answer = view(call)
    except CreditsError as error:
        refused = problems.of_refusal(error, request_id)
        if refused is None:
            logger()  # made now, so that Chalice logs our faults in its form
            raise
        if isinstance(error, Unreadable):
            unexpected(error, path=request.path)
        elif refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            logger().error("stored data is wrong", path=request.path, error=str(error))
        answer = refused
    except Exception as error:
        logger()  # the same
        # Imported late: routes that touch no table need not load DynamoDB's errors.
        from chalicelib.store.errors import faults

        if not isinstance(error, faults()):
            raise
        logger().exception("AWS did not answer", path=request.path)
        answer = problems.of_outage(request_id)
    trail.leave(call, answer)
    return _response(answer)


def dress(request: Request, get_response: Callable[[Request], Response]) -> Response:
    """Gives every answer its headers, and turns Chalice's own errors into our problems."""
    request_id = request_id_of(request)
    with correlated(request_id):
        response = get_response(request)
    if isinstance(response.body, dict):  # our bodies are texts
        problem = _response(problems.of_framework(response.status_code, request_id))
        problem.headers = {**response.headers, **problem.headers}
        response = problem
    response.headers = {**HEADERS, **response.headers, "X-Request-Id": request_id}
    return response


def request_id_of(request: Request) -> str:
    """API Gateway's id of the request: the one in its access log, and our logs' correlation id."""
    if "requestId" not in request.context:
        import uuid

        request.context["requestId"] = str(uuid.uuid4())
    request_id: str = request.context["requestId"]
    return request_id


def _response(answer: Answer) -> Response:
    headers: dict[str, str | list[str]] = {"Content-Type": "application/json", **answer.headers}
    body = answer.body
    if not isinstance(body, str):
        body = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(body, headers, answer.status)
