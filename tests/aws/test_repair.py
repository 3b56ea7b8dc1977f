"""Repair by hand: each command does its one thing, once, and only when somebody says so."""

import io
import json
import re
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from chalicelib.api.principal import caller_of
from chalicelib.domain.calendar import Period
from chalicelib.domain.entries import ERASED
from chalicelib.domain.errors import IdempotencyKeyReused
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.plans import OnPlanChange, OnSignup
from chalicelib.domain.subscriptions import SuppressedBecause, suppress
from chalicelib.jobs.manual import CALLER
from chalicelib.messages.work import SweepKind, UsersMessage
from chalicelib.operations import on_request
from chalicelib.operations.adjustments import Adjustment, adjust
from chalicelib.operations.holds import End, end_hold, hold_credits
from chalicelib.operations.on_request import CarryOver, Void, void_batch
from chalicelib.store.ledger import Outcome
from chalicelib.store.mails import record_id
from chalicelib.store.stripe import Customer
from infra import reach, session
from infra.local import stacks
from infra.repair import allocate, command, erase, export, redrive, replay, void
from infra.repair.command import Repair, RepairError
from tests.aws.damage import (
    damage,
    damage_entry,
    damage_subscription,
    having,
    never_consistent,
    without,
)
from tests.aws.repair import CtrlC, Main, Terminal
from tests.aws.stripe_events import Stripe, subscription
from tests.aws.world import BY_TEST, World, at, client, resources_document

MIDNIGHT = "2026-01-31T23:00:00Z"  # in Paris
FEBRUARY = ("--period", "2026-02")
BUSY = ClientError({"Error": {"Code": "ServiceUnavailable", "Message": "try again"}}, "Request")


def refuses(*_: object, **__: object) -> Any:
    raise BUSY


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
    assert "No messages wait in dead-letter queues." in terminal.run(redrive.main).said
    for user_id in ("1", "2"):
        dead_allocation(world, user_id)
    ran = terminal.run(redrive.main, "--json")
    assert ran.status == 0
    assert ran.facts["queues"] == {
        "allocations": 2,
        "expiries": 0,
        "ledger-stream": 0,
        "notifications": 0,
        "sweeps": 0,
    }
    assert "2 messages wait" in ran.said
    assert re.search(r"allocations +│ +2 │", ran.said)


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
    limited = (redrive.main, "--queue", "allocations-dlq", "--limit", "11")
    ran = terminal.run(*limited, "--yes", "--json")
    assert (ran.status, ran.facts["moved"], ran.facts["waiting"]) == (0, 11, 2)
    assert ran.facts["queue"] == "allocations"
    assert "Moved 11 of 11 messages back to allocations.\n" in ran.said
    assert "Would move 2 of 2 messages" in terminal.run(*limited, "--dry-run").said
    moved = world.take("allocations")
    assert len(moved) == 11
    assert {*moved, *world.take("allocations-dlq")} == bodies


def test_before_it_moves_anything_it_shows_messages_and_why_they_failed(
    world: World, terminal: Terminal
) -> None:
    body = dead_allocation(world, "1")
    assert len(body) < 300
    for number, longer in enumerate(("x" * 300, "[bold]" + "y" * 295, "z")):
        world.put_back("allocations-dlq", [longer])
        ran = terminal.run(redrive.main, "--queue", "allocations", "--dry-run", "--json")
        assert f"Would move {number + 2} of {number + 2} messages back to allocations" in ran.said
    shown = [message["body"] for message in ran.facts["messages"]]
    assert len(shown) == 3, "the answer has more than the table"
    assert set(shown) < {body, "x" * 300, "[bold]" + "y" * 294 + "...", "z"}
    assert {message["why"] for message in ran.facts["messages"]} == {"not known"}
    assert ran.facts["messages"][0]["receives"] > 1
    assert ran.facts["messages"][0]["sent_at"][:4] in f"{datetime.now(UTC):%Y}, {MIDNIGHT}"
    assert len(world.take("allocations-dlq")) == 4
    assert world.take("allocations") == []


def test_a_queue_that_does_not_exist_is_refused_with_the_one_that_was_meant(
    terminal: Terminal,
) -> None:
    ran = terminal.run(redrive.main, "--queue", "alocations", "--yes")
    assert ran.status == 1
    assert "did you mean allocations?" in ran.said
    said = terminal.run(redrive.main, "--queue", "[/x]").said
    assert said == (
        "error: There is no dead-letter queue of [/x]: the queues are allocations, expiries, "
        "ledger-stream, notifications, sweeps\n"
    )


def test_stream_ranges_cannot_be_moved_back_and_it_says_what_to_do(
    world: World, terminal: Terminal
) -> None:
    world.put_back("ledger-stream-dlq", ["{}"])
    for words in ("--yes", "--dry-run"):
        ran = terminal.run(redrive.main, "--queue", "ledger-stream", words)
        assert ran.status == 1
        assert "comes from no queue" in ran.said
        assert "docs/mail.md" in ran.said
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
    assert "Replayed 2 of 2 ticks; their sweeps run now.\n" in ran.said
    assert all(event["zones"] == ["Europe/Paris"] for event in terminal.functions.events)


def test_a_range_has_both_of_its_ends_and_is_asked_about_with_its_ticks_and_zones(
    world: World, terminal: Terminal
) -> None:
    world.now = at("2026-01-31T23:15:00Z")
    span = ("--from", MIDNIGHT, "--to", "2026-01-31T23:15Z", "--kind", "allocation")
    zones = ("--zones", " Europe/Paris, Europe/Berlin Asia/Tokyo ")
    ran = terminal.run(replay.main, *span, *zones, "--dry-run", "--json")
    assert (ran.status, ran.facts["ticks"], ran.facts["replayed"]) == (0, 2, [])
    assert "Would replay 2 ticks, which sweep 4 zones." in ran.said
    title = f"allocation ticks of {MIDNIGHT} to 2026-01-31T23:15:00Z that start sweeps"
    assert title in " ".join(ran.said.split())
    assert re.search(rf"{MIDNIGHT} +│ +2 │", ran.said)
    assert "2 of 2 ticks have something to sweep." in ran.said
    week = ("--from", "2026-01-24T23:15Z", "--to", "2026-01-31T23:15Z", "--kind", "allocation")
    dry = terminal.run(replay.main, *week, *zones, "--dry-run", "--json")
    assert dry.facts["ticks"] == 7 * 96 + 1
    assert "\n6 of 673 ticks have something to sweep." in dry.said


@pytest.mark.parametrize(
    ("zones", "where"), [((), "anywhere"), (("--zones", "Europe/Paris"), "in the chosen zones")]
)
def test_a_tick_that_starts_nothing_is_said_and_not_asked_about(
    world: World, terminal: Terminal, zones: tuple[str, ...], where: str
) -> None:
    world.now = at("2026-02-03T12:00:00Z")
    quiet = ("--from", "2026-01-20T20:15Z", "--kind", "allocation")
    ran = terminal.run(replay.main, *quiet, *zones)
    said = f"At 2026-01-20T20:15:00Z no allocation sweep was due {where}."
    assert (ran.status, said in ran.said) == (0, True), ran.said


def test_the_expiry_is_replayed_by_the_tick_of_its_own(world: World, terminal: Terminal) -> None:
    world.subscribe(plan="starter")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-03-02T23:00:00Z")
    tick = (replay.main, "--from", "2026-03-02T23:00Z", "--kind", "expiry")
    asked = terminal.run(*tick, "--zones", "Europe/Paris", "--dry-run").said
    assert "Would replay 1 ticks, which sweep 1 zones." in asked, "the reminders are in it"
    assert terminal.run(*tick, "--yes").status == 0
    world.drain()
    assert world.summary() == [("allocation", 100, 100), ("expiration", -100, 0)]


def test_a_tick_that_is_refused_is_reported_and_the_exit_status_says_so(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.now = at("2026-02-03T12:00:00Z")
    monkeypatch.setattr(
        world, "tick", lambda kind, **_: {"success": False, "error": f"no {kind.value} [/today]"}
    )
    ran = terminal.run(replay.main, "--from", "2026-01-31T23:00Z", *REPLAY, "--yes", "--json")
    assert ran.status == 1
    (failed,) = ran.facts["failed"]
    assert failed["time"] == MIDNIGHT
    assert "no allocation [/today]" in failed["why"]
    assert f"FAILED: {failed['why']}" in ran.said
    assert "Replayed 0 of 1 ticks" in ran.said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--from", "2026-01-31T23:07Z"),
            "quarter of an hour, when the ticks are: 2026-01-31T23:00:00Z or 2026-01-31T23:15:00Z",
        ),
        (("--from", "2026-01-31T23:00:01Z"), "--from: must be a quarter of an hour"),
        (("--from", "yesterday"), "--from"),
        (("--from", "2026-01-10T00:00Z", "--to", "2026-01-09T00:00Z"), "--to: must not be before"),
        (
            ("--from", "2026-01-01T00:00Z", "--to", "2026-01-08T00:15Z"),
            "after --from: replay longer ranges in parts, the first until 2026-01-08T00:00:00Z",
        ),
        (
            ("--from", "2026-01-15T12:00Z", "--to", "2026-01-15T12:15Z"),
            "--to: must not be ahead of the clock: 2026-01-15T12:00:00.250Z",
        ),
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
    again = terminal.run(allocate.main, *FEBRUARY, "--user-id", "1", "--json")
    assert again.status == 0, "it asks about granting nothing"
    assert again.facts["users"][0]["because"]["code"] == "allocated_before"
    assert "to 0 of 1 users. Nothing: 1 allocated_before.\n" in again.said
    world.allocate_at(MIDNIGHT)
    assert world.lines() == by_hand


def test_missed_months_come_first_and_nothing_after_the_period_asked_for(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.now = at("2026-04-03T12:00:00Z")
    through_march = (allocate.main, "--period", "2026-03", "--user-id", "1")
    asked = terminal.run(*through_march, "--dry-run").said
    assert (
        "Would grant 1,000 credits to 1 of 1 users, all that is due to them through 2026-03."
    ) in asked
    assert "Due: 1,000 credits in 2 allocations, to 1 of 1 users.\n" in asked
    ran = terminal.run(*through_march, "--yes", "--json")
    assert "Granted: 1,000 credits in 2 allocations, to 1 of 1 users.\n" in ran.said
    assert "500 for 2026-02, 500 for 2026-03" in ran.said
    granted = ran.facts["users"][0]["granted"]
    assert [each["period"] for each in granted] == ["2026-02", "2026-03"]
    assert [entry.allocated_through for entry in world.history()] == [
        Period(2026, 2),
        Period(2026, 3),
    ]


def test_an_allocation_for_a_user_who_is_not_there_fails(world: World, terminal: Terminal) -> None:
    for how in ("--dry-run", "--yes"):
        ran = terminal.run(allocate.main, *FEBRUARY, "--user-id", "nobody", how, "--json")
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
    file.write_text("2\n 3 \n\n \n1\n2\n")
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes", "--json")
    assert ran.status == 0
    assert [user["user_id"] for user in ran.facts["users"]] == ["2", "3", "1"]
    users = {user["user_id"]: user for user in ran.facts["users"]}
    assert users["1"]["granted"][0]["amount"] == 500
    assert users["2"]["because"]["code"]
    assert users["3"]["because"]["code"] == "no_such_user"
    assert "grant 500 credits to 1 of 3 users, all that is due" in ran.said
    assert ran.said.endswith("to 1 of 3 users. Nothing: 1 no_such_user, 1 subscription_paused.\n")
    assert re.search(r"3 +│ nothing: There is no user of this id\. ", ran.said)
    assert len(world.lines()) == 1
    again = terminal.run(allocate.main, *FEBRUARY, "--file", str(file))
    assert (again.status, "Due: 0 credits" in again.said) == (0, True), "it asks about nothing"


@pytest.mark.parametrize("most", [2, 4])
def test_who_receives_something_and_who_failed_are_shown_before_all_others(
    world: World,
    terminal: Terminal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most: int,
) -> None:
    for user_id in ("a", "b", "c", "d"):
        world.subscribe(user_id, status="active" if user_id in "bc" else "paused")
    damage_subscription(without("plan"), "c")
    monkeypatch.setattr(allocate, "MOST_SHOWN", most)
    world.now = at("2026-02-03T12:00:00Z")
    file = tmp_path / "users.txt"
    file.write_text("a\nb\nc\nd\n")
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes", "--json")
    assert ran.status == 1
    assert "1 of 4 users. Nothing: 2 subscription_paused. 1 failed: run it again.\n" in ran.said
    assert [user["user_id"] for user in ran.facts["users"]] == ["a", "b", "c", "d"]
    shown = re.findall(r"^│ ([a-d]) +│ (\w+)", ran.said, re.MULTILINE)
    everybody = [("b", "500"), ("c", "FAILED"), ("a", "nothing"), ("d", "nothing")]
    assert shown == everybody[:most]
    assert "│ FAILED: subscription of user c: plan is missing │" in ran.said
    assert ("... and 2 more; --json has all of them" in ran.said) is (most == 2)
    assert ("... and" in ran.said) is (most == 2)


def test_a_user_who_could_not_be_looked_at_is_tried_all_the_same(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")
    find, calls = world.services.subscriptions.find, count()
    monkeypatch.setattr(
        world.services.subscriptions,
        "find",
        lambda user_id: find(user_id) if next(calls) else refuses(),
    )
    ran = terminal.run(allocate.main, *FEBRUARY, "--user-id", "1", "--yes")
    assert (ran.status, world.balance()) == (0, 500), ran.said
    assert "About to grant 0 credits to 1 of 1 users" in ran.said


def test_a_file_of_strangers_fails_and_a_zone_where_nobody_lives_does_not(
    terminal: Terminal, tmp_path: Path
) -> None:
    file = tmp_path / "users.txt"
    file.write_text("8\n9\n")
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file))
    assert (ran.status, "Nothing: 2 no_such_user." in ran.said) == (1, True)
    ran = terminal.run(allocate.main, *FEBRUARY, "--zone", "Asia/Tokyo")
    assert (ran.status, "to 0 of 0 users.\n" in ran.said) == (0, True)


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
        (b"1\n\n \na#b\n", "line 4:"),
        (b"1\n" + b"a#b\n" * 51, "line 51:"),
        (b"\n", "names nobody"),
        (b"1\nZo\xeb\n", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_used_allocates_nothing(
    world: World, terminal: Terminal, tmp_path: Path, content: bytes | None, said: str
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")
    file = tmp_path / "users.txt"
    if content is not None:
        file.write_bytes(content)
    ran = terminal.run(allocate.main, *FEBRUARY, "--file", str(file), "--yes")
    assert ran.status == 1
    assert said in ran.said
    assert "line 52:" not in ran.said, "more wrong lines than anybody reads"
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
    assert "30 credits remain of 30 granted 2026-01-15T12:00:00.250Z, never expires;" in ran.said
    assert "balance becomes 50; the user gets an email." in ran.said
    assert "Voided 30 credits of batch 1-1 in transaction 1-3.\n" in ran.said
    again = terminal.run(void.main, *VOID, "--batch", "1", "--json")
    assert again.status == 0, "it asks about doing nothing"
    held = {"held": 0}
    assert again.facts | held == {**ran.facts, "replayed": True, "returned_since": 0}
    assert again.said == "Voided before, in transaction 1-3: nothing to do.\n"
    assert terminal.run(void.main, *VOID, "--batch", "1", "--dry-run").said == again.said
    last = world.history()[-1]
    assert (last.actor, last.description, last.silent) == ("ada", "Granted by mistake", False)
    assert [entry.amount for entry in world.history()] == [30, 50, -30]
    silent = terminal.run(void.main, *VOID, "--batch", "2", "--no-mail", "--yes")
    assert "the user gets no email." in silent.said
    assert (world.balance(), world.history()[-1].silent) == (0, True)


def test_what_would_be_voided_is_said_as_it_is_and_what_was_voided_as_it_became(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe(plan="starter")
    world.now = at("2026-02-03T12:00:00Z")
    world.allocate_at(MIDNIGHT)
    on_request.use_credits(world.services, "1", 40, "Export", caller="shop", key="a")
    dry = terminal.run(void.main, *VOID, "--batch", "1", "--dry-run", "--json")
    assert (dry.facts["voided"], "transaction_id" in dry.facts) == (0, False)
    assert "Nothing was voided." in dry.said
    asked: list[str] = []

    def spends_meanwhile(_: Repair, what: str) -> bool:
        asked.append(what)
        on_request.use_credits(world.services, "1", 5, "Export", caller="shop", key="b")
        return True

    monkeypatch.setattr(Repair, "is_agreed", spends_meanwhile)
    ran = terminal.run(void.main, *VOID, "--batch", "1", "--json")
    (question,) = asked
    assert question == (
        "void batch 1-1: 60 credits remain of 100 granted 2026-01-31T23:00:00Z, expires "
        "2026-03-04T23:00:00Z; the ledger balance becomes 0; the user gets an email"
    )
    assert (ran.facts["voided"], ran.facts["new_balance"]) == (55, 0)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--batch", "x"), "--batch: must be a batch of user 1"),
        (("--batch", "2-1"), "--batch: must be a batch of user 1"),
        (("--batch", "9"), "1-9"),
        (("--batch", "1", "--actor", ""), "--actor"),
        (("--batch", "1", "--reason", "x" * 501), "--reason: must be at most 500"),
        (("--batch", "1", "--key", "a b"), "--key"),
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
    assert ran.facts["new_balance"] == 0, "what is held cannot be spent"
    assert "30 credits remain of 30" in ran.said
    assert "20 of them held, which stay: 10 are taken" in ran.said
    assert "becomes 20" in ran.said
    again = terminal.run(void.main, *batch)
    assert (again.status, again.facts["replayed"], again.facts["returned_since"]) == (0, True, 0)
    assert "20 credits of the batch are held; INCLUDING_HELD=1 takes those, too." in again.said
    assert "Since then" not in again.said
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
    world.grant("1", 50, "b")
    batch = (*VOID, "--batch", "1-1", "--yes", "--json")
    terminal.run(void.main, *batch)
    end_hold(world.services, End(hold_id="1-2", amount=0, caller="shop"))
    hold_credits(world.services, "1", 5, "A job", seconds=3600, caller="shop", key="other")
    ran = terminal.run(void.main, *batch)
    assert (ran.status, ran.facts["returned_since"]) == (1, 15)
    assert "5 credits of the batch are held" in ran.said
    assert "Since then 15 credits have come back to the batch" in ran.said


def test_of_a_hold_only_what_it_has_of_the_batch_is_held_and_only_until_it_ends(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    world.grant("1", 50, "b")
    hold_credits(world.services, "1", 40, "A job", seconds=3600, caller="shop", key="job")
    second = (void.main, *VOID, "--batch", "2", "--json")
    asked = terminal.run(*second, "--dry-run")
    assert asked.facts["held"] == 10
    assert "50 credits remain of 50" in asked.said
    assert "10 of them held, which stay: 40 are taken (INCLUDING_HELD=1 takes all)" in asked.said
    world.now += timedelta(hours=1)
    ran = terminal.run(*second, "--yes")
    assert (ran.facts["held"], ran.facts["voided"], world.balance()) == (0, 50, 30)


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
    assert (ran.facts["stage"], ran.facts["exported_at"]) == ("dev", "2026-01-15T12:00:00.250Z")
    assert ran.facts["subscription"]["email"] == "user1@example.com"
    assert ran.facts["subscription"]["notifications"] == sorted(MailKind)
    assert ran.facts["stripe_customers"] == []
    (line,) = ran.facts["ledger"]
    assert (line["transaction_id"], line["entry"]["amount"]) == ("1-1", 30)
    assert line["hash"] == next(
        item["hash"]["S"] for item in world.lines() if item["user_id"]["S"] == "1"
    )
    assert "erased" not in line
    assert "Sorry, Ünal" in ran.printed
    assert ran.printed.endswith("\n}\n")
    (mail,) = ran.facts["mails"]
    assert (mail["identity"], mail["status"]) == ("manual 1-1", "COMPLETED")
    assert "user2@" not in ran.printed
    assert "1 ledger entries and 1 emails" in ran.said


TOLD = ["manual", "allocation", "refund", "expiration", "purchase", "low_balance"]


def test_an_export_has_a_form_for_every_field_of_a_subscription(
    world: World, terminal: Terminal
) -> None:
    world.with_plans(on_signup=OnSignup.FULL, on_plan_change=OnPlanChange.DIFFERENCE)
    start = {"started_at": "2026-01-10T00:00:00Z", "plan": "starter"}
    world.subscribe("1", **start, notifications=TOLD)
    for plan in ("pro", "business"):
        world.subscribe("1", plan=plan)
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
        f"{version:012}#" for version in (6, 5, 4, 3, 2, 1)
    ]
    assert "user1@example.com" in ran.facts["edits"][0]["body"]
    found = ran.facts["subscription"]
    signed = {"period": "2026-01", "amount": 100, "at": "2026-01-15T12:00:00.250Z"}
    assert found["sign_up"] == signed
    assert found["raised"] == {
        "period": "2026-01",
        "level": 2_000,
        "top_ups": [
            {"amount": 220, "at": "2026-01-15T12:00:00.250Z"},
            {"amount": 823, "at": "2026-01-15T12:00:00.251Z"},
        ],
    }
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
    item["body"]["S"] = "tampered" * 99
    client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    first, second = terminal.run(export.main, "--user-id", "1").facts["ledger"]
    assert first["entry"]["amount"] == 30
    assert second["entry"] == "tampered" * 99


def test_nobody_and_a_user_id_that_cannot_be_one_are_not_exported(terminal: Terminal) -> None:
    for user_id, said in (("1", "Nothing is kept of user 1"), ("a#b", "--user-id")):
        ran = terminal.run(export.main, "--user-id", user_id)
        assert (ran.status, ran.printed) == (1, "")
        assert said in ran.said


def test_a_dry_export_says_what_there_is_and_writes_nothing(
    world: World, terminal: Terminal
) -> None:
    world.subscribe()
    for key in ("a", "b"):
        world.grant("1", 30, key)
    ran = terminal.run(export.main, "--user-id", "1", "--dry-run")
    assert (ran.status, ran.printed) == (0, "")
    assert "a subscription, 1 edits of it and 2 ledger entries" in ran.said


def test_whatever_there_is_of_a_user_is_exported_by_itself(
    world: World, terminal: Terminal
) -> None:
    world.services.settings = world.services.settings._replace(stripe_table="")  # an old release
    world.subscribe("Ada")
    world.subscribe("2")
    assert len(list(world.services.edits.erase("Ada"))) == 1
    world.services.subscriptions.remove("2")
    for user_id, has, edits in (("Ada", "a subscription, 0", 0), ("2", "no subscription, 1", 1)):
        ran = terminal.run(export.main, "--user-id", user_id)
        assert (ran.status, len(ran.facts["edits"])) == (0, edits)
        assert (ran.facts["subscription"] is None) is bool(edits)
        assert "stripe_customers" not in ran.facts
        dry = terminal.run(export.main, "--user-id", user_id, "--dry-run")
        assert f"Would write {has} edits of it and 0 ledger entries of user {user_id}" in dry.said


def test_an_export_has_what_stripe_says_of_the_user(stripe: Stripe, terminal: Terminal) -> None:
    stripe.world.subscribe()
    assert stripe.sends("customer.subscription.created", subscription())[0] == 200
    paused = {"thing": subscription(status="paused"), "previous": {"status": "active"}}
    assert stripe.sends("customer.subscription.updated", **paused)[0] == 200
    found = terminal.run(export.main, "--user-id", "1").facts
    (customer,) = found["stripe_customers"]
    assert (customer["about"], customer["user_id"]) == ("customer#cus_1", "1")
    (contract,) = found["subscription"]["contracts"]
    assert (contract["id"], contract["seen_at"]) == ("sub_1", "2026-01-15T12:00:02Z")
    (report,) = contract["reports"]
    assert (report["billed"]["plan"], report["billed"]["status"]) == ("pro", "paused")
    assert (report["before"]["plan"], report["before"]["status"]) == ("pro", "active")


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
    for customer, user_id in (("cus_1", "1"), ("cus_2", "1"), ("cus_3", "2")):
        world.services.stripe.learn(customer, Customer(user_id))
    ran = terminal.run(erase.main, *erase_1)
    assert ran.status == 0
    assert (
        "About to erase for good the subscription, with its address, 1 records of edits of it, who "
        "they are to Stripe (2 customers), and the texts of 2 of 2 ledger entries of user 1, whose "
        "ledger balance of 20 credits stays; nobody can undo it.\n"
    ) in ran.said
    assert (
        "Erased the subscription, 1 records of edits and the texts of 2 entries of user 1; the "
        "ledger is right.\n"
    ) in ran.said
    assert ran.facts == {
        "dry_run": False,
        "user_id": "1",
        "subscription_removed": True,
        "edits_removed": 1,
        "customers_removed": 2,
        "texts_erased": 2,
    }
    owners = [world.services.stripe.customer(f"cus_{number}").user_id for number in (1, 2, 3)]
    assert owners == [None, None, "2"]
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
    world.subscribe(plan="business")
    world.services.subscriptions.remove("1")
    assert next(world.services.ledger.erase("1"))
    dry = terminal.run(erase.main, "--user-id", "1", "--dry-run", "--json")
    assert "erase for good no subscription, 2 records of edits of it, and the texts" in dry.said
    assert "Nothing was erased." in dry.said
    assert (dry.facts["texts_erased"], dry.facts["edits_removed"]) == (0, 0)
    world.services.stripe.learn("cus_1", Customer("1"))
    world.services.settings = world.services.settings._replace(stripe_table="")  # an old release
    ran = terminal.run(erase.main, "--user-id", "1", "--yes", "--json")
    assert (ran.status, ran.facts["texts_erased"]) == (0, 1)
    assert (ran.facts["edits_removed"], ran.facts["customers_removed"]) == (2, 0)
    assert "Erased 2 records of edits and the texts of 1 entries of user 1" in ran.said
    assert "Goodwill" not in str(world.lines())


def test_whatever_there_is_of_a_person_is_erased_by_itself(
    world: World, terminal: Terminal
) -> None:
    world.subscribe("1")
    assert len(list(world.services.edits.erase("1"))) == 1
    world.subscribe("2")
    world.services.subscriptions.remove("2")
    world.services.stripe.learn("cus_3", Customer("3"))
    for user_id, erased in (
        ("1", "subscription_removed"),
        ("2", "edits_removed"),
        ("3", "customers_removed"),
    ):
        ran = terminal.run(erase.main, "--user-id", user_id, "--yes", "--json")
        assert (ran.status, ran.facts[erased]) == (0, 1)
        again = terminal.run(erase.main, "--user-id", user_id, "--yes", "--json")
        assert (again.status, again.facts[erased]) == (0, 0)


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
        assert "About to " in declined.said
        assert (unasked.printed, declined.printed) == ("", "")
    assert world.lines() == before
    assert world.services.subscriptions.find("1") is not None
    assert terminal.functions.events == []
    assert world.take("allocations") == []
    assert len(world.take("allocations-dlq")) == 1


def test_a_typed_yes_is_enough(world: World, terminal: Terminal) -> None:
    world.subscribe()
    world.grant("1", 30, "a")
    terminal.answer = "y"
    ran = terminal.run(void.main, *VOID, "--batch", "1")
    assert (ran.status, ran.printed) == (0, "")
    assert world.balance() == 0


def test_a_command_reaches_the_stage_and_the_region_that_are_named_and_no_other_stage(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[tuple[str, str | None]] = []
    reach_of_world = reach.reach

    def reaches(stage: str, region: str | None) -> reach.Reach:
        reached.append((stage, region))
        return reach_of_world(stage, region)

    monkeypatch.setattr(reach, "reach", reaches)
    assert terminal.run(redrive.main).status == 0
    assert terminal.run(redrive.main, "--stage", "prod", "--region", "eu-west-3").status == 0
    ran = terminal.run(redrive.main, "--stage", "prodd")
    assert (ran.status, "There is no stage 'prodd'" in ran.said) == (1, True)
    assert reached == [("local", None), ("prod", "eu-west-3")]


@pytest.mark.parametrize(
    "error", [stacks.NotRunningError("Start one: make up"), session.AwsError("No [/region]"), BUSY]
)
def test_a_stage_out_of_reach_is_said_in_one_line_on_standard_error(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def out_of_reach(*_: object) -> Any:
        raise error

    monkeypatch.setattr(reach, "reach", out_of_reach)
    ran = terminal.run(redrive.main, "--json")
    assert (ran.status, ran.printed) == (1, "")
    assert ran.said == f"error: {session.words(error)}\n"


def test_what_is_begun_for_each_is_told_in_their_order_whatever_ends_first(
    world: World, terminal: Terminal
) -> None:
    world.services.threads = 2
    is_second_done = Event()

    def do(name: str) -> str:
        if name == "ü":
            assert is_second_done.wait(10)
        else:
            is_second_done.set()
        if name == "bad":
            raise BUSY
        return name.upper()

    repair = Repair("local", Console(file=io.StringIO()))
    assert terminal.world is world
    assert list(repair.each("Doing", ["ü", "bad", "c"], do).items()) == [
        ("ü", "Ü"),
        ("bad", BUSY),
        ("c", "C"),
    ]


def test_ctrl_c_begins_nothing_more_and_says_that_the_same_command_finishes_it(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    world.now = at("2026-02-03T12:00:00Z")
    ctrl_c = CtrlC(monkeypatch, command)
    monkeypatch.setattr(allocate.Allocating, "post", lambda _, user_id: ctrl_c.work(user_id))
    ran = terminal.run(allocate.main, *FEBRUARY, "--zone", "Europe/Paris", "--yes", "--json")
    assert (ran.status, ran.printed) == (130, "")
    assert "Run the same command again to finish what it began." in ran.said
    assert len(ctrl_c.begun) <= 2, "it went on after Ctrl-C"


def test_ctrl_c_before_anything_is_begun_says_the_same(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupts(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(redrive, "list_all", interrupts)
    ran = terminal.run(redrive.main, "--json")
    assert (ran.status, ran.printed) == (130, "")
    assert "Interrupted. Run the same command again" in ran.said


def test_a_table_shows_texts_as_they_are_and_numbers_on_the_right(terminal: Terminal) -> None:
    shown = io.StringIO()
    repair = Repair("local", Console(file=shown, width=60))
    long = f"[red]{'word ' * 12}[/]"
    repair.say(long)
    repair.show("Some", ("user", "#credits"), [("[b]Zoë[/b]", 1_234_567), ("\\[b]2", 5)])
    said, *lines = shown.getvalue().splitlines()
    assert said == long
    assert lines[0].strip() == "Some"
    assert [line for line in lines if line.startswith(("┃", "│"))] == [
        "┃ user       ┃   credits ┃",
        "│ [b]Zoë[/b] │ 1,234,567 │",
        "│ \\[b]2      │         5 │",
    ]
    assert terminal.refused(export.main, "--user-id", "1", "--yes").count("--yes") == 1


# When something goes wrong on the way -------------------------------------------------------------


def may_not(*_: object, **__: object) -> Any:
    raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no right"}}, "Request")


def in_queue(world: World, name: str) -> int:
    """How many messages a queue has, hidden ones among them."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    url = world.queue_url(name)
    counts = world.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values())


A_MESSAGE = {
    "MessageId": "m-1",
    "ReceiptHandle": "h",
    "Body": "b",
    "Attributes": {"SentTimestamp": "1767229200123", "ApproximateReceiveCount": "1"},
}


def test_a_redrive_that_cannot_send_deletes_nothing(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2", "3"):
        dead_allocation(world, user_id)
    monkeypatch.setattr(world.sqs, "send_message_batch", may_not)
    ran = terminal.run(redrive.main, "--queue", "allocations", "--yes")
    assert (ran.status, "Ask the administrator of the account" in ran.said) == (1, True)
    assert in_queue(world, "allocations-dlq") == 3, "messages were deleted that were never sent"
    none = {"Failed": [{"Id": "0", "Code": "TooMuch", "SenderFault": False}]}
    monkeypatch.setattr(world.sqs, "send_message_batch", lambda **_: none)
    monkeypatch.setattr(redrive.DeadLetters, "_receive", lambda *_, **__: [A_MESSAGE])
    ran = terminal.run(redrive.main, "--queue", "allocations", "--yes")
    assert (ran.status, "SQS does not take the messages: " in ran.said) == (1, True), ran.said
    assert "TooMuch" in ran.said
    assert "2026-01-01T01:00:00.123Z" in ran.said


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
    assert in_queue(world, "allocations-dlq") == 0, "without a limit, all are moved"
    # Less than a second asks some of SQS's servers, which may have none of a queue's few messages.
    assert {request["WaitTimeSeconds"] for request in asked} == {1}
    # Shown ones stay visible; what is moved is hidden from others who move messages.
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


class Sqs:
    """In place of SQS: what it gives to each request, and what it was asked to do."""

    def __init__(self, *given: str) -> None:
        self.given = [
            [A_MESSAGE | {"MessageId": name, "Body": name.lower()} for name in m] for m in given
        ]
        self.done: list[str] = []

    def receive_message(self, **request: Any) -> dict[str, Any]:
        self.done.append(f"receive {request['MaxNumberOfMessages']}")
        return {"Messages": self.given.pop(0)} if self.given else {}

    def send_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        self.done.append(f"send {''.join(each['MessageBody'] for each in Entries)} to {QueueUrl}")
        return {"Successful": Entries}

    def delete_message_batch(self, QueueUrl: str, Entries: list[dict[str, Any]]) -> None:  # noqa: N803
        self.done.append(f"delete {len(Entries)} of {QueueUrl}")


def dead_letters(sqs: Sqs, name: str = "checks", **queues: str) -> redrive.DeadLetters:
    here = SimpleNamespace(queues={f"{name}-dlq": "dead", **queues}, client=lambda _: sqs)
    return redrive.DeadLetters(cast("Repair", SimpleNamespace(reach=here)), name)


def test_three_messages_are_shown_and_once_there_are_so_many_no_more_are_asked_for() -> None:
    sqs = Sqs("aA", "acd", "e")  # two messages have the same body
    assert [message["MessageId"] for message in dead_letters(sqs).peek()] == ["a", "A", "c"]
    assert len(sqs.done) == 2


def test_however_few_messages_sqs_gives_at_once_it_is_asked_until_it_has_none() -> None:
    sqs = Sqs("ab", "c")
    assert list(dead_letters(sqs, checks="alive").move(12)) == [2, 1]
    assert sqs.done == [
        *("receive 10", "send ab to alive", "delete 2 of dead"),
        *("receive 10", "send c to alive", "delete 1 of dead"),
        "receive 9",
    ]


@pytest.mark.parametrize(("name", "page"), [("webhook", "events"), ("mail-events", "mail")])
def test_what_comes_from_no_queue_is_explained_on_its_page(name: str, page: str) -> None:
    with pytest.raises(RepairError, match=f"{name}-dlq comes from no queue.* docs/{page}.md says"):
        _ = dead_letters(Sqs(), name).target


class Logs:
    """In place of CloudWatch Logs: pages of lines, and what was asked for."""

    def __init__(self, *pages: str) -> None:
        self.pages = pages
        self.asked: list[dict[str, Any]] = []

    def filter_log_events(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        page = len(self.asked)
        more = {"nextToken": f"page {page}"} if page < len(self.pages) else {}
        lines = [line for line in self.pages[page - 1 : page] if line]
        return {"events": [{"message": line} for line in lines], **more}


@pytest.mark.parametrize(
    "queue", ["sweeps", "allocations", "expiries", "notifications", "checks", "events"]
)
def test_why_a_message_failed_is_the_last_its_own_reader_says_of_it(queue: str) -> None:
    functions = resources_document()["Resources"]
    (reader,) = [
        function["Properties"]["FunctionName"]["Fn::Sub"].removeprefix("credits-${Stage}-")
        for function in functions.values()
        for event in function["Properties"].get("Events", {}).values()
        if event["Properties"].get("Queue") == {"Fn::Sub": f"${{{queue.capitalize()}Queue.Arn}}"}
    ]
    logs = Logs('{"message":"tried","error":"first"}', "", 'x {"error":"it was throttled"}')
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
        '{"level":"ERROR"}\n': '{"level":"ERROR"}',
        '{"message":"not taken","error":"no room"}': "no room",
    }.items():
        assert redrive._error_in(said) == why
    asked = {
        "logGroupName": f"/aws/lambda/credits-prod-{reader}",
        "filterPattern": '"m-1"',
        "startTime": 1_767_225_600_123,
    }
    assert logs.asked[0].items() >= asked.items()
    assert [request.get("nextToken") for request in logs.asked][1:] == ["page 1", "page 2"]
    logs.asked, logs.pages = [], tuple(f"page {number}" for number in range(1, 12))
    assert dead.why(message) == "page 10"
    setattr(logs, "filter_log_events", refuses)  # noqa: B010 - in place of the method
    assert dead.why(message).startswith("its log could not be read: ")


def test_what_a_webhook_refused_is_explained_by_the_page_about_events() -> None:
    reach = SimpleNamespace(queues={"webhook-dlq": "http://dead"}, client=lambda _service: None)
    dead = redrive.DeadLetters(cast("Repair", SimpleNamespace(reach=reach)), "webhook")
    with pytest.raises(RepairError, match=r"docs/events\.md says what to do"):
        _ = dead.target


@pytest.mark.parametrize(
    ("functions", "said"),
    [
        ({}, "not known"),
        ({"allocate-accounts": "f"}, "its log could not be read: .*ServiceUnavailable.*"),
    ],
)
def test_a_log_that_cannot_be_read_or_says_nothing_keeps_nobody_from_a_redrive(
    functions: dict[str, str], said: str
) -> None:
    logs = SimpleNamespace(filter_log_events=refuses)
    queues = {"allocations-dlq": "http://dead"}
    reach = SimpleNamespace(queues=queues, functions=functions, client=lambda _service: logs)
    dead = redrive.DeadLetters(cast("Repair", SimpleNamespace(reach=reach)), "allocations")
    message = {"MessageId": "m-1", "Attributes": {"SentTimestamp": "1767225600123"}}
    assert re.fullmatch(said, dead.why(message))
    logs.filter_log_events = lambda **_: {"events": []}
    if functions:
        assert dead.why(message).startswith("not in the log of f: it died or ran out of time")


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


def test_what_somebody_else_has_granted_since_the_question_is_told_as_granted_before(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.now = at("2026-02-03T12:00:00Z")

    def meanwhile(*_: object) -> bool:
        world.allocate_at(MIDNIGHT)
        return True

    monkeypatch.setattr(Repair, "is_agreed", meanwhile)
    ran = terminal.run(allocate.main, *FEBRUARY, "--user-id", "1")
    assert (ran.status, world.balance()) == (0, 500)
    assert "Granted: 0 credits in 0 allocations, to 0 of 1 users. Nothing: 1 allocated" in ran.said


def test_a_tick_that_fails_does_not_keep_the_later_ones_from_being_replayed(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.now = at("2026-02-03T12:00:00Z")
    tick, later = world.tick, "2026-01-31T23:15:00Z"

    def fails_later(kind: SweepKind, time: str, **event: object) -> dict[str, Any]:
        return {"success": False} if time == later else tick(kind, time, **event)

    monkeypatch.setattr(world, "tick", fails_later)
    span = ("--from", MIDNIGHT, "--to", "2026-02-01T00:00:00Z")
    ran = terminal.run(replay.main, *span, *REPLAY, "--yes", "--json")
    assert ran.status == 1
    facts = json.loads(ran.printed.splitlines()[-1])  # after what the ticks have logged
    assert [each["time"] for each in facts["failed"]] == [later]
    assert facts["replayed"] == [MIDNIGHT, "2026-02-01T00:00:00Z"], ran.said
    assert re.search(r"^Replaying ticks ━+ 3/3 ", ran.said, re.MULTILINE)


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


def test_an_export_has_all_emails_however_many_and_says_what_it_cannot_read(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MAILS_A_REQUEST", 2)
    world.subscribe()
    for number in range(5):
        world.grant("1", number + 1, f"key-{number}")
    world.queue_mails()
    assert world.send_mails() == []
    find = world.services.mail_records.find
    backwards = lambda some: dict(reversed(find(some).items()))  # noqa: E731 - of no order
    monkeypatch.setattr(world.services.mail_records, "find", backwards)
    ran = terminal.run(export.main, "--user-id", "1")
    found = [mail["identity"] for mail in ran.facts["mails"]]
    assert found == [f"manual 1-{number}" for number in range(1, 6)]
    assert ran.status == 0
    damage_subscription(without("plan"), "1")
    ran = terminal.run(export.main, "--user-id", "1")
    assert (ran.status, "1 items cannot be read" in ran.said) == (1, True), ran.said
    for name, value in (("debt", {"N": "-5"}), ("share", {"N": "0.5"}), ("new", {"BOOL": True})):
        damage_subscription(having(name, value))
    damage_entry(without("body"), number=2)
    damage("mails", {"id": {"S": record_id("manual 1-3")}}, without("status"))
    ran = terminal.run(export.main, "--user-id", "1")
    assert (ran.status, "3 items cannot be read" in ran.said) == (1, True), ran.said
    found = ran.facts["subscription"]
    assert (found["unreadable"], found["stored"]["timezone"]) == ("plan is missing", "Europe/Paris")
    assert [found["stored"][name] for name in ("debt", "share", "new")] == [
        *(-5, {"N": "0.5"}, {"BOOL": "True"})
    ]
    assert ["unreadable" in line for line in ran.facts["ledger"]] == [False, True, *[False] * 3]
    assert ["unreadable" in mail for mail in ran.facts["mails"]] == [False, True, False, False]


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
    """First the subscription: no sweep and no email finds the user. Then edits, then texts."""
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
    for number, actor in enumerate(("grace", "hopper#1", "ada")):
        world.grant("1", 10, f"key-{number}", actor=actor)
    name = "x" * 500  # longer than a subject of a token, and as a typed name long enough
    world.grant("1", 10, "key-3", actor=name)
    words = ("--user-id", "1", "--subject", "grace", "--subject", "hopper#1", "--subject", name)
    assert terminal.run(erase.main, *words, "--yes").status == 0
    assert [entry.actor for entry in world.history()] == [ERASED, ERASED, "ada", ERASED]


def test_a_subscription_that_was_written_just_now_is_exported_and_erased(
    world: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    never_consistent(world, monkeypatch)
    assert terminal.run(export.main, "--user-id", "1").facts["subscription"]["user_id"] == "1"
    assert (
        "the subscription, with its address"
        in terminal.run(erase.main, "--user-id", "1", "--dry-run").said
    )
