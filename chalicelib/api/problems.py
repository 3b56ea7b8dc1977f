"""Refusals and failures as RFC 9457 problem details: the only place that knows their status codes.

API Gateway answers some requests by itself: `infra` gives these answers the same format, and takes
the titles from here.

Two rules for clients: 409 and 503 come with ``Retry-After``, and the same request can succeed
later; every other refusal stays the same until something else changes.
"""

from collections.abc import Mapping
from dataclasses import asdict

from chalicelib.domain.errors import (
    Contention,
    CreditsError,
    HoldEnded,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidInput,
    LedgerCorrupt,
    NotAllowed,
    NotFound,
    OutdatedEdit,
    PaymentUsed,
    TimezoneUnknown,
    Unreadable,
    VersionConflict,
)
from chalicelib.stripe.errors import NotSetUp, Waiting, WrongSignature

from .answers import Answer, Json
from .errors import BodyTooLarge, Forbidden, Unauthenticated, UnsupportedMediaType

MEDIA_TYPE = "application/problem+json"

TITLES: Mapping[str, str] = {
    "invalid_input": "The request is malformed",
    "unauthenticated": "The request is not authenticated",
    "insufficient_credits": "There are not enough credits",
    "forbidden": "The request is not allowed",
    "not_found": "There is no such thing",
    "method_not_allowed": "The route does not know this method",
    "contention": "Others were writing at the same time",
    "hold_ended": "The hold has ended",
    "version_conflict": "The subscription is of another version",
    "body_too_large": "The body is too large",
    "unsupported_media_type": "The body is not JSON",
    "idempotency_key_reused": "The idempotency key belongs to another request",
    "outdated_edit": "What is stored was observed later",
    "not_allowed": "A rule of the product forbids this",
    "too_many_requests": "There are too many requests",
    "timezone_unknown": "What is stored of the user is wrong",
    "unreadable": "What is stored of the user is wrong",
    "ledger_corrupt": "What is stored of the user is wrong",
    "internal_error": "The request failed",
    "unavailable": "The service is not available",
}
"""The title of every problem with a code, from the app and from API Gateway."""

TO_STRIPE: Mapping[str, str] = {
    "wrong_signature": "The request is not Stripe's",
    "not_set_up": "There is no such thing yet",
    "waiting": "Facts that it needs are not known yet",
}
"""The titles that only the webhook uses: no client of the API sees them."""

_ALL_TITLES = {**TITLES, **TO_STRIPE}

_STATUSES: Mapping[type[CreditsError], int] = {
    InvalidInput: 400,
    WrongSignature: 400,
    Unauthenticated: 401,
    InsufficientCredits: 402,
    Forbidden: 403,
    NotFound: 404,
    NotSetUp: 404,
    Contention: 409,
    Waiting: 409,
    HoldEnded: 410,
    VersionConflict: 412,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    IdempotencyKeyReused: 422,
    PaymentUsed: 422,
    OutdatedEdit: 422,
    NotAllowed: 422,
    TimezoneUnknown: 500,
    Unreadable: 500,
    LedgerCorrupt: 500,
}

_RETRY: Mapping[str, str] = {"Retry-After": "1"}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    409: _RETRY,
    503: _RETRY,
}


def body(code: str, status: int, detail: str, request_id: str) -> Json:
    """The body of a problem."""
    return {
        "type": f"urn:credits:problem:{code}",
        "title": _ALL_TITLES[code],
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [],
        "request_id": request_id,
    }


def of_refusal(error: CreditsError, request_id: str) -> Answer | None:
    """The problem for the caller of a refused request; None if the fault is ours."""
    status = _STATUSES.get(type(error))
    if status is None:
        return None
    more: dict[str, object] = {}
    if isinstance(error, InvalidInput | Forbidden):
        more["errors"] = [asdict(wrong) for wrong in error.errors]
    if isinstance(error, InsufficientCredits):
        more["available_balance"] = error.available
    if isinstance(error, HoldEnded):
        more |= {
            "ended": error.ended,
            "ended_at": error.at,
            "transaction_id": error.transaction_id,
        }
    return _problem(error.code, status, str(error), request_id, **more)


def of_outage(request_id: str) -> Answer:
    """AWS failed: nothing is known to be wrong with the request."""
    detail = "the request could not be completed; send it again, with the same idempotency key"
    return _problem("unavailable", 503, detail, request_id)


def of_framework(status: int, request_id: str) -> Answer:
    """Chalice's own refusals, and our bugs: the details are only logged."""
    if status == 404:
        return _problem("not_found", 404, "there is no such route", request_id)
    if status == 405:
        detail = "the route does not know this method"
        return _problem("method_not_allowed", 405, detail, request_id)
    return _problem("internal_error", 500, "the request failed", request_id)


def _problem(code: str, status: int, detail: str, request_id: str, **more: object) -> Answer:
    headers = {"Content-Type": MEDIA_TYPE, **_HEADERS.get(status, {})}
    return Answer({**body(code, status, detail, request_id), **more}, status, headers)
