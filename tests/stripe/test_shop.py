"""The made-up shop does all that it is said to do, and its books agree with what it sends."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cache

import pytest

from tests.stripe.payloads import VERSIONS, Json, conforms
from tests.stripe.shop import PRICES, Pack, Shop, Subscription, year

NEWEST = VERSIONS[-1]
SEEDS = range(6)
UPDATED = "customer.subscription.updated"


@cache
def shop(seed: int) -> Shop:
    return year(seed, NEWEST)


@cache
def small_shop(version: str) -> Shop:
    return year(7, version, users=4)


def shops() -> list[Shop]:
    return [shop(seed) for seed in SEEDS]


def events(*kinds: str) -> Iterator[Json]:
    for each in shops():
        yield from (sent for sent in each.events if not kinds or sent["type"] in kinds)


def about(sent: Json) -> Json:
    found: Json = sent["data"]["object"]
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_event_is_what_its_version_says(version: str) -> None:
    sent = small_shop(version).events
    assert [problem for each in sent for problem in conforms(version, each)] == []


@pytest.mark.parametrize("seed", SEEDS[:2])
def test_every_event_of_a_larger_year_is_what_its_version_says(seed: int) -> None:
    sent = shop(seed).events
    assert [problem for each in sent for problem in conforms(NEWEST, each)] == []


def test_a_seed_is_always_the_same_year() -> None:
    assert year(7, NEWEST, users=4) == small_shop(NEWEST)
    assert year(8, NEWEST, users=4).events != small_shop(NEWEST).events


def test_the_year_of_a_seed_amounts_to_the_same_in_every_version() -> None:
    for version in VERSIONS[:-1]:
        assert small_shop(version).expected == small_shop(NEWEST).expected
        assert small_shop(version).stories == small_shop(NEWEST).stories


def test_a_shop_has_as_many_users_as_are_asked_for_and_begins_when_it_is_told() -> None:
    start = datetime(2028, 2, 29, 8, tzinfo=UTC)
    small = year(1, NEWEST, users=2, start=start)
    assert small.users == ("user-1", "user-2")
    assert small.ends == datetime(2029, 2, 28, 8, tzinfo=UTC)
    assert start.timestamp() < small.events[0]["created"]
    assert small.events[-1]["created"] < small.ends.timestamp() + 120


def test_events_are_in_the_order_in_which_it_happened_and_each_has_an_id() -> None:
    for each in shops():
        times = [sent["created"] for sent in each.events]
        assert times == sorted(times)
        assert len({sent["id"] for sent in each.events}) == len(times)


STORIES = {
    "another refund of one payment",
    "cancel at period end",
    "cancel on a day",
    "cancellation taken back",
    "cancelled at once",
    "checkout left",
    "coming back after the end",
    "coming back before the old one ends",
    "dispute",
    "dispute about a subscription's payment",
    "dispute lost",
    "dispute that was a mere warning",
    "dispute won",
    "downgrade",
    "end of pause_collection",
    "ended as was wished",
    "ended for want of payment",
    "ended while paused",
    "first payment that works later",
    "full refund",
    "incomplete becomes active",
    "incomplete_expired",
    "known by client_reference_id of a checkout session",
    "known by metadata of the customer",
    "known by metadata of the subscription",
    "more taken back than paid",
    "other interval",
    "pack bought",
    "pack bought by somebody without a customer",
    "pack not paid for",
    "pack paid for later",
    "paid: manual",
    "paid: subscription_create",
    "paid: subscription_cycle",
    "paid: subscription_update",
    "partial refund",
    "past_due",
    "past_due becomes active",
    "pause_collection",
    "paused",
    "period in which nothing is collected",
    "refund of a pack that fails",
    "refund of a subscription's payment",
    "refund that fails",
    "resumed",
    "sign-up with trial",
    "sign-up without trial",
    "subscribed by checkout",
    "the old one ends after the new one began",
    "trial that becomes active",
    "trial that ends for want of a payment method",
    "two changes within a second",
    "unpaid",
    "unpaid becomes active",
    "upgrade",
}
KINDS = {
    "charge.dispute.closed",
    "charge.dispute.created",
    "charge.dispute.funds_reinstated",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.updated",
    "charge.failed",
    "charge.refund.updated",
    "charge.refunded",
    "charge.succeeded",
    "charge.updated",
    "checkout.session.async_payment_failed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.completed",
    "checkout.session.expired",
    "customer.created",
    "customer.subscription.created",
    "customer.subscription.deleted",
    "customer.subscription.paused",
    "customer.subscription.resumed",
    "customer.subscription.trial_will_end",
    "customer.subscription.updated",
    "customer.updated",
    "invoice.created",
    "invoice.finalized",
    "invoice.marked_uncollectible",
    "invoice.paid",
    "invoice.payment_failed",
    "invoice.payment_succeeded",
    "invoice.voided",
    "invoice_payment.paid",
    "payment_intent.created",
    "payment_intent.payment_failed",
    "payment_intent.processing",
    "payment_intent.succeeded",
    "refund.created",
    "refund.failed",
    "refund.updated",
}


def test_every_story_is_told_within_a_few_seeds() -> None:
    told = sum((each.stories for each in shops()), Counter[str]())
    assert set(told) == STORIES


def test_every_kind_of_event_is_sent_within_a_few_seeds() -> None:
    assert {sent["type"] for sent in events()} == KINDS


def test_every_status_is_expected_of_somebody_and_nothing_of_somebody_else() -> None:
    seen = [each.expected.subscriptions for each in shops()]
    assert {one.status for users in seen for one in users.values()} == {
        "active",
        "paused",
        "cancelled",
    }
    assert any(len(each.expected.subscriptions) < len(each.users) for each in shops())
    active = [one for users in seen for one in users.values() if one.status == "active"]
    assert {one.ends_at is None for one in active} == {True, False}


def test_what_is_paused_ends_on_no_day_and_what_is_cancelled_has_ended() -> None:
    for each in shops():
        for one in each.expected.subscriptions.values():
            if one.status == "paused":
                assert one.ends_at is None
            if one.status == "cancelled":
                assert one.ends_at is not None
                assert one.ends_at < each.ends


def test_the_prices_say_what_they_stand_for() -> None:
    assert shop(0).prices == PRICES
    pro, pack = PRICES["price_pro_yearly"], PRICES["price_pack_500"]
    assert (pro.plan, pro.interval, pro.credits) == ("pro", "yearly", None)
    assert (pack.plan, pack.credits, pack.amount, pack.currency) == (None, 500, 4900, "eur")


@pytest.mark.parametrize("version", [VERSIONS[0], NEWEST])
def test_an_update_says_exactly_what_was_otherwise_before(version: str) -> None:
    known: dict[str, Json] = {}
    updates = 0
    for sent in small_shop(version).events:
        now = about(sent)
        if sent["type"] == UPDATED:
            before = known[now["id"]]
            differs = {name: value for name, value in before.items() if value != now[name]}
            if "items" in differs:
                differs["items"] = {"data": before["items"]["data"]}
            assert sent["data"]["previous_attributes"] == differs != {}
            updates += 1
        if sent["type"] in ("customer.subscription.created", UPDATED):
            known[now["id"]] = now
    assert updates > 30


def test_a_subscription_is_updated_twice_within_a_second() -> None:
    times = Counter((about(sent)["id"], sent["created"]) for sent in events(UPDATED))
    assert max(times.values()) >= 2


def test_a_subscription_is_deleted_after_the_next_of_its_customer_was_created() -> None:
    begun: dict[str, list[str]] = defaultdict(list)
    overtaken = 0
    for sent in events("customer.subscription.created", "customer.subscription.deleted"):
        one = about(sent)
        if sent["type"].endswith("created"):
            begun[one["customer"]].append(one["id"])
        else:
            overtaken += begun[one["customer"]][-1] != one["id"]
    assert overtaken > 0


def test_one_purchase_is_told_by_its_session_and_by_its_payment_in_either_order() -> None:
    for each in shops():
        told: dict[str | None, list[str]] = defaultdict(list)
        for sent in each.events:
            one = about(sent)
            if sent["type"] == "payment_intent.succeeded" and one["metadata"]:
                told[one["id"]].append("payment")
            elif (one["object"], one.get("payment_status")) == ("checkout.session", "paid"):
                told[one["payment_intent"]].append("session")
        told.pop(None, None)  # what is paid by the invoices of subscriptions
        assert set(told) == set(each.expected.packs)
        assert {tuple(order) for order in told.values()} == {
            ("payment", "session"),
            ("session", "payment"),
        }


def test_a_slow_payment_is_unpaid_when_its_session_is_complete() -> None:
    unpaid = {about(sent)["id"] for sent in events() if is_unpaid(sent)}
    paid_later = {about(sent)["id"] for sent in events("checkout.session.async_payment_succeeded")}
    assert paid_later
    assert paid_later < unpaid


def is_unpaid(sent: Json) -> bool:
    is_complete = sent["type"] == "checkout.session.completed"
    return is_complete and bool(about(sent)["payment_status"] == "unpaid")


def test_what_was_refunded_goes_down_again_when_a_refund_fails() -> None:
    kinds = ("charge.refunded", "charge.updated")
    last: dict[str, int] = {}
    went_down = 0
    for sent in events(*kinds):
        one = about(sent)
        went_down += one["amount_refunded"] < last.get(one["id"], 0)
        last[one["id"]] = one["amount_refunded"]
    assert went_down > 0


def test_credits_go_back_with_the_money_rounded_down_and_never_more_than_were_bought() -> None:
    packs = [pack for each in shops() for pack in each.expected.packs.values()]
    assert any(pack.money_back > pack.paid for pack in packs)
    assert any(pack.credits * pack.money_back % pack.paid for pack in packs)
    assert any(pack.credits_back == 0 < pack.money_back for pack in packs)
    assert any(pack.paid < PRICES[pack.price].amount for pack in packs)
    for pack in packs:
        # In whole credits: one more would be worth more than what went back.
        assert pack.credits == PRICES[pack.price].credits
        assert pack.credits_back <= pack.credits
        assert pack.credits_back * pack.paid <= pack.credits * pack.money_back
        is_all = pack.credits_back == pack.credits
        assert is_all or (pack.credits_back + 1) * pack.paid > pack.credits * pack.money_back


# What the events say at the end, read without the books of the shop.


def users_of(sent: list[Json]) -> dict[str, str]:
    """Which user a subscription is of, by whichever way that is said."""
    by_customer: dict[str, str] = {}
    found: dict[str, str] = {}
    for one in map(about, sent):
        if one["object"] == "customer" and "user_id" in one["metadata"]:
            by_customer[one["id"]] = one["metadata"]["user_id"]
        elif one.get("client_reference_id") and one["customer"]:
            by_customer[one["customer"]] = one["client_reference_id"]
    for one in map(about, sent):
        if one["object"] == "subscription":
            told = one["metadata"].get("user_id")
            found[one["id"]] = told or by_customer[one["customer"]]
    return found


def seen(one: Json) -> Subscription:
    price = PRICES[one["items"]["data"][0]["price"]["id"]]
    status = "active" if one["status"] in ("trialing", "active", "past_due") else "paused"
    if one["pause_collection"]:
        status = "paused"
    if one["status"] == "canceled":
        status = "cancelled"
    ends = one["ended_at"] or one["cancel_at"]
    ends_at = datetime.fromtimestamp(ends, UTC) if ends else None
    return Subscription(status, str(price.plan), str(price.interval), ends_at)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_events_of_the_subscriptions_are_what_the_books_say(seed: int) -> None:
    sent = shop(seed).events
    last = {one["id"]: one for one in map(about, sent) if one["object"] == "subscription"}
    user_of = users_of(sent)
    ranks = ("active", "paused", "cancelled")
    counting: dict[str, tuple[tuple[int, int], Subscription]] = {}
    for one in last.values():
        if one["status"].startswith("incomplete"):
            continue
        found = seen(one)
        rank = (-ranks.index(found.status), one["start_date"])
        user = user_of[one["id"]]
        if user not in counting or rank > counting[user][0]:
            counting[user] = (rank, found)
    expected = {user: found for user, (_, found) in counting.items()}
    assert expected == shop(seed).expected.subscriptions


def money_back(sent: list[Json]) -> Mapping[str, int]:
    """By payment: refunds that did not fail, and what banks took and did not give back."""
    refunds: dict[str, Json] = {}
    disputes: dict[str, tuple[str, int]] = {}
    for each in sent:
        one = about(each)
        if one["object"] == "refund":
            refunds[one["id"]] = one
        elif each["type"] == "charge.dispute.funds_withdrawn":
            disputes[one["id"]] = one["payment_intent"], one["amount"]
        elif each["type"] == "charge.dispute.funds_reinstated":
            del disputes[one["id"]]
    back: Counter[str] = Counter()
    for one in refunds.values():
        if one["status"] != "failed":
            back[one["payment_intent"]] += one["amount"]
    for intent, amount in disputes.values():
        back[intent] += amount
    return back


@pytest.mark.parametrize("seed", SEEDS)
def test_the_last_events_of_the_payments_are_what_the_books_say(seed: int) -> None:
    sent = shop(seed).events
    back = money_back(sent)
    packs = {}
    for one in (about(each) for each in sent if each["type"] == "payment_intent.succeeded"):
        if not one["metadata"]:
            continue
        price, intent, paid = one["metadata"]["price_id"], one["id"], one["amount_received"]
        bought = PRICES[price].credits or 0
        credits_back = min(bought, bought * back[intent] // paid)
        user = one["metadata"]["user_id"]
        packs[intent] = Pack(user, intent, price, paid, back[intent], bought, credits_back)
    assert packs == shop(seed).expected.packs


def test_money_of_subscriptions_goes_back_too_and_concerns_no_pack() -> None:
    of_subscriptions = [
        about(sent) for sent in events("charge.refunded") if not about(sent)["metadata"]
    ]
    packs = {intent for each in shops() for intent in each.expected.packs}
    assert of_subscriptions
    assert not packs & {one["payment_intent"] for one in of_subscriptions}
