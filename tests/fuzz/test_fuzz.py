"""A short run over every reader, the list of readers, and mistakes that must be found."""

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest

from chalicelib.api import account
from chalicelib.domain import damage, fields, instants
from chalicelib.domain.errors import InvalidInput
from chalicelib.jobs import sweeps
from chalicelib.store import subscriptions
from tests.fuzz import __main__ as command
from tests.fuzz.engine import ROOT, Answer, Failure, Kind, Target, execute, run, shrunk
from tests.fuzz.handlers import NAMES_OF_ROUTES, REQUESTS
from tests.fuzz.mutation import Mutator
from tests.fuzz.targets import TARGETS, shares, staged

EXECUTIONS = 60_000


# --- A short run ----------------------------------------------------------------------------------


def test_hostile_input_comes_to_a_valid_value_or_to_an_error_of_our_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status = command.main(["--executions", str(EXECUTIONS), "--seed", "2026"])
    said = capsys.readouterr().out
    assert status == 0, said
    last = said.splitlines()[-1]
    assert last.startswith(f"{EXECUTIONS:,} executions of {len(TARGETS)} readers")
    assert last.endswith(": 0 failures")


def test_the_seeds_are_inputs_that_are_accepted() -> None:
    refused = {
        (name, target.kind.encode(seed)[:80])
        for name, target in TARGETS.items()
        for seed, answer in ((seed, answered(target, seed)) for seed in target.seeds)
        if not answer.is_accepted
    }
    assert {name for name, _ in refused} == {"token, signed by nobody"}


def answered(target: Target, given: Any) -> Answer:
    with staged():
        answer = execute(target, given)
    assert not isinstance(answer, Failure), answer.error
    return answer


def test_executions_are_shared_out_to_the_last_one() -> None:
    given = shares(10_000_000, list(TARGETS.values()))
    assert sum(given.values()) == 10_000_000
    assert min(given.values()) > 10_000


# --- The list of readers --------------------------------------------------------------------------

READS = {
    *("loads", "load", "fromisoformat", "fromhex", "b64decode", "urlsafe_b64decode", "unquote"),
    *("decode_complete", "get_unverified_header", "reader", "DictReader", "parse_qsl", "strptime"),
}
"""What is called to make sense of a text."""

NAME = re.compile(
    r"_?(parse|parsed|decode|from_body|read_(entry|line|marker|reversal|subscription|mail))(_.*)?"
)

NOT_FROM_OUTSIDE = {
    "infra/packages/advisories.py _documents": "a file that whoever looks for advisories brings",
    "infra/packages/advisories.py _instant": "the same, in a test of its own",
    "infra/deployment/handover.py load": "a package that is known by its digest",
    "infra/commands/completeness.py _count": "the answer of a function of ours",
    "infra/local/console/server.py _Handler._get": "requests of the local page, on loopback",
    "infra/local/console/server.py _Handler._post": "requests of the local page, on loopback",
    "infra/pages/dashboard_picture.py Day._due_at": "the sample that is in the repository",
    "infra/pages/dashboard_picture.py filled_in": "the dashboard that is in the repository",
    "infra/commands/deploy.py _package_of": "a package that is known by its digest",
    "infra/doctor/running.py _last_report": "a report that a function of ours wrote",
    "infra/local/emulated_statements.py _parsed": "requests of PartiQL, in the emulator",
    "infra/local/emulated_statements.py _read": "PartiQL and its answers, in the emulator",
    "infra/local/emulated_services.py _extract_metrics.<locals>.appended": "lines, in the emulator",
    "infra/local/emulated_services.py _take_keys_from_authorizers": "requests, in the emulator",
    "infra/local/guard.py GuardedHandler.parse_request": "requests to the local stack, on loopback",
    "infra/local/stacks.py _holder": "what another process of the local stack wrote of itself",
    "infra/local/stacks.py running_stack": "what this program wrote of the stack it runs",
    "infra/local/outbox.py sent_mails": "the emulator's outbox",
    "infra/deployment/packaging.py Package.template_for": "a template that was just made",
    "infra/deployment/packaging.py _complete_policies": "the policies, in the repository",
    "infra/deployment/packaging.py _strip_descriptions": "botocore's own files, pinned",
    "infra/deployment/packaging.py stages": ".chalice/config.json, in the repository",
    "infra/commands/reference.py main": "the contract, in the repository",
    "infra/repair/command.py parsed": "hands on to a parser",
    "infra/repair/export.py _described": "entries that were verified",
    "infra/commands/security.py are_packages_clean": "the report of pip-audit, pinned",
    "infra/ticks.py Ticks.invoke": "the answer of a function of ours",
    "infra/local/tokens.py _Handler.do_POST": "requests to the local issuer, on loopback",
    "infra/local/tokens.py issue": "the answer of the local stack's own issuer",
}
"""Readers that no target tries, and what they read."""


def readers() -> set[str]:
    """Every function of the product that reads a text, by its name or by what it calls."""
    found = set()
    for path in (
        ROOT / "app.py",
        *(ROOT / "chalicelib").rglob("*.py"),
        *(ROOT / "infra").rglob("*.py"),
    ):
        for name, function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            if NAME.fullmatch(function.name) or calls(function) & READS:
                found.add(f"{path.relative_to(ROOT)} {name}")
    return found


def functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef):
            yield prefix + node.name, node
            yield from functions(node, f"{prefix}{node.name}.<locals>.")
        elif isinstance(node, ast.ClassDef):
            yield from functions(node, f"{prefix}{node.name}.")
        else:
            yield from functions(node, prefix)


def calls(function: ast.FunctionDef) -> set[str]:
    """The last names of what a function calls, without the functions in it."""
    inner = {node for _, each in functions(function) for node in ast.walk(each)}
    return {
        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and node not in inner
    }


@contextmanager
def noting(seen: set[str]) -> Iterator[None]:
    """Within the block every function of the product that runs is noted."""

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            seen.add(f"{frame.f_code.co_filename} {frame.f_code.co_qualname}")

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def test_every_reader_of_the_product_is_reached_by_a_target_or_explained() -> None:
    seen: set[str] = set()
    with staged(), noting(seen):
        for target in TARGETS.values():
            run(target, 30, seed=1)
    reached = {place.removeprefix(f"{ROOT}/") for place in seen}
    assert readers() - reached == set(NOT_FROM_OUTSIDE)


def test_there_is_a_request_to_every_route() -> None:
    assert set(REQUESTS) == NAMES_OF_ROUTES


# --- It can fail ----------------------------------------------------------------------------------

MISTAKES: dict[str, tuple[str, Any, str, Any]] = {
    "half a character is taken for text": (
        "field: text",
        fields,
        "_is_encodable",
        lambda _: True,
    ),
    "an instant may be in any year": (
        "field: instant",
        instants,
        "check_year",
        lambda *_: None,
    ),
    "a ledger entry of an instant that is none stops its reader": (
        "ledger entry",
        damage,
        "WRONG",
        (AttributeError, InvalidInput, LookupError, TypeError),
    ),
    "an attribute is of whatever type": (
        "item: subscription",
        subscriptions,
        "as_text",
        lambda attribute: next(iter(attribute.values())),
    ),
    "an item is read as if it were whole": (
        "item: subscription",
        subscriptions,
        "read",
        lambda _table, _key, item, reader: reader(item),
    ),
    "a weight of the Accept header is read as it comes": (
        "header: Accept",
        account,
        "_number",
        float,
    ),
    "the shard in a cursor is not looked at": (
        "queue: sweeps",
        sweeps,
        "_expiry_position",
        lambda _sweep, cursor: (int(cursor.split(" ")[1]), None),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_reader_is_found(mistake: str) -> None:
    name, owner, attribute, wrong = MISTAKES[mistake]
    with staged(), patch.object(owner, attribute, wrong):
        result = run(TARGETS[name], 4_000, seed=1)
        assert result.failures
        for failure in result.failures.values():
            assert isinstance(execute(TARGETS[name], failure.given), Failure)


def test_what_fails_is_made_small_and_can_be_replayed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with patch.object(fields, "_is_encodable", lambda _: True):
        assert command.main(["--target", "field: text", "--executions", "4000"]) == 1
        said = capsys.readouterr().out
        replay = re.search(r'--target "field: text" --replay ([0-9a-f]+)', said)
        assert replay
        assert len(bytes.fromhex(replay[1])) <= len(r'"\ud800"')
        assert command.main(["--target", "field: text", "--replay", replay[1]]) == 1
        assert "UnicodeEncodeError" in capsys.readouterr().out
    assert command.main(["--target", "field: text", "--replay", replay[1]]) == 0
    assert "field: text: refused" in capsys.readouterr().out


def test_an_input_is_replayed_from_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "input.bin"
    file.write_bytes(b'{"user_id":"1","number":3}')
    words = ["--target", "message: notification", "--replay", str(file)]
    assert command.main(words) == 0
    assert "message: notification: accepted" in capsys.readouterr().out


def test_the_same_seed_makes_the_same_inputs() -> None:
    def inputs(seed: int) -> list[Any]:
        given: list[Any] = []
        target = Target("t", Kind.JSON, ('{"a":[1,"x"]}',), lambda text: note(given, text))
        run(target, 200, seed)
        return given

    assert inputs(1) == inputs(1) != inputs(2)


def note(given: list[Any], text: str) -> Answer:
    given.append(text)
    return Answer(is_accepted=len(given) % 2 == 0, how=len(text))


def test_a_failing_input_is_shrunk_as_long_as_it_fails_in_the_same_way() -> None:
    def call(value: Any) -> Answer:
        if isinstance(value, dict) and "b" in str(value.get("a")):
            raise ZeroDivisionError
        raise ArithmeticError

    target = Target("t", Kind.VALUE, ({},), call)
    found = execute(target, {"a": ["x", "abc", 5], "c": 1})
    assert isinstance(found, Failure)
    assert shrunk(target, found) in ({"a": ["b"]}, {"a": "b"})


# --- Bounded work ---------------------------------------------------------------------------------


def lines_run(target: Target, given: Any) -> int:
    """How many lines of Python it takes to answer."""
    count = 0

    def trace(_: FrameType, event: str, __: object) -> Callable[..., Any]:
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        target.call(given)
    finally:
        sys.settrace(None)
    return count


def grown(target: Target, times: int) -> Iterator[Any]:
    """Inputs that grow with ``times``, each in another way."""
    seed = target.seeds[0]
    if target.kind is not Kind.VALUE:
        piece = seed[: len(seed) // 2]
        yield from (piece * times, seed + seed[-1:] * 20 * times, seed[:1] * 20 * times)
        if target.kind is Kind.JSON:
            yield "[" + ",".join([seed] * times) + "]"
            yield seed[:-1] + "".join(f',"x{place}":1' for place in range(10 * times)) + "}"
        return
    yield from (str(seed) * times, [seed] * times, {f"x{place}": seed for place in range(times)})
    if isinstance(seed, dict):
        yield seed | {f"x{place}": 1 for place in range(10 * times)}
        for name, value in seed.items():
            yield seed | {name: str(value) * times}
            yield seed | {name: [value] * times}


QUADRATIC = {
    "plans.toml": "of a file with a mistake, ever longer beginnings are read to find its line",
}


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in QUADRATIC])
def test_an_input_of_twice_the_size_takes_about_twice_the_work(name: str) -> None:
    target = TARGETS[name]
    with staged():
        for smaller, larger in zip(grown(target, 40), grown(target, 80), strict=True):
            target.call(larger)  # what is made once is made by now
            assert lines_run(target, larger) <= 2.5 * lines_run(target, smaller) + 1_000


def test_mutations_of_a_large_value_stay_within_bounds() -> None:
    mutator = Mutator(Random(1))
    text = '{"a":' + "1" * 5_000 + "}"
    for _ in range(300):
        text = mutator.text(text) or "x"
        assert len(text) <= 20_000
