"""Writes the users who differ, and the credits to compensate them, as two CSV files.

The second is a promotion (docs/promotions.md): the missing credits of all users who would have less
after the switch. `make grant` grants it if the team decides so.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chalicelib.domain.errors import CreditsError
from chalicelib.domain.lifetimes import Days, Months
from chalicelib.domain.plans import PlanCatalogue
from chalicelib.domain.subscriptions import Subscription, lifetime_of

from .comparison import Comparison

DIFFERENCES = ("user_id", "there", "here", "difference", "explained", "findings")
GRANTS = ("user_id", "amount", "description", "expires_in_days", "source", "notify")

WHY = "Credits that you had before we moved them"

_DAYS_OF_A_MONTH = 31
_DAYS_OF_AN_UNKNOWN_PLAN = 30


@dataclass
class Files:
    """The two files, while they are being written. ``granted``: the users in the second."""

    differences: Any
    grants: Any
    granted: int = 0

    def add(self, found: Comparison, expires_in_days: str) -> None:
        """Adds a user; a user without a difference is in neither file."""
        if found.is_same:
            return
        said = "; ".join(f"{finding} [{finding.credits:+,}]" for finding in found.findings)
        is_explained = "yes" if found.is_explained else "no"
        self.differences.writerow(
            (found.user_id, found.there, found.here, found.difference, is_explained, said)
        )
        if found.difference > 0:
            # They see no difference, so they get no email about it.
            row = (found.user_id, found.difference, WHY, expires_in_days, "adjustment", "false")
            self.grants.writerow(row)
            self.granted += 1


@contextmanager
def writing(differences: Path, grants: Path) -> Iterator[Files]:
    """Writes both files, completely or not at all."""
    differences.parent.mkdir(parents=True, exist_ok=True)
    half = [path.with_suffix(".new") for path in (differences, grants)]
    with (
        half[0].open("w", newline="", encoding="utf-8") as first,
        half[1].open("w", newline="", encoding="utf-8") as second,
    ):
        files = Files(csv.writer(first), csv.writer(second))
        files.differences.writerow(DIFFERENCES)
        files.grants.writerow(GRANTS)
        yield files
    half[0].replace(differences)
    half[1].replace(grants)


def days_of(subscription: Subscription, catalogue: PlanCatalogue) -> str:
    """The lifetime of compensating credits in days: about that of the plan's credits."""
    try:
        lifetime = lifetime_of(subscription, catalogue)
    except CreditsError:
        return str(_DAYS_OF_AN_UNKNOWN_PLAN)
    match lifetime:
        case Days(count):
            return str(count)
        case Months(count):
            return str(count * _DAYS_OF_A_MONTH)
        case _:
            return "never"
