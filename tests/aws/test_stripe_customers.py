"""Who a customer of Stripe's is: learned from any event, once and for good."""

from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from chalicelib.domain.edits import Change, Editor, EditorKind
from chalicelib.domain.languages import Language
from chalicelib.store.stripe import Customer
from tests.aws.stripe_events import ADA, Stripe, checkout, customer, payment, subscription
from tests.aws.test_unreachable import fall_silent

CREATED = "customer.subscription.created"
BOB = "bob@example.com"


def known(stripe: Stripe, name: str = "cus_1") -> Customer:
    return stripe.world.services.stripe.customer(name)


# --- Learning -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["customer.created", "customer.updated"])
def test_a_customer_says_who_they_are(stripe: Stripe, kind: str) -> None:
    assert stripe.sends(kind, customer(user_id="1")) == (200, "customer")
    assert known(stripe) == Customer("1", ADA)


def test_the_first_language_that_a_customer_is_known_by_stays(stripe: Stripe) -> None:
    german = Language.GERMAN
    for locales, then in ((["fr"], None), (["de-AT", "en"], german), (["en"], german)):
        person = customer(user_id="1") | {"preferred_locales": locales}
        assert stripe.sends("customer.updated", person) == (200, "customer")
        assert known(stripe) == Customer("1", ADA, then)


@pytest.mark.parametrize(
    ("kind", "thing", "expected"),
    [
        (CREATED, subscription(), Customer("1", None)),
        ("checkout.session.completed", checkout(email=ADA), Customer("1", ADA)),
        (
            "checkout.session.completed",
            checkout(mode="subscription", metadata={}, client_reference_id="1", email=ADA),
            Customer("1", ADA),
        ),
        ("checkout.session.completed", checkout(mode="setup", email=ADA), Customer("1", ADA)),
        ("payment_intent.succeeded", payment(), Customer("1", None)),
    ],
)
def test_other_events_say_it_too(
    stripe: Stripe, kind: str, thing: dict[str, Any], expected: Customer
) -> None:
    stripe.world.subscribe()
    assert stripe.sends(kind, thing)[0] == 200
    assert known(stripe) == expected


def test_what_the_team_wrote_counts_before_the_reference_of_the_checkout(stripe: Stripe) -> None:
    said = checkout(mode="subscription", metadata={"user_id": "1"}, client_reference_id="2")
    stripe.sends("checkout.session.completed", said)
    assert known(stripe).user_id == "1"


def test_the_address_of_a_checkout_is_what_was_typed_there_or_what_was_given_to_it(
    stripe: Stripe,
) -> None:
    typed = checkout(mode="subscription", email=ADA) | {"customer_email": BOB}
    stripe.sends("checkout.session.completed", typed)
    given = checkout(mode="subscription", customer="cus_2") | {"customer_email": BOB}
    stripe.sends("checkout.session.completed", given)
    assert (known(stripe).email, known(stripe, "cus_2").email) == (ADA, BOB)


def test_a_customer_is_learned_in_parts(stripe: Stripe) -> None:
    stripe.sends("customer.created", customer())
    assert known(stripe) == Customer(None, ADA)
    stripe.sends("customer.updated", customer(BOB, user_id="1"))
    assert known(stripe) == Customer("1", ADA)


@pytest.mark.parametrize("email", [None, "", "ada", "ada@exa mple.com", "ada@example.com,b@c.de"])
def test_what_no_email_reaches_is_no_address(stripe: Stripe, email: str | None) -> None:
    said = customer(user_id="1") | {"email": email}
    assert stripe.sends("customer.created", said) == (200, "customer")
    assert known(stripe) == Customer("1", None)


def test_a_subscription_finds_its_user_by_its_customer(stripe: Stripe) -> None:
    stripe.sends("customer.created", customer(user_id="1"))
    assert stripe.sends(CREATED, subscription(metadata={})) == (200, "subscription")
    assert stripe.user().email == ADA


# --- One user for good --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "thing"),
    [
        ("customer.updated", customer(BOB, user_id="2")),
        (CREATED, subscription(metadata={"user_id": "2"})),
        ("checkout.session.completed", checkout(metadata={"user_id": "2"}, email=BOB)),
        (
            "payment_intent.succeeded",
            payment(metadata={"user_id": "2", "price_id": "price_pack_500"}),
        ),
    ],
)
def test_a_customer_who_is_said_to_be_another_user_moves_nothing(
    stripe: Stripe, kind: str, thing: dict[str, Any]
) -> None:
    stripe.world.subscribe("1")
    stripe.world.subscribe("2")
    stripe.sends("customer.created", customer(None, user_id="1"))
    assert stripe.sends(kind, thing) == (409, "waiting")
    assert stripe.why == ["customer cus_1 is user 1, and this says 2"]
    assert known(stripe) == Customer("1", None)
    assert stripe.world.lines() == []
    assert [stripe.user(user_id).contracts for user_id in ("1", "2")] == [(), ()]


def test_of_two_events_at_the_same_time_that_say_another_user_one_is_right(
    stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stripe.world.services.stripe
    learn = store.learn

    def late(customer_id: str, said: Customer) -> Customer:
        monkeypatch.setattr(store, "learn", learn)
        stripe.sends("customer.updated", customer(user_id="2"))
        return learn(customer_id, said)

    monkeypatch.setattr(store, "learn", late)
    assert stripe.sends(CREATED, subscription()) == (409, "waiting")
    assert known(stripe).user_id == "2"
    assert not stripe.is_known("1")


@pytest.mark.parametrize("user_id", ["", "a b", "é", "x" * 129])
def test_a_user_who_can_be_none_waits_and_says_what_is_wrong(stripe: Stripe, user_id: str) -> None:
    for kind, thing in (
        ("customer.created", customer(user_id=user_id)),
        (CREATED, subscription(metadata={"user_id": user_id})),
        ("payment_intent.succeeded", payment(metadata={"user_id": user_id, "price_id": "p"})),
    ):
        assert stripe.sends(kind, thing) == (409, "waiting")
    wrong = "metadata.user_id must be 1 to 128 letters, digits and . _ : @ | + = -"
    assert set(stripe.why) == {wrong}
    assert known(stripe) == Customer()


# --- The address of a user whom Stripe brought --------------------------------------------------


def test_an_address_that_is_told_later_is_given_to_the_user(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription())
    assert stripe.user().email is None
    stripe.sends("customer.updated", customer())
    assert stripe.user().email == ADA
    newest = stripe.edits()[0]
    assert newest.editor == Editor(EditorKind.STRIPE, "evt_002")
    assert newest.changes == (Change("email", None, ADA),)
    stripe.sends("customer.updated", customer(BOB))
    assert stripe.user().email == ADA


def test_the_address_of_another_customer_is_given_once_it_is_known_whose_it_is(
    stripe: Stripe,
) -> None:
    stripe.sends(CREATED, subscription())
    stripe.sends("customer.created", customer(name="cus_2"))
    assert stripe.user().email is None
    stripe.sends("customer.updated", customer(user_id="1", name="cus_2"))
    assert stripe.user().email == ADA


@pytest.mark.parametrize("email", [None, BOB])
def test_an_address_that_was_taken_away_or_changed_since_stays_so(
    stripe: Stripe, email: str | None
) -> None:
    stripe.sends("customer.created", customer(user_id="1"))
    stripe.sends(CREATED, subscription())
    assert stripe.user().email == ADA
    stripe.world.subscribe(email=email)
    assert stripe.user().contracts
    stripe.sends("customer.updated", customer(user_id="1"))
    stripe.sends("customer.subscription.updated", subscription())
    # Even if there is news, which is of something else.
    stripe.sends("customer.updated", customer(user_id="1") | {"preferred_locales": ["de"]})
    assert known(stripe).language is Language.GERMAN
    assert stripe.user().email == email


def test_who_wants_no_emails_gets_none_though_they_are_given_an_address(stripe: Stripe) -> None:
    stripe.sends(CREATED, subscription())
    stripe.world.subscribe(notifications=[])
    stripe.sends("customer.updated", customer(user_id="1"))
    assert (stripe.user().email, stripe.user().notifications) == (ADA, frozenset())


def test_a_user_whom_others_registered_is_given_no_address(stripe: Stripe) -> None:
    stripe.world.subscribe(email=None)
    stripe.sends("customer.created", customer(user_id="1"))
    assert stripe.user().email is None


def test_an_address_is_given_though_the_first_attempt_crashed(
    stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    stripe.sends(CREATED, subscription())
    event = stripe.event("customer.updated", customer())
    with monkeypatch.context() as outage:
        silence = ReadTimeoutError(endpoint_url="https://dynamodb")
        fall_silent(stripe.world, outage, "ExecuteTransaction", silence)
        assert stripe.says(event) == (503, "unavailable")
    assert stripe.user().email is None
    assert stripe.says(event) == (200, "customer")
    assert stripe.user().email == ADA


def test_an_address_that_is_told_while_its_user_is_registered_is_given(
    stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stripe.world.services.subscriptions
    change = store.change

    def late(*arguments: Any) -> Any:
        monkeypatch.setattr(store, "change", change)
        stripe.sends("customer.created", customer())
        return change(*arguments)

    monkeypatch.setattr(store, "change", late)
    assert stripe.sends(CREATED, subscription()) == (200, "subscription")
    assert known(stripe) == Customer("1", ADA)
    assert stripe.user().email == ADA


def test_a_user_who_is_registered_while_their_address_is_learned_is_given_it(
    stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stripe.world.services.stripe
    learn = store.learn

    def late(customer_id: str, said: Customer) -> Customer:
        monkeypatch.setattr(store, "learn", learn)
        assert stripe.sends(CREATED, subscription()) == (200, "subscription")
        assert stripe.user().email is None
        return learn(customer_id, said)

    monkeypatch.setattr(store, "learn", late)
    assert stripe.sends("customer.created", customer(user_id="1")) == (200, "customer")
    assert stripe.user().email == ADA


def test_a_user_who_becomes_known_while_an_address_is_learned_is_given_it(
    stripe: Stripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The event itself says nothing of whose address it is: only what is stored by then does."""
    store = stripe.world.services.stripe
    learn = store.learn

    def late(customer_id: str, said: Customer) -> Customer:
        monkeypatch.setattr(store, "learn", learn)
        assert stripe.sends(CREATED, subscription()) == (200, "subscription")
        return learn(customer_id, said)

    monkeypatch.setattr(store, "learn", late)
    assert stripe.sends("customer.created", customer()) == (200, "customer")
    assert stripe.user().email == ADA
