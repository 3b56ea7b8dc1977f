"""The local stack's process: when it ends, and that there is one of it; without an emulator."""

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

import infra.local
from chalicelib.settings import Settings
from infra import terminal
from infra.commands import run, up
from infra.deployment import packaging
from infra.deployment.deployed import Deployment
from infra.local import emulator, services, stacks, tokens
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


def test_an_emulator_has_five_seconds_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def silent(url: str, timeout: float) -> None:
        asked.append((url, timeout))
        raise TimeoutError

    monkeypatch.setattr("urllib.request.urlopen", silent)
    assert not emulator.is_healthy("http://a", tries=2)
    assert asked == [("http://a/_ministack/health", 5)] * 2


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


@pytest.mark.parametrize("error", [emulator.EmulatorError("ended"), KeyboardInterrupt()])
def test_an_emulator_that_does_not_come_up_is_ended_and_only_its_log_is_kept(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[object] = []

    def start(temporary: Path, log: Path, clock: Path, pages: object) -> tuple[str, str]:
        assert (log.parent, clock.parent, clock.read_text()) == (temporary, temporary, "0")
        log.write_text("so it said")
        events.append(pages)
        return "a", "http://a"

    def wait(*_: object) -> None:
        raise error

    monkeypatch.setattr(emulator, "WORKSPACE", tmp_path / "build")
    monkeypatch.setattr(emulator, "LOG_FILE", tmp_path / "build" / "emulator.log")
    monkeypatch.setattr(emulator, "_start", start)
    monkeypatch.setattr(emulator, "_wait_until_healthy", wait)
    monkeypatch.setattr(emulator, "_stop", events.append)
    with pytest.raises(type(error)), emulator.emulator(["http://localhost:1"]):
        pytest.fail("it is not there")
    assert events == [["http://localhost:1"], "a"]
    (kept,) = (tmp_path / "build").iterdir()
    assert (kept.name, kept.read_text()) == ("emulator.log", "so it said")


def test_an_emulator_knows_nothing_of_the_callers_accounts_and_listens_on_loopback_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"PATH": "/bin", "HOME": "/home/zoë"}
    foreign = ("AWS_PROFILE", "AWS_DEFAULT_REGION", "PYTHONPATH", "MINISTACK_X", "CLOCK_FILE")
    monkeypatch.setattr(os, "environ", kept | dict.fromkeys(foreign, "the callers"))
    asked: list[Any] = []

    def popen(words: list[str], **how: Any) -> str:
        asked.append((words, how))
        how["stdout"].write(b"it said")
        return "process"

    monkeypatch.setattr(subprocess, "Popen", popen)
    log = tmp_path / "log"
    log.write_text("of a try before: the port is in use")
    pages = ["http://localhost:1", "http://localhost:2"]
    process, url = emulator._start(tmp_path, log, tmp_path / "clock", pages)
    ((words, how),) = asked
    port = urlsplit(url).port
    assert cast("Any", process) == "process"
    assert (url, log.read_bytes()) == (f"http://127.0.0.1:{port}", b"it said")
    assert words == [sys.executable, str(Path(emulator.__file__).resolve())]
    assert how.pop("env") == kept | {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "ALLOWED_PAGES": "http://localhost:1,http://localhost:2",
        "AUTH": "true",
        "MINISTACK_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "LAMBDA_EXECUTOR": "local",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{tmp_path}/no-docker.sock",
        "TMPDIR": str(tmp_path),
        "CLOCK_FILE": str(tmp_path / "clock"),
        "PYTHONUNBUFFERED": "1",
    }
    assert how.pop("stdout").closed
    assert how == {
        "cwd": tmp_path,
        "stdin": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "start_new_session": True,
    }


@pytest.mark.parametrize(
    ("ended", "answers", "last", "kind", "said"),
    [
        (None, [False, True], "", None, ""),
        (3, [], "boom", emulator.EmulatorError, "ended with status 3:\n"),
        (1, [], "address in use", emulator._PortTaken, "ended with status 1:\n"),
        (None, [], "slow", emulator.EmulatorError, "did not answer within 60 s. It said:\n"),
    ],
)
def test_an_emulator_is_waited_for_and_its_last_lines_are_shown_if_in_vain(
    ended: int | None,
    answers: list[bool],
    last: str,
    kind: type[Exception] | None,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = tmp_path / "log"
    lines = [*(f"line {number}" for number in range(1, 20)), f"\udce4 {last}"]
    log.write_text("\n".join(lines), errors="surrogateescape")
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    time = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr(emulator, "time", time)
    coming = iter(answers)
    monkeypatch.setattr(
        emulator, "is_healthy", lambda url: url == "http://a" and next(coming, False)
    )
    process: Any = SimpleNamespace(poll=lambda: ended, returncode=ended)
    if kind is None:
        emulator._wait_until_healthy(process, "http://a", log)
        assert now == [0.05]
        return
    with pytest.raises(emulator.EmulatorError) as failed:
        emulator._wait_until_healthy(process, "http://a", log)
    assert type(failed.value) is kind
    shown = [f"  line {number}" for number in range(6, 20)] + [f"  \ufffd {last}"]
    assert str(failed.value) == f"The emulator {said}" + "\n".join(shown)


def test_an_emulator_ends_with_the_functions_that_it_started_and_may_have_ended() -> None:
    # A function that hangs: it does not notice that its input has closed.
    hangs = "import time; time.sleep(9)"
    starter = f"import subprocess, sys; child = [sys.executable, '-c', {hangs!r}]; "
    starter += "print(subprocess.Popen(child, stdin=subprocess.PIPE).pid, flush=True); "
    starter += "sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", starter],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        emulator._stop(process)
        assert process.returncode == -signal.SIGKILL
        assert process.stdin is not None
        assert process.stdin.closed
        # Both ends of the pipe have closed, so the function is gone, too.
        assert select.select([process.stdout], [], [], 30)[0]
        assert process.stdout.read() == b""
    with subprocess.Popen([sys.executable, "-c", ""], start_new_session=True) as ended:
        ended.wait()
        emulator._stop(ended)


def test_the_emulators_process_is_made_strict_and_guarded_before_it_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[Any] = []
    ministack = SimpleNamespace(app="bare")
    setattr(ministack, "main", lambda: events.append((ministack.app, sys.argv, sys.path[:2])))  # noqa: B010
    monkeypatch.setitem(sys.modules, "ministack.app", ministack)
    monkeypatch.setattr("ministack.app", ministack, raising=False)
    monkeypatch.setattr(sys, "argv", ["emulator.py", "--port", "1"])
    monkeypatch.setattr(sys, "path", ["installed"])
    pages = ["http://localhost:1", "http://localhost:2"]
    monkeypatch.setenv("GATEWAY_PORT", "4566")
    monkeypatch.setenv("ALLOWED_PAGES", ",".join(pages))
    strict = [f"emulated_{name}" for name in ("deployments", "rights", "services", "statements")]
    for name in strict:
        module = SimpleNamespace(
            make_strict=lambda name=name: events.append(name), as_over_tls=lambda app: ("tls", app)
        )
        monkeypatch.setattr(infra.local, name, module, raising=False)
    monkeypatch.setattr("infra.local.guard.guarded", lambda *asked: ("guarded", *asked))
    monkeypatch.setattr("infra.local.unpacking.unpack_once", lambda: events.append("unpacking"))
    threads = SimpleNamespace(
        Thread=lambda **how: SimpleNamespace(start=lambda: events.append(how))
    )
    monkeypatch.setattr(emulator, "threading", threads)
    emulator._main()
    watch, *made, served = events
    assert watch == {
        "target": emulator._die_with_starter,
        "daemon": True,
        "name": "die-with-starter",
    }
    assert sorted(made) == [*strict, "unpacking"]
    app = ("guarded", ("tls", "bare"), 4566, pages)
    # The checkout comes first: another package there may be called infra, too.
    assert served == (app, ["emulator.py"], [str(emulator.WORKSPACE.parent), "installed"])


def test_when_its_starter_is_gone_the_emulator_cleans_up_and_ends_with_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    (files / "code").mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(files))
    heard = iter([b"x", b"x", b""])
    monkeypatch.setattr(os, "read", lambda _number, _most: next(heard))
    killed: list[Any] = []
    monkeypatch.setattr(os, "killpg", lambda *asked: killed.append((*asked, files.exists())))
    emulator._die_with_starter()
    assert killed == [(0, signal.SIGKILL, False)]
    assert next(heard, None) is None, "it ended before its starter did"


# --- A stack, and who finds it --------------------------------------------------------------------

DEPLOYED = Deployment(
    stack="credits-local",
    stage="local",
    changed=True,
    api_id="abc",
    api_url="http://elsewhere",
    functions={"tick": "credits-local-tick"},
    tables={"ledger": "credits-local-ledger"},
    queues={"sweeps": "http://sweeps"},
    buckets={"reports": "credits-local-reports"},
    outputs={},
)


class Making:
    """In place of all that a stack is made of: what was asked, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
        self.events: list[Any] = []
        self.asked: dict[str, Any] = {}
        self.disabled: list[str] = []

        @contextmanager
        def issuer() -> Iterator[str]:
            self.events.append("issuer")
            yield "http://issuer"
            self.events.append("no issuer")

        @contextmanager
        def emulated(pages: list[str]) -> Iterator[emulator.Emulator]:
            self.events.append(("emulator", pages))
            yield emulator.Emulator("http://emulator", Path("/tmp/the-clock"))  # noqa: S108
            assert not state.exists(), "it is found, and does not answer"
            self.events.append("no emulator")

        def deploy(stage: str, client: Callable[[str], Any], **asked: Any) -> Deployment:
            assert (stage, client("iam").service) == ("local", "iam")
            self.asked = asked
            asked["say"]("deployed")
            return DEPLOYED

        def client(url: str, service: str, **_: Any) -> Any:
            assert url == "http://emulator"
            return SimpleNamespace(
                service=service, list_rules=self._rules, disable_rule=self._disable
            )

        def respond(gateway: Any, *asked: Any, says_why: bool) -> None:
            self.events.append((gateway.service, *asked, says_why))

        monkeypatch.setattr(tokens, "issuer", issuer)
        monkeypatch.setattr(tokens, "lead_back_to", lambda *asked: self.events.append(asked))
        monkeypatch.setattr(emulator, "emulator", emulated)
        monkeypatch.setattr(stacks, "client_of", client)
        monkeypatch.setattr("infra.deployment.deploy.deploy", deploy)
        monkeypatch.setattr("infra.deployment.gateway.put_gateway_responses", respond)

    def _rules(self, NamePrefix: str) -> Any:  # noqa: N803
        rules = ("credits-local-expiry", "credits-local-allocation", "credits-dev-expiry")
        return {"Rules": [{"Name": name} for name in rules if name.startswith(NamePrefix)]}

    def _disable(self, Name: str) -> None:  # noqa: N803
        self.disabled.append(Name)


@pytest.fixture
def making(monkeypatch: pytest.MonkeyPatch, state: Path) -> Making:
    return Making(monkeypatch, state)


def test_a_stack_is_made_of_what_was_deployed_and_is_found_as_long_as_it_is_there(
    making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    make: Any = object()
    origins = ["http://127.0.0.1:7", "http://localhost:7"]
    pages = [
        "http://localhost:3000",
        "http://localhost:5173",
        "http://localhost:8080",
        *origins,
    ]
    probes: list[object] = []

    def is_healthy(url: str, tries: int) -> bool:
        probes.append((url, tries))
        return len(probes) < 2

    monkeypatch.setattr(emulator, "is_healthy", is_healthy)
    with stacks.local_stack(
        say=said.append, publish_at=ADDRESS, origins=origins, make_package=make
    ) as stack:
        api = "http://emulator/_aws/execute-api/abc/v1"
        assert making.events == [
            "issuer",
            ("emulator", pages),
            ("apigateway", "abc", "v1", True),
            ("http://issuer", [f"{api}/console"]),
        ]
        assert stack == stacks.LocalStack(
            endpoint_url="http://emulator",
            api_url=api,
            stack="credits-local",
            stage="local",
            functions=DEPLOYED.functions,
            tables=DEPLOYED.tables,
            queues=DEPLOYED.queues,
            buckets=DEPLOYED.buckets,
            mail_url="http://emulator/_ministack/ses/messages",
            issuer="http://issuer",
            clock_file="/tmp/the-clock",  # noqa: S108
        )
        assert stacks.running_stack() == stack
        assert json.loads(stack.to_json()) == asdict(stack)
        with pytest.raises(stacks.NotRunningError, match="in another terminal: make up"):
            stacks.running_stack()
        assert probes == [("http://emulator", 3)] * 2
        with pytest.raises(stacks.AlreadyRunningError), stacks.local_stack(publish_at=ADDRESS):
            pytest.fail("there are two")
    assert making.events[4:] == ["no emulator", "no issuer"], "the second one started nothing"
    assert not stacks.STATE_FILE.exists()
    assert said == ["Starting the emulator ...", "deployed"]
    assert making.disabled == []
    assert making.asked.pop("make_package") is make
    assert making.asked.pop("region") == "us-east-1"
    assert making.asked["parameters"] == {
        "TokenIssuer": "http://issuer",
        "TokenAudience": "credits",
        "AllowedOrigins": ",".join(pages),
        "ConsoleClientId": "console",
        "ConsoleScope": "openid credits:admin",
        "MailDomain": "local.example.com",
        "ProductName": "Lighthouse",
        "ProductUrl": "https://app.example.com/credits",
        "ProductAddress": "Harbour Street 1, 20457 Hamburg, Germany",
        "ProductSupport": "help@example.com",
        "MailsASecond": "0",
        "Events": "on",
        "LowBalance": "20",
    }


def test_a_stack_of_a_test_is_found_by_nobody_and_ticks_only_when_told(
    state: Path, making: Making
) -> None:
    with stacks.local_stack(schedules=False, is_shadow=True):
        assert not state.exists()
        assert making.disabled == ["credits-local-expiry", "credits-local-allocation"]
        assert making.asked["parameters"]["Shadow"] == "on"
    with stacks.local_stack(publish_at=ADDRESS):
        state.unlink()  # somebody tidied up
    with pytest.raises(ZeroDivisionError), stacks.local_stack(publish_at=ADDRESS):
        assert 1 / 0
    assert not state.exists()
    assert stacks.parameters("http://i", "dev")["MailDomain"] == "dev.example.com"


@pytest.mark.parametrize("mistaken", ["catalogue", "price_list"])
def test_a_mistake_in_plans_or_prices_is_told_before_anything_starts(
    mistaken: str, making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise packaging.PackagingError("line 3")

    monkeypatch.setattr(packaging, mistaken, refuse)
    with pytest.raises(packaging.PackagingError, match="line 3"), stacks.local_stack():
        pytest.fail("it started")
    assert making.events == []


@pytest.mark.parametrize("left", [None, "", "{", "[]", "null", "{}", '{"endpoint_url": "x"}'])
def test_what_is_no_running_stack_is_told_how_to_start_one(state: Path, left: str | None) -> None:
    state.parent.mkdir()
    if left is not None:
        state.write_text(left)
    with pytest.raises(stacks.NotRunningError, match=r"No local stack is running\. Start one"):
        stacks.running_stack()


def test_a_client_of_the_emulator_has_its_keys_and_as_many_connections_as_we_have_threads() -> None:
    root = stacks.client_of(ADDRESS, "sqs")
    role = stacks.client_of(
        ADDRESS, "sqs", ("id", "secret", "session"), max_pool_connections=3, read_timeout=9
    )
    found = []
    for client in (root, role):
        keys = client._request_signer._credentials.get_frozen_credentials()
        config = client.meta.config
        found.append((keys[:3], config.max_pool_connections, config.read_timeout))
        assert (client.meta.endpoint_url, client.meta.region_name) == (ADDRESS, "us-east-1")
    assert found == [(("test", "test", None), 64, 60), (("id", "secret", "session"), 3, 9)]


def test_a_token_of_a_stack_is_of_its_issuer_with_these_scopes_and_claims(
    making: Making, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "issue", lambda *asked, **named: (asked, named))
    with stacks.local_stack() as stack:
        usual: Any = stack.token("ada")
        other: Any = stack.token("ada", "credits:admin", org="x")
    assert usual == (("http://issuer", "ada", "credits:read credits:use"), {"claims": {}})
    assert other == (("http://issuer", "ada", "credits:admin"), {"claims": {"org": "x"}})
    assert making.events[-1] == "no issuer"


def test_services_of_a_stack_are_by_its_clock_its_root_user_and_its_queues(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connected: list[Any] = []
    monkeypatch.setattr(
        services, "connect", lambda *asked, **named: connected.append((asked, named))
    )
    outputs = {name: name for name in ("anchors", "exports", "reports")}
    stack: Any = SimpleNamespace(
        **{**vars(DEPLOYED), "buckets": outputs},
        endpoint_url=ADDRESS,
        clock_file=str(tmp_path / "clock"),
        client=lambda service: f"client of {service}",
    )
    monkeypatch.setattr(
        services,
        "settings_of",
        lambda *asked: Settings.read({"AWS_REGION": asked[1], "STAGE": asked[0]}),
    )
    made = services.services_of_local(stack, 5)
    assert made.settings.clock_file == stack.clock_file
    keys = {"endpoint_url": ADDRESS, "access_key": "test", "secret_key": "test"}
    assert connected == [(("us-east-1", 5), keys)]
    assert services.queues_of_local(stack)._client == "client of sqs"


# --- What listens beside the emulator -------------------------------------------------------------


@contextmanager
def console() -> Iterator[str]:
    with server.console() as page:
        yield page.url


@pytest.fixture(scope="module", params=[tokens.issuer, console])
def listening(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of something that listens; an issuer makes a key first, so there is one of it."""
    with request.param() as url:
        yield url


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
    listening: str, method: str, said: dict[str, str]
) -> None:
    connection = http.client.HTTPConnection(urlsplit(listening).netloc, timeout=30)
    json_type = {"Content-Type": "application/json"}
    connection.request(method, "/token", b'{"sub": "ops"}', json_type | said)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 403
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Connection"] == "close"
    assert method == "HEAD" or text.startswith(f"This is {listening} of a local stack of Credits.")
    assert "access-control-allow-origin" not in answer.headers


def test_after_a_refusal_nothing_follows_on_its_connection(listening: str) -> None:
    """No body where none may be, and no answer to what came with the request that was refused."""
    address = urlsplit(listening)
    with socket.create_connection(("127.0.0.1", address.port or 0)) as line:
        own = f"GET /jwks.json HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n"
        line.sendall(f"HEAD / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n{own}".encode())
        with line.makefile("rb") as answered:
            text = answered.read().decode()
    assert text.partition(" ")[2].startswith("403 ")
    assert text.endswith("\r\nConnection: close\r\n\r\n")


def test_what_listens_is_reached_by_loopbacks_own_address_alone(listening: str) -> None:
    """Were it bound to every address, it would answer at this one, and other machines, too."""
    other = ("127.0.0.2", urlsplit(listening).port or 0)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(other, timeout=10):
        pytest.fail("it answers there")


def test_no_listener_waits_for_ever_for_the_rest_of_a_request() -> None:
    assert (tokens._Handler.timeout, server._Handler.timeout) == (10, 30)
