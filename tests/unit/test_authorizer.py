"""Which tokens are taken, what is read from them, and how often the issuer is asked for keys."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from chalicelib.api import authorizer
from chalicelib.api.authorizer import (
    InvalidToken,
    IssuerKeys,
    KeysUnavailable,
    TokenChecker,
    answer,
    fetch_keys,
)
from chalicelib.settings import TokenSettings

Json = dict[str, Any]

ISSUER = "https://issuer.example.com/"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
SHORT_KEY = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - refused
STRANGERS_KEY = ec.generate_private_key(ec.SECP256R1())

ENVIRONMENT = {
    "TOKEN_ISSUER": ISSUER,
    "TOKEN_AUDIENCE": "credits-api",
}
ARN = "arn:aws:execute-api:eu-west-1:123456789012:abcdef/v1/GET/api/credits/balance"


def public(key: Any, key_id: str, **more: str) -> Json:
    """A key as the issuer publishes it."""
    algorithm = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    return {**algorithm.to_jwk(key.public_key(), as_dict=True), "kid": key_id, **more}


KEY_SET = {"keys": [public(RSA_KEY, "rsa", alg="RS256", use="sig"), public(EC_KEY, "ec")]}


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


def test_a_bad_token_denies_the_whole_stage_and_says_nothing_of_it() -> None:
    policy = answer(checker(), f"Bearer {token(key=STRANGERS_KEY)}", ARN)
    (statement,) = policy["policyDocument"]["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Resource"].endswith(":abcdef/v1/*")
    assert policy["context"] == {}


def test_a_refused_token_is_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []

    class Log:
        def info(self, message: str, **more: object) -> None:
            logged.append(f"{message} {more}")

    monkeypatch.setattr(authorizer, "logger", Log)
    bad = token(exp=1)
    answer(checker(), f"Bearer {bad}", ARN)
    (line,) = logged
    assert line.startswith("Token refused")
    assert "expired" in line
    assert not any(piece in line for piece in bad.split("."))


def test_clocks_may_differ_by_half_a_minute() -> None:
    now = int(time.time())
    checker().check(token(exp=now - 15, nbf=now + 15, iat=now + 15))


# --- Bad tokens -----------------------------------------------------------------------------------


def hs256_with_the_public_key() -> str:
    """Signed with what everybody knows, for a server that takes the token's word for how."""
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(claims())}"
    return f"{signed}.{part(hmac.digest(pem, signed.encode(), hashlib.sha256))}"


def tampered() -> str:
    header, _, signature = token().split(".")
    return f"{header}.{part(claims(sub='1', scope='credits:admin'))}.{signature}"


def with_header(**header: object) -> str:
    good = jwt.encode(claims(), EC_KEY, algorithm="ES256", headers={"kid": "ec"}).split(".")
    return ".".join([part({"typ": "JWT", "alg": "ES256", "kid": "ec", **header}), *good[1:]])


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "tampered": (tampered, "Signature verification failed"),
    "alg none": (lambda: f"{part({'alg': 'none', 'kid': 'ec'})}.{part(claims())}.", "alg value"),
    "alg None": (lambda: f"{part({'alg': 'None', 'kid': 'ec'})}.{part(claims())}.AA", "alg value"),
    "no alg": (lambda: f"{part({'kid': 'ec'})}.{part(claims())}.AA", "Algorithm not specified"),
    "HS256 with the public key": (hs256_with_the_public_key, "alg value is not allowed"),
    "another algorithm of the key": (
        lambda: jwt.encode(claims(), RSA_KEY, algorithm="RS512", headers={"kid": "rsa"}),
        "alg value is not allowed",
    ),
    "the algorithm of the other key": (lambda: with_header(kid="rsa"), "alg value is not allowed"),
    "a stranger's key under a known id": (lambda: token(STRANGERS_KEY), "Signature verification"),
    "an unknown key": (lambda: token(STRANGERS_KEY, "another"), "no such key"),
    "no key id": (lambda: token(key_id=None), "no such key"),
    "a key id that is no text": (lambda: with_header(kid=1), "Key ID"),
    "a key of its own": (
        lambda: jwt.encode(
            claims(),
            STRANGERS_KEY,
            algorithm="ES256",
            headers={"jwk": public(STRANGERS_KEY, "own"), "jku": "https://evil.example.com"},
        ),
        "no such key",
    ),
    "a critical header we do not know": (lambda: with_header(crit=["exp"], exp=1), "crit"),
    "wrong issuer": (lambda: token(iss="https://evil.example.com/"), "Invalid issuer"),
    "an issuer that only begins like ours": (lambda: token(iss=f"{ISSUER}x"), "Invalid issuer"),
    "no issuer": (lambda: token(iss=None), '"iss"'),
    "wrong audience": (lambda: token(aud="another-api"), "Audience"),
    "wrong audiences": (lambda: token(aud=["another", "credits-api2"]), "Audience"),
    "no audience": (lambda: token(aud=None), '"aud"'),
    "expired": (lambda: token(exp=int(time.time()) - 31), "expired"),
    "no expiry": (lambda: token(exp=None), '"exp"'),
    "an expiry that is no number": (lambda: token(exp="never"), "exp"),
    "an infinite expiry": (lambda: token(exp=float("inf")), "exp"),
    "not yet valid": (lambda: token(nbf=int(time.time()) + 60), "nbf"),
    "issued in the future": (lambda: token(iat=int(time.time()) + 60), "iat"),
    "not said when it was issued": (lambda: token(iat=None), '"iat"'),
    "no subject": (lambda: token(sub=None), '"sub"'),
    "a subject that is no text": (
        lambda: f"{part({'alg': 'ES256', 'kid': 'ec'})}.{part(claims(sub=['42']))}.AA",
        "Signature",
    ),
    "a subject that is no id": (lambda: token(sub="42#usage"), "sub is not of the alphabet"),
    "a long subject": (lambda: token(sub="4" * 129), "sub is not of the alphabet"),
    "oversize": (lambda: token(more="x" * 8192), "characters"),
    "empty": (lambda: "", "Not enough segments"),
    "garbage": (lambda: "garbage", "Not enough segments"),
    "three pieces of garbage": (lambda: "a.b.c", "Invalid"),
    "no JSON": (lambda: f"{part(b'x')}.{part(b'y')}.AA", "Invalid header"),
    "not ASCII": (lambda: "ä.ö.ü", ""),
    "claims that are a list": (
        lambda: jwt.api_jws.encode(b"[]", EC_KEY, algorithm="ES256", headers={"kid": "ec"}),
        "must be a json object",
    ),
    "claims that are no JSON": (
        lambda: jwt.api_jws.encode(b"x", EC_KEY, algorithm="ES256", headers={"kid": "ec"}),
        "Invalid payload",
    ),
    "a header too deep to read": (lambda: f"{part(b'[' * 5000)}.{part({})}.AA", ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_token_is_refused(name: str) -> None:
    make, reason = REFUSED[name]
    bad = make()
    with pytest.raises(InvalidToken) as refused:
        checker().check(bad)
    assert reason in str(refused.value)
    assert len(bad) < 20 or bad not in str(refused.value)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YWRhOmFkYQ==", "Token abc", "Bearertoken"]
)
def test_what_is_no_bearer_token_is_refused(header: str) -> None:
    policy = answer(checker(), header, ARN)
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"


def test_a_good_token_under_another_scheme_is_refused() -> None:
    policy = answer(checker(), f"Basic {token()}", ARN)
    assert policy["policyDocument"]["Statement"][0]["Effect"] == "Deny"


def test_a_subject_that_is_no_user_id_is_refused_whoever_the_user_is() -> None:
    for subject in ("ada#other", "a b", "x" * 129):
        with pytest.raises(InvalidToken, match="alphabet"):
            checker(user_claim="uid").check(token(sub=subject, uid="42"))


def test_the_scheme_is_bearer_however_it_is_written() -> None:
    for header in (f"Bearer {token()}", f"bearer {token()}", f"BEARER  {token()} "):
        policy = answer(checker(), header, ARN)
        assert policy["policyDocument"]["Statement"][0]["Effect"] == "Allow"


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


KEYS = IssuerKeys(lambda: KEY_SET)


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
    with pytest.raises(InvalidToken, match=r"example.com/user_id is not"):
        one.check(token(**(named | {"https://example.com/user_id": "no user id"})))


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
        scope_claims="permissions,scope",
    )
    auth0: Json = {
        "iss": issuer,
        "sub": "google-oauth2|104857600",
        "aud": ["https://credits.example.com", "https://example.eu.auth0.com/userinfo"],
        "azp": "my_client_id",
        "scope": "openid profile",
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


# --- The issuer's keys ----------------------------------------------------------------------------


class Issuer:
    """An issuer's key set, a clock, and how often the set was fetched."""

    def __init__(self) -> None:
        self.document: Json = KEY_SET
        self.fault: Exception | None = None
        self.time = 1000.0
        self.fetches = 0
        self.keys = IssuerKeys(self.fetch, lambda: self.time)

    def fetch(self) -> Json:
        self.fetches += 1
        if self.fault is not None:
            raise self.fault
        return self.document


@pytest.fixture
def issuer() -> Issuer:
    return Issuer()


def test_keys_are_fetched_once_and_kept(issuer: Issuer) -> None:
    for _ in range(100):
        assert issuer.keys.find("rsa") is not None
        assert issuer.keys.find("ec") is not None
    assert issuer.fetches == 1


def test_a_rotation_is_followed_at_the_first_token_with_the_new_key(issuer: Issuer) -> None:
    assert issuer.keys.find("ec") is not None
    issuer.time += authorizer.REFETCH_SECONDS
    issuer.document = {"keys": [public(STRANGERS_KEY, "new")]}
    assert issuer.keys.find("new") is not None
    assert issuer.keys.find("ec") is None


def test_a_key_that_was_withdrawn_is_refused_within_the_hour(issuer: Issuer) -> None:
    assert issuer.keys.find("ec") is not None
    issuer.document = {"keys": [public(STRANGERS_KEY, "new")]}
    issuer.time += authorizer.KEYS_FRESH_SECONDS
    assert issuer.keys.find("ec") is not None
    issuer.time += 1
    assert issuer.keys.find("ec") is None


def test_a_flood_of_unknown_keys_reaches_the_issuer_twice_a_minute(issuer: Issuer) -> None:
    assert issuer.keys.find("ec") is not None
    for number in range(6000):
        issuer.time += 0.01
        assert issuer.keys.find(f"made up {number}") is None
        assert issuer.keys.find("ec") is not None
    assert issuer.fetches <= 3


@pytest.mark.parametrize(
    "fault", [OSError("no route"), TimeoutError(), ValueError("not JSON"), KeyError("keys")]
)
def test_while_the_issuer_is_away_its_keys_are_used_for_a_day(
    issuer: Issuer, fault: Exception
) -> None:
    assert issuer.keys.find("ec") is not None
    issuer.fault = fault
    for _ in range(24):
        issuer.time += 3599
        assert issuer.keys.find("ec") is not None
    issuer.time += 3600
    with pytest.raises(KeysUnavailable):
        issuer.keys.find("ec")
    issuer.fault = None
    issuer.time += authorizer.REFETCH_SECONDS
    assert issuer.keys.find("ec") is not None


def test_without_any_keys_nobody_is_refused_and_the_issuer_is_asked_again_soon(
    issuer: Issuer,
) -> None:
    issuer.fault = TimeoutError()
    for _ in range(10):
        with pytest.raises(KeysUnavailable):
            answer(TokenChecker(settings(), issuer.keys), f"Bearer {token()}", ARN)
    assert issuer.fetches == 1
    issuer.fault = None
    issuer.time += authorizer.RETRY_SECONDS
    assert issuer.keys.find("ec") is not None


@pytest.mark.parametrize(
    "document",
    [
        {"keys": []},
        {"keys": None},
        {"keys": ["ec", None, 1]},
        {"keys": [{"kty": "oct", "kid": "ec", "k": "c2VjcmV0", "alg": "HS256"}]},
        {"keys": [public(EC_KEY, "ec", use="enc")]},
        {"keys": [public(RSA_KEY, "rsa", alg="RS512")]},
        {"keys": [public(RSA_KEY, "rsa", alg="PS256")]},
        {"keys": [public(ec.generate_private_key(ec.SECP384R1()), "ec")]},
        {"keys": [public(ec.generate_private_key(ec.SECP384R1()), "ec", alg="ES256")]},
        {"keys": [{"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"}]},
        {"keys": [public(SHORT_KEY, "rsa")]},
        {"keys": [{name: value for name, value in public(EC_KEY, "").items() if name != "kid"}]},
        {"keys": [{**public(EC_KEY, ""), "kid": 7}]},
        {"error": "not found"},
    ],
)
def test_a_key_set_without_a_key_for_us_is_none_and_the_one_before_stays(
    issuer: Issuer, document: Json
) -> None:
    assert issuer.keys.find("ec") is not None
    issuer.document = document
    issuer.time += authorizer.KEYS_FRESH_SECONDS + 1
    assert issuer.keys.find("ec") is not None
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
    keys = authorizer.usable_keys({"keys": [other, public(RSA_KEY, "ours")]})
    assert list(keys) == ["ours"]


def test_a_key_for_us_is_found_among_others() -> None:
    others = [{"kty": "OKP"}, {"kty": "oct", "k": "AA"}, public(RSA_KEY, "x", alg="RSA-OAEP")]
    keys = authorizer.usable_keys({"keys": [*others, public(EC_KEY, "ours")]})
    assert list(keys) == ["ours"]


# --- Fetching them --------------------------------------------------------------------------------

Pages = dict[str, tuple[int, bytes]]


@contextmanager
def web_server(pages: Pages) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
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


def test_the_keys_are_where_they_are_configured_to_be() -> None:
    with web_server({"/jwks.json": document(KEY_SET)}) as url:
        assert fetch_keys(local(url, jwks_url=f"{url}/jwks.json")) == KEY_SET


@pytest.mark.parametrize(
    "page",
    [
        document(KEY_SET, 500),
        document(KEY_SET, 404),
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
    padded = json.dumps(KEY_SET).encode() + b" " * 300_000
    with (
        web_server({"/jwks.json": (200, padded)}) as url,
        pytest.raises(ValueError, match="bytes"),
    ):
        fetch_keys(local(url, jwks_url=f"{url}/jwks.json"))


def test_the_discovery_document_of_another_issuer_is_refused() -> None:
    pages: Pages = {"/keys": document(KEY_SET)}
    with web_server(pages) as url:
        pages[DISCOVERY] = document({"issuer": ISSUER, "jwks_uri": f"{url}/keys"})
        with pytest.raises(ValueError, match="another issuer"):
            fetch_keys(local(url))


def test_keys_do_not_come_from_an_address_without_https() -> None:
    strict = settings()
    assert not strict.may_fetch("http://issuer.example.com/keys")
    with pytest.raises(ValueError, match="not an https"):
        authorizer._get("http://issuer.example.com/keys", strict)


def test_an_issuer_that_is_not_there_is_an_outage(issuer: Issuer) -> None:
    with web_server({}) as url:
        pass
    keys = IssuerKeys(lambda: fetch_keys(local(url)), lambda: issuer.time)
    with pytest.raises(KeysUnavailable):
        keys.find("ec")
