"""The ledger: a passbook whose last line is the account, and the decisions that write the next.

Every decision has the shape ``(last entry, request, now) -> next entry``, or raises a refusal from
`errors`. It writes nothing: the store appends the entry exactly once, or asks for a new decision.

    1  allocation  +100   balance 100   open: batch 1 (100)
    2  usage        -30   balance  70   open: batch 1 (70)
    3  manual       +50   balance 120   open: batch 1 (70), batch 3 (50)
    4  expiration   -70   balance  50   open: batch 3 (50)
    5  hold           0   balance  50   open: batch 3 (50), of which 20 are held
    6  usage        -15   balance  35   open: batch 3 (35)        the capture of hold 5

Amounts are whole credits; instants are aware UTC datetimes, kept to the millisecond. The time of a
ledger never runs backwards: an entry is posted at ``now`` or, where the clocks of two machines
disagree, at the instant of the entry before it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

from . import calendar, lifetimes
from .batches import (
    BOUGHT_PRIORITY,
    DEFAULT_PRIORITY,
    Batches,
    CreditBatch,
    Leg,
    Legs,
    Source,
    burn_down,
    in_burn_down_order,
    move,
    returned,
    together,
)
from .calendar import Period
from .entries import (
    FIRST_HASH,
    HASH_DIGITS,
    SYSTEM,
    TOP_UP,
    EntryType,
    LedgerEntry,
    Refund,
    UsageItem,
)
from .errors import HoldEnded, InsufficientCredits, NotAllowed, NotFound, OutdatedEdit
from .holds import Hold, Holds, active, available, dead, earmarked, outlives, spendable, within
from .holds import without as without_hold
from .instants import format_instant, to_millisecond
from .lifetimes import Days, Lifetime
from .metadata import Metadata
from .prices import Price
from .subscriptions import TopUp

MOST_OPEN_BATCHES = 1_000
"""The most open batches that operations on request may lead to: each entry contains them all."""

MOST_HOLDS = 100
"""The most active holds of a user: each entry contains them all."""

MOST_HELD_LEGS = 2_000
"""The most parts of batches that all holds of a user may set aside."""

MOST_ITEMS = 90
"""The most usages in an entry. Each has its marker, and DynamoDB takes 100 items a transaction
(https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_ExecuteTransaction.html)."""

VOID = "void#"
"""The prefix of a void's operation: its legs follow the batch it names, not the burn-down."""


class Account(NamedTuple):
    """A user's ledger as a decision sees it: the user, the last entry and that entry's hash."""

    user_id: str
    last: LedgerEntry | None = None
    last_hash: str = FIRST_HASH

    @property
    def entry(self) -> LedgerEntry:
        """The last entry; only for an account that was read by that entry."""
        assert self.last is not None  # noqa: S101 - it is what was read
        return self.last

    @property
    def witness(self) -> str:
        """How an email names the last entry, so that rewriting it would be noticed."""
        return f"{self.last.number}:{self.last_hash[:HASH_DIGITS]}" if self.last else ""

    @property
    def batches(self) -> Batches:
        """The open batches, in burn-down order."""
        return self.last.batches if self.last else ()

    @property
    def holds(self) -> Holds:
        """The holds that were active after the last entry, the oldest first."""
        return self.last.holds if self.last else ()

    @property
    def allocated_through(self) -> Period | None:
        """The last period that has been allocated."""
        return self.last.allocated_through if self.last else None

    @property
    def topped_up_at(self) -> datetime | None:
        """The latest step up to a larger plan that is in the period allocated last."""
        return self.last.topped_up_at if self.last else None

    @property
    def next_number(self) -> int:
        """The number of the entry to come, and so of the batch it may grant."""
        return self.last.number + 1 if self.last else 1

    @property
    def ledger_balance(self) -> int:
        """The sum of all open batches, expired or not."""
        return self.last.balance if self.last else 0

    def available_balance(self, now: datetime) -> int:
        """What can be spent at ``now``."""
        return available(self.batches, self.holds, now)

    def spendable(self, now: datetime) -> Legs:
        """What each batch has to spend at ``now``."""
        return spendable(self.batches, self.holds, now)

    def time(self, now: datetime) -> datetime:
        """``now`` as this ledger counts it: to the millisecond, and never before the last entry."""
        now = to_millisecond(now)
        return max(now, self.last.posted_at) if self.last else now


@dataclass(frozen=True, slots=True)
class Request:
    """The request behind an operation: the operation's name, who asked, and why.

    ``silent``: the user gets no email about it.
    """

    operation: str
    actor: str
    description: str
    silent: bool = False
    metadata: Metadata = ()


class AllocationTerms(NamedTuple):
    """The rules of an allocation besides its amount and its lifetime.

    ``balance_cap``: up to how many credits it fills the user's balance; None for no cap.
    ``signed_up_at``: set for a new subscriber, who is owed the period that was running then.
    ``topped_up_at``: the latest step up to a larger plan that is part of the amount.
    """

    priority: int = DEFAULT_PRIORITY
    balance_cap: int | None = None
    signed_up_at: datetime | None = None
    topped_up_at: datetime | None = None


AS_EVER = AllocationTerms()


class Reversal(NamedTuple):
    """A reversal's entry, the expired credits in it, and all that the usage got back so far."""

    entry: LedgerEntry
    expired: int
    reversed_in_all: int


class Refunded(NamedTuple):
    """A refund's entry, and how many of the credits it gave back had already expired."""

    entry: LedgerEntry
    expired: int


class _Change(NamedTuple):
    """The legs of an entry, and what is open after it.

    ``holds``: None means all that have not lapsed.
    """

    legs: Legs
    batches: Batches
    holds: Holds | None = None


def allocate(
    account: Account,
    period: Period,
    amount: int,
    timezone: str,
    lifetime: Lifetime,
    now: datetime,
    terms: AllocationTerms = AS_EVER,
    day: int = 1,
) -> LedgerEntry:
    """The monthly grant of a period, which has begun in ``timezone`` on a ``day`` of its month.

    The lifetime of its credits counts from the start of the local day on which it is posted. For an
    allocation in time that is its midnight. A late one still gives the user every promised day or
    month.

    Under a cap it fills up the user's balance, which includes held credits. If nothing fits, the
    entry grants no batch: the period counts as allocated all the same.
    """
    if account.allocated_through is not None and period <= account.allocated_through:
        raise NotAllowed(f"period {period} was allocated before")
    now = account.time(now)
    start = calendar.period_start(timezone, period, day)
    what, due = "Monthly credits", start
    if terms.signed_up_at is not None:
        # If their clock is ahead of ours, a sign-up can be a little later than now.
        what, due = "First credits", max(start, min(terms.signed_up_at, now))
    request = Request(f"allocation#{period}", SYSTEM, f"{what} for {period}")
    wanted = _Wanted(amount, lifetime, due, period)
    return _allocation(account, wanted, request, now, timezone, terms)


def top_up(
    account: Account,
    step: TopUp,
    timezone: str,
    lifetime: Lifetime,
    now: datetime,
    terms: AllocationTerms = AS_EVER,
) -> LedgerEntry:
    """What a step up to a larger plan brings on top of the period allocated last."""
    period, latest = account.allocated_through, account.topped_up_at
    if period is None or (latest is not None and step.at <= latest):
        raise NotAllowed("there is no period to top up, or it was done before")
    now = account.time(now)
    operation = f"{TOP_UP}{period}#{format_instant(step.at)}"
    request = Request(operation, SYSTEM, f"Credits of the larger plan for {period}")
    # The editor's clock can be ahead of ours.
    wanted = _Wanted(step.amount, lifetime, min(step.at, now), period)
    terms = terms._replace(topped_up_at=step.at)
    return _allocation(account, wanted, request, now, timezone, terms)


class _Wanted(NamedTuple):
    """How much an allocation wants to grant, for how long, and since when it is due."""

    amount: int
    lifetime: Lifetime
    due: datetime
    period: Period


def _allocation(
    account: Account,
    wanted: _Wanted,
    request: Request,
    now: datetime,
    timezone: str,
    terms: AllocationTerms,
) -> LedgerEntry:
    amount, lifetime, due, period = wanted
    _check_positive(amount)
    cap, kind = terms.balance_cap, EntryType.ALLOCATION
    fitting = amount if cap is None else min(amount, _room(account, cap, now))
    if fitting:
        number, priority, source = account.next_number, terms.priority, Source.PLAN
        granted_at = calendar.day_start(timezone, now)
        expires_at = lifetimes.expires_at(lifetime, timezone, granted_at)
        batch = CreditBatch(number, fitting, fitting, granted_at, expires_at, priority, source)
        entry = _grant(account, kind, batch, request, now, timezone, due, period)
    else:
        entry = _entry(account, kind, _Change((), account.batches), request, now, due, period)
    is_in_full = fitting == amount and terms.signed_up_at is None
    if is_in_full and terms.topped_up_at == entry.topped_up_at:
        return entry  # for nearly everybody: copying would take as long as the decision
    return replace(
        entry,
        left_out=amount - fitting,
        balance_cap=cap if fitting < amount else None,
        sign_up=terms.signed_up_at is not None,
        topped_up_at=terms.topped_up_at,
    )


def _room(account: Account, balance_cap: int, now: datetime) -> int:
    """How many credits fit under a cap, given all usable ones; held credits count as usable."""
    there = sum(batch.remaining for batch in account.batches if batch.is_usable(now))
    return max(0, balance_cap - there)


def expire(account: Account, now: datetime) -> LedgerEntry | None:
    """The entry that books out expired credits that are not held; None if there are none."""
    now = account.time(now)
    gone = dead(account.batches, account.holds, now)
    if not gone:
        return None
    expiries = {batch.number: batch.expires_at for batch in account.batches}
    latest = max(expires_at for leg in gone if (expires_at := expiries[leg.batch]))
    legs = tuple(Leg(leg.batch, -leg.amount) for leg in gone)
    request = Request(
        f"expiration#{format_instant(latest)}", SYSTEM, "Credits reached their expiry"
    )
    change = _Change(legs, move(account.batches, legs))
    return _entry(account, EntryType.EXPIRATION, change, request, now, latest)


def use(account: Account, amount: int, request: Request, now: datetime) -> LedgerEntry:
    """Spends credits in burn-down order. Raises `InsufficientCredits`; never spends a part."""
    return _take(account, EntryType.USAGE, amount, request, now)


def use_many(
    account: Account, items: Sequence[UsageItem], request: Request, now: datetime
) -> LedgerEntry:
    """Spends the sum of several usages in one entry; all of them or none."""
    in_all = sum(item.amount for item in items)
    entry = _take(account, EntryType.USAGE, in_all, request, now)
    return replace(entry, items=tuple(items))


def claw_back(
    account: Account, amount: int, request: Request, now: datetime, *, including_held: bool = False
) -> LedgerEntry:
    """Takes credits back by hand, in burn-down order. Raises `InsufficientCredits`.

    With ``including_held`` it also takes credits that are held, when no others are left; the holds
    keep the rest.
    """
    now = account.time(now)
    covered = account.available_balance(now)
    if amount <= covered or not including_held:
        return _take(account, EntryType.MANUAL, amount, request, now)
    held = _held_and_usable(account, now)
    in_all = covered + sum(leg.amount for leg in held)
    if amount > in_all:
        raise InsufficientCredits(amount, in_all)
    legs = together(burn_down(account.spendable(now), covered), burn_down(held, amount - covered))
    return _taken_from_holds(account, legs, request, now)


def claw_back_what_is_left(
    account: Account, amount: int, request: Request, now: datetime, *, including_held: bool = False
) -> LedgerEntry:
    """Takes ``amount`` back by hand or, if fewer credits are left, all of them.

    If no credits are left, the entry moves nothing: it records who asked, and why.
    """
    now = account.time(now)
    left = account.available_balance(now)
    if including_held:
        left += sum(leg.amount for leg in _held_and_usable(account, now))
    if left:
        amount = min(amount, left)
        return claw_back(account, amount, request, now, including_held=including_held)
    return _entry(account, EntryType.MANUAL, _Change((), account.batches), request, now)


def void(
    account: Account,
    batch_number: int,
    request: Request,
    now: datetime,
    *,
    including_held: bool = False,
) -> LedgerEntry:
    """Takes back the rest of one batch by hand, even if older batches are open.

    Its type is that of every adjustment; its operation says that it is a void. Held credits of the
    batch stay, unless ``including_held``; then the holds keep the rest. Raises `NotAllowed` when
    nothing usable remains: an expiration books out expired credits.
    """
    now = account.time(now)
    batch = next((batch for batch in account.batches if batch.number == batch_number), None)
    name = f"batch {account.user_id}-{batch_number}"
    if batch is None:
        raise NotAllowed(f"nothing remains of {name}")
    if not batch.is_usable(now):
        raise NotAllowed(f"{name} has expired: nothing usable remains of it")
    held = earmarked(account.holds, now)[batch_number]
    if held and including_held:
        legs = (Leg(batch.number, -batch.remaining),)
        return _taken_from_holds(account, legs, request, now)
    if batch.remaining == held:
        raise NotAllowed(f"all that remains of {name} is held; say including_held to take it back")
    legs = (Leg(batch.number, held - batch.remaining),)
    change = _Change(legs, move(account.batches, legs))
    return _entry(account, EntryType.MANUAL, change, request, now)


def hold(
    account: Account,
    amount: int,
    seconds: int,
    request: Request,
    now: datetime,
    timezone: Callable[[], str],
) -> LedgerEntry:
    """Sets credits aside for a number of seconds, in burn-down order.

    ``timezone`` gives the user's timezone, and is called only if a batch expires before the hold
    does. Raises `InsufficientCredits`, and `NotAllowed` for a user with too many holds; never holds
    a part.
    """
    now = account.time(now)
    holds = active(account.holds, now)
    if len(holds) >= MOST_HOLDS:
        raise NotAllowed(
            f"the user already has {len(holds)} active holds, the most allowed; "
            "capture or release some first"
        )
    legs = _covered(account, amount, now)
    opened = Hold(
        account.next_number,
        tuple(Leg(leg.batch, -leg.amount) for leg in legs),
        now + timedelta(seconds=seconds),
    )
    if sum(len(hold.legs) for hold in (*holds, opened)) > MOST_HELD_LEGS:
        raise NotAllowed(
            f"all holds of the user together would set aside more than {MOST_HELD_LEGS} parts of "
            "credit batches; capture or release some first"
        )
    zone = timezone() if outlives(opened, account.batches) else None
    change = _Change((), account.batches, (*holds, opened))
    return _entry(account, EntryType.HOLD, change, request, now, expiry_timezone=zone)


def capture(
    account: Account,
    hold_number: int,
    amount: int,
    request: Request,
    now: datetime,
    timezone: Callable[[], str],
    *,
    beyond_hold: bool = False,
) -> LedgerEntry:
    """Spends ``amount`` of a hold and frees the rest; an amount of 0 releases the hold.

    With ``beyond_hold``, available credits pay for what the hold does not cover. Raises `NotFound`,
    `HoldEnded`, `NotAllowed` for more than is held, and `InsufficientCredits`.
    """
    now = account.time(now)
    ended = _active_hold(account, hold_number, now)
    from_hold = min(amount, ended.amount)
    if amount > from_hold and not beyond_hold:
        raise NotAllowed(
            f"hold {account.user_id}-{hold_number} holds {ended.amount} credits, and {amount} are "
            "to be captured; say beyond_hold to take the rest from the available credits"
        )
    taken = burn_down(ended.legs, from_hold)
    others = without_hold(active(account.holds, now), hold_number)
    batches = move(account.batches, taken)
    beyond = amount - from_hold
    if beyond:
        left = spendable(batches, others, now)
        if beyond > sum(leg.amount for leg in left):
            covered = ended.amount + sum(leg.amount for leg in left)
            raise InsufficientCredits(amount, covered)
        more = burn_down(left, beyond)
        taken, batches = together(taken, more), move(batches, more)
    zone = timezone() if _frees_expired(account, ended, taken, now) else None
    change = _Change(taken, batches, others)
    kind = EntryType.USAGE if amount else EntryType.RELEASE
    entry = _entry(account, kind, change, request, now, expiry_timezone=zone)
    return replace(entry, hold=hold_number, released=ended.amount - from_hold)


def _active_hold(account: Account, number: int, now: datetime) -> Hold:
    for hold in account.holds:
        if hold.number == number:
            if hold.is_active(now):
                return hold
            raise HoldEnded("lapsed", format_instant(hold.expires_at))
    raise NotFound(f"user {account.user_id} has no active hold {account.user_id}-{number}")


def _frees_expired(account: Account, ended: Hold, taken: Legs, now: datetime) -> bool:
    """Whether a hold that ends frees expired credits: a sweep must book them out."""
    usable = {batch.number for batch in account.batches if batch.is_usable(now)}
    spent = {leg.batch: -leg.amount for leg in taken}
    return any(
        leg.batch not in usable and leg.amount > spent.get(leg.batch, 0) for leg in ended.legs
    )


def _held_and_usable(account: Account, now: datetime) -> Legs:
    held = earmarked(account.holds, now)
    return tuple(
        Leg(batch.number, held[batch.number]) for batch in account.batches if batch.is_usable(now)
    )


def _taken_from_holds(account: Account, legs: Legs, request: Request, now: datetime) -> LedgerEntry:
    """An adjustment that also takes held credits."""
    batches = move(account.batches, legs)
    holds = within(active(account.holds, now), batches)
    entry = _entry(account, EntryType.MANUAL, _Change(legs, batches, holds), request, now)
    return replace(entry, including_held=True)


def grant(
    account: Account,
    amount: int,
    request: Request,
    now: datetime,
    timezone: str,
    lifetime: Lifetime,
    priority: int = DEFAULT_PRIORITY,
    source: Source = Source.ADJUSTMENT,
) -> LedgerEntry:
    """Grants a batch by hand."""
    batch = _batch_from(account, amount, now, timezone, lifetime, priority, source)
    return _grant(account, EntryType.MANUAL, batch, request, batch.granted_at, timezone)


def purchase(
    account: Account,
    amount: int,
    price: Price | None,
    request: Request,
    now: datetime,
    timezone: str,
    expires_in_days: int | None = None,
    priority: int = BOUGHT_PRIORITY,
) -> LedgerEntry:
    """Grants bought credits; the credit lifetime of the user's plan does not matter.

    The batch never expires unless ``expires_in_days`` (local days) is given.
    """
    lifetime = Days(expires_in_days) if expires_in_days else None
    batch = _batch_from(account, amount, now, timezone, lifetime, priority, Source.PURCHASE)
    entry = _grant(account, EntryType.PURCHASE, batch, request, batch.granted_at, timezone)
    return replace(entry, price=price)


def carry_over(
    account: Account,
    amount: int,
    granted_at: datetime,
    expires_at: datetime | None,
    request: Request,
    now: datetime,
    timezone: str,
    priority: int = DEFAULT_PRIORITY,
) -> LedgerEntry:
    """Takes over the rest of a batch from another system, with its original dates.

    ``priority`` and ``granted_at`` decide its place in the burn-down order. Raises `NotAllowed` for
    credits from the future, and for expired ones.
    """
    _check_open_batches(account)
    now = account.time(now)
    batch = CreditBatch(
        account.next_number,
        amount,
        amount,
        to_millisecond(granted_at),
        expires_at and to_millisecond(expires_at),
        priority,
        Source.CARRIED_OVER,
    )
    if batch.granted_at > now:
        raise NotAllowed(f"credits granted at {format_instant(granted_at)} are of a later time")
    if not batch.is_usable(now):
        raise NotAllowed("the credits have expired")
    return _grant(account, EntryType.MANUAL, batch, request, now, timezone)


def reverse(
    account: Account,
    usage: LedgerEntry,
    before_usage: LedgerEntry,
    reversed_before: int,
    amount: int | None,
    request: Request,
    now: datetime,
) -> Reversal:
    """Gives ``amount`` credits of a usage (None: all that is left) back to their batches.

    ``before_usage`` is the entry before the usage: it describes every batch that the usage spent,
    including those closed since. Raises `NotAllowed` if the entry is not a usage, and if all of its
    reversals together would give back more than it used. Credits of an expired batch stay expired.
    """
    if usage.type is not EntryType.USAGE:
        raise NotAllowed(f"transaction {usage.transaction_id} is no usage but {usage.type.value}")
    left = -usage.amount - reversed_before
    amount = left if amount is None else amount
    if left:
        _check_positive(amount)
    if left == 0 or amount > left:
        raise NotAllowed(
            f"of the {-usage.amount} credits of transaction {usage.transaction_id} "
            f"{reversed_before} were given back before; {left} can be"
        )
    now = account.time(now)
    origin = {batch.number: batch for batch in before_usage.batches}
    legs = returned(usage.legs, reversed_before, amount)
    alive = tuple(leg for leg in legs if origin[leg.batch].is_usable(now))
    change = _Change(alive, move(account.batches, alive, known=before_usage.batches))
    _check_reopened(account, change.batches)
    entry = replace(_entry(account, EntryType.REVERSAL, change, request, now), usage=usage.number)
    return Reversal(entry, amount - entry.amount, reversed_before + amount)


def refund(
    account: Account,
    batch: CreditBatch,
    before: Refund | None,
    in_all: int,
    observed_at: datetime | None,
    request: Request,
    now: datetime,
) -> Refunded | None:
    """Takes back what was refunded of a purchase, or gives back what was refunded too much.

    ``batch``: that of the purchase. ``before``: the purchase's state after its latest refund.
    ``in_all``: refunded so far, in credits; ``observed_at``: when that was seen. Returns None for a
    report that says nothing new. A later report of the same state is new: it outdates reports of
    the time between.

    Takes usable credits of the purchase's own batch that are not held, as many as there are; the
    rest is unrecovered. Gives back no more than was taken; credits that expired meanwhile stay
    expired. Raises `NotAllowed` for more than was bought, and `OutdatedEdit`.
    """
    if in_all > batch.granted:
        raise NotAllowed(
            f"the payment bought {batch.granted} credits; {in_all} of them cannot be refunded"
        )
    stands = before or Refund(batch.number, 0, 0)
    known = stands.observed_at
    if known and observed_at and observed_at < known:
        raise OutdatedEdit(
            f"what is known of the payment's refunds was observed at {format_instant(known)}, "
            "after what this report saw"
        )
    if before and in_all == stands.in_all and observed_at in (None, known):
        return None
    now = account.time(now)
    more = in_all - stands.taken
    if in_all > stands.in_all:
        more = min(more, dict(account.spendable(now)).get(batch.number, 0))
    else:
        more = min(more, 0)
    is_gone = not batch.is_usable(now)
    legs = (Leg(batch.number, -more),) if more and not is_gone else ()
    change = _Change(legs, move(account.batches, legs, known=(batch,)))
    _check_reopened(account, change.batches)
    entry = replace(
        _entry(account, EntryType.REFUND, change, request, now),
        refund=Refund(batch.number, in_all, in_all - stands.taken - more, observed_at or known),
    )
    return Refunded(entry, -more if is_gone else 0)


def _check_reopened(account: Account, batches: Batches) -> None:
    """Raises `NotAllowed` if what is given back would reopen too many batches.

    Usages close batches and reversals reopen them: without this check, usages, grants and reversals
    in turn would open any number of batches.
    """
    if len(batches) > max(MOST_OPEN_BATCHES, len(account.batches)):
        raise NotAllowed(
            f"the user would have {len(batches)} open credit batches, and "
            f"{MOST_OPEN_BATCHES} are the most allowed on request; give back less, or use, claw "
            "back or void some first"
        )


def _batch_from(
    account: Account,
    amount: int,
    now: datetime,
    timezone: str,
    lifetime: Lifetime,
    priority: int,
    source: Source,
) -> CreditBatch:
    """A batch granted on request, now."""
    _check_open_batches(account)
    now = account.time(now)
    expires_at = lifetimes.expires_at(lifetime, timezone, now)
    return CreditBatch(account.next_number, amount, amount, now, expires_at, priority, source)


def _check_open_batches(account: Account) -> None:
    if len(account.batches) >= MOST_OPEN_BATCHES:
        raise NotAllowed(
            f"the user already has {len(account.batches)} open credit batches, the most allowed "
            "on request; use, claw back or void some first"
        )


def _check_positive(amount: int) -> None:
    """Readers check requests; still, a minus sign must never turn a usage into a grant."""
    if amount < 1:
        raise ValueError(f"an amount is 1 credit or more, not {amount}")


def _take(
    account: Account, kind: EntryType, amount: int, request: Request, now: datetime
) -> LedgerEntry:
    now = account.time(now)
    legs = _covered(account, amount, now)
    return _entry(account, kind, _Change(legs, move(account.batches, legs)), request, now)


def _covered(account: Account, amount: int, now: datetime) -> Legs:
    """The legs that take ``amount`` in burn-down order. Raises `InsufficientCredits`."""
    _check_positive(amount)
    left = account.spendable(now)
    covered = sum(leg.amount for leg in left)
    if amount > covered:
        raise InsufficientCredits(amount, covered)
    return burn_down(left, amount)


def _grant(
    account: Account,
    kind: EntryType,
    batch: CreditBatch,
    request: Request,
    now: datetime,
    timezone: str,
    effective_at: datetime | None = None,
    allocated_through: Period | None = None,
) -> LedgerEntry:
    _check_positive(batch.granted)
    return _entry(
        account,
        kind,
        _Change(
            (Leg(batch.number, batch.granted),),
            in_burn_down_order((*account.batches, batch)),
        ),
        request,
        now,
        effective_at,
        allocated_through,
        timezone if batch.expires_at else None,
    )


def _entry(
    account: Account,
    kind: EntryType,
    change: _Change,
    request: Request,
    now: datetime,
    effective_at: datetime | None = None,
    allocated_through: Period | None = None,
    expiry_timezone: str | None = None,
) -> LedgerEntry:
    amount = sum(leg.amount for leg in change.legs)
    return LedgerEntry(
        user_id=account.user_id,
        number=account.next_number,
        type=kind,
        amount=amount,
        balance=account.ledger_balance + amount,
        batches=change.batches,
        legs=change.legs,
        allocated_through=allocated_through or account.allocated_through,
        operation=request.operation,
        description=request.description,
        actor=request.actor,
        effective_at=effective_at or now,
        posted_at=now,
        expiry_timezone=expiry_timezone,
        silent=request.silent,
        holds=active(account.holds, now) if change.holds is None else change.holds,
        metadata=request.metadata,
        topped_up_at=account.topped_up_at,
    )
