"""The route of Stripe's webhook: who can reach it, and where nobody can."""

import copy
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app import app
from infra.deployment import caller_limits, webhooks
from infra.local.stacks import LocalStack
from tests.aws import contract
from tests.aws.api import Reply
from tests.stack.api import Api
from tests.stack.conftest import Packaged
from tests.stack.resolved import Json, Template, transform
from tests.stack.shop import (
    SECRET,
    SUBSCRIPTION,
    USER,
    VERSION,
    charge,
    customer,
    payment,
    subscription,
)
from tests.stack.test_template import PUBLIC, operations, properties, resources_of_type
from tests.stripe import payloads

PERMISSION = "AWS::Lambda::Permission"
ROUTE = ("/api/webhooks/stripe", "post")

# --- In the template ------------------------------------------------------------------------------


def paths(template: Template) -> Json:
    found: Json = properties(template, "RestAPI")["DefinitionBody"]["paths"]
    return found


def test_without_a_price_nothing_leads_to_the_webhook(template: Template) -> None:
    """Neither a route nor a permission; the function and its secret wait."""
    assert ROUTE[0] not in paths(template)
    assert "StripeWebhook" not in json.dumps(paths(template))
    invoked = resources_of_type(template, PERMISSION).values()
    assert not [each for each in invoked if "StripeWebhook" in json.dumps(each)]
    assert {"StripeWebhook", "StripeSecret", "StripeTable"} <= set(template["Resources"])


def test_what_is_packaged_with_a_price_has_the_route(packaged: Packaged, selling: Template) -> None:
    made = packaged.package.template
    assert paths(made)[ROUTE[0]] == paths(selling)[ROUTE[0]]
    name = webhooks.PERMISSION
    assert made["Resources"][name] == selling["Resources"][name]


def test_a_price_brings_the_route_and_its_permission_and_nothing_else(
    template: Template, selling: Template
) -> None:
    without = copy.deepcopy(selling)
    del without["Resources"][webhooks.PERMISSION]
    del paths(without)[ROUTE[0]]
    assert without == template


def test_the_route_is_of_its_function_and_open_to_callers_without_a_token(
    selling: Template,
) -> None:
    assert set(paths(selling)[ROUTE[0]]) == {ROUTE[1]}
    operation = paths(selling)[ROUTE[0]][ROUTE[1]]
    assert "${StripeWebhook.Arn}" in operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
    opened = {
        (path, method)
        for path, method, operation in operations(selling)
        if not operation.get("security")
        and (path == ROUTE[0] or method.upper() in app.routes[path])
    }
    assert opened == {*PUBLIC, ROUTE}
    assert [
        (path, method)
        for path, method, operation in operations(selling)
        if "StripeWebhook" in json.dumps(operation)
    ] == [ROUTE]


def test_its_integration_is_that_of_the_other_routes(selling: Template) -> None:
    """Chalice writes theirs, and the emulator takes less than API Gateway does."""
    ours, theirs = (
        paths(selling)[path]["post"]["x-amazon-apigateway-integration"]
        for path in (ROUTE[0], "/api/unsubscribe")
    )
    about = ("type", "httpMethod", "passthroughBehavior", "contentHandling")
    assert {key: ours[key] for key in about} == {key: theirs[key] for key in about}
    uri = theirs["uri"]["Fn::Sub"].replace("${APIHandler.Arn}", "${StripeWebhook.Arn}")
    assert ours["uri"] == {"Fn::Sub": uri}


def test_no_key_of_a_lane_is_asked_for(selling: Template) -> None:
    asking = copy.deepcopy(selling)
    caller_limits.require(asking)
    assert not paths(asking)[ROUTE[0]][ROUTE[1]].get("security")


def test_api_gateway_may_invoke_the_webhook_for_its_route_alone(selling: Template) -> None:
    (permission,) = (
        each["Properties"]
        for each in resources_of_type(selling, PERMISSION).values()
        if each["Properties"]["FunctionName"] == {"Ref": "StripeWebhook"}
    )
    assert permission["Principal"] == "apigateway.amazonaws.com"
    assert permission["Action"] == "lambda:InvokeFunction"
    source = permission["SourceArn"]["Fn::Sub"]
    assert source.endswith(":${AWS::AccountId}:${RestAPI}/v1/POST/api/webhooks/stripe")


def test_the_first_price_makes_a_new_deployment_of_the_api(
    template: Template, selling: Template
) -> None:
    """A route that is in no deployment answers nobody."""
    before, after = (
        set(resources_of_type(transform(each), "AWS::ApiGateway::Deployment"))
        for each in (template, selling)
    )
    assert before != after


def test_it_is_no_route_of_the_app_and_so_not_in_its_contract() -> None:
    assert ROUTE[0] not in app.routes
    assert ROUTE[0] not in contract.document()["paths"]


# --- On the emulator, which enforces the rights of the function's role ----------------------------


class Shop:
    """Stripe, as far as the stage sees it."""

    def __init__(self, stack: LocalStack) -> None:
        self.api = Api(stack)
        self._stack = stack
        self._count = 0
        self.opened = self.now()

    def now(self) -> datetime:
        """The stage's clock: another test may have moved it."""
        ahead = float(Path(self._stack.clock_file).read_text())
        return datetime.now(UTC) + timedelta(seconds=ahead)

    def post(self, headers: Mapping[str, str], event: Json) -> Reply:
        """A request without a token."""
        return self.api.send("POST", ROUTE[0], body=event, headers=headers)

    def signature(self, event: Json, secret: str = SECRET) -> dict[str, str]:
        """What Stripe signs a request with."""
        signed = payloads.signed(json.dumps(event).encode(), secret, self.now())
        return {"Stripe-Signature": signed}

    def event(self, kind: str, thing: Json) -> Json:
        """An event of now, with an id of its own."""
        self._count += 1
        name = f"evt_stack_{self._count}"
        made: Json = payloads.event(VERSION, kind, thing, id=name, created=self.now())
        return made

    def tell(self, kind: str, thing: Json) -> tuple[int, object]:
        """Delivers an event; the status, and what was done or what is wrong."""
        event = self.event(kind, thing)
        reply = self.post(self.signature(event), event)
        return reply.status, reply.json.get("did") or reply.json["code"]


@pytest.fixture(scope="module")
def shop(stack: LocalStack) -> Shop:
    """A shop whose secret somebody has put into the stage."""
    stack.client("secretsmanager").put_secret_value(
        SecretId=f"{stack.stack}-stripe-webhook", SecretString=SECRET
    )
    return Shop(stack)


def test_what_stripe_signed_is_done(shop: Shop, stack: LocalStack) -> None:
    """It waits until it is known who the customer is; then it is done, and a refund taken back."""
    waiting = {
        "TableName": stack.tables["stripe"],
        "Key": {"about": {"S": "waiting"}, "part": {"S": SUBSCRIPTION}},
    }
    dynamodb = stack.client("dynamodb")
    created = "customer.subscription.created"
    assert shop.tell(created, subscription(shop.opened)) == (409, "waiting")
    assert dynamodb.get_item(**waiting)["Item"]["event_type"] == {"S": created}
    assert shop.tell("customer.created", customer(shop.opened)) == (200, "customer")
    assert shop.tell(created, subscription(shop.opened)) == (200, "subscription")
    assert "Item" not in dynamodb.get_item(**waiting)
    found = shop.api.send("GET", f"/api/subscriptions/{USER}", shop.api.admin).json
    assert (found["plan"], found["email"]) == ("pro", "ann@example.com")
    before = shop.api.balance(USER)
    assert shop.tell("payment_intent.succeeded", payment(shop.opened)) == (200, "purchase")
    assert shop.tell("payment_intent.succeeded", payment(shop.opened)) == (200, "purchase")
    assert shop.api.balance(USER) == before + 500
    assert shop.tell("charge.refunded", charge(shop.opened, 2450)) == (200, "refund")
    assert shop.api.balance(USER) == before + 250
    ended = subscription(
        shop.opened, status="canceled", ended_at=shop.now(), canceled_at=shop.now()
    )
    assert shop.tell("customer.subscription.deleted", ended) == (200, "subscription")
    found = shop.api.send("GET", f"/api/subscriptions/{USER}", shop.api.admin).json
    assert found["status"] == "cancelled"


@pytest.mark.parametrize("secret", ["", f"whsec_{'x' * 32}"])
def test_what_stripe_did_not_sign_is_refused(shop: Shop, secret: str) -> None:
    event = shop.event("customer.created", customer(shop.opened))
    reply = shop.post(shop.signature(event, secret) if secret else {}, event)
    assert (reply.status, reply.json["code"]) == (400, "wrong_signature")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("is_admin", [False, True])
def test_there_is_no_other_method(shop: Shop, method: str, *, is_admin: bool) -> None:
    """API Gateway says so, as of a path that is not there: it invokes nothing."""
    reply = shop.api.send(method, ROUTE[0], shop.api.admin if is_admin else None)
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert "there is no such route" in reply.text
