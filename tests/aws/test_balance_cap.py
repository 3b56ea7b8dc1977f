"""The cap of a plan, through the handlers and the API: what is granted, shown, told and counted."""

import csv
import io

import pytest

from chalicelib.jobs.completeness import start_checks
from infra.repair import allocate
from tests.aws.api import ADMIN, Api, user
from tests.aws.repair import Terminal
from tests.aws.world import World, at

FEBRUARY = "2026-01-31T23:00:00Z"
MARCH = "2026-02-28T23:00:00Z"
HISTORY = "/api/credits/history"
SCHEDULE = "/api/credits/allocation-schedule"
RUNS = "/api/credits/allocation-runs"


@pytest.fixture
def capped(world: World) -> World:
    """The pro plan fills up to 800 of its 500 a month; user 1 is on it."""
    world.with_plans("pro", balance_cap=800)
    world.subscribe("1")
    return world


def test_months_fill_up_to_the_cap_and_the_history_says_what_was_left_out(
    capped: World, api: Api
) -> None:
    for month in (FEBRUARY, MARCH, "2026-03-31T22:00:00Z"):
        capped.allocate_at(month)
    assert [(amount, balance) for _, amount, balance in capped.summary()] == [
        (500, 500),
        (300, 800),
        (0, 800),
    ]
    items = api.get(HISTORY, user()).json["items"]
    assert [
        (item["allocation_period"], item["left_out_amount"], item["balance_cap"]) for item in items
    ] == [("2026-04", 500, 800), ("2026-03", 200, 800), ("2026-02", None, None)]
    assert items[0]["batches"] == []
    reply = api.get(HISTORY, user(), headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(reply.text, newline="")))
    assert [(row["left_out_amount"], row["balance_cap"]) for row in rows] == [
        ("500", "800"),
        ("200", "800"),
        ("", ""),
    ]
    capped.services.ledger.verify("1")


def test_what_was_left_out_never_comes_though_it_would_fit_later(capped: World, api: Api) -> None:
    capped.grant("1", 800, "a")
    capped.allocate_at(FEBRUARY)
    api.post("/api/credits/use", user(), {"amount": 700, "description": "Film"}, key="b")
    capped.allocation_tick("2026-01-31T23:15:00Z")
    capped.drain()
    assert capped.balance() == 100


def test_a_hold_makes_no_room(capped: World, api: Api) -> None:
    capped.grant("1", 800, "a")
    api.post("/api/credits/holds", user(), {"amount": 700, "description": "Film"}, key="b")
    capped.allocate_at(FEBRUARY)
    assert capped.summary()[-1] == ("allocation", 0, 800)


def test_the_schedule_says_up_to_what_the_next_credits_fill(capped: World, api: Api) -> None:
    schedule = api.get(SCHEDULE, user()).json
    assert (schedule["allocation_amount"], schedule["balance_cap"]) == (500, 800)
    capped.subscribe("1", status="paused")
    assert api.get(SCHEDULE, user()).json["balance_cap"] is None
    capped.subscribe("1", status="active", plan="starter")
    assert api.get(SCHEDULE, user()).json["balance_cap"] is None


def test_a_dry_run_caps_each_missed_month_in_turn_as_the_run_then_does(
    capped: World, api: Api
) -> None:
    capped.now = at("2026-03-10T12:00:00Z")
    asked = {"period": "2026-03", "zones": ["Europe/Paris"]}
    items = api.post(RUNS, ADMIN, {**asked, "dry_run": True}).json["items"]
    assert [(item["amount"], item["left_out_amount"]) for item in items] == [
        (500, None),
        (300, 200),
    ]
    api.post(RUNS, ADMIN, asked)
    capped.drain()
    assert [amount for _, amount, _ in capped.summary()] == [500, 300]


def test_the_user_is_told_of_what_was_left_out_also_if_nothing_came(capped: World) -> None:
    capped.grant("1", 900, "a", notify=False)
    capped.allocate_at(FEBRUARY)
    capped.queue_mails()
    assert capped.send_mails() == []
    (mail,) = capped.outbox.sent
    assert mail.subject == "No room for your February credits"
    assert "Left out: 500 credits\n" in mail.text
    # Users who do not wish to know are not.
    capped.subscribe("1", notifications=[])
    capped.allocate_at(MARCH)
    capped.queue_mails()
    assert capped.send_mails() == []
    assert len(capped.outbox.sent) == 1


def test_a_low_balance_says_that_up_to_so_many_come(capped: World, api: Api) -> None:
    capped.grant("1", 60, "a", notify=False)
    api.post("/api/credits/use", user(), {"amount": 20, "description": "Film"}, key="b")
    capped.queue_mails()
    assert capped.send_mails() == []
    (mail,) = capped.outbox.sent
    assert "Next credits, as things stand: up to 500 credits on 1 February" in mail.text
    assert "up to 500\N{NO-BREAK SPACE}credits on 1\N{NO-BREAK SPACE}February" in mail.html


def test_a_month_that_brought_nothing_is_complete(capped: World) -> None:
    capped.grant("1", 900, "a")
    capped.allocate_at(FEBRUARY)
    asked = {"period": "2026-02", "zones": ["Europe/Paris"]}
    answer = start_checks(capped.services, asked)
    capped.drain()
    report = capped.services.reports.get(f"{answer['summary']}.json")
    assert '"complete": true, "due": 1, "allocated": 1, "missing": 0' in report


def test_a_repair_says_what_was_left_out(capped: World, terminal: Terminal) -> None:
    capped.now = at("2026-03-10T12:00:00Z")
    ran = terminal.run(allocate.main, "--period", "2026-03", "--user-id", "1", "--yes", "--json")
    granted = ran.facts["users"][0]["granted"]
    assert [(each["amount"], each.get("left_out")) for each in granted] == [(500, None), (300, 200)]
    assert "500 for 2026-02, 300 for 2026-03 (200 left out)" in ran.said
