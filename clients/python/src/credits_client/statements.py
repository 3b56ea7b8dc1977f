"""Verifies a statement: whether its entries are unaltered, and obey the rules.

It trusts nobody, not even the API: from the lines alone it recomputes each hash and each state, and
checks the rules of each type of entry. Its twin in JavaScript, `verify.mjs` in `clients/statement`,
finds the same: the test vectors in `vectors.json` beside it check both.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

__all__ = ["StatementCheck", "verify_statement"]

FORMAT = "credits-statement-1"
_FIRST_HASH = "0" * 64
_ERASED = "(erased)"
_TOP_UP = "plan_change#"
_VOID = "void#"
_MOST_ITEMS = 90
_LONGEST_HOLD = 30 * 24 * 60 * 60 * 1000
_FIRST_INSTANT, _END_OF_INSTANTS = -86_400_000, 32_503_766_400_000
_TYPES = frozenset(
    [
        "allocation",
        "expiration",
        "usage",
        "manual",
        "reversal",
        "hold",
        "release",
        "purchase",
        "refund",
    ]
)
_SOURCES = frozenset(["plan", "purchase", "promotion", "adjustment", "carried_over"])


@dataclass(frozen=True, kw_only=True)
class StatementCheck:
    """The findings of a statement's check.

    ``line``: the number of the first wrong entry, and ``problem`` what is wrong with it; without a
    number the statement itself is wrong. ``first`` and ``last``: the entries that it has, if any.
    ``balance``: the ledger balance after the last of them. ``untold``: entries that name others
    from before the statement, so that some of their rules could not be checked. ``unseen``:
    witnessed entries that are not in it. ``words`` says all of this.
    """

    is_right: bool
    line: int | None
    problem: str | None
    words: str
    user_id: str | None = None
    first: int | None = None
    last: int | None = None
    balance: int | None = None
    untold: tuple[int, ...] = ()
    unseen: tuple[int, ...] = ()


def verify_statement(lines: str | Iterable[str], witnesses: Iterable[str] = ()) -> StatementCheck:
    """Checks a statement, as a text or as lines; all pages, one after the other.

    ``witnesses``: what emails and events say about entries, such as ``15:ab12cd34ef56``: the number
    and the first twelve or more digits of the hash. Each may be a longer text that contains them,
    such as a whole email. Only witnesses show that the end was not cut off or rewritten.
    """
    if isinstance(lines, str):
        lines = lines.split("\n")
    walk = _Walk(_witnessed(witnesses))
    try:
        for place, text in enumerate(lines, 1):
            if text.strip(" \t\r\n"):
                walk.take(place, text)
        walk.finish()
    except _Wrong as wrong:
        return walk.found(wrong)
    return walk.found(None)


class _Wrong(Exception):
    """The first mistake; the number of the entry, None for the statement itself."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


_WITNESS = re.compile(r"(?<![0-9])([0-9]{1,12}):([0-9a-f]{12,64})(?![0-9a-f])", re.ASCII)


def _witnessed(texts: Iterable[str]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for text in texts:
        named = _WITNESS.findall(text)
        if not named:
            raise ValueError("a witness must say a number and 12 digits, such as 15:ab12cd34ef56")
        for number, digits in named:
            found.setdefault(int(number), []).append(digits)
    return found


# --- Reading --------------------------------------------------------------------------------------


class _Leg(NamedTuple):
    batch: int
    amount: int


class _Batch(NamedTuple):
    number: int
    granted: int
    remaining: int
    granted_at: int
    expires_at: int | None
    priority: int
    source: str | None

    def is_usable(self, now: int) -> bool:
        return self.expires_at is None or now < self.expires_at


class _Hold(NamedTuple):
    number: int
    expires_at: int
    legs: tuple[_Leg, ...]

    @property
    def amount(self) -> int:
        return sum(leg.amount for leg in self.legs)


class _Refund(NamedTuple):
    purchase: int
    in_all: int
    unrecovered: int
    observed: int | None

    @property
    def taken(self) -> int:
        return self.in_all - self.unrecovered


@dataclass(frozen=True)
class _Entry:
    """An entry as in its body; instants are milliseconds since 1970."""

    number: int
    type: str
    amount: int
    balance: int
    batches: tuple[_Batch, ...]
    legs: tuple[_Leg, ...]
    through: str | None
    operation: str
    description: str
    actor: str
    effective: int
    posted: int
    zone: str | None
    usage: int | None
    holds: tuple[_Hold, ...]
    hold: int | None
    released: int | None
    including_held: bool
    metadata: Mapping[str, str]
    items: Sequence[Sequence[Any]]
    price: object
    refund: _Refund | None
    left_out: int
    balance_cap: int | None
    sign_up: bool
    topped_up: int | None

    @property
    def granted_batch(self) -> _Batch | None:
        return next((batch for batch in self.batches if batch.number == self.number), None)

    @property
    def opened_hold(self) -> _Hold | None:
        return next((hold for hold in self.holds if hold.number == self.number), None)


_NAMES = [
    "schema",
    "number",
    "type",
    "amount",
    "balance",
    "batches",
    "legs",
    "through",
    "operation",
    "description",
    "actor",
    "effective",
    "posted",
    "zone",
]
_NAMES_OF_FORM_3 = [
    "holds",
    "hold",
    "released",
    "including_held",
    "metadata",
    "items",
    "price",
    "refund",
    "left_out",
    "balance_cap",
    "sign_up",
    "topped_up",
]


def _entry_of(number: int, body: str) -> _Entry:
    """The entry of a body. Raises `_Wrong` unless it is in canonical form."""
    try:
        values = _object(body)
        entry = _read(values)
        is_canonical = json.dumps(values, ensure_ascii=False, separators=(",", ":")) == body
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        is_canonical = False
    if not is_canonical:
        raise _Wrong("the body is not in its canonical form", number)
    if entry.number != number:
        raise _Wrong(f"the body says number {entry.number}", number)
    return entry


def _object(text: str) -> dict[str, Any]:
    """The object of a JSON text."""
    values = json.loads(text, parse_constant=_no_constant)
    _must(isinstance(values, dict))
    return dict(values)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _read(values: dict[str, Any]) -> _Entry:
    """Raises `ValueError` for impossible values; wrong shapes raise other errors."""
    schema = _whole(values["schema"])
    _must(1 <= schema <= 3)
    named = [*_NAMES, "silent", *(["correlation"] if schema >= 2 else []), "usage"]
    named += _NAMES_OF_FORM_3 if schema >= 3 else []
    _must([*values] == [name for name in named if name in values])
    _must({*_NAMES} <= {*values} and (schema < 2 or "correlation" in values))
    for name in ("silent", "including_held", "sign_up"):
        _must(values.get(name, True) is True)
    for name in ("holds", "metadata", "items", "left_out"):  # not written if empty
        _must(name not in values or bool(values[name]))
    for name in ("operation", "description", "actor"):
        _text(values[name])
    for name in ("zone", "correlation"):
        _must(values.get(name) is None or isinstance(values[name], str))
    _must(values["type"] in _TYPES)
    through = values["through"]
    _must(through is None or bool(_PERIOD.fullmatch(through)))
    for name, kind in (("price", 2), ("refund", 4)):
        _must(name not in values or len(values[name]) == kind)
    if "price" in values:
        _whole(values["price"][0])
        _text(values["price"][1])
    numbers = {
        name: _whole(values[name]) if name in values else None
        for name in ("usage", "hold", "released", "balance_cap")
    }
    items = values.get("items", [])
    for key, amount, description, *more in items:
        _text(key)
        _whole(amount)
        _text(description)
        _must(len(more) < 2 and all(_metadata(each) for each in more))
    refund = values.get("refund")
    return _Entry(
        number=_whole(values["number"]),
        type=values["type"],
        amount=_whole(values["amount"]),
        balance=_whole(values["balance"]),
        batches=tuple(_batch(schema, each) for each in _list(values["batches"])),
        legs=_legs(values["legs"]),
        through=through,
        operation=values["operation"],
        description=values["description"],
        actor=values["actor"],
        effective=_instant(values["effective"]),
        posted=_instant(values["posted"]),
        zone=values["zone"],
        holds=tuple(
            _Hold(_whole(number), _instant(expires_at), _legs(legs))
            for number, expires_at, legs in values.get("holds", ())
        ),
        including_held="including_held" in values,
        metadata=_metadata(values.get("metadata", {})),
        items=items,
        price=values.get("price"),
        refund=refund and _refund(*refund),
        left_out=_whole(values.get("left_out", 0)),
        sign_up="sign_up" in values,
        topped_up=_instant(values["topped_up"]) if "topped_up" in values else None,
        **numbers,
    )


_PERIOD = re.compile(r"(19[7-9]|2[0-9]{2})[0-9]-(0[1-9]|1[0-2])", re.ASCII)
_KEY = re.compile(r"[a-z0-9_]{1,40}")
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def _must(is_so: bool) -> None:  # noqa: FBT001 - it is the one thing that it is about
    if not is_so:
        raise ValueError


def _whole(value: Any) -> int:
    # No entry has larger numbers, and JavaScript cannot tell them from their neighbours.
    _must(type(value) is int and abs(value) < 2**53)
    return int(value)


def _text(value: Any) -> None:
    _must(isinstance(value, str))


def _list(value: Any) -> list[Any]:
    _must(isinstance(value, list))
    return list(value)


def _instant(value: Any) -> int:
    _must(_FIRST_INSTANT <= _whole(value) < _END_OF_INSTANTS)
    return int(value)


def _instant_or_none(value: Any) -> int | None:
    return None if value is None else _instant(value)


def _legs(values: Any) -> tuple[_Leg, ...]:
    return tuple(_Leg(_whole(batch), _whole(amount)) for batch, amount in _list(values))


def _batch(schema: int, values: list[Any]) -> _Batch:
    if len(values) == 5:
        values = [*values, 50, "plan" if schema >= 3 else None]
    else:
        _must(schema >= 3 and values[5:] != [50, "plan"])
    number, granted, remaining, granted_at, expires_at, priority, source = values
    _must(0 <= _whole(priority) <= 100 and (source is None or source in _SOURCES))
    expires = _instant_or_none(expires_at)
    return _Batch(
        _whole(number),
        _whole(granted),
        _whole(remaining),
        _instant(granted_at),
        expires,
        priority,
        source,
    )


def _refund(purchase: Any, in_all: Any, unrecovered: Any, observed: Any) -> _Refund:
    return _Refund(
        _whole(purchase), _whole(in_all), _whole(unrecovered), _instant_or_none(observed)
    )


def _metadata(pairs: Any) -> dict[str, str]:
    _must(isinstance(pairs, dict) and [*pairs] == sorted(pairs) and len(pairs) <= 10)
    for key, text in pairs.items():
        _must(bool(_KEY.fullmatch(key)) and not _CONTROL.search(text))
    _must(sum(len(part.encode()) for pair in pairs.items() for part in pair) <= 512)
    return dict(pairs)


# --- Walking --------------------------------------------------------------------------------------


@dataclass
class _Walk:
    """Goes through a statement; the account is that of its last entry.

    ``earlier``: the number of the entry before the statement, 0 at the beginning of a ledger.
    ``used``: by usage, what it took from each batch and did not give back; None for all usages.
    """

    witnesses: Mapping[int, Sequence[str]]
    user_id: str | None = None
    made_at: str = ""
    earlier: int = 0
    opening: int = 0
    first: int | None = None
    last: _Entry | None = None
    last_hash: str = _FIRST_HASH
    granted: dict[int, _Batch] = field(default_factory=dict)
    used: dict[int | None, Counter[int]] = field(default_factory=lambda: {None: Counter()})
    refunds: dict[int, _Refund] = field(default_factory=dict)
    untold: list[int] = field(default_factory=list)
    counted: int = 0
    is_open: bool = False
    is_end: bool = False

    def take(self, place: int, text: str) -> None:
        """Takes one line: the head of a page, an entry, or the foot."""
        try:
            values = _object(text)
            is_head, is_foot = "format" in values, "lines" in values
            if self.is_open and not is_head:
                if is_foot:
                    self._close(values["lines"], is_end=values["is_end"])
                else:
                    self._entry(values)
                return
            _must(is_head and not self.is_open and values["format"] == FORMAT)
            _text(values["user_id"])
            _text(values["made_at"])
            self._head(values["user_id"], values["before"])
            self.made_at = values["made_at"]
        except (LookupError, RecursionError, TypeError, ValueError) as error:
            raise _Wrong(f"line {place} of the file is not one of a statement") from error

    def finish(self) -> None:
        """Checks, after the last line, that it was the foot, and that every witness was seen."""
        if self.user_id is None:
            raise _Wrong("there is nothing in it")
        if self.is_open:
            raise _Wrong("its last line is missing: it was cut off")
        latest = max(self.witnesses, default=0)
        if self.is_end and latest >= self._next:
            raise _Wrong(f"entries up to {latest} were witnessed and are gone", self._next)

    @property
    def _next(self) -> int:
        return self.last.number + 1 if self.last else 1

    def _head(self, user_id: str, before: Any) -> None:
        if self.user_id is not None:
            at = before and (before["number"], before["hash"])
            if (user_id, at) != (self.user_id, self.last and (self._next - 1, self.last_hash)):
                raise _Wrong("a page does not begin where the page before it ended")
        elif before is not None:
            self.user_id = user_id
            _text(before["previous_hash"])
            _must(_whole(before["number"]) >= 1)
            if before["number"] > 1:  # before the first there is nothing
                self.last_hash = before["previous_hash"]
            self.last = self._sealed(before)
            self.earlier = self.last.number
            self.opening = self.last.balance
            self.granted = {batch.number: batch for batch in self.last.batches}
            self.last_hash = before["hash"]
        self.user_id, self.is_open, self.counted = user_id, True, 0

    def _close(self, lines: object, *, is_end: object) -> None:
        _must(type(lines) in (int, float))
        if lines != self.counted:
            raise _Wrong(f"its last line counts {lines} entries, and there are {self.counted}")
        _must(isinstance(is_end, bool))
        self.is_open, self.is_end = False, is_end is True

    def _entry(self, values: Any) -> None:
        number = _whole(values["number"])
        if number != self._next:
            raise _Wrong(f"entry {self._next} is missing before it", number)
        entry = self._sealed(values)
        self._remember_earlier(entry)
        for is_so, problem in _rules(self, entry):
            if not is_so:
                raise _Wrong(problem, number)
        self._book(entry)
        self.last, self.last_hash = entry, values["hash"]
        self.first = self.first or number
        self.counted += 1

    def _sealed(self, values: Any) -> _Entry:
        """An entry that is, byte for byte, as it was written or as its erasure left it."""
        number, body, hash_ = _whole(values["number"]), values["body"], values["hash"]
        erased = values.get("erased")
        for text in (body, hash_, *([] if erased is None else [erased])):
            _text(text)
        sealed = body if erased is None else f"{body}\n{hash_}"
        if _digest(f"{self.last_hash}\n{self.user_id}\n{sealed}") != (erased or hash_):
            raise _Wrong("the hash does not match the body and the entry before", number)
        entry = _entry_of(number, body)
        if erased is not None and not _is_erased(self.user_id, entry):
            raise _Wrong("it is marked as erased and still has its texts", number)
        if not all(hash_.startswith(digits) for digits in self.witnesses.get(number, ())):
            raise _Wrong("its hash is not the one that was witnessed", number)
        return entry

    def _remember_earlier(self, entry: _Entry) -> None:
        """Batches that were closed before the statement can be reopened: then they appear in it.

        Their first appearance is believed; everything after it must agree.
        """
        if entry.type in ("reversal", "refund"):
            for batch in entry.batches:
                if self.is_earlier(batch.number):
                    self.granted.setdefault(batch.number, batch)
        named = entry.usage if entry.refund is None else entry.refund.purchase
        is_unnamed = entry.type == "reversal" and named is None
        is_told = not self.is_earlier(named) or named in self.refunds
        if not is_told or (is_unnamed and any(self.is_earlier(leg.batch) for leg in entry.legs)):
            self.untold.append(entry.number)

    def is_earlier(self, number: int | None) -> bool:
        """Whether that entry is from before the statement."""
        return number is not None and 1 <= number <= self.earlier

    def _book(self, entry: _Entry) -> None:
        """Adds an entry that obeys the rules."""
        if entry.type in ("usage", "reversal"):
            usage = entry.number if entry.type == "usage" else entry.usage
            for name in {None, usage}:
                self.used.setdefault(name, Counter()).subtract(dict(entry.legs))
        if entry.type == "purchase":
            self.refunds[entry.number] = _Refund(entry.number, 0, 0, None)
        elif entry.refund:
            self.refunds[entry.refund.purchase] = entry.refund

    def found(self, wrong: _Wrong | None) -> StatementCheck:
        """The findings, in words."""
        low, high = self.first or self._next, self._next
        unseen = tuple(n for n in sorted(self.witnesses) if not max(low - 1, 1) <= n < high)
        heard = sum(map(len, self.witnesses.values())) - sum(
            len(self.witnesses[number]) for number in unseen
        )
        if wrong:
            where = "" if wrong.line is None else f"entry {wrong.line}: "
            words = [f"Wrong: {where}{wrong.problem}."]
            if wrong.line is not None and self.first:
                words.append(f"What comes before, from entry {self.first} on, is right.")
        else:
            words = [*self._said_of_entries(), *self._said_of_end(heard, unseen)]
        return StatementCheck(
            is_right=wrong is None,
            line=wrong.line if wrong else None,
            problem=wrong.problem if wrong else None,
            words=" ".join(words),
            user_id=self.user_id,
            first=self.first,
            last=self.last.number if self.last and self.first else None,
            balance=self.last.balance if self.last else 0,
            untold=tuple(self.untold),
            unseen=unseen,
        )

    def _said_of_entries(self) -> Iterator[str]:
        if self.first is None:
            yield f"Right: the statement of user {self.user_id} has no entries."
        else:
            yield (
                f"Right: entries {self.first} to {self._next - 1} of user {self.user_id} follow "
                "from each other, by their hashes and by the rules."
            )
        if self.earlier:
            yield f"They begin after entry {self.earlier}, with a balance of {self.opening}."
        yield f"The balance at the end is {self.last.balance if self.last else 0}."
        if self.untold:
            yield (
                f"Of entries {_listed(self.untold)} not all can be told: they name others from "
                "before the statement."
            )

    def _said_of_end(self, heard: int, unseen: Sequence[int]) -> Iterator[str]:
        if self.is_end:
            yield f"It says that no entry came after them until {self.made_at}."
        else:
            yield "It ends before the ledger does."
        if heard:
            yield f"What {heard} emails or events say agrees with it."
        if unseen:
            yield f"Witnessed entries that are not in it: {_listed(unseen)}."
        if not heard and not unseen:
            yield "Only what emails or events say can show that nothing was cut off at its end."


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _digest(text: str) -> str | None:
    try:
        return hashlib.sha256(text.encode()).hexdigest()
    except UnicodeEncodeError:  # a lone surrogate: nobody can have hashed it
        return None


_ERASED_OPERATION = re.compile(rf"[a-z]+#{re.escape(_ERASED)} [0-9a-f]{{64}}")


def _is_erased(user_id: str | None, entry: _Entry) -> bool:
    """Whether nothing is left of the texts of an erased entry."""
    return entry.description == _ERASED and (
        entry.type in ("allocation", "expiration")
        or (
            entry.actor != user_id
            and bool(_ERASED_OPERATION.fullmatch(entry.operation))
            and not entry.metadata
            and all(
                len(item) == 3 and item[0].startswith(f"{_ERASED} ") and item[2] == _ERASED
                for item in entry.items
            )
        )
    )


# --- The rules ------------------------------------------------------------------------------------


_Rule = tuple[bool, str]


class _State(NamedTuple):
    """The account before an entry, at the instant at which it was posted.

    ``holds``: the active ones. ``free``: by batch, what is usable and not held, in the order of
    use. ``dead``: what is neither usable nor held.
    """

    batches: Mapping[int, _Batch]
    holds: Mapping[int, _Hold]
    free: Mapping[int, int]
    dead: Mapping[int, int]

    @classmethod
    def of(cls, last: _Entry | None, posted: int) -> _State:
        batches = {batch.number: batch for batch in last.batches} if last else {}
        active = [hold for hold in last.holds if posted < hold.expires_at] if last else []
        held = _held(active)
        rest = {number: batch.remaining - held[number] for number, batch in batches.items()}
        usable = {number for number, batch in batches.items() if batch.is_usable(posted)}
        return cls(
            batches,
            {hold.number: hold for hold in active},
            {number: left for number, left in rest.items() if left and number in usable},
            {number: left for number, left in rest.items() if left and number not in usable},
        )


def _held(holds: Iterable[_Hold]) -> Counter[int]:
    found: Counter[int] = Counter()
    for hold in holds:
        for batch, amount in hold.legs:
            found[batch] += amount
    return found


def _rules(walk: _Walk, entry: _Entry) -> Iterator[_Rule]:
    """Every rule of an entry, with what is wrong if it is broken. The first broken rule counts."""
    last, granted = walk.last, walk.granted
    batch = entry.granted_batch
    if batch:
        granted[batch.number] = batch
    legs = dict(entry.legs)
    yield len(legs) == len(entry.legs), "a batch has two legs"
    yield legs.keys() <= granted.keys(), "a leg moves a batch that was never granted"
    yield entry.amount == sum(legs.values()), "the amount is not the sum of the legs"
    before = last.balance if last else 0
    yield entry.balance == before + entry.amount, "the balance does not add up"
    yield _open_after(last, legs, granted) == entry.batches, "the open batches do not add up"
    yield all(each.remaining > 0 for each in entry.batches), "an open batch holds nothing"
    yield (
        all(each.remaining <= each.granted for each in entry.batches),
        "a batch holds more than it was granted",
    )
    yield last is None or entry.posted >= last.posted, "it was posted before the entry before it"
    yield entry.effective <= entry.posted, "it was posted before it was due"
    state = _State.of(last, entry.posted)
    yield from _rules_of_grant(entry, batch)
    yield from _rules_of_holds(state, entry)
    yield from _rules_of_sweep(state, entry)
    yield from _rules_of_type(last, state, entry)
    yield from _rules_of_items(entry)
    yield from _rules_of_cap(state, entry)
    yield not entry.sign_up or entry.type == "allocation", "only an allocation is a first"
    if entry.type == "reversal":
        yield from _rules_of_reversal(walk, entry)
    else:
        yield entry.usage is None, "it gives back no usage, and names one"
    yield entry.price is None or entry.type == "purchase", "it has a price, and is no purchase"
    yield (
        (entry.refund is not None) == (entry.type == "refund"),
        "it says what was refunded, and is no refund, or the other way round",
    )
    if entry.refund:
        yield from _rules_of_refund(walk, state, entry, entry.refund)


def _open_after(
    last: _Entry | None, legs: Mapping[int, int], granted: Mapping[int, _Batch]
) -> tuple[_Batch, ...]:
    remaining = {batch.number: batch.remaining for batch in last.batches} if last else {}
    for number, amount in legs.items():
        remaining[number] = remaining.get(number, 0) + amount
    after = [granted[number]._replace(remaining=left) for number, left in remaining.items() if left]
    return tuple(sorted(after, key=lambda each: (each.priority, each.granted_at, each.number)))


def _rules_of_grant(entry: _Entry, batch: _Batch | None) -> Iterator[_Rule]:
    if batch:
        yield (
            entry.legs == ((batch.number, batch.granted),),
            "a grant moves its own batch, whole, and no other",
        )
        yield batch.granted_at <= entry.posted, "it grants credits of a later time"
        yield batch.is_usable(entry.posted), "it grants credits that have expired"
        yield (
            (batch.source == "purchase") == (entry.type == "purchase"),
            "a purchase alone grants what was bought",
        )


def _rules_of_holds(state: _State, entry: _Entry) -> Iterator[_Rule]:
    remaining = {batch.number: batch.remaining for batch in entry.batches}
    yield (
        all(amount <= remaining.get(batch, 0) for batch, amount in _held(entry.holds).items()),
        "more is held of a batch than remains of it",
    )
    yield (
        all(amount > 0 for hold in entry.holds for _, amount in hold.legs),
        "a hold sets nothing aside in a batch",
    )
    ends = entry.hold is not None
    yield not ends or entry.hold in state.holds, "it ends a hold that is not active"
    yield (
        not ends or entry.type in ("usage", "release"),
        "it ends a hold, and is neither a usage nor a release",
    )
    yield (
        (entry.released is not None) == ends,
        "what it releases and what hold it ends do not go together",
    )
    after = {hold.number: hold for hold in entry.holds}
    opened = after.pop(entry.number, None)
    yield (opened is not None) == (entry.type == "hold"), "it opens a hold that it is not"
    before = {number: hold for number, hold in state.holds.items() if number != entry.hold}
    if entry.including_held:
        yield entry.type == "manual" and entry.amount < 0, "only a claw-back takes the held"
        yield [*after] == [*before], "a hold left that was not ended"
        yield (
            [*after.values()] == _cut(before.values(), remaining),
            ("the holds did not keep what is left"),
        )
    else:
        yield (
            [*after.items()] == [*before.items()],
            "a hold left early, stayed too long, or is another",
        )


def _cut(holds: Iterable[_Hold], remaining: Mapping[int, int]) -> list[_Hold]:
    """The holds, the oldest first, limited to what is left in their batches."""
    left = dict(remaining)
    kept = []
    for hold in holds:
        legs = [_Leg(batch, min(amount, left.get(batch, 0))) for batch, amount in hold.legs]
        for batch, amount in legs:
            left[batch] = left.get(batch, 0) - amount
        kept.append(hold._replace(legs=tuple(leg for leg in legs if leg.amount)))
    return kept


def _rules_of_sweep(state: _State, entry: _Entry) -> Iterator[_Rule]:
    batch, opened = entry.granted_batch, entry.opened_hold
    expires = batch is not None and batch.expires_at is not None
    if opened:
        expiries = {each.number: each.expires_at for each in entry.batches}
        ends = [expiries[number] for number, _ in opened.legs]
        expires = any(end is not None and end < opened.expires_at for end in ends)
    if entry.hold is not None:
        moved = {leg.batch: -leg.amount for leg in entry.legs}
        expires = any(
            amount > moved.get(number, 0)
            for number, amount in state.holds[entry.hold].legs
            if not state.batches[number].is_usable(entry.posted)
        )
    yield (entry.zone is not None) == expires, "the zone of its expiry is wrong"


def _rules_of_items(entry: _Entry) -> Iterator[_Rule]:
    if not entry.items:
        return
    yield (
        entry.type == "usage" and entry.hold is None,
        "it has the items of a usage, but is not a usage",
    )
    yield all(item[1] > 0 for item in entry.items), "an item takes no credits"
    in_all = sum(item[1] for item in entry.items)
    yield in_all == -entry.amount, "the amount is not the sum of the items"
    keys = {item[0] for item in entry.items}
    yield (
        len(keys) == len(entry.items) <= _MOST_ITEMS,
        "its items are too many, or have a key twice",
    )


def _rules_of_cap(state: _State, entry: _Entry) -> Iterator[_Rule]:
    cap = entry.balance_cap
    yield (cap is not None) == (entry.left_out != 0), "its cap and what it left out disagree"
    if cap is None:
        return
    yield entry.type == "allocation", "only an allocation leaves credits out"
    yield entry.left_out > 0 and cap > 0, "it leaves out what no allocation does"
    usable = [batch for batch in state.batches.values() if batch.is_usable(entry.posted)]
    there = sum(batch.remaining for batch in usable)
    yield entry.amount == max(0, cap - there), "it does not fill the balance up to its cap"


def _rules_of_reversal(walk: _Walk, entry: _Entry) -> Iterator[_Rule]:
    yield (
        all(walk.granted[leg.batch].is_usable(entry.posted) for leg in entry.legs),
        "a reversal revives expired credits",
    )
    is_earlier = walk.is_earlier(entry.usage)
    yield (
        is_earlier or entry.usage in walk.used,
        "it names an entry that is not a usage",
    )
    # No count includes what was used before the statement.
    legs = [leg for leg in entry.legs if not walk.is_earlier(leg.batch)]
    if not is_earlier:
        left = walk.used[entry.usage]
        told = legs if entry.usage is None else entry.legs
        yield (
            all(leg.amount <= left[leg.batch] for leg in told),
            "a reversal gives back more than was used",
        )
    yield (
        all(leg.amount <= walk.used[None][leg.batch] for leg in legs),
        "reversals give back more than was used",
    )


def _rules_of_refund(walk: _Walk, state: _State, entry: _Entry, refund: _Refund) -> Iterator[_Rule]:
    is_earlier = walk.is_earlier(refund.purchase)
    before = walk.refunds.get(refund.purchase)
    batch = walk.granted.get(refund.purchase)
    yield before is not None or is_earlier, "it names an entry that is not a purchase"
    yield (
        refund.in_all >= 0 and (batch is None or refund.in_all <= batch.granted),
        "it refunds what was never bought",
    )
    yield 0 <= refund.unrecovered <= refund.in_all, "it says what cannot be unrecovered"
    others = "a refund moves its purchase's batch, and no other"
    if before is None:
        # The statement does not contain the purchase's state before it.
        yield all(leg.batch == refund.purchase for leg in entry.legs), others
        return
    yield (
        before.observed is None
        or (refund.observed is not None and refund.observed >= before.observed),
        "it was observed before the refund before it",
    )
    taken = refund.taken - before.taken
    if refund.in_all > before.in_all:
        free = state.free.get(refund.purchase, 0)
        yield taken == min(free, refund.in_all - before.taken), "it does not take back what it can"
    else:
        yield (
            refund.taken == min(before.taken, refund.in_all),
            "it does not give back what was taken too much",
        )
    is_moved = taken != 0 and batch is not None and batch.is_usable(entry.posted)
    yield entry.legs == (((refund.purchase, -taken),) if is_moved else ()), others


def _rules_of_type(last: _Entry | None, state: _State, entry: _Entry) -> Iterator[_Rule]:
    grants = entry.granted_batch is not None
    if entry.type == "allocation":
        yield grants or entry.left_out > 0, "an allocation grants a batch"
        yield grants or entry.legs == (), "an allocation moves its own batch, and no other"
        yield from _rules_of_period(last, entry)
        return
    if entry.type == "expiration":
        dead = tuple((batch, -amount) for batch, amount in state.dead.items())
        yield entry.legs == dead and dead != (), "it does not expire exactly what is due"
    elif entry.type == "usage":
        yield entry.amount < 0, "a usage takes credits"
        if entry.hold is None:
            yield _is_burn_down(state.free, entry.legs), "credits were not taken oldest first"
        else:
            yield from _rules_of_capture(state, entry, state.holds[entry.hold])
    elif entry.type == "manual":
        yield from _rules_of_adjustment(state, entry, grants=grants)
    elif entry.type == "reversal":
        yield not grants and all(leg.amount > 0 for leg in entry.legs), "a reversal gives back"
    elif entry.type == "purchase":
        yield grants, "a purchase grants a batch"
    elif entry.type == "hold":
        yield entry.legs == (), "a hold moves no credits"
        yield from _rules_of_opening(state, entry, entry.opened_hold)
    elif entry.type == "release":
        yield entry.legs == (), "a release moves no credits"
        yield (
            entry.hold is not None and entry.released == state.holds[entry.hold].amount,
            "it does not release what was held",
        )
    yield (
        entry.through == (last.through if last else None),
        "the allocated period moved without an allocation",
    )
    yield (
        entry.topped_up == (last.topped_up if last else None),
        "what tops up the period changed without an allocation",
    )


def _rules_of_period(last: _Entry | None, entry: _Entry) -> Iterator[_Rule]:
    through, before = entry.through, last.through if last else None
    if not entry.operation.startswith(_TOP_UP):
        yield (
            through is not None and (before is None or through > before),
            "the allocated period did not move forward",
        )
        yield entry.operation == f"allocation#{through}", "the operation names another period"
        return
    at, latest = entry.topped_up, last.topped_up if last else None
    yield through is not None and through == before, "it tops up a period that is not the last"
    yield at is not None and (latest is None or at > latest), "a period was topped up twice"
    yield (
        at is not None and entry.operation == f"{_TOP_UP}{through}#{_instant_text(at)}",
        "the operation names another period",
    )
    yield not entry.sign_up, "what tops up a period is not a first"


def _instant_text(milliseconds: int) -> str:
    at = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=milliseconds)
    text = at.replace(tzinfo=None).isoformat(timespec="milliseconds")
    return f"{text.removesuffix('.000')}Z"


def _rules_of_adjustment(state: _State, entry: _Entry, *, grants: bool) -> Iterator[_Rule]:
    is_empty = entry.legs == () and not state.free
    yield grants or entry.amount < 0 or is_empty, "it neither grants nor takes"
    if entry.operation.startswith(_VOID):
        wanted = {(batch, -amount) for batch, amount in state.free.items()}
        if entry.including_held:
            wanted = {
                (batch.number, -batch.remaining)
                for batch in state.batches.values()
                if batch.is_usable(entry.posted)
            }
        is_void = len(entry.legs) == 1 and entry.legs[0] in wanted
        yield is_void, "a void takes all of one batch and no other"
    else:
        is_right = grants or is_empty or _is_claw_back(state, entry)
        yield is_right, "credits were not taken oldest first"


def _rules_of_opening(state: _State, entry: _Entry, opened: _Hold | None) -> Iterator[_Rule]:
    legs = [_Leg(batch, -amount) for batch, amount in opened.legs] if opened else []
    yield bool(legs) and _is_burn_down(state.free, legs), "credits were not held oldest first"
    lasts = opened.expires_at - entry.posted if opened else 0
    yield 0 < lasts <= _LONGEST_HOLD, "it holds for a time that no hold has"


def _rules_of_capture(state: _State, entry: _Entry, hold: _Hold) -> Iterator[_Rule]:
    from_hold = min(-entry.amount, hold.amount)
    yield entry.released == hold.amount - from_hold, "it does not release the rest of its hold"
    if from_hold < hold.amount:
        is_right = _is_burn_down(dict(hold.legs), entry.legs)
        yield is_right, "credits were not captured oldest first"
        return
    taken = Counter({leg.batch: -leg.amount for leg in entry.legs})
    taken.subtract(dict(hold.legs))
    yield all(amount >= 0 for amount in taken.values()), "a capture leaves a part of what is held"
    yield (
        _is_rest(state.free, taken),
        ("what a capture took beyond its hold was not free, or not the oldest"),
    )


def _is_claw_back(state: _State, entry: _Entry) -> bool:
    """Whether it took free credits, the oldest first; and held ones only where it may."""
    if not entry.including_held:
        return _is_burn_down(state.free, entry.legs)
    taken = Counter({leg.batch: -leg.amount for leg in entry.legs})
    taken.subtract(state.free)
    held = _held(state.holds.values())
    usable = {
        number: held[number]
        for number, batch in state.batches.items()
        if batch.is_usable(entry.posted) and held[number]
    }
    return (
        all(amount >= 0 for amount in taken.values())
        and any(taken[batch] for batch in usable)
        and _is_rest(usable, taken)
    )


def _is_rest(left: Mapping[int, int], taken: Mapping[int, int]) -> bool:
    """Whether everything taken, if anything, was from the remaining credits, the oldest first."""
    legs = [_Leg(batch, -taken[batch]) for batch in left if taken[batch]]
    in_all = -sum(leg.amount for leg in legs)
    return sum(taken.values()) == in_all and (not legs or _is_burn_down(left, legs))


def _is_burn_down(left: Mapping[int, int], legs: Sequence[_Leg]) -> bool:
    """Whether the legs empty the oldest batches in order; the last may be emptied partly."""
    if not 0 < len(legs) <= len(left):
        return False
    *emptied, (oldest, last) = zip(left.items(), legs)  # noqa: B905 - there may be more left
    return all(leg == (batch, -amount) for (batch, amount), leg in emptied) and (
        last.batch == oldest[0] and -oldest[1] <= last.amount < 0
    )
