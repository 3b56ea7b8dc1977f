"""The local issuer as a backend sees it: who is granted a token, and what others are told."""

import base64
import http.client
import json
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import jwt
import pytest
from credits_client import ClientCredentials, Credits, NoToken

from infra.local import client_credentials, tokens
from infra.local.client_credentials import CLIENT_ID, CLIENT_SECRET, Refused, form_of

FORM = "application/x-www-form-urlencoded"
WHO = {"client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
GRANT = {"grant_type": "client_credentials"}
BOTH = "credits:backend credits:billing"


def basic(who: str = f"{CLIENT_ID}:{CLIENT_SECRET}") -> str:
    return "Basic " + base64.b64encode(who.encode()).decode()


def granted(content_type: str, header: str | None, body: bytes) -> str:
    return client_credentials.granted(form_of(content_type, body), header)


def ask(header: str | None = None, **fields: str) -> str:
    return granted(FORM, header, urlencode(fields).encode())


def test_the_client_is_granted_what_it_asks_for_with_its_secret_in_the_header_or_the_body() -> None:
    assert ask(**GRANT, **WHO, scope="credits:billing") == "credits:billing"
    assert ask(basic(), **GRANT, scope="credits:backend") == "credits:backend"
    assert ask(basic(), **GRANT, client_id=CLIENT_ID, audience="credits") == BOTH
    assert ask(basic("%62ackend:local%2Dsecret"), **GRANT) == BOTH
    assert ask(basic().replace("Basic", " bASIC"), **GRANT) == BOTH
    # In one order, each once, whatever was asked for.
    assert ask(**GRANT, **WHO, scope="credits:billing credits:backend credits:billing") == BOTH


def test_without_a_scope_it_is_granted_all_it_may_have() -> None:
    assert ask(**GRANT, **WHO) == ask(**GRANT, **WHO, scope="") == BOTH


def test_what_is_not_known_is_ignored_and_the_form_may_name_its_characters() -> None:
    more = {f"resource{number}": "x" for number in range(17)}
    body = urlencode({**GRANT, **WHO, **more}).encode()
    assert len(more) + len(GRANT) + len(WHO) == 20
    for content_type in (FORM, f"{FORM} ; charset=UTF-8", FORM.title()):
        assert granted(content_type, None, body) == BOTH


@pytest.mark.parametrize(
    ("header", "fields", "error"),
    [
        (None, GRANT, "invalid_client"),
        (None, {**GRANT, "client_id": CLIENT_ID}, "invalid_client"),
        (None, {**GRANT, **WHO, "client_secret": "x"}, "invalid_client"),
        (None, {**GRANT, **WHO, "client_id": "x"}, "invalid_client"),
        (basic("backend:x"), GRANT, "invalid_client"),
        (basic("x:local-secret"), GRANT, "invalid_client"),
        ("Bearer a.b.c", GRANT, "invalid_client"),
        ("Basic !", GRANT, "invalid_client"),
        (basic().replace("Basic ", "Basic !"), GRANT, "invalid_client"),
        ("Basic", GRANT, "invalid_client"),
        ("Basic /w==", GRANT, "invalid_client"),
        ("Basic YmFja2VuZA==", GRANT, "invalid_client"),
        (basic(), {**GRANT, **WHO}, "invalid_request"),
        (basic(), {**GRANT, "client_secret": CLIENT_SECRET}, "invalid_request"),
        (basic(), {**GRANT, "client_id": "x"}, "invalid_request"),
        (basic(f"x:{CLIENT_SECRET}"), {**GRANT, "client_id": CLIENT_ID}, "invalid_request"),
        (None, WHO, "invalid_request"),
        (None, {**WHO, "grant_type": ""}, "invalid_request"),
        (None, {**WHO, "grant_type": "password"}, "unsupported_grant_type"),
        (None, {**GRANT, **WHO, "audience": "credits other"}, "invalid_request"),
        (None, {**GRANT, **WHO, "scope": "credits:admin"}, "invalid_scope"),
        (None, {**GRANT, **WHO, "scope": "credits:backend credits:use"}, "invalid_scope"),
        (None, {**GRANT, **WHO, "scope": " "}, "invalid_scope"),
    ],
)
def test_others_are_refused_in_the_words_of_the_standard(
    header: str | None, fields: dict[str, str], error: str
) -> None:
    with pytest.raises(Refused) as refused:
        ask(header, **fields)
    assert refused.value.error == error
    assert fields is not WHO or str(refused.value).endswith("missing: send client_credentials")
    assert str(refused.value) == f"{error}: {refused.value.description}"
    assert refused.value.status == (401 if error == "invalid_client" else 400)
    assert CLIENT_SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", json.dumps({**GRANT, **WHO}).encode()),
        ("", urlencode({**GRANT, **WHO}).encode()),
        (FORM, urlencode([*WHO.items(), *GRANT.items(), ("scope", "a"), ("scope", "b")]).encode()),
        (FORM, b"&".join(b"a%d=1" % number for number in range(21))),
        (FORM, b"grant_type=%ff"),
        (FORM, b"grant_type=\xff"),
    ],
)
def test_what_is_no_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        granted(content_type, None, body)
    assert (refused.value.error, refused.value.status) == ("invalid_request", 400)


# --- Over HTTP ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with tokens.issuer() as url:
        yield url


def send(url: str, path: str, body: bytes = b"", **headers: str) -> tuple[Any, Any]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST" if body else "GET", path, body or None, named)
        answer = connection.getresponse()
        text = answer.read()
        return answer, json.loads(text) if text.startswith(b"{") else text.decode()
    finally:
        connection.close()


def test_the_discovery_document_names_where_tokens_are_and_they_are_signed_by_its_key(
    issuer: str,
) -> None:
    _, document = send(issuer, "/.well-known/openid-configuration")
    assert "client_credentials" in document["grant_types_supported"]
    assert document["token_endpoint"] == f"{issuer}/oauth/token"
    body = urlencode({**GRANT, **WHO}).encode()
    answer, token = send(issuer, "/oauth/token", body, Content_Type=FORM)
    assert (answer.status, answer.getheader("Cache-Control")) == (200, "no-store")
    assert (token["token_type"], token["expires_in"], token["scope"]) == ("Bearer", 3600, BOTH)
    (key,) = send(issuer, "/jwks.json")[1]["keys"]
    claims = jwt.decode(
        token["access_token"], jwt.PyJWK(key), ["RS256"], audience="credits", issuer=issuer
    )
    assert claims["exp"] - claims["iat"] == 3600
    assert [claims[name] for name in ("sub", "client_id", "scope")] == [CLIENT_ID, CLIENT_ID, BOTH]
    assert (key["kid"], key["alg"], key["use"]) == ("local", "RS256", "sig")
    assert jwt.get_unverified_header(token["access_token"])["kid"] == "local"
    assert [send(issuer, f"/jwks.json{more}")[0].status for more in ("/", "?x")] == [404, 404]


def test_any_token_is_signed_for_a_program_with_the_claims_that_it_names(
    issuer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    urlopen = urllib.request.urlopen

    def opened(request: Any, timeout: float) -> Any:
        waited.append(timeout)
        return urlopen(request, timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", opened)
    (key,) = send(issuer, "/jwks.json")[1]["keys"]

    def claims(token: str, audience: str = "credits") -> Any:
        return jwt.decode(token, jwt.PyJWK(key), ["RS256"], audience=audience, issuer=issuer)

    usual = claims(tokens.issue(issuer, "zoë"))
    assert (usual["sub"], usual["scope"]) == ("zoë", "credits:read credits:use")
    assert usual["exp"] - usual["iat"] == 3600
    told = tokens.issue(issuer, "1", "credits:admin", 60, {"aud": "other", "org": "", "sub": "2"})
    found = claims(told, "other")
    assert [found[name] for name in ("sub", "scope", "org")] == ["2", "credits:admin", ""]
    assert found["exp"] - found["iat"] == 60
    assert claims(tokens.issue(issuer, "1", claims={"iat": 1}))["iat"] == 1
    assert waited == [10, 10, 10]


def test_an_issuer_that_has_ended_is_named_with_what_to_do() -> None:
    threads = set(threading.enumerate())
    with tokens.issuer() as ended:
        pass
    assert set(threading.enumerate()) <= threads
    with pytest.raises(tokens.TokenError, match=rf"{ended} gives no token .* make up"):
        tokens.issue(ended, "ada")


@pytest.mark.parametrize("path", ["/token", "/redirect-uris"])
@pytest.mark.parametrize("content_type", ["text/plain", FORM, "application/json; charset=utf-8"])
def test_what_a_page_could_send_unasked_makes_no_token_and_moves_no_address(
    issuer: str, path: str, content_type: str
) -> None:
    body = b'{"sub": "ops", "redirect_uris": ["http://evil.example.com"]}'
    answer, said = send(issuer, path, body, Content_Type=content_type)
    assert (answer.status, said) == (400, {"error": "invalid_request"})
    assert send(issuer, "/nothing", body, Content_Type="application/json")[0].status == 400


def test_a_wrong_secret_in_the_header_is_told_the_scheme_and_nothing_is_logged(
    issuer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    body = urlencode(GRANT).encode()
    wrong = {"Content_Type": FORM, "Authorization": basic("backend:wr0ng")}
    answer, told = send(issuer, "/oauth/token", body, **wrong)
    assert (answer.status, told["error"]) == (401, "invalid_client")
    assert answer.getheader("WWW-Authenticate") == 'Basic realm="local issuer"'
    answer, _ = send(issuer, "/oauth/token", urlencode({**GRANT, **WHO}).encode())
    assert (answer.status, answer.getheader("WWW-Authenticate")) == (400, None)
    in_body = urlencode({**GRANT, **WHO, "client_secret": "wr0ng"}).encode()
    answer, _ = send(issuer, "/oauth/token", in_body, Content_Type=FORM)
    assert (answer.status, answer.getheader("WWW-Authenticate")) == (401, None)
    assert capfd.readouterr() == ("", "")


def test_a_page_in_a_browser_gets_no_token(issuer: str) -> None:
    body = urlencode({**GRANT, **WHO}).encode()
    for header in ({"Origin": "https://evil.example.com"}, {"Host": "evil.example.com:80"}):
        answer, said = send(issuer, "/oauth/token", body, Content_Type=FORM, **header)
        assert (answer.status, "access_token" in said) == (403, False)


@pytest.mark.parametrize("length", ["16385", "-1", "x", "", "9" * 30])
def test_a_body_of_unknown_or_great_length_is_not_read(issuer: str, length: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(issuer).netloc, timeout=10)
    connection.putrequest("POST", "/oauth/token")
    connection.putheader("Content-Type", FORM)
    connection.putheader("Content-Length", length)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.load(answer)) == (400, {"error": "invalid_request"})
    connection.close()


def test_the_largest_body_is_read(issuer: str) -> None:
    body = urlencode({**GRANT, **WHO, "more": ""}).encode()
    answer, _ = send(
        issuer, "/oauth/token", body + b"x" * (16 * 1024 - len(body)), Content_Type=FORM
    )
    assert answer.status == 200


@pytest.mark.parametrize("secret_in_body", [False, True])
def test_the_python_client_is_told_why_it_gets_no_token(
    issuer: str, *, secret_in_body: bool
) -> None:
    wrong = ClientCredentials(
        f"{issuer}/oauth/token", CLIENT_ID, "x", "credits:backend", secret_in_body=secret_in_body
    )
    with Credits(issuer, wrong) as client, pytest.raises(NoToken, match=r"401 \(invalid_client\)"):
        client.balance("ada")
