"""Gives API Gateway's own answers the same form as every other answer of the API.

`complete` adds two things to the packaged template. API Gateway's own answers become problems as
RFC 9457 defines them. Every path passes methods without a route to the app, which answers them
(OPTIONS for browsers, 405 for the rest); API Gateway itself would report a missing authentication
token.
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
    # Any page may read these answers: they contain nothing personal.
    "Access-Control-Allow-Origin": "'*'",
    "Access-Control-Expose-Headers": "'Retry-After,WWW-Authenticate,X-Request-Id'",
}
_BEARER = {"WWW-Authenticate": "'Bearer'"}
_RETRY = {"Retry-After": "'1'"}


class GatewayResponse(NamedTuple):
    """API Gateway's answer in one of the cases that it distinguishes."""

    type: str
    status: int
    code: str
    detail: str
    headers: dict[str, str]

    def body(self) -> str:
        """The template of the body: JSON into which API Gateway inserts the request's id."""
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
"""The authorizer's reason for refusing a token, already escaped for a JSON text."""


def gateway_responses(*, says_why: bool = False) -> Iterator[GatewayResponse]:
    """Every case of API Gateway. A default answer would change the status of cases not named.

    With ``says_why``, only for the local stage, the answer to a bad token gives the reason.
    """
    bad_token = f"{_REFUSED}: {_WHY}" if says_why else _REFUSED
    for case, status, code, detail, headers in (
        ("UNAUTHORIZED", 401, "unauthenticated", _MISSING, _BEARER),
        # The authorizer only denies bad tokens. The routes decide what a caller may do.
        ("ACCESS_DENIED", 401, "unauthenticated", bad_token, _BEARER),
        # API Gateway's name for a path that does not exist.
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
        # The issuer's keys are out of reach, or the authorizer did not answer. AWS's pages do not
        # say which case applies if a function fails, is throttled or takes too long.
        ("AUTHORIZER_FAILURE", 503, "unavailable", _UNCHECKED, _RETRY),
        ("AUTHORIZER_CONFIGURATION_ERROR", 503, "unavailable", _UNCHECKED, _RETRY),
        ("API_CONFIGURATION_ERROR", 500, "internal_error", _FAILED, {}),
        ("INTEGRATION_FAILURE", 504, "unavailable", _NO_ANSWER, _RETRY),
        ("INTEGRATION_TIMEOUT", 504, "unavailable", _NO_ANSWER, _RETRY),
        # Includes a path that does not exist, if the request has a bearer token.
        ("DEFAULT_4XX", 404, "not_found", _NO_ROUTE, {}),
        ("DEFAULT_5XX", 500, "internal_error", _FAILED, {}),
    ):
        yield GatewayResponse(case, status, code, detail, _HEADERS | headers)


def complete(template: Json) -> None:
    """Adds API Gateway's own answers and the missing methods to a template that Chalice made."""
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
        # Like a route, but without the authorizer: these methods do nothing for any caller.
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
    """Sets the gateway's answers on the emulator, which ignores them in the template.

    `client` is a client for API Gateway; for ``says_why`` see `gateway_responses`.
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
