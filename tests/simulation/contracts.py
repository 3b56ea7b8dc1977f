"""Contracts with Stripe, said a second time: what a user is entitled to by the events heard.

It shares no line with the product. Where the product counts what follows what, this tries every
order in which the events of a second can have happened.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise, permutations

from tests.simulation.reference import DAY, NEVER, Billed, Heard, Subscription


def is_news(heard: Sequence[Heard], new: Heard) -> bool:
    """Whether an event says something of a contract that nothing newer has said."""
    of_it = [each for each in heard if each.contract == new.contract]
    is_new = all(each.id != new.id for each in of_it)
    return is_new and all(each.seen_at <= new.seen_at for each in of_it)


def standing(heard: Sequence[Heard], contract: str) -> Billed:
    """How a contract stands: what the last event of its newest second says.

    Their order is one in which most of them go on where the one before has ended. If several do, an
    end is the last for sure; and of the rest nobody knows: any is as good. An event that changes
    nothing for us tells nothing of the order.
    """
    of_it = [each for each in heard if each.contract == contract]
    newest = max(each.seen_at for each in of_it)
    second = {each.id: each for each in of_it if each.seen_at == newest}
    telling = [each for each in second.values() if each.before != each.billed]
    orders = list(permutations(telling or second.values()))
    followed = [sum(b.before == a.billed for a, b in pairwise(order)) for order in orders]
    lasts = {
        order[-1] for order, count in zip(orders, followed, strict=True) if count == max(followed)
    }
    if max(followed) and len(lasts) == len(telling):
        lasts = {*second.values()}  # a circle
    return max(lasts, key=lambda each: (each.billed.status == "cancelled", each.id)).billed


def entitled(heard: Sequence[Heard]) -> Billed:
    """What a user is entitled to by all contracts: what is active counts, then what is paused."""
    found = {each.contract: standing(heard, each.contract) for each in heard}
    ranks = ("cancelled", "paused", "active")
    newest = max(found, key=lambda c: (ranks.index(found[c].status), found[c].started_at, c))
    return found[newest]


def reported(
    present: Subscription | None, newcomer: Subscription, new: Heard, now: datetime
) -> Subscription:
    """What an event makes of a subscription, or of none.

    It counts from when it happened, if that is not too long ago; for somebody whom we know, if they
    have not been given anything meanwhile, and nobody else has had a say.
    """
    has_just_happened = now - 30 * DAY <= new.seen_at <= now
    if present is None:
        at = new.seen_at if has_just_happened else now
        # The event that told of the start may still be on its way, for as long as Stripe tries.
        if has_just_happened and new.seen_at - 3 * DAY <= new.billed.started_at < at:
            at = new.billed.started_at
        since = replace(newcomer, registered_at=at, eligible_from=at, known_since=at)
        return replace(since, observed_at=new.seen_at, heard=(new,)).welcomed()
    if not is_news(present.heard, new):
        return present
    is_as_heard = bool(present.heard) and all(
        getattr(present, name) == value for name, value in entitled(present.heard)._asdict().items()
    )
    is_given = present.receives and (present.ends_at or NEVER) > now
    heard = (*present.heard, new)
    at = now
    if has_just_happened and is_as_heard and not is_given:
        # Of two contracts of which one ends the other goes on at once, if it was known by then.
        end = present.ends_at or NEVER
        by_then = {each.contract for each in present.heard}
        by_then -= {each.contract for each in present.heard if each.seen_at > end}
        goes_on = any(standing(heard, each) == entitled(heard) for each in by_then)
        at = min(new.seen_at, end) if goes_on else new.seen_at
    seen_at = max(new.seen_at, present.observed_at or new.seen_at)
    after = present.edited(at, {**entitled(heard)._asdict(), "observed_at": seen_at})
    return replace(after, version=present.version + 1, heard=heard)
