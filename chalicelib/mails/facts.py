"""The facts for the texts of each kind of email: amounts as numbers, dates as dates.

An email about an entry says what the entry says, whenever it is sent. By the time of a redelivery
the subscription, the catalogue and the credits may have changed; the entry has not. Where an email
states facts about the future, or about the time of sending, its words say so.

Dates are local dates of the zone in which the credits were granted: the grant names that zone
wherever credits can expire. The date of an expiry is the ``last_day`` on which they can be used;
the API's ``expires_at`` is the midnight after it. ``told_on`` is the UTC date of an email: other
dates near it are written without a year.
"""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import LedgerCorrupt
from chalicelib.domain.ledger import Account
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, next_allocation

if TYPE_CHECKING:
    from chalicelib.domain.forecasts import Spending

Facts = dict[str, Any]

_MILLISECOND = timedelta(milliseconds=1)


def of_allocation(entry: LedgerEntry) -> Facts:
    """``amount``, ``period``, ``balance``, ``expiry`` (or none), and special cases.

    ``is_first``: for the period in which a new subscriber signed up. If credits were ``left_out``,
    the others filled the user's balance, including held credits, up to the ``balance_cap``.
    """
    return {
        "told_on": entry.posted_at.date(),
        "amount": entry.amount,
        "period": entry.allocated_through,
        "is_first": entry.sign_up,
        "balance": entry.available_balance(),
        "expiry": _expiry_of_grant(entry),
        "left_out": entry.left_out,
        "balance_cap": entry.balance_cap,
    }


def of_manual_change(entry: LedgerEntry) -> Facts:
    """``amount`` (unsigned), ``is_grant``, ``reason``, ``metadata``, ``balance``, ``expiry``."""
    return {
        "told_on": entry.posted_at.date(),
        "amount": abs(entry.amount),
        "is_grant": entry.amount > 0,
        "reason": entry.description,
        "metadata": dict(entry.metadata),
        "balance": entry.available_balance(),
        "expiry": _expiry_of_grant(entry),
    }


def of_purchase(entry: LedgerEntry) -> Facts:
    """``amount``, ``description``, ``payment_id``, ``metadata``, ``balance``, ``expiry``.

    The payment of an erased entry is empty.
    """
    return {
        "told_on": entry.posted_at.date(),
        "amount": entry.amount,
        "description": entry.description,
        "payment_id": entry.payment_id or "",
        "metadata": dict(entry.metadata),
        "balance": entry.available_balance(),
        "expiry": _expiry_of_grant(entry),
    }


def of_refund(entry: LedgerEntry) -> Facts:
    """``amount`` (without its sign), ``is_given_back``, ``reason``, ``payment_id``, ``balance``."""
    return {
        "told_on": entry.posted_at.date(),
        "amount": abs(entry.amount),
        "is_given_back": entry.amount > 0,
        "reason": entry.description,
        "payment_id": entry.payment_id or "",
        "balance": entry.available_balance(),
    }


def of_expiration(entry: LedgerEntry, grants: Mapping[int, LedgerEntry]) -> Facts:
    """``amount`` in all, ``last_day``, ``batches`` (``amount``, ``granted_on``), ``balance``.

    ``grants``: by number, the entries that granted the expired credits. The last day is that of the
    batch that expired last: the entry was due then.
    """
    expired = [(leg.amount, _expiring(grants[leg.batch])) for leg in entry.legs]
    last = max((batch for _, batch in expired), key=lambda batch: batch.expires_at)
    return {
        "told_on": entry.posted_at.date(),
        "amount": -entry.amount,
        "last_day": last.last_day,
        "batches": [
            {"amount": -amount, "granted_on": batch.granted_on} for amount, batch in expired
        ],
        "balance": entry.available_balance(),
    }


def of_credits_expiring_soon(
    amount: int, grant: LedgerEntry, account: Account, now: datetime
) -> Facts:
    """``amount``, ``expiry``, ``balance``: what is left when the email is sent.

    ``grant``: the entry that granted them, or the oldest of several.
    """
    return {
        "told_on": now.date(),
        "amount": amount,
        "expiry": _expiry_of_grant(grant),
        "balance": account.available_balance(now),
    }


def of_low_balance(
    entry: LedgerEntry,
    subscription: Subscription,
    catalogue: PlanCatalogue,
    now: datetime,
    spending: "Spending | None" = None,
) -> Facts:
    """``balance``, ``metadata`` (of the usage), ``next`` and ``pace``.

    ``next`` (``amount`` and ``on``, or none to come) is as known when the email is sent;
    ``is_capped``: it can be less. ``pace``: see `_pace`; ``spending`` is as of when the entry was
    posted, None if no rate is justified.
    """
    upcoming = next_allocation(subscription, catalogue, entry.allocated_through, now)
    comes_on = upcoming.on if upcoming else None
    return {
        "told_on": entry.posted_at.date(),
        "balance": entry.available_balance(),
        "metadata": dict(entry.metadata),
        "next": upcoming
        and {
            "amount": upcoming.amount,
            "on": upcoming.on,
            "is_capped": upcoming.balance_cap is not None,
        },
        "pace": spending and _pace(entry, subscription, catalogue, now, spending, comes_on),
    }


def _pace(
    entry: LedgerEntry,
    subscription: Subscription,
    catalogue: PlanCatalogue,
    now: datetime,
    spending: "Spending",
    comes_on: date | None,
) -> Facts | None:
    """``days``, and ``runs_out_on``: none if the credits last until the next ones come.

    It counts from the entry on, so a redelivery says the same. None if there is nothing to say: no
    credits are left, they last longer than a forecast, or that day is over.
    """
    if spending.rate is None or not entry.available_balance():
        return None
    # Only one kind of email needs it.
    from chalicelib.domain.forecasts import forecast

    account = Account(entry.user_id, entry)
    found = forecast(catalogue, subscription, account, entry.posted_at, spending.rate)
    runs_out_on = found.runs_out_on
    if comes_on and (runs_out_on is None or comes_on <= runs_out_on):
        return {"days": spending.days, "runs_out_on": None}
    today = calendar.local_date(calendar.known_or_utc(subscription.timezone), now)
    if runs_out_on is None or runs_out_on < today:
        return None
    return {"days": spending.days, "runs_out_on": runs_out_on}


class _Expiring(NamedTuple):
    """When credits were granted, when they expire, and the zone of both dates."""

    granted_at: datetime
    expires_at: datetime
    timezone: str

    @property
    def granted_on(self) -> date:
        return calendar.local_date(self.timezone, self.granted_at)

    @property
    def last_day(self) -> date:
        return calendar.local_date(self.timezone, self.expires_at - _MILLISECOND)


def _expiring(grant: LedgerEntry) -> _Expiring:
    batch, timezone = grant.granted_batch, grant.expiry_timezone
    if batch is None or batch.expires_at is None or timezone is None:
        raise LedgerCorrupt(grant.user_id, grant.number, "it granted no credits that can expire")
    return _Expiring(batch.granted_at, batch.expires_at, timezone)


def _expiry_of_grant(entry: LedgerEntry) -> Facts | None:
    batch = entry.granted_batch
    if batch is None or batch.expires_at is None:
        return None
    return {"last_day": _expiring(entry).last_day}
