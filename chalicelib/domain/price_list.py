"""What the prices of a payment provider stand for: a plan, or so many credits, or nothing of ours.

`prices_file` reads it from the file that the team edits, and vouches for its rules.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .batches import BOUGHT_PRIORITY
from .plans import BillingInterval


class PlanPrice(NamedTuple):
    """Who pays this price again and again is on the plan."""

    plan: str
    billing_interval: BillingInterval


class CreditPrice(NamedTuple):
    """Who pays this price once has bought credits.

    ``expires_in_days``: in local days of the user; None for credits that never expire.
    """

    credits: int
    expires_in_days: int | None = None
    priority: int = BOUGHT_PRIORITY


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices by their ids; None for a price that is known to be none of ours.

    ``timezone``: of users whom the provider brings and whose timezone nobody says.
    ``grants_in_trials``: whether a trial counts as a subscription, or the user waits for its end.
    ``grants_past_due``: whether a subscription goes on while the provider tries to collect.
    """

    prices: Mapping[str, PlanPrice | CreditPrice | None]
    timezone: str = "UTC"
    grants_in_trials: bool = True
    grants_past_due: bool = True
