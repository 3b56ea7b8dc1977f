"""One life of the world: its steps, the trouble in them, what people ask for, and how it ends.

`machine.Machine` has the rules of what can happen; here is what they are made of. A life tells its
story as it goes; Hypothesis shrinks the example that fails, and so the story.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, ClassVar

from hypothesis.stateful import RuleBasedStateMachine

from chalicelib.domain.errors import CreditsError
from infra.faults import FAULTS
from tests.simulation import acknowledged, answers, reference
from tests.simulation.aws import Call, Message
from tests.simulation.consuming import everything_is_heard
from tests.simulation.drawn import Change, Drawn, Profile
from tests.simulation.faults import Fault, Killed, Trouble, Troubles, kind_of, users_of
from tests.simulation.oracle import AS_THE_PLAN, Edit, Intent, Oracle
from tests.simulation.reference import (
    Forbidden,
    Outdated,
    Short,
    Subscription,
    Violation,
    require,
    show,
)
from tests.simulation.world import WORK_QUEUES, Reply, World, simulated, ticks_between

Json = dict[str, Any]

ADMIN = {"caller": "admin", "user_id": "", "scopes": "credits:admin"}
SHOP = {"caller": "shop", "user_id": "", "scopes": "credits:backend"}
TILL = {"caller": "till", "user_id": "", "scopes": "credits:billing"}
HOOK = {"caller": "hook", "user_id": "", "scopes": "credits:billing"}
"""Two that report payments: a page that users come back to, and a webhook."""
LAMBDA = "lambda/manual-allocate"
MILLISECOND = timedelta(milliseconds=1)
OUTDATED = 422
"""What an edit is answered that was observed before what is stored."""
STATUS_OF = {
    "invalid_input": 400,
    "insufficient_credits": 402,
    "idempotency_key_reused": 422,
    "not_allowed": 422,
    "outdated_edit": OUTDATED,
    "not_found": 404,
    "contention": 409,
}
FAILURES = (*FAULTS, CreditsError)
"""The errors that may end an invocation of ours: its caller tries again."""

AIMS = {
    step: tuple(aims.split(", "))
    for step, aims in {
        "edit": "GetItem subscriptions, ExecuteTransaction edits, ExecuteTransaction edits, "
        "ExecuteStatement ledger",
        "use": "Query ledger, ExecuteTransaction ledger, ExecuteTransaction ledger, "
        "TransactGetItems ledger",
        "reverse": "Query ledger, GetItem ledger, ExecuteTransaction ledger, "
        "ExecuteTransaction ledger, TransactGetItems ledger",
        # Who is refused may have been served before: that is looked up.
        "refusal": "TransactGetItems ledger, TransactGetItems ledger",
        "hold": "Query ledger, GetItem subscriptions, ExecuteTransaction ledger, "
        "ExecuteTransaction ledger, TransactGetItems ledger",
        # Who comes late looks up how it ended.
        "end": "Query ledger, GetItem ledger, ExecuteTransaction ledger, "
        "ExecuteTransaction ledger, TransactGetItems ledger, BatchGetItem ledger",
        "buy": "Query ledger, GetItem subscriptions, ExecuteTransaction ledger, "
        "ExecuteTransaction ledger, TransactGetItems ledger",
        "refund": "GetItem ledger, Query ledger, Query ledger, "
        "ExecuteTransaction ledger, ExecuteTransaction ledger",
        # Stripe tells of a contract, of a customer, of what was paid, of what is taken back.
        "stripe": "GetItem stripe, PutItem stripe, GetItem subscriptions, "
        "ExecuteTransaction edits, ExecuteTransaction ledger, TransactGetItems ledger, "
        "Query ledger, ExecuteStatement ledger",
        "by hand": "Query ledger, GetItem subscriptions, ExecuteTransaction ledger",
        "tick": "SendMessageBatch sweeps",
        "sweeps": "Query by_timezone, Query by_anniversary, Query expiring, "
        "SendMessageBatch allocations, SendMessageBatch expiries, "
        "SendMessageBatch notifications, SendMessageBatch sweeps",
        "allocations": "BatchGetItem subscriptions, Query ledger, ExecuteStatement ledger, "
        "ExecuteStatement ledger, BatchExecuteStatement ledger",
        "expiries": "Query ledger, ExecuteStatement ledger, BatchExecuteStatement ledger",
        "stream": "SendMessageBatch notifications",
        "notifications": "BatchGetItem subscriptions, BatchGetItem ledger, PutItem mails, "
        "SendEmail, SendEmail, UpdateItem mails, ChangeMessageVisibilityBatch notifications",
        "read": "GetItem subscriptions, Query ledger, GetItem ledger",
        "balances": "BatchGetItem ledger, BatchGetItem subscriptions, GetItem subscriptions, "
        "ExecuteTransaction ledger, ExecuteTransaction ledger, ExecuteTransaction ledger",
        "promotion": "BatchGetItem ledger, BatchGetItem subscriptions, GetItem subscriptions, "
        "ExecuteTransaction ledger, ExecuteTransaction ledger, ExecuteTransaction ledger",
        "subscribers": "BatchGetItem subscriptions, GetItem subscriptions, "
        "ExecuteTransaction edits, ExecuteTransaction edits, ExecuteStatement ledger",
        "count": "SendMessageBatch checks, Query by_timezone, Query ledger, Query ledger",
        "preview": "Query by_timezone, BatchGetItem subscriptions, Query ledger",
    }.items()
}
"""At which calls trouble can aim in each kind of step; any call is an aim, too."""

CALM = Troubles()
WORK = frozenset({"allocations", "expiries", "notifications"})
"""The kinds of steps in which an item of one of several users can be damaged for a while."""

OF_NAMED_USERS = frozenset(
    {"Query ledger", "ExecuteStatement ledger", "BatchExecuteStatement ledger"}
)
"""Calls of a worker that are about some of its users, whom they name."""


class Life(RuleBasedStateMachine):
    """The world, the oracle, and everything that can be done."""

    story_of_failure: ClassVar[list[str]] = []
    """Of the last life that failed: after shrinking, the shortest story there is."""
    steps: ClassVar[int] = 0
    lives: ClassVar[int] = 0
    struck: ClassVar[int] = 0

    profile: Profile
    world: World
    oracle: Oracle

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.story: list[str] = []
        self.is_over = True
        self.archive: dict[str, list[str]] = {name: [] for name in (*WORK_QUEUES, "notifications")}
        self.later: list[Callable[[], None]] = []
        self.withdrawn: dict[str, reference.Plan] = {}
        """Plans that have left the catalogue."""
        self.seen: dict[str, Json] = {}
        """What editors have read of each user, however long ago."""
        self.meanwhiles = 0
        self.again: Callable[[], None] | None = None
        """Does what the present step does a second time, as somebody else."""

    def live(self, profile: Profile) -> None:
        self.profile = profile
        self.stack.enter_context(simulated(profile.zones, profile.users_a_page))
        self.stack.callback(reference.deploy, reference.SHIPPED)
        reference.deploy(profile.plans)
        self.world = World(profile.start, plans=profile.plans, timezone=profile.zones[0])
        self.world.aws.state.dynamodb.most_page_bytes = profile.page_bytes
        self.stack.enter_context(self.world.running())
        self.oracle = Oracle(self.world)
        self.past = self.present = self.world.aws.state.copy()
        self.is_over = False
        Life.lives += 1

    # --- How a step goes --------------------------------------------------------------------------

    @contextmanager
    def step(self, words: str, drawn: Drawn | None = None, kind: str = "") -> Iterator[Troubles]:
        """One step: what happens in it is told, observed and judged."""
        Life.steps += 1
        # Who reads late reads what was there before the step before this one.
        if Fault.STALE in self.profile.faults:
            self.past, self.present = self.present, self.world.aws.state.copy()
        self.oracle.remember()
        troubles = self._troubles(drawn or [], kind)
        self.story.append(f"{show(self.world.now)}  {words}")
        before = {name: len(self.world.queue(name)) for name in self.archive}
        reads_the_past = any(trouble.fault is Fault.STALE for trouble in troubles.all)
        self.oracle.begin(reads_the_past=reads_the_past)
        try:
            yield troubles
            for check in self.later:
                check()
        except BaseException as error:
            self.is_over = True
            self._tell(troubles)
            if isinstance(error, Violation):
                self.story.append(f"VIOLATED: {error}")
            else:
                self.story.append(f"CRASHED: {type(error).__name__}: {error}")
            Life.story_of_failure = self.story
            raise
        else:
            self._tell(troubles)
        finally:
            self.later = []
            self.again = None
        for name, archive in self.archive.items():
            new = self.world.queue(name)[before[name] :]
            archive.extend(message.body for message in new)
            del archive[:-40]

    def _tell(self, troubles: Troubles) -> None:
        Life.struck += sum(bool(trouble.struck) for trouble in troubles.all)
        told = [trouble.told() for trouble in troubles.all if trouble.struck]
        self.story[-1] = "; ".join((self.story[-1], *told))

    def _troubles(self, drawn: Drawn, kind: str) -> Troubles:
        """What was drawn, among the faults of this life and the aims of this step."""
        aims = (*AIMS.get(kind, ()), "")
        faults = tuple(
            Fault.THROTTLED if fault is Fault.UNREADABLE and kind not in WORK else fault
            for fault in self.profile.faults
        )
        if Fault.MEANWHILE in faults:
            faults = (*faults, Fault.MEANWHILE, Fault.MEANWHILE)
        return Troubles(
            [
                self._trouble(
                    faults[fault % len(faults)], aims[aim % len(aims)], at, times, meanwhile
                )
                for fault, aim, at, times, meanwhile in drawn
            ]
        )

    def _trouble(
        self, fault: Fault, aim: str, at: int, times: int, meanwhile: tuple[str, int, str, Change]
    ) -> Trouble:
        trouble = Trouble(fault, at, times, aim)
        if fault is Fault.STALE:
            trouble.past, trouble.aim, trouble.at, trouble.times = self.past, "", 0, 1000
        if fault is Fault.MEANWHILE:
            trouble.times = 1
            trouble.meanwhile = lambda call: self._meanwhile(call, *meanwhile)
        return trouble

    def attempt(
        self, troubles: Troubles, act: Callable[[], Any], again: Callable[[], None] | None = None
    ) -> Any:
        """What ``act`` answers under trouble; None when its process died."""
        self.again = again
        try:
            with self.world.troubled(troubles):
                answer = act()
        except Killed:
            answer = None
        self.oracle.end()
        return answer

    @staticmethod
    def answered(reply: Reply | None, troubles: Troubles, *words: object) -> Reply | None:
        """The answer; None if one must ask again. That must have a reason."""
        if reply is None or reply.status == 503 or _is_passing(reply):
            require(not troubles.is_absorbed, *words, "failed for no reason:", reply)
            return None
        return reply

    def _meanwhile(self, call: Call, what: str, amount: int, key: str, change: Change) -> str:
        """Another process does something, whole, in the middle of a call of this one."""
        known = self.oracle.subscriptions
        about = [user for user in users_of(call) if user in known]
        who = next(iter(about or known), None)
        interference, self.world.aws.interfere = self.world.aws.interfere, None
        try:
            if what == "again" and self.again:
                self.again()
                return "the same again"
            if who is None:
                return "nothing"
            if what == "edit" or kind_of(call) == "ExecuteTransaction edits":
                self.edit(who, self.given(who, change)).send()
                return f"the {change[0]} of {who} is changed to {self.shown(who, change)}"
            if what == "deliver":
                self._deliver_meanwhile()
                return "what waits is delivered"
            # Of another backend: its keys are its own.
            self.meanwhiles += 1
            if what in ("end", "refund"):
                other = self.end_meanwhile if what == "end" else self.refund_meanwhile
                return other(who, amount)
            asked = self._ask_meanwhile(what, who, amount, f"{key}-meanwhile-{self.meanwhiles}")
            judge = self.asked(asked[0])
            reply, posted = asked[1](), self.oracle.posted()
            self.later.append(lambda: judge(reply, CALM, posted))
            return f"{asked[0].kind} of {asked[0].amount or 'all'} for {who}"
        finally:
            self.world.aws.interfere = interference

    def deployed(self, plans: reference.Plans) -> None:
        reference.deploy(plans, self.world.now)
        self.world.deploy(plans)

    def _deliver_meanwhile(self) -> None:
        for queue in WORK_QUEUES:
            messages = self.world.waiting(queue)[:10]
            if messages:
                self.oracle.delivering(queue, messages)
                failed = self.world.deliver(queue, messages)
                self.later.append(self._judged(queue, messages, failed))

    def _judged(
        self, queue: str, messages: Sequence[Message], failed: Sequence[Message]
    ) -> Callable[[], None]:
        return lambda: self.oracle.delivered(queue, messages, failed, smoothly=True)

    def _ask_meanwhile(
        self, what: str, who: str, amount: int, key: str
    ) -> tuple[Intent, Callable[[], Reply]]:
        usages = self.usages(who)
        if what == "reverse" and usages:
            return self.give_back(who, usages[-1], None, key)
        if what == "grant":
            return self.by_hand(who, amount, None, key, silent=False, by_lambda=False)
        if what == "hold":
            return self.hold_of(who, amount, 3600, key, SHOP)
        return self.use_of(who, amount, key, own=False)

    # --- Who and where ----------------------------------------------------------------------------

    def user(self, who: int | str) -> str:
        """One of the users there are, by their place or their name."""
        known = list(self.oracle.subscriptions)
        return who if isinstance(who, str) else known[who % len(known)]

    def month_start(self, who: str, months: int) -> datetime:
        """When the month of a user that runs had begun, or one of those after it begins."""
        subscription = self.oracle.subscription(who)
        day = reference.local_day(subscription.timezone, self.world.now)
        starts = [subscription.start(month) for month in reference.months_around(day, 2, 6)]
        running = max(start for start in starts if start <= self.world.now)
        return starts[starts.index(running) + months]

    def allocate_running_month(self, who: str) -> None:
        """The month that has begun is swept where a user lives, and all are allocated to."""
        timezone = self.oracle.subscription(who).timezone
        self.allocate_month(timezone, self.month_start(who, 0))

    def allocate_month(self, timezone: str, start: datetime, drawn: Drawn | None = None) -> None:
        self.start("allocation", start, (timezone,), [])
        self.deliver_all("sweeps", [])
        self.deliver_all("allocations", drawn or [])

    def zone(self, place: int) -> str:
        return self.profile.zones[place % len(self.profile.zones)]

    def usages(self, who: str) -> list[int]:
        lines = self.oracle.ledger(who).lines
        return [number for number, line in enumerate(lines, 1) if line.type == "usage"]

    @property
    def instant(self) -> datetime:
        """What the working machine's clock says, to the millisecond."""
        clock = self.world.clock
        return clock.replace(microsecond=clock.microsecond // 1000 * 1000)

    def shown(self, who: str, change: Change) -> str:
        return show(self.given(who, change)[change[0]])

    def given(self, who: str, change: Change) -> Json:
        """What a change sets, as the reference has it."""
        name, value = change
        if name == "timezone":
            value = self.zone(value)
        elif name == "notifications":
            value = frozenset(value)
        elif isinstance(value, tuple):
            value = self._moment(who, *value)
        return {name: value}

    def _moment(self, who: str, kind: str, number: int) -> datetime | date:
        """A moment that was drawn: so many days from now, or the start of a month there."""
        if kind == "days":
            return self.instant + number * reference.DAY
        timezone = self.oracle.subscription(who).timezone
        day = reference.running_day(timezone, self.world.now)
        first = date.fromisoformat(f"{reference.months_around(day, 20, 3)[20 + number]}-01")
        if kind in ("last", "long"):
            first -= reference.DAY
            while kind == "long" and first.day < 31:
                first = first.replace(day=1) - reference.DAY
            return datetime(first.year, first.month, first.day, 12, tzinfo=UTC)
        return first if kind == "date" else reference.midnight(timezone, first)

    # --- Subscriptions ----------------------------------------------------------------------------

    def edit(
        self,
        who: str,
        given: Json,
        method: str = "PATCH",
        if_match: str | None = None,
        caller: Json = ADMIN,
    ) -> "Sender":
        """What sends an edit; the oracle knows of it."""
        now = self.instant
        is_shop = caller is SHOP
        forgotten = {} if method != "PUT" else FORGOTTEN_BY_SHOPS if is_shop else FORGOTTEN
        asked = {**forgotten, **given}
        body = {name: as_json(value) for name, value in given.items()}

        def apply(present: Subscription | None) -> Subscription | None:
            status = present and self._status(present, asked, if_match, is_shop=is_shop)
            return present.edited(now, asked) if present and status == 200 else present

        headers = {} if if_match is None else {"If-Match": f'"{if_match}"'}
        path = f"/api/subscriptions/{who}"
        sender = self.known(
            who, apply, lambda: self.world.call(method, path, caller, body, headers)
        )
        sender.status = lambda present: self._status(present, asked, if_match, is_shop=is_shop)
        return sender

    def _status(
        self, present: Subscription, asked: Json, if_match: str | None, *, is_shop: bool
    ) -> int:
        """What an edit of this version should be answered."""
        if if_match is not None and str(present.version) != if_match:
            return 412
        if "plan" in asked and asked["plan"] not in reference.plans_at():
            return 400
        try:
            edited = present.edited(self.instant, asked)
        except Outdated:
            return OUTDATED
        return 403 if is_shop and edited.is_given_more_than(present) else 200

    def known(
        self,
        who: str,
        apply: Callable[[Subscription | None], Subscription | None],
        send: Callable[[], Reply],
    ) -> "Sender":
        """The sender of an edit that the oracle knows of, and what it was told."""
        edit = Edit(who, apply)
        self.oracle.edits.append(edit)

        def sent() -> Reply:
            # An edit that makes something due posts it.
            self.oracle.allocating.setdefault(who, []).append(self.world.clock)
            edit.attempts += 1
            reply = send()
            edit.is_done |= reply.status in (200, 201)
            edit.refusals += 400 <= reply.status < 500
            return reply

        return Sender(sent)

    def changed(
        self,
        who: str,
        words: str,
        change: Change,
        drawn: Drawn,
        *,
        by: str = "patch",
        if_match: bool = False,
        observed: int | None = None,
        caller: Json = ADMIN,
    ) -> None:
        """A step in which a subscription is changed.

        ``by``: ``patch``, or ``put`` by somebody who reads it, changes one field and puts all of it
        back, or ``stale``, the same by somebody who has read it some time ago.
        """
        if by == "put" or who not in self.seen:
            self.look(who)
        version = self.oracle.subscription(who).version
        if by == "stale":
            version = self.seen[who]["version"]
        given = self.given(who, change)
        if observed is not None:
            given["observed_at"] = self.instant - timedelta(hours=observed)
        method = "PATCH"
        if by != "patch":
            method, given = "PUT", {**self.seen[who]["given"], **given}
        words += f": the {change[0]} of {who} is changed to {self.shown(who, change)}"
        words += "" if by == "patch" else ", all else is put back as it was read"
        words += f" if it is still version {version}" if if_match else ""
        words += "" if observed is None else f", observed {observed} hours ago"
        words += f", says the {caller['caller']}"
        with self.step(words, drawn, "edit") as troubles:
            sender = self.edit(who, given, method, str(version) if if_match else None, caller)
            self.edited(who, sender, troubles)

    def look(self, who: str) -> None:
        """An editor reads a subscription, and keeps what they may send back."""
        with self.step(f"an editor reads the subscription of {who}"):
            reply = self.world.call("GET", f"/api/subscriptions/{who}", SHOP)
            require(reply.status == 200, "reading a subscription was answered", reply)
            self._is_told(who, reply)
            found = reply.json
            given = {name: from_json(name, found[name]) for name in EDITABLE}
            self.seen[who] = {"given": given, "version": reply.headers["etag"].strip('"')}

    def edited(self, who: str, sender: "Sender", troubles: Troubles) -> None:
        def again() -> None:
            reply = sender.send()
            self.later.append(lambda: self._edit_answered(who, sender, reply, CALM))

        reply = self.attempt(troubles, sender.send, again)
        self._edit_answered(who, sender, reply, troubles)

    def _edit_answered(
        self, who: str, sender: "Sender", reply: Reply | None, troubles: Troubles
    ) -> None:
        if (reply := self.answered(reply, troubles, "an edit")) is None:
            return
        known = self.oracle.candidates(who) if who in self.oracle.subscriptions else []
        allowed = {sender.status(version) for version in known} or {400}
        if self.oracle.may_be_unseen(who) and 200 in allowed:
            allowed.add(201)
        require(reply.status in allowed, "an edit was answered", reply, "and not", allowed)
        if reply.status >= 400:
            return
        self._is_told(who, reply)
        ledger, subscription = self.oracle.ledger(who), self.oracle.subscription(who)
        due = subscription.due(ledger.through, self.world.clock, self.world.clock)
        step = subscription.step_due(ledger)
        has_reason = troubles.has_struck(Fault.MEANWHILE) or not troubles.is_absorbed
        left = "an edit has left due what it should have posted:"
        require(not (due or step) or has_reason, left, due, step, subscription)

    def _is_told(self, who: str, reply: Reply) -> None:
        """What an answer says of a subscription is what there was at some moment of the step."""
        possible = [
            (answers.edited(version, ledger, ledger.time(self.world.clock)), f'"{version.version}"')
            for version in self.oracle.candidates(who)
            for ledger in self.oracle.visited(who)
        ]
        found = {name: reply.json[name] for name in possible[0][0]}
        is_right = (found, reply.headers["etag"]) in possible
        require(is_right, "the answer is not what the subscription became:", found, possible)

    # --- Credits ----------------------------------------------------------------------------------

    def use_of(
        self, who: str, amount: int, key: str, *, own: bool
    ) -> tuple[Intent, Callable[[], Reply]]:
        """A use of credits: what is wanted, and what sends it."""
        own_token = {"user_id": who, "scopes": "credits:read credits:use"}
        caller = {"caller": f"user|{who}", **own_token} if own else SHOP
        intent = Intent(f"usage#{caller['caller']}#{key}", who, "usage", amount, "Report")
        body: Json = {"amount": amount, "description": "Report"}
        if not own:
            body["user_id"] = who
        return intent, self._post("use", caller, body, key)

    def give_back(
        self, who: str, number: int, amount: int | None, key: str
    ) -> tuple[Intent, Callable[[], Reply]]:
        """The same of a reversal; without an amount it is of all that is left."""
        intent = Intent(f"reversal#shop#{key}", who, "reversal", amount, "Oops", usage=number)
        body: Json = {"user_id": who, "transaction_id": f"{who}-{number}", "description": "Oops"}
        body |= {} if amount is None else {"amount": amount}
        return intent, self._post("reverse", SHOP, body, key)

    def by_hand(
        self, who: str, amount: int, days: int | None, key: str, *, silent: bool, by_lambda: bool
    ) -> tuple[Intent, Callable[[], Reply]]:
        """The same of a change by an admin; a negative amount claws back."""
        caller = LAMBDA if by_lambda else "admin"
        intent = Intent(
            f"manual#{caller}#{key}", who, "manual", amount, "Goodwill", days, silent=silent
        )
        body: Json = {"user_id": who, "amount": amount, "description": "Goodwill"}
        if days != AS_THE_PLAN:
            body["expires_in_days"] = days
        body |= {"notify": False} if silent else {}
        if not by_lambda:
            return intent, self._post("allocate", ADMIN, body, key)
        event = {**body, "actor": "admin", "idempotency_key": key}

        def invoke() -> Reply:
            try:
                answer = self.world.manual_allocate(event)
            except FAILURES:
                return Reply(503, {}, "")
            status = 200 if answer["success"] else STATUS_OF[answer["error"]["code"]]
            return Reply(status, {}, json.dumps(answer | answer.get("error", {})))

        return intent, invoke

    def void_of(self, who: str, batch: int, key: str) -> tuple[Intent, Callable[[], Reply]]:
        """The same of an admin who takes back what is left of a batch."""
        intent = Intent(f"void#admin#{key}", who, "void", None, "Mistake", usage=batch)
        path = f"batches/{who}-{batch}/void"
        return intent, self._post(path, ADMIN, {"description": "Mistake"}, key)

    def hold_of(
        self, who: str, amount: int, seconds: int, key: str, caller: Json
    ) -> tuple[Intent, Callable[[], Reply]]:
        """The same of credits to be set aside."""
        operation = f"hold#{caller['caller']}#{key}"
        intent = Intent(operation, who, "hold", amount, "Render", seconds=seconds)
        body: Json = {"user_id": who, "amount": amount, "description": "Render"}
        return intent, self._post("holds", caller, body | {"expires_in_seconds": seconds}, key)

    def end_meanwhile(self, who: str, amount: int) -> str:
        """Another process ends a hold of somebody, whole; says what it did."""
        raise NotImplementedError

    def refund_meanwhile(self, who: str, amount: int) -> str:
        """Another process reports a refund of what somebody has bought; says what it did."""
        raise NotImplementedError

    def _post(self, name: str, caller: Json, body: Json, key: str) -> Callable[[], Reply]:
        headers = {"Idempotency-Key": key}
        return lambda: self.world.call("POST", f"/api/credits/{name}", caller, body, headers)

    def perform(self, intent: Intent, send: Callable[[], Reply], troubles: Troubles) -> None:
        """Asks for an operation, and judges the answer."""
        judge = self.asked(intent)

        def again() -> None:
            reply, posted = send(), self.oracle.posted()
            self.later.append(lambda: judge(reply, CALM, posted))

        judge(self.attempt(troubles, send, again), troubles, self.oracle.posted())

    def ask(
        self, words: str, drawn: Drawn, kind: str, asked: tuple[Intent, Callable[[], Reply]]
    ) -> None:
        """A step in which an operation is asked for."""
        with self.step(words, drawn, kind) as troubles:
            self.perform(*asked, troubles)

    def asked(self, intent: Intent) -> Callable[[Reply | None, Troubles, Counter[str]], None]:
        """An operation is about to be asked for; what judges the answer, and the lines by then."""
        was_performed = intent.operation in self.oracle.performed
        if not was_performed:
            self.oracle.intents[intent.operation] = intent

        def judge(reply: Reply | None, troubles: Troubles, posted: Counter[str]) -> None:
            if (reply := self.answered(reply, troubles, intent)) is None:
                return
            known = self.oracle.intents[intent.operation]
            performed = self.oracle.performed.get(intent.operation)
            if reply.status == 200:
                require(performed is not None, "said to be done, and is not:", intent, reply)
                is_right = known.is_same(intent)
                require(is_right, "answered with another request's result:", intent, known)
                assert performed is not None
                self._answered(intent, reply, *performed, was_performed=was_performed)
            elif reply.status == 422 and reply.json["code"] == "idempotency_key_reused":
                require(not known.is_same(intent), "refused to repeat the same request:", intent)
            else:
                # Who is refused can ask again, and have it by then.
                is_earlier = performed is not None and performed[1] <= posted[performed[0]]
                require(not is_earlier, "done, and refused all the same:", intent, reply)
                self._refused(intent, reply)

        return judge

    def _answered(
        self, intent: Intent, reply: Reply, who: str, number: int, *, was_performed: bool
    ) -> None:
        ledger = self.oracle.ledger(who).until(number)
        line = ledger.lines[-1]
        found = reply.json
        right = {"success": True, "transaction_id": f"{who}-{number}"}
        right["new_balance"] = ledger.available(line.posted_at)
        if intent.kind == "hold":
            right |= answers.opened(who, line)
        elif intent.kind == "purchase":
            right["batch_id"] = f"{who}-{number}"
        elif intent.kind == "void":
            right["taken"] = -line.amount
        elif intent.kind != "manual":
            right["batches"] = answers.moves(who, line)
        if intent.kind == "reversal":
            right |= {"returned_amount": line.amount, "expired_amount": line.expired}
        require(found == right, "the answer is", found, "and should be", right)
        if was_performed and not intent.operation.startswith(f"manual#{LAMBDA}"):
            replayed = reply.headers.get("idempotency-replayed")
            require(replayed == "true", "a repeated request was not told so:", reply)

    def _refused(self, intent: Intent, reply: Reply) -> None:
        reasons: list[tuple[int, int | None]] = []
        for ledger in self.oracle.visited(intent.user_id):
            try:
                number = intent.usage
                if number > len(ledger.lines) or (
                    intent.kind == "void" and number not in ledger.grants
                ):
                    reasons.append((404, None))
                    continue
                intent.line(ledger, self.profile.zones[0], self.world.clock)
            except Short as short:
                reasons.append((402, short.available))
            except Forbidden:
                reasons.append((422, None))
        if intent.days == AS_THE_PLAN and not all(
            version.has_plan for version in self.oracle.candidates(intent.user_id)
        ):
            reasons.append((400, None))  # nobody knows how long its credits live
        found = (reply.status, reply.json.get("available_balance"))
        if intent.operation.startswith(f"manual#{LAMBDA}"):
            reasons = [(status, None) for status, _ in reasons]
        require(found in reasons, "refused for no reason:", intent, reply, reasons)

    # --- Time and scheduled work ------------------------------------------------------------------

    def go_to(self, moment: datetime, why: str) -> None:
        """The clock goes on to a moment, if it is still to come."""
        if moment > self.world.now:
            with self.step(f"the clock goes to {show(moment)}: {why}"):
                self.world.now = moment

    def start(self, kind: str, time: datetime, of: Sequence[str], drawn: Drawn) -> None:
        """A tick: for all zones, or as an operator sends it for some."""
        time = min(time, self.world.clock).replace(microsecond=0)
        where = f" for {', '.join(of)}" if of else ""
        with self.step(f"{kind} tick of {show(time)}{where}", drawn, "tick") as troubles:

            def send() -> Json:
                try:
                    return self.world.tick(kind, time, of)
                except FAILURES as error:
                    return {"success": False, "error": error}

            answer = self.attempt(troubles, send, lambda: void(send()))
            has_succeeded = answer is not None and answer["success"]
            require(has_succeeded or not troubles.is_absorbed, "a tick failed:", answer)
            if has_succeeded:
                acknowledged.tick_is_done(self.oracle, kind, time, of or self.profile.zones)

    def deliver_now(
        self,
        queue: str,
        messages: list[Message],
        drawn: Drawn,
        *,
        words: str = "",
        in_haste: bool = False,
    ) -> None:
        """Messages of a work queue are delivered."""
        bodies = " and ".join(message.body for message in messages)
        with self.step(f"{words}delivered from {queue}: {bodies}", drawn, queue) as troubles:
            self.oracle.delivering(queue, messages)
            time_left = 5_000 if in_haste else 30_000

            def again() -> None:
                failed = self.world.hand_over(queue, messages, time_left)
                self.later.append(self._judged(queue, messages, failed))

            failed = self.attempt(
                troubles, lambda: self.world.deliver(queue, messages, time_left), again
            )
            # Who has no time to wait for DynamoDB hands back whatever is not done.
            gave_up = in_haste and troubles.has_struck(Fault.THROTTLED, Fault.PARTIAL)
            self.oracle.delivered(
                queue,
                messages,
                failed,
                smoothly=troubles.is_absorbed and not gave_up,
                spared=None if gave_up else _spared(troubles),
            )

    def deliver_all(self, queue: str, drawn: Drawn, *, in_haste: bool = False) -> None:
        """All that waits in a queue now, ten at a time; it is the first ten that meet trouble."""
        waiting = self.world.waiting(queue)
        for place in range(0, len(waiting), 10):
            messages = waiting[place : place + 10]
            self.deliver_now(queue, messages, [] if place else drawn, in_haste=in_haste)

    # --- Emails -----------------------------------------------------------------------------------

    def hand_over(self, count: int, drawn: Drawn) -> None:
        records = self.world.stream[self.world.streamed : self.world.streamed + count]
        if records:
            with self.step(f"{len(records)} stream records are handed over", drawn, "stream") as t:
                if self.handed_over(records, t):
                    self.world.streamed += len(records)
                else:
                    require(not t.is_absorbed, "the stream stopped for no reason")

    def handed_over(self, records: Sequence[Json], troubles: Troubles) -> bool:
        def act() -> bool:
            try:
                self.world.deliver_stream(records)
            except Exception as error:
                if isinstance(error, FAILURES) or troubles.has_struck():
                    return False
                raise
            return True

        is_done = bool(self.attempt(troubles, act, lambda: void(act())))
        if is_done:
            acknowledged.stream_is_done(self.oracle, records)
        return is_done

    def send_now(self, messages: list[Message], drawn: Drawn) -> None:
        bodies = " and ".join(message.body for message in messages)
        with self.step(f"mails are sent for {bodies}", drawn, "notifications") as troubles:
            before = [(message, self.oracle.predictions(message)) for message in messages]

            def again() -> None:
                self.world.hand_over("notifications", messages)

            failed = self.attempt(
                troubles, lambda: self.world.deliver("notifications", messages), again
            )
            # Of two senders of one email the second does not know what becomes of it.
            is_alone = not troubles.has_struck(Fault.MEANWHILE)
            self.oracle.sent_now(
                before,
                messages if failed is None else failed,
                smoothly=troubles.is_absorbed and is_alone,
                spared=_spared(troubles) if is_alone else None,
            )

    # --- Reading ----------------------------------------------------------------------------------

    def read(
        self, words: str, path: str, query: Json, drawn: Drawn, right: Callable[[], Iterator[Json]]
    ) -> None:
        """Something is read, and must be one of what is right."""
        with self.step(words, drawn, "read") as troubles:
            reply = self.attempt(troubles, lambda: self.world.call("GET", path, ADMIN, query=query))
            if (reply := self.answered(reply, troubles, words)) is None:
                return
            require(reply.status == 200, words, "was answered", reply)
            possible = list(right())
            require(reply.json in possible, words, "answered", reply.json, "and not", *possible)

    # --- The end ----------------------------------------------------------------------------------

    def live_until(self, end: datetime, ages: Sequence[int] = (0, 15)) -> None:
        """Ticks come on time, and everything is delivered at once."""
        zones = self.profile.zones
        for moment in ticks_between(self.world.now, end, zones, ages):
            self.world.now = moment
            for kind in ("allocation", "expiry"):
                require(self.world.tick(kind, moment)["success"], "a tick failed")
            self.work()
        self.world.now = max(self.world.now, end)

    def work(self) -> None:
        """All that waits in the work queues, seen by the oracle batch by batch."""
        while any(self.world.waiting(queue) for queue in WORK_QUEUES):
            for queue in WORK_QUEUES:
                messages = self.world.waiting(queue)[:10]
                if messages:
                    self.oracle.begin()
                    self.oracle.delivering(queue, messages)
                    failed = self.world.deliver(queue, messages)
                    self.oracle.end()
                    self.oracle.delivered(queue, messages, failed, smoothly=True)

    def teardown(self) -> None:
        try:
            if not self.is_over:
                self._settle()
        finally:
            self.stack.close()

    def _settle(self) -> None:
        """Nothing goes wrong any more: everything that is due happens, everybody is told."""
        with self.step("from here on nothing goes wrong"):
            self.world.skew = timedelta(0)
            self.deployed({**reference.plans_at(), **self.withdrawn})
            # A machine that was ahead may have posted in what is still the future.
            self.world.now += timedelta(seconds=3)
        self.last_deliveries()
        with self.step("what was missed in the last days is made good"):
            self.work()
            self._catch_up()
        with self.step("what nobody swept for more than a week is replayed"):
            self._replay()
            self.work()
            self.oracle.nothing_is_due()
        held_until = self.oracle.held_until()
        if held_until > self.world.now:
            with self.step("all holds have lapsed, and what they kept alive is gone"):
                self.world.now = held_until
                self._catch_up()
                self._replay()
                self.work()
                self.oracle.nothing_is_due()
        with self.step("all mails are sent"):
            self.world.drain_stream()
            self._tell_everybody()
            self.oracle.everybody_was_told()
            self.oracle.ledgers_verify()
            everything_is_heard(self.world)

    def last_deliveries(self) -> None:
        """Senders from outside who were not heard send it again now."""
        raise NotImplementedError

    def _catch_up(self) -> None:
        """The days go on as they should: what was missed in the last ones is made good."""
        start = self.world.now
        weekly = (0, 15, 60, 360, *(1440 * day for day in range(1, 8)))
        self.live_until(start + timedelta(hours=27), weekly)
        self._mended_itself(start - 6 * reference.DAY)

    def _mended_itself(self, since: datetime) -> None:
        """What became due within the last days was done without anybody's help."""
        now = self.world.now
        for who in self.oracle.subscriptions:
            ledger, subscription = self.oracle.ledger(who), self.oracle.subscription(who)
            for period in subscription.due(ledger.through, now, now):
                start = subscription.start(period)
                require(start < since, f"{period} was never allocated to {who}:", subscription)
            overdue = ledger.overdue(since, now)
            require(not overdue, f"a batch of {who} was never expired:", overdue)

    def _replay(self) -> None:
        for who in self.oracle.subscriptions:
            ledger, subscription = self.oracle.ledger(who), self.oracle.subscription(who)
            now = self.world.now
            for period in subscription.due(ledger.through, now, now)[-1:]:
                start = subscription.start(period)
                self.world.tick("allocation", start, (subscription.timezone,))
            for timezone, midnight, _ in ledger.overdue(reference.ALWAYS, now):
                self.world.tick("expiry", midnight, (timezone,))

    def _tell_everybody(self) -> None:
        queue = self.world.queue("notifications")
        while queue:
            waiting = self.world.waiting("notifications")
            if not waiting:
                later = min(message.visible_at for message in queue)
                self.world.now += timedelta(seconds=later - self.world.now.timestamp() + 1)
                continue
            messages = waiting[:10]
            self.oracle.begin()
            before = [(message, self.oracle.predictions(message)) for message in messages]
            failed = self.world.deliver("notifications", messages)
            self.oracle.sent_now(before, failed, smoothly=True)


@dataclass
class Sender:
    """Sends an edit; ``status`` is what an edit of some version should be answered."""

    send: Callable[[], Reply]
    status: Callable[[Subscription], int] = lambda _: 200


EDITABLE = (
    *("email", "timezone", "plan", "billing_interval", "status", "started_at", "eligible_from"),
    *("ends_at", "allocation_amount", "notifications", "observed_at", "language"),
)
"""What an editor sends back of what they have read."""

FORGOTTEN: Json = dict.fromkeys(("email", "eligible_from", "ends_at", "allocation_amount"))
"""What gets its default when it is put without them."""


FORGOTTEN_BY_SHOPS: Json = dict.fromkeys(("email", "ends_at"))
"""The same when a backend puts: what is not its own stays."""


def as_json(value: Any) -> Any:
    """A value of the reference as a request has it."""
    if isinstance(value, date):
        return show(value)
    return sorted(value) if isinstance(value, frozenset) else value


def from_json(name: str, value: Any) -> Any:
    """A value of an answer as the reference has it."""
    if name == "notifications":
        return frozenset(value)
    if value is None or name not in ("started_at", "eligible_from", "ends_at", "observed_at"):
        return value
    return date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)


def _is_passing(reply: Reply) -> bool:
    return reply.status == 409 and reply.json["code"] != "outdated_edit"


def void(_: object) -> None:
    """Nobody hears the answer."""


def _spared(troubles: Troubles) -> list[str] | None:
    """Whose calls or items met trouble, where all is about some users; None where it is not."""
    damaged = [who for trouble in troubles.all for who in trouble.unreadable]
    calls = troubles.struck_by(*(fault for fault in Fault if fault is not Fault.UNREADABLE))
    if troubles.is_dead or not all(kind_of(call) in OF_NAMED_USERS for call in calls):
        return None
    return [*damaged, *(who for call in calls for who in users_of(call))]
