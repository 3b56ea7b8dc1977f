"""Reads ``plans.toml``, the file in which the team defines the plans.

The tests and the deployment report a mistake with the line to fix. No part of a wrong catalogue is
ever used.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

from chalicelib.domain.batches import DEFAULT_PRIORITY
from chalicelib.domain.fields import MAXIMUM_AMOUNT
from chalicelib.domain.lifetimes import Days, Lifetime, Months
from chalicelib.domain.plans import (
    LEAST_CAP,
    MOST_MONTHS_AT_ONCE,
    AllocateOn,
    BillingInterval,
    OnPlanChange,
    OnSignup,
    Plan,
    PlanCatalogue,
)
from chalicelib.toml_file import (
    FileError,
    Lines,
    Problem,
    Rule,
    choice_rule,
    priority_rule,
    read,
    repeated_ids,
    table_problems,
    unknown_keys,
    whole_rule,
)

LONGEST_LIFETIME_DAYS = 3_650
LONGEST_LIFETIME_MONTHS = 120
"""Longer than ten years is a typing mistake: for credits that never expire, omit the key."""

_YEARLY = [BillingInterval.YEARLY]

_ID = re.compile(r"[a-z0-9_-]{1,64}")
_LONGEST_NAME = 100

_NEVER = "(leave it out for credits that never expire)"
_DEFAULT = (
    f"(leave it out for {MOST_MONTHS_AT_ONCE} months' credits, or {LEAST_CAP:,} if that is more)"
)
_FIFO = f"(leave it out for {DEFAULT_PRIORITY}, as all credits that name none)"
_NO_CAP = "(leave it out for no cap)"
_ALWAYS = "(leave it out for a plan that has always granted)"

# A wrong century would grant twelve months at once, or nothing for a lifetime.
_YEARS_TO_GRANT_SINCE = range(2000, 2100)


class CatalogueError(FileError):
    """The catalogue is wrong."""


def parse_catalogue(text: str, source: str = "plans.toml") -> PlanCatalogue:
    """Read a catalogue; ``source`` is its name in the reports of mistakes.

    Raises CatalogueError with every mistake, not only the first, in the order of the lines.
    """
    document = read(text, source, _problems, CatalogueError)
    return PlanCatalogue(
        tuple(
            Plan(
                id=table["id"],
                name=table["name"],
                monthly_credits=table["monthly_credits"],
                credit_lifetime=_lifetime(table),
                lowest=table.get("lowest", False),
                grants_since=table.get("grants_since"),
                low_balance_threshold=table.get("low_balance_threshold"),
                most_credits_at_once=table.get("most_credits_at_once"),
                priority=table.get("priority", DEFAULT_PRIORITY),
                balance_cap=table.get("balance_cap"),
                on_signup=OnSignup(table.get("on_signup", OnSignup.NONE)),
                on_plan_change=OnPlanChange(table.get("on_plan_change", OnPlanChange.NEXT_PERIOD)),
                allocate_on=AllocateOn(table.get("allocate_on", AllocateOn.FIRST_OF_MONTH)),
                billing_intervals=frozenset(
                    BillingInterval(word) for word in table.get("billing_intervals", _YEARLY)
                ),
                yearly_since=table.get("yearly_since"),
                monthly_since=table.get("monthly_since"),
            )
            for table in document["plans"]
        )
    )


def _lifetime(table: Mapping[str, Any]) -> Lifetime:
    if "credit_lifetime_months" in table:
        return Months(table["credit_lifetime_months"])
    return Days(table["credit_lifetime_days"]) if "credit_lifetime_days" in table else None


def _problems(document: Mapping[str, Any], lines: Lines) -> list[Problem]:
    problems = unknown_keys(document, ["plans"], lines)
    tables = document.get("plans", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [*problems, (lines.of("plans"), "plans must be written as [[plans]] tables")]
    if not tables:
        line = lines.of("plans") if "plans" in document else 1
        return [*problems, (line, "has no plans; add a [[plans]] table for each")]
    problems += repeated_ids("plans", tables, lines)
    lowest: int | None = None
    for index, table in enumerate(tables):
        problems += _plan_problems(index, table, lines)
        if table.get("lowest") is True and lowest is not None:
            message = f"plans[{index}].lowest is true, but plans[{lowest}] is the lowest already"
            problems.append((lines.of("plans", index, "lowest"), message))
        elif table.get("lowest") is True:
            lowest = index
    if lowest is None:
        message = "no plan is the lowest; add lowest = true to the one that is"
        problems.append((lines.of("plans", 0), message))
    return problems


def _plan_problems(index: int, table: Mapping[str, Any], lines: Lines) -> list[Problem]:
    here = f"plans[{index}]"
    problems = [
        (lines.of("plans", index), f"{here}.{key} is missing")
        for key in _REQUIRED
        if key not in table
    ]
    problems += table_problems(("plans", index), table, _RULES, lines)
    if problems:
        return problems
    if "credit_lifetime_days" in table and "credit_lifetime_months" in table:
        message = f"{here} has two lifetimes; leave out credit_lifetime_days or this line"
        problems.append((lines.of("plans", index, "credit_lifetime_months"), message))
    intervals = table.get("billing_intervals", _YEARLY)
    for interval in BillingInterval:
        if f"{interval}_since" in table and interval not in intervals:
            message = (
                f"{here}.{interval}_since goes with billing_intervals that name '{interval}'; "
                "name it there, or leave this line out"
            )
            problems.append((lines.of("plans", index, f"{interval}_since"), message))
    most = table.get("most_credits_at_once")
    if most is not None and most < (monthly := table["monthly_credits"]):
        message = f"{here}.most_credits_at_once must be at least its monthly_credits, {monthly:,}"
        problems.append((lines.of("plans", index, "most_credits_at_once"), f"{message}, is {most}"))
    return problems


# For each key: what its value must be, or None if it already is.


def _id_rule(value: Any) -> str | None:
    fits = isinstance(value, str) and _ID.fullmatch(value) is not None
    return None if fits else "1 to 64 of the characters a-z, 0-9, _ and -"


def _name_rule(value: Any) -> str | None:
    # One printable line: it appears in the subject of emails.
    fits = (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_NAME
        and value.isprintable()
        and value == value.strip()
    )
    return None if fits else f"a text of 1 to {_LONGEST_NAME} printable characters"


def _lowest_rule(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _since_rule(value: Any) -> str | None:
    # Not isinstance: to Python, a date and time is a date.
    if type(value) is not date:
        return f"a date written like 2027-01-01, without quotes and without a time {_ALWAYS}"
    years = _YEARS_TO_GRANT_SINCE
    return None if value.year in years else f"in a year from {years[0]} to {years[-1]} {_ALWAYS}"


def _months_rule(value: Any) -> str | None:
    fits = type(value) is int and 1 <= value <= LONGEST_LIFETIME_MONTHS
    return None if fits else f"a whole number from 1 to {LONGEST_LIFETIME_MONTHS} {_NEVER}"


def _allocate_rule(value: Any) -> str | None:
    words = " or ".join(f'"{word}"' for word in AllocateOn)
    return None if value in list(AllocateOn) else words


def _intervals_rule(value: Any) -> str | None:
    known = list(BillingInterval)
    fits = (
        isinstance(value, list)
        and bool(value)
        and all(word in known for word in value)
        and len(value) == len({*value})
    )
    return None if fits else 'a list such as ["yearly"] or ["yearly", "monthly"]'


_REQUIRED = ("id", "name", "monthly_credits")
_RULES: dict[str, Rule] = {
    "id": _id_rule,
    "name": _name_rule,
    "monthly_credits": whole_rule(0, MAXIMUM_AMOUNT, ""),
    "credit_lifetime_days": whole_rule(1, LONGEST_LIFETIME_DAYS, _NEVER),
    "lowest": _lowest_rule,
    "grants_since": _since_rule,
    "low_balance_threshold": whole_rule(1, MAXIMUM_AMOUNT, "(leave it out for no such emails)"),
    "most_credits_at_once": whole_rule(1, MAXIMUM_AMOUNT, _DEFAULT),
    "priority": priority_rule(_FIFO),
    "balance_cap": whole_rule(1, MAXIMUM_AMOUNT, _NO_CAP),
    "on_signup": choice_rule(OnSignup),
    "on_plan_change": choice_rule(OnPlanChange),
    "credit_lifetime_months": _months_rule,
    "allocate_on": _allocate_rule,
    "billing_intervals": _intervals_rule,
    "yearly_since": _since_rule,
    "monthly_since": _since_rule,
}
