"""The page of what it costs says what its command computes."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bench.cost import (
    ENTRY_BYTES,
    SWEEPS,
    Scenario,
    Size,
    by_service,
    lines,
    main,
    markdown,
    markdown_of_events,
    markdown_of_sizes,
)
from chalicelib.domain import ledger
from chalicelib.domain.calendar import RESWEEP_AGES, Period
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days

PAGE = Path(__file__).parents[2] / "docs" / "cost.md"


def test_the_page_shows_the_bill_as_it_is_computed() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert markdown(Scenario()) in page
    for service, dollars in by_service(Scenario()).items():
        assert f"| {service} | {dollars:,.2f} |" in page
    assert markdown_of_sizes(Scenario()) in page
    assert markdown_of_events(Scenario()) in page


def test_a_small_stage_costs_a_few_dollars_without_users() -> None:
    full, small = (
        sum(line.dollars for line in lines(Scenario(users=0, size=size))) for size in Size
    )
    assert 6 < small < 7
    assert full > 2 * small


def test_the_command_shows_both_sizes_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--users", "1000"]) == 0
    said = capsys.readouterr().out
    assert "together, without users" in said
    assert "with 1,000 users" in said


def test_every_user_more_costs_the_same_and_twice_the_usage_costs_more() -> None:
    def bill(**changes: int) -> dict[str, int]:
        return {line.what: round(line.quantity) for line in lines(Scenario(**changes))}  # type: ignore[arg-type]

    one, two = bill(users=1_000_000), bill(users=2_000_000)
    assert two["allocate: write"] == 2 * one["allocate: write"] == 2_600_000
    assert two["alarms"] == one["alarms"]
    assert bill(usages=8)["use: write"] == 2 * one["use: write"] == 32_000_000


def test_events_are_in_the_bill_of_a_stage_that_sends_them_and_cost_no_unit() -> None:
    def bill(*, events: bool) -> dict[str, str]:
        return {line.what: line.price for line in lines(Scenario(events=events))}

    without, more = bill(events=False), bill(events=True)
    added = {what: price for what, price in more.items() if what not in without}
    assert added["events"] == "EventBridge event"
    assert not [price for price in added.values() if price.startswith("DynamoDB")]
    assert "EventBridge" in by_service(Scenario(events=True))
    assert "EventBridge" not in by_service(Scenario())


def test_the_sweeps_of_the_bill_are_those_of_the_calendar() -> None:
    assert len(RESWEEP_AGES) == SWEEPS


def test_an_ordinary_entry_is_no_bigger_than_the_bill_says() -> None:
    """With six open batches, each of which a usage takes from."""
    now = datetime(2026, 7, 1, 4, tzinfo=UTC)
    account = Account("auth0|65f1c0a2b4d8e9f012345678")
    for month in range(1, 7):
        entry = ledger.allocate(
            account, Period(2026, month), 2_000, "America/New_York", Days(300), now
        )
        account = Account(account.user_id, entry, "0" * 64)
        now += timedelta(days=31)
    request = Request(f"usage#backend#{'k' * 36}", "backend", "Monthly report, 12 pages")
    entry = ledger.use(account, 9_000, request, now)
    keys = len(account.user_id) + len("user_id entry body hash expiry_partition expiry_key") + 150
    assert len(entry.body().encode()) + keys <= ENTRY_BYTES
