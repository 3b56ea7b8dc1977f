"""Repair by hand: each command does its one thing, once, and only when somebody says so."""

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from chalicelib.api.principal import caller_of
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import ERASED
from chalicelib.domain.errors import IdempotencyKeyReused
from chalicelib.domain.plans import OnPlanChange, OnSignup
from chalicelib.domain.subscriptions import SuppressedBecause, suppress
from chalicelib.jobs.manual import CALLER
from chalicelib.messages.work import SweepKind, UsersMessage
from chalicelib.operations import on_request
from chalicelib.operations.adjustments import Adjustment, adjust
from chalicelib.operations.holds import End, end_hold, hold_credits
from chalicelib.operations.on_request import CarryOver, Void, void_batch
from chalicelib.store.ledger import Outcome
from infra import reach
from infra.repair import allocate, command, erase, export, redrive, replay, void
from infra.repair.command import Repair, RepairError
from tests.aws.damage import damage_entry, damage_subscription, without
from tests.aws.repair import Main, Terminal
from tests.aws.world import BY_TEST, World, at, client, resources_document

MIDNIGHT = "2026-01-31T23:00:00Z"  # in Paris
FEBRUARY = ("--period", "2026-02")


# Redrive ------------------------------------------------------------------------------------------


def dead_allocation(world: World, *user_ids: str) -> str:
    """A message for the workers that has ended in the dead-letter queue."""
    world.now = max(world.now, at("2026-02-01T00:00:00Z"))
    body = UsersMessage(at(MIDNIGHT), user_ids).body()
    world.put_back("allocations-dlq", [body])
    return body


def test_without_a_queue_all_dead_letter_queues_are_listed(
    world: World, terminal: Terminal
) -> None:
    dead_allocation(world, "1")
    ran = terminal.run(redrive.main, "--json")
    assert ran.status == 0
    assert ran.facts["queues"] == {
        "allocations": 1,
        "expiries": 0,
        "ledger-stream": 0,
        "notifications": 0,
        "sweeps": 0,
    }
    assert "1 messages wait" in ran.said


def test_a_redriven_message_is_done_and_redriving_it_twice_changes_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    body = dead_allocation(world, "1")
    words = ("--queue", "allocations-dlq", "--limit", "99", "--yes", "--json")
    ran = terminal.run(redrive.main, *words)
    assert (ran.status, ran.facts["moved"], ran.facts["waiting"]) == (0, 1, 0)
    world.drain()
    world.put_back("allocations-dlq", [body])
    assert terminal.run(redrive.main, "--queue", "allocations", "--yes").status == 0
    world.drain()
    assert world.summary() == [("allocation", 500, 500)]
    assert world.take("allocations-dlq") == []
    assert "nothing to move" in terminal.run(redrive.main, "--queue", "allocations", "--yes").said


def test_a_limit_moves_that_many_and_leaves_the_rest(world: World, terminal: Terminal) -> None:
    bodies = {dead_allocation(world, str(number)) for number in range(1, 14)}
    ran = terminal.run(redrive.main, "--queue", "allocations", "--limit", "11", "--yes", "--json")
    assert (ran.status, ran.facts["moved"], ran.facts["waiting"]) == (0, 11, 2)
    assert (len(ran.facts["messages"]), "3 of about 13 messages" in ran.said) == (3, True)
    moved = world.take("allocations")
    assert len(moved) == 11
    assert {*moved, *world.take("allocations-dlq")} == bodies


def test_before_it_moves_anything_it_shows_messages_and_why_they_failed(
    world: World, terminal: Terminal
) -> None:
    dead_allocation(world, "1")
    ran = terminal.run(redrive.main, "--queue", "allocations", "--dry-run", "--json")
    (message,) = ran.facts["messages"]
    assert '"1"' in message["body"]
    assert message["why"] == "not known"
    assert "Would move 1 of 1 messages back to allocations" in ran.said
    assert len(world.take("allocations-dlq")) == 1
    assert world.take("allocations") == []


def test_a_queue_that_does_not_exist_is_refused_with_the_one_that_was_meant(
    terminal: Terminal,
) -> None:
    ran = terminal.run(redrive.main, "--queue", "alocations", "--yes")
    assert ran.status == 1
    assert "did you mean allocations?" in ran.said


def test_stream_ranges_cannot_be_moved_back_and_it_says_what_to_do(
    world: World, terminal: Terminal
) -> None:
    world.put_back("ledger-stream-dlq", ["{}"])
    for how in ("--dry-run", "--yes"):
        ran = terminal.run(redrive.main, "--queue", "ledger-stream", how)
        assert (ran.status, "docs/mail.md" in ran.said) == (1, True), how
    assert world.take("ledger-stream-dlq") == ["{}"]


# Replay -------------------------------------------------------------------------------------------


REPLAY = ("--kind", "allocation", "--zones", "Europe/Paris")


def test_replaying_the_tick_of_midnight_allocates_and_again_changes_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")
    for _ in range(2):
        ran = terminal.run(replay.main, "--from", "2026-01-31T23:00Z", *REPLAY, "--yes", "--json")
        assert ran.status == 0
        facts = json.loads(ran.printed.splitlines()[-1])  # after what the tick has logged
        assert facts["replayed"] == [MIDNIGHT]
        world.drain()
    assert world.summary() == [("allocation", 500, 500)]


def test_a_range_replays_only_the_ticks_that_start_something(
    world: World, terminal: Terminal
) -> None:
    world.now = at("2026-02-03T12:00:00Z")
    ran = terminal.run(
        replay.main, "--from", "2026-01-31T22:00Z", "--to", "2026-01-31T23:15Z", *REPLAY, "--yes"
    )
    assert ran.status == 0
    assert [event["time"] for event in terminal.functions.events] == [
        MIDNIGHT,
        "2026-01-31T23:15:00Z",
    ]
    assert "replay 2 ticks, which sweep 2 zones" in ran.said
    assert all(event["zones"] == ["Europe/Paris"] for event in terminal.functions.events)


def test_the_expiry_is_replayed_by_the_tick_of_its_own(world: World, terminal: Terminal) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-03-02T23:00:00Z")
    ran = terminal.run(
        replay.main,
        "--from",
        "2026-03-02T23:00Z",
        "--kind",
        "expiry",
        "--yes",
    )
    assert ran.status == 0
    world.drain()
    assert world.summary() == [("allocation", 100, 100), ("expiration", -100, 0)]


def test_a_tick_that_is_refused_is_reported_and_the_exit_status_says_so(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.now = at("2026-02-03T12:00:00Z")
    monkeypatch.setattr(
        world, "tick", lambda kind, **_: {"success": False, "error": f"no {kind.value} today"}
    )
    ran = terminal.run(replay.main, "--from", "2026-01-31T23:00Z", *REPLAY, "--yes", "--json")
    assert ran.status == 1
    assert "no allocation today" in ran.facts["failed"][0]["why"]
    assert "FAILED: allocation-tick" in ran.said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "2026-01-31T23:07Z"), "--from: must be a quarter of an hour"),
        (("--from", "yesterday"), "--from"),
        (("--from", "2026-01-10T00:00Z", "--to", "2026-01-09T00:00Z"), "--to: must not be before"),
        (("--from", "2026-01-01T00:00Z", "--to", "2026-01-09T00:00Z"), "at most 7 days"),
        (("--from", "2026-03-01T00:00Z"), "--from: must not be ahead of the clock"),
        (
            ("--from", "2026-01-15T00:00Z", "--to", "2026-01-16T00:00Z"),
            "--to: must not be ahead of the clock",
        ),
        (("--from", "2026-01-01T00:00Z", "--zones", "Mars/Base"), "--zones"),
    ],
)
def test_a_moment_that_cannot_be_replayed_is_refused_by_the_name_of_its_option(
    terminal: Terminal, words: tuple[str, ...], said: str
) -> None:
    ran = terminal.run(replay.main, *words, "--kind", "allocation", "--yes")
    assert ran.status == 1
    assert said in ran.said
    assert terminal.functions.events == []


def test_a_range_of_a_week_in_two_zones_has_both_of_its_ends(
    world: World, terminal: Terminal
) -> None:
    world.now = at("2026-02-07T23:00:00Z")
    span = ("--from", MIDNIGHT, "--to", "2026-02-07T23:00Z", "--kind", "allocation")
    ran = terminal.run(
        replay.main, *span, "--zones", " Europe/Paris, Asia/Tokyo ", "--dry-run", "--json"
    )
    assert (ran.status, ran.facts["ticks"]) == (0, 7 * 96 + 1)
    assert "Would replay" in ran.said


# Allocate -----------------------------------------------------------------------------------------


def test_what_is_due_is_granted_by_the_workers_rules_and_never_twice(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")
    ran = terminal.run(allocate.main, *FEBRUARY, "--user-id", "1", "--yes", "--json")
    assert ran.status == 0
    assert ran.facts["users"] == [
        {
            "user_id": "1",
            "granted": [{"period": "2026-02", "amount": 500, "transaction_id": "1-1"}],
        }
    ]
    by_hand = world.lines()
    again = terminal.run(allocate.main, *FEBRUARY, "--user-id", "1", "--yes", "--json")
    assert again.facts["users"][0]["because"]["code"] == "allocated_before"
    world.allocate_at(MIDNIGHT)
    assert world.lines() == by_hand


def test_missed_months_come_first_and_nothing_after_the_period_asked_for(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.now = at("2026-04-03T12:00:00Z")
    ran = terminal.run(allocate.main, "--period", "2026-03", "--user-id", "1", "--yes", "--json")
    granted = ran.facts["users"][0]["granted"]
    assert [each["period"] for each in granted] == ["2026-02", "2026-03"]
    assert [entry.allocated_through for entry in world.history()] == [
        Period(2026, 2),
        Period(2026, 3),
    ]


def test_an_allocation_for_a_user_who_is_not_there_fails(world: World, terminal: Terminal) -> None:
    ran = terminal.run(allocate.main, *FEBRUARY, "--user-id", "nobody", "--yes", "--json")
    assert ran.status == 1
    assert ran.facts["users"][0]["because"]["code"] == "no_such_user"
    assert world.lines() == []


def test_a_file_says_of_each_user_what_was_granted_or_why_not(
    world: World, terminal: Terminal, tmp_path: Path
) -> None:
    world.subscribe("1")
    world.subscribe("2", status="paused")
    world.now = at("2026-02-03T12:00:00Z")
    file = tmp_path / "users.txt"
    file.write_text("1\n2\n\n3\n1\n")
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes", "--json")
    assert ran.status == 0
    users = {user["user_id"]: user for user in ran.facts["users"]}
    assert users["1"]["granted"][0]["amount"] == 500
    assert users["2"]["because"]["code"]
    assert users["3"]["because"]["code"] == "no_such_user"
    assert "to 1 of 3 users. Nothing: 1 no_such_user, 1 subscription_paused." in ran.said
    assert len(world.lines()) == 1
    again = terminal.run(allocate.main, *FEBRUARY, "--file", str(file))
    assert (again.status, "Due: 0 credits" in again.said) == (0, True), "it asks about nothing"


def test_a_zone_is_all_who_live_there_and_nobody_else(world: World, terminal: Terminal) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id)
    world.subscribe("3", timezone="Asia/Tokyo")
    world.now = at("2026-02-03T12:00:00Z")
    ran = terminal.run(allocate.main, *FEBRUARY, "--zone", "Europe/Paris", "--yes")
    assert ran.status == 0
    assert "1,000 credits in 2 allocations" in ran.said
    assert [world.balance(user_id) for user_id in ("1", "2", "3")] == [500, 500, 0]


def test_a_period_that_has_not_begun_for_the_user_is_not_granted(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.now = at("2026-01-31T22:59:59Z")
    ran = terminal.run(allocate.main, *FEBRUARY, "--user-id", "1", "--yes", "--json")
    assert ran.facts["users"][0]["because"]["code"] == "not_begun"
    assert world.lines() == []


@pytest.mark.parametrize("how", [("--dry-run",), ("--yes",)], ids=["dry", "for_good"])
def test_the_local_stage_does_not_grant_a_period_ahead_of_its_clock_either(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: tuple[str, ...]
) -> None:
    world = World(stage="local")
    terminal = Terminal(world, monkeypatch, capsys)
    world.subscribe()
    world.now = at("2027-01-01T00:00:00Z")
    words = ("--period", "2027-05", "--user-id", "1", *how, "--json")
    ran = terminal.run(allocate.main, *words)
    assert ran.facts["users"][0]["because"]["code"] == "not_begun"
    assert "has not begun where the user lives" in ran.said
    assert world.lines() == []
    replayed = ("--from", "2027-05-01T00:00Z", "--kind", "allocation", *how)
    assert "must not be ahead of the clock" in terminal.run(replay.main, *replayed).said
    assert terminal.functions.events == []


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("1\na#b\n", "line 2"),
        ("1\na#b\n \nc#d\n", "line 4"),
        ("\n", "names nobody"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_allocates_nothing(
    world: World, terminal: Terminal, tmp_path: Path, content: str | None, said: str
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")
    file = tmp_path / "users.txt"
    if content is not None:
        file.write_text(content)
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes")
    assert ran.status == 1
    assert said in ran.said
    assert world.lines() == []


def test_an_invalid_period_is_refused_by_the_name_of_its_option(terminal: Terminal) -> None:
    ran = terminal.run(allocate.main, "--period", "2026-13", "--user-id", "1", "--yes")
    assert ran.status == 1
    assert "--period" in ran.said


def test_allocate_needs_a_user_a_file_or_a_zone(terminal: Terminal) -> None:
    assert "--user-id --file --zone is required" in terminal.refused(allocate.main, *FEBRUARY)


# Void ---------------------------------------------------------------------------------------------

VOID = ("--user-id", "1", "--reason", "Granted by mistake", "--actor", "ada")


def test_a_voided_batch_is_gone_the_others_are_not_and_again_changes_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    world.grant("1", 50, "b")
    ran = terminal.run(void.main, *VOID, "--batch", "1-1", "--yes", "--json")
    assert ran.status == 0
    assert (ran.facts["voided"], ran.facts["new_balance"]) == (30, 50)
    assert "30 credits remain of 30 granted 2026-01-15T12:00:00Z, never expires;" in ran.said
    assert "the user gets an email" in ran.said
    again = terminal.run(void.main, *VOID, "--batch", "1", "--yes", "--json")
    assert again.status == 0
    assert again.facts["replayed"] is True
    last = world.history()[-1]
    assert (last.actor, last.description) == ("ada", "Granted by mistake")
    assert [entry.amount for entry in world.history()] == [30, 50, -30]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch", "x"), "--batch: must be a batch of user 1"),
        (("--batch", "2-1"), "--batch: must be a batch of user 1"),
        (("--batch", "9"), "1-9"),
        (("--batch", "1", "--actor", ""), "--actor"),
    ],
)
def test_a_batch_that_is_not_there_or_a_word_that_is_missing_voids_nothing(
    world: World, terminal: Terminal, words: tuple[str, ...], said: str
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    ran = terminal.run(void.main, *VOID, *words, "--yes")
    assert ran.status == 1
    assert said in ran.said
    assert [entry.amount for entry in world.history()] == [30]


def held_of_first_batch(world: World, amount: int) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    hold_credits(world.services, "1", amount, "A job", seconds=3600, caller="shop", key="job")


def test_a_void_leaves_what_is_held_and_says_so_and_another_one_takes_it(
    world: World, terminal: Terminal
) -> None:
    held_of_first_batch(world, 20)
    batch = (*VOID, "--batch", "1-1", "--yes", "--json")
    ran = terminal.run(void.main, *batch)
    assert (ran.status, ran.facts["voided"], ran.facts["held"]) == (0, 10, 20)
    assert "30 credits remain of 30" in ran.said
    assert "20 of them held, which stay: 10 are taken" in ran.said
    assert "becomes 20" in ran.said
    assert ran.facts["new_balance"] == 0, "what is held cannot be spent"
    again = terminal.run(void.main, *batch)
    assert (again.status, again.facts["replayed"], again.facts["returned_since"]) == (0, True, 0)
    taken = terminal.run(void.main, *batch, "--including-held")
    assert (taken.status, taken.facts["voided"], taken.facts["held"]) == (0, 20, 20)
    assert "20 credits remain of 30" in taken.said
    assert "20 of them held, which their holds lose" in taken.said
    assert "becomes 0" in taken.said
    assert terminal.run(void.main, *batch, "--including-held").facts["replayed"] is True
    assert [entry.amount for entry in world.history()] == [30, 0, -10, -20]
    assert [hold.amount for hold in world.history()[-1].holds] == [0]


def test_a_batch_of_which_all_is_held_is_voided_only_if_somebody_says_so(
    world: World, terminal: Terminal
) -> None:
    held_of_first_batch(world, 30)
    ran = terminal.run(void.main, *VOID, "--batch", "1", "--yes")
    assert ran.status == 1
    assert "all that remains of batch 1-1 is held" in ran.said
    assert terminal.run(void.main, *VOID, "--batch", "1", "--yes", "--including-held").status == 0
    assert [entry.amount for entry in world.history()] == [30, 0, -30]


def test_what_was_held_when_a_batch_was_voided_is_told_once_it_is_free(
    world: World, terminal: Terminal
) -> None:
    held_of_first_batch(world, 20)
    batch = (*VOID, "--batch", "1-1", "--yes", "--json")
    terminal.run(void.main, *batch)
    end_hold(world.services, End(hold_id="1-2", amount=0, caller="shop"))
    ran = terminal.run(void.main, *batch)
    assert (ran.status, ran.facts["returned_since"]) == (1, 20)


@pytest.mark.parametrize("actor", ["system", "SYSTEM", "(erased)", "import/balances"])
def test_a_void_in_the_name_of_scheduled_work_is_refused_and_changes_nothing(
    actor: str, world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    ran = terminal.run(void.main, *VOID, "--actor", actor, "--batch", "1", "--yes")
    assert ran.status == 1
    assert "--actor: must say who asks" in ran.said
    assert [entry.amount for entry in world.history()] == [30]


# Export -------------------------------------------------------------------------------------------


def test_an_export_is_everything_that_is_kept_of_one_user_and_nothing_of_another(
    world: World, terminal: Terminal
) -> None:
    world.subscribe("1")
    world.subscribe("2")
    world.grant("1", 30, "a", description="Sorry, Ünal")
    world.grant("2", 99, "b")
    world.queue_mails()
    assert world.send_mails() == []
    ran = terminal.run(export.main, "--stage", "dev", "--user-id", "1")
    assert ran.status == 0
    assert ran.facts["user_id"] == "1"
    assert ran.facts["subscription"]["email"] == "user1@example.com"
    (line,) = ran.facts["ledger"]
    assert (line["transaction_id"], line["entry"]["amount"]) == ("1-1", 30)
    assert "Sorry, Ünal" in ran.printed
    (mail,) = ran.facts["mails"]
    assert (mail["identity"], mail["status"]) == ("manual 1-1", "COMPLETED")
    assert "user2@" not in ran.printed
    assert ran.facts["stage"] == "dev"
    assert "1 ledger entries and 1 emails" in ran.said


TOLD = ["manual", "allocation", "refund", "expiration", "purchase", "low_balance"]


def test_an_export_has_a_form_for_every_field_of_a_subscription(
    world: World, terminal: Terminal
) -> None:
    world.with_plans(on_signup=OnSignup.FULL, on_plan_change=OnPlanChange.DIFFERENCE)
    world.subscribe("1", started_at="2026-01-10T00:00:00Z", notifications=TOLD)
    world.subscribe("1", plan="business")
    world.subscribe("1", eligible_from="2026-02-01", status="paused")
    bounced = suppress(
        world.services.subscriptions.get("1"), "user1@example.com", SuppressedBecause.BOUNCE
    )
    world.services.subscriptions.change("1", lambda _: bounced, BY_TEST, world.now)
    world.subscribe(
        "1",
        status="active",
        email="other@example.com",
        allocation_amount=7,
        ends_at="2027-01-01T00:00:00Z",
        observed_at="2026-01-15T11:00:00Z",
    )
    ran = terminal.run(export.main, "--user-id", "1")
    assert ran.status == 0
    assert [edit["edit"][:13] for edit in ran.facts["edits"]] == [
        f"{version:012}#" for version in (5, 4, 3, 2, 1)
    ]
    assert "user1@example.com" in ran.facts["edits"][0]["body"]
    found = ran.facts["subscription"]
    signed = {"period": "2026-01", "amount": 500, "at": "2026-01-15T12:00:00Z"}
    assert found["sign_up"] == signed
    top_up = {"amount": 823, "at": "2026-01-15T12:00:00Z"}
    assert found["raised"] == {"period": "2026-01", "level": 2_000, "top_ups": [top_up]}
    assert found["eligible_from"] == "2026-02-01"
    assert found["ends_at"] == "2027-01-01T00:00:00Z"
    assert found["notifications"] == sorted(TOLD)
    unset = {name for name, value in found.items() if value is None}
    assert unset <= {"suppressed", "resumed_at"}


def test_an_export_has_every_entry_of_a_long_ledger_in_order(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    for number in range(12):
        world.grant("1", number + 1, f"key-{number}")
    ledger = terminal.run(export.main, "--user-id", "1").facts["ledger"]
    assert [line["entry"]["amount"] for line in ledger] == [*range(1, 13)]


def test_a_ledger_that_is_wrong_is_exported_as_it_is(world: World, terminal: Terminal) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    world.grant("1", 40, "b")
    item = next(item for item in world.lines() if item["entry"]["S"] == "entry#000000000002")
    item["body"]["S"] = "tampered"
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    first, second = terminal.run(export.main, "--user-id", "1").facts["ledger"]
    assert first["entry"]["amount"] == 30
    assert second["entry"] == "tampered"


def test_nobody_and_a_user_id_that_cannot_be_one_are_not_exported(terminal: Terminal) -> None:
    for user_id, said in (("1", "Nothing is kept of user 1"), ("a#b", "--user-id")):
        ran = terminal.run(export.main, "--user-id", user_id)
        assert (ran.status, ran.printed) == (1, "")
        assert said in ran.said


def test_a_dry_export_says_what_there_is_and_writes_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    ran = terminal.run(export.main, "--user-id", "1", "--dry-run")
    assert (ran.status, ran.printed) == (0, "")
    assert "a subscription, 1 edits of it and 1 ledger entries" in ran.said


# Erase --------------------------------------------------------------------------------------------


def test_an_erased_person_leaves_numbers_that_verify_and_again_changes_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe("1")
    world.subscribe("2")
    world.grant("1", 30, "a", description="For Grace Hopper", actor="auth0|1")
    world.grant("1", -10, "b", description="Grace asked for it")
    world.grant("2", 5, "c", description="Another person")
    erase_1 = ("--user-id", "1", "--subject", "auth0|1", "--yes", "--json")
    ran = terminal.run(erase.main, *erase_1)
    assert ran.status == 0
    assert ran.facts["texts_erased"] == 2
    assert ran.facts["subscription_removed"] is True
    assert world.summary("1") == [("manual", 30, 30), ("manual", -10, 20)]
    assert world.services.subscriptions.find("1") is None
    kept = str(world.lines())
    assert "Grace" not in kept
    assert "auth0|1" not in kept
    assert "Another person" in kept
    assert world.services.subscriptions.find("2") is not None
    before = world.lines()
    again = terminal.run(erase.main, *erase_1)
    assert (again.status, again.facts["texts_erased"]) == (0, 0)
    assert "Nothing is kept of user 1 that could be erased" in again.said
    assert world.lines() == before


TEXTS = ("grace", "hopper", "navy", "cobol", "auth0|1")


def full_life(world: World) -> None:
    """A person who is named wherever somebody can write something."""
    services = world.services
    world.subscribe("1", plan="starter", email="Grace.Hopper@navy.example")
    world.subscribe("2")
    world.allocate_at(MIDNIGHT)
    world.grant("1", 30, "for-grace@navy.example", description="For Grace Hopper", actor="auth0|1")
    # An admin's, of when they could still claim to be scheduled work.
    adjust(
        services,
        Adjustment("1", 9, "Mail grace@navy.example"),
        actor="system",
        caller=CALLER,
        key="cobol-1",
    )
    since = world.now - timedelta(days=3)
    carried = CarryOver("1", 12, since, None, "From the navy", caller="infra", key="hopper-1")
    on_request.carry_over(services, carried)
    spent = on_request.use_credits(
        services, "1", 7, "A COBOL report", caller="auth0|1", key="hopper@navy.example#1"
    )
    usage = spent.entry.transaction_id
    on_request.reverse_usage(
        services, "1", usage, 3, "Grace complained", caller="auth0|1", key="grace-2"
    )
    void_batch(services, Void("1", 2, "Not for Grace", "ada", "infra", "void-of-hopper"))
    world.grant("2", 5, "c", description="Another person")
    world.queue_mails()
    assert world.send_mails() == []


def everything_kept() -> list[dict[str, Any]]:
    """Every item of every table."""
    dynamodb = client("dynamodb")
    names = dynamodb.list_tables()["TableNames"]
    return [item for name in names for item in dynamodb.scan(TableName=name)["Items"]]


def test_after_an_erasure_no_item_of_any_table_holds_a_text_a_name_or_a_key_of_the_person(
    world: World, terminal: Terminal
) -> None:
    full_life(world)
    before = str(everything_kept()).lower()
    assert all(text in before for text in TEXTS)
    assert all(text not in str(markers(world)).lower() for text in TEXTS)
    ran = terminal.run(erase.main, "--user-id", "1", "--subject", "auth0|1", "--yes", "--json")
    assert (ran.status, ran.facts["texts_erased"]) == (0, 6)
    kept = everything_kept()
    for item in kept:
        assert not [text for text in TEXTS if text in str(item).lower()], item
    assert "Another person" in str(kept)
    assert "'ada'" in str(kept).replace('"', "'")  # an admin is no part of the person
    for user_id in ("1", "2"):
        world.services.ledger.verify(user_id)


def test_a_user_erased_without_the_name_in_their_tokens_can_be_erased_by_it_later(
    world: World, terminal: Terminal
) -> None:
    full_life(world)
    for words, entries in (((), 6), (("--subject", "auth0|1"), 3)):
        ran = terminal.run(erase.main, "--user-id", "1", *words, "--yes", "--json")
        assert (ran.status, ran.facts["texts_erased"]) == (0, entries)
        assert f"the texts of {entries} of 7 ledger entries of user 1" in ran.said
    assert "auth0|1" not in str(everything_kept())
    world.services.ledger.verify("1")


def test_after_an_erasure_a_request_that_comes_again_is_still_answered_with_its_entry(
    world: World, terminal: Terminal
) -> None:
    full_life(world)
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    before = everything_kept()

    def again(amount: int) -> Outcome:
        return on_request.use_credits(
            world.services,
            "1",
            amount,
            "A COBOL report",
            caller="auth0|1",
            key="hopper@navy.example#1",
        )

    outcome = again(7)
    assert (outcome.replayed, outcome.entry.number, outcome.entry.amount) == (True, 5, -7)
    with pytest.raises(IdempotencyKeyReused):
        again(8)
    assert everything_kept() == before


def markers(world: World) -> list[dict[str, Any]]:
    return [item for item in world.lines() if item["entry"]["S"] == "operation"]


def test_an_export_has_the_markers_and_the_reversals_of_the_user_before_and_after_an_erasure(
    world: World, terminal: Terminal
) -> None:
    full_life(world)
    own = {item["user_id"]["S"] for item in markers(world) if item["owner"]["S"] == "1"}
    exports = [terminal.run(export.main, "--user-id", "1").facts]
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    exports.append(terminal.run(export.main, "--user-id", "1").facts)
    for exported in exports:
        assert {marker["user_id"] for marker in exported["markers"]} == own
        assert sorted(marker["number"] for marker in exported["markers"]) == [2, 3, 4, 5, 6, 7]
        (link,) = exported["reversals"]
        assert (link["user_id"], link["reversed_in_all"]) == ("1", 3)
        assert len(exported["mails"]) == 4
    erased = [["erased" in line for line in exported["ledger"]] for exported in exports]
    assert erased == [[False] * 7, [False, *[True] * 6]]
    of_another = terminal.run(export.main, "--user-id", "2").facts
    assert (len(of_another["markers"]), of_another["reversals"]) == (1, [])


def test_an_erased_person_is_found_by_the_subject_that_their_tokens_have(
    world: World, terminal: Terminal
) -> None:
    """The API writes the subject in its own way where it names operations after callers."""
    world.subscribe("1")
    world.grant("1", 30, "a")
    subject = "https://example.com/users#1"
    caller = caller_of("sub", subject)
    on_request.use_credits(world.services, "1", 5, "Export", caller=caller, key="k")
    assert terminal.run(erase.main, "--user-id", "1", "--subject", subject, "--yes").status == 0
    entries = [line["body"]["S"] for line in world.lines() if "body" in line]
    assert len(entries) == 2
    assert not any("example.com" in entry for entry in entries)


def test_an_erasure_that_was_interrupted_is_finished_by_the_next(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    world.grant("1", 40, "b")
    world.services.subscriptions.remove("1")
    assert next(world.services.ledger.erase("1"))
    ran = terminal.run(erase.main, "--user-id", "1", "--yes", "--json")
    assert (ran.status, ran.facts["texts_erased"]) == (0, 1)
    assert ran.facts["edits_removed"] == 1
    assert "Goodwill" not in str(world.lines())


def test_an_erasure_that_was_interrupted_after_the_subscription_removes_its_edits(
    world: World, terminal: Terminal
) -> None:
    for email in ("a@example.com", "b@example.com"):
        world.subscribe(email=email)
    world.subscribe("2")
    world.services.subscriptions.remove("1")
    assert next(world.services.edits.erase("1"))
    assert len(terminal.run(export.main, "--user-id", "1").facts["edits"]) == 1
    ran = terminal.run(erase.main, "--user-id", "1", "--yes", "--json")
    assert (ran.status, ran.facts["edits_removed"]) == (0, 1)
    assert list(world.services.edits.items("1")) == []
    assert len(list(world.services.edits.items("2"))) == 1
    again = terminal.run(erase.main, "--user-id", "1", "--yes")
    assert "Nothing is kept of user 1" in again.said


def test_a_ledger_that_is_wrong_is_not_erased_nor_is_its_owner(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    (item,) = (item for item in world.lines() if item["entry"]["S"].startswith("entry#"))
    item["body"]["S"] = item["body"]["S"].replace("Goodwill", "Badwill")
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    ran = terminal.run(erase.main, "--user-id", "1", "--yes")
    assert ran.status == 1
    assert "entry 1" in ran.said
    assert "Badwill" in str(world.lines())
    assert world.services.subscriptions.find("1") is not None


def test_a_user_id_or_a_subject_that_cannot_be_one_erases_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    for words in (("--user-id", "a#b"), ("--user-id", "1", "--subject", "")):
        ran = terminal.run(erase.main, *words, "--yes")
        assert ran.status == 1
        assert words[-2] in ran.said
    assert world.services.subscriptions.find("1") is not None


# All of them --------------------------------------------------------------------------------------


def test_nothing_changes_in_a_dry_run_when_nobody_is_there_or_when_the_person_says_no(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    dead_allocation(world, "1")
    commands: list[tuple[Main, tuple[str, ...]]] = [
        (redrive.main, ("--queue", "allocations")),
        (replay.main, ("--from", "2026-01-31T23:00Z", *REPLAY)),
        (allocate.main, (*FEBRUARY, "--user-id", "1")),
        (void.main, (*VOID, "--batch", "1")),
        (erase.main, ("--user-id", "1")),
    ]
    before = world.lines()
    for main, words in commands:
        terminal.answer = "y"
        dry = terminal.run(main, *words, "--dry-run", "--yes", "--json")
        assert dry.status == 0, dry.said
        assert dry.facts["dry_run"] is True
        assert "Would " in dry.said
        assert dry.facts.get("voided", 0) == 0
        terminal.answer = None
        unasked = terminal.run(main, *words)
        assert unasked.status == 1
        assert "Add --yes" in unasked.said
        terminal.answer = "n"
        declined = terminal.run(main, *words)
        assert declined.status == 1
        assert "nothing was changed" in declined.said
    assert world.lines() == before
    assert world.services.subscriptions.find("1") is not None
    assert terminal.functions.events == []
    assert world.take("allocations") == []
    assert len(world.take("allocations-dlq")) == 1


def test_a_typed_yes_is_enough(world: World, terminal: Terminal) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    terminal.answer = "y"
    assert terminal.run(void.main, *VOID, "--batch", "1").status == 0
    assert world.balance() == 0


# When something goes wrong on the way -------------------------------------------------------------

BUSY = ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "try again"}}, "Request")


def refuses(*_: object, **__: object) -> Any:
    raise BUSY


def may_not(*_: object, **__: object) -> Any:
    raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no right"}}, "Request")


def in_queue(world: World, name: str) -> int:
    """How many messages a queue has, hidden ones among them."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = world.queue_url(name)
    counts = world.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values())


def test_a_redrive_that_cannot_send_deletes_nothing(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2", "3"):
        dead_allocation(world, user_id)
    monkeypatch.setattr(world.sqs, "send_message_batch", may_not)
    ran = terminal.run(redrive.main, "--queue", "allocations", "--yes")
    assert (ran.status, "Ask the administrator of the account" in ran.said) == (1, True)
    assert in_queue(world, "allocations-dlq") == 3, "messages were deleted that were never sent"


@pytest.mark.parametrize(("limit", "status"), [((), 1), (("--limit", "2"), 0)], ids=["all", "two"])
def test_what_sqs_does_not_take_stays_a_dead_letter_and_is_not_counted_as_moved(
    world: World,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    limit: tuple[str, ...],
    status: int,
) -> None:
    bodies = [dead_allocation(world, user_id) for user_id in ("1", "2", "3")]
    send = world.sqs.send_message_batch
    refused: list[str] = []

    def takes_all_but_the_second(QueueUrl: str, Entries: list[dict[str, Any]]) -> Any:  # noqa: N803
        if refused:
            return send(QueueUrl=QueueUrl, Entries=Entries)
        (entry,) = Entries[1:2]
        refused.append(entry["MessageBody"])
        answer = send(QueueUrl=QueueUrl, Entries=[each for each in Entries if each is not entry])
        failed = {"Id": entry["Id"], "Code": "InternalError", "SenderFault": False}
        return {**answer, "Failed": [failed]}

    monkeypatch.setattr(world.sqs, "send_message_batch", takes_all_but_the_second)
    ran = terminal.run(redrive.main, "--queue", "allocations", *limit, "--yes", "--json")
    assert in_queue(world, "allocations-dlq") == 1, "what SQS did not take was deleted"
    assert (ran.status, ran.facts["moved"], ran.facts["waiting"]) == (status, 2, 1), ran.said
    assert sorted([*world.take("allocations"), *refused]) == sorted(bodies)


def test_a_redriven_message_keeps_its_attributes_and_is_asked_of_all_of_sqs(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    attributes = {"correlation": {"DataType": "String", "StringValue": "tick"}}
    for number in range(12):
        world.sqs.send_message(
            QueueUrl=world.queue_url("allocations-dlq"),
            MessageBody=f"body {number}",
            MessageAttributes=attributes,
        )
    receive = world.sqs.receive_message
    asked: list[dict[str, Any]] = []

    def receives(**request: Any) -> Any:
        asked.append(request)
        return receive(**request | {"WaitTimeSeconds": 0})

    with monkeypatch.context() as patched:
        patched.setattr(world.sqs, "receive_message", receives)
        assert terminal.run(redrive.main, "--queue", "allocations", "--yes").status == 0
    # Less than a second asks some of SQS's servers, which may have none of a queue's few messages.
    assert {request["WaitTimeSeconds"] for request in asked} == {1}
    # Shown ones stay visible; what is moved is hidden from whoever else moves messages.
    assert [*dict.fromkeys(request["VisibilityTimeout"] for request in asked)] == [0, 60]
    assert max(request["MaxNumberOfMessages"] for request in asked) == 10
    moved = receive(
        QueueUrl=world.queue_url("allocations"),
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
    )["Messages"]
    values = [message["MessageAttributes"]["correlation"]["StringValue"] for message in moved]
    assert values == ["tick"] * 10


def test_each_message_is_shown_once_however_often_sqs_gives_it(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2"):
        dead_allocation(world, user_id)
    url = world.queue_url("allocations-dlq")
    one, two = world.sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=2, VisibilityTimeout=0, AttributeNames=["All"]
    )["Messages"]
    one["Attributes"]["SentTimestamp"] = "1767225600123"
    one["Body"], two["Body"] = bodies = ["a" * 300, "b" * 301]
    answers = iter([[one], [one], [two, one]])
    monkeypatch.setattr(world.sqs, "receive_message", lambda **_: {"Messages": next(answers)})
    ran = terminal.run(redrive.main, "--queue", "allocations", "--dry-run", "--json")
    shown = [message["body"] for message in ran.facts["messages"]]
    assert shown == [bodies[0], f"{'b' * 300}..."]
    assert ran.facts["messages"][0]["sent_at"] == "2026-01-01T00:00:00.123Z"


class Logs:
    """In place of CloudWatch Logs: pages of lines, and what was asked for."""

    def __init__(self, *pages: str) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def filter_log_events(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        page = len(self.asked)
        more = {"nextToken": f"page {page}"} if page < len(self.pages) else {}
        return {"events": [{"message": self.pages[page - 1]}], **more}


@pytest.mark.parametrize("queue", ["sweeps", "allocations", "expiries", "notifications", "checks"])
def test_why_a_message_failed_is_the_last_its_own_reader_says_of_it(queue: str) -> None:
    functions = resources_document()["Resources"]
    (reader,) = [
        function["Properties"]["FunctionName"]["Fn::Sub"].removeprefix("credits-${Stage}-")
        for function in functions.values()
        for event in function["Properties"].get("Events", {}).values()
        if event["Properties"].get("Queue") == {"Fn::Sub": f"${{{queue.capitalize()}Queue.Arn}}"}
    ]
    logs = Logs('{"message":"tried","error":"first"}', 'x {"error":"it was throttled"}')
    reach = SimpleNamespace(
        queues={f"{queue}-dlq": "http://dead", queue: "http://alive"},
        functions={reader: f"credits-prod-{reader}"},
        client=lambda _service: logs,
    )
    dead = redrive.DeadLetters(cast("Repair", SimpleNamespace(reach=reach)), queue)
    message = {"MessageId": "m-1", "Attributes": {"SentTimestamp": "1767225600123"}}
    assert dead.why(message) == "it was throttled"
    for said, why in {
        "Task timed out\n": "Task timed out",
        '{"message":"not taken"}': "not taken",
        '{"level":"ERROR"}': '{"level":"ERROR"}',
        '{"message":"not taken","error":"no room"}': "no room",
    }.items():
        assert redrive._error_in(said) == why
    asked = {
        "logGroupName": f"/aws/lambda/credits-prod-{reader}",
        "filterPattern": '"m-1"',
        "startTime": 1_767_225_600_123,
    }
    assert logs.asked[0].items() >= asked.items()
    assert [request.get("nextToken") for request in logs.asked][1:] == ["page 1"]
    logs.asked, logs.pages = [], tuple(f"page {number}" for number in range(1, 12))
    assert dead.why(message) == "page 10"
    setattr(logs, "filter_log_events", refuses)  # noqa: B010 - in place of the method
    assert dead.why(message).startswith("its log could not be read: ")


def test_what_a_webhook_refused_is_explained_by_the_page_about_events() -> None:
    reach = SimpleNamespace(queues={"webhook-dlq": "http://dead"}, client=lambda _service: None)
    dead = redrive.DeadLetters(cast("Repair", SimpleNamespace(reach=reach)), "webhook")
    with pytest.raises(RepairError, match=r"docs/events\.md says what to do"):
        _ = dead.target


def test_an_allocation_that_fails_for_one_is_told_and_the_others_are_granted(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    world.now = at("2026-02-03T12:00:00Z")
    post = world.services.ledger.post

    def fails_for_the_second(user_id: str, decide: Any) -> Any:
        return refuses() if user_id == "2" else post(user_id, decide)

    monkeypatch.setattr(world.services.ledger, "post", fails_for_the_second)
    file = tmp_path / "users.txt"
    file.write_bytes("\ufeff1\r\n 2 \r\n3\r\n".encode())
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes", "--json")
    assert (ran.status, "1 failed: run it again" in ran.said) == (1, True), ran.said
    one, two, three = ran.facts["users"]
    assert "granted" not in two, "it is said to be granted and was only previewed"
    assert "ServiceUnavailable" in two["failure"]
    assert one["granted"] == [{"period": "2026-02", "amount": 500, "transaction_id": "1-1"}]
    assert three["granted"] == [{"period": "2026-02", "amount": 500, "transaction_id": "3-1"}]
    assert [world.balance(user_id) for user_id in ("1", "2", "3")] == [500, 0, 500]


def test_of_many_users_those_who_get_something_or_failed_are_shown_and_the_rest_counted(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(allocate, "MOST_SHOWN", 2)
    file = tmp_path / "users.txt"
    file.write_text("1\n2\n3\n4\n")
    for user_id, status in (("1", "paused"), ("2", "paused"), ("3", "active"), ("4", "active")):
        world.subscribe(user_id, status=status)
    world.now = at("2026-02-03T12:00:00Z")
    ledger, failures = world.services.ledger, ["4", "3", "3"]
    account, post = ledger.account, ledger.post

    def fails(user_id: str, known: Any, *more: Any) -> Any:
        if user_id in failures:
            failures.remove(user_id)
            may_not()
        return known(user_id, *more)

    monkeypatch.setattr(ledger, "account", lambda user_id: fails(user_id, account))
    monkeypatch.setattr(ledger, "post", lambda user_id, decide: fails(user_id, post, decide))
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes", "--json")
    assert "... and 2 more; --json has all of them" in ran.said
    assert ("FAILED: AWS refuses" in ran.said, "500 for 2026-02" in ran.said) == (True, True)
    assert "nothing:" not in ran.said
    # What failed when it was looked at is tried all the same.
    assert [world.balance(user_id) for user_id in ("3", "4")] == [0, 500]
    assert [user["user_id"] for user in ran.facts["users"]] == ["1", "2", "3", "4"]


def test_everybody_in_a_zone_of_many_pages_is_granted_all_that_the_question_says(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocate, "USERS_A_PAGE", 2)
    users = [str(number) for number in range(1, 6)]
    for user_id in users:
        world.subscribe(user_id)
    world.now = at("2026-03-03T12:00:00Z")
    march = ("--period", "2026-03", "--zone", "Europe/Paris")
    asked = terminal.run(allocate.main, *march, "--dry-run").said
    assert "Would grant 5,000 credits to 5 of 5 users" in asked
    assert terminal.run(allocate.main, *march, "--yes").status == 0
    assert [world.balance(user_id) for user_id in users] == [1000] * 5


def test_what_is_granted_is_posted_by_the_clock_of_that_moment_not_of_the_question(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")

    def takes_three_hours(_: Repair, what: str) -> bool:
        assert what.startswith("grant 500 credits")
        world.now = at("2026-02-03T15:00:00Z")
        return True

    monkeypatch.setattr(Repair, "is_agreed", takes_three_hours)
    assert terminal.run(allocate.main, *FEBRUARY, "--user-id", "1").status == 0
    (entry,) = world.history()
    assert entry.posted_at == at("2026-02-03T15:00:00Z")


def test_a_tick_that_fails_does_not_keep_the_later_ones_from_being_replayed(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.now = at("2026-02-03T12:00:00Z")
    tick = world.tick

    def fails_at_midnight(kind: SweepKind, time: str, **event: object) -> dict[str, Any]:
        return {"success": False} if time == MIDNIGHT else tick(kind, time, **event)

    monkeypatch.setattr(world, "tick", fails_at_midnight)
    span = ("--from", MIDNIGHT, "--to", "2026-02-01T00:00:00Z")
    ran = terminal.run(replay.main, *span, *REPLAY, "--yes", "--json")
    assert ran.status == 1
    facts = json.loads(ran.printed.splitlines()[-1])  # after what the ticks have logged
    assert [each["time"] for each in facts["failed"]] == [MIDNIGHT]
    assert facts["replayed"] == ["2026-01-31T23:15:00Z", "2026-02-01T00:00:00Z"], ran.said


@pytest.mark.parametrize(
    ("words", "key"), [((), "batch-1-1"), (("--key", "by-hand"), "by-hand")], ids=["own", "given"]
)
def test_the_name_under_which_a_batch_is_voided_never_changes(
    world: World, terminal: Terminal, words: tuple[str, ...], key: str
) -> None:
    """Under another one, a batch that was voided by an earlier release would be voided again."""
    world.subscribe()
    world.grant("1", 30, "a")
    assert terminal.run(void.main, *VOID, "--batch", "1-1", *words, "--yes").status == 0
    by_name = Void(
        user_id="1",
        batch=1,
        reason="Granted by mistake",
        actor="ada",
        caller="command/void",
        key=key,
    )
    assert void_batch(world.services, by_name).replayed


def test_an_export_has_all_mails_however_many_and_says_what_it_cannot_read(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAILS_A_REQUEST", 2)
    records = world.services.mail_records
    find = records.find
    monkeypatch.setattr(records, "find", lambda some: dict(sorted(find(some).items())[::-1]))
    world.subscribe()
    for number in range(5):
        world.grant("1", number + 1, f"key-{number}")
    world.queue_mails()
    assert world.send_mails() == []
    ran = terminal.run(export.main, "--user-id", "1")
    found = [mail["identity"] for mail in ran.facts["mails"]]
    assert found == [f"manual 1-{number}" for number in range(1, 6)]
    assert ran.status == 0
    damage_subscription(without("plan"), "1")
    later: dict[str, dict[str, Any]] = {
        "number": {"N": "-5"},
        "part": {"N": "1.5"},
        "is_so": {"BOOL": True},
    }
    damage_subscription(lambda item: item.update(later), "1")
    damage_entry(without("hash"), "1", 2)
    ran = terminal.run(export.main, "--user-id", "1")
    assert (ran.status, "2 items cannot be read" in ran.said) == (1, True), ran.said
    stored = ran.facts["subscription"]["stored"]
    assert stored["timezone"] == "Europe/Paris"
    assert ran.facts["subscription"]["unreadable"] == "plan is missing"
    assert stored.items() >= {"number": -5, "part": {"N": "1.5"}, "is_so": {"BOOL": "True"}}.items()


@pytest.mark.parametrize(
    ("fails", "has_edits"),
    [("edits", True), ("ledger", False)],
)
def test_an_erasure_that_stops_on_its_way_has_first_ended_what_brings_new_texts(
    world: World,
    terminal: Terminal,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    has_edits: bool,  # noqa: FBT001 - a row of the table above
) -> None:
    """First the subscription: no sweep and no mail finds the user. Then edits, then texts."""
    world.subscribe()
    world.grant("1", 30, "a")
    with monkeypatch.context() as patched:
        patched.setattr(getattr(world.services, fails), "erase", refuses)
        assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 1
    assert world.services.subscriptions.find("1") is None, "mails still go to who is being erased"
    assert bool(list(world.services.edits.items("1"))) == has_edits
    assert "Goodwill" in str(world.lines())
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    assert "Goodwill" not in str(world.lines())


def test_an_erasure_that_damaged_the_ledger_says_so(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    erased = world.services.ledger.erase

    def damages(user_id: str, subjects: Any) -> Any:
        yield from erased(user_id, subjects)
        (item,) = (item for item in world.lines() if item["entry"]["S"].startswith("entry#"))
        item["body"]["S"] = item["body"]["S"].replace("30", "31", 1)
        client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)

    monkeypatch.setattr(world.services.ledger, "erase", damages)
    ran = terminal.run(erase.main, "--user-id", "1", "--yes")
    assert (ran.status, "the ledger is right" in ran.said) == (1, False)


def test_every_subject_of_a_person_is_erased(world: World, terminal: Terminal) -> None:
    world.subscribe()
    for number, actor in enumerate(("grace", "team#hopper", "ada")):
        world.grant("1", 10, f"key-{number}", actor=actor)
    too_long = ("--subject", "x" * 300)  # for a token: then nobody has it, and nothing is lost
    words = ("--user-id", "1", "--subject", "grace", *too_long, "--subject", "team#hopper", "--yes")
    assert terminal.run(erase.main, *words).status == 0
    assert [entry.actor for entry in world.history()] == [ERASED, ERASED, "ada"]


def test_a_subscription_that_was_written_just_now_is_exported_and_erased(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    get_many = world.services.subscriptions.get_many

    def stale(user_ids: Any, *, consistent: bool = False) -> Any:
        return get_many(user_ids, consistent=True) if consistent else {}

    monkeypatch.setattr(world.services.subscriptions, "get_many", stale)
    assert terminal.run(export.main, "--user-id", "1").facts["subscription"]["user_id"] == "1"
    assert (
        "the subscription, with its address"
        in terminal.run(erase.main, "--user-id", "1", "--dry-run").said
    )


# What they share ----------------------------------------------------------------------------------


def repair_of(file: io.StringIO, threads: int = 2) -> Repair:
    """At a terminal of 40 columns."""
    repair = Repair("dev", Console(file=file, width=40, force_terminal=False))
    repair.__dict__["reach"] = SimpleNamespace(services=SimpleNamespace(threads=threads))
    return repair


def test_a_stage_is_looked_up_once_where_it_was_said_to_be(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None]] = []
    reached = reach.reach

    def reaches(stage: str, region: str | None) -> Any:
        asked.append((stage, region))
        return reached(stage, region)

    monkeypatch.setattr(reach, "reach", reaches)
    there = ("--stage", "prod", "--region", "eu-west-1")
    assert terminal.run(redrive.main, *there).status == 0
    assert asked == [("prod", "eu-west-1")]
    nowhere = terminal.run(redrive.main, "--stage", "nowhere")
    assert (nowhere.status, "There is no stage 'nowhere'" in nowhere.said) == (1, True)
    monkeypatch.setattr(redrive, "list_all", interrupts)
    ran = terminal.run(redrive.main, "--json")
    assert (ran.status, ran.printed) == (130, "")
    assert "Interrupted. Run the same command again" in ran.said


def interrupts(*_: object, **__: object) -> Any:
    raise KeyboardInterrupt


def test_what_is_said_and_shown_is_unchanged_whatever_it_contains() -> None:
    file = io.StringIO()
    repair = repair_of(file)
    long = f"[red]{'word ' * 12}[/red]"
    repair.say(long)
    repair.show("A table", ("name", "#count"), [("[red]x[/]", 1_234), ("y", 5)])
    said, *table = file.getvalue().splitlines()
    assert said == long
    assert [line.strip("│") for line in table if "│" in line] == [
        " [red]x[/] │ 1,234 ",
        " y         │     5 ",
    ]


def test_results_are_in_the_order_of_the_elements_and_a_failure_is_its_own_elements(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "as_completed", lambda futures: reversed([*futures]))

    def do(element: int) -> int:
        if element == 2:
            raise ZeroDivisionError
        return element * 10

    results = repair_of(io.StringIO()).each("Work", [1, 2, 3], do)
    assert [*results] == [1, 2, 3]
    assert (results[1], type(results[2]), results[3]) == (10, ZeroDivisionError, 30)


def test_after_ctrl_c_what_has_not_begun_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    is_told, done = threading.Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 - its form
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            is_told.set()
            super().shutdown(wait=wait)

    def do(element: int) -> None:
        done.append(element)
        if element > 1:
            assert is_told.wait(5)

    repair = repair_of(io.StringIO(), threads=1)
    monkeypatch.setattr(command, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(repair, "follow", lambda _what, futures, _total: interrupts(next(futures)))
    with pytest.raises(KeyboardInterrupt):
        repair.each("Work", [1, 2, 3, 4], do)
    assert max(done) <= 2
