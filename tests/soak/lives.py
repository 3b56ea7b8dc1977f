"""Random lives, and beside each what should have become of it.

The expectation is the simulation's reference, which shares no line with the product: at each tick
it says by itself whose zone is swept, what is due to whom, what has expired, and which mails that
makes.
"""

import itertools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

from chalicelib.domain.errors import Contention
from chalicelib.domain.instants import format_instant
from tests.crashes.failures import Failures, Kind, Point
from tests.crashes.world import QUEUES, CrashingWorld, functions
from tests.simulation import reference
from tests.simulation.reference import DAY, Ledger, Line, Short, Subscription, require
from tests.simulation.world import WORK_QUEUES, Reply, at, ticks_between
from tests.soak.product import Broken, Product

Json = dict[str, Any]

ZONES = (
    "Africa/Cairo",  # a midnight that does not exist, in April
    "America/Havana",  # a midnight that comes twice, on 1 November
    "Europe/Paris",
    "Pacific/Kiritimati",  # the first in the world
)
SHOP = {"caller": "shop", "user_id": "", "scopes": "credits:backend"}
ADMIN = {"caller": "admin", "user_id": "", "scopes": "credits:admin"}
KINDS = frozenset({"allocation", "expiration", "expiring_soon", "manual", "low_balance"})
AGES = (
    timedelta(0),
    timedelta(minutes=15),
    timedelta(hours=1),
    timedelta(hours=6),
    *(days * DAY for days in range(1, 8)),
)
"""How old a midnight is when its zone is swept, as the README says."""
REMINDED = (timedelta(0), timedelta(hours=1), DAY)
REMINDER_DAYS = 3

FAULTS_IN_1000 = 10
"""How many invocations of a thousand meet a fault."""
UNREADABLE_IN_1000 = 20
"""During how many deliveries of a thousand an item of one user cannot be read."""
WORKERS = ("allocate_accounts", "expire_batches")
"""The functions whose deliveries these are."""
IRREGULAR_IN_1000 = 20
"""How many ticks of a thousand are skipped, and as many late, and as many twice."""
EVENTS_A_DAY = 0.02
"""What a user does, or has done to them."""


@dataclass
class Person:
    """A user, and what should be known of them."""

    subscription: Subscription
    ledger: Ledger = field(default_factory=Ledger)
    mails: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Kind and subject of what they should have been told; of expirations only the sum is told."""
    told: set[object] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.subscription.user_id


@dataclass
class Figures:
    """What happened in a year."""

    requests: int = 0
    refused: int = 0
    ticks: int = 0
    irregular: int = 0
    faults: int = 0
    unreadable: int = 0
    edits: int = 0
    memory: int = 0


@dataclass
class Soak(CrashingWorld):
    """The world in which they live."""

    users: int = 10
    seed: int = 1
    zones: Sequence[str] = ZONES

    def __post_init__(self) -> None:
        super().__post_init__()
        self.now = at("2026-01-01T12:00:00Z")
        self.chance = random.Random(self.seed)
        self.people: dict[str, Person] = {}
        self.ends: dict[tuple[str, datetime], set[str]] = defaultdict(set)
        """Whose batches expire, by the zone they were granted in and the instant."""
        self.keys = itertools.count(1)
        self.figures = Figures()
        self.aws.interfere = None
        self.in_doubt: dict[str, bool] = {}

    @contextmanager
    def lived(self) -> Iterator["Soak"]:
        """Within the block the product runs, in its own process."""
        import app

        self.product = Product(self.zones, self.aws)
        with ExitStack() as stack:
            stack.callback(self.product.stop)
            for attribute in functions():
                stack.enter_context(patch.object(app, attribute, self._invoker(attribute)))
            yield self

    def _invoker(self, attribute: str) -> Any:
        def invoke(event: Json, context: Any) -> Any:
            milliseconds = getattr(context, "milliseconds", 30_000)
            failures = None
            if self.chance.randrange(1000) < FAULTS_IN_1000:
                point = Point(self.chance.randrange(6), self.chance.choice([*Kind]))
                failures = Failures((point,))
            self.aws.interfere = failures
            try:
                with self._one_unreadable(attribute, event):
                    return self.product.invoke(attribute, event, milliseconds, self.clock)
            except Broken as error:
                # A fault may end an invocation, and whoever invoked it repeats.
                require(failures is not None and bool(failures.struck_at), "for no reason:", error)
                raise Contention("the invocation failed") from error
            finally:
                self.aws.interfere = None
                if failures:
                    self.figures.faults += len(failures.struck_at)
                    self.in_doubt |= failures.in_doubt

        return invoke

    @contextmanager
    def _one_unreadable(self, attribute: str, event: Json) -> Iterator[None]:
        """Now and then an item of one user of a message cannot be read while it is delivered.

        The message comes back for that user; all others must be served now, or once, by then.
        """
        if attribute not in WORKERS or self.chance.randrange(1000) >= UNREADABLE_IN_1000:
            yield
            return
        record = self.chance.choice(event["Records"])
        name = self.chance.choice(json.loads(record["body"])["user_ids"])
        entries = self.table("ledger").partitions.get("", {}).get(name, [])
        keys = [key for order, key in entries if order.startswith("entry#")]
        items, key = (
            (self.table("ledger").items, keys[-1])
            if keys
            else (self.table("subscriptions").items, (name, ""))
        )
        whole = items[key]
        items[key] = {
            attribute: value
            for attribute, value in whole.items()
            if attribute not in ("body", "status")
        }
        self.figures.unreadable += 1
        try:
            yield
        finally:
            items[key] = whole

    # --- Time -------------------------------------------------------------------------------------

    def live(self, days: int) -> Iterator[datetime]:
        """Day after day; each that is over."""
        pending = [f"user-{number:04}" for number in range(1, self.users + 1)]
        for number in range(days):
            end = self.now.replace(hour=12, minute=0, second=0, microsecond=0) + DAY
            start = end - DAY
            doings: list[tuple[datetime, int, Any]] = [
                (tick, -1, None) for tick in ticks_between(start, end, self.zones)
            ]
            # Everybody comes within the first quarter.
            newcomers = len(pending) if number >= 90 else self.users // 90 + 1
            for name in pending[:newcomers]:
                doings.append((self._sometime(start), len(doings), name))
            del pending[:newcomers]
            for _ in range(self._how_many(EVENTS_A_DAY * len(self.people))):
                doings.append((self._sometime(start), len(doings), None))
            for moment, place, name in sorted(doings, key=lambda doing: doing[:2]):
                self.now = max(self.now, moment)
                if place < 0:
                    self._tick(moment)
                elif name:
                    self._register(name)
                elif self.people:
                    self._something_happens(self.people[self.chance.choice([*self.people])])
                self.settle_soon()
            self.now = max(self.now, end)
            yield self.now

    def _sometime(self, day: datetime) -> datetime:
        return day + timedelta(seconds=self.chance.randrange(86_400))

    def _how_many(self, mean: float) -> int:
        """So many on average."""
        return int(mean) + (self.chance.random() < mean % 1)

    def settle_soon(self) -> None:
        """What was set off comes to its end, what is tried again included."""
        self.settle_now()
        while later := [message.visible_at for name in QUEUES for message in self.queue(name)]:
            self.now = max(self.now, datetime.fromtimestamp(int(min(later)) + 1, UTC))
            self.settle_now()

    # --- Ticks ------------------------------------------------------------------------------------

    def _tick(self, moment: datetime) -> None:
        irregular = self.chance.randrange(1000) // IRREGULAR_IN_1000
        if irregular == 0:
            self.figures.irregular += 1
            return
        if irregular == 1:
            self.figures.irregular += 1
            self.now = max(self.now, moment + timedelta(minutes=5))
        for kind in ("allocation", "expiry"):
            swept = self._swept(moment, months_only=kind == "allocation")
            if not swept:
                continue
            self.figures.ticks += 1
            for _ in range(2 if irregular == 2 else 1):
                self.until_done(lambda: self.tick(kind, moment), _is_success)  # noqa: B023
            self.figures.irregular += irregular == 2
            self.settle_now(WORK_QUEUES)
            if kind == "allocation":
                self._expect_allocations(moment, [*swept])
            else:
                self._expect_expirations(swept)
                self._expect_reminders(moment, swept)
            self.settle_soon()

    def _swept(self, moment: datetime, *, months_only: bool) -> dict[str, list[datetime]]:
        """The zones that are swept, and of which midnights."""
        swept: dict[str, list[datetime]] = {}
        for zone in self.zones:
            for age in AGES:
                start = moment - age
                day = reference.local_day(zone, start)
                if reference.midnight(zone, day) == start and (day.day == 1 or not months_only):
                    swept.setdefault(zone, []).append(start)
        return swept

    def _expect_allocations(self, moment: datetime, zones: Sequence[str]) -> None:
        for person in self.people.values():
            subscription = person.subscription
            if subscription.timezone in zones and subscription.is_swept:
                self._expect_due(person, moment)

    def _expect_due(self, person: Person, as_of: datetime) -> None:
        """What is due as of a moment is posted."""
        subscription, ledger = person.subscription, person.ledger
        for period in subscription.due(ledger.through, as_of, self.now):
            self._add(person, ledger.allocate(subscription, period, self.now))

    def _expect_expirations(self, swept: dict[str, list[datetime]]) -> None:
        for zone, midnights in swept.items():
            first, last = min(midnights), max(midnights)
            for end in self._midnights(zone, first, last):
                for name in sorted(self.ends.get((zone, end), ())):
                    line = self.people[name].ledger.expire(self.now)
                    if line:
                        self._add(self.people[name], line)

    def _expect_reminders(self, moment: datetime, swept: dict[str, list[datetime]]) -> None:
        for zone, midnights in swept.items():
            reminded = [start for start in midnights if moment - start in REMINDED]
            if not reminded:
                continue
            days = REMINDER_DAYS * DAY
            first, last = (
                reference.midnight(zone, reference.local_day(zone, start) + days)
                for start in (min(reminded), max(reminded))
            )
            for end in self._midnights(zone, first, last):
                for name in sorted(self.ends.get((zone, end), ())):
                    self._expect_reminder(self.people[name], end)

    def _midnights(self, zone: str, first: datetime, last: datetime) -> Iterator[datetime]:
        day = reference.local_day(zone, first)
        while (midnight := reference.midnight(zone, day)) <= last:
            yield midnight
            day += DAY

    def _expect_reminder(self, person: Person, end: datetime) -> None:
        ledger = person.ledger
        left = sum(ledger.left[g.number] for g in ledger.alive(self.now) if g.expires_at == end)
        if left and end not in person.told:
            person.told.add(end)
            ending = (g for g in ledger.alive(self.now) if g.expires_at == end)
            oldest = min(ending, key=lambda grant: (grant.granted_at, grant.number))
            day = str(reference.local_day(oldest.timezone, end))
            subject = reference.sent_subject("expiring_soon", left, day)
            person.mails["expiring_soon", subject] += 1

    def _add(self, person: Person, line: Line) -> None:
        """A line that should be there, and the mail it calls for."""
        ledger = person.ledger
        kind = reference.mail_of(line, ledger, person.subscription)
        newest = reference.newest_grant(line, ledger) if kind == "low_balance" else 0
        ledger.add(line)
        if line.grant and line.grant.expires_at:
            self.ends[line.grant.timezone, line.grant.expires_at].add(person.name)
        if kind == "low_balance":
            if newest in person.told:
                return
            person.told.add(newest)
            subject = reference.sent_subject(kind, ledger.available(line.posted_at), "")
        elif kind in ("allocation", "manual"):
            subject = reference.sent_subject(kind, line.amount, line.through or "")
        elif kind == "expiration":
            day = str(reference.day_of(line, ledger))
            subject = reference.sent_subject(kind, line.amount, day)
        else:
            return
        person.mails[kind, subject] += 1

    # --- Lives ------------------------------------------------------------------------------------

    def _register(self, name: str) -> None:
        timezone = self.chance.choice(self.zones)
        plan = self.chance.choice([*reference.SHIPPED])
        wanted = Subscription(
            user_id=name,
            email=f"{name}@example.com",
            timezone=timezone,
            plan=plan,
            billing_interval="monthly" if self.chance.random() < 0.1 else "yearly",
            status="active",
            started_at=at("2025-06-01T00:00:00Z"),
            registered_at=self.now,
            eligible_from=self.now,
            notifications=KINDS,
            known_since=self.now,
        )
        body = {
            field: getattr(wanted, field)
            for field in ("email", "timezone", "plan", "billing_interval", "status")
        } | {"started_at": format_instant(wanted.started_at)}
        self._request("PUT", f"/api/subscriptions/{name}", SHOP, body)
        self.people[name] = Person(wanted)

    def _something_happens(self, person: Person) -> None:
        what = self.chance.choices(
            (self._use, self._reverse, self._grant, self._claw_back, self._edit, self._return),
            (60, 12, 6, 3, 7, 12),
        )[0]
        what(person)

    def _use(self, person: Person) -> None:
        available = person.ledger.available(self.now)
        amount = self.chance.randint(1, max(1, available * 2 // 3))
        if self.chance.random() < 0.02:
            amount = available + 1
        body = {"user_id": person.name, "amount": amount, "description": "Report"}
        self._perform(
            person, "use", SHOP, body, lambda ledger: ledger.take("usage", amount, self.now, "", "")
        )

    def _reverse(self, person: Person) -> None:
        lines = person.ledger.lines
        left = {
            number: -line.amount - sum(other.asked for other in lines if other.reverses == number)
            for number, line in list(enumerate(lines, 1))[-12:]
            if line.type == "usage"
        }
        candidates = [number for number, amount in left.items() if amount]
        if not candidates:
            return
        number = self.chance.choice(candidates)
        amount = self.chance.choice((None, self.chance.randint(1, left[number])))
        body: Json = {
            "user_id": person.name,
            "transaction_id": f"{person.name}-{number}",
            "reason": "Oops",
        }
        body |= {} if amount is None else {"amount": amount}
        self._perform(
            person,
            "reverse",
            SHOP,
            body,
            lambda ledger: ledger.reverse(number, amount, self.now, "", ""),
        )

    def _grant(self, person: Person) -> None:
        amount = self.chance.randint(1, 300)
        days = self.chance.choice((None, self.chance.randint(1, 40)))
        body = {"user_id": person.name, "amount": amount, "reason": "Goodwill"}
        body |= {} if days is None else {"expires_in_days": days}
        timezone = person.subscription.timezone
        self._perform(
            person,
            "allocate",
            ADMIN,
            body,
            lambda ledger: ledger.give(amount, self.now, "", "", timezone, days),
        )

    def _claw_back(self, person: Person) -> None:
        amount = self.chance.randint(1, max(1, person.ledger.available(self.now)))
        body = {"user_id": person.name, "amount": -amount, "reason": "Mistake"}
        self._perform(
            person,
            "allocate",
            ADMIN,
            body,
            lambda ledger: ledger.take("manual", amount, self.now, "", ""),
        )

    def _perform(self, person: Person, route: str, caller: Json, body: Json, expected: Any) -> None:
        try:
            line = expected(person.ledger)
        except Short:
            line = None
        reply = self._request(
            "POST", f"/api/credits/{route}", caller, body, f"key-{next(self.keys)}"
        )
        require((reply.status == 200) == (line is not None), body, "was answered", reply)
        if line is None:
            self.figures.refused += 1
            return
        self._add(person, line)
        balance = person.ledger.available(self.now)
        require(reply.json["new_balance"] == balance, body, reply, "should leave", balance)

    def _edit(self, person: Person) -> None:
        choices: dict[str, Sequence[object]] = {
            "plan": [*reference.SHIPPED],
            "timezone": self.zones,
            "status": ("paused", "cancelled"),
            "billing_interval": ("monthly", "yearly"),
            "allocation_amount": (None, self.chance.randint(1, 400)),
        }
        name = self.chance.choice([*choices])
        self._patch(person, name, self.chance.choice(choices[name]))

    def _return(self, person: Person) -> None:
        if person.subscription.status != "active":
            self._patch(person, "status", "active")
        elif person.subscription.billing_interval != "yearly":
            self._patch(person, "billing_interval", "yearly")

    def _patch(self, person: Person, name: str, value: object) -> None:
        self.figures.edits += 1
        self._request("PATCH", f"/api/subscriptions/{person.name}", SHOP, {name: value})
        person.subscription = person.subscription.edited(self.now, {name: value})
        self._expect_due(person, self.now)

    def _request(self, method: str, path: str, caller: Json, body: object, key: str = "") -> Reply:
        self.figures.requests += 1
        reply = self.ask(method, path, caller, body, key)
        self.answers.clear()
        require(reply.status in (200, 201, 402), method, path, body, "was answered", reply)
        return reply


def _is_success(answer: Json) -> bool:
    return bool(answer["success"])
