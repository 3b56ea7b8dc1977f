"""What events of a provider of payments come to: the same in any order, twice and late."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import reduce
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from chalicelib.domain.billing import (
    LONGEST_DELAY,
    MOST_CONTRACTS,
    MOST_REPORTS,
    Newcomer,
    entitlement,
    is_over,
    reported,
    stands_at,
    with_report,
)
from chalicelib.domain.calendar import Period
from chalicelib.domain.instants import parse_instant
from chalicelib.domain.notifications import MailKind
from chalicelib.domain.plans import BillingInterval
from chalicelib.domain.subscriptions import (
    Billed,
    Contract,
    Report,
    Subscription,
    SubscriptionStatus,
    due_periods,
)
from chalicelib.domain.terms import Terms, successor
from chalicelib.plans_file import parse_catalogue

CATALOGUE = parse_catalogue(
    """
[[plans]]
id = "starter"
name = "Starter"
monthly_credits = 100
lowest = true
on_signup = "full"

[[plans]]
id = "pro"
name = "Pro"
monthly_credits = 500
on_plan_change = "difference"

[[plans]]
id = "business"
name = "Business"
monthly_credits = 2000
on_plan_change = "difference"
"""
)
ACTIVE, PAUSED, CANCELLED = SubscriptionStatus
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
ZONE = "Europe/Paris"


def at(text: str) -> datetime:
    return parse_instant("at", text)


NEW_YEAR = at("2026-01-01T00:00:00Z")
FEBRUARY = at("2026-01-31T23:00:00Z")
"""When it begins in Paris."""


def billed(
    plan: str = "pro",
    status: SubscriptionStatus = ACTIVE,
    started_at: datetime = NEW_YEAR,
    ends_at: datetime | None = None,
) -> Billed:
    return Billed(plan, BillingInterval.YEARLY, status, started_at, ends_at)


A, B, C = (billed(plan) for plan in ("starter", "pro", "business"))
OVER = billed(status=CANCELLED, ends_at=NEW_YEAR)

Said = tuple[str, datetime, Report]
"""Of which contract, when, and what."""


def all_of(said: Iterable[Said], known: tuple[Contract, ...] = ()) -> tuple[Contract, ...]:
    return reduce(lambda contracts, each: with_report(contracts, *each), said, known)


def one_second(*moves: tuple[Billed | None, Billed]) -> list[Said]:
    """Events of one second, each from what was before; their ids say nothing of their order."""
    names = [f"evt_{letter}" for letter in "kdxbqfmzaw"]
    return [
        ("sub_1", NEW_YEAR, Report(name, after, before))
        for name, (before, after) in zip(names, moves, strict=False)
    ]


def stands(said: Iterable[Said]) -> set[Billed]:
    """How the contract stands after the events, in every order that they can come in."""
    found = {all_of(order) for order in permutations(said)}
    assert len(found) == 1
    return {stands_at(contract) for contract in found.pop()}


# --- In any order -------------------------------------------------------------------------------

STATES = some.builds(
    billed,
    some.sampled_from(["starter", "pro", "business"]),
    some.sampled_from(list(SubscriptionStatus)),
)
SAID = some.tuples(
    some.sampled_from(["sub_1", "sub_2", "sub_3"]),
    some.integers(0, 3).map(lambda seconds: NEW_YEAR + timedelta(seconds=seconds)),
    STATES,
    some.none() | STATES,
)


@settings(max_examples=80, deadline=None)
@given(some.lists(SAID, max_size=14), some.data())
def test_contracts_do_not_depend_on_the_order_of_the_events_or_on_how_often_each_comes(
    drawn: list[tuple[str, datetime, Billed, Billed | None]], data: some.DataObject
) -> None:
    said = [
        (contract_id, seen_at, Report(f"evt_{number}", after, before))
        for number, (contract_id, seen_at, after, before) in enumerate(drawn)
    ]
    expected = all_of(said)
    again = data.draw(some.lists(some.sampled_from(said))) if said else []
    assert all_of(data.draw(some.permutations([*said, *again]))) == expected
    assert all_of(said, expected) == expected


def test_an_older_event_says_nothing_new_of_a_contract_and_a_newer_one_replaces_all() -> None:
    older, newer = NEW_YEAR, NEW_YEAR + timedelta(seconds=1)
    first = with_report((), "sub_1", newer, Report("evt_2", B, None))
    assert with_report(first, "sub_1", older, Report("evt_3", A, None)) is not None
    assert with_report(first, "sub_1", older, Report("evt_3", A, None)) == first
    latest = with_report(first, "sub_1", newer + MINUTE, Report("evt_1", C, B))
    assert latest == (Contract("sub_1", newer + MINUTE, (Report("evt_1", C, B),)),)


def test_the_contracts_are_kept_by_their_ids() -> None:
    said = [(name, NEW_YEAR, Report(f"evt_{name}", A, None)) for name in ("sub_2", "sub_1")]
    assert [contract.id for contract in all_of(said)] == ["sub_1", "sub_2"]


def test_an_event_that_is_read_otherwise_the_second_time_says_what_it_says_now() -> None:
    # The list of prices has changed in between.
    first = with_report((), "sub_1", NEW_YEAR, Report("evt_1", A, None))
    again = with_report(first, "sub_1", NEW_YEAR, Report("evt_1", B, None))
    assert [stands_at(contract) for contract in again] == [B]


# --- Within one second --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("moves", "last"),
    [
        ([(None, A)], A),
        ([(None, A), (A, B)], B),
        ([(A, B)], B),
        ([(A, B), (B, C)], C),
        ([(A, B), (B, A), (A, C)], C),
        ([(None, A), (A, B), (B, A), (A, C)], C),
        ([(B, A), (A, C)], C),
        # What changed was nothing of ours.
        ([(A, A)], A),
        ([(None, A), (A, A), (A, B)], B),
        ([(A, B), (B, B), (B, B)], B),
        # A deletion does not say what was before it.
        ([(None, B), (None, OVER)], OVER),
        ([(None, A), (A, B), (None, OVER)], OVER),
        ([(A, B), (B, C), (C, OVER)], OVER),
        ([(A, B), (B, A), (None, OVER)], OVER),
    ],
)
def test_of_one_second_the_event_counts_that_no_other_follows(
    moves: list[tuple[Billed | None, Billed]], last: Billed
) -> None:
    assert stands(one_second(*moves)) == {last}


@pytest.mark.parametrize("moves", [[(A, B), (B, A)], [(A, B), (B, C), (C, A)]])
def test_of_a_circle_any_event_counts_but_always_the_same(
    moves: list[tuple[Billed | None, Billed]],
) -> None:
    said = one_second(*moves)
    highest = max(said, key=lambda each: each[2].event_id)
    assert stands(said) == {highest[2].billed}


def test_of_the_events_of_one_second_only_so_many_are_kept_whatever_their_order() -> None:
    said = [
        ("sub_1", NEW_YEAR, Report(f"evt_{number:02}", A, None)) for number in range(MOST_REPORTS)
    ]
    assert [len(contract.reports) for contract in all_of(said)] == [MOST_REPORTS]
    said += [("sub_1", NEW_YEAR, Report("evt_99", B, None))]
    expected = all_of(said)
    assert [len(contract.reports) for contract in expected] == [MOST_REPORTS]
    assert [contract.reports[-1].event_id for contract in expected] == ["evt_99"]
    for seed in range(10):
        assert all_of(Random(seed).sample(said * 2, 2 * len(said))) == expected


# --- Bounds -------------------------------------------------------------------------------------


def many(count: int, status: SubscriptionStatus) -> list[Said]:
    return [
        (
            f"sub_{99 - number}",
            NEW_YEAR + number * MINUTE,
            Report("evt", billed(status=status), None),
        )
        for number in range(count)
    ]


def test_of_too_many_contracts_those_that_ended_and_were_seen_longest_ago_go() -> None:
    assert len(all_of(many(MOST_CONTRACTS, CANCELLED))) == MOST_CONTRACTS
    kept = all_of(many(MOST_CONTRACTS + 2, CANCELLED))
    newest = sorted(f"sub_{99 - number}" for number in range(2, MOST_CONTRACTS + 2))
    assert [contract.id for contract in kept] == newest
    for seed in range(10):
        said = many(MOST_CONTRACTS + 2, CANCELLED)
        assert all_of(Random(seed).sample(said, len(said))) == kept


def test_of_those_that_were_seen_at_once_the_lower_ids_go_whatever_their_order() -> None:
    said = [
        (f"sub_{number}", NEW_YEAR, Report("evt", OVER, None))
        for number in range(10, 12 + MOST_CONTRACTS)
    ]
    kept = [f"sub_{number}" for number in range(12, 12 + MOST_CONTRACTS)]
    for order in (said, said[::-1]):
        assert [contract.id for contract in all_of(order)] == kept


def test_one_that_is_not_over_never_goes() -> None:
    for status in (ACTIVE, PAUSED):
        running = ("sub_aa", NEW_YEAR - DAY, Report("evt", billed(status=status), None))
        kept = all_of([running, *many(MOST_CONTRACTS + 5, CANCELLED)])
        assert len(kept) == MOST_CONTRACTS
        assert "sub_aa" in {contract.id for contract in kept}
        assert not is_over(entitlement(kept))


# --- What a user is entitled to -----------------------------------------------------------------


def contract(name: str, what: Billed) -> Contract:
    return Contract(name, NEW_YEAR, (Report(f"evt_{name}", what, None),))


def test_an_active_contract_counts_before_one_that_is_paused_and_that_before_one_that_is_over() -> (
    None
):
    active = contract("sub_1", billed(started_at=NEW_YEAR))
    paused = contract("sub_2", billed(status=PAUSED, started_at=NEW_YEAR + DAY))
    over = contract("sub_3", billed(status=CANCELLED, started_at=NEW_YEAR + 2 * DAY))
    assert entitlement([over, paused, active]) == stands_at(active)
    assert entitlement([over, paused]) == stands_at(paused)
    assert entitlement([over]) == stands_at(over)


def test_of_several_the_one_that_was_begun_last_counts_and_of_these_the_higher_id() -> None:
    first = contract("sub_9", billed("business", started_at=NEW_YEAR))
    second = contract("sub_1", billed("starter", started_at=NEW_YEAR + DAY))
    third = contract("sub_2", billed("pro", started_at=NEW_YEAR + DAY))
    for order in permutations([first, second, third]):
        assert entitlement(order).plan == "pro"
    assert entitlement([first, second]).plan == "starter"


# --- What becomes of the subscription -----------------------------------------------------------


class User:
    """Somebody whose contracts are reported, and whom others edit."""

    def __init__(self, existing: Subscription | None = None) -> None:
        self.known = existing
        self.count = 0

    @property
    def stored(self) -> Subscription:
        assert self.known is not None
        return self.known

    def hears(
        self,
        what: Billed,
        seen_at: datetime,
        now: datetime | None = None,
        name: str = "sub_1",
        before: Billed | None = None,
    ) -> Subscription:
        """An event arrives, by default when it happens."""
        self.count += 1
        contracts = self.known.contracts if self.known else ()
        contracts = with_report(contracts, name, seen_at, Report(f"e{self.count}", what, before))
        newcomer = Newcomer("1", "ada@example.com", ZONE)
        self.known = reported(self.known, newcomer, contracts, seen_at, CATALOGUE, now or seen_at)
        return self.known

    def is_edited(self, now: datetime, **values: object) -> None:
        """Somebody else edits the subscription."""
        terms = replace(Terms.of(self.stored), **values)  # type: ignore[arg-type]
        self.known = successor(self.stored, terms, CATALOGUE, now)

    def due(self, now: datetime) -> list[Period]:
        return [*due_periods(self.stored, CATALOGUE, None, now, now)]


JANUARY, BEFORE, AFTER = Period(2026, 1), FEBRUARY - MINUTE, FEBRUARY + MINUTE
NEXT = Period(2026, 2)
LATE = FEBRUARY + 2 * DAY


def test_a_newcomer_is_registered_when_the_event_happened() -> None:
    user = User()
    made = user.hears(billed(started_at=BEFORE), BEFORE, now=LATE)
    assert (made.registered_at, made.eligible_from, made.observed_at) == (BEFORE, BEFORE, BEFORE)
    assert (made.version, made.email, made.timezone) == (1, "ada@example.com", ZONE)
    assert [each.id for each in made.contracts] == ["sub_1"]
    assert user.due(LATE) == [NEXT]


@pytest.mark.parametrize(
    ("before", "counts_from"),
    [(timedelta(seconds=1), AFTER - timedelta(seconds=1)), (3 * DAY, AFTER - 3 * DAY)],
)
def test_a_newcomer_whose_start_is_told_of_later_is_there_from_the_start(
    before: timedelta, counts_from: datetime
) -> None:
    user = User()
    made = user.hears(billed(started_at=AFTER - before), AFTER, now=LATE)
    assert (made.registered_at, made.observed_at) == (counts_from, AFTER)
    assert user.due(LATE) == ([NEXT] if counts_from <= FEBRUARY else [])


def test_a_newcomer_whose_start_is_ahead_is_there_from_the_event() -> None:
    user = User()
    made = user.hears(billed(started_at=AFTER), BEFORE, now=LATE)
    assert (made.registered_at, made.started_at) == (BEFORE, AFTER)


def test_a_newcomer_whose_start_no_event_can_tell_of_any_more_is_there_from_the_first_event() -> (
    None
):
    user = User()
    made = user.hears(billed(started_at=AFTER - 3 * DAY - timedelta(seconds=1)), AFTER, now=LATE)
    assert made.registered_at == AFTER
    assert user.due(LATE) == []


def test_a_newcomer_of_an_old_subscription_is_owed_nothing_for_the_time_before_the_event() -> None:
    user = User()
    user.hears(billed(started_at=NEW_YEAR - 300 * DAY), BEFORE)
    assert user.due(BEFORE) == []
    assert user.due(AFTER) == [NEXT]


def test_a_newcomer_is_welcomed_with_what_the_plan_gives_at_the_sign_up() -> None:
    user = User()
    made = user.hears(billed("starter", started_at=BEFORE), BEFORE, now=BEFORE + MINUTE / 2)
    assert made.sign_up is not None
    assert (made.sign_up.period, made.sign_up.amount, made.sign_up.at) == (JANUARY, 100, BEFORE)
    assert user.due(BEFORE + MINUTE / 2) == [JANUARY]


@pytest.mark.parametrize(
    ("seen_at", "counts_from"),
    [
        (LATE - LONGEST_DELAY, LATE - LONGEST_DELAY),
        (LATE - LONGEST_DELAY - timedelta(seconds=1), LATE),
        (LATE, LATE),
        (LATE + timedelta(seconds=1), LATE),  # Stripe's clock is ahead of ours
    ],
)
def test_an_event_counts_from_then_unless_it_is_very_old_or_ahead(
    seen_at: datetime, counts_from: datetime
) -> None:
    user = User()
    made = user.hears(billed(started_at=NEW_YEAR - 300 * DAY), seen_at, now=LATE)
    assert (made.registered_at, made.observed_at) == (counts_from, seen_at)
    back = User()
    back.hears(billed(status=PAUSED), seen_at - DAY)
    assert back.hears(billed(), seen_at, now=LATE).resumed_at == counts_from


def test_who_comes_back_before_a_month_begins_has_its_credits_though_we_hear_of_it_later() -> None:
    for state in (billed(status=PAUSED), OVER):
        user = User()
        user.hears(billed(), NEW_YEAR)
        user.hears(state, NEW_YEAR + DAY)
        assert user.hears(billed(), BEFORE, now=LATE).resumed_at == BEFORE
        assert user.due(LATE) == [NEXT]


def test_who_comes_back_after_a_month_began_has_none_of_it() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR - DAY)
    user.hears(billed(status=PAUSED), NEW_YEAR + DAY)
    user.hears(billed(), AFTER, now=LATE)
    assert user.due(LATE) == []


def test_an_end_that_is_taken_back_in_time_ends_nothing_though_we_hear_of_it_later() -> None:
    user = User()
    user.hears(billed(ends_at=FEBRUARY), NEW_YEAR)
    user.hears(billed(), BEFORE, now=LATE)
    assert user.due(LATE) == [NEXT]


def test_who_has_another_contract_all_along_is_never_without_one() -> None:
    # The newer one ends as the month begins, and we hear of that a moment later.
    user = User()
    user.hears(billed("starter"), NEW_YEAR, name="sub_1")
    ending = billed("pro", started_at=NEW_YEAR + DAY, ends_at=FEBRUARY)
    user.hears(ending, NEW_YEAR + DAY, name="sub_2")
    user.hears(ending._replace(status=CANCELLED), AFTER, name="sub_2")
    assert (user.stored.plan, user.stored.status, user.stored.ends_at) == ("starter", ACTIVE, None)
    assert user.due(AFTER) == [NEXT]


def test_a_contract_that_was_heard_of_as_the_other_ended_leaves_no_gap() -> None:
    user = User()
    ending = billed("pro", started_at=NEW_YEAR + DAY, ends_at=BEFORE)
    user.hears(ending, NEW_YEAR + DAY, name="sub_2")
    user.hears(billed("starter"), BEFORE, name="sub_1")
    user.hears(ending._replace(status=CANCELLED), AFTER, AFTER, name="sub_2")
    assert (user.stored.plan, user.stored.resumed_at) == ("starter", BEFORE)
    assert user.due(AFTER) == [NEXT]


def test_a_contract_that_ends_before_its_time_leaves_no_gap_either() -> None:
    user = User()
    user.hears(billed("starter"), NEW_YEAR, name="sub_1")
    ending = billed("pro", started_at=NEW_YEAR + DAY, ends_at=FEBRUARY)
    user.hears(ending, NEW_YEAR + DAY, name="sub_2")
    user.hears(ending._replace(status=CANCELLED, ends_at=BEFORE), BEFORE, AFTER, name="sub_2")
    assert user.stored.plan == "starter"
    # Since what counted before had begun.
    assert user.stored.resumed_at == NEW_YEAR + DAY
    assert user.due(AFTER) == [NEXT]


def test_a_contract_that_was_paused_when_another_ended_counts_from_when_it_came_back() -> None:
    user = User()
    user.hears(billed("starter", PAUSED), NEW_YEAR, name="sub_1")
    ending = billed("pro", started_at=NEW_YEAR + DAY, ends_at=FEBRUARY)
    user.hears(ending, NEW_YEAR + DAY, name="sub_2")
    user.hears(billed("starter"), AFTER, name="sub_1")
    user.hears(ending._replace(status=CANCELLED), AFTER, AFTER + MINUTE, name="sub_2")
    assert (user.stored.plan, user.stored.resumed_at) == ("starter", AFTER)
    assert user.due(AFTER + MINUTE) == []


def test_after_somebody_else_has_edited_what_an_event_says_counts_from_now() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR - DAY)
    user.is_edited(NEW_YEAR + DAY, status=PAUSED)
    assert user.hears(billed("business"), BEFORE, now=LATE).resumed_at == LATE
    assert user.due(LATE) == []


def test_an_edit_of_what_is_not_the_providers_changes_nothing_about_that() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR - DAY)
    user.hears(billed(status=PAUSED), NEW_YEAR + DAY)
    user.is_edited(NEW_YEAR + DAY, email="new@example.com", allocation_amount=7)
    assert user.hears(billed(), BEFORE, now=LATE).resumed_at == BEFORE


def test_of_one_whom_no_provider_has_brought_the_first_event_counts_from_now() -> None:
    user = User()
    user.hears(billed(status=PAUSED), NEW_YEAR - DAY)
    user.known = replace(user.stored, contracts=())
    assert user.hears(billed(), BEFORE, now=LATE).resumed_at == LATE
    assert user.due(LATE) == []


def test_a_step_up_of_one_who_receives_all_along_counts_from_now() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR - DAY)
    raised = user.hears(billed("business"), FEBRUARY + DAY, now=LATE).raised
    assert raised is not None
    assert (raised.period, [top_up.at for top_up in raised.top_ups]) == (NEXT, [LATE])


def test_what_is_not_the_providers_to_say_stays() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR)
    user.is_edited(
        NEW_YEAR,
        email="new@example.com",
        timezone="Asia/Tokyo",
        allocation_amount=70,
        notifications=frozenset({MailKind.MANUAL}),
        eligible_from=NEW_YEAR + DAY,
    )
    kept = user.stored
    made = user.hears(billed("business", started_at=NEW_YEAR + MINUTE), NEW_YEAR + 2 * DAY)
    assert (made.email, made.timezone) == ("new@example.com", "Asia/Tokyo")
    assert (made.allocation_amount, made.notifications) == (70, frozenset({MailKind.MANUAL}))
    assert (made.eligible_from, made.registered_at) == (NEW_YEAR + DAY, NEW_YEAR)
    assert (made.plan, made.version) == ("business", kept.version + 1)


def test_an_event_that_changes_only_the_contracts_is_an_edit_too() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR)
    made = user.hears(billed("starter", CANCELLED), NEW_YEAR - DAY, NEW_YEAR + DAY, name="sub_0")
    assert (made.version, made.plan, made.observed_at) == (2, "pro", NEW_YEAR)
    made = user.hears(billed("starter", CANCELLED), NEW_YEAR + DAY, name="sub_0")
    assert (made.version, made.plan, made.observed_at) == (3, "pro", NEW_YEAR + DAY)
    assert [each.id for each in made.contracts] == ["sub_0", "sub_1"]


def test_an_event_is_never_refused_as_outdated() -> None:
    user = User()
    user.hears(billed(), NEW_YEAR)
    user.is_edited(NEW_YEAR + DAY, observed_at=NEW_YEAR + DAY)
    made = user.hears(billed("business"), NEW_YEAR + MINUTE, NEW_YEAR + 2 * DAY)
    assert (made.plan, made.observed_at) == ("business", NEW_YEAR + DAY)


@settings(max_examples=60, deadline=None)
@given(
    some.lists(
        some.tuples(some.sampled_from([ACTIVE, PAUSED, CANCELLED]), some.integers(0, 3)),
        min_size=1,
        max_size=8,
    )
)
def test_no_month_is_due_that_begins_while_nothing_is_paid_for(
    steps: Sequence[tuple[SubscriptionStatus, int]],
) -> None:
    """A contract that changes once in a while, of which we hear up to three days late."""
    user = User()
    first = NEW_YEAR + DAY
    user.hears(billed(started_at=first), first)
    changes = [(first, ACTIVE)]
    for number, (status, late) in enumerate(steps, 1):
        seen_at = first + number * 20 * DAY
        changes.append((seen_at, status))
        user.hears(billed(status=status, started_at=first), seen_at, seen_at + late * DAY)
        now = seen_at + late * DAY
        for period in user.due(now):
            begins = period_start(period)
            assert [was for when, was in changes if when <= begins][-1] is ACTIVE, period


def period_start(period: Period) -> datetime:
    return (
        at(f"{period}-01T00:00:00+01:00")
        if period.month in (1, 2, 3, 11, 12)
        else at(f"{period}-01T00:00:00+02:00")
    )
