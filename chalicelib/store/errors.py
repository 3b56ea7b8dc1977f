"""The faults of calls to AWS, and the service's codes for them.

Refusals of a decision are in the tree of `domain.errors`, and so is `Contention`.
"""

import sys

from .wire.errors import WireError


class OutOfTime(Exception):
    """DynamoDB has no room, and the invocation has no time left to wait for it."""


def faults(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """The errors of calls to AWS, external faults to report and retry; after ``others``.

    They include the SDK's only after something has imported it: before, nothing can raise them, and
    a function that needs no SDK does not have to load it for them.
    """
    sdk = sys.modules.get("botocore.exceptions")
    return (*others, WireError, OutOfTime, *((sdk.BotoCoreError, sdk.ClientError) if sdk else ()))
