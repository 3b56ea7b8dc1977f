"""What a subscription of Stripe's entitles to, in every state and every version of the API."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalicelib.domain.billing import stands_at, with_report
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.price_list import PriceList
from chalicelib.domain.subscriptions import Billed, Report, SubscriptionStatus
from chalicelib.stripe.contracts import read_report
from chalicelib.stripe.errors import Waiting
from chalicelib.stripe.events import Event, Object
from tests.stripe import payloads
from tests.stripe.endpoint import PRICES

START = parse_instant("at", "2026-01-15T12:00:00Z")
SEEN = START + timedelta(days=3)
END = START + timedelta(days=31)
DAY = timedelta(days=1)
ACTIVE, PAUSED, CANCELLED = SubscriptionStatus
NO_TRIALS = replace(PRICES, grants_in_trials=False)
NO_PAST_DUE = replace(PRICES, grants_past_due=False)
LATEST = payloads.VERSIONS[-1]


def subscription(
    *prices: str, version: str = LATEST, ends: Sequence[datetime] = (), **more: Any
) -> dict[str, Any]:
    """A subscription to these prices, whose items' periods end then."""
    items = [
        payloads.subscription_item(
            version,
            id=f"si_{number}",
            created=START,
            subscription="sub_1",
            price=payloads.price(
                version, id=name, created=START, unit_amount=4_900, interval="month"
            ),
            period_start=START,
            period_end=ends[number] if ends else END,
        )
        for number, name in enumerate(prices or ("price_pro_yearly",))
    ]
    values = {
        "id": "sub_1",
        "customer": "cus_1",
        "created": START,
        "status": "active",
        "items": items,
        "period_start": START,
        "period_end": END,
        **more,
    }
    return payloads.subscription(version, **values)


def event(thing: dict[str, Any], previous: dict[str, Any] | None = None) -> Event:
    return Event(
        "evt_1", "customer.subscription.updated", SEEN, Object(thing, "data.object"), previous
    )


def report(
    thing: dict[str, Any],
    previous: dict[str, Any] | None = None,
    prices: PriceList = PRICES,
) -> Report | None:
    return read_report(event(thing, previous), prices)


def billed(thing: dict[str, Any], prices: PriceList = PRICES) -> Billed:
    found = report(thing, prices=prices)
    assert found is not None
    return found.billed


# --- The state ----------------------------------------------------------------------------------


@pytest.mark.parametrize("prices", [PRICES, NO_TRIALS, NO_PAST_DUE])
@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("active", ACTIVE),
        ("unpaid", PAUSED),
        ("paused", PAUSED),
        ("canceled", CANCELLED),
        ("incomplete", None),
        ("incomplete_expired", None),
    ],
)
def test_a_state_entitles_to_the_same_whatever_the_settings(
    state: str, status: SubscriptionStatus | None, prices: PriceList
) -> None:
    found = report(subscription(status=state, ended_at=SEEN), prices=prices)
    assert (found and found.billed.status) == status


@pytest.mark.parametrize(
    ("state", "prices", "status"),
    [
        ("trialing", PRICES, ACTIVE),
        ("trialing", NO_PAST_DUE, ACTIVE),
        ("trialing", NO_TRIALS, None),
        ("past_due", PRICES, ACTIVE),
        ("past_due", NO_TRIALS, ACTIVE),
        ("past_due", NO_PAST_DUE, PAUSED),
    ],
)
def test_the_team_decides_about_trials_and_about_payments_that_are_due(
    state: str, prices: PriceList, status: SubscriptionStatus | None
) -> None:
    found = report(subscription(status=state), prices=prices)
    assert (found and found.billed.status) == status


@pytest.mark.parametrize("behavior", ["void", "keep_as_draft", "mark_uncollectible"])
@pytest.mark.parametrize(
    ("state", "status"),
    [("active", PAUSED), ("trialing", PAUSED), ("past_due", PAUSED), ("canceled", CANCELLED)],
)
def test_a_subscription_that_collects_nothing_is_paused_unless_it_is_over(
    state: str, status: SubscriptionStatus, behavior: str
) -> None:
    assert billed(subscription(status=state, pause_behavior=behavior)).status == status


@pytest.mark.parametrize("state", ["frozen", "", None])
def test_a_state_that_stripe_does_not_have_is_refused(state: str | None) -> None:
    with pytest.raises(InvalidInput, match=r"\Adata\.object\.status: is no state of a subscrip"):
        report(subscription() | {"status": state})


def test_one_of_which_nothing_was_ever_paid_says_nothing_whatever_its_price() -> None:
    assert report(subscription("price_unknown", status="incomplete")) is None


# --- The plan -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "plan", "interval"),
    [
        ("price_starter_monthly", "starter", BillingInterval.MONTHLY),
        ("price_business_yearly", "business", BillingInterval.YEARLY),
    ],
)
def test_the_price_says_which_plan_it_is(price: str, plan: str, interval: BillingInterval) -> None:
    found = billed(subscription(price))
    assert (found.plan, found.billing_interval) == (plan, interval)


def test_a_price_can_be_told_as_a_whole_or_by_its_id() -> None:
    whole = subscription("price_pro_monthly")
    by_id = subscription("price_pro_monthly")
    by_id["items"]["data"][0]["price"] = "price_pro_monthly"
    assert isinstance(whole["items"]["data"][0]["price"], dict)
    assert billed(whole) == billed(by_id)


@pytest.mark.parametrize("others", [["price_poster"], ["price_unknown"], ["price_pack_500"]])
def test_what_else_is_paid_for_beside_a_plan_changes_nothing(others: list[str]) -> None:
    alone = billed(subscription("price_pro_yearly"))
    assert billed(subscription("price_pro_yearly", *others)) == alone
    assert billed(subscription(*others, "price_pro_yearly")) == alone


def test_two_items_of_one_plan_are_one_plan() -> None:
    assert billed(subscription("price_pro_yearly", "price_pro_yearly")).plan == "pro"


@pytest.mark.parametrize(
    ("prices", "why"),
    [
        (["price_new"], "stripe.toml does not have the price price_new"),
        (["price_new", "price_poster"], "stripe.toml does not have the price price_new"),
        (["price_b", "price_a"], "stripe.toml does not have the price price_b, price_a"),
        (["price_pack_500"], "the price price_pack_500 buys credits, and is paid again and again"),
        (
            ["price_poster", "price_pack_500"],
            "the price price_pack_500 buys credits, and is paid again and again",
        ),
        (
            ["price_pro_yearly", "price_starter_yearly"],
            "the subscription has the prices of 2 plans: price_pro_yearly, price_starter_yearly",
        ),
        (
            ["price_pro_yearly", "price_pro_monthly"],
            "the subscription has the prices of 2 plans: price_pro_yearly, price_pro_monthly",
        ),
    ],
)
def test_what_nobody_can_know_waits(prices: list[str], why: str) -> None:
    with pytest.raises(Waiting) as error:
        report(subscription(*prices))
    assert str(error.value) == why


def test_a_subscription_of_something_else_says_nothing() -> None:
    assert report(subscription("price_poster")) is None
    assert report(subscription() | {"items": None}) is None
    assert report(subscription() | {"items": {"object": "list", "data": []}}) is None


# --- Its start and its end ----------------------------------------------------------------------


def test_it_began_when_stripe_says_and_not_when_it_was_made() -> None:
    assert billed(subscription(start_date=START - 40 * DAY)).started_at == START - 40 * DAY
    assert billed(subscription() | {"start_date": None}).started_at == START
    with pytest.raises(InvalidInput, match=r"\Adata\.object\.start_date: is missing"):
        report(subscription() | {"start_date": None, "created": None})


@pytest.mark.parametrize(("prices", "began"), [(PRICES, START), (NO_TRIALS, START + 2 * DAY)])
def test_where_a_trial_grants_nothing_it_begins_with_the_end_of_the_trial(
    prices: PriceList, began: datetime
) -> None:
    thing = subscription(trial_start=START, trial_end=START + 2 * DAY)
    assert billed(thing, prices).started_at == began
    assert billed(subscription(), prices).started_at == START
    past = subscription(trial_start=START - 9 * DAY, trial_end=START - DAY)
    assert billed(past, prices).started_at == START


ENDED, SAID = START + 5 * DAY, START + 4 * DAY


@pytest.mark.parametrize("version", payloads.VERSIONS)
@pytest.mark.parametrize(
    ("more", "ends_at"),
    [
        ({}, None),
        ({"cancel_at": ENDED}, ENDED),
        ({"cancel_at_period_end": True}, END),
        ({"cancel_at": ENDED, "cancel_at_period_end": True}, ENDED),
        # That it was asked for is no end, nor is a pause, nor what is not collected.
        ({"canceled_at": SAID}, None),
        ({"status": "paused"}, None),
        ({"status": "past_due"}, None),
        ({"status": "unpaid", "cancel_at_period_end": True}, END),
        ({"pause_behavior": "void", "pause_resumes_at": ENDED}, None),
        ({"status": "canceled", "ended_at": ENDED, "canceled_at": SAID}, ENDED),
        ({"status": "canceled", "canceled_at": SAID}, SAID),
        ({"status": "canceled", "canceled_at": SAID, "cancel_at": END}, SAID),
        ({"status": "canceled"}, None),
    ],
)
def test_it_ends_when_stripe_says_in_every_version(
    version: str, more: dict[str, Any], ends_at: datetime | None
) -> None:
    assert billed(subscription(version=version, **more)).ends_at == ends_at


def test_the_period_stands_with_the_subscription_or_with_its_items() -> None:
    old, new = payloads.VERSIONS[0], payloads.VERSIONS[-1]
    ending: dict[str, Any] = {"cancel_at_period_end": True}
    assert "current_period_end" in subscription(version=old)
    assert "current_period_end" not in subscription(version=new)
    assert billed(subscription(version=old, **ending)).ends_at == END
    # Of items with different periods the last to end.
    ends = [END, END + 3 * DAY]
    thing = subscription("price_poster", "price_pro_yearly", ends=ends, **ending)
    assert billed(thing).ends_at == END + 3 * DAY
    thing["items"]["data"] = [{"id": "si_1", "price": "price_pro_yearly"}]
    assert billed(thing).ends_at is None


# --- What was before ----------------------------------------------------------------------------


def test_an_event_says_what_was_before_it() -> None:
    now = subscription("price_business_yearly", cancel_at=ENDED)
    was = subscription("price_pro_yearly")
    previous = {"items": {"data": was["items"]["data"]}, "cancel_at": None}
    found = report(now, previous)
    assert found is not None
    assert found == Report("evt_1", billed(now), billed(was))
    assert found.before is not None
    assert (found.before.plan, found.before.ends_at) == ("pro", None)


@pytest.mark.parametrize("version", payloads.VERSIONS)
def test_an_event_of_what_is_none_of_ours_says_that_nothing_changed(version: str) -> None:
    found = report(subscription(version=version), {"latest_invoice": "in_1"})
    assert found is not None
    assert found.before == found.billed


@pytest.mark.parametrize(
    "previous",
    [
        None,
        {"status": "incomplete"},
        {"status": "frozen"},
        {"status": 5},
        {"items": {"data": [{"id": "si_1", "price": "price_that_was_retired"}]}},
        {"items": {"data": [{"id": "si_1", "price": "price_poster"}]}},
        {"items": {"data": "all"}},
        {"start_date": "yesterday"},
    ],
)
def test_what_was_before_can_be_unknown(previous: dict[str, Any] | None) -> None:
    found = report(subscription(), previous)
    assert found is not None
    assert (found.billed.plan, found.before) == ("pro", None)


def test_a_subscription_that_changes_to_something_else_is_over_for_its_plan() -> None:
    was = subscription("price_pro_yearly")
    previous = {"items": {"data": was["items"]["data"]}}
    for thing in (subscription("price_poster"), subscription() | {"items": {"data": []}}):
        found = report(thing, previous)
        assert found is not None
        assert found.before == billed(was)
        assert found.billed == billed(was)._replace(status=CANCELLED, ends_at=SEEN)
        # Also when it began in the same second.
        begun = with_report((), "sub_1", SEEN, Report("evt_9", billed(was), None))
        (contract,) = with_report(begun, "sub_1", SEEN, found)
        assert stands_at(contract) == found.billed
        # What comes then says nothing of any plan.
        assert report(thing, {"latest_invoice": "in_1"}) is None


def test_a_subscription_that_is_given_a_trial_which_grants_nothing_waits_for_its_end() -> None:
    previous = {"status": "active", "trial_end": None}
    thing = subscription(status="trialing", trial_end=END)
    found = report(thing, previous, NO_TRIALS)
    assert found is not None
    assert found.before is not None
    assert found.before.status is ACTIVE
    assert (found.billed.status, found.billed.plan) == (PAUSED, "pro")
    granting = report(thing, previous)
    assert granting is not None
    assert granting.billed.status is ACTIVE
    # A trial from the first is no subscription yet.
    assert report(thing, None, NO_TRIALS) is None
    assert report(thing, {"latest_invoice": "in_1"}, NO_TRIALS) is None
