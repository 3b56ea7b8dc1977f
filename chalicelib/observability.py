"""Structured logs. Users are named by id at most; addresses and tokens never reach a log."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

SERVICE = "credits"
"""The service in every line, and the logger that Chalice writes to: it goes by the app's name."""


@cache
def logger() -> "Logger":
    """The process's logger; its level comes from the environment.

    Loaded when the first line is written: a route that has nothing to log does not pay for it.
    """
    from aws_lambda_powertools import Logger

    return Logger(SERVICE, use_rfc3339=True, utc=True)
