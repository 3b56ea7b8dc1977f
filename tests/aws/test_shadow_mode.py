"""A shadow works as any other stage, and tells nobody: neither users nor programs."""

from collections.abc import Callable
from typing import Any

import pytest

from chalicelib import metrics
from chalicelib.operations import on_request
from chalicelib.settings import STILL_A_SHADOW
from infra.commands import events
from tests.aws.repair import Terminal
from tests.aws.test_mails import MIDNIGHT
from tests.aws.world import World, at

REMINDER = "2026-02-27T23:00:00Z"
EXPIRY = "2026-03-02T23:00:00Z"


@pytest.fixture
def world() -> World:
    """A stage that sends events, with a user on a plan whose credits expire."""
    world = World(low_balance=20)
    world.subscribe(plan="starter")
    return world


def becomes_a_shadow(world: World, until: str | None = None) -> None:
    instant = at(until) if until else STILL_A_SHADOW
    world.settings = world.settings._replace(shadow_until=instant)
    world.services = world.restarted()


def what_waits(world: World) -> dict[str, int]:
    """How many messages wait to be sent."""
    return {queue: len(world.take(queue)) for queue in ("notifications", "events")}


def posts(world: World) -> None:
    world.allocate_at(MIDNIGHT)
    on_request.use_credits(world.services, "1", 90, "Export", caller="shop", key="1")
    world.grant("1", 50, "a")
    world.queue_mails()


def reminds(world: World) -> None:
    """The sweep that looks for credits that are about to expire."""
    world.expire_at(REMINDER)


def reads_damage(world: World) -> None:
    """The stream tells of an entry that cannot be read."""
    keys = {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}}
    world.queue_mails([{"eventID": "e", "dynamodb": {"Keys": keys, "NewImage": {}}}])


@pytest.mark.parametrize("is_shadow", [False, True])
@pytest.mark.parametrize(
    ("sends", "what"),
    [
        # The allocation, the low balance, the grant; and of each entry, with its crossings.
        (posts, {"notifications": 3, "events": 6}),
        (reminds, {"notifications": 1, "events": 0}),
        (reads_damage, {"notifications": 1, "events": 1}),
    ],
)
def test_what_any_other_stage_sends_a_shadow_does_not_even_queue(
    world: World, sends: Callable[[World], None], what: dict[str, int], *, is_shadow: bool
) -> None:
    if is_shadow:
        becomes_a_shadow(world)
    world.allocate_at(MIDNIGHT)
    sends(world)
    assert what_waits(world) == ({"notifications": 0, "events": 0} if is_shadow else what)


def test_a_shadow_counts_what_comes_behind_a_record_that_cannot_be_read(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    becomes_a_shadow(world)
    world.grant("1", 50, "a")
    metrics.flush()
    capsys.readouterr()
    world.queue_mails([{"eventID": "e"}, *world.stream()])
    metrics.flush()
    assert '"CreditsGranted":[50.0]' in capsys.readouterr().out


def test_a_shadow_allocates_and_expires_in_ledgers_of_its_own(world: World) -> None:
    becomes_a_shadow(world)
    posts(world)
    reminds(world)
    world.expire_at(EXPIRY)
    assert [entry.type.value for entry in world.history()] == [
        *("allocation", "usage", "manual", "expiration")
    ]
    assert (world.outbox.sent, world.bus.published) == ([], [])


def test_after_the_switch_nothing_is_told_of_what_was_posted_before_it_and_all_of_what_comes(
    world: World,
) -> None:
    """Also when the stream comes to it late, or comes again."""
    becomes_a_shadow(world)
    posts(world)
    becomes_a_shadow(world, until="2026-02-10T00:00:00Z")
    world.now = at("2026-02-10T00:00:00Z")
    world.queue_mails()
    assert what_waits(world) == {"notifications": 0, "events": 0}
    world.grant("1", 50, "b")
    world.queue_mails()
    (mail,) = world.take("notifications")
    assert '"number":4' in mail
    assert len(world.take("events")) == 1
    reads_damage(world)
    assert what_waits(world) == {"notifications": 1, "events": 1}
    reminds(world)
    assert what_waits(world) == {"notifications": 1, "events": 0}


def test_the_reminders_of_a_tick_before_the_switch_are_sent_once_it_has_happened(
    world: World,
) -> None:
    becomes_a_shadow(world, until="2026-02-27T23:10:00Z")
    world.allocate_at(MIDNIGHT)
    world.expiry_tick(REMINDER)
    world.now = at("2026-02-27T23:10:00Z")
    world.drain()
    assert what_waits(world) == {"notifications": 1, "events": 0}


def test_an_entry_of_the_very_instant_of_the_switch_is_told_of(world: World) -> None:
    becomes_a_shadow(world, until="2026-02-10T00:00:00Z")
    world.now = at("2026-02-09T23:59:59.999Z")
    world.grant("1", 50, "a")
    world.now = at("2026-02-10T00:00:00Z")
    world.grant("1", 50, "b")
    world.queue_mails()
    assert what_waits(world) == {"notifications": 1, "events": 1}
    world.allocation_tick(MIDNIGHT)
    world.now = at("2026-02-10T00:00:00.001Z")
    world.drain()
    assert world.history()[-1].effective_at == at(MIDNIGHT)
    world.queue_mails(world.stream()[-1:])
    assert what_waits(world) == {"notifications": 1, "events": 1}


def test_the_events_of_a_shadow_are_not_sent_by_hand_either(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "world", world)
    becomes_a_shadow(world)
    posts(world)
    words = ("--user-id", "1", "--from", "1", "--yes")
    ran = again(terminal, *words)
    assert ran.status == 1
    assert "Stage local is a shadow: it sends nothing, neither emails nor events" in ran.said
    assert world.take("events") == []
    becomes_a_shadow(world, until="2026-02-10T00:00:00Z")
    assert again(terminal, *words).status == 0
    assert len(world.take("events")) == 6


def again(terminal: Terminal, *words: str) -> Any:
    terminal.functions.world = terminal.world
    return terminal.run(events.main, *words)
