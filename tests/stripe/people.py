"""Who the made-up shop sells to, and what it knows of them: its own books, not Stripe's events."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

SHOWN_AS_PAUSED = ("unpaid", "paused")
NEVER_BEGAN = ("incomplete", "incomplete_expired")


class KnownBy(StrEnum):
    """How an event about a customer leads to the user."""

    CUSTOMER = "metadata of the customer"
    SESSION = "client_reference_id of a checkout session"
    SUBSCRIPTION = "metadata of the subscription"


@dataclass
class Membership:
    """A subscription as it is now."""

    id: str
    item: str
    user: "User"
    price: str
    created: datetime
    status: str
    period_start: datetime
    period_end: datetime
    anchor: datetime
    metadata: dict[str, str]
    trial_start: datetime | None = None
    trial_end: datetime | None = None
    has_payment_method: bool = True
    missing_payment_method: str = "create_invoice"
    cancel_at: datetime | None = None
    cancel_at_period_end: bool = False
    canceled_at: datetime | None = None
    cancellation_reason: str | None = None
    ended_at: datetime | None = None
    pause_behavior: str | None = None
    pause_resumes_at: datetime | None = None
    paused_at: datetime | None = None
    latest_invoice: "Bill | None" = None

    @property
    def lives(self) -> bool:
        """Whether it began and did not end."""
        return self.ended_at is None and self.status not in NEVER_BEGAN

    @property
    def credit_status(self) -> str | None:
        """What it is to a credit system; None as long as it did not begin."""
        if self.status in NEVER_BEGAN:
            return None
        if self.status == "canceled":
            return "cancelled"
        if self.status in SHOWN_AS_PAUSED or self.pause_behavior is not None:
            return "paused"
        return "active"

    @property
    def runs(self) -> bool:
        """Whether nothing is the matter with it: its owner may change it in any way."""
        is_well = self.status in ("active", "trialing")
        return self.lives and is_well and self.pause_behavior is None and self.cancel_at is None


@dataclass
class Payment:
    """A payment intent and its charge."""

    intent: str
    user: "User"
    created: datetime
    amount: int
    metadata: dict[str, str]
    types: tuple[str, ...] = ("card",)
    status: str = "requires_payment_method"
    pack: str | None = None
    """The price of the pack that it is for."""
    bill: "Bill | None" = None
    customer: str | None = None
    charge: str | None = None
    charged_at: datetime | None = None
    refunded: int = 0
    refunds_under_way: int = 0
    dispute: str = ""
    """The state of the dispute about it: none, a warning, open, lost or won."""
    disputed: int = 0
    """What the bank holds or keeps of it."""

    @property
    def taken_back(self) -> int:
        """The money that the shop does not have any more."""
        return self.refunded + self.disputed

    @property
    def may_be_refunded(self) -> bool:
        """Whether there is something left of it that is not in dispute."""
        is_free = self.dispute in ("", "won")
        return self.status == "succeeded" and is_free and self.refunded < self.amount

    @property
    def may_be_disputed(self) -> bool:
        """Whether a bank could want it back: each does so once."""
        is_free = not self.dispute and not self.refunds_under_way
        return self.status == "succeeded" and is_free and self.refunded < self.amount


@dataclass
class Bill:
    """An invoice."""

    id: str
    user: "User"
    reason: str
    price: str
    amount: int
    created: datetime
    period_start: datetime
    period_end: datetime
    number: str
    membership: Membership | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    """What the metadata of its subscription was when it was made."""
    line: str = ""
    invoice_item: str | None = None
    status: str = "draft"
    attempts: int = 0
    next_attempt: datetime | None = None
    finalized_at: datetime | None = None
    paid_at: datetime | None = None
    voided_at: datetime | None = None
    uncollectible_at: datetime | None = None
    payment: Payment | None = None


@dataclass
class User:
    """Somebody who has an account with the shop, and sooner or later a customer at Stripe."""

    id: str
    known_by: KnownBy
    email: str
    wants_a_plan: bool
    """Some buy nothing but packs."""
    customer: str | None = None
    customer_since: datetime | None = None
    is_known: bool = False
    """Whether an event has told who the customer is, should that be told once for all."""
    memberships: list[Membership] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)

    @property
    def newest(self) -> Membership | None:
        """The subscription that the user deals with, if any lives: the last one."""
        living = [one for one in self.memberships if one.lives]
        return living[-1] if living else None

    @property
    def counts(self) -> Membership | None:
        """The one that a credit system goes by: active before paused before cancelled."""
        ranks = {"active": 0, "paused": 1, "cancelled": 2}
        begun = [one for one in self.memberships if one.credit_status]
        return min(
            begun,
            key=lambda one: (ranks[str(one.credit_status)], -one.created.timestamp()),
            default=None,
        )
