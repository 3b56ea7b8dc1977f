"""Runs the emulator of AWS for everything local: ministack, on loopback only.

Run as a program, this file *is* the emulator. Its standard input is a pipe from the process that
started it. When the pipe closes, it ends with its whole process group (the emulated Lambda
functions are its children). The pipe closes however the starter dies, even by `kill -9`, so no
process is ever left behind.
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

# The log of the emulator that ended last.
LOG_FILE = WORKSPACE / "emulator.log"

# To ministack this is the account's root user. Functions never see these keys: with AUTH=true each
# runs in a session of its own role, and ministack enforces the role's policies.
ACCESS_KEY = "test"
SECRET_KEY = "test"  # noqa: S105 - not a secret: the emulator's well-known key

# How long the emulator may take to start, in seconds. On an idle machine it takes less than one.
START_DEADLINE = 60.0
_ATTEMPTS = 3
_LOG_LINES_SHOWN = 15


class EmulatorError(Exception):
    """The emulator did not start; the message ends with the end of its log."""


class _PortTaken(EmulatorError):
    """Another process took the port after we chose it and before we used it."""


class Emulator(NamedTuple):
    """A running emulator: its address, e.g. `http://127.0.0.1:51234`, and its clock.

    The clock is a file with the number of seconds that the functions are ahead of this machine.
    """

    url: str
    clock_file: Path


@contextmanager
def emulator(pages: Collection[str] = ()) -> Iterator[Emulator]:
    """Run an empty emulator.

    ``pages`` are the origins of web pages that may call the APIs in it; all others are refused
    (`infra/local/guard.py`). All its files are in a directory of its own, which is removed at the
    end; only the log is kept, as `LOG_FILE`. Raises `EmulatorError`.
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
    """Whether an emulator answers at `url`; it may be too slow `tries` times."""
    for _ in range(tries):
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5):  # noqa: S310 - ours
                return True
        except OSError as error:  # the base class of URLError, ConnectionError and TimeoutError
            if isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                return False  # nothing listens there, so it is not just slow
    return False


def _start(
    temporary: Path, log: Path, clock_file: Path, pages: Collection[str]
) -> tuple[subprocess.Popen[bytes], str]:
    port = _free_port()
    # The caller's AWS settings name real accounts. They must not leak into the emulator, or from it
    # into the functions. PYTHONPATH would let the functions import modules that are not in the
    # archive.
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
        # No other listeners, and no use of the user's Docker.
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
            # Its own group: Ctrl-C only reaches the starter, which then ends the whole group.
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
    """End the emulator and its functions at once: nothing in it needs to be saved."""
    # If it has ended by itself, so have its children: they end when their input closes.
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
    # Not at the top of the file: only the emulator's own process needs this slow import.
    from ministack import app as ministack

    # This program runs without the checkout on its path.
    sys.path.insert(0, str(WORKSPACE.parent))
    from infra.local import (
        emulated_deployments,
        emulated_rights,
        emulated_services,
        emulated_statements,
        guard,
        unpacking,
    )

    ministack.app = guard.guarded(
        emulated_services.as_over_tls(ministack.app),
        int(os.environ["GATEWAY_PORT"]),
        os.environ["ALLOWED_PAGES"].split(","),
    )
    emulated_rights.make_strict()
    emulated_deployments.make_strict()
    emulated_statements.make_strict()
    emulated_services.make_strict()
    unpacking.unpack_once()
    # ministack reads the command line; ours has nothing for it.
    sys.argv[1:] = []
    ministack.main()


if __name__ == "__main__":
    _main()
