"""Holds: set a user's credits aside, charge what a job cost, free the rest."""

from urllib.parse import unquote

from chalicelib.domain.fields import (
    MAXIMUM_AMOUNT,
    parse_amount,
    parse_boolean,
    parse_text,
    parse_user_id,
    within,
)
from chalicelib.domain.holds import DEFAULT_SECONDS, MOST_SECONDS
from chalicelib.domain.instants import format_instant
from chalicelib.domain.metadata import parse_metadata
from chalicelib.operations import holds
from chalicelib.operations.holds import ActiveHold, End

from .answers import Answer, Json, moves, performed
from .calls import Call, ensure_user


def hold(call: Call) -> Answer:
    """Sets credits aside for a job."""
    call.principal.may_hold()
    key = call.idempotency_key()
    body = call.body()
    user_id = body.required("user_id", parse_user_id)
    amount = body.required("amount", parse_amount)
    description = body.required("description", parse_text)
    seconds = body.optional("expires_in_seconds", _parse_seconds)
    metadata = body.optional("metadata", parse_metadata)
    body.finish()
    outcome = holds.hold_credits(
        call.services,
        user_id,
        amount,
        description,
        seconds=seconds or DEFAULT_SECONDS,
        caller=call.principal.caller,
        key=key,
        metadata=metadata or (),
    )
    opened = outcome.entry.opened_hold
    assert opened is not None  # noqa: S101 - the operation opens one, or raises
    return performed(
        outcome,
        hold_id=outcome.entry.transaction_id,
        amount=opened.amount,
        expires_at=format_instant(opened.expires_at),
    )


def capture(call: Call) -> Answer:
    """Spends what a job cost, and frees the rest of its hold."""
    call.principal.may_hold()
    body = call.body()
    amount = body.required("amount", _parse_captured)
    description = body.optional("description", parse_text)
    metadata = body.optional("metadata", parse_metadata)
    beyond_hold = body.optional("beyond_hold", parse_boolean)
    body.finish()
    end = End(
        hold_id=_hold_id(call),
        amount=amount,
        caller=call.principal.caller,
        description=description,
        metadata=metadata or (),
        beyond_hold=beyond_hold is True,
    )
    outcome = holds.end_hold(call.services, end)
    return performed(
        outcome,
        captured=-outcome.entry.amount,
        released=outcome.entry.released,
        batches=moves(outcome.entry),
    )


def release(call: Call) -> Answer:
    """Frees everything that a hold sets aside."""
    call.principal.may_hold()
    body = call.body()
    dry_run = body.optional("dry_run", parse_boolean) is True
    body.finish()
    end = End(hold_id=_hold_id(call), amount=0, caller=call.principal.caller)
    outcome = holds.end_hold(call.services, end, dry_run=dry_run)
    return performed(outcome, dry_run=dry_run, released=outcome.entry.released)


def active(call: Call) -> Answer:
    """The active holds of a user, the oldest first."""
    query = call.authenticated().query()
    user_id = query.optional("user_id", parse_user_id)
    query.finish()
    services = call.services
    account = services.ledger.account(call.principal.reads_credits_of(user_id))
    ensure_user(services, account.user_id, has_entries=account.last is not None)
    now = account.time(services.now())
    return Answer({"holds": [_item(each) for each in holds.active_holds(services, account, now)]})


def _item(active: ActiveHold) -> Json:
    entry = active.entry
    return {
        "hold_id": entry.transaction_id,
        "amount": active.hold.amount,
        "description": entry.description,
        "held_at": format_instant(entry.posted_at),
        "expires_at": format_instant(active.hold.expires_at),
        "metadata": dict(entry.metadata),
    }


def _hold_id(call: Call) -> str:
    return unquote(call.path["hold_id"])


def _parse_seconds(field: str, value: object) -> int:
    return within(field, value, 1, MOST_SECONDS, "of seconds")


def _parse_captured(field: str, value: object) -> int:
    return within(field, value, 0, MAXIMUM_AMOUNT)
