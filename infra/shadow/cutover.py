"""The checks before the switch that turns the ledgers of a shadow into the real ones.

The switch changes only the parameter Shadow: it then holds the instant of the switch. Users and
programs are told about everything posted from then on.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from infra.deployment import shadows
from infra.doctor.finding import Finding, bad, fine, warning
from infra.shadow.nights import Night, clean_nights

COMPARE = "make shadow CSV=old.csv"


def judge_mode(stage: str, shadow: str | None) -> Finding:
    """Whether the stage is a shadow. ``shadow``: its parameter; None if it is not deployed."""
    if shadow == shadows.ON:
        return fine("shadow", f"{stage} is a shadow, and has sent nothing")
    return bad(
        "shadow",
        f"{stage} is no shadow: its ledgers count already",
        "A stage is a shadow from its first deployment on: docs/migrating.md",
    )


def judge_nights(nights: Sequence[Night], today: date, wanted: int) -> Finding:
    """Whether there were enough nights in a row without unexplained differences, up to now."""
    if not wanted:
        return warning("nights", "not looked at, because NIGHTS is 0", COMPARE)
    row = clean_nights(nights, today)
    says = f"{row} in a row without an unexplained difference"
    if row >= wanted:
        return fine("nights", says)
    return bad(
        "nights",
        f"{says}, and {wanted} are wanted: {_end_of_row(nights, today, row)}",
        f"Compare every night: {COMPARE}; a team that decides so switches earlier: NIGHTS={row}",
    )


def _end_of_row(nights: Sequence[Night], today: date, row: int) -> str:
    """The reason why the row does not reach further back, in words."""
    days = {night.day: night for night in nights}
    last = today if today in days else today - timedelta(days=1)
    night = days.get(last - timedelta(days=row))
    if night is None:
        return f"nothing was compared on {last - timedelta(days=row)}"
    if not night.users:
        return f"nobody was compared on {night.day}"
    return f"on {night.day} there were {night.unexplained:,} of {night.users:,} users"
