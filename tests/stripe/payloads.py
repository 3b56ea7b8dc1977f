"""What Stripe sends to a webhook: its objects and events, as each API version says them.

A maker fills every field that its object has in that version. What it is given goes to where that
version keeps it, and is left out where that version has no place for it: since 2025-03-31.basil a
subscription's period is said by its items, and an invoice names its subscription in its ``parent``.
"""

# ruff: noqa: A002 - `id`, `type` and `object` are Stripe's words

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import datetime

from tests.stripe.conformance import VERSIONS, classes, conforms
from tests.stripe.filling import Json, filled

__all__ = [
    "VERSIONS",
    "Json",
    "balance_transaction",
    "charge",
    "checkout_session",
    "conforms",
    "customer",
    "dispute",
    "event",
    "instant",
    "invoice",
    "invoice_line",
    "invoice_payment",
    "payment_intent",
    "price",
    "refund",
    "signed",
    "subscription",
    "subscription_item",
]

CURRENCY = "eur"


def instant(moment: datetime | None) -> int | None:
    """Stripe's way to say an instant: whole seconds."""
    return None if moment is None else int(moment.timestamp())


def event(
    version: str,
    type: str,
    object: Json,
    *,
    id: str,
    created: datetime,
    previous: Json | None = None,
    livemode: bool = True,
) -> Json:
    """An event: what happened to an object, and what of it was otherwise before."""
    data: Json = {"object": object}
    if previous is not None:
        data["previous_attributes"] = previous
    return filled(
        version,
        "Event",
        id=id,
        type=type,
        api_version=version,
        created=instant(created),
        data=data,
        livemode=livemode,
        pending_webhooks=1,
        request={"id": None, "idempotency_key": None},
    )


def customer(
    version: str,
    *,
    id: str,
    created: datetime,
    email: str | None = None,
    name: str | None = None,
    metadata: Mapping[str, str] | None = None,
    delinquent: bool = False,
) -> Json:
    """Somebody who pays."""
    return filled(
        version,
        "Customer",
        id=id,
        created=instant(created),
        email=email,
        name=name,
        metadata=dict(metadata or {}),
        delinquent=delinquent,
        balance=0,
        currency=CURRENCY,
        invoice_prefix=id[-8:].upper(),
        next_invoice_sequence=1,
        preferred_locales=[],
        tax_exempt="none",
    )


def price(
    version: str,
    *,
    id: str,
    created: datetime,
    unit_amount: int,
    interval: str | None = None,
    product: str | None = None,
    nickname: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Json:
    """What a thing costs: once, or every month or year."""
    recurring = interval and filled(
        version, "Price.Recurring", interval=interval, interval_count=1, usage_type="licensed"
    )
    return filled(
        version,
        "Price",
        id=id,
        created=instant(created),
        currency=CURRENCY,
        metadata=dict(metadata or {}),
        nickname=nickname,
        product=product or id.replace("price_", "prod_"),
        recurring=recurring,
        tax_behavior="unspecified",
        type="recurring" if interval else "one_time",
        unit_amount=unit_amount,
        unit_amount_decimal=str(unit_amount),
    )


def _plan(version: str, of: Json) -> Json:
    """The older way to say a price that recurs, which is still sent beside it."""
    return filled(
        version,
        "Plan",
        id=of["id"],
        created=of["created"],
        amount=of["unit_amount"],
        amount_decimal=of["unit_amount_decimal"],
        currency=of["currency"],
        interval=of["recurring"]["interval"],
        interval_count=of["recurring"]["interval_count"],
        metadata=dict(of["metadata"]),
        nickname=of["nickname"],
        product=of["product"],
    )


def subscription_item(
    version: str,
    *,
    id: str,
    created: datetime,
    subscription: str,
    price: Json,
    period_start: datetime,
    period_end: datetime,
    quantity: int = 1,
) -> Json:
    """What a subscription is of: a price and how many times."""
    return filled(
        version,
        "SubscriptionItem",
        id=id,
        created=instant(created),
        subscription=subscription,
        price=price,
        plan=_plan(version, price),
        quantity=quantity,
        tax_rates=[],
        current_period_start=instant(period_start),
        current_period_end=instant(period_end),
    )


def subscription(
    version: str,
    *,
    id: str,
    customer: str,
    created: datetime,
    status: str,
    items: Sequence[Json],
    period_start: datetime,
    period_end: datetime,
    start_date: datetime | None = None,
    billing_cycle_anchor: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    cancel_at: datetime | None = None,
    cancel_at_period_end: bool = False,
    canceled_at: datetime | None = None,
    cancellation_reason: str | None = None,
    ended_at: datetime | None = None,
    trial_start: datetime | None = None,
    trial_end: datetime | None = None,
    missing_payment_method: str = "create_invoice",
    pause_behavior: str | None = None,
    pause_resumes_at: datetime | None = None,
    paused_at: datetime | None = None,
    latest_invoice: str | None = None,
    default_payment_method: str | None = None,
) -> Json:
    """A subscription; its items are those of `subscription_item`."""
    is_flexible = version >= "2025-09-30"
    return filled(
        version,
        "Subscription",
        id=id,
        customer=customer,
        created=instant(created),
        currency=CURRENCY,
        status=status,
        items=_page(items, f"/v1/subscription_items?subscription={id}"),
        current_period_start=instant(period_start),
        current_period_end=instant(period_end),
        start_date=instant(start_date or created),
        billing_cycle_anchor=instant(billing_cycle_anchor or trial_end or created),
        billing_mode={"type": "flexible" if is_flexible else "classic"},
        metadata=dict(metadata or {}),
        cancel_at=instant(cancel_at),
        cancel_at_period_end=cancel_at_period_end,
        canceled_at=instant(canceled_at),
        cancellation_details={"reason": cancellation_reason},
        ended_at=instant(ended_at),
        trial_start=instant(trial_start),
        trial_end=instant(trial_end),
        trial_settings={"end_behavior": {"missing_payment_method": missing_payment_method}},
        pause_collection=pause_behavior
        and {"behavior": pause_behavior, "resumes_at": instant(pause_resumes_at)},
        status_details=paused_at and _paused_since(paused_at),
        latest_invoice=latest_invoice,
        default_payment_method=default_payment_method,
        default_tax_rates=[],
    )


def _paused_since(moment: datetime) -> Json:
    return {
        "paused": {
            "subscription": {"type": "trial_end_without_payment_method"},
            "transitioned_at": instant(moment),
            "type": "subscription",
        }
    }


def checkout_session(
    version: str,
    *,
    id: str,
    created: datetime,
    mode: str,
    payment_status: str,
    expires_at: datetime,
    status: str = "complete",
    amount_total: int = 0,
    amount_discount: int = 0,
    customer: str | None = None,
    client_reference_id: str | None = None,
    metadata: Mapping[str, str] | None = None,
    payment_intent: str | None = None,
    subscription: str | None = None,
    invoice: str | None = None,
    email: str | None = None,
    name: str | None = None,
    payment_method_types: Sequence[str] = ("card",),
) -> Json:
    """A visit of Stripe's checkout page. Events never say what was in the basket."""
    details: Json = {"email": email, "name": name, "tax_exempt": "none", "tax_ids": []}
    return filled(
        version,
        "Session",
        id=id,
        created=instant(created),
        expires_at=instant(expires_at),
        mode=mode,
        status=status,
        payment_status=payment_status,
        amount_subtotal=amount_total + amount_discount,
        amount_total=amount_total,
        currency=CURRENCY,
        customer=customer,
        customer_creation="if_required" if mode == "payment" else "always",
        customer_details=details if email else None,
        client_reference_id=client_reference_id,
        metadata=dict(metadata or {}),
        payment_intent=payment_intent,
        subscription=subscription,
        invoice=invoice,
        payment_method_types=list(payment_method_types),
        payment_method_collection="if_required" if mode == "payment" else "always",
        total_details={"amount_discount": amount_discount, "amount_shipping": 0, "amount_tax": 0},
        ui_mode=_first_that_exists(version, "Session", "ui_mode", "hosted", "hosted_page"),
    )


def payment_intent(
    version: str,
    *,
    id: str,
    created: datetime,
    amount: int,
    status: str = "succeeded",
    customer: str | None = None,
    metadata: Mapping[str, str] | None = None,
    latest_charge: str | None = None,
    invoice: str | None = None,
    payment_method: str | None = None,
    payment_method_types: Sequence[str] = ("card",),
    description: str | None = None,
) -> Json:
    """A payment, from the wish to the money."""
    return filled(
        version,
        "PaymentIntent",
        id=id,
        created=instant(created),
        amount=amount,
        amount_received=amount if status == "succeeded" else 0,
        client_secret=f"{id}_secret_0",
        currency=CURRENCY,
        status=status,
        customer=customer,
        metadata=dict(metadata or {}),
        latest_charge=latest_charge,
        invoice=invoice,
        payment_method=payment_method,
        payment_method_types=list(payment_method_types),
        description=description,
    )


def charge(
    version: str,
    *,
    id: str,
    created: datetime,
    amount: int,
    payment_intent: str | None,
    status: str = "succeeded",
    amount_refunded: int = 0,
    disputed: bool = False,
    customer: str | None = None,
    metadata: Mapping[str, str] | None = None,
    invoice: str | None = None,
    payment_method: str | None = None,
    balance_transaction: str | None = None,
    email: str | None = None,
    description: str | None = None,
) -> Json:
    """The money of a payment, and how much of it went back."""
    is_paid = status == "succeeded"
    seen = {
        "network_status": "approved_by_network" if is_paid else "declined_by_network",
        "risk_level": "normal",
        "type": "authorized" if is_paid else "issuer_declined",
    }
    return filled(
        version,
        "Charge",
        id=id,
        created=instant(created),
        amount=amount,
        amount_captured=amount if is_paid else 0,
        amount_refunded=amount_refunded,
        balance_transaction=balance_transaction,
        billing_details={"email": email, "name": None, "phone": None, "address": None},
        captured=is_paid,
        currency=CURRENCY,
        customer=customer,
        description=description,
        disputed=disputed,
        failure_code=None if is_paid else "card_declined",
        fraud_details={},
        invoice=invoice,
        metadata=dict(metadata or {}),
        outcome=seen,
        paid=is_paid,
        payment_intent=payment_intent,
        payment_method=payment_method,
        receipt_url=f"https://pay.stripe.example/receipts/{id}" if is_paid else None,
        refunded=0 < amount == amount_refunded,
        status=status,
    )


def refund(
    version: str,
    *,
    id: str,
    created: datetime,
    amount: int,
    charge: str,
    payment_intent: str | None,
    status: str = "succeeded",
    reason: str | None = None,
    failure_reason: str | None = None,
    metadata: Mapping[str, str] | None = None,
    customer: str | None = None,
    balance_transaction: str | None = None,
    failure_balance_transaction: str | None = None,
) -> Json:
    """Money on its way back to who paid it."""
    return filled(
        version,
        "Refund",
        id=id,
        created=instant(created),
        amount=amount,
        balance_transaction=balance_transaction,
        charge=charge,
        currency=CURRENCY,
        customer=customer,
        failure_balance_transaction=failure_balance_transaction,
        failure_reason=failure_reason,
        metadata=dict(metadata or {}),
        payment_intent=payment_intent,
        pending_reason="processing" if status == "pending" else None,
        reason=reason,
        status=status,
    )


def balance_transaction(
    version: str,
    *,
    id: str,
    created: datetime,
    amount: int,
    source: str,
    type: str = "adjustment",
    reporting_category: str = "dispute",
    fee: int = 0,
    description: str | None = None,
) -> Json:
    """What went in or out of the shop's account."""
    charged = {"amount": fee, "currency": CURRENCY, "type": "stripe_fee", "application": None}
    return filled(
        version,
        "BalanceTransaction",
        id=id,
        created=instant(created),
        available_on=instant(created),
        amount=amount,
        currency=CURRENCY,
        description=description,
        fee=fee,
        fee_details=[{**charged, "description": "Dispute fee"}] if fee else [],
        net=amount - fee,
        reporting_category=reporting_category,
        source=source,
        status="available",
        type=type,
    )


def dispute(
    version: str,
    *,
    id: str,
    created: datetime,
    amount: int,
    charge: str,
    payment_intent: str | None,
    status: str = "needs_response",
    reason: str = "fraudulent",
    due_by: datetime | None = None,
    balance_transactions: Sequence[Json] = (),
    has_evidence: bool = False,
) -> Json:
    """A bank that wants the money of a charge back (or, a warning, that only asks)."""
    submitted = {"submission_method": "manual"} if has_evidence else {}
    return filled(
        version,
        "Dispute",
        id=id,
        created=instant(created),
        amount=amount,
        balance_transactions=[*balance_transactions],
        charge=charge,
        currency=CURRENCY,
        evidence_details={
            "due_by": instant(due_by),
            "has_evidence": has_evidence,
            "submission_count": int(has_evidence),
            **submitted,
        },
        is_charge_refundable=status.startswith("warning"),
        network_reason_code="10.4",
        payment_intent=payment_intent,
        reason=reason,
        status=status,
    )


def invoice_line(
    version: str,
    *,
    id: str,
    invoice: str,
    price: Json,
    amount: int,
    period_start: datetime,
    period_end: datetime,
    subscription: str | None = None,
    subscription_item: str | None = None,
    invoice_item: str | None = None,
    proration: bool = False,
    description: str | None = None,
) -> Json:
    """A line of an invoice: for an item of a subscription, or for an item of the invoice itself."""
    is_item = invoice_item is not None
    of_item: Json = {"invoice_item": invoice_item, "proration": proration}
    of_item["subscription"] = subscription
    parent = (
        {"type": "invoice_item_details", "invoice_item_details": of_item}
        if is_item
        else {
            "type": "subscription_item_details",
            "subscription_item_details": {**of_item, "subscription_item": subscription_item},
        }
    )
    sold = {"price": price["id"], "product": price["product"]}
    unit = price["unit_amount_decimal"]
    return filled(
        version,
        "InvoiceLineItem",
        id=id,
        invoice=invoice,
        amount=amount,
        amount_excluding_tax=amount,
        currency=CURRENCY,
        description=description,
        discountable=not proration,
        discount_amounts=[],
        invoice_item=invoice_item,
        parent=parent,
        period={"start": instant(period_start), "end": instant(period_end)},
        plan=_plan(version, price) if price["recurring"] else None,
        price=price,
        pricing={"type": "price_details", "price_details": sold, "unit_amount_decimal": unit},
        proration=proration,
        quantity=1,
        quantity_decimal="1",
        subscription=subscription,
        subscription_item=subscription_item,
        subtotal=amount,
        type="invoiceitem" if is_item else "subscription",
    )


def invoice(
    version: str,
    *,
    id: str,
    created: datetime,
    customer: str,
    status: str,
    amount: int,
    billing_reason: str,
    lines: Sequence[Json],
    period_start: datetime,
    period_end: datetime,
    subscription: str | None = None,
    subscription_metadata: Mapping[str, str] | None = None,
    payment_intent: str | None = None,
    charge: str | None = None,
    number: str | None = None,
    email: str | None = None,
    attempt_count: int = 0,
    next_payment_attempt: datetime | None = None,
    finalized_at: datetime | None = None,
    paid_at: datetime | None = None,
    voided_at: datetime | None = None,
    marked_uncollectible_at: datetime | None = None,
) -> Json:
    """An invoice; its lines are those of `invoice_line`."""
    is_paid = status == "paid"
    due = max(amount, 0)
    of_subscription: Json = {"metadata": dict(subscription_metadata or {})}
    parent = {
        "type": "subscription_details",
        "subscription_details": {**of_subscription, "subscription": subscription},
    }
    transitions = {
        "finalized_at": instant(finalized_at),
        "marked_uncollectible_at": instant(marked_uncollectible_at),
        "paid_at": instant(paid_at),
        "voided_at": instant(voided_at),
    }
    return filled(
        version,
        "Invoice",
        id=id,
        created=instant(created),
        account_country="DE",
        account_name="The Shop",
        amount_due=due,
        amount_paid=due if is_paid else 0,
        amount_remaining=0 if is_paid else due,
        attempt_count=attempt_count,
        attempted=attempt_count > 0,
        auto_advance=status in ("draft", "open"),
        billing_reason=billing_reason,
        charge=charge,
        currency=CURRENCY,
        customer=customer,
        customer_email=email,
        customer_tax_exempt="none",
        customer_tax_ids=[],
        effective_at=instant(finalized_at),
        ending_balance=None if status == "draft" else 0,
        lines=_page(lines, f"/v1/invoices/{id}/lines"),
        metadata={},
        next_payment_attempt=instant(next_payment_attempt),
        number=number,
        paid=is_paid,
        parent=parent if subscription else None,
        payment_intent=payment_intent,
        period_start=instant(period_start),
        period_end=instant(period_end),
        status=status,
        status_transitions=transitions,
        subscription=subscription,
        subscription_details=of_subscription if subscription else None,
        subtotal=amount,
        subtotal_excluding_tax=amount,
        total=amount,
        total_discount_amounts=[],
        total_excluding_tax=amount,
        total_taxes=[],
        webhooks_delivered_at=instant(finalized_at),
    )


def invoice_payment(
    version: str,
    *,
    id: str,
    created: datetime,
    amount: int,
    invoice: str,
    payment_intent: str,
) -> Json:
    """Which payment paid an invoice. Acacia, the generation before basil, has no such object."""
    return filled(
        version,
        "InvoicePayment",
        id=id,
        created=instant(created),
        amount_paid=amount,
        amount_requested=amount,
        currency=CURRENCY,
        invoice=invoice,
        is_default=True,
        payment={"type": "payment_intent", "payment_intent": payment_intent},
        status="paid",
        status_transitions={"paid_at": instant(created)},
    )


def signed(body: bytes, secret: str, at: datetime) -> str:
    """The header ``Stripe-Signature`` of a body that Stripe sends at that time."""
    time = str(instant(at)).encode()
    digest = hmac.new(secret.encode(), time + b"." + body, hashlib.sha256).hexdigest()
    return f"t={time.decode()},v1={digest}"


def _page(data: Sequence[Json], url: str) -> Json:
    whole = {"object": "list", "data": [*data], "has_more": False, "url": url}
    return {**whole, "total_count": len(data)}


def _first_that_exists(version: str, name: str, field: str, *wanted: str) -> str:
    choices = classes(version)[name][field].of.split("|")
    return next(choice for choice in wanted if choice in choices)
