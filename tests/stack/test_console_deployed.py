"""The console of the deployed stack in a real browser: sign-in, what it shows, what it does.

One person is signed in for all tests of the file, because a page is loaded in seconds. `make
screenshots` runs the test that takes pictures, for docs/images/support and build/support.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from infra.deployment import packaging
from infra.local.stacks import LocalStack
from tests.stack.api import Api
from tests.stack.browser import Page, browser, press, ready, settled, violations
from tests.stack.conftest import wait_for

ADA = "support-ada"
PICTURED = "ada-lovelace"
"""Not "ada": that is the admin of other tests, who has no subscription."""

WIDE, NARROW = 1280, 390
PICTURES = packaging.ROOT / "docs" / "images" / "support"
OTHER_PICTURES = packaging.BUILD / "support"
"""Those that no page of the docs shows: for people who change the console to look at."""

IS_PICTURED = bool(os.environ.get("SCREENSHOTS"))


@pytest.fixture(scope="module")
def api(stack: LocalStack) -> Api:
    there = Api(stack)
    there.subscribe(
        ADA, timezone="America/New_York", plan="starter", email="support.ada@example.com"
    )
    return there


@pytest.fixture(scope="module")
def signed_in(stack: LocalStack) -> Iterator[Page]:
    with browser() as driver:
        page = Page(driver)
        page.resize(WIDE, 900)
        driver.get(f"{stack.api_url}/console#/users")
        sign_in(page)
        yield page


@pytest.fixture
def page(signed_in: Page) -> Iterator[Page]:
    """The console, with somebody signed in; whatever a test does, nothing may go wrong unseen."""
    signed_in.errors()
    yield signed_in
    signed_in.js("for (const dialog of document.querySelectorAll('dialog')) dialog.close()")
    # The browser itself writes down each refusal of the API.
    refusals = re.compile(r"server responded with a status of 4[0-9]{2} ")
    assert [said for said in signed_in.errors() if not refusals.search(said)] == []


def sign_in(page: Page, button: str = ".welcome .main", user: str = "ada") -> None:
    """Goes to the issuer, says who one is, and comes back."""
    ready(page)
    page.click(button)
    wait_for(lambda: page.text("h1") == "Local sign-in", "the issuer's page")
    page.fill("[name=subject]", user)
    page.click("button.main")
    wait_for(lambda: urlsplit(page.driver.current_url).path.endswith("/console"), "the way back")
    ready(page)


def show(page: Page, user_id: str, tab: str = "") -> None:
    """Shows a user anew."""
    page.js("location.hash = '#/users'")
    wait_for(lambda: page.text("h1") == "Users", "the list")
    page.js("location.hash = arguments[0]", f"#/users/{user_id}{tab}")
    wait_for(lambda: user_id in page.text(".crumbs"), f"the page of {user_id}")
    wait_for(lambda: page.js("return !!document.querySelector('#available')"), "what they have")
    settled(page)


def do(page: Page, verb: str) -> None:
    """Reviews what the form asks for, and has it done."""
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, verb, "dialog")
    page.wait_for_text("dialog .success", "Done")


def batches_of(api: Api, user_id: str) -> list[list[Any]]:
    """Of each open batch its name, what was granted, what is left, its end, order and source."""
    found = api.send("GET", f"/api/credits/balance?user_id={user_id}", api.admin).json["batches"]
    fields = ("batch_id", "granted_amount", "remaining_amount", "expires_at", "priority", "source")
    return [[each[field] for field in fields] for each in found]


def buttons_of(page: Page) -> list[WebElement]:
    return page.driver.find_elements(By.CSS_SELECTOR, "dialog button")


def available(page: Page) -> int:
    return int(page.text("#available strong").replace(",", ""))


def history(api: Api, user_id: str) -> list[dict[str, Any]]:
    path = f"/api/credits/history?user_id={user_id}&limit=100"
    found: list[dict[str, Any]] = api.send("GET", path, api.admin).json["items"]
    return found


# The page's own fetch, whose answers get lost, or whose token has run out.
LOSE_THE_NEXT_ANSWER = """
const real = window.fetch
window.keys = []
window.fetch = async (url, asked) => {
  const answer = await real(url, asked)
  const isReal = asked.method === 'POST' && !JSON.parse(asked.body).dry_run
  if (isReal) window.keys.push(asked.headers['Idempotency-Key'])
  if (isReal && window.keys.length === 1) throw new TypeError('Failed to fetch')
  return answer
}
window.mend = () => { window.fetch = real }
"""
USE_AN_EXPIRED_ONE = """
const real = window.fetch
window.fetch = (url, asked) => {
  asked.headers.Authorization += 'x'
  return real(url, asked)
}
"""

ANSWER_WITH_MANY_BATCHES = """
const real = window.fetch, many = arguments[0]
window.fetch = async (url, asked) => {
  const answer = await real(url, asked)
  if (!String(url).includes('/credits/balance')) return answer
  return new Response(JSON.stringify({...await answer.json(), batches: many}), {status: 200})
}
window.mend = () => { window.fetch = real }
"""
ANSWER_WITH_EMPTY_PAGES = """
const real = window.fetch
window.asked = 0
window.fetch = async () => {
  window.asked += 1
  const next_cursor = window.asked < 25 ? `c${window.asked}` : null
  return new Response(JSON.stringify({items: [], next_cursor}), {status: 200})
}
window.mend = () => { window.fetch = real }
"""
ANSWER_WITH_ALARMS = """
const real = window.fetch, alarms = arguments[0], shadow = arguments[1] ?? false
window.fetch = async (url, asked) => {
  const answer = await real(url, asked)
  if (!String(url).endsWith('/operations')) return answer
  const found = await answer.json()
  for (const queue of found.queues) if (queue.name === 'sweeps-dlq') queue.waiting = 2
  return new Response(JSON.stringify({...found, alarms, shadow}), {status: 200})
}
window.mend = () => { window.fetch = real }
"""
ALARMS = [
    {
        "name": "dead-letters-sweeps",
        "meaning": "Messages of sweeps failed for good and wait in its dead-letter queue.",
        "since": "2026-11-30T08:15:00Z",
        "runbook": "https://wiki.example.com/credits#dead-letters",
    },
    {
        "name": "mail-bounces",
        "meaning": "Many emails bounce.",
        "since": "2026-11-30T09:00:00Z",
        "runbook": "docs/operating.md#mail-bounces",
    },
]
ANSWER_NOTHING_YET = """
const real = window.fetch, timer = window.setTimeout
let fail
window.fetch = () => new Promise((_, failed) => { fail = failed })
window.setTimeout = (what, length, ...rest) => timer(what, length === 5000 ? 50 : length, ...rest)
window.mend = () => {
  window.fetch = real
  window.setTimeout = timer
  fail(new TypeError('Failed to fetch'))
}
"""
HOLD_ANSWERS_BACK = """
const real = window.fetch, timer = window.setTimeout
window.sent = []
let release
const released = new Promise((done) => { release = done })
window.fetch = async (url, asked) => {
  if (asked.method === 'POST') window.sent.push(JSON.parse(asked.body).dry_run ? 'dry' : 'real')
  const answer = await real(url, asked)
  await released
  return answer
}
// Five seconds pass in a moment.
window.setTimeout = (what, length, ...rest) => timer(what, length === 5000 ? 50 : length, ...rest)
window.mend = () => { window.fetch = real; window.setTimeout = timer; release() }
"""
HOLD_THE_NEXT_ANSWER_BACK = """
const real = window.fetch
const released = new Promise((done) => { window.mend = done })
window.fetch = async (url, asked) => {
  window.fetch = real
  const answer = await real(url, asked)
  await released
  return answer
}
"""
NO_NETWORK = """
const real = window.fetch
window.fetch = async () => { throw new TypeError('Failed to fetch') }
window.mend = () => { window.fetch = real }
"""


# --- Sign-in --------------------------------------------------------------------------------------


def test_tokens_are_in_memory_alone_and_the_address_has_no_code(page: Page) -> None:
    kept = page.js(
        "return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert json.loads(kept) == [{}, {}, ""]
    assert urlsplit(page.driver.current_url).query == ""
    assert page.text("#me .who") == "ada"
    assert page.text("#stage") == "local"


def test_the_policy_of_the_page_lets_nothing_else_in(stack: LocalStack, api: Api) -> None:
    reply = api.send("GET", "/console")
    assert reply.status == 200
    policy = reply.headers["content-security-policy"]
    assert "script-src 'self'; style-src 'self'" in policy
    assert f"connect-src 'self' {stack.issuer}" in policy
    again = api.send("GET", "/console", headers={"If-None-Match": reply.headers["etag"]})
    assert (again.status, again.text) == (304, "")


def test_the_page_is_found_with_a_slash_behind_it_too(api: Api) -> None:
    reply = api.send("GET", "/console/")
    assert (reply.status, reply.headers["location"]) == (308, "../console")


# --- Finding --------------------------------------------------------------------------------------


def test_users_are_found_by_id_by_address_and_from_a_list(page: Page, api: Api) -> None:
    api.subscribe("support-paused", status="paused", email="paused@example.com")
    page.js("location.hash = '#/users'")
    wait_for(lambda: page.text("h1") == "Users", "the list")
    for who in (ADA, "Support.Ada@example.com"):
        page.fill("[name=who]", who)
        page.press(Keys.ENTER)
        wait_for(lambda: ADA in page.text(".crumbs"), "her page")
        page.js("location.hash = '#/users'")
        wait_for(lambda: page.text("h1") == "Users", "the list")
    page.js(
        "const box = document.querySelector('[name=status]'); box.value = 'paused';"
        "box.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    wait_for(lambda: "paused@example.com" in page.text(".people"), "who is paused")
    settled(page)
    assert set(page.texts(".people .status")) == {"Paused"}
    press(page, "Clear")
    settled(page)


def test_nobody_found_is_said_with_the_next_step(page: Page) -> None:
    page.js("location.hash = '#/users'")
    wait_for(lambda: page.text("h1") == "Users", "the list")
    settled(page)
    page.fill("[name=who]", "nobody-at-all")
    page.press(Keys.ENTER)
    page.wait_for_text(".trouble", "Nobody has the id nobody-at-all.")
    assert page.find(".trouble").get_attribute("role") == "alert"


def test_why_no_credits_come_is_said_in_words(page: Page, api: Api) -> None:
    api.subscribe("support-why", billing_interval="monthly", plan="pro")
    show(page, "support-why")
    reason = api.send("GET", "/api/subscriptions/support-why", api.admin).json
    words = reason["not_allocated_because"]["words"]
    assert words[1:] in page.text(".stats")


# --- Acting ---------------------------------------------------------------------------------------


def test_a_refusal_is_explained_and_the_page_says_when_credits_run_out(
    page: Page, api: Api
) -> None:
    api.subscribe("support-why", timezone="America/New_York", plan="pro", status="paused")
    api.grant("support-why", 20, key="support-why")
    show(page, "support-why")
    page.wait_for_text("main", "The ledger is younger than that.")
    page.wait_for_text("main", "nothing expires")
    page.fill(".explain [name=amount]", "30")
    press(page, "Explain", ".explain")
    page.wait_for_text("main", "10 too few")
    assert "20 credits were available and 30 asked for" in page.text("main")
    # Before the grant there was nothing at all.
    page.js("document.querySelector('.explain [name=at]').value = '2026-01-01T12:00:00'")
    press(page, "Explain", ".explain")
    page.wait_for_text("main", "At 2026-01-01T17:00:00Z, 0 credits were available")
    page.wait_for_text("main", "Nothing was left of any credit batch.")


def test_a_grant_is_shown_first_and_the_line_that_came_of_it_can_be_taken_back(
    page: Page, api: Api
) -> None:
    api.grant(ADA, 20, key="support-spent-first")
    show(page, ADA)
    before, batches = available(page), batches_of(api, ADA)
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "50")
    page.fill("dialog [name=description]", "Sorry <b>for</b> the outage")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    assert "Sorry <b>for</b> the outage" in page.text("dialog .line")
    assert f"Then {before + 50:,} credits can be used." in page.text("dialog")
    assert api.balance(ADA) == before
    press(page, "Grant", "dialog")
    page.wait_for_text("dialog .success", "Done")
    assert page.focused() == "Done [button]"
    assert api.balance(ADA) == before + 50
    press(page, "Undo …", "dialog")
    page.wait_for_text("dialog h2", "Void a batch")
    do(page, "Void")
    press(page, "Done", "dialog")
    wait_for(lambda: available(page) == before == api.balance(ADA), "what she had before")
    assert batches_of(api, ADA) == batches


def test_a_batch_is_voided_and_a_new_one_that_ends_with_it_takes_its_place(
    page: Page, api: Api
) -> None:
    who = "support-void"
    api.subscribe(who, timezone="Asia/Tokyo")
    for amount, days in ((30, 9), (40, 20)):
        body: dict[str, object] = {"user_id": who, "amount": amount, "description": f"{days} days"}
        body |= {"expires_in_days": days, "priority": 7, "source": "promotion"}
        api.send("POST", "/api/credits/allocate", api.admin, body, key=f"{who}-{days}")
    use = {"user_id": who, "amount": 35, "description": "Export"}
    api.send("POST", "/api/credits/use", api.backend, use, key=who)
    ((voided, _, left, *terms),) = batches_of(api, who)
    assert left == 35
    show(page, who)
    press(page, "Promotion", ".timeline")
    press(page, "Void …", "dialog")
    page.fill("dialog [name=description]", "Not for them")
    do(page, "Void")
    assert "Not for them" in page.text("dialog .line")
    assert api.balance(who) == 0
    press(page, "Undo …", "dialog")
    page.wait_for_text("dialog .step", "A new one of as many credits takes its place")
    do(page, "Grant")
    ((made, _, back, *terms_of_new),) = batches_of(api, who)
    assert made != voided
    assert (back, terms_of_new) == (35, terms)


def test_a_purchase_is_refunded_and_the_report_can_be_taken_back(page: Page, api: Api) -> None:
    who = "support-refund"
    api.subscribe(who)
    pack = {"user_id": who, "amount": 300, "payment_id": "pi_support", "description": "Pack"}
    api.send("POST", "/api/credits/purchases", api.billing, pack)
    use = {"user_id": who, "amount": 250, "description": "Export"}
    api.send("POST", "/api/credits/use", api.backend, use, key=who)
    show(page, who)
    press(page, "Pack", ".history")
    press(page, "Refund …", "dialog")
    page.wait_for_text("dialog .field", "None so far.")
    page.fill("dialog [name=amount]", "100")
    page.fill("dialog [name=description]", "Asked for it")
    do(page, "Refund")
    assert "50 credits had been used or are held" in page.text("dialog")
    assert api.balance(who) == 0
    press(page, "Undo …", "dialog")
    page.wait_for_text("dialog .field", "100 so far. Less than that gives credits back.")
    assert page.find("dialog [name=amount]").get_attribute("value") == "0"
    do(page, "Refund")
    assert api.balance(who) == 50
    assert history(api, who)[0]["refunded_amount"] == 0


def test_the_price_of_a_purchase_is_shown_in_the_units_of_its_currency(
    page: Page, api: Api
) -> None:
    who = "support-prices"
    shown = {
        "EUR": "€9,900.50",
        "JPY": "¥990,050",
        "KWD": "KWD 990.050",
        "RSD": "9,900.50",
    }
    api.subscribe(who)
    for currency in shown:
        price = {"amount": 990_050, "currency": currency}
        pack = {"user_id": who, "amount": 5, "price": price, "description": f"Pack in {currency}"}
        pack["payment_id"] = f"pi_{currency}"
        api.send("POST", "/api/credits/purchases", api.billing, pack)
    show(page, who)
    for currency, price_shown in shown.items():
        press(page, f"Pack in {currency}", ".history")
        page.wait_for_text(".action dl", f"pi_{currency}")
        assert price_shown in page.text(".action dl")
        press(page, "×", "dialog")


def test_to_repeat_after_a_lost_answer_changes_nothing(page: Page, api: Api) -> None:
    show(page, ADA)
    lines = len(history(api, ADA))
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "7")
    page.fill("dialog [name=description]", "Once")
    page.js(LOSE_THE_NEXT_ANSWER)
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Grant", "dialog")
    page.wait_for_text("dialog .trouble", "The API cannot be reached.")
    assert len(history(api, ADA)) == lines + 1
    press(page, "Send it again", "dialog")
    page.wait_for_text("dialog .success", "It was done already, once")
    first, second = page.js("return window.keys")
    assert first == second
    assert len(history(api, ADA)) == lines + 1
    page.js("window.mend()")


def test_a_refusal_is_said_at_its_field_and_the_form_stays(page: Page, api: Api) -> None:
    show(page, ADA)
    before = api.balance(ADA)
    press(page, "Claw back")
    page.fill("dialog [name=amount]", "900000")
    page.fill("dialog [name=description]", "Too much")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog .trouble", "There are not enough credits")
    assert page.find("dialog [name=amount]").get_attribute("value") == "900000"
    assert api.balance(ADA) == before


def test_two_who_edit_at_once_are_told_and_neither_edit_is_lost(page: Page, api: Api) -> None:
    show(page, ADA)
    press(page, "Edit")
    page.fill("dialog [name=allocation_amount]", "90")
    path = f"/api/subscriptions/{ADA}"
    api.send("PATCH", path, api.admin, {"timezone": "America/Chicago"})
    press(page, "Review", "dialog")
    page.wait_for_text("dialog .trouble", "Somebody else has changed it meanwhile")
    assert "Timezone is now America/Chicago" in page.text("dialog .changes")
    press(page, "Go on with my edit", "dialog")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    assert page.text("dialog .changes") == "Allocation amount nothing → 90"
    press(page, "Save", "dialog")
    page.wait_for_text("dialog .success", "Done")
    stored = api.send("GET", path, api.admin).json
    assert (stored["timezone"], stored["allocation_amount"]) == ("America/Chicago", 90)
    press(page, "Undo …", "dialog")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Save", "dialog")
    page.wait_for_text("dialog .success", "Done")
    stored = api.send("GET", path, api.admin).json
    assert (stored["timezone"], stored["allocation_amount"]) == ("America/Chicago", None)


def test_a_hold_is_released_and_a_usage_given_back(page: Page, api: Api) -> None:
    api.subscribe("support-hold")
    api.grant("support-hold", 100, key="support-hold")
    job = {"user_id": "support-hold", "amount": 30, "description": "Crawl"}
    api.send("POST", "/api/credits/holds", api.backend, job, key="support-hold-1")
    use = {"user_id": "support-hold", "amount": 20, "description": "Export"}
    api.send("POST", "/api/credits/use", api.backend, use, key="support-hold-2")
    show(page, "support-hold")
    assert available(page) == 50
    press(page, "Release")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Release", "dialog")
    page.wait_for_text("dialog .success", "Done")
    press(page, "Done", "dialog")
    wait_for(lambda: available(page) == 80 == api.balance("support-hold"), "that 80 are free")
    settled(page)
    press(page, "Export")
    press(page, "Give back …", "dialog")
    page.fill("dialog [name=amount]", "5")
    page.fill("dialog [name=description]", "Five were empty")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Give back", "dialog")
    page.wait_for_text("dialog .success", "Done")
    press(page, "Done", "dialog")
    wait_for(lambda: available(page) == 85 == api.balance("support-hold"), "that 85 are free")


# --- What is shown --------------------------------------------------------------------------------


def test_an_email_is_shown_in_a_frame_that_runs_and_loads_nothing(page: Page, api: Api) -> None:
    api.subscribe("support-mail")
    body = {"user_id": "support-mail", "amount": 9, "description": "Have <script>fun</script>"}
    api.send("POST", "/api/credits/allocate", api.admin, body, key="support-mail")
    show(page, "support-mail", "/emails")
    page.click(".what button")
    wait_for(lambda: page.js("return !!document.querySelector('iframe.mail')"), "the email")
    frame = page.find("iframe.mail")
    assert frame.get_attribute("sandbox") == "allow-same-origin"
    inside = "return document.querySelector('iframe.mail').contentDocument"
    wait_for(lambda: page.js(f"{inside}?.body.innerText.includes('Have <script>')"), "its text")
    # Its styles are there, although the page allows none in markup.
    assert page.js(f"{inside}.adoptedStyleSheets.length") == 1
    assert page.js(f"{inside}.querySelectorAll('script, [href], [src]').length") == 0


def test_a_slow_older_answer_does_not_replace_what_was_asked_for_last(page: Page, api: Api) -> None:
    who = "support-slow"
    api.subscribe(who)
    for reason in ("First", "Second"):
        body = {"user_id": who, "amount": 9, "description": reason}
        api.send("POST", "/api/credits/allocate", api.admin, body, key=f"{who}-{reason}")
    show(page, who, "/emails")
    page.wait_for_text(".list", f"line {who}-2")
    page.js(HOLD_THE_NEXT_ANSWER_BACK)
    for place in range(2):
        page.js("document.querySelectorAll('.what button')[arguments[0]].click()", place)
    inside = "return document.querySelector('iframe.mail')?.contentDocument?.body.innerText"
    wait_for(lambda: "First" in (page.js(inside) or ""), "the older line, asked for last")
    page.js("window.mend()")
    settled(page)
    assert "First" in page.js(inside)

    show(page, who)
    page.js(HOLD_THE_NEXT_ANSWER_BACK)
    for amount in (19, 18):
        page.fill(".explain [name=amount]", str(amount))
        page.press(Keys.ENTER)
    page.wait_for_text(".explain + div", "It is covered")
    page.js("window.mend()")
    settled(page)
    assert "It is covered" in page.text(".explain + div")


def test_who_edited_a_subscription_is_shown(page: Page, api: Api) -> None:
    api.subscribe("support-edits")
    api.send("PATCH", "/api/subscriptions/support-edits", api.billing, {"status": "paused"})
    show(page, "support-edits", "/edits")
    newest = page.texts(".trail > li")[0]
    assert newest.startswith("till Billing")
    assert "Status active → paused" in newest


def many_batches() -> list[dict[str, Any]]:
    now = datetime.now(UTC)
    return [
        {
            "batch_id": f"{ADA}-{number}",
            "granted_amount": 10,
            "remaining_amount": 10,
            "granted_at": (now - timedelta(hours=number)).isoformat(),
            "expires_at": (now + timedelta(days=number % 90 + 1)).isoformat(),
            "held_amount": 0,
            "priority": 50,
            "source": "plan",
        }
        for number in range(900)
    ]


def test_nine_hundred_batches_are_one_glance_and_a_few_rows(page: Page) -> None:
    """The API's answer is made here: to grant 900 times takes a minute."""
    page.js(ANSWER_WITH_MANY_BATCHES, many_batches())
    show(page, ADA)
    assert len(page.texts(".timeline tbody tr")) == 8
    assert "expire within a week" in page.text(".expiry")
    press(page, "Show 50 more of 900")
    assert len(page.texts(".timeline tbody tr")) == 58
    page.js("window.mend()")


def test_a_slow_api_is_told_of_beside_what_was_pressed_and_nothing_is_sent_twice(
    page: Page, api: Api
) -> None:
    show(page, ADA)
    lines = len(history(api, ADA))
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "5")
    page.fill("dialog [name=description]", "Slow")
    for verb, while_waiting in (("Review", "Checking …"), ("Grant", "Sending …")):
        page.js(HOLD_ANSWERS_BACK)
        press(page, verb, "dialog")
        page.wait_for_text("dialog .buttons", f"The API is slow. Still waiting.{while_waiting}")
        page.wait_for_text("dialog .said", "The API is slow. Still waiting.")
        assert not page.find("dialog .busy").is_enabled()
        # Neither the keyboard nor another press sends it a second time.
        page.press(Keys.ENTER)
        page.js("document.querySelector('dialog .busy').click()")
        assert page.js("return window.sent") == ["dry" if verb == "Review" else "real"]
        if verb == "Grant":
            page.press(Keys.ESCAPE)
            assert [button.is_enabled() for button in buttons_of(page)] == [False] * 3
        page.js("window.mend()")
        page.wait_for_text("dialog .step", "This will happen" if verb == "Review" else "Done")
    assert len(history(api, ADA)) == lines + 1


def test_a_slow_search_takes_nobody_back_who_has_gone_on(page: Page) -> None:
    page.js("location.hash = '#/users'")
    wait_for(lambda: page.text("h1") == "Users", "the list")
    settled(page)
    page.fill("[name=who]", ADA)
    page.js(HOLD_ANSWERS_BACK)
    page.press(Keys.ENTER)
    wait_for(lambda: page.js("return !!document.querySelector('.find + div .waiting')"), "a sign")
    page.js("location.hash = '#/months'")
    wait_for(lambda: page.text("h1") != "Users", "the month")
    page.js("window.mend()")
    settled(page)
    assert page.driver.current_url.endswith("#/months")


def test_no_answer_at_all_says_what_to_do(page: Page) -> None:
    page.js(NO_NETWORK)
    page.js("location.hash = '#/users'")
    page.js("location.hash = '#/months'")
    page.wait_for_text("#main .trouble", "The API cannot be reached. Is there a network?")
    page.js("window.mend()")
    press(page, "Try again", "#main > section > div:nth-of-type(2)")
    wait_for(lambda: "counted" in page.text("#main > section > div:nth-of-type(2)"), "the month")


def test_a_month_is_shown_and_run_after_a_preview(page: Page) -> None:
    this_month = f"{datetime.now(UTC):%Y-%m}"
    page.js("location.hash = arguments[0]", f"#/months/{this_month}")
    wait_for(lambda: f"{datetime.now(UTC):%B}" in page.text("h1"), "the month")
    settled(page)
    assert "allocations" in page.text("#main")
    press(page, "Run allocation")
    page.fill("dialog [name=zones]", "America/Chicago")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Start", "dialog")
    page.wait_for_text("dialog .success", "Done")
    assert "One sweep has started." in page.text("dialog")


def test_an_alarm_leads_to_the_runbook_where_its_address_is_known(page: Page) -> None:
    page.js(ANSWER_WITH_ALARMS, ALARMS)
    page.js("location.hash = '#/users'")
    page.js("location.hash = '#/months'")
    page.wait_for_text("#main", "2 messages failed for good.")
    links = page.driver.find_elements(By.CSS_SELECTOR, "#main a[href^='https:']")
    # Of the alarm, and of the messages that it is about. A new tab: tokens are in this one alone.
    assert [(link.text, link.get_attribute("target")) for link in links] == [
        ("Dead letters", "_blank")
    ] * 2
    assert {link.get_attribute("href") for link in links} == {ALARMS[0]["runbook"]}
    assert "docs/operating.md#mail-bounces" in page.text("#main")
    page.js("window.mend()")


def test_a_shadow_says_that_it_sends_nothing(page: Page) -> None:
    page.js("location.hash = '#/users'")
    page.js("location.hash = '#/months'")
    page.wait_for_text("#main", "No message has failed for good.")
    assert "This stage is a shadow" not in page.text("#main")
    page.js(ANSWER_WITH_ALARMS, [], True)  # noqa: FBT003 - as the page's script reads it
    go("#/months/2020-01")(page)
    page.wait_for_text("#main", "This stage is a shadow. It runs beside an old system and sends")
    page.js("window.mend()")


def test_a_long_history_is_searched_on_and_begins_at_a_day(page: Page, api: Api) -> None:
    show(page, ADA, "/history")
    page.js(ANSWER_WITH_EMPTY_PAGES)
    page.fill("[name=search]", "nowhere")
    page.press(Keys.ENTER)
    page.wait_for_text("#main .more", "Nothing found yet; there is more to search.")
    assert page.js("return window.asked") == 20
    press(page, "Show more")
    page.wait_for_text("#main", "No line is like this")
    assert page.js("return window.asked") == 25
    page.js("window.mend()")
    page.fill("[name=search]", "")
    page.js(
        "performance.clearResourceTimings();"  # a browser keeps 250 of them
        "const box = document.querySelector('[name=until]'); box.value = '2020-02-29';"
        "box.dispatchEvent(new Event('change', {bubbles: true}))"
    )
    page.wait_for_text("#main", "No line is like this")
    sent = "return performance.getEntriesByType('resource').map((each) => each.name).pop()"
    zone = api.send("GET", f"/api/subscriptions/{ADA}", api.admin).json["timezone"]
    assert zone in ("America/New_York", "America/Chicago")
    hour = {"America/New_York": "05", "America/Chicago": "06"}[zone]
    assert f"to=2020-03-01T{hour}%3A00%3A00.000Z" in page.js(sent)


# --- Everybody ------------------------------------------------------------------------------------


def test_an_action_is_done_with_the_keyboard_alone(page: Page, api: Api) -> None:
    show(page, ADA)
    before = api.balance(ADA)
    page.js(
        "[...document.querySelectorAll('.heading button')]"
        ".find((each) => each.textContent === 'Grant credits').focus()"
    )
    page.press(Keys.ENTER)
    wait_for(lambda: page.focused() == "Credits [spinbutton]", "the first field")
    page.press("3", Keys.TAB, *"Keys", Keys.ENTER)
    page.wait_for_text("dialog h3", "This will happen")
    # The focus is on the title of the new step; the buttons follow.
    page.press(Keys.TAB, Keys.TAB, Keys.TAB)
    wait_for(lambda: page.focused() == "Grant [button]", "the button")
    page.press(Keys.ENTER)
    page.wait_for_text("dialog .success", "Done")
    page.press(Keys.ESCAPE)
    wait_for(lambda: page.focused() == "Grant credits [button]", "the focus where it was")
    assert api.balance(ADA) == before + 3


def test_a_screen_reader_is_told_what_there_is_and_what_happens(page: Page, api: Api) -> None:
    api.grant(ADA, 5, key="support-heard")
    show(page, ADA)
    wait_for(lambda: said(page) == ["support.ada@example.com"], "whose page it is")
    assert page.driver.title == "support.ada@example.com · Lighthouse"
    heard = what_is_heard(page)
    assert nameless(heard) == []
    places = {("navigation", "Pages"), ("navigation", "About this user"), ("main", "")}
    cards = {("region", "Credits, in the order they are spent"), ("region", "Subscription")}
    assert {*places, *cards} <= {*heard}
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "2")
    page.fill("dialog [name=description]", "Heard")
    heard = what_is_heard(page)
    fields = {("spinbutton", "Credits"), ("textbox", "Reason"), ("combobox", "They expire")}
    assert {("dialog", "Grant credits"), ("button", "Close"), *fields} <= {*heard}
    # The page behind it is inert: so is its own place for what is said.
    assert ("main", "") not in heard
    press(page, "Review", "dialog")
    wait_for(lambda: "Nothing has been done yet. Check what will happen." in said(page), "a word")
    heard = what_is_heard(page)
    assert nameless(heard) == []
    assert page.focused() == "Grant credits [heading]"
    buttons = [("button", "Close"), ("button", "Back"), ("button", "Grant")]
    assert [each for each in heard if each[0] == "button"] == buttons
    assert ("heading", "This will happen") in heard
    press(page, "Back", "dialog")
    page.fill("dialog [name=amount]", "999999999")
    press(page, "Review", "dialog")
    wait_for(lambda: "alert" in dict(what_is_heard(page)), "the refusal")
    amount = page.find("dialog [name=amount]")
    assert amount.get_attribute("aria-invalid") == "true"


Heard = list[tuple[str, str]]
"""Of each element its role and its name."""


def what_is_heard(page: Page) -> Heard:
    """What the browser tells a screen reader, but for texts."""
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    return [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"]
    ]


def said(page: Page) -> list[str]:
    """The texts in places from which what is new is read out."""
    tree = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    nodes = {node["nodeId"]: node for node in tree}
    live = [node for node in tree if not node["ignored"] and node["role"]["value"] == "status"]
    return [nodes[child]["name"]["value"] for node in live for child in node.get("childIds", ())]


def nameless(heard: Heard) -> Heard:
    """What can be pressed or filled in, and has no name."""
    roles = {"button", "link", "textbox", "searchbox", "spinbutton", "combobox", "checkbox"}
    return [each for each in heard if each[0] in roles and not each[1]]


def refused_grant(page: Page) -> None:
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "999999999")
    page.fill("dialog [name=description]", "Too much")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog .trouble", "The API refused")


def reviewed_grant(page: Page) -> None:
    page.fill("dialog [name=amount]", "5")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")


def lost_grant(page: Page) -> None:
    page.js(NO_NETWORK)
    press(page, "Grant", "dialog")
    page.wait_for_text("dialog .trouble", "The API cannot be reached.")
    page.js("window.mend()")


def made_grant(page: Page) -> None:
    press(page, "Send it again", "dialog")
    page.wait_for_text("dialog .success", "Done")
    press(page, "Done", "dialog")
    settled(page)


def void_form(page: Page) -> None:
    press(page, "Too much", ".history")
    page.wait_for_text("dialog", "Left of its batch")


def her_email(page: Page) -> None:
    page.js("for (const dialog of document.querySelectorAll('dialog')) dialog.close()")
    show(page, ADA, "/emails")
    page.click(".what button")
    wait_for(lambda: page.js("return !!document.querySelector('iframe.mail')"), "the email")


def go(path: str) -> Callable[[Page], None]:
    def goes(page: Page) -> None:
        page.js("location.hash = arguments[0]", path)
        settled(page)

    return goes


def missing(page: Page) -> None:
    page.fill("[name=who]", "nobody-at-all")
    page.press(Keys.ENTER)
    page.wait_for_text(".trouble", "Nobody has the id nobody-at-all.")


def ringing(page: Page) -> None:
    page.js(ANSWER_WITH_ALARMS, ALARMS)
    go("#/months/2020-01")(page)
    page.wait_for_text("#main", "2 messages failed for good.")
    page.js("window.mend()")


PLACES: dict[str, Callable[[Page], None]] = {
    "credits": lambda page: show(page, ADA),
    "a refused grant": refused_grant,
    "a grant before it is made": reviewed_grant,
    "a lost answer": lost_grant,
    "what came of it": made_grant,
    "a line": void_form,
    "a void": lambda page: press(page, "Void …", "dialog"),
    "an email": her_email,
    "the history": go(f"#/users/{ADA}/history"),
    "edits": go(f"#/users/{ADA}/edits"),
    "nobody": go("#/users/nobody-at-all"),
    "the month": go("#/months"),
    "alarms": ringing,
    "no page": go("#/nowhere"),
    "users": go("#/users"),
    "nobody found": missing,
}


@pytest.mark.usefixtures("api")
def test_axe_finds_nothing_anywhere_wide_or_narrow_light_or_dark(page: Page) -> None:
    found = {}
    for name, goes in PLACES.items():
        goes(page)
        found[name] = blemishes(page)
    assert {name: each for name, each in found.items() if each} == {}


def blemishes(page: Page) -> list[str]:
    """What axe finds in each of the four looks, and what does not fit into the window."""
    found = []
    for width, is_dark in ((NARROW, False), (NARROW, True), (WIDE, True), (WIDE, False)):
        page.resize(width, 900, is_dark=is_dark)
        # In the dark nothing but the colours is another.
        look = f"{width} {'dark' if is_dark else 'light'}"
        found += [f"{look}: {each}" for each in violations(page, only_colours=is_dark)]
        if page.js("return document.documentElement.scrollWidth") > width:
            found.append(f"{look}: wider than the window")
    return found


# --- Pictures ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ada(api: Api) -> str:
    """Somebody to be pictured: batches of all kinds, holds, usages."""
    api.subscribe(PICTURED, timezone="America/New_York", plan="starter", email="ada@example.com")
    grants: tuple[dict[str, object], ...] = (
        {"amount": 100, "description": "Welcome"},
        {"amount": 500, "description": "For the launch", "expires_in_days": 90},
        {"amount": 40, "description": "Sorry for the outage", "expires_in_days": 5},
        {"amount": 1200, "description": "Promotion", "expires_in_days": None},
    )
    for number, grant in enumerate(grants):
        body: dict[str, object] = {"user_id": PICTURED, **grant}
        api.send("POST", "/api/credits/allocate", api.admin, body, key=f"pictured-{number}")
    sold = {"user_id": PICTURED, "payment_id": "pi_pictured", "amount": 300, "description": "Pack"}
    api.send("POST", "/api/credits/purchases", api.billing, sold)
    for number, job in enumerate(("Export of 70 pages", "Search", "Crawl of example.com")):
        body = {"user_id": PICTURED, "amount": 70 - 20 * number, "description": job}
        api.send("POST", "/api/credits/use", api.backend, body, key=f"pictured-use-{number}")
    held: dict[str, object] = {
        "user_id": PICTURED,
        "amount": 120,
        "description": "Report on 200 companies",
    }
    api.send("POST", "/api/credits/holds", api.backend, held, key="pictured-hold")
    return PICTURED


def a_grant_before_it_is_made(page: Page, _: Api) -> None:
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "50")
    page.fill("dialog [name=description]", "Sorry for the slow export")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")


def a_lost_answer(page: Page, api: Api) -> None:
    a_grant_before_it_is_made(page, api)
    page.js(NO_NETWORK)
    press(page, "Grant", "dialog")
    page.wait_for_text("dialog .trouble", "The API cannot be reached.")
    page.js("window.mend()")


def two_edits_at_once(page: Page, api: Api) -> None:
    press(page, "Edit")
    page.fill("dialog [name=allocation_amount]", "90")
    api.send("PATCH", "/api/subscriptions/ada", api.admin, {"timezone": "America/Chicago"})
    press(page, "Review", "dialog")
    page.wait_for_text("dialog .trouble", "Somebody else has changed it meanwhile")
    api.send("PATCH", "/api/subscriptions/ada", api.admin, {"timezone": "America/New_York"})


def a_void(page: Page, _: Api) -> None:
    press(page, "By hand", ".timeline tr:nth-child(2)")
    press(page, "Void …", "dialog")
    page.fill("dialog [name=description]", "Granted to the wrong user")


def a_line(page: Page, _: Api) -> None:
    press(page, "Bought", ".timeline")
    page.wait_for_text("dialog", "Left of its batch")


def a_refund(page: Page, api: Api) -> None:
    a_line(page, api)
    press(page, "Refund …", "dialog")
    page.wait_for_text("dialog .field", "None so far.")
    page.fill("dialog [name=amount]", "100")
    page.fill("dialog [name=description]", "Asked for it")
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")


def a_slow_answer(page: Page, api: Api) -> None:
    a_grant_before_it_is_made(page, api)
    page.js(ANSWER_NOTHING_YET)
    press(page, "Grant", "dialog")
    page.wait_for_text("dialog .buttons", "The API is slow. Still waiting.")


def no_network(page: Page, _: Api) -> None:
    page.js(NO_NETWORK)
    page.js("location.hash = '#/users/ada/edits'")
    page.wait_for_text("#main .trouble", "The API cannot be reached.")
    page.js("window.mend()")


def alarms_that_ring(page: Page, _: Api) -> None:
    page.js(ANSWER_WITH_ALARMS, ALARMS)
    the_month(page, _)
    page.js("window.mend()")


def nine_hundred_batches(page: Page, _: Api) -> None:
    page.js(ANSWER_WITH_MANY_BATCHES, many_batches())
    show(page, PICTURED)
    page.js("window.mend()")


def her_emails(page: Page, _: Api) -> None:
    show(page, PICTURED, "/emails")
    wait_for(lambda: len(page.texts(".what button")) > 3, "her emails")
    page.click(".what button")
    wait_for(lambda: page.js("return !!document.querySelector('iframe.mail')"), "the email")
    settled(page)


def the_list(page: Page, _: Api) -> None:
    page.js("location.hash = '#/users'")
    wait_for(lambda: page.text("h1") == "Users", "the list")
    settled(page)


def the_month(page: Page, _: Api) -> None:
    page.js("location.hash = '#/months'")
    wait_for(lambda: "Right now" in page.text("#main"), "the month")
    settled(page)


SCENES: dict[str, Callable[[Page, Api], None]] = {
    "user": lambda page, _: show(page, PICTURED),
    "grant": a_grant_before_it_is_made,
    "void": a_void,
    "line": a_line,
    "refund": a_refund,
    "slow": a_slow_answer,
    "no-network": no_network,
    "alarms": alarms_that_ring,
    "lost": a_lost_answer,
    "conflict": two_edits_at_once,
    "many": nine_hundred_batches,
    "history": lambda page, _: show(page, PICTURED, "/history"),
    "emails": her_emails,
    "edits": lambda page, _: show(page, PICTURED, "/edits"),
    "users": the_list,
    "month": the_month,
}


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_the_console_can_be_pictured(
    page: Page, api: Api, ada: str, tmp_path: Path, *, is_dark: bool
) -> None:
    for name in SCENES if IS_PICTURED else ["user"]:
        # The user in all four ways; of the others one wide and light, and one narrow and dark.
        shapes = (WIDE, NARROW) if name == "user" else (NARROW if is_dark else WIDE,)
        for width in shapes:
            page.resize(width, 900, is_dark=is_dark)
            show(page, ada)
            SCENES[name](page, api)
            shape = "wide" if width == WIDE else "narrow"
            directory = PICTURES if name == "user" else OTHER_PICTURES
            directory = directory if IS_PICTURED else tmp_path
            file = directory / f"{name}-{shape}-{'dark' if is_dark else 'light'}.png"
            page.picture(file, width, is_dark=is_dark)
            assert file.stat().st_size > 10_000
            page.js("window.mend?.()")
            page.js("for (const dialog of document.querySelectorAll('dialog')) dialog.close()")
    page.resize(WIDE, 900)


# --- The end of a session -------------------------------------------------------------------------


def test_an_expired_token_leads_to_a_sign_in_that_keeps_the_form(page: Page, api: Api) -> None:
    show(page, ADA)
    before = api.balance(ADA)
    press(page, "Grant credits")
    page.fill("dialog [name=amount]", "11")
    page.fill("dialog [name=description]", "Kept")
    page.js(USE_AN_EXPIRED_ONE)
    press(page, "Review", "dialog")
    page.wait_for_text("#expired", "What you typed is kept")
    assert blemishes(page) == []
    sign_in(page, "#expired .main", user="grace")
    assert page.text("#me .who") == "grace"
    assert page.driver.current_url.endswith(f"#/users/{ADA}")
    assert page.find("dialog [name=amount]").get_attribute("value") == "11"
    assert page.find("dialog [name=description]").get_attribute("value") == "Kept"
    assert page.js("return sessionStorage.length") == 0
    press(page, "Review", "dialog")
    page.wait_for_text("dialog h3", "This will happen")
    press(page, "Grant", "dialog")
    page.wait_for_text("dialog .success", "Done")
    assert api.balance(ADA) == before + 11
    assert history(api, ADA)[0]["actor"] == "grace"


def test_an_answer_that_belongs_to_no_sign_in_is_refused_and_signing_out_forgets(
    page: Page, stack: LocalStack
) -> None:
    press(page, "Sign out")
    ready(page)
    wait_for(lambda: page.text("h1").endswith(" console"), "the start")
    page.driver.get(f"{stack.api_url}/console?code=stolen&state=guessed")
    ready(page)
    page.wait_for_text(".trouble", "The answer belongs to no sign-in that this page began.")
    assert urlsplit(page.driver.current_url).query == ""
    assert blemishes(page) == []
    page.click(".welcome .main")
    wait_for(lambda: page.text("h1") == "Local sign-in", "the issuer's page")
    assert blemishes(page) == []
    press(page, "Decline")
    page.wait_for_text(".trouble", "the person declined")


def test_scopes_decide_what_is_shown(page: Page, stack: LocalStack) -> None:
    page.driver.get(f"{stack.api_url}/console?own")
    ready(page)
    page.click(".welcome .main")
    wait_for(lambda: page.text("h1") == "Local sign-in", "the issuer's page")
    page.fill("[name=subject]", ADA)
    for scope in ("credits:admin", "credits:read"):
        page.click(f"[value='{scope}']")
    page.click("button.main")
    wait_for(lambda: page.js("return !!document.querySelector('#available')"), "her own credits")
    settled(page)
    assert page.driver.current_url.endswith(f"#/users/{ADA}")
    assert page.texts("#nav a") == page.texts(".heading button") == []
    assert page.texts(".tabs a") == ["Credits", "History"]
