"""The app as a transport of httpx: the Python client calls the real handlers, without a socket."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from tests.aws.api import ADMIN, BACKEND, BILLING, NOBODY, Api, Caller

TOKENS: Mapping[str, Caller] = {"admin": ADMIN, "backend": BACKEND, "billing": BILLING}
"""Who a bearer token stands for; any other is refused."""

URL = "http://app"


@dataclass
class InProcess(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Sends each request to the app, which holds every answer to the contract.

    ``calls``: the method and the path of each.
    """

    api: Api
    calls: list[str] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._answered(request, request.read())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return self._answered(request, await request.aread())

    def _answered(self, request: httpx.Request, body: bytes) -> httpx.Response:
        path = request.url.raw_path.decode()
        self.calls.append(f"{request.method} {path}")
        headers = {name: value for name, value in request.headers.items() if name != "host"}
        token = headers.pop("authorization", "").removeprefix("Bearer ")
        media_type = headers.pop("content-type", None)
        reply = self.api.send(
            request.method,
            path,
            TOKENS.get(token, NOBODY),
            headers=headers,
            raw=body or None,
            media_type=media_type,
        )
        return httpx.Response(reply.status, headers=reply.headers, text=reply.text)
