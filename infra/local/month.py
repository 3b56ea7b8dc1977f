"""The turn of a month: the instants at which it begins, where, and who is due for it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import (
    Subscription,
    due_periods,
    not_allocated_because,
    periods_of,
)

_CITIES = re.compile(
    "(Africa|America|Asia|Atlantic|Australia|Europe|Indian|Pacific|Arctic|Antarctica)/"
)
"""The prefixes of timezone names that end with the name of one of their cities or islands.

Other names mislead: Etc/GMT-14 is 14 hours ahead of Greenwich, and few know where Navajo is.
"""

_MOST_PLACES = 4


class Places(NamedTuple):
    """Where it is midnight: timezones to name, and how many more cities there are."""

    zones: list[str]
    more: int


def places(zones: Collection[str], users: Mapping[str, int]) -> Places:
    """The timezones to name, by their cities: those with most users first, each city once.

    Where there is no city, as at UTC-12, it is one timezone without a city.
    """
    by_city: dict[str, str] = {}
    for zone in sorted(zones, key=lambda zone: (-users.get(zone, 0), _rank(zone))):
        if _CITIES.match(zone):
            by_city.setdefault(zone.rpartition("/")[2], zone)
    named = [*by_city.values()] or [min(zones)]
    return Places(named[:_MOST_PLACES], len(named[_MOST_PLACES:]))


def _rank(zone: str) -> tuple[bool, str]:
    """Antarctic stations come last, because few know them."""
    return zone.startswith("Antarctica/"), zone


def latest_period(now: datetime) -> Period:
    """The month that began last, anywhere."""
    return max(calendar.period_at(zone, now) for zone in calendar.zone_names())


def instants_of_start(period: Period, zones: Iterable[str]) -> dict[datetime, set[str]]:
    """The instants at which a period begins, each with the zones in which it does."""
    instants: dict[datetime, set[str]] = defaultdict(set)
    for zone in zones:
        instants[calendar.month_start(zone, period)].add(zone)
    return instants


def is_due(subscription: Subscription, catalogue: PlanCatalogue, period: Period) -> bool:
    """Whether a subscription, as it is now, was or will be due for a period at the period's start.

    False for an unknown timezone or plan: then nobody can tell.
    """
    if not_allocated_because(subscription, catalogue):
        return False
    start = periods_of(subscription, catalogue).start(period)
    return period in due_periods(subscription, catalogue, None, start, start)
