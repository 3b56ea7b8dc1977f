"""A ledger beside the movements of an old system: each difference gets its name, or none is there.

The property: whatever a ledger has been through, an old system that moved just so is the same; and
one that differs by a single movement is not.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from chalicelib.domain import calendar, ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import EntryType, LedgerEntry, UsageItem
from chalicelib.domain.errors import CreditsError
from chalicelib.domain.holds import dead
from chalicelib.domain.ledger import Request
from chalicelib.domain.subscriptions import next_allocation
from infra.deployment.packaging import ROOT
from infra.imports import movements
from infra.imports.balances import CALLER
from infra.imports.movements import Kind, Movement
from infra.shadow import book as books
from infra.shadow import comparison, expiries, grants, life, shifts
from infra.shadow.comparison import Comparison, Shadow, compare
from infra.shadow.findings import Code, Finding
from infra.shadow.grants import Coming
from infra.shadow.life import Action, Give, Grant, Hold, Life, Release, Take
from infra.shadow.shifts import Zones, length
from tests.unit import test_what_if as what_if
from tests.unit.test_what_if import CATALOGUE, DAY, HOUR, USER, Book, at

MINUTE = timedelta(minutes=1)
TOLERANCE = 15 * MINUTE
PARIS = "Europe/Paris"
Row = tuple[str, Kind, int, str]

KINDS = {
    EntryType.ALLOCATION: Kind.ALLOCATION,
    EntryType.USAGE: Kind.USAGE,
    EntryType.PURCHASE: Kind.PURCHASE,
}


# --- One user in spring ---------------------------------------------------------------------------


def spring(zone: str = PARIS) -> Book:
    """A user of starter in 2026: April and May, 30 used of April, the other 70 expire."""
    book = Book()
    book.edit(at("2026-03-10T12:00:00Z"), timezone=zone, plan="starter")
    for month in ("2026-04", "2026-05"):
        midnight = calendar.month_start(zone, Period.parse(month))
        book.expire(midnight)
        book.allocate(midnight)
        if month == "2026-04":
            use(book, 30, "2026-04-10T12:00:00Z", "job-1")
    return book


def use(book: Book, amount: int, when: str, key: str) -> None:
    book.post(ledger.use(book.account, amount, Request(f"usage#shop#{key}", "shop", ""), at(when)))


APRIL = ("2026-03-31T22:00:00Z", Kind.ALLOCATION, 100, "batch-1")
JOB = ("2026-04-10T12:00:00Z", Kind.USAGE, -30, "job-1")
GONE = ("2026-04-30T22:00:00Z", Kind.EXPIRATION, -70, "expiry-1")
MAY = ("2026-04-30T22:00:00Z", Kind.ALLOCATION, 100, "batch-2")
SAME = [APRIL, JOB, GONE, MAY]


def rows(*them: Row) -> list[Movement]:
    """The lines of a file, from line 2 on, and then in the order of their instants."""
    found = [
        Movement(line, reference, USER, at(when), kind, amount)
        for line, (when, kind, amount, reference) in enumerate(them, 2)
    ]
    return sorted(found, key=lambda movement: (movement.at, movement.line))


def compared(
    *them: Row,
    book: Book | None = None,
    until: str = "2026-05-20T00:00:00Z",
    start: str | None = "2026-03-10T12:00:00Z",
    coming: Coming | None = None,
    before: tuple[str, ...] = (),
) -> Comparison:
    book = book or spring()
    zones = Zones(book.zone, before)
    shadow = Shadow(USER, book.entries, zones, coming)
    found = compare(shadow, rows(*them), at(start) if start else None, at(until), TOLERANCE)
    assert sum(finding.credits for finding in found.findings) == found.difference
    return found


def said(found: Comparison) -> list[str]:
    return [f"{finding} [{finding.credits:+}]" for finding in found.findings]


def late(row: Row, by: timedelta) -> Row:
    when, *rest = row
    moved = (at(when) + by).isoformat()
    return (moved, *rest)  # type: ignore[return-value]  # the rest is the rest of a row


def test_the_same_movements_are_the_same() -> None:
    found = compared(*SAME)
    assert found == Comparison(USER, 100, 100)
    assert found.is_same
    assert found.is_explained


def test_a_few_minutes_are_no_lateness() -> None:
    assert compared(APRIL, JOB, late(GONE, 14 * MINUTE), late(MAY, 15 * MINUTE)).is_same
    assert not compared(APRIL, JOB, GONE, late(MAY, 16 * MINUTE)).is_same


FINDINGS: dict[str, tuple[list[Row], list[str]]] = {
    "granted late": (
        [APRIL, JOB, GONE, late(MAY, 5 * HOUR)],
        ["granted late: 100 for 2026-05 late by 5 h (line 5, entry 4) [+0]"],
    ),
    "granted early": (
        [APRIL, JOB, GONE, late(MAY, -DAY)],
        ["granted early: 100 for 2026-05 early by 1 day (line 5, entry 4) [+0]"],
    ),
    "at midnight in UTC": (
        [APRIL, JOB, GONE, late(MAY, 2 * HOUR)],
        [
            (
                "granted at midnight of a wrong zone: 100 for 2026-05 at midnight in UTC, late by "
                "2 h (line 5, entry 4) [+0]"
            )
        ],
    ),
    "at midnight by the offset of winter": (
        [APRIL, JOB, GONE, late(MAY, HOUR)],
        [
            (
                "granted at midnight by a wrong DST offset: 100 for 2026-05 at midnight by the "
                "other UTC offset of Europe/Paris, late by 1 h (line 5, entry 4) [+0]"
            )
        ],
    ),
    "granted twice": (
        [*SAME, late(("2026-04-30T22:00:07Z", *MAY[1:3], "batch-3"), timedelta(0))],
        ["granted twice: 100 for 2026-05 on line 5, and again (line 6, entry 4) [+100]"],
    ),
    "a second one of another amount is for nothing": (
        [*SAME, ("2026-04-30T22:00:07Z", Kind.ALLOCATION, 50, "batch-3")],
        ["granted though nothing was due: 50 (line 6) [+50]"],
    ),
    "of two the right amount is the one, though it is late": (
        [APRIL, JOB, GONE, (*MAY[:2], 7, "batch-3"), late(MAY, 5 * HOUR)],
        [
            "granted though nothing was due: 7 (line 5) [+7]",
            "granted late: 100 for 2026-05 late by 5 h (line 6, entry 4) [+0]",
        ],
    ),
    "a grant that is 14 days late is still for its month": (
        [APRIL, JOB, GONE, late(MAY, 14 * DAY)],
        ["granted late: 100 for 2026-05 late by 14 days (line 5, entry 4) [+0]"],
    ),
    "a grant that is 15 days late is for none": (
        [APRIL, JOB, GONE, late(MAY, 15 * DAY)],
        [
            "not granted: 100 for 2026-05 (entry 4) [-100]",
            "granted though nothing was due: 100 (line 5) [+100]",
        ],
    ),
    "a grant that is 28 hours early is for its month": (
        [APRIL, JOB, late(MAY, -28 * HOUR), GONE],
        ["granted early: 100 for 2026-05 early by 1 day 4 h (line 4, entry 4) [+0]"],
    ),
    "a grant that is 29 hours early is for none": (
        [APRIL, JOB, late(MAY, -29 * HOUR), GONE],
        [
            "granted though nothing was due: 100 (line 4) [+100]",
            "not granted: 100 for 2026-05 (entry 4) [-100]",
        ],
    ),
    "granted twice, the second late, and expired as much later": (
        [
            *SAME,
            ("2026-04-01T03:00:00Z", Kind.ALLOCATION, 100, "batch-3"),
            ("2026-05-01T03:00:00Z", Kind.EXPIRATION, -100, "expiry-3"),
        ],
        ["granted twice: 100 for 2026-04 on line 2, and again (line 6, entry 1) [+0]"],
    ),
    "granted twice and then expired twice": (
        [
            *SAME,
            ("2026-03-31T22:00:07Z", Kind.ALLOCATION, 100, "batch-3"),
            ("2026-04-30T22:00:00Z", Kind.EXPIRATION, -100, "expiry-3"),
        ],
        ["granted twice: 100 for 2026-04 on line 2, and again (line 6, entry 1) [+0]"],
    ),
    "not granted": ([APRIL, JOB, GONE], ["not granted: 100 for 2026-05 (entry 4) [-100]"]),
    "another amount": (
        [APRIL, JOB, GONE, (*MAY[:2], 500, "batch-2")],
        ["wrong amount granted: 500 and not 100 for 2026-05 (line 5, entry 4) [+400]"],
    ),
    "another amount, and late": (
        [APRIL, JOB, GONE, late((*MAY[:2], 90, "batch-2"), 5 * HOUR)],
        [
            "granted late: 100 for 2026-05 late by 5 h (line 5, entry 4) [+0]",
            "wrong amount granted: 90 and not 100 for 2026-05 (line 5, entry 4) [-10]",
        ],
    ),
    "nothing was due": (
        [*SAME, ("2026-05-15T22:00:00Z", Kind.ALLOCATION, 50, "batch-3")],
        ["granted though nothing was due: 50 (line 6) [+50]"],
    ),
    "expired early": (
        [APRIL, JOB, late(GONE, -DAY), MAY],
        ["expired early: 70 early by 1 day (line 4) [+0]"],
    ),
    "expired late": (
        [APRIL, JOB, late(GONE, 5 * HOUR), MAY],
        ["expired late: 70 late by 5 h (line 4) [+0]"],
    ),
    "expired late in two parts": (
        [
            *(APRIL, JOB, MAY, late((*GONE[:2], -40, "expiry-1"), 3 * HOUR)),
            late((*GONE[:2], -30, "expiry-2"), 5 * HOUR),
        ],
        ["expired late: 70 late by 3 h (line 5) [+0]"],
    ),
    "expired at midnight in UTC": (
        [APRIL, JOB, late(GONE, 2 * HOUR), MAY],
        ["expired at midnight of a wrong zone: 70 at midnight in UTC, late by 2 h (line 4) [+0]"],
    ),
    "not expired": ([APRIL, JOB, MAY], ["not expired: 70 [+70]"]),
    "a wrong amount expired": (
        [APRIL, JOB, (*GONE[:2], -60, "expiry-1"), MAY],
        ["wrong amount expired: 60 and not 70 (line 4) [+10]"],
    ),
    "a grant that is late and lives as much longer is one finding": (
        [late(APRIL, 5 * HOUR), JOB, late(GONE, 5 * HOUR), MAY],
        ["granted late: 100 for 2026-04 late by 5 h (line 2, entry 1) [+0]"],
    ),
    "a usage of which Credits was not told": (
        [*SAME, ("2026-05-10T12:00:00Z", Kind.USAGE, -20, "job-2")],
        ["in the old table, not told to Credits: usage job-2, -20 (line 6) [-20]"],
    ),
    "a usage that is only here": (
        [APRIL, (*GONE[:2], -100, "expiry-1"), MAY],
        ["told to Credits, not in the old table: usage job-1, -30 (entry 2) [+0]"],
    ),
    "a usage of another amount": (
        [APRIL, (*JOB[:2], -31, "job-1"), (*GONE[:2], -69, "expiry-1"), MAY],
        [
            (
                "told to Credits with another amount: job-1, -31 there and -30 here (line 3, "
                "entry 2) [+0]"
            )
        ],
    ),
    "a usage that Credits refuses": (
        [*SAME, ("2026-05-10T12:00:00Z", Kind.USAGE, -120, "job-2")],
        [
            (
                "used there, refused by Credits: usage job-2, -120; 100 could be spent here "
                "(line 6) [-120]"
            )
        ],
    ),
    "a usage of all that there is": (
        [*SAME, ("2026-05-10T12:00:00Z", Kind.USAGE, -100, "job-2")],
        ["in the old table, not told to Credits: usage job-2, -100 (line 6) [-100]"],
    ),
    "a purchase of which Credits was not told": (
        [*SAME, ("2026-05-10T12:00:00Z", Kind.PURCHASE, 40, "pi_1")],
        ["in the old table, not told to Credits: purchase pi_1, +40 (line 6) [+40]"],
    ),
    "an adjustment of which Credits was not told": (
        [*SAME, ("2026-05-10T12:00:00Z", Kind.ADJUSTMENT, -5, "fix-1")],
        ["in the old table, not told to Credits: adjustment fix-1, -5 (line 6) [-5]"],
    ),
    "what nobody can name": (
        [*SAME, ("2026-05-10T12:00:00Z", Kind.EXPIRATION, -12, "expiry-9")],
        ["unexplained difference: 12 less there (since line 6, entry 4) [-12]"],
    ),
}
"""What an old system did to the user of `spring`, and what is said of it."""


@pytest.mark.parametrize("name", FINDINGS)
def test_each_difference_is_named_with_its_place_and_its_credits(name: str) -> None:
    them, findings = FINDINGS[name]
    assert said(compared(*them)) == findings


def test_faults_of_the_old_system_are_explained_and_what_credits_was_told_is_not() -> None:
    unexplained = {
        code
        for them, _ in FINDINGS.values()
        for f in compared(*them).findings
        for code in [f.code]
        if not code.is_explained
    }
    assert unexplained == {
        *(Code.UNEXPLAINED, Code.NOT_TOLD, Code.NOT_THERE, Code.OTHER_AMOUNT),
    }
    assert not compared(*FINDINGS["what nobody can name"][0]).is_explained
    assert compared(*FINDINGS["granted twice"][0]).is_explained
    assert all(code.heading for code in Code)


def test_the_example_of_the_page_is_what_it_says() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text("utf-8")
    (text, findings) = re.findall(r"```csv\n(.*?)```\n\n```\n(.*?)```", page, re.DOTALL)[0]
    now = at("2026-05-20T00:00:00Z")
    checked = movements.check(text, now)
    assert checked.problems == []
    book = spring()
    shadow = Shadow("ada", book.entries, Zones(book.zone))
    read = movements.read(checked.good, now)
    assert said(compare(shadow, read, None, now, TOLERANCE)) == findings.splitlines()


def test_every_finding_is_on_the_page_and_those_first_that_count() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text("utf-8")
    (table,) = re.findall(r"^\| finding \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    rows = [row.split("|")[1].strip().split("; ") for row in table.splitlines()]
    assert sorted(heading for row in rows for heading in row) == sorted(c.heading for c in Code)
    assert [row[0] for row in rows[:5]] == [c.heading for c in Code if not c.is_explained]


def test_the_first_line_is_named_from_which_a_difference_stays() -> None:
    strange = ("2026-04-12T12:00:00Z", Kind.EXPIRATION, -12, "expiry-8")
    again = ("2026-05-02T12:00:00Z", Kind.EXPIRATION, -8, "expiry-9")
    (finding,) = compared(*SAME, strange, again).findings[:1]
    assert str(finding) == "unexplained difference: 20 less there (since line 6, entry 2)"
    assert finding.brief == "20 less there, since line 6"
    (finding,) = compared(*SAME, strange, (*strange[:3], "expiry-9")).findings[:1]
    assert str(finding) == "unexplained difference: 24 less there (since line 6, entry 2)"


def test_the_midnight_of_a_zone_that_the_user_has_left_is_named() -> None:
    tokyo = late(MAY, at("2026-04-30T15:00:00Z") - at("2026-04-30T22:00:00Z"))
    (finding,) = compared(APRIL, JOB, GONE, tokyo, before=("Asia/Tokyo",)).findings
    assert finding.words == "100 for 2026-05 at midnight in Asia/Tokyo, early by 7 h"
    for before in ((), ("Mars/Base",)):
        (finding,) = compared(APRIL, JOB, GONE, tokyo, before=before).findings
        assert finding.words == "100 for 2026-05 early by 7 h"
    # What was due before they moved was due where they lived then.
    shift = Zones(PARIS, ("Asia/Tokyo",)).shift(at(tokyo[0]), at(MAY[0]), TOLERANCE)
    assert shift is not None
    assert shift.words == "at midnight in Europe/Paris, late by 7 h"
    exactly = at(MAY[0]) + TOLERANCE
    assert Zones(PARIS).shift(at(MAY[0]), exactly, TOLERANCE) is None
    shift = Zones(PARIS, ("Africa/Abidjan",)).shift(at(MAY[0]), exactly + 2 * HOUR, TOLERANCE)
    assert shift is not None
    assert shift.words == "at midnight in Africa/Abidjan, late by 2 h 15 min"


def test_what_one_side_has_in_the_last_minutes_may_still_come_on_the_other() -> None:
    for end in (GONE[0], "2026-04-30T22:05:00Z"):
        assert compared(APRIL, JOB, until=end).is_same
    # What was granted late there may come as much later.
    found = compared(late(APRIL, 5 * HOUR), JOB, MAY, until="2026-05-01T02:00:00Z")
    assert [finding.code for finding in found.findings] == [Code.LATE]
    assert compared(APRIL, JOB, GONE, MAY, until="2026-04-30T22:05:00Z").is_same
    assert not compared(APRIL, JOB, until="2026-04-30T22:16:00Z").is_same
    # The first instant and the last are compared, too.
    assert compared(*SAME, until=MAY[0]) == Comparison(USER, 100, 100)
    assert compared(*SAME, start=APRIL[0]) == Comparison(USER, 100, 100)
    told = ("2026-05-10T12:00:00Z", Kind.USAGE, -20, "job-2")
    assert compared(*SAME, told, until="2026-05-10T12:14:00Z").is_same
    assert not compared(*SAME, told, until="2026-05-10T12:15:00Z").is_same


def test_what_was_told_of_after_the_end_is_the_same_all_the_same() -> None:
    told = ("2026-05-19T23:59:59Z", Kind.USAGE, -20, "job-2")
    book = spring()
    use(book, 20, "2026-05-20T06:00:00Z", "job-2")
    found = compared(*SAME, told, book=book)
    assert (found.is_same, found.there, found.here) == (True, 80, 80)


def test_what_is_told_of_after_the_end_and_is_not_there_may_still_come() -> None:
    book = spring()
    use(book, 20, "2026-05-20T06:00:00Z", "job-2")
    assert compared(*SAME, book=book) == Comparison(USER, 100, 100)


def test_ours_that_came_late_is_on_time_there_at_either_instant_and_missing_at_none() -> None:
    book = Book()
    book.edit(at("2026-03-10T12:00:00Z"), timezone=PARIS, plan="starter")
    book.allocate(at("2026-03-31T22:00:00Z"))
    use(book, 30, JOB[0], "job-1")
    book.allocate(at("2026-05-01T03:00:00Z"))
    for may in (MAY, late(MAY, 5 * HOUR), late(MAY, 5 * HOUR + TOLERANCE)):
        assert compared(APRIL, JOB, GONE, may, book=book).is_same
    (finding,) = compared(APRIL, JOB, GONE, late(MAY, 2 * HOUR), book=book).findings
    assert finding.words == "100 for 2026-05 at midnight in UTC, late by 2 h"
    (finding,) = compared(APRIL, JOB, GONE, book=book, until="2026-05-01T03:00:00Z").findings
    assert (finding.code, finding.at) == (Code.NOT_GRANTED, at(MAY[0]))
    assert compared(APRIL, JOB, GONE, book=book, until="2026-05-01T02:00:00Z").is_same


def test_a_usage_is_refused_by_the_least_there_was_until_a_file_of_the_day_told_of_it() -> None:
    row = ("2026-05-10T12:00:00Z", Kind.USAGE, -60, "job-2")
    for when, words in (
        ("2026-05-12T00:00:00Z", "used there, refused by Credits: usage job-2, -60; 50 could be"),
        ("2026-05-12T00:00:01Z", "in the old table, not told to Credits: usage job-2, -60"),
    ):
        book = spring()
        use(book, 50, when, "job-3")
        found = compared(*SAME, row, (when, Kind.USAGE, -50, "job-3"), book=book)
        assert said(found)[0].startswith(words)


def test_balances_that_are_carried_over_are_there_from_the_start_on() -> None:
    book = Book()
    book.edit(at("2026-03-10T12:00:00Z"), timezone=PARIS, plan="starter")
    carried = Request(f"manual#{CALLER}#b-1", CALLER, "")
    now = at("2026-03-10T12:20:00Z")  # the import took as long
    made = (50, at("2026-03-01T00:00:00Z"), None, carried, now, PARIS)
    book.post(ledger.carry_over(book.account, *made))
    use(book, 20, "2026-03-10T12:30:00Z", "job-2")
    used = ("2026-03-10T12:10:00Z", Kind.USAGE, -20, "job-2")
    found = compared(used, book=book, until="2026-03-20T00:00:00Z")
    assert (said(found), found.there) == ([], 30)
    # One that was carried over before the start was spent from at once.
    book.allocate(at(APRIL[0]))
    use(book, 20, "2026-04-10T12:00:00Z", "job-3")
    book.allocate(at(MAY[0]))
    gone = (*GONE[:2], -100, "expiry-1")
    later = compared(gone, MAY, book=book, start="2026-04-20T00:00:00Z")
    assert (said(later), later.there) == ([], 110)


def test_a_reference_is_all_that_follows_the_caller_whatever_is_in_it() -> None:
    book = spring()
    use(book, 5, "2026-05-10T12:00:00Z", "job#2#é")
    book.post(
        ledger.purchase(
            *(book.account, 40, None, Request("purchase#pi#1", "shop", "")),
            *(at("2026-05-10T12:00:00Z"), PARIS, None),
        )
    )
    items = [UsageItem("a#1", 2, ""), UsageItem("b", 3, "")]
    many = Request("usage#shop#all", "shop", "")
    book.post(ledger.use_many(book.account, items, many, at("2026-05-10T12:00:00Z")))
    now = "2026-05-10T12:00:00Z"
    usages = [("job#2#é", -5), ("a#1", -2), ("b", -3)]
    them = [(now, Kind.USAGE, amount, name) for name, amount in usages]
    bought = (now, Kind.PURCHASE, 40, "pi#1")
    assert said(compared(*SAME, bought, *them, book=book)) == []


def test_a_purchase_that_is_only_here_is_named() -> None:
    book = spring()
    book.buy(40, at("2026-05-02T12:00:00Z"), 10)
    key = book.entries[-1].payment_id
    assert said(compared(*SAME, book=book, until="2026-05-10T00:00:00Z")) == [
        f"told to Credits, not in the old table: purchase {key}, +40 (entry 5) [-40]"
    ]


def test_what_has_expired_could_not_be_spent_though_no_sweep_has_booked_it_out() -> None:
    book = Book()
    book.edit(at("2026-03-10T12:00:00Z"), timezone=PARIS, plan="starter")
    book.allocate(at("2026-03-31T22:00:00Z"))
    row = ("2026-05-02T12:00:00Z", Kind.USAGE, -60, "job-2")
    found = compared(APRIL, (*GONE[:2], -100, "expiry-1"), row, book=book)
    assert said(found) == [
        "used there, refused by Credits: usage job-2, -60; 0 could be spent here (line 4) [-60]"
    ]


def test_in_one_instant_the_old_system_moves_in_the_order_of_its_lines() -> None:
    book = spring()
    use(book, 10, "2026-05-01T00:00:00Z", "job-2")
    used = (GONE[0], Kind.USAGE, -10, "job-2")
    assert said(compared(APRIL, JOB, GONE, used, MAY, book=book)) == []
    booked = (*GONE[:2], -60, "expiry-1")
    assert said(compared(APRIL, JOB, used, booked, MAY, book=book)) == [
        "expired late: 60, and something came between (line 5) [+10]"
    ]


def test_a_ledger_that_is_not_played_to_its_balance_is_never_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(books, "balance", lambda *_: 93)
    assert said(compared(*SAME))[0].startswith("unexplained difference: 7 more there")


def test_two_callers_may_use_one_reference_and_both_are_told_of_under_it() -> None:
    book = spring()
    for caller, amount in (("shop", 5), ("web", 7)):
        asked = Request(f"usage#{caller}#job-2", caller, "")
        book.post(ledger.use(book.account, amount, asked, at("2026-05-10T12:00:00Z")))
    both = ("2026-05-10T12:00:00Z", Kind.USAGE, -12, "job-2")
    assert said(compared(*SAME, both, book=book)) == []


def test_a_purchase_of_another_amount_expires_as_ours_does() -> None:
    book = spring()
    asked = Request("purchase#pi_1", "shop", "")
    bought = at("2026-05-02T12:00:00Z")
    book.post(ledger.purchase(book.account, 40, None, asked, bought, PARIS, 10))
    them = [
        ("2026-05-02T12:00:00Z", Kind.PURCHASE, 60, "pi_1"),
        ("2026-05-12T22:00:00Z", Kind.EXPIRATION, -60, "expiry-2"),
    ]
    assert said(compared(*SAME, *them, book=book)) == [
        ("told to Credits with another amount: pi_1, +60 there and +40 here (line 6, entry 5) [+0]")
    ]


def test_what_never_expires_here_and_did_there_is_not_explained() -> None:
    book = spring()
    book.buy(40, at("2026-05-02T12:00:00Z"), None)
    bought = ("2026-05-02T12:00:00Z", Kind.PURCHASE, 40, str(book.entries[-1].payment_id))
    gone = ("2026-05-12T22:00:00Z", Kind.EXPIRATION, -40, "expiry-2")
    assert said(compared(*SAME, bought, gone, book=book)) == [
        "unexplained difference: 40 less there (since line 7, entry 5) [-40]"
    ]


def test_a_grant_at_an_earlier_midnight_is_named_before_ours_has_come() -> None:
    coming = Coming(at("2026-05-31T22:00:00Z"), 100, "2026-06")
    early = ("2026-05-31T15:00:00Z", Kind.ALLOCATION, 100, "batch-3")
    kept = ("2026-05-30T22:00:00Z", Kind.EXPIRATION, -100, "expiry-2")
    found = compared(
        *SAME, kept, early, until="2026-05-31T16:00:00Z", coming=coming, before=("Asia/Tokyo",)
    )
    assert said(found) == [
        (
            "granted at midnight of a wrong zone: 100 for 2026-06 at midnight in Asia/Tokyo, early "
            "by 7 h (line 7) [+100]"
        )
    ]
    less = (*early[:2], 90, "batch-3")
    found = compared(*SAME, kept, less, until="2026-05-31T16:00:00Z", coming=coming)
    assert said(found) == [
        "granted early: 100 for 2026-06 early by 7 h (line 7) [+100]",
        "wrong amount granted: 90 and not 100 for 2026-06 (line 7) [-10]",
    ]
    # One that has come since is not to come again.
    again = compared(*SAME, (*MAY[:3], "batch-3"), coming=Coming(at(MAY[0]), 100, "2026-05"))
    assert [finding.code for finding in again.findings] == [Code.GRANTED_TWICE]


def test_a_usage_that_was_told_too_late_to_meet_its_batch_is_named() -> None:
    book = spring()
    use(book, 10, "2026-05-01T06:00:00Z", "job-2")  # there it was spent on the evening before
    evening = ("2026-04-30T20:00:00Z", Kind.USAGE, -10, "job-2")
    found = compared(APRIL, JOB, evening, (*GONE[:2], -60, "expiry-1"), MAY, book=book)
    assert said(found) == [
        (
            "told to Credits late, so that credits expired first: usage job-2, -10, after 10 h "
            "(line 4, entry 5) [+10]"
        )
    ]
    # If nothing expired in between it makes no difference, and is none.
    later = ("2026-04-30T23:00:00Z", Kind.USAGE, -10, "job-2")
    assert compared(*SAME, later, book=book).is_same


def test_a_usage_that_was_told_too_early_and_met_credits_that_expire_is_named() -> None:
    book = Book()
    book.edit(at("2026-03-10T12:00:00Z"), timezone=PARIS, plan="starter")
    book.allocate(at(APRIL[0]))
    use(book, 30, JOB[0], "job-1")
    use(book, 10, "2026-04-30T20:00:00Z", "job-2")  # there it was spent on the morning after
    book.expire(at(MAY[0]))
    book.allocate(at(MAY[0]))
    morning = ("2026-05-01T06:00:00Z", Kind.USAGE, -10, "job-2")
    found = compared(APRIL, JOB, (*GONE[:2], -70, "expiry-1"), MAY, morning, book=book)
    assert said(found) == [
        (
            "told to Credits early, so that expiring credits were spent: usage job-2, -10, 10 h "
            "before (line 6, entry 3) [-10]"
        )
    ]


def test_an_old_system_that_lets_dead_credits_be_spent_until_its_job_runs_is_found_out() -> None:
    book = spring()
    use(book, 10, "2026-05-01T00:00:00Z", "job-2")
    found = compared(
        *(APRIL, JOB, MAY, ("2026-05-01T00:00:00Z", Kind.USAGE, -10, "job-2")),
        ("2026-05-01T03:00:00Z", Kind.EXPIRATION, -60, "expiry-1"),
        book=book,
    )
    assert said(found) == ["expired late: 60 late by 5 h (line 6) [+10]"]


def test_an_old_system_that_books_batch_by_batch_is_the_same() -> None:
    book = spring()
    book.buy(40, at("2026-05-02T12:00:00Z"), 10)
    book.buy(20, at("2026-05-02T13:00:00Z"), 10)
    book.expire(at("2026-05-14T00:00:00Z"))
    paid = [str(entry.payment_id) for entry in book.entries if entry.payment_id]
    bought = [
        (f"2026-05-02T1{hour}:00:00Z", Kind.PURCHASE, amount, key)
        for hour, amount, key in zip((2, 3), (40, 20), paid, strict=True)
    ]
    midnight = "2026-05-12T22:00:00Z"
    apart = [(midnight, Kind.EXPIRATION, -40, "x-1"), (midnight, Kind.EXPIRATION, -20, "x-2")]
    together = [(midnight, Kind.EXPIRATION, -60, "x-1")]
    for booked in (apart, apart[::-1], together):
        assert compared(*SAME, *bought, *booked, book=book).is_same
    for booked, rest in ((apart[:1], 20), (apart[1:], 40)):
        assert said(compared(*SAME, *bought, *booked, book=book)) == [
            f"wrong amount expired: {60 - rest} and not 60 (line 8) [+{rest}]"
        ]


def test_held_credits_that_were_taken_back_do_not_expire_as_well() -> None:
    book = spring()
    now = at("2026-05-10T12:00:00Z")
    held = Request("hold#shop#job-2", "shop", "")
    book.post(ledger.hold(book.account, 60, 3600, held, now, lambda: PARIS))
    fix = Request("manual#ada#fix-1", "ada", "")
    book.post(ledger.claw_back(book.account, 100, fix, now + MINUTE, including_held=True))
    taken = ("2026-05-10T12:01:00Z", Kind.ADJUSTMENT, -100, "fix-1")
    found = compared(*SAME, taken, book=book, until="2026-06-05T00:00:00Z")
    assert found == Comparison(USER, 0, 0)


def test_a_hold_is_found_in_the_old_table_by_its_key() -> None:
    book = spring()
    zone = lambda: PARIS  # noqa: E731
    now = at("2026-05-10T12:00:00Z")
    asked = Request("hold#shop#job-2", "shop", "")
    book.post(ledger.hold(book.account, 50, 3600, asked, now, zone))
    end = Request(f"end#{USER}-5", "shop", "")
    book.post(ledger.capture(book.account, 5, 30, end, now + MINUTE, zone))
    captured = ("2026-05-10T12:01:00Z", Kind.USAGE, -30, "job-2")
    assert compared(*SAME, captured, book=book).is_same
    # A hold that was released has moved nothing, so nothing was told of under its key.
    book.post(ledger.hold(book.account, 20, 3600, asked, now + MINUTE, zone))
    book.post(ledger.capture(book.account, 7, 0, end, now + 2 * MINUTE, zone))
    fix = ("2026-05-10T12:02:00Z", Kind.ADJUSTMENT, 5, "job-2")
    assert said(compared(*SAME, captured, fix, book=book)) == [
        "in the old table, not told to Credits: adjustment job-2, +5 (line 7) [+5]"
    ]


@pytest.mark.parametrize("held", [50, 70])
def test_a_hold_that_outlives_its_credits_is_named_beside_a_table_that_has_no_holds(
    held: int,
) -> None:
    book = Book()
    book.edit(at("2026-03-10T12:00:00Z"), timezone=PARIS, plan="starter")
    book.allocate(at("2026-03-31T22:00:00Z"))
    use(book, 30, "2026-04-10T12:00:00Z", "job-1")
    now, asked = at("2026-04-30T12:00:00Z"), Request("hold#shop#job-2", "shop", "")
    book.post(ledger.hold(book.account, held, 86_400, asked, now, lambda: PARIS))
    book.expire(at("2026-04-30T22:00:00Z"))
    book.allocate(at("2026-04-30T22:00:00Z"))
    end, now = Request(f"end#{USER}-3", "shop", ""), at("2026-05-01T06:00:00Z")
    book.post(ledger.capture(book.account, 3, 40, end, now, lambda: PARIS))
    captured = ("2026-05-01T06:00:00Z", Kind.USAGE, -40, "job-2")
    found = compared(*SAME, captured, book=book)
    assert said(found) == ["held by Credits over its expiry [-40]"]
    assert found.is_explained


def test_without_a_start_it_is_that_of_the_first_entry() -> None:
    before = ("2026-03-20T12:00:00Z", Kind.ALLOCATION, 77, "batch-0")
    assert compared(before, *SAME, start=None).is_same
    found = compared(before, *SAME)
    assert (found.findings[0].code, found.difference) == (Code.NOT_DUE, 77)
    # An entry is from when it was posted, whenever it was due.
    late = Book()
    late.edit(at("2026-03-10T12:00:00Z"), timezone=PARIS, plan="starter")
    late.allocate(at(APRIL[0]) + 5 * HOUR)
    assert compared(APRIL, book=late, start=None, until=JOB[0]).there == 0


def test_a_user_without_a_ledger_has_nothing_here() -> None:
    found = compared(APRIL, JOB, book=Book(), start=None)
    assert (found.there, found.here) == (70, 0)
    assert [finding.code for finding in found.findings] == [Code.NOT_DUE, Code.REFUSED]


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (timedelta(seconds=7), "7 s"),
        (90 * MINUTE, "1 h 30 min"),
        (2 * DAY + 3 * HOUR + MINUTE, "2 days 3 h"),
        (DAY, "1 day"),
        (2 * DAY + MINUTE + timedelta(seconds=1), "2 days 1 min"),
        (timedelta(0), "0 s"),
    ],
)
def test_a_length_of_time_is_said_in_its_two_largest_units(of: timedelta, words: str) -> None:
    assert length(of) == words


# --- The rules of a life --------------------------------------------------------------------------

NOON = at("2026-05-10T12:00:00Z")


def granted(number: int, amount: int, since: timedelta, until: timedelta | None = None) -> Grant:
    """A lot that was granted so long before noon, and ends so long after it."""
    ends = NOON + until if until is not None else None
    return Grant(NOON - 2 * DAY, number, amount, NOON - since, number, 50, ends)


def test_a_hold_and_a_lot_end_at_their_instant_and_not_after_it() -> None:
    held = Life(
        {"1": granted(1, 100, DAY, until=HOUR), "2": Hold(NOON - HOUR, 2, 30, until=NOON)},
    )
    assert held.left(NOON - MINUTE, 9) == {"1": 70}
    assert held.left(NOON, 9) == {"1": 100}
    assert held.balances([NOON + HOUR - MINUTE, NOON + HOUR]) == [100, 0]
    released = held.having({"3": Release(NOON - 30 * MINUTE, 3, "2")})
    assert released.left(NOON - MINUTE, 9) == {"1": 100}
    late = held.having({"3": Take(NOON + HOUR, 3, 10)})
    assert late.balances([NOON + HOUR]) == [-10], "there is nothing to spend in that instant"
    longer = held.having({"2": Hold(NOON - HOUR, 2, 30, until=NOON + DAY)})
    assert longer.balances([NOON + HOUR, NOON + DAY]) == [30, 0]
    taken = longer.having({"3": Take(NOON, 3, 90, (("1", 90),))})
    assert taken.balances([NOON + HOUR]) == [10], "of the 30 that are held"


def test_of_two_lots_the_one_granted_first_is_spent_first_whatever_its_number() -> None:
    lots = {"1": granted(1, 50, HOUR), "2": granted(2, 50, DAY)}
    spent = Life({**lots, "3": Take(NOON, 3, 60)})
    assert spent.left(NOON, 9) == {"1": 40, "2": 0}
    first = Life({**lots, "1": lots["1"]._replace(priority=10), "3": Take(NOON, 3, 60)})
    assert first.left(NOON, 9) == {"1": 0, "2": 40}


def test_what_is_given_back_to_a_lot_that_is_not_there_is_there_all_the_same() -> None:
    given = Life({"1": granted(1, 50, DAY), "2": Give(NOON, 2, (("1", 5), ("old", 7)))})
    assert given.balances([NOON]) == [62]


def test_what_was_spent_without_being_there_is_made_up_for_by_the_next_grant() -> None:
    lot = granted(2, 100, timedelta(0), until=HOUR)._replace(at=NOON)
    spent = Life({"1": Take(NOON - HOUR, 1, 30), "2": lot})
    assert spent.left(NOON, 9) == {"2": 70}
    assert spent.balances([NOON - HOUR, NOON, NOON + HOUR]) == [-30, 70, 0]
    takes = {"0": Take(NOON - HOUR, 0, 30), "1": Take(NOON - HOUR, 1, 100)}
    twice = Life({**takes, "2": lot, "3": lot._replace(number=3)})
    assert twice.balances([NOON - HOUR, NOON, NOON + HOUR]) == [-130, 70, 0]


def test_of_each_batch_no_more_is_taken_than_was_named() -> None:
    lots = {"1": granted(1, 50, DAY), "2": granted(2, 50, HOUR)}
    taken = Life({**lots, "3": Take(NOON, 3, 45, (("2", 10), ("1", 20)))})
    assert taken.left(NOON, 9) == {"1": 15, "2": 40}, "the rest is burnt down in order"


def test_without_holds_what_was_captured_was_taken_all_the_same() -> None:
    actions: dict[str, Action] = {
        "1": granted(1, 50, 2 * DAY),
        "2": granted(2, 50, DAY, until=2 * HOUR),
        "3": Hold(NOON, 3, 60, until=NOON + DAY),
        "4": Take(NOON + HOUR, 4, 60, hold="3"),
        "5": Hold(NOON + HOUR, 5, 40, until=NOON + DAY),
    }
    assert Life(actions).balances([NOON + 2 * HOUR]) == [40]
    without = Life(actions).without_holds()
    assert without.balances([NOON + HOUR, NOON + 2 * HOUR]) == [40, 0]
    assert without.actions.keys() == {"1", "2", "4"}


# --- Any life -------------------------------------------------------------------------------------


def lived(seed: int, days: int = 300) -> Book:
    """A life at random, in which every month comes at its instant; and expiries by comparison."""
    random = Random(seed)
    book, now = Book(), at("2025-02-01T12:00:00Z")
    book.edit(
        now,
        timezone=random.choice(what_if.ZONES),
        plan=random.choice(["starter", "pro", "team"]),
        started_at=random.choice(["2025-01-31T23:30:00Z", "2025-02-01T08:00:00Z"]),
    )
    end = now + days * DAY
    while now < end:
        now += random.choice([7 * what_if.SECOND, HOUR, 5 * HOUR, DAY, 2 * DAY, 9 * DAY])
        _catch_up(book, now)
        with suppress(CreditsError):
            if random.random() < 0.5:
                book.use(random.choice([1, 7, 30, 90, 200]), now)
            else:
                what_if.something_rarer(random, book, now, random.choice([1, 7, 30, 90]))
        book.allocate(now)
    book.entries = [_asked_by_name(entry) for entry in book.entries]
    return book


def _catch_up(book: Book, now: datetime) -> None:
    """Posts each month that has come, at its instant."""
    for _ in range(13):
        assert book.subscription is not None
        through = book.account.allocated_through
        coming = next_allocation(book.subscription, CATALOGUE, through, now)
        if coming is None or coming.at > now:
            return
        book.allocate(max(coming.at, book.entries[-1].posted_at) if book.entries else coming.at)


def _asked_by_name(entry: LedgerEntry) -> LedgerEntry:
    """The entry under a key of its own, as requests have them."""
    if entry.type in (EntryType.ALLOCATION, EntryType.EXPIRATION):
        return entry
    kind = entry.operation.partition("#")[0]
    is_paid = entry.type in (EntryType.PURCHASE, EntryType.REFUND)
    return replace(entry, operation=f"{kind}#{'' if is_paid else 'shop#'}{entry.number}")


def moved(entries: Sequence[LedgerEntry], until: datetime) -> list[Movement]:
    """What an old system without faults has moved: the same, and expiries at their instants."""
    them = [
        (entry.posted_at, KINDS.get(entry.type, Kind.ADJUSTMENT), entry.amount, _name(entry))
        for entry in entries
        if entry.type is not EntryType.EXPIRATION and entry.amount
    ]
    gone = 0
    for instant in sorted(_instants(entries)):
        if instant <= until and (now := _expired(entries, instant)) > gone:
            them.append((instant, Kind.EXPIRATION, gone - now, f"expiry-{instant.timestamp()}"))
            gone = now
    them.sort(key=lambda row: (row[0], row[1] is not Kind.EXPIRATION))
    return [
        Movement(line, name, USER, when, kind, amount)
        for line, (when, kind, amount, name) in enumerate(them, 2)
    ]


def _name(entry: LedgerEntry) -> str:
    is_refund = entry.type is EntryType.REFUND
    return entry.operation if is_refund else entry.operation.rpartition("#")[2]


def _instants(entries: Iterable[LedgerEntry]) -> set[datetime]:
    return {
        instant
        for entry in entries
        for instant in (entry.posted_at, *(batch.expires_at for batch in entry.batches))
        if instant
    }


def _expired(entries: Sequence[LedgerEntry], instant: datetime) -> int:
    """How much has expired by an instant, booked or not."""
    before = [entry for entry in entries if entry.posted_at <= instant]
    booked = -sum(entry.amount for entry in before if entry.type is EntryType.EXPIRATION)
    if not before:
        return 0
    last = before[-1]
    return booked + sum(leg.amount for leg in dead(last.batches, last.holds, instant))


def of(book: Book, movements: Sequence[Movement]) -> Comparison:
    left = {change.before for edit in book.edits for change in edit.changes}
    zones = Zones(book.zone, tuple(str(zone) for zone in left if calendar.is_known(str(zone))))
    until = book.entries[-1].posted_at + DAY
    found = compare(Shadow(USER, book.entries, zones), movements, None, until, TOLERANCE)
    assert sum(finding.credits for finding in found.findings) == found.difference
    return found


@pytest.mark.parametrize("seed", range(24))
def test_whatever_a_ledger_has_been_through_the_same_movements_are_the_same(seed: int) -> None:
    book = lived(seed)
    found = of(book, moved(book.entries, book.entries[-1].posted_at + DAY))
    assert said(found) == []


@pytest.mark.parametrize("seed", range(24))
def test_a_ledger_is_played_to_the_credit_at_each_of_its_entries(seed: int) -> None:
    book = what_if.lived(seed)  # with holds, and sweeps that are never in time
    until = book.entries[-1].posted_at
    played = books.read(book.entries, book.entries[0].posted_at, until).life
    instants = sorted({entry.posted_at for entry in book.entries})
    stood = [books.balance(book.entries, instant) for instant in instants]
    assert played.balances(instants) == stood


Change = Callable[[list[Movement], int], None]


def _gone(them: list[Movement], place: int) -> None:
    del them[place]


def _twice(them: list[Movement], place: int) -> None:
    them.append(replace(them[place], line=9_999, reference="again"))


def _more(them: list[Movement], place: int) -> None:
    more = 1 if them[place].amount != -1 else -1
    them[place] = replace(them[place], amount=them[place].amount + more)


def _late(them: list[Movement], place: int) -> None:
    them[place] = replace(them[place], at=them[place].at + 5 * HOUR)


SCHEDULED = (Kind.ALLOCATION, Kind.EXPIRATION)


@pytest.mark.parametrize("change", [_gone, _twice, _more, _late])
@pytest.mark.parametrize("seed", range(8))
def test_one_movement_that_differs_is_always_noticed(seed: int, change: Change) -> None:
    book, random = lived(100 + seed, 150), Random(seed)
    them = moved(book.entries, book.entries[-1].posted_at + DAY)
    # When something was asked for is what it is; only the job can be late.
    places = [
        place for place, each in enumerate(them) if change is not _late or each.kind in SCHEDULED
    ]
    for place in random.sample(places, min(6, len(places))):
        others = list(them)
        change(others, place)
        others.sort(key=lambda movement: (movement.at, movement.line))
        assert not of(book, others).is_same, them[place]


# --- It can fail ----------------------------------------------------------------------------------


def _all_of_it(capsys: object = None) -> None:
    """Each finding of above, and a life: what a plant must not survive."""
    del capsys
    for them, findings in FINDINGS.values():
        assert said(compared(*them)) == findings
    book = lived(3)
    assert said(of(book, moved(book.entries, book.entries[-1].posted_at + DAY))) == []


PLANTS: dict[str, tuple[object, str, object]] = {
    "expiries are never missed": (
        expiries,
        "_steps",
        lambda *_: iter(()),
    ),
    "a second grant is taken for one that was due": (
        grants,
        "LATEST",
        timedelta(seconds=1),
    ),
    "what is left in the end is not looked at": (
        comparison,
        "_unexplained",
        lambda *_: Finding(Code.LATE, "", at("2026-01-01T00:00:00Z")),
    ),
    "the old one of two is spent last": (
        life._Played,
        "_place",
        lambda self, lot, _at: (False, 0, -self._grants[lot].granted_at.timestamp(), 0),
    ),
    "what has expired can be spent": (
        life._Played,
        "_is_there",
        lambda *_: True,
    ),
    "every midnight is a right one": (
        shifts.Zones,
        "shift",
        lambda *_: None,
    ),
}
"""Mistakes in the comparison itself, each of which some test must notice."""


def test_without_a_plant_everything_holds() -> None:
    _all_of_it()


@pytest.mark.parametrize("name", PLANTS)
def test_a_mistake_in_the_comparison_is_noticed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, attribute, planted = PLANTS[name]
    monkeypatch.setattr(owner, attribute, planted)
    with pytest.raises(AssertionError):
        _all_of_it()
