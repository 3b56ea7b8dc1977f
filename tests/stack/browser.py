"""A real browser without a window, for what only a browser can show."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from infra.pages.mail_pictures import BROWSERS
from tests.stack.conftest import wait_for
from tests.stack.node import install

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)

MISSING = (
    "There is no {} here, which the tests of the console, of the frontend kit and of other pages "
    "need. On Debian and Ubuntu: apt install chromium chromium-driver. To run all the others: make "
    "test ARGS='--ignore-glob=tests/stack/test_console* --ignore=tests/stack/test_kit.py "
    "--ignore=tests/stack/test_other_pages.py --ignore=tests/stack/test_statement_page.py'"
)


def _program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail(MISSING.format(names[0]), pytrace=False)
    return found


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Runs a browser that knows nothing yet; fails, and says what to install, if there is none."""
    chromium, driver = _program(*BROWSERS), _program("chromedriver")
    # Selenium would look for newer drivers, and report that it runs.
    os.environ |= {"SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for switch in (*SWITCHES, f"--user-data-dir={profile}"):
            options.add_argument(switch)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        running = webdriver.Chrome(options=options, service=Service(driver))
        try:
            yield running
        finally:
            running.quit()


class Page:
    """A page in the browser, as the person in front of it uses it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def js(self, script: str, *arguments: object) -> Any:
        """What a script answers."""
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> WebElement:
        """The one element of a selector."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text of an element, with its white space made plain; empty when there is none."""
        found = self.js("return document.querySelector(arguments[0])?.textContent ?? ''", selector)
        return " ".join(found.split())

    def texts(self, selector: str) -> list[str]:
        """The texts of all elements of a selector."""
        found = self.js(
            "return [...document.querySelectorAll(arguments[0])].map((one) => one.innerText)",
            selector,
        )
        return [" ".join(text.split()) for text in found]

    def wait_for_text(self, selector: str, text: str, deadline: float = 30.0) -> None:
        """Returns when an element says a text somewhere."""

        def says() -> bool:
            return text in self.text(selector)

        try:
            wait_for(says, f"{text!r} in {selector}", deadline)
        except pytest.fail.Exception:
            pytest.fail(f"{selector} says {self.text(selector)!r} and not {text!r}")

    def click(self, selector: str) -> None:
        """Clicks on an element, which is brought into view."""
        element = self.find(selector)
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def fill(self, selector: str, text: str) -> None:
        """Types into a field, in place of what is there."""
        element = self.find(selector)
        element.clear()
        element.send_keys(text)

    def press(self, *keys: str) -> None:
        """Presses keys one after the other, wherever the focus is."""
        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def focused(self) -> str:
        """What a screen reader says of the element that has the focus: its name and its role."""
        element = self.driver.switch_to.active_element
        return f"{element.accessible_name} [{element.aria_role}]"

    def errors(self) -> list[str]:
        """What was written to the browser's console since the last time."""
        entries: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries]

    # The window ---------------------------------------------------------------------------------

    def resize(self, width: int, height: int, *, is_dark: bool = False) -> None:
        """Gives the window a size, and its user a taste."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme, calm]})
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
        )

    def picture(self, file: Path, width: int, *, is_dark: bool, least: int = 900) -> None:
        """A picture of the whole page, as high as it is, and at least so high."""
        self.resize(width, least, is_dark=is_dark)
        self.resize(width, self.js("return document.documentElement.scrollHeight"), is_dark=is_dark)
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(base64.b64decode(taken["data"]))


# --- The pages of the console ---------------------------------------------------------------------


def ready(page: Page) -> None:
    """Returns when a page of ours has been loaded."""
    wait_for(lambda: page.js("return document.documentElement.dataset.ready"), "the page")


def settled(page: Page) -> None:
    """Returns when every answer has come."""
    script = (
        "return !document.querySelector('.waiting') && document.querySelector('#progress').hidden"
    )
    wait_for(lambda: page.js(script), "all answers")


def press(page: Page, words: str, within: str = "body") -> None:
    """Presses the one button with these words, as soon as it is there."""

    def is_pressed() -> bool:
        found = page.js(
            "return [...document.querySelectorAll(`${arguments[0]} button`)].filter("
            "(each) => each.innerText === arguments[1] && each.checkVisibility())",
            within,
            words,
        )
        # What an answer brings may take the place of a button that was just found.
        with suppress(StaleElementReferenceException):
            if len(found) == 1:
                page.js(
                    "arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", *found
                )
                found[0].click()
                return True
        return False

    wait_for(is_pressed, f"the button {words}")


def violations(page: Page, *, only_colours: bool = False) -> list[str]:
    """What axe finds, by rule and place."""
    if not page.js("return !!window.axe"):
        page.js((install() / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    options = {"iframes": False} | (
        {"runOnly": ["color-contrast", "link-in-text-block"]} if only_colours else {}
    )
    found: list[str] = page.driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, arguments[0]).then((all) => done(all.violations.flatMap("
        "({id, nodes}) => nodes.map((node) => `${id}: ${node.target} ${node.failureSummary}`))))",
        options,
    )
    return found
