"""A user's past: the lines of their ledger, and their subscription as it was.

A subscription's edits are undone one by one, starting from its present state, by the records of the
edits. These say what the API shows. What is derived from it (a resumption, a sign-up, a step up) is
decided again by `domain.terms`, under the plans in question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from chalicelib.domain.edits import Edit, shown_fields
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.instants import parse_date_or_instant, parse_instant
from chalicelib.domain.plans import BillingInterval, PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, SubscriptionStatus
from chalicelib.domain.terms import Terms, successor


@dataclass(frozen=True, slots=True)
class Past:
    """Everything that a user's replay needs.

    ``entries``: all lines, from the first. ``given_back``: for each usage, the totals that its
    first, second … reversal asked for (from the links of the ledger).
    """

    entries: Sequence[LedgerEntry]
    subscription: Subscription
    edits: Sequence[Edit] = ()
    given_back: Mapping[int, Sequence[int]] = field(default_factory=dict)


class Step(NamedTuple):
    """An edit: when it was made, and the terms after it."""

    at: datetime
    terms: Terms


@dataclass(frozen=True, slots=True)
class Course:
    """A subscription from an instant on.

    ``opening``: its state then; None before the registration. ``is_known``: whether the records of
    edits reach back so far; if not, the state before the first record is used.
    """

    opening: Subscription | None
    steps: tuple[Step, ...]
    is_known: bool


def course_of(
    subscription: Subscription, edits: Iterable[Edit], start: datetime, catalogue: PlanCatalogue
) -> Course:
    """Undoes the edits that were made at an instant or later.

    ``edits`` are the recorded ones, in any order. ``catalogue``: the plans of the time. They are
    needed to compute what steps up had brought by then: no record says it.
    """
    # Edits made since the subscription was read are not in it.
    made = (edit for edit in edits if edit.version <= subscription.version)
    newest_first = sorted(made, key=lambda edit: edit.version, reverse=True)
    version, fields = subscription.version, shown_fields(subscription)
    steps: list[Step] = []
    opening: Subscription | None = None
    is_found = False
    for edit in newest_first:
        if edit.edited_at < start and not is_found:
            opening, is_found = _as(subscription, fields), True
        steps.append(Step(edit.edited_at, _terms(subscription.user_id, fields)))
        fields |= {change.field: change.before for change in edit.changes if change.field in fields}
        version = edit.version - 1
    registered_at = subscription.registered_at
    if version and registered_at and registered_at >= start:
        # The registration is older than the records of edits.
        steps.append(Step(registered_at, _terms(subscription.user_id, fields)))
        version = 0
    first = _as(subscription, fields) if version else None
    steps.reverse()
    earlier = [step for step in steps if step.at < start]
    if is_found and opening:
        opening = replace(opening, raised=_after(first, earlier, catalogue).raised)
    else:
        opening = first
    if not steps:
        opening = opening and replace(opening, raised=subscription.raised)
    return Course(opening, tuple(steps[len(earlier) :]), is_found or version < 2)


def _after(
    first: Subscription | None, steps: Iterable[Step], catalogue: PlanCatalogue
) -> Subscription:
    """The subscription after some edits (at least one)."""
    found = first
    for step in steps:
        found = edited(found, step, catalogue)
    assert found is not None  # noqa: S101 - an edit makes one
    return found


def edited(existing: Subscription | None, step: Step, catalogue: PlanCatalogue) -> Subscription:
    """The subscription after an edit under these plans."""
    return successor(existing, step.terms, catalogue, step.at)


def _as(subscription: Subscription, fields: Mapping[str, Any]) -> Subscription:
    """The subscription with the fields shown then, except those about emails."""
    terms = _terms(subscription.user_id, fields)
    return replace(
        subscription,
        email=None,
        contracts=(),
        suppressed=None,
        suppressed_before=None,
        timezone=terms.timezone,
        plan=terms.plan,
        billing_interval=terms.billing_interval,
        status=terms.status,
        started_at=terms.started_at,
        eligible_from=terms.eligible_from or subscription.eligible_from,
        ends_at=terms.ends_at,
        allocation_amount=terms.allocation_amount,
        observed_at=terms.observed_at,
        resumed_at=_instant("resumed_at", fields),
        raised=None,
    )


def _terms(user_id: str, fields: Mapping[str, Any]) -> Terms:
    """The terms that would ask for these fields, except those about emails."""
    return Terms(
        user_id=user_id,
        email=None,
        timezone=fields["timezone"],
        plan=fields["plan"],
        billing_interval=BillingInterval(fields["billing_interval"]),
        status=SubscriptionStatus(fields["status"]),
        started_at=parse_instant("started_at", fields["started_at"]),
        eligible_from=parse_date_or_instant("eligible_from", fields["eligible_from"]),
        ends_at=_instant("ends_at", fields),
        allocation_amount=fields["allocation_amount"],
        notifications=None,
        observed_at=_instant("observed_at", fields),
    )


def _instant(name: str, fields: Mapping[str, Any]) -> datetime | None:
    return parse_instant(name, fields[name]) if fields[name] else None
