"""What is sent and read over an open connection: Python's own client is the oracle."""

import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse

import pytest

from chalicelib.store.wire import exchange
from chalicelib.store.wire.exchange import Answer, Malformed

PLAIN = b"HTTP/1.1 200 OK\r\nX-One: 1\r\nContent-Length: 5\r\n\r\n[1,2]"
CHUNKED = (
    b"HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3\r\n[1,\r\n2;why=so\r\n2]\r\n0\r\nX-Behind: it\r\n\r\n"
)


class _Pieces:
    """A connection on which an answer comes in pieces, and then the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)

    def recv(self, most: int) -> bytes:
        piece = next(self._pieces, b"")
        assert len(piece) <= most
        return piece


def read(*pieces: bytes) -> tuple[Answer, bool]:
    return read_all(pieces)


def read_all(pieces: Iterable[bytes]) -> tuple[Answer, bool]:
    connection: socket.socket = _Pieces(pieces)  # type: ignore[assignment]  # all that is asked of it
    return exchange.answer(connection)


@contextmanager
def _connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def by_python(said: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """What Python's own client makes of an answer; None if it is none."""
    with _connected() as (ours, theirs):
        theirs.sendall(said)
        theirs.shutdown(socket.SHUT_WR)
        with HTTPResponse(ours, method="POST") as response:
            try:
                response.begin()
                body = response.read()
            except HTTPException:
                return None
            headers = {name.lower(): value.strip() for name, value in response.getheaders()}
            return response.status, headers, body


def some_answer(dice: random.Random) -> bytes:
    """A proper answer of a server, whatever its form."""
    body = dice.randbytes(dice.choice([0, 1, 2, 17, 9_000]))
    names = dice.sample(["X-Amzn-RequestId", "x-amz-crc32", "Server", "Date", "connection"], 3)
    lines = [f"{name}:{dice.choice(['', ' ', '  '])}{dice.randrange(10**6)} " for name in names]
    if dice.random() < 0.5:
        lines.append(f"Content-Length: {len(body)}")
    else:
        lines.append("transfer-encoding: chunked")
        chunks = []
        rest = body
        while rest:
            size = dice.randint(1, len(rest))
            chunks.append(f"{size:{dice.choice('xX')}}\r\n".encode() + rest[:size] + b"\r\n")
            rest = rest[size:]
        body = b"".join((*chunks, b"0\r\n\r\n"))
    dice.shuffle(lines)
    status = dice.choice(["200 OK", "400 Bad Request", "500 ", "503"])
    return "\r\n".join((f"HTTP/1.1 {status}", *lines, "", "")).encode() + body


def in_pieces(dice: random.Random, said: bytes) -> Iterator[bytes]:
    while said:
        size = dice.choice([1, 2, 3, 40, 65_536])
        yield said[:size]
        said = said[size:]


@pytest.mark.parametrize("seed", range(150))
def test_an_answer_is_read_as_python_reads_it_in_whatever_pieces_it_comes(seed: int) -> None:
    dice = random.Random(seed)
    said = some_answer(dice)
    found, is_kept = read(*in_pieces(dice, said))
    assert tuple(found) == by_python(said)
    assert is_kept


@pytest.mark.parametrize("said", [PLAIN, CHUNKED], ids=["with a length", "in chunks"])
def test_an_answer_that_breaks_off_anywhere_is_no_answer(said: bytes) -> None:
    for end in range(len(said)):
        with pytest.raises(Malformed):
            read(said[:end])
    assert read(said)[0].body == b"[1,2]"


@pytest.mark.parametrize(
    "said",
    [
        PLAIN.replace(b"HTTP/1.1", b"HTTP/2"),
        PLAIN.replace(b"HTTP/1.1 200", b"ICY 200"),
        PLAIN.replace(b"200", b"100"),
        PLAIN.replace(b"200", b"2000"),
        PLAIN.replace(b"200", "²00".encode("latin-1")),
        PLAIN.replace(b"200", b""),
        PLAIN.replace(b"5", b"-5"),
        PLAIN.replace(b"5", b"5,5"),
        PLAIN.replace(b"5", b""),
        PLAIN.replace(b"Content-Length", b"Content-Size"),
        PLAIN.replace(b"X-One:", b"X-One"),
        PLAIN.replace(b"X-One:", b" X-One:"),
        PLAIN.replace(b"X-One:", b"X-One :"),
        PLAIN.replace(b"X-One:", b":"),
        CHUNKED.replace(b"Chunked", b"gzip, chunked"),
        CHUNKED.replace(b"3\r\n", b"x\r\n"),
        CHUNKED.replace(b"3\r\n", b"\r\n"),
        *(CHUNKED.replace(b"3\r\n", size + b"\r\n") for size in (b"-3", b"+3", b"0x3", b"0_3")),
        CHUNKED.replace(b"3\r\n", b"2\r\n"),
        b"x" * 70_000,
    ],
)
def test_what_is_no_proper_answer_is_refused(said: bytes) -> None:
    with pytest.raises(Malformed):
        read(*(said[start : start + 65_536] for start in range(0, len(said), 65_536)))


@pytest.mark.parametrize("begins", [b"", CHUNKED[: CHUNKED.index(b"3\r\n")]])
def test_a_line_that_never_ends_is_not_read_for_ever(begins: bytes) -> None:
    def never_ending() -> Iterator[bytes]:
        yield begins + b"3"
        for _ in range(3):
            yield b"3" * 65_536
        raise AssertionError("it went on to read")

    with pytest.raises(Malformed):
        read_all(never_ending())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (PLAIN, True),
        (PLAIN.replace(b"1.1", b"1.0"), False),
        (PLAIN.replace(b"X-One: 1", b"Connection: Close"), False),
        (PLAIN.replace(b"X-One: 1", b"Connection: keep-alive"), True),
        (PLAIN + b"H", False),
        (CHUNKED + b"H", False),
    ],
)
def test_a_connection_is_kept_if_nothing_more_is_to_come_on_it(
    said: bytes, *, expected: bool
) -> None:
    found, is_kept = read(said)
    assert (found.body, is_kept) == (b"[1,2]", expected)


def test_a_request_is_a_head_and_the_body() -> None:
    assert exchange.request({"host": "db", "x-one": "1"}, b"{}") == (
        b"POST / HTTP/1.1\r\nhost: db\r\nx-one: 1\r\n"
        b"accept-encoding: identity\r\ncontent-length: 2\r\n\r\n{}"
    )


@pytest.mark.parametrize("value", ["a\r\nx-two: 2", "a\nb", "a\rb", "ä", "a\n\r"])
def test_a_header_that_would_be_two_is_refused_and_not_said(value: str) -> None:
    with pytest.raises(ValueError, match="none may have") as raised:
        exchange.request({"host": "db", "x-secret": value}, b"")
    assert value not in str(raised.value)
