"""One account that many use: what is counted, what is simulated, and what the page says of it."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bench import hot
from bench.cost import MILLION, PRICES
from bench.database import write_units
from bench.hot import CALLERS, RESULTS, SENT_BY, WORK, Meter, simulated
from chalicelib.domain import ledger
from chalicelib.domain.entries import UsageItem
from chalicelib.domain.ledger import Account, Request
from chalicelib.store.ledger_items import item_of
from chalicelib.store.partiql import insert
from chalicelib.store.wire.errors import ServiceError

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
USER = "auth0|65f1c0a2b4d8e9f012345678"


def test_the_page_shows_what_was_measured_and_what_is_simulated() -> None:
    page = PAGE.read_text(encoding="utf-8")
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert hot.markdown(results) in page
    assert hot.markdown_of_courses() in page
    assert SENT_BY in results
    for side in results.values():
        measured = [(row["work"], row["callers"]) for row in side["rows"]]
        assert measured == [(work, callers) for work in WORK for callers in CALLERS]


def test_a_caller_alone_loses_no_race_in_any_measurement() -> None:
    assert simulated(1).lost == simulated(1).failed == 0
    for side in json.loads(RESULTS.read_text(encoding="utf-8")).values():
        for row in side["rows"]:
            assert (row["lost"] == 0) == (row["callers"] == 1), row
            assert row["lost_write_units"] < row["write_units"]


def test_a_caller_alone_takes_the_units_of_the_operation() -> None:
    for side in json.loads(RESULTS.read_text(encoding="utf-8")).values():
        alone = {row["work"]: row for row in side["rows"] if row["callers"] == 1}
        assert (alone["use"]["write_units"], alone["use"]["read_units"]) == (4, 1)
        assert (alone["use-many of 10"]["write_units"]) == 2.2
        assert (alone["hold and capture"]["write_units"]) == 8


def test_more_callers_wait_longer_and_get_no_more_from_one_account() -> None:
    one, eight, many = map(simulated, CALLERS)
    assert one.p50_ms <= eight.p50_ms < many.p50_ms
    assert one.p99_ms < eight.p99_ms < many.p99_ms
    assert one.lost < eight.lost < many.lost
    assert many.a_second < 1.5 * one.a_second
    # A use after the other: of a query, our own work and a transaction.
    alone = 1 / (hot.QUERY_SECONDS + hot.CPU_SECONDS + hot.TRANSACTION_SECONDS)
    assert one.a_second == pytest.approx(alone, rel=0.02)


def test_callers_of_one_account_are_simulated_the_same_each_time() -> None:
    assert simulated.__wrapped__(8) == simulated(8)


def test_what_is_lost_is_paid_for() -> None:
    one, eight, many = map(simulated, CALLERS)
    assert one.dollars < eight.dollars < many.dollars
    assert 11.5 < many.dollars / one.dollars < 12.5
    units = 4 * PRICES["DynamoDB write unit"] + PRICES["DynamoDB read unit"]
    assert units * MILLION < one.dollars < 2 * units * MILLION


class Table:
    """A client that refuses each second transaction, and reports units for the others."""

    def __init__(self) -> None:
        self.asked = 0

    def call(self, operation: str, _parameters: dict[str, Any]) -> dict[str, Any]:
        if operation != "ExecuteTransaction":
            return {"ConsumedCapacity": {"CapacityUnits": 1.0}}
        self.asked += 1
        if self.asked % 2:
            return {"ConsumedCapacity": [{"CapacityUnits": 4.0}]}
        raise ServiceError(operation, 400, "TransactionCanceledException", {})


def transaction(size: int = 1) -> dict[str, Any]:
    items = [{"user_id": {"S": "a"}, "entry": {"S": "e" * size}}, {"user_id": {"S": "b"}}]
    return {"TransactStatements": [insert("ledger", item) for item in items]}


def test_a_refused_transaction_takes_the_units_of_one_that_is_carried_out() -> None:
    table = Table()
    meter = Meter(table)
    table.call("ExecuteTransaction", transaction())
    assert (meter.requests, meter.write_units, meter.lost) == (1, 4, 0)
    with pytest.raises(ServiceError):
        table.call("ExecuteTransaction", transaction())
    assert (meter.requests, meter.write_units, meter.lost) == (2, 8, 1)
    assert meter.lost_write_units == 4


def test_a_refused_item_of_more_than_a_kilobyte_takes_two_units_a_kilobyte() -> None:
    table = Table()
    meter = Meter(table)
    table.asked = 1
    with pytest.raises(ServiceError):
        table.call("ExecuteTransaction", transaction(size=1_500))
    assert meter.lost_write_units == meter.write_units == 2 * 2 + 2


def test_reads_are_counted_markers_as_transactions() -> None:
    table = Table()
    meter = Meter(table)
    table.call("Query", {})
    table.call("TransactGetItems", {"TransactItems": [{}]})
    assert (meter.requests, meter.read_units) == (2, 3)
    meter.clear()
    assert (meter.requests, meter.read_units, meter.write_units) == (0, 0, 0)


def test_callers_at_once_are_all_counted() -> None:
    table = Table()
    meter = Meter(table)
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: table.call("Query", {}), range(4_000)))
    assert (meter.requests, meter.read_units) == (4_000, 4_000)


@pytest.mark.parametrize(("keys", "units"), [(1, 1), (10, 1), (12, 2), (50, 3), (90, 6)])
def test_the_entry_of_many_uses_is_a_kilobyte_up_to_ten_keys(keys: int, units: int) -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    opening = Request("opening", "bench", "-")
    grant = ledger.grant(Account(USER), 10**6, opening, now, "UTC", None)
    account = Account(USER, grant, "0" * 64)
    items = [UsageItem(f"{number:036}", 5, "Report") for number in range(keys)]
    request = Request("usage#backend", "backend", f"Report and {keys - 1} more")
    entry = ledger.use_many(account, items, request, now)
    assert write_units(item_of(entry, "0" * 64)) == units
