"""Tries mutants against the tests that run their lines, the fastest first.

    this process ──fork──► a process that has collected all tests and knows who runs which line
         │                       ├─fork─► swaps one function's code, runs tests until one fails
         │                       ├─fork─► ...
         └──fork──► for what is not within a function: imports everything anew, with that change

A fork takes milliseconds where starting Python and collecting the tests takes seconds.
"""

import hashlib
import importlib
import inspect
import json
import os
import resource
import signal
import sys
import threading
import time
import types
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.mutations import Mutant

TESTS = ("tests/unit", "tests/aws")
SECONDS_A_TEST = 10.0
"""How long a test may run beyond ten times what it took before: then it is an endless loop."""

SECONDS_ALL_ANEW = 600
MOST_MEMORY = 4 * 1024**3
_SURVIVED, _KILLED, _BROKEN = 0, 1, 70
_OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist")
_PRELOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "ran out of time"
    SURVIVED = "survived"


@dataclass
class Plan:
    """Which tests run which lines of the files, and how long each takes in seconds."""

    root: Path
    lines: dict[str, dict[str, list[int]]]
    seconds: dict[str, float]
    killers: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def tests_of(self, mutant: Mutant) -> list[str]:
        """The tests that run a mutant's lines: those that were good at it first, then by speed."""
        wanted = range(mutant.first_line, mutant.last_line + 1)
        found = {
            test
            for test, files in self.lines.items()
            if any(line in wanted for line in files.get(mutant.file, ()))
        }
        good = self.killers[mutant.file, mutant.function]
        return sorted(
            found,
            key=lambda test: (
                -good.index(test) - 1 if test in good else 0,
                self.seconds[test],
                test,
            ),
        )

    def files_of(self, mutant: Mutant) -> list[str]:
        """The test files that run anything of a mutant's file, the fast ones first."""
        found: dict[str, float] = defaultdict(float)
        for test, files in self.lines.items():
            found[test.partition("::")[0]] += 0.0
            if mutant.file in files:
                found[test.partition("::")[0]] += self.seconds[test]
        own = f"test_{Path(mutant.file).stem}.py"
        return sorted(
            (file for file in found),
            key=lambda file: (own not in file, found[file] == 0.0, "unit" not in file, found[file]),
        )


@contextmanager
def prepared(root: Path) -> Iterator[Plan]:
    """The plan: taken from the last time, when nothing has changed since."""
    kept = root / "build" / "mutants" / f"{_state_of(root)}.json"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        _preload()
        status = _in_child(lambda: _write_plan(root, kept), seconds=3600)
        if status != 0 or not kept.exists():
            raise SystemExit("error: the tests fail as they are; run make test first")
    stored = json.loads(kept.read_text(encoding="utf-8"))
    _preload()
    yield Plan(root, stored["lines"], stored["seconds"])


def try_all(plan: Plan, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, Fate]]:
    """The fate of each mutant, as it becomes known."""
    within = [mutant for mutant in mutants if mutant.function]
    anew = [mutant for mutant in mutants if not mutant.function]
    for mutant in anew:
        yield mutant, _try_anew(plan, mutant)
    if within:
        yield from _try_within(plan, within)


def _state_of(root: Path) -> str:
    digest = hashlib.sha256()
    paths = [*root.glob("chalicelib/**/*.py"), *root.glob("chalicelib/*.toml")]
    for folder in TESTS:
        paths += (root / folder).glob("*.py")
    for path in sorted(paths):
        digest.update(f"{path}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _preload() -> None:
    """What every child needs and no mutant changes."""
    for name in ("boto3", "chalice.app", "chalice.local", "hypothesis", "jsonschema", "jwt"):
        importlib.import_module(name)
    for name in ("moto", "moto.core.models", "moto.dynamodb.models", "moto.sqs.models"):
        importlib.import_module(name)
    for name in ("pynamodb.connection", "yaml", "zoneinfo", "aws_lambda_powertools", "jinja2"):
        importlib.import_module(name)
    hypothesis: Any = importlib.import_module("hypothesis")
    # The same examples each time, nothing remembered, and no time spent on the smallest example.
    hypothesis.settings.register_profile(
        "mutants",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    hypothesis.settings.load_profile("mutants")


def _in_child(work: Any, seconds: float) -> int | None:
    """The exit status of what a forked process does; None when it ran out of time or was killed."""
    child = os.fork()
    if child == 0:
        code = _BROKEN
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            signal.setitimer(signal.ITIMER_REAL, seconds)
            code = work()
        except MemoryError:
            code = _KILLED
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.WEXITSTATUS(status) if os.WIFEXITED(status) else None


def _fate(status: int | None) -> Fate:
    if status is None:
        return Fate.TIMED_OUT
    if status == _BROKEN:  # else a fault of this runner would pass for a test that notices
        raise SystemExit("error: a mutant could not be tried; run it alone to see why")
    return Fate.SURVIVED if status == _SURVIVED else Fate.KILLED


# --- Which test runs which line -------------------------------------------------------------------


class _Failures:
    """A pytest plugin that sees whether a test failed."""

    def __init__(self) -> None:
        self.failed = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed


class _Mapper(_Failures):
    """Runs every test and notes which lines of the domain and the store it runs."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._prefix = f"{root}/chalicelib/"
        self._root = f"{root}/"
        self.lines: dict[str, dict[str, list[int]]] = {}
        self.seconds: dict[str, float] = {}
        self._seen: set[tuple[str, int]] = set()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self._seen = set()
            started = time.monotonic()
            threading.settrace(self._trace)
            sys.settrace(self._trace)
            try:
                item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            finally:
                sys.settrace(None)
                threading.settrace(None)
            self.seconds[item.nodeid] = time.monotonic() - started
            found: dict[str, list[int]] = defaultdict(list)
            for file, line in sorted(self._seen):
                found[file.removeprefix(self._root)].append(line)
            self.lines[item.nodeid] = dict(found)
            if self.failed:
                break
        return True

    def _trace(self, frame: types.FrameType, _event: str, _argument: Any) -> Any:
        name = frame.f_code.co_filename
        if name.startswith(self._prefix) and ("/domain/" in name or "/store/" in name):
            self._seen.add((name, frame.f_lineno))
            return self._line
        return None

    def _line(self, frame: types.FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self._seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self._line


def _write_plan(root: Path, kept: Path) -> int:
    mapper = _Mapper(root)
    pytest.main([*_OPTIONS, *_PRELOADED, *TESTS], plugins=[mapper])
    if mapper.failed or not mapper.lines:
        return 1
    kept.write_text(json.dumps({"lines": mapper.lines, "seconds": mapper.seconds}))
    return 0


# --- Mutants within a function --------------------------------------------------------------------


class _Forker:
    """A pytest plugin: once all tests are collected, a fork of the process for each mutant."""

    def __init__(self, plan: Plan, mutants: Sequence[Mutant], answers: Any) -> None:
        self._plan = plan
        self._mutants = mutants
        self._answers = answers

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        for place, mutant in enumerate(self._mutants):
            tests = self._plan.tests_of(mutant)
            reading, writing = os.pipe()
            status = _in_child(
                lambda mutant=mutant, tests=tests, writing=writing: self._try(
                    session, items, mutant, tests, writing
                ),
                seconds=SECONDS_ALL_ANEW,
            )
            os.close(writing)
            killer = os.read(reading, 65536).decode()
            os.close(reading)
            if killer:
                good = self._plan.killers[mutant.file, mutant.function]
                if killer in good:
                    good.remove(killer)
                good.append(killer)
            self._answers.write(json.dumps([place, status]) + "\n")
            self._answers.flush()
        return True

    def _try(
        self,
        session: pytest.Session,
        items: dict[str, pytest.Item],
        mutant: Mutant,
        tests: list[str],
        writing: int,
    ) -> int:
        failures = _Failures()
        session.config.pluginmanager.register(failures)
        _swap(self._plan.root, mutant)
        for test in tests:
            limit = SECONDS_A_TEST + 10 * self._plan.seconds[test]
            signal.setitimer(signal.ITIMER_REAL, limit)
            items[test].ihook.pytest_runtest_protocol(item=items[test], nextitem=None)
            if failures.failed or session.shouldstop or session.shouldfail:
                os.write(writing, test.encode()[:60000])
                return _KILLED
        return _SURVIVED


def _try_within(plan: Plan, mutants: Sequence[Mutant]) -> Iterator[tuple[Mutant, Fate]]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            with os.fdopen(writing, "w") as answers:
                forker = _Forker(plan, mutants, answers)
                pytest.main([*_OPTIONS, *_PRELOADED, *TESTS], plugins=[forker])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        for line in answers:
            place, status = json.loads(line)
            yield mutants[place], _fate(status)
    os.waitpid(child, 0)


def _swap(root: Path, mutant: Mutant) -> None:
    """Puts the mutated code into the living function."""
    whole = compile(mutant.text, str(root / mutant.file), "exec")
    module = sys.modules[mutant.file.removesuffix(".py").replace("/", ".")]
    found: Any = module
    for name in mutant.function.split("."):
        found = inspect.getattr_static(found, name)
    if isinstance(found, property):
        found = found.fget
    elif isinstance(found, cached_property):
        found = found.func
    elif isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    function = inspect.unwrap(found)
    function.__code__ = _code(whole, mutant.function)
    # What was worked out before the change must be worked out again.
    for loaded in list(sys.modules.values()):
        if getattr(loaded, "__name__", "").startswith("chalicelib."):
            for value in vars(loaded).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


def _code(code: types.CodeType, qualified: str) -> types.CodeType:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if constant.co_qualname == qualified:
                return constant
            if qualified.startswith(f"{constant.co_qualname}."):
                return _code(constant, qualified)
    raise LookupError(qualified)


# --- Mutants of a module's or a class's body ------------------------------------------------------


class _Importer(MetaPathFinder):
    """Imports one module from a text of ours."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self._name = name
        self._path = path
        self._text = text

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return spec_from_loader(name, self, origin=str(self._path)) if name == self._name else None  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__file__ = str(self._path)
        exec(compile(self._text, str(self._path), "exec"), vars(module))  # noqa: S102


def _try_anew(plan: Plan, mutant: Mutant) -> Fate:
    files = plan.files_of(mutant)

    def work() -> int:
        name = mutant.file.removesuffix(".py").replace("/", ".")
        sys.meta_path.insert(0, _Importer(name, plan.root / mutant.file, mutant.text))
        # First those that are likely to notice, for collecting tests takes its time.
        for chosen in (files[:1], files[1:]):
            if chosen and pytest.main([*_OPTIONS, *_PRELOADED, *chosen]) != pytest.ExitCode.OK:
                return _KILLED
        return _SURVIVED

    return _fate(_in_child(work, SECONDS_ALL_ANEW))
