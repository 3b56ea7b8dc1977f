"""Tokens for the local stack, and its own issuer of tokens.

The issuer is a small web server on loopback. It runs in the process of the stack and ends with it.
It makes its key at the start and never writes it anywhere. It signs any token that it is asked for,
so it is only a toy.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chalicelib.api.principal import Scope
from infra.local.guard import GuardedHandler

AUDIENCE = "credits"
DEFAULT_SCOPES = f"{Scope.READ} {Scope.USE}"
DEFAULT_SECONDS = 3600
MOST_SECONDS = 366 * 24 * 3600

_KEY_ID = "local"
_LARGEST_REQUEST = 16 * 1024
_TIMEOUT_SECONDS = 10

Json = dict[str, Any]


class TokenError(Exception):
    """The local issuer gave no token; the message says why and what to do."""


def issue(
    issuer: str,
    user_id: str,
    scopes: str = DEFAULT_SCOPES,
    seconds: int = DEFAULT_SECONDS,
    claims: Mapping[str, object] | None = None,
) -> str:
    """A token of a local stack's issuer, valid from now on; `claims` add or replace claims.

    Raises `TokenError` when there is no such issuer.
    """
    now = int(time.time())
    asked = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": user_id,
        "scope": scopes,
        "iat": now,
        "exp": now + seconds,
        **(claims or {}),
    }
    request = urllib.request.Request(  # noqa: S310 - the local stack's own address
        f"{issuer}/token",
        data=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            token: str = json.load(answer)["access_token"]
            return token
    except urllib.error.URLError as error:
        raise TokenError(
            f"The local stack's issuer {issuer} gives no token ({error}). Start the stack again: "
            "make up"
        ) from error


@contextmanager
def issuer() -> Iterator[str]:
    """Run an issuer with a key of its own and yield its address, e.g. `http://127.0.0.1:51235`."""
    with _Issuer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


class _Issuer(ThreadingHTTPServer):
    """The web server, its key and its discovery document."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        # RSA, because real issuers use it.
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public_key = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        self.documents: dict[str, Json] = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
                "token_endpoint": f"{self.url}/token",
            },
            "/jwks.json": {
                "keys": [{**public_key, "kid": _KEY_ID, "alg": "RS256", "use": "sig"}],
            },
        }

    def sign(self, claims: Json) -> str:
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": _KEY_ID})


class _Handler(GuardedHandler, BaseHTTPRequestHandler):
    server: _Issuer
    timeout = _TIMEOUT_SECONDS

    def do_GET(self) -> None:
        document = self.server.documents.get(self.path)
        if document is None:
            self._answer(404, {"error": "not_found"})
        else:
            self._answer(200, document)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        # Only a program can send this: a page in a browser would have to ask first.
        is_json = self.headers.get("Content-Type") == "application/json"
        if self.path != "/token" or not is_json or length > _LARGEST_REQUEST:
            self._answer(400, {"error": "invalid_request"})
            return
        claims = json.loads(self.rfile.read(length))
        self._answer(200, {"access_token": self.server.sign(claims), "token_type": "Bearer"})

    def _answer(self, status: int, document: Json) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: the stack's own output is for its user."""
