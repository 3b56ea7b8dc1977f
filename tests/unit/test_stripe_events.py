"""How Stripe's events are read: what is taken, and what is refused with its place."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from chalicelib.domain.errors import InvalidInput
from chalicelib.stripe.events import LATEST_SECOND, Object, read_event
from tests.stripe import payloads

SECONDS = 1_768_478_400
START = datetime.fromtimestamp(SECONDS, UTC)

RIGHT: dict[str, Any] = {
    "id": "evt_1",
    "object": "event",
    "type": "customer.updated",
    "created": SECONDS,
    "data": {"object": {"id": "cus_1"}, "previous_attributes": {"name": None}},
}


def of(**values: Any) -> Object:
    return Object(values, "it")


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidInput) as error:
        call()
    return str(error.value)


# --- An object's fields -------------------------------------------------------------------------


def test_what_is_null_is_as_what_is_left_out() -> None:
    for thing in (of(), of(a=None)):
        assert not thing.has("a")
        assert thing.part("a") is None
        assert thing.parts("a") == []
        assert thing.text("a") is None
        assert thing.reference("a") is None
        assert thing.whole("a") == 0
        assert thing.instant("a") is None
        assert not thing.is_true("a")
        assert thing.metadata("a") is None
    assert of(metadata=None).metadata("a") is None
    assert of(metadata={}).metadata("a") is None


def test_fields_are_read_as_they_are_given() -> None:
    thing = of(
        text="x" * 5_000,
        whole=10**15 - 1,
        nothing=0,
        at=SECONDS,
        flag=True,
        of="cus_1",
        whole_of={"id": "cus_2", "object": "customer"},
        metadata={"user_id": "42"},
        page={"data": [{"id": "si_1"}, {"id": "si_2"}]},
    )
    assert thing.text("text") == "x" * 5_000
    assert thing.whole("whole") == 10**15 - 1
    assert thing.whole("nothing") == 0
    assert thing.instant("at") == START
    assert thing.is_true("flag")
    assert (thing.reference("of"), thing.key("of")) == ("cus_1", "cus_1")
    assert (thing.reference("whole_of"), thing.key("whole_of")) == ("cus_2", "cus_2")
    assert thing.metadata("user_id") == "42"
    page = thing.part("page")
    assert page is not None
    assert [part.key("id") for part in page.parts("data")] == ["si_1", "si_2"]


def test_only_true_is_true() -> None:
    assert [of(a=value).is_true("a") for value in (True, False, 1, "true", None)] == [
        *(True, False, False, False, False)
    ]


@pytest.mark.parametrize(
    ("seconds", "instant"),
    [
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (LATEST_SECOND - 1, datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_an_instant_is_in_a_year_that_we_compute_with(seconds: int, instant: datetime) -> None:
    assert of(a=seconds).instant("a") == instant


TEXT, WHOLE = "must be a text", "must be a whole number of 0 or more"
INSTANT = "must be an instant in seconds since 1970"


@pytest.mark.parametrize(
    ("reader", "wrongs", "message"),
    [
        ("text", [1, True, ["x"], {}, "x" * 5_001], TEXT),
        ("whole", [-1, 1.0, True, "1", 10**15, []], WHOLE),
        ("instant", [-1, 1.5, True, str(SECONDS), LATEST_SECOND, {}], INSTANT),
        ("part", [1, "x", [], True], "must be an object"),
        ("metadata", [1, "x", [], True], "must be an object"),
        ("parts", [1, "x", {"b": 1}, True], "must be a list"),
        ("texts", [1, "x", {"b": 1}, True], "must be a list"),
    ],
)
def test_a_field_of_another_type_is_refused(
    reader: str, wrongs: list[object], message: str
) -> None:
    for wrong in wrongs:
        thing = Object({"a": wrong, "metadata": wrong}, "it")
        place = "it.metadata" if reader == "metadata" else "it.a"
        assert refusal(partial(getattr(thing, reader), "a")) == f"{place}: {message}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: of(a=[{}, 1]).parts("a"), "it.a[1]: must be an object"),
        (lambda: of(a=["x", 1]).texts("a"), "it.a[1]: must be a text"),
        (lambda: of(a=[None]).texts("a"), "it.a[0]: must be a text"),
        (lambda: of(a=[{}, {"b": 1}]).parts("a")[1].text("b"), f"it.a[1].b: {TEXT}"),
        (lambda: of(metadata={"a": 1}).metadata("a"), f"it.metadata.a: {TEXT}"),
        (lambda: of().key("a"), "it.a: is missing"),
        (lambda: of(a={"object": "customer"}).key("a"), "it.a: is missing"),
        (lambda: of(a=None).key("a"), "it.a: is missing"),
        (lambda: Object.of([], "it"), "it: must be an object"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(call: Callable[[], object], message: str) -> None:
    assert refusal(call) == message


@pytest.mark.parametrize("wrong", ["", "a b", "é", "x" * 256, 7, ["cus_1"], {"id": 7}])
def test_an_id_is_visible_ascii(wrong: object) -> None:
    message = "it.a: must be 1 to 255 visible ASCII characters without spaces"
    assert refusal(lambda: of(a=wrong).reference("a")).startswith(message)


# --- What was before ----------------------------------------------------------------------------


def test_what_was_before_is_what_is_now_but_for_what_is_said_to_have_changed() -> None:
    now = of(
        status="active",
        customer="cus_1",
        pause_collection={"behavior": "void", "resumes_at": None},
        metadata={"user_id": "42", "tier": "gold"},
        items={"object": "list", "data": [{"id": "si_2"}], "total_count": 1},
    )
    before = now.before(
        {
            "status": "trialing",
            "pause_collection": None,
            "metadata": {"tier": "silver"},
            "items": {"data": [{"id": "si_1"}, {"id": "si_0"}]},
            "ended_at": None,
        }
    )
    assert before.place == now.place
    assert before.text("status") == "trialing"
    assert before.reference("customer") == "cus_1"
    assert not before.has("pause_collection")
    assert (before.metadata("user_id"), before.metadata("tier")) == ("42", "silver")
    items = before.part("items")
    assert items is not None
    assert items.whole("total_count") == 1
    assert [item.key("id") for item in items.parts("data")] == ["si_1", "si_0"]
    # The object itself is as it was.
    assert now.text("status") == "active"
    assert now.metadata("tier") == "gold"


def test_an_object_that_came_or_went_is_there_or_not_as_a_whole() -> None:
    gone = of(discount=None).before({"discount": {"coupon": {"id": "c"}}})
    assert gone.part("discount") is not None
    come = of(discount={"coupon": {"id": "c"}}).before({"discount": None})
    assert come.part("discount") is None
    deep = of(a={"b": {"c": 1, "d": 2}}).before({"a": {"b": {"c": 3}}})
    a = deep.part("a")
    b = a and a.part("b")
    assert b is not None
    assert (b.whole("c"), b.whole("d")) == (3, 2)


# --- Events -------------------------------------------------------------------------------------


def read(values: object) -> Any:
    return read_event(json.dumps(values).encode())


def test_an_event_says_what_happened_to_what_and_when() -> None:
    event = read(RIGHT)
    assert (event.id, event.type, event.seen_at) == ("evt_1", "customer.updated", START)
    assert event.object.key("id") == "cus_1"
    assert event.previous == {"name": None}


@pytest.mark.parametrize("previous", [None, [], "x", 1])
def test_an_event_need_not_say_what_was_before(previous: object) -> None:
    data = {"object": {"id": "cus_1"}, "previous_attributes": previous}
    assert read({**RIGHT, "data": data}).previous is None
    assert read({**RIGHT, "data": {"object": {"id": "cus_1"}}}).previous is None


@pytest.mark.parametrize("version", payloads.VERSIONS)
def test_an_event_of_every_version_can_be_read(version: str) -> None:
    customer = payloads.customer(version, id="cus_1", created=START, email="ada@example.com")
    event = payloads.event(version, "customer.created", customer, id="evt_1", created=START)
    assert read(event).object.text("email") == "ada@example.com"


def without(*path: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(RIGHT))
    part = values
    for step in path[:-1]:
        part = part[step]
    del part[path[-1]]
    return values


NO_OBJECTS: list[object] = [[], 1, "x", None, True]
NEEDED = "event: must have a type, created and data.object"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        *zip(NO_OBJECTS, ["event: must be an object"] * 5, strict=True),
        *(
            (without(*path), NEEDED)
            for path in (["type"], ["created"], ["data"], ["data", "object"])
        ),
        (without("id"), "event.id: is missing"),
        ({**RIGHT, "type": 1}, "event.type: must be a text"),
        ({**RIGHT, "created": 1.5}, f"event.created: {INSTANT}"),
        ({**RIGHT, "created": float("inf")}, f"event.created: {INSTANT}"),
        ({**RIGHT, "data": []}, "event.data: must be an object"),
        ({**RIGHT, "data": {"object": []}}, "event.data.object: must be an object"),
        ({**RIGHT, "data": {"object": "cus_1"}}, "event.data.object: must be an object"),
    ],
)
def test_an_event_of_another_form_is_refused_with_the_place(values: object, message: str) -> None:
    assert refusal(lambda: read(values)) == message


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"\xff\xfe\xfd", b"'", b'{"a":1}x', b"[" * 100_000),
        b'{"created": ' + b"9" * 5_000 + b"}",
    ],
)
def test_a_body_that_is_no_json_is_refused(body: bytes) -> None:
    assert refusal(lambda: read_event(body)) == "body: must be JSON in UTF-8"


def test_what_is_wrong_within_the_object_is_named_from_the_data_on() -> None:
    event = read({**RIGHT, "data": {"object": {"id": "cus_1", "email": 5}}})
    assert refusal(lambda: event.object.text("email")) == "data.object.email: must be a text"
