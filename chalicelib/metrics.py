"""What is counted, by the names that CloudWatch has for it.

`count` is the one way to count. What an invocation counted is written when it ends, as one line of
CloudWatch's embedded metric format on standard output; an invocation that counted nothing writes
nothing and does not load what it takes. Every metric has the one dimension ``service``, which is
the stage's name: a user or a timezone is no dimension, each would be a metric to pay for.
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

    Ledger movements are counted from the ledger's stream, which every entry passes, whoever wrote
    it. The stream delivers at least once: metrics watch, the ledger alone is exact.
    """

    ALLOCATIONS = "Allocations"
    """Allocation entries."""
    CREDITS_ALLOCATED = "CreditsAllocated"
    CREDITS_EXPIRED = "CreditsExpired"
    CREDITS_USED = "CreditsUsed"
    CREDITS_GRANTED = "CreditsGranted"
    """Granted by hand."""
    CREDITS_CLAWED_BACK = "CreditsClawedBack"
    CREDITS_REVERSED = "CreditsReversed"

    ALLOCATION_LATENESS = "AllocationLateness"
    """Seconds from a period's start, where the user lives, to the posting: of each message that
    posted any, the most."""
    ALLOCATIONS_REPAIRED = "AllocationsRepaired"
    """Allocations that a re-sweep posted: the first sweep had not."""
    CONFLICTS_RETRIED = "ConflictsRetried"
    """Races for the same item that were lost, and decided again."""
    DUPLICATES_REFUSED = "DuplicatesRefused"
    """Requests that came again under their idempotency key, and were answered from the ledger."""

    MAILS_SENT = "MailsSent"
    MAILS_FAILED = "MailsFailed"
    """Attempts that failed; a mail that SES has no room for yet is not one."""

    ALLOCATION_TICKS = "AllocationTicks"
    """Ticks that started their sweeps: when there are none, no month begins."""
    EXPIRY_TICKS = "ExpiryTicks"

    DUE = "Due"
    """Users who were due for a period, by the completeness check of the zones it was asked for."""
    MISSING = "Missing"
    """Of those, the ones who were not allocated."""
    DUPLICATE = "Duplicate"
    """Users with more than one allocation of the period."""

    TIMEZONE_UNKNOWN = "TimezoneUnknown"
    """Users whose timezone the database has no more, by the completeness check of all zones."""

    LEDGERS_VERIFIED = "LedgersVerified"
    """Ledgers that an audit walked."""
    LEDGERS_CORRUPT = "LedgersCorrupt"
    """Of those, the ones with a line that is wrong; also what the stream's reader or a digest of
    anchors shows to be wrong."""
    LEDGER_ITEMS_CHANGED = "LedgerItemsChanged"
    """Items of the ledger that somebody changed or removed: no function of ours does."""

    UNEXPECTED_FAILURES = "UnexpectedFailures"
    """What should not happen: an item that cannot be read, or a bug of ours. Of one user or record,
    each time it is met; the others of the invocation were served."""

    @property
    def unit(self) -> str:
        """What CloudWatch calls its unit."""
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
    """Writes what was counted since the last time. The work is done by then: it never fails.

    Of a small stage's metrics, only those that its alarms read.
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
