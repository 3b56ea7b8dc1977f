"""One long life of the simulation: years of many users, told by chance and not by Hypothesis.

Every step is judged as in any other life, and at the end everything must have happened and all
credits add up. The product runs in a process of its own, whose memory must stay flat.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from unittest.mock import patch

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.progress import progress_bar
from tests.simulation import reference, world
from tests.simulation.drawn import Drawn, Profile
from tests.simulation.faults import Fault
from tests.simulation.life import ADMIN, Life
from tests.simulation.machine import Machine
from tests.simulation.product import Product
from tests.simulation.reference import DAY, Violation, require
from tests.simulation.world import QUEUES, WORK_QUEUES, at, ticks_between

YEAR = 365
HALF = 182
MOST_GROWTH = 0.03
"""By how much memory may grow after the first year."""
MEGABYTE = 1_000_000

PROFILE = Profile(
    start=at("2026-01-01T12:00:00Z"),
    zones=(
        "Africa/Cairo",  # a midnight that does not exist, in April
        "America/Havana",  # a midnight that comes twice, on 1 November
        "Europe/Paris",
        "Pacific/Kiritimati",  # the first in the world
    ),
    people=(),
    users_a_page=200,
    # Nobody else works in the middle of a call: there is one process. An item of one user that
    # cannot be read is met in few steps only, and so is drawn more often.
    faults=(
        *(fault for fault in Fault if fault not in (Fault.MEANWHILE, Fault.STALE)),
        *[Fault.UNREADABLE] * 3,
    ),
)
AGES = tuple(age // reference.MINUTE for age in reference.AGES)
PLANS = tuple(reference.SHIPPED)
EDITS = {
    "plan": PLANS,
    "timezone": range(len(PROFILE.zones)),
    "status": ("paused", "cancelled"),
    "billing_interval": ("monthly", "yearly"),
    "allocation_amount": (None, 7, 90, 333),
}


@dataclass
class Credits:
    """Where the credits have gone: what was granted is what became of it."""

    lines: int = 0
    mails: int = 0
    granted: int = 0
    spent: int = 0
    clawed_back: int = 0
    expired: int = 0
    left: int = 0
    memory: int = 0

    @property
    def adds_up(self) -> bool:
        return self.granted == self.spent + self.clawed_back + self.expired + self.left


@dataclass
class Course:
    """A run: what each year came to, and the memory at every half of one."""

    years: list[Credits] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """Of memory since the end of the first year, at the most."""
        settled = self.memory[1:]
        return max(settled) / settled[0] - 1 if settled else 0.0


class Years(Machine):
    """The life. Of a thousand steps so many meet a fault, and so many ticks are irregular."""

    faults_in_1000 = 10
    irregular_in_1000 = 20
    events_a_day = 0.02
    """What a user does, or has done to them."""

    def __init__(self, users: int, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.pending = [f"user-{number:04}" for number in range(1, users + 1)]
        self.newcomers = users // 90 + 1
        self.irregular = 0

    @contextmanager
    def lived(self) -> Iterator[Product]:
        """Within the block the product runs; at its end everything must have happened."""
        self.live(PROFILE)
        # An email in doubt is on its way to the dead letters sooner.
        self.stack.enter_context(patch.dict(world.MOST_RECEIVES, {"notifications": 5}))
        product = Product(self.world, PROFILE.zones, PROFILE.users_a_page)
        self.stack.enter_context(product.running())
        try:
            yield product
        except BaseException:
            self.is_over = True
            raise
        finally:
            self.teardown()

    def day(self, number: int) -> None:
        """A day: its ticks, and what users do between them."""
        start = self.world.now
        end = start.replace(hour=12, minute=0, second=0, microsecond=0) + DAY
        doings: list[tuple[datetime, str]] = [
            (tick, "tick") for tick in ticks_between(start, end, PROFILE.zones, AGES)
        ]
        # Everybody comes within the first quarter.
        newcomers = len(self.pending) if number >= 90 else self.newcomers
        doings += [(self._sometime(start), name) for name in self.pending[:newcomers]]
        del self.pending[:newcomers]
        events = self.events_a_day * len(self.oracle.subscriptions)
        events = int(events) + (self.chance.random() < events % 1)
        doings += [(self._sometime(start), "") for _ in range(events)]
        for moment, what in sorted(doings):
            self.world.now = max(self.world.now, moment)
            if what == "tick":
                self._ticks(moment)
            elif what:
                self._comes(what)
            else:
                self._something_happens()
            self.settle()
        self.world.now = max(self.world.now, end)

    def settle(self) -> None:
        """What was set off comes to its end, what is tried again included."""
        while True:
            self.hand_over(100, self._trouble_by_chance())
            for queue in WORK_QUEUES:
                self.deliver_all(queue, self._trouble_by_chance())
            mails = self.world.waiting("notifications")
            for place in range(0, len(mails), 10):
                self.send_now(mails[place : place + 10], self._trouble_by_chance())
            later = [message.visible_at for name in QUEUES for message in self.world.queue(name)]
            if not later and self.world.streamed == len(self.world.stream):
                return
            wait = min(later, default=0) - self.world.now.timestamp()
            self.world.now += timedelta(seconds=max(0, int(wait) + 1))

    def _sometime(self, day: datetime) -> datetime:
        return day + timedelta(seconds=self.chance.randrange(86_400))

    def _trouble_by_chance(self) -> Drawn:
        if self.chance.randrange(1000) >= self.faults_in_1000:
            return []
        return [
            (
                *(self.chance.randrange(16), self.chance.randrange(8)),
                *(self.chance.choice((0, 0, 1, 2)), self.chance.choice((1, 1, 2, 3, 5, 40))),
                ("again", 1, "none", ("plan", "pro")),
            )
        ]

    def _ticks(self, moment: datetime) -> None:
        irregular = self.chance.randrange(1000) // self.irregular_in_1000
        self.irregular += irregular < 3
        if irregular == 0:
            return  # skipped
        self.world.now += timedelta(minutes=5 * (irregular == 1))
        for kind in ("allocation", "expiry"):
            if any(reference.midnights_swept(zone, moment, kind) for zone in PROFILE.zones):
                for _ in range(1 + (irregular == 2)):
                    self.start(kind, moment, (), self._trouble_by_chance())

    def _comes(self, name: str) -> None:
        timezone, plan = self.chance.choice(PROFILE.zones), self.chance.choice(PLANS)
        interval = "monthly" if self.chance.random() < 0.1 else "yearly"
        drawn = self._trouble_by_chance()
        while name not in self.oracle.subscriptions:
            self._register(name, timezone, plan, interval, None, drawn)
            drawn = []

    def _something_happens(self) -> None:
        place = self.chance.randrange(len(self.oracle.subscriptions))
        user, drawn = self.user(place), self._trouble_by_chance()
        key = f"key-{len(self.oracle.intents)}"
        ledger = self.oracle.ledger(user)
        available = ledger.available(ledger.time(self.world.clock))
        what = ("use", "reverse", "grant", "claw back", "edit", "return")
        match self.chance.choices(what, (60, 12, 6, 3, 7, 12))[0]:
            case "use" if self.chance.random() < 0.02:
                self.use(user, available + 1, key, drawn)
            case "use":
                most = max(1, available * 2 // 3)
                self.use(user, self.chance.randint(1, most), key, drawn)
            case "reverse" if usages := self.usages(user)[-12:]:
                amount = self.chance.choice((None, self.chance.randint(1, 50)))
                self._reverse(user, self.chance.choice(usages), amount, key, drawn)
            case "grant":
                days = self.chance.choice((None, self.chance.randint(1, 40)))
                self.grant(user, self.chance.randint(1, 300), days, key, drawn)
            case "claw back":
                self.claw_back(place, self.chance.randint(1, max(1, available)), 0, key, drawn)
            case "edit":
                name = self.chance.choice([*EDITS])
                change = (name, self.chance.choice([*EDITS[name]]))
                self.changed(user, "an edit", change, drawn, caller=ADMIN)
            case "return":
                change = ("status", "active")
                if self.oracle.subscription(user).status == "active":
                    change = ("billing_interval", "yearly")
                self.changed(user, "a return", change, drawn, caller=ADMIN)

    def credits(self) -> Credits:
        """All credits, by the lines that the ledgers were seen to have."""
        found = Credits(mails=len(self.world.aws.state.mails))
        for ledger in self.oracle.ledgers.values():
            found.lines += len(ledger.lines)
            found.left += ledger.balance
            for line in ledger.lines:
                if line.type == "allocation" or (line.type == "manual" and line.amount > 0):
                    found.granted += line.amount
                elif line.type == "expiration":
                    found.expired -= line.amount
                elif line.type == "manual":
                    found.clawed_back -= line.amount
                else:
                    found.spent -= line.amount
        require(found.adds_up, "the credits do not add up:", found)
        return found


def live(life: Years, days: int, bar: Progress | None = None) -> Course:
    """Lives through so many days. Raises `Violation`."""
    course = Course()
    task = bar.add_task("days", total=days) if bar else None
    with life.lived() as product:
        for number in range(1, days + 1):
            life.day(number)
            if number % HALF == 0 or number == days:
                course.memory.append(product.memory())
            if number % YEAR == 0 or number == days:
                course.years.append(life.credits())
                course.years[-1].memory = course.memory[-1]
            if bar and task is not None:
                bar.advance(task)
    return course


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.years", description=__doc__)
    parser.add_argument("--users", type=int, default=500, help="how many live (500)")
    parser.add_argument("--years", type=int, default=5, help="how long (5)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed, the same life (1)")
    asked = parser.parse_args(words)
    if asked.users < 1 or asked.years < 1:
        parser.error("--users and --years must be at least 1")
    began = time.monotonic()
    Life.steps = Life.struck = 0
    life = Years(asked.users, asked.seed)
    try:
        with progress_bar(Console(stderr=True)) as bar:
            course = live(life, asked.years * YEAR, bar)
    except Violation as wrong:
        print(*life.story[-20:], sep="\n")
        print(f"WRONG: {wrong}")
        again = f"--users {asked.users} --years {asked.years} --seed {asked.seed}"
        print(f"again: python -m tests.simulation.years {again}")
        print("1 violation: the run ended at it")
        return 1
    print_table(course)
    is_flat = course.growth <= MOST_GROWTH
    found = course.years[-1]
    sizes = ", ".join(f"{size / MEGABYTE:.1f}" for size in course.memory)
    print(f"memory at each half year, MB: {sizes}")
    print(
        f"{asked.years} years of {asked.users} users in {(time.monotonic() - began) / 60:.0f} "
        f"minutes: {Life.steps:,} steps with {Life.struck:,} faults, {found.lines:,} ledger lines "
        f"and {found.mails:,} mails as expected, {found.granted:,} credits granted and all "
        f"accounted for; memory grew by {course.growth:.1%} after the first year"
        + ("" if is_flat else f", more than the {MOST_GROWTH:.0%} allowed")
    )
    return 0 if is_flat else 1


def print_table(course: Course) -> None:
    heads = ("after year", "lines", "mails", "granted", "spent", "clawed back", "expired", "left")
    table = Table(*heads, "memory MB", box=None)
    for year, found in enumerate(course.years, 1):
        *counts, memory = vars(found).values()
        table.add_row(str(year), *(f"{count:,}" for count in counts), f"{memory / MEGABYTE:.1f}")
    Console(width=120).print(table)


if __name__ == "__main__":
    sys.exit(main())
