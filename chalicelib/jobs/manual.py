"""The manual-allocate Lambda: an admin grants or claws back credits, with a reason."""

from typing import Any

from chalicelib.domain.errors import CreditsError
from chalicelib.domain.fields import (
    FieldReader,
    parse_actor,
    parse_boolean,
    parse_days,
    parse_key,
    parse_signed_amount,
    parse_text,
    parse_user_id,
)
from chalicelib.jobs.answers import refusal
from chalicelib.observability import logger
from chalicelib.operations.on_request import allocate_by_hand
from chalicelib.services import Services

from .records import waiting

CALLER = "lambda/manual-allocate"
"""The caller that owns the idempotency keys: everybody who may invoke the function shares them. No
token can be this caller, because the slash of a subject is written as %2F."""


def manual_allocate(services: Services, event: object, context: Any) -> dict[str, Any]:
    """Answers ``{"success": true, "new_balance", "transaction_id"}``, or the refusal.

    ``event``: ``user_id``, ``amount`` (negative claws back), ``reason``, ``actor``,
    ``idempotency_key`` and, optionally, ``expires_in_days``, ``notify`` (false: no mail) and
    ``up_to_available`` (true: claw back what is left, and answer the ``amount`` it was).
    """
    user_id: str | None = None
    try:
        fields = FieldReader(event, "event")
        user_id = fields.required("user_id", parse_user_id)
        amount = fields.required("amount", parse_signed_amount)
        reason = fields.required("reason", parse_text)
        actor = fields.required("actor", parse_actor)
        key = fields.required("idempotency_key", parse_key)
        expires_in_days = fields.optional("expires_in_days", parse_days)
        notify = fields.optional("notify", parse_boolean)
        up_to_available = fields.optional("up_to_available", parse_boolean)
        fields.finish()
        with waiting(context):
            entry = allocate_by_hand(
                services,
                user_id,
                amount,
                reason,
                actor=actor,
                caller=CALLER,
                key=key,
                expires_in_days=expires_in_days,
                notify=notify is not False,
                up_to_available=up_to_available is True,
            ).entry
    except CreditsError as error:
        # Without the message: it can quote the key, the reason or the actor.
        logger().warning("manual allocation refused", code=error.code, user_id=user_id)
        return refusal(error)
    return {
        "success": True,
        "new_balance": entry.available_balance(),
        "transaction_id": entry.transaction_id,
        **({"amount": entry.amount} if up_to_available else {}),
    }
