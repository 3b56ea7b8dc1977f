"""The API's answers: one frozen class for each schema of its contract, with the same name.

Instants are aware datetimes in UTC, days are dates, lists are tuples. Fields that this version does
not know are ignored, so that a newer server does not break it. A word such as ``status`` is a text
and not an enumeration, for the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Generic, TypeVar

Value = TypeVar("Value")

Metadata = Mapping[str, str]


def _replayed() -> bool:
    """Whether the request was done before. Ignored when comparing two answers to one request."""
    found: bool = field(default=False, compare=False)
    return found


# --- What a user has ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class NotAllocatedBecause:
    """Why no credits will come: ``code`` for programs, ``words`` for people."""

    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class ExpiringCredits:
    """Credits that expire together: usable until the end of the day before ``expires_at``."""

    amount: int
    expires_at: date


@dataclass(frozen=True, kw_only=True)
class AllocationSchedule:
    """The next credits, the current ones, and those that will expire."""

    next_allocation_date: date | None
    allocation_amount: int
    current_balance: int
    expiring_credits: tuple[ExpiringCredits, ...]
    next_allocation_at: datetime | None
    timezone: str
    not_allocated_because: NotAllocatedBecause | None
    balance_cap: int | None


@dataclass(frozen=True, kw_only=True)
class CreditBatch:
    """Credits that were granted together and expire together; ``expires_at`` is exclusive."""

    batch_id: str
    granted_amount: int
    remaining_amount: int
    granted_at: datetime
    expires_at: datetime | None
    held_amount: int
    priority: int
    source: str | None


@dataclass(frozen=True, kw_only=True)
class BalanceHold:
    """An active hold, as the balance shows it."""

    hold_id: str
    amount: int
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Balance:
    """A user's balance: ``available_balance`` can be used now; it excludes what is held."""

    available_balance: int
    held_balance: int
    ledger_balance: int
    as_of: datetime
    batches: tuple[CreditBatch, ...]
    holds: tuple[BalanceHold, ...]


# --- The history ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class BatchMove:
    """By how much a transaction moved a batch."""

    batch_id: str
    amount: int


@dataclass(frozen=True, kw_only=True)
class Price:
    """What was paid, in the smallest unit of a currency: 4900 EUR are 49 euros."""

    amount: int
    currency: str


@dataclass(frozen=True, kw_only=True)
class Transaction:
    """A line of the history."""

    transaction_id: str
    type: str
    amount: int
    balance_after: int
    description: str
    actor: str
    effective_at: datetime
    posted_at: datetime
    allocation_period: str | None
    batches: tuple[BatchMove, ...]
    hold_id: str | None
    held_amount: int | None
    released_amount: int | None
    payment_id: str | None
    price: Price | None
    refunded_amount: int | None
    unrecovered_amount: int | None
    left_out_amount: int | None
    balance_cap: int | None
    metadata: Metadata


@dataclass(frozen=True, kw_only=True)
class TransactionItem:
    """One of the usages that a transaction books."""

    key: str
    amount: int
    description: str
    metadata: Metadata


@dataclass(frozen=True, kw_only=True)
class TransactionInFull(Transaction):
    """A line of the history with the usages that it books; empty if it books a single one."""

    items: tuple[TransactionItem, ...]


@dataclass(frozen=True, kw_only=True)
class HistoryPage:
    """A page of the history, newest first; ``next_cursor`` is None only on the last page."""

    items: tuple[Transaction, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class StatementPage:
    """A page of a statement: its lines, as they were sent, for `verify_statement`."""

    items: tuple[str, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class ExplainedDecision:
    """The outcome for an amount: ``code`` for programs, ``words`` for people."""

    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class ExplainedReason:
    """Why credits could not be taken: they were ``held`` or ``expired``, or there were none."""

    code: str
    words: str
    amount: int
    until: datetime | None


@dataclass(frozen=True, kw_only=True)
class ExplainedBatch:
    """A credit batch at that time; ``open_amount`` of it could be taken."""

    batch_id: str
    remaining_amount: int
    expires_at: datetime | None
    held_amount: int
    open_amount: int
    taken_amount: int


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A decision about credits, made again on the account as it was.

    ``decides_the_same``: whether it takes the same credits as the explained entry.
    """

    at: datetime
    amount: int | None
    decision: ExplainedDecision
    available_amount: int
    missing_amount: int
    reasons: tuple[ExplainedReason, ...]
    batches: tuple[ExplainedBatch, ...]
    holds: tuple[BalanceHold, ...]
    transaction: Transaction | None
    decides_the_same: bool | None
    latest_transactions: tuple[Transaction, ...]


@dataclass(frozen=True, kw_only=True)
class ForecastAllocation:
    """Credits that will be allocated, on a local day."""

    on: date
    at: datetime
    amount: int


@dataclass(frozen=True, kw_only=True)
class NoRateBecause:
    """Why a window justifies no guess: ``code`` for programs, ``words`` for people."""

    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class ForecastRate:
    """The forecast if spending goes on as in the last ``window_days``.

    ``runs_out_on``: None if the credits last, and if there is no rate.
    """

    window_days: int
    days: int
    spent_amount: int
    runs_out_on: date | None
    expiring_credits: tuple[ExpiringCredits, ...]
    no_rate_because: NoRateBecause | None


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """An assumption of a forecast: ``code`` for programs, ``words`` for people."""

    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """When the credits will run out; ``allocations`` and ``expiring_credits`` if none is spent."""

    as_of: datetime
    until: date
    available_balance: int
    allocations: tuple[ForecastAllocation, ...]
    expiring_credits: tuple[ExpiringCredits, ...]
    rates: tuple[ForecastRate, ...]
    assumptions: tuple[Assumption, ...]


# --- What was done --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class UseAnswer:
    """Credits were used."""

    new_balance: int
    transaction_id: str
    batches: tuple[BatchMove, ...]
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class AlreadyCharged:
    """A usage that an earlier transaction had already charged."""

    key: str
    transaction_id: str


@dataclass(frozen=True, kw_only=True)
class UseManyAnswer:
    """Several usages were charged; ``transaction_id`` is None if all were charged before."""

    transaction_id: str | None
    amount: int
    new_balance: int
    charged: tuple[str, ...]
    already_charged: tuple[AlreadyCharged, ...]
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class ReverseAnswer:
    """A usage was given back; ``expired_amount`` more of it had expired, and stays expired."""

    new_balance: int
    transaction_id: str
    returned_amount: int
    expired_amount: int
    batches: tuple[BatchMove, ...]
    dry_run: bool | None = None
    transaction: Transaction | None = None
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class HoldAnswer:
    """Credits were set aside until ``expires_at``."""

    hold_id: str
    transaction_id: str
    amount: int
    expires_at: datetime
    new_balance: int
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class Hold:
    """An active hold."""

    hold_id: str
    amount: int
    description: str
    held_at: datetime
    expires_at: datetime
    metadata: Metadata


@dataclass(frozen=True, kw_only=True)
class Holds:
    """The active holds of a user, the oldest first."""

    holds: tuple[Hold, ...]


@dataclass(frozen=True, kw_only=True)
class CaptureAnswer:
    """``captured`` credits were used, and ``released`` are free again."""

    transaction_id: str
    captured: int
    released: int
    new_balance: int
    batches: tuple[BatchMove, ...]
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class ReleaseAnswer:
    """``released`` credits are free again."""

    transaction_id: str
    released: int
    new_balance: int
    dry_run: bool | None = None
    transaction: Transaction | None = None
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class PurchaseAnswer:
    """Bought credits were granted, as a batch."""

    new_balance: int
    transaction_id: str
    batch_id: str
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class RefundAnswer:
    """The result of a refund: ``unrecovered`` had been used, and was not taken back."""

    new_balance: int
    transaction_id: str
    taken: int
    given_back: int
    expired_amount: int
    unrecovered: int
    dry_run: bool | None = None
    transaction: Transaction | None = None
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class VoidAnswer:
    """All ``taken`` credits were taken back from one batch."""

    new_balance: int
    transaction_id: str
    taken: int
    dry_run: bool | None = None
    transaction: Transaction | None = None
    replayed: bool = _replayed()


@dataclass(frozen=True, kw_only=True)
class AllocateAnswer:
    """An adjustment was made; with ``up_to_available``, ``amount`` says how much was taken."""

    new_balance: int
    transaction_id: str
    amount: int | None = None
    dry_run: bool | None = None
    transaction: Transaction | None = None
    replayed: bool = _replayed()


# --- Allocation runs ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AllocationRunStarted:
    """The run of a period has begun: ``sweeps`` is how many sweeps of timezones it started."""

    period: str
    dry_run: bool
    sweeps: int
    zones_not_begun: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class DueAllocation:
    """An allocation that a run would post."""

    user_id: str
    timezone: str
    allocation_period: str
    amount: int
    expires_at: datetime | None
    left_out_amount: int | None


@dataclass(frozen=True, kw_only=True)
class NotJudged:
    """A user whose due credits cannot be determined."""

    user_id: str
    timezone: str
    code: str
    words: str


@dataclass(frozen=True, kw_only=True)
class AllocationRunPreview:
    """A page of what a run would do; or, for one user, what it would do or did."""

    period: str
    dry_run: bool
    items: tuple[DueAllocation, ...]
    not_judged: tuple[NotJudged, ...]
    next_cursor: str | None
    zones_not_begun: tuple[str, ...]


# --- Subscriptions and plans ----------------------------------------------------------------------


@dataclass(frozen=True)
class Versioned(Generic[Value]):
    """A value and its version. Send the ``etag`` with a change: it fails if others were faster."""

    value: Value
    etag: str


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """What the credit system knows about a user."""

    user_id: str
    email: str | None = field(repr=False)
    timezone: str
    plan: str
    billing_interval: str
    status: str
    started_at: datetime
    eligible_from: datetime | date
    resumed_at: datetime | None
    ends_at: datetime | None
    observed_at: datetime | None
    allocation_amount: int | None
    next_credit_allocation: date | None
    credit_allocation_amount: int
    not_allocated_because: NotAllocatedBecause | None
    notifications: tuple[str, ...]
    mail_suppressed_because: str | None
    language: str = "en"
    dry_run: bool | None = None
    due: tuple[DueAllocation, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class FoundSubscription:
    """A found subscription, in short."""

    user_id: str
    email: str | None = field(repr=False)
    timezone: str
    plan: str
    billing_interval: str
    status: str
    started_at: datetime


@dataclass(frozen=True, kw_only=True)
class SubscriptionsPage:
    """A page of found subscriptions."""

    subscriptions: tuple[FoundSubscription, ...]
    unreadable: int
    next_cursor: str | None

    @property
    def items(self) -> tuple[FoundSubscription, ...]:
        """The elements, under the name that all listings share."""
        return self.subscriptions


@dataclass(frozen=True, kw_only=True)
class Editor:
    """Who made an edit."""

    kind: str
    subject: str | None


@dataclass(frozen=True, kw_only=True)
class FieldChange:
    """A changed field, with its values as the API shows them: texts, numbers, lists or None."""

    field: str
    before: object
    after: object


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One edit of a subscription."""

    version: int
    edited_at: datetime
    edited_by: Editor
    changes: tuple[FieldChange, ...]
    correlation_id: str | None


@dataclass(frozen=True, kw_only=True)
class EditsPage:
    """A page of the edits of a subscription, newest first."""

    user_id: str
    items: tuple[Edit, ...]
    unreadable: int
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class SentEmail:
    """An email about an entry, and what is recorded of it: ``state`` is ``sent``, for example."""

    type: str
    transaction_id: str
    subject: str | None
    state: str
    posted_at: datetime
    sent_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class EmailsPage:
    """A page of the emails about a user's credits, newest first."""

    user_id: str
    items: tuple[SentEmail, ...]
    next_cursor: str | None


@dataclass(frozen=True, kw_only=True)
class EntryEmail:
    """The email about an entry, as it is or was sent; its links are disabled."""

    type: str
    subject: str
    html: str
    text: str


@dataclass(frozen=True, kw_only=True)
class EventDetail:
    """The content of an event."""

    version: int
    id: str
    user_id: str
    number: int
    transaction_id: str
    posted_at: datetime
    amount: int
    balance: int
    ledger_balance: int
    hash: str
    hold_id: str | None = None
    held_amount: int | None = None
    released_amount: int | None = None
    threshold: int | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, kw_only=True)
class EntryEvent:
    """An event of an entry."""

    name: str
    at: datetime
    detail: EventDetail


@dataclass(frozen=True, kw_only=True)
class EntryEvents:
    """The events of an entry: its own first, then the limits that it crossed."""

    events: tuple[EntryEvent, ...]


@dataclass(frozen=True, kw_only=True)
class MonthZone:
    """The count of a month in a timezone: how many users of each kind, and the first of them."""

    timezone: str
    due: int
    allocated: int
    missing: int
    duplicate: int
    unchecked: int
    lateness_seconds: int
    missing_users: tuple[str, ...]
    duplicate_users: tuple[str, ...]
    unchecked_users: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MonthInstant:
    """An instant at which a month begins; None for zones that have left the database."""

    starts_at: datetime | None
    zones: tuple[MonthZone, ...]


@dataclass(frozen=True, kw_only=True)
class Month:
    """The latest count of a month."""

    period: str
    counted_at: datetime
    complete: bool
    due: int
    allocated: int
    missing: int
    duplicate: int
    unchecked: int
    lateness_seconds: int
    missing_users: tuple[str, ...]
    duplicate_users: tuple[str, ...]
    unchecked_users: tuple[str, ...]
    instants: tuple[MonthInstant, ...]


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """About how many messages are in a queue; None if SQS did not answer at once."""

    name: str
    holds_dead_letters: bool
    waiting: int | None
    in_flight: int | None


@dataclass(frozen=True, kw_only=True)
class RingingAlarm:
    """An alarm that rings."""

    name: str
    meaning: str
    since: datetime
    runbook: str


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The waiting messages and the ringing alarms; None if CloudWatch did not answer.

    ``shadow``: the stage runs beside an old system, and sends neither emails nor events.
    """

    queues: tuple[QueueDepth, ...]
    alarms: tuple[RingingAlarm, ...] | None
    shadow: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a subscription to this plan gets."""

    id: str
    name: str
    monthly_credits: int
    credit_lifetime_days: int | None
    credit_lifetime_months: int | None
    lowest: bool
    grants_since: date | None
    allocate_on: str
    billing_intervals: tuple[str, ...]
    yearly_since: date | None
    monthly_since: date | None
    balance_cap: int | None
    on_signup: str
    on_plan_change: str


@dataclass(frozen=True, kw_only=True)
class Plans:
    """The plans on offer."""

    plans: tuple[Plan, ...]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The API is up; ``version`` is that of its contract."""

    status: str
    version: str


# --- Refusals -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """A wrong field of a request, and what it must be."""

    field: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A refusal, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: tuple[FieldError, ...]
    request_id: str
    available_balance: int | None = None
    ended: str | None = None
    ended_at: datetime | None = None
    transaction_id: str | None = None
