"""The webhook of Stripe: ``POST /api/webhooks/stripe``, in a function of its own.

Anybody can call it, so nothing is read or written before the signature is found right. Stripe
repeats, for three days, what is not answered with a status of 2xx.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from chalicelib.domain.errors import CreditsError, InvalidInput
from chalicelib.services import Services
from chalicelib.stripe import signatures
from chalicelib.stripe.errors import NotSetUp, Waiting, WrongSignature

from .errors import BodyTooLarge

Json = dict[str, Any]

LARGEST_BODY = 256 * 1024
"""The longest body, in bytes. An event of a subscription with twenty prices has 30 KB."""

_STATUSES: Mapping[type[CreditsError], int] = {
    InvalidInput: 400,
    WrongSignature: 400,
    NotSetUp: 404,
    Waiting: 409,
    BodyTooLarge: 413,
}


def receive(services: Services, event: Json, context: Any) -> Json:
    """Answers a request of API Gateway."""
    try:
        body = _body(event)
        signatures.check(body, _header(event), services.stripe_secret, services.now())
        return _answer(200, {"received": True})
    except CreditsError as error:
        status = _STATUSES.get(type(error))
        if status is None:
            raise
        return _answer(status, {"code": error.code, "detail": str(error)})


def _body(event: Json) -> bytes:
    text = event.get("body") or ""
    try:
        body = base64.b64decode(text) if event.get("isBase64Encoded") else text.encode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput.of("body", "cannot be decoded") from error
    if len(body) > LARGEST_BODY:
        raise BodyTooLarge(f"the body has {len(body)} bytes; at most {LARGEST_BODY} are read")
    return body


def _header(event: Json) -> str | None:
    headers = event.get("headers") or {}
    found = [value for name, value in headers.items() if name.lower() == "stripe-signature"]
    return found[0] if len(found) == 1 else None


def _answer(status: int, body: Json) -> Json:
    return {
        "statusCode": status,
        "headers": {
            "Cache-Control": "no-store",
            "Content-Type": "application/json",
            "X-Content-Type-Options": "nosniff",
        },
        "body": json.dumps(body),
    }
