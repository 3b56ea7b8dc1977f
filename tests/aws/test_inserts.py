"""Entries of many users in one request: each is inserted on its own condition, and only once."""

from typing import Any

import pytest

from chalicelib.domain.entries import EntryType
from tests.aws.world import World
from tests.wire import refused

MIDNIGHT = "2026-01-31T23:00:00Z"
USERS = [str(number) for number in range(60)]


def answering(world: World, monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[int]:
    """From now on ``answer(perform, statements)`` is what a batch comes to; answers their sizes."""
    client = world.services.dynamodb
    original = client.call
    sizes: list[int] = []

    def call(operation: str, arguments: Any) -> Any:
        if operation != "BatchExecuteStatement":
            return original(operation, arguments)
        sizes.append(len(arguments["Statements"]))

        def perform(statements: list[Any]) -> list[Any]:
            done: list[Any] = original(operation, {"Statements": statements})["Responses"]
            return done

        return {"Responses": answer(perform, arguments["Statements"])}

    monkeypatch.setattr(client, "call", call)
    return sizes


def turn(world: World) -> list[str]:
    """The turn of the month; answers the messages that failed."""
    world.allocation_tick(MIDNIGHT)
    world.deliver_waiting("sweeps")
    return world.deliver("allocations", world.take("allocations"))


def allocations(world: World, user_id: str) -> list[int]:
    """The numbers of the user's allocations, in a ledger that verifies."""
    world.services.ledger.verify(user_id)
    return [
        entry.number
        for entry in world.services.ledger.history(user_id)
        if entry.type is EntryType.ALLOCATION
    ]


def test_the_entries_of_sixty_users_take_three_requests(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in USERS:
        world.subscribe(user_id)
    sizes = answering(world, monkeypatch, lambda perform, statements: perform(statements))
    assert turn(world) == []
    assert sorted(sizes) == [10, 25, 25]
    assert all(allocations(world, user_id) == [1] for user_id in USERS)


@pytest.mark.parametrize(
    "code",
    [
        "AccessDenied",
        "ConditionalCheckFailed",
        "InternalServerError",
        "TransactionConflict",
    ],
)
def test_a_user_refused_in_a_batch_is_allocated_alone_and_the_others_are_not_asked_again(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: str,
) -> None:
    caplog.set_level("INFO")
    for user_id in USERS:
        world.subscribe(user_id, eligible_from="2025-12-20T00:00:00Z")

    def refuse_every_third(perform: Any, statements: list[Any]) -> list[Any]:
        done = perform([each for place, each in enumerate(statements) if place % 3])
        refused = {"Error": {"Code": code, "Message": "No"}}
        return [done.pop(0) if place % 3 else refused for place in range(len(statements))]

    sizes = answering(world, monkeypatch, refuse_every_third)
    assert turn(world) == []
    assert sorted(sizes[:3]) == [10, 25, 25]
    assert all(sorted(allocations(world, user_id)) == [1, 2] for user_id in USERS)
    lines = [vars(record) for record in caplog.records if record.msg == "allocated"]
    assert sum(line["credits"] for line in lines) == 60 * 2 * 500, "those posted alone, too"


def test_users_throttled_in_any_of_several_batches_are_in_the_next_ones(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    for user_id in USERS:
        world.subscribe(user_id)
    refused = {"Error": {"Code": "ThrottlingError", "Message": "No"}}
    first = iter(range(3))

    def throttle_one(perform: Any, statements: list[Any]) -> list[Any]:
        if next(first, None) is None:
            return list(perform(statements))
        return [refused, *perform(statements[1:])]

    sizes = answering(world, monkeypatch, throttle_one)
    assert turn(world) == []
    assert sorted(sizes) == [3, 10, 25, 25]
    assert all(allocations(world, user_id) == [1] for user_id in USERS)


@pytest.mark.parametrize(
    "code", ["ProvisionedThroughputExceeded", "RequestLimitExceeded", "ThrottlingError"]
)
def test_a_user_throttled_in_a_batch_is_in_the_next_one_and_nobody_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    for user_id in USERS[:10]:
        world.subscribe(user_id)

    def refuse_every_third(perform: Any, statements: list[Any]) -> list[Any]:
        left = [each for place, each in enumerate(statements) if place % 3]
        done = perform(left) if left else []
        refused = {"Error": {"Code": code, "Message": "No"}}
        return [done.pop(0) if place % 3 else refused for place in range(len(statements))]

    with monkeypatch.context() as throttled:
        sizes = answering(world, throttled, refuse_every_third)
        reads: list[str] = []
        account = world.services.ledger.account

        def read(user_id: str) -> Any:
            reads.append(user_id)
            return account(user_id)

        throttled.setattr(world.services.ledger, "account", read)
        failed = turn(world)
    # One is refused each time: that one comes back.
    assert sizes[:3] == [10, 4, 2]
    assert set(sizes[3:]) == {1}
    assert len(sizes) - 1 == len(pauses)
    assert len(reads) == 10
    assert len(failed) == 1
    (delay,) = world.delays.values()
    assert 3 <= delay <= 5
    assert world.deliver("allocations", failed) == []
    assert all(allocations(world, user_id) == [1] for user_id in USERS[:10])


def test_a_batch_that_was_carried_out_and_asked_for_again_gives_nothing_twice(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer was lost and the SDK has asked again: every entry is a duplicate of itself.

    They are counted as posted all the same.
    """
    for user_id in USERS[:10]:
        world.subscribe(user_id)

    def twice(perform: Any, statements: list[Any]) -> list[Any]:
        perform(statements)
        again: list[Any] = perform(statements)
        assert {each["Error"]["Code"] for each in again} == {"DuplicateItem"}
        return again

    answering(world, monkeypatch, twice)
    assert turn(world) == []
    assert all(allocations(world, user_id) == [1] for user_id in USERS[:10])
    (line,) = [vars(record) for record in caplog.records if record.getMessage() == "allocated"]
    assert (line["users_changed"], line["credits"]) == (10, 5000)


def test_a_usage_that_takes_the_number_first_stays_and_the_allocation_follows_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    world.subscribe("2")

    def overtaken(perform: Any, statements: list[Any]) -> list[Any]:
        world.grant("1", 7, "meanwhile")
        done: list[Any] = perform(statements)
        return done

    answering(world, monkeypatch, overtaken)
    assert turn(world) == []
    assert allocations(world, "1") == [2]
    assert allocations(world, "2") == [1]
    assert world.balance("1") == 507


def test_an_answer_for_fewer_entries_than_were_sent_is_no_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.subscribe("1")
    world.subscribe("2")
    with monkeypatch.context() as odd:
        answering(world, odd, lambda perform, statements: perform(statements)[:1])
        world.allocation_tick(MIDNIGHT)
        world.deliver_waiting("sweeps")
        bodies = world.take("allocations")
        assert world.deliver("allocations", bodies) == bodies
    assert world.deliver("allocations", bodies) == []
    assert allocations(world, "1") == allocations(world, "2") == [1]


def test_months_that_were_missed_are_granted_in_rounds_and_not_user_by_user(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in USERS[:10]:
        world.subscribe(user_id)
    sizes = answering(world, monkeypatch, lambda perform, statements: perform(statements))
    world.allocation_tick("2026-03-31T22:00:00Z")  # neither February's nor March's has come
    world.drain()
    assert sizes == [10, 10, 10]
    assert all(allocations(world, user_id) == [3, 2, 1] for user_id in USERS[:10])


def test_one_user_whose_ledger_cannot_be_read_stops_nobody_else(world: World) -> None:
    for user_id in USERS[:30]:
        world.subscribe(user_id)
    torn = {
        "user_id": {"S": "7"},
        "entry": {"S": "entry#000000000001"},
        "body": {"S": "torn"},
        "hash": {"S": "0"},
    }
    table = world.services.settings.ledger_table
    world.services.dynamodb.call("PutItem", {"TableName": table, "Item": torn})
    assert len(turn(world)) == 1
    assert [
        user_id for user_id in USERS[:30] if user_id != "7" and world.balance(user_id) != 500
    ] == []


@pytest.mark.parametrize("code", ["DuplicateItemException", "TransactionConflictException"])
def test_an_insert_that_meets_another_writer_is_decided_again(
    world: World, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    world.subscribe("1")
    client = world.services.dynamodb
    original = client.call
    inserts: list[str] = []

    def call(operation: str, arguments: Any) -> Any:
        if operation == "BatchExecuteStatement":
            return {"Responses": [{"Error": {"Code": "TransactionConflict", "Message": "No"}}]}
        if operation == "ExecuteStatement":
            inserts.append(operation)
            if len(inserts) < 3:
                raise refused(operation, code)
        return original(operation, arguments)

    monkeypatch.setattr(client, "call", call)
    assert turn(world) == []
    assert allocations(world, "1") == [1]
    assert len(inserts) == 3


def test_a_user_who_is_allocated_alone_is_counted_with_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for user_id in USERS[:5]:
        world.subscribe(user_id)

    def refuse_the_first_and_the_last(perform: Any, statements: list[Any]) -> list[Any]:
        refused = {"Error": {"Code": "TransactionConflict", "Message": "No"}}
        return [refused, *perform(statements[1:-1]), refused]

    answering(world, monkeypatch, refuse_the_first_and_the_last)
    caplog.set_level("INFO")
    assert turn(world) == []
    (line,) = [vars(record) for record in caplog.records if record.msg == "allocated"]
    assert (line["users"], line["users_changed"], line["credits"]) == (5, 5, 2_500)
