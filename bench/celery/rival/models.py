"""Accounts with a balance, their credit batches and their ledger."""

from django.db import models


class Account(models.Model):
    """A user's plan and balance. Every change locks the account."""

    user_id = models.CharField(max_length=128, unique=True)
    timezone = models.CharField(max_length=64)
    plan = models.CharField(max_length=32)
    billing_interval = models.CharField(max_length=16)
    status = models.CharField(max_length=16)
    eligible_from = models.DateTimeField()
    balance = models.BigIntegerField(default=0)
    allocated_through = models.CharField(max_length=7, default="")

    class Meta:
        indexes = (models.Index(fields=["timezone", "status", "billing_interval"]),)


class Batch(models.Model):
    """Credits granted together."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="batches")
    granted = models.BigIntegerField()
    remaining = models.BigIntegerField()
    granted_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)

    class Meta:
        indexes = (
            models.Index(
                fields=["expires_at"], name="open_batches", condition=models.Q(remaining__gt=0)
            ),
        )


class Entry(models.Model):
    """A line of the ledger. Its operation is unique in the account, so nothing is done twice."""

    account = models.ForeignKey(Account, models.PROTECT, related_name="entries")
    operation = models.CharField(max_length=64)
    type = models.CharField(max_length=16)
    amount = models.BigIntegerField()
    balance_after = models.BigIntegerField()
    description = models.CharField(max_length=500)
    posted_at = models.DateTimeField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["account", "operation"], name="operation_once"),
        )
