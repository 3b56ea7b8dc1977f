"""Expiration: to the second when reading and spending, and a line in the ledger from the sweep."""

import pytest

from chalicelib.domain.errors import InsufficientCredits
from chalicelib.domain.ledger import EntryType, Request, use
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


def test_an_expiry_sweep_pages_through_all_shards_and_resumes(world: World) -> None:
    for number in range(1, 61):
        world.subscribe(f"user-{number:03}", plan="starter")
    world.allocate_at(PARIS_MAY)
    world.expiry_tick(PARIS_31_MAY)
    sweep, _ = world.take("sweeps")  # and the reminders'
    world.context.remaining_milliseconds = 0
    import chalicelib.jobs.sweeps as module

    original = module.USERS_A_PAGE
    module.USERS_A_PAGE = 7
    try:
        rounds = 0
        waiting = [sweep]
        while waiting:
            world.deliver("sweeps", waiting)
            waiting = world.take("sweeps")
            rounds += 1
    finally:
        module.USERS_A_PAGE = original
    assert rounds == 9  # 60 users in pages of at least 7
    world.drain()
    assert all(world.balance(f"user-{number:03}") == 0 for number in range(1, 61))
    assert all(len(world.history(f"user-{number:03}")) == 2 for number in range(1, 61))
