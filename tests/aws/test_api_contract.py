"""The contract and the code: each route in the file, and every example in it a real answer.

`UPDATE_EXAMPLES=1 make test ARGS=tests/aws/test_api_contract.py` writes the answers into the file.
"""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from botocore.exceptions import EndpointConnectionError

from app import app
from chalicelib.api import VERSION
from chalicelib.api.forecasts import ASSUMPTIONS, WINDOWS
from chalicelib.api.principal import Scope
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.entries import EntryType
from chalicelib.domain.errors import Contention
from chalicelib.domain.explanations import Decision, ReasonCode
from chalicelib.domain.forecasts import NoRate
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import NotAllocatedBecause, SubscriptionStatus
from chalicelib.operations import months
from chalicelib.upkeep import Upkeep
from tests.aws import contract
from tests.aws.api import ADMIN, BACKEND, BILLING, NOBODY, Api, Caller, Reply, user
from tests.aws.world import World, at, client

REQUEST_ID = "5f7c1b1e-8a52-4f0e-9f6e-3d1c2b4a6978"

ADA: dict[str, object] = {
    "email": "ada@example.com",
    "timezone": "America/New_York",
    "plan": "starter",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-10T09:30:00Z",
}

GATEWAYS = {"TooManyRequests", "GatewayError"}
"""Responses that API Gateway gives by itself: the app cannot make their examples."""


# --- The same routes, fields and words ----------------------------------------------------------


def test_the_file_and_the_code_have_the_same_routes() -> None:
    assert set(contract.operations()) == {
        (method, path)
        for path, methods in app.routes.items()
        for method in methods
        # The console is a page: its routes may change with it.
        if path.startswith("/api/")
    }


def test_the_file_and_the_code_have_the_same_public_routes_and_version() -> None:
    assert contract.document()["info"]["version"] == VERSION
    public = {path for (_, path), found in contract.operations().items() if not found["security"]}
    assert public == {"/api/health", "/api/openapi.json", "/api/unsubscribe"}


def test_the_words_of_the_file_are_those_of_the_code() -> None:
    schemas = contract.document()["components"]["schemas"]

    def words(schema: str, field: str) -> list[str]:
        found: list[str] = schemas[schema]["properties"][field]["enum"]
        return found

    assert words("Transaction", "type") == [kind.value for kind in EntryType]
    assert words("NotAllocatedBecause", "code") == [reason.value for reason in NotAllocatedBecause]
    assert words("ExplainedDecision", "code") == [each.value for each in Decision]
    assert words("ExplainedReason", "code") == [each.value for each in ReasonCode]
    assert words("NoRateBecause", "code") == [each.value for each in NoRate]
    assert words("Assumption", "code") == [*ASSUMPTIONS]
    assert schemas["ForecastRate"]["properties"]["window_days"]["enum"] == [*WINDOWS]
    for schema in ("Subscription", "SubscriptionRequest", "SubscriptionChange"):
        assert words(schema, "status") == [status.value for status in SubscriptionStatus]
        assert words(schema, "billing_interval") == [each.value for each in BillingInterval]
    scopes = {
        scope
        for found in contract.operations().values()
        for requirement in found["security"]
        for scope in requirement["bearerAuth"]
    }
    assert scopes == {scope.value for scope in Scope}


def test_generators_and_linters_can_take_all_of_it() -> None:
    """What openapi-python-client leaves out, orval cannot compile, and Spectral warns of."""
    document = contract.document()
    flows = document["components"]["securitySchemes"]["bearerAuth"]["flows"].values()
    offered = {scope for flow in flows for scope in flow["scopes"]}
    assert offered == set(Scope)
    for found in contract.operations().values():
        assert {scope for each in found["security"] for scope in each["bearerAuth"]} <= offered
        assert all(status.isdecimal() for status in found["responses"])
    components = document["components"]
    headers = [each for each in components["parameters"].values() if each["in"] == "header"]
    assert not any(
        "const" in each["schema"] for each in (*headers, *components["headers"].values())
    )


def test_everything_in_the_file_is_described_and_used() -> None:
    components = contract.document()["components"]
    text = json.dumps(contract.document())
    for kind in ("schemas", "responses", "parameters", "headers"):
        for name, component in components[kind].items():
            assert f'"#/components/{kind}/{name}"' in text, f"nothing uses {kind}/{name}"
            assert component["description"].endswith("."), f"{kind}/{name}"
    for name, schema in components["schemas"].items():
        for field, described in schema["properties"].items():
            assert described["description"].endswith("."), f"{name}.{field}"


# --- The examples -------------------------------------------------------------------------------


class Example(NamedTuple):
    """What was sent and answered, and where in the file that is shown."""

    where: str
    body: object
    reply: Reply


class Examples:
    """Sends requests, and notes what the file is to show of them."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.made: list[Example] = []

    def show(
        self,
        where: str,
        method: str,
        path: str,
        caller: Caller,
        body: object = None,
        **more: Any,
    ) -> Reply:
        """``where``: a status, to show the operation's answer, or the name of a response."""
        reply = self._api.send(method, path, caller, body, request_id=REQUEST_ID, **more)
        if where.isdigit():
            assert reply.status == int(where), reply.text
            route = contract.route_of(path)
            where = f"{method} {route} {where}"
        self.made.append(Example(where, body, reply))
        return reply


@pytest.fixture
def examples(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> list[Example]:
    """A year in the life of user 42, who lives in New York, as far as the API shows it."""
    show = (made := Examples(api)).show
    monkeypatch.setattr(world.services.subscriptions, "_new_id", lambda: "2439cd92f0f21435")
    ada = user("42")
    subscription = "/api/subscriptions/42"
    use = "/api/credits/use"
    world.now = at("2025-05-20T14:00:00Z")
    show("200", "GET", "/api/health", NOBODY)
    show("200", "GET", "/api/plans", ada)
    show("201", "PUT", subscription, BACKEND, ADA)
    show("200", "PUT", subscription, ADMIN, {**ADA, "allocation_amount": 120})
    show("200", "PATCH", subscription, BACKEND, {"allocation_amount": None})
    show("200", "GET", f"{subscription}/edits?limit=2", ADMIN)
    show("200", "GET", subscription, BACKEND)
    show("200", "GET", "/api/subscriptions?email=Ada@example.com", ADMIN)
    world.subscribe("43", timezone="America/New_York", started_at="2025-03-01T00:00:00Z")
    world.now = at("2025-06-02T09:00:00Z")
    run: dict[str, object] = {"period": "2025-06", "zones": ["America/New_York", "Europe/Paris"]}
    runs = "/api/credits/allocation-runs"
    show("200", "POST", runs, ADMIN, {**run, "dry_run": True})
    show("202", "POST", runs, ADMIN, run)
    world.drain()
    world.now += timedelta(hours=1)
    goodwill = {"user_id": 42, "amount": 20, "description": "Goodwill", "expires_in_days": 14}
    show("200", "POST", "/api/credits/allocate", ADMIN, goodwill, key="goodwill-7731")
    world.now += timedelta(hours=1)
    export = {"amount": 70, "description": "Export of 70 pages"}
    usage = show("200", "POST", use, ada, export, key="export-1849").json["transaction_id"]
    world.now += timedelta(minutes=5)
    back = {
        "user_id": 42,
        "transaction_id": usage,
        "amount": 10,
        "description": "Ten pages came out empty",
    }
    show("200", "POST", "/api/credits/reverse", BACKEND, back, key="refund-1849")
    world.now += timedelta(minutes=5)
    show("200", "GET", "/api/credits/allocation-schedule", ada)
    show("200", "GET", "/api/credits/balance", ada)
    show("200", "GET", "/api/credits/explain?amount=71", ada)
    show("200", "GET", "/api/credits/statement?limit=2", ada)
    show("200", "GET", "/api/credits/forecast", ada)
    show("200", "GET", "/api/credits/history?limit=3", ada)
    csv = {"Accept": "text/csv"}
    show("200", "GET", "/api/credits/history?limit=3", ada, headers=csv)

    show_refusals(made, export)
    show_holds(made, world, api)
    show_purchases(made, world)
    show_support(made, world)
    for where, error in (
        ("Contention", Contention("the ledger of user 42 is written too often at the moment")),
        ("Unavailable", EndpointConnectionError(endpoint_url="https://dynamodb")),
        ("InternalError", ZeroDivisionError()),
    ):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr("chalicelib.operations.on_request.use_credits", fail)
        show(where, "POST", use, ada, export, key="e")
    return made.made


def show_refusals(made: Examples, export: dict[str, object]) -> None:
    """What is answered to requests that come to nothing."""
    show, ada = made.show, user("42")
    use, subscription = "/api/credits/use", "/api/subscriptions/42"
    show("InvalidInput", "POST", use, ada, {"amount": 1.5, "note": "?"}, key="a")
    show("Unauthenticated", "GET", "/api/plans", NOBODY)
    show("InsufficientCredits", "POST", use, ada, {**export, "amount": 71}, key="b")
    show("Forbidden", "GET", "/api/credits/balance?user_id=7", ada)
    show("NotFound", "GET", "/api/subscriptions/7", BACKEND)
    show("VersionConflict", "PATCH", subscription, BACKEND, {}, headers={"If-Match": '"2"'})
    show("BodyTooLarge", "POST", use, ada, raw=b" " * 16_385, key="c")
    show(
        "UnsupportedMediaType", "POST", use, ada, raw=b"amount=5", media_type="text/plain", key="d"
    )
    show("Unprocessable", "POST", use, ada, {**export, "amount": 7}, key="export-1849")


def show_holds(made: Examples, world: World, api: Api) -> None:
    """Two jobs: one is charged for, one is not done."""
    show = made.show
    world.now += timedelta(minutes=5)
    job = {"user_id": 42, "amount": 50, "description": "Report on 200 companies"}
    held = {**job, "expires_in_seconds": 900, "metadata": {"report": "77"}}
    hold = show("200", "POST", "/api/credits/holds", BACKEND, held, key="report-77").json["hold_id"]
    show("200", "GET", "/api/credits/holds", user("42"))
    world.now += timedelta(minutes=5)
    capture, release = (f"/api/credits/holds/{hold}/{end}" for end in ("capture", "release"))
    show("200", "POST", capture, BACKEND, {"amount": 31})
    show("HoldEnded", "POST", release, BACKEND, {})
    other = api.post("/api/credits/holds", BACKEND, {**job, "amount": 20}, key="report-78")
    show("200", "POST", f"/api/credits/holds/{other.json['hold_id']}/release", BACKEND, {})
    lead = {"amount": 2, "description": "A lead"}
    leads = [{"key": f"lead-{number}", **lead} for number in (7, 8)]
    many = {"user_id": 42, "items": leads}
    assert (
        api.post("/api/credits/use", BACKEND, {"user_id": 42, **lead}, key="lead-7").status == 200
    )
    used = show("200", "POST", "/api/credits/use-many", BACKEND, many).json["transaction_id"]
    show("200", "GET", f"/api/credits/transactions/{used}", BACKEND)


def show_purchases(made: Examples, world: World) -> None:
    """A pack that is bought, and half of it refunded."""
    show = made.show
    world.now += timedelta(minutes=5)
    payment = "pi_3MtwBwLkdIwHu7ix28a3tqPa"
    pack = {
        "user_id": 42,
        "amount": 500,
        "payment_id": payment,
        "description": "Pack of 500 credits",
        "price": {"amount": 4900, "currency": "EUR"},
    }
    show("200", "POST", "/api/credits/purchases", BILLING, pack)
    world.now += timedelta(minutes=5)
    half = {
        "payment_id": payment,
        "amount": 250,
        "description": "Half of the pack was refunded",
        "observed_at": "2025-06-02T11:35:00Z",
    }
    show("200", "POST", "/api/credits/refunds", BILLING, half)
    world.now += timedelta(minutes=5)
    goodwill = "42-2"
    why = {"description": "Granted to the wrong user"}
    show("200", "POST", f"/api/credits/batches/{goodwill}/void", ADMIN, why, key="void-7731")


def show_support(made: Examples, world: World) -> None:
    """What those who answer user 42 look at."""
    show = made.show
    world.queue_mails()
    world.send_mails()
    show("200", "GET", "/api/subscriptions/42/emails?limit=3", ADMIN)
    show("200", "GET", "/api/credits/transactions/42-2/email", ADMIN)
    show("200", "GET", "/api/credits/transactions/42-2/events", ADMIN)
    counted = {
        "by_zone": {
            "Europe/Paris": Tally(2, 1, missing=1, missing_users=("7",)).values(),
            "America/New_York": Tally(1, 1).values(),
        },
        "counted_at": "2025-06-02T13:30:04Z",
    }
    period = Period(2025, 6)
    world.services.reports.put(months.key_of(period), json.dumps(counted))
    show("200", "GET", f"/api/months/{period}", ADMIN)
    alarm = {
        "AlarmName": f"credits-{world.stage}-dead-letters-sweeps",
        "AlarmDescription": "Messages of sweeps failed for good and wait in its dead-letter queue. "
        "See docs/operating.md#dead-letters",
        "StateUpdatedTimestamp": world.now,
    }
    answer = {"describe_alarms.return_value": {"MetricAlarms": [alarm]}}
    world.services.upkeep = Upkeep(world.settings, client("sqs"), Mock(**answer))
    world.sqs.send_message(QueueUrl=world.queue_url("sweeps-dlq"), MessageBody="dead")
    show("200", "GET", "/api/operations", ADMIN)


def places(document: dict[str, Any], example: Example) -> Iterator[tuple[dict[str, Any], object]]:
    """The media types in the file that show an example, each with what it is to show."""
    media_type = example.reply.headers["content-type"].partition(";")[0]
    is_text = media_type in ("text/csv", "text/plain")
    answered = example.reply.text if is_text else example.reply.json
    if " " not in example.where:
        response = document["components"]["responses"][example.where]
        yield response["content"][media_type], answered
        return
    method, path, status = example.where.split()
    operation = document["paths"][path][method.lower()]
    yield operation["responses"][status]["content"][media_type], answered
    if "requestBody" in operation and status != "202":
        yield operation["requestBody"]["content"]["application/json"], example.body


def test_the_examples_in_the_file_are_real(examples: list[Example]) -> None:
    document = json.loads(json.dumps(contract.document()))
    for example in examples:
        for media_type, value in places(document, example):
            media_type["example"] = value
    if os.environ.get("UPDATE_EXAMPLES"):
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        contract.CONTRACT.write_text(text, encoding="utf-8")
    else:
        assert document == contract.document()


def test_every_request_and_answer_in_the_file_has_an_example() -> None:
    responses = contract.document()["components"]["responses"]
    for name, response in responses.items():
        if name not in GATEWAYS:
            assert "example" in response["content"]["application/problem+json"], name
    for (method, path), operation in contract.operations().items():
        bodies = [operation["requestBody"]] if "requestBody" in operation else []
        for body in [*bodies, *operation["responses"].values()]:
            for media_type, content in body.get("content", {}).items():
                if path != "/api/openapi.json" and media_type != "text/html":
                    assert "example" in content, f"{method} {path} {media_type}"


def test_the_request_examples_are_valid(examples: list[Example]) -> None:
    for example in examples:
        if " " in example.where:
            method, path, _ = example.where.split()
            operation = contract.operations()[method, path]
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                contract.check_value(schema, example.body)


# --- The schemas refuse what the code refuses ---------------------------------------------------


def test_what_the_code_takes_and_refuses_the_schemas_take_and_refuse_too() -> None:
    """Samples at the bounds of each kind of field; the other tests show them of the code."""
    schemas = contract.document()["components"]["schemas"]
    cases: tuple[tuple[str, str, tuple[object, ...], tuple[object, ...]], ...] = (
        (
            "UseRequest",
            "user_id",
            ("1", 0, 10**18 - 1, "a.b_c:d@e|f+g=h-i", "x" * 128, None),
            ("", "a b", "ü", "x" * 129, -1, 10**18, True, "a/b"),
        ),
        ("UseRequest", "amount", (1, 10**9), (0, 1.5, 10**9 + 1, True, "5", None)),
        (
            "UseRequest",
            "description",
            ("x", " x ", "ß" * 500, "a b"),
            ("", "  ", "x" * 501, "a\nb", "\x00", "a\u2028b", 5, None),
        ),
        ("AllocateRequest", "amount", (1, -1, 10**9, -(10**9)), (0, 10**9 + 1, 1.5, None)),
        ("AllocateRequest", "expires_in_days", (1, 3650, None), (0, 3651, 1.5, "7")),
        (
            "AllocationRunRequest",
            "period",
            ("2026-07", "1970-01"),
            ("2026-13", "2026-7", "3000-01"),
        ),
        ("AllocationRunRequest", "zones", (["Etc/GMT+12"], None), ([], "Europe/Paris", [5])),
        (
            "SubscriptionRequest",
            "email",
            ("ada@example.com", "o'hara+x@a-b.example.co", "ada@exämple.de", None),
            (
                *("ada", "ada@", "a b@example.com", "ada@localhost", "ü@example.com"),
                *(
                    "taro..05@example.com",
                    ".a@example.com",
                    "a.@example.com",
                    "a@-b.com",
                    "a@b-.com",
                ),
            ),
        ),
        (
            "SubscriptionRequest",
            "started_at",
            ("2026-01-01T00:00:00Z", "2026-01-01t00:00:00.123456-04:00"),
            ("2026-01-01", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "3000-01-01T00:00:00Z"),
        ),
        ("SubscriptionRequest", "allocation_amount", (1, None), (0, 1.5)),
        (
            "PurchaseRequest",
            "payment_id",
            ("#", "pi_1", "x" * 255),
            ("", "a b", "ä", "x" * 256, 5, None),
        ),
        ("PurchaseRequest", "expires_in_days", (1, 3650, None), (0, 3651, 1.5, "7")),
        ("RefundRequest", "amount", (0, 10**9), (-1, 10**9 + 1, 1.5, None)),
        ("Price", "amount", (0, 10**12), (-1, 10**12 + 1, 9.9, None)),
        ("Price", "currency", ("EUR", "eur"), ("EURO", "€", "E R", None)),
    )
    for schema, field, taken, refused in cases:
        described = schemas[schema]["properties"][field]
        for value in taken:
            contract.check_value(described, value)
        for value in refused:
            with pytest.raises(contract.ValidationError):
                contract.check_value(described, value)
