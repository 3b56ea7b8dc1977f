"""Connections that are kept open, and one function that sends.

A sandbox sleeps between events, and the server closes idle connections. A connection that was
closed meanwhile is dropped before anything is sent on it. If the closing shows only afterwards, the
request may have been carried out. Then it is tried again, as after any lost answer; the stores are
made for that.
"""

import os
import select
import socket
import ssl
import weakref
from functools import cache

from .endpoints import Endpoint
from .errors import NoAnswer
from .exchange import Answer, Malformed, answer, request


class Transport:
    """Sends requests to one endpoint, from any thread. Times are seconds."""

    def __init__(
        self, endpoint: Endpoint, connect_timeout: float, read_timeout: float, most_kept: int
    ) -> None:
        self.endpoint = endpoint
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._most_kept = most_kept
        self._idle: list[socket.socket] = []  # last used is last; each access is one atomic step
        weakref.finalize(self, _close, self._idle)

    def send(self, headers: dict[str, str], body: bytes) -> Answer:
        """The answer to a POST. Raises `NoAnswer`, and ValueError for malformed headers."""
        wanted = request(headers, body)
        connection = self._connection()
        try:
            connection.sendall(wanted)
            said, is_kept = answer(connection)
        except TimeoutError as error:
            connection.close()
            raise NoAnswer(f"{self.endpoint.url} took too long", is_timeout=True) from error
        except (OSError, Malformed) as error:
            connection.close()
            broke = f"the connection to {self.endpoint.url} broke: {type(error).__name__}"
            raise NoAnswer(broke) from error
        except BaseException:
            connection.close()  # half an answer must not be left for the next request
            raise
        if is_kept and len(self._idle) < self._most_kept:
            self._idle.append(connection)
        else:
            connection.close()
        return said

    def _connection(self) -> socket.socket:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self._opened()
            if not _was_closed(connection):
                return connection
            connection.close()

    def _opened(self) -> socket.socket:
        try:
            connection = _opened(self.endpoint, self.connect_timeout)
        except OSError as error:
            raise NoAnswer(
                f"there is no connection to {self.endpoint.url}: {type(error).__name__}",
                is_timeout=isinstance(error, TimeoutError),
                is_connected=False,
            ) from error
        connection.settimeout(self.read_timeout)
        return connection


def _close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def _was_closed(connection: socket.socket) -> bool:
    """Whether the server has closed it, or sent something unasked."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _opened(endpoint: Endpoint, timeout: float) -> socket.socket:
    """A connection to an endpoint, verified. Raises OSError."""
    if endpoint.is_https and (proxy := _proxy(endpoint)):
        from .proxies import tunnel

        connection = tunnel(proxy, endpoint, timeout)
    else:
        connection = socket.create_connection((endpoint.name, endpoint.port), timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if endpoint.is_https:
            return _verifying().wrap_socket(connection, server_hostname=endpoint.name)
    except BaseException:
        connection.close()
        raise
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
    """The context that checks certificates and host names; nothing can switch it off."""
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)
