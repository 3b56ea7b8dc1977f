"""Structured logs. Users are named by id at most; addresses and tokens never reach a log."""

from functools import cache

from aws_lambda_powertools import Logger


@cache
def logger() -> Logger:
    """The process's logger; its service name and level come from the environment."""
    return Logger(use_rfc3339=True, utc=True)
