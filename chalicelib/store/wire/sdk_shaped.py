"""The wire with the interface of botocore's client, for Powertools: it raises botocore's errors."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    ReadTimeoutError,
)

from .client import Client, Json
from .errors import NoAnswer, ServiceError


class SdkShaped:
    """Has a method for each operation, in botocore's spelling: ``query`` for ``Query``."""

    def __init__(self, wire: Client) -> None:
        self.wire = wire

    def __getattr__(self, name: str) -> Callable[..., Json]:
        if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name):
            raise AttributeError(name)
        return partial(self._call, name.title().replace("_", ""))

    def _call(self, operation: str, /, **parameters: Any) -> Json:
        try:
            return self.wire.call(operation, parameters)
        except ServiceError as error:
            raise _client_error(error) from error
        except NoAnswer as error:
            raise _unanswered(error, self.wire.transport.endpoint.host) from error


def _client_error(error: ServiceError) -> ClientError:
    response: Any = {
        **error.said,
        "Error": {"Code": error.code, "Message": error.message},
        "ResponseMetadata": {"HTTPStatusCode": error.status},
    }
    return ClientError(response, error.operation)


def _unanswered(error: NoAnswer, host: str) -> BotoCoreError:
    if error.is_timeout:
        kind = ReadTimeoutError if error.is_connected else ConnectTimeoutError
        return kind(endpoint_url=host, error=error)
    if error.is_connected:
        return ConnectionClosedError(endpoint_url=host, error=error)
    return EndpointConnectionError(endpoint_url=host, error=error)
