"""Several processes, few users, a database that really is concurrent, and a process that is killed.

The short form of `python -m tests.concurrency`: a number of operations and not a time.
"""

from dataclasses import replace

import pytest

from tests.concurrency.plan import Plan
from tests.concurrency.run import run

SHORT = Plan(
    processes=2, threads=6, seconds=60, operations=14, kills=1, hot=3, cold=6, days_a_second=10
)


def test_what_processes_were_told_is_in_the_ledgers_once_though_one_was_killed() -> None:
    outcome = run(SHORT)
    assert outcome.findings.wrong == []
    assert outcome.kills == 1
    assert outcome.findings.entries > 0
    for kind in ("use", "grant", "allocate", "expire", "edit"):
        assert outcome.findings.ended[kind]["done"], kind
    assert outcome.findings.races_lost > 0


@pytest.mark.parametrize("plant", ["entries-without-condition", "keys-forgotten"])
def test_the_audit_finds_a_bug_that_is_planted(plant: str) -> None:
    outcome = run(replace(SHORT, plant=plant, operations=10, kills=0, hot=1, cold=0))
    assert outcome.findings.wrong
