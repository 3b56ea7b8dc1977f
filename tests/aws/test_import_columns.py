"""What a file of subscriptions says by a column that is empty, and by one that is not there."""

from dataclasses import replace

import pytest

from chalicelib.domain.notifications import MailKind
from chalicelib.domain.plans import AllocateOn, PlanCatalogue
from infra.deployment import stage_services
from infra.imports.importing import Imported, import_rows
from infra.imports.subscriptions import COLUMNS, SUBSCRIPTIONS
from tests.aws.damage import never_consistent
from tests.aws.world import World, at

REQUIRED = {
    "user_id": "1",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_services, "THREADS", 1)


def text(**columns: str) -> str:
    """A file of one row."""
    row = REQUIRED | columns
    return f"{','.join(row)}\n{','.join(row.values())}\n"


def load(world: World, **columns: str) -> Imported:
    checked = SUBSCRIPTIONS.check(world.services, text(**columns))
    assert checked.problems == []
    return import_rows(SUBSCRIPTIONS, world.services, checked.good)


GIVEN = {
    "email": "ada@example.com",
    "eligible_from": "2026-03-01",
    "allocation_amount": "1200",
    "ends_at": "2027-01-01T00:00:00Z",
    "observed_at": "2026-01-10T00:00:00Z",
    "language": "de",
}


def test_the_optional_columns_are_these() -> None:
    assert set(COLUMNS.optional) == set(GIVEN)
    assert set(COLUMNS.required) == set(REQUIRED)


@pytest.mark.parametrize("column", GIVEN)
def test_a_column_that_the_file_does_not_have_stays_as_it_is(world: World, column: str) -> None:
    load(world, **GIVEN)
    before = world.services.subscriptions.get("1")
    world.now = at("2026-01-20T12:00:00Z")
    others = {name: value for name, value in GIVEN.items() if name != column}
    assert load(world, **others).counts == {"unchanged": 1}
    after = world.services.subscriptions.get("1")
    assert getattr(after, column) == getattr(before, column) is not None


def test_a_file_of_required_columns_only_changes_what_it_has_and_nothing_else(world: World) -> None:
    load(world, **GIVEN)
    before = world.services.subscriptions.get("1")
    assert load(world, plan="business").counts == {"changed": 1}
    after = world.services.subscriptions.get("1")
    assert after.plan == "business"
    for column in GIVEN:
        assert getattr(after, column) == getattr(before, column), column


@pytest.mark.parametrize("column", ["allocation_amount", "ends_at"])
def test_an_empty_cell_clears_what_is_stored(world: World, column: str) -> None:
    load(world, **GIVEN)
    assert load(world, **(GIVEN | {column: ""})).counts == {"changed": 1}
    assert getattr(world.services.subscriptions.get("1"), column) is None


def test_an_empty_eligible_from_is_the_registration_again(world: World) -> None:
    registered_at = world.now
    load(world, **GIVEN)
    world.now = at("2026-01-20T12:00:00Z")
    assert load(world, **(GIVEN | {"eligible_from": ""})).counts == {"changed": 1}
    assert world.services.subscriptions.get("1").eligible_from == registered_at


def test_the_users_wishes_are_not_a_files_to_reset(world: World) -> None:
    load(world, **GIVEN)
    world.subscribe("1", notifications=[], allocation_amount=None)
    assert load(world, **(GIVEN | {"plan": "starter"})).counts == {"changed": 1}
    assert world.services.subscriptions.get("1").notifications == frozenset[MailKind]()


def test_an_edit_that_was_observed_before_the_stored_one_is_outdated_and_no_failure(
    world: World,
) -> None:
    load(world, **GIVEN)
    imported = load(world, **(GIVEN | {"observed_at": "2026-01-09T00:00:00Z", "plan": "starter"}))
    assert (imported.counts, imported.failures) == ({"outdated": 1}, [])
    assert str(imported) == "0 new, 0 changed, 0 unchanged, 1 outdated"
    assert world.services.subscriptions.get("1").plan == "pro"
    outdated = GIVEN | {"user_id": "1", "observed_at": "2026-01-09T00:00:00Z"}
    other = outdated | {"user_id": "2", "timezone": "Asia/Tokyo", "eligible_from": NEW_YEAR}
    assert len(warnings_of(world, outdated, other | {"ends_at": ""})) == 1, "the next row is read"


def test_what_was_observed_ahead_of_the_clock_is_refused(world: World) -> None:
    (problem,) = SUBSCRIPTIONS.check(
        world.services, text(observed_at="2026-02-01T00:00:00Z")
    ).problems
    assert problem.field == "observed_at"


def test_a_local_date_is_the_midnight_where_the_user_lives(world: World) -> None:
    for user_id, timezone in (("1", "Asia/Tokyo"), ("2", "America/New_York")):
        load(world, user_id=user_id, timezone=timezone, eligible_from="2026-02-01")
    world.zones |= {"Asia/Tokyo", "America/New_York"}
    world.allocate_at("2026-01-31T15:00:00Z")
    world.allocate_at("2026-02-01T05:00:00Z")
    assert [len(world.history(user_id)) for user_id in ("1", "2")] == [1, 1]


def test_what_an_import_makes_due_is_posted_with_it(world: World) -> None:
    world.now = at("2026-01-20T12:00:00Z")
    load(world, eligible_from="2026-01-01")
    assert world.summary("1") == [("allocation", 500, 500)]


# --- Midnights of UTC -----------------------------------------------------------------------------


def warnings_of(world: World, *rows: dict[str, str]) -> list[str]:
    described = [REQUIRED | {"user_id": str(place)} | row for place, row in enumerate(rows)]
    lines = [",".join(described[0]), *(",".join(row.values()) for row in described)]
    checked = SUBSCRIPTIONS.check(world.services, "\n".join(lines))
    assert checked.problems == []
    return checked.warnings


NEW_YEAR = "2027-01-01T00:00:00Z"


def test_a_midnight_of_utc_that_costs_a_month_is_said_for_each_zone(world: World) -> None:
    zones = ("Europe/Berlin", "Asia/Tokyo", "Europe/Berlin", "UTC", "America/New_York")
    rows = [{"timezone": zone, "eligible_from": NEW_YEAR} for zone in zones]
    said = (
        "eligible_from 2027-01-01T00:00:00Z is {} there on 2027-01-01, so that the first month is "
        "2027-02. If 2027-01 is meant, write 2027-01-01, the midnight where the user lives."
    )
    assert warnings_of(world, *rows) == [
        f"Asia/Tokyo, 1 row: {said.format('09:00')}",
        f"Europe/Berlin, 2 rows: {said.format('01:00')}",
    ]
    # A start at the midnight of the zone itself is not to blame.
    (warning,) = warnings_of(world, rows[1] | {"started_at": "2026-12-31T15:00:00Z"})
    assert warning == f"Asia/Tokyo, 1 row: {said.format('09:00')}"


def test_a_midnight_of_utc_can_cost_a_month_of_the_past_as_long_as_that_is_made_good(
    world: World,
) -> None:
    assert world.now.month == 1
    tokyo = {"timezone": "Asia/Tokyo", "started_at": "2020-01-20T12:00:00Z"}
    (warning,) = warnings_of(world, tokyo | {"eligible_from": "2025-02-01T00:00:00Z"})
    assert "that the first month is 2025-03. If 2025-02 is meant, write 2025-02-01" in warning
    assert warnings_of(world, tokyo | {"eligible_from": "2025-01-01T00:00:00Z"}) == []


def test_a_midnight_of_utc_that_costs_an_anniversary_or_moves_its_day_is_said(world: World) -> None:
    """In Berlin it is 01:00 on the 15th, in New York it is the evening of the 14th."""
    own = replace(world.services.catalogue.get("pro"), id="gold", lowest=True)
    world.services.catalogue = PlanCatalogue((replace(own, allocate_on=AllocateOn.ANNIVERSARY),))
    start = {"started_at": "2027-01-15T00:00:00Z", "plan": "gold"}
    rows = [{"timezone": zone, **start} for zone in ("Europe/Berlin", "America/New_York", "UTC")]
    berlin, york = sorted(warnings_of(world, *rows), reverse=True)
    assert berlin.startswith("Europe/Berlin, 1 row: started_at 2027-01-15T00:00:00Z is 01:00")
    assert "If 2027-01 is meant, write 2027-01-15T00:00:00+01:00" in berlin
    assert york.startswith(
        "America/New_York, 1 row: started_at 2027-01-15T00:00:00Z is 19:00 there on 2027-01-14, so"
    )
    assert "If 2027-01 is meant, write 2027-01-15T00:00:00-05:00" in york
    lapsed = dict.fromkeys(("started_at", "eligible_from"), "2020-01-15T00:00:00Z")
    assert warnings_of(world, rows[1] | lapsed) == []


@pytest.mark.parametrize(
    ("column", "months"),
    [
        ("started_at", "the first month is 2027-02. If 2027-01 is meant"),
        ("ends_at", "the last month is 2027-01. If 2026-12 is meant"),
    ],
)
def test_a_start_and_an_end_at_the_midnight_of_utc_are_said_with_the_local_one(
    world: World, column: str, months: str
) -> None:
    (warning,) = warnings_of(world, {"timezone": "Asia/Tokyo", column: NEW_YEAR})
    assert warning == (
        f"Asia/Tokyo, 1 row: {column} 2027-01-01T00:00:00Z is 09:00 there on 2027-01-01, so that "
        f"{months}, write 2027-01-01T00:00:00+09:00."
    )
    world.now = at(NEW_YEAR)
    over = {"timezone": "Asia/Tokyo", "eligible_from": "2026-06-02", "ends_at": NEW_YEAR}
    assert warnings_of(world, over) == []


@pytest.mark.parametrize(
    "row",
    [
        {"eligible_from": "2027-01-01"},
        {"eligible_from": "2026-12-31T15:00:00Z"},  # its own midnight
        {"eligible_from": "2027-01-02T00:00:00Z"},  # February either way
        {"eligible_from": "2027-01-01T00:00:01Z"},
        {"eligible_from": NEW_YEAR, "started_at": "2027-01-20T00:00:00Z"},
        {"eligible_from": NEW_YEAR, "status": "paused"},
        {"eligible_from": NEW_YEAR, "billing_interval": "monthly"},
        {"eligible_from": "2020-01-01T00:00:00Z"},  # lapsed either way
        {"started_at": "2026-01-01T00:00:00Z"},  # registered after it
        {"ends_at": "2026-01-01T00:00:00Z"},  # over
        {"ends_at": "2026-12-31T15:00:00Z"},
        {"eligible_from": "2027-01-01T00:30:00Z"},
    ],
)
def test_where_no_other_month_can_be_meant_nothing_is_said(
    world: World, row: dict[str, str]
) -> None:
    assert warnings_of(world, {"timezone": "Asia/Tokyo"} | row) == []


def test_a_file_that_repeats_what_is_stored_is_not_warned_of_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"user_id": "1", "timezone": "Asia/Tokyo", "eligible_from": NEW_YEAR}
    assert len(warnings_of(world, row)) == 1
    load(world, **row)
    never_consistent(world, monkeypatch)
    assert warnings_of(world, row) == []
    assert warnings_of(world, row | {"plan": "business"}) == []


@pytest.mark.parametrize(
    ("stored", "column", "value"),
    [
        ({"timezone": "UTC", "ends_at": NEW_YEAR}, "timezone", "Asia/Tokyo"),
        ({"timezone": "Asia/Tokyo", "ends_at": ""}, "ends_at", NEW_YEAR),
        ({"timezone": "Asia/Tokyo"}, "started_at", NEW_YEAR),
        ({"timezone": "Asia/Tokyo", "eligible_from": ""}, "eligible_from", NEW_YEAR),
    ],
)
def test_a_change_of_anything_that_moves_a_month_is_warned_of(
    world: World, stored: dict[str, str], column: str, value: str
) -> None:
    load(world, **stored)
    (warning,) = warnings_of(world, {"user_id": "1"} | stored | {column: value})
    assert warning.startswith("Asia/Tokyo, 1 row: ")
