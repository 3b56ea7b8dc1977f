"""Credits of another system become the opening of ledgers: with their own dates, once."""

import io
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from infra import import_balances, stacks
from infra.csv_file import read
from infra.import_balances import BALANCES, COLUMNS, check, main
from infra.importing import import_rows
from tests.aws.world import World, at

SAMPLE = Path(import_balances.__file__).parent / "sample" / "balances.csv"
HEADER = ",".join(COLUMNS.all)
GIFT = "b-1,1,40,2026-03-01T05:00:00Z,2026-07-31T22:00:00Z,Gift"


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "THREADS", 1)


@pytest.fixture
def opened(world: World) -> World:
    world.now = at("2026-05-20T12:00:00Z")
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id=user_id)
    return world


def run(world: World, monkeypatch: pytest.MonkeyPatch, file: Path) -> tuple[int, str]:
    output = io.StringIO()
    monkeypatch.setattr(stacks, "services_of", lambda _stage: world.services)
    monkeypatch.setattr(import_balances, "Console", lambda **_: Console(file=output, width=200))
    return main([str(file)]), output.getvalue()


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
    import_rows(BALANCES, opened.services, check(opened.services, f"{HEADER}\n{row}\n").good)
    account = opened.services.ledger.account("1")
    assert account.available_balance(at(expires_at) - timedelta(milliseconds=1)) == 40
    assert account.available_balance(at(expires_at)) == 0
    opened.expire_at("2026-07-31T22:00:00Z")  # midnight in Paris
    assert opened.services.ledger.verify("1").ledger_balance == 0


def test_the_owner_is_told_nothing(opened: World) -> None:
    import_rows(BALANCES, opened.services, check(opened.services, read(SAMPLE)).good)
    assert all(entry.silent for entry in opened.services.ledger.history("1"))


def test_a_reference_that_comes_with_another_amount_is_refused_and_the_first_one_kept(
    opened: World,
) -> None:
    import_rows(BALANCES, opened.services, check(opened.services, f"{HEADER}\n{GIFT}\n").good)
    changed = check(opened.services, f"{HEADER}\n{GIFT.replace(',40,', ',41,')}\n").good
    imported = import_rows(BALANCES, opened.services, changed)
    (failure,) = imported.failures
    assert "b-1" in failure.reason
    assert opened.services.ledger.account("1").ledger_balance == 40


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (GIFT.replace(",40,", ",0,"), "amount", "must be a whole number from 1"),
        (GIFT.replace(",40,", ",-4,"), "amount", "must be a whole number from 1"),
        (GIFT.replace(",40,", ",4.5,"), "amount", "must be a whole number from 1"),
        (GIFT.replace("2026-03-01T05", "2026-06-01T05"), "granted_at", "ahead of the clock"),
        (GIFT.replace("2026-07-31", "2026-05-01"), "expires_at", "leave out what has expired"),
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
    (problem,) = check(opened.services, read(file)).problems
    assert (problem.line, problem.field) == (3, field)
    assert reason in problem.reason
    assert run(opened, monkeypatch, file)[0] == 1
    assert opened.services.ledger.history("1") == []


def test_credits_of_somebody_unknown_are_reported_and_the_others_written(opened: World) -> None:
    rows = check(opened.services, f"{HEADER}\n{GIFT}\n{GIFT.replace('b-1,1', 'b-2,9')}\n").good
    imported = import_rows(BALANCES, opened.services, rows)
    assert [failure.line for failure in imported.failures] == [3]
    assert opened.services.ledger.account("1").ledger_balance == 40
