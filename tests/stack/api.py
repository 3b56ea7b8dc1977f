"""The deployed API over HTTP, as a client of any kind would call it."""

import http.client
import json
from collections.abc import Mapping
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from infra.local.stacks import LocalStack
from tests.aws import contract
from tests.aws.api import Reply

USER = "credits:read credits:use"
ADMIN = "credits:admin"
BACKEND = "credits:backend"
BILLING = "credits:billing"


class Api:
    """Sends requests, and holds every answer of a route to the contract."""

    def __init__(self, stack: LocalStack) -> None:
        self.stack = stack
        self._address = urlsplit(stack.api_url)
        self.token = cache(stack.token)

    def send(
        self,
        method: str,
        path: str,
        token: str | None = None,
        body: object = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        is_checked: bool = True,
    ) -> Reply:
        """`body` is sent as JSON; `key` is the idempotency key."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if key is not None:
            sent["Idempotency-Key"] = key
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = json.dumps(body)
        connection = http.client.HTTPConnection(self._address.netloc, timeout=60)
        try:
            connection.request(method, self._address.path + path, data, sent)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            reply = Reply(answer.status, found, answer.read().decode())
        finally:
            connection.close()
        route = route_of(method, path)
        if route is not None and is_checked:
            contract.check_answer(method, route, reply.status, reply.headers, reply.text)
        return reply

    def as_user(self, user_id: str) -> str:
        """A token of a signed-in user of the frontend."""
        return self.token(user_id, USER)

    @property
    def admin(self) -> str:
        """A token of an admin."""
        return self.token("ada", ADMIN)

    @property
    def backend(self) -> str:
        """A token of the product's backend."""
        return self.token("shop", BACKEND)

    @property
    def billing(self) -> str:
        """A token of what takes the money."""
        return self.token("till", BILLING)

    def subscribe(self, user_id: str, **more: object) -> None:
        """Registers a user, or puts their subscription back to what it was."""
        body: dict[str, Any] = {
            "email": "ada@example.com",
            "timezone": "Europe/Paris",
            "plan": "pro",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2025-01-01T00:00:00Z",
        }
        reply = self.send("PUT", f"/api/subscriptions/{user_id}", self.admin, {**body, **more})
        assert reply.status in (200, 201), reply.text

    def grant(self, user_id: str, amount: int, key: str) -> None:
        """Grants credits that never expire."""
        body = {
            "user_id": user_id,
            "amount": amount,
            "description": "Test",
            "expires_in_days": None,
        }
        reply = self.send("POST", "/api/credits/allocate", self.admin, body, key=key)
        assert reply.status == 200, reply.text

    def balance(self, user_id: str) -> int:
        """What a user can use."""
        reply = self.send("GET", f"/api/credits/balance?user_id={user_id}", self.admin)
        assert reply.status == 200, reply.text
        found: int = reply.json["available_balance"]
        return found


def route_of(method: str, path: str) -> str | None:
    """The route of the contract that a request is for."""
    route = contract.route_of(path)
    return route if (method, route) in contract.operations() else None
