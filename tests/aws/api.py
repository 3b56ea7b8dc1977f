"""The API as a client sees it: what API Gateway makes of a request, and of the app's answer."""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chalice.local import LambdaContext, LambdaEventConverter, RouteMatcher

from app import app
from tests.aws import contract

_REQUEST_IDS = itertools.count(1)


@dataclass(frozen=True)
class Reply:
    """What the client gets back; header names are in lower case."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Caller:
    """What the authorizer says of a token; nobody without one gets as far as the app."""

    caller: str = ""
    user_id: str = ""
    scopes: str = ""

    def context(self) -> dict[str, str]:
        return {"caller": self.caller, "user_id": self.user_id, "scopes": self.scopes}


def user(user_id: str = "1") -> Caller:
    """The token of a signed-in user of the frontend."""
    return Caller(f"user|{user_id}", user_id, "credits:read credits:use")


ADMIN = Caller("ada", "", "credits:admin")
BACKEND = Caller("shop", "", "credits:backend")
BILLING = Caller("till", "", "credits:billing")
NOBODY = Caller()


class Api:
    """Sends requests as a caller, and holds every answer to the contract."""

    def send(
        self,
        method: str,
        path: str,
        caller: Caller,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        key: str | None = None,
        raw: bytes | None = None,
        media_type: str | None = "application/json",
        request_id: str = "",
    ) -> Reply:
        """``body`` is sent as JSON, ``raw`` as it is; ``key`` is the idempotency key."""
        sent = dict(headers or {})
        if key is not None:
            sent["Idempotency-Key"] = key
        if body is not None:
            raw = json.dumps(body).encode()
        if raw is not None and media_type is not None:
            sent["Content-Type"] = media_type
        # Chalice's own model of API Gateway: it matches the route and leaves %-encoding in paths.
        event = LambdaEventConverter(RouteMatcher(list(app.routes))).create_lambda_event(
            method, path, sent, raw
        )
        context = event["requestContext"]
        context["requestId"] = request_id or f"request-{next(_REQUEST_IDS)}"
        if caller.caller:
            context["authorizer"] = caller.context()
        answer = app(event, LambdaContext("api", 512))
        found = {name.lower(): value for name, value in answer["headers"].items()}
        reply = Reply(answer["statusCode"], found, answer["body"])
        route = context["resourcePath"]
        if (method, route) in contract.operations():
            contract.check_answer(method, route, reply.status, reply.headers, reply.text)
        return reply

    def get(self, path: str, caller: Caller, **more: Any) -> Reply:
        return self.send("GET", path, caller, **more)

    def post(self, path: str, caller: Caller, body: object = None, **more: Any) -> Reply:
        return self.send("POST", path, caller, body, **more)

    def put(self, path: str, caller: Caller, body: object = None, **more: Any) -> Reply:
        return self.send("PUT", path, caller, body, **more)

    def patch(self, path: str, caller: Caller, body: object = None, **more: Any) -> Reply:
        return self.send("PATCH", path, caller, body, **more)
