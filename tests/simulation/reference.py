"""What should happen, said a second time and in the plainest way: the oracle of the simulation.

It shares no line with the product. Where the product keeps an account in its last line, this adds
up legs from the beginning; where the product computes a midnight, this looks at one quarter of an
hour after the other until the date has changed. Slow, short, and easy to check by reading.
"""

import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import tzdata  # type: ignore[import-untyped]

DAY = timedelta(days=1)
QUARTER = timedelta(minutes=15)
MOST_AHEAD = timedelta(seconds=4)
"""How far the clocks of machines are ahead at most."""
Plan = dict[str, Any]
Plans = Mapping[str, Plan]

SHIPPED: Plans = {
    plan["id"]: plan
    for plan in tomllib.loads(
        (Path(__file__).parents[2] / "chalicelib" / "plans.toml").read_text(encoding="utf-8")
    )["plans"]
}
"""The plans in the repository."""

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
NEVER = datetime(9999, 1, 1, tzinfo=UTC)

DEPLOYED: list[tuple[datetime, Plans]] = [(ALWAYS, SHIPPED)]
"""Every catalogue there has been, each with the moment of its deployment; the last one counts."""


def deploy(plans: Plans, moment: datetime = ALWAYS) -> None:
    """From a moment on there is another catalogue; without one there never was any other."""
    if moment == ALWAYS:
        DEPLOYED.clear()
    DEPLOYED.append((moment, plans))


def plans_at(moment: datetime | None = None) -> Plans:
    """The catalogue of a moment; without one, today's."""
    if moment is None:
        return DEPLOYED[-1][1]
    return [plans for since, plans in DEPLOYED if since <= moment][-1]


class Violation(AssertionError):
    """The product did what it promised not to do."""


def require(holds: bool, *words: object) -> None:  # noqa: FBT001 - it reads as a sentence
    """Raises `Violation` unless it holds."""
    if not holds:
        raise Violation(" ".join(str(word) for word in words))


# --- The calendar ---------------------------------------------------------------------------------


@cache
def zone(name: str) -> ZoneInfo:
    """The rules of a timezone, from the same edition of the zone data."""
    with (Path(tzdata.__file__).parent / "zoneinfo" / name).open("rb") as file:
        return ZoneInfo.from_file(file, name)


def local_day(timezone: str, instant: datetime) -> date:
    """The date on a wall there."""
    return instant.astimezone(zone(timezone)).date()


@cache
def midnight(timezone: str, day: date) -> datetime:
    """The first quarter of an hour at which the date there is that day, or later."""
    instant = datetime(day.year, day.month, day.day, tzinfo=UTC) - 15 * timedelta(hours=1)
    while local_day(timezone, instant) < day:
        instant += QUARTER
    return instant


def show(value: object) -> str:
    """An instant as texts have it; anything else as it is."""
    if not isinstance(value, datetime):
        return str(value)
    precision = "milliseconds" if value.microsecond else "seconds"
    return value.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def running_day(timezone: str, instant: datetime) -> date:
    """The latest day that has begun there."""
    day = local_day(timezone, instant) + DAY
    while midnight(timezone, day) > instant:
        day -= DAY
    return day


@cache
def first_date(period: str, day: int = 1) -> date:
    """The date on which a month, ``2026-07``, begins for those who began on some day of a month.

    One goes from its 1st to the next day and the next, until that day has come or no other does.
    """
    found = date.fromisoformat(f"{period}-01")
    while found.day < day and (found + DAY).day > 1:
        found += DAY
    return found


@cache
def month_start(timezone: str, period: str, day: int = 1) -> datetime:
    """When a month, ``2026-07``, begins there, for those who began on some day of a month."""
    return midnight(timezone, first_date(period, day))


MINUTE = timedelta(minutes=1)
AGES = tuple(MINUTE * age for age in (0, 15, 60, 360, *(1440 * day for day in range(1, 8))))
"""How old a midnight is when its zone is swept."""
REMINDER_AGES = tuple(MINUTE * age for age in (0, 60, 1440))
"""How old it is when users are reminded."""


def midnights_swept(
    timezone: str, tick: datetime, kind: str, anniversary: int | None = None
) -> list[datetime]:
    """The midnights of a zone that a tick is about: those as old as a sweep is due, to a quarter.

    ``kind``: an allocation is about the 1st of a month, or about the day on which months begin for
    those who began on the day ``anniversary``; an expiry or a reminder is about every day.
    """
    quarter = ALWAYS + (tick - ALWAYS) // QUARTER * QUARTER
    found = []
    for age in REMINDER_AGES if kind == "reminder" else AGES:
        day = running_day(timezone, quarter - age)
        start = midnight(timezone, day)
        month = f"{day:%Y-%m}"
        is_about = kind != "allocation" or day == first_date(month, anniversary or 1)
        if start > quarter - age - QUARTER and is_about:
            found.append(start)
    return found


def months_around(day: date, before: int = 15, after: int = 3) -> list[str]:
    """The names of the months around a date, in order."""
    months = range(day.year * 12 + day.month - 1 - before, day.year * 12 + day.month + after)
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]


Life = tuple[str, int, int]
"""For how long credits live: a number of "days", or of "months" that begin on a day."""


def end_of_life(timezone: str, granted_at: datetime, life: Life | None) -> datetime | None:
    """When credits are gone; None for never."""
    if life is None:
        return None
    unit, count, day = life
    if unit == "days":
        return _after_days(timezone, granted_at, count)
    months = months_around(local_day(timezone, granted_at), 1, count + 3)
    to_come = [month for month in months if month_start(timezone, month, day) > granted_at]
    return month_start(timezone, to_come[count - 1], day)


def _after_days(timezone: str, granted_at: datetime, days: int) -> datetime:
    """When credits that live so many whole local days are gone."""
    first = running_day(timezone, granted_at)
    rest_of_the_day_on_top = granted_at != midnight(timezone, first)
    return midnight(timezone, first + (days + rest_of_the_day_on_top) * DAY)


# --- Subscriptions --------------------------------------------------------------------------------


class Outdated(Exception):
    """What is stored was observed later than what an edit reports."""


def _mailbox(email: str | None) -> str | None:
    """What is the same of an address however it is spelt: capitals do not count."""
    return None if email is None else email.lower()


@dataclass(frozen=True)
class Welcome:
    """What somebody who has just subscribed is given for the month that was running."""

    period: str
    amount: int
    at: datetime


@dataclass(frozen=True)
class Raised:
    """The most that a user was to be given in a month so far, and each step up to it."""

    period: str
    level: int
    steps: tuple[tuple[int, datetime], ...]
    """How much each brings, and when it was made."""


class Billed(NamedTuple):
    """What somebody pays Stripe for."""

    plan: str
    billing_interval: str
    status: str
    started_at: datetime
    ends_at: datetime | None


class Heard(NamedTuple):
    """What an event of Stripe's says of a contract, and what it was before that, if it says so."""

    contract: str
    seen_at: datetime
    id: str
    billed: Billed
    before: Billed | None


@dataclass(frozen=True)
class Subscription:
    """What the product should know of a user, and what it knew before.

    A month is owed if the user was to be given it as things were known when it began, and still is
    as they are known now. So the story is kept: each version knows the one before it.
    """

    user_id: str
    email: str | None
    timezone: str
    plan: str
    billing_interval: str
    status: str
    started_at: datetime
    registered_at: datetime
    eligible_from: datetime | date
    allocation_amount: int | None = None
    notifications: frozenset[str] = frozenset()
    ends_at: datetime | None = None
    observed_at: datetime | None = None
    language: str = "en"
    suppressed: str | None = None
    version: int = 1
    welcome: Welcome | None = None
    raised: Raised | None = None

    known_since: datetime = field(default=ALWAYS, compare=False, repr=False)
    known_under: Plans = field(default_factory=plans_at, compare=False, repr=False)
    """The catalogue of that time, which ``known_since`` does not tell: clocks differ."""
    before: "Subscription | None" = field(default=None, compare=False, repr=False)
    heard: tuple[Heard, ...] = field(default=(), compare=False, repr=False)
    """What was heard of Stripe that is in it."""
    has_decided: bool = field(default=True, compare=False, repr=False)
    """Whether somebody chose with this version from when on the user is eligible."""

    @property
    def has_plan(self) -> bool:
        """Whether the catalogue knows the plan."""
        return self.plan in plans_at()

    @property
    def is_written_to(self) -> bool:
        return self.email is not None and not self.suppressed

    @property
    def is_stranded(self) -> bool:
        """Whether nobody can say what is owed: the plan is in no catalogue."""
        return self.is_swept and self.is_paid(plans_at()) and not self.has_plan

    @property
    def amount(self) -> int:
        own = self.allocation_amount
        return own if own is not None else int(plans_at()[self.plan]["monthly_credits"])

    @property
    def lifetime(self) -> Life | None:
        plan = plans_at()[self.plan]
        if months := plan.get("credit_lifetime_months"):
            return ("months", months, self.day(self.timezone, plans_at()))
        days = plan.get("credit_lifetime_days")
        return ("days", days, 1) if days else None

    def day(self, timezone: str, plans: Plans) -> int:
        """The day of the month on which the user's months begin, if they lived somewhere."""
        has_own = plans.get(self.plan, {}).get("allocate_on") == "anniversary"
        return local_day(timezone, self.started_at).day if has_own else 1

    def start(self, period: str) -> datetime:
        """When a month begins for the user, as everything is now."""
        return month_start(self.timezone, period, self.day(self.timezone, plans_at()))

    @property
    def full_at(self) -> int | None:
        """To how many credits of a user the plan fills up."""
        height: int | None = plans_at()[self.plan].get("balance_cap")
        return height

    @property
    def threshold(self) -> int | None:
        amount: int | None = plans_at().get(self.plan, {}).get("low_balance_threshold")
        return amount

    @property
    def is_swept(self) -> bool:
        return self.status == "active"

    def is_paid(self, plans: Plans) -> bool:
        """Whether its plan gives anything to those who pay as they do.

        What a plan that is in no catalogue said is anybody's guess: that it paid yearly ones, and
        monthly ones if any plan does.
        """
        said = [plan.get("billing_intervals") or ["yearly"] for plan in plans.values()]
        if self.plan in plans:
            return self.billing_interval in (
                plans[self.plan].get("billing_intervals") or ["yearly"]
            )
        return self.billing_interval == "yearly" or any("monthly" in words for words in said)

    @property
    def receives(self) -> bool:
        """Whether there is anything to be given, now or later."""
        plans = plans_at()
        return self.is_swept and self.is_paid(plans) and self.plan in plans and self.amount > 0

    def may_receive(self, plans: Plans) -> bool:
        """Whether its state, apart from all dates, allows allocations."""
        if not self.is_swept or not self.is_paid(plans):
            return False
        if self.allocation_amount is not None:
            return self.allocation_amount > 0
        # What a plan that is in no catalogue owes will be known once it is back.
        return self.plan not in plans or int(plans[self.plan]["monthly_credits"]) > 0

    def first(self, plans: Plans) -> datetime:
        """The bound of the past: no month that begins earlier is given."""
        bounds = [self.started_at, in_zone(self.eligible_from, self.timezone)]
        return max([*bounds, *(midnight(self.timezone, day) for day in self.began(plans))])

    def began(self, plans: Plans) -> list[date]:
        """The days on which the plan began to give, and to give to those who pay as they do."""
        plan = plans.get(self.plan, {})
        of_plan = plan.get("grants_since") if self.allocation_amount is None else None
        return [day for day in (of_plan, plan.get(f"{self.billing_interval}_since")) if day]

    def gives(self, moment: datetime, plans: Plans) -> bool:
        """Whether a month that begins at a moment is given, as this version and catalogue say."""
        return self.may_receive(plans) and self.first(plans) <= moment < (self.ends_at or NEVER)

    def owes(self, period: str) -> bool:
        """Whether a month that has begun is owed."""
        return self.owes_at(self.start(period))

    def owes_at(self, start: datetime) -> bool:
        """Whether what began at an instant is owed.

        It is not, if things were otherwise known then, or at any edit since; another
        ``eligible_from`` decides anew about all that was before.
        """
        if not self.gives(start, plans_at()):
            return False
        version, plans = self, plans_at()
        while (
            version.before is not None and not version.has_decided and version.known_since > start
        ):
            if start < version.begins_anew:
                return False
            version, plans = version.before, version.known_under
        # What was known then, where the user lives now: a month is a name, and no stretch of time.
        # Since when a plan grants is what the catalogue said to the last.
        return replace(version, timezone=self.timezone).gives(start, plans)

    def has_missed(self, start: datetime, plans: Plans) -> bool:
        """Whether what began at an instant was too early, then or at any edit since."""
        if start < self.first(plans):
            return True
        version = self
        while (
            version.before is not None and not version.has_decided and version.known_since > start
        ):
            if start < version.begins_anew:
                return True
            version = version.before
        return False

    # Of what was known when, and not of today's catalogue: so it is worked out once.
    @cached_property
    def _after_what_was_missed(self) -> datetime:
        """Where the day of the month moved: after the last month that had begun and was missed.

        That it begins later by the new day brings it not back; what is still to begin is another
        thing.
        """
        now, plans, before = self.known_since, self.known_under, self.before
        assert before is not None
        was, day = before.day(before.timezone, plans), self.day(self.timezone, plans)
        months = months_around(local_day(before.timezone, now))
        starts = {month: month_start(before.timezone, month, was) for month in months}
        missed = [
            month
            for month, start in starts.items()
            if start <= now and before.has_missed(start, plans)
        ]
        if was == day or not missed:
            return ALWAYS
        again = month_start(self.timezone, missed[-1], day)
        return ALWAYS if again > now else min(again + timedelta(milliseconds=1), now)

    @cached_property
    def begins_anew(self) -> datetime:
        """From when on this version can owe what the one before it did not. A move changes nothing.

        What was missed before a pause, or before an end that is moved on, is not made good either.
        A pause ends also where a date to come, or one that is past, leaves nothing to be given.
        """
        if self.before is None:
            return ALWAYS
        now, plans = self.known_since, self.known_under
        before = replace(self.before, timezone=self.timezone)
        ended = before.ends_at or NEVER
        resumes = self.may_receive(plans) and not before.may_receive(plans)
        if resumes or (ended <= now and ended < (self.ends_at or NEVER)):
            return now
        bound = min(before.first(plans), now)
        lifted = bound if self.first(plans) < bound else ALWAYS
        return max(lifted, self._after_what_was_missed)

    def welcomed(self) -> "Subscription":
        """As it is when its user subscribes: with what comes at once, if anything does."""
        how = plans_at().get(self.plan, {}).get("on_signup", "none")
        if how == "none" or not self.receives:
            return self
        at = max(self.registered_at, self.first(plans_at()))
        months = months_around(local_day(self.timezone, at))
        period = [month for month in months if self.start(month) <= at][-1]
        start = self.start(period)
        is_old = any(midnight(self.timezone, day) > start for day in self.began(plans_at()))
        is_far = at > self.registered_at + 5 * MINUTE
        if is_old or is_far or self.started_at < start or at >= (self.ends_at or NEVER):
            return self
        days = self.days_of(period)
        left = [day for day in days if day >= running_day(self.timezone, self.started_at)]
        amount = self.amount
        if how == "prorated":
            # As many whole credits as are needed for no day to be paid too little.
            amount = next(n for n in range(amount + 1) if n * len(days) >= amount * len(left))
        return replace(self, welcome=Welcome(period, amount, at))

    def is_welcome(self, period: str) -> bool:
        """Whether a month is that of the welcome, and nothing has taken it back since."""
        welcome = self.welcome
        return welcome is not None and welcome.period == period and self.owes_at(welcome.at)

    def amount_for(self, period: str) -> int:
        """How much comes for a month."""
        is_first = self.welcome is not None and self.welcome.period == period
        return self.welcome.amount if self.welcome and is_first else self.amount

    def due(self, through: str | None, as_of: datetime, now: datetime) -> list[str]:
        """The periods that have begun by an instant and are to be allocated, oldest first."""
        if not self.receives:
            return []
        periods = months_around(local_day(self.timezone, now))
        starts = {period: self.start(period) for period in periods}
        latest = [period for period, start in starts.items() if start <= now][-12:]
        return [
            period
            for period in latest
            if starts[period] <= as_of
            and (through is None or period > through)
            and (self.owes(period) or self.is_welcome(period))
        ]

    def next_period(self, through: str | None, now: datetime) -> str | None:
        """The next period to come, or the oldest that is overdue."""
        if not self.receives:
            return None
        due = self.due(through, now, now)
        if due:
            return due[0]
        first = max(now, self.first(plans_at()))
        months = [
            (period, self.start(period))
            for period in months_around(local_day(self.timezone, first), 2, 30)
        ]
        period, start = next(
            (period, start)
            for period, start in months
            if (through is None or period > through)
            and (start >= first or (start > now and self.is_welcome(period)))
        )
        return None if self.ends_at is not None and start >= self.ends_at else period

    def is_given_more_than(self, before: "Subscription") -> bool:
        """Whether an edit gives more than it says of the plan, which is for admins to decide."""
        own, was = self.allocation_amount, before.allocation_amount
        plan = plans_at().get(self.plan, {"monthly_credits": 0})
        if was is not None and (plan["monthly_credits"] if own is None else own) > was:
            return True
        if was is None and own is not None:
            return True
        begins, began = (in_zone(it.eligible_from, before.timezone) for it in (self, before))
        return self.eligible_from != before.eligible_from and begins < began

    def edited(self, now: datetime, given: Mapping[str, Any]) -> "Subscription":
        """What an edit makes of it; None takes a field back to its default.

        Raises `Outdated` for an edit that was observed before what is stored.
        """
        changes = dict(given)
        observed = changes.pop("observed_at", None)
        if observed and self.observed_at and observed < self.observed_at:
            raise Outdated
        chosen = changes.get("eligible_from")
        if "eligible_from" in changes and chosen is None:
            changes["eligible_from"] = self.registered_at
        for name in ("notifications", "language"):
            if changes.get(name, ()) is None:
                del changes[name]
        changed = replace(self, observed_at=observed or self.observed_at, **changes)
        if _mailbox(changed.email) != _mailbox(self.email):
            changed = replace(changed, suppressed=None)
        if changed == self:
            return self
        after = replace(
            changed,
            version=self.version + 1,
            known_since=now,
            known_under=plans_at(),
            before=self,
            has_decided=chosen is not None
            and chosen != self.registered_at
            and in_zone(chosen, self.timezone) != in_zone(self.eligible_from, self.timezone),
        )
        return after.stepped(self, now)

    def stepped(self, before: "Subscription", now: datetime) -> "Subscription":
        """With what an edit brings at once: a step up within a month, on a plan that pays it."""
        plans = plans_at()
        pay = {name for name, plan in plans.items() if plan.get("on_plan_change") == "difference"}
        if not pay or not before.receives or not self.receives or before.amount == self.amount:
            return self
        months = months_around(local_day(self.timezone, now))
        period = [month for month in months if self.start(month) <= now][-1]
        known = self.raised
        if known is None or known.period != period:
            known = Raised(period, before.amount, ())
        level, steps = max(known.level, before.amount), known.steps
        has_its_day = before.day(before.timezone, plans) == self.day(self.timezone, plans)
        is_old = any(midnight(self.timezone, d) > self.start(period) for d in self.began(plans))
        pays = self.plan in pay and self.plan != before.plan and has_its_day and not is_old
        if self.amount > level and pays and len(steps) < 10:
            days, today = self.days_of(period), running_day(self.timezone, now)
            left, more = [day for day in days if day >= today], self.amount - level
            amount = next(n for n in range(more + 1) if n * len(days) >= more * len(left))
            moment = max([now, *(at + MINUTE / 60_000 for _, at in steps)])
            steps = (*steps, (amount, moment))
        return replace(self, raised=Raised(period, max(level, self.amount), steps))

    def days_of(self, period: str) -> list[date]:
        """All local days of a month of the user's."""
        first_day = self.day(self.timezone, plans_at())
        days = [first_date(period, first_day)]
        months = months_around(days[0], 0, 2)
        while days[-1] + DAY < first_date(months[months.index(period) + 1], first_day):
            days.append(days[-1] + DAY)
        return days

    def step_due(self, ledger: "Ledger") -> tuple[int, datetime] | None:
        """The first step that is to come on top of the month that was given last."""
        if self.raised is None or self.raised.period != ledger.through or not self.receives:
            return None
        done = ledger.stepped_at or ALWAYS
        left = [step for step in self.raised.steps if step[1] > done and self.owes_at(step[1])]
        return left[0] if left else None


def in_zone(moment: datetime | date, timezone: str) -> datetime:
    """An instant; of a date the midnight there."""
    return moment if isinstance(moment, datetime) else midnight(timezone, moment)


# --- The ledger -----------------------------------------------------------------------------------


class Short(Exception):
    """Fewer credits are available than asked for."""

    def __init__(self, available: int) -> None:
        super().__init__(available)
        self.available = available


class Forbidden(Exception):
    """A rule does not allow it."""


@dataclass(frozen=True)
class Grant:
    """A credit batch as it was granted; what is left of it is the sum of its legs."""

    number: int
    amount: int
    granted_at: datetime
    expires_at: datetime | None
    timezone: str
    source: str = "adjustment"
    priority: int = 50

    def is_alive(self, at: datetime) -> bool:
        return self.expires_at is None or at < self.expires_at

    @property
    def swept_at(self) -> datetime | None:
        """The midnight at which it is booked out: at its end, or the next one."""
        if self.expires_at is None:
            return None
        return next_midnight(self.timezone, self.expires_at)


def full_second(instant: datetime) -> datetime:
    """The first full second that is not before an instant: so far the index is exact."""
    rest = instant.microsecond
    return instant + timedelta(microseconds=1_000_000 - rest) if rest else instant


def next_midnight(timezone: str, instant: datetime) -> datetime:
    """The first midnight there that is not before an instant."""
    day = running_day(timezone, instant)
    if midnight(timezone, day) < instant:
        day += DAY
    return midnight(timezone, day)


Legs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Hold:
    """Credits set aside, of which batches how many, until an instant."""

    number: int
    legs: Legs
    ends_at: datetime
    timezone: str | None
    """Whose sweep books out what it frees too late, if that can happen."""

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.legs)


@dataclass(frozen=True)
class Line:
    type: str
    legs: Legs
    posted_at: datetime
    effective_at: datetime
    through: str | None
    operation: str
    grant: Grant | None = None
    expired: int = 0
    """Of a reversal or a refund: what could not return."""
    asked: int = 0
    """Of a reversal: what was to return."""
    reverses: int = 0
    """Of a reversal: the number of the usage."""
    silent: bool = False
    description: str = ""
    opens: Hold | None = None
    ends: int = 0
    """The number of the hold that it ends; of it so much is free again:"""
    released: int = 0
    left_out: int = 0
    """Of an allocation: what did not fit, and the height to which it filled the account:"""
    full_at: int | None = None
    is_welcome: bool = False
    is_step: bool = False
    stepped_at: datetime | None = None
    """Of an allocation: the latest step up that is in its month by now."""
    frees_dead: str | None = None
    """Of an end that frees what is dead: the zone whose next sweep books it out."""
    price: tuple[int, str] | None = None
    refunds: int = 0
    """The number of the purchase; of it so much was refunded by then, as somebody saw:"""
    refunded: int = 0
    observed_at: datetime | None = None

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.legs)

    @property
    def sweep(self) -> tuple[str, datetime] | None:
        """The zone that must be swept because of this line, and for which instant."""
        if self.grant and self.grant.expires_at:
            return self.grant.timezone, self.grant.expires_at
        if self.opens and self.opens.timezone:
            return self.opens.timezone, full_second(self.opens.ends_at)
        return (self.frees_dead, full_second(self.posted_at)) if self.frees_dead else None


class Over(Exception):
    """A hold is not there, or not any more."""


def _taken(there: Legs, amount: int) -> Legs:
    """The legs that take so much of what is there, the first first."""
    legs = []
    for batch, left in there:
        taken = min(amount, left)
        amount -= taken
        if taken:
            legs.append((batch, -taken))
    return tuple(legs)


@dataclass
class Ledger:
    """A user's lines, and what they add up to."""

    lines: list[Line] = field(default_factory=list)
    grants: dict[int, Grant] = field(default_factory=dict)
    left: Counter[int] = field(default_factory=Counter)
    holds: dict[int, Hold] = field(default_factory=dict)
    """What nobody has ended; some of it has lapsed."""

    @property
    def through(self) -> str | None:
        return self.lines[-1].through if self.lines else None

    @property
    def stepped_at(self) -> datetime | None:
        """The latest step up that is in the month that was given last."""
        found = [line.stepped_at for line in self.lines if line.type == "allocation"]
        return found[-1] if found else None

    @property
    def balance(self) -> int:
        return sum(self.left.values())

    def time(self, now: datetime) -> datetime:
        """To the millisecond, and never backwards."""
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        return max(now, self.lines[-1].posted_at) if self.lines else now

    def open(self) -> list[Grant]:
        """What is not empty, in the order of spending: first granted first."""
        found = [self.grants[number] for number, left in self.left.items() if left]
        return sorted(found, key=lambda each: (each.priority, each.granted_at, each.number))

    def alive(self, at: datetime) -> list[Grant]:
        return [grant for grant in self.open() if grant.is_alive(at)]

    def available(self, at: datetime) -> int:
        return sum(amount for _, amount in self.free(at))

    def active(self, at: datetime) -> list[Hold]:
        return [hold for hold in self.holds.values() if at < hold.ends_at]

    def held(self, at: datetime) -> Counter[int]:
        """How much of each batch is set aside."""
        found: Counter[int] = Counter()
        for hold in self.active(at):
            found.update(dict(hold.legs))
        return found

    def free(self, at: datetime) -> Legs:
        """How much of each batch can be spent, in the order of spending."""
        held = self.held(at)
        return tuple((g.number, self.left[g.number] - held[g.number]) for g in self.alive(at))

    def after(self, line: Line) -> "Ledger":
        """What it is once a line is added."""
        copy = Ledger(list(self.lines), dict(self.grants), self.left.copy(), dict(self.holds))
        copy.add(line)
        return copy

    def midnights(self, grant: Grant) -> set[tuple[str, datetime]]:
        """When what is dead of a batch is booked out: at its end, and after each hold of it."""
        assert grant.expires_at
        found = {(grant.timezone, grant.expires_at)}
        for line in self.lines:
            if line.opens and grant.number in dict(line.opens.legs) and line.sweep:
                found.add(line.sweep)
            if line.ends and line.sweep:
                found.add(line.sweep)
        return {(zone, next_midnight(zone, at)) for zone, at in found if at >= grant.expires_at}

    def refunds_of(self, purchase: int) -> list[Line]:
        return [line for line in self.lines if line.refunds == purchase]

    def taken_back(self, purchase: int) -> int:
        """What refunds have taken, less what they gave back, be it dead."""
        return sum(-line.amount - line.expired for line in self.refunds_of(purchase))

    def overdue(self, since: datetime, now: datetime) -> list[tuple[str, datetime, Grant]]:
        """What is still there though a midnight has passed that was to book it out."""
        return [
            (zone, at, grant)
            for grant in self.open()
            if grant.expires_at is not None
            for zone, at in self.midnights(grant)
            # What was held then may be held still. Of what is dead there is never more than before.
            if since <= at <= now and self.left[grant.number] > self.at(at).held(at)[grant.number]
        ]

    def add(self, line: Line) -> None:
        self.lines.append(line)
        if line.opens:
            self.holds[line.opens.number] = line.opens
        self.holds.pop(line.ends, None)
        if line.grant:
            self.grants[line.grant.number] = line.grant
        for batch, amount in line.legs:
            self.left[batch] += amount
            assert 0 <= self.left[batch] <= self.grants[batch].amount

    def at(self, instant: datetime) -> "Ledger":
        """What it was at an instant: the lines until then, added up anew."""
        return self.until(sum(1 for line in self.lines if line.posted_at <= instant))

    def until(self, number: int) -> "Ledger":
        """What it was after a line."""
        past = Ledger()
        for line in self.lines[:number]:
            past.add(line)
        return past

    # What the next line should be.

    def take(self, kind: str, amount: int, now: datetime, operation: str, text: str) -> Line:
        at = self.time(now)
        if amount > self.available(at):
            raise Short(self.available(at))
        legs = _taken(self.free(at), amount)
        return Line(kind, legs, at, at, self.through, operation, description=text)

    def void(self, batch: int, now: datetime, operation: str, text: str) -> Line:
        """All that is free of one batch."""
        at = self.time(now)
        taken = dict(self.free(at)).get(batch)
        if not taken:
            raise Forbidden
        return Line("manual", ((batch, -taken),), at, at, self.through, operation, description=text)

    def hold(
        self, amount: int, seconds: int, now: datetime, operation: str, text: str, timezone: str
    ) -> Line:
        at = self.time(now)
        if amount > self.available(at):
            raise Short(self.available(at))
        legs = tuple((batch, -taken) for batch, taken in _taken(self.free(at), amount))
        end = at + timedelta(seconds=seconds)
        outlives = any((self.grants[batch].expires_at or NEVER) < end for batch, _ in legs)
        hold = Hold(len(self.lines) + 1, legs, end, timezone if outlives else None)
        return Line("hold", (), at, at, self.through, operation, description=text, opens=hold)

    def end(
        self, number: int, amount: int, now: datetime, operation: str, text: str, *, beyond: bool
    ) -> Line:
        """What is held is taken first; what is free only beyond that, and only if that was said."""
        at = self.time(now)
        hold = next((hold for hold in self.active(at) if hold.number == number), None)
        if hold is None:
            raise Over
        if amount > hold.amount and not beyond:
            raise Forbidden
        there = (*hold.legs, *self.free(at))
        if amount > sum(left for _, left in there):
            raise Short(sum(left for _, left in there))
        taken: Counter[int] = Counter()
        for batch, spent in _taken(there, amount):
            taken[batch] += spent
        dead = any(not self.grants[b].is_alive(at) and n > -taken[b] for b, n in hold.legs)
        return Line(
            "usage" if amount else "release",
            tuple((batch, spent) for batch, spent in taken.items()),
            at,
            at,
            self.through,
            operation,
            description=text,
            ends=number,
            released=hold.amount - min(amount, hold.amount),
            frees_dead=hold.timezone if dead else None,
        )

    def give(
        self,
        amount: int,
        now: datetime,
        operation: str,
        text: str,
        timezone: str,
        life: Life | None,
        source: str = "adjustment",
    ) -> Line:
        at = self.time(now)
        end = end_of_life(timezone, at, life)
        grant = Grant(len(self.lines) + 1, amount, at, end, timezone, source)
        legs = ((grant.number, amount),)
        return Line("manual", legs, at, at, self.through, operation, grant, description=text)

    def buy(
        self,
        amount: int,
        price: tuple[int, str] | None,
        now: datetime,
        operation: str,
        timezone: str,
        days: int | None,
    ) -> Line:
        """What was paid for is used last, and lives for ever unless that was said."""
        at = self.time(now)
        end = end_of_life(timezone, at, ("days", days, 1) if days else None)
        grant = Grant(len(self.lines) + 1, amount, at, end, timezone, "purchase", 60)
        legs = ((grant.number, amount),)
        return Line("purchase", legs, at, at, self.through, operation, grant, price=price)

    def refund(
        self,
        purchase: int,
        in_all: int,
        observed_at: datetime | None,
        now: datetime,
        operation: str,
        text: str,
    ) -> Line | None:
        """What is refunded is taken, as far as it is there; what is refunded no more comes back.

        None where nothing new is said.
        """
        at, grant, before = self.time(now), self.grants[purchase], self.refunds_of(purchase)
        seen = [line.observed_at for line in before if line.observed_at]
        if in_all > grant.amount:
            raise Forbidden
        if observed_at and seen and observed_at < max(seen):
            raise Outdated
        is_seen_later = observed_at is not None and (not seen or observed_at > max(seen))
        if before and in_all == before[-1].refunded and not is_seen_later:
            return None
        taken = self.taken_back(purchase)
        moved = max(taken - in_all, 0)
        if in_all > (before[-1].refunded if before else 0):
            moved = -min(in_all - taken, dict(self.free(at)).get(purchase, 0))
        is_dead = moved > 0 and not grant.is_alive(at)
        return Line(
            "refund",
            ((purchase, moved),) if moved and not is_dead else (),
            at,
            at,
            self.through,
            operation,
            expired=moved if is_dead else 0,
            description=text,
            refunds=purchase,
            refunded=in_all,
            observed_at=max([*seen, observed_at or ALWAYS]) if observed_at or seen else None,
        )

    def carry(
        self,
        amount: int,
        dates: tuple[datetime, datetime | None],
        now: datetime,
        operation: str,
        timezone: str,
    ) -> Line:
        """What somebody had elsewhere, with the dates it had there; nobody is told."""
        at, (granted_at, end) = self.time(now), dates
        grant = Grant(len(self.lines) + 1, amount, granted_at, end, timezone, "carried_over")
        legs = ((grant.number, amount),)
        return Line("manual", legs, at, at, self.through, operation, grant, silent=True)

    def allocate(self, subscription: Subscription, period: str, now: datetime) -> Line:
        at, timezone = self.time(now), subscription.timezone
        start = subscription.start(period)
        today = midnight(timezone, running_day(timezone, at))
        counts_from = max(start, today)
        end = end_of_life(timezone, counts_from, subscription.lifetime)
        amount, welcome = subscription.amount_for(period), subscription.welcome
        line = Line("allocation", (), at, start, period, f"allocation#{period}")
        raised = subscription.raised
        if welcome and welcome.period == period:
            since = min(max(welcome.at, start), at)
            text = f"First credits for {period}"
            line = replace(line, effective_at=since, is_welcome=True, description=text)
        elif raised and raised.period == period and raised.steps:
            # What comes late comes as it is by now, with all steps in it.
            line = replace(line, stepped_at=raised.steps[-1][1])
        return self._giving(line, amount, subscription, counts_from, end)

    def step_up(
        self, subscription: Subscription, step: tuple[int, datetime], now: datetime
    ) -> Line:
        at, (amount, moment), timezone = self.time(now), step, subscription.timezone
        today = midnight(timezone, running_day(timezone, at))
        name = f"plan_change#{self.through}#{show(moment)}"
        line = Line("allocation", (), at, min(moment, at), self.through, name)
        text = f"Credits of the larger plan for {self.through}"
        line = replace(line, is_step=True, stepped_at=moment, description=text)
        end = end_of_life(timezone, today, subscription.lifetime)
        return self._giving(line, amount, subscription, today, end)

    def _giving(
        self,
        line: Line,
        amount: int,
        subscription: Subscription,
        counts_from: datetime,
        end: datetime | None,
    ) -> Line:
        """A line with as much of an amount as fits."""
        given = self.fitting(amount, subscription.full_at, line.posted_at)
        zone = subscription.timezone
        grant = Grant(len(self.lines) + 1, given, counts_from, end, zone, "plan")
        if given < amount:
            line = replace(line, left_out=amount - given, full_at=subscription.full_at)
        return replace(line, legs=((grant.number, given),), grant=grant) if given else line

    def fitting(self, amount: int, full_at: int | None, at: datetime) -> int:
        """How much of an amount fits: credit by credit, until there are enough that are alive."""
        if full_at is None:
            return amount
        there = self.available(at)
        for grant in self.alive(at):
            there += self.held(at)[grant.number]
        return len([number for number in range(there, there + amount) if number < full_at])

    def expire(self, now: datetime) -> Line | None:
        at = self.time(now)
        rest = self.left - self.held(at)
        dead = [grant for grant in self.open() if not grant.is_alive(at) and rest[grant.number]]
        if not dead:
            return None
        latest = max(grant.expires_at for grant in dead if grant.expires_at)
        legs = tuple((grant.number, -rest[grant.number]) for grant in dead)
        return Line("expiration", legs, at, latest, self.through, "expiration")

    def reverse(
        self, number: int, amount: int | None, now: datetime, operation: str, text: str
    ) -> Line:
        """What was spent last is given back first; what is dead stays dead."""
        at = self.time(now)
        usage = self.lines[number - 1]
        if usage.type != "usage":
            raise Forbidden
        before = sum(line.asked for line in self.lines if line.reverses == number)
        asked = -usage.amount - before if amount is None else amount
        if not 0 < asked <= -usage.amount - before:
            raise Forbidden
        one_by_one = [batch for batch, spent in reversed(usage.legs) for _ in range(-spent)]
        returning = Counter(one_by_one[before : before + asked])
        legs = tuple((b, n) for b, n in returning.items() if self.grants[b].is_alive(at))
        expired = asked - sum(amount for _, amount in legs)
        return Line(
            "reversal",
            legs,
            at,
            at,
            self.through,
            operation,
            expired=expired,
            asked=asked,
            reverses=number,
            description=text,
        )


# --- Emails ---------------------------------------------------------------------------------------


TOLD = ("allocation", "expiration", "manual", "purchase", "refund")
"""The lines that are told whatever they come to."""


def mail_of(line: Line, before: Ledger, subscription: Subscription) -> str | None:
    if line.type == "usage":
        return "low_balance" if crosses(line, before, subscription.threshold) else None
    if line.type == "refund" and not line.amount:
        return None
    is_told = line.type in TOLD and not line.silent
    return line.type if is_told else None


def crosses(usage: Line, before: Ledger, limit: int | None) -> bool:
    """Whether a usage took what was available from a limit or more to less than it."""
    after = before.after(usage).available(usage.posted_at)
    return limit is not None and after < limit <= after - usage.amount


def was_always_called_for(line: Line, before: Ledger) -> bool:
    """Whether a line has called for an email under every catalogue since it was posted.

    A low balance is told by the limits there are when its message is made and sent: a limit that is
    raised later tells nobody of the past.
    """
    # The machine that posted it may have been ahead of the clock.
    known_since = line.posted_at - MOST_AHEAD
    later = [plans for since, plans in DEPLOYED if since > known_since]
    return line.type != "usage" or all(
        any(crosses(line, before, plan.get("low_balance_threshold")) for plan in plans.values())
        for plans in (plans_at(known_since), *later)
    )


def newest_grant(line: Line, before: Ledger) -> int:
    """The newest grant that a usage, or what was open at it, knows of."""
    return max(grant.number for grant in before.open()) if before.open() else line.legs[-1][0]


class Wording(NamedTuple):
    """How a language writes what the emails of the simulation say; subjects by kind.

    ``n``: so many credits; ``on``: a day, or a month. What is behind a bar is for a loss.
    """

    one: str
    many: str
    thousands: str
    months: tuple[str, ...]
    day: str
    available: str
    granted: str
    through: str
    subjects: Mapping[str, str]


WORDINGS = {
    "en": Wording(
        one="1 credit",
        many="{} credits",
        thousands=",",
        months=(
            *("January", "February", "March", "April", "May", "June", "July", "August"),
            *("September", "October", "November", "December"),
        ),
        day="{} {}",
        available="Available after that: {}\n",
        granted="Granted on {}: {}\n",
        through=" through {}.",
        subjects={
            "none": "No room for your {on} credits",
            "first": "Your first credits are here",
            "allocation": "Your {on} credits are here",
            "expiration": "{n} expired on {on}",
            "expiring_soon": "{n} expire on {on}",
            "low_balance": "{n} left",
            "manual": "{n} added to your account|{n} taken back from your account",
            "purchase": "Your {n} are here",
            "refund": "{n} given back|{n} taken back after a refund",
        },
    ),
    "de": Wording(
        one="1 Credit",
        many="{} Credits",
        thousands=".",
        months=(
            *("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August"),
            *("September", "Oktober", "November", "Dezember"),
        ),
        day="{}. {}",
        available="Danach verfügbar: {}\n",
        granted="Gutgeschrieben am {}: {}\n",
        through=" bis einschließlich {}.",
        subjects={
            "none": "Kein Platz für Ihre Credits für {on}",
            "first": "Ihre ersten Credits sind da",
            "allocation": "Ihre Credits für {on} sind da",
            "expiration": "{n} sind am {on} verfallen",
            "expiring_soon": "{n} verfallen am {on}",
            "low_balance": "Noch {n} übrig",
            "manual": "{n} gutgeschrieben|{n} zurückgenommen",
            "purchase": "Ihre {n} sind da",
            "refund": "{n} zurückgegeben|{n} nach einer Erstattung zurückgenommen",
        },
    ),
}

OF_ONE = {
    "1 credit expire on": "1 credit expires on",
    "Your 1 credit are": "Your 1 credit is",
    "1 Credit sind am": "1 Credit ist am",
    "1 Credit verfallen am": "1 Credit verfällt am",
    "Ihre 1 Credit sind": "Ihr 1 Credit ist",
}


def credits_in_words(amount: int, language: str = "en") -> str:
    wording = WORDINGS[language]
    number = f"{amount:,}".replace(",", wording.thousands)
    return wording.one if amount == 1 else wording.many.format(number)


def day_in_words(day: date, told: datetime, language: str) -> str:
    wording = WORDINGS[language]
    words = wording.day.format(day.day, wording.months[day.month - 1])
    return words if abs((day - told.date()).days) <= 183 else f"{words} {day.year}"


def month_in_words(period: str, told: datetime, language: str) -> str:
    first = date.fromisoformat(f"{period}-01")
    words = WORDINGS[language].months[first.month - 1]
    return words if abs((first - told.date()).days) <= 183 else f"{words} {first.year}"


def sent_subject(language: str, kind: str, amount: int, on: str = "") -> str:
    gain, _, loss = WORDINGS[language].subjects[kind].partition("|")
    words = (loss or gain) if amount < 0 else gain
    subject = words.format(n=credits_in_words(abs(amount), language), on=on)
    for many, one in OF_ONE.items():
        subject = subject.replace(many, one) if subject.startswith(many) else subject
    return subject


def last_day(grant: Grant) -> date:
    """The last day on which credits that expire can be used."""
    assert grant.expires_at is not None
    return local_day(grant.timezone, grant.expires_at - timedelta(milliseconds=1))


def day_of(expiration: Line, ledger: Ledger) -> date:
    """The last day of credits that expired, where the user lived when they were granted."""
    ends = [
        (grant.expires_at, last_day(grant))
        for number, _ in expiration.legs
        if (grant := ledger.grants[number]).expires_at
    ]
    return max(ends)[1]
