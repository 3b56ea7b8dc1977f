"""The local stack's process: when it ends, and that there is one of it; without an emulator."""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

from infra import terminal
from infra.commands import run, up
from infra.local import emulator, stacks, tokens
from infra.local.console import server

STACK: Any = SimpleNamespace(endpoint_url="http://127.0.0.1:1")


# --- An emulator that does not answer -------------------------------------------------------------


def stays(answers: Iterable[bool]) -> tuple[int, float]:
    """For how many probes, and how long, a stack is kept up that answers them so, and then no more.

    Ctrl-C ends it where the answers do.
    """
    probes, waited, coming = 0, 0.0, iter(answers)

    def probe(url: str) -> bool:
        nonlocal probes
        assert url == STACK.endpoint_url
        probes += 1
        answer = next(coming, None)
        if answer is None:
            raise KeyboardInterrupt
        return answer

    def pause(seconds: float) -> None:
        nonlocal waited
        waited += seconds

    stacks.stay(STACK, probe, pause)
    return probes, waited


@pytest.mark.parametrize("failures", [1, 2, 3, 4])
def test_a_probe_or_a_few_without_an_answer_end_nothing(failures: int) -> None:
    answers = [True, *[False] * failures, True, *[False] * failures, True]
    assert stays(answers) == (len(answers) + 1, 2.0 * (len(answers) + 1))


def test_five_in_a_row_do_and_the_log_is_named() -> None:
    with pytest.raises(emulator.EmulatorError, match=r"The emulator is gone\. Its log is .*\.log"):
        stays([True, *[False] * 5])


def test_an_emulator_that_is_stopped_for_7_seconds_survives() -> None:
    """A probe waits 5 seconds for its answer, and then there are 2 to the next one."""
    now = 0.0
    stopped = range(1, 8)

    def probe(_: str) -> bool:
        nonlocal now
        if now > 60:
            raise KeyboardInterrupt
        if int(now) in stopped:
            now += 5
            return int(now) not in stopped
        return True

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    stacks.stay(STACK, probe, pause)
    assert now > 60


@contextmanager
def answering(statuses: list[int | None]) -> Iterator[str]:
    """A server that answers so, one request after the other; nothing at all for None."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses.pop(0)
            if status is not None:
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_an_emulator_may_have_no_answer_as_often_as_it_is_given_tries() -> None:
    answers = [None, 500, None, 200]
    with answering(answers) as url:
        assert not emulator.is_healthy(url, tries=3)
        assert emulator.is_healthy(url, tries=3)
    assert answers == []
    # Where nobody listens no second try is made: `make token` says so at once.
    assert not emulator.is_healthy(url, tries=10**9)


# --- One of it ------------------------------------------------------------------------------------

ADDRESS = "http://127.0.0.1:51234"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "made" / "local.json"
    monkeypatch.setattr(stacks, "STATE_FILE", file)
    return file


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    return ended.pid


@pytest.mark.usefixtures("state")
def test_a_second_stack_is_refused_with_the_first_ones_process_and_address_and_what_to_do() -> None:
    with (
        stacks.alone(ADDRESS),
        pytest.raises(stacks.AlreadyRunningError) as refused,
        stacks.alone("http://127.0.0.1:2"),
    ):
        pytest.fail("there are two")
    said = str(refused.value)
    assert f"process {os.getpid()}, whose console is {ADDRESS}" in said
    assert f"kill {os.getpid()}" in said
    assert "CREDITS_STATE_FILE=build/second.json make up" in said
    with stacks.alone(ADDRESS):
        """The first has ended: nothing is in the way."""


@pytest.mark.parametrize("left", ["", "{", "null", "[]", '[1, "x", 2]', '["x", "y"]', "DEAD"])
def test_what_a_stack_left_that_was_killed_is_in_nobodys_way(state: Path, left: str) -> None:
    state.parent.mkdir()
    lock = state.with_suffix(".lock")
    lock.write_text(json.dumps([dead_process(), "http://127.0.0.1:1"]) if left == "DEAD" else left)
    with stacks.alone(ADDRESS):
        assert json.loads(lock.read_text()) == [os.getpid(), ADDRESS]


HOLDER = """
import fcntl, sys
lock = open(sys.argv[1], "a+")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("left", ["", "DEAD"])
def test_a_holder_that_has_not_said_its_name_yet_is_waited_for_and_then_said_to_be_starting(
    state: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.parent.mkdir()
    lock = state.with_suffix(".lock")
    lock.write_text(json.dumps([dead_process(), "http://127.0.0.1:1"]) if left == "DEAD" else left)
    waits: list[float] = []
    monkeypatch.setattr("infra.local.stacks.time.sleep", waits.append)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with (
            pytest.raises(stacks.NotRunningError, match=r"starting or ending\. Try again"),
            stacks.alone(ADDRESS),
        ):
            pytest.fail("there are two")
        holder.communicate(b"\n")
    assert waits == [0.01] * 100
    with stacks.alone(ADDRESS):
        """It has ended."""


@pytest.mark.usefixtures("state")
def test_of_many_that_start_at_once_one_does_and_the_others_name_it() -> None:
    together = threading.Barrier(8)
    over = threading.Barrier(8)

    def start(number: int) -> str | None:
        together.wait()
        try:
            with stacks.alone(f"http://127.0.0.1:{number}"):
                over.wait()
        except stacks.AlreadyRunningError as refused:
            over.wait()
            return str(refused)
        return None

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(start, range(8)))
    (started,) = [number for number, text in enumerate(said) if text is None]
    for text in said:
        assert text is None or f"whose console is http://127.0.0.1:{started}." in text


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize("main", [up.main, run.main])
def test_neither_command_starts_anything_beside_a_running_stack(
    main: Callable[[list[str]], int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(terminal, "end_on_sigterm", lambda: None)
    monkeypatch.setattr(emulator, "emulator", lambda *_: pytest.fail("an emulator was started"))
    monkeypatch.setenv("COLUMNS", "1000")
    with stacks.alone(ADDRESS):
        assert main([]) == 1
    said = capsys.readouterr()
    assert f"error: A local stack is running already: process {os.getpid()}" in said.out + said.err


def test_an_emulator_whose_port_was_taken_is_ended_before_another_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    names = iter("abcdefgh")

    def start(*_: object) -> tuple[str, str]:
        name = next(names)
        events.append(f"{name} starts")
        return name, f"http://{name}"

    def wait(name: str, *_: object) -> None:
        if name in taken:
            raise emulator._PortTaken("in use")

    monkeypatch.setattr(emulator, "WORKSPACE", tmp_path)
    monkeypatch.setattr(emulator, "LOG_FILE", tmp_path / "emulator.log")
    monkeypatch.setattr(emulator, "_start", start)
    monkeypatch.setattr(emulator, "_wait_until_healthy", wait)
    monkeypatch.setattr(emulator, "_stop", lambda name: events.append(f"{name} ends"))
    taken = "a"
    with emulator.emulator() as started:
        assert started.url == "http://b"
        assert events == ["a starts", "a ends", "b starts"]
    assert events[3:] == ["b ends"]
    taken, events[:] = "abcdefgh", []
    with pytest.raises(emulator.EmulatorError, match="in use"), emulator.emulator():
        raise AssertionError("it is not there")
    tried = "cdefgh"[: emulator._ATTEMPTS]
    assert events == [f"{name} {what}" for name in tried for what in ("starts", "ends")]
    assert [*tmp_path.iterdir()] == []


# --- What listens beside the emulator -------------------------------------------------------------


@contextmanager
def console() -> Iterator[str]:
    with server.console() as page:
        yield page.url


@pytest.mark.parametrize("serve", [tokens.issuer, console])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS", "WHATEVER"])
@pytest.mark.parametrize(
    "said",
    [
        {"Host": "evil.example.com"},
        {"Origin": "https://evil.example.com"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_no_page_of_anybody_else_is_answered_whatever_it_asks(
    serve: Callable[[], Any], method: str, said: dict[str, str]
) -> None:
    with serve() as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        json_type = {"Content-Type": "application/json"}
        connection.request(method, "/token", b'{"sub": "ops"}', json_type | said)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
    assert answer.status == 403
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Connection"] == "close"
    assert method == "HEAD" or text.startswith(f"This is {url} of a local stack of Credits.")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("serve", [tokens.issuer, console])
def test_after_a_refusal_nothing_follows_on_its_connection(serve: Callable[[], Any]) -> None:
    """No body where none may be, and no answer to what came with the request that was refused."""
    with serve() as url, socket.create_connection(("127.0.0.1", urlsplit(url).port or 0)) as line:
        own = f"GET /jwks.json HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\n\r\n"
        line.sendall(f"HEAD / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n{own}".encode())
        with line.makefile("rb") as answered:
            text = answered.read().decode()
    assert text.partition(" ")[2].startswith("403 ")
    assert text.endswith("\r\nConnection: close\r\n\r\n")
