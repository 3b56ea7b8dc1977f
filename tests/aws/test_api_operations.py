"""Writing over the API: using credits, giving a usage back, granting and clawing back by hand."""

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.entries import operation_digest
from chalicelib.store.ledger import fingerprint
from tests.aws.api import ADMIN, BACKEND, Api, Caller, user
from tests.aws.world import World, at

USE = "/api/credits/use"
REVERSE = "/api/credits/reverse"
ALLOCATE = "/api/credits/allocate"

EXPORT = {"amount": 30, "description": "Export"}


@pytest.fixture
def hundred(world: World) -> World:
    """A world in which user 1 has a hundred credits that never expire."""
    world.subscribe("1")
    world.grant("1", 100, "hundred")
    return world


def fields(reply: Any) -> list[str]:
    assert reply.status == 400, reply.text
    return [error["field"] for error in reply.json["errors"]]


# --- Using --------------------------------------------------------------------------------------


def test_a_user_uses_his_own_credits_and_the_next_read_shows_it(hundred: World, api: Api) -> None:
    reply = api.post(USE, user(), EXPORT, key="a")
    assert reply.json == {
        "success": True,
        "new_balance": 70,
        "transaction_id": "1-2",
        "batches": [{"batch_id": "1-1", "amount": -30}],
    }
    assert api.get("/api/credits/balance", user()).json["available_balance"] == 70
    assert hundred.history()[-1].actor == "user|1"


def test_the_oldest_credits_go_first(hundred: World, api: Api) -> None:
    hundred.now += timedelta(hours=1)
    hundred.grant("1", 50, "younger")
    reply = api.post(USE, user(), {"amount": 120, "description": "Export"}, key="a")
    assert reply.json["batches"] == [
        {"batch_id": "1-1", "amount": -100},
        {"batch_id": "1-2", "amount": -20},
    ]


def test_the_same_request_again_is_answered_the_same_and_does_nothing(
    hundred: World, api: Api
) -> None:
    first = api.post(USE, user(), EXPORT, key="a")
    assert "idempotency-replayed" not in first.headers
    api.post(USE, user(), EXPORT, key="b")
    hundred.now += timedelta(days=3650)
    again = api.post(USE, user(), EXPORT, key="a")
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json == first.json
    assert len(hundred.history()) == 3


@pytest.mark.usefixtures("hundred")
def test_a_replay_is_the_same_whether_the_user_is_named_or_not(api: Api) -> None:
    first = api.post(USE, user(), EXPORT, key="a")
    for named in ("1", 1):
        again = api.post(USE, user(), {"user_id": named, **EXPORT}, key="a")
        assert again.headers["idempotency-replayed"] == "true"
        assert again.json == first.json


@pytest.mark.usefixtures("hundred")
def test_a_usage_is_replayed_even_when_it_could_not_be_made_any_more(api: Api) -> None:
    first = api.post(USE, user(), {"amount": 100, "description": "All"}, key="a")
    again = api.post(USE, user(), {"amount": 100, "description": "All"}, key="a")
    assert (again.status, again.json) == (200, first.json)


def test_a_key_cannot_be_used_for_another_request(hundred: World, api: Api) -> None:
    api.post(USE, user(), EXPORT, key="a")
    for changed in ({"amount": 31}, {"description": "Exports"}):
        reply = api.post(USE, user(), {**EXPORT, **changed}, key="a")
        assert (reply.status, reply.json["code"]) == (422, "idempotency_key_reused")
        assert "'a'" in reply.json["detail"]
    assert len(hundred.history()) == 2


def test_keys_belong_to_their_caller_and_their_operation(hundred: World, api: Api) -> None:
    hundred.subscribe("2")
    hundred.grant("2", 100, "more")
    assert api.post(USE, user("1"), EXPORT, key="a").json["transaction_id"] == "1-2"
    assert api.post(USE, user("2"), EXPORT, key="a").json["transaction_id"] == "2-2"
    for_one = api.post(USE, BACKEND, {"user_id": "1", **EXPORT}, key="a")
    assert for_one.json["transaction_id"] == "1-3"
    for_two = api.post(USE, BACKEND, {"user_id": "2", **EXPORT}, key="a")
    assert for_two.status == 422
    reverse = {"user_id": 1, "transaction_id": "1-2", "description": "Oops"}
    assert api.post(REVERSE, BACKEND, reverse, key="a").json["transaction_id"] == "1-4"


def test_a_usage_of_a_user_with_a_hyphen_in_their_id_is_given_back(world: World, api: Api) -> None:
    world.subscribe("ada-9")
    world.grant("ada-9", 100, "hundred")
    used = api.post(USE, BACKEND, {"user_id": "ada-9", **EXPORT}, key="a").json["transaction_id"]
    back = {"user_id": "ada-9", "transaction_id": used, "description": "Oops"}
    assert api.post(REVERSE, BACKEND, back, key="b").json["transaction_id"] == "ada-9-3"


def test_too_few_credits_are_refused_whole_with_what_is_available(hundred: World, api: Api) -> None:
    reply = api.post(USE, user(), {"amount": 101, "description": "Too much"}, key="a")
    assert reply.status == 402
    assert reply.json["code"] == "insufficient_credits"
    assert reply.json["available_balance"] == 100
    assert reply.json["detail"] == "101 credits were asked for, 100 are available"
    assert len(hundred.history()) == 1


def test_a_refused_usage_does_not_use_up_its_key(hundred: World, api: Api) -> None:
    body = {"amount": 120, "description": "Export"}
    assert api.post(USE, user(), body, key="a").status == 402
    hundred.grant("1", 20, "more")
    assert api.post(USE, user(), body, key="a").status == 200


def test_a_backend_uses_anybodys_credits(hundred: World, api: Api) -> None:
    assert api.post(USE, BACKEND, {"user_id": 1, **EXPORT}, key="a").json["new_balance"] == 70
    assert hundred.history()[-1].actor == "shop"
    assert fields(api.post(USE, BACKEND, EXPORT, key="b")) == ["user_id"]
    assert api.post(USE, BACKEND, {"user_id": 9, **EXPORT}, key="c").status == 404


def test_a_user_without_entries_has_too_few_credits_and_is_not_unknown(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    reply = api.post(USE, user(), EXPORT, key="a")
    assert (reply.status, reply.json["available_balance"]) == (402, 0)


# --- Giving back --------------------------------------------------------------------------------


@pytest.mark.usefixtures("hundred")
def test_a_usage_is_given_back_in_parts_and_never_more_than_it_was(api: Api) -> None:
    usage = api.post(USE, user(), EXPORT, key="a").json["transaction_id"]
    body = {"user_id": 1, "transaction_id": usage, "description": "Failed export"}
    part = api.post(REVERSE, BACKEND, {**body, "amount": 10}, key="b")
    assert part.json == {
        "success": True,
        "new_balance": 80,
        "transaction_id": "1-3",
        "returned_amount": 10,
        "expired_amount": 0,
        "batches": [{"batch_id": "1-1", "amount": 10}],
    }
    too_much = api.post(REVERSE, BACKEND, {**body, "amount": 21}, key="c")
    assert (too_much.status, too_much.json["code"]) == (422, "not_allowed")
    assert "20 can be" in too_much.json["detail"]
    rest = api.post(REVERSE, ADMIN, body, key="d")
    assert (rest.json["returned_amount"], rest.json["new_balance"]) == (20, 100)
    assert api.post(REVERSE, ADMIN, body, key="e").status == 422
    again = api.post(REVERSE, BACKEND, {**body, "amount": 10}, key="b")
    assert (again.headers["idempotency-replayed"], again.json) == ("true", part.json)


def test_what_has_expired_meanwhile_stays_expired_and_the_answer_says_how_much(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    world.grant("1", 10, "short", expires_in_days=1)
    world.now += timedelta(minutes=1)
    world.grant("1", 90, "long")
    usage = api.post(USE, user(), EXPORT, key="a").json["transaction_id"]
    world.now = at("2026-01-17T12:00:00Z")
    body = {"user_id": "1", "transaction_id": usage, "description": "Failed export"}
    reply = api.post(REVERSE, BACKEND, body, key="b").json
    assert (reply["returned_amount"], reply["expired_amount"]) == (20, 10)
    assert reply["new_balance"] == 90
    again = api.post(REVERSE, BACKEND, body, key="b").json
    assert again == reply


def test_only_a_usage_of_that_very_user_is_given_back(hundred: World, api: Api) -> None:
    hundred.subscribe("2")
    hundred.grant("2", 100, "more")
    api.post(USE, user("2"), EXPORT, key="a")
    body = {"user_id": "1", "description": "Oops"}
    for transaction_id in ("2-2", "1-9", "1-0", "1-01", "1-", "nonsense", "1-\N{SUPERSCRIPT TWO}"):
        reply = api.post(REVERSE, BACKEND, {**body, "transaction_id": transaction_id}, key="b")
        assert (reply.status, reply.json["code"]) == (404, "not_found"), transaction_id
    grant = api.post(REVERSE, BACKEND, {**body, "transaction_id": "1-1"}, key="b")
    assert (grant.status, grant.json["code"]) == (422, "not_allowed")


# --- Granting and clawing back ------------------------------------------------------------------


def test_an_admin_grants_credits_in_his_own_name(world: World, api: Api) -> None:
    world.subscribe("42")
    body = {"user_id": 42, "amount": 50, "description": "Goodwill"}
    reply = api.post(ALLOCATE, ADMIN, body, key="a")
    assert reply.json == {"success": True, "new_balance": 50, "transaction_id": "42-1"}
    (entry,) = world.history("42")
    assert (entry.actor, entry.description) == ("ada", "Goodwill")
    assert entry.batches[0].expires_at is None
    again = api.post(ALLOCATE, ADMIN, {**body, "user_id": "42"}, key="a")
    assert (again.headers["idempotency-replayed"], again.json) == ("true", reply.json)


def test_granted_credits_can_expire_and_negative_ones_are_clawed_back(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    grant = {"user_id": 1, "amount": 50, "description": "Trial", "expires_in_days": 7}
    api.post(ALLOCATE, ADMIN, grant, key="a")
    batch = api.get("/api/credits/balance?user_id=1", ADMIN).json["batches"][0]
    assert batch["expires_at"] == "2026-01-22T23:00:00Z"
    claw_back = {"user_id": 1, "amount": -20, "description": "Mistake"}
    assert api.post(ALLOCATE, ADMIN, claw_back, key="b").json["new_balance"] == 30
    too_much = api.post(ALLOCATE, ADMIN, {**claw_back, "amount": -31}, key="c")
    assert (too_much.status, too_much.json["available_balance"]) == (402, 30)
    both = api.post(ALLOCATE, ADMIN, {**claw_back, "expires_in_days": 7}, key="d")
    assert fields(both) == ["expires_in_days"]


def test_what_is_left_is_clawed_back_once_and_the_answer_says_how_much(
    world: World, api: Api
) -> None:
    world.subscribe("1")
    api.post(ALLOCATE, ADMIN, {"user_id": 1, "amount": 50, "description": "Trial"}, key="a")
    wanted = {
        "user_id": 1,
        "amount": -30,
        "description": "Refund of the pack",
        "up_to_available": True,
    }
    taken = [(api.post(ALLOCATE, ADMIN, wanted, key=key).json) for key in ("b", "c", "d")]
    assert [(each["amount"], each["new_balance"]) for each in taken] == [
        (-30, 20),
        (-20, 0),
        (0, 0),
    ]
    assert all(each["success"] for each in taken)
    api.post(ALLOCATE, ADMIN, {"user_id": 1, "amount": 7, "description": "Trial"}, key="e")
    for key, before in zip(("b", "c", "d"), taken, strict=True):
        again = api.post(ALLOCATE, ADMIN, wanted, key=key)
        assert (again.headers["idempotency-replayed"], again.json) == ("true", before)
    assert world.balance("1") == 7
    other = api.post(ALLOCATE, ADMIN, {**wanted, "up_to_available": False}, key="d")
    assert other.json["code"] == "idempotency_key_reused"
    line = api.get("/api/credits/history?user_id=1&limit=2", ADMIN).json["items"][1]
    assert (line["transaction_id"], line["type"], line["amount"]) == ("1-4", "manual", 0)
    assert (line["actor"], line["description"]) == ("ada", "Refund of the pack")
    assert line["batches"] == []


def test_a_claw_back_that_is_not_to_take_what_is_left_keeps_its_key(world: World, api: Api) -> None:
    """Keys from before one could ask for what is left stay good."""
    world.subscribe("1")
    api.post(ALLOCATE, ADMIN, {"user_id": 1, "amount": 50, "description": "Trial"}, key="a")
    claw_back = {"user_id": 1, "amount": -20, "description": "Mistake"}
    first = api.post(ALLOCATE, ADMIN, claw_back, key="b")
    key = f"operation#{operation_digest('manual#ada#b')}"
    (marker,) = [line for line in world.lines() if line["user_id"]["S"] == key]
    described = {
        "user_id": "1",
        "amount": -20,
        "reason": "Mistake",
        "actor": "ada",
        "expires_in_days": None,
    }
    assert marker["request"]["S"] == fingerprint(described)
    again = api.post(ALLOCATE, ADMIN, {**claw_back, "up_to_available": False}, key="b")
    assert again.json == first.json
    assert "amount" not in first.json


def test_a_grant_has_nothing_that_is_left_to_take(world: World, api: Api) -> None:
    world.subscribe("1")
    grant = {"user_id": 1, "amount": 50, "description": "Trial", "up_to_available": True}
    assert fields(api.post(ALLOCATE, ADMIN, grant, key="a")) == ["up_to_available"]
    claw_back = {**grant, "amount": -5, "up_to_available": "yes"}
    assert fields(api.post(ALLOCATE, ADMIN, claw_back, key="a")) == ["up_to_available"]
    assert world.lines() == []


def test_nothing_is_granted_to_a_user_who_does_not_exist(world: World, api: Api) -> None:
    body = {"user_id": 42, "amount": 50, "description": "Goodwill"}
    assert api.post(ALLOCATE, ADMIN, body, key="a").status == 404
    assert world.lines() == []


# --- Bounds -------------------------------------------------------------------------------------

_AMOUNTS: tuple[object, ...] = (0, 1.0, 1.5, 1_000_000_001, True, "5", [5], {})
_TEXTS = ("", "  ", 5, "x" * 501, "two\nlines", "\x00", ["x"])
_USER_IDS = ("", "a b", "ü", "x" * 129, -1, 10**18, 1.0, True, [1])

WRONG_FIELDS: tuple[tuple[str, Caller, dict[str, object], str, tuple[object, ...]], ...] = (
    (USE, user(), EXPORT, "amount", (*_AMOUNTS, -1, None)),
    (USE, user(), EXPORT, "description", (*_TEXTS, None)),
    (USE, user(), EXPORT, "user_id", _USER_IDS),
    (USE, user(), EXPORT, "reason", ("unknown here",)),
    (
        REVERSE,
        BACKEND,
        {"user_id": 1, "transaction_id": "1-2", "amount": 5, "description": "Oops"},
        "amount",
        (*_AMOUNTS, -1),
    ),
    (
        REVERSE,
        BACKEND,
        {"user_id": 1, "transaction_id": "1-2", "description": "Oops"},
        "transaction_id",
        ("", 5, "x" * 142, None),
    ),
    (
        REVERSE,
        BACKEND,
        {"user_id": 1, "transaction_id": "1-2", "description": "Oops"},
        "description",
        (*_TEXTS, None),
    ),
    (
        ALLOCATE,
        ADMIN,
        {"user_id": 1, "amount": 5, "description": "Goodwill"},
        "amount",
        (*_AMOUNTS, -1_000_000_001, None),
    ),
    (
        ALLOCATE,
        ADMIN,
        {"user_id": 1, "amount": 5, "description": "Goodwill"},
        "user_id",
        (*_USER_IDS, None),
    ),
    (
        ALLOCATE,
        ADMIN,
        {"user_id": 1, "amount": 5, "description": "Goodwill"},
        "description",
        (*_TEXTS, None),
    ),
    (
        ALLOCATE,
        ADMIN,
        {"user_id": 1, "amount": 5, "description": "Goodwill"},
        "expires_in_days",
        (0, -1, 3651, 1.0, "7", True),
    ),
    (
        ALLOCATE,
        ADMIN,
        {"user_id": 1, "amount": 5, "description": "Goodwill"},
        "actor",
        ("somebody else",),
    ),
)


def test_a_wrong_field_is_named_and_nothing_is_written(hundred: World, api: Api) -> None:
    for path, caller, body, field, values in WRONG_FIELDS:
        for value in values:
            reply = api.post(path, caller, {**body, field: value}, key="a")
            assert fields(reply) == [field], (path, field, value)
    assert len(hundred.history()) == 1


@pytest.mark.usefixtures("hundred")
def test_the_bounds_themselves_are_allowed(api: Api) -> None:
    body = {"user_id": 1, "amount": 10_000, "description": "x" * 500, "expires_in_days": 3650}
    assert api.post(ALLOCATE, ADMIN, body, key="!" * 255).status == 200
    assert api.post(USE, user(), {"amount": 1, "description": "x"}, key="~").status == 200
    everything = {"amount": 1_000_000_001, "description": "ß" * 500}
    assert fields(api.post(USE, user(), everything, key="a")) == ["amount"]


def test_every_write_of_credits_needs_an_idempotency_key(hundred: World, api: Api) -> None:
    for path, caller, body in (
        (USE, user(), EXPORT),
        (REVERSE, BACKEND, {"user_id": 1, "transaction_id": "1-2", "description": "Oops"}),
        (ALLOCATE, ADMIN, {"user_id": 1, "amount": 5, "description": "Goodwill"}),
    ):
        assert fields(api.post(path, caller, body)) == ["Idempotency-Key"]
        for key in ("", "two words", "x" * 256, "\x7f", "\xfc"):
            assert fields(api.post(path, caller, body, key=key)) == ["Idempotency-Key"]
    assert len(hundred.history()) == 1


def test_the_former_name_of_a_description_is_the_same_request(hundred: World, api: Api) -> None:
    """The release before called it ``reason`` where credits are given, taken and given back."""
    grant = {"user_id": 1, "amount": 50}
    first = api.post(ALLOCATE, ADMIN, {**grant, "reason": "Trial"}, key="a")
    again = api.post(ALLOCATE, ADMIN, {**grant, "description": "Trial"}, key="a")
    assert first.status == again.status == 200
    assert again.json == first.json
    used = api.post(USE, user(), EXPORT, key="b").json["transaction_id"]
    back = {"user_id": 1, "transaction_id": used}
    first = api.post(REVERSE, ADMIN, {**back, "reason": "Failed"}, key="c")
    again = api.post(REVERSE, ADMIN, {**back, "description": "Failed"}, key="c")
    assert (first.status, again.json) == (200, first.json)
    told = [entry.description for entry in hundred.history()]
    assert (told[1], told[-1], len(told)) == ("Trial", "Failed", 4)


def test_whoever_changes_credits_of_others_does_so_as_caller_and_not_as_user(
    hundred: World, api: Api
) -> None:
    """Their token stands for a user, too: with another name."""
    both = Caller("corp|ada", "7", "credits:admin credits:backend credits:billing")
    why = {"user_id": 1, "description": "Why"}
    some = {**why, "amount": 2}
    pack = {**some, "payment_id": "pi_1"}
    job = {"description": "Why", "amount": 1}
    bodies: dict[str, dict[str, object]] = {
        USE: some,
        REVERSE: {**why, "transaction_id": "1-2"},
        ALLOCATE: some,
        "/api/credits/batches/1-4/void": {"description": "Why"},
        "/api/credits/purchases": pack,
        "/api/credits/refunds": {**job, "payment_id": "pi_1"},
        "/api/credits/holds": some,
        "/api/credits/holds/1-8/capture": job,
        "/api/credits/use-many": {"user_id": 1, "items": [{**job, "key": "lead"}]},
    }
    for path, body in bodies.items():
        keyed = not path.endswith(("purchases", "refunds", "capture", "use-many"))
        reply = api.post(path, both, body, key=path[-9:] if keyed else None)
        assert reply.status == 200, reply.text
    made = hundred.history()[1:]
    assert [entry.actor for entry in made] == ["corp|ada"] * len(bodies)
    assert not any("#7#" in entry.operation for entry in made)


def test_a_description_under_both_names_is_refused(hundred: World, api: Api) -> None:
    grant = {"user_id": 1, "amount": 50, "description": "Trial", "reason": "Goodwill"}
    assert fields(api.post(ALLOCATE, ADMIN, grant, key="a")) == ["reason"]
    assert hundred.balance() == 100
