"""A made-up shop with a table of credit batches and a nightly job, which has seven faults.

Each user meets at most one of them; docs/migrating.md has the same seven in a table. Without a
fault the job does what Credits does.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.instants import format_instant
from infra.imports.movements import COLUMNS, Kind, Movement

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MONTH_OF_FAULTS = Period(2026, 4)


class Fault(StrEnum):
    """What the old job does wrong to a user."""

    TWICE = "twice"
    LATE = "late"
    ZONE = "zone"
    OFFSET = "offset"
    EARLY = "early"
    AMOUNT = "amount"
    MISSING = "missing"


@dataclass
class Customer:
    """A user of the shop. ``amounts``: the monthly credits from an instant on, the first first."""

    zone: str
    amounts: list[tuple[datetime, int]]
    lifetime: int | None = 30

    def amount_at(self, at: datetime) -> int:
        return [amount for since, amount in self.amounts if since <= at][-1]


@dataclass
class Batch:
    """A row of the old table."""

    id: int
    user_id: str
    remaining: int
    created_at: datetime
    expires_at: datetime | None


@dataclass
class OldShop:
    """The shop. Its job is wrong in `MONTH_OF_FAULTS`."""

    customers: dict[str, Customer]
    faults: dict[str, Fault] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)
    movements: list[Movement] = field(default_factory=list)

    def open(self, user_id: str, amount: int, at: datetime) -> None:
        """What the user had when the balances were exported; no movement since."""
        self.batches.append(Batch(len(self.batches) + 1, user_id, amount, at, None))

    def run(
        self, months: Sequence[Period], usages: Iterable[tuple[datetime, str, int, str]]
    ) -> list[Movement]:
        """Runs the job and the spending until all is done; what moved, by its instants."""
        due: list[tuple[datetime, int, str, Period]] = []
        for period in months:
            for user_id, customer in self.customers.items():
                for at in self._runs(user_id, customer, period):
                    due.append((at, len(due), user_id, period))
        asked = sorted(usages)
        for at, _, user_id, period in sorted(due):
            while asked and asked[0][0] <= at:
                self._spend(*asked.pop(0))
            self._expire(at)
            self._grant(user_id, at, period)
        for each in asked:
            self._spend(*each)
        self.movements.sort(key=lambda movement: (movement.at, movement.line))
        return self.movements

    def until(self, at: datetime) -> list[Movement]:
        """What moved until an instant, with expiries, numbered as lines of a file."""
        self._expire(at)
        moved = sorted(
            (movement for movement in self.movements if movement.at <= at),
            key=lambda movement: (movement.at, movement.line),
        )
        return [
            Movement(line, each.reference, each.user_id, each.at, each.kind, each.amount)
            for line, each in enumerate(moved, 2)
        ]

    # --- The job ----------------------------------------------------------------------------------

    def _fault(self, user_id: str, period: Period) -> Fault | None:
        return self.faults.get(user_id) if period == MONTH_OF_FAULTS else None

    def _runs(self, user_id: str, customer: Customer, period: Period) -> list[datetime]:
        midnight = calendar.month_start(customer.zone, period)
        match self._fault(user_id, period):
            case Fault.TWICE:  # the task was delivered twice
                return [midnight, midnight + 42 * timedelta(seconds=1)]
            case Fault.LATE:  # the worker was down
                return [midnight + 5 * HOUR]
            case Fault.ZONE:  # a queue of the server's day
                return [calendar.month_start("UTC", period)]
            case Fault.OFFSET:  # the offset of the winter was kept
                return [midnight + HOUR]
            case Fault.MISSING:  # a page of the query was left out
                return []
            case _:
                return [midnight]

    def _grant(self, user_id: str, at: datetime, period: Period) -> None:
        customer, fault = self.customers[user_id], self._fault(user_id, period)
        midnight = calendar.month_start(customer.zone, period)
        amount = customer.amount_at(at)
        if fault is Fault.AMOUNT:  # the plan was read before it was changed
            amount = customer.amounts[0][1]
        expires_at = None
        if customer.lifetime:
            expires_at = calendar.expires_at(customer.zone, midnight, customer.lifetime)
            expires_at += at - midnight if at - midnight > timedelta(minutes=5) else timedelta(0)
            expires_at -= DAY if fault is Fault.EARLY else timedelta(0)
        batch = Batch(len(self.batches) + 1, user_id, amount, at, expires_at)
        self.batches.append(batch)
        self._note(f"batch-{batch.id}", user_id, at, Kind.ALLOCATION, amount)

    def _expire(self, now: datetime) -> None:
        for batch in self.batches:
            if batch.expires_at and batch.expires_at <= now and batch.remaining:
                gone, batch.remaining = batch.remaining, 0
                self._note(
                    f"expiry-{batch.id}", batch.user_id, batch.expires_at, Kind.EXPIRATION, -gone
                )

    # --- The product ------------------------------------------------------------------------------

    def _spend(self, at: datetime, user_id: str, amount: int, reference: str) -> None:
        self._expire(at)
        left = amount
        for batch in sorted(self.batches, key=lambda batch: (batch.created_at, batch.id)):
            if batch.user_id == user_id:
                taken = min(left, batch.remaining)
                batch.remaining -= taken
                left -= taken
        assert not left, f"{user_id} does not have {amount}"
        self._note(reference, user_id, at, Kind.USAGE, -amount)

    def _note(self, reference: str, user_id: str, at: datetime, kind: Kind, amount: int) -> None:
        line = len(self.movements) + 2
        self.movements.append(Movement(line, reference, user_id, at, kind, amount))


def as_csv(movements: Iterable[Movement]) -> str:
    """The file that the shop exports."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS.required)
    for each in movements:
        at = format_instant(each.at)
        writer.writerow((each.reference, each.user_id, at, each.kind.value, each.amount))
    return text.getvalue()


# --- The shop of docs/migrating.md ----------------------------------------------------------------


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


STARTED = at("2026-03-10T12:00:00Z")
"""When the balances were exported and Credits began."""

UPGRADED = at("2026-03-20T09:00:00Z")
"""When the user of `Fault.AMOUNT` moved from starter to pro."""

MONTHS = (Period(2026, 4), Period(2026, 5))

ZONES = {
    Fault.TWICE: "Europe/Paris",
    Fault.LATE: "Europe/Paris",
    Fault.ZONE: "America/New_York",
    Fault.OFFSET: "Europe/Berlin",
    Fault.EARLY: "Asia/Tokyo",
    Fault.AMOUNT: "Europe/Paris",
    Fault.MISSING: "Asia/Kolkata",
}
OPENING = 80


def shop(faults: Iterable[Fault]) -> OldShop:
    """Seven users, named after the faults that they can meet, and two who never meet any."""
    customers = {fault.value: Customer(zone, [(STARTED, 100)]) for fault, zone in ZONES.items()}
    customers["amount"].amounts.append((UPGRADED, 500))
    customers["amount"].lifetime = None
    customers |= {
        "ada": Customer("Europe/Paris", [(STARTED, 100)]),
        "bob": Customer("Pacific/Chatham", [(STARTED, 100)]),
    }
    found = OldShop(customers, {fault.value: fault for fault in faults})
    for user_id in customers:
        found.open(user_id, OPENING, STARTED)
    return found


def usages() -> list[tuple[datetime, str, int, str]]:
    """What everybody uses: some of what they had at first, and some of April's credits."""
    users = [*(fault.value for fault in Fault), "ada", "bob"]
    return [
        usage
        for place, user_id in enumerate(users)
        for usage in (
            (at("2026-03-15T10:00:00Z") + place * HOUR, user_id, 40, f"job-{place}-1"),
            (at("2026-04-18T10:00:00Z") + place * HOUR, user_id, 30, f"job-{place}-2"),
        )
    ]
