"""Plans whose months begin on anniversaries, or that grant to monthly subscriptions, end to end."""

import json

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.jobs import completeness
from chalicelib.messages.work import Sweep
from chalicelib.operations import allocations
from chalicelib.plans_file import parse_catalogue
from tests.aws.api import ADMIN, Api, user
from tests.aws.world import World, at

FIRST = """
[[plans]]
id = "pro"
name = "Pro"
monthly_credits = 500
lowest = true
"""
OWN = f'{FIRST}allocate_on = "anniversary"\n'
BOTH = f'{OWN}\n[[plans]]\nid = "plain"\nname = "Plain"\nmonthly_credits = 100\n'
PARIS = "Europe/Paris"


@pytest.fixture
def world(world: World) -> World:
    world.services.catalogue = parse_catalogue(OWN)
    return world


def sweeps(world: World) -> list[tuple[str, int | None]]:
    found = [Sweep.parse(body) for body in world.take("sweeps")]
    return sorted((sweep.timezone, sweep.day) for sweep in found)


# --- Ticks --------------------------------------------------------------------------------------


def test_a_tick_sweeps_the_day_that_begins_and_at_the_end_of_a_month_all_later_ones(
    world: World,
) -> None:
    world.subscribe("1")
    for time, days in (
        ("2026-02-14T23:00:00Z", [15, 14, 13, 12, 11, 10, 9, 8]),
        ("2026-04-29T22:00:00Z", [31, 30, 29, 28, 27, 26, 25, 24, 23]),
        ("2026-02-27T23:00:00Z", [31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21]),
        ("2026-02-28T23:15:00Z", [1]),
        ("2026-02-28T23:30:00Z", []),
    ):
        world.allocation_tick(time)
        assert sweeps(world) == sorted((PARIS, day) for day in days), time


def test_a_catalogue_without_anniversaries_starts_no_other_sweeps_than_ever(world: World) -> None:
    world.subscribe("1")
    world.services.catalogue = parse_catalogue(FIRST)
    world.allocation_tick("2026-02-14T23:00:00Z")
    assert sweeps(world) == []
    world.allocation_tick("2026-02-28T23:00:00Z")
    (body,) = world.take("sweeps")
    assert "day" not in json.loads(body)


def test_a_catalogue_with_both_sweeps_for_both_and_one_of_anniversaries_only_for_these(
    world: World,
) -> None:
    world.subscribe("1")
    world.allocation_tick("2026-02-28T23:00:00Z")
    of_anniversaries = sweeps(world)
    assert (PARIS, 1) in of_anniversaries
    assert (PARIS, None) not in of_anniversaries
    world.services.catalogue = parse_catalogue(BOTH)
    world.allocation_tick("2026-02-28T23:00:00Z")
    bodies = [json.loads(body) for body in world.take("sweeps")]
    assert len(bodies) == len(of_anniversaries) + 1
    assert sum("day" not in body for body in bodies) == 1


def test_a_day_that_a_zone_skipped_has_its_anniversaries_when_the_next_begins() -> None:
    """Samoa had no 30 December 2011."""
    start = calendar.midnight("Pacific/Apia", calendar.Period(2011, 12).date_of(31))
    assert calendar.anniversaries_at("Pacific/Apia", start) == [30, 31]
    assert calendar.period_start("Pacific/Apia", Period(2011, 12), 30) == start


# --- Allocations --------------------------------------------------------------------------------


def test_credits_come_at_midnight_of_the_day_of_the_start_to_those_whose_it_is(
    world: World,
) -> None:
    world.services.catalogue = parse_catalogue(BOTH)
    world.subscribe("1", started_at="2025-05-14T23:30:00Z")  # the 15th in Paris
    world.subscribe("2", started_at="2025-05-16T12:00:00Z", eligible_from="2026-02-01")
    world.subscribe("3", started_at="2025-05-15T12:00:00Z", plan="plain")
    world.allocate_at("2026-01-31T23:00:00Z")
    assert [world.balance(who) for who in "123"] == [0, 0, 100]
    world.allocate_at("2026-02-14T23:00:00Z")
    assert [world.balance(who) for who in "123"] == [500, 0, 100]
    (entry,) = world.history("1")
    assert entry.effective_at == entry.posted_at == at("2026-02-14T23:00:00Z")
    assert str(entry.allocated_through) == "2026-02"
    world.allocate_at("2026-02-14T23:15:00Z")
    world.allocate_at("2026-02-15T23:00:00Z")
    assert [world.balance(who) for who in "123"] == [500, 500, 100]
    world.allocate_at("2026-02-28T23:00:00Z")
    assert [world.balance(who) for who in "123"] == [500, 500, 200]


def test_the_31st_comes_at_the_end_of_april_and_back_on_the_31st_of_may(world: World) -> None:
    world.subscribe("1", started_at="2025-01-31T12:00:00Z", eligible_from="2026-03-01")
    for time in ("2026-03-30T22:00:00Z", "2026-04-29T22:00:00Z", "2026-05-29T22:00:00Z"):
        world.allocate_at(time)
    assert [str(entry.allocated_through) for entry in world.history()] == ["2026-03", "2026-04"]
    world.allocate_at("2026-05-30T22:00:00Z")
    assert str(world.history()[-1].allocated_through) == "2026-05"


def test_what_a_day_missed_a_later_re_sweep_makes_good(world: World) -> None:
    world.subscribe("1", started_at="2025-01-15T12:00:00Z")
    world.allocate_at("2026-02-20T23:00:00Z")
    assert [entry.effective_at for entry in world.history()] == [at("2026-02-14T23:00:00Z")]


def test_an_anniversary_of_very_many_users_is_swept_in_ranges(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from chalicelib.jobs import sweeps as jobs
    from chalicelib.messages.work import SweepKind

    monkeypatch.setattr(jobs, "USERS_A_PAGE", 2)
    monkeypatch.setattr(jobs, "USERS_A_RANGE", dict.fromkeys(SweepKind, 3))
    users = [str(number) for number in range(12)]
    for who in users:
        world.subscribe(who, started_at="2025-01-15T12:00:00Z")
    world.subscribe("other", started_at="2025-01-16T12:00:00Z")
    world.allocate_at("2026-02-14T23:00:00Z")
    assert {world.balance(who) for who in users} == {500}
    assert world.balance("other") == 0


def test_another_plan_or_another_day_neither_repeats_a_month_nor_loses_one(world: World) -> None:
    """A deployment moves the months to the 1st on the 10th of February, and back on 10 March."""
    world.subscribe("1", started_at="2025-01-15T12:00:00Z")
    world.subscribe("2", started_at="2025-01-05T12:00:00Z")
    world.allocate_at("2026-02-05T23:00:00Z")
    world.services.catalogue = parse_catalogue(FIRST)
    world.now = at("2026-02-10T12:00:00Z")
    allocations.start_run(world.services, Period(2026, 2), [PARIS])
    world.drain()
    world.allocate_at("2026-02-28T23:00:00Z")
    world.services.catalogue = parse_catalogue(OWN)
    for time in ("2026-03-04T23:00:00Z", "2026-03-14T23:00:00Z", "2026-04-14T22:00:00Z"):
        world.allocate_at(time)
    for who in "12":
        periods = [str(entry.allocated_through) for entry in world.history(who)]
        assert periods == ["2026-02", "2026-03", *(["2026-04"] if who == "1" else [])]


# --- Runs by hand, previews, counts -------------------------------------------------------------


def test_a_run_of_a_period_is_for_all_of_it_that_has_begun(world: World, api: Api) -> None:
    world.services.catalogue = parse_catalogue(BOTH)
    world.subscribe("1", started_at="2025-01-15T12:00:00Z")
    world.subscribe("2", started_at="2025-01-20T12:00:00Z")
    world.subscribe("3", plan="plain")
    world.now = at("2026-02-18T12:00:00Z")
    for who in "123":  # not for what was before
        world.subscribe(who, eligible_from="2026-02-01")
    body = {"period": "2026-02", "zones": [PARIS]}
    route = "/api/credits/allocation-runs"
    preview = api.post(route, ADMIN, {**body, "dry_run": True}).json
    due = sorted((item["user_id"], item["allocation_period"]) for item in preview["items"])
    assert due == [("1", "2026-02"), ("3", "2026-02")]
    assert api.post(route, ADMIN, body).status == 202
    world.drain()
    assert [world.balance(who) for who in "123"] == [500, 0, 100]
    world.now = at("2026-02-20T12:00:00Z")
    assert api.post(route, ADMIN, body).status == 202
    world.drain()
    assert [world.balance(who) for who in "123"] == [500, 500, 100]


def test_a_run_of_a_month_that_is_over_grants_nothing_of_the_next(world: World) -> None:
    for who, day in (("1", 1), ("15", 15), ("31", 31)):
        world.subscribe(who, started_at=f"2025-01-{day:02}T12:00:00Z", eligible_from="2026-02-01")
    world.now = at("2026-03-31T12:00:00Z")
    allocations.start_run(world.services, Period(2026, 2), [PARIS])
    world.drain()
    for who in ("1", "15", "31"):
        assert [str(entry.allocated_through) for entry in world.history(who)] == ["2026-02"]


def counted(world: World, period: str) -> list[dict[str, int]]:
    folder = f"completeness/{period}/"
    keys = [key for key in world.services.reports.keys(folder) if key.endswith("summary.json")]
    found = [json.loads(world.services.reports.get(key)) for key in keys]
    return [{name: each[name] for name in ("due", "allocated", "missing")} for each in found]


def test_a_count_is_of_the_anniversaries_that_have_begun(world: World) -> None:
    for who, day in (("1", 1), ("15", 15), ("16", 16), ("28", 28)):
        world.subscribe(who, started_at=f"2025-01-{day:02}T12:00:00Z")
    world.allocate_at("2026-02-14T23:00:00Z")
    world.now = at("2026-02-16T12:00:00Z")
    assert completeness.start_checks(world.services, {"period": "2026-02", "zones": [PARIS]})
    world.drain()
    assert counted(world, "2026-02") == [{"due": 3, "allocated": 1, "missing": 2}]


@pytest.mark.parametrize("text", [FIRST, OWN])
def test_the_schedule_counts_the_month_before_too_where_there_are_anniversaries(
    world: World, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    zones = (PARIS, "UTC")
    monkeypatch.setattr(calendar, "zone_names", lambda: zones)
    world.services.catalogue = parse_catalogue(text)
    world.subscribe("31", started_at="2025-01-31T12:00:00Z", eligible_from="2026-02-01")
    world.now = at("2026-03-02T13:30:00Z")
    event = {"detail-type": "Scheduled Event", "time": "2026-03-02T13:30:00Z"}
    answer = completeness.start_checks(world.services, event)
    assert answer["period"] == "2026-03"
    assert answer["zones"] == 2
    found = [json.loads(body) for body in world.take("checks")]
    periods = {body["period"] for body in found}
    assert periods == ({"2026-02", "2026-03"} if text == OWN else {"2026-03"})
    assert sum(body["timezone"] == "unknown" for body in found) == 1
    for body in found:
        if body["timezone"] == PARIS:
            body["zones"] = 1
            world.put_back("checks", [json.dumps(body)])
    world.drain()
    if text == OWN:
        assert counted(world, "2026-02") == [{"due": 1, "allocated": 0, "missing": 1}]
        assert counted(world, "2026-03") == [{"due": 0, "allocated": 0, "missing": 0}]


# --- The schedule -------------------------------------------------------------------------------


def test_the_schedule_and_the_plans_say_when_credits_come(world: World, api: Api) -> None:
    world.subscribe("1", started_at="2025-01-31T12:00:00Z")
    world.now = at("2026-04-05T12:00:00Z")
    world.subscribe("1", eligible_from="2026-04-01")
    schedule = api.get("/api/credits/allocation-schedule", user()).json
    assert schedule["next_allocation_date"] == "2026-04-30"
    assert schedule["next_allocation_at"] == "2026-04-29T22:00:00Z"
    (plan,) = api.get("/api/plans", user()).json["plans"]
    assert plan["allocate_on"] == "anniversary"
    assert plan["billing_intervals"] == ["yearly"]
    assert plan["yearly_since"] is plan["monthly_since"] is plan["credit_lifetime_months"] is None


# --- Lifetimes in months ------------------------------------------------------------------------


def test_use_it_or_lose_it_credits_are_booked_out_when_the_next_ones_come(world: World) -> None:
    text = f"{OWN}credit_lifetime_months = 1\n"
    world.services.catalogue = parse_catalogue(text)
    world.subscribe("1", started_at="2025-01-31T12:00:00Z", eligible_from="2026-02-01")
    for time in ("2026-02-27T23:00:00Z", "2026-03-30T22:00:00Z"):
        world.now = at(time)
        world.expire_at(time)
        world.allocate_at(time)
        assert world.balance() == 500
    assert world.summary() == [
        ("allocation", 500, 500),
        ("expiration", -500, 0),
        ("allocation", 500, 500),
    ]
    world.now = at("2026-04-10T12:00:00Z")
    assert world.grant("1", 7, "a")["success"]
    event = {"user_id": "1", "amount": 5, "description": "Goodwill", "actor": "ada"}
    from chalicelib.jobs import manual

    answer = manual.manual_allocate(
        world.services, {**event, "idempotency_key": "b"}, world.context
    )
    assert answer["success"]
    granted = world.history()[-1].granted_batch
    assert granted is not None
    assert granted.expires_at == at("2026-04-29T22:00:00Z"), "it lives as the plan's credits do"


# --- Monthly subscriptions ----------------------------------------------------------------------

MONTHLY = FIRST + 'billing_intervals = ["yearly", "monthly"]\nmonthly_since = 2026-03-10\n'


def test_monthly_subscriptions_are_granted_what_begins_after_their_plan_began_to_pay_them(
    world: World,
) -> None:
    world.services.catalogue = parse_catalogue(FIRST)
    world.subscribe("m", billing_interval="monthly", eligible_from="2026-01-01")
    world.subscribe(
        "own", billing_interval="monthly", allocation_amount=7, started_at="2025-01-01T00:00:00Z"
    )
    world.subscribe("y", eligible_from="2026-03-01")
    # An outage: nobody is granted March.
    world.services.catalogue = parse_catalogue(MONTHLY)
    world.allocate_at("2026-03-31T22:00:00Z")
    assert [str(entry.allocated_through) for entry in world.history("m")] == ["2026-04"]
    assert [entry.amount for entry in world.history("own")] == [7]
    periods = [str(entry.allocated_through) for entry in world.history("y")]
    assert periods == ["2026-03", "2026-04"], "yearly ones lose nothing by it"


def test_a_plan_for_monthly_subscriptions_only_says_so_to_yearly_ones(
    world: World, api: Api
) -> None:
    world.services.catalogue = parse_catalogue(FIRST + 'billing_intervals = ["monthly"]\n')
    world.subscribe("1")
    world.allocate_at("2026-01-31T23:00:00Z")
    schedule = api.get("/api/credits/allocation-schedule", user()).json
    assert schedule["not_allocated_because"] == {
        "code": "billed_yearly",
        "words": "The plan grants nothing to yearly subscriptions.",
    }
    assert world.history("1") == []


def test_of_a_plan_that_is_gone_monthly_subscriptions_are_owed_only_where_any_plan_pays_them(
    world: World,
) -> None:
    """So a catalogue that pays nobody monthly has no more dead letters than before."""
    world.services.catalogue = parse_catalogue(BOTH)
    world.subscribe("1", plan="plain", billing_interval="monthly")
    for text, fails in ((FIRST, False), (MONTHLY, True)):
        world.services.catalogue = parse_catalogue(text)
        world.allocation_tick("2026-03-31T22:00:00Z")
        world.deliver_waiting("sweeps")
        bodies = world.take("allocations")
        assert bool(world.deliver("allocations", bodies)) is fails
