"""What can go wrong. Each refusal has the name of the ``code`` that the API answers with.

    CreditsError
     ├── APIError                      the API refused, and changed nothing
     │    ├── InvalidInput             400   ``errors`` names every wrong field
     │    ├── Unauthenticated          401
     │    ├── InsufficientCredits      402   ``available_balance``
     │    ├── Forbidden                403
     │    ├── NotFound                 404
     │    ├── MethodNotAllowed         405
     │    ├── Contention               409   passing
     │    ├── HoldEnded                410   ``ended``, ``ended_at``, ``transaction_id``
     │    ├── VersionConflict          412
     │    ├── BodyTooLarge             413
     │    ├── UnsupportedMediaType     415
     │    ├── IdempotencyKeyReused     422
     │    ├── OutdatedEdit             422
     │    ├── NotAllowed               422
     │    ├── TooManyRequests          429   passing
     │    ├── InternalError            500
     │    ├── TimezoneUnknown          500
     │    ├── LedgerCorrupt            500
     │    ├── Unreadable               500
     │    └── Unavailable              503   passing
     ├── NoAnswer                      nobody knows whether it was done: the same key again is safe
     │    ├── Unreachable
     │    └── Timeout
     └── NoToken                       the issuer of the tokens gave none

The client has already retried the passing ones, in vain.
"""

from __future__ import annotations

from datetime import datetime

from .answers import FieldError, Problem


class CreditsError(Exception):
    """All that this client raises for a request that did not succeed."""


class APIError(CreditsError):
    """The API refused a request and changed nothing."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.detail}"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The kind of problem, for programs."""
        return self.problem.code

    @property
    def title(self) -> str:
        """The kind of problem, for people."""
        return self.problem.title

    @property
    def detail(self) -> str:
        """What is wrong with this request, for people."""
        return self.problem.detail

    @property
    def errors(self) -> tuple[FieldError, ...]:
        """Every wrong field, if it is about fields."""
        return self.problem.errors

    @property
    def request_id(self) -> str:
        """The request's id in the logs of the API."""
        return self.problem.request_id


class InvalidInput(APIError):
    """The request is malformed; ``errors`` names every wrong field."""


class Unauthenticated(APIError):
    """The API refuses the token, and there is no other."""


class InsufficientCredits(APIError):
    """The user has fewer credits than requested. None were used or held."""

    @property
    def available_balance(self) -> int:
        """How many credits are available."""
        return self.problem.available_balance or 0


class Forbidden(APIError):
    """The token does not allow this, whether the user exists or not."""


class NotFound(APIError):
    """There is no such user, transaction or hold."""


class MethodNotAllowed(APIError):
    """The route does not know this method."""


class Contention(APIError):
    """Others were writing at the same time. The same request can succeed later."""


class HoldEnded(APIError):
    """The hold has ended in another way than requested."""

    @property
    def ended(self) -> str | None:
        """How it ended: ``captured``, ``released`` or ``lapsed``."""
        return self.problem.ended

    @property
    def ended_at(self) -> datetime | None:
        """When it ended."""
        return self.problem.ended_at

    @property
    def transaction_id(self) -> str | None:
        """The transaction that ended it; None if it lapsed."""
        return self.problem.transaction_id


class VersionConflict(APIError):
    """Somebody else was faster: read again, and repeat the change."""


class BodyTooLarge(APIError):
    """The body is larger than the API accepts."""


class UnsupportedMediaType(APIError):
    """The body is not JSON."""


class IdempotencyKeyReused(APIError):
    """The key, or the payment, belongs to another request."""


class OutdatedEdit(APIError):
    """What is stored was observed later: treat the event as done."""


class NotAllowed(APIError):
    """A rule of the product forbids this."""


class TooManyRequests(APIError):
    """There are too many requests. Send it again, and more slowly."""


class InternalError(APIError):
    """The API failed: its logs have the ``request_id``."""


class TimezoneUnknown(APIError):
    """The stored timezone of the user has left the database; an admin must change it."""


class LedgerCorrupt(APIError):
    """The stored data of the user is damaged."""


class Unreadable(APIError):
    """The stored data of the user is damaged, or from a newer release."""


class Unavailable(APIError):
    """The service is not available. The same request can succeed later."""


class NoAnswer(CreditsError):
    """There was no answer, or not one from the API: nobody knows whether the request was done.

    Requests that change something are safe to send again, with the same key.
    """


class Unreachable(NoAnswer):
    """The connection failed."""


class Timeout(NoAnswer):
    """There was no answer in time."""


class NoToken(CreditsError):
    """The issuer of the tokens gave none. ``is_passing``: it may do so later."""

    def __init__(self, message: str, *, is_passing: bool = False) -> None:
        super().__init__(message)
        self.is_passing = is_passing


BY_CODE: dict[str, type[APIError]] = {
    "invalid_input": InvalidInput,
    "unauthenticated": Unauthenticated,
    "insufficient_credits": InsufficientCredits,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "method_not_allowed": MethodNotAllowed,
    "contention": Contention,
    "hold_ended": HoldEnded,
    "version_conflict": VersionConflict,
    "body_too_large": BodyTooLarge,
    "unsupported_media_type": UnsupportedMediaType,
    "idempotency_key_reused": IdempotencyKeyReused,
    "outdated_edit": OutdatedEdit,
    "not_allowed": NotAllowed,
    "too_many_requests": TooManyRequests,
    "internal_error": InternalError,
    "timezone_unknown": TimezoneUnknown,
    "ledger_corrupt": LedgerCorrupt,
    "unreadable": Unreadable,
    "unavailable": Unavailable,
}


def of_problem(problem: Problem) -> APIError:
    """The error for a problem; for an unknown code, from a newer server, an `APIError`."""
    return BY_CODE.get(problem.code, APIError)(problem)
