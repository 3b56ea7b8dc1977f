"""A short part of the simulation, the same lives every time; campaigns run many more."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import yaml

from tests.concurrency.plants import PLANTS
from tests.simulation import bugs
from tests.simulation.aws import RESOURCES
from tests.simulation.bugs import hunt
from tests.simulation.campaign import campaign
from tests.simulation.drawn import ALONE, Change
from tests.simulation.machine import Machine
from tests.simulation.planted import BUGS
from tests.simulation.world import MOST_RECEIVES, STAGE


def test_whatever_happens_the_product_does_what_the_reference_says() -> None:
    result = campaign(lives=16, seed=2)
    assert not result.failure, result.told()
    assert result.steps > 600
    assert result.struck > 100


@pytest.mark.parametrize(
    ("name", "seed"),
    [
        ("the period that was allocated last is forgotten", 1),
        ("another request under the same key is taken for the same", 7),
        ("who was served before is refused once the credits are gone", 5),
        ("an entry is put without a condition", 25),
        ("a worker acknowledges what failed", 4),
        ("who comes back by a PUT is paid for the time without allocations", 33),
        ("an edit that was observed before what is stored is made all the same", 4),
        ("an email is known by where the user lives when it is sent", 3),
    ],
)
def test_a_planted_bug_is_found(name: str, seed: int) -> None:
    """Of the seeds those whose lives meet the bug soon."""
    assert name in BUGS
    assert hunt(name, seed=seed).failure


@pytest.mark.parametrize("plant", [*bugs.BUGS.values(), *PLANTS.values()])
def test_every_bug_has_its_place_in_the_product(
    plant: Callable[[], AbstractContextManager[object]],
) -> None:
    """Most are hunted by `make prove` alone: it would end at the first that has lost its place."""
    with plant():
        pass


def test_a_failure_tells_its_story_and_how_to_replay_it() -> None:
    with BUGS["credits live a day too long"]():
        found = campaign(lives=20, seed=1, shrink=False)
        assert found.story[-1].startswith("VIOLATED: ")
        (blob,) = re.findall(r"--replay (\S+)$", found.told())
        again = campaign(lives=1, replay=blob)
    assert again.failure
    assert again.story == found.story


def test_messages_are_given_up_after_as_many_receives_as_in_the_stack() -> None:
    document = yaml.safe_load(RESOURCES.read_text(encoding="utf-8"))
    of_stage = document["Mappings"]["Stages"][STAGE]["MaximumReceives"]
    found = {}
    for resource in document["Resources"].values():
        redrive = resource["Properties"].get("RedrivePolicy")
        if resource.get("Type") == "AWS::SQS::Queue" and redrive:
            receives = redrive["maxReceiveCount"]
            name = resource["Properties"]["QueueName"]["Fn::Sub"].partition("${Stage}-")[2]
            found[name] = receives if isinstance(receives, int) else of_stage
    assert found == MOST_RECEIVES


def test_a_refused_request_may_be_sent_again_and_succeed() -> None:
    def meanwhile(what: str) -> tuple[int, int, int, int, tuple[str, int, str, Change]]:
        return 0, 0, 0, 1, (what, 1, "other", ("plan", "starter"))

    life = Machine()
    life.the_first_subscribe(ALONE)
    # The last one comes first: refused; then there is a credit; then it is used.
    life.use_up(0, "k1", 1, [meanwhile("again"), meanwhile("grant"), meanwhile("again")])
    assert [line.type for line in life.oracle.ledger("ada").lines] == ["manual", "usage"]
    life.teardown()
