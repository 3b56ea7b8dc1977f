"""Checks the OpenID Connect token in front of every route: who sends the request.

    API Gateway ─► authorize ─► the issuer's keys, kept by the process
         ▲             │
         └── policy ◄──┘   caller, user_id and scopes go on to the route, which decides what they
                           may do (`principal.py`)

A good token allows the whole stage, and a bad one denies the whole stage: API Gateway keeps the
policy for `TOKEN_ANSWER_SECONDS` and uses it for every further request with the same token. So a
token is accepted for at most that long after `LEEWAY_SECONDS` past its end: 90 seconds in all.

Every refusal has a `Refusal`, and words for the failed check, the found value and the expected one.
The log always has these words. The answer has them only in the local stage: elsewhere attackers who
try tokens must learn nothing. `make token-check` takes the same steps one by one.

API Gateway answers a denial with 401 (see `infra/deployment/gateway.py`): this check refuses
tokens, never requests. Without the issuer's keys nothing can be decided, so it raises an error; API
Gateway answers 503 and does not keep that.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Any

import jwt

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import USER_ID_ALPHABET, parse_user_id, shown
from chalicelib.domain.instants import format_instant
from chalicelib.observability import logger
from chalicelib.settings import TokenSettings, token_settings

from .issuer_keys import IssuerKey, IssuerKeys, Json, fetch_keys
from .lanes import key_of, lane_of
from .principal import Scope, caller_of, name_in_logs

LARGEST_TOKEN = 8192
"""The longest token to check, in characters. API Gateway accepts 10,240 for all headers together.
"""

LEEWAY_SECONDS = 30
"""How far the issuer's clock and ours may differ."""

_LONGEST_SHOWN = 200
_LATEST = 253_402_300_799

_CLAIMS = ("aud", "exp", "iat", "iss", "jti", "nbf", "sub")
_SIGNATURE_ALONE: Any = {"verify_signature": True} | {f"verify_{claim}": False for claim in _CLAIMS}
"""The library checks only the signature. We check the claims, so that each refusal says why."""

_NAMES_OF_CLIENTS = ("client_id", "azp", "cid", "appid")
"""Some issuers name the audience of a token in these claims instead of `aud`."""


class Refusal(StrEnum):
    """The check that a token failed."""

    NOT_BEARER = "not_bearer"
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    UNKNOWN_KEY = "unknown_key"
    WRONG_ALGORITHM = "wrong_algorithm"
    WRONG_SIGNATURE = "wrong_signature"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    WRONG_SUBJECT = "wrong_subject"
    WRONG_USER = "wrong_user"


class InvalidToken(Exception):
    """The token is not from one of our callers; the message says why, without quoting it.

    The message names keys, algorithms, issuers, audiences and instants, never a person.
    """

    def __init__(self, code: Refusal, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- The interface to API Gateway -----------------------------------------------------------------


def authorize(authorization: str, method_arn: str) -> Json:
    """The policy for the header ``Authorization`` of a request to ``method_arn``.

    Raises `KeysUnavailable` when the token cannot be checked.
    """
    return answer(token_checker(), authorization, method_arn)


def answer(checker: "TokenChecker", authorization: str, method_arn: str) -> Json:
    """The policy that follows from the result of a checker."""
    try:
        context = checker.check(bearer_token(authorization))
    except InvalidToken as refusal:
        settings = checker.settings
        key, algorithm = _named(authorization)
        logger().info(
            "Token refused",
            code=refusal.code,
            reason=str(refusal),
            issuer=settings.issuer,
            key=key,
            algorithm=algorithm,
        )
        # API Gateway puts it between the quotes of a JSON text (see `infra/deployment/gateway.py`).
        why = {"reason": json.dumps(str(refusal))[1:-1]} if settings.is_local else {}
        return _policy("Deny", "nobody", method_arn, why)
    # API Gateway's access log uses this as the caller's name, between the quotes of a JSON text.
    in_logs = json.dumps(name_in_logs(context["caller"]))[1:-1]
    lane = lane_of(context["caller"], context["scopes"].split())
    return {
        **_policy("Allow", in_logs, method_arn, context),
        "usageIdentifierKey": key_of(checker.settings.lane_keys, lane),
    }


@cache
def token_checker() -> "TokenChecker":
    """The checker of this process."""
    settings = token_settings()
    return TokenChecker(settings, IssuerKeys(lambda: fetch_keys(settings)))


def bearer_token(authorization: str) -> str:
    """The token in a header ``Authorization: Bearer …``. Raises `InvalidToken`."""
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidToken(Refusal.NOT_BEARER, 'the header must be "Authorization: Bearer <token>"')
    return token.strip()


def _named(authorization: str) -> tuple[str, str]:
    """The key and the algorithm that a refused token names, as far as they can be read."""
    try:
        header = jwt.get_unverified_header(bearer_token(authorization))
    except (InvalidToken, jwt.PyJWTError):
        return "unreadable", "unreadable"
    return shown(header.get("kid")), shown(header.get("alg"))


def _policy(effect: str, principal: str, method_arn: str, context: Mapping[str, str]) -> Json:
    # arn:aws:execute-api:<region>:<account>:<api>/<stage>/<method>/<path>: allow or deny the whole
    # stage. A policy for one method, kept for a token, would apply to all the others.
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

    def __init__(
        self, settings: TokenSettings, keys: IssuerKeys, now: Callable[[], float] = time.time
    ) -> None:
        unknown = set(settings.scope_names) - set(Scope)
        if unknown:
            raise ValueError(f"TOKEN_SCOPE_NAMES names {', '.join(unknown)}; we have no such scope")
        self.settings = settings
        self.now = now
        self._keys = keys

    def check(self, token: str) -> dict[str, str]:
        """The caller for the request's context: ``caller``, ``user_id`` and ``scopes``.

        Raises `InvalidToken`, and `KeysUnavailable`.
        """
        claims = verified_claims(token, self.key_of(header_of(token)))
        for check in CLAIM_CHECKS.values():
            check(self.settings, claims, self.now())
        return self.context_of(claims)

    def key_of(self, header: Json) -> IssuerKey:
        """The issuer's key for checking a token with this header.

        The header names the key. The issuer decides which algorithms a key may sign with. Raises
        `InvalidToken`, and `KeysUnavailable`.
        """
        key_id, algorithm = header.get("kid"), header.get("alg")
        found = self._keys.find(key_id)
        if not found:
            raise InvalidToken(Refusal.UNKNOWN_KEY, self._keys.known.without(key_id))
        keys = [key for key in found if algorithm in key.algorithms]
        if not keys:
            allowed = " or ".join(name for key in found for name in key.algorithms)
            raise InvalidToken(
                Refusal.WRONG_ALGORITHM,
                f"the token is signed with {shown(algorithm)} (alg), and the issuer's key "
                f"{shown(key_id)} is for {allowed}",
            )
        return keys[0]

    def context_of(self, claims: Json) -> dict[str, str]:
        """What the routes need to know from checked claims. Raises `InvalidToken`."""
        return {
            "caller": self.caller(claims),
            "user_id": self.user_id(claims),
            "scopes": " ".join(self.scopes(claims)),
        }

    def caller(self, claims: Json) -> str:
        """The subject in its ledger form: the owner of idempotency keys, and the actor.

        Raises `InvalidToken`.
        """
        if claims.get("sub") is None:
            raise InvalidToken(
                Refusal.WRONG_SUBJECT, 'the token is missing the claim "sub": who calls'
            )
        try:
            return caller_of("sub", claims["sub"])
        except InvalidInput as error:
            # Without the value, which may be a person's name or address.
            raise InvalidToken(Refusal.WRONG_SUBJECT, str(error)) from error

    def user_id(self, claims: Json) -> str:
        """The user id; empty for a token without a user, such as that of a backend.

        Raises `InvalidToken`.
        """
        name = self.settings.user_claim
        value = claim_of(claims, name)
        if value is None:
            return ""
        try:
            return parse_user_id(name, value)
        except InvalidInput as error:
            advice = "; if another claim has the user id, name it in TokenUserClaim"
            raise InvalidToken(
                Refusal.WRONG_USER,
                f"{name} names the user: it must be 1 to 128 {USER_ID_ALPHABET}, or a whole number "
                "of at most 18 digits; send a longer one as a text"
                + (advice if name == "sub" else ""),
            ) from error

    def scopes(self, claims: Json) -> list[Scope]:
        """Our scopes among those of the token, translated from the issuer's names."""
        given = {"*"}
        for name in self.settings.scope_claims:
            value = claim_of(claims, name)
            if isinstance(value, str):
                given.update(value.split())
            elif isinstance(value, list):
                # Not split into words: a group "former admins" is not the group "admins".
                given.update(scope for scope in value if isinstance(scope, str))
        names = self.settings.scope_names
        return [scope for scope in Scope if not given.isdisjoint(names.get(scope, {scope.value}))]


def header_of(token: str) -> Json:
    """The header of a well-formed token. Its signature is not checked yet.

    Raises `InvalidToken`.
    """
    if len(token) > LARGEST_TOKEN:
        raise InvalidToken(
            Refusal.TOO_LARGE,
            f"the token has {len(token):,} characters, and at most {LARGEST_TOKEN:,} are read: "
            "have the issuer leave claims out of it",
        )
    try:
        return jwt.get_unverified_header(token)
    except jwt.PyJWTError as error:
        raise _malformed(error) from error


def verified_claims(token: str, key: IssuerKey) -> Json:
    """The claims of a token that was signed with the key. Raises `InvalidToken`."""
    try:
        claims: Json = jwt.decode(
            token, key.public, algorithms=key.algorithms, options=_SIGNATURE_ALONE
        )
    except jwt.InvalidSignatureError as error:
        raise InvalidToken(
            Refusal.WRONG_SIGNATURE,
            f"Signature verification failed with the issuer's key {shown(key.id)}",
        ) from error
    except jwt.PyJWTError as error:
        raise _malformed(error) from error
    return claims


def _malformed(error: jwt.PyJWTError) -> InvalidToken:
    return InvalidToken(Refusal.MALFORMED, f"the token is malformed: {error}"[:_LONGEST_SHOWN])


def claim_of(claims: Json, path: str) -> object:
    """The claim of that name, or the value at a dotted path; None when there is no such claim.

    >>> claim_of({"app_metadata": {"user_id": 42}}, "app_metadata.user_id")
    42

    A name may contain dots, as in `https://example.com/claims.user_id`: each step takes the longest
    existing name.
    """
    if path in claims:
        return claims[path]
    for end in (place for place in range(len(path) - 1, 0, -1) if path[place] == "."):
        inner = claims.get(path[:end])
        if isinstance(inner, dict):
            return claim_of(inner, path[end + 1 :])
    return None


def _check_issuer(settings: TokenSettings, claims: Json, _: float) -> str:
    found, expected = claims.get("iss"), settings.issuer
    if found is None:
        raise InvalidToken(Refusal.WRONG_ISSUER, 'the token is missing the claim "iss"')
    if found != expected:
        is_slash = isinstance(found, str) and found.rstrip("/") == expected.rstrip("/")
        raise InvalidToken(
            Refusal.WRONG_ISSUER,
            f"wrong issuer: iss is {shown(found, _LONGEST_SHOWN)}, and TokenIssuer is '{expected}'"
            + ("; a slash at the end makes another issuer" if is_slash else ""),
        )
    return f"iss is {shown(found, _LONGEST_SHOWN)}"


def _check_audience(settings: TokenSettings, claims: Json, _: float) -> str:
    name, expected = settings.audience_claim, settings.audiences
    found = claim_of(claims, name)
    # Other issuers name one or several audiences. Access tokens of Cognito name their client
    # instead, and session tokens of Clerk their origin.
    several = found if name == "aud" and isinstance(found, list) else [found]
    if not found:
        others = [other for other in _NAMES_OF_CLIENTS if claims.get(other)]
        advice = f"; it has {', '.join(others)}: is that TokenAudienceClaim?" if others else ""
        raise InvalidToken(
            Refusal.WRONG_AUDIENCE, f'the token is missing the claim "{name}"{advice}'
        )
    if not any(audience in several for audience in expected):
        raise InvalidToken(
            Refusal.WRONG_AUDIENCE,
            f"wrong audience: {name} is {shown(found, _LONGEST_SHOWN)}, and TokenAudience is "
            f"{', '.join(expected)}",
        )
    return f"{name} is {shown(found, _LONGEST_SHOWN)}"


def _check_expiry(_: TokenSettings, claims: Json, now: float) -> str:
    if claims.get("exp") is None:
        raise InvalidToken(
            Refusal.EXPIRED, 'the token is missing the claim "exp": it would never expire'
        )
    exp = _seconds(claims, "exp")
    if exp <= now - LEEWAY_SECONDS:
        raise InvalidToken(
            Refusal.EXPIRED,
            f"the token has expired: exp is {_instant(exp)}, {_duration(now - exp)} ago",
        )
    return f"exp is {_instant(exp)}, in {_duration(exp - now)}"


def _check_beginning(_: TokenSettings, claims: Json, now: float) -> str:
    said = []
    for name in ("nbf", "iat"):
        if name not in claims:
            continue
        instant = _seconds(claims, name)
        if instant > now + LEEWAY_SECONDS:
            raise InvalidToken(
                Refusal.NOT_YET_VALID,
                f"the token is not valid yet: {name} is {_instant(instant)}, "
                f"{_duration(instant - now)} ahead of our clock, and {LEEWAY_SECONDS} seconds are "
                "allowed",
            )
        said.append(f"{name} is {_instant(instant)}")
    return ", ".join(said) or "there is no nbf or iat"


Check = Callable[[TokenSettings, Json, float], str]

CLAIM_CHECKS: dict[str, Check] = {
    "issuer": _check_issuer,
    "audience": _check_audience,
    "expiry": _check_expiry,
    "beginning": _check_beginning,
}
"""The checks of a signed token's claims. Each returns what it found, or raises `InvalidToken`."""


def _seconds(claims: Json, name: str) -> int:
    try:
        seconds = int(claims[name])
    except (ValueError, TypeError, OverflowError):
        seconds = -1
    if not 0 <= seconds <= _LATEST:
        raise InvalidToken(
            Refusal.MALFORMED,
            f"{name} must be a number of seconds since 1970, before the year 10000",
        )
    return seconds


def _instant(seconds: int) -> str:
    return format_instant(datetime.fromtimestamp(seconds, UTC))


def _duration(seconds: float) -> str:
    """Seconds in words, in the largest unit that gives at least two."""
    size, unit = next(
        ((size, unit) for size, unit in _UNITS if abs(seconds) >= 2 * size), (1, "seconds")
    )
    return f"{seconds / size:,.0f} {unit}"


_UNITS = ((86_400, "days"), (3_600, "hours"), (60, "minutes"))
