"""The audit: checks users' ledgers from line 1 and names the wrong lines.

The daily audit also makes the day's digest of anchors. First it compares its sample with the digest
of the day before: the new digest would contain ledgers as they were rewritten since.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.errors import (
    InvalidInput,
    LedgerCorrupt,
    NotFound,
    Unreadable,
)
from chalicelib.domain.fields import FieldReader, parse_user_id, shown
from chalicelib.domain.ledger import Account
from chalicelib.domain.verification import Anchor, Marker
from chalicelib.invocations import is_from_eventbridge
from chalicelib.jobs.answers import refusal
from chalicelib.metrics import Metric, count, flush
from chalicelib.observability import logger
from chalicelib.services import Services
from chalicelib.store.ledger_items import audited_marker, is_marker

from .errors import SomeUsersFailed, describe_failure
from .records import waiting
from .sweeps import TIME_TO_HAND_OVER

DAILY_SAMPLE = 200
"""How many subscribers' ledgers the scheduled audit walks."""

DAILY_ITEMS = 1_000
"""How many items of the ledger it reads as well. It checks each marker among them and audits each
user that it meets, even one without a subscription."""

ITEMS_A_PAGE = 500

MOST_SAMPLED = 10_000
MOST_NAMED = 20
"""The most corrupt ledgers that an answer names; the logs name all."""

USERS_A_PAGE = 100

SETTLED_AFTER = timedelta(hours=1)
"""The least age of the heads in a digest of anchors: a batch with an earlier instant may be written
until then."""


@dataclass
class _Audit:
    """The ledgers to audit, and the findings."""

    user_ids: Iterable[str]
    may_go_on: bool = False
    """Whether the users are ordered, so that a later audit can go on after one."""
    must_be_there: bool = False
    """Whether the event names one user: then an unknown user is a refusal."""
    markers: list[Any] = field(default_factory=list)
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    is_of_the_day: bool = False

    verified: int = 0
    corrupt: list[dict[str, object]] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)
    stopped_after: str | None = None

    def found(self, error: LedgerCorrupt) -> None:
        """Reports a wrong ledger; the first at once, in case this invocation does not end."""
        named = {"user_id": error.user_id, "number": error.number, "problem": error.reason}
        self.corrupt.append(named)
        count(Metric.LEDGERS_CORRUPT)
        logger().error("ledger corrupt", extra=named)
        if len(self.corrupt) == 1:
            flush()

    @contextmanager
    def isolating(self, of_what: str) -> Iterator[None]:
        """Within the block, a failed audit does not stop the others.

        An unknown user is no failure.
        """
        try:
            yield
        except NotFound:
            raise
        except LedgerCorrupt as error:
            self.found(error)
        except Exception as error:  # noqa: BLE001 - what it is shows at the end, which fails
            self.failures[of_what] = error
            logger().error("audit failed", of=of_what, error=describe_failure(error))


def audit_ledgers(services: Services, event: object, context: Any) -> dict[str, Any]:
    """Checks the requested ledgers, as many as time allows.

    ``event``: EventBridge's, ``{"user_id": …}``, ``{"sample": n}`` for that many users at random,
    or ``{"timezone": …}`` for those of a zone who can receive credits, optionally ``after`` one of
    them. Returns ``{"success", "verified", "corrupt": [{"user_id", "number", "problem"}],
    "next"}``, where ``next`` is the last user of a zone that was not finished, to go on ``after``.
    An unknown ``user_id`` is refused. If some users could not be audited, raises `SomeUsersFailed`
    after all others were.
    """
    with waiting(context):
        try:
            audit = _asked_for(services, event)
            if audit.is_of_the_day:
                _use_anchors(services, audit)
                _check_markers(services, audit)
            _walk(services, audit, context)
        except (InvalidInput, NotFound) as error:
            logger().warning("audit refused", code=error.code, detail=str(error))
            return refusal(error)
    count(Metric.LEDGERS_VERIFIED, audit.verified)
    logger().info("audit", verified=audit.verified, corrupt=len(audit.corrupt))
    if audit.failures:
        raise SomeUsersFailed(audit.failures)
    if not audit.corrupt:
        count(Metric.LEDGERS_CORRUPT, 0)  # this ends the alarm
    return {
        "success": True,
        "verified": audit.verified,
        "corrupt": audit.corrupt[:MOST_NAMED],
        "next": audit.stopped_after if audit.may_go_on else None,
    }


def _walk(services: Services, audit: _Audit, context: Any) -> None:
    for user_id in audit.user_ids:
        with audit.isolating(user_id):
            try:
                verify_user(services, user_id, audit.anchors.get(user_id))
            except NotFound:
                if audit.must_be_there:
                    raise
                # Otherwise they were removed after they were listed.
        audit.verified += user_id not in audit.failures
        if context.get_remaining_time_in_millis() < TIME_TO_HAND_OVER:
            audit.stopped_after = user_id
            return


def _check_markers(services: Services, audit: _Audit) -> None:
    """Checks that the markers that were read name existing entries, each its own one."""
    readable: list[Marker] = []
    for item in audit.markers:
        with audit.isolating("markers"):
            readable.append(audited_marker(item))
    with audit.isolating("markers"):
        for wrong in services.ledger.check_markers(readable):
            audit.found(wrong)


def _use_anchors(services: Services, audit: _Audit) -> None:
    """Reads yesterday's anchors, and makes today's; made once, even if repeated."""
    hour = services.now().replace(minute=0, second=0, microsecond=0)
    with audit.isolating("anchors"):
        audit.anchors = services.anchors.find(audit.user_ids).anchors
    with audit.isolating("new anchors"):
        folded = services.anchors.fold(hour - SETTLED_AFTER)
        for head in folded.contradictions:
            problem = "it was anchored before, with another hash"
            audit.found(LedgerCorrupt(head.user, head.number, problem))
        if folded.unreadable:
            raise folded.unreadable[0]


def verify_user(services: Services, user_id: str, anchor: Anchor | None = None) -> Account:
    """The account that a user's ledger adds up to; see `LedgerStore.audit`.

    A ledger without lines is right. Raises `NotFound` for a user who does not exist.
    """
    account = services.ledger.audit(user_id, anchor)
    # A user whose subscription cannot be read does exist.
    with suppress(Unreadable):
        if account.last is None and services.subscriptions.find(user_id) is None:
            raise NotFound(f"there is no user {user_id}: no subscription and no ledger entries")
    return account


def users_of_zone(services: Services, timezone: str, after: str | None = None) -> Iterator[str]:
    """All users in a timezone who can receive allocations."""
    for page in services.subscriptions.pages_of(timezone, USERS_A_PAGE, after):
        yield from page.user_ids


def users_at_random(services: Services, amount: int, start: str | None = None) -> Iterator[str]:
    """A number of users (all if there are fewer), from a random place of the table on.

    ``start`` determines that place.
    """
    start = start or secrets.token_hex(8)
    return islice(services.subscriptions.scan(start, USERS_A_PAGE), amount)


def users_with_ledgers(services: Services) -> Iterator[str]:
    """All users with a ledger, even without a subscription."""
    last = ""
    for item in services.ledger.scan(secrets.token_hex(8), ITEMS_A_PAGE):
        user_id = item["user_id"]["S"]
        if not is_marker(item) and user_id != last:
            yield user_id
        last = user_id


def parse_sample(field: str, value: object) -> int:
    """How many users to audit at random."""
    if type(value) is int and 1 <= value <= MOST_SAMPLED:
        return value
    raise InvalidInput.of(
        field, f"must be a whole number of 1 to {MOST_SAMPLED:,}; is {shown(value)}"
    )


def _asked_for(services: Services, event: object) -> _Audit:
    """The ledgers and markers to audit."""
    if is_from_eventbridge(event):
        return _of_the_day(services, str(event.get("id")))
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
        return _Audit(users_of_zone(services, timezone, after), may_go_on=True)
    if sample is not None:
        return _Audit(users_at_random(services, sample))
    return _Audit([str(user_id)], must_be_there=True)


def _of_the_day(services: Services, event_id: str) -> _Audit:
    """Subscribers and items of the ledger from a place on that the event determines.

    Lambda repeats a failed event: then the same ones are audited.
    """
    start = hashlib.sha256(event_id.encode(errors="replace")).hexdigest()[:16]
    items = [*islice(services.ledger.scan(start, ITEMS_A_PAGE), DAILY_ITEMS)]
    met = (item["user_id"]["S"] for item in items if not is_marker(item))
    return _Audit(
        [*dict.fromkeys((*users_at_random(services, DAILY_SAMPLE, start), *met))],
        markers=[item for item in items if is_marker(item)],
        is_of_the_day=True,
    )
