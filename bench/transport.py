"""DynamoDB's answers without DynamoDB: a dictionary answers below botocore, and below the wire.

Everything above the socket is real (signing, serialising, parsing, retries), so it measures only
our own CPU and the SDK's.
"""

from __future__ import annotations

import json
from typing import Any
from unittest.mock import patch

import botocore.httpsession
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders

from chalicelib.store.wire import transport as wire
from chalicelib.store.wire.exchange import Answer

_HEADERS = HTTPHeaders.from_dict(
    {"content-type": "application/x-amz-json-1.0", "x-amzn-requestid": "bench"}
)


class _Body:
    """A response like urllib3's."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: object, **__: object) -> list[bytes]:
        return [self._content]

    def read(self, *_: object) -> bytes:
        return self._content


class Transport:
    """Answers by operation name; answers unknown operations with an empty object."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.calls: list[str] = []

    def answer(self, operation: str, body: dict[str, Any]) -> None:
        """Makes ``operation`` answer ``body`` from now on."""
        self.answers[operation] = json.dumps(body).encode()

    def install(self) -> None:
        """Replaces the network for the rest of the process."""

        def send(_session: object, request: AWSPreparedRequest) -> AWSResponse:
            target = request.headers["X-Amz-Target"]
            operation = (target.decode() if isinstance(target, bytes) else target).split(".")[-1]
            self.calls.append(operation)
            content = self.answers.get(operation, b"{}")
            return AWSResponse(request.url, 200, _HEADERS, _Body(content))

        def send_by_wire(_wire: object, headers: dict[str, str], _body: bytes) -> Answer:
            operation = headers["x-amz-target"].split(".")[-1]
            self.calls.append(operation)
            return Answer(200, {}, self.answers.get(operation, b"{}"))

        patch.object(botocore.httpsession.URLLib3Session, "send", send).start()
        patch.object(wire.Transport, "send", send_by_wire).start()
