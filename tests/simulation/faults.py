"""What can go wrong with a call to AWS. It happens below botocore: the product knows nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from .aws import Call, Json, Perform, Refused, State


class Killed(BaseException):
    """The process died here. Nobody catches it, and whatever came after it is not done."""


class Fault(Enum):
    """One kind of trouble, in words that a story can use."""

    UNREACHED = "cannot be reached"
    LOST = "is carried out, and its answer is lost"
    THROTTLED = "is throttled"
    BROKEN = "fails with a 500 and is not carried out"
    BROKEN_AFTER = "fails with a 500 and is carried out all the same"
    CONFLICT = "meets a transaction of somebody else"
    PARTIAL = "does only a part of what it was asked"
    STALE = "reads what was there some time ago"
    KILLED_BEFORE = "is where the process dies, before it is carried out"
    KILLED_AFTER = "is where the process dies, after it was carried out"
    MEANWHILE = "is overtaken by another request"


TRANSACTIONS = ("TransactWriteItems", "TransactGetItems")
WRITES = ("PutItem", "UpdateItem", "DeleteItem")


@dataclass
class Trouble:
    """Strikes ``times`` calls in a row, from call number ``at`` on (the first is 0)."""

    fault: Fault
    at: int = 0
    times: int = 1
    meanwhile: Callable[[], None] | None = None
    past: State | None = None
    seen: int = 0
    struck: list[Call] = field(default_factory=list)
    is_dead: bool = False

    def __str__(self) -> str:
        times = f", {self.times} times in a row" if self.times > 1 else ""
        return f"call {self.at + 1} {self.fault.value}{times}"

    @property
    def is_absorbed(self) -> bool:
        """Whether the product promises that nobody notices."""
        if not self.struck:
            return True
        if self.fault in (Fault.PARTIAL, Fault.CONFLICT):
            return self.times <= 5
        if self.fault is Fault.MEANWHILE:
            return True
        # Who reads what was there a moment ago may overlook a user: the next sweep does not.
        if self.fault in (Fault.STALE, Fault.KILLED_BEFORE, Fault.KILLED_AFTER):
            return False
        # The SDK asks four times; SES it asks once only, and a mail's record may then be in doubt.
        return self.times <= 3 and not any(
            call.service == "sesv2" or call.parameters.get("TableName", "").endswith("-mails")
            for call in self.struck
        )

    def __call__(self, call: Call, perform: Perform) -> Json:
        if self.is_dead:
            raise Killed
        place = self.seen
        self.seen += 1
        if not self.at <= place < self.at + self.times:
            return perform(call)
        self.struck.append(call)
        return self._strike(call, perform)

    def _strike(self, call: Call, perform: Perform) -> Json:  # noqa: C901 - one line for each fault
        match self.fault:
            case Fault.UNREACHED:
                raise ConnectTimeoutError(endpoint_url=call.service)
            case Fault.LOST:
                perform(call)
                raise ReadTimeoutError(endpoint_url=call.service)
            case Fault.THROTTLED:
                raise throttled(call)
            case Fault.BROKEN:
                raise Refused("InternalServerError", 500)
            case Fault.BROKEN_AFTER:
                perform(call)
                raise Refused("InternalServerError", 500)
            case Fault.KILLED_BEFORE:
                self.is_dead = True
                raise Killed
            case Fault.KILLED_AFTER:
                self.is_dead = True
                perform(call)
                raise Killed
            case Fault.MEANWHILE:
                if self.meanwhile and len(self.struck) == 1:
                    self.meanwhile()
                return perform(call)
            case Fault.CONFLICT:
                return conflict(call, perform)
            case Fault.PARTIAL:
                return partial(call, perform)
            case Fault.STALE:
                return self._stale(call, perform)

    def _stale(self, call: Call, perform: Perform) -> Json:
        request = next(iter(call.parameters.get("RequestItems", {}).values()), call.parameters)
        is_read = call.operation in ("Query", "GetItem", "BatchGetItem")
        if self.past is None or not is_read or request.get("ConsistentRead"):
            return perform(call)
        return self.past.dynamodb.perform(call.operation, call.parameters)


def throttled(call: Call) -> Refused:
    """How each service says that it is too much."""
    if call.service == "dynamodb":
        if call.operation in TRANSACTIONS:
            reasons = [{"Code": "ThrottlingError"} for _ in call.parameters["TransactItems"]]
            return Refused("TransactionCanceledException", CancellationReasons=reasons)
        return Refused("ProvisionedThroughputExceededException")
    if call.service == "sesv2":
        return Refused("TooManyRequestsException", 429)
    return Refused("ThrottlingException")


def conflict(call: Call, perform: Perform) -> Json:
    """DynamoDB refuses what meets a transaction under way; only the ledger is written in some."""
    if call.operation in TRANSACTIONS:
        reasons = [{"Code": "TransactionConflict"} for _ in call.parameters["TransactItems"]]
        raise Refused("TransactionCanceledException", CancellationReasons=reasons)
    if call.operation in WRITES and call.parameters["TableName"].endswith("-ledger"):
        raise Refused("TransactionConflictException")
    return perform(call)


def partial(call: Call, perform: Perform) -> Json:
    """A batch is done in part; a page is shorter than it was to be."""
    if call.operation == "BatchGetItem":
        ((_, wanted),) = call.parameters["RequestItems"].items()
        return perform(call, len(wanted["Keys"]) // 2)
    if call.operation == "SendMessageBatch":
        return perform(call, len(call.parameters["Entries"]) // 2)
    if call.operation == "Query":
        return perform(call, 1)
    return perform(call)
