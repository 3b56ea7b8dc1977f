"""The client and the contract of the API: the same routes, fields and words."""

import asyncio
import dataclasses
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import UnionType
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from clients.python.tests.api import HELD

from credits_client import OMITTED, AsyncCredits, Credits, Price, answers, errors, reading, routes

CONTRACT = json.loads(
    (Path(__file__).parents[3] / "chalicelib" / "api" / "openapi.json").read_text("utf-8")
)
SCHEMAS: dict[str, Any] = CONTRACT["components"]["schemas"]
PATHS: dict[str, Any] = CONTRACT["paths"]
NOW = datetime(2026, 1, 15, 12, tzinfo=timezone.utc)
HOURS_AHEAD = timezone(timedelta(hours=2))

ALL_OF_A_SUBSCRIPTION: dict[str, Any] = {
    "timezone": "Europe/Paris",
    "plan": "pro",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": NOW,
    "email": "ada@example.com",
    "eligible_from": date(2026, 1, 1),
    "ends_at": NOW + timedelta(days=400),
    "observed_at": NOW + timedelta(hours=1),
    "allocation_amount": 5,
    "notifications": ["manual"],
    "language": "de",
}

# What is asked of each operation of the contract, with every argument there is.
ASKS: Mapping[str, list[Callable[[Any], Any]]] = {
    "getAllocationSchedule": [lambda c: c.schedule(42)],
    "forecastCredits": [lambda c: c.forecast("42")],
    "explainCredits": [
        lambda c: c.explain("42", at=datetime(2026, 1, 1, tzinfo=HOURS_AHEAD), amount=50),
        lambda c: c.explain_transaction("42-10"),
    ],
    "getBalance": [lambda c: c.balance("42", at=datetime(2026, 1, 1, tzinfo=HOURS_AHEAD))],
    "listHistory": [
        lambda c: c.history_page(
            "42",
            type="usage",
            since=NOW,
            until=NOW + timedelta(days=1),
            metadata={"campaign": "42"},
            search="export",
            limit=5,
            cursor="abc",
        ),
    ],
    "getStatement": [
        lambda c: c.statement_page(
            "42", since=NOW, until=NOW + timedelta(days=1), limit=5, cursor="abc"
        ),
    ],
    "useCredits": [
        lambda c: c.use(42, 70, "Export", key="k", metadata={"a": "b"}),
        lambda c: c.use(None, 70),
    ],
    "useManyCredits": [
        lambda c: c.use_many("42", [{"key": "lead-7", "amount": 2, "description": "A lead"}]),
    ],
    "getTransaction": [lambda c: c.transaction("42-10")],
    "reverseUsage": [
        lambda c: c.reverse(42, "42-3", 10, description="Empty", key="k", metadata={"a": "b"}),
        lambda c: c.reverse(42, "42-3", description="Empty", dry_run=True),
    ],
    "holdCredits": [
        lambda c: c.hold(42, 50, "Crawl", key="k", expires_in_seconds=9, metadata={"a": "b"}),
        lambda c: c.hold(42, 50),
    ],
    "getHolds": [lambda c: c.holds(42)],
    "captureHold": [
        lambda c: c.capture("42-5", 31, "Crawl", beyond_hold=True, metadata={"a": "b"}),
        lambda c: c.capture("42-5", 0),
    ],
    "releaseHold": [lambda c: c.release("42-5", dry_run=True)],
    "purchaseCredits": [
        lambda c: c.purchase(
            42,
            500,
            "pi_1",
            description="Pack",
            price=Price(amount=4900, currency="EUR"),
            expires_in_days=30,
            priority=60,
            metadata={"a": "b"},
        ),
    ],
    "refundPayment": [lambda c: c.refund("pi_1", 0, "Asked for it", observed_at=NOW, dry_run=True)],
    "allocateCredits": [
        lambda c: c.allocate(
            42,
            -20,
            "Mistake",
            key="k",
            expires_in_days=None,
            notify=False,
            up_to_available=True,
            priority=0,
            source="promotion",
            including_held=True,
            metadata={"a": "b"},
        ),
        lambda c: c.allocate(42, 20, "Goodwill", dry_run=True),
    ],
    "voidBatch": [
        lambda c: c.void_batch("42-2", "Mistake", key="k", notify=False, including_held=True),
        lambda c: c.void_batch("42-2", "Mistake", dry_run=True),
    ],
    "runAllocations": [
        lambda c: c.allocation_preview_page("2026-01", zones=["UTC"], limit=5, cursor="abc"),
        lambda c: c.allocation_run("2026-01", zones=["UTC"]),
        lambda c: c.allocate_due(42, "2026-01", dry_run=True),
    ],
    "findSubscriptions": [
        lambda c: c.found_subscriptions_page(email="ada@example.com", limit=5, cursor="abc"),
        lambda c: c.found_subscriptions_page(plan="pro", status="active", timezone="UTC"),
    ],
    "getSubscription": [lambda c: c.subscription("ada|42")],
    "putSubscription": [
        lambda c: c.put_subscription("42", **ALL_OF_A_SUBSCRIPTION, etag='"3"'),
        lambda c: c.put_subscription("42", **ALL_OF_A_SUBSCRIPTION, only_new=True),
    ],
    "patchSubscription": [
        lambda c: c.patch_subscription(
            "42", **ALL_OF_A_SUBSCRIPTION, mail_suppressed_because=None, etag='"3"'
        ),
        lambda c: c.patch_subscription("42", email=None, ends_at=None, dry_run=True),
    ],
    "getSubscriptionEdits": [lambda c: c.subscription_edits_page("42", limit=5, cursor="abc")],
    "getSubscriptionEmails": [lambda c: c.subscription_emails_page("42", limit=5, cursor="abc")],
    "getTransactionEmail": [lambda c: c.transaction_email("42-10")],
    "getTransactionEvents": [lambda c: c.transaction_events("42-10")],
    "getMonth": [lambda c: c.month("2026-12")],
    "getOperations": [lambda c: c.operations()],
    "showUnsubscribe": [lambda c: c.unsubscribe_page("t")],
    "unsubscribe": [lambda c: c.unsubscribe("t")],
    "listPlans": [lambda c: c.plans()],
    "getHealth": [lambda c: c.health()],
    "getContract": [lambda c: c.contract()],
}

OPERATIONS = {
    operation["operationId"]: (method.upper(), path, operation, item.get("parameters", []))
    for path, item in PATHS.items()
    for method, operation in item.items()
    if method != "parameters"
}
EVERY = [(name, place) for name, asks in ASKS.items() for place in range(len(asks))]


def resolved(node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        found: Any = CONTRACT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def example_of(name: str, place: int) -> httpx.Response:
    """The answer that the contract shows; of several statuses, they take turns."""
    _, _, operation, _ = OPERATIONS[name]
    good = [(int(status), each) for status, each in operation["responses"].items() if status < "3"]
    status, answer = good[place % len(good)]
    media_type, shown = next(iter(answer["content"].items()))
    headers = {"Content-Type": media_type, "ETag": '"7"'}
    if media_type == "application/json":
        return httpx.Response(status, json=shown.get("example", {"openapi": "3.1.0"}))
    return httpx.Response(status, text=shown.get("example", "<html>"), headers=headers)


def asked(name: str, place: int) -> tuple[Any, httpx.Request]:
    """What the client answers to the example of the contract, and what it sent."""
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return example_of(name, place)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        found = ASKS[name][place](Credits("https://api.example.com/v1/", "secret", http=http))
    (request,) = sent
    return found, request


def test_there_is_a_method_for_every_operation_of_the_contract() -> None:
    assert set(ASKS) == set(OPERATIONS)


@pytest.mark.parametrize(("name", "place"), EVERY)
def test_a_request_goes_to_the_route_of_the_contract_with_a_token_where_it_is_needed(
    name: str, place: int
) -> None:
    method, path, operation, _ = OPERATIONS[name]
    _, request = asked(name, place)
    assert request.method == method
    assert request.headers["User-Agent"] == "credits-client"
    pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(f"/v1{path}"))
    assert re.fullmatch(pattern, request.url.raw_path.decode().partition("?")[0])
    has_token = request.headers.get("Authorization") == "Bearer secret"
    assert has_token == bool(operation["security"])


@pytest.mark.parametrize(("name", "place"), EVERY)
def test_a_request_sends_what_the_contract_asks_for_and_nothing_else(name: str, place: int) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    _, _, operation, shared = OPERATIONS[name]
    _, request = asked(name, place)
    parameters = [resolved(each) for each in [*operation.get("parameters", []), *shared]]
    known = {each["name"] for each in parameters if each["in"] == "query"}
    sent = dict(request.url.params)
    assert {each.partition(".")[0] for each in sent} <= known
    for each in parameters:
        if each["in"] == "header" and each.get("required"):
            assert request.headers[each["name"]]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        checker = jsonschema.Draft202012Validator({**schema, "components": CONTRACT["components"]})
        checker.validate(json.loads(request.content))
    else:
        assert request.content == b""


def given(name: str, place: int) -> dict[str, Any]:
    """The arguments of a call, by their names."""
    found: dict[str, Any] = {}

    class Asked:
        def __getattr__(self, method: str) -> Any:
            told = inspect.signature(getattr(Credits, method))
            return lambda *words, **named: found.update(told.bind(self, *words, **named).arguments)

    ASKS[name][place](Asked())
    del found["self"]
    return found


def as_json(value: Any) -> Any:
    return dataclasses.asdict(value) if isinstance(value, Price) else value.isoformat()


@pytest.mark.parametrize(("name", "place"), EVERY)
def test_every_argument_is_sent_under_its_own_name(name: str, place: int) -> None:
    _, request = asked(name, place)
    query, headers = dict(request.url.params), request.headers
    sent = json.loads(request.content or "{}") | query
    in_path = request.url.raw_path.decode().partition("?")[0].split("/")
    for argument, value in given(name, place).items():
        if argument in ("key", "etag"):
            assert headers["Idempotency-Key" if argument == "key" else "If-Match"] == value
        elif argument == "only_new":
            assert headers["If-None-Match"] == "*"
        elif argument == "metadata" and query:
            assert {f"metadata.{key}": each for key, each in value.items()}.items() <= query.items()
        elif f"{{{argument}}}" in OPERATIONS[name][1]:
            assert quote(str(value), safe="") in in_path
        else:
            wanted = json.loads(json.dumps(value, default=as_json))
            wanted = str(wanted) if query and wanted is not None else wanted
            assert sent.get({"since": "from", "until": "to"}.get(argument, argument)) == wanted


LISTINGS: Mapping[str, Callable[[Any], Any]] = {
    "listHistory": lambda c: c.history("42", type="usage", metadata={"a": "b"}, limit=5),
    "getStatement": lambda c: c.statement("42", since=NOW, limit=5),
    "runAllocations": lambda c: c.allocation_preview("2026-01", zones=["UTC"], limit=5),
    "findSubscriptions": lambda c: c.found_subscriptions(plan="pro", status="active", limit=5),
    "getSubscriptionEdits": lambda c: c.subscription_edits("42", limit=5),
    "getSubscriptionEmails": lambda c: c.subscription_emails("42", limit=5),
}


@pytest.mark.parametrize("name", LISTINGS)
def test_every_page_of_a_listing_is_asked_for_in_the_same_words(name: str) -> None:
    sent: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        example, cursor = example_of(name, 0), {"next_cursor": "n-2" if len(sent) == 1 else None}
        if name != "getStatement":
            return httpx.Response(200, json=example.json() | cursor)
        *lines, last, end = example.text.split("\n")
        text = "\n".join([*lines, json.dumps(json.loads(last) | cursor), end])
        return httpx.Response(200, text=text)

    async def listed(client: AsyncCredits) -> list[Any]:
        return [each async for each in LISTINGS[name](client)]

    for kind in ("sync", "async"):
        sent.clear()
        transport = httpx.MockTransport(answer)
        if kind == "sync":
            with httpx.Client(transport=transport) as http:
                found = [*LISTINGS[name](Credits("https://api.example.com", "t", http=http))]
        else:
            mock = httpx.AsyncClient(transport=transport)
            client = AsyncCredits("https://api.example.com", "t", http=mock)
            found = asyncio.run(listed(client))
        first, second = (dict(each.url.params) | json.loads(each.content or "{}") for each in sent)
        assert second == first | {"cursor": "n-2"}
        assert sent[0].url.path == sent[1].url.path
        assert found
        assert len(found) % 2 == 0, "half of them is of the second page"


# Who asks for everything at once says every field that there is.
@pytest.mark.parametrize(
    "name", [name for name, _ in EVERY if "requestBody" in OPERATIONS[name][2]]
)
def test_every_field_of_a_request_can_be_sent(name: str) -> None:
    body = OPERATIONS[name][2]["requestBody"]["content"]["application/json"]["schema"]
    sent: set[str] = set()
    for place in range(len(ASKS[name])):
        sent |= json.loads(asked(name, place)[1].content).keys()
    fields = set(resolved(body)["properties"])
    in_path = {"user_id"} if "{user_id}" in OPERATIONS[name][1] else set()
    assert sent == fields - in_path


def plain(value: Any) -> Any:
    """A read answer, as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # What an answer only sometimes has, that of a dry run say, is None where it is not there.
        found = {
            each.name: plain(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if each.default is not None or getattr(value, each.name) is not None
        }
        found.pop("replayed", None)
        return found
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value


@pytest.mark.parametrize(
    ("name", "place"), [each for each in EVERY if not each[0].lower().endswith("unsubscribe")]
)
def test_the_answer_of_the_contract_is_read_whole(name: str, place: int) -> None:
    found, _ = asked(name, place)
    if name in ("getSubscription", "putSubscription", "patchSubscription"):
        found = found.value
    if name == "holdCredits":
        found = found.answer
    answer = example_of(name, place)
    if name == "getStatement":
        assert "\n".join([*found.items, ""]) == answer.text
        assert found.next_cursor == json.loads(found.items[-1])["next_cursor"]
        return
    shown = answer.json()
    if name in ("getHolds", "listPlans", "getTransactionEvents"):
        (shown,) = shown.values()
    shown.pop("success", None) if isinstance(shown, dict) else None
    assert plain(found) == shown


def answered() -> Iterator[str]:
    """The schemas that answers are made of."""
    waiting = ["Problem"]
    for _, _, operation, _ in OPERATIONS.values():
        for status, response in operation["responses"].items():
            for media in resolved(response).get("content", {}).values() if status < "3" else ():
                waiting += re.findall(r"#/components/schemas/(\w+)", json.dumps(media["schema"]))
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            waiting += re.findall(r"#/components/schemas/(\w+)", json.dumps(SCHEMAS[name]))


ANSWERED = sorted(answered())
TYPES = {"string": str, "integer": int, "boolean": bool, "null": type(None)}


def hint_of(schema: dict[str, Any]) -> set[Any]:
    """The types that a field may have in Python, from its schema."""
    if "$ref" in schema:
        return {getattr(answers, schema["$ref"].rpartition("/")[2])}
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return set().union(*(hint_of(each) for each in schema[several]))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    found: set[Any] = set()
    for kind in kinds:
        if kind == "array":
            (inner,) = hint_of(schema["items"])
            found.add(tuple.__class_getitem__((inner, ...)))
        elif kind == "object":
            found.add(answers.Metadata)
        elif kind == "string" and schema.get("format", "") in ("date", "date-time"):
            found.add(date if schema["format"] == "date" else datetime)
        else:
            found.add(TYPES[kind])
    return found


@pytest.mark.parametrize("name", ANSWERED)
def test_every_schema_of_an_answer_is_a_frozen_class_with_the_same_fields(name: str) -> None:
    kind = getattr(answers, name)
    assert kind.__dataclass_params__.frozen
    hints = typing.get_type_hints(kind)
    schema = SCHEMAS[name]
    expected = {field: each for field, each in schema["properties"].items() if field != "success"}
    assert set(hints) - {"replayed"} == set(expected)
    for field, described in expected.items():
        if hints[field] is object:
            continue
        wanted = hint_of(described)
        if field not in schema["required"]:
            wanted.add(type(None))
        is_union = typing.get_origin(hints[field]) in (typing.Union, UnionType)
        found = set(typing.get_args(hints[field])) if is_union else {hints[field]}
        assert found == wanted, f"{name}.{field}"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("amount", value) for value in (True, "50", 50.0, None)),
        *(("expires_at", value) for value in ("2026-01-15T13:00:00", "soon", 1768482000)),
        *(("hold_id", value) for value in (None, 5)),
    ],
)
def test_an_answer_with_a_field_of_another_kind_names_it(field: str, value: object) -> None:
    with pytest.raises(reading.Unreadable, match=rf"^HoldAnswer\.{field} cannot be read: "):
        reading.read(answers.HoldAnswer, {**HELD, field: value})
    missing = {name: each for name, each in HELD.items() if name != field}
    with pytest.raises(reading.Unreadable, match=rf"^HoldAnswer\.{field} is missing$"):
        reading.read(answers.HoldAnswer, missing)


def test_an_instant_is_in_utc_wherever_it_was_written() -> None:
    found = reading.read(answers.HoldAnswer, {**HELD, "expires_at": "2026-01-15T14:30:00+01:30"})
    assert found.expires_at.isoformat() == "2026-01-15T13:00:00+00:00"


def test_what_a_newer_server_says_besides_is_ignored() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        body = {**example_of("holdCredits", 0).json(), "mood": "good", "price": {"amount": 1}}
        return httpx.Response(200, json=body, headers={"Idempotency-Replayed": "true"})

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        hold = Credits("http://api", "t", http=http).hold(42, 50)
    assert (hold.hold_id, hold.replayed) == ("42-5", True)


def test_both_clients_have_the_same_methods_with_the_same_arguments_and_words() -> None:
    def methods(kind: type[Any]) -> dict[str, tuple[list[str], str]]:
        return {
            name: (list(inspect.signature(method).parameters), method.__doc__)
            for name, method in vars(kind).items()
            if not name.startswith("_") and name not in ("close", "aclose")
        }

    assert methods(Credits) == methods(AsyncCredits)
    assert methods(Credits)["hold"][0][:4] == ["self", "user_id", "amount", "description"]
    described = {
        name
        for name, each in vars(routes).items()
        if inspect.isfunction(each) and each.__module__ == routes.__name__ and name[0] != "_"
    }
    assert described - {"problem"} <= set(methods(Credits))
    assert repr(OMITTED) == "..."


def test_every_code_of_a_problem_in_the_contract_has_an_error_of_its_name() -> None:
    shown = {
        each["example"]["code"]
        for response in CONTRACT["components"]["responses"].values()
        for each in resolved(response)["content"].values()
        if "code" in each.get("example", {})
    }
    assert shown <= set(errors.BY_CODE)
    for code, kind in errors.BY_CODE.items():
        assert kind.__name__ == "".join(word.capitalize() for word in code.split("_"))
