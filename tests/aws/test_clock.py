"""The clock of the local stack over the real handlers: what happens on its way is what AWS does."""

import fcntl
import io
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chalicelib.domain import calendar
from chalicelib.domain.entries import EntryType, LedgerEntry
from chalicelib.domain.instants import format_instant
from chalicelib.domain.lifetimes import Months
from chalicelib.domain.plans import AllocateOn
from chalicelib.domain.subscriptions import Subscription, SuppressedBecause, suppress
from chalicelib.jobs import outbox, ticks
from chalicelib.messages.work import SweepKind
from chalicelib.services import clock_of
from infra.deployment import stage_services
from infra.local.clock import LocalClock, Step
from infra.local.stacks import LocalStack
from infra.ticks import QUEUES
from tests.aws.world import BY_TEST, World, client

PARIS, NEW_YORK, TOKYO = "Europe/Paris", "America/New_York", "Asia/Tokyo"
KINDS = {"allocation-tick": SweepKind.ALLOCATION, "expiry-tick": SweepKind.EXPIRY}
A_LITTLE = timedelta(minutes=5)

Loses = Callable[[str, datetime], bool]
"""Whether the messages of a queue are lost at an instant."""


class Stage:
    """In place of a local stack: a world whose clock is the file that a local clock moves.

    A tick is all that follows from it; emails too, unless it ``sends_later``. ``loses`` says what
    is lost on the way.
    """

    def __init__(self, world: World, clock_file: Path) -> None:
        self.world = world
        clock_file.write_text("0")
        self.clock_file = str(clock_file)
        self.tables = {"subscriptions": world.settings.subscriptions_table}
        self.functions = {name: name for name in KINDS}
        self.queues = {name: world.queue_url(name) for name in (*QUEUES, "notifications")}
        self.loses: Loses = lambda _queue, _at: False
        self.sends_later = False
        self.ticks: list[tuple[str, datetime, list[str]]] = []
        world.settings = world.settings._replace(clock_file=self.clock_file)
        world.services = world.restarted()
        world.services.now = clock_of(world.settings)
        self._streamed = 0

    def client(self, service: str, **_: object) -> Any:
        return self if service == "lambda" else client(service)

    def invoke(self, FunctionName: str, Payload: bytes) -> dict[str, Any]:  # noqa: N803
        event = json.loads(Payload)
        now = self.world.now = self.world.services.now()
        self.ticks.append((FunctionName, now, event["zones"]))
        answer = ticks.start_sweeps(self.world.services, KINDS[FunctionName], event)
        self._work(now)
        return {"Payload": io.BytesIO(json.dumps(answer).encode())}

    def _work(self, now: datetime) -> None:
        for queue in QUEUES:
            bodies = self.world.take(queue)
            if not self.loses(queue, now):
                assert self.world.deliver(queue, bodies) == []
        records = self.world.stream()[self._streamed :]
        outbox.queue_notifications(self.world.services, {"Records": records})
        self._streamed += len(records)
        if self.sends_later:
            return
        bodies = self.world.take("notifications")
        if not self.loses("notifications", now):
            self.world.send_mails(bodies)

    def subscribe(self, user_id: str = "1", **changes: object) -> None:
        self.world.now = self.world.services.now()
        self.world.subscribe(user_id, **changes)

    def allocations(self, user_id: str = "1") -> list[LedgerEntry]:
        return [
            entry for entry in self.world.history(user_id) if entry.type is EntryType.ALLOCATION
        ]

    def months(self, timezone: str, how_many: int) -> list[datetime]:
        """When the next months begin in a zone."""
        this = calendar.period_at(timezone, self.world.services.now())
        return [calendar.month_start(timezone, this.plus(1 + more)) for more in range(how_many)]


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """On the last days of a month some zones are a month ahead of others: not by the machine's."""
    ahead = datetime(2026, 11, 20, 12, tzinfo=UTC) - datetime.now(UTC)
    for module in ("chalicelib.services", "infra.local.clock"):
        monkeypatch.setattr(f"{module}.read_clock", lambda: datetime.now(UTC) + ahead)
    stage = Stage(World(stage="local"), tmp_path / "clock")
    monkeypatch.setattr("infra.local.clock.services_of_local", lambda _: stage.world.services)
    monkeypatch.setattr(stage_services, "THREADS", 1)
    return stage


def clock_for(stage: Stage) -> LocalClock:
    return LocalClock(cast("LocalStack", stage))


@pytest.fixture
def clock(stage: Stage) -> LocalClock:
    return clock_for(stage)


def test_a_user_passed_by_a_month_is_given_its_credits_then_and_not_before(
    stage: Stage, clock: LocalClock
) -> None:
    zones = {"1": PARIS, "2": NEW_YORK, "3": TOKYO}
    for user_id, timezone in zones.items():
        stage.subscribe(user_id, timezone=timezone)
    starts = {user_id: stage.months(zone, 3) for user_id, zone in zones.items()}
    clock.move(starts["1"][1] + timedelta(days=3))
    assert timedelta(0) <= clock.now() - starts["1"][1] - timedelta(days=3) < A_LITTLE
    for user_id in zones:
        granted = stage.allocations(user_id)
        assert [entry.effective_at for entry in granted] == starts[user_id][:2]
        assert all(
            timedelta(0) <= each.posted_at - each.effective_at < A_LITTLE for each in granted
        )
    assert all(at <= clock.now() for _, at, _ in stage.ticks)


def test_what_fell_due_while_nobody_moved_the_clock_is_still_to_be_done(
    stage: Stage, clock: LocalClock
) -> None:
    """The clock runs on between two moves, as the machine's does."""
    assert not clock.is_tick_due()
    Path(stage.clock_file).with_suffix(".done").write_text(
        format_instant(clock.now() - timedelta(minutes=1))
    )
    assert clock.is_tick_due()
    assert clock_for(stage).is_tick_due(), "another process does not forget it"
    clock.move(clock.now() + timedelta(seconds=1))
    assert not clock.is_tick_due()


def test_a_reader_of_the_clock_sees_all_of_its_old_time_or_all_of_the_new(
    stage: Stage, clock: LocalClock
) -> None:
    with Path(stage.clock_file).open() as reader:
        clock.move(clock.now() + timedelta(days=2))
        assert reader.read() == "0"
    assert float(Path(stage.clock_file).read_text()) > 86_400


def test_who_watches_is_told_how_long_each_step_took_while_nobody_else_may_move(
    stage: Stage, clock: LocalClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here both ticks of a step take two seconds each."""
    stage.world.with_plans("starter", credit_lifetime=Months(1))
    stage.subscribe(plan="starter", notifications=[])
    run = clock._ticks.run
    monkeypatch.setattr(clock._ticks, "run", lambda *asked: run(*asked) * 0 + 2.0)
    first, second = stage.months(PARIS, 2)
    seen: list[tuple[datetime, float]] = []

    def watch(step: Step, took: float) -> None:
        seen.append((step.at, took))
        file = Path(stage.clock_file).with_suffix(".lock")
        with file.open("a") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)

    clock.move(second, watch)
    assert seen == [(first, 2.0), (second, 4.0)]


def test_a_month_begins_where_nobody_lives_if_that_is_asked_for(
    stage: Stage, clock: LocalClock
) -> None:
    (start,) = stage.months(TOKYO, 1)
    clock.move(start, everywhere=[TOKYO])
    assert [(name, zones) for name, _, zones in stage.ticks] == [("allocation-tick", [TOKYO])]


def test_who_can_receive_nothing_takes_no_time_nor_who_lives_where_no_zone_is_any_more(
    stage: Stage, clock: LocalClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.subscribe("1")
    stage.subscribe("2", timezone=NEW_YORK, status="paused")
    stage.subscribe("3", timezone=TOKYO, plan="starter")
    (start,) = stage.months(PARIS, 1)
    clock.move(start + timedelta(days=2))
    names = [zone for zone in calendar.zone_names() if zone != TOKYO]
    monkeypatch.setattr(calendar, "zone_names", lambda: names)
    stage.ticks.clear()
    clock_for(stage).move(start + timedelta(days=60))
    assert {tuple(zones) for _, _, zones in stage.ticks} == {(PARIS,)}


def test_a_month_of_a_users_own_begins_on_its_day(stage: Stage, clock: LocalClock) -> None:
    stage.world.with_plans("pro", allocate_on=AllocateOn.ANNIVERSARY)
    now = stage.world.services.now()
    stage.subscribe(started_at="2025-01-10T12:00:00Z")
    own = [
        calendar.period_start(PARIS, calendar.period_at(PARIS, now, 10).plus(more), 10)
        for more in (1, 2)
    ]
    clock.move(own[1] + timedelta(hours=1))
    assert [entry.effective_at for entry in stage.allocations()] == own
    assert [at - start < A_LITTLE for (_, at, _), start in zip(stage.ticks, own, strict=True)]


def test_the_clock_stands_on_the_tick_that_it_invokes(stage: Stage, clock: LocalClock) -> None:
    stage.subscribe(plan="starter")
    (start,) = stage.months(PARIS, 1)
    clock.move(start + timedelta(days=34))
    assert stage.ticks
    for _, at, zones in stage.ticks:
        assert at - calendar.tick_at(at) < A_LITTLE
        assert zones == [PARIS]


def test_a_tick_between_the_old_time_and_the_new_is_not_run_twice(
    stage: Stage, clock: LocalClock
) -> None:
    stage.subscribe()
    (start,) = stage.months(PARIS, 1)
    clock.move(start + timedelta(minutes=1))
    clock.move(start + timedelta(minutes=2))
    clock_for(stage).move(start + timedelta(days=1))
    assert [at - start < A_LITTLE for _, at, _ in stage.ticks] == [True]


@pytest.mark.parametrize("lost", range(len(calendar.RESWEEP_AGES)))
def test_what_sweeps_lost_is_made_good_by_the_next_re_sweep(
    stage: Stage, clock: LocalClock, lost: int
) -> None:
    stage.subscribe()
    (start,) = stage.months(PARIS, 1)
    age = calendar.RESWEEP_AGES[lost]
    stage.loses = lambda queue, at: queue == "allocations" and at < start + age
    clock.move(start + timedelta(days=9))
    (entry,) = stage.allocations()
    assert timedelta(0) <= entry.posted_at - start - age < A_LITTLE
    assert entry.effective_at == start
    assert len(stage.ticks) == lost + 1


def test_what_a_week_of_re_sweeps_lost_comes_with_the_next_month(
    stage: Stage, clock: LocalClock
) -> None:
    stage.subscribe()
    first, second = stage.months(PARIS, 2)
    stage.loses = lambda queue, at: queue == "sweeps" and at < first + timedelta(days=8)
    clock.move(second - timedelta(minutes=1))
    assert stage.allocations() == []
    assert len(stage.ticks) == len(calendar.RESWEEP_AGES)
    clock.move(second)
    assert [entry.effective_at for entry in stage.allocations()] == [first, second]
    assert all(entry.posted_at >= second for entry in stage.allocations())


def test_a_re_sweep_is_run_by_a_clock_that_is_moved_later_by_somebody_else(
    stage: Stage, clock: LocalClock
) -> None:
    stage.subscribe()
    (start,) = stage.months(PARIS, 1)
    stage.loses = lambda queue, at: queue == "allocations" and at < start + calendar.TICK
    clock.move(start + timedelta(minutes=5))
    assert stage.allocations() == []
    clock_for(stage).move(start + timedelta(minutes=16))
    assert len(stage.allocations()) == 1
    assert not clock.is_tick_due()


def test_credits_that_a_sweep_left_are_booked_out_by_the_next_re_sweep(
    stage: Stage, clock: LocalClock
) -> None:
    # The credits of others who live there do not expire.
    for user_id, plan in (("1", "pro"), ("2", "starter"), ("3", "pro")):
        stage.subscribe(user_id, plan=plan)
    (start,) = stage.months(PARIS, 1)
    end = calendar.expires_at(PARIS, start, 30)
    stage.loses = lambda queue, at: queue == "expiries" and at < end + timedelta(hours=1)
    clock.move(end + timedelta(hours=2))
    (expired,) = (entry for entry in stage.world.history("2") if entry.type is EntryType.EXPIRATION)
    assert expired.amount == -100
    assert expired.effective_at == end
    assert timedelta(0) <= expired.posted_at - end - timedelta(hours=1) < A_LITTLE


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=1), timedelta(days=1)])
def test_users_are_reminded_once_three_days_before_or_by_the_next_repetition(
    stage: Stage, clock: LocalClock, monkeypatch: pytest.MonkeyPatch, age: timedelta
) -> None:
    monkeypatch.setattr("infra.local.clock._ITEMS_A_READ", 1)
    for user_id, kinds in (
        ("0", []),
        ("1", ["expiring_soon"]),
        ("2", ["expiring_soon"]),
        ("3", []),
    ):
        stage.subscribe(user_id, plan="starter", notifications=kinds)
    (start,) = stage.months(PARIS, 1)
    end = calendar.expires_at(PARIS, start, 30)
    reminder = calendar.midnight(PARIS, calendar.local_date(PARIS, end) - timedelta(days=3))
    told: list[datetime] = []
    send = stage.world.services.mailer.send

    def note(*mail: Any) -> str:
        told.append(stage.world.services.now())
        return send(*mail)

    setattr(stage.world.services.mailer, "send", note)  # noqa: B010
    stage.loses = lambda queue, at: queue == "notifications" and at < reminder + age
    clock.move(end - timedelta(minutes=1))
    assert [timedelta(0) <= at - reminder - age < A_LITTLE for at in told] == [True] * 2
    tries = [at for name, at, _ in stage.ticks if name == "expiry-tick"]
    assert len(tries) == 1 + sorted(ticks.REMINDER_AGES).index(age), (
        "once they are, nothing is tried again"
    )


def test_users_are_reminded_before_the_clock_goes_on_to_when_their_credits_have_expired(
    stage: Stage, clock: LocalClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a stack, emails are sent while the clock waits for them, and not within the tick."""
    stage.subscribe(plan="starter", notifications=["expiring_soon"])
    stage.sends_later = True
    (start,) = stage.months(PARIS, 1)
    end = calendar.expires_at(PARIS, start, 30)
    told: list[datetime] = []
    send = stage.world.services.mailer.send

    def note(*mail: Any) -> str:
        told.append(stage.world.services.now())
        return send(*mail)

    setattr(stage.world.services.mailer, "send", note)  # noqa: B010
    polled = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: stage.world.send_mails())
    monkeypatch.setattr("infra.ticks.time", polled)
    clock.move(end + timedelta(days=1))
    stage.world.send_mails()
    assert [end - at > timedelta(days=2) for at in told] == [True]


@pytest.mark.parametrize(
    ("changes", "days"),
    [
        ({"notifications": []}, 3),
        ({"notifications": ["expiration"]}, 3),
        ({"email": None}, 3),
        ({"email": "bounced"}, 3),
        ({}, 0),
    ],
)
def test_a_user_who_is_sent_no_reminder_takes_no_time(
    stage: Stage, clock: LocalClock, changes: dict[str, Any], days: int
) -> None:
    settings = stage.world.services.settings._replace(expiring_soon_days=days)
    stage.world.services.settings = settings
    is_suppressed = changes.get("email") == "bounced"
    stage.subscribe(plan="starter", **({} if is_suppressed else changes))
    if is_suppressed:

        def bounced(subscription: Subscription | None) -> Subscription:
            assert subscription is not None
            return suppress(subscription, "user1@example.com", SuppressedBecause.BOUNCE)

        stage.world.services.subscriptions.change("1", bounced, BY_TEST, stage.world.now)
    (start,) = stage.months(PARIS, 1)
    clock.move(calendar.expires_at(PARIS, start, 30) - timedelta(minutes=1))
    assert [name for name, _, _ in stage.ticks] == ["allocation-tick"]


def test_no_user_is_passed_over_however_many_pages_the_table_has(
    stage: Stage, clock: LocalClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [str(number) for number in range(5)]
    for user_id in users:
        stage.subscribe(user_id)
    dynamodb = client("dynamodb")
    scan = dynamodb.scan
    monkeypatch.setattr(dynamodb, "scan", lambda **asked: scan(**(asked | {"Limit": 2})))
    assert sorted(clock.user_ids()) == users


def test_a_year_takes_few_ticks(stage: Stage, clock: LocalClock) -> None:
    stage.subscribe()
    clock.move(stage.months(PARIS, 12)[-1])
    assert len(stage.allocations()) == len(stage.ticks) == 12


def test_a_ledger_that_cannot_be_read_stops_nobody_elses_clock(
    stage: Stage, clock: LocalClock
) -> None:
    for user_id in ("1", "2"):
        stage.subscribe(user_id, timezone=PARIS if user_id == "1" else TOKYO)
    stage.world.grant("1", 30, "a")
    (item,) = (line for line in stage.world.lines() if line["entry"]["S"].startswith("entry#"))
    item["body"]["S"] = "tampered"
    client("dynamodb").put_item(TableName=stage.world.settings.ledger_table, Item=item)
    clock.move(stage.months(TOKYO, 1)[0])
    assert len(stage.allocations("2")) == 1


@pytest.mark.parametrize("lacks", ["its line", "its zone", "nothing"])
def test_a_grant_that_cannot_be_read_or_swept_stops_nobodys_clock(
    stage: Stage, clock: LocalClock, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    for user_id, zone in enumerate((TOKYO, PARIS, NEW_YORK)):
        stage.subscribe(str(user_id), timezone=zone, notifications=[])
        stage.world.grant(str(user_id), 30, f"{user_id}", expires_in_days=2)
    stage.world.grant("1", 30, "again")
    ledger = stage.world.services.ledger
    entries = ledger.entries

    def theirs_last(places: Any) -> Any:
        return dict(sorted(entries(places).items(), key=lambda item: item[0][0] != "1"))

    monkeypatch.setattr(ledger, "entries", theirs_last)
    if lacks == "nothing":
        monkeypatch.setattr("infra.local.clock._ITEMS_A_READ", 1)
    if lacks == "its line":
        of_entries = [
            line for line in stage.world.lines() if line["entry"]["S"].startswith("entry#")
        ]
        item = next(line for line in of_entries if line["user_id"]["S"] == "1")
        item["body"]["S"] = "tampered"
        client("dynamodb").put_item(TableName=stage.world.settings.ledger_table, Item=item)
    elif lacks == "its zone":
        names = [zone for zone in calendar.zone_names() if zone != PARIS]
        monkeypatch.setattr(calendar, "zone_names", lambda: names)
    clock.move(clock.now() + timedelta(days=4))
    swept = {zone for name, _, zones in stage.ticks if name == "expiry-tick" for zone in zones}
    assert swept == {TOKYO, NEW_YORK, *([PARIS] if lacks == "nothing" else [])}
    assert [stage.world.balance(user_id) for user_id in ("0", "2")] == [0, 0]


def test_the_clock_never_goes_back(stage: Stage, clock: LocalClock) -> None:
    stage.subscribe()
    clock.move(clock.now() + timedelta(days=3))
    before = clock.now()
    clock.move(before - timedelta(days=2))
    assert clock.now() >= before
    assert not clock.is_tick_due()
