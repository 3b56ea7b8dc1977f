"""The routes of the console: its files, and what the page is told before anybody signs in."""

import gzip
import html
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from chalicelib.api import console
from chalicelib.api.issuer_keys import FETCH_FAULTS
from chalicelib.settings import console_settings, token_settings
from tests.aws.api import ADMIN, NOBODY, Api, Caller, Reply, user

ISSUER = "https://id.example.com"
DOCUMENT = {
    "issuer": ISSUER,
    "authorization_endpoint": f"{ISSUER}/authorize",
    "token_endpoint": "https://tokens.example.com/oauth/token",
    "end_session_endpoint": "https://id.example.com/logout",
    "jwks_uri": f"{ISSUER}/keys",
}


class Issuer:
    """What the issuer answers when its discovery document is asked for, and how often it was."""

    def __init__(self) -> None:
        self.document: dict[str, Any] | None = dict(DOCUMENT)
        self.asked = 0
        self.time = 0.0

    def fetch(self) -> dict[str, Any]:
        self.asked += 1
        if self.document is None:
            raise TimeoutError("timed out")
        return self.document


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    there = Issuer()
    endpoints = console.IssuerEndpoints(
        there.fetch, lambda url: url.startswith("https://"), lambda: there.time
    )
    monkeypatch.setattr(console, "issuer_endpoints", lambda: endpoints)
    monkeypatch.setenv("CONSOLE_CLIENT_ID", "the-console")
    monkeypatch.setenv("STAGE", "prod")
    monkeypatch.setenv("TOKEN_ISSUER", ISSUER)
    monkeypatch.setenv("TOKEN_AUDIENCE", "https://credits.example.com,other")
    for settings in (console_settings, token_settings):
        settings.cache_clear()
    yield there
    monkeypatch.undo()
    for settings in (console_settings, token_settings):
        settings.cache_clear()


def told(reply: Reply) -> dict[str, Any]:
    """What the page is told, from its markup."""
    (content,) = re.findall(r'<meta name="console" content="([^"]*)">', reply.text)
    found: dict[str, Any] = json.loads(html.unescape(content))
    return found


def policy(reply: Reply) -> dict[str, str]:
    parts = (
        part.strip().partition(" ") for part in reply.headers["content-security-policy"].split(";")
    )
    return {name: value for name, _, value in parts}


def test_without_a_client_id_there_is_no_console(api: Api) -> None:
    console_settings.cache_clear()
    for path in ("/console", "/console/main.js"):
        reply = api.get(path, NOBODY)
        # The words of any unknown route: they do not tell a stranger that there could be one.
        assert (reply.status, reply.json["detail"]) == (404, "there is no such route")
    assert api.get("/console/session", ADMIN).status == 404


@pytest.mark.usefixtures("issuer")
def test_the_address_of_the_page_has_no_slash_at_its_end(api: Api) -> None:
    """Its files are named relative to it, whatever a stage or a domain puts before."""
    reply = api.get("/console/", NOBODY)
    assert (reply.status, reply.headers["location"]) == (308, "../console")


@pytest.mark.usefixtures("issuer")
def test_the_page_is_told_where_to_sign_in_and_nothing_secret(api: Api) -> None:
    reply = api.get("/console", NOBODY)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert told(reply) == {
        "product": "Credits",
        "stage": "dev",
        "issuer": ISSUER,
        "client_id": "the-console",
        "scope": "openid",
        "audience": "https://credits.example.com",
        "authorization_endpoint": DOCUMENT["authorization_endpoint"],
        "token_endpoint": DOCUMENT["token_endpoint"],
        "end_session_endpoint": DOCUMENT["end_session_endpoint"],
    }


@pytest.mark.usefixtures("issuer")
@pytest.mark.parametrize("fault", FETCH_FAULTS)
def test_a_page_of_an_issuer_whose_document_cannot_be_had_is_served_without_its_endpoints(
    api: Api, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """A document that is no object, say, or one that is nested without an end."""

    def fail() -> dict[str, Any]:
        raise fault("no document")

    monkeypatch.setattr(console.issuer_endpoints(), "_fetch", fail)
    reply = api.get("/console", NOBODY)
    assert reply.status == 200
    assert "token_endpoint" not in told(reply)
    assert policy(reply)["connect-src"] == "'self'"


@pytest.mark.usefixtures("issuer")
def test_the_page_may_load_its_own_files_ask_the_issuer_and_be_framed_by_nobody(api: Api) -> None:
    reply = api.get("/console", NOBODY)
    assert policy(reply) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "connect-src": "'self' https://tokens.example.com",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://tokens.example.com/token",
        "https://evil.example.com; script-src *",
        "https://a b/token",
        "https://*/token",
        "",
        7,
    ],
)
def test_an_endpoint_that_is_no_address_is_told_to_nobody_and_adds_nothing_to_the_policy(
    api: Api, issuer: Issuer, endpoint: object
) -> None:
    issuer.document = {**DOCUMENT, "token_endpoint": endpoint}
    reply = api.get("/console", NOBODY)
    assert "token_endpoint" not in told(reply)
    assert policy(reply)["connect-src"] == "'self'"


def test_an_issuer_that_is_silent_is_asked_again_soon_and_what_it_said_is_kept(
    api: Api, issuer: Issuer
) -> None:
    issuer.document = None
    assert "token_endpoint" not in told(api.get("/console", NOBODY))
    issuer.document = DOCUMENT
    assert "token_endpoint" not in told(api.get("/console", NOBODY))
    assert issuer.asked == 1
    issuer.time += console.RETRY_SECONDS
    assert told(api.get("/console", NOBODY))["token_endpoint"] == DOCUMENT["token_endpoint"]
    issuer.document = None
    issuer.time += console.FRESH_SECONDS - 1
    assert told(api.get("/console", NOBODY))["token_endpoint"] == DOCUMENT["token_endpoint"]
    assert issuer.asked == 2, "what it said is fresh still"
    issuer.time += 1
    assert told(api.get("/console", NOBODY))["token_endpoint"] == DOCUMENT["token_endpoint"]
    assert issuer.asked == 3


def test_what_the_browser_has_already_is_not_sent_again(
    api: Api, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/console", "/console/main.js", "/console/style.css"):
        first = api.get(path, NOBODY)
        assert first.headers["cache-control"] == "no-cache"
        for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
            again = api.get(path, NOBODY, headers={"If-None-Match": tag})
            assert (again.status, again.text) == (304, "")
            for name in ("etag", "cache-control", "content-security-policy"):
                assert again.headers[name] == first.headers[name]
        assert api.get(path, NOBODY, headers={"If-None-Match": '"other"'}).status == 200
    # Another issuer is another page: its policy must not be that of the one before.
    tag = api.get("/console", NOBODY).headers["etag"]
    issuer.time += console.FRESH_SECONDS
    issuer.document = {**DOCUMENT, "token_endpoint": "https://new.example.com/token"}
    moved = api.get("/console", NOBODY, headers={"If-None-Match": tag})
    assert moved.status == 200
    monkeypatch.setattr(console, "_policy", lambda _: "default-src 'none'")
    tag = moved.headers["etag"]
    assert api.get("/console", NOBODY, headers={"If-None-Match": tag}).status == 200


@pytest.mark.usefixtures("issuer")
@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..", "%2e%2e%2fplans.toml", "x"])
def test_nothing_but_the_files_of_the_page_is_served(api: Api, name: str) -> None:
    assert api.get(f"/console/{name}", NOBODY).status == 404
    assert api.get("/console/main.js?v=1", NOBODY).status == 400


@pytest.mark.usefixtures("issuer")
def test_the_page_needs_nothing_but_its_own_few_files(api: Api) -> None:
    files = [file for file in console.FILES.iterdir() if file.is_file()]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    # As API Gateway sends them.
    assert sum(len(gzip.compress(text.encode())) for text in texts.values()) < 45_000
    for name, text in texts.items():
        assert name == "icon.svg" or not re.search(r"https?://\w", text), name
        for module in re.findall(r'from "\./([^"]+)"', text):
            assert api.get(f"/console/{module}", NOBODY).headers["content-type"] == (
                "text/javascript; charset=utf-8"
            )
    for link in re.findall(r'(?:href|src)="(console/[^"]+)"', texts["index.html"]):
        assert api.get(f"/{link}", NOBODY).status == 200, link


@pytest.mark.usefixtures("issuer")
def test_who_signed_in_is_told_who_they_are_and_what_they_may_do(api: Api) -> None:
    assert api.get("/console/session", ADMIN).json == {
        "caller": ADMIN.caller,
        "user_id": ADMIN.context().get("user_id") or None,
        "scopes": ["credits:admin"],
    }
    many = Caller("ada", "", "credits:use credits:read credits:billing credits:backend")
    assert api.get("/console/session", many).json["scopes"] == [
        *("credits:backend", "credits:billing", "credits:read", "credits:use"),
    ]
    assert api.get("/console/session", user("7")).json["user_id"] == "7"
    assert api.get("/console/session", NOBODY).status == 401
