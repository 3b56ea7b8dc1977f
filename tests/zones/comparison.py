"""Compares the calendar with both oracles, zone by zone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from tests.zones.oracles import DAYS, date_of, midnights_of, stretches_of, wall_clock, zone_path

QUARTER = 900

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_midnight: Callable[[str, object], datetime] = calendar.midnight.__wrapped__  # no room to keep all


@dataclass
class Compared:
    """What came of it. ``starts``: the seconds at which each month begins somewhere."""

    zones: int = 0
    files: int = 0
    midnights: int = 0
    month_starts: int = 0
    anniversaries: int = 0
    disagreements: list[str] = field(default_factory=list)
    starts: dict[Period, set[int]] = field(default_factory=dict)
    off_grid: dict[str, Period] = field(default_factory=dict)
    """The last month of a zone that does not begin at a quarter of an hour, UTC."""

    @property
    def last_off_grid(self) -> Period | None:
        return max(self.off_grid.values(), default=None)


def compare(
    names: Iterable[str],
    days: Sequence[int] = range(DAYS),
    tell: Callable[[str], object] = lambda _: None,
) -> Compared:
    """Every day's midnight of each zone, and every month's start among them.

    Zones of one file are links to each other: the oracles are asked once for them.
    """
    compared = Compared()
    checked: dict[bytes, list[int]] = {}
    dates = [date_of(day) for day in days]
    for name in names:
        file = zone_path(name).read_bytes()
        found = [(_midnight(name, day) - _EPOCH) // _SECOND for day in dates]
        if file not in checked:
            checked[file] = midnights_of(stretches_of(file), days)
            _ask_wall_clock(name, found, days, compared)
        for day, ours, theirs in zip(dates, found, checked[file], strict=True):
            if ours != theirs:
                compared.disagreements.append(
                    f"{name} {day}: {_at(ours)} here, {_at(theirs)} by the zone file"
                )
        compared.midnights += len(found)
        _note_months(name, zip(dates, found, strict=True), compared)
        by_date = dict(zip(dates, checked[file], strict=True))
        _compare_anniversaries(name, by_date, compared)
        compared.zones += 1
        tell(name)
    compared.files = len(checked)
    return compared


def _ask_wall_clock(name: str, found: list[int], days: Sequence[int], compared: Compared) -> None:
    with wall_clock(zone_path(name)) as clock:
        for day, midnight in zip(days, found, strict=True):
            problem = clock.problem(day, midnight)
            if problem is not None:
                compared.disagreements.append(
                    f"{name} {date_of(day)}: {_at(midnight)} here; by the C library {problem}"
                )


def _note_months(name: str, found: Iterable[tuple[date, int]], compared: Compared) -> None:
    for first, midnight in found:
        if first.day != 1:
            continue
        period = Period.of(first)
        start = (calendar.month_start(name, period) - _EPOCH) // _SECOND
        if start != midnight:
            problem = f"{name} {period}: begins at another instant than its 1st"
            compared.disagreements.append(problem)
        compared.month_starts += 1
        compared.starts.setdefault(period, set()).add(start)
        if start % QUARTER:
            compared.off_grid[name] = max(period, compared.off_grid.get(name, period))


def anniversaries(day: int) -> list[date]:
    """The dates, from `FIRST` to `LAST`, on which the months of those begin who began on a ``day``.

    One goes through all dates: it is the day itself, or the last one before a month ends too early.
    """
    dates = [date_of(number) for number in range(DAYS + 1)]
    return [
        today
        for today, tomorrow in pairwise(dates)
        if today.day == day or (today.day < day and tomorrow.day == 1)
    ]


def _compare_anniversaries(name: str, midnights: dict[date, int], compared: Compared) -> None:
    """The starts of the periods of each late day of the month, and what is running round them."""
    for day, dates in _LATE_DAYS.items():
        for today in dates:
            if today not in midnights:
                continue
            start, period = _EPOCH + midnights[today] * _SECOND, Period.of(today)
            found = calendar.period_start(name, period, day)
            running = calendar.period_at(name, start, day)
            before = calendar.period_at(name, start - _SECOND, day)
            if (found, running, before) != (start, period, period.previous()):
                problem = f"{name} {period}: does not begin on {today} for those of the {day}th"
                compared.disagreements.append(problem)
            compared.anniversaries += 1


_LATE_DAYS = {day: anniversaries(day) for day in (28, 29, 30, 31)}


def _at(second: int) -> str:
    return f"{_EPOCH + second * _SECOND:%Y-%m-%dT%H:%M:%SZ}"
