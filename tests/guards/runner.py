"""Takes guards away, one at a time, in a copy of the tree, and runs the tests that must notice.

    this process, which has loaded what no guard is in (boto3, moto, chalice, ...)
         ├─fork─► the copy as it is: every named test passes
         ├─fork─► the copy without the first guard: its tests
         └─fork─► ...

A fork takes milliseconds where starting Python and loading those takes seconds.
"""

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
from typing import Any

import pytest

from .guard import ROOT, Guard

SECONDS_A_GUARD = 120
SECONDS_BEFORE = 900
_ABOUT_THE_TEMPLATE = (
    *("tests/stack/test_template.py", "tests/stack/test_mail_template.py"),
    *("tests/stack/test_guarded_template.py", "tests/stack/test_alarms.py"),
)
"""What looks at the template, and not into the archive: no guard names others of these files."""

_OURS = ("app", "bench", "chalicelib", "infra", "tests")
_LEFT_BEHIND = shutil.ignore_patterns(
    *(".git", ".venv", "build", "node_modules", "__pycache__", ".hypothesis", ".*_cache"),
)
_PRELOADED = (
    *("boto3", "botocore.session", "chalice.app", "chalice.local", "hypothesis", "jinja2", "jwt"),
    *("jsonschema", "moto", "moto.core.models", "moto.dynamodb.models", "moto.sqs.models"),
    *("aws_lambda_powertools", "pynamodb.connection", "tzdata", "yaml", "zoneinfo"),
)
_OPTIONS = (
    *("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


class Fate(Enum):
    """What became of a guard's removal."""

    NOTICED = "noticed"
    TIMED_OUT = "noticed: the tests did not end"
    NOT_NOTICED = "NOT NOTICED"
    NOT_TRIED = "could not be tried"


@dataclass(frozen=True)
class Verdict:
    """What the tests said of a removal: the test that failed, or what went wrong."""

    fate: Fate
    by: str = ""


@contextmanager
def copied_tree() -> Iterator[Path]:
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


def preload() -> None:
    """Loads what every child needs and no guard is in."""
    for name in _PRELOADED:
        importlib.import_module(name)
    hypothesis: Any = importlib.import_module("hypothesis")
    # The same examples each time, nothing remembered, and no time spent on the smallest example.
    hypothesis.settings.register_profile(
        "guards",
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )
    hypothesis.settings.load_profile("guards")


def without_removal(tree: Path, tests: Sequence[str]) -> Verdict:
    """The named tests on the tree as it is: they must all pass."""
    return _run(tree, tests, SECONDS_BEFORE, is_lean=False, keeps_bytecode=True)


def without_guard(tree: Path, guard: Guard, tests: Sequence[str]) -> Verdict:
    """The tests on the tree without the guard; it is there again afterwards."""
    path = tree / guard.file
    before, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(guard.removed(), encoding="utf-8")
    try:
        return _run(tree, tests, SECONDS_A_GUARD, is_lean=_is_about_the_template(tests))
    finally:
        path.write_text(before, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _is_about_the_template(tests: Sequence[str]) -> bool:
    return all(test.startswith(_ABOUT_THE_TEMPLATE) for test in tests)


class _Listener:
    """A pytest plugin that remembers what failed."""

    def __init__(self, *, is_lean: bool) -> None:
        self._is_lean = is_lean
        self.ran = 0
        self.failed: list[str] = []
        self.broken: list[str] = []

    def pytest_collection_finish(self) -> None:
        if self._is_lean:
            _package_without_dependencies()

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.broken.append(f"{report.nodeid} cannot be collected")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran += report.when == "call"
        if report.failed:
            self.failed.append(report.nodeid)


def _package_without_dependencies() -> None:
    """The template is the same without them, and made in half the time."""
    packaging: Any = importlib.import_module("infra.packaging")
    empty = Path(tempfile.mkdtemp(dir=packaging.BUILD))
    packaging._dependencies = lambda *_: empty
    packaging._make_reproducible = shutil.copy


def _run(
    tree: Path,
    tests: Sequence[str],
    seconds: float,
    *,
    is_lean: bool,
    keeps_bytecode: bool = False,
) -> Verdict:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _in_child(tree, tests, seconds, writing, is_lean=is_lean, keeps_bytecode=keeps_bytecode)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM:
        return Verdict(Fate.TIMED_OUT, f"after {seconds:.0f} s")
    if not said:
        return Verdict(Fate.NOT_TRIED, f"the process of the tests ended with status {status}")
    code, ran, failed, broken = json.loads(said)
    if broken or code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        return Verdict(Fate.NOT_TRIED, "; ".join(broken) or f"pytest ended with status {code}")
    if failed:
        return Verdict(Fate.NOTICED, failed[0])
    return Verdict(Fate.NOT_NOTICED, f"{ran} tests passed")


def _in_child(
    tree: Path,
    tests: Sequence[str],
    seconds: float,
    writing: int,
    *,
    is_lean: bool,
    keeps_bytecode: bool,
) -> None:
    """Runs the tests of the copy and writes what they came to; never returns."""
    try:
        quiet = os.open(tree.parent / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        # A file that changes twice within a second would pass for the same.
        sys.dont_write_bytecode = not keeps_bytecode
        for name in list(sys.modules):
            if name.partition(".")[0] in _OURS:
                del sys.modules[name]
        sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
        os.chdir(tree)
        listener = _Listener(is_lean=is_lean)
        options = [option for option in _OPTIONS if option != "-x" or not keeps_bytecode]
        code = pytest.main([*options, f"--rootdir={tree}", *tests], plugins=[listener])
        answer = (int(code), listener.ran, listener.failed, listener.broken)
        os.write(writing, json.dumps(answer).encode())
    finally:
        os._exit(0)
