"""What can be drawn: the world of a life, and the details of what happens in it.

Swarm testing: Hypothesis lets each life use some of the rules only, and the profile some of the
faults, of the users and of the zones. So each life does much of a few things.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.simulation import reference
from tests.simulation.faults import Fault
from tests.simulation.oracle import ALL_KINDS
from tests.simulation.world import ZONES, at

NAMES = ("ada", "bob", "cem", "dua", "eva", "fay", "gus")


@dataclass(frozen=True)
class Profile:
    """What a life is like: when it begins, where people live, who there is, what can go wrong."""

    start: datetime
    zones: tuple[str, ...]
    people: tuple[tuple[str, int | None], ...]
    """Of each user there is at first the plan, and the amount that was agreed with him."""
    users_a_page: int
    faults: tuple[Fault, ...]


def _profile(
    moment: tuple[datetime, str], zones: list[str], people: Any, users_a_page: int, faults: Any
) -> Profile:
    start, special = moment
    there = tuple(dict.fromkeys((special, *zones)))
    return Profile(start, there, tuple(people), users_a_page, tuple(faults))


profiles = st.builds(
    _profile,
    moment=st.sampled_from(
        (
            (at("2026-01-15T12:00:00Z"), "Europe/Paris"),
            (at("2037-10-27T12:00:00Z"), "America/Havana"),  # where a month begins twice
            (at("2026-03-24T12:00:00Z"), "Atlantic/Azores"),  # where a midnight is missing
            (at("2026-04-22T12:00:00Z"), "Africa/Cairo"),
            (at("2026-06-20T12:00:00Z"), "Pacific/Kiritimati"),
        )
    ),
    zones=st.lists(st.sampled_from(ZONES), max_size=2, unique=True),
    people=st.lists(
        st.tuples(st.sampled_from(tuple(reference.PLANS)), st.none() | st.integers(1, 300)),
        min_size=1,
        max_size=5,
    ),
    users_a_page=st.sampled_from((2, 4, 8)),
    faults=st.lists(st.sampled_from(tuple(Fault)), min_size=1, max_size=8, unique=True),
)

places = st.integers(0, 6)
"""Which of the users or zones there are."""

keys = st.sampled_from(("k1", "k2", "k3", "k4", "k5", "k6"))
amounts = st.sampled_from((1, 5, 30, 60, 81, 100, 451, 600))
lifetimes = st.none() | st.integers(1, 40)
offsets = st.sampled_from((-1, 0, 0, 0, 1, 60_000))
"""Milliseconds from the moment that matters."""

Change = tuple[str, Any]
"""What of a subscription is changed to what; a timezone is a place in those of the life."""

EDITS: dict[str, st.SearchStrategy[Any]] = {
    "plan": st.sampled_from(tuple(reference.PLANS)),
    "timezone": places,
    "status": st.sampled_from(("active", "active", "paused", "cancelled")),
    "billing_interval": st.sampled_from(("yearly", "yearly", "monthly")),
    "allocation_amount": st.none() | st.integers(1, 300),
    "notifications": st.sampled_from(
        (sorted(ALL_KINDS), [], ["manual"], ["allocation", "expiration", "low_balance"])
    ),
    "email": st.sampled_from(("old@example.com", "new@example.com")),
}
edits = st.sampled_from(tuple(EDITS)).flatmap(lambda name: st.tuples(st.just(name), EDITS[name]))

departures: st.SearchStrategy[tuple[Change, Change]] = st.sampled_from(
    (
        (("status", "paused"), ("status", "active")),
        (("status", "cancelled"), ("status", "active")),
        (("billing_interval", "monthly"), ("billing_interval", "yearly")),
    )
)
"""How a subscription stops being given credits, and how it comes back."""

spans = st.sampled_from(
    (
        timedelta(milliseconds=1),
        timedelta(minutes=1),
        timedelta(minutes=15),
        timedelta(hours=5),
        timedelta(days=1),
        timedelta(days=8),
        timedelta(days=29),
        timedelta(days=150),
        timedelta(days=430),
    )
)

Drawn = list[tuple[int, int, int, int, tuple[str, int, str, Change]]]
"""Troubles as they are drawn: which fault and which aim of those there are, where, how often."""

_trouble = st.tuples(
    st.integers(0, 15),
    st.integers(0, 7),
    st.sampled_from((0, 0, 0, 0, 1, 2)),
    st.sampled_from((1, 1, 2, 3, 5, 40, 40)),
    st.tuples(
        st.sampled_from(("again", "again", "use", "grant", "reverse", "edit", "deliver")),
        amounts,
        keys,
        edits,
    ),
)
troubles: st.SearchStrategy[Drawn] = st.lists(_trouble, max_size=2)
trouble: st.SearchStrategy[Drawn] = st.lists(_trouble, min_size=1, max_size=3)
"""The same, and at least one."""
