"""Users of plans that say nothing new see no difference."""

import json
from pathlib import Path

from tests.simulation.old_month import stored

BEFORE = Path(__file__).with_name("old_month.json")


def test_a_month_of_the_old_plans_is_stored_swept_and_answered_text_by_text_as_before() -> None:
    before = json.loads(BEFORE.read_text(encoding="utf-8"))
    assert len(before["ledger"]) > 40
    found = json.loads(json.dumps(stored()))
    # An answer may tell more than before.
    for answers in (found["schedules"], before["schedules"]):
        for answer in answers:
            assert answer.pop("balance_cap", None) is None
    assert found == before
