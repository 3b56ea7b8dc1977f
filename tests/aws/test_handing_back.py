"""Messages that failed: when they come back, and for how long that goes on."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from chalicelib.domain.errors import Contention, InvalidInput, LedgerCorrupt
from chalicelib.jobs import audits, errors, mail_events, records
from chalicelib.jobs.events import publish_events
from chalicelib.jobs.notifications import send_notifications
from chalicelib.store.errors import OutOfTime
from chalicelib.store.throttling import wait_for_room
from chalicelib.store.wire.errors import ServiceError
from tests.aws.test_mail_events import bounce
from tests.aws.world import Context, World, client, resources_document
from tests.wire import refused

MIDNIGHT = "2026-01-31T23:00:00Z"
DOUBLES_WITHIN = 30 * 60
"""Seconds in which an on-demand table grows to twice its traffic."""


def throttled() -> ServiceError:
    return refused("Query", "ProvisionedThroughputExceededException")


def stages() -> dict[str, dict[str, int]]:
    document = resources_document()
    return {stage: document["Mappings"]["Stages"][stage] for stage in ("dev", "prod")}


def delays(world: World, error: Exception, receives: int) -> list[int]:
    return [records.delay_of(world.services, error, receives) for _ in range(200)]


def test_what_waiting_may_mend_comes_back_after_seconds_and_then_ever_later(world: World) -> None:
    for error in (
        throttled(),
        OutOfTime(),
        Contention("busy"),
        EndpointConnectionError(endpoint_url="https://dynamodb"),
        errors.SomeUsersFailed({"1": LedgerCorrupt("1", 1, "torn"), "2": throttled()}),
    ):
        for receives, longest in ((1, 5), (2, 10), (4, 40), (7, 300), (20, 300)):
            found = delays(world, error, receives)
            assert (longest + 1) // 2 <= min(found) < max(found) <= longest


def test_what_waiting_does_not_mend_comes_back_at_once_as_the_stage_has_it(world: World) -> None:
    corrupt = LedgerCorrupt("1", 1, "torn")
    for error in (InvalidInput.of("body", "is torn"), errors.SomeUsersFailed({"1": corrupt})):
        assert set(delays(world, error, 1)) == {90}
        assert set(delays(world, error, 19)) == {90}


def test_of_many_users_who_failed_ten_are_named_and_all_are_counted() -> None:
    torn = {
        f"u{number:02}": LedgerCorrupt(f"u{number:02}", 1, "torn") for number in range(11, -1, -1)
    }
    said = str(errors.SomeUsersFailed({**torn, "u03": KeyError("ada@example.com")}))
    assert said.startswith("12 users failed, such as {'u00': 'LedgerCorrupt: ")
    assert ("'u03': 'KeyError'" in said, "@" in said) == (True, False), "words of others quote"
    assert ("u09" in said, "u10" in said) == (True, False)


def test_everybody_of_a_part_that_fails_or_finds_no_room_has_failed() -> None:
    def fail(_: list[str]) -> None:
        raise LedgerCorrupt("ada", 1, "torn")

    users = records.Users(ThreadPoolExecutor(1), 1)
    users.each([["ada", "bob"]], fail, list)
    with records.waiting(Context(1)):
        assert users.once_there_is_room(1, ["cyd", "dot"], lambda user: [user]) == []
    assert {*users.failures} == {"ada", "bob", "cyd", "dot"}


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_throttling_alone_makes_no_dead_letter_while_a_table_doubles(
    world: World, stage: str
) -> None:
    """The shortest that the receives of a message can take, not counting what it waited in them."""
    receives = stages()[stage]["MaximumReceives"]
    shortest = sum(min(delays(world, throttled(), n)) for n in range(1, receives))
    assert shortest > DOUBLES_WITHIN


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_a_poison_message_is_a_dead_letter_after_half_an_hour(stage: str) -> None:
    setting = stages()[stage]
    assert 20 * 60 <= setting["MaximumReceives"] * setting["RetrySeconds"] <= 40 * 60


@dataclass(frozen=True)
class Message:
    """One that says nothing but its body."""

    body: str
    correlation_id: str | None = None


def test_the_message_received_most_often_is_first(world: World) -> None:
    handled: list[str] = []

    batch = [("once", 1), ("often", 12), ("twice", 2)]
    records.handle_records(
        world.services,
        "url",
        {"Records": world._records(batch)},
        world.context,
        Message,
        lambda message: handled.append(message.body),
    )
    assert handled == ["often", "twice", "once"]


def test_a_message_that_cannot_be_read_is_logged_under_its_own_id_and_no_other_messages(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def parse(body: str) -> Message:
        if body == "b":
            raise InvalidInput.of("body", "is torn")
        return Message(body, f"operation-{body}")

    batch = world._records([("a", 3), ("b", 2), ("c", 1)])
    answer = records.handle_records(
        world.services, "url", {"Records": batch}, world.context, parse, lambda _: None
    )
    torn = batch[1]["messageId"]
    assert answer == {"batchItemFailures": [{"itemIdentifier": torn}]}
    (line,) = [record for record in caplog.records if record.getMessage() == "message failed"]
    assert vars(line)["correlation_id"] == torn


def test_once_somebody_waited_in_vain_the_messages_behind_are_not_begun(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []

    def handle(message: Message) -> None:
        begun.append(message.body)
        world.context.remaining_milliseconds = 5_000
        wait_for_room(1, lambda _: None)

    def parse(body: str) -> Message:
        return Message(body, f"operation-{body}")

    batch = [("a", 1), ("b", 1), ("c", 1)]
    answer = records.handle_records(
        world.services, "url", {"Records": world._records(batch)}, world.context, parse, handle
    )
    assert begun == ["a"]
    assert len(answer["batchItemFailures"]) == 3
    assert len(world.delays) == 3
    # Nothing is wrong with them.
    lines = [record for record in caplog.records if record.getMessage() == "message failed"]
    assert {line.levelname for line in lines} == {"WARNING"}
    assert [vars(line)["correlation_id"] for line in lines] == [f"operation-{x}" for x in "abc"]
    assert all(vars(line)["receives"] == 1 for line in lines)
    assert all(3 <= vars(line)["again_in_seconds"] <= 5 for line in lines)


def test_users_behind_one_who_was_waited_for_in_vain_are_not_begun(world: World) -> None:
    asked: list[str] = []

    def ask(user_id: str) -> None:
        asked.append(user_id)
        world.context.remaining_milliseconds = 5_000
        wait_for_room(1, lambda _: None)

    with (
        records.waiting(world.context),
        pytest.raises(errors.SomeUsersFailed) as failed,
        records.handling_users(1) as users,
    ):
        users.each(["1", "2", "3"], ask, lambda user_id: [user_id])
    assert asked == ["1"]
    assert set(users.failures) == {"1", "2", "3"}
    assert failed.value.is_passing


def test_messages_that_sqs_does_not_delay_are_reported_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They come back when the queue's own timeout is over."""
    event = {"Records": world._records([("torn", 1)])}

    def refuse(_url: str, _seconds: object) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "Change")

    monkeypatch.setattr(world.services.queues, "delay", refuse)
    answer = world.handlers()["allocations"](event)
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert "messages not delayed" in caplog.text


def test_what_failed_is_delayed_in_its_own_queue_by_its_own_receipt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(low_balance=1)
    asked: list[tuple[str, list[str]]] = []

    def change(QueueUrl: str, Entries: list[dict[str, Any]]) -> None:  # noqa: N803 - SQS's names
        asked.append((QueueUrl, [entry["ReceiptHandle"] for entry in Entries]))

    monkeypatch.setattr(client("sqs", "services"), "change_message_visibility_batch", change)
    handlers: dict[str, Callable[[dict[str, Any]], object]] = {
        **world.handlers(),
        "notifications": lambda event: send_notifications(world.services, event, world.context),
        "events": lambda event: publish_events(world.services, event),
    }
    for name, handle in handlers.items():
        torn = [
            {
                "messageId": f"{place} of {name}",
                "receiptHandle": f"handle {place} of {name}",
                "body": json.dumps({"torn": name}),
                "attributes": {"ApproximateReceiveCount": "1"},
            }
            for place in range(2)
        ]
        answer = handle({"Records": torn})
        assert answer == {
            "batchItemFailures": [{"itemIdentifier": f"{n} of {name}"} for n in (0, 1)]
        }
    assert asked == [
        (world.queue_url(name), [f"handle {n} of {name}" for n in (0, 1)]) for name in handlers
    ]


def test_nobody_who_has_not_failed_pays_for_a_client_of_sqs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe()
    world.allocation_tick(MIDNIGHT)
    world.deliver_waiting("sweeps")
    bodies = world.take("allocations")
    event = {"Records": world._records([(body, 1) for body in bodies])}
    monkeypatch.delattr(world.services, "queues")
    monkeypatch.setattr("chalicelib.queues.Queues", None)
    assert world.handlers()["allocations"](event) == {"batchItemFailures": []}


def test_each_message_that_failed_comes_back_after_its_own_delay_and_the_others_are_done(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """One torn, one for want of room, one that is done; each is named by its own id."""
    errors = {"torn": InvalidInput.of("body", "is torn"), "busy": throttled()}
    done: list[str] = []

    def handle(message: Message) -> None:
        if message.body in errors:
            raise errors[message.body]
        done.append(message.body)

    batch = [("good", 4), ("torn", 3), ("busy", 2), ("fine", 1)]
    answer = records.handle_records(
        world.services, "url", {"Records": world._records(batch)}, world.context, Message, handle
    )
    assert done == ["good", "fine"]
    assert [failed["itemIdentifier"] for failed in answer["batchItemFailures"]] == ["m1", "m2"]
    assert world.delays.keys() == {"handle 1 of torn", "handle 2 of busy"}
    assert world.delays["handle 1 of torn"] == 90
    assert 5 <= world.delays["handle 2 of busy"] <= 10
    lines = [vars(record) for record in caplog.records if record.msg == "message failed"]
    assert [(line["message_id"], line["levelname"], line["receives"]) for line in lines] == [
        ("m1", "ERROR", 3),
        ("m2", "WARNING", 2),
    ]


def by_hand(world: World) -> object:
    return world.grant("1", 5, "k")


def bounced(world: World) -> None:
    message = json.dumps(bounce())
    event = {"Records": [{"Sns": {"Message": message}}]}
    mail_events.suppress_addresses(world.services, event, world.context)


def audited(world: World) -> object:
    return audits.audit_ledgers(world.services, {"user_id": "1"}, world.context)


def mailed(world: World) -> object:
    world.queue_mails()
    return world.deliver_mails([(body, 1) for body in world.take("notifications")])


@pytest.mark.parametrize("work", [by_hand, bounced, audited, mailed])
def test_whatever_a_function_does_it_waits_for_room_no_longer_than_it_runs(
    world: World, monkeypatch: pytest.MonkeyPatch, work: Callable[[World], object]
) -> None:
    world.subscribe()
    world.grant("1", 5, "a")
    asked: list[str] = []

    def throttled(*_: object, **__: object) -> NoReturn:
        asked.append("for the time that is left")
        wait_for_room(1, lambda _: asked.append("and waited as the SDK does"))
        raise throttled_error

    throttled_error = refused("Query", "ThrottlingException")
    for store, name in (
        *((world.services.subscriptions, name) for name in ("find", "get", "get_many")),
        *((world.services.ledger, name) for name in ("account", "audit")),
    ):
        monkeypatch.setattr(store, name, throttled)
    world.context.remaining_milliseconds = records.TIME_TO_HAND_BACK
    with suppress(OutOfTime, errors.SomeEventsFailed, errors.SomeUsersFailed, ServiceError):
        work(world)
    assert {*asked} == {"for the time that is left"}
