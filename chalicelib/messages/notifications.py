"""The messages that request emails; the sender reads the content when it sends the email."""

from dataclasses import dataclass
from datetime import datetime

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import FieldReader, parse_correlation_id, parse_user_id, shown
from chalicelib.domain.instants import format_instant, parse_instant

from .texts import decode, encode


@dataclass(frozen=True, slots=True)
class EntryPosted:
    """A ledger entry that needs an email. The sender reads the content when it sends the email."""

    user_id: str
    number: int
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "user_id": self.user_id,
                "number": self.number,
                "correlation_id": self.correlation_id,
            }
        )


@dataclass(frozen=True, slots=True)
class StrangeRecord:
    """A record of the ledger's stream whose entry cannot be named: a person must look at it.

    `parse_notification` refuses it, so that it becomes a dead letter.
    """

    event_id: str | None
    keys: object
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "event_id": self.event_id,
                "keys": self.keys,
                "correlation_id": self.correlation_id,
            }
        )


@dataclass(frozen=True, slots=True)
class ExpiringSoon:
    """A user's credits expire at an instant unless they are used before; as of a tick's time."""

    user_id: str
    expires_at: datetime
    as_of: datetime
    correlation_id: str | None = None

    def body(self) -> str:
        """The message text."""
        return encode(
            {
                "user_id": self.user_id,
                "expires_at": format_instant(self.expires_at),
                "as_of": format_instant(self.as_of),
                "correlation_id": self.correlation_id,
            }
        )


Notification = EntryPosted | ExpiringSoon


def parse_notification(body: str) -> Notification:
    """Reads a message of the notifications queue. Raises `InvalidInput` naming wrong fields."""
    values = decode(body)
    fields = FieldReader(values)
    user_id = fields.required("user_id", parse_user_id)
    correlation_id = fields.optional("correlation_id", parse_correlation_id)
    if isinstance(values, dict) and "expires_at" in values:
        expires_at = fields.required("expires_at", parse_instant)
        as_of = fields.required("as_of", parse_instant)
        fields.finish()
        return ExpiringSoon(user_id, expires_at, as_of, correlation_id)
    number = fields.required("number", _parse_number)
    fields.finish()
    return EntryPosted(user_id, number, correlation_id)


def _parse_number(field: str, value: object) -> int:
    if type(value) is int and 1 <= value < 10**12:
        return value
    raise InvalidInput.of(field, f"must be the number of a ledger entry; is {shown(value)}")
