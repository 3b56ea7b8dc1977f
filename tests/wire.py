"""Lets the wire to DynamoDB end in this process: at moto, which else listens to botocore only."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from botocore.exceptions import ReadTimeoutError
from moto.core.models import botocore_stubber

from chalicelib.store.wire.errors import NoAnswer
from chalicelib.store.wire.transport import Answer, Transport


def to_moto(transport: Transport, headers: dict[str, str], body: bytes) -> Answer:
    """Moto's answer to the bytes that would have been sent."""
    url = f"https://{transport.endpoint.host}/"
    request = AWSPreparedRequest(
        "POST", url, HTTPHeaders.from_dict(headers), body, stream_output=False
    )
    operation = headers["x-amz-target"].partition(".")[2]
    response: Any = botocore_stubber(f"before-send.dynamodb.{operation}", request)
    assert response is not None, "moto is not at work"
    found = {name.lower(): str(value) for name, value in response.headers.items()}
    return Answer(response.status_code, found, response.content)


def install(patch: pytest.MonkeyPatch) -> None:
    """All wires end at moto from now on."""
    patch.setattr(Transport, "send", to_moto)


def meet(
    patch: pytest.MonkeyPatch,
    transport: Transport,
    operation: str,
    meddle: Callable[[bytes], None],
) -> None:
    """From now on something happens to an operation once DynamoDB has done it.

    ``meddle`` is told the request; a timeout that it raises is one of the network.
    """
    original = transport.send

    def send(headers: dict[str, str], body: bytes) -> Answer:
        answer = original(headers, body)
        try:
            if headers["x-amz-target"].endswith(f".{operation}"):
                meddle(body)
        except ReadTimeoutError as error:
            raise NoAnswer("lost", is_timeout=True) from error
        return answer

    patch.setattr(transport, "send", send)
