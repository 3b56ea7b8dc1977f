"""What is stored of one user cannot be read, or meets a bug: it is nobody else's failure.

Work for users and for records serves all others, reports the one that failed and is logged and
counted for an alarm. Routes of the user blame the data; routes of others are as ever.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chalicelib import metrics, observability
from chalicelib.domain import ledger
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Contention, LedgerCorrupt, Unreadable
from chalicelib.jobs import errors, mail_events, notifications, records
from chalicelib.jobs.completeness import start_checks
from chalicelib.messages.checks import ZoneCheck
from chalicelib.messages.notifications import EntryPosted, ExpiringSoon, parse_notification
from chalicelib.messages.work import Sweep, SweepKind, UsersMessage
from chalicelib.observability import correlated
from chalicelib.store.ledger import LedgerStore
from chalicelib.store.mails import record_id
from chalicelib.store.subscriptions import read_subscription
from infra.imports import balances, subscriptions
from infra.imports.importing import Import, import_rows
from infra.repair import allocate, erase, export
from tests.aws.api import ADMIN, BACKEND, Api, user
from tests.aws.damage import (
    ENTRIES,
    SUBSCRIPTIONS,
    Change,
    damage,
    damage_entry,
    damage_subscription,
    having,
    without,
)
from tests.aws.repair import Terminal
from tests.aws.world import World, at

MIDNIGHT = "2026-01-31T23:00:00Z"  # the 1st of February in Paris
THIRTY_DAYS_LATER = "2026-03-02T23:00:00Z"
SIX = [str(number) for number in range(1, 7)]
OTHERS = SIX[1:]
ADDRESS = "ada@example.com"

Damaged = pytest.mark.parametrize(
    "change", [pytest.param(change, id=name) for name, change in SUBSCRIPTIONS.items()]
)
Corrupt = pytest.mark.parametrize(
    "change", [pytest.param(change, id=name) for name, change in ENTRIES.items()]
)


@pytest.fixture
def six(world: World) -> World:
    """Six users on the plan whose credits expire."""
    for user_id in SIX:
        world.subscribe(user_id, plan="starter")
    return world


@pytest.fixture
def unexpected(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The failures that were logged and counted as unexpected since the last call."""
    metrics.flush()
    capsys.readouterr()

    def read() -> list[dict[str, Any]]:
        logged = [vars(r) for r in caplog.records if r.getMessage() == "unexpected failure"]
        metrics.flush()
        written = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        counted = sum(sum(line.get("UnexpectedFailures", ())) for line in written)
        assert counted == len(logged), "each that is logged rings the alarm"
        caplog.clear()
        return logged

    yield read
    assert ADDRESS not in caplog.text
    assert all(ADDRESS not in str(vars(record)) for record in caplog.records)


def message(as_of: str = MIDNIGHT, user_ids: list[str] = SIX) -> str:
    return UsersMessage(at(as_of), tuple(user_ids)).body()


# --- Work for users -------------------------------------------------------------------------------


@Damaged
def test_one_subscription_that_cannot_be_read_costs_nobody_else_their_month(
    six: World, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    damage_subscription(change)
    six.now = at(MIDNIGHT)
    assert six.deliver("allocations", [message()]) == [message()]
    assert [six.balance(user_id) for user_id in SIX] == [0, *[100] * 5]
    (failure,) = unexpected()
    assert (failure["kind"], failure["users"]) == ("Unreadable", ["1"])
    assert failure["said"].startswith("subscription of user 1: ")
    assert any("chalicelib/store/reading.py" in place for place in failure["trace"])


@Corrupt
def test_one_entry_that_cannot_be_read_costs_nobody_else_their_month(
    six: World, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    for user_id in SIX:
        six.grant(user_id, 5, user_id)
    damage_entry(change)
    six.now = at(MIDNIGHT)
    assert six.deliver("allocations", [message()]) == [message()]
    assert [six.balance(user_id) for user_id in OTHERS] == [105] * 5
    (failure,) = unexpected()
    assert (failure["kind"], failure["users"]) == ("LedgerCorrupt", ["1"])
    assert failure["said"].startswith("ledger of user 1, entry 1: ")


@Corrupt
def test_one_entry_that_cannot_be_read_leaves_nobody_elses_expiry_out(
    six: World, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    six.allocate_at(MIDNIGHT)
    damage_entry(change)
    six.now = at(THIRTY_DAYS_LATER)
    expiry = message(THIRTY_DAYS_LATER)
    assert six.deliver("expiries", [expiry]) == [expiry]
    for user_id in OTHERS:
        assert [entry.type for entry in six.history(user_id)] == ["allocation", "expiration"]
    assert [failure["users"] for failure in unexpected()] == [["1"]]


def test_a_bug_that_one_user_meets_is_theirs_alone_and_is_logged_without_its_words(
    six: World,
    monkeypatch: pytest.MonkeyPatch,
    unexpected: Callable[[], list[dict[str, Any]]],
) -> None:
    account = LedgerStore.account

    def failing(store: LedgerStore, user_id: str) -> Any:
        if user_id == "1":
            raise ZeroDivisionError(ADDRESS)
        return account(store, user_id)

    monkeypatch.setattr(LedgerStore, "account", failing)
    six.now = at(MIDNIGHT)
    assert six.deliver("allocations", [message()]) == [message()]
    monkeypatch.undo()
    assert [six.balance(user_id) for user_id in SIX] == [0, *[100] * 5]
    (failure,) = unexpected()
    assert (failure["kind"], failure["said"], failure["users"]) == (
        "ZeroDivisionError",
        None,
        ["1"],
    )
    assert failure["trace"][0] == "ZeroDivisionError"
    assert failure["trace"][1].endswith(" failing")


def test_a_failure_for_want_of_room_is_no_unexpected_failure(
    six: World,
    monkeypatch: pytest.MonkeyPatch,
    unexpected: Callable[[], list[dict[str, Any]]],
) -> None:
    def busy(_store: LedgerStore, _user_id: str) -> Any:
        raise Contention("busy")

    monkeypatch.setattr(LedgerStore, "account", busy)
    six.now = at(MIDNIGHT)
    assert six.deliver("allocations", [message()]) == [message()]
    assert unexpected() == []


def test_a_damaged_neighbour_is_served_once_the_item_is_put_back(six: World) -> None:
    key = {"user_id": {"S": "1"}}
    damage("subscriptions", key, having("status", {"S": "frozen"}))
    six.now = at(MIDNIGHT)
    assert six.deliver("allocations", [message()]) == [message()]
    damage("subscriptions", key, having("status", {"S": "active"}))
    assert six.deliver("allocations", [message()]) == []
    assert [six.balance(user_id) for user_id in SIX] == [100] * 6


# --- Records --------------------------------------------------------------------------------------


def test_a_bug_that_one_message_meets_is_its_own_and_is_reported(
    world: World, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    def handle(sweep: Sweep) -> None:
        if sweep.timezone == "Asia/Tokyo":
            raise KeyError(ADDRESS)
        handled.append(sweep.timezone)

    handled: list[str] = []
    bodies = [
        Sweep(SweepKind.ALLOCATION, zone, at(MIDNIGHT), at(MIDNIGHT), at(MIDNIGHT)).body()
        for zone in ("Europe/Paris", "Asia/Tokyo", "Africa/Cairo")
    ]
    event = {"Records": world._records([(body, 1) for body in bodies])}
    answer = records.handle_records(
        world.services, "url", event, world.context, Sweep.parse, handle
    )
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert handled == ["Europe/Paris", "Africa/Cairo"]
    # Waiting mends nothing: it is on its way to the dead-letter queue.
    assert list(world.delays.values()) == [world.settings.retry_seconds]
    (failure,) = unexpected()
    assert (failure["kind"], failure["said"], failure["message_id"]) == ("KeyError", None, "m1")


def test_what_is_said_of_an_unknown_failure_is_its_kind() -> None:
    assert errors.describe_failure(KeyError(ADDRESS)) == "KeyError"
    assert errors.describe_failure(LedgerCorrupt("1", 2, "x")) == (
        "LedgerCorrupt: ledger of user 1, entry 2: x"
    )
    failed = errors.SomeUsersFailed({"1": KeyError(ADDRESS)})
    assert ADDRESS not in str(failed)


def test_a_trace_names_causes_and_places_and_has_an_end() -> None:
    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        raise ValueError(ADDRESS)

    try:
        try:
            deep(100)
        except ValueError as error:
            raise Unreadable("ledger", "user 1", "x") from error
    except Unreadable as error:
        found = observability.trace(error)
    assert len(found) == observability.MOST_PLACES == 40
    assert (found[0], found[2]) == ("Unreadable", "ValueError")
    assert found[3].endswith(" deep")
    assert ADDRESS not in str(found)


def test_a_trace_names_what_was_being_handled_when_something_else_went_wrong() -> None:
    """No `from` says so: a bug in the handling of an error, most often."""

    def mend() -> None:
        try:
            raise KeyError(ADDRESS)
        except KeyError:
            int("x")

    with pytest.raises(ValueError, match="invalid literal") as raised:
        mend()
    found = observability.trace(raised.value)
    assert [place for place in found if "/" not in place] == ["ValueError", "KeyError"]
    assert ADDRESS not in str(found)


# --- Emails ---------------------------------------------------------------------------------------


@pytest.fixture
def told(six: World) -> World:
    """Six allocations, of which the emails are queued."""
    six.allocate_at(MIDNIGHT)
    six.queue_mails()
    return six


def recipients() -> set[str]:
    return {f"user{user_id}@example.com" for user_id in OTHERS}


@Damaged
def test_the_email_of_a_subscription_that_cannot_be_read_stops_no_other(
    told: World, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    damage_subscription(change)
    assert told.send_mails() == [EntryPosted("1", 1, "tick").body()]
    assert set(told.outbox.recipients()) == recipients()
    assert {failure["kind"] for failure in unexpected()} == {"Unreadable"}


def test_the_email_of_an_entry_that_cannot_be_read_stops_no_other(told: World) -> None:
    damage_entry(without("body"))
    assert told.send_mails() == [EntryPosted("1", 1, "tick").body()]
    assert set(told.outbox.recipients()) == recipients()


def test_the_email_whose_record_cannot_be_read_is_not_sent_and_stops_no_other(told: World) -> None:
    told.services.mail_records.once("allocation 1-1", dict)
    damage("mails", {"id": {"S": record_id("allocation 1-1")}}, without("status"))
    assert told.send_mails() == [EntryPosted("1", 1, "tick").body()]
    assert set(told.outbox.recipients()) == recipients()


def test_the_reminder_of_a_ledger_that_cannot_be_read_stops_no_other(told: World) -> None:
    told.take("notifications")
    damage_entry(without("hash"))
    (expires_at,) = {batch.expires_at for batch in told.history("2")[-1].batches}
    assert expires_at is not None
    bodies = [ExpiringSoon(user_id, expires_at, told.now).body() for user_id in SIX]
    assert told.send_mails(bodies) == [bodies[0]]
    assert set(told.outbox.recipients()) == recipients()


def test_a_bug_that_one_email_meets_is_its_own(
    told: World,
    monkeypatch: pytest.MonkeyPatch,
    unexpected: Callable[[], list[dict[str, Any]]],
) -> None:
    read = read_subscription

    def failing(item: Any) -> Any:
        if item["user_id"]["S"] == "1":
            raise ZeroDivisionError(ADDRESS)
        return read(item)

    monkeypatch.setattr(notifications, "read_subscription", failing)
    assert told.send_mails() == [EntryPosted("1", 1, "tick").body()]
    assert set(told.outbox.recipients()) == recipients()
    assert {failure["kind"] for failure in unexpected()} == {"ZeroDivisionError"}


def test_a_bug_in_reading_one_message_or_in_beginning_fails_the_messages_and_not_the_function(
    told: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = told.take("notifications")

    def failing(*_: object) -> Any:
        raise ZeroDivisionError(ADDRESS)

    def parse(body: str) -> Any:
        return failing() if body == bodies[0] else parse_notification(body)

    with monkeypatch.context() as at_first:
        at_first.setattr(notifications, "parse_notification", parse)
        assert told.deliver_mails([(body, 1) for body in bodies]) == [(bodies[0], 1)]
    with monkeypatch.context() as at_first:
        at_first.setattr(notifications, "_Sender", failing)
        assert len(told.deliver_mails([(body, 1) for body in bodies])) == len(bodies)
    assert set(told.outbox.recipients()) == recipients()


@pytest.mark.parametrize(
    ("change", "dead"),
    [
        *(
            pytest.param(
                lambda record, change=change: change(record["dynamodb"]["NewImage"]),
                EntryPosted("1", 1, None).body(),
                id=name,
            )
            for name, change in ENTRIES.items()
            if name != "without its hash"
        ),
        pytest.param(
            lambda record: record["dynamodb"].pop("NewImage"),
            EntryPosted("1", 1, None).body(),
            id="without an item",
        ),
        pytest.param(
            lambda record: record["dynamodb"].update(
                Keys={"user_id": {"S": "1"}, "entry": {"S": "entry#x"}}, NewImage={}
            ),
            '{"event_id":"e-1","keys":{"user_id":{"S":"1"},"entry":{"S":"entry#x"}},'
            '"correlation_id":null}',
            id="under a malformed key",
        ),
        pytest.param(
            lambda record: record.pop("dynamodb"),
            '{"event_id":"e-1","keys":null,"correlation_id":null}',
            id="of nothing",
        ),
    ],
)
def test_a_record_of_the_stream_that_cannot_be_read_becomes_a_dead_letter_and_holds_up_no_other(
    six: World,
    change: Callable[[dict[str, Any]], object],
    dead: str,
    unexpected: Callable[[], list[dict[str, Any]]],
) -> None:
    six.allocate_at(MIDNIGHT)
    stored = six.stream()
    first = {**stored[0], "eventID": "e-1"}
    first["dynamodb"] = json.loads(json.dumps(first["dynamodb"]))
    change(first)
    six.queue_mails([first, *stored[1:]])
    (failure,) = unexpected()
    assert failure["event_id"] == "e-1"
    bodies = six.take("notifications")
    assert len(bodies) == 6
    assert dead in bodies
    if '"event_id"' in dead:
        assert six.send_mails(bodies) == [dead]
        assert set(six.outbox.recipients()) == recipients()


@Damaged
def test_the_bounce_of_a_subscription_that_cannot_be_read_stops_no_other(
    six: World,
    change: Change,
    monkeypatch: pytest.MonkeyPatch,
    unexpected: Callable[[], list[dict[str, Any]]],
) -> None:
    damage_subscription(change)

    def bounce(user_id: str) -> dict[str, Any]:
        address = {"emailAddress": f"user{user_id}@example.com"}
        event = {
            "eventType": "Bounce",
            "bounce": {"bounceType": "Permanent", "bouncedRecipients": [address]},
            "mail": {"tags": {"user": [user_id.encode().hex()]}},
        }
        return {"Sns": {"Message": json.dumps(event)}}

    find = six.services.subscriptions.find

    def failing(user_id: str) -> Any:
        return 1 / 0 if user_id == "3" else find(user_id)

    monkeypatch.setattr(six.services.subscriptions, "find", failing)
    event = {"Records": [bounce("1"), {}, bounce("3"), bounce("2")]}
    with pytest.raises(errors.SomeEventsFailed, match=r"^3 of 4 events failed$"):
        mail_events.suppress_addresses(six.services, event, six.context)
    assert six.services.subscriptions.get("2").suppressed == "bounce"
    assert [failure["kind"] for failure in unexpected()] == ["Unreadable", "ZeroDivisionError"]


# --- Sweeps and counts ----------------------------------------------------------------------------


def test_an_invalid_key_of_the_expiry_index_is_reported_and_everybody_is_swept(
    six: World, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    six.allocate_at(MIDNIGHT)
    damage_entry(having("expiry_key", {"S": "2026-03-02T2!"}))
    six.expiry_tick(THIRTY_DAYS_LATER)
    six.deliver_waiting("sweeps")
    handed = [UsersMessage.parse(body).user_ids for body in six.take("expiries")]
    assert sorted(user_id for user_ids in handed for user_id in user_ids) == SIX
    failures = unexpected()
    assert {failure["said"] for failure in failures} == {
        "ledger of user 1: an expiry_key names no instant"
    }
    six.take("notifications")
    six.expiry_tick("2026-02-27T23:00:00Z")
    six.deliver_waiting("sweeps")
    reminded = [parse_notification(body).user_id for body in six.take("notifications")]
    assert sorted(reminded) == OTHERS


def counted(world: World, zones: list[str] | None = None) -> dict[str, Any]:
    """The summary of the count of February."""
    event: dict[str, Any] = {"period": "2026-02", **({"zones": zones} if zones else {})}
    with correlated("r1"):
        start_checks(world.services, event)
    world.drain()
    found: dict[str, Any] = json.loads(
        world.services.reports.get("completeness/2026-02/r1/summary.json")
    )
    return found


@pytest.mark.parametrize("change", [*SUBSCRIPTIONS.values()], ids=[*SUBSCRIPTIONS])
def test_a_subscription_that_cannot_be_read_is_counted_as_unchecked_and_the_others_are_counted(
    six: World, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    six.allocate_at(MIDNIGHT)
    damage_subscription(change)
    found = counted(six, ["Europe/Paris"])
    assert (found["due"], found["allocated"], found["unchecked"]) == (5, 5, 1)
    assert found["unchecked_users"] == ["1"]
    assert not found["complete"]
    assert [failure["user_id"] for failure in unexpected()] == ["1"]


def test_a_bug_that_one_user_meets_leaves_the_others_counted_and_a_busy_table_is_no_bug(
    six: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    six.allocate_at(MIDNIGHT)
    history = LedgerStore.newest_first
    error: Exception = ZeroDivisionError(ADDRESS)

    def failing(store: LedgerStore, user_id: str, **more: Any) -> Any:
        if user_id == "1":
            raise error
        return history(store, user_id, **more)

    monkeypatch.setattr(LedgerStore, "newest_first", failing)
    assert counted(six, ["Europe/Paris"])["unchecked_users"] == ["1"]
    error = Contention("busy")
    check = ZoneCheck("r2", Period(2026, 2), "Europe/Paris", 1).body()
    assert six.deliver("checks", [check]) == [check]


def test_a_user_whose_timezone_cannot_be_read_is_found_by_the_count_of_all_zones(
    six: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    six.allocate_at(MIDNIGHT)
    damage_subscription(without("timezone"))
    monkeypatch.setattr("chalicelib.domain.calendar.zone_names", lambda: ("Europe/Paris",))
    found = counted(six)
    assert found["by_zone"]["unknown"]["unchecked_users"] == ["1"]
    (logged,) = [vars(r) for r in caplog.records if r.getMessage() == "timezones unknown"]
    assert logged["zones"] == {"unreadable": 1}


# --- The API --------------------------------------------------------------------------------------

SUBSCRIPTION = {
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}


def routes_of_subscription(api: Api, user_id: str) -> list[Any]:
    """What the routes answer that read a subscription."""
    body = {"user_id": user_id, "amount": 5, "description": "Sorry"}
    return [
        api.get("/api/credits/allocation-schedule", user(user_id)),
        api.get(f"/api/subscriptions/{user_id}", BACKEND),
        api.put(f"/api/subscriptions/{user_id}", BACKEND, SUBSCRIPTION),
        api.patch(f"/api/subscriptions/{user_id}", BACKEND, {"plan": "starter"}),
        api.post("/api/credits/allocate", ADMIN, body, key=f"a{user_id}"),
    ]


def routes_of_ledger(api: Api, user_id: str) -> list[Any]:
    """What the routes answer that read a ledger."""
    use = {"user_id": user_id, "amount": 1, "description": "Export"}
    return [
        api.get("/api/credits/balance", user(user_id)),
        api.get("/api/credits/history", user(user_id)),
        api.get("/api/credits/allocation-schedule", user(user_id)),
        api.post("/api/credits/use", BACKEND, use, key=f"u{user_id}"),
    ]


@Damaged
def test_the_routes_of_a_subscription_that_cannot_be_read_blame_the_data_and_no_caller(
    six: World, api: Api, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    assert six.balance("1") == 0
    damage_subscription(change)
    replies = routes_of_subscription(api, "1")
    for reply in replies:
        assert (reply.status, reply.json["code"], reply.json["errors"]) == (500, "unreadable", [])
        assert reply.json["title"] == "What is stored of the user is wrong"
        assert reply.json["detail"].startswith("subscription of user 1: ")
    assert len(unexpected()) == len(replies)
    assert {reply.status for reply in routes_of_subscription(api, "2")} == {200}


@Corrupt
def test_the_routes_of_a_ledger_that_cannot_be_read_blame_the_data_and_no_caller(
    six: World, api: Api, change: Change, unexpected: Callable[[], list[dict[str, Any]]]
) -> None:
    for user_id in ("1", "2"):
        six.grant(user_id, 5, user_id)
    damage_entry(change)
    is_history_readable = change is ENTRIES["without its hash"]
    replies = [
        reply
        for place, reply in enumerate(routes_of_ledger(api, "1"))
        if not (place == 1 and is_history_readable)
    ]
    for reply in replies:
        assert (reply.status, reply.json["code"]) == (500, "ledger_corrupt")
        assert reply.json["detail"].startswith("ledger of user 1, entry 1: ")
    assert len(unexpected()) == len(replies)
    assert {reply.status for reply in routes_of_ledger(api, "2")} == {200}


@Corrupt
def test_a_balance_of_the_past_that_cannot_be_read_blames_the_data(
    six: World, api: Api, change: Change
) -> None:
    six.grant("1", 5, "a")
    six.now = at("2026-01-16T12:00:00Z")
    six.grant("1", 5, "b")
    damage_entry(change)
    for name, path in (("at", "balance"), ("to", "history")):
        reply = api.get(f"/api/credits/{path}?{name}=2026-01-16T00:00:00Z", user("1"))
        assert (reply.status, reply.json["code"]) == (500, "ledger_corrupt"), path


def test_a_key_whose_marker_cannot_be_read_is_answered_so_and_charges_nothing(
    six: World, api: Api
) -> None:
    six.grant("1", 5, "a")
    use = {"amount": 1, "description": "Export"}
    assert api.post("/api/credits/use", user("1"), use, key="k").status == 200
    for item in six.lines():
        if item["entry"]["S"] == "operation":
            key = {name: item[name] for name in ("user_id", "entry")}
            damage("ledger", key, without("number"))
    reply = api.post("/api/credits/use", user("1"), use, key="k")
    assert (reply.status, reply.json["code"]) == (500, "unreadable")
    assert six.balance("1") == 4


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda: damage_subscription(having("status", {"S": "frozen"})), "unreadable"),
        (lambda: damage_entry(without("hash")), "ledger_corrupt"),
    ],
    ids=["subscription", "ledger"],
)
def test_a_dry_run_names_who_cannot_be_read_and_shows_the_others(
    six: World, api: Api, spoil: Callable[[], None], code: str
) -> None:
    six.grant("1", 5, "a")
    spoil()
    six.now = at(MIDNIGHT)
    body = {"period": "2026-02", "zones": ["Europe/Paris"], "dry_run": True}
    reply = api.post("/api/credits/allocation-runs", ADMIN, body)
    assert reply.status == 200, reply.text
    assert sorted(due["user_id"] for due in reply.json["items"]) == OTHERS
    assert [(user["user_id"], user["code"]) for user in reply.json["not_judged"]] == [("1", code)]


# --- Commands -------------------------------------------------------------------------------------


def test_an_allocation_by_hand_goes_on_past_who_cannot_be_read_and_says_so(
    six: World, terminal: Terminal
) -> None:
    damage_subscription(having("status", {"S": "frozen"}))
    six.now = at(MIDNIGHT)
    words = ("--period", "2026-02", "--zone", "Europe/Paris", "--yes", "--json")
    ran = terminal.run(allocate.main, *words)
    assert ran.status == 1
    assert [six.balance(user_id) for user_id in SIX] == [0, *[100] * 5]
    assert "1 failed: run it again" in ran.said
    assert "status is unknown to this release" in ran.said


def test_a_bug_that_one_user_meets_is_told_in_their_place(
    six: World, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = six.services.subscriptions.find

    def failing(user_id: str) -> Any:
        return 1 / 0 if user_id == "1" else find(user_id)

    monkeypatch.setattr(six.services.subscriptions, "find", failing)
    six.now = at(MIDNIGHT)
    ran = terminal.run(
        allocate.main, "--period", "2026-02", "--zone", "Europe/Paris", "--yes", "--json"
    )
    assert ran.status == 1
    assert [six.balance(user_id) for user_id in SIX] == [0, *[100] * 5]


def test_an_export_writes_what_cannot_be_read_as_it_is_stored_with_the_reason(
    six: World, terminal: Terminal
) -> None:
    for key in "abc":
        six.grant("1", 5, key)
    six.queue_mails()
    assert six.send_mails() == []
    damage_subscription(having("status", {"S": "frozen"}))
    damage_entry(without("body"), number=2)
    damage_entry(having("hash", {"N": "0.5"}), number=3)
    damage("mails", {"id": {"S": record_id("manual 1-1")}}, having("status", {"BOOL": True}))
    ran = terminal.run(export.main, "--user-id", "1")
    assert ran.status == 1
    assert "4 items cannot be read: they are written as stored, with the reason." in ran.said
    found = ran.facts
    assert found["subscription"]["unreadable"] == "status is unknown to this release"
    assert found["subscription"]["stored"]["email"] == "user1@example.com"
    first, second, third = found["ledger"]
    assert first["transaction_id"] == "1-1"
    assert second["unreadable"] == "body is missing"
    assert second["stored"]["entry"] == "entry#000000000002"
    assert third["stored"]["hash"] == {"N": "0.5"}
    (mail,) = [mail for mail in found["mails"] if "unreadable" in mail]
    assert mail["stored"]["status"] == {"BOOL": "True"}


def test_a_person_whose_subscription_cannot_be_read_can_be_erased(
    six: World, terminal: Terminal
) -> None:
    six.grant("1", 5, "a")
    damage_subscription(having("status", {"S": "frozen"}))
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    assert six.services.subscriptions.get_many(["1"], consistent=True) == {}


def imported(world: World, kind: Import, text: str) -> tuple[list[tuple[int, str]], str]:
    """What is wrong with a file, and what became of the good rows."""
    checked = kind.check(world.services, text)
    wrong = [(problem.line, problem.reason) for problem in checked.problems]
    return wrong, str(import_rows(kind, world.services, checked.good))


def test_a_row_of_a_subscription_that_cannot_be_read_is_wrong_and_no_other(six: World) -> None:
    damage_subscription(having("status", {"S": "frozen"}))
    rows = [f"{user_id},Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z" for user_id in SIX]
    heads = "user_id,timezone,plan,billing_interval,status,started_at"
    wrong, became = imported(six, subscriptions.SUBSCRIPTIONS, "\n".join([heads, *rows, ""]))
    reason = "subscription of user 1: status is unknown to this release"
    assert wrong == [
        (2, f"what is stored cannot be read ({reason}); leave the row out until it is repaired")
    ]
    assert became == "0 new, 5 changed, 0 unchanged, 0 outdated"


def test_a_row_of_a_ledger_or_a_marker_that_cannot_be_read_is_wrong_and_no_other(
    six: World,
) -> None:
    heads = "reference,user_id,amount,granted_at"
    rows = [f"r{user_id},{user_id},10,2025-06-01T00:00:00Z" for user_id in SIX]
    _, became = imported(six, balances.BALANCES, "\n".join([heads, rows[0], rows[1], ""]))
    assert became == "2 new, 0 unchanged"
    (marker,) = [
        item
        for item in six.lines()
        if item["entry"]["S"] == "operation" and item["owner"]["S"] == "1"
    ]
    damage("ledger", {name: marker[name] for name in ("user_id", "entry")}, without("number"))
    damage_subscription(having("status", {"S": "frozen"}), "3")
    six.grant("4", 5, "d")
    damage_entry(without("hash"), "4")
    wrong, became = imported(six, balances.BALANCES, "\n".join([heads, *rows, ""]))
    assert [line for line, _ in wrong] == [2, 4, 5]
    assert all("cannot be read" in reason for _, reason in wrong)
    assert became == "2 new, 1 unchanged"


def test_the_ledgers_rules_are_not_asked_of_what_cannot_be_read(
    six: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    six.allocate_at(MIDNIGHT)
    damage_entry(without("hash"))
    asked: list[str] = []
    expire = ledger.expire

    def watched(account: ledger.Account, now: Any) -> Any:
        asked.append(account.user_id)
        return expire(account, now)

    monkeypatch.setattr(ledger, "expire", watched)
    six.now = at(THIRTY_DAYS_LATER)
    six.deliver("expiries", [message(THIRTY_DAYS_LATER)])
    assert "1" not in asked
    assert set(asked) == set(OTHERS)
