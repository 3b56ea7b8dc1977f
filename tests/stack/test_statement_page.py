"""The page that verifies statements: in a browser, from the disk, and without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.pages import statement
from tests.stack.browser import Page, browser
from tests.vectors import VECTORS

FILE = json.loads(VECTORS.read_text("utf-8"))


@pytest.fixture(scope="module")
def opened() -> Iterator[Page]:
    with browser() as driver:
        yield Page(driver)


@pytest.fixture
def on_disk(opened: Page) -> Page:
    """The page, opened anew as a file, by a browser that is not connected."""
    opened.driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    opened.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    opened.driver.get(statement.PAGE.as_uri())
    return opened


def pages(folder: Path, ledger: dict[str, object], *sizes: int) -> list[str]:
    """Files with a statement, so many entries in each; the names of the files."""
    names = ("number", "body", "hash", "erased")
    assert isinstance(ledger["lines"], list)
    lines = [dict(zip(names, FILE["lines"][each], strict=False)) for each in ledger["lines"]]
    files: list[str] = []
    first = 0
    for size in sizes:
        before = None
        if first:
            previous = lines[first - 2]["hash"] if first > 1 else "0" * 64
            before = {"previous_hash": previous, **lines[first - 1]}
        some = lines[first : first + size]
        first += size
        head = {
            "format": "credits-statement-1",
            "user_id": ledger["user_id"],
            "made_at": "2026-12-01T00:00:00Z",
            "before": before,
        }
        foot = {"lines": len(some), "next_cursor": None, "is_end": first >= len(lines)}
        file = folder / f"{9 - len(files)}.jsonl"
        file.write_text("".join(f"{json.dumps(each)}\n" for each in (head, *some, foot)), "utf-8")
        files.append(str(file))
    return files


def verify(page: Page, files: list[str], emails: str = "") -> None:
    """Verifies files, with what emails say."""
    if emails:
        page.fill("#witnesses", emails)
    page.find("#file").send_keys("\n".join(files))
    page.click("#verify")


def ledger_with(problem: str | None) -> dict[str, object]:
    """A vector with five entries or more in which that is found."""
    found: dict[str, object] = next(
        each
        for each in FILE["ledgers"]
        if (each["wrong"] and each["wrong"][1]) == problem and len(each["lines"]) >= 5
    )
    return found


def test_a_right_statement_is_told_and_shown_entry_by_entry(on_disk: Page, tmp_path: Path) -> None:
    right = ledger_with(None)
    # The files of its pages, in no order.
    verify(on_disk, pages(tmp_path, right, 2, 1, 100)[::-1])
    on_disk.wait_for_text("#result", "follow from each other, by their hashes and by the rules.")
    assert on_disk.find("#result").get_attribute("class") == "right"
    assert isinstance(right["lines"], list)
    found = on_disk.texts("#entries tbody tr td:nth-child(2)")
    assert found == ["right"] * len(right["lines"])
    assert on_disk.errors() == []


def test_a_wrong_entry_is_told_and_marked(on_disk: Page, tmp_path: Path) -> None:
    wrong = ledger_with("credits were not taken oldest first")
    assert isinstance(wrong["wrong"], list)
    number = wrong["wrong"][0]
    verify(on_disk, pages(tmp_path, wrong, 100))
    said = f"Wrong: entry {number}: credits were not taken oldest first."
    on_disk.wait_for_text("#result", said)
    assert on_disk.text("#entries tr.wrong td") == str(number)
    assert on_disk.texts("#entries tbody tr td:nth-child(2)")[:number] == [
        *["right"] * (number - 1),
        "wrong",
    ]


def test_a_statement_that_is_verified_twice_at_once_shows_each_entry_once(
    on_disk: Page, tmp_path: Path
) -> None:
    right = ledger_with(None)
    assert isinstance(right["lines"], list)
    verify(on_disk, pages(tmp_path, right, 100))
    on_disk.driver.execute_script(
        "const at = document.getElementById('verify'); at.click(); at.click();"
    )
    on_disk.wait_for_text("#result", "Right: ")
    assert len(on_disk.texts("#entries tbody tr td:first-child")) == len(right["lines"])


ONE_READ_IS_LATE = """
const [result, button] = ["result", "verify"].map((id) => document.getElementById(id));
window.said = [];
new MutationObserver(() => said.push(result.textContent)).observe(result, { childList: true });
const read = Blob.prototype.text;
Blob.prototype.text = function () {
  Blob.prototype.text = read;
  return new Promise((resolve) => (window.release = () => resolve("{}")));
};
button.click();
button.click();
"""


def test_what_was_asked_for_earlier_and_is_read_later_is_not_shown(
    on_disk: Page, tmp_path: Path
) -> None:
    verify(on_disk, pages(tmp_path, ledger_with(None), 100))
    on_disk.wait_for_text("#result", "Right: ")
    on_disk.driver.execute_script(ONE_READ_IS_LATE)
    on_disk.wait_for_text("#result", "Right: ")
    on_disk.driver.execute_script("release(); document.getElementById('verify').click();")
    on_disk.wait_for_text("#result", "Right: ")
    said = on_disk.driver.execute_script("return said")
    assert {each.partition(":")[0] for each in said} == {"Verifying …", "Right"}


def test_an_email_shows_that_the_end_was_cut_off(on_disk: Page, tmp_path: Path) -> None:
    right = ledger_with(None)
    assert isinstance(right["lines"], list)
    number, _, last_hash = FILE["lines"][right["lines"][-1]][:3]
    files = pages(tmp_path, {**right, "lines": right["lines"][:-1]}, 100)
    verify(on_disk, files, f"Your credits have come. Entry {number}:{last_hash[:12]}")
    on_disk.wait_for_text("#result", f"entries up to {number} were witnessed and are gone")


def test_texts_of_others_are_shown_and_never_run(on_disk: Page, tmp_path: Path) -> None:
    body = json.dumps({"posted": 0, "description": "<img src=x onerror=alert(1)>"})
    file = tmp_path / "hostile.jsonl"
    file.write_text(json.dumps({"number": 1, "body": body}), "utf-8")
    verify(on_disk, [str(file)])
    on_disk.wait_for_text("#result", "line 1 of the file is not one of a statement")
    assert "<img src=x onerror=alert(1)>" in on_disk.text("#entries tbody")
    assert on_disk.errors() == []
