"""A shadow of itself: a life with many faults, beside an old system that moved just as it did."""

from datetime import timedelta

from infra.commands.shadow import shadow_of
from infra.shadow.comparison import compare
from infra.whatif.past import Past
from tests.simulation.test_what_if import DAYS, USERS, Remembered
from tests.simulation.years import live
from tests.unit.test_shadow_comparison import TOLERANCE, moved, said


def test_every_ledger_of_a_life_is_the_same_as_an_old_system_that_moved_just_so() -> None:
    life = Remembered(USERS, seed=7)
    live(life, DAYS)
    compared = 0
    for user_id, past in life.pasts.items():
        assert isinstance(past, Past)
        if any(entry.holds for entry in past.entries):
            continue  # of holds an old table knows nothing
        until = past.entries[-1].posted_at + timedelta(days=1)
        shadow = shadow_of(past, until, life.world.services.catalogue)
        movements = moved(past.entries, until)
        found = compare(shadow, movements, None, until, TOLERANCE)
        assert said(found) == [], user_id
        compared += len(movements)
    assert compared > 50
