"""What Stripe tells of Ann, who subscribes, buys a pack, and is given back a part of her money."""

from datetime import datetime, timedelta
from typing import Any

from tests.stack.resolved import Json
from tests.stripe import payloads

VERSION = payloads.VERSIONS[-1]
SECRET = f"whsec_{'k' * 58}"
USER, CUSTOMER, SUBSCRIPTION, PAYMENT = "stripe-ann", "cus_of_ann", "sub_of_ann", "pi_of_ann"


def customer(begun: datetime) -> Json:
    """Who she is."""
    metadata = {"user_id": USER}
    made: Json = payloads.customer(
        VERSION, id=CUSTOMER, created=begun, email="ann@example.com", metadata=metadata
    )
    return made


def subscription(begun: datetime, **more: Any) -> Json:
    """What she has subscribed to; who she is, only her customer says."""
    period: dict[str, Any] = {
        "period_start": begun,
        "period_end": begun + timedelta(days=365),
    }
    price = payloads.price(
        VERSION, id="price_pro_yearly", created=begun, unit_amount=4900, interval="year"
    )
    item = payloads.subscription_item(
        VERSION, id="si_of_ann", created=begun, subscription=SUBSCRIPTION, price=price, **period
    )
    values: dict[str, Any] = {"id": SUBSCRIPTION, "customer": CUSTOMER, "created": begun}
    values |= {"status": "active", "items": [item], **period, **more}
    made: Json = payloads.subscription(VERSION, **values)
    return made


def payment(begun: datetime) -> Json:
    """She buys a pack."""
    metadata = {"price_id": "price_pack_500", "user_id": USER}
    made: Json = payloads.payment_intent(
        VERSION, id=PAYMENT, created=begun, amount=4900, customer=CUSTOMER, metadata=metadata
    )
    return made


def charge(begun: datetime, refunded: int) -> Json:
    """The charge of that pack, of which so much has been refunded."""
    made: Json = payloads.charge(
        VERSION,
        id="ch_of_ann",
        created=begun,
        amount=4900,
        payment_intent=PAYMENT,
        amount_refunded=refunded,
    )
    return made
