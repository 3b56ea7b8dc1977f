"""The issuer's public keys: which of them we accept, and how often we fetch them.

The published key decides its algorithms: by its type, its curve and its `alg`. A token only chooses
among these, so no token can decide how it is checked. None of the algorithms is symmetric.
"""

import io
import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import socket
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import jwt

from chalicelib.domain.fields import shown
from chalicelib.observability import logger
from chalicelib.settings import TokenSettings

KEYS_FRESH_SECONDS = 3600
"""How long keys are used before they are fetched again: after that, a withdrawn key is refused."""

KEYS_KEPT_SECONDS = 24 * 3600
"""How long keys are used while the issuer cannot be reached."""

REFETCH_SECONDS = 30
"""The pause between two fetches: invented key ids cannot make us flood the issuer."""

RETRY_SECONDS = 2
"""The same pause while there are no keys and so no token can be checked."""

FETCH_SECONDS = 5
"""How long a whole fetch may take: name lookups, connections and both documents."""

_LARGEST_DOCUMENT = 256 * 1024
_SMALLEST_RSA_KEY = 2048
_MOST_KEYS_NAMED = 5

_ALGORITHMS: dict[tuple[object, object], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}
"""The algorithms of a key, by its type and curve."""

Json = dict[str, Any]


class KeysUnavailable(Exception):
    """We have no keys of the issuer and cannot fetch them."""


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """A public key of the issuer, and its algorithms."""

    id: str | None
    algorithms: tuple[str, ...]
    public: Any


@dataclass(frozen=True, slots=True)
class KeySet:
    """The keys that may sign tokens for us, and why the other keys may not."""

    keys: tuple[IssuerKey, ...] = ()
    left_out: tuple[tuple[object, str], ...] = ()

    def find(self, key_id: str | None) -> tuple[IssuerKey, ...]:
        """The keys with that id: two can share it, with different algorithms.

        A token that names no key was signed with the issuer's only one.
        """
        if key_id is None:
            return self.keys if len(self.keys) == 1 else ()
        return tuple(key for key in self.keys if key.id == key_id)

    def without(self, key_id: str | None) -> str:
        """Why there is no key with that id."""
        names = ", ".join(shown(key.id) for key in self.keys[:_MOST_KEYS_NAMED])
        if key_id is None:
            return f"the token names no key (kid), and the issuer has {len(self.keys)}: {names}"
        for name, why in self.left_out:
            if name == key_id:
                return f"the issuer's key {shown(key_id)} is not for tokens like this: {why}"
        return f"the issuer has no such key: kid is {shown(key_id)}, and its keys are {names}"


class IssuerKeys:
    """The issuer's public keys by their ids: cached, refreshed, and fetched for an unknown id.

    However many unknown ids come, we fetch the keys at most once in `REFETCH_SECONDS`.
    """

    def __init__(
        self, fetch: Callable[[], Json], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetch = fetch
        self._now = now
        self.known = KeySet()
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")

    def find(self, key_id: str | None) -> tuple[IssuerKey, ...]:
        """The keys with that id; empty if the issuer has no such key. Raises `KeysUnavailable`."""
        is_stale = self._now() - self._fetched_at > KEYS_FRESH_SECONDS
        pause = REFETCH_SECONDS if self.known.keys else RETRY_SECONDS
        # A token that names no key gives no hint that a new key signed it.
        is_wanted = is_stale or key_id is None or not self.known.find(key_id)
        if is_wanted and self._now() - self._tried_at >= pause:
            self._refresh()
        if self._now() - self._fetched_at > KEYS_KEPT_SECONDS:
            raise KeysUnavailable("the issuer's keys could not be fetched")
        return self.known.find(key_id)

    def _refresh(self) -> None:
        self._tried_at = self._now()
        try:
            keys = usable_keys(self._fetch())
        except FETCH_FAULTS as error:
            logger().warning("The issuer's keys could not be fetched", reason=repr(error))
            return
        self.known = keys
        self._fetched_at = self._tried_at


FETCH_FAULTS = (OSError, HTTPException, ValueError, LookupError, RecursionError, TypeError)
"""The errors of fetching and reading the issuer's documents."""


def usable_keys(document: Json) -> KeySet:
    """The keys of a JSON Web Key Set that may sign tokens for us.

    Raises ValueError when the set has no such key: then we keep the old set.
    """
    found, left_out = [], []
    for data in document["keys"]:
        try:
            found.append(_issuer_key(data))
        except ValueError as error:
            left_out.append((data.get("kid") if isinstance(data, dict) else None, str(error)))
    if not found:
        whys = "; ".join(f"{shown(name)}: {why}" for name, why in left_out[:_MOST_KEYS_NAMED])
        raise ValueError(f"there is no key for us in the key set ({whys or 'it is empty'})")
    return KeySet(tuple(found), tuple(left_out))


def _issuer_key(data: object) -> IssuerKey:
    """A key of a key set. Raises ValueError, which says why it cannot sign tokens for us."""
    if not isinstance(data, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of a document, not a type
    family, curve, key_id = data.get("kty"), data.get("crv"), data.get("kid")
    known = isinstance(family, str) and isinstance(curve, str | None)
    algorithms = _ALGORITHMS.get((family, curve)) if known else None
    if algorithms is None:
        raise ValueError(f"its type {shown(family)}, curve {shown(curve)}, is not supported")
    if not isinstance(key_id, str | None):
        raise ValueError("its id (kid) is not a text")  # noqa: TRY004 - as above
    if data.get("use", "sig") != "sig":
        raise ValueError(f"it is for {shown(data['use'])} (use), not for signatures")
    if data.get("alg") is not None:
        algorithms = tuple(name for name in algorithms if name == data["alg"])
    if not algorithms:
        raise ValueError(f"its algorithm {shown(data['alg'])} is not supported")
    if "d" in data:
        raise ValueError("its private half is published: anybody who reads it can sign with it")
    try:
        public = jwt.PyJWK(data, algorithms[0]).key
    except jwt.PyJWTError as error:
        raise ValueError("it is malformed") from error
    if family == "RSA" and public.key_size < _SMALLEST_RSA_KEY:
        raise ValueError(f"it has {public.key_size} bits, fewer than {_SMALLEST_RSA_KEY}")
    return IssuerKey(key_id, algorithms, public)


def fetch_keys(settings: TokenSettings, seconds: float = FETCH_SECONDS) -> Json:
    """The issuer's key set, from the configured address or the one in its discovery document.

    Takes at most ``seconds``, whatever the issuer does. Raises one of `FETCH_FAULTS`.
    """
    return _within(seconds, lambda deadline: _key_set(settings, deadline))


def fetch_discovery(settings: TokenSettings, seconds: float = FETCH_SECONDS) -> Json:
    """The issuer's metadata (OpenID Connect Discovery 1.0, section 4).

    Takes at most ``seconds``. Raises one of `FETCH_FAULTS`.
    """
    return _within(seconds, lambda deadline: _discovery(settings, deadline))


def _within(seconds: float, ask: Callable[[float], Json]) -> Json:
    """The result of ``ask`` before a deadline. Raises TimeoutError, and whatever ``ask`` raises."""
    deadline = time.monotonic() + seconds
    found: Future[Json] = Future()

    def fetch() -> None:
        try:
            found.set_result(ask(deadline))
        except BaseException as error:  # noqa: BLE001 - the waiting thread raises it again
            found.set_exception(error)

    # In a thread, because nothing limits how long a name lookup takes (`getaddrinfo` has no
    # timeout) or how many addresses a name has. Nobody waits for the thread; it ends by its
    # deadline.
    Thread(target=fetch, name="issuer-keys", daemon=True).start()
    try:
        return found.result(seconds)
    except TimeoutError:
        raise TimeoutError(f"timed out: there was no whole answer within {seconds:g} s") from None


def _key_set(settings: TokenSettings, deadline: float) -> Json:
    url = settings.jwks_url or _discovery(settings, deadline)["jwks_uri"]
    return _get(url, settings, deadline)


def _discovery(settings: TokenSettings, deadline: float) -> Json:
    url = f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration"
    document = _get(url, settings, deadline)
    if document["issuer"] != settings.issuer:
        raise ValueError(f"{url} is of another issuer: {document['issuer']}")
    return document


def _left(deadline: float) -> float:
    """The seconds until a deadline. Raises TimeoutError once it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Until(io.RawIOBase):
    """The data of a connection until a deadline, in the form of a socket for `HTTPResponse`.

    A socket's own timeout restarts with every byte, so a slow sender could go on for ever.
    """

    def __init__(self, connection: socket, deadline: float) -> None:
        self._connection = connection
        self._bytes = connection.makefile("rb", buffering=0)
        self._deadline = deadline

    def makefile(self, _: str) -> io.BufferedReader:
        """The bytes, for a reader of lines."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """True: it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Reads the available data, or waits for it until the deadline."""
        self._connection.settimeout(_left(self._deadline))
        return self._bytes.readinto(buffer)

    def close(self) -> None:
        """Releases the connection."""
        self._bytes.close()
        super().close()


def _reading_until(deadline: float) -> Any:
    """Makes a response from a connection that is read no longer than a deadline."""

    def response(connection: Any, **more: Any) -> HTTPResponse:
        until: Any = _Until(connection, deadline)  # it has the socket methods that are used
        return HTTPResponse(until, **more)

    return response


_HEADERS = {"Accept": "application/json", "User-Agent": "credits-authorizer"}
"""Firewalls, such as AWS's with its common rules, refuse clients that do not name themselves."""


def _get(url: str, settings: TokenSettings, deadline: float) -> Json:
    """The JSON document at an address; redirects are not followed."""
    if not settings.may_fetch(url):
        raise ValueError(f"{url} is not an https:// address")
    parts = urlsplit(url)
    make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = make(parts.netloc, timeout=_left(deadline))
    connection.response_class = _reading_until(deadline)
    try:
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        connection.request("GET", target, headers=_HEADERS)
        with closing(connection.getresponse()) as response:
            body = response.read(_LARGEST_DOCUMENT + 1)
    finally:
        connection.close()
    if response.status != 200 or len(body) > _LARGEST_DOCUMENT:
        raise ValueError(f"{url} answered {response.status} with {len(body)} bytes")
    try:
        document = json.loads(body)
    except ValueError as error:
        # Usually an HTML page: a login, a proxy, or another service at that address.
        raise ValueError(f"{url} is not JSON: it begins {shown(body[:40])}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{url} is not a JSON object")  # noqa: TRY004 - of a document, not a type
    return document
