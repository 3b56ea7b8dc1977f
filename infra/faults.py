"""The errors of calls to AWS as commands meet them: those of the product, and the SDK's."""

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.store.errors import OutOfTime
from chalicelib.store.wire.errors import WireError

FAULTS = (WireError, BotoCoreError, ClientError, OutOfTime)
"""External faults, to report and retry."""
