"""The button of a lead's page."""

import logging
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from credits_client import CreditsError
from leads.models import Lead, Unlock
from leads.unlocking import unlock

log = logging.getLogger(__name__)

STATUS = {Unlock.State.UNLOCKED: 200, Unlock.State.GIVEN_UP: 402}


@transaction.non_atomic_requests  # each step is committed by itself, even with ATOMIC_REQUESTS
@login_required
@require_POST
def unlock_lead(request: Any, lead_id: int) -> JsonResponse:
    """The contact; or 402, not paid; or 202, not known yet: the page asks again."""
    lead = get_object_or_404(Lead, pk=lead_id)
    try:
        row = unlock(request.user, lead)
    except CreditsError:
        log.exception("lead %s: finish_unlocks goes on with it", lead_id)
        return JsonResponse({"state": Unlock.State.PENDING}, status=202)
    if row.state != Unlock.State.UNLOCKED:
        return JsonResponse({"state": row.state}, status=STATUS.get(row.state, 202))
    return JsonResponse({"state": row.state, "contact": lead.contact})
