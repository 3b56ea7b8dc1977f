"""When a day, a month and a sweep begin, in every IANA timezone.

Three words, used with care:

*instant*   an aware ``datetime`` in UTC. Naive datetimes are refused everywhere: Python would read
            them in the timezone of the machine.
*midnight*  the instant at which a local day begins. Usually the wall clock shows 00:00, but some
            days have no such moment (the clock jumped over it) and some have two.
*period*    a local calendar month, ``2026-07``; an allocation is *for* a period. It begins at the
            midnight of the 1st, or of another day of that month (the 15th, say). If the month has
            no such day, it begins on its last.

The zone data is the ``tzdata`` package, pinned in requirements.txt, and never the zone files of the
system: Lambda's own files are updated when AWS wants to, and a month must not start at a different
moment after a redeployment.

Nothing here reads a clock: ``now`` is always an argument, so every moment of the past and of the
future can be replayed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import Enum
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

import tzdata  # type: ignore[import-untyped]

from .errors import InvalidInput, TimezoneUnknown
from .instants import as_utc, check_year
from .nearest import is_slip, spelling

_TZDATA = Path(tzdata.__file__).parent

# In the package's list, but not a place: tz's placeholder for "nobody has set this machine's
# timezone". Its rules say UTC and its abbreviation says "-00"; no user lives there.
_NOT_A_PLACE = frozenset({"Factory"})

# The longest IANA name has 32 characters. Comparing much longer names with all of them is wasted.
_LONGEST_NAME = 64

# Of the 69,000 cities of GeoNames, those one slip away from a zone's name that lie elsewhere.
_OTHER_PLACES = frozenset(
    {
        "africa/kamala",
        "america/coal_harbour",
        "america/mazatan",
        "america/monterey",
        "america/rosarito",
        "europe/moncao",
    }
)
# How long a city's name must be so that one missing or extra letter (or one wrong letter) does not
# turn it into another city.
_SHORT, _LONG = 5, 8
_VOWELS = frozenset("aeiou")

_PERIOD = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})")

_MONTHS = range(1, 13)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)

TICK = timedelta(minutes=15)
"""Time between two ticks. In all zones, the midnights of the 1st since 1980 fall on quarter hours
(asserted in the tests), so a tick every quarter of an hour starts each sweep exactly on time."""

RESWEEP_AGES: tuple[timedelta, ...] = (
    timedelta(0),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    *(timedelta(days=days) for days in range(1, 8)),
)
"""When a zone is swept, as time after its midnight: at once, then less and less often for a week.
The first is the run; the others repair what failed, and cost one read a user."""


# --- Zones --------------------------------------------------------------------------------------


@cache
def zone_names() -> tuple[str, ...]:
    """Every timezone a user can have, sorted.

    These are the IANA names, links such as ``Asia/Calcutta`` and fixed zones such as ``Etc/GMT+12``
    included.
    """
    names = (_TZDATA / "zones").read_text(encoding="ascii").split()
    return tuple(sorted(set(names) - _NOT_A_PLACE))


def zone(name: object, field: str = "timezone") -> ZoneInfo:
    """The rules of the timezone called ``name``; names are case-sensitive, as in the database.

    Any other value raises InvalidInput on ``field``, with the intended name if that is certain.
    """
    if not isinstance(name, str):
        raise InvalidInput.of(field, "must be an IANA timezone name such as 'Europe/Paris'")
    if len(name) > _LONGEST_NAME:
        raise InvalidInput.of(
            field,
            f"must be an IANA timezone name such as 'Europe/Paris', is {len(name)} characters long",
        )
    known = _load(name)
    if known is None:
        nearest = _nearest(name)
        advice = f"did you mean {nearest!r}?" if nearest else "use a name such as 'Europe/Paris'"
        raise InvalidInput.of(field, f"unknown timezone {name!r}; {advice}")
    return known


def is_known(timezone: str) -> bool:
    """Whether the database still has a timezone that was stored."""
    return timezone in _known_names()


def check_known(timezone: str) -> None:
    """Raises `TimezoneUnknown` for a stored timezone that the database does not have any more."""
    if not is_known(timezone):
        raise TimezoneUnknown(timezone)


def known_or_utc(timezone: str) -> str:
    """A stored timezone, or UTC in place of one that the database does not have any more.

    Only for display, or where a day's error does no harm. Nothing is granted by it.
    """
    return timezone if is_known(timezone) else "UTC"


def _rules(timezone: str) -> ZoneInfo:
    """The rules of a stored timezone, which was checked when it was given."""
    known = _load(timezone)
    if known is None:
        raise TimezoneUnknown(timezone)
    return known


@lru_cache(maxsize=1024)
def _load(name: str) -> ZoneInfo | None:
    if name not in _known_names():  # also keeps "../" out of the path below
        return None
    with (_TZDATA / "zoneinfo" / name).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def _known_names() -> frozenset[str]:
    return frozenset(zone_names())


@lru_cache(maxsize=256)
def _nearest(name: str) -> str | None:
    """The place itself, or the full name that ``name`` misspells; never another place nearby."""
    # "GMT+2" is meant to be east of Greenwich, and "Etc/GMT+2", its nearest name, is west of it.
    if any(character.isdigit() for character in name):
        return None
    wanted = spelling(name)
    by_name = {spelling(known): known for known in zone_names()}
    if found := by_name.get(wanted) or _places().get(wanted):
        return found
    if "/" not in wanted or wanted in _OTHER_PLACES:  # AEST is near to EST, and MSK to Omsk
        return None
    return next((known for written, known in by_name.items() if _misspells(wanted, written)), None)


def _misspells(wanted: str, name: str) -> bool:
    """Whether ``wanted`` is a misspelling of this place, and not the name of a similar one.

    Kiel is not Kiev, St John not St John's, Male not Mahe, Dumai not Dubai. People get the ends of
    a word right, and in a long word the letter they get wrong is a vowel.
    """
    city, meant = wanted.rpartition("/")[2], name.rpartition("/")[2]
    if (city[:1], city[-1:]) != (meant[:1], meant[-1:]) or not is_slip(wanted, name):
        return False
    wrong = [pair for pair in zip(city, meant, strict=False) if pair[0] != pair[1]]
    if len(city) == len(meant) and len(wrong) == 1:
        return len(city) >= _LONG and set(wrong[0]) <= _VOWELS
    return min(len(city), len(meant)) >= _SHORT


def _places() -> dict[str, str]:
    """The zones by their cities alone, ``paris``, and with their countries, ``france/paris``."""
    rows = _table("zone.tab")
    countries = {code: spelling(country) for code, country in _table("iso3166.tab")}
    places = {}
    for code, _, name, *_ in rows:
        region, _, city = name.rpartition("/")
        places[f"{countries[code]}/{spelling(city)}"] = name
        # Petersburg, Vincennes and Center are better known elsewhere than in Indiana and Dakota.
        if "/" not in region:
            places[spelling(city)] = name
    return places


def _table(name: str) -> list[list[str]]:
    lines = (_TZDATA / "zoneinfo" / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


# --- Periods ------------------------------------------------------------------------------------


@dataclass(frozen=True, order=True, slots=True)
class Period:
    """An allocation period: a local month. Periods are ordered, earliest first."""

    year: int
    month: int

    def __post_init__(self) -> None:
        if self.month not in _MONTHS:
            raise ValueError(f"a month is 1 to 12, not {self.month}")

    @classmethod
    def parse(cls, text: object, field: str = "period") -> "Period":
        """Read ``2026-07``, written exactly so; anything else is InvalidInput on ``field``."""
        match = _PERIOD.fullmatch(text) if isinstance(text, str) else None
        if match is None or int(match["month"]) not in _MONTHS:
            raise InvalidInput.of(field, "must be a month written like 2026-07")
        check_year(int(match["year"]), field)
        return cls(int(match["year"]), int(match["month"]))

    @classmethod
    def of(cls, day: date) -> "Period":
        """The period that a local date lies in."""
        return cls(day.year, day.month)

    @property
    def first_day(self) -> date:
        """The local date of the 1st."""
        return self.date_of(1)

    def date_of(self, day: int) -> date:
        """The local date of a day of this month; its last day if the month is too short."""
        if day > 28:  # every month has these
            # Python's own `calendar` would do, but takes 2 ms to load.
            day = min(day, (self.next().first_day - _DAY).day)
        return date(self.year, self.month, day)

    def plus(self, months: int) -> "Period":
        """The period ``months`` later; earlier if negative."""
        year, month = divmod(self.year * 12 + self.month - 1 + months, 12)
        return Period(year, month + 1)

    def next(self) -> "Period":
        """The period after this one."""
        return self.plus(1)

    def previous(self) -> "Period":
        """The period before this one."""
        return self.plus(-1)

    def months_until(self, later: "Period") -> int:
        """How many months ``later`` is after this period; negative if it is before."""
        return (later.year - self.year) * 12 + later.month - self.month

    def __str__(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


def parse_timezone(field: str, value: object) -> str:
    """The name of an IANA timezone; raises InvalidInput on ``field``, with the nearest name."""
    return zone(value, field).key


def parse_timezones(field: str, value: object) -> list[str]:
    """A list of timezone names, for requests about some of the zones."""
    if not isinstance(value, list) or not value:
        raise InvalidInput.of(field, "must be a list of timezone names; leave it out for all zones")
    return [parse_timezone(f"{field}[{place}]", name) for place, name in enumerate(value)]


# --- Midnights ----------------------------------------------------------------------------------


@lru_cache(maxsize=32768)
def midnight(timezone: str, day: date) -> datetime:
    """The instant at which the local date ``day`` begins.

    That is the first instant whose local date is ``day``. Where the clock jumps over midnight it is
    the instant of the jump; where midnight comes twice, the first; where a zone skipped the whole
    day (Apia, 2011-12-30), the first instant of the day that came instead.
    """
    rules = _rules(timezone)
    # fold=0 is the first of two midnights; in a gap it uses the offset from before the gap.
    wall = datetime.combine(day, time.min, tzinfo=rules)
    instant = wall.astimezone(UTC)
    # Compared without timezones: two datetimes of one timezone compare by wall clock alone, and two
    # of different timezones are never equal when they lie in a gap.
    if instant.astimezone(rules).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return instant
    # A gap. Its width is the difference of the offsets before and after it. So reading the missing
    # wall time with each offset gives instants on either side of the jump (or, for the later one,
    # on it). The local date changes once between them: halve the interval until it is found.
    before, after = wall.replace(fold=1).astimezone(UTC), instant
    while after - before > _SECOND:
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(rules).date() < day:
            before = middle
        else:
            after = middle
    return after


def month_start(timezone: str, period: Period) -> datetime:
    """The instant at which the month of ``period`` begins in a timezone: midnight of its 1st."""
    return period_start(timezone, period)


def period_start(timezone: str, period: Period, day: int = 1) -> datetime:
    """The instant at which ``period`` begins for users whose periods begin on that ``day``.

    If the month has no such day (29 to 31), it is the midnight of its last day.
    """
    return midnight(timezone, period.date_of(day))


@lru_cache(maxsize=1024)  # all users of a message need the same instants
def period_at(timezone: str, instant: datetime, day: int = 1) -> Period:
    """The period that is running at ``instant``: the latest that has begun.

    This is not always the local month. At St John's, 2009-11-01 00:01, the clock went back to 23:01
    on 31 October; November had begun, its credits were there, and it did not end again.
    """
    period = Period.of(local_date(timezone, instant))
    while period_start(timezone, period.next(), day) <= instant:
        period = period.next()
    while period_start(timezone, period, day) > instant:
        period = period.previous()
    return period


def local_date(timezone: str, instant: datetime) -> date:
    """The local date at ``instant``, as a wall calendar there shows it."""
    return as_utc(instant).astimezone(_rules(timezone)).date()


def day_start(timezone: str, instant: datetime) -> datetime:
    """The latest midnight at or before ``instant``."""
    return midnight(timezone, running_day(timezone, instant))


def next_midnight(timezone: str, instant: datetime) -> datetime:
    """The first midnight strictly after ``instant``."""
    return midnight(timezone, running_day(timezone, instant) + _DAY)


def running_day(timezone: str, instant: datetime) -> date:
    """The latest local day that has begun at ``instant``.

    Not always the local date: see period_at.
    """
    day = local_date(timezone, instant)
    while midnight(timezone, day + _DAY) <= instant:
        day += _DAY
    return day


def expires_at(timezone: str, granted_at: datetime, lifetime_days: int) -> datetime:
    """When credits granted at ``granted_at`` can no longer be spent (invariant 7 of the README).

    ``lifetime_days`` whole local days are promised. If the grant is at a midnight, that day is the
    first of them. If it is later, the rest of that day comes on top. So the answer is always a
    midnight:

    - granted at midnight on 1 May, 30 days: midnight on 31 May;
    - granted on 18 May at 10:00, 30 days: midnight on 18 June.

    A local day of 23 hours is a day. A day that a zone skipped does not count. A later grant never
    expires earlier, even while the clock goes back.
    """
    if lifetime_days < 1:
        raise ValueError(f"a lifetime is 1 day or more, not {lifetime_days}")
    granted_on = running_day(timezone, granted_at)
    counts_from = midnight(timezone, granted_on)
    days = lifetime_days if counts_from == granted_at else lifetime_days + 1
    expires_on = granted_on + days * _DAY
    # Clock changes move the end by an hour or two, a skipped day by about 24: half a day tells them
    # apart. (Days that came twice only make the lifetime longer.)
    while midnight(timezone, expires_on) - counts_from < days * _DAY - _DAY / 2:
        expires_on += _DAY
    return midnight(timezone, expires_on)


# --- What is due --------------------------------------------------------------------------------


class Turn(Enum):
    """Which midnights start a sweep."""

    MONTH = "month"
    """Midnights of the 1st: allocation."""

    DAY = "day"
    """Every midnight: expiry."""


@dataclass(frozen=True, slots=True)
class SweepDue:
    """One zone that a tick must start a sweep of."""

    timezone: str
    midnight: datetime
    """The midnight that the sweep is for, in UTC; not the moment of the tick."""
    age: timedelta
    """One of RESWEEP_AGES: zero for the run, more for a re-sweep."""


def tick_at(instant: datetime) -> datetime:
    """The quarter of an hour, in UTC, that contains ``instant``."""
    instant = as_utc(instant)
    return instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)


def sweeps_due(
    tick: datetime, turn: Turn, zones: Iterable[str] | None = None, field: str = "zones"
) -> list[SweepDue]:
    """The sweeps that the tick at ``tick`` starts: the runs first, then the re-sweeps by age.

    A sweep is due at the first tick at or after its midnight plus one of RESWEEP_AGES. ``tick`` is
    rounded down to its quarter of an hour, so consecutive ticks skip nothing and repeat nothing.
    ``zones`` restricts the answer; an unknown name in it raises InvalidInput on ``field``.
    """
    tick = tick_at(tick)
    names = zone_names() if zones is None else sorted({*_checked(zones, field)})
    due = []
    for age in RESWEEP_AGES:
        until = tick - age
        if turn is Turn.MONTH and not _near_a_first(until):
            continue
        for timezone in names:
            begun = running_day(timezone, until)
            start = midnight(timezone, begun)
            if start > until - TICK and (turn is Turn.DAY or begun.day == 1):
                due.append(SweepDue(timezone, start, age))
    return due


def anniversaries_at(timezone: str, start: datetime) -> list[int]:
    """The days of the month, 1 to 31, whose periods begin at a midnight.

    That is the day which begins then. At the last day of a month it is also the later days that the
    month lacks. A day that the zone skipped counts too, because it would have begun then.
    """
    today = running_day(timezone, start)
    days: list[int] = []
    while midnight(timezone, today) == start:
        is_last = (today + _DAY).month != today.month
        days += range(today.day, 32 if is_last else today.day + 1)
        today -= _DAY
    return sorted(days)


def _near_a_first(instant: datetime) -> bool:
    # No zone is, or ever was, 24 hours away from UTC. This saves 597 checks a tick on most days.
    return (instant - _DAY).month != (instant + _DAY).month


def _checked(zones: Iterable[str], field: str) -> Iterator[str]:
    for name in zones:
        zone(name, field)
        yield name
