"""A year of a made-up shop: its events come in random order, again and again, and end the same."""

import heapq
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType
from chalicelib.domain.instants import format_instant
from chalicelib.domain.plans import BillingInterval, OnSignup
from chalicelib.operations.purchases import operation_of
from tests.aws.world import World, at
from tests.stripe import shop
from tests.stripe.endpoint import PRICES, deliver
from tests.stripe.payloads import VERSIONS

START = at("2027-01-01T00:00:00Z")

DELAYS = (1, 5, 30, 600, 3_600, 7_200)
"""How late an event can come, in seconds."""

MOST_ROUNDS = 20
"""How often Stripe sends what was not taken in; the last rounds must find nothing new."""


def take_in(world: World, events: list[dict[str, Any]], chance: random.Random) -> list[Any]:
    """Delivers events in random order, a third of them twice, and repeats what was refused.

    Answers the events that are refused for good.
    """
    waiting = events + chance.sample(events, len(events) // 3)
    for _ in range(MOST_ROUNDS):
        chance.shuffle(waiting)
        refused = [event for event in waiting if deliver(world, event).status != 200]
        if len(refused) == len(waiting):
            break
        waiting = refused
    return waiting


def subscriptions(world: World, users: tuple[str, ...]) -> dict[str, shop.Subscription]:
    found = {}
    for user_id in users:
        stored = world.services.subscriptions.find(user_id)
        if stored is not None and stored.contracts:
            found[user_id] = shop.Subscription(
                stored.status, stored.plan, stored.billing_interval, stored.ends_at
            )
    return found


def packs(world: World, expected: dict[str, shop.Pack]) -> dict[str, tuple[str, int, int]]:
    """Of each payment: who bought how much, and how much of that is refunded in all."""
    found = {}
    for payment_id in expected:
        place = world.services.ledger.place_of(operation_of(payment_id))
        if place is None:
            continue
        user_id, number = place
        refunds = [
            entry.refund
            for entry in world.history(user_id)
            if entry.refund is not None and entry.refund.purchase == number
        ]
        bought = world.services.ledger.entry(user_id, number).amount
        found[payment_id] = (user_id, bought, refunds[-1].in_all if refunds else 0)
    return found


def ledgers(world: World, users: tuple[str, ...]) -> dict[str, Counter[tuple[str, int, str]]]:
    """What happened in each ledger but for what a different order may come to: what was refunded
    in steps or at once."""
    return {
        user_id: Counter(
            (entry.type.value, entry.amount, entry.description)
            for entry in world.history(user_id)
            if entry.type is not EntryType.REFUND
        )
        for user_id in users
    }


def live_through(world: World, year: shop.Shop, delays: random.Random | None) -> None:
    """A year with its months: each event comes until it is taken in, late if there are delays.

    Who buys before they are registered is registered by then: the others are by Stripe.
    """
    world.services.price_list = PRICES
    world.with_plans(billing_intervals=frozenset(BillingInterval), on_signup=OnSignup.FULL)
    world.zones.add(PRICES.timezone)
    world.now = START - timedelta(hours=1)
    queue: list[tuple[datetime, int, dict[str, Any] | None]] = []
    for number, event in enumerate(year.events):
        came = datetime.fromtimestamp(event["created"], UTC)
        late = timedelta(seconds=delays.choice(DELAYS)) if delays else timedelta()
        heapq.heappush(queue, (came + late, number, event))
    for month in range(1, 14):
        start = calendar.month_start(PRICES.timezone, Period(2027, 1).plus(month))
        heapq.heappush(queue, (start, -1, None))
    while queue:
        moment, number, due = heapq.heappop(queue)
        world.now = max(world.now, moment)
        if due is None:
            world.allocate_at(format_instant(moment))
        elif deliver(world, due).status != 200:
            heapq.heappush(queue, (world.now + timedelta(hours=1), number, due))


@pytest.mark.parametrize(("seed", "version"), [*enumerate(VERSIONS[::2], 1)])
def test_a_year_in_random_order_ends_as_the_shop_has_it(
    world: World, seed: int, version: str
) -> None:
    world.services.price_list = PRICES
    year = shop.year(seed, version, users=1)
    world.now = year.ends
    chance = random.Random(seed)
    waiting = take_in(world, year.events, chance)
    for user_id in year.users:  # who has never subscribed is registered by the product
        if world.services.subscriptions.find(user_id) is None:
            world.subscribe(user_id, plan="starter")
    assert take_in(world, waiting, chance) == []
    assert subscriptions(world, year.users) == year.expected.subscriptions
    assert packs(world, year.expected.packs) == {
        payment_id: (pack.user, pack.credits, pack.credits_back)
        for payment_id, pack in year.expected.packs.items()
    }
    assert list(world.services.stripe.waiting()) == []


@pytest.mark.parametrize("seed", [2])
def test_a_year_comes_to_the_same_allocations_and_purchases_however_late_its_events_are(
    seed: int,
) -> None:
    year = shop.year(seed, VERSIONS[-1], users=2)
    found = []
    for name, delays in (("prompt", None), ("late", random.Random(seed))):
        world = World(stage=name)
        live_through(world, year, delays)
        found.append((ledgers(world, year.users), subscriptions(world, year.users)))
    assert found[0] == found[1]
    assert {kind for ledger in found[0][0].values() for kind, *_ in ledger} >= {
        EntryType.ALLOCATION,
        EntryType.PURCHASE,
    }
