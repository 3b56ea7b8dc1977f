"""The show command: what a person at a terminal sees of a user, and programs with --json."""

import json
from datetime import timedelta

import pytest

from chalicelib.operations import holds
from infra import reach
from infra.commands.show import WIDTH, facts_about, main, page
from tests.aws.api import ADMIN, Api
from tests.aws.damage import damage_subscription, having, without
from tests.aws.world import World, client

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _reaches_the_world(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "services_of", lambda *_: world.services)
    world.subscribe("1", plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.now += HOUR
    world.grant("1", 50, "a", description="Goodwill, " + "very long " * 30)
    world.now += HOUR
    holds.hold_credits(world.services, "1", 30, "Crawl", seconds=3600, caller="shop", key="h")
    world.queue_mails()
    world.send_mails()


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 0
    return capsys.readouterr().out


def test_a_user_is_shown_on_a_page_of_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "1").splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert [line.rstrip() for line in lines] == [
        "User 1, as of 2026-02-01 01:00 (all times are UTC)",
        "",
        "Subscription",
        "  plan          starter, yearly, active",
        "  email         user1@example.com",
        "  timezone      Europe/Paris, where it is Sunday 02:00",
        "  started       2025-01-01 00:00",
        "  eligible from 2026-01-15 12:00",
        "  next credits  100 at 2026-02-28 23:00",
        "",
        "Balance  120 available, 30 held, 150 in the ledger",
        "",
        "Batches, in the order of the grants",
        "  batch  left   of  held  granted           expires           source",
        "  1       100  100    30  2026-01-31 23:00  2026-03-02 23:00  plan",
        "  2        50   50     0  2026-02-01 00:00  never             adjustment",
        "",
        "Holds",
        "  hold  amount  ends",
        "  3         30  2026-02-01 02:00",
        "",
        "Last lines, newest first",
        "  #  posted            type        amount  balance  description",
        "  3  2026-02-01 01:00  hold            +0      150  Crawl",
        "  2  2026-02-01 00:00  manual         +50      150  Goodwill, very long very...",
        "  1  2026-01-31 23:00  allocation    +100      100  Monthly credits for 2026-02",
        "",
        "Emails about these lines",
        "  #  state  sent              subject",
        "  2  sent   2026-02-01 01:00  50 credits added to your account",
        "  1  sent   2026-02-01 01:00  Your February credits are here",
        "",
    ]


def test_the_parts_are_those_of_the_api(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    printed = shown(capsys, "1", "--json")
    assert printed.count("\n") == 1
    found = json.loads(printed)
    of_user = "user_id=1"
    assert found["balance"] == api.get(f"/api/credits/balance?{of_user}", ADMIN).json
    assert found["history"] == api.get(f"/api/credits/history?{of_user}", ADMIN).json["items"]
    assert found["emails"] == api.get("/api/subscriptions/1/emails", ADMIN).json["items"]
    subscription = api.get("/api/subscriptions/1", ADMIN).json
    assert found["subscription"].items() <= subscription.items()
    assert found["next_allocation"]["amount"] == subscription["credit_allocation_amount"]


def test_who_gets_no_credits_is_shown_with_the_reason(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.subscribe("1", status="paused", email=None)
    said = shown(capsys, "1")
    reason = json.loads(shown(capsys, "1", "--json"))["not_allocated_because"]
    assert f"  next credits  none: {reason['words']}" in said
    assert "  email         none: they get no emails" in said


def test_a_user_is_found_by_their_address(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--email", "USER1@example.com") == shown(capsys, "1")
    world.subscribe("2", email="user1@example.com")
    assert main(["--email", "user1@example.com"]) == 1
    assert capsys.readouterr().err == (
        "error: EMAIL: belongs to several users; choose one: USER_ID= 1, 2\n"
    )
    assert main(["--email", "nobody@example.com"]) == 1
    assert "Ask for the one of their account" in capsys.readouterr().err
    assert main(["--email", "ada"]) == 1
    assert capsys.readouterr().err.startswith("error: EMAIL: must be an email address")


def test_an_unknown_user_is_an_error_with_the_next_step(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["nobody"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: there is no user nobody")
    assert "make show EMAIL=" in said.err


def test_an_erased_user_still_has_a_ledger(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.services.subscriptions.remove("1")
    said = shown(capsys, "1")
    assert "Subscription  none: erased" in said
    assert "Balance  120 available" in said


def test_a_user_without_entries_is_shown(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.subscribe("2")
    said = shown(capsys, "2")
    assert "Last lines, newest first: none" in said
    assert "Balance  0 available, 0 held, 0 in the ledger" in said


def test_what_cannot_be_read_is_named_and_the_rest_is_shown(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_subscription(without("plan"), "1")
    said = shown(capsys, "1")
    assert "Subscription  CANNOT BE READ: " in said
    assert said.count("CANNOT BE READ") == 1
    assert "Balance  120 available" in said
    world.subscribe("2")
    world.grant("2", 5, "b")
    client("dynamodb").update_item(
        TableName=world.settings.ledger_table,
        Key={"user_id": {"S": "2"}, "entry": {"S": "entry#000000000001"}},
        UpdateExpression="REMOVE body",
    )
    said = shown(capsys, "2")
    assert "  plan          pro, yearly, active" in said
    assert "make verify USER_ID=2" in said
    assert "  next credits  unknown\n" in said
    assert said.count("CANNOT BE READ") == 2, "the emails are about the lines"
    found = json.loads(shown(capsys, "2", "--json"))
    assert all(found[part]["error"] for part in ("balance", "history", "emails"))
    world.subscribe("3")
    damage_subscription(without("plan"), "3")
    assert "Subscription  CANNOT BE READ: " in shown(capsys, "3")


def test_what_few_users_have_is_shown_of_those(world: World) -> None:
    found = facts_about(world.services, "1")
    found["subscription"] |= {
        "mail_suppressed_because": "complaint",
        "timezone": "Mars/Base",
        "eligible_from": "2026-03-01",
        "ends_at": "2026-12-31T23:00:00Z",
        "allocation_amount": 2500,
    }
    found["next_allocation"] = {"at": "2026-02-28T23:00:00Z", "amount": 2500}
    assert page(found)[3:12] == [
        "  plan          starter, yearly, active",
        "  email         user1@example.com (no emails: complaint)",
        "  timezone      Mars/Base, which is UNKNOWN: give the user another",
        "  started       2025-01-01 00:00",
        "  eligible from 2026-03-01",
        "  ends          2026-12-31 23:00",
        "  own amount    2500",
        "  next credits  2,500 at 2026-02-28 23:00",
        "",
    ]


def test_long_lists_are_cut_and_large_amounts_grouped(world: World) -> None:
    found = facts_about(world.services, "1")
    (batch, _), (hold,) = found["balance"]["batches"], found["balance"]["holds"]
    large = {"remaining_amount": 1234, "granted_amount": 5678, "held_amount": 1000, "source": None}
    balance = {"available_balance": 9000, "held_balance": 8000, "ledger_balance": 17000}
    found["balance"] |= balance | {
        "batches": [batch | large] * 20,
        # The ids of users may have hyphens, too.
        "holds": [hold | {"amount": 8000, "hold_id": "f81d4fae-7dec-3"}] * 1021,
    }
    found["history"][0] |= {"amount": -1500, "balance_after": 1_000_000}
    found["history"][0]["effective_at"] = "2020-01-01T00:00:00Z"  # posted late
    found["emails"][0] |= {"sent_at": None, "state": "waiting", "subject": None, "type": "granted"}
    found["as_of"] = "2026-02-01T17:05:00Z"
    lines = [line.rstrip() for line in page(found)]
    assert "  timezone      Europe/Paris, where it is Sunday 18:05" in lines
    assert "Balance  9,000 available, 8,000 held, 17,000 in the ledger" in lines
    row = "  1      1,234  5,678  1,000  2026-01-31 23:00  2026-03-02 23:00"
    assert lines.count(row) == 20
    assert lines.count("  3      8,000  2026-02-01 02:00") == 20
    cut = [line for line in lines if "more; JSON=1 has all" in line]
    assert cut == ["  ... and 1,001 more; JSON=1 has all"]
    assert "  3  2026-02-01 01:00  hold        -1,500  1,000,000  Crawl" in lines
    assert "  2  waiting                    granted" in lines


def test_the_last_ten_lines_are_shown_and_nothing_is_of_before_the_last(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(8):
        world.grant("1", 1, f"g{number}")
    world.now -= HOUR  # another machine's clock is behind
    found = json.loads(shown(capsys, "1", "--json"))
    assert [line["transaction_id"] for line in found["history"]] == [
        f"1-{number}" for number in range(11, 1, -1)
    ]
    assert found["as_of"] == found["balance"]["as_of"] == "2026-02-01T01:00:00Z"


@pytest.mark.parametrize(
    ("field", "why"),
    [
        ("timezone", "The timezone is no longer in the database of timezones."),
        ("plan", "The plan is no longer in the catalogue of plans."),
    ],
)
def test_what_is_no_more_is_why_no_credits_will_come(
    field: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage_subscription(having(field, {"S": "gone"}), "1")
    said = shown(capsys, "1")
    assert f"  next credits  none: {why}\n" in said
    assert "Balance  120 available" in said
    assert ("which is UNKNOWN: give the user another" in said) is (field == "timezone")
