"""The webhook of Stripe over moto: what its events come to, in any order, twice and late."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import SubscriptionStatus
from chalicelib.store.throttling import wait_for_room
from chalicelib.store.wire.errors import NoAnswer
from tests.aws.world import STRIPE_SECRET, World, at
from tests.stripe import payloads
from tests.stripe.endpoint import PRICES, Reply, deliver, deliver_text

VERSION = payloads.VERSIONS[-1]
START = at("2026-01-15T12:00:00Z")


@pytest.fixture
def shop(world: World) -> World:
    """A world whose prices are those of the tests."""
    world.services.price_list = PRICES
    world.now = START + timedelta(minutes=1)
    return world


class Events:
    """Makes events, each with an id of its own."""

    def __init__(self) -> None:
        self.count = 0

    def of(
        self,
        kind: str,
        thing: dict[str, Any],
        seen: datetime = START,
        previous: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        self.count += 1
        name = f"evt_{self.count}"
        return payloads.event(VERSION, kind, thing, id=name, created=seen, previous=previous)


@pytest.fixture
def events() -> Events:
    return Events()


def subscription(
    price: str = "price_pro_yearly", status: str = "active", name: str = "sub_1", **more: Any
) -> dict[str, Any]:
    begun = more.pop("begun", START)
    end = begun + timedelta(days=365)
    priced = payloads.price(VERSION, id=price, created=begun, unit_amount=4900, interval="year")
    item = payloads.subscription_item(
        VERSION,
        id=f"si_{name}",
        created=begun,
        subscription=name,
        price=priced,
        period_start=begun,
        period_end=end,
    )
    return payloads.subscription(
        VERSION,
        id=name,
        customer=more.pop("customer", "cus_1"),
        created=begun,
        status=status,
        items=[item],
        period_start=begun,
        period_end=end,
        metadata=more.pop("metadata", {"user_id": "1"}),
        **more,
    )


def checkout(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": "cs_1",
        "created": START,
        "expires_at": START + timedelta(days=1),
        "mode": "payment",
        "payment_status": "paid",
        "amount_total": 4900,
        "customer": "cus_1",
        "payment_intent": "pi_1",
        "metadata": {"user_id": "1", "price_id": "price_pack_500"},
        **more,
    }
    return payloads.checkout_session(VERSION, **values)


def payment(**more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": "pi_1",
        "created": START,
        "amount": 4900,
        "customer": "cus_1",
        "metadata": {"user_id": "1", "price_id": "price_pack_500"},
        **more,
    }
    return payloads.payment_intent(VERSION, **values)


def charge(refunded: int, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "id": "ch_1",
        "created": START,
        "amount": 4900,
        "payment_intent": "pi_1",
        "amount_refunded": refunded,
        **more,
    }
    return payloads.charge(VERSION, **values)


def balance(world: World) -> int:
    return world.services.ledger.account("1").ledger_balance


def came_to(reply: Reply) -> tuple[int, object]:
    return reply.status, reply.came_to


# --- Subscriptions ------------------------------------------------------------------------------


def test_a_subscription_registers_its_user(shop: World, events: Events) -> None:
    shop.services.stripe.learn("cus_1", shop.services.stripe.customer("cus_1"))
    known = payloads.customer(VERSION, id="cus_1", created=START, email="ada@example.com")
    assert came_to(deliver(shop, events.of("customer.created", known))) == (200, "customer")
    reply = deliver(shop, events.of("customer.subscription.created", subscription()))
    assert came_to(reply) == (200, "subscription")
    made = shop.services.subscriptions.get("1")
    assert (made.plan, made.billing_interval) == ("pro", BillingInterval.YEARLY)
    assert (made.status, made.started_at) == (SubscriptionStatus.ACTIVE, START)
    assert (made.email, made.timezone) == ("ada@example.com", "Europe/Paris")
    assert made.ends_at is None


def test_a_payment_told_by_two_events_buys_once(shop: World, events: Events) -> None:
    shop.subscribe()
    first = deliver(shop, events.of("checkout.session.completed", checkout()))
    second = deliver(shop, events.of("payment_intent.succeeded", payment()))
    assert (came_to(first), came_to(second)) == ((200, "purchase"), (200, "purchase"))
    assert balance(shop) == 500


def test_a_refund_that_comes_before_its_purchase_is_taken_from_it(
    shop: World, events: Events
) -> None:
    shop.subscribe()
    early = deliver(shop, events.of("charge.refunded", charge(2450)))
    assert came_to(early) == (200, "noted")
    deliver(shop, events.of("payment_intent.succeeded", payment()))
    assert balance(shop) == 250


def test_what_was_never_collected_of_a_charge_is_no_refund(shop: World, events: Events) -> None:
    shop.subscribe()
    deliver(shop, events.of("payment_intent.succeeded", payment(amount=3000)))
    collected = charge(1900) | {"amount_captured": 3000}
    assert came_to(deliver(shop, events.of("charge.refunded", collected))) == (200, "refund")
    assert balance(shop) == 500
    half = charge(1900 + 1500) | {"amount_captured": 3000}
    deliver(shop, events.of("charge.refunded", half, START + timedelta(seconds=1)))
    assert balance(shop) == 250


def test_a_dispute_takes_back_and_gives_back_beside_a_refund(shop: World, events: Events) -> None:
    shop.subscribe()
    deliver(shop, events.of("payment_intent.succeeded", payment()))
    deliver(shop, events.of("charge.refunded", charge(490), START + timedelta(seconds=1)))
    assert balance(shop) == 450
    values: dict[str, Any] = {
        "id": "dp_1",
        "created": START,
        "amount": 980,
        "charge": "ch_1",
        "payment_intent": "pi_1",
    }
    lost = payloads.dispute(VERSION, **values, status="needs_response", reason="fraudulent")
    deliver(shop, events.of("charge.dispute.funds_withdrawn", lost, START + timedelta(seconds=2)))
    assert balance(shop) == 350
    won = payloads.dispute(VERSION, **values, status="won", reason="fraudulent")
    back = events.of("charge.dispute.funds_reinstated", won, START + timedelta(seconds=3))
    deliver(shop, back)
    deliver(shop, back)
    assert balance(shop) == 450


def test_a_request_that_stripe_did_not_sign_touches_nothing(shop: World) -> None:
    assert came_to(deliver_text(shop, b"{}", None)) == (400, "wrong_signature")
    wrong = payloads.signed(b"{}", "whsec_" + "x" * 32, shop.now)
    assert came_to(deliver_text(shop, b"{}", wrong)) == (400, "wrong_signature")
    late = payloads.signed(b"{}", STRIPE_SECRET, shop.now - timedelta(minutes=6))
    assert came_to(deliver_text(shop, b"{}", late)) == (400, "wrong_signature")


def test_what_waits_is_told_of_with_the_reason_and_what_is_done_with_what_it_came_to(
    shop: World, events: Events, caplog: pytest.LogCaptureFixture
) -> None:
    shop.subscribe()
    caplog.set_level("INFO")
    unknown = payment(metadata={"user_id": "1", "price_id": "price_new"})
    waits = deliver(shop, events.of("payment_intent.succeeded", unknown))
    assert came_to(waits) == (409, "waiting")
    deliver(shop, events.of("checkout.session.completed", checkout()))
    lines = [vars(record) for record in caplog.records]
    names = ("levelname", "msg", "event", "type")
    assert [tuple(line[name] for name in names) for line in lines] == [
        ("WARNING", "Stripe event waits", "evt_1", "payment_intent.succeeded"),
        ("INFO", "Stripe event", "evt_2", "checkout.session.completed"),
    ]
    assert (lines[0]["why"], lines[1]["did"]) == (waits.body["detail"], "purchase")
    assert {line["correlation_id"] for line in lines} == {"request-1"}
    assert "@" not in str(lines)


def test_an_outage_of_aws_is_told_to_stripe_with_the_requests_id(
    shop: World,
    events: Events,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def away(*_: object, **__: object) -> None:
        raise NoAnswer("DynamoDB is away")

    monkeypatch.setattr(shop.services.stripe, "note", away)
    reply = deliver(shop, events.of("charge.refunded", charge(490)))
    assert (came_to(reply), reply.body["request_id"]) == ((503, "unavailable"), "request-1")
    (line,) = [vars(record) for record in caplog.records]
    assert (line["levelname"], line["msg"]) == ("ERROR", "AWS did not answer")
    assert line["correlation_id"] == "request-1"
    assert "NoAnswer" in str(line["exc_info"])


def test_stripe_waits_for_dynamodb_for_five_seconds_and_is_then_told_to_come_back(
    shop: World, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its function may run: Stripe gives up before that."""
    waited: list[int] = []

    def throttled(*_: object, **__: object) -> None:
        for milliseconds in (26_000, 24_000):
            shop.context.remaining_milliseconds = milliseconds
            wait_for_room(1, lambda _: None)
            waited.append(milliseconds)
        raise AssertionError("it waits on")

    monkeypatch.setattr(shop.services.stripe, "note", throttled)
    reply = deliver(shop, events.of("charge.refunded", charge(490)))
    assert (came_to(reply), waited) == ((503, "unavailable"), [26_000])
