"""Holds a world to the reference: every new line, every answer, every email, and what must come.

The ledger table is read behind the product's back after each step. A line must be the one that the
reference would have written for something that was asked for, at that place, at that time; nothing
else may be there. So an operation that got lost in a crash needs no special case: either its line
is there, and right, or it is not.
"""

import hashlib
import itertools
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tests.simulation import acknowledged, reference
from tests.simulation.aws import Message
from tests.simulation.reference import (
    Forbidden,
    Ledger,
    Life,
    Line,
    Outdated,
    Over,
    Raised,
    Short,
    Subscription,
    Violation,
    Welcome,
    require,
)
from tests.simulation.world import World

Json = dict[str, Any]

ALL_KINDS = frozenset(
    {"allocation", "expiration", "expiring_soon", "manual", "low_balance", "purchase", "refund"}
)


@dataclass(eq=False)
class Edit:
    """A change of a subscription that somebody asks for, and what they were told of it.

    It can be made again: who gets no answer asks a second time.
    """

    user_id: str
    apply: Callable[[Subscription | None], Subscription | None]
    is_done: bool = False
    attempts: int = 0
    refusals: int = 0

    @property
    def is_refused(self) -> bool:
        """Whether everybody who asked for it was refused."""
        return bool(self.attempts) and self.refusals == self.attempts


AS_THE_PLAN = 0
"""The lifetime of a grant that names none: that of the user's plan."""


@dataclass(frozen=True)
class Intent:
    """An operation on request: what was asked for under its name."""

    operation: str
    user_id: str
    kind: str
    amount: int | None
    text: str
    days: int | None = None
    silent: bool = False
    usage: int = 0
    """Of a reversal the number of the usage, of an end that of the hold, of a void of the batch."""
    seconds: int = 0
    """How long credits are to be held."""
    beyond: bool = False
    dates: tuple[datetime, datetime | None] | None = None
    """Of what is carried over: when it was granted elsewhere, and when it expires."""
    after: str = ""
    """Of what is carried over: the operation of the row before it, which is to be done by then."""
    price: tuple[int, str] | None = None
    source: str = "adjustment"
    """Of a grant: where the credits come from."""

    def is_same(self, other: "Intent") -> bool:
        """Whether another one under its name gets its answer: a payment may be worded otherwise."""
        if self.kind == other.kind == "purchase":
            return (self.user_id, self.amount) == (other.user_id, other.amount)
        return self == other

    def line(
        self, ledger: Ledger, timezone: str, now: datetime, of_plan: Life | None = None
    ) -> Line:
        """The line it should become. Raises `Short` or `Forbidden`.

        ``of_plan``: how long credits of the user's plan live.
        """
        if self.kind == "usage":
            return ledger.take("usage", self.amount or 0, now, self.operation, self.text)
        if self.kind in ("reversal", "void"):
            how = (now, self.operation, self.text)
            is_void = self.kind == "void"
            of = self.usage
            return ledger.void(of, *how) if is_void else ledger.reverse(of, self.amount, *how)
        amount = self.amount or 0
        if self.kind == "hold":
            asked = (amount, self.seconds, now, self.operation, self.text, timezone)
            return ledger.hold(*asked)
        if self.kind == "end":
            asked_of = (self.usage, amount, now, self.operation, self.text)
            return ledger.end(*asked_of, beyond=self.beyond)
        if self.dates:
            return ledger.carry(amount, self.dates, now, self.operation, timezone)
        if self.kind == "purchase":
            asked_for = (amount, self.price, now, self.operation, timezone, self.days)
            line = replace(ledger.buy(*asked_for), description=self.text)
        elif amount < 0:
            line = ledger.take("manual", -amount, now, self.operation, self.text)
        else:
            own: Life | None = ("days", self.days, 1) if self.days else None
            life = of_plan if self.days == AS_THE_PLAN else own
            given = (amount, now, self.operation, self.text, timezone, life, self.source)
            line = ledger.give(*given)
        return Line(**{**vars(line), "silent": self.silent})


@dataclass(frozen=True)
class Report:
    """What somebody says was refunded of a payment in all, and when they saw it."""

    payment: str
    in_all: int
    text: str
    observed_at: datetime | None = None

    @property
    def operation(self) -> str:
        return f"refund#{self.payment}"

    def line(self, ledger: Ledger, purchase: int, now: datetime) -> Line | None:
        """The line that it should become; None for no other. Raises `Outdated` or `Forbidden`."""
        asked = (self.in_all, self.observed_at, now, self.operation, self.text)
        return ledger.refund(purchase, *asked)


def _operations(body: Json) -> list[str]:
    """The operations that a line performed: that of the line, or of each of its usages."""
    named = [f"{body['operation']}#{key}" for key, *_ in body.get("items", ())]
    return named or [body["operation"]]


def operation_of(message: Message) -> str:
    """The correlation id that a message brings, or SQS's id of one that brings none."""
    operation: str = json.loads(message.body).get("correlation_id") or message.id
    return operation


def milliseconds(instant: datetime | None) -> int | None:
    if instant is None:
        return None
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def instant(value: Json) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + int(value["N"]) * timedelta(milliseconds=1)


Counts = tuple[Counter[str], Counter[str]]


@dataclass
class Oracle:
    """What must be, beside what is."""

    world: World
    subscriptions: dict[str, list[Subscription]] = field(default_factory=dict)
    """Every version a user's subscription has had."""
    recorded: dict[str, int] = field(default_factory=dict)
    """Up to which version the records of a user's edits have been checked."""
    read: dict[str, tuple[Json, Subscription]] = field(default_factory=dict)
    """The item that was read last of each user, and what it says."""
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)
    ends: dict[str, list[Intent]] = field(default_factory=dict)
    """All ends of a hold that were asked for; the one that comes true is an intent then."""
    performed: dict[str, tuple[str, int]] = field(default_factory=dict)
    acknowledged: set[tuple[str, int]] = field(default_factory=set)
    """Entries whose message the sender has handled."""
    sent: dict[tuple[Any, ...], str] = field(default_factory=dict)
    """The emails that went out, by what they are about."""
    doubtful: set[tuple[Any, ...]] = field(default_factory=set)
    """Emails that somebody was about to send when something went wrong, by what they are about."""
    writes_seen: int = -1
    # Of the present step:
    edits: list[Edit] = field(default_factory=list)
    versions_before: dict[str, int] = field(default_factory=dict)
    lines_before: dict[str, int] = field(default_factory=dict)
    mails_before: int = 0
    sent_before: int = 0
    put_before: int = 0
    operations_before: int = 0
    allocating: dict[str, list[datetime]] = field(default_factory=dict)
    expiring: set[str] = field(default_factory=set)
    reporting: list[Report] = field(default_factory=list)
    correlations: set[str] = field(default_factory=set)
    is_importing: bool = False
    """Whether somebody imports a file: their entries bear no id of an operation."""
    # How many versions and lines there were when this step began, and the one before it:
    present: Counts = field(default_factory=lambda: (Counter(), Counter()))
    past: Counts = field(default_factory=lambda: (Counter(), Counter()))
    reads_the_past: bool = False

    # --- Steps ------------------------------------------------------------------------------------

    def remember(self) -> None:
        """A step of the story begins: what there is now, the step after it can still read."""
        self.past, self.present = self.present, self._count()

    def _count(self) -> Counts:
        return (
            Counter({user: len(versions) for user, versions in self.subscriptions.items()}),
            Counter({user: len(ledger.lines) for user, ledger in self.ledgers.items()}),
        )

    def begin(self, *, reads_the_past: bool = False) -> None:
        """Something begins; what it reads may be what there was a step ago."""
        self.edits = []
        self.reads_the_past = reads_the_past
        versions, lines = self._count()
        self.versions_before = dict(self.past[0] if reads_the_past else versions)
        self.lines_before = dict(lines)
        self.mails_before = len(self.world.aws.state.mails)
        self.sent_before = len(self.world.aws.sent)
        self.put_before = len(self.world.aws.put)
        self.operations_before = len(self.world.operations)
        self.allocating = {}
        self.expiring = set()
        self.reporting = []
        self.correlations = set()
        self.is_importing = False

    def end(self) -> None:
        """A step is over: reads what it has left behind, and judges it.

        Where nothing was written since it looked last, and nobody says so, all is as it was.
        """
        writes = sum(table.writes for table in self.world.aws.state.dynamodb.tables.values())
        if writes == self.writes_seen and not any(edit.is_done for edit in self.edits):
            return
        self.writes_seen = writes
        self._observe_subscriptions()
        for user_id in self.subscriptions:
            self._observe_ledger(user_id)

    def subscription(self, user_id: str) -> Subscription:
        return self.subscriptions[user_id][-1]

    def ledger(self, user_id: str) -> Ledger:
        return self.ledgers.setdefault(user_id, Ledger())

    def candidates(self, user_id: str) -> list[Subscription]:
        """The subscription as the step may have read it: at its beginning, or since."""
        versions = self.subscriptions[user_id]
        return versions[max(0, self.versions_before.get(user_id, 0) - 1) :]

    def may_be_unseen(self, user_id: str) -> bool:
        """Whether the step may have read what there was before the user subscribed."""
        return not self.versions_before.get(user_id)

    def ledger_seen(self, user_id: str) -> Ledger:
        """The lines that the step cannot have overlooked in an index."""
        ledger, seen = self.ledger(user_id), self.lines_before.get(user_id, 0)
        if self.reads_the_past:
            seen = self.past[1][user_id]
        return ledger if seen == len(ledger.lines) else ledger.until(seen)

    def sent_to(self, queue: str) -> list[Json]:
        """The messages that a queue has taken in this step."""
        return [
            json.loads(body)
            for name, body in self.world.aws.sent[self.sent_before :]
            if name.endswith(f"-{queue}")
        ]

    def visited(self, user_id: str) -> Iterator[Ledger]:
        """The ledger at every moment of the step."""
        ledger = self.ledger(user_id)
        yield ledger
        for number in range(self.lines_before.get(user_id, 0), len(ledger.lines)):
            yield ledger.until(number)

    # --- Subscriptions ----------------------------------------------------------------------------

    def _observe_subscriptions(self) -> None:
        table = self.world.table("subscriptions").items
        written: dict[str, list[Subscription]] = {}
        for name, item in self.world.aws.put[self.put_before :]:
            if name.endswith("-subscriptions"):
                written.setdefault(item["user_id"]["S"], []).append(_read(item))
        self.put_before = len(self.world.aws.put)
        for (user_id, _), item in table.items():
            known = self.subscriptions.get(user_id)
            present = known[-1] if known else None
            found = written.get(user_id, [])
            stored = self._stored(user_id, item)
            require((found[-1] if found else present) == stored, "it was not put:", item)
            if not found and all(edit.apply(present) == present for edit in self._made(user_id)):
                continue
            for order in self._orders(user_id):
                states: list[Subscription] = []
                state = present
                for edit in order:
                    state = edit.apply(state)
                    if state is not None and state != (states[-1] if states else present):
                        states.append(state)
                # What came first can matter though the end is the same.
                if states == found:
                    self.subscriptions.setdefault(user_id, []).extend(states)
                    break
            else:
                raise Violation(f"nobody asked for these edits: {found}; it was {present}")
        require(
            len(table) == len(self.subscriptions), "a subscription is gone:", self.subscriptions
        )
        self._check_records()

    def _stored(self, user_id: str, item: Json) -> Subscription:
        """What an item says. Items are replaced and never altered: each is read once."""
        known = self.read.get(user_id)
        if known is None or known[0] is not item:
            self.read[user_id] = known = (item, _read(item))
        return known[1]

    def _check_records(self) -> None:
        """An edit was made exactly if it is recorded, and all records add up to what is stored."""
        records = self.world.table("edits").items
        made = sum(known[-1].version for known in self.subscriptions.values())
        require(len(records) == made, "of", made, "edits there are", len(records), "records")
        for user_id, known in self.subscriptions.items():
            if self.recorded.get(user_id) == known[-1].version:
                continue
            self.recorded[user_id] = known[-1].version
            shown: Json = {}
            of_user = sorted(key for user, key in records if user == user_id)
            for version, key in enumerate(of_user, start=1):
                body = json.loads(records[user_id, key]["body"]["S"])
                require(body["version"] == version, "an edit without a record:", user_id, version)
                # A contract can be seen once more as it was known.
                is_empty = body["changes"] == [] and body["kind"] != "stripe"
                require(not is_empty, "a record without an edit:", body)
                for name, before, after in body["changes"]:
                    require(shown.get(name) == before, "a record does not follow:", body, shown)
                    shown[name] = after
            for name in ("plan", "timezone", "status", "email", "allocation_amount"):
                stored = getattr(known[-1], name)
                require(shown.get(name) == stored, "the records say", shown, "of", known[-1])

    def _made(self, user_id: str) -> list[Edit]:
        """The edits of this step that are said to be made."""
        return [edit for edit in self.edits if edit.is_done and edit.user_id == user_id]

    def _orders(self, user_id: str) -> Iterator[tuple[Edit, ...]]:
        """The edits of this step in any order, one of them again.

        It includes every edit that its caller was told is made. A refused caller changed nothing.
        """
        made = self._made(user_id)
        edits = [
            edit
            for edit in self.edits
            if edit.user_id == user_id and (edit.is_done or not edit.is_refused)
        ]
        for count in range(len(made), len(edits) + 2):
            for order in itertools.product(edits, repeat=count):
                if all(edit in order for edit in made):
                    yield order

    # --- Ledgers ----------------------------------------------------------------------------------

    def posted(self) -> Counter[str]:
        """How many lines each ledger has at this moment, be it in the middle of a step."""
        return Counter({user_id: len(self._rows(user_id)) for user_id in self.subscriptions})

    def _rows(self, user_id: str) -> list[tuple[str, tuple[str, str]]]:
        rows = self.world.table("ledger").partitions.get("", {}).get(user_id, [])
        return rows[: bisect_left(rows, ("entry$", ("", "")))]  # behind them are links of reversals

    def _observe_ledger(self, user_id: str) -> None:
        items = self.world.table("ledger").items
        rows = self._rows(user_id)
        known = len(self.ledger(user_id).lines)
        require(len(rows) >= known, "lines are gone from the ledger of", user_id)
        for _, key in rows[known:]:
            self._accept(user_id, items[key])

    def _accept(self, user_id: str, item: Json) -> None:
        ledger = self.ledger(user_id)
        number = len(ledger.lines) + 1
        body: Json = json.loads(item["body"]["S"])
        require(
            item["entry"]["S"] == f"entry#{number:012}" and body["number"] == number,
            f"user {user_id}: entry {number} should be next, it is {item['entry']['S']}",
        )
        before = self.hashes.get(user_id, "0" * 64)
        sealed = hashlib.sha256(f"{before}\n{user_id}\n{item['body']['S']}".encode()).hexdigest()
        require(item["hash"]["S"] == sealed, f"user {user_id}: entry {number} is not sealed")
        operations = {*self.correlations, *self.world.operations[self.operations_before :]}
        require(
            body.get("correlation") in operations
            or body["operation"].startswith(("manual#lambda/", "manual#import/"))
            or (self.is_importing and body.get("correlation") is None),
            f"user {user_id}: entry {number} is of another operation than {operations}: {body}",
        )
        expected = list(self._expected(user_id, ledger, body))
        uncalled = f"user {user_id}: nothing called for entry {number} at this time: {body}"
        require(bool(expected), uncalled)
        described = [_described(ledger, line) for line in expected]
        found = {name: body.get(name) for name in described[0]}
        if found not in described:
            difference = {
                name: f"{value} should be {described[0][name]}"
                for name, value in found.items()
                if value != described[0][name]
            }
            raise Violation(f"user {user_id}: entry {number} ({body['type']}): {difference}")
        line = expected[described.index(found)]
        ends = [each for each in self.ends.get(line.operation, ()) if self._is(each, ledger, line)]
        if ends:
            self.intents[line.operation] = ends[0]
        ledger.add(line)
        self.hashes[user_id] = sealed
        for operation in _operations(body):
            if operation in self.intents:
                self.performed[operation] = (user_id, number)

    def _expected(self, user_id: str, ledger: Ledger, body: Json) -> Iterator[Line]:
        """The lines that would be right here; several where the step read while others wrote."""
        now = self.world.clock
        if body["type"] == "expiration":
            line = ledger.expire(now) if user_id in self.expiring else None
            if line:
                yield line
        elif body["type"] == "allocation":
            for subscription in self.candidates(user_id):
                for as_of in self.allocating.get(user_id, ()):
                    step = subscription.step_due(ledger)
                    if step:
                        yield ledger.step_up(subscription, step, now)
                        continue
                    due = subscription.due(ledger.through, as_of, now)
                    if due:
                        yield ledger.allocate(subscription, due[0], now)
        elif body["type"] == "refund":
            yield from self._expected_refunds(user_id, ledger, body)
        elif body["operation"] in self.ends:
            yield from self._expected_ends(ledger, body)
        else:
            yield from self._expected_on_request(user_id, ledger, body)

    def _expected_many(self, user_id: str, ledger: Ledger, body: Json) -> Iterator[Line]:
        """The line of several usages: each was asked for, and is charged for the first time."""
        for operation, (_, amount, text, *_) in zip(_operations(body), body["items"], strict=True):
            intent = self.intents.get(operation)
            require(intent is not None, "nobody asked for", operation)
            assert intent is not None
            asked = (intent.user_id, intent.amount, intent.text)
            require(asked == (user_id, amount, text), operation, "was asked for as", asked)
            require(operation not in self.performed, "charged a second time:", operation)
        amount = sum(amount for _, amount, *_ in body["items"])
        try:
            yield ledger.take(
                "usage", amount, self.world.clock, body["operation"], body["description"]
            )
        except Short as short:
            raise Violation(f"{body} took more than the {short.available} there are") from short

    def _expected_on_request(self, user_id: str, ledger: Ledger, body: Json) -> Iterator[Line]:
        if body.get("items"):
            yield from self._expected_many(user_id, ledger, body)
            return
        intent = self.intents.get(body["operation"])
        require(intent is not None, "nobody asked for", body)
        assert intent is not None
        require(intent.user_id == user_id, "entry of another user:", user_id, intent)
        require(intent.operation not in self.performed, "done a second time:", intent)
        is_in_order = not intent.after or intent.after in self.performed
        require(is_in_order, "done before the row above it:", intent)
        try:
            for subscription in self.candidates(user_id):
                of_plan = subscription.lifetime if subscription.has_plan else None
                yield intent.line(ledger, subscription.timezone, self.world.clock, of_plan)
        except Short as short:
            raise Violation(f"{intent} took more than the {short.available} there are") from short
        except Forbidden as error:
            raise Violation(f"{intent} is against the rules and was done") from error

    def _expected_refunds(self, user_id: str, ledger: Ledger, body: Json) -> Iterator[Line]:
        """The lines of what is reported in this step of the payment that it names."""
        owner, purchase = self.purchase_of(body["operation"].removeprefix("refund#"))
        require(owner == user_id, "a payment of", owner, "is refunded to", user_id)
        for report in self.reporting:
            if report.operation == body["operation"]:
                with suppress(Outdated, Forbidden):
                    line = report.line(ledger, purchase, self.world.clock)
                    if line:
                        yield line

    def purchase_of(self, payment: str) -> tuple[str, int]:
        """Who has bought with a payment, and in which entry; nobody and 0 for none."""
        return self.performed.get(f"purchase#{payment}", ("nobody", 0))

    def _expected_ends(self, ledger: Ledger, body: Json) -> Iterator[Line]:
        require(body["operation"] not in self.performed, "a hold ends a second time:", body)
        for end in self.ends[body["operation"]]:
            with suppress(Short, Forbidden, Over):
                yield end.line(ledger, "", self.world.clock)

    def _is(self, end: Intent, ledger: Ledger, line: Line) -> bool:
        """Whether it was this end that a line came of."""
        with suppress(Short, Forbidden, Over):
            return end.line(ledger, "", self.world.clock) == line
        return False

    # --- Messages ---------------------------------------------------------------------------------

    def delivering(self, queue: str, messages: Sequence[Message]) -> None:
        """Messages are about to be delivered: what they allow to happen."""
        for message in messages:
            body = json.loads(message.body)
            self.correlations.add(operation_of(message))
            if queue == "allocations":
                as_of = datetime.fromisoformat(body["as_of"])
                for user_id in body["user_ids"]:
                    self.allocating.setdefault(user_id, []).append(as_of)
            if queue == "expiries":
                self.expiring.update(body["user_ids"])

    def delivered(
        self,
        queue: str,
        messages: Sequence[Message],
        failed: Sequence[Message] | None,
        *,
        smoothly: bool,
        spared: Iterable[str] | None = None,
    ) -> None:
        """They were delivered, and some have failed (None: the process died, all come again).

        ``spared``: whose calls met trouble, if one can tell; nobody else may suffer from it.
        """
        if failed is None:
            return
        for message in failed if smoothly else ():
            is_stranded = self._has_stranded(queue, message)
            require(is_stranded, "a message failed for no reason:", message.body)
        for message in messages:
            if message not in failed:
                acknowledged.message_is_done(self, queue, message)
            elif spared is not None and queue in ("allocations", "expiries"):
                acknowledged.users_are_done(self, queue, message, spared)

    def _has_stranded(self, queue: str, message: Message) -> bool:
        """Whether a message has users of whom nobody can say what is owed to them."""
        users = json.loads(message.body)["user_ids"] if queue == "allocations" else ()
        return any(
            version.is_stranded
            for user_id in users
            if user_id in self.subscriptions
            for version in self.candidates(user_id)
        )

    # --- Emails -----------------------------------------------------------------------------------

    def predictions(self, message: Message) -> list[tuple[Any, ...]]:
        """What may become of a message: ("send", identity, subject, texts), or ("nothing",)."""
        body = json.loads(message.body)
        user_id = body["user_id"]
        return [
            self._reminder(body, subscription, ledger)
            if "expires_at" in body
            else self._mail(body["number"], subscription, ledger)
            for subscription in self.candidates(user_id)
            for ledger in self.visited(user_id)
        ]

    def _reminder(self, body: Json, subscription: Subscription, ledger: Ledger) -> tuple[Any, ...]:
        end = datetime.fromisoformat(body["expires_at"])
        now = self.world.clock
        expiring = [grant for grant in ledger.alive(now) if grant.expires_at == end]
        is_wanted = "expiring_soon" in subscription.notifications and subscription.is_written_to
        if not is_wanted or not expiring:
            return ("nothing",)
        # What is held for longer does not expire with them.
        held = ledger.held(end)
        left = sum(ledger.left[grant.number] - held[grant.number] for grant in expiring)
        if not left:
            return ("nothing",)
        language = subscription.language
        day = reference.day_in_words(reference.last_day(expiring[0]), now, language)
        subject = reference.sent_subject(language, "expiring_soon", left, day)
        return ("send", ("expiring_soon", subscription.user_id, end), subject, ())

    def _mail(self, number: int, subscription: Subscription, ledger: Ledger) -> tuple[Any, ...]:
        if number > len(ledger.lines):
            return ("nothing",)  # of a moment of the step before it was there
        line, before = ledger.lines[number - 1], ledger.until(number - 1)
        kind = reference.mail_of(line, before, subscription)
        if kind is None or kind not in subscription.notifications:
            return ("nothing",)
        if not subscription.is_written_to:
            return ("nothing",)
        user_id = subscription.user_id
        available = ledger.until(number).available(line.posted_at)
        language, told = subscription.language, line.posted_at
        wording = reference.WORDINGS[language]

        def words(day: date) -> str:
            return reference.day_in_words(day, told, language)

        if kind == "low_balance":
            identity = (kind, user_id, reference.newest_grant(line, before))
            return ("send", identity, reference.sent_subject(language, kind, available), ())
        texts = [wording.available.format(reference.credits_in_words(available, language))]
        about = ""
        if kind == "expiration":
            about = words(reference.day_of(line, before))
            texts += [
                wording.granted.format(
                    words(reference.local_day(grant.timezone, grant.granted_at)),
                    reference.credits_in_words(abs(lost), language),
                )
                for grant, lost in ((before.grants[batch], lost) for batch, lost in line.legs)
            ]
        elif kind == "allocation":
            about = reference.month_in_words(line.through or "", told, language)
        if line.grant and line.grant.expires_at:
            texts.append(wording.through.format(words(reference.last_day(line.grant))).strip())
        form = "first" if line.is_welcome else kind
        form = "none" if kind == "allocation" and not line.amount else form
        amount = abs(line.amount) if kind == "expiration" else line.amount
        subject = reference.sent_subject(language, form, amount, about)
        return ("send", (kind, user_id, number), subject, tuple(texts))

    def sent_now(
        self,
        predicted: Sequence[tuple[Message, Sequence[tuple[Any, ...]]]],
        failed: Sequence[Message],
        *,
        smoothly: bool,
        spared: Collection[str] | None = None,
    ) -> None:
        """Emails may have been sent, and messages handled: were they the right ones, and once?

        ``spared``: as for `delivered`. What was predicted before the delivery and what would be now
        are both right: the messages of a batch can be about the same mail.
        """
        possible = [
            (message, [*before, *self.predictions(message)]) for message, before in predicted
        ]
        offers = [
            (operation_of(message), offer)
            for message, offers in possible
            for offer in offers
            if offer[0] == "send"
        ]
        for mail in self.world.aws.state.mails[self.mails_before :]:
            right = [
                identity
                for operation, (_, identity, subject, texts) in offers
                if (operation, *identity[:2]) == (mail.correlation, mail.kind, mail.user_id)
                and subject == mail.subject
                and all(text in mail.text for text in texts)
                and identity not in self.sent
            ]
            require(bool(right), "this mail is wrong, or was sent before:", mail, offers)
            addresses = {each.email for each in self.candidates(mail.user_id)}
            require(mail.address in addresses, "an email to an address of before:", mail)
            self.sent[right[0]] = mail.subject
        for message, offers in possible:
            is_spared = spared is None or json.loads(message.body)["user_id"] in spared
            self._handled(message, offers, message in failed, smoothly=smoothly or not is_spared)

    def _handled(
        self,
        message: Message,
        offers: Sequence[tuple[Any, ...]],
        has_failed: bool,  # noqa: FBT001
        *,
        smoothly: bool,
    ) -> None:
        mails = [offer for offer in offers if offer[0] == "send"]
        body = json.loads(message.body)
        if not smoothly:
            self.doubtful.update(offer[1] for offer in mails)
        if has_failed:
            is_doubtful = any(offer[1] in self.doubtful for offer in mails)
            has_reason = not smoothly or is_doubtful
            require(has_reason, "an email failed for no reason:", message, offers)
            return
        is_done = len(mails) < len(offers) or any(offer[1] in self.sent for offer in mails)
        require(is_done, "an email was not sent and its message is gone:", message, offers)
        if "number" in body:
            self.acknowledged.add((body["user_id"], body["number"]))

    # --- When everything is quiet -----------------------------------------------------------------

    def nothing_is_due(self) -> None:
        """Everything that was to happen by now has happened."""
        now = self.world.now
        for user_id, versions in self.subscriptions.items():
            ledger = self.ledger(user_id)
            due = versions[-1].due(ledger.through, now, now) or versions[-1].step_due(ledger)
            require(not due, "never allocated to user", user_id, due, versions[-1])
            overdue = ledger.overdue(reference.ALWAYS, now)
            require(not overdue, "never expired for user", user_id, overdue)

    def held_until(self) -> datetime:
        """When the last hold is over that keeps credits of a batch which expires before."""
        ends = [
            hold.ends_at
            for ledger in self.ledgers.values()
            for hold in ledger.active(self.world.now)
            if hold.timezone
        ]
        return max(ends, default=self.world.now)

    def everybody_was_told(self) -> None:
        """The sender handled every line that calls for an email, or its message is parked."""
        parked = {
            (body["user_id"], body["number"])
            for message in self.world.queue("notifications-dlq")
            if "number" in (body := json.loads(message.body))
        }
        for user_id, ledger in self.ledgers.items():
            before = Ledger()
            for number, line in enumerate(ledger.lines, 1):
                is_called_for = reference.mail_of(
                    line, before, self.subscription(user_id)
                ) and reference.was_always_called_for(line, before)
                is_told = (user_id, number) in self.acknowledged | parked
                untold = f"user {user_id} was never told of entry {number}:"
                require(is_told or not is_called_for, untold, line)
                before.add(line)

    def ledgers_verify(self) -> None:
        """The product's own audit of every ledger agrees, and adds up to the same."""
        for user_id, ledger in self.ledgers.items():
            account = self.world.services.ledger.audit(user_id)
            found = (account.ledger_balance, account.last_hash, account.next_number)
            last = self.hashes.get(user_id, account.last_hash)
            right = (ledger.balance, last, len(ledger.lines) + 1)
            require(found == right, "verification adds up to something else:", account)


def _described(ledger: Ledger, line: Line) -> Json:
    """A line as the body of an entry should say it."""
    after = ledger.after(line)
    description: Json = {
        "type": line.type,
        "amount": line.amount,
        "balance": after.balance,
        "batches": [
            [
                *(grant.number, grant.amount, after.left[grant.number]),
                *(milliseconds(grant.granted_at), milliseconds(grant.expires_at)),
                # What is as with most batches is not said.
                *([] if grant.source == "plan" else [grant.priority, grant.source]),
            ]
            for grant in after.open()
        ],
        "legs": [list(leg) for leg in line.legs],
        "through": line.through,
        "effective": milliseconds(line.effective_at),
        "posted": milliseconds(line.posted_at),
        "zone": line.sweep and line.sweep[0],
        "silent": True if line.silent else None,
        "holds": [
            [hold.number, milliseconds(hold.ends_at), [list(leg) for leg in hold.legs]]
            for hold in after.active(line.posted_at)
        ]
        or None,
        "hold": line.ends or None,
        "released": line.released if line.ends else None,
        "including_held": None,
        "price": list(line.price) if line.price else None,
        "refund": None,
        "left_out": line.left_out or None,
        "balance_cap": line.full_at,
        "sign_up": line.is_welcome or None,
        "topped_up": milliseconds(after.stepped_at),
    }
    if line.refunds:
        unrecovered = line.refunded - after.taken_back(line.refunds)
        seen = milliseconds(line.observed_at)
        description["refund"] = [line.refunds, line.refunded, unrecovered, seen]
    if line.type != "expiration":
        description["operation"] = line.operation
    if line.description:
        description["description"] = line.description
    return description


def _read(item: Json) -> Subscription:
    unwanted = item.get("unwanted_mails", {"S": ""})["S"].split()
    own = item.get("allocation_amount")
    day = item.get("eligible_on")
    return Subscription(
        user_id=item["user_id"]["S"],
        email=item["email"]["S"] if "email" in item else None,
        timezone=item["timezone"]["S"],
        plan=item["plan"]["S"],
        billing_interval=item["billing_interval"]["S"],
        status=item["status"]["S"],
        started_at=instant(item["started_at"]),
        registered_at=instant(item["registered_at"]),
        eligible_from=date.fromisoformat(day["S"]) if day else instant(item["eligible_from"]),
        allocation_amount=int(own["N"]) if own else None,
        notifications=ALL_KINDS - set(unwanted),
        ends_at=instant(item["ends_at"]) if "ends_at" in item else None,
        observed_at=instant(item["observed_at"]) if "observed_at" in item else None,
        language=item["language"]["S"] if "language" in item else "en",
        suppressed=item["suppressed"]["S"] if "suppressed" in item else None,
        version=int(item["version"]["N"]),
        welcome=_welcome(item["sign_up"]["S"]) if "sign_up" in item else None,
        raised=_raised(item["raised"]["S"]) if "raised" in item else None,
    )


def _raised(text: str) -> Raised:
    period, level, *steps = text.split(" ")
    pairs = [step.split("@") for step in steps]
    return Raised(period, int(level), tuple((int(n), instant({"N": at})) for n, at in pairs))


def _welcome(text: str) -> Welcome:
    period, amount, at = text.split(" ")
    return Welcome(period, int(amount), instant({"N": at}))
