"""Statements: the lines of a ledger as they are sealed, page by page, with the one before them."""

import json
from datetime import timedelta
from typing import Any

import pytest
from credits_client import verify_statement

from chalicelib.api import statements
from chalicelib.domain.entries import FIRST_HASH, entry_hash, erased_hash
from chalicelib.domain.instants import format_instant
from tests.aws.api import ADMIN, BACKEND, Api, user
from tests.aws.world import World, client

STATEMENT = "/api/credits/statement"


@pytest.fixture
def ledger(world: World) -> World:
    """User 1 has five lines, an hour apart."""
    world.subscribe("1")
    for number, key in enumerate("abcde", 1):
        world.grant("1", number, key, description="Goodwill für Ада")
        world.now += timedelta(hours=1)
    return world


def read(api: Api, query: str = "", caller: Any = ADMIN) -> list[dict[str, Any]]:
    """The lines of a statement of user 1, as objects."""
    reply = api.get(f"{STATEMENT}?user_id=1{query}", caller)
    assert reply.status == 200, reply.text
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.text.endswith("\n")
    return [json.loads(line) for line in reply.text.splitlines()]


def test_a_statement_has_each_line_as_it_is_sealed_between_a_head_and_a_foot(
    ledger: World, api: Api
) -> None:
    head, *lines, foot = read(api)
    assert head == {
        "format": "credits-statement-1",
        "user_id": "1",
        "from": None,
        "to": None,
        "made_at": format_instant(ledger.now),
        "before": None,
    }
    assert foot == {"lines": 5, "next_cursor": None, "is_end": True}
    previous = FIRST_HASH
    for number, line in enumerate(lines, 1):
        assert list(line) == ["number", "body", "hash"]
        assert line["number"] == json.loads(line["body"])["number"] == number
        assert line["hash"] == entry_hash(previous, "1", line["body"])
        previous = line["hash"]


@pytest.mark.usefixtures("ledger")
def test_a_user_a_backend_and_an_admin_read_the_same(api: Api) -> None:
    assert read(api, caller=BACKEND) == read(api) == read(api, caller=user("1"))
    assert api.get(f"{STATEMENT}?user_id=1", user("2")).status == 403
    assert api.get(f"{STATEMENT}?user_id=3", ADMIN).status == 404


def test_a_statement_of_some_time_begins_with_the_line_before_and_its_proof(
    ledger: World, api: Api
) -> None:
    _, *every, _ = read(api)
    since, until = (format_instant(ledger.now - timedelta(hours=hours)) for hours in (3, 1))
    head, *lines, foot = read(api, f"&from={since}&to={until}")
    assert (head["from"], head["to"], head["made_at"]) == (since, until, format_instant(ledger.now))
    assert [line["number"] for line in lines] == [3, 4]
    assert head["before"] == {"previous_hash": every[0]["hash"], **every[1]}
    assert foot == {"lines": 2, "next_cursor": None, "is_end": False}
    assert [line["number"] for line in read(api, f"&from={since}")[1:-1]] == [3, 4, 5]
    assert [line["number"] for line in read(api, f"&to={until}")[1:-1]] == [1, 2, 3, 4]


@pytest.mark.usefixtures("ledger")
def test_pages_go_on_where_the_one_before_ended_and_prove_it(api: Api) -> None:
    _, *every, _ = read(api)
    cursor, found, heads = "", [], []
    while True:
        head, *lines, foot = read(api, f"&limit=2{cursor}")
        heads.append(head["before"] and head["before"]["hash"])
        found += lines
        if foot["next_cursor"] is None:
            break
        assert foot["is_end"] is False
        cursor = f"&cursor={foot['next_cursor']}"
    assert found == every
    assert heads == [None, every[1]["hash"], every[3]["hash"]]
    assert foot["is_end"] is True


def test_a_cursor_of_another_statement_is_refused(ledger: World, api: Api) -> None:
    ledger.subscribe("2")
    since, until = (format_instant(ledger.now - timedelta(hours=hours)) for hours in (4, 1))
    cursor = read(api, f"&limit=1&from={since}&to={until}")[-1]["next_cursor"]
    assert read(api, f"&limit=1&from={since}&to={until}&cursor={cursor}")[1]["number"] == 3
    for other in ("1", f"1&from={since}", f"1&to={until}", f"2&from={since}&to={until}"):
        reply = api.get(f"{STATEMENT}?user_id={other}&cursor={cursor}", ADMIN)
        assert (reply.status, reply.json["errors"][0]["field"]) == (400, "cursor")


@pytest.mark.usefixtures("ledger")
def test_a_page_that_ends_with_the_ledger_has_no_next(api: Api) -> None:
    *_, foot = read(api, "&limit=5")
    assert foot == {"lines": 5, "next_cursor": None, "is_end": True}


@pytest.mark.usefixtures("ledger")
def test_large_lines_make_a_page_shorter_and_it_has_at_least_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, *first, _, _, _ = read(api)
    texts = [json.dumps(line, separators=(",", ":"), ensure_ascii=False) for line in first]
    size = sum(len(text.encode()) for text in texts)
    for most, lines in ((1, 1), (size - 1, 2), (size, 3)):
        monkeypatch.setattr(statements, "MOST_BYTES", most)
        *_, foot = read(api)
        assert (foot["lines"], foot["is_end"]) == (lines, False)
        assert foot["next_cursor"]


def test_of_an_erased_line_what_is_left_and_its_seal_are_there(ledger: World, api: Api) -> None:
    _, *before, _ = read(api)
    assert list(ledger.services.ledger.erase("1"))
    _, *lines, _ = read(api)
    assert [line["hash"] for line in lines] == [line["hash"] for line in before]
    previous = FIRST_HASH
    for line in lines:
        assert line["erased"] == erased_hash(previous, "1", line["body"], line["hash"])
        previous = line["hash"]


def test_an_altered_line_is_shown_as_it_is(ledger: World, api: Api) -> None:
    """A statement is there to show it."""
    table = ledger.settings.ledger_table
    key = {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000002"}}
    item = client("dynamodb").get_item(TableName=table, Key=key)["Item"]
    item["body"]["S"] = item["body"]["S"].replace("Goodwill", "Badwill")
    client("dynamodb").put_item(TableName=table, Item=item)
    assert "Badwill" in read(api)[2]["body"]


def pages(api: Api, limit: int) -> list[str]:
    """All lines of the statement of user 1, read page by page."""
    found: list[str] = []
    cursor = ""
    while True:
        text = api.get(f"{STATEMENT}?limit={limit}{cursor}", user("1")).text
        found += text.splitlines()
        if not (following := json.loads(found[-1])["next_cursor"]):
            return found
        cursor = f"&cursor={following}"


def remove_line(world: World, number: int) -> None:
    key = {"user_id": {"S": "1"}, "entry": {"S": f"entry#{number:012}"}}
    client("dynamodb").delete_item(TableName=world.settings.ledger_table, Key=key)


def test_a_user_verifies_all_pages_and_their_mailbox_shows_an_end_that_was_cut_off(
    ledger: World, api: Api
) -> None:
    ledger.queue_mails()
    assert ledger.send_mails() == []
    emails = [mail.text for mail in ledger.outbox.sent]
    assert len(emails) == 5
    for limit in (1, 2, 100):
        check = verify_statement(pages(api, limit), emails)
        assert (check.is_right, check.first, check.last, check.balance) == (True, 1, 5, 15)
        assert "What 5 emails or events say agrees with it." in check.words
    remove_line(ledger, 5)
    assert verify_statement(pages(api, 2)).is_right, "by itself it is right"
    check = verify_statement(pages(api, 2), emails)
    assert (check.line, check.problem) == (5, "entries up to 5 were witnessed and are gone")
    ledger.grant("1", 500, "another")
    check = verify_statement(pages(api, 2), emails)
    assert (check.line, check.problem) == (5, "its hash is not the one that was witnessed")
    remove_line(ledger, 3)
    check = verify_statement(pages(api, 2))
    assert (check.line, check.problem) == (4, "entry 3 is missing before it")


def test_an_erased_ledger_verifies_with_what_emails_said_before(ledger: World, api: Api) -> None:
    ledger.queue_mails()
    assert ledger.send_mails() == []
    assert list(ledger.services.ledger.erase("1"))
    check = verify_statement(pages(api, 2), [mail.text for mail in ledger.outbox.sent])
    assert check.is_right, check.words


def test_somebody_without_a_line_has_an_empty_statement(world: World, api: Api) -> None:
    world.subscribe("1")
    head, foot = read(api)
    assert (head["before"], foot) == (None, {"lines": 0, "next_cursor": None, "is_end": True})


@pytest.mark.usefixtures("ledger")
@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("&from=yesterday", "from"),
        ("&to=tomorrow", "to"),
        ("&from=2026-01-02T00:00:00Z&to=2026-01-02T00:00:00Z", "to"),
        ("&limit=101", "limit"),
        ("&cursor=abc", "cursor"),
        ("&type=usage", "type"),
    ],
)
def test_what_no_statement_can_be_of_names_the_field(api: Api, query: str, field: str) -> None:
    reply = api.get(f"{STATEMENT}?user_id=1{query}", ADMIN)
    assert reply.status == 400
    assert [error["field"] for error in reply.json["errors"]] == [field]
