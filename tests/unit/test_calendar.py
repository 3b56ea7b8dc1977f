"""The calendar, against a second way of computing it and against days that history made strange.

The second way is that of `tests/zones/oracles.py`, which reads the compiled zone files itself. It
knows nothing of ``zoneinfo``, of folds or of gaps, and shares no line with the code it checks.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import TZPATH, ZoneInfo, reset_tzpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain import calendar
from chalicelib.domain.calendar import (
    RESWEEP_AGES,
    TICK,
    Period,
    SweepDue,
    Turn,
    day_start,
    expires_at,
    local_date,
    midnight,
    month_start,
    next_midnight,
    period_at,
    sweeps_due,
    tick_at,
    zone,
    zone_names,
)
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import format_instant
from tests.zones.oracles import FIRST, Stretch, midnights_of, stretches_of, zone_path

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ALL_MONTHS = [Period(2015, 1).plus(months) for months in range(23 * 12)]

# Zones of every kind: the extremes, :30 and :45, no rule, rules of both hemispheres, clock changes
# at midnight, just after midnight, of half an hour and of two hours, and a day that was skipped.
SAMPLE = (
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/New_York",
    "America/Santiago",
    "America/Sao_Paulo",
    "America/Scoresbysund",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Amman",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Etc/GMT+12",
    "Europe/Dublin",
    "Europe/London",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "Pacific/Marquesas",
    "Pacific/Midway",
    "UTC",
)


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def message(error: pytest.ExceptionInfo[InvalidInput]) -> str:
    return str(error.value)


# --- The second way: the bytes of the zone files --------------------------------------------------


@cache
def changes_of(name: str) -> list[Stretch]:
    return stretches_of(zone_path(name).read_bytes())


def first_instants(changes: list[Stretch], days: Sequence[date]) -> list[datetime]:
    """The first instant whose local date is a day, or, without one, whose date is later."""
    seconds = midnights_of(changes, [(day - FIRST).days for day in days])
    return [EPOCH + timedelta(seconds=second) for second in seconds]


def test_the_second_way_reads_every_rule_of_the_zone_files_as_zoneinfo_does() -> None:
    """The footers have rules with week 5, negative hours, hours over 24 and negative summer time;
    were they misread, comparing midnights would show errors that are the test's own."""
    for name in zone_names():
        changes = changes_of(name)
        for month in range(0, 23 * 12, 5):
            instant = utc(2015 + month // 12, month % 12 + 1, 15, 12)
            position = bisect_right(changes, ((instant - EPOCH).total_seconds(), 2**62)) - 1
            offset = instant.astimezone(zone(name)).utcoffset()
            assert offset == timedelta(seconds=changes[position][1]), (name, instant)


# --- Midnights and months -----------------------------------------------------------------------


def test_every_month_starts_at_the_first_instant_of_its_1st_in_every_zone_from_2015_to_2037() -> (
    None
):
    for name in zone_names():
        starts = first_instants(changes_of(name), [period.first_day for period in ALL_MONTHS])
        for period, start in zip(ALL_MONTHS, starts, strict=True):
            assert month_start(name, period) == start, (name, str(period))


def test_every_day_round_every_clock_change_of_history_starts_at_its_first_instant() -> None:
    """Days without a clock change near them are all alike; these are all the others, 1840 to 2051,
    with local mean times, double summer times, half hours and calendars that skipped a day."""
    days = 0
    for name, changes in different_zones():
        near = list(
            {
                (EPOCH + timedelta(seconds=moment + offset)).date() + shift * DAY
                for moment, offset in changes[1:]
                for shift in (-1, 0, 1, 2)
            }
        )
        for day, start in zip(near, first_instants(changes, near), strict=True):
            assert midnight.__wrapped__(name, day) == start, (name, day)
        days += len(near)
    assert days > 90_000


def test_every_day_of_2011_and_2026_starts_at_its_first_instant_in_every_different_zone() -> None:
    days = [date(year, 1, 1) + number * DAY for year in (2011, 2026) for number in range(365)]
    for name, changes in different_zones():
        for day, start in zip(days, first_instants(changes, days), strict=True):
            assert midnight.__wrapped__(name, day) == start, (name, day)


def different_zones() -> Iterator[tuple[str, list[Stretch]]]:
    """One name for each different zone file; the others are links to it."""
    seen = set()
    for name in zone_names():
        file = zone_path(name).read_bytes()
        if file not in seen:
            seen.add(file)
            yield name, changes_of(name)


@pytest.mark.parametrize(
    ("timezone", "day", "expected"),
    [
        pytest.param("America/Havana", date(2025, 11, 2), utc(2025, 11, 2, 4), id="comes twice"),
        # Twice by the rules of before tzdata 2026f, which has Cuba stay on summer time that winter;
        # the first of the two is where the only one is.
        pytest.param("America/Havana", date(2026, 11, 1), utc(2026, 11, 1, 4), id="came twice"),
        pytest.param("America/Asuncion", date(2023, 10, 1), utc(2023, 10, 1, 4), id="is missing"),
        pytest.param("Asia/Amman", date(2016, 4, 1), utc(2016, 3, 31, 22), id="missing on a 1st"),
        pytest.param("America/St_Johns", date(2009, 11, 1), utc(2009, 11, 1, 2, 30), id="00:01"),
        pytest.param("America/St_Johns", date(2009, 11, 2), utc(2009, 11, 2, 3, 30), id="a day on"),
        pytest.param("Pacific/Apia", date(2011, 12, 29), utc(2011, 12, 29, 10), id="before a skip"),
        pytest.param("Pacific/Apia", date(2011, 12, 30), utc(2011, 12, 30, 10), id="skipped"),
        pytest.param("Pacific/Apia", date(2011, 12, 31), utc(2011, 12, 30, 10), id="after a skip"),
        pytest.param("Pacific/Apia", date(2012, 1, 1), utc(2011, 12, 31, 10), id="a day after"),
        pytest.param("Pacific/Kiritimati", date(2026, 7, 1), utc(2026, 6, 30, 10), id="earliest"),
        pytest.param("Etc/GMT+12", date(2026, 7, 1), utc(2026, 7, 1, 12), id="latest"),
        pytest.param("Asia/Kathmandu", date(2026, 7, 1), utc(2026, 6, 30, 18, 15), id="on :45"),
        pytest.param(
            "America/Toronto", date(1919, 3, 31), utc(1919, 3, 31, 4, 30), id="gap from 23:30"
        ),
        pytest.param(
            "Africa/Monrovia",
            date(1971, 7, 1),
            datetime(1971, 7, 1, 0, 44, 30, tzinfo=UTC),
            id="offset with seconds",
        ),
    ],
)
def test_midnight_is_where_history_put_it(timezone: str, day: date, expected: datetime) -> None:
    assert midnight(timezone, day) == expected
    assert midnight(timezone, day).tzinfo is UTC


@pytest.mark.parametrize("timezone", SAMPLE)
def test_scanning_utc_second_by_second_round_a_midnight_finds_it_at_the_same_instant(
    timezone: str,
) -> None:
    """A third way, slow and plain: the date is earlier the second before, and not at midnight."""
    for day in (date(2023, 10, 1), date(2016, 4, 1), date(2025, 11, 2), date(2027, 3, 1)):
        start = midnight(timezone, day)
        rules = zone(timezone)
        for seconds_before in range(1, 3 * 3600, 61):
            earlier = start - timedelta(seconds=seconds_before)
            assert earlier.astimezone(rules).date() < day
        assert start.astimezone(rules).date() == day


def test_the_month_starts_fall_on_38_instants_in_26_hours_all_of_them_on_quarter_hours() -> None:
    """What the tick of 15 minutes rests on. In 23 years there are never more than 41."""
    instants_of = {
        period: {month_start(name, period) for name in zone_names()} for period in ALL_MONTHS
    }
    assert {len(instants_of[Period(2026, month)]) for month in range(1, 13)} == {38}
    assert Counter(len(instants) for instants in instants_of.values()).most_common(1)[0][0] == 38
    assert all(37 <= len(instants) <= 41 for instants in instants_of.values())
    for period, instants in instants_of.items():
        assert max(instants) - min(instants) == timedelta(hours=26), str(period)
        assert all(instant == tick_at(instant) for instant in instants), str(period)


def test_a_period_has_begun_at_its_start_and_not_a_second_earlier() -> None:
    for name in SAMPLE:
        for period in ALL_MONTHS:
            start = month_start(name, period)
            assert period_at(name, start) == period
            assert period_at(name, start - timedelta(seconds=1)) == period.previous()


def test_a_month_that_began_does_not_end_when_the_clock_goes_back_to_the_day_before() -> None:
    second_time = utc(2009, 11, 1, 3)  # 23:30 on 31 October for the second time
    assert local_date("America/St_Johns", second_time) == date(2009, 10, 31)
    assert period_at("America/St_Johns", second_time) == Period(2009, 11)
    assert day_start("America/St_Johns", second_time) == utc(2009, 11, 1, 2, 30)
    assert next_midnight("America/St_Johns", second_time) == utc(2009, 11, 2, 3, 30)


def test_the_day_of_an_instant_starts_at_or_before_it_and_the_next_one_after_it() -> None:
    start = midnight("America/Havana", date(2025, 11, 2))
    second_midnight = start + timedelta(hours=1)
    assert day_start("America/Havana", start) == start
    assert day_start("America/Havana", second_midnight) == start
    assert next_midnight("America/Havana", start) == utc(2025, 11, 3, 5)
    assert next_midnight("America/Havana", second_midnight) == utc(2025, 11, 3, 5)
    assert next_midnight("America/Havana", start - timedelta(seconds=1)) == start
    assert day_start("America/Havana", start - timedelta(seconds=1)) == utc(2025, 11, 1, 4)
    # A skipped day is no day: one midnight after the 29th begins the 31st.
    assert next_midnight("Pacific/Apia", utc(2011, 12, 29, 20)) == utc(2011, 12, 30, 10)
    assert next_midnight("Pacific/Apia", utc(2011, 12, 30, 10)) == utc(2011, 12, 31, 10)


@pytest.mark.parametrize("ask", [local_date, period_at, day_start, next_midnight])
def test_an_instant_without_a_timezone_is_refused(
    ask: Callable[[str, datetime], object],
) -> None:
    with pytest.raises(ValueError, match="needs a timezone"):
        ask("Europe/Paris", utc(2026, 7, 1).replace(tzinfo=None))


def test_an_instant_in_another_timezone_is_the_same_instant() -> None:
    tokyo = datetime(2026, 7, 1, 5, tzinfo=zone("Asia/Tokyo"))
    assert local_date("America/New_York", tokyo) == date(2026, 6, 30)
    assert tick_at(tokyo) == utc(2026, 6, 30, 20)
    assert tick_at(tokyo).tzinfo is UTC
    assert format_instant(tokyo) == "2026-06-30T20:00:00Z"


# --- Zones --------------------------------------------------------------------------------------


def test_every_name_in_the_database_is_a_timezone_except_the_placeholder_that_is_no_place() -> None:
    assert len(zone_names()) > 590
    assert list(zone_names()) == sorted(set(zone_names()))
    for name in ("Asia/Calcutta", "Etc/GMT+12", "UTC", "Europe/Kyiv", "US/Pacific"):
        assert zone(name).key == name
    for name in ("Factory", "localtime", "posixrules"):
        assert name not in zone_names()
        with pytest.raises(InvalidInput):
            zone(name)


def test_the_zone_files_of_the_system_are_never_read(tmp_path: Path) -> None:
    """On a system whose file for Paris says Tokyo, it is still midnight in Paris."""
    (tmp_path / "Europe").mkdir()
    (tmp_path / "Europe" / "Paris").write_bytes(zone_path("Asia/Tokyo").read_bytes())
    before = TZPATH
    try:
        reset_tzpath([str(tmp_path)])
        ZoneInfo.clear_cache()
        calendar._load.cache_clear()
        midnight.cache_clear()
        calendar.period_at.cache_clear()
        assert midnight("Europe/Paris", date(2026, 7, 1)) == utc(2026, 6, 30, 22)
    finally:
        reset_tzpath(before)
        ZoneInfo.clear_cache()


def test_a_zone_is_read_once() -> None:
    assert all(zone(name) is zone(name) for name in zone_names())


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("Europe/Pariss", "unknown timezone 'Europe/Pariss'; did you mean 'Europe/Paris'?"),
        ("europe/paris", "unknown timezone 'europe/paris'; did you mean 'Europe/Paris'?"),
        ("America/New York", "did you mean 'America/New_York'?"),
        ("Paris", "did you mean 'Europe/Paris'?"),
        ("Asia/Calcuta", "did you mean 'Asia/Calcutta'?"),
        (" Europe/Paris", "did you mean 'Europe/Paris'?"),
        ("Hong Kong", "did you mean 'Asia/Hong_Kong'?"),
        ("France/Paris", "did you mean 'Europe/Paris'?"),
        # Not Etc/GMT+2: by its sign, which POSIX turned round, that is west of Greenwich.
        ("Etc/GMT+15", "unknown timezone 'Etc/GMT+15'; use a name such as 'Europe/Paris'"),
        ("Asia/Dhka", "unknown timezone 'Asia/Dhka'; use a name such as 'Europe/Paris'"),
        ("GMT+2", "unknown timezone 'GMT+2'; use a name such as 'Europe/Paris'"),
        ("UTC+02:00", "unknown timezone 'UTC+02:00'; use a name such as 'Europe/Paris'"),
        ("PST", "use a name such as 'Europe/Paris'"),
        ("", "use a name such as 'Europe/Paris'"),
        ("../zones", "unknown timezone '../zones'; use a name such as 'Europe/Paris'"),
        ("Europe/Paris\x00", "did you mean 'Europe/Paris'?"),
        ("E" * 64, f"unknown timezone '{'E' * 64}'; use a name such as 'Europe/Paris'"),
        ("E" * 65, "must be an IANA timezone name such as 'Europe/Paris', is 65 characters long"),
        (None, "must be an IANA timezone name such as 'Europe/Paris'"),
        (5, "must be an IANA timezone name such as 'Europe/Paris'"),
        (["Europe/Paris"], "must be an IANA timezone name such as 'Europe/Paris'"),
    ],
)
def test_an_unknown_timezone_is_refused_with_the_nearest_name(wrong: object, advice: str) -> None:
    with pytest.raises(InvalidInput) as error:
        zone(wrong, field="home")
    assert [error.field for error in error.value.errors] == ["home"]
    assert message(error).endswith(advice)


MEANT = {
    # Otherwise written.
    "europe/paris": "Europe/Paris",
    "EUROPE/PARIS": "Europe/Paris",
    "America/new york": "America/New_York",
    "America/Los Angeles": "America/Los_Angeles",
    "America/Los-Angeles": "America/Los_Angeles",
    "America/Port au Prince": "America/Port-au-Prince",
    "utc": "UTC",
    " Asia/Tokyo ": "Asia/Tokyo",
    "Asia/Ho Chi Minh": "Asia/Ho_Chi_Minh",
    # One slip in a full name.
    "Europe/Pariss": "Europe/Paris",
    "Europ/Paris": "Europe/Paris",
    "Euorpe/Berlin": "Europe/Berlin",
    "America/Los_Angelos": "America/Los_Angeles",
    "Amercia/New_York": "America/New_York",
    "Asia/Kolkatta": "Asia/Kolkata",
    "Asia/Hongkong": "Asia/Hong_Kong",
    "Asia/Sinagpore": "Asia/Singapore",
    "Asia/Bankok": "Asia/Bangkok",
    "Australia/Melborne": "Australia/Melbourne",
    "Australia/Sidney": None,  # Sydney is too short a word for another vowel: Peris is not Paris
    "Europe/Amsterdm": "Europe/Amsterdam",
    "Europe/Helsenki": "Europe/Helsinki",
    "Atlantic/Bermada": None,
    "America/Atoka": None,  # in Oklahoma, and not Atka
    "Africa/Luandaa": "Africa/Luanda",
    "Asia/Tokio": None,
    "Asia/Tokoy": None,
    "Asia/Tookyo": "Asia/Tokyo",
    "Africa/Johanesburg": "Africa/Johannesburg",
    "Pacific/Aukland": "Pacific/Auckland",
    # The city alone, or with its country.
    "Paris": "Europe/Paris",
    "tokyo": "Asia/Tokyo",
    "Mexico City": "America/Mexico_City",
    "France/Paris": "Europe/Paris",
    "Argentina/Buenos Aires": "America/Argentina/Buenos_Aires",
    "Vietnam/Ho Chi Minh": "Asia/Ho_Chi_Minh",
    # Cities whose zone has another name, each near to a place that is elsewhere.
    "Asia/Mumbai": None,
    "Asia/Dumai": None,
    "Asia/Ajman": None,
    "Asia/Beijing": None,
    "Asia/Orsk": None,
    "Asia/Gaya": None,
    "Europe/Milan": None,
    "Europe/Kiel": None,
    "Europe/Bern": None,
    "Europe/Lublin": None,
    "Europe/Peris": None,
    "Europe/Soria": None,
    "Europe/Moncao": None,
    "Indian/Male": None,
    "Africa/Harar": None,
    "Africa/Juja": None,
    "America/San_Francisco": None,
    "America/Kingstown": None,
    "America/Coal_Harbour": None,
    "America/Mazatan": None,
    "Africa/Kamala": None,
    # A word alone is an abbreviation or a city: nobody says which place is meant.
    "Icland": None,
    "America/St_John": None,
    "America/Monterey": None,
    "America/Cajamarca": None,
    "America/Rosarito": None,
    # Another place of the name, in Canada, Texas and Indiana.
    "Canada/London": None,
    "America/London": None,
    "Texas/Paris": None,
    "Petersburg": None,
    # Abbreviations: near to names, and of several places at once.
    "AEST": None,
    "MSK": None,
    "PST": None,
    "IST": None,
    "CEST": None,
    "BST": None,
    # Parts of the world, and what is no place at all.
    "Asia": None,
    "Europe/": None,
    "/Paris": None,
    "Central": None,
    "East": None,
    "India": None,
    "-": None,
}


def test_a_suggested_timezone_is_the_place_itself_or_its_misspelt_name_or_there_is_none() -> None:
    assert len(MEANT) >= 60
    advice = {}
    for wrong in MEANT:
        with pytest.raises(InvalidInput) as error:
            zone(wrong)
        advice[wrong] = message(error).partition("; ")[2]
    assert advice == {
        wrong: f"did you mean {meant!r}?" if meant else "use a name such as 'Europe/Paris'"
        for wrong, meant in MEANT.items()
    }


def test_every_name_is_found_by_other_capitals_and_blanks() -> None:
    for name in zone_names():
        for written in {name.lower(), name.upper().replace("_", " ")} - {name}:
            # The sign of "Etc/GMT+2" is the other way round: digits get no advice.
            if not any(character.isdigit() for character in name):
                with pytest.raises(InvalidInput, match=re.escape(f"did you mean {name!r}?")):
                    zone(written)


def test_where_nothing_else_is_said_a_timezone_is_the_field_of_that_name() -> None:
    with pytest.raises(InvalidInput) as error:
        zone("Nowhere")
    assert [error.field for error in error.value.errors] == ["timezone"]


def test_a_timezone_that_is_asked_for_is_known_by_its_name() -> None:
    assert calendar.parse_timezone("timezone", "Europe/Paris") == "Europe/Paris"
    assert calendar.parse_timezones("zones", ["Asia/Calcutta", "UTC"]) == ["Asia/Calcutta", "UTC"]
    with pytest.raises(InvalidInput, match=r"^zones\[1\]: unknown timezone 'Nowhere'"):
        calendar.parse_timezones("zones", ["UTC", "Nowhere"])
    wrongs: list[object] = [[], "UTC", None, {"UTC": 1}]
    for wrong in wrongs:
        with pytest.raises(InvalidInput) as refused:
            calendar.parse_timezones("zones", wrong)
        assert (
            str(refused.value)
            == "zones: must be a list of timezone names; leave it out for all zones"
        )


# --- Periods ------------------------------------------------------------------------------------


def test_a_period_is_read_and_written_like_2026_07() -> None:
    assert Period.parse("2026-07") == Period(2026, 7)
    assert str(Period(2026, 7)) == "2026-07"
    assert Period.of(date(2026, 7, 31)) == Period(2026, 7)
    assert Period(2026, 7).first_day == date(2026, 7, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        "2026-7",
        "2026-13",
        "2026-00",
        "26-07",
        "2026-07-01",
        "12026-07",
        "2026-007",
        "2026-0x",
        " 2026-07",
        "2026-07\n",
        "202\N{FULLWIDTH DIGIT SIX}-07",
        "",
        "1969-12",
        "3000-01",
        "0000-01",
        None,
        202607,
    ],
)
def test_anything_else_is_no_period(wrong: object) -> None:
    with pytest.raises(InvalidInput) as error:
        Period.parse(wrong, field="through")
    assert error.value.errors[0].field == "through"
    with pytest.raises(InvalidInput) as error:
        Period.parse(wrong)
    assert error.value.errors[0].field == "period"


def test_months_are_counted_across_years() -> None:
    assert Period(2026, 12).next() == Period(2027, 1)
    assert Period(2026, 1).previous() == Period(2025, 12)
    assert Period(2026, 11).plus(14) == Period(2028, 1)
    assert Period(2026, 11).plus(-11) == Period(2025, 12)
    assert Period(2026, 11).months_until(Period(2028, 1)) == 14
    assert Period(2028, 1).months_until(Period(2026, 11)) == -14
    assert Period(2025, 12) < Period(2026, 1) < Period(2026, 11)
    for month in (0, 13):
        with pytest.raises(ValueError, match=r"^a month is 1 to 12, not "):
            Period(2026, month)


# --- Expiry -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timezone", "granted", "days", "expected"),
    [
        pytest.param("UTC", utc(2026, 5, 1), 30, utc(2026, 5, 31), id="at midnight"),
        pytest.param("UTC", utc(2026, 5, 18, 10), 30, utc(2026, 6, 18), id="in the morning"),
        pytest.param("UTC", utc(2026, 5, 1), 1, utc(2026, 5, 2), id="one day"),
        pytest.param(
            "America/New_York", utc(2026, 3, 1, 5), 30, utc(2026, 3, 31, 4), id="into summer time"
        ),
        pytest.param(
            "America/Havana", utc(2025, 11, 2, 4), 30, utc(2025, 12, 2, 5), id="first midnight"
        ),
        pytest.param(
            "America/Havana", utc(2025, 11, 2, 5), 30, utc(2025, 12, 3, 5), id="second midnight"
        ),
        pytest.param(
            # The day began at 01:00: that is its midnight, and it counts whole.
            "America/Asuncion",
            utc(2023, 10, 1, 4),
            30,
            utc(2023, 10, 31, 3),
            id="no midnight",
        ),
        pytest.param(
            "Pacific/Apia", utc(2011, 12, 29, 10), 1, utc(2011, 12, 30, 10), id="before a skip"
        ),
        pytest.param(
            "Pacific/Apia", utc(2011, 12, 29, 20), 1, utc(2011, 12, 31, 10), id="over a skip"
        ),
        pytest.param(
            # Through 31 December there were 29 days in December: the 30th does not count.
            "Pacific/Apia",
            utc(2011, 12, 1, 10),
            30,
            utc(2011, 12, 31, 10),
            id="a month with a skip",
        ),
        pytest.param(
            "America/St_Johns", utc(2009, 11, 1, 3), 30, utc(2009, 12, 2, 3, 30), id="clock back"
        ),
    ],
)
def test_credits_expire_at_the_midnight_after_the_promised_days(
    timezone: str, granted: datetime, days: int, expected: datetime
) -> None:
    assert expires_at(timezone, granted, days) == expected


def test_a_second_after_midnight_is_granted_for_the_rest_of_that_day_on_top() -> None:
    later = utc(2026, 5, 1) + timedelta(seconds=1)
    assert expires_at("UTC", later, 30) == utc(2026, 6, 1)


def test_a_lifetime_of_no_days_is_refused() -> None:
    for days in (0, -1):
        with pytest.raises(ValueError, match=r"^a lifetime is 1 day or more, not "):
            expires_at("UTC", utc(2026, 5, 1), days)


instants = st.one_of(
    st.integers(0, 28 * 366 * 86_400).map(lambda later: utc(2009, 1, 1) + timedelta(seconds=later)),
    # Near the strange days, where chance alone would seldom look.
    st.builds(
        lambda centre, offset: centre + timedelta(minutes=offset),
        st.sampled_from(
            [
                utc(2009, 11, 1, 3),
                utc(2011, 12, 30, 10),
                utc(2016, 3, 31, 22),
                utc(2023, 10, 1, 4),
                utc(2025, 11, 2, 5),
            ]
        ),
        st.integers(-3000, 3000),
    ),
)
zones = st.one_of(st.sampled_from(SAMPLE), st.sampled_from(zone_names()))
lifetimes = st.integers(1, 400)
few = settings(max_examples=300, deadline=None, derandomize=True)


@few
@given(zones, instants, lifetimes)
def test_never_less_than_the_promised_number_of_local_days(
    timezone: str, granted: datetime, days: int
) -> None:
    """Walked midnight by midnight: the days that begin while the credits are usable, with the day
    of the grant if all of it is left, are exactly the promised ones."""
    end = expires_at(timezone, granted, days)
    whole_days = 0
    start = granted if day_start(timezone, granted) == granted else next_midnight(timezone, granted)
    while start < end:
        whole_days += 1
        start = next_midnight(timezone, start)
    assert start == end, "ends at a midnight"
    assert whole_days == days
    # In hours: 24 each, less only what a clock change takes away.
    assert end - granted >= days * DAY - timedelta(hours=3)


@few
@given(zones, instants, st.timedeltas(timedelta(0), 3 * DAY), lifetimes)
def test_what_is_granted_later_never_expires_earlier(
    timezone: str, granted: datetime, later: timedelta, days: int
) -> None:
    end = expires_at(timezone, granted, days)
    assert end <= expires_at(timezone, granted + later, days)
    assert end < expires_at(timezone, granted, days + 1)


@few
@given(zones, instants)
def test_every_instant_lies_in_exactly_one_day_and_one_period(
    timezone: str, instant: datetime
) -> None:
    assert day_start(timezone, instant) <= instant < next_midnight(timezone, instant)
    period = period_at(timezone, instant)
    assert month_start(timezone, period) <= instant < month_start(timezone, period.next())


# --- What is due --------------------------------------------------------------------------------


def ticks(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += TICK


def test_over_a_month_of_ticks_every_zone_is_run_at_its_month_start_and_re_swept_once_an_age() -> (
    None
):
    """October 2023, with no midnight in Asunción; the window holds all its re-sweeps and none of
    the next month's runs."""
    period = Period(2023, 10)
    runs: Counter[tuple[str, timedelta]] = Counter()
    for tick in ticks(utc(2023, 9, 30, 10), utc(2023, 10, 31, 10)):
        for due in sweeps_due(tick, Turn.MONTH):
            assert due.midnight == month_start(due.timezone, period)
            assert tick == due.midnight + due.age
            runs[due.timezone, due.age] += 1
    assert runs == Counter((name, age) for name in zone_names() for age in RESWEEP_AGES)


def test_every_local_day_is_run_once_and_re_swept_once_an_age() -> None:
    first, last = utc(2025, 10, 20), utc(2025, 11, 10)  # Havana has two midnights on 2 November
    runs: Counter[SweepDue] = Counter()
    for tick in ticks(first, last + 8 * DAY):
        for due in sweeps_due(tick, Turn.DAY, SAMPLE):
            assert tick == due.midnight + due.age
            if first <= due.midnight < last:
                runs[due] += 1
    expected: Counter[SweepDue] = Counter()
    for name in SAMPLE:
        start = day_start(name, first - timedelta(seconds=1))
        while (start := next_midnight(name, start)) < last:
            expected.update(SweepDue(name, start, age) for age in RESWEEP_AGES)
    assert runs == expected


def test_the_ages_are_the_run_and_ten_re_sweeps_within_a_week() -> None:
    hours = [age / timedelta(hours=1) for age in RESWEEP_AGES]
    assert hours == [0, 0.25, 1, 6, 24, 48, 72, 96, 120, 144, 168]


def test_a_midnight_between_two_ticks_is_taken_by_the_later_one() -> None:
    """Monrovia was 44 minutes and 30 seconds behind Greenwich until 1972."""
    start = datetime(1971, 7, 1, 0, 44, 30, tzinfo=UTC)
    found = {
        tick: [due.midnight for due in sweeps_due(tick, Turn.MONTH, ["Africa/Monrovia"])]
        for tick in ticks(utc(1971, 7, 1), utc(1971, 7, 1, 1, 30))
    }
    assert {tick: midnights for tick, midnights in found.items() if midnights} == {
        utc(1971, 7, 1, 0, 45): [start],
        utc(1971, 7, 1, 1): [start],
    }
    # By the quarter of an hour that a tick stands for, not by the second at which it came.
    late = utc(1971, 7, 1, 0, 30) + timedelta(minutes=14, seconds=50)
    assert sweeps_due(late, Turn.MONTH, ["Africa/Monrovia"]) == []


def test_the_sweeps_of_one_age_come_in_the_order_of_their_zones() -> None:
    named = [name for name in zone_names() if name.startswith("Europe/")]
    tick = datetime(2026, 6, 30, 22, tzinfo=UTC)
    due = sweeps_due(tick, Turn.MONTH, named[::-1])
    found = [each.timezone for each in due if not each.age]
    assert "Europe/Paris" in found
    assert found == sorted(found)


def test_a_month_that_began_before_the_clock_went_back_is_run_then_and_not_again() -> None:
    due = {
        tick: [(sweep.midnight, sweep.age) for sweep in found]
        for tick in ticks(utc(2009, 11, 1), utc(2009, 11, 1, 5))
        if (found := sweeps_due(tick, Turn.MONTH, ["America/St_Johns"]))
    }
    start = utc(2009, 11, 1, 2, 30)
    assert due == {start + age: [(start, age)] for age in RESWEEP_AGES[:3]}


def test_the_first_day_of_a_month_is_run_though_it_has_no_midnight() -> None:
    for name, start in (
        ("America/Asuncion", utc(2023, 10, 1, 4)),
        ("Asia/Amman", utc(2016, 3, 31, 22)),
    ):
        assert sweeps_due(start, Turn.MONTH, [name]) == [SweepDue(name, start, timedelta(0))]
        assert sweeps_due(start - TICK, Turn.MONTH, [name]) == []


def test_a_tick_that_comes_late_within_its_quarter_starts_the_same_sweeps() -> None:
    on_time, late = utc(2026, 11, 1, 4), datetime(2026, 11, 1, 4, 14, 59, 999999, tzinfo=UTC)
    assert tick_at(late) == on_time
    assert sweeps_due(late, Turn.MONTH) == sweeps_due(on_time, Turn.MONTH) != []
    with pytest.raises(ValueError, match="needs a timezone"):
        sweeps_due(utc(2026, 11, 1, 4).replace(tzinfo=None), Turn.MONTH)


def test_runs_come_before_re_sweeps() -> None:
    ages = [due.age for due in sweeps_due(utc(2026, 11, 1, 4), Turn.MONTH)]
    assert ages == sorted(ages)
    assert ages[0] == timedelta(0) < ages[-1]


def test_zones_restrict_what_is_due_and_are_checked() -> None:
    tick = utc(2026, 11, 1, 4)
    assert sweeps_due(tick, Turn.MONTH, ["America/Havana", "Asia/Tokyo", "America/Havana"]) == [
        SweepDue("America/Havana", tick, timedelta(0))
    ]
    assert sweeps_due(tick, Turn.MONTH, []) == []
    # Refused even where nothing could be due.
    with pytest.raises(InvalidInput, match=r"zones: .*did you mean 'Europe/Paris'"):
        sweeps_due(utc(2026, 11, 15), Turn.MONTH, ["Asia/Tokyo", "Europe/Pariss"])


def test_in_the_middle_of_a_month_no_month_starts() -> None:
    assert sweeps_due(utc(2026, 11, 15), Turn.MONTH) == []
    assert sweeps_due(utc(2026, 11, 15), Turn.DAY) != []
