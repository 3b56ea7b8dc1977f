"""The routes for admins: manual adjustments, and running the monthly allocation."""

from typing import Any
from urllib.parse import unquote

from chalicelib.domain import calendar
from chalicelib.domain.calendar import Period
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.fields import parse_boolean, parse_text, parse_user_id, place_of
from chalicelib.domain.instants import format_instant
from chalicelib.operations import allocations
from chalicelib.operations.adjustments import adjust, read_adjustment
from chalicelib.operations.allocations import Position, Zones
from chalicelib.operations.on_request import Void, void_batch

from . import cursors
from .answers import Answer, performed
from .calls import LARGEST_PAGE, Call, parse_limit


def allocate(call: Call) -> Answer:
    """Grants (positive) or claws back (negative) credits, in the caller's name."""
    call.principal.may_allocate()
    key = call.idempotency_key()
    body = call.body()
    adjustment = read_adjustment(body)
    dry_run = body.optional("dry_run", parse_boolean) is True
    body.finish()
    caller = call.principal.caller
    outcome = adjust(
        call.services, adjustment, actor=caller, caller=caller, key=key, dry_run=dry_run
    )
    # A caller who takes back what is left does not know the amount beforehand.
    taken = {"amount": outcome.entry.amount} if adjustment.up_to_available else {}
    return performed(outcome, dry_run=dry_run, **taken)


def void(call: Call) -> Answer:
    """Takes back all that is left of one credit batch, in the caller's name."""
    call.principal.may_allocate()
    key = call.idempotency_key()
    body = call.body()
    reason = body.required("description", parse_text)
    notify = body.optional("notify", parse_boolean) is not False
    including_held = body.optional("including_held", parse_boolean) is True
    dry_run = body.optional("dry_run", parse_boolean) is True
    body.finish()
    user_id, number = place_of(unquote(call.path["batch_id"]), "credit batch")
    caller = call.principal.caller
    wanted = Void(
        user_id,
        number,
        reason,
        actor=caller,
        caller=caller,
        key=key,
        notify=notify,
        including_held=including_held,
    )
    outcome = void_batch(call.services, wanted, dry_run=dry_run)
    return performed(outcome, dry_run=dry_run, taken=-outcome.entry.amount)


def allocation_runs(call: Call) -> Answer:
    """Starts the allocation of a period in the chosen zones, or previews it.

    With a user id, it posts or previews what is due to this user.
    """
    call.principal.may_allocate()
    body = call.body()
    period = body.required("period", lambda field, value: Period.parse(value, field))
    names = body.optional("zones", calendar.parse_timezones)
    user_id = body.optional("user_id", parse_user_id)
    dry_run = body.optional("dry_run", parse_boolean)
    limit = body.optional("limit", parse_limit)
    cursor = body.optional("cursor", cursors.parse_cursor)
    if not dry_run:
        for field, value in (("limit", limit), ("cursor", cursor)):
            if value is not None:
                body.reject(field, "goes with dry_run: true only")
    if user_id is not None:
        for field, other in (("zones", names), ("limit", limit), ("cursor", cursor)):
            if other is not None:
                body.reject(field, "goes with a run of many users, not with user_id")
    body.finish()
    if user_id is not None:
        return _of_user(call, period, user_id, dry_run=dry_run is True)
    zones = allocations.zones_of_run(call.services, period, names)
    if not zones.begun:
        where = "in the chosen zones" if names else "anywhere"
        raise InvalidInput.of("period", f"must have begun; {period} has not begun {where} yet")
    if dry_run:
        return _preview(call, period, zones, limit or LARGEST_PAGE, cursor)
    return Answer(
        {
            "period": str(period),
            "dry_run": False,
            "sweeps": allocations.start_run(call.services, period, zones.begun),
            "zones_not_begun": zones.not_begun,
        },
        status=202,
    )


def _of_user(call: Call, period: Period, user_id: str, *, dry_run: bool) -> Answer:
    subscription = call.services.subscriptions.get(user_id)
    timezone = subscription.timezone
    if not allocations.zones_of_run(call.services, period, [timezone]).begun:
        message = f"must have begun; {period} has not begun yet in {timezone}, where the user lives"
        raise InvalidInput.of("period", message)
    page = allocations.run_of_user(call.services, period, subscription, dry_run=dry_run)
    return Answer(
        {
            "period": str(period),
            "dry_run": dry_run,
            "items": [due_item(due) for due in page.due],
            "not_judged": [user._asdict() for user in page.not_judged],
            "next_cursor": None,
            "zones_not_begun": [],
        },
        # The ledger itself records what was posted.
        tells_of=frozenset() if page.due and not dry_run else frozenset({user_id}),
    )


def _preview(call: Call, period: Period, zones: Zones, limit: int, cursor: str | None) -> Answer:
    # Names all chosen zones, not only those that have begun: another may begin between two pages.
    listing = f"preview {period} {sorted({*zones.begun, *zones.not_begun})}"
    position = _position(cursors.decode(listing, cursor, _POSITION))
    page = allocations.preview_run(call.services, period, zones.begun, position, limit)
    return Answer(
        {
            "period": str(period),
            "dry_run": True,
            "items": [due_item(due) for due in page.due],
            "not_judged": [user._asdict() for user in page.not_judged],
            "next_cursor": page.position and cursors.encode(listing, _text(page.position)),
            "zones_not_begun": zones.not_begun,
        },
        tells_of=frozenset(
            [due.entry.user_id for due in page.due] + [user.user_id for user in page.not_judged]
        ),
    )


def due_item(due: allocations.Due) -> dict[str, Any]:
    """An allocation that was or would be posted, as the API shows it."""
    entry = due.entry
    expires_at = entry.granted_batch and entry.granted_batch.expires_at
    return {
        "user_id": entry.user_id,
        "timezone": due.timezone,
        "allocation_period": str(entry.allocated_through),
        "amount": entry.amount,
        "expires_at": expires_at and format_instant(expires_at),
        "left_out_amount": entry.left_out or None,
    }


_POSITION = r"[\w/+-]{1,64} [!-~]{0,128}"
"""A timezone, and the user id in it to go on after."""


def _text(position: Position) -> str:
    return f"{position.timezone} {position.after_user_id or ''}"


def _position(text: str | None) -> Position | None:
    if text is None:
        return None
    timezone, _, user_id = text.partition(" ")
    return Position(timezone, user_id or None)
