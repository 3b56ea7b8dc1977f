"""What the console shows that the public API does not: month turns, the queues, the emails."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from typing import Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.addresses import same_address
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import Unreadable
from chalicelib.domain.instants import format_instant
from chalicelib.domain.subscriptions import Subscription, can_receive, monthly_amount, periods_of
from chalicelib.queues import chunks
from chalicelib.store.subscriptions import readable
from infra.deployment import stage_services
from infra.local import outbox, stacks
from infra.local.clock import LocalClock
from infra.local.month import instants_of_start, is_due, places
from infra.local.services import services_of_local

Json = dict[str, Any]

_Due = dict[tuple[datetime, str], list[Subscription]]
"""The users who are due, by the instant and the timezone."""

_DEAD = "-dlq"

MOST_MAILS = 50

_FRESH_SECONDS = 2.0
_MOST_LOOKED_AT = 200
_LINES_A_READ = 100


class Landed(NamedTuple):
    """What was granted at an instant: how many users received how many credits."""

    users: int
    amount: int


class World:
    """Reads a running local stack; changes nothing in it."""

    def __init__(self, stack: stacks.LocalStack, clock: LocalClock) -> None:
        self._stack = stack
        self._clock = clock
        self._services = services_of_local(stack)
        self._sqs = stack.client("sqs")
        self._ses = stack.client("ses")
        self._lock = threading.Lock()
        self._subscriptions: list[Subscription] = []
        self._read_at = float("-inf")
        self._landed: dict[tuple[Period, str], Landed] = {}
        self._sent = -1.0
        self._mails: dict[str, Json] = {}
        self._sent_at: dict[str, str] = {}

    def users(self) -> list[Json]:
        """All users: first those who can receive credits, then by the length of their ids."""
        found = sorted(
            self._users(),
            key=lambda user: (
                not can_receive(user, self._services.catalogue),
                len(user.user_id),
                user.user_id,
            ),
        )
        return [
            {"user_id": user.user_id, "timezone": user.timezone, "plan": user.plan}
            for user in found
        ]

    def opens_on(self) -> str | None:
        """A user with credits who can receive more; else the first; None without users."""
        user_ids = [str(user["user_id"]) for user in self.users()]
        now = self._clock.now()

        def is_rich(user_id: str) -> bool:
            try:
                return self._services.ledger.account(user_id).available_balance(now) > 0
            except Unreadable:
                return False

        with ThreadPoolExecutor(stage_services.THREADS) as pool:
            for some in chunks(user_ids[:_MOST_LOOKED_AT], stage_services.THREADS):
                for user_id, found in zip(some, pool.map(is_rich, some), strict=True):
                    if found:
                        return user_id
        return next(iter(user_ids), None)

    def turn(self, period: Period) -> Json:
        """The instants at which a month begins, with the users due and their allocations."""
        now = self._clock.now()
        catalogue = self._services.catalogue
        instants = instants_of_start(period, calendar.zone_names())
        due: _Due = defaultdict(list)
        for user in self._users():
            if is_due(user, catalogue, period):
                start = periods_of(user, catalogue).start(period)
                instants[start].add(user.timezone)
                due[start, user.timezone].append(user)
        return {
            "period": str(period),
            "previous": str(period.previous()),
            "next": str(period.next()),
            "now": format_instant(now),
            "instants": [
                self._instant(period, at, zones, due, now) for at, zones in sorted(instants.items())
            ],
        }

    def _instant(
        self,
        period: Period,
        at: datetime,
        zones: set[str],
        due: _Due,
        now: datetime,
    ) -> Json:
        users = [user for zone in zones for user in due.get((at, zone), ())]
        named = places(zones, {zone: len(due.get((at, zone), ())) for zone in zones})
        landed = Landed(0, 0) if at > now else self._landed_of(period, users)
        return {
            "at": format_instant(at),
            "has_passed": at <= now,
            "places": named.zones,
            "more_places": named.more,
            "users_due": len(users),
            "credits_due": sum(monthly_amount(user, self._services.catalogue) for user in users),
            "users_landed": landed.users,
            "credits_landed": landed.amount,
        }

    def _landed_of(self, period: Period, users: list[Subscription]) -> Landed:
        """What users were granted for a period, by their ledgers. A found grant stays true."""
        missing = [user.user_id for user in users if (period, user.user_id) not in self._landed]

        def read(user_id: str) -> None:
            with suppress(Unreadable):  # the sweeps report it; here it counts as not granted
                for entry in self._services.ledger.history(user_id, limit=_LINES_A_READ):
                    if entry.begins_period and entry.allocated_through == period:
                        self._landed[period, user_id] = Landed(1, entry.amount)

        if missing:
            with ThreadPoolExecutor(stage_services.THREADS) as pool:
                list(pool.map(read, missing))
        found = [
            self._landed[period, user.user_id]
            for user in users
            if (period, user.user_id) in self._landed
        ]
        return Landed(len(found), sum(landed.amount for landed in found))

    def _users(self) -> list[Subscription]:
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_SECONDS:
                user_ids = self._clock.user_ids()
                stored = self._services.subscriptions.get_many(user_ids)
                self._subscriptions = list(readable(stored).values())
                self._read_at = time.monotonic()
            return self._subscriptions

    # Queues and emails ----------------------------------------------------------------------------

    def queues(self) -> Json:
        """How many messages are in each queue, and how many in its dead-letter queue.

        The ledger's stream has dead letters but no queue, so it has no number of messages.
        """
        names = dict.fromkeys(name.removesuffix(_DEAD) for name in self._stack.queues)
        return {
            "queues": [
                {
                    "name": name,
                    "waiting": self._messages(name),
                    "dead": self._messages(name + _DEAD),
                }
                for name in names
            ]
        }

    def _messages(self, queue: str) -> int | None:
        if queue not in self._stack.queues:
            return None
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._sqs.get_queue_attributes(
            QueueUrl=self._stack.queues[queue], AttributeNames=names
        )["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def mails(self, user_id: str | None) -> Json:
        """The newest emails in the outbox, newest first: of one user or of all."""
        sent = list(self._outbox().values())[::-1]
        if user_id is not None:
            user = self._services.subscriptions.find(user_id)
            sent = [
                mail
                for mail in sent
                if user and any(same_address(user.email, address) for address in mail["To"])
            ]
        shown = sent[:MOST_MAILS]
        sent_at = self._sent_at_of([mail["MessageId"] for mail in shown])
        return {
            "total": len(sent),
            "mails": [
                {
                    "id": mail["MessageId"],
                    "to": mail["To"],
                    "subject": mail["Subject"],
                    "sent_at": sent_at.get(mail["MessageId"]),
                }
                for mail in shown
            ],
        }

    def mail(self, message_id: str) -> str | None:
        """An email as its reader sees it, in HTML; None if no email has that id."""
        mail = self._outbox().get(message_id)
        return None if mail is None else str(mail["BodyHtml"])

    def _outbox(self) -> dict[str, Json]:
        """The emails by their ids, oldest first. The emulator hands out all or none."""
        with self._lock:
            sent = self._ses.get_send_quota()["SentLast24Hours"]
            if sent != self._sent:
                self._mails = {mail["MessageId"]: mail for mail in outbox.sent_mails(self._stack)}
                self._sent = sent
            return self._mails

    def _sent_at_of(self, message_ids: list[str]) -> dict[str, str]:
        """When emails were sent, by the stack's clock. Emails with an open record have no time."""
        with self._lock:
            if not self._sent_at.keys() >= set(message_ids):
                self._sent_at = outbox.sent_at(self._stack)
            return self._sent_at
