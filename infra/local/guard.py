"""The guard in front of all that listens on this machine: whose requests are answered at all.

Loopback keeps other machines out, not the pages in a developer's browser. A page can send requests
to any port, and by a name of its own that it has point here (DNS rebinding) it could read the
answers, too. The emulator takes well-known keys and the issuer signs whatever it is asked to, so
either would give such a page everything.

What a browser says of a page, the page cannot change: the `Host` it asked for, its `Origin`, and
`Sec-Fetch-Site` (https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header). Programs send `Host`
alone. A browser without Fetch Metadata sends no `Origin` with a GET either, and passes for one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine, Iterable
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

STATUS = 403

# Names that lead to this machine wherever they are resolved (https://www.rfc-editor.org/rfc/rfc6761),
# with the port that is always there, for none of ours is 80.
_LOOPBACK = re.compile(r"(?:(?:[a-z0-9_-]+\.)*localhost|127\.0\.0\.1|\[::1\]):(?P<port>[0-9]{1,5})")

# Where the emulator has the API, by path and by name.
_API_PATH = "/_aws/execute-api/"
_API_HOST = re.compile(r"[a-z0-9]+\.execute-api\.localhost:[0-9]+")

_OURS = frozenset({"same-origin", "none"})
"""`Sec-Fetch-Site` of what our own pages ask, and of what a person typed."""

App = Callable[[Any, Any, Any], Coroutine[Any, Any, None]]


def refusal(
    headers: Iterable[tuple[str, str]],
    port: int,
    pages: Collection[str] = (),
    *,
    is_relayed: bool = False,
) -> str | None:
    """Why a request to a port is refused, for whoever sent it to read; None when it is not.

    ``pages``: the origins of pages that may ask, beside those that the port serves itself. With
    ``is_relayed`` another port of loopback may be named: a relay passes on what was signed for its
    own.
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
    # A page that sends no referrer has the origin null even for its own address.
    own = {f"http://{host}", *({"null"} if sites == ["same-origin"] else ())}
    if not own.union(pages).issuperset(origins):
        return (
            f"{here}. It answers programs and pages of its own, and the header Origin was "
            f"{_shown(origins)}. Pages may call the API alone, those of the origins in "
            "AllowedOrigins (ALLOWED_ORIGINS in infra/local/stacks.py)."
        )
    if not origins and not _OURS.issuperset(sites):
        return (
            f"{here}. It answers programs and pages of its own, and the header Sec-Fetch-Site was "
            f"{_shown(sites)}: a page of another origin sent you. Type the address by hand."
        )
    return None


def _shown(values: list[str]) -> str:
    return " and ".join(repr(value[:100]) for value in values) or "missing"


def is_api(host: str, path: str) -> bool:
    """Whether a request to the emulator is one to the API, which serves pages of other origins."""
    return path.startswith(_API_PATH) or _API_HOST.fullmatch(host.lower()) is not None


class GuardedHandler(BaseHTTPRequestHandler):
    """A handler of `http.server` that answers nothing but 403 to requests that are refused.

    Whatever their method, and before anything of them is read but their headers.
    """

    server: HTTPServer

    def parse_request(self) -> bool:
        """Whether the request is to be answered by a method of the class."""
        if not super().parse_request():
            return False
        reason = refusal(self.headers.items(), self.server.server_port)
        if reason is None:
            return True
        self.close_connection = True
        body = f"{reason}\n".encode()
        self.send_response(STATUS)
        for name, value in _headers(body):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        return False


def guarded(app: App, port: int, pages: Collection[str]) -> App:
    """An ASGI app behind the guard; ``pages`` are the origins of those that may call the API."""

    async def guard(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await app(scope, receive, send)
            return
        headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        host = next((value for name, value in headers if name.lower() == "host"), "")
        allowed = pages if is_api(host, scope["path"]) else ()
        reason = refusal(headers, port, allowed, is_relayed=True)
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
