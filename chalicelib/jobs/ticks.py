"""The ticks: every quarter of an hour, start the sweeps of the zones where it is time.

A tick decides by the ``time`` of its event and never by the clock, so that any past moment can be
replayed. Ahead of the clock it may be only by what clocks differ, except in the local stage.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from chalicelib.domain import calendar
from chalicelib.domain.errors import CreditsError, InvalidInput
from chalicelib.domain.fields import FieldReader
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.observability import logger
from chalicelib.refusals import refusal
from chalicelib.services import Services

from .messages import Sweep, SweepKind

FARTHEST_AHEAD = timedelta(minutes=5)
"""How far a tick's time may be ahead of the clock."""


def start_sweeps(services: Services, kind: SweepKind, event: object) -> dict[str, Any]:
    """Enqueues one sweep for each timezone whose midnight is as old as a sweep is due.

    ``event`` is EventBridge's, or ``{"time": "2027-02-01T05:00:00Z", "zones": ["Europe/Paris"]}``
    to replay a moment, for all zones or some. Answers what was started, or the refusal.
    """
    try:
        time, zones = _parse(services, event)
    except CreditsError as error:
        logger().error("tick refused", kind=kind.value, error=str(error))
        return refusal(error)
    tick = calendar.tick_at(time)
    due = calendar.sweeps_due(tick, kind.turn, zones)
    services.queues.send_sweeps(
        Sweep(kind, sweep.timezone, sweep.midnight, as_of=time).body() for sweep in due
    )
    answer = {
        "success": True,
        "tick": format_instant(tick),
        "sweeps": len(due),
        "zones": sorted({sweep.timezone for sweep in due}),
    }
    logger().info("tick", kind=kind.value, tick=answer["tick"], sweeps=len(due))
    return answer


def _parse(services: Services, event: object) -> tuple[datetime, list[str] | None]:
    if isinstance(event, Mapping) and "detail-type" in event:
        event = {"time": event.get("time")}
    fields = FieldReader(event, "event")
    time = fields.required("time", parse_instant)
    zones = fields.optional("zones", _parse_zones)
    fields.finish()
    if time > services.posting_time(time) + FARTHEST_AHEAD:
        raise InvalidInput.of(
            "time", f"must not be ahead of the clock, which reads {services.now():%Y-%m-%dT%H:%MZ}"
        )
    return time, zones


def _parse_zones(field: str, value: object) -> list[str]:
    if not isinstance(value, list) or not value:
        raise InvalidInput.of(field, "must be a list of timezone names; leave it out for all zones")
    return [calendar.parse_timezone(f"{field}[{place}]", name) for place, name in enumerate(value)]
