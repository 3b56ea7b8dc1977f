"""Which tokens are taken, what is read from them, and how often the issuer is asked for keys."""

import base64
import hashlib
import hmac
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import hypothesis
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from chalicelib.api import authorizer, issuer_keys
from chalicelib.api.authorizer import InvalidToken, Refusal, TokenChecker, answer, claim_of
from chalicelib.api.issuer_keys import IssuerKeys, KeysUnavailable, fetch_keys, usable_keys
from chalicelib.api.lanes import OF_USERS, lane_of
from chalicelib.api.principal import LONGEST_SUBJECT, Scope, caller_of
from chalicelib.domain import entries
from chalicelib.domain.errors import InvalidInput
from chalicelib.settings import TOKEN_ANSWER_SECONDS, TokenSettings
from infra.deployment.packaging import ROOT

Json = dict[str, Any]

ISSUER = "https://issuer.example.com/"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
SHORT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refused
STRANGERS_KEY = ec.generate_private_key(ec.SECP256R1())

USER_IDS = "abcxyzABCXYZ0189._:@|+=-"

ENVIRONMENT = {
    "TOKEN_ISSUER": ISSUER,
    "TOKEN_AUDIENCE": "credits-api",
}
ARN = "arn:aws:execute-api:eu-west-1:123456789012:abcdef/v1/GET/api/credits/balance"


def public(key: Any, key_id: str, **more: str) -> Json:
    """A key as the issuer publishes it."""
    kinds: dict[type, Any] = {
        rsa.RSAPrivateKey: RSAAlgorithm,
        ec.EllipticCurvePrivateKey: ECAlgorithm,
    }
    kind = next((kinds[family] for family in kinds if isinstance(key, family)), OKPAlgorithm)
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": key_id, **more}


KEY_SET = {
    "keys": [
        public(RSA_KEY, "rsa", alg="RS256", use="sig"),
        public(RSA_KEY, "any rsa"),
        public(EC_KEY, "ec"),
        public(EC_KEY, "enc", use="enc"),
    ]
}


KEYS = IssuerKeys(lambda: KEY_SET)


def settings(*, stage: str = "prod", **more: str) -> TokenSettings:
    """The settings of a stage; `audience_claim` is its TOKEN_AUDIENCE_CLAIM, and so on."""
    given = {f"TOKEN_{name.upper()}": value for name, value in more.items()}
    return TokenSettings.read(ENVIRONMENT | {"STAGE": stage} | given)


def checker(**more: str) -> TokenChecker:
    return TokenChecker(settings(**more), IssuerKeys(lambda: KEY_SET))


def claims(**more: object) -> Json:
    """The claims of a good token; a claim that is None is left out."""
    now = int(time.time())
    made: Json = {
        "iss": ISSUER,
        "aud": "credits-api",
        "sub": "42",
        "scope": "credits:read credits:use",
        "iat": now,
        "exp": now + 600,
        **more,
    }
    return {name: value for name, value in made.items() if value is not None}


def token(key: Any = EC_KEY, key_id: str | None = "ec", **more: object) -> str:
    algorithm = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256"
    headers = {} if key_id is None else {"kid": key_id}
    return jwt.encode(claims(**more), key, algorithm=algorithm, headers=headers)


def signed(content: Json, **header: object) -> str:
    """A token with whatever is in it: the library would not make every one of them."""
    return jwt.api_jws.encode(
        json.dumps(content).encode(), EC_KEY, algorithm="ES256", headers={"kid": "ec", **header}
    )


def part(content: object) -> str:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


# --- Good tokens ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "key_id"), [(RSA_KEY, "rsa"), (EC_KEY, "ec")])
def test_a_good_token_says_who_calls_and_with_which_scopes(key: Any, key_id: str) -> None:
    assert checker().check(token(key, key_id)) == {
        "caller": "42",
        "user_id": "42",
        "scopes": "credits:read credits:use",
    }


def test_a_good_token_allows_the_whole_stage_because_the_policy_is_kept_for_the_token() -> None:
    policy = answer(checker(), f"Bearer {token()}", ARN)
    (statement,) = policy["policyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Action": "execute-api:Invoke",
        "Resource": "arn:aws:execute-api:eu-west-1:123456789012:abcdef/v1/*",
    }
    assert policy["principalId"] == "42"
    assert all(isinstance(value, str) for value in policy["context"].values())


# --- Lanes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "lane"),
    [
        ("credits:backend", "backend"),
        ("credits:billing", "backend"),
        ("credits:admin", "admins"),
        ("credits:read credits:backend credits:admin", "backend"),
    ],
)
def test_backends_and_admins_have_a_lane_each(scope: str, lane: str) -> None:
    one = TokenChecker(settings()._replace(lane_keys="creditsprod"), KEYS)
    policy = answer(one, f"Bearer {token(scope=scope)}", ARN)
    assert policy["usageIdentifierKey"] == f"creditsprod{lane}lane"


def test_a_user_is_always_in_the_same_lane_whatever_the_token() -> None:
    policies = [
        answer(checker(), f"Bearer {token(scope=scope, iat=iat)}", ARN)
        for scope, iat in (("credits:read", 1), ("credits:read credits:use", 2), ("", 3))
    ]
    # Pinned: were the lanes dealt anew, nothing would break, and nobody would know.
    # Of the caller, not of the user for whom they call.
    policies.append(answer(checker(user_claim="uid"), f"Bearer {token(uid='7')}", ARN))
    assert {policy["usageIdentifierKey"] for policy in policies} == {f"{lane_of('42', [])}lane"}
    assert (lane_of("42", []), lane_of("Ada|é", [])) == ("users04", "users14")


def test_users_are_spread_over_all_lanes_of_users_about_evenly() -> None:
    found = Counter(lane_of(f"user-{number}", ["credits:use"]) for number in range(16_000))
    assert set(found) == set(OF_USERS)
    assert 800 < min(found.values()) <= max(found.values()) < 1_200


def test_a_refused_token_has_no_lane() -> None:
    policy = answer(checker(), f"Bearer {token(key=STRANGERS_KEY)}", ARN)
    assert "usageIdentifierKey" not in policy


def test_api_gateways_log_names_a_caller_without_an_address_and_within_its_quotes() -> None:
    forged = 'a","status":"200'
    quoted = answer(checker(user_claim="uid"), f"Bearer {token(sub=forged)}", ARN)
    assert json.loads(f'"{quoted["principalId"]}"') == forged
    policy = answer(checker(), f"Bearer {token(sub='ada@example.com')}", ARN)
    assert policy["principalId"] == "sha256:b5fc85e55755f9e0"
    assert policy["context"]["caller"] == "ada@example.com"


def test_a_bad_token_denies_the_whole_stage_and_says_nothing_of_it() -> None:
    policy = answer(checker(), f"Bearer {token(key=STRANGERS_KEY)}", ARN)
    (statement,) = policy["policyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Resource"].endswith(":abcdef/v1/*")
    assert policy["context"] == {}


def test_in_the_local_stage_a_denial_says_why() -> None:
    local = TokenChecker(settings(stage="local"), KEYS)
    bad = token(aud='quoted "api"')
    context = answer(local, f"Bearer {bad}", ARN)["context"]
    # API Gateway puts it into a JSON text, as it is.
    assert json.loads(f'"{context["reason"]}"') == (
        "wrong audience: aud is 'quoted \"api\"', and TokenAudience is credits-api"
    )
    assert answer(local, f"Bearer {token()}", ARN)["context"]["user_id"] == "42"


def logged_of(refused: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Json]:
    """What is logged when a token is refused."""
    lines: list[tuple[str, Json]] = []

    class Log:
        def info(self, message: str, **more: object) -> None:
            lines.append((message, more))

    monkeypatch.setattr(authorizer, "logger", Log)
    answer(checker(), f"Bearer {refused}", ARN)
    (line,) = lines
    return line


def test_a_refused_token_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = token(exp=1)
    message, more = logged_of(bad, monkeypatch)
    assert message == "Token refused"
    assert "expired" in str(more)
    assert not any(piece in str(more) for piece in bad.split("."))


def test_what_is_logged_of_a_refused_token_names_its_key_and_algorithm_and_no_person(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    personal: Json = {"sub": "ada\n@example.com", "email": "ada@example.com", "name": "Ada"}
    _, more = logged_of(token(**personal), monkeypatch)
    assert (more["key"], more["algorithm"]) == ("'ec'", "'ES256'")
    assert "ada" not in str(more).lower()
    _, more = logged_of("garbage", monkeypatch)
    assert (more["key"], more["algorithm"]) == ("unreadable", "unreadable")
    _, more = logged_of(with_header(kid="k" * 5000, alg="é" * 1000), monkeypatch)
    assert len(str(more)) < 1000
    assert str(more).isascii()


def test_clocks_may_differ_by_half_a_minute() -> None:
    now = int(time.time())
    checker().check(token(exp=now - 15, nbf=now + 15, iat=now + 15))


# --- Bad tokens -----------------------------------------------------------------------------------


def hs256_with_the_public_key(key_id: str = "rsa") -> str:
    """Signed with what everybody knows, for a server that takes the token's word for how."""
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{part({'alg': 'HS256', 'kid': key_id})}.{part(claims())}"
    return f"{signed}.{part(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def tampered() -> str:
    header, _, signature = token().split(".")
    return f"{header}.{part(claims(sub='1', scope='credits:admin'))}.{signature}"


def relabelled(token: str, **header: object) -> str:
    """A token under another header, with the signature it had."""
    return ".".join([part(header), *token.split(".")[1:]])


def with_header(**header: object) -> str:
    good = jwt.encode(claims(), EC_KEY, algorithm="ES256", headers={"kid": "ec"}).split(".")
    return ".".join([part({"typ": "JWT", "alg": "ES256", "kid": "ec", **header}), *good[1:]])


REFUSED: dict[str, tuple[Callable[[], str], Refusal, str]] = {
    "tampered": (tampered, Refusal.WRONG_SIGNATURE, "key 'ec'"),
    "alg none": (
        lambda: f"{part({'alg': 'none', 'kid': 'ec'})}.{part(claims())}.",
        Refusal.WRONG_ALGORITHM,
        "signed with 'none' (alg), and the issuer's key 'ec' is for ES256",
    ),
    "alg None": (
        lambda: f"{part({'alg': 'None', 'kid': 'ec'})}.{part(claims())}.AA",
        Refusal.WRONG_ALGORITHM,
        "'None'",
    ),
    "alg none for a key of any RSA algorithm": (
        lambda: f"{part({'alg': 'none', 'kid': 'any rsa'})}.{part(claims())}.",
        Refusal.WRONG_ALGORITHM,
        "'none'",
    ),
    "no alg": (
        lambda: f"{part({'kid': 'ec'})}.{part(claims())}.AA",
        Refusal.WRONG_ALGORITHM,
        "missing (alg)",
    ),
    "an alg that is no text": (
        lambda: with_header(alg=["ES256"]),
        Refusal.WRONG_ALGORITHM,
        "['ES256']",
    ),
    "HS256 with the public key": (
        hs256_with_the_public_key,
        Refusal.WRONG_ALGORITHM,
        "'HS256' (alg), and the issuer's key 'rsa' is for RS256",
    ),
    "HS256 with the public key, which has no alg": (
        lambda: hs256_with_the_public_key("any rsa"),
        Refusal.WRONG_ALGORITHM,
        "'HS256'",
    ),
    "another algorithm of the key": (
        lambda: jwt.encode(claims(), RSA_KEY, algorithm="RS512", headers={"kid": "rsa"}),
        Refusal.WRONG_ALGORITHM,
        "'RS512' (alg), and the issuer's key 'rsa' is for RS256",
    ),
    "another padding of the key": (
        lambda: jwt.encode(claims(), RSA_KEY, algorithm="PS256", headers={"kid": "rsa"}),
        Refusal.WRONG_ALGORITHM,
        "'PS256'",
    ),
    "the algorithm of the other key": (
        lambda: with_header(kid="rsa"),
        Refusal.WRONG_ALGORITHM,
        "'ES256'",
    ),
    "an RSA signature that says it is another": (
        lambda: relabelled(
            jwt.encode(claims(), RSA_KEY, algorithm="RS256"), alg="PS256", kid="any rsa"
        ),
        Refusal.WRONG_SIGNATURE,
        "'any rsa'",
    ),
    "a stranger's key under a known id": (
        lambda: token(STRANGERS_KEY),
        Refusal.WRONG_SIGNATURE,
        "'ec'",
    ),
    "an unknown key": (
        lambda: token(STRANGERS_KEY, "another"),
        Refusal.UNKNOWN_KEY,
        "no such key: kid is 'another', and its keys are 'rsa', 'any rsa', 'ec'",
    ),
    "a key that is left out": (
        lambda: token(STRANGERS_KEY, "enc"),
        Refusal.UNKNOWN_KEY,
        "key 'enc' is not for tokens like this: it is for 'enc' (use), not for signatures",
    ),
    "no key id": (
        lambda: token(key_id=None),
        Refusal.UNKNOWN_KEY,
        "names no key (kid), and the issuer has 3",
    ),
    "a key id that is no text": (lambda: with_header(kid=1), Refusal.MALFORMED, "Key ID"),
    "a key of its own": (
        lambda: jwt.encode(
            claims(),
            STRANGERS_KEY,
            algorithm="ES256",
            headers={"jwk": public(STRANGERS_KEY, "own"), "jku": "https://evil.example.com"},
        ),
        Refusal.UNKNOWN_KEY,
        "names no key",
    ),
    "a key of its own under a known id": (
        lambda: jwt.encode(
            claims(),
            STRANGERS_KEY,
            algorithm="ES256",
            headers={"jwk": public(STRANGERS_KEY, "ec"), "kid": "ec"},
        ),
        Refusal.WRONG_SIGNATURE,
        "'ec'",
    ),
    "a critical header we do not know": (
        lambda: with_header(crit=["exp"], exp=1),
        Refusal.MALFORMED,
        "crit",
    ),
    "wrong issuer": (
        lambda: token(iss="https://evil.example.com/"),
        Refusal.WRONG_ISSUER,
        f"iss is 'https://evil.example.com/', and TokenIssuer is '{ISSUER}'",
    ),
    "an issuer that only begins like ours": (
        lambda: token(iss=f"{ISSUER}x"),
        Refusal.WRONG_ISSUER,
        "TokenIssuer",
    ),
    "an issuer without our slash": (
        lambda: token(iss=ISSUER.rstrip("/")),
        Refusal.WRONG_ISSUER,
        "a slash at the end makes another issuer",
    ),
    "several issuers": (lambda: signed(claims(iss=[ISSUER])), Refusal.WRONG_ISSUER, "TokenIssuer"),
    "no issuer": (lambda: token(iss=None), Refusal.WRONG_ISSUER, '"iss"'),
    "wrong audience": (
        lambda: token(aud="another-api"),
        Refusal.WRONG_AUDIENCE,
        "aud is 'another-api', and TokenAudience is credits-api",
    ),
    "wrong audiences": (
        lambda: token(aud=["another", "credits-api2"]),
        Refusal.WRONG_AUDIENCE,
        "aud is ['another', 'credits-api2']",
    ),
    "an audience that only contains ours": (
        lambda: token(aud="credits-api credits-api2"),
        Refusal.WRONG_AUDIENCE,
        "TokenAudience",
    ),
    "an audience in an object": (
        lambda: token(aud={"credits-api": True}),
        Refusal.WRONG_AUDIENCE,
        "TokenAudience",
    ),
    "no audience": (lambda: token(aud=None), Refusal.WRONG_AUDIENCE, '"aud"'),
    "no audience, but a client": (
        lambda: token(aud=None, client_id="app"),
        Refusal.WRONG_AUDIENCE,
        '"aud"; it has client_id: is that TokenAudienceClaim?',
    ),
    "expired": (
        lambda: token(exp=int(time.time()) - 31),
        Refusal.EXPIRED,
        "expired: exp is 2",
    ),
    "expired long ago": (
        lambda: token(exp=int(time.time()) - 3 * 86_400),
        Refusal.EXPIRED,
        "Z, 3 days ago",
    ),
    "no expiry": (lambda: token(exp=None), Refusal.EXPIRED, '"exp"'),
    "an expiry that is no number": (lambda: token(exp="never"), Refusal.MALFORMED, "exp"),
    "an infinite expiry": (lambda: token(exp=float("inf")), Refusal.MALFORMED, "exp"),
    "an expiry in milliseconds": (
        lambda: token(exp=int(time.time()) * 1000),
        Refusal.MALFORMED,
        "exp must be a number of seconds",
    ),
    "an expiry of 400 digits": (lambda: token(exp=10**400), Refusal.MALFORMED, "exp"),
    "not yet valid": (
        lambda: token(nbf=int(time.time()) + 60),
        Refusal.NOT_YET_VALID,
        "nbf is 2",
    ),
    "issued in the future": (
        lambda: token(iat=int(time.time()) + 150),
        Refusal.NOT_YET_VALID,
        "2 minutes ahead of our clock, and 30 seconds are allowed",
    ),
    "no subject": (lambda: token(sub=None), Refusal.WRONG_SUBJECT, '"sub"'),
    "a subject that is no text": (
        lambda: token(sub=["42"]),
        Refusal.WRONG_SUBJECT,
        "sub: must be 1 to 255 printable characters",
    ),
    "a subject that is no id": (
        lambda: token(sub="42#usage"),
        Refusal.WRONG_USER,
        "if another claim has the user id, name it in TokenUserClaim",
    ),
    "a long subject": (lambda: token(sub="4" * 129), Refusal.WRONG_USER, "sub names the user"),
    "a subject with a fraction": (lambda: token(sub=42.0), Refusal.WRONG_SUBJECT, "whole number"),
    "a subject that is true": (lambda: token(sub=True), Refusal.WRONG_SUBJECT, "whole number"),
    "a negative subject": (lambda: token(sub=-1), Refusal.WRONG_SUBJECT, "whole number"),
    "oversize": (
        lambda: token(more="x" * 8192),
        Refusal.TOO_LARGE,
        "characters, and at most 8,192 are read",
    ),
    "empty": (lambda: "", Refusal.MALFORMED, "Not enough segments"),
    "garbage": (lambda: "garbage", Refusal.MALFORMED, "Not enough segments"),
    "three pieces of garbage": (lambda: "a.b.c", Refusal.MALFORMED, "Invalid"),
    "no JSON": (lambda: f"{part(b'x')}.{part(b'y')}.AA", Refusal.MALFORMED, "Invalid header"),
    "not ASCII": (lambda: "ä.ö.ü", Refusal.MALFORMED, "malformed"),
    "claims that are a list": (
        lambda: jwt.api_jws.encode(b"[]", EC_KEY, algorithm="ES256", headers={"kid": "ec"}),
        Refusal.MALFORMED,
        "must be a json object",
    ),
    "claims that are no JSON": (
        lambda: jwt.api_jws.encode(b"x", EC_KEY, algorithm="ES256", headers={"kid": "ec"}),
        Refusal.MALFORMED,
        "Invalid payload",
    ),
    "a header too deep to read": (
        lambda: f"{part(b'[' * 5000)}.{part({})}.AA",
        Refusal.MALFORMED,
        "malformed",
    ),
}
"""How each is made, which check refuses it, and what is said of it."""


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_is_refused(name: str) -> None:
    make, code, words = REFUSED[name]
    bad = make()
    with pytest.raises(InvalidToken) as refused:
        checker().check(bad)
    assert refused.value.code is code
    assert words in str(refused.value)
    assert len(bad) < 20 or bad not in str(refused.value)


@pytest.mark.parametrize("name", REFUSED)
def test_why_a_token_is_refused_is_logged_with_what_it_names_and_nobody(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, code, words = REFUSED[name]
    _, more = logged_of(make(), monkeypatch)
    assert more["code"] is code
    assert words in more["reason"]
    assert more["issuer"] == ISSUER
    assert set(more) == {"code", "reason", "issuer", "key", "algorithm"}
    assert all(len(str(value)) <= 600 for value in more.values())


def test_what_a_refusal_shows_of_a_token_is_short() -> None:
    for bad in (token(iss="i" * 5000), token(aud=["a" * 50] * 60), with_header(crit=["c" * 5000])):
        with pytest.raises(InvalidToken) as refused:
            checker().check(bad)
        assert len(str(refused.value)) < 400


def test_a_refusal_names_five_keys_of_the_issuer_at_most() -> None:
    many = checker_of(*(public(EC_KEY, f"key {number}") for number in range(100)))
    with pytest.raises(InvalidToken, match=r"'key 4'$"):
        many.check(token(key_id="another"))


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", "Token abc", "Bearertoken"]
)
def test_what_is_no_bearer_token_is_refused(header: str) -> None:
    policy = answer(checker(), header, ARN)
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"


def test_a_good_token_under_another_scheme_is_refused() -> None:
    policy = answer(checker(), f"Basic {token()}", ARN)
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"


def test_the_scheme_is_bearer_however_it_is_written() -> None:
    for header in (f"Bearer {token()}", f"bearer {token()}", f"BEARER  {token()} "):
        policy = answer(checker(), header, ARN)
        assert policy["policyDocument"]["Statement"][0]["Effect"] == "Allow"


@hypothesis.settings(deadline=None)
@given(st.text(), st.text(), st.text())
def test_no_text_whatsoever_is_a_token_or_a_fault(
    header: str, payload: str, signature: str
) -> None:
    one = TokenChecker(settings(), KEYS)
    for text in (header, f"{header}.{payload}.{signature}"):
        with pytest.raises(InvalidToken):
            one.check(text)
    encoded = f"{part(header.encode(errors='replace'))}.{part(payload.encode(errors='replace'))}.AA"
    with pytest.raises(InvalidToken):
        one.check(encoded)


# --- What is read from a token --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("scope", "openid credits:use credits:admin profile"),
        ("scope", ["credits:admin", "credits:use", 7]),
        ("permissions", ["credits:admin", "credits:use"]),
        ("cognito:groups", ["credits:use", "credits:admin", "others"]),
    ],
)
def test_scopes_are_a_text_or_a_list_in_the_configured_claim(claim: str, value: object) -> None:
    carried: Json = {"scope": None, claim: value}
    given = token(**carried)
    assert checker(scope_claims=claim).check(given)["scopes"] == "credits:use credits:admin"
    assert checker(scope_claims="scp").check(given)["scopes"] == ""


@pytest.mark.parametrize("value", [None, 5, {"credits:admin": True}, "", [], [["credits:admin"]]])
def test_a_token_without_scopes_has_none(value: object) -> None:
    assert checker().check(token(scope=value))["scopes"] == ""


def test_several_claims_can_carry_scopes() -> None:
    one = checker(scope_claims="scope,permissions")
    found = one.check(token(scope="credits:read", permissions=["credits:admin"]))
    assert found["scopes"] == "credits:read credits:admin"


def test_the_issuer_may_have_other_names_for_our_scopes_and_then_ours_mean_nothing() -> None:
    one = checker(scope_names="credits:admin=ops credits:admin=staff, credits:read=*")
    assert one.check(token(scope="ops"))["scopes"] == "credits:read credits:admin"
    assert one.check(token(scope="staff"))["scopes"] == "credits:read credits:admin"
    assert one.check(token(scope="credits:admin credits:use"))["scopes"] == (
        "credits:read credits:use"
    )


def test_the_name_for_everybody_cannot_be_asked_for() -> None:
    assert checker().check(token(scope="*"))["scopes"] == ""


def test_another_claim_can_name_the_user_and_the_caller_remains_the_subject() -> None:
    one = checker(user_claim="https://example.com/user_id")
    named: Json = {"https://example.com/user_id": 42}
    found = one.check(token(sub="auth0|ada", **named))
    assert (found["caller"], found["user_id"]) == ("auth0|ada", "42")
    assert one.check(token(sub="shop@clients"))["user_id"] == ""
    with pytest.raises(InvalidToken, match=r"example.com/user_id names the user") as refused:
        one.check(token(**(named | {"https://example.com/user_id": "no user id"})))
    assert refused.value.code is Refusal.WRONG_USER
    assert "TokenUserClaim" not in str(refused.value)


@pytest.mark.parametrize(
    ("subject", "caller"),
    [
        ("conan.o'brien@example.com", "conan.o'brien@example.com"),
        ("CORP\\ada", "CORP\\ada"),
        (
            "CN=Ada Lovelace,OU=Users,DC=example,DC=com",
            "CN=Ada Lovelace,OU=Users,DC=example,DC=com",
        ),
        ("ада@пример.рф", "ада@пример.рф"),
        ("https://example.com/users#42", "https:%2F%2Fexample.com%2Fusers%2342"),
        ("100%", "100%25"),
        ("x" * 255, "x" * 255),
        (42, "42"),
        (0, "0"),
        (9_223_372_036_854_775_807, "9223372036854775807"),
    ],
)
def test_where_another_claim_names_the_user_the_subject_is_any_text(
    subject: object, caller: str
) -> None:
    one = checker(user_claim="uid")
    found = one.check(signed(claims(sub=subject, uid="42")))
    assert (found["caller"], found["user_id"]) == (caller, "42")


@pytest.mark.parametrize(
    "subject",
    ["", " ", "x" * 256, "a\nb", "a\x00", "a\u202eb", "\ud800", 1.5, -1, True, [], {}, 10**300],
)
def test_a_subject_that_cannot_be_written_is_refused_without_being_shown(subject: object) -> None:
    for one in (checker(user_claim="uid"), checker()):
        with pytest.raises(InvalidToken, match="sub: must be 1 to 255 printable") as refused:
            one.check(signed(claims(sub=subject, uid="42")))
        assert refused.value.code is Refusal.WRONG_SUBJECT


@pytest.mark.parametrize(
    "subject", [entries.SYSTEM, "System", " system ", entries.ERASED, "import/balances"]
)
def test_no_token_is_the_actor_of_scheduled_work_or_of_the_erased(subject: str) -> None:
    with pytest.raises(InvalidToken, match="a name that the ledger has for no person"):
        checker(user_claim="uid").check(token(sub=subject, uid="42"))


SUBJECTS = st.text(st.sampled_from("ab#/%2357FfC")) | st.text()
KEYS_OF_REQUESTS = st.text(st.sampled_from("ab#/%25"), min_size=1)


@hypothesis.settings(deadline=None)
@given(SUBJECTS, KEYS_OF_REQUESTS, SUBJECTS, KEYS_OF_REQUESTS)
def test_no_two_callers_and_keys_come_to_one_operation(
    subject: str, key: str, other: str, another: str
) -> None:
    try:
        operations = [f"usage#{caller_of('sub', subject)}#{key}"]
        operations.append(f"usage#{caller_of('sub', other)}#{another}")
    except InvalidInput:
        return
    assert (operations[0] == operations[1]) == ((subject, key) == (other, another))
    for operation in operations:
        assert "/" not in operation.split("#")[1]


@hypothesis.settings(deadline=None)
@given(st.text(st.sampled_from(USER_IDS), min_size=1, max_size=128))
def test_a_caller_whose_subject_is_a_user_id_is_called_that(subject: str) -> None:
    assert caller_of("sub", subject) == subject


def test_a_subject_may_be_as_long_as_openid_connect_allows() -> None:
    assert LONGEST_SUBJECT == 255


@pytest.mark.parametrize(
    ("value", "user_id"),
    [(42, "42"), ("42", "42"), (0, "0"), ("ada@example.com", "ada@example.com"), (None, "")],
)
def test_the_claim_of_the_user_is_a_text_or_a_whole_number(value: object, user_id: str) -> None:
    assert checker(user_claim="uid").check(token(uid=value))["user_id"] == user_id


@pytest.mark.parametrize(
    "value",
    [42.0, 1e3, True, False, -1, 10**400, "", "a b", "4#2", "é", [42], {"id": 42}, "4" * 129],
)
def test_any_other_claim_of_the_user_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(InvalidToken, match="uid names the user: it must be") as refused:
        checker(user_claim="uid").check(token(uid=value))
    assert refused.value.code is Refusal.WRONG_USER


def test_a_number_that_is_too_long_for_a_user_id_is_told_its_bound() -> None:
    with pytest.raises(InvalidToken, match="at most 18 digits; send a longer one as a text"):
        checker().check(signed(claims(sub=1312312312312312312)))


def test_a_subject_that_is_a_number_is_the_user_of_that_number() -> None:
    found = checker().check(signed(claims(sub=42)))
    assert (found["caller"], found["user_id"]) == ("42", "42")


@pytest.mark.parametrize(
    ("path", "carried"),
    [
        ("app_metadata.user_id", {"app_metadata": {"user_id": "42", "role": "pro"}}),
        ("a.b.c.d", {"a": {"b": {"c": {"d": 42}}}}),
        ("https://example.com/user_id", {"https://example.com/user_id": "42"}),
        ("https://example.com/claims.user_id", {"https://example.com/claims": {"user_id": "42"}}),
        (
            "https://hasura.io/jwt/claims.x-hasura-user-id",
            {"https://hasura.io/jwt/claims": {"x-hasura-user-id": "42"}},
        ),
        ("app.user_id", {"app.user_id": "42", "app": {"user_id": "another"}}),
        ("a.b.c", {"a.b": {"c": "42"}, "a": {"b": {"c": "another"}}}),
    ],
)
def test_a_dotted_path_leads_to_a_claim_in_another_and_an_exact_name_comes_first(
    path: str, carried: Json
) -> None:
    assert checker(user_claim=path).check(token(**carried))["user_id"] == "42"


@pytest.mark.parametrize(
    "carried",
    [
        {},
        {"app_metadata": None},
        {"app_metadata": "user_id"},
        {"app_metadata": ["user_id"]},
        {"app_metadata": {}},
        {"app_metadata": {"user_id": None}},
        {"user_id": "42"},
        {"app_metadata.user_id": None, "app_metadata": {"user_id": None}},
    ],
)
def test_a_path_that_leads_nowhere_names_no_user(carried: Json) -> None:
    assert claim_of(carried, "app_metadata.user_id") is None
    assert checker(user_claim="app_metadata.user_id").check(token(**carried))["user_id"] == ""


def test_scopes_and_the_audience_can_be_at_the_end_of_a_path_too() -> None:
    one = checker(
        audience="app",
        audience_claim="client.id",
        scope_claims="realm_access.roles,resource_access.my.client.roles",
    )
    found = one.check(
        token(
            aud=None,
            client={"id": "app"},
            realm_access={"roles": ["credits:read", "offline_access"]},
            resource_access={"my.client": {"roles": ["credits:use"]}},
        )
    )
    assert found["scopes"] == "credits:read credits:use"


# --- What issuers send ----------------------------------------------------------------------------


def test_a_token_that_does_not_say_when_it_was_issued_is_taken() -> None:
    """Access tokens of IdentityServer 4 do not; RFC 7519 leaves it to the issuer."""
    assert checker().check(token(iat=None))["user_id"] == "42"


def test_an_access_token_may_say_that_it_is_one() -> None:
    """As RFC 9068 asks, and Auth0 and Ory do."""
    assert checker().check(signed(claims(), typ="at+jwt"))["user_id"] == "42"


def test_what_is_of_no_use_to_us_is_not_checked() -> None:
    assert checker().check(signed(claims(jti=7, nonce=["x"], auth_time="x")))["user_id"] == "42"


def test_the_audience_is_a_list_for_us_and_others_or_a_text() -> None:
    for audience in ("credits-api", ["credits-api"], ["https://userinfo", "credits-api"]):
        assert checker().check(token(aud=audience))["user_id"] == "42"
    either = checker(audience="api://1234,1234")
    for name in ("api://1234", "1234"):
        assert either.check(token(aud=name))["user_id"] == "42"


def test_scopes_of_okta_and_entra_are_found_without_configuration() -> None:
    assert checker().check(token(scope=None, scp=["credits:use"]))["scopes"] == "credits:use"
    assert checker().check(token(scope=None, scp="credits:use x"))["scopes"] == "credits:use"


def test_a_name_in_a_list_is_one_name_whatever_spaces_are_in_it() -> None:
    one = checker(scope_claims="groups", scope_names="credits:admin=admins")
    assert one.check(token(groups=["former admins"]))["scopes"] == ""


def test_a_token_of_cognito() -> None:
    """An access token: no audience, the client instead, groups for roles."""
    issuer = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI"
    one = checker(
        issuer=issuer,
        audience="1h57kf5cpq17m0eml12EXAMPLE,another",
        audience_claim="client_id",
        scope_claims="scope,cognito:groups",
        scope_names="credits:read=*,credits:use=*,credits:backend=credits/backend,"
        "credits:admin=admins",
    )
    sub = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
    cognito: Json = {
        "sub": sub,
        "iss": issuer,
        "aud": None,
        "client_id": "1h57kf5cpq17m0eml12EXAMPLE",
        "token_use": "access",
        "scope": "aws.cognito.signin.user.admin",
        "cognito:groups": ["admins"],
        "username": sub,
    }
    assert one.check(token(RSA_KEY, "rsa", **cognito)) == {
        "caller": sub,
        "user_id": sub,
        "scopes": "credits:read credits:use credits:admin",
    }
    machine = cognito | {"cognito:groups": None, "scope": "credits/backend"}
    assert "credits:backend" in one.check(token(RSA_KEY, "rsa", **machine))["scopes"]
    for wrong in ({"client_id": "evil"}, {"client_id": None}, {"client_id": ["another"]}):
        with pytest.raises(InvalidToken, match="client_id"):
            one.check(token(RSA_KEY, "rsa", **(cognito | wrong)))


def test_a_token_of_auth0() -> None:
    """Several audiences, an issuer with a slash, permissions from RBAC."""
    issuer = "https://example.eu.auth0.com/"
    one = checker(
        issuer=issuer,
        audience="https://credits.example.com",
        scope_claims="permissions",
    )
    auth0: Json = {
        "iss": issuer,
        "sub": "google-oauth2|104857600",
        "aud": ["https://credits.example.com", "https://example.eu.auth0.com/userinfo"],
        "azp": "my_client_id",
        # What the page asked for: without RBAC Auth0 grants it to every client that asks.
        "scope": "openid profile credits:admin",
        "permissions": ["credits:read", "credits:use"],
    }
    assert one.check(token(RSA_KEY, "rsa", **auth0)) == {
        "caller": "google-oauth2|104857600",
        "user_id": "google-oauth2|104857600",
        "scopes": "credits:read credits:use",
    }
    with pytest.raises(InvalidToken, match="issuer"):
        one.check(token(RSA_KEY, "rsa", **(auth0 | {"iss": "https://example.eu.auth0.com"})))


def test_a_token_of_clerk() -> None:
    """A session token: no audience and no scopes, the page's origin instead."""
    issuer = "https://clerk.example.com"
    one = checker(
        issuer=issuer,
        audience="https://app.example.com",
        audience_claim="azp",
        scope_claims="permissions",
        scope_names="credits:read=*,credits:use=*",
    )
    clerk: Json = {
        "iss": issuer,
        "sub": "user_2NNEqL2nrIRdJ194ndJqAHwEfxC",
        "aud": None,
        "scope": None,
        "azp": "https://app.example.com",
        "sid": "sess_123",
        "fva": [0, -1],
        "nbf": int(time.time()) - 10,
    }
    found = one.check(token(RSA_KEY, "rsa", **clerk))
    assert found["user_id"] == "user_2NNEqL2nrIRdJ194ndJqAHwEfxC"
    assert found["scopes"] == "credits:read credits:use"
    admin = one.check(token(RSA_KEY, "rsa", **clerk, permissions=["credits:admin"]))
    assert "credits:admin" in admin["scopes"]
    with pytest.raises(InvalidToken, match="azp"):
        one.check(token(RSA_KEY, "rsa", **(clerk | {"azp": "https://evil.example.com"})))


def test_a_token_of_okta() -> None:
    """The user's login as the subject, their id as `uid`, their groups, and the client's id."""
    issuer = "https://example.okta.com/oauth2/default"
    one = checker(
        issuer=issuer,
        audience="api://default",
        user_claim="uid",
        scope_claims="cid,groups",
        scope_names="credits:read=*,credits:use=*,credits:backend=0oa2backend,credits:admin=admins",
    )
    okta: Json = {
        "ver": 1,
        "iss": issuer,
        "aud": "api://default",
        "cid": "0oa1client",
        "uid": "00u1abcdEFGH",
        "sub": "conan.o'brien@example.com",
        "scope": None,
        # What the client asked for: the policy that comes with the server allows everybody all.
        "scp": ["openid", "credits:backend", "credits:admin", "admins"],
    }
    assert one.check(token(RSA_KEY, "any rsa", **okta)) == {
        "caller": "conan.o'brien@example.com",
        "user_id": "00u1abcdEFGH",
        "scopes": "credits:read credits:use",
    }
    admin = one.check(token(RSA_KEY, "any rsa", **okta, groups=["Everyone", "admins"]))
    assert admin["scopes"] == "credits:read credits:use credits:admin"
    machine = okta | {"cid": "0oa2backend", "sub": "0oa2backend", "uid": None}
    found = one.check(token(RSA_KEY, "any rsa", **machine))
    assert (found["user_id"], found["scopes"]) == ("", "credits:read credits:use credits:backend")


def test_a_token_of_entra() -> None:
    """Keys without an algorithm, scopes as a text, an id of the directory's for the user."""
    issuer = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0"
    one = checker(
        issuer=issuer,
        audience="66666666-7777-8888-9999-000000000000",
        user_claim="oid",
        scope_claims="roles",
        scope_names="credits:read=*,credits:use=*,credits:admin=Credits.Admin",
    )
    entra: Json = {
        "iss": issuer,
        "aud": "66666666-7777-8888-9999-000000000000",
        "azp": "aaaaaaaa-0000-0000-0000-000000000000",
        "oid": "bbbbbbbb-0000-0000-0000-000000000000",
        "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "scope": None,
        # What the user consented to, by themselves if the permission lets users.
        "scp": "Credits.Read Credits.Admin",
        "nbf": int(time.time()) - 300,
        "ver": "2.0",
    }
    assert one.check(token(RSA_KEY, "any rsa", **entra)) == {
        "caller": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
        "user_id": "bbbbbbbb-0000-0000-0000-000000000000",
        "scopes": "credits:read credits:use",
    }
    daemon = one.check(
        token(RSA_KEY, "any rsa", **(entra | {"scp": None, "roles": ["Credits.Admin"]}))
    )
    assert daemon["scopes"] == "credits:read credits:use credits:admin"
    older = {"iss": "https://sts.windows.net/11111111-2222-3333-4444-555555555555/"}
    with pytest.raises(InvalidToken, match=r"sts\.windows\.net"):
        one.check(token(RSA_KEY, "any rsa", **(entra | older)))


def test_a_token_of_supabase() -> None:
    """ES256, one audience for all users, and what only the product may write in `app_metadata`."""
    issuer = "https://abcdefgh.supabase.co/auth/v1"
    one = checker(
        issuer=issuer,
        audience="authenticated",
        user_claim="app_metadata.user_id",
        scope_claims="app_metadata.scopes",
    )
    supabase: Json = {
        "iss": issuer,
        "aud": "authenticated",
        "sub": "cccccccc-0000-0000-0000-000000000000",
        "role": "authenticated",
        "scope": None,
        "app_metadata": {"provider": "email", "user_id": 42, "scopes": ["credits:read"]},
        "user_metadata": {"user_id": 1, "scopes": ["credits:admin"]},
    }
    assert one.check(token(**supabase)) == {
        "caller": "cccccccc-0000-0000-0000-000000000000",
        "user_id": "42",
        "scopes": "credits:read",
    }


EXAMPLES = {
    made["TokenIssuer"]: made
    for made in (
        dict(re.findall(r'^#   (Token\w+) = "(.*)"$', block, re.MULTILINE))
        for block in (ROOT / "infra" / "parameters.toml").read_text("utf-8").split("\n#\n")
    )
    if "TokenIssuer" in made
}
"""The example of each issuer in infra/parameters.toml."""


def checker_by(example: dict[str, str]) -> TokenChecker:
    """What a stage with the parameters of an example checks tokens with."""
    names = {"TokenIssuer": "issuer", "TokenAudience": "audience"}
    names |= {"TokenAudienceClaim": "audience_claim", "TokenUserClaim": "user_claim"}
    names |= {"TokenScopeClaims": "scope_claims", "TokenScopeNames": "scope_names"}
    return checker(**{names[parameter]: value for parameter, value in example.items()})


def test_there_is_an_example_for_each_issuer_that_the_docs_name() -> None:
    hosts = sorted(example.split("/")[2] for example in EXAMPLES)
    assert hosts == [
        *("<project>.supabase.co", "clerk.example.com", "cognito-idp.eu-west-1.amazonaws.com"),
        *("example.eu.auth0.com", "example.okta.com", "id.example.com"),
        "login.microsoftonline.com",
    ]


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_no_example_makes_a_backend_or_an_admin_of_any_client_that_asks(
    example: dict[str, str],
) -> None:
    """`scope` and `scp` hold what a client asked for; the rest is what users edit themselves."""
    one = checker_by(example)
    wanted = {*Scope, *(name for names in one.settings.scope_names.values() for name in names)}
    asked = {
        "scope": " ".join(wanted),
        "scp": list(wanted),
        "user_metadata": {"scopes": list(wanted)},
        "unsafe_metadata": {"permissions": list(wanted)},
    }
    assert {Scope.BACKEND, Scope.BILLING, Scope.ADMIN}.isdisjoint(one.scopes(asked))


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=EXAMPLES)
def test_every_example_has_a_way_to_make_an_admin(example: dict[str, str]) -> None:
    one = checker_by(example)
    names = list(one.settings.scope_names.get(Scope.ADMIN, {Scope.ADMIN.value}))
    assert any(
        Scope.ADMIN in one.scopes(nested(claim, names)) for claim in one.settings.scope_claims
    )


def nested(path: str, value: object) -> Json:
    """A claim at the end of a path."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return dict(value) if isinstance(value, dict) else {}


def test_the_docs_say_how_long_an_expired_token_and_a_withdrawn_key_are_taken() -> None:
    page = (ROOT / "docs" / "deploying.md").read_text("utf-8")
    expired = TOKEN_ANSWER_SECONDS + authorizer.LEEWAY_SECONDS
    new_key = TOKEN_ANSWER_SECONDS + issuer_keys.REFETCH_SECONDS
    withdrawn = (issuer_keys.KEYS_FRESH_SECONDS + TOKEN_ANSWER_SECONDS) // 60
    kept = issuer_keys.KEYS_KEPT_SECONDS // 3600
    for row in (
        f"| a token expires | {expired} seconds |",
        f"| the issuer signs with a new key | {new_key} seconds |",
        f"| the issuer withdraws a key | {withdrawn} minutes |",
        f"| the issuer cannot be reached | {kept} hours |",
    ):
        assert row in page


def test_a_token_is_taken_for_half_a_minute_after_it_expired_and_no_longer() -> None:
    now = 1_800_000_000.0
    one = TokenChecker(settings(), KEYS, lambda: now)
    one.check(token(exp=int(now) - authorizer.LEEWAY_SECONDS + 1))
    with pytest.raises(InvalidToken, match="has expired"):
        one.check(token(exp=int(now) - authorizer.LEEWAY_SECONDS))
    with pytest.raises(InvalidToken, match="Z, 2 days ago"):
        one.check(token(exp=int(now) - 2 * 86_400))


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_may_begin_half_a_minute_ahead_of_our_clock_and_no_later(name: str) -> None:
    now = 1_800_000_000.0
    one = TokenChecker(settings(), KEYS, lambda: now)
    latest = int(now) + authorizer.LEEWAY_SECONDS
    one.check(signed(claims(exp=int(now) + 600, **{name: latest})))
    with pytest.raises(InvalidToken, match=f"{name} is 2027-01-15T08:00:31Z, 31 seconds ahead"):
        one.check(signed(claims(exp=int(now) + 600, **{name: latest + 1})))


@pytest.mark.parametrize(("length", "code"), [(8192, Refusal.MALFORMED), (8193, Refusal.TOO_LARGE)])
def test_the_longest_token_is_read_and_no_longer_one(length: int, code: Refusal) -> None:
    with pytest.raises(InvalidToken) as refused:
        checker().check("x" * length)
    assert refused.value.code is code


def test_a_process_keeps_the_issuers_keys_from_one_request_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[TokenSettings] = []

    def fetch(settings: TokenSettings) -> Json:
        asked.append(settings)
        return KEY_SET

    monkeypatch.setattr(authorizer, "token_settings", settings)
    monkeypatch.setattr(authorizer, "fetch_keys", fetch)
    authorizer.token_checker.cache_clear()
    for _ in range(2):
        assert authorizer.authorize(f"Bearer {token()}", ARN)["principalId"] == "42"
    authorizer.token_checker.cache_clear()
    assert asked == [settings()]


# --- The settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "http://issuer.example.com"},
        {"issuer": ""},
        {"issuer": "issuer.example.com"},
        {"jwks_url": "http://issuer.example.com/jwks.json"},
        {"audience": " , "},
        {"scope_names": "credits:admin"},
        {"scope_names": "credits:admin="},
        {"scope_names": "credits:admins=ops"},
    ],
)
def test_settings_that_make_no_sense_stop_the_authorizer(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="TOKEN_"):
        checker(**wrong)


def test_only_the_local_stage_may_do_without_https() -> None:
    assert settings(stage="local", issuer="http://127.0.0.1:8080").issuer


# --- What keys sign with --------------------------------------------------------------------------

ED25519 = ed25519.Ed25519PrivateKey.generate()
ED448 = ed448.Ed448PrivateKey.generate()
P384 = ec.generate_private_key(ec.SECP384R1())
P521 = ec.generate_private_key(ec.SECP521R1())

SIGNED = [
    *((RSA_KEY, name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
    *((EC_KEY, "ES256"), (P384, "ES384"), (P521, "ES512"), (ED25519, "EdDSA"), (ED448, "EdDSA")),
]


def checker_of(*keys: Json) -> TokenChecker:
    return TokenChecker(settings(), IssuerKeys(lambda: {"keys": list(keys)}))


@pytest.mark.parametrize(("key", "algorithm"), SIGNED)
def test_a_token_is_signed_as_the_issuers_key_says(key: Any, algorithm: str) -> None:
    given = jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": "k"})
    # Not every issuer says more of a key than its type and curve.
    for published in (public(key, "k", alg=algorithm), public(key, "k")):
        assert checker_of(published).check(given)["user_id"] == "42"


@pytest.mark.parametrize(("key", "algorithm"), SIGNED)
def test_a_token_that_says_it_is_signed_in_another_way_is_refused(key: Any, algorithm: str) -> None:
    good = jwt.encode(claims(), key, algorithm=algorithm, headers={"kid": "k"})
    others = {name for _, name in SIGNED} | {"HS256", "HS384", "HS512", "none", "ES256K", "ES521"}
    for other in sorted(others - {algorithm}):
        for published in (public(key, "k", alg=algorithm), public(key, "k")):
            with pytest.raises(InvalidToken) as refused:
                checker_of(published).check(relabelled(good, alg=other, kid="k"))
            assert refused.value.code in (Refusal.WRONG_ALGORITHM, Refusal.WRONG_SIGNATURE)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED25519])
def test_no_public_key_is_taken_for_a_secret(key: Any, algorithm: str) -> None:
    published = public(key, "k")
    pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    said = f"{part({'alg': algorithm, 'kid': 'k'})}.{part(claims())}"
    for secret in (pem, pem.strip(), json.dumps(published).encode(), b""):
        signature = hmac.digest(secret, said.encode(), f"sha{algorithm[2:]}")
        with pytest.raises(InvalidToken) as refused:
            checker_of(published).check(f"{said}.{part(signature)}")
        assert refused.value.code is Refusal.WRONG_ALGORITHM


def test_a_token_that_names_no_key_was_signed_with_the_only_one() -> None:
    anonymous = {name: value for name, value in public(EC_KEY, "").items() if name != "kid"}
    unusable = public(RSA_KEY, "enc", use="enc")
    for published in (public(EC_KEY, "ec"), anonymous):
        assert checker_of(published, unusable).check(token(key_id=None))["user_id"] == "42"
        with pytest.raises(InvalidToken, match="names no key") as refused:
            checker_of(published, public(RSA_KEY, "rsa")).check(token(key_id=None))
        assert refused.value.code is Refusal.UNKNOWN_KEY
    with pytest.raises(InvalidToken, match="no such key"):
        checker_of(anonymous).check(token(key_id="ec"))


def test_two_keys_of_one_id_are_told_apart_by_what_they_sign_with() -> None:
    both = checker_of(public(RSA_KEY, "k", alg="RS256"), public(EC_KEY, "k"))
    for key in (RSA_KEY, EC_KEY):
        assert both.check(token(key, "k"))["user_id"] == "42"
    paddings = checker_of(public(RSA_KEY, "k", alg="RS256"), public(RSA_KEY, "k", alg="PS256"))
    for algorithm in ("RS256", "PS256"):
        given = jwt.encode(claims(), RSA_KEY, algorithm=algorithm, headers={"kid": "k"})
        assert paddings.check(given)["user_id"] == "42"


def test_a_key_set_says_why_a_key_is_left_out() -> None:
    others = [
        "no key",
        {"kty": "oct", "kid": "secret", "k": "AA"},
        public(EC_KEY, "enc", use="enc"),
        public(RSA_KEY, "oaep", alg="RSA-OAEP"),
        public(SHORT_KEY, "short"),
        {**public(EC_KEY, "both halves"), "d": "AA"},
        {**public(EC_KEY, "broken"), "x": "AA"},
    ]
    left_out = usable_keys({"keys": [*others, public(EC_KEY, "ours")]}).left_out
    assert [name for name, _ in left_out] == [
        *(None, "secret", "enc", "oaep", "short", "both halves", "broken"),
    ]
    for (_, why), words in zip(
        left_out,
        ["object", "type 'oct'", "(use)", "'RSA-OAEP'", "1024 bits", "private", "malformed"],
        strict=True,
    ):
        assert words in why


# --- The issuer's keys ----------------------------------------------------------------------------


class Issuer:
    """An issuer's key set, a clock, and how often the set was fetched."""

    def __init__(self) -> None:
        self.document: Json = KEY_SET
        self.fault: Exception | None = None
        self.time = 1000.0
        self.fetches = 0
        self.takes = 0.0
        self.keys = IssuerKeys(self.fetch, lambda: self.time)

    def fetch(self) -> Json:
        self.fetches += 1
        self.time += self.takes
        if self.fault is not None:
            raise self.fault
        return self.document


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def test_keys_are_fetched_once_and_kept(issuer: Issuer) -> None:
    for _ in range(100):
        assert issuer.keys.find("rsa")
        assert issuer.keys.find("ec")
    assert issuer.fetches == 1


def test_a_rotation_is_followed_at_the_first_token_with_the_new_key(issuer: Issuer) -> None:
    assert issuer.keys.find("ec")
    issuer.time += issuer_keys.REFETCH_SECONDS
    issuer.document = {"keys": [public(STRANGERS_KEY, "new")]}
    assert issuer.keys.find("new")
    assert issuer.keys.find("ec") == ()


def test_a_rotation_is_followed_in_half_a_minute_where_tokens_name_no_key(issuer: Issuer) -> None:
    one = TokenChecker(settings(), issuer.keys)
    issuer.document = {"keys": [public(EC_KEY, "old")]}
    for _ in range(100):
        assert one.check(token(key_id=None))["user_id"] == "42"
    assert issuer.fetches == 1
    issuer.document = {"keys": [public(STRANGERS_KEY, "new")]}
    issuer.time += issuer_keys.REFETCH_SECONDS
    assert one.check(token(STRANGERS_KEY, None))["user_id"] == "42"
    assert issuer.fetches == 2


def test_a_key_that_was_withdrawn_is_refused_within_the_hour(issuer: Issuer) -> None:
    issuer.takes = 4.0
    assert issuer.keys.find("ec")
    # As old as the question: while the answer was under way, the issuer may have withdrawn it.
    issuer.document = {"keys": [public(STRANGERS_KEY, "new")]}
    issuer.time += issuer_keys.KEYS_FRESH_SECONDS - 4
    assert issuer.keys.find("ec")
    issuer.time += 1
    assert issuer.keys.find("ec") == ()


def test_a_flood_of_unknown_keys_reaches_the_issuer_twice_a_minute(issuer: Issuer) -> None:
    assert issuer.keys.find("ec")
    for number in range(6000):
        issuer.time += 0.01
        assert issuer.keys.find(f"made up {number}") == ()
        assert issuer.keys.find("ec")
    assert issuer.fetches <= 3


@pytest.mark.parametrize(
    "fault", [OSError("no route"), TimeoutError(), ValueError("not JSON"), KeyError("keys")]
)
def test_while_the_issuer_is_away_its_keys_are_used_for_a_day(
    issuer: Issuer, fault: Exception
) -> None:
    assert issuer.keys.find("ec")
    issuer.fault = fault
    for _ in range(24):
        issuer.time += 3600
        assert issuer.keys.find("ec")
    issuer.time += 1
    with pytest.raises(KeysUnavailable):
        issuer.keys.find("ec")
    issuer.fault = None
    issuer.time += issuer_keys.REFETCH_SECONDS
    assert issuer.keys.find("ec")


def test_without_any_keys_nobody_is_refused_and_the_issuer_is_asked_again_soon(
    issuer: Issuer,
) -> None:
    issuer.fault = TimeoutError()
    for _ in range(10):
        with pytest.raises(KeysUnavailable):
            answer(TokenChecker(settings(), issuer.keys), f"Bearer {token()}", ARN)
    assert issuer.fetches == 1
    issuer.fault = None
    issuer.time += issuer_keys.RETRY_SECONDS
    assert issuer.keys.find("ec")


@pytest.mark.parametrize(
    "document",
    [
        {"keys": []},
        {"keys": None},
        {"keys": ["ec", None, 1]},
        {"keys": [{"kty": "oct", "kid": "ec", "k": "c2VjcmV0", "alg": "HS256"}]},
        {"keys": [public(EC_KEY, "ec", use="enc")]},
        {"keys": [public(RSA_KEY, "rsa", alg="HS256")]},
        {"keys": [public(RSA_KEY, "rsa", alg="RSA-OAEP-256")]},
        {"keys": [public(RSA_KEY, "rsa", alg="ES256")]},
        {"keys": [public(EC_KEY, "ec", alg="EdDSA")]},
        {"keys": [public(ec.generate_private_key(ec.SECP256K1()), "ec")]},
        {"keys": [{**public(EC_KEY, "ec"), "d": "AA"}]},
        {"keys": [{**public(EC_KEY, "ec"), "crv": ["P-256"]}]},
        {"keys": [{**public(EC_KEY, "ec"), "alg": ["ES256"]}]},
        {"keys": [{"kty": "OKP", "crv": "X25519", "kid": "ec", "x": "AA"}]},
        {"keys": [public(ec.generate_private_key(ec.SECP384R1()), "ec", alg="ES256")]},
        {"keys": [{"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"}]},
        {"keys": [public(SHORT_KEY, "rsa")]},
        {"keys": [{**public(EC_KEY, ""), "kid": 7}]},
        {"error": "not found"},
    ],
)
def test_a_key_set_without_a_key_for_us_does_not_replace_the_one_before(
    issuer: Issuer, document: Json
) -> None:
    assert issuer.keys.find("ec")
    issuer.document = document
    issuer.time += issuer_keys.KEYS_FRESH_SECONDS + 1
    assert issuer.keys.find("ec")
    assert issuer.fetches == 2


@pytest.mark.parametrize(
    "other",
    [
        {"kty": "oct", "kid": "other", "k": part(b"k" * 32)},
        public(EC_KEY, "other", use="enc"),
        public(EC_KEY, "other", alg="ES384"),
        public(SHORT_KEY, "other"),
        {**public(EC_KEY, ""), "kid": 7},
    ],
)
def test_a_key_that_is_not_for_us_is_left_out(other: Json) -> None:
    keys = usable_keys({"keys": [other, public(RSA_KEY, "ours")]})
    assert [key.id for key in keys.keys] == ["ours"]


def test_a_key_for_us_is_found_among_others() -> None:
    others = [{"kty": "OKP"}, {"kty": "oct", "k": "AA"}, public(RSA_KEY, "x", alg="RSA-OAEP")]
    keys = usable_keys({"keys": [*others, public(EC_KEY, "ours")]})
    assert [key.id for key in keys.keys] == ["ours"]


# --- Fetching them --------------------------------------------------------------------------------

Pages = dict[str, tuple[int, bytes]]


@contextmanager
def web_server(pages: Pages, agents: list[str | None] | None = None) -> Iterator[str]:
    """Answers with pages, and notes who asks, by their `User-Agent`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if agents is not None:
                agents.append(self.headers["User-Agent"])
            status, body = pages.get(self.path, (404, b"{}"))
            self.send_response(status)
            if status == 302:
                self.send_header("Location", body.decode())
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def local(url: str, **more: str) -> TokenSettings:
    return settings(stage="local", issuer=url, **more)


def document(content: object, status: int = 200) -> tuple[int, bytes]:
    return status, json.dumps(content).encode()


DISCOVERY = "/.well-known/openid-configuration"


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_keys_are_where_the_issuer_says(slash: str) -> None:
    pages: Pages = {"/keys?v=1": document(KEY_SET)}
    with web_server(pages) as url:
        pages[DISCOVERY] = document({"issuer": url + slash, "jwks_uri": f"{url}/keys?v=1"})
        assert fetch_keys(local(url + slash)) == KEY_SET


def test_the_issuers_firewall_is_told_who_asks() -> None:
    """AWS's own, with its common rules, answers 403 to a request without a `User-Agent`."""
    asked: list[str | None] = []
    with web_server({"/jwks.json": document(KEY_SET)}, asked) as url:
        fetch_keys(local(url, jwks_url=f"{url}/jwks.json"))
    assert asked == ["credits-authorizer"]


def test_the_keys_are_where_they_are_configured_to_be() -> None:
    with web_server({"/jwks.json": document(KEY_SET)}) as url:
        assert fetch_keys(local(url, jwks_url=f"{url}/jwks.json")) == KEY_SET


@pytest.mark.parametrize(
    "page",
    [
        document(KEY_SET, 500),
        document(KEY_SET, 404),
        document(KEY_SET, 206),
        (302, b"/other"),
        document([KEY_SET]),
        (200, b"<html>"),
        (200, b"\xff\xfe"),
        document({"keys": "x" * 300_000}),
    ],
)
def test_an_answer_that_is_no_key_set_is_refused(page: tuple[int, bytes]) -> None:
    with (
        web_server({"/jwks.json": page, "/other": document(KEY_SET)}) as url,
        pytest.raises(ValueError),  # noqa: PT011 - of its own making, or json's
    ):
        fetch_keys(local(url, jwks_url=f"{url}/jwks.json"))


def test_a_key_set_that_was_read_in_part_is_refused() -> None:
    longest = json.dumps(KEY_SET).encode().ljust(256 * 1024)
    with web_server({"/jwks.json": (200, longest)}) as url:
        assert fetch_keys(local(url, jwks_url=f"{url}/jwks.json")) == KEY_SET
    # Of what is longer, no more is read than shows that it is.
    with (
        web_server({"/jwks.json": (200, longest * 2)}) as url,
        pytest.raises(ValueError, match="answered 200 with 262145 bytes"),
    ):
        fetch_keys(local(url, jwks_url=f"{url}/jwks.json"))


def test_the_discovery_document_of_another_issuer_is_refused() -> None:
    pages: Pages = {"/keys": document(KEY_SET)}
    with web_server(pages) as url:
        pages[DISCOVERY] = document({"issuer": ISSUER, "jwks_uri": f"{url}/keys"})
        with pytest.raises(ValueError, match="another issuer"):
            fetch_keys(local(url))


def test_a_slash_at_the_end_makes_another_issuer_in_the_discovery_document_too() -> None:
    """Its tokens would be refused for it: better to be told by the document."""
    pages: Pages = {"/keys": document(KEY_SET)}
    with web_server(pages) as url:
        pages[DISCOVERY] = document({"issuer": f"{url}/", "jwks_uri": f"{url}/keys"})
        with pytest.raises(ValueError, match="another issuer"):
            fetch_keys(local(url))
        # Its document is at the same address.
        assert fetch_keys(local(f"{url}/")) == KEY_SET


def test_keys_do_not_come_from_an_address_without_https() -> None:
    strict = settings()
    assert not strict.may_fetch("http://issuer.example.com/keys")
    with pytest.raises(ValueError, match="not an https"):
        issuer_keys._get("http://issuer.example.com/keys", strict, time.monotonic() + 1)


KEYS_PATH = "/jwks.json"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


@contextmanager
def dripping_server(begins: dict[str, bytes]) -> Iterator[str]:
    """Sends what a path begins with at once, and then a byte every 20 ms, for ever."""
    is_over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(begins[self.path])
            with suppress(OSError):  # the client has gone
                while not is_over.wait(0.02):
                    self.wfile.write(b"1")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        is_over.set()
        server.shutdown()


def fetching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "issuer-keys"]


@pytest.mark.parametrize(
    "begins",
    [
        b"",  # even of the status line
        b"HTTP/1.1 200 OK\r\nX-Name: ",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
        HEAD,
        HEAD.replace(b"Content-Length: 100000", b"Connection: close"),
        HEAD.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked"),
    ],
    ids=["status", "header", "interim answers", "body", "body without an end", "chunks"],
)
def test_a_dripping_issuer_is_given_up_in_time_and_nobody_goes_on_listening(begins: bytes) -> None:
    with dripping_server({KEYS_PATH: begins}) as url:
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=r"no whole answer within 0\.3 s"):
            fetch_keys(local(url, jwks_url=f"{url}{KEYS_PATH}"), seconds=0.3)
        assert time.monotonic() - began < 2
        for thread in fetching():
            thread.join(2)
        assert fetching() == []


def test_both_documents_together_have_one_deadline() -> None:
    pages: Pages = {}
    with dripping_server({KEYS_PATH: HEAD}) as dripping, web_server(pages) as url:
        pages[DISCOVERY] = document({"issuer": url, "jwks_uri": f"{dripping}{KEYS_PATH}"})
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            fetch_keys(local(url), seconds=0.3)
        assert time.monotonic() - began < 2


def test_an_issuer_whose_name_is_not_found_out_is_given_up_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    is_over = threading.Event()

    def lost(*_: object, **__: object) -> None:
        is_over.wait(20)
        raise OSError("no name server answers")

    monkeypatch.setattr(socket, "getaddrinfo", lost)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="no whole answer"):
        fetch_keys(settings(issuer=ISSUER), seconds=0.3)
    assert time.monotonic() - began < 2
    is_over.set()
    for thread in fetching():
        thread.join(2)


def test_nothing_is_begun_after_the_deadline() -> None:
    asked: list[str | None] = []
    with web_server({KEYS_PATH: document(KEY_SET)}, asked) as url, pytest.raises(TimeoutError):
        issuer_keys._get(f"{url}{KEYS_PATH}", local(url), time.monotonic() - 0.001)
    assert asked == []


def test_after_a_dripping_issuer_the_keys_from_before_go_on_to_be_used(issuer: Issuer) -> None:
    assert issuer.keys.find("ec")
    with dripping_server({KEYS_PATH: HEAD}) as url:
        slow = local(url, jwks_url=f"{url}{KEYS_PATH}")
        issuer.keys._fetch = lambda: fetch_keys(slow, seconds=0.1)
        issuer.time += issuer_keys.KEYS_FRESH_SECONDS + 1
        assert issuer.keys.find("ec")


def test_an_issuer_that_is_not_there_is_an_outage(issuer: Issuer) -> None:
    with web_server({}) as url:
        pass
    keys = IssuerKeys(lambda: fetch_keys(local(url)), lambda: issuer.time)
    with pytest.raises(KeysUnavailable):
        keys.find("ec")
