"""The errors of a call to AWS as commands meet them: those of the product, and the SDK's."""

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.store.errors import OutOfTime
from chalicelib.store.wire.errors import WireError

FAULTS = (WireError, BotoCoreError, ClientError, OutOfTime)
"""Faults of the world, to report and to try again."""
