"""A life of caps and sign-ups, the same every time, and mistakes it must find."""

import pytest

from tests.simulation.drawn import ALONE
from tests.simulation.life import SHOP
from tests.simulation.machine import Machine
from tests.simulation.planted_amounts import BUGS, OF_AMOUNTS
from tests.simulation.reference import Violation
from tests.simulation.world import at


def live() -> Machine:
    """New subscribers come, and ada, who is a customer of before, is on a plan with a cap."""
    life = Machine()
    with life.stack:  # also of a life that ends too early
        _live(life)
    return life


def _live(life: Machine) -> None:
    life.the_first_subscribe(ALONE)
    for plan, how, days in (("pro", "prorated", 3), ("club", "prorated", 0), ("pro", "full", 0)):
        life.story_of_a_sign_up(0, plan, how, days, 1, "starter", [])
    # Customers of before: one who is moved here, and one whose start is corrected.
    life.subscribe(0, "club", "yearly", None, -700, [])
    life.changed("ada", "an edit", ("plan", "club"), [])
    life.changed("ada", "an edit", ("started_at", ("days", -3)), [])
    # In February 100 credits come to 40 that are held, to 20 that are not, and to 10 that are dead.
    life.grant("ada", 60, None, "k1", [])
    life.hold(0, 40, "k2", 20 * 86_400, SHOP, [])
    life.grant("ada", 10, 3, "k3", [])
    for moment in ("2026-02-01T12:00:00Z", "2026-03-01T12:00:00Z"):
        with life.step(f"the clock goes to {moment}, and no tick comes"):
            life.world.now = at(moment)
        life.allocate_running_month("ada")
        for queue in ("sweeps", "allocations") * 3:
            life.deliver_all(queue, [])
    # And within months ada moves up: from the cap's plan, and up and down and up.
    for days, way in ((1, ("starter", "pro")), (9, ("pro", "starter", "pro"))):
        life.story_of_a_step_up(0, days, way, "business", [])
    life.changed("ada", "another plan", ("plan", "starter"), [])
    with life.step("a month begins, and no tick comes"):
        life.world.now = life.month_start("ada", 1)
    # The month is allocated after the step.
    life.changed("ada", "another plan", ("plan", "pro"), [])
    life.allocate_running_month("ada")
    for queue in ("sweeps", "allocations") * 3:
        life.deliver_all(queue, [])
    life.read_history(0, 100, None, None, None, [])
    life.read_schedule(0, [])
    life.teardown()


def test_a_life_of_caps_and_sign_ups_is_as_the_reference_says() -> None:
    life = live()
    lines = life.oracle.ledger("ada").lines
    capped = [(line.amount, line.left_out) for line in lines if line.type == "allocation"]
    assert capped[:2] == [(90, 10), (0, 100)]
    assert sum(line.is_step for line in lines) >= 2
    firsts = [
        (user, line.amount)
        for user, ledger in life.oracle.ledgers.items()
        for line in ledger.lines
        if line.is_welcome
    ]
    assert firsts == [("bob", 323), ("cem", 52), ("dua", 500)]


@pytest.mark.parametrize("name", OF_AMOUNTS)
def test_a_planted_bug_is_found_in_it(name: str) -> None:
    with BUGS[name](), pytest.raises(Violation):
        live()
