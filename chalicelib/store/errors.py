"""The faults of a call to AWS, and the service's codes for them.

Refusals of a decision are in the tree of `domain.errors`, and so is `Contention`.
"""

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException


class OutOfTime(Exception):
    """DynamoDB has no room, and the invocation has no time left to wait for it."""


FAULTS = (PynamoDBException, BotoCoreError, ClientError, OutOfTime)
"""The errors of a call to AWS: faults of the world, to report and retry."""


def error_code(error: PynamoDBException | ClientError) -> str | None:
    """The service's own code of a failed call, such as ``ConditionalCheckFailedException``.

    None if there was no answer. PynamoDB's own way to the code fails then: botocore's error for a
    timeout has a response that is None.
    """
    cause = error.cause if isinstance(error, PynamoDBException) else error
    return cause.response["Error"]["Code"] if isinstance(cause, ClientError) else None
