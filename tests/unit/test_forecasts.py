"""When credits will run out, held to another way of finding out: day by day, lot by lot."""

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import CreditsError
from chalicelib.domain.forecasts import (
    HORIZON_DAYS,
    NoRate,
    Rate,
    forecast,
    pace_of,
    spending_of,
    spent_since,
)
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import Account
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.subscriptions import Subscription
from chalicelib.plans_file import parse_catalogue
from tests.registered import register
from tests.unit.test_holds import DAY, HOUR, START, USER, ZONE, Book, why, zone

CATALOGUE = parse_catalogue("""
[[plans]]
id = "starter"
name = "Starter"
monthly_credits = 100
credit_lifetime_days = 30
lowest = true

[[plans]]
id = "pro"
name = "Pro"
monthly_credits = 500

[[plans]]
id = "filled"
name = "Filled"
monthly_credits = 300
balance_cap = 400
""")

FIRST = parse_instant("at", "2026-06-30T22:00:00Z")
"""The 1st of July begins in Paris."""

MILLISECOND = timedelta(milliseconds=1)


def subscribed(plan: str = "starter", **changes: object) -> Subscription:
    values: dict[str, object] = {
        "user_id": USER,
        "timezone": ZONE,
        "plan": plan,
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-07T00:00:00Z",
        **changes,
    }
    return register(values, CATALOGUE, parse_instant("at", "2026-06-10T10:00:00Z"))


def day(text: str) -> date:
    return date.fromisoformat(text)


def test_the_example_of_the_module_is_what_comes_out() -> None:
    ended = subscribed(ends_at="2026-07-15T00:00:00Z")
    spending = forecast(CATALOGUE, ended, Account(USER), FIRST, Rate(40, 7))
    assert [(each.on, each.amount) for each in spending.grants] == [(day("2026-07-01"), 100)]
    assert (spending.runs_out_on, spending.expiring) == (day("2026-07-18"), {})
    rate = Rate(40, 7)
    assert (rate.through(18) - rate.through(17), 100 - rate.through(17)) == (5, 3)
    saving = forecast(CATALOGUE, ended, Account(USER), FIRST)
    assert (saving.runs_out_on, saving.expiring) == (None, {day("2026-07-31"): 100})


def test_allocations_of_a_whole_year_come_at_the_local_midnights_of_the_1st() -> None:
    found = forecast(CATALOGUE, subscribed("pro"), Account(USER), FIRST + HOUR)
    assert [(each.on, each.at) for each in found.grants][:5] == [
        (day("2026-07-01"), FIRST + HOUR),  # overdue, so at once
        (day("2026-08-01"), parse_instant("at", "2026-07-31T22:00:00Z")),
        (day("2026-09-01"), parse_instant("at", "2026-08-31T22:00:00Z")),
        (day("2026-10-01"), parse_instant("at", "2026-09-30T22:00:00Z")),
        (day("2026-11-01"), parse_instant("at", "2026-10-31T23:00:00Z")),
    ]
    assert [each.amount for each in found.grants] == [500] * 12
    assert found.until == day("2027-07-01")
    assert found.expiring == {}


def test_a_cap_leaves_out_what_is_not_spent() -> None:
    saving = forecast(CATALOGUE, subscribed("filled"), Account(USER), FIRST)
    assert [each.amount for each in saving.grants][:3] == [300, 100, 0]
    spending = forecast(CATALOGUE, subscribed("filled"), Account(USER), FIRST, Rate(5, 1))
    assert [each.amount for each in spending.grants][:3] == [300, 255, 155]


def test_what_is_not_covered_on_the_first_day_runs_out_today() -> None:
    paused = subscribed(status="paused")
    assert forecast(CATALOGUE, paused, Account(USER), START, Rate(1, 1)).runs_out_on == day(
        "2026-07-01"
    )
    assert forecast(CATALOGUE, paused, Account(USER), START, Rate(1, 3)).runs_out_on == day(
        "2026-07-03"
    )


def test_credits_that_expire_at_midnight_can_be_spent_on_the_day_before() -> None:
    book = Book()
    book.grant(10, days=1)  # gone at the midnight that begins the 3rd
    paused = subscribed(status="paused")
    found = forecast(CATALOGUE, paused, book.account, START, Rate(5, 1))
    assert (found.runs_out_on, found.expiring) == (day("2026-07-03"), {})
    # Without a subscription the days are those of UTC, where that midnight is two hours early.
    found = forecast(CATALOGUE, None, book.account, START, Rate(5, 1))
    assert (found.runs_out_on, found.expiring) == (day("2026-07-02"), {day("2026-07-02"): 5})


def test_a_hold_sets_its_credits_aside_until_it_is_over() -> None:
    book = Book()
    book.grant(10)
    book.hold(8, seconds=3 * 86_400)
    paused = subscribed(status="paused")
    short = forecast(CATALOGUE, paused, book.account, START, Rate(1, 1))
    assert short.runs_out_on == day("2026-07-03")
    slow = forecast(CATALOGUE, paused, book.account, START, Rate(1, 2))
    assert slow.runs_out_on == day("2026-07-22")


def test_what_was_given_back_was_not_spent_and_nothing_else_counts() -> None:
    book = Book()
    posted = [book.grant(100), book.use(30)]
    before_usage = posted[-1]
    usage = book.use(20, START + HOUR)
    book.post(ledger.claw_back(book.account, 5, why("manual#4"), START + HOUR))
    back = ledger.reverse(book.account, usage, before_usage, 0, 8, why("reversal#5"), START + HOUR)
    book.post(back.entry)
    entries = [*posted, usage, back.entry]
    assert spent_since(entries, START) == 42
    assert spent_since(entries, START + HOUR) == 12
    assert spent_since(entries, START + HOUR + MILLISECOND) == 0


@dataclass
class Lot:
    left: int
    ends: datetime | None
    order: tuple[int, datetime, int]

    def is_usable(self, at: datetime) -> bool:
        return self.ends is None or at < self.ends


class DayByDay:
    """The same by another way: a list of lots, and a spending at the end of every single day."""

    def __init__(
        self, plan: str, account: Account, now: datetime, rate: Rate, *, is_granting: bool = True
    ) -> None:
        self.plan, self.account, self.now, self.rate = CATALOGUE.get(plan), account, now, rate
        self.today = now.astimezone(ZoneInfo(ZONE)).date()
        self.lots = [
            Lot(each.remaining, each.expires_at, (each.priority, each.granted_at, each.number))
            for each in account.batches
        ]
        self.lot_of = {
            each.number: lot for each, lot in zip(account.batches, self.lots, strict=True)
        }
        self.grants: list[tuple[date, int]] = []
        self.expiring = Counter[date]()
        self.spent = 0
        self.runs_out_on: date | None = None
        for at, _, what in sorted(self.moments()):
            self.expire(at)
            if what == "grant" and is_granting:
                self.grant(at)
            if what == "spend" and not self.spend(at):
                self.runs_out_on = local_day(at)
                break

    def moments(self) -> Iterator[tuple[datetime, int, str]]:
        """Everything that happens, and what is first of what happens at once."""
        days = [self.today + n * DAY for n in range(HORIZON_DAYS + 1)]
        yield self.now, 0, "now"
        for when in days[1:]:
            yield local_midnight(when) - MILLISECOND, 0, "spend"
            yield local_midnight(when), 1, "end"
            if when.day == 1 and when != days[-1]:
                yield local_midnight(when), 2, "grant"
        ends = [each.expires_at for each in self.account.batches]
        ends += [each.expires_at for each in self.account.holds]
        yield from ((end, 1, "end") for end in ends if end and self.now < end)

    def held(self, at: datetime) -> Counter[int]:
        found = Counter[int]()
        for hold in self.account.holds:
            if at < hold.expires_at:
                for leg in hold.legs:
                    found[id(self.lot_of[leg.batch])] += leg.amount
        return found

    def expire(self, at: datetime) -> None:
        held = self.held(at)
        for lot in self.lots:
            gone = lot.left - held[id(lot)]
            if lot.ends and at >= lot.ends and gone and at < local_midnight(self.last_day):
                self.expiring[local_day(max(lot.ends, self.now))] += gone
                lot.left -= gone

    @property
    def last_day(self) -> date:
        return self.today + HORIZON_DAYS * DAY

    def grant(self, at: datetime) -> None:
        usable = sum(lot.left for lot in self.lots if lot.is_usable(at))
        amount = self.plan.monthly_credits
        if self.plan.balance_cap is not None:
            amount = min(amount, max(0, self.plan.balance_cap - usable))
        self.grants.append((local_day(at), amount))
        ends = local_midnight(local_day(at) + 30 * DAY) if self.plan.id == "starter" else None
        self.lots.append(Lot(amount, ends, (self.plan.priority, at, 10**9)))

    def spend(self, at: datetime) -> bool:
        """Spends what a day takes; whether it was there."""
        number = (local_day(at) - self.today).days + 1
        wanted = self.rate.credits * number // self.rate.days - self.spent
        held = self.held(at)
        free = {id(lot): lot.left - held[id(lot)] for lot in self.lots if lot.is_usable(at)}
        if wanted > sum(free.values()):
            return False
        self.spent += wanted
        for lot in sorted(self.lots, key=lambda lot: lot.order):
            taken = min(wanted, free.get(id(lot), 0))
            lot.left -= taken
            wanted -= taken
        return True


def local_midnight(when: date) -> datetime:
    return datetime(when.year, when.month, when.day, tzinfo=ZoneInfo(ZONE)).astimezone(UTC)


def local_day(at: datetime) -> date:
    return at.astimezone(ZoneInfo(ZONE)).date()


@pytest.mark.parametrize("plan", ["starter", "pro", "filled"])
def test_it_comes_to_what_every_single_day_comes_to(plan: str) -> None:
    ran_out = 0
    for seed in range(25):
        random, book, now = Random(seed), Book(), START
        subscription = subscribed(plan)
        first = ledger.allocate(
            book.account,
            Period(2026, 7),
            CATALOGUE.get(plan).monthly_credits,
            ZONE,
            CATALOGUE.get(plan).credit_lifetime,
            now,
        )
        book.post(first)
        for _ in range(random.randrange(8)):
            now += random.choice((HOUR, HOUR * 11))
            amount = random.randint(1, 60)
            with suppress(CreditsError):
                match random.randrange(4):
                    case 0:
                        book.grant(amount, random.choice((None, 1, 2, 40)), now, 50)
                    case 1:
                        book.grant(amount, None, now, random.choice((10, 90)))
                    case 2:
                        book.hold(amount, random.choice((3600, 400_000)), now, zone)
                    case _:
                        book.use(amount, now)
        rate = Rate(random.choice((0, 300, 900, 9000)), random.choice((7, 30, 90)))
        found = forecast(CATALOGUE, subscription, book.account, now, rate)
        other = DayByDay(plan, book.account, now, rate)
        where = f"seed {seed}: {rate}"
        assert found.runs_out_on == other.runs_out_on, where
        assert found.expiring == other.expiring, where
        assert [(each.on, each.amount) for each in found.grants] == other.grants, where
        ran_out += found.runs_out_on is not None
    assert 4 < ran_out < 21


def test_many_batches_and_holds_over_them_come_to_the_same_day_by_day() -> None:
    """Runs of them that are spent in turn and end together are one to a forecast."""
    for seed in range(5):
        random, book, now = Random(seed), Book(), START
        for _ in range(25):
            now += random.choice((timedelta(0), HOUR))
            with suppress(CreditsError):
                if random.random() < 0.2:
                    book.hold(random.randint(5, 60), random.choice((3600, 900_000)), now, zone)
                else:
                    book.grant(
                        10, random.choice((None, None, 3, 400)), now, random.choice((10, 50))
                    )
        rate = Rate(random.choice((0, 900, 3000)), 30)
        found = forecast(CATALOGUE, subscribed(status="paused"), book.account, now, rate)
        other = DayByDay("pro", book.account, now, rate, is_granting=False)
        assert (found.runs_out_on, found.expiring) == (other.runs_out_on, other.expiring), seed


def test_an_overdue_allocation_is_spent_in_its_turn_among_batches_that_end_together() -> None:
    """It counts from the midnight before: it comes after the first of them, before the second."""
    book = Book()
    book.grant(10, now=START - DAY)
    book.grant(10, now=START)
    found = forecast(CATALOGUE, subscribed(), book.account, START + HOUR, Rate(110, 30))
    assert found.grants[0].amount == 100
    # All of July's are spent in July, because those of the second batch are not spent before.
    assert found.expiring.get(day("2026-07-31"), 0) == 0


def test_what_comes_is_spent_between_batches_of_which_one_goes_before_it_and_one_after() -> None:
    """They never end, both of them; were they one, 3 of August's credits would be left."""
    book = Book()
    book.grant(10, priority=10)
    book.grant(10, priority=90)
    starter = subscribed(eligible_from="2026-07-15T00:00:00Z")
    found = forecast(CATALOGUE, starter, book.account, START + 29 * DAY, Rate(11, 3))
    assert found.grants[0].on == day("2026-08-01")
    assert found.expiring.get(day("2026-08-31"), 0) == 0


@pytest.mark.parametrize("days", [None, 30, 900])
def test_hundreds_of_batches_that_end_together_take_as_few_decisions_as_one(
    days: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = Account(USER)
    for number in range(300):
        # Beyond the year that is foreseen, no end is another.
        lifetime = Days(days + number * (days > HORIZON_DAYS)) if days else None
        entry = ledger.grant(account, 1, why(f"manual#{number}"), START, ZONE, lifetime)
        account = Account(USER, entry)
    decided: list[int] = []
    expire = ledger.expire

    def counting(account: Account, now: datetime) -> LedgerEntry | None:
        decided.append(len(account.batches))
        return expire(account, now)

    monkeypatch.setattr(ledger, "expire", counting)
    for rate in (Rate(0, 1), Rate(1, 30), Rate(90, 30)):
        assert forecast(CATALOGUE, subscribed("pro"), account, START, rate).grants
        # Twelve months, the end of those that do end, and that of the year.
        assert len(decided) <= 15
        assert max(decided) <= 3
        decided.clear()


def test_a_forecast_sees_no_further_than_its_last_day() -> None:
    """A year from a 15th on, 13 months' credits still last; they do not last to the next 1st."""
    rate = Rate(1705, 100)
    assert rate.through(365) < 13 * 500 < rate.through(365 + 17)
    found = forecast(CATALOGUE, subscribed("pro"), Account(USER), START + 14 * DAY, rate)
    assert (len(found.grants), found.until) == (13, day("2027-07-15"))
    assert found.runs_out_on is None


def test_a_saver_whose_credits_end_every_day_is_foreseen_month_by_month(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    book = Book()
    for days in range(1, 31):
        book.grant(1, days)
    decided: list[datetime] = []
    expire = ledger.expire

    def counting(account: Account, now: datetime) -> LedgerEntry | None:
        decided.append(now)
        return expire(account, now)

    monkeypatch.setattr(ledger, "expire", counting)
    found = forecast(CATALOGUE, subscribed("pro"), book.account, START)
    assert [*found.expiring.values()] == [1] * 30
    assert len(decided) == 13  # twelve months, and the end of the year


# --- The rate -------------------------------------------------------------------------------------


def spending(book: Book, amount: int, *days: float) -> None:
    for each in days:
        book.use(amount, START + each * DAY)


def entries_of(book: Book) -> list[LedgerEntry]:
    """The newest first, as the store reads them."""
    lines = [LedgerEntry.from_body(USER, line.number, line.body) for line in book.lines]
    return lines[::-1]


def test_a_rate_is_what_was_spent_in_the_window_and_needs_a_window_of_its_length() -> None:
    book = Book()
    book.grant(1000)
    spending(book, 10, 1, 20, 28, 29)
    now = START + 30 * DAY
    week, month, quarter = (spending_of(entries_of(book), now, days) for days in (7, 30, 90))
    assert (week.days, week.spent, week.rate, week.because) == (7, 20, Rate(20, 7), None)
    assert (month.days, month.spent, month.rate) == (30, 40, Rate(40, 30))
    assert (quarter.rate, quarter.because) == (None, NoRate.TOO_NEW)
    assert spending_of(entries_of(book), now - MILLISECOND, 30).because is NoRate.TOO_NEW


def test_the_pace_is_that_of_a_month_and_in_a_young_ledger_that_of_a_week() -> None:
    book = Book()
    book.grant(1000)
    spending(book, 10, 1, 4)
    read = entries_of(book)
    for days, pace in ((6.9, None), (7, Rate(20, 7)), (14, None), (29.9, None), (30, Rate(20, 30))):
        found = pace_of(read, START + days * DAY)
        assert (found and found.rate) == pace, days
    # Long ago is no present pace, though a quarter would have one.
    assert pace_of(read, START + 35 * DAY) is None
    spending(book, 5, 35)
    assert pace_of(entries_of(book), START + 36 * DAY) == (30, 30, 5, None)
    assert pace_of([], START) is None


def test_who_spent_nothing_in_the_window_or_got_all_of_it_back_has_no_rate() -> None:
    book = Book()
    book.grant(1000)
    spending(book, 10, 1)
    now = START + 30 * DAY
    assert spending_of(entries_of(book), now, 7).because is NoRate.NOTHING_SPENT
    assert spending_of([], now, 7).because is NoRate.TOO_NEW


def test_of_too_many_lines_the_whole_days_that_were_read_make_the_rate() -> None:
    book = Book()
    book.grant(1000)
    spending(book, 1, *(n / 10 for n in range(300)))
    now = START + 30 * DAY
    read = entries_of(book)[:25]
    assert read[-1].number > 1
    found = spending_of(read, now, 7)
    assert (found.days, found.spent, found.rate) == (2, 20, Rate(20, 2))
    assert spending_of(entries_of(book)[:9], now, 7).because is NoRate.TOO_MANY_LINES
