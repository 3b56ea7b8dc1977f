"""What holds for every route: who may do what, what is refused, and what every answer carries."""

import io
import json
import logging
import uuid
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError
from chalice.local import LambdaContext

from app import app
from chalicelib.api import VERSION, about, exchange, problems
from chalicelib.api import errors as api_errors
from chalicelib.api.answers import Answer
from chalicelib.api.calls import Call
from chalicelib.api.errors import BodyTooLarge, Forbidden, Unauthenticated, UnsupportedMediaType
from chalicelib.domain import errors
from chalicelib.domain.errors import Contention, CreditsError
from chalicelib.domain.lifetimes import Days, Months
from chalicelib.domain.plans import (
    AllocateOn,
    BillingInterval,
    OnPlanChange,
    OnSignup,
    Plan,
    PlanCatalogue,
)
from chalicelib.mails.links import UnsubscribeLinks
from chalicelib.observability import logger
from chalicelib.store.throttling import wait_for_room
from tests.aws import contract
from tests.aws.api import ADMIN, BACKEND, BILLING, NOBODY, Api, Caller, user
from tests.aws.world import UNSUBSCRIBE_KEY, World

USE = "/api/credits/use"
BALANCE = "/api/credits/balance"

EXPORT = {"amount": 1, "description": "Export"}
SUBSCRIPTION = {
    "email": "ada@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}

FOR_ADMINS = (401, 403, 403, 403, 403, 403, 403, 403, 200)

READER = Caller("reader", "1", "credits:read")
SPENDER = Caller("spender", "1", "credits:use")
STRANGER = Caller("stranger", "1", "openid profile credits:everything")
CALLERS = (NOBODY, STRANGER, READER, SPENDER, user("1"), user("2"), BACKEND, BILLING, ADMIN)

# Of an unsubscribe link; the link itself says who is meant.
TOKEN = UnsubscribeLinks(UNSUBSCRIBE_KEY, "").token("1", None)

# The answer to each of CALLERS, when the request is about user 1 and names them where it can.
TABLE: tuple[tuple[str, str, object, tuple[int, ...]], ...] = (
    #                                                 nobody    reader    user 1    backend   admin
    #                                                    stranger  spender   user 2    billing
    ("GET", "/api/health", None, (200, 200, 200, 200, 200, 200, 200, 200, 200)),
    ("GET", "/api/openapi.json", None, (200, 200, 200, 200, 200, 200, 200, 200, 200)),
    ("GET", f"/api/unsubscribe?token={TOKEN}", None, (200,) * 9),
    ("POST", f"/api/unsubscribe?token={TOKEN}", None, (200,) * 9),
    ("GET", "/api/plans", None, (401, 200, 200, 200, 200, 200, 200, 200, 200)),
    (
        "GET",
        "/api/credits/allocation-schedule?user_id=1",
        None,
        (401, 403, 200, 403, 200, 403, 200, 200, 200),
    ),
    ("GET", "/api/credits/balance?user_id=1", None, (401, 403, 200, 403, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/history?user_id=1", None, (401, 403, 200, 403, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/explain?user_id=1", None, (401, 403, 200, 403, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/forecast?user_id=1", None, (401, 403, 200, 403, 200, 403, 200, 200, 200)),
    (
        "GET",
        "/api/credits/statement?user_id=1",
        None,
        (401, 403, 200, 403, 200, 403, 200, 200, 200),
    ),
    ("GET", "/api/credits/holds?user_id=1", None, (401, 403, 200, 403, 200, 403, 200, 200, 200)),
    (
        "POST",
        "/api/credits/holds",
        {"user_id": 1, "amount": 1, "description": "Report"},
        (401, 403, 403, 403, 403, 403, 200, 403, 200),
    ),
    # Both end the hold in the same way, so the admin is answered what the backend was.
    (
        "POST",
        "/api/credits/holds/1-3/capture",
        {"amount": 1},
        (401, 403, 403, 403, 403, 403, 200, 403, 200),
    ),
    ("POST", "/api/credits/holds/1-4/release", {}, (401, 403, 403, 403, 403, 403, 200, 403, 200)),
    (
        "GET",
        "/api/credits/explain?transaction_id=1-1",
        None,
        (401, 403, 200, 403, 200, 403, 200, 200, 200),
    ),
    ("GET", "/api/credits/transactions/1-1", None, (401, 403, 200, 403, 200, 403, 200, 200, 200)),
    (
        "GET",
        "/api/credits/transactions/1-1/email",
        None,
        (401, 403, 403, 403, 403, 403, 403, 403, 200),
    ),
    (
        "GET",
        "/api/credits/transactions/1-1/events",
        None,
        (401, 403, 403, 403, 403, 403, 403, 403, 200),
    ),
    (
        "POST",
        "/api/credits/use-many",
        {"user_id": 1, "items": [{"key": "lead-1", **EXPORT}]},
        (401, 403, 403, 403, 403, 403, 200, 403, 403),
    ),
    ("POST", USE, {"user_id": 1, **EXPORT}, (401, 403, 403, 200, 200, 403, 200, 403, 403)),
    (
        "POST",
        "/api/credits/reverse",
        {"user_id": 1, "transaction_id": "1-2", "amount": 1, "description": "Oops"},
        (401, 403, 403, 403, 403, 403, 200, 403, 200),
    ),
    # The payment is the key, so the admin is answered what billing was.
    (
        "POST",
        "/api/credits/purchases",
        {"user_id": 1, "amount": 5, "payment_id": "pi_1"},
        (401, 403, 403, 403, 403, 403, 403, 200, 200),
    ),
    (
        "POST",
        "/api/credits/refunds",
        {"payment_id": "pi_1", "amount": 5, "description": "Asked for it"},
        (401, 403, 403, 403, 403, 403, 403, 200, 200),
    ),
    (
        "POST",
        "/api/credits/allocate",
        {"user_id": 1, "amount": 1, "description": "Goodwill"},
        (401, 403, 403, 403, 403, 403, 403, 403, 200),
    ),
    (
        "POST",
        "/api/credits/batches/1-1/void",
        {"description": "Mistake"},
        (401, 403, 403, 403, 403, 403, 403, 403, 200),
    ),
    (
        "POST",
        "/api/credits/allocation-runs",
        {"period": "2026-01", "zones": ["Europe/Paris"]},
        (401, 403, 403, 403, 403, 403, 403, 403, 202),
    ),
    ("GET", "/api/subscriptions", None, FOR_ADMINS),
    ("GET", "/api/months/2026-01", None, FOR_ADMINS),
    ("GET", "/api/operations", None, FOR_ADMINS),
    ("GET", "/api/subscriptions/1", None, (401, 403, 403, 403, 403, 403, 200, 200, 200)),
    ("PUT", "/api/subscriptions/1", SUBSCRIPTION, (401, 403, 403, 403, 403, 403, 200, 200, 200)),
    ("PATCH", "/api/subscriptions/1", {}, (401, 403, 403, 403, 403, 403, 200, 200, 200)),
    ("GET", "/api/subscriptions/1/emails", None, FOR_ADMINS),
    ("GET", "/api/subscriptions/1/edits", None, FOR_ADMINS),
)


@pytest.fixture
def two_users(world: World) -> World:
    """User 1 has credits and a usage to give back; user 2 exists; a month was counted."""
    counted: dict[str, object] = {"by_zone": {}, "counted_at": "2026-01-02T13:30:00Z"}
    world.services.reports.put("completeness/2026-01/newest.json", json.dumps(counted))
    world.subscribe("1")
    world.subscribe("2")
    world.grant("1", 1000, "credits")
    return world


# --- Who may do what ----------------------------------------------------------------------------


NAMED = {"user_id": "1", "transaction_id": "1-1", "batch_id": "1-1", "period": "2026-01"}


def make_what_the_table_names(api: Api) -> None:
    """Entry 2 is a usage, entries 3 and 4 are holds."""
    api.post(USE, user("1"), {"amount": 100, "description": "Export"}, key="to-give-back")
    for key in ("to-capture", "to-release"):
        hold = {"user_id": 1, "amount": 1, "description": "Report"}
        assert api.post("/api/credits/holds", BACKEND, hold, key=key).status == 200


def test_who_may_do_what(two_users: World, api: Api) -> None:
    make_what_the_table_names(api)
    assert {(method, path.partition("?")[0]) for method, path, _, _ in TABLE} == {
        (method, path.format(**NAMED, hold_id=hold_id))
        for method, path in contract.operations()
        for hold_id in ["1-3" if path.endswith("capture") else "1-4"]
    }
    wrong = []
    for method, path, body, expected in TABLE:
        for caller, status in zip(CALLERS, expected, strict=True):
            before = two_users.lines()
            reply = api.send(method, path, caller, body, key=f"{caller.caller}-key")
            if reply.status != status:
                wrong.append(f"{method} {path} as {caller}: {reply.status}, not {status}")
            if reply.status in (401, 403) and two_users.lines() != before:
                wrong.append(f"{method} {path} as {caller} was refused and wrote")
    assert wrong == []


def test_it_is_not_revealed_whether_another_user_exists(api: Api, two_users: World) -> None:
    assert two_users.balance("2") == 0
    for path in ("allocation-schedule", "balance", "history"):
        for other in ("2", "nobody-of-this-name"):
            reply = api.get(f"/api/credits/{path}?user_id={other}", user("1"))
            assert reply.status == 403
            del reply.json["request_id"]
            assert reply.json["detail"] == "the token does not allow this"
    for other in ("2", "nobody-of-this-name"):
        reply = api.post(USE, user("1"), {"user_id": other, **EXPORT}, key="a")
        assert (reply.status, reply.json["detail"]) == (403, "the token does not allow this")


def test_a_user_who_names_himself_is_answered_as_if_he_had_not(two_users: World, api: Api) -> None:
    assert two_users.balance() == 1000
    own = api.get(BALANCE, user("1")).json
    assert api.get(f"{BALANCE}?user_id=1", user("1")).json == own


def test_an_admin_who_is_a_user_too_reads_his_own_unless_he_names_another(
    two_users: World, api: Api
) -> None:
    assert two_users.balance() == 1000
    both = Caller("ada", "1", "credits:admin")
    assert api.get(BALANCE, both).json["available_balance"] == 1000
    assert api.get(f"{BALANCE}?user_id=2", both).json["available_balance"] == 0
    assert api.post(USE, both, EXPORT, key="a").status == 403


def test_an_admin_or_backend_without_a_user_must_name_one(api: Api) -> None:
    for reply in (api.get(BALANCE, ADMIN), api.post(USE, BACKEND, EXPORT, key="a")):
        assert reply.status == 400
        assert [error["field"] for error in reply.json["errors"]] == ["user_id"]


def test_a_token_with_a_users_scopes_and_no_user_reads_nothing(api: Api) -> None:
    userless = Caller("someone", "", "credits:read credits:use")
    assert api.get(BALANCE, userless).status == 403
    assert api.post(USE, userless, EXPORT, key="a").status == 403


def test_a_request_without_a_token_is_told_how_to_authenticate(api: Api) -> None:
    reply = api.get(BALANCE, NOBODY)
    assert (reply.status, reply.json["code"]) == (401, "unauthenticated")
    assert reply.headers["www-authenticate"] == "Bearer"


# --- What every answer carries ------------------------------------------------------------------


def answers(api: Api) -> Iterator[Any]:
    yield api.get("/api/health", NOBODY)
    yield api.get("/api/plans", NOBODY)
    yield api.get(BALANCE, user("1"))
    yield api.get(BALANCE, user("9"))
    yield api.get("/api/credits/history", user("1"), headers={"Accept": "text/csv"})
    yield api.post(USE, user("1"), EXPORT, key="a")
    yield api.send("DELETE", BALANCE, ADMIN)


def test_every_answer_has_an_id_and_may_not_be_stored(two_users: World, api: Api) -> None:
    assert two_users.balance() == 1000
    for reply in answers(api):
        assert reply.headers["x-request-id"].startswith("request-")
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["strict-transport-security"] == "max-age=63072000; includeSubDomains"
        policy = "default-src 'none'; frame-ancestors 'none'"
        assert reply.headers["content-security-policy"] == policy
        assert reply.headers["referrer-policy"] == "no-referrer"
        if reply.status >= 400:
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.json["status"] == reply.status
            assert reply.json["request_id"] == reply.headers["x-request-id"]


@pytest.mark.usefixtures("api")
def test_a_request_that_the_gateway_gave_no_id_gets_one() -> None:
    event = {
        "requestContext": {"httpMethod": "GET", "resourcePath": "/api/health"},
        "headers": None,
        "pathParameters": None,
        "multiValueQueryStringParameters": None,
        "stageVariables": None,
        "body": None,
    }
    answer = app(event, LambdaContext("api", 512))
    assert answer["statusCode"] == 200
    uuid.UUID(answer["headers"]["X-Request-Id"])


def test_every_route_answers_with_and_without_the_trailing_slash(
    two_users: World, api: Api
) -> None:
    assert two_users.balance() == 1000
    make_what_the_table_names(api)
    for method, path, body, _ in TABLE:
        route, question, query = path.partition("?")
        caller = BACKEND if path.startswith(USE) else ADMIN
        if "reverse" not in path:
            status = api.send(method, path, caller, body, key="a").status
            slashed = api.send(method, f"{route}/{question}{query}", caller, body, key="a")
            assert slashed.status == status < 300, path


def test_health_says_that_the_api_is_up_and_nothing_else(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_services() -> Any:
        return None

    monkeypatch.setattr("chalicelib.api.exchange.services", no_services)
    assert api.get("/api/health", NOBODY).json == {"status": "ok", "version": VERSION}


def test_the_contract_is_served_as_it_is_in_the_repository(api: Api) -> None:
    reply = api.get("/api/openapi.json", NOBODY)
    assert reply.text == contract.CONTRACT.read_text(encoding="utf-8")
    assert reply.headers["cache-control"] == "public, max-age=300"


def test_the_plans_are_those_of_the_catalogue(world: World, api: Api) -> None:
    plans = api.get("/api/plans", user()).json["plans"]
    assert [plan["id"] for plan in plans] == [plan.id for plan in world.services.catalogue.plans]
    assert [plan["id"] for plan in plans if plan["lowest"]] == [world.services.catalogue.lowest.id]
    assert {plan["grants_since"] for plan in plans} == {None}
    everything = Plan(
        id="pro",
        name="Größer",
        monthly_credits=1_500,
        credit_lifetime=Months(14),
        lowest=True,
        grants_since=date(2027, 1, 1),
        allocate_on=AllocateOn.ANNIVERSARY,
        balance_cap=9_000,
        on_signup=OnSignup.PRORATED,
        on_plan_change=OnPlanChange.DIFFERENCE,
        billing_intervals=frozenset(BillingInterval),
        yearly_since=date(2027, 2, 2),
        monthly_since=date(2027, 3, 3),
    )
    nothing_more = Plan("free", "Free", 0, Days(30), lowest=False)
    world.services.catalogue = PlanCatalogue((everything, nothing_more))
    assert api.get("/api/plans", user()).json["plans"] == [
        {
            "id": "pro",
            "name": "Größer",
            "monthly_credits": 1_500,
            "credit_lifetime_days": None,
            "credit_lifetime_months": 14,
            "lowest": True,
            "grants_since": "2027-01-01",
            "allocate_on": "anniversary",
            "billing_intervals": ["yearly", "monthly"],
            "yearly_since": "2027-02-02",
            "monthly_since": "2027-03-03",
            "balance_cap": 9_000,
            "on_signup": "prorated",
            "on_plan_change": "difference",
        },
        {
            "id": "free",
            "name": "Free",
            "monthly_credits": 0,
            "credit_lifetime_days": 30,
            "credit_lifetime_months": None,
            "lowest": False,
            "grants_since": None,
            "allocate_on": "first_of_month",
            "billing_intervals": ["yearly"],
            "yearly_since": None,
            "monthly_since": None,
            "balance_cap": None,
            "on_signup": "none",
            "on_plan_change": "next_period",
        },
    ]


# --- Bodies and queries -------------------------------------------------------------------------


def refused_body(api: Api, raw: bytes) -> tuple[int, str, list[str]]:
    reply = api.post(USE, user("1"), key="a", raw=raw)
    problem = reply.json
    return reply.status, problem["code"], [error["field"] for error in problem["errors"]]


def test_what_is_not_a_json_object_is_refused(two_users: World, api: Api) -> None:
    for raw in (
        b"",
        b"{",
        b"amount=5",
        b"[]",
        b'"text"',
        b"null",
        b'{"amount": NaN, "description": "x"}',
        b'{"amount": Infinity, "description": "x"}',
        b'{"amount": 1, "description": "\xff"}',
        b'\xef\xbb\xbf{"amount": 1, "description": "x"}',
        json.dumps(EXPORT).encode("utf-16"),
        b"[" * 16_000,
        b'{"a":' * 3_000,
        b'{"amount": ' + b"9" * 5_000 + b"}",
    ):
        assert refused_body(api, raw) == (400, "invalid_input", ["body"]), raw[:40]
    assert two_users.balance() == 1000


def test_a_field_that_is_given_twice_is_refused(two_users: World, api: Api) -> None:
    raw = b'{"amount": 1, "description": "x", "amount": 2}'
    reply = api.post(USE, user("1"), key="a", raw=raw)
    assert reply.status == 400
    assert "'amount' is given more than once" in reply.json["detail"]
    twice = f'"{"é" * 101}": 1'
    reply = api.post(USE, user("1"), key="a", raw=f"{{{twice}, {twice}}}".encode())
    in_short = r"\xe9" * 100
    assert f"(the field '{in_short}' is given more than once)" in reply.json["detail"]
    name = "x" * 101
    reply = api.get(f"/api/credits/history?{name}=1&{name}=1&limit=1&type=usage&limit=2", user("1"))
    assert reply.json["errors"] == [
        {"field": field, "message": "must be given only once"} for field in (name[:100], "limit")
    ]
    assert two_users.balance() == 1000


def test_a_number_with_a_point_is_no_whole_number(two_users: World, api: Api) -> None:
    for number in (b"1.0", b"1e2", b"-0.0"):
        raw = b'{"amount": ' + number + b', "description": "x"}'
        assert refused_body(api, raw) == (400, "invalid_input", ["amount"])
    assert two_users.balance() == 1000


def test_a_body_may_have_sixteen_kilobytes_and_no_more(two_users: World, api: Api) -> None:
    exact = json.dumps(EXPORT).encode()
    exact += b" " * (16 * 1024 - len(exact))
    assert refused_body(api, exact + b" ") == (413, "body_too_large", [])
    assert two_users.balance() == 1000
    assert api.post(USE, user("1"), key="a", raw=exact).status == 200


def test_only_json_is_understood(two_users: World, api: Api) -> None:
    raw = json.dumps(EXPORT).encode()
    for media_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf88",
        'application/json; charset="utf8',
        "application/json; charset=",
        "application/json charset=utf-8",
        "application/jsonp",
        "text/plain, application/json",
        "*/*",
    ):
        reply = api.post(USE, user("1"), key="a", raw=raw, media_type=media_type)
        assert (reply.status, reply.json["code"]) == (415, "unsupported_media_type"), media_type
        assert reply.json["detail"] == (
            "the body must be JSON in UTF-8, sent with Content-Type: application/json; "
            f"is {media_type!r}"
        )
    assert two_users.balance() == 1000
    for accepted in (
        "application/json",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
        'application/json;charset="UTF8"',
        "application/json; charset=utf8",
        "application/json; Charset = Utf-8 ;",
        "application/json;",
        None,  # a body without a media type is read as what it must be
    ):
        reply = api.post(
            USE, user("1"), key=f"as-{accepted}".replace(" ", ""), raw=raw, media_type=accepted
        )
        assert reply.status == 200, accepted


def test_a_number_that_is_too_long_to_be_read_is_refused_with_the_bound(
    two_users: World, api: Api
) -> None:
    for digits, field, message in (
        (
            19,
            "amount",
            "must be a whole number from 1 to 1,000,000,000; is 1111111111111111111 (int)",
        ),
        (1000, "amount", "must be a whole number from 1 to 1,000,000,000; is 1111"),
        (1001, "body", "must be JSON in UTF-8 (a number has 1001 digits; at most 1000 are read)"),
    ):
        raw = b'{"description": "Export", "amount": ' + b"1" * digits + b"}"
        reply = api.post(USE, user("1"), key="a", raw=raw)
        (error,) = reply.json["errors"]
        assert (reply.status, error["field"]) == (400, field)
        assert error["message"].startswith(message)
    assert two_users.balance() == 1000


def test_every_route_refuses_query_parameters_it_does_not_know(two_users: World, api: Api) -> None:
    before = two_users.lines()
    for method, path, body, _ in TABLE:
        caller = BACKEND if path.startswith(USE) else ADMIN
        sign = "&" if "?" in path else "?"
        for query in (f"{path}{sign}verbose=1", f"{path}{sign}verbose=1&verbose=1"):
            reply = api.send(method, query, caller, body, key="a")
            assert reply.status == 400, query
            assert [error["field"] for error in reply.json["errors"]] == ["verbose"], query
    assert two_users.lines() == before


@pytest.mark.parametrize("status", [400, 415, 500])
def test_what_the_framework_refuses_otherwise_is_a_failure_of_ours(status: int) -> None:
    answer = problems.of_framework(status, "r-1")
    assert answer.status == 500
    assert answer.body == {
        "type": "urn:credits:problem:internal_error",
        "title": "The request failed",
        "status": 500,
        "code": "internal_error",
        "detail": "the request failed",
        "errors": [],
        "request_id": "r-1",
    }


def test_a_method_that_a_route_does_not_know_is_a_problem_too(api: Api) -> None:
    reply = api.send("DELETE", "/api/subscriptions/1", ADMIN)
    assert (reply.status, reply.json["code"]) == (405, "method_not_allowed")
    assert reply.headers["allow"] == "GET, PUT, PATCH"


# --- What is not the caller's fault -------------------------------------------------------------


def failing_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("chalicelib.api.account.balance", fail)


def test_an_outage_of_aws_is_told_with_when_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for error in (
        EndpointConnectionError(endpoint_url="https://dynamodb"),
        ConnectTimeoutError(endpoint_url="https://dynamodb"),
    ):
        failing_with(monkeypatch, error)
        reply = api.get(BALANCE, user("1"))
        assert (reply.status, reply.json["code"]) == (503, "unavailable")
        assert reply.headers["retry-after"] == "1"
        assert "dynamodb" not in reply.text
        assert caplog.records[-1].levelname == "ERROR"
        assert caplog.records[-1].exc_info


def test_an_error_of_dynamodb_is_an_outage_too(world: World, api: Api) -> None:
    import boto3

    world.subscribe("1")
    boto3.client("dynamodb", region_name="eu-west-1").delete_table(
        TableName=world.settings.ledger_table
    )
    reply = api.get(BALANCE, user("1"))
    assert (reply.status, reply.json["code"]) == (503, "unavailable")


def test_contention_is_told_with_when_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_with(monkeypatch, Contention("others keep winning"))
    # The contract has no 409 for a read; of the writes it has been shown in the other tests.
    monkeypatch.setattr(contract, "check_answer", lambda *_: None)
    reply = api.get(BALANCE, user("1"))
    assert (reply.status, reply.headers["retry-after"]) == (409, "1")


def test_what_is_stored_wrongly_is_logged_for_us_to_mend(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failing_with(monkeypatch, errors.TimezoneUnknown("Asia/Gone"))
    reply = api.get(BALANCE, user("1"))
    assert (reply.status, reply.json["code"]) == (500, "timezone_unknown")
    (line,) = [vars(it) for it in caplog.records if it.msg == "stored data is wrong"]
    assert (line["levelname"], line["path"]) == ("ERROR", BALANCE)
    assert "Asia/Gone" in line["error"]


def test_a_bug_is_told_without_any_detail_and_logged_with_the_requests_id(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logger().registered_formatter)
    monkeypatch.setattr(logging.getLogger("credits"), "handlers", [handler])
    for error in (ZeroDivisionError("secret"), KeyError("secret")):
        failing_with(monkeypatch, error)
        reply = api.get(BALANCE, user("1"))
        assert (reply.status, reply.json["code"]) == (500, "internal_error")
        assert "secret" not in reply.text
        line = json.loads(written.getvalue().splitlines()[-1])
        assert line["correlation_id"] == reply.json["request_id"]
        assert "secret" in line["exception"]
    logger().info("something else")
    assert reply.json["request_id"] not in written.getvalue().splitlines()[-1]


# --- Tables, whole ------------------------------------------------------------------------------


def test_every_answer_has_these_headers() -> None:
    assert exchange.HEADERS == {
        "Cache-Control": "no-store",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=63072000; includeSubDomains",
        "X-Content-Type-Options": "nosniff",
    }


REFUSALS: list[tuple[CreditsError, int, str, str | None]] = [
    (errors.InvalidInput.of("amount", "is wrong"), 400, "invalid_input", None),
    (Unauthenticated("who?"), 401, "unauthenticated", None),
    (errors.InsufficientCredits(7, 3), 402, "insufficient_credits", None),
    (Forbidden("no"), 403, "forbidden", None),
    (errors.NotFound("nobody"), 404, "not_found", None),
    (Contention("busy"), 409, "contention", "1"),
    (errors.HoldEnded("lapsed", "2026-01-15T12:00:00.250Z"), 410, "hold_ended", None),
    (errors.VersionConflict("changed"), 412, "version_conflict", None),
    (BodyTooLarge("long"), 413, "body_too_large", None),
    (UnsupportedMediaType("xml"), 415, "unsupported_media_type", None),
    (errors.IdempotencyKeyReused("key"), 422, "idempotency_key_reused", None),
    (errors.PaymentUsed("pi_1"), 422, "idempotency_key_reused", None),
    (errors.OutdatedEdit("later"), 422, "outdated_edit", None),
    (errors.NotAllowed("rule"), 422, "not_allowed", None),
    (errors.TimezoneUnknown("Asia/Gone"), 500, "timezone_unknown", None),
    (errors.Unreadable("edit", "user 1", "torn"), 500, "unreadable", None),
    (errors.LedgerCorrupt("1", 1, "torn"), 500, "ledger_corrupt", None),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    REFUSALS,
    ids=[type(refusal[0]).__name__ for refusal in REFUSALS],
)
def test_a_refusal_has_its_status_and_says_when_the_same_request_can_succeed(
    error: CreditsError, status: int, code: str, retry_after: str | None
) -> None:
    answer = problems.of_refusal(error, "r1")
    assert answer is not None
    body = answer.body
    assert isinstance(body, dict)
    assert (answer.status, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"urn:credits:problem:{code}"
    assert answer.headers.get("Retry-After") == retry_after
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


def test_every_refusal_that_has_a_status_is_tried_here() -> None:
    tried = {type(error) for error, *_ in REFUSALS}
    for found in [*vars(errors).values(), *vars(api_errors).values()]:
        if isinstance(found, type) and issubclass(found, CreditsError) and found not in tried:
            assert problems.of_refusal(found.__new__(found), "r1") is None, found


# --- Time ---------------------------------------------------------------------------------------


def test_a_request_waits_for_dynamodb_for_five_seconds_and_is_then_told_to_come_back(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its function may run: API Gateway and the caller give up before that."""
    context = LambdaContext("api", 512)
    left = [30_000]
    monkeypatch.setattr(context, "get_remaining_time_in_millis", lambda: left[0])
    monkeypatch.setattr("tests.aws.api.LambdaContext", lambda *_: context)
    waited: list[int] = []

    def throttled(_call: Call) -> Answer:
        for left[0] in (26_000, 24_000):
            wait_for_room(1, lambda _: None)
            waited.append(left[0])
        raise AssertionError("it waits on")

    monkeypatch.setattr(about, "plans", throttled)
    reply = api.get("/api/plans", user())
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert waited == [26_000]


# What may be kept, and for how long: the contract. All else is of this moment, and of its caller.
KEPT = {"/api/openapi.json": "public, max-age=300"}


def test_no_answer_but_the_contract_may_be_kept(two_users: World, api: Api) -> None:
    assert two_users.balance() == 1000
    for method, path, body, _ in TABLE:
        caller = BACKEND if path.startswith(USE) else ADMIN
        reply = api.send(method, path, caller, body, key="a")
        assert reply.headers["cache-control"] == KEPT.get(path, "no-store"), path
