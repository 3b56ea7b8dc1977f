"""For how long credits live: a number of local days, or until the start of a later period.

Days(30)    granted at midnight on 1 May: gone at midnight on 31 May
Months(1)   "use it or lose it": gone when the next period begins
Months(2)   "one month rolls over": gone when the period after the next one begins
None        they never expire
"""

from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from . import calendar


@dataclass(frozen=True, slots=True)
class Days:
    """A number of whole local days."""

    count: int


@dataclass(frozen=True, slots=True)
class Months:
    """Until the start of the ``count``-th period after the one that is running at the grant.

    ``day``: the day of the month on which the user's periods begin.
    """

    count: int
    day: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"a lifetime is 1 month or more, not {self.count}")


Lifetime = Days | Months | None
"""A lifetime of credits; None for ever."""


def expires_at(lifetime: Lifetime, timezone: str, granted_at: datetime) -> datetime | None:
    """When credits granted at an instant can no longer be spent: a local midnight; None for never.

    If credits are granted in the middle of a period, the rest of it is their first month.
    """
    if lifetime is None:
        return None
    if isinstance(lifetime, Months):
        running = calendar.period_at(timezone, granted_at, lifetime.day)
        return calendar.period_start(timezone, running.plus(lifetime.count), lifetime.day)
    if isinstance(lifetime, Days):
        return calendar.expires_at(timezone, granted_at, lifetime.count)
    assert_never(lifetime)
