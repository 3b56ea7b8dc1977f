"""Which test runs which line, and how long it takes: what tests a mutant is tried against.

It is kept in `build/mutants`, and holds for as long as a test stays as it is, and all that it
imports. What the tests are asked again is what has changed.
"""

import ast
import hashlib
import json
import os
import re
import sys
import time
import types
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any

import pytest

from tests.forks import Failures, load_beforehand, write_into
from tests.parallel import in_processes

from .memory import forget, module_name
from .mutations import PRODUCT, Mutant, defined_by

CORES = os.cpu_count() or 1
Line = tuple[str, int]
Part = dict[str, dict[str, Any]]

TESTS = ("tests/unit", "tests/aws", "tests/simulation/test_throttled.py")
LEFT_OUT = "tests/unit/test_extending.py"
"""Takes half a minute, and runs no line that others do not run."""

MAPPED = (PRODUCT, "infra")
"""Of which folders it is noted which test runs which line."""

SECONDS_A_MUTANT = 8.0
"""How many seconds of tests, by what they took before, a mutant has to survive."""

LOADED_BEFOREHAND = (
    *("boto3", "chalice.app", "chalice.local", "hypothesis", "jsonschema", "jwt", "moto"),
    *("moto.core.models", "moto.dynamodb.models", "moto.sqs.models", "pynamodb.connection"),
    *("yaml", "zoneinfo", "aws_lambda_powertools", "jinja2"),
)

OPTIONS = (
    *("-q", "--tb=no", f"--ignore={LEFT_OUT}"),
    *("-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


@dataclass
class Plan:
    """Which tests run which lines of the files, and how long each takes in seconds.

    ``states``: what each test and all it depends on looks like now. ``killers``: who noticed
    mutants of a function or a constant so far, the last one last.
    """

    root: Path
    states: dict[str, str]
    lines: dict[str, dict[str, list[int]]]
    seconds: dict[str, float]
    killers: dict[tuple[str, ...], list[str]] = field(default_factory=lambda: defaultdict(list))

    @cached_property
    def _by_line(self) -> dict[Line, list[str]]:
        found: dict[Line, list[str]] = defaultdict(list)
        for test, files in self.lines.items():
            for file, lines in files.items():
                for line in lines:
                    found[file, line].append(test)
        return found

    @cached_property
    def _mentions(self) -> "_Mentions":
        return _Mentions(self.root)

    def tests_of(self, mutant: Mutant, killer: str, survived: Container[str]) -> list[str]:
        """The tests to try: who noticed it before, who noticed its neighbours, its own, the others.

        One of a test's many parameters is tried first, and the others when all else has passed.
        ``survived`` are the states of tests that it is known to survive: these are left out.
        """
        lines = [(mutant.file, line) for line in range(mutant.first_line, mutant.last_line + 1)]
        own = own_files(mutant)
        found: set[str] = set()
        if not mutant.function:
            lines += self._mentions.of(mutant.names)
            # A test of a constant alone runs no line of the product.
            found = {test for test in self.seconds if own.fullmatch(file_of(test))}
        found.update(test for line in lines for test in self._by_line.get(line, ()))
        good = self.killers[mutant.place]
        tried: Counter[str] = Counter()
        ranks = {}
        for test in sorted(found, key=lambda test: (self.seconds[test], test)):
            ranks[test] = (
                test != killer,
                -good.index(test) - 1 if test in good else 0,
                tried[function_of(test)] > 0,
                not own.fullmatch(file_of(test)),
                not test.startswith(TESTS[0]),
                self.seconds[test],
                test,
            )
            tried[function_of(test)] += 1
        ranked = [
            test
            for test in sorted(ranks, key=ranks.__getitem__)
            if self.state_of(test) not in survived
        ]
        chosen: set[str] = set()
        # With all their parameters, its own tests have time at least for half of it.
        of_its_own = [test for test in ranked if own.fullmatch(file_of(test))]
        for tests, seconds in ((of_its_own, SECONDS_A_MUTANT / 2), (ranked, SECONDS_A_MUTANT)):
            left = seconds - sum(self.seconds[test] for test in chosen)
            for test in tests:
                if test not in chosen and (not chosen or self.seconds[test] <= left):
                    chosen.add(test)
                    left -= self.seconds[test]
        return [test for test in ranked if test in chosen]

    def state_of(self, test: str) -> str:
        """What a test looks like now; empty for one there is not any more."""
        return self.states.get(function_of(test), "")

    def noticed(self, mutant: Mutant, killer: str) -> None:
        """Remembers who noticed a mutant: likely to notice its neighbours, too."""
        good = self.killers[mutant.place]
        if killer in good:
            good.remove(killer)
        good.append(killer)


class _Mentions:
    """The lines of the product's functions that mention what is defined in a module or a class.

    A function mentions itself: who runs it can notice that a default of its arguments is another.
    """

    def __init__(self, root: Path) -> None:
        self._lines: dict[str, set[Line]] = defaultdict(set)
        self._made_of: dict[str, set[str]] = defaultdict(set)
        for path in (root / PRODUCT).rglob("*.py"):
            tree = ast.parse(content_of(path))
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef):
                    for statement in ast.walk(function):
                        if isinstance(statement, ast.stmt):
                            line = str(path.relative_to(root)), statement.lineno
                            for name in (function.name, *_mentioned(statement)):
                                self._lines[name].add(line)
            for statement in tree.body:
                for name in _mentioned(statement):
                    self._made_of[name].update(defined_by(statement, ""))

    def of(self, names: Iterable[str]) -> set[Line]:
        """Those that mention a name, or a constant that is made of it."""
        found = {*names}
        new = found
        while new:
            new = {made for name in new for made in self._made_of[name]} - found
            found |= new
        return {line for name in found for line in self._lines[name]}


def _mentioned(statement: ast.stmt) -> Iterator[str]:
    """The names in a statement, and not in those that it has inside."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(node, ast.stmt):
                waiting.append(node)
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    yield name


def own_files(mutant: Mutant) -> re.Pattern[str]:
    """The files of tests that are about a mutant's file, or its package."""
    path = Path(mutant.file)
    return re.compile(rf".*/test_(?:{path.stem}(?:_\w+)?|{path.parent.name})\.py")


def file_of(test: str) -> str:
    """The file of a test."""
    return test.partition("::")[0]


def function_of(test: str) -> str:
    """A test without its parameters."""
    return test.partition("[")[0]


def prepared(root: Path) -> Plan:
    """The plan: taken from the last time, but for the tests that have changed since."""
    kept = root / "build" / "mutants" / "plan.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    states = _states(root)
    stored = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    stored = {state: stored[state] for state in states.values() if state in stored}
    unknown = {function: state for function, state in states.items() if state not in stored}
    if unknown:
        files = sorted({file_of(function) for function in unknown})
        failed: list[str] = []
        # Never in this process, which must not have loaded the product.
        for found, failed_of_share in in_processes(_mapped, shares_of(root, files), max(2, CORES)):
            failed += failed_of_share
            for function in found.keys() & states.keys():
                stored[states[function]] = found[function]
        kept.write_text(json.dumps(stored), encoding="utf-8")
        if failed:
            raise SystemExit(f"error: tests fail as they are: {', '.join(failed[:5])}")
    plan = Plan(root, states, {}, {})
    for part in stored.values():
        plan.lines.update(part["lines"])
        plan.seconds.update(part["seconds"])
    return plan


def shares_of(root: Path, files: Sequence[str]) -> list[tuple[Path, Sequence[str]]]:
    """What each core maps. Of no file there is no share: pytest would run all tests there are."""
    return [(root, share) for core in range(CORES) if (share := files[core::CORES])]


def digest(content: bytes) -> str:
    """A short one, of what never comes from outside."""
    return hashlib.sha256(content).hexdigest()[:16]


def _states(root: Path) -> dict[str, str]:
    """Of each test, a digest of it and of whatever it depends on."""
    data = hashlib.sha256()
    for path in sorted((*root.glob("chalicelib/**/*"), *root.glob("tests/fixtures/*"))):
        if path.suffix not in (".py", ".pyc") and path.is_file():
            data.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    states = {}
    for path in _files_of_tests(root):
        file = str(path.relative_to(root))
        needed: set[Path] = set()
        for one in (path, root / "tests" / "conftest.py", path.with_name("conftest.py")):
            _add_imports(root, one, needed)
        imported = b"".join(content_of(one) for one in sorted(needed - {path}))
        functions, rest = _parts(path)
        common = data.digest() + imported + rest.encode()
        for name, text in functions.items():
            states[f"{file}::{name}"] = digest(common + text.encode())
    return states


def _files_of_tests(root: Path) -> Iterator[Path]:
    for place in (root / test for test in TESTS):
        for path in sorted(place.glob("test_*.py")) if place.is_dir() else [place]:
            if str(path.relative_to(root)) != LEFT_OUT:
                yield path


def _parts(path: Path) -> tuple[dict[str, str], str]:
    """The text of each test of a file, by name, and all that is left."""
    lines = content_of(path).decode().split("\n")
    functions = {}
    for node in reversed(ast.parse(content_of(path)).body):
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
    for node in ast.walk(ast.parse(content_of(path))):
        if isinstance(node, ast.Import):
            places += [root / alias.name.replace(".", "/") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else root
            place = base / (node.module or "").replace(".", "/")
            places += [place, *(place / alias.name for alias in node.names)]
    files = (file for place in places for file in (place.with_suffix(".py"), place / "__init__.py"))
    return tuple(file for file in files if file.exists())


@cache
def content_of(path: Path) -> bytes:
    """What is in a file; it is read once."""
    return path.read_bytes()


class Importer(MetaPathFinder):
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

    def get_code(self, _name: str) -> types.CodeType:
        """What `runpy` runs as a program, where nothing else than the code is known."""
        return compile(content_of(self._path), self._path, "exec") if self._names else self._code

    def exec_module(self, module: types.ModuleType) -> None:
        module.__file__ = str(self._path)
        vars(module).update(self._names)
        exec(self._code, vars(module))  # noqa: S102


class _Mapper(Failures):
    """Runs every test and notes which lines of the product it runs.

    A tracer would be told of every call within every library, which makes tests five times as
    slow. So the statements that are of interest say themselves that they are run.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.found: dict[str, Part] = defaultdict(lambda: {"lines": {}, "seconds": {}})
        self._seen: set[tuple[str, int]] = set()
        for path in (path for place in MAPPED for path in (root / place).rglob("[!_]*.py")):
            file = str(path.relative_to(root))
            code = compile(_noting_all(file, path), str(path), "exec")
            sys.meta_path.insert(0, Importer(module_name(file), path, code, _ran=self._ran))

    def _ran(self, file: str, line: int) -> None:
        self._seen.add((file, line))

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for item in session.items:
            self._seen.clear()
            # Else what is worked out once is run by the first test that needs it, and no other.
            forget()
            started = time.process_time()
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
            seconds = time.process_time() - started
            lines: dict[str, list[int]] = defaultdict(list)
            for file, line in sorted(self._seen.copy()):
                lines[file].append(line)
            part = self.found[function_of(item.nodeid)]
            part["lines"][item.nodeid], part["seconds"][item.nodeid] = dict(lines), seconds
        return True


def _noting_all(file: str, path: Path) -> ast.Module:
    tree = ast.parse(content_of(path))
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                for block in ("body", "orelse", "finalbody"):
                    if isinstance(getattr(node, block, None), list):
                        setattr(node, block, list(_noting(file, node, getattr(node, block))))
    return ast.fix_missing_locations(tree)


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


def _mapped(share: tuple[Path, Sequence[str]]) -> tuple[dict[str, Part], list[str]]:
    """What each test of some files runs, and those that fail."""
    root, files = share
    os.chdir(root)
    write_into(os.devnull)
    load_beforehand(LOADED_BEFOREHAND)
    mapper = _Mapper(root)
    pytest.main([*OPTIONS, *files], plugins=[mapper])
    failed = [*mapper.broken, *mapper.failed]
    bad = {function_of(test) for test in failed}
    return {name: part for name, part in mapper.found.items() if name not in bad}, failed
