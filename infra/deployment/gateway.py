"""What API Gateway does by itself, in the shape of everything else that the API answers.

`complete` puts it into the packaged template: the answers of API Gateway's own, as problems after
RFC 9457, and for every path the methods that it has no route for, so that the app answers those too
(OPTIONS to browsers, 405 to the rest). API Gateway would call them a missing authentication token.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from chalicelib.api import problems

Json = dict[str, Any]

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")

_HEADERS = {
    "Content-Type": "'application/problem+json'",
    "Cache-Control": "'no-store'",
    "X-Content-Type-Options": "'nosniff'",
    "X-Request-Id": "context.requestId",
    # Any page may read these: they say nothing of anybody.
    "Access-Control-Allow-Origin": "'*'",
    "Access-Control-Expose-Headers": "'Retry-After,WWW-Authenticate,X-Request-Id'",
}
_BEARER = {"WWW-Authenticate": "'Bearer'"}
_RETRY = {"Retry-After": "'1'"}


class GatewayResponse(NamedTuple):
    """What API Gateway answers in one of the cases that it tells apart."""

    type: str
    status: int
    code: str
    detail: str
    headers: dict[str, str]

    def body(self) -> str:
        """The template of the body: JSON in which API Gateway replaces the request's id."""
        problem = problems.body(self.code, self.status, self.detail, "$context.requestId")
        return json.dumps(problem, separators=(",", ":"))


_NO_ROUTE = "there is no such route"
_FAILED = "the request failed"
_UNCHECKED = "the token could not be checked"
_NO_ANSWER = "there was no answer; send the request again, with the same idempotency key"


_MISSING = (
    "a valid bearer token is required: the header Authorization must be Bearer, a space and a JSON "
    "Web Token, which has three parts with dots between"
)
_REFUSED = "the bearer token is not valid"
_WHY = "$context.authorizer.reason"
"""What the authorizer says of a token that it refuses, already escaped for a JSON text."""


def gateway_responses(*, says_why: bool = False) -> Iterator[GatewayResponse]:
    """Every case there is. A default would change the status of those that are not named.

    With ``says_why`` a token that is refused is answered with the reason: in the local stage alone.
    """
    bad_token = f"{_REFUSED}: {_WHY}" if says_why else _REFUSED
    for case, status, code, detail, headers in (
        ("UNAUTHORIZED", 401, "unauthenticated", _MISSING, _BEARER),
        # The authorizer denies bad tokens and nothing else: what a caller may do, the routes say.
        ("ACCESS_DENIED", 401, "unauthenticated", bad_token, _BEARER),
        # What API Gateway calls a path that does not exist.
        ("MISSING_AUTHENTICATION_TOKEN", 404, "not_found", _NO_ROUTE, {}),
        ("RESOURCE_NOT_FOUND", 404, "not_found", _NO_ROUTE, {}),
        ("BAD_REQUEST_BODY", 400, "invalid_input", "the body is malformed", {}),
        ("BAD_REQUEST_PARAMETERS", 400, "invalid_input", "a parameter is malformed", {}),
        ("INVALID_API_KEY", 403, "forbidden", "the API key is not valid", {}),
        ("INVALID_SIGNATURE", 403, "forbidden", "the signature is not valid", {}),
        ("EXPIRED_TOKEN", 403, "forbidden", "the signature has expired", {}),
        ("WAF_FILTERED", 403, "forbidden", "the request was filtered out", {}),
        ("REQUEST_TOO_LARGE", 413, "body_too_large", "at most 16384 bytes are read", {}),
        ("UNSUPPORTED_MEDIA_TYPE", 415, "unsupported_media_type", "the body must be JSON", {}),
        ("THROTTLED", 429, "too_many_requests", "slow down, and send the request again", _RETRY),
        ("QUOTA_EXCEEDED", 429, "too_many_requests", "the API key's quota is used up", _RETRY),
        # The issuer's keys cannot be had, or the authorizer did not answer. AWS's pages do not say
        # which of the two it is for a function that fails, is throttled or takes too long.
        ("AUTHORIZER_FAILURE", 503, "unavailable", _UNCHECKED, _RETRY),
        ("AUTHORIZER_CONFIGURATION_ERROR", 503, "unavailable", _UNCHECKED, _RETRY),
        ("API_CONFIGURATION_ERROR", 500, "internal_error", _FAILED, {}),
        ("INTEGRATION_FAILURE", 504, "unavailable", _NO_ANSWER, _RETRY),
        ("INTEGRATION_TIMEOUT", 504, "unavailable", _NO_ANSWER, _RETRY),
        # Among others a path that does not exist, asked for with a bearer token.
        ("DEFAULT_4XX", 404, "not_found", _NO_ROUTE, {}),
        ("DEFAULT_5XX", 500, "internal_error", _FAILED, {}),
    ):
        yield GatewayResponse(case, status, code, detail, _HEADERS | headers)


def complete(template: Json) -> None:
    """Adds to a template that Chalice made what API Gateway does by itself."""
    api = template["Resources"]["RestAPI"]["Properties"]
    api["GatewayResponses"] = {
        response.type: {
            "StatusCode": str(response.status),
            "ResponseParameters": {"Headers": response.headers},
            "ResponseTemplates": {"application/json": response.body()},
        }
        for response in gateway_responses()
    }
    for path in api["DefinitionBody"]["paths"].values():
        operation = next(iter(path.values()))
        # As of a route, but for the authorizer: nothing is done for them, whoever asks.
        kept = (
            "consumes",
            "produces",
            "responses",
            "parameters",
            "x-amazon-apigateway-integration",
        )
        refused = {name: operation[name] for name in kept if name in operation}
        for method in METHODS:
            path.setdefault(method, refused)


def put_gateway_responses(client: Any, api_id: str, stage: str, *, says_why: bool = False) -> None:
    """Gives an API of the emulator, which ignores them in the template, its own answers.

    `client` is one for API Gateway; for ``says_why`` see `gateway_responses`.
    """
    for response in gateway_responses(says_why=says_why):
        client.put_gateway_response(
            restApiId=api_id,
            responseType=response.type,
            statusCode=str(response.status),
            responseParameters={
                f"gatewayresponse.header.{name}": value for name, value in response.headers.items()
            },
            responseTemplates={"application/json": response.body()},
        )
    client.create_deployment(restApiId=api_id, stageName=stage)
