"""Leads, and the users who have unlocked them."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone


class Lead(models.Model):
    """A sales lead. A user who has unlocked it sees its contact."""

    title = models.CharField(max_length=200)
    contact = models.TextField()
    price = models.PositiveIntegerField()

    def __str__(self) -> str:
        return str(self.title)


class Unlock(models.Model):
    """A user unlocks a lead: one row, with everything that a call to Credits needs."""

    class State(models.TextChoices):
        """The progress. A row that is pending or held is not finished."""

        PENDING = "pending"  # requested; perhaps Credits has a hold for it
        HELD = "held"  # there is a hold; perhaps it is captured
        UNLOCKED = "unlocked"  # paid
        GIVEN_UP = "given_up"  # not paid; the user may ask again

    # It makes keys, so it must never come again: after a restore, numbers would.
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT)
    lead = models.ForeignKey(Lead, models.PROTECT)
    price = models.PositiveIntegerField()  # the lead's price may change, a repeated call must not
    attempt = models.PositiveIntegerField(default=1)
    hold_id = models.CharField(max_length=150, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    changed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """A user unlocks a lead once."""

        constraints = (models.UniqueConstraint(fields=["user", "lead"], name="unlocked_once"),)

    def __str__(self) -> str:
        return f"{self.pk} ({self.state})"

    @property
    def key(self) -> str:
        """The idempotency key of the hold."""
        return f"unlock-{self.pk}-{self.attempt}"

    def move(self, state: str, **changes: Any) -> None:
        """Commits a step, unless another worker has; then the row is as that worker left it."""
        with transaction.atomic(durable=True):
            as_read = Unlock.objects.filter(pk=self.pk, state=self.state, attempt=self.attempt)
            as_read.update(state=state, changed_at=timezone.now(), **changes)
        self.refresh_from_db()
