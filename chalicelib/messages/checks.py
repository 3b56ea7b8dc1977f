"""The messages of the monthly count, which checks that everybody got their credits."""

from dataclasses import dataclass

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.completeness import Tally
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import FieldReader, parse_correlation_id, parse_user_id, shown
from chalicelib.domain.ranges import WHOLE, Range

from .texts import decode, encode

UNKNOWN_ZONES = "unknown"
"""Stands for all zones that are not in the database."""


@dataclass(frozen=True, slots=True)
class ZoneCheck:
    """Asks to count one zone, or a range of it, for a period; a run counts ``zones`` zones.

    ``timezone`` can be `UNKNOWN_ZONES`, for users in zones that are no longer in the database.
    """

    run: str
    period: Period
    timezone: str
    zones: int
    range: Range = WHOLE
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "run": self.run,
                "period": str(self.period),
                "timezone": self.timezone,
                "zones": self.zones,
                "range": self.range.bits or None,
                "correlation_id": self.correlation_id,
            }
        )

    @classmethod
    def parse(cls, body: str) -> "ZoneCheck":
        """Reads a message. Raises `InvalidInput` naming every wrong field."""
        fields = FieldReader(decode(body))
        run = fields.required("run", parse_correlation_id)
        period = fields.required("period", lambda field, value: Period.parse(value, field))
        timezone = fields.required("timezone", _parse_checked_zone)
        zones = fields.required("zones", _parse_zones)
        range_ = fields.optional("range", Range.parse) or WHOLE
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        # From a release that counted a zone in one chain: the zone is counted again.
        fields.optional("after", parse_user_id)
        fields.optional("tally", Tally.parse)
        fields.finish()
        return cls(run, period, timezone, zones, range_, correlation_id)


def _parse_checked_zone(field: str, value: object) -> str:
    return UNKNOWN_ZONES if value == UNKNOWN_ZONES else calendar.parse_timezone(field, value)


def _parse_zones(field: str, value: object) -> int:
    if type(value) is int and value >= 1:
        return value
    raise InvalidInput.of(field, f"must be how many zones are counted; is {shown(value)}")
