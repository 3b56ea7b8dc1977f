"""Chooses the lane of a caller: each lane may take only a share of a method's rate.

    caller ─► authorizer ─► lane ─► API key of API Gateway ─► usage plan: so many requests a second

Users are spread over a few lanes by their subjects. Backends share one lane with callers for
billing; admins have another. A user who sends too many requests only slows down the users of the
same lane. API Gateway takes the key from the authorizer and not from the request. So a key is a
name, not a secret, and is of no use to a caller. infra/deployment/caller_limits.py makes the keys,
and says when methods require them.
"""

import hashlib
from collections.abc import Collection

from .principal import Scope

USER_LANES = 16
"""The number of lanes for users."""

BACKEND = "backend"
ADMINS = "admins"
OF_USERS = tuple(f"users{number:02}" for number in range(USER_LANES))
LANES = (*OF_USERS, BACKEND, ADMINS)


def lane_of(caller: str, scopes: Collection[str]) -> str:
    """The lane of a caller."""
    if not {Scope.BACKEND, Scope.BILLING}.isdisjoint(scopes):
        return BACKEND
    if Scope.ADMIN in scopes:
        return ADMINS
    digest = hashlib.sha256(caller.encode()).digest()
    return OF_USERS[int.from_bytes(digest[:4], "big") % USER_LANES]


def key_of(lane_keys: str, lane: str) -> str:
    """The value of a lane's API key; all keys of a stack have the same prefix.

    20 to 128 letters and digits, unique in the account and region
    (https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-usage-plans.html).
    """
    return f"{lane_keys}{lane}lane"
