"""When days begin, found out twice more: from the zone files' bytes, and by the C library.

`midnights_of` reads a compiled zone file itself (RFC 9636) and cuts time into stretches of constant
offset. `WallClock` asks the C library, which reads the same file with code of its own, what the
clock on the wall shows at an instant. Neither knows `zoneinfo`, folds or gaps.
"""

import os
import re
import struct
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import tzdata  # type: ignore[import-untyped]

DAY = 86_400
FIRST, LAST = date(1970, 1, 1), date(2050, 12, 31)
DAYS = (LAST - FIRST).days + 1

_EPOCH = FIRST.toordinal()
_FAR = 2**62

Stretch = tuple[int, int]
"""The second since 1970 from which an offset holds, and the offset in seconds east."""


def zone_path(name: str) -> Path:
    """The file of a zone in the pinned data."""
    return Path(tzdata.__file__).parent / "zoneinfo" / name


# --- The zone file --------------------------------------------------------------------------------


def stretches_of(file: bytes) -> list[Stretch]:
    """All offsets of a zone until after `LAST`, earliest first."""
    counts = _counts(file, 0)
    # The first block has times of 32 bits, for readers of long ago.
    at = 44 + _size(counts, 4)
    _, _, _, times, types, _ = counts = _counts(file, at)
    at += 44
    footer = file[at + _size(counts, 8) :].decode("ascii").strip("\n")
    moments = struct.unpack_from(f">{times}q", file, at)
    kinds = file[at + 8 * times : at + 9 * times]
    offsets = [
        struct.unpack_from(">l", file, at + 9 * times + 6 * kind)[0] for kind in range(types)
    ]
    found = [(-_FAR, offsets[0]), *((m, offsets[k]) for m, k in zip(moments, kinds, strict=True))]
    last = found[-1][0]
    return found + [change for change in sorted(_by_rule(footer)) if change[0] > last]


def _counts(file: bytes, at: int) -> tuple[int, ...]:
    if file[at : at + 4] != b"TZif":
        raise ValueError("no zone file")
    return struct.unpack_from(">6l", file, at + 20)


def _size(counts: tuple[int, ...], width: int) -> int:
    isutc, isstd, leaps, times, types, letters = counts
    return times * (width + 1) + types * 6 + letters + leaps * (width + 4) + isstd + isutc


_NAME = r"(?:<[^>]+>|[A-Za-z]+)"
_RULE = re.compile(rf"{_NAME}([-+:\d]+)(?:{_NAME}([-+:\d]+)?,([^,]+),([^,]+))?")


def _by_rule(footer: str) -> Iterator[Stretch]:
    """The changes that the rule at the end of a file says for each year."""
    rule = _RULE.fullmatch(footer)
    if rule is None:
        raise ValueError(f"no rule: {footer}")
    # POSIX counts west of Greenwich.
    standard = -_seconds(rule[1])
    if rule[3] is None:
        return
    summer = -_seconds(rule[2]) if rule[2] else standard + 3600
    for year in range(FIRST.year, LAST.year + 2):
        yield _wall_second(rule[3], year) - standard, summer
        yield _wall_second(rule[4], year) - summer, standard


def _wall_second(text: str, year: int) -> int:
    day, _, clock = text.partition("/")
    if day.startswith("M"):
        month, week, weekday = map(int, day[1:].split("."))
        first = date(year, month, 1)
        number = first.toordinal() + (weekday - first.isoweekday()) % 7 + 7 * (week - 1)
        while date.fromordinal(number).month != month:  # the fifth is the last
            number -= 7
    elif day.startswith("J"):  # 1 to 365; 29 February has no number
        number = date(2001, 1, 1).toordinal() + int(day[1:]) - 1
        number = date.fromordinal(number).replace(year=year).toordinal()
    else:
        number = date(year, 1, 1).toordinal() + int(day)
    return (number - _EPOCH) * DAY + _seconds(clock or "2")


def _seconds(clock: str) -> int:
    hours, minutes, seconds = [*map(int, clock.lstrip("+-").split(":")), 0, 0][:3]
    total = hours * 3600 + minutes * 60 + seconds
    return -total if clock.startswith("-") else total


def midnights_of(stretches: list[Stretch], days: Sequence[int] = range(DAYS)) -> list[int]:
    """For each day, counted from `FIRST`, the first second whose local date is it, or a later one.

    A day that a zone skipped begins with the day that came instead.
    """
    starts = [start for start, _ in stretches]
    found = []
    for day in days:
        opens = day * DAY
        # No clock was ever changed by much more than a day: two days before, no date was later.
        place = bisect_right(starts, opens - 2 * DAY) - 1
        while True:
            start, offset = stretches[place]
            end = starts[place + 1] if place + 1 < len(starts) else _FAR
            candidate = max(start, opens - offset)
            if candidate < end:
                found.append(candidate)
                break
            place += 1
    return found


# --- The C library --------------------------------------------------------------------------------


class WallClock:
    """What the clock on the wall shows, by the C library and one zone file."""

    def problem(self, day: int, midnight: int) -> str | None:
        """What is wrong with an instant as the beginning of a day, counted from `FIRST`."""
        if self._day(midnight) < day:
            return "the day has not begun then"
        if self._day(midnight - 1) >= day:
            return "the day has begun a second before"
        # Where the clock was changed in the hours before, the day may have begun then, and been
        # interrupted.
        if self._offset(midnight - 26 * 3600) != self._offset(midnight):
            for minutes in range(1, 26 * 60):
                if self._day(midnight - 60 * minutes) >= day:
                    return f"the day had begun {minutes} minutes before"
        return None

    @staticmethod
    def _day(instant: int) -> int:
        wall = time.localtime(instant)
        return (instant + wall.tm_gmtoff) // DAY

    @staticmethod
    def _offset(instant: int) -> int:
        return time.localtime(instant).tm_gmtoff


@contextmanager
def wall_clock(path: Path) -> Iterator[WallClock]:
    """Within the block the C library of this process lives by a zone file."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = f":{path}"
    time.tzset()
    try:
        yield WallClock()
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def date_of(day: int) -> date:
    """The date of a day counted from `FIRST`."""
    return FIRST + timedelta(days=day)
