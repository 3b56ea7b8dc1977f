"""The nights of a shadow: how many in a row had nothing unexplained; and the file that it reads."""

from datetime import UTC, date, datetime, timedelta
from typing import cast

import pytest

from chalicelib.domain.errors import InvalidInput
from chalicelib.store.reports import Reports
from infra.imports import movements
from infra.imports.csv_file import UnreadableFileError
from infra.imports.movements import Kind
from infra.shadow import nights
from infra.shadow.nights import MOST_READ, Night, clean_nights

NOW = datetime(2026, 12, 1, 2, tzinfo=UTC)
TODAY = NOW.date()
DAY = timedelta(days=1)


def night(days_ago: int = 0, unexplained: int = 0, users: int = 10) -> Night:
    return Night(NOW - days_ago * DAY, users, users - unexplained, 0, unexplained, "9f86d0")


class Bucket:
    """The reports bucket, in memory."""

    bucket = "reports"

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}

    def put(self, key: str, text: str) -> None:
        self.objects[key] = text

    def get(self, key: str) -> str:
        return self.objects[key]

    def keys(self, prefix: str) -> list[str]:
        return [key for key in self.objects if key.startswith(prefix)]


@pytest.fixture
def reports() -> Reports:
    return cast(Reports, Bucket())


def test_nights_are_kept_by_day_and_comparing_again_replaces_the_one_of_the_day(
    reports: Reports,
) -> None:
    for each in (night(0, 3), night(1), night(0, 1)):
        nights.write(reports, each)
    reports.put("shadow/README", "")
    assert nights.read(reports) == [night(1), night(0, 1)]
    assert sorted(reports.keys("shadow/2")) == ["shadow/2026-11-30.json", "shadow/2026-12-01.json"]


def test_only_the_latest_nights_are_read(reports: Reports) -> None:
    for days_ago in range(MOST_READ + 5):
        nights.write(reports, night(days_ago))
    found = nights.read(reports)
    assert (len(found), found[-1].day, found[0].day) == (MOST_READ, TODAY, TODAY - 99 * DAY)


@pytest.mark.parametrize("body", ["{", "[]", "7", "{}", night().body().replace("10,", "-1,", 1)])
def test_a_night_that_cannot_be_read_is_named_with_what_to_do(reports: Reports, body: str) -> None:
    reports.put(night().key, body)
    with pytest.raises(InvalidInput, match=r"s3://reports/shadow/2026-12-01.json.* again, or del"):
        nights.read(reports)


@pytest.mark.parametrize(
    ("found", "row"),
    [
        ([], 0),
        ([night()], 1),
        ([night(1)], 1),  # that of today is still to come
        ([night(2)], 0),
        ([night(2), night(1), night()], 3),
        ([night(), night(2), night(1)], 3),
        ([night(2), night(1, 1), night()], 1),
        ([night(2), night(1), night(0, 1)], 0),
        ([night(3), night(1), night()], 2),
        ([night(1), night(0, users=0)], 0),
    ],
)
def test_a_row_ends_at_an_unexplained_difference_and_at_a_day_without_a_night(
    found: list[Night], row: int
) -> None:
    assert clean_nights(found, date(2026, 12, 1)) == row


# --- The file -------------------------------------------------------------------------------------

HEADER = "reference,user_id,at,kind,amount"


def problems(row: str) -> list[str]:
    checked = movements.check(f"{HEADER}\n{row}\n", NOW)
    return [f"{problem.line} {problem.field}: {problem.reason}" for problem in checked.problems]


def test_movements_are_read_in_the_order_of_their_instants() -> None:
    text = (
        f"{HEADER},description\n"
        "tx-2,42,2026-11-02T00:00:00Z,usage,-5,Render\n"
        "tx-1,42,2026-11-01T00:00:00.5+01:00,Allocation,100,\n"
        "tx-3,auth0|7,2026-11-01T00:00:00Z,adjustment,+7,\n"
        "tx-4,42,2026-11-03T00:00:00Z,expiration,-95,\n"
    )
    found = movements.read(movements.check(text, NOW).good, NOW)
    assert [(each.line, each.reference, each.kind, each.amount) for each in found] == [
        (3, "tx-1", Kind.ALLOCATION, 100),
        (4, "tx-3", Kind.ADJUSTMENT, 7),
        (2, "tx-2", Kind.USAGE, -5),
        (5, "tx-4", Kind.EXPIRATION, -95),
    ]
    assert found[0].at == datetime(2026, 10, 31, 23, 0, 0, 500_000, UTC)
    assert [each.description for each in found] == ["", "", "Render", ""]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("a,1,2026-11-01T00:00:00Z,usage,5", "2 amount: must be negative: this kind, usage, takes"),
        ("a,1,2026-11-01T00:00:00Z,allocation,-5", "2 amount: must be positive: this kind, alloc"),
        ("a,1,2026-11-01T00:00:00Z,usage,0", "2 amount: must be a whole number other than 0"),
        ("a,1,2026-11-01T00:00:00Z,usage,-1.5", "2 amount: must be a whole number other than 0"),
        ("a,1,2026-11-01T00:00:00Z,usage,−5", "2 amount: must be a whole number other than 0"),
        ("a,1,2026-11-01T00:00:00Z,spent,-5", "2 kind: must be one of allocation, expiration, us"),
        ("a,1,2026-11-01 00:00:00,usage,-5", "2 at: must be a date and time written like"),
        ("a,1,2027-11-01T00:00:00Z,usage,-5", "2 at: must not be ahead of the clock"),
        (",1,2026-11-01T00:00:00Z,usage,-5", "2 reference: is required"),
        ("a b,1,2026-11-01T00:00:00Z,usage,-5", "2 reference: must be 1 to 255 visible ASCII"),
        ("a,/,2026-11-01T00:00:00Z,usage,-5", "2 user_id: must be 1 to 128"),
    ],
)
def test_a_wrong_row_is_named_with_its_line_its_field_and_the_fix(row: str, problem: str) -> None:
    (found,) = problems(row)
    assert found.startswith(problem)


def test_a_reference_is_in_the_file_once() -> None:
    row = "a,1,2026-11-01T00:00:00Z,usage,-5"
    assert problems(f"{row}\n{row}") == [
        "2 reference: is on line 3, too; keep one of the two",
        "3 reference: is on line 2, too; keep one of the two",
    ]


def test_a_file_with_too_many_rows_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(movements, "MOST_MOVEMENTS", 2)
    with pytest.raises(UnreadableFileError, match="has 3 lines, and 2 are the most allowed"):
        movements.check(f"{HEADER}\n\n\n", NOW)
