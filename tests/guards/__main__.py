"""Takes every guard of the infrastructure away, one at a time: which test notices?

    python -m tests.guards                                  all of them
    python -m tests.guards --only SweepsQueue.RedrivePolicy     some, by name

    this process ──fork──► one that has collected the tests, in a copy of the tree
                              ├─fork─► without the first guard: its tests
                              └─fork─► ...

A fork takes milliseconds where starting Python and collecting the tests takes seconds. What nobody
notices there is tried in a process that loads all anew. Exit status 0: each removal makes one of
the tests fail that the guard names. Otherwise 1.
"""

import argparse
import gc
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

import pytest
from rich.console import Console

from tests.forks import Failures, load_beforehand, write_into

from .infrastructure import ROOT, Guard, LostGuardError, found

SECONDS_A_GUARD = 120
"""How much CPU the tests may take, and a tenth of how long: others use the machine, too."""

_LEFT_BEHIND = shutil.ignore_patterns(
    *(".git", ".venv", "build", "node_modules", "__pycache__", ".hypothesis", ".*_cache"),
)
_PRELOADED = (
    *("boto3", "botocore.session", "chalice.cli", "chalice.local", "chalice.package", "hypothesis"),
    *("jinja2", "jsonschema", "moto", "aws_lambda_powertools", "pynamodb.connection", "tzdata"),
)
_OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)
_OURS = ("app", "chalicelib", "infra", "tests")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.guards",
        description="Takes every guard of the infrastructure away, one at a time, in a copy of "
        "the tree, and says which test notices.",
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these, by name")
    only = parser.parse_args(arguments).only
    error = Console(stderr=True, markup=False, soft_wrap=True)
    guards = [guard for guard in found() if not only or guard.name in only]
    unknown = {*(only or ())} - {guard.name for guard in guards}
    if unknown:
        error.print(f"error: there is no guard called {', '.join(sorted(unknown))}")
        return 2
    try:
        for guard in guards:
            guard.removed()  # raises here what would be raised minutes later
    except LostGuardError as lost:
        error.print(f"error: {lost}")
        return 1
    started = time.monotonic()
    load_beforehand(_PRELOADED)
    with tempfile.TemporaryDirectory(prefix="guards-") as temporary:
        tree = _copied(Path(temporary))
        said = []
        for line in _said_by_fork(lambda say: _collect_and_try(tree, guards, say)):
            print(line, flush=True)
            said.append(line)
    noticed = sum(line.startswith("noticed") for line in said)
    minutes = (time.monotonic() - started) / 60
    print(
        f"{len(guards)} guards of the infrastructure removed one at a time, {noticed} noticed, "
        f"in {minutes:.0f} minutes"
    )
    return 0 if noticed == len(guards) == len(said) else 1


def _copied(temporary: Path) -> Path:
    """A copy of the tree to be spoilt. What takes long to make is linked."""
    tree = temporary / "tree"
    shutil.copytree(ROOT, tree, ignore=_LEFT_BEHIND, symlinks=True)
    (tree / ".venv").symlink_to(ROOT / ".venv")
    (tree / "build").mkdir()
    dependencies = ROOT / "build" / "dependencies"
    dependencies.mkdir(parents=True, exist_ok=True)
    (tree / "build" / "dependencies").symlink_to(dependencies)
    return tree


Say = Callable[[str], object]


def _said_by_fork(work: Callable[[Say], object]) -> Iterator[str]:
    """The lines that a forked process says, as it says them."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _work(work, writing)
    os.close(writing)
    with os.fdopen(reading) as answers:
        yield from (line.rstrip("\n") for line in answers)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGPROF):
        yield "noticed, for the tests did not end"


def _work(work: Callable[[Say], object], writing: int) -> NoReturn:
    try:
        work(lambda line: os.write(writing, f"{line}\n".encode()))
    finally:
        os._exit(0)


def _collect_and_try(tree: Path, guards: Sequence[Guard], say: Say) -> None:
    write_into(tree.parent / "output")
    # A file that changes twice within a second would pass for the same.
    sys.dont_write_bytecode = True
    sys.path[:] = [str(tree), *(path for path in sys.path if path not in ("", str(ROOT)))]
    os.chdir(tree)
    _forget_ours()
    forker = _Forker(tree, guards, say)
    tests = sorted({test for guard in guards for test in guard.tests})
    pytest.main([*_OPTIONS, f"--rootdir={tree}", *tests], plugins=[forker, forker.failures])
    for problem in forker.failures.broken:
        say(problem.replace("\n", " "))


def _limit() -> None:
    signal.setitimer(signal.ITIMER_PROF, SECONDS_A_GUARD)
    signal.setitimer(signal.ITIMER_REAL, 10 * SECONDS_A_GUARD)


def _forget_ours() -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] in _OURS:
            del sys.modules[name]


class _Forker:
    """A pytest plugin: once all tests are collected, a fork of the process for each guard."""

    def __init__(self, tree: Path, guards: Sequence[Guard], say: Say) -> None:
        self._tree = tree
        self._guards = guards
        self._say = say
        self.failures = Failures()

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        # In this very process: what they load and make on the way is there in every fork.
        self._run(session.items)
        if self.failures.failed or self.failures.broken:
            self._say(f"the tests fail as they are: {', '.join(self.failures.failed)}")
            return True
        gc.freeze()  # else each fork would go through all of it, and so copy it
        for guard in self._guards:
            self._say(f"{self._outcome(session, guard)}: {guard.name}, against {guard.what}")
        return True

    def _outcome(self, session: pytest.Session, guard: Guard) -> str:
        path = self._tree / guard.file
        path.write_text(guard.removed(), encoding="utf-8")
        try:
            said: list[str] = []
            if not guard.file.endswith(".py"):  # which a process has loaded already
                said += _said_by_fork(lambda say: self._try(session, guard, say))
            if not said:
                said += _said_by_fork(lambda say: self._try_anew(guard, say))
        finally:
            path.write_text(guard.text, encoding="utf-8")
        return said[0] if said else "NOT NOTICED"

    def _run(self, items: Sequence[pytest.Item]) -> None:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failures.failed:
                return

    def _try(self, session: pytest.Session, guard: Guard, say: Say) -> None:
        _limit()
        with packaging_in_process():
            self._run([item for item in session.items if item.nodeid.startswith(guard.tests)])
        if self.failures.failed:
            say(f"noticed by {self.failures.failed[0]}")

    def _try_anew(self, guard: Guard, say: Say) -> None:
        _limit()
        _forget_ours()
        failures = Failures()
        options = (*_OPTIONS, "-x", f"--rootdir={self._tree}")
        pytest.main([*options, *guard.tests], plugins=[failures])
        if failures.failed:
            say(f"noticed by {failures.failed[0]}")


def packaging_in_process() -> AbstractContextManager[object]:
    """Makes the same template in a fourth of the time: without a new process and dependencies."""
    # Not by its name: mypy knows where it is, and `patch` that it has what is replaced.
    from infra.deployment import packaging

    cli: Any = importlib.import_module("chalice.cli")
    yaml: Any = importlib.import_module("yaml")
    packaging.BUILD.mkdir(exist_ok=True)
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

    faster: dict[str, Any] = {
        "_run": run,
        "_dependencies": lambda *_: empty,
        "_make_reproducible": shutil.copy,
    }
    stack = ExitStack()
    stack.enter_context(patch.multiple(packaging, **faster))
    if hasattr(yaml, "CSafeLoader"):
        stack.enter_context(patch.object(yaml, "SafeLoader", yaml.CSafeLoader))
    return stack


if __name__ == "__main__":
    sys.exit(main())
