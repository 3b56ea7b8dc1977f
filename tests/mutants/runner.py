"""Tries mutants against the tests that run their lines: who noticed before first, then the fastest.

    this process ──fork──► on each core one that has collected all tests and knows who runs what
         │                       ├─fork─► swaps one function's code, runs tests until one fails
         │                       ├─fork─► ...
         └──fork──► for what is not within a function: imports everything anew, with that change

A fork takes milliseconds where starting Python and collecting the tests takes seconds.

A mutant survives when no test failed in `SECONDS_A_MUTANT` of tests; that a slower test would have
noticed it is not looked for. So the share that is noticed can be too low by this, never too high.

What was found is kept in `build/mutants`, and holds for as long as the test that noticed stays as
it is, and all that it imports. So a run that was interrupted goes on, and a new test is tried only
on what has survived so far.
"""

import ast
import gc
import hashlib
import importlib
import inspect
import json
import os
import resource
import signal
import sys
import time
import traceback
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cache, cached_property, partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.forks import Failures, load_beforehand, write_into
from tests.guards.memory import forget, module_name, swap
from tests.mutants.mutations import Mutant

TESTS = ("tests/unit", "tests/aws")
LEFT_OUT = "tests/unit/test_extending.py"
"""Takes half a minute, and runs no line that others do not run."""

SECONDS_A_MUTANT = 4.0
"""How many seconds of tests, by what they took before, a mutant has to survive."""

SECONDS_A_TEST = 2.0
"""How much CPU a test may take beyond ten times what it took before: then it loops endlessly."""

SECONDS_STUCK = 120
"""How long a test may wait beyond twenty times what it took before: then it waits for ever."""

MOST_MEMORY = 4 * 1024**3
_ERROR = Path("build/mutants/error.txt")
_SURVIVED, _KILLED, _BROKEN = 0, 1, 70
Answer = Callable[[Mutant, int | None, list[str]], None]
"""Takes of a mutant the exit status of its tests, None for no end, and which of them were tried."""

_OPTIONS = (
    *("-q", "-x", "--tb=no", f"--ignore={LEFT_OUT}"),
    *("-p", "no:cacheprovider", "-p", "no:xdist"),
)
_PRELOADED = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
_LOADED_BEFOREHAND = (
    *("boto3", "chalice.app", "chalice.local", "hypothesis", "jsonschema", "jwt", "moto"),
    *("moto.core.models", "moto.dynamodb.models", "moto.sqs.models", "pynamodb.connection"),
    *("yaml", "zoneinfo", "aws_lambda_powertools", "jinja2"),
)


class Fate(Enum):
    """What became of a mutant."""

    KILLED = "killed"
    TIMED_OUT = "ran out of time"
    SURVIVED = "survived"


@dataclass
class Plan:
    """Which tests run which lines of the files, and how long each takes in seconds.

    ``states``: of each test and each file of them, what it and all it depends on looks like now.
    """

    root: Path
    states: dict[str, str]
    lines: dict[str, dict[str, list[int]]]
    seconds: dict[str, float]
    killers: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    @cached_property
    def _by_line(self) -> dict[tuple[str, int], list[str]]:
        found: dict[tuple[str, int], list[str]] = defaultdict(list)
        for test, files in self.lines.items():
            for file, lines in files.items():
                for line in lines:
                    found[file, line].append(test)
        return found

    def tests_of(self, mutant: Mutant, known: "Verdict | None") -> list[str]:
        """The tests to try: who noticed it before, who noticed its neighbours, its own, the others.

        Those that it is known to survive are left out.
        """
        found = {
            test
            for line in range(mutant.first_line, mutant.last_line + 1)
            for test in self._by_line.get((mutant.file, line), ())
        }
        good = self.killers[mutant.file, mutant.function]
        own = _own_files(mutant)
        order = sorted(
            found,
            key=lambda test: (
                -good.index(test) - 1 if test in good else 0,
                not _file_of(test).endswith(own),
                not test.startswith(TESTS[0]),
                self.seconds[test],
                test,
            ),
        )
        if known and known.killer in found:
            order.remove(known.killer)
            order.insert(0, known.killer)
        chosen: list[str] = []
        left = SECONDS_A_MUTANT
        for test in order:
            is_tried = known and self.state_of(test) in known.survives
            if not is_tried and (not chosen or self.seconds[test] <= left):
                chosen.append(test)
                left -= self.seconds[test]
        return chosen

    def state_of(self, test: str) -> str:
        """What a test, or a file of them, looks like now; empty for one there is not any more."""
        return self.states.get(_function_of(test), "")

    def files_of(self, mutant: Mutant) -> list[str]:
        """The test files about a mutant's file, then others that run any of it, the fast first."""
        own = _own_files(mutant)
        cost: dict[str, float] = defaultdict(float)
        runs: set[str] = set()
        for test, files in self.lines.items():
            file = _file_of(test)
            cost[file] += self.seconds[test]
            if mutant.file in files or file.endswith(own):
                runs.add(file)
        order = sorted(
            runs, key=lambda file: (not file.endswith(own), TESTS[0] not in file, cost[file])
        )
        chosen: list[str] = []
        left = 4 * SECONDS_A_MUTANT
        for file in order:
            if not chosen or cost[file] <= left:
                chosen.append(file)
                left -= cost[file]
        return chosen


def _own_files(mutant: Mutant) -> tuple[str, str]:
    """How the files of tests end that are about a mutant's file, or its package."""
    path = Path(mutant.file)
    return f"test_{path.stem}.py", f"test_{path.parent.name}.py"


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _function_of(test: str) -> str:
    return test.partition("[")[0]


@contextmanager
def prepared(root: Path) -> Iterator[Plan]:
    """The plan: taken from the last time, but for the files of tests that have changed since."""
    kept = root / "build" / "mutants" / "plan.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    states = _states(root)
    functions = {function: state for function, state in states.items() if "::" in function}
    stored = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    stored = {state: stored[state] for state in functions.values() if state in stored}
    unknown = {function: state for function, state in functions.items() if state not in stored}
    load_beforehand(_LOADED_BEFOREHAND)
    if unknown:
        status = _in_child(lambda: _write_plan(root, kept, stored, unknown), seconds=3600)
        if status != 0:
            raise SystemExit("error: the tests fail as they are; run make test first")
        stored = json.loads(kept.read_text(encoding="utf-8"))
    plan = Plan(root, states, {}, {})
    for part in stored.values():
        plan.lines.update(part["lines"])
        plan.seconds.update(part["seconds"])
    yield plan


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

    def add(self, mutant: Mutant, fate: Fate, tried: Sequence[str]) -> None:
        """Remembers a verdict of now, and which tests it took; the last one is who noticed."""
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


def _name(mutant: Mutant) -> str:
    return _digest(repr((mutant.key, mutant.occurrence)).encode())


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
    for group in (open_, likely):
        within = [mutant for mutant in group if mutant.function]
        anew = [mutant for mutant in group if not mutant.function]
        for work, mutants_of_work in ((_try_within, within), (_try_anew, anew)):
            attempts = partial(work, plan, records)
            for mutant, fate, tried in _in_processes(attempts, mutants_of_work):
                records.add(mutant, fate, tried)
                yield mutant, fate


def _in_processes(
    work: Callable[[Sequence[Mutant], Answer], None], mutants: Sequence[Mutant]
) -> Iterator[tuple[Mutant, Fate, list[str]]]:
    """What a process on each core answers about its share of the mutants."""
    cores = os.cpu_count() or 1
    shares: list[dict[Mutant, int]] = [{} for _ in range(cores)]
    share_of: dict[tuple[str, ...], int] = {}
    for place, mutant in enumerate(mutants):
        # Mutants of a function stay together: who notices one is likely to notice the next.
        number = share_of.setdefault(_function_or_own(mutant), len(share_of) % cores)
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


def _function_or_own(mutant: Mutant) -> tuple[str, ...]:
    return (mutant.file, mutant.function) if mutant.function else (*mutant.key, "own")


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
) -> Iterator[tuple[Mutant, Fate, list[str]]]:
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
            yield mutants[place], _fate(status), tried
    if left:
        raise SystemExit(f"error: {left} mutants could not be tried; {_ERROR} may say why")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _states(root: Path) -> dict[str, str]:
    """Of each test and each file of them, a digest of it and of whatever it depends on."""
    data = hashlib.sha256()
    for path in sorted((*root.glob("chalicelib/**/*"), *root.glob("tests/fixtures/*"))):
        if path.suffix not in (".py", ".pyc") and path.is_file():
            data.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    states = {}
    for path in [path for folder in TESTS for path in sorted((root / folder).glob("test_*.py"))]:
        file = str(path.relative_to(root))
        if file == LEFT_OUT:
            continue
        needed: set[Path] = set()
        for one in (path, root / "tests" / "conftest.py", path.with_name("conftest.py")):
            _add_imports(root, one, needed)
        imported = b"".join(_content(one) for one in sorted(needed - {path}))
        functions, rest = _parts(path)
        common = data.digest() + imported + rest.encode()
        for name, text in functions.items():
            states[f"{file}::{name}"] = _digest(common + text.encode())
        states[file] = _digest(common + "".join(functions.values()).encode())
    return states


def _parts(path: Path) -> tuple[dict[str, str], str]:
    """The text of each test of a file, by name, and all that is left."""
    lines = _content(path).decode().split("\n")
    functions = {}
    for node in reversed(ast.parse(_content(path)).body):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            first = min((node.lineno, *(one.lineno for one in node.decorator_list))) - 1
            functions[node.name] = "\n".join(lines[first : node.end_lineno])
            lines[first : node.end_lineno] = []
    return functions, "\n".join(line for line in lines if line)


def _add_imports(root: Path, path: Path, found: set[Path]) -> None:
    """Adds a module of this repository and all that it imports of it, whether late or at once."""
    if path in found or not path.exists():
        return
    found.add(path)
    for imported in _imports(root, path):
        _add_imports(root, imported, found)


@cache
def _imports(root: Path, path: Path) -> tuple[Path, ...]:
    places: list[Path] = []
    for node in ast.walk(ast.parse(_content(path))):
        if isinstance(node, ast.Import):
            places += [root / alias.name.replace(".", "/") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else root
            place = base / (node.module or "").replace(".", "/")
            places += [place, *(place / alias.name for alias in node.names)]
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return tuple(file for file in files if file.exists())


@cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


def _in_child(work: Callable[[], int], seconds: float) -> int | None:
    """The exit status of what a forked process does; None when it ran out of time."""
    child = os.fork()
    if child == 0:
        code = _BROKEN
        try:
            write_into(os.devnull)
            resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            signal.setitimer(signal.ITIMER_REAL, seconds)
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


def _limit(seconds: float) -> None:
    """Ends this process if it takes much longer than that; of CPU, for others use the machine."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS_A_TEST + 10 * seconds)
    signal.setitimer(signal.ITIMER_REAL, SECONDS_STUCK + 20 * seconds)


def _fate(status: int | None) -> Fate:
    if status is None:
        return Fate.TIMED_OUT
    if status == _BROKEN:  # else a fault of this runner would pass for a test that notices
        raise SystemExit(f"error: a mutant could not be tried; {_ERROR} says why")
    return Fate.SURVIVED if status == _SURVIVED else Fate.KILLED


class _Importer(MetaPathFinder):
    """Imports one module from code of ours, which can use ``names`` besides its own."""

    def __init__(self, name: str, path: Path, code: types.CodeType, **names: Any) -> None:
        self._name = name
        self._path = path
        self._code = code
        self._names = names

    def find_spec(self, name: str, *_: Any) -> ModuleSpec | None:
        return spec_from_loader(name, self, origin=str(self._path)) if name == self._name else None  # type: ignore[arg-type]

    def create_module(self, _spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        module.__file__ = str(self._path)
        vars(module).update(self._names)
        exec(self._code, vars(module))  # noqa: S102


# --- Which test runs which line -------------------------------------------------------------------


class _Mapper(Failures):
    """Runs every test and notes which lines of the domain and the store it runs.

    A tracer would be told of every call within every library, which makes tests five times as
    slow. So the statements that are of interest say themselves that they are run.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.lines: dict[str, dict[str, list[int]]] = {}
        self.seconds: dict[str, float] = {}
        self._seen: set[tuple[str, int]] = set()
        product = root / "chalicelib"
        rooms = [path for room in ("domain", "store") for path in (product / room).glob("[!_]*.py")]
        for path in (*rooms, product / "plans_file.py"):
            file = str(path.relative_to(root))
            code = compile(self._noting(file, path), str(path), "exec")
            sys.meta_path.insert(0, _Importer(module_name(file), path, code, _ran=self._ran))

    def _ran(self, file: str, line: int) -> None:
        self._seen.add((file, line))

    def _noting(self, file: str, path: Path) -> ast.Module:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef):
                for node in ast.walk(function):
                    for block in ("body", "orelse", "finalbody"):
                        if isinstance(getattr(node, block, None), list):
                            setattr(node, block, list(_noting(file, node, getattr(node, block))))
        return ast.fix_missing_locations(tree)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self._seen.clear()
            # Else what is worked out once is run by the first test that needs it, and no other.
            forget()
            started = time.process_time()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            self.seconds[item.nodeid] = time.process_time() - started
            found: dict[str, list[int]] = defaultdict(list)
            for file, line in sorted({*self._seen}):
                found[file].append(line)
            self.lines[item.nodeid] = dict(found)
            if self.failed:
                break
        return True


def _noting(file: str, block_of: ast.AST, block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a block, each after a call that says it is run."""
    lines = {block_of.lineno} if isinstance(block_of, ast.ExceptHandler) else set()
    for statement in block:
        if not _is_docstring_or_noted(statement):
            lines.add(statement.lineno)
            if isinstance(statement, ast.FunctionDef):
                lines |= {decorator.lineno for decorator in statement.decorator_list}
            if isinstance(statement, ast.Match):
                lines |= {case.guard.lineno for case in statement.cases if case.guard}
            for line in sorted(lines):
                call = ast.parse(f"_ran({file!r}, {line})").body[0]
                for node in ast.walk(call):
                    ast.copy_location(node, statement)
                yield call
            lines = set()
        yield statement


def _is_docstring_or_noted(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and (
        isinstance(statement.value, ast.Constant)
        or (isinstance(statement.value, ast.Call) and ast.unparse(statement.value.func) == "_ran")
    )


def _write_plan(root: Path, kept: Path, stored: dict[str, Any], unknown: Mapping[str, str]) -> int:
    mapper = _Mapper(root)
    files = sorted({_file_of(function) for function in unknown})
    pytest.main([*_OPTIONS, *_PRELOADED, *files], plugins=[mapper])
    if mapper.failed or not mapper.lines:
        return 1
    for function, state in unknown.items():
        stored[state] = {
            name: {test: found for test, found in part.items() if _function_of(test) == function}
            for name, part in (("lines", mapper.lines), ("seconds", mapper.seconds))
        }
    kept.write_text(json.dumps(stored), encoding="utf-8")
    return 0


# --- Mutants within a function --------------------------------------------------------------------


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
            known = self._records.of(mutant)
            tests = self._plan.tests_of(mutant, known)
            reading, writing = os.pipe()
            status = _in_child(
                lambda mutant=mutant, tests=tests, writing=writing: self._try(  # type: ignore[misc]
                    session, items, mutant, tests, writing
                ),
                seconds=3600,
            )
            os.close(writing)
            # Written before each test: the last one is the one that failed or never ended.
            tried = os.read(reading, 1 << 20).decode().splitlines()
            os.close(reading)
            if tried and status != _SURVIVED:
                killer = tried[-1]
                good = self._plan.killers[mutant.file, mutant.function]
                if killer in good:
                    good.remove(killer)
                good.append(killer)
            self._answer(mutant, status, tried)
        return True

    def _warm_up(self, items: dict[str, pytest.Item]) -> None:
        """Runs the fastest test of each file that uses AWS: its clients need not be made again."""
        fastest: dict[str, str] = {}
        for test in sorted(items, key=lambda test: -self._plan.seconds[test]):
            if not test.startswith(TESTS[0]):
                fastest[_file_of(test)] = test
        for test in fastest.values():
            items[test].ihook.pytest_runtest_protocol(item=items[test], nextitem=None)

    def _try(
        self,
        session: pytest.Session,
        items: dict[str, pytest.Item],
        mutant: Mutant,
        tests: list[str],
        writing: int,
    ) -> int:
        failures = Failures()
        session.config.pluginmanager.register(failures)
        _swap(self._plan.root, mutant)
        for test in tests:
            _limit(self._plan.seconds[test])
            os.write(writing, f"{test}\n".encode())
            items[test].ihook.pytest_runtest_protocol(item=items[test], nextitem=None)
            if failures.failed or session.shouldstop or session.shouldfail:
                return _KILLED
        return _SURVIVED


def _try_within(plan: Plan, records: Records, mutants: Sequence[Mutant], answer: Answer) -> None:
    forker = _Forker(plan, records, mutants, answer)
    pytest.main([*_OPTIONS, *_PRELOADED, *TESTS], plugins=[forker])


def _swap(root: Path, mutant: Mutant) -> None:
    """Puts the mutated code into the living function."""
    whole = compile(mutant.text, str(root / mutant.file), "exec")
    found: Any = importlib.import_module(module_name(mutant.file))
    for name in mutant.function.split("."):
        found = inspect.getattr_static(found, name)
    swap(found, whole, mutant.function)
    forget()


# --- Mutants of a module's or a class's body ------------------------------------------------------


def _try_anew(plan: Plan, records: Records, mutants: Sequence[Mutant], answer: Answer) -> None:
    for mutant in mutants:
        status: int | None = _SURVIVED
        tried: list[str] = []
        for file in _files_to_try(plan, mutant, records.of(mutant)):
            tried.append(file)
            status = _in_child(partial(_import_and_test, plan, mutant, file), seconds=3600)
            if status != _SURVIVED:
                break
        answer(mutant, status, tried)


def _files_to_try(plan: Plan, mutant: Mutant, known: Verdict | None) -> list[str]:
    files = plan.files_of(mutant)
    if known and known.killer in files:
        files.remove(known.killer)
        files.insert(0, known.killer)
    elif known:
        files = [file for file in files if plan.state_of(file) not in known.survives]
    return files


def _import_and_test(plan: Plan, mutant: Mutant, file: str) -> int:
    path = plan.root / mutant.file
    code = compile(mutant.text, str(path), "exec")
    sys.meta_path.insert(0, _Importer(module_name(mutant.file), path, code))
    _limit(sum(seconds for test, seconds in plan.seconds.items() if _file_of(test) == file))
    found = pytest.main([*_OPTIONS, *_PRELOADED, file])
    return _SURVIVED if found == pytest.ExitCode.OK else _KILLED
