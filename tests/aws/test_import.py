"""Importing subscriptions: every row is checked before any is written; again changes nothing."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from rich.console import Console

from chalicelib.domain.edits import Editor, EditorKind
from chalicelib.domain.errors import Contention
from chalicelib.domain.subscriptions import Subscription
from chalicelib.operations.allocations import save_subscription
from chalicelib.services import Services
from chalicelib.store.edits import read_edit
from chalicelib.store.wire.errors import NoAnswer
from infra import reach, terminal
from infra.commands import import_subscriptions, run
from infra.commands.import_subscriptions import main
from infra.deployment import stage_services
from infra.imports import importing, subscriptions
from infra.imports.csv_file import CheckedFile, Row
from infra.imports.importing import Imported, import_rows, read_many
from infra.imports.subscriptions import SUBSCRIPTIONS
from infra.local import stacks
from infra.local.console import server
from tests.aws.damage import damage_subscription, without
from tests.aws.repair import CtrlC
from tests.aws.world import World, at

HEADER = (
    "user_id,email,timezone,plan,billing_interval,status,started_at,eligible_from,allocation_amount"
)
ADA = "1,ada@example.com,Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z,,"
BOB = "2,bob@example.com,Asia/Kolkata,starter,monthly,paused,2025-01-01T00:00:00Z,,250"


def text(*rows: str) -> str:
    return "\n".join((HEADER, *rows)) + "\n"


def check(world: World, content: str) -> CheckedFile:
    return SUBSCRIPTIONS.check(world.services, content)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The emulator in process is not safe with more."""
    monkeypatch.setattr(stage_services, "THREADS", 1)


@pytest.fixture
def command(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> "Command":
    monkeypatch.setattr(reach, "services_of", lambda *_: world.services)
    return Command(monkeypatch, tmp_path)


class Command:
    """The import command, run on files in a temporary directory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
        self.directory = directory
        self.output = io.StringIO()
        console = Console(file=self.output, width=200)
        monkeypatch.setattr(import_subscriptions, "Console", lambda **_: console)

    def run(self, content: str | bytes, *options: str) -> int:
        file = self.directory / "people.csv"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return main([str(file), *options])


def test_good_rows_are_imported(world: World, command: Command) -> None:
    assert command.run(text(ADA, BOB)) == 0
    ada, bob = world.services.subscriptions.get("1"), world.services.subscriptions.get("2")
    assert (ada.email, ada.timezone, ada.plan) == ("ada@example.com", "Europe/Paris", "pro")
    assert (bob.allocation_amount, bob.status.value, bob.billing_interval.value) == (
        250,
        "paused",
        "monthly",
    )
    assert ada.eligible_from == world.now
    (item,) = world.services.edits.items("1")
    assert read_edit(item).editor == Editor(EditorKind.IMPORT, None)
    assert (
        "Imported 2 subscriptions: 2 new, 0 changed, 0 unchanged, 0 outdated."
        in command.output.getvalue()
    )


def test_importing_again_changes_nothing_however_much_later(world: World, command: Command) -> None:
    command.run(text(ADA, BOB))
    before = world.services.subscriptions.get("1")
    world.now = at("2026-09-09T09:09:09Z")
    assert command.run(text(ADA, BOB).replace("1,ada", "1 ,ada")) == 0
    assert world.services.subscriptions.find("1 ") is None
    assert world.services.subscriptions.get("1") == before
    assert "0 new, 0 changed, 2 unchanged" in command.output.getvalue()


def test_an_edited_row_changes_its_subscription(world: World, command: Command) -> None:
    command.run(text(ADA))
    assert command.run(text(ADA.replace(",pro,", ",business,"))) == 0
    assert world.services.subscriptions.get("1").plan == "business"
    assert "0 new, 1 changed, 0 unchanged" in command.output.getvalue()


def test_one_bad_row_and_nothing_is_written(world: World, command: Command) -> None:
    assert command.run(text(ADA, BOB.replace("Kolkata", "Kolkatta").replace("paused", "idle"))) == 1
    assert world.services.subscriptions.find("1") is None
    shown = command.output.getvalue()
    assert "1 of 2 rows are wrong. Nothing was written" in shown
    for words in ("3", "timezone", "'Asia/Kolkatta'", "did you mean 'Asia/Kolkata'?"):
        assert words in shown


def test_with_skip_invalid_the_good_rows_are_written_and_the_bad_ones_saved(
    world: World, command: Command
) -> None:
    bad = BOB.replace("starter", "starterr").replace("paused", "idle")
    assert command.run(text(ADA, bad), "--skip-invalid") == 0
    said = command.output.getvalue()
    assert ("\n1 wrong rows are saved to" in said, "Imported 1 subs" in said) == (True, True)
    assert world.services.subscriptions.find("1") is not None
    assert world.services.subscriptions.find("2") is None
    assert (command.directory / "people.invalid.csv").read_text() == text(bad)


def test_where_the_wrong_rows_are_is_said_to_the_letter(command: Command) -> None:
    file = command.directory / "[old] people.csv"
    file.write_text(text(ADA, "2"))
    assert main([str(file), "--skip-invalid"]) == 0
    saved = file.with_name("[old] people.invalid.csv")
    assert f"1 wrong rows are saved to {saved}\n" in command.output.getvalue()


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (ADA.replace("1,ada@", ",ada@"), "user_id", "is required"),
        (ADA.replace("1,ada@", "a b,ada@"), "user_id", "must be 1 to 128"),
        (ADA.replace("ada@example.com", "ada"), "email", "must be an email address"),
        (ADA.replace("Europe/Paris", "Mars"), "timezone", "unknown timezone 'Mars'"),
        (ADA.replace(",pro,", ",gold,"), "plan", "unknown plan 'gold'"),
        (ADA.replace("yearly", "weekly"), "billing_interval", "must be one of monthly, yearly"),
        (ADA.replace("active", "asleep"), "status", "must be one of active, paused, cancelled"),
        (ADA.replace("2025-01-01T00:00:00Z", "2025-01-01"), "started_at", "must be a date and"),
        (f"{ADA[:-1]}soon,", "eligible_from", "must be a date and time"),
        (f"{ADA}0", "allocation_amount", "must be a whole number from 1"),
        (f"{ADA}-5", "allocation_amount", "must be a whole number from 1"),
        (f"{ADA}1.5", "allocation_amount", "must be a whole number from 1"),
        (f"{ADA}1000000001", "allocation_amount", "must be a whole number from 1"),
        (f"{ADA},x", "column 10", "the header names no such column"),
        ("1,ada@example.com", "timezone", "the row ends before this column"),
    ],
)
def test_each_bad_row_is_reported_with_line_field_value_and_reason(
    world: World, row: str, field: str, reason: str
) -> None:
    checked = check(world, text(BOB, row))
    problem = next(problem for problem in checked.problems if problem.field == field)
    assert problem.line == 3
    assert reason in problem.reason
    assert [good.line for good in checked.good] == [2]
    assert [bad.line for bad in checked.bad] == [3]


def test_of_a_user_who_is_in_the_file_twice_nobody_knows_which_row_is_meant(world: World) -> None:
    checked = check(world, text(ADA, BOB, ADA.replace("pro", "starter")))
    assert checked.problems == [
        (2, "user_id", "1", "is on line 4, too; keep one of the two"),
        (4, "user_id", "1", "is on line 2, too; keep one of the two"),
    ]
    assert [row.line for row in checked.good] == [3]
    assert [row.line for row in checked.bad] == [2, 4]


def test_lines_are_counted_as_an_editor_counts_them(world: World) -> None:
    folded = BOB.replace("bob@example.com", '"bob\n\n@example.com"')
    checked = check(world, text(folded, "", ADA.replace("pro", "?")))
    assert [problem.line for problem in checked.problems] == [2, 6]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "line 1: the columns must be user_id,timezone"),
        ("user_id,email\n", "missing: timezone, plan"),
        (f"{HEADER},colour\n", "unknown: colour"),
        (f"{HEADER},plan\n", "twice: plan"),
        (f'{HEADER}\n1,"ada\n', "this is not CSV"),
        (f"{HEADER}\n1,{'x' * 20_000}\n", "this is not CSV (field larger than"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_csv_of_subscriptions_is_refused_as_a_whole(
    command: Command, content: str | bytes, words: str
) -> None:
    assert command.run(content) == 1
    assert words in " ".join(command.output.getvalue().split())


def test_a_file_that_is_not_there_is_said_to_be_missing(command: Command) -> None:
    assert main([str(command.directory / "nowhere.csv")]) == 1
    assert "cannot be read: No such file or directory" in command.output.getvalue()


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(world: World, command: Command) -> None:
    assert command.run("\ufeff" + text(ADA).replace("\n", "\r\n")) == 0
    assert world.services.subscriptions.find("1") is not None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (stacks.NotRunningError("No local stack runs: make up"), "error: No local stack runs: m"),
        (NoAnswer("nobody"), "error: AWS cannot be reached: nobody\n"),
        (NoAnswer("nobody"), "\nNothing was written.\n"),
    ],
)
def test_where_there_is_no_stage_in_reach_the_next_step_is_said(
    command: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    def none_runs(*_: object) -> None:
        raise error

    monkeypatch.setattr(reach, "services_of", none_runs)
    assert command.run(text(ADA)) == 1
    assert said in command.output.getvalue()


def test_every_row_is_held_to_the_cap_of_its_plan_before_anything_is_written(
    world: World,
) -> None:
    carol = BOB.replace("2,bob", "3,carol").replace(",250", ",10001")
    checked = check(world, text(ADA, carol, BOB.replace(",250", ",10000")))
    (problem,) = checked.problems
    assert (problem.line, problem.field) == (3, "allocation_amount")
    assert problem.reason == (
        "must be at most 10,000 on plan 'starter', or null for the plan's own; is 10,001"
    )
    world.subscribe("2", plan="business", allocation_amount=20_000)
    moved = text(BOB).replace(",allocation_amount", "").replace(",250", "")
    (problem,) = check(world, moved).problems
    assert (problem.field, "at most 10,000" in problem.reason) == ("allocation_amount", True)


def test_a_row_that_could_not_be_written_is_reported_and_the_others_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.services.subscriptions
    monkeypatch.setattr(store, "_pause", lambda _attempt: None)
    write = store._write

    def write_unless_ada(wanted: Subscription, *edit: Any) -> frozenset[str]:
        # Of Ada, somebody else is always faster.
        return frozenset({"TransactionConflict"}) if wanted.user_id == "1" else write(wanted, *edit)

    monkeypatch.setattr(store, "_write", write_unless_ada)
    rows = check(world, text(ADA, BOB)).good
    imported = import_rows(SUBSCRIPTIONS, world.services, rows)
    assert [failure.line for failure in imported.failures] == [2]
    assert imported.counts == {"new": 1}


def test_what_is_stored_and_cannot_be_read_is_named_and_the_others_are_good(world: World) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    for user_id in ("1", "3"):
        damage_subscription(without("plan"), user_id)
    checked = check(world, text(ADA, BOB, ADA.replace("1,ada", "3,ada")))
    assert [(problem.line, problem.field) for problem in checked.problems] == [
        (2, "user_id"),
        (4, "user_id"),
    ]
    assert all("what is stored cannot be read" in problem.reason for problem in checked.problems)
    assert [row.line for row in checked.good] == [3]


def test_failures_of_many_users_are_in_the_order_of_the_file_and_what_was_done_is_counted(
    world: World,
) -> None:
    def fails(row: Row) -> str:
        if row.line == 2:
            raise Contention("too busy")
        if row.line == 5:
            raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "old"}}, "Request")
        return "new"

    kind = replace(SUBSCRIPTIONS, writer=lambda _: fails)
    rows = [Row(line, "", {"user_id": user}) for line, user in enumerate("abcbaab", 2)]
    done: list[int] = []
    imported = import_rows(kind, world.services, rows, done.append)
    assert [failure.line for failure in imported.failures] == [2, 5, 6, 7, 8]
    assert imported.failures[0].reason == "too busy"
    assert "your login has expired" in imported.failures[1].reason
    assert str(imported) == "2 new, 0 changed, 0 unchanged, 0 outdated"
    assert sum(done) == 2
    assert str(Imported(("new", "odd"), Counter(new=1_234))) == "1,234 new, 0 odd"


def test_ctrl_c_begins_the_rows_of_no_other_user(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctrl_c = CtrlC(monkeypatch, importing)
    kind = replace(SUBSCRIPTIONS, writer=lambda _: ctrl_c.work)
    rows = [Row(line, "", {"user_id": user}) for line, user in enumerate("abc", 2)]
    with pytest.raises(KeyboardInterrupt):
        import_rows(kind, world.services, rows)
    assert len(ctrl_c.begun) <= 2, "it went on after Ctrl-C"


def test_a_wrong_file_is_told_before_that_no_stack_is_running(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_runs(*_: object) -> None:
        raise stacks.NotRunningError("No local stack is running. Start one: make up")

    monkeypatch.setattr(reach, "services_of", none_runs)
    assert command.run(text(ADA.replace(",pro,", ",gold,"))) == 1
    said = command.output.getvalue()
    assert said.index("unknown plan 'gold'") < said.index("make up")


def test_the_run_checks_its_file_before_it_builds_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def built(*_: object, **__: object) -> None:
        raise AssertionError("something is being built")

    monkeypatch.setattr(terminal, "end_on_sigterm", lambda: None)
    monkeypatch.setattr(server, "console", built)
    monkeypatch.setattr(stacks, "local_stack", built)
    file = tmp_path / "bad.csv"
    file.write_text(text(ADA, BOB.replace(",starter,", ",gold,").replace("paused", "idle")))
    assert run.main(["--csv", str(file), "--exit"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "unknown plan 'gold'" in said
    assert "1 rows are wrong; correct them and run again" in said
    file.write_text(text(ADA))
    with pytest.raises(AssertionError, match="is being built"):
        run.main(["--csv", str(file), "--exit"])


def test_wrong_rows_that_cannot_be_saved_stop_the_import_before_it_writes(
    world: World, command: Command
) -> None:
    (command.directory / "people.invalid.csv").mkdir()
    assert command.run(text(ADA, BOB.replace("starter", "gold")), "--skip-invalid") == 1
    said = command.output.getvalue()
    assert "the wrong rows cannot be saved to" in said
    assert said.endswith(": Is a directory. Nothing was written\n")
    assert world.services.subscriptions.find("1") is None


def test_a_row_of_two_amounts_is_saved_as_it_is_and_refused_again(
    world: World, command: Command
) -> None:
    doubled = f"{BOB.removesuffix('250')}1,500"
    assert command.run(text(ADA, doubled), "--skip-invalid") == 0
    saved = command.directory / "people.invalid.csv"
    assert saved.read_text() == text(doubled)
    assert command.run(saved.read_bytes(), "--skip-invalid") == 0
    assert world.services.subscriptions.find("2") is None
    assert saved.read_text() == text(doubled)


def test_what_is_probably_meant_otherwise_is_said_before_anything_is_written(
    world: World, command: Command
) -> None:
    row = ADA.replace("Z,,", "Z,2027-01-01T00:00:00Z,")
    assert command.run(text(row)) == 0
    said = command.output.getvalue()
    assert "Warning: Europe/Paris, 1 row: eligible_from 2027-01-01T00:00:00Z is 01:00" in said
    assert said.index("Warning") < said.index("Imported")
    assert world.services.subscriptions.get("1").eligible_from == at("2027-01-01T00:00:00Z")


def test_an_interrupted_import_is_said_to_be_finished_by_running_it_again(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subscriptions, "save_subscription", interrupted)
    assert command.run(text(ADA, BOB)) == 130
    assert "Run the same command again to finish it" in command.output.getvalue()


def test_a_month_that_begins_during_an_import_is_not_paid_to_a_user_paused_until_their_row(
    world: World,
) -> None:
    world.now = at("2026-01-31T22:50:00Z")
    world.subscribe("1", status="paused")
    rows = check(world, text(ADA)).good
    write = SUBSCRIPTIONS.writer(world.services)

    world.now = at("2026-01-31T23:10:00Z")  # February has begun in Paris
    assert [write(row) for row in rows] == ["changed"]

    assert world.services.subscriptions.get("1").resumed_at == world.now
    assert world.services.ledger.account("1").last is None


@pytest.mark.parametrize(("plan", "outcome"), [("pro", "unchanged"), ("starter", "changed")])
def test_a_row_that_loses_a_race_counts_as_what_it_did_to_what_the_winner_wrote(
    world: World, monkeypatch: pytest.MonkeyPatch, plan: str, outcome: str
) -> None:
    rows = check(world, text(ADA)).good
    rival = check(world, text(ADA.replace(",pro,", f",{plan},"))).good
    write = SUBSCRIPTIONS.writer(world.services)
    store = world.services.subscriptions
    put = store._write

    def overtaken(*edit: Any) -> Any:
        monkeypatch.setattr(store, "_write", put)
        assert [write(row) for row in rival] == ["new"]
        return put(*edit)

    monkeypatch.setattr(store, "_write", overtaken)
    assert [write(row) for row in rows] == [outcome]
    assert store.get("1").plan == "pro"


def test_many_keys_are_all_read_a_hundred_at_once() -> None:
    sizes: list[int] = []
    keys = list(range(250))

    def read(part: Sequence[int]) -> dict[int, int]:
        assert len(part) <= 100, "more keys than DynamoDB takes"
        return {key: -key for key in part if key != 7}

    found = read_many(keys, read, sizes.append)
    assert found == {key: -key for key in keys if key != 7}
    assert sum(sizes) == 250


def test_the_command_fails_when_a_row_could_not_be_written_and_names_it(
    world: World, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = save_subscription

    def fails_for_ada(services: Services, user_id: str, *rest: Any) -> Any:
        if user_id == "1":
            raise Contention("written too often at the moment")
        return save(services, user_id, *rest)

    monkeypatch.setattr(subscriptions, "save_subscription", fails_for_ada)
    assert command.run(text(ADA, BOB)) == 1
    said = command.output.getvalue()
    assert "written too often at the moment" in said
    assert "Run the same import again to finish it" in said
    assert [world.services.subscriptions.find(user) is None for user in ("1", "2")] == [True, False]


def test_rows_with_letters_of_any_language_are_saved_byte_for_byte(command: Command) -> None:
    wrong = BOB.replace("2,bob@example.com", "Łukasz 東京,").replace(",,", ",")
    assert command.run(text(ADA, wrong), "--skip-invalid") == 0
    saved = (command.directory / "people.invalid.csv").read_bytes()
    assert saved == text(wrong).encode()


def test_the_wrong_rows_of_a_spreadsheet_keep_its_byte_order_mark_and_line_ends(
    command: Command,
) -> None:
    # Without the mark, Excel shows the letters of the saved rows wrongly, and saves them so.
    wrong = ADA.replace("1,ada@example.com", "ü 1,jürgen@example.com")
    content = text(BOB, wrong).replace("\n", "\r\n").encode("utf-8-sig")
    assert command.run(content, "--skip-invalid") == 0
    saved = (command.directory / "people.invalid.csv").read_bytes()
    assert saved == text(wrong).replace("\n", "\r\n").encode("utf-8-sig")
