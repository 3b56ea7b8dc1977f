"""Signs requests with AWS's Signature Version 4.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(NamedTuple):
    """The credentials of a caller; ``token`` is empty for permanent ones."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return "Keys(…)"  # printing it must print no secret


def signed(
    keys: Keys, region: str, service: str, headers: Mapping[str, str], body: bytes, now: float
) -> dict[str, str]:
    """The headers of a POST to `/`, with its signature. ``headers``: in lower case, with `host`.

    ``now``: seconds since 1970. All headers are signed. Raises ValueError.
    """
    start = _start(keys, region, service, tuple(headers.items()), int(now))
    canonical = start.request + hashlib.sha256(body).hexdigest()
    to_sign = start.to_sign + hashlib.sha256(canonical.encode()).hexdigest()
    signature = hmac.digest(start.key, to_sign.encode(), "sha256").hex()
    return {**start.headers, "authorization": start.authorization + signature}


class _Start(NamedTuple):
    """What requests of one second have in common: only the body differs.

    ``request``, ``to_sign`` and ``authorization`` are the texts up to where they differ.
    """

    headers: dict[str, str]
    request: str
    to_sign: str
    authorization: str
    key: bytes

    def __repr__(self) -> str:
        return "_Start(…)"  # as above


@lru_cache(maxsize=32)
def _start(
    keys: Keys, region: str, service: str, headers: tuple[tuple[str, str], ...], second: int
) -> _Start:
    if not (keys.access_key + keys.token).isprintable():  # otherwise the HTTP error would show them
        raise ValueError("the credentials have a character that no header may have")
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
    all_of_them = {**dict(headers), "x-amz-date": at}
    if keys.token:
        all_of_them["x-amz-security-token"] = keys.token
    names = sorted(all_of_them)
    signed_names = ";".join(names)
    lines = "\n".join(f"{name}:{' '.join(all_of_them[name].split())}" for name in names)
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    return _Start(
        all_of_them,
        f"POST\n/\n\n{lines}\n\n{signed_names}\n",
        f"{ALGORITHM}\n{at}\n{scope}\n",
        f"{ALGORITHM} Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={signed_names}, Signature=",
        _signing_key(keys.secret_key, at[:8], region, service),
    )


@lru_cache(maxsize=4)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The signing key of a day: it is derived once."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
