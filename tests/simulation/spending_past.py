"""A shadow beside an old system: files of what that let users spend, told late, again and in part.

A life of its own, drawn by chance from a seed and not by Hypothesis: what `machine.Machine` draws
stays as it is. Between the files months begin, credits expire, and users spend through the API.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from infra.imports import importing, usages
from infra.imports.importing import Imported
from tests.simulation import reference
from tests.simulation.aws import State
from tests.simulation.drawn import PLANS, Drawn, Profile
from tests.simulation.faults import Fault, Troubles
from tests.simulation.life import FAILURES, MILLISECOND, void
from tests.simulation.machine import Machine
from tests.simulation.office import csv_of
from tests.simulation.oracle import Intent, Oracle
from tests.simulation.reference import DAY, Ledger, Line, Short, Violation, require, show
from tests.simulation.world import WORK_QUEUES, ZONES, at, taking_turns

Json = dict[str, Any]

HEADER = ("reference", "user_id", "at", "kind", "amount", "description")
STARTS = (
    *("2026-01-22T12:00:00Z", "2026-03-22T12:00:00Z"),
    "2037-10-24T12:00:00Z",  # in Havana the next month begins twice
)
PEOPLE = (("starter", None), ("pro", 60), ("starter", 7), ("club", None))
"""Plans and amounts of a month: of the second the credits never expire, the last has a cap."""
LATE = tuple(map(timedelta, (0, 0, 0, 0, 1, 3)))
"""After how many days a sweep comes, beside some hours."""
HOURS = (0, 0, 1, 7)
INTERRUPTIONS = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER, Fault.LOST, Fault.THROTTLED)
"""The faults that every life has; the last two end a run if they last."""
LINES_BEFORE = 3
"""A usage's line in a file less its place among them: counted from 1, after the header and a row of
another kind."""
AIMED = ("promotion", "use", "refusal")
"""The kinds of steps whose calls a run makes, too."""


class Row(NamedTuple):
    """A usage of the old system."""

    reference: str
    user_id: str
    at: datetime
    amount: int
    text: str

    @property
    def operation(self) -> str:
        """Its name in the ledger."""
        return f"usage#import/usages#{self.reference}"

    @property
    def cells(self) -> tuple[object, ...]:
        """What stands in a file."""
        return (self.reference, self.user_id, show(self.at), "usage", -self.amount, self.text)

    def spent(self, ledger: Ledger, now: datetime) -> Line:
        """The line that it is to become: of its own instant, or of now if that is yet to come.

        Raises `Short`.
        """
        instant = min(self.at, now)
        instant = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
        text = self.text or "Usage"
        line = ledger.take("usage", self.amount, instant, self.operation, text)
        return replace(line, effective_at=instant)


@dataclass
class Shadow(Oracle):
    """The oracle, who knows of the usages of files, too."""

    rows: dict[str, Row] = field(default_factory=dict)

    def told(self, rows: Sequence[Row]) -> None:
        """They stand in a file from now on."""
        for row in rows:
            self.rows[row.operation] = row
            asked = (row.operation, row.user_id, "usage", row.amount, row.text)
            self.intents[row.operation] = Intent(*asked)

    def _expected_on_request(self, user_id: str, ledger: Ledger, body: Json) -> Iterator[Line]:
        row = self.rows.get(body["operation"])
        if row is None:
            yield from super()._expected_on_request(user_id, ledger, body)
            return
        require(row.user_id == user_id, "a usage of", row.user_id, "is spent by", user_id)
        require(row.operation not in self.performed, "spent a second time:", row)
        try:
            yield row.spent(ledger, self.world.clock)
        except Short as short:
            raise Violation(f"{row} took more than the {short.available} there were") from short


class Told(NamedTuple):
    """What a run is to come to: each user's new lines, and who was refused."""

    lines: dict[str, list[Line]]
    refused: set[str]


class SpendingPast(Machine):
    """The life. Users have spent somewhere else, and files tell of it."""

    oracle: Shadow

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed, self.chance = seed, random.Random(seed)
        self.rows: list[Row] = []
        """All that any file has told, the oldest first."""
        self.others: list[tuple[object, ...]] = []
        """What else has moved in the old system."""
        self.sweeps: list[tuple[datetime, str, datetime, str]] = []
        """What has still to come: when, which tick, of which midnight, where."""
        self.swept: set[tuple[str, datetime, str]] = set()
        self.runs: Counter[str] = Counter()
        """What has become of them; of a usage that was refused, each time that it was."""
        self.keys = 0

    def live_on(self, steps: int = 20) -> None:
        """The whole life. Raises `Violation`, with the story of the life."""
        try:
            with self.stack:  # also of a life that ends too early
                self.begin()
                for _ in range(steps):
                    self.something_happens()
                self.tell_of(self.rows, is_last=True)
                self.teardown()
        except Violation as wrong:
            wrong.add_note("\n".join([f"The life of seed {self.seed}:", *self.story]))
            raise

    def begin(self) -> None:
        """Some users subscribe, and their first month begins."""
        zones = tuple(self.chance.sample(ZONES, 2))
        start = self.chance.choice(STARTS)
        if start.startswith("2037"):
            zones = ("America/Havana", zones[0] if zones[0] != "America/Havana" else zones[1])
        more = (Fault.MEANWHILE, *self.chance.sample(tuple(Fault), 2))
        faults = (*INTERRUPTIONS, *more[self.chance.randrange(2) :])
        self.live(Profile(at(start), zones, (), 4, faults, plans=PLANS))
        self.oracle = Shadow(self.world)
        people = self.chance.sample(PEOPLE, 3)
        for name, (plan, amount) in zip(("ada", "bob", "cem"), people, strict=True):
            zone = self.chance.choice(zones)
            self._register(name, zone, plan, "yearly", None, [], amount=amount)
        self.give()
        self.days_pass(12)

    def something_happens(self) -> None:
        """A file is told, or something else."""
        what = ("file", "again", "late", "use", "give", "days", "clock")
        match self.chance.choices(what, (9, 4, 2, 4, 2, 5, 1))[0]:
            case "file":
                self.a_file_comes()
            case "again" if self.rows:
                self.tell_of(self.chance.sample(self.rows, self.chance.randint(1, len(self.rows))))
            case "late":
                self.a_file_comes_after_an_expiry()
            case "use":
                self.spend()
            case "give":
                self.give()
            case "clock":
                self.clocks_differ(self.chance.choice((0, -2, 2)))
            case _:
                self.days_pass(self.chance.choice((1, 2, 9, 31)))

    # --- What goes on beside the files ------------------------------------------------------------

    def spend(self) -> None:
        """The product spends, or asks for more than there is."""
        user, amount = self.anybody(), self.chance.choice((1, 5, 30, 1_000))
        self.use(user, amount, self.key(), self.trouble())

    def give(self) -> None:
        """An admin grants credits, for some days or for ever."""
        days = self.chance.choice((None, 1, 10))
        self.grant(self.anybody(), self.chance.choice((5, 30)), days, self.key(), [])

    def days_pass(self, days: int) -> None:
        """So many days, in which sweeps come at their time or later, if not some other day."""
        end = self.world.now + days * DAY + timedelta(minutes=self.chance.randrange(1440))
        while True:
            self.foresee(end)
            if not self.sweeps or self.sweeps[0][0] > end:
                break
            moment, kind, midnight, zone = self.sweeps.pop(0)
            self.go_to(max(self.world.now, moment), "time passes")
            self.start(kind, midnight, (zone,), [])
            drawn = self.trouble()
            while any(map(self.world.waiting, WORK_QUEUES)):
                for queue in WORK_QUEUES:
                    self.deliver_all(queue, drawn)
                drawn = []
        self.go_to(end, "time passes")

    def foresee(self, end: datetime) -> None:
        """The sweeps that are due by then, and are not foreseen yet."""
        due: set[tuple[str, datetime, str]] = set()
        for user, ledger in [
            (user, self.oracle.ledger(user)) for user in self.oracle.subscriptions
        ]:
            subscription = self.oracle.subscription(user)
            day = reference.local_day(subscription.timezone, self.world.now)
            for month in reference.months_around(day, 0, 3):
                due.add(("allocation", subscription.start(month), subscription.timezone))
            due |= {("expiry", g.expires_at, g.timezone) for g in ledger.open() if g.expires_at}
        for kind, midnight, zone in sorted(due - self.swept):
            if midnight <= end:
                late = self.chance.choice(LATE) + timedelta(hours=self.chance.choice(HOURS))
                self.sweeps.append((midnight + late, kind, midnight, zone))
                self.swept.add((kind, midnight, zone))
        self.sweeps.sort()

    def anybody(self) -> str:
        return self.chance.choice([*self.oracle.subscriptions])

    def key(self) -> str:
        self.keys += 1
        return f"key-{self.keys}"

    def trouble(self) -> Drawn:
        """None, or of one or two kinds."""
        chance = self.chance
        return [
            (
                *(chance.randrange(16), chance.randrange(8)),
                *(chance.choice((0, 0, 1, 2, 3)), chance.choice((1, 1, 2, 3, 40, 40))),
                (chance.choice(("again", "use", "grant", "deliver")), 5, "k", ("plan", "pro")),
            )
            for _ in range(chance.choice((0, 1, 1, 2)))
        ]

    # --- Files ------------------------------------------------------------------------------------

    def a_file_comes(self) -> None:
        """Of new usages, and of some that stood in a file before."""
        new: list[Row] = []
        for _ in range(self.chance.randint(1, 5)):
            new.append(self.a_usage([*self.rows, *new]))
        before = self.chance.sample(self.rows, self.chance.randint(0, min(4, len(self.rows))))
        self.rows += new
        self.tell_of([*new, *before])

    def a_file_comes_after_an_expiry(self) -> None:
        """Credits have expired, and no sweep has noticed: a usage of before can still have them."""
        user, now = self.anybody(), self.instant
        ledger = self.oracle.ledger(user)
        ends = [g.expires_at for g in ledger.alive(ledger.time(now)) if g.expires_at]
        if ends:
            end, offset = min(ends), self.chance.choice((-MILLISECOND, -MILLISECOND, 0 * DAY))
            there = ledger.available(ledger.time(end + offset))
            name = f"u-{len(self.rows) + 1}"
            self.rows.append(Row(name, user, end + offset, max(there, 1), ""))
            self.go_to(end + self.chance.choice((0, 1, 9)) * DAY, "no sweep comes")
            self.tell_of(self.rows[-1:])

    def a_usage(self, known: Sequence[Row]) -> Row:
        """Of any instant until now; often of one at which something has happened, or nearly."""
        user = self.anybody()
        ledger, now = self.oracle.ledger(user), self.instant
        moments = [line.posted_at for line in ledger.lines]
        moments += [g.expires_at for g in ledger.grants.values() if g.expires_at] * 2
        moments += [row.at for row in known if row.user_id == user]
        near = (-MILLISECOND, timedelta(0), timedelta(0), MILLISECOND, timedelta(hours=-1))
        instant = self.chance.choice([*moments, now]) + self.chance.choice(near)
        last = max(line.posted_at for line in ledger.lines) if ledger.lines else now - 40 * DAY
        match self.chance.choice(("near", "near", "since", "since", "whenever")):
            case "since":
                instant = last + self.chance.randrange(1, 1000) * (now - last) / 1000
            case "whenever":
                instant = now - timedelta(minutes=self.chance.randrange(40 * 1440))
        if instant > now:
            instant = now + timedelta(minutes=self.chance.randrange(4))  # clocks differ
        instant = instant.replace(microsecond=instant.microsecond // 1000 * 1000)
        there = ledger.available(ledger.time(instant))
        amount = self.chance.choice((1, 2, 5, 5, 30, there or 1, there + 1))
        text = self.chance.choice(("", "Click", "Report"))
        return Row(f"u-{len(known) + 1}", user, instant, amount, text)

    def tell_of(self, rows: Sequence[Row], *, is_last: bool = False) -> None:
        """A file is run; if something goes wrong, mostly again and again until it is done."""
        rows = list(rows)
        self.chance.shuffle(rows)
        other = (f"x-{len(self.others)}", self.anybody(), show(self.instant), "expiration", -3, "")
        self.others.append(other)
        text = csv_of(HEADER, [other, *(row.cells for row in rows)])
        self.oracle.told(rows)
        before, is_alone = self.world.aws.state.copy(), True
        for attempt in range(4):
            drawn = [] if is_last or attempt == 3 else self.trouble()
            is_done, is_undisturbed = self.run_file(rows, text, drawn)
            is_alone &= is_undisturbed
            if is_done and attempt and is_alone:
                self.is_as_uninterrupted(before, text)
            if is_done or self.chance.random() < 0.2:
                break

    def run_file(self, rows: Sequence[Row], text: str, drawn: Drawn) -> tuple[bool, bool]:
        """One run, and what became of it: is it done, and has nobody else written meanwhile?"""
        told = ", ".join(f"{r.reference} {r.amount} by {r.user_id} {show(r.at)}" for r in rows)
        with self.step(f"usages are told: {told}", drawn, self.chance.choice(AIMED)) as troubles:
            self.oracle.is_importing = True
            lines = {user: len(self.oracle.ledger(user).lines) for user in self.oracle.ledgers}
            right = self.should_come_of(rows)
            act = partial(self.imported, text)
            overlapping = csv_of(HEADER, [row.cells for row in rows[len(rows) // 2 :: -1]])
            found = self.attempt(troubles, act, lambda: void(self.imported(overlapping)))
            is_alone = not troubles.has_struck(Fault.MEANWHILE)
            self.runs["overtaken"] += not is_alone
            for user, ledger in self.oracle.ledgers.items() if is_alone else ():
                new, wanted = ledger.lines[lines.get(user, 0) :], right.lines.get(user, [])
                require(new == wanted[: len(new)], "of", user, "came", new, "and not", wanted)
            if found is None or found.failures:
                require(not troubles.is_absorbed, "a run failed for no reason:", found)
                self.runs["killed" if troubles.is_dead else "failed"] += 1
                return False, is_alone
            self.is_complete(rows, found, lines, troubles)
            refused = {rows[problem.line - LINES_BEFORE].reference for problem in found.refused}
            require(refused == right.refused or not is_alone, refused, "are refused, not", right)
            self.runs["done"] += 1
            self.runs["refused"] += len(refused)
            return True, is_alone

    def should_come_of(self, rows: Sequence[Row]) -> Told:
        """What a run makes of the ledgers: by the instants, and who is refused holds up nobody."""
        right = Told({}, set())
        ledgers = {row.user_id: self.oracle.ledger(row.user_id) for row in rows}
        for row in sorted(rows, key=lambda row: row.at):
            if row.operation not in self.oracle.performed:
                try:
                    line = row.spent(ledgers[row.user_id], self.world.clock)
                except Short:
                    right.refused.add(row.reference)
                else:
                    ledgers[row.user_id] = ledgers[row.user_id].after(line)
                    right.lines.setdefault(row.user_id, []).append(line)
        return right

    def is_complete(
        self, rows: Sequence[Row], found: Imported, lines: Json, troubles: Troubles
    ) -> None:
        """Each usage is in the ledger or was refused; and then the credits were not there."""
        counts = found.counts
        spent = counts["spent"] + counts["spent before"]
        is_counted = spent + counts["refused"] == len(rows) and counts["of another kind"] == 1
        require(is_counted, counts, "of", len(rows), "usages")
        refused = {problem.line - LINES_BEFORE for problem in found.refused}
        require(len(refused) == counts["refused"], "refused, and not named:", found)
        for place, row in enumerate(rows):
            is_spent = row.operation in self.oracle.performed
            if place not in refused:
                require(is_spent, "said to be spent:", row, troubles)
                continue
            ledger = self.oracle.ledger(row.user_id)
            moments = range(lines.get(row.user_id, 0), len(ledger.lines) + 1)
            is_short = any(self.was_short(row, ledger.until(number)) for number in moments)
            require(is_short and not is_spent, "refused for no reason:", row)

    def was_short(self, row: Row, ledger: Ledger) -> bool:
        instant = ledger.time(min(row.at, self.world.clock))
        return ledger.available(instant) < row.amount

    def imported(self, text: str) -> Imported | None:
        """What a run comes to; None when it could not even begin."""
        with taking_turns():
            try:
                checked = usages.USAGES.check(self.world.services, text)
                require(not checked.problems, "the file is said to be wrong:", checked.problems)
                return importing.import_rows(usages.USAGES, self.world.services, checked.good)
            except FAILURES:
                return None

    def is_as_uninterrupted(self, before: State, text: str) -> None:
        """The table is, item by item, as after one run from the same start without any trouble."""
        self.runs["compared"] += 1
        after, self.world.aws.state = self.world.aws.state, before
        try:
            self.imported(text)
            clean = self.world.table("ledger").items
        finally:
            self.world.aws.state = after
        found = self.world.table("ledger").items
        differing = {key for key in {*found, *clean} if found.get(key) != clean.get(key)}
        require(not differing, "after an interruption these are not as they would be:", differing)
