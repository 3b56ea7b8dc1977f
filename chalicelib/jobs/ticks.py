"""The ticks: every quarter of an hour, they start the sweeps that are due.

A tick uses the ``time`` of its event and never the clock, so that any past instant can be replayed.
That time may be ahead of the clock only as far as clocks differ.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Turn
from chalicelib.domain.errors import CreditsError, InvalidInput
from chalicelib.domain.fields import FieldReader
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.domain.plans import AllocateOn, PlanCatalogue
from chalicelib.invocations import is_from_eventbridge
from chalicelib.jobs.answers import refusal
from chalicelib.messages.work import Sweep, SweepKind
from chalicelib.metrics import Metric, count
from chalicelib.observability import correlated, correlation_id, logger
from chalicelib.services import Services

FARTHEST_AHEAD = timedelta(minutes=5)
"""How far a tick's time may be ahead of the clock."""


_TICKS = {SweepKind.ALLOCATION: Metric.ALLOCATION_TICKS, SweepKind.EXPIRY: Metric.EXPIRY_TICKS}

REMINDER_AGES = frozenset({timedelta(0), timedelta(hours=1), timedelta(days=1)})
"""The ages of a midnight at which users are reminded of credits that expire soon: at once, and
twice more to make up for losses. Each repetition checks every user again, so there are fewer of
them than of re-sweeps."""


def start_sweeps(services: Services, kind: SweepKind, event: object) -> dict[str, Any]:
    """Enqueues a sweep for each timezone whose midnight has an age at which a sweep is due.

    The expiry tick also starts the reminders of credits that expire soon. If months of any plan
    begin on the 1st, the allocation tick is about midnights of the 1st. If months of any plan begin
    on anniversaries, it is about every midnight, and starts a sweep for each day of the month that
    begins.

    ``event`` is EventBridge's, or ``{"time": "2027-02-01T05:00:00Z", "zones": ["Europe/Paris"]}``
    to replay a moment, for all zones or some. Returns what was started, or the refusal. Everything
    that follows from EventBridge's event has its id; everything that follows from a replay, the
    invocation's.
    """
    with correlated(event.get("id") if is_from_eventbridge(event) else None):
        try:
            time, zones = _parse(services, event)
        except CreditsError as error:
            logger().error("tick refused", kind=kind.value, error=str(error))
            return refusal(error)
        return _start(services, kind, time, zones)


def _start(
    services: Services, kind: SweepKind, time: datetime, zones: list[str] | None
) -> dict[str, Any]:
    tick = calendar.tick_at(time)
    midnights: dict[Swept, list[datetime]] = {}
    for swept, midnight in sweeps_of(services.catalogue, kind, tick, zones):
        midnights.setdefault(swept, []).append(midnight)
    services.queues.send_sweeps(
        Sweep(
            swept.kind,
            swept.timezone,
            min(instants),
            max(instants),
            as_of=time,
            correlation_id=correlation_id(),
            day=swept.day,
        ).body()
        for swept, instants in midnights.items()
    )
    count(_TICKS[kind])
    swept_zones = sorted({swept.timezone for swept in midnights})
    answer = {"success": True, "tick": format_instant(tick), "zones": swept_zones}
    logger().info("tick", kind=kind.value, tick=answer["tick"], zones=len(swept_zones))
    return answer


class Swept(NamedTuple):
    """The scope of a sweep: a timezone, or its users whose anniversary is a ``day``."""

    kind: SweepKind
    timezone: str
    day: int | None = None


def sweeps_of(
    catalogue: PlanCatalogue, kind: SweepKind, tick: datetime, zones: list[str] | None
) -> Iterator[tuple[Swept, datetime]]:
    """The scopes of the sweeps that a tick starts, each with its midnight."""
    if kind is SweepKind.EXPIRY:
        due = calendar.sweeps_due(tick, Turn.DAY, zones)
        yield from ((Swept(kind, each.timezone), each.midnight) for each in due)
        for each in due:
            if each.age in REMINDER_AGES:
                yield Swept(SweepKind.REMINDER, each.timezone), each.midnight
        return
    if catalogue.allocates_on(AllocateOn.FIRST_OF_MONTH):
        for each in calendar.sweeps_due(tick, Turn.MONTH, zones):
            yield Swept(kind, each.timezone), each.midnight
    if catalogue.allocates_on(AllocateOn.ANNIVERSARY):
        for each in calendar.sweeps_due(tick, Turn.DAY, zones):
            for day in calendar.anniversaries_at(each.timezone, each.midnight):
                yield Swept(kind, each.timezone, day), each.midnight


def _parse(services: Services, event: object) -> tuple[datetime, list[str] | None]:
    if is_from_eventbridge(event):
        event = {"time": event.get("time")}
    fields = FieldReader(event, "event")
    time = fields.required("time", parse_instant)
    zones = fields.optional("zones", calendar.parse_timezones)
    fields.finish()
    now = services.now()
    if time > now + FARTHEST_AHEAD:
        raise InvalidInput.of(
            "time", f"must not be ahead of the clock, which reads {now:%Y-%m-%dT%H:%MZ}"
        )
    return time, zones
