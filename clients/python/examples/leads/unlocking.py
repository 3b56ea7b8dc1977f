"""Unlocking: hold the price, keep the hold's id, capture it, unlock."""

from datetime import timedelta
from functools import cache
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from credits_client import ClientCredentials, Credits, HoldEnded, InsufficientCredits
from leads.models import Lead, Unlock

State = Unlock.State

ON_ITS_WAY = timedelta(minutes=1)
"""How long a capture that began before a hold lapsed may still take. API Gateway gives a request
half of it."""


@cache
def client() -> Credits:
    """The client of this process. A user waits for their page, so it gives up soon."""
    login = ClientCredentials(**settings.CREDITS_LOGIN)
    return Credits(settings.CREDITS_URL, login, patience=10)


def unlock(user: Any, lead: Lead) -> Unlock:
    """The button's action. Pressed again, it goes on; what was given up, it tries anew."""
    row: Unlock
    with transaction.atomic(durable=True):
        row, _ = Unlock.objects.get_or_create(user=user, lead=lead, defaults={"price": lead.price})
    if row.state == State.GIVEN_UP:
        row.move(State.PENDING, attempt=row.attempt + 1, price=lead.price, hold_id="")
    finish(row)
    return row


def finish(row: Unlock) -> None:
    """Takes a row from any state to its end; safe to repeat, and in several workers at once.

    Raises `CreditsError` if Credits gave no answer, or refused for another reason; the row stays.
    """
    if row.state == State.PENDING:
        try:
            hold = client().hold(row.user_id, row.price, f"Lead {row.lead_id}", key=row.key)
        except InsufficientCredits:
            row.move(State.GIVEN_UP)
        else:
            row.move(State.HELD, hold_id=hold.hold_id)
    if row.state == State.HELD:
        try:
            client().capture(row.hold_id, row.price, f"Lead {row.lead_id}")
        except HoldEnded as end:
            if end.ended == "captured":  # by hand: our own capture would have got its first answer
                row.move(State.UNLOCKED)
            elif end.ended == "released" or not _may_still_be_captured(end):
                row.move(State.GIVEN_UP)
        else:
            row.move(State.UNLOCKED)


def _may_still_be_captured(lapsed: HoldEnded) -> bool:
    return lapsed.ended_at is None or timezone.now() < lapsed.ended_at + ON_ITS_WAY
