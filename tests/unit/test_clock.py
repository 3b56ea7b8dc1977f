"""The clock of a stage, and where the one of the local stack can be moved."""

import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import format_instant
from chalicelib.services import Services, clock_of, read_clock
from chalicelib.settings import Settings
from infra.clock import LocalClock, parse_moment
from infra.console.server import Mover
from infra.ticks import TickFailedError

NOW = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)
A_MOMENT = timedelta(seconds=5)


@pytest.fixture
def environment(tmp_path: Path) -> Mapping[str, str]:
    """That of a function whose clock file says thirty days."""
    clock_file = tmp_path / "clock"
    clock_file.write_text(str(timedelta(days=30).total_seconds()))
    return {"AWS_REGION": "us-east-1", "CLOCK_FILE": str(clock_file)}


def test_the_local_stage_is_as_far_ahead_as_its_file_says_at_each_reading(
    environment: Mapping[str, str],
) -> None:
    services = Services(Settings.read({**environment, "STAGE": "local"}))
    assert abs(services.now() - read_clock() - timedelta(days=30)) < A_MOMENT
    Path(environment["CLOCK_FILE"]).write_text("86400.5")
    assert abs(services.now() - read_clock() - timedelta(days=1)) < A_MOMENT


@pytest.mark.parametrize("stage", ["dev", "prod", "LOCAL", "local "])
def test_no_other_stage_looks_at_such_a_file(environment: Mapping[str, str], stage: str) -> None:
    settings = Settings.read({**environment, "STAGE": stage})
    assert clock_of(settings) is read_clock
    assert abs(Services(settings).now() - datetime.now(UTC)) < A_MOMENT


def test_the_local_stage_without_such_a_file_has_the_machines_clock() -> None:
    settings = Settings.read({"AWS_REGION": "us-east-1", "STAGE": "local"})
    assert clock_of(settings) is read_clock


@pytest.mark.parametrize(
    ("text", "timezone", "moment"),
    [
        ("next midnight", "America/New_York", "2026-05-19T04:00:00Z"),
        ("next midnight", "Asia/Kolkata", "2026-05-18T18:30:00Z"),
        ("next 1st", "America/New_York", "2026-06-01T04:00:00Z"),
        ("next 1st", "Pacific/Kiritimati", "2026-05-31T10:00:00Z"),
        ("+30 days", "UTC", "2026-06-17T14:30:00Z"),
        ("+1 day", "UTC", "2026-05-19T14:30:00Z"),
        ("2026-05-18T20:00:00+02:00", "UTC", "2026-05-18T18:00:00Z"),
    ],
)
def test_a_moment_is_told_in_words_or_exactly(text: str, timezone: str, moment: str) -> None:
    assert format_instant(parse_moment(text, NOW, timezone)) == moment


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("2026-05-18T14:30:00Z", "must be after 2026-05-18T14:30:00Z: the clock moves forward"),
        ("2026-05-18T14:29:59Z", "moves forward only"),
        ("2027-05-20T00:00:00Z", "at most 366 days"),
        ("+999 days", "at most 366 days"),
        ("tomorrow", "must be 'next midnight'"),
        ("2026-05-19 00:00", "must be 'next midnight'"),
        (None, "must be 'next midnight'"),
        (30, "must be 'next midnight'"),
    ],
)
def test_the_clock_goes_neither_back_nor_too_far_nor_to_nonsense(text: object, advice: str) -> None:
    with pytest.raises(InvalidInput, match=advice) as refusal:
        parse_moment(text, NOW, "UTC")
    assert [error.field for error in refusal.value.errors] == ["to"]


class SlowClock(LocalClock):
    """Stands still until it may go on, and then may fail."""

    def __init__(self, failure: TickFailedError | None = None) -> None:
        self.may_go_on = threading.Event()
        self.failure = failure
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def move(self, to: datetime, watch: object = None) -> None:
        assert self.may_go_on.wait(30), watch
        if self.failure:
            raise self.failure
        self.at = to

    def is_tick_due(self) -> bool:
        return True


def arrive(clock: SlowClock) -> None:
    clock.may_go_on.set()
    for thread in threading.enumerate():
        if thread.name == "clock":
            thread.join(30)


def test_a_clock_that_moves_says_how_far_it_is_and_takes_no_second_order() -> None:
    clock = SlowClock()
    mover = Mover(clock)
    assert mover.state()["moving"] is None
    assert mover.start(NOW + timedelta(days=10))
    assert not mover.start(NOW + timedelta(days=20))
    clock.at = NOW + timedelta(days=4)
    assert mover.state()["moving"] == {"to": "2026-05-28T14:30:00Z", "done": 0.4}
    arrive(clock)
    assert mover.state() == {"now": "2026-05-28T14:30:00Z", "moving": None, "failure": None}
    assert mover.start(NOW + timedelta(days=20))
    arrive(clock)
    assert mover.state()["now"] == "2026-06-07T14:30:00Z"


def test_a_clock_that_moves_is_not_in_need_of_ticks_of_its_own() -> None:
    clock = SlowClock()
    mover = Mover(clock)
    assert mover.start(NOW + timedelta(days=10))
    mover.keep_up()  # would stand still, too
    arrive(clock)
    clock.failure = TickFailedError("3 messages still wait")
    mover.keep_up()
    assert mover.state()["failure"] == "the clock stopped on its way: 3 messages still wait"


def test_a_clock_that_is_stopped_says_why_until_it_is_moved_again() -> None:
    clock = SlowClock(TickFailedError("3 messages still wait"))
    mover = Mover(clock)
    assert mover.start(NOW + timedelta(days=10))
    arrive(clock)
    state = mover.state()
    assert state["moving"] is None
    assert state["failure"] == "the clock stopped on its way: 3 messages still wait"
    clock.failure = None
    assert mover.start(NOW + timedelta(days=10))
    arrive(clock)
    assert mover.state()["failure"] is None
