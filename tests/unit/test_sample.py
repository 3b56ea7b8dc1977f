"""The sample subscriptions: made by the generator in the repository, and everyone is in them."""

import csv
import io
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

import chalicelib
from chalicelib.domain.calendar import zone, zone_names
from chalicelib.domain.instants import parse_date, parse_instant
from chalicelib.plans_file import parse_catalogue
from infra.imports.subscriptions import COLUMNS
from infra.sample import generate

ROWS = list(csv.DictReader(io.StringIO(generate.OUTPUT.read_text(encoding="utf-8"))))
WHOLE_HOUR = timedelta(hours=1)


def generated(seed: int = generate.SEED, count: int = generate.COUNT) -> str:
    file = io.StringIO()
    generate.write_csv(file, seed, count)
    return file.getvalue()


def offset(moment: datetime, timezone: str) -> timedelta:
    found = moment.astimezone(zone(timezone)).utcoffset()
    assert found is not None
    return found


def receiving() -> list[dict[str, str]]:
    """The rows to which credits will be allocated."""
    return [r for r in ROWS if (r["status"], r["billing_interval"]) == ("active", "yearly")]


def test_the_file_in_the_repository_is_exactly_what_the_generator_makes() -> None:
    assert generate.OUTPUT.read_bytes() == generated().encode()


def test_another_seed_makes_another_file() -> None:
    assert generated(seed=1) != generated()


def test_a_larger_sample_can_be_made_and_one_smaller_than_the_certain_zones() -> None:
    for count in (1, 10, 3_000):
        rows = list(generate.subscriptions(count=count))
        assert [row["user_id"] for row in rows] == [str(number + 1) for number in range(count)]
        assert len({row["email"] for row in rows}) == count


def test_there_are_1000_subscriptions_with_the_columns_of_the_import() -> None:
    assert len(ROWS) == 1_000
    assert tuple(ROWS[0]) == generate.COLUMNS
    assert set(COLUMNS.required) <= set(generate.COLUMNS) <= set(COLUMNS.all)
    assert [row["user_id"] for row in ROWS] == [str(number) for number in range(1, 1_001)]
    assert len({row["email"] for row in ROWS}) == 1_000
    assert {row["email"].partition("@")[2] for row in ROWS} == {"example.com", "example.org"}


def test_they_live_in_over_60_timezones_most_of_them_in_a_few() -> None:
    zones = Counter(row["timezone"] for row in ROWS)
    assert len(zones) >= 60
    assert set(zones) <= set(zone_names())
    assert sum(count for _, count in zones.most_common(10)) > len(ROWS) / 2


def test_in_every_zone_off_the_whole_hour_someone_on_the_lowest_plan_receives_credits() -> None:
    moments = [datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13)]
    moments.append(datetime(2027, 2, 1, tzinfo=UTC))
    uneven = {
        name
        for name in zone_names()
        if any(offset(moment, name) % WHOLE_HOUR for moment in moments)
    }
    assert len(uneven) > 20
    assert uneven <= {row["timezone"] for row in receiving() if row["plan"] == "starter"}


@pytest.mark.parametrize(
    "name", ["America/Havana", "Pacific/Kiritimati", "Etc/GMT+12", "Pacific/Midway"]
)
def test_in_the_zones_at_the_edges_someone_on_the_lowest_plan_receives_credits(name: str) -> None:
    assert name in {row["timezone"] for row in receiving() if row["plan"] == "starter"}


def test_every_plan_is_there_with_every_billing_interval_and_every_status() -> None:
    text = (Path(chalicelib.__file__).parent / "plans.toml").read_text(encoding="utf-8")
    assert {(row["plan"], row["billing_interval"], row["status"]) for row in ROWS} == {
        (plan.id, interval, status)
        for plan in parse_catalogue(text).plans
        for interval in ("monthly", "yearly")
        for status in ("active", "paused", "cancelled")
    }


def test_they_started_before_november_2026_and_signed_up_in_the_order_of_their_ids() -> None:
    starts = [parse_instant("started_at", row["started_at"]) for row in ROWS]
    assert starts == sorted(starts)
    assert max(starts) < datetime(2026, 11, 1, tzinfo=UTC)


def test_some_have_an_amount_of_their_own_and_a_few_become_eligible_later() -> None:
    own = [int(row["allocation_amount"]) for row in ROWS if row["allocation_amount"]]
    later = [row for row in ROWS if row["eligible_from"]]
    assert 10 <= len(own) <= 100
    assert min(own) > 0
    assert 3 <= len(later) <= 50
    for row in later:
        assert parse_date("eligible_from", row["eligible_from"]) >= date(2030, 1, 1)


def test_users_who_must_receive_credits_are_eligible_at_once_with_every_seed() -> None:
    for seed in range(30):
        for row in generate.subscriptions(seed, len(generate.CERTAIN_ZONES)):
            assert (row["plan"], row["status"], row["eligible_from"]) == ("starter", "active", "")


def test_the_command_writes_the_file_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "few.csv"
    generate.main(["--seed", "7", "--count", "20", "--output", str(output)])
    assert output.read_bytes() == generated(seed=7, count=20).encode()
    assert capsys.readouterr().out == f"20 subscriptions written to {output}\n"


def test_the_largest_count_is_taken_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []
    monkeypatch.setattr(generate, "write_csv", lambda _, *asked: made.append(asked))
    generate.main(["--count=10000000", "--output", str(tmp_path / "many.csv")])
    assert made == [(generate.SEED, 10_000_000)]
    assert capsys.readouterr().out.startswith("10,000,000 subscriptions written to ")


@pytest.mark.parametrize("wrong", ["0", "-1", "1.5", "many", "10000001"])
def test_the_command_refuses_a_count_that_makes_no_sense(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    output = tmp_path / "none.csv"
    with pytest.raises(SystemExit) as stop:
        generate.main([f"--count={wrong}", "--output", str(output)])
    assert stop.value.code == 2
    assert f"must be a whole number from 1 to 10,000,000, is '{wrong}'" in capsys.readouterr().err
    assert not output.exists()


def test_the_command_says_when_it_cannot_write(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        generate.main(["--output", str(tmp_path / "missing" / "few.csv")])
    assert stop.value.code == 1
    assert "No such file or directory" in capsys.readouterr().err
