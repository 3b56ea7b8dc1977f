"""How long a throttled table is waited for, and by whom."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from chalicelib.jobs.records import in_this_context
from chalicelib.observability import correlated, correlation_id
from chalicelib.store import throttling
from chalicelib.store.errors import OutOfTime
from chalicelib.store.throttling import ask_again, patient, wait_for_room


class Time:
    """What is left of an invocation; pauses take it away."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.pauses: list[float] = []

    def left(self) -> float:
        return self.seconds * 1000

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.seconds -= seconds


@pytest.fixture
def minute(monkeypatch: pytest.MonkeyPatch) -> Iterator[Time]:
    """A minute, in which one may wait until five seconds are left."""
    found = Time(60)
    monkeypatch.setattr(time, "sleep", found.sleep)
    with patient(found.left, 5_000):
        yield found


def never(attempt: int) -> None:
    raise AssertionError(attempt)


def test_pauses_double_up_to_four_seconds_and_are_never_less_than_half_of_that(
    minute: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda low, high: (low, high)[len(minute.pauses) % 2])
    for attempt in (1, 1, 2, 2, 5, 5, 6, 6, 24, 24):
        wait_for_room(attempt, never)
    assert minute.pauses == pytest.approx([0.1, 0.2, 0.2, 0.4, 1.6, 3.2, 2, 4, 2, 4])


def test_work_that_waits_keeps_the_time_to_hand_back_and_then_begins_nothing_else(
    minute: Time,
) -> None:
    throttling.check_patience()
    while minute.seconds >= 9:
        wait_for_room(10, never)
    minute.seconds = 6.9
    with pytest.raises(OutOfTime, match="no time left"):
        wait_for_room(10, never)
    assert minute.seconds == 6.9  # a pause of two seconds would have left less than five
    with pytest.raises(OutOfTime):
        throttling.check_patience()


def test_work_that_had_no_time_to_wait_does_not_wait_again(
    minute: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, high: high)
    minute.seconds = 5.3
    with pytest.raises(OutOfTime, match=r"^DynamoDB has no room, and there is no time left to"):
        wait_for_room(2, never)
    # A shorter pause would leave enough time; but after giving up once, it stays so.
    with pytest.raises(OutOfTime):
        wait_for_room(1, never)


def test_a_pause_may_leave_just_what_handing_back_takes(
    minute: Time, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda *_: 0.25)
    minute.seconds = 5.25
    wait_for_room(2, never)
    assert minute.seconds == 5


def test_patience_ends_with_the_block(minute: Time) -> None:
    minute.seconds = 5
    with patient(lambda: 0, 5_000), pytest.raises(OutOfTime):
        wait_for_room(1, never)
    throttling.check_patience()


def test_one_thing_is_asked_for_so_often_only_and_others_are_not_given_up_with_it(
    minute: Time,
) -> None:
    with pytest.raises(OutOfTime, match=r"^DynamoDB has had no room 25 times$"):
        wait_for_room(25, never)
    assert minute.pauses == []
    throttling.check_patience()
    wait_for_room(24, never)


def test_the_wire_is_told_to_ask_again_whatever_word_it_is_throttled_with(minute: Time) -> None:
    for code in (
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingException",
    ):
        pause = ask_again(code, 2)
        assert pause is not None
        assert 0.2 <= pause <= 0.4
    minute.seconds = 5
    with pytest.raises(OutOfTime):
        ask_again("ThrottlingException", 1)


def test_requests_statements_and_transactions_are_throttled_by_these_words() -> None:
    assert {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
    } == throttling.THROTTLES


@pytest.mark.usefixtures("minute")
def test_all_else_is_for_the_wire_to_decide() -> None:
    assert ask_again("ConditionalCheckFailedException", 1) is None


def test_without_a_set_patience_everybody_waits_as_before() -> None:
    paused: list[int] = []
    throttling.check_patience()
    wait_for_room(3, paused.append)
    assert paused == [3]
    assert ask_again("ThrottlingException", 1) is None


def test_what_is_done_in_part_is_asked_for_a_bounded_number_of_times() -> None:
    paused: list[int] = []
    assert list(throttling.attempts_for_room(paused.append)) == list(range(25))
    assert paused == list(range(1, 25))


def test_threads_at_the_same_time_have_their_operations_apart_and_begin_with_that_of_all() -> None:
    at_once = Barrier(3, timeout=10)

    def work(part: int) -> tuple[str | None, str | None, str | None]:
        before = correlation_id()
        at_once.wait()
        with correlated(f"mail-{part}"):
            at_once.wait()
            within = correlation_id()
        return before, within, correlation_id()

    with correlated("tick"), ThreadPoolExecutor(3) as pool:
        found = list(pool.map(in_this_context(work), range(3)))
    assert found == [("tick", f"mail-{part}", "tick") for part in range(3)]


def test_threads_wait_as_the_invocation_does(minute: Time) -> None:
    def ask(attempt: int) -> float | None:
        return ask_again("ThrottlingException", attempt)

    with ThreadPoolExecutor(1) as pool:
        assert list(pool.map(ask, [1])) == [None]
        (pause,) = pool.map(in_this_context(ask), [1])
        assert pause
        minute.seconds = 5
        with pytest.raises(OutOfTime):
            list(pool.map(in_this_context(ask), [1]))
