"""A consumer of the events of a life: all that went wrong on their way is nothing to it.

Nothing here is drawn: the records of the stream, which are there anyway, are published on a stage
beside the one that was lived on. Each reader may read a record again, and SQS, EventBridge and the
consumer's own queue may fail, repeat and mix up whatever they may.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError, ReadTimeoutError

from chalicelib.domain.errors import Contention
from chalicelib.domain.events import SOURCE
from chalicelib.event_bus import EventBus
from chalicelib.jobs import events
from chalicelib.queues import Queues
from chalicelib.services import Services
from tests.consumer import consumer
from tests.schemas import problems_of
from tests.simulation.reference import require
from tests.simulation.world import Json, World, sending_events, stream_records

LOW = 50
"""Below which a balance is low."""

MOST_ROUNDS = 10_000
FAILURES = (Contention, ReadTimeoutError)

NAMES = {
    "allocation": "credits.allocated",
    "expiration": "credits.expired",
    "usage": "credits.used",
    "manual": "credits.adjusted",
    "reversal": "credits.reversed",
    "hold": "credits.held",
    "release": "credits.released",
    "purchase": "credits.purchased",
    "refund": "credits.refunded",
}


@dataclass
class Sqs:
    """Takes messages, or some of them; delivers them in any order, and some of them twice."""

    chance: random.Random
    waiting: list[str] = field(default_factory=list)

    def send_message_batch(self, **asked: Any) -> Json:
        if self.chance.random() < 0.1:
            raise ReadTimeoutError(endpoint_url="sqs")
        failed = [entry for entry in asked["Entries"] if self.chance.random() < 0.1]
        self.waiting += [entry["MessageBody"] for entry in asked["Entries"] if entry not in failed]
        if self.chance.random() < 0.05:
            raise ReadTimeoutError(endpoint_url="sqs")
        return {"Failed": [{"Id": entry["Id"]} for entry in failed]}

    def change_message_visibility_batch(self, **_: object) -> None:
        """It comes back sometime."""

    def some(self) -> list[str]:
        self.chance.shuffle(self.waiting)
        taken = self.waiting[: self.chance.randint(1, 10)]
        del self.waiting[: len(taken)]
        return taken


@dataclass
class Bus:
    """Takes events, or some of them; an answer may be lost, and a target is told more than once."""

    chance: random.Random
    targets: list[Json] = field(default_factory=list)

    def put_events(self, **asked: Any) -> Json:
        if self.chance.random() < 0.1:
            raise ClientError({"Error": {"Code": "ThrottlingException"}}, "PutEvents")
        answers = []
        for entry in asked["Entries"]:
            if self.chance.random() < 0.2:
                answers.append({"ErrorCode": "InternalFailure"})
                continue
            times = 2 if self.chance.random() < 0.1 else 1
            self.targets += [_delivered(entry)] * times
            answers.append({"EventId": "1"})
        if self.chance.random() < 0.1:
            raise ReadTimeoutError(endpoint_url="events")
        return {"FailedEntryCount": sum("ErrorCode" in a for a in answers), "Entries": answers}


def _delivered(entry: Mapping[str, Any]) -> Json:
    return {
        "source": entry["Source"],
        "detail-type": entry["DetailType"],
        "time": entry["Time"].isoformat(),
        "detail": json.loads(entry["Detail"]),
    }


def everything_is_heard(world: World, seed: int = 0) -> None:
    """A consumer knows every entry, once, in order, with its balance; and every crossing.

    The same seed, the same failures.
    """
    records = stream_records(each for each in world.stream if each["eventName"] == "INSERT")
    told: list[tuple[str, Json]] = []
    listener = consumer(lambda name, detail: told.append((name, detail)))
    for event in _on_their_way(records, random.Random(seed)):
        require(not problems_of(event), "an event is not as its schema says:", problems_of(event))
        require(event["source"] == SOURCE, "an event has another source:", event["source"])
        listener.receive(event)
    require(not listener.missing(), "entries were never told of:", listener.missing())
    _is_the_ledger(records, told)


def _on_their_way(records: Sequence[Json], chance: random.Random) -> Iterator[Json]:
    """What a consumer's queue delivers in the end, of records of the stream."""
    sqs, bus = Sqs(chance), Bus(chance)
    settings = sending_events(LOW)
    services = Services(settings, threads=1)
    services.queues = Queues(settings, lambda _: None, sqs)
    services.event_bus = EventBus(settings, bus)
    place = 0
    while place < len(records):
        batch = records[place : place + chance.randint(1, 20)]
        try:
            events.queue_events(services, batch)
        except FAILURES:
            continue  # the stream delivers them again
        if chance.random() < 0.9:  # else: it does so although they were handled
            place += len(batch)
    for _ in range(MOST_ROUNDS):
        if not sqs.waiting:
            break
        bodies = sqs.some()
        failed = _published(services, bodies)
        again = [body for body in bodies if chance.random() < 0.05]
        sqs.waiting += [*failed, *again]
    require(not sqs.waiting, "messages never end:", sqs.waiting[:3])
    chance.shuffle(bus.targets)
    yield from bus.targets


def _published(services: Services, bodies: Sequence[str]) -> list[str]:
    """The messages that the publisher reported as failed."""
    records = [
        {
            "messageId": str(place),
            "receiptHandle": str(place),
            "body": body,
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        for place, body in enumerate(bodies)
    ]
    answer = events.publish_events(services, {"Records": records})
    return [bodies[int(failure["itemIdentifier"])] for failure in answer["batchItemFailures"]]


def _is_the_ledger(records: Sequence[Json], told: Sequence[tuple[str, Json]]) -> None:
    expected: Counter[tuple[object, ...]] = Counter()
    for record in records:
        item = record["dynamodb"]["NewImage"]
        body, user = json.loads(item["body"]["S"]), item["user_id"]["S"]
        known = (user, body["number"], body["amount"], body["balance"], item["hash"]["S"][:12])
        for name in (NAMES[body["type"]], *_crossings(body["balance"], body["amount"])):
            expected[(name, *known)] += 1
    found = Counter(
        (
            name,
            *(detail[key] for key in ("user_id", "number", "amount", "ledger_balance", "hash")),
        )
        for name, detail in told
    )
    require(found == expected, "heard otherwise than written:", found - expected, expected - found)
    heard: dict[str, list[int]] = {}
    for name, detail in told:
        if name in NAMES.values():
            heard.setdefault(detail["user_id"], []).append(detail["number"])
    for user, numbers in heard.items():
        require(numbers == [*range(1, len(numbers) + 1)], f"{user} was heard of out of order")


def _crossings(after: int, amount: int) -> Iterator[str]:
    before = after - amount
    if before >= LOW > after:
        yield "credits.balance_low"
    if before < LOW <= after:
        yield "credits.balance_recovered"
    if before > 0 and after == 0:
        yield "credits.exhausted"
