"""Monthly allocation: everybody once, at their own midnight, whatever happens to the messages."""

from tests.aws.world import World, at


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
