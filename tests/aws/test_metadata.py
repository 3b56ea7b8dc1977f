"""Metadata: pairs of a caller's own, kept with what they asked for, given back and searched."""

import csv
import io
import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.aws.api import ADMIN, BACKEND, Api, Caller, Reply, user
from tests.aws.world import World

USE = "/api/credits/use"
HOLDS = "/api/credits/holds"
ALLOCATE = "/api/credits/allocate"
REVERSE = "/api/credits/reverse"
HISTORY = "/api/credits/history?user_id=1"

Json = dict[str, Any]

SPRING: Json = {"campaign": "42", "team": "Zürich \N{SNOWMAN}"}


@pytest.fixture(autouse=True)
def _hundred(world: World) -> None:
    world.subscribe("1")
    world.grant("1", 100, "hundred")


def use(api: Api, key: str, metadata: object = None, amount: int = 1) -> Reply:
    body = {"user_id": "1", "amount": amount, "description": "Export", "metadata": metadata}
    return api.post(USE, BACKEND, body, key=key)


def fields(reply: Reply) -> list[str]:
    assert reply.status == 400, reply.text
    return [error["field"] for error in reply.json["errors"]]


def found(api: Api, caller: Caller = BACKEND, **wanted: str) -> list[str]:
    """The transactions whose metadata has all these pairs, newest first."""
    query = urlencode({f"metadata.{name}": value for name, value in wanted.items()})
    items = api.get(f"{HISTORY}&{query}", caller).json["items"]
    return [item["transaction_id"] for item in items]


def requests(metadata: Json) -> list[tuple[str, Caller, Json, str | None]]:
    """One request of each kind that takes metadata, in an order in which all succeed."""
    about = {"user_id": "1", "metadata": metadata}
    return [
        (USE, BACKEND, {**about, "amount": 9, "description": "Export"}, "use"),
        (HOLDS, BACKEND, {**about, "amount": 20, "description": "Report"}, "hold"),
        (f"{HOLDS}/1-3/capture", BACKEND, {"amount": 5, "metadata": metadata}, None),
        (ALLOCATE, ADMIN, {**about, "amount": 7, "description": "Gift"}, "allocate"),
        (ALLOCATE, ADMIN, {**about, "amount": -7, "description": "Mistake"}, "claw-back"),
        (REVERSE, BACKEND, {**about, "transaction_id": "1-2", "description": "Failed"}, "reverse"),
    ]


def test_whatever_is_asked_for_keeps_its_metadata_and_the_history_gives_it_back(
    world: World, api: Api
) -> None:
    for path, caller, body, key in requests(SPRING):
        assert api.post(path, caller, body, key=key).status == 200, key
    *asked, grant = api.get(HISTORY, user()).json["items"]
    assert [item["metadata"] for item in asked] == [SPRING] * 6
    assert grant["metadata"] == {}
    assert {item["type"] for item in asked} == {"usage", "hold", "manual", "reversal"}
    world.services.ledger.audit("1")


def test_the_lambda_takes_metadata_as_the_api_does(world: World, api: Api) -> None:
    assert world.grant("1", 5, "gift", metadata=SPRING)["success"]
    refused = world.grant("1", 5, "bad", metadata={"Campaign": "42"})
    assert refused["error"]["code"] == "invalid_input"
    assert found(api, campaign="42") == ["1-2"]


def test_the_same_request_has_the_same_metadata_in_whatever_order(api: Api) -> None:
    for path, caller, body, key in requests(SPRING):
        first = api.post(path, caller, body, key=key)
        turned = {**body, "metadata": dict(reversed(SPRING.items()))}
        again = api.post(path, caller, turned, key=key)
        assert (again.headers["idempotency-replayed"], again.json) == ("true", first.json), key
        for other in ({}, {"campaign": "43"}):
            reply = api.post(path, caller, {**body, "metadata": other}, key=key)
            code = "idempotency_key_reused" if key else "hold_ended"
            assert reply.json["code"] == code, path


def test_no_metadata_and_empty_metadata_are_the_same(api: Api) -> None:
    """So keys from before there was metadata stay good."""
    first = use(api, "a")
    nothings: list[Json | None] = [None, {}]
    for nothing in nothings:
        assert use(api, "a", nothing).json == first.json


BAD: list[object] = [
    "text",
    ["a"],
    5,
    {"a": 1},
    {"a": None},
    {"a": ["x"]},
    {"a": {"b": "c"}},
    {"A": "x"},
    {"a-b": "x"},
    {"": "x"},
    {"k" * 41: "x"},
    {"ä": "x"},
    {"a": "two\nlines"},
    {"a": "\x00"},
    {"a": "\x7f"},
    {f"k{number}": "x" for number in range(11)},
    {"a": "x" * 512},
    {"a": "ß" * 256},
]


def test_metadata_that_is_none_is_refused_by_its_name_and_nothing_is_written(
    world: World, api: Api
) -> None:
    use(api, "first", amount=9)
    hold = {"user_id": "1", "amount": 20, "description": "Report"}
    assert api.post(HOLDS, BACKEND, hold, key="h").status == 200
    for path, caller, body, key in requests({}):
        for bad in BAD:
            reply = api.post(path, caller, {**body, "metadata": bad}, key=f"bad-{key}")
            assert all(field.partition(".")[0] == "metadata" for field in fields(reply)), bad
    # What has no metadata does not take any.
    reply = api.post(f"{HOLDS}/1-3/release", BACKEND, {"metadata": SPRING})
    assert fields(reply) == ["metadata"]
    raw = b'{"user_id": "1", "amount": 1, "description": "x", "metadata": {"a": "\\ud800"}}'
    assert api.send("POST", USE, BACKEND, raw=raw, key="half").status == 400
    assert len(world.history()) == 3


def test_the_bounds_themselves_are_allowed(world: World, api: Api) -> None:
    for key, most in (
        ("pairs", {f"{number}": "x" for number in range(10)}),
        ("bytes", {"a": "x" * 511}),
        ("of two bytes each", {"aa": "ß" * 255}),
        ("name", {"k" * 40: ""}),
        ("signs", {"a_0": "<b>\"'; =1+1 \\ \N{PILE OF POO}"}),
    ):
        assert use(api, key.replace(" ", "-"), most).status == 200, key
        (item,) = api.get(f"{HISTORY}&limit=1", BACKEND).json["items"]
        assert item["metadata"] == most
    world.services.ledger.audit("1")


# --- Searching ------------------------------------------------------------------------------------


@pytest.fixture
def used(world: World, api: Api) -> World:
    """Five usages, 1-2 to 1-6, of two campaigns and two teams."""
    for number, (campaign, team) in enumerate(
        [("42", "a"), ("43", "a"), ("42", "b"), ("42", "a"), ("", "a b&c")]
    ):
        use(api, f"{number}", {"campaign": campaign, "team": team})
    return world


@pytest.mark.usefixtures("used")
def test_the_history_is_searched_by_all_pairs_that_are_given(api: Api) -> None:
    assert found(api, campaign="42") == ["1-5", "1-4", "1-2"]
    assert found(api, campaign="42", team="a") == ["1-5", "1-2"]
    assert found(api, user(), campaign="43") == ["1-3"]
    assert found(api, campaign="4") == found(api, campaign="42", team="c") == []
    assert found(api, nobody="42") == []
    assert found(api, campaign="") == ["1-6"]
    assert found(api, team="a b&c") == ["1-6"]


@pytest.mark.usefixtures("used")
def test_a_search_goes_with_a_type_and_with_a_time(world: World, api: Api) -> None:
    hold = {"user_id": "1", "amount": 1, "description": "Job", "metadata": {"campaign": "42"}}
    api.post(HOLDS, BACKEND, hold, key="h")
    assert found(api, campaign="42") == ["1-7", "1-5", "1-4", "1-2"]
    of_type = api.get(f"{HISTORY}&type=hold&metadata.campaign=42", BACKEND).json["items"]
    assert [item["transaction_id"] for item in of_type] == ["1-7"]
    assert world.now.year == 2026
    for bound, count in (("from=2026-01-15T12:00:00.250Z", 4), ("to=2026-01-15T12:00:00.250Z", 0)):
        items = api.get(f"{HISTORY}&metadata.campaign=42&{bound}", BACKEND).json["items"]
        assert len(items) == count


@pytest.mark.usefixtures("used")
def test_a_search_that_is_none_is_refused_by_its_parameter(api: Api) -> None:
    for query, field in (
        ("metadata.campaign=42&metadata.campaign=43", "metadata.campaign"),
        ("metadata.Campaign=42", "metadata.Campaign"),
        ("metadata.=42", "metadata."),
        (f"metadata.{'k' * 41}=42", f"metadata.{'k' * 41}"),
        ("metadata.a=two%0Alines", "metadata.a"),
        ("metadata=42", "metadata"),
        ("campaign=42", "campaign"),
    ):
        assert fields(api.get(f"{HISTORY}&{query}", BACKEND)) == [field]


@pytest.mark.usefixtures("used")
def test_pages_of_a_search_follow_each_other_and_another_search_has_other_cursors(
    api: Api,
) -> None:
    search = f"{HISTORY}&limit=1&metadata.campaign=42&metadata.team=a"
    first = api.get(search, BACKEND).json
    assert [item["transaction_id"] for item in first["items"]] == ["1-5"]
    cursor = quote(first["next_cursor"])
    # The order of the pairs does not matter to the search.
    turned = f"{HISTORY}&limit=1&metadata.team=a&metadata.campaign=42&cursor={cursor}"
    second = api.get(turned, BACKEND).json
    assert [item["transaction_id"] for item in second["items"]] == ["1-2"]
    last = api.get(f"{search}&cursor={quote(second['next_cursor'])}", BACKEND).json
    assert (last["items"], last["next_cursor"]) == ([], None)
    for other in (
        "metadata.campaign=42",
        "metadata.campaign=43&metadata.team=a",
        "metadata.campaign=a&metadata.team=42",
        "metadata.campaign=42&metadata.team=a&type=usage",
        "limit=1",
    ):
        assert fields(api.get(f"{HISTORY}&{other}&cursor={cursor}", BACKEND)) == ["cursor"]
    plain = api.get(f"{HISTORY}&limit=1", BACKEND).json["next_cursor"]
    assert fields(api.get(f"{search}&cursor={quote(plain)}", BACKEND)) == ["cursor"]


@pytest.mark.usefixtures("used")
def test_a_search_for_something_rare_is_bounded_and_goes_on_where_it_stopped(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chalicelib.store.ledger_reading.ENTRIES_A_SEARCH", 2)
    pages, query = [], f"{HISTORY}&metadata.campaign=43"
    cursor: str | None = ""
    while cursor is not None:
        page = api.get(f"{query}&cursor={quote(cursor)}" if cursor else query, BACKEND).json
        pages.append([item["transaction_id"] for item in page["items"]])
        cursor = page["next_cursor"]
    assert pages == [[], ["1-3"], []]


# --- As a table -----------------------------------------------------------------------------------


def test_a_table_has_metadata_as_json_and_no_spreadsheet_runs_it(api: Api) -> None:
    use(api, "a", SPRING)
    formulas = {"a": "x;=1+1", "b": "-1", "c": "x\"';@SUM(1)", "d": "Grüße"}
    use(api, "b", formulas)
    reply = api.get(f"{HISTORY}&metadata.campaign=42", BACKEND, headers={"Accept": "text/csv"})
    (row,) = csv.DictReader(io.StringIO(reply.text))
    assert json.loads(row["metadata"]) == SPRING
    reply = api.get(HISTORY, BACKEND, headers={"Accept": "text/csv"})
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    assert [bool(row["metadata"]) for row in rows] == [True, True, False]
    assert "x;'=1+1" in rows[0]["metadata"]
    assert "Grüße" in rows[0]["metadata"]
    assert not rows[0]["metadata"].startswith(("=", "+", "-", "@"))
