"""Credits of another system become the opening of ledgers: with their own dates, once."""

import io
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chalicelib.domain.batches import DEFAULT_PRIORITY
from chalicelib.domain.errors import Contention
from chalicelib.domain.ledger import MOST_OPEN_BATCHES
from chalicelib.operations.on_request import CarryOver, carry_over
from infra import reach
from infra.commands import import_balances
from infra.commands.import_balances import main
from infra.deployment import stage_services
from infra.imports import balances
from infra.imports.balances import BALANCES, COLUMNS
from infra.imports.csv_file import CheckedFile, read
from infra.imports.importing import import_rows
from tests.aws.damage import damage_entry, damage_subscription, never_consistent, without
from tests.aws.world import World, at

SAMPLE = Path(balances.__file__).parents[1] / "sample" / "balances.csv"
HEADER = ",".join(COLUMNS.all).removesuffix(",priority")
"""Of the files there were before batches had priorities."""
GIFT = "b-1,1,40,2026-03-01T05:00:00Z,2026-07-31T22:00:00Z,Gift"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_services, "THREADS", 1)


@pytest.fixture
def opened(world: World) -> World:
    world.now = at("2026-05-20T12:00:00Z")
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id=user_id)
    return world


def check(world: World, content: str) -> CheckedFile:
    return BALANCES.check(world.services, content)


def run(
    world: World, monkeypatch: pytest.MonkeyPatch, file: Path, *options: str
) -> tuple[int, str]:
    output = io.StringIO()
    monkeypatch.setattr(reach, "services_of", lambda *_: world.services)
    monkeypatch.setattr(import_balances, "Console", lambda **_: Console(file=output, width=300))
    return main([str(file), *options]), output.getvalue()


def test_the_sample_becomes_ledgers_that_verify(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, said = run(opened, monkeypatch, SAMPLE)
    assert (status, "Imported 6 credit batches: 6 new, 0 unchanged." in said) == (0, True)
    account = opened.services.ledger.verify("1")
    # What is spent first is what was granted first there, not what stands first in the file.
    assert [(batch.remaining, batch.expires_at) for batch in account.batches] == [
        (15, None),
        (40, at("2040-01-31T05:00:00Z")),
        (100, at("2040-01-31T05:00:00Z")),
    ]
    assert opened.services.ledger.verify("3").available_balance(opened.now) == 1207


def test_importing_again_changes_nothing(opened: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(opened, monkeypatch, SAMPLE)
    opened.now = at("2026-06-20T12:00:00Z")
    status, said = run(opened, monkeypatch, SAMPLE)
    assert (status, "0 new, 6 unchanged" in said) == (0, True)
    assert len(opened.services.ledger.history("1")) == 3


@pytest.mark.parametrize("expires_at", ["2026-07-31T22:00:00Z", "2026-07-31T10:00:00Z"])
def test_an_imported_batch_ends_at_its_own_instant_and_is_booked_out_at_midnight(
    opened: World, expires_at: str
) -> None:
    row = GIFT.replace("2026-07-31T22:00:00Z", expires_at)
    import_rows(BALANCES, opened.services, check(opened, f"{HEADER}\n{row}\n").good)
    account = opened.services.ledger.account("1")
    assert account.available_balance(at(expires_at) - timedelta(milliseconds=1)) == 40
    assert account.available_balance(at(expires_at)) == 0
    opened.expire_at("2026-07-31T22:00:00Z")  # midnight in Paris
    assert opened.services.ledger.verify("1").ledger_balance == 0


def test_the_owner_is_told_nothing(opened: World) -> None:
    import_rows(BALANCES, opened.services, check(opened, read(SAMPLE)).good)
    assert all(entry.silent for entry in opened.services.ledger.history("1"))


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({",40,": ",41,"}, "amount", "41"),
        ({"b-1,1,": "b-1,2,"}, "user_id", "2"),
        ({"2026-03-01T05": "2026-03-01T06"}, "granted_at", "2026-03-01T06:00:00Z"),
        ({"2026-07-31T22:00:00Z": ""}, "expires_at", ""),
        ({"Gift": "Prize"}, "description", "Prize"),
    ],
)
def test_a_reference_that_was_imported_otherwise_is_refused_with_what_was_imported(
    opened: World, changes: dict[str, str], column: str, value: str
) -> None:
    import_rows(BALANCES, opened.services, check(opened, f"{HEADER}\n{GIFT}\n").good)
    row = GIFT
    for old, new in changes.items():
        row = row.replace(old, new)
    checked = check(opened, f"{HEADER}\n{row}\n")
    assert checked.good == []
    (problem,) = checked.problems
    assert (problem.line, problem.field, problem.value) == (2, column, value)
    assert (
        "the reference b-1 was imported before, as 40 credits of user 1, granted "
        "2026-03-01T05:00:00Z, expiring 2026-07-31T22:00:00Z, 'Gift' (transaction 1-1)"
    ) in problem.reason
    assert "new key" not in problem.reason
    assert opened.services.ledger.account("1").ledger_balance == 40


def test_one_reference_that_was_imported_otherwise_and_no_row_of_the_file_is_written(
    opened: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for_ever = GIFT.replace("2026-07-31T22:00:00Z", "")
    import_rows(BALANCES, opened.services, check(opened, f"{HEADER}\n{for_ever}\n").good)
    file = tmp_path / "balances.csv"
    other = GIFT.replace("b-1,1", "b-2,2")
    file.write_text(f"{HEADER}\n{other}\n{for_ever.replace(',40,', ',41,')}\n")
    status, said = run(opened, monkeypatch, file)
    assert (status, "Nothing was written" in said) == (1, True)
    assert "never expiring" in " ".join(said.split())
    assert opened.services.ledger.history("2") == []


def test_what_was_imported_before_stays_right_when_it_is_over_or_its_user_is_gone(
    opened: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "balances.csv"
    file.write_text(f"{HEADER}\n{GIFT}\n{GIFT.replace('b-1,1', 'b-2,2')}\n")
    assert run(opened, monkeypatch, file)[0] == 0
    opened.now = at("2026-08-20T12:00:00Z")
    opened.services.subscriptions.remove("2")
    status, said = run(opened, monkeypatch, file)
    assert (status, "0 new, 2 unchanged" in said) == (0, True)


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (GIFT.replace(",40,", ",0,"), "amount", "must be a whole number from 1"),
        (GIFT.replace(",40,", ",-4,"), "amount", "must be a whole number from 1"),
        (GIFT.replace(",40,", ",4.5,"), "amount", "must be a whole number from 1"),
        (GIFT.replace("2026-03-01T05", "2026-06-01T05"), "granted_at", "ahead of the clock"),
        (GIFT.replace("2026-03-01T05", "2026-05-20T13"), "granted_at", "ahead of the clock"),
        (GIFT.replace("2026-07-31", "2026-05-01"), "expires_at", "leave out what has expired"),
        (GIFT.replace("2026-07-31T22", "2026-05-20T12"), "expires_at", "leave out what has"),
        (GIFT.replace("b-1", ""), "reference", "is required"),
        (GIFT.replace("2026-03-01T05:00:00Z", "yesterday"), "granted_at", "must be a date and"),
    ],
)
def test_each_bad_row_is_reported_and_nothing_written(
    opened: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    row: str,
    field: str,
    reason: str,
) -> None:
    file = tmp_path / "balances.csv"
    file.write_text(f"{HEADER}\n{GIFT.replace('b-1', 'b-2')}\n{row}\n")
    (problem,) = check(opened, read(file)).problems
    assert (problem.line, problem.field) == (3, field)
    assert reason in problem.reason
    assert run(opened, monkeypatch, file)[0] == 1
    assert opened.services.ledger.history("1") == []


def test_a_file_with_somebody_unknown_is_refused_as_a_whole(
    opened: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "balances.csv"
    stranger = GIFT.replace("b-1,1", "b-2,9")
    file.write_text(f"{HEADER}\n{GIFT}\n{stranger}\n")
    status, said = run(opened, monkeypatch, file)
    assert status == 1
    for words in ("user_id", "'9'", "there is no user 9", "Nothing was written"):
        assert words in said
    assert opened.services.ledger.history("1") == []

    wrong = GIFT.replace("b-1,1", "b-3,a b")
    file.write_text(f"{HEADER}\n{GIFT}\n{stranger}\n{wrong}\n")
    status, said = run(opened, monkeypatch, file, "--skip-invalid")
    assert (status, "1 new, 0 unchanged" in said) == (0, True)
    assert opened.services.ledger.account("1").ledger_balance == 40
    assert opened.services.ledger.history("9") == [], "a wrong row beside it hides no other"
    assert (tmp_path / "balances.invalid.csv").read_text() == f"{HEADER}\n{stranger}\n{wrong}\n"


def rows_of(user_id: str, count: int) -> list[str]:
    """Batches of one user that were granted at one moment."""
    return [
        f"{user_id}-{number},{user_id},{number},2026-03-01T05:00:00Z,,"
        for number in range(1, count + 1)
    ]


def test_a_batch_has_the_priority_of_its_row_and_the_default_without_one(opened: World) -> None:
    rows = [
        f"{row},{priority}" for row, priority in zip(rows_of("1", 3), ["0", "7", ""], strict=True)
    ]
    checked = check(opened, "\n".join((f"{HEADER},priority", *rows)))
    assert checked.bad == []
    import_rows(BALANCES, opened.services, checked.good)
    batches = opened.services.ledger.account("1").batches
    assert [batch.priority for batch in batches] == [0, 7, DEFAULT_PRIORITY]


@pytest.mark.parametrize("threads", [1, 8])
def test_the_batches_of_a_user_stand_in_the_ledger_as_they_stand_in_the_file(
    opened: World, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    mixed = [row for pair in zip(rows_of("1", 10), rows_of("2", 10), strict=True) for row in pair]
    lock = threading.Lock()  # the emulator in process is not safe with threads, the order is ours
    perform = opened.services.ledger.perform

    def one_at_a_time(*arguments: Any) -> Any:
        with lock:
            return perform(*arguments)

    rows = check(opened, "\n".join((HEADER, *mixed))).good
    monkeypatch.setattr(opened.services.ledger, "perform", one_at_a_time)
    monkeypatch.setattr(stage_services, "THREADS", threads)
    imported = import_rows(BALANCES, opened.services, rows)
    assert (imported.counts, imported.failures) == ({"new": 20}, [])
    for user_id in ("1", "2"):
        amounts = [entry.amount for entry in opened.history(user_id)]
        assert amounts == list(range(1, 11))
        batches = opened.services.ledger.account(user_id).batches
        assert [batch.remaining for batch in batches] == list(range(1, 11))


def test_after_a_row_that_fails_the_users_later_rows_wait_and_the_others_are_written(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = check(opened, "\n".join((HEADER, *rows_of("1", 3), *rows_of("2", 2)))).good
    perform = opened.services.ledger.perform

    def fails_once(user_id: str, operation: str, *arguments: Any) -> Any:
        if operation.endswith("#1-2"):
            raise Contention("the ledger of user 1 is written too often at the moment")
        return perform(user_id, operation, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(opened.services.ledger, "perform", fails_once)
        imported = import_rows(BALANCES, opened.services, rows)
    assert [failure.line for failure in imported.failures] == [3, 4]
    assert "written too often" in imported.failures[0].reason
    assert imported.failures[1].reason == "comes after line 3, which failed"
    assert imported.counts == {"new": 3}

    imported = import_rows(BALANCES, opened.services, rows)
    assert imported.counts == {"new": 2, "unchanged": 3}
    assert [entry.amount for entry in opened.history("1")] == [1, 2, 3]


def test_more_batches_than_a_user_can_have_are_refused_before_any_is_written(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.imports.receivers.MOST_OPEN_BATCHES", 4)
    first, second = rows_of("1", 3)[:2], rows_of("1", 5)
    import_rows(BALANCES, opened.services, check(opened, "\n".join((HEADER, *first))).good)
    # Two were imported before and are in the file again: they are counted once.
    assert check(opened, "\n".join((HEADER, *rows_of("1", 4)))).problems == []
    checked = check(opened, "\n".join((HEADER, *second, *rows_of("2", 4))))
    (problem,) = checked.problems
    assert (problem.line, problem.field, problem.value) == (4, "user_id", "1")
    assert "user 1 has 2 open credit batches, and the file has 3 more; 4 are" in problem.reason
    # None of the user's new rows is imported: half of them would be as wrong.
    assert [row.line for row in checked.bad] == [4, 5, 6]
    assert {row.values["user_id"] for row in checked.good} == {"1", "2"}


def test_a_user_can_be_imported_as_many_batches_as_the_ledger_allows(opened: World) -> None:
    assert MOST_OPEN_BATCHES == 1_000
    assert check(opened, "\n".join((HEADER, *rows_of("1", 1_000)))).problems == []
    (problem,) = check(opened, "\n".join((HEADER, *rows_of("1", 2_000)))).problems
    assert "and the file has 2,000 more; 1,000 are the most allowed" in problem.reason


def test_all_rows_of_who_cannot_be_read_or_is_not_there_are_left_out(opened: World) -> None:
    opened.grant("1", 5, "a")
    damage_subscription(without("plan"), "1")
    import_rows(BALANCES, opened.services, check(opened, f"{HEADER}\n{rows_of('3', 1)[0]}\n").good)
    damage_entry(without("body"), "3", 1)
    rows = [*rows_of("1", 2), *rows_of("2", 2), *rows_of("9", 2), *rows_of("3", 1)]
    checked = check(opened, "\n".join((HEADER, *rows)))
    assert [row.line for row in checked.good] == [4, 5]
    wrong = [(problem.line, problem.field, problem.reason[:15]) for problem in checked.problems]
    assert wrong == [
        (2, "user_id", "what is stored "),
        (6, "user_id", "there is no use"),
        (7, "user_id", "there is no use"),
        (8, "reference", "what is stored "),
    ]


def test_who_was_registered_just_now_is_no_stranger(
    opened: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_consistent(opened, monkeypatch)
    assert check(opened, f"{HEADER}\n{GIFT}\n").problems == []


def test_a_batch_may_be_of_this_very_moment(opened: World) -> None:
    row = GIFT.replace("2026-03-01T05:00:00Z", "2026-05-20T12:00:00Z")
    assert check(opened, f"{HEADER}\n{row}\n").problems == []


def test_the_name_of_an_imported_batch_and_what_it_says_never_change(opened: World) -> None:
    """Under another name, a file that was imported by an earlier release would be given again."""
    checked = check(opened, f"{HEADER}\n{GIFT.removesuffix(',Gift')},\n")
    imported = import_rows(BALANCES, opened.services, checked.good)
    assert imported.counts == {"new": 1}
    by_name = CarryOver(
        user_id="1",
        amount=40,
        granted_at=at("2026-03-01T05:00:00Z"),
        expires_at=at("2026-07-31T22:00:00Z"),
        description="Carried over",
        caller="import/balances",
        key="b-1",
    )
    assert carry_over(opened.services, by_name).replayed
