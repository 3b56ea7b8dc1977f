"""The clock of a stage, and where the one of the local stack can be moved."""

import io
import json
import threading
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.calendar import TICK, Period, Turn
from chalicelib.domain.errors import InvalidInput
from chalicelib.domain.instants import format_instant, parse_instant
from chalicelib.services import Services, clock_of, read_clock
from chalicelib.settings import Settings
from infra import ticks
from infra.local.clock import LocalClock, Midnight, Open, Step, next_step, parse_moment
from infra.local.console.server import Mover
from infra.local.stacks import LocalStack
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
        ("+ 366 days", "UTC", "2027-05-19T14:30:00Z"),
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
        ("+0 days", "must be 'next midnight'"),
        ("+1000 days", "must be 'next midnight'"),
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


# --- The way of the clock -------------------------------------------------------------------------

PARIS, TOKYO, LORD_HOWE = "Europe/Paris", "Asia/Tokyo", "Australia/Lord_Howe"
JUNE = Midnight(PARIS, datetime(2026, 5, 31, 22, tzinfo=UTC))


def steps_of(users: Collection[Open], to: datetime, *everywhere: str) -> Iterator[Step]:
    """The way from NOW on, if nothing of what is open is ever done."""
    done = NOW
    while step := next_step(users, done, to, everywhere):
        assert done < step.at <= to
        done = step.at
        yield step


def ticks_of(turn: Turn, midnight: Midnight, to: datetime) -> list[datetime]:
    """Every tick of EventBridge from NOW on that sweeps for a midnight."""
    first = calendar.tick_at(NOW) + TICK
    ticks = (first + place * TICK for place in range((to - first) // TICK + 1))
    return [
        tick
        for tick in ticks
        if any(
            due.midnight == midnight.at
            for due in calendar.sweeps_due(tick, turn, [midnight.timezone])
        )
    ]


def test_a_month_is_swept_for_where_somebody_lives_at_its_beginning() -> None:
    users = [Open(PARIS), Open(TOKYO), Open(PARIS), Open(None)]
    to = NOW + timedelta(days=60)
    assert [(format_instant(step.at), *step.allocation) for step in steps_of(users, to)] == [
        ("2026-05-31T15:00:00Z", TOKYO),
        ("2026-05-31T22:00:00Z", PARIS),
        ("2026-06-30T15:00:00Z", TOKYO),
        ("2026-06-30T22:00:00Z", PARIS),
    ]
    assert not any(step.expiry or step.reminders for step in steps_of(users, to))


def test_a_month_is_swept_for_on_the_days_on_which_those_of_the_users_begin() -> None:
    users = [Open(PARIS, day=15), Open(PARIS, day=31), Open(TOKYO, day=15)]
    to = NOW + timedelta(days=47)
    assert [(format_instant(step.at), *step.allocation) for step in steps_of(users, to)] == [
        ("2026-05-30T22:00:00Z", PARIS),
        ("2026-06-14T15:00:00Z", TOKYO),
        ("2026-06-14T22:00:00Z", PARIS),
        ("2026-06-29T22:00:00Z", PARIS),
    ]


def test_where_nobody_lives_a_month_is_swept_for_only_when_asked() -> None:
    to = NOW + timedelta(days=20)
    assert list(steps_of([], to)) == []
    (step,) = steps_of([], to, TOKYO, "Asia/Seoul")
    assert step.allocation == {TOKYO, "Asia/Seoul"}


def test_while_somebody_is_overdue_every_re_sweep_of_the_schedule_is_on_the_way() -> None:
    to = JUNE.at + timedelta(days=40)
    way = [step.at for step in steps_of([Open(PARIS, is_overdue=True)], to)]
    july = Midnight(PARIS, calendar.month_start(PARIS, Period(2026, 7)))
    of_june, of_july = (ticks_of(Turn.MONTH, month, to) for month in (JUNE, july))
    assert way == of_june + of_july
    assert len(of_june) == len(of_july) == len(calendar.RESWEEP_AGES)
    fifteenth = calendar.period_start(PARIS, Period(2026, 5), 15)
    step = next_step([Open(PARIS, day=15, is_overdue=True)], fifteenth, JUNE.at)
    assert step is not None
    assert step.at == fifteenth + calendar.RESWEEP_AGES[1]


def test_while_a_batch_is_open_every_sweep_of_its_last_midnight_is_on_the_way() -> None:
    end = Midnight(LORD_HOWE, calendar.next_midnight(LORD_HOWE, NOW + timedelta(days=2)))
    to = NOW + timedelta(days=12)
    way = list(steps_of([Open(None, ends=frozenset({end}))], to))
    assert [step.at for step in way] == ticks_of(Turn.DAY, end, to)
    assert all(step.expiry == {LORD_HOWE} and not step.allocation for step in way)


def test_a_reminder_that_was_not_sent_is_tried_twice_again() -> None:
    reminder = Midnight(PARIS, calendar.next_midnight(PARIS, NOW))
    way = list(steps_of([Open(None, reminders=frozenset({reminder}))], NOW + timedelta(days=12)))
    assert [step.at - reminder.at for step in way] == [
        timedelta(0),
        timedelta(hours=1),
        timedelta(days=1),
    ]
    assert all(step.reminders == {PARIS} and not step.expiry for step in way)


def test_what_is_due_at_one_tick_is_one_step() -> None:
    users = [Open(PARIS), Open(None, ends=frozenset({JUNE}), reminders=frozenset({JUNE}))]
    step = next_step(users, NOW, JUNE.at)
    paris = frozenset({PARIS})
    assert step == Step(JUNE.at, paris, paris, paris)
    assert next_step(users, NOW, JUNE.at - timedelta(milliseconds=1)) is None


def test_a_midnight_between_two_ticks_is_swept_for_by_the_later_one() -> None:
    monrovia = Midnight("Africa/Monrovia", parse_instant("at", "1971-06-01T00:44:30Z"))
    ticks = [monrovia.next_tick(calendar.RESWEEP_AGES, monrovia.at - TICK)]
    assert ticks == [parse_instant("at", "1971-06-01T00:45:00Z")]


# --- The console moves it -------------------------------------------------------------------------


class SlowClock(LocalClock):
    """Stands still until it may go on, and then may fail."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.may_go_on = threading.Event()
        self.failure = failure
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def move(self, to: datetime, watch: object = None, everywhere: Collection[str] = ()) -> None:
        assert self.may_go_on.wait(30), (watch, everywhere)
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
    clock.failure = ZeroDivisionError("a mistake of ours")
    mover._way = (clock.at, clock.at + timedelta(days=1))
    with pytest.raises(ZeroDivisionError):
        mover._arrive(clock.at + timedelta(days=1))
    assert mover.state()["moving"] is None, "nobody could move it any more"


# --- The emails on the way ------------------------------------------------------------------------


class Mails:
    """In place of a stack and its SQS: the counts of the emails' queue, one after the other."""

    def __init__(self, *counts: tuple[int, int]) -> None:
        self.queues = {"notifications": "http://queue"}
        self.counts = list(counts)
        self.asked = 0

    def client(self, _service: str, **_: object) -> Any:
        return self

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:  # noqa: N803
        self.asked += len(AttributeNames) > 1
        waiting, hidden = self.counts[min(self.asked, len(self.counts)) - 1]
        numbers = {"": waiting, "NotVisible": hidden, "Delayed": 0}
        return {
            "Attributes": {
                name: str(numbers[name.removeprefix("ApproximateNumberOfMessages")])
                for name in AttributeNames
                if QueueUrl == self.queues["notifications"]
            }
        }


def clocked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves only where somebody sleeps."""
    moment = [0.0]

    def sleep(seconds: float) -> None:
        moment[0] += seconds

    monkeypatch.setattr(ticks, "time", SimpleNamespace(monotonic=lambda: moment[0], sleep=sleep))
    return moment


def test_an_email_that_waits_again_and_again_is_not_taken_for_one_that_is_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The three seconds count from when one last waited; and all ends after three minutes."""
    now = clocked(monkeypatch)
    monkeypatch.setattr(ticks, "_POLL_SECONDS", 2.0)
    ticks.Ticks(cast("LocalStack", Mails(*[(1, 1)] * 8, (0, 1)))).wait_for_mails()
    assert now == [18.0]
    for waiting in ((1, 0), (1, 1)):
        now[0] = 0.0
        ticks.Ticks(cast("LocalStack", Mails(waiting))).wait_for_mails()
        assert now == [180.0]


def test_the_clock_waits_until_each_email_has_been_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks, "_POLL_SECONDS", 0.0)
    queue = Mails((2, 0), (1, 1), (0, 1), (0, 0))
    ticks.Ticks(cast("LocalStack", queue)).wait_for_mails()
    assert queue.asked == 4
    assert ticks.Ticks(cast("LocalStack", Mails((2, 3)))).messages_in("notifications") == 5


def test_the_clock_does_not_wait_for_an_email_that_is_held_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ticks, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(ticks, "MAIL_SECONDS", 0.01)
    queue = Mails((1, 1), (0, 1))
    ticks.Ticks(cast("LocalStack", queue)).wait_for_mails()
    assert queue.asked >= 2


# --- The work of a tick ---------------------------------------------------------------------------


class Counts:
    """In place of a stack and its SQS: messages in one queue, of one kind, for a few looks."""

    functions: ClassVar[dict[str, str]] = {"expiry-tick": "credits-local-expiry-tick"}

    def __init__(self, queue: str, kind: str, looks: int) -> None:
        self.queues = {name: name for name in (*ticks.QUEUES, "notifications")}
        self.waiting = (queue, f"ApproximateNumberOfMessages{kind}")
        self.looks = looks
        self.events: list[dict[str, Any]] = []
        self.settings: dict[str, object] = {}

    def client(self, service: str, **settings: object) -> Any:
        self.settings[service] = settings
        return self

    def invoke(self, FunctionName: str, Payload: bytes) -> Any:  # noqa: N803
        self.events.append({"function": FunctionName, **json.loads(Payload)})
        return {"Payload": io.BytesIO(b'{"success": true}')}

    def get_queue_attributes(self, QueueUrl: str, AttributeNames: list[str]) -> Any:  # noqa: N803
        found = dict.fromkeys(AttributeNames, "0")
        if QueueUrl == self.waiting[0]:
            self.looks -= 1
            found |= {self.waiting[1]: "1"} if self.looks >= 0 else {}
        return {"Attributes": found}


@pytest.mark.parametrize("queue", ["sweeps", "allocations", "expiries"])
@pytest.mark.parametrize("kind", ["", "NotVisible", "Delayed"])
def test_a_tick_is_over_when_no_queue_of_its_work_has_a_message_of_any_kind(
    queue: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticks, "_POLL_SECONDS", 0.0)
    stack = Counts(queue, kind, looks=3)
    ticks.Ticks(cast("LocalStack", stack)).run("expiry-tick", NOW, {"Europe/Paris", "Asia/Tokyo"})
    assert stack.looks < 0, f"it did not wait for what {queue} has {kind}"
    assert stack.events == [
        {
            "function": "credits-local-expiry-tick",
            "time": format_instant(NOW),
            "zones": ["Asia/Tokyo", "Europe/Paris"],
        }
    ]


@pytest.mark.parametrize(
    "answer", ['{"success": false}', '{"errorMessage": "Task timed out"}', "{}"]
)
def test_a_tick_that_did_not_say_it_succeeded_has_failed(answer: str) -> None:
    class Fails(Counts):
        def invoke(self, FunctionName: str, Payload: bytes) -> Any:  # noqa: N803
            super().invoke(FunctionName, Payload)
            return {"Payload": io.BytesIO(answer.encode())}

    stack = Fails("sweeps", "", looks=0)
    with pytest.raises(TickFailedError) as failed:
        ticks.Ticks(cast("LocalStack", stack)).invoke("expiry-tick", NOW, None)
    said = f"expiry-tick of 2026-05-18T14:30:00Z answered {json.loads(answer)}"
    assert str(failed.value) == said


def test_a_tick_is_for_all_zones_that_are_due_or_for_some_or_for_none() -> None:
    stack = Counts("sweeps", "", looks=0)
    for zones in (None, [], ["b", "a"]):
        ticks.Ticks(cast("LocalStack", stack)).invoke("expiry-tick", NOW, zones)
    assert [event.get("zones") for event in stack.events] == [None, [], ["a", "b"]]
    # A tick may run for a minute, for which the SDK waits: then it would send it again.
    assert stack.settings == {"lambda": {"read_timeout": 120}, "sqs": {}}
    assert "zones" not in stack.events[0]


def test_how_long_a_tick_took_is_measured_and_one_that_never_ends_has_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = clocked(monkeypatch)
    monkeypatch.setattr(ticks, "_POLL_SECONDS", 1.5)
    now[0] = 1000.0
    slow = Counts("expiries", "Delayed", looks=4)
    assert ticks.Ticks(cast("LocalStack", slow)).run("expiry-tick", NOW, []) == 6.0
    never = Counts("expiries", "", looks=10**9)
    waited = "after 180 s messages still wait: {'expiries': 1}"
    with pytest.raises(TickFailedError, match=waited):
        ticks.Ticks(cast("LocalStack", never)).run("expiry-tick", NOW, [])
