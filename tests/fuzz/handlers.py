"""The entry points of `app.py`, with events that hold hostile input, over AWS in memory.

A function must answer in the shape that its caller expects, a route with less than 500; and AWS
must never be asked for what it does not take: that would be input that nobody had looked at.
"""

import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock
from urllib.parse import quote

import app
from chalicelib.api import console, cursors
from chalicelib.api.routes import _ROUTES
from chalicelib.domain.anchors import user_digest
from chalicelib.domain.calendar import Period
from chalicelib.domain.events import CreditEvent, EventName
from chalicelib.domain.ranges import Range
from chalicelib.jobs.errors import SomeEventsFailed
from chalicelib.messages.checks import ZoneCheck
from chalicelib.messages.events import ToPublish
from chalicelib.messages.notifications import EntryPosted, ExpiringSoon
from chalicelib.messages.work import Sweep, SweepKind, UsersMessage
from chalicelib.settings import ConsoleSettings, TokenSettings
from tests.fuzz.readers import (
    CHATHAM,
    INSTANT,
    LEDGER,
    LINKS,
    LONGEST_REFUSAL,
    NOW,
    SUBSCRIPTION,
    sendable,
)
from tests.fuzz.target import Kind, Target
from tests.simulation import aws
from tests.simulation.world import (
    SETTINGS,
    ZONES,
    Context,
    World,
    _last_error,
    at,
    queue_record,
    request_event,
    simulated,
)

Json = Any
Function = Callable[[Json, Any], Json]


class AskedAmissError(BaseException):
    """AWS is asked for something it does not take; no handler may catch it."""


class Scene:
    """A small world that is the same before every execution: one user who has done a few things."""

    def __init__(self) -> None:
        self.world = World(low_balance=20)
        with self.world.running():
            self._happen()
        self._pristine = self.world.aws.state
        self.world.aws.interfere = strictly

    def _happen(self) -> None:
        world = self.world
        for user_id, timezone in (("42", "Europe/Paris"), ("7", CHATHAM)):
            values = {**SUBSCRIPTION, "timezone": timezone, "plan": "starter"}
            del values["user_id"]
            world.call("PUT", f"/api/subscriptions/{user_id}", ADMIN, values)
        counted = '{"by_zone": {}, "counted_at": "2026-01-02T13:30:00Z"}'
        world.services.reports.put("completeness/2026-01/newest.json", counted)
        world.now = at("2026-02-01T00:00:00Z")
        world.tick("allocation", at("2026-01-31T23:00:00Z"), ["Europe/Paris"])
        world.drain()
        for key, amount in (("a", 50), ("b", 5)):
            asked = {"user_id": "42", "amount": amount, "description": "Report"}
            world.call("POST", "/api/credits/use", ADMIN, asked, {"Idempotency-Key": key})
        held = {"user_id": "42", "amount": 10, "description": "Render"}
        world.call("POST", "/api/credits/holds", ADMIN, held, {"Idempotency-Key": "c"})
        pack = {"user_id": "42", "amount": 60, "payment_id": "pi_1"}
        world.call("POST", "/api/credits/purchases", ADMIN, pack)
        part = {"payment_id": "pi_1", "amount": 20, "description": "Part"}
        world.call("POST", "/api/credits/refunds", ADMIN, part)

    def reset(self) -> None:
        self.world.aws.state = self._pristine.copy()


def strictly(call: aws.Call, perform: Callable[..., Json]) -> Json:
    """Performs a call to AWS, unless AWS would say that it makes no sense."""
    try:
        json.dumps(call.parameters, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise AskedAmissError(f"{call} with half a character") from error
    try:
        return perform(call)
    except aws.Refused as error:
        if error.body["__type"] in ("ValidationException", "KeyTooLongError", "NoSuchKey"):
            raise AskedAmissError(f"{call} is not valid") from error
        raise


_SCENES: list[Scene] = []
"""The one scene of this process, once it is set."""


@contextmanager
def staged() -> Iterator[None]:
    """Within the block the targets of this module can be run."""
    with simulated((*ZONES, "UTC")):
        if not _SCENES:
            _SCENES.append(Scene())
        with _SCENES[0].world.running(), mock.patch.multiple("chalicelib.api.console", **CONSOLE):
            yield


_ISSUER = "https://issuer.example.com"
_CLIENT = {"CONSOLE_CLIENT_ID": "console", "TOKEN_ISSUER": _ISSUER, "TOKEN_AUDIENCE": "credits"}
CONSOLE: dict[str, Any] = {
    "console_settings": lambda: ConsoleSettings.read(_CLIENT),
    "token_settings": lambda: TokenSettings.read({**_CLIENT, "STAGE": "prod"}),
    "issuer_endpoints": lambda: console.IssuerEndpoints(dict, bool),
}
"""A console that is on, and whose issuer says nothing: a request of ours goes nowhere else."""


# --- Functions that are invoked -------------------------------------------------------------------


def invoked(function: Function) -> Callable[[Json], bool]:
    """A function that answers ``{"success": true, …}`` or the refusal."""

    def call(event: Json) -> bool:
        _SCENES[0].reset()
        answer = function(event, Context())
        said = json.dumps(answer, ensure_ascii=False)
        said.encode()
        assert len(said) <= 10 * LONGEST_REFUSAL, f"an answer of {len(said)} characters"
        if answer["success"] is True:
            return True
        error = answer["error"]
        assert set(error) <= {"code", "detail", "errors"}
        assert error["detail"]
        assert all(set(each) == {"field", "message"} for each in error.get("errors", []))
        return False

    return call


MANUAL = {
    "user_id": 42,
    "amount": 50,
    "description": "Goodwill",
    "actor": "ada",
    "idempotency_key": "key-1",
}
SCHEDULED = {
    "version": "0",
    "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
    "detail-type": "Scheduled Event",
    "source": "aws.events",
    "time": INSTANT,
    "detail": {},
}
REPLAY = {"time": "2026-01-31T23:00:00Z", "zones": ["Europe/Paris", CHATHAM]}


def event(name: str, function: Function, *seeds: Json, words: str) -> Target:
    return Target(f"event: {name}", Kind.VALUE, seeds, invoked(function), tuple(words.split()))


INVOKED = (
    event("allocation tick", app.allocation_tick, REPLAY, SCHEDULED, words="detail-type zones"),
    event("expiry tick", app.expiry_tick, REPLAY, SCHEDULED, words="detail-type zones"),
    event(
        "manual-allocate",
        app.manual_allocate,
        MANUAL,
        {**MANUAL, "expires_in_days": 30, "notify": False},
        {**MANUAL, "amount": -5},
        {**MANUAL, "amount": -5, "up_to_available": True},
        words="42 7 notify up_to_available",
    ),
    event(
        "check-completeness",
        app.check_completeness,
        *({"period": "2026-02", "zones": ["Europe/Paris"]}, {"period": "2025-12"}, SCHEDULED),
        words="2026-01 2999-12 1970-01",
    ),
    event(
        "audit",
        app.audit_ledgers,
        *({"user_id": "42"}, {"sample": 5}, {"timezone": "Europe/Paris", "after": "1"}),
        SCHEDULED,
        words="sample timezone after",
    ),
)

# --- Functions that read queues, the stream and SNS -----------------------------------------------


def delivered(function: Function) -> Callable[[str], bool]:
    """A function that reads a queue: it answers whether the message failed."""

    def call(body: str) -> bool:
        _SCENES[0].reset()
        message = aws.Message("message-1", sendable(body), receives=1)
        # It is in the queue: it can be put off.
        _SCENES[0].world.queue("notifications").append(message)
        answer = function({"Records": [queue_record(message)]}, Context())
        failed = answer["batchItemFailures"]
        assert failed in ([], [{"itemIdentifier": "message-1"}])
        return not failed

    return call


def sweep(
    kind: SweepKind, timezone: str = "Europe/Paris", cursor: str | None = None, bits: str = ""
) -> str:
    midnight = at("2026-02-02T23:00:00Z")
    return Sweep(kind, timezone, midnight, midnight, midnight, cursor, "tick", Range(bits)).body()


def queue(name: str, function: Function, *seeds: str, words: tuple[str, ...]) -> Target:
    return Target(f"queue: {name}", Kind.JSON, seeds, delivered(function), words)


OF_USERS = (UsersMessage(NOW, ("42", "7"), "tick").body(), UsersMessage(NOW, ("8",)).body())
SOMEBODY = ("42", "7", INSTANT)
DELIVERED = (
    queue(
        "sweeps",
        app.sweep_zone,
        *(sweep(kind) for kind in SweepKind),
        sweep(SweepKind.EXPIRY, CHATHAM, f"{CHATHAM} 01 ", "1"),
        sweep(SweepKind.ALLOCATION, CHATHAM, f"{CHATHAM} 5", "111"),
        sweep(SweepKind.REMINDER, CHATHAM, f"{CHATHAM} 00 2026-02-03T10:15:00Z#7#1", "011"),
        words=("allocation", "expiry", "reminder", INSTANT, "Europe/Paris ", "Europe/Paris 01 "),
    ),
    queue("allocations", app.allocate_accounts, *OF_USERS, words=SOMEBODY),
    queue("expiries", app.expire_batches, *OF_USERS, words=SOMEBODY),
    queue(
        "checks",
        app.check_zone,
        ZoneCheck("run", Period(2026, 2), "Europe/Paris", 1).body(),
        ZoneCheck("run", Period(2026, 1), CHATHAM, 2, Range("0110"), "x").body(),
        words=("42", "2026-01", "2999-12", "1970-01", CHATHAM),
    ),
    queue(
        "notifications",
        app.send_notifications,
        *(EntryPosted("42", 1, "tick").body(), EntryPosted("42", 2).body()),
        ExpiringSoon("42", at("2026-03-03T23:00:00Z"), NOW, "tick").body(),
        words=SOMEBODY,
    ),
    queue(
        "events",
        app.publish_events,
        ToPublish(CreditEvent(EventName.USED, NOW, {"version": 1, "user_id": "1"}), "tick").body(),
        ToPublish(CreditEvent(EventName.EXHAUSTED, NOW, {})).body(),
        words=(INSTANT, *EventName),
    ),
)


def streamed(body: str) -> bool:
    """The stream brings an entry, whatever somebody wrote into its body."""
    scene = _SCENES[0]
    scene.reset()
    keys = {"user_id": {"S": "42"}, "entry": {"S": "entry#000000000001"}}
    image = {**keys, "body": {"S": sendable(body)}, "hash": {"S": "0" * 64}}
    record = {"eventName": "INSERT", "eventID": "1", "dynamodb": {"Keys": keys, "NewImage": image}}
    app.queue_notifications({"Records": [record]}, Context())
    assert len(scene.world.queue("notifications")) <= 1
    messages = [queue_record(message) for message in scene.world.queue("events")]
    assert 1 <= len(messages) <= 3
    answer = app.publish_events({"Records": messages}, Context())
    # What can be read is published; what cannot be is a message that nobody takes.
    assert len(answer["batchItemFailures"]) in (0, 1)
    return True


def watched(image: str) -> bool:
    """The stream brings an item of any shape, as DynamoDB would have it, and one that is right."""
    scene = _SCENES[0]
    scene.reset()
    keys = {"user_id": {"S": "42"}, "entry": {"S": "entry#000000000001"}}
    try:
        values = json.loads(image)
    except (RecursionError, ValueError):
        values = {}
    attributes = {
        str(name): value if isinstance(value, dict) else {"S": str(value)}
        for name, value in (values.items() if isinstance(values, dict) else ())
    }
    right = {"user_id": {"S": "7"}, "entry": keys["entry"]}
    sound = {"body": {"S": "{}"}, "hash": {"S": "0" * 64}}
    records = [
        {"eventName": "INSERT", "eventID": "1", "dynamodb": {"Keys": k, "NewImage": {**i, **k}}}
        for k, i in ((keys, attributes), (right, sound))
    ]
    app.watch_ledger({"Records": records}, Context())
    (kept,) = scene.world.aws.state.bucket(SETTINGS.anchors_bucket).values()
    heads = gzip.decompress(kept.encode("latin-1")).decode().splitlines()
    assert any(head.startswith(user_digest("7")) for head in heads), "the other one is kept"
    return True


def returned(message: str) -> bool:
    """SES tells of a mail that came back."""
    _SCENES[0].reset()
    notice = {"Message": sendable(message), "Subject": "SES", "MessageAttributes": {}}
    try:
        app.mail_events({"Records": [{"Sns": notice}]}, Context())
    except SomeEventsFailed:
        return False
    return True


MAIL = {"tags": {"user": [b"42".hex()], "correlation": ["tick"], "kind": ["manual"]}}
RECIPIENTS = [{"emailAddress": "ada@example.com"}]
BOUNCE = {
    "eventType": "Bounce",
    "mail": MAIL,
    "bounce": {"bounceType": "Permanent", "bouncedRecipients": RECIPIENTS},
}
COMPLAINT = {
    "eventType": "Complaint",
    "mail": MAIL,
    "complaint": {"complaintFeedbackType": "abuse", "complainedRecipients": RECIPIENTS},
}
AS_WRITTEN = tuple(replace(entry, number=1).body() for entry in LEDGER)
"""Bodies of entries as the product wrote them."""

STREAM_AND_MAIL = (
    Target("stream: ledger entry", Kind.JSON, AS_WRITTEN, streamed),
    Target(
        "stream: item to be watched",
        Kind.JSON,
        (
            json.dumps({"body": "{}", "hash": "0" * 64}),
            json.dumps({"body": {"S": "{}"}, "hash": {"N": "1"}, "erased": {"S": "x"}}),
        ),
        watched,
        words=("hash", "body", "erased", "S", "N", "f" * 64),
    ),
    Target(
        "SNS: mail event",
        Kind.JSON,
        (json.dumps(BOUNCE), json.dumps(COMPLAINT), '{"eventType":"Delivery"}'),
        returned,
        words=("Bounce", "Complaint", "Permanent", "not-spam", "3432", "00", "ada@example.com"),
    ),
)

# --- The API --------------------------------------------------------------------------------------

ADMIN = {"caller": "ada", "user_id": "", "scopes": "credits:admin credits:backend"}
CALLERS: Mapping[str, Mapping[str, str]] = {
    "admin": ADMIN,
    "backend": {"caller": "shop", "user_id": "", "scopes": "credits:backend"},
    "billing": {"caller": "till", "user_id": "", "scopes": "credits:billing"},
    "user": {"caller": "user|42", "user_id": "42", "scopes": "credits:read credits:use"},
}


def texts(value: Json) -> dict[str, str]:
    """Whatever it is, as names and texts: API Gateway hands over nothing else."""
    if not isinstance(value, dict):
        return {}
    return {sendable(name): _text(given) for name, given in value.items() if given is not None}


def _text(value: Json) -> str:
    return sendable(value if isinstance(value, str) else json.dumps(value))


_ENTRY_NAMES = ("hold_id", "transaction_id", "batch_id")


def route(method: str, path: str) -> Callable[[Json], bool]:
    """A route, with a request whose every part somebody made up."""

    def call(request: Json) -> bool:
        scene = _SCENES[0]
        scene.reset()
        request = request if isinstance(request, dict) else {}
        caller = request.get("caller")
        user_id = quote(_text(request.get("user_id", "42")), safe="%")
        names = [request[name] for name in _ENTRY_NAMES if name in request]
        entry = quote(_text(names[0] if names else "42-4"), safe="%")
        period = quote(_text(request.get("period", "2026-01")), safe="%")
        file = quote(_text(request.get("file", "main.js")), safe="%")
        places = {
            "user_id": user_id,
            "hold_id": entry,
            "transaction_id": entry,
            "batch_id": entry,
            "period": period,
            "file": file,
        }
        named = {name: value for name, value in places.items() if f"{{{name}}}" in path}
        query = request.get("query")
        pairs = {
            name: [_text(each) for each in value] if isinstance(value, list) else [_text(value)]
            for name, value in (query.items() if isinstance(query, dict) else ())
        }
        body = request.get("body")
        sent = path
        for name, value in named.items():
            sent = sent.replace(f"{{{name}}}", value)
        event = request_event(
            *(method, path, sent),
            CALLERS.get(caller if isinstance(caller, str) else "", {}),
            "request-1",
            headers=texts(request.get("headers")),
            query={sendable(name): values for name, values in pairs.items() if values},
            parameters=named or None,
            body=None if body is None else _text(body),
        )
        return judged(app.app(event, Context()))

    return call


def judged(answer: Json) -> bool:
    """An answer of the API: less than 500, and a problem where it is a refusal."""
    status, headers, body = answer["statusCode"], answer["headers"], answer["body"]
    if status >= 500:
        raise AssertionError(f"answered {status}") from _last_error()
    body.encode()
    assert len(body) <= 10 * LONGEST_REFUSAL, f"an answer of {len(body)} characters"
    for name, value in headers.items():
        f"{name}: {value}".encode("latin-1")
        assert not re.search(r"[\r\n\0]", f"{name}{value}"), f"a header {name}: {value!r}"
    if status < 400:
        return True
    if headers["Content-Type"].startswith("text/html"):
        return False
    assert headers["Content-Type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["status"] == status
    assert problem["request_id"] == "request-1"
    assert problem["detail"]
    assert isinstance(problem["errors"], list)
    return False


def asked(caller: str, *, body: Json = None, **more: Json) -> Json:
    """A request. ``body``: what its JSON holds."""
    if body is not None:
        more["body"] = json.dumps(body)
    return {"caller": caller, **more}


def keyed(caller: str, **body: Json) -> Json:
    headers = {"Idempotency-Key": "order-17", "Content-Type": "application/json"}
    return asked(caller, headers=headers, body=body)


CURSOR = cursors.encode("history 42 None None None", "2")
STATEMENT_CURSOR = cursors.encode("statement 42 None None", "2")
WITH_TOKEN = {"query": {"token": LINKS.token("42", None)}}
REQUESTS: dict[str, tuple[Json, ...]] = {
    "GET /api/credits/allocation-schedule": (asked("user"),),
    "GET /api/credits/balance": (
        asked("user", query={"at": "2026-01-31T00:00:00Z"}),
        asked("admin", query={"user_id": "42"}),
    ),
    "GET /api/credits/history": (
        asked(
            "user",
            query={"limit": "1", "type": "usage", "from": "2026-01-01T00:00:00Z"},
            headers={"Accept": "text/csv", "Origin": "https://app.example.com"},
        ),
        asked("admin", query={"user_id": "42", "cursor": CURSOR}),
        asked("admin", query={"user_id": "42", "search": "report"}),
    ),
    "GET /api/credits/statement": (
        asked("user", query={"limit": "1", "from": "2026-01-01T00:00:00Z"}),
        asked("admin", query={"user_id": "42", "cursor": STATEMENT_CURSOR}),
    ),
    "GET /api/credits/forecast": (asked("user"), asked("admin", query={"user_id": "42"})),
    "GET /api/credits/explain": (
        asked("user", query={"at": "2026-01-31T00:00:00Z", "amount": "50"}),
        asked("admin", query={"transaction_id": "42-2"}),
    ),
    "POST /api/credits/use": (keyed("user", amount=5, description="Report"),),
    "POST /api/credits/reverse": (
        keyed("admin", user_id="42", transaction_id="42-2", amount=5, reason="Broken"),
    ),
    "POST /api/credits/holds": (
        keyed(
            "backend",
            user_id="42",
            amount=5,
            description="Render",
            expires_in_seconds=86_400 * 30,
            metadata={"job": "render-17"},
        ),
    ),
    "GET /api/credits/holds": (asked("user"), asked("backend", query={"user_id": "42"})),
    "POST /api/credits/holds/{hold_id}/capture": (
        asked(
            "backend",
            hold_id="42-4",
            body={
                "amount": 12,
                "beyond_hold": True,
                "description": "Job",
                "metadata": {"job": "1"},
            },
        ),
        asked("admin", hold_id="42-4", body={"amount": 0}),
    ),
    "POST /api/credits/holds/{hold_id}/release": (
        asked("backend", hold_id="42-4", body={}),
        asked("admin", hold_id="42%2D4", body={}),
    ),
    "POST /api/credits/use-many": (
        asked(
            "backend",
            body={
                "user_id": "42",
                "items": [
                    {"key": "d", "amount": 1, "description": "Report"},
                    {"key": "e", "amount": 1, "description": "Lead", "metadata": {"job": "1"}},
                ],
            },
        ),
    ),
    "GET /api/credits/transactions/{transaction_id}": (
        asked("backend", transaction_id="42-2"),
        asked("user", transaction_id="42%2D4"),
    ),
    "POST /api/credits/purchases": (
        asked("billing", body={"user_id": "42", "amount": 60, "payment_id": "pi_1"}),
        asked(
            "admin",
            body={
                "user_id": 7,
                "amount": 5,
                "payment_id": "pi_2#3",
                "description": "Pack",
                "price": {"amount": 990, "currency": "eur"},
                "expires_in_days": 30,
                "priority": 0,
                "metadata": {"order": "77"},
            },
        ),
    ),
    "POST /api/credits/refunds": (
        asked("billing", body={"payment_id": "pi_1", "amount": 0, "description": "Won"}),
        asked(
            "admin",
            body={
                "payment_id": "pi_1",
                "amount": 60,
                "description": "All",
                "observed_at": "2026-01-31T23:00:00Z",
            },
        ),
    ),
    "POST /api/credits/allocate": (
        keyed("admin", user_id=42, amount=5, reason="Goodwill", expires_in_days=30),
        keyed("admin", user_id=42, amount=-5, reason="Moved", up_to_available=True),
        keyed("admin", user_id=42, amount=5, description="Try", dry_run=True),
    ),
    "POST /api/credits/batches/{batch_id}/void": (
        keyed("admin", description="Mistake") | {"batch_id": "42-1"},
        keyed("admin", description="Fraud", including_held=True, notify=False, dry_run=True)
        | {"batch_id": "42%2D5"},
    ),
    "POST /api/credits/allocation-runs": (
        asked(
            "admin",
            body={"period": "2026-01", "zones": ["Europe/Paris"], "dry_run": True, "limit": 1},
        ),
        asked("admin", body={"period": "2026-01"}),
        asked("admin", body={"period": "2026-01", "user_id": "42", "dry_run": True}),
    ),
    "GET /api/months/{period}": (asked("admin", period="2026-01"),),
    "GET /api/operations": (asked("admin"),),
    "GET /api/subscriptions": (
        asked("admin", query={"email": "ada@example.com", "limit": "1"}),
        asked("admin", query={"plan": "pro", "status": "active", "timezone": "Europe/Paris"}),
    ),
    "GET /api/subscriptions/{user_id}": (asked("admin", user_id="42"),),
    "PUT /api/subscriptions/{user_id}": (
        asked("backend", user_id="42", headers={"If-Match": '"1"'}, body=SUBSCRIPTION),
        asked(
            "backend",
            user_id="auth0%7C1",
            headers={"If-None-Match": "*"},
            body={**SUBSCRIPTION, "user_id": "auth0|1"},
        ),
    ),
    "PATCH /api/subscriptions/{user_id}": (
        asked("admin", user_id="42", body={"timezone": CHATHAM, "plan": "pro"}),
        asked("admin", user_id="42", body={"plan": "pro", "dry_run": True}),
    ),
    "GET /api/subscriptions/{user_id}/emails": (
        asked("admin", user_id="42", query={"limit": "2"}),
    ),
    "GET /api/credits/transactions/{transaction_id}/email": (
        asked("admin", transaction_id="42-1"),
    ),
    "GET /api/credits/transactions/{transaction_id}/events": (
        asked("admin", transaction_id="42-1"),
    ),
    "GET /api/subscriptions/{user_id}/edits": (asked("admin", user_id="42", query={"limit": "1"}),),
    "GET /console": (asked("user"), asked("nobody", headers={"If-None-Match": '"x", W/"y"'})),
    "GET /console/{file}": (asked("user", file="icon.svg"),),
    "GET /console/session": (asked("admin"),),
    "GET /api/unsubscribe": (WITH_TOKEN,),
    "POST /api/unsubscribe": (WITH_TOKEN | {"body": "List-Unsubscribe=One-Click"},),
    "GET /api/plans": (asked("user"),),
    "GET /api/health": ({"query": {}},),
    "GET /api/openapi.json": ({"query": {}},),
}
"""A request to every route; a test compares them with the routes there are."""

ROUTES = tuple(
    Target(
        f"route: {name}",
        Kind.VALUE,
        REQUESTS[name],
        route(*name.split(" ")),
        words=(
            *("42", "7", "admin", "backend", "user", INSTANT, "user_id", "42-4", "hold_id"),
            *("billing", "pi_1", "pi_2#3", "price", "observed_at"),
            *("Content-Type", "If-Match"),
            *("application/json", "text/csv", '"1"', "*", "limit", "cursor", "order-17"),
        ),
    )
    for name in REQUESTS
)
NAMES_OF_ROUTES = {f"{route.method} {route.path}" for route in _ROUTES}

HANDLERS = (*INVOKED, *DELIVERED, *STREAM_AND_MAIL, *ROUTES)
