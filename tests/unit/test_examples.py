"""Every example of the pages is run, or read by what it is for, by some test.

Those that a test runs are counted in `RUN`: a new one needs a word on which test runs it. All the
others are checked here: shell commands against the Makefile, AWS's own models and the contract, and
files against what reads them.
"""

import importlib.util
import json
import re
import shlex
import subprocess
import textwrap
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import yaml
from botocore import xform_name
from botocore.session import Session

from chalicelib.plans_file import parse_catalogue
from chalicelib.prices_file import parse_price_list
from infra.deployment import parameters
from infra.imports import balances, movements, subscriptions
from tests.aws import contract
from tests.schemas import problems_of
from tests.unit.test_make import FLAGS, TARGETS
from tests.unit.test_pages import PAGES, ROOT

RUN = {
    ("README.md", "python"): (1, "clients/python/tests/test_readme.py"),
    ("README.md", "ts"): (1, "tests/stack/test_typescript.py"),
    ("clients/python/README.md", "python"): (9, "clients/python/tests/test_readme.py"),
    ("clients/typescript/README.md", "ts"): (1, "tests/stack/test_typescript.py"),
    ("clients/typescript/README.md", "js"): (2, "tests/stack/test_typescript.py"),
    ("clients/typescript/README.md", "tsx"): (3, "tests/stack/test_typescript.py"),
    # Made from the contract's examples, which are real answers (tests/aws/test_api_contract.py).
    ("docs/api-reference.md", "json"): (45, "tests/unit/test_commands.py"),
    ("docs/backends.md", "python"): (2, "tests/unit/test_backends.py, tests/stack/test_tokens.py"),
    ("docs/deploying.md", "yaml"): (1, "tests/stack/test_policies.py"),
    ("docs/django.md", "python"): (
        3,
        "clients/python/tests/test_readme.py, tests/aws/test_leads.py",
    ),
    ("docs/events.md", "python"): (1, "tests/consumer.py"),
    ("docs/extending.md", "diff"): (24, "tests/unit/test_extending.py"),
    ("docs/extending.md", "python"): (3, "tests/unit/test_extending.py"),
    ("docs/extending.md", "sh"): (5, "tests/unit/test_extending.py"),
    ("docs/migrating.md", "csv"): (1, "tests/unit/test_shadow_comparison.py"),
    ("docs/promotions.md", "csv"): (1, "tests/aws/test_promotions.py"),
    ("docs/plan-changes.md", "toml"): (8, "tests/unit/test_plan_changes_page.py"),
}
"""By page and language: how many examples there are, and the tests that run them."""


class Example(NamedTuple):
    """A fenced block of a page, by its language."""

    page: str
    language: str
    text: str


def examples_of(page: Path) -> Iterator[Example]:
    text = page.read_text(encoding="utf-8")
    fence = r"^( *)```(\w+)\n(.*?)^\1```$"
    for _, language, block in re.findall(fence, text, re.MULTILINE | re.DOTALL):
        yield Example(str(page.relative_to(ROOT)), language, textwrap.dedent(block))


ALL = [example for page in PAGES for example in examples_of(page)]


def of(page: str, language: str) -> list[str]:
    return [each.text for each in ALL if (each.page, each.language) == (page, language)]


def test_every_example_says_what_runs_it() -> None:
    checked_here = {"sh"}
    found = Counter((each.page, each.language) for each in ALL)
    left = {kind: number for kind, number in found.items() if kind[1] not in checked_here}
    run = {kind: number for kind, (number, _) in RUN.items() if kind[1] not in checked_here}
    assert left == run | {kind: found[kind] for kind in READ_HERE}
    for _, tests in RUN.values():
        for name in tests.split(", "):
            assert (ROOT / name).exists(), name


# --- Shell ---------------------------------------------------------------------------------------

PLAIN = {
    "basename",
    "cd",
    "date",
    "do",
    "done",
    "for",
    "grep",
    "head",
    "printf",
    "sed",
    "sha256sum",
}
"""What is on every machine, or belongs to the shell."""

GLOBAL = {"query", "output", "region", "profile", "cli-binary-format"}
OF_THE_CLI = {("logs", "tail"): {"since", "follow", "format", "filter-pattern"}}
"""Commands that the AWS CLI adds to the API
(https://docs.aws.amazon.com/cli/latest/reference/logs/tail.html)."""


def commands(script: str) -> Iterator[list[str]]:
    """The words of each command, with those that stand in another one first."""
    script = re.sub(r"\\\n", " ", script)
    script = re.sub(r"(?m)(^|\s)# .*$", "", script)
    script = re.sub(r"<[^<>\n]+>", "NAMED", script)  # what the reader puts in
    script = script.replace("2>&1", "")
    while inner := re.search(r"\$\(([^()]*)\)", script):
        yield from commands(inner[1])
        script = script.replace(inner[0], "MADE")
    lexer = shlex.shlex(script, posix=True, punctuation_chars="|&;\n")
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = " \t", True, ""
    command: list[str] = []
    for word in [*lexer, "\n"]:
        if set(word) <= set("|&;\n"):
            while command and re.match(r"\w+=|(export|eval|do|MADE)$", command[0]):
                command.pop(0)
            if command:
                yield command
            command = []
        else:
            command.append(word)


def check_make(words: list[str]) -> None:
    """`make TARGET NAME=value ...` names a target and what that takes."""
    given = {name: value for name, mark, value in (w.partition("=") for w in words) if mark}
    (name,) = (word for word in words if re.fullmatch(r"[a-z][a-z-]*", word))
    (target,) = (each for each in TARGETS if each.name == name)
    assert set(given) <= set(target.variables), f"make {name} does not take all of {set(given)}"
    assert set(target.needed) <= set(given), f"make {name} needs {target.needed}"
    assert all(value in ("1", "0", "yes", "no") for key, value in given.items() if key in FLAGS)


@cache
def aws_options(service: str, command: str) -> tuple[set[str], set[str]]:
    """The options of a command of the AWS CLI: all, and those that it needs."""
    if (service, command) in OF_THE_CLI:
        return OF_THE_CLI[service, command], set()
    model = Session().get_service_model({"s3api": "s3"}.get(service, service))
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert command in operations, f"aws {service} has no {command}"
    shape = model.operation_model(operations[command]).input_shape
    if shape is None:
        return set(), set()
    flags = {name for name, member in shape.members.items() if member.type_name == "boolean"}
    named = {name: xform_name(name, "-") for name in shape.members}
    every = {*named.values(), *(f"no-{named[name]}" for name in flags)}
    return every, {named[name] for name in shape.required_members}


def check_aws(words: list[str]) -> None:
    service, command, *rest = words
    options = {word[2:].partition("=")[0] for word in rest if word.startswith("--")}
    known, needed = aws_options(service, command)
    assert options <= known | GLOBAL, f"aws {service} {command} has no {options - known - GLOBAL}"
    assert needed <= options, f"aws {service} {command} needs {needed - options}"


def check_curl(words: list[str]) -> None:
    """A call of our API names a route, and sends what that reads."""
    (url,) = (word for word in words if re.search(r"/api/|^https://|^\$TOKEN_URL$", word))
    if "/api/" not in url:
        return
    body = words[words.index("-d") + 1] if "-d" in words else None
    method = words[words.index("-X") + 1] if "-X" in words else ("POST" if body else "GET")
    path = "/api/" + url.partition("/api/")[2]
    route = contract.route_of(path)
    assert route is not None, f"there is no route {path}"
    operation = contract.operations()[method, route]
    if body is not None:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        contract.check_value(schema, json.loads(body))


def check_python(words: list[str]) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]) is not None, words[1]
    else:
        assert words[0] == "-c"
        compile(words[1], "-c", "exec")


def check_npm(words: list[str]) -> None:
    scripts = json.loads((ROOT / "clients/typescript/package.json").read_text("utf-8"))["scripts"]
    assert words == ["ci"] or words[-1] in scripts


def check_stripe(words: list[str]) -> None:
    """What the events' names must be is in what reads them."""
    for word in words:
        name, _, event = word.partition("=")
        if name == "enabled_events[]":
            assert event in STRIPE, event


def check_pip(words: list[str]) -> None:
    assert words[0] == "install"
    assert (ROOT / words[1] / "pyproject.toml").exists()


STRIPE = (ROOT / "docs" / "stripe.md").read_text("utf-8")

CHECKS = {
    "aws": check_aws,
    "curl": check_curl,
    "make": check_make,
    "npm": check_npm,
    "pip": check_pip,
    "python": check_python,
    "python3": check_python,
    "stripe": check_stripe,
}


def check_script(script: str) -> None:
    parsed = subprocess.run(
        ["sh", "-n"],
        input=re.sub(r"<[^<>\n]+>", "X", script),
        text=True,
        capture_output=True,
        check=False,
    )
    assert (parsed.returncode, parsed.stderr) == (0, "")
    for name, *words in commands(script):
        if name in CHECKS:
            CHECKS[name](words)
        else:
            assert name in PLAIN, f"nothing checks {name}"


SHELL_PAGES = sorted({each.page for each in ALL if each.language == "sh"} - {"docs/extending.md"})


@pytest.mark.parametrize("page", SHELL_PAGES)
def test_the_commands_of_a_page_are_ones_that_there_are(page: str) -> None:
    for script in of(page, "sh"):
        check_script(script)


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("make events USER=42 FROM=1", "does not take"),
        ("make void USER_ID=42", "needs"),
        ("aws sqs get-queue-url --queue credits", "has no"),
        ("x=$(aws sqs get-queue-link)", "has no get-queue-link"),
        ('curl "$API/api/credits/balances"', "there is no route"),
        ("""curl -d '{"amount": 1}' $API/api/credits/use""", "'description' is a required"),
        ("brew install credits", "nothing checks brew"),
    ],
)
def test_a_command_that_there_is_not_is_noticed(script: str, why: str) -> None:
    with pytest.raises((AssertionError, contract.ValidationError), match=why):
        check_script(script)


# --- Files ---------------------------------------------------------------------------------------

READ_HERE = {
    ("docs/deploying.md", "json"),
    ("docs/deploying.md", "toml"),
    ("docs/events.md", "json"),
    ("docs/events.md", "toml"),
    ("docs/migrating.md", "python"),
    ("docs/migrating.md", "sql"),
    ("docs/stripe.md", "python"),
    ("docs/stripe.md", "toml"),
    ("docs/testing.md", "yaml"),
}
"""What the tests below read."""


@pytest.mark.parametrize("page", ["docs/deploying.md", "docs/events.md"])
def test_the_parameters_of_a_page_are_those_of_the_template(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parameters, "PARAMETERS_FILE", tmp_path / "parameters.toml")
    for shown in of(page, "toml"):
        stage = shown if shown.startswith("[prod]") else f"[prod]\n{shown}"
        # The dots are an id that AWS gives.
        whole = stage.replace("certificate/...", "certificate/11111111-2222-3333-4444-555555555555")
        parameters.PARAMETERS_FILE.write_text(whole)
        assert parameters.parameters_of("prod").keys() == tomllib.loads(stage)["prod"].keys()


def test_the_policies_of_the_page_about_deploying_are_policies() -> None:
    trusted, policies = (json.loads(shown) for shown in of("docs/deploying.md", "json"))
    for policy in (trusted, *policies.values()):
        assert policy["Version"] == "2012-10-17"
        assert all(each["Effect"] == "Allow" for each in policy["Statement"])
    (statement,) = trusted["Statement"]
    assert set(statement) == {"Effect", "Principal", "Action", "Condition"}


def test_the_event_of_the_page_about_events_is_one() -> None:
    (shown,) = of("docs/events.md", "json")
    detail = json.loads(shown)
    name, told = detail["id"].partition(" ")[0], {"source": "credits", "time": detail["posted_at"]}
    assert problems_of({**told, "detail-type": name, "detail": detail}) == []


def test_the_price_list_of_the_page_about_stripe_can_be_read() -> None:
    (shown,) = of("docs/stripe.md", "toml")
    catalogue = parse_catalogue((ROOT / "chalicelib" / "plans.toml").read_text("utf-8"))
    prices = parse_price_list(shown.replace("...", "XyZ"), catalogue).prices
    assert set(prices) == {"price_1PROXyZ", "price_1PACKXyZ"}


def test_what_the_page_about_stripe_sends_to_it_names_the_user() -> None:
    sent: list[dict[str, Any]] = []
    stripe = SimpleNamespace(
        checkout=SimpleNamespace(Session=SimpleNamespace(create=lambda **more: sent.append(more)))
    )
    user = SimpleNamespace(id="42", timezone="Europe/Paris", language="de")
    (shown,) = of("docs/stripe.md", "python")
    exec(compile(shown, "docs/stripe.md", "exec"), {"stripe": stripe, "user": user})  # noqa: S102
    plan, pack = sent
    assert plan["mode"] == "subscription"
    said = {"user_id": "42", "timezone": "Europe/Paris", "language": "de"}
    assert plan["subscription_data"]["metadata"] == said
    assert pack["mode"] == "payment"
    assert pack["payment_intent_data"]["metadata"] == pack["metadata"]
    assert pack["metadata"] == {"user_id": "42", "price_id": pack["line_items"][0]["price"]}


def test_the_queries_of_the_page_about_migrating_make_the_columns_of_the_files() -> None:
    (model,) = of("docs/migrating.md", "python")
    fields = set(re.findall(r"^    (\w+) = models\.", model, re.MULTILINE))
    compile(model, "docs/migrating.md", "exec")
    shown = of("docs/migrating.md", "sql")
    files = (subscriptions.COLUMNS, balances.COLUMNS, movements.COLUMNS, movements.COLUMNS)
    for query, columns in zip(shown, files, strict=True):
        selected, *more = re.findall(r"SELECT (.*?)\n  FROM", query, re.DOTALL)
        values = _values(selected)
        named = [re.split(r" AS |\.", value)[-1] for value in values]
        assert set(columns.required) <= set(named) <= set(columns.all)
        assert [len(_values(each)) for each in more] == [len(values)] * len(more)
        assert set(re.findall(r"\bb\.(\w+)", query)) <= {*fields, "id", "user_id"}
        kinds = re.findall(r"(?:THEN|ELSE) '(\w+)'|'(\w+)' AS kind|, '(\w+)', -", query)
        assert {kind for each in kinds for kind in each if kind} <= {*movements.Kind}


def _values(selected: str) -> list[str]:
    """What a query selects: commas within brackets part nothing."""
    return re.split(r",\s+(?![^(]*\))", selected)


def test_the_workflow_of_the_page_about_tests_is_one() -> None:
    (shown,) = of("docs/testing.md", "yaml")
    (job,) = yaml.safe_load(shown)["jobs"].values()
    checked_out = [step["with"]["path"] for step in job["steps"] if "checkout" in str(step)]
    assert checked_out == ["product", "credits"]
    for step in job["steps"]:
        assert ("uses" in step) != ("run" in step)
        for words in commands(step.get("run", "")):
            if words[0] == "make" and "credits" in words:
                check_make([word for word in words[1:] if word not in ("-C", "credits")])
