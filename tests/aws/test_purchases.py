"""Purchases and refunds over the API: a payment buys once, and its refunds stay within it."""

from typing import Any

from tests.aws.api import BACKEND, BILLING, Api, Caller, Reply
from tests.aws.world import World

PURCHASES = "/api/credits/purchases"
REFUNDS = "/api/credits/refunds"

PACK: dict[str, Any] = {"user_id": "1", "amount": 500, "payment_id": "pi_1"}


def buy(api: Api, caller: Caller = BILLING, **more: object) -> Reply:
    return api.post(PURCHASES, caller, {**PACK, **more})


def refund(api: Api, amount: int, caller: Caller = BILLING, **more: object) -> Reply:
    body = {"payment_id": "pi_1", "amount": amount, "reason": "Asked for it", **more}
    return api.post(REFUNDS, caller, body)


def came_to(reply: Reply) -> tuple[int, int, int, int]:
    """What was taken, given back and is unrecovered, and the balance after it."""
    assert reply.status == 200, reply.text
    found = reply.json
    return found["taken"], found["given_back"], found["unrecovered"], found["new_balance"]


def use(api: Api, amount: int, key: str = "u") -> None:
    body = {"user_id": "1", "amount": amount, "description": "Export"}
    assert api.post("/api/credits/use", BACKEND, body, key=key).status == 200


def test_a_payment_buys_credits_that_never_expire_whatever_the_plan_says(
    world: World, api: Api
) -> None:
    world.subscribe(plan="starter")
    reply = buy(api)
    assert reply.json == {
        "success": True,
        "new_balance": 500,
        "transaction_id": "1-1",
        "batch_id": "1-1",
    }
    (batch,) = api.get("/api/credits/balance?user_id=1", BILLING).json["batches"]
    assert (batch["source"], batch["priority"], batch["expires_at"]) == ("purchase", 60, None)


def test_a_refund_takes_what_is_left_and_a_won_dispute_gives_back_what_was_taken(
    world: World, api: Api
) -> None:
    world.subscribe()
    buy(api)
    use(api, 450)
    assert came_to(refund(api, 300)) == (50, 0, 250, 0)
    assert came_to(refund(api, 300)) == (50, 0, 250, 0)
    assert came_to(refund(api, 0)) == (0, 50, 0, 50)
    assert world.summary() == [
        ("purchase", 500, 500),
        ("usage", -450, 50),
        ("refund", -50, 0),
        ("refund", 50, 50),
    ]
    world.services.ledger.audit("1")
