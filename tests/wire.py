"""Lets the wire to DynamoDB end in this process: at moto, which else listens to botocore only."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from moto.core.models import botocore_stubber

from chalicelib.store.wire.errors import NoAnswer, ServiceError
from chalicelib.store.wire.exchange import Answer
from chalicelib.store.wire.transport import Transport


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

    ``meddle`` is told the request; what it raises, the network does.
    """
    original = transport.send

    def send(headers: dict[str, str], body: bytes) -> Answer:
        answer = original(headers, body)
        if headers["x-amz-target"].endswith(f".{operation}"):
            meddle(body)
        return answer

    patch.setattr(transport, "send", send)


def refused(operation: str, code: str, **said: Any) -> ServiceError:
    """DynamoDB's answer that it does not do what was asked."""
    return ServiceError(operation, 400, code, {"message": "no", **said})


def cancelled(*reasons: str, operation: str = "ExecuteTransaction") -> ServiceError:
    """Its answer that a transaction was cancelled, and why."""
    codes = [{"Code": reason} for reason in reasons]
    return refused(operation, "TransactionCanceledException", CancellationReasons=codes)


def silence() -> NoAnswer:
    """That no answer came in time."""
    return NoAnswer("lost", is_timeout=True)
