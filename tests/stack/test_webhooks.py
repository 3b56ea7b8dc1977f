"""The route of Stripe's webhook: who can reach it, and where nobody can."""

import copy
import hmac
import json
import time
from collections.abc import Mapping

import pytest

from app import app
from infra.deployment import caller_limits, webhooks
from infra.local.stacks import LocalStack
from tests.aws import contract
from tests.aws.api import Reply
from tests.stack.api import Api
from tests.stack.conftest import Packaged
from tests.stack.resolved import Json, Template, transform
from tests.stack.test_template import PUBLIC, operations, properties, resources_of_type

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


def test_the_route_is_of_its_function_and_open_to_whoever_has_no_token(selling: Template) -> None:
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


# --- On the emulator ------------------------------------------------------------------------------

SECRET = f"whsec_{'k' * 32}"
EVENT = json.dumps({"id": "evt_1", "object": "event", "type": "of.no.interest"})


@pytest.fixture(scope="module")
def api(stack: LocalStack) -> Api:
    """The API of a stage into which somebody has put Stripe's secret."""
    stack.client("secretsmanager").put_secret_value(
        SecretId=f"{stack.stack}-stripe-webhook", SecretString=SECRET
    )
    return Api(stack)


def signature(body: str, secret: str = SECRET, seconds: float = 0) -> dict[str, str]:
    moment = int(time.time() + seconds)
    signed = hmac.new(secret.encode(), f"{moment}.{body}".encode(), "sha256").hexdigest()
    return {"Stripe-Signature": f"t={moment},v1={signed}"}


def post(api: Api, headers: Mapping[str, str]) -> Reply:
    """Stripe's request: it has no token."""
    return api.send("POST", ROUTE[0], body=json.loads(EVENT), headers=headers)


def test_what_stripe_signed_is_taken_in(api: Api) -> None:
    reply = post(api, signature(EVENT))
    assert (reply.status, reply.json) == (200, {"received": True})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Stripe-Signature": "t=1,v1=00"},
        signature(EVENT, secret=f"whsec_{'x' * 32}"),
        signature(EVENT + " "),
    ],
)
def test_what_stripe_did_not_sign_is_refused(api: Api, headers: dict[str, str]) -> None:
    reply = post(api, headers)
    assert (reply.status, reply.json["code"]) == (400, "wrong_signature")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("is_admin", [False, True])
def test_there_is_no_other_method(api: Api, method: str, *, is_admin: bool) -> None:
    """API Gateway says so, as of a path that is not there: it invokes nothing."""
    reply = api.send(method, ROUTE[0], api.admin if is_admin else None, headers=signature(""))
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert "there is no such route" in reply.text
