"""Stripe's signatures: whether a request was sent by Stripe, and when.

The header ``Stripe-Signature`` is ``t=<seconds>,v1=<signature>``, with a ``v1`` for each secret of
the endpoint while one replaces another. A signature is the HMAC-SHA256, in hexadecimal, of the
seconds, a dot and the body as it was sent (https://docs.stripe.com/webhooks/signature).
"""

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from .errors import NotSetUp, WrongSignature

TOLERANCE = timedelta(minutes=5)
"""How long ago a request may have been signed, and how far ahead Stripe's clock may be: Stripe
signs every attempt anew, and its own libraries allow as much."""

LONGEST_HEADER = 1_000

_TIME = re.compile(r"[0-9]{1,10}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_SECRET = re.compile(r"whsec_\S{16,200}")


def check(body: bytes, header: str | None, secrets: Iterable[str], now: datetime) -> None:
    """Raises `WrongSignature` unless Stripe signed the body within `TOLERANCE` of ``now``.

    ``secrets``: the endpoint's; the next is read only if the one before does not match. Raises
    `NotSetUp` if none of them can be Stripe's.
    """
    parts = list(_parts(header or ""))
    times = [value for name, value in parts if name == "t" and _TIME.fullmatch(value)]
    signatures = [value for name, value in parts if name == "v1" and _SIGNATURE.fullmatch(value)]
    if len(times) != 1 or not signatures:
        raise WrongSignature("the header Stripe-Signature must have one t, and a v1 or more")
    if abs(now - datetime.fromtimestamp(int(times[0]), UTC)) > TOLERANCE:
        raise WrongSignature("the request was signed too long ago, or too far ahead")
    signed = times[0].encode() + b"." + body
    is_set_up = False
    for secret in map(str.strip, secrets):
        if is_secret(secret):
            is_set_up = True
            right = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
            if any(hmac.compare_digest(right, each) for each in signatures):
                return
    if not is_set_up:
        raise NotSetUp("the stage has no signing secret of Stripe's yet")
    raise WrongSignature("no signature of the request is right")


def is_secret(text: str) -> bool:
    """Whether a text can be a signing secret of Stripe's."""
    return _SECRET.fullmatch(text) is not None


def _parts(header: str) -> Iterator[tuple[str, str]]:
    if len(header) <= LONGEST_HEADER:
        for part in header.split(","):
            name, _, value = part.strip().partition("=")
            yield name, value
