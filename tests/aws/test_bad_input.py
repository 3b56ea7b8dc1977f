"""Bad input: a clear error that names the field, nothing written, and the neighbours are served."""

import json
from collections import Counter
from typing import Any

import pytest

from chalicelib.jobs import manual, ticks
from chalicelib.messages.work import SweepKind, UsersMessage
from tests.aws.world import World, at

GOOD = {
    "user_id": 1,
    "amount": 50,
    "description": "Goodwill",
    "actor": "ada",
    "idempotency_key": "key-1",
}


def refused(answer: dict[str, Any]) -> list[tuple[str, str]]:
    assert answer["success"] is False
    return [(wrong["field"], wrong["message"]) for wrong in answer["error"].get("errors", [])]


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"amount": 0}, "amount", "must be a whole number other than 0"),
        ({"amount": 1.0}, "amount", "is 1.0 (float)"),
        ({"amount": True}, "amount", "is True (bool)"),
        ({"amount": "50"}, "amount", "is '50'"),
        ({"amount": 1_000_000_001}, "amount", "of at most 1,000,000,000 either way"),
        ({"amount": -1_000_000_001}, "amount", "of at most 1,000,000,000 either way"),
        ({"amount": None}, "amount", "is required"),
        ({"description": None}, "description", "is required"),
        ({"description": " "}, "description", "must be a text that is not blank"),
        ({"description": "x" * 501}, "description", "must be at most 500 characters; has 501"),
        ({"actor": None}, "actor", "is required"),
        ({"idempotency_key": None}, "idempotency_key", "is required"),
        ({"idempotency_key": "a b"}, "idempotency_key", "visible ASCII characters"),
        ({"user_id": "a#b"}, "user_id", "must be 1 to 128"),
        ({"user_id": 1.5}, "user_id", "is 1.5 (float)"),
        ({"surprise": 1}, "surprise", "is not a known field; the fields are actor, amount"),
        ({"expires_in_days": 0}, "expires_in_days", "must be a whole number of days"),
        ({"amount": -5, "expires_in_days": 5}, "expires_in_days", "goes with a grant only"),
    ],
)
def test_a_bad_manual_allocation_names_the_field_and_writes_nothing(
    world: World, change: dict[str, object], field: str, words: str
) -> None:
    world.subscribe("1")
    answer = manual.manual_allocate(world.services, {**GOOD, **change}, world.context)
    ((name, message),) = refused(answer)
    assert name == field
    assert words in message
    assert answer["error"]["code"] == "invalid_input"
    assert world.lines() == []


@pytest.mark.parametrize("event", [None, [], "text", 5, {1: 2}])
def test_a_manual_allocation_that_is_no_object_is_refused(world: World, event: object) -> None:
    ((name, message),) = refused(manual.manual_allocate(world.services, event, world.context))
    assert (name, "must be an object" in message) == ("event", True)


def test_everything_that_is_wrong_is_said_at_once(world: World) -> None:
    answer = manual.manual_allocate(world.services, {"amount": 0, "surprise": 1}, world.context)
    assert {name for name, _ in refused(answer)} == {
        "user_id",
        "amount",
        "description",
        "actor",
        "idempotency_key",
        "surprise",
    }


def test_an_unknown_user_is_refused(world: World) -> None:
    answer = manual.manual_allocate(world.services, GOOD, world.context)
    assert answer == {
        "success": False,
        "error": {"code": "not_found", "detail": "there is no user 1"},
    }
    assert world.lines() == []


@pytest.mark.parametrize(
    ("event", "field", "words"),
    [
        ({}, "time", "is required"),
        ({"time": "2026-02-01"}, "time", "must be a date and time written like"),
        ({"time": "2026-02-01T00:00:00"}, "time", "has no UTC offset"),
        ({"time": 5}, "time", "must be a date and time"),
        ({"time": "2026-01-15T12:05:01Z"}, "time", "must not be ahead of the clock"),
        ({"time": "2026-01-15T12:00:00.250Z", "zones": []}, "zones", "must be a list"),
        ({"time": "2026-01-15T12:00:00.250Z", "zones": "UTC"}, "zones", "must be a list"),
        (
            {"time": "2026-01-15T12:00:00.250Z", "zones": ["UTC", "Europe/Pariss"]},
            "zones[1]",
            "did you mean 'Europe/Paris'?",
        ),
        ({"time": "2026-01-15T12:00:00.250Z", "zone": "UTC"}, "zone", "is not a known field"),
        ({"detail-type": "Scheduled Event"}, "time", "is required"),
        (None, "event", "must be an object"),
    ],
)
@pytest.mark.parametrize("kind", SweepKind)
def test_a_bad_tick_names_the_field_and_starts_nothing(
    world: World, kind: SweepKind, event: object, field: str, words: str
) -> None:
    ((name, message),) = refused(ticks.start_sweeps(world.services, kind, event))
    assert name == field
    assert words in message
    assert world.take("sweeps") == []


def test_a_tick_may_be_ahead_of_the_clock_by_what_clocks_differ_but_grants_nothing_early(
    world: World,
) -> None:
    world.subscribe("1", timezone="UTC")
    world.now = at("2026-01-31T23:55:00Z")
    event = {"time": "2026-02-01T00:00:00Z"}
    assert ticks.start_sweeps(world.services, SweepKind.ALLOCATION, event)["success"]
    world.drain()
    assert world.summary() == []
    world.allocate_at("2026-02-01T00:15:00Z")
    assert world.summary() == [("allocation", 500, 500)]


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_a_tick_of_the_future_is_refused_in_any_stage(stage: str) -> None:
    world = World(stage=stage)
    world.subscribe("1", timezone="UTC")
    for kind in (SweepKind.ALLOCATION, SweepKind.EXPIRY):
        answer = ticks.start_sweeps(world.services, kind, {"time": "2026-02-01T00:00:00Z"})
        ((field, said),) = refused(answer)
        assert (field, said[:30]) == ("time", "must not be ahead of the clock")
    assert world.take("sweeps") == []


@pytest.mark.parametrize("stage", ["local", "dev", "prod"])
def test_a_message_of_the_future_grants_nothing_and_expires_nothing_in_any_stage(
    stage: str,
) -> None:
    world = World(stage=stage)
    world.subscribe("1", timezone="UTC", plan="starter")
    world.allocate_at("2026-02-01T00:00:00Z")
    world.now = at("2026-02-28T12:00:00Z")
    before = world.lines()
    future = UsersMessage(at("2026-04-01T00:00:00Z"), ("1",)).body()
    for queue in ("allocations", "expiries"):
        assert world.deliver(queue, [future]) == []
    assert world.lines() == before


def test_eventbridges_own_event_is_understood(world: World) -> None:
    event = {
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "123456789012",
        "time": "2026-01-15T12:00:00Z",
        "region": "eu-west-1",
        "resources": ["arn:aws:events:eu-west-1:123456789012:rule/tick"],
        "detail": {},
    }
    answer = ticks.start_sweeps(world.services, SweepKind.EXPIRY, event)
    assert answer["tick"] == "2026-01-15T12:00:00Z"
    assert "Europe/Paris" not in answer["zones"]
    assert "Pacific/Fiji" in answer["zones"]
    kinds = Counter(json.loads(sweep)["kind"] for sweep in world.take("sweeps"))
    assert kinds["expiry"] == len(answer["zones"])
    assert 0 < kinds["reminder"] < kinds["expiry"]  # not at every age of a midnight


MALFORMED = [
    "",
    "{",
    "null",
    "[]",
    "{}",
    "[" * 100_000,
    json.dumps({"kind": "allocation"}),
    json.dumps({"as_of": "2026-02-01T00:00:00Z", "user_ids": []}),
    json.dumps({"as_of": "2026-02-01T00:00:00Z", "user_ids": ["1"], "surprise": 1}),
    json.dumps({"as_of": "yesterday", "user_ids": ["1"]}),
]


@pytest.mark.parametrize("queue", ["sweeps", "allocations", "expiries"])
def test_a_malformed_message_alone_is_reported_and_its_neighbours_are_processed(
    world: World, queue: str
) -> None:
    world.subscribe("1")
    world.allocation_tick("2026-01-31T23:00:00Z")
    if queue != "sweeps":
        world.deliver_waiting("sweeps")
    good = world.take("sweeps" if queue == "sweeps" else "allocations")
    assert len(good) == 1
    assert world.deliver(queue, [*MALFORMED[:5], *good, *MALFORMED[5:]]) == MALFORMED
    world.drain()
    assert len(world.history()) == (0 if queue == "expiries" else 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timezone": "Europe/Pariss"}, "timezone: unknown timezone 'Europe/Pariss'"),
        ({"kind": "party"}, "kind: must be one of allocation, expiry"),
        ({"cursor": "Europe/Rome user-1"}, "cursor: is of another zone than Europe/Paris"),
        ({"cursor": 5}, "cursor: must be a cursor a sweep gave out"),
        ({"cursor": "x" * 401}, "cursor: must be a cursor a sweep gave out"),
        ({"range": "0102"}, "range: must be 1 to 16 of the digits 0 and 1"),
        ({"range": "00", "cursor": "Europe/Paris 1"}, "cursor: lies behind the range; is '1'"),
        ({"midnight": None}, "midnight: is required"),
        ({"extra": 1}, "extra: is not a known field"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_reported_with_the_field(
    world: World, caplog: pytest.LogCaptureFixture, change: dict[str, object], words: str
) -> None:
    world.subscribe("1")
    world.allocation_tick("2026-01-31T23:00:00Z")
    (body,) = world.take("sweeps")
    wrong = json.dumps({**json.loads(body), **change})
    assert world.deliver("sweeps", [wrong]) == [wrong]
    assert words in caplog.records[-1].__dict__["error"]
    assert world.take("allocations") == []


@pytest.mark.parametrize("position", ["user", "32 ", "16 ", "-1 ", "", "\ud800"])
def test_an_expiry_cursor_without_a_shard_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, position: str
) -> None:
    world.subscribe("1")
    world.expiry_tick("2026-01-14T23:00:00Z")
    body = world.take("sweeps")[0]
    wrong = json.dumps({**json.loads(body), "range": "0", "cursor": f"Europe/Paris {position}"})
    assert world.deliver("sweeps", [wrong]) == [wrong]
    assert "cursor: must be a cursor a sweep gave out" in caplog.records[-1].__dict__["error"]
