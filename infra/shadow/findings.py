"""The kinds of findings of a comparison, in words, and which system is at fault."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Code(StrEnum):
    """Kinds of findings, in the order in which they are shown."""

    UNEXPLAINED = "unexplained"
    UNREADABLE = "unreadable"
    NOT_TOLD = "not_told"
    NOT_THERE = "not_there"
    OTHER_AMOUNT = "other_amount"
    GRANTED_TWICE = "granted_twice"
    NOT_GRANTED = "not_granted"
    WRONG_AMOUNT = "wrong_amount"
    NOT_DUE = "not_due"
    WRONG_ZONE = "wrong_zone"
    WRONG_OFFSET = "wrong_offset"
    LATE = "late"
    EARLY = "early"
    NOT_EXPIRED = "not_expired"
    EXPIRED_AMOUNT = "expired_amount"
    EXPIRED_EARLY = "expired_early"
    EXPIRED_LATE = "expired_late"
    EXPIRED_WRONG_ZONE = "expired_wrong_zone"
    EXPIRED_WRONG_OFFSET = "expired_wrong_offset"
    REFUSED = "refused"
    TOLD_LATE = "told_late"
    TOLD_EARLY = "told_early"
    HELD = "held"

    @property
    def heading(self) -> str:
        """The kind in words."""
        return _TITLES[self]

    @property
    def is_explained(self) -> bool:
        """Whether the fault is not on our side, so that the switch need not wait for it."""
        return self not in _OURS


_OURS = frozenset(
    {Code.UNEXPLAINED, Code.UNREADABLE, Code.NOT_TOLD, Code.NOT_THERE, Code.OTHER_AMOUNT}
)
"""Faults that continue after the switch unless somebody fixes them. All others are the old
system's.
"""

_TITLES = {
    Code.UNEXPLAINED: "unexplained difference",
    Code.UNREADABLE: "cannot be compared",
    Code.NOT_TOLD: "in the old table, not told to Credits",
    Code.NOT_THERE: "told to Credits, not in the old table",
    Code.OTHER_AMOUNT: "told to Credits with another amount",
    Code.GRANTED_TWICE: "granted twice",
    Code.NOT_GRANTED: "not granted",
    Code.WRONG_AMOUNT: "wrong amount granted",
    Code.NOT_DUE: "granted though nothing was due",
    Code.WRONG_ZONE: "granted at midnight of a wrong zone",
    Code.WRONG_OFFSET: "granted at midnight by a wrong DST offset",
    Code.LATE: "granted late",
    Code.EARLY: "granted early",
    Code.NOT_EXPIRED: "not expired",
    Code.EXPIRED_AMOUNT: "wrong amount expired",
    Code.EXPIRED_EARLY: "expired early",
    Code.EXPIRED_LATE: "expired late",
    Code.EXPIRED_WRONG_ZONE: "expired at midnight of a wrong zone",
    Code.EXPIRED_WRONG_OFFSET: "expired at midnight by a wrong DST offset",
    Code.REFUSED: "used there, refused by Credits",
    Code.TOLD_LATE: "told to Credits late, so that credits expired first",
    Code.TOLD_EARLY: "told to Credits early, so that expiring credits were spent",
    Code.HELD: "held by Credits over its expiry",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference with a name.

    ``credits``: how many more the old system has in the end because of it. ``line``: that of its
    file; ``entry``: the number of ours. None if there is none.
    """

    code: Code
    words: str
    at: datetime
    line: int | None = None
    entry: int | None = None
    credits: int = 0

    @property
    def brief(self) -> str:
        """The details besides its heading, and its place in the file."""
        return ", ".join(part for part in (self.words, self._on_line) if part)

    @property
    def _on_line(self) -> str:
        since = "since " if self.code is Code.UNEXPLAINED else ""
        return f"{since}line {self.line}" if self.line else ""

    def __str__(self) -> str:
        on_entry = f"entry {self.entry}" if self.entry else ""
        place = ", ".join(part for part in (self._on_line, on_entry) if part)
        words = f": {self.words}" if self.words else ""
        return f"{self.code.heading}{words}{f' ({place})' if place else ''}"
