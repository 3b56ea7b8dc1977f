"""Decides which requests are answered by everything that listens on this machine.

Loopback keeps other machines out, but not the pages in a developer's browser. A page can send
requests to any port. If its own host name points here (DNS rebinding), it could read the answers,
too. The emulator accepts well-known keys and the issuer signs every request, so either would give
such a page everything.

A page cannot change what the browser says about it: the `Host` it asked for, its `Origin`, and
`Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header). Programs send only
`Host`. A browser without Fetch Metadata sends no `Origin` with a GET either, so it counts as a
program.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

STATUS = 403

# Names that mean this machine everywhere (https://www.rfc-editor.org/rfc/rfc6761). A port always
# follows, because we never use port 80.
_LOOPBACK = re.compile(r"(?:(?:[a-z0-9_-]+\.)*localhost|127\.0\.0\.1|\[::1\]):(?P<port>[0-9]{1,5})")

# The address of the API in the emulator, by path and by name.
_API_PATH = "/_aws/execute-api/"
_API_HOST = re.compile(r"[a-z0-9]+\.execute-api\.localhost:[0-9]+")

_OURS = frozenset({"same-origin", "none"})
"""The `Sec-Fetch-Site` of requests by our own pages, and of addresses that a person typed."""

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


def refusal(
    headers: Iterable[tuple[str, str]],
    port: int,
    pages: Collection[str] = (),
    *,
    is_relayed: bool = False,
    is_entrance: bool = False,
) -> str | None:
    """Why a request to a port is refused, for its sender to read; None for a good request.

    ``pages``: the origins of pages that may send requests, besides those that the port serves
    itself. With ``is_entrance`` other pages may navigate there, as a sign-in does, but not fetch it
    themselves. With ``is_relayed`` the request may name another port of loopback: a relay passes on
    requests that were signed for its own port.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for name, value in headers:
        said[name.lower()].append(value.strip())
    hosts, origins, sites = said["host"], said["origin"], said["sec-fetch-site"]
    host = hosts[0].lower() if len(hosts) == 1 else ""
    here = f"This is http://127.0.0.1:{port} of a local stack of Credits"
    named = _LOOPBACK.fullmatch(host)
    if named is None or not (is_relayed or int(named["port"]) == port):
        return (
            f"{here}. It answers to no other name, and the header Host was {_shown(hosts)}: send "
            "the request to that address."
        )
    # A page that sends no referrer has the origin null, even for its own address.
    own = {f"http://{host}", *({"null"} if sites == ["same-origin"] else ())}
    if not own.union(pages).issuperset(origins):
        return (
            f"{here}. It answers programs and pages of its own, and the header Origin was "
            f"{_shown(origins)}. Pages may call the API alone, those of the origins in "
            "AllowedOrigins (ALLOWED_ORIGINS in infra/local/stacks.py)."
        )
    is_led = is_entrance and said["sec-fetch-mode"] == ["navigate"]
    is_led = is_led and said["sec-fetch-dest"] == ["document"]
    if not origins and not is_led and not _OURS.issuperset(sites):
        return (
            f"{here}. It answers programs and pages of its own, and the header Sec-Fetch-Site was "
            f"{_shown(sites)}: a page of another origin sent you. Type the address by hand."
        )
    return None


def _shown(values: list[str]) -> str:
    return " and ".join(repr(value[:100]) for value in values) or "missing"


def is_api(host: str, path: str) -> bool:
    """Whether a request to the emulator is for the API, which pages of other origins may call."""
    return path.startswith(_API_PATH) or _API_HOST.fullmatch(host.lower()) is not None


def is_console(method: str, path: str) -> bool:
    """Whether a request is for the API's console page, to which its sign-in leads back."""
    return method == "GET" and path.startswith(_API_PATH) and path.endswith("/v1/console")


class GuardedHandler(BaseHTTPRequestHandler):
    """A handler of `http.server` that answers bad requests with 403.

    It does so for every method, after reading only the headers.
    """

    server: HTTPServer

    def pages(self) -> Collection[str]:
        """The origins of other pages that may send this request."""
        return ()

    def is_entrance(self) -> bool:
        """Whether other pages may navigate to this address."""
        return False

    def parse_request(self) -> bool:
        """Whether a method of the class may answer the request."""
        if not super().parse_request():
            return False
        reason = refusal(
            self.headers.items(),
            self.server.server_port,
            self.pages(),
            is_entrance=self.is_entrance(),
        )
        if reason is None:
            return True
        body = f"{reason}\n".encode()
        self.send_response(STATUS)
        # One of them closes the connection.
        for name, value in _headers(body):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return False


def guarded(app: App, port: int, pages: Collection[str]) -> App:
    """An ASGI app behind the guard; ``pages`` are the origins that may call the API."""

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await app(scope, receive, send)
            return
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        host = next((value for name, value in headers if name.lower() == "host"), "")
        allowed = pages if is_api(host, scope["path"]) else ()
        is_entrance = is_console(scope.get("method", ""), scope["path"])
        reason = refusal(headers, port, allowed, is_relayed=True, is_entrance=is_entrance)
        if reason is None:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            # Before the handshake, which the server then answers with 403.
            await send({"type": "websocket.close", "code": 1008})
        else:
            body = f"{reason}\n".encode()
            answered = [(name.lower().encode(), value.encode()) for name, value in _headers(body)]
            await send({"type": "http.response.start", "status": STATUS, "headers": answered})
            await send({"type": "http.response.body", "body": body})

    return guard


def _headers(body: bytes) -> list[tuple[str, str]]:
    return [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    ]
