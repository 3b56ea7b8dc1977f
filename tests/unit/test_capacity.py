"""The simulation of a month's turn: what must hold whatever was measured."""

import json
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.capacity import (
    INVOCATIONS_A_POLLER,
    Setting,
    bill,
    busiest,
    cases,
    handed_on,
    instants,
    markdown,
    markdown_of_settings,
    measured,
    minute,
    raised,
    saturated,
    simulate,
    throttled,
    tuned,
)
from bench.population import people
from bench.report import RESULTS
from chalicelib.domain import calendar

ROOT = Path(__file__).parents[2]


def test_a_machine_that_is_twice_as_slow_makes_the_same_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so does one that is busy: only ratios of one run count."""
    usual, slow = measured(), tmp_path / "results.json"
    slow.write_text(json.dumps(slower(json.loads(RESULTS.read_text(encoding="utf-8")))))
    monkeypatch.setattr("bench.capacity.RESULTS", slow)
    assert measured() == usual


def slower(figures: Any) -> Any:
    """The results of a machine on which everything takes twice as long."""
    if isinstance(figures, dict):
        return {name: slower(each) for name, each in figures.items()}
    return 2 * figures if isinstance(figures, float) else figures


def test_our_part_of_a_plan_is_that_of_the_machine_of_reference() -> None:
    work = json.loads(RESULTS.read_text(encoding="utf-8"))["work"]["allocate"]
    share = work["ours"]["cpu_us"]["median"] / work["floor"]["cpu_us"]["median"]
    assert measured().cpu_ms == pytest.approx(1.0426 * share)


def test_more_users_take_longer_and_more_places_less_long() -> None:
    usual = Setting(zones=(1_000_000,), warm_writes=40_000, warm_reads=40_000)
    assert simulate(replace(usual, zones=(2_000_000,))).seconds > simulate(usual).seconds
    assert simulate(replace(usual, concurrency=200)).seconds < simulate(usual).seconds


def test_nobody_is_credited_before_being_enqueued_and_everybody_is() -> None:
    turn = simulate(Setting(zones=(99_500, 500)))
    assert turn.seconds >= turn.enqueued_seconds
    assert turn.curve[-1][1] == 100_000


def test_the_table_gives_out_no_more_than_its_rate() -> None:
    slow = Setting(zones=(1_000_000,), concurrency=1_000, warm_writes=4_000)
    assert simulate(slow).seconds >= 1_000_000 / 4_000
    assert saturated(slow) == "DynamoDB's rates"


@pytest.mark.parametrize("writes", [100, 1_000, 4_000])
def test_a_throttled_table_is_waited_for_and_handed_back_to_within_the_receives_of_a_message(
    writes: int,
) -> None:
    turn = simulate(Setting(zones=(1_000_000,), warm_writes=writes))
    assert turn.curve[-1][1] == 1_000_000
    needed = 1_000_000 / writes
    assert needed <= turn.seconds <= 1.1 * needed + 30
    document = yaml.safe_load((ROOT / "infra" / "resources.yaml").read_text(encoding="utf-8"))
    assert turn.most_receives <= document["Mappings"]["Stages"]["prod"]["MaximumReceives"]


def test_an_invocation_that_has_time_hands_nothing_back() -> None:
    assert simulate(Setting(zones=(1_000_000,), warm_writes=4_000)).most_receives == 1
    hasty = Setting(zones=(100_000,), warm_writes=4_000, timeout_ms=6_000)
    turn = simulate(hasty)
    assert turn.most_receives > 1
    assert turn.curve[-1][1] == 100_000


def test_zones_with_the_same_midnight_are_paged_beside_each_other() -> None:
    alone = simulate(Setting(zones=(50_000,))).enqueued_seconds
    assert simulate(Setting(zones=(25_000, 25_000))).enqueued_seconds < alone


def test_a_zone_of_very_many_is_paged_by_as_many_as_are_deployed_or_its_index_can_bear() -> None:
    ten_million = Setting(zones=(10_000_000,))
    pages = 10_000 * (ten_million.page_ms / 1000 + ten_million.sweep_cpu_ms / (512 / 1769))
    assert simulate(ten_million).enqueued_seconds == pytest.approx(pages / 20, rel=0.2)
    quick = replace(ten_million, page_ms=1, sweep_cpu_ms=0.001)
    assert simulate(quick).enqueued_seconds == pytest.approx(10_000 / 300, rel=0.1)


def test_every_user_is_handed_on_once_however_their_zone_is_divided() -> None:
    for zones in ((1,), (50_001, 7), (999_999,), (10_000_000, 50_000)):
        assert sum(users for _, users in handed_on(Setting(zones=zones))) == sum(zones)


def test_the_zones_with_people_are_zones_of_the_calendar() -> None:
    assert set(people()) <= set(calendar.zone_names())
    assert 7_000_000_000 < sum(people().values()) < 9_000_000_000


def test_everybody_has_one_instant_at_which_the_month_begins() -> None:
    shares = [sum(zones.values()) for zones in instants().values()]
    assert sum(shares) == pytest.approx(1)
    # China and those who share its clock.
    assert sum(busiest(1_000_000)) == pytest.approx(1_000_000 * max(shares), abs=20)
    assert len(busiest(1_000_000)) > 5


def test_the_page_shows_the_turns_and_their_settings_as_they_are_computed() -> None:
    page = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    deployed = measured()
    turns = {name: (case, simulate(case)) for name, case in cases(deployed).items()}
    assert markdown(turns) in page
    assert markdown_of_settings(deployed) in page
    for name, case in throttled(deployed).items():
        turn = simulate(case)
        writes = name.rpartition(", ")[2].removesuffix(" writes/s")
        assert re.search(rf"^\| {writes}[^|]*\| {turn.seconds:,.0f} \|", page, re.MULTILINE), name


def test_the_settings_as_deployed_are_those_of_the_template() -> None:
    document = yaml.safe_load((ROOT / "infra" / "resources.yaml").read_text(encoding="utf-8"))
    concurrency = document["Mappings"]["Stages"]["prod"]["Concurrency"]
    assert Setting().concurrency == Setting().sweep_concurrency == concurrency
    config = json.loads((ROOT / ".chalice" / "config.json").read_text(encoding="utf-8"))
    functions = config["lambda_functions"]
    assert functions["allocate-accounts"]["lambda_memory_size"] == Setting().memory_mb
    assert functions["sweep-zone"]["lambda_memory_size"] == Setting().sweep_memory_mb


def test_a_turn_costs_its_units_and_more_for_time_that_is_waited() -> None:
    setting = Setting(zones=(1_000_000,), expiring=0.0)
    paid = bill(setting, simulate(setting))
    assert paid.units == Decimal("0.625") + Decimal("1.51") * Decimal("0.125")
    assert paid.once == paid.a_month == 0
    slow = replace(setting, warm_writes=500)
    waited = bill(slow, simulate(slow))
    assert waited.units == paid.units
    assert waited.functions > 5 * paid.functions


def test_what_is_warmed_is_paid_once_and_pollers_by_the_hour() -> None:
    paid = bill(tuned(Setting()), simulate(Setting(zones=(1,))))
    assert paid.once == 2 * 36_000 * Decimal("0.00065") + 28_000 * Decimal("0.00013")
    assert paid.a_month == 2 * 720 * Decimal("0.00925")


def test_a_million_in_one_zone_have_their_credits_in_the_first_minute_when_tuned() -> None:
    setting = replace(tuned(measured()), zones=(1_000_000,))
    assert minute(simulate(setting)) == 1


def test_an_invocation_is_paid_from_its_cold_start_to_its_end() -> None:
    one = simulate(Setting(zones=(1,)))
    assert one.invocations == 1
    least = Setting().cold_ms / 1000 * Setting().memory_mb / 1024
    assert least < one.gb_seconds < 2 * least


def test_nobody_can_tune_a_queue_to_more_pollers_than_there_are() -> None:
    """And provisioned mode takes the place of a maximum of concurrency."""
    for setting in (tuned(Setting()), raised(Setting())):
        assert 2 <= setting.pollers <= 200
        assert setting.pollers <= setting.concurrency // INVOCATIONS_A_POLLER <= 2_000
