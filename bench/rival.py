"""Starts Celery, Redis and PostgreSQL, gives them the month's allocation, and counts their CPU.

All three are Debian's or PyPI's, with their usual settings: PostgreSQL makes every commit durable
(`fsync`, `synchronous_commit`), Redis is a broker without persistence, two workers prefork.
They listen on loopback, in a temporary directory, and end with the block.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent / "celery"
BUILD = HERE.parent.parent / "build"
TICKS = os.sysconf("SC_CLK_TCK")
DEADLINE_SECONDS = 300


class Missing(Exception):
    """Something that the rival needs is not installed; the message says what to do."""


def environment() -> Path:
    """The Python of the rival's own virtual environment; makes it if needed."""
    requirements = HERE / "requirements.txt"
    directory = BUILD / f"celery-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]}"
    python = directory / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True)
        subprocess.run(
            [
                *(str(python), "-m", "pip", "install", "-q", "--only-binary", ":all:"),
                *("--require-hashes", "-r", str(requirements)),
            ],
            check=True,
            stderr=subprocess.DEVNULL,
        )
    return python


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found or not shutil.which("redis-server"):
        raise Missing("Celery's servers are missing: apt install postgresql redis-server")
    return found[-1].parent


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def cpu_seconds(process_id: int) -> float:
    """The CPU of a process and all of its descendants, including ended ones."""
    children: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.name))
        # user and system, and the same for children that have ended
        ticks[int(entry.name)] = sum(map(int, fields[11:15]))
    total, waiting = 0, [process_id]
    while waiting:
        process = waiting.pop()
        total += ticks.get(process, 0)
        waiting += children.get(process, [])
    return total / TICKS


@dataclass
class Rival:
    """The running servers."""

    python: Path
    environment: dict[str, str]
    processes: dict[str, int]

    def control(self, *words: str) -> str:
        """One command of `rival.control`."""
        run = subprocess.run(
            [str(self.python), "-m", "rival.control", *words],
            cwd=HERE,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise RuntimeError(run.stderr)
        return run.stdout

    def cpu(self) -> dict[str, float]:
        """CPU seconds of the workers, PostgreSQL and Redis so far."""
        return {name: cpu_seconds(process) for name, process in self.processes.items()}

    def measure(self, how: str, users: int, plan: str = "pro") -> dict[str, float]:
        """Allocates to that many users; microseconds of CPU for each, in total and by process."""
        self.control("seed", str(users), plan)
        time.sleep(1)
        before = self.cpu()
        began = time.perf_counter()
        self.control("run", how)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            self._wait_until_idle(deadline)
            seconds = time.perf_counter() - began
            after = self.cpu()
            # Checking the result is the bench's own work, so it comes after the figures were taken.
            # On a busy machine, idle processes may only be waiting.
            if self.control("done").split() == [str(users), str(users)]:
                break
            if time.monotonic() > deadline:
                raise RuntimeError("the rival has not allocated once to everybody")
        parts = {
            name: round((after[name] - before[name]) / users * 1e6, 1) for name in self.processes
        }
        return {"cpu_us": round(sum(parts.values()), 1), "seconds": round(seconds, 2), **parts}

    def _wait_until_idle(self, deadline: float) -> None:
        """Waits until nothing has used any CPU for half a second."""
        quiet, last = 0, -1.0
        while quiet < 5:
            time.sleep(0.1)
            now = sum(self.cpu().values())
            quiet = quiet + 1 if now - last <= 0.011 else 0
            last = now
            if time.monotonic() > deadline:
                raise RuntimeError("the rival did not end in time")


@contextmanager
def running() -> Iterator[Rival]:
    """The rival with empty tables. Raises `Missing`."""
    programs = _postgres_programs()
    python = environment()
    with tempfile.TemporaryDirectory(prefix="credits-rival-") as name:
        directory = Path(name)
        # PostgreSQL refuses to run as root, so it runs as the user of its package.
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        as_user = as_user if os.getuid() == 0 else []
        data = directory / "postgres"
        data.mkdir()
        if as_user:
            user = pwd.getpwnam("postgres")
            os.chown(directory, user.pw_uid, user.pw_gid)
            os.chown(data, user.pw_uid, user.pw_gid)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": name}
        subprocess.run(
            [*as_user, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"],
            check=True,
            **quiet,  # type: ignore[call-overload]
        )
        ports = _free_port(), _free_port()
        variables = os.environ | {
            "RIVAL_POSTGRES_PORT": str(ports[0]),
            "RIVAL_REDIS": f"redis://127.0.0.1:{ports[1]}/0",
            "PYTHONPATH": str(HERE),
            "DJANGO_SETTINGS_MODULE": "rival.settings",
        }
        commands = {
            "postgres": [
                *(*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(ports[0])),
                *("-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={name}"),
            ],
            "redis": [
                *("redis-server", "--bind", "127.0.0.1", "--port", str(ports[1])),
                *("--save", "", "--dir", name),
            ],
            "worker": [
                *(str(python), "-m", "celery", "-A", "rival.tasks", "worker", "-c", "2"),
                *("-O", "fair", "--without-gossip", "--without-mingle", "-l", "WARNING"),
            ],
        }
        started: dict[str, subprocess.Popen[bytes]] = {}
        rival = Rival(python, variables, {})
        try:
            for program, command in commands.items():
                if program == "worker":
                    _until(lambda: rival.control("tables"))
                    quiet["cwd"] = str(HERE)
                with (directory / f"{program}.log").open("wb") as log:
                    started[program] = subprocess.Popen(
                        command,
                        env=variables,
                        **quiet | {"stdout": log, "stderr": log},  # type: ignore[call-overload]
                    )
                rival.processes[program] = started[program].pid
            rival.measure("user", 200)  # warm
            rival.measure("bulk", 200)
            yield rival
        finally:
            for process in reversed(started.values()):
                process.terminate()
            for process in started.values():
                process.wait(timeout=30)


def _until(attempt: object) -> None:
    for _ in range(60):
        try:
            attempt()  # type: ignore[operator]
        except RuntimeError as error:
            last = error
            time.sleep(0.5)
        else:
            return
    raise last


if __name__ == "__main__":
    with running() as rival:
        for how in sys.argv[2:] or ("user", "hundred", "bulk"):
            print(how, rival.measure(how, int(sys.argv[1])), flush=True)
