"""An HTTP/1.1 request and its answer, over an open connection.

It supports only what AWS's JSON services need: a POST to `/`, and an answer that says how long it
is. Python's own client reads the headers of an answer like those of an email, which took a third of
the time of a call (bench/README.md).

https://www.rfc-editor.org/rfc/rfc9112
"""

import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

MOST_HEAD_BYTES = 65_536
A_READ = 65_536

_STATUS = re.compile(r"[2-5][0-9]{2}")  # a status under 200 is no final answer: nobody asked for it
_LENGTH = re.compile(r"[0-9]{1,10}")
_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")


class Answer(NamedTuple):
    """An HTTP answer; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Malformed(Exception):
    """The bytes received are not a complete HTTP answer."""


def request(headers: Mapping[str, str], body: bytes) -> bytes:
    """The bytes to send. Raises ValueError without details: headers contain keys and tokens."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    ours = f"accept-encoding: identity\r\ncontent-length: {len(body)}"
    head = f"POST / HTTP/1.1\r\n{lines}{ours}\r\n\r\n"
    if not head.isascii() or head.count("\r") + head.count("\n") != 2 * (len(headers) + 4):
        raise ValueError("a header has a character that none may have")
    return head.encode() + body


def answer(connection: socket.socket) -> tuple[Answer, bool]:
    """The answer to what was sent, and whether the connection can be kept.

    Raises `Malformed`, and OSError, such as TimeoutError.
    """
    received = bytearray()
    while (end := received.find(b"\r\n\r\n")) < 0:
        if len(received) > MOST_HEAD_BYTES:
            raise Malformed
        received += _more(connection)
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    version, status, _ = f"{first}  ".split(" ", 2)
    headers = dict(map(_header, lines))
    if version not in ("HTTP/1.0", "HTTP/1.1") or not _STATUS.fullmatch(status):
        raise Malformed
    del received[: end + 4]
    if "transfer-encoding" in headers:
        if headers["transfer-encoding"].lower() != "chunked":
            raise Malformed
        body = _chunks(connection, received)
    else:
        length = headers.get("content-length", "")
        if not _LENGTH.fullmatch(length):
            raise Malformed  # it ended before it said how long it is
        body = _taken(connection, received, int(length))
    is_last = version == "HTTP/1.0" or headers.get("connection", "").lower() == "close"
    # Bytes after the answer could be taken for the answer to the next request.
    return Answer(int(status), headers, body), not (is_last or received)


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name != name.strip():
        raise Malformed
    return name.lower(), value.strip()


def _chunks(connection: socket.socket, received: bytearray) -> bytes:
    """The body of a chunked answer; bytes after it stay in ``received``."""
    body = bytearray()
    while True:
        size = _line(connection, received).partition(b";")[0].strip()
        if not _SIZE.fullmatch(size):
            raise Malformed
        length = int(size, 16)
        if not length:
            break
        body += _taken(connection, received, length)
        if _line(connection, received):
            raise Malformed
    while _line(connection, received):
        pass  # trailing headers
    return bytes(body)


def _line(connection: socket.socket, received: bytearray) -> bytes:
    while (end := received.find(b"\r\n")) < 0:
        if len(received) > MOST_HEAD_BYTES:
            raise Malformed
        received += _more(connection)
    line = bytes(received[:end])
    del received[: end + 2]
    return line


def _taken(connection: socket.socket, received: bytearray, length: int) -> bytes:
    while len(received) < length:
        received += _more(connection)
    taken = bytes(received[:length])
    del received[:length]
    return taken


def _more(connection: socket.socket) -> bytes:
    part = connection.recv(A_READ)
    if not part:
        raise Malformed  # it was closed
    return part
