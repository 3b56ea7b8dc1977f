"""The manual-allocate Lambda: once per key, however often anybody asks."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from chalicelib.domain.ledger import Request
from chalicelib.operations import holds, on_request
from chalicelib.operations.adjustments import NEVER, Adjustment, adjust
from chalicelib.services import Services
from tests.aws.world import World, at


def test_a_grant_answers_the_new_balance_and_the_transaction(world: World) -> None:
    world.subscribe("42")
    assert world.grant("42", 50, "a") == {
        "success": True,
        "new_balance": 50,
        "transaction_id": "42-1",
    }
    (entry,) = world.history("42")
    assert (entry.type.value, entry.amount, entry.actor) == ("manual", 50, "ada")
    assert entry.description == "Goodwill"
    assert entry.batches[0].expires_at is None


def test_a_grant_is_no_more_than_the_plan_allows_at_once_and_a_claw_back_is_as_ever(
    world: World,
) -> None:
    world.subscribe("42", plan="business")  # 2,000 a month
    refused = world.grant("42", 20_001, "a")["error"]
    assert (refused["code"], refused["errors"]) == (
        "invalid_input",
        [
            {
                "field": "amount",
                "message": "must be at most 20,000 for a user of plan 'business'; is 20,001",
            }
        ],
    )
    assert world.balance("42") == 0
    assert world.grant("42", 20_000, "a")["new_balance"] == 20_000
    assert world.grant("42", 20_000, "b")["new_balance"] == 40_000
    assert world.grant("42", -40_000, "c")["new_balance"] == 0
    world.subscribe("42", plan="pro")
    assert world.grant("42", 20_000, "a")["success"], "it was granted before"
    assert not world.grant("42", 10_001, "d")["success"]


@pytest.mark.parametrize(
    "actor", ["system", "System ", "(erased)", "import/balances", "import/usages"]
)
def test_a_request_in_the_name_of_scheduled_work_is_refused_and_writes_nothing(
    actor: str, world: World
) -> None:
    world.subscribe("42")
    refused = world.grant("42", 50, "a", actor=actor)["error"]
    assert refused["code"] == "invalid_input"
    (wrong,) = refused["errors"]
    assert wrong["field"] == "actor"
    assert wrong["message"].startswith(
        "must say who asks, and not a name that the ledger itself uses; is "
    )
    assert world.history("42") == []


def test_a_user_id_may_be_a_number_or_a_string(world: World) -> None:
    world.subscribe("42")
    assert world.grant("42", 50, "a") == world.grant(42, 50, "a")  # type: ignore[arg-type]
    assert world.balance("42") == 50


def test_the_same_key_twice_answers_the_same_and_writes_one_entry(world: World) -> None:
    world.subscribe("1")
    first = world.grant("1", 50, "a")
    world.grant("1", 7, "b")
    world.now = at("2036-01-15T12:00:00Z")
    assert world.grant("1", 50, "a") == first
    assert world.summary() == [("manual", 50, 50), ("manual", 7, 57)]


def test_the_same_key_with_another_request_is_refused(world: World) -> None:
    world.subscribe("1")
    world.subscribe("2")
    world.grant("1", 50, "a")
    for other in (
        world.grant("1", 51, "a"),
        world.grant("2", 50, "a"),
        world.grant("1", 50, "a", description="Another"),
        world.grant("1", 50, "a", actor="bob"),
        world.grant("1", 50, "a", expires_in_days=5),
        world.grant("1", -50, "a"),
    ):
        assert other["error"]["code"] == "idempotency_key_reused"
        assert "'a'" in other["error"]["detail"]
    assert world.summary("1") == [("manual", 50, 50)]
    assert world.summary("2") == []


def test_the_log_says_who_was_refused_and_why_but_quotes_nothing_of_the_request(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.subscribe("1")
    world.grant("1", 50, "jane.doe")
    world.grant("1", 51, "jane.doe")
    (line,) = [vars(each) for each in caplog.records if "refused" in each.getMessage()]
    assert (line["code"], line["user_id"]) == ("idempotency_key_reused", "1")
    assert "jane.doe" not in json.dumps(line, default=str)


def test_what_is_left_is_clawed_back_and_nothing_left_is_a_success(world: World) -> None:
    world.subscribe("1")
    world.grant("1", 50, "a")
    for key, amount in (("b", -50), ("c", 0)):
        answer = world.grant("1", -60, key, up_to_available=True)
        assert answer["success"]
        assert (answer["amount"], answer["new_balance"]) == (amount, 0)
    assert world.summary() == [("manual", 50, 50), ("manual", -50, 0), ("manual", 0, 0)]
    refused = world.grant("1", 5, "d", up_to_available=True)["error"]
    assert refused["errors"] == [
        {
            "field": "up_to_available",
            "message": "goes with a claw-back only; a grant gives the whole amount",
        }
    ]
    assert world.grant("nobody", -5, "e", up_to_available=True)["error"]["code"] == "not_found"


def test_a_claw_back_takes_the_oldest_credits_and_never_more_than_there_are(world: World) -> None:
    world.subscribe("1")
    world.grant("1", 50, "a")
    world.grant("1", 30, "b")
    assert world.grant("1", -60, "c")["new_balance"] == 20
    refusal = world.grant("1", -21, "d")
    assert refusal["error"] == {
        "code": "insufficient_credits",
        "detail": "21 credits were asked for, 20 are available",
    }
    assert [(batch.number, batch.remaining) for batch in world.history()[-1].batches] == [(2, 20)]


def test_the_new_balance_is_what_can_be_spent(world: World) -> None:
    world.subscribe("1")
    world.grant("1", 50, "a")
    holds.hold_credits(world.services, "1", 20, "Crawl", seconds=60, caller="shop", key="h")
    assert [world.grant("1", amount, str(amount))["new_balance"] for amount in (5, -10)] == [35, 25]


def test_a_claw_back_that_succeeded_is_replayed_even_when_the_credits_are_gone(
    world: World,
) -> None:
    world.subscribe("1")
    world.grant("1", 50, "a")
    first = world.grant("1", -50, "b")
    assert first["new_balance"] == 0
    assert world.grant("1", -50, "b") == first
    assert len(world.history()) == 2


def test_a_refusal_is_not_remembered(world: World) -> None:
    world.subscribe("1")
    assert world.grant("1", -50, "a")["success"] is False
    world.grant("1", 50, "b")
    assert world.grant("1", -50, "a")["success"] is True


def test_a_grant_with_a_lifetime_expires_at_the_users_midnight(world: World) -> None:
    world.now = at("2026-05-18T08:00:00Z")
    world.subscribe("1", timezone="Europe/Paris")
    world.grant("1", 50, "a", expires_in_days=30)
    (entry,) = world.history()
    assert entry.batches[0].expires_at == at("2026-06-17T22:00:00Z")


# --- What earlier releases have written under ---------------------------------------------------

Performed = tuple[str, str, dict[str, Any]]
GRANTED_AT = at("2025-11-01T00:00:00Z")


@pytest.fixture
def performed(world: World, monkeypatch: pytest.MonkeyPatch) -> list[Performed]:
    """The operations from here on: whose, under which name, and what they ask for."""
    world.subscribe("1")
    world.grant("1", 100, "credits")
    ledger, found = world.services.ledger, list[Performed]()
    perform = ledger.perform

    def watched(
        user_id: str, operation: str, described: Any, decide: Any, *, dry_run: bool = False
    ) -> Any:
        found.append((user_id, operation, dict(described)))
        return perform(user_id, operation, described, decide, dry_run=dry_run)

    monkeypatch.setattr(ledger, "perform", watched)
    return found


GRANT = {
    "user_id": "1",
    "amount": 5,
    "reason": "Goodwill",  # now the description
    "actor": "ada",
    "expires_in_days": None,
}
CLAWED_BACK = {**GRANT, "amount": -5}
OPERATIONS: list[tuple[Callable[[Services], object], Performed]] = [
    (
        lambda services: adjust(
            services,
            Adjustment("1", 5, "Goodwill"),
            actor="ada",
            caller="lambda/manual-allocate",
            key="k",
        ),
        ("1", "manual#lambda/manual-allocate#k", GRANT),
    ),
    (
        lambda services: adjust(
            services,
            Adjustment("1", 5, "Goodwill", expires_in_days=9, notify=False),
            actor="ada",
            caller="c",
            key="k",
        ),
        ("1", "manual#c#k", {**GRANT, "expires_in_days": 9, "notify": False}),
    ),
    (
        lambda services: adjust(
            services,
            Adjustment("1", -5, "Goodwill", up_to_available=True),
            actor="ada",
            caller="c",
            key="k",
        ),
        ("1", "manual#c#k", {**CLAWED_BACK, "up_to_available": True}),
    ),
    (
        lambda services: on_request.use_credits(services, "1", 5, "é", caller="shop", key="k"),
        ("1", "usage#shop#k", {"user_id": "1", "amount": 5, "description": "é"}),
    ),
    (
        lambda services: on_request.void_batch(
            services, on_request.Void("1", 1, "Fraud", "ada", "c", "k", notify=False)
        ),
        (
            "1",
            "void#c#k",
            {
                "user_id": "1",
                "batch": 1,
                "reason": "Fraud",
                "actor": "ada",
                "caller": "c",
                "key": "k",
                "notify": False,
            },
        ),
    ),
    (
        lambda services: on_request.carry_over(
            services,
            on_request.CarryOver("1", 5, GRANTED_AT, at("2026-11-01T23:00:00Z"), "Old", "c", "k"),
        ),
        (
            "1",
            "manual#c#k",
            {
                "user_id": "1",
                "amount": 5,
                "granted_at": "2025-11-01T00:00:00Z",
                "expires_at": "2026-11-01T23:00:00Z",
                "description": "Old",
            },
        ),
    ),
]


@pytest.mark.parametrize(
    ("operate", "expected"), OPERATIONS, ids=[operation for _, (_, operation, _) in OPERATIONS]
)
def test_a_key_of_the_release_before_stays_the_key_of_its_request(
    world: World,
    performed: list[Performed],
    operate: Callable[[Services], object],
    expected: Performed,
) -> None:
    """Under another name it would be done again; with other words its key would be refused."""
    operate(world.services)
    assert performed == [expected]


def test_a_reversal_and_the_manual_function_keep_their_names_too(
    world: World, performed: list[Performed], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert world.grant("1", 5, "k")["success"]
    named = "manual#lambda/manual-allocate"
    assert performed == [("1", f"{named}#k", {**GRANT, "expires_in_days": NEVER})]
    # A claw-back has no lifetime, so null is what it was before null was a word for never.
    assert world.grant("1", -5, "j")["success"]
    assert performed[1:] == [("1", f"{named}#j", CLAWED_BACK)]
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(world.services.ledger, "reverse", lambda *its, **_: asked.append(its))
    on_request.reverse_usage(world.services, "1", "1-17", 3, "Oops", caller="shop", key="k")
    ((user_id, number, amount, request, now),) = asked
    assert (user_id, number, amount, now) == ("1", 17, 3, world.now)
    assert request == Request("reversal#shop#k", "shop", "Oops")


def test_a_user_is_told_of_an_adjustment_unless_it_is_silent(world: World) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
        world.grant(user_id, 9, f"{user_id}-a", notify=False)
        world.grant(user_id, 5, f"{user_id}-b")
    services = world.services
    for user_id, notify in (("1", True), ("2", False)):
        void = on_request.Void(user_id, 1, "Fraud", "ada", "c", user_id, notify=notify)
        on_request.void_batch(services, void)
    on_request.carry_over(
        services, on_request.CarryOver("3", 5, GRANTED_AT, None, "Old", "import/balances", "k")
    )
    silent = {user_id: [it.silent for it in world.history(user_id)] for user_id in ("1", "2", "3")}
    assert silent == {
        "1": [True, False, False],
        "2": [True, False, True],
        "3": [True, False, True],  # They had these credits elsewhere.
    }
