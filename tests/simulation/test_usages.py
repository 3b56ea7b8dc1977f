"""Lives in which files tell a shadow of usages, always the same, and mistakes they must find."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from chalicelib.domain import ledger
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.ledger import Account, Request
from chalicelib.operations import past_usages
from chalicelib.operations.past_usages import PastUsage
from chalicelib.services import Services
from chalicelib.store.database import Item
from chalicelib.store.ledger import LedgerStore
from infra.imports import usages
from infra.imports.csv_file import Row
from infra.imports.usages import USAGES
from tests.simulation.planted import Bug, becomes, instead
from tests.simulation.reference import Violation
from tests.simulation.spending_past import SpendingPast

LIVES = 5
"""Of the seeds from 1 on."""


def live() -> Counter[str]:
    """All lives; what has become of their runs and of the usages. Raises `Violation`."""
    seen: Counter[str] = Counter()
    for seed in range(1, LIVES + 1):
        life = SpendingPast(seed)
        life.live_on()
        seen += life.runs
        lines = [line for each in life.oracle.ledgers.values() for line in each.lines]
        spent = [line for line in lines if line.operation.startswith("usage#import/")]
        seen["told"] += len(life.rows)
        seen["at their own instant"] += sum(line.posted_at == line.effective_at for line in spent)
        seen["behind a later entry"] += sum(line.posted_at > line.effective_at for line in spent)
    return seen


def test_lives_of_files_are_as_the_reference_says() -> None:
    seen = live()
    spent = seen["at their own instant"] + seen["behind a later entry"]
    assert spent < seen["told"] < spent + seen["refused"]
    assert len(seen) == 9
    assert min(seen.values()) >= 3


# --- Mistakes -------------------------------------------------------------------------------------

Use = Callable[[datetime, Account, int, Request, datetime], LedgerEntry]


def _decided_by(use: Use) -> Bug:
    """A usage of a file is decided by another function, which is told the present first."""

    def wrong(original: Any, services: Services, usage: PastUsage) -> Any:
        module = SimpleNamespace(use=partial(use, services.now()))
        with patch.object(past_usages, "ledger", module):
            return original(services, usage)

    return instead(usages, "spend_past", wrong)


def _posted_now(
    now: datetime, account: Account, amount: int, request: Request, _at: datetime
) -> LedgerEntry:
    return ledger.use(account, amount, request, now)


def _covered_now(
    now: datetime, account: Account, amount: int, request: Request, at: datetime
) -> LedgerEntry:
    ledger.use(account, amount, request, now)
    return ledger.use(account, amount, request, at)


def _named_by_line(original: Any, row: Row, now: datetime) -> PastUsage | None:
    usage: PastUsage | None = original(row, now)
    return usage and replace(usage, key=f"line-{row.line}")


def _without_marker(original: Any, store: LedgerStore, items: Sequence[Item]) -> Any:
    return original(store, items[:1])


def _as_it_was_posted(entry: LedgerEntry, **_: datetime) -> LedgerEntry:
    return entry


BUGS: dict[str, Bug] = {
    "a usage is known by its line in the file": instead(usages, "usage_of", _named_by_line),
    "a usage is posted at the present": _decided_by(_posted_now),
    "what has expired since cannot have been spent": _decided_by(_covered_now),
    "a usage is of the instant at which it is posted": becomes(
        past_usages, "replace", _as_it_was_posted
    ),
    "a usage is posted ahead of the clock": lambda: patch.object(
        past_usages, "min", lambda at, _now: at, create=True
    ),
    "what is refused holds up the user's later rows": becomes(
        usages, "RefusedRowError", RuntimeError
    ),
    "whatever fails is refused": becomes(usages, "InsufficientCredits", Exception),
    "rows are spent in the order of the file": becomes(
        usages, "USAGES", replace(USAGES, order_of=None)
    ),
    "an entry has no marker": instead(LedgerStore, "_transact", _without_marker),
}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_in_them(name: str) -> None:
    with BUGS[name](), pytest.raises(Violation):
        live()
