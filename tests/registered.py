"""Subscriptions as requests make them."""

from collections.abc import Collection, Mapping
from datetime import datetime

from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription
from chalicelib.domain.terms import Terms, read_terms, successor


def register(
    values: Mapping[str, object],
    catalogue: PlanCatalogue,
    now: datetime,
    existing: Subscription | None = None,
    kept: Collection[str] = (),
) -> Subscription:
    """What an edit makes of a subscription, or of none."""
    terms = read_terms(values, catalogue, now, Terms.of(existing) if existing else None, kept)
    return successor(existing, terms, catalogue, now)
