"""Items as a hand, a restore or a roll-back can leave them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.store.database import Item
from tests.aws.world import World, client

Change = Callable[[Item], object]


def damage(table: str, key: Item, change: Change) -> Item:
    """Changes an item of a table of the stage dev, whatever its condition; answers what it is."""
    name = f"credits-dev-{table}"
    item: Item = client("dynamodb").get_item(TableName=name, Key=key)["Item"]
    change(item)
    client("dynamodb").put_item(TableName=name, Item=item)
    return item


def damage_subscription(change: Change, user_id: str = "1") -> None:
    """Damages the subscription of a user."""
    damage("subscriptions", {"user_id": {"S": user_id}}, change)


def damage_entry(change: Change, user_id: str = "1", number: int = 1) -> None:
    """Damages an entry of a user's ledger."""
    key = {"user_id": {"S": user_id}, "entry": {"S": f"entry#{number:012}"}}
    damage("ledger", key, change)


def without(name: str) -> Change:
    """Takes an attribute away."""
    return lambda item: item.pop(name)


def having(name: str, value: dict[str, Any]) -> Change:
    """Gives an attribute another value, which can be of another type."""
    return lambda item: item.update({name: value})


def never_consistent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finds no subscription of this moment, unless somebody asks for a consistent read."""
    store = world.services.subscriptions
    get_many = store.get_many

    def stale(user_ids: Any, *, consistent: bool = False) -> Any:
        return get_many(user_ids, consistent=True) if consistent else {}

    monkeypatch.setattr(store, "get_many", stale)


def newer(item: Item) -> None:
    """An entry of a release that was rolled back."""
    item["body"] = {"S": json.dumps(json.loads(item["body"]["S"]) | {"schema": 99})}


SUBSCRIPTIONS: dict[str, Change] = {
    "of a status of a newer release": having("status", {"S": "frozen"}),
    "of an interval of a newer release": having("billing_interval", {"S": "weekly"}),
    "without a plan": without("plan"),
    "with a start that is no number": having("started_at", {"S": "ada@example.com"}),
}
"""Subscriptions that cannot be read, by what they are."""

ENTRIES: dict[str, Change] = {
    "without its body": without("body"),
    "without its hash": without("hash"),
    "whose body is no text": having("body", {"M": {}}),
    "whose body is no JSON": having("body", {"S": "ada@example.com"}),
    "of a newer release": newer,
}
"""Ledger entries that cannot be read."""
