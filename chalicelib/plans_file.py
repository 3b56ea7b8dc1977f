"""Reads ``plans.toml``, the file in which the team defines the plans.

The tests and the deployment report a mistake with the line to fix. No part of a wrong catalogue is
ever used.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from datetime import date, time
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

from chalicelib.domain.batches import DEFAULT_PRIORITY
from chalicelib.domain.fields import MAXIMUM_AMOUNT, MOST_PRIORITY
from chalicelib.domain.lifetimes import Days, Lifetime, Months
from chalicelib.domain.nearest import nearest
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

LONGEST_LIFETIME_DAYS = 3_650
LONGEST_LIFETIME_MONTHS = 120
"""Longer than ten years is a slip of the keyboard: credits that never expire omit the key."""

_YEARLY = [BillingInterval.YEARLY]

_ID = re.compile(r"[a-z0-9_-]{1,64}")
_LONGEST_NAME = 100
_LONGEST_SHOWN = 80
_MOST_PROBLEMS = 50

# A TOMLDecodeError is a ValueError, and so is Python's error for a number of thousands of digits.
_UNREADABLE = (ValueError, RecursionError)

_NEVER = "(leave it out for credits that never expire)"
_DEFAULT = (
    f"(leave it out for {MOST_MONTHS_AT_ONCE} months' credits, or {LEAST_CAP:,} if that is more)"
)
_FIFO = f"(leave it out for {DEFAULT_PRIORITY}, as all credits that name none)"
_NO_CAP = "(leave it out for no cap)"
_ALWAYS = "(leave it out for a plan that has always granted)"

# A slip in the century would grant twelve months at once, or nothing for a lifetime.
_YEARS_TO_GRANT_SINCE = range(2000, 2100)


class CatalogueError(ValueError):
    """The catalogue is wrong. A line of text for each of the first mistakes, with the line to fix.

    It is not one of the refusals in ``errors``: nothing starts, so no request is answered with it.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        told = list(problems)
        more = len(told) - _MOST_PROBLEMS
        if more > 0:
            told[_MOST_PROBLEMS:] = [f"and {more:,} more"]
        super().__init__("\n".join(told))


def parse_catalogue(text: str, source: str = "plans.toml") -> PlanCatalogue:
    """Read a catalogue; ``source`` is its name in the reports of mistakes.

    Raises CatalogueError with every mistake, not only the first, in the order of the lines.
    """
    # Some editors begin a file with a byte order mark, some end its lines in two characters.
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    lines = _Lines(text)
    try:
        document = tomllib.loads(text)
    except _UNREADABLE as error:
        # tomllib's message without its place. It names the place where it gave up. For a bracket or
        # a quote that is never closed, that is far below the line to fix.
        reason = str(error).rpartition(" (at ")[0] or str(error)
        message = f"{source}, line {lines.of_syntax_error()}: is not valid TOML: {reason}"
        raise CatalogueError([message]) from error
    problems = sorted(_problems(document, lines), key=lambda problem: problem[0])
    if problems:
        raise CatalogueError(f"{source}, line {line}: {message}" for line, message in problems)
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


_Path = tuple[str | int, ...]
_Problem = tuple[int, str]


class _Lines:
    """Finds the line of a key, a table or a mistake in a TOML text.

    tomllib returns values but not their lines. So we let it read the first line, the first two
    lines, and so on. A value that is new in a result stands on the added line; if it takes several
    lines, it begins on the first line since the last result. This works for every way of writing
    TOML. It is slow only for a file with a mistake.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _readable(self) -> list[tuple[int, dict[str, Any]]]:
        """How many lines from the top can be read together, and their content: each such number."""
        found: list[tuple[int, dict[str, Any]]] = [(0, {})]
        lines = self._text.split("\n")
        for count in range(1, len(lines) + 1):
            try:
                found.append((count, tomllib.loads("\n".join(lines[:count]))))
            except _UNREADABLE:
                continue  # in the middle of a statement, or after a mistake
        return found

    def of(self, *path: str | int) -> int:
        """The line on which ``path`` begins: a key, or the header of a table."""
        steps = pairwise(self._readable)
        return next(before + 1 for (before, _), (_, document) in steps if _has(document, path))

    def of_syntax_error(self) -> int:
        """The line on which the unreadable statement begins.

        All the text before it can be read, and no longer part of the text can.
        """
        return self._readable[-1][0] + 1


def _has(value: Any, path: _Path) -> bool:
    try:
        for step in path:
            value = value[step]
    except (LookupError, TypeError):
        return False
    return True


def _problems(document: Mapping[str, Any], lines: _Lines) -> list[_Problem]:
    problems = [
        (lines.of(key), f"{key} is not a known key; {_advice(key, ['plans'])}")
        for key in document
        if key != "plans"
    ]
    tables = document.get("plans", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [*problems, (lines.of("plans"), "plans must be written as [[plans]] tables")]
    if not tables:
        line = lines.of("plans") if "plans" in document else 1
        return [*problems, (line, "has no plans; add a [[plans]] table for each")]
    first_with: dict[str, int] = {}
    lowest: int | None = None
    for index, table in enumerate(tables):
        problems += _plan_problems(index, table, lines)
        plan_id = table.get("id")
        if isinstance(plan_id, str) and plan_id in first_with:
            taken = f"plans[{first_with[plan_id]}] on line {lines.of('plans', first_with[plan_id])}"
            message = f"plans[{index}].id {_shown(plan_id)} is already the id of {taken}"
            problems.append((lines.of("plans", index, "id"), message))
        elif isinstance(plan_id, str):
            first_with[plan_id] = index
        if table.get("lowest") is True and lowest is not None:
            message = f"plans[{index}].lowest is true, but plans[{lowest}] is the lowest already"
            problems.append((lines.of("plans", index, "lowest"), message))
        elif table.get("lowest") is True:
            lowest = index
    if lowest is None:
        message = "no plan is the lowest; add lowest = true to the one that is"
        problems.append((lines.of("plans", 0), message))
    return problems


def _plan_problems(index: int, table: Mapping[str, Any], lines: _Lines) -> list[_Problem]:
    here = f"plans[{index}]"
    problems = [
        (lines.of("plans", index), f"{here}.{key} is missing")
        for key in _REQUIRED
        if key not in table
    ]
    for key, value in table.items():
        if key not in _RULES:
            message = f"{here}.{key} is not a known key; {_advice(key, _RULES)}"
            problems.append((lines.of("plans", index, key), message))
        elif (rule := _RULES[key](value)) is not None:
            message = f"{here}.{key} must be {rule}, is {_shown(value)}"
            problems.append((lines.of("plans", index, key), message))
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


# For each key: what its value must be, or None if it is.


def _id_rule(value: Any) -> str | None:
    fits = isinstance(value, str) and _ID.fullmatch(value) is not None
    return None if fits else "1 to 64 of the characters a-z, 0-9, _ and -"


def _name_rule(value: Any) -> str | None:
    # One printable line: it ends up in the subject of mails.
    fits = (
        isinstance(value, str)
        and 0 < len(value) <= _LONGEST_NAME
        and value.isprintable()
        and value == value.strip()
    )
    return None if fits else f"a text of 1 to {_LONGEST_NAME} printable characters"


def _credits_rule(value: Any) -> str | None:
    # Not isinstance: to Python, true is the number 1.
    if type(value) is not int or value < 0:
        return "a whole number of 0 or more"
    return None if value <= MAXIMUM_AMOUNT else f"at most {MAXIMUM_AMOUNT:,}"


def _lifetime_rule(value: Any) -> str | None:
    if type(value) is not int or value < 1:
        return f"a whole number of 1 or more {_NEVER}"
    fits = value <= LONGEST_LIFETIME_DAYS
    return None if fits else f"at most {LONGEST_LIFETIME_DAYS:,} {_NEVER}"


def _lowest_rule(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _since_rule(value: Any) -> str | None:
    # Not isinstance: to Python, a date and time is a date.
    if type(value) is not date:
        return f"a date written like 2027-01-01, without quotes and without a time {_ALWAYS}"
    years = _YEARS_TO_GRANT_SINCE
    return None if value.year in years else f"in a year from {years[0]} to {years[-1]} {_ALWAYS}"


def _threshold_rule(value: Any) -> str | None:
    if type(value) is not int or value < 1:
        return "a whole number of 1 or more (leave it out for no such mails)"
    return None if value <= MAXIMUM_AMOUNT else f"at most {MAXIMUM_AMOUNT:,}"


def _most_rule(value: Any) -> str | None:
    if type(value) is not int or value < 1:
        return f"a whole number of 1 or more {_DEFAULT}"
    return None if value <= MAXIMUM_AMOUNT else f"at most {MAXIMUM_AMOUNT:,} {_DEFAULT}"


def _balance_cap_rule(value: Any) -> str | None:
    if type(value) is not int or value < 1:
        return f"a whole number of 1 or more {_NO_CAP}"
    return None if value <= MAXIMUM_AMOUNT else f"at most {MAXIMUM_AMOUNT:,} {_NO_CAP}"


def _choice_rule(choices: type[StrEnum]) -> Callable[[Any], str | None]:
    words = [choice.value for choice in choices]
    rule = f"one of {', '.join(map(repr, words))}"
    return lambda value: None if value in words else rule


def _priority_rule(value: Any) -> str | None:
    fits = type(value) is int and 0 <= value <= MOST_PRIORITY
    return None if fits else f"a whole number from 0 to {MOST_PRIORITY} {_FIFO}"


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
_RULES: dict[str, Callable[[Any], str | None]] = {
    "id": _id_rule,
    "name": _name_rule,
    "monthly_credits": _credits_rule,
    "credit_lifetime_days": _lifetime_rule,
    "lowest": _lowest_rule,
    "grants_since": _since_rule,
    "low_balance_threshold": _threshold_rule,
    "most_credits_at_once": _most_rule,
    "priority": _priority_rule,
    "balance_cap": _balance_cap_rule,
    "on_signup": _choice_rule(OnSignup),
    "on_plan_change": _choice_rule(OnPlanChange),
    "credit_lifetime_months": _months_rule,
    "allocate_on": _allocate_rule,
    "billing_intervals": _intervals_rule,
    "yearly_since": _since_rule,
    "monthly_since": _since_rule,
}


def _shown(value: Any) -> str:
    """A value as TOML writes it, cut to what fits on a line."""
    if isinstance(value, date | time):
        text = str(value)
    else:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def _advice(wrong: str, known: Iterable[str]) -> str:
    known = list(known)
    meant = nearest(wrong, known)
    return f"did you mean {meant!r}?" if meant else f"the known keys are {', '.join(known)}"
