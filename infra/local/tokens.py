"""Tokens for the local stack, and its own issuer of tokens.

The issuer is a small web server on loopback. It runs in the process of the stack and ends with it.
It makes its key at the start and never writes it anywhere. It signs any token requested at
`/token`, so it is only a toy. At `/oauth/token` it behaves like an issuer of a backend's tokens,
and with `/authorize` like one where people sign in.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from chalicelib.api.principal import Scope
from infra.local import client_credentials, sign_in
from infra.local.client_credentials import AUDIENCE
from infra.local.guard import GuardedHandler

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
    token: str = _ask(issuer, "/token", asked)["access_token"]
    return token


def lead_back_to(issuer: str, redirect_uris: Collection[str]) -> None:
    """Tells a local stack's issuer to which addresses it may send people back after sign-in.

    Raises `TokenError` when there is no such issuer.
    """
    _ask(issuer, "/redirect-uris", {"redirect_uris": [*redirect_uris]})


def _ask(issuer: str, path: str, asked: Json) -> Json:
    request = urllib.request.Request(  # noqa: S310 - the local stack's own address
        f"{issuer}{path}",
        data=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            told: Json = json.load(answer)
            return told
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
        self.sign_in = sign_in.SignIn()
        self.documents: dict[str, Json] = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
                "token_endpoint": f"{self.url}{client_credentials.PATH}",
                "authorization_endpoint": f"{self.url}{sign_in.PATH}",
                **client_credentials.METADATA,
                **sign_in.METADATA,
                "scopes_supported": ["openid", *Scope],
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

    def pages(self) -> Collection[str]:
        """The console exchanges its code from its own origin."""
        is_exchange = self.path == client_credentials.PATH
        return self.server.sign_in.origins if is_exchange else ()

    def is_entrance(self) -> bool:
        """The console sends people to the sign-in page, which changes nothing."""
        return self.command == "GET" and urlsplit(self.path).path == sign_in.PATH

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        document = self.server.documents.get(self.path)
        if parts.path == sign_in.PATH:
            self._sign_in(parts.query, None)
        elif document is None:
            self._answer(404, {"error": "not_found"})
        else:
            self._answer(200, document)

    def do_POST(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        # Only a program can send this: a page in a browser would have to ask first.
        is_program = self.headers.get("Content-Type") == "application/json"
        if body is None:
            self._answer(400, {"error": "invalid_request"})
        elif self.path == client_credentials.PATH:
            self._grant(body)
        elif parts.path == sign_in.PATH:
            self._sign_in(parts.query, body.decode("utf-8", "replace"))
        elif self.path == "/token" and is_program:
            self._answer(200, _answered(self.server.sign(json.loads(body))))
        elif self.path == "/redirect-uris" and is_program:
            self.server.sign_in.redirect_uris = frozenset(json.loads(body)["redirect_uris"])
            self._answer(200, {})
        else:
            self._answer(400, {"error": "invalid_request"})

    def _sign_in(self, query: str, form: str | None) -> None:
        """The page on which a person says who they are; with their answer, the way back."""
        signing = self.server.sign_in
        try:
            if form is None:
                asked = signing.asked(query)
                self._show(sign_in.page(asked), {"Content-Security-Policy": sign_in.policy(asked)})
                return
            way = signing.answered(query, form, self.server.url)
        except sign_in.BadRequest as error:
            # RFC 6749, section 4.1.2.1: nobody is redirected to an unknown address.
            self._answer(400, {"error": "invalid_request", "error_description": str(error)})
            return
        except client_credentials.Refused as refused:
            way = signing.where_to_refuse(query, refused)
        self._show("", {"Location": way}, HTTPStatus.SEE_OTHER)

    def _show(self, text: str, headers: Mapping[str, str], status: int = 200) -> None:
        told = {"Content-Type": "text/html; charset=utf-8", "Referrer-Policy": "no-referrer"}
        self._send(status, text.encode(), {**told, **headers})

    def _grant(self, body: bytes) -> None:
        """A token for the backend or for a signed-in person, if they may have one."""
        authorization = self.headers.get("Authorization")
        origin = self.headers.get("Origin")
        cors = {"Access-Control-Allow-Origin": origin, "Vary": "Origin"} if origin else {}
        try:
            form = client_credentials.form_of(self.headers.get("Content-Type", ""), body)
            if form.get("grant_type") == "authorization_code":
                answer = self._exchanged(form)
            else:
                answer = self._granted(client_credentials.granted(form, authorization))
        except client_credentials.Refused as refused:
            # RFC 6749, section 5.2: a client that used the header is told which scheme to use.
            is_told = refused.status == HTTPStatus.UNAUTHORIZED and authorization is not None
            self._answer(
                refused.status,
                {"error": refused.error, "error_description": refused.description},
                {**cors, **({"WWW-Authenticate": 'Basic realm="local issuer"'} if is_told else {})},
            )
            return
        self._answer(200, answer, cors)

    def _granted(self, scopes: str) -> Json:
        now = int(time.time())
        claims = {
            "iss": self.server.url,
            "aud": AUDIENCE,
            "sub": client_credentials.CLIENT_ID,
            "client_id": client_credentials.CLIENT_ID,
            "scope": scopes,
            "iat": now,
            "exp": now + client_credentials.SECONDS,
        }
        told = {"expires_in": client_credentials.SECONDS, "scope": scopes}
        return _answered(self.server.sign(claims)) | told

    def _exchanged(self, form: Mapping[str, str]) -> Json:
        signed_in = self.server.sign_in.exchange(form)
        now, seconds = int(time.time()), DEFAULT_SECONDS
        answer = _answered(
            self.server.sign({**sign_in.claims(self.server.url, signed_in, now, seconds)})
        )
        answer |= {"expires_in": seconds, "scope": signed_in.scope}
        if "openid" in signed_in.scope.split():
            told = sign_in.id_claims(self.server.url, signed_in, now, seconds)
            answer["id_token"] = self.server.sign({**told})
        return answer

    def _body(self) -> bytes | None:
        """The body of a request; None if its length is missing, or too great."""
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length) or int(length) > _LARGEST_REQUEST:
            return None
        return self.rfile.read(int(length))

    def _answer(
        self, status: int, document: Json, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._send(
            status, json.dumps(document).encode(), {"Content-Type": "application/json", **headers}
        )

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        # No token stays in a cache (RFC 6749, section 5.1).
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        """Nothing: the stack's own output is for its user."""


def _answered(token: str) -> Json:
    return {"access_token": token, "token_type": "Bearer"}
