"""A consumer of the events hears of every entry, whatever goes wrong on their way."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from chalicelib.domain import events as domain
from chalicelib.domain.events import CreditEvent
from chalicelib.event_bus import EventBus
from chalicelib.jobs import events
from chalicelib.queues import Queues
from tests.simulation.consuming import FAILURES, everything_is_heard
from tests.simulation.planted import Bug, becomes, instead
from tests.simulation.reference import Violation
from tests.simulation.world import SUBSCRIBED, World, at, simulated

SHOP = {"caller": "shop", "user_id": "", "scopes": "credits:backend"}
ADMIN = {"caller": "ada", "user_id": "", "scopes": "credits:admin credits:backend"}


@pytest.fixture(scope="module")
def lived() -> Iterator[World]:
    """Two users who run low, recover, hold, and lose what expires."""
    with simulated():
        world = World(now=at("2026-01-15T12:00:00Z"))
        keys = count()

        def post(path: str, caller: dict[str, str], **body: object) -> Any:
            reply = world.call("POST", path, caller, body, {"Idempotency-Key": f"k{next(keys)}"})
            assert reply.status in (200, 201), reply
            return reply.json

        with world.running():
            for user_id in ("ada", "bob", "cem"):
                world.call("PUT", f"/api/subscriptions/{user_id}", ADMIN, SUBSCRIBED)
            world.now = at("2026-01-31T23:00:00Z")
            world.tick("allocation", world.now)
            world.drain()
            for user_id in ("ada", "bob"):
                of_user = {"user_id": user_id}
                use = {**of_user, "description": "Report"}
                post("/api/credits/use", SHOP, **use, amount=60)
                held = post("/api/credits/holds", SHOP, **use, amount=20)
                post(f"/api/credits/holds/{held['hold_id']}/capture", SHOP, amount=15)
                grant = {**of_user, "reason": "Goodwill", "expires_in_days": None}
                post("/api/credits/allocate", ADMIN, **grant, amount=30, metadata={"case": "7"})
            post("/api/credits/use", SHOP, user_id="bob", description="All", amount=55)
            post("/api/credits/holds", SHOP, user_id="cem", description="Job", amount=30)
            post("/api/credits/use", SHOP, user_id="cem", description="Report", amount=25)
            world.now = at("2026-03-02T23:00:00Z")
            world.tick("expiry", world.now)
            world.drain()
        yield world


def everything_is_heard_every_time(world: World) -> None:
    for seed in range(10):
        everything_is_heard(world, seed)


def test_every_entry_is_heard_of_once_in_order_with_its_balance(lived: World) -> None:
    assert len(lived.stream) > 12
    everything_is_heard_every_time(lived)


def _refusals_overlooked(original: Any, self: EventBus, published: Any) -> list[None]:
    return [None for _ in original(self, published)]


def _failures_overlooked(original: Any, services: Any, wanted: Any) -> dict[str, Exception]:
    original(services, wanted)
    return {}


def _acknowledged(original: Any, services: Any, event: Any) -> None:
    with suppress(*FAILURES):
        original(services, event)


def _sent_in_part(self: Queues, url: str, bodies: Sequence[str]) -> None:
    entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
    self._client.send_message_batch(QueueUrl=url, Entries=entries)


_times = count()


def _known_by_the_time(original: Any, *given: Any, **more: Any) -> CreditEvent:
    event: CreditEvent = original(*given, **more)
    detail = {**event.detail, "id": f"{event.name} {next(_times)}"}
    return CreditEvent(event.name, event.at, detail)


def _low_whenever_it_is(original: Any, entry: Any, hash_: str, low: int) -> Any:
    found = original(entry, hash_, low)
    is_said = any(event.name is domain.EventName.BALANCE_LOW for event in found)
    if is_said or entry.balance >= low:
        return found
    name = domain.EventName.BALANCE_LOW
    return (*found, domain._event(name, entry, hash_, threshold=low))


def _low_by_what_is_available(original: Any, entry: Any, hash_: str, low: int) -> Any:
    after = entry.available_balance()
    before = after - entry.amount
    found = [event for event in original(entry, hash_, low) if "threshold" not in event.detail]
    if after < low <= before:
        found.append(domain._event(domain.EventName.BALANCE_LOW, entry, hash_, threshold=low))
    if before < low <= after:
        name = domain.EventName.BALANCE_RECOVERED
        found.append(domain._event(name, entry, hash_, threshold=low))
    return tuple(found)


def _of_the_entry_before(original: Any, entry: Any, hash_: str, low: int) -> Any:
    return original(entry, hash_[::-1], low)


BUGS: dict[str, Bug] = {
    "an event that EventBridge refused is taken for published": instead(
        EventBus, "publish", _refusals_overlooked
    ),
    "a request that failed is taken for published": instead(
        events, "_publish", _failures_overlooked
    ),
    "the stream's reader acknowledges what SQS did not take": instead(
        events, "queue_events", _acknowledged
    ),
    "what SQS takes only in part is not sent again": becomes(Queues, "_send_chunk", _sent_in_part),
    "an event is known by when it was made, and not by its entry": instead(
        domain, "_event", _known_by_the_time
    ),
    "a balance that stays low is told of again and again": instead(
        events, "events_of", _low_whenever_it_is
    ),
    "crossings go by what is available, which expires and lapses by itself": instead(
        events, "events_of", _low_by_what_is_available
    ),
    "an event has the hash of another line": instead(events, "events_of", _of_the_entry_before),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_heard(bug: str, lived: World) -> None:
    with BUGS[bug](), pytest.raises(Violation):
        everything_is_heard_every_time(lived)
