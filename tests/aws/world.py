"""A whole world in one process: the real handlers over moto, with a clock that only tests move.

Tables and queues are created from ``infra/resources.yaml``, so keys and indexes are the deployed
ones. Messages wait in the queues until a test delivers them, in the order and as often as it likes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import yaml

from chalicelib.aws import KeptSecret
from chalicelib.domain.edits import Editor, EditorKind
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription
from chalicelib.domain.terms import FIELDS
from chalicelib.event_bus import EventBus
from chalicelib.jobs import (
    completeness,
    events,
    manual,
    notifications,
    outbox,
    sweeps,
    ticks,
    watching,
    workers,
)
from chalicelib.mails.links import UnsubscribeLinks
from chalicelib.mails.sending import Mailer
from chalicelib.messages.work import SweepKind
from chalicelib.observability import correlated
from chalicelib.queues import Queues
from chalicelib.services import Services
from chalicelib.settings import Settings
from chalicelib.store.anchors import Anchors
from chalicelib.store.database import connect
from chalicelib.store.reports import Reports
from chalicelib.store.wire.client import Client
from chalicelib.upkeep import Upkeep
from tests.aws.bus import Bus
from tests.aws.once import Stacks
from tests.aws.outbox import Outbox
from tests.registered import register

REGION = "eu-west-1"
RESOURCES = Path(__file__).parents[2] / "infra" / "resources.yaml"


UNSUBSCRIBE_KEY = b"k" * 32

STRIPE_SECRET = f"whsec_{'s' * 32}"

BY_TEST = Editor(EditorKind.ADMIN, "test")

CORRELATION_ID = "tick"
"""What all that follows from a tick bears."""

MOST_RECEIVES = 60
"""The notifications queue's maxReceiveCount (a test of the template compares it)."""

MOST_RECEIVES_OF_WORK = 20
"""That of the other queues."""


@cache
def client(service: str, whose: str = "test") -> Any:  # noqa: ARG001 - it is part of the key
    """A client over moto; one for all tests, for making one takes a tenth of a second.

    The services have their own: faults are injected into those and not into the tests' hands.
    """
    return boto3.client(service, region_name=REGION)


@cache
def _dynamodb() -> Client:
    return connect(REGION)


Handler = Callable[[dict[str, Any]], dict[str, Any]]


def at(text: str) -> datetime:
    """An instant, as RFC 3339 text has it."""
    return parse_instant("at", text)


class Context:
    """What Lambda tells a function about its invocation."""

    def __init__(self, remaining_milliseconds: int = 30_000) -> None:
        self.remaining_milliseconds = remaining_milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_milliseconds


@cache
def resources_document() -> Any:
    """``infra/resources.yaml``, read once: reading it takes longer than creating all tables."""
    return yaml.safe_load(RESOURCES.read_text(encoding="utf-8"))


STACKS = Stacks(REGION)


def create_stack(stage: str) -> None:
    """Creates the tables, queues and buckets of ``infra/resources.yaml`` in moto."""
    resources = resources_document()["Resources"].values()
    dynamodb = client("dynamodb")
    sqs = client("sqs")
    for resource in resources:
        properties = resource["Properties"]
        if resource.get("Type") == "AWS::DynamoDB::Table":
            names = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
            dynamodb.create_table(
                TableName=_named(properties["TableName"], stage),
                **{name: properties[name] for name in names if name in properties},
            )
        if resource.get("Type") == "AWS::SQS::Queue":
            sqs.create_queue(QueueName=_named(properties["QueueName"], stage))
        if resource.get("Type") == "AWS::S3::Bucket":
            name = _named(properties["BucketName"], stage).partition("-$")[0]
            client("s3").create_bucket(
                Bucket=name,
                CreateBucketConfiguration={"LocationConstraint": REGION},
                ObjectLockEnabledForBucket=properties.get("ObjectLockEnabled", False),
            )


@cache
def _queue_url(name: str) -> str:
    """The address of a queue, which is the same in every world."""
    return str(client("sqs").get_queue_url(QueueName=name)["QueueUrl"])


def _named(substitution: dict[str, str], stage: str) -> str:
    return substitution["Fn::Sub"].replace("${Stage}", stage)


@dataclass
class World:
    """The clock, the services over moto, and the hands that deliver messages."""

    stage: str = "dev"
    now: datetime = field(default_factory=lambda: at("2026-01-15T12:00:00.250Z"))

    zones: set[str] = field(default_factory=set)
    delays: dict[str, int] = field(default_factory=dict)

    low_balance: int | None = None
    """None for a stage that sends no events."""

    def __post_init__(self) -> None:
        STACKS.make(f"credits-{self.stage}-", lambda: create_stack(self.stage))
        self.sqs = client("sqs")
        self.settings = Settings(
            stage=self.stage,
            region=REGION,
            ledger_table=f"credits-{self.stage}-ledger",
            subscriptions_table=f"credits-{self.stage}-subscriptions",
            sweeps_queue_url=self.queue_url("sweeps"),
            allocations_queue_url=self.queue_url("allocations"),
            expiries_queue_url=self.queue_url("expiries"),
            notifications_queue_url=self.queue_url("notifications"),
            checks_queue_url=self.queue_url("checks"),
            reports_bucket=f"credits-{self.stage}-reports",
            anchors_bucket=f"credits-{self.stage}-anchors",
            mails_table=f"credits-{self.stage}-mails",
            edits_table=f"credits-{self.stage}-edits",
            stripe_table=f"credits-{self.stage}-stripe",
            mail_from="credits@example.com",
            mail_configuration_set=f"credits-{self.stage}",
            unsubscribe_url="https://api.example.com/v1/api/unsubscribe",
            events_queue_url="" if self.low_balance is None else self.queue_url("events"),
            event_bus=f"credits-{self.stage}",
            low_balance=self.low_balance or 0,
            queue_urls=(self.queue_url("sweeps"), self.queue_url("sweeps-dlq")),
        )
        self.outbox = Outbox()
        self.bus = Bus()
        self.services = self.restarted()
        self.context = Context()

    def restarted(self) -> Services:
        """Fresh services, as a new process has them. One thread: moto is not safe with more."""
        services = Services(self.settings, clock=lambda: self.now, dynamodb=_dynamodb(), threads=1)
        services.queues = Queues(self.settings, client=client("sqs", "services"))
        services.upkeep = Upkeep(
            self.settings, client("sqs", "services"), client("cloudwatch", "services")
        )
        services.reports = Reports(self.settings, client=client("s3", "services"))
        services.anchors = Anchors(self.settings, client=client("s3", "services"))
        services.mailer = Mailer(self.settings, client=self.outbox)
        services.event_bus = EventBus(self.settings, client=self.bus)
        services.stripe_secret = KeptSecret(lambda: STRIPE_SECRET)
        services.unsubscribe_links = UnsubscribeLinks(
            UNSUBSCRIBE_KEY, self.settings.unsubscribe_url
        )
        return services

    def queue_url(self, name: str) -> str:
        return _queue_url(f"credits-{self.stage}-{name}")

    def subscribe(self, user_id: str = "1", **changes: object) -> Subscription:
        """Registers a user, by default a yearly pro user in Paris, or changes one."""
        at_first: dict[str, object] = {
            "email": f"user{user_id}@example.com",
            "timezone": "Europe/Paris",
            "plan": "pro",
            "billing_interval": "yearly",
            "status": "active",
            "started_at": "2025-01-01T00:00:00Z",
        }

        def decide(existing: Subscription | None) -> Subscription:
            values = {"user_id": user_id, **({} if existing else at_first), **changes}
            return register(values, self.services.catalogue, self.now, existing, kept=FIELDS)

        subscription = self.services.subscriptions.change(user_id, decide, BY_TEST, self.now)
        self.zones.add(subscription.timezone)
        return subscription

    def with_plans(self, *plan_ids: str, **changes: Any) -> None:
        """Changes these plans of the catalogue; without ids, all of them."""
        self.services.catalogue = PlanCatalogue(
            tuple(
                replace(plan, **changes) if plan.id in plan_ids or not plan_ids else plan
                for plan in self.services.catalogue.plans
            )
        )

    # What happens ---------------------------------------------------------------------------------

    def tick(self, kind: SweepKind, time: str, **event: object) -> dict[str, Any]:
        """A tick of a moment, for all zones ever lived in; the clock follows when it is behind."""
        self.now = max(self.now, at(time))
        event = {"time": time, "zones": sorted(self.zones), **event}
        with correlated(CORRELATION_ID):
            return ticks.start_sweeps(self.services, kind, event)

    def allocation_tick(self, time: str, **event: object) -> dict[str, Any]:
        return self.tick(SweepKind.ALLOCATION, time, **event)

    def expiry_tick(self, time: str, **event: object) -> dict[str, Any]:
        return self.tick(SweepKind.EXPIRY, time, **event)

    def allocate_at(self, time: str) -> None:
        """A tick and all that follows from it."""
        self.allocation_tick(time)
        self.drain()

    def expire_at(self, time: str) -> None:
        """The same for expiry."""
        self.expiry_tick(time)
        self.drain()

    def grant(self, user_id: str, amount: int, key: str, **event: object) -> dict[str, Any]:
        """What an admin gets from the manual-allocate Lambda."""
        return manual.manual_allocate(
            self.services,
            {
                "user_id": user_id,
                "amount": amount,
                "description": "Goodwill",
                "actor": "ada",
                "idempotency_key": key,
                "expires_in_days": None,
                **event,
            },
            self.context,
        )

    # Delivery -------------------------------------------------------------------------------------

    def handlers(self) -> Mapping[str, Handler]:
        """What consumes each queue."""
        return {
            "sweeps": lambda event: sweeps.sweep_zones(self.services, event, self.context),
            "allocations": lambda event: workers.allocate_accounts(
                self.services, event, self.context
            ),
            "checks": lambda event: completeness.check_zones(self.services, event, self.context),
            "expiries": lambda event: workers.expire_batches(self.services, event, self.context),
        }

    def take(self, name: str) -> list[str]:
        """Takes all waiting message bodies out of a queue."""
        bodies: list[str] = []
        url = self.queue_url(name)
        while messages := self.sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=0
        ).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def deliver(self, name: str, bodies: Iterable[str]) -> list[str]:
        """Delivers bodies as one batch of records; answers those the handler reported as failed."""
        bodies = list(bodies)
        event = {"Records": self._records([(body, 1) for body in bodies])}
        answer = self.handlers()[name](event)
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        return [body for place, body in enumerate(bodies) if f"m{place}" in failed]

    def drain(self) -> None:
        """Delivers everything, once, until the queues are empty."""
        while sum(self.deliver_waiting(name) for name in self.handlers()):
            pass

    def deliver_waiting(self, name: str) -> int:
        """Delivers what waits in one queue; answers how many messages that were."""
        bodies = self.take(name)
        try:
            failed = self.deliver(name, bodies)
        except BaseException:
            self.put_back(name, bodies)  # unacknowledged: SQS would deliver them again
            raise
        assert failed == [], failed
        return len(bodies)

    def stream(self) -> list[dict[str, Any]]:
        """The records of the ledger's stream, as the event source's filter lets them through."""
        return [
            {
                "eventName": "INSERT",
                "dynamodb": {
                    "Keys": {"user_id": item["user_id"], "entry": item["entry"]},
                    "NewImage": item,
                },
            }
            for item in self.lines()
            if item["entry"]["S"].startswith("entry#")
        ]

    def queue_mails(self, records: list[dict[str, Any]] | None = None) -> None:
        """Hands records of the stream, or all there are, to what queues mails."""
        event = {"Records": self.stream() if records is None else records}
        outbox.queue_notifications(self.services, event)

    def publish(self, bodies: Iterable[str] | None = None) -> list[str]:
        """Delivers what waits in the events queue, and what fails again and again.

        Answers what would be in the dead-letter queue.
        """
        waiting = [(body, 1) for body in (self.take("events") if bodies is None else bodies)]
        dead = []
        while waiting:
            batch, waiting = waiting[:10], waiting[10:]
            for body, receives in self.deliver_events(batch):
                if receives == MOST_RECEIVES_OF_WORK:
                    dead.append(body)
                else:
                    waiting.append((body, receives + 1))
        return dead

    def deliver_events(self, batch: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Delivers one batch of bodies, each with how often it was received; answers the failed."""
        answer = events.publish_events(self.services, {"Records": self._records(batch)})
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        return [message for place, message in enumerate(batch) if f"m{place}" in failed]

    def watch(self, records: list[dict[str, Any]] | None = None) -> None:
        """Hands records of the stream, or all there are, to what keeps anchors of them."""
        event = {"Records": self.stream() if records is None else records}
        watching.watch_ledger(self.services, event)

    def send_mails(self, bodies: Iterable[str] | None = None) -> list[str]:
        """Delivers what waits in the notifications queue, and what fails again and again.

        Answers what would be in the dead-letter queue.
        """
        waiting = [(body, 1) for body in (self.take("notifications") if bodies is None else bodies)]
        dead = []
        while waiting:
            batch, waiting = waiting[:10], waiting[10:]
            for body, receives in self.deliver_mails(batch):
                if receives == MOST_RECEIVES:
                    dead.append(body)
                else:
                    waiting.append((body, receives + 1))
        return dead

    def deliver_mails(self, batch: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Delivers one batch of bodies, each with how often it was received; answers the failed."""
        event = {"Records": self._records(batch)}
        answer = notifications.send_notifications(self.services, event, self.context)
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        return [message for place, message in enumerate(batch) if f"m{place}" in failed]

    def _records(self, batch: Iterable[tuple[str, int]]) -> list[dict[str, Any]]:
        """Records of bodies and how often each was received; the delays they are given are kept."""

        def delay(_url: str, seconds: Mapping[str, int]) -> None:
            self.delays.update(seconds)

        setattr(self.services.queues, "delay", delay)  # noqa: B010
        return [
            {
                "messageId": f"m{place}",
                "receiptHandle": f"handle {place} of {body}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": str(receives)},
            }
            for place, (body, receives) in enumerate(batch)
        ]

    def put_back(self, name: str, bodies: Iterable[str]) -> None:
        """Puts message bodies into a queue."""
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.queue_url(name), MessageBody=body)

    # What is to be seen ---------------------------------------------------------------------------

    def balance(self, user_id: str = "1") -> int:
        return self.services.ledger.account(user_id).available_balance(self.now)

    def history(self, user_id: str = "1") -> list[LedgerEntry]:
        """All entries, oldest first; the ledger must verify."""
        self.services.ledger.verify(user_id)
        return self.services.ledger.history(user_id, limit=1000)[::-1]

    def summary(self, user_id: str = "1") -> list[tuple[str, int, int]]:
        """Type, amount and balance of every entry, oldest first."""
        return [(entry.type.value, entry.amount, entry.balance) for entry in self.history(user_id)]

    def lines(self) -> list[Any]:
        """Everything in the ledger table, in a stable order."""
        items = client("dynamodb").scan(TableName=self.settings.ledger_table)["Items"]
        return sorted(items, key=lambda item: (item["user_id"]["S"], item["entry"]["S"]))
