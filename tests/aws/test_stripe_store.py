"""The table of what is known of Stripe: of writers at the same time none is lost."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.errors import Contention, Unreadable
from chalicelib.domain.taken_back import Seen
from chalicelib.retries import MOST_ATTEMPTS
from chalicelib.store.stripe import Customer, StripeStore
from tests.aws.test_store import asked
from tests.aws.test_stripe import START, Events, charge, events, payment, shop, subscription
from tests.aws.world import World, client
from tests.stripe import payloads
from tests.stripe.endpoint import deliver

__all__ = ["events", "shop"]

ADA = "ada@example.com"


def put(store: StripeStore, about: str, part: str, attributes: Any) -> None:
    """Writes an item, whatever is there."""
    item = {"about": {"S": about}, "part": {"S": part}, **attributes}
    store._client.call("PutItem", {"TableName": store._table, "Item": item})


def interrupted(store: StripeStore, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Another writer is faster, so many times: between what is read and what is written."""
    read = store._item
    left = [times]

    def item(about: str, part: str) -> Any:
        found = read(about, part)
        if left[0] > 0:
            left[0] -= 1
            version = int(found["version"]["N"]) + 1 if found else 1
            put(store, about, part, {**(found or {}), "version": {"N": str(version)}})
        return found

    monkeypatch.setattr(store, "_item", item)


@pytest.mark.parametrize("email", [None, ADA])
def test_a_writer_that_was_overtaken_reads_again_and_loses_nothing(
    shop: World, monkeypatch: pytest.MonkeyPatch, email: str | None
) -> None:
    store = shop.services.stripe
    if email:
        store.learn("cus_1", Customer(None, email))
    interrupted(store, monkeypatch, 2)
    monkeypatch.setattr(store, "_pause", lambda _: None)
    learned = store.learn("cus_1", Customer("1"))
    assert learned == store.customer("cus_1") == Customer("1", email)


def test_what_another_writer_says_meanwhile_is_not_written_over(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shop.restarted().stripe
    for customer_id, before in (("cus_1", None), ("cus_2", "1")):
        store = shop.restarted().stripe
        if before:
            store.learn(customer_id, Customer(before))
        read = store._item
        faster = iter([lambda name=customer_id: other.learn(name, Customer(None, ADA))])

        def item(about: str, part: str, read: Any = read, faster: Any = faster) -> Any:
            found = read(about, part)
            next(faster, lambda: None)()
            return found

        monkeypatch.setattr(store, "_item", item)
        assert store.learn(customer_id, Customer("1", "x@example.com")).user_id == "1"
        assert store.customer(customer_id) == Customer("1", ADA)


def test_a_writer_that_is_overtaken_again_and_again_gives_up_after_pauses_and_says_so(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []
    store = StripeStore(shop.restarted().dynamodb, "credits-dev-stripe", pauses.append)
    interrupted(store, monkeypatch, 1_000)
    with pytest.raises(Contention, match=r"^what is known of customer#cus_1 is written too often"):
        store.learn("cus_1", Customer("1"))
    assert pauses == list(range(1, MOST_ATTEMPTS))


def test_what_is_known_already_stays_and_of_another_user_nothing_is_learned() -> None:
    known = Customer("1")
    assert known.with_more(Customer("2", ADA)) == known
    assert known.with_more(Customer("1", ADA)) == Customer("1", ADA)
    assert Customer("1", ADA).with_more(Customer(None, "b@example.com")) == Customer("1", ADA)


def test_what_is_known_is_read_strongly_consistent_and_written_only_if_it_is_new(
    shop: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = shop.services.stripe
    calls = asked(shop, monkeypatch)
    for _ in range(2):
        store.learn("cus_1", Customer("1"))
        store.note("pi_1", lambda known: known.with_charge(100, Seen(START, 10)))
    store.customer("cus_1")
    store.payment("pi_1")
    reads = [asks.get("ConsistentRead") for name, asks in calls if name == "GetItem"]
    assert reads == [True] * 6
    assert [name for name, _ in calls].count("PutItem") == 2
    versions = [item["version"] for item in stored_items(shop)]
    assert versions == [{"N": "1"}, {"N": "1"}]


def stored_items(world: World) -> list[Any]:
    table = world.services.stripe._table
    items: list[Any] = client("dynamodb").scan(TableName=table)["Items"]
    return items


@pytest.mark.parametrize(
    ("about", "part", "read", "key"),
    [
        ("customer#cus_1", "-", lambda store: store.customer("cus_1"), "cus_1"),
        ("payment#pi_1", "-", lambda store: store.payment("pi_1"), "pi_1"),
        ("waiting", "sub_1", lambda store: [*store.waiting()], "sub_1"),
        (
            "customer#cus_1",
            "-",
            lambda store: store.learn("cus_1", Customer("1")),
            "customer#cus_1",
        ),
    ],
)
def test_what_cannot_be_read_is_named(
    shop: World, about: str, part: str, read: Callable[[StripeStore], Any], key: str
) -> None:
    damaged = {"user_id": {"N": "1"}, "body": {"S": "{"}, "since": {"S": "x"}}
    store = shop.services.stripe
    put(store, about, part, damaged)
    with pytest.raises(Unreadable) as refused:
        read(store)
    assert str(refused.value).startswith(f"stripe of {key}: ")


def test_an_item_without_a_version_is_named(shop: World) -> None:
    store = shop.services.stripe
    attributes = {"user_id": {"S": "1"}}
    put(store, "customer#cus_1", "-", attributes)
    with pytest.raises(Unreadable) as refused:
        store.learn("cus_1", Customer(None, ADA))
    assert str(refused.value) == "stripe of customer#cus_1: version is missing"


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
