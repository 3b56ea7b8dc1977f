"""Tries mutants against the tests that run their lines: who noticed before first, then the fastest.

    this process ──fork──► on each core one that has collected all tests and knows who runs what
         │                       ├─fork─► swaps one function's code, runs tests until one fails
         │                       ├─fork─► ...
         └──fork──► for what cannot be swapped, or survives: imports everything anew, changed

A fork takes milliseconds where starting Python and collecting the tests takes seconds.

A mutant survives when no test failed in `SECONDS_A_MUTANT` of tests; that a slower test would have
noticed it is not looked for. So the share that is noticed can be too low by this, never too high.

What was found is kept in `build/mutants`, and holds for as long as the test that noticed stays as
it is, and all that it imports. So a run that was interrupted goes on, and a new test is tried only
on what has survived so far.
"""

import gc
import json
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.forks import Failures, load_beforehand, write_into

from .memory import assign, module_name, swap
from .mutations import Mutant
from .plan import (
    CORES,
    LOADED_BEFOREHAND,
    OPTIONS,
    TESTS,
    Importer,
    Plan,
    digest,
    file_of,
    function_of,
)

SECONDS_A_TEST = 2.0
"""How much CPU a test may take beyond ten times what it took before: then it loops endlessly."""

SECONDS_STUCK = 120
"""How long a test may wait beyond twenty times what it took before: then it waits for ever."""

FILES_LOADED_ANEW = 3
"""From how many files the tests come of what is tried anew: each takes a second to load."""

SECONDS_TO_LOAD = 60
"""How much CPU it may take until the first test begins."""

MOST_MEMORY = 4 * 1024**3
_ERROR = Path("build/mutants/error.txt")
_SURVIVED, _KILLED, _BROKEN, _NOT_IN_MEMORY = 0, 1, 70, 71
Answer = Callable[[Mutant, int | None, list[str]], None]
"""Takes of a mutant the exit status of its tests, None for no end, and which of them were tried."""


class Fate(Enum):
    KILLED = "killed"
    TIMED_OUT = "ran out of time"
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a mutant: who noticed it, and the states of the tests that did not."""

    fate: Fate
    killer: str = ""
    survives: tuple[str, ...] = ()
    state: str = ""


class Records:
    """The verdicts so far, by mutant: one line of a file for each, the last one counts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._path = plan.root / "build" / "mutants" / "verdicts.jsonl"
        self._known: dict[str, Verdict] = {}
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                name, fate, killer, survives, state = json.loads(line)
                self._known[name] = Verdict(Fate(fate), killer, tuple(survives), state)

    def of(self, mutant: Mutant) -> Verdict | None:
        """What was found the last time, whether it still holds or not."""
        return self._known.get(_name(mutant))

    def fate(self, mutant: Mutant) -> Fate | None:
        """The fate of a mutant, if nothing has changed that it depends on."""
        known = self.of(mutant)
        if known and known.killer and known.state == self._plan.state_of(known.killer):
            return known.fate
        return None

    def add(self, mutant: Mutant, status: int | None, tried: Sequence[str]) -> Fate:
        """Remembers a verdict of now, and which tests it took; the last one is who noticed."""
        fate = _fate(status)
        known = self.of(mutant)
        killer = tried[-1] if fate is not Fate.SURVIVED else ""
        survives: set[str] = set()
        if not killer:
            now = set(self._plan.states.values())
            survives = {self._plan.state_of(test) for test in tried}
            survives |= now.intersection(known.survives if known else ())
        state = self._plan.state_of(killer)
        verdict = Verdict(fate, killer, tuple(sorted(survives)), state)
        self._known[_name(mutant)] = verdict
        with self._path.open("a", encoding="utf-8") as file_of_verdicts:
            line = [_name(mutant), fate.value, killer, verdict.survives, verdict.state]
            file_of_verdicts.write(json.dumps(line) + "\n")
        return fate

    def tests_of(self, mutant: Mutant) -> list[str]:
        known = self.of(mutant) or Verdict(Fate.SURVIVED)
        return self._plan.tests_of(mutant, known.killer, known.survives)


def _name(mutant: Mutant) -> str:
    return digest(repr((mutant.key, mutant.occurrence)).encode())


def try_all(plan: Plan, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, Fate]]:
    """The fate of each mutant, as it becomes known.

    First what is known, then what is not or has survived, then what is likely as it was.
    """
    records = Records(plan)
    open_: list[Mutant] = []
    likely: list[Mutant] = []
    for mutant in mutants:
        fate, known = records.fate(mutant), records.of(mutant)
        if fate:
            yield mutant, fate
        else:
            (likely if known and known.killer else open_).append(mutant)
    load_beforehand(LOADED_BEFOREHAND)
    for group in (open_, likely):
        anew = []
        for mutant, status, tried in _in_processes(partial(_try_within, plan, records), group):
            is_left = status == _SURVIVED and not mutant.function
            if is_left or status == _NOT_IN_MEMORY:
                anew.append(mutant)
            else:
                yield mutant, records.add(mutant, status, tried)
        for mutant, status, tried in _in_processes(partial(_try_anew, plan, records), anew):
            yield mutant, records.add(mutant, status, tried)


def _in_processes(
    work: Callable[[Sequence[Mutant], Answer], None], mutants: Sequence[Mutant]
) -> Iterator[tuple[Mutant, int | None, list[str]]]:
    """What a process on each core answers about its share of the mutants."""
    shares: list[dict[Mutant, int]] = [{} for _ in range(CORES)]
    share_of: dict[tuple[str, ...], int] = {}
    for place, mutant in enumerate(mutants):
        # Mutants of a function stay together: who notices one is likely to notice the next.
        number = share_of.setdefault(mutant.place, len(share_of) % CORES)
        shares[number][mutant] = place
    children: dict[Connection[Any, Any], int] = {}
    for share in filter(None, shares):
        reading, writing = Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            _work_on(share, work, writing)
        writing.close()
        children[reading] = child
    try:
        yield from _answers(children, mutants)
    finally:
        for child in children.values():
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def _work_on(
    share: Mapping[Mutant, int],
    work: Callable[[Sequence[Mutant], Answer], None],
    writing: "Connection[Any, Any]",
) -> NoReturn:
    write_into(os.devnull)
    try:
        work(list(share), lambda mutant, *found: writing.send((share[mutant], *found)))
    except BaseException:  # noqa: BLE001 - whatever it is, it is told
        _ERROR.write_text(traceback.format_exc(), encoding="utf-8")
    finally:
        os._exit(0)


def _answers(
    children: dict["Connection[Any, Any]", int], mutants: Sequence[Mutant]
) -> Iterator[tuple[Mutant, int | None, list[str]]]:
    left = len(mutants)
    while children:
        ready = wait(list(children))
        for reading in [one for one in children if one in ready]:
            try:
                place, status, tried = reading.recv()
            except EOFError:
                os.waitpid(children.pop(reading), 0)
                continue
            left -= 1
            yield mutants[place], status, tried
    if left:
        raise SystemExit(f"error: {left} mutants could not be tried; {_ERROR} may say why")


def _in_child(work: Callable[[], int]) -> int | None:
    """The exit status of what a forked process does; None when it ran out of time."""
    child = os.fork()
    if child == 0:
        code = _BROKEN
        try:
            write_into(os.devnull)
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            signal.setitimer(signal.ITIMER_PROF, SECONDS_TO_LOAD)
            code = work()
        except MemoryError:
            code = _KILLED
        except BaseException:  # noqa: BLE001 - whatever it is, it is told
            _ERROR.write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    return None if os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF) else _KILLED


def _fate(status: int | None) -> Fate:
    if status is None:
        return Fate.TIMED_OUT
    if status == _BROKEN:  # else a fault of this runner would pass for a test that notices
        raise SystemExit(f"error: a mutant could not be tried; {_ERROR} says why")
    return Fate.SURVIVED if status == _SURVIVED else Fate.KILLED


class _Trial(Failures):
    """A pytest plugin that runs some tests in their order, until one fails or takes too long."""

    def __init__(self, plan: Plan, tests: Sequence[str], writing: int) -> None:
        super().__init__()
        self.tests = tests
        self._plan = plan
        self._places = {test: place for place, test in enumerate(tests)}
        self._writing = writing

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        chosen = [item for item in session.items if item.nodeid in self._places]
        for item in sorted(chosen, key=lambda item: self._places[item.nodeid]):
            self.run(item)
            if self.failed:
                break
        return True

    def run(self, item: pytest.Item) -> None:
        """Runs a test, after it has said which one it is about to run."""
        seconds = self._plan.seconds[item.nodeid]
        # Of CPU, for others use the machine.
        signal.setitimer(signal.ITIMER_PROF, SECONDS_A_TEST + 10 * seconds)
        signal.setitimer(signal.ITIMER_REAL, SECONDS_STUCK + 20 * seconds)
        os.write(self._writing, f"{self._places[item.nodeid]}\n".encode())
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)


def _tried(
    plan: Plan, tests: list[str], mutant: Mutant, answer: Answer, work: Callable[[_Trial], int]
) -> None:
    """Answers what becomes of a mutant in a child process, in which ``work`` tries it."""
    reading, writing = os.pipe()
    status = _in_child(lambda: work(_Trial(plan, tests, writing))) if tests else _SURVIVED
    os.close(writing)
    with os.fdopen(reading) as told:
        # Written before each test: the last one is the one that failed or never ended.
        tried = [tests[int(place)] for place in told.read().split()]
    if not tried and status in (_KILLED, None):
        tried = tests[:1]  # it cannot even be collected
    if tried and status in (_KILLED, None):
        plan.noticed(mutant, tried[-1])
    answer(mutant, status, tried)


# --- In memory ------------------------------------------------------------------------------------


class _Forker:
    """A pytest plugin: once all tests are collected, a fork of the process for each mutant."""

    def __init__(
        self, plan: Plan, records: Records, mutants: Sequence[Mutant], answer: Answer
    ) -> None:
        self._plan = plan
        self._records = records
        self._mutants = mutants
        self._answer = answer

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        known_tests = self._plan.seconds  # one that was written a moment ago is not planned with
        items = {item.nodeid: item for item in session.items if item.nodeid in known_tests}
        self._warm_up(items)
        gc.collect()
        gc.freeze()  # else the children would copy what their collectors touch
        for mutant in self._mutants:
            work = partial(_swap_and_test, session, items, mutant)
            tests = self._records.tests_of(mutant)
            _tried(self._plan, tests, mutant, self._answer, work)
        return True

    def _warm_up(self, items: dict[str, pytest.Item]) -> None:
        """Runs the fastest test of each file that uses AWS: its clients need not be made again."""
        fastest: dict[str, str] = {}
        for test in sorted(items, key=lambda test: -self._plan.seconds[test]):
            if not test.startswith(TESTS[0]):
                fastest[file_of(test)] = test
        for test in fastest.values():
            items[test].ihook.pytest_runtest_protocol(item=items[test], nextitem=None)


def _swap_and_test(
    session: pytest.Session, items: Mapping[str, pytest.Item], mutant: Mutant, trial: _Trial
) -> int:
    session.config.pluginmanager.register(trial)
    try:
        if mutant.function:
            swap(mutant.file, mutant.text, mutant.function)
        else:
            assign(mutant.file, mutant.text, mutant.names[0] if mutant.names else "")
    except Exception:  # noqa: BLE001 - such as a constant that cannot be made: a test is to say so
        return _NOT_IN_MEMORY
    for test in trial.tests:
        trial.run(items[test])
        if trial.failed or session.shouldstop or session.shouldfail:
            return _KILLED
    return _SURVIVED


def _try_within(plan: Plan, records: Records, mutants: Sequence[Mutant], answer: Answer) -> None:
    forker = _Forker(plan, records, mutants, answer)
    pytest.main([*OPTIONS, *TESTS], plugins=[forker])


# --- Anew -----------------------------------------------------------------------------------------


def _try_anew(plan: Plan, records: Records, mutants: Sequence[Mutant], answer: Answer) -> None:
    for mutant in mutants:
        tests = records.tests_of(mutant)
        files = [*dict.fromkeys(map(file_of, tests))][:FILES_LOADED_ANEW]
        tests = [test for test in tests if file_of(test) in files]
        _tried(plan, tests, mutant, answer, partial(_import_and_test, plan, mutant))


def _import_and_test(plan: Plan, mutant: Mutant, trial: _Trial) -> int:
    path = plan.root / mutant.file
    code = compile(mutant.text, str(path), "exec")
    sys.meta_path.insert(0, Importer(module_name(mutant.file), path, code))
    functions = dict.fromkeys(map(function_of, trial.tests))
    ended = pytest.main([*OPTIONS, "-x", *functions], plugins=[trial])
    is_fine = ended == pytest.ExitCode.OK and not trial.failed
    return _SURVIVED if is_fine else _KILLED
