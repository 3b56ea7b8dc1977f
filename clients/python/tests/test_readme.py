"""What the pages show of the client works, against the fake."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import credits_client
from credits_client.testing import AsyncFakeCredits, Books, FakeCredits

ROOT = Path(__file__).parents[3]


def examples(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found: list[str] = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    """The fakes in the place of the clients; the page's user has 100 credits."""
    books = Books()
    books.grant("ada", 100)

    def instead_of(real: type[Any], fake: type[Any]) -> Callable[..., Any]:
        def make(url: str, token: Any) -> Any:
            real(url, token)  # its arguments are right
            return fake(books)

        return make

    monkeypatch.setattr(credits_client, "Credits", instead_of(credits_client.Credits, FakeCredits))
    monkeypatch.setattr(
        credits_client, "AsyncCredits", instead_of(credits_client.AsyncCredits, AsyncFakeCredits)
    )
    return books


def run(page: str) -> dict[str, Any]:
    """Runs the examples of a page one after the other, as one program; what it has in the end."""
    offers: list[object] = []
    program: dict[str, Any] = {
        "offers": offers,
        "offer_more": lambda user_id, there_are=None: offers.append((user_id, there_are)),
        "try_later": lambda: pytest.fail("the fake answers"),
        "job": SimpleNamespace(id=7, attempt=1),
        "report": SimpleNamespace(id=7),
        "crawl": lambda _: ["a page"] * 31,
        "token": "t",
    }
    for example in examples(page):
        exec(compile(example, page, "exec"), program)  # noqa: S102 - it is our own page
    return program


def test_every_example_of_the_readme_works(
    books: Books, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CREDITS_CLIENT_SECRET", "secret")
    books.grant("ada", 50)
    program = run("clients/python/README.md")
    assert program["offers"] == [("ada", 150 - 10 - 31 - 31)]
    spent = [line.amount for line in FakeCredits(books).history("ada", type="usage")]
    assert spent == [-31, -31, -31, -10]
    assert capsys.readouterr().out.count("-31") == 2 + 3
    (test,) = [each for name, each in program.items() if name.startswith("test_")]
    test()


def test_a_check_of_somebody_who_has_little_offers_more() -> None:
    check = examples("clients/python/README.md")[1]
    offers: list[str] = []
    credits_of = FakeCredits()
    credits_of.grant("ada", 49)
    exec(check, {"credits": credits_of, "offer_more": offers.append})  # noqa: S102 - the same
    assert offers == ["ada"]


def test_every_example_of_the_first_page_works(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API", "https://abc123.execute-api.eu-west-1.amazonaws.com/v1")
    monkeypatch.setenv("TOKEN", "t")
    run("README.md")
    assert [line.type for line in FakeCredits(books).history("ada")] == ["usage", "hold", "manual"]


def test_the_page_about_django_shows_the_code_that_its_tests_run() -> None:
    shown = examples("docs/django.md")
    sources = sorted((ROOT / "clients/python/examples/leads").rglob("*.py"))
    code = [path.read_text(encoding="utf-8") for path in sources]
    for example in shown:
        assert any(f"\n{example}" in each for each in code), f"no part of the example:\n{example}"
    for name in ("class Unlock(", "def move(", "def unlock(", "def finish(", "def handle("):
        assert any(name in example for example in shown), name
