"""The connections of the wire: kept open, closed by others, too slow, and never unverified."""

import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import BadStatusLine
from pathlib import Path

import pytest

from chalicelib.store.wire import proxies, transport
from chalicelib.store.wire.endpoints import Endpoint, endpoint_of
from chalicelib.store.wire.errors import NoAnswer
from chalicelib.store.wire.transport import Transport

ANSWER = b"HTTP/1.1 200 OK\r\nX-Amz-Crc32: 7\r\nContent-Length: 2\r\n\r\n{}"
LAST_ANSWER = ANSWER.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

Serve = Callable[[socket.socket, int], None]
"""What a server does with a connection, and the how many-th it is (from 0)."""


class Server:
    """Listens on loopback, serves connections one after the other, and counts them."""

    def __init__(self, serve: Serve) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.connections = 0
        self.asked: list[bytes] = []
        self._serve = serve
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def endpoint(self) -> Endpoint:
        return endpoint_of("eu-west-1", f"http://127.0.0.1:{self.listening.getsockname()[1]}")

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            with connection:
                self._serve(connection, self.connections)
            self.connections += 1

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self._thread.join(10)


def asked(connection: socket.socket) -> bytes:
    """The next request; nothing if there is none."""
    request = b""
    while not request.endswith(b"\r\n\r\n{}"):
        try:
            part = connection.recv(65_536)
        except OSError:
            return b""
        if not part:
            return b""
        request += part
    return request


@contextmanager
def serving(serve: Serve) -> Iterator[tuple[Server, Transport]]:
    server = Server(serve)
    ours = Transport(server.endpoint, 2, 0.2, 10)
    try:
        yield server, ours
    finally:
        for idle in ours._idle:
            idle.close()
        server.close()


def polite(connection: socket.socket, _: int) -> None:
    while asked(connection):
        connection.sendall(ANSWER)


def test_one_connection_serves_many_requests_as_it_is_told_to_send_them() -> None:
    requests: list[bytes] = []

    def serve(connection: socket.socket, _: int) -> None:
        while request := asked(connection):
            requests.append(request)
            connection.sendall(ANSWER)

    with serving(serve) as (server, ours):
        for _ in range(3):
            assert ours.send({"host": "dynamodb", "x-amz-target": "x"}, b"{}") == (
                200,
                {"x-amz-crc32": "7", "content-length": "2"},
                b"{}",
            )
        assert server.connections == 0, "the first one is still open"
    (request, *_) = requests
    assert len({*requests}) == 1
    lines = request.split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert sorted(lines[1:-2]) == [
        b"accept-encoding: identity",
        b"content-length: 2",
        b"host: dynamodb",
        b"x-amz-target: x",
    ]


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    closed = threading.Event()

    def once(connection: socket.socket, _: int) -> None:
        assert asked(connection)
        connection.sendall(ANSWER)
        connection.close()
        closed.set()

    with serving(once) as (_, ours):
        for _ in range(3):
            closed.clear()
            assert ours.send({}, b"{}").status == 200
            assert closed.wait(10)


def test_a_connection_that_the_server_wants_to_close_is_not_kept() -> None:
    def last(connection: socket.socket, _: int) -> None:
        assert asked(connection)
        connection.sendall(LAST_ANSWER)

    with serving(last) as (_, ours):
        assert ours.send({}, b"{}").status == 200
        assert ours._idle == []


@pytest.mark.parametrize(
    "part", [b"", b"HTTP/1.1 200 OK\r\n", ANSWER[:-1], b"what?\r\n\r\n"], ids=len
)
def test_an_answer_that_breaks_off_is_none_and_its_connection_is_not_kept(part: bytes) -> None:
    def breaks(connection: socket.socket, _: int) -> None:
        assert asked(connection)
        connection.sendall(part)

    with serving(breaks) as (_, ours):
        with pytest.raises(NoAnswer) as raised:
            ours.send({}, b"{}")
        assert (raised.value.is_timeout, raised.value.is_connected) == (False, True)
        assert ours._idle == []


def test_an_answer_that_takes_too_long_is_none_and_its_connection_is_not_kept() -> None:
    def slow(connection: socket.socket, number: int) -> None:
        assert asked(connection)
        if number == 0:
            assert not connection.recv(1), "it is closed by the one who waited"
        else:
            connection.sendall(ANSWER)

    with serving(slow) as (_, ours):
        with pytest.raises(NoAnswer) as raised:
            ours.send({}, b"{}")
        assert (raised.value.is_timeout, raised.value.is_connected) == (True, True)
        assert ours._idle == []
        assert ours.send({}, b"{}").status == 200
        assert ours._idle[0].gettimeout() == ours.read_timeout


def test_a_server_that_is_not_there_was_not_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(NoAnswer) as raised:
        Transport(endpoint_of("eu-west-1", f"http://127.0.0.1:{port}"), 2, 5, 1).send({}, b"{}")
    assert (raised.value.is_timeout, raised.value.is_connected) == (False, False)


def test_connecting_has_its_own_limit() -> None:
    """A server that accepts and says nothing of TLS: that is a part of connecting."""

    def silent(connection: socket.socket, _: int) -> None:
        while connection.recv(1_024):
            pass

    server = Server(silent)
    try:
        port = server.endpoint.port
        ours = Transport(endpoint_of("eu-west-1", f"https://127.0.0.1:{port}"), 0.1, 60, 1)
        with pytest.raises(NoAnswer) as raised:
            ours.send({}, b"{}")
    finally:
        server.close()
    assert (raised.value.is_timeout, raised.value.is_connected) == (True, False)


def test_a_forgotten_client_leaves_no_connection_open() -> None:
    with serving(polite) as (server, ours):
        forgotten = Transport(server.endpoint, 2, 2, 10)
        assert forgotten.send({}, b"{}").status == 200
        (connection,) = forgotten._idle
        del forgotten
        assert connection.fileno() == -1
        assert ours.send({}, b"{}").status == 200, "the server is free for others"


def test_no_more_connections_are_kept_than_wanted() -> None:
    with serving(polite) as (_, ours):
        ours._most_kept = 0
        assert ours.send({}, b"{}").status == 200
        assert ours._idle == []


class Kept:
    """A connection that waits for the next request, and what becomes of it."""

    def __init__(self, name: str, answers: Callable[[], bytes] = lambda: ANSWER) -> None:
        self.name = name
        self.is_closed = False
        self._answers = answers

    def sendall(self, _: bytes) -> None:
        """Takes any request."""

    def recv(self, _: int) -> bytes:
        return self._answers()

    def close(self) -> None:
        self.is_closed = True


def keeping(monkeypatch: pytest.MonkeyPatch, *kept: Kept, closed: str = "") -> Transport:
    """Connections that were kept, the last one used last; the server has closed some."""
    monkeypatch.setattr(transport, "_was_closed", lambda connection: connection.name in closed)
    ours = Transport(endpoint_of("eu-west-1", "http://127.0.0.1:1"), 1, 1, 10)
    ours._idle += kept  # type: ignore[arg-type]  # they have all that is used of a socket
    return ours


def test_the_connection_that_was_used_last_is_used_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """So those that nobody needs any more grow old, and not all of them stay young."""
    old, young = Kept("old"), Kept("young")
    ours = keeping(monkeypatch, old, young)
    for _ in range(2):
        assert ours.send({}, b"{}").status == 200
    assert ours._idle == [old, young]  # type: ignore[comparison-overlap]
    assert ours._connection() is young  # type: ignore[comparison-overlap]


def test_a_connection_that_the_server_closed_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    good, gone = Kept("good"), Kept("gone")
    ours = keeping(monkeypatch, good, gone, closed="gone")
    assert ours.send({}, b"{}").status == 200
    assert (good.is_closed, gone.is_closed) == (False, True)


def test_a_request_that_is_interrupted_leaves_no_connection_with_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> bytes:
        raise KeyboardInterrupt

    interrupted = Kept("interrupted", interrupt)
    ours = keeping(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt):
        ours.send({}, b"{}")
    assert interrupted.is_closed
    assert ours._idle == []


def test_small_requests_are_sent_at_once() -> None:
    """Else the kernel would hold back the end of a request until the server has said something."""
    with serving(polite) as (_, ours):
        ours.send({}, b"{}")
        assert ours._idle[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """What a server that calls itself localhost secures its connections with; it is trusted."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    transport._verifying.cache_clear()
    yield context
    transport._verifying.cache_clear()


def test_a_certificate_that_nobody_vouches_for_is_refused_before_anything_is_sent(
    secured: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the right name, too; and one that is trusted is only good for its own name."""
    certificate = os.environ["AWS_CA_BUNDLE"]
    heard: list[bytes] = []

    def serve(connection: socket.socket, _: int) -> None:
        try:
            with secured.wrap_socket(connection, server_side=True) as talking:
                while request := asked(talking):
                    heard.append(request)
                    talking.sendall(ANSWER)
        except OSError:
            return

    def send(name: str, trusted: str) -> int:
        monkeypatch.setenv("AWS_CA_BUNDLE", trusted)
        transport._verifying.cache_clear()
        ours = Transport(endpoint_of("eu-west-1", f"https://{name}:{port}"), 5, 5, 0)
        return ours.send({}, b"{}").status

    server = Server(serve)
    port = server.endpoint.port
    try:
        for name, trusted in (("localhost", ""), ("127.0.0.1", certificate)):
            with pytest.raises(NoAnswer, match="SSLCertVerificationError") as raised:
                send(name, trusted)
            assert not raised.value.is_connected
        assert heard == []
        assert send("localhost", certificate) == 200
        ours = Transport(endpoint_of("eu-west-1", f"https://localhost:{port}"), 5, 5, 1)
        used = [ours.send({}, b"{}").status and ours._idle[0] for _ in range(3)]
        assert len({*used}) == 1, "one serves all three"
        ours._idle.pop().close()
    finally:
        server.close()


def test_a_proxy_is_asked_for_a_tunnel_unless_the_host_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    endpoint = endpoint_of("eu-west-1", environment={})
    assert transport._proxy(endpoint) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://me:p%40ss@proxy.example:3128")
    found = proxies.asking(transport._proxy(endpoint) or "", endpoint, 2)
    assert (found.host, found.port) == ("proxy.example", 3128)
    assert vars(found)["_tunnel_host"] == endpoint.host
    assert vars(found)["_tunnel_headers"]["Proxy-Authorization"] == "Basic bWU6cEBzcw=="
    monkeypatch.setenv("NO_PROXY", "amazonaws.com")
    assert transport._proxy(endpoint) is None
    without_port = proxies.asking("proxy.example", endpoint, 2)
    assert (without_port.host, without_port.port) == ("proxy.example", 8080)
    assert "Proxy-Authorization" not in vars(without_port)["_tunnel_headers"]


def test_what_a_proxy_does_not_let_through_leaves_no_connection_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed: list[object] = []

    def close(connection: object) -> None:
        closed.append(connection)

    monkeypatch.setattr("http.client.HTTPConnection.close", close)
    for error in (OSError("refused"), BadStatusLine("what?"), KeyboardInterrupt()):

        def connect(_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr("http.client.HTTPConnection.connect", connect)
        expected = OSError if isinstance(error, BadStatusLine) else type(error)
        with pytest.raises(expected):
            proxies.tunnel("proxy.example", endpoint_of("eu-west-1", environment={}), 2)
    assert len({*closed}) == 3


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"HTTP/1.1 200 Connection established\r\n\r\n", 200),
        (b"HTTP/1.1 407 Who are you?\r\n\r\n", None),
        (b"what?\r\n\r\n", None),
    ],
    ids=["it opens", "it refuses", "it makes no sense"],
)
def test_the_tunnel_of_a_proxy_is_secured_to_the_endpoint_itself(
    secured: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch, said: bytes, status: int | None
) -> None:
    heard: list[bytes] = []

    def serve(connection: socket.socket, _: int) -> None:
        heard.append(connection.recv(65_536))
        connection.sendall(said)
        if status is None:
            return
        with secured.wrap_socket(connection, server_side=True) as tunnelled:
            heard.append(asked(tunnelled))
            tunnelled.sendall(LAST_ANSWER)

    server = Server(serve)
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.endpoint.port}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    ours = Transport(Endpoint(is_https=True, name="localhost", port=443, host="db"), 5, 5, 1)
    monkeypatch.setattr("urllib.request.proxy_bypass", lambda _: False)
    try:
        if status is None:
            with pytest.raises(NoAnswer) as raised:
                ours.send({"host": "db"}, b"{}")
            assert not raised.value.is_connected
        else:
            assert ours.send({"host": "db"}, b"{}").status == status
            assert heard[1].startswith(b"POST / HTTP/1.1\r\nhost: db\r\n")
    finally:
        server.close()
    assert heard[0].startswith(b"CONNECT localhost:443 HTTP/1.")


# --- Endpoints -----------------------------------------------------------------------------------


def test_an_endpoint_that_is_given_comes_before_those_of_the_environment() -> None:
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    assert endpoint_of("eu-west-1", environment=environment).host == "127.0.0.1:1"
    environment |= {"AWS_ENDPOINT_URL_DYNAMODB": "https://[::1]:2/"}
    assert endpoint_of("eu-west-1", environment=environment) == (True, "::1", 2, "[::1]:2")
    assert endpoint_of("eu-west-1", "http://here", environment) == (False, "here", 80, "here")
    environment |= {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}
    found = endpoint_of("eu-west-1", environment=environment)
    assert found.host == "dynamodb.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("url", ["ftp://here", "https://", "here:80", "https://here/path"])
def test_an_endpoint_that_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="an endpoint URL must be like"):
        endpoint_of("eu-west-1", url)


@pytest.mark.parametrize("region", ["", "Europe", "eu-west-1/x", "eu-west-1.evil.example"])
def test_a_region_that_is_none_of_aws_is_refused(region: str) -> None:
    with pytest.raises(ValueError, match="the region must be one of AWS"):
        endpoint_of(region, environment={})


@pytest.mark.parametrize("name", ["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"])
def test_a_choice_among_aws_endpoints_is_not_lost_in_another_endpoint(name: str) -> None:
    with pytest.raises(ValueError, match="unset them, or the endpoint URL"):
        endpoint_of("eu-west-1", "https://here", {name: "true"})
