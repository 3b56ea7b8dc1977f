"""The frame of every invocation: gives its log lines an id, and writes its metrics."""

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from chalicelib import metrics
from chalicelib.domain.errors import CreditsError
from chalicelib.observability import correlated, logger, trace


def observe(event: Any, handle: Callable[[Any], Any]) -> Any:
    """Middleware of every function: gives its log lines an id, and writes its metrics.

    The id is Lambda's id of the invocation, unless the event brings a better one.
    """
    with correlated(getattr(event.context, "aws_request_id", None)):
        try:
            return handle(event)
        finally:
            metrics.flush()


def is_from_eventbridge(event: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether an event comes from a schedule, and not from a person who invokes the function."""
    return isinstance(event, Mapping) and "detail-type" in event


def unexpected(error: Exception, **about: Any) -> None:
    """Logs an unexpected error of one item among many, and counts it for an alarm.

    The caller goes on with the other items. Our own errors are logged with their messages. Messages
    of other errors can quote anything, even an address, so only their type and place are logged.
    """
    metrics.count(metrics.Metric.UNEXPECTED_FAILURES)
    said = str(error) if isinstance(error, CreditsError) else None
    kind = type(error).__name__
    logger().error("unexpected failure", kind=kind, said=said, trace=trace(error), **about)
