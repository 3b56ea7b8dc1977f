"""The frontend kit in a real browser: all components in all states, with the default stylesheet.

Their page is made by `clients/typescript/src/react/gallery.test.tsx`. `make screenshots` runs the
test that takes pictures, for docs/images/kit.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.deployment import packaging
from tests.stack.browser import Page, browser, violations
from tests.stack.node import CLIENT, NODE, build

WIDE, NARROW = 1280, 390
SHAPES = [(WIDE, False), (WIDE, True), (NARROW, False), (NARROW, True)]
NAMES = ["wide-light", "wide-dark", "narrow-light", "narrow-dark"]

PICTURES = packaging.ROOT / "docs" / "images" / "kit"
OTHER_PICTURES = packaging.BUILD / "kit"
"""Those that no page of the docs shows: for people who change the kit to look at."""

IS_PICTURED = bool(os.environ.get("SCREENSHOTS"))
STYLES = (CLIENT / "styles.css").read_text("utf-8")
LINK = '<link rel="stylesheet" href="../styles.css">'


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """The page of all states, without the network."""
    folder = build()
    made = subprocess.run(
        [NODE / "node", "--test", folder / "react" / "gallery.test.js"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout
    html = (folder / "gallery.html").read_text("utf-8")
    assert LINK in html
    file = tmp_path_factory.mktemp("kit") / "gallery.html"
    # A browser shows the rules of a file's stylesheet to nobody.
    file.write_text(html.replace(LINK, f"<style>{STYLES}</style>"), encoding="utf-8")
    with browser() as driver:
        driver.get(file.as_uri())
        page = Page(driver)
        yield page
        assert page.errors() == []


@pytest.mark.parametrize(("width", "is_dark"), SHAPES, ids=NAMES)
def test_axe_finds_nothing_and_nothing_is_cut_off(
    gallery: Page, width: int, *, is_dark: bool
) -> None:
    gallery.resize(width, 900, is_dark=is_dark)
    # That many landmarks have one name is so on this page only.
    assert violations(gallery, without="landmark-unique") == []
    assert gallery.js("return document.documentElement.scrollWidth") <= width


def background(gallery: Page, selector: str) -> str:
    found: str = gallery.js(
        "return getComputedStyle(document.querySelector(arguments[0])).backgroundColor", selector
    )
    return found


def test_colours_follow_the_system_unless_an_attribute_decides(gallery: Page) -> None:
    cards = (".cards .credits-card", "[data-theme=light] section", "[data-theme=dark] section")
    gallery.resize(WIDE, 900, is_dark=False)
    light, always_light, always_dark = (background(gallery, card) for card in cards)
    assert light == always_light != always_dark
    gallery.resize(WIDE, 900, is_dark=True)
    assert [background(gallery, card) for card in cards] == [always_dark, always_light, always_dark]


def test_a_variable_of_the_page_takes_the_place_of_the_default(gallery: Page) -> None:
    gallery.js("document.documentElement.style.setProperty('--credits-accent', 'rgb(1, 2, 3)')")
    assert background(gallery, ".credits-use") == "rgb(1, 2, 3)"
    gallery.js("document.documentElement.style.removeProperty('--credits-accent')")


SELECTORS = """
const rules = (list) => [...list].flatMap((rule) => rule.selectorText ?? (rule.conditionText ? rules(rule.cssRules) : []));
return rules(document.styleSheets[0].cssRules).map((selector) => selector.replace(/::before/g, ''));
"""  # noqa: E501

OTHERS = """
<div><h2>Title</h2><h3>Title</h3><p role="status"><strong>Text</strong> <a href="#">Link</a></p>
<ul><li>Item</li></ul><fieldset><legend>Legend</legend><label><input type="radio" checked></label>
</fieldset><button disabled>Button</button><button aria-disabled="true">Button</button>
<time>Now</time><span role="timer">0</span></div>
"""
"""What an app has beside the components, and in the place for a way to get more."""


def test_the_stylesheet_is_small_and_touches_nothing_but_the_components(gallery: Page) -> None:
    assert len(STYLES.encode()) < 5_000
    selectors: list[str] = gallery.js(SELECTORS)
    assert len(selectors) > 30
    touched = gallery.js(
        "const places = ['main', '.credits-card .credits-more', '.credits-spend .credits-more'];"
        "const inside = places.map((each) => {"
        "  const div = document.createElement('div');"
        "  div.innerHTML = arguments[0];"
        "  document.querySelector(each).append(div);"
        "  return div;"
        "});"
        "const touched = arguments[1].filter((selector) => inside.some((div) =>"
        "  div.matches(selector) || div.querySelector(selector)));"
        "for (const div of inside) div.remove();"
        "return touched;",
        OTHERS,
        selectors,
    )
    # A link there has the accent's colour, unless any rule of the app says otherwise.
    assert touched == [":where(.credits-more a)"]


@pytest.mark.parametrize(("width", "is_dark"), SHAPES, ids=NAMES)
def test_the_kit_can_be_pictured(
    gallery: Page, tmp_path: Path, width: int, *, is_dark: bool
) -> None:
    shape = f"{'wide' if width == WIDE else 'narrow'}-{'dark' if is_dark else 'light'}"
    for name in ("all", "together"):
        gallery.js(
            "for (const each of document.querySelectorAll('h1, main > section, figcaption'))"
            "each.hidden = arguments[0] && !each.matches('.together');",
            name == "together",
        )
        is_shown = name == "together" or width == WIDE
        directory = PICTURES if is_shown else OTHER_PICTURES
        file = (directory if IS_PICTURED else tmp_path) / f"{name}-{shape}.png"
        gallery.picture(file, width, is_dark=is_dark, least=200)
        assert file.stat().st_size > 10_000
    gallery.js("for (const each of document.querySelectorAll('[hidden]')) each.hidden = false")
