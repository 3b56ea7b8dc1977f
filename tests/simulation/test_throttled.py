"""Throttled tables: what has to be written takes as long as they need, and nothing is lost.

Time is virtual (`tests.simulation.throttling`), the product is as it is deployed.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from chalicelib.domain.ledger import Request, grant
from chalicelib.messages.work import UsersMessage
from chalicelib.store.subscriptions import _item
from tests.registered import register
from tests.simulation.aws import Message
from tests.simulation.throttling import (
    Clock,
    Invocation,
    Pollers,
    ThrottlingTables,
    passing_time,
    run,
    throttling,
)
from tests.simulation.world import MOST_RECEIVES, SUBSCRIBED, Reply, World, at

MIDNIGHT = at("2026-01-31T23:00:00Z")
"""February begins in Paris."""


@dataclass
class Turn:
    """A midnight at which a month began for many users, as messages to the workers."""

    world: World
    clock: Clock
    tables: ThrottlingTables
    users: list[str]

    def allocate(self, **more: Any) -> Pollers:
        """Everybody is allocated; what Lambda saw of it."""
        for start in range(0, len(self.users), 100):
            body = UsersMessage(MIDNIGHT, tuple(self.users[start : start + 100])).body()
            self.world.queue("allocations").append(Message(f"users-{start}", body))
        pollers = Pollers(self.world, self.clock, "allocations", **more)
        with passing_time(self.world, self.clock, self.tables):
            pollers.run()
        return pollers

    def during(self, act: Callable[[], None]) -> None:
        """Something happens while time passes."""
        with passing_time(self.world, self.clock, self.tables):
            run(self.world, self.clock, act)

    def delivered(self, queue: str) -> None:
        """One invocation of a minute, which must hand nothing back."""

        def act() -> None:
            messages, context = self.world.queue(queue)[:10], Invocation(self.clock, 60)
            assert self.world.hand_over(queue, messages, context=context) == []

        self.during(act)

    def allocated(self) -> int:
        """How many of them have their credits, once."""
        entries = self.world.table("ledger").items
        assert all(entry == "entry#000000000001" for _, entry in entries)
        return len(entries)


@contextmanager
def turn(users: int, **rates: Callable[[float], float]) -> Iterator[Turn]:
    clock = Clock()
    with throttling(clock, **rates) as (world, tables):
        named = [f"user-{number:05}" for number in range(users)]
        for user_id in named:
            subscribe(world, user_id)
        world.now = MIDNIGHT
        yield Turn(world, clock, tables, named)


def subscribe(world: World, user_id: str) -> None:
    values = {**SUBSCRIBED, "user_id": user_id, "plan": "pro"}
    world.table("subscriptions").put(_item(register(values, world.services.catalogue, world.now)))


# --- Workers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("a_second", [300, 40])
def test_thousands_of_allocations_take_as_long_as_the_table_needs(a_second: int) -> None:
    users = 3_000
    with turn(users, writes=lambda _: a_second) as month:
        pollers = month.allocate()
        assert month.allocated() == users
        assert month.world.queue("allocations-dlq") == []
        # Reading takes a part of it, and the last pause.
        assert users / a_second <= month.clock.now <= 1.5 * users / a_second + 10
        assert max(pollers.receives) <= MOST_RECEIVES["allocations"] / 4
        assert min(pollers.ends) > 0  # Lambda had to end none
        # Who is refused asks again with everybody else of the message, and not at once.
        written = month.tables.calls["BatchExecuteStatement ledger"]
        assert written <= users / 25 + 5 * 4 * month.clock.now
        assert 0 < month.tables.refused["BatchExecuteStatement ledger"] <= 10 * users


def test_work_without_time_to_wait_comes_back_after_seconds_and_is_not_the_last() -> None:
    users = 2_000
    with turn(users, writes=lambda _: 40) as month:
        pollers = month.allocate(timeout=20)
        assert month.allocated() == users
        assert month.world.queue("allocations-dlq") == []
        assert month.clock.now <= 2 * users / 40
        assert min(pollers.ends) > 0
        assert pollers.delays
        assert min(pollers.delays) <= 5


def test_a_table_without_any_room_for_half_an_hour_makes_no_dead_letters() -> None:
    """An on-demand table doubles within 30 minutes."""
    users = 500
    with turn(users, writes=lambda now: 0 if now < 1_800 else 4_000) as month:
        pollers = month.allocate(concurrency=2)
        assert month.allocated() == users
        assert month.world.queue("allocations-dlq") == []
        assert month.clock.now <= 1_800 + 360
        assert max(pollers.receives) < MOST_RECEIVES["allocations"]
        assert min(pollers.ends) > 0
        # Nobody asks all the time: some twenty calls an invocation, and it waits for most of it.
        assert sum(month.tables.calls.values()) <= 100 * month.clock.now


def test_reads_that_are_throttled_are_waited_for_too() -> None:
    users = 300
    with turn(users, reads=lambda _: 20) as month:
        pollers = month.allocate()
        assert month.allocated() == users
        assert month.clock.now <= 2 * users / 20 + 10
        assert max(pollers.receives) <= MOST_RECEIVES["allocations"] / 4
        assert month.tables.refused["Query ledger"] <= 5 * users


def test_a_poison_message_is_a_dead_letter_within_three_quarters_of_an_hour() -> None:
    with turn(100, writes=lambda _: 4_000) as month:
        month.world.queue("allocations").append(Message("poison", '{"user_ids": []}'))
        month.allocate()
        assert month.allocated() == 100
        assert [message.id for message in month.world.queue("allocations-dlq")] == ["poison"]
        assert 1_500 <= month.clock.now <= 2_700


# --- Other functions ------------------------------------------------------------------------------


def no_room_for(seconds: float) -> Callable[[float], float]:
    return lambda now: 0 if now < seconds else 1_000


def test_a_sweep_waits_for_its_index_and_hands_everybody_on_once() -> None:
    with turn(9, index_reads=no_room_for(20)) as month:
        world = month.world
        world.tick("allocation", MIDNIGHT)
        waiting = world.queue("sweeps")
        while batch := len(waiting[:10]):
            month.delivered("sweeps")
            del waiting[:batch]
        bodies = [json.loads(message.body) for message in world.queue("allocations")]
        assert sorted(user for body in bodies for user in body["user_ids"]) == month.users
        assert 20 <= month.clock.now <= 30


def test_a_count_waits_for_the_ledgers_it_reads_in_its_threads_too() -> None:
    with turn(3, reads=no_room_for(20)) as month:
        world = month.world
        started = world.check({"period": "2026-02", "zones": ["Europe/Paris"]})
        month.delivered("checks")
        assert json.loads(world.reports[f"{started['summary']}.json"])["missing"] == 3
        assert 20 <= month.clock.now <= 30


def test_an_email_whose_record_is_throttled_is_not_in_doubt_afterwards() -> None:
    """It was sent: a record that still says "in progress" would make a dead letter of it."""
    with turn(1, mail_updates=no_room_for(20)) as month:
        world = month.world
        month.allocate()
        world.drain_stream()
        month.delivered("notifications")
        month.delivered("notifications")
        assert len(world.aws.state.mails) == 1
        (record,) = world.table("mails").items.values()
        assert record["status"] == {"S": "COMPLETED"}


def test_an_audit_waits_for_the_ledgers_it_walks() -> None:
    import app

    answers: list[Any] = []
    with turn(1, reads=no_room_for(80)) as month:

        def act() -> None:
            month.clock.sleep(60)
            event = {"user_id": month.users[0]}
            answers.append(app.audit_ledgers(event, Invocation(month.clock, 300)))

        gift = (5, Request("manual#a", "a", "Gift"), MIDNIGHT, "UTC", None)
        month.world.services.ledger.post(
            month.users[0], lambda account: None if account.last else grant(account, *gift)
        )
        month.during(act)
        assert [answer["verified"] for answer in answers] == [1]
        assert 80 <= month.clock.now <= 90


def test_an_admins_grant_waits_and_is_made_once() -> None:
    import app

    answers: list[Any] = []
    with turn(1, writes=no_room_for(10)) as month:
        event = {"user_id": month.users[0], "amount": 5, "description": "Goodwill", "actor": "ada"}
        event["idempotency_key"] = "key"

        def act() -> None:
            answers.append(app.manual_allocate(event, Invocation(month.clock, 29)))

        month.during(act)
        assert [answer["success"] for answer in answers] == [True]
        assert month.world.services.ledger.account(month.users[0]).ledger_balance == 5
        assert 10 <= month.clock.now <= 20


def test_a_bounce_waits_for_the_subscription_it_marks() -> None:
    import app

    bounced = [{"emailAddress": "user@example.com"}]
    with turn(1, subscription_reads=no_room_for(20)) as month:
        message = {
            "eventType": "Bounce",
            "bounce": {"bounceType": "Permanent", "bouncedRecipients": bounced},
            "mail": {"tags": {"user": [month.users[0].encode().hex()]}},
        }
        of_sns = {"Message": json.dumps(message), "Subject": "", "MessageAttributes": {}}
        event = {"Records": [{"Sns": of_sns}]}
        month.during(partial(app.mail_events, event, Invocation(month.clock, 60)))
        (item,) = month.world.table("subscriptions").items.values()
        assert "bounce" in json.dumps(item)
        assert 20 <= month.clock.now <= 30


def test_a_request_that_is_throttled_is_told_to_come_back_within_seconds() -> None:
    clock = Clock()
    replies: list[tuple[float, Reply]] = []
    body = {"user_id": "ada", "amount": 5, "description": "Goodwill"}

    def ask(key: str) -> Reply:
        caller = {"caller": "admin", "user_id": "", "scopes": "credits:admin"}
        path = "/api/credits/allocate"
        context = Invocation(clock, 29)
        return world.call("POST", path, caller, body, {"Idempotency-Key": key}, context=context)

    def act() -> None:
        for key in ("reads", "writes"):
            began = clock.now
            reply = ask(key)
            replies.append((clock.now - began, reply))
            clock.sleep(60)

    with throttling(
        clock,
        reads=lambda now: 0 if now < 30 else 1_000,
        writes=lambda now: 1_000 if now < 30 else 0,
    ) as (world, tables):
        subscribe(world, "ada")
        Turn(world, clock, tables, []).during(act)
        assert ask("afterwards").status == 200
    for seconds, reply in replies:
        assert reply.status == 503
        assert reply.headers["retry-after"] == "1"
        assert seconds <= 6
    assert len(replies) == 2
