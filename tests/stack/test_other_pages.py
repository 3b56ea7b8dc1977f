"""Emails, the pages behind their links, the reference and the page for statements, seen by axe.

The consoles and the frontend kit have tests of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chalicelib.domain.languages import Language
from infra.local.console import reference
from infra.local.console.server import FILES
from infra.pages import mail_pictures, statement
from tests.stack.browser import Page, browser, violations

WIDE, NARROW = 1280, 360


MAILS = {
    f"{mail.kind}-{language}": mail.html
    for language in Language
    for mail in mail_pictures.examples(language=language)
}


def is_of_page(violation: str) -> bool:
    """Whether it is about the parts of a page. That of an email is the email program's."""
    return violation.startswith(("landmark-one-main:", "region:"))


def pages() -> Iterator[tuple[str, str]]:
    """Each page as one file, by name."""
    yield from MAILS.items()
    for language in Language:
        for name, html in mail_pictures.pages(language=language):
            yield f"{name}-{language}", html
    yield "statement", statement.PAGE.read_text("utf-8")
    styles = "".join(FILES[name].read_text("utf-8") for name in ("colours.css", "reference.css"))
    yield "reference", f"{reference.page().decode()}<style>{styles}</style>"


@pytest.fixture(scope="module")
def opened() -> Iterator[Page]:
    with browser() as driver:
        yield Page(driver)


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_on_any_page_that_is_no_console(
    opened: Page, tmp_path: Path, width: int, *, is_dark: bool
) -> None:
    opened.resize(width, 900, is_dark=is_dark)
    found = []
    for name, html in pages():
        file = tmp_path / f"{name}.html"
        file.write_text(html, "utf-8")
        opened.driver.get(file.as_uri())
        seen = violations(opened)
        found += [f"{name}: {each}" for each in seen if name not in MAILS or not is_of_page(each)]
        assert opened.js("return document.documentElement.scrollWidth") <= width, name
    assert found == []
