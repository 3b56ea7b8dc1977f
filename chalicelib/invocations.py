"""What every invocation does around its work: gives its lines an id, writes what it counted."""

from collections.abc import Callable
from typing import Any

from chalicelib import metrics
from chalicelib.domain.errors import CreditsError
from chalicelib.observability import correlated, logger, trace


def observe(event: Any, handle: Callable[[Any], Any]) -> Any:
    """Middleware of every function: gives its lines an id, and writes what it counted.

    The id is Lambda's own of the invocation, where the event does not bring a better one.
    """
    with correlated(getattr(event.context, "aws_request_id", None)):
        try:
            return handle(event)
        finally:
            metrics.flush()


def unexpected(error: Exception, **about: Any) -> None:
    """Logs what should not have happened to one of many, and counts it for an alarm.

    The caller goes on with the others. Our own errors are logged with their words. The words of
    other errors can quote anything, even an address: of those only the kind and the place are
    logged.
    """
    metrics.count(metrics.Metric.UNEXPECTED_FAILURES)
    said = str(error) if isinstance(error, CreditsError) else None
    kind = type(error).__name__
    logger().error("unexpected failure", kind=kind, said=said, trace=trace(error), **about)
