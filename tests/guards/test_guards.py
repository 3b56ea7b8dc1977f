"""The list of guards is whole and true; `python -m tests.guards` takes each of them away."""

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain.batches import available
from tests.guards import memory
from tests.guards.__main__ import all_guards
from tests.guards.guard import LEAST_WORDS, ROOT, Guard, LostGuardError, without

PRODUCT = sorted((ROOT / "chalicelib").rglob("*.py"))


@cache
def guards() -> list[Guard]:
    return all_guards()


@cache
def guarded_lines() -> dict[str, set[int]]:
    """Of each file of Python, the lines that the removal of some guard changes."""
    lines: dict[str, set[int]] = defaultdict(set)
    for guard in guards():
        if guard.file.endswith(".py"):
            lines[guard.file] |= guard.lines
    return lines


def test_every_guard_is_where_it_is_said_to_be_and_what_is_left_can_be_read() -> None:
    for guard in guards():
        assert guard.removed()


def test_every_guard_has_a_name_of_its_own_and_says_what_it_is_for() -> None:
    names = [guard.name for guard in guards()]
    assert len(set(names)) == len(names)
    for guard in guards():
        assert len(guard.what.split()) >= LEAST_WORDS, guard.name
        assert guard.tests, guard.name


def test_every_test_that_a_guard_names_is_there() -> None:
    named: dict[str, set[str]] = defaultdict(set)
    for test in (test for guard in guards() for test in guard.tests):
        file, _, name = test.partition("::")
        named[file].add(name)
    for file, names in named.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert names <= set(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE)), file


def test_a_guard_that_is_not_where_it_was_is_an_error() -> None:
    lost = without("a-guard", "if amount > limit:", "if False:")
    assert lost("if amount > limit:\n    refuse()") == "if False:\n    refuse()"
    for text in ("if amount > most:", "if amount > limit:\nif amount > limit:"):
        with pytest.raises(LostGuardError):
            lost(text)


# --- Nothing is missing ---------------------------------------------------------------------------


def unguarded(found: Iterator[tuple[Path, ast.AST]]) -> list[str]:
    """Of some places in the product, those that no guard is about."""
    missing = []
    for path, node in found:
        file = str(path.relative_to(ROOT))
        first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
        if not guarded_lines()[file] & set(range(first, last + 1)):
            missing.append(f"{file}:{first} {ast.unparse(node).splitlines()[0][:80]}")
    return missing


def nodes(*folders: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in PRODUCT:
        inside = path.relative_to(ROOT / "chalicelib").parts[0]
        if not folders or inside in folders:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                yield path, node


STATEMENTS = {"execute_statement", "batch_execute_statement", "execute_transaction"}


def test_every_condition_of_a_write_is_guarded() -> None:
    def conditions() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes("store"):
            if isinstance(node, ast.keyword) and node.arg in ("condition", "ConditionExpression"):
                yield path, node
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "ConditionExpression":
                        yield path, value
            # PartiQL's INSERT has its condition built in: to put instead takes it away.
            if isinstance(node, ast.Attribute) and (
                node.attr == "does_not_exist" or node.attr in STATEMENTS
            ):
                yield path, node

    assert len(list(conditions())) >= 7
    assert unguarded(conditions()) == []


def test_every_consistent_read_is_guarded() -> None:
    def reads() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes("store"):
            if isinstance(node, ast.keyword):
                named: list[tuple[object, ast.AST]] = [(node.arg, node.value)]
            elif isinstance(node, ast.Dict):
                keys = (key.value if isinstance(key, ast.Constant) else None for key in node.keys)
                named = list(zip(keys, node.values, strict=True))
            else:
                continue
            for name, value in named:
                if name in ("consistent", "consistent_read", "ConsistentRead") and (
                    isinstance(value, ast.Constant) and value.value
                ):
                    yield path, value

    assert len(list(reads())) == 6
    assert unguarded(reads()) == []


_ASKS = re.compile(r"may_\w+|\w+_credits_of|authenticated|_needs|isdisjoint")


def test_every_question_who_may_do_what_is_guarded() -> None:
    def questions() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes("api"):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and _ASKS.fullmatch(node.func.attr)
            ):
                yield path, node

    assert len(list(questions())) >= 18
    assert unguarded(questions()) == []


_REFUSALS = {"BodyTooLarge", "Forbidden", "InvalidToken", "Unauthenticated", "UnsupportedMediaType"}


def test_every_refusal_of_a_caller_is_guarded() -> None:
    def refusals() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes("api"):
            if isinstance(node, ast.If):
                raised = [inner.exc for inner in node.body if isinstance(inner, ast.Raise)]
                names = {ast.unparse(error).partition("(")[0] for error in raised if error}
                if names & _REFUSALS:
                    yield path, node.test

    assert len(list(refusals())) >= 9
    assert unguarded(refusals()) == []


def test_every_refusal_of_a_decision_is_guarded() -> None:
    def refusals() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes("domain"):
            if path.name in ("ledger.py", "batches.py") and isinstance(node, ast.If):
                raised = [inner.exc for inner in node.body if isinstance(inner, ast.Raise)]
                names = {ast.unparse(error).partition("(")[0] for error in raised if error}
                if names & {"NotAllowed", "InsufficientCredits", "ValueError"}:
                    yield path, node

    assert len(list(refusals())) >= 14
    assert unguarded(refusals()) == []


_NOT_A_BOUND = {
    "FIRST_HASH": "what stands before the first entry",
    "EXPIRY_SHARDS": "how the index is spread",
    "PLACES": "how many places there are",
    "PLACE_BITS": "how a place is written",
    "SCHEMA": "the form of an entry",
    "THREADS": "how many users a worker handles at once",
}
"""Numbers that limit nothing, and what they are."""


def test_every_number_that_has_a_name_is_guarded() -> None:
    def numbers() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes():
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                has_number = any(
                    isinstance(inner, ast.Constant)
                    and isinstance(inner.value, (int, float))
                    and not isinstance(inner.value, bool)
                    for inner in ast.walk(node.value)
                )
                is_plain = isinstance(node.value, (ast.Constant, ast.BinOp))
                if name.isupper() and has_number and is_plain and name not in _NOT_A_BOUND:
                    yield path, node

    assert len(list(numbers())) >= 40
    assert unguarded(numbers()) == []


def test_every_length_in_a_pattern_is_guarded() -> None:
    def patterns() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes():
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "re.compile":
                text = ast.unparse(node.args[0])
                if re.search(r"\{\d,\d+\}", text):
                    yield path, node

    assert len(list(patterns())) >= 6
    assert unguarded(patterns()) == []


def test_every_clients_patience_is_guarded() -> None:
    def patience() -> Iterator[tuple[Path, ast.AST]]:
        for path, node in nodes():
            if isinstance(node, ast.keyword) and re.fullmatch(
                r"(connect_|read_)?timeout(_seconds)?|retries|attempts|max_retry_attempts",
                node.arg or "",
            ):
                yield path, node

    assert len(list(patience())) >= 11
    assert unguarded(patience()) == []


# --- Taking a guard out of memory -----------------------------------------------------------------


def test_what_is_replaced_in_memory_is_seen_by_those_who_hold_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields: Any = importlib.import_module("chalicelib.domain.fields")
    plans: Any = importlib.import_module("chalicelib.domain.plans")
    file = "chalicelib/domain/fields.py"
    before = (ROOT / file).read_text(encoding="utf-8")
    after = before.replace("MAXIMUM_AMOUNT = 1_000_000_000", "MAXIMUM_AMOUNT = 7")
    monkeypatch.setattr(fields, "MAXIMUM_AMOUNT", fields.MAXIMUM_AMOUNT)
    monkeypatch.setattr(plans, "MAXIMUM_AMOUNT", plans.MAXIMUM_AMOUNT)
    memory.replace(file, before, after)
    assert (fields.MAXIMUM_AMOUNT, plans.MAXIMUM_AMOUNT) == (7, 7)


def test_the_code_of_a_function_is_replaced_where_it_is_held() -> None:
    file = "chalicelib/domain/batches.py"
    before = (ROOT / file).read_text(encoding="utf-8")
    after = before.replace(
        "    return sum(batch.remaining for", "    return 1 + sum(batch.remaining for"
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    try:
        memory.replace(file, before, after)
        assert available((), now) == 1
    finally:
        memory.replace(file, after, before)
    assert available((), now) == 0
