"""First credits at a sign-up, through the API, the import and the sweeps: once, and as decided."""

from unittest.mock import patch

import pytest

from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Contention, Unreadable
from chalicelib.domain.plans import OnSignup
from chalicelib.domain.subscriptions import SignUp
from chalicelib.store.ledger import LedgerStore
from chalicelib.store.subscriptions import read_subscription
from infra.deployment import stage_services
from infra.imports.importing import import_rows
from infra.imports.subscriptions import SUBSCRIPTIONS
from tests.aws.api import ADMIN, BACKEND, Api, user
from tests.aws.test_balance_cap import FEBRUARY, HISTORY, RUNS, SCHEDULE
from tests.aws.world import World

PATH = "/api/subscriptions/1"
NEW = {
    "email": "ada@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2026-01-15T11:59:00Z",
}
"""It is noon of 15 January: 17 of 31 days are left, and 500 * 17 / 31 is 274.2."""
HEADER = "user_id,email,timezone,plan,billing_interval,status,started_at"
FILE = f"""{HEADER}
1,ada@example.com,Europe/Paris,pro,yearly,active,2026-01-15T11:59:00Z
2,bob@example.com,Europe/Paris,pro,yearly,active,2025-12-31T22:59:59Z
3,cem@example.com,Europe/Paris,starter,yearly,active,2026-01-15T11:59:00Z
4,dua@example.com,Europe/Paris,pro,yearly,active,2026-01-01T00:00:00Z
"""


@pytest.fixture(autouse=True)
def world(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """The pro plan gives new subscribers the part of the month that is left."""
    monkeypatch.setattr(stage_services, "THREADS", 1)  # the emulator is not safe with more
    world.with_plans("pro", on_signup=OnSignup.PRORATED)
    world.zones.add("Europe/Paris")
    return world


def lose_the_post(api: Api) -> None:
    with patch.object(LedgerStore, "post", side_effect=Contention("too busy")):
        assert api.put(PATH, BACKEND, NEW).status == 201


def test_a_backend_registers_and_the_first_credits_are_there(world: World, api: Api) -> None:
    reply = api.put(PATH, BACKEND, NEW)
    assert (reply.status, reply.json["next_credit_allocation"]) == (201, "2026-02-01")
    assert reply.json["credit_allocation_amount"] == 500
    (item,) = api.get(HISTORY, user()).json["items"]
    told = ("type", "amount", "description", "allocation_period", "effective_at")
    assert [item[name] for name in told] == [
        "allocation",
        275,
        "First credits for 2026-01",
        "2026-01",
        "2026-01-15T12:00:00.250Z",
    ]
    world.allocate_at(FEBRUARY)
    assert [amount for _, amount, _ in world.summary()] == [275, 500]
    world.services.ledger.verify("1")


def test_they_come_once_whatever_is_repeated_or_edited(world: World, api: Api) -> None:
    for body in (NEW, NEW, {**NEW, "plan": "starter"}, {**NEW, "started_at": "2026-01-15T00:00Z"}):
        api.put(PATH, BACKEND, body)
    api.patch(PATH, BACKEND, {"timezone": "America/New_York"})
    zones = ["America/New_York", "Europe/Paris"]
    api.post(RUNS, ADMIN, {"period": "2026-01", "zones": zones})
    world.drain()
    assert world.balance() == 275


def test_those_who_were_there_when_the_plan_changed_get_nothing_at_once(
    world: World, api: Api
) -> None:
    world.with_plans("pro", on_signup=OnSignup.NONE)
    api.put(PATH, BACKEND, NEW)
    world.with_plans("pro", on_signup=OnSignup.FULL)
    api.put(PATH, BACKEND, {**NEW, "email": "eva@example.com"})
    api.post(RUNS, ADMIN, {"period": "2026-01", "zones": ["Europe/Paris"]})
    world.drain()
    assert world.summary() == []


def test_what_could_not_be_posted_is_shown_and_comes_with_the_next_sweep_as_it_was_decided(
    world: World, api: Api
) -> None:
    lose_the_post(api)
    world.with_plans("pro", on_signup=OnSignup.NONE, monthly_credits=600)
    schedule = api.get(SCHEDULE, user()).json
    assert (schedule["next_allocation_date"], schedule["allocation_amount"]) == ("2026-01-01", 275)
    asked = {"period": "2026-01", "zones": ["Europe/Paris"]}
    (item,) = api.post(RUNS, ADMIN, {**asked, "dry_run": True}).json["items"]
    assert (item["allocation_period"], item["amount"]) == ("2026-01", 275)
    world.allocate_at(FEBRUARY)
    assert [amount for _, amount, _ in world.summary()] == [275, 600]
    assert [entry.sign_up for entry in world.history()] == [True, False]


def test_who_registers_again_because_nothing_came_gets_it_then(world: World, api: Api) -> None:
    lose_the_post(api)
    assert api.put(PATH, BACKEND, NEW).status == 200
    assert world.balance() == 275


def test_the_plans_say_what_comes_at_a_sign_up_and_up_to_what_they_fill(
    world: World, api: Api
) -> None:
    world.with_plans("pro", balance_cap=900)
    starter, pro, _ = api.get("/api/plans", user()).json["plans"]
    assert (starter["on_signup"], starter["balance_cap"]) == ("none", None)
    assert (pro["on_signup"], pro["balance_cap"]) == ("prorated", 900)
    assert {starter["on_plan_change"], pro["on_plan_change"]} == {"next_period"}


def test_a_person_who_was_erased_and_registers_again_is_not_given_the_same_month_again(
    world: World, api: Api
) -> None:
    api.put(PATH, BACKEND, NEW)
    world.services.subscriptions.remove("1")
    list(world.services.ledger.erase("1"))
    assert api.put(PATH, BACKEND, NEW).json["next_credit_allocation"] == "2026-02-01"
    assert world.balance() == 275
    # It is another sign-up in another month.
    world.services.subscriptions.remove("1")
    world.now = world.now.replace(month=3)
    api.put(PATH, BACKEND, {**NEW, "started_at": "2026-03-15T11:59:00Z"})
    assert [str(entry.allocated_through) for entry in world.history()] == ["2026-01", "2026-03"]


def test_the_first_credits_are_told_as_such(world: World, api: Api) -> None:
    api.put(PATH, BACKEND, NEW)
    world.queue_mails()
    assert world.send_mails() == []
    (mail,) = world.outbox.sent
    assert mail.subject == "Your first credits are here"
    assert "We added 275 credits for January." in mail.text


def test_first_credits_are_capped_like_others(world: World, api: Api) -> None:
    world.with_plans("pro", balance_cap=200)
    api.put(PATH, BACKEND, NEW)
    (item,) = api.get(HISTORY, user()).json["items"]
    assert (item["amount"], item["left_out_amount"], item["balance_cap"]) == (200, 75, 200)


def test_an_import_says_how_many_new_starters_get_how_much_at_once_and_grants_it(
    world: World,
) -> None:
    checked = SUBSCRIPTIONS.check(world.services, FILE)
    (warning,) = checked.warnings
    assert warning == (
        "2 of the new users started in the month that is running, and are granted 775 credits at "
        "once (on_signup in the plans)"
    )
    in_tokyo = "5,,Asia/Tokyo,pro,yearly,active,2027-01-01T00:00:00Z"
    midnight, again = SUBSCRIPTIONS.check(world.services, f"{FILE}{in_tokyo}\n").warnings
    assert ("Asia/Tokyo, 1 row: started_at" in midnight, again) == (True, warning)
    for _ in range(2):
        assert import_rows(SUBSCRIPTIONS, world.services, checked.good).failures == []
    assert [world.balance(number) for number in "1234"] == [275, 0, 0, 500]
    assert SUBSCRIPTIONS.check(world.services, FILE).warnings == []


def test_of_a_file_of_customers_of_before_an_import_says_nothing(world: World) -> None:
    file = FILE.replace("2026-01-15T11:59:00Z", "2024-01-15T00:00:00Z").rpartition("4,")[0]
    checked = SUBSCRIPTIONS.check(world.services, file)
    assert (checked.problems, checked.warnings) == ([], [])


@pytest.mark.parametrize(
    "text", ["", "2026-01 5", "2026-13 5 1768478340000", "2026-01 0 1", "2026-01 5 -1", "x 5 1"]
)
def test_a_sign_up_that_cannot_be_read_is_named(world: World, text: str) -> None:
    world.subscribe("1", started_at="2026-01-15T11:59:00Z")
    item = world.services.subscriptions.get_many(["1"])["1"]
    assert read_subscription(item).sign_up == SignUp(Period(2026, 1), 275, world.now)
    with pytest.raises(Unreadable, match="sign_up is"):
        read_subscription({**item, "sign_up": {"S": text}})
