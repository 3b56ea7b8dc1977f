"""The errors of a request. No message contains a key, a token or any part of the request."""

from typing import Any


class WireError(Exception):
    """A call to DynamoDB that did not succeed."""


class NoAnswer(WireError):
    """No readable answer came; nobody knows whether the request was carried out.

    ``is_timeout``: because it took too long. ``is_connected``: it was, or may have been, sent.
    """

    def __init__(self, why: str, *, is_timeout: bool = False, is_connected: bool = True) -> None:
        super().__init__(why)
        self.is_timeout = is_timeout
        self.is_connected = is_connected


class ServiceError(WireError):
    """DynamoDB answered with an error.

    ``code``: DynamoDB's name for it. ``status``: the HTTP status. ``said``: the answer as it came,
    such as the reasons of a cancelled transaction.
    """

    def __init__(self, operation: str, status: int, code: str, said: dict[str, Any]) -> None:
        self.operation, self.status, self.code, self.said = operation, status, code, said
        self.message = str(said.get("message", said.get("Message", "")))
        super().__init__(f"{operation} was answered with {code}: {self.message}")
