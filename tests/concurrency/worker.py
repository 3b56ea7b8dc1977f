"""One process of a run: threads that do whatever there is to do, with the product's own code.

Before each operation a line of the journal says what is about to be done, and after it what it
came to. The process can die between any two instructions: what its journal says then is all that
anybody knows.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from chalicelib import metrics
from chalicelib.domain.edits import BY_IMPORT
from chalicelib.domain.errors import CreditsError, NotFound
from chalicelib.domain.holds import earmarked
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.subscriptions import Subscription
from chalicelib.jobs import workers
from chalicelib.messages.work import UsersMessage
from chalicelib.metrics import Metric
from chalicelib.observability import logger
from chalicelib.operations import holds, on_request
from chalicelib.operations.adjustments import NEVER, Adjustment, adjust
from chalicelib.operations.holds import End
from chalicelib.operations.on_request import Void
from chalicelib.services import Services
from infra.faults import FAULTS

from .plan import Plan
from .plants import PLANTS

SHARE_OF_HOT = 0.7
PREFIXES = {"use": "usage", "void": "void", "reverse": "reversal", "hold": "hold"} | {
    **dict.fromkeys(("grant", "claw"), "manual"),
    **dict.fromkeys(("capture", "release"), "end"),
}
"""The operations with a key, and how the names of theirs begin in the ledger."""

_WEIGHTS = {"use": 30, "grant": 12, "reverse": 12, "edit": 10, "read": 8} | {
    **dict.fromkeys(("claw", "allocate", "expire"), 6),
    "void": 4,
    "hold": 14,
    "capture": 12,
    "release": 6,
}
_OF_SOMETHING = ("void", "reverse", "capture", "release")
_AGAIN = 0.15
_IMPOSTOR = 0.03
_MOST_REMEMBERED = 2_000


@dataclass(frozen=True)
class Task:
    """One operation: enough to do it again, word for word.

    ``number``: of the usage to be given back, the batch to be voided, the hold to be ended, or the
    version to be written. ``days``: how long credits live, or are held.
    ``is_impostor``: it is another request than the one its key belongs to, and must be refused.
    """

    kind: str
    user: str = ""
    key: str = ""
    amount: int = 0
    number: int = 0
    days: int | None = None
    as_of: str = ""
    users: tuple[str, ...] = ()
    is_impostor: bool = False
    beyond: bool = False

    @property
    def ends_a_hold(self) -> bool:
        """Whether it has no key: all ends of a hold are one operation, for all callers."""
        return PREFIXES.get(self.kind) == "end"

    @classmethod
    def read(cls, values: dict[str, Any]) -> Task:
        return cls(**(values | {"users": tuple(values["users"])}))

    def operation(self, process: int) -> str:
        if self.ends_a_hold:
            return f"end#{self.user}-{self.number}"
        return f"{PREFIXES[self.kind]}#{caller_of(process)}#{self.key}"


def caller_of(process: int) -> str:
    """Whose keys the keys of a process are, in all its lives."""
    return f"process-{process}"


class Journal:
    """A file to which whole lines are added, each with one call of the operating system."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._begun = 0

    def begin(self, task: Task) -> int:
        with self._lock:
            self._begun += 1
            place = self._begun
        self.write({"place": place, "task": asdict(task)})
        return place

    def end(self, place: int, how: str, **more: object) -> None:
        lost = sum(metrics._counted.get(Metric.CONFLICTS_RETRIED, ()))
        self.write({"place": place, "ended": how, "races_lost": lost, **more})

    def write(self, line: dict[str, object]) -> None:
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")


class Context:
    """What Lambda tells a function about its invocation: there is time."""

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


class NoQueue:
    """No queue waits anywhere: the deliverer delivers a failed message again."""

    def delay(self, _url: str, _seconds: object) -> None:
        pass


class Worker:
    """What the threads of a process share."""

    def __init__(self, plan: Plan, process: int, life: int) -> None:
        self.plan = plan
        self.process = process
        self.life = life
        self.services: Services = plan.services(plan.threads)
        self.services.queues = NoQueue()  # type: ignore[assignment]  # only asked to delay
        self.journal = Journal(plan.journal(process, life))
        self.unanswered: list[Task] = []
        self.earlier: list[Task] = []
        self.done: list[tuple[Task, int]] = []
        self.seen: dict[str, int] = {}

    def remember(self) -> None:
        """Reads what earlier lives of the process have left."""
        for life in range(self.life):
            begun: dict[int, Task] = {}
            path = self.plan.journal(self.process, life)
            for line in read_journal(path):
                if "task" in line:
                    begun[line["place"]] = Task.read(line["task"])
                elif line["ended"] == "done":
                    task = begun.pop(line["place"])
                    if task.kind in PREFIXES:
                        self.done.append((task, line["number"]))
                        self.earlier.append(task)
                else:
                    begun.pop(line["place"], None)  # a complaint is about no task
            self.unanswered += [task for task in begun.values() if task.kind in PREFIXES]

    def work(self, thread: int) -> None:
        """The life of one thread."""
        plan = self.plan
        dice = random.Random(f"{plan.seed} {self.process} {self.life} {thread}")
        # Nobody knows whether these were done: they are asked for again, first of all.
        for task in self.unanswered[thread :: plan.threads]:
            self.perform(task)
        end = plan.began + plan.seconds
        step = 0
        while time.time() < end and (plan.operations is None or step < plan.operations):
            chosen = self.choose(dice, f"{self.life}-{thread}-{step}")
            step += 1
            if chosen is not None:
                self.perform(chosen)

    def choose(self, dice: random.Random, key: str) -> Task | None:
        """What to do next; None when there is nothing to do it to."""
        return self._what_was_before(dice) or self._something_new(dice, key)

    def _what_was_before(self, dice: random.Random) -> Task | None:
        """Now and then the same again, or another request under its key."""
        if self.earlier and dice.random() < _AGAIN:
            return dice.choice(self.earlier[-_MOST_REMEMBERED:])
        if self.done and dice.random() < _IMPOSTOR:
            task, _ = dice.choice(self.done[-_MOST_REMEMBERED:])
            # A void asks for no amount; what is another end of a hold is no misuse of a key.
            if task.kind != "void" and not task.ends_a_hold:
                return replace(task, amount=task.amount + 1, is_impostor=True)
        return None

    def _something_new(self, dice: random.Random, key: str) -> Task | None:
        kind = dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
        hot, cold = self.plan.hot_users, self.plan.cold_users
        user = dice.choice(hot if dice.random() < SHARE_OF_HOT or not cold else cold)
        task = Task(kind, user, key, dice.randint(1, 30))
        match kind:
            case "grant":
                task = replace(task, days=dice.choice([None, 1, 5, 40]))
            case "hold":
                task = replace(task, days=dice.choice([1, 3, 30, 30]))
            case "capture":
                task = self._of(
                    replace(task, beyond=task.amount > 20), dice, self._holds(user, dice)
                )
            case "release":
                task = self._of(replace(task, amount=0), dice, self._holds(user, dice))
            case "void":
                task = self._of(task, dice, self._open_batches(user))
            case "reverse":
                task = self._of(replace(task, amount=task.amount % 10 + 1), dice, self._usages())
            case "allocate" | "expire":
                some = dice.sample(cold, min(30, len(cold)))
                as_of = format_instant(self.services.now())
                task = Task(kind, as_of=as_of, users=tuple(hot + some))
            case "edit":
                version = self.services.subscriptions.get(user).version + 1
                task = Task(kind, user, number=version)
        return task if task.number or kind not in _OF_SOMETHING else None

    def _of(self, task: Task, dice: random.Random, what: list[tuple[str, int]]) -> Task:
        user, number = dice.choice(what) if what else (task.user, 0)
        return replace(task, user=user, number=number)

    def _open_batches(self, user: str) -> list[tuple[str, int]]:
        return [(user, batch.number) for batch in self.services.ledger.account(user).batches]

    def _holds(self, user: str, dice: random.Random) -> list[tuple[str, int]]:
        """Those that are there now, of all openers; or those opened here, ended or not."""
        if dice.random() < 0.7:
            return [(user, hold.number) for hold in self.services.ledger.account(user).holds]
        return [(task.user, number) for task, number in self.done[-200:] if task.kind == "hold"]

    def _usages(self) -> list[tuple[str, int]]:
        return [(task.user, number) for task, number in self.done[-200:] if task.kind == "use"]

    def perform(self, task: Task) -> None:
        place = self.journal.begin(task)
        if task.kind in PREFIXES and not task.is_impostor:
            self.earlier.append(task)
        try:
            number, replayed = self.do(task)
        except CreditsError as error:
            self.journal.end(place, "refused", code=error.code)
        except FAULTS as error:
            self.journal.end(place, "failed", error=type(error).__name__)
        except Exception as error:  # noqa: BLE001 - a bug: it is what the run is looking for
            self.journal.end(place, "failed", error=repr(error))
            self._complain(f"{task} raised {error!r}")
        else:
            self.journal.end(place, "done", number=number, replayed=replayed)
            if task.kind in PREFIXES:
                self.done.append((task, number))
                self.seen[task.user] = max(number, self.seen.get(task.user, 0))

    def do(self, task: Task) -> tuple[int, bool]:
        """The number of its entry or version, and whether it had been done before."""
        services, user, amount = self.services, task.user, task.amount
        caller = caller_of(self.process)
        named: dict[str, Any] = {"caller": caller, "key": task.key}
        match task.kind:
            case "use":
                outcome = on_request.use_credits(services, user, amount, "work", **named)
            case "grant" | "claw":
                amount = amount if task.kind == "grant" else -amount
                days = task.days or NEVER
                outcome = adjust(
                    services,
                    Adjustment(user, amount, "gift", expires_in_days=days),
                    actor=caller,
                    **named,
                )
            case "void":
                void = Void(user, task.number, "mistake", caller, caller, task.key)
                outcome = on_request.void_batch(services, void)
            case "reverse":
                usage = f"{user}-{task.number}"
                outcome = on_request.reverse_usage(services, user, usage, amount, "back", **named)
            case "hold":
                seconds = (task.days or 1) * 86_400
                outcome = holds.hold_credits(
                    services, user, amount, "work", seconds=seconds, **named
                )
            case "capture" | "release":
                end = End(f"{user}-{task.number}", amount, caller, beyond_hold=task.beyond)
                outcome = holds.end_hold(services, end)
            case "allocate" | "expire":
                return self._deliver(task), False
            case "edit":
                return self._edit(task), False
            case _:
                return self._read(task), False
        return outcome.entry.number, outcome.replayed

    def _deliver(self, task: Task) -> int:
        message = UsersMessage(parse_instant("as_of", task.as_of), task.users)
        record = {
            "messageId": "m",
            "receiptHandle": "handle",
            "body": message.body(),
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        handle = workers.allocate_accounts if task.kind == "allocate" else workers.expire_batches
        if handle(self.services, {"Records": [record]}, Context())["batchItemFailures"]:
            raise Unacknowledged("the message comes again")
        return 0

    def _edit(self, task: Task) -> int:
        def decide(present: Subscription | None) -> Subscription:
            if present is None:
                raise NotFound(f"there is no user {task.user}")
            amount = (present.allocation_amount or 0) + 1
            return replace(present, version=present.version + 1, allocation_amount=amount)

        now = self.services.now()
        return self.services.subscriptions.change(task.user, decide, BY_IMPORT, now).version

    def _read(self, task: Task) -> int:
        written = self.seen.get(task.user, 0)
        account = self.services.ledger.account(task.user)
        number = account.last.number if account.last else 0
        if number < written:
            self._complain(f"{task.user} read entry {number} after {written} was acknowledged")
        if sum(batch.remaining for batch in account.batches) != account.ledger_balance:
            self._complain(f"the batches of {task.user} are not his balance in entry {number}")
        held = earmarked(account.holds, account.time(self.services.now()))
        if any(held[batch.number] > batch.remaining for batch in account.batches):
            self._complain(f"more of {task.user} is held than is there in entry {number}")
        now = self.services.now() + timedelta(days=1)
        if account.available_balance(now) < 0:
            self._complain(f"{task.user} has less than nothing in entry {number}")
        return number

    def _complain(self, violation: str) -> None:
        self.journal.write({"place": 0, "ended": "violation", "violation": violation})


class Unacknowledged(CreditsError):
    """A message failed, or a part of it did: nobody knows what was done."""

    code = "unacknowledged"


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal. The last one, cut off when its writer was killed, is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    plan, process, life = Plan(**json.loads(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    logger().setLevel("CRITICAL")
    worker = Worker(plan, process, life)
    worker.remember()
    planted = PLANTS[plan.plant]() if plan.plant else nullcontext()
    with planted, ThreadPoolExecutor(plan.threads) as pool:
        for ended in [pool.submit(worker.work, thread) for thread in range(plan.threads)]:
            ended.result()


if __name__ == "__main__":
    main()
