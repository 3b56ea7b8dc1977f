"""A tunnel through a proxy that an operator names, such as a company's; Lambda has none."""

import socket
from base64 import b64encode
from http.client import HTTPConnection, HTTPException
from urllib.parse import unquote, urlsplit

from .endpoints import Endpoint


def tunnel(proxy: str, endpoint: Endpoint, timeout: float) -> socket.socket:
    """A connection to an endpoint; the caller must secure it. Raises OSError."""
    connection = asking(proxy, endpoint, timeout)
    try:
        connection.connect()
    except HTTPException as error:
        connection.close()
        raise OSError(f"the proxy's answer is malformed: {type(error).__name__}") from error
    except BaseException:
        connection.close()
        raise
    found: socket.socket = connection.sock
    return found


def asking(proxy: str, endpoint: Endpoint, timeout: float) -> HTTPConnection:
    """The connection to the proxy that will request the tunnel."""
    parts = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    connection = HTTPConnection(parts.hostname or "", parts.port or 8080, timeout=timeout)
    headers = {}
    if parts.username is not None:
        who = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Proxy-Authorization"] = f"Basic {b64encode(who.encode()).decode()}"
    connection.set_tunnel(endpoint.name, endpoint.port, headers)
    return connection
