"""Takes guards away, one at a time, in a copy of the tree, and runs the tests that must notice.

    this process ──fork──► one that has collected the named tests, in the copy
                              ├─fork─► the tests as they are: all pass
                              ├─fork─► without the first guard, in its file and in memory: its tests
                              └─fork─► ...

A fork takes milliseconds where starting Python and collecting the tests takes seconds. What cannot
be taken out of memory, and what nobody notices there, is tried in a process that loads all anew.
"""

import gc
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.forks import Failures, load_beforehand, write_into

from . import memory
from .guard import ROOT, Guard

SECONDS_A_GUARD = 120
_LEFT_BEHIND = shutil.ignore_patterns(
    *(".git", ".venv", "build", "node_modules", "__pycache__", ".hypothesis", ".*_cache"),
)
_PRELOADED = (
    *("boto3", "botocore.session", "chalice.cli", "chalice.local", "chalice.package", "hypothesis"),
    *("jinja2", "jsonschema", "jwt", "moto", "moto.core.models", "moto.dynamodb.models"),
    *("moto.sqs.models", "aws_lambda_powertools", "pynamodb.connection", "tzdata", "zoneinfo"),
)
_OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
_ABOUT_THE_TEMPLATE = (
    *("tests/stack/test_template.py", "tests/stack/test_mail_template.py"),
    *("tests/stack/test_guarded_template.py", "tests/stack/test_alarms.py"),
)
"""What looks at the template, and not into the archive: no guard names others of these files."""


class Fate(Enum):
    """What became of a guard's removal."""

    NOTICED = "noticed by"
    TIMED_OUT = "noticed, for the tests did not end:"
    NOT_NOTICED = "NOT NOTICED:"
    NOT_TRIED = "could not be tried:"


@dataclass(frozen=True)
class Verdict:
    """What the tests said of a removal: the test that failed, or what went wrong."""

    fate: Fate
    by: str = ""


class TestsFailError(Exception):
    """The named tests fail, or are not there, while every guard is in its place."""


def verdicts(guards: Sequence[Guard], among: Sequence[str] = ()) -> Iterator[tuple[Guard, Verdict]]:
    """Each guard and what became of its removal, as it becomes known.

    ``among``: the tests to run in place of those that the guards name. Raises `TestsFailError`.
    """
    load_beforehand(_PRELOADED)
    with _copied_tree() as tree:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            _collect_and_try(tree, guards, among, writing)
        os.close(writing)
        tried = 0
        with os.fdopen(reading) as answers:
            for line in answers:
                problem, fate, by = json.loads(line)
                if problem:
                    raise TestsFailError(problem)
                guard, verdict = guards[tried], Verdict(Fate[fate], by)
                tried += 1
                if verdict.fate is Fate.NOT_NOTICED:
                    verdict = _tried_anew(tree, guard, among or guard.tests)
                yield guard, verdict
        os.waitpid(child, 0)
        if tried != len(guards):
            output = (tree.parent / "output").read_text(errors="replace")
            raise TestsFailError(f"the process of the tests ended early:\n{output[-3000:]}")


@contextmanager
def _copied_tree() -> Iterator[Path]:
    """A copy of the tree to be spoilt, gone at the end. What takes long to make is linked."""
    with tempfile.TemporaryDirectory(prefix="guards-") as temporary:
        tree = Path(temporary) / "tree"
        shutil.copytree(ROOT, tree, ignore=_LEFT_BEHIND, symlinks=True)
        (tree / ".venv").symlink_to(ROOT / ".venv")
        (tree / "build").mkdir()
        dependencies = ROOT / "build" / "dependencies"
        dependencies.mkdir(parents=True, exist_ok=True)
        (tree / "build" / "dependencies").symlink_to(dependencies)
        yield tree


def _enter(tree: Path) -> None:
    """Makes this process, a fork, one that runs in the copy and is quiet."""
    write_into(tree.parent / "output")
    # A file that changes twice within a second would pass for the same.
    sys.dont_write_bytecode = True
    for name in list(sys.modules):
        if name.partition(".")[0] in memory.OURS:
            del sys.modules[name]
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
    os.chdir(tree)


@contextmanager
def _without(tree: Path, guard: Guard) -> Iterator[None]:
    """Within the block, the copy is without the guard."""
    path = tree / guard.file
    path.write_text(guard.removed(), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(guard.text, encoding="utf-8")


# --- In forks of a process that has collected the tests -------------------------------------------


def _collect_and_try(
    tree: Path, guards: Sequence[Guard], among: Sequence[str], writing: int
) -> NoReturn:
    try:
        _enter(tree)
        named = among or sorted({test for guard in guards for test in guard.tests})
        with os.fdopen(writing, "w") as answers:
            forker = _Forker(tree, guards, among, answers)
            pytest.main([*_OPTIONS, f"--rootdir={tree}", *named], plugins=[forker, forker.failures])
            if forker.failures.broken:
                answers.write(json.dumps(("; ".join(forker.failures.broken), "", "")) + "\n")
    finally:
        os._exit(0)


class _Forker:
    """A pytest plugin: once all tests are collected, a fork of the process for each guard."""

    def __init__(
        self, tree: Path, guards: Sequence[Guard], among: Sequence[str], answers: Any
    ) -> None:
        self._tree = tree
        self._guards = guards
        self._among = among
        self._answers = answers
        self.failures = Failures()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if self.failures.broken:
            return True
        problem = self._as_it_is(session)
        if problem:
            self._say(problem)
            return True
        gc.freeze()  # else each fork would go through all of it, and so copy it
        for guard in self._guards:
            items = _chosen(session.items, self._among or guard.tests)
            if not items:
                self._say(f"{guard.name} names tests that are not there: {', '.join(guard.tests)}")
                return True
            with _without(self._tree, guard):
                verdict = _in_fork(
                    lambda guard=guard, items=items: self._try(guard, items), SECONDS_A_GUARD
                )
            self._say("", verdict)
        return True

    def _say(self, problem: str, verdict: Verdict | None = None) -> None:
        fate, by = (verdict.fate.name, verdict.by) if verdict else ("", "")
        self._answers.write(json.dumps((problem, fate, by)) + "\n")
        self._answers.flush()

    def _as_it_is(self, session: pytest.Session) -> str:
        """What is wrong with the tests while every guard is in its place; empty for nothing.

        They run in this very process: what they load and make on the way is there in every fork.
        """
        items = session.items if not self._among else session.items[:1]
        self._run(items, stops=False)
        failed = ", ".join(self.failures.failed)
        return f"the tests fail as they are: {failed}" if failed else ""

    def _run(self, items: Sequence[pytest.Item], *, stops: bool) -> None:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if stops and self.failures.failed:
                return

    def _try(self, guard: Guard, items: Sequence[pytest.Item]) -> Verdict:
        if guard.file.endswith(".py"):
            memory.replace(guard.file, guard.text, guard.removed())
        if all(item.nodeid.startswith(_ABOUT_THE_TEMPLATE) for item in items):
            _package_in_process()
        self._run(items, stops=True)
        if self.failures.failed:
            return Verdict(Fate.NOTICED, self.failures.failed[0])
        return Verdict(Fate.NOT_NOTICED, f"{len(items)} tests passed")


def _chosen(items: Sequence[pytest.Item], tests: Sequence[str]) -> list[pytest.Item]:
    """The items of some tests, in the order in which the tests are named."""
    return [
        item
        for test in tests
        for item in items
        if item.nodeid == test or item.nodeid.startswith((f"{test}[", f"{test}::", f"{test}/"))
    ]


def _package_in_process() -> None:
    """Makes the same template in a fourth of the time: without a new process and dependencies."""
    packaging: Any = importlib.import_module("infra.deployment.packaging")
    cli: Any = importlib.import_module("chalice.cli")
    yaml: Any = importlib.import_module("yaml")
    empty = Path(tempfile.mkdtemp(dir=packaging.BUILD))

    def run(_what: str, command: list[str], *, directory: Path, environment: Any) -> None:
        before = Path.cwd()
        os.environ.update(environment)
        os.chdir(directory)
        try:
            # After Python, -c and the line that would call the same.
            cli.cli.main(args=command[3:], obj={}, standalone_mode=False)
        finally:
            os.chdir(before)

    packaging._run = run
    packaging._dependencies = lambda *_: empty
    packaging._make_reproducible = shutil.copy
    if hasattr(yaml, "CSafeLoader"):
        yaml.SafeLoader = yaml.CSafeLoader


def _in_fork(work: Any, seconds: float) -> Verdict:
    """What a forked process answers."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        verdict = Verdict(Fate.NOT_TRIED, "the process of the tests ended early")
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds)
            verdict = work()
        except memory.NotInMemoryError as error:
            verdict = Verdict(Fate.NOT_NOTICED, f"not in memory: {error}")
        finally:
            os.write(writing, json.dumps((verdict.fate.name, verdict.by)).encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return Verdict(Fate.TIMED_OUT, f"after {seconds:.0f} s")
    if not said:
        return Verdict(Fate.NOT_TRIED, f"the process of the tests ended with status {status}")
    fate, by = json.loads(said)
    return Verdict(Fate[fate], by)


# --- In a process that loads all anew -------------------------------------------------------------


def _tried_anew(tree: Path, guard: Guard, tests: Sequence[str]) -> Verdict:
    def work() -> Verdict:
        _enter(tree)
        failures = Failures()
        code = pytest.main([*_OPTIONS, "-x", f"--rootdir={tree}", *tests], plugins=[failures])
        if failures.failed:
            return Verdict(Fate.NOTICED, failures.failed[0])
        if code != pytest.ExitCode.OK:
            return Verdict(
                Fate.NOT_TRIED, "; ".join(failures.broken) or f"pytest ended with {code}"
            )
        return Verdict(Fate.NOT_NOTICED, "all passed")

    # The collecting process waits for nothing: its next fork takes another guard out of the copy.
    with _copied_tree() as own, _without(own, guard):
        tree = own
        return _in_fork(work, SECONDS_A_GUARD)
