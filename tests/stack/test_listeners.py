"""Everything that listens while `make up` runs, found by looking: no page of anybody else gets in.

The stack is one of its own, in a process of its own, as a developer has it.
"""

import http.client
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra.deployment import packaging
from infra.local import emulator, tokens
from infra.local.stacks import LocalStack
from tests.stack.conftest import wait_for
from tests.stack.test_deploy import children_of, processes_of_group

LISTENS = "0A"
"""A state in /proc/net/tcp (https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html)."""

Address = tuple[str, int]


@dataclass(frozen=True)
class Running:
    """`make up` as it runs: its process, the emulator's group, what it printed, its console."""

    process: subprocess.Popen[str]
    group: int
    printed: dict[str, Any]
    console: str
    state: Path

    def listeners(self) -> set[Address]:
        """The address and port of every socket that listens, of any process of the stack."""
        pids = {self.process.pid, *processes_of_group(self.group)}
        held = {inode for pid in pids for inode in sockets_of(pid)}
        return {address for inode, address in listening() if inode in held}


def sockets_of(pid: int) -> Iterator[str]:
    with suppress(FileNotFoundError):  # a function that ended meanwhile
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            target = str(descriptor.readlink())
            if target.startswith("socket:"):
                yield target.removeprefix("socket:[").removesuffix("]")


def listening() -> Iterator[tuple[str, Address]]:
    """Every socket of this machine that listens, IPv6 too: its inode, and its address."""
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]:
            (
                _,
                local_address,
                _,
                state,
                *_,
            ) = fields = line.split()
            if state == LISTENS:
                raw, _, port = local_address.partition(":")
                words = [bytes.fromhex(raw[at : at + 8])[::-1] for at in range(0, len(raw), 8)]
                yield fields[9], (str(ip_address(b"".join(words))), int(port, 16))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("up") / "local.json"
    said = state.with_name("said")
    with (
        said.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "infra", "up"],
            cwd=packaging.ROOT,
            env=os.environ | {"CREDITS_STATE_FILE": str(state)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        printed = json.loads(process.stdout.readline() or pytest.fail(said.read_text()))
        found = wait_for(
            lambda: re.search(r"Its console is (\S+)", said.read_text()), "its console"
        )
        # A function that has run is a process of its own, which must not listen either.
        with urllib.request.urlopen(f"{printed['api_url']}/api/health", timeout=60) as answer:
            assert answer.status == 200
        (group,) = children_of(process.pid)
        yield Running(process, group, printed, found[1], state)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0


def ask(
    port: int, method: str, path: str, said: dict[str, str], body: bytes = b""
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, said)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, answer.read().decode(), found
    finally:
        connection.close()


FOREIGN = {
    "a name of its own that leads here": {"Host": "evil.example.com"},
    "that name with the port": {"Host": "evil.example.com:{port}"},
    "an address that only begins like ours": {"Host": "127.0.0.1.evil.example.com:{port}"},
    "its origin": {"Origin": "https://evil.example.com"},
    "an origin that it hides": {"Origin": "null"},
    "that of another program here": {"Origin": "http://localhost:9"},
    "a script or an image": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
    "a link": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a form": {
        "Origin": "https://evil.example.com",
        "Sec-Fetch-Site": "cross-site",
        "Content-Type": "application/x-www-form-urlencoded",
    },
    "a post without asking": {
        "Origin": "https://evil.example.com",
        "Content-Type": "text/plain",
        "Sec-Fetch-Mode": "no-cors",
    },
    "a question beforehand": {
        "Origin": "https://evil.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    },
}
"""How a page that a developer looks at could ask, and what its browser says then."""


def test_all_that_listens_is_known_and_on_loopback(running: Running) -> None:
    known = {urlsplit(running.printed[each]).port for each in ("endpoint_url", "issuer")}
    found = running.listeners()
    assert {address for address, _ in found} == {"127.0.0.1"}
    assert {port for _, port in found} == {*known, urlsplit(running.console).port}


@pytest.mark.parametrize("how", FOREIGN)
def test_every_listener_refuses_a_foreign_page_before_anything_is_done(
    running: Running, how: str
) -> None:
    api = urlsplit(running.printed["api_url"]).path
    claims = json.dumps({"sub": "ops", "scope": "credits:admin"}).encode()
    for (_, port), (method, path, body) in itertools.product(
        running.listeners(),
        [
            ("GET", "/", b""),
            ("POST", "/", b"Action=CreateQueue&QueueName=stolen"),
            ("POST", "/?Action=CreateQueue&QueueName=stolen", b""),
            ("POST", "/_ministack/reset", b""),
            ("GET", "/_ministack/ses/messages", b""),
            ("POST", "/token", claims),
            ("POST", "/local/token", claims),
            ("POST", "/local/clock", b'{"to": "+30 days"}'),
            ("GET", f"{api}/api/health", b""),
            ("OPTIONS", f"{api}/api/plans", b""),
            ("PUT", "/2015-03-31/functions/stolen", b"{}"),
            ("DELETE", "/bucket", b""),
        ],
    ):
        said = {name: value.format(port=port) for name, value in FOREIGN[how].items()}
        status, text, headers = ask(port, method, path, said, body)
        assert (status, path) == (403, path)
        assert text.startswith(f"This is http://127.0.0.1:{port} of a local stack of Credits. It")
        assert "access-control-allow-origin" not in headers
    with urllib.request.urlopen(f"{running.printed['api_url']}/api/health", timeout=60) as answer:
        assert answer.status == 200, "the stack is as it was"
    stack = LocalStack(**running.printed)
    assert not stack.client("sqs").list_queues(QueueNamePrefix="stolen").get("QueueUrls")


def test_a_socket_of_a_foreign_page_is_not_opened(running: Running) -> None:
    said = {
        "Origin": "https://evil.example.com",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    api = urlsplit(running.printed["api_url"]).path
    for _, port in running.listeners():
        for path in ("/", api):
            assert ask(port, "GET", path, said)[0] == 403


def test_programs_and_our_own_pages_are_answered(running: Running) -> None:
    address = urlsplit(running.printed["endpoint_url"])
    assert address.port
    for host in ("127.0.0.1", "localhost", "[::1]", "bucket.localhost"):
        said = {"Host": f"{host}:{address.port}"}
        assert ask(address.port, "GET", "/_ministack/health", said)[0] == 200
    assert tokens.issue(running.printed["issuer"], "42")
    page = {"Origin": running.console, "Sec-Fetch-Site": "same-origin"}
    port = urlsplit(running.console).port or 0
    asked = {"Content-Type": "application/json"} | page
    status, token, _ = ask(port, "POST", "/local/token", asked, b'{"user_id": "42"}')
    assert status == 200
    # The console calls the API from another port, as a frontend under development does.
    api = urlsplit(running.printed["api_url"]).path
    bearer = {"Authorization": f"Bearer {json.loads(token)['access_token']}"}
    for origin in (running.console, f"http://localhost:{port}", "http://localhost:5173"):
        said = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        status, _, headers = ask(address.port, "GET", f"{api}/api/plans", said | bearer)
        assert (status, headers["access-control-allow-origin"]) == (200, origin)


@pytest.mark.parametrize("command", ["up", "run"])
def test_a_second_stack_is_refused_with_the_first_ones_process_and_address(
    running: Running, command: str
) -> None:
    second = subprocess.run(
        [sys.executable, "-m", "infra", command],
        cwd=packaging.ROOT,
        env=os.environ | {"CREDITS_STATE_FILE": str(running.state), "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert second.returncode == 1
    said = f"process {running.process.pid}, whose console is {running.console}"
    assert said in second.stdout + second.stderr
    assert "Starting the emulator" not in second.stderr
    assert json.loads(running.state.read_text()) == running.printed
    assert emulator.is_healthy(running.printed["endpoint_url"])


def test_an_emulator_that_is_stopped_for_7_seconds_is_not_given_up(running: Running) -> None:
    os.killpg(running.group, signal.SIGSTOP)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            running.process.wait(timeout=7)
    finally:
        os.killpg(running.group, signal.SIGCONT)
    assert emulator.is_healthy(running.printed["endpoint_url"])
    with pytest.raises(subprocess.TimeoutExpired):
        running.process.wait(timeout=3)
    assert running.state.exists()
