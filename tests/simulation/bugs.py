"""Bugs to plant: what the simulation must find, or it proves nothing.

python -m tests.simulation.bugs [--lives 300]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from chalicelib.domain import batches, ledger, subscriptions
from chalicelib.domain.batches import CreditBatch
from chalicelib.domain.errors import Contention
from chalicelib.domain.ledger import Account
from chalicelib.jobs import records
from chalicelib.store.ledger import LedgerStore
from chalicelib.store.mails import MailRecords
from chalicelib.store.subscriptions import SubscriptionStore, _item
from tests.simulation.campaign import Result, campaign

Bug = Callable[[], AbstractContextManager[object]]


def _off_by_one() -> AbstractContextManager[object]:
    def is_usable(self: CreditBatch, now: Any) -> bool:
        return self.expires_at is None or now <= self.expires_at

    return patch.object(CreditBatch, "is_usable", is_usable)


def _newest_first() -> AbstractContextManager[object]:
    original = batches.burn_down

    def burn_down(found: Any, amount: int, now: Any) -> Any:
        return original(found[::-1], amount, now)

    return patch.object(ledger, "burn_down", burn_down)


def _first_spent_returns_first() -> AbstractContextManager[object]:
    original = batches.returned
    return patch.object(
        ledger, "returned", lambda spent, skip, amount: original(spent[::-1], skip, amount)
    )


@contextmanager
def _period_forgotten() -> Iterator[None]:
    original, allocate = subscriptions.due_periods, ledger.allocate

    def due_periods(subscription: Any, catalogue: Any, through: Any, as_of: Any) -> Any:
        due = original(subscription, catalogue, None, as_of)
        return due[-1:] if through and due and due[-1] <= through else due

    def unchecked(account: Account, period: Any, *rest: Any) -> Any:
        if account.last and account.allocated_through and account.allocated_through >= period:
            if account.last.operation == f"allocation#{period}":
                return None
            last = replace(account.last, allocated_through=None)
            account = account._replace(last=last)
        return allocate(account, period, *rest)

    with (
        patch("chalicelib.allocations.due_periods", due_periods),
        patch.object(ledger, "allocate", unchecked),
    ):
        yield


def _no_put_condition() -> AbstractContextManager[object]:
    def append(self: LedgerStore, item: Any) -> bool:
        arguments = (self._table, item["user_id"]["S"], item["entry"]["S"])
        self._connection.put_item(*arguments, attributes=item)
        return True

    return patch.object(LedgerStore, "_append", append)


def _marker_not_compared() -> AbstractContextManager[object]:
    return patch("chalicelib.store.ledger.fingerprint", lambda _: "the same for all")


def _timeouts_crash() -> AbstractContextManager[object]:
    def error_code(error: Any) -> Any:
        return error.cause_response_code

    return patch("chalicelib.store.ledger.error_code", error_code)


def _failures_swallowed() -> AbstractContextManager[object]:
    original = records.handle_records

    def handle_records(event: Any, parse: Any, handle: Any) -> Any:
        original(event, parse, handle)
        return {"batchItemFailures": []}

    return patch("chalicelib.jobs.workers.handle_records", handle_records)


def _unprocessed_forgotten() -> AbstractContextManager[object]:
    original = SubscriptionStore.get_many

    def get_many(self: SubscriptionStore, user_ids: Any) -> Any:
        with patch("chalicelib.store.subscriptions.attempts", lambda _: iter((0,))):
            try:
                return original(self, user_ids)
            except Contention:
                return {}

    return patch.object(SubscriptionStore, "get_many", get_many)


def _versions_not_compared() -> AbstractContextManager[object]:
    def put(self: SubscriptionStore, subscription: Any) -> None:
        item = _item(subscription)
        self._connection.put_item(self._table, subscription.user_id, attributes=item)

    return patch.object(SubscriptionStore, "put", put)


def _mails_not_recorded() -> AbstractContextManager[object]:
    return patch.object(MailRecords, "once", lambda _self, _identity, send: send())


def _time_runs_backwards() -> AbstractContextManager[object]:
    from chalicelib.domain.instants import to_millisecond

    return patch.object(Account, "time", lambda _self, now: to_millisecond(now))


def _resuming_pays_for_the_pause() -> AbstractContextManager[object]:
    return patch.object(subscriptions, "_receives", lambda _subscription, _catalogue: True)


BUGS: dict[str, Bug] = {
    "a batch can be spent at the very instant it expires": _off_by_one,
    "the newest credits are spent first": _newest_first,
    "what was spent first is given back first": _first_spent_returns_first,
    "the period that was allocated last is forgotten": _period_forgotten,
    "an entry is put without a condition": _no_put_condition,
    "another request under the same key is taken for the same": _marker_not_compared,
    "a timeout is not an outage but a crash": _timeouts_crash,
    "a worker acknowledges what failed": _failures_swallowed,
    "what a batch read left out is not asked for again": _unprocessed_forgotten,
    "a subscription is put whatever its version": _versions_not_compared,
    "nobody records which mails were sent": _mails_not_recorded,
    "the time of a ledger follows a clock that is behind": _time_runs_backwards,
    "who resumes is paid for the pause": _resuming_pays_for_the_pause,
}


def hunt(name: str, lives: int = 300, seed: int = 1) -> Result:
    """Plants a bug and looks for it; the result has a failure if it was found."""
    with BUGS[name]():
        return campaign(lives, seed=seed, shrink=False)


def main() -> int:
    """Reads the command line; the exit status: 1 when a bug stays hidden."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=300, help="in how many lives at most")
    lives = parser.parse_args().lives
    hidden = 0
    for name in BUGS:
        result = hunt(name, lives)
        hidden += result.failure is None
        word = "HIDDEN" if result.failure is None else "found"
        print(f"{word:6}  {result.lives:4} lives {result.steps:6} steps  {name}", flush=True)  # noqa: T201
        if result.failure is not None:
            print(f"        {type(result.failure).__name__}: {str(result.failure)[:120]}")  # noqa: T201
    return 1 if hidden else 0


if __name__ == "__main__":
    sys.exit(main())
