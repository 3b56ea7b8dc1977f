"""What must hold when the years are over: of every ledger, every credit and every mail."""

import json
from collections import Counter
from dataclasses import dataclass

from tests.simulation.oracle import _read
from tests.simulation.reference import DAY, mail_of, require
from tests.simulation.world import Context
from tests.soak.lives import Json, Person, Soak


@dataclass
class Credits:
    """Where the credits have gone: what was granted is what became of it."""

    granted: int = 0
    spent: int = 0
    clawed_back: int = 0
    expired: int = 0
    left: int = 0
    lines: int = 0

    @property
    def adds_up(self) -> bool:
        return self.granted == self.spent + self.clawed_back + self.expired + self.left


def judge(soak: Soak) -> None:
    """Raises `Violation` at the first thing that is not as it should be."""
    for person in soak.people.values():
        _judge_ledger(soak, person)
        _judge_verification(soak, person)
        item = soak.table("subscriptions").items[person.name, ""]
        require(_read(item) == person.subscription, "wrong:", item, person.subscription)
        due = person.subscription.due(person.ledger.through, soak.now - 8 * DAY, soak.now)
        require(not due, person.name, "was never given", due)
    found = credits_of(soak)
    require(found.adds_up, "the credits do not add up:", found)
    _judge_mails(soak)
    for name, messages in soak.aws.state.queues.items():
        mails_only = name.endswith("notifications-dlq")
        require(not messages or mails_only, "left in", name, [m.body for m in messages[:3]])


def entries_of(soak: Soak, name: str) -> list[Json]:
    """A user's entries as they are stored."""
    table = soak.table("ledger")
    rows = table.partitions[""].get(name, [])
    items = (table.items[key] for order, key in rows if order.startswith("entry#"))
    return [json.loads(item["body"]["S"]) for item in items]


def _judge_ledger(soak: Soak, person: Person) -> None:
    entries = entries_of(soak, person.name)
    lines = person.ledger.lines
    for number, (entry, line) in enumerate(zip(entries, lines, strict=False), 1):
        found = (entry["type"], entry["amount"], entry["legs"], entry["through"])
        right = (line.type, line.amount, [list(leg) for leg in line.legs], line.through)
        require(found == right, f"entry {number} of {person.name} is {found}, should be {right}")
    require(len(entries) == len(lines), person.name, "has", len(entries), "and not", len(lines))


def _judge_verification(soak: Soak, person: Person) -> None:
    import app

    answer = soak.until_done(lambda: app.audit_ledgers({"user_id": person.name}, Context()))
    require(answer["verified"] == 1 and not answer["corrupt"], person.name, answer)


def credits_of(soak: Soak) -> Credits:
    """All credits, by what the stored entries say."""
    found = Credits()
    for name in soak.people:
        entries = entries_of(soak, name)
        found.lines += len(entries)
        found.left += entries[-1]["balance"] if entries else 0
        for entry in entries:
            kind, amount = entry["type"], entry["amount"]
            if kind == "allocation" or (kind == "manual" and amount > 0):
                found.granted += amount
            elif kind == "expiration":
                found.expired -= amount
            elif kind == "manual":
                found.clawed_back -= amount
            else:
                found.spent -= amount
    return found


def _judge_mails(soak: Soak) -> None:
    """Each was sent once. What is missing is in doubt, and its message among the dead letters."""
    sent: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in soak.people}
    for mail in soak.aws.state.mails:
        sent[mail.user_id][mail.kind, mail.subject] += 1
    parked = _parked(soak)
    missing = 0
    for person in soak.people.values():
        name = person.name
        extra = sent[name] - person.mails
        require(not extra, name, "was sent what nobody expected, or twice:", extra)
        lacking = person.mails - sent[name]
        missing += lacking.total()
        kinds = Counter(kind for kind, _ in lacking.elements())
        require(kinds <= parked[name], name, "was never told:", lacking, parked[name])
    in_doubt = sum(not was_sent for was_sent in soak.in_doubt.values())
    require(missing <= in_doubt, missing, "mails are missing, in doubt are", in_doubt)


def _parked(soak: Soak) -> dict[str, Counter[str]]:
    """Of the dead letters, by user: how many of each kind."""
    parked: dict[str, Counter[str]] = {name: Counter() for name in soak.people}
    for message in soak.queue("notifications-dlq"):
        body = json.loads(message.body)
        person = soak.people[body["user_id"]]
        if "expires_at" in body:
            parked[person.name]["expiring_soon"] += 1
            continue
        line = person.ledger.lines[body["number"] - 1]
        if line.type == "usage":
            parked[person.name]["low_balance"] += 1
        else:
            kind = mail_of(line, person.ledger, person.subscription)
            parked[person.name][str(kind)] += 1
    return parked
