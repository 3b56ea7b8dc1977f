"""A client in TypeScript: its types come from the contract, and the deployed API keeps them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chalicelib.api import problems
from infra.deployment import packaging
from infra.local.stacks import LocalStack
from tests.generators import DAY, environment
from tests.mutants import typescript
from tests.mutants.__main__ import explained
from tests.mutants.runner import Fate
from tests.stack.api import Api
from tests.stack.node import CLIENT, DEADLINE_SECONDS, NODE, build, npm

USER = "typescript"


@pytest.fixture(scope="module")
def program() -> Path:
    """The client, with types made from the contract as it is now, compiled."""
    return build() / "main.js"


def run_program(program: Path, stack: LocalStack, token: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [NODE / "node", program],
        env={"CREDITS_API_URL": stack.api_url, "CREDITS_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )


def test_a_typescript_program_reads_the_schedule_spends_and_pages_through_the_history(
    stack: LocalStack, program: Path
) -> None:
    api = Api(stack)
    api.subscribe(USER)
    for number in range(4):
        api.grant(USER, 10, key=f"typescript-{number}")
    token = api.as_user(USER)
    before = api.balance(USER)
    run = run_program(program, stack, token)
    assert (run.returncode, run.stderr) == (0, "")
    found: dict[str, Any] = json.loads(run.stdout)
    assert found["balanceBefore"] == before
    assert found["balanceAfter"] == before - 3
    assert found["nextAllocationDate"].endswith("-01")
    assert found["isReplaySame"] is True
    assert found["refusal"] == "insufficient_credits"
    assert found["availableBalance"] == before - 3
    # Five lines, two to a page, newest first.
    assert [line["transaction_id"] for line in found["transactions"]] == [
        f"{USER}-{number}" for number in range(5, 0, -1)
    ]
    assert [line["amount"] for line in found["transactions"]] == [-3, 10, 10, 10, 10]


def test_a_refusal_is_an_error_with_what_the_api_said(stack: LocalStack, program: Path) -> None:
    run = run_program(program, stack, "not.a.token")
    assert run.returncode == 1
    assert "401 unauthenticated: " in run.stderr


def test_the_client_and_the_components_pass_their_own_tests(program: Path) -> None:
    assert program.exists()
    npm("test")


@pytest.mark.usefixtures("program")
def test_a_client_made_by_openapi_typescript_calls_the_api(
    stack: LocalStack, tmp_path: Path
) -> None:
    """With openapi-fetch, as its own documentation has it."""
    source = packaging.ROOT / "tests" / "generators" / "openapi-typescript.ts"
    shutil.copy(source, tmp_path)
    shutil.copy(CLIENT / "src" / "contract.ts", tmp_path)
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    settings = {
        "extends": str(CLIENT / "tsconfig.json"),
        "compilerOptions": {"rootDir": ".", "outDir": "build", "noEmitOnError": True},
        "include": ["openapi-typescript.ts"],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    npm("exec", "--", "tsc", "--project", str(tmp_path))
    run = subprocess.run(
        [NODE / "node", tmp_path / "build" / "openapi-typescript.js"],
        env=environment(stack),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert json.loads(run.stdout) == DAY


# What the app around a snippet has.
AROUND = """
declare const session: { accessToken(options: { fresh: boolean }): Promise<string> };
declare const report: { id: string };
declare function offerMore(available: number): void;
declare function crawl(job: { id: string }): Promise<string[]>;
declare const job: { id: string; attempt: number };
declare const user: { id: string; timezone: string };
declare function write(report: { id: string }, transaction: string): void;
declare function remove(report: { id: string }): void;
declare function post(path: string, body: object): ReturnType<CreditsClient["use"]>;
declare const asked: { key: string; transaction_id: string };
"""

IMPORTS = {
    "credits-client": "client.js",
    "credits-client/react": "react/index.js",
    "credits-client/texts/de": "texts/de.js",
}
"""What a page imports of the package, and where it is here."""


@pytest.mark.parametrize("page", ["README.md", "clients/typescript/README.md"])
@pytest.mark.usefixtures("program")
def test_what_a_page_shows_of_it_compiles(page: str, tmp_path: Path) -> None:
    text = (packaging.ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```(ts|js|tsx)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    snippet = "".join(
        # Elements beside each other are one value only within another.
        re.sub(r"^((?:<.*>\n)+)", r"export const shown = <>\1</>;\n", block, flags=re.MULTILINE)
        for _, block in blocks
    )
    snippet = snippet.replace('from "./', f'from "{CLIENT / "src"}/')
    for name, module in IMPORTS.items():
        snippet = snippet.replace(f'from "{name}"', f'from "{CLIENT / "src" / module}"')
    (tmp_path / "snippet.tsx").write_text(snippet + AROUND, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(CLIENT / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    settings = {
        "extends": str(CLIENT / "tsconfig.json"),
        "compilerOptions": {
            "noEmit": True,
            "rootDir": "/",
            "typeRoots": [str(CLIENT / "node_modules" / "@types")],
        },
        "include": ["snippet.tsx"],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings))
    npm("exec", "--", "tsc", "--project", str(tmp_path))


def test_the_client_needs_nothing_at_run_time() -> None:
    package = json.loads((CLIENT / "package.json").read_text())
    assert "dependencies" not in package
    assert set(package["peerDependencies"]) == {"react"}
    assert package["peerDependenciesMeta"]["react"]["optional"]


PROGRAM = """
import { existsSync } from "node:fs";
import { CreditsClient } from "credits-client";
import { CreditsCard } from "credits-client/react";
import { de } from "credits-client/texts/de";
import { createElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";

const client = new CreditsClient({ url: "https://api.example.com", token: () => "t" });
console.log(typeof client.withHold);
console.log(renderToStaticMarkup(createElement(CreditsCard, { client, texts: de })).replace(/<[^>]*>/g, " "));
console.log(existsSync(new URL(import.meta.resolve("credits-client/styles.css"))));
"""  # noqa: E501


@pytest.mark.usefixtures("program")
def test_the_client_works_where_it_is_installed_from_its_archive(tmp_path: Path) -> None:
    npm("pack", "--ignore-scripts", "--pack-destination", str(tmp_path))
    (archive,) = tmp_path.glob("credits-client-*.tgz")
    app = tmp_path / "app"
    app.mkdir()
    (app / "package.json").write_text('{"type": "module"}')
    npm("install", "--offline", "--ignore-scripts", "--no-audit", str(archive), cwd=app)
    installed = app / "node_modules" / "credits-client"
    files = {path.relative_to(installed).as_posix() for path in installed.rglob("*.*")}
    assert {"build/client.js", "build/client.d.ts", "build/react/index.d.ts"} <= files
    assert not [name for name in files if "test" in name or name.startswith("src/")]
    # Those who want the components install it.
    for peer in ("react", "react-dom", "scheduler"):
        (app / "node_modules" / peer).symlink_to(CLIENT / "node_modules" / peer)
    (app / "main.js").write_text(PROGRAM)
    run = subprocess.run(
        [NODE / "node", "main.js"], cwd=app, capture_output=True, text=True, check=False
    )
    assert (run.stdout.split(), run.stderr) == (
        ["function", "Ihre", "Credits", "Wird", "geladen", "…", "true"],
        "",
    )
    # A server that draws pages has to know that hooks are for browsers.
    entry = (installed / "build" / "react" / "index.js").read_text("utf-8")
    assert entry.startswith('"use client";')


def test_the_client_knows_every_code_of_a_problem() -> None:
    source = (CLIENT / "src" / "client.ts").read_text("utf-8")
    (union,) = re.findall(r"export type ProblemCode =\n(.*?);", source, re.DOTALL)
    assert set(re.findall(r'"(\w+)"', union)) >= set(problems.TITLES)


# --- The small mistakes that are tried on it (tests/mutants) -----------------------------------


def mutants_of(*files: str, lines: list[str] | None = None) -> set[tuple[str, str, str]]:
    client = typescript.Client(packaging.ROOT, files, lines)
    list(client.try_all([]))
    return {mutant.key for mutant in client.mutants}


BECOMES = {
    "let a = f(b);": {"let a = undefined;", "let a = f(undefined);"},
    "if (a < b) return c;": {
        *("if (true) return c;", "if (false) return c;", "if (a <= b) return c;"),
        "if (a < b) return;",
    },
    "let d = await a ?? b;": {
        *("let d = undefined;", "let d = (await a || b);", "let d = (await a);", "let d = b;"),
        "let d = a ?? b;",
    },
    "b = 7;": {";", "b = 8;", "b = 6;"},
    'c({ "If-Match": `${a}/b`, ...d });': {
        *(";", "c(undefined);", "c({  ...d });", 'c({ "If-Match": `${a}/b`,  });'),
        *('c({ "If-Match": `/b`, ...d });', 'c({ "If-Match": `${a}`, ...d });'),
    },
}


@pytest.mark.usefixtures("program")
def test_a_line_of_typescript_is_changed_in_every_small_way(tmp_path: Path) -> None:
    lines = "".join(f"  {line}\n" for line in BECOMES)
    (tmp_path / "some.ts").write_text(f"async function some(b: number) {{\n{lines}}}\n")
    found = mutants_of(str(tmp_path / "some.ts"))
    assert {function for function, _, _ in found} == {"some"}
    for line, after in BECOMES.items():
        assert {after for _, before, after in found if before == line} == after


@pytest.mark.usefixtures("program")
def test_a_mistake_in_the_client_is_noticed_by_its_own_tests() -> None:
    files = ["clients/typescript/src/react/Trouble.tsx"]
    client = typescript.Client(packaging.ROOT, files)
    tried = [one for one in client.mutants if one.function == "Trouble"][:2]
    assert [fate for _, fate in client.try_all(tried)] == [Fate.KILLED, Fate.KILLED]


@pytest.mark.usefixtures("program")
def test_every_survivor_of_the_client_that_is_explained_is_a_mutant_and_says_why() -> None:
    reasons = explained(typescript.SURVIVORS)
    files = typescript.files_of(packaging.ROOT, typescript.CLIENT)
    there_are = mutants_of(*files, lines=[before for _, before, _ in reasons])
    assert {key for key in reasons if key not in there_are} == set()
    assert [key for key, why in reasons.items() if len(why) < 20] == []
