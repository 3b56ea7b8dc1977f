"""The plans on offer, the state of the API, and its contract."""

from pathlib import Path

from chalicelib.domain.lifetimes import Days, Lifetime

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
            "credit_lifetime_days": _days(plan.credit_lifetime),
            "lowest": plan.lowest,
            "grants_since": plan.grants_since and plan.grants_since.isoformat(),
        }
        for plan in call.services.catalogue.plans
    ]
    return Answer({"plans": offered})


def _days(lifetime: Lifetime) -> int | None:
    return lifetime.count if isinstance(lifetime, Days) else None


def health(call: Call) -> Answer:
    """Says that the API is up, and its version."""
    call.without_query()
    return Answer({"status": "ok", "version": VERSION})


def openapi(call: Call) -> Answer:
    """The contract, as it is in the repository; the same for everybody."""
    call.without_query()
    return Answer(CONTRACT.read_text(encoding="utf-8"), headers=_CACHED)
