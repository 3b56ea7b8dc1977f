"""The errors of handling records and users, and how they are logged.

CreditsError
├── SomeUsersFailed    some users of a message; the others were handled
└── SomeEventsFailed   some events of SES; SNS and Lambda bring them again
"""

from collections.abc import Mapping

from chalicelib.domain.errors import Contention, CreditsError
from chalicelib.store.errors import faults


def failures() -> tuple[type[Exception], ...]:
    """The expected errors of handling one record or user; any other error is a bug of ours.

    In both cases only that record or user fails.
    """
    return faults(CreditsError)


def passing() -> tuple[type[Exception], ...]:
    """Failures that may pass: another try can succeed."""
    return faults(Contention)


class SomeUsersFailed(CreditsError):
    """Some users of a message could not be handled; the others were.

    ``is_passing``: a later try may succeed for some of them.
    """

    code = "some_users_failed"

    def __init__(self, failures: Mapping[str, Exception]) -> None:
        self.is_passing = any(map(is_passing, failures.values()))
        first = {user: describe_failure(error) for user, error in sorted(failures.items())[:10]}
        super().__init__(f"{len(failures)} users failed, such as {first}")


class SomeEventsFailed(CreditsError):
    """Some events of an invocation could not be handled; SNS and Lambda bring them again."""

    code = "some_events_failed"


def is_passing(error: Exception) -> bool:
    """Whether a later try may succeed."""
    if isinstance(error, SomeUsersFailed):
        return error.is_passing
    return isinstance(error, passing())


def describe_failure(error: Exception) -> str:
    """A failure as logs show it, without messages of unknown errors: they can quote anything."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, failures()) else kind
