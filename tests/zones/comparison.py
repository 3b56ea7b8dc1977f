"""Compares the calendar with both oracles, zone by zone."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

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


def _at(second: int) -> str:
    return f"{_EPOCH + second * _SECOND:%Y-%m-%dT%H:%M:%SZ}"
