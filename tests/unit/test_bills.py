"""The bills beside ours: what the page says is computed, and the machines keep the promise."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bench import bills, plots
from bench.bills import BUSY, DATABASES, SIZES, TASKS, VOLUMES, Database, disk_reads, machines, need
from bench.cost import PRICES, Scenario, Size, lines, main
from bench.report import RESULTS
from bench.usual import Batch, Done, Line

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"
SCENARIO = Scenario()


def of(users: int) -> Scenario:
    return replace(SCENARIO, users=users)


def test_the_page_shows_the_rivals_as_they_are_computed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert bills.markdown_of_sides(SCENARIO) in page
    assert bills.markdown_of_machines(SCENARIO) in page
    assert bills.markdown_of_prices() in page
    for size in (
        bills.ACCOUNT_BYTES,
        bills.ALLOCATION_BYTES,
        bills.EXPIRATION_BYTES,
        bills.USE_BYTES,
    ):
        assert f"{size} a" in page.replace("bytes ", "")


def test_the_page_says_who_is_cheaper_where() -> None:
    sides = bills.side_by_side(SCENARIO)
    own, celery = sides["Credits"], sides["Celery, on machines of its own"]
    assert all(own[users] < celery[users] for users in SIZES[:3])
    assert 2.5 * float(celery[10_000_000]) < float(own[10_000_000])
    assert 95 < celery[1_000] < 97
    two, three = of(1_750_000), of(2_500_000)
    assert bills.together(bills.ours(two)) < bills.together(bills.celery(two))
    assert bills.together(bills.ours(three)) > bills.together(bills.celery(three))
    anyway = bills.side_by_side(SCENARIO, (400_000, 800_000))[bills.ANYWAY]
    assert anyway[400_000] < 2 < anyway[800_000] < 10
    usual = sides["the usual DynamoDB design"]
    assert all(abs(usual[users] / own[users] - 1) < Decimal("0.02") for users in SIZES)


def test_our_side_is_our_bill_without_the_emails_themselves() -> None:
    whole = sum((line.dollars for line in lines(SCENARIO)), Decimal(0))
    assert whole - bills.together(bills.ours(SCENARIO)) == Decimal(150)
    small = bills.SIDES["Credits, a `small` stage"](SCENARIO)
    assert bills.together(small) == bills.together(bills.ours(replace(SCENARIO, size=Size.SMALL)))


def test_the_units_of_the_usual_design_are_those_that_are_measured() -> None:
    work = json.loads(RESULTS.read_text(encoding="utf-8"))["work"]
    quantities = {
        line.what: line.quantity / SCENARIO.users
        for line in bills.usual(replace(SCENARIO, expiring=Decimal(0)))
    }
    assert quantities["allocate: write"] == work["allocate"]["usual"]["write_units"]
    assert quantities["allocate and re-sweep: read"] == 11 * work["resweep"]["usual"]["read_units"]
    assert quantities["use: write"] == 4 * work["use1"]["usual"]["write_units"]
    assert quantities["use: read"] == 4 * work["use1"]["usual"]["read_units"]


def test_the_usual_design_has_every_line_of_ours_but_the_anchors() -> None:
    ours = {line.what for line in bills.ours(SCENARIO)}
    usual = {line.what for line in bills.usual(SCENARIO)}
    assert ours - usual == {
        "anchors: written",
        "anchors: read",
        "anchors kept",
        "duration of anchoring (estimate)",
    }
    assert usual < ours


def stored(item: Any) -> int:
    """The bytes of an item as DynamoDB charges its storage."""
    values = ((name, *value.values()) for name, value in item.serialize().items())
    return 100 + sum(len(name) + len(str(value)) for name, value in values)


def test_the_items_of_the_usual_design_have_as_many_bytes_as_the_bill_says() -> None:
    now = datetime(2026, 7, 1, 4, 0, 0, 123456, tzinfo=UTC)
    user_id = "auth0|65f1c0a2b4d8e9f012345678"

    def line(kind: str, amount: int, description: str) -> Line:
        return Line(
            user_id,
            f"line#{12:012}",
            type=kind,
            amount=amount,
            balance_after=1_500,
            description=description,
            posted_at=now,
        )

    def done(operation: str) -> Done:
        return Done(f"operation#{user_id}#{operation}", "operation", posted_at=now)

    batch = Batch(
        user_id, "batch#2027-03", granted=500, remaining=500, granted_at=now, expires_at=now
    )
    allocation = (
        batch,
        line("allocation", 500, "Monthly credits for 2027-03"),
        done("allocation#2027-03"),
    )
    use = (line("usage", -500, "Monthly report, 12 pages"), done(f"usage#{'k' * 36}"))
    assert sum(map(stored, allocation)) == bills.USUAL_ALLOCATION_BYTES
    assert sum(map(stored, use)) == bills.USUAL_USE_BYTES


def test_a_machine_that_is_twice_as_slow_needs_no_larger_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = need(SCENARIO)
    results = bills._results()
    allocating = {
        side: figures
        | {"cpu_us": {"median": 2 * figures["cpu_us"]["median"]}}
        | {part: 2 * figures[part] for part in ("postgres", "worker") if part in figures}
        for side, figures in results["work"]["allocate"].items()
    }
    slow = results | {"work": results["work"] | {"allocate": allocating}}
    monkeypatch.setattr(bills, "_results", lambda: slow)
    assert need(SCENARIO) == usual


@pytest.mark.parametrize("users", [*SIZES, 0, 1, 3_000_000, 30_000_000])
def test_celerys_machines_have_what_is_needed(users: int) -> None:
    needed, chosen = need(of(users)), machines(of(users))
    database = chosen.database
    assert database.vcpus * BUSY >= needed.database_vcpus
    assert database.vcpus * database.baseline >= needed.database_average
    assert database.memory_gb >= 2 * needed.hot_gb
    assert chosen.volume_gb >= needed.stored_gb
    assert chosen.worker[0] * BUSY >= needed.worker_vcpus
    assert 2 * chosen.api[0] * BUSY >= needed.api_vcpus
    gives = max(iops for gb, iops in VOLUMES if chosen.volume_gb >= gb)
    assert gives >= disk_reads(database, needed) or chosen.volume_gb >= VOLUMES[-1][0]


def test_no_machine_is_larger_than_it_must_be() -> None:
    assert machines(of(0)).database == DATABASES[0]
    assert machines(of(0)).worker == TASKS[0]
    chosen = [machines(of(users)) for users in SIZES]
    dollars = [bills._database_dollars(each.database, each.volume_gb) for each in chosen]
    assert dollars == sorted(dollars)


def test_a_promise_that_is_twice_as_early_takes_twice_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = need(of(1_000_000))
    monkeypatch.setattr(bills, "MINUTE", 120.0)
    after = need(of(1_000_000))
    assert (before.lateness, after.lateness) == (60, 120)
    assert before.worker_vcpus == pytest.approx(2 * after.worker_vcpus)
    assert before.turn_a_second == pytest.approx(2 * after.turn_a_second)


def test_a_place_in_the_index_that_is_in_memory_is_no_read_of_the_volume() -> None:
    needed = need(of(1_000_000))
    assert disk_reads(Database("large", 8, 1_000), needed) == 0
    small, medium = (disk_reads(database, needed) for database in DATABASES[:3:2])
    assert needed.turn_a_second > small > medium > 0


def test_every_line_of_celerys_bill_has_a_price_and_grows_with_its_users_or_is_there_always() -> (
    None
):
    for users in SIZES:
        assert all(line.price in PRICES for line in bills.celery(of(users)))
    assert bills.together(bills.celery(of(0))) > 90


def test_the_command_prints_all_sides_for_all_sizes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(plots, "write", lambda name, _: drawn.append(name))
    assert main(["--rival"]) == 0
    said = capsys.readouterr().out
    assert all(side.replace("`", "") in said for side in (*bills.SIDES, bills.ANYWAY))
    assert all(f"{users:,} users" in said for users in SIZES)
    assert drawn == ["rivals"]
    assert main(["--rival", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {*bills.SIDES, bills.ANYWAY}


def test_a_line_on_axes_of_tens_is_at_its_powers_and_shows_less_than_one_as_one() -> None:
    picture = plots.decades("Title", {"one": [(10, 0.0), (1_000, 100.0)]}, "users", "dollars")
    assert 'points="80.0,370.0 690.0,140.0"' in picture
    assert all(f">{tick}</text>" in picture for tick in ("10", "100", "1,000"))
