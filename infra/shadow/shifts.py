"""Names how far from its due instant something happened in the old system, and why.

due at midnight in Paris, 23:00Z done at 04:00Z late by 5 h the same done at 00:00Z midnight in UTC
the same done at 22:00Z midnight by the other offset of Paris
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from chalicelib.domain import calendar

_OF_A_YEAR = [timedelta(days=61 * sixth) for sixth in range(1, 6)]
_UNITS = ((86_400, "day"), (3_600, "h"), (60, "min"), (1, "s"))


class Why(StrEnum):
    """Why something happened at another instant."""

    EARLY = "early"
    LATE = "late"
    ZONE = "zone"
    OFFSET = "offset"


class Shift(NamedTuple):
    """How far off it was, why, and the same in words: ``late by 5 h``."""

    by: timedelta
    why: Why
    words: str


class Zones(NamedTuple):
    """Where a user lives, and where they lived before."""

    now: str
    before: tuple[str, ...] = ()

    def shift(self, due: datetime, at: datetime, tolerance: timedelta) -> Shift | None:
        """How far an instant is from the due one; None within the tolerance."""
        by = at - due
        if abs(by) <= tolerance:
            return None
        apart = spoken(by)
        known = [zone for zone in (self.now, *self.before) if calendar.is_known(zone)]
        # Something due before a move was due at the midnight of the former zone.
        home = next((zone for zone in known if calendar.day_start(zone, due) == due), None)
        if home is not None:
            day = calendar.running_day(home, due)
            for zone in dict.fromkeys((*known, "UTC")):
                if abs(at - calendar.midnight(zone, day)) <= tolerance:
                    return Shift(by, Why.ZONE, f"at midnight in {zone}, {apart}")
            if any(abs(by + offset) <= tolerance for offset in _other_offsets(home, due)):
                words = f"at midnight by the other UTC offset of {home}, {apart}"
                return Shift(by, Why.OFFSET, words)
        return Shift(by, Why.LATE if by > timedelta(0) else Why.EARLY, apart)


@cache
def _other_offsets(zone: str, due: datetime) -> Sequence[timedelta]:
    """How far ahead of its offset at that instant the zone is at other times of the year."""
    rules = calendar.zone(zone)
    usual = due.astimezone(rules).utcoffset()
    found = ((due + later).astimezone(rules).utcoffset() for later in _OF_A_YEAR)
    return tuple({other - usual for other in found if other and usual and other != usual})


def spoken(by: timedelta) -> str:
    """``late by 5 h``, ``early by 2 days 3 h``."""
    return f"{'late' if by > timedelta(0) else 'early'} by {length(abs(by))}"


def length(of: timedelta) -> str:
    """A length of time in its two largest units: ``5 h``, ``1 day 3 h``."""
    left = of // timedelta(seconds=1)
    parts = []
    for seconds, unit in _UNITS:
        many, left = divmod(left, seconds)
        if many:
            parts.append(f"{many:,} {unit}{'s' if unit == 'day' and many > 1 else ''}")
    return " ".join(parts[:2]) or "0 s"
