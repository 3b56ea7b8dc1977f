"""The metrics, by their names in CloudWatch.

`count` is the only way to count. At the end of an invocation its counts are written to standard
output, as one line in CloudWatch's embedded metric format. An invocation without counts writes
nothing and does not load the library. Every metric has one dimension, ``service``, the stage's
name. Users and timezones are not dimensions: each value would be another metric to pay for.
"""

from enum import StrEnum
from threading import Lock

from chalicelib.observability import logger
from chalicelib.settings import written_metrics

NAMESPACE = "Credits"

COUNT = "Count"
SECONDS = "Seconds"


class Metric(StrEnum):
    """Every metric, by its name in CloudWatch.

    Ledger movements are counted from the ledger's stream, which carries every entry from every
    writer. The stream delivers at least once: metrics are for watching; only the ledger is exact.
    """

    ALLOCATIONS = "Allocations"
    """Allocation entries."""
    CREDITS_ALLOCATED = "CreditsAllocated"
    CREDITS_EXPIRED = "CreditsExpired"
    CREDITS_USED = "CreditsUsed"
    CREDITS_GRANTED = "CreditsGranted"
    """Credits granted by hand."""
    CREDITS_CLAWED_BACK = "CreditsClawedBack"
    CREDITS_REVERSED = "CreditsReversed"

    ALLOCATION_LATENESS = "AllocationLateness"
    """Seconds from a period's start, where the user lives, to the posting: each message's longest.
    """
    ALLOCATIONS_REPAIRED = "AllocationsRepaired"
    """Allocations posted by a re-sweep, because the first sweep had not."""
    CONFLICTS_RETRIED = "ConflictsRetried"
    """Lost races for the same item; each was decided again."""
    DUPLICATES_REFUSED = "DuplicatesRefused"
    """Requests repeated with their idempotency key, and answered from the ledger."""

    MAILS_SENT = "MailsSent"
    MAILS_FAILED = "MailsFailed"
    """Failed attempts to send an email, except those that SES had no room for."""

    ALLOCATION_TICKS = "AllocationTicks"
    """Ticks that started their sweeps: without ticks no month's credits are allocated."""
    EXPIRY_TICKS = "ExpiryTicks"

    DUE = "Due"
    """Users who were due for a period, in the zones of a completeness check."""
    MISSING = "Missing"
    """Users who were due and not allocated."""
    DUPLICATE = "Duplicate"
    """Users with more than one allocation of the period."""

    TIMEZONE_UNKNOWN = "TimezoneUnknown"
    """Users whose timezone is no longer in the database, by the completeness check of all zones."""

    LEDGERS_VERIFIED = "LedgersVerified"
    """Ledgers that an audit walked."""
    LEDGERS_CORRUPT = "LedgersCorrupt"
    """Audited ledgers with a wrong line; also those that the stream's reader or a digest of anchors
    shows to be wrong."""
    LEDGER_ITEMS_CHANGED = "LedgerItemsChanged"
    """Items of the ledger that somebody changed or removed: our functions never do."""

    STRIPE_EVENTS_WAITING = "StripeEventsWaiting"
    """Events of Stripe that could not be done yet, counted each time Stripe sent one: a customer
    without a user, an unknown price."""

    UNEXPECTED_FAILURES = "UnexpectedFailures"
    """Unexpected errors: an item that cannot be read, or a bug of ours. Each is about one user or
    record and is counted every time; the others in the invocation were handled."""

    @property
    def unit(self) -> str:
        """The unit, in CloudWatch's words."""
        return SECONDS if self is Metric.ALLOCATION_LATENESS else COUNT


_lock = Lock()
_counted: dict[Metric, list[float]] = {}


def count(metric: Metric, amount: float = 1) -> None:
    """Adds to a counter; durations are kept as separate values."""
    with _lock:
        values = _counted.setdefault(metric, [])
        if values and metric.unit == COUNT:
            values[0] += amount
        else:
            values.append(amount)


def flush() -> None:
    """Writes the counts since the last call. The work is already done then, so this never fails.

    A small stage writes only the metrics that its alarms read.
    """
    names = written_metrics()
    with _lock:
        counted = {m: values for m, values in _counted.items() if names is None or m in names}
        _counted.clear()
    if counted:
        _write(counted)


def _write(counted: dict[Metric, list[float]]) -> None:
    from aws_lambda_powertools.metrics import EphemeralMetrics
    from aws_lambda_powertools.metrics.exceptions import (
        MetricUnitError,
        MetricValueError,
        SchemaValidationError,
    )

    try:
        metrics = EphemeralMetrics(namespace=NAMESPACE)
        for metric, values in counted.items():
            for value in values:
                metrics.add_metric(metric.value, metric.unit, value)
        metrics.flush_metrics()
    except (
        OSError,
        TypeError,
        ValueError,
        MetricUnitError,
        MetricValueError,
        SchemaValidationError,
    ) as error:
        logger().warning("metrics not written", error=type(error).__name__)
