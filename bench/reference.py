"""Microseconds as the machine of reference would have measured them.

Times of two machines cannot be compared, and a machine is slower while others are busy on its host:
today everything can take three times as long as yesterday. What `make bench` measures beside bare
botocore is converted by it. So a slow machine changes no bill and no minute.
"""

from __future__ import annotations

from typing import Any

FLOOR_US = 1_042.6
"""CPU of a query and a conditional put with bare botocore, on 2026-11-26: x86_64, Python 3.11.7."""


def conversion(results: Any) -> float:
    """By what to multiply a time of a run of `make bench`."""
    return FLOOR_US / float(results["work"]["allocate"]["floor"]["cpu_us"]["median"])
