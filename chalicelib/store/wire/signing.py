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
    """The credentials of a caller; ``token`` is empty for those that last."""

    access_key: str
    secret_key: str
    token: str = ""

    def __repr__(self) -> str:
        return "Keys(…)"  # whoever prints them prints no secret


def signed(
    keys: Keys, region: str, service: str, headers: Mapping[str, str], body: bytes, now: float
) -> dict[str, str]:
    """The headers of a POST to `/`, with its signature. ``headers``: with `host`, in small letters.

    ``now``: seconds since 1970. All headers are signed. Raises ValueError.
    """
    if not (keys.access_key + keys.token).isprintable():  # else the error of HTTP would say them
        raise ValueError("the credentials have a character that no header may have")
    at = _written(int(now))
    all_of_them = {**headers, "x-amz-date": at}
    if keys.token:
        all_of_them["x-amz-security-token"] = keys.token
    names = sorted(all_of_them)
    signed_names = ";".join(names)
    lines = "\n".join(f"{name}:{' '.join(all_of_them[name].split())}" for name in names)
    digest = hashlib.sha256(body).hexdigest()
    canonical = f"POST\n/\n\n{lines}\n\n{signed_names}\n{digest}"
    scope = f"{at[:8]}/{region}/{service}/aws4_request"
    to_sign = f"{ALGORITHM}\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = _signing_key(keys.secret_key, at[:8], region, service)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    all_of_them["authorization"] = (
        f"{ALGORITHM} Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={signed_names}, Signature={signature}"
    )
    return all_of_them


@lru_cache(maxsize=4)
def _written(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


@lru_cache(maxsize=4)
def _signing_key(secret: str, date: str, region: str, service: str) -> bytes:
    """The key of a day: it is derived once."""
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
