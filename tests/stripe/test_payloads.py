"""Payloads are what the API version says, and what contradicts it is found."""

import copy
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.stripe import payloads
from tests.stripe.payloads import VERSIONS, Json, conforms, signed
from tests.stripe.schema import FILES, Release

ACACIA, BASIL, NEWEST = VERSIONS[0], VERSIONS[1], VERSIONS[-1]
START = datetime(2027, 1, 31, 12, 0, 0, 999_999, tzinfo=UTC)
END = START + timedelta(days=28)
SINCE_BASIL = VERSIONS[1:]


def price(version: str) -> Json:
    return payloads.price(
        version, id="price_pro_monthly", created=START, unit_amount=2900, interval="month"
    )


def subscription(version: str, **more: Any) -> Json:
    item = payloads.subscription_item(
        version,
        id="si_1",
        created=START,
        subscription="sub_1",
        price=price(version),
        period_start=START,
        period_end=END,
    )
    given: Json = {"id": "sub_1", "customer": "cus_1", "created": START, "status": "active"}
    given |= {"items": [item], "period_start": START, "period_end": END}
    return payloads.subscription(version, **(given | more))


def invoice(version: str) -> Json:
    line = payloads.invoice_line(
        version,
        id="il_1",
        invoice="in_1",
        price=price(version),
        amount=2900,
        period_start=START,
        period_end=END,
        subscription="sub_1",
        subscription_item="si_1",
    )
    by_hand = payloads.invoice_line(
        version,
        id="il_2",
        invoice="in_1",
        price=payloads.price(version, id="price_help", created=START, unit_amount=100),
        amount=100,
        period_start=START,
        period_end=START,
        invoice_item="ii_1",
    )
    return payloads.invoice(
        version,
        id="in_1",
        created=START,
        customer="cus_1",
        status="paid",
        amount=3000,
        billing_reason="subscription_cycle",
        lines=[line, by_hand],
        period_start=START,
        period_end=END,
        subscription="sub_1",
        subscription_metadata={"user_id": "user-1"},
        payment_intent="pi_1",
        charge="ch_1",
        paid_at=START,
    )


def session(version: str) -> Json:
    return payloads.checkout_session(
        version,
        id="cs_1",
        created=START,
        expires_at=END,
        mode="payment",
        payment_status="paid",
        amount_total=4900,
        payment_intent="pi_1",
        metadata={"user_id": "user-1"},
        email="user@mail.example",
    )


def payment_intent(version: str) -> Json:
    return payloads.payment_intent(
        version, id="pi_1", created=START, amount=4900, latest_charge="ch_1", invoice="in_1"
    )


def charge(version: str) -> Json:
    return payloads.charge(
        version,
        id="ch_1",
        created=START,
        amount=4900,
        amount_refunded=4900,
        payment_intent="pi_1",
        invoice="in_1",
        email="user@mail.example",
    )


def refund(version: str) -> Json:
    return payloads.refund(
        version, id="re_1", created=START, amount=49, charge="ch_1", payment_intent="pi_1"
    )


def dispute(version: str) -> Json:
    booking = payloads.balance_transaction(
        version, id="txn_1", created=START, amount=-4900, source="du_1", fee=1500
    )
    return payloads.dispute(
        version,
        id="du_1",
        created=START,
        amount=4900,
        charge="ch_1",
        payment_intent="pi_1",
        balance_transactions=[booking],
        has_evidence=True,
    )


def customer(version: str) -> Json:
    return payloads.customer(version, id="cus_1", created=START, email="user@mail.example")


MADE: dict[str, Callable[[str], Json]] = {
    "charge.refunded": charge,
    "charge.dispute.created": dispute,
    "checkout.session.completed": session,
    "customer.created": customer,
    "customer.subscription.updated": subscription,
    "invoice.paid": invoice,
    "payment_intent.succeeded": payment_intent,
    "price.created": price,
    "refund.created": refund,
}


def event(version: str, kind: str, previous: Json | None = None) -> Json:
    about = MADE[kind](version)
    return payloads.event(version, kind, about, id="evt_1", created=START, previous=previous)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", MADE)
def test_whatever_is_made_is_what_its_version_says(version: str, kind: str) -> None:
    assert conforms(version, event(version, kind)) == []
    assert conforms(version, MADE[kind](version)) == []


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "state",
    [
        {"status": "paused", "paused_at": END},
        {"pause_behavior": "void", "pause_resumes_at": END},
        {"status": "trialing", "trial_start": START, "trial_end": END},
        {"cancel_at": END, "cancel_at_period_end": True, "canceled_at": START},
        {"status": "canceled", "ended_at": END, "cancellation_reason": "payment_failed"},
    ],
    ids=str,
)
def test_a_subscription_in_any_state_is_what_its_version_says(version: str, state: Json) -> None:
    assert conforms(version, subscription(version, **state)) == []


@pytest.mark.parametrize("version", SINCE_BASIL)
def test_which_payment_paid_an_invoice_is_said_since_basil(version: str) -> None:
    paid = payloads.invoice_payment(
        version, id="inpay_1", created=START, amount=1, invoice="in_1", payment_intent="pi_1"
    )
    assert conforms(version, paid) == []


def test_the_generations_that_are_known_are_five() -> None:
    names = [version.partition(".")[2] for version in VERSIONS]
    assert names == ["acacia", "basil", "clover", "dahlia", "endive"]


def test_a_payload_of_one_generation_contradicts_another() -> None:
    assert conforms(BASIL, subscription(ACACIA))
    assert conforms(ACACIA, subscription(BASIL))
    assert conforms(BASIL, charge(ACACIA)) == ["invoice: unknown to Charge of " + BASIL]


Spoil = Callable[[Json], object]


def _about(spoil: Spoil) -> Spoil:
    return lambda payload: spoil(payload["data"]["object"])


def _item(payload: Json) -> Json:
    found: Json = payload["items"]["data"][0]
    return found


CONTRADICTIONS: list[tuple[Spoil, str]] = [
    (lambda sent: sent.update(plan="pro"), f"plan: unknown to Event of {NEWEST}"),
    (lambda sent: sent.pop("created"), f"created: missing from Event of {NEWEST}"),
    (lambda sent: sent.update(created="now"), "created: 'now' is not int"),
    (lambda sent: sent.update(created=True), "created: True is not int"),
    (lambda sent: sent.update(livemode=0), "livemode: 0 is not bool"),
    (lambda sent: sent.update(id=None), "id: null, but str is required"),
    (lambda sent: sent.update(type="customer.greeted"), "type: 'customer.greeted' is not known"),
    (lambda sent: sent.update(data=[]), "data: [] is not a Event.Data"),
    (
        lambda sent: sent.update(api_version=ACACIA),
        f"api_version: '{ACACIA}' instead of '{NEWEST}'",
    ),
    (
        lambda sent: sent["data"].update(object={"object": "order"}),
        f"data.object.object: 'order' is no object of {NEWEST}",
    ),
    (
        lambda sent: sent["data"].update(previous_attributes={"state": "new"}),
        f"data.previous_attributes.state: unknown to Subscription of {NEWEST}",
    ),
    (
        lambda sent: sent["data"].update(previous_attributes={"status": "new"}),
        (
            "data.previous_attributes.status: 'new' is not one of active, canceled, incomplete, "
            "incomplete_expired, past_due, paused, trialing, unpaid"
        ),
    ),
    (
        lambda sent: sent["data"].update(previous_attributes={"items": {}}),
        "data.previous_attributes.items.data: missing from a list",
    ),
    (
        _about(lambda sent: sent.update(current_period_end=1)),
        f"data.object.current_period_end: unknown to Subscription of {NEWEST}",
    ),
    (
        _about(lambda sent: _item(sent).pop("current_period_end")),
        f"data.object.items.data.0.current_period_end: missing from SubscriptionItem of {NEWEST}",
    ),
    (
        _about(lambda sent: _item(sent)["price"].update(unit_amount_decimal=29.0)),
        "data.object.items.data.0.price.unit_amount_decimal: 29.0 is not decimal",
    ),
    (
        _about(lambda sent: _item(sent)["price"]["recurring"].update(interval="monthly")),
        (
            "data.object.items.data.0.price.recurring.interval: 'monthly' is not one of day, "
            "month, week, year"
        ),
    ),
    (
        _about(lambda sent: sent["items"].pop("has_more")),
        "data.object.items.has_more: missing from a list",
    ),
    (
        _about(lambda sent: sent["items"].update(next="")),
        "data.object.items.next: unknown to a list",
    ),
    (
        _about(lambda sent: sent.update(items=[])),
        "data.object.items: [] is not a list object",
    ),
    (
        _about(lambda sent: sent.update(customer={"id": "cus_1"})),
        "data.object.customer: {'id': 'cus_1'} is not the id of an object",
    ),
    (
        _about(lambda sent: sent.update(discounts=[1])),
        "data.object.discounts.0: 1 is not the id of an object",
    ),
    (
        _about(lambda sent: sent.update(discounts="none")),
        "data.object.discounts: 'none' is not a list",
    ),
    (
        _about(lambda sent: sent["metadata"].update(user_id=1)),
        "data.object.metadata.user_id: 1 is not str",
    ),
    (
        _about(lambda sent: sent.update(metadata=[])),
        "data.object.metadata: [] is not a map",
    ),
    (
        _about(lambda sent: sent.update(default_tax_rates=["txr_1"])),
        "data.object.default_tax_rates.0: 'txr_1' is not anything that is listed here",
    ),
    (
        _about(lambda sent: sent.update(pending_update={})),
        "data.object.pending_update: {} is not null",
    ),
    (
        _about(lambda sent: sent.update(application_fee_percent=True)),
        "data.object.application_fee_percent: True is not float",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "problem"), CONTRADICTIONS, ids=[problem for _, problem in CONTRADICTIONS]
)
def test_each_kind_of_contradiction_is_found_and_nothing_else(spoil: Spoil, problem: str) -> None:
    spoiled = copy.deepcopy(event(NEWEST, "customer.subscription.updated"))
    spoil(spoiled)
    assert conforms(NEWEST, spoiled) == [problem]


def test_what_was_before_may_be_said_in_part() -> None:
    items = subscription(NEWEST)["items"]["data"]
    previous = {"items": {"data": items}, "status": "trialing", "trial_end": None}
    assert conforms(NEWEST, event(NEWEST, "customer.subscription.updated", previous)) == []


def test_a_version_that_is_not_known_is_refused_and_those_that_are_named() -> None:
    with pytest.raises(ValueError, match=r"'2019-12-03' is not known; these are: .*acacia, .*"):
        conforms("2019-12-03", {})


def test_a_period_is_said_by_the_item_since_basil() -> None:
    ends = int(END.timestamp())
    assert subscription(ACACIA)["current_period_end"] == ends
    assert "current_period_end" not in _item(subscription(ACACIA))
    for version in SINCE_BASIL:
        assert "current_period_end" not in subscription(version)
        assert _item(subscription(version))["current_period_end"] == ends


def test_an_invoice_names_its_subscription_in_its_parent_since_basil() -> None:
    old = invoice(ACACIA)
    assert (old["subscription"], old["payment_intent"], old["charge"]) == ("sub_1", "pi_1", "ch_1")
    assert old["subscription_details"] == {"metadata": {"user_id": "user-1"}}
    for version in SINCE_BASIL:
        new = invoice(version)
        assert not new.keys() & {"subscription", "payment_intent", "charge", "paid"}
        said = new["parent"]["subscription_details"]
        assert (said["subscription"], said["metadata"]) == ("sub_1", {"user_id": "user-1"})


def test_a_line_names_its_price_in_its_pricing_since_basil() -> None:
    assert invoice(ACACIA)["lines"]["data"][0]["price"]["id"] == "price_pro_monthly"
    for version in SINCE_BASIL:
        line = invoice(version)["lines"]["data"][0]
        assert "price" not in line
        assert line["pricing"]["price_details"]["price"] == "price_pro_monthly"
        assert line["parent"]["subscription_item_details"]["subscription_item"] == "si_1"


def test_payments_name_their_invoice_before_basil_only() -> None:
    assert [charge(version).get("invoice") for version in VERSIONS] == ["in_1", *[None] * 4]
    assert [payment_intent(version).get("invoice") for version in VERSIONS] == ["in_1", *[None] * 4]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_only_sent_when_asked_for_is_in_no_event(version: str) -> None:
    assert "line_items" not in session(version)
    assert "refunds" not in charge(version)
    assert "subscriptions" not in customer(version)


@pytest.mark.parametrize("version", VERSIONS)
def test_instants_are_whole_seconds(version: str) -> None:
    assert event(version, "invoice.paid")["created"] == 1801396800
    assert invoice(version)["status_transitions"]["paid_at"] == 1801396800


def test_two_payloads_have_nothing_in_common_that_changes() -> None:
    first, second = subscription(NEWEST), subscription(NEWEST)
    first["metadata"]["user_id"] = "user-1"
    first["items"]["data"].clear()
    first["automatic_tax"]["enabled"] = True
    assert second == subscription(NEWEST)


def test_a_header_is_what_stripes_own_library_makes_of_it() -> None:
    # The digest is what `WebhookSignature._compute_signature` of the package stripe answers (11.6.0
    # and 16.1.0); `verify_header` of both takes the header, and refuses it for another body.
    secret, at = "whsec_made_up_for_the_test", datetime(2027, 1, 1, 12, tzinfo=UTC)
    body = '{"id": "evt_1", "größe": "ein € mehr"}'.encode()
    assert signed(body, secret, at) == (
        "t=1798804800,v1=df60adb15f724ce51b949aea24785ec5a6ea052121b7ee6132a9c1e324125c49"
    )
    assert signed(body + b" ", secret, at) != signed(body, secret, at)


def test_the_files_are_small() -> None:
    sizes = {path.name: path.stat().st_size for path in FILES.glob("*.json")}
    assert len(sizes) == 5
    assert max(sizes.values()) < 60_000


CUSTOMER = '''
class Customer(Some["Customer"]):
    """A text that is nobody's business."""

    OBJECT_NAME: ClassVar[Literal["customer"]] = "customer"

    class Address(StripeObject):
        city: Optional[str]

    class Tax(StripeObject):
        class Place(StripeObject):
            name: str

        place: Place

    address: Optional[Address]
    ages: Dict[str, Any]
    balance: Optional[int]
    charge: Optional["Charge"]
    deleted: Optional[Literal[True]]
    friend: ExpandableField["Customer"]
    kind: Union[Literal["b", "a"], str]
    notes: UntypedStripeObject[str]
    rate: Decimal
    source: Optional[ExpandableField[Union["Bank", "Card"]]]
    taxes: List["TaxRate"]
    tax: Tax
    text: ListObject[Union["Bank", "Card"]]
    words: Optional[List[float]]

    def method(self) -> str: ...
'''


def _wheel(folder: Path, customer: str) -> Path:
    path = folder / "stripe.whl"
    with zipfile.ZipFile(path, "w") as archive:
        version = 'class _ApiVersion:\n    CURRENT = "2027-01-01.fir"\n'
        archive.writestr("stripe/_api_version.py", version)
        archive.writestr("stripe/_customer.py", customer)
    return path


def test_a_release_is_read_as_names_and_types(tmp_path: Path) -> None:
    release = Release(_wheel(tmp_path, CUSTOMER))
    assert release.api_version == "2027-01-01.fir"
    assert release.described() == {
        "Customer": {
            "address": "null",
            "ages": "map any",
            "balance": "int?",
            "charge": "null",
            "deleted": "bool?",
            "friend": "id",
            "kind": "= a|b",
            "notes": "map str",
            "rate": "decimal",
            "source": "id?",
            "tax": "@Customer.Tax",
            "taxes": "list other",
            "text": "page other",
            "words": "list float?",
        },
        "Customer.Tax": {"place": "@Customer.Tax.Place"},
        "Customer.Tax.Place": {"name": "str"},
    }


def test_a_type_of_a_new_form_is_named(tmp_path: Path) -> None:
    release = Release(_wheel(tmp_path, "class Customer:\n    age: int | None\n"))
    with pytest.raises(ValueError, match=r"Customer has a type .* not understood: int \| None"):
        release.described()
