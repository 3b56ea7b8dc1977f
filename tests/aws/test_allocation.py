"""Monthly allocation: everybody once, at their own midnight, whatever happens to the messages."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.domain.instants import format_instant
from chalicelib.domain.ranges import WHOLE, place_of
from chalicelib.jobs.sweeps import USERS_A_RANGE
from chalicelib.jobs.ticks import start_sweeps
from chalicelib.messages.work import Sweep, SweepKind, UsersMessage
from tests.aws.world import CORRELATION_ID, World, at

PARIS_FEBRUARY = "2026-01-31T23:00:00Z"


def test_a_yearly_user_gets_the_plans_credits_at_the_local_midnight_of_the_1st(
    world: World,
) -> None:
    world.subscribe("1", timezone="America/New_York", plan="pro")
    world.allocate_at("2026-02-01T04:45:00Z")
    assert world.summary() == []
    world.allocate_at("2026-02-01T05:00:00Z")
    assert world.summary() == [("allocation", 500, 500)]
    entry = world.history()[0]
    assert entry.effective_at == at("2026-02-01T05:00:00Z")
    assert str(entry.allocated_through) == "2026-02"
    assert entry.batches[0].expires_at is None


def test_the_lowest_plans_credits_expire_at_the_midnight_after_30_local_days(world: World) -> None:
    world.subscribe("1", timezone="America/New_York", plan="starter")
    world.allocate_at("2026-05-01T04:00:00Z")
    (batch,) = world.history()[0].batches
    assert batch.granted_at == at("2026-05-01T04:00:00Z")
    assert batch.expires_at == at("2026-05-31T04:00:00Z")


def test_an_own_amount_goes_before_the_plans(world: World) -> None:
    world.subscribe("1", allocation_amount=777)
    world.allocate_at(PARIS_FEBRUARY)
    assert world.summary() == [("allocation", 777, 777)]


@pytest.mark.parametrize(
    "changes",
    [
        {"billing_interval": "monthly"},
        {"status": "paused"},
        {"status": "cancelled"},
        {"eligible_from": "2026-02-01T00:00:00Z"},
    ],
)
def test_a_user_who_is_not_due_gets_nothing(world: World, changes: dict[str, object]) -> None:
    world.subscribe("1", **changes)
    world.subscribe("2")
    world.allocate_at(PARIS_FEBRUARY)
    assert world.summary("1") == []
    assert world.balance("2") == 500


def test_a_user_who_stopped_between_the_sweep_and_the_worker_gets_nothing(world: World) -> None:
    world.subscribe("1")
    world.allocation_tick(PARIS_FEBRUARY)
    world.deliver_waiting("sweeps")
    world.subscribe("1", status="paused")
    world.drain()
    assert world.summary() == []


def test_a_user_who_registers_at_noon_on_the_1st_waits_for_the_next_month(world: World) -> None:
    world.now = at("2026-02-01T12:00:00Z")
    world.subscribe("1", started_at="2020-01-01T00:00:00Z")
    world.allocate_at("2026-02-01T23:00:00Z")
    assert world.summary() == []
    world.allocate_at("2026-02-28T23:00:00Z")
    assert world.summary() == [("allocation", 500, 500)]


def test_resuming_after_a_pause_grants_nothing_for_the_months_between(world: World) -> None:
    world.subscribe("1", status="paused")
    world.now = at("2026-06-10T08:00:00Z")
    world.subscribe("1", status="active")
    world.allocate_at("2026-06-30T22:00:00Z")
    assert [str(entry.allocated_through) for entry in world.history()] == ["2026-07"]


def test_changing_from_monthly_to_yearly_grants_nothing_for_the_months_before(
    world: World,
) -> None:
    world.subscribe("1", billing_interval="monthly")
    world.now = at("2026-06-10T08:00:00Z")
    world.subscribe("1", billing_interval="yearly")
    world.allocate_at("2026-06-30T22:00:00Z")
    assert [str(entry.allocated_through) for entry in world.history()] == ["2026-07"]


def test_a_missed_march_and_april_are_granted_one_by_one_in_may(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.allocate_at("2026-04-30T22:00:00Z")
    assert [str(entry.allocated_through) for entry in world.history()] == [
        "2026-02",
        "2026-03",
        "2026-04",
        "2026-05",
    ]
    # A credit granted late lives its 30 days from the day it was posted on.
    assert {entry.batches[-1].expires_at for entry in world.history()[1:]} == {
        at("2026-05-30T22:00:00Z")
    }
    assert [format_instant(entry.effective_at) for entry in world.history()][1:3] == [
        "2026-02-28T23:00:00Z",
        "2026-03-31T22:00:00Z",
    ]


def test_of_an_outage_longer_than_a_year_twelve_periods_are_made_good(world: World) -> None:
    world.subscribe("1")
    world.allocate_at("2027-05-31T22:00:00Z")
    assert [str(entry.allocated_through) for entry in world.history()] == [
        *(f"2026-{month:02}" for month in range(7, 13)),
        *(f"2027-{month:02}" for month in range(1, 7)),
    ]
    world.allocate_at("2027-05-31T22:15:00Z")
    assert len(world.history()) == 12


def test_moving_from_kiritimati_to_midway_and_back_around_the_1st_allocates_once(
    world: World,
) -> None:
    world.subscribe("1", timezone="Pacific/Kiritimati")
    world.allocate_at("2026-01-31T10:00:00Z")
    world.subscribe("1", timezone="Pacific/Midway")
    world.allocate_at("2026-02-01T11:00:00Z")
    world.subscribe("1", timezone="Pacific/Kiritimati")
    world.allocate_at("2026-02-01T10:00:00Z")
    world.allocate_at("2026-02-02T10:00:00Z")
    assert [str(entry.allocated_through) for entry in world.history()] == ["2026-02"]


def test_moving_to_a_zone_whose_midnight_is_past_is_repaired_by_a_resweep(world: World) -> None:
    world.subscribe("1", timezone="Pacific/Midway")
    world.allocate_at("2026-01-31T10:00:00Z")
    world.subscribe("1", timezone="Pacific/Kiritimati")
    assert world.summary() == []
    world.allocate_at("2026-01-31T11:00:00Z")
    assert world.summary() == [("allocation", 500, 500)]


def test_three_ticks_and_every_message_twice_in_reverse_give_the_ledgers_of_one_clean_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_MESSAGE", 7)
    other = World(stage="prod")
    for each in (world, other):
        for number in range(1, 41):
            each.subscribe(str(number), plan=("starter", "pro", "business")[number % 3])
    world.allocate_at(PARIS_FEBRUARY)
    world.expire_at("2026-03-02T23:00:00Z")

    for _ in range(3):
        other.allocation_tick(PARIS_FEBRUARY)
    deliver_twice_in_reverse(other)
    for _ in range(3):
        other.expiry_tick("2026-03-02T23:00:00Z")
    deliver_twice_in_reverse(other)

    assert world.lines() == other.lines()
    assert len(world.lines()) == 40 + 13


def deliver_twice_in_reverse(world: World) -> None:
    for name in ("sweeps", "allocations", "expiries"):
        bodies = world.take(name)
        assert world.deliver(name, [*reversed(bodies), *reversed(bodies)]) == []


def test_a_message_redelivered_after_two_weeks_changes_nothing(world: World) -> None:
    world.subscribe("1")
    world.allocation_tick(PARIS_FEBRUARY)
    world.deliver_waiting("sweeps")
    bodies = world.take("allocations")
    assert world.deliver("allocations", bodies) == []
    before = world.lines()
    world.now = at("2026-02-14T23:00:00Z")
    assert world.deliver("allocations", bodies) == []
    assert world.lines() == before


def test_a_resweep_finds_the_user_a_worker_lost(world: World) -> None:
    world.subscribe("1")
    world.allocation_tick(PARIS_FEBRUARY)
    world.deliver_waiting("sweeps")
    assert len(world.take("allocations")) == 1  # and nobody handles it
    world.allocate_at("2026-01-31T23:15:00Z")
    assert world.summary() == [("allocation", 500, 500)]


def test_a_replayed_tick_of_a_past_moment_makes_its_month_good_but_counts_from_today(
    world: World,
) -> None:
    world.subscribe("1", plan="starter")
    world.now = at("2026-02-20T15:00:00Z")
    world.allocate_at(PARIS_FEBRUARY)
    (entry,) = world.history()
    assert entry.posted_at == world.now
    assert entry.effective_at == at(PARIS_FEBRUARY)
    assert entry.batches[0].granted_at == at("2026-02-19T23:00:00Z")
    assert entry.batches[0].expires_at == at("2026-03-21T23:00:00Z")


def test_a_sweep_hands_on_a_hundred_users_a_message(world: World) -> None:
    for number in range(1, 251):
        world.subscribe(f"user-{number:03}")
    world.allocation_tick(PARIS_FEBRUARY)
    world.deliver_waiting("sweeps")
    messages = [UsersMessage.parse(body) for body in world.take("allocations")]
    assert [len(message.user_ids) for message in messages] == [100, 100, 50]
    assert len({user for message in messages for user in message.user_ids}) == 250


def handed_on(world: World) -> list[str]:
    """Whom the sweeps have handed on since this was asked last."""
    messages = [UsersMessage.parse(body) for body in world.take("allocations")]
    return [user_id for message in messages for user_id in message.user_ids]


def test_a_sweep_that_runs_out_of_time_goes_on_in_ranges_where_it_stopped(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_PAGE", 20)
    users = sorted((f"user-{number:03}" for number in range(1, 51)), key=place_of)
    for user_id in users:
        world.subscribe(user_id)
    world.context.remaining_milliseconds = 9_999
    world.allocation_tick(PARIS_FEBRUARY)
    (zone,) = world.take("sweeps")
    world.deliver("sweeps", [zone])
    assert handed_on(world) == users[:20]
    rest = [Sweep.parse(body) for body in world.take("sweeps")]
    (broken_off,) = [part for part in rest if part.cursor]
    assert broken_off.cursor == f"Europe/Paris {users[19]}"
    assert users[19] in broken_off.range
    assert {part.correlation_id for part in rest} == {CORRELATION_ID}
    (line,) = [vars(record) for record in caplog.records if record.msg == "sweep"]
    assert (line["range"], line["users"]) == ("", 20), "what was done before it broke off"
    assert rest[0] is broken_off
    assert [part.range for part in rest] == WHOLE.parts()[-len(rest) :]
    # Whatever comes twice, those who are left are handed on once for each time.
    world.deliver("sweeps", [part.body() for part in rest])
    assert sorted(handed_on(world)) == sorted(users[20:])
    world.deliver("sweeps", [rest[0].body()])
    assert handed_on(world) == [user for user in users[20:] if user in broken_off.range]


def test_a_zone_of_many_users_is_swept_in_ranges_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_PAGE", 10)
    monkeypatch.setitem(USERS_A_RANGE, SweepKind.ALLOCATION, 20)
    users = sorted((f"user-{number:03}" for number in range(1, 51)), key=place_of)
    for user_id in users:
        world.subscribe(user_id)
    world.allocation_tick(PARIS_FEBRUARY)
    world.deliver_waiting("sweeps")
    assert handed_on(world) == users[:10]
    rest = world.take("sweeps")
    assert [Sweep.parse(body).range for body in rest] == WHOLE.parts(2)
    world.deliver("sweeps", rest)
    assert handed_on(world) == users[10:]
    assert world.take("sweeps") == []


def test_a_zone_of_few_users_is_one_read_and_one_message(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    world.allocation_tick(PARIS_FEBRUARY)
    sweeps = world.take("sweeps")
    asked: list[str] = []

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        def make(name: str, parameters: Any) -> Any:
            asked.append(name)
            return call(name, parameters)

        return make

    dynamodb, sqs = world.services.dynamodb, world.services.queues._client
    monkeypatch.setattr(dynamodb, "call", watched(dynamodb.call))
    monkeypatch.setattr(sqs, "_make_api_call", watched(sqs._make_api_call))
    assert world.deliver("sweeps", sweeps) == []
    assert asked == ["Query", "SendMessageBatch"]
    assert (len(world.take("allocations")), world.take("sweeps")) == (1, [])


def test_one_user_with_an_unknown_plan_stops_nobody_else(world: World) -> None:
    world.subscribe("1")
    world.subscribe("2")
    damaged = {"user_id": {"S": "1"}, **subscription_item(plan="discontinued")}
    table = world.settings.subscriptions_table
    world.services.dynamodb.call("PutItem", {"TableName": table, "Item": damaged})
    world.allocation_tick(PARIS_FEBRUARY)
    world.deliver_waiting("sweeps")
    bodies = world.take("allocations")
    assert world.deliver("allocations", bodies) == bodies
    assert world.summary("1") == []
    assert world.balance("2") == 500


def subscription_item(plan: str) -> dict[str, dict[str, str]]:
    return {
        "timezone": {"S": "Europe/Paris"},
        "plan": {"S": plan},
        "billing_interval": {"S": "yearly"},
        "status": {"S": "active"},
        "started_at": {"N": "0"},
        "eligible_from": {"N": "0"},
        "version": {"N": "1"},
        "allocation_timezone": {"S": "Europe/Paris"},
        "spread": {"S": "6b86b273#1"},
    }


def test_how_many_users_one_invocation_hands_on_before_a_zone_is_divided() -> None:
    """Reminders are a message each, and take longer: as many would not be done in time."""
    assert {kind.value: users for kind, users in USERS_A_RANGE.items()} == {
        "allocation": 50_000,
        "expiry": 50_000,
        "reminder": 10_000,
    }


def test_what_a_worker_grants_is_due_as_of_the_tick_however_late_the_message_comes(
    world: World,
) -> None:
    """A message of February that comes in March, in zones where March has and has not begun."""
    for user_id, timezone in (("1", "Asia/Tokyo"), ("2", "America/New_York")):
        world.subscribe(user_id, timezone=timezone)
    message = UsersMessage(at("2026-02-01T05:00:00Z"), ("1", "2")).body()
    world.now = at("2026-02-28T20:00:00Z")
    assert world.deliver("allocations", [message]) == []
    for user_id in ("1", "2"):
        assert [str(entry.allocated_through) for entry in world.history(user_id)] == ["2026-02"]


def test_a_replayed_tick_bears_the_moment_that_is_replayed(world: World) -> None:
    world.subscribe("1")
    world.now = at("2026-03-20T15:00:00Z")
    answer = world.allocation_tick("2026-01-31T23:15:30Z")
    (sweep,) = world.take("sweeps")
    assert answer == {"success": True, "tick": "2026-01-31T23:15:00Z", "zones": ["Europe/Paris"]}
    assert world.deliver("sweeps", [sweep]) == []
    (message,) = world.take("allocations")
    for body in (sweep, message):
        assert json.loads(body)["as_of"] == "2026-01-31T23:15:30Z"


@pytest.mark.parametrize(("ahead", "is_taken"), [("00:05:00", True), ("00:05:01", False)])
def test_a_tick_may_be_five_minutes_ahead_of_the_clock(
    world: World, ahead: str, *, is_taken: bool
) -> None:
    world.subscribe("1")
    world.now = at("2026-02-01T00:00:00Z")
    event = {"time": f"2026-02-01T{ahead}Z", "zones": ["Europe/Paris"]}
    answer = start_sweeps(world.services, SweepKind.ALLOCATION, event)
    assert answer["success"] == is_taken


def test_a_sweep_says_how_many_users_all_of_its_pages_had(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_PAGE", 2)
    for number in range(5):
        world.subscribe(str(number))
    world.zones.add("Europe/Madrid")  # where nobody lives, of which nothing is said
    world.allocation_tick(PARIS_FEBRUARY)
    caplog.set_level("INFO")
    world.deliver_waiting("sweeps")
    (line,) = [vars(record) for record in caplog.records if record.msg == "sweep"]
    assert (line["kind"], line["timezone"], line["users"]) == ("allocation", "Europe/Paris", 5)
