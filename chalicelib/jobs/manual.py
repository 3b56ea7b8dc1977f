"""The manual-allocate Lambda: an admin grants or claws back credits, with a reason."""

from typing import Any

from chalicelib.domain.errors import CreditsError
from chalicelib.domain.fields import FieldReader, parse_actor, parse_key
from chalicelib.jobs.answers import refusal
from chalicelib.observability import logger
from chalicelib.operations.adjustments import adjust, read_adjustment
from chalicelib.services import Services

from .records import waiting

CALLER = "lambda/manual-allocate"
"""The caller that owns the idempotency keys: all who may invoke the function share them. No token
has this caller, because the slash of a subject is written as %2F."""


def manual_allocate(services: Services, event: object, context: Any) -> dict[str, Any]:
    """Returns ``{"success": true, "new_balance", "transaction_id"}``, or the refusal.

    ``event``: ``user_id``, ``amount`` (negative claws back), ``description``, ``actor``,
    ``idempotency_key`` and the optional fields of `read_adjustment`, such as ``expires_in_days``
    (absent: the lifetime of the user's plan; null: never), ``notify`` (false: no email) and
    ``up_to_available`` (true: claw back what is left, and return its ``amount``).
    """
    user_id: str | None = None
    try:
        fields = FieldReader(event, "event")
        adjustment = read_adjustment(fields)
        user_id = adjustment.user_id
        actor = fields.required("actor", parse_actor)
        key = fields.required("idempotency_key", parse_key)
        fields.finish()
        with waiting(context):
            entry = adjust(services, adjustment, actor=actor, caller=CALLER, key=key).entry
    except CreditsError as error:
        # Without the message: it can quote the key, the reason or the actor.
        logger().warning("manual allocation refused", code=error.code, user_id=user_id)
        return refusal(error)
    return {
        "success": True,
        "new_balance": entry.available_balance(),
        "transaction_id": entry.transaction_id,
        **({"amount": entry.amount} if adjustment.up_to_available else {}),
    }
