"""The latest count of a month: who was due, and who was allocated.

The count (`jobs.completeness`) writes a report; nothing is counted here.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.errors import InvalidInput, NotFound, Unreadable
from chalicelib.domain.instants import parse_instant
from chalicelib.services import Services


def key_of(period: Period) -> str:
    """Where the newest report of all zones is."""
    return f"completeness/{period}/newest.json"


class Instant(NamedTuple):
    """The zones with users in which a month begins at an instant; None for unknown zones."""

    at: datetime | None
    zones: dict[str, Tally]


class Month(NamedTuple):
    """The count of a month, in the order in which it begins."""

    counted_at: datetime
    together: Tally
    instants: list[Instant]


def month_of(services: Services, period: Period) -> Month:
    """The newest count of a month. Raises `NotFound` before the first, and `Unreadable`."""
    text = services.reports.find(key_of(period))
    if text is None:
        raise NotFound(
            f"the allocations of {period} were not counted yet: that is done on the 2nd and the "
            f"9th, and by make completeness PERIOD={period}"
        )
    try:
        return _read(period, json.loads(text))
    except (InvalidInput, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable("report", str(period), str(error)) from error


def _read(period: Period, report: Mapping[str, Any]) -> Month:
    by_instant: dict[datetime | None, dict[str, Tally]] = {}
    for zone, counted in sorted(report["by_zone"].items()):
        start = calendar.month_start(zone, period) if calendar.is_known(zone) else None
        by_instant.setdefault(start, {})[zone] = Tally.parse(f"by_zone.{zone}", counted)
    last = by_instant.pop(None, None)
    starts = sorted((start, zones) for start, zones in by_instant.items() if start)
    instants = [Instant(start, zones) for start, zones in starts]
    return Month(
        counted_at=parse_instant("counted_at", report["counted_at"]),
        together=sum((tally for each in by_instant.values() for tally in each.values()), Tally())
        + sum((last or {}).values(), Tally()),
        instants=[*instants, Instant(None, last)] if last else instants,
    )
