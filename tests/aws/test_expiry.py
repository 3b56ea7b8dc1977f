"""Expiration: to the second when reading and spending, and a line in the ledger from the sweep."""

import json
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import InsufficientCredits
from chalicelib.domain.ledger import Request, use
from chalicelib.domain.ranges import place_of
from chalicelib.operations.on_request import CarryOver, carry_over
from chalicelib.store.ledger_items import EXPIRY_SHARDS
from tests.aws.world import CORRELATION_ID, World, at

PARIS_MAY = "2026-04-30T22:00:00Z"
PARIS_31_MAY = "2026-05-30T22:00:00Z"


@pytest.fixture(autouse=True)
def _in_april(world: World) -> None:
    world.now = at("2026-04-15T12:00:00Z")


def test_credits_are_usable_to_the_last_second_of_their_last_day_and_not_after(
    world: World,
) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.now = at("2026-05-30T21:59:59.999Z")
    assert world.balance() == 100
    world.now = at(PARIS_31_MAY)
    assert world.balance() == 0
    account = world.services.ledger.account("1")
    assert account.ledger_balance == 100  # the sweep has not posted the line yet
    with pytest.raises(InsufficientCredits, match="0 are available"):
        use(account, 1, Request("usage#test#1", "1", "late"), world.now)


def test_the_sweep_posts_one_line_for_all_due_batches(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.grant("1", 50, "a", expires_in_days=30)
    world.grant("1", 70, "b")
    world.expire_at(PARIS_31_MAY)
    assert world.summary()[-1] == ("expiration", -150, 70)
    entry = world.history()[-1]
    assert entry.effective_at == at(PARIS_31_MAY)
    assert [batch.number for batch in entry.batches] == [3]


def test_nothing_expires_early(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.expire_at("2026-05-29T22:00:00Z")
    world.expire_at("2026-05-30T21:45:00Z")
    assert world.summary() == [("allocation", 100, 100)]


def test_a_spent_batch_leaves_nothing_to_expire(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.grant("1", -100, "all-of-it")
    world.expire_at(PARIS_31_MAY)
    assert [entry.type for entry in world.history()] == [EntryType.ALLOCATION, EntryType.MANUAL]


def test_a_missed_expiry_is_posted_by_a_later_sweep_of_the_same_zone(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.expire_at("2026-06-02T22:00:00Z")
    assert world.summary()[-1] == ("expiration", -100, 0)
    assert world.history()[-1].effective_at == at(PARIS_31_MAY)
    assert world.history()[-1].posted_at == at("2026-06-02T22:00:00Z")


def test_a_week_after_its_midnight_a_batch_is_swept_for_the_last_time(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.expire_at("2026-06-06T22:00:00Z")
    assert world.summary()[-1] == ("expiration", -100, 0)


def test_moving_house_does_not_move_the_expiry_of_credits_already_granted(world: World) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.subscribe("1", timezone="Pacific/Kiritimati", plan="business")
    world.expire_at("2026-05-30T10:00:00Z")
    assert world.balance() == 100
    world.expire_at(PARIS_31_MAY)
    assert world.summary()[-1] == ("expiration", -100, 0)


def test_an_expiry_sweep_that_runs_out_of_time_goes_on_shard_by_shard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 61):
        world.subscribe(f"user-{number:03}", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.expiry_tick(PARIS_31_MAY)
    sweep, _ = world.take("sweeps")  # and the reminders'
    world.context.remaining_milliseconds = 0
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_PAGE", 7)
    world.deliver("sweeps", [sweep])
    shards = world.take("sweeps")
    found = [json.loads(shard) for shard in shards]
    assert {len(shard["range"]) for shard in found} == {5}
    assert [bool(shard["cursor"]) for shard in found] == [True] + [False] * (len(found) - 1)
    world.deliver("sweeps", shards)
    assert world.take("sweeps") == []
    world.drain()
    assert all(world.balance(f"user-{number:03}") == 0 for number in range(1, 61))
    assert all(len(world.history(f"user-{number:03}")) == 2 for number in range(1, 61))


def test_a_shard_of_very_many_is_divided_among_sweeps_that_each_hand_on_their_part(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All users of one midnight are in one shard here: its reminders are the slowest."""
    one_shard = SimpleNamespace(crc32=lambda _: 0)
    monkeypatch.setattr("chalicelib.store.ledger_items.zlib", one_shard)
    users = {f"user-{number:03}" for number in range(1, 41)}
    for user_id in users:
        world.subscribe(user_id, plan="starter")
    world.allocate_at(PARIS_MAY)
    world.take("notifications")
    world.expiry_tick("2026-05-27T22:00:00Z")
    _, reminders = world.take("sweeps")
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_PAGE", 4)
    world.context.remaining_milliseconds = 9_999
    waiting, depth, reminded = [reminders], 0, list[str]()
    while waiting:
        depth = max(depth, *(len(json.loads(body)["range"] or "") for body in waiting))
        assert world.deliver("sweeps", waiting) == []
        waiting = world.take("sweeps")
        reminded += [json.loads(body)["user_id"] for body in world.take("notifications")]
    assert set(reminded) == users
    assert len(reminded) < 2 * len(users)
    assert depth in (9, 13)


def test_a_sweep_through_many_pages_without_its_users_goes_on_to_the_last_of_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_shard = SimpleNamespace(crc32=lambda _: 0)
    monkeypatch.setattr("chalicelib.store.ledger_items.zlib", one_shard)
    monkeypatch.setattr("chalicelib.jobs.sweeps.USERS_A_PAGE", 1)
    users = [f"user-{number:03}" for number in range(EXPIRY_SHARDS + 2)]
    for user_id in users:
        world.subscribe(user_id, plan="starter")
    world.allocate_at(PARIS_MAY)
    world.take("notifications")
    world.expiry_tick("2026-05-27T22:00:00Z")
    _, whole = map(json.loads, world.take("sweeps"))
    for user_id in (users[0], users[-1]):
        # The first shard, and of its users this one.
        part = f"{'0' * (EXPIRY_SHARDS.bit_length() - 1)}{place_of(user_id):032b}"[:16]
        assert world.deliver("sweeps", [json.dumps({**whole, "range": part})]) == []
        (reminder,) = world.take("notifications")
        assert json.loads(reminder)["user_id"] == user_id
        assert world.take("sweeps") == []


@pytest.mark.parametrize(
    ("time", "is_reminded"),
    [
        ("2026-05-27T22:00:00Z", True),
        ("2026-05-27T22:15:00Z", False),
        ("2026-05-27T23:00:00Z", True),
        ("2026-05-28T04:00:00Z", False),
        ("2026-05-28T22:00:00Z", True),
    ],
    ids=["at once", "15 min", "1 h", "6 h", "24 h"],
)
def test_reminders_start_at_midnight_an_hour_later_and_a_day_later(
    world: World, time: str, *, is_reminded: bool
) -> None:
    world.subscribe("1")
    world.expiry_tick(time)
    midnights = {
        found["kind"]: found["first_midnight"] for found in map(json.loads, world.take("sweeps"))
    }
    assert ("reminder" in midnights) == is_reminded
    assert "expiry" in midnights


def test_a_user_whose_batches_expired_on_several_days_is_handed_on_once(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id)
        for days in (10, 11, 12):
            world.grant(user_id, days, f"{user_id}-{days}", expires_in_days=days)
    world.expiry_tick("2026-04-27T22:00:00Z")
    world.deliver_waiting("sweeps")
    (message,) = world.take("expiries")
    said = json.loads(message)
    assert sorted(said["user_ids"]) == ["1", "2"]
    # Should one be named twice all the same, two lines of a ledger cannot be in one request.
    caplog.set_level("INFO")
    assert world.deliver("expiries", [json.dumps(said | {"user_ids": ["1", "2", "1"]})]) == []
    assert [world.summary(user_id)[-1][1] for user_id in ("1", "2")] == [-33, -33]
    (line,) = [vars(record) for record in caplog.records if record.msg == "expired"]
    assert (line["users"], line["users_changed"], line["credits"]) == (3, 2, -66)


def test_each_midnight_at_which_credits_expire_has_its_own_reminder(world: World) -> None:
    """A tick that makes good two days finds batches of both."""
    for user_id in ("1", "2"):
        world.subscribe(user_id)
    world.grant("1", 5, "a", expires_in_days=13)
    world.grant("1", 6, "b", expires_in_days=14)
    world.grant("2", 7, "c", expires_in_days=14)
    world.expiry_tick("2026-04-26T22:00:30Z")
    world.deliver_waiting("sweeps")
    told = [json.loads(body) for body in world.take("notifications")]
    assert sorted((each["user_id"], each["expires_at"]) for each in told) == [
        ("1", "2026-04-28T22:00:00Z"),
        ("1", "2026-04-29T22:00:00Z"),
        ("2", "2026-04-29T22:00:00Z"),
    ]
    assert {each["as_of"] for each in told} == {"2026-04-26T22:00:30Z"}
    assert {each["correlation_id"] for each in told} == {CORRELATION_ID}


def test_a_day_of_twenty_five_hours_is_swept_from_its_beginning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    ledger = world.services.ledger
    find = ledger.expiring
    asked: set[tuple[datetime, datetime]] = set()

    def expiring(zone: str, shard: int, after: datetime, until: datetime, *more: Any) -> Any:
        asked.add((after, until))
        return find(zone, shard, after, until, *more)

    monkeypatch.setattr(ledger, "expiring", expiring)
    midnight = "2026-10-25T23:00:00Z"
    world.expiry_tick(midnight)
    sweeps = [json.loads(body) for body in world.take("sweeps")]
    of_the_day = next(sweep for sweep in sweeps if sweep["kind"] == "expiry")
    of_the_day["first_midnight"] = midnight
    assert world.deliver("sweeps", [json.dumps(of_the_day)]) == []
    assert asked == {(at("2026-10-24T22:00:00Z"), at(midnight))}


def test_who_has_credits_that_expire_in_the_first_hour_of_a_day_of_twenty_five_is_reminded(
    world: World,
) -> None:
    world.subscribe("1")
    ends = at("2026-10-24T22:30:00Z")  # 00:30 in Paris, on the day whose clocks are put back
    batch = CarryOver("1", 5, world.now, ends, "From before", caller="import/balances", key="a")
    carry_over(world.services, batch)
    # Three days before the midnight that day ends at, and the first tick was lost.
    world.expiry_tick("2026-10-22T23:00:00Z")
    world.deliver_waiting("sweeps")
    told = [json.loads(body) for body in world.take("notifications")]
    assert [each["expires_at"] for each in told if "expires_at" in each] == ["2026-10-24T22:30:00Z"]
