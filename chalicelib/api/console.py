"""The console: a web page for support staff, and the settings that it needs for signing in.

Its files are in `chalicelib/console/`. They are public and contain no secret: all data comes from
the API, with the token of the signed-in person. The console is off, and all its routes answer 404,
until the parameter `ConsoleClientId` names the client by which people sign in.

The page requests tokens at the address in the issuer's discovery document. This process reads that
document, so that the policy of the page (`_policy`) can name the one other origin it may call.
"""

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from urllib.parse import urlsplit

from chalicelib.domain.errors import NotFound
from chalicelib.observability import logger
from chalicelib.settings import ConsoleSettings, console_settings, token_settings

from .answers import Answer
from .calls import Call
from .issuer_keys import FETCH_FAULTS, Json, fetch_discovery

FILES = Path(__file__).parents[1] / "console"
PAGE = "index.html"

FRESH_SECONDS = 600
"""How long the issuer's answer is used before it is fetched again."""

RETRY_SECONDS = 10
"""The same after the issuer did not answer: reloading the page does not fetch more often."""

_ENDPOINTS = ("authorization_endpoint", "token_endpoint", "end_session_endpoint")

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_SETTINGS = "{settings}"
"""The place in the page for its settings."""


def page(call: Call) -> Answer:
    """The page, with its settings: the issuer's endpoints, its own client id, the stage."""
    settings = _settings()
    if call.ends_with_slash:
        # The page names its files relative to its own address, which depends on stage and domain.
        return Answer("", 308, {"Location": "../console"})
    endpoints = issuer_endpoints().read()
    told = {
        "product": settings.product,
        "stage": call.services.settings.stage,
        "issuer": token_settings().issuer,
        "client_id": settings.client_id,
        "scope": settings.scope,
        "audience": settings.audience,
        **endpoints,
    }
    text = page_with(told)
    policy = _policy(endpoints.get("token_endpoint"))
    return _file(call, ".html", text, {"Content-Security-Policy": policy})


def page_with(told: Mapping[str, object]) -> str:
    """The page as HTML, with its settings filled in."""
    return _text(PAGE).replace(_SETTINGS, escape(json.dumps(told)))


def file(call: Call) -> Answer:
    """One of the page's files."""
    call.without_query()
    _settings()
    name = call.path["file"]
    if name == PAGE or name not in _names():
        raise NotFound("there is no such file")
    return _file(call, Path(name).suffix, _text(name), {})


def session(call: Call) -> Answer:
    """Who has signed in and what they may do: the page shows only that."""
    _settings()
    principal = call.authenticated().without_query().principal
    return Answer(
        {
            "caller": principal.caller,
            "user_id": principal.user_id or None,
            "scopes": sorted(principal.scopes),
        }
    )


def _settings() -> ConsoleSettings:
    """The settings of the console. Raises `NotFound` if it is off."""
    settings = console_settings()
    if settings is None:
        raise NotFound("there is no such route")
    return settings


@cache
def _names() -> frozenset[str]:
    return frozenset(each.name for each in FILES.iterdir() if each.suffix in MEDIA_TYPES)


@cache
def _text(name: str) -> str:
    return (FILES / name).read_text(encoding="utf-8")


def _file(call: Call, suffix: str, text: str, headers: dict[str, str]) -> Answer:
    """A file, or 304 if the browser has it.

    Browsers ask each time, so a page and its modules never come from two releases.
    """
    digest = hashlib.sha256(json.dumps([text, headers]).encode()).hexdigest()[:32]
    kept = {**headers, "ETag": f'"{digest}"', "Cache-Control": "no-cache"}
    # API Gateway, or a proxy in front of it, may have compressed it and weakened the tag.
    known = (call.header("if-none-match") or "").replace("W/", "").split(",")
    if f'"{digest}"' in {each.strip() for each in known}:
        return Answer("", 304, kept)
    return Answer(text, headers={"Content-Type": MEDIA_TYPES[suffix], **kept})


def _policy(token_endpoint: str | None) -> str:
    """The page may load only files from here and tokens from the issuer; no page may frame it."""
    parts = urlsplit(token_endpoint or "")
    issuer = f" {parts.scheme}://{parts.netloc}" if parts.netloc else ""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        f"connect-src 'self'{issuer}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class IssuerEndpoints:
    """The issuer's sign-in endpoints, from its discovery document; kept for a while."""

    def __init__(
        self,
        fetch: Callable[[], Json],
        may_open: Callable[[str], bool],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._may_open = may_open
        self._now = now
        self._found: dict[str, str] = {}
        self._ask_at = float("-inf")

    def read(self) -> dict[str, str]:
        """The endpoints; the latest known if the issuer does not answer, else empty."""
        if self._now() >= self._ask_at:
            try:
                document = self._fetch()
                self._found = {
                    name: document[name]
                    for name in _ENDPOINTS
                    if isinstance(document.get(name), str) and self._is_address(document[name])
                }
                self._ask_at = self._now() + FRESH_SECONDS
            except FETCH_FAULTS as error:
                logger().warning("The issuer did not say where people sign in", error=str(error))
                self._ask_at = self._now() + RETRY_SECONDS
        return self._found

    def _is_address(self, url: str) -> bool:
        # The host becomes part of a header, so it must not end the origin or add to the policy.
        host = urlsplit(url).netloc
        return self._may_open(url) and bool(host) and not set(host) & set(" ;,'\"*")


@cache
def issuer_endpoints() -> IssuerEndpoints:
    """The endpoints of this process's issuer."""
    settings = token_settings()
    return IssuerEndpoints(lambda: fetch_discovery(settings), settings.may_fetch)
