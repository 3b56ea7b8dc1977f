"""The monthly count: who was left out or allocated twice is found, and what is mended is seen."""

import json
import random
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from chalicelib import metrics
from chalicelib.domain import calendar, ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.errors import NotFound
from chalicelib.domain.ranges import Range
from chalicelib.jobs.completeness import start_checks
from chalicelib.observability import correlated
from chalicelib.operations import months
from chalicelib.store.ledger import draft
from chalicelib.store.ledger_items import item_of
from tests.aws.world import Context, World, at, client

FEBRUARY = Period(2026, 2)
PARIS_FEBRUARY = "2026-01-31T23:00:00Z"


@pytest.fixture
def three(world: World) -> World:
    """Three users of one zone, allocated for February, and one of another zone."""
    for number in ("1", "2", "3"):
        world.subscribe(number)
    world.subscribe("4", timezone="Asia/Tokyo")
    world.allocate_at("2026-01-31T15:00:00Z")
    world.allocation_tick(PARIS_FEBRUARY)
    return world


def summary(world: World, run: str = "r1", **event: Any) -> dict[str, Any]:
    """Counts February, in the zones people live in, and answers the summary."""
    metrics.flush()
    with correlated(run):
        answer = start_checks(
            world.services, {"period": "2026-02", "zones": sorted(world.zones), **event}
        )
    assert answer["success"], answer
    world.drain()
    found: dict[str, Any] = json.loads(world.services.reports.get(f"{answer['summary']}.json"))
    return found


def counts(found: dict[str, Any]) -> tuple[int, int, int, int]:
    return found["due"], found["allocated"], found["missing"], found["duplicate"]


def lose_the_message_of(world: World, user_id: str) -> None:
    """Lets the sweep hand everybody on but one."""
    world.deliver_waiting("sweeps")
    for body in world.take("allocations"):
        message = json.loads(body)
        message["user_ids"] = [user for user in message["user_ids"] if user != user_id]
        assert world.deliver("allocations", [json.dumps(message)]) == []


def forge_a_second_allocation(world: World, user_id: str) -> None:
    """What no decision makes: an allocation of a period that was allocated, chained rightly."""
    account = world.services.ledger.account(user_id)
    fooled = replace(account.last or pytest.fail("empty"), allocated_through=None)
    entry = ledger.allocate(
        account._replace(last=fooled), FEBRUARY, 500, "Europe/Paris", None, world.now
    )
    client("dynamodb").put_item(
        TableName=world.settings.ledger_table, Item=item_of(entry, account.last_hash)
    )


def test_a_user_with_more_than_a_megabyte_of_entries_since_then_is_counted(three: World) -> None:
    """A query ends at 1 MB, whatever its limit: what it has not read yet is no end."""
    three.drain()
    account = three.services.ledger.account("1")
    last = account.last or pytest.fail("empty")
    many = tuple(
        replace(last.batches[0], number=number, granted=1_000_000, remaining=1_000_000)
        for number in range(1_000_001, 1_000_991)
    )
    account = account._replace(last=replace(last, batches=(*last.batches, *many)))
    request = ledger.Request("usage#shop#key", "shop", "Work")
    for _ in range(30):
        drafted = draft(account, lambda who: ledger.use(who, 1, request, three.now))
        assert drafted
        client("dynamodb").put_item(TableName=three.settings.ledger_table, Item=drafted.item)
        account = drafted.account
    assert counts(summary(three)) == (4, 4, 0, 0)


def test_a_count_in_which_nobody_was_due_does_not_say_that_it_is_complete(world: World) -> None:
    world.now = at("2026-02-02T00:00:00Z")
    answer = start_checks(world.services, {"period": "2026-02", "zones": ["Asia/Tokyo"]})
    world.drain()
    shown = world.services.reports.get(f"{answer['summary']}.txt")
    assert shown.splitlines()[-1] == "nobody was due"


def test_a_month_in_which_everybody_was_allocated_is_complete(
    three: World, capsys: pytest.CaptureFixture[str]
) -> None:
    three.subscribe("5", status="paused")
    three.drain()
    capsys.readouterr()
    found = summary(three)
    assert counts(found) == (4, 4, 0, 0)
    assert found["complete"]
    assert {zone: tally["due"] for zone, tally in found["by_zone"].items()} == {
        "Asia/Tokyo": 1,
        "Europe/Paris": 3,
    }
    capsys.readouterr()
    metrics.flush()
    written = json.loads(capsys.readouterr().out)
    assert (written["Due"], written["Missing"], written["Duplicate"]) == ([4], [0], [0])


def test_a_user_who_was_left_out_is_found_repaired_by_the_next_sweep_and_no_more(
    three: World,
) -> None:
    lose_the_message_of(three, "2")
    found = summary(three)
    assert counts(found) == (4, 3, 1, 0)
    assert found["missing_users"] == ["2"]
    assert not found["complete"]
    table = three.services.reports.get("completeness/2026-02/r1/summary.txt")
    assert "missing: 2\nNOT complete\n" in table
    assert three.services.reports.find(months.key_of(FEBRUARY)) is None, (
        "not all zones were counted"
    )
    three.allocate_at("2026-01-31T23:15:00Z")
    assert counts(summary(three, "r2")) == (4, 4, 0, 0)


def test_a_forged_second_allocation_is_found(three: World) -> None:
    three.drain()
    forge_a_second_allocation(three, "3")
    found = summary(three)
    assert counts(found) == (4, 4, 0, 1)
    assert found["duplicate_users"] == ["3"]
    table = three.services.reports.get("completeness/2026-02/r1/summary.txt")
    assert table.splitlines()[-2:] == ["duplicate: 3", "NOT complete"]


def test_a_user_whose_ledger_cannot_be_read_is_named_and_the_others_are_counted(
    three: World,
) -> None:
    three.drain()
    (item,) = [item for item in three.lines() if item["user_id"]["S"] == "1"]
    item["body"]["S"] = "{}"
    client("dynamodb").put_item(TableName=three.settings.ledger_table, Item=item)
    found = summary(three)
    assert counts(found) == (3, 3, 0, 0)
    assert found["unchecked_users"] == ["1"]
    assert not found["complete"]
    table = three.services.reports.get("completeness/2026-02/r1/summary.txt")
    # Nothing is said of timezones: theirs is known.
    assert table.splitlines()[-2:] == ["unchecked: 1", "NOT complete"]


def test_allocations_are_found_behind_many_other_entries(three: World) -> None:
    three.drain()
    for number in range(30):
        three.grant("1", 1, f"k{number}")
    assert counts(summary(three)) == (4, 4, 0, 0)


def started(world: World, monkeypatch: pytest.MonkeyPatch) -> str:
    """Starts to count Paris, a user at a time; answers the message."""
    monkeypatch.setattr("chalicelib.jobs.completeness.USERS_A_PAGE", 1)
    with correlated("r1"):
        start_checks(world.services, {"period": "2026-02", "zones": ["Europe/Paris"]})
    (message,) = world.take("checks")
    return message


def reported(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        world.services.reports.get("completeness/2026-02/r1/summary.json")
    )
    return found


def test_a_count_that_runs_out_of_time_is_divided_and_adds_up(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_the_message_of(three, "1")
    zone = started(three, monkeypatch)
    three.context = Context(remaining_milliseconds=9_999)
    assert three.deliver("checks", [zone]) == []
    parts = three.take("checks")
    assert [json.loads(part)["range"] for part in parts] == [f"{n:04b}" for n in range(16)]
    three.context = Context()
    # All but one: nothing is complete.
    assert three.deliver("checks", parts[:7] + parts[8:]) == []
    assert three.services.reports.keys("completeness/2026-02/r1/zones/") == []
    # The zone comes again, is not divided this time, and one of its parts comes after it.
    assert three.deliver("checks", [zone]) == []
    assert counts(reported(three)) == (3, 2, 1, 0)
    assert three.deliver("checks", [parts[7], parts[0]]) == []
    assert counts(reported(three)) == (3, 2, 1, 0)
    assert reported(three)["missing_users"] == ["1"]


def test_a_range_that_runs_out_of_time_is_divided_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    range_ = Range("0110")
    for user_id in [name for name in map(str, range(99)) if name in range_][:2]:
        world.subscribe(user_id)
    world.now = at("2026-02-02T13:30:00Z")
    message = json.loads(started(world, monkeypatch)) | {"range": range_.bits}
    world.context = Context(remaining_milliseconds=10_000)
    assert world.deliver("checks", [json.dumps(message)]) == []
    assert world.take("checks") == [], "there was time left"
    world.context = Context(remaining_milliseconds=9_999)
    assert world.deliver("checks", [json.dumps(message)]) == []
    parts = [json.loads(part)["range"] for part in world.take("checks")]
    assert parts == [f"0110{n:04b}" for n in range(16)]


def test_a_zone_of_many_users_is_counted_in_ranges_whatever_comes_twice_and_in_what_order(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [f"user-{number}" for number in range(24)]
    for user_id in users:
        world.subscribe(user_id)
    world.allocation_tick(PARIS_FEBRUARY)
    lose_the_message_of(world, "user-7")
    monkeypatch.setattr("chalicelib.jobs.completeness.USERS_A_RANGE", 10)
    chance = random.Random(7)
    delivered: list[str] = []
    waiting = [started(world, monkeypatch)]
    while waiting:
        message = waiting.pop(chance.randrange(len(waiting)))
        # Now and then there is no time, and a range is divided again; not for ever.
        world.context = Context(9_999 if len(delivered) < 10 else 30_000)
        for body in (message, chance.choice([message, *delivered])):
            assert world.deliver("checks", [body]) == []
        delivered.append(message)
        waiting += world.take("checks")
        if waiting:
            chance.shuffle(waiting)
    assert len(delivered) > 17
    assert counts(reported(world)) == (24, 23, 1, 0)
    assert reported(world)["missing_users"] == ["user-7"]


def test_the_schedule_counts_its_own_month_in_every_zone(three: World) -> None:
    three.now = at("2026-02-02T13:30:00Z")
    event = {"detail-type": "Scheduled Event", "id": "e-1", "time": "2026-02-02T13:30:00Z"}
    answer = start_checks(three.services, event)
    assert answer["period"] == "2026-02"
    assert answer["zones"] == len(calendar.zone_names())
    attributes = three.sqs.get_queue_attributes(
        QueueUrl=three.queue_url("checks"), AttributeNames=["ApproximateNumberOfMessages"]
    )["Attributes"]
    # One more goes through everybody, for those in other zones.
    assert attributes == {"ApproximateNumberOfMessages": str(answer["zones"] + 1)}


def live_nowhere(world: World, user_id: str, timezone: str = "Asia/Gone") -> None:
    """As it is after an update of the database of timezones that has this one no more."""
    table = world.settings.subscriptions_table
    item = client("dynamodb").get_item(TableName=table, Key={"user_id": {"S": user_id}})["Item"]
    item["timezone"] = {"S": timezone}
    if "allocation_timezone" in item:
        item["allocation_timezone"] = {"S": timezone}
    client("dynamodb").put_item(TableName=table, Item=item)


def test_users_whose_timezone_is_unknown_are_counted_named_and_ring_an_alarm(
    three: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    three.drain()
    zones = tuple(sorted(three.zones))
    three.subscribe("5", status="paused")
    live_nowhere(three, "2")
    live_nowhere(three, "5", "Mars/Olympus")
    monkeypatch.setattr("chalicelib.domain.calendar.zone_names", lambda: zones)
    metrics.flush()
    capsys.readouterr()
    found = summary(three, zones=None)
    assert counts(found) == (3, 3, 0, 0)
    assert found["zones"] == len(zones)
    assert found["by_zone"]["unknown"]["unchecked"] == found["unchecked"] == 2
    assert sorted(found["unchecked_users"]) == ["2", "5"]
    assert not found["complete"]
    table = three.services.reports.get("completeness/2026-02/r1/summary.txt")
    assert "unknown: 2 users live in a timezone that is no longer in the database" in table
    assert "PATCH /api/subscriptions/{user_id}" in table
    metrics.flush()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["TimezoneUnknown"] for line in lines if "TimezoneUnknown" in line] == [[2]]
    (logged,) = [vars(r) for r in caplog.records if r.getMessage() == "timezones unknown"]
    assert logged["zones"] == {"Asia/Gone": 1, "Mars/Olympus": 1}


def test_where_every_timezone_is_known_the_count_of_all_zones_ends_the_alarm(
    three: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three.drain()
    zones = tuple(sorted(three.zones))
    monkeypatch.setattr("chalicelib.domain.calendar.zone_names", lambda: zones)
    metrics.flush()
    capsys.readouterr()
    found = summary(three, zones=None)
    assert found["complete"]
    assert "unknown" not in found["by_zone"]
    metrics.flush()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["TimezoneUnknown"] for line in lines if "TimezoneUnknown" in line] == [[0]]


def test_a_month_is_summed_up_once_those_of_unknown_timezones_are_counted_too(
    three: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    three.drain()
    zones = tuple(sorted(three.zones))
    monkeypatch.setattr("chalicelib.domain.calendar.zone_names", lambda: zones)
    with correlated("r1"):
        answer = start_checks(three.services, {"period": "2026-02"})
    assert answer == {
        "success": True,
        "period": "2026-02",
        "zones": 2,
        "bucket": "credits-dev-reports",
        "summary": "completeness/2026-02/r1/summary",
    }
    *of_zones, of_strangers = three.take("checks")
    ids = {json.loads(body)["correlation_id"] for body in (*of_zones, of_strangers)}
    assert ids == {"r1"}, "the log lines of a count belong together"
    assert three.deliver("checks", of_zones) == []
    assert three.services.reports.keys("completeness/2026-02/r1/summary") == []
    with pytest.raises(NotFound):
        months.month_of(three.services, FEBRUARY)
    caplog.set_level("INFO")
    three.now = at("2026-02-02T13:31:00Z")
    assert three.deliver("checks", [of_strangers]) == []
    month = months.month_of(three.services, FEBRUARY)
    assert (month.counted_at, month.together) == (three.now, Tally(due=4, allocated=4))
    (line,) = [vars(record) for record in caplog.records if record.msg == "checked"]
    assert (line["period"], line["complete"], line["due"]) == ("2026-02", True, 4)


def test_the_count_of_unknown_timezones_goes_on_in_segments_where_it_ran_out_of_time(
    three: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.drain()
    zones = tuple(sorted(three.zones))
    for user_id in ("1", "2", "3", "4"):
        live_nowhere(three, user_id)
    monkeypatch.setattr("chalicelib.domain.calendar.zone_names", lambda: zones)
    monkeypatch.setattr("chalicelib.jobs.completeness.SEGMENT_BITS", 2)
    call = three.services.dynamodb.call
    asked: set[tuple[int | None, int | None]] = set()

    def scan_one(operation: str, asks: Any) -> Any:
        """A page of one user; and what moto does not do: each user is in one segment."""
        if operation != "Scan":
            return call(operation, asks)
        asks = dict(asks)
        segment, segments = asks.pop("Segment", None), asks.pop("TotalSegments", None)
        asked.add((segment, segments))
        response = call(operation, {**asks, "Limit": 1})
        response["Items"] = [
            item
            for item in response["Items"]
            if segment is None or int(item["user_id"]["S"]) % (segments or 1) == segment
        ]
        return response

    monkeypatch.setattr(three.services.dynamodb, "call", scan_one)
    three.context = Context(remaining_milliseconds=9_999)
    found = summary(three, zones=None)
    assert asked == {(None, None), (0, 4), (1, 4), (2, 4), (3, 4)}
    assert (found["unchecked"], found["due"]) == (4, 0)
    assert sorted(found["unchecked_users"]) == ["1", "2", "3", "4"]


def test_one_user_of_a_zones_index_whose_timezone_is_unknown_stops_nobody_else(
    three: World,
) -> None:
    """The index lags behind: it still has the user in the zone that is counted."""
    three.drain()
    three.subscribe("6")
    table = three.settings.subscriptions_table
    item = client("dynamodb").get_item(TableName=table, Key={"user_id": {"S": "6"}})["Item"]
    client("dynamodb").put_item(TableName=table, Item={**item, "timezone": {"S": "Asia/Gone"}})
    found = summary(three)
    assert counts(found) == (4, 4, 0, 0)
    assert found["unchecked_users"] == ["6"]


@pytest.mark.parametrize(
    ("event", "field"),
    [
        ({}, "period"),
        ({"period": "July"}, "period"),
        ({"period": "2026-03"}, "period"),
        ({"period": "2026-01", "zones": []}, "zones"),
    ],
)
def test_what_cannot_be_counted_is_refused(three: World, event: dict[str, Any], field: str) -> None:
    answer = start_checks(three.services, event)
    assert [error["field"] for error in answer["error"]["errors"]] == [field]


def test_where_the_month_has_not_begun_nobody_is_missing_in_any_stage() -> None:
    world = World(stage="local", now=at("2026-12-15T12:00:00Z"))
    world.subscribe("1", timezone="Europe/Paris")
    world.subscribe("2", timezone="America/Los_Angeles")
    world.subscribe("3", timezone="Pacific/Honolulu")
    for midnight in ("2026-12-31T23:00:00Z", "2027-01-01T08:00:00Z"):
        world.allocate_at(midnight)
    world.now = at("2027-01-01T08:01:00Z")
    for zones in ({"zones": sorted(world.zones)}, {}):
        found = summary(world, run=f"r{len(zones)}", **{"period": "2027-01", **zones})
        assert found["complete"] is True
        assert counts(found) == (2, 2, 0, 0)
        assert "Pacific/Honolulu" not in found["by_zone"]
    only = {"period": "2027-01", "zones": ["Pacific/Honolulu"]}
    assert start_checks(world.services, only)["error"]["code"] == "invalid_input"


# --- What failed in between, and more than one of everything ------------------------------------


def counted(capsys: pytest.CaptureFixture[str]) -> dict[str, list[float]]:
    """What was counted since the last call of what a summary counts."""
    metrics.flush()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {
        name: [value for line in lines for value in line.get(name, ())]
        for name in ("Due", "Missing", "Duplicate")
    }


def test_the_summary_says_of_each_zone_what_is_wrong_there_and_the_alarms_hear_it(
    three: World, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_the_message_of(three, "2")
    for user_id in ("1", "3"):
        forge_a_second_allocation(three, user_id)
    counted(capsys)
    zones = ["Africa/Lagos", *sorted(three.zones)]
    assert counts(summary(three, zones=zones)) == (4, 3, 1, 2)
    assert counted(capsys) == {"Due": [4], "Missing": [1], "Duplicate": [2]}
    assert three.services.reports.get("completeness/2026-02/r1/summary.txt") == (
        "Allocations of 2026-02, 3 zones\n"
        "\n"
        "zone                                    due  allocated    missing  duplicate  unchecked\n"
        "Asia/Tokyo                                1          1          0          0          0\n"
        "Europe/Paris                              3          2          1          2          0\n"
        "all                                       4          3          1          2          0\n"
        "missing: 2\n"
        "duplicate: 3, 1\n"
        "NOT complete\n"
    )
    kept = {"Bucket": three.settings.reports_bucket, "Key": "completeness/2026-02/r1/summary.txt"}
    # Else a browser shows the names of people and places as gibberish.
    assert client("s3").head_object(**kept)["ContentType"] == "text/plain; charset=utf-8"


def test_of_many_who_are_missing_twenty_are_named_and_the_others_counted(
    three: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The report of the other zone is there already, as a check of the release before wrote it."""
    three.drain()
    check = started(three, monkeypatch)
    names = [f"u{number:02}" for number in range(20)]
    report = {
        "period": "2026-02",
        "timezone": "Asia/Tokyo",
        "due": 33,
        "allocated": 2,
        "missing": 31,
        "duplicate": 0,
        "unchecked": 0,
        "missing_users": names,
        "duplicate_users": [],
        "unchecked_users": [],
    }
    three.services.reports.put("completeness/2026-02/r1/zones/Asia/Tokyo.json", json.dumps(report))
    counted(capsys)
    assert three.deliver("checks", [json.dumps(json.loads(check) | {"zones": 2})]) == []
    assert counts(reported(three)) == (36, 5, 31, 0)
    assert counted(capsys) == {"Due": [36], "Missing": [31], "Duplicate": [0]}
    table = three.services.reports.get("completeness/2026-02/r1/summary.txt")
    assert f"missing: {', '.join(names)} and 11 more\n" in table


def test_a_reader_who_waits_for_the_summary_finds_the_table_and_alarms_wait_for_both(
    three: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    three.drain()
    check = started(three, monkeypatch)
    s3 = client("s3", "services")
    put = s3.put_object

    def refuse_the_summary(**request: Any) -> Any:
        if request["Key"].endswith("summary.json"):
            raise EndpointConnectionError(endpoint_url="https://s3")
        return put(**request)

    counted(capsys)
    with monkeypatch.context() as patched:
        patched.setattr(s3, "put_object", refuse_the_summary)
        assert three.deliver("checks", [check]) == [check]
    written = three.services.reports.keys("completeness/2026-02/r1/summary")
    assert written == ["completeness/2026-02/r1/summary.txt"], "the table is first"
    nothing: list[float] = []
    assert counted(capsys) == {"Due": nothing, "Missing": nothing, "Duplicate": nothing}
    assert three.deliver("checks", [check]) == []
    assert counted(capsys) == {"Due": [3], "Missing": [0], "Duplicate": [0]}


def test_the_month_begins_before_utcs_where_the_day_does_first(world: World) -> None:
    world.subscribe("1", timezone="Pacific/Kiritimati")
    world.allocate_at("2026-01-31T10:00:00Z")
    for key in ("a", "b"):  # It is still January in UTC.
        world.now = at("2026-01-31T20:00:00Z")
        world.grant("1", 1, key)
    world.now = at("2026-02-02T00:00:00Z")
    assert counts(summary(world)) == (1, 1, 0, 0)


def test_a_check_that_is_refused_says_why_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody reads what the schedule is answered."""
    assert not start_checks(world.services, {"period": "July"})["success"]
    (line,) = [vars(record) for record in caplog.records if record.msg == "check refused"]
    assert (line["levelname"], line["code"]) == ("WARNING", "invalid_input")
    assert line["detail"].startswith("period: ")
