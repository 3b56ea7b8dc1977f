"""The bench's commands: make the tables and users, start a run, check whether it is done.

python -m rival.control tables | seed <users> <plan> | run <how> | done
"""

import sys
from datetime import UTC, datetime

import django
from django.db import connection

django.setup()

from rival.models import Account, Batch, Entry
from rival.tasks import PLANS, sweep

ZONE = "Europe/Paris"
PERIOD = "2027-03"


def main(what: str, *words: str) -> None:
    """One command."""
    if what == "tables":
        with connection.schema_editor() as editor:
            for model in (Account, Batch, Entry):
                editor.create_model(model)
    elif what == "seed":
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE rival_entry, rival_batch, rival_account RESTART IDENTITY")
        Account.objects.bulk_create(
            Account(
                user_id=f"user-{number:07}",
                timezone=ZONE,
                plan=words[1],
                billing_interval="yearly",
                status="active",
                eligible_from=datetime(2026, 1, 1, tzinfo=UTC),
            )
            for number in range(int(words[0]))
        )
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
            cursor.execute("CHECKPOINT")
    elif what == "run":
        sweep.delay(ZONE, PERIOD, words[0])
    elif what == "done":
        done = Entry.objects.count()
        right = sum(
            PLANS[plan][0] == balance
            for plan, balance in Account.objects.values_list("plan", "balance")
        )
        print(done, right)


if __name__ == "__main__":
    main(*sys.argv[1:])
