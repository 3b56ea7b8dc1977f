"""The simulation: a Hypothesis state machine that lives through anything and checks everything.

Each rule is one thing that can happen in the world, most of them with some trouble on the way. A
machine tells its story as it goes; Hypothesis shrinks the example that fails, and so the story.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from pynamodb.exceptions import PynamoDBException

from tests.simulation import reference
from tests.simulation.aws import Message
from tests.simulation.faults import Fault, Killed, Trouble
from tests.simulation.oracle import ALL_KINDS, Intent, Oracle, Violation, require
from tests.simulation.reference import Forbidden, Ledger, Line, Short, Subscription
from tests.simulation.world import WORK_QUEUES, ZONES, Reply, World, at, simulated, ticks_between

Json = dict[str, Any]

USERS = ("ada", "bob", "cem")
ADMIN = {"caller": "admin", "user_id": "", "scopes": "credits:admin"}
SHOP = {"caller": "shop", "user_id": "", "scopes": "credits:backend"}
LAMBDA = "lambda/manual-allocate"
MILLISECOND = timedelta(milliseconds=1)
STATUS_OF = {
    "insufficient_credits": 402,
    "idempotency_key_reused": 422,
    "not_allowed": 422,
    "not_found": 404,
    "contention": 409,
}
BEFORE = (datetime.fromisoformat("2025-01-01T00:00:00Z"),)

# --- What can be drawn ----------------------------------------------------------------------------

users = st.sampled_from(USERS)
keys = st.sampled_from(("k1", "k2", "k3", "k4", "k5", "k6"))
zones = st.sampled_from(ZONES)
amounts = st.sampled_from((1, 5, 30, 60, 81, 100, 451, 600))
lifetimes = st.none() | st.integers(1, 40)
EDITS: dict[str, Any] = {
    "plan": st.sampled_from(tuple(reference.PLANS)),
    "timezone": zones,
    "status": st.sampled_from(("active", "active", "paused", "cancelled")),
    "billing_interval": st.sampled_from(("yearly", "yearly", "monthly")),
    "allocation_amount": st.none() | st.integers(1, 300),
    "notifications": st.sampled_from(
        (sorted(ALL_KINDS), [], ["manual"], ["allocation", "expiration", "low_balance"])
    ),
    "email": st.sampled_from(("old@example.com", "new@example.com")),
}
edits = st.sampled_from(tuple(EDITS)).flatmap(lambda name: st.tuples(st.just(name), EDITS[name]))
meanwhiles = st.tuples(
    st.sampled_from(("use", "use", "grant", "edit", "deliver")), amounts, keys, edits
)
troubles = (
    st.none()
    | st.none()
    | st.builds(
        lambda fault, place, times, meanwhile: (fault, place, times, meanwhile),
        st.sampled_from(tuple(Fault)),
        st.integers(0, 7),
        st.sampled_from((1, 1, 1, 2, 3, 5, 40)),
        meanwhiles,
    )
)


def show(value: object) -> str:
    """An instant as the API writes it."""
    if not isinstance(value, datetime):
        return str(value)
    precision = "milliseconds" if value.microsecond else "seconds"
    return value.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


class Machine(RuleBasedStateMachine):
    """The world, the oracle, and everything that can happen."""

    story_of_failure: ClassVar[list[str]] = []
    """Of the last machine that failed: after shrinking, the shortest story there is."""
    steps: ClassVar[int] = 0
    lives: ClassVar[int] = 0
    struck: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.stack.enter_context(simulated())
        self.world = World()
        self.stack.enter_context(self.world.running())
        self.oracle = Oracle(self.world)
        self.story: list[str] = []
        self.is_broken = False
        self.past = self.present = self.world.aws.state.copy()
        self.archive: dict[str, list[str]] = {name: [] for name in (*WORK_QUEUES, "notifications")}
        self.later: list[Callable[[], None]] = []
        Machine.lives += 1

    # --- How a step goes --------------------------------------------------------------------------

    @contextmanager
    def step(self, words: str, drawn: Any = None) -> Iterator[Trouble | None]:
        """One step: what happens in it is told, observed and judged."""
        Machine.steps += 1
        trouble = self._trouble(drawn)
        # Who reads late reads what was there before the step before this one.
        self.past, self.present = self.present, self.world.aws.state.copy()
        told = f"{words}; {trouble}" if trouble else words
        self.story.append(f"{show(self.world.now)}  {told}")
        before = {name: len(self.world.queue(name)) for name in self.archive}
        self.oracle.begin(lag=1 if trouble and trouble.fault is Fault.STALE else 0)
        try:
            yield trouble
            if trouble and trouble.struck:
                Machine.struck += 1
                self.story[-1] += f" ({', '.join(sorted({str(c) for c in trouble.struck}))})"
            for check in self.later:
                check()
        except BaseException as error:
            self.is_broken = True
            if isinstance(error, Violation):
                self.story.append(f"VIOLATED: {error}")
                Machine.story_of_failure = self.story
            raise
        finally:
            self.later = []
        for name, archive in self.archive.items():
            new = self.world.queue(name)[before[name] :]
            archive.extend(message.body for message in new)
            del archive[:-40]

    def _trouble(self, drawn: Any) -> Trouble | None:
        if drawn is None:
            return None
        fault, place, times, meanwhile = drawn
        trouble = Trouble(fault, place, times if fault is not Fault.MEANWHILE else 1)
        if fault is Fault.STALE:
            trouble.past, trouble.at, trouble.times = self.past, 0, 1000
        if fault is Fault.MEANWHILE:
            trouble.meanwhile = lambda: self._meanwhile(*meanwhile)
        return trouble

    def attempt(self, trouble: Trouble | None, act: Callable[[], Any]) -> Any:
        """What ``act`` answers under trouble; None when its process died."""
        try:
            with self.world.troubled(trouble):
                answer = act()
        except Killed:
            answer = None
        self.oracle.end()
        return answer

    def smooth(self, trouble: Trouble | None) -> bool:
        return trouble is None or trouble.is_absorbed

    def user(self, wanted: str) -> str:
        """A user who is registered: the one wanted, or else the first."""
        known = self.oracle.subscriptions
        return wanted if wanted in known else next(iter(known))

    # --- Subscriptions ----------------------------------------------------------------------------

    @initialize(timezone=zones, plan=EDITS["plan"])
    def somebody_subscribes(self, timezone: str, plan: str) -> None:
        self._register("ada", timezone, plan, "yearly", None, None)

    @rule(
        who=users,
        timezone=zones,
        plan=EDITS["plan"],
        interval=EDITS["billing_interval"],
        months_back=st.none() | st.integers(1, 16),
        trouble=troubles,
    )
    def subscribe(
        self,
        who: str,
        timezone: str,
        plan: str,
        interval: str,
        months_back: int | None,
        trouble: Any,
    ) -> None:
        if who not in self.oracle.subscriptions:
            self._register(who, timezone, plan, interval, months_back, trouble)

    def _register(
        self,
        who: str,
        timezone: str,
        plan: str,
        interval: str,
        months_back: int | None,
        drawn: Any,
    ) -> None:
        now = self.world.clock.replace(microsecond=self.world.clock.microsecond // 1000 * 1000)
        wanted = Subscription(
            user_id=who,
            email=f"{who}@example.com",
            timezone=timezone,
            plan=plan,
            billing_interval=interval,
            status="active",
            started_at=at("2025-01-01T00:00:00Z"),
            eligible_from=now if months_back is None else now - 30 * months_back * reference.DAY,
            allocation_amount=None,
            notifications=ALL_KINDS,
        )
        body: Json = {
            "email": wanted.email,
            "timezone": timezone,
            "plan": plan,
            "billing_interval": interval,
            "status": "active",
            "started_at": show(wanted.started_at),
        }
        owed = ""
        if months_back is not None:
            body["eligible_from"] = show(wanted.eligible_from)
            owed = f", eligible since {body['eligible_from']}"
        words = f"{who} subscribes to {plan}, billed {interval}, in {timezone}{owed}"
        with self.step(words, drawn) as trouble:
            self.oracle.edits.append(lambda present: present or wanted)
            path = f"/api/subscriptions/{who}"
            reply = self.attempt(trouble, lambda: self.world.call("PUT", path, SHOP, body))
            self._edited(who, reply, trouble, (200, 201))

    @rule(who=users, edit=edits, if_match=st.booleans(), trouble=troubles)
    def change(self, who: str, edit: tuple[str, Any], if_match: bool, trouble: Any) -> None:  # noqa: FBT001
        who = self.user(who)
        version = self.oracle.subscription(who).version
        words = f"the {edit[0]} of {who} is changed to {edit[1]}"
        if if_match:
            words += f" if it is still version {version}"
        with self.step(words, trouble) as struck:
            send = self._edit(who, edit, f'"{version}"' if if_match else None)
            reply = self.attempt(struck, send)
            # Who loses the answer to an edit on a version cannot tell it from a lost race.
            lost = struck is not None and bool(struck.struck) and if_match
            self._edited(who, reply, struck, (200, 412) if lost else (200,))

    def _edit(self, who: str, edit: tuple[str, Any], if_match: str | None) -> Callable[[], Reply]:
        name, value = edit
        now = self.world.clock.replace(microsecond=self.world.clock.microsecond // 1000 * 1000)
        kept: Any = frozenset(value) if name == "notifications" else value
        base = self.oracle.subscription(who).version

        def apply(present: Subscription | None) -> Subscription | None:
            if present is None or (present.user_id != who):
                return present
            if if_match is not None and present.version != base:
                return present
            return present.successor(now, **{name: kept})

        self.oracle.edits.append(apply)
        headers = {} if if_match is None else {"If-Match": if_match}
        path = f"/api/subscriptions/{who}"
        return lambda: self.world.call("PATCH", path, SHOP, {name: value}, headers)

    def _edited(
        self, who: str, reply: Reply | None, trouble: Trouble | None, allowed: Sequence[int]
    ) -> None:
        if reply is None or reply.status in (409, 503):
            require(not self.smooth(trouble), "an edit failed for no reason:", reply)
            return
        require(reply.status in allowed, "an edit was answered", reply)
        if reply.status == 412:
            return
        found = reply.json
        now = self.world.clock
        require(
            any(
                found["timezone"] == version.timezone
                and found["plan"] == version.plan
                and found["status"] == version.status
                and found["eligible_from"] == show(version.eligible_from)
                and reply.headers["etag"] == f'"{version.version}"'
                and found["next_credit_allocation"]
                == _first_day(version.next_period(ledger.through, ledger.time(now)))
                for version in self.oracle.candidates(who)
                for ledger in self.oracle.visited(who)
            ),
            "the answer to an edit is not what it became:",
            found,
            self.oracle.subscription(who),
        )

    @rule(who=users, kind=st.none() | st.sampled_from(sorted(ALL_KINDS)), trouble=troubles)
    def unsubscribe(self, who: str, kind: str | None, trouble: Any) -> None:
        from chalicelib.domain.notifications import MailKind

        who = self.user(who)
        words = f"{who} follows the link that ends mails about {kind or 'anything'}"
        with self.step(words, trouble) as struck:
            unwanted = ALL_KINDS if kind is None else {kind}

            def apply(present: Subscription | None) -> Subscription | None:
                if present is None or present.user_id != who:
                    return present
                left = present.notifications - unwanted
                if left == present.notifications:
                    return present
                return replace(present, notifications=left, version=present.version + 1)

            self.oracle.edits.append(apply)
            link = self.world.services.unsubscribe_links
            token = link.token(who, MailKind(kind) if kind else None)
            reply = self.attempt(
                struck,
                lambda: self.world.call("POST", "/api/unsubscribe", {}, query={"token": token}),
            )
            if reply is None or reply.status in (409, 503):
                require(not self.smooth(struck), "unsubscribing failed for no reason:", reply)
            else:
                require(reply.status == 200, "unsubscribing was answered", reply)
                wanted = self.oracle.subscription(who).notifications
                require(not wanted & unwanted, "still subscribed:", wanted)

    # --- Credits ----------------------------------------------------------------------------------

    @rule(who=users, amount=amounts, key=keys, own=st.booleans(), trouble=troubles)
    def use(self, who: str, amount: int, key: str, own: bool, trouble: Any) -> None:  # noqa: FBT001
        who = self.user(who)
        with self.step(f"{who} uses {amount} credits, key {key}", trouble) as struck:
            self._perform(*self._use(who, amount, key, own=own), struck)

    @rule(who=users, key=keys, more=st.sampled_from((0, 0, 1)), trouble=troubles)
    def use_up(self, who: str, key: str, more: int, trouble: Any) -> None:
        who = self.user(who)
        ledger = self.oracle.ledger(who)
        amount = ledger.available(ledger.time(self.world.clock)) + more
        if amount:
            with self.step(f"{who} uses all {amount} credits, key {key}", trouble) as struck:
                self._perform(*self._use(who, amount, key, own=False), struck)

    def _use(
        self, who: str, amount: int, key: str, *, own: bool
    ) -> tuple[Intent, Callable[[], Reply]]:
        caller = (
            {"caller": f"user|{who}", "user_id": who, "scopes": "credits:read credits:use"}
            if own
            else SHOP
        )
        intent = Intent(f"usage#{caller['caller']}#{key}", who, "usage", amount, "Report")
        body: Json = {"amount": amount, "description": "Report"}
        if not own:
            body["user_id"] = who
        return intent, self._post("use", caller, body, key)

    @rule(
        who=users,
        place=st.integers(0, 30),
        amount=st.none() | amounts,
        key=keys,
        trouble=troubles,
    )
    def reverse(self, who: str, place: int, amount: int | None, key: str, trouble: Any) -> None:
        who = self.user(who)
        lines = self.oracle.ledger(who).lines
        usages = [number for number, line in enumerate(lines, 1) if line.type == "usage"]
        number = usages[-1 - place % len(usages)] if usages else place + 1
        words = f"{amount or 'what is left'} of entry {number} is given back to {who}, key {key}"
        with self.step(words, trouble) as struck:
            operation = f"reversal#shop#{key}"
            intent = Intent(operation, who, "reversal", amount, "Oops", usage=number)
            body = {"user_id": who, "transaction_id": f"{who}-{number}", "reason": "Oops"}
            if amount is not None:
                body |= {"amount": amount}  # type: ignore[dict-item]
            self._perform(intent, self._post("reverse", SHOP, body, key), struck)

    @rule(
        who=users,
        amount=amounts,
        days=lifetimes,
        silent=st.booleans(),
        key=keys,
        by_lambda=st.booleans(),
        trouble=troubles,
    )
    def grant(
        self,
        who: str,
        amount: int,
        days: int | None,
        silent: bool,  # noqa: FBT001
        key: str,
        by_lambda: bool,  # noqa: FBT001
        trouble: Any,
    ) -> None:
        who = self.user(who)
        lives = f" for {days} days" if days else ""
        words = f"{who} is granted {amount} credits{lives}, key {key}"
        with self.step(words, trouble) as struck:
            self._perform(
                *self._by_hand(who, amount, days, key, silent=silent, by_lambda=by_lambda), struck
            )

    @rule(who=users, amount=amounts, key=keys, trouble=troubles)
    def claw_back(self, who: str, amount: int, key: str, trouble: Any) -> None:
        who = self.user(who)
        with self.step(f"{amount} credits of {who} are clawed back, key {key}", trouble) as struck:
            self._perform(
                *self._by_hand(who, -amount, None, key, silent=False, by_lambda=False), struck
            )

    def _by_hand(
        self, who: str, amount: int, days: int | None, key: str, *, silent: bool, by_lambda: bool
    ) -> tuple[Intent, Callable[[], Reply]]:
        caller = LAMBDA if by_lambda else "admin"
        intent = Intent(
            f"manual#{caller}#{key}", who, "manual", amount, "Goodwill", days, silent=silent
        )
        body: Json = {"user_id": who, "amount": amount, "reason": "Goodwill"}
        body |= {"expires_in_days": days} if days else {}
        body |= {"notify": False} if silent else {}
        if not by_lambda:
            return intent, self._post("allocate", ADMIN, body, key)
        event = {**body, "actor": "admin", "idempotency_key": key}

        def invoke() -> Reply:
            try:
                answer = self.world.manual_allocate(event)
            except (BotoCoreError, ClientError, PynamoDBException):
                return Reply(503, {}, "")
            status = 200 if answer["success"] else STATUS_OF[answer["error"]["code"]]
            return Reply(status, {}, json.dumps(answer | answer.get("error", {})))

        return intent, invoke

    def _post(self, name: str, caller: Json, body: Json, key: str) -> Callable[[], Reply]:
        headers = {"Idempotency-Key": key}
        return lambda: self.world.call("POST", f"/api/credits/{name}", caller, body, headers)

    def _perform(self, intent: Intent, send: Callable[[], Reply], trouble: Trouble | None) -> None:
        judge = self._asked(intent)
        judge(self.attempt(trouble, send), trouble)

    def _asked(self, intent: Intent) -> Callable[[Reply | None, Trouble | None], None]:
        """An operation is about to be asked for; what judges the answer."""
        was_performed = intent.operation in self.oracle.performed
        if not was_performed:
            self.oracle.intents[intent.operation] = intent

        def judge(reply: Reply | None, trouble: Trouble | None) -> None:
            if reply is None or reply.status in (409, 503):
                require(not self.smooth(trouble), "failed for no reason:", reply, intent)
                return
            known = self.oracle.intents[intent.operation]
            performed = self.oracle.performed.get(intent.operation)
            if reply.status == 200:
                require(performed is not None, "said to be done, and is not:", intent, reply)
                require(known == intent, "answered with another request's result:", intent, known)
                assert performed is not None
                self._answered(intent, reply, *performed, was_performed=was_performed)
            elif reply.status == 422 and reply.json["code"] == "idempotency_key_reused":
                require(known != intent, "refused to repeat the same request:", intent)
            else:
                require(performed is None, "done, and refused all the same:", intent, reply)
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
        if intent.kind != "manual":
            right["batches"] = _moves(who, line)
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
                if number > len(ledger.lines):
                    reasons.append((404, None))
                    continue
                intent.line(ledger, "Europe/Paris", self.world.clock)
            except Short as short:
                reasons.append((402, short.available))
            except Forbidden:
                reasons.append((422, None))
        found = (reply.status, reply.json.get("available_balance"))
        if intent.operation.startswith(f"manual#{LAMBDA}"):
            reasons = [(status, None) for status, _ in reasons]
        require(found in reasons, "refused for no reason:", intent, reply, reasons)

    @rule(place=st.integers(0, 50), other=st.booleans(), trouble=troubles)
    def ask_again(self, place: int, other: bool, trouble: Any) -> None:  # noqa: FBT001
        """The same request under the same key, or another one under it."""
        operations = list(self.oracle.intents.values())
        if not operations:
            return
        intent = operations[-1 - place % len(operations)]
        kind, caller, key = intent.operation.split("#")
        amount = intent.amount
        if other:
            amount = (amount or 0) + (1 if (amount or 0) >= 0 else -1)
        words = f"{kind} of {intent.user_id}, key {key}, is asked for again"
        if other:
            words += f" with {amount} in place of {intent.amount}"
        with self.step(words, trouble) as struck:
            if intent.kind == "usage":
                own = caller.startswith("user|")
                asked = self._use(intent.user_id, amount or 1, key, own=own)
            elif intent.kind == "manual":
                asked = self._by_hand(
                    intent.user_id,
                    amount or 1,
                    intent.days,
                    key,
                    silent=intent.silent,
                    by_lambda=caller == LAMBDA,
                )
            else:
                body: Json = {
                    "user_id": intent.user_id,
                    "transaction_id": f"{intent.user_id}-{intent.usage}",
                    "reason": "Oops",
                } | ({"amount": amount} if amount is not None else {})
                asked = replace(intent, amount=amount), self._post("reverse", SHOP, body, key)
            self._perform(*asked, struck)

    def _meanwhile(self, what: str, amount: int, key: str, edit: tuple[str, Any]) -> None:
        """Another process does something, whole, in the middle of a call of this one."""
        who = next(iter(self.oracle.subscriptions), None)
        if who is None:
            return
        interference, self.world.aws.interfere = self.world.aws.interfere, None
        try:
            if what == "edit":
                self._edit(who, edit, None)()
            elif what == "deliver":
                for queue in WORK_QUEUES:
                    messages = self.world.waiting(queue)[:10]
                    if messages:
                        self.oracle.delivering(queue, messages)
                        self.world.deliver(queue, messages)
            else:
                # Of another backend: its keys are its own.
                intent, send = (
                    self._use(who, amount, f"{key}-meanwhile", own=False)
                    if what == "use"
                    else self._by_hand(
                        who, amount, None, f"{key}-meanwhile", silent=False, by_lambda=False
                    )
                )
                judge = self._asked(intent)
                reply = send()
                self.later.append(lambda: judge(reply, None))
        finally:
            self.world.aws.interfere = interference
        self.story[-1] += f" [meanwhile: {what} of {who}]"

    # --- Time and scheduled work ------------------------------------------------------------------

    @rule(
        span=st.sampled_from(
            (
                timedelta(milliseconds=1),
                timedelta(minutes=1),
                timedelta(minutes=15),
                timedelta(hours=5),
                timedelta(days=1),
                timedelta(days=8),
                timedelta(days=29),
                timedelta(days=150),
            )
        )
    )
    def time_passes(self, span: timedelta) -> None:
        """Nothing happens in it: an outage, if it is long."""
        with self.step(f"{span} pass, and no tick comes"):
            self.world.now += span

    @rule(days=st.integers(1, 3))
    def days_pass(self, days: int) -> None:
        with self.step(f"{days} days pass, and all is as it should be"):
            self._live_until(self.world.now + days * reference.DAY)

    @rule(who=users, months=st.integers(0, 2), offset=st.sampled_from((-1, 0, 0, 0, 1, 60_000)))
    def month_begins(self, who: str, months: int, offset: int) -> None:
        """The clock goes to the turn of a month where a user lives, and their zone is swept."""
        timezone = self.oracle.subscription(self.user(who)).timezone
        day = reference.local_day(timezone, self.world.now)
        period = reference.months_around(day, 0, 4)[1 + months]
        start = reference.month_start(timezone, period)
        self._go_to(start + offset * MILLISECOND, f"{period} begins in {timezone}")
        self._tick("allocation", start, (timezone,), None)
        self._deliver_all(("sweeps", "allocations"))

    @rule(who=users, offset=st.sampled_from((-1, 0, 0, 1)), is_swept=st.booleans())
    def batch_expires(self, who: str, offset: int, is_swept: bool) -> None:  # noqa: FBT001
        """The clock goes to where a user's next batch expires, to the millisecond."""
        grants = self.oracle.ledger(self.user(who)).alive(self.world.now)
        ends = sorted(
            ((grant.expires_at, grant) for grant in grants if grant.expires_at),
            key=lambda pair: pair[0],
        )
        if not ends:
            return
        end, grant = ends[0]
        assert end is not None
        self._go_to(end + offset * MILLISECOND, f"batch {grant.number} of {who} expires")
        if is_swept:
            self._tick("expiry", end, (grant.timezone,), None)
            self._deliver_all(("sweeps", "expiries"))

    def _go_to(self, moment: datetime, why: str) -> None:
        if moment > self.world.now:
            with self.step(f"the clock goes to {show(moment)}: {why}"):
                self.world.now = moment

    @rule(
        kind=st.sampled_from(("allocation", "expiry")),
        hours_ago=st.sampled_from((0, 0, 1, 24, 24 * 7, 24 * 31)),
        trouble=troubles,
    )
    def tick(self, kind: str, hours_ago: int, trouble: Any) -> None:
        self._tick(kind, self.world.now - timedelta(hours=hours_ago), (), trouble)

    def _tick(self, kind: str, time: datetime, of: Sequence[str], drawn: Any) -> None:
        time = min(time, self.world.clock)
        where = f" for {', '.join(of)}" if of else ""
        with self.step(f"{kind} tick of {show(time)}{where}", drawn) as trouble:

            def send() -> Any:
                try:
                    return self.world.tick(kind, time, of)
                except (BotoCoreError, ClientError, PynamoDBException) as error:
                    return {"success": False, "error": error}

            answer = self.attempt(trouble, send)
            if self.smooth(trouble):
                require(answer is not None and answer["success"], "a tick failed:", answer)

    @rule(
        queue=st.sampled_from(WORK_QUEUES),
        places=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
        in_haste=st.booleans(),
        trouble=troubles,
    )
    def deliver(self, queue: str, places: list[int], in_haste: bool, trouble: Any) -> None:  # noqa: FBT001
        """Some of what waits in a queue, in any order."""
        waiting = self.world.waiting(queue)
        messages = [waiting[place] for place in places if place < len(waiting)]
        if messages:
            self._deliver(queue, messages, trouble, in_haste=in_haste)

    @rule(queue=st.sampled_from(WORK_QUEUES), trouble=troubles)
    def deliver_ten(self, queue: str, trouble: Any) -> None:
        messages = self.world.waiting(queue)[:10]
        if messages:
            self._deliver(queue, messages, trouble)

    @rule(queue=st.sampled_from(WORK_QUEUES), place=st.integers(0, 39), trouble=troubles)
    def deliver_again(self, queue: str, place: int, trouble: Any) -> None:
        """What was delivered before, however long ago."""
        old = self.archive[queue]
        if old:
            body = old[-1 - place % len(old)]
            self._deliver(queue, [Message(f"again-{place}", body)], trouble, words="again ")

    def _deliver(
        self,
        queue: str,
        messages: list[Message],
        drawn: Any,
        *,
        words: str = "",
        in_haste: bool = False,
    ) -> None:
        bodies = " and ".join(message.body for message in messages)
        with self.step(f"{words}delivered from {queue}: {bodies}", drawn) as trouble:
            self.oracle.delivering(queue, messages)
            time_left = 5_000 if in_haste else 30_000
            failed = self.attempt(trouble, lambda: self.world.deliver(queue, messages, time_left))
            self.oracle.delivered(queue, failed or [], smoothly=self.smooth(trouble))

    def _deliver_all(self, queues: Sequence[str]) -> None:
        while any(self.world.waiting(queue) for queue in queues):
            for queue in queues:
                messages = self.world.waiting(queue)[:10]
                if messages:
                    self._deliver(queue, messages, None)

    @rule(queue=st.sampled_from((*WORK_QUEUES, "notifications")))
    def redrive(self, queue: str) -> None:
        """Somebody sends back what is in a dead-letter queue."""
        parked = self.world.queue(f"{queue}-dlq")
        if parked:
            with self.step(f"the dead letters of {queue} are sent back"):
                for message in parked:
                    message.receives = 0
                self.world.queue(queue).extend(parked)
                parked.clear()

    @rule(seconds=st.sampled_from((0, 0, -2, 2)))
    def clocks_differ(self, seconds: int) -> None:
        """The next requests are served by a machine whose clock is ahead, or behind."""
        with self.step(f"the clock of the machine is {seconds} seconds ahead"):
            self.world.skew = timedelta(seconds=seconds)

    @rule(
        who=users,
        months_ago=st.integers(0, 3),
        limit=st.sampled_from((1, 2, 100)),
        trouble=troubles,
    )
    def preview(self, who: str, months_ago: int, limit: int, trouble: Any) -> None:
        """An admin asks what a run would post."""
        timezone = self.oracle.subscription(self.user(who)).timezone
        day = reference.local_day(timezone, self.world.clock)
        period = reference.months_around(day, 4, 0)[-1 - months_ago]
        start = reference.month_start(timezone, period)
        if start > self.world.clock:
            return
        body = {"period": period, "zones": [timezone], "dry_run": True, "limit": limit}
        with self.step(f"an admin previews {period} in {timezone}", trouble) as struck:
            replies = self.attempt(struck, lambda: self._pages_of_preview(body))
            if replies is None or replies[-1].status != 200:
                require(not self.smooth(struck), "a preview failed:", replies)
                return
            found = [item for reply in replies for item in reply.json["items"]]
            if struck is None or not struck.struck or struck.fault is not Fault.STALE:
                require(
                    any(found == right for right in self._previews(timezone, start)),
                    "a preview shows",
                    found,
                    "and not",
                    *self._previews(timezone, start),
                )

    def _pages_of_preview(self, body: Json) -> list[Reply]:
        replies = [self.world.call("POST", "/api/credits/allocation-runs", ADMIN, body)]
        while replies[-1].status == 200 and replies[-1].json["next_cursor"]:
            body = {**body, "cursor": replies[-1].json["next_cursor"]}
            replies.append(self.world.call("POST", "/api/credits/allocation-runs", ADMIN, body))
        return replies

    def _previews(self, timezone: str, start: datetime) -> Iterator[list[Json]]:
        """What the preview may show: as of the beginning of the step, or of its end."""
        for place in (0, -1):
            items = []
            for who in sorted(self.oracle.subscriptions):
                subscription = self.oracle.candidates(who)[place]
                ledger = list(self.oracle.visited(who))[-1 if place == 0 else 0]
                if subscription.timezone != timezone or not subscription.is_swept:
                    continue
                for period in subscription.due(ledger.through, start):
                    line = ledger.allocate(subscription, period, self.world.clock)
                    assert line.grant is not None
                    end = line.grant.expires_at
                    items.append(
                        {
                            "user_id": who,
                            "timezone": timezone,
                            "allocation_period": period,
                            "amount": line.amount,
                            "expires_at": end and show(end),
                        }
                    )
            yield items

    # --- Mails ------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 8), trouble=troubles)
    def stream(self, count: int, trouble: Any) -> None:
        """The next records of the ledger's stream are handed over."""
        records = self.world.stream[self.world.streamed : self.world.streamed + count]
        if records:
            with self.step(f"{len(records)} stream records are handed over", trouble) as struck:
                if self._hand_over(records, struck):
                    self.world.streamed += len(records)
                else:
                    require(not self.smooth(struck), "the stream stopped for no reason")

    @rule(place=st.integers(0, 20), count=st.integers(1, 5), trouble=troubles)
    def stream_again(self, place: int, count: int, trouble: Any) -> None:
        start = max(0, self.world.streamed - place)
        records = self.world.stream[start : min(start + count, self.world.streamed)]
        if records:
            with self.step(f"{len(records)} stream records come again", trouble) as struck:
                self._hand_over(records, struck)

    def _hand_over(self, records: Sequence[Json], trouble: Trouble | None) -> bool:
        def act() -> bool:
            try:
                self.world.deliver_stream(records)
            except Exception as error:
                if isinstance(error, (BotoCoreError, ClientError)) or trouble is not None:
                    return False
                raise
            return True

        return bool(self.attempt(trouble, act))

    @rule(places=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), trouble=troubles)
    def send_mails(self, places: list[int], trouble: Any) -> None:
        waiting = self.world.waiting("notifications")
        messages = [waiting[place] for place in places if place < len(waiting)]
        if messages:
            self._send_mails(messages, trouble)

    @rule(place=st.integers(0, 39), trouble=troubles)
    def send_again(self, place: int, trouble: Any) -> None:
        old = self.archive["notifications"]
        if old:
            body = old[-1 - place % len(old)]
            self.world.aws.state.messages += 1
            message = Message(f"again-{self.world.aws.state.messages}", body)
            self.world.queue("notifications").append(message)
            self._send_mails([message], trouble)

    def _send_mails(self, messages: list[Message], drawn: Any) -> None:
        bodies = " and ".join(message.body for message in messages)
        with self.step(f"mails are sent for {bodies}", drawn) as trouble:
            before = [(message, self.oracle.predictions(message)) for message in messages]
            failed = self.attempt(trouble, lambda: self.world.deliver("notifications", messages))
            self.oracle.sent_now(
                before,
                messages if failed is None else failed,
                smoothly=self.smooth(trouble),
            )

    # --- Reading ----------------------------------------------------------------------------------

    def _read(self, words: str, path: str, query: Json, drawn: Any, right: Any) -> None:
        with self.step(words, drawn) as trouble:
            reply = self.attempt(trouble, lambda: self.world.call("GET", path, ADMIN, query=query))
            if reply is None or reply.status in (409, 503):
                require(not self.smooth(trouble), "reading failed for no reason:", reply)
                return
            require(reply.status == 200, words, "was answered", reply)
            answers = list(right())
            require(reply.json in answers, words, "answered", reply.json, "and not", *answers)

    @rule(who=users, trouble=troubles)
    def read_balance(self, who: str, trouble: Any) -> None:
        who = self.user(who)

        def right() -> Iterator[Json]:
            for ledger in self.oracle.visited(who):
                yield _balance(who, ledger, ledger.time(self.world.clock))

        words = f"the balance of {who} is read"
        self._read(words, "/api/credits/balance", {"user_id": who}, trouble, right)

    @rule(who=users, place=st.integers(0, 30), offset=st.sampled_from((-1, 0, 1)), trouble=troubles)
    def read_balance_of_the_past(self, who: str, place: int, offset: int, trouble: Any) -> None:
        who = self.user(who)
        lines = self.oracle.ledger(who).lines
        if not lines:
            return
        moment = lines[-1 - place % len(lines)].posted_at + offset * MILLISECOND
        if moment > self.world.clock:
            return

        def right() -> Iterator[Json]:
            yield _balance(who, self.oracle.ledger(who).at(moment), moment)

        query = {"user_id": who, "at": show(moment)}
        words = f"the balance of {who} at {show(moment)} is read"
        self._read(words, "/api/credits/balance", query, trouble, right)

    @rule(who=users, trouble=troubles)
    def read_schedule(self, who: str, trouble: Any) -> None:
        who = self.user(who)

        def right() -> Iterator[Json]:
            for ledger in self.oracle.visited(who):
                for subscription in self.oracle.candidates(who):
                    yield _schedule(subscription, ledger, ledger.time(self.world.clock))

        path = "/api/credits/allocation-schedule"
        self._read(f"the schedule of {who} is read", path, {"user_id": who}, trouble, right)

    @rule(
        who=users,
        limit=st.sampled_from((1, 2, 3, 100)),
        kind=st.none() | st.sampled_from(("usage", "allocation", "expiration", "reversal")),
        since=st.none() | st.integers(0, 20),
        until=st.none() | st.integers(0, 20),
        trouble=troubles,
    )
    def read_history(
        self,
        who: str,
        limit: int,
        kind: str | None,
        since: int | None,
        until: int | None,
        trouble: Any,
    ) -> None:
        who = self.user(who)
        lines = self.oracle.ledger(who).lines
        first = None if since is None or not lines else lines[since % len(lines)].posted_at
        last = None if until is None or not lines else lines[until % len(lines)].posted_at
        if first and last and first >= last:
            return
        query = {"user_id": who, "limit": str(limit)}
        query |= {"type": kind} if kind else {}
        query |= {"from": show(first)} if first else {}
        query |= {"to": show(last)} if last else {}
        with self.step(f"the history of {who} is read: {query}", trouble) as struck:
            found = self.attempt(struck, lambda: self._pages_of_history(query))
            if found is None or isinstance(found, Reply):
                require(not self.smooth(struck), "the history failed:", found)
                return
            answers = [
                [
                    _history_item(who, number, line, ledger)
                    for number, line in reversed(list(enumerate(ledger.lines, 1)))
                    if (kind is None or line.type == kind)
                    and (first is None or line.posted_at >= first)
                    and (last is None or line.posted_at < last)
                ]
                for ledger in self.oracle.visited(who)
            ]
            require(found in answers, "the history is", found, "and not", *answers)

    def _pages_of_history(self, query: Json) -> list[Json] | Reply:
        items: list[Json] = []
        while True:
            reply = self.world.call("GET", "/api/credits/history", ADMIN, query=query)
            if reply.status != 200:
                return reply
            page = reply.json
            items += [{name: item[name] for name in _HISTORY} for item in page["items"]]
            require(len(page["items"]) <= int(query["limit"]), "a page is too long")
            if page["next_cursor"] is None:
                return items
            query = {**query, "cursor": page["next_cursor"]}

    # --- The end ----------------------------------------------------------------------------------

    def _live_until(self, end: datetime, ages: Sequence[int] = (0, 15, 60, 360)) -> None:
        """Ticks come on time, and everything is delivered at once."""
        lived_in = {
            version.timezone for known in self.oracle.subscriptions.values() for version in known
        }
        for moment in ticks_between(self.world.now, end, sorted(lived_in), ages):
            self.world.now = moment
            for kind in ("allocation", "expiry"):
                require(self.world.tick(kind, moment)["success"], "a tick failed")
            self._work()
        self.world.now = max(self.world.now, end)

    def _work(self) -> None:
        """All that waits in the work queues, seen by the oracle batch by batch."""
        while any(self.world.waiting(queue) for queue in WORK_QUEUES):
            for queue in WORK_QUEUES:
                messages = self.world.waiting(queue)[:10]
                if messages:
                    self.oracle.begin()
                    self.oracle.delivering(queue, messages)
                    failed = self.world.deliver(queue, messages)
                    self.oracle.end()
                    self.oracle.delivered(queue, failed, smoothly=True)

    def teardown(self) -> None:
        try:
            if not self.is_broken:
                self._settle()
        finally:
            self.stack.close()

    def _settle(self) -> None:
        """Nothing goes wrong any more: everything that is due happens, everybody is told."""
        with self.step("from here on nothing goes wrong"):
            self.world.skew = timedelta(0)
            # A machine that was ahead may have posted in what is still the future.
            self.world.now += timedelta(seconds=3)
            self._work()
            start = self.world.now
            weekly = (0, 15, 60, 360, *(1440 * day for day in range(1, 8)))
            self._live_until(start + timedelta(hours=27), weekly)
            self._mended_itself(start - 6 * reference.DAY)
        with self.step("what nobody swept for more than a week is replayed"):
            self._replay()
            self._work()
            self.oracle.nothing_is_due()
        with self.step("all mails are sent"):
            self.world.drain_stream()
            self._tell_everybody()
            self.oracle.everybody_was_told()
            self.oracle.ledgers_verify()

    def _mended_itself(self, since: datetime) -> None:
        """What became due within the last days was done without anybody's help."""
        now = self.world.now
        for who in self.oracle.subscriptions:
            ledger, subscription = self.oracle.ledger(who), self.oracle.subscription(who)
            for period in subscription.due(ledger.through, now):
                start = reference.month_start(subscription.timezone, period)
                require(start < since, f"{period} was never allocated to {who}:", subscription)
            for grant in ledger.open():
                end = grant.expires_at
                overdue = end is not None and since <= end <= now
                require(not overdue, f"a batch of {who} was never expired:", grant)

    def _replay(self) -> None:
        for who in self.oracle.subscriptions:
            ledger, subscription = self.oracle.ledger(who), self.oracle.subscription(who)
            for period in subscription.due(ledger.through, self.world.now)[-1:]:
                start = reference.month_start(subscription.timezone, period)
                self.world.tick("allocation", start, (subscription.timezone,))
            for grant in ledger.open():
                if grant.expires_at and not grant.is_alive(self.world.now):
                    self.world.tick("expiry", grant.expires_at, (grant.timezone,))

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


def _first_day(period: str | None) -> str | None:
    return period and f"{period}-01"


def _moves(who: str, line: Line) -> list[Json]:
    return [{"batch_id": f"{who}-{batch}", "amount": amount} for batch, amount in line.legs]


def _balance(who: str, ledger: Ledger, moment: datetime) -> Json:
    return {
        "available_balance": ledger.available(moment),
        "ledger_balance": ledger.balance,
        "as_of": show(moment),
        "batches": [
            {
                "batch_id": f"{who}-{grant.number}",
                "granted_amount": grant.amount,
                "remaining_amount": ledger.left[grant.number],
                "granted_at": show(grant.granted_at),
                "expires_at": grant.expires_at and show(grant.expires_at),
            }
            for grant in ledger.open()
        ],
    }


REASONS = {
    "subscription_paused": "The subscription is paused.",
    "subscription_cancelled": "The subscription is cancelled.",
    "billed_monthly": "Monthly credits come with yearly billing only.",
}


def _schedule(subscription: Subscription, ledger: Ledger, now: datetime) -> Json:
    period = subscription.next_period(ledger.through, now)
    code = {"paused": "subscription_paused", "cancelled": "subscription_cancelled"}.get(
        subscription.status, None if subscription.receives else "billed_monthly"
    )
    timezone = subscription.timezone
    days: dict[str, int] = {}
    for grant in ledger.alive(now):
        if grant.expires_at:
            day = str(reference.local_day(timezone, grant.expires_at))
            days[day] = days.get(day, 0) + ledger.left[grant.number]
    return {
        "next_allocation_date": _first_day(period),
        "allocation_amount": subscription.amount if period else 0,
        "current_balance": ledger.available(now),
        "expiring_credits": [
            {"amount": amount, "expires_at": day} for day, amount in sorted(days.items())
        ],
        "next_allocation_at": period and show(reference.month_start(timezone, period)),
        "timezone": timezone,
        "not_allocated_because": code and {"code": code, "words": REASONS[code]},
    }


_HISTORY = (
    "transaction_id",
    "type",
    "amount",
    "balance_after",
    "effective_at",
    "posted_at",
    "allocation_period",
    "batches",
)


def _history_item(who: str, number: int, line: Line, ledger: Ledger) -> Json:
    return {
        "transaction_id": f"{who}-{number}",
        "type": line.type,
        "amount": line.amount,
        "balance_after": sum(earlier.amount for earlier in ledger.lines[:number]),
        "effective_at": show(line.effective_at),
        "posted_at": show(line.posted_at),
        "allocation_period": line.through if line.type == "allocation" else None,
        "batches": _moves(who, line),
    }
