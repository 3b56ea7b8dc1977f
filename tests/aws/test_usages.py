"""A shadow spends what the old system let users spend: as it was then, and once."""

import re
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from chalicelib.domain.errors import Contention, NotFound
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.operations.past_usages import PastUsage, spend_past
from chalicelib.services import Services
from chalicelib.store.ledger import Outcome
from infra.commands.usages import main
from infra.deployment import stage_services
from infra.imports import movements, usages
from infra.imports.csv_file import UnreadableFileError
from tests.aws.damage import damage_entry, damage_subscription, without
from tests.aws.repair import Ran, Terminal
from tests.aws.world import World, at

HEADER = "reference,user_id,at,kind,amount,description"
MIDNIGHT = "2026-01-31T23:00:00Z"
EXPIRY = "2026-03-02T23:00:00Z"
CLICK = "u-1,1,2026-02-03T10:00:00Z,usage,-10,Click"
REPORT = "u-2,1,2026-02-04T10:00:00Z,usage,-20,"
OTHER = "u-3,2,2026-02-04T09:00:00.250+01:00,usage,-5,Export"
REST = (
    "a-1,1,2026-01-31T23:00:00Z,allocation,100,",
    "x-1,1,2026-03-02T23:00:00Z,expiration,-70,",
    "p-1,2,2026-02-01T00:00:00Z,Purchase,+500,",
    "c-1,2,2026-02-01T00:00:00Z,adjustment,-3,Sorry",
)
ROWS = (CLICK, *REST, REPORT, OTHER)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_services, "THREADS", 1)


@pytest.fixture
def month(world: World) -> World:
    """Two users with the credits of February, which expire on 2 March, on the 5th of March."""
    for user_id in ("1", "2"):
        world.subscribe(user_id, plan="starter")
    world.allocate_at(MIDNIGHT)
    world.now = at("2026-03-05T12:00:00Z")
    return world


Spend = Callable[..., Ran]


@pytest.fixture
def spend(month: World, terminal: Terminal, tmp_path: Path) -> Spend:
    """Runs the command, by default on all rows; the stage is a shadow."""
    terminal.shadow = "on"
    assert month is terminal.world

    def run(*rows: str, words: tuple[str, ...] = ()) -> Ran:
        file = tmp_path / "moves.csv"
        file.write_text("\n".join((HEADER, *(rows or ROWS), "")))
        return terminal.run(main, str(file), *words)

    return run


def lines(world: World, user_id: str = "1") -> list[tuple[str, int, int, str, str]]:
    """Of each entry: type, amount, balance, when it was posted, and when it was due."""
    return [
        (
            *(entry.type.value, entry.amount, entry.balance),
            f"{entry.posted_at:%m-%dT%H:%M}",
            f"{entry.effective_at:%m-%dT%H:%M}",
        )
        for entry in world.history(user_id)
    ]


FEBRUARY = ("allocation", 100, 100, "01-31T23:00", "01-31T23:00")
SPENT = [
    FEBRUARY,
    ("usage", -10, 90, "02-03T10:00", "02-03T10:00"),
    ("usage", -20, 70, "02-04T10:00", "02-04T10:00"),
]


def test_the_usages_of_a_file_are_spent_as_they_were_and_nothing_else_of_it(
    month: World, spend: Spend
) -> None:
    """The credits have expired since, and no sweep has noticed."""
    ran = spend()
    assert (
        "Imported 7 movements: 3 spent, 0 spent before, 0 refused, 4 of another kind." in ran.said
    )
    assert re.search(r"^Importing movements ━+ 7/7 ", ran.said, re.MULTILINE)
    assert ran.status == 0
    assert lines(month) == SPENT
    assert lines(month, "2") == [FEBRUARY, ("usage", -5, 95, "02-04T08:00", "02-04T08:00")]
    _, click, report = month.history()
    assert (click.operation, click.actor) == ("usage#import/usages#u-1", "import/usages")
    assert (click.description, report.description) == ("Click", "Usage")


def test_the_rows_of_a_user_are_spent_in_the_order_of_their_instants(
    month: World, spend: Spend
) -> None:
    """By the instants that they name, in whatever zone."""
    first = "u-5,1,2026-02-04T00:00:00+14:30,usage,-1,"
    assert spend(REPORT, CLICK.replace("Z,usage", "Z ,usage"), first).status == 0
    assert lines(month) == [
        FEBRUARY,
        ("usage", -1, 99, "02-03T09:30", "02-03T09:30"),
        ("usage", -10, 89, "02-03T10:00", "02-03T10:00"),
        ("usage", -20, 69, "02-04T10:00", "02-04T10:00"),
    ]


def test_what_comes_after_a_later_entry_is_posted_with_it_and_says_when_it_was(
    month: World, spend: Spend
) -> None:
    month.expire_at(EXPIRY)
    month.grant("1", 30, "a")
    month.now = at("2026-03-06T12:00:00Z")
    assert spend(CLICK).status == 0
    assert lines(month)[2:] == [
        ("manual", 30, 30, "03-05T12:00", "03-05T12:00"),
        ("usage", -10, 20, "03-05T12:00", "02-03T10:00"),
    ]
    assert "0 spent, 1 spent before" in spend(CLICK).said
    otherwise = " ".join(spend(CLICK.replace("Click", "Tap")).said.split())
    assert "│ description │ 'Tap'" in otherwise
    assert "of user 1, 2026-02-03T10:00:00Z, 'Click'" in otherwise


def test_the_same_file_again_changes_nothing(month: World, spend: Spend) -> None:
    spend()
    month.expire_at(EXPIRY)
    month.services.subscriptions.remove("2")
    before = lines(month)
    ran = spend()
    assert ran.status == 0
    assert "0 spent, 3 spent before, 0 refused, 4 of another kind" in ran.said
    assert lines(month) == before


def test_an_import_that_was_killed_ends_as_if_it_had_not_been(month: World, spend: Spend) -> None:
    with patch.object(usages, "spend_past") as killed:
        killed.side_effect = [spend_past(month.services, _usage(CLICK)), KeyboardInterrupt]
        assert spend().status == 130
    assert lines(month) == SPENT[:2]
    assert "2 spent, 1 spent before" in spend().said
    assert lines(month) == SPENT


def _usage(row: str) -> PastUsage:
    (found,) = usages.USAGES.check_alone(
        f"{HEADER}\n{row}\n", PlanCatalogue(()), at("2026-03-05T12:00:00Z")
    ).good
    usage = usages.usage_of(found, at("2026-03-05T12:00:00Z"))
    assert usage is not None
    return usage


MUCH = 'u-9,1,2026-02-03T12:00:00Z,usage,-91,"A, b"'


def test_what_is_not_covered_is_refused_whole_and_saved_and_holds_up_no_other(
    month: World, spend: Spend, tmp_path: Path
) -> None:
    ran = spend(*ROWS, MUCH)
    assert ran.status == 1
    assert "3 spent, 0 spent before, 1 refused, 4 of another kind" in ran.said
    assert "│ 9    │ amount │ '-91' │ 91 credits were asked for, 90 are available" in ran.said
    saved = tmp_path / "moves.refused.csv"
    assert f"1 refused rows are saved to {saved}: import that file once" in ran.said
    assert saved.read_text() == f"{HEADER}\n{MUCH}\n"
    assert lines(month) == SPENT
    again = spend(*ROWS, MUCH)
    assert "0 spent, 3 spent before, 1 refused" in again.said
    assert lines(month) == SPENT


def test_whatever_was_refused_of_whomever_is_saved_in_the_order_of_the_file(
    month: World, spend: Spend, tmp_path: Path
) -> None:
    rows = [MUCH, MUCH.replace("u-9,1", "u-8,2").replace("-91", "-101"), MUCH.replace("u-9", "u-7")]
    ran = spend(*rows, CLICK)
    assert "1 spent, 0 spent before, 3 refused" in ran.said
    assert re.findall(r"^│ (\d) ", ran.said, re.MULTILINE) == ["2", "3", "4"]
    saved = "\n".join((HEADER, *rows, ""))
    assert (tmp_path / "moves.refused.csv").read_text() == saved
    assert lines(month) == SPENT[:2]


def test_what_was_refused_is_spent_from_its_own_file_once_there_is_enough(
    month: World, spend: Spend
) -> None:
    spend(*ROWS, MUCH)
    month.grant("1", 100, "a")
    assert "1 spent, 0 spent before" in spend(MUCH).said
    assert lines(month)[-1][:3] == ("usage", -91, 79)


def test_refused_rows_that_cannot_be_saved_are_named_all_the_same(
    month: World, spend: Spend, tmp_path: Path
) -> None:
    (tmp_path / "moves.refused.csv").mkdir()
    ran = spend(CLICK, MUCH)
    assert ran.status == 1
    assert "91 credits were asked for" in ran.said
    assert "the refused rows cannot be saved to" in ran.said
    assert lines(month) == SPENT[:2]


def test_a_failure_holds_up_the_later_rows_of_its_user_alone(month: World, spend: Spend) -> None:
    def fails(services: Services, usage: PastUsage) -> Outcome:
        if usage.key == "u-1":
            raise Contention("too busy")
        return spend_past(services, usage)

    with patch.object(usages, "spend_past", fails):
        ran = spend()
    assert ran.status == 1
    assert "too busy" in ran.said
    assert "comes after line 2, which failed" in ran.said
    assert lines(month) == [FEBRUARY]
    assert len(lines(month, "2")) == 2
    assert spend().status == 0
    assert lines(month) == SPENT


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        (CLICK.replace("-10", "-11"), "amount", "was spent before, as 10 credits of user 1"),
        (CLICK.replace("u-1,1", "u-1,2"), "user_id", "leave the row out, or give it a reference"),
        (CLICK.replace("10:00:00", "10:00:01"), "at", "2026-02-03T10:00:00Z, 'Click'"),
        (CLICK.replace("Click", "Tap"), "description", "(transaction 1-2)"),
        ("u-7,7,2026-02-03T10:00:00Z,usage,-1,", "user_id", "there is no user 7"),
        ("u-7,1,2026-02-03T10:00:00Z,usage,1,", "amount", "must be negative"),
        ("u-7,1,2026-03-05T12:05:01Z,usage,-1,", "at", "must not be ahead of the clock"),
        ("u-7,1,2026-02-03T10:00:00Z,used,-1,", "kind", "adjustment"),
        ("u-7,1,2026-02-03T10:00:00Z,expiration,1,", "amount", "must be negative"),
        ("u-7,1,2026-02-03T10:00:00Z,purchase,-1,", "amount", "must be positive"),
        ("u-7,1,2026-02-03T10:00:00Z,allocation,-1,", "amount", "must be positive"),
        ("u-7,1,2026-02-03T10:00:00Z,usage,-0,", "amount", "must be a whole number"),
        ("u-7,1,2026-02-03T10:00:00Z,usage,-٣,", "amount", "must be a whole number"),
        (f"u-7,1,2026-02-03T10:00:00Z,usage,-{'1' * 5_000},", "amount", "must be a whole number"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_spent(
    month: World, spend: Spend, row: str, field: str, reason: str
) -> None:
    spend(CLICK)
    ran = spend(row, OTHER)
    assert ran.status == 1
    assert reason in " ".join(ran.said.split())
    assert f"│ {field} " in ran.said
    assert "1 of 2 rows are wrong. Nothing was written" in ran.said
    assert lines(month) == SPENT[:2]
    assert len(lines(month, "2")) == 1


def test_without_its_wrong_rows_the_file_is_spent(
    month: World, spend: Spend, tmp_path: Path
) -> None:
    stranger = "u-7,7,2026-02-03T10:00:00Z,usage,-1,"
    assert spend(stranger, CLICK, words=("--skip-invalid",)).status == 0
    assert (tmp_path / "moves.invalid.csv").read_text() == f"{HEADER}\n{stranger}\n"
    assert lines(month) == SPENT[:2]


def test_a_usage_that_cannot_be_compared_is_named(spend: Spend) -> None:
    spend(CLICK)
    damage_entry(without("body"), number=2)
    said = spend(CLICK).said
    assert "what is stored cannot be read" in said
    assert "│ reference │ 'u-1'" in said


def test_a_user_who_is_gone_meanwhile_is_not_said_to_have_too_little(month: World) -> None:
    stranger = _usage("u-7,7,2026-02-03T10:00:00Z,usage,-1,")
    with pytest.raises(NotFound):
        spend_past(month.services, stranger)


def test_users_whose_subscription_is_damaged_can_spend(spend: Spend) -> None:
    """Spending reads the ledger alone."""
    damage_subscription(without("plan"))
    assert spend(CLICK).status == 0


def test_nothing_is_posted_ahead_of_the_clock(month: World, spend: Spend) -> None:
    """Clocks differ: what is a little ahead is of now."""
    month.expire_at(EXPIRY)
    month.grant("1", 30, "a")
    month.now = at("2026-03-06T12:00:00Z")
    assert spend("u-7,1,2026-03-06T12:05:00Z,usage,-1,").status == 0
    assert lines(month)[-1][3:] == ("03-06T12:00", "03-06T12:00")


def test_movements_are_read_in_the_order_of_their_instants_then_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = at("2026-03-05T12:00:00Z")
    same = [CLICK.replace("u-1", name) for name in ("z", "a")]
    both = [f"c{sign},1,2026-02-05T10:00:00Z,Adjustment,{sign}3,Sorry" for sign in "+-"]
    text = "\n".join((HEADER, REPORT, *same, OTHER, *both))
    monkeypatch.setattr(movements, "MOST_MOVEMENTS", 6)
    found = movements.read(movements.check(text, now).good, now)
    assert [each.reference for each in found] == ["z", "a", "u-3", "u-2", "c+", "c-"]
    assert [each.description for each in found[:4]] == ["Click", "Click", "Export", ""]
    assert [each.amount for each in found] == [-10, -10, -5, -20, 3, -3]
    with pytest.raises(UnreadableFileError, match="has 7 lines, and 6 are the most allowed"):
        movements.check(f"{text}\n", now)


@pytest.mark.parametrize("shadow", ["off", "2026-03-01T00:00:00Z", None])
def test_a_stage_that_is_no_shadow_spends_nothing_of_a_file(
    month: World, terminal: Terminal, tmp_path: Path, shadow: str | None
) -> None:
    """What is right by the stage's clock may be ahead of this machine's."""
    terminal.shadow = shadow
    file = tmp_path / "moves.csv"
    file.write_text(f"{HEADER}\n{CLICK}\n")
    ran = terminal.run(main, str(file))
    assert ran.status == 1
    assert "Nothing was written." in ran.said
    assert "Rows that cannot be imported" not in ran.said
    assert "Stage local is no shadow: what another system let users spend would be" in ran.said
    assert lines(month) == [FEBRUARY]


def test_a_usage_that_was_posted_late_is_compared_by_when_it_was(
    month: World, spend: Spend
) -> None:
    month.expire_at(EXPIRY)
    month.grant("1", 30, "a")
    assert spend(CLICK).status == 0
    said = spend(CLICK.replace("Click", "Clack")).said
    assert "│ description │ 'Clack' │" in said
    assert "2026-02-03T10:00:00Z, 'Click'" in " ".join(said.split())
