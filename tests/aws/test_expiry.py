"""Expiration: to the second when reading and spending, and a line in the ledger from the sweep."""

import json

import pytest

from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import InsufficientCredits
from chalicelib.domain.ledger import Request, use
from tests.aws.world import World, at

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
    """Whoever expires at one midnight is in one shard here: the reminders of it are the slowest."""
    monkeypatch.setattr("chalicelib.store.ledger_items.zlib.crc32", lambda _: 0)
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
