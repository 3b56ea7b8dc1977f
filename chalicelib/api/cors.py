"""Which web pages may call the API (CORS): those of the configured origins.

Chalice's own `cors` knows only one origin, fixed when the app is packaged. API Gateway also passes
requests to the app whose method no route has (see `infra/deployment/gateway.py`). Among them are
the OPTIONS requests that browsers send beforehand.
"""

from collections.abc import Callable
from typing import Any

from chalice.app import Request, Response

from chalicelib.settings import allowed_origins

_REQUEST_HEADERS = "Accept,Authorization,Content-Type,Idempotency-Key,If-Match,If-None-Match"

_EXPOSED_HEADERS = (
    "Content-Disposition,ETag,Idempotency-Replayed,Location,Next-Cursor,Retry-After,"
    "WWW-Authenticate,X-Request-Id"
)
"""The headers of our answers that a page may read, besides those that every page may read."""

_PREFLIGHT_SECONDS = 7200
"""How long a browser may skip asking again; only Firefox remembers longer."""


def answer_browsers(request: Request, get_response: Callable[[Request], Response]) -> Any:
    """Answers browsers' preflight requests, and names the origins that may call."""
    response = get_response(request)
    if request.method == "OPTIONS":
        # Chalice has refused it, and listed the route's methods.
        response = Response("", {"Allow": response.headers["Allow"]}, 204)
    headers = {"Vary": "Origin"}
    origin = request.headers.get("origin")
    if origin and not allowed_origins().isdisjoint({origin, "*"}):
        headers["Access-Control-Allow-Origin"] = origin
        headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        if request.method == "OPTIONS":
            headers["Access-Control-Allow-Methods"] = str(response.headers["Allow"])
            headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
            headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
    response.headers = {**response.headers, **headers}
    return response
