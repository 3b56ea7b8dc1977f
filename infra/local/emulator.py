"""The emulator of AWS that everything local runs on: ministack, on loopback only.

Run as a program, this file *is* the emulator: it watches its standard input, which is a pipe from
the process that started it, and takes its whole process group (the emulated Lambda functions are
its children) down with it when that pipe closes. The pipe closes however the starter dies, so
nothing is ever left behind, not even by `kill -9`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

REGION = "us-east-1"

WORKSPACE = Path(__file__).resolve().parents[2] / "build"

# Where the log of the emulator that ended last is kept.
LOG_FILE = WORKSPACE / "emulator.log"

# ministack takes these for the account's root user. Functions never see them: with AUTH=true each
# runs under a session of its own role, and the role's policies are enforced.
ACCESS_KEY = "test"
SECRET_KEY = "test"  # noqa: S105 - not a secret: the emulator's well-known key

# How long the emulator may take to start, in seconds. It takes less than one on an idle machine.
START_DEADLINE = 60.0
_ATTEMPTS = 3
_LOG_LINES_SHOWN = 15


class EmulatorError(Exception):
    """The emulator did not start; the message ends with what it said last."""


class _PortTaken(EmulatorError):
    """Another process took the port between our choosing and our using it."""


class Emulator(NamedTuple):
    """A running emulator: its address, e.g. `http://127.0.0.1:51234`, and its clock.

    The clock is a file that says how many seconds the functions are ahead of this machine.
    """

    url: str
    clock_file: Path


@contextmanager
def emulator(pages: Collection[str] = ()) -> Iterator[Emulator]:
    """Run an emulator with nothing in it.

    ``pages`` are the origins of web pages that may call the APIs in it; nobody else's may ask
    anything (`infra/local/guard.py`).
    All its files are in a directory of its own, which is removed at the end; only the log is kept,
    as `LOG_FILE`. Raises `EmulatorError`.
    """
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="emulator-", dir=WORKSPACE))
    log = temporary / LOG_FILE.name
    clock_file = temporary / "clock"
    clock_file.write_text("0")
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            process, url = _start(temporary, log, clock_file, pages)
            try:
                _wait_until_healthy(process, url, log)
            except _PortTaken:
                _stop(process)
                if attempt == _ATTEMPTS:
                    raise
                continue
            except BaseException:
                _stop(process)
                raise
            break
        try:
            yield Emulator(url, clock_file)
        finally:
            _stop(process)
    finally:
        with suppress(FileNotFoundError):
            log.replace(LOG_FILE)
        shutil.rmtree(temporary, ignore_errors=True)


def is_healthy(url: str, tries: int = 1) -> bool:
    """Whether an emulator answers at `url`; `tries` is how often it may be too slow to answer."""
    for _ in range(tries):
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5):  # noqa: S310 - ours
                return True
        except OSError as error:  # the parent of URLError, ConnectionError and TimeoutError
            if isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                return False  # nobody is there, who could be slow
    return False


def _start(
    temporary: Path, log: Path, clock_file: Path, pages: Collection[str]
) -> tuple[subprocess.Popen[bytes], str]:
    port = _free_port()
    # The caller's own AWS settings must not leak into the emulator, nor from it into the functions:
    # they name real accounts. PYTHONPATH would let the functions import what the archive does not
    # contain.
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("AWS_", "PYTHON", "MINISTACK_"))
    }
    environment |= {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "ALLOWED_PAGES": ",".join(pages),
        "AUTH": "true",
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
        # No other listeners, and hands off the user's Docker.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{temporary}/no-docker.sock",
        "TMPDIR": str(temporary),
        # Not for the emulator: the functions it runs inherit it.
        "CLOCK_FILE": str(clock_file),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            env=environment,
            cwd=temporary,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own group: Ctrl-C reaches the starter only, which then ends the group as a whole.
            start_new_session=True,
        )
    return process, f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_DEADLINE
    while time.monotonic() < end:
        if process.poll() is not None:
            said = _last_lines(log)
            kind = _PortTaken if "in use" in said else EmulatorError
            raise kind(f"The emulator ended with status {process.returncode}:\n{said}")
        if is_healthy(url):
            return
        time.sleep(0.05)
    raise EmulatorError(
        f"The emulator did not answer within {START_DEADLINE:.0f} s. It said:\n{_last_lines(log)}"
    )


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES_SHOWN:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the emulator and every function it runs, at once: nothing in it is worth saving."""
    # When it has ended by itself, so have its children: they end when their input does.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _die_with_starter() -> None:
    """Wait for the starter's end of the pipe to close, then clean up and end this process group."""
    while os.read(0, 4096):
        pass
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _main() -> None:
    threading.Thread(target=_die_with_starter, daemon=True, name="die-with-starter").start()
    # Not at the top of the file: only the emulator's own process needs (and waits for) this import.
    from ministack import app as ministack

    # This program runs without the checkout on its path.
    sys.path.insert(0, str(WORKSPACE.parent))
    from infra.local import emulated_deployments, emulated_services, emulated_statements, guard

    ministack.app = guard.guarded(
        emulated_services.as_over_tls(ministack.app),
        int(os.environ["GATEWAY_PORT"]),
        os.environ["ALLOWED_PAGES"].split(","),
    )
    emulated_deployments.make_strict()
    emulated_statements.make_strict()
    emulated_services.make_strict()
    # ministack reads the command line, of which this program's has nothing for it.
    sys.argv[1:] = []
    ministack.main()


if __name__ == "__main__":
    _main()
