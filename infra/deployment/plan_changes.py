"""Shows what a deployment changes about the plans. Refuses plans that would grant for the past.

The deployed catalogue is read from the running code, so no copy has to be kept up to date. If a
plan that granted nothing begins to grant, users would get up to twelve months that began before. So
the catalogue must name the day from which it grants, and that day must be after the deployment.
"""

from __future__ import annotations

import io
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from chalicelib.domain.lifetimes import Days, Lifetime, Months
from chalicelib.domain.plans import (
    AllocateOn,
    BillingInterval,
    OnPlanChange,
    OnSignup,
    Plan,
    PlanCatalogue,
    cap,
)
from infra.deployment.packaging import PLANS
from infra.session import AwsError

_FURTHEST_AHEAD = timedelta(hours=14)
"""The zone in which a day begins first: that of Kiritimati."""


class UnreadableDeploymentError(AwsError):
    """The deployed plans could not be read; the message says why."""


@dataclass(frozen=True)
class Terms:
    """The terms of a deployed plan that a later deployment compares."""

    monthly_credits: int
    credit_lifetime: Lifetime
    grants_since: date | None
    most_credits_at_once: int | None = None
    balance_cap: int | None = None
    on_signup: str = OnSignup.NONE
    on_plan_change: str = OnPlanChange.NEXT_PERIOD
    allocate_on: AllocateOn = AllocateOn.FIRST_OF_MONTH
    billing_intervals: frozenset[str] = frozenset({BillingInterval.YEARLY})
    since: Mapping[BillingInterval, date] = field(default_factory=dict)
    """By billing interval, the day on which the plan began to grant to it."""

    @property
    def cap(self) -> int:
        """The most that a user's own amount, or one manual grant, can be."""
        return cap(self.monthly_credits, self.most_credits_at_once)


def deployed(lambda_: Any, function: str) -> str | None:
    """The catalogue in the code of a deployed function; None if there is no such function.

    Raises `UnreadableDeploymentError`, and what botocore raises.
    """
    try:
        location = lambda_.get_function(FunctionName=function)["Code"]["Location"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            return None
        raise
    try:
        with zipfile.ZipFile(io.BytesIO(_download(location))) as archive:
            return archive.read(PLANS).decode(errors="replace")
    except (zipfile.BadZipFile, KeyError) as error:  # KeyError: there is no such file in it
        raise UnreadableDeploymentError(
            f"The plans in the code of function {function} cannot be read: {error}. Without them "
            "it is not known which plans begin to grant."
        ) from error


def _download(location: str) -> bytes:
    answer = URLLib3Session().send(AWSRequest(method="GET", url=location).prepare())
    if answer.status_code != 200:
        raise UnreadableDeploymentError(
            f"The deployed code cannot be read: HTTP status {answer.status_code}. Try again."
        )
    content: bytes = answer.content
    return content


def terms_of(text: str) -> dict[str, Terms]:
    """The terms in a catalogue of any release. Unknown keys are ignored.

    Raises ValueError when the text is not a catalogue.
    """
    try:
        return {table["id"]: _terms_of_table(table) for table in tomllib.loads(text)["plans"]}
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is no catalogue of plans: {error}") from error


def _terms_of_table(table: Mapping[str, Any]) -> Terms:
    days, months = table.get("credit_lifetime_days"), table.get("credit_lifetime_months")
    terms = Terms(
        table["monthly_credits"],
        Months(months) if months else Days(days) if days else None,
        table.get("grants_since"),
        table.get("most_credits_at_once"),
        table.get("balance_cap"),
        table.get("on_signup", OnSignup.NONE),
        table.get("on_plan_change", OnPlanChange.NEXT_PERIOD),
        AllocateOn(table.get("allocate_on", AllocateOn.FIRST_OF_MONTH)),
        frozenset(table.get("billing_intervals", [BillingInterval.YEARLY])),
        {
            interval: table[key]
            for interval in BillingInterval
            if (key := f"{interval}_since") in table
        },
    )
    # To Python, a date and time is a date, and cannot be compared with one.
    numbers = {
        type(number) for number in (days, months, terms.most_credits_at_once, terms.balance_cap)
    }
    if type(terms.monthly_credits) is not int or not numbers <= {int, type(None)}:
        raise TypeError(f"{table['id']!r} has an amount or a lifetime that is no number")
    for since in (terms.grants_since, *terms.since.values()):
        if type(since) not in (date, type(None)):
            raise TypeError(f"{table['id']!r} grants since {since!r}")
    return terms


def refusals(before: Mapping[str, Terms], after: PlanCatalogue, now: datetime) -> list[str]:
    """Why a catalogue must not be deployed: a line for each grant it would make for the past."""
    furthest = (now + _FURTHEST_AHEAD).date()
    found = (
        grants.refusal(furthest)
        for plan in after.plans
        for grants in _grants(before.get(plan.id, NOTHING), plan)
    )
    return [refusal for refusal in found if refusal]


NOTHING = Terms(0, None, None)
"""The terms of a missing plan: it grants nothing."""


@dataclass(frozen=True)
class _Grants:
    """One of the things that a plan grants, and the day since which it does.

    ``did``: whether the deployed plan grants it. ``was``: the day that it names.
    """

    plan: Plan
    key: str
    begins: str
    whom: str
    did: bool
    was: date | None
    since: date | None

    def refusal(self, furthest: date) -> str | None:
        """Why it must not be deployed; ``furthest`` is today's latest local date in any zone."""
        if not self.did:
            return self._refusal_to_begin(furthest)
        return None if self.since == self.was else self._refusal_to_move(furthest)

    def _refusal_to_begin(self, furthest: date) -> str | None:
        """Why a plan that granted nothing must not begin to grant."""
        what = f"Plan {self.plan.id!r} begins to grant {self.begins}"
        line = f"{_table(self.plan)}: {self.key} = {_first_of_next_month(furthest)}"
        if self.since is None:
            return f"{what} and does not say since when. Add to {line}"
        if self.since <= furthest:
            return f"{what}, and {self.since} is no day ahead. Write in {line}"
        return None

    def _refusal_to_move(self, furthest: date) -> str | None:
        """Why a plan that already grants must not get another day."""
        was, since = self.was, self.since
        here, put_back = f"Plan {self.plan.id!r}", f"{_table(self.plan)}: {self.key} = {was}"
        if was is not None and (since is None or since < was):
            given = "always" if since is None else f"since {since}"
            return (
                f"{here} has granted{self.whom} since {was} and would have granted{self.whom} "
                f"{given}. Put back in {put_back}"
            )
        if since is not None and since <= furthest:
            leave = f"Write in {put_back}" if was else f"Take the line out of {_table(self.plan)}"
            return f"{here} grants{self.whom} already, and {since} is no day ahead. {leave}"
        return None


def _grants(before: Terms, plan: Plan) -> Iterator[_Grants]:
    """What a plan grants: in general, and to the subscriptions of each billing interval."""
    if plan.monthly_credits:
        amount = f"{plan.monthly_credits:,} credits a month"
        did, was = bool(before.monthly_credits), before.grants_since
        yield _Grants(plan, "grants_since", amount, "", did, was, plan.grants_since)
    for interval in BillingInterval:
        if interval in plan.billing_intervals:
            key, whom = f"{interval}_since", f"to {interval} subscriptions"
            did, was = interval in before.billing_intervals, before.since.get(interval)
            yield _Grants(plan, key, whom, f" {whom}", did, was, plan.since(interval))


def _table(plan: Plan) -> str:
    return f'the table with id = "{plan.id}" in {PLANS}'


def _first_of_next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def changes(before: Mapping[str, Terms], after: PlanCatalogue) -> Iterator[str]:
    """What a deployment changes about the plans: one line for each plan and change."""
    for plan_id, terms in before.items():
        if plan_id not in after:
            yield (
                f"Plan {plan_id!r} is removed: its users get no credits until they are "
                f"moved to another plan (it granted {terms.monthly_credits:,} a month)"
            )
    for plan in after.plans:
        yield from _changes_of(before.get(plan.id), plan)


def _changes_of(before: Terms | None, plan: Plan) -> Iterator[str]:
    here = f"Plan {plan.id!r}"
    since = f" since {plan.grants_since}" if plan.grants_since else ""
    if before is None:
        yield f"{here} is new: {plan.monthly_credits:,} credits a month{since}"
        return
    if before.monthly_credits != plan.monthly_credits:
        yield (
            f"{here} grants {plan.monthly_credits:,} credits a month{since}, not "
            f"{before.monthly_credits:,}, from now on"
        )
    if before.credit_lifetime != plan.credit_lifetime:
        yield (
            f"{here}: credits granted from now on {_lifetime(plan.credit_lifetime)}; "
            f"those before {_lifetime(before.credit_lifetime)}"
        )
    if before.cap != plan.cap:
        lower = (
            f"; of an own amount above it, {plan.cap:,} are allocated from now on"
            if plan.cap < before.cap
            else ""
        )
        yield (
            f"{here}: own amounts and grants by hand are at most {plan.cap:,}, not "
            f"{before.cap:,}{lower}"
        )
    if before.balance_cap != plan.balance_cap:
        yield (
            f"{here}: allocations from now on fill up to {_up_to(plan.balance_cap)}; "
            f"those before, to {_up_to(before.balance_cap)}"
        )
    if before.on_signup != plan.on_signup:
        yield (
            f"{here}: new subscribers from now on are granted of the running month "
            f"{_AT_ONCE[plan.on_signup]} at once"
        )
    if before.on_plan_change != plan.on_plan_change:
        tops_up = plan.on_plan_change is OnPlanChange.DIFFERENCE
        what = "the part of the difference that is left, at once" if tops_up else "nothing at once"
        yield f"{here}: a user who moves up to it within a month from now on is granted {what}"
    if before.grants_since != plan.grants_since and before.monthly_credits:
        was = before.grants_since or "always"
        yield f"{here} grants from {plan.grants_since} on; until now that was: {was}"
    yield from _changes_of_billing(before, plan)
    if before.allocate_on != plan.allocate_on:
        yield (
            f"{here}: months begin on the {_DAYS[plan.allocate_on]} from now on, not on the "
            f"{_DAYS[before.allocate_on]}; none is granted twice, and one whose new day is over "
            "comes with the next, or by a run of it"
        )


def _changes_of_billing(before: Terms, plan: Plan) -> Iterator[str]:
    here = f"Plan {plan.id!r}"
    for interval in BillingInterval:
        whom = f"{interval} subscriptions"
        was, since = before.since.get(interval), plan.since(interval)
        if interval not in plan.billing_intervals:
            if interval in before.billing_intervals:
                yield f"{here} grants nothing to {whom} from now on"
        elif interval not in before.billing_intervals:
            yield f"{here} begins to grant to {whom} since {since}"
        elif was != since:
            yield (
                f"{here} grants to {whom} from {since} on; until now that was: {was or 'always'}"
            )


_DAYS = {
    AllocateOn.FIRST_OF_MONTH: "1st",
    AllocateOn.ANNIVERSARY: "day on which the subscription started",
}


def _lifetime(lifetime: Lifetime) -> str:
    match lifetime:
        case Days(days):
            return f"live {days} days"
        case Months(months):
            return f"live {months} months"
        case None:
            return "never expire"


_AT_ONCE = {
    OnSignup.NONE: "nothing",
    OnSignup.FULL: "all",
    OnSignup.PRORATED: "the part that is left",
}


def _up_to(balance_cap: int | None) -> str:
    return f"{balance_cap:,} credits" if balance_cap else "any balance"
