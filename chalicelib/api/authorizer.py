"""Whose request this is: the check of the OpenID Connect token in front of every route.

    API Gateway ─► authorize ─► the issuer's keys, kept by the process
         ▲             │
         └── policy ◄──┘   caller, user_id and scopes go on to the route, which decides what they
                           may do (`principal.py`)

A token that is good allows the whole stage, and one that is not denies the whole stage: API Gateway
keeps the policy for `TOKEN_ANSWER_SECONDS` and uses it for whatever the same token asks for next.
So a token is accepted for at most that long after it has expired.

API Gateway answers a denial with 401 (see the gateway responses in `infra/resources.yaml`): it is
the token that is refused here, never the request. What cannot be decided, because the issuer's keys
cannot be had, is raised instead; it is answered with 503 and not kept.
"""

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import jwt

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_user_id
from chalicelib.observability import logger
from chalicelib.settings import TokenSettings, token_settings

from .principal import Scope

LARGEST_TOKEN = 8192
"""The longest token that is looked at, in characters. API Gateway takes 10,240 of all headers."""

LEEWAY_SECONDS = 30
"""How far the issuer's clock and ours may be apart."""

KEYS_FRESH_SECONDS = 3600
"""How long keys are used before they are fetched again: by then a withdrawn one is refused."""

KEYS_KEPT_SECONDS = 24 * 3600
"""How long keys are used while the issuer cannot be reached."""

REFETCH_SECONDS = 30
"""The pause between two fetches, whatever tokens come: who makes up key ids reaches us only."""

RETRY_SECONDS = 2
"""The same while there are no keys at all, and so no token can be checked."""

FETCH_TIMEOUT_SECONDS = 3
"""How long the issuer may take, for each step of a fetch."""

_LARGEST_DOCUMENT = 256 * 1024
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
_SMALLEST_RSA_KEY = 2048

Json = dict[str, Any]


class InvalidToken(Exception):
    """The token is not one of a caller of ours; the message says why, without quoting it."""


class KeysUnavailable(Exception):
    """The issuer's keys are not known and cannot be had."""


# --- What API Gateway asks and is answered --------------------------------------------------------


def authorize(authorization: str, method_arn: str) -> Json:
    """The policy for the header ``Authorization`` of a request to ``method_arn``.

    Raises `KeysUnavailable` when nobody can tell whether the token is good.
    """
    return answer(token_checker(), authorization, method_arn)


def answer(checker: "TokenChecker", authorization: str, method_arn: str) -> Json:
    """The policy that follows from what a checker says."""
    try:
        context = checker.check(bearer_token(authorization))
    except InvalidToken as refusal:
        logger().info("Token refused", reason=str(refusal))
        return _policy("Deny", "nobody", method_arn, {})
    return _policy("Allow", context["caller"], method_arn, context)


@cache
def token_checker() -> "TokenChecker":
    """The checker of this process."""
    settings = token_settings()
    return TokenChecker(settings, IssuerKeys(lambda: fetch_keys(settings)))


def bearer_token(authorization: str) -> str:
    """The token in a header ``Authorization: Bearer …``. Raises `InvalidToken`."""
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidToken("the scheme is not Bearer")
    return token.strip()


def _policy(effect: str, principal: str, method_arn: str, context: Mapping[str, str]) -> Json:
    # arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path>: everything of the stage.
    # The policy of one method, kept for a token, would answer for all the others.
    stage = "/".join(method_arn.split("/")[:2])
    statement = {"Effect": effect, "Action": "execute-api:Invoke", "Resource": f"{stage}/*"}
    return {
        "principalId": principal,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": dict(context),
    }


# --- The token ------------------------------------------------------------------------------------


class TokenChecker:
    """Checks tokens of one issuer and reads from them what the routes need to know."""

    def __init__(self, settings: TokenSettings, keys: "IssuerKeys") -> None:
        unknown = set(settings.scope_names) - set(Scope)
        if unknown:
            raise ValueError(f"TOKEN_SCOPE_NAMES names {', '.join(unknown)}; we have no such scope")
        self._settings = settings
        self._keys = keys

    def check(self, token: str) -> dict[str, str]:
        """Who calls, for the request's context: ``caller``, ``user_id`` and ``scopes``.

        Raises `InvalidToken`, and `KeysUnavailable`.
        """
        claims = self._claims(token)
        name = self._settings.user_claim
        return {
            "caller": _user_id("sub", claims["sub"]),
            # Empty for a token that stands for no user of ours, such as that of a backend.
            "user_id": "" if claims.get(name) is None else _user_id(name, claims[name]),
            "scopes": " ".join(self._scopes(claims)),
        }

    def _claims(self, token: str) -> Json:
        """The claims of a token whose signature, issuer, audience and times are right."""
        if len(token) > LARGEST_TOKEN:
            raise InvalidToken(f"the token has {len(token)} characters")
        settings = self._settings
        has_audience = settings.audience_claim == "aud"
        try:
            key = self._keys.find(jwt.get_unverified_header(token).get("kid"))
            if key is None:
                raise InvalidToken("the issuer has no such key")
            claims = jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],  # the key's, never the token's own choice
                issuer=settings.issuer,
                audience=settings.audiences if has_audience else None,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "sub"], "verify_aud": has_audience},
            )
        except jwt.PyJWTError as error:
            raise InvalidToken(f"{type(error).__name__}: {error}") from error
        # Access tokens of Cognito name their client, and session tokens of Clerk their origin,
        # where those of others have an audience.
        if not has_audience and claims.get(settings.audience_claim) not in settings.audiences:
            raise InvalidToken(f"{settings.audience_claim} is none of ours")
        return claims

    def _scopes(self, claims: Json) -> list[Scope]:
        """Our scopes among those of the token, whatever the issuer calls them."""
        given = {"*"}
        for name in self._settings.scope_claims:
            value = claims.get(name)
            if isinstance(value, str):
                given.update(value.split())
            elif isinstance(value, list):
                given.update(scope for scope in value if isinstance(scope, str))
        names = self._settings.scope_names
        return [scope for scope in Scope if not given.isdisjoint(names.get(scope, {scope.value}))]


def _user_id(claim: str, value: object) -> str:
    try:
        return parse_user_id(claim, value)
    except InvalidInput as error:
        # Without the value, which may be somebody's name or address.
        raise InvalidToken(f"{claim} is not of the alphabet of user ids") from error


# --- The issuer's keys ----------------------------------------------------------------------------


class IssuerKeys:
    """The issuer's public keys by their ids: kept, refreshed, and fetched anew for an unknown id.

    However many unknown ids come, the issuer is asked once in `REFETCH_SECONDS` at most.
    """

    def __init__(
        self, fetch: Callable[[], Json], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._now = now
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key of that id, None when the issuer has none. Raises `KeysUnavailable`."""
        is_stale = self._now() - self._fetched_at > KEYS_FRESH_SECONDS
        pause = REFETCH_SECONDS if self._keys else RETRY_SECONDS
        if (is_stale or key_id not in self._keys) and self._now() - self._tried_at >= pause:
            self._refresh()
        if self._now() - self._fetched_at > KEYS_KEPT_SECONDS:
            raise KeysUnavailable("the issuer's keys could not be fetched")
        return None if key_id is None else self._keys.get(key_id)

    def _refresh(self) -> None:
        self._tried_at = self._now()
        try:
            keys = usable_keys(self._fetch())
        except (
            OSError,
            HTTPException,
            ValueError,
            LookupError,
            RecursionError,
            TypeError,
        ) as error:
            logger().warning("The issuer's keys could not be fetched", reason=repr(error))
            return
        self._keys = keys
        self._fetched_at = self._tried_at


def usable_keys(document: Json) -> dict[str, jwt.PyJWK]:
    """The keys of a JSON Web Key Set that tokens for us may be signed with, by their ids.

    Left out are symmetric keys, keys for encryption, for other algorithms, and short ones. Raises
    ValueError when none is left: that is no key set, and no reason to forget the one before.
    """
    found = {}
    for data in document["keys"]:
        if not isinstance(data, dict):
            continue
        algorithm = _ALGORITHMS.get(str(data.get("kty")))
        key_id = data.get("kid")
        if (
            algorithm is None
            or not isinstance(key_id, str)
            or data.get("alg", algorithm) != algorithm
            or data.get("use", "sig") != "sig"
        ):
            continue
        try:
            key = jwt.PyJWK(data, algorithm)
        except jwt.PyJWTError:  # malformed, or on another curve
            continue
        if algorithm == "RS256" and key.key.key_size < _SMALLEST_RSA_KEY:
            continue
        found[key_id] = key
    if not found:
        raise ValueError("there is no RS256 or ES256 key in the key set")
    return found


def fetch_keys(settings: TokenSettings) -> Json:
    """The issuer's key set, from where it is configured to be or the issuer says it is.

    Raises OSError, HTTPException, ValueError or LookupError.
    """
    url = settings.jwks_url
    if not url:
        discovery = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = _get(discovery, settings)
        if document["issuer"] != settings.issuer:
            raise ValueError(f"{discovery} is of another issuer: {document['issuer']}")
        url = document["jwks_uri"]
    return _get(url, settings)


def _get(url: str, settings: TokenSettings) -> Json:
    """The JSON document at an address; redirects are not followed."""
    if not settings.may_fetch(url):
        raise ValueError(f"{url} is not an https:// address")
    parts = urlsplit(url)
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = make(parts.netloc, timeout=FETCH_TIMEOUT_SECONDS)
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("GET", target, headers={"Accept": "application/json"})
        response = connection.getresponse()
        body = response.read(_LARGEST_DOCUMENT + 1)
    finally:
        connection.close()
    if response.status != 200 or len(body) > _LARGEST_DOCUMENT:
        raise ValueError(f"{url} answered {response.status} with {len(body)} bytes")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError(f"{url} is not a JSON object")  # noqa: TRY004 - of a document, not a type
    return document
