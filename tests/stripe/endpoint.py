"""Delivers events to the webhook over moto, as API Gateway hands them on."""

import json
from typing import Any, NamedTuple

from chalicelib.api import stripe
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.price_list import CreditPrice, PlanPrice, PriceList
from tests.aws.world import STRIPE_SECRET, World
from tests.stripe.payloads import signed

PRICES = PriceList(
    {
        "price_starter_monthly": PlanPrice("starter", BillingInterval.MONTHLY),
        "price_starter_yearly": PlanPrice("starter", BillingInterval.YEARLY),
        "price_pro_monthly": PlanPrice("pro", BillingInterval.MONTHLY),
        "price_pro_yearly": PlanPrice("pro", BillingInterval.YEARLY),
        "price_business_monthly": PlanPrice("business", BillingInterval.MONTHLY),
        "price_business_yearly": PlanPrice("business", BillingInterval.YEARLY),
        "price_pack_30": CreditPrice(30),
        "price_pack_500": CreditPrice(500),
        "price_pack_2000": CreditPrice(2000),
        "price_poster": None,
    },
    timezone="Europe/Paris",
)


class Reply(NamedTuple):
    """What Stripe is answered."""

    status: int
    body: dict[str, Any]

    @property
    def came_to(self) -> object:
        """What was done, or the code of the problem."""
        return self.body.get("did") or self.body["code"]


def deliver(world: World, event: dict[str, Any]) -> Reply:
    """Delivers an event, signed now."""
    body = json.dumps(event).encode()
    return deliver_text(world, body, signed(body, STRIPE_SECRET, world.now))


def deliver_text(world: World, body: bytes, signature: str | None) -> Reply:
    """Delivers any body."""
    headers = {"Content-Type": "application/json"}
    if signature is not None:
        headers["Stripe-Signature"] = signature
    request = {
        "httpMethod": "POST",
        "path": "/api/webhooks/stripe",
        "headers": headers,
        "body": body.decode(),
        "isBase64Encoded": False,
        "requestContext": {"requestId": "request-1"},
    }
    answer = stripe.receive(world.services, request, world.context)
    return Reply(answer["statusCode"], json.loads(answer["body"]))
