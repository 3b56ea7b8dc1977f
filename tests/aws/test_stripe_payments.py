"""What Stripe's payments buy over moto, what is taken back of them, and what is no event at all."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest

from chalicelib import metrics
from chalicelib.api import stripe as webhook
from chalicelib.api.stripe import LARGEST_BODY
from chalicelib.aws import KeptSecret
from chalicelib.domain import ledger
from chalicelib.domain.ledger import Account
from chalicelib.domain.price_list import CreditPrice
from chalicelib.domain.prices import Price
from chalicelib.metrics import Metric
from tests import wire as wires
from tests.aws.api import BILLING, Api, user
from tests.aws.damage import Change, damage, having, without
from tests.aws.stripe_events import (
    START,
    Stripe,
    charge,
    checkout,
    customer,
    dispute,
    payment,
    refund,
    subscription,
)
from tests.aws.test_unreachable import fall_silent
from tests.aws.world import STRIPE_SECRET
from tests.stripe import payloads
from tests.stripe.endpoint import deliver_text

CHECKOUT = "checkout.session.completed"
ASYNC = "checkout.session.async_payment_succeeded"
PAID = "payment_intent.succeeded"
REFUNDED = "charge.refunded"
WITHDRAWN, REINSTATED = "charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"
BOUGHT, NOTED, TAKEN = (200, "purchase"), (200, "noted"), (200, "refund")
WAITS, IGNORED = (409, "waiting"), (200, "ignored")
PACK = {"user_id": "1", "price_id": "price_pack_500"}


@pytest.fixture
def sold(stripe: Stripe) -> Stripe:
    """A user who can buy."""
    stripe.world.subscribe()
    return stripe


def moved(stripe: Stripe) -> list[tuple[str, int]]:
    """What the ledger says that was bought and taken back."""
    return [(kind, amount) for kind, amount, _ in stripe.world.summary()]


def with_price(stripe: Stripe, name: str, price: CreditPrice | None) -> None:
    """The list of prices is edited."""
    services = stripe.world.services
    prices = {**services.price_list.prices, name: price}
    services.price_list = replace(services.price_list, prices=prices)


# --- Buying -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "thing"),
    [
        # What was paid, which a coupon or a tax makes another sum than the price.
        *((kind, checkout() | {"amount_subtotal": 5_900}) for kind in (CHECKOUT, ASYNC)),
        (PAID, payment() | {"amount": 5_900}),
    ],
)
def test_a_payment_buys_what_its_price_stands_for(
    sold: Stripe, kind: str, thing: dict[str, Any]
) -> None:
    assert sold.sends(kind, thing) == BOUGHT
    (entry,) = sold.world.history()
    assert (entry.amount, entry.price, entry.actor) == (500, Price(4_900, "EUR"), "stripe")
    assert entry.granted_batch is not None
    assert (entry.granted_batch.expires_at, entry.granted_batch.priority) == (None, 60)


def test_a_pack_can_expire_and_be_spent_early(sold: Stripe) -> None:
    with_price(sold, "price_pack_500", CreditPrice(70, expires_in_days=10, priority=5))
    assert sold.sends(PAID, payment()) == BOUGHT
    batch = sold.world.history()[0].granted_batch
    assert batch is not None
    assert (batch.granted, batch.priority) == (70, 5)
    assert batch.expires_at is not None
    assert timedelta(days=9) < batch.expires_at - sold.world.now < timedelta(days=12)


def test_a_checkout_that_is_paid_later_buys_when_it_is(sold: Stripe) -> None:
    unpaid = checkout(payment_status="unpaid")
    assert sold.sends(CHECKOUT, unpaid) == (200, "customer")
    assert sold.sends(CHECKOUT, checkout(payment_status="unpaid", customer=None)) == IGNORED
    assert moved(sold) == []
    assert sold.sends(ASYNC, checkout()) == BOUGHT
    assert sold.sends(PAID, payment()) == BOUGHT
    assert moved(sold) == [("purchase", 500)]


def test_a_free_checkout_buys_by_its_own_name(sold: Stripe) -> None:
    free = checkout(payment_status="no_payment_required", payment_intent=None, amount_total=0)
    for _ in range(2):
        assert sold.sends(CHECKOUT, free) == BOUGHT
    (entry,) = sold.world.history()
    assert (entry.amount, entry.price) == (500, Price(0, "EUR"))
    assert sold.world.services.ledger.place_of("purchase#cs_1") is not None


@pytest.mark.parametrize(
    ("kind", "thing", "expected"),
    [
        (PAID, payment(metadata={}), IGNORED),
        (PAID, payment(metadata={"user_id": "1"}), IGNORED),
        (CHECKOUT, checkout(metadata={"user_id": "1"}), IGNORED),
        (CHECKOUT, checkout(mode="subscription"), (200, "customer")),
        (CHECKOUT, checkout(mode="setup", customer=None), IGNORED),
        (PAID, payment(metadata=PACK | {"price_id": "price_poster"}), IGNORED),
        (PAID, payment(metadata=PACK | {"price_id": "price_pro_yearly"}), IGNORED),
    ],
)
def test_a_payment_for_something_else_buys_nothing(
    sold: Stripe, kind: str, thing: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert sold.sends(kind, thing) == expected
    assert moved(sold) == []
    assert sold.waiting == []


def test_who_pays_without_being_a_customer_says_who_they_are(sold: Stripe) -> None:
    assert sold.sends(PAID, payment(customer=None)) == BOUGHT
    nobody = payment(id="pi_2", customer=None, metadata={"price_id": "price_pack_500"})
    assert sold.sends(PAID, nobody) == WAITS
    assert sold.why == ["nothing says which user the payment is: metadata.user_id is missing"]
    named = checkout(
        id="cs_3",
        payment_intent="pi_3",
        customer=None,
        metadata={"price_id": "price_pack_500"},
        client_reference_id="1",
    )
    assert sold.sends(CHECKOUT, named) == BOUGHT


def test_what_a_payment_bought_stays_though_its_price_stands_for_more_by_the_second_event(
    sold: Stripe,
) -> None:
    assert sold.sends(CHECKOUT, checkout()) == BOUGHT
    with_price(sold, "price_pack_500", CreditPrice(600))
    assert sold.sends(PAID, payment()) == BOUGHT
    assert moved(sold) == [("purchase", 500)]


def test_a_purchase_that_the_api_has_told_of_is_not_made_again(sold: Stripe, api: Api) -> None:
    body = {"user_id": "1", "amount": 40, "payment_id": "pi_1"}
    assert api.post("/api/credits/purchases", BILLING, body).status == 200
    assert sold.sends(PAID, payment()) == BOUGHT
    assert moved(sold) == [("purchase", 40)]


@pytest.mark.parametrize("amount", [10**12 + 1, 10**15 - 1])
def test_a_payment_of_a_fantastic_amount_buys_without_a_price(sold: Stripe, amount: int) -> None:
    assert sold.sends(PAID, payment(amount=amount)) == BOUGHT
    assert sold.world.history()[0].price is None


def test_the_highest_price_is_a_price_still(sold: Stripe) -> None:
    assert sold.sends(PAID, payment(amount=10**12)) == BOUGHT
    assert sold.world.history()[0].price == Price(10**12, "EUR")


# --- What waits ---------------------------------------------------------------------------------


def test_a_payment_of_a_user_who_is_not_registered_waits_for_them(stripe: Stripe) -> None:
    event = stripe.event(PAID, payment())
    assert stripe.says(event) == WAITS
    assert stripe.why == ["there is no user 1"]
    assert stripe.waiting[0].object_id == "pi_1"
    assert stripe.sends("customer.subscription.created", subscription()) == (200, "subscription")
    assert stripe.says(event) == BOUGHT
    assert stripe.waiting == []


def test_a_price_that_is_not_in_the_list_waits_before_anybody_is_asked_who_paid(
    stripe: Stripe,
) -> None:
    event = stripe.event(PAID, payment(metadata={"price_id": "price_new"}))
    assert stripe.says(event) == WAITS
    assert stripe.why == ["stripe.toml does not have the price price_new"]


def test_a_payment_of_a_user_with_too_many_open_batches_waits(
    sold: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_OPEN_BATCHES", 2)
    for number in range(2):
        sold.world.grant("1", 1, f"key-{number}")
    assert sold.sends(PAID, payment()) == WAITS
    assert sold.why[0].startswith("the user already has 2 open credit batches, the most allowed")
    assert sold.world.balance() == 2


def test_what_would_open_too_many_batches_again_waits_and_is_then_given_back(
    sold: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MOST_OPEN_BATCHES", 2)
    sold.sends(PAID, payment())
    sold.sends(REFUNDED, charge(4_900))
    for number in range(2):
        sold.world.grant("1", 1, f"key-{number}")
    event = sold.event("refund.failed", refund("failed", 490))
    assert sold.says(event) == WAITS
    assert sold.why[0].startswith("the user would have 3 open credit batches, and 2 are the most")
    assert sold.world.balance() == 2
    sold.world.grant("1", -1, "key-2")
    assert sold.says(event) == TAKEN
    assert (sold.world.balance(), sold.waiting) == (51, [])


def counted() -> float:
    """How many events have waited since this was asked last."""
    found = metrics._counted.get(Metric.STRIPE_EVENTS_WAITING, [0])
    metrics._counted.clear()
    return sum(found)


def test_what_waits_is_counted_each_time_and_nothing_else_is(sold: Stripe) -> None:
    counted()
    event = sold.event(PAID, payment(metadata=PACK | {"price_id": "price_new"}))
    for _ in range(2):
        assert sold.says(event) == WAITS
    assert counted() == 2
    assert sold.sends(PAID, payment()) == BOUGHT
    assert sold.sends(PAID, payment(metadata={})) == IGNORED
    assert deliver_text(sold.world, b"{}", None).status == 400
    assert counted() == 0


def test_an_answer_to_what_waits_says_why_and_asks_to_come_again(stripe: Stripe) -> None:
    reply = stripe.replies(stripe.event(PAID, payment()))
    assert (reply.status, reply.body["detail"]) == (409, "there is no user 1")


# --- Taking back --------------------------------------------------------------------------------


def test_a_refund_takes_its_part_and_a_full_one_takes_all(sold: Stripe) -> None:
    sold.sends(PAID, payment())
    assert sold.sends(REFUNDED, charge(490)) == TAKEN
    assert sold.sends(REFUNDED, charge(1_489)) == TAKEN
    assert sold.sends(REFUNDED, charge(4_900)) == TAKEN
    assert moved(sold) == [("purchase", 500), ("refund", -50), ("refund", -101), ("refund", -349)]
    assert sold.world.history()[-1].actor == "stripe"
    assert sold.world.history()[-1].description == "Refunded or disputed"


def test_a_refund_that_is_overtaken_by_a_later_one_does_not_give_it_back(
    sold: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    sold.sends(PAID, payment())
    store = sold.world.services.ledger
    known, overtaking = store.account, iter([True])

    def account(user_id: str) -> Account:
        if next(overtaking, False):
            assert sold.sends(REFUNDED, charge(4_900)) == TAKEN
        return known(user_id)

    monkeypatch.setattr(store, "account", account)
    assert sold.sends(REFUNDED, charge(2_450)) == TAKEN
    assert moved(sold) == [("purchase", 500), ("refund", -500)]


def test_a_refund_that_fails_is_given_back_once(sold: Stripe) -> None:
    sold.sends(PAID, payment())
    sold.sends(REFUNDED, charge(1_470))
    for kind in ("refund.failed", "refund.updated", "charge.refund.updated"):
        assert sold.sends(kind, refund("failed", 490)) == TAKEN
        assert sold.world.balance() == 400
    assert sold.sends("refund.updated", refund("canceled", 490, "re_2")) == TAKEN
    assert sold.world.balance() == 450
    # The next event of the charge knows of both.
    sold.sends(REFUNDED, charge(980))
    assert sold.world.balance() == 400


@pytest.mark.parametrize("status", ["pending", "succeeded", "requires_action"])
def test_a_refund_by_itself_is_no_news_until_it_fails(sold: Stripe, status: str) -> None:
    sold.sends(PAID, payment())
    assert sold.sends("refund.updated", refund(status, 490)) == IGNORED
    assert sold.sends("refund.failed", refund("failed", 490)) == TAKEN
    assert moved(sold) == [("purchase", 500)], "nothing was taken that could be given back"


def test_what_is_taken_back_of_other_payments_is_noted_and_moves_nothing(sold: Stripe) -> None:
    sold.sends(PAID, payment())
    other = {"payment_intent": "pi_9"}
    assert sold.sends(REFUNDED, charge(490, **other)) == NOTED
    assert sold.sends("refund.failed", refund("failed", 490, **other)) == NOTED
    assert sold.sends(WITHDRAWN, dispute(490, **other)) == NOTED
    lost = {"payment_intent": None, "charge": None}
    assert sold.sends("refund.failed", refund("failed", 490) | lost) == IGNORED
    assert moved(sold) == [("purchase", 500)]
    assert sold.waiting == []


def test_a_charge_without_a_payment_intent_goes_by_its_own_name(sold: Stripe) -> None:
    without_intent: dict[str, Any] = {"payment_intent": None}
    assert sold.sends(REFUNDED, charge(490, **without_intent)) == NOTED
    assert sold.sends(WITHDRAWN, dispute(980, **without_intent)) == NOTED
    assert sold.sends("refund.failed", refund("failed", 90, **without_intent)) == NOTED
    assert sold.world.services.stripe.payment("ch_1").in_all == 490 - 90 + 980


def test_two_disputes_and_a_refund_take_no_more_than_was_bought(sold: Stripe) -> None:
    sold.sends(PAID, payment())
    sold.sends(REFUNDED, charge(2_450))
    sold.sends(WITHDRAWN, dispute(2_450))
    sold.sends(WITHDRAWN, dispute(2_450, "dp_2"))
    assert sold.world.balance() == 0
    sold.sends(REINSTATED, dispute(2_450, status="won"))
    assert sold.world.balance() == 0
    sold.sends(REINSTATED, dispute(2_450, "dp_2", status="won"))
    assert sold.world.balance() == 250


def test_in_whatever_order_the_events_come_the_balance_is_the_same(sold: Stripe) -> None:
    def events(name: str) -> list[dict[str, Any]]:
        ids = {"payment_intent": f"pi_{name}"}
        return [
            sold.event(PAID, payment(id=f"pi_{name}")),
            sold.event(REFUNDED, charge(980, **ids)),
            sold.event(WITHDRAWN, dispute(490, f"dp_{name}", **ids)),
            sold.event("refund.failed", refund("failed", 490, f"re_{name}", **ids)),
        ]

    for number, order in enumerate([*permutations(range(4))][::4]):
        made = events(str(number))
        before = sold.world.balance()
        for place in (*order, order[0]):
            assert sold.says(made[place])[0] == 200
        assert sold.world.balance() - before == 400, order


def test_of_an_order_with_other_goods_the_same_part_of_the_credits_is_taken(sold: Stripe) -> None:
    # Credits for 49.00 and a poster for 51.00, which is sent back.
    sold.sends(CHECKOUT, checkout(amount_total=10_000))
    sold.sends(REFUNDED, charge(5_100, amount=10_000))
    assert sold.world.balance() == 245


def test_of_a_free_checkout_nothing_is_taken_back(sold: Stripe) -> None:
    free = checkout(payment_status="no_payment_required", payment_intent=None, amount_total=0)
    sold.sends(CHECKOUT, free)
    assert sold.sends(CHECKOUT, free) == BOUGHT
    assert moved(sold) == [("purchase", 500)]


def test_credits_that_are_spent_are_not_taken_and_not_given_back_either(
    sold: Stripe, api: Api
) -> None:
    sold.sends(PAID, payment())
    used = {"amount": 450, "description": "Export"}
    assert api.post("/api/credits/use", user(), used, key="a").status == 200
    sold.sends(REFUNDED, charge(4_900))
    assert sold.world.balance() == 0
    sold.sends("refund.failed", refund("failed", 4_900))
    assert sold.world.balance() == 50


def test_a_payment_of_a_user_who_is_no_more_is_still_refunded(sold: Stripe) -> None:
    event = sold.event(PAID, payment())
    sold.says(event)
    sold.world.services.subscriptions.remove("1")
    assert sold.says(event) == BOUGHT
    assert sold.sends(REFUNDED, charge(490)) == TAKEN
    assert sold.world.balance() == 450


# --- Beside the API -----------------------------------------------------------------------------


def test_a_purchase_of_the_api_is_refunded_by_stripe_in_proportion_to_the_charge(
    sold: Stripe, api: Api
) -> None:
    body = {"user_id": "1", "amount": 40, "payment_id": "pi_1"}
    api.post("/api/credits/purchases", BILLING, body)
    assert sold.sends(REFUNDED, charge(2_450)) == TAKEN
    assert moved(sold) == [("purchase", 40), ("refund", -20)]
    # If the purchase has a price, that is what was paid for its credits.
    priced = {**body, "payment_id": "pi_2", "price": {"amount": 9_800, "currency": "EUR"}}
    api.post("/api/credits/purchases", BILLING, priced)
    assert sold.sends(REFUNDED, charge(2_450, payment_intent="pi_2")) == TAKEN
    assert moved(sold)[2:] == [("purchase", 40), ("refund", -10)]


def test_what_was_refunded_before_the_api_told_of_a_purchase_is_taken_once_its_payment_is_told_of(
    sold: Stripe, api: Api
) -> None:
    """So it is where a crash has left a purchase alone: its payment is told of again."""
    assert sold.sends(REFUNDED, charge(2_450)) == NOTED
    body = {"user_id": "1", "amount": 40, "payment_id": "pi_1"}
    api.post("/api/credits/purchases", BILLING, body)
    assert sold.sends(PAID, payment()) == BOUGHT
    assert moved(sold) == [("purchase", 40), ("refund", -20)]


def refund_by_api(api: Api, amount: int) -> int:
    body = {"payment_id": "pi_1", "amount": amount, "description": "Asked for it"}
    return api.post("/api/credits/refunds", BILLING, body).status


def test_a_refund_that_the_api_reported_stands_as_long_as_stripe_tells_of_none(
    sold: Stripe, api: Api
) -> None:
    sold.sends(CHECKOUT, checkout())
    assert refund_by_api(api, 100) in (200, 201)
    assert sold.sends(PAID, payment()) == BOUGHT
    assert sold.world.balance() == 400


def test_what_stripe_tells_of_counts_after_what_the_api_reported(sold: Stripe, api: Api) -> None:
    sold.sends(PAID, payment())
    refund_by_api(api, 100)
    sold.sends(REFUNDED, charge(2_450))
    assert sold.world.balance() == 250
    # The same refund, told by both, is taken once.
    refund_by_api(api, 250)
    assert sold.world.balance() == 250
    sold.sends(REFUNDED, charge(2_450))
    assert sold.world.balance() == 250


# --- Requests that are no good ------------------------------------------------------------------


def request(body: object, signed: bytes | None = None, **more: Any) -> dict[str, Any]:
    """A request as API Gateway hands it on, signed as Stripe signs it."""
    signature = payloads.signed(signed or b"", STRIPE_SECRET, START)
    return {
        "headers": {"stripe-signature": signature},
        "body": body,
        "isBase64Encoded": False,
        "requestContext": {"requestId": "request-1"},
        **more,
    }


def answer(stripe: Stripe, given: Mapping[str, Any]) -> tuple[int, object]:
    found = webhook.receive(stripe.world.services, dict(given), stripe.world.context)
    body = json.loads(found["body"])
    assert found["headers"]["X-Request-Id"] == "request-1"
    assert found["headers"]["Cache-Control"] == "no-store"
    refused = "" if found["statusCode"] == 200 else "problem+"
    assert found["headers"]["Content-Type"] == f"application/{refused}json"
    assert found["headers"].get("Retry-After") == ("1" if found["statusCode"] == 409 else None)
    return found["statusCode"], body.get("did") or body["code"]


def text(stripe: Stripe) -> bytes:
    return json.dumps(stripe.event(PAID, payment(), seen=START)).encode()


def test_a_body_in_base64_is_decoded_before_its_signature_is_checked(sold: Stripe) -> None:
    body = text(sold)
    encoded = base64.b64encode(body).decode()
    assert answer(sold, request(encoded, body, isBase64Encoded=True)) == BOUGHT
    assert answer(sold, request(encoded, body))[1] == "wrong_signature"
    wrong = request("\udcff", body, isBase64Encoded=True)
    assert answer(sold, wrong) == (400, "invalid_input")
    assert answer(sold, request("\udcff", body)) == (400, "invalid_input")


def test_what_waits_is_asked_for_again_by_a_header(sold: Stripe) -> None:
    event = sold.event(PAID, payment(metadata=PACK | {"price_id": "price_new"}), seen=START)
    body = json.dumps(event).encode()
    assert answer(sold, request(body.decode(), body)) == WAITS


def test_a_body_that_is_too_large_is_not_even_checked(sold: Stripe) -> None:
    assert LARGEST_BODY == 262_144, "events of twenty prices have 30 KB, and some grow"
    fits = b" " * (LARGEST_BODY - 2) + b"{}"
    assert answer(sold, request(fits.decode(), fits)) == (400, "invalid_input")
    large = fits + b" "
    assert answer(sold, request(large.decode(), large)) == (413, "body_too_large")
    wide = "é" * (LARGEST_BODY // 2 + 1)
    assert answer(sold, request(wide, wide.encode())) == (413, "body_too_large")
    encoded = base64.b64encode(large).decode()
    assert answer(sold, request(encoded, large, isBase64Encoded=True)) == (413, "body_too_large")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id":"evt_1"}', b"null"])
def test_a_signed_body_that_is_no_event_is_refused(sold: Stripe, body: bytes) -> None:
    assert answer(sold, request(body.decode(), body)) == (400, "invalid_input")


@pytest.mark.parametrize("body", [None, ""])
def test_a_request_without_a_body_is_not_stripes(sold: Stripe, body: str | None) -> None:
    assert answer(sold, request(body, b"x")) == (400, "wrong_signature")


@pytest.mark.parametrize("headers", [None, {}, {"Stripe-Signature": "x", "stripe-signature": "y"}])
def test_a_request_has_one_signature_whatever_the_case_of_its_name(
    sold: Stripe, headers: dict[str, str] | None
) -> None:
    body = text(sold)
    right = request(body.decode(), body)
    assert answer(sold, right | {"headers": headers}) == (400, "wrong_signature")
    signature = right["headers"]["stripe-signature"]
    twice = {"Stripe-Signature": signature, "stripe-signature": "y"}
    assert answer(sold, right | {"headers": twice}) == (400, "wrong_signature")
    assert answer(sold, right | {"headers": {"STRIPE-SIGNATURE": signature}}) == BOUGHT


def test_without_a_secret_there_is_no_webhook_yet(sold: Stripe) -> None:
    wrong = STRIPE_SECRET.replace("whsec", "none")
    sold.world.services.stripe_secret = KeptSecret(lambda: wrong)
    body = text(sold)
    assert answer(sold, request(body.decode(), body)) == (404, "not_set_up")
    assert moved(sold) == []


def test_a_field_that_cannot_be_read_is_named_and_nothing_moves(sold: Stripe) -> None:
    reply = sold.replies(sold.event(PAID, payment() | {"amount_received": "4900"}))
    assert reply.status == 400
    assert reply.body["errors"] == [
        {
            "field": "data.object.amount_received",
            "message": "must be a whole number of 0 or more",
        }
    ]
    wrong = sold.replies(sold.event(PAID, payment() | {"currency": "euro"}))
    assert (wrong.status, wrong.body["errors"][0]["field"]) == (400, "data.object.currency")
    # It is kept for people to see, as what waits is.
    assert sold.why[0].startswith("data.object.currency: must be the three letters of a currency")
    assert moved(sold) == []


# --- Outages and damage -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "kind", "thing"),
    [
        ("GetItem", "customer.created", customer(user_id="1")),
        ("PutItem", "customer.created", customer(user_id="1")),
        ("ExecuteTransaction", PAID, payment()),
        ("PutItem", REFUNDED, charge(490)),
        ("PutItem", PAID, payment(metadata=PACK | {"price_id": "price_new"})),
    ],
)
def test_an_outage_of_aws_asks_stripe_to_come_again(
    sold: Stripe,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    kind: str,
    thing: dict[str, Any],
) -> None:
    event = sold.event(kind, thing)
    silence = wires.silence()
    with monkeypatch.context() as outage:
        fall_silent(sold.world, outage, operation, silence)
        assert sold.says(event) == (503, "unavailable")
    assert moved(sold) == []
    assert sold.says(event)[0] in (200, 409)


def test_credits_of_a_purchase_are_bought_once_though_its_answer_was_lost(
    sold: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = sold.event(PAID, payment())
    with monkeypatch.context() as outage:
        silence = wires.silence()
        client = sold.world.services.dynamodb
        original = client.call

        def lost(operation: str, arguments: Any) -> Any:
            found = original(operation, arguments)
            if operation == "ExecuteTransaction":
                raise silence
            return found

        outage.setattr(client, "call", lost)
        assert sold.says(event) == (503, "unavailable")
    assert sold.says(event) == BOUGHT
    assert moved(sold) == [("purchase", 500)]


WHOLE = {"S": "-"}


def unexpected() -> float:
    """How many unexpected failures were counted since this was asked last."""
    found = metrics._counted.get(Metric.UNEXPECTED_FAILURES, [0])
    metrics._counted.clear()
    return sum(found)


@pytest.mark.parametrize(
    "change",
    [
        having("user_id", {"N": "1"}),
        having("email", {"L": []}),
        having("version", {"S": "1"}),
        without("version"),
    ],
)
def test_a_customer_who_cannot_be_read_stops_at_that_and_nothing_moves(
    sold: Stripe, change: Change
) -> None:
    sold.sends("customer.created", customer())
    damage("stripe", {"about": {"S": "customer#cus_1"}, "part": WHOLE}, change)
    unexpected()
    assert sold.sends(PAID, payment()) == (500, "unreadable")
    assert unexpected() == 1
    assert moved(sold) == []


@pytest.mark.parametrize(
    "change",
    [
        *(having("body", {"S": body}) for body in ("", "{", "[]", "{}", '{"charged":-1}')),
        having("body", {"N": "1"}),
        without("body"),
        having("version", {"N": "-1"}),
        without("version"),
    ],
)
def test_a_payment_that_cannot_be_read_stops_at_that_and_nothing_moves(
    sold: Stripe, change: Change
) -> None:
    sold.sends(REFUNDED, charge(490))
    damage("stripe", {"about": {"S": "payment#pi_1"}, "part": WHOLE}, change)
    unexpected()
    assert sold.sends(REFUNDED, charge(980)) == (500, "unreadable")
    assert unexpected() == 1


def test_what_waits_and_cannot_be_read_is_an_error_until_it_is_done(sold: Stripe) -> None:
    event = sold.event(PAID, payment(metadata=PACK | {"price_id": "price_new"}))
    sold.says(event)
    damage("stripe", {"about": {"S": "waiting"}, "part": {"S": "pi_1"}}, without("why"))
    assert sold.says(event) == (500, "unreadable")
    with_price(sold, "price_new", CreditPrice(5))
    assert sold.says(event) == BOUGHT
    assert sold.waiting == []


ENTRY = {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}}


def test_a_purchase_whose_entry_cannot_be_read_is_refunded_when_it_can(sold: Stripe) -> None:
    sold.sends(PAID, payment())
    whole: dict[str, Any] = {}
    damage("ledger", ENTRY, lambda item: (whole.update(item), item.update(body={"S": "{"})))
    event = sold.event(REFUNDED, charge(490))
    assert sold.says(event) == (500, "ledger_corrupt")
    damage("ledger", ENTRY, lambda item: item.update(whole))
    assert sold.says(event) == TAKEN
    assert sold.world.balance() == 450
