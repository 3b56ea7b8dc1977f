"""A line of the ledger, and the seal that chains it to the line before.

A line is stored as its canonical text. The hash covers this text, so it never changes. Texts by
people in a line can be erased; its numbers and the chain stay.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from .batches import DEFAULT_PRIORITY, Batches, CreditBatch, Leg, Legs, Source
from .calendar import Period
from .damage import (
    WRONG,
    Damage,
    choice_of,
    instant,
    text,
    text_or_none,
    value_of,
    whole_number,
)
from .errors import InvalidInput, LedgerCorrupt
from .fields import parse_priority
from .holds import Hold, Holds, available
from .instants import to_milliseconds, to_next_second
from .metadata import Metadata, parse_metadata
from .prices import Price

SCHEMA = 3
"""The form entries are written in. Entries of every earlier form stay readable, and keep it:

1  the first
2  has the correlation id
3  batches have a priority and a source; holds; metadata; purchases and refunds

Missing and default values are not written: most entries are as long as those of form 2.
"""

FIRST_HASH = "0" * 64
"""The hash that stands before the first entry of a ledger."""

HASH_DIGITS = 12
"""How many digits of an entry's hash emails and events show: enough to notice a rewritten line."""

SYSTEM = "system"
"""The actor of scheduled work. Some old entries of admins have it too, so scheduled work is
recognised by its types. Today nobody else may use this name (`fields.RESERVED_ACTORS`)."""

TOP_UP = "plan_change#"
"""The prefix of the operation of an allocation on top of its period's allocation."""

ERASED = "(erased)"
"""Replaces a text about a person who has been erased."""


_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class EntryType(StrEnum):
    """What an entry does. Among the grants only `ALLOCATION` advances the allocated period."""

    ALLOCATION = "allocation"
    EXPIRATION = "expiration"
    USAGE = "usage"
    MANUAL = "manual"
    REVERSAL = "reversal"
    HOLD = "hold"
    RELEASE = "release"
    PURCHASE = "purchase"
    REFUND = "refund"


SCHEDULED = frozenset({EntryType.ALLOCATION, EntryType.EXPIRATION})
"""The types that only scheduled work writes: their texts come from us, and they have no markers."""

_OF_PAYMENTS = frozenset({EntryType.PURCHASE, EntryType.REFUND})


class UsageItem(NamedTuple):
    """One of several usages that an entry books at once; ``key`` is its idempotency key."""

    key: str
    amount: int
    description: str
    metadata: Metadata = ()


class Refund(NamedTuple):
    """The state of a purchase: how much of it was refunded, and how much could be taken back.

    ``purchase`` is the number of its entry. ``in_all``: refunded so far, in credits.
    ``unrecovered``: what could not be taken from the batch, for example because it was spent.
    ``observed_at``: the time of observation of the newest report; None if no report named one.
    """

    purchase: int
    in_all: int
    unrecovered: int
    observed_at: datetime | None = None

    @property
    def taken(self) -> int:
        """What was taken from the batch so far, less what was given back to it."""
        return self.in_all - self.unrecovered


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One immutable line: the change, and the account after it.

    ``amount`` is the signed change of the ledger balance and the sum of ``legs``; ``balance`` and
    ``batches`` (the open ones, in burn-down order) are the state after. ``effective_at`` is when
    the change was due, ``posted_at`` when it was written. ``expiry_timezone`` names the zone whose
    sweep will expire the batch granted here, if one was granted that can expire. ``silent``: no
    email is sent about it. ``correlation_id``: the operation that wrote it, as the logs name it.
    ``schema``: the form it is stored in. ``usage``: of a reversal, the number of the usage that it
    gives back; None in reversals from before it was recorded.

    ``holds``: the active ones after it, the oldest first. ``hold``: the number of the hold that a
    release, or a capture (which is a usage), ends; ``released``: how much of the hold is free
    again. ``including_held``: it took credits that were held. ``metadata``: the caller's pairs of
    texts. ``items``: the usages of an entry that books several at once; its operation then has no
    key, and the items have theirs. ``left_out``: how much of an allocation did not fit under its
    plan's ``balance_cap``, which is set only then. ``sign_up``: it is for the period in which a new
    subscriber signed up, and due since then. ``topped_up_at``: the latest step up to a larger plan
    that is in the period allocated last; it is part of the state.

    ``price``: of a purchase, what was paid. ``refund``: of a refund, the state of its purchase
    after it.
    """

    user_id: str
    number: int
    type: EntryType
    amount: int
    balance: int
    batches: Batches
    legs: Legs
    allocated_through: Period | None
    operation: str
    description: str
    actor: str
    effective_at: datetime
    posted_at: datetime
    expiry_timezone: str | None
    silent: bool = False
    correlation_id: str | None = None
    schema: int = SCHEMA
    usage: int | None = None
    holds: Holds = ()
    hold: int | None = None
    released: int | None = None
    including_held: bool = False
    metadata: Metadata = ()
    items: tuple[UsageItem, ...] = ()
    price: Price | None = None
    refund: Refund | None = None
    left_out: int = 0
    balance_cap: int | None = None
    sign_up: bool = False
    topped_up_at: datetime | None = None

    @property
    def granted_batch(self) -> CreditBatch | None:
        """The batch this entry granted, if any: a batch bears the number of its grant."""
        return next((batch for batch in self.batches if batch.number == self.number), None)

    @property
    def opened_hold(self) -> Hold | None:
        """The hold this entry opened, if any: a hold bears the number of its entry."""
        return next((hold for hold in self.holds if hold.number == self.number), None)

    @property
    def sweep_at(self) -> datetime | None:
        """When a sweep must look for credits to book out because of this entry, if ever.

        That is when the batch it granted expires; or when the hold it opened ends, if a batch of
        the hold expires before; or at once, if the hold it ended has freed credits that had
        expired. A hold can end between two seconds: then the later second counts, because the time
        goes into a sort key.
        """
        if self.expiry_timezone is None:
            return None
        if batch := self.granted_batch:
            return batch.expires_at
        return to_next_second(hold.expires_at if (hold := self.opened_hold) else self.posted_at)

    @property
    def payment_id(self) -> str | None:
        """The payment of a purchase or a refund; None for other entries, and once it is erased."""
        if self.type not in _OF_PAYMENTS or _ERASED_OPERATION.fullmatch(self.operation):
            return None
        return self.operation.partition("#")[2]

    @property
    def begins_period(self) -> bool:
        """Whether it allocates a period, and not only a part on top of one."""
        return self.type is EntryType.ALLOCATION and not self.operation.startswith(TOP_UP)

    @property
    def transaction_id(self) -> str:
        """The entry's name outside the ledger, unique over all users."""
        return f"{self.user_id}-{self.number}"

    def available_balance(self, at: datetime | None = None) -> int:
        """What could be spent at an instant; the default is when the entry was posted."""
        return available(self.batches, self.holds, at or self.posted_at)

    def body(self) -> str:
        """The canonical JSON text: the hashed bytes are exactly the stored ones."""
        return _canonical(
            {
                "schema": self.schema,
                "number": self.number,
                "type": self.type.value,
                "amount": self.amount,
                "balance": self.balance,
                "batches": [_batch_values(batch, self.schema) for batch in self.batches],
                "legs": self.legs,
                "through": self.allocated_through and str(self.allocated_through),
                "operation": self.operation,
                "description": self.description,
                "actor": self.actor,
                "effective": to_milliseconds(self.effective_at),
                "posted": to_milliseconds(self.posted_at),
                "zone": self.expiry_timezone,
                # Only if true: entries from before there were emails keep their text.
                **({"silent": True} if self.silent else {}),
                **({"correlation": self.correlation_id} if self.schema >= 2 else {}),
                # Only in a reversal. A release that does not know the field ignores it.
                **({} if self.usage is None else {"usage": self.usage}),
                **(self._values_of_form_3() if self.schema >= 3 else {}),
            }
        )

    def _values_of_form_3(self) -> dict[str, Any]:
        """The fields that exist since form 3, where an entry has them."""
        refund = self.refund
        values: dict[str, Any] = {
            "holds": [
                (hold.number, to_milliseconds(hold.expires_at), hold.legs) for hold in self.holds
            ]
            or None,
            "hold": self.hold,
            "released": self.released,
            "including_held": self.including_held or None,
            "metadata": dict(self.metadata) or None,
            "items": [
                (*item[:3], dict(item.metadata)) if item.metadata else item[:3]
                for item in self.items
            ]
            or None,
            "price": self.price,
            "refund": refund
            and (*refund[:3], refund.observed_at and to_milliseconds(refund.observed_at)),
            "left_out": self.left_out or None,
            "balance_cap": self.balance_cap,
            "sign_up": self.sign_up or None,
            "topped_up": self.topped_up_at and to_milliseconds(self.topped_up_at),
        }
        return {name: value for name, value in values.items() if value is not None}

    @classmethod
    def from_body(cls, user_id: str, number: int, body: str) -> "LedgerEntry":
        """Reads what `body` wrote. Raises `LedgerCorrupt` for anything else."""
        try:
            entry = cls._from_values(user_id, _object(body))
        except Damage as error:
            raise LedgerCorrupt(user_id, number, f"the body cannot be read ({error})") from error
        if entry.number != number:
            raise LedgerCorrupt(user_id, number, f"the body says number {entry.number}")
        return entry

    @classmethod
    def _from_values(cls, user_id: str, values: dict[str, Any]) -> "LedgerEntry":
        schema = value_of(values, "schema", _schema)
        readers = _READERS_OF[schema]
        said = {name: parse for name, parse in _WHERE_SAID[schema].items() if name in values}
        return cls(user_id=user_id, schema=schema, **_read(values, readers), **_read(values, said))


def _object(body: str) -> dict[str, Any]:
    try:
        values = json.loads(body)
    except (RecursionError, ValueError) as error:
        raise Damage("it is no JSON") from error
    if not isinstance(values, dict):
        raise Damage("it is no object")
    return values


def _schema(value: object) -> int:
    schema = whole_number(value)
    if not 1 <= schema <= SCHEMA:
        raise Damage("is unknown to this release")
    return schema


def _batch_values(batch: CreditBatch, schema: int) -> tuple[Any, ...]:
    values = (
        batch.number,
        batch.granted,
        batch.remaining,
        to_milliseconds(batch.granted_at),
        batch.expires_at and to_milliseconds(batch.expires_at),
    )
    # An ordinary batch, of a plan, is written as briefly as before.
    if schema < 3 or (batch.priority, batch.source) == (DEFAULT_PRIORITY, Source.PLAN):
        return values
    return (*values, batch.priority, batch.source)


def _batches_of(schema: int) -> Callable[[list[Any]], Batches]:
    """The reader of the batches of an entry of that form."""
    # Before form 3 the source of a batch was not recorded.
    is_said = schema >= 3
    unsaid = (DEFAULT_PRIORITY, Source.PLAN if is_said else None)

    def read(values: list[Any]) -> Batches:
        return tuple(
            _batch(batch[:5], _said(*batch[5:]))
            if is_said and len(batch) > 5
            else _batch(batch, unsaid)
            for batch in values
        )

    return read


def _said(priority: object, source: str | None) -> tuple[int, Source | None]:
    """The recorded values of a batch that is not an ordinary one."""
    return _priority(priority), None if source is None else choice_of(Source, source)


def _batch(values: list[Any], said: tuple[int, Source | None]) -> CreditBatch:
    number, granted, remaining, granted_at, expires_at = values
    return CreditBatch(
        whole_number(number),
        whole_number(granted),
        whole_number(remaining),
        instant(granted_at),
        None if expires_at is None else instant(expires_at),
        *said,
    )


def _priority(value: object) -> int:
    try:
        return parse_priority("priority", value)
    except InvalidInput as error:
        raise Damage("has a priority that no batch has") from error


def _holds(values: list[Any]) -> Holds:
    return tuple(
        Hold(whole_number(number), _legs(legs), instant(expires_at))
        for number, expires_at, legs in values
    )


def _items(values: list[list[Any]]) -> tuple[UsageItem, ...]:
    return tuple(
        UsageItem(text(key), whole_number(amount), text(description), *map(_metadata, more))
        for key, amount, description, *more in values
    )


def _price(values: list[Any]) -> Price:
    amount, currency = values
    return Price(whole_number(amount), text(currency))


def _refund(values: list[Any]) -> Refund:
    purchase, in_all, unrecovered, observed_at = values
    return Refund(
        whole_number(purchase),
        whole_number(in_all),
        whole_number(unrecovered),
        None if observed_at is None else instant(observed_at),
    )


def _metadata(value: object) -> Metadata:
    try:
        return parse_metadata("metadata", value)
    except InvalidInput as error:
        # The message quotes none of it.
        raise Damage("are not pairs of short texts") from error


def _legs(values: list[Any]) -> Legs:
    return tuple(Leg(whole_number(batch), whole_number(amount)) for batch, amount in values)


@lru_cache(maxsize=1_024)
def _period(value: str | None) -> Period | None:
    return None if value is None else Period.parse(value)


def _type(value: str) -> EntryType:
    return choice_of(EntryType, value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise Damage("is neither true nor false")
    return value


Reader = Callable[[Any], Any]


def _read(values: dict[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    """The fields that these readers read. Raises `Damage`, which names the value."""
    try:
        return {_FIELDS.get(name, name): parse(values[name]) for name, parse in readers.items()}
    except WRONG:
        # Only now find out which one was wrong: nearly every entry is right.
        for name, parse in readers.items():
            value_of(values, name, parse)
        raise


_FIELDS = {
    "through": "allocated_through",
    "effective": "effective_at",
    "posted": "posted_at",
    "zone": "expiry_timezone",
    "correlation": "correlation_id",
    "topped_up": "topped_up_at",
}
"""The fields whose name in the text differs."""

_FORMS = range(1, SCHEMA + 1)

_READERS_OF: dict[int, dict[str, Reader]] = {
    schema: {
        "number": whole_number,
        "type": _type,
        "amount": whole_number,
        "balance": whole_number,
        "batches": _batches_of(schema),
        "legs": _legs,
        "through": _period,
        "operation": text,
        "description": text,
        "actor": text,
        "effective": instant,
        "posted": instant,
        "zone": text_or_none,
        **({"correlation": text_or_none} if schema >= 2 else {}),
    }
    for schema in _FORMS
}
"""The readers of the fields that every entry of a form has."""

_WHERE_SAID: dict[int, dict[str, Reader]] = {
    schema: {
        "silent": _flag,
        "usage": whole_number,
        **(
            {
                "holds": _holds,
                "hold": whole_number,
                "released": whole_number,
                "including_held": _flag,
                "metadata": _metadata,
                "items": _items,
                "price": _price,
                "refund": _refund,
                "left_out": whole_number,
                "balance_cap": whole_number,
                "sign_up": _flag,
                "topped_up": instant,
            }
            if schema >= 3
            else {}
        ),
    }
    for schema in _FORMS
}
"""The readers of optional fields. Fields that a form does not have are not looked for."""


def entry_hash(previous_hash: str, user_id: str, body: str) -> str:
    """The seal of an entry: SHA-256 over the hash of the entry before, the user and the body."""
    return hashlib.sha256("\n".join((previous_hash, user_id, body)).encode()).hexdigest()


def erased_hash(previous_hash: str, user_id: str, body: str, original_hash: str) -> str:
    """The seal of an entry whose texts were erased. The entry also keeps its first hash.

    The next entry is chained to the first hash. Nobody can compute that again without the texts, so
    this seal covers it together with the remaining body.
    """
    return entry_hash(previous_hash, user_id, f"{body}\n{original_hash}")


def without_texts(entry: LedgerEntry, names: Collection[str] = ()) -> LedgerEntry:
    """The entry without texts by people, its metadata, and its actor if that was the user.

    ``names``: the names of the user as an actor, such as the subject of their tokens; the user id
    is always one of them. The operation's caller and key are texts, too: only its kind and the
    digest of the whole stay. Texts of scheduled work are about nobody and stay. Numbers, amounts,
    batches and instants stay.
    """
    if entry.type in SCHEDULED:
        return entry
    kind, _, _ = entry.operation.partition("#")
    return replace(
        entry,
        description=ERASED,
        actor=ERASED if entry.actor in {entry.user_id, *names} else entry.actor,
        operation=f"{kind}#{ERASED} {digest_of(entry)}",
        metadata=(),
        items=tuple(
            UsageItem(f"{ERASED} {digest}", item.amount, ERASED)
            for item, digest in zip(entry.items, digests_of(entry), strict=False)
        ),
    )


def digests_of(entry: LedgerEntry) -> tuple[str, ...]:
    """The digests of all operations that an entry performed, even if its texts were erased.

    They name its markers. A refund has none: reports about a payment have no keys, and its link
    prevents a second refund.
    """
    if entry.type is EntryType.REFUND:
        return ()
    if not entry.items:
        return (digest_of(entry),)
    return tuple(
        item.key.removeprefix(_ERASED_KEY)
        if item.key.startswith(_ERASED_KEY)
        else operation_digest(f"{entry.operation}#{item.key}")
        for item in entry.items
    )


def digest_of(entry: LedgerEntry) -> str:
    """The digest of the operation that wrote an entry, even if its texts were erased later."""
    erased = _ERASED_OPERATION.fullmatch(entry.operation)
    return erased[1] if erased else operation_digest(entry.operation)


def operation_digest(operation: str) -> str:
    """The digest of an operation, kept for ever: it recognises the operation without its text."""
    return hashlib.sha256(operation.encode()).hexdigest()


_ERASED_KEY = f"{ERASED} "
"""The beginning of the key of an erased item: no key has a blank."""

_ERASED_OPERATION = re.compile(rf"[a-z]+#{re.escape(ERASED)} ([0-9a-f]{{64}})")
"""The operation of an erased entry. No request's operation looks like it: keys have no blanks."""
