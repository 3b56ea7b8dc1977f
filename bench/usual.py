"""The usual design on DynamoDB, for comparison: a balance that is updated in place.

Four items in one transaction: the credit batch, the balance, a ledger line and an idempotency
record. It is written as a good team would write it, with PynamoDB's models: one connection,
conditions on everything, one read before the write. Table ``usual``: partition ``pk``, sort ``sk``.
"""

from __future__ import annotations

from datetime import UTC, datetime

from pynamodb.attributes import NumberAttribute, UnicodeAttribute, UTCDateTimeAttribute
from pynamodb.connection import Connection
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

TABLE = "usual"


class _Item(Model):
    class Meta:
        table_name = TABLE
        region = "us-east-1"
        max_pool_connections = 32

    pk = UnicodeAttribute(hash_key=True)
    sk = UnicodeAttribute(range_key=True)


class Balance(_Item):
    """A user's balance, updated in place under a version."""

    amount = NumberAttribute(default=0)
    allocated_through = UnicodeAttribute(null=True)
    version = NumberAttribute(default=0)


class Batch(_Item):
    """Credits granted together."""

    granted = NumberAttribute()
    remaining = NumberAttribute()
    granted_at = UTCDateTimeAttribute()
    expires_at = UTCDateTimeAttribute(null=True)


class Line(_Item):
    """A line of the ledger."""

    type = UnicodeAttribute()
    amount = NumberAttribute()
    balance_after = NumberAttribute()
    description = UnicodeAttribute()
    posted_at = UTCDateTimeAttribute()


class Done(_Item):
    """The record of a finished operation."""

    posted_at = UTCDateTimeAttribute()


def connect(endpoint: str, table: str = TABLE) -> Connection:
    """One connection for all models: otherwise each model would make its own client."""
    _Item.Meta.host = endpoint  # type: ignore[attr-defined]  # PynamoDB reads it
    _Item.Meta.table_name = table
    return _Item._get_connection().connection  # noqa: SLF001 - the way its documentation shows


def allocate(connection: Connection, user_id: str, period: str, amount: int) -> bool:
    """The monthly grant, once per period; returns whether it was due."""
    try:
        balance = Balance.get(user_id, "balance", consistent_read=True)
    except Balance.DoesNotExist:
        balance = Balance(user_id, "balance")
    if (balance.allocated_through or "") >= period:
        return False
    now = datetime.now(UTC)
    version = int(balance.version)
    balance.amount += amount
    balance.allocated_through = period
    balance.version = version + 1
    with TransactWrite(connection=connection) as transaction:
        transaction.save(
            Batch(user_id, f"batch#{period}", granted=amount, remaining=amount, granted_at=now),
            condition=Batch.pk.does_not_exist(),
        )
        transaction.save(
            balance,
            condition=Balance.version == version if version else Balance.pk.does_not_exist(),
        )
        transaction.save(
            Line(
                user_id,
                f"line#{version + 1:012}",
                type="allocation",
                amount=amount,
                balance_after=balance.amount,
                description=f"Monthly credits for {period}",
                posted_at=now,
            ),
            condition=Line.pk.does_not_exist(),
        )
        transaction.save(
            Done(f"operation#{user_id}#allocation#{period}", "operation", posted_at=now),
            condition=Done.pk.does_not_exist(),
        )
    return True


def use(connection: Connection, user_id: str, amount: int, key: str) -> None:
    """Spends credits, oldest batch first, once per key."""
    balance = Balance.get(user_id, "balance", consistent_read=True)
    batches = Batch.query(user_id, Batch.sk.startswith("batch#"), consistent_read=True)
    version = int(balance.version)
    now = datetime.now(UTC)
    left = amount
    with TransactWrite(connection=connection) as transaction:
        for batch in batches:
            taken = min(left, int(batch.remaining))
            if not taken:
                continue
            left -= taken
            transaction.update(
                batch,
                actions=[Batch.remaining.set(Batch.remaining - taken)],
                condition=Batch.remaining >= taken,
            )
        if left:
            raise ValueError(f"{left} credits are missing")
        transaction.update(
            balance,
            actions=[
                Balance.amount.set(Balance.amount - amount),
                Balance.version.set(version + 1),
            ],
            condition=Balance.version == version,
        )
        transaction.save(
            Line(
                user_id,
                f"line#{version + 1:012}",
                type="usage",
                amount=-amount,
                balance_after=balance.amount - amount,
                description="Report",
                posted_at=now,
            ),
            condition=Line.pk.does_not_exist(),
        )
        transaction.save(
            Done(f"operation#{user_id}#usage#{key}", "operation", posted_at=now),
            condition=Done.pk.does_not_exist(),
        )
