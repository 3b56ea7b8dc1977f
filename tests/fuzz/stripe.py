"""The readers of what Stripe sends, of what is kept of it, and of the list of its prices."""

import json
from typing import Any

from chalicelib.api import stripe as webhook
from chalicelib.api.errors import BodyTooLarge
from chalicelib.domain.billing import stands_at, with_report
from chalicelib.domain.damage import Damage, value_of
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.price_list import CreditPrice, PlanPrice
from chalicelib.domain.subscriptions import Contract
from chalicelib.domain.taken_back import TakenBack
from chalicelib.prices_file import PriceListError, parse_price_list
from chalicelib.services import PRICES_FILE
from chalicelib.store import stripe as store
from chalicelib.store.contracts import as_contracts, contracts_text
from chalicelib.store.reading import read
from chalicelib.stripe import signatures
from chalicelib.stripe.contracts import read_report
from chalicelib.stripe.errors import Waiting, WrongSignature
from chalicelib.stripe.events import Event, read_event
from tests.fuzz.readers import CATALOGUE, NOW, is_instant, item_reader, reader, sendable
from tests.fuzz.target import Kind
from tests.stripe.endpoint import PRICES
from tests.stripe.payloads import signed

Json = Any

SECRET = "whsec_" + "s" * 32
SECONDS = 1_768_478_400
BODY = b'{"id":"evt_1"}'

SUBSCRIPTION = {
    "id": "sub_1",
    "customer": {"id": "cus_1"},
    "status": "active",
    "start_date": SECONDS,
    "cancel_at_period_end": True,
    "items": {
        "data": [
            {"id": "si_1", "price": {"id": "price_pro_yearly"}, "current_period_end": SECONDS},
            {"id": "si_2", "price": "price_poster"},
        ]
    },
}


def event(thing: Json, previous: Json = None) -> str:
    """The text of an event, with what we read of it."""
    data = {"object": thing, "previous_attributes": previous}
    return json.dumps({"id": "evt_1", "type": "charge.refunded", "created": SECONDS, "data": data})


def event_of(text: str) -> Event:
    """An event, of which all that anybody reads can be read."""
    found = read_event(sendable(text).encode())
    thing = found.object
    for name in ("id", "customer", "payment_intent", "charge"):
        thing.reference(name)
    for name in ("amount", "amount_total", "amount_received", "amount_refunded"):
        thing.whole(name)
    for name in ("email", "currency", "status", "mode", "client_reference_id"):
        thing.text(name)
    for name in ("user_id", "price_id", "timezone"):
        thing.metadata(name)
    return found


def contracts_of(text: str) -> tuple[Contract, ...]:
    """What an event of a subscription comes to, as it is stored."""
    found = read_event(sendable(text).encode())
    report = read_report(found, PRICES)
    contracts = with_report((), "sub_1", found.seen_at, report) if report else ()
    assert stored_contracts(contracts_text(contracts)) == contracts
    return contracts


def stored_contracts(text: str) -> tuple[Contract, ...]:
    return value_of({"contracts": {"S": text}}, "contracts", as_contracts)


def can_be_judged(contracts: tuple[Contract, ...]) -> bool:
    """Whether it is known how each stands, at instants that we compute with."""
    return all(
        is_instant(contract.seen_at) and is_instant(stands_at(contract).started_at)
        for contract in contracts
    )


def is_list(value: Any) -> bool:
    """Whether every price stands for what is on offer."""
    return all(
        price is None
        or (isinstance(price, PlanPrice) and price.plan in CATALOGUE)
        or (isinstance(price, CreditPrice) and 0 < price.credits <= 10**9)
        for price in value.prices.values()
    )


def body_of(given: Json) -> bytes:
    """The body of a request; API Gateway hands on a text or nothing."""
    values = given if isinstance(given, dict) else {}
    text = values.get("body")
    request = {"body": text if isinstance(text, str) else None}
    return webhook._body(request | {"isBase64Encoded": values.get("isBase64Encoded") is True})


STATES = "active trialing past_due unpaid paused canceled incomplete incomplete_expired"
PRICE = '[[prices]]\nid = "price_1"\n'

STRIPE = (
    reader(
        "event of Stripe's",
        Kind.JSON,
        event_of,
        event({"id": "ch_1", "amount": 4_900, "amount_refunded": 0, "payment_intent": "pi_1"}),
        event({"id": "cus_1", "email": "ada@example.com", "metadata": {"user_id": "42"}}),
        event({"id": "cs_1", "mode": "payment", "customer": None}, {"mode": None}),
        words=("null", "1e400", str(10**15), "[]", "{}"),
        check=lambda found: is_instant(found.seen_at),
    ),
    reader(
        "event of a subscription of Stripe's",
        Kind.JSON,
        contracts_of,
        event(SUBSCRIPTION),
        event(SUBSCRIPTION | {"cancel_at": SECONDS + 1}, {"cancel_at": None, "status": "trialing"}),
        event(SUBSCRIPTION | {"status": "canceled", "ended_at": SECONDS, "pause_collection": {}}),
        own=(InvalidInput, Waiting),
        check=can_be_judged,
        words=(
            *STATES.split(),
            "price_pro_monthly",
            "price_pack_500",
            "price_x",
            "null",
            "32503680000",
        ),
    ),
    reader(
        "request of Stripe's",
        Kind.VALUE,
        body_of,
        {"body": "e30=", "isBase64Encoded": True},
        {"body": "{}", "isBase64Encoded": False},
        own=(InvalidInput, BodyTooLarge),
        check=lambda body: len(body) <= webhook.LARGEST_BODY,
        words=("=", "e30", "\udcff"),
    ),
    reader(
        "header: Stripe-Signature",
        Kind.TEXT,
        lambda header: signatures.check(BODY, header, [SECRET], NOW),
        *(signed(BODY, SECRET, NOW), f"{signed(BODY, SECRET, NOW)},v0={'0' * 64}, v1="),
        own=WrongSignature,
        words=("t=", ",v1=", "=", ",", "9" * 12, "0" * 64),
    ),
    reader(
        "stripe.toml",
        Kind.TEXT,
        lambda text: parse_price_list(sendable(text), CATALOGUE),
        PRICES_FILE.read_text(encoding="utf-8"),
        f'timezone = "Europe/Paris"\ngrants_in_trials = false\n{PRICE}plan = "pro"\n'
        'billing_interval = "yearly"\n',
        f"{PRICE}credits = 500\nexpires_in_days = 365\npriority = 5\n",
        f"{PRICE}is_ignored = true\n",
        own=PriceListError,
        check=is_list,
        words=("[[prices]]", "[prices]", "[", "a.b = 1", 'plan = "starter"', "=", "credits = 1"),
    ),
    reader(
        "contracts of a subscription",
        Kind.JSON,
        stored_contracts,
        '[["sub_1",1768478400000,[["evt_7",["pro","yearly","active",1768478400000,null],null]]]]',
        '[["sub_1",1768478400000,[["e",["pro","monthly","cancelled",0,5],["a","yearly","paused",0,5]],'
        '["f",["pro","yearly","active",0,null],null]]],["sub_2",0,[["g",["b","yearly","active",0,1],'
        "null]]]]",
        "[]",
        write=contracts_text,
        own=Damage,
        check=can_be_judged,
        words=("active", "paused", "weekly", "null", "[]", "-1", "32503680000000"),
    ),
    reader(
        "what was taken back of a payment",
        Kind.JSON,
        lambda text: value_of({"body": text}, "body", TakenBack.from_body),
        '{"charged":4900,"refunded":[1768478400000,300],"failed":{"re_1":[1768478400000,10]},'
        '"disputed":{"dp_1":[1768478400000,40],"dp_2":[0,0]}}',
        TakenBack().body(),
        write=TakenBack.body,
        own=Damage,
        check=lambda known: 0 <= known.credits_of(500, 4_900) <= 500,
        words=("null", "-1", "1.0", "true", "[]", "{}"),
    ),
    item_reader(
        "customer of Stripe's",
        lambda item: read("stripe", "cus_1", item, store._customer),
        {"about": {"S": "customer#cus_1"}, "part": {"S": "-"}},
        {"user_id": {"S": "42"}, "email": {"S": "ada@example.com"}, "version": {"N": "1"}},
        {"email": {"S": "ada@example.com"}, "version": {"N": "1"}},
        words="S N M",
    ),
    item_reader(
        "payment of Stripe's",
        lambda item: read("stripe", "pi_1", item, store._payment),
        {"about": {"S": "payment#pi_1"}, "part": {"S": "-"}},
        {"body": {"S": TakenBack(4_900).body()}, "version": {"N": "1"}},
        words="S N M {}",
    ),
    item_reader(
        "what waits of Stripe's",
        lambda item: read("stripe", "sub_1", item, store._wait),
        {"about": {"S": "waiting"}, "part": {"S": "sub_1"}},
        {
            "event_type": {"S": "customer.subscription.created"},
            "why": {"S": "there is no user 1"},
            "since": {"N": "1768478400000"},
            "latest": {"N": "1768478400000"},
            "version": {"N": "3"},
        },
        words="S N M -1",
        check=lambda wait: is_instant(wait.since) and is_instant(wait.latest),
    ),
)
