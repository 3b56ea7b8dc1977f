"""The worked example of docs/django.md: a lead is paid once and unlocked, or neither.

It runs against the fake of the Python client, and against the real handlers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from credits_client import HoldEnded, Unreachable
from credits_client.testing import Books

from tests.aws.api import Api
from tests.aws.in_process import InProcess
from tests.aws.world import World, at

if TYPE_CHECKING:  # it sets Django up, which only these tests need
    from tests.leads_shop import Failure, Shop, Visit

NOW = at("2026-01-15T12:00:00.250Z")
STEPS = ["commit", "hold", "commit", "capture", "commit"]
TWO_HOURS = timedelta(hours=2)
"""Longer than a hold lives."""


@pytest.fixture
def books() -> Books:
    return Books(lambda: NOW)


@pytest.fixture
def shop(books: Books, tmp_path: Path) -> Iterator[Shop]:
    """A shop whose Credits is the fake."""
    from tests.leads_shop import opened

    transport = httpx.MockTransport(books.answer)
    with opened(
        tmp_path / "shop", transport, books.grant, lambda: books.now, books.pass_time
    ) as shop:
        yield shop


@pytest.fixture
def real_shop(world: World, api: Api, tmp_path: Path) -> Iterator[Shop]:
    """A shop whose Credits is the app."""
    from tests.leads_shop import opened

    def grant(user_id: str, amount: int) -> None:
        world.subscribe(user_id)
        world.grant(user_id, amount, f"grant-{user_id}")

    def pass_time(span: timedelta) -> None:
        world.now += span

    with opened(tmp_path / "shop", InProcess(api), grant, lambda: world.now, pass_time) as shop:
        yield shop


def failures(steps: list[str]) -> list[Failure]:
    """All that can happen at these steps."""
    from tests.leads_shop import Failure, Moment

    return [
        Failure(Moment(place, when), how)
        for place in range(len(steps))
        for when in ("before", "after")
        for how in ("killed", "lost")
    ]


def after_the_failure(visit: Visit) -> None:
    """Whatever has failed: nobody has paid twice, and who has the lead has paid."""
    paid = visit.paid
    assert paid in ([], [10])
    assert visit.state != "unlocked" or paid == [10]


def is_settled(visit: Visit) -> bool:
    """Whether it is paid once and unlocked; else it must be neither, and nothing is held."""
    outcome = visit.outcome()
    if outcome == ("unlocked", [10], 0):
        return True
    assert outcome in ((None, [], 0), ("given_up", [], 0))
    return False


def test_without_a_failure_there_are_five_steps_and_it_is_paid_and_unlocked(shop: Shop) -> None:
    visit = shop.arrival()
    assert visit.press() == STEPS
    assert visit.outcome() == ("unlocked", [10], 0)


def test_pressed_again_it_asks_credits_nothing(shop: Shop) -> None:
    visit = shop.arrival()
    visit.press()
    assert visit.press() == ["commit"]
    assert visit.outcome() == ("unlocked", [10], 0)


def test_after_any_failure_the_reconciler_finishes_what_was_begun(shop: Shop) -> None:
    for failure in failures(STEPS):
        visit = shop.arrival()
        visit.press(failure)
        after_the_failure(visit)
        begun = visit.state is not None
        shop.reconcile()
        assert is_settled(visit) == begun, failure
        assert shop.reconcile() == [], "there is nothing left to do"
        assert is_settled(visit) == begun


def test_after_any_failure_the_reconciler_may_come_when_the_hold_has_lapsed(shop: Shop) -> None:
    unlocked = 0
    for failure in failures(STEPS):
        visit = shop.arrival()
        visit.press(failure)
        after_the_failure(visit)
        shop.reconcile(after=TWO_HOURS)
        unlocked += is_settled(visit)
        assert shop.reconcile() == []
    assert 0 < unlocked < len(failures(STEPS))


def test_after_any_failure_the_user_may_press_again(shop: Shop) -> None:
    for failure in failures(STEPS):
        for later in (timedelta(0), TWO_HOURS):
            visit = shop.arrival()
            visit.press(failure)
            shop.pass_time(later)
            visit.press()
            after_the_failure(visit)
            if visit.state == "given_up":
                visit.press()
            assert visit.outcome() == ("unlocked", [10], 0), failure


def test_the_reconciler_may_fail_anywhere_too(shop: Shop) -> None:
    # Whether a process is killed or told of a failure, it leaves the same: so at each moment both.
    laters = itertools.cycle((timedelta(minutes=5), TWO_HOURS))
    for first in failures(STEPS):
        left = shop.arrival()
        left.press(first)
        steps = shop.reconcile()
        for second, later in zip(failures(steps), laters, strict=False):
            visit = shop.arrival()
            visit.press(first)
            shop.reconcile(second)
            after_the_failure(visit)
            shop.reconcile(after=later)
            is_settled(visit)
            assert shop.reconcile() == []


def test_another_worker_may_do_the_same_between_any_two_steps(shop: Shop) -> None:
    from tests.leads_shop import Moment

    for place, when in itertools.product((1, 3), ("before", "after")):
        for does_it_press in (True, False):
            visit = shop.arrival()
            other = visit.press if does_it_press else visit.finish
            visit.press_while(other, Moment(place, when))
            assert visit.outcome() == ("unlocked", [10], 0)
            assert len(visit.rows()) == 1


def test_a_worker_that_wakes_up_late_does_not_disturb_the_next_attempt(shop: Shop) -> None:
    """It slept until its hold had lapsed; the user has pressed again, and that may fail, too."""
    from tests.leads_shop import Moment

    again = ["commit", *STEPS]
    for place, when in itertools.product((1, 3), ("before", "after")):
        for failure in (None, *failures(again)[::2]):
            visit = shop.arrival()

            def meanwhile(visit: Visit = visit, failure: Failure | None = failure) -> None:
                shop.pass_time(TWO_HOURS)
                visit.finish()
                visit.press(failure)

            visit.press_while(meanwhile, Moment(place, when))
            after_the_failure(visit)
            shop.reconcile()
            assert visit.paid == [10] or failure
            assert is_settled(visit) == bool(visit.paid)
            assert shop.reconcile() == []


def test_who_has_too_little_is_given_up_whatever_fails_and_may_try_again(shop: Shop) -> None:
    steps = shop.arrival(9).press()
    assert steps == ["commit", "hold", "commit"]
    for failure in failures(steps):
        visit = shop.arrival(9)
        visit.press(failure)
        shop.reconcile()
        assert not is_settled(visit)
        shop.grant(str(visit.user.pk), 1)
        visit.press()
        assert visit.outcome() == ("unlocked", [10], 0)


def test_what_was_begun_at_a_price_is_finished_at_that_price(shop: Shop) -> None:
    for failure in failures(STEPS)[4:]:
        visit = shop.arrival()
        visit.press(failure)
        visit.lead.price = 20
        visit.lead.save()
        shop.reconcile()
        assert is_settled(visit)


def test_what_was_given_up_is_tried_again_at_the_price_of_then(shop: Shop) -> None:
    visit = shop.arrival(9)
    visit.press()
    visit.lead.price = 8
    visit.lead.save()
    visit.press()
    assert visit.outcome() == ("unlocked", [8], 0)


def test_a_hold_that_was_captured_by_hand_is_paid(shop: Shop) -> None:
    visit = interrupted(shop)
    shop.seen.capture(visit.rows()[0].hold_id, 7)
    shop.reconcile()
    assert visit.outcome() == ("unlocked", [7], 0)


def test_a_hold_that_was_released_by_hand_is_not_paid(shop: Shop) -> None:
    visit = interrupted(shop)
    shop.seen.release(visit.rows()[0].hold_id)
    shop.reconcile()
    assert visit.outcome() == ("given_up", [], 0)


def test_a_hold_that_has_just_lapsed_is_not_given_up_yet(shop: Shop) -> None:
    visit = interrupted(shop)
    shop.reconcile(after=timedelta(hours=1))
    assert visit.outcome() == ("held", [], 0)
    shop.reconcile(after=timedelta(minutes=1))
    assert visit.outcome() == ("given_up", [], 0)


def test_what_is_pending_can_be_given_up_at_any_time(shop: Shop) -> None:
    """The page says so, for those who would rather not charge after a long failure."""
    from tests.leads_shop import Moment

    for failure in failures(STEPS)[4:10]:
        visit = shop.arrival()
        visit.press(failure)
        move(visit, "given_up")
        shop.pass_time(TWO_HOURS)
        assert not is_settled(visit)
    # Also while a worker is at it.
    for when in ("before", "after"):
        visit = shop.arrival()
        visit.press_while(partial(move, visit, "given_up"), Moment(1, when))
        shop.pass_time(TWO_HOURS)
        assert not is_settled(visit)


def test_inside_a_transaction_nothing_is_asked_of_credits(shop: Shop) -> None:
    """Its commits would be none: a failure would roll the row back after it was paid."""
    from django.db import transaction

    visit = shop.arrival()
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        visit.press()
    assert "hold" not in shop.steps.taken


def test_inside_a_transaction_a_hold_that_is_not_committed_is_not_captured(shop: Shop) -> None:
    from django.db import transaction

    visit = interrupted(shop, place=1)
    with transaction.atomic(), pytest.raises(RuntimeError, match="durable"):
        shop.work(visit.finish)
    assert "capture" not in shop.steps.taken
    assert visit.outcome() == ("pending", [], 10)


# --- The page and the command ---------------------------------------------------------------------


def test_the_page_shows_the_contact_once_it_is_paid(shop: Shop) -> None:
    visit = shop.arrival()
    assert visit.ask() == (200, {"state": "unlocked", "contact": "+49 30 5550 100"})
    assert shop.arrival(9).ask() == (402, {"state": "given_up"})


def test_the_page_says_when_it_is_not_known_yet(
    shop: Shop, books: Books, caplog: pytest.LogCaptureFixture
) -> None:
    visit = shop.arrival()
    books.is_down = True
    assert visit.ask() == (202, {"state": "pending"})
    assert f"lead {visit.lead.pk}: finish_unlocks goes on with it" in caplog.text
    books.is_down = False
    lapsed = interrupted(shop)
    shop.pass_time(timedelta(hours=1))
    assert lapsed.ask() == (202, {"state": "held"})


def test_the_command_leaves_what_a_request_may_be_working_on(shop: Shop) -> None:
    visit = interrupted(shop)
    assert shop.reconcile(after=timedelta(minutes=1)) == []
    assert visit.state == "held"
    assert shop.reconcile(after=timedelta(milliseconds=1)) == ["capture", "commit"]


def test_a_row_that_cannot_be_finished_does_not_stop_the_others_and_is_told(shop: Shop) -> None:
    from django.core.management import CommandError

    stranger, visit = interrupted(shop), interrupted(shop)
    move(stranger, "held", hold_id="nobody-1")
    with pytest.raises(CommandError, match="1 unlocks are as they were"):
        shop.reconcile()
    assert (stranger.state, visit.state) == ("held", "unlocked")


def test_nothing_is_lost_while_credits_is_down(shop: Shop, books: Books) -> None:
    from django.core.management import CommandError

    visit = shop.arrival()
    books.is_down = True
    with pytest.raises(Unreachable):
        visit.press()
    with pytest.raises(CommandError):
        shop.reconcile()
    books.is_down = False
    assert visit.outcome() == ("pending", [], 0)
    shop.reconcile()
    assert visit.outcome() == ("unlocked", [10], 0)


def move(visit: Visit, state: str, **changes: Any) -> None:
    """Somebody changes the row."""
    (row,) = visit.rows()
    row.move(state, **changes)


def interrupted(shop: Shop, place: int = 3) -> Visit:
    """A visit whose process was killed before a step; by default, before the capture."""
    from tests.leads_shop import Failure, Moment

    visit = shop.arrival()
    visit.press(Failure(Moment(place, "before"), "killed"))
    assert visit.state in ("pending", "held")
    return visit


# --- The real handlers ----------------------------------------------------------------------------


@pytest.mark.parametrize("place", range(len(STEPS)))
def test_after_any_failure_the_app_has_charged_once_or_not_at_all(
    real_shop: Shop, place: int
) -> None:
    for failure in failures(STEPS)[4 * place : 4 * place + 4]:
        visit = real_shop.arrival()
        visit.press(failure)
        after_the_failure(visit)
        begun = visit.state is not None
        real_shop.reconcile()
        real_shop.reconcile()
        assert is_settled(visit) == begun, failure


def test_after_the_hold_has_lapsed_the_app_answers_a_capture_that_was_made(
    real_shop: Shop,
) -> None:
    outcomes = []
    for failure in failures(STEPS):
        if failure.how == "killed":
            visit = real_shop.arrival()
            visit.press(failure)
            real_shop.reconcile(after=TWO_HOURS)
            outcomes.append(is_settled(visit))
    # Killed before and after each step: what had no hold yet gets one now.
    no_row, no_hold, lapsed, captured = 1, 2, 4, 3
    assert outcomes == [False] * no_row + [True] * no_hold + [False] * lapsed + [True] * captured


def test_a_capture_that_began_in_time_may_be_done_after_others_were_told_of_the_lapse(
    real_shop: Shop, world: World
) -> None:
    visit = interrupted(real_shop)
    real_shop.pass_time(timedelta(minutes=59, seconds=59))
    perform = world.services.ledger.perform

    def perform_late(*words: Any, **more: Any) -> Any:
        patch.undo()
        real_shop.pass_time(timedelta(seconds=25))
        with pytest.raises(HoldEnded) as told:
            real_shop.seen.capture(visit.rows()[0].hold_id, 10, f"Lead {visit.lead.pk}")
        assert told.value.ended == "lapsed"
        visit.finish()
        assert visit.outcome() == ("held", [], 0)
        return perform(*words, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.services.ledger, "perform", perform_late)
        visit.finish()
    assert visit.outcome() == ("unlocked", [10], 0)
