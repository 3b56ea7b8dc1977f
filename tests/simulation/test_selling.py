"""A life of payments, the same every time: each fate of one, and mistakes it must find."""

import pytest

from tests.simulation.drawn import ALONE, Change, Drawn
from tests.simulation.life import ADMIN, HOOK, TILL
from tests.simulation.machine import Machine
from tests.simulation.planted_payments import BUGS, OF_PAYMENTS
from tests.simulation.reference import Violation

ALL_OF_IT, NONE_OF_IT = 5, 9
"""Amounts that choose how much is refunded: see `Selling.refund_meanwhile`."""


def overtaken(what: str, amount: int = 1) -> Drawn:
    """While the entry is being written another process acts."""
    change: Change = ("plan", "starter")
    return [(0, 2, 0, 1, (what, amount, "other", change))]


def live() -> Machine:
    """Ada buys, by two routes, and is refunded in every way."""
    life = Machine()
    with life.stack:  # also of a life that ends too early
        _live(life)
    return life


def _live(life: Machine) -> None:
    life.the_first_subscribe(ALONE)
    life.grant("ada", 40, None, "g1", [])
    life.buy(0, 1, 60, None, (990, "EUR"), TILL, overtaken("again"))
    life.buy(0, 1, 60, None, None, HOOK, [])
    life.buy_again(0, 0, 3, ADMIN, [])
    life.buy_again(0, 1, None, HOOK, [])
    life.use("ada", 50, "u1", [])
    life.refund(0, "some", None, TILL, overtaken("refund", ALL_OF_IT))
    life.refund_again(0, HOOK, [])
    life.refund(0, "none", None, TILL, overtaken("use"))
    life.refund(0, "too much", None, TILL, [])
    life.refund(0, "all", 1, TILL, [])
    life.refund(0, "all", 0, TILL, [])
    life.refund(0, "less", 1, TILL, [])
    life.read_balance(0, [])
    life.read_history(0, 3, "refund", None, None, [])
    life.read_history(0, 100, None, None, None, [])
    for days, used, held, ways, offset in (
        (None, 59, 0, ("all", "some", "none"), None),
        (None, 0, 30, ("all", "none", "all"), None),
        (1, 1, 0, ("all", "less", "none"), 0),
        (3, 0, 0, ("some", "more", "none"), -1),
    ):
        life.story_of_a_dispute(0, days, used, held, ways, offset, [], overtaken("again"))
    life.story_of_reports_of_refunds_in_any_order(0, "all", "none", (2, 0, 1), [])
    life.story_of_reports_of_refunds_in_any_order(0, "none", "none", (3, 1, 2), [])
    life.story_of_the_mails(3, [], [])
    life.story_of_an_expiry(0, 0, is_swept=True, before=[], drawn=[])
    life.teardown()


def test_a_life_of_payments_is_as_the_reference_says() -> None:
    life = live()
    lines = life.oracle.ledger("ada").lines
    assert sum(line.type == "purchase" for line in lines) >= 7
    refunds = [line for line in lines if line.type == "refund"]
    assert {(line.amount > 0) - (line.amount < 0) for line in refunds} == {-1, 0, 1}
    assert any(line.expired for line in refunds)
    assert any("is overtaken" in words for words in life.story)


@pytest.mark.parametrize("name", OF_PAYMENTS)
def test_a_planted_bug_is_found_in_it(name: str) -> None:
    with BUGS[name](), pytest.raises(Violation):
        live()
