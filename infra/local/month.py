"""The turn of a month: the instants at which it begins, and who is due for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import (
    Subscription,
    due_periods,
    not_allocated_because,
    periods_of,
)


def instants_of_start(period: Period, zones: Iterable[str]) -> dict[datetime, set[str]]:
    """The instants at which a period begins, each with the zones in which it does."""
    instants: dict[datetime, set[str]] = defaultdict(set)
    for zone in zones:
        instants[calendar.month_start(zone, period)].add(zone)
    return instants


def is_due(subscription: Subscription, catalogue: PlanCatalogue, period: Period) -> bool:
    """Whether a subscription, as it is now, was or will be due for a period at its start.

    False for an unknown timezone or plan: then nobody can tell.
    """
    if not_allocated_because(subscription, catalogue):
        return False
    start = periods_of(subscription, catalogue).start(period)
    return period in due_periods(subscription, catalogue, None, start, start)
