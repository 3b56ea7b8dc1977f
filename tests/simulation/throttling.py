"""DynamoDB that refuses what is over a rate, Lambda that ends on time, and a clock for both.

The clock is virtual: it stands while anybody works, and jumps to the first to wake up once all
are asleep. So invocations that wait at the same time really do, minutes take milliseconds, and one
seed has one order of events.
"""

import heapq
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from unittest.mock import patch

from tests.simulation import aws
from tests.simulation.aws import Call, Json, Message, Perform
from tests.simulation.faults import kind_of, some_of, throttled
from tests.simulation.world import MOST_RECEIVES, Context, World, simulated

VISIBILITY_TIMEOUT = 360.0
ROUND_TRIP = 0.005
IDLE = 0.5
"""Seconds after which a poller looks again into a queue where nothing is to be received."""

_is_virtual: ContextVar[bool] = ContextVar("is_virtual", default=False)
"""Whether who sleeps does so by a `Clock`: other threads of the process know nothing of it."""


class Clock:
    """Virtual seconds. What runs under it takes turns, and only waiting takes time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._wakes: list[tuple[float, int, threading.Semaphore]] = []
        self._order = itertools.count()
        self._yielded = threading.Semaphore(0)
        self._errors: list[BaseException] = []
        self._owed = threading.local()

    def spend(self, seconds: float) -> None:
        """Takes time, and lets nobody else have a turn before the next `sleep`."""
        self._owed.seconds = getattr(self._owed, "seconds", 0.0) + seconds

    def sleep(self, seconds: float) -> None:
        """Instead of `time.sleep`."""
        self.spend(seconds)
        turn = threading.Semaphore(0)
        wakes_at = self.now + self._owed.seconds
        self._owed.seconds = 0.0
        heapq.heappush(self._wakes, (wakes_at, next(self._order), turn))
        self._yielded.release()
        turn.acquire()

    def run(self, *tasks: Callable[[], None], tell: Callable[[float], None]) -> None:
        """Runs tasks until all are done; ``tell`` hears of every instant."""
        for task in tasks:
            threading.Thread(target=self._run, args=(task,), daemon=True).start()
            self._yielded.acquire()
        while self._wakes and not self._errors:
            self.now, _, turn = heapq.heappop(self._wakes)
            tell(self.now)
            turn.release()
            self._yielded.acquire()
        if self._errors:
            raise self._errors[0]

    def _run(self, task: Callable[[], None]) -> None:
        _is_virtual.set(True)
        try:
            self.sleep(0)
            task()
        except BaseException as error:  # noqa: BLE001 - raised where they are waited for
            self._errors.append(error)
        self._yielded.release()


@dataclass
class Rate:
    """A token bucket: so many a second, and what a second leaves unused for the next."""

    clock: Clock
    a_second: Callable[[float], float]
    """The rate at an instant."""
    _tokens: float = 0.0
    _filled_at: float = 0.0

    def take(self) -> bool:
        """Whether there was one left."""
        rate = self.a_second(self.clock.now)
        self._tokens += rate * (self.clock.now - self._filled_at)
        self._tokens = min(self._tokens, rate)
        self._filled_at = self.clock.now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass
class ThrottlingTables:
    """Interferes: calls of the kinds in ``rates`` are refused when they come too often."""

    clock: Clock
    rates: dict[str, Rate]
    calls: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)

    def __call__(self, call: Call, perform: Perform) -> Json:
        self.clock.spend(ROUND_TRIP)
        kind = kind_of(call)
        self.calls[kind] += 1
        rate = self.rates.get(kind)
        if rate is None:
            return perform(call)
        self.clock.sleep(0)
        if call.operation == "BatchExecuteStatement":
            return self._statements(call, perform, rate)
        if not rate.take():
            self.refused[kind] += 1
            raise throttled(call)
        return perform(call)

    def _statements(self, call: Call, perform: Perform, rate: Rate) -> Json:
        """Statements are refused one by one."""
        taken = [rate.take() for _ in call.parameters["Statements"]]
        self.refused[kind_of(call)] += taken.count(False)
        return some_of(call, perform, taken, "ThrottlingError")


class Invocation(Context):
    """A context whose time runs out."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._end = clock.now + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - self._clock.now) * 1000)


def run(world: World, clock: Clock, *tasks: Callable[[], None]) -> None:
    """Runs tasks while time passes in the world."""
    start = world.now - timedelta(seconds=clock.now)

    def tell(now: float) -> None:
        world.now = start + timedelta(seconds=now)

    clock.run(*tasks, tell=tell)


@dataclass
class Pollers:
    """What Lambda does with a queue: so many invocations at once, ten messages each.

    One that runs longer than its timeout would have been killed: an error of the test.
    """

    world: World
    clock: Clock
    queue: str
    timeout: float = 60.0
    concurrency: int = 5
    until: float = 6 * 3600
    ends: list[float] = field(default_factory=list)
    """Seconds that were left at the end of each invocation."""
    receives: list[int] = field(default_factory=list)
    """How often each message was received in all."""
    delays: list[float] = field(default_factory=list)
    """After how many seconds each message that failed came back."""

    def run(self) -> float:
        """Delivers until the queue is empty; the seconds it took."""
        run(self.world, self.clock, *[self._poll] * self.concurrency)
        return self.clock.now

    def _poll(self) -> None:
        waiting = self.world.queue(self.queue)
        while waiting and self.clock.now < self.until:
            messages = self._receive()
            if not messages:
                self.clock.sleep(IDLE)
                continue
            context = Invocation(self.clock, self.timeout)
            failed = self.world.hand_over(self.queue, messages, context=context)
            self.ends.append(context.get_remaining_time_in_millis() / 1000)
            for message in messages:
                if message in failed:
                    self.delays.append(message.visible_at - self.world.now.timestamp())
                else:
                    waiting[:] = [other for other in waiting if other is not message]
                    self.receives.append(message.receives)

    def _receive(self) -> list[Message]:
        messages = []
        for message in self.world.waiting(self.queue)[:10]:
            if message.receives == MOST_RECEIVES[self.queue]:
                self.world.queue(self.queue).remove(message)
                self.world.queue(f"{self.queue}-dlq").append(message)
                continue
            message.receives += 1
            message.visible_at = self.world.now.timestamp() + VISIBILITY_TIMEOUT
            messages.append(message)
        return messages


_INSERTS = ("BatchExecuteStatement ledger", "ExecuteStatement ledger")
KINDS = {
    "writes": (*_INSERTS, "ExecuteTransaction ledger"),
    "reads": ("Query ledger",),
    "index_reads": ("Query by_timezone",),
    "subscription_reads": ("GetItem subscriptions",),
    "mail_updates": ("UpdateItem mails",),
}
"""What can be throttled, and in which calls it consists."""


@contextmanager
def throttling(
    clock: Clock, **rates: Callable[[float], float]
) -> Iterator[tuple[World, ThrottlingTables]]:
    """Within the block a world whose tables are throttled: writes of entries, reads, ….

    The product's sizes are those that are deployed.
    """
    buckets = {name: Rate(clock, rate) for name, rate in rates.items()}
    limited = {kind: rate for name, rate in buckets.items() for kind in KINDS[name]}
    tables = ThrottlingTables(clock, limited)
    with ExitStack() as stack:
        stack.enter_context(simulated(zones=("Europe/Paris",)))
        stack.enter_context(patch("chalicelib.jobs.workers.INSERTS_A_REQUEST", 25))
        world = stack.enter_context(World().running())
        aws.refill_retries()
        yield world, tables


@contextmanager
def passing_time(world: World, clock: Clock, tables: ThrottlingTables) -> Iterator[None]:
    """Within the block pauses take time and tables are throttled."""
    really = time.sleep

    def sleep(seconds: float) -> None:
        (clock.sleep if _is_virtual.get() else really)(seconds)

    with patch("time.sleep", sleep), patch.object(world.aws, "interfere", tables):
        yield
