"""What the pages say is there: links, targets, routes, files."""

import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain.languages import Language
from chalicelib.domain.notifications import MailKind
from infra.deployment import webhooks
from infra.pages import mail_pictures

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "bench" / "README.md",
    ROOT / "chalicelib" / "domain" / "README.md",
    ROOT / "chalicelib" / "mails" / "templates" / "README.md",
    ROOT / "clients" / "python" / "README.md",
    ROOT / "clients" / "typescript" / "README.md",
]


def anchors(page: Path) -> set[str]:
    """The headings of a page, as GitHub names them in links."""
    text = re.sub(
        r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", text)
    for link in (first or second for first, second in links):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"{link}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_a_page_names_exists(page: Path) -> None:
    targets = {*re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE)}
    text = page.read_text(encoding="utf-8")
    code = " ".join(re.findall(r"^```(?:sh)?\n.*?^```$|`[^`\n]+`", text, re.MULTILINE | re.DOTALL))
    named = set(re.findall(r"(?:^|[`$(]|\n)\s*make (?:-\S+ )*([a-z]+)", code))
    assert named <= targets


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_the_routes_of_the_page_about_the_api_are_those_of_the_contract() -> None:
    contract = json.loads((ROOT / "chalicelib" / "api" / "openapi.json").read_text())
    offered = {
        f"{method.upper()} {path}"
        for path, operations in contract["paths"].items()
        for method in set(operations) - {"parameters"}
        if path != "/api/unsubscribe"  # followed from emails, not called
    }
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    routes = page.split("\n## Every route\n")[1].split("\n## ")[0]
    shown = {
        f"{method} {path}"
        for methods, path in re.findall(r"`([A-Z, ]+) (/api/[^`]+)`", routes)
        for method in methods.split(", ")
    }
    # Stripe calls it, and its own contract says how: it is no route of the app.
    assert shown == {*offered, f"{webhooks.METHOD.upper()} {webhooks.PATH}"}


def test_the_parts_that_the_readme_draws_are_there() -> None:
    (tree,) = re.findall(r"^```\n(app\.py .*?)^```$", README, re.MULTILINE | re.DOTALL)
    folder = ""
    for indent, name in re.findall(r"^( *)(\S+)", tree, re.MULTILINE):
        folder = folder if indent else (name if name.endswith("/") else "")
        path = ROOT / (f"{folder}{name}" if indent else name)
        assert path.exists(), path


def test_the_readme_lists_the_columns_of_the_sample() -> None:
    header = (ROOT / "infra" / "sample" / "subscriptions.csv").read_text().splitlines()[0]
    columns = re.findall(r"Columns: `([^`]+)`", README)
    assert set(header.split(",")) <= set(columns[0].split(","))


def test_the_readme_asks_for_the_python_that_the_tools_are_set_to() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    version = settings["tool"]["mypy"]["python_version"]
    assert f"Python {version} or newer" in README


def test_each_email_and_page_is_pictured_in_its_windows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, tuple[str, str]] = {}
    profiles: set[str] = set()

    def run(command: list[str], **settings: Any) -> None:
        assert settings == {"check": True, "capture_output": True, "timeout": 120}
        browser, *words, page = command
        assert (browser, page[:8]) == ("a browser", "file:///")
        html = Path(page.removeprefix("file://")).read_text("utf-8")
        assert mail_pictures.LIGHTHOUSE.logo_url not in html, "it is nowhere on the web"
        assert product.name in html
        assert html.count("<button") == (2 if Path(page).stem.split("-")[0] == "stop" else 0)
        given = dict(word.removeprefix("--").split("=", 1) for word in words if "=" in word)
        taken[given["screenshot"]] = (given["window-size"], given["blink-settings"])
        profiles.add(given["user-data-dir"])

    monkeypatch.setattr(subprocess, "run", run)
    languages = (Language.ENGLISH, Language.GERMAN)
    product = mail_pictures.LIGHTHOUSE._replace(name="Café")
    told = list(mail_pictures.take_pictures("a browser", tmp_path, product, languages))
    light, dark = (f"preferredColorScheme={number}" for number in (1, 0))
    windows = {
        "wide-light": ("720,680", light),
        "wide-dark": ("720,680", dark),
        "narrow-light": ("320,820", light),
        "narrow-dark": ("320,820", dark),
    }
    names = [*(kind.value for kind in MailKind), "stop", "stopped"]
    pictures = [(name, window) for name in names for window in windows]
    pictures += [
        (f"{name}-de", window) for name in names for window in ("wide-light", "narrow-dark")
    ]
    assert taken == {
        str(tmp_path / f"{name}-{window}.png"): windows[window] for name, window in pictures
    }
    assert sorted(map(str, told)) == sorted(taken)
    assert len(profiles) == len(taken), "two browsers of one profile wait for each other"
