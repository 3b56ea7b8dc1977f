"""The webhook of Stripe: ``POST /api/webhooks/stripe``, in a function of its own.

Anybody can call it, so no table is read or written before the signature is verified. Stripe repeats
requests for three days unless they are answered with 2xx. An event whose user or price is not known
yet is answered 409 and kept for people to see. An event with a field that cannot be read is
answered 400 and kept, too.
"""

import base64
import binascii
import json
from typing import Any

from chalicelib.domain.errors import CreditsError, InvalidInput, Unreadable
from chalicelib.invocations import unexpected
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlated, logger
from chalicelib.services import Services
from chalicelib.store.errors import faults
from chalicelib.store.throttling import patient
from chalicelib.stripe import signatures
from chalicelib.stripe.errors import Waiting
from chalicelib.stripe.events import Event, read_event
from chalicelib.stripe.webhook import EVENT_TYPES, take_in

from . import problems
from .answers import Answer
from .errors import BodyTooLarge

Json = dict[str, Any]

LARGEST_BODY = 256 * 1024
"""The longest body, in bytes. An event of a subscription with twenty prices has 30 KB."""

LONGEST_WAIT = 5_000
"""How long a request may wait for throttled DynamoDB, in milliseconds since its start; Stripe waits
for an answer for longer."""


def receive(services: Services, event: Json, context: Any) -> Json:
    """Answers a request from API Gateway."""
    request_id: str = event["requestContext"]["requestId"]
    left = context.get_remaining_time_in_millis
    with correlated(request_id), patient(left, left() - LONGEST_WAIT):
        try:
            answer = _taken_in(services, _event(services, event))
        except CreditsError as error:
            answer = _refused(error, request_id)
        except faults():
            logger().exception("AWS did not answer")
            answer = problems.of_outage(request_id)
    return {
        "statusCode": answer.status,
        "headers": {
            "Cache-Control": "no-store",
            "Content-Type": "application/json",
            "X-Content-Type-Options": "nosniff",
            "X-Request-Id": request_id,
            **answer.headers,
        },
        "body": json.dumps(answer.body),
    }


def _taken_in(services: Services, event: Event) -> Answer:
    object_id = event.object.reference("id")
    try:
        did = take_in(services, event)
        if object_id is not None and event.type in EVENT_TYPES:
            services.stripe.is_done(object_id)
    except (InvalidInput, Waiting) as error:
        count(Metric.STRIPE_EVENTS_WAITING)
        logger().warning("Stripe event waits", event=event.id, type=event.type, why=str(error))
        if object_id is not None:
            services.stripe.wait(object_id, event.type, str(error), services.now())
        raise
    logger().info("Stripe event", event=event.id, type=event.type, did=did)
    return Answer({"received": True, "did": did})


def _event(services: Services, request: Json) -> Event:
    body = _body(request)
    now = services.now()
    signatures.check(body, _header(request), services.stripe_secret.values(now), now)
    return read_event(body)


def _refused(error: CreditsError, request_id: str) -> Answer:
    if isinstance(error, Unreadable):
        unexpected(error)
    refused = problems.of_refusal(error, request_id)
    if refused is None:
        raise error
    return refused


def _body(request: Json) -> bytes:
    text = request.get("body") or ""
    try:
        body = base64.b64decode(text) if request.get("isBase64Encoded") else text.encode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput.of("body", "cannot be decoded") from error
    if len(body) > LARGEST_BODY:
        raise BodyTooLarge(f"the body has {len(body)} bytes; at most {LARGEST_BODY} are read")
    return body


def _header(request: Json) -> str | None:
    headers = request.get("headers") or {}
    found = [value for name, value in headers.items() if name.lower() == "stripe-signature"]
    return found[0] if len(found) == 1 else None
