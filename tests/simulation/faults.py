"""What can go wrong with a call to AWS. It happens below botocore: the product knows nothing.

A trouble aims at calls of a kind, such as "Query ledger", and strikes some of them in a row.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from itertools import compress

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
    UNREADABLE = "finds an item of one user that cannot be read"


TRANSACTIONS = {"ExecuteTransaction": "TransactStatements", "TransactGetItems": "TransactItems"}
"""The operations that do all or nothing, and the parameter that says of what."""
WRITES = ("PutItem", "UpdateItem", "DeleteItem", "ExecuteStatement")
READS = ("Query", "GetItem", "BatchGetItem")

_RETRIED_BY_SDK = (
    *(Fault.UNREACHED, Fault.LOST, Fault.THROTTLED, Fault.BROKEN, Fault.BROKEN_AFTER),
)
_TABLE_OF_STATEMENT = re.compile(r'INSERT INTO "([^"]+)"')


def kind_of(call: Call) -> str:
    """What a call is, in words: the operation and the table, index or queue it goes to."""
    asked = call.parameters
    if statements := statements_of(call):
        (place,) = _TABLE_OF_STATEMENT.match(statements[0]["Statement"]).groups()  # type: ignore[union-attr]
    elif "TransactItems" in asked:
        ((_, first),) = asked["TransactItems"][0].items()
        place = first["TableName"]
    elif "RequestItems" in asked:
        place = next(iter(asked["RequestItems"]))
    else:
        place = asked.get("IndexName") or asked.get("TableName") or asked.get("QueueUrl") or ""
    return f"{call.operation} {place.rpartition('-')[2]}".strip()


def statements_of(call: Call) -> list[Json]:
    """The statements of a call: its only one, those of a batch or of a transaction, or none."""
    asked = call.parameters
    if "Statement" in asked:
        return [asked]
    found: list[Json] = asked.get("Statements") or asked.get("TransactStatements") or []
    return found


def users_of(call: Call) -> list[str]:
    """Whom a call is about, as far as one can tell: of many that are read at once, the first."""
    asked = call.parameters
    if statements := statements_of(call):
        users = [
            statement["Parameters"][0]["S"]
            for statement in statements
            if statement["Statement"].startswith("INSERT")
        ]
        return [user for user in users if "#" not in user]
    found = re.search(r'"user_id": \{"S": "([^"#]+)"\}', json.dumps(asked))
    if found:
        return [found[1]]
    values = (asked.get("ExpressionAttributeValues") or {}).values()
    return [str(value["S"]) for value in values if "S" in value][:1]


@dataclass
class Trouble:
    """Strikes ``times`` calls in a row, from call number ``at`` of its ``aim`` on (0: the first).

    ``aim``: a kind of calls, as `kind_of` says it; nothing means every call.
    """

    fault: Fault
    at: int = 0
    times: int = 1
    aim: str = ""
    meanwhile: Callable[[Call], str] | None = None
    """Does something whole in the middle of a call, and says what."""
    past: State | None = None
    seen: int = 0
    struck: list[Call] = field(default_factory=list)
    is_dead: bool = False
    meanwhile_happened: str = ""
    unreadable: list[str] = field(default_factory=list)
    """Whose items could not be read."""

    def __str__(self) -> str:
        times = f", {self.times} times in a row" if self.times > 1 else ""
        which = f"{self.aim} {self.at + 1}" if self.aim else f"call {self.at + 1}"
        if self.fault is Fault.STALE:
            return f"every read that may lag {self.fault.value}"
        return f"{which} {self.fault.value}{times}"

    def told(self) -> str:
        """What it did, for the story; nothing when it met no call."""
        if not self.struck:
            return ""
        kinds = ", ".join(sorted({kind_of(call) for call in self.struck}))
        happened = f": {self.meanwhile_happened}" if self.meanwhile_happened else ""
        return f"{self} ({kinds}{happened})"

    def __call__(self, call: Call, perform: Perform) -> Json:
        if self.is_dead:
            raise Killed
        if self.aim and kind_of(call) != self.aim:
            return perform(call)
        place = self.seen
        self.seen += 1
        if not self.at <= place < self.at + self.times:
            return perform(call)
        return self._strike(call, perform)

    def _strike(self, call: Call, perform: Perform) -> Json:  # noqa: C901, PLR0911, PLR0912 - a line for each
        if self.fault is Fault.STALE:
            return self._stale(call, perform)
        if self.fault is Fault.PARTIAL and not can_be_partial(call):
            return perform(call)
        if self.fault is Fault.CONFLICT and not can_conflict(call):
            return perform(call)
        if self.fault is Fault.UNREADABLE:
            return self._unreadable(call, perform)
        self.struck.append(call)
        match self.fault:
            case Fault.UNREACHED:
                raise ConnectTimeoutError(endpoint_url=call.service)
            case Fault.LOST:
                perform(call)
                raise ReadTimeoutError(endpoint_url=call.service)
            case Fault.THROTTLED:
                return throttle(call)
            case Fault.BROKEN:
                raise Refused("InternalServerError", 500)
            case Fault.BROKEN_AFTER:
                return broken_after(call, perform)
            case Fault.KILLED_BEFORE:
                self.is_dead = True
                raise Killed
            case Fault.KILLED_AFTER:
                self.is_dead = True
                perform(call)
                raise Killed
            case Fault.MEANWHILE:
                if self.meanwhile and not self.meanwhile_happened:
                    self.meanwhile_happened = "something"
                    self.meanwhile_happened = self.meanwhile(call)
                return perform(call)
            case Fault.CONFLICT:
                return conflict(call, perform)
            case Fault.PARTIAL:
                return partly(call, perform)
        raise AssertionError(self.fault)

    def _unreadable(self, call: Call, perform: Perform) -> Json:
        """One item of what is read is damaged: as a roll-back leaves it, or a hand."""
        answer = perform(call)
        if call.operation not in ("Query", "BatchGetItem"):
            return answer
        batches = answer.get("Responses", {}).values()
        items = answer["Items"] if call.operation == "Query" else next(iter(batches), [])
        for place, item in enumerate(items):
            if damaged := damage(item):
                self.struck.append(call)
                self.unreadable.append(item["user_id"]["S"])
                items = [*items[:place], damaged, *items[place + 1 :]]
                if call.operation == "Query":
                    return {**answer, "Items": items}
                (table,) = answer["Responses"]
                return {**answer, "Responses": {table: items}}
        return answer

    def _stale(self, call: Call, perform: Perform) -> Json:
        request = next(iter(call.parameters.get("RequestItems", {}).values()), call.parameters)
        if self.past is None or call.operation not in READS or request.get("ConsistentRead"):
            return perform(call)
        self.struck.append(call)
        return self.past.dynamodb.perform(call.operation, call.parameters)


@dataclass
class Troubles:
    """All that goes wrong in one step; none is the good case."""

    all: list[Trouble] = field(default_factory=list)

    def __call__(self, call: Call, perform: Perform) -> Json:
        if self.is_dead:
            raise Killed
        for trouble in self.all:
            perform = partial(_through, trouble, perform)
        return perform(call)

    @property
    def is_dead(self) -> bool:
        return any(trouble.is_dead for trouble in self.all)

    def struck_by(self, *faults: Fault) -> list[Call]:
        return [call for each in self.all if each.fault in faults for call in each.struck]

    def has_struck(self, *faults: Fault) -> bool:
        return bool(self.struck_by(*faults or Fault))

    @property
    def is_absorbed(self) -> bool:
        """Whether the product promises that nobody notices."""
        # Who reads what was there a moment ago may overlook a user: the next sweep does not.
        dead = (Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
        if self.has_struck(Fault.STALE, Fault.UNREADABLE, *dead):
            return False
        by_sdk = self.struck_by(*_RETRIED_BY_SDK)
        # The SDK asks four times; it asks SES once, and an email's record may then be in doubt.
        return (
            len(by_sdk) <= 3
            and len(self.struck_by(Fault.PARTIAL, Fault.CONFLICT)) <= 5
            and not any(c.service == "sesv2" or kind_of(c).endswith(" mails") for c in by_sdk)
        )


def _through(trouble: Trouble, perform: Perform, call: Call, most: int | None = None) -> Json:
    # A part of a call that another trouble has cut up already is not struck again.
    return perform(call, most) if most is not None else trouble(call, perform)


def damage(item: Json) -> Json | None:
    """A subscription of a status that nobody knows, or an entry without its body; else nothing."""
    if "status" in item and "plan" in item:
        return {**item, "status": {"S": "frozen"}}
    if "body" in item:
        return {name: value for name, value in item.items() if name != "body"}
    return None


def throttle(call: Call) -> Json:
    """Refuses a call: as a whole or, of a batch, statement by statement."""
    if call.operation != "BatchExecuteStatement":
        raise throttled(call)
    return refused_one_by_one(call, "ThrottlingError")


def refused_one_by_one(call: Call, code: str) -> Json:
    """Of a batch, every statement."""
    error = {"Error": {"Code": code, "Message": code}}
    return {"Responses": [error for _ in call.parameters["Statements"]]}


def throttled(call: Call) -> Refused:
    """How each service says that it is too much."""
    if call.service == "dynamodb":
        if call.operation in TRANSACTIONS:
            reasons = [{"Code": "ThrottlingError"} for _ in parts_of(call)]
            return Refused("TransactionCanceledException", CancellationReasons=reasons)
        return Refused("ProvisionedThroughputExceededException")
    if call.service == "sesv2":
        return Refused("TooManyRequestsException", 429)
    return Refused("ThrottlingException")


def parts_of(transaction: Call) -> list[Json]:
    """What a transaction does; of each, why it was cancelled is said."""
    parts: list[Json] = transaction.parameters[TRANSACTIONS[transaction.operation]]
    return parts


def can_conflict(call: Call) -> bool:
    """Whether it can meet a transaction under way: the ledger and subscriptions are written so."""
    return kind_of(call).endswith((" ledger", " edits")) and (
        call.operation in (*TRANSACTIONS, *WRITES, "BatchExecuteStatement")
    )


def conflict(call: Call, perform: Perform) -> Json:
    """DynamoDB refuses what meets a transaction under way."""
    if call.operation in TRANSACTIONS:
        reasons = [{"Code": "TransactionConflict"} for _ in parts_of(call)]
        raise Refused("TransactionCanceledException", CancellationReasons=reasons)
    if call.operation == "BatchExecuteStatement":
        return every_other(call, perform, "TransactionConflict")
    raise Refused("TransactionConflictException")


def can_be_partial(call: Call) -> bool:
    """Whether it asks for several things, some of which can be left out."""
    return call.operation in ("BatchGetItem", "SendMessageBatch", "Query", "BatchExecuteStatement")


def partly(call: Call, perform: Perform) -> Json:
    """A batch is done in part; a page is shorter than it was to be."""
    if call.operation == "BatchGetItem":
        ((_, wanted),) = call.parameters["RequestItems"].items()
        return perform(call, len(wanted["Keys"]) // 2)
    if call.operation == "SendMessageBatch":
        return perform(call, len(call.parameters["Entries"]) // 2)
    if call.operation == "BatchExecuteStatement":
        return every_other(call, perform, "ThrottlingError")
    return perform(call, 1)


def broken_after(call: Call, perform: Perform) -> Json:
    """It is carried out and said to have failed: as a whole or, of a batch, statement by statement.

    Statements fail one by one in a batch that is answered.
    """
    perform(call)
    if call.operation == "BatchExecuteStatement":
        return refused_one_by_one(call, "InternalServerError")
    raise Refused("InternalServerError", 500)


def every_other(call: Call, perform: Perform, code: str) -> Json:
    """Of a batch of statements every second is refused, the first one too; the others are done."""
    chosen = [bool(place % 2) for place in range(len(call.parameters["Statements"]))]
    return some_of(call, perform, chosen, code)


def some_of(call: Call, perform: Perform, chosen: Sequence[bool], code: str) -> Json:
    """Does those statements of a batch that are chosen; the others are refused."""
    statements = [*compress(call.parameters["Statements"], chosen)]
    done: Iterator[Json] = iter(())
    if statements:
        some = replace(call, parameters={**call.parameters, "Statements": statements})
        done = iter(perform(some)["Responses"])
    error = {"Error": {"Code": code, "Message": code}}
    return {"Responses": [next(done) if is_chosen else error for is_chosen in chosen]}
