"""What Stripe's events set off, as workflows; importing this enters them in the list of all.

Stripe delivers an event again and again until it is answered with 2xx.
"""

from datetime import datetime, timedelta
from functools import partial

from tests.crashes.workflows import (
    WORKFLOWS,
    Step,
    add,
    allocated,
    settled_at,
    subscribed,
    use,
)
from tests.crashes.world import CrashingWorld, Json
from tests.simulation.world import at
from tests.stripe import payloads

__all__ = ["WORKFLOWS"]

VERSION = payloads.VERSIONS[-1]
BEGUN = at("2025-06-15T12:00:00Z")
NOON = at("2026-01-15T12:00:00Z")


def event(kind: str, thing: Json, seen: datetime = NOON, previous: Json | None = None) -> Json:
    """An event with an id that says what it is."""
    name = f"evt_{thing['id']}_{kind.rpartition('.')[2]}_{payloads.instant(seen)}"
    return payloads.event(VERSION, kind, thing, id=name, created=seen, previous=previous)


def contract(
    status: str, price: str = "price_pro_yearly", name: str = "sub_1", user: str = "ada"
) -> Json:
    end = BEGUN + timedelta(days=365)
    item = payloads.subscription_item(
        VERSION,
        id=f"si_{name}",
        created=BEGUN,
        subscription=name,
        price=payloads.price(VERSION, id=price, created=BEGUN, unit_amount=90, interval="year"),
        period_start=BEGUN,
        period_end=end,
    )
    return payloads.subscription(
        VERSION,
        id=name,
        customer="cus_1",
        created=BEGUN,
        status=status,
        items=[item],
        period_start=BEGUN,
        period_end=end,
        metadata={"user_id": user},
    )


def person(email: str | None = "ada@example.com", user: str | None = "ada") -> Json:
    metadata = {"user_id": user} if user else {}
    return payloads.customer(VERSION, id="cus_1", created=BEGUN, email=email, metadata=metadata)


def basket(user: str | None = None) -> Json:
    """A checkout of a pack; that the customer is Ada may be known, or be said."""
    metadata = {"price_id": "price_pack_500", **({"user_id": user} if user else {})}
    return payloads.checkout_session(
        VERSION,
        id="cs_1",
        created=NOON,
        expires_at=NOON + timedelta(days=1),
        mode="payment",
        payment_status="paid",
        amount_total=4900,
        customer="cus_1",
        payment_intent="pi_1",
        metadata=metadata,
    )


def payment() -> Json:
    metadata = {"price_id": "price_pack_500"}
    return payloads.payment_intent(
        VERSION, id="pi_1", created=NOON, amount=4900, customer="cus_1", metadata=metadata
    )


def charge(refunded: int) -> Json:
    return payloads.charge(
        VERSION,
        id="ch_1",
        created=NOON,
        amount=4900,
        payment_intent="pi_1",
        amount_refunded=refunded,
    )


def dispute(status: str) -> Json:
    return payloads.dispute(
        VERSION,
        id="dp_1",
        created=NOON,
        amount=4900,
        charge="ch_1",
        payment_intent="pi_1",
        status=status,
    )


def failed_refund() -> Json:
    return payloads.refund(
        VERSION,
        id="re_1",
        created=NOON,
        amount=2450,
        charge="ch_1",
        payment_intent="pi_1",
        status="failed",
    )


def told(*events: Json) -> Step:
    """Stripe tells of these, one after the other."""

    def step(world: CrashingWorld) -> None:
        for each in events:
            world.told_by_stripe(each)

    return step


def told_at(time: datetime, *events: Json) -> Step:
    def step(world: CrashingWorld) -> None:
        world.now = max(world.now, time)
        told(*events)(world)

    return step


KNOWN = (
    subscribed("ada"),
    told(event("customer.created", person(), BEGUN)),
)
BEGINS = event("customer.subscription.created", contract("active"))
BUYS = event("checkout.session.completed", basket())
PAYS = event("payment_intent.succeeded", payment(), NOON + timedelta(seconds=1))
MARCH = at("2026-02-28T23:30:00Z")
PAUSED = event("customer.subscription.updated", contract("unpaid"), at("2026-02-10T10:00:00Z"))
RESUMED = event(
    "customer.subscription.updated",
    contract("active"),
    at("2026-02-28T12:00:00Z"),
    previous={"status": "unpaid"},
)


def refunded(in_all: int, hour: int) -> Json:
    return event("charge.refunded", charge(in_all), NOON + timedelta(hours=hour))


def withdrawn(hour: int) -> Json:
    seen = NOON + timedelta(hours=hour)
    return event("charge.dispute.funds_withdrawn", dispute("needs_response"), seen)


def reinstated(hour: int) -> Json:
    seen = NOON + timedelta(hours=hour)
    return event("charge.dispute.funds_reinstated", dispute("won"), seen)


def bought_too_soon(world: CrashingWorld) -> None:
    """Nobody has said who the customer is: it is kept that the event waits, until it is done."""
    world.until_done(lambda: world.hear(BUYS), lambda reply: "waiting" in reply.text)
    told(event("customer.updated", person()), BUYS)(world)


bought = told(BUYS)
used_some = partial(use, amount=300, key="used")

for _name, _run, _before in (
    (
        "Stripe brings a user, with an address",
        told(event("customer.created", person(), BEGUN), BEGINS),
        (),
    ),
    # Paid before the month began, and told of after it: the month is due, and posted.
    (
        "Stripe brings a user back, and the month is due",
        told_at(MARCH, RESUMED),
        (
            told(event("customer.created", person(), BEGUN), BEGINS),
            allocated,
            told_at(at("2026-02-10T10:00:00Z"), PAUSED),
            settled_at("2026-02-28T12:00:00Z"),
        ),
    ),
    ("Stripe gives a user an address", told(event("customer.updated", person())), (told(BEGINS),)),
    ("a pack is bought by a customer who is known", told(BUYS), KNOWN),
    ("a pack is bought by a customer of whom nobody knows", bought_too_soon, (subscribed("ada"),)),
    ("one payment is told of by two events", told(PAYS), (*KNOWN, bought)),
    (
        "a charge is refunded in part, and then wholly",
        told(refunded(4900, 2)),
        (*KNOWN, bought, told(refunded(2450, 1)), used_some),
    ),
    ("a refund is told of before its purchase", told(refunded(2450, 1), PAYS), KNOWN),
    ("a dispute is won", told(reinstated(2)), (*KNOWN, bought, told(withdrawn(1)))),
    (
        "a refund fails beside a dispute",
        told(event("refund.failed", failed_refund(), NOON + timedelta(hours=3))),
        (*KNOWN, bought, told(refunded(2450, 1), withdrawn(2))),
    ),
):
    add("stripe", _name, _run, *_before)
