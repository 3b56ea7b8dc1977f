"""Chains of edits and of catalogues, and nothing else: what is due is what the reference says."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.plans import parse_catalogue
from chalicelib.domain.subscriptions import FIELDS, due_periods, register
from tests.simulation import reference
from tests.simulation.drawn import PLANS
from tests.simulation.world import at, catalogue_text

DEPLOYED = "deployed"
VALUES: dict[str, Any] = {
    "user_id": "ada",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
}


@pytest.fixture(autouse=True)
def one_history_a_test() -> Iterator[None]:
    yield
    reference.deploy(reference.SHIPPED)


ZONES = ("Europe/Paris", "Pacific/Kiritimati", "Pacific/Midway")
FIRSTS = st.dates(date(2025, 6, 1), date(2027, 6, 1)).map(lambda day: day.replace(day=1))
spans = st.sampled_from((-400, -100, -45, -10, 0, 3, 45, 200)).map(timedelta)

changes: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("status"), st.sampled_from(("active", "paused"))),
    st.tuples(st.just("status"), st.sampled_from(("active", "cancelled"))),
    st.tuples(st.just("billing_interval"), st.sampled_from(("yearly", "monthly"))),
    st.tuples(st.just("plan"), st.sampled_from(("free", "pro"))),
    st.tuples(st.just("allocation_amount"), st.sampled_from((None, 7))),
    st.tuples(st.just("timezone"), st.sampled_from(ZONES)),
    st.tuples(st.just("started_at"), spans),
    st.tuples(st.just("ends_at"), st.none() | spans),
    st.tuples(st.just("ends_at"), spans),
    st.tuples(st.just("eligible_from"), st.none() | spans | FIRSTS),
    st.tuples(st.just(DEPLOYED), st.sampled_from((0, 10))),
)
"""One field and its value, a moment as so far from now; or how much the free plan grants."""

steps = st.lists(st.tuples(st.sampled_from((0, 1, 45, 150)), changes), min_size=3, max_size=9)
"""After how many days what changes."""


def granting(plans: reference.Plans, amount: int, now: datetime) -> reference.Plans:
    """The catalogue in which the free plan grants an amount; if it begins to, since today."""
    free = dict(plans["free"])
    if amount and not free["monthly_credits"]:
        free["grants_since"] = now.date()
    return {**plans, "free": {**free, "monthly_credits": amount}}


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(steps)
def test_after_any_edits_what_is_due_is_what_the_reference_says(
    story: list[tuple[int, tuple[str, Any]]],
) -> None:
    now, plans = at("2026-01-15T12:00:00Z"), PLANS
    reference.deploy(plans)
    catalogue = parse_catalogue(catalogue_text(plans))
    product = register({**VALUES, "started_at": "2025-01-05T00:00:00Z"}, catalogue, now)
    told = reference.Subscription(
        **VALUES,
        email=None,
        started_at=at("2025-01-05T00:00:00Z"),
        registered_at=now,
        eligible_from=now,
        known_since=now,
    )
    for days, (name, drawn) in story:
        now += timedelta(days)
        if name == DEPLOYED:
            plans = granting(plans, drawn, now)
            reference.deploy(plans, now)
            catalogue = parse_catalogue(catalogue_text(plans))
        else:
            value = now + drawn if isinstance(drawn, timedelta) else drawn
            sent = reference.show(value) if isinstance(value, date) else value
            product = register(
                {"user_id": "ada", name: sent}, catalogue, now, product, kept=FIELDS - {name}
            )
            told = told.edited(now, {name: value})
        due = due_periods(product, catalogue, None, now, now)
        assert [str(period) for period in due] == told.due(None, now, now)
