"""What each operation costs, in requests and in units the database itself reports."""

from bench.units import Bench, Figure
from infra.local.stacks import LocalStack


def test_every_operation_keeps_to_its_budget(stack: LocalStack) -> None:
    assert list(Bench(stack, users=10).figures()) == [
        # A transaction of two items, and a unit for each of the three indexes.
        Figure("register a subscription", requests=2, write_units=7, read_units=1),
        Figure("allocate one user, no expiry", requests=1.2, write_units=1, read_units=1.5),
        Figure("allocate one user, expiring plan", requests=1.2, write_units=2, read_units=1.5),
        Figure("re-sweep of an allocated user", requests=1.1, write_units=0, read_units=1.5),
        Figure("use credits over 1 batches", requests=2, write_units=4, read_units=1),
        Figure("use credits over 3 batches", requests=2, write_units=4, read_units=1),
        Figure("use credits over 10 batches", requests=2, write_units=4, read_units=1),
        Figure("hold credits", requests=2, write_units=4, read_units=1),
        Figure("capture a hold", requests=2, write_units=4, read_units=1),
        Figure("release a hold", requests=2, write_units=4, read_units=1),
        # One more in the index: a sweep books out what the hold, or its early end, leaves behind.
        Figure("hold credits, outliving its batch", requests=3, write_units=5, read_units=2),
        Figure("capture a hold, outliving its batch", requests=3, write_units=5, read_units=2),
        Figure("release a hold, outliving its batch", requests=3, write_units=5, read_units=2),
        Figure("buy credits", requests=3, write_units=4, read_units=2),
        Figure("refund a purchase", requests=4, write_units=4, read_units=3),
        # What the refund took has closed the batch: its purchase and the refund are read, too.
        Figure("give back what was refunded", requests=6, write_units=4, read_units=5),
        Figure("expire a user's due batches", requests=1.1, write_units=1, read_units=1),
        # A transaction of two items, of which each costs two units for each KB; the index stays.
        Figure("edit a subscription", requests=2, write_units=4, read_units=1),
    ]
