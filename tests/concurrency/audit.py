"""After a run: what was acknowledged is in the ledgers once, and nothing is there that was not.

The ledgers are read as they are stored. What must hold of them is computed here, from the lines and
the journals; beside that, each ledger goes through the product's own verification.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.instants import parse_instant, to_milliseconds
from chalicelib.domain.subscriptions import Subscription
from chalicelib.services import Services
from chalicelib.store.database import every_item
from chalicelib.store.subscriptions import readable

from .holds import check_holds, held_at
from .plan import BEGIN, FIRST_AMOUNT, Plan
from .worker import PREFIXES, Task, read_journal

Entry = dict[str, Any]

_DAY = 86_400_000
"""In milliseconds."""

_STALL_SECONDS = 2
"""How long a thread may take from reading the clock to its line, in seconds that really pass."""


@dataclass
class Attempts:
    """What became of all attempts at one operation with a key."""

    task: Task
    numbers: set[int] = field(default_factory=set)
    open: int = 0
    refused: int = 0
    others: set[Task] = field(default_factory=set)
    """Of the end of a hold: every way in which somebody asked for it,"""
    done: set[Task] = field(default_factory=set)
    """and every way in which somebody was told that it is done."""


@dataclass
class Findings:
    """What was counted, and what is wrong."""

    ended: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    races_lost: int = 0
    entries: int = 0
    operations: dict[str, Attempts] = field(default_factory=dict)
    messages: dict[str, dict[str, datetime]] = field(
        default_factory=lambda: {"allocate": {}, "expire": {}}
    )
    versions: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    edits_open: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def attempts(self) -> int:
        return sum(counted.total() for counted in self.ended.values())


def audit(plan: Plan, services: Services, advance: Callable[[], None] = lambda: None) -> Findings:
    """Compares the journals with the tables; ``advance`` is called after each user."""
    findings = Findings()
    for process in range(plan.processes):
        for journal in plan.journals(process):
            _read(findings, process, journal)
    ledgers, markers, links = _stored(services)
    findings.entries = sum(len(entries) for entries in ledgers.values())
    findings.wrong += _operations(findings, ledgers)
    findings.wrong += _markers(ledgers, markers)
    subscriptions = readable(services.subscriptions.get_many(plan.users, consistent=True))
    for user_id in plan.users:
        subscription = subscriptions[user_id]
        entries = ledgers.get(user_id, [])
        try:
            services.ledger.verify(user_id)
        except LedgerCorrupt as error:
            findings.wrong.append(str(error))
        findings.wrong += _ledger(user_id, entries)
        findings.wrong += check_holds(user_id, entries)
        findings.wrong += _reversals(user_id, entries, links)
        stall = int(_STALL_SECONDS * plan.days_a_second * _DAY)
        findings.wrong += _scheduled(subscription, entries, findings, plan.clock()(), stall)
        findings.wrong += _subscription(subscription, findings)
        advance()
    return findings


def _read(findings: Findings, process: int, journal: Path) -> None:
    begun: dict[int, Task] = {}
    lost = 0
    for line in read_journal(journal):
        if "task" in line:
            begun[line["place"]] = Task.read(line["task"])
            continue
        if line["ended"] == "violation":
            findings.wrong.append(line["violation"])
            continue
        task = begun.pop(line["place"])
        lost = max(lost, line["races_lost"])
        _count(findings, process, task, line)
    for task in begun.values():
        _count(findings, process, task, {"ended": "unanswered"})
    findings.races_lost += int(lost)


def _count(findings: Findings, process: int, task: Task, line: dict[str, Any]) -> None:
    how = line["ended"]
    findings.ended[task.kind]["replayed" if line.get("replayed") else how] += 1
    if task.is_impostor:
        if how == "done" or line.get("code") not in (None, "idempotency_key_reused", "contention"):
            findings.wrong.append(f"another request under the key {task.key} was {line}")
        return
    if task.kind in PREFIXES:
        name = task.operation(process)
        attempts = findings.operations.setdefault(name, Attempts(task))
        if how == "done":
            attempts.numbers.add(line["number"])
        attempts.open += how in ("unanswered", "failed")
        attempts.refused += how == "refused"
        if task.ends_a_hold:
            asked = replace(task, key="")
            attempts.others.add(asked)
            attempts.done |= {asked} if how == "done" else set()
    elif task.kind == "edit":
        if how == "done":
            findings.versions[task.user].append(line["number"])
        findings.edits_open[task.user] += how in ("unanswered", "failed")
    elif task.users and how == "done":
        as_of = parse_instant("as_of", task.as_of)
        latest = findings.messages[task.kind]
        for user_id in task.users:
            latest[user_id] = max(as_of, latest.get(user_id, as_of))


def _stored(
    services: Services,
) -> tuple[dict[str, list[Entry]], dict[str, tuple[str, int]], dict[str, list[tuple[int, int]]]]:
    """The entries by user, the markers by digest, the links of reversals by usage."""
    ledgers: dict[str, list[Entry]] = defaultdict(list)
    markers: dict[str, tuple[str, int]] = {}
    links: dict[str, list[tuple[int, int]]] = defaultdict(list)
    asked = {"TableName": services.settings.ledger_table, "ConsistentRead": True}
    for item in every_item(services.dynamodb, "Scan", asked):
        user_id, key = item["user_id"]["S"], item["entry"]["S"]
        if key == "operation":
            digest = user_id.removeprefix("operation#")
            markers[digest] = item["owner"]["S"], int(item["number"]["N"])
        elif key.startswith("reversal#"):
            _, usage, _ = key.split("#")
            link = int(item["sequence"]["N"]), int(item["reversed_in_all"]["N"])
            links[f"{user_id}-{int(usage)}"].append(link)
        else:
            ledgers[user_id].append(json.loads(item["body"]["S"]))
    for entries in ledgers.values():
        entries.sort(key=lambda entry: int(entry["number"]))
    return ledgers, markers, links


def _operations(findings: Findings, ledgers: dict[str, list[Entry]]) -> Iterator[str]:
    """Acknowledged: once. Unanswered: once at most. Refused: never. Unasked for: never."""
    found: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
    for user_id, entries in ledgers.items():
        for entry in entries:
            if entry["type"] not in ("allocation", "expiration"):
                found[entry["operation"]].append((user_id, entry))
    for name, written in found.items():
        if name not in findings.operations:
            yield f"{name} is in the ledger of {written[0][0]}, and nobody asked for it"
    for name, attempts in findings.operations.items():
        yield from (f"{name} {problem}" for problem in _operation(attempts, found.get(name, [])))


def _operation(attempts: Attempts, written: list[tuple[str, Entry]]) -> Iterator[str]:
    task, numbers = attempts.task, attempts.numbers
    if len(written) > 1:
        yield f"was done {len(written)} times"
    if len(numbers) > 1:
        yield f"was answered with the entries {sorted(numbers)}"
    if numbers and not written:
        yield f"was acknowledged and is not in the ledger of {task.user}"
    if not numbers and not attempts.open and written:
        yield f"was refused and is in the ledger of {task.user}"
    for user_id, entry in written:
        if user_id != task.user or (numbers and entry["number"] not in numbers):
            yield f"is entry {entry['number']} of {user_id}, and was answered otherwise"
        if task.ends_a_hold:
            yield from _end_of_hold(attempts, entry)
        elif not _is_what_was_asked(task, entry["amount"]):
            yield f"asked for {task.amount} and moved {entry['amount']}"


def _end_of_hold(attempts: Attempts, entry: Entry) -> Iterator[str]:
    """It came to what somebody asked for, and all who were told that it is done asked for that."""
    if len(attempts.done) > 1:
        yield f"was done in several ways: {attempts.done}"
    if all(-entry["amount"] != each.amount for each in attempts.done or attempts.others):
        yield f"moved {entry['amount']}, and was asked for as {attempts.others}"


def _is_what_was_asked(task: Task, amount: int) -> bool:
    match task.kind:
        case "use" | "claw":
            return amount == -task.amount
        case "grant":
            return amount == task.amount
        case "hold":
            return amount == 0
        case "reverse":  # what had expired meanwhile stays expired
            return 0 <= amount <= task.amount
        case _:
            return amount < 0


def _markers(ledgers: dict[str, list[Entry]], markers: dict[str, tuple[str, int]]) -> Iterator[str]:
    """Each operation with a key has its marker, and each marker its entry."""
    keyed = {
        sha256(entry["operation"].encode()).hexdigest(): (user_id, entry["number"])
        for user_id, entries in ledgers.items()
        for entry in entries
        if entry["type"] not in ("allocation", "expiration")
    }
    for digest in keyed.keys() | markers.keys():
        entry, marked = keyed.get(digest), markers.get(digest)
        if entry != marked:
            yield f"the marker {digest} says {marked}, and its entry is {entry}"


def _ledger(user_id: str, entries: list[Entry]) -> Iterator[str]:
    """What the lines themselves must say: numbers, sums, periods, and no credit spent twice."""
    if [entry["number"] for entry in entries] != list(range(1, len(entries) + 1)):
        yield f"the numbers of {user_id} have a gap"
        return
    balance = 0
    left: Counter[int] = Counter()
    granted: dict[int, int] = {}
    for entry in entries:
        if entry["type"] in ("allocation", "manual") and entry["amount"] > 0:
            granted[entry["number"]] = entry["amount"]
        balance += entry["amount"]
        for batch, amount in entry["legs"]:
            left[batch] += amount
            if not 0 <= left[batch] <= granted.get(batch, -1):
                yield f"batch {batch} of {user_id} holds {left[batch]} after {entry['number']}"
        if entry["balance"] != balance or sum(left.values()) != balance:
            yield f"the balance of {user_id} does not add up in entry {entry['number']}"
    periods = [entry["operation"] for entry in entries if entry["type"] == "allocation"]
    if len(set(periods)) != len(periods) or periods != sorted(periods):
        yield f"the periods of {user_id} are {periods}"


def _reversals(
    user_id: str, entries: list[Entry], links: dict[str, list[tuple[int, int]]]
) -> Iterator[str]:
    """No usage gives back more than it took, and its links are numbered and only grow."""
    for entry in entries:
        found = sorted(links.get(f"{user_id}-{entry['number']}", ()))
        if not found:
            continue
        sums = [reversed_in_all for _, reversed_in_all in found]
        is_counted = [sequence for sequence, _ in found] == list(range(1, len(found) + 1))
        if not is_counted or sums != sorted(set(sums)) or sums[-1] > -entry["amount"]:
            yield f"usage {entry['number']} of {user_id} ({entry['amount']}) was given back {found}"


def _scheduled(
    subscription: Subscription,
    entries: list[Entry],
    findings: Findings,
    now: datetime,
    stall: int,
) -> Iterator[str]:
    """Whose message was acknowledged has all that was due by then, and nobody anything early.

    A line may come so many milliseconds after the moment it tells of: its thread had read the
    clock, and was slow. If it ends a hold, grants credits or gives them back, a sweep that came
    between found nothing, and the next one does.
    """
    user_id, zone = subscription.user_id, subscription.timezone
    allocated = {
        Period.parse(entry["operation"].removeprefix("allocation#")): entry
        for entry in entries
        if entry["type"] == "allocation"
    }
    for period, entry in allocated.items():
        start = to_milliseconds(calendar.month_start(zone, period))
        if entry["posted"] < start or to_milliseconds(now) < start:
            yield f"{user_id} was given {period} before it began"
    period = Period.of(BEGIN.date()).next()
    as_of = findings.messages["allocate"].get(user_id, BEGIN)
    while calendar.month_start(zone, period) <= as_of:
        if period not in allocated:
            yield f"{user_id} was not given {period}, though the message was acknowledged"
        period = period.next()
    swept = to_milliseconds(findings.messages["expire"].get(user_id, BEGIN))
    held = held_at(entries, swept) | held_at(entries, swept - stall)
    grown = _last_growth(entries)
    for number, _, remaining, _, expires_at, *_ in entries[-1]["batches"] if entries else ():
        was_there = grown[number] <= swept - stall
        is_over = expires_at is not None and expires_at <= swept
        if is_over and was_there and remaining > held[number]:
            yield f"{remaining} of batch {number} of {user_id} expired and are still there"


def _subscription(stored: Subscription, findings: Findings) -> Iterator[str]:
    """Each edit that was acknowledged made a version of its own, on top of all before it."""
    user_id, versions = stored.user_id, findings.versions[stored.user_id]
    if len(set(versions)) != len(versions):
        yield f"two edits of {user_id} made the same version: {sorted(versions)}"
    if stored.allocation_amount != FIRST_AMOUNT + stored.version - 1:
        yield f"an edit of {user_id} was lost"
    made = stored.version - 1
    if not len(versions) <= made <= len(versions) + findings.edits_open[user_id]:
        yield f"{user_id} is of version {stored.version} after {len(versions)} edits"


def _last_growth(entries: list[Entry]) -> dict[int, int]:
    """By batch: the moment in the last line that granted it or gave something back to it."""
    grown: dict[int, int] = {}
    remaining: dict[int, int] = {}
    for entry in entries:
        now = {batch[0]: batch[2] for batch in entry["batches"]}
        grown |= {
            number: entry["posted"] for number in now if now[number] > remaining.get(number, 0)
        }
        remaining = now
    return grown
