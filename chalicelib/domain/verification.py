"""Checks a ledger line by line from the first, and names the first wrong line.

Three things must hold for every line: its hash chains it to the line before, its state follows from
the state before by its own legs, and the legs obey the rules of its type. The walk recomputes all
this from the lines alone. It shares one thing with the decisions: the order of spending.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from .batches import CreditBatch, Leg, Source, in_burn_down_order
from .entries import (
    ERASED,
    SCHEDULED,
    TOP_UP,
    EntryType,
    LedgerEntry,
    Refund,
    digests_of,
    entry_hash,
    erased_hash,
    without_texts,
)
from .errors import LedgerCorrupt
from .holds import MOST_SECONDS, Hold
from .instants import format_instant
from .ledger import MOST_ITEMS, VOID, Account


class StoredLine(NamedTuple):
    """One line as it is stored: the number in its key, its canonical body, its hash.

    ``erased``: the seal of the remaining body, if the line's texts were erased. Its ``hash`` is
    still the original one, to which the next line is chained.
    """

    number: int
    body: str
    hash: str
    erased: str | None = None


class Anchor(NamedTuple):
    """The number and the hash of an entry that was once the last, kept outside of the table."""

    number: int
    hash: str


class Operation(NamedTuple):
    """What an entry on request says about the items that must stand beside it in the table."""

    number: int
    digests: tuple[str, ...]
    type: EntryType
    amount: int
    usage: int | None
    refund: Refund | None = None


class Marker(NamedTuple):
    """The record of an operation: its request, and the user and number of its entry.

    ``expired``: how many credits a reversal could not give back.
    """

    digest: str
    request: str
    owner: str
    number: int
    expired: int


class Link(NamedTuple):
    """The link of a reversal to its usage, or of a refund to its purchase.

    ``of``: the number of the usage or the purchase. ``sequence``: its place among the links of that
    entry. ``in_all``: all that was given back of the usage, or refunded of the purchase, so far.
    For a refund, ``number`` is that of its entry, and ``expired`` is how much of it could not
    return.
    """

    of: int
    sequence: int
    in_all: int
    number: int = 0
    expired: int = 0


def operation_of(entry: LedgerEntry) -> Operation | None:
    """The operation that requested an entry; None for scheduled work: it has no marker."""
    if entry.type in SCHEDULED:
        return None
    return Operation(
        entry.number, digests_of(entry), entry.type, entry.amount, entry.usage, entry.refund
    )


def check_markers(
    user_id: str, operations: Iterable[Operation], markers: Mapping[str, Marker]
) -> None:
    """Checks that each operation has its marker. Raises `LedgerCorrupt` for the first without one.

    ``markers`` are those of the operations, by their digests. Without its marker, a repeated
    request would be performed again.
    """
    for operation, digest in _each(operations):
        marker = markers.get(digest)
        if marker is None:
            raise LedgerCorrupt(user_id, operation.number, "its operation has no marker")
        if (marker.owner, marker.number) != (user_id, operation.number):
            raise LedgerCorrupt(
                user_id, operation.number, "the marker of its operation names another entry"
            )
        if marker.expired < 0 or (marker.expired and operation.type is not EntryType.REVERSAL):
            raise LedgerCorrupt(user_id, operation.number, "its marker says what cannot be expired")


def _each(operations: Iterable[Operation]) -> Iterator[tuple[Operation, str]]:
    return ((operation, digest) for operation in operations for digest in operation.digests)


def check_links(
    user_id: str,
    operations: Iterable[Operation],
    markers: Mapping[str, Marker],
    links: Iterable[Link],
) -> None:
    """Checks that links of reversals and refunds match the entries. Raises `LedgerCorrupt`.

    A usage's links say what each of its reversals moved, and how much of that had expired. Old
    reversals do not name their usage: only their sum can be checked.
    """
    operations = list(operations)
    bought = {each.number for each in operations if each.type is EntryType.PURCHASE}
    of_usages: list[Link] = []
    of_purchases: list[Link] = []
    for link in links:
        (of_purchases if link.of in bought else of_usages).append(link)
    _check_refund_links(user_id, operations, of_purchases)
    _check_reversal_links(user_id, operations, markers, of_usages)


def _check_refund_links(
    user_id: str, operations: Iterable[Operation], links: Iterable[Link]
) -> None:
    """Checks that each refund has its link, which says the same, and that no other link exists."""
    expected: dict[int, list[Link]] = {}
    taken: Counter[int] = Counter()
    for number, _, _, amount, _, refund in operations:
        if refund:
            of_purchase = expected.setdefault(refund.purchase, [])
            gone = taken[refund.purchase] - refund.taken - amount
            taken[refund.purchase] = refund.taken
            of_purchase.append(
                Link(refund.purchase, len(of_purchase) + 1, refund.in_all, number, gone)
            )
    found: dict[int, list[Link]] = {}
    for link in sorted(links):
        found.setdefault(link.of, []).append(link)
    for purchase in sorted(expected.keys() | found.keys()):
        if expected.get(purchase) != found.get(purchase):
            raise LedgerCorrupt(user_id, purchase, "the links of its refunds do not agree")


def _check_reversal_links(
    user_id: str,
    operations: Iterable[Operation],
    markers: Mapping[str, Marker],
    links: Iterable[Link],
) -> None:
    used: dict[int, int] = {}
    given: dict[int, list[tuple[int, int]]] = {}
    unnamed: list[int] = []
    for operation in operations:
        if operation.refund:
            continue  # its marker is missing
        amount = operation.amount + markers[operation.digests[0]].expired
        if operation.type is EntryType.USAGE:
            used[operation.number] = -operation.amount
        elif operation.usage is not None:
            given.setdefault(operation.usage, []).append((operation.number, amount))
        elif operation.type is EntryType.REVERSAL:
            unnamed.append(amount)
    steps = _steps(user_id, links, used)
    for usage, reversals in given.items():
        named = [amount for _, amount in reversals]
        of_usage = steps.get(usage, [])
        if of_usage[-len(named) :] != named:
            raise LedgerCorrupt(user_id, reversals[0][0], "the links of its usage do not agree")
        del of_usage[-len(named) :]
    left = [step for of_usage in steps.values() for step in of_usage]
    if (len(left), sum(left)) != (len(unnamed), sum(unnamed)):
        usage = min((usage for usage, of_usage in steps.items() if of_usage), default=0)
        raise LedgerCorrupt(user_id, usage, "its links tell of reversals that are not there")


def _steps(user_id: str, links: Iterable[Link], used: Mapping[int, int]) -> dict[int, list[int]]:
    """How much each link of a usage adds to what was given back of it, in order."""
    steps: dict[int, list[int]] = {}
    for link in sorted(links):
        of_usage = steps.setdefault(link.of, [])
        if link.sequence != len(of_usage) + 1:
            raise LedgerCorrupt(user_id, link.of, "a link of its reversals is missing")
        of_usage.append(link.in_all - sum(of_usage))
        if of_usage[-1] < 1 or link.in_all > used.get(link.of, 0):
            problem = "its links say that what was never used was given back"
            raise LedgerCorrupt(user_id, link.of, problem)
    return steps


class Used:
    """What usages took from each batch, minus what reversals gave back: by usage, and in all."""

    def __init__(self) -> None:
        self.in_all: Counter[int] = Counter()
        self.by_usage: dict[int, Counter[int]] = {}

    def left(self, usage: int | None) -> Mapping[int, int]:
        """What can still be given back: of one usage, which must exist, or (None) of all."""
        return self.in_all if usage is None else self.by_usage[usage]

    def book(self, entry: LedgerEntry) -> None:
        """Adds an entry that obeys the rules."""
        if entry.type not in (EntryType.USAGE, EntryType.REVERSAL):
            return
        self.in_all.subtract(dict(entry.legs))
        usage = entry.number if entry.type is EntryType.USAGE else entry.usage
        if usage is not None:
            self.by_usage.setdefault(usage, Counter()).subtract(dict(entry.legs))


def verify(user_id: str, lines: Iterable[StoredLine], anchor: Anchor | None = None) -> Account:
    """The account that a whole ledger, oldest line first, adds up to.

    Raises `LedgerCorrupt` with the number of the first wrong line and what is wrong with it. The
    ``anchor`` must be among the lines: the chain alone does not show that its end was cut off or
    rewritten.
    """
    account = Account(user_id)
    granted: dict[int, CreditBatch] = {}
    used = Used()
    refunds: dict[int, Refund] = {}
    for line in lines:
        entry = _read(account, line)
        batch = entry.granted_batch
        if batch:
            granted[batch.number] = batch
        for holds, problem in _rules(account, entry, granted, used, refunds):
            if not holds:
                raise LedgerCorrupt(user_id, line.number, problem)
        used.book(entry)
        if entry.type is EntryType.PURCHASE:
            refunds[entry.number] = Refund(entry.number, 0, 0)
        elif entry.refund:
            refunds[entry.refund.purchase] = entry.refund
        account = Account(user_id, entry, line.hash)
        if anchor and anchor.number == line.number and anchor.hash != line.hash:
            raise LedgerCorrupt(user_id, line.number, "it is not the entry that was anchored")
    if anchor and anchor.number >= account.next_number:
        raise LedgerCorrupt(
            user_id,
            account.next_number,
            f"entries up to {anchor.number} were anchored and are gone",
        )
    return account


def _read(account: Account, line: StoredLine) -> LedgerEntry:
    """The entry of a line, if the line is the next one, unaltered and in canonical form."""

    def corrupt(problem: str) -> LedgerCorrupt:
        return LedgerCorrupt(account.user_id, line.number, problem)

    if line.number != account.next_number:
        raise corrupt(f"entry {account.next_number} is missing before it")
    if not _is_sealed(account, line):
        raise corrupt("the hash does not match the body and the entry before")
    entry = LedgerEntry.from_body(account.user_id, line.number, line.body)
    if entry.body() != line.body:
        raise corrupt("the body is not in its canonical form")
    if line.erased is not None and (entry.description != ERASED or without_texts(entry) != entry):
        raise corrupt("it is marked as erased and still has its texts")
    return entry


def _is_sealed(account: Account, line: StoredLine) -> bool:
    """Whether the line is, byte for byte, as it was written or as its erasure left it."""
    if line.erased is None:
        return entry_hash(account.last_hash, account.user_id, line.body) == line.hash
    left = erased_hash(account.last_hash, account.user_id, line.body, line.hash)
    return left == line.erased


Rule = tuple[bool, str]


def _rules(
    account: Account,
    entry: LedgerEntry,
    granted: Mapping[int, CreditBatch],
    used: Used,
    refunds: Mapping[int, Refund],
) -> Iterator[Rule]:
    """Every rule that a line must obey, with the message if it does not.

    ``refunds``: the state of each purchase of the lines before.
    """
    legs = {leg.batch: leg.amount for leg in entry.legs}
    yield len(legs) == len(entry.legs), "a batch has two legs"
    yield set(legs) <= set(granted), "a leg moves a batch that was never granted"
    yield entry.amount == sum(legs.values()), "the amount is not the sum of the legs"
    yield entry.balance == account.ledger_balance + entry.amount, "the balance does not add up"
    yield _open_after(account, legs, granted) == entry.batches, "the open batches do not add up"
    yield all(batch.remaining > 0 for batch in entry.batches), "an open batch holds nothing"
    yield (
        all(batch.remaining <= batch.granted for batch in entry.batches),
        "a batch holds more than it was granted",
    )
    yield (
        account.last is None or entry.posted_at >= account.last.posted_at,
        "it was posted before the entry before it",
    )
    yield entry.effective_at <= entry.posted_at, "it was posted before it was due"
    state = _State.of(account, entry)
    yield from _rules_of_grant(entry)
    yield from _rules_of_holds(state, entry)
    yield from _rules_of_sweep(state, entry)
    yield from _rules_of_type(account, state, entry)
    yield from _rules_of_items(entry)
    yield from _rules_of_cap(state, entry)
    yield not entry.sign_up or entry.type is EntryType.ALLOCATION, "only an allocation is a first"
    if entry.type is EntryType.REVERSAL:
        yield from _rules_of_reversal(entry, granted, used)
    else:
        yield entry.usage is None, "it gives back no usage, and names one"
    yield (
        entry.price is None or entry.type is EntryType.PURCHASE,
        "it has a price, and is no purchase",
    )
    yield (
        (entry.refund is not None) == (entry.type is EntryType.REFUND),
        "it says what was refunded, and is no refund, or the other way round",
    )
    if entry.refund:
        yield from _rules_of_refund(state, entry, entry.refund, granted, refunds)


class _State(NamedTuple):
    """The account before a line, at the instant at which it was posted.

    ``holds``: the active ones, by number. ``free``: by batch, what is usable and not held, in the
    order of spending; a batch with nothing free is left out. ``dead``: what is neither usable nor
    held.
    """

    batches: Mapping[int, CreditBatch]
    holds: Mapping[int, Hold]
    free: Mapping[int, int]
    dead: Mapping[int, int]

    @classmethod
    def of(cls, account: Account, entry: LedgerEntry) -> "_State":
        holds = {it.number: it for it in account.holds if entry.posted_at < it.expires_at}
        held = _earmarks(holds.values())
        rest = {it.number: it.remaining - held[it.number] for it in account.batches}
        usable = {it.number for it in account.batches if it.is_usable(entry.posted_at)}
        return cls(
            {batch.number: batch for batch in account.batches},
            holds,
            {number: left for number, left in rest.items() if left and number in usable},
            {number: left for number, left in rest.items() if left and number not in usable},
        )


def _earmarks(holds: Iterable[Hold]) -> Counter[int]:
    held: Counter[int] = Counter()
    for hold in holds:
        for batch, amount in hold.legs:
            held[batch] += amount
    return held


def _open_after(
    account: Account, legs: Mapping[int, int], granted: Mapping[int, CreditBatch]
) -> tuple[CreditBatch, ...]:
    remaining = {batch.number: batch.remaining for batch in account.batches}
    for number, amount in legs.items():
        remaining[number] = remaining.get(number, 0) + amount
    return in_burn_down_order(
        replace(granted[number], remaining=amount) for number, amount in remaining.items() if amount
    )


def _rules_of_grant(entry: LedgerEntry) -> Iterator[Rule]:
    batch = entry.granted_batch
    if batch:
        yield (
            entry.legs == ((batch.number, batch.granted),),
            "a grant moves its own batch, whole, and no other",
        )
        yield batch.granted_at <= entry.posted_at, "it grants credits of a later time"
        yield batch.is_usable(entry.posted_at), "it grants credits that have expired"
        yield (
            (batch.source is Source.PURCHASE) == (entry.type is EntryType.PURCHASE),
            "a purchase alone grants what was bought",
        )


def _rules_of_holds(state: _State, entry: LedgerEntry) -> Iterator[Rule]:
    """Held credits exist, and leave a batch only through the end of their hold."""
    remaining = {batch.number: batch.remaining for batch in entry.batches}
    yield (
        all(amount <= remaining.get(batch, 0) for batch, amount in _earmarks(entry.holds).items()),
        "more is held of a batch than remains of it",
    )
    yield (
        all(amount > 0 for hold in entry.holds for _, amount in hold.legs),
        "a hold sets nothing aside in a batch",
    )
    ends_a_hold = entry.hold is not None
    yield not ends_a_hold or entry.hold in state.holds, "it ends a hold that is not active"
    yield (
        not ends_a_hold or entry.type in (EntryType.USAGE, EntryType.RELEASE),
        "it ends a hold, and is neither a usage nor a release",
    )
    yield (
        (entry.released is not None) == ends_a_hold,
        "what it releases and what hold it ends do not go together",
    )
    after = {hold.number: hold for hold in entry.holds}
    opened = after.pop(entry.number, None)
    yield (opened is not None) == (entry.type is EntryType.HOLD), "it opens a hold that it is not"
    before = {number: hold for number, hold in state.holds.items() if number != entry.hold}
    if entry.including_held:
        yield entry.type is EntryType.MANUAL and entry.amount < 0, "only a claw-back takes the held"
        yield list(after) == list(before), "a hold left that was not ended"
        yield (
            tuple(after.values()) == _cut(before.values(), remaining),
            "the holds did not keep what is left",
        )
    else:
        yield (
            list(after.items()) == list(before.items()),
            "a hold left early, stayed too long, or is another",
        )


def _cut(holds: Iterable[Hold], remaining: Mapping[int, int]) -> tuple[Hold, ...]:
    """The holds, the oldest first, limited to what is left in their batches."""
    left = dict(remaining)
    kept = []
    for hold in holds:
        legs = [Leg(batch, min(amount, left.get(batch, 0))) for batch, amount in hold.legs]
        for batch, amount in legs:
            left[batch] = left.get(batch, 0) - amount
        kept.append(replace(hold, legs=tuple(leg for leg in legs if leg.amount)))
    return tuple(kept)


def _rules_of_sweep(state: _State, entry: LedgerEntry) -> Iterator[Rule]:
    """The entry names the zone whose sweep books out what it leaves behind, if anything."""
    batch, opened = entry.granted_batch, entry.opened_hold
    expires = batch is not None and batch.expires_at is not None
    if opened:
        expiries = {batch.number: batch.expires_at for batch in entry.batches}
        ends = [expiries[number] for number, _ in opened.legs]
        expires = any(end is not None and end < opened.expires_at for end in ends)
    if entry.hold is not None:
        moved = {leg.batch: -leg.amount for leg in entry.legs}
        expires = any(
            amount > moved.get(number, 0)
            for number, amount in state.holds[entry.hold].legs
            if not state.batches[number].is_usable(entry.posted_at)
        )
    yield (entry.expiry_timezone is not None) == expires, "the zone of its expiry is wrong"


def _rules_of_items(entry: LedgerEntry) -> Iterator[Rule]:
    if not entry.items:
        return
    yield (
        entry.type is EntryType.USAGE and entry.hold is None,
        "it has the items of a usage, but is not a usage",
    )
    yield all(item.amount > 0 for item in entry.items), "an item takes no credits"
    in_all = sum(item.amount for item in entry.items)
    yield in_all == -entry.amount, "the amount is not the sum of the items"
    yield (
        len({*digests_of(entry)}) == len(entry.items) <= MOST_ITEMS,
        ("its items are too many, or have a key twice"),
    )


def _rules_of_cap(state: _State, entry: LedgerEntry) -> Iterator[Rule]:
    """An allocation leaves out what does not fit beside the usable credits, and no more."""
    cap = entry.balance_cap
    yield (cap is not None) == (entry.left_out != 0), "its cap and what it left out disagree"
    if cap is None:
        return
    yield entry.type is EntryType.ALLOCATION, "only an allocation leaves credits out"
    yield entry.left_out > 0 and cap > 0, "it leaves out what no allocation does"
    there = sum(
        batch.remaining for batch in state.batches.values() if batch.is_usable(entry.posted_at)
    )
    yield entry.amount == max(0, cap - there), "it does not fill the balance up to its cap"


def _rules_of_reversal(
    entry: LedgerEntry, granted: Mapping[int, CreditBatch], used: Used
) -> Iterator[Rule]:
    yield (
        all(granted[leg.batch].is_usable(entry.posted_at) for leg in entry.legs),
        "a reversal revives expired credits",
    )
    # Both: reversals that name no usage do not say how much they gave back of which.
    yield (
        entry.usage is None or entry.usage in used.by_usage,
        "it names an entry that is not a usage",
    )
    yield (
        all(leg.amount <= used.left(entry.usage).get(leg.batch, 0) for leg in entry.legs),
        "a reversal gives back more than was used",
    )
    yield (
        all(leg.amount <= used.in_all[leg.batch] for leg in entry.legs),
        "reversals give back more than was used",
    )


def _rules_of_refund(
    state: _State,
    entry: LedgerEntry,
    refund: Refund,
    granted: Mapping[int, CreditBatch],
    refunds: Mapping[int, Refund],
) -> Iterator[Rule]:
    """A refund moves only its purchase's batch, by what its numbers say, and no more than is there.

    The state of the purchase before decides everything: what was taken of what was refunded.
    """
    yield refund.purchase in refunds, "it names an entry that is not a purchase"
    batch, before = granted[refund.purchase], refunds[refund.purchase]
    yield 0 <= refund.in_all <= batch.granted, "it refunds what was never bought"
    yield 0 <= refund.unrecovered <= refund.in_all, "it says what cannot be unrecovered"
    yield (
        before.observed_at is None
        or (refund.observed_at is not None and refund.observed_at >= before.observed_at),
        "it was observed before the refund before it",
    )
    taken = refund.taken - before.taken
    if refund.in_all > before.in_all:
        free = state.free.get(batch.number, 0)
        yield (
            taken == min(free, refund.in_all - before.taken),
            "it does not take back what it can",
        )
    else:
        yield (
            refund.taken == min(before.taken, refund.in_all),
            "it does not give back what was taken too much",
        )
    # Credits given back to a dead batch are gone; and nothing of it is free to be taken.
    wanted = ((batch.number, -taken),) if taken and batch.is_usable(entry.posted_at) else ()
    yield entry.legs == wanted, "a refund moves its purchase's batch, and no other"


def _rules_of_type(account: Account, state: _State, entry: LedgerEntry) -> Iterator[Rule]:
    grants = entry.granted_batch is not None
    match entry.type:
        case EntryType.ALLOCATION:
            yield grants or entry.left_out > 0, "an allocation grants a batch"
            yield grants or entry.legs == (), "an allocation moves its own batch, and no other"
            yield from _rules_of_period(account, entry)
        case EntryType.EXPIRATION:
            dead = tuple(Leg(batch, -amount) for batch, amount in state.dead.items())
            yield entry.legs == dead and dead != (), "it does not expire exactly what is due"
        case EntryType.USAGE:
            yield from _rules_of_usage(state, entry)
        case EntryType.MANUAL:
            yield from _rules_of_adjustment(state, entry)
        case EntryType.REVERSAL:
            yield not grants and all(leg.amount > 0 for leg in entry.legs), "a reversal gives back"
        case EntryType.PURCHASE:
            yield grants, "a purchase grants a batch"
        case EntryType.HOLD:
            yield entry.legs == (), "a hold moves no credits"
            yield from _rules_of_opening(state, entry, entry.opened_hold)
        case EntryType.RELEASE:
            yield entry.legs == (), "a release moves no credits"
            yield (
                entry.hold is not None and entry.released == state.holds[entry.hold].amount,
                "it does not release what was held",
            )
    if entry.type is not EntryType.ALLOCATION:
        yield (
            entry.allocated_through == account.allocated_through,
            "the allocated period moved without an allocation",
        )
        yield (
            entry.topped_up_at == account.topped_up_at,
            "what tops up the period changed without an allocation",
        )


def _rules_of_period(account: Account, entry: LedgerEntry) -> Iterator[Rule]:
    """An allocation is of a later period. A top-up is of the same period and a later step."""
    through, before = entry.allocated_through, account.allocated_through
    if entry.begins_period:
        yield (
            through is not None and (before is None or through > before),
            "the allocated period did not move forward",
        )
        yield entry.operation == f"allocation#{through}", "the operation names another period"
        return
    at, latest = entry.topped_up_at, account.topped_up_at
    yield through is not None and through == before, "it tops up a period that is not the last"
    yield at is not None and (latest is None or at > latest), "a period was topped up twice"
    yield (
        at is not None and entry.operation == f"{TOP_UP}{through}#{format_instant(at)}",
        "the operation names another period",
    )
    yield not entry.sign_up, "what tops up a period is not a first"


def _rules_of_usage(state: _State, entry: LedgerEntry) -> Iterator[Rule]:
    yield entry.amount < 0, "a usage takes credits"
    if entry.hold is None:
        yield _is_burn_down(state.free, entry.legs), "credits were not taken oldest first"
    else:
        yield from _rules_of_capture(state, entry, state.holds[entry.hold])


def _rules_of_adjustment(state: _State, entry: LedgerEntry) -> Iterator[Rule]:
    grants = entry.granted_batch is not None
    # An entry that was to take all that is left records the request even if nothing is left.
    is_empty = entry.legs == () and not state.free
    yield grants or entry.amount < 0 or is_empty, "it neither grants nor takes"
    if entry.operation.startswith(VOID):
        yield _is_void(state, entry), "a void takes all of one batch and no other"
    else:
        yield (
            grants or is_empty or _is_claw_back(state, entry),
            "credits were not taken oldest first",
        )


def _rules_of_opening(state: _State, entry: LedgerEntry, opened: Hold | None) -> Iterator[Rule]:
    legs = [Leg(batch, -amount) for batch, amount in opened.legs] if opened else []
    yield bool(legs) and _is_burn_down(state.free, legs), "credits were not held oldest first"
    seconds = (opened.expires_at - entry.posted_at).total_seconds() if opened else 0
    yield 0 < seconds <= MOST_SECONDS, "it holds for a time that no hold has"


def _rules_of_capture(state: _State, entry: LedgerEntry, hold: Hold) -> Iterator[Rule]:
    """A capture takes what is held, the oldest first, and only then free credits."""
    from_hold = min(-entry.amount, hold.amount)
    yield entry.released == hold.amount - from_hold, "it does not release the rest of its hold"
    taken = Counter({leg.batch: -leg.amount for leg in entry.legs})
    if from_hold < hold.amount:
        held = dict(hold.legs)
        yield _is_burn_down(held, entry.legs), "credits were not captured oldest first"
        return
    taken.subtract(dict(hold.legs))
    yield all(amount >= 0 for amount in taken.values()), "a capture leaves a part of what is held"
    beyond = [Leg(batch, -taken[batch]) for batch in state.free if taken[batch]]
    yield (
        sum(taken.values()) == -sum(leg.amount for leg in beyond)
        and (not beyond or _is_burn_down(state.free, beyond)),
        "what a capture took beyond its hold was not free, or not the oldest",
    )


def _is_void(state: _State, entry: LedgerEntry) -> bool:
    """Whether there is one leg, and it empties a usable batch except for its held credits."""
    wanted = {Leg(batch, -amount) for batch, amount in state.free.items()}
    if entry.including_held:
        wanted = {
            Leg(batch.number, -batch.remaining)
            for batch in state.batches.values()
            if batch.is_usable(entry.posted_at)
        }
    return len(entry.legs) == 1 and entry.legs[0] in wanted


def _is_claw_back(state: _State, entry: LedgerEntry) -> bool:
    """Whether it took free credits, the oldest first; and held ones only where it may."""
    if not entry.including_held:
        return _is_burn_down(state.free, entry.legs)
    taken = Counter({leg.batch: -leg.amount for leg in entry.legs})
    taken.subtract(state.free)
    held = _earmarks(state.holds.values())
    usable = {
        batch.number: held[batch.number]
        for batch in state.batches.values()
        if batch.is_usable(entry.posted_at) and held[batch.number]
    }
    more = [Leg(batch, -taken[batch]) for batch in usable if taken[batch]]
    return (
        all(amount >= 0 for amount in taken.values())
        and sum(taken.values()) == -sum(leg.amount for leg in more)
        and bool(more)
        and _is_burn_down(usable, more)
    )


def _is_burn_down(left: Mapping[int, int], legs: Sequence[Leg]) -> bool:
    """Whether the legs empty the oldest batches in order; the last may be emptied partly.

    There is at least one leg: the amount, their sum, is known to be negative.
    """
    if len(legs) > len(left):
        return False
    *emptied, last = zip(left.items(), legs, strict=False)
    return all(leg == (batch, -amount) for (batch, amount), leg in emptied) and (
        last[1].batch == last[0][0] and -last[0][1] <= last[1].amount < 0
    )
