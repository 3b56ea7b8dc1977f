"""The product as it is deployed, in one process: its entry points, AWS in memory, and a clock.

Everything goes through `app.py` with the events that AWS sends. Nothing happens by itself: messages
wait in the queues, and records in the stream, until somebody delivers them.
"""

import contextvars
import itertools
import json
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import Any, Self
from unittest.mock import patch

from chalicelib.aws import KeptSecret
from chalicelib.domain import calendar
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.price_list import CreditPrice, PlanPrice, PriceList
from chalicelib.event_bus import EventBus
from chalicelib.mails.links import UnsubscribeLinks
from chalicelib.mails.sending import Mailer
from chalicelib.messages.work import SweepKind
from chalicelib.plans_file import parse_catalogue
from chalicelib.queues import Queues
from chalicelib.services import Services
from chalicelib.settings import NEVER_A_SHADOW, Settings
from chalicelib.store.anchors import Anchors
from chalicelib.store.reports import Reports
from chalicelib.upkeep import Upkeep
from infra.imports import importing
from tests.simulation import aws
from tests.simulation.aws import Message
from tests.simulation.faults import Killed, Trouble, Troubles
from tests.simulation.reference import QUARTER, SHIPPED, Plans, local_day, midnight
from tests.stripe.payloads import signed

ZONES = (
    "Africa/Cairo",  # a midnight that does not exist, in April
    "America/Havana",  # a midnight that comes twice, on 1 November 2037
    "America/New_York",
    "America/Santiago",
    "Asia/Kolkata",
    "Atlantic/Azores",  # a midnight that does not exist, in March
    "Europe/Paris",
    "Pacific/Chatham",
    "Pacific/Kiritimati",  # the first in the world
    "Pacific/Pago_Pago",  # the last
)
STAGE = "dev"
SUBSCRIBED = {
    "email": "user@example.com",
    "timezone": "Europe/Paris",
    "plan": "starter",
    "billing_interval": "yearly",
    "status": "active",
    "started_at": "2025-01-01T00:00:00Z",
}
"""What somebody who subscribes may say."""
WORK_QUEUES = ("sweeps", "allocations", "expiries")
QUEUES = (*WORK_QUEUES, "notifications")
MOST_RECEIVES = {"sweeps": 20, "allocations": 20, "expiries": 20, "checks": 20, "events": 20} | {
    "notifications": 60
}
"""As in ``infra/resources.yaml``; a test compares them."""

Json = dict[str, Any]


_COUNTS = itertools.count(1)


class Context:
    """What Lambda tells a function about its invocation."""

    function_name = "simulated"
    function_version = "$LATEST"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:simulated"
    aws_request_id = "simulated"

    def __init__(self, milliseconds: int = 30_000) -> None:
        self.milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self.milliseconds


class _Heard(logging.Handler):
    """Keeps the last error that was logged: what a 500 is about.

    A bug that the product isolates is raised on: it must not pass for trouble.
    """

    last: logging.LogRecord | None = None

    def emit(self, record: logging.LogRecord) -> None:
        _Heard.last = record
        if record.getMessage() == "unexpected failure":
            error = sys.exception()
            if error is not None and not isinstance(error, Unreadable):
                raise error


def _last_error() -> BaseException | None:
    heard = _Heard.last
    return heard.exc_info[1] if heard and heard.exc_info else None


@contextmanager
def _listening() -> Iterator[None]:
    """Prints nothing; keeps the errors for the report."""
    with patch.dict(os.environ, POWERTOOLS_SERVICE_NAME="credits"):
        from chalicelib.observability import logger

        _ = logger()
    heard = logging.getLogger("credits")
    before = heard.handlers, heard.level, heard.propagate
    heard.handlers = [_Heard(level=logging.ERROR)]
    heard.setLevel(logging.ERROR)
    heard.propagate = False
    try:
        yield
    finally:
        heard.handlers, heard.level, heard.propagate = before
        heard.setLevel(before[1])  # forgets which levels are enabled


@contextmanager
def _few_zones(zones: Sequence[str]) -> Iterator[None]:
    """Within the block there are no others; the product keeps the names it knows."""
    calendar._known_names.cache_clear()
    try:
        with patch("chalicelib.domain.calendar.zone_names", lambda: tuple(zones)):
            yield
    finally:
        calendar._known_names.cache_clear()


_USER_AGENT = "aws_lambda_powertools.shared.user_agent"


class InTurn:
    """A pool of no threads: one call after the other, each in a context of its own like theirs."""

    def __init__(self, _threads: int) -> None:
        """There are none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to wait for."""

    def map(self, call: Callable[[Any], object], values: Iterable[Any]) -> Iterator[object]:
        for value in values:
            yield contextvars.Context().run(call, value)

    def submit(self, call: Callable[..., Any], *arguments: object) -> Any:
        """It is called when somebody wants to know what it answers."""
        return SimpleNamespace(result=lambda: contextvars.Context().run(call, *arguments))


@contextmanager
def taking_turns() -> Iterator[None]:
    """Within the block, of what is imported at once the last comes first."""
    with (
        patch.object(importing, "ThreadPoolExecutor", InTurn),
        patch.object(importing, "as_completed", lambda tasks: reversed(list(tasks))),
    ):
        yield


@contextmanager
def simulated(
    zones: Sequence[str] = ZONES, users_a_page: int = 4, shards: int = 2
) -> Iterator[None]:
    """Within the block the product is small enough to be driven hard: few zones, small pages.

    Nothing sleeps, and metrics are counted and not written. Everything else is as it is deployed.
    """
    import app
    from chalicelib.api import exchange

    with ExitStack() as stack:
        stack.enter_context(_listening())
        stack.enter_context(_few_zones(zones))
        for target, value in (
            ("chalicelib.jobs.sweeps.USERS_A_MESSAGE", max(1, users_a_page // 2)),
            ("chalicelib.jobs.sweeps.USERS_A_PAGE", users_a_page),
            ("chalicelib.jobs.sweeps.USERS_A_RANGE", dict.fromkeys(SweepKind, users_a_page)),
            ("chalicelib.jobs.completeness.USERS_A_RANGE", users_a_page),
            ("chalicelib.domain.ranges.BITS_A_SPLIT", 2),
            ("chalicelib.domain.ranges.MOST_BITS", 6),
            ("chalicelib.jobs.sweeps.EXPIRY_SHARDS", shards),
            ("chalicelib.store.ledger_items.EXPIRY_SHARDS", shards),
            ("chalicelib.jobs.workers.INSERTS_A_REQUEST", 2),
            ("chalicelib.metrics._write", lambda _: None),
            ("chalicelib.jobs.records.ThreadPoolExecutor", InTurn),
            ("chalicelib.jobs.notifications.ThreadPoolExecutor", InTurn),
            ("chalicelib.jobs.completeness.ThreadPoolExecutor", InTurn),
            ("chalicelib.jobs.completeness.USERS_A_PAGE", users_a_page),
            ("chalicelib.upkeep.ThreadPoolExecutor", InTurn),
            # It would add one more line to the headers of the one client with every new process.
            (f"{_USER_AGENT}.register_feature_to_client", lambda **_: None),
            ("time.sleep", lambda _: None),
        ):
            stack.enter_context(patch(target, value))
        for module in (app, exchange):
            stack.enter_context(patch.object(module, "services", lambda: _CURRENT[-1].services))
        yield


_CURRENT: list["World"] = []


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


WORKED = ("sweeps", "allocations", "expiries", "notifications", "checks", "events")
"""The queues that a function reads."""

SETTINGS = Settings(
    stage=STAGE,
    region=aws.REGION,
    ledger_table=f"credits-{STAGE}-ledger",
    subscriptions_table=f"credits-{STAGE}-subscriptions",
    sweeps_queue_url=f"https://sqs/credits-{STAGE}-sweeps",
    allocations_queue_url=f"https://sqs/credits-{STAGE}-allocations",
    expiries_queue_url=f"https://sqs/credits-{STAGE}-expiries",
    checks_queue_url=f"https://sqs/credits-{STAGE}-checks",
    notifications_queue_url=f"https://sqs/credits-{STAGE}-notifications",
    mails_table=f"credits-{STAGE}-mails",
    edits_table=f"credits-{STAGE}-edits",
    mail_from="credits@example.com",
    mail_configuration_set=f"credits-{STAGE}",
    unsubscribe_url="https://api.example.com/v1/api/unsubscribe",
    reports_bucket=f"credits-{STAGE}-reports",
    anchors_bucket=f"credits-{STAGE}-anchors",
    stripe_table=f"credits-{STAGE}-stripe",
    queue_urls=tuple(
        f"https://sqs/credits-{STAGE}-{queue}{end}"
        for queue, ends in (
            *((worked, ("", "-dlq")) for worked in WORKED),
            *((alone, ("-dlq",)) for alone in ("mail-events", "ledger-stream", "webhook")),
        )
        for end in ends
    ),
)


def sending_events(low_balance: int) -> Settings:
    """The settings of a stage that sends events."""
    return SETTINGS._replace(
        events_queue_url=f"https://sqs/credits-{STAGE}-events",
        event_bus=f"credits-{STAGE}",
        low_balance=low_balance,
    )


STRIPE_SECRET = "whsec_of_the_simulation"  # noqa: S105 - nobody else's
POSTER = "poster"
"""What is sold again and again, and is not ours."""
PACKS = {"price_pack_500": 500, "price_pack_7": 7}
"""What is sold once, and how many credits it buys."""


def catalogue_text(plans: Plans) -> str:
    """A catalogue as somebody would write it; the first plan is the lowest."""
    lines: list[str] = []
    for place, (name, plan) in enumerate(plans.items()):
        values = {**plan, "id": name, "lowest": place == 0}
        lines.append("[[plans]]")
        lines += [
            f"{key} = {value.isoformat() if isinstance(value, date) else json.dumps(value)}"
            for key, value in values.items()
            if value is not None
        ]
    return "\n".join(lines)


_catalogue = cache(parse_catalogue)


def price_list(plans: Plans, timezone: str) -> PriceList:
    """A price for each plan and interval, the packs, and a poster that is not ours."""
    of_plans = {
        f"price_{name}_{interval}": PlanPrice(name, interval)
        for name in plans
        for interval in BillingInterval
    }
    packs = {price: CreditPrice(amount) for price, amount in PACKS.items()}
    others = {f"price_{POSTER}_{interval}": None for interval in BillingInterval}
    return PriceList({**of_plans, **packs, **others}, timezone)


def request_event(
    method: str,
    resource: str,
    path: str,
    caller: Mapping[str, str],
    request_id: str,
    *,
    headers: Mapping[str, str],
    query: Mapping[str, Sequence[str]],
    parameters: Mapping[str, str] | None,
    body: str | None,
) -> Json:
    """A request to the API, as API Gateway hands it over."""
    return {
        "resource": resource,
        "path": path,
        "httpMethod": method,
        "headers": headers,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": parameters,
        "body": body,
        "isBase64Encoded": False,
        "stageVariables": None,
        "requestContext": {
            "httpMethod": method,
            "resourcePath": resource,
            "path": path,
            "requestId": request_id,
            "authorizer": dict(caller),
        },
    }


def queue_record(message: Message, queue: str = "") -> Json:
    """A message as SQS hands it over."""
    return {
        "messageId": message.id,
        "receiptHandle": f"receipt of {message.id}",
        "body": message.body,
        "attributes": {"ApproximateReceiveCount": str(message.receives)},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:eu-west-1:123456789012:credits-{STAGE}-{queue}",
        "awsRegion": aws.REGION,
    }


def stream_records(records: Iterable[Json]) -> list[Json]:
    """Those records of the ledger's stream that are of entries, as Lambda hands them over."""
    return [
        {**record, "eventID": record["dynamodb"]["SequenceNumber"]}
        for record in records
        if record["dynamodb"]["Keys"]["entry"]["S"].startswith("entry#")
    ]


@dataclass
class World:
    """The clock, AWS, and the hands that deliver."""

    now: datetime = field(default_factory=lambda: at("2026-01-15T12:00:00Z"))
    skew: timedelta = timedelta(0)
    """How far the clock of the machine that works at the moment is ahead."""
    streamed: int = 0
    """How many records of the stream have been handled."""
    requests: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    operations: list[str] = field(default_factory=list)
    """The correlation ids that requests to the API have had."""
    plans: Plans = field(default_factory=lambda: SHIPPED)
    timezone: str = "Europe/Paris"
    """Of users whom Stripe brings, and of whom nobody says where they live."""
    low_balance: int | None = None
    """None for a stage that sends no events."""
    shadow_until: datetime = NEVER_A_SHADOW
    """Until when the stage sends nothing, because it runs beside an old system."""

    def __post_init__(self) -> None:
        self.aws = aws.Services(aws.create(STAGE), clock=lambda: self.now.timestamp())  # noqa: PLW0108 - it moves
        self.restart()

    @contextmanager
    def running(self) -> Iterator["World"]:
        _CURRENT.append(self)
        try:
            with aws.answering(self.aws):
                yield self
        finally:
            _CURRENT.pop()

    @property
    def clock(self) -> datetime:
        """What the working machine takes for the present."""
        return self.now + self.skew

    def restart(self) -> None:
        """A new process: whatever the old one knew is forgotten."""
        # One thread, and one order of calls for one seed.
        settings = SETTINGS if self.low_balance is None else sending_events(self.low_balance)
        settings = settings._replace(shadow_until=self.shadow_until)
        self.services = Services(
            settings, clock=lambda: self.clock, dynamodb=aws.dynamodb(), threads=1
        )
        self.services.event_bus = EventBus(settings, client=aws.client("events", 4))
        self.services.catalogue = _catalogue(catalogue_text(self.plans))
        self.services.price_list = price_list(self.plans, self.timezone)
        self.services.stripe_secret = KeptSecret(lambda: STRIPE_SECRET)
        self.services.reports = Reports(SETTINGS, client=aws.client("s3", 4))
        self.services.anchors = Anchors(SETTINGS, client=aws.client("s3", 4))
        self.services.queues = Queues(settings, client=aws.client("sqs", 4))
        self.services.upkeep = Upkeep(
            settings, sqs=aws.client("sqs", 1), cloudwatch=aws.client("cloudwatch", 1)
        )
        self.services.mailer = Mailer(SETTINGS, client=aws.client("sesv2", 1))
        self.services.unsubscribe_links = UnsubscribeLinks(b"k" * 32, SETTINGS.unsubscribe_url)

    @contextmanager
    def troubled(self, trouble: Trouble | Troubles | None) -> Iterator[None]:
        aws.refill_retries()
        before, self.aws.interfere = self.aws.interfere, trouble
        try:
            yield
        finally:
            self.aws.interfere = before
            if trouble is not None and trouble.is_dead:
                self.restart()

    # --- What reaches the entry points ------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        caller: Mapping[str, str],
        body: object = None,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
        context: Context | None = None,
    ) -> Reply:
        """A request to the API, as API Gateway hands it over."""
        import app

        resource, parameters = _route_of(path)
        request_id = f"request-{next(self.requests)}"
        self.operations.append(request_id)
        event = request_event(
            *(method, resource, path, caller, request_id),
            headers={"Content-Type": "application/json", **(headers or {})},
            query={name: [value] for name, value in (query or {}).items()},
            parameters=parameters,
            body=None if body is None else json.dumps(body),
        )
        _Heard.last = None
        answer = app.app(event, context or Context())
        found = {name.lower(): value for name, value in answer["headers"].items()}
        reply = Reply(answer["statusCode"], found, answer["body"])
        if reply.status == 500:
            raise AssertionError(f"{method} {path} answered 500") from _last_error()
        return reply

    def hear(self, event: Json) -> Reply:
        """An event of Stripe's, signed now, as API Gateway hands it over."""
        import app

        body, path = json.dumps(event), "/api/webhooks/stripe"
        request_id = f"request-{next(self.requests)}"
        self.operations.append(request_id)
        asked = request_event(
            *("POST", path, path, {}, request_id),
            headers={"Stripe-Signature": signed(body.encode(), STRIPE_SECRET, self.now)},
            query={},
            parameters=None,
            body=body,
        )
        answer = app.stripe_webhook(asked, Context())
        return Reply(answer["statusCode"], answer["headers"], answer["body"])

    def tick(self, kind: str, time: datetime, zones: Iterable[str] = ()) -> Json:
        """A tick: EventBridge's own event, or one that an operator sends for some zones."""
        import app

        event: Json = {"time": format_instant(time)}
        if zones:
            event["zones"] = sorted(zones)
        else:
            event |= {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
        function = app.allocation_tick if kind == "allocation" else app.expiry_tick
        answer: Json = function(event, Context())
        return answer

    def deploy(self, plans: Plans) -> None:
        """Another catalogue, and new processes."""
        self.plans = plans
        self.restart()

    def check(self, event: Json) -> Any:
        """Starts to count whether a period is complete."""
        import app

        context = Context()
        # Each invocation has an id of its own, and a count is known by it.
        context.aws_request_id = f"count-{next(_COUNTS)}"
        return app.check_completeness(event, context)

    def manual_allocate(self, event: Json) -> Any:
        import app

        return app.manual_allocate(event, Context())

    def deliver(
        self, queue: str, messages: Sequence[Message], milliseconds: int = 30_000
    ) -> list[Message]:
        """Hands messages of a queue, one after the other, to its function; answers the failed.

        What it has handled is deleted; what failed can be received again, and ends in the
        dead-letter queue after so many receives. A process that dies has handled nothing.
        """
        for message in messages:
            message.receives += 1
        failed = list(messages)
        try:
            failed = self.hand_over(queue, messages, milliseconds)
        finally:
            waiting = self.queue(queue)
            # By identity: a message can be delivered again that is in no queue any more.
            for message in messages:
                if message not in failed or message.receives >= MOST_RECEIVES[queue]:
                    waiting[:] = [other for other in waiting if other is not message]
                if message in failed and message.receives >= MOST_RECEIVES[queue]:
                    self.queue(f"{queue}-dlq").append(message)
        return failed

    def hand_over(
        self,
        queue: str,
        messages: Sequence[Message],
        milliseconds: int = 30_000,
        context: Context | None = None,
    ) -> list[Message]:
        """One invocation of a queue's function; answers what it reported as failed."""
        import app

        functions: dict[str, Callable[[Json, Context], Any]] = {
            "sweeps": app.sweep_zone,
            "allocations": app.allocate_accounts,
            "expiries": app.expire_batches,
            "checks": app.check_zone,
            "notifications": app.send_notifications,
            "events": app.publish_events,
        }
        records = [queue_record(message, queue) for message in messages]
        answer = functions[queue]({"Records": records}, context or Context(milliseconds))
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
        return [message for message in messages if message.id in failed]

    def deliver_stream(self, records: Sequence[Json]) -> None:
        """Hands records of the ledger's stream to what queues mails."""
        import app

        wanted = stream_records(each for each in records if each["eventName"] == "INSERT")
        if wanted:
            app.queue_notifications({"Records": wanted}, Context())

    # --- What is to be seen -----------------------------------------------------------------------

    def queue(self, name: str) -> list[Message]:
        return self.aws.state.queues[f"credits-{STAGE}-{name}"]

    def waiting(self, name: str) -> list[Message]:
        """What can be received now."""
        return [m for m in self.queue(name) if m.visible_at <= self.now.timestamp()]

    def table(self, name: str) -> aws.Table:
        return self.aws.state.dynamodb.tables[f"credits-{STAGE}-{name}"]

    @property
    def reports(self) -> dict[str, str]:
        return self.aws.state.bucket(SETTINGS.reports_bucket)

    @property
    def stream(self) -> list[Json]:
        return self.aws.state.dynamodb.stream

    # --- When nothing goes wrong ------------------------------------------------------------------

    def drain(self, queues: Sequence[str] = WORK_QUEUES) -> None:
        """Delivers everything that can be received, once, until the queues are empty."""
        while any(self.waiting(queue) for queue in queues):
            for queue in queues:
                waiting = self.waiting(queue)
                for place in range(0, len(waiting), 10):
                    self.deliver(queue, waiting[place : place + 10])

    def drain_stream(self) -> None:
        while self.streamed < len(self.stream):
            records = self.stream[self.streamed : self.streamed + 100]
            self.deliver_stream(records)
            self.streamed += len(records)


def ticks_between(
    start: datetime,
    end: datetime,
    zones: Iterable[str] = ZONES,
    ages: Sequence[int] = (0, 15, 60, 360),
) -> list[datetime]:
    """The quarter hours in ``(start, end]`` at which a day has begun, or did some minutes ago.

    At all others a tick has nothing to do.
    """
    found = set()
    for timezone in zones:
        day = local_day(timezone, start - timedelta(minutes=max(ages), days=1))
        while day <= local_day(timezone, end) + timedelta(days=1):
            for age in ages:
                instant = midnight(timezone, day) + timedelta(minutes=age)
                instant += -(instant - at("2026-01-01T00:00:00Z")) % QUARTER
                if start < instant <= end:
                    found.add(instant)
            day += timedelta(days=1)
    return sorted(found)


def at(text: str) -> datetime:
    return parse_instant("at", text)


__all__ = ["Context", "Killed", "Reply", "World", "at", "simulated", "ticks_between"]


_NAMED = (
    (3, "subscriptions", "user_id"),
    (4, "holds", "hold_id"),
    (4, "batches", "batch_id"),
    (4, "transactions", "transaction_id"),
    (3, "months", "period"),
)


def _route_of(path: str) -> tuple[str, dict[str, str]]:
    """The route that a path is of, and what stands in its places."""
    parts = path.split("/")
    for place, before, name in _NAMED:
        if len(parts) > place and parts[place - 1] == before:
            route = [*parts[:place], f"{{{name}}}", *parts[place + 1 :]]
            return "/".join(route), {name: parts[place]}
    return path, {}
