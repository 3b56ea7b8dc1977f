"""The audit: walks users' ledgers from line 1 and names the lines that are wrong."""

import secrets
from collections.abc import Iterator
from itertools import islice
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.errors import CreditsError, InvalidInput, LedgerCorrupt, NotFound
from chalicelib.domain.fields import FieldReader, parse_user_id, shown
from chalicelib.domain.ledger import Account
from chalicelib.metrics import Metric, count
from chalicelib.observability import logger
from chalicelib.refusals import refusal
from chalicelib.services import Services

from .records import waiting
from .sweeps import TIME_TO_HAND_OVER

DAILY_SAMPLE = 200
"""How many ledgers the scheduled audit walks."""

MOST_SAMPLED = 10_000
MOST_NAMED = 20
"""Corrupt ledgers that an answer names; the logs have all."""

USERS_A_PAGE = 100


def audit_ledgers(services: Services, event: object, context: Any) -> dict[str, Any]:
    """Walks the ledgers that were asked for, as many as time allows.

    ``event``: EventBridge's, ``{"user_id": …}``, ``{"sample": n}`` for so many users at random, or
    ``{"timezone": …}`` for those of a zone who can receive credits, optionally ``after`` one of
    them. Answers ``{"success", "verified", "corrupt": [{"user_id", "number", "problem"}],
    "next"}``, where ``next`` is the last user of a zone that was not finished, to go on ``after``.
    A ``user_id`` that nobody has is refused.
    """
    with waiting(context):
        return _audit(services, event, context)


def _audit(services: Services, event: object, context: Any) -> dict[str, Any]:
    try:
        user_ids, may_go_on = _users_asked_for(services, event)
    except CreditsError as error:
        logger().warning("audit refused", code=error.code, detail=str(error))
        return refusal(error)
    verified = 0
    corrupt: list[dict[str, object]] = []
    stopped_after = None
    for user_id in user_ids:
        verified += 1
        try:
            verify_user(services, user_id)
        except NotFound as error:
            if not isinstance(event, dict) or "user_id" not in event:
                continue  # removed since they were listed
            logger().warning("audit refused", code=error.code, detail=str(error))
            return refusal(error)
        except LedgerCorrupt as error:
            named = {"user_id": user_id, "number": error.number, "problem": error.reason}
            corrupt.append(named)
            logger().error("ledger corrupt", extra=named)
        if context.get_remaining_time_in_millis() < TIME_TO_HAND_OVER:
            stopped_after = user_id
            break
    count(Metric.LEDGERS_VERIFIED, verified)
    # Also when there are none: that ends the alarm.
    count(Metric.LEDGERS_CORRUPT, len(corrupt))
    logger().info("audit", verified=verified, corrupt=len(corrupt))
    return {
        "success": True,
        "verified": verified,
        "corrupt": corrupt[:MOST_NAMED],
        "next": stopped_after if may_go_on else None,
    }


def verify_user(services: Services, user_id: str) -> Account:
    """The account that a user's ledger adds up to; see `domain.verification.verify`.

    A ledger without lines is right. Raises `NotFound` where nobody is there to have one.
    """
    account = services.ledger.verify(user_id)
    if account.last is None and services.subscriptions.find(user_id) is None:
        raise NotFound(f"there is no user {user_id}: no subscription and no ledger entries")
    return account


def users_of_zone(services: Services, timezone: str, after: str | None = None) -> Iterator[str]:
    """Everybody in a timezone who can receive allocations."""
    while True:
        page = services.subscriptions.users_of(timezone, after, USERS_A_PAGE)
        yield from page.user_ids
        after = page.last_user_id
        if after is None:
            return


def users_at_random(services: Services, amount: int) -> Iterator[str]:
    """So many users, or all if there are fewer, from a random place of the table on."""
    return islice(services.subscriptions.scan(secrets.token_hex(8), USERS_A_PAGE), amount)


def parse_sample(field: str, value: object) -> int:
    """How many users to take at random."""
    if type(value) is int and 1 <= value <= MOST_SAMPLED:
        return value
    raise InvalidInput.of(
        field, f"must be a whole number of 1 to {MOST_SAMPLED:,}; is {shown(value)}"
    )


def _users_asked_for(services: Services, event: object) -> tuple[Iterator[str], bool]:
    """The users, and whether they have an order in which to go on."""
    if isinstance(event, dict) and "detail-type" in event:
        return users_at_random(services, DAILY_SAMPLE), False
    fields = FieldReader(event, "event")
    user_id = fields.optional("user_id", parse_user_id)
    timezone = fields.optional("timezone", calendar.parse_timezone)
    sample = fields.optional("sample", parse_sample)
    after = fields.optional("after", parse_user_id)
    fields.finish()
    if sum(asked is not None for asked in (user_id, timezone, sample)) != 1:
        raise InvalidInput.of("event", "must have one of user_id, timezone and sample")
    if after is not None and timezone is None:
        raise InvalidInput.of("after", "goes with timezone alone")
    if timezone is not None:
        return users_of_zone(services, timezone, after), True
    if sample is not None:
        return users_at_random(services, sample), False
    return iter([str(user_id)]), False
