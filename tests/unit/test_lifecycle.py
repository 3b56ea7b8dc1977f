"""The examples of docs/credit-lifecycle.md, as they stand there."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.batches import Source
from chalicelib.domain.calendar import Period, expires_at, month_start
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.ledger import Account, AllocationTerms, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.subscriptions import due_periods
from chalicelib.domain.terms import FIELDS
from chalicelib.plans_file import parse_catalogue
from tests.registered import register

PARIS = "Europe/Paris"
CATALOGUE = parse_catalogue(
    """
    [[plans]]
    id = "starter"
    name = "Starter"
    monthly_credits = 100
    credit_lifetime_days = 30
    lowest = true
    """
)
MILLISECOND = timedelta(milliseconds=1)


def in_paris(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(PARIS))


def utc(text: str) -> datetime:
    return parse_instant("example", text)


def after(entry: LedgerEntry) -> Account:
    return Account(entry.user_id, entry, "0" * 64)


def by_hand(account: Account, amount: int, moment: datetime) -> LedgerEntry:
    return ledger.grant(account, amount, Request("manual#a#1", "ada", "Gift"), moment, PARIS, None)


def spend(account: Account, amount: int, moment: datetime) -> LedgerEntry:
    return ledger.use(account, amount, Request("usage#a#1", "backend", "Report"), moment)


def test_december_begins_first_in_kiritimati_and_last_on_baker_island() -> None:
    december = Period(2026, 12)
    assert month_start("Pacific/Kiritimati", december) == utc("2026-11-30T10:00:00Z")
    assert month_start("Europe/London", december) == utc("2026-12-01T00:00:00Z")
    assert month_start("Etc/GMT+12", december) == utc("2026-12-01T12:00:00Z")


def test_a_user_paused_over_a_month_is_not_given_it_later() -> None:
    values = {
        "user_id": "42",
        "email": "ada@example.com",
        "timezone": PARIS,
        "plan": "starter",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-01-20T00:00:00Z",
    }
    subscription = register(values, CATALOGUE, utc("2026-01-20T00:00:00Z"))
    march = utc("2026-03-01T00:00:00Z")
    assert due_periods(subscription, CATALOGUE, None, march, march) == (
        Period(2026, 2),
        Period(2026, 3),
    )
    paused = register(
        values | {"status": "paused"}, CATALOGUE, utc("2026-03-20T00:00:00Z"), subscription
    )
    resumed = register(values, CATALOGUE, utc("2026-04-20T00:00:00Z"), paused)
    june = utc("2026-06-01T00:00:00Z")
    due = due_periods(resumed, CATALOGUE, Period(2026, 3), june, june)
    assert due == (Period(2026, 5), Period(2026, 6))


@pytest.mark.parametrize(
    ("granted", "expires"),
    [("2026-05-01T00:00", "2026-05-31T00:00"), ("2026-05-18T10:00", "2026-06-18T00:00")],
)
def test_thirty_days_end_at_a_local_midnight(granted: str, expires: str) -> None:
    assert expires_at(PARIS, in_paris(granted), 30) == in_paris(expires)


def test_an_allocation_posted_late_still_lives_for_all_its_days() -> None:
    entry = ledger.allocate(
        Account("42"), Period(2026, 5), 100, PARIS, Days(30), in_paris("2026-05-03T15:00")
    )
    (batch,) = entry.batches
    assert batch.expires_at == in_paris("2026-06-02T00:00")
    assert batch.is_usable(in_paris("2026-06-02T00:00") - MILLISECOND)
    assert not batch.is_usable(in_paris("2026-06-02T00:00"))


def test_the_oldest_is_spent_first_and_the_newest_is_given_back_first() -> None:
    april = ledger.allocate(
        Account("42"), Period(2026, 4), 30, PARIS, Days(60), in_paris("2026-04-01T00:00")
    )
    may = ledger.allocate(
        after(april), Period(2026, 5), 100, PARIS, None, in_paris("2026-05-01T00:00")
    )
    given = by_hand(after(may), 50, in_paris("2026-05-12T10:00"))
    usage = spend(after(given), 60, in_paris("2026-05-13T10:00"))
    assert usage.legs == ((1, -30), (2, -30))
    assert [(batch.number, batch.remaining) for batch in usage.batches] == [(2, 70), (3, 50)]
    # Batch 1 expires on 31 May.
    reversal = ledger.reverse(
        after(usage),
        usage,
        given,
        0,
        None,
        Request("reversal#a#1", "ada", "Sorry"),
        utc("2026-06-10T00:00:00Z"),
    )
    assert (reversal.entry.legs, reversal.expired) == (((2, 30),), 30)


def test_the_lines_of_a_history() -> None:
    lines = [
        ledger.allocate(
            Account("42"), Period(2026, 5), 100, PARIS, Days(30), in_paris("2026-05-01T00:00")
        )
    ]
    lines.append(spend(after(lines[-1]), 30, in_paris("2026-05-10T00:00")))
    lines.append(by_hand(after(lines[-1]), 50, in_paris("2026-05-12T00:00")))
    expiration = ledger.expire(after(lines[-1]), in_paris("2026-05-31T00:00"))
    assert expiration is not None
    lines.append(expiration)
    june = in_paris("2026-06-01T00:00")
    lines.append(ledger.allocate(after(lines[-1]), Period(2026, 6), 100, PARIS, Days(30), june))
    told = [
        (
            line.type.value,
            line.amount,
            line.balance,
            {batch.number: batch.remaining for batch in line.batches},
            line.operation,
        )
        for line in lines
    ]
    assert told == [
        ("allocation", 100, 100, {1: 100}, "allocation#2026-05"),
        ("usage", -30, 70, {1: 70}, "usage#a#1"),
        ("manual", 50, 120, {1: 70, 3: 50}, "manual#a#1"),
        ("expiration", -70, 50, {3: 50}, "expiration#2026-05-30T22:00:00Z"),
        ("allocation", 100, 150, {3: 50, 5: 100}, "allocation#2026-06"),
    ]


def test_a_new_subscriber_is_given_the_running_month_as_the_plan_says() -> None:
    def signed_up(started_at: str) -> list[int]:
        amounts = []
        for on_signup in ("none", "full", "prorated"):
            catalogue = parse_catalogue(
                f"""
                [[plans]]
                id = "pro"
                name = "Pro"
                monthly_credits = 500
                lowest = true
                on_signup = "{on_signup}"
                """
            )
            values = {
                "user_id": "42",
                "timezone": PARIS,
                "plan": "pro",
                "billing_interval": "yearly",
                "status": "active",
                "started_at": in_paris(started_at).isoformat(),
            }
            signed = register(values, catalogue, in_paris("2026-07-10T12:00")).sign_up
            amounts.append(signed.amount if signed else 0)
        return amounts

    assert signed_up("2026-07-10T11:00") == [0, 500, 355]
    assert signed_up("2026-07-01T00:00") == [0, 500, 500]
    assert signed_up("2026-06-30T12:00") == [0, 0, 0]
    assert signed_up("2026-07-20T12:00") == [0, 0, 0]


def test_moving_up_brings_the_difference_once() -> None:
    amounts = (("small", 100), ("middle", 500), ("large", 2_000))
    catalogue = parse_catalogue(
        "".join(
            f"""
            [[plans]]
            id = "{plan}"
            name = "{plan}"
            monthly_credits = {amount}
            on_plan_change = "difference"
            lowest = {str(plan == "small").lower()}
            """
            for plan, amount in amounts
        )
    )
    subscription = register(
        {
            "user_id": "42",
            "timezone": PARIS,
            "plan": "small",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2026-01-01T00:00:00Z",
        },
        catalogue,
        in_paris("2026-05-10T12:00"),
    )
    brings = []
    for plan, moment in (
        ("middle", "2026-07-10T12:00"),
        ("large", "2026-07-11T12:00"),
        ("small", "2026-07-12T12:00"),
        ("large", "2026-07-13T12:00"),
    ):
        values = {"user_id": "42", "plan": plan}
        kept = FIELDS - {"plan"}
        subscription = register(values, catalogue, in_paris(moment), subscription, kept=kept)
        assert subscription.raised is not None
        brings.append([top_up.amount for top_up in subscription.raised.top_ups])
    assert brings == [[284], [284, 1_017], [284, 1_017], [284, 1_017]]


def test_a_plan_with_a_cap_fills_up_a_balance() -> None:
    account = Account("42")

    def month(number: int) -> None:
        nonlocal account
        period = Period(2026, number)
        asked = (period, 100, PARIS, None, month_start(PARIS, period))
        account = after(ledger.allocate(account, *asked, AllocationTerms(balance_cap=250)))
        told(account)

    lines: list[tuple[int, int, int, int]] = []

    def told(account: Account) -> None:
        entry = account.last
        assert entry is not None
        held = sum(hold.amount for hold in entry.holds)
        lines.append((entry.amount, entry.left_out, entry.available_balance(), held))

    month(5)
    month(6)
    job = (80, 24 * 3600, Request("hold#a#1", "backend", "Film"), in_paris("2026-06-30T23:00"))
    account = after(ledger.hold(account, *job, lambda: PARIS))
    told(account)
    month(7)
    month(8)
    assert lines == [
        (100, 0, 100, 0),
        (100, 0, 200, 0),
        (0, 0, 120, 80),
        (50, 50, 170, 80),
        (0, 100, 250, 0),
    ]


def test_a_promotion_of_a_low_priority_is_spent_before_older_credits() -> None:
    april = ledger.allocate(
        Account("42"), Period(2026, 4), 30, PARIS, None, in_paris("2026-04-01T00:00")
    )
    may = ledger.allocate(
        after(april), Period(2026, 5), 100, PARIS, None, in_paris("2026-05-01T00:00")
    )
    promotion = ledger.grant(
        after(may),
        50,
        Request("manual#a#1", "ada", "Spring"),
        in_paris("2026-05-12T10:00"),
        PARIS,
        None,
        10,
        Source.PROMOTION,
    )
    usage = spend(after(promotion), 60, in_paris("2026-05-13T10:00"))
    assert dict(usage.legs) == {3: -50, 1: -10}


def test_a_hold_over_the_expiry_of_its_batch() -> None:
    lines = [
        ledger.allocate(
            Account("42"), Period(2026, 5), 100, PARIS, Days(30), in_paris("2026-05-01T00:00")
        )
    ]
    lines.append(by_hand(after(lines[-1]), 50, in_paris("2026-05-12T10:00")))
    job = Request("hold#backend#1", "backend", "Crawl")
    night = in_paris("2026-05-30T22:00")
    lines.append(ledger.hold(after(lines[-1]), 60, 4 * 3600, job, night, lambda: PARIS))
    opened = lines[-1].opened_hold
    assert opened is not None
    assert opened.expires_at == in_paris("2026-05-31T02:00")
    end = in_paris("2026-05-31T02:00")
    expiration = ledger.expire(after(lines[-1]), in_paris("2026-05-31T00:00"))
    assert expiration is not None
    lines.append(expiration)
    assert after(expiration).available_balance(end - MILLISECOND) == 50
    silent = ledger.expire(after(expiration), end)  # had the job said nothing
    assert silent is not None
    assert silent.amount == -60
    done = Request("end#42-3", "backend", "Crawl")
    at_one = in_paris("2026-05-31T01:00")
    lines.append(ledger.capture(after(lines[-1]), 3, 45, done, at_one, lambda: PARIS))
    swept = ledger.expire(after(lines[-1]), in_paris("2026-06-01T00:00"))
    assert swept is not None
    lines.append(swept)
    told = [
        (
            line.type.value,
            line.amount,
            line.balance,
            line.available_balance(),
            {batch.number: batch.remaining for batch in line.batches},
        )
        for line in lines
    ]
    assert told == [
        ("allocation", 100, 100, 100, {1: 100}),
        ("manual", 50, 150, 150, {1: 100, 2: 50}),
        ("hold", 0, 150, 90, {1: 100, 2: 50}),
        ("expiration", -40, 110, 50, {1: 60, 2: 50}),
        ("usage", -45, 65, 50, {1: 15, 2: 50}),
        ("expiration", -15, 50, 50, {2: 50}),
    ]


def test_what_was_bought_is_refunded_and_comes_back() -> None:
    noon = in_paris("2026-05-12T12:00")
    paid = Request("purchase#pi_1", "till", "Pack of 500")
    lines = [ledger.purchase(Account("42"), 500, None, paid, noon, PARIS)]
    (bought,) = lines[0].batches
    lines.append(spend(after(lines[-1]), 450, noon))
    why = Request("refund#pi_1", "till", "Asked for it")

    def refund(in_all: int) -> None:
        before = lines[-1].refund or lines[2].refund if len(lines) > 2 else None
        found = ledger.refund(after(lines[-1]), bought, before, in_all, None, why, noon)
        assert found is not None
        lines.append(found.entry)

    refund(300)
    back = Request("reversal#a#1", "ada", "Sorry")
    reversal = ledger.reverse(after(lines[-1]), lines[1], lines[0], 0, 100, back, noon)
    lines.append(reversal.entry)
    refund(500)
    refund(0)
    told = [
        (line.type.value, line.amount, line.balance)
        + ((it.in_all, it.taken, it.unrecovered) if (it := line.refund) else ())
        for line in lines
    ]
    assert told == [
        ("purchase", 500, 500),
        ("usage", -450, 50),
        ("refund", -50, 0, 300, 50, 250),
        ("reversal", 100, 100),
        ("refund", -100, 0, 500, 150, 350),
        ("refund", 150, 150, 0, 0, 0),
    ]
