"""The past again under other plans: with the plans of the time it is the ledger, to the credit."""

import json
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

import pytest

from chalicelib.domain import calendar, ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.due import due_allocation
from chalicelib.domain.edits import BY_IMPORT, Edit, changes
from chalicelib.domain.entries import EntryType, LedgerEntry, UsageItem
from chalicelib.domain.errors import CreditsError
from chalicelib.domain.holds import active
from chalicelib.domain.instants import parse_instant, to_millisecond
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription
from chalicelib.plans_file import parse_catalogue
from infra.whatif.flows import Flows, flows
from infra.whatif.page import page as written
from infra.whatif.past import Past, course_of
from infra.whatif.replay import Replay
from infra.whatif.tally import (
    Difference,
    Outcome,
    Question,
    Tally,
    by_month,
    by_plan,
    in_all,
    outcome,
)
from tests.registered import register

PLANS = """
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
balance_cap = 900
priority = 40
on_signup = "prorated"
on_plan_change = "difference"

[[plans]]
id = "team"
name = "Team"
monthly_credits = 1_000
credit_lifetime_months = 2
allocate_on = "anniversary"
on_signup = "full"
on_plan_change = "difference"
billing_intervals = ["yearly", "monthly"]
"""
CATALOGUE = parse_catalogue(PLANS)
USER = "ada"
ZONES = ("Europe/Paris", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "UTC")

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)


def at(text: str) -> datetime:
    return parse_instant("at", text)


def months(zone: str, first: str, last: str) -> list[datetime]:
    period, end = Period.parse(first), Period.parse(last).next()
    found = []
    while period <= end:
        found.append(calendar.month_start(zone, period))
        period = period.next()
    return found


@dataclass
class Book:
    """A user's ledger and their subscription, with all that is kept beside them."""

    catalogue: PlanCatalogue = CATALOGUE
    account: Account = field(default_factory=lambda: Account(USER))
    entries: list[LedgerEntry] = field(default_factory=list)
    subscription: Subscription | None = None
    edits: list[Edit] = field(default_factory=list)
    given_back: defaultdict[int, list[int]] = field(default_factory=lambda: defaultdict(list))

    def post(self, entry: LedgerEntry | None) -> LedgerEntry | None:
        if entry is not None:
            # As it is kept, and so as it is read.
            entry = LedgerEntry.from_body(USER, entry.number, entry.body())
            self.entries.append(entry)
            self.account = self.account._replace(last=entry)
        return entry

    def edit(self, now: datetime, **values: object) -> None:
        before = self.subscription
        defaults: dict[str, object] = {
            "user_id": USER,
            "timezone": "UTC",
            "plan": "starter",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2024-06-15T09:00:00Z",
        }
        asked = values if before else defaults | values
        kept = set(defaults) | {"ends_at", "eligible_from", "allocation_amount", "email"}
        after = register({"user_id": USER} | asked, self.catalogue, now, before, kept)
        if after != before:
            self.subscription = after
            made = changes(before, after)
            self.edits.append(Edit(USER, after.version, to_millisecond(now), BY_IMPORT, made, None))

    def allocate(self, now: datetime) -> None:
        while self.subscription and self.post(
            due_allocation(self.catalogue, self.account, self.subscription, now, now)
        ):
            pass

    def expire(self, now: datetime) -> None:
        self.post(ledger.expire(self.account, now))

    def use(self, amount: int, now: datetime) -> LedgerEntry | None:
        return self.post(ledger.use(self.account, amount, asked("usage", self), now))

    def reverse(self, number: int, amount: int | None, now: datetime) -> None:
        links = self.given_back[number]
        reversal = ledger.reverse(
            self.account,
            self.entries[number - 1],
            self.entries[number - 2],
            links[-1] if links else 0,
            amount,
            asked("reversal", self),
            now,
        )
        self.post(reversal.entry)
        links.append(reversal.reversed_in_all)

    def buy(self, amount: int, now: datetime, days: int | None = None) -> None:
        why = asked("purchase", self)
        self.post(ledger.purchase(self.account, amount, None, why, now, self.zone, days))

    def refund(
        self, purchase: int, in_all: int, now: datetime, observed_at: datetime | None = None
    ) -> None:
        (batch,) = [e.granted_batch for e in self.entries if e.number == purchase]
        latest = [e.refund for e in self.entries if e.refund and e.refund.purchase == purchase]
        assert batch is not None
        before = latest[-1] if latest else None
        why = asked("refund", self)
        refunded = ledger.refund(self.account, batch, before, in_all, observed_at, why, now)
        self.post(refunded and refunded.entry)

    @property
    def zone(self) -> str:
        return self.subscription.timezone if self.subscription else "UTC"

    def past(self) -> Past:
        assert self.subscription is not None
        return Past(self.entries, self.subscription, self.edits, self.given_back)

    def replay(self, bounds: Sequence[datetime], catalogue: PlanCatalogue = CATALOGUE) -> Replay:
        past = self.past()
        course = course_of(past.subscription, past.edits, bounds[0], self.catalogue)
        return Replay(catalogue, self.catalogue, past, course, bounds)

    def was(self, bounds: Sequence[datetime]) -> tuple[Flows, ...]:
        before = [entry for entry in self.entries if entry.posted_at < bounds[0]]
        opening = Account(USER, before[-1] if before else None)
        return flows(opening, self.entries[len(before) :], bounds)


def asked(kind: str, book: Book) -> Request:
    return Request(f"{kind}#{book.account.next_number}", "shop", "")


def lived(seed: int, first: str = "2025-02-01T12:00:00Z", days: int = 500) -> Book:
    """A life of a user: everything that there is, at random, and sweeps that are never in time."""
    random = Random(seed)
    book = Book()
    now = at(first)
    book.edit(
        now,
        timezone=random.choice(ZONES),
        plan=random.choice(["starter", "pro", "team"]),
        started_at=random.choice(["2025-01-31T23:30:00Z", "2025-02-01T08:00:00Z"]),
        billing_interval=random.choice(["yearly", "yearly", "monthly"]),
    )
    end = now + days * DAY
    while now < end:
        now += random.choice([2 * MILLISECOND, 7 * SECOND, HOUR, 5 * HOUR, DAY, 2 * DAY, 9 * DAY])
        with suppress(CreditsError):
            something(random, book, now)
    book.allocate(now)
    return book


def something(random: Random, book: Book, now: datetime) -> None:
    """One thing that happens."""
    held = [hold.number for hold in book.account.holds if hold.is_active(now)]
    amount = random.choice([1, 7, 30, 90, 200, 400])
    why = asked("manual", book)
    match random.randrange(20):
        case 0 | 1 | 2 | 3:
            book.allocate(now)
        case 4 | 5:
            book.expire(now)
        case 6 | 7 | 8 | 9:
            book.use(amount, now)
        case 10:
            seconds = random.choice([60, 90_000, 2_500_000])
            book.post(ledger.hold(book.account, amount, seconds, why, now, lambda: book.zone))
        case 11 | 12 if held:
            number, beyond = random.choice(held), random.choice([True, False])
            some = random.choice([0, 3, amount])
            book.post(
                ledger.capture(
                    *(book.account, number, some, why, now),
                    lambda: book.zone,
                    beyond_hold=beyond,
                )
            )
        case 13:
            items = [UsageItem("a", 2, ""), UsageItem("b", amount, "")]
            book.post(ledger.use_many(book.account, items, why, now))
        case _:
            something_rarer(random, book, now, amount)


def something_rarer(random: Random, book: Book, now: datetime, amount: int) -> None:
    of = {kind: [e.number for e in book.entries if e.type is kind] for kind in EntryType}
    why = asked("manual", book)
    match random.randrange(14, 20):
        case 18 if of[EntryType.USAGE]:
            usage = random.choice(of[EntryType.USAGE][-3:])
            book.reverse(usage, random.choice([None, 5]), now)
        case 14:
            book.buy(amount, now, random.choice([None, 40]))
        case 15 if of[EntryType.PURCHASE]:
            purchase = random.choice(of[EntryType.PURCHASE])
            book.refund(purchase, random.choice([0, 5, 30, 200]), now)
        case 16:
            days = random.choice([None, Days(10)])
            book.post(ledger.grant(book.account, amount, why, now, book.zone, days, 50))
        case 17 if book.account.batches:
            including_held = random.choice([True, False])
            if random.random() < 0.5:
                batch = random.choice(book.account.batches).number
                why = replace(why, operation=f"void#{batch}")
                book.post(ledger.void(book.account, batch, why, now, including_held=including_held))
            else:
                book.post(
                    ledger.claw_back_what_is_left(
                        book.account, amount, why, now, including_held=including_held
                    )
                )
        case 19 if random.random() < 0.5:
            # Else what was due is so no longer, and the replay has what no sweep came for.
            book.allocate(now)
            book.edit(now + MILLISECOND, **random.choice(EDITS))


EDITS: list[dict[str, object]] = [
    {"plan": "starter"},
    {"plan": "pro"},
    {"plan": "team"},
    {"status": "paused"},
    {"status": "active"},
    {"status": "active"},
    {"timezone": "Europe/Paris"},
    {"timezone": "America/New_York"},
    {"allocation_amount": 70},
    {"allocation_amount": None},
    {"billing_interval": "yearly"},
    {"billing_interval": "monthly"},
    {"eligible_from": "2025-03-01"},
    {"ends_at": "2026-02-10T00:00:00Z"},
    {"ends_at": None},
]


def facts(account: Account, now: datetime) -> list[tuple[object, ...]]:
    """What can be told apart of an account, whatever its entries are numbered."""
    return [
        (batch.granted, batch.remaining, batch.granted_at, batch.expires_at, batch.priority)
        for batch in account.batches
        if batch.is_usable(now)
    ]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("first", ["2025-01", "2025-07"])
def test_with_the_plans_of_the_time_the_replay_is_the_ledger_to_the_credit(
    seed: int, first: str
) -> None:
    book = lived(seed)
    bounds = months(book.zone, first, "2026-04")
    replay = book.replay(bounds)
    assert replay.run() == book.was(bounds)
    assert (replay.refused, replay.not_repeated) == ([], [])
    last = [entry for entry in book.entries if entry.posted_at < bounds[-1]][-1]
    assert facts(replay.account, bounds[-1]) == facts(Account(USER, last), bounds[-1])


CHOICES = {
    "monthly_credits = 100": (
        "monthly_credits = 0",
        "monthly_credits = 40",
        "monthly_credits = 900",
    ),
    "monthly_credits = 500": ("monthly_credits = 50", "monthly_credits = 900"),
    "credit_lifetime_days = 30\n": (
        "",
        "credit_lifetime_days = 3\n",
        "credit_lifetime_months = 1\n",
    ),
    "credit_lifetime_months = 2\n": ("", "credit_lifetime_days = 9\n"),
    "priority = 40": ("priority = 0", "priority = 90"),
    'on_signup = "prorated"\n': ("", 'on_signup = "full"\n'),
    'allocate_on = "anniversary"\n': ("",),
    "lowest = true\n": (
        'lowest = true\nallocate_on = "anniversary"\n',
        "lowest = true\nbalance_cap = 150\n",
        'lowest = true\nbilling_intervals = ["monthly", "yearly"]\n',
    ),
    'on_plan_change = "difference"\n': ("",),
}
"""Lines of the plans, and what they could be."""


@pytest.mark.parametrize("seed", range(60))
def test_under_any_plans_the_replay_is_a_right_ledger_and_no_month_comes_twice(seed: int) -> None:
    random, text = Random(seed), PLANS
    for line, others in CHOICES.items():
        text = text.replace(line, random.choice([line, *others]))
    book = lived(seed)
    first = random.choice(["2025-01", "2025-07", "2025-10"])
    bounds = months(book.zone, first, "2026-04")
    replay = book.replay(bounds, parse_catalogue(text))
    found = replay.run()
    account = replay.opening
    held = active(account.holds, bounds[0])
    left = account.available_balance(bounds[0]) + sum(hold.amount for hold in held)
    for month in found:
        assert min(month.granted, month.expired, month.refused, month.left) >= 0
        assert left + month.granted + month.other - month.spent - month.expired == month.left
        left = month.left
    for entry in replay.posted:
        assert entry.number == account.next_number
        assert entry.balance == account.ledger_balance + entry.amount
        assert entry.balance == sum(batch.remaining for batch in entry.batches)
        assert account.time(entry.posted_at) == entry.posted_at
        account = account._replace(last=entry)
    periods = [str(each.allocated_through) for each in replay.posted if each.begins_period]
    assert periods == sorted({*periods})


OTHER = parse_catalogue(
    PLANS.replace("credit_lifetime_days = 30\n", "credit_lifetime_days = 5\n")
    .replace("monthly_credits = 500", "monthly_credits = 90")
    .replace('allocate_on = "anniversary"\n', "")
)


def other(old: str, new: str) -> PlanCatalogue:
    """The plans with one line of them changed."""
    assert old in PLANS
    return parse_catalogue(PLANS.replace(old, new, 1))


def quiet(*events: tuple[str, int], plan: str = "starter", **values: object) -> Book:
    """A user in 2025: months and expiries come 7 seconds late, and there are some usages."""
    book = Book()
    book.edit(at("2024-12-20T12:00:00Z"), plan=plan, **values)
    moments = [start + 7 * SECOND for start in months("UTC", "2025-01", "2025-11")]
    for moment, amount in sorted([*((m, 0) for m in moments), *((at(t), n) for t, n in events)]):
        if amount:
            book.use(amount, moment)
        else:
            book.expire(moment)
            book.allocate(moment)
    return book


YEAR = months("UTC", "2025-01", "2025-12")


def total(found: Sequence[Flows], name: str) -> int:
    return sum(getattr(month, name) for month in found)


def test_a_usage_that_is_not_covered_is_refused_whole_and_cannot_be_given_back() -> None:
    book = quiet(("2025-12-10T12:00:00Z", 30), ("2025-12-20T12:00:00Z", 40))
    book.reverse(book.account.next_number - 1, 10, at("2025-12-21T12:00:00Z"))
    replay = book.replay(YEAR, other("monthly_credits = 100", "monthly_credits = 50"))
    december = replay.run()[-1]
    assert december == Flows(granted=50, spent=30, expired=20, refused=40, left=0)
    assert replay.not_repeated == [book.account.next_number - 1]


def test_longer_lives_let_credits_roll_over_and_none_expires() -> None:
    book = quiet(("2025-06-10T12:00:00Z", 30))
    was = book.was(YEAR)
    found = book.replay(YEAR, other("credit_lifetime_days = 30\n", "")).run()
    assert (total(was, "expired"), was[-1].left) == (1_170, 0)
    assert (total(found, "expired"), found[-1].left) == (0, 1_170)
    assert total(found, "granted") == total(was, "granted") == 1_200


def test_a_cap_leaves_out_what_does_not_fit() -> None:
    cap = "lowest = true\nbalance_cap = 250"
    catalogue = parse_catalogue(
        PLANS.replace("credit_lifetime_days = 30\n", "").replace("lowest = true", cap)
    )
    found = quiet(("2025-06-10T12:00:00Z", 30)).replay(YEAR, catalogue).run()
    assert [month.granted for month in found] == [100, 100, 50, 0, 0, 0, 30, 0, 0, 0, 0, 0]


def test_anniversaries_come_on_the_day_of_the_start_and_no_month_twice() -> None:
    book = quiet(("2025-03-10T12:00:00Z", 30))
    catalogue = other("lowest = true", 'lowest = true\nallocate_on = "anniversary"')
    replay = book.replay(YEAR, catalogue)
    found = replay.run()
    posted = [entry.posted_at for entry in replay.posted if entry.type is EntryType.ALLOCATION]
    # As late after its beginning as that month came.
    assert posted == [start + 14 * DAY + 7 * SECOND for start in YEAR[:-1]]
    assert (total(found, "granted"), total(found, "refused")) == (1_200, 0)


def test_plans_that_pay_others_too_bring_nothing_for_the_time_before() -> None:
    book = quiet(billing_interval="monthly")
    assert total(book.was(YEAR), "granted") == 0
    catalogue = other("lowest = true", 'lowest = true\nbilling_intervals = ["monthly"]')
    late = months("UTC", "2025-06", "2025-12")
    assert [month.granted for month in book.replay(late, catalogue).run()] == [100] * 7


def test_what_was_bought_and_given_by_hand_keeps_its_dates() -> None:
    book = quiet()
    book.buy(40, at("2025-12-05T12:00:00Z"), 10)
    why = asked("manual", book)
    now = at("2025-12-06T12:00:00Z")
    book.post(ledger.grant(book.account, 7, why, now, "UTC", Days(30)))
    found = book.replay(YEAR, OTHER).run()[-1]
    assert (found.other, found.expired, found.left) == (47, 140, 7)


def test_who_registers_within_the_time_signs_up_under_the_plans_that_are_asked_about() -> None:
    book = Book()
    start = "2025-03-17T00:00:00Z"
    book.edit(at(start), started_at=start)
    catalogue = other("lowest = true", 'lowest = true\non_signup = "prorated"')
    found = book.replay(YEAR, catalogue).run()
    assert [month.granted for month in found][:4] == [0, 0, 49, 100]  # 15 of 31 days


def test_a_change_of_plan_within_the_time_counts_from_then_on() -> None:
    book = quiet()
    book.edit(at("2025-12-01T00:00:08Z"), plan="pro")
    book.allocate(at("2025-12-01T00:00:09Z"))
    replay = book.replay(YEAR)
    assert replay.run() == book.was(YEAR)
    assert replay.plans == ["starter"] * 11 + ["pro"]
    assert replay.course.opening is not None
    assert replay.course.opening.plan == "starter"


def test_edits_from_before_there_were_records_leave_the_subscription_as_it_is() -> None:
    book = quiet()
    book.edit(at("2025-07-02T00:00:00Z"), plan="pro")
    assert book.replay(YEAR).course.is_known
    book.edits.clear()
    replay = book.replay(YEAR)
    replay.run()
    assert (replay.course.is_known, {*replay.plans}) == (False, {"pro"})


def test_a_hold_that_is_not_covered_makes_its_capture_refused() -> None:
    book = quiet()
    now = at("2025-12-05T12:00:00Z")
    for seconds, amount, captured in ((60, 70, 55), (120, 40, 30)):
        why = asked("hold", book)
        held = book.post(
            ledger.hold(book.account, amount, 3600, why, now + seconds * SECOND, lambda: "UTC")
        )
        assert held is not None
        end = now + (seconds + 10) * SECOND
        book.post(ledger.capture(book.account, held.number, captured, why, end, lambda: "UTC"))
    number = book.entries[-4].number
    replay = book.replay(YEAR, other("monthly_credits = 100", "monthly_credits = 50"))
    december = replay.run()[-1]
    assert (december.spent, december.refused, december.left) == (30, 55, 0)
    assert replay.not_repeated == [number]
    assert [refused.amount for refused in replay.refused] == [55]


def test_a_usage_of_the_time_before_is_given_back_to_the_batch_it_came_from() -> None:
    book = quiet(("2025-12-02T12:00:00Z", 30))
    usage = book.entries[-1]
    book.reverse(usage.number, 10, at("2025-12-03T12:00:00Z"))
    book.reverse(usage.number, 5, at("2025-12-04T12:00:00Z"))
    start = at("2025-12-03T18:00:00Z")
    bounds = [start, at("2026-01-01T00:00:00Z")]
    replay = book.replay(bounds, OTHER)
    assert replay.run()[0].spent == book.was(bounds)[0].spent == -5
    assert replay.not_repeated == []


def test_what_a_request_names_is_found_though_here_it_has_another_number() -> None:
    book = quiet(("2025-12-10T12:00:00Z", 30))
    usage, now = book.entries[-1].number, at("2025-12-11T12:00:00Z")
    refunded_at = [now - HOUR, now - MILLISECOND]
    book.reverse(usage, 10, now)
    book.reverse(usage, 5, now)
    book.buy(40, now)
    purchase = book.entries[-1].number
    for more, observed_at in zip((10, 25), refunded_at, strict=True):
        book.refund(purchase, more, now, observed_at)
    book.buy(20, now)
    batch = book.entries[-1].number
    why = replace(asked("manual", book), operation=f"void#{batch}")
    book.post(ledger.void(book.account, batch, why, now, including_held=False))
    for seconds, captured in ((60, 8), (7_200, 5)):
        why = asked("hold", book)
        held = book.post(ledger.hold(book.account, 15, seconds, why, now, lambda: "UTC"))
        assert held is not None
        why, now = asked("end", book), now + (seconds - 1) * SECOND
        book.post(ledger.capture(book.account, held.number, captured, why, now, lambda: "UTC"))
    replay = book.replay(YEAR, other("credit_lifetime_days = 30\n", ""))
    found, was = replay.run()[-1], book.was(YEAR)[-1]
    assert replay.posted[-1].number != book.entries[-1].number, "nothing expires"
    assert (found.other, found.spent) == (was.other, was.spent) == (15, 28)
    assert (replay.refused, replay.not_repeated) == ([], [])
    kinds = [entry.type for entry in book.entries[usage - 1 :]]
    assert [entry.type for entry in replay.posted][-len(kinds) :] == kinds
    refunds = [entry.refund for entry in replay.posted if entry.refund]
    assert [refund.observed_at for refund in refunds] == refunded_at


def test_plans_that_were_changed_in_that_time_are_found_out() -> None:
    december = Period(2025, 12)
    book = quiet()
    assert outcome(Question(OTHER, CATALOGUE, december, december), book.past()).is_reproduced
    since = other("monthly_credits = 100", "monthly_credits = 120")
    assert not outcome(Question(OTHER, since, december, december), book.past()).is_reproduced
    # Each month counts, and not only the last.
    book = Book()
    book.edit(YEAR[-3] - DAY)
    book.allocate(YEAR[-3] + SECOND)
    book.edit(YEAR[-2], status="paused")
    book.expire(YEAR[-2] + SECOND)
    for plans, is_same in ((CATALOGUE, True), (since, False)):
        question = Question(OTHER, plans, december.previous(), december)
        assert outcome(question, book.past()).is_reproduced is is_same


def found(user_id: str, would_have: int) -> Outcome:
    """Of a user who had 100 in the one month that is asked about."""
    months = ((Flows(spent=40, left=60),), (Flows(spent=40, left=would_have - 40),))
    return Outcome(user_id, ("pro",), *months)


def test_the_ten_who_gain_and_lose_most_are_named_and_kept_between_two_runs() -> None:
    month = Period(2025, 12)
    question = Question(CATALOGUE, CATALOGUE, month, month)
    tally = Tally()
    for number in range(30):
        tally.add(question, found(f"u{number:02}", 85 + number))
        tally = Tally.from_json(json.loads(json.dumps(tally.as_json())))
    assert [each.credits for each in tally.gain] == [14, 13, 12, 11, 10, 9, 8, 7, 6, 5]
    assert [each.credits for each in tally.lose] == [-15, -14, -13, -12, -11, -10, -9, -8, -7, -6]
    assert tally.gain[0] == Difference(14, "u29", "pro", 100, 114)
    assert (tally.users, tally.changed, tally.differing) == (30, 29, 0)
    assert in_all(tally).was == Flows(spent=1_200, left=1_800)
    assert in_all(tally).would == Flows(spent=1_200, left=30 * 45 + sum(range(30)))


def test_who_would_have_the_same_in_other_months_would_see_a_difference() -> None:
    question = Question(CATALOGUE, CATALOGUE, Period(2026, 1), Period(2026, 2))
    early, late = (Flows(spent=3, left=7), Flows(left=7)), (Flows(left=10), Flows(spent=3, left=7))
    tally = Tally()
    for user_id, would in (("same", early), ("later", late)):
        tally.add(question, Outcome(user_id, ("pro", "pro"), early, would))
    assert (tally.users, tally.changed, tally.gain, tally.lose) == (2, 1, [], [])


def test_what_is_left_of_a_plan_is_that_of_the_last_month_and_of_a_month_that_at_its_end() -> None:
    question = Question(CATALOGUE, CATALOGUE, Period(2025, 11), Period(2025, 12))
    flows_ = (Flows(granted=5, left=5), Flows(granted=5, left=10))
    doubtful = Outcome(
        "b", ("pro", "pro"), flows_, flows_, is_reproduced=False, is_known=False, not_repeated=2
    )
    tally = Tally()
    tally.add(question, Outcome("a", ("", "pro"), flows_, flows_))
    tally.add(question, doubtful)
    assert [(line.name, *line.was) for line in by_month(tally)] == [
        ("2025-11", 10, 0, 0, 0, 0, 10),
        ("2025-12", 10, 0, 0, 0, 0, 20),
    ]
    assert [(line.name, line.was.granted, line.was.left) for line in by_plan(tally)] == [
        ("none yet", 5, 0),
        ("pro", 15, 20),
    ]
    assert (tally.differing, tally.unknown, tally.not_repeated) == (1, 1, 2)
    more = (flows_[0], flows_[1]._replace(left=11))
    tally.add(question, Outcome("c", ("pro", "starter"), flows_, more, not_repeated=3))
    assert tally.not_repeated == 5
    assert tally.gain == [Difference(1, "c", "starter", 10, 11)]
    assert tally.named == {"differing": ["b"]}


def test_the_page_escapes_what_users_are_called() -> None:
    month = Period(2025, 12)
    question = Question(CATALOGUE, CATALOGUE, month, month)
    tally = Tally()
    tally.add(question, found("<script>", 200))
    page = written(tally, question)
    assert "<script" not in page
    assert "&lt;script&gt; (pro)" in page


def test_what_was_written_in_one_instant_keeps_its_order() -> None:
    now = at("2025-12-01T00:00:00Z")
    book = Book()
    book.edit(at("2025-11-20T12:00:00Z"), plan="pro")
    book.allocate(now)
    book.use(500, now)
    assert book.replay(YEAR).run()[-1] == Flows(granted=500, spent=500)
    book = Book()
    book.edit(at("2025-11-20T12:00:00Z"), plan="pro")
    book.buy(900, now - HOUR)
    book.use(400, now)
    book.allocate(now)
    assert book.replay(YEAR).run() == book.was(YEAR)


def test_a_step_up_that_was_still_owed_at_the_beginning_is_found_again() -> None:
    book = Book()
    book.edit(at("2025-10-20T12:00:00Z"))
    book.allocate(at("2025-11-01T00:00:07Z"))
    book.edit(at("2025-11-29T12:00:00Z"), plan="pro")
    book.allocate(at("2025-12-01T00:00:07Z"))
    book.edit(at("2025-12-20T12:00:00Z"), plan="starter")
    december = months("UTC", "2025-12", "2025-12")
    replay = book.replay(december)
    assert replay.run() == book.was(december)
    assert [entry.amount for entry in replay.posted] == [27, 500, -100]  # two of thirty days


def test_a_plan_that_is_no_longer_there_brings_nothing_and_does_not_end_the_replay() -> None:
    book = Book(parse_catalogue(PLANS.replace('id = "team"', 'id = "gone"')))
    book.edit(YEAR[0], plan="gone")
    book.edit(YEAR[2], plan="starter")
    book.catalogue = CATALOGUE
    del book.edits[0]  # from before there were records
    found = book.replay(YEAR[1:5]).run()
    assert (found[0].granted, found[2].granted) == (0, 100)


TERMS: dict[str, object] = {
    "timezone": "Asia/Kolkata",
    "plan": "team",
    "billing_interval": "monthly",
    "status": "paused",
    "started_at": "2025-01-09T00:00:00Z",
    "eligible_from": "2025-03-01",
    "ends_at": "2026-02-10T00:00:00Z",
    "allocation_amount": 70,
}


@pytest.mark.parametrize("name", TERMS)
def test_each_term_is_that_of_then_at_the_opening_and_after_its_edit(name: str) -> None:
    book = Book()
    book.edit(YEAR[0], eligible_from="2025-02-01T00:00:00Z")
    then = book.subscription
    book.edit(YEAR[2], **{name: TERMS[name]})
    book.edit(YEAR[2], email="ada@example.com")
    since = book.subscription
    assert then is not None
    assert since is not None
    course = course_of(since, book.edits[::-1], YEAR[1], CATALOGUE)
    assert course.opening is not None
    first, last = (getattr(step.terms, name) for step in course.steps)
    assert getattr(course.opening, name) == getattr(then, name) != first
    assert first == last == getattr(since, name)


def test_what_was_edited_twice_in_an_instant_is_undone_in_the_order_of_the_versions() -> None:
    book = Book()
    for plan in ("starter", "pro", "team", "starter"):
        book.edit(YEAR[2], plan=plan)
    assert book.subscription is not None
    for edits in (book.edits, book.edits[::-1]):
        course = course_of(book.subscription, edits, YEAR[2], CATALOGUE)
        assert [step.terms.plan for step in course.steps] == ["starter", "pro", "team", "starter"]
        assert course.opening is None


def test_who_registered_within_the_time_was_not_there_before_though_no_record_says_so() -> None:
    book = Book()
    book.edit(YEAR[2])
    assert book.subscription is not None
    for start, is_there, steps in ((YEAR[2], False, 1), (YEAR[2] + MILLISECOND, True, 0)):
        course = course_of(book.subscription, (), start, CATALOGUE)
        assert (course.opening is not None, len(course.steps)) == (is_there, steps)
        assert course.is_known


def test_an_edit_at_the_first_instant_and_those_since_it_was_read_are_not_in_the_opening() -> None:
    book = quiet()
    book.edit(YEAR[-2], plan="pro")
    read = book.subscription
    book.edit(YEAR[-2] + HOUR, plan="team")
    assert read is not None
    course = course_of(read, book.edits, YEAR[-2], CATALOGUE)
    assert course.opening is not None
    assert course.opening.plan == "starter"
    assert [step.terms.plan for step in course.steps] == ["pro"]


def test_who_paused_and_went_on_since_had_not_done_so_at_the_opening() -> None:
    book = Book()
    for number, status in enumerate(("active", "paused", "active")):
        book.edit(YEAR[number], status=status)
    assert book.subscription is not None
    assert book.subscription.resumed_at == YEAR[2]
    for start, resumed_at in ((YEAR[2], None), (YEAR[3], YEAR[2])):
        course = course_of(book.subscription, book.edits, start, CATALOGUE)
        assert course.opening is not None
        assert course.opening.resumed_at == resumed_at
