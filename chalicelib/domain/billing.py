"""What the payment provider reports about a user's contracts, and the subscription that follows.

A provider sends an event for everything that happens: more than once, late, in any order. Each
event says the state of a contract at its time, in whole seconds. So we keep what the newest second
said of each contract. What the user is entitled to follows from that alone, in whatever order the
events came.

    event 2, of 10:00:07   pro, active    the newest of the contract: this is its state
    event 1, of 10:00:03   starter        came late, changes nothing
    event 4, of 10:00:09   business       of one second: event 4 says that the contract was pro
    event 3, of 10:00:09   pro, paused    before, event 3 that it was business: so 3 is the last

Events of one second have no other order. If they form a circle, nobody knows their order. Then the
one with the highest id counts: an arbitrary choice, but always the same.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from .languages import Language
from .plans import PlanCatalogue
from .subscriptions import (
    Billed,
    Contract,
    Report,
    Subscription,
    SubscriptionStatus,
    has_ended,
    not_allocated_because,
)
from .terms import Terms, successor

MOST_CONTRACTS = 20
"""The most contracts that are kept of a user. If there are more, ended contracts that were seen
longest ago are dropped.

A late event of a dropped contract would bring it back. But nobody ends twenty contracts while an
event is late.
"""

MOST_REPORTS = 10
"""The most events of one second that are kept of a contract."""

LONGEST_DELAY = timedelta(days=30)
"""A report counts from when it happened, if that is at most this long ago. Stripe sends an event
for three days, and again on demand for as long as it keeps it, which is 30 days
(https://docs.stripe.com/webhooks)."""

LONGEST_ATTEMPTS = timedelta(days=3)
"""For how long a provider tries to deliver an event."""

_RANKS = {
    SubscriptionStatus.ACTIVE: 2,
    SubscriptionStatus.PAUSED: 1,
    SubscriptionStatus.CANCELLED: 0,
}


class Newcomer(NamedTuple):
    """What we need to register a user and the provider does not know."""

    user_id: str
    email: str | None
    timezone: str
    language: Language | None = None


def with_report(
    contracts: Sequence[Contract], contract_id: str, seen_at: datetime, report: Report
) -> tuple[Contract, ...]:
    """The contracts of a user after an event; unchanged if it says nothing new.

    They do not depend on the order in which the events came.
    """
    known = {contract.id: contract for contract in contracts}
    stands = known.get(contract_id)
    if stands is None or stands.seen_at < seen_at:
        known[contract_id] = Contract(contract_id, seen_at, (report,))
    elif stands.seen_at == seen_at:
        reports = {each.event_id: each for each in (*stands.reports, report)}
        newest = sorted(reports.values(), key=lambda each: each.event_id)[-MOST_REPORTS:]
        known[contract_id] = stands._replace(reports=tuple(newest))
    return tuple(sorted(_kept(known.values()), key=lambda contract: contract.id))


def _kept(contracts: Collection[Contract]) -> list[Contract]:
    """The contracts without the surplus ones."""
    over = [each for each in contracts if is_over(stands_at(each))]
    over.sort(key=lambda each: (each.seen_at, each.id))
    gone = over[: max(0, len(contracts) - MOST_CONTRACTS)]
    return [each for each in contracts if each not in gone]


def is_over(billed: Billed) -> bool:
    """Whether a contract has ended for good: no provider revives an ended contract."""
    return billed.status is SubscriptionStatus.CANCELLED


def stands_at(contract: Contract) -> Billed:
    """The state of a contract: by the report of its newest second that no other report follows."""
    reports = contract.reports
    came_to: Counter[Billed | None] = Counter(report.billed for report in reports)
    came_to.subtract(report.before for report in reports)
    last = [report for report in reports if came_to[report.billed] > 0] or reports
    return max(last, key=lambda report: (is_over(report.billed), report.event_id)).billed


def entitlement(contracts: Sequence[Contract]) -> Billed:
    """What a user with contracts is entitled to: exactly one contract counts.

    Active contracts come before paused ones, and both before ended ones. Among equals, the one
    begun last counts.
    """
    newest = max(
        contracts,
        key=lambda each: (_RANKS[(it := stands_at(each)).status], it.started_at, each.id),
    )
    return stands_at(newest)


def reported(
    existing: Subscription | None,
    newcomer: Newcomer,
    contracts: tuple[Contract, ...],
    seen_at: datetime,
    catalogue: PlanCatalogue,
    now: datetime,
) -> Subscription:
    """The subscription of a user with these contracts, after a new event of ``seen_at``.

    If the user is registered, fields that the provider does not know stay as they are.

    An event counts from when it happened. A user who paid before a month began gets its credits,
    though we hear of it later. Three things count from ``now`` instead. First, a very old event, as
    when a webhook is new. Second, an event after somebody else has edited the subscription: nobody
    knows what they would have entered. Third, a change of a subscription that receives credits
    before and after it.

    If a contract was known when another ended, it counts from that end: the user was never without
    one. A contract of a new user counts from its start, if that is not longer ago than an event can
    be late: another event of the contract may have come first.
    """
    billed = entitlement(contracts)
    terms = replace(
        Terms.of(existing) if existing else _terms_of(newcomer, billed),
        **billed._asdict(),
        observed_at=_latest(existing, seen_at),
    )
    at = now
    if _counts_from_then(existing, seen_at, catalogue, now):
        at = min(seen_at, _end_before(existing, billed) or seen_at)
        if existing is None and seen_at - LONGEST_ATTEMPTS <= billed.started_at:
            at = min(at, billed.started_at)
    made = successor(existing, terms, catalogue, at)
    if existing is None:
        return replace(made, contracts=contracts)
    return replace(made, contracts=contracts, version=existing.version + 1)


def _terms_of(newcomer: Newcomer, billed: Billed) -> Terms:
    return Terms(
        **newcomer._asdict(),
        **billed._asdict(),
        eligible_from=None,
        allocation_amount=None,
        notifications=None,
    )


def _latest(existing: Subscription | None, seen_at: datetime) -> datetime:
    """When the present state was observed. An older event can be news too: of another contract."""
    before = existing.observed_at if existing else None
    return max(before, seen_at) if before else seen_at


def _counts_from_then(
    existing: Subscription | None, seen_at: datetime, catalogue: PlanCatalogue, now: datetime
) -> bool:
    if not now - LONGEST_DELAY <= seen_at <= now:
        return False
    if existing is None:
        return True
    if not existing.contracts or _billed(existing) != entitlement(existing.contracts):
        return False
    receives = not_allocated_because(existing, catalogue) is None and not has_ended(existing, now)
    return not receives


def _end_before(existing: Subscription | None, billed: Billed) -> datetime | None:
    """The end of the contract that counted before, if the present one was in its state by then."""
    if existing is None or existing.ends_at is None:
        return None
    by_then = (each for each in existing.contracts if each.seen_at <= existing.ends_at)
    return existing.ends_at if billed in map(stands_at, by_then) else None


def _billed(subscription: Subscription) -> Billed:
    return Billed(
        subscription.plan,
        subscription.billing_interval,
        subscription.status,
        subscription.started_at,
        subscription.ends_at,
    )
