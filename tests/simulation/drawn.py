"""What can be drawn: the world of a life, and the details of what happens in it.

Swarm testing: Hypothesis lets each life use some of the rules only, and the profile some of the
faults, of the users and of the zones. So each life does much of a few things.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from tests.simulation import reference
from tests.simulation.aws import MOST_PAGE_BYTES
from tests.simulation.faults import Fault
from tests.simulation.oracle import ALL_KINDS, AS_THE_PLAN
from tests.simulation.world import ZONES, at

PLANS: reference.Plans = {
    **reference.SHIPPED,
    "free": {"id": "free", "name": "Free", "monthly_credits": 0},
    "club": {"id": "club", "name": "Club", "monthly_credits": 100, "balance_cap": 150}
    | {"on_signup": "prorated"},
}
"""The plans at the beginning of each life: those of the repository, one that grants nothing, and
one whose credits fill up a balance, and come at once to new users."""

OTHERS: reference.Plans = {
    **PLANS,
    "starter": {
        **{name: value for name, value in PLANS["starter"].items() if "lifetime" not in name},
        "credit_lifetime_months": 1,
        "allocate_on": "anniversary",
    },
    "pro": {**PLANS["pro"], "allocate_on": "anniversary", "credit_lifetime_months": 2},
    "business": {**PLANS["business"], "billing_intervals": ["yearly", "monthly"]},
    "free": {**PLANS["free"], "allocate_on": "anniversary", "billing_intervals": ["monthly"]},
}
"""The same with months that begin on anniversaries, and credits that live some of them."""

_plans = st.sampled_from(tuple(PLANS))

NAMES = ("ada", "bob", "cem", "dua", "eva", "fay", "gus")


@dataclass(frozen=True)
class Profile:
    """What a life is like: when it begins, where people live, who there is, what can go wrong."""

    start: datetime
    zones: tuple[str, ...]
    people: tuple[tuple[str, int | None], ...]
    """At first each user has a plan, and the amount that was agreed with them."""
    users_a_page: int
    faults: tuple[Fault, ...]
    page_bytes: int = MOST_PAGE_BYTES
    """Where a page of a query ends: less than in truth is as more entries."""
    plans: reference.Plans = field(default_factory=lambda: PLANS)
    """The catalogue at first."""
    starts: tuple[int, ...] = (-700,)
    """How many days ago those who are there at first had started, in turn."""


ALONE = Profile(
    start=at("2026-01-15T12:00:00Z"),
    zones=("Europe/Paris",),
    people=(("starter", None),),
    users_a_page=2,
    faults=(Fault.MEANWHILE,),
)
"""One user, and no trouble but others who act meanwhile: for lives that tests direct."""


def _profile(moment: tuple[str, str], zones: list[str], people: Any, **more: Any) -> Profile:
    start, special = moment
    there = tuple(dict.fromkeys((special, *zones)))
    more["faults"], more["starts"] = tuple(more["faults"]), tuple(more["starts"])
    return Profile(at(start), there, tuple(people), **more)


profiles = st.builds(
    _profile,
    moment=st.sampled_from(
        (
            ("2026-01-15T12:00:00Z", "Europe/Paris"),
            ("2037-10-27T12:00:00Z", "America/Havana"),  # where a month begins twice
            ("2026-03-24T12:00:00Z", "Atlantic/Azores"),  # where a midnight is missing
            ("2026-04-22T12:00:00Z", "Africa/Cairo"),
            ("2026-06-20T12:00:00Z", "Pacific/Kiritimati"),
        )
    ),
    zones=st.lists(st.sampled_from(ZONES), max_size=2, unique=True),
    people=st.lists(
        st.tuples(_plans, st.none() | st.integers(1, 300)),
        min_size=1,
        max_size=5,
    ),
    users_a_page=st.sampled_from((2, 4, 8)),
    faults=st.lists(st.sampled_from(tuple(Fault)), min_size=1, max_size=8, unique=True),
    page_bytes=st.sampled_from((MOST_PAGE_BYTES, 5_000, 1_200)),
    plans=st.sampled_from((PLANS, OTHERS)),
    starts=st.lists(st.sampled_from((-700, -15, -46, -30, -9, -365)), min_size=1, max_size=3),
)

places = st.integers(0, 6)
"""Which of the users or zones there are."""

keys = st.sampled_from(("k1", "k2", "k3", "k4", "k5", "k6"))
amounts = st.sampled_from((1, 5, 30, 60, 81, 100, 451, 600))
lifetimes = st.sampled_from((None, AS_THE_PLAN)) | st.integers(1, 40)
offsets = st.sampled_from((-1, 0, 0, 0, 1, 60_000))
"""Milliseconds from the moment that matters."""

Change = tuple[str, Any]
"""What of a subscription is changed to what.

A timezone is a place in those of the life. A moment is so many days from now, or the start of the
month so many months from now where the user lives: as an instant, or as a local date; or the noon
of its last day.
"""

_days = st.tuples(st.just("days"), st.sampled_from((-400, -45, -10, 0, 3, 20, 45)))
_firsts = st.tuples(st.just("first"), st.sampled_from((-14, -2, -1, 0, 1, 1, 2)))
_lasts = st.tuples(st.just("last"), st.sampled_from((-14, -3, -2, -1)))
_dates = st.tuples(st.just("date"), st.sampled_from((-14, -2, -1, 0, 1, 1, 2)))

EDITS: dict[str, st.SearchStrategy[Any]] = {
    "plan": _plans,
    "timezone": places,
    "status": st.sampled_from(("active", "active", "paused", "cancelled")),
    "billing_interval": st.sampled_from(("yearly", "yearly", "monthly")),
    "allocation_amount": st.none() | st.integers(1, 300),
    "notifications": st.sampled_from(
        (sorted(ALL_KINDS), [], ["manual"], ["allocation", "expiration", "low_balance"])
    ),
    "language": st.sampled_from(("en", "de")),
    "email": st.sampled_from(("old@example.com", "new@example.com", None)),
    "started_at": _days | _firsts | _lasts,
    "eligible_from": st.none() | _days | _firsts | _dates,
    "ends_at": st.none() | _days | _firsts,
}
edits = st.sampled_from(tuple(EDITS)).flatmap(lambda name: st.tuples(st.just(name), EDITS[name]))

departures: st.SearchStrategy[tuple[Change, Change]] = st.sampled_from(
    (
        (("status", "paused"), ("status", "active")),
        (("status", "cancelled"), ("status", "active")),
        (("billing_interval", "monthly"), ("billing_interval", "yearly")),
        (("plan", "free"), ("plan", "pro")),
        (("ends_at", ("days", 0)), ("ends_at", None)),
        (("started_at", ("days", 45)), ("started_at", ("days", -400))),
        (("eligible_from", ("days", 20)), ("eligible_from", None)),
    )
)
"""How a subscription stops being given credits, and how it comes back."""

_over_by_now = ("ends_at", ("days", 0))
meanwhiles: st.SearchStrategy[Change | None] = st.sampled_from(
    (None, _over_by_now, _over_by_now, ("ends_at", ("days", -10)), ("started_at", ("days", 45)))
)
"""What else of a subscription changes during a pause."""

editors = st.sampled_from(("patch", "patch", "put", "put", "stale"))
"""How an edit is sent: one field, or all that was read just now, or all that was read before."""

observations = st.none() | st.none() | st.sampled_from((0, 1, 30))
"""How many hours ago an edit was observed, if it says so."""

Deployment = tuple[str, str, Any]
"""What of a plan is deployed; the date on which it begins to grant is so many days from now."""

deployments: st.SearchStrategy[Deployment] = st.one_of(
    st.tuples(
        _plans,
        st.just("monthly_credits"),
        st.tuples(st.sampled_from((0, 10, 10, 700)), st.sampled_from((0, 1, 1, 40))),
    ),
    st.tuples(
        _plans,
        st.just("lifetime"),
        st.sampled_from((None, ("days", 3), ("days", 30), ("months", 1), ("months", 2))),
    ),
    st.tuples(
        _plans, st.just("allocate_on"), st.sampled_from((None, "anniversary", "anniversary"))
    ),
    st.tuples(
        _plans,
        st.just("billing_intervals"),
        st.tuples(
            st.sampled_from((None, ["yearly", "monthly"], ["yearly", "monthly"], ["monthly"])),
            st.sampled_from((0, 1, 1, 40)),
        ),
    ),
    st.tuples(_plans, st.just("low_balance_threshold"), st.sampled_from((None, 5, 60))),
    st.tuples(_plans, st.just("balance_cap"), st.sampled_from((None, 40, 150, 600))),
    st.tuples(_plans, st.just("on_signup"), st.sampled_from(("none", "full", "prorated"))),
    st.tuples(_plans, st.just("on_plan_change"), st.sampled_from((None, "difference"))),
    st.tuples(_plans, st.just("presence"), st.none()),
)

Carried = tuple[int, int, int, int | None]
"""A row of a file of balances: its reference, amount, age and rest of life in days."""

CARRIED: st.SearchStrategy[list[Carried]] = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from((1, 30, 100)),
        st.sampled_from((0, 0, 10, 40)),
        st.none() | st.sampled_from((1, 3, 30)),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0],
)

columns: st.SearchStrategy[dict[str, str]] = st.dictionaries(
    st.sampled_from(("email", "eligible_from", "allocation_amount", "ends_at")),
    st.sampled_from(("as ever", "as ever", "empty")),
)
"""The optional columns that a file of subscribers has; all others it does not."""

spans = st.sampled_from(
    (
        *(timedelta(milliseconds=1), timedelta(minutes=1), timedelta(minutes=15)),
        *(timedelta(hours=5), timedelta(days=1), timedelta(days=8)),
        *(timedelta(days=29), timedelta(days=150), timedelta(days=430)),
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
        st.sampled_from(
            (
                *("again", "again", "use", "grant", "reverse", "hold", "end", "refund"),
                *("edit", "deliver"),
            )
        ),
        amounts,
        keys,
        edits,
    ),
)
troubles: st.SearchStrategy[Drawn] = st.lists(_trouble, max_size=2)
trouble: st.SearchStrategy[Drawn] = st.lists(_trouble, min_size=1, max_size=3)
"""The same, and at least one."""
