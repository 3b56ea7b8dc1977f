"""Connections that are kept open, and one function that sends.

A sandbox sleeps between events, and the server closes what is idle. So a connection that was closed
meanwhile is left alone before anything is sent on it. If it turns out only afterwards, the request
may have been carried out: then it is tried again as after any answer that was lost, and the stores
are made for that.
"""

import os
import select
import ssl
from base64 import b64encode
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from .endpoints import Endpoint
from .errors import NoAnswer


class Answer(NamedTuple):
    """An answer of HTTP; the names of its headers are in small letters."""

    status: int
    headers: dict[str, str]
    body: bytes


class Transport:
    """Sends requests to one endpoint, from any thread. Times are seconds."""

    def __init__(
        self, endpoint: Endpoint, connect_timeout: float, read_timeout: float, most_kept: int
    ) -> None:
        self.endpoint = endpoint
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._most_kept = most_kept
        self._idle: list[HTTPConnection] = []  # the last one was used last; one step each: atomic

    def send(self, headers: dict[str, str], body: bytes) -> Answer:
        """The answer to a POST. Raises `NoAnswer`."""
        connection = self._connection()
        try:
            connection.request("POST", "/", body, headers)
            response = connection.getresponse()
            content = response.read()
            if response.headers.get("content-length") is None and not response.chunked:
                raise HTTPException  # it broke off before it said how long it is
        except TimeoutError as error:
            connection.close()
            raise NoAnswer(f"{self.endpoint.url} took too long", is_timeout=True) from error
        except (OSError, HTTPException) as error:
            connection.close()
            broke = f"the connection to {self.endpoint.url} broke: {type(error).__name__}"
            raise NoAnswer(broke) from error
        except BaseException:
            connection.close()  # half an answer must not wait there for the next request
            raise
        if not response.will_close and len(self._idle) < self._most_kept:
            self._idle.append(connection)
        else:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, content)

    def _connection(self) -> HTTPConnection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._opened()
            if not _was_closed(connection):
                return connection
            connection.close()

    def _opened(self) -> HTTPConnection:
        connection = _made(self.endpoint, self.connect_timeout)
        try:
            connection.connect()
            connection.sock.settimeout(self.read_timeout)
        except (OSError, HTTPException) as error:
            connection.close()
            raise NoAnswer(
                f"there is no connection to {self.endpoint.url}: {type(error).__name__}",
                is_timeout=isinstance(error, TimeoutError),
                is_connected=False,
            ) from error
        return connection


def _was_closed(connection: HTTPConnection) -> bool:
    """Whether the server has closed it, or said something unasked."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _made(endpoint: Endpoint, timeout: float) -> HTTPConnection:
    if not endpoint.is_https:
        return HTTPConnection(endpoint.name, endpoint.port, timeout=timeout)
    proxy = _proxy(endpoint)
    if proxy is None:
        return HTTPSConnection(endpoint.name, endpoint.port, timeout=timeout, context=_verifying())
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = HTTPSConnection(
        parts.hostname or "", parts.port or 8080, timeout=timeout, context=_verifying()
    )
    headers = {}
    if parts.username is not None:
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(who.encode()).decode()}"
    connection.set_tunnel(endpoint.name, endpoint.port, headers)
    return connection


def _proxy(endpoint: Endpoint) -> str | None:
    if not (os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")):
        return None
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(endpoint.host):
        return None
    return getproxies().get("https")


@cache
def _verifying() -> ssl.SSLContext:
    """What checks certificates and names; nothing can switch it off."""
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
