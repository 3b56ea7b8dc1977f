"""The month's allocation as Celery tasks: for each user, for a hundred, and for a hundred in bulk.

All are safe to run twice (with `acks_late` a task runs again after a crash): the account is locked,
it stores the period that was allocated last, and operations are unique.
"""

import os
from datetime import UTC, datetime, timedelta

import django
from celery import Celery
from django.db import transaction
from django.db.models import F
from django.utils import timezone

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rival.settings")
django.setup()

from rival.models import Account, Batch, Entry

app = Celery("rival", broker=os.environ["RIVAL_REDIS"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=32,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
)

USERS_A_TASK = 100
PLANS = {"starter": (100, 30), "pro": (500, None)}
MONTH_START = datetime(2027, 2, 28, 23, tzinfo=UTC)
DAY_START = datetime(2027, 3, 30, 22, tzinfo=UTC)


def _due(zone: str, period: str):
    return Account.objects.filter(
        timezone=zone,
        status="active",
        billing_interval="yearly",
        eligible_from__lte=MONTH_START,
        allocated_through__lt=period,
    ).order_by("pk")


def _pages(keys):
    page = []
    for key in keys.iterator(chunk_size=2000):
        page.append(key)
        if len(page) == USERS_A_TASK:
            yield page
            page = []
    if page:
        yield page


@app.task
def sweep(zone: str, period: str, how: str) -> None:
    """Enqueues the users of a zone to whom the month's allocation is due."""
    due = _due(zone, period).values_list("pk", flat=True)
    with app.producer_pool.acquire(block=True) as producer:
        if how == "user":
            for key in due.iterator(chunk_size=2000):
                allocate_user.apply_async((key, period), producer=producer)
            return
        task = allocate_users if how == "hundred" else allocate_in_bulk
        for page in _pages(due):
            task.apply_async((page, period), producer=producer)


@app.task
def resweep(zone: str, period: str, keys: list[int] | None = None) -> None:
    """Looks again for users to whom it is due: there are none."""
    sweep(zone, period, "hundred")


def _allocate(key: int, period: str) -> None:
    with transaction.atomic():
        account = Account.objects.select_for_update().get(pk=key)
        if account.allocated_through >= period:
            return
        amount, days = PLANS[account.plan]
        now = timezone.now()
        Batch.objects.create(
            account=account,
            granted=amount,
            remaining=amount,
            granted_at=MONTH_START,
            expires_at=MONTH_START + timedelta(days=days) if days else None,
        )
        account.balance += amount
        account.allocated_through = period
        account.save(update_fields=["balance", "allocated_through"])
        Entry.objects.create(
            account=account,
            operation=f"allocation#{period}",
            type="allocation",
            amount=amount,
            balance_after=account.balance,
            description=f"Monthly credits for {period}",
            posted_at=now,
        )


@app.task
def allocate_user(key: int, period: str) -> None:
    """One user, one transaction."""
    _allocate(key, period)


@app.task
def allocate_users(keys: list[int], period: str) -> None:
    """A hundred users, a transaction each: one user's failure affects nobody else."""
    for key in keys:
        _allocate(key, period)


@app.task
def allocate_in_bulk(keys: list[int], period: str) -> None:
    """A hundred users in one transaction of a few statements."""
    with transaction.atomic():
        accounts = [
            account
            for account in Account.objects.select_for_update().filter(pk__in=keys).order_by("pk")
            if account.allocated_through < period
        ]
        now = timezone.now()
        batches, entries, of_plan = [], [], {}
        for account in accounts:
            amount, days = PLANS[account.plan]
            of_plan.setdefault(account.plan, []).append(account.pk)
            batches.append(
                Batch(
                    account=account,
                    granted=amount,
                    remaining=amount,
                    granted_at=MONTH_START,
                    expires_at=MONTH_START + timedelta(days=days) if days else None,
                )
            )
            entries.append(
                Entry(
                    account=account,
                    operation=f"allocation#{period}",
                    type="allocation",
                    amount=amount,
                    balance_after=account.balance + amount,
                    description=f"Monthly credits for {period}",
                    posted_at=now,
                )
            )
        Batch.objects.bulk_create(batches)
        Entry.objects.bulk_create(entries)
        for plan, of_it in of_plan.items():
            Account.objects.filter(pk__in=of_it).update(
                balance=F("balance") + PLANS[plan][0], allocated_through=period
            )
