"""An API that answers what a test says, for both clients, and a clock that only its sleeps move."""

import asyncio
import dataclasses
from collections.abc import Callable
from typing import Any

import httpx

from credits_client import AsyncCredits, Credits

USED = {"success": True, "new_balance": 69, "transaction_id": "1-2", "batches": []}
HELD = {
    "success": True,
    "hold_id": "1-5",
    "transaction_id": "1-5",
    "amount": 50,
    "expires_at": "2026-01-15T13:00:00Z",
    "new_balance": 50,
}
CAPTURED = {**USED, "captured": 31, "released": 19}
RELEASED = {"success": True, "new_balance": 100, "transaction_id": "1-6", "released": 50}

Answer = httpx.Response | Exception


def used() -> httpx.Response:
    return httpx.Response(200, json=USED)


def problem(status: int, code: str, retry_after: str | None = None, **more: Any) -> httpx.Response:
    body = {
        "type": f"urn:credits:problem:{code}",
        "title": "A title",
        "status": status,
        "detail": "in detail",
        "code": code,
        "errors": [],
        "request_id": "r-1",
        **more,
    }
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return httpx.Response(status, json=body, headers=headers)


@dataclasses.dataclass
class Api:
    """Answers with what it was given, one after the other, and keeps what it was sent."""

    answers: list[Answer]
    sent: list[httpx.Request] = dataclasses.field(default_factory=list)
    pauses: list[float] = dataclasses.field(default_factory=list)
    now: float = 1000.0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        given = self.answers.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    async def sleep_in_tasks(self, seconds: float) -> None:
        self.sleep(seconds)
        await asyncio.sleep(0)

    def manners(self) -> dict[str, Any]:
        return {"clock": lambda: self.now, "random": lambda: 1.0}

    def client(self, source: Any = "t", **more: Any) -> Credits:
        http = httpx.Client(transport=httpx.MockTransport(self.answer))
        words: dict[str, Any] = {**self.manners(), "sleep": self.sleep, **more}
        return Credits("https://api.example.com/v1", source, http=http, **words)

    def twin(self, source: Any = "t", **more: Any) -> AsyncCredits:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        words: dict[str, Any] = {**self.manners(), "sleep": self.sleep_in_tasks, **more}
        return AsyncCredits("https://api.example.com/v1", source, http=http, **words)

    def ask(self, kind: str, call: Callable[[Any], Any], source: Any = "t", **more: Any) -> Any:
        """What a call comes to with the client of this kind, ``sync`` or ``async``."""
        if kind == "sync":
            return call(self.client(source, **more))

        async def wait() -> Any:
            return await call(self.twin(source, **more))

        return asyncio.run(wait())
