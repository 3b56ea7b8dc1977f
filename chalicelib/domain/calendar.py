"""When a day, a month and a sweep begin, in every IANA timezone.

Three words, used with care:

*instant*   an aware ``datetime`` in UTC. Naive datetimes are refused everywhere: Python would read
            them in the timezone of the machine.
*midnight*  the instant at which a local day begins. Usually the wall clock shows 00:00, but some
            days have no such moment (the clock jumped over it) and some have two.
*period*    a local calendar month, ``2026-07``; an allocation is *for* a period. It begins at the
            midnight of the 1st, or of another day of that month: the 15th, say. Where the month has
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

# In the list of the package, yet not a place: tz's placeholder for "nobody has set this machine's
# timezone". Its rules say UTC and its abbreviation says "-00"; no user lives there.
_NOT_A_PLACE = frozenset({"Factory"})

# The longest IANA name has 32 characters. What is longer is not worth comparing with all of them.
_LONGEST_NAME = 64

# Of the 69,000 cities of GeoNames, those that are one slip from a zone's name and lie elsewhere.
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
# Letters that a city has so that one missing or extra, or one wrong, does not make another of it.
_SHORT, _LONG = 5, 8
_VOWELS = frozenset("aeiou")

_PERIOD = re.compile(r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})")

_MONTHS = range(1, 13)
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)

TICK = timedelta(minutes=15)
"""Time between two ticks. Over all zones the midnights of the 1st since 1980 fall on quarter hours
(asserted in the tests), so a tick every quarter of an hour starts each sweep at its very moment."""

RESWEEP_AGES: tuple[timedelta, ...] = (
    timedelta(0),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    *(timedelta(days=days) for days in range(1, 8)),
)
"""How long after its midnight a zone is swept: at once, and then ever less often for a week. The
first is the run; the others repair what failed, and cost one read a user."""


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

    Whatever is not the name of one raises InvalidInput on ``field``, with the name that was meant
    where that is sure.
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

    For what is shown, or can be a day off. Nothing is granted by it.
    """
    return timezone if is_known(timezone) else "UTC"


def _rules(timezone: str) -> ZoneInfo:
    """The rules of a timezone that was checked when it was given, and is stored since."""
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
    """Whether it is this very place with a slip in it, and not one that is called nearly so.

    Kiel is not Kiev, St John not St John's, Male not Mahe, Dumai not Dubai: people keep the ends of
    a word, and what they take for another letter, where the word is long, is a vowel.
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
        """Read ``2026-07``, exactly so written; anything else is InvalidInput on ``field``."""
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
        """The local date of a day of this month; of a day that it does not have, its last."""
        if day > 28:  # which every month has
            # Python's own `calendar` knows it, too, and takes 2 ms to load.
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
    """A list of timezone names, for requests that are about some zones and not about all."""
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
    # fold=0 is the first of two, and in a gap the reading by the offset that was valid before.
    wall = datetime.combine(day, time.min, tzinfo=rules)
    instant = wall.astimezone(UTC)
    # Compared without timezones: two datetimes of one timezone compare by wall clock alone, and two
    # of different ones are never equal when they lie in a gap.
    if instant.astimezone(rules).replace(tzinfo=None) == wall.replace(tzinfo=None):
        return instant
    # A gap. It is as wide as the offsets before and after it differ, so reading the missing wall
    # time by the one and by the other gives instants on either side of the jump (or, for the later
    # one, on it). The local date changes once between them: halve the interval until it is found.
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
    """The instant at which ``period`` begins for those whose periods begin on that ``day``.

    From the 29th to the 31st a month can be too short: then it is the midnight of its last day.
    """
    return midnight(timezone, period.date_of(day))


@lru_cache(maxsize=1024)  # all users of a message are asked about the same instants
def period_at(timezone: str, instant: datetime, day: int = 1) -> Period:
    """The period that is running at ``instant``: the latest that has begun.

    Not simply the local month. At St John's, 2009-11-01 00:01, the clock went back to 23:01 on
    31 October; November had begun, its credits were there, and it did not end again.
    """
    period = Period.of(local_date(timezone, instant))
    while period_start(timezone, period.next(), day) <= instant:
        period = period.next()
    while period_start(timezone, period, day) > instant:
        period = period.previous()
    return period


def local_date(timezone: str, instant: datetime) -> date:
    """What a calendar on the wall shows at ``instant``."""
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

    ``lifetime_days`` whole local days are promised. Granted at a midnight, that day is the first of
    them; granted later, the rest of that day comes on top. So the answer is always a midnight:

    - granted at midnight on 1 May, 30 days: midnight on 31 May;
    - granted on 18 May at 10:00, 30 days: midnight on 18 June.

    A local day of 23 hours is a day. A day that a zone skipped does not count. Granted
    later never means expiring earlier, even while the clock goes back.
    """
    if lifetime_days < 1:
        raise ValueError(f"a lifetime is 1 day or more, not {lifetime_days}")
    granted_on = running_day(timezone, granted_at)
    counts_from = midnight(timezone, granted_on)
    days = lifetime_days if counts_from == granted_at else lifetime_days + 1
    expires_on = granted_on + days * _DAY
    # Clock changes move the end by an hour or two, a skipped day by about 24: half a day tells
    # them apart. (Days that came twice only make the life longer.)
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
    """The instant the sweep is about, in UTC; not the moment of the tick."""
    age: timedelta
    """One of RESWEEP_AGES: zero for the run, more for a re-sweep."""


def tick_at(instant: datetime) -> datetime:
    """The quarter of an hour, in UTC, that ``instant`` lies in."""
    instant = as_utc(instant)
    return instant.replace(minute=instant.minute // 15 * 15, second=0, microsecond=0)


def sweeps_due(
    tick: datetime, turn: Turn, zones: Iterable[str] | None = None, field: str = "zones"
) -> list[SweepDue]:
    """The sweeps that the tick at ``tick`` starts: the runs first, then the re-sweeps by age.

    A sweep is due at the first tick at or after its midnight plus one of RESWEEP_AGES. ``tick`` is
    taken down to its quarter of an hour, so consecutive ticks leave nothing out and repeat nothing.
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

    That is the day which begins then; at the last of a month also the later ones that it does not
    have; and a day that the zone skipped, because it would have begun then.
    """
    today = running_day(timezone, start)
    days: list[int] = []
    while midnight(timezone, today) == start:
        is_last = (today + _DAY).month != today.month
        days += range(today.day, 32 if is_last else today.day + 1)
        today -= _DAY
    return sorted(days)


def _near_a_first(instant: datetime) -> bool:
    # No zone is, or ever was, 24 hours away from UTC: spares 597 questions a tick on most days.
    return (instant - _DAY).month != (instant + _DAY).month


def _checked(zones: Iterable[str], field: str) -> Iterator[str]:
    for name in zones:
        zone(name, field)
        yield name
