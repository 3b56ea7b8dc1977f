"""Microseconds converted to the machine of reference.

Times of two machines cannot be compared. Also, a machine is slower while others are busy on its
host: today everything can take three times as long as yesterday. So measurements of `make bench`
are converted by that of bare botocore beside them. Then a slow machine changes no bill and no
minute.
"""

from __future__ import annotations

from typing import Any

FLOOR_US = 1_042.6
"""CPU of a query and a conditional put with bare botocore, on 2026-11-26: x86_64, Python 3.11.7."""


def conversion(results: Any) -> float:
    """The factor for converting times of a run of `make bench`."""
    return FLOOR_US / float(results["work"]["allocate"]["floor"]["cpu_us"]["median"])
