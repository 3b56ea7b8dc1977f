"""In which lane a caller's requests go: each lane may take a share of a method's rate, and no more.

    caller ─► authorizer ─► lane ─► API key of API Gateway ─► usage plan: so many requests a second

Users are spread over a few lanes by their subjects; backends and admins have one each. A user who
asks too much holds up those of their own lane, and nobody else. API Gateway takes the key from the
authorizer and not from the request, so a key is a name and no secret: it is of no use to a caller.
infra/deployment/caller_limits.py makes the keys, and says when they are asked for.
"""

import hashlib
from collections.abc import Collection

from .principal import Scope

USER_LANES = 16
"""How many lanes all users are spread over."""

BACKEND = "backend"
ADMINS = "admins"
OF_USERS = tuple(f"users{number:02}" for number in range(USER_LANES))
LANES = (*OF_USERS, BACKEND, ADMINS)


def lane_of(caller: str, scopes: Collection[str]) -> str:
    """The lane of a caller."""
    if Scope.BACKEND in scopes:
        return BACKEND
    if Scope.ADMIN in scopes:
        return ADMINS
    digest = hashlib.sha256(caller.encode()).digest()
    return OF_USERS[int.from_bytes(digest[:4], "big") % USER_LANES]


def key_of(lane_keys: str, lane: str) -> str:
    """The value of a lane's API key, which begins as all of the stack do.

    20 to 128 letters and digits, and one of a kind in the account and region
    (https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans.html).
    """
    return f"{lane_keys}{lane}lane"
