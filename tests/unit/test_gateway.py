"""API Gateway's own answers, and the methods that it passes to the app."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from chalicelib.api import problems
from infra.deployment import gateway

Json = dict[str, Any]

ANSWERS = """
UNAUTHORIZED 401 unauthenticated, Bearer: a valid bearer token is required: the header Authorization must be Bearer, a space and a JSON Web Token, which has three parts with dots between
ACCESS_DENIED 401 unauthenticated, Bearer: the bearer token is not valid
MISSING_AUTHENTICATION_TOKEN 404 not_found: there is no such route
RESOURCE_NOT_FOUND 404 not_found: there is no such route
BAD_REQUEST_BODY 400 invalid_input: the body is malformed
BAD_REQUEST_PARAMETERS 400 invalid_input: a parameter is malformed
INVALID_API_KEY 403 forbidden: the API key is not valid
INVALID_SIGNATURE 403 forbidden: the signature is not valid
EXPIRED_TOKEN 403 forbidden: the signature has expired
WAF_FILTERED 403 forbidden: the request was filtered out
REQUEST_TOO_LARGE 413 body_too_large: at most 16384 bytes are read
UNSUPPORTED_MEDIA_TYPE 415 unsupported_media_type: the body must be JSON
THROTTLED 429 too_many_requests, retry: slow down, and send the request again
QUOTA_EXCEEDED 429 too_many_requests, retry: the API key's quota is used up
AUTHORIZER_FAILURE 503 unavailable, retry: the token could not be checked
AUTHORIZER_CONFIGURATION_ERROR 503 unavailable, retry: the token could not be checked
API_CONFIGURATION_ERROR 500 internal_error: the request failed
INTEGRATION_FAILURE 504 unavailable, retry: there was no answer; send the request again, with the same idempotency key
INTEGRATION_TIMEOUT 504 unavailable, retry: there was no answer; send the request again, with the same idempotency key
DEFAULT_4XX 404 not_found: there is no such route
DEFAULT_5XX 500 internal_error: the request failed
"""  # noqa: E501 - a table

HEADERS = {
    "Content-Type": "'application/problem+json'",
    "Cache-Control": "'no-store'",
    "X-Content-Type-Options": "'nosniff'",
    "X-Request-Id": "context.requestId",
    "Access-Control-Allow-Origin": "'*'",
    "Access-Control-Expose-Headers": "'Retry-After,WWW-Authenticate,X-Request-Id'",
}
MORE = {
    "": {},
    ", Bearer": {"WWW-Authenticate": "'Bearer'"},
    ", retry": {"Retry-After": "'1'"},
}


def line(case: str, status: str, headers: dict[str, str], body: str) -> str:
    """An answer as in the table; what all of them have is checked here."""
    said = json.loads(body)
    code, detail = said["code"], said["detail"]
    assert said == problems.body(code, int(status), detail, "$context.requestId"), case
    (more,) = [more for more, its in MORE.items() if headers == HEADERS | its] or ["?"]
    return f"{case} {status} {code}{more}: {detail}"


def completed(paths: Json) -> Json:
    api: Json = {"DefinitionBody": {"paths": paths}}
    gateway.complete({"Resources": {"RestAPI": {"Properties": api}}})
    return api


def test_each_answer_of_the_gateway_is_a_problem_with_its_own_status_and_headers() -> None:
    found = [
        line(
            case,
            answer["StatusCode"],
            answer["ResponseParameters"]["Headers"],
            answer["ResponseTemplates"]["application/json"],
        )
        for case, answer in completed({})["GatewayResponses"].items()
    ]
    assert found == ANSWERS.strip().splitlines()


def test_a_method_without_a_route_is_passed_to_the_app_without_the_authorizer() -> None:
    passed: Json = {
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "responses": {"200": {}},
        "parameters": [{"name": "user_id"}],
        "x-amazon-apigateway-integration": {"uri": "arn"},
    }
    get: Json = {**passed, "security": [{"authorizer": []}]}
    little: Json = {"responses": {}}
    delete: Json = {**little, "security": []}
    paths = completed({"/one": {"get": get}, "/two": {"delete": delete}})["DefinitionBody"]["paths"]
    every = ("get", "head", "post", "put", "patch", "delete", "options")
    assert paths == {
        "/one": dict.fromkeys(every, passed) | {"get": get},
        "/two": dict.fromkeys(every, little) | {"delete": delete},
    }


@pytest.mark.parametrize("says_why", [True, False])
def test_the_emulator_is_told_the_same_answers_and_if_so_why_a_token_was_refused(
    *, says_why: bool
) -> None:
    put: list[Json] = []
    deployed: list[Json] = []
    client = SimpleNamespace(
        put_gateway_response=lambda **given: put.append(given),
        create_deployment=lambda **given: deployed.append({**given, "of": len(put)}),
    )
    gateway.put_gateway_responses(client, "api", "v1", says_why=says_why)
    why = ": $context.authorizer.reason" if says_why else ""
    refused = "the bearer token is not valid\n"
    prefix = "gatewayresponse.header."
    assert deployed == [{"restApiId": "api", "stageName": "v1", "of": len(put)}]
    assert {each["restApiId"] for each in put} == {"api"}
    assert [
        line(
            each["responseType"],
            each["statusCode"],
            {key.removeprefix(prefix): it for key, it in each["responseParameters"].items()},
            each["responseTemplates"]["application/json"],
        )
        for each in put
    ] == ANSWERS.replace(refused, refused.strip() + why + "\n").strip().splitlines()
