"""The messages with events for the stage's bus."""

from dataclasses import dataclass

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.events import CreditEvent, EventName
from chalicelib.domain.fields import FieldReader, parse_choice, parse_correlation_id, shown
from chalicelib.domain.instants import format_instant, parse_instant

from .texts import decode, encode


@dataclass(frozen=True, slots=True)
class ToPublish:
    """A complete event for the stage's bus."""

    event: CreditEvent
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "name": self.event.name.value,
                "at": format_instant(self.event.at),
                "detail": self.event.detail,
                "correlation_id": self.correlation_id,
            }
        )

    @classmethod
    def parse(cls, body: str) -> "ToPublish":
        """Reads a message. Raises `InvalidInput` naming every wrong field."""
        fields = FieldReader(decode(body))
        name = fields.required("name", parse_choice(EventName))
        at = fields.required("at", parse_instant)
        detail = fields.required("detail", _parse_detail)
        correlation_id = fields.optional("correlation_id", parse_correlation_id)
        fields.finish()
        return cls(CreditEvent(name, at, detail), correlation_id)


def _parse_detail(field: str, value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise InvalidInput.of(field, f"must be what an event says; is {shown(value)}")
