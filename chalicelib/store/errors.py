"""What a call to AWS can come to that is no answer: faults, and how the service calls them.

What a decision refuses is in the tree of `domain.errors`, and so is `Contention`.
"""

from botocore.exceptions import BotoCoreError, ClientError
from pynamodb.exceptions import PynamoDBException


class OutOfTime(Exception):
    """DynamoDB has no room, and the invocation has no time left to wait for it."""


FAULTS = (PynamoDBException, BotoCoreError, ClientError, OutOfTime)
"""What a call to AWS can raise: faults of the world, to be reported and retried, not decided on."""


def error_code(error: PynamoDBException | ClientError) -> str | None:
    """The service's own code of a failed call, such as ``ConditionalCheckFailedException``.

    None where there was no answer. PynamoDB's own way to the code fails there: what botocore raises
    of a timeout has a response, which is None.
    """
    cause = error.cause if isinstance(error, PynamoDBException) else error
    return cause.response["Error"]["Code"] if isinstance(cause, ClientError) else None
