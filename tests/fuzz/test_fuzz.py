"""A short run over every reader, the list of readers, and mistakes that must be found."""

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any
from unittest.mock import patch

import pytest

from chalicelib import settings
from chalicelib.api import account
from chalicelib.domain import damage, edits, fields, instants
from chalicelib.domain.errors import InvalidInput
from chalicelib.jobs import audits, sweeps
from chalicelib.services import Services
from chalicelib.store import subscriptions
from tests.fuzz import __main__ as command
from tests.fuzz.__main__ import ROOT
from tests.fuzz.handlers import NAMES_OF_ROUTES, REQUESTS, staged
from tests.fuzz.hostile import neighbours
from tests.fuzz.hunt import TARGETS, hunt
from tests.fuzz.target import Amiss, Kind, Target, attempt

EVERY, EXAMPLES = 200, 4


@pytest.fixture(scope="module", autouse=True)
def stage() -> Iterator[None]:
    with staged():
        yield


# --- A short run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_comes_to_a_valid_value_or_to_an_error_of_our_own(name: str) -> None:
    found = hunt(TARGETS[name], EVERY, EXAMPLES)
    assert not found.failure, found.failure
    assert found.accepted or name == "token, signed by nobody"


def test_the_seeds_are_inputs_that_are_accepted() -> None:
    refused = {
        (name, target.kind.encode(seed)[:80])
        for name, target in TARGETS.items()
        for seed in target.seeds
        if not attempt(target, seed)
    }
    assert {name for name, _ in refused} == {"token, signed by nobody"}


# --- The list of readers --------------------------------------------------------------------------

READS = {
    *("loads", "load", "fromisoformat", "fromhex", "b64decode", "urlsafe_b64decode", "unquote"),
    *("decode_complete", "get_unverified_header", "reader", "DictReader", "parse_qsl", "strptime"),
}
"""What is called to make sense of a text."""

NAME = re.compile(
    r"_?(parse|parsed|decode|from_body|read_(entry|line|marker|link|subscription|mail))(_.*)?"
)

NOT_FROM_OUTSIDE = {
    "chalicelib/store/wire/proxies.py asking": "the proxy that an operator names",
    "infra/packages/advisories.py _documents": "a file that an operator brings",
    "infra/packages/advisories.py _instant": "the same, in a test of its own",
    "infra/deployment/handover.py load": "a package that is known by its digest",
    "infra/commands/completeness.py _count": "the answer of a function of ours",
    "infra/local/console/server.py _Handler._get": "requests of the local page, on loopback",
    "infra/local/console/server.py _Handler._post": "requests of the local page, on loopback",
    "infra/pages/dashboard_picture.py Day._due_at": "the sample that is in the repository",
    "infra/pages/dashboard_picture.py filled_in": "the dashboard that is in the repository",
    "infra/commands/whatif.py Run.found": "how far this command has come, as it wrote",
    "infra/commands/deploy.py _package_of": "a package that is known by its digest",
    "infra/commands/deploy.py _package_of.<locals>.made": "the same, again",
    "infra/doctor/running.py _last_report": "a report that a function of ours wrote",
    "infra/local/emulated_statements.py _parsed": "requests of PartiQL, in the emulator",
    "infra/local/emulated_statements.py _read": "PartiQL and its answers, in the emulator",
    "infra/local/emulated_services.py _extract_metrics.<locals>.appended": "lines, in the emulator",
    "infra/local/emulated_services.py _take_keys_from_authorizers": "requests, in the emulator",
    "infra/local/guard.py GuardedHandler.parse_request": "requests to the local stack, on loopback",
    "infra/local/stacks.py _holder": "what another process of the local stack wrote of itself",
    "infra/local/stacks.py running_stack": "what this program wrote of the stack it runs",
    "infra/local/client_credentials.py _basic": "requests to the local issuer, on loopback",
    "infra/local/client_credentials.py form_of": "requests to the local issuer, on loopback",
    "infra/local/events.py _received": "what the local stack's bus delivers to us",
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
    "infra/local/sign_in.py SignIn.answered": "requests to the local issuer, on loopback",
    "infra/local/sign_in.py SignIn.where_to_refuse": "the same, once they were refused",
    "infra/local/sign_in.py _once": "requests to the local issuer, on loopback",
    "infra/local/tokens.py _ask": "the answer of the local stack's own issuer",
}
"""Readers that no target tries, and what they read."""


def readers() -> set[str]:
    """Every function of the product that reads a text, by its name or by what it calls."""
    found = set()
    folders = (ROOT / "chalicelib", ROOT / "infra")
    for path in (ROOT / "app.py", *(file for each in folders for file in each.rglob("*.py"))):
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
    inputs = [
        (target, given)
        for target in TARGETS.values()
        for given in (*target.seeds, *neighbours(target, 0, 1_499))
    ]
    seen: set[str] = set()
    with noting(seen):
        for target, given in inputs:
            attempt(target, given)
    reached = {place.removeprefix(f"{ROOT}/") for place in seen}
    assert readers() - reached == set(NOT_FROM_OUTSIDE)


def test_there_is_a_request_to_every_route() -> None:
    assert set(REQUESTS) == NAMES_OF_ROUTES


# --- It can fail ----------------------------------------------------------------------------------


def _of_the_day(services: Services, event_id: str) -> object:
    event_id.encode()
    return _original_day(services, event_id)


_original_day = audits._of_the_day


def _number(environment: Mapping[str, str], name: str, *more: Any) -> Any:
    try:
        return _original_number(environment, name, *more)
    except ValueError as error:
        raise ValueError(f"{name} must be a number; is {environment[name]}") from error


_original_number = settings._number

MISTAKES: dict[str, tuple[str, Any, str, Any]] = {
    "half a character is taken for text": (
        *("field: text", fields, "_is_encodable"),
        lambda _: True,
    ),
    "an instant may be in any year": ("field: instant", instants, "check_year", lambda *_: None),
    "a ledger entry of an invalid instant stops its reader": (
        *("ledger entry", damage, "WRONG"),
        (AttributeError, InvalidInput, LookupError, TypeError),
    ),
    "an attribute is of whatever type": (
        *("item: subscription", subscriptions, "as_text"),
        lambda attribute: next(iter(attribute.values())),
    ),
    "an item is read as if it were whole": (
        *("item: subscription", subscriptions, "read"),
        lambda _table, _key, item, reader: reader(item),
    ),
    "a weight of the Accept header is read as it comes": (
        *("header: Accept", account, "_number", float),
    ),
    "an id of an event is taken for text": ("event: audit", audits, "_of_the_day", _of_the_day),
    "an edit may be made between two milliseconds": (
        *("record of an edit", edits, "instant", instants.stored_instant),
    ),
    "a refusal quotes all of a setting": ("settings", settings, "_number", _number),
    "the shard in a cursor is not looked at": (
        *("queue: sweeps", sweeps, "_expiry_position"),
        lambda _sweep, cursor: (int(cursor.split(" ")[1]), None),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_reader_is_found(mistake: str) -> None:
    name, owner, attribute, wrong = MISTAKES[mistake]
    target = TARGETS[name]
    with patch.object(owner, attribute, wrong):
        # A function takes a millisecond, and what is wrong with its message is far down the list.
        found = hunt(target, 19 if name.startswith(("queue", "event")) else 1, 400)
        assert found.failure
        with pytest.raises(Amiss):
            attempt(target, found.given)


def test_what_fails_is_made_small_and_can_be_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--target", "field: text", "--examples", "4000", "--every", "1000000"]
    with patch.object(fields, "_is_encodable", lambda _: True):
        assert command.main(words) == 1
        said = capsys.readouterr().out
        replay = re.search(r'--target "field: text" --replay (\S+)', said)
        assert replay
        file = ROOT / replay[1]
        assert len(file.read_bytes()) <= 20
        again = ["--target", "field: text", "--replay", str(file)]
        assert command.main(again) == 1
        assert "UnicodeEncodeError" in capsys.readouterr().out
    assert command.main(again) == 0
    assert "field: text: refused" in capsys.readouterr().out
    file.unlink()


def test_the_same_seed_makes_the_same_inputs() -> None:
    def inputs(seed: int) -> list[str]:
        given: list[str] = []

        def note(text: str) -> bool:
            given.append(text)
            return True

        hunt(Target("t", Kind.JSON, ('{"a":[1,"x"]}',), note), 50, 30, seed)
        return given

    assert inputs(1) == inputs(1) != inputs(2)


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
    "stripe.toml": "the same",
}


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in QUADRATIC])
def test_an_input_of_twice_the_size_takes_about_twice_the_work(name: str) -> None:
    target = TARGETS[name]
    for smaller, larger in zip(grown(target, 40), grown(target, 80), strict=True):
        target.call(larger)  # what is made once is made by now
        assert lines_run(target, larger) <= 2.5 * lines_run(target, smaller) + 1_000
