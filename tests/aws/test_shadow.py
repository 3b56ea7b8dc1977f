"""A stage beside a made-up shop whose old job has seven faults: all are found and named."""

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain.instants import format_instant
from chalicelib.operations import on_request
from chalicelib.operations.on_request import CarryOver
from infra import reach
from infra.commands import grant, shadow
from infra.deployment import packaging
from infra.imports.balances import CALLER
from infra.imports.movements import Kind, Movement
from infra.shadow import nights
from infra.whatif import sources
from tests.aws.damage import damage_entry, having
from tests.aws.exports import items_of
from tests.aws.test_whatif import exported
from tests.aws.world import World, at, client
from tests.old_shop import (
    DAY,
    MONTHS,
    OPENING,
    STARTED,
    UPGRADED,
    Fault,
    OldShop,
    as_csv,
    shop,
    usages,
)

UNTIL = "2026-05-03T02:00:00Z"
FROM = format_instant(STARTED)

PAGE = (packaging.ROOT / "docs" / "migrating.md").read_text("utf-8")

SAYS = {
    Fault(user_id): words
    for user_id, words in re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", PAGE, re.MULTILINE)
    if user_id in {*Fault}
}
"""What the page says that is found, by the fault."""

Ask = Callable[..., tuple[Any, str]]


@pytest.fixture
def months(world: World) -> World:
    """Credits beside the shop, from the export of the balances on: it is told of every usage."""
    world.now = STARTED
    old = shop(())
    for user_id, customer in old.customers.items():
        world.subscribe(user_id, plan="starter", timezone=customer.zone)
        batch = CarryOver(user_id, OPENING, STARTED, None, "Carried over", CALLER, f"b-{user_id}")
        on_request.carry_over(world.services, batch)
    told = [(when, _use(world, *rest)) for when, *rest in usages()]
    told.append((UPGRADED, _upgrade(world)))
    told += [(tick, _ticks(world, tick)) for tick in _midnights(old)]
    for when, happens in sorted(told, key=lambda each: each[0]):
        world.now = max(world.now, when)
        happens()
    world.now = at(UNTIL)
    return world


def _use(world: World, user_id: Any, amount: Any, key: Any) -> Callable[[], None]:
    def use() -> None:
        on_request.use_credits(world.services, user_id, amount, "Job", caller="shop", key=key)

    return use


def _upgrade(world: World) -> Callable[[], None]:
    def upgrade() -> None:
        world.subscribe("amount", plan="pro")

    return upgrade


def _ticks(world: World, when: datetime) -> Callable[[], None]:
    def tick() -> None:
        world.expire_at(format_instant(when))
        world.allocate_at(format_instant(when))

    return tick


def _midnights(old: OldShop) -> Iterable[datetime]:
    """When a month begins for anybody, or April's credits expire."""
    old.run(MONTHS, usages())
    created = {batch.created_at for batch in old.batches} - {STARTED}
    return created | {batch.expires_at for batch in old.batches if batch.expires_at}


def moved(*faults: Fault) -> list[Movement]:
    """What the shop exports, with a job that has these faults."""
    old = shop(faults)
    old.run(MONTHS, usages())
    return old.until(at(UNTIL))


@pytest.fixture
def ask(
    months: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Ask:
    """What the command answers about some movements, and what it says."""
    found = reach.Reach(months.stage, months.services, {}, {}, client)
    monkeypatch.setattr(reach, "reach", lambda *_: found)
    monkeypatch.setattr(shadow, "FOLDER", tmp_path / "shadow")

    def run(movements: Iterable[Movement] | str, *words: str, status: int = 0) -> tuple[Any, str]:
        file = tmp_path / "old.csv"
        file.write_text(movements if isinstance(movements, str) else as_csv(movements))
        given = [str(file), "--from", FROM, "--until", UNTIL, *words]
        assert shadow.main(given) == status
        said = capsys.readouterr()
        return json.loads(said.out) if "--json" in words else said.out, said.err

    return run


def findings(tmp_path: Path) -> dict[str, str]:
    """Who differs, and what is said about them."""
    with (tmp_path / "shadow" / "dev-2026-05-03-differences.csv").open(encoding="utf-8") as file:
        return {row["user_id"]: row["findings"] for row in csv.DictReader(file)}


def test_without_faults_everybody_is_the_same(ask: Ask, tmp_path: Path) -> None:
    answer, _ = ask(moved(), "--json")
    assert (answer["users"], answer["same"], answer["unexplained"]) == (9, 9, 0)
    assert (answer["credits"], answer["findings"]) == (0, [])
    assert findings(tmp_path) == {}


def test_each_fault_alone_is_found_and_named(ask: Ask, tmp_path: Path) -> None:
    assert SAYS.keys() == {*Fault}
    for fault in Fault:
        answer, _ = ask(moved(fault), "--json")
        said = findings(tmp_path)
        assert said.keys() == {fault.value}
        assert SAYS[fault] in said[fault.value]
        assert "; " not in said[fault.value]
        assert (answer["same"], answer["explained"], answer["unexplained"]) == (8, 1, 0)


def test_all_seven_faults_are_found_and_named_and_the_figure_is_zero(
    ask: Ask, tmp_path: Path
) -> None:
    answer, _ = ask(moved(*Fault), "--json")
    assert (answer["same"], answer["explained"], answer["unexplained"]) == (2, 7, 0)
    said = findings(tmp_path)
    assert said.keys() == {fault.value for fault in Fault}
    for fault in Fault:
        assert SAYS[fault] in said[fault.value]
    by_finding = {each["finding"]: each["users"] for each in answer["findings"]}
    assert by_finding == dict.fromkeys(
        [
            *("granted_twice", "not_granted", "wrong_amount", "wrong_zone", "wrong_offset"),
            *("late", "expired_early"),
        ],
        1,
    )


def test_it_writes_a_page_the_nights_and_a_promotion_and_into_no_table(
    ask: Ask, months: World, tmp_path: Path
) -> None:
    tables = ("ledger", "subscriptions", "edits")
    before = {table: items_of(table) for table in tables}
    earlier = nights.Night(at("2026-05-02T02:00:00Z"), 9, 9, 0, 0, "")
    nights.write(months.services.reports, earlier)

    shown, said = ask(moved(*Fault))
    assert {table: items_of(table) for table in tables} == before
    assert said.startswith("Reads the subscriptions, edits and ledgers of about 9 users")
    assert "Unexplained: 0 of 9 users. Before the switch it must be 0 for 31 nights" in shown
    assert "It has been for 2." in shown

    (_, night) = nights.read(months.services.reports)
    text = (tmp_path / "old.csv").read_bytes()
    assert night.digest == hashlib.sha256(text).hexdigest()
    assert (night.at, night.users, night.same) == (at(UNTIL), 9, 2)
    assert (night.explained, night.unexplained) == (7, 0)
    ask(moved())
    assert [each.same for each in nights.read(months.services.reports)] == [9, 9]

    ask(moved(*Fault))
    folder = tmp_path / "shadow"
    page = (folder / "dev-2026-05-03.html").read_text("utf-8")
    assert '<p class="figure">0</p>' in page
    assert page.count("<svg") == 2  # the nights, and who would have more; nobody would have less
    assert "<script" not in page
    assert "granted at midnight of a wrong zone" in page
    assert "<h1>Shadow of dev, 2026-05-03</h1>" in page
    assert "it has been for 2 nights" in page
    assert f"The same with pictures: {folder / 'dev-2026-05-03.html'}\nAll who differ: " in said


def test_the_words_say_what_is_late_and_from_when_to_when(
    ask: Ask, months: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = moved(Fault.LATE)
    monkeypatch.setattr(sources, "USERS_AT_ONCE", 4)
    for minutes, same in (("1440", 9), ("0", 8)):
        assert ask(late, "--json", "--tolerance", minutes)[0]["same"] == same
    _, said = ask(moved())
    assert "All who differ" not in said
    # By default until the last movement; a later one is of another night.
    later = Movement(0, "l-1", "ada", at("2026-05-02T10:00:00Z"), Kind.ADJUSTMENT, 25)
    assert ask([*moved(), later], "--json", "--until", "2026-05-02T09:59:59Z")[0]["same"] == 9
    file = tmp_path / "old.csv"
    file.write_text(as_csv([later, *moved()]))
    monkeypatch.setattr(sys, "stdin", keyboard := io.StringIO("n\nn\n"))
    monkeypatch.setattr(keyboard, "isatty", lambda: True)
    known = nights.read(months.services.reports)
    assert shadow.main([str(file), "--from", FROM]) == 1
    assert nights.read(months.services.reports) == known, "who declined has compared nothing"
    assert shadow.main([str(file), "--from", FROM, "--yes"]) == 0
    assert nights.read(months.services.reports)[0].at == later.at


def test_what_a_user_would_lack_is_a_promotion_that_make_grant_takes(
    ask: Ask,
    months: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Two goodwills of which Credits was not told; one is of a plan whose credits never expire.
    goodwill = [
        Movement(0, f"good-{user_id}", user_id, at("2026-04-20T10:00:00Z"), Kind.ADJUSTMENT, amount)
        for user_id, amount in (("ada", 25), ("amount", 7))
    ]
    answer, said = ask([*moved(), *goodwill], "--json", status=1)
    assert (answer["unexplained"], answer["credits"], answer["clean_nights"]) == (2, 32, 0)
    assert answer["less"][0] == {"user_id": "ada", "plan": "starter", "there": 135, "here": 110}
    promotion = tmp_path / "shadow" / "dev-2026-05-03-grants.csv"
    assert f"What users would lack on switching, 2 of them: {promotion}" in said
    rows = csv.DictReader(promotion.read_text("utf-8").splitlines())
    names = ("user_id", "amount", "expires_in_days", "notify")
    assert sorted(tuple(row[name] for name in names) for row in rows) == [
        ("ada", "25", "30", "false"),
        ("amount", "7", "never", "false"),
    ]
    local = reach.Reach("local", months.services, {}, {}, client)
    monkeypatch.setattr(reach, "reach", lambda *_: local)
    words = [str(promotion), "--stage", "local", "--approved-by", "ada"]
    assert grant.main(words) == 0
    assert "32 credits for 2 users" in capsys.readouterr().err


def test_who_cannot_be_compared_is_not_explained(ask: Ask) -> None:
    damage_entry(having("body", {"S": "{}"}), "bob")
    stranger = Movement(0, "job-9", "eve", at("2026-04-20T10:00:00Z"), Kind.USAGE, -5)
    gone = Movement(0, "job-0", "dan", STARTED - DAY, Kind.USAGE, -5)  # before it began
    answer, _ = ask([*moved(), gone, stranger], "--json", status=1)
    assert (answer["users"], answer["same"], answer["unexplained"]) == (10, 8, 2)
    (line,) = answer["findings"]
    assert line["finding"] == "unreadable"
    damaged, unregistered = sorted(line["examples"])
    assert damaged.startswith("bob: cannot be compared: ")
    assert "eve: cannot be compared: is not registered: import their" in unregistered


def test_a_user_whom_the_file_does_not_name_is_compared_all_the_same(ask: Ask) -> None:
    left_out = [movement for movement in moved() if movement.user_id != "ada"]
    answer, _ = ask(left_out, "--json", status=1)
    assert (answer["users"], answer["same"]) == (9, 8)
    assert {line["finding"] for line in answer["findings"]} == {"not_granted", "not_there"}


def test_exports_are_compared_as_the_tables_are(ask: Ask, tmp_path: Path) -> None:
    whole, _ = ask(moved(*Fault), "--json")
    when = dict.fromkeys(("export", "subscriptions", "edits"), UNTIL)
    words = exported(tmp_path / "exports", **when)
    answer, said = ask(moved(*Fault), "--json", *words)
    assert answer == whole
    assert "0 read units" in said


def test_what_is_wrong_with_the_file_or_the_words_is_named_and_nothing_is_compared(
    ask: Ask, months: World
) -> None:
    header = "reference,user_id,at,kind,amount\n"
    rows = ("a,1,2026-04-01T00:00:00Z,usage,5\n", "b,1,2026-04-01T00:00:00Z,usage,-5\n")
    printed, said = ask(f"{header}{''.join(rows)}", status=1)
    assert "must be negative: this kind, usage, takes; is 5" in said
    assert (printed, "1 of 2 rows are wrong. Nothing was compared.\n" in said) == ("", True)
    _, said = ask(header, status=1)
    assert "has no rows: there is nothing to compare with" in said
    for words, problem in (
        (("--until", FROM), "FROM: must be before the end"),
        (("--until", "2027-01-01T00:00:00Z"), "UNTIL: must not be ahead of the clock"),
        (("--export", "x", "--subscriptions", "x", "--edits", "x"), "EXPORT: "),
    ):
        _, said = ask(moved(), *words, status=1)
        assert problem in said
    assert nights.read(months.services.reports) == []
