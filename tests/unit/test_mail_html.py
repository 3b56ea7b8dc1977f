"""The HTML of emails is what Outlook, Gmail and Apple Mail take.

What they support is from https://www.caniemail.com (its data as of the npm package caniemail 2.0.2,
2026-11-30), where each property and element has a page, and from what each section below names.
"""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from chalicelib.domain.languages import Language
from chalicelib.mails.rendering import Mail
from infra.pages.mail_pictures import examples

EVERYWHERE = {
    *("background", "border", "border-left", "border-top", "color", "display", "font-family"),
    *("font-size", "font-weight", "height", "line-height", "margin", "padding", "text-decoration"),
    "width",
}
"""What all of them draw; Outlook for Windows only on cells and paragraphs."""

HARMLESS = {
    "border-radius",  # Outlook for Windows: square corners
    "max-width",  # Outlook for Windows: the width attribute of the table counts
    "word-break",  # some: a very long word makes the email wider
    *("max-height", "overflow", "mso-hide"),  # of what is hidden, each for who knows no other
    "mso-padding-alt",  # only for Outlook for Windows, which knows no padding of links
    "-webkit-text-size-adjust",  # only for Apple Mail
}
"""What some leave out, and what becomes of an email then."""

ELEMENTS = {
    *("a", "body", "br", "div", "h1", "head", "html", "img", "meta", "p", "style", "table", "td"),
    *("th", "title", "tr"),
}

CLIPPED_BYTES = 102 * 1024
"""Gmail shows no more of an email and hides the links at its end (Litmus, "Gmail clipping",
https://www.litmus.com/blog/a-guide-to-rendering-differences-in-gmail-clients)."""


class Elements(HTMLParser):
    """The elements of a document, each with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"<{tag}> has an attribute twice"
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def mails() -> Iterator[Mail]:
    for language in Language:
        yield from examples(language=language)


@pytest.fixture(params=mails(), ids=lambda mail: f"{mail.kind}")
def mail(request: pytest.FixtureRequest) -> Mail:
    found: Mail = request.param
    return found


def styles_of(attributes: dict[str, str]) -> dict[str, str]:
    pairs = (each.split(":", 1) for each in attributes.get("style", "").split(";") if each.strip())
    return {name.strip(): value.strip() for name, value in pairs}


def test_its_elements_and_styles_are_those_that_mail_programs_draw(mail: Mail) -> None:
    elements = Elements(mail.html)
    assert {tag for tag, _ in elements.found} <= ELEMENTS
    for tag, attributes in elements.found:
        styles = styles_of(attributes)
        assert styles.keys() <= EVERYWHERE | HARMLESS, tag
        assert styles.get("display") in (None, "none", "block", "inline-block"), tag
        assert "url(" not in attributes.get("style", ""), "no background pictures"


def test_nothing_that_counts_is_only_in_the_style_sheet(mail: Mail) -> None:
    """Gmail leaves the style sheet out in accounts of other providers, and where it is too long
    (https://developers.google.com/workspace/gmail/design/css): each colour and size is inline.
    """
    (sheet,) = re.findall(r"<style>(.*?)</style>", mail.html, re.DOTALL)
    assert len(sheet) < 8192
    assert "@import" not in sheet
    outside = re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*\s*\}", "", sheet)
    assert re.findall(r"[^\s{][^{]*(?=\{)", outside) == [":root "]
    for tag in ("td", "th", "h1", "a"):
        for attributes in Elements(mail.html).of(tag):
            has_words = tag != "td" or {"label", "value", "content"} & {
                *attributes.get("class", "").split()
            }
            assert not has_words or "color" in styles_of(attributes)


def test_tables_of_the_layout_have_attributes_for_outlook_and_no_meaning_for_ears(
    mail: Mail,
) -> None:
    """Word, which draws Outlook's emails, goes by attributes (Microsoft, "Word 2007 HTML and CSS
    rendering capabilities in Outlook"); screen readers announce tables that are no layout.
    """
    tables = Elements(mail.html).of("table")
    for table in tables:
        assert {"cellspacing": "0", "cellpadding": "0", "border": "0"}.items() <= table.items()
    (facts,) = [table for table in tables if "role" not in table]
    assert facts["width"] == "100%"
    assert all(cell.get("scope") == "row" for cell in Elements(mail.html).of("th"))


def test_pictures_have_a_size_and_a_text_and_come_by_https(mail: Mail) -> None:
    """Outlook shows a picture without attributes in its full size; most show none unasked."""
    for picture in Elements(mail.html).of("img"):
        assert picture["src"].startswith("https://")
        assert picture["width"].isdigit()
        assert picture["height"].isdigit()
        # The product's name stands beside it as text: a screen reader would say it twice.
        assert picture["alt"] == ""


def test_it_says_its_language_and_that_it_has_a_dark_mode(mail: Mail) -> None:
    """Apple Mail changes colours by itself unless both are there (WebKit, "color-scheme")."""
    elements = Elements(mail.html)
    (document,) = elements.of("html")
    assert document["lang"] in {*Language}
    named = {each["name"]: each["content"] for each in elements.of("meta") if "name" in each}
    assert named["color-scheme"] == named["supported-color-schemes"] == "light dark"
    assert "@media (prefers-color-scheme: dark)" in mail.html


def test_gmail_shows_all_of_it_and_a_line_of_ours_beside_the_subject(mail: Mail) -> None:
    assert len(mail.html.encode()) < CLIPPED_BYTES / 4
    preview = re.search(r"mso-hide: all[^>]*>([^&<]+)&#847;", mail.html)
    assert preview is not None
    assert preview[1].strip()


def test_it_loads_nothing_besides_the_logo(mail: Mail) -> None:
    assert not re.search(r"<(link|script|iframe|form|video|svg)\b", mail.html)
    assert mail.html.count(" src=") == len(Elements(mail.html).of("img")) == 1


def test_a_long_name_of_a_payment_does_not_make_it_wider_than_a_phone(mail: Mail) -> None:
    (payment,) = re.findall(r"<td([^>]*)>pi_\w+</td>", mail.html) or [None]
    assert payment is None or "word-break: break-all" in payment
    assert mail.html.count("break-all") == (payment is not None)


def test_dates_and_amounts_do_not_break(mail: Mail) -> None:
    shown = re.sub(r"<style>.*?</style>|<title>.*?</title>", "", mail.html, flags=re.DOTALL)
    # What people wrote stays as they wrote it.
    ours = re.sub(r'<p class="quote".*?</p>', "", shown, flags=re.DOTALL)
    assert "\N{NO-BREAK SPACE}" in ours
    assert not re.search(r"\d\.? (May|Mai|June|Juni|July|Juli|[cC]redits?)\b", ours)
