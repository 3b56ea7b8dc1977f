"""Whether every user due for a period was allocated, once: the rules of the monthly count.

Who is due is decided by the same rules that the workers allocate by, from the subscription and the
ledger as they are now. So a missing user is one whom the next sweep would allocate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from .calendar import Period
from .entries import LedgerEntry
from .errors import InvalidInput
from .fields import FieldReader, parse_user_id
from .plans import PlanCatalogue
from .subscriptions import Subscription, due_periods, periods_of

MOST_NAMED = 20
"""How many users of each kind a tally names; it counts all."""


_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many users were due, allocated, missing, allocated twice, or could not be judged.

    ``unchecked``: the ledger cannot be read, the plan is no longer in the catalogue, or the
    timezone no longer in its database. ``lateness_seconds``: the longest time from an instant at
    which somebody was due to the instant at which their allocation was posted.
    """

    due: int = 0
    allocated: int = 0
    missing: int = 0
    duplicate: int = 0
    unchecked: int = 0
    missing_users: tuple[str, ...] = ()
    duplicate_users: tuple[str, ...] = ()
    unchecked_users: tuple[str, ...] = ()
    lateness_seconds: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.due + other.due,
            self.allocated + other.allocated,
            self.missing + other.missing,
            self.duplicate + other.duplicate,
            self.unchecked + other.unchecked,
            (self.missing_users + other.missing_users)[:MOST_NAMED],
            (self.duplicate_users + other.duplicate_users)[:MOST_NAMED],
            (self.unchecked_users + other.unchecked_users)[:MOST_NAMED],
            max(self.lateness_seconds, other.lateness_seconds),
        )

    @classmethod
    def unchecked_of(cls, *user_ids: str) -> "Tally":
        """A tally of users who could not be judged."""
        return cls(unchecked=len(user_ids), unchecked_users=user_ids[:MOST_NAMED])

    @property
    def is_complete(self) -> bool:
        """Whether all users were judged, and nobody was left out or allocated twice."""
        return not (self.missing or self.duplicate or self.unchecked)

    def values(self) -> dict[str, Any]:
        """The tally as JSON has it."""
        return asdict(self)

    @classmethod
    def parse(cls, field: str, values: object) -> "Tally":
        """Reads what `values` wrote, even before lateness was recorded. Raises `InvalidInput`."""
        fields = FieldReader(values, field)
        counts = ("due", "allocated", "missing", "duplicate", "unchecked")
        names = ("missing_users", "duplicate_users", "unchecked_users")
        counted = [fields.required(name, _parse_count) for name in counts]
        named = [fields.required(name, _parse_names) for name in names]
        lateness = fields.optional("lateness_seconds", _parse_count) or 0
        fields.finish()
        tally = cls(*counted, *named)  # type: ignore[arg-type]  # five counts, then three lists
        return replace(tally, lateness_seconds=lateness)


def tally_of(
    subscription: Subscription,
    catalogue: PlanCatalogue,
    period: Period,
    entries: Sequence[LedgerEntry],
    now: datetime,
) -> Tally:
    """The tally of one user; ``entries``, newest first, reach back to the period's earliest start.

    A period that has lapsed at ``now`` is due to nobody: no sweep would allocate it any more.

    Raises `InvalidInput` when the plan is not in the catalogue.
    """
    user = (subscription.user_id,)
    allocations = [
        entry for entry in entries if entry.begins_period and entry.allocated_through == period
    ]
    if allocations:
        is_twice = len(allocations) > 1
        first = allocations[-1]
        return Tally(
            1,
            1,
            duplicate=int(is_twice),
            duplicate_users=user if is_twice else (),
            lateness_seconds=(first.posted_at - first.effective_at) // _SECOND,
        )
    allocated_through = entries[0].allocated_through if entries else None
    start = periods_of(subscription, catalogue).start(period)
    if period in due_periods(subscription, catalogue, allocated_through, start, now):
        return Tally(1, missing=1, missing_users=user)
    return Tally()


def _parse_count(field: str, value: object) -> int:
    if type(value) is int and value >= 0:
        return value
    raise InvalidInput.of(field, "must be a whole number of 0 or more")


def _parse_names(field: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_NAMED:
        raise InvalidInput.of(field, f"must be a list of at most {MOST_NAMED} user ids")
    return tuple(parse_user_id(f"{field}[{place}]", name) for place, name in enumerate(value))
