"""The local console in a real browser, on a stack of its own whose clock it moves.

The page is loaded a few times only: tests go from tab to tab, as people do. What Support does is
tested in the console of a deployed stack, which is the same code (test_console_deployed.py). `make
screenshots` runs the test that takes the pictures of docs/images/console.
"""

import http.client
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from chalicelib.domain import calendar
from chalicelib.domain.instants import format_instant, parse_instant
from infra.commands import run
from infra.deployment import packaging
from infra.imports import csv_file, importing
from infra.imports.subscriptions import SUBSCRIPTIONS
from infra.local.clock import LocalClock
from infra.local.console import server
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack, local_stack
from tests.aws import contract
from tests.stack.api import Api
from tests.stack.browser import Page, browser, press, settled, violations
from tests.stack.conftest import Packaged, wait_for

ANN = "ann"
PICTURES = packaging.ROOT / "docs" / "images" / "console"
OTHER_PICTURES = packaging.BUILD / "console"
"""Those that no page of the docs shows: for people who change the console to look at."""

WIDE, NARROW = 1280, 390
MOVING_SECONDS = 120.0
IS_PICTURED = bool(os.environ.get("SCREENSHOTS"))

NEW_YORK = "America/New_York"

# Where the people live: their month begins before New York's, and after it. The clock stops some
# twenty times a month at each instant at which the day begins for somebody, so these are few.
HERE_AND_THERE = {"Asia/Tokyo", "America/Los_Angeles", NEW_YORK}

PAGES = ("#/customer/ann", "#/users/ann", "#/lab", "#/lab/outbox", "#/lab/events", "#/lab/requests")


@dataclass(frozen=True)
class Stage:
    """A stack with a console of its own."""

    stack: LocalStack
    clock: LocalClock
    url: str
    api: Api

    def schedule(self, user_id: str) -> dict[str, Any]:
        reply = self.api.send(
            "GET", f"/api/credits/allocation-schedule?user_id={user_id}", self.api.admin
        )
        assert reply.status == 200, reply.text
        found: dict[str, Any] = reply.json
        return found


@pytest.fixture(scope="module")
def stage(packaged: Packaged, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        server.console() as page,
        local_stack(schedules=False, make_package=packaged, origins=page.origins) as stack,
    ):
        file = tmp_path_factory.mktemp("people") / "people.csv"
        # The pictures show people round the world.
        names, *people = run.SAMPLE.read_text().splitlines()[: 401 if IS_PICTURED else 41]
        some = [each for each in people if IS_PICTURED or each.split(",")[2] in HERE_AND_THERE]
        file.write_text("\n".join((names, *some)))
        services = services_of_local(stack)
        rows = SUBSCRIPTIONS.check(services, csv_file.read(file)).good
        importing.import_rows(SUBSCRIPTIONS, services, rows)
        api = Api(stack)
        api.subscribe(ANN, timezone=NEW_YORK, plan="starter", email="ann@example.com")
        with page.showing(stack) as clock:
            yield Stage(stack, clock, page.url, api)


@pytest.fixture(scope="module")
def loaded(stage: Stage) -> Iterator[Page]:
    with browser() as driver:
        page = Page(driver)
        page.resize(WIDE, 1000)
        load(page, stage)
        yield page


@pytest.fixture
def page(loaded: Page) -> Iterator[Page]:
    """The console. Whatever a test does, nothing may go wrong unseen."""
    loaded.errors()
    yield loaded
    loaded.js("for (const dialog of document.querySelectorAll('dialog')) dialog.close()")
    # The browser itself writes down each refusal of the API.
    refusals = re.compile(r"server responded with a status of 4[0-9]{2} ")
    assert [said for said in loaded.errors() if not refusals.search(said)] == []


def load(page: Page, stage: Stage, place: str = "") -> None:
    """Loads the page anew."""
    page.driver.get("about:blank")
    page.driver.get(f"{stage.url}/{place}")
    wait_for(lambda: page.js("return document.documentElement.dataset.ready"), "the page")
    settled(page)


def show(page: Page, place: str) -> None:
    """Goes to a place within the page, which is drawn anew also if it was there."""
    page.js("location.hash = '#/lab/requests'")
    wait_for(lambda: page.text("h1") == "Requests", "another page")
    page.js("location.hash = arguments[0]", place)
    wait_for(lambda: page.text("h1") != "Requests" or place == "#/lab/requests", place)
    settled(page)


def customer(page: Page, user_id: str) -> None:
    """Shows what a user sees, anew."""
    show(page, f"#/customer/{user_id}")
    wait_for(lambda: page.texts("#balance"), f"the credits of {user_id}")


def spend(page: Page, amount: int) -> None:
    page.fill("#spend [name=amount]", str(amount))
    page.click("#spend button")


def shown_balance(page: Page) -> int:
    return int(page.text("#balance").removesuffix("available").replace(",", ""))


def choose(page: Page, selector: str, value: str) -> None:
    """Chooses an option."""
    page.js(
        "const box = document.querySelector(arguments[0]); box.value = arguments[1];"
        "box.dispatchEvent(new Event('change', {bubbles: true}))",
        selector,
        value,
    )


def lines_of(page: Page) -> list[str]:
    return page.texts("#history > li")


# --- The tabs -------------------------------------------------------------------------------------


def test_it_opens_on_what_a_customer_sees_and_the_tabs_keep_the_customer(
    page: Page, stage: Stage
) -> None:
    stage.api.grant(ANN, 200, key="opened")
    load(page, stage)
    assert page.texts("#areas a") == ["Customer", "Support", "Lab"]
    assert page.text("#areas [aria-current]") == "Customer"
    # Nobody else has credits yet.
    assert page.find("#user").get_property("value") == ANN
    assert urlsplit(page.driver.current_url).fragment == f"/customer/{ANN}"
    assert shown_balance(page) == 200
    kept = page.js(
        "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert json.loads(kept) == [{}, {}, ""]
    page.click("#areas a:nth-child(2)")
    wait_for(lambda: ANN in page.text(".crumbs"), "her page in Support")
    settled(page)
    assert page.text("#available strong") == "200"
    page.click("#areas a:nth-child(3)")
    wait_for(lambda: page.text("h1") == "The clock", "the Lab")
    assert page.find("[name=timezone]").get_property("value") == NEW_YORK
    page.click("#areas a:nth-child(1)")
    wait_for(lambda: page.texts("#balance"), "her credits")


def test_an_address_leads_back_to_its_tab_user_and_month(page: Page, stage: Stage) -> None:
    load(page, stage, f"#/lab?user={ANN}&month=2027-03")
    page.wait_for_text("#turn h2", "The month turns to March 2027")
    assert page.find("[name=timezone]").get_property("value") == NEW_YORK
    page.click("#turn-previous")
    page.wait_for_text("#turn h2", "The month turns to February 2027")
    assert page.focused() == "The month before [button]"
    at = page.driver.current_url
    page.driver.refresh()
    page.wait_for_text("#turn h2", "The month turns to February 2027")
    assert page.driver.current_url == at
    settled(page)


# --- The clock ------------------------------------------------------------------------------------


def arrived(page: Page) -> None:
    page.wait_for_text(".free [role=status]", "The clock stands at", MOVING_SECONDS)


def moments_passed(start: datetime, now: datetime) -> int:
    """At how many moments the month that begins at a start in New York has begun by now."""
    period = calendar.period_at(NEW_YORK, start)
    starts = {calendar.month_start(zone, period) for zone in calendar.zone_names()}
    return sum(at <= now for at in starts)


@pytest.fixture(scope="module")
def turned(loaded: Page, stage: Stage) -> datetime:
    """When the month began in New York: the clock was moved to just before, and went on."""
    stage.api.subscribe("luz", timezone=NEW_YORK, plan="starter", email="luz@example.com")
    show(loaded, "#/customer/luz")
    start = parse_instant("at", stage.schedule("luz")["next_allocation_at"])
    show(loaded, "#/lab?user=luz")
    loaded.fill("[name=to]", format_instant(start - timedelta(seconds=8)))
    loaded.click(".free button")
    loaded.wait_for_text(".free [role=status]", "The clock is moving …")
    arrived(loaded)
    return start


def test_credits_come_when_the_clock_passes_midnight_by_itself(
    page: Page, stage: Stage, turned: datetime
) -> None:
    customer(page, "luz")
    page.wait_for_text("#balance", "100", 60)
    wait_for(lambda: "Monthly credits" in page.text("#history"), "the line in the history")
    assert shown_balance(page) == 100 == stage.schedule("luz")["current_balance"]
    assert stage.clock.now() >= turned


def test_the_lab_opens_on_the_month_that_has_just_turned(
    page: Page, stage: Stage, turned: datetime
) -> None:
    show(page, "#/lab?user=luz")
    assert page.text("#turn h2") == f"The month turns to {turned:%B %Y}"
    # The bars up to New York's have filled, the others have not.
    passed = moments_passed(turned, stage.clock.now())
    assert page.text("#turn-sums dd") == f"{passed} of 38"
    assert len(page.texts("#strip .passed")) == passed
    users, landed = page.texts("#turn-sums dd")[1:]
    assert users.split(" of ")[0] not in {"0", users.split(" of ")[1]}
    assert landed.split(" of ")[0] != "0"
    assert "midnight in New York, " in page.text("#instant")
    queues = page.texts("#queues .first")
    assert {"sweeps", "allocations", "expiries", "notifications", "ledger-stream"} <= set(queues)
    assert page.texts("#queues td:nth-child(3)") == ["0"] * len(queues)


def test_a_place_is_called_by_its_city_and_how_far_ahead_it_is(page: Page) -> None:
    show(page, "#/lab")
    called = page.js(
        "return [...document.querySelectorAll('#strip button')].map((bar) => bar.ariaLabel)"
    )
    assert "midnight in Kiritimati (UTC+14). " in called[0]
    assert "midnight in UTC−12, where no city is. " in called[-1]
    assert [name for name in called if re.search("GMT|Etc|EST|undefined", name)] == []
    places = page.driver.execute_async_script(
        "const [zones, done] = arguments; import('./console/dom.js').then("
        "({place}) => done(zones.map((zone) => place(zone, '2027-01-01T00:00:00Z'))))",
        ["Pacific/Kiritimati", "Etc/GMT-14", "Etc/GMT+12", "UTC", "EST", "Asia/Kolkata"],
    )
    assert places == [
        *("Kiritimati (UTC+14)", "UTC+14", "UTC−12", "UTC", "UTC−5", "Kolkata (UTC+5:30)"),
    ]


def test_the_outbox_is_a_list_whose_emails_open_without_a_mouse(
    page: Page, stage: Stage, turned: datetime
) -> None:
    show(page, "#/lab/outbox?of=luz")
    page.wait_for_text(".mails", "credits are here")
    (row,) = page.texts(".mails tbody tr")
    assert re.search(rf"credits are here luz@example.com {turned.day} {turned:%b %Y}, ", row)
    page.js("document.querySelector('.mails button').focus()")
    page.press(Keys.ENTER)
    wait_for(lambda: page.texts("dialog[open] iframe"), "the email")
    assert page.find("dialog iframe").get_attribute("sandbox") == ""
    page.driver.switch_to.frame(page.find("dialog iframe"))
    page.wait_for_text("body", "100 credits")
    page.driver.switch_to.default_content()
    page.press(Keys.ESCAPE)
    wait_for(lambda: not page.texts("dialog"), "the email to close")
    assert "credits are here" in page.focused()
    # Of everybody there are more; of somebody without an address none, and what to do then.
    everybody = ask(stage, "GET", "/local/mails")[1]
    assert everybody["total"] > len(ask(stage, "GET", "/local/mails?user_id=luz")[1]["mails"]) == 1
    stage.api.subscribe("unwritten")
    show(page, "#/lab/outbox?of=unwritten")
    page.wait_for_text(".empty", "Grant them something in Support")


ANSWER_WITH_EMAILS_IN_DOUBT = """
const real = window.fetch
window.mend = () => { window.fetch = real }
window.fetch = async (url, asked) => {
  const answer = await real(url, asked)
  if (!String(url).includes('/local/mails')) return answer
  const found = await answer.json()
  return Response.json({ ...found, mails: found.mails.map((each) => ({ ...each, sent_at: null })) })
}
"""
HOLD_ALLOCATIONS_BACK = """
const real = window.fetch
const released = new Promise((done) => { window.mend = () => { window.fetch = real; done() } })
window.fetch = async (url, asked) => {
  const answer = await real(url, asked)
  if (String(url).includes('type=allocation')) await released
  return answer
}
"""


@pytest.mark.usefixtures("turned")
def test_an_email_in_doubt_is_shown_as_sent_once_it_is(page: Page) -> None:
    show(page, "#/lab?user=luz")
    page.js(ANSWER_WITH_EMAILS_IN_DOUBT)
    show(page, "#/lab/outbox?of=luz")
    page.wait_for_text(".mails", "in doubt")
    page.js("window.mend()")
    wait_for(lambda: "in doubt" not in page.text(".mails"), "when it was sent")


@pytest.mark.usefixtures("turned")
def test_lines_that_come_late_do_not_replace_those_that_were_asked_for_last(page: Page) -> None:
    customer(page, "luz")
    page.js(HOLD_ALLOCATIONS_BACK)
    choose(page, "[name=type]", "allocation")
    choose(page, "[name=type]", "usage")
    page.wait_for_text("[aria-label=History]", "Nothing of this kind has happened yet")
    page.js("window.mend()")
    settled(page)
    assert lines_of(page) == []
    choose(page, "[name=type]", "")


def test_what_is_left_expires_thirty_days_later(page: Page, stage: Stage, turned: datetime) -> None:
    customer(page, "luz")
    spend(page, 60)
    page.wait_for_text("#spend [role=status]", "40 left")
    show(page, "#/lab?user=luz")
    page.click("[data-move='+30 days']")
    arrived(page)
    assert stage.clock.now() - turned >= timedelta(days=30)
    # For the API as for the page.
    customer(page, "luz")
    choose(page, "[name=type]", "expiration")
    wait_for(lambda: len(lines_of(page)) == 1, "what has expired")
    assert "Expired" in lines_of(page)[0]
    assert "−40" in lines_of(page)[0]
    choose(page, "[name=type]", "")
    assert shown_balance(page) == stage.api.balance("luz") == 0
    spend(page, 1)
    page.wait_for_text("#spend .bad", "There are not enough credits.")


def test_the_clock_is_moved_from_the_command_line_too(
    stage: Stage, page: Page, turned: datetime, tmp_path: Path
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
    assert wanted > turned
    moved = clock("--to", "next midnight", "--zone", "Asia/Tokyo")
    assert moved.returncode == 0, moved.stderr
    assert wanted <= parse_instant("now", moved.stdout.strip()) <= stage.clock.now()
    back = clock("--to", "2020-01-01T00:00:00Z")
    assert (back.returncode, back.stdout) == (1, "")
    assert "the clock moves forward only" in back.stderr
    before = stage.clock.now()
    stage.clock.move(before - timedelta(days=1))
    assert stage.clock.now() >= before
    wait_for(
        lambda: parse_instant("now", page.find("#now").get_attribute("datetime")) >= wanted,
        "the page to follow",
    )
    # From the page, too, it moves forward only; the refusal is beside the button.
    show(page, "#/lab")
    page.fill("[name=to]", "2020-01-01T00:00:00Z")
    page.click(".free button")
    page.wait_for_text(".free .bad", "the clock moves forward only")


# --- Customer -------------------------------------------------------------------------------------


def test_the_card_shows_the_numbers_of_the_api_and_counts_down_by_the_stacks_clock(
    page: Page, stage: Stage
) -> None:
    stage.api.subscribe("card", timezone=NEW_YORK, plan="starter")
    for amount, days in ((1_234, None), (40, 9)):
        body = {"user_id": "card", "amount": amount, "description": "A", "expires_in_days": days}
        stage.api.send("POST", "/api/credits/allocate", stage.api.admin, body, key=f"card-{days}")
    customer(page, "card")
    told = stage.schedule("card")
    assert shown_balance(page) == told["current_balance"] == 1_274
    day = datetime.fromisoformat(told["next_allocation_date"])
    assert page.text(".coming") == (
        f"+{told['allocation_amount']} on {day:%A} {day.day} {day:%B %Y}"
    )
    assert re.search(r"at midnight in New York \(UTC−[45]\)", page.text("#card"))
    last = datetime.fromisoformat(told["expiring_credits"][0]["expires_at"]) - timedelta(days=1)
    assert page.texts(".expiring li") == [
        f"40 credits through {last.day} {last:%b %Y}",
        "1,234 credits never expire",
    ]
    at = parse_instant("at", told["next_allocation_at"])
    days, hours, minutes, seconds = (int(text) for text in page.texts("#countdown strong"))
    shown = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    assert abs(at - stage.clock.now() - shown) < timedelta(seconds=10)
    assert page.find("#countdown").get_attribute("role") == "timer"


def test_the_history_is_shown_by_type_and_page_by_page(page: Page, stage: Stage) -> None:
    stage.api.subscribe("paging")
    for number in range(9):
        stage.api.grant("paging", 10 + number, key=f"paging-{number}")
    use = {"user_id": "paging", "amount": 3, "description": "Export <b>of</b> pages"}
    stage.api.send("POST", "/api/credits/use", stage.api.backend, use, key="paging")
    customer(page, "paging")
    assert len(lines_of(page)) == 8
    # What was typed by somebody is text, whatever it looks like.
    assert "Export <b>of</b> pages" in lines_of(page)[0]
    assert "−3 balance 123" in lines_of(page)[0]
    press(page, "Show more")
    page.wait_for_text("#said", "10 lines are shown.")
    assert len(lines_of(page)) == 10
    assert "Show more" not in page.texts(".more button")
    choose(page, "[name=type]", "usage")
    wait_for(lambda: len(lines_of(page)) == 1, "the one usage")
    choose(page, "[name=type]", "expiration")
    page.wait_for_text(".empty", "Nothing of this kind has happened yet")
    choose(page, "[name=type]", "")


def test_what_is_held_is_shown_on_the_card_in_the_history_and_as_events(
    page: Page, stage: Stage
) -> None:
    stage.api.subscribe("holding")
    stage.api.grant("holding", 100, key="holding")
    job = {"user_id": "holding", "amount": 50, "description": "Crawl"}
    held = stage.api.send("POST", "/api/credits/holds", stage.api.backend, job, key="holding-1")
    customer(page, "holding")
    assert shown_balance(page) == 50
    (line,) = page.texts(".held li")
    assert line.startswith("50 reserved until ")
    assert "50 reserved balance 100" in lines_of(page)[0]
    release = f"/api/credits/holds/{held.json['hold_id']}/release"
    stage.api.send("POST", release, stage.api.backend, {})
    customer(page, "holding")
    assert shown_balance(page) == 100
    assert page.texts(".held li") == []
    assert "50 free again balance 100" in lines_of(page)[0]
    show(page, "#/lab/events?of=holding")
    page.wait_for_text("#events", "credits.released")
    # Newest first, and a crossing after the event of its own entry.
    assert [line.split(" holding entry")[0] for line in page.texts("#events li")] == [
        "credits.released",
        "credits.held",
        "credits.balance_recovered crossing of 20",
        "credits.adjusted",
    ]


def test_what_is_spent_is_an_event_and_a_line_of_curl(page: Page, stage: Stage) -> None:
    stage.api.subscribe("spending")
    stage.api.grant("spending", 70, key="spending")
    customer(page, "spending")
    spend(page, 30)
    page.wait_for_text("#spend [role=status]", "Spent 30 credits. 40 left.")
    assert shown_balance(page) == 40 == stage.api.balance("spending")
    wait_for(lambda: "Report" in lines_of(page)[0], "its line")
    show(page, "#/lab/events?of=spending")
    page.wait_for_text("#events", "credits.used")
    newest, *older = page.texts("#events li")
    _, sent, _ = ask(stage, "GET", "/local/events?user_id=spending")
    used, granted = (
        next(event for event in sent["events"] if event["name"] == name)
        for name in ("credits.used", "credits.adjusted")
    )
    assert used["number"] == granted["number"] + 1
    assert newest.startswith(f"credits.used spending entry {used['number']} · ")
    assert newest.endswith(f" · {used['hash']} 40 available")
    assert f" · {granted['hash']} 70 available" in " ".join(older)
    # Of everybody they are newest first, too.
    assert ask(stage, "GET", "/local/events")[1]["events"][0] == used
    show(page, "#/lab/requests")
    page.click(".check input")
    wait_for(lambda: "POST /api/credits/use" in page.texts("#requests summary")[0], "the newest")
    line = page.text("#requests pre")
    assert line.startswith(f"curl -X POST {stage.stack.api_url}/api/credits/use")
    assert '"Authorization: Bearer $(make -s token USER_ID=spending)"' in line
    assert "Idempotency-Key: " in line
    assert '"amount":30' in line
    page.click(".check input")


def test_a_refusal_is_told_beside_what_was_pressed_and_changes_nothing(
    page: Page, stage: Stage
) -> None:
    customer(page, ANN)
    before = shown_balance(page)
    spend(page, 1_000_000)
    page.wait_for_text("#spend .bad", "There are not enough credits.")
    assert page.find("#spend .bad").get_attribute("role") == "status"
    assert shown_balance(page) == before == stage.api.balance(ANN)


def test_nobody_is_not_an_empty_account(page: Page) -> None:
    customer(page, ANN)
    page.fill("#user", "nobody")
    page.press(Keys.ENTER)
    page.wait_for_text("#main .trouble", "Nobody has the id nobody. Choose somebody else")
    assert page.find("#main .trouble").get_attribute("role") == "alert"


# --- Support, in the local console ----------------------------------------------------------------


def test_support_grants_for_good_or_as_long_as_the_plans_credits_live_and_nobody_signs_in(
    page: Page, stage: Stage
) -> None:
    stage.api.subscribe("lifetimes", plan="starter")
    show(page, "#/users/lifetimes")
    for life in ("plan", "never"):
        press(page, "Grant credits")
        page.fill("dialog [name=amount]", "7")
        page.fill("dialog [name=description]", "Goodwill")
        choose(page, "dialog [name=life]", life)
        press(page, "Review", "dialog")
        page.wait_for_text("dialog h3", "This will happen")
        press(page, "Grant", "dialog")
        page.wait_for_text("dialog .success", "Done")
        press(page, "Done", "dialog")
        settled(page)
    assert (
        stage.api.send("GET", "/api/credits/history?user_id=lifetimes", stage.api.admin).json[
            "items"
        ][0]["actor"]
        == "ops"
    )
    customer(page, "lifetimes")
    expiring, lasting = page.texts(".expiring li")
    assert expiring.startswith("7 credits through ")
    assert lasting == "7 credits never expire"


def test_somebody_new_subscribes_and_moves_to_another_timezone(page: Page, stage: Stage) -> None:
    show(page, "#/lab")
    wait_for(lambda: page.texts("#subscribe option"), "the plans")
    page.fill("#subscribe [name=user_id]", "new-1")
    page.click("#subscribe button")
    page.wait_for_text("#subscribe [role=status]", "new-1 has subscribed. See them as Customer")
    page.fill("#subscribe [name=timezone]", "Asia/Tokyo")
    page.click("#subscribe button")
    page.wait_for_text("#subscribe .bad", "Nothing was changed. There is a user new-1 already")
    assert stage.schedule("new-1")["timezone"] == "Europe/Paris"
    show(page, "#/users/new-1")
    press(page, "Edit")
    page.fill("dialog [name=timezone]", "Asia/Katmandhu")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog .trouble", "did you mean 'Asia/Katmandu'?")
    page.fill("dialog [name=timezone]", "Asia/Kathmandu")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Save", "dialog")
    page.wait_for_text("dialog .success", "Done")
    press(page, "Done", "dialog")
    customer(page, "new-1")
    assert "at midnight in Kathmandu (UTC+5:45)" in page.text("#card")
    assert stage.schedule("new-1")["timezone"] == "Asia/Kathmandu"


# --- What goes wrong ------------------------------------------------------------------------------


def test_a_session_that_has_ended_is_told_in_each_tab_and_begins_anew_in_place(
    page: Page, stage: Stage
) -> None:
    customer(page, ANN)
    show(page, "#/lab/requests")
    press(page, "Let the session expire")
    page.wait_for_text(".heading [role=status]", "the next answer is 401")
    page.js("location.hash = arguments[0]", f"#/customer/{ANN}")
    page.wait_for_text("#card [role=alert]", "Your session has ended")
    assert lines_of(page) == []
    press(page, "Sign in again")
    wait_for(lambda: page.texts("#balance"), "her credits")
    page.js("location.hash = arguments[0]", f"#/users/{ANN}")
    page.wait_for_text("#expired", "You come back to this page.")
    press(page, "Sign in again", "#expired")
    wait_for(lambda: page.texts("#available"), "her credits in Support")
    # What was typed is kept.
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "11")
    page.js("import('./console/session.js').then((session) => session.expire())")
    wait_for(lambda: stage.api.balance(ANN), "that time passes")
    page.fill("dialog [name=description]", "Kept")
    press(page, "Review", "dialog")
    page.wait_for_text("#expired", "What you typed is kept")
    press(page, "Sign in again", "#expired")
    wait_for(lambda: not page.texts("#expired"), "the dialog to go")
    assert page.find("dialog [name=amount]").get_attribute("value") == "11"
    assert page.find("dialog [name=description]").get_attribute("value") == "Kept"
    press(page, "Cancel", "dialog")
    show(page, f"#/customer/{ANN}")
    press(page, "Sign in again")
    wait_for(lambda: page.texts("#balance"), "her credits")


NO_NETWORK = """
const real = window.fetch
window.fetch = async () => { throw new TypeError('Failed to fetch') }
window.mend = () => { window.fetch = real }
"""


def test_a_stack_that_is_gone_is_told_with_the_next_step(page: Page) -> None:
    customer(page, ANN)
    page.js(NO_NETWORK)
    spend(page, 1)
    page.wait_for_text("#spend .bad", "Start it again with make up or make run")
    page.wait_for_text("#gone", "The local stack has ended, or is stuck.")
    page.js("window.mend()")
    wait_for(lambda: not page.texts("#gone"), "that the stack is there again")
    settled(page)


# --- For everybody --------------------------------------------------------------------------------


def test_everything_is_reached_by_keyboard_has_a_name_and_shows_the_focus(
    page: Page, stage: Stage
) -> None:
    load(page, stage, f"#/lab?user={ANN}")
    page.press(Keys.TAB)
    assert page.focused() == "Skip to the content [link]"
    page.press(Keys.ENTER)
    assert page.js("return document.activeElement.id") == "main"
    assert page.text("h1") == "The clock"
    page.js("document.querySelector('.skip').focus()")
    walked: list[str] = []
    for _ in range(60):
        page.press(Keys.TAB)
        named = page.focused()
        if page.js("return document.activeElement === document.body"):
            break
        outline = page.js("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", f"{named} does not show the focus"
        assert not named.startswith(" ["), f"something without a name: {named}"
        walked.append(named)
    assert walked[:8] == [
        "Credits local [link]",
        "Customer [link]",
        "Support [link]",
        "Lab [link]",
        "Clock [link]",
        "Outbox [link]",
        "Events [link]",
        "Requests [link]",
    ]
    # The strip of 38 moments is one stop.
    assert len([name for name in walked if "midnight in" in name]) == 1
    assert walked[-1] == "Subscribe [button]"


def test_the_arrow_keys_walk_along_the_turn_of_the_month(page: Page) -> None:
    show(page, "#/lab")
    page.js("document.querySelector('#strip [tabindex=\"0\"]').focus()")
    page.press(Keys.HOME)
    first = page.focused()
    assert "midnight in Kiritimati" in first
    assert page.text("#instant strong") in first
    page.press(Keys.ARROW_RIGHT)
    assert "Chatham" in page.focused()
    assert page.text("#instant strong") in page.focused()
    page.press(Keys.ARROW_LEFT)
    assert page.focused() == first
    page.press(Keys.END)
    assert "12:00 UTC" in page.focused()


@pytest.mark.usefixtures("turned")
def test_axe_finds_nothing_on_any_tab_wide_or_narrow_light_or_dark(page: Page) -> None:
    for place in PAGES:
        show(page, place)
        for width, is_dark in product((WIDE, NARROW), (False, True)):
            page.resize(width, 900, is_dark=is_dark)
            assert violations(page) == [], (place, width, is_dark)
        assert page.js("return document.querySelectorAll('h1').length") == 1, place
        ids = page.js("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
        assert len(ids) == len(set(ids)), place
    page.resize(WIDE, 1000)


def test_nothing_is_cut_off_at_any_width(page: Page) -> None:
    for place in PAGES:
        show(page, place)
        for width in (320, 360, NARROW, 768, WIDE, 2200):
            page.resize(width, 900)
            assert page.js("return document.documentElement.scrollWidth") <= width, (place, width)
    page.resize(WIDE, 1000)


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
        assert ask(stage, "GET", f"/console/{name}")[0] == 200
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, name
        assert "https://" not in text, name
    assert "style=" not in html
    for name in ("server.py", "..%2Fserver.py", "index.html", ""):
        assert ask(stage, "GET", f"/console/{name}")[0] == 404


def test_the_reference_of_the_api_is_a_page_that_loads_nothing_from_elsewhere(stage: Stage) -> None:
    status, html, headers = ask(stage, "GET", "/docs")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert set(re.findall(r'(?:href|src)="([^#"][^"]*)"', html)) == {
        "/console/icon.svg",
        "/console/colours.css",
        "/console/reference.css",
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


def test_an_email_can_do_nothing_in_the_page(stage: Stage) -> None:
    # Granted by hand, so that there is one.
    stage.api.subscribe("reader", email="reader@example.com")
    stage.api.grant("reader", 3, key="mail")

    def mails() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = ask(stage, "GET", "/local/mails?user_id=reader")[1]["mails"]
        return found

    (mail,) = wait_for(mails, "the mail")
    assert mail["to"] == ["reader@example.com"]
    sent_at = wait_for(lambda: mails()[0]["sent_at"], "that it was sent")
    assert abs(stage.clock.now() - parse_instant("sent_at", sent_at)) < timedelta(minutes=5)
    status, html, headers = ask(stage, "GET", f"/local/mail?id={mail['id']}")
    assert status == 200
    assert "3 credits" in html
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; sandbox;")
    assert ask(stage, "GET", "/local/mail?id=none")[0] == 404


def test_before_the_stack_is_up_the_page_says_so() -> None:
    with server.console() as empty:
        connection = http.client.HTTPConnection(urlsplit(empty.url).netloc, timeout=30)
        connection.request("GET", "/")
        answer = connection.getresponse()
        assert answer.status == 503
        assert b"The stack is not up yet." in answer.read()
        connection.close()


# --- Pictures -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ada(stage: Stage, request: pytest.FixtureRequest) -> str:
    """Somebody in New York, for whom a month has just begun, while it has not further west."""
    ada = "ada"
    stage.api.subscribe(ada, timezone=NEW_YORK, plan="starter", email="ada@example.org")
    welcome = {"user_id": ada, "amount": 250, "description": "Welcome", "expires_in_days": None}
    stage.api.send("POST", "/api/credits/allocate", stage.api.admin, welcome, key="ada")
    stage.clock.move(request.getfixturevalue("turned") + timedelta(minutes=12))
    for number, (amount, what) in enumerate(
        ((35, "Export of 35 pages"), (12, "Translation"), (60, "Yearly report"))
    ):
        use = {"user_id": ada, "amount": amount, "description": what}
        stage.api.send("POST", "/api/credits/use", stage.api.backend, use, key=f"ada-{number}")
    body = {"user_id": ada, "amount": 90, "description": "Spring campaign", "expires_in_days": 12}
    stage.api.send("POST", "/api/credits/allocate", stage.api.admin, body, key="ada-granted")
    held = {"user_id": ada, "amount": 40, "description": "Crawl of example.com"}
    stage.api.send("POST", "/api/credits/holds", stage.api.backend, held, key="ada-held")
    return ada


SCENES = {
    "customer": "#/customer/ada",
    "lab": "#/lab?user=ada",
    "support": "#/users/ada",
    "outbox": "#/lab/outbox",
    "events": "#/lab/events?of=ada",
    "requests": "#/lab/requests",
}
"""The first two are in the docs, in all four ways."""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_the_console_can_be_pictured(
    page: Page, ada: str, tmp_path: Path, *, is_dark: bool
) -> None:
    for name, place in SCENES.items() if IS_PICTURED else [("customer", SCENES["customer"])]:
        directory = PICTURES if name in {"customer", "lab"} else OTHER_PICTURES
        for width in (WIDE, NARROW):
            page.resize(width, 900, is_dark=is_dark)
            show(page, place)
            if name == "customer":
                wait_for(lambda: len(lines_of(page)) > 4, f"what {ada} has done")
                spend(page, 3)
                page.wait_for_text("#spend [role=status]", "Spent 3 credits.")
                settled(page)
            shape = f"{'wide' if width == WIDE else 'narrow'}-{'dark' if is_dark else 'light'}"
            file = (directory if IS_PICTURED else tmp_path) / f"{name}-{shape}.png"
            page.picture(file, width, is_dark=is_dark)
            assert file.stat().st_size > 20_000
    page.resize(WIDE, 1000)
