"""Stripe as it is to itself: customers, contracts, payments, and the events that tell of them.

It knows the order of everything, which nobody is told who hears of it.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.simulation.reference import Billed, Plans
from tests.simulation.world import PACKS, POSTER
from tests.stripe import payloads

Json = dict[str, Any]
YEAR = timedelta(days=365)


@dataclass(eq=False)
class Customer:
    id: str
    user: str


@dataclass(frozen=True)
class State:
    """How a contract stands."""

    price: str
    status: str
    started_at: datetime
    ends_with_period: bool = False
    ends_at: datetime | None = None
    is_collected: bool = True
    note: str = ""
    """Something that is no business of ours."""

    @property
    def is_ours(self) -> bool:
        return POSTER not in self.price

    @property
    def renews_at(self) -> datetime:
        return self.started_at + YEAR

    def billed(self, plans: Plans) -> Billed | None:
        """What it entitles to, if it has begun, and is of a plan that there is."""
        _, plan, interval = self.price.split("_")
        if self.status in ("incomplete", "incomplete_expired") or plan not in plans:
            return None
        status = {"canceled": "cancelled", "unpaid": "paused", "paused": "paused"}.get(
            self.status, "active"
        )
        if not self.is_collected and status == "active":
            status = "paused"
        ends_at = self.renews_at if self.ends_with_period else None
        return Billed(plan, interval, status, self.started_at, self.ends_at or ends_at)


@dataclass(eq=False)
class Contract:
    id: str
    customer: Customer
    state: State
    says_user: bool
    timezone: str | None


@dataclass(eq=False)
class Payment:
    id: str
    customer: Customer | None
    user: str
    pack: str
    paid: int
    says_user: bool
    is_free: bool
    refunds: dict[str, int] = field(default_factory=dict)
    """Those that have not failed, in money."""
    disputes: dict[str, int] = field(default_factory=dict)
    """Those whose money is withdrawn."""
    failed_at: datetime | None = None

    @property
    def operation(self) -> str:
        return f"purchase#{self.id}"

    @property
    def credits(self) -> int:
        return PACKS[self.pack]

    def credits_of(self, taken_back: int) -> int:
        """How many credits are taken back with so much money."""
        return self.credits * min(taken_back, self.paid) // self.paid if self.paid else 0

    @property
    def taken_back(self) -> int:
        """The money that is not there any more."""
        return sum(self.refunds.values()) + sum(self.disputes.values())


@dataclass(eq=False)
class Event:
    """What Stripe tells; ``about`` is the customer, the contract or the payment."""

    body: Json
    place: int
    seen_at: datetime
    about: Customer | Contract | Payment
    state: State | None = None
    before: State | None = None
    money: tuple[str, str, int] | None = None
    """Of a payment: the kind of news, the id of what it is about, and an amount."""
    is_wrong: bool = False
    """Whether somebody at the shop has confused two users."""
    email: str | None = None
    attempts: int = 0
    is_done: bool = False

    @property
    def id(self) -> str:
        name: str = self.body["id"]
        return name

    @property
    def kind(self) -> str:
        name: str = self.body["type"]
        return name

    def billed(self, plans: Plans) -> Billed | None:
        """What a contract entitles to. Once it is not ours any more it has ended for us."""
        assert self.state
        before = self.before.billed(plans) if self.before else None
        if self.state.is_ours or before is None:
            return self.state.billed(plans)
        return before._replace(status="cancelled", ends_at=self.seen_at)

    @property
    def says_user(self) -> bool:
        thing = self.body["data"]["object"]
        return "user_id" in thing["metadata"] or bool(thing.get("client_reference_id"))

    @property
    def buys(self) -> bool:
        return isinstance(self.about, Payment) and self.money is None


def money_of(events: Collection[Event]) -> int:
    """What these events say is taken back of a payment, in Stripe's own order.

    The newest of the charge says what is refunded in all. A refund that has failed since is not;
    nor is what was withdrawn for a dispute, and came back.
    """
    in_order = sorted((each for each in events if each.money), key=lambda each: each.place)
    refunded, failed, disputes = 0, dict[str, int](), dict[str, int]()
    for event in in_order:
        assert event.money
        kind, name, amount = event.money
        if kind == "charge":
            refunded, failed = amount, {}
        elif kind == "failed":
            failed[name] = amount
        else:
            disputes[name] = amount
    return max(0, refunded - sum(failed.values())) + sum(disputes.values())


class Record:
    """Everything that Stripe knows."""

    def __init__(self) -> None:
        self.customers: list[Customer] = []
        self.contracts: list[Contract] = []
        self.payments: list[Payment] = []
        self.events: list[Event] = []

    @property
    def pending(self) -> list[Event]:
        return [event for event in self.events if not event.is_done and not event.is_wrong]

    def about(self, thing: object) -> list[Event]:
        return [event for event in self.events if event.about is thing]

    @property
    def version(self) -> str:
        return payloads.VERSIONS[len(self.events) % len(payloads.VERSIONS)]

    def tell(self, kind: str, thing: Json, now: datetime, about: Any, **more: Any) -> Event:
        """Something has happened. An id of an event says nothing of the order."""
        place = len(self.events)
        name = f"evt_{hashlib.sha256(str(place).encode()).hexdigest()[:12]}"
        now = now.replace(microsecond=0)
        previous = more.pop("previous", None)
        body = payloads.event(self.version, kind, thing, id=name, created=now, previous=previous)
        event = Event(body, place, now, about, **more)
        self.events.append(event)
        return event

    # --- Customers --------------------------------------------------------------------------------

    def customer(self, user: str) -> Customer:
        customer = Customer(f"cus_{len(self.customers)}", user)
        self.customers.append(customer)
        return customer

    def tell_of(
        self,
        customer: Customer,
        now: datetime,
        email: str | None,
        user: str | None,
        kind: str,
        language: str | None = None,
    ) -> Event:
        metadata = {"user_id": user} if user else {}
        person = payloads.customer(
            self.version, id=customer.id, created=now, email=email, metadata=metadata
        )
        person["preferred_locales"] = [language] if language else []
        is_wrong = user not in (None, customer.user)
        return self.tell(kind, person, now, customer, email=email, is_wrong=is_wrong)

    # --- Contracts --------------------------------------------------------------------------------

    def begin(
        self,
        customer: Customer,
        state: State,
        now: datetime,
        timezone: str | None,
        *,
        says_user: bool,
    ) -> Contract:
        name = f"sub_{len(self.contracts)}"
        contract = Contract(name, customer, state, says_user, timezone)
        self.contracts.append(contract)
        kind = "customer.subscription.created"
        self.tell(kind, self._body(contract, state), now, contract, state=state)
        return contract

    def change(self, contract: Contract, now: datetime, **change: Any) -> Event:
        before, contract.state = contract.state, replace(contract.state, **change)
        body, was = self._body(contract, contract.state), self._body(contract, before)
        if contract.state.status == "canceled":
            kind, previous = "customer.subscription.deleted", None
        else:
            kind = "customer.subscription.updated"
            previous = {name: was[name] for name in was if was[name] != body[name]}
        return self.tell(
            kind,
            body,
            now,
            contract,
            state=contract.state,
            before=None if previous is None else before,
            previous=previous,
        )

    def _body(self, contract: Contract, state: State) -> Json:
        version, period = self.version, (state.started_at, state.renews_at)
        price = payloads.price(
            version,
            id=state.price,
            created=state.started_at,
            unit_amount=4900,
            interval="year" if state.price.endswith("yearly") else "month",
        )
        item = payloads.subscription_item(
            version,
            id=f"si_{contract.id}",
            created=state.started_at,
            subscription=contract.id,
            price=price,
            period_start=period[0],
            period_end=period[1],
        )
        metadata = {"note": state.note}
        metadata |= {"user_id": contract.customer.user} if contract.says_user else {}
        metadata |= {"timezone": contract.timezone} if contract.timezone else {}
        has_ended = state.status == "canceled"
        return payloads.subscription(
            version,
            id=contract.id,
            customer=contract.customer.id,
            created=state.started_at,
            status=state.status,
            items=[item],
            period_start=period[0],
            period_end=period[1],
            metadata=metadata,
            cancel_at=None if has_ended else state.ends_at,
            cancel_at_period_end=state.ends_with_period,
            ended_at=state.ends_at if has_ended else None,
            pause_behavior=None if state.is_collected else "void",
        )

    # --- Payments ---------------------------------------------------------------------------------

    def sell(
        self, customer: Customer | None, user: str, pack: str, paid: int, *, says_user: bool
    ) -> Payment:
        number = len(self.payments)
        name = f"pi_stripe_{number}" if paid else f"cs_stripe_{number}"
        payment = Payment(name, customer, user, pack, paid, says_user, is_free=not paid)
        self.payments.append(payment)
        return payment

    def tell_of_checkout(
        self, payment: Payment, now: datetime, email: str | None, *, is_paid: bool
    ) -> Event:
        """By a reference, and not by metadata, it says who the user is."""
        kind = "completed" if is_paid or payment.is_free else "async_payment_succeeded"
        number = payment.id.rpartition("_")[2]
        session = payloads.checkout_session(
            self.version,
            id=f"cs_stripe_{number}",
            created=now,
            expires_at=now + timedelta(days=1),
            mode="payment",
            payment_status="no_payment_required" if payment.is_free else "paid",
            amount_total=payment.paid,
            customer=payment.customer.id if payment.customer else None,
            client_reference_id=payment.user if payment.says_user else None,
            payment_intent=None if payment.is_free else payment.id,
            email=email,
            metadata={"price_id": payment.pack},
        )
        return self.tell(f"checkout.session.{kind}", session, now, payment, email=email)

    def tell_of_intent(self, payment: Payment, now: datetime) -> Event:
        metadata = {"price_id": payment.pack}
        metadata |= {"user_id": payment.user} if payment.says_user else {}
        intent = payloads.payment_intent(
            self.version,
            id=payment.id,
            created=now,
            amount=payment.paid,
            customer=payment.customer.id if payment.customer else None,
            metadata=metadata,
        )
        return self.tell("payment_intent.succeeded", intent, now, payment)

    def refund(self, payment: Payment, amount: int, now: datetime) -> None:
        payment.refunds[f"re_{len(self.events)}"] = amount
        in_all = sum(payment.refunds.values())
        charge = payloads.charge(
            self.version,
            id=f"ch_of_{payment.id}",
            created=now,
            amount=payment.paid,
            payment_intent=payment.id,
            amount_refunded=in_all,
        )
        self.tell("charge.refunded", charge, now, payment, money=("charge", "", in_all))

    def fail(self, payment: Payment, name: str, now: datetime) -> None:
        """A refund that was made comes back; two events say so."""
        amount = payment.refunds.pop(name)
        payment.failed_at = now.replace(microsecond=0)
        for kind in ("refund.failed", "charge.refund.updated"):
            refund = payloads.refund(
                self.version,
                id=name,
                created=now,
                amount=amount,
                charge=f"ch_of_{payment.id}",
                payment_intent=payment.id,
                status="failed",
            )
            self.tell(kind, refund, now, payment, money=("failed", name, amount))

    def dispute(self, payment: Payment, name: str, amount: int, now: datetime) -> None:
        """Money is withdrawn for a dispute, or comes back: then it is nothing."""
        kind = "funds_withdrawn" if amount else "funds_reinstated"
        disputed = amount or payment.disputes[name]
        payment.disputes[name] = amount
        dispute = payloads.dispute(
            self.version,
            id=name,
            created=now,
            amount=disputed,
            charge=f"ch_of_{payment.id}",
            payment_intent=payment.id,
            status="needs_response" if amount else "won",
        )
        money = ("dispute", name, amount)
        self.tell(f"charge.dispute.{kind}", dispute, now, payment, money=money)
