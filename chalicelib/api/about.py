"""The plans on offer, the state of the API, and its contract."""

from datetime import date
from pathlib import Path

from chalicelib.domain.lifetimes import Days, Lifetime, Months

from . import VERSION
from .answers import Answer
from .calls import Call

CONTRACT = Path(__file__).parent / "openapi.json"

_CACHED = {"Cache-Control": "public, max-age=300"}


def plans(call: Call) -> Answer:
    """The plans, in the order of the catalogue, for every caller with a token."""
    call.authenticated().without_query()
    offered = [
        {
            "id": plan.id,
            "name": plan.name,
            "monthly_credits": plan.monthly_credits,
            "credit_lifetime_days": _count(plan.credit_lifetime, Days),
            "credit_lifetime_months": _count(plan.credit_lifetime, Months),
            "lowest": plan.lowest,
            "grants_since": _day(plan.grants_since),
            "allocate_on": plan.allocate_on.value,
            "billing_intervals": sorted(plan.billing_intervals, reverse=True),
            "yearly_since": _day(plan.yearly_since),
            "monthly_since": _day(plan.monthly_since),
            "balance_cap": plan.balance_cap,
            "on_signup": plan.on_signup.value,
            "on_plan_change": plan.on_plan_change.value,
        }
        for plan in call.services.catalogue.plans
    ]
    return Answer({"plans": offered})


def _count(lifetime: Lifetime, unit: type[Days | Months]) -> int | None:
    return lifetime.count if isinstance(lifetime, unit) else None


def _day(day: date | None) -> str | None:
    return day.isoformat() if day else None


def health(call: Call) -> Answer:
    """States that the API is up, and its version."""
    call.without_query()
    return Answer({"status": "ok", "version": VERSION})


def openapi(call: Call) -> Answer:
    """The contract, as it is in the repository; the same for everybody."""
    call.without_query()
    return Answer(CONTRACT.read_text(encoding="utf-8"), headers=_CACHED)
