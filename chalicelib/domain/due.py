"""The next entry due to an account: the only place that decides what a subscription brings.

The workers post its decision, a preview shows it, and a forecast asks it about the coming months.
"""

from datetime import datetime

from . import ledger
from .entries import LedgerEntry
from .ledger import Account, AllocationTerms
from .plans import PlanCatalogue
from .subscriptions import (
    Subscription,
    amount_for,
    due_periods,
    due_top_up,
    lifetime_of,
    periods_of,
    sign_up_for,
    topped_up_by,
)


def due_allocation(
    catalogue: PlanCatalogue,
    account: Account,
    subscription: Subscription,
    as_of: datetime,
    now: datetime,
) -> LedgerEntry | None:
    """The oldest allocation still due to an account; None when nothing is due.

    ``as_of`` and ``now`` are those of `due_periods`, which raises if nobody can judge what is due.
    """
    through = account.allocated_through
    # A step up belongs to the last period, so it is allocated before the next one.
    if owed := due_top_up(subscription, catalogue, through, account.topped_up_at):
        plan = catalogue.get(subscription.plan)
        return ledger.top_up(
            account,
            owed,
            subscription.timezone,
            lifetime_of(subscription, catalogue),
            now,
            AllocationTerms(plan.priority, plan.balance_cap),
        )
    due = due_periods(subscription, catalogue, through, as_of, now)
    if not due:
        return None
    period, plan = due[0], catalogue.get(subscription.plan)
    signed = sign_up_for(subscription, period)
    return ledger.allocate(
        account,
        period,
        amount_for(subscription, catalogue, period),
        subscription.timezone,
        lifetime_of(subscription, catalogue),
        now,
        AllocationTerms(
            plan.priority,
            plan.balance_cap,
            signed.at if signed else None,
            # A step up before the period was allocated is part of its amount, but not of a
            # sign-up's.
            None if signed else topped_up_by(subscription, period),
        ),
        periods_of(subscription, catalogue).day,
    )
