"""What holds for all tests: those of pages need a browser, and say so where there is none."""

import gc
import shutil
from pathlib import Path

import pytest

from infra.pages.mail_pictures import BROWSERS

DRIVER = "chromedriver"


def _lacks_browser() -> bool:
    return not (any(map(shutil.which, BROWSERS)) and shutil.which(DRIVER))


def pytest_sessionstart() -> None:
    """Looks for no garbage while tests are collected: a quarter of that time went into it."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From here on looks for garbage, but not among what was loaded: all of it stays."""
    gc.freeze()
    gc.enable()


def pytest_sessionfinish() -> None:
    """Hypothesis may be loaded as late as now, and looks for who refers to what it manages."""
    gc.unfreeze()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out the tests of the console and of other pages on a machine that cannot run them.

    Python and make are all that this repository asks of a machine; a browser is more than that.
    """
    of_pages = ("test_console*.py", "test_kit.py", "test_other_pages.py", "test_statement_page.py")
    is_of_pages = any(map(collection_path.match, of_pages))
    return True if is_of_pages and _lacks_browser() else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was left out, where it is seen."""
    if _lacks_browser():
        terminalreporter.write_line(
            "The tests of the console, the frontend kit and other pages were left out: they need "
            "Chromium and its driver. On Debian and Ubuntu: apt install chromium chromium-driver",
            yellow=True,
        )
