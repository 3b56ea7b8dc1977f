"""What each price of a payment provider stands for: a plan, a number of credits, or nothing here.

`prices_file` reads it from the file that the team edits, and checks its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .batches import BOUGHT_PRIORITY
from .plans import BillingInterval


class PlanPrice(NamedTuple):
    """A recurring price: who pays it is on the plan."""

    plan: str
    billing_interval: BillingInterval


class CreditPrice(NamedTuple):
    """A one-time price: who pays it has bought credits.

    ``expires_in_days``: in local days of the user; None for credits that never expire.
    """

    credits: int
    expires_in_days: int | None = None
    priority: int = BOUGHT_PRIORITY


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices by their ids; None for a price that is known and has nothing to do with credits.

    ``timezone``: for users whom the provider registers and whose timezone is unknown.
    ``grants_in_trials``: whether a trial counts as a subscription, or the user waits for its end.
    ``grants_past_due``: whether a subscription goes on while the provider tries to collect.
    """

    prices: Mapping[str, PlanPrice | CreditPrice | None]
    timezone: str = "UTC"
    grants_in_trials: bool = True
    grants_past_due: bool = True
