"""A month of a shop on the plans of old: what it stores, text by text.

    python -m tests.simulation.old_month > tests/simulation/old_month.json

The file was written by the release before plans could say when credits come and how long they live.
Those who do not say so must see no difference.
"""

import json
import sys
from datetime import datetime
from typing import Any

from tests.simulation import reference
from tests.simulation.world import SUBSCRIBED, World, at, simulated, ticks_between

ZONES = ("America/New_York", "Europe/Paris", "Pacific/Kiritimati")
ADMIN = {"caller": "ada", "user_id": "", "scopes": "credits:admin credits:backend"}
OLD: reference.Plans = {
    "starter": {
        "name": "Starter",
        "monthly_credits": 100,
        "credit_lifetime_days": 30,
        "low_balance_threshold": 20,
    },
    "pro": {"name": "Pro", "monthly_credits": 500, "low_balance_threshold": 50},
    "business": {"name": "Business", "monthly_credits": 2_000, "low_balance_threshold": 200},
}
"""The plans that the repository had then."""

USERS: dict[str, dict[str, object]] = {
    "starter-paris": {},
    "starter-york": {"timezone": "America/New_York", "started_at": "2025-03-31T12:00:00Z"},
    "pro-kiritimati": {"timezone": "Pacific/Kiritimati", "plan": "pro"},
    "pro-own": {"plan": "pro", "allocation_amount": 700},
    "business-york": {"timezone": "America/New_York", "plan": "business"},
    "monthly": {"billing_interval": "monthly"},
    "paused": {"status": "paused"},
    "ends": {"ends_at": "2026-02-10T00:00:00Z"},
}


def stored() -> dict[str, Any]:
    """The ledger's items, the messages of the sweeps, and what users are answered, in order."""
    with simulated(ZONES):
        world = World(now=at("2026-01-20T12:00:00Z"), plans=OLD)
        with world.running():
            return _lived(world)


def _lived(world: World) -> dict[str, Any]:
    for who, values in USERS.items():
        reply = world.call("PUT", f"/api/subscriptions/{who}", ADMIN, {**SUBSCRIBED, **values})
        assert reply.status == 201, reply
    sweeps: list[str] = []
    _go(world, at("2026-02-03T12:00:00Z"), sweeps)
    for number, who in enumerate(USERS):
        key = {"Idempotency-Key": f"key-{number}"}
        body: dict[str, object] = {"user_id": who, "amount": 40, "description": "A job"}
        world.call("POST", "/api/credits/use", ADMIN, body, key)
        body = {"user_id": who, "amount": 5 + number, "reason": "Goodwill"}
        world.call("POST", "/api/credits/allocate", ADMIN, body, key)
    patch = {"started_at": "2026-01-25T00:00:00Z", "timezone": "America/New_York"}
    world.call("PATCH", "/api/subscriptions/pro-own", ADMIN, patch)
    world.call("PATCH", "/api/subscriptions/paused", ADMIN, {"status": "active"})
    world.call("PATCH", "/api/subscriptions/monthly", ADMIN, {"billing_interval": "yearly"})
    world.call("PATCH", "/api/subscriptions/pro-kiritimati", ADMIN, {"plan": "starter"})
    _go(world, at("2026-03-04T12:00:00Z"), sweeps)
    answers = [
        world.call("GET", "/api/credits/allocation-schedule", ADMIN, query={"user_id": who}).json
        for who in USERS
    ]
    ledger = sorted(
        (item["user_id"]["S"], item["entry"]["S"], item.get("body", {"S": ""})["S"])
        for item in world.table("ledger").items.values()
    )
    return {"ledger": ledger, "sweeps": sweeps, "schedules": answers}


def _go(world: World, end: datetime, sweeps: list[str]) -> None:
    """The ticks come, and all they start is done."""
    for moment in ticks_between(world.now, end, ZONES, (0, 15, 60, 1440)):
        world.now = moment
        for kind in ("allocation", "expiry"):
            world.tick(kind, world.now)
            if kind == "allocation":
                sweeps += [message.body for message in world.waiting("sweeps")]
            world.drain()


if __name__ == "__main__":
    json.dump(stored(), sys.stdout, indent=0)
    sys.stdout.write("\n")
