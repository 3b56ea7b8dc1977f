"""The stores by themselves: what is asked for again, what is refused, what is kept for how long."""

import json
import random
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from typing import Any

import pytest

from chalicelib import metrics
from chalicelib.domain import entries
from chalicelib.domain import ledger as domain
from chalicelib.domain.addresses import digest_of
from chalicelib.domain.entries import EntryType, LedgerEntry, UsageItem
from chalicelib.domain.errors import (
    Contention,
    IdempotencyKeyReused,
    InsufficientCredits,
    InvalidInput,
    LedgerCorrupt,
    NotAllowed,
    NotFound,
    Unreadable,
)
from chalicelib.domain.ledger import Account, Request
from chalicelib.domain.lifetimes import Days
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.ranges import Range
from chalicelib.domain.subscriptions import (
    Subscription,
    SuppressedBecause,
    Suppression,
    suppress,
)
from chalicelib.mails.errors import MailInDoubt, MailsUnrecorded
from chalicelib.messages.work import UsersMessage
from chalicelib.metrics import Metric
from chalicelib.observability import correlated
from chalicelib.retries import MOST_ATTEMPTS
from chalicelib.store.database import text
from chalicelib.store.edits import read_edit
from chalicelib.store.errors import OutOfTime
from chalicelib.store.ledger import (
    Draft,
    Inserted,
    LedgerStore,
    ManyPerformed,
    Outcome,
    Performed,
    draft,
    fingerprint,
)
from chalicelib.store.ledger_items import read_entry
from chalicelib.store.mails import MailRecords, read_mail, record_id
from chalicelib.store.partiql import cancelled_for, insert_into, is_lost_race
from chalicelib.store.subscriptions import SubscriptionStore, new_edit_id, readable
from chalicelib.store.throttling import patient
from chalicelib.store.wire.errors import ServiceError
from tests import wire as wires
from tests.aws.world import BY_TEST, World, at, client

DAY = 24 * 60 * 60


@pytest.fixture
def pauses() -> list[int]:
    return []


@pytest.fixture
def mails(world: World, pauses: list[int]) -> MailRecords:
    return MailRecords(world.services.dynamodb, "credits-dev-mails", pauses.append)


def asked(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """The calls to DynamoDB from now on, by name and arguments."""
    dynamodb = world.services.dynamodb
    original = dynamodb.call
    calls: list[tuple[str, Any]] = []

    def call(name: str, arguments: Any) -> Any:
        calls.append((name, arguments))
        return original(name, arguments)

    monkeypatch.setattr(dynamodb, "call", call)
    return calls


def answering(
    world: World, monkeypatch: pytest.MonkeyPatch, operation: str, change: Callable[[Any], None]
) -> None:
    """From now on DynamoDB's answers to an operation are changed before anybody sees them."""
    dynamodb = world.services.dynamodb
    original = dynamodb.call

    def call(name: str, arguments: Any) -> Any:
        response = original(name, arguments)
        if name == operation:
            change(response)
        return response

    monkeypatch.setattr(dynamodb, "call", call)


def at_http(
    world: World, monkeypatch: pytest.MonkeyPatch, operation: str, meddle: Callable[[Any], None]
) -> None:
    """From now on something happens to an operation on the wire, once DynamoDB has done it.

    A fault of the network that is raised there, makes the wire ask again.
    """
    wires.meet(monkeypatch, world.services.dynamodb.transport, operation, meddle)


def lost_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Loses one answer."""

    def lose(_: Any) -> None:
        monkeypatch.undo()
        raise wires.silence()

    return lose


def test_what_decides_is_read_strongly_consistent(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 1)
    world.subscribe("1")
    calls = asked(world, monkeypatch)
    world.services.subscriptions.find("1")
    world.services.subscriptions.get_many(["1"], consistent=True)
    world.services.ledger.account("1")
    world.services.ledger.entry("1", 1)
    world.services.ledger.entries([("1", 1)])
    for name, arguments in calls:
        reads = [*arguments.get("RequestItems", {}).values()] or [arguments]
        assert [read["ConsistentRead"] for read in reads] == [True], name
    assert calls[2][1]["Limit"] == 1, "however long the ledger"
    assert [name for name, _ in calls] == [
        "GetItem",
        "BatchGetItem",
        "Query",
        "GetItem",
        "BatchGetItem",
    ]
    calls.clear()
    world.services.subscriptions.get_many(["1"])  # half the cost, for what may lag behind
    (request,) = calls[0][1]["RequestItems"].values()
    assert not request.get("ConsistentRead")


# --- Emails ---------------------------------------------------------------------------------------


def test_what_was_sent_is_answered_and_not_sent_again(mails: MailRecords) -> None:
    sent: list[str] = []

    def send() -> dict[str, Any]:
        sent.append("mail")
        return {"message_id": "m-1"}

    assert mails.once("allocation 42-1", send) == {"message_id": "m-1"}
    assert mails.once("allocation 42-1", send) == {"message_id": "m-1"}
    assert len(sent) == 1
    mails.once("allocation 42-2", send)
    assert len(sent) == 2


def test_an_email_that_certainly_failed_can_be_sent_and_one_in_doubt_never_again(
    mails: MailRecords,
) -> None:
    def refuse() -> dict[str, Any]:
        raise LookupError("no such address")

    def lose() -> dict[str, Any]:
        raise MailInDoubt("no answer")

    with pytest.raises(LookupError):
        mails.once("manual 42-1", refuse)
    with pytest.raises(MailInDoubt, match="no answer"):
        mails.once("manual 42-1", lose)
    with pytest.raises(MailInDoubt, match=r"^another sender is at it, or died over it$"):
        mails.once("manual 42-1", refuse)


def test_a_record_is_kept_for_ninety_days_and_is_in_progress_for_as_long(
    mails: MailRecords,
) -> None:
    def lose() -> dict[str, Any]:
        raise MailInDoubt("no answer")

    mails.once("manual 42-1", lambda: {"message_id": "m-1"})
    with pytest.raises(MailInDoubt):
        mails.once("manual 42-2", lose)

    found = mails.find(["manual 42-1", "manual 42-2", "manual 42-3"])
    done, doubtful = (read_mail(identity, item) for identity, item in sorted(found.items()))
    assert (done.identity, done.status) == ("manual 42-1", "COMPLETED")
    assert done.said == {"message_id": "m-1"}
    assert (doubtful.identity, doubtful.status, doubtful.said) == ("manual 42-2", "INPROGRESS", {})
    key = {"id": {"S": record_id("manual 42-2")}}
    item = client("dynamodb").get_item(TableName="credits-dev-mails", Key=key)["Item"]
    until = time.time() + 90 * DAY
    assert int(item["in_progress_expiration"]["N"]) == pytest.approx(1000 * until, abs=60_000)
    for record in (done, doubtful):
        assert record.kept_until.timestamp() == pytest.approx(until, abs=60)


def test_a_record_that_cannot_be_read_is_named_and_its_email_not_sent(mails: MailRecords) -> None:
    mails.once("manual 42-1", dict)
    client("dynamodb").update_item(
        TableName="credits-dev-mails",
        Key={"id": {"S": record_id("manual 42-1")}},
        UpdateExpression="SET expiration = :wrong",
        ExpressionAttributeValues={":wrong": {"N": "99999999999999"}},
    )
    with pytest.raises(Unreadable, match="expiration "):
        mails.once("manual 42-1", dict)


def test_records_that_are_left_out_are_asked_for_again_and_nobody_asks_for_none(
    world: World, mails: MailRecords, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    mails.once("manual 42-1", dict)
    mails.once("manual 42-2", dict)
    left_out = [2, 1]

    def leave_out(response: Any) -> None:
        if left_out:
            found = response["Responses"]["credits-dev-mails"]
            rest = found[-left_out.pop() :]
            del found[-len(rest) :]
            keys = [{"id": item["id"]} for item in rest]
            response["UnprocessedKeys"] = {"credits-dev-mails": {"Keys": keys}}

    answering(world, monkeypatch, "BatchGetItem", leave_out)
    found = mails.find(["manual 42-1", "manual 42-2"])
    assert sorted(found) == ["manual 42-1", "manual 42-2"]
    assert pauses == [1, 2]
    assert mails.find([]) == {}


def test_records_that_are_always_left_out_are_reported(
    world: World, mails: MailRecords, pauses: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave_out(response: Any) -> None:
        response["Responses"] = {}
        keys = [{"id": {"S": record_id("manual 42-1")}}]
        response["UnprocessedKeys"] = {"credits-dev-mails": {"Keys": keys}}

    answering(world, monkeypatch, "BatchGetItem", leave_out)
    with pytest.raises(Contention, match=r"^1 records of mails could not be read at the moment$"):
        mails.find(["manual 42-1"])
    assert pauses == list(range(1, MOST_ATTEMPTS))


def test_a_table_of_emails_that_does_not_answer_is_reported(world: World) -> None:
    mails = MailRecords(world.services.dynamodb, "no-such-table")
    with pytest.raises(MailsUnrecorded, match=r"^the table of emails failed: \S"):
        mails.once("manual 42-1", dict)


def test_a_record_that_is_refused_and_then_not_there_is_reported_and_no_email_is_sent(
    world: World, mails: MailRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    dynamodb = world.services.dynamodb
    original = dynamodb.call

    def call(name: str, arguments: Any) -> Any:
        if name == "PutItem":
            raise wires.refused(name, "ConditionalCheckFailedException")
        return original(name, arguments)

    monkeypatch.setattr(dynamodb, "call", call)
    sent: list[str] = []

    def send() -> dict[str, Any]:
        sent.append("it")
        return {}

    with pytest.raises(
        MailsUnrecorded,
        match=r"^the table of emails failed: "
        r"save_inprogress and get_record return inconsistent results\.$",
    ):
        mails.once("manual 42-1", send)
    assert sent == []


# --- Subscriptions --------------------------------------------------------------------------------


def test_a_subscription_is_kept_and_read_whole(world: World) -> None:
    store = world.services.subscriptions
    plain = world.subscribe("1")
    rich = world.subscribe(
        "2",
        allocation_amount=7,
        notifications=["manual", "allocation"],
        eligible_from="2026-02-03T04:05:06.789Z",
        status="paused",
    )
    assert store.get("1") == plain
    assert store.get("2") == rich
    found = store.get_many(["2", "1", "3", "2"], consistent=True)
    assert readable(found) == {"1": plain, "2": rich}
    with pytest.raises(KeyError):  # damage is passed over, and no other fault
        readable({"1": {}})
    assert store.find("3") is None
    with pytest.raises(NotFound, match=r"^there is no user 3$"):
        store.get("3")
    assert store.remove("1")
    assert not store.remove("1")
    assert store.find("1") is None


def test_a_subscription_is_stored_as_these_attributes(world: World) -> None:
    world.subscribe(
        "1",
        allocation_amount=7,
        notifications=["manual", "allocation", "low_balance", "purchase", "refund"],
        eligible_from="2026-02-03T04:05:06.789Z",
    )
    found = client("dynamodb").get_item(
        TableName="credits-dev-subscriptions", Key={"user_id": {"S": "1"}}
    )
    assert found["Item"] == {
        "user_id": {"S": "1"},
        "email": {"S": "user1@example.com"},
        "address": {"S": "b36a83701f1c3191e19722d6f90274bc1b5501fe69ebf33313e440fe4b0fe210"},
        "timezone": {"S": "Europe/Paris"},
        "allocation_timezone": {"S": "Europe/Paris"},
        "anniversary": {"S": "Europe/Paris#01"},
        "spread": {"S": "6b86b273#1"},
        "plan": {"S": "pro"},
        "billing_interval": {"S": "yearly"},
        "status": {"S": "active"},
        "started_at": {"N": "1735689600000"},
        "eligible_from": {"N": "1770091506789"},
        "allocation_amount": {"N": "7"},
        "unwanted_mails": {"S": "expiration expiring_soon"},
        "registered_at": {"N": "1768478400250"},
        "version": {"N": "1"},
    }


def test_what_an_edit_leaves_behind_is_kept_and_a_local_date_as_a_text(world: World) -> None:
    world.subscribe("1", eligible_from="2026-02-01", status="paused")
    world.now = at("2026-03-04T05:06:07.089Z")
    edited = world.subscribe(
        "1",
        status="active",
        ends_at="2027-01-01T00:00:00Z",
        observed_at="2026-03-04T05:06:07.008Z",
    )
    assert edited.resumed_at == world.now
    assert world.services.subscriptions.get("1") == edited
    found = client("dynamodb").get_item(
        TableName="credits-dev-subscriptions", Key={"user_id": {"S": "1"}}
    )["Item"]
    kept = ("eligible_from", "eligible_on", "resumed_at", "ends_at", "observed_at")
    assert {name: found[name] for name in kept} == {
        # Its midnight in Paris, for releases that know no local dates.
        "eligible_from": {"N": "1769900400000"},
        "eligible_on": {"S": "2026-02-01"},
        "resumed_at": {"N": "1772600767089"},
        "ends_at": {"N": "1798761600000"},
        "observed_at": {"N": "1772600767008"},
    }


def test_a_subscription_from_before_registrations_were_kept_is_read_and_edited(
    world: World,
) -> None:
    world.subscribe("1", eligible_from="2026-01-01T00:00:00Z")
    table = {"TableName": "credits-dev-subscriptions"}
    item = client("dynamodb").get_item(**table, Key={"user_id": {"S": "1"}})["Item"]
    del item["registered_at"]
    client("dynamodb").put_item(**table, Item=item)
    old = world.services.subscriptions.get("1")
    assert old.registered_at is None
    edited = world.subscribe("1", plan="starter", eligible_from=None)
    assert edited == replace(old, plan="starter", version=2)


def test_what_an_edit_left_of_an_address_is_read_as_it_was_written(world: World) -> None:
    world.subscribe("1", email="ada@example.com")
    world.services.subscriptions.change(
        "1",
        lambda present: suppress(_there(present), "ada@example.com", SuppressedBecause.COMPLAINT),
        BY_TEST,
        world.now,
    )
    away = world.subscribe("1", email=None)
    assert away.suppressed_before == Suppression(
        digest_of("ada@example.com"), SuppressedBecause.COMPLAINT
    )
    assert world.services.subscriptions.get("1") == away


def _there(present: Subscription | None) -> Subscription:
    assert present
    return present


def test_each_edit_has_a_short_name_of_its_own() -> None:
    names = {new_edit_id() for _ in range(10)}
    assert [len(name) for name in names] == [16] * 10


def test_many_subscriptions_are_read_at_half_the_price_unless_they_decide(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    calls = asked(world, monkeypatch)
    world.services.subscriptions.get_many(["1"])
    world.services.subscriptions.get_many(["1"], consistent=True)
    requests = [request for _, call in calls for request in call["RequestItems"].values()]
    assert [request.get("ConsistentRead", False) for request in requests] == [False, True]


def test_an_unknown_user_is_not_removed(world: World) -> None:
    assert world.services.subscriptions.remove("nobody") is False


def test_a_failure_to_remove_a_subscription_is_not_taken_for_its_removal(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttle(_: Any) -> None:
        raise wires.refused("DeleteItem", "ThrottlingException")

    world.subscribe("1")
    answering(world, monkeypatch, "DeleteItem", throttle)
    with pytest.raises(ServiceError):
        world.services.subscriptions.remove("1")


def test_a_page_of_a_zone_is_the_last_if_dynamodb_says_so_however_short_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = world.now

    def empty(response: Any) -> None:
        response["Items"] = []
        response["LastEvaluatedKey"] = {"user_id": {"S": "1"}, "expiry_key": {"S": "key"}}

    assert world.services.subscriptions.users_of("Europe/Paris", None, 2) == ([], None)
    assert world.services.ledger.expiring("Europe/Paris", 1, now, now, None, 9) == ([], None, [])
    answering(world, monkeypatch, "Query", empty)
    assert world.services.subscriptions.users_of("Europe/Paris", None, 2) == ([], "1")
    assert world.services.ledger.expiring("Europe/Paris", 1, now, now, None, 9) == ([], "key", [])


def test_a_scan_that_dynamodb_ends_early_reaches_everybody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2", "3", "4", "5"):
        world.subscribe(user_id)
    answering(world, monkeypatch, "Scan", lambda answer: cut(answer, 1, "user_id"))
    assert sorted(world.services.subscriptions.scan("zzz", 3)) == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("most", [1, 2])
def test_edits_that_dynamodb_answers_in_pages_are_all_read_once_newest_first(
    world: World, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for plan in ("starter", "pro", "business"):
        world.subscribe("1", plan=plan)
    answering(world, monkeypatch, "Query", lambda answer: cut(answer, most, "user_id", "edit"))
    found = islice(world.services.edits.items("1"), 9)
    assert [read_edit(item).version for item in found] == [3, 2, 1]


def edits(world: World, user_id: str = "1") -> list[tuple[int, str, tuple[Any, ...]]]:
    """The version, the door and the changed fields of every recorded edit, oldest first."""
    page = world.services.edits.newest_first(user_id, None, 100)
    return [
        (edit.version, edit.editor.kind.value, tuple(change.field for change in edit.changes))
        for edit in map(read_edit, reversed(page.items))
    ]


def test_an_edit_that_was_made_under_a_lost_answer_is_made_and_recorded_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.services.subscriptions
    at_http(world, monkeypatch, "ExecuteTransaction", lost_once(monkeypatch))
    first = world.subscribe("1")
    assert store.get("1") == first
    at_http(world, monkeypatch, "ExecuteTransaction", lost_once(monkeypatch))
    second = world.subscribe("1", plan="starter")
    assert store.get("1") == second == replace(first, version=2, plan="starter")
    assert [edit[0] for edit in edits(world)] == [1, 2]


def test_an_edit_that_was_made_is_known_though_others_were_made_on_top(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.services.subscriptions
    others = world.restarted().subscriptions
    first = world.subscribe("1")
    seen: list[Subscription | None] = []

    def decide(present: Subscription | None) -> Subscription:
        seen.append(present)
        assert present
        return replace(present, version=present.version + 1, plan="starter")

    def lose(_: Any) -> None:
        monkeypatch.undo()
        for amount in range(1, 13):
            others.change(
                "1",
                lambda it, amount=amount: replace(  # type: ignore[misc]
                    it, version=it.version + 1, allocation_amount=amount
                ),
                BY_TEST,
                world.now,
            )
        raise wires.silence()

    at_http(world, monkeypatch, "ExecuteTransaction", lose)
    changed = store.change("1", decide, BY_TEST, world.now)
    assert seen == [first], "it was decided once"
    assert changed == replace(first, version=2, plan="starter")
    assert store.get("1").version == 14
    assert store.get("1").plan == "starter"
    assert [edit[0] for edit in edits(world)] == list(range(1, 15))


def test_an_edit_that_loses_a_race_is_decided_again_and_only_what_was_made_is_recorded(
    world: World,
) -> None:
    store = world.services.subscriptions
    first = world.subscribe("1")
    raced = [False]

    def decide(present: Subscription | None) -> Subscription:
        assert present
        if not raced[0]:
            raced[0] = True
            world.subscribe("1", email="new@example.com")
        return replace(present, version=present.version + 1, plan="starter")

    changed = store.change("1", decide, BY_TEST, world.now)
    assert changed == replace(first, version=3, plan="starter", email="new@example.com")
    assert edits(world)[1:] == [(2, "admin", ("email",)), (3, "admin", ("plan",))]


def test_an_edit_that_changes_nothing_is_not_recorded(world: World) -> None:
    world.subscribe("1")
    world.subscribe("1", plan="pro")
    assert [edit[0] for edit in edits(world)] == [1]


def test_an_edit_writes_no_attribute_that_it_does_not_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    calls = asked(world, monkeypatch)
    store = world.services.subscriptions
    address = "user1@example.com"
    store.change(
        "1",
        lambda present: suppress(present, address, SuppressedBecause.BOUNCE),  # type: ignore[arg-type]
        BY_TEST,
        world.now,
    )
    world.subscribe("1", email=None)
    statements = [
        each["Statement"] for _, asks in calls for each in asks.get("TransactStatements", ())
    ]
    insert = "INSERT INTO \"credits-dev-edits\" VALUE {'user_id': ?, 'edit': ?, 'body': ?}"
    update = 'UPDATE "credits-dev-subscriptions" SET "version" = ?'
    where = ' WHERE "user_id" = ? AND "version" = ?'
    gone = 'REMOVE "address" REMOVE "email" REMOVE "suppressed"'
    assert statements == [
        insert,
        f'{update} SET "suppressed" = ?{where}',
        insert,
        f'{update} SET "suppressed_before" = ? {gone}{where}',
    ]
    found = world.services.subscriptions.get("1")
    assert (found.version, found.email, found.suppressed) == (3, None, None)


@pytest.mark.parametrize(
    "reasons", [["ValidationError", "None"], ["ConditionalCheckFailed", "AccessDenied"]]
)
def test_an_edit_that_no_other_try_can_mend_is_a_failure(
    world: World, monkeypatch: pytest.MonkeyPatch, reasons: list[str]
) -> None:
    def cancel(_: Any) -> None:
        raise wires.cancelled(*reasons)

    answering(world, monkeypatch, "ExecuteTransaction", cancel)
    with pytest.raises(ServiceError):
        world.subscribe("1")


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError", "DuplicateItem"])
def test_an_edit_that_meets_others_under_way_or_has_no_room_is_made_again(
    world: World, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    dynamodb = world.services.dynamodb
    original = dynamodb.call
    left = ["ExecuteTransaction"]

    def call(name: str, arguments: Any) -> Any:
        if left and name == left[0]:
            left.clear()
            raise wires.cancelled("None", reason)
        return original(name, arguments)

    monkeypatch.setattr(dynamodb, "call", call)
    monkeypatch.setattr(world.services.subscriptions, "_pause", lambda _: None)
    assert world.subscribe("1").version == 1
    assert left == []
    assert [edit[0] for edit in edits(world)] == [1]


def test_an_edit_without_room_is_waited_for_as_long_as_there_is_time_and_a_race_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    monkeypatch.setattr("chalicelib.retries.MOST_ATTEMPTS", 5)
    store = world.restarted().subscriptions
    monkeypatch.setattr(store, "_pause", lambda _: None)

    def change() -> object:
        return store.change(
            "1",
            lambda present: replace(_there(present), version=2, plan="starter"),
            BY_TEST,
            world.now,
        )

    cancelling(world, monkeypatch, ["None", "ThrottlingError"])
    for left, pauses in ((60_000, [0.2, 0.4, 0.8]), (5_100, [])):
        with patient(iter((left, left, left, 0)).__next__, 5_000), pytest.raises(OutOfTime):
            change()
        assert slept == pytest.approx(pauses)
        slept.clear()
    with pytest.raises(Contention):
        change()
    cancelling(world, monkeypatch, ["None", "TransactionConflict"])
    with patient(lambda: 0, 5_000), pytest.raises(Contention):
        change()
    assert slept == []
    assert store.get("1").version == 1


def test_an_entry_that_was_posted_under_a_lost_answer_is_among_those_posted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_http(world, monkeypatch, "ExecuteStatement", lost_once(monkeypatch))
    wanted = iter(("a", "b"))

    def decide(account: Account) -> LedgerEntry | None:
        if account.next_number > 2:
            return None
        return domain.grant(account, 5, why(next(wanted)), world.now, "Europe/Paris", None)

    posted = world.services.ledger.post("1", decide)
    assert [entry.number for entry in posted] == [1, 2]
    assert posted == world.history()


def test_a_removal_whose_answer_was_lost_was_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    at_http(world, monkeypatch, "DeleteItem", lost_once(monkeypatch))
    assert world.services.subscriptions.remove("1")
    assert world.services.subscriptions.find("1") is None
    assert not world.services.subscriptions.remove("1")


def test_a_removal_waits_for_an_edit_that_is_just_being_written(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    pauses: list[int] = []
    monkeypatch.setattr(world.services.subscriptions, "_pause", pauses.append)
    failing(world, monkeypatch, "DeleteItem", "TransactionConflictException", "")
    assert world.services.subscriptions.remove("1")
    assert pauses == [1]
    assert world.services.subscriptions.find("1") is None


def test_a_removal_that_is_overtaken_by_an_edit_reads_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = world.subscribe("1")
    store, other = world.services.subscriptions, world.restarted().subscriptions
    monkeypatch.setattr(store, "_pause", lambda _: None)
    read = store._read
    reads = 0

    def overtaken(user_id: str) -> Any:
        nonlocal reads
        item = read(user_id)
        reads += 1
        if reads == 1:
            edited = replace(subscription, plan="Starter", version=2)
            other.change("1", lambda _: edited, BY_TEST, world.now)
        return item

    with monkeypatch.context() as late:
        late.setattr(store, "_read", overtaken)
        assert store.remove("1")
    assert (reads, store.find("1")) == (2, None)


def test_a_removal_that_another_eraser_overtakes_finds_it_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    store, other = world.services.subscriptions, world.restarted().subscriptions
    monkeypatch.setattr(store, "_pause", lambda _: None)
    read = store._read

    def overtaken(user_id: str) -> Any:
        item = read(user_id)
        if item is not None:
            other.remove(user_id)
        return item

    monkeypatch.setattr(store, "_read", overtaken)
    assert store.remove("1")
    assert not store.remove("1")


def test_a_removal_that_is_always_overtaken_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscription = world.subscribe("1")
    store, other = world.services.subscriptions, world.restarted().subscriptions
    monkeypatch.setattr(store, "_pause", lambda _: None)
    read = store._read

    def overtaken(user_id: str) -> Any:
        item = read(user_id) or {}
        edited = replace(subscription, version=int(item["version"]["N"]) + 1)
        other.change("1", lambda _: edited, BY_TEST, world.now)
        return item

    with monkeypatch.context() as late:
        late.setattr(store, "_read", overtaken)
        message = r"^the subscription of user 1 is edited too often at the moment$"
        with pytest.raises(Contention, match=message):
            store.remove("1")
    assert store.find("1") is not None


def test_a_cursor_behind_the_end_of_its_sweep_is_refused_and_dynamodb_is_not_asked(
    world: World,
) -> None:
    until = at("2026-03-01T00:00:00Z")
    key = "2026-03-02T00:00:00Z#1#1"
    with pytest.raises(InvalidInput) as refused:
        world.services.ledger.expiring("UTC", 1, until - timedelta(days=1), until, key, 9)
    (error,) = refused.value.errors
    assert error.field == "cursor"
    assert error.message == f"lies behind the sweep; is '{key}'"


def test_a_scan_reads_pages_of_user_ids_and_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    calls = asked(world, monkeypatch)
    assert sorted(world.services.subscriptions.scan("zzz", 2)) == ["1", "2", "3"]
    for _, arguments in calls:
        assert arguments["Limit"] == 2
        assert arguments["ProjectionExpression"] == "user_id"


def test_a_worker_inserts_twenty_five_entries_a_request_and_reads_a_hundred_at_a_time(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [str(number) for number in range(101)]
    for user_id in users:
        world.subscribe(user_id)
    calls = asked(world, monkeypatch)
    assert len(world.services.subscriptions.get_many(users)) == 101
    reads = [arguments["RequestItems"] for _, arguments in calls]
    assert [len(keys["Keys"]) for read in reads for keys in read.values()] == [100, 1]
    calls.clear()
    world.now = at("2026-01-31T23:00:00Z")
    body = UsersMessage(world.now, tuple(users[:26])).body()
    assert world.deliver("allocations", [body]) == []
    inserts = [a["Statements"] for name, a in calls if name == "BatchExecuteStatement"]
    assert [len(statements) for statements in inserts] == [25, 1]


@pytest.mark.parametrize("start", ["1", "2", "3"])
def test_a_scan_from_the_middle_of_the_table_comes_to_every_user_once(
    world: World, start: str
) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    found = list(world.services.subscriptions.scan(start, 2))
    assert sorted(found) == ["1", "2", "3"]
    assert found[-1] == start, "its own user comes last"


def test_a_subscription_is_read_as_it_was_written(world: World) -> None:
    store = world.services.subscriptions
    first = world.subscribe("1")
    later = (
        replace(first, version=2, suppressed=SuppressedBecause.COMPLAINT),
        replace(first, version=3, notifications=frozenset({MailKind.MANUAL})),
        replace(first, version=4, allocation_amount=7),
        replace(first, version=5, email=None),
    )
    for written in later:
        store.change("1", lambda _, written=written: written, BY_TEST, world.now)  # type: ignore[misc]
        assert store.get("1") == written


@pytest.mark.parametrize("version", [1, 2, 4])
def test_a_version_is_written_over_the_one_before_and_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    store = world.services.subscriptions
    monkeypatch.setattr(store, "_pause", lambda _: None)
    world.subscribe("1")
    second = world.subscribe("1", plan="starter")
    stale = replace(second, version=version, plan="business")
    with pytest.raises(Contention):
        store.change("1", lambda _: stale, BY_TEST, world.now)
    assert store.get("1") == second
    assert [edit[0] for edit in edits(world)] == [1, 2]


def test_the_users_of_a_zone_come_in_pages_and_only_those_who_are_active(world: World) -> None:
    for user_id in ("1", "2"):
        world.subscribe(user_id)
    world.subscribe("3", billing_interval="monthly")
    world.subscribe("4", status="paused")
    world.subscribe("5", timezone="UTC")
    store = world.services.subscriptions
    # In the order of what their ids are hashed to: 4e… 6b… d4…
    assert store.users_of("Europe/Paris", None, 2) == (["3", "1"], "1")
    assert store.users_of("Europe/Paris", "1", 2) == (["2"], None)
    assert store.users_of("Asia/Tokyo", None, 2) == ([], None)
    assert sorted(store.scan("zzz", 2)) == ["1", "2", "3", "4", "5"]


def test_the_users_of_an_anniversary_are_those_who_started_on_that_day_where_they_live(
    world: World,
) -> None:
    store = world.services.subscriptions
    late = "2025-05-14T23:30:00Z"  # the 15th in Paris
    world.subscribe("1", started_at=late)
    world.subscribe("2", started_at=late, billing_interval="monthly", plan="starter")
    world.subscribe("3", started_at=late, timezone="America/New_York")
    world.subscribe("4", started_at=late, status="paused")

    def users(timezone: str, day: int) -> list[str]:
        (page,) = store.pages_of(timezone, 10, day=day)
        return sorted(page.user_ids)

    assert users("Europe/Paris", 15) == ["1", "2"]
    assert users("America/New_York", 14) == ["3"]
    assert users("Europe/Paris", 14) == users("America/New_York", 15) == []
    first = store.users_of("Europe/Paris", None, 1, day=15)
    assert first.last_user_id == first.user_ids[0]
    second = store.users_of("Europe/Paris", first.last_user_id, 9, day=15)
    assert sorted([*first.user_ids, *second.user_ids]) == ["1", "2"]
    # Whatever moves the day moves the user, and nothing is left behind.
    world.subscribe("1", started_at="2025-05-31T12:00:00Z")
    world.subscribe("2", status="cancelled")
    world.subscribe("3", timezone="Europe/Paris")
    world.subscribe("4", status="active", started_at="2025-02-07T12:00:00Z")
    assert users("Europe/Paris", 15) == ["3"]
    assert users("Europe/Paris", 31) == ["1"]
    assert users("Europe/Paris", 7) == ["4"]
    assert users("America/New_York", 14) == []


def test_a_range_of_a_zone_has_those_whose_place_is_in_it_also_where_two_share_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"a": 0, "b": 2**30 - 1, "c": 2**30, "d": 2**30, "e": 2**31 - 1, "f": 2**31}
    places |= {"g": 2**32 - 1}
    monkeypatch.setattr("chalicelib.store.subscriptions.place_of", places.__getitem__)
    for user_id in places:
        world.subscribe(user_id)

    def users(bits: str) -> list[str]:
        found, after = [], None
        while True:
            page = world.services.subscriptions.users_of("Europe/Paris", after, 1, Range(bits))
            found += page.user_ids
            after = page.last_user_id
            if after is None:
                return found

    assert users("") == ["a", "b", "c", "d", "e", "f", "g"]
    assert (users("00"), users("01"), users("10"), users("11")) == (
        ["a", "b"],
        ["c", "d", "e"],
        ["f"],
        ["g"],
    )
    assert users("0") == ["a", "b", "c", "d", "e"]
    store = world.services.subscriptions
    assert store.users_of("Europe/Paris", "a", 9, Range("01")).user_ids == ["c", "d", "e"]
    with pytest.raises(InvalidInput, match="cursor: lies behind the range; is 'f'"):
        store.users_of("Europe/Paris", "f", 9, Range("01"))


def test_an_edit_that_leaves_a_user_in_their_zone_writes_nothing_to_the_index(
    world: World,
) -> None:
    def keys() -> tuple[str, str]:
        found = client("dynamodb").get_item(
            TableName="credits-dev-subscriptions", Key={"user_id": {"S": "1"}}
        )["Item"]
        return found["allocation_timezone"]["S"], found["spread"]["S"]

    world.subscribe("1")
    before = keys()
    world.subscribe("1", plan="starter", email="new@example.com")
    assert keys() == before == ("Europe/Paris", "6b86b273#1")


def test_subscriptions_that_are_left_out_are_asked_for_again_and_then_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[int] = []
    dynamodb = world.restarted().dynamodb
    store = SubscriptionStore(
        dynamodb, "credits-dev-subscriptions", lambda: world.services.edits, pauses.append
    )
    users = {user_id: world.subscribe(user_id) for user_id in ("1", "2")}
    table = "credits-dev-subscriptions"
    times = [1]

    def leave_out(response: Any) -> None:
        if times[0]:
            times[0] -= 1
            item = response["Responses"][table].pop()
            response["UnprocessedKeys"] = {table: {"Keys": [{"user_id": item["user_id"]}]}}
            if not response["Responses"][table]:
                del response["Responses"][table]

    answering(world, monkeypatch, "BatchGetItem", leave_out)
    assert readable(store.get_many(["1", "2"])) == users
    assert pauses == [1]
    times[0] = MOST_ATTEMPTS
    with pytest.raises(Contention, match=r"^1 subscriptions could not be read at the moment$"):
        store.get_many(["1"])
    assert pauses == [1, *range(1, MOST_ATTEMPTS)]


def test_losing_every_race_for_a_subscription_is_an_error_after_pauses(
    world: World,
) -> None:
    pauses: list[int] = []
    dynamodb = world.restarted().dynamodb
    store = SubscriptionStore(
        dynamodb, "credits-dev-subscriptions", lambda: world.services.edits, pauses.append
    )
    world.subscribe("1")
    plans = iter(["starter", "pro"] * MOST_ATTEMPTS)

    def decide(present: Any) -> Any:
        other = replace(present, plan=next(plans), version=present.version + 1)
        world.services.subscriptions.change("1", lambda _: other, BY_TEST, world.now)  # was faster
        return replace(present, plan="free", version=present.version + 1)

    with pytest.raises(Contention) as refused:
        store.change("1", decide, BY_TEST, world.now)
    assert str(refused.value) == "the subscription of user 1 is edited too often at the moment"
    assert pauses == list(range(1, MOST_ATTEMPTS))


# --- The ledger -----------------------------------------------------------------------------------


def why(key: str, text: str = "Because") -> Request:
    return Request(f"manual#app#{key}", "app", text)


def granted(world: World, count: int, *, days: int | None = None) -> list[LedgerEntry]:
    """So many grants to user 1, a second apart."""
    entries = []
    for number in range(count):
        world.now += timedelta(seconds=1)
        outcome = world.services.ledger.perform(
            "1",
            f"manual#app#{number}",
            {"amount": 10},
            lambda account, number=number: domain.grant(  # type: ignore[misc]
                account,
                10,
                why(str(number)),
                world.now,
                "Europe/Paris",
                Days(days) if days else None,
            ),
        )
        entries.append(outcome.entry)
    return entries


def used(world: World, key: str, amount: int, user_id: str = "1") -> Outcome:
    return world.services.ledger.perform(
        user_id,
        f"usage#app#{key}",
        {"amount": amount},
        lambda account: domain.use(
            account, amount, Request(f"usage#app#{key}", "app", "Because"), world.now
        ),
    )


def used_many(world: World, *keys: str, store: LedgerStore | None = None) -> ManyPerformed:
    """A usage of one credit under each key, in one entry."""

    def decide(account: Account, new: Collection[str]) -> LedgerEntry:
        items = [UsageItem(operation.rpartition("#")[2], 1, "Because") for operation in new]
        request = Request("usage#app", "app", "Because")
        return domain.use_many(account, items, request, world.now)

    asked = {f"usage#app#{key}": {"amount": 1} for key in keys}
    return (store or world.services.ledger).perform_many("1", asked, decide)


def stored(user_id: str, key: str) -> dict[str, Any]:
    item: dict[str, Any] = (
        client("dynamodb")
        .get_item(
            TableName="credits-dev-ledger", Key={"user_id": {"S": user_id}, "entry": {"S": key}}
        )
        .get("Item", {})
    )
    return item


def test_an_entry_is_stored_under_these_keys_and_its_operation_under_its_name(world: World) -> None:
    (entry,) = granted(world, 1, days=1)
    item = stored("1", "entry#000000000001")
    assert item == {
        "user_id": {"S": "1"},
        "entry": {"S": "entry#000000000001"},
        "body": {"S": entry.body()},
        "hash": {"S": entries.entry_hash("0" * 64, "1", entry.body())},
        "expiry_partition": {"S": "Europe/Paris#23"},
        "expiry_key": {"S": "2026-01-16T23:00:00Z#1#1"},
    }
    key = f"operation#{sha256(b'manual#app#0').hexdigest()}"
    assert stored(key, "operation") == {
        "user_id": {"S": key},
        "entry": {"S": "operation"},
        "request": {"S": fingerprint({"amount": 10})},
        "owner": {"S": "1"},
        "number": {"N": "1"},
        "expired": {"N": "0"},
    }
    assert fingerprint({"b": "é", "a": 1}) == sha256('{"a":1,"b":"é"}'.encode()).hexdigest()


def test_entries_are_read_by_number_from_below_a_number_and_by_type(world: World) -> None:
    one, two, three = granted(world, 3)
    four = used(world, "a", 5).entry
    store = world.services.ledger
    assert store.entry("1", 2) == two
    with pytest.raises(NotFound, match=r"^user 1 has no transaction 1-9$"):
        store.entry("1", 9)
    assert store.history("1") == [four, three, two, one]
    assert store.history("1", limit=2) == [four, three]
    assert store.history("1", below=3) == [two, one]
    assert store.history("1", below=2) == [one]
    assert store.history("1", below=1) == store.history("2") == []

    assert store.page("1", 4) == ([four, three, two, one], None)
    assert store.page("1", 3) == ([four, three, two], 2)
    assert store.page("1", 3, 2) == ([one], None)
    assert store.page("1", 2, kind=EntryType.MANUAL) == ([three, two], 2)
    assert store.page("1", 1, kind=EntryType.USAGE) == ([four], 4)
    assert store.page("1", 9, 4, kind=EntryType.USAGE) == ([], None)
    assert store.page("1", 9, since=three.posted_at) == ([four, three], None)
    assert store.page("2", 9) == ([], None)


def test_the_account_of_every_past_instant_is_that_of_the_entry_before_it(world: World) -> None:
    entries = granted(world, 6)
    store = world.services.ledger
    before = entries[0].posted_at - timedelta(milliseconds=1)
    assert store.account_at("1", before) == Account("1")
    assert store.account_at("2", before) == Account("2")
    lines = list(store.lines("1"))
    for entry, line in zip(entries, lines, strict=True):
        for instant in (entry.posted_at, entry.posted_at + timedelta(milliseconds=999)):
            found = store.account_at("1", instant)
            assert (found.user_id, found.last, found.last_hash) == ("1", entry, line.hash)
    assert store.account("1") == store.verify("1") == store.account_at("1", world.now)


def test_entries_that_are_left_out_are_asked_for_again_and_then_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = granted(world, 2)
    pauses: list[int] = []
    store = LedgerStore(world.restarted().dynamodb, "credits-dev-ledger", pauses.append)
    assert store.entries([]) == {}
    table = "credits-dev-ledger"
    times = [1]

    def leave_out(response: Any) -> None:
        if times[0]:
            times[0] -= 1
            item = response["Responses"][table].pop()
            key = {"user_id": item["user_id"], "entry": item["entry"]}
            response["UnprocessedKeys"] = {table: {"Keys": [key]}}
            if not response["Responses"][table]:
                del response["Responses"][table]

    answering(world, monkeypatch, "BatchGetItem", leave_out)
    found = store.entries([("1", 1), ("1", 2), ("1", 3), ("2", 1), ("1", 2)])
    assert {place: read_entry(item) for place, item in found.items()} == {
        ("1", 1): one,
        ("1", 2): two,
    }
    assert pauses == [1]
    times[0] = MOST_ATTEMPTS
    with pytest.raises(Contention, match=r"^1 entries could not be read at the moment$"):
        store.entries([("1", 1)])


def test_what_was_performed_before_is_found_many_at_once_and_told_from_other_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = granted(world, 2)
    store = world.services.ledger
    assert store.performed_before({}) == {}
    requests = {
        "manual#app#0": {"amount": 10},
        "manual#app#1": {"amount": 11},
        "manual#app#2": {"amount": 10},
    }
    calls = asked(world, monkeypatch)
    assert store.performed_before(requests) == {
        "manual#app#0": Performed(one, is_same=True),
        "manual#app#1": Performed(two, is_same=False),
    }
    assert [name for name, _ in calls] == ["BatchGetItem", "BatchGetItem"]


def test_an_entry_that_has_a_marker_and_is_gone_is_named(world: World) -> None:
    granted(world, 1)
    key = {"user_id": {"S": "1"}, "entry": {"S": "entry#000000000001"}}
    client("dynamodb").delete_item(TableName="credits-dev-ledger", Key=key)
    found = world.services.ledger.performed_before({"manual#app#0": {"amount": 10}})
    assert isinstance(found["manual#app#0"], LedgerCorrupt)
    assert str(found["manual#app#0"]) == (
        "ledger of user 1, entry 1: it has a marker and is not there"
    )


def test_links_of_reversals_come_usage_by_usage_in_order(world: World) -> None:
    granted(world, 1)
    for key in ("a", "b"):
        usage = used(world, key, 2).entry.number
        for part in ("x", "y"):
            request = Request(f"reversal#app#{key}{part}", "app", "Because")
            world.services.ledger.reverse("1", usage, 1, request, world.now)
    assert [item["entry"]["S"] for item in world.services.ledger.reversals("1")] == [
        "reversal#000000000002#000001",
        "reversal#000000000002#000002",
        "reversal#000000000005#000001",
        "reversal#000000000005#000002",
    ]


def test_what_was_refused_because_others_were_faster_is_not_among_those_posted(
    world: World,
) -> None:
    def entry(key: str) -> Callable[[Account], LedgerEntry]:
        return lambda who: domain.grant(who, 1, why(key), world.now, "UTC", None)

    store = world.services.ledger
    refused = draft(Account("1"), entry("slower"))
    assert refused
    granted(world, 1)
    assert store.insert([refused]).refused == [refused]
    assert store.post("1", lambda _: None, refused) == []


def test_a_repeated_request_is_counted(world: World) -> None:
    granted(world, 1)
    metrics._counted.clear()
    used(world, "a", 4)
    assert Metric.DUPLICATES_REFUSED not in metrics._counted
    used(world, "a", 4)
    assert metrics._counted.pop(Metric.DUPLICATES_REFUSED) == [1]
    used_many(world, "b", "c")
    used_many(world, "c", "d")
    assert Metric.DUPLICATES_REFUSED not in metrics._counted
    used_many(world, "b", "d")
    assert metrics._counted.pop(Metric.DUPLICATES_REFUSED) == [1]


@pytest.mark.parametrize("how", ["read", "one", "many"])
def test_a_transaction_without_room_is_waited_for_as_long_as_there_is_time_and_another_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    granted(world, 1)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    store = LedgerStore(world.restarted().dynamodb, "credits-dev-ledger", lambda _: None)

    def perform() -> object:
        if how == "read":
            return store.performed("manual#app#0", {"amount": 10})
        if how == "many":
            return used_many(world, "a", "b", store=store)
        request = Request("usage#app#a", "app", "Because")
        return store.perform(
            "1", "usage#app#a", {}, lambda who: domain.use(who, 1, request, world.now)
        )

    operation = "TransactGetItems" if how == "read" else "ExecuteTransaction"
    cancelling(world, monkeypatch, ["None", "ThrottlingError"], operation=operation)
    for left, pauses in ((60_000, [0.2, 0.4, 0.8]), (5_100, [])):
        with patient(iter((left, left, left, 0)).__next__, 5_000), pytest.raises(OutOfTime):
            perform()
        assert slept == pytest.approx(pauses)
        slept.clear()
    # Who serves a request waits no longer than for a race that was lost; and a race is no want of
    # room, however little time is left.
    with pytest.raises(Contention):
        perform()
    cancelling(world, monkeypatch, ["TransactionConflict"], operation=operation)
    with patient(lambda: 0, 5_000), pytest.raises(Contention):
        perform()
    assert slept == []


def test_an_entry_on_request_is_under_the_id_of_its_request(world: World) -> None:
    granted(world, 1)
    with correlated("c-7"):
        entries_ = [used(world, "a", 1).entry, used_many(world, "b", "c").entry]
    assert [entry and entry.correlation_id for entry in entries_] == ["c-7", "c-7"]
    assert [entry.correlation_id for entry in world.history()[-2:]] == ["c-7", "c-7"]


@pytest.mark.parametrize("refuses", [False, True])
def test_of_several_operations_those_that_others_perform_meanwhile_are_left_out(
    world: World, *, refuses: bool
) -> None:
    """One is performed while the first decision is made, another while the second is."""
    granted(world, 1)
    faster = iter("ab")
    decided: list[list[str]] = []

    def decide(account: Account, new: Collection[str]) -> LedgerEntry:
        decided.append(sorted(operation.rpartition("#")[2] for operation in new))
        if key := next(faster, None):
            used_many(world, key)
            if refuses:
                raise InsufficientCredits(1, 0)
        items = [UsageItem(operation.rpartition("#")[2], 1, "Because") for operation in new]
        request = Request("usage#app", "app", "Because")
        return domain.use_many(account, items, request, world.now)

    asked = {f"usage#app#{key}": {"amount": 1} for key in "abc"}
    done = world.services.ledger.perform_many("1", asked, decide)

    assert decided == [["a", "b", "c"], ["b", "c"], ["c"]]
    assert {*done.before} == {"usage#app#a", "usage#app#b"}
    assert done.account.next_number == 4
    performed = world.services.ledger.performed("usage#app#c", {"amount": 1})
    assert performed
    assert performed.expired == 0
    assert world.balance() == 7


def test_the_same_request_is_answered_again_and_another_under_its_key_is_refused(
    world: World,
) -> None:
    granted(world, 1)
    first = used(world, "a", 4)
    assert (first.replayed, first.expired) == (False, 0)
    assert used(world, "a", 4) == first._replace(replayed=True)
    store = world.services.ledger
    assert store.performed("usage#app#a", {"amount": 4}) == first._replace(replayed=True)
    assert store.performed("usage#app#b", {"amount": 4}) is None
    other: list[Callable[[], object]] = [
        lambda: used(world, "a", 5),
        lambda: store.performed("usage#app#a", {"amount": 5}),
    ]
    for attempt in other:
        with pytest.raises(IdempotencyKeyReused) as refused:
            attempt()
        assert "the idempotency key 'a' " in str(refused.value)
    # Nothing would be left for it: yet it was granted before.
    used(world, "rest", 6)
    assert used(world, "a", 4).replayed
    with pytest.raises(InsufficientCredits):
        used(world, "b", 1)


def test_losing_every_race_for_a_number_is_an_error_after_pauses(world: World) -> None:
    pauses: list[int] = []
    store = LedgerStore(world.restarted().dynamodb, "credits-dev-ledger", pauses.append)
    keys = iter(range(10 * MOST_ATTEMPTS))

    def decide(account: Account) -> LedgerEntry:
        def entry(key: str) -> LedgerEntry:
            return domain.grant(account, 1, why(key), world.now, "UTC", None)

        faster = draft(account, lambda _: entry(f"faster-{next(keys)}"))
        assert faster
        assert store._append(faster.item)
        assert not store._append(faster.item)
        return entry("slower")

    message = r"^the ledger of user 1 is written too often at the moment$"
    with pytest.raises(Contention, match=message):
        store.perform("1", "manual#app#slower", {}, decide)
    assert pauses == list(range(1, MOST_ATTEMPTS))
    pauses.clear()
    with pytest.raises(Contention, match=message):
        store.perform_many("1", {"manual#app#slower": {}}, lambda account, _: decide(account))
    assert pauses == list(range(1, MOST_ATTEMPTS))
    pauses.clear()
    with pytest.raises(Contention, match=message):
        store.post("1", decide)
    assert pauses == list(range(1, MOST_ATTEMPTS))
    assert store.verify("1").last == store.account("1").last


def test_scheduled_work_is_appended_until_there_is_none(world: World) -> None:
    store = world.services.ledger

    def decide(account: Account) -> LedgerEntry | None:
        if account.next_number > 3:
            return None
        key = str(account.next_number)
        return domain.grant(account, 1, why(key), world.now, "UTC", None)

    with correlated("c-1"):
        posted = store.post("1", decide)
    assert posted == store.history("1")[::-1]
    assert [(entry.number, entry.correlation_id) for entry in posted] == [
        (1, "c-1"),
        (2, "c-1"),
        (3, "c-1"),
    ]
    assert store.post("1", decide) == []


def test_a_usage_is_given_back_in_parts_and_each_part_once(world: World) -> None:
    granted(world, 1)
    usage = used(world, "a", 7).entry.number
    store = world.services.ledger

    def back(key: str, amount: int | None) -> Outcome:
        request = Request(f"reversal#app#{key}", "app", "Because")
        return store.reverse("1", usage, amount, request, world.now)

    assert back("x", 3).entry.amount == 3
    assert back("x", 3).replayed
    assert stored("1", "reversal#000000000002#000001") == {
        "user_id": {"S": "1"},
        "entry": {"S": "reversal#000000000002#000001"},
        "sequence": {"N": "1"},
        "reversed_in_all": {"N": "3"},
    }
    with pytest.raises(IdempotencyKeyReused):
        back("x", 4)
    with pytest.raises(NotAllowed, match="3 were given back before; 4 can be"):
        back("y", 5)
    assert back("y", None).entry.amount == 4
    assert stored("1", "reversal#000000000002#000002")["reversed_in_all"] == {"N": "7"}
    with pytest.raises(NotAllowed):
        back("z", 1)
    with pytest.raises(NotAllowed, match="is no usage but manual"):
        store.reverse("1", 1, 1, Request("reversal#app#m", "app", "Because"), world.now)
    assert store.account("1").ledger_balance == 10


def test_a_repeated_reversal_tells_again_what_had_expired(world: World) -> None:
    granted(world, 1, days=1)
    usage = used(world, "a", 7).entry.number
    world.now += timedelta(days=3)
    request = Request("reversal#app#x", "app", "Because")
    first = world.services.ledger.reverse("1", usage, None, request, world.now)
    assert (first.entry.amount, first.expired, first.replayed) == (0, 7, False)
    again = world.services.ledger.reverse("1", usage, None, request, world.now)
    assert again == first._replace(replayed=True)


def test_batches_that_expire_are_found_by_zone_shard_and_instant_in_pages(world: World) -> None:
    granted(world, 3, days=1)
    store = world.services.ledger
    expiry = at("2026-01-16T23:00:00Z")
    second = timedelta(seconds=1)
    shard, zone = 23, "Europe/Paris"
    one = store.expiring(zone, shard, expiry - second, expiry, None, 1)
    assert one == (["1"], "2026-01-16T23:00:00Z#1#1", [expiry])
    page = store.expiring(zone, shard, expiry - second, expiry, None, 2)
    last_key = "2026-01-16T23:00:00Z#1#2"
    assert page == (["1", "1"], last_key, [expiry, expiry])
    rest = store.expiring(zone, shard, expiry - second, expiry, last_key, 2)
    assert rest == (["1"], None, [expiry])
    assert store.expiring(zone, shard, expiry, expiry + second, None, 9) == ([], None, [])
    assert store.expiring(zone, shard, expiry - 2 * second, expiry - second, None, 9).user_ids == []
    assert store.expiring(zone, 22, expiry - second, expiry, None, 9).user_ids == []


@pytest.mark.parametrize("name", ["expiry_key", "expiry_partition", "erased"])
def test_what_stands_beside_a_line_is_verified_too(world: World, name: str) -> None:
    granted(world, 2, days=1)
    item = stored("1", "entry#000000000002")
    client("dynamodb").put_item(
        TableName="credits-dev-ledger", Item={**item, name: {"S": "somewhere else"}}
    )
    with pytest.raises(LedgerCorrupt) as corrupt:
        world.services.ledger.verify("1")
    assert corrupt.value.number == 2
    wrong_key = corrupt.value.reason == "its index keys are not those of the body"
    assert wrong_key == (name != "erased")


def test_an_invalid_key_is_named_with_the_number_that_should_be_there(world: World) -> None:
    granted(world, 1)
    item = stored("1", "entry#000000000001")
    client("dynamodb").put_item(
        TableName="credits-dev-ledger", Item={**item, "entry": {"S": "entry#2"}}
    )
    with pytest.raises(LedgerCorrupt, match=r"^ledger of user 1, entry 2: its key is 'entry#2'$"):
        world.services.ledger.verify("1")
    client("dynamodb").put_item(
        TableName="credits-dev-ledger",
        Item={**item, "user_id": {"S": "9"}, "entry": {"S": "entry#x"}},
    )
    with pytest.raises(LedgerCorrupt, match=r"^ledger of user 9, entry 1: its key is 'entry#x'$"):
        world.services.ledger.verify("9")


def test_an_operation_without_its_marker_is_named(world: World) -> None:
    granted(world, 2)
    store = world.services.ledger
    assert store.audit("1") == store.account("1")
    marker = {
        "user_id": {"S": f"operation#{sha256(b'manual#app#1').hexdigest()}"},
        "entry": {"S": "operation"},
    }
    client("dynamodb").delete_item(TableName="credits-dev-ledger", Key=marker)
    with pytest.raises(
        LedgerCorrupt, match=r"^ledger of user 1, entry 2: its operation has no marker$"
    ):
        store.audit("1")


def test_a_marker_that_names_the_entry_of_another_operation_is_told_and_the_others_are_checked(
    world: World,
) -> None:
    granted(world, 3)
    store = world.services.ledger
    operations = [f"manual#app#{key}" for key in range(3)]
    markers = [store._marker(operation) for operation in operations]
    first, second, third = (marker for marker in markers if marker)
    assert store.check_markers([first, second, third]) == []
    wrong = [first._replace(number=2), second, third._replace(number=9)]
    assert [(each.user_id, each.number) for each in store.check_markers(wrong)] == [
        ("1", 2),
        ("1", 9),
    ]


def test_an_audit_that_writers_overtake_each_time_says_so_and_names_no_line(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 1)
    pauses: list[int] = []
    monkeypatch.setattr("chalicelib.retries.MOST_ATTEMPTS", 3)
    store = LedgerStore(world.restarted().dynamodb, "credits-dev-ledger", pauses.append)

    def reversals(user_id: str) -> Any:
        used(world, f"a{len(pauses)}", 1, user_id)
        link = {"sequence": {"N": "1"}, "reversed_in_all": {"N": "5"}}
        return [{**link, "user_id": text(user_id), "entry": text("reversal#000000000001#000001")}]

    monkeypatch.setattr(store, "reversals", reversals)
    with pytest.raises(
        Contention, match=r"^the ledger of user 1 is written too often at the moment$"
    ):
        store.audit("1")
    assert pauses == [1, 2]


@pytest.mark.parametrize("start", ["1", "2", "operation#"])
def test_a_scan_of_the_ledger_comes_to_every_item_once_in_pages_beginning_anywhere(
    world: World, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    granted(world, 2)
    used(world, "a", 1)
    made = draft(Account("2"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", None))
    assert made
    assert world.services.ledger._append(made.item)
    asks: list[Any] = []
    dynamodb = world.services.dynamodb
    original = dynamodb.call

    def call(name: str, arguments: Any) -> Any:
        asks.append(arguments)
        assert len(asks) < 20, "it comes to no end"
        return original(name, arguments)

    monkeypatch.setattr(dynamodb, "call", call)
    found = list(world.services.ledger.scan(start, 2))
    keys = [(item["user_id"]["S"][:10], item["entry"]["S"][-2:]) for item in found]
    assert sorted(keys) == [
        *(("1", "01"), ("1", "02"), ("1", "03"), ("2", "01")),
        *[("operation#", "on")] * 3,
    ]
    assert keys[0][0] == start
    assert {(each["Limit"], each["ReturnConsumedCapacity"]) for each in asks} == {(2, "TOTAL")}


def test_an_erasure_takes_each_text_once_and_the_ledger_still_verifies(world: World) -> None:
    granted(world, 2)
    store = world.services.ledger
    before = store.account("1")
    assert list(store.erase("1")) == [True, True]
    assert list(store.erase("1")) == [False, False]
    assert {entry.description for entry in store.history("1")} == {entries.ERASED}
    assert store.verify("1").last_hash == before.last_hash
    assert used(world, "a", 5).entry.number == 3
    assert store.verify("1").ledger_balance == 15


# --- What DynamoDB answers, and how often it is asked ---------------------------------------------


def failing(world: World, monkeypatch: pytest.MonkeyPatch, operation: str, *codes: str) -> None:
    """The next calls of an operation fail with these codes, the last of them for ever."""
    left = list(codes)

    def fail(_: Any) -> None:
        if code := left[0] if len(left) == 1 else left.pop(0):
            raise wires.refused(operation, code)

    answering(world, monkeypatch, operation, fail)


def test_a_page_of_a_rare_type_costs_a_bounded_search(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 7)
    store = world.services.ledger
    monkeypatch.setattr("chalicelib.store.ledger_reading.ENTRIES_A_READ", 2)
    calls = asked(world, monkeypatch)
    for most, below in ((4, 4), (5, 3)):
        monkeypatch.setattr("chalicelib.store.ledger_reading.ENTRIES_A_SEARCH", most)
        assert store.page("1", 1, kind=EntryType.USAGE) == ([], below)
    assert [arguments["Limit"] for _, arguments in calls] == [2] * 5
    calls.clear()
    store.page("1", 3)
    store.history("1")
    assert [arguments["Limit"] for _, arguments in calls] == [3, 100]
    calls.clear()
    assert store.history("1", below=1) == []
    assert calls == []


def cut(response: Any, most: int, *names: str) -> None:
    """Ends a page early and says so, as DynamoDB does at 1 MB."""
    if len(response["Items"]) > most:
        del response["Items"][most:]
        last = response["Items"][-1]
        response["LastEvaluatedKey"] = {name: last[name] for name in names}


def test_a_page_that_dynamodb_ends_early_is_never_taken_for_the_last(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 5)
    store = world.services.ledger
    answering(world, monkeypatch, "Query", lambda answer: cut(answer, 2, "user_id", "entry"))
    assert [line.number for line in store.lines("1")] == [1, 2, 3, 4, 5]
    assert [entry.number for entry in store.newest_first("1")] == [5, 4, 3, 2, 1]
    assert [entry.number for entry in store.history("1", limit=4)] == [5, 4, 3, 2]
    assert [entry.number for entry in store.history("1", below=4)] == [3, 2, 1]
    page = store.page("1", 3)
    assert ([entry.number for entry in page.entries], page.below) == ([5, 4, 3], 3)
    rare = store.page("1", 3, kind=EntryType.USAGE)
    assert rare == ([], None), "the whole ledger was searched"


def test_entries_of_many_users_are_inserted_by_this_statement_and_losses_are_counted(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.services.ledger
    drafts = []
    for user_id in ("1", "2"):
        made = draft(
            Account(user_id), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", Days(1))
        )
        assert made
        drafts.append(made)
    assert store._append(drafts[1].item)
    calls = asked(world, monkeypatch)
    metrics.flush()
    inserted = store.insert(drafts)
    assert inserted == Inserted([drafts[0]], [drafts[1]], [])
    assert metrics._counted.get(Metric.CONFLICTS_RETRIED) == [1]
    ((_, arguments),) = calls
    assert arguments["Statements"][0] == {
        "Statement": (
            "INSERT INTO \"credits-dev-ledger\" VALUE {'user_id': ?, 'entry': ?, 'body': ?, "
            "'hash': ?, 'expiry_partition': ?, 'expiry_key': ?}"
        ),
        "Parameters": list(drafts[0].item.values()),
    }


def test_what_every_call_of_the_daily_work_costs_is_asked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = asked(world, monkeypatch)
    world.subscribe("1")
    (entry,) = granted(world, 1)
    made = draft(
        Account("2"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", Days(1))
    )
    assert made
    assert world.services.ledger._append(made.item)
    world.services.ledger.insert([made])
    assert entry.number == 1
    assert len(world.services.ledger.entries([("1", 1)])) == 1
    assert len([*world.services.ledger.walk()]) == 2
    assert {(name, asks.get("ReturnConsumedCapacity")) for name, asks in calls} == {
        ("GetItem", "TOTAL"),
        ("BatchGetItem", "TOTAL"),
        ("Scan", "TOTAL"),
        ("Query", "TOTAL"),
        ("ExecuteTransaction", "TOTAL"),
        ("ExecuteStatement", "TOTAL"),
        ("BatchExecuteStatement", "TOTAL"),
    }


def test_a_failure_that_is_no_lost_race_is_raised_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 1)
    store = world.services.ledger
    (line,) = store.lines("1")
    entry = store.entry("1", 1)
    for operation in ("ExecuteTransaction", "ExecuteStatement", "UpdateItem", "TransactGetItems"):
        failing(world, monkeypatch, operation, "AccessDeniedException")
    with pytest.raises(ServiceError):
        used(world, "a", 1)
    with pytest.raises(ServiceError):
        used_many(world, "b", "c")
    with pytest.raises(ServiceError):
        store.post("1", lambda who: domain.grant(who, 1, why("b"), world.now, "UTC", None))
    with pytest.raises(ServiceError):
        store._replace_body(line, entry, entries.FIRST_HASH)
    with pytest.raises(ServiceError):
        store.performed("usage#app#a", {})


def test_an_operation_that_is_just_being_written_is_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 1)
    pauses: list[int] = []
    store = LedgerStore(world.restarted().dynamodb, "credits-dev-ledger", pauses.append)
    failing(world, monkeypatch, "TransactGetItems", "TransactionCanceledException", "")
    found = store.performed("manual#app#0", {"amount": 10})
    assert found
    assert found.entry.number == 1
    assert pauses == [1]
    pauses.clear()
    failing(world, monkeypatch, "TransactGetItems", "TransactionCanceledException")
    with pytest.raises(
        Contention, match=r"^operation manual#app#0 is being written at the moment$"
    ):
        store.performed("manual#app#0", {"amount": 10})
    assert pauses == list(range(1, MOST_ATTEMPTS))


def test_a_key_is_named_whole_when_it_is_used_for_something_else(world: World) -> None:
    granted(world, 1)
    used(world, "a#b", 10)
    # This one would be refused anyway: nothing is left.
    with pytest.raises(IdempotencyKeyReused, match="the idempotency key 'a#b' "):
        used(world, "a#b", 500)


def test_what_a_reversal_asked_for_is_kept_in_this_form(world: World) -> None:
    granted(world, 1)
    usage = used(world, "a", 10).entry.number  # it closes the only batch
    request = Request("reversal#app#x", "app", "Because")
    outcome = world.services.ledger.reverse("1", usage, 4, request, world.now)
    assert (usage, outcome.entry.amount) == (2, 4)
    key = f"operation#{sha256(b'reversal#app#x').hexdigest()}"
    assert stored(key, "operation")["request"] == {
        "S": fingerprint({"user_id": "1", "usage": 2, "amount": 4, "description": "Because"})
    }
    labelled = replace(request, operation="reversal#app#y", metadata=(("campaign", "42"),))
    world.services.ledger.reverse("1", usage, 4, labelled, world.now)
    key = f"operation#{sha256(b'reversal#app#y').hexdigest()}"
    described = {"user_id": "1", "usage": 2, "amount": 4, "description": "Because"}
    metadata = {"campaign": "42"}
    assert stored(key, "operation")["request"] == {
        "S": fingerprint({**described, "metadata": metadata})
    }


def test_an_erasure_changes_nothing_of_a_ledger_that_somebody_tampered_with(world: World) -> None:
    granted(world, 2)
    item = stored("1", "entry#000000000002")
    forged = {**item, "body": {"S": item["body"]["S"].replace("Because", "Becaus3")}}
    client("dynamodb").put_item(TableName="credits-dev-ledger", Item=forged)
    first = stored("1", "entry#000000000001")
    with pytest.raises(LedgerCorrupt):
        list(world.services.ledger.erase("1"))
    assert stored("1", "entry#000000000001") == first


def test_a_line_that_was_erased_meanwhile_is_not_erased_again(world: World) -> None:
    (entry,) = granted(world, 1)
    store = world.services.ledger
    (line,) = store.lines("1")
    erased = entries.without_texts(entry)
    assert store._replace_body(line, erased, entries.FIRST_HASH)
    once = stored("1", "entry#000000000001")
    assert not store._replace_body(line, erased, entries.FIRST_HASH)
    assert stored("1", "entry#000000000001") == once


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        (["None", "ConditionalCheckFailed"], True),
        (["DuplicateItem", "None"], True),
        (["DuplicateItemException"], True),
        (["TransactionConflictException"], True),
        (["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"], True),
        (
            [
                "ConditionalCheckFailed",
                "TransactionConflict",
                "ThrottlingError",
                "ProvisionedThroughputExceeded",
            ],
            True,
        ),
        (["DuplicateItem", "ValidationError"], False),
        (["None", "None"], False),
        ([], False),
    ],
)
def test_a_cancelled_transaction_is_a_lost_race_if_others_are_the_only_reason(
    codes: list[str], *, expected: bool
) -> None:
    assert is_lost_race(cancelled_for(wires.cancelled(*codes))) is expected


def test_an_error_that_cancelled_no_transaction_is_no_lost_race() -> None:
    error = wires.refused("GetItem", "AccessDeniedException")
    assert cancelled_for(error) == frozenset()
    assert not is_lost_race(cancelled_for(error))


@pytest.mark.parametrize(
    "codes",
    [
        ["DuplicateItem"],
        ["DuplicateItem", "None"],
        ["None", "DuplicateItem"],
        ["DuplicateItem", "TransactionConflict"],
        ["DuplicateItem", "ValidationError"],
        ["ConditionalCheckFailed", "None"],
        ["DuplicateItemException"],
    ],
)
def test_whichever_item_a_transaction_found_there_the_same_request_is_answered_as_before(
    world: World, monkeypatch: pytest.MonkeyPatch, codes: list[str]
) -> None:
    """Which one is not asked: neither its place among the reasons nor its content is ours."""
    granted(world, 1)
    first = used(world, "a", 3)
    calls = asked(world, monkeypatch)
    cancelling(world, monkeypatch, codes)
    again = used(world, "a", 3)
    assert again == first._replace(replayed=True)
    assert [name for name, _ in calls].count("TransactGetItems") == 1


@pytest.mark.parametrize("codes", [["TransactionConflict"], ["ThrottlingError", "None"]])
def test_a_marker_is_looked_up_only_where_something_was_there(
    world: World, monkeypatch: pytest.MonkeyPatch, codes: list[str]
) -> None:
    granted(world, 1)
    calls = asked(world, monkeypatch)
    cancelling(world, monkeypatch, codes, times=1)
    assert not used(world, "a", 3).replayed
    cancelling(world, monkeypatch, codes, times=1)
    assert used_many(world, "b", "c").entry
    assert "TransactGetItems" not in [name for name, _ in calls]


def test_the_writer_who_takes_the_number_first_is_followed_after_one_look_at_the_marker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    granted(world, 1)
    cancelling(world, monkeypatch, ["DuplicateItem", "None"], times=1)
    calls = asked(world, monkeypatch)
    usage = used(world, "a", 3)
    assert (usage.entry.number, usage.replayed) == (2, False)
    assert [name for name, _ in calls] == [
        *("Query", "ExecuteTransaction", "TransactGetItems"),
        *("Query", "ExecuteTransaction"),
    ]


def cancelling(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    codes: list[str],
    times: int = 1000,
    operation: str = "ExecuteTransaction",
) -> None:
    """So many transactions from now on are cancelled for these reasons."""
    dynamodb = world.services.dynamodb
    original = dynamodb.call
    left = [times]

    def call(name: str, arguments: Any) -> Any:
        if name == operation and left[0]:
            left[0] -= 1
            raise wires.cancelled(*codes, operation=name)
        return original(name, arguments)

    monkeypatch.setattr(dynamodb, "call", call)


def test_an_answer_that_was_lost_is_asked_for_again_under_the_same_token(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DynamoDB may answer the second time that it is done, or that it is there: both are right."""
    granted(world, 1)
    tokens: list[str] = []

    def lose_the_first(body: bytes) -> None:
        tokens.append(json.loads(body)["ClientRequestToken"])
        if len(tokens) == 1:
            raise wires.silence()

    at_http(world, monkeypatch, "ExecuteTransaction", lose_the_first)
    usage = used(world, "a", 3)
    assert len(tokens) == 2
    assert len({*tokens}) == 1
    assert usage.entry.number == 2
    assert [entry.amount for entry in world.services.ledger.history("1")] == [-3, 10]


def test_one_spelling_serves_the_append_the_batch_and_the_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = asked(world, monkeypatch)
    granted(world, 1)
    made = draft(Account("2"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", None))
    other = draft(Account("3"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", None))
    assert made
    assert other
    world.services.ledger._append(made.item)
    world.services.ledger.insert([other])
    sent = dict(calls)
    entry, marker = sent["ExecuteTransaction"]["TransactStatements"]
    insert = 'INSERT INTO "credits-dev-ledger" VALUE '
    attributes = insert + "{'user_id': ?, 'entry': ?, 'body': ?, 'hash': ?}"
    assert entry["Statement"].startswith(insert)
    assert marker["Statement"] == insert + (
        "{'user_id': ?, 'entry': ?, 'request': ?, 'owner': ?, 'number': ?, 'expired': ?}"
    )
    alone = sent["ExecuteStatement"]
    assert (alone["Statement"], alone["Parameters"]) == (attributes, [*made.item.values()])
    (batched,) = sent["BatchExecuteStatement"]["Statements"]
    assert batched == {"Statement": attributes, "Parameters": [*other.item.values()]}


def test_a_statement_is_short_whatever_the_table_is_called_and_the_item_holds() -> None:
    """DynamoDB takes 8,192 characters, and 255 for the name of a table."""
    attributes = ("user_id", "entry", "body", "hash", "expiry_partition", "expiry_key")
    assert len(insert_into("t" * 255, attributes)) < 500


def inserted_after(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> tuple[Draft, Inserted]:
    """A draft, and what became of it when its statement was answered with an error."""
    made = draft(
        Account("1"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", Days(1))
    )
    assert made

    def refuse(response: Any) -> None:
        response["Responses"][0] = {"Error": {"Code": code, "Message": "no"}}

    answering(world, monkeypatch, "BatchExecuteStatement", refuse)
    return made, world.services.ledger.insert([made])


@pytest.mark.parametrize(
    "code",
    [
        "ConditionalCheckFailed",
        "DuplicateItem",
        "InternalServerError",
        "TransactionConflict",
        "ValidationError",
    ],
)
def test_an_insert_that_failed_is_to_be_decided_again(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    made, inserted = inserted_after(world, monkeypatch, code)
    assert inserted == Inserted([], [made], [])


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceeded", "RequestLimitExceeded", "ThrottlingError"]
)
def test_an_insert_that_was_throttled_is_as_good_as_it_was(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    made, inserted = inserted_after(world, monkeypatch, code)
    assert inserted == Inserted([], [], [made])


def test_an_insert_that_is_not_answered_is_taken_neither_for_done_nor_for_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = draft(
        Account("1"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", Days(1))
    )
    assert made
    answering(world, monkeypatch, "BatchExecuteStatement", lambda found: found["Responses"].pop())
    with pytest.raises(ValueError, match="shorter"):
        world.services.ledger.insert([made])


@pytest.mark.parametrize("code", ["DuplicateItemException", "TransactionConflictException"])
def test_an_entry_whose_number_is_taken_or_just_being_taken_was_not_appended(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    made = draft(
        Account("1"), lambda who: domain.grant(who, 1, why("a"), world.now, "UTC", Days(1))
    )
    assert made
    failing(world, monkeypatch, "ExecuteStatement", code)
    assert not world.services.ledger._append(made.item)


def test_a_hundred_subscriptions_are_read_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = asked(world, monkeypatch)
    assert world.services.subscriptions.get_many(str(number) for number in range(201)) == {}
    requests = [request for _, call in calls for request in call["RequestItems"].values()]
    assert [len(request["Keys"]) for request in requests] == [100, 100, 1]
