"""The nightly comparisons of a shadow: the result of each, kept in the reports bucket.

    shadow/2026-11-30.json    {"at": 1796000400000, "users": 1000, "same": 990, "explained": 10,
                               "unexplained": 0, "digest": "9f86d0..."}

One for each UTC day. Another comparison overwrites that of its day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from chalicelib.domain.damage import WRONG, Damage, count, instant, text, value_of
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import to_milliseconds
from chalicelib.store.reports import Reports

PREFIX = "shadow/"

MOST_READ = 100
"""How many nights are read: the latest ones, more than three months."""

NIGHTS_BEFORE_THE_SWITCH = 31
"""How many nights without an unexplained difference the switch needs: enough to include a turn of
the month, whenever they begin."""

_KEY = re.compile(rf"{PREFIX}[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}\.json", re.ASCII)


@dataclass(frozen=True, slots=True)
class Night:
    """The result of a comparison, in users.

    ``at``: the end of the compared time. ``same``: users without a difference. ``explained``: users
    whose differences are faults of the old system, exactly to the credit. ``unexplained``: all
    others; it must be zero. ``digest``: the SHA-256 of the file.
    """

    at: datetime
    users: int
    same: int
    explained: int
    unexplained: int
    digest: str

    @property
    def day(self) -> date:
        """The UTC day it is for."""
        return self.at.date()

    @property
    def key(self) -> str:
        """Its key in the reports bucket."""
        return f"{PREFIX}{self.day}.json"

    @property
    def is_clean(self) -> bool:
        """Whether users were compared, and no difference is unexplained."""
        return self.users > 0 and self.unexplained == 0

    def body(self) -> str:
        """The JSON text that is kept."""
        return json.dumps(
            {
                "at": to_milliseconds(self.at),
                "users": self.users,
                "same": self.same,
                "explained": self.explained,
                "unexplained": self.unexplained,
                "digest": self.digest,
            }
        )

    @classmethod
    def parse(cls, body: str) -> Night:
        """Reads what `body` wrote. Raises `Damage`."""
        try:
            values: Any = json.loads(body)
        except WRONG as error:
            raise Damage("is no JSON") from error
        if not isinstance(values, dict):
            raise Damage("is no object")
        return cls(
            at=value_of(values, "at", instant),
            users=value_of(values, "users", count),
            same=value_of(values, "same", count),
            explained=value_of(values, "explained", count),
            unexplained=value_of(values, "unexplained", count),
            digest=value_of(values, "digest", text),
        )


def write(reports: Reports, night: Night) -> None:
    """Stores the result of a night; a later run of the same day replaces it."""
    reports.put(night.key, night.body())


def read(reports: Reports) -> list[Night]:
    """The latest nights, the oldest first. Raises `InvalidInput` for an unreadable one."""
    keys = sorted(key for key in reports.keys(PREFIX) if _KEY.fullmatch(key))
    found = []
    for key in keys[-MOST_READ:]:
        try:
            found.append(Night.parse(reports.get(key)))
        except Damage as error:
            raise InvalidInput.of(
                f"s3://{reports.bucket}/{key}", f"{error}; compare that day again, or delete it"
            ) from error
    return found


def clean_nights(nights: Sequence[Night], today: date) -> int:
    """How many nights in a row had no unexplained difference, up to now.

    The last must be of ``today``, a UTC day, or of the day before. A day without a comparison ends
    the row.
    """
    days = {night.day: night for night in nights}
    day = today if today in days else today - timedelta(days=1)
    row = 0
    while day in days and days[day].is_clean:
        row, day = row + 1, day - timedelta(days=1)
    return row
