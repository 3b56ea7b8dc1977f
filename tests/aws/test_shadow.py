"""A stage beside a made-up shop whose old job has seven faults: all are found and named."""

import csv
import json
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from chalicelib.domain.instants import format_instant
from chalicelib.operations import on_request
from chalicelib.operations.on_request import CarryOver
from infra import reach
from infra.commands import shadow
from infra.imports.balances import CALLER
from infra.imports.movements import Movement
from tests.aws.world import World, at, client
from tests.old_shop import MONTHS, OPENING, STARTED, UPGRADED, Fault, OldShop, as_csv, shop, usages

UNTIL = "2026-05-03T02:00:00Z"
FROM = format_instant(STARTED)

SAYS = {
    Fault.TWICE: "granted twice: 100 for 2026-04 on line 20, and again",
    Fault.LATE: "granted late: 100 for 2026-04 late by 5 h",
    Fault.ZONE: "granted at midnight of a wrong zone: 100 for 2026-04 at midnight in UTC, early by",
    Fault.OFFSET: "granted at midnight by a wrong DST offset: 100 for 2026-04 at midnight by the",
    Fault.EARLY: "expired early: 90 early by 1 day",
    Fault.AMOUNT: "wrong amount granted: 100 and not 500 for 2026-04",
    Fault.MISSING: "not granted: 100 for 2026-04",
}

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
    told.append((UPGRADED, lambda: world.subscribe("amount", plan="pro") and None))
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
    for fault in Fault:
        answer, _ = ask(moved(fault), "--json")
        said = findings(tmp_path)
        assert said.keys() == {fault.value}
        assert SAYS[fault].partition(" on line ")[0] in said[fault.value]
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
