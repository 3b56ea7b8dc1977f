"""Many threads, few users, a database that really is concurrent: nothing is lost or doubled."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from chalicelib import operations
from chalicelib.domain.errors import InsufficientCredits
from chalicelib.domain.ledger import EntryType
from chalicelib.domain.subscriptions import register
from chalicelib.jobs import workers
from chalicelib.messages import UsersMessage
from infra.local import LocalStack
from infra.stacks import services_of_local

THREADS = 32
OPERATIONS_A_THREAD = 8
USERS = [f"hot-{number}" for number in range(5)]


def test_what_32_threads_were_told_is_in_the_ledgers_once_and_nothing_else(
    stack: LocalStack,
) -> None:
    services = services_of_local(stack)
    now = services.now()
    for user_id in USERS:
        services.subscriptions.put(
            register(
                {
                    "user_id": user_id,
                    "email": "hot@example.com",
                    "timezone": "UTC",
                    "plan": "pro",
                    "billing_interval": "yearly",
                    "status": "active",
                    "started_at": "2025-01-01T00:00:00Z",
                    "eligible_from": "2025-01-01T00:00:00Z",
                },
                services.catalogue,
                now - timedelta(days=400),
            )
        )
    acknowledged: Counter[tuple[str, str]] = Counter()

    def work(thread: int) -> list[tuple[str, str]]:
        """Random operations; each key is used by two threads, which race with the same request."""
        dice = random.Random(thread // 2)
        done = []
        for step in range(OPERATIONS_A_THREAD):
            user_id = dice.choice(USERS)
            key = f"{thread // 2}-{step}"
            match dice.randrange(3):
                case 0:
                    event = UsersMessage(now, tuple(USERS)).body()
                    answer = workers.allocate_accounts(
                        services, {"Records": [{"messageId": key, "body": event}]}
                    )
                    assert answer == {"batchItemFailures": []}
                case 1:
                    try:
                        outcome = operations.use_credits(
                            services, user_id, 3, "work", caller="test", key=key
                        )
                    except InsufficientCredits:
                        continue
                    done.append((user_id, outcome.entry.operation))
                case _:
                    outcome = operations.allocate_by_hand(
                        services, user_id, 5, "gift", actor="test", caller="test", key=key
                    )
                    done.append((user_id, outcome.entry.operation))
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        for done in pool.map(work, range(THREADS)):
            acknowledged.update(done)

    assert acknowledged
    written: Counter[tuple[str, str]] = Counter()
    for user_id in USERS:
        services.ledger.verify(user_id)
        entries = services.ledger.history(user_id, limit=1000)
        allocations = [entry for entry in entries if entry.type is EntryType.ALLOCATION]
        assert len({entry.operation for entry in allocations}) == len(allocations) == 12
        written.update(
            (user_id, entry.operation)
            for entry in entries
            if entry.type is not EntryType.ALLOCATION
        )
    assert set(written) == set(acknowledged)
    assert set(written.values()) == {1}
