"""The calendar against both oracles: all month starts, and all days of zones with odd histories."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time

import pytest

from chalicelib.domain.calendar import Period, zone, zone_names
from tests.zones import comparison
from tests.zones.comparison import compare
from tests.zones.oracles import (
    DAYS,
    FIRST,
    date_of,
    midnights_of,
    stretches_of,
    wall_clock,
    zone_path,
)

ODD = (
    "Africa/Casablanca",  # summer time is the standard, and winter the exception
    "America/Asuncion",  # midnights that do not exist
    "America/St_Johns",  # clocks changed at one minute past midnight
    "Pacific/Apia",  # skipped a day
)


@pytest.fixture(scope="module")
def months() -> comparison.Compared:
    """Of one name for each different file: the others are links, for `python -m tests.zones`."""
    different = {zone_path(name).read_bytes(): name for name in zone_names()}
    firsts = [day for day in range(DAYS) if date_of(day).day == 1]
    return compare(sorted(different.values()), firsts)


def test_every_month_of_every_different_zone_starts_where_both_oracles_say(
    months: comparison.Compared,
) -> None:
    assert months.disagreements == []
    assert months.zones == months.files > 300
    assert months.month_starts == months.zones * 81 * 12


def test_from_1980_on_every_month_starts_on_a_quarter_of_an_hour_within_26_hours(
    months: comparison.Compared,
) -> None:
    assert months.last_off_grid is not None
    assert months.last_off_grid < Period(1980, 1)
    starts = {period: found for period, found in months.starts.items() if period >= Period(2026, 1)}
    assert max(len(found) for found in starts.values()) <= 41
    assert {max(found) - min(found) for found in starts.values()} == {26 * 3600}


def test_every_day_of_zones_with_odd_histories_starts_where_both_oracles_say() -> None:
    compared = compare(ODD)
    assert compared.disagreements == []
    assert compared.midnights == len(ODD) * DAYS
    assert compared.anniversaries == len(ODD) * 4 * 81 * 12


def by_the_other_reading(name: str, day: date) -> datetime:
    """A mistake: the second of two midnights, and in a gap the reading by the offset after it."""
    wall = datetime.combine(day, time.min, tzinfo=zone(name))
    return wall.replace(fold=1).astimezone(UTC)


@pytest.mark.parametrize(
    ("name", "day", "found", "right", "problem"),
    [
        (
            *("America/St_Johns", date(2010, 11, 7)),
            *("2010-11-07T03:30:00Z", "2010-11-07T02:30:00Z"),
            "the day had begun 60 minutes before",
        ),
        (
            *("America/Havana", date(2025, 11, 2)),
            *("2025-11-02T05:00:00Z", "2025-11-02T04:00:00Z"),
            "the day has begun a second before",
        ),
        (
            *("America/Asuncion", date(2024, 10, 6)),
            *("2024-10-06T03:00:00Z", "2024-10-06T04:00:00Z"),
            "the day has not begun then",
        ),
    ],
)
def test_a_midnight_that_is_wrong_is_noticed_by_both(
    monkeypatch: pytest.MonkeyPatch, name: str, day: date, found: str, right: str, problem: str
) -> None:
    monkeypatch.setattr(comparison, "_midnight", by_the_other_reading)
    assert compare([name], [(day - FIRST).days]).disagreements == [
        f"{name} {day}: {found} here; by the C library {problem}",
        f"{name} {day}: {found} here, {right} by the zone file",
    ]


def test_both_oracles_know_days_that_people_wrote_down() -> None:
    for name, day, second in known_days():
        number = (day - FIRST).days
        path = zone_path(name)
        assert midnights_of(stretches_of(path.read_bytes()), [number]) == [second], (name, day)
        with wall_clock(path) as clock:
            assert clock.problem(number, second) is None
            assert clock.problem(number, second + 1) == "the day has begun a second before"
            assert clock.problem(number, second - 1) == "the day has not begun then"


def known_days() -> Iterator[tuple[str, date, int]]:
    for name, day, instant in (
        ("Europe/Paris", date(2026, 7, 1), "2026-06-30T22:00:00Z"),
        ("Europe/Paris", date(2050, 7, 1), "2050-06-30T22:00:00Z"),
        ("America/Havana", date(2025, 11, 2), "2025-11-02T04:00:00Z"),
        ("Asia/Amman", date(2016, 4, 1), "2016-03-31T22:00:00Z"),
        ("Pacific/Apia", date(2011, 12, 31), "2011-12-30T10:00:00Z"),
        ("Pacific/Apia", date(2011, 12, 30), "2011-12-30T10:00:00Z"),
        ("Asia/Kathmandu", date(2040, 1, 1), "2039-12-31T18:15:00Z"),
    ):
        yield name, day, int(datetime.fromisoformat(instant).timestamp())
