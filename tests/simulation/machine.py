"""The simulation: a Hypothesis state machine that lives through anything and checks everything.

Each rule is one thing that can happen in the world, most of them with some trouble on the way. The
ones called stories are several things in the order in which they matter: single rules seldom meet
at the turn of a month.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.simulation import acknowledged, answers, reference
from tests.simulation.aws import Message
from tests.simulation.charging import Charging
from tests.simulation.drawn import (
    EDITS,
    NAMES,
    Change,
    Drawn,
    Profile,
    amounts,
    departures,
    editors,
    edits,
    keys,
    lifetimes,
    meanwhiles,
    observations,
    offsets,
    places,
    profiles,
    spans,
    trouble,
    troubles,
)
from tests.simulation.holding import Holding
from tests.simulation.life import ADMIN, LAMBDA, MILLISECOND, SHOP, as_json
from tests.simulation.oracle import ALL_KINDS, AS_THE_PLAN
from tests.simulation.paying import Paying
from tests.simulation.promoting import Promoting
from tests.simulation.reference import Grant, Subscription, require, show
from tests.simulation.selling import Selling
from tests.simulation.world import WORK_QUEUES, Reply

Json = dict[str, Any]
Who = int | str
RUNS = "/api/credits/allocation-runs"


class Machine(Charging, Holding, Selling, Paying, Promoting):
    """Everything that can happen."""

    # --- Subscriptions ----------------------------------------------------------------------------

    @initialize(profile=profiles)
    def the_first_subscribe(self, profile: Profile) -> None:
        self.live(profile)
        for place, (plan, amount) in enumerate(profile.people):
            zone = self.zone(place // 3)
            starts = profile.starts[place % len(profile.starts)]
            wanted = (NAMES[place], zone, plan, "yearly", None)
            self._register(*wanted, [], amount=amount, starts=starts)

    @rule(
        zone=places,
        plan=EDITS["plan"],
        interval=EDITS["billing_interval"],
        months_back=st.none() | st.integers(1, 16),
        starts=st.sampled_from((-700, -20, -10, -3, 0, 0, 3, 40)),
        drawn=troubles,
    )
    def subscribe(
        self,
        zone: int,
        plan: str,
        interval: str,
        months_back: int | None,
        starts: int,
        drawn: Drawn,
    ) -> None:
        free = [name for name in NAMES if name not in self.oracle.subscriptions]
        if free:
            wanted = (free[0], self.zone(zone), plan, interval, months_back)
            self._register(*wanted, drawn, starts=starts)

    @rule(
        zone=places,
        plan=st.sampled_from(("starter", "pro", "club")),
        how=st.sampled_from(("full", "prorated", "prorated")),
        days=st.integers(0, 20),
        later=st.sampled_from((0, 1, 40)),
        change=EDITS["plan"],
        drawn=trouble,
    )
    def story_of_a_sign_up(
        self, zone: int, plan: str, how: str, days: int, later: int, change: str, drawn: Drawn
    ) -> None:
        """Plans give new subscribers the running month; one comes, and is soon on another plan."""
        if plan not in reference.plans_at():
            return
        self.deploy((plan, "on_signup", how))
        self.subscribe(zone, plan, "yearly", None, -days, drawn)
        user = [*self.oracle.subscriptions][-1]
        with self.step(f"{later} days pass, and no tick comes"):
            self.world.now += later * reference.DAY
        self.use(user, 1, f"after-sign-up-{user}", [])
        self.changed(user, "another plan", ("plan", change), [])
        self.allocate_running_month(user)

    @rule(
        who=places,
        days=st.sampled_from((0, 1, 9)),
        way=st.sampled_from((("starter", "pro"), ("pro", "starter", "pro"), ("club", "pro"))),
        more=EDITS["plan"],
        drawn=trouble,
    )
    def story_of_a_step_up(
        self, who: int, days: int, way: tuple[str, ...], more: str, drawn: Drawn
    ) -> None:
        """Somebody who has this month's credits moves up within it, or up and down and up."""
        user, (first, *others) = self.user(who), way
        for plan in ("pro", "business"):
            if plan in reference.plans_at():
                self.deploy((plan, "on_plan_change", "difference"))
        self.changed(user, "another plan", ("plan", first), [])
        with self.step("the next month begins, and no tick comes"):
            self.world.now = max(self.world.now, self.month_start(user, 1))
        self.allocate_running_month(user)
        for plan in others:
            with self.step(f"{days} days pass, and no tick comes"):
                self.world.now += days * reference.DAY
            self.changed(user, "another plan", ("plan", plan), drawn)
        self.use(user, 1, f"after-step-up-{user}", [])
        self.changed(user, "another plan", ("plan", more), [])
        self.allocate_running_month(user)

    def _register(
        self,
        who: str,
        timezone: str,
        plan: str,
        interval: str,
        months_back: int | None,
        drawn: Drawn,
        *,
        amount: int | None = None,
        starts: int = -700,
    ) -> None:
        now = self.instant
        wanted = Subscription(
            user_id=who,
            email=f"{who}@example.com",
            timezone=timezone,
            plan=plan,
            billing_interval=interval,
            status="active",
            started_at=now + starts * reference.DAY,
            registered_at=now,
            eligible_from=now if months_back is None else now - 30 * months_back * reference.DAY,
            allocation_amount=amount,
            notifications=ALL_KINDS,
            known_since=now,
        ).welcomed()
        named = ("email", "timezone", "plan", "billing_interval", "status", "started_at")
        body: Json = {name: as_json(getattr(wanted, name)) for name in named}
        owed = ""
        if months_back is not None:
            body["eligible_from"] = show(wanted.eligible_from)
            owed = f", eligible since {body['eligible_from']}"
        if amount is not None:
            body["allocation_amount"] = amount
            owed += f", with {amount} credits a month"
        owed += f", from {body['started_at']} on"
        words = f"{who} subscribes to {plan}, billed {interval}, in {timezone}{owed}"
        is_known = plan in reference.plans_at()
        caller = SHOP if amount is None and months_back is None else ADMIN
        with self.step(words, drawn, "edit") as troubles:
            path = f"/api/subscriptions/{who}"
            sender = self.known(
                who,
                lambda present: present or (wanted if is_known else None),
                lambda: self.world.call("PUT", path, caller, body),
            )
            sender.status = lambda _: 200 if is_known else 400
            self.edited(who, sender, troubles)

    @rule(
        who=places,
        change=edits,
        by=editors,
        if_match=st.booleans(),
        observed=observations,
        shop=st.booleans(),
        drawn=troubles,
    )
    def change(
        self,
        who: int,
        change: Change,
        by: str,
        if_match: bool,  # noqa: FBT001
        observed: int | None,
        shop: bool,  # noqa: FBT001
        drawn: Drawn,
    ) -> None:
        caller, user = SHOP if shop else ADMIN, self.user(who)
        how: Json = {"by": by, "if_match": if_match, "observed": observed, "caller": caller}
        self.changed(user, "an edit", change, drawn, **how)

    @rule(who=places, kind=st.none() | st.sampled_from(sorted(ALL_KINDS)), drawn=troubles)
    def unsubscribe(self, who: int, kind: str | None, drawn: Drawn) -> None:
        from chalicelib.domain.notifications import MailKind

        user = self.user(who)
        words = f"{user} follows the link that ends mails about {kind or 'anything'}"
        with self.step(words, drawn, "edit") as troubles:
            unwanted = ALL_KINDS if kind is None else {kind}

            def apply(present: Subscription | None) -> Subscription | None:
                if present is None or present.user_id != user:
                    return present
                left = present.notifications - unwanted
                if left == present.notifications:
                    return present
                return replace(present, notifications=left, version=present.version + 1)

            link = self.world.services.unsubscribe_links
            token = link.token(user, MailKind(kind) if kind else None)
            path, query = "/api/unsubscribe", {"token": token}
            sender = self.known(user, apply, lambda: self.world.call("POST", path, {}, query=query))
            reply = self.attempt(troubles, sender.send)
            reply = self.answered(reply, troubles, "unsubscribing")
            require(reply is None or reply.status == 200, "unsubscribing was answered", reply)

    @rule(
        who=places,
        away=departures,
        months=st.integers(0, 2),
        span=spans,
        chosen=st.none() | st.sampled_from((("days", -10), ("first", -2), ("date", -1))),
        meanwhile=meanwhiles,
        by=editors,
        drawn=troubles,
    )
    def story_of_a_pause(
        self,
        who: int,
        away: tuple[Change, Change],
        months: int,
        span: timedelta,
        chosen: tuple[str, int] | None,
        meanwhile: Change | None,
        by: str,
        drawn: Drawn,
    ) -> None:
        """Somebody is away over the start of a month, or of none, and comes back.

        Before that it may have been chosen from when on they are eligible; and before they are
        back, the subscription may have been given a start to come, or an end that is over.
        """
        user = self.user(who)
        if chosen:
            self.changed(user, "a date is agreed", ("eligible_from", chosen), [])
        self.changed(user, "the pause begins", away[0], [])
        if months:
            start = self.month_start(user, months)
            self.go_to(start + timedelta(hours=1), "a month begins, and nobody is swept")
        else:
            self.time_passes(span)
        if meanwhile:
            self.changed(user, "during the pause", meanwhile, [])
        self.changed(user, "the pause is over", away[1], drawn, by=by)
        self.allocate_running_month(user)

    @rule(who=places, changes=st.tuples(edits, edits), by=editors, hours=st.sampled_from((1, 30)))
    def story_of_reports_in_any_order(
        self, who: int, changes: tuple[Change, Change], by: str, hours: int
    ) -> None:
        """Somebody else's system reports two changes; the one that it saw first comes last."""
        user = self.user(who)
        self.changed(user, "a report", changes[0], [], observed=0)
        self.changed(user, "an older report", changes[1], [], by=by, observed=hours)

    @rule(who=places, zone=places, change=edits, drawn=trouble, offset=offsets)
    def story_of_a_move(
        self, who: int, zone: int, change: Change, drawn: Drawn, offset: int
    ) -> None:
        """Somebody has been given a month's credits, moves, and the month begins once more."""
        user = self.user(who)
        self.story_of_a_month(user, 0, offset, change, False, [], drawn)  # noqa: FBT003
        self.changed(user, "a move", ("timezone", zone), [])
        subscription = self.oracle.subscription(user)
        timezone = subscription.timezone
        day = reference.local_day(timezone, self.world.now - timedelta(hours=26))
        period = reference.months_around(day, 0, 2)[1 if day.day > 20 else 0]
        start = subscription.start(period)
        self.go_to(start, f"{period} begins in {timezone}")
        self.allocate_month(timezone, start, drawn)

    # --- Credits ----------------------------------------------------------------------------------

    @rule(who=places, amount=amounts, key=keys, own=st.booleans(), drawn=troubles)
    def use(self, who: Who, amount: int, key: str, drawn: Drawn, *, own: bool = False) -> None:
        user = self.user(who)
        words = f"{user} uses {amount} credits, key {key}"
        self.ask(words, drawn, "use", self.use_of(user, amount, key, own=own))

    @rule(who=places, key=keys, more=st.sampled_from((0, 1, 1, -10)), drawn=trouble)
    def use_up(self, who: Who, key: str, more: int, drawn: Drawn) -> None:
        user = self.user(who)
        ledger = self.oracle.ledger(user)
        amount = ledger.available(ledger.time(self.world.clock)) + more
        if amount > 0:
            words = f"{user} uses {amount} credits, {more:+} of all, key {key}"
            kind = "refusal" if more > 0 else "use"
            self.ask(words, drawn, kind, self.use_of(user, amount, key, own=False))

    @rule(who=places, key=keys, drawn=trouble)
    def use_too_much(self, who: int, key: str, drawn: Drawn) -> None:
        self.use_up(who, key, 1, drawn)

    @rule(
        who=places, place=st.integers(0, 30), amount=st.none() | amounts, key=keys, drawn=troubles
    )
    def reverse(self, who: int, place: int, amount: int | None, key: str, drawn: Drawn) -> None:
        user = self.user(who)
        usages = self.usages(user)
        number = usages[-1 - place % len(usages)] if usages else place + 1
        self._reverse(user, number, amount, key, drawn)

    def _reverse(self, who: str, number: int, amount: int | None, key: str, drawn: Drawn) -> None:
        words = f"{amount or 'what is left'} of entry {number} is given back to {who}, key {key}"
        self.ask(words, drawn, "reverse", self.give_back(who, number, amount, key))

    @rule(
        who=places,
        amount=amounts,
        days=lifetimes,
        silent=st.booleans(),
        key=keys,
        by_lambda=st.booleans(),
        drawn=troubles,
    )
    def grant(
        self,
        who: Who,
        amount: int,
        days: int | None,
        key: str,
        drawn: Drawn,
        *,
        silent: bool = False,
        by_lambda: bool = False,
    ) -> None:
        user, lives = self.user(who), f" for {days} days" if days else ""
        lives = " for as long as those of their plan" if days == AS_THE_PLAN else lives
        words = f"{user} is granted {amount} credits{lives}, key {key}"
        asked = self.by_hand(user, amount, days, key, silent=silent, by_lambda=by_lambda)
        self.ask(words, drawn, "by hand", asked)

    @rule(
        who=places,
        amount=st.none() | amounts,
        more=st.sampled_from((0, 1, 50)),
        key=keys,
        drawn=troubles,
    )
    def claw_back(self, who: int, amount: int | None, more: int, key: str, drawn: Drawn) -> None:
        """Some credits, or all there are, or more than that.

        Or all of a batch: of the newest that holds have a part of, or else that is open.
        """
        user = self.user(who)
        ledger = self.oracle.ledger(user)
        if amount is None and more > 1:
            held = ledger.held(ledger.time(self.world.clock))
            batch = max(held or +ledger.left or ledger.grants, default=1)
            words = f"batch {batch} of {user} is voided, key {key}"
            self.ask(words, drawn, "by hand", self.void_of(user, batch, key))
            return
        amount = amount or ledger.available(ledger.time(self.world.clock)) + more
        if amount:
            words = f"{amount} credits of {user} are clawed back, key {key}"
            asked = self.by_hand(user, -amount, None, key, silent=False, by_lambda=False)
            self.ask(words, drawn, "by hand", asked)

    @rule(place=st.integers(0, 50), other=st.booleans(), drawn=troubles)
    def ask_again(self, place: int, other: bool, drawn: Drawn) -> None:  # noqa: FBT001
        """The same request under the same key, or another one under it."""
        aims = {"usage": "use", "manual": "by hand", "reversal": "reverse"}
        operations = [
            each
            for each in self.oracle.intents.values()
            if each.kind in aims and not each.dates and each.source == "adjustment"
        ]
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
        who = intent.user_id
        asked = self.give_back(who, intent.usage, amount, key)
        if kind == "usage":
            own = caller.startswith("user|")
            asked = self.use_of(who, amount or 1, key, own=own)
        elif kind == "manual":
            how = {"silent": intent.silent, "by_lambda": caller == LAMBDA}
            asked = self.by_hand(who, amount or 1, intent.days, key, **how)
        self.ask(words, drawn, aims[kind], asked)

    @rule(who=places, key=keys, part=st.sampled_from((1, 30, None)), offset=offsets, drawn=troubles)
    def story_of_a_late_reversal(
        self, who: int, key: str, part: int | None, offset: int, drawn: Drawn
    ) -> None:
        """Credits that live some days are used, in part given back, then die, and the rest is."""
        user = self.user(who)
        self.grant(user, 60, 2, f"{key}-granted", [])
        self.use_up(who, f"{key}-used", 0, [])
        usages = self.usages(user)
        if usages:
            if part:
                self._reverse(user, usages[-1], part, f"{key}-part", [])
            self.story_of_an_expiry(who, offset, part == 1, [], [])
            self._reverse(user, usages[-1], None, f"{key}-rest", drawn)
            self.use(user, 1, f"{key}-after", [])

    # --- Time and scheduled work ------------------------------------------------------------------

    @rule(span=spans)
    def time_passes(self, span: timedelta) -> None:
        """Nothing happens in it: an outage, if it is long."""
        with self.step(f"{span} pass, and no tick comes"):
            self.world.now += span

    @rule()
    def a_day_passes(self) -> None:
        with self.step("a day passes, and all is as it should be"):
            self.live_until(self.world.now + reference.DAY)

    @rule(
        who=places,
        months=st.integers(0, 2),
        offset=offsets,
        change=st.none() | edits,
        in_haste=st.booleans(),
        before=troubles,
        drawn=trouble,
    )
    def story_of_a_month(
        self,
        who: Who,
        months: int,
        offset: int,
        change: Change | None,
        in_haste: bool,  # noqa: FBT001
        before: Drawn,
        drawn: Drawn,
    ) -> None:
        """A month begins where a user lives: the zone is swept, and its users are allocated to.

        Somebody may change their subscription between the sweep and the allocation.
        """
        user = self.user(who)
        timezone = self.oracle.subscription(user).timezone
        start = self.month_start(user, 1 + months)
        self.go_to(start + offset * MILLISECOND, f"a month begins in {timezone} at {show(start)}")
        self.start("allocation", start, (timezone,), before)
        self.deliver_all("sweeps", before, in_haste=in_haste)
        if change:
            self.changed(user, "between sweep and allocation", change, [])
        self.deliver_all("allocations", drawn)

    def _next_to_expire(self, who: str) -> Grant | None:
        grants = [g for g in self.oracle.ledger(who).alive(self.world.now) if g.expires_at]
        return min(grants, key=lambda grant: (grant.expires_at, grant.number), default=None)

    @rule(who=places, offset=offsets, is_swept=st.booleans(), before=troubles, drawn=trouble)
    def story_of_an_expiry(
        self,
        who: int,
        offset: int,
        is_swept: bool,  # noqa: FBT001
        before: Drawn,
        drawn: Drawn,
    ) -> None:
        """The clock goes to where a user's next batch expires, to the millisecond."""
        user = self.user(who)
        grant = self._next_to_expire(user)
        if grant is None or grant.expires_at is None:
            return
        end = grant.expires_at
        self.go_to(end + offset * MILLISECOND, f"batch {grant.number} of {user} expires")
        if is_swept:
            self.start("expiry", end, (grant.timezone,), before)
            self.deliver_all("sweeps", before)
            self.deliver_all("expiries", drawn)

    @rule(
        kind=st.sampled_from(("allocation", "expiry")),
        hours_ago=st.sampled_from((0, 0, 1, 24, 24 * 7, 24 * 31)),
        drawn=troubles,
    )
    def tick(self, kind: str, hours_ago: int, drawn: Drawn) -> None:
        self.start(kind, self.world.now - timedelta(hours=hours_ago), (), drawn)

    @rule(who=places, months_ago=st.sampled_from((0, 1, 2, 3, 13, 26)), drawn=troubles)
    def run(self, who: int, months_ago: int, drawn: Drawn) -> None:
        """An admin has a month allocated in a zone once more."""
        user = self.user(who)
        timezone = self.oracle.subscription(user).timezone
        day = reference.running_day(timezone, self.world.clock)
        period = reference.months_around(day, 30, 0)[-1 - months_ago]
        body = {"period": period, "zones": [timezone]}
        with self.step(f"an admin runs {period} in {timezone}", drawn, "tick") as troubles:
            reply = self.attempt(troubles, lambda: self.world.call("POST", RUNS, ADMIN, body))
            if (reply := self.answered(reply, troubles, "a run")) is None:
                return
            require(reply.status == 202, "a run was answered", reply)
            acknowledged.run_is_started(self.oracle, timezone, self._end_of_run(timezone, period))

    @staticmethod
    def _end_of_run(timezone: str, period: str) -> datetime:
        """The instant by which a month has begun for everybody in a zone."""
        plans = reference.plans_at().values()
        has_own = any(plan.get("allocate_on") == "anniversary" for plan in plans)
        return reference.month_start(timezone, period, 31 if has_own else 1)

    @rule(who=places, months_ago=st.sampled_from((12, 13, 14)))
    def story_of_an_old_run(self, who: int, months_ago: int) -> None:
        """Nobody was allocated for more than a year, and somebody asks for an old month."""
        with self.step("430 days pass, and no tick comes"):
            self.world.now += 430 * reference.DAY
        self.run(who, months_ago, [])
        self.deliver_all("sweeps", [])
        self.deliver_all("allocations", [])

    @rule(
        queue=st.sampled_from(WORK_QUEUES),
        chosen=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
        in_haste=st.booleans(),
        drawn=troubles,
    )
    def deliver(self, queue: str, chosen: list[int], in_haste: bool, drawn: Drawn) -> None:  # noqa: FBT001
        """Some of what waits in a queue, in any order."""
        waiting = self.world.waiting(queue)
        messages = [waiting[place] for place in chosen if place < len(waiting)]
        if messages:
            self.deliver_now(queue, messages, drawn, in_haste=in_haste)

    @rule(queue=st.sampled_from(WORK_QUEUES), drawn=troubles)
    def deliver_ten(self, queue: str, drawn: Drawn) -> None:
        messages = self.world.waiting(queue)[:10]
        if messages:
            self.deliver_now(queue, messages, drawn)

    @rule(queue=st.sampled_from(WORK_QUEUES), place=st.integers(0, 39), drawn=troubles)
    def deliver_again(self, queue: str, place: int, drawn: Drawn) -> None:
        """What was delivered before, however long ago."""
        old = self.archive[queue]
        if old:
            body = old[-1 - place % len(old)]
            self.deliver_now(queue, [Message(f"again-{place}", body)], drawn, words="again ")

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

    @rule(who=places, key=keys, seconds=st.integers(1, 4), drawn=troubles)
    def story_of_two_clocks(self, who: int, key: str, seconds: int, drawn: Drawn) -> None:
        """A machine that is ahead writes, and then one that is behind."""
        user = self.user(who)
        self.clocks_differ(2)
        self.grant(user, 30, 1, f"{key}-ahead", [])
        self.clocks_differ(2 - seconds)
        self.use(user, 1, f"{key}-behind", drawn)
        self.read_balance(who, drawn)

    # --- Emails -----------------------------------------------------------------------------------

    @rule(count=st.integers(1, 8), drawn=troubles)
    def stream(self, count: int, drawn: Drawn) -> None:
        self.hand_over(count, drawn)

    @rule(place=st.integers(0, 20), count=st.integers(1, 5), drawn=troubles)
    def stream_again(self, place: int, count: int, drawn: Drawn) -> None:
        start = max(0, self.world.streamed - place)
        records = self.world.stream[start : min(start + count, self.world.streamed)]
        if records:
            with self.step(f"{len(records)} stream records come again", drawn, "stream") as t:
                self.handed_over(records, t)

    @rule(
        chosen=st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True),
        drawn=troubles,
    )
    def send_mails(self, chosen: list[int], drawn: Drawn) -> None:
        waiting = self.world.waiting("notifications")
        messages = [waiting[place] for place in chosen if place < len(waiting)]
        if messages:
            self.send_now(messages, drawn)

    @rule(place=st.integers(0, 39), drawn=troubles)
    def send_again(self, place: int, drawn: Drawn) -> None:
        old = self.archive["notifications"]
        if old:
            body = old[-1 - place % len(old)]
            self.world.aws.state.messages += 1
            message = Message(f"again-{self.world.aws.state.messages}", body)
            self.world.queue("notifications").append(message)
            self.send_now([message], drawn)

    @rule(times=st.integers(1, 3), before=troubles, drawn=trouble)
    def story_of_the_mails(self, times: int, before: Drawn, drawn: Drawn) -> None:
        """All that was posted is told, and told again."""
        self.hand_over(100, before)
        for place in range(times):
            messages = self.world.waiting("notifications")[:10]
            if messages:
                self.send_now(messages, [] if place else drawn)
                with self.step("a quarter of an hour passes"):
                    self.world.now += reference.QUARTER

    @rule(place=st.integers(0, 3), zone=places, drawn=troubles)
    def story_of_a_move_between_deliveries(self, place: int, zone: int, drawn: Drawn) -> None:
        """Of what a user was told the message comes again, and they live elsewhere by then."""
        self.story_of_the_mails(1, [], [])
        old = self.archive["notifications"]
        if old:
            user = json.loads(old[-1 - place % len(old)])["user_id"]
            self.changed(user, "a move", ("timezone", zone), [])
            self.send_again(place, drawn)

    @rule(who=places, key=keys, before=troubles, drawn=troubles)
    def story_of_a_low_balance(self, who: int, key: str, before: Drawn, drawn: Drawn) -> None:
        """A balance is low, is not when credits come back, and then is again."""
        user = self.user(who)
        used = len(self.usages(user))
        self.use_up(who, f"{key}-low", -10, [])
        if len(self.usages(user)) > used:
            self.story_of_the_mails(1, [], before)
            self._reverse(user, self.usages(user)[-1], None, f"{key}-back", [])
            self.use_up(who, f"{key}-low-again", -10, [])
            self.story_of_the_mails(1, [], drawn)

    # --- Reading ----------------------------------------------------------------------------------

    @rule(who=places, drawn=troubles)
    def read_balance(self, who: int, drawn: Drawn) -> None:
        user = self.user(who)

        def right() -> Iterator[Json]:
            for ledger in self.oracle.visited(user):
                yield answers.balance(user, ledger, ledger.time(self.world.clock))

        words = f"the balance of {user} is read"
        self.read(words, "/api/credits/balance", {"user_id": user}, drawn, right)

    @rule(who=places, place=st.integers(0, 30), offset=st.sampled_from((-1, 0, 1)), drawn=troubles)
    def read_balance_of_the_past(self, who: int, place: int, offset: int, drawn: Drawn) -> None:
        user = self.user(who)
        lines = self.oracle.ledger(user).lines
        if not lines:
            return
        moment = lines[-1 - place % len(lines)].posted_at + offset * MILLISECOND
        if moment > self.world.clock:
            return

        def right() -> Iterator[Json]:
            for ledger in self.oracle.visited(user):
                yield answers.balance(user, ledger.at(moment), moment)

        query = {"user_id": user, "at": show(moment)}
        words = f"the balance of {user} at {show(moment)} is read"
        self.read(words, "/api/credits/balance", query, drawn, right)

    @rule(who=places, drawn=troubles)
    def read_schedule(self, who: int, drawn: Drawn) -> None:
        user = self.user(who)

        def right() -> Iterator[Json]:
            for ledger in self.oracle.visited(user):
                for subscription in self.oracle.candidates(user):
                    yield answers.schedule(subscription, ledger, ledger.time(self.world.clock))

        path = "/api/credits/allocation-schedule"
        self.read(f"the schedule of {user} is read", path, {"user_id": user}, drawn, right)

    @rule(
        who=places,
        limit=st.sampled_from((1, 2, 3, 100)),
        kind=st.none()
        | st.sampled_from(
            (
                *("usage", "allocation", "expiration", "reversal", "hold", "release"),
                *("purchase", "refund"),
            )
        ),
        since=st.none() | st.integers(0, 20),
        until=st.none() | st.integers(0, 20),
        drawn=troubles,
    )
    def read_history(
        self,
        who: int,
        limit: int,
        kind: str | None,
        since: int | None,
        until: int | None,
        drawn: Drawn,
    ) -> None:
        user = self.user(who)
        lines = self.oracle.ledger(user).lines
        first = None if since is None or not lines else lines[since % len(lines)].posted_at
        last = None if until is None or not lines else lines[until % len(lines)].posted_at
        if first and last and first >= last:
            return
        query = {"user_id": user, "limit": str(limit)}
        query |= {"type": kind} if kind else {}
        query |= {"from": show(first)} if first else {}
        query |= {"to": show(last)} if last else {}
        with self.step(f"the history of {user} is read: {query}", drawn, "read") as troubles:
            found = self.attempt(troubles, lambda: self._pages_of_history(query))
            if found is None or isinstance(found, Reply):
                require(not troubles.is_absorbed, "the history failed:", found)
                return
            possible = [
                [
                    item
                    for line, item in answers.history(user, ledger)
                    if kind in (None, line.type)
                    and (first or line.posted_at) <= line.posted_at < (last or reference.NEVER)
                ]
                for ledger in self.oracle.visited(user)
            ]
            require(found in possible, "the history is", found, "and not", *possible)

    def _pages_of_history(self, query: Json) -> list[Json] | Reply:
        items: list[Json] = []
        while True:
            reply = self.world.call("GET", "/api/credits/history", ADMIN, query=query)
            if reply.status != 200:
                return reply
            page = reply.json
            items += [{name: item[name] for name in answers.HISTORY} for item in page["items"]]
            require(len(page["items"]) <= int(query["limit"]), "a page is too long")
            if page["next_cursor"] is None:
                return items
            query = {**query, "cursor": page["next_cursor"]}

    @rule(
        who=places,
        months_ago=st.sampled_from((0, 1, 2, 3, 13, 26)),
        limit=st.sampled_from((1, 2, 100)),
        drawn=troubles,
    )
    def preview(self, who: int, months_ago: int, limit: int, drawn: Drawn) -> None:
        """An admin asks what a run would post."""
        timezone = self.oracle.subscription(self.user(who)).timezone
        day = reference.local_day(timezone, self.world.clock)
        period = reference.months_around(day, 30, 0)[-1 - months_ago]
        start = reference.month_start(timezone, period)
        if start > self.world.clock:
            return
        body = {"period": period, "zones": [timezone], "dry_run": True, "limit": limit}
        with self.step(f"an admin previews {period} in {timezone}", drawn, "preview") as troubles:
            replies = self.attempt(troubles, lambda: self._pages_of_preview(body))
            if replies is None or replies[-1].status != 200:
                require(not troubles.is_absorbed, "a preview failed:", replies)
                return
            found = [item for reply in replies for item in reply.json["items"]]
            named = [item["user_id"] for item in found]
            in_order = sorted(named, key=lambda user: hashlib.sha256(user.encode()).digest())
            require(named == in_order, "a preview is not in order:", named)
            for user in self.oracle.subscriptions:
                of_user = [item for item in found if item["user_id"] == user]
                end = self._end_of_run(timezone, period)
                possible = list(self._previews(user, timezone, end))
                require(of_user in possible, "a preview shows", of_user, "and not", *possible)

    def _pages_of_preview(self, body: Json) -> list[Reply]:
        replies = [self.world.call("POST", RUNS, ADMIN, body)]
        while replies[-1].status == 200 and replies[-1].json["next_cursor"]:
            body = {**body, "cursor": replies[-1].json["next_cursor"]}
            replies.append(self.world.call("POST", RUNS, ADMIN, body))
        return replies

    def _previews(self, user: str, timezone: str, start: Any) -> Iterator[list[Json]]:
        """What a preview may show of a user: the index and the subscription can lag apart."""
        known = self.oracle.candidates(user)
        found = [version.is_swept and version.timezone == timezone for version in known]
        if self.oracle.may_be_unseen(user) or not all(found):
            yield []
        if any(found):
            for version in known:
                for ledger in self.oracle.visited(user):
                    yield answers.previewed(user, version, ledger, start, self.world.clock)
