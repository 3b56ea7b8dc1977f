"""Purchases and refunds, as reported by the system that takes the payments."""

from chalicelib.domain.batches import BOUGHT_PRIORITY
from chalicelib.domain.fields import (
    MAXIMUM_AMOUNT,
    FieldReader,
    parse_amount,
    parse_boolean,
    parse_days,
    parse_key,
    parse_priority,
    parse_text,
    parse_user_id,
    within,
)
from chalicelib.domain.instants import parse_past
from chalicelib.domain.metadata import parse_metadata
from chalicelib.domain.prices import parse_price
from chalicelib.operations import purchases
from chalicelib.operations.purchases import CREDITS_BOUGHT, Purchase, Refund

from .answers import Answer, performed
from .calls import Call


def purchase(call: Call) -> Answer:
    """Grants what a payment has bought; the payment is the key."""
    call.principal.may_sell()
    body = call.body()
    wanted = _read_purchase(body)
    body.finish()
    outcome = purchases.buy(call.services, wanted, actor=call.principal.caller)
    return performed(outcome, batch_id=outcome.entry.transaction_id)


def _read_purchase(fields: FieldReader) -> Purchase:
    priority = fields.optional("priority", parse_priority)
    return Purchase(
        user_id=fields.required("user_id", parse_user_id),
        amount=fields.required("amount", parse_amount),
        payment_id=fields.required("payment_id", parse_key),
        description=fields.optional("description", parse_text) or CREDITS_BOUGHT,
        price=fields.optional("price", parse_price),
        expires_in_days=fields.optional("expires_in_days", parse_days),
        priority=BOUGHT_PRIORITY if priority is None else priority,
        metadata=fields.optional("metadata", parse_metadata) or (),
    )


def refund(call: Call) -> Answer:
    """Takes back what was refunded of a payment, or gives back what was refunded too much."""
    call.principal.may_sell()
    body = call.body()
    report = Refund(
        payment_id=body.required("payment_id", parse_key),
        amount=body.required("amount", _parse_refunded),
        description=body.required("description", parse_text, formerly="reason"),
        observed_at=body.optional("observed_at", parse_past(call.services.now())),
    )
    dry_run = body.optional("dry_run", parse_boolean) is True
    body.finish()
    outcome = purchases.refund(call.services, report, actor=call.principal.caller, dry_run=dry_run)
    entry = outcome.entry
    assert entry.refund is not None  # noqa: S101 - the operation makes one, or raises
    return performed(
        outcome,
        dry_run=dry_run,
        taken=max(-entry.amount, 0),
        given_back=max(entry.amount, 0),
        expired_amount=outcome.expired,
        unrecovered=entry.refund.unrecovered,
    )


def _parse_refunded(field: str, value: object) -> int:
    return within(field, value, 0, MAXIMUM_AMOUNT)
