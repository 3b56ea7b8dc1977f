"""Who looks at somebody else's credits is in the log, with whose they were; nobody else is."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.api import trail
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.observability import SERVICE
from chalicelib.operations import months
from tests.aws import contract
from tests.aws.api import ADMIN, BACKEND, BILLING, NOBODY, Api, Caller, Reply, user
from tests.aws.world import World, at, client

Json = dict[str, Any]

ANN = "ann"
BOB = "bob"
PLAN = {
    "email": "ann@example.com",
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}
OF_ANN = f"?user_id={ANN}"
USE = {"user_id": ANN, "amount": 1, "description": "Export"}
REVERSE = {"user_id": ANN, "transaction_id": f"{ANN}-2", "description": "Failed"}
ALLOCATE = {"user_id": ANN, "amount": 1, "description": "Goodwill"}
HOLD = {"user_id": ANN, "amount": 4, "description": "Report"}
HOLDS = "/api/credits/holds"
RUN: Json = {"period": "2026-02", "zones": ["Europe/Paris"]}
KEYS = {"caller", "scopes", "route", "status", "user_ids"}


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Json]]:
    """The lines of the trail since the last call; none of them has an address."""
    caplog.set_level("INFO")

    def read() -> list[Json]:
        found = []
        for record in caplog.records:
            assert "@" not in json.dumps(vars(record), default=str), record.msg
            if record.name == SERVICE and record.msg == trail.MESSAGE:
                assert record.levelname == "INFO"
                line = {name: vars(record)[name] for name in KEYS}
                found.append({**line, "request": vars(record)["correlation_id"]})
        caplog.clear()
        return found

    return read


@pytest.fixture
def api(world: World, api: Api) -> Api:
    world.subscribe(ANN)
    world.subscribe(BOB)
    world.grant(ANN, 10, key="g")
    world.now = at("2026-02-20T12:00:00Z")
    return api


def line(caller: Caller, route: str, status: int, *user_ids: str) -> Json:
    return {
        "caller": caller.caller,
        "scopes": " ".join(sorted(caller.scopes.split())),
        "route": route,
        "status": status,
        "user_ids": " ".join(user_ids),
    }


def assert_leaves(lines: Callable[[], list[Json]], reply: Reply, expected: Json | None) -> None:
    request = {"request": reply.headers["x-request-id"]}
    assert lines() == ([] if expected is None else [expected | request])


READS = (
    "/api/credits/allocation-schedule",
    "/api/credits/balance",
    "/api/credits/explain",
    "/api/credits/forecast",
    "/api/credits/history",
    "/api/credits/holds",
    "/api/credits/statement",
)


@pytest.mark.parametrize("path", READS)
def test_reading_somebody_elses_credits_leaves_a_line(
    api: Api, lines: Callable[[], list[Json]], path: str
) -> None:
    route = f"GET {path}"
    for caller, status in ((ADMIN, 200), (BACKEND, 200), (user(BOB), 403)):
        reply = api.get(path + OF_ANN, caller)
        assert_leaves(lines, reply, line(caller, route, status, ANN))
        assert reply.status == status
    assert_leaves(
        lines, api.get(f"{path}?user_id=nobody", ADMIN), line(ADMIN, route, 404, "nobody")
    )


@pytest.mark.parametrize("path", READS)
def test_reading_ones_own_leaves_none(api: Api, lines: Callable[[], list[Json]], path: str) -> None:
    for query in ("", OF_ANN):
        assert api.get(path + query, user(ANN)).status == 200
    assert lines() == []


def test_an_export_leaves_a_line_as_reading_does(api: Api, lines: Callable[[], list[Json]]) -> None:
    path = f"/api/credits/history{OF_ANN}&limit=1"
    reply = api.get(path, ADMIN, headers={"Accept": "text/csv"})
    assert reply.headers["content-type"].startswith("text/csv")
    assert_leaves(lines, reply, line(ADMIN, "GET /api/credits/history", 200, ANN))


@pytest.mark.parametrize(
    ("method", "body"), [("GET", None), ("PUT", PLAN), ("PATCH", {}), ("PATCH", {"plan": "nope"})]
)
def test_whatever_shows_a_subscription_leaves_a_line(
    api: Api, lines: Callable[[], list[Json]], method: str, body: Json | None
) -> None:
    route = f"{method} /api/subscriptions/{{user_id}}"
    for caller in (ADMIN, BACKEND, user(BOB), user(ANN)):
        reply = api.send(method, f"/api/subscriptions/{ANN}", caller, body)
        own = caller == user(ANN)
        expected = None if own else line(caller, route, reply.status, ANN)
        assert_leaves(lines, reply, expected)


def test_reading_who_edited_a_subscription_and_its_emails_leaves_a_line(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    for what in ("edits", "emails"):
        route = f"GET /api/subscriptions/{{user_id}}/{what}"
        for caller, status in ((ADMIN, 200), (BACKEND, 403), (user(BOB), 403)):
            reply = api.get(f"/api/subscriptions/{ANN}/{what}", caller)
            assert_leaves(lines, reply, line(caller, route, status, ANN))


@pytest.mark.parametrize("what", ["email", "events"])
def test_reading_what_an_entry_led_to_leaves_a_line(
    api: Api, lines: Callable[[], list[Json]], what: str
) -> None:
    route = f"GET /api/credits/transactions/{{transaction_id}}/{what}"
    for caller, status in ((ADMIN, 200), (BACKEND, 403), (user(ANN), 403)):
        reply = api.get(f"/api/credits/transactions/{ANN}-1/{what}", caller)
        assert reply.status == status
        named = caller != user(ANN)
        assert_leaves(lines, reply, line(caller, route, status, ANN) if named else None)


def test_finding_users_leaves_a_line_with_everybody_who_is_found_and_no_address(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    route = "GET /api/subscriptions"
    reply = api.get("/api/subscriptions?plan=pro", ADMIN)
    assert_leaves(lines, reply, line(ADMIN, route, 200, ANN, BOB))
    reply = api.get(f"/api/subscriptions?email=user{ANN}@example.com", ADMIN)
    assert_leaves(lines, reply, line(ADMIN, route, 200, ANN))
    assert api.get("/api/subscriptions?email=nobody@example.com", ADMIN).status == 200
    assert lines() == []


def test_the_count_of_a_month_leaves_a_line_with_everybody_whom_it_names(
    world: World, api: Api, lines: Callable[[], list[Json]]
) -> None:
    names = {"missing": "mia", "duplicate": "dan", "unchecked": "una"}
    counted = Tally(due=3, allocated=1, missing=1, duplicate=1, unchecked=1).values()
    counted |= {f"{kind}_users": [name] for kind, name in names.items()}
    report = {"counted_at": "2026-02-02T13:30:00Z", "by_zone": {"Europe/Paris": counted}}
    world.services.reports.put(months.key_of(Period(2026, 2)), json.dumps(report))
    reply = api.get("/api/months/2026-02", ADMIN)
    route = "GET /api/months/{period}"
    assert_leaves(lines, reply, line(ADMIN, route, 200, "dan", "mia", "una"))


def test_a_dry_run_leaves_a_line_with_everybody_it_names(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    route = "POST /api/credits/allocation-runs"
    reply = api.post("/api/credits/allocation-runs", ADMIN, {**RUN, "dry_run": True})
    assert {item["user_id"] for item in reply.json["items"]} == {ANN, BOB}
    assert_leaves(lines, reply, line(ADMIN, route, 200, ANN, BOB))
    api.post("/api/credits/allocation-runs", ADMIN, RUN)
    assert lines() == []


def test_what_is_only_tried_leaves_a_line_for_the_ledger_has_none(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    route = "POST /api/credits/allocate"
    reply = api.post("/api/credits/allocate", ADMIN, {**ALLOCATE, "dry_run": True}, key="k")
    assert_leaves(lines, reply, line(ADMIN, route, 200, ANN))
    route = "POST /api/credits/allocation-runs"
    one = {"period": "2026-01", "user_id": ANN}
    for body in ({**one, "dry_run": True}, one):  # nothing is due, and the answer says so
        reply = api.post("/api/credits/allocation-runs", ADMIN, body)
        assert_leaves(lines, reply, line(ADMIN, route, 200, ANN))
    due = {"period": "2026-02", "user_id": ANN}
    reply = api.post("/api/credits/allocation-runs", ADMIN, {**due, "dry_run": True})
    assert len(reply.json["items"]) == 1
    assert_leaves(lines, reply, line(ADMIN, route, 200, ANN))
    assert len(api.post("/api/credits/allocation-runs", ADMIN, due).json["items"]) == 1
    assert lines() == []


def test_a_dry_run_names_those_it_could_not_judge_too(
    world: World, api: Api, lines: Callable[[], list[Json]]
) -> None:
    table = {"TableName": world.settings.subscriptions_table}
    item = client("dynamodb").get_item(**table, Key={"user_id": {"S": ANN}})["Item"]
    client("dynamodb").put_item(**table, Item={**item, "plan": {"S": "gone"}})
    reply = api.post("/api/credits/allocation-runs", ADMIN, {**RUN, "dry_run": True})
    assert [item["user_id"] for item in reply.json["not_judged"]] == [ANN]
    (found,) = lines()
    assert found["user_ids"] == f"{ANN} {BOB}"


def test_what_the_ledger_has_an_entry_of_is_not_said_again(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    for path, caller, body in (
        ("/api/credits/use", BACKEND, USE),
        ("/api/credits/reverse", BACKEND, REVERSE),
        ("/api/credits/allocate", ADMIN, ALLOCATE),
        (HOLDS, BACKEND, HOLD),
        ("/api/credits/purchases", BILLING, {"user_id": ANN, "amount": 5, "payment_id": "pi_1"}),
        (f"{HOLDS}/{ANN}-5/capture", BACKEND, {"amount": 3}),
        (f"/api/credits/batches/{ANN}-1/void", ADMIN, {"description": "Mistake"}),
        # Said again, it is the same entry.
        (f"{HOLDS}/{ANN}-5/capture", ADMIN, {"amount": 3}),
    ):
        assert api.post(path, caller, body, key=f"k{path[-3:]}").status == 200
    assert lines() == []


@pytest.mark.parametrize(
    ("path", "caller", "body", "status"),
    [
        # What is there can be read off the refusal.
        ("/api/credits/use", BACKEND, {**USE, "amount": 10_000}, 402),
        ("/api/credits/use", user(BOB), USE, 403),
        ("/api/credits/use", ADMIN, USE, 403),
        ("/api/credits/reverse", user(BOB), REVERSE, 403),
        ("/api/credits/reverse", ADMIN, {**REVERSE, "transaction_id": f"{ANN}-9"}, 404),
        ("/api/credits/allocate", BACKEND, ALLOCATE, 403),
        (HOLDS, BACKEND, {**HOLD, "amount": 10_000}, 402),
        (HOLDS, user(BOB), HOLD, 403),
    ],
)
def test_a_refused_try_leaves_a_line(
    api: Api,
    lines: Callable[[], list[Json]],
    path: str,
    caller: Caller,
    body: Json,
    status: int,
) -> None:
    reply = api.post(path, caller, body, key="k")
    assert reply.status == status
    assert_leaves(lines, reply, line(caller, f"POST {path}", status, ANN))


@pytest.mark.parametrize(
    ("end", "body"), [("capture", {"amount": 9}), ("release", {}), ("release", {"nonsense": 1})]
)
@pytest.mark.parametrize("caller", [BACKEND, ADMIN, user(BOB)])
def test_a_refused_end_of_a_hold_names_the_user_whose_hold_it_is(
    api: Api, lines: Callable[[], list[Json]], caller: Caller, end: str, body: Json
) -> None:
    hold_id = api.post(HOLDS, BACKEND, HOLD, key="h").json["hold_id"]
    api.post(f"{HOLDS}/{hold_id}/capture", BACKEND, {"amount": 1})
    lines()
    reply = api.post(f"{HOLDS}/{hold_id}/{end}", caller, body)
    assert reply.status in (400, 403, 410)
    route = f"POST {HOLDS}/{{hold_id}}/{end}"
    assert_leaves(lines, reply, line(caller, route, reply.status, ANN))


@pytest.mark.parametrize(
    ("caller", "number", "status"),
    [(BACKEND, 1, 403), (user(BOB), 1, 403), (ADMIN, 2, 404), (ADMIN, 99, 404)],
)
def test_a_refused_void_names_the_user_whose_batch_it_is(
    api: Api, lines: Callable[[], list[Json]], caller: Caller, number: int, status: int
) -> None:
    body = {"description": "Mistake"}
    reply = api.post(f"/api/credits/batches/{ANN}-{number}/void", caller, body, key="k")
    route = "POST /api/credits/batches/{batch_id}/void"
    assert_leaves(lines, reply, line(caller, route, status, ANN))


def test_a_user_who_tries_to_end_their_own_hold_leaves_none(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    hold_id = api.post(HOLDS, BACKEND, HOLD, key="h").json["hold_id"]
    assert api.post(f"{HOLDS}/{hold_id}/release", user(ANN), {}).status == 403
    assert lines() == []


def test_the_user_of_a_hold_is_read_from_its_id_however_it_is_written(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    for hold_id, named in (
        ("auth0%7Cann-7", "auth0|ann"),
        ("a-b-7", "a-b"),
        ("ann-x", ANN),
        ("ann", None),
        ("-7", None),
        ("a%20b-7", None),
    ):
        reply = api.post(f"{HOLDS}/{hold_id}/release", BACKEND, {})
        assert reply.status == 404
        route = f"POST {HOLDS}/{{hold_id}}/release"
        assert_leaves(lines, reply, line(BACKEND, route, 404, named) if named else None)


@pytest.mark.parametrize(
    "raw", [b"", b"[", b"[]", b'{"user_id": "a b"}', b'{"user_id": "ann@example.com "}', b"\xff"]
)
def test_a_request_that_names_nobody_leaves_no_line(
    api: Api, lines: Callable[[], list[Json]], raw: bytes
) -> None:
    reply = api.send("POST", "/api/credits/allocate", user(BOB), raw=raw, key="k")
    assert reply.status == 403
    for path in ("/api/credits/balance?user_id=a%20b", "/api/credits/balance", "/api/plans"):
        api.get(path, ADMIN)
    assert lines() == []


def test_a_request_without_the_authorizer_leaves_no_line(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    assert api.get(f"/api/credits/balance{OF_ANN}", NOBODY).status == 401
    assert lines() == []


def test_a_caller_whose_subject_is_an_address_is_named_by_its_hash(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    caller = Caller("ada@example.com", "", "credits:admin")
    api.get(f"/api/credits/balance{OF_ANN}", caller)
    (found,) = lines()
    assert found["caller"] == "sha256:b5fc85e55755f9e0"


def test_a_token_of_a_user_who_is_an_admin_too_leaves_a_line_for_others_alone(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    both = Caller("ada", BOB, "credits:read credits:admin")
    api.get(f"/api/credits/balance?user_id={BOB}", both)
    assert lines() == []
    reply = api.get(f"/api/credits/balance{OF_ANN}", both)
    assert_leaves(lines, reply, line(both, "GET /api/credits/balance", 200, ANN))


def test_every_route_that_reads_is_tried_here() -> None:
    """A new one that names a user is one more row; what names none is listed."""
    reads = {path for method, path in contract.operations() if method == "GET"}
    of_nobody = {"/api/health", "/api/openapi.json", "/api/plans", "/api/unsubscribe"}
    of_nobody |= {"/api/operations", "/api/months/{period}"}
    of_user = "/api/subscriptions/{user_id}"
    of_subscriptions = {"/api/subscriptions", of_user, f"{of_user}/edits", f"{of_user}/emails"}
    of_entry = "/api/credits/transactions/{transaction_id}"
    of_entries = {of_entry, f"{of_entry}/email", f"{of_entry}/events"}
    assert reads == {*READS, *of_subscriptions, *of_entries, *of_nobody}


def test_reading_an_entry_of_somebody_else_leaves_a_line(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    route = "GET /api/credits/transactions/{transaction_id}"
    for caller, status in ((ADMIN, 200), (BACKEND, 200), (user(BOB), 403)):
        reply = api.get(f"/api/credits/transactions/{ANN}-1", caller)
        assert_leaves(lines, reply, line(caller, route, status, ANN))
        assert reply.status == status
    assert api.get(f"/api/credits/transactions/{ANN}-1", user(ANN)).status == 200
    assert lines() == []


def test_explaining_an_entry_of_somebody_else_leaves_a_line(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    """The entry says whose it is, and nothing else does."""
    route, path = "GET /api/credits/explain", f"/api/credits/explain?transaction_id={ANN}-1"
    for caller, status in ((ADMIN, 200), (BACKEND, 200), (user(BOB), 403)):
        reply = api.get(path, caller)
        assert_leaves(lines, reply, line(caller, route, status, ANN))
        assert reply.status == status
    assert api.get(path, user(ANN)).status == 200
    assert lines() == []


def test_everybody_whom_a_request_names_is_in_its_line(
    api: Api, lines: Callable[[], list[Json]]
) -> None:
    """It is refused for naming two; who asked for whom is told all the same."""
    route = "GET /api/credits/balance"
    for also, named in ((BOB, [ANN, BOB]), ("a%20b", [ANN])):
        for query in (f"{OF_ANN}&user_id={also}", f"?user_id={also}&user_id={ANN}"):
            reply = api.get(f"/api/credits/balance{query}", ADMIN)
            assert reply.status == 400
            assert_leaves(lines, reply, line(ADMIN, route, 400, *named))
