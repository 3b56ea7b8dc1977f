"""Every refusal of the system, as one tree.

    CreditsError
    ├── InvalidInput            the request is malformed: names each field, and the fix
    ├── NotFound                no such user, transaction or batch
    ├── InsufficientCredits     fewer credits are available than asked for; nothing was spent
    ├── IdempotencyKeyReused    the key already belongs to a different request
    │   └── PaymentUsed         the payment already bought something else
    ├── NotAllowed              understood, but against a rule: the detail says which
    ├── HoldEnded               the hold ended before, in another way: says how and when
    ├── VersionConflict         the subscription was edited by someone else meanwhile
    ├── OutdatedEdit            the edit reports something older than what is stored
    ├── Contention              other writers kept winning; retry later, nothing was written
    ├── TimezoneUnknown         a stored timezone is not in the database of timezones any more
    ├── AnchorUnreadable        an object of the anchors bucket is damaged
    └── Unreadable              a stored item is damaged, or was written by a newer release
        └── LedgerCorrupt       a ledger entry does not follow from the entries before it

Code that raises one of these has changed nothing. Every class has a stable ``code`` for programs;
``str(error)`` is a sentence for people.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class CreditsError(Exception):
    """The root of the tree; never raised itself."""

    code: ClassVar[str] = "error"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: its name as the caller wrote it, and a sentence that says the fix."""

    field: str
    message: str


class InvalidInput(CreditsError):
    """One or more fields of a request are wrong."""

    code = "invalid_input"

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{error.field}: {error.message}" for error in self.errors))

    @classmethod
    def of(cls, field: str, message: str) -> "InvalidInput":
        """The common case: exactly one field is wrong."""
        return cls([FieldError(field, message)])


class NotFound(CreditsError):
    """The thing named in the request does not exist."""

    code = "not_found"


class InsufficientCredits(CreditsError):
    """The available balance does not cover the amount; nothing is spent, not even a part."""

    code = "insufficient_credits"

    def __init__(self, requested: int, available: int) -> None:
        self.requested = requested
        self.available = available
        super().__init__(f"{requested} credits were asked for, {available} are available")


class IdempotencyKeyReused(CreditsError):
    """The idempotency key was used before, with another request."""

    code = "idempotency_key_reused"

    def __init__(self, key: str) -> None:
        super().__init__(
            f"the idempotency key {key!r} was already used for a different request; "
            "send the same request again, or a new key"
        )


class PaymentUsed(IdempotencyKeyReused):
    """The payment was used before, by another user or for another amount."""

    def __init__(self, payment_id: str) -> None:
        CreditsError.__init__(
            self,
            f"payment_id: payment {payment_id!r} has bought another amount, or for another user; "
            "a payment buys once",
        )


class NotAllowed(CreditsError):
    """The request is well formed but a rule of the product forbids it."""

    code = "not_allowed"


class HoldEnded(CreditsError):
    """The hold ended before, in another way than the request asks for; a hold ends once.

    ``ended``: ``captured``, ``released`` or ``lapsed``. ``at``: when, as the API writes instants.
    ``transaction_id``: of the entry that ended it; None for a lapsed hold.
    """

    code = "hold_ended"

    def __init__(self, ended: str, at: str, transaction_id: str | None = None) -> None:
        self.ended = ended
        self.at = at
        self.transaction_id = transaction_id
        by = f" by transaction {transaction_id}" if transaction_id else ""
        super().__init__(f"the hold was {ended} at {at}{by}" if by else f"the hold {ended} at {at}")


class VersionConflict(CreditsError):
    """An edit was based on a version that is no longer the current one."""

    code = "version_conflict"


class OutdatedEdit(CreditsError):
    """An edit reports an older observation than the stored one, and must not overwrite it."""

    code = "outdated_edit"


class Contention(CreditsError):
    """Others kept writing until all retries were used up; nothing was written."""

    code = "contention"


class TimezoneUnknown(CreditsError):
    """A stored timezone is unknown to this release; no caller is to blame."""

    code = "timezone_unknown"

    def __init__(self, timezone: str) -> None:
        super().__init__(
            f"the stored timezone {timezone!r} is no longer in the database of timezones; "
            "an admin must change the subscription's timezone"
        )


class AnchorUnreadable(CreditsError):
    """An object of the anchors bucket is not as we wrote it there."""

    code = "anchor_unreadable"

    def __init__(self, key: str, error: Exception) -> None:
        super().__init__(f"the anchors {key} cannot be read ({error!r})")


class Unreadable(CreditsError):
    """A stored item cannot be read: it is damaged, or too new; no caller is to blame.

    ``reason`` names what is wrong and never quotes the stored value: it can be about a person.
    """

    code = "unreadable"

    def __init__(self, table: str, key: str, reason: str) -> None:
        self.table = table
        self.key = key
        self.reason = reason
        super().__init__(f"{table} of {key}: {reason}")


class LedgerCorrupt(Unreadable):
    """A ledger entry contradicts the entries before it, or its own hash; or it cannot be read."""

    code = "ledger_corrupt"

    def __init__(self, user_id: str, number: int, reason: str) -> None:
        self.user_id = user_id
        self.number = number
        super().__init__("ledger", f"user {user_id}, entry {number}", reason)
