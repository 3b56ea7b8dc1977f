"""Reads ``stripe.toml``, the file in which the team says what Stripe's prices stand for.

Like ``plans.toml``, it is checked before anything is deployed, and a mistake is reported with the
line to fix.
"""

import re
from collections.abc import Mapping
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.batches import BOUGHT_PRIORITY
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import MAXIMUM_AMOUNT
from chalicelib.domain.plans import BillingInterval, PlanCatalogue
from chalicelib.domain.price_list import CreditPrice, PlanPrice, PriceList
from chalicelib.toml_file import (
    FileError,
    Lines,
    Problem,
    Rule,
    choice_rule,
    priority_rule,
    read,
    repeated_ids,
    shown,
    table_problems,
    unknown_keys,
    whole_rule,
)

LONGEST_EXPIRY_DAYS = 3_650

_ID = re.compile(r"[\x21-\x7e]{1,255}")
_UTC = "UTC"


class PriceListError(FileError):
    """The file is wrong."""


def parse_price_list(text: str, catalogue: PlanCatalogue, source: str = "stripe.toml") -> PriceList:
    """Reads a price list; ``source`` is its name in the reports of mistakes.

    Raises `PriceListError` with every mistake, not only the first, in the order of the lines; a
    plan that is not in the ``catalogue`` is one.
    """
    document = read(
        text, source, lambda found, lines: _problems(found, lines, catalogue), PriceListError
    )
    return PriceList(
        prices={table["id"]: _price(table) for table in document.get("prices", [])},
        timezone=document.get("timezone", _UTC),
        grants_in_trials=document.get("grants_in_trials", True),
        grants_past_due=document.get("grants_past_due", True),
    )


def _price(table: Mapping[str, Any]) -> PlanPrice | CreditPrice | None:
    if "plan" in table:
        return PlanPrice(table["plan"], BillingInterval(table["billing_interval"]))
    if "credits" in table:
        priority = table.get("priority", BOUGHT_PRIORITY)
        return CreditPrice(table["credits"], table.get("expires_in_days"), priority)
    return None


def _problems(document: Mapping[str, Any], lines: Lines, catalogue: PlanCatalogue) -> list[Problem]:
    problems = unknown_keys(document, ["prices", "timezone", *_SETTINGS], lines)
    for key, rule in _SETTINGS.items():
        if key in document and (wanted := rule(document[key])) is not None:
            message = f"{key} must be {wanted}, is {shown(document[key])}"
            problems.append((lines.of(key), message))
    try:
        calendar.parse_timezone("timezone", document.get("timezone", _UTC))
    except InvalidInput as error:
        problems.append((lines.of("timezone"), str(error)))
    tables = document.get("prices", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        return [*problems, (lines.of("prices"), "prices must be written as [[prices]] tables")]
    problems += repeated_ids("prices", tables, lines)
    for index, table in enumerate(tables):
        problems += _price_problems(index, table, lines, catalogue)
    return problems


def _price_problems(
    index: int, table: Mapping[str, Any], lines: Lines, catalogue: PlanCatalogue
) -> list[Problem]:
    here, path = f"prices[{index}]", ("prices", index)
    problems = table_problems(path, table, _RULES, lines)
    if "id" not in table:
        problems.append((lines.of(*path), f"{here}.id is missing"))
    meanings = [key for key in _KEYS_OF if key in table]
    if len(meanings) != 1:
        message = f"{here} must have one of plan, credits and is_ignored"
        problems.append((lines.of(*path), f"{message}; it has {_listed(meanings)}"))
        return problems
    (meaning,) = meanings
    others = {key for keys in _KEYS_OF.values() for key in keys} - {*_KEYS_OF[meaning]}
    for key in table:
        if key in others:
            problems.append((lines.of(*path, key), f"{here}.{key} does not go with {meaning}"))
    if meaning == "plan":
        if "billing_interval" not in table:
            problems.append((lines.of(*path), f"{here}.billing_interval is missing"))
        try:
            catalogue.get(table["plan"])
        except InvalidInput as error:
            wrong = error.errors[0].message
            problems.append((lines.of(*path, "plan"), f"{here}.plan: {wrong}"))
    return problems


def _listed(words: list[str]) -> str:
    return " and ".join(words) or "none"


def _id_rule(value: Any) -> str | None:
    fits = isinstance(value, str) and _ID.fullmatch(value) is not None
    return None if fits else "the id of a price, such as price_1NYx"


def _truth_rule(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _ignored_rule(value: Any) -> str | None:
    return None if value is True else "true (leave the table out for a price that is unknown)"


_SETTINGS: dict[str, Rule] = {
    "grants_in_trials": _truth_rule,
    "grants_past_due": _truth_rule,
}

_RULES: dict[str, Rule] = {
    "id": _id_rule,
    # Checked separately, against the catalogue.
    "plan": lambda _: None,
    "billing_interval": choice_rule(BillingInterval),
    "credits": whole_rule(1, MAXIMUM_AMOUNT, ""),
    "expires_in_days": whole_rule(
        1, LONGEST_EXPIRY_DAYS, "(leave it out for credits that never expire)"
    ),
    "priority": priority_rule(f"(leave it out for {BOUGHT_PRIORITY})"),
    "is_ignored": _ignored_rule,
}

_KEYS_OF = {
    "plan": ("plan", "billing_interval"),
    "credits": ("credits", "expires_in_days", "priority"),
    "is_ignored": ("is_ignored",),
}
"""What a price can stand for, and the keys that each needs."""
