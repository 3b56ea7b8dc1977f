"""Bugs to plant in purchases and refunds; importing this enters them in the list of all bugs."""

import json
from dataclasses import replace
from typing import Any

from chalicelib.domain import ledger
from chalicelib.domain.batches import burn_down, move
from chalicelib.domain.entries import Refund
from chalicelib.domain.holds import active, within
from chalicelib.domain.ledger import Refunded
from chalicelib.operations import purchases
from chalicelib.operations.purchases import Purchase
from chalicelib.store.ledger import LedgerStore
from tests.simulation.planted import becomes, bug
from tests.simulation.planted_holds import BUGS

__all__ = ["BUGS", "OF_PAYMENTS"]

_OTHERS = {*BUGS}


# --- Purchases ------------------------------------------------------------------------------------


@bug(purchases, "buy")
def _by_route(original: Any, services: Any, purchase: Any, *, actor: str) -> Any:
    """A payment by two routes is granted twice."""
    payment_id = f"{actor}#{purchase.payment_id}"
    return original(services, replace(purchase, payment_id=payment_id), actor=actor)


BUGS["a payment for another user or amount is taken for the same"] = becomes(
    Purchase, "described", lambda _: {}
)


@bug(Purchase, "described")
def _worded_otherwise(original: Any, self: Purchase) -> Any:
    """A payment that is dated otherwise by another route is refused."""
    return original(self) | {"expires_in_days": self.expires_in_days}


@bug(ledger, "purchase")
def _bought_lives_as_the_plan(original: Any, *asked: Any) -> Any:
    """Bought credits expire as those of a plan do."""
    *others, days, priority = asked
    return original(*others, days or 30, priority)


@bug(ledger, "purchase")
def _bought_is_spent_first(original: Any, *asked: Any) -> Any:
    """Bought credits are spent before those of the plan."""
    return original(*asked[:-1], 40)


@bug(ledger, "purchase")
def _price_is_forgotten(original: Any, account: Any, amount: int, _: Any, *asked: Any) -> Any:
    """A purchase forgets its price."""
    return original(account, amount, None, *asked)


# --- Refunds --------------------------------------------------------------------------------------


@bug(ledger, "refund")
def _counted_twice(original: Any, account: Any, bought: Any, _: Any, *asked: Any) -> Any:
    """A refund is counted twice."""
    return original(account, bought, None, *asked)


def _refunded(original: Any, *asked: Any, legs: Any) -> Any:
    """A refund as it is decided, but for the legs."""
    decided = original(*asked)
    if decided is None or decided.entry.amount >= 0:
        return decided
    account, entry = asked[0], decided.entry
    found = legs(account, entry)
    amount = sum(leg.amount for leg in found)
    stands = entry.refund._replace(unrecovered=entry.refund.unrecovered + entry.amount - amount)
    return Refunded(
        replace(
            entry,
            legs=found,
            amount=amount,
            balance=entry.balance - entry.amount + amount,
            batches=move(account.batches, found),
            refund=stands,
        ),
        decided.expired,
    )


@bug(ledger, "refund")
def _from_another_batch(original: Any, *asked: Any) -> Any:
    """A refund takes from another batch."""

    def legs(account: Any, entry: Any) -> Any:
        free = account.spendable(entry.posted_at)
        return burn_down(free, -entry.amount)

    return _refunded(original, *asked, legs=legs)


@bug(ledger, "refund")
def _given_back_too_much(
    original: Any, account: Any, bought: Any, before: Refund | None, in_all: int, *asked: Any
) -> Any:
    """A won dispute gives back more than was taken."""
    if before and in_all < before.in_all:
        left = {batch.number: batch.remaining for batch in account.batches}
        room = bought.granted - left.get(bought.number, 0)
        taken = min(before.in_all, in_all + room)
        before = before._replace(unrecovered=before.in_all - taken)
    return original(account, bought, before, in_all, *asked)


@bug(ledger, "refund")
def _takes_what_is_held(original: Any, account: Any, *asked: Any) -> Any:
    """A refund takes held credits."""
    if not account.last:
        return original(account, *asked)
    bare = account._replace(last=replace(account.last, holds=()))
    decided = original(bare, *asked)
    if decided is None:
        return None
    kept = within(account.holds, decided.entry.batches)
    holds = active(kept, decided.entry.posted_at)
    return Refunded(replace(decided.entry, holds=holds), decided.expired)


@bug(LedgerStore, "_transact")
def _refund_without_link(original: Any, self: LedgerStore, items: Any) -> Any:
    """A refund leaves no link, so the next one does not know of it."""
    is_refund = "refund" in json.loads(items[0]["body"]["S"])
    return original(self, items[:1] if is_refund else items)


@bug(ledger, "refund")
def _outdated_counts(original: Any, account: Any, bought: Any, before: Any, *asked: Any) -> Any:
    """A report of a refund that was seen before the newest one counts all the same."""
    return original(account, bought, before and before._replace(observed_at=None), *asked)


@bug(ledger, "refund")
def _seen_later_is_forgotten(
    original: Any, account: Any, bought: Any, before: Any, in_all: int, *asked: Any
) -> Any:
    """A report that saw the same later is forgotten, so that one of the time between counts."""
    if before and before.in_all == in_all:
        return None
    return original(account, bought, before, in_all, *asked)


@bug(ledger, "refund")
def _unrecovered_is_due(original: Any, account: Any, bought: Any, before: Any, *asked: Any) -> Any:
    """What could not be taken by a refund counts as taken, so it is given back for nothing."""
    return original(account, bought, before and before._replace(unrecovered=0), *asked)


@bug(ledger, "refund")
def _revives(original: Any, account: Any, bought: Any, *asked: Any) -> Any:
    """What is refunded no more is given back to a batch that has expired."""
    return original(account, replace(bought, expires_at=None), *asked)


OF_PAYMENTS = tuple(name for name in BUGS if name not in _OTHERS)
"""The sentences of those that are in this file."""
