"""The console in a real browser, on a stack of its own whose clock it moves.

`make screenshots` runs the test that takes the pictures of docs/images/console.
"""

import http.client
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rich.console import Console
from selenium.webdriver.common.keys import Keys

from chalicelib.domain import calendar
from chalicelib.domain.instants import parse_instant
from infra.commands import run
from infra.deployment import packaging
from infra.imports import csv_file, importing
from infra.imports.subscriptions import SUBSCRIPTIONS
from infra.local import turn
from infra.local.clock import LocalClock
from infra.local.console import server
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack, local_stack
from tests.aws import contract
from tests.stack.api import Api
from tests.stack.browser import Page, browser
from tests.stack.conftest import Packaged, wait_for

ANN = "ann"
PICTURES = packaging.ROOT / "docs" / "images" / "console"

WIDE, NARROW = 1440, 390
MOVING_SECONDS = 120.0
IS_PICTURED = bool(os.environ.get("SCREENSHOTS"))

NEW_YORK = "America/New_York"

# Where the people live: their month begins before New York's, and after it. The clock stops some
# twenty times a month at each instant at which the day begins for somebody, so these are few.
EAST_AND_WEST = {"Asia/Tokyo", "America/Los_Angeles"}

# Each page is loaded from an address of its own: where only the part after # is another, a browser
# loads nothing.
LOADS = itertools.count()


@dataclass(frozen=True)
class Stage:
    """A stack with a console of its own."""

    stack: LocalStack
    clock: LocalClock
    url: str
    api: Api
    expired_at: datetime
    began_at: datetime

    def schedule(self, user_id: str) -> dict[str, Any]:
        reply = self.api.send(
            "GET", f"/api/credits/allocation-schedule?user_id={user_id}", self.api.admin
        )
        assert reply.status == 200, reply.text
        found: dict[str, Any] = reply.json
        return found


def living_in(zones: set[str], people: list[str]) -> list[str]:
    """Those lines of the sample whose people live in these zones."""
    return [person for person in people if person.split(",")[2] in zones]


@pytest.fixture(scope="module")
def stage(packaged: Packaged, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        server.console() as page,
        local_stack(schedules=False, make_package=packaged, origins=page.origins) as stack,
    ):
        file = tmp_path_factory.mktemp("people") / "people.csv"
        # As `make run` does: a month turns, and the clock stands where its credits have expired.
        names, *people = run.SAMPLE.read_text().splitlines()[:401]
        file.write_text("\n".join((names, *living_in(EAST_AND_WEST, people[:100]))))
        now = LocalClock(stack).now()
        month = max(calendar.period_at(zone, now) for zone in calendar.zone_names()).next()
        expires_on = month.first_day + timedelta(days=turn.EXPIRY_TURN_AFTER)
        assert run.story(stack, file, Console(file=StringIO()), EAST_AND_WEST)
        began_at = LocalClock(stack).now()
        # More people, of whom the pictures show those round the world.
        more = people if IS_PICTURED else living_in({NEW_YORK}, people[:100])
        file.write_text("\n".join((names, *more)))
        services = services_of_local(stack)
        rows = SUBSCRIPTIONS.check(services, csv_file.read(file)).good
        importing.import_rows(SUBSCRIPTIONS, services, rows)
        with page.showing(stack) as clock:
            expired_at = max(calendar.midnight(zone, expires_on) for zone in EAST_AND_WEST)
            yield Stage(stack, clock, page.url, Api(stack), expired_at, began_at)


@pytest.fixture(scope="module")
def the_browser() -> Iterator[Page]:
    with browser() as driver:
        yield Page(driver)


@pytest.fixture
def page(the_browser: Page, stage: Stage) -> Iterator[Page]:
    """The console with Ann signed in. Whatever a test does, nothing may go wrong unseen."""
    stage.api.subscribe(ANN, timezone=NEW_YORK, plan="starter", email="ann@example.com")
    the_browser.resize(WIDE, 1000)
    show(the_browser, stage, ANN)
    yield the_browser
    assert the_browser.errors() == []


def show(page: Page, stage: Stage, user_id: str) -> None:
    page.driver.get(f"{stage.url}/?{next(LOADS)}#{user_id}")
    wait_for(
        lambda: page.js("return document.documentElement.dataset.ready"), "the page to be ready"
    )


def spend(page: Page, amount: int) -> None:
    page.js("document.querySelector('form[data-action=spend]').parentElement.open = true")
    page.fill("form[data-action=spend] [name=amount]", str(amount))
    page.click("form[data-action=spend] button")


def shown_balance(page: Page) -> int:
    return int(page.text("#balance").removesuffix("available").replace(",", ""))


# --- The card and the history ---------------------------------------------------------------------


def test_the_card_shows_the_numbers_of_the_api(page: Page, stage: Stage) -> None:
    stage.api.grant(ANN, 1_234, key="card-1")
    body = {"user_id": ANN, "amount": 40, "description": "For a while", "expires_in_days": 9}
    stage.api.send("POST", "/api/credits/allocate", stage.api.admin, body, key="card-2")
    show(page, stage, ANN)
    told = stage.schedule(ANN)
    assert shown_balance(page) == told["current_balance"] == 1_274
    coming = page.text(".coming")
    day = datetime.fromisoformat(told["next_allocation_date"])
    assert coming == f"+{told['allocation_amount']} on {day:%A} {day.day} {day:%B %Y}"
    last = datetime.fromisoformat(told["expiring_credits"][0]["expires_at"]) - timedelta(days=1)
    assert page.texts(".expiring li") == [
        f"40 credits through {last.day} {last:%B}",
        "1,234 credits never expire",
    ]


def test_the_countdown_is_of_the_stacks_clock(page: Page, stage: Stage) -> None:
    at = parse_instant("at", stage.schedule(ANN)["next_allocation_at"])
    days, hours, minutes, seconds = (int(text) for text in page.texts("#countdown b"))
    shown = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    assert abs(at - stage.clock.now() - shown) < timedelta(seconds=10)
    assert page.find("#countdown").get_attribute("role") == "timer"


def test_the_history_is_shown_by_type_and_page_by_page(page: Page, stage: Stage) -> None:
    stage.api.subscribe("paging")
    for number in range(9):
        stage.api.grant("paging", 10 + number, key=f"paging-{number}")
    use = {"user_id": "paging", "amount": 3, "description": "Export <b>of</b> pages"}
    stage.api.send("POST", "/api/credits/use", stage.api.backend, use, key="paging")
    show(page, stage, "paging")
    lines = page.texts("#history > li")
    assert len(lines) == 8
    # What was typed by somebody is text, whatever it looks like.
    assert "Export <b>of</b> pages" in lines[0]
    assert "−3 balance 123" in lines[0]
    page.click("#older")
    page.wait_for_text("#said", "10 lines are shown.")
    assert len(page.texts("#history > li")) == 10
    assert not page.find("#older").is_displayed()
    page.click("input[value=usage]")
    wait_for(lambda: len(page.texts("#history > li")) == 1, "the one usage")
    page.click("input[value=expiration]")
    wait_for(lambda: page.find("#history-empty").is_displayed(), "that there is none")


def test_what_is_held_is_shown_on_the_card_and_in_the_history(page: Page, stage: Stage) -> None:
    stage.api.subscribe("holding")
    stage.api.grant("holding", 100, key="holding")
    job = {"user_id": "holding", "amount": 50, "description": "Crawl"}
    held = stage.api.send("POST", "/api/credits/holds", stage.api.backend, job, key="holding-1")
    show(page, stage, "holding")
    assert shown_balance(page) == 50
    (line,) = page.texts(".held li")
    assert line.startswith("50 reserved until ")
    assert "50 reserved balance 100" in page.texts("#history > li")[0]
    release = f"/api/credits/holds/{held.json['hold_id']}/release"
    stage.api.send("POST", release, stage.api.backend, {})
    show(page, stage, "holding")
    assert shown_balance(page) == 100
    assert page.texts(".held li") == []
    page.wait_for_text("#events", "credits.released")
    # Newest first, and a crossing after the event of its own entry.
    assert [line.split(" entry")[0] for line in page.texts("#events li")] == [
        "credits.released",
        "credits.held",
        "credits.balance_recovered crossing of 20",
        "credits.adjusted",
    ]
    assert "50 free again balance 100" in page.texts("#history > li")[0]
    page.click("input[value=hold]")
    wait_for(lambda: len(page.texts("#history > li")) == 1, "the one hold")


# --- Doing ----------------------------------------------------------------------------------------


def test_credits_are_spent_granted_and_given_back_and_the_curl_line_is_shown(
    page: Page, stage: Stage
) -> None:
    before = shown_balance(page)
    page.click(".act details:nth-of-type(2) summary")
    page.fill("form[data-action=grant] [name=amount]", "70")
    page.click("form[data-action=grant] button")
    page.wait_for_text("#said", f"Granted 70 credits. {before + 70:,} available.")
    spend(page, 30)
    page.wait_for_text("#said", f"Spent 30 credits. {before + 40:,} left.")
    assert shown_balance(page) == before + 40 == stage.api.balance(ANN)
    page.wait_for_text("#events", "credits.used")
    newest, *older = page.texts("#events li")
    _, sent, _ = ask(stage, "GET", f"/local/events?user_id={ANN}")
    used = sent["events"][0]
    granted = next(event for event in sent["events"] if event["name"] == "credits.adjusted")
    assert used["name"] == "credits.used"
    assert used["number"] == granted["number"] + 1
    assert newest.startswith(f"credits.used entry {used['number']} · ")
    assert newest.endswith(f" · {used['hash']} {before + 40:,} available")
    assert f" · {granted['hash']} {before + 70:,} available" in " ".join(older)
    line = page.text("#calls pre")
    assert line.startswith(f"curl -X POST {stage.stack.api_url}/api/credits/use")
    assert f'"Authorization: Bearer $(make -s token USER_ID={ANN})"' in line
    assert '"amount":30' in line
    page.click("#history .back")
    page.wait_for_text("#said", "Gave back 30 credits.")
    assert shown_balance(page) == before + 70 == stage.api.balance(ANN)


def test_credits_are_granted_for_ever_or_as_long_as_those_of_the_plan(
    page: Page, stage: Stage
) -> None:
    stage.api.subscribe("lifetimes", plan="starter")
    show(page, stage, "lifetimes")
    page.click(".act details:nth-of-type(2) summary")
    page.fill("form[data-action=grant] [name=amount]", "7")
    page.click("form[data-action=grant] button")
    page.wait_for_text("#said", "Granted 7 credits. 7 available.")
    page.click("form[data-action=grant] [name=never]")
    assert not page.find("form[data-action=grant] [name=expires_in_days]").is_enabled()
    page.click("form[data-action=grant] button")
    page.wait_for_text("#said", "Granted 7 credits. 14 available.")
    lasting, expiring = "7 credits never expire", "7 credits through "
    shown = page.texts(".expiring li")
    assert shown[1] == lasting
    assert shown[0].startswith(expiring)


def test_a_refusal_is_told_in_words_and_changes_nothing(page: Page, stage: Stage) -> None:
    before = shown_balance(page)
    spend(page, 1_000_000)
    page.wait_for_text("#trouble", "available")
    assert page.find("#trouble").get_attribute("role") == "alert"
    assert shown_balance(page) == before == stage.api.balance(ANN)
    assert [error for error in page.errors() if "402" not in error] == []


def test_somebody_new_subscribes_and_moves_to_another_timezone(page: Page, stage: Stage) -> None:
    page.click(".act details:nth-of-type(4) summary")
    page.fill("form[data-action=subscribe] [name=user_id]", "new-1")
    page.click("form[data-action=subscribe] button")
    page.wait_for_text("#said", "User new-1 has subscribed.")
    assert page.find("#user").get_property("value") == "new-1"
    page.wait_for_text(".part", "at midnight in Paris")
    page.fill("form[data-action=subscribe] [name=user_id]", "new-1")
    page.fill("form[data-action=subscribe] [name=timezone]", "Asia/Tokyo")
    page.click("form[data-action=subscribe] button")
    page.wait_for_text("#trouble", "User new-1 is there already, and nothing was changed.")
    assert stage.schedule("new-1")["timezone"] == "Europe/Paris"
    page.click(".act details:nth-of-type(3) summary")
    page.fill("form[data-action=move] [name=timezone]", "Asia/Kathmandu")
    page.click("form[data-action=move] button")
    page.wait_for_text("#said", "User new-1 lives in Kathmandu now.")
    page.wait_for_text(".part", "at midnight in Kathmandu")
    assert stage.schedule("new-1")["timezone"] == "Asia/Kathmandu"
    page.fill("form[data-action=move] [name=timezone]", "Asia/Katmandhu")
    page.click("form[data-action=move] button")
    page.wait_for_text("#trouble", "did you mean 'Asia/Katmandu'?")
    assert [error for error in page.errors() if "400" not in error and "412" not in error] == []


def test_an_expired_session_is_told_clearly_and_ends_with_signing_in_again(page: Page) -> None:
    before = shown_balance(page)
    page.click("#expire-token")
    page.wait_for_text("#card [role=alert]", "Your session has expired.")
    assert page.texts("#history > li") == []
    page.click("#card button")
    page.wait_for_text("#balance", f"{before:,}")
    assert [error for error in page.errors() if "401" not in error] == []


def test_nobody_is_not_an_empty_account(page: Page) -> None:
    page.fill("#user", "nobody")
    page.press(Keys.ENTER)
    page.wait_for_text("#card", "There is nothing to show for user nobody.")
    page.wait_for_text("#trouble", "there is no user nobody")
    assert [error for error in page.errors() if "404" not in error] == []


# --- The clock ------------------------------------------------------------------------------------


def move(page: Page, to: str) -> None:
    page.js("document.querySelector('#said').textContent = ''")
    page.click(f"[data-move='{to}']")
    page.wait_for_text("#said", "The clock stands at", MOVING_SECONDS)


def moments_passed(start: datetime, now: datetime) -> int:
    """At how many moments the month that begins at a start in New York has begun by now."""
    period = calendar.period_at(NEW_YORK, start)
    starts = {calendar.month_start(zone, period) for zone in calendar.zone_names()}
    return sum(at <= now for at in starts)


def test_credits_land_as_the_clock_passes_midnight_and_expire_thirty_days_later(
    page: Page, stage: Stage
) -> None:
    stage.api.subscribe("luz", timezone=NEW_YORK, plan="starter", email="luz@example.com")
    show(page, stage, "luz")
    start = parse_instant("at", stage.schedule("luz")["next_allocation_at"])
    assert shown_balance(page) == 0
    assert page.text("#turn-sums dd").startswith(f"{moments_passed(start, stage.clock.now())} of")

    move(page, "next 1st")
    assert stage.clock.now() >= start
    assert shown_balance(page) == 100 == stage.schedule("luz")["current_balance"]
    assert "Monthly credits" in page.texts("#history > li")[0]
    # The bars up to New York's have filled, the others have not.
    assert len(page.texts("#strip .passed")) == moments_passed(start, start)
    users, landed = page.texts("#turn-sums dd")[1:]
    assert users.split(" of ")[0] != "0"
    assert users.split(" of ")[0] != users.split(" of ")[1]
    assert landed.split(" of ")[0] != "0"
    queues = page.texts("#queues th")
    assert {"sweeps", "allocations", "expiries", "notifications", "ledger-stream"} <= set(queues)
    assert page.texts("#queues td:nth-child(3)") == ["0"] * len(queues)

    # Her mail is there, and can be read without a mouse.
    page.wait_for_text("#mails", "credits are here")
    page.js("document.querySelector('#mails button').focus()")
    page.press(Keys.ENTER)
    wait_for(lambda: page.find("#mail").is_displayed(), "the mail")
    page.driver.switch_to.frame(page.find("#mail-frame"))
    page.wait_for_text("body", "100 credits")
    page.driver.switch_to.default_content()
    page.press(Keys.ESCAPE)
    wait_for(lambda: not page.find("#mail").is_displayed(), "the mail to close")
    assert "credits are here" in page.focused()

    # Her remaining credits expire with the thirtieth day, for the API as for the page.
    spend(page, 60)
    page.wait_for_text("#said", "40 left")
    move(page, "+30 days")
    assert any("Expired" in line and "−40" in line for line in page.texts("#history > li"))
    assert shown_balance(page) == stage.api.balance("luz")
    spend(page, 101)
    page.wait_for_text("#trouble", "available")
    assert [error for error in page.errors() if "402" not in error] == []


def test_credits_come_too_when_the_clock_passes_midnight_by_itself(
    page: Page, stage: Stage
) -> None:
    stage.api.subscribe("tick", timezone=NEW_YORK, plan="pro")
    period = calendar.period_at(NEW_YORK, stage.clock.now()).next()
    stage.clock.move(calendar.month_start(NEW_YORK, period) - timedelta(seconds=12))
    assert stage.api.balance("tick") == 0
    show(page, stage, "tick")
    page.wait_for_text("#balance", "500", 60)
    wait_for(lambda: "Monthly credits" in page.text("#history"), "the line in the history")


def test_after_a_turn_the_clock_stands_where_the_credits_of_the_lowest_plan_have_expired(
    page: Page, stage: Stage
) -> None:
    assert timedelta(0) <= stage.began_at - stage.expired_at < timedelta(minutes=5)
    # The users in the file have been given credits, and those of the lowest plan have expired.
    show(page, stage, "1")
    page.click("input[value=expiration]")
    wait_for(lambda: len(page.texts("#history > li")) >= 1, "the expiration of last month's")
    page.click("#turn-previous")
    wait_for(lambda: page.text("#turn-sums dd") == "38 of 38", "the month that has turned")
    users = page.texts("#turn-sums dd")[1]
    assert users.split(" of ")[0] == users.split(" of ")[1] != "0"


def test_the_clock_is_moved_from_the_command_line_too(
    stage: Stage, page: Page, tmp_path: Path
) -> None:
    state = tmp_path / "local.json"
    state.write_text(stage.stack.to_json())

    def clock(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infra", "clock", *words],
            cwd=packaging.ROOT,
            env=os.environ | {"CREDITS_STATE_FILE": str(state)},
            capture_output=True,
            text=True,
            check=False,
        )

    wanted = calendar.next_midnight("Asia/Tokyo", stage.clock.now())
    moved = clock("--to", "next midnight", "--zone", "Asia/Tokyo")
    assert moved.returncode == 0, moved.stderr
    assert wanted <= parse_instant("now", moved.stdout.strip()) <= stage.clock.now()
    back = clock("--to", "2020-01-01T00:00:00Z")
    assert (back.returncode, back.stdout) == (1, "")
    assert "the clock moves forward only" in back.stderr
    before = stage.clock.now()
    stage.clock.move(before - timedelta(days=1))
    assert stage.clock.now() >= before
    show(page, stage, ANN)
    assert parse_instant("now", page.find("#now").get_attribute("datetime")) >= wanted


# --- For everybody --------------------------------------------------------------------------------


def test_everything_is_reached_by_keyboard_has_a_name_and_shows_the_focus(page: Page) -> None:
    page.js("document.body.focus()")
    walked: list[str] = []
    for _ in range(60):
        page.press(Keys.TAB)
        named = page.focused()
        if page.js("return document.activeElement === document.body"):
            break
        outline = page.js("return getComputedStyle(document.activeElement).outlineStyle")
        ring = page.js(
            "return getComputedStyle(document.activeElement.nextElementSibling ?? document.body)"
            ".outlineStyle"
        )
        assert {outline, ring} != {"none"}, f"{named} does not show the focus"
        assert not named.startswith(" ["), f"something without a name: {named}"
        walked.append(named)
    assert walked[:7] == [
        "Skip to the credits [link]",
        "Next midnight [button]",
        "Next 1st [button]",
        "+30 days [button]",
        "Signed in as user [combobox]",
        "Sign in [button]",
        "Everything [radio]",
    ]
    # The strip of 38 moments is one stop.
    moments = [name for name in walked if "midnight in" in name]
    assert len(moments) == 1
    assert any(name.startswith("Let the session expire") for name in walked)


def test_the_arrow_keys_walk_along_the_turn_of_the_month(page: Page) -> None:
    page.js("document.querySelector('#strip [tabindex=\"0\"]').focus()")
    page.press(Keys.HOME)
    first = page.focused()
    assert "midnight in Kiritimati" in first
    assert page.text("#instant b") in first
    page.press(Keys.ARROW_RIGHT)
    assert "Chatham" in page.focused()
    assert page.text("#instant b") in page.focused()
    page.press(Keys.ARROW_LEFT)
    assert page.focused() == first
    page.press(Keys.END)
    assert "12:00 UTC" in page.focused()


def test_the_skip_link_leads_to_the_credits(page: Page) -> None:
    page.js("document.body.focus()")
    page.press(Keys.TAB, Keys.ENTER)
    wait_for(lambda: page.js("return document.activeElement.id") == "card", "the focus")


CONTRASTS = """
const luminance = ([r, g, b]) => [r, g, b]
  .map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
const ground = (element) => {
  for (let each = element; each; each = each.parentElement) {
    const [r, g, b, a = 1] = parts(getComputedStyle(each).backgroundColor);
    if (a > 0.99) return [r, g, b];
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let node = walker.nextNode(); node; node = walker.nextNode()) {
  const element = node.parentElement;
  if (!node.textContent.trim() || !element.checkVisibility()) continue;
  if (element.closest(".hidden, :disabled")) continue;
  const [light, dark] = [parts(getComputedStyle(element).color).slice(0, 3), ground(element)]
    .map(luminance).sort((a, b) => b - a);
  found.push([(light + 0.05) / (dark + 0.05), node.textContent.trim()]);
}
return found;
"""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_its_ground(page: Page, stage: Stage, *, is_dark: bool) -> None:
    stage.api.grant(ANN, 5, key="contrast")
    page.resize(WIDE, 1000, is_dark=is_dark)
    show(page, stage, ANN)
    texts = page.js(CONTRASTS)
    assert len(texts) > 60
    assert [(round(ratio, 2), text) for ratio, text in texts if ratio < 4.5] == []


@pytest.mark.parametrize("width", [320, 360, NARROW, 768, WIDE, 2200])
def test_nothing_is_cut_off_at_any_width(page: Page, width: int) -> None:
    page.resize(width, 900)
    assert page.js("return document.documentElement.scrollWidth") <= width


def test_the_page_is_in_order_for_a_screen_reader(page: Page) -> None:
    ids = page.js("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert page.js("return document.querySelectorAll('h1').length") == 1
    unnamed = page.js(
        "return [...document.querySelectorAll('input, select')]"
        ".filter((one) => !one.labels.length).length"
    )
    assert unnamed == 0
    pointed = page.js(
        "return [...document.querySelectorAll('[aria-labelledby]')]"
        ".map((one) => one.getAttribute('aria-labelledby'))"
    )
    assert set(pointed) <= set(ids)
    assert page.find("#said").get_attribute("role") == "status"


# --- The server -----------------------------------------------------------------------------------


def ask(
    stage: Stage, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """What the console's server answers: status, body, headers."""
    connection = http.client.HTTPConnection(urlsplit(stage.url).netloc, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    data = None if body is None else json.dumps(body)
    if body is not None:
        sent = {"Content-Type": "application/json"} | sent
    try:
        connection.request(method, path, data, sent)
        answer = connection.getresponse()
        raw = answer.read().decode()
        is_json = answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(raw) if is_json else raw, dict(answer.headers)
    finally:
        connection.close()


TOKEN = {"user_id": ANN, "scope": "credits:admin"}


@pytest.mark.parametrize("host", ["evil.example.com", "localhost", "127.0.0.1", "127.0.0.1:1"])
def test_the_server_answers_to_its_own_address_only(stage: Stage, host: str) -> None:
    for method, path, body in (("GET", "/", None), ("POST", "/local/token", TOKEN)):
        status, answer, _ = ask(stage, method, path, body, Host=host)
        assert status == 403
        assert f"This is {stage.url} of a local stack of Credits. It answers to no other" in answer
        assert repr(host) in answer


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost:3000"])
def test_pages_of_other_origins_can_neither_write_nor_read(stage: Stage, origin: str) -> None:
    before = stage.clock.now()
    for path, body in (("/local/token", TOKEN), ("/local/clock", {"to": "+30 days"})):
        assert ask(stage, "POST", path, body, Origin=origin)[0] == 403
        # What a form of theirs could send without asking.
        assert ask(stage, "POST", path, body, Content_Type="text/plain")[0] == 400
    status, _, headers = ask(stage, "GET", "/local/clock", Origin=origin)
    assert status == 403
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert stage.clock.now() - before < timedelta(days=1)


def test_the_page_loads_nothing_from_elsewhere(stage: Stage) -> None:
    _, html, headers = ask(stage, "GET", "/")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    address = urlsplit(stage.stack.api_url).netloc
    assert f"connect-src 'self' http://{address};" in policy
    assert "frame-ancestors 'none'" in policy
    for name, file in server.FILES.items():
        assert ask(stage, "GET", f"/{name}")[0] == 200
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
    assert "style=" not in html
    assert ask(stage, "GET", "/server.py")[0] == 404
    assert ask(stage, "GET", "/..%2Fserver.py")[0] == 404


def test_the_reference_of_the_api_is_a_page_that_loads_nothing_from_elsewhere(stage: Stage) -> None:
    status, html, headers = ask(stage, "GET", "/docs")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert set(re.findall(r'(?:href|src)="([^#"][^"]*)"', html)) == {
        "/icon.svg",
        "/colours.css",
        "/reference.css",
    }
    anchors = set(re.findall(r' id="([^"]+)"', html))
    linked = set(re.findall(r'href="#([^"]*)"', html))
    assert linked <= anchors
    for method, path in contract.operations():
        assert f">{method} {path}</a>" in html, "the index names every route"
    assert ask(stage, "GET", "/docs/other")[0] == 404


@pytest.mark.parametrize(
    ("path", "body", "advice"),
    [
        ("/local/clock", {"to": "2020-01-01T00:00:00Z"}, "moves forward only"),
        ("/local/clock", {"to": "next midnight", "timezone": "Mars"}, "timezone"),
        ("/local/clock", {"to": "next midnight", "by": 3}, "by"),
        ("/local/clock", {}, "to"),
        ("/local/token", {"user_id": "a b"}, "user_id"),
        ("/local/token", {"user_id": ANN, "scope": "root"}, "scope"),
        ("/local/token", {"user_id": ANN, "seconds": 1e9}, "seconds"),
        ("/local/token", [], "body"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    stage: Stage, path: str, body: object, advice: str
) -> None:
    status, answer, _ = ask(stage, "POST", path, body)
    assert status == 400
    assert advice in answer["detail"]
    assert ask(stage, "POST", "/local/nothing", {})[0] == 404
    assert ask(stage, "GET", "/local/turn?period=2026-13")[0] == 400


def test_a_mail_can_do_nothing_in_the_page(stage: Stage) -> None:
    # Granted by hand, so that there is one.
    stage.api.subscribe("reader", email="reader@example.com")
    stage.api.grant("reader", 3, key="mail")

    def mails() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(stage, "GET", "/local/mails?user_id=reader")[1]["mails"]
        return found

    (mail,) = wait_for(mails, "the mail")
    assert mail["to"] == ["reader@example.com"]
    status, html, headers = ask(stage, "GET", f"/local/mail?id={mail['id']}")
    assert status == 200
    assert "3 credits" in html
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; sandbox;")
    assert ask(stage, "GET", "/local/mail?id=none")[0] == 404


# --- Pictures -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ada(stage: Stage) -> str:
    """Somebody in New York, for whom a month has just begun, while it has not further west."""
    ada = "ada"
    stage.api.subscribe(ada, timezone=NEW_YORK, plan="starter", email="ada@example.org")
    body = {"user_id": ada, "amount": 250, "description": "Welcome"}
    stage.api.send("POST", "/api/credits/allocate", stage.api.admin, body, key="picture-1")
    period = calendar.period_at(NEW_YORK, stage.clock.now()).next()
    stage.clock.move(calendar.month_start(NEW_YORK, period) + timedelta(minutes=12))
    for number, (amount, what) in enumerate(
        ((35, "Export of 35 pages"), (12, "Translation"), (60, "Yearly report"))
    ):
        use = {"user_id": ada, "amount": amount, "description": what}
        stage.api.send("POST", "/api/credits/use", stage.api.backend, use, key=f"ada-{number}")
    body = {"user_id": ada, "amount": 90, "description": "Spring campaign", "expires_in_days": 12}
    stage.api.send("POST", "/api/credits/allocate", stage.api.admin, body, key="picture-2")
    return ada


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [WIDE, NARROW], ids=["wide", "narrow"])
def test_the_console_can_be_pictured(
    page: Page, stage: Stage, ada: str, tmp_path: Path, width: int, *, is_dark: bool
) -> None:
    directory = PICTURES if IS_PICTURED else tmp_path
    name = f"{'wide' if width == WIDE else 'narrow'}-{'dark' if is_dark else 'light'}.png"
    show(page, stage, ada)
    spend(page, 3)
    page.wait_for_text("#said", "Spent 3 credits.")
    wait_for(lambda: len(page.texts("#mails li")) >= 2, "her mails")
    page.picture(directory / name, width, is_dark=is_dark)
    assert (directory / name).stat().st_size > 50_000
