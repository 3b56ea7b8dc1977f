"""Finds midnights in UTC that probably mean midnight where the user lives.

`2027-01-01T00:00:00Z` is 01:00 in Berlin and 09:00 in Tokyo. January has already begun there, so
users who are eligible from that instant first receive February. Nobody would notice the missing
month, so an import warns before it writes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, time
from typing import NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.instants import format_instant
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import (
    MOST_MISSED_PERIODS,
    Periods,
    Subscription,
    can_receive,
    periods_of,
)


class _Misread(NamedTuple):
    """A midnight that gives users of a zone another month than they probably should get."""

    timezone: str
    column: str
    value: datetime
    month: Period
    meant: Period


class MisreadMidnights:
    """Counts such midnights in the subscriptions of a file, zone by zone."""

    def __init__(self, catalogue: PlanCatalogue, now: datetime) -> None:
        self._catalogue = catalogue
        self._now = now
        self._rows: Counter[_Misread] = Counter()

    def look_at(self, subscription: Subscription, existing: Subscription | None) -> None:
        """Checks an imported subscription, if the import changes when credits come."""
        if can_receive(subscription, self._catalogue) and (
            existing is None or _times(existing) != _times(subscription)
        ):
            self._rows.update(self._misread_starts(subscription))
            self._rows.update(self._misread_ends(subscription))

    def warnings(self) -> list[str]:
        """One sentence for each zone and value."""
        return [_warning(misread, rows) for misread, rows in sorted(self._rows.items())]

    def _misread_starts(self, subscription: Subscription) -> Iterable[_Misread]:
        timezone = subscription.timezone
        given = {
            "eligible_from": _instant(subscription.eligible_from, timezone),
            "started_at": subscription.started_at,
        }
        started_as_meant = _meant(timezone, subscription.started_at)
        periods = periods_of(subscription, self._catalogue)
        # An anniversary is the day of the start: another midnight can mean another day.
        periods_as_meant = periods_of(
            replace(subscription, started_at=started_as_meant), self._catalogue
        )
        # Lapsed months are lost in both cases.
        oldest = periods.at(self._now).plus(1 - MOST_MISSED_PERIODS)
        month = max(oldest, _first_month(periods, max(given.values())))
        as_meant = max(_meant(timezone, instant) for instant in given.values())
        meant = max(oldest, _first_month(periods_as_meant, as_meant))
        if month == meant:
            return
        for column, instant in given.items():
            is_other_day = column == "started_at" and periods != periods_as_meant
            if is_other_day or instant > periods_as_meant.start(meant):
                yield _Misread(timezone, column, instant, month, meant)

    def _misread_ends(self, subscription: Subscription) -> Iterable[_Misread]:
        ends_at, timezone = subscription.ends_at, subscription.timezone
        if ends_at is None or ends_at <= self._now:
            return
        periods = periods_of(subscription, self._catalogue)
        month = _first_month(periods, ends_at).previous()
        meant = _first_month(periods, _meant(timezone, ends_at)).previous()
        if month != meant:
            yield _Misread(timezone, "ends_at", ends_at, month, meant)


def _times(subscription: Subscription) -> tuple[object, ...]:
    return (
        subscription.timezone,
        subscription.eligible_from,
        subscription.started_at,
        subscription.ends_at,
    )


def _instant(moment: datetime | date, timezone: str) -> datetime:
    # To Python, an instant is a date too.
    return moment if isinstance(moment, datetime) else calendar.midnight(timezone, moment)


def _meant(timezone: str, instant: datetime) -> datetime:
    """A midnight of UTC as the same midnight in a zone; any other instant unchanged."""
    if instant.time() != time.min:
        return instant
    return calendar.midnight(timezone, instant.date())


def _first_month(periods: Periods, instant: datetime) -> Period:
    """The first period that begins at or after an instant."""
    period = periods.at(instant)
    return period if periods.start(period) == instant else period.next()


def _warning(misread: _Misread, rows: int) -> str:
    timezone, column, value, month, meant = misread
    which = "last" if column == "ends_at" else "first"
    local = value.astimezone(calendar.zone(timezone))
    midnight = calendar.midnight(timezone, value.date()).astimezone(calendar.zone(timezone))
    better = (
        f"{value.date().isoformat()}, the midnight where the user lives"
        if column == "eligible_from"
        else f"{midnight.isoformat(timespec='seconds')}"
    )
    return (
        f"{timezone}, {rows:,} {'row' if rows == 1 else 'rows'}: {column} {format_instant(value)} "
        f"is {local:%H:%M} there on {local:%Y-%m-%d}, so that the {which} month is {month}. If "
        f"{meant} is meant, write {better}."
    )
