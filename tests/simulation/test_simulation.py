"""A short part of the simulation, the same lives every time; campaigns run many more."""

import pytest

from tests.simulation.bugs import BUGS, hunt
from tests.simulation.campaign import campaign
from tests.simulation.world import MOST_RECEIVES


def test_whatever_happens_the_product_does_what_the_reference_says() -> None:
    result = campaign(lives=30, seed=2)
    assert result.failure is None, result.told()
    assert result.steps > 500
    assert result.struck > 30


@pytest.mark.parametrize(
    "name",
    [
        "the period that was allocated last is forgotten",
        "another request under the same key is taken for the same",
    ],
)
def test_a_planted_bug_is_found(name: str) -> None:
    assert name in BUGS
    assert hunt(name, lives=60).failure is not None


def test_a_failure_tells_its_story_and_how_to_replay_it() -> None:
    with BUGS["the period that was allocated last is forgotten"]():
        found = campaign(lives=60, seed=1, shrink=False)
        assert found.story[-1].startswith("VIOLATED: ")
        assert "--replay" in found.told()
        again = campaign(lives=1, replay=found.replay)
    assert again.failure is not None
    assert again.story == found.story


def test_messages_are_given_up_after_as_many_receives_as_in_the_stack() -> None:
    from tests.simulation.aws import _resources

    found = {
        name.partition("${Stage}-")[2]: redrive["maxReceiveCount"]
        for resource in _resources()
        if resource.get("Type") == "AWS::SQS::Queue"
        and (redrive := resource["Properties"].get("RedrivePolicy"))
        and (name := resource["Properties"]["QueueName"]["Fn::Sub"])
    }
    assert found["notifications"] == MOST_RECEIVES["notifications"]
    assert {"sweeps", "allocations", "expiries"} <= set(found)
