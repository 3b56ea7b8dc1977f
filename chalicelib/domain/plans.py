"""The plan catalogue: how many credits a plan grants each month, and how long they live.

`plans_file` reads it from the file that the team edits, and checks its rules.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cached_property

from .batches import DEFAULT_PRIORITY
from .errors import InvalidInput
from .fields import MAXIMUM_AMOUNT
from .lifetimes import Lifetime
from .nearest import nearest

MOST_MONTHS_AT_ONCE = 10
LEAST_CAP = 10_000
"""The default of the most credits at once: this many months of the plan, and at least this many
credits. It limits the damage of a digit too many, or of a scope or a role in the wrong hands. It
must not hinder work: ten months are more than support gives at once, and a plan that grants little
or nothing can still have generous exceptions."""

_LONGEST_ID = 64


class BillingInterval(StrEnum):
    """How often a user pays. A plan says which payers get its monthly credits."""

    MONTHLY = "monthly"
    YEARLY = "yearly"


class AllocateOn(StrEnum):
    """The day of the month on which the periods of a plan's users begin."""

    FIRST_OF_MONTH = "first_of_month"
    ANNIVERSARY = "anniversary"
    """The day of ``started_at``, where the user lives."""


class OnSignup(StrEnum):
    """What a new subscriber gets at once for the period that is running."""

    NONE = "none"
    FULL = "full"
    PRORATED = "prorated"
    """The amount's part for the days that are left, rounded up."""


class OnPlanChange(StrEnum):
    """What a user gets for moving up to the plan within a period."""

    NEXT_PERIOD = "next_period"
    """Nothing: its credits come with the next period."""
    DIFFERENCE = "difference"
    """The part of the difference for the days that are left, rounded up, at once."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a subscription to this plan grants."""

    id: str
    name: str
    monthly_credits: int
    """Credits granted for each period; 0 for a plan that grants none."""
    credit_lifetime: Lifetime
    """For how long the credits can be spent."""
    lowest: bool
    """Whether it is the lowest plan of the product; exactly one is."""
    grants_since: date | None = None
    """The local day on which the plan began to grant: months that began earlier are never granted
    its amount. None for a plan that has always granted."""
    low_balance_threshold: int | None = None
    """A usage that takes the balance below it triggers an email; None for no such emails."""
    most_credits_at_once: int | None = None
    """The `cap` in the file; None for the default."""
    priority: int = DEFAULT_PRIORITY
    """The priority of the batches it allocates: 0 to 100, lower is spent first."""
    allocate_on: AllocateOn = AllocateOn.FIRST_OF_MONTH
    balance_cap: int | None = None
    """An allocation fills the user's balance, available and held, up to it; None for no cap."""
    on_signup: OnSignup = OnSignup.NONE
    on_plan_change: OnPlanChange = OnPlanChange.NEXT_PERIOD
    billing_intervals: frozenset[BillingInterval] = frozenset({BillingInterval.YEARLY})
    """The billing intervals of the subscriptions that the plan grants credits to."""
    yearly_since: date | None = None
    monthly_since: date | None = None
    """The local day on which the plan began to grant to monthly-billed subscriptions: they are
    granted nothing for months that began earlier. None if it always has."""

    def since(self, interval: BillingInterval) -> date | None:
        """The day on which the plan began to grant to subscriptions of a billing interval."""
        return self.monthly_since if interval is BillingInterval.MONTHLY else self.yearly_since

    @property
    def cap(self) -> int:
        """The most that a subscription's own amount, or one grant by hand, gives on this plan."""
        return cap(self.monthly_credits, self.most_credits_at_once)


def cap(monthly_credits: int, most_credits_at_once: int | None) -> int:
    """The cap of own amounts and manual grants on a plan, from its value in the file."""
    if most_credits_at_once is not None:
        return most_credits_at_once
    return min(MAXIMUM_AMOUNT, max(LEAST_CAP, MOST_MONTHS_AT_ONCE * monthly_credits))


@dataclass(frozen=True)
class PlanCatalogue:
    """All plans, in the order of the file."""

    plans: tuple[Plan, ...]

    def get(self, plan_id: object, field: str = "plan") -> Plan:
        """The plan called ``plan_id``; raises InvalidInput on ``field``."""
        if not isinstance(plan_id, str):
            raise InvalidInput.of(field, f"must be the id of a plan: {self._choices()}")
        if len(plan_id) > _LONGEST_ID:
            length = f"is {len(plan_id)} characters long"
            raise InvalidInput.of(field, f"must be the id of a plan: {self._choices()}; {length}")
        plan = self._by_id.get(plan_id)
        if plan is None:
            meant = nearest(plan_id, self._by_id)
            advice = f"did you mean {meant!r}?" if meant else f"the plans are {self._choices()}"
            raise InvalidInput.of(field, f"unknown plan {plan_id!r}; {advice}")
        return plan

    def cap_of(self, plan_id: str) -> int:
        """The cap of a plan; if it has left the catalogue, the cap of the lowest plan."""
        return self._by_id.get(plan_id, self.lowest).cap

    def grants_to(self, plan_id: str, interval: BillingInterval) -> bool:
        """Whether a plan grants anything to subscriptions of a billing interval.

        Nobody knows the rules of a plan that has left the catalogue. It counts as granting, except
        to monthly subscriptions if no plan in the catalogue grants to them.
        """
        if plan_id in self._by_id:
            return interval in self._by_id[plan_id].billing_intervals
        is_heard_of = any(interval in plan.billing_intervals for plan in self.plans)
        return interval is BillingInterval.YEARLY or is_heard_of

    def allocates_on(self, on: AllocateOn) -> bool:
        """Whether the periods of any plan begin so."""
        return any(plan.allocate_on is on for plan in self.plans)

    @cached_property
    def tops_up(self) -> bool:
        """Whether any plan gives something to a user who moves up to it."""
        return any(plan.on_plan_change is OnPlanChange.DIFFERENCE for plan in self.plans)

    def __contains__(self, plan_id: object) -> bool:
        return plan_id in self._by_id

    @cached_property
    def lowest(self) -> Plan:
        """The lowest plan of the product."""
        return next(plan for plan in self.plans if plan.lowest)

    @cached_property
    def _by_id(self) -> dict[str, Plan]:
        return {plan.id: plan for plan in self.plans}

    def _choices(self) -> str:
        return ", ".join(repr(plan.id) for plan in self.plans)
