"""What each kind of mail tells, as its templates see it: amounts as numbers, dates as texts.

Dates are local dates of the user, written as the API writes them. Credits that expire at a midnight
carry two: ``expires_on``, the API's date, and ``last_day``, the day before it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.ledger import Account, LedgerEntry
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, next_allocation

Facts = dict[str, Any]

_MILLISECOND = timedelta(milliseconds=1)


def of_allocation(
    entry: LedgerEntry, subscription: Subscription, catalogue: PlanCatalogue
) -> Facts:
    """``amount``, ``period``, ``plan`` (or none), ``balance``, ``expiry`` (or none)."""
    return {
        "amount": entry.amount,
        "period": str(entry.allocated_through),
        "plan": plan_name(subscription, catalogue),
        "balance": entry.available_balance(),
        "expiry": _expiry_of_grant(entry, subscription),
    }


def of_manual_change(entry: LedgerEntry, subscription: Subscription) -> Facts:
    """``amount`` (without its sign), ``is_grant``, ``reason``, ``balance``, ``expiry``."""
    return {
        "amount": abs(entry.amount),
        "is_grant": entry.amount > 0,
        "reason": entry.description,
        "balance": entry.available_balance(),
        "expiry": _expiry_of_grant(entry, subscription),
    }


def of_expirations(
    expirations: Sequence[tuple[LedgerEntry, LedgerEntry]], subscription: Subscription
) -> Facts:
    """``amount`` in all, ``day``, ``batches`` (``amount``, ``granted_on``), ``balance``.

    Each expiration comes with the entry before it, which still has the batches; oldest first.
    """
    batches = []
    for before, entry in expirations:
        granted_at = {batch.number: batch.granted_at for batch in before.batches}
        for leg in entry.legs:
            granted_on = _date(subscription, granted_at[leg.batch])
            batches.append({"amount": -leg.amount, "granted_on": granted_on})
    _, latest = expirations[-1]
    return {
        "amount": sum(batch["amount"] for batch in batches),
        "day": _date(subscription, latest.effective_at),
        "batches": batches,
        "balance": latest.available_balance(),
    }


def of_credits_expiring_soon(
    amount: int, expires_at: datetime, account: Account, subscription: Subscription, now: datetime
) -> Facts:
    """``amount``, ``expiry``, ``balance``."""
    return {
        "amount": amount,
        "expiry": _expiry(subscription, expires_at),
        "balance": account.available_balance(now),
    }


def of_low_balance(
    entry: LedgerEntry,
    threshold: int,
    subscription: Subscription,
    catalogue: PlanCatalogue,
    now: datetime,
) -> Facts:
    """``balance``, ``threshold``, ``next`` (``amount`` and ``on``, or none to come)."""
    upcoming = next_allocation(subscription, catalogue, entry.allocated_through, now)
    return {
        "balance": entry.available_balance(),
        "threshold": threshold,
        "next": upcoming
        and {"amount": upcoming.amount, "on": upcoming.period.first_day.isoformat()},
    }


def plan_name(subscription: Subscription, catalogue: PlanCatalogue) -> str | None:
    """What the user's plan is called; None when it has left the catalogue."""
    try:
        return catalogue.get(subscription.plan).name
    except InvalidInput:
        return None


def _expiry_of_grant(entry: LedgerEntry, subscription: Subscription) -> Facts | None:
    batch = entry.granted_batch
    return _expiry(subscription, batch.expires_at) if batch and batch.expires_at else None


def _expiry(subscription: Subscription, expires_at: datetime) -> Facts:
    return {
        "expires_on": _date(subscription, expires_at),
        "last_day": _date(subscription, expires_at - _MILLISECOND),
    }


def _date(subscription: Subscription, instant: datetime) -> str:
    return calendar.local_date(subscription.timezone, instant).isoformat()
