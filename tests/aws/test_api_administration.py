"""Allocation runs over the API: what an admin starts, and what a dry run says it would do."""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pytest

from chalicelib.api import cursors
from chalicelib.domain.calendar import zone_names
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.instants import format_instant
from chalicelib.operations import allocations
from tests.aws.api import ADMIN, Api
from tests.aws.damage import damage_subscription, having
from tests.aws.world import World, at, client

RUNS = "/api/credits/allocation-runs"


def fields(reply: Any) -> list[str]:
    assert reply.status == 400, reply.text
    return [error["field"] for error in reply.json["errors"]]


def preview(api: Api, **body: object) -> list[dict[str, Any]]:
    """All pages of a dry run."""
    items = []
    cursor = None
    while True:
        reply = api.post(RUNS, ADMIN, {"dry_run": True, "cursor": cursor, **body})
        assert reply.status == 200, reply.text
        items += reply.json["items"]
        cursor = reply.json["next_cursor"]
        if cursor is None:
            return items


def test_a_run_makes_good_what_the_schedule_missed(world: World, api: Api) -> None:
    world.subscribe("1")
    world.subscribe("2", timezone="Asia/Tokyo")
    world.now = at("2026-02-20T12:00:00Z")
    reply = api.post(RUNS, ADMIN, {"period": "2026-02", "zones": ["Europe/Paris"]})
    assert reply.status == 202
    assert reply.json == {
        "period": "2026-02",
        "dry_run": False,
        "sweeps": 1,
        "zones_not_begun": [],
    }
    world.drain()
    assert world.summary("1") == [("allocation", 500, 500)]
    assert world.summary("2") == []


def test_a_run_can_be_repeated_and_gives_nothing_twice(world: World, api: Api) -> None:
    world.subscribe("1")
    world.now = at("2026-02-20T12:00:00Z")
    for _ in range(3):
        api.post(RUNS, ADMIN, {"period": "2026-02", "zones": ["Europe/Paris", "Asia/Tokyo"]})
        world.drain()
    assert world.summary("1") == [("allocation", 500, 500)]


def test_a_run_without_zones_sweeps_all_of_them(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []

    def send(bodies: Iterable[str]) -> int:
        sent.extend(bodies)
        return len(sent)

    monkeypatch.setattr(world.services.queues, "send_sweeps", send)
    world.now = at("2026-02-20T12:00:00Z")
    assert api.post(RUNS, ADMIN, {"period": "2026-02"}).json["sweeps"] == len(zone_names())
    assert [json.loads(body)["timezone"] for body in sent] == list(zone_names())


def test_a_run_of_a_month_allocates_no_later_one(world: World, api: Api) -> None:
    world.subscribe("1")
    world.now = at("2026-04-10T12:00:00Z")
    api.post(RUNS, ADMIN, {"period": "2026-03", "zones": ["Europe/Paris"]})
    world.drain()
    assert [str(entry.allocated_through) for entry in world.history()] == ["2026-02", "2026-03"]


def test_zones_where_the_month_has_not_begun_are_left_out_and_named(world: World, api: Api) -> None:
    world.subscribe("1", timezone="Asia/Tokyo")
    world.subscribe("2", timezone="America/New_York")
    world.now = at("2026-01-31T20:00:00Z")
    zones = ["America/New_York", "Asia/Tokyo"]
    body = {"period": "2026-02", "zones": zones}
    reply = api.post(RUNS, ADMIN, body)
    assert (reply.json["sweeps"], reply.json["zones_not_begun"]) == (1, ["America/New_York"])
    assert [json.loads(message)["timezone"] for message in world.take("sweeps")] == ["Asia/Tokyo"]
    dry = api.post(RUNS, ADMIN, {**body, "dry_run": True}).json
    assert [item["user_id"] for item in dry["items"]] == ["1"]
    assert dry["zones_not_begun"] == ["America/New_York"]


def test_a_month_that_has_begun_nowhere_is_refused(world: World, api: Api) -> None:
    world.now = at("2026-01-31T09:59:59Z")
    for more in ({}, {"dry_run": True}):
        reply = api.post(RUNS, ADMIN, {"period": "2026-02", **more})
        assert fields(reply) == ["period"]
        assert "has not begun anywhere yet" in reply.json["detail"]
    in_paris = api.post(RUNS, ADMIN, {"period": "2026-02", "zones": ["Europe/Paris"]})
    assert "in the chosen zones" in in_paris.json["detail"]
    assert world.take("sweeps") == []
    world.now = at("2026-01-31T10:00:00Z")
    on_kiritimati = api.post(RUNS, ADMIN, {"period": "2026-02"})
    assert (on_kiritimati.status, on_kiritimati.json["sweeps"]) == (202, 2)  # and Etc/GMT-14


def expiry(entry: LedgerEntry) -> datetime | None:
    return entry.granted_batch.expires_at if entry.granted_batch else None


def test_a_dry_run_says_exactly_what_the_run_then_does(world: World, api: Api) -> None:
    world.subscribe("1")
    world.subscribe("2", timezone="America/New_York", plan="starter")
    world.subscribe("3", timezone="Asia/Kathmandu", allocation_amount=77)
    world.subscribe("4", status="paused")
    world.subscribe("5", billing_interval="monthly")
    world.subscribe("6", eligible_from="2026-02-15T00:00:00Z")
    world.now = at("2026-03-02T12:00:00Z")
    zones = ["America/New_York", "Asia/Kathmandu", "Europe/Paris"]
    items = preview(api, period="2026-03", zones=zones)
    assert world.lines() == []
    assert world.take("allocations") == world.take("sweeps") == []
    api.post(RUNS, ADMIN, {"period": "2026-03", "zones": zones})
    world.drain()
    done = [
        {
            "user_id": entry.user_id,
            "timezone": world.services.subscriptions.get(entry.user_id).timezone,
            "allocation_period": str(entry.allocated_through),
            "amount": entry.amount,
            "expires_at": format_instant(expires_at) if (expires_at := expiry(entry)) else None,
            "left_out_amount": None,
        }
        for user_id in ("2", "3", "1", "6")  # zones in alphabetical order, users as hashed
        for entry in world.history(user_id)
    ]
    assert items == done
    assert [item["user_id"] for item in items] == ["2", "2", "3", "3", "1", "1", "6"]
    assert preview(api, period="2026-03", zones=zones) == []


def test_a_run_of_a_month_that_has_lapsed_grants_nothing_and_its_dry_run_says_so(
    world: World, api: Api
) -> None:
    world.subscribe("1", eligible_from="2025-01-01T00:00:00Z")
    world.now = at("2027-03-02T12:00:00Z")
    for period, granted in (("2025-06", []), ("2026-03", []), ("2026-04", ["2026-04"])):
        body = {"period": period, "zones": ["Europe/Paris"]}
        items = preview(api, **body)
        assert [item["allocation_period"] for item in items] == granted
        api.post(RUNS, ADMIN, body)
        world.drain()
        assert [str(entry.allocated_through) for entry in world.history("1")] == granted


def test_a_dry_run_names_whom_nobody_can_judge_and_goes_on_with_the_others(
    world: World, api: Api
) -> None:
    for user_id in ("1", "2", "3", "4", "5", "6"):
        world.subscribe(user_id)
    table = {"TableName": world.settings.subscriptions_table}
    item = client("dynamodb").get_item(**table, Key={"user_id": {"S": "2"}})["Item"]
    client("dynamodb").put_item(**table, Item={**item, "plan": {"S": "gone"}})
    damage_subscription(having("timezone", {"S": "Mars/Olympus"}), "5")
    damage_subscription(having("status", {"S": "frozen"}), "6")
    world.grant("3", 5, "a")
    (line,) = world.lines()[:1]
    ledger_table = world.settings.ledger_table
    client("dynamodb").put_item(TableName=ledger_table, Item={**line, "body": {"S": "{"}})
    world.now = at("2026-02-02T12:00:00Z")
    body = {"period": "2026-02", "zones": ["Europe/Paris"], "dry_run": True}
    reply = api.post(RUNS, ADMIN, body)
    assert reply.status == 200
    assert [item["user_id"] for item in reply.json["items"]] == ["4", "1"]  # as they are hashed
    assert [(user["user_id"], user["code"]) for user in reply.json["not_judged"]] == [
        ("3", "ledger_corrupt"),
        ("2", "plan_unknown"),
        ("6", "unreadable"),
        ("5", "timezone_unknown"),
    ]
    assert reply.json["not_judged"][1]["words"].startswith("The plan is no longer in the catalogue")


def test_a_dry_run_comes_in_pages_and_every_user_is_on_one_of_them(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocations, "MOST_QUERIES", 25)
    zones = ("Africa/Lagos", "Europe/Paris", "Pacific/Apia")
    for number in range(21):
        world.subscribe(str(number), timezone=zones[number % 3])
    world.now = at("2026-02-02T12:00:00Z")
    whole = preview(api, period="2026-02")
    assert sorted(int(item["user_id"]) for item in whole) == list(range(21))
    for limit in (1, 6, 7, 22):
        assert preview(api, period="2026-02", limit=limit, zones=list(zones)) == whole
    asked = {"period": "2026-02", "dry_run": True}
    first = api.post(RUNS, ADMIN, {**asked, "limit": 1}).json
    assert len(first["items"]) <= 1
    assert first["next_cursor"]
    # Seven of one zone, and three of the next.
    some = api.post(RUNS, ADMIN, {**asked, "limit": 10, "zones": list(zones)}).json
    assert len(some["items"]) == 10
    api.post(RUNS, ADMIN, {"period": "2026-02", "zones": [zones[0]]})
    world.drain()
    # The seven count who have their month already.
    some = api.post(RUNS, ADMIN, {**asked, "limit": 10, "zones": list(zones)}).json
    assert len(some["items"]) == 3


def test_a_dry_run_that_was_begun_under_the_release_before_goes_on(world: World, api: Api) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id)
    world.now = at("2026-02-02T12:00:00Z")
    body = {"period": "2026-02", "zones": ["Europe/Paris"], "dry_run": True, "limit": 1}
    first = api.post(RUNS, ADMIN, body).json
    assert [item["user_id"] for item in first["items"]] == ["1"]
    cursor = "ZDc1NzgzN2NFdXJvcGUvUGFyaXMgMQ"
    assert first["next_cursor"] == cursor
    rest = api.post(RUNS, ADMIN, {**body, "cursor": cursor}).json
    assert [item["user_id"] for item in rest["items"]] == ["2"]


def test_a_cursor_of_another_dry_run_is_refused(world: World, api: Api) -> None:
    world.subscribe("1")
    world.subscribe("2")
    world.now = at("2026-03-02T12:00:00Z")
    body = {"period": "2026-03", "zones": ["Europe/Paris"], "dry_run": True, "limit": 1}
    cursor = api.post(RUNS, ADMIN, body).json["next_cursor"]
    assert api.post(RUNS, ADMIN, {**body, "cursor": cursor}).status == 200
    for changed in ({"period": "2026-02"}, {"zones": ["Asia/Tokyo"]}, {"zones": None}):
        assert fields(api.post(RUNS, ADMIN, {**body, **changed, "cursor": cursor})) == ["cursor"]


@pytest.mark.parametrize("is_dry", [True, False], ids=["dry", "for_good"])
def test_the_local_stage_does_not_run_a_month_ahead_of_its_clock_either(
    monkeypatch: pytest.MonkeyPatch, *, is_dry: bool
) -> None:
    world = World(stage="local")
    monkeypatch.setattr("chalicelib.api.exchange.services", lambda: world.services)
    world.subscribe("1")
    body = {"period": "2026-05", "zones": ["Europe/Paris"], "dry_run": is_dry}
    reply = Api().post(RUNS, ADMIN, body)
    assert reply.status == 400
    assert "has not begun" in reply.text
    assert world.take("sweeps") == []


WRONG_FIELDS: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("period", ("2026", "2026-13", "2026-1", "26-01", 202601, None, "2026-01-01", "3000-01")),
    ("zones", ([], "Europe/Paris", {}, 5)),
    ("dry_run", ("true", 1, 0)),
    ("limit", (0, 101, 1.0, True, "x")),
    ("cursor", ("", 5, "x" * 513)),
    ("user_id", ("", "a b", 1.5)),
    ("users", ("1",)),
)


def test_a_wrong_field_is_named_and_nothing_is_started(world: World, api: Api) -> None:
    body = {"period": "2026-01", "dry_run": True}
    for field, values in WRONG_FIELDS:
        for value in values:
            assert fields(api.post(RUNS, ADMIN, {**body, field: value})) == [field], value
    misspelt = {**body, "zones": ["Europe/Paris", "Asia/Tokio"]}
    assert fields(api.post(RUNS, ADMIN, misspelt)) == ["zones[1]"]
    for field, value in (("limit", 5), ("cursor", "x")):
        assert fields(api.post(RUNS, ADMIN, {"period": "2026-01", field: value})) == [field]
    of_one = {**body, "user_id": "1"}
    for field, of_many in (("zones", ["Europe/Paris"]), ("limit", 5), ("cursor", "x")):
        assert fields(api.post(RUNS, ADMIN, {**of_one, field: of_many})) == [field]
    assert world.take("sweeps") == []


def test_a_zone_in_which_the_month_begins_between_two_pages_breaks_no_dry_run(
    world: World, api: Api
) -> None:
    zones = ("Asia/Kathmandu", "Asia/Tokyo", "Europe/Paris")
    for number in range(6):
        world.subscribe(str(number), timezone=zones[number % 3])
    body = {"period": "2026-02", "zones": list(zones), "dry_run": True, "limit": 1}
    world.now = at("2026-01-31T15:00:00Z")  # The month begins in Tokyo.
    page = api.post(RUNS, ADMIN, body).json
    assert page["zones_not_begun"] == ["Asia/Kathmandu", "Europe/Paris"]
    for time, not_begun in (
        ("18:14:59.999", ["Asia/Kathmandu", "Europe/Paris"]),
        ("18:15:00", ["Europe/Paris"]),
        ("23:00:00", []),
    ):
        world.now = at(f"2026-01-31T{time}Z")
        reply = api.post(RUNS, ADMIN, {**body, "cursor": page["next_cursor"]})
        assert reply.status == 200, f"at {time} the cursor was refused: {reply.text}"
        assert reply.json["zones_not_begun"] == not_begun, time
    found = [item["user_id"] for item in page["items"]]
    while page["next_cursor"]:
        page = api.post(RUNS, ADMIN, {**body, "cursor": page["next_cursor"]}).json
        found += [item["user_id"] for item in page["items"]]
    # Behind the place where it was: both of Tokyo, both of Paris, and nobody twice.
    assert sorted(found) == ["1", "2", "4", "5"]


def test_a_run_sweeps_each_zone_as_of_the_months_beginning_there(world: World, api: Api) -> None:
    world.now = at("2026-03-20T12:00:00Z")
    zones = ["Europe/Paris", "Asia/Tokyo", "America/New_York"]
    assert api.post(RUNS, ADMIN, {"period": "2026-03", "zones": zones}).json["sweeps"] == 3
    found = {
        sweep["timezone"]: {sweep[name] for name in ("first_midnight", "midnight", "as_of")}
        for sweep in map(json.loads, world.take("sweeps"))
    }
    assert found == {
        "Asia/Tokyo": {"2026-02-28T15:00:00Z"},
        "Europe/Paris": {"2026-02-28T23:00:00Z"},
        "America/New_York": {"2026-03-01T05:00:00Z"},
    }


def test_a_dry_run_says_where_a_user_lives_also_where_the_index_lags_behind(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.subscribe("2")
    table = {"TableName": world.settings.subscriptions_table}
    item = client("dynamodb").get_item(**table, Key={"user_id": {"S": "2"}})["Item"]
    moved = {**item, "timezone": {"S": "Europe/Athens"}}
    client("dynamodb").put_item(**table, Item=moved)
    world.now = at("2026-02-02T12:00:00Z")
    items = preview(api, period="2026-02", zones=["Europe/Paris"])
    assert {item["user_id"]: item["timezone"] for item in items} == {
        "1": "Europe/Paris",
        "2": "Europe/Athens",
    }


def test_a_run_of_one_user_says_why_they_were_not_judged_and_waits_for_their_month(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    table = {"TableName": world.settings.subscriptions_table}
    item = client("dynamodb").get_item(**table, Key={"user_id": {"S": "1"}})["Item"]
    client("dynamodb").put_item(**table, Item={**item, "plan": {"S": "gone"}})
    for dry_run in (True, False):
        body = {"period": "2026-01", "user_id": "1", "dry_run": dry_run}
        (user,) = api.post(RUNS, ADMIN, body).json["not_judged"]
        assert (user["user_id"], user["code"]) == ("1", "plan_unknown")
        early = api.post(RUNS, ADMIN, {**body, "period": "2026-02"})
        assert early.json["errors"] == [
            {
                "field": "period",
                "message": "must have begun; 2026-02 has not begun yet in Europe/Paris, "
                "where the user lives",
            }
        ]


def test_a_page_of_a_dry_run_goes_on_after_the_longest_user_id(world: World, api: Api) -> None:
    world.subscribe("1")
    body = {"period": "2026-01", "dry_run": True, "zones": ["Europe/Paris"]}
    for length, status in ((128, 200), (129, 400)):
        cursor = cursors.encode("preview 2026-01 ['Europe/Paris']", "Europe/Paris " + "x" * length)
        assert api.post(RUNS, ADMIN, {**body, "cursor": cursor}).status == status


def test_a_zone_that_is_named_twice_is_swept_once(world: World, api: Api) -> None:
    world.subscribe("1")
    world.now = at("2026-02-20T12:00:00Z")
    body = {"period": "2026-02", "zones": ["Europe/Paris", "Asia/Tokyo", "Europe/Paris"]}
    assert [item["user_id"] for item in preview(api, **body)] == ["1"]
    assert api.post(RUNS, ADMIN, body).json["sweeps"] == 2
    zones = [json.loads(sweep)["timezone"] for sweep in world.take("sweeps")]
    assert zones == ["Asia/Tokyo", "Europe/Paris"]
