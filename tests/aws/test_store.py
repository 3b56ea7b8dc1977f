"""The stores by themselves: what is asked for again, what is refused, what is kept for how long."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chalicelib.domain.errors import Contention, NotFound, VersionConflict
from chalicelib.mails.errors import MailInDoubt
from chalicelib.store.database import MOST_ATTEMPTS
from chalicelib.store.mails import MailRecords, record_id
from tests.aws.world import World, client

DAY = 24 * 60 * 60


@pytest.fixture
def pauses() -> list[int]:
    return []


@pytest.fixture
def mails(world: World, pauses: list[int]) -> MailRecords:
    return MailRecords(world.services._connection, "credits-dev-mails", pauses.append)


def answering(
    world: World, monkeypatch: pytest.MonkeyPatch, operation: str, change: Callable[[Any], None]
) -> None:
    """From now on DynamoDB's answers to an operation are changed before anybody sees them."""
    dynamodb = world.services._connection.client
    original = dynamodb._make_api_call

    def call(name: str, arguments: Any) -> Any:
        response = original(name, arguments)
        if name == operation:
            change(response)
        return response

    monkeypatch.setattr(dynamodb, "_make_api_call", call)


# --- Mails ----------------------------------------------------------------------------------------


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


def test_a_mail_that_certainly_failed_can_be_sent_and_one_in_doubt_never_again(
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

    done, doubtful = sorted(
        mails.find(["manual 42-1", "manual 42-2", "manual 42-3"]), key=lambda found: found.identity
    )
    assert (done.identity, done.status) == ("manual 42-1", "COMPLETED")
    assert done.said == {"message_id": "m-1"}
    assert (doubtful.identity, doubtful.status, doubtful.said) == ("manual 42-2", "INPROGRESS", {})
    key = {"id": {"S": record_id("manual 42-2")}}
    item = client("dynamodb").get_item(TableName="credits-dev-mails", Key=key)["Item"]
    until = time.time() + 90 * DAY
    assert int(item["in_progress_expiration"]["N"]) == pytest.approx(1000 * until, abs=60_000)
    for record in (done, doubtful):
        assert record.kept_until.timestamp() == pytest.approx(until, abs=60)


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
    assert sorted(record.identity for record in found) == ["manual 42-1", "manual 42-2"]
    assert pauses == [1, 2]
    assert mails.find([]) == []


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
    assert store.get_many(["2", "1", "3", "2"], consistent=True) == {"1": plain, "2": rich}
    assert store.find("3") is None
    with pytest.raises(NotFound, match=r"^there is no user 3$"):
        store.get("3")
    assert store.remove("1")
    assert not store.remove("1")
    assert store.find("1") is None


def test_a_version_is_written_over_the_one_before_and_no_other(world: World) -> None:
    store = world.services.subscriptions
    first = world.subscribe("1")
    second = world.subscribe("1", plan="starter")
    assert (first.version, second.version) == (1, 2)
    for stale in (first, second):
        with pytest.raises(VersionConflict) as refused:
            store.put(stale)
        assert str(refused.value) == (
            "the subscription of user 1 was changed meanwhile; read it again and repeat the change"
        )
    assert store.get("1") == second


def test_the_users_of_a_zone_come_in_pages_and_only_those_who_can_receive(world: World) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    world.subscribe("4", status="paused")
    world.subscribe("5", timezone="UTC")
    store = world.services.subscriptions
    assert store.users_of("Europe/Paris", None, 2) == (["1", "2"], "2")
    assert store.users_of("Europe/Paris", "2", 2) == (["3"], None)
    assert store.users_of("Asia/Tokyo", None, 2) == ([], None)
    assert sorted(store.scan("zzz", 2)) == ["1", "2", "3", "4", "5"]


def test_subscriptions_that_are_left_out_are_asked_for_again_and_then_reported(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.services.subscriptions
    pauses: list[int] = []
    monkeypatch.setattr(store, "_pause", pauses.append)
    users = {user_id: world.subscribe(user_id) for user_id in ("1", "2")}
    table = "credits-dev-subscriptions"
    times = [1]

    def leave_out(response: Any) -> None:
        if times[0]:
            times[0] -= 1
            item = response["Responses"][table].pop()
            response["UnprocessedKeys"] = {table: {"Keys": [{"user_id": item["user_id"]}]}}

    answering(world, monkeypatch, "BatchGetItem", leave_out)
    assert store.get_many(["1", "2"]) == users
    assert pauses == [1]
    times[0] = MOST_ATTEMPTS
    with pytest.raises(Contention, match=r"^1 subscriptions could not be read at the moment$"):
        store.get_many(["1"])
    assert pauses == [1, *range(1, MOST_ATTEMPTS)]


def test_who_loses_every_race_for_a_subscription_is_told_and_pauses_between(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = world.services.subscriptions
    pauses: list[int] = []
    monkeypatch.setattr(store, "_pause", pauses.append)
    world.subscribe("1")
    plans = iter(["starter", "pro"] * MOST_ATTEMPTS)

    def decide(present: Any) -> Any:
        other = replace(present, plan=next(plans), version=present.version + 1)
        store.put(other)  # somebody else was faster
        return replace(present, plan="free", version=present.version + 1)

    with pytest.raises(Contention) as refused:
        store.change("1", decide)
    assert str(refused.value) == "the subscription of user 1 is edited too often at the moment"
    assert pauses == list(range(1, MOST_ATTEMPTS))
