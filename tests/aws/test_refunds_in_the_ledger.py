"""Refunds at the table: lost races, cancelled transactions, repeated reports and damage."""

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from chalicelib import metrics
from chalicelib.domain import ledger as domain
from chalicelib.domain.entries import LedgerEntry
from chalicelib.domain.errors import Contention, LedgerCorrupt
from chalicelib.domain.ledger import Account, Request
from chalicelib.metrics import Metric
from chalicelib.observability import correlated
from chalicelib.retries import MOST_ATTEMPTS
from chalicelib.store.errors import OutOfTime
from chalicelib.store.ledger import LedgerStore, Outcome, draft
from chalicelib.store.throttling import patient
from chalicelib.store.wire.errors import ServiceError
from tests.aws.test_store import cancelling, failing, granted, why
from tests.aws.world import World

WHY = Request("refund#pi_1", "till", "Asked for it")


@pytest.fixture
def sold(world: World) -> World:
    """User 1 has bought 100 credits with the first entry; they live for a day."""

    def decide(account: Account) -> LedgerEntry:
        request = Request("purchase#pi_1", "till", "Pack of 100")
        return domain.purchase(account, 100, None, request, world.now, "Europe/Paris", 1)

    world.services.ledger.perform("1", "purchase#pi_1", {"amount": 100}, decide)
    return world


def refunded(
    world: World,
    in_all: int,
    observed_at: datetime | None = None,
    store: LedgerStore | None = None,
    report: Callable[[], int] | None = None,
    number: int = 1,
) -> Outcome:
    ledger = store or world.services.ledger
    return ledger.refund("1", number, report or (lambda: in_all), observed_at, WHY, world.now)


def test_a_refund_is_under_the_id_of_the_request_that_reported_it(sold: World) -> None:
    with correlated("c-7"):
        outcome = refunded(sold, 30)
    assert outcome.entry.correlation_id == "c-7"
    assert sold.history()[-1].correlation_id == "c-7"


def test_a_report_that_says_nothing_new_is_counted_as_a_repeated_request(sold: World) -> None:
    metrics._counted.clear()
    first = refunded(sold, 30)
    assert Metric.DUPLICATES_REFUSED not in metrics._counted
    assert refunded(sold, 30) == first._replace(replayed=True)
    assert metrics._counted.pop(Metric.DUPLICATES_REFUSED) == [1]
    assert sold.balance() == 70


def test_whether_anything_was_ever_refunded_is_known(sold: World) -> None:
    store = sold.services.ledger
    assert not store.is_refunded("1", 1)
    refunded(sold, 0)
    assert store.is_refunded("1", 1)


def test_losing_every_race_is_an_error_after_pauses(sold: World) -> None:
    pauses: list[int] = []
    store = LedgerStore(sold.restarted().dynamodb, "credits-dev-ledger", pauses.append)
    keys = iter(range(10 * MOST_ATTEMPTS))

    def faster() -> int:
        made = draft(
            store.account("1"),
            lambda account: domain.grant(
                account, 1, why(f"faster-{next(keys)}"), sold.now, "UTC", None
            ),
        )
        assert made
        assert store._append(made.item)
        return 30

    message = r"^the ledger of user 1 is written too often at the moment$"
    with pytest.raises(Contention, match=message):
        refunded(sold, 30, store=store, report=faster)
    assert pauses == list(range(1, MOST_ATTEMPTS))
    assert not store.is_refunded("1", 1)
    assert store.verify("1").last == store.account("1").last


def test_a_race_that_is_lost_once_is_decided_again(
    sold: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelling(sold, monkeypatch, ["DuplicateItem", "None"], times=1)
    assert refunded(sold, 30).entry.amount == -30
    assert sold.balance() == 70


def test_without_room_it_is_waited_for_as_long_as_there_is_time_and_a_race_is_not(
    sold: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    store = LedgerStore(sold.restarted().dynamodb, "credits-dev-ledger", lambda _: None)
    cancelling(sold, monkeypatch, ["ThrottlingError"])
    for left, pauses in ((60_000, [0.2, 0.4, 0.8]), (5_100, [])):
        with patient(iter((left, left, left, 0)).__next__, 5_000), pytest.raises(OutOfTime):
            refunded(sold, 30, store=store)
        assert slept == pytest.approx(pauses)
        slept.clear()
    cancelling(sold, monkeypatch, ["TransactionConflict"])
    with patient(lambda: 0, 5_000), pytest.raises(Contention):
        refunded(sold, 30, store=store)
    assert slept == []


def test_a_failure_that_is_no_lost_race_is_raised_at_once(
    sold: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def report() -> int:
        nonlocal asked
        asked += 1
        return 30

    failing(sold, monkeypatch, "ExecuteTransaction", "AccessDeniedException")
    with pytest.raises(ServiceError, match="AccessDenied"):
        refunded(sold, 30, report=report)
    assert asked == 1


def test_an_entry_that_granted_nothing_cannot_be_refunded(sold: World) -> None:
    taken = sold.services.ledger.perform(
        "1",
        "usage#app#a",
        {"amount": 100},
        lambda account: domain.use(
            account, 100, Request("usage#app#a", "app", "Because"), sold.now
        ),
    )
    message = r"^ledger of user 1, entry 2: it is to have granted credits$"
    with pytest.raises(LedgerCorrupt, match=message):
        refunded(sold, 30, number=taken.entry.number)


def test_a_purchase_that_is_spent_is_found_among_the_entries(sold: World) -> None:
    granted(sold, 1)
    sold.services.ledger.perform(
        "1",
        "usage#app#a",
        {"amount": 110},
        lambda account: domain.use(
            account, 110, Request("usage#app#a", "app", "Because"), sold.now
        ),
    )
    refund = refunded(sold, 30).entry.refund
    assert refund is not None
    assert refund.unrecovered == 30


def test_a_repeated_report_tells_again_what_had_expired(sold: World) -> None:
    refunded(sold, 60)
    sold.now += timedelta(days=3)
    first = refunded(sold, 10)
    assert (first.entry.amount, first.expired) == (0, 50)
    assert refunded(sold, 10) == first._replace(replayed=True)
