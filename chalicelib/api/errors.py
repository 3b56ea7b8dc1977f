"""The refusals of the API before it asks the domain; the rest of the tree is in `domain.errors`.

CreditsError
├── Unauthenticated         the request names no caller
├── Forbidden               the caller may not do this, or not to this user
├── BodyTooLarge            the body is longer than any request of ours
└── UnsupportedMediaType    the body is not JSON
"""

from collections.abc import Iterable

from chalicelib.domain.errors import CreditsError, FieldError


class Unauthenticated(CreditsError):
    """The authorizer named no caller for the request."""

    code = "unauthenticated"


class Forbidden(CreditsError):
    """The caller is known, but may not do this."""

    code = "forbidden"

    def __init__(self, message: str, errors: Iterable[FieldError] = ()) -> None:
        self.errors = tuple(errors)
        super().__init__(message)


class BodyTooLarge(CreditsError):
    """The body is over the limit."""

    code = "body_too_large"


class UnsupportedMediaType(CreditsError):
    """The body is of another media type than JSON."""

    code = "unsupported_media_type"
