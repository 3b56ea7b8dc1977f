"""Refusals and failures as RFC 9457 problem details: the one place that knows their status codes.

Two rules for clients: 409 and 503 come with ``Retry-After``, and sending the same request again can
succeed; every other refusal will be the same until something else changes.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

from chalicelib.domain.errors import (
    Contention,
    CreditsError,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidInput,
    LedgerCorrupt,
    NotAllowed,
    NotFound,
    OutdatedEdit,
    TimezoneUnknown,
    Unreadable,
    VersionConflict,
)

from .answers import Answer
from .errors import BodyTooLarge, Forbidden, Unauthenticated, UnsupportedMediaType

MEDIA_TYPE = "application/problem+json"


class _Kind(NamedTuple):
    """What all problems of one code have in common."""

    status: int
    code: str
    title: str
    headers: Mapping[str, str]


_NONE: Mapping[str, str] = {}
_RETRY: Mapping[str, str] = {"Retry-After": "1"}
_BEARER: Mapping[str, str] = {"WWW-Authenticate": "Bearer"}

_KINDS: dict[type[CreditsError], _Kind] = {
    error: _Kind(status, error.code, title, headers)
    for error, status, title, headers in (
        (InvalidInput, 400, "The request is malformed", _NONE),
        (Unauthenticated, 401, "The request is not authenticated", _BEARER),
        (InsufficientCredits, 402, "There are not enough credits", _NONE),
        (Forbidden, 403, "The token does not allow this", _NONE),
        (NotFound, 404, "There is no such thing", _NONE),
        (Contention, 409, "Others were writing at the same time", _RETRY),
        (VersionConflict, 412, "The subscription is of another version", _NONE),
        (BodyTooLarge, 413, "The body is too large", _NONE),
        (UnsupportedMediaType, 415, "The body is not JSON", _NONE),
        (IdempotencyKeyReused, 422, "The idempotency key belongs to another request", _NONE),
        (OutdatedEdit, 422, "What is stored was observed later", _NONE),
        (NotAllowed, 422, "A rule of the product forbids this", _NONE),
        (TimezoneUnknown, 500, "What is stored of the user is wrong", _NONE),
        (Unreadable, 500, "What is stored of the user is wrong", _NONE),
        (LedgerCorrupt, 500, "What is stored of the user is wrong", _NONE),
    )
}

_OUTAGE = _Kind(503, "unavailable", "The service is not available", _RETRY)
_NO_ROUTE = _Kind(404, "not_found", "There is no such route", _NONE)
_NO_METHOD = _Kind(405, "method_not_allowed", "The route does not know this method", _NONE)
_BUG = _Kind(500, "internal_error", "The request failed", _NONE)


def of_refusal(error: CreditsError, request_id: str) -> Answer | None:
    """The problem that a refusal is to its caller; None for what is a fault of ours."""
    kind = _KINDS.get(type(error))
    if kind is None:
        return None
    more: dict[str, object] = {}
    if isinstance(error, InvalidInput | Forbidden):
        more["errors"] = [asdict(wrong) for wrong in error.errors]
    if isinstance(error, InsufficientCredits):
        more["available_balance"] = error.available
    return _problem(kind, str(error), request_id, **more)


def of_outage(request_id: str) -> Answer:
    """AWS did not do its part: nothing is known to be wrong with the request."""
    detail = "the request could not be completed; send it again, with the same idempotency key"
    return _problem(_OUTAGE, detail, request_id)


def of_framework(status: int, request_id: str) -> Answer:
    """What Chalice refuses by itself, and a bug of ours: the details are for the log."""
    kind = {404: _NO_ROUTE, 405: _NO_METHOD}.get(status, _BUG)
    return _problem(kind, f"{kind.title[0].lower()}{kind.title[1:]}", request_id)


def _problem(kind: _Kind, detail: str, request_id: str, **more: object) -> Answer:
    body = {
        "type": f"urn:credits:problem:{kind.code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
        "errors": [],
        "request_id": request_id,
        **more,
    }
    return Answer(body, kind.status, {"Content-Type": MEDIA_TYPE, **kind.headers})
