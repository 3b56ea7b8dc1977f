"""Reading over the API: the schedule, the balance and the history of a user's credits."""

import csv
import io
import json
from datetime import timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import pytest

from chalicelib.api import cursors
from chalicelib.domain import ledger
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Account, Request
from chalicelib.store import ledger_reading
from tests.aws.api import ADMIN, BACKEND, Api, user
from tests.aws.world import World, at, client

SCHEDULE = "/api/credits/allocation-schedule"
BALANCE = "/api/credits/balance"
HISTORY = "/api/credits/history"


def spend(api: Api, amount: int, key: str) -> None:
    reply = api.post(
        "/api/credits/use", user(), {"amount": amount, "description": "Export"}, key=key
    )
    assert reply.status == 200, reply.text


# --- The schedule -------------------------------------------------------------------------------


def test_the_schedule_is_in_the_users_local_dates(world: World, api: Api) -> None:
    world.subscribe("1", timezone="Pacific/Kiritimati", plan="starter")
    world.allocate_at("2026-01-31T10:00:00Z")  # 1 February on Kiritimati, 14 hours ahead
    spend(api, 40, "a")
    reply = api.get(SCHEDULE, user())
    assert reply.json == {
        "next_allocation_date": "2026-03-01",
        "allocation_amount": 100,
        "current_balance": 60,
        "expiring_credits": [{"amount": 60, "expires_at": "2026-03-03"}],
        "next_allocation_at": "2026-02-28T10:00:00Z",
        "timezone": "Pacific/Kiritimati",
        "not_allocated_because": None,
        "balance_cap": None,
    }


def test_credits_that_expire_on_the_same_date_are_added_up_and_dates_are_sorted(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.grant("1", 7, "a", expires_in_days=20)
    world.grant("1", 1, "b", expires_in_days=10)
    world.now += timedelta(hours=1)
    world.grant("1", 2, "c", expires_in_days=10)
    world.grant("1", 1000, "d")
    schedule = api.get(SCHEDULE, user()).json
    assert schedule["current_balance"] == 1010
    assert schedule["expiring_credits"] == [
        {"amount": 3, "expires_at": "2026-01-26"},
        {"amount": 7, "expires_at": "2026-02-05"},
    ]


def test_credits_past_their_expiry_are_neither_balance_nor_expiring(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a", expires_in_days=1)
    world.now = at("2026-01-16T22:59:59Z")
    assert api.get(SCHEDULE, user()).json["current_balance"] == 5
    world.now = at("2026-01-16T23:00:00Z")  # midnight in Paris; no sweep has come
    schedule = api.get(SCHEDULE, user()).json
    assert (schedule["current_balance"], schedule["expiring_credits"]) == (0, [])
    assert api.get(BALANCE, user()).json["ledger_balance"] == 5


def test_where_no_credits_will_come_the_schedule_says_why(world: World, api: Api) -> None:
    reasons: dict[str, dict[str, object]] = {
        "subscription_paused": {"status": "paused"},
        "subscription_cancelled": {"status": "cancelled"},
        "billed_monthly": {"status": "active", "billing_interval": "monthly"},
    }
    for code, changes in reasons.items():
        world.subscribe("1", **changes)
        schedule = api.get(SCHEDULE, user()).json
        assert schedule["next_allocation_date"] is None
        assert schedule["next_allocation_at"] is None
        assert schedule["allocation_amount"] == 0
        assert schedule["not_allocated_because"]["code"] == code
        assert schedule["not_allocated_because"]["words"].endswith(".")


def test_where_a_timezone_is_known_no_longer_the_dates_are_those_of_utc(
    world: World, api: Api
) -> None:
    world.subscribe("1", timezone="Pacific/Kiritimati")
    world.now = at("2026-01-15T23:30:00Z")
    world.grant("1", 7, "a", expires_in_days=10)
    table = world.settings.subscriptions_table
    item = client("dynamodb").get_item(TableName=table, Key={"user_id": {"S": "1"}})["Item"]
    client("dynamodb").put_item(TableName=table, Item=item | {"timezone": {"S": "Asia/Gone"}})
    schedule = api.get(SCHEDULE, user()).json
    assert schedule["not_allocated_because"]["code"] == "timezone_unknown"
    assert schedule["timezone"] == "Asia/Gone"
    assert schedule["expiring_credits"] == [{"amount": 7, "expires_at": "2026-01-26"}]


def test_a_users_own_amount_comes_before_the_plans(world: World, api: Api) -> None:
    world.subscribe("1", allocation_amount=77)
    assert api.get(SCHEDULE, user()).json["allocation_amount"] == 77


# --- The balance --------------------------------------------------------------------------------


def test_the_balance_lists_the_batches_in_the_order_they_are_used(world: World, api: Api) -> None:
    world.subscribe("1", plan="starter")
    world.grant("1", 10, "a")
    world.allocate_at("2026-01-31T23:00:00Z")
    spend(api, 4, "b")
    assert api.get(BALANCE, user()).json == {
        "available_balance": 106,
        "held_balance": 0,
        "ledger_balance": 106,
        "as_of": "2026-01-31T23:00:00Z",
        "batches": [
            {
                "batch_id": "1-1",
                "granted_amount": 10,
                "remaining_amount": 6,
                "granted_at": "2026-01-15T12:00:00.250Z",
                "expires_at": None,
                "held_amount": 0,
                "priority": 50,
                "source": "adjustment",
            },
            {
                "batch_id": "1-2",
                "granted_amount": 100,
                "remaining_amount": 100,
                "granted_at": "2026-01-31T23:00:00Z",
                "expires_at": "2026-03-02T23:00:00Z",
                "held_amount": 0,
                "priority": 50,
                "source": "plan",
            },
        ],
        "holds": [],
    }


def test_the_balance_of_every_past_instant_can_be_read(world: World, api: Api) -> None:
    world.subscribe("1")
    start = world.now
    world.grant("1", 100, "grant")
    for number in range(1, 20):
        world.now = start + timedelta(hours=number)
        spend(api, 5, f"key-{number}")
    for number in range(20):
        at_the_use = quote(format_instant(start + timedelta(hours=number)))
        just_before = quote(format_instant(start + timedelta(hours=number + 1, milliseconds=-1)))
        for text in (at_the_use, just_before)[: 2 if number < 19 else 1]:
            found = api.get(f"{BALANCE}?at={text}", user()).json
            assert found["available_balance"] == 100 - 5 * number
    before = api.get(f"{BALANCE}?at=2026-01-15T11:59:59.999Z", user())
    assert (before.json["ledger_balance"], before.json["batches"]) == (0, [])


def test_an_offset_in_an_instant_is_understood(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 100, "grant")
    world.now += timedelta(days=1)
    reply = api.get(f"{BALANCE}?at={quote('2026-01-15T13:00:00.250+01:00')}", user())
    assert reply.json["as_of"] == "2026-01-15T12:00:00.250Z"
    assert reply.json["available_balance"] == 100


def test_the_future_cannot_be_asked_for(world: World, api: Api) -> None:
    world.subscribe("1")
    assert api.get(f"{BALANCE}?at=2026-01-15T12:00:00.250Z", user()).status == 200
    reply = api.get(f"{BALANCE}?at=2026-01-15T12:00:00.251Z", user())
    assert reply.status == 400
    assert reply.json["errors"] == [
        {"field": "at", "message": "must not be in the future; it is 2026-01-15T12:00:00.250Z now"}
    ]


def test_a_user_without_any_entries_has_nothing(world: World, api: Api) -> None:
    world.subscribe("1")
    assert api.get(BALANCE, user()).json["available_balance"] == 0
    assert api.get(HISTORY, user()).json == {"items": [], "next_cursor": None}


def test_a_user_who_is_not_registered_is_not_found(api: Api) -> None:
    for path in (SCHEDULE, BALANCE, f"{BALANCE}?at=2026-01-01T00:00:00Z", HISTORY):
        reply = api.get(path, user("7"))
        assert (reply.status, reply.json["code"]) == (404, "not_found")


# --- The history --------------------------------------------------------------------------------


def with_entries(world: World, count: int) -> None:
    """A user with so many entries, an hour apart; every tenth is a grant, the others usages."""
    world.subscribe("1")
    start = world.now

    def next_entry(account: Account) -> LedgerEntry | None:
        number = account.next_number
        if number > count:
            return None
        world.now = start + timedelta(hours=number)
        request = Request(f"manual#ada#{number}", "ada", "Made for a test")
        if number % 10 == 1:
            return ledger.grant(account, 100, request, world.now, "Europe/Paris", None)
        return ledger.claw_back(account, 1, request, world.now)

    world.services.ledger.post("1", next_entry)


def pages(api: Api, query: str = "") -> list[list[dict[str, Any]]]:
    """All pages of a listing of the history."""
    found = []
    cursor = ""
    while True:
        reply = api.get(f"{HISTORY}?limit=7{query}{cursor}", user())
        assert reply.status == 200, reply.text
        found.append(reply.json["items"])
        if reply.json["next_cursor"] is None:
            return found
        cursor = f"&cursor={reply.json['next_cursor']}"


def numbers(items: list[dict[str, Any]]) -> list[int]:
    return [int(item["transaction_id"].removeprefix("1-")) for item in items]


def test_the_history_has_every_entry_newest_first(world: World, api: Api) -> None:
    with_entries(world, 45)
    found = pages(api)
    assert [len(page) for page in found] == [7, 7, 7, 7, 7, 7, 3]
    assert numbers([item for page in found for item in page]) == list(range(45, 0, -1))


def test_the_last_page_has_no_cursor_even_when_it_is_full(world: World, api: Api) -> None:
    with_entries(world, 14)
    assert [len(page) for page in pages(api)] == [7, 7]


def test_while_entries_are_added_none_comes_twice_and_none_is_missed(
    world: World, api: Api
) -> None:
    with_entries(world, 150)
    seen: list[int] = []
    cursor = ""
    while True:
        reply = api.get(f"{HISTORY}?limit=7{cursor}", user()).json
        seen += numbers(reply["items"])
        world.grant("1", 1, f"meanwhile-{len(seen)}")
        if reply["next_cursor"] is None:
            break
        cursor = f"&cursor={reply['next_cursor']}"
    assert seen == list(range(150, 0, -1))


def test_a_page_has_twenty_entries_unless_the_caller_says_otherwise(world: World, api: Api) -> None:
    with_entries(world, 25)
    assert len(api.get(HISTORY, user()).json["items"]) == 20
    assert len(api.get(f"{HISTORY}?limit=100", user()).json["items"]) == 25


def test_from_and_to_bound_the_instant_an_entry_was_posted_at(world: World, api: Api) -> None:
    with_entries(world, 45)
    start = at("2026-01-15T12:00:00.250Z")

    def bound(hours: float) -> str:
        return format_instant(start + timedelta(hours=hours))

    def between(low: float, high: float) -> list[int]:
        found = pages(api, f"&from={bound(low)}&to={bound(high)}")
        return numbers([item for page in found for item in page])

    assert between(10, 20) == list(range(19, 9, -1))  # from is inclusive, to is not
    assert between(9.5, 20.5) == list(range(20, 9, -1))
    assert between(-5, 0.5) == []
    assert between(-5, 100) == list(range(45, 0, -1))
    assert between(45, 46) == [45]
    assert between(46, 47) == []


def test_a_long_ledger_is_entered_in_the_middle_without_reading_what_is_newer(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_entries(world, 200)
    store = world.services.ledger
    reads = []
    read_entry = store._entry_item

    def counted(user_id: str, number: int) -> Any:
        reads.append(number)
        return read_entry(user_id, number)

    monkeypatch.setattr(store, "_entry_item", counted)
    reply = api.get(f"{HISTORY}?limit=2&to=2026-01-16T12:00:00Z", user())
    assert numbers(reply.json["items"]) == [23, 22]
    assert len(reads) <= 8


def test_entries_of_one_type_are_found_however_rare(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_reading, "ENTRIES_A_SEARCH", 20)
    monkeypatch.setattr(ledger_reading, "ENTRIES_A_READ", 10)
    with_entries(world, 45)
    world.now += timedelta(hours=1)
    spend(api, 1, "usage")
    for number in range(45):
        world.grant("1", 1, f"later-{number}")
    found = pages(api, "&type=usage")
    assert numbers([item for page in found for item in page]) == [46]
    assert [] in found  # a page may be empty and still not be the last
    assert len(found) <= 6
    assert len([item for page in pages(api, "&type=manual") for item in page]) == 90


def test_an_allocation_names_its_period_and_the_others_do_not(world: World, api: Api) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at("2026-01-31T23:00:00Z")
    spend(api, 30, "a")
    newest, oldest = api.get(HISTORY, user()).json["items"]
    assert oldest["allocation_period"] == "2026-02"
    assert oldest["actor"] == "system"
    assert newest == {
        "transaction_id": "1-2",
        "type": "usage",
        "amount": -30,
        "balance_after": 70,
        "description": "Export",
        "actor": "user|1",
        "effective_at": "2026-01-31T23:00:00Z",
        "posted_at": "2026-01-31T23:00:00Z",
        "allocation_period": None,
        "batches": [{"batch_id": "1-1", "amount": -30}],
        "hold_id": None,
        "held_amount": None,
        "released_amount": None,
        "payment_id": None,
        "price": None,
        "refunded_amount": None,
        "unrecovered_amount": None,
        "left_out_amount": None,
        "balance_cap": None,
        "metadata": {},
    }


def test_a_line_says_when_it_was_due_and_when_it_was_written(world: World, api: Api) -> None:
    world.subscribe("1", plan="starter")
    world.now = at("2026-02-01T05:00:00Z")
    world.allocate_at("2026-01-31T23:00:00Z")
    (late,) = api.get(HISTORY, user()).json["items"]
    assert (late["effective_at"], late["posted_at"]) == (
        "2026-01-31T23:00:00Z",
        "2026-02-01T05:00:00Z",
    )


def test_balances_run_through_the_history_without_a_break(world: World, api: Api) -> None:
    with_entries(world, 30)
    items = [item for page in pages(api) for item in page]
    for newer, older in pairwise(items):
        assert newer["balance_after"] == older["balance_after"] + newer["amount"]


def test_a_cursor_of_another_listing_is_refused(world: World, api: Api) -> None:
    with_entries(world, 30)
    world.subscribe("2")
    cursor = api.get(f"{HISTORY}?limit=5", user()).json["next_cursor"]
    same = api.get(f"{HISTORY}?limit=3&cursor={cursor}", user())
    assert numbers(same.json["items"]) == [25, 24, 23]
    for other in (
        api.get(f"{HISTORY}?cursor={cursor}&type=usage", user()),
        api.get(f"{HISTORY}?cursor={cursor}&from=2026-01-01T00:00:00Z", user()),
        api.get(f"{HISTORY}?cursor={cursor}&to=2027-01-01T00:00:00Z", user()),
        api.get(f"{HISTORY}?cursor={cursor}&search=Made", user()),
        api.get(f"{HISTORY}?cursor={cursor}", user("2")),
        api.get(f"{HISTORY}?cursor={cursor}&user_id=2", ADMIN),
        api.get(f"{HISTORY}?cursor={cursor[:-1]}", user()),
        api.get(f"{HISTORY}?cursor={cursor}A", user()),
        api.get(f"{HISTORY}?cursor=%F0%9F%92%A9", user()),
        api.get(f"{HISTORY}?cursor={'A' * 512}", user()),
        api.get(f"{HISTORY}?cursor={'A' * 513}", user()),
        api.get(f"{HISTORY}?cursor=", user()),
    ):
        assert other.status == 400
        assert [error["field"] for error in other.json["errors"]] == ["cursor"]


@pytest.mark.parametrize(
    "path",
    [
        f"{HISTORY}?user_id=1&type=reversal",
        f"{HISTORY}?user_id=1&to=2026-01-01T00:00:00Z",
        f"{HISTORY}?user_id=1&from=2026-01-20T00:00:00Z",
        f"{BALANCE}?user_id=1&at=2026-01-01T00:00:00Z",
    ],
)
def test_who_was_erased_has_a_ledger_though_it_has_nothing_of_that_kind_or_time(
    world: World, api: Api, path: str
) -> None:
    world.subscribe("1")
    world.grant("1", 7, "a")
    world.now = at("2026-01-21T00:00:00Z")
    empty = api.get(path, ADMIN)
    assert empty.status == 200
    world.services.subscriptions.remove("1")
    assert (api.get(path, ADMIN).status, api.get(path, ADMIN).json) == (200, empty.json)
    assert api.get(path.replace("user_id=1", "user_id=2"), ADMIN).status == 404


def test_the_last_page_of_who_was_erased_is_empty_and_no_error(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 7, "a")
    spend(api, 1, "b")
    world.services.subscriptions.remove("1")
    first = api.get(f"{HISTORY}?user_id=1&type=usage&limit=1", ADMIN).json
    assert [item["amount"] for item in first["items"]] == [-1]
    cursor = first["next_cursor"]
    last = api.get(f"{HISTORY}?user_id=1&type=usage&limit=1&cursor={cursor}", ADMIN)
    assert (last.status, last.json) == (200, {"items": [], "next_cursor": None})


def test_a_forged_cursor_gets_nobody_anywhere(world: World, api: Api) -> None:
    with_entries(world, 5)
    for position in ("0", "-1", "01", "1.5", "abc", "", "9" * 13, "\N{ARABIC-INDIC DIGIT ONE}"):
        cursor = cursors.encode("history 1 None None None", position)
        assert api.get(f"{HISTORY}?cursor={cursor}", user()).status == 400
    cursor = cursors.encode("history 1 None None None", "1")
    assert api.get(f"{HISTORY}?cursor={cursor}", user()).json["items"] == []


# --- CSV ----------------------------------------------------------------------------------------


def test_the_history_comes_as_csv_page_by_page(world: World, api: Api) -> None:
    with_entries(world, 12)
    as_csv = {"Accept": "text/csv"}
    reply = api.get(f"{HISTORY}?limit=8", user(), headers=as_csv)
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    items = api.get(f"{HISTORY}?limit=8", user()).json["items"]
    assert [row["transaction_id"] for row in rows] == [item["transaction_id"] for item in items]
    assert list(rows[0]) == list(items[0])
    assert rows[0]["batches"] == "1-1 -1"
    rest = api.get(
        f"{HISTORY}?limit=8&cursor={reply.headers['next-cursor']}", user(), headers=as_csv
    )
    assert "next-cursor" not in rest.headers
    assert len(rest.text.splitlines()) == 5


def test_a_description_cannot_smuggle_a_formula_into_a_spreadsheet(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant(
        "1", 5, "a", description='=HYPERLINK("http://evil.example")', actor="@ada, the admin"
    )
    reply = api.get(HISTORY, user(), headers={"Accept": "text/csv"})
    (row,) = csv.DictReader(io.StringIO(reply.text))
    assert row["description"] == '\'=HYPERLINK("http://evil.example")'
    assert row["actor"] == "'@ada, the admin"


FORMULAS = [
    mark + text
    for text in ("HYPERLINK(1)", "1")
    for mark in ("=", "+", "-", "@", "＝", "＋", "－", "＠", "﹦", "﹢", "﹣", "﹫")
]


@pytest.mark.parametrize("before", ["", "a;", "a; ", 'a;"', 'a; ";', "a;;", ";", '"', "a;b;\u3000"])
def test_a_text_is_no_formula_to_any_spreadsheet(before: str, world: World, api: Api) -> None:
    world.subscribe("=1+1")
    for number, formula in enumerate(FORMULAS):
        world.grant("=1+1", 5, str(number), description=before + formula)
    world.grant("=1+1", -5, "taken", description="Both; of two batches")
    reply = api.get(f"{HISTORY}?limit=100", user("=1+1"), headers={"Accept": "text/csv"})
    # What Python's reader does with quotes in the middle of a cell, Excel and LibreOffice do, too.
    for separator in ",;\t":
        for row in csv.reader(io.StringIO(reply.text), delimiter=separator):
            for cell in row:
                begins = cell.lstrip(' "\u3000')[:1]
                assert begins not in {formula[0] for formula in FORMULAS} or cell == "-5", cell
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert [row["amount"] for row in rows] == ["-5", *["5"] * len(FORMULAS)]
    assert [row["description"].replace("'", "") for row in rows[:0:-1]] == [
        (before + formula).strip() for formula in FORMULAS
    ]


@pytest.mark.parametrize(
    "text", ["Order 5 - paid; 3 = half", "a@b.example; c", "; and = more", "x;"]
)
def test_a_text_that_no_spreadsheet_takes_for_a_formula_is_left_as_it_is(
    text: str, world: World, api: Api
) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a", description=text)
    reply = api.get(HISTORY, user(), headers={"Accept": "text/csv"})
    (row,) = csv.DictReader(io.StringIO(reply.text))
    assert row["description"] == text


def test_csv_is_for_those_who_prefer_it(world: World, api: Api) -> None:
    world.subscribe("1")
    expected = {
        "text/csv": "text/csv",
        "TEXT/CSV;q=0.9, application/json;q=0.5": "text/csv",
        "text/csv, */*": "text/csv",
        "text/csv, application/json;q=0.9": "text/csv",
        "text/csv;q=0.5, application/json": "application/json",
        "application/json, text/csv": "application/json",
        "text/csv;q=0": "application/json",
        "text/csv;q=x": "application/json",
        "*/*": "application/json",
        "image/png": "application/json",
        "": "application/json",
    }
    for accept, media_type in expected.items():
        reply = api.get(HISTORY, user(), headers={"Accept": accept})
        assert reply.headers["content-type"].startswith(media_type), accept
    # Where nothing has happened, the head remains.
    nothing = api.get(HISTORY, user(), headers={"Accept": "text/csv"}).text
    assert nothing.startswith("transaction_id,type,amount,balance_after,")


# --- Bounds -------------------------------------------------------------------------------------


WRONG_QUERIES = (
    (f"{HISTORY}?limit=0", "limit"),
    (f"{HISTORY}?limit=101", "limit"),
    (f"{HISTORY}?limit=-1", "limit"),
    (f"{HISTORY}?limit=1.0", "limit"),
    (f"{HISTORY}?limit=007", "limit"),
    (f"{HISTORY}?limit=", "limit"),
    (f"{HISTORY}?limit=%D9%A3", "limit"),
    (f"{HISTORY}?type=gift", "type"),
    (f"{HISTORY}?from=yesterday", "from"),
    (f"{HISTORY}?from=2026-01-01", "from"),
    (f"{HISTORY}?to=2026-01-01T00:00:00", "to"),
    (f"{HISTORY}?to=2026-02-30T00:00:00Z", "to"),
    (f"{HISTORY}?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
    (f"{HISTORY}?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
    (f"{HISTORY}?page=2", "page"),
    (f"{HISTORY}?limit=5&limit=6", "limit"),
    (f"{BALANCE}?at=now", "at"),
    (f"{BALANCE}?at=1969-12-31T23:59:59Z", "at"),
    (f"{BALANCE}?user_id=", "user_id"),
    (f"{BALANCE}?user_id=a%20b", "user_id"),
    (f"{BALANCE}?user_id={'1' * 129}", "user_id"),
    (f"{SCHEDULE}?at=2026-01-01T00:00:00Z", "at"),
)


def test_a_wrong_query_parameter_is_named(world: World, api: Api) -> None:
    world.subscribe("1")
    for path, field in WRONG_QUERIES:
        reply = api.get(path, user())
        assert reply.status == 400, path
        assert [error["field"] for error in reply.json["errors"]] == [field], path


def test_everything_that_is_wrong_is_said_at_once(api: Api) -> None:
    reply = api.get(f"{HISTORY}?limit=0&type=x&from=x&sort=up", user())
    fields = [error["field"] for error in reply.json["errors"]]
    assert fields == ["limit", "type", "from", "sort"]


def test_every_character_of_a_text_arrives_in_both_forms(world: World, api: Api) -> None:
    world.subscribe("1")
    texts = ("Günther’s 5 €", "祝 🎁", 'a "b", c; d')
    for number, text in enumerate(texts):
        world.grant("1", 5, str(number), description=text, actor=f"ада {number}")
    items = api.get(HISTORY, user()).json["items"]
    assert [item["description"] for item in items] == list(texts[::-1])
    assert [item["actor"] for item in items] == [f"ада {number}" for number in (2, 1, 0)]
    reply = api.get(HISTORY, user(), headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(reply.text, newline="")))
    assert [row["description"] for row in rows] == list(texts[::-1])


def test_the_csv_has_a_line_for_each_entry_with_all_of_its_batches(world: World, api: Api) -> None:
    world.subscribe("1", plan="starter")
    world.grant("1", 3, "a")
    world.allocate_at("2026-01-31T23:00:00Z")
    world.now = at("2026-02-01T12:00:00.500Z")
    spend(api, 5, "b")
    reply = api.get(HISTORY, user(), headers={"Accept": "text/csv"})
    assert reply.text.split("\r\n") == [
        (
            "transaction_id,type,amount,balance_after,description,actor,effective_at,posted_at,"
            "allocation_period,batches,hold_id,held_amount,released_amount,payment_id,price,"
            "refunded_amount,unrecovered_amount,left_out_amount,balance_cap,metadata"
        ),
        (
            "1-3,usage,-5,98,Export,user|1,2026-02-01T12:00:00.500Z,2026-02-01T12:00:00.500Z,,"
            "1-1 -3; 1-2 -2,,,,,,,,,,"
        ),
        (
            "1-2,allocation,100,103,Monthly credits for 2026-02,system,2026-01-31T23:00:00Z,"
            "2026-01-31T23:00:00Z,2026-02,1-2 100,,,,,,,,,,"
        ),
        (
            "1-1,manual,3,3,Goodwill,ada,2026-01-15T12:00:00.250Z,2026-01-15T12:00:00.250Z,,"
            "1-1 3,,,,,,,,,,"
        ),
        "",
    ]


def test_a_clock_that_is_behind_the_ledger_brings_nothing_back(world: World, api: Api) -> None:
    """Another server, a few seconds ahead, has written when some of the credits had expired."""
    world.subscribe("1")
    world.grant("1", 7, "a", expires_in_days=10)
    world.now = at("2026-01-25T23:00:01Z")
    world.grant("1", 100, "b")
    world.now = at("2026-01-25T22:59:58Z")
    schedule = api.get(SCHEDULE, user()).json
    assert (schedule["current_balance"], schedule["expiring_credits"]) == (100, [])
    balance = api.get(BALANCE, user()).json
    assert balance["available_balance"] == 100
    assert balance["as_of"] == "2026-01-25T23:00:01Z", "what it says is as of the last entry"
    outlook = api.get("/api/credits/forecast", user()).json
    assert (outlook["as_of"], outlook["available_balance"]) == ("2026-01-25T23:00:01Z", 100)
    assert [rate["days"] for rate in outlook["rates"]] == [7, 10, 10]


@pytest.mark.parametrize(
    ("listing", "position", "cursor"),
    [
        ("history 42 None None None", "17", "NDhiNmZjNzUxNw"),
        ("preview 2026-02 ['Asia/Tokyo']", "Asia/Tokyo 42", "YTU1NTc5NjdBc2lhL1Rva3lvIDQy"),
        ("preview 2026-02 ['Asia/Tokyo']", "Asia/Tokyo a>b~", "YTU1NTc5NjdBc2lhL1Rva3lvIGE-Yn4"),
    ],
)
def test_a_page_that_was_begun_under_the_release_before_goes_on(
    listing: str, position: str, cursor: str
) -> None:
    assert cursors.encode(listing, position) == cursor
    assert cursors.decode(listing, cursor, ".*") == position
    assert cursors.parse_cursor("cursor", "A" * 512) == "A" * 512
    with pytest.raises(InvalidInput, match="cursor"):
        cursors.decode(listing, cursors.encode(listing, "Zürich"), r"\w+")


@pytest.mark.parametrize(
    ("path", "listing"),
    [
        (f"{HISTORY}?user_id=1&limit=1", "history 1 None None None"),
        ("/api/credits/statement?user_id=1&limit=1", "statement 1 None None"),
        ("/api/subscriptions?plan=starter&limit=1", "subscriptions None {'plan': 'starter'}"),
        ("/api/subscriptions/1/edits?limit=1", "edits 1"),
        ("/api/subscriptions/1/emails?limit=1", "emails 1"),
    ],
)
def test_every_listing_goes_on_under_the_name_it_had_in_the_release_before(
    world: World, api: Api, path: str, listing: str
) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id, plan="starter")
    for language in ("de", "en"):
        api.patch("/api/subscriptions/1", ADMIN, {"language": language})
        world.grant("1", 5, language)
    last_line = api.get(path, ADMIN).text.splitlines()[-1]
    assert cursors.decode(listing, json.loads(last_line)["next_cursor"], ".+") is not None


# --- Why it was refused -------------------------------------------------------------------------

EXPLAIN = "/api/credits/explain"


def test_a_refusal_is_explained_by_the_account_as_it_was(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 20, "a", expires_in_days=1)
    world.grant("1", 50, "b")
    then = world.now = at("2026-01-16T23:00:00Z")  # midnight in Paris
    asked = {"amount": 60, "description": "Export"}
    assert api.post("/api/credits/use", user(), asked, key="k").status == 402
    world.now += timedelta(days=3)
    world.grant("1", 1000, "c")
    found = api.get(f"{EXPLAIN}?at={format_instant(then)}&amount=60", user()).json
    assert found["decision"] == {
        "code": "insufficient_credits",
        "words": "At 2026-01-16T23:00:00Z, 50 credits were available and 60 asked for: "
        "10 too few, so none was taken.",
    }
    assert found["reasons"] == [
        {
            "code": "expired",
            "words": "20 credits had expired, the last at 2026-01-16T23:00:00Z.",
            "amount": 20,
            "until": "2026-01-16T23:00:00Z",
        }
    ]
    assert (found["available_amount"], found["missing_amount"]) == (50, 10)
    assert [each["open_amount"] for each in found["batches"]] == [0, 50]
    assert [each["transaction_id"] for each in found["latest_transactions"]] == ["1-2", "1-1"]
    assert (found["transaction"], found["decides_the_same"]) == (None, None)


def test_without_an_instant_the_present_is_explained(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a")
    found = api.get(f"{EXPLAIN}?amount=6", user()).json
    assert (found["at"], found["missing_amount"]) == (format_instant(world.now), 1)
    assert api.get(EXPLAIN, user()).json["decision"]["code"] == "nothing_asked"
    for number in range(5):
        world.grant("1", 1, str(number))
    most = api.get(f"{EXPLAIN}?amount=1000000000", user()).json
    assert most["missing_amount"] == 1_000_000_000 - 10
    latest = api.get(EXPLAIN, user()).json["latest_transactions"]
    assert numbers(latest) == [6, 5, 4, 3, 2]


def test_an_entry_is_explained_by_the_account_before_it(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a")
    world.grant("1", 9, "b")
    spend(api, 8, "k")
    spend(api, 1, "l")
    found = api.get(f"{EXPLAIN}?transaction_id=1-3", ADMIN).json
    assert (found["amount"], found["decision"]["code"]) == (8, "covered")
    assert [each["taken_amount"] for each in found["batches"]] == [5, 3]
    assert found["transaction"] == api.get(HISTORY, user()).json["items"][1]
    assert found["decides_the_same"] is True
    first = api.get(f"{EXPLAIN}?transaction_id=1-1", user()).json
    assert (first["batches"], first["latest_transactions"], first["amount"]) == ([], [], None)
    job = {"user_id": "1", "amount": 2, "description": "Job"}
    held = api.post("/api/credits/holds", BACKEND, job, key="h").json
    spend(api, 3, "m")
    found = api.get(f"{EXPLAIN}?transaction_id=1-6", ADMIN).json
    assert found["batches"] == [
        {
            "batch_id": "1-2",
            "remaining_amount": 5,
            "expires_at": None,
            "held_amount": 2,
            "open_amount": 3,
            "taken_amount": 3,
        }
    ]
    assert found["holds"] == [
        {"hold_id": "1-5", "amount": 2, "expires_at": held["expires_at"]},
    ]
    assert (found["available_amount"], numbers(found["latest_transactions"])) == (
        3,
        [5, 4, 3, 2, 1],
    )


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("at=2099-01-01T00:00:00Z", "at"),
        ("at=yesterday", "at"),
        ("amount=0", "amount"),
        ("amount=1000000001", "amount"),
        ("amount=1.5", "amount"),
        ("transaction_id=1-1&amount=5", "amount"),
        ("transaction_id=1-1&at=2026-01-01T00:00:00Z", "at"),
        ("transaction_id=1-1&user_id=1", "user_id"),
        ("id=1-1", "id"),
    ],
)
def test_what_cannot_be_explained_names_the_field(
    world: World, api: Api, query: str, field: str
) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a")
    reply = api.get(f"{EXPLAIN}?{query}", user())
    assert reply.status == 400
    assert [error["field"] for error in reply.json["errors"]] == [field]


def test_nobody_is_told_how_somebody_elses_credits_were_taken(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a")
    assert api.get(f"{EXPLAIN}?transaction_id=1-1", user("2")).status == 403
    assert api.get(f"{EXPLAIN}?transaction_id=1-2", user("1")).status == 404
    assert api.get(f"{EXPLAIN}?transaction_id=none", user("1")).status == 404
    assert api.get(f"{EXPLAIN}?user_id=3", ADMIN).status == 404


# --- When they run out --------------------------------------------------------------------------

FORECAST = "/api/credits/forecast"


def test_a_forecast_has_what_the_plan_brings_and_what_the_last_days_spent(
    world: World, api: Api
) -> None:
    world.subscribe("1", timezone="Pacific/Kiritimati", plan="starter")
    world.allocate_at("2026-01-31T10:00:00Z")  # 1 February on Kiritimati, 14 hours ahead
    world.now += timedelta(days=8)
    spend(api, 70, "a")
    found = api.get(FORECAST, user()).json
    assert found["available_balance"] == 30
    assert found["allocations"][0] == {
        "on": "2026-03-01",
        "at": "2026-02-28T10:00:00Z",
        "amount": 100,
    }
    assert len(found["allocations"]) == 12
    assert found["until"] == "2027-02-09"
    assert found["expiring_credits"][0] == {"amount": 30, "expires_at": "2026-03-03"}
    week, month, quarter = found["rates"]
    assert (week["spent_amount"], week["days"], week["window_days"]) == (70, 7, 7)
    # 10 a day from the 9th on, today among them.
    assert (week["runs_out_on"], week["no_rate_because"]) == ("2026-02-12", None)
    assert month["no_rate_because"]["code"] == quarter["no_rate_because"]["code"] == "too_new"
    assert (month["runs_out_on"], month["expiring_credits"]) == (None, [])


def test_who_is_paused_and_has_nothing_is_promised_nothing(world: World, api: Api) -> None:
    world.subscribe("1", status="paused")
    found = api.get(FORECAST, user()).json
    assert (found["allocations"], found["expiring_credits"]) == ([], [])
    assert [each["no_rate_because"]["code"] for each in found["rates"]] == ["too_new"] * 3
    assert api.get(FORECAST, user("7")).status == 404


def test_credits_without_a_subscription_are_forecast_too(world: World, api: Api) -> None:
    world.subscribe("1")
    world.grant("1", 5, "a", expires_in_days=2)
    assert world.services.subscriptions.remove("1")
    found = api.get(f"{FORECAST}?user_id=1", ADMIN).json
    assert (found["available_balance"], found["allocations"]) == (5, [])
    assert found["expiring_credits"] == [{"amount": 5, "expires_at": "2026-01-17"}]


def test_of_very_many_lines_the_latest_are_read_and_one_from_before_the_window_is_enough(
    world: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    world.grant("1", 500, "a", expires_in_days=60)
    for day in range(20):
        world.now += timedelta(days=1)
        spend(api, 3, f"{day}")
    monkeypatch.setattr("chalicelib.api.forecasts.ENTRIES_A_SEARCH", 11)
    week, month, _ = api.get(FORECAST, user()).json["rates"]
    assert (week["days"], week["spent_amount"], week["no_rate_because"]) == (7, 24, None)
    assert (month["days"], month["spent_amount"], month["no_rate_because"]) == (10, 33, None)
    # On 41 days more, today among them, 24 are spent in 7 of them; or 33 in 10.
    rest = [500 - 60 - 24 * 41 // 7, 500 - 60 - 33 * 41 // 10]
    assert [each["expiring_credits"] for each in (week, month)] == [
        [{"amount": amount, "expires_at": "2026-03-17"}] for amount in rest
    ]


def test_a_forecast_of_a_clock_that_is_behind_the_ledger_is_of_the_last_entry(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.grant("1", 500, "a")
    job = {"user_id": "1", "amount": 20, "description": "Job"}
    assert api.post("/api/credits/holds", BACKEND, job, key="h").status == 200
    found_at = format_instant(world.now)
    world.now -= timedelta(seconds=1)
    found = api.get(FORECAST, user()).json
    assert (found["as_of"], found["available_balance"]) == (found_at, 480)
    assert [each["days"] for each in found["rates"]] == [0, 0, 0]


def test_what_was_quiet_until_today_is_known_to_have_been_quiet(world: World, api: Api) -> None:
    """The last line from before a window says what was there, and that nothing was spent since."""
    world.subscribe("1")
    world.grant("1", 500, "a")
    world.grant("1", 1, "b")
    world.now += timedelta(days=100)
    untouched = api.get(FORECAST, user()).json
    assert untouched["available_balance"] == 501
    nothing = [(each["days"], each["no_rate_because"]["code"]) for each in untouched["rates"]]
    assert nothing == [(days, "nothing_spent") for days in (7, 30, 90)]
    spend(api, 30, "c")
    rates = api.get(FORECAST, user()).json["rates"]
    spent = [(each["days"], each["spent_amount"], each["no_rate_because"]) for each in rates]
    assert spent == [(7, 30, None), (30, 30, None), (90, 30, None)]
    # What is given back of a usage from before a window was not spent twice.
    world.now += timedelta(days=60)
    back = {"user_id": "1", "transaction_id": "1-3", "description": "Failed"}
    assert api.post("/api/credits/reverse", ADMIN, back, key="r").status == 200
    rates = api.get(FORECAST, user()).json["rates"]
    assert [each["spent_amount"] for each in rates] == [0, 0, 0]
    assert {each["no_rate_because"]["code"] for each in rates} == {"nothing_spent"}
