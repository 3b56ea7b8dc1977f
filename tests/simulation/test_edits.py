"""Chains of edits and of catalogues, and nothing else: what is due is what the reference says."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, due_periods, due_top_up
from chalicelib.domain.terms import FIELDS
from chalicelib.plans_file import parse_catalogue
from tests.registered import register
from tests.simulation import reference
from tests.simulation.drawn import OTHERS, PLANS
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
    st.tuples(st.just(DEPLOYED), st.sampled_from((0, 10, None))),
    st.tuples(st.just(DEPLOYED), st.sampled_from(("pro anniversary", "free anniversary"))),
    st.tuples(st.just(DEPLOYED), st.sampled_from(("pro first", "pro monthly", "pro yearly"))),
    st.tuples(st.just("started_at"), st.integers(-20, -1).map(timedelta)),
)
"""One field and its value, a moment as so far from now; or what is deployed of a plan: what the
free one grants, if any, when months begin, or who is paid."""

steps = st.lists(st.tuples(st.sampled_from((0, 1, 45, 150)), changes), min_size=3, max_size=9)
"""After how many days what changes."""


def with_free(plans: reference.Plans, amount: int | None, now: datetime) -> reference.Plans:
    """The catalogue in which the free plan grants an amount, if it begins to, since today.

    None: the plan is gone. It comes back as it was shipped.
    """
    free = dict(plans.get("free", PLANS["free"]))
    others = {name: plan for name, plan in plans.items() if name != "free"}
    if amount is None:
        return others
    if amount and not free["monthly_credits"]:
        free["grants_since"] = now.date()
    return {**others, "free": {**free, "monthly_credits": amount}}


def with_change(plans: reference.Plans, change: str, now: datetime) -> reference.Plans:
    """The catalogue in which months of a plan begin otherwise, or it pays others, since today."""
    name, what = change.split()
    if name not in plans:
        return plans
    plan = dict(plans[name])
    if what in ("anniversary", "first"):
        plan["allocate_on"] = "anniversary" if what == "anniversary" else None
    else:
        paid = plan.get("billing_intervals") or ["yearly"]
        if what not in paid:
            plan["billing_intervals"] = [*paid, what] if what == "monthly" else [what]
            plan[f"{what}_since"] = now.date()
        if what == "yearly":
            plan["billing_intervals"], plan["monthly_since"] = ["yearly"], None
    return {**plans, name: plan}


NEAR = ("2025-01-31", "2025-01-28", "2025-01-20", "2025-01-15", "2025-01-10", "2025-01-05")
moves: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("status"), st.sampled_from(("active", "paused", "active"))),
    st.tuples(st.just("started_at"), st.sampled_from(NEAR).map(lambda day: at(f"{day}T12:00:00Z"))),
    st.tuples(st.just("plan"), st.sampled_from(("free", "pro"))),
    st.tuples(st.just(DEPLOYED), st.sampled_from(("pro anniversary", "pro first"))),
    st.tuples(st.just("timezone"), st.sampled_from(ZONES)),
    st.tuples(st.just("ends_at"), st.none() | spans),
)
"""What moves the day on which a user's months begin, and what keeps them from being given."""

days_apart = st.lists(st.tuples(st.sampled_from((1, 4, 9, 20)), moves), min_size=4, max_size=12)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(days_apart)
def test_wherever_the_day_of_the_month_moves_what_is_due_is_what_the_reference_says(
    story: list[tuple[int, tuple[str, Any]]],
) -> None:
    _follow(story, with_change({**PLANS, "free": OTHERS["pro"]}, "pro anniversary", NOW))


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(steps)
def test_after_any_edits_what_is_due_is_what_the_reference_says(
    story: list[tuple[int, tuple[str, Any]]],
) -> None:
    _follow(story, PLANS)


NOW = at("2026-01-15T12:00:00Z")


@cache
def parsed(text: str) -> PlanCatalogue:
    """A catalogue; many stories deploy the same ones."""
    return parse_catalogue(text)


def _follow(story: list[tuple[int, tuple[str, Any]]], plans: reference.Plans) -> None:
    """Both are told the same story, and asked after each step what is due."""
    now = NOW
    reference.deploy(plans)
    catalogue = parsed(catalogue_text(plans))
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
            deployed = with_change if isinstance(drawn, str) else with_free
            plans = deployed(plans, drawn, now)
            reference.deploy(plans, now)
            catalogue = parsed(catalogue_text(plans))
        elif name == "plan" and drawn not in plans:
            continue
        else:
            value = now + drawn if isinstance(drawn, timedelta) else drawn
            sent = reference.show(value) if isinstance(value, date) else value
            product = register(
                {"user_id": "ada", name: sent}, catalogue, now, product, kept=FIELDS - {name}
            )
            told = told.edited(now, {name: value})
        if told.is_stranded:
            with pytest.raises(InvalidInput, match="plan"):
                due_periods(product, catalogue, None, now, now)
            continue
        due = due_periods(product, catalogue, None, now, now)
        assert [str(period) for period in due] == told.due(None, now, now)
        _compare_steps(product, told, catalogue)


def _compare_steps(
    product: Subscription, told: reference.Subscription, catalogue: PlanCatalogue
) -> None:
    """What steps up came to, and the first and the last that are owed on top of their month."""
    raised, right = product.raised, told.raised
    assert (raised is None) == (right is None)
    if raised is None or right is None:
        return
    found = (str(raised.period), raised.level, raised.top_ups)
    assert found == (right.period, right.level, right.steps)
    for latest in (None, *(moment for _, moment in right.steps)):
        owed = due_top_up(product, catalogue, raised.period, latest)
        ledger: Any = SimpleNamespace(through=right.period, stepped_at=latest)
        assert owed == told.step_due(ledger)


ups: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("plan"), st.sampled_from(("starter", "pro", "business"))),
    st.tuples(st.just("plan"), st.sampled_from(("pro", "business", "free"))),
    st.tuples(st.just("allocation_amount"), st.sampled_from((None, None, 150, 700))),
    st.tuples(st.just("status"), st.sampled_from(("active", "paused", "active"))),
    st.tuples(st.just("timezone"), st.sampled_from(ZONES)),
    st.tuples(st.just("started_at"), st.sampled_from((-400, -20, 3)).map(timedelta)),
    st.tuples(st.just("ends_at"), st.none() | spans),
    st.tuples(st.just(DEPLOYED), st.sampled_from(("pro anniversary", "business anniversary"))),
)
"""What makes the monthly amount another, and what takes back what that brings."""

days_between = st.lists(st.tuples(st.sampled_from((0, 0, 1, 9, 20)), ups), min_size=4, max_size=12)


@settings(max_examples=600, deadline=None, derandomize=True)
@given(days_between)
def test_after_any_steps_up_and_down_what_they_bring_is_what_the_reference_says(
    story: list[tuple[int, tuple[str, Any]]],
) -> None:
    paying = {"on_plan_change": "difference"}
    _follow(story, {**PLANS, **{name: {**PLANS[name], **paying} for name in ("pro", "business")}})


def test_an_edit_whose_clock_was_ahead_is_judged_by_the_catalogue_it_knew() -> None:
    now = at("2026-02-01T00:00:00Z")
    without_free = with_free(PLANS, None, now)
    reference.deploy(without_free)
    told = reference.Subscription(
        **{**VALUES, "plan": "free"},
        email=None,
        started_at=at("2025-01-05T00:00:00Z"),
        registered_at=at("2026-01-15T12:00:00Z"),
        eligible_from=at("2026-01-15T12:00:00Z"),
        known_since=at("2026-01-15T12:00:00Z"),
    ).edited(now + timedelta(seconds=2), {"allocation_amount": 1})
    reference.deploy(PLANS, now + timedelta(seconds=1))
    # What the free plan owed nobody could say when February began; and now it owes one.
    assert told.due(None, now, now + timedelta(seconds=3)) == ["2026-02"]
