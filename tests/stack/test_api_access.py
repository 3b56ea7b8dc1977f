"""Who gets through API Gateway and the authorizer to the deployed API, and what others are told."""

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from infra import terminal
from infra.deployment import deploy, gateway
from infra.local import emulator, stacks
from infra.local.stacks import ALLOWED_ORIGINS, LocalStack
from tests.aws import contract
from tests.aws.api import Reply
from tests.stack.api import ADMIN, BACKEND, BILLING, USER, Api, route_of
from tests.stack.conftest import Packaged
from tests.stack.test_deploy import as_role_of, refusal

ANN = "access-ann"
BOB = "access-bob"


@pytest.fixture(scope="module")
def api(stack: LocalStack) -> Api:
    """The API, with Ann, who has credits and a usage, and Bob."""
    found = Api(stack)
    found.subscribe(ANN)
    found.subscribe(BOB)
    found.grant(ANN, 10_000, key="access")
    return found


# --- Every route, every caller --------------------------------------------------------------------


def forged(token: str) -> str:
    """The same signature under other claims."""
    header, _, signature = token.split(".")
    claims = jwt.decode(token, options={"verify_signature": False})
    claims["scope"] = ALL
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{header}.{payload}.{signature}"


def unsigned(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    return jwt.encode(claims, "", algorithm="none", headers={"kid": "local"})


def signed_by_a_stranger(token: str) -> str:
    claims = jwt.decode(token, options={"verify_signature": False})
    key = ec.generate_private_key(ec.SECP256R1())
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": "local"})


ALL = f"{USER} {BACKEND} {BILLING} {ADMIN}"

CALLERS: dict[str, Callable[[Api], str | None]] = {
    "no token": lambda _: None,
    "expired": lambda api: api.stack.token(ANN, ALL, exp=int(time.time()) - 3600),
    "wrong issuer": lambda api: api.stack.token(ANN, ALL, iss="https://issuer.example.com"),
    "wrong audience": lambda api: api.stack.token(ANN, ALL, aud="another-api"),
    "tampered": lambda api: forged(api.as_user(ANN)),
    "alg none": lambda api: unsigned(api.stack.token(ANN, ALL)),
    "user": lambda api: api.as_user(ANN),
    "other user": lambda api: api.as_user(BOB),
    "backend": lambda api: api.backend,
    "billing": lambda api: api.billing,
    "admin": lambda api: api.admin,
}

PLAN = {
    "email": "ada@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}
BAD = (401,) * 6

# What each caller is answered to a request about Ann, and, where it names nobody, about himself.
# Bob has no credits; a backend, billing and an admin have no subscription of their own.
#                                               no token .. alg none  | user
#                                                                     |    other user
#                                                                     |         backend
#                                                                     |              billing
#                                                                     |                   admin
TABLE: tuple[tuple[str, str, object, tuple[int, ...]], ...] = (
    ("GET", "/api/health", None, (200,) * 11),
    ("GET", "/api/openapi.json", None, (200,) * 11),
    # The link in an email is its own right: no token of any caller is asked for, or helps.
    ("GET", "/api/unsubscribe", None, (400,) * 11),
    ("POST", "/api/unsubscribe", None, (400,) * 11),
    ("GET", "/api/plans", None, (*BAD, 200, 200, 200, 200, 200)),
    ("GET", "/api/credits/allocation-schedule", None, (*BAD, 200, 200, 404, 404, 404)),
    (
        "GET",
        f"/api/credits/allocation-schedule?user_id={ANN}",
        None,
        (*BAD, 200, 403, 200, 200, 200),
    ),
    ("GET", "/api/credits/balance", None, (*BAD, 200, 200, 404, 404, 404)),
    ("GET", f"/api/credits/balance?user_id={ANN}", None, (*BAD, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/forecast", None, (*BAD, 200, 200, 404, 404, 404)),
    ("GET", f"/api/credits/forecast?user_id={ANN}", None, (*BAD, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/explain", None, (*BAD, 200, 200, 404, 404, 404)),
    ("GET", f"/api/credits/explain?user_id={ANN}", None, (*BAD, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/statement", None, (*BAD, 200, 200, 404, 404, 404)),
    ("GET", f"/api/credits/statement?user_id={ANN}", None, (*BAD, 200, 403, 200, 200, 200)),
    ("GET", "/api/credits/history", None, (*BAD, 200, 200, 404, 404, 404)),
    ("GET", f"/api/credits/history?user_id={ANN}", None, (*BAD, 200, 403, 200, 200, 200)),
    (
        *("POST", "/api/credits/use", {"amount": 1, "description": "Export"}),
        (*BAD, 200, 402, 404, 403, 403),
    ),
    (
        *("POST", "/api/credits/use", {"user_id": ANN, "amount": 1, "description": "Export"}),
        (*BAD, 200, 403, 200, 403, 403),
    ),
    (
        *("POST", "/api/credits/reverse"),
        {"user_id": ANN, "transaction_id": f"{ANN}-2", "amount": 1, "description": "Failed"},
        (*BAD, 403, 403, 200, 403, 200),
    ),
    ("GET", f"/api/credits/transactions/{ANN}-1", None, (*BAD, 200, 403, 200, 200, 200)),
    (
        *("POST", "/api/credits/use-many"),
        {"user_id": ANN, "items": [{"key": "lead-1", "amount": 1, "description": "Lead"}]},
        (*BAD, 403, 403, 200, 403, 403),
    ),
    ("GET", "/api/credits/holds", None, (*BAD, 200, 200, 404, 404, 404)),
    ("GET", f"/api/credits/holds?user_id={ANN}", None, (*BAD, 200, 403, 200, 200, 200)),
    (
        *("POST", "/api/credits/holds"),
        {"user_id": ANN, "amount": 1, "description": "Report"},
        (*BAD, 403, 403, 200, 403, 200),
    ),
    # Both end the hold in the same way, so the admin is answered what the backend was.
    (
        *("POST", f"/api/credits/holds/{ANN}-3/capture", {"amount": 1}),
        (*BAD, 403, 403, 200, 403, 200),
    ),
    ("POST", f"/api/credits/holds/{ANN}-3/release", {}, (*BAD, 403, 403, 410, 403, 410)),
    ("POST", f"/api/credits/holds/{ANN}-4/release", {}, (*BAD, 403, 403, 200, 403, 200)),
    # Who may end none is not told which there are.
    ("POST", f"/api/credits/holds/{ANN}-1/release", {}, (*BAD, 403, 403, 404, 403, 404)),
    # The payment is the key, so the admin is answered what billing was.
    (
        *("POST", "/api/credits/purchases"),
        {"user_id": ANN, "amount": 5, "payment_id": "pi_access"},
        (*BAD, 403, 403, 403, 200, 200),
    ),
    (
        *("POST", "/api/credits/refunds"),
        {"payment_id": "pi_access", "amount": 5, "description": "Asked for it"},
        (*BAD, 403, 403, 403, 200, 200),
    ),
    # Who may refund none is not told which there are.
    (
        *("POST", "/api/credits/refunds"),
        {"payment_id": "pi_unknown", "amount": 5, "description": "Asked for it"},
        (*BAD, 403, 403, 403, 404, 404),
    ),
    (
        *(
            "POST",
            "/api/credits/allocate",
            {"user_id": ANN, "amount": 1, "description": "Goodwill"},
        ),
        (*BAD, 403, 403, 403, 403, 200),
    ),
    (
        *("POST", f"/api/credits/batches/{ANN}-1/void", {"description": "Mistake"}),
        (*BAD, 403, 403, 403, 403, 200),
    ),
    # Who may void none is not told which there are.
    (
        *("POST", f"/api/credits/batches/{ANN}-2/void", {"description": "Mistake"}),
        (*BAD, 403, 403, 403, 403, 404),
    ),
    (
        *("POST", "/api/credits/allocation-runs"),
        {"period": "2026-01", "zones": ["Antarctica/Troll"]},
        (*BAD, 403, 403, 403, 403, 202),
    ),
    ("GET", "/api/months/1999-01", None, (*BAD, 403, 403, 403, 403, 404)),
    ("GET", "/api/operations", None, (*BAD, 403, 403, 403, 403, 200)),
    ("GET", "/api/subscriptions?limit=1", None, (*BAD, 403, 403, 403, 403, 200)),
    ("GET", f"/api/subscriptions/{ANN}", None, (*BAD, 403, 403, 200, 200, 200)),
    ("PUT", f"/api/subscriptions/{ANN}", PLAN, (*BAD, 403, 403, 200, 200, 200)),
    ("PATCH", f"/api/subscriptions/{ANN}", {"plan": "pro"}, (*BAD, 403, 403, 200, 200, 200)),
    ("GET", f"/api/credits/transactions/{ANN}-1/email", None, (*BAD, 403, 403, 403, 403, 200)),
    ("GET", f"/api/credits/transactions/{ANN}-1/events", None, (*BAD, 403, 403, 403, 403, 200)),
    ("GET", f"/api/subscriptions/{ANN}/emails", None, (*BAD, 403, 403, 403, 403, 200)),
    ("GET", f"/api/subscriptions/{ANN}/edits", None, (*BAD, 403, 403, 403, 403, 200)),
)


def test_every_route_answers_every_caller_as_the_table_says(api: Api) -> None:
    use = {"amount": 100, "description": "Export"}
    used = api.send("POST", "/api/credits/use", api.as_user(ANN), use, key="to-give-back")
    assert used.json["transaction_id"] == f"{ANN}-2"
    hold = {"user_id": ANN, "amount": 2, "description": "Report"}
    for key in ("to-capture", "to-release"):
        assert api.send("POST", "/api/credits/holds", api.backend, hold, key=key).status == 200
    tokens = {name: make(api) for name, make in CALLERS.items()}
    wrong = []
    for row, (method, path, body, expected) in enumerate(TABLE):
        for (name, token), status in zip(tokens.items(), expected, strict=True):
            reply = api.send(method, path, token, body, key=f"{row}-{name.replace(' ', '-')}")
            if reply.status != status:
                wrong.append(f"{method} {path} as {name}: {reply.status}, not {status}")
    assert wrong == []


def test_the_table_has_every_route() -> None:
    routes = {(method, route_of(method, path)) for method, path, *_ in TABLE}
    assert routes == set(contract.operations())


def test_a_strangers_signature_is_refused(api: Api) -> None:
    token = signed_by_a_stranger(api.as_user(ANN))
    assert api.send("GET", "/api/credits/balance", token).status == 401


def test_a_token_gives_the_same_rights_whatever_route_it_was_checked_for_first(api: Api) -> None:
    """API Gateway keeps the authorizer's answer for a token, and uses it for all routes."""
    token = api.stack.token(ANN, USER)
    for path in ("/api/plans", "/api/credits/balance", "/api/credits/history?limit=1"):
        assert api.send("GET", path, token).status == 200
    assert api.send("GET", f"/api/subscriptions/{ANN}", token).status == 403


# --- What the gateway answers by itself -----------------------------------------------------------


def assert_is_problem(reply: Reply, status: int, code: str) -> None:
    """Whether a refusal of API Gateway is what the contract says of all refusals."""
    assert reply.status == status
    assert reply.headers["content-type"] == "application/problem+json"
    contract.check_value({"$ref": "#/components/schemas/Problem"}, reply.json)
    assert (reply.json["status"], reply.json["code"]) == (status, code)
    assert reply.json["request_id"] == reply.headers["x-request-id"] != ""
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("authorization", [None, "Basic YWRhOmFkYQ==", "Bearer", "Bearer garbage"])
def test_what_is_no_token_is_told_to_bring_one(api: Api, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = api.send("GET", "/api/credits/balance", headers=headers)
    assert_is_problem(reply, 401, "unauthenticated")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1_700_000_000}, "the token has expired: exp is 2023-11-14T22:13:20Z, "),
        ({"aud": 'the "other" \\ api'}, "wrong audience: aud is 'the \"other\" \\\\ api', and"),
        ({"iss": "https://issuer.example.com"}, "wrong issuer: iss is 'https://issuer.example"),
        ({"sub": "4 2"}, "sub names the user: it must be 1 to 128 letters"),
    ],
)
def test_a_bad_token_is_told_why_in_the_local_stage(
    api: Api, claims: dict[str, Any], why: str
) -> None:
    token = api.stack.token(ANN, **claims)
    for _ in range(2):  # from the authorizer, and from what API Gateway keeps of its answer
        reply = api.send("GET", "/api/credits/balance", token)
        assert_is_problem(reply, 401, "unauthenticated")
        assert reply.json["detail"].startswith(f"the bearer token is not valid: {why}")


def test_no_other_stage_says_why() -> None:
    details = [response.detail for response in gateway.gateway_responses()]
    assert not any("$context" in detail for detail in details)


def test_a_bad_token_is_told_so(api: Api) -> None:
    reply = api.send("GET", "/api/credits/balance", forged(api.as_user(ANN)))
    assert_is_problem(reply, 401, "unauthenticated")
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/api", "/api/nothing", "/api/credits/balance/more"])
def test_a_path_that_does_not_exist_is_not_found_with_and_without_a_token(
    api: Api, path: str
) -> None:
    for token in (None, api.as_user(ANN)):
        assert_is_problem(api.send("GET", path, token), 404, "not_found")


def test_too_many_requests_are_told_when_to_come_back(stack: LocalStack, api: Api) -> None:
    gateway = stack.client("apigateway")
    (api_id,) = [i["id"] for i in gateway.get_rest_apis()["items"] if i["name"] == stack.stack]
    method = "/~1api~1health/GET/throttling"

    def throttle(rate: int) -> None:
        limits = [("rateLimit", rate), ("burstLimit", rate)]
        patch = [{"op": "replace", "path": f"{method}/{n}", "value": str(v)} for n, v in limits]
        gateway.update_stage(restApiId=api_id, stageName="v1", patchOperations=patch)

    throttle(0)
    try:
        reply = api.send("GET", "/api/health")
        assert_is_problem(reply, 429, "too_many_requests")
        assert reply.headers["retry-after"] == "1"
    finally:
        throttle(5000)


def test_while_the_issuer_cannot_be_reached_nobody_is_refused(
    stack: LocalStack, packaged: Packaged
) -> None:
    """A token that nobody can check is not a bad one: its bearer is told to come back."""
    deployment = deploy.deploy(
        "dev",
        stack.client,
        region=emulator.REGION,
        parameters=stacks.parameters("http://127.0.0.1:9", "dev"),
        say=terminal.say_nothing,
        make_package=packaged,
    )
    try:
        gateway.put_gateway_responses(stack.client("apigateway"), deployment.api_id, "v1")
        url = stack.api_url.replace(stack.api_url.split("/")[-2], deployment.api_id)
        orphaned = Api(replace(stack, api_url=url))
        reply = orphaned.send("GET", "/api/plans", stack.token(ANN))
        assert_is_problem(reply, 503, "unavailable")
        assert reply.headers["retry-after"] == "1"
        assert orphaned.send("GET", "/api/health").status == 200
    finally:
        stack.client("cloudformation").delete_stack(StackName=deployment.stack)


# --- Methods, slashes, pages ----------------------------------------------------------------------


def test_every_route_answers_with_a_slash_as_without(api: Api) -> None:
    for method, path, body, _ in TABLE:
        if method == "GET":
            bare, _, query = path.partition("?")
            replies = [
                api.send(method, f"{bare}{slash}?{query}", api.admin, body) for slash in ("", "/")
            ]
            assert replies[0].status == replies[1].status
            assert without_id(replies[0]) == without_id(replies[1])


def without_id(reply: Reply) -> str:
    """An answer without what is different each time: the request, and the time of the answer."""
    text = re.sub(r'"request_id": ?"[^"]*"', "", reply.text)
    now = r'("(?:as_of|at|made_at)": ?"|"At )[0-9-]{10}T[0-9:.]+Z'
    return re.sub(now, r"\1now", text)


@pytest.mark.parametrize("method", ["DELETE", "PUT", "HEAD"])
def test_a_method_that_the_route_does_not_know_is_refused_by_name(api: Api, method: str) -> None:
    reply = api.send(method, "/api/credits/use", api.as_user(ANN))
    assert reply.status == 405
    assert reply.headers["allow"] == "POST"
    if method != "HEAD":
        assert reply.json["code"] == "method_not_allowed"


def test_user_ids_arrive_percent_encoded(api: Api) -> None:
    api.subscribe("auth0%7Cann%40example.com")
    reply = api.send("GET", "/api/subscriptions/auth0%7Cann%40example.com", api.admin)
    assert reply.json["user_id"] == "auth0|ann@example.com"
    own = api.send("GET", "/api/credits/balance", api.as_user("auth0|ann@example.com"))
    assert own.status == 200


@pytest.mark.parametrize("origin", ALLOWED_ORIGINS.split(","))
def test_a_browser_may_call_every_route_from_a_configured_origin(api: Api, origin: str) -> None:
    for path in contract.document()["paths"]:
        asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
        reply = api.send("OPTIONS", path.replace("{user_id}", ANN), headers=asked)
        assert reply.status == 204
        assert reply.headers["access-control-allow-origin"] == origin
        methods = {method.upper() for method in contract.document()["paths"][path]}
        assert set(reply.headers["access-control-allow-methods"].split(", ")) == (
            methods - {"PARAMETERS"}
        )
        allowed = reply.headers["access-control-allow-headers"]
        assert {"Authorization", "Content-Type", "Idempotency-Key"} <= set(allowed.split(","))
    reply = api.send("GET", "/api/plans", api.as_user(ANN), headers={"Origin": origin})
    assert reply.headers["access-control-allow-origin"] == origin
    assert "Idempotency-Replayed" in reply.headers["access-control-expose-headers"]


def test_a_browser_may_not_from_another(api: Api) -> None:
    # The page of one, as it is when nobody is to know where it comes from.
    private = {"Origin": "null", "Sec-Fetch-Site": "same-origin"}
    for reply in (
        api.send("OPTIONS", "/api/plans", headers=private),
        api.send("GET", "/api/plans", api.as_user(ANN), headers=private),
        api.send("GET", "/api/credits/balance?user_id=*", api.as_user(ANN), headers=private),
    ):
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["vary"] == "Origin"


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "http://localhost:3001"])
def test_a_page_of_another_origin_does_not_get_as_far_as_the_local_api(
    api: Api, origin: str
) -> None:
    """On AWS it is the browser that keeps the answer back."""
    for method, path in (("OPTIONS", "/api/plans"), ("GET", "/api/plans"), ("GET", "/nowhere")):
        said = {"Origin": origin}
        reply = api.send(method, path, api.as_user(ANN), headers=said, is_checked=False)
        assert reply.status == 403
        assert "those of the origins in AllowedOrigins" in reply.text
        assert "access-control-allow-origin" not in reply.headers


def test_admins_see_every_queue_and_the_alarms_that_ring(api: Api, stack: LocalStack) -> None:
    """What AWS does not answer is null: here it has the rights, and all of it is answered."""
    seen = api.send("GET", "/api/operations", api.admin).json
    assert {each["name"] for each in seen["queues"]} >= {"sweeps", "notifications", "sweeps-dlq"}
    assert all(each["waiting"] is not None for each in seen["queues"])
    alarms = stack.client("cloudwatch").describe_alarms(StateValue="ALARM")["MetricAlarms"]
    prefix = f"{stack.stack}-"
    assert {each["name"] for each in seen["alarms"]} == {
        each["AlarmName"].removeprefix(prefix)
        for each in alarms
        if each["AlarmName"].startswith(prefix)
    }


# --- The roles ------------------------------------------------------------------------------------


def test_the_authorizer_may_touch_nothing(stack: LocalStack) -> None:
    dynamodb = as_role_of(stack, "authorizer", "dynamodb")
    for table in stack.tables.values():
        key = {"user_id": {"S": ANN}}
        get = partial(dynamodb.get_item, TableName=table, Key=key)
        assert refusal(get) == "AccessDeniedException"
    send = partial(
        as_role_of(stack, "authorizer", "sqs").send_message,
        QueueUrl=stack.queues["sweeps"],
        MessageBody="{}",
    )
    assert refusal(send).startswith("AccessDenied")


def test_the_api_may_scan_only_subscriptions_and_neither_delete_nor_enqueue_work_for_the_workers(
    stack: LocalStack,
) -> None:
    """Admins list subscriptions by plan and status, of which there is no index."""
    dynamodb = as_role_of(stack, "api", "dynamodb")
    for table in {*stack.tables.values()} - {stack.tables["subscriptions"]}:
        assert refusal(partial(dynamodb.scan, TableName=table)) == "AccessDeniedException"
    delete = partial(
        dynamodb.delete_item,
        TableName=stack.tables["subscriptions"],
        Key={"user_id": {"S": ANN}},
    )
    assert refusal(delete) == "AccessDeniedException"
    sqs = as_role_of(stack, "api", "sqs")
    for name in ("allocations", "expiries"):
        send = partial(sqs.send_message, QueueUrl=stack.queues[name], MessageBody="{}")
        assert refusal(send).startswith("AccessDenied")
