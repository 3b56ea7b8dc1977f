"""Structured logs, and the correlation id that joins the lines of one operation.

    API request, tick, manual-allocate ─► messages ─► ledger entry ─► stream ─► mail

An operation gets its id where it comes in, and messages and entries carry it on; every line that
is logged meanwhile has it. Users are named by id at most; addresses and tokens never reach a log.
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
"""The service in every line, and the logger that Chalice writes to: it goes by the app's name."""

MOST_PLACES = 40
"""How much of a traceback is logged, its end first."""

_correlation_id: ContextVar[str | None] = ContextVar("correlation_id", default=None)


def correlation_id() -> str | None:
    """The id of the operation that is under way; None outside of any."""
    return _correlation_id.get()


@contextmanager
def correlated(candidate: object) -> Iterator[None]:
    """Within the block, the operation under way has this id.

    What cannot be one (a message from before there were any has none) is not taken: the id of what
    is around the block stays. Threads have the id if they run in a copy of the context.
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
    """Where an error was raised, and what caused it: kinds and places, and no words."""
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

    Loaded when the first line is written: a route that has nothing to log does not pay for it.
    """
    from aws_lambda_powertools import Logger

    logger = Logger(SERVICE, use_rfc3339=True, utc=True)
    # A filter and no key of Powertools': Chalice's own lines pass it, and threads differ.
    logging.getLogger(SERVICE).addFilter(_add_correlation_id)
    return logger


def _add_correlation_id(record: logging.LogRecord) -> bool:
    if not hasattr(record, "correlation_id"):
        record.correlation_id = correlation_id()
    return True
