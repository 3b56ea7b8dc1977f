"""How often a request is sent: as in the SDK's retry mode `standard`.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
"""

import random
from threading import Lock

from .errors import NoAnswer, ServiceError

LONGEST_PAUSE = 20
"""Seconds; a pause is random between 0 and 1, 2, 4 … up to this."""

TRANSIENT_STATUSES = frozenset({500, 502, 503, 504})
TRANSIENT = frozenset({"RequestTimeout", "RequestTimeoutException", "PriorRequestNotComplete"})
THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""The codes after which a request is sent again (a test compares them with botocore's)."""


class Quota:
    """The budget for all retries of a client: it prevents a storm of requests during an outage."""

    CAPACITY = 500
    COST = 5
    COST_OF_TIMEOUT = 10

    def __init__(self) -> None:
        self.left = self.CAPACITY
        self._lock = Lock()

    def take(self, cost: int) -> bool:
        """Takes that much from the budget; False if it is not left."""
        with self._lock:
            if cost > self.left:
                return False
            self.left -= cost
            return True

    def give_back(self, cost: int) -> None:
        """After a success: returns what the last retry took, or 1 if there was no retry."""
        if self.left < self.CAPACITY:
            with self._lock:
                self.left = min(self.CAPACITY, self.left + cost)


def cost_of(failure: NoAnswer | ServiceError) -> int:
    """What a retry after this failure takes from the budget."""
    is_timeout = isinstance(failure, NoAnswer) and failure.is_timeout
    return Quota.COST_OF_TIMEOUT if is_timeout else Quota.COST


def is_passing(failure: NoAnswer | ServiceError) -> bool:
    """Whether the same request may succeed a moment later."""
    return (
        isinstance(failure, NoAnswer)
        or failure.status in TRANSIENT_STATUSES
        or failure.code in TRANSIENT
        or failure.code in THROTTLED
    )


def pause_after(attempt: int) -> float:
    """For how many seconds to wait after attempt number n (1, 2, …)."""
    ceiling = min(LONGEST_PAUSE, 2 ** (attempt - 1))
    return random.uniform(0, ceiling)  # noqa: S311 - spreads retries, guards nothing
