"""What the office does: it deploys other catalogues, imports files, and counts who was allocated.

Files go through the functions of the commands. Their threads take turns here: the last to be
started comes first, as it may.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import rule

from infra.imports import importing
from infra.imports.balances import BALANCES
from infra.imports.importing import Import
from infra.imports.subscriptions import SUBSCRIPTIONS
from tests.simulation import answers, reference
from tests.simulation.drawn import (
    CARRIED,
    Carried,
    Change,
    Deployment,
    Drawn,
    columns,
    deployments,
    edits,
    places,
    troubles,
)
from tests.simulation.faults import Fault
from tests.simulation.life import FAILURES, Life, as_json, void
from tests.simulation.oracle import Edit, Intent
from tests.simulation.reference import Outdated, Subscription, require
from tests.simulation.world import taking_turns

Json = dict[str, Any]


class Row(NamedTuple):
    reference: str
    user_id: str
    amount: int
    granted_at: datetime
    expires_at: datetime | None

    @property
    def intent(self) -> Intent:
        operation = f"manual#import/balances#{self.reference}"
        dates = (self.granted_at, self.expires_at)
        asked = (operation, self.user_id, "manual", self.amount, "Carried over")
        return Intent(*asked, silent=True, dates=dates)


Arrival = tuple[int, bool, bool]
"""Which of the messages that wait arrives, whether in haste, and whether once more."""


class Office(Life):
    """The rules of what engineers and admins do."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[list[Row]] = []
        """The files of balances that were imported, as far as they came."""
        self.constants: dict[str, Json] = {}
        """What a nightly file says of each user every night."""

    # --- Plans ------------------------------------------------------------------------------------

    @rule(change=deployments)
    def deploy(self, change: Deployment) -> None:
        """The engineers change the catalogue; where a plan begins to grant, they say since when."""
        name, what, value = change
        plans = dict(reference.plans_at())
        if what == "presence" and name in plans:
            self.withdrawn[name] = plans.pop(name)
        elif name not in plans:
            plans[name] = self.withdrawn.pop(name)
        elif what == "monthly_credits":
            amount, days = value
            is_beginning = amount and not plans[name][what]
            plans[name] = {**plans[name], what: amount}
            if is_beginning:
                plans[name]["grants_since"] = (self.world.now + days * reference.DAY).date()
        elif what == "billing_intervals":
            plans[name] = self._paying(plans[name], *value)
        elif what == "lifetime":
            life = {"credit_lifetime_days": None, "credit_lifetime_months": None}
            life |= {f"credit_lifetime_{value[0]}": value[1]} if value else {}
            plans[name] = {**plans[name], **life}
        else:
            plans[name] = {**plans[name], what: value}
        if plans and plans != reference.plans_at():
            told = plans.get(name, "gone")
            with self.step(f"another catalogue is deployed, in which {name} is {told}"):
                self.deployed(plans)

    def _paying(self, plan: reference.Plan, words: list[str] | None, days: int) -> reference.Plan:
        """The plan that pays others; it says since when it pays those whom it did not."""
        paid, pays = plan.get("billing_intervals") or ["yearly"], words or ["yearly"]
        changed = {**plan, "billing_intervals": words}
        for interval in ("yearly", "monthly"):
            if interval not in pays:
                changed[f"{interval}_since"] = None
            elif interval not in paid:
                since = self.world.now + days * reference.DAY
                changed[f"{interval}_since"] = since.date()
        return changed

    @rule(who=places, days=st.sampled_from((0, 1, 40)))
    def story_of_a_plan_that_begins_to_pay_monthly(self, who: int, days: int) -> None:
        """Somebody pays monthly, on a plan that does not pay them, and some day it does."""
        user = self.user(who)
        plan = self.oracle.subscription(user).plan
        self.changed(user, "other billing", ("billing_interval", "monthly"), [])
        self.deploy((plan, "billing_intervals", (None, 0)))
        with self.step("two months pass, and no tick comes"):
            self.world.now += 62 * reference.DAY
        self.deploy((plan, "billing_intervals", (["yearly", "monthly"], days)))
        with self.step("some days pass, and no tick comes"):
            self.world.now += 3 * reference.DAY
        self.allocate_running_month(user)

    @rule(who=places, days=st.integers(1, 6))
    def story_of_a_day_that_moves_behind_a_pause(self, who: int, days: int) -> None:
        """A month begins in a pause; and when that is over, the day on which it begins is today."""
        user = self.user(who)
        plan = self.oracle.subscription(user).plan
        self.deploy((plan, "allocate_on", "anniversary"))
        self.changed(user, "the pause begins", ("status", "paused"), [])
        start = self.month_start(user, 1)
        self.go_to(start + timedelta(hours=1), f"a month of {user} begins")
        self.changed(user, "the pause is over", ("status", "active"), [])
        self.go_to(self.world.now + days * reference.DAY, "some days pass")
        self.changed(user, "the start is corrected", ("started_at", ("days", -365)), [])
        self.allocate_running_month(user)

    @rule(who=places, months=st.integers(2, 4), drawn=troubles)
    def story_of_short_months(self, who: int, months: int, drawn: Drawn) -> None:
        """Somebody started on a 31st: their months begin at the end of those that have none."""
        user = self.user(who)
        plan = self.oracle.subscription(user).plan
        self.changed(user, "the start", ("started_at", ("long", 0)), [])
        self.deploy((plan, "allocate_on", "anniversary"))
        for _ in range(months):
            start = self.month_start(user, 1)
            self.go_to(start, f"a month of {user} begins")
            self.allocate_month(self.oracle.subscription(user).timezone, start, drawn)

    @rule(who=places, on=st.sampled_from((None, "anniversary")), change=edits, drawn=troubles)
    def story_of_another_day(self, who: int, on: str | None, change: Change, drawn: Drawn) -> None:
        """A month is given, and then the day on which months begin is another."""
        user = self.user(who)
        plan = self.oracle.subscription(user).plan
        other = "anniversary" if on is None else None
        self.deploy((plan, "allocate_on", other))
        self.allocate_running_month(user)
        self.changed(user, "another start", ("started_at", ("last", -3)), [])
        self.allocate_running_month(user)
        self.deploy((plan, "allocate_on", on))
        self.changed(user, "a change", change, [])
        self.allocate_running_month(user)
        start = self.month_start(user, 1)
        self.go_to(start, f"a month of {user} begins")
        self.allocate_month(self.oracle.subscription(user).timezone, start, drawn)

    @rule(who=places, amount=st.sampled_from((10, 700)), days=st.sampled_from((0, 1, 40)))
    def story_of_a_plan_that_begins_to_grant(self, who: int, amount: int, days: int) -> None:
        """Somebody is on a plan that grants nothing, and some day it does."""
        user = self.user(who)
        self.changed(user, "a change of plans", ("plan", "free"), [])
        self.changed(user, "with the plan's amount", ("allocation_amount", None), [])
        with self.step("two months pass, and no tick comes"):
            self.world.now += 62 * reference.DAY
        self.deploy(("free", "monthly_credits", (0, 0)))
        self.deploy(("free", "monthly_credits", (amount, days)))
        with self.step("some days pass, and no tick comes"):
            self.world.now += 3 * reference.DAY
        self.allocate_running_month(user)

    # --- Balances ---------------------------------------------------------------------------------

    @rule(rows=CARRIED, who=places, drawn=troubles)
    def import_balances(self, rows: list[Carried], who: int, drawn: Drawn) -> None:
        """What users have elsewhere is imported; most rows of a file are of one user."""
        now, file = self.instant, []
        for place, (number, amount, days_ago, days_left) in enumerate(rows):
            user = self.user(who if place % 4 else who + place)
            timezone = self.oracle.subscription(user).timezone
            day = reference.running_day(timezone, now)
            end = days_left and reference.midnight(timezone, day + days_left * reference.DAY)
            granted_at = now - days_ago * reference.DAY
            file.append(Row(f"r{number}", user, amount, granted_at, end or None))
        self.files.append(file)
        self._import_balances(file, "a file", drawn)

    @rule(place=st.integers(0, 9), part=st.integers(0, 3), drawn=troubles)
    def import_balances_again(self, place: int, part: int, drawn: Drawn) -> None:
        """A file is imported again: an earlier import was interrupted, or somebody is not sure."""
        if self.files:
            file = self.files[-1 - place % len(self.files)]
            self._import_balances(file[part % len(file) :], "an old file", drawn)

    def _import_balances(self, file: Sequence[Row], words: str, drawn: Drawn) -> None:
        rows = ", ".join(f"{row.reference}: {row.amount} for {row.user_id}" for row in file)
        with self.step(f"{words} of balances is imported: {rows}", drawn, "balances") as troubles:
            self.oracle.is_importing = True
            is_right = self._expect_rows(file)
            text = csv_of(("reference", "user_id", "amount", "granted_at", "expires_at"), file)

            def act() -> Json | None:
                return self._import(BALANCES, text)

            found = self.attempt(troubles, act, lambda: void(act()))
            if found is None or found["failures"]:
                is_late = any(self._has_expired(row) for row in file)
                is_smooth = troubles.is_absorbed and not is_late
                require(not is_smooth, "an import failed for no reason:", found)
                return
            is_alone = not troubles.has_struck(Fault.MEANWHILE)
            require(found["wrong"] == (not is_right) or not is_alone, "the file was taken:", found)
            missing = [row for row in file if row.intent.operation not in self.oracle.performed]
            require(found["wrong"] or not missing, "rows are said to be imported:", missing)

    def _has_expired(self, row: Row) -> bool:
        """Whether it has by the time of the ledger, which may be ahead of the clock."""
        now = self.oracle.ledger(row.user_id).time(self.world.clock)
        return row.expires_at is not None and row.expires_at <= now

    def _expect_rows(self, file: Sequence[Row]) -> bool:
        """The oracle learns of the rows; whether the file is right as a whole."""
        is_right = True
        last: dict[str, str] = {}
        for row in file:
            is_right &= row.granted_at <= self.world.clock
            intent = row.intent
            if intent.operation in self.oracle.performed:
                known = replace(self.oracle.intents[intent.operation], after="")
                is_right &= known == intent
            else:
                is_right &= row.expires_at is None or row.expires_at > self.world.clock
                after = last.get(row.user_id, "")
                self.oracle.intents[intent.operation] = replace(intent, after=after)
            last[row.user_id] = intent.operation
        return is_right and len({row.reference for row in file}) == len(file)

    # --- Subscribers ------------------------------------------------------------------------------

    @rule(who=places, change=edits, columns=columns, drawn=troubles)
    def import_subscribers(
        self, who: int, change: Change, columns: dict[str, str], drawn: Drawn
    ) -> None:
        """The nightly file of all subscribers, in which somebody has changed."""
        self._import_subscribers(self.user(who), change, columns, drawn)

    @rule(
        who=places,
        columns=columns,
        months=st.integers(0, 2),
        status=st.sampled_from(("paused", "cancelled")),
        drawn=troubles,
    )
    def story_of_a_pause_by_file(
        self, who: int, columns: dict[str, str], months: int, status: str, drawn: Drawn
    ) -> None:
        """Night after night a file, with the same columns: active, paused, active."""
        user = self.user(who)
        self._import_subscribers(user, ("status", "active"), columns, [])
        self._import_subscribers(user, ("status", status), columns, [])
        with self.step(f"{months} months pass, and no tick comes"):
            self.world.now += months * 31 * reference.DAY
        self._import_subscribers(user, ("status", "active"), columns, drawn)

    def _import_subscribers(
        self, who: str, change: Change, columns: dict[str, str], drawn: Drawn
    ) -> None:
        if change[0] == "notifications":
            return
        given = {user: self._row(user, columns, change[0]) for user in self.oracle.subscriptions}
        given[who] |= self.given(who, change)
        names = tuple(given[who])
        text = csv_of(("user_id", *names), [(user, *row.values()) for user, row in given.items()])
        words = f"the {change[0]} of {who} is {self.shown(who, change)} in the nightly file of all"
        words += f", which has {', '.join(f'{column} {how}' for column, how in columns.items())}"
        with self.step(words, drawn, "subscribers") as troubles:
            self.oracle.is_importing = True
            right, made = self._expect_edits(given)

            def act() -> Json | None:
                found = self._import(SUBSCRIPTIONS, text)
                for edit in made if found and not found["wrong"] and not found["failures"] else ():
                    edit.is_done = True
                return found

            found = self.attempt(troubles, act, lambda: void(act()))
            if found is None or found["failures"]:
                require(not troubles.is_absorbed, "an import failed for no reason:", found)
                return
            if not troubles.has_struck(Fault.MEANWHILE):
                counts = found["counts"]
                require(found["wrong"] == (right is None), "the file was taken:", found)
                require(counts == (right or {}), "the file came to", counts, "and not", right)

    def _row(self, user: str, columns: dict[str, str], changed: str) -> Json:
        """What a file says of a user who has not changed; it has the column that changes."""
        present = self.oracle.subscription(user)
        row = {name: getattr(present, name) for name in (*REQUIRED, changed)}
        constants = self.constants.setdefault(user, {})
        for name, how in columns.items():
            constant = constants.setdefault(name, getattr(present, name))
            row[name] = constant if how == "as ever" else None
        return row

    def _expect_edits(self, given: dict[str, Json]) -> tuple[Counter[str] | None, list[Edit]]:
        """The oracle learns of the edits; what they should come to, None if the file is wrong."""
        now, counts, made = self.instant, Counter[str](), []
        is_right = all(row["plan"] in reference.plans_at() for row in given.values())
        for user, row in given.items():
            present = self.oracle.subscription(user)
            try:
                counts["unchanged" if present.edited(now, row) is present else "changed"] += 1
            except Outdated:
                counts["outdated"] += 1
            edit = Edit(user, _importer(row, now) if is_right else lambda present: present)
            self.oracle.edits.append(edit)
            made.append(edit)
            self.oracle.allocating.setdefault(user, []).append(self.world.clock)
        return (counts if is_right else None), made

    def _import(self, kind: Import, text: str) -> Json | None:
        """What an import comes to; None when it could not even begin."""
        with taking_turns():
            try:
                checked = kind.check(self.world.services, text)
                if checked.problems:
                    return {"wrong": True, "failures": [], "counts": {}, "why": checked.problems}
                done = importing.import_rows(kind, self.world.services, checked.good)
            except FAILURES:
                return None
        return {"wrong": False, "failures": done.failures, "counts": +done.counts}

    # --- Completeness -----------------------------------------------------------------------------

    @rule(
        who=places,
        months_ago=st.sampled_from((0, 0, 1, 2, 13)),
        arrivals=st.lists(st.tuples(st.integers(0, 40), st.booleans(), st.booleans()), max_size=6),
        drawn=troubles,
    )
    def count_the_allocated(
        self, who: int, months_ago: int, arrivals: list[Arrival], drawn: Drawn
    ) -> None:
        """It is counted who was due for a month in a zone, and who was allocated."""
        timezone = self.oracle.subscription(self.user(who)).timezone
        day = reference.running_day(timezone, self.world.clock)
        period = reference.months_around(day, 14, 0)[-1 - months_ago]
        with self.step(f"{period} is counted in {timezone}", drawn, "count") as troubles:
            found = self.attempt(troubles, lambda: self._counted(timezone, period, arrivals))
            if found is None:
                require(not troubles.is_absorbed, "the count failed for no reason")
            elif not troubles.has_struck(Fault.MEANWHILE, Fault.STALE):
                right = self._should_be_counted(timezone, period)
                found = {name: found[name] for name in right}
                # Users are named in the order of the ranges.
                found |= {n: sorted(found[n]) for n in found if n.endswith("_users")}
                require(found == right, "the count of", period, "is", found, "and not", right)

    def _counted(self, timezone: str, period: str, arrivals: list[Arrival]) -> Json | None:
        """The summary, once all messages of the count are handled; None when they never are.

        At first they arrive as is drawn: in any order, with time or without, once more or not.
        """
        queue = self.world.queue("checks")
        queue.clear()
        try:
            answer = self.world.check({"period": period, "zones": [timezone]})
            for place, in_haste, again in (*arrivals, *[(0, False, False)] * 300):
                if not (answer["success"] and queue):
                    break
                message = queue[place % len(queue)]
                self.world.deliver("checks", [message], 5_000 if in_haste else 30_000)
                if again:
                    self.world.hand_over("checks", [message])
        except FAILURES:
            return None
        key = f"{answer['summary']}.json" if answer["success"] else ""
        summary: Json | None = json.loads(self.world.reports.get(key, "null"))
        return None if queue else summary

    def _should_be_counted(self, timezone: str, period: str) -> Json:
        named: dict[str, list[str]] = {}
        for user in sorted(self.oracle.subscriptions):
            subscription = self.oracle.subscription(user)
            if subscription.is_swept and subscription.timezone == timezone:
                ledger = self.oracle.ledger(user)
                what = answers.counted(subscription, ledger, period, self.world.clock)
                named.setdefault(what, []).append(user)
        wrong = {what: named.get(what, []) for what in ("missing", "duplicate", "unchecked")}
        allocated = len(named.get("allocated", ())) + len(wrong["duplicate"])
        return {
            "due": allocated + len(wrong["missing"]),
            "allocated": allocated,
            "complete": not any(wrong.values()),
            **{what: len(users) for what, users in wrong.items()},
            **{f"{what}_users": users for what, users in wrong.items()},
        }


REQUIRED = ("timezone", "plan", "billing_interval", "status", "started_at")
"""The columns that every file of subscribers has."""


def _importer(row: Json, now: datetime) -> Callable[[Subscription | None], Subscription | None]:
    def apply(present: Subscription | None) -> Subscription | None:
        try:
            return present and present.edited(now, row)
        except Outdated:
            return present

    return apply


def csv_of(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The text of a file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if v is None else as_json(v) for v in row] for row in rows)
    return text.getvalue()
