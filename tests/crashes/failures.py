"""What can happen at a call to AWS, and which emails it leaves in doubt."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import partial

from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError

from tests.simulation.aws import ISSUER, Call, Json, Perform, Refused
from tests.simulation.faults import Killed, some_of


class Kind(Enum):
    """The failures, in words that follow a call's name."""

    KILLED_BEFORE = "the process dies before it"
    KILLED_AFTER = "the process dies after it, before it has read the answer"
    FAILS = "it fails, however often the SDK asks, and is not carried out"
    LOST_ONCE = "it is carried out, the answer is lost, and the SDK asks again"
    LOST = "it is carried out, and no answer comes, however often the SDK asks"
    IN_PART = "it does a part, and says so"
    KILLED_IN_PART = "it does a part, and the process dies"


GRAVE = {Kind.KILLED_BEFORE, Kind.KILLED_AFTER, Kind.FAILS, Kind.LOST}
"""What strikes a recovery: the others are milder cases of these."""

READS = {
    *("BatchGetItem", "GetItem", "Query", "Scan", "TransactGetItems"),
    *("GetKeys", "GetObject", "ListObjectsV2"),
}
"""The operations that leave everything as it was, whether they are carried out or not."""

IN_PARTS = (Kind.IN_PART, Kind.KILLED_IN_PART)
"""They strike the first call from their place on that has parts."""

BATCHES: dict[str, Callable[[Json], int]] = {
    "BatchGetItem": lambda asked: sum(len(of["Keys"]) for of in asked["RequestItems"].values()),
    "SendMessageBatch": lambda asked: len(asked["Entries"]),
    "BatchExecuteStatement": lambda asked: len(asked["Statements"]),
    "PutEvents": lambda asked: len(asked["Entries"]),
}
"""The operations that can be done in part, and of how many parts a call of theirs consists."""

ATTEMPTS = {"sesv2": 1, ISSUER: 1}
"""How often the SDK asks: four times, these once."""


@dataclass(frozen=True)
class Point:
    """A failure at a call; the place counts calls from 0, and each attempt of the SDK is one."""

    place: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.place}:{self.kind.name}"

    @classmethod
    def parse(cls, text: str) -> "Point":
        """The opposite. Raises ValueError and KeyError."""
        place, _, kind = text.partition(":")
        return cls(int(place), Kind[kind])


@dataclass(frozen=True)
class Seen:
    """A call as it was seen: its name, and of how many parts it consists (None: it has none)."""

    name: str
    parts: int | None
    service: str
    is_read: bool

    def kinds(self) -> list[Kind]:
        """What can happen at it that would make a difference.

        Of a read that is lost nobody can tell whether it was carried out, not even afterwards.
        """
        kinds = [Kind.KILLED_BEFORE, Kind.FAILS]
        if not self.is_read:
            kinds += [Kind.KILLED_AFTER, Kind.LOST]
            if ATTEMPTS.get(self.service, 4) > 1:
                kinds.append(Kind.LOST_ONCE)
        if self.parts is not None:
            kinds.append(Kind.IN_PART)
            if self.parts > 1 and not self.is_read:
                kinds.append(Kind.KILLED_IN_PART)
        return kinds


@dataclass
class Failures:
    """Interferes with the calls at the given points, and watches all of them."""

    points: Sequence[Point] = ()
    seen: list[Seen] = field(default_factory=list)
    is_dead: bool = False
    in_doubt: dict[str, bool] = field(default_factory=dict)
    """The records of the emails that nobody can tell of, and whether they were sent in fact."""
    about: str = ""
    """The record of the email that is being sent."""
    recorded: list[str] = field(default_factory=list)
    """The records that were asked for, in order."""
    sent: list[str] = field(default_factory=list)
    """The records of the emails that SES was asked to send, in order."""
    struck_at: list[int] = field(default_factory=list)
    """At which calls it struck last, for each point."""
    _attempts_left: int = 0
    _begun: set[str] = field(default_factory=set)
    """The records that say that somebody is at a mail."""

    def __call__(self, call: Call, perform: Perform) -> Json:
        if self.is_dead:
            raise Killed
        table = str(call.parameters.get("TableName", ""))
        if table.endswith("-mails") and call.operation == "PutItem":
            self.about = call.parameters["Item"]["id"]["S"]
            self.recorded.append(self.about)
        if call.service == "sesv2":
            self.sent.append(self.about)
        if table.endswith("-mails") or call.service == "sesv2":
            perform = _Noted(perform, self._begun)
        count = BATCHES.get(call.operation)
        parts = count(call.parameters) if count else None
        name = f"{call} {table}".strip()
        self.seen.append(Seen(name, parts, call.service, call.operation in READS))
        if not self._attempts_left:
            if len(self.struck_at) == len(self.points):
                return perform(call)
            point = self.points[len(self.struck_at)]
            can_strike = self.seen[-1].parts is not None or point.kind not in IN_PARTS
            if len(self.seen) - 1 < point.place or not can_strike:
                return perform(call)
            again = point.kind in (Kind.FAILS, Kind.LOST)
            self._attempts_left = ATTEMPTS.get(call.service, 4) if again else 1
            self.struck_at.append(0)
        self._attempts_left -= 1
        self.struck_at[-1] = len(self.seen) - 1
        kind = self.points[len(self.struck_at) - 1].kind
        try:
            return self._strike(kind, call, partial(_perform, call, perform))
        finally:
            if isinstance(perform, _Noted):
                self._doubt(kind, call, is_done=perform.is_done)

    def _strike(self, kind: Kind, call: Call, perform: Callable[[int | None], Json]) -> Json:
        half = (self.seen[-1].parts or 0) // 2
        match kind:
            case Kind.KILLED_BEFORE:
                self.is_dead = True
                raise Killed
            case Kind.KILLED_AFTER | Kind.KILLED_IN_PART:
                self.is_dead = True
                with suppress(Refused):
                    perform(half if kind is Kind.KILLED_IN_PART else None)
                raise Killed
            case Kind.FAILS:
                raise ConnectTimeoutError(endpoint_url=call.service)
            case Kind.LOST | Kind.LOST_ONCE:
                with suppress(Refused):
                    perform(None)
                raise ReadTimeoutError(endpoint_url=call.service)
            case Kind.IN_PART:
                return perform(half)

    def _doubt(self, kind: Kind, call: Call, *, is_done: bool) -> None:
        """Whether this leaves an email in doubt, as docs/mail.md has it: never sent again.

        Its record says that somebody is at it, and nobody is.
        """
        if call.service == "sesv2":
            if kind is not Kind.FAILS:
                self.in_doubt[self.about] = is_done
        elif call.operation == "PutItem":
            if is_done:
                self.in_doubt[self.about] = False
        elif call.operation in ("UpdateItem", "DeleteItem") and self.about in self._begun:
            self.in_doubt[self.about] = call.operation == "UpdateItem"


@dataclass
class _Noted:
    """Performs a call about emails; notes whether it was done, and what records it leaves begun."""

    perform: Perform
    begun: set[str]
    is_done: bool = False

    def __call__(self, call: Call, most: int | None = None) -> Json:
        answer = self.perform(call) if most is None else self.perform(call, most)
        self.is_done = True
        if call.operation == "PutItem":
            self.begun.add(call.parameters["Item"]["id"]["S"])
        if call.operation in ("UpdateItem", "DeleteItem"):
            self.begun.discard(call.parameters["Key"]["id"]["S"])
        return answer


def _perform(call: Call, perform: Perform, most: int | None) -> Json:
    """The call, or the first so many of its parts."""
    if most is None:
        return perform(call)
    if call.operation != "BatchExecuteStatement":
        return perform(call, most)
    # Statements succeed and fail one by one.
    count = len(call.parameters["Statements"])
    return some_of(call, perform, [place < most for place in range(count)], "ThrottlingError")
