"""Purchases and refunds over the API: a payment buys once, and its refunds stay within it."""

from datetime import timedelta
from typing import Any

import pytest

from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.prices import Price
from chalicelib.domain.verification import Link
from chalicelib.operations import purchases
from chalicelib.operations.purchases import Purchase
from infra.repair import erase, export
from tests.aws.api import ADMIN, BACKEND, BILLING, Api, Caller, Reply, user
from tests.aws.repair import Terminal
from tests.aws.test_api_holds import racing
from tests.aws.test_mails import tell
from tests.aws.test_store import asked, at_http, lost_once
from tests.aws.world import World, at, client

PURCHASES = "/api/credits/purchases"
REFUNDS = "/api/credits/refunds"
HISTORY = "/api/credits/history?user_id=1"

PACK: dict[str, Any] = {"user_id": "1", "amount": 500, "payment_id": "pi_1"}


@pytest.fixture
def sold(world: World, api: Api) -> World:
    """A world in which user 1 has bought 500 credits."""
    world.subscribe()
    assert buy(api).status == 200
    return world


def buy(api: Api, caller: Caller = BILLING, **more: object) -> Reply:
    return api.post(PURCHASES, caller, {**PACK, **more})


def refund(api: Api, amount: int, caller: Caller = BILLING, **more: object) -> Reply:
    body = {"payment_id": "pi_1", "amount": amount, "description": "Asked for it", **more}
    return api.post(REFUNDS, caller, body)


def came_to(reply: Reply) -> tuple[int, int, int, int]:
    """What was taken, given back and is unrecovered, and the balance after it."""
    assert reply.status == 200, reply.text
    found = reply.json
    return found["taken"], found["given_back"], found["unrecovered"], found["new_balance"]


def use(api: Api, amount: int, key: str = "u") -> str:
    body = {"user_id": "1", "amount": amount, "description": "Export"}
    name: str = api.post("/api/credits/use", BACKEND, body, key=key).json["transaction_id"]
    return name


def refused(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["code"]


def fields(reply: Reply) -> list[str]:
    assert reply.status == 400, reply.text
    return [error["field"] for error in reply.json["errors"]]


def assert_replayed(again: Reply, first: Reply) -> None:
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.status, again.json) == (200, first.json)


# --- Purchases ----------------------------------------------------------------------------------


def test_a_payment_buys_credits_that_never_expire_whatever_the_plan_says(
    world: World, api: Api
) -> None:
    world.subscribe(plan="starter")
    assert buy(api).json == {
        "success": True,
        "new_balance": 500,
        "transaction_id": "1-1",
        "batch_id": "1-1",
    }
    assert world.history()[0].description == "Credits bought"
    assert buy(api, payment_id="pi_2", expires_in_days=None, priority=0).status == 200
    assert buy(api, payment_id="pi_3", expires_in_days=30).status == 200
    batches = api.get("/api/credits/balance?user_id=1", BILLING).json["batches"]
    assert [(it["batch_id"], it["priority"], it["source"], it["expires_at"]) for it in batches] == [
        ("1-2", 0, "purchase", None),
        ("1-1", 60, "purchase", None),
        ("1-3", 60, "purchase", "2026-02-14T23:00:00Z"),
    ]
    world.services.ledger.audit("1")


def test_the_history_says_what_was_bought_by_which_payment_for_how_much(
    world: World, api: Api
) -> None:
    world.subscribe()
    more: dict[str, Any] = {"description": "Pack of 500", "metadata": {"order": "77"}}
    buy(api, price={"amount": 4900, "currency": "eur"}, **more)
    (item,) = api.get(f"{HISTORY}&type=purchase", user()).json["items"]
    assert {name: item[name] for name in ("type", "amount", "description", "actor")} == {
        "type": "purchase",
        "amount": 500,
        "description": "Pack of 500",
        "actor": "till",
    }
    assert (item["payment_id"], item["price"]) == ("pi_1", {"amount": 4900, "currency": "EUR"})
    assert (item["refunded_amount"], item["unrecovered_amount"]) == (None, None)
    assert item["metadata"] == {"order": "77"}
    csv = api.get(HISTORY, user(), headers={"Accept": "text/csv"}).text
    heads, values = (line.split(",") for line in csv.splitlines())
    row = dict(zip(heads, values, strict=False))
    assert (row["payment_id"], row["price"], row["refunded_amount"]) == ("pi_1", "4900 EUR", "")


def test_a_payment_buys_once_for_all_reporters_and_wordings(sold: World, api: Api) -> None:
    first = api.post(PURCHASES, BILLING, {**PACK, "payment_id": "pi_9"})
    other = Caller("stripe", "", "credits:billing")
    for again in (
        buy(api, payment_id="pi_9"),
        buy(api, other, payment_id="pi_9", description="Checkout", expires_in_days=5),
        buy(api, ADMIN, payment_id="pi_9", price={"amount": 1, "currency": "USD"}, priority=1),
    ):
        assert_replayed(again, first)
    webhook = Purchase("1", 500, "pi_9", price=Price(4900, "EUR"))
    outcome = purchases.buy(sold.services, webhook, actor="webhook")
    assert (outcome.replayed, outcome.entry.transaction_id) == (True, "1-2")
    assert sold.summary() == [("purchase", 500, 500), ("purchase", 500, 1000)]


@pytest.mark.parametrize("changed", [{"amount": 499}, {"user_id": "2"}, {"user_id": "unknown"}])
def test_a_payment_for_another_user_or_amount_is_refused_by_its_name(
    sold: World, api: Api, changed: dict[str, Any]
) -> None:
    sold.subscribe("2")
    before = sold.lines()
    reply = buy(api, **changed)
    assert refused(reply) == (422, "idempotency_key_reused")
    assert reply.json["detail"] == (
        "payment_id: payment 'pi_1' has bought another amount, or for another user; "
        "a payment buys once"
    )
    assert sold.lines() == before


def test_what_was_paid_for_is_not_capped_by_the_plan_and_has_a_bound_of_its_own(
    sold: World, api: Api
) -> None:
    assert buy(api, payment_id="pi_2", amount=1_000_000_000).status == 200
    assert fields(buy(api, payment_id="pi_3", amount=1_000_000_001)) == ["amount"]
    assert len(sold.history()) == 2


def test_a_wrong_purchase_is_told_every_field_and_changes_nothing(sold: World, api: Api) -> None:
    before = sold.lines()
    wrong = {"amount": 0, "price": {"amount": -1}, "priority": 101, "expires_in_days": 0, "x": 1}
    assert sorted(fields(api.post(PURCHASES, BILLING, wrong))) == [
        *("amount", "expires_in_days", "payment_id", "price.amount", "price.currency"),
        *("priority", "user_id", "x"),
    ]
    for payment_id in ("", "pi 1", "pi\n", "ä", "p" * 256, 5):
        assert fields(buy(api, payment_id=payment_id)) == ["payment_id"]
    assert refused(buy(api, user_id="nobody", payment_id="pi_2")) == (404, "not_found")
    for caller in (BACKEND, user()):
        assert refused(buy(api, caller, payment_id="pi_2")) == (403, "forbidden")
        assert refused(refund(api, 1, caller)) == (403, "forbidden")
    assert sold.lines() == before


@pytest.mark.parametrize("payment_id", ["#", "a#b#c", "!" * 255, "operation#x"])
def test_any_visible_name_of_a_payment_is_its_own(sold: World, api: Api, payment_id: str) -> None:
    first = buy(api, payment_id=payment_id)
    assert_replayed(buy(api, payment_id=payment_id), first)
    assert came_to(refund(api, 500, payment_id=payment_id)) == (500, 0, 0, 500)
    assert sold.history()[1].payment_id == payment_id
    sold.services.ledger.audit("1")


def test_of_one_payment_by_two_routes_at_once_one_buys(
    sold: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: list[Reply] = []
    again = Caller("stripe", "", "credits:billing")
    racing(sold, monkeypatch, lambda: replies.append(buy(api, again, payment_id="pi_2")))
    assert_replayed(buy(api, payment_id="pi_2"), replies[0])
    assert len(sold.history()) == 2


def test_of_one_payment_for_two_users_at_once_one_buys(
    sold: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    sold.subscribe("2")
    racing(sold, monkeypatch, lambda: buy(api, user_id="2", payment_id="pi_2"))
    assert refused(buy(api, payment_id="pi_2")) == (422, "idempotency_key_reused")
    assert (len(sold.history("1")), len(sold.history("2"))) == (1, 1)


def test_a_purchase_and_a_refund_whose_answers_were_lost_are_there_once(
    sold: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_http(sold, patch, "ExecuteTransaction", lost_once(patch))
        assert buy(api, payment_id="pi_2").json["transaction_id"] == "1-2"
    with monkeypatch.context() as patch:
        at_http(sold, patch, "ExecuteTransaction", lost_once(patch))
        assert came_to(refund(api, 200)) == (200, 0, 0, 800)
    assert [amount for _, amount, _ in sold.summary()] == [500, 500, -200]


# --- Refunds ------------------------------------------------------------------------------------


def test_a_refund_takes_what_is_left_and_a_won_dispute_gives_back_what_was_taken(
    sold: World, api: Api
) -> None:
    use(api, 450)
    first = refund(api, 300)
    assert first.json == {
        "success": True,
        "transaction_id": "1-3",
        "taken": 50,
        "given_back": 0,
        "expired_amount": 0,
        "unrecovered": 250,
        "new_balance": 0,
    }
    again = {"payment_id": "pi_1", "amount": 300, "reason": "In another word"}
    assert_replayed(api.post(REFUNDS, BILLING, again), first)
    assert came_to(refund(api, 0, ADMIN, dry_run=False)) == (0, 50, 0, 50)
    assert sold.summary() == [
        ("purchase", 500, 500),
        ("usage", -450, 50),
        ("refund", -50, 0),
        ("refund", 50, 50),
    ]
    won, lost, *_ = api.get(f"{HISTORY}&type=refund", BILLING).json["items"]
    assert (lost["refunded_amount"], lost["unrecovered_amount"]) == (300, 250)
    assert (won["refunded_amount"], won["unrecovered_amount"]) == (0, 0)
    assert {won["payment_id"], lost["payment_id"]} == {"pi_1"}
    assert (lost["description"], lost["actor"]) == ("Asked for it", "till")
    csv = api.get(HISTORY, user(), headers={"Accept": "text/csv"}).text
    assert ",pi_1,,300,250," in csv
    sold.services.ledger.audit("1")


def test_what_cannot_be_given_back_because_it_has_expired_is_told_and_told_again(
    world: World, api: Api
) -> None:
    world.subscribe()
    buy(api, expires_in_days=1)
    assert came_to(refund(api, 200)) == (200, 0, 0, 300)
    world.expire_at("2026-01-16T23:00:00Z")
    first = refund(api, 50)
    assert came_to(first) == (0, 0, 0, 0)
    assert first.json["expired_amount"] == 150
    assert_replayed(refund(api, 50), first)
    assert [amount for _, amount, _ in world.summary()] == [500, -200, -300, 0]
    world.services.ledger.audit("1")


def test_what_was_clawed_back_or_voided_is_not_there_for_a_refund(sold: World, api: Api) -> None:
    back = {"user_id": "1", "amount": -100, "description": "Mistake"}
    api.post("/api/credits/allocate", ADMIN, back, key="c")
    assert came_to(refund(api, 450)) == (400, 0, 50, 0)
    sold.services.ledger.audit("1")


def test_a_reversal_gives_back_to_the_batch_that_was_bought_after_a_refund(
    sold: World, api: Api
) -> None:
    usage = use(api, 300)
    assert came_to(refund(api, 500)) == (200, 0, 300, 0)
    reverse = {"user_id": "1", "transaction_id": usage, "amount": 100, "description": "Failed"}
    assert api.post("/api/credits/reverse", BACKEND, reverse, key="r").json["batches"] == [
        {"batch_id": "1-1", "amount": 100}
    ]
    assert came_to(refund(api, 100)) == (0, 100, 0, 200)
    sold.services.ledger.audit("1")


def test_a_refund_leaves_other_credits_and_what_is_held(sold: World, api: Api) -> None:
    sold.grant("1", 50, "gift")
    body = {"user_id": "1", "amount": 150, "description": "Job"}
    api.post("/api/credits/holds", BACKEND, body, key="h")
    assert came_to(refund(api, 500)) == (400, 0, 100, 0)
    assert sold.services.ledger.account("1").ledger_balance == 150


def test_reports_that_come_out_of_order_do_no_harm(sold: World, api: Api) -> None:
    def seen(hour: int) -> dict[str, Any]:
        return {"observed_at": f"2026-01-15T{hour:02}:00:00Z"}

    assert came_to(refund(api, 0, **seen(11))) == (0, 0, 0, 500)
    late = refund(api, 500, **seen(10))
    assert refused(late) == (422, "outdated_edit")
    assert "observed at 2026-01-15T11:00:00Z" in late.json["detail"]
    assert fields(refund(api, 500, observed_at="2026-01-15T12:05:00.251Z")) == ["observed_at"]
    assert came_to(refund(api, 100, observed_at="2026-01-15T12:05:00.250Z")) == (100, 0, 0, 400)
    assert len(sold.history()) == 3


def test_of_two_refunds_at_once_one_decides_again(
    sold: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    racing(sold, monkeypatch, lambda: refund(api, 100))
    assert came_to(refund(api, 150)) == (50, 0, 0, 350)
    replies: list[Reply] = []
    racing(sold, monkeypatch, lambda: replies.append(refund(api, 200)))
    assert_replayed(refund(api, 200), replies[0])
    racing(sold, monkeypatch, lambda: use(api, 250))
    assert came_to(refund(api, 500)) == (50, 0, 250, 0)
    sold.services.ledger.audit("1")


def test_a_dispute_that_is_won_while_all_is_taken_finds_what_was_taken(
    sold: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The account is read before the refund, and how the purchase stands after it."""
    store = sold.services.ledger
    read = store._last_link

    def overtaken(*place: Any) -> Link:
        monkeypatch.setattr(store, "_last_link", read)
        refund(api, 500)
        return read(*place)

    monkeypatch.setattr(store, "_last_link", overtaken)
    assert came_to(refund(api, 100)) == (0, 400, 0, 400)
    assert [amount for _, amount, _ in sold.summary()] == [500, -500, 400]
    sold.services.ledger.audit("1")


def test_a_wrong_refund_is_told_every_field_and_changes_nothing(sold: World, api: Api) -> None:
    before = sold.lines()
    wrong = {"amount": -1, "observed_at": "yesterday", "user_id": "1"}
    assert sorted(fields(api.post(REFUNDS, BILLING, wrong))) == [
        *("amount", "description", "observed_at", "payment_id", "user_id"),
    ]
    assert fields(refund(api, 1_000_000_001)) == ["amount"]
    reply = refund(api, 501)
    assert refused(reply) == (422, "not_allowed")
    assert reply.json["detail"] == "the payment bought 500 credits; 501 of them cannot be refunded"
    unknown = refund(api, 1, payment_id="pi_2")
    assert refused(unknown) == (404, "not_found")
    assert unknown.json["detail"] == "there is no purchase of payment 'pi_2'"
    assert sold.lines() == before


def test_what_a_purchase_and_a_refund_ask_of_the_table(
    sold: World, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = asked(sold, monkeypatch)
    buy(api, payment_id="pi_2")
    assert [name for name, _ in calls] == ["Query", "GetItem", "ExecuteTransaction"]
    calls.clear()
    refund(api, 100)
    assert [name for name, _ in calls] == ["GetItem", "Query", "Query", "ExecuteTransaction"]
    assert len(calls[-1][1]["TransactStatements"]) == 2
    assert all(arguments.get("ConsistentRead", True) for _, arguments in calls)


# --- Emails -------------------------------------------------------------------------------------


def test_users_are_told_of_what_they_bought_and_of_what_a_refund_moved(
    sold: World, api: Api
) -> None:
    buy(api, payment_id="pi_2", amount=1, description="One <b>", expires_in_days=30)
    use(api, 450)
    for amount in (200, 250, 0):
        refund(api, amount)
    assert tell(sold) == []
    bought, one, taken, back = sold.outbox.sent
    assert (bought.kind, bought.subject) == ("purchase", "Your 500 credits are here")
    assert "Payment: pi_1" in bought.text
    assert "They do not expire." in bought.text
    assert "It is not an invoice." in bought.html
    assert one.subject == "Your 1 credit is here"
    assert "Use it through 14 February." in one.text
    assert "One &lt;b&gt;" in one.html
    assert (taken.kind, taken.subject) == ("refund", "50 credits taken back after a refund")
    assert "Asked for it" in taken.text
    assert back.subject == "50 credits given back"
    assert tell(sold) == []
    assert len(sold.outbox.sent) == 4


def test_users_may_do_without_such_emails(sold: World, api: Api) -> None:
    sold.subscribe(notifications=["refund"])
    buy(api, payment_id="pi_2")
    refund(api, 100)
    assert tell(sold) == []
    assert [mail.kind for mail in sold.outbox.sent] == ["refund"]


# --- Audits, exports and erasures ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"reversed_in_all": {"N": "99"}}, "the links of its refunds do not agree"),
        ({"number": {"N": "1"}}, "the links of its refunds do not agree"),
        ({"expired": {"N": "1"}}, "the links of its refunds do not agree"),
        ({"expired": {"S": "1"}}, "expired is not of type N"),
        ({"number": {"N": "-1"}}, "number is negative"),
    ],
)
def test_a_link_of_a_refund_that_was_tampered_with_is_found(
    sold: World, api: Api, change: dict[str, Any], reason: str
) -> None:
    refund(api, 100)
    sold.services.ledger.audit("1")
    (link,) = [line for line in sold.lines() if line["entry"]["S"].startswith("reversal#")]
    client("dynamodb").put_item(TableName=sold.settings.ledger_table, Item={**link, **change})
    with pytest.raises(LedgerCorrupt, match=reason):
        sold.services.ledger.audit("1")


@pytest.mark.parametrize("kind", ["reversal#", "operation"])
def test_a_refund_without_its_link_and_a_purchase_without_its_marker_are_found(
    sold: World, api: Api, kind: str
) -> None:
    refund(api, 100)
    (item,) = [line for line in sold.lines() if line["entry"]["S"].startswith(kind)]
    key = {name: item[name] for name in ("user_id", "entry")}
    client("dynamodb").delete_item(TableName=sold.settings.ledger_table, Key=key)
    with pytest.raises(LedgerCorrupt, match="user 1, entry 1: "):
        sold.services.ledger.audit("1")


@pytest.mark.usefixtures("sold")
def test_an_export_has_the_payment_its_price_and_its_refunds(api: Api, terminal: Terminal) -> None:
    buy(api, payment_id="pi_2", price={"amount": 4900, "currency": "EUR"})
    refund(api, 100, observed_at="2026-01-15T12:00:00.250Z")
    exported = terminal.run(export.main, "--user-id", "1").facts
    _, bought, refunded = [line["entry"] for line in exported["ledger"]]
    assert (bought["operation"], bought["price"]) == ("purchase#pi_2", [4900, "EUR"])
    assert refunded["refund"] == [1, 100, 0, 1768478400250]
    (link,) = exported["reversals"]
    assert (link["reversed_in_all"], link["number"]) == (100, 3)
    assert sorted(marker["number"] for marker in exported["markers"]) == [1, 2]


def test_an_erasure_takes_the_payment_and_it_is_still_refunded(
    sold: World, api: Api, terminal: Terminal
) -> None:
    buy(api, payment_id="pi_grace", description="For Grace", metadata={"name": "grace"})
    first = refund(api, 100, payment_id="pi_grace", description="Grace asked")
    assert terminal.run(erase.main, "--user-id", "1", "--yes").status == 0
    assert "grace" not in str(sold.lines()).lower()
    sold.services.ledger.audit("1")
    bought = api.get(f"{HISTORY}&type=purchase", ADMIN).json["items"][0]
    assert (bought["payment_id"], bought["amount"]) == (None, 500)
    assert_replayed(refund(api, 100, payment_id="pi_grace"), first)
    assert came_to(refund(api, 500)) == (500, 0, 0, 400)
    assert buy(api, payment_id="pi_grace").headers["idempotency-replayed"] == "true"
    assert refused(buy(api, payment_id="pi_new")) == (404, "not_found")
    sold.services.ledger.audit("1")


def test_bought_credits_can_be_spent_to_the_last_after_those_of_the_plan(
    world: World, api: Api
) -> None:
    world.now = at("2026-01-15T12:00:00.250Z")
    world.subscribe()
    buy(api)
    world.now += timedelta(minutes=1)
    world.grant("1", 100, "plan")
    use(api, 550)
    assert [leg.batch for leg in world.history()[-1].legs] == [2, 1]
