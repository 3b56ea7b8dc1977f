"""Stripe as the tests over moto speak for it: what happens there is sent as it happens."""

from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain.edits import Edit
from chalicelib.domain.subscriptions import Subscription
from chalicelib.store.edits import read_edit
from chalicelib.store.stripe import Wait
from tests.aws.test_stripe import VERSION, charge, checkout, payment, subscription
from tests.aws.world import World, at
from tests.stripe import payloads
from tests.stripe.endpoint import PRICES, Reply, deliver

__all__ = ["START", "Stripe", "charge", "checkout", "payment", "subscription"]

START = at("2026-01-15T12:00:00Z")
ADA = "ada@example.com"


def customer(email: str | None = ADA, user_id: str | None = None, name: str = "cus_1") -> Any:
    metadata = {} if user_id is None else {"user_id": user_id}
    return payloads.customer(VERSION, id=name, created=START, email=email, metadata=metadata)


def refund(status: str, amount: int, name: str = "re_1", **more: Any) -> dict[str, Any]:
    values = {
        "id": name,
        "created": START,
        "amount": amount,
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "status": status,
        **more,
    }
    return payloads.refund(VERSION, **values)


def dispute(amount: int, name: str = "dp_1", **more: Any) -> dict[str, Any]:
    values = {
        "id": name,
        "created": START,
        "amount": amount,
        "charge": "ch_1",
        "payment_intent": "pi_1",
        **more,
    }
    return payloads.dispute(VERSION, **values)


class Stripe:
    """Sends events, each of another second than the one before, and with an id of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.count = 0
        world.services.price_list = PRICES
        world.now = START

    def event(
        self,
        kind: str,
        thing: dict[str, Any],
        seen: datetime | None = None,
        previous: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """An event, by default of a second after the latest."""
        self.count += 1
        created = seen or START + timedelta(seconds=self.count)
        self.world.now = max(self.world.now, created)
        name = f"evt_{self.count:03}"
        return payloads.event(VERSION, kind, thing, id=name, created=created, previous=previous)

    def sends(self, kind: str, thing: dict[str, Any], **more: Any) -> tuple[int, object]:
        """Sends an event; answers the status, and what was done or the code of the problem."""
        return self.says(self.event(kind, thing, **more))

    def says(self, event: dict[str, Any]) -> tuple[int, object]:
        """Sends an event that was made before."""
        reply = self.replies(event)
        return reply.status, reply.came_to

    def replies(self, event: dict[str, Any]) -> Reply:
        """The same; the whole answer."""
        return deliver(self.world, event)

    @property
    def waiting(self) -> list[Wait]:
        """What waits."""
        return list(self.world.services.stripe.waiting())

    @property
    def why(self) -> list[str]:
        """Why each waits."""
        return [wait.why for wait in self.waiting]

    def user(self, user_id: str = "1") -> Subscription:
        """The subscription of a user."""
        return self.world.services.subscriptions.get(user_id)

    def edits(self, user_id: str = "1") -> list[Edit]:
        """Who changed what about a subscription, newest first."""
        page = self.world.services.edits.newest_first(user_id, None, 100)
        return [read_edit(item) for item in page.items]

    def is_known(self, user_id: str = "1") -> bool:
        """Whether there is such a user."""
        return self.world.services.subscriptions.find(user_id) is not None
