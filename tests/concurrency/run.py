"""Starts the emulator and the processes, kills some of them at random, and has it all audited."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from chalicelib.services import Services
from infra import reach
from infra.local import emulator
from tests.simulation.world import SUBSCRIBED

from .audit import Findings, audit
from .plan import BEGIN, FIRST_AMOUNT, PLANS, ZONES, Plan, create_tables

ROOT = Path(__file__).parents[2]
JOURNALS = ROOT / "build" / "concurrency"
"""Where the journals of a run are kept in which something was wrong."""

SECONDS_TO_END = 120
"""How long after its time a process may take to end, and to do a number of operations at most."""

_SECONDS_BETWEEN_KILLS = (3.0, 9.0)
_LINES_BEFORE_A_KILL = 40
_REGISTERING = 16


class RunFailedError(Exception):
    """The run itself did not work: nothing is known of the product."""


Say = Callable[[str, float], None]
"""Is told what is going on, and how much of it is done, from 0 to 1."""


@dataclass
class Outcome:
    findings: Findings
    kills: int
    seconds: float


def run(plan: Plan, say: Say = lambda _what, _done: None) -> Outcome:
    with emulator.emulator() as running, tempfile.TemporaryDirectory(prefix="credits-") as folder:
        plan = plan.running(running.url, Path(folder))
        services = plan.services(_REGISTERING)
        create_tables(services)
        say("registering the users", 0.0)
        _register(plan, services)
        plan = replace(plan, began=time.time())
        kills = _supervise(plan, say)
        seconds = time.time() - plan.began
        audited = 0

        def advance() -> None:
            nonlocal audited
            audited += 1
            say(f"auditing {audited} ledgers", audited / len(plan.users))

        findings = audit(plan, plan.services(_REGISTERING), advance)
        if findings.wrong:
            shutil.rmtree(JOURNALS, ignore_errors=True)
            shutil.copytree(folder, JOURNALS)
    return Outcome(findings, kills, seconds)


def _register(plan: Plan, services: Services) -> None:
    def register_one(place: int, user_id: str) -> None:
        values = {
            **SUBSCRIBED,
            "user_id": user_id,
            "timezone": ZONES[place % len(ZONES)],
            "plan": PLANS[place % len(PLANS)],
            "allocation_amount": FIRST_AMOUNT,
        }
        day_before = BEGIN - timedelta(days=1)
        reach.enter(services, values, day_before)

    with ThreadPoolExecutor(_REGISTERING) as pool:
        list(pool.map(register_one, range(len(plan.users)), plan.users))


def _supervise(plan: Plan, say: Say) -> int:
    """Keeps the processes alive, but for those it kills; answers how many those were."""
    dice = random.Random(plan.seed)
    lives = [0] * plan.processes
    processes = [_start(plan, process, 0) for process in range(plan.processes)]
    kills = 0
    next_kill = time.time() + dice.uniform(*_SECONDS_BETWEEN_KILLS)
    end = plan.began + plan.seconds
    try:
        while any(process.poll() is None for process in processes):
            time.sleep(0.05)
            now = time.time()
            if now > end + SECONDS_TO_END:
                raise RunFailedError("the processes do not end")
            say(f"{kills} kills", min(1.0, (now - plan.began) / plan.seconds))
            for place, process in enumerate(processes):
                if process.returncode not in (None, 0):
                    raise RunFailedError(f"process {place} ended by itself: {process.returncode}")
            victim = dice.randrange(plan.processes)
            journal = plan.journal(victim, lives[victim])
            # One that has not begun yet is not worth killing.
            is_at_work = journal.exists() and _lines(journal) >= _LINES_BEFORE_A_KILL
            is_time = (
                next_kill <= now < end - 1 if plan.kills is None else kills < plan.kills
            ) and is_at_work
            if is_time and processes[victim].poll() is None:
                processes[victim].kill()
                processes[victim].wait()
                kills += 1
                lives[victim] += 1
                processes[victim] = _start(plan, victim, lives[victim])
                next_kill = time.time() + dice.uniform(*_SECONDS_BETWEEN_KILLS)
        if any(process.returncode for process in processes):
            raise RunFailedError("a process ended by itself")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return kills


def _start(plan: Plan, process: int, life: int) -> subprocess.Popen[bytes]:
    arguments = (plan.to_json(), str(process), str(life))
    command = [sys.executable, "-m", "tests.concurrency.worker", *arguments]
    return subprocess.Popen(command, cwd=ROOT)


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n")
