"""Structured logs, and the correlation id that joins the lines of one operation.

    API request, tick, manual-allocate ─► messages ─► ledger entry ─► stream ─► email

An operation gets its id at its start. Messages and entries pass the id on, and every log line has
it. Logs name users by id at most; addresses and tokens never reach a log.
"""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_correlation_id

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

SERVICE = "credits"
"""The service in every line, and the name of Chalice's logger, which is the app's name."""

MOST_PLACES = 40
"""How many places of a traceback are logged, the last ones first."""

_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def correlation_id() -> str | None:
    """The id of the current operation; None outside of operations."""
    return _correlation_id.get()


@contextmanager
def correlated(candidate: object) -> Iterator[None]:
    """Gives the current operation this id within the block.

    An invalid id is ignored (old messages have none): then the id from outside the block stays.
    Threads have the id if they run in a copy of the context.
    """
    try:
        token = _correlation_id.set(parse_correlation_id("correlation_id", candidate))
    except InvalidInput:
        yield
        return
    try:
        yield
    finally:
        _correlation_id.reset(token)


def trace(error: BaseException) -> list[str]:
    """Where an error was raised, and its causes: types and places, without messages."""
    places: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(places) < MOST_PLACES:
        places.append(type(cause).__name__)
        frames = traceback.extract_tb(cause.__traceback__)
        places += [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)]
        cause = cause.__cause__ or cause.__context__
    return places[:MOST_PLACES]


@cache
def logger() -> "Logger":
    """The process's logger; its level comes from the environment.

    It is loaded for its first line: a route that logs nothing does not pay for it.
    """
    from aws_lambda_powertools import Logger

    logger = Logger(SERVICE, use_rfc3339=True, utc=True)
    # A filter, not a key of Powertools: Chalice's own lines pass it, and threads have other ids.
    logging.getLogger(SERVICE).addFilter(_add_correlation_id)
    return logger


def _add_correlation_id(record: logging.LogRecord) -> bool:
    record.correlation_id = correlation_id()
    return True
