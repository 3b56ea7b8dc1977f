"""A finding of one check, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How serious a finding is."""

    FINE = "fine"
    UNKNOWN = "unknown"
    """The check could not be made; the finding says why."""
    WARNING = "warning"
    """Worth knowing, but it can stay as it is."""
    BAD = "bad"
    """Something must be done."""


@dataclass(frozen=True)
class Finding:
    """The result of one check. ``fix`` is what to type or read next.

    ``stops``: `make deploy` does not begin. The deployment would fail, or do something
    irreversible.
    """

    check: str
    state: State
    says: str
    fix: str = ""
    stops: bool = False


def fine(check: str, says: str) -> Finding:
    """All is as it should be."""
    return Finding(check, State.FINE, says)


def unknown(check: str, says: str, fix: str = "") -> Finding:
    """The check could not be made."""
    return Finding(check, State.UNKNOWN, says, fix)


def warning(check: str, says: str, fix: str) -> Finding:
    """Worth knowing."""
    return Finding(check, State.WARNING, says, fix)


def bad(check: str, says: str, fix: str, *, stops: bool = False) -> Finding:
    """Something must be done."""
    return Finding(check, State.BAD, says, fix, stops)


def plural(number: int, what: str) -> str:
    """``3 emails``, ``1 email``."""
    return f"{number:,} {what if number == 1 else many(what)}"


def many(what: str) -> str:
    """``emails``, ``event buses``, ``mail identities``."""
    if what.endswith("ty"):
        return f"{what.removesuffix('y')}ies"
    return f"{what}es" if what.endswith("s") else f"{what}s"
