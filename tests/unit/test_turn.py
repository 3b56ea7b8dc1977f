"""Who is due in a turn of a month, by the subscription as it is now."""

from dataclasses import replace

import pytest

from chalicelib.domain.calendar import Period
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.lifetimes import Days
from infra.deployment import packaging
from infra.local.month import is_due
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
