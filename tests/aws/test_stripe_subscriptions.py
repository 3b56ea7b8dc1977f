"""Subscriptions of Stripe's over moto: who is registered, on which plan, and from when on."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.billing import MOST_CONTRACTS
from chalicelib.domain.edits import Editor, EditorKind
from chalicelib.domain.errors import Contention
from chalicelib.domain.languages import Language
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.plans import OnSignup
from chalicelib.domain.subscriptions import SubscriptionStatus
from tests.aws.api import ADMIN, BILLING, Api
from tests.aws.damage import Change, damage_subscription, having
from tests.aws.stripe_events import START, Stripe, customer, subscription
from tests.aws.world import World, at, client

CREATED = "customer.subscription.created"
UPDATED = "customer.subscription.updated"
DELETED = "customer.subscription.deleted"
ACTIVE, PAUSED, CANCELLED = SubscriptionStatus
DONE = (200, "subscription")
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
FEBRUARY = at("2026-01-31T23:00:00Z")
"""When it begins in Paris."""


def contracts(stripe: Stripe) -> list[tuple[str, str]]:
    return [
        (contract.id, contract.reports[-1].billed.status) for contract in stripe.user().contracts
    ]


# --- What happens to a subscription -------------------------------------------------------------


def test_a_subscription_lives_from_its_creation_to_its_deletion(stripe: Stripe) -> None:
    assert stripe.sends(CREATED, subscription("price_starter_yearly")) == DONE
    assert (stripe.user().plan, stripe.user().status) == ("starter", ACTIVE)
    assert stripe.sends(UPDATED, subscription("price_business_monthly")) == DONE
    assert (stripe.user().plan, stripe.user().billing_interval) == ("business", "monthly")
    end = START + 9 * DAY
    assert stripe.sends(UPDATED, subscription(cancel_at=end)) == DONE
    assert (stripe.user().status, stripe.user().ends_at) == (ACTIVE, end)
    paused = subscription(pause_behavior="void")
    assert stripe.sends("customer.subscription.paused", paused) == DONE
    assert (stripe.user().status, stripe.user().ends_at) == (PAUSED, None)
    assert stripe.sends("customer.subscription.resumed", subscription()) == DONE
    assert stripe.user().status is ACTIVE
    assert stripe.sends(DELETED, subscription(status="canceled", ended_at=end)) == DONE
    assert (stripe.user().status, stripe.user().ends_at) == (CANCELLED, end)


def test_an_event_that_comes_again_or_late_changes_nothing(stripe: Stripe) -> None:
    first = stripe.event(CREATED, subscription("price_starter_yearly"))
    second = stripe.event(UPDATED, subscription("price_pro_yearly"))
    stripe.says(second)
    before = stripe.user()
    for event in (second, first, second, first):
        assert stripe.says(event) == DONE
    assert stripe.user() == before
    assert len(stripe.edits()) == 1


def test_what_cannot_be_posted_at_once_is_asked_for_again_until_it_is(
    stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    stripe.world.with_plans("pro", on_signup=OnSignup.FULL)
    event = stripe.event(CREATED, subscription())
    with monkeypatch.context() as busy:

        def post(*_: object) -> None:
            raise Contention("somebody writes all the time")

        busy.setattr(stripe.world.services.ledger, "post", post)
        assert stripe.says(event) == (409, "contention")
    assert stripe.world.history() == []
    assert stripe.says(event) == DONE
    assert [entry.amount for entry in stripe.world.history()] == [500]


def test_one_that_was_paid_once_and_never_again_is_left_alone(stripe: Stripe) -> None:
    unpaid = subscription(status="incomplete_expired")
    assert stripe.sends(UPDATED, unpaid, previous={"status": "active"}) == (200, "ignored")


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired"])
def test_one_that_was_never_paid_registers_nobody(stripe: Stripe, status: str) -> None:
    assert stripe.sends(CREATED, subscription(status=status)) == (200, "ignored")
    assert not stripe.is_known()
    assert stripe.sends(UPDATED, subscription(), previous={"status": status}) == DONE
    assert stripe.user().status is ACTIVE


def test_a_subscription_of_something_else_is_nothing_of_ours(stripe: Stripe) -> None:
    assert stripe.sends(CREATED, subscription("price_poster")) == (200, "ignored")
    assert not stripe.is_known()


def test_a_subscription_that_goes_on_without_its_plan_is_over(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription("price_pro_yearly"))
    items = subscription("price_pro_yearly")["items"]["data"]
    poster = subscription("price_poster")
    assert stripe.sends(UPDATED, poster, previous={"items": {"data": items}}) == DONE
    assert stripe.user().status is CANCELLED
    gone = poster | {"status": "canceled"}
    assert stripe.sends(DELETED, gone) == (200, "ignored")
    assert stripe.sends(UPDATED, subscription("price_business_yearly")) == DONE
    assert (stripe.user().status, stripe.user().plan) == (ACTIVE, "business")


def test_a_trial_registers_only_where_trials_grant(stripe: Stripe) -> None:
    services = stripe.world.services
    end = START + 7 * DAY
    trial = subscription(status="trialing", trial_start=START, trial_end=end)
    services.price_list = replace(services.price_list, grants_in_trials=False)
    assert stripe.sends(CREATED, trial) == (200, "ignored")
    assert not stripe.is_known()
    paid = subscription(trial_start=START, trial_end=end)
    assert stripe.sends(UPDATED, paid, seen=end, previous={"status": "trialing"}) == DONE
    assert (stripe.user().status, stripe.user().started_at) == (ACTIVE, end)
    services.price_list = replace(services.price_list, grants_in_trials=True)
    named = subscription(
        status="trialing",
        trial_start=START,
        trial_end=end,
        name="sub_2",
        customer="cus_2",
        metadata={"user_id": "2"},
    )
    assert stripe.sends(CREATED, named, seen=START) == DONE
    assert (stripe.user("2").status, stripe.user("2").started_at) == (ACTIVE, START)


def test_the_timezone_of_a_newcomer_is_what_the_team_wrote_or_that_of_the_prices(
    stripe: Stripe,
) -> None:
    for user_id, said, expected in (
        ("1", {"timezone": "Asia/Tokyo"}, "Asia/Tokyo"),
        ("2", {"timezone": "Tokyo"}, "Europe/Paris"),
        ("3", {}, "Europe/Paris"),
    ):
        metadata = {"user_id": user_id, **said}
        thing = subscription(name=f"sub_{user_id}", customer=f"cus_{user_id}", metadata=metadata)
        assert stripe.sends(CREATED, thing) == DONE
        assert stripe.user(user_id).timezone == expected


def test_the_language_of_a_newcomer_is_what_the_team_wrote_or_english(stripe: Stripe) -> None:
    said = ({"language": "de-AT"}, Language.GERMAN), ({"language": "fr"}, Language.ENGLISH)
    for number, (more, expected) in enumerate((*said, ({}, Language.ENGLISH))):
        metadata = {"user_id": f"{number}", **more}
        thing = subscription(name=f"sub_{number}", customer=f"cus_{number}", metadata=metadata)
        assert stripe.sends(CREATED, thing) == DONE
        assert stripe.user(f"{number}").language is expected


@pytest.mark.parametrize(
    ("locales", "metadata", "expected"),
    [
        (["de-CH"], {}, Language.GERMAN),
        (["fr-FR", "de", "en"], {}, Language.GERMAN),
        (["de"], {"language": "en-GB"}, Language.ENGLISH),
        (["de"], {"language": "fr"}, Language.GERMAN),
        (["fr", "auto", ""], {}, Language.ENGLISH),
        ([], {}, Language.ENGLISH),
        (None, {}, Language.ENGLISH),
    ],
)
def test_a_newcomer_has_the_language_that_stripe_prefers_unless_the_team_wrote_one(
    stripe: Stripe, locales: list[str] | None, metadata: dict[str, str], expected: Language
) -> None:
    person = customer() | {"preferred_locales": locales}
    assert stripe.sends("customer.created", person) == (200, "customer")
    assert stripe.sends(CREATED, subscription(metadata={"user_id": "1", **metadata})) == DONE
    assert stripe.user().language is expected


def test_a_language_that_stripe_prefers_later_changes_nobody_s(stripe: Stripe) -> None:
    assert stripe.sends(CREATED, subscription()) == DONE
    person = customer(email=None) | {"preferred_locales": ["de"]}
    assert stripe.sends("customer.updated", person) == (200, "customer")
    assert stripe.user().language is Language.ENGLISH
    assert stripe.user().version == 1


# --- Credits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [1, 20])
def test_a_month_that_began_between_an_event_and_its_arrival_is_granted_at_once(
    stripe: Stripe, days: int
) -> None:
    begun = FEBRUARY - DAY
    event = stripe.event(CREATED, subscription(begun=begun), seen=begun)
    stripe.world.now = FEBRUARY + days * DAY
    assert stripe.says(event) == DONE
    assert stripe.world.summary() == [("allocation", 500, 500)]


def test_the_months_of_a_pause_are_not_granted(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription())
    stripe.sends(UPDATED, subscription(pause_behavior="void"))
    stripe.world.allocate_at("2026-02-01T00:00:00Z")
    back = stripe.event(UPDATED, subscription(), seen=FEBRUARY + DAY)
    assert stripe.says(back) == DONE
    assert stripe.world.summary() == []


def test_who_signs_up_is_welcomed_once(stripe: Stripe) -> None:
    stripe.world.with_plans("pro", on_signup=OnSignup.FULL)
    event = stripe.event(CREATED, subscription())
    for _ in range(2):
        assert stripe.says(event) == DONE
    assert stripe.sends(UPDATED, subscription(cancel_at_period_end=True)) == DONE
    assert stripe.world.summary() == [("allocation", 500, 500)]


def test_who_ends_and_subscribes_again_is_not_welcomed_again(stripe: Stripe) -> None:
    stripe.world.with_plans("pro", on_signup=OnSignup.FULL)
    stripe.sends(CREATED, subscription())
    stripe.sends(DELETED, subscription(status="canceled", ended_at=START + SECOND))
    begun = START + DAY
    stripe.sends(CREATED, subscription(name="sub_2", begun=begun), seen=begun)
    assert stripe.user().status is ACTIVE
    assert stripe.world.summary() == [("allocation", 500, 500)]


# --- Several subscriptions ----------------------------------------------------------------------


def test_an_old_one_that_ends_later_takes_nothing_from_the_new_one(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription("price_starter_yearly"))
    begun = START + DAY
    new = subscription("price_business_yearly", name="sub_2", begun=begun)
    stripe.sends(CREATED, new, seen=begun)
    over = subscription("price_starter_yearly", status="canceled", ended_at=begun + SECOND)
    assert stripe.sends(DELETED, over, seen=begun + SECOND) == DONE
    assert (stripe.user().plan, stripe.user().status) == ("business", ACTIVE)
    assert stripe.user().ends_at is None
    assert contracts(stripe) == [("sub_1", CANCELLED), ("sub_2", ACTIVE)]
    (field,) = [each for each in stripe.edits()[0].changes if each.field == "contracts"]
    assert field.before == ["sub_1: active", "sub_2: active"]
    assert field.after == ["sub_1: cancelled", "sub_2: active"]


def test_one_more_than_can_be_kept_waits_until_another_is_over(stripe: Stripe) -> None:
    def numbered(number: int, **more: Any) -> dict[str, Any]:
        return subscription(name=f"sub_{number:02}", **more)

    for number in range(MOST_CONTRACTS):
        stripe.sends(CREATED, numbered(number))
    one_more = stripe.event(CREATED, numbered(99))
    assert stripe.says(one_more) == (409, "waiting")
    assert stripe.why == ["user 1 has 20 other subscriptions, none over"]
    assert stripe.sends(UPDATED, numbered(3, cancel_at_period_end=True)) == DONE
    assert stripe.sends(DELETED, numbered(3, status="canceled", ended_at=START)) == DONE
    assert stripe.says(one_more) == DONE
    assert len(stripe.user().contracts) == MOST_CONTRACTS
    assert stripe.waiting == []


# --- What waits ---------------------------------------------------------------------------------


def test_an_event_without_a_user_waits_until_somebody_says_who_it_is(stripe: Stripe) -> None:
    event = stripe.event(CREATED, subscription(metadata={}))
    assert stripe.says(event) == (409, "waiting")
    (first,) = stripe.waiting
    assert (first.object_id, first.event_type) == ("sub_1", CREATED)
    assert first.why == "nothing says which user customer cus_1 is: metadata.user_id is missing"
    assert (first.since, first.latest) == (stripe.world.now, stripe.world.now)
    # Seen again: since then, and until now.
    stripe.world.now += DAY
    assert stripe.says(event) == (409, "waiting")
    assert stripe.waiting == [first._replace(latest=first.since + DAY)]
    # Done: it is forgotten.
    stripe.sends("customer.updated", customer(user_id="1"))
    assert stripe.says(event) == DONE
    assert stripe.waiting == []


def test_what_waits_goes_by_itself_after_thirty_days(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription("price_new"))
    stripe.world.now += DAY
    stripe.sends(UPDATED, subscription("price_new"))
    key = {"about": {"S": "waiting"}, "part": {"S": "sub_1"}}
    item = client("dynamodb").get_item(TableName="credits-dev-stripe", Key=key)["Item"]
    expected = int((stripe.world.now + 30 * DAY).timestamp())
    assert item["expires_at"] == {"N": str(expected)}


def test_a_price_that_is_not_in_the_list_waits_until_it_is(stripe: Stripe) -> None:
    event = stripe.event(CREATED, subscription("price_new"))
    assert stripe.says(event) == (409, "waiting")
    assert stripe.why == ["stripe.toml does not have the price price_new"]
    services = stripe.world.services
    plan = services.price_list.prices["price_pro_yearly"]
    services.price_list = replace(
        services.price_list, prices={**services.price_list.prices, "price_new": plan}
    )
    assert stripe.says(event) == DONE
    assert stripe.waiting == []


def test_a_price_that_turns_out_to_be_none_of_ours_waits_no_more(stripe: Stripe) -> None:
    event = stripe.event(CREATED, subscription("price_new"))
    stripe.says(event)
    services = stripe.world.services
    services.price_list = replace(
        services.price_list, prices={**services.price_list.prices, "price_new": None}
    )
    assert stripe.says(event) == (200, "ignored")
    assert stripe.waiting == []


def test_an_event_of_a_type_that_nobody_asked_for_does_nothing(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription("price_new"))
    kind = "customer.subscription.trial_will_end"
    assert stripe.sends(kind, subscription("price_new")) == (200, "ignored")
    # It says nothing of whether the other can be done.
    assert len(stripe.waiting) == 1


# --- Beside the API -----------------------------------------------------------------------------

PATH = "/api/subscriptions/1"


def test_edits_over_the_api_keep_the_contracts(stripe: Stripe, api: Api) -> None:
    stripe.sends(CREATED, subscription())
    kept = stripe.user().contracts
    edit = {"email": "new@example.com", "notifications": ["manual"]}
    assert api.patch(PATH, ADMIN, edit).status == 200
    assert stripe.user().contracts == kept
    values = {
        "email": "new@example.com",
        "timezone": "Asia/Tokyo",
        "plan": "business",
        "billing_interval": "yearly",
        "status": "paused",
        "started_at": "2026-01-15T12:00:00Z",
    }
    assert api.put(PATH, BILLING, values).status == 200
    assert stripe.user().contracts == kept
    assert (stripe.user().plan, stripe.user().status) == ("business", PAUSED)
    # What Stripe tells next counts again, and keeps what is not Stripe's to say.
    assert stripe.sends(UPDATED, subscription("price_starter_yearly")) == DONE
    now = stripe.user()
    assert (now.plan, now.status, now.timezone) == ("starter", ACTIVE, "Asia/Tokyo")
    assert (now.email, now.notifications) == ("new@example.com", frozenset({MailKind.MANUAL}))
    assert now.resumed_at == stripe.world.now


def test_the_history_of_edits_says_which_event_made_one(stripe: Stripe, api: Api) -> None:
    stripe.sends(CREATED, subscription())
    stripe.sends(UPDATED, subscription("price_business_yearly"))
    newest, first = api.get(f"{PATH}/edits", ADMIN).json["items"]
    assert first["edited_by"] == {"kind": "stripe", "subject": "evt_001"}
    assert first["changes"][-1] == {
        "field": "contracts",
        "before": None,
        "after": ["sub_1: active"],
    }
    assert newest["edited_by"] == {"kind": "stripe", "subject": "evt_002"}
    assert newest["changes"][0] == {"field": "plan", "before": "pro", "after": "business"}
    assert stripe.edits()[0].editor == Editor(EditorKind.STRIPE, "evt_002")
    # The subscription itself is shown without them.
    assert "contracts" not in api.get(PATH, ADMIN).json


# --- Damage -------------------------------------------------------------------------------------


def said(text: object) -> Change:
    return having("contracts", {"S": text if isinstance(text, str) else json.dumps(text)})


BILLED = ["pro", "yearly", "active", 1768478400000, None]


@pytest.mark.parametrize(
    "wrong",
    [
        having("contracts", {"N": "1"}),
        having("contracts", {"L": []}),
        *(said(text) for text in ("", "{", "null", "{}", "7")),
        said([["sub_1", 1768478400000, []]]),
        said([["sub_1", "2026", [["e", BILLED, None]]]]),
        said([["sub_1", 1768478400000, [["e", BILLED]]]]),
        said([["sub_1", 1768478400000, [["e", None, None]]]]),
        said([["sub_1", 1768478400000, [[5, BILLED, None]]]]),
        said([["sub_1", 1768478400000, [["e", ["pro", "weekly", *BILLED[2:]], None]]]]),
        said([["sub_1", 1768478400000, [["e", [*BILLED[:2], "frozen", *BILLED[3:]], None]]]]),
        said([["sub_1", 1768478400000, [["e", [*BILLED[:3], None, None], None]]]]),
        said([["sub_1", 1768478400000, [["e", [*BILLED[:3], True, None], None]]]]),
        said([["sub_1", 1768478400000, [["e", BILLED, "before"]]]]),
        said([["sub_1", 1768478400000, [["e", BILLED, BILLED[:4]]]]]),
        said(["abc"]),
    ],
)
def test_contracts_that_cannot_be_read_stop_at_that_and_nothing_moves(
    stripe: Stripe, wrong: Change
) -> None:
    stripe.sends(CREATED, subscription())
    damage_subscription(wrong)
    event = stripe.event(UPDATED, subscription("price_business_yearly"))
    assert stripe.says(event) == (500, "unreadable")
    assert len(stripe.edits()) == 1
    assert stripe.world.lines() == []


def test_the_other_users_go_on(stripe: Stripe, world: World) -> None:
    stripe.sends(CREATED, subscription())
    world.subscribe("2")
    world.zones.add("Europe/Paris")
    damage_subscription(said("{"))
    world.now = FEBRUARY
    world.allocation_tick("2026-01-31T23:00:00Z")
    world.deliver_waiting("sweeps")
    world.deliver("allocations", world.take("allocations"))
    assert world.balance("2") == 500
