"""The doctor among name servers and issuers that are slow or wrong: real ones, on loopback."""

import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.resolver
import dns.rrset
import pytest

from chalicelib.api.issuer_keys import fetch_keys
from infra.doctor import examination, issuer, mail_dns, resolver
from infra.doctor.finding import Finding, State
from infra.doctor.issuer_check import Fetch
from tests.unit.test_authorizer import KEY_SET
from tests.unit.test_doctor import DOMAIN, ENTRIES, IDENTITY, SITE, only

# --- Name servers ---------------------------------------------------------------------------------

Answer = Callable[[dns.message.Message], dns.message.Message | None]


@contextmanager
def name_server(answer: Answer) -> Iterator[int]:
    """A name server that answers as it is told, over UDP and TCP; its port."""

    def answered(wire: bytes) -> bytes:
        reply = answer(dns.message.from_wire(wire))
        return reply.to_wire() if reply is not None else b""

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire, sock = self.request
            if reply := answered(wire):
                sock.sendto(reply, self.client_address)

    with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Udp) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has this machine ask the name server on a port of its own."""
    known = dns.resolver.Resolver

    def use(port: int) -> None:
        def made() -> dns.resolver.Resolver:
            asked = known(configure=False)
            asked.nameservers, asked.port = ["127.0.0.1"], port
            return asked

        monkeypatch.setattr(dns.resolver, "Resolver", made)

    monkeypatch.setattr(resolver, "PATIENCE_SECONDS", 0.5)
    return use


def looked_up() -> list[Finding]:
    return list(mail_dns.look(SITE, mail_dns.wanted(SITE, DOMAIN, IDENTITY)))


def with_code(code: dns.rcode.Rcode) -> Answer:
    def answer(query: dns.message.Message) -> dns.message.Message:
        reply = dns.message.make_response(query)
        reply.set_rcode(code)
        return reply

    return answer


def of_the_zone(query: dns.message.Message) -> dns.message.Message:
    """What a name server answers that has all entries, and long texts in pieces."""
    reply = dns.message.make_response(query)
    question = query.question[0]
    name, kind = question.name.to_text().rstrip("."), dns.rdatatype.to_text(question.rdtype)
    for value in ENTRIES.get((name, kind), []):
        half = len(value) // 2
        text = f'"{value[:half]}" "{value[half:]}"' if kind == "TXT" else f"{value}."
        reply.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, text))
    reply.flags |= dns.flags.RA
    return reply


def test_entries_are_read_as_name_servers_have_them(ask: Callable[[int], None]) -> None:
    with name_server(of_the_zone) as port:
        ask(port)
        assert [finding.says for finding in looked_up()] == ["6 entries are as they should be"]


def test_a_name_that_does_not_exist_has_no_entries(ask: Callable[[int], None]) -> None:
    with name_server(with_code(dns.rcode.NXDOMAIN)) as port:
        ask(port)
        assert [finding.state for finding in looked_up()] == [State.BAD] * 3 + [State.WARNING] * 3


def odd(query: dns.message.Message) -> dns.message.Message:
    """An answer to another question."""
    reply = dns.message.make_response(dns.message.make_query("other.example.com", "A"))
    reply.id = query.id
    return reply


@pytest.mark.parametrize(
    "answer",
    [
        with_code(dns.rcode.SERVFAIL),
        with_code(dns.rcode.REFUSED),
        lambda _: None,
        odd,
    ],
    ids=["SERVFAIL", "REFUSED", "no answer", "another answer"],
)
def test_name_servers_that_fail_leave_it_open_and_soon(
    answer: Answer, ask: Callable[[int], None]
) -> None:
    with name_server(answer) as port:
        ask(port)
        began = time.monotonic()
        found = only(iter(looked_up()))
    assert found.state is State.UNKNOWN
    assert f"a._domainkey.{DOMAIN} could not be looked up" in found.says
    assert time.monotonic() - began < 10


# --- Issuers --------------------------------------------------------------------------------------


@contextmanager
def issuer_that(send: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A web server that sends whatever it is told; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            send(self)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def body(content: bytes, status: int = 200) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        try:
            handler.wfile.write(content)
        except ConnectionError:
            return  # the one who asked has seen enough

    return send


def found_at(url: str, deadline: float = 30.0, fetch: Fetch = fetch_keys) -> list[Finding]:
    # Local, where keys come without https.
    site = replace(SITE, stage="local", parameters={"TokenIssuer": url, "TokenJwksUrl": url})
    check = partial(issuer.keys, fetch=fetch)
    return list(examination.examine({"issuer": check}, site, deadline=deadline))


def test_an_issuer_that_answers_as_it_should_is_fine() -> None:
    with issuer_that(body(json.dumps(KEY_SET).encode())) as url:
        assert [finding.state for finding in found_at(url)] == [State.FINE]


@pytest.mark.parametrize(
    ("send", "says"),
    [
        (body(b"<!doctype html><title>Log in</title>"), "is not JSON: it begins b'<!doctype html>"),
        (body(b""), "is not JSON: it begins b''"),
        (body(b"\xff\xfe\x00"), "is not JSON"),
        (body(b"[]"), "is not a JSON object"),
        (body(b"{}"), "there is no 'keys' in what it answers"),
        (body(b'{"keys": []}'), "it is empty"),
        (body(b'{"keys": null}'), "not iterable"),
        (body(b'{"keys": ' + b" " * 300_000 + b"[]}"), "answered 200 with 262145 bytes"),
        (body(b"[" * 100_000), "recursion"),
        (body(b"", 302), "answered 302"),
        (body(b"oops", 500), "answered 500"),
    ],
    ids=[
        *("html", "nothing", "no text", "a list", "no keys", "empty", "null"),
        *("huge", "deep", "redirect", "error"),
    ],
)
def test_what_is_no_key_set_is_said_for_what_it_is(
    send: Callable[[BaseHTTPRequestHandler], None], says: str
) -> None:
    with issuer_that(send) as url:
        found = only(iter(found_at(url)))
    assert (found.check, found.state, found.stops) == ("issuer", State.BAD, False)
    assert says in found.says
    assert len(found.says) < 500


def test_an_issuer_that_sends_a_byte_now_and_then_is_given_up() -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not ended.wait(0.1):
            handler.wfile.write(b" ")

    ended = threading.Event()
    with issuer_that(drip) as url:
        began = time.monotonic()
        found = only(iter(found_at(url, deadline=1.0)))
        took = time.monotonic() - began
        ended.set()
    assert found.state is State.UNKNOWN
    assert found.says == "no answer within 1 s"
    assert took < 5


def test_an_issuer_that_says_nothing_is_given_up() -> None:
    ended = threading.Event()

    def silent(_: BaseHTTPRequestHandler) -> None:
        ended.wait(20)

    with issuer_that(silent) as url:
        found = only(iter(found_at(url, fetch=partial(fetch_keys, seconds=0.3))))
        ended.set()
    assert found.state is State.BAD
    assert "timed out" in found.says


def test_an_issuer_that_is_not_there_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        found = only(iter(found_at(url)))
    assert found.state is State.BAD
    assert "Connection refused" in found.says
