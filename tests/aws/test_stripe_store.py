"""The table of what is known of Stripe: of writers at the same time none is lost."""

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.errors import Contention
from chalicelib.domain.taken_back import Seen
from chalicelib.store.stripe import Customer, StripeStore
from tests.aws.test_stripe import START, Events, charge, events, payment, shop, subscription
from tests.aws.world import World
from tests.stripe import payloads
from tests.stripe.endpoint import deliver

__all__ = ["events", "shop"]

ADA = "ada@example.com"


def interrupted(store: StripeStore, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Another writer is faster, so many times: between what is read and what is written."""
    read = store._item
    left = [times]

    def item(about: str, part: str) -> Any:
        found = read(about, part)
        if left[0] > 0:
            left[0] -= 1
            version = int(found["version"]["N"]) + 1 if found else 1
            store._connection.put_item(
                store._table,
                about,
                part,
                attributes={**(found or {}), "version": {"N": str(version)}},
            )
        return found

    monkeypatch.setattr(store, "_item", item)
    monkeypatch.setattr(store, "_pause", lambda _: None)


@pytest.mark.parametrize("email", [None, ADA])
def test_whoever_was_overtaken_reads_again_and_loses_nothing(
    shop: World, monkeypatch: pytest.MonkeyPatch, email: str | None
) -> None:
    store = shop.services.stripe
    if email:
        store.learn("cus_1", Customer(None, email))
    interrupted(store, monkeypatch, 2)
    learned = store.learn("cus_1", Customer("1"))
    assert learned == store.customer("cus_1") == Customer("1", email)


def test_whoever_is_overtaken_again_and_again_gives_up_and_says_so(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shop.services.stripe
    interrupted(store, monkeypatch, 1_000)
    with pytest.raises(Contention, match=r"^what is known of customer#cus_1 is written too often"):
        store.learn("cus_1", Customer("1"))


def test_only_the_customers_of_the_user_are_forgotten(shop: World) -> None:
    store = shop.services.stripe
    for customer_id, user_id in (("cus_1", "1"), ("cus_2", "2"), ("cus_3", "1")):
        store.learn(customer_id, Customer(user_id))
    store.note("pi_1", lambda known: known.with_charge(100, Seen(START, 10)))
    assert sorted(store.erase("1")) == ["cus_1", "cus_3"]
    assert store.customer("cus_1") == Customer()
    assert store.customer("cus_2") == Customer("2")
    assert store.payment("pi_1").in_all == 10


def test_an_address_that_the_product_has_set_stays(shop: World, events: Events) -> None:
    deliver(shop, events.of("customer.subscription.created", subscription()))
    shop.subscribe(email="product@example.com")
    told = payloads.customer(payloads.VERSIONS[-1], id="cus_1", created=START, email=ADA)
    assert deliver(shop, events.of("customer.updated", told)).status == 200
    assert shop.services.subscriptions.get("1").email == "product@example.com"


def test_a_user_whom_the_product_has_registered_is_given_no_address(
    shop: World, events: Events
) -> None:
    shop.subscribe(email=None)
    told = payloads.customer(
        payloads.VERSIONS[-1], id="cus_1", created=START, email=ADA, metadata={"user_id": "1"}
    )
    deliver(shop, events.of("customer.updated", told))
    assert shop.services.subscriptions.get("1").email is None
    assert shop.services.stripe.customer("cus_1") == Customer("1", ADA)


def test_to_the_cent_nothing_is_left_of_a_dispute_that_was_won(shop: World, events: Events) -> None:
    shop.subscribe()
    deliver(shop, events.of("payment_intent.succeeded", payment()))
    values: dict[str, Any] = {
        "id": "dp_1",
        "created": START,
        "amount": 980,
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "status": "won",
        "reason": "fraudulent",
    }
    dispute = payloads.dispute(payloads.VERSIONS[-1], **values)
    deliver(shop, events.of("charge.dispute.funds_withdrawn", dispute))
    assert shop.services.stripe.payment("pi_1").in_all == 980
    later = START + timedelta(seconds=1)
    deliver(shop, events.of("charge.dispute.funds_reinstated", dispute, later))
    assert shop.services.stripe.payment("pi_1").in_all == 0


@pytest.mark.parametrize(("refunded", "in_all"), [(0, 0), (1900, 0), (1901, 1)])
def test_to_the_cent_what_was_never_collected_is_no_refund(
    shop: World, events: Events, refunded: int, in_all: int
) -> None:
    deliver(shop, events.of("charge.refunded", charge(refunded) | {"amount_captured": 3000}))
    assert shop.services.stripe.payment("pi_1").in_all == in_all
