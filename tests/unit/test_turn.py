"""The turn of a month: who is due in it, by the subscription as it is now, and where it is."""

from dataclasses import replace

import pytest

from chalicelib.domain.calendar import Period, zone_names
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.lifetimes import Days
from infra.deployment import packaging
from infra.local.month import instants_of_start, is_due, latest_period, places
from infra.local.turn import EXPIRY_TURN_AFTER
from tests.registered import register

JULY = Period(2026, 7)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"plan": "gone"}, False), ({"timezone": "Mars/Base"}, False)],
)
def test_each_user_is_due_or_not_and_an_unknown_plan_or_timezone_is_not_due(
    changes: dict[str, str], *, expected: bool
) -> None:
    catalogue = packaging.catalogue()
    values = {
        "user_id": "1",
        "email": "1@example.com",
        "timezone": "Europe/Paris",
        "plan": "business",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2026-06-01T00:00:00Z",
    }
    user = register(values, catalogue, parse_instant("now", "2026-06-01T00:00:00Z"))
    assert is_due(replace(user, **changes), catalogue, JULY) is expected  # type: ignore[arg-type]


def test_the_expiry_turn_is_when_credits_of_the_lowest_plan_end() -> None:
    (lowest,) = [plan for plan in packaging.catalogue().plans if plan.lowest]
    assert lowest.credit_lifetime == Days(EXPIRY_TURN_AFTER)


def test_the_month_that_has_begun_last_is_the_one_of_the_first_zone() -> None:
    # It begins in Kiritimati, 14 hours ahead of Greenwich.
    for now, month in (("2026-06-30T09:59:59Z", 6), ("2026-06-30T10:00:00Z", 7)):
        assert latest_period(parse_instant("now", now)) == Period(2026, month)


def test_a_midnight_is_named_by_cities_those_with_most_users_first_and_each_once() -> None:
    newfoundland = {"America/St_Johns", "Canada/Newfoundland"}
    assert places(newfoundland, {}) == (["America/St_Johns"], 0)
    argentina = {"America/Buenos_Aires", "America/Argentina/Buenos_Aires", "America/Sao_Paulo"}
    assert places(argentina, {"America/Sao_Paulo": 2, "Brazil/East": 9}).zones == [
        "America/Sao_Paulo",
        "America/Argentina/Buenos_Aires",
    ]
    stations = {"Antarctica/McMurdo", "Pacific/Auckland", "NZ"}
    assert places(stations, {}).zones == ["Pacific/Auckland", "Antarctica/McMurdo"]
    many = {f"Europe/{letter}" for letter in "abcdefg"}
    assert places(many, {"Europe/g": 1}) == (["Europe/g", "Europe/a", "Europe/b", "Europe/c"], 3)


def test_no_midnight_is_named_by_a_fixed_zone_where_there_is_a_city() -> None:
    """Etc/GMT-14 is 14 hours ahead of Greenwich: its name says the opposite."""
    starts = instants_of_start(JULY, zone_names())
    named = {at: places(zones, dict.fromkeys(zones, 1)).zones for at, zones in starts.items()}
    without_a_city = {at: zones for at, zones in named.items() if "Etc/GMT+12" in zones}
    assert named[min(named)] == ["Pacific/Kiritimati"]
    # No city is 12 hours behind Greenwich.
    assert [*without_a_city.items()] == [(max(named), ["Etc/GMT+12"])]
    others = [zone for at, zones in named.items() if at not in without_a_city for zone in zones]
    assert [zone for zone in others if "/" not in zone or zone.startswith("Etc/")] == []
