"""What an operation leaves behind for those who watch: metrics, and one id in all of its lines."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError, ParamValidationError

from chalicelib import metrics, observability
from chalicelib.domain.instants import format_instant
from chalicelib.invocations import observe
from chalicelib.jobs.ticks import start_sweeps
from chalicelib.messages.notifications import EntryPosted
from chalicelib.messages.work import SweepKind, UsersMessage
from chalicelib.observability import SERVICE, correlated, correlation_id
from chalicelib.operations import on_request
from chalicelib.settings import written_metrics
from infra.deployment.alarms import metrics_of_small
from tests.aws.world import CORRELATION_ID, World, at, client

PARIS_FEBRUARY = "2026-01-31T23:00:00Z"
PARIS_MARCH_3 = "2026-03-02T23:00:00Z"

Emitted = dict[str, list[float]]


@pytest.fixture
def emitted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Emitted]:
    """The values of each metric written since the last call; every line must be of our form."""
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "credits-dev")
    metrics.flush()
    capsys.readouterr()

    def read() -> Emitted:
        metrics.flush()
        found: Emitted = {}
        for line in capsys.readouterr().out.splitlines():
            written = json.loads(line)
            if "_aws" not in written:
                continue
            (described,) = written["_aws"]["CloudWatchMetrics"]
            assert described["Namespace"] == "Credits"
            assert described["Dimensions"] == [["service"]]
            names = {metric["Name"]: metric["Unit"] for metric in described["Metrics"]}
            for name, unit in names.items():
                assert unit == ("Seconds" if name == "AllocationLateness" else "Count")
                found[name] = found.get(name, []) + written[name]
            # Nothing else goes with it: no user, no address, no zone.
            assert set(written) == {"_aws", "service", *names}
            assert written["service"] == "credits-dev"
        return found

    return read


def test_a_month_is_counted_where_it_passes(world: World, emitted: Callable[[], Emitted]) -> None:
    world.subscribe("1", plan="starter")
    world.subscribe("2", plan="starter")
    world.allocation_tick(PARIS_FEBRUARY)
    assert emitted() == {"AllocationTicks": [1]}
    world.deliver_waiting("sweeps")
    assert emitted() == {}
    world.deliver_waiting("allocations")
    assert emitted() == {"AllocationLateness": [0]}
    world.queue_mails()
    assert emitted() == {"Allocations": [2], "CreditsAllocated": [200]}
    assert world.send_mails() == []
    assert emitted() == {"MailsSent": [2]}


def test_every_kind_of_movement_has_its_metric(
    world: World, emitted: Callable[[], Emitted]
) -> None:
    world.subscribe("1", plan="starter")
    world.allocate_at(PARIS_FEBRUARY)
    world.grant("1", 50, "a")
    world.grant("1", -20, "b")
    world.expire_at(PARIS_MARCH_3)
    emitted()
    world.queue_mails()
    assert emitted() == {
        "Allocations": [1],
        "CreditsAllocated": [100],
        "CreditsGranted": [50],
        "CreditsClawedBack": [20],
        "CreditsExpired": [80],
    }


def test_an_expiry_tick_is_counted_and_a_refused_tick_is_not(
    world: World, emitted: Callable[[], Emitted], caplog: pytest.LogCaptureFixture
) -> None:
    world.subscribe("1")
    caplog.set_level("INFO")
    assert world.expiry_tick("2026-01-15T22:45:00Z")["zones"] == []
    assert emitted() == {"ExpiryTicks": [1]}, "also where no midnight is due: the tick came"
    assert world.expiry_tick("2026-01-15T23:00:00Z")["zones"] == ["Europe/Paris"]
    assert emitted() == {"ExpiryTicks": [1]}
    assert not world.expiry_tick("2026-01-15T23:00:00Z", zones=["Nowhere"])["success"]
    assert emitted() == {}
    lines = [vars(record) for record in caplog.records]
    assert [(each["levelname"], each["msg"], each.get("zones")) for each in lines] == [
        ("INFO", "tick", 0),
        ("INFO", "tick", 1),
        ("ERROR", "tick refused", None),
    ]
    assert {each["kind"] for each in lines} == {"expiry"}


@pytest.mark.parametrize("minutes", [15, 60])
def test_what_a_resweep_posted_is_counted_as_repaired_and_late(
    world: World, emitted: Callable[[], Emitted], minutes: int
) -> None:
    """The first of them comes a quarter of an hour after the midnight."""
    world.subscribe("1")
    world.allocate_at(format_instant(at("2026-01-31T23:00:00Z") + timedelta(minutes=minutes)))
    found = emitted()
    assert found["AllocationsRepaired"] == [1]
    assert found["AllocationLateness"] == [minutes * 60]


def test_what_the_first_sweep_posted_slowly_is_late_and_not_repaired(
    world: World, emitted: Callable[[], Emitted]
) -> None:
    world.subscribe("1")
    world.allocation_tick("2026-01-31T23:00:00Z")
    world.now += timedelta(minutes=20)
    world.drain()
    found = emitted()
    assert found["AllocationLateness"] == [20 * 60]
    assert "AllocationsRepaired" not in found


def test_a_request_that_comes_again_is_counted(
    world: World, emitted: Callable[[], Emitted]
) -> None:
    world.subscribe("1")
    world.grant("1", 50, "a")
    assert emitted() == {}
    world.grant("1", 50, "a")
    assert emitted() == {"DuplicatesRefused": [1]}


def test_a_lost_race_is_counted(world: World, emitted: Callable[[], Emitted]) -> None:
    world.subscribe("1")
    ledger = world.services.ledger
    account = ledger.account("1")
    world.grant("1", 50, "a")
    stale = iter([account])
    reads_again = ledger.account
    setattr(ledger, "account", lambda user: next(stale, None) or reads_again(user))  # noqa: B010
    world.grant("1", 60, "b")
    assert world.balance() == 110
    assert emitted() == {"ConflictsRetried": [1]}


def test_an_email_that_fails_is_counted(world: World, emitted: Callable[[], Emitted]) -> None:
    unknown = '{"user_id":"nobody","number":1}'
    assert world.deliver_mails([(unknown, 1)]) == [(unknown, 1)]
    assert emitted() == {"MailsFailed": [1]}


@pytest.fixture
def small_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A function of a small stage, which is told the metrics that its alarms read."""
    monkeypatch.setenv("METRICS", ",".join(metrics_of_small()))
    written_metrics.cache_clear()
    yield
    written_metrics.cache_clear()


@pytest.mark.usefixtures("small_stage")
def test_a_small_stage_writes_no_metric_but_those_its_alarms_read(
    world: World, emitted: Callable[[], Emitted], capsys: pytest.CaptureFixture[str]
) -> None:
    world.subscribe("1", plan="starter")
    world.allocation_tick(PARIS_FEBRUARY)
    assert emitted() == {"AllocationTicks": [1]}
    world.deliver_waiting("sweeps")
    metrics.count(metrics.Metric.ALLOCATIONS)
    metrics.flush()
    assert "_aws" not in capsys.readouterr().out, "a line is paid for, too"
    # What was left out once is not written later, by a process that is told of more.
    written_metrics.cache_clear()
    assert emitted() == {}


def test_an_invocation_writes_what_it_counted_also_when_it_fails(
    emitted: Callable[[], Emitted], capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_event: Any) -> None:
        metrics.count(metrics.Metric.MAILS_FAILED, 2)
        raise KeyError("bug")

    emitted()
    with pytest.raises(KeyError):
        observe(SimpleNamespace(context=None), fail)
    assert json.loads(capsys.readouterr().out)["MailsFailed"] == [2]


def test_an_invocation_is_an_operation_under_the_id_that_lambda_gave_it() -> None:
    for context, known in (
        (SimpleNamespace(aws_request_id="request-7"), "request-7"),
        (None, None),
    ):
        assert observe(SimpleNamespace(context=context), lambda _: correlation_id()) == known


def test_metrics_that_cannot_be_written_cost_a_line_and_not_the_work_that_is_done(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    emitted: Callable[[], Emitted],
) -> None:
    def fail(_: object) -> None:
        raise OSError("of ada@example.com")

    with monkeypatch.context() as patch:
        patch.setattr("aws_lambda_powertools.metrics.EphemeralMetrics.flush_metrics", fail)
        metrics.count(metrics.Metric.MAILS_SENT)
        metrics.flush()
    (line,) = [vars(record) for record in caplog.records]
    assert (line["levelname"], line["msg"], line["error"]) == (
        "WARNING",
        "metrics not written",
        "OSError",
    )
    assert "@" not in str(line)
    assert emitted() == {}, "counted twice by the next invocation"


def test_a_line_says_when_in_utc_and_of_which_operation(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for operation in ("request-é", "request-1", None):
        with correlated(operation):
            observability.logger().info("done", user_id="ä")
    lines = [
        json.loads(observability.logger().registered_formatter.format(record))
        for record in caplog.records
    ]
    assert [line.get("correlation_id") for line in lines] == [None, "request-1", None]
    for line in lines:
        assert (line["service"], line["level"], line["message"]) == ("credits", "INFO", "done")
        assert line["user_id"] == "ä"
        assert re.fullmatch(r"[-0-9]{10}T[:0-9]{8}\.[0-9]{3}\+00:00", line["timestamp"])


def test_one_id_goes_from_the_tick_to_the_email_in_every_line(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.subscribe("1", plan="starter")
    world.allocation_tick(PARIS_FEBRUARY)
    (sweep,) = world.take("sweeps")
    world.deliver("sweeps", [sweep])
    (users,) = world.take("allocations")
    world.deliver("allocations", [users])
    world.queue_mails()
    (mail,) = world.take("notifications")
    assert world.send_mails([mail]) == []
    for body in (sweep, users, mail):
        assert json.loads(body)["correlation_id"] == CORRELATION_ID
    (entry,) = world.history()
    assert entry.correlation_id == CORRELATION_ID
    lines = [vars(record) for record in caplog.records if record.name == SERVICE]
    assert [line["msg"] for line in lines] == [
        "tick",
        "sweep",
        "allocated",
        "emails queued",
        "mails",
    ]
    assert {line["correlation_id"] for line in lines} == {CORRELATION_ID}
    assert "@" not in json.dumps(lines, default=str)


def test_what_eventbridge_starts_has_the_id_of_its_event(world: World) -> None:
    world.subscribe("1")
    event = {"id": "e-17", "detail-type": "Scheduled Event", "time": PARIS_FEBRUARY}
    world.now = at(PARIS_FEBRUARY)
    start_sweeps(world.services, SweepKind.ALLOCATION, event)
    bodies = world.take("sweeps")
    assert bodies
    assert {json.loads(body)["correlation_id"] for body in bodies} == {"e-17"}


def test_the_id_from_outside_is_back_when_the_work_within_has_ended() -> None:
    with correlated("outer"):
        for inner, within in (("inner", "inner"), (None, "outer"), ("no id\n", "outer")):
            with suppress(ValueError), correlated(inner):
                assert correlation_id() == within
                raise ValueError
            assert correlation_id() == "outer"
    assert correlation_id() is None


def test_messages_from_before_there_were_ids_are_handled(world: World) -> None:
    world.subscribe("1")
    world.allocation_tick(PARIS_FEBRUARY)
    (body,) = world.take("sweeps")
    old = json.loads(body)
    del old["correlation_id"]
    assert world.deliver("sweeps", [json.dumps(old)]) == []
    (users,) = world.take("allocations")
    # What follows has the id of the message it began with.
    assert json.loads(users)["correlation_id"] == "m0"
    world.deliver("allocations", [users])
    assert world.balance() == 500


def test_a_ledger_of_the_first_schema_is_read_verified_and_continued(world: World) -> None:
    world.subscribe("42", timezone="America/New_York", plan="starter")
    for item in schema_1():
        client("dynamodb").put_item(TableName=world.settings.ledger_table, Item=item)
    before = world.services.ledger.verify("42")
    assert (before.next_number, before.ledger_balance) == (9, 157)
    assert before.last
    assert (before.last.schema, before.last.correlation_id) == (1, None)
    world.now = at("2026-03-10T12:00:00Z")
    assert world.grant("42", 5, "m9")["success"]
    after = world.services.ledger.verify("42")
    assert after.last
    assert (after.last.schema, after.last.number) == (3, 9)
    assert format_instant(after.last.posted_at) == "2026-03-10T12:00:00Z"
    assert after.ledger_balance == 162
    stored = [line.body for line in world.services.ledger.lines("42")]
    assert stored[:8] == [item["body"]["S"] for item in schema_1() if "body" in item]


def schema_1() -> list[dict[str, Any]]:
    text = (Path(__file__).parents[1] / "fixtures" / "ledger-schema-1.json").read_text("utf-8")
    return [
        {
            name: {"N": str(value)} if isinstance(value, int) else {"S": value}
            for name, value in item.items()
        }
        for item in json.loads(text)
    ]


# --- What failed in between, and more than one of everything ------------------------------------


@contextmanager
def without_sqs() -> Iterator[None]:
    """Within the block, the services cannot send to SQS."""

    def fail(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://sqs")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client("sqs", "services"), "send_message_batch", fail)
        yield


@pytest.mark.parametrize("kind", [SweepKind.ALLOCATION, SweepKind.EXPIRY])
def test_a_tick_is_counted_once_sqs_has_its_sweeps_and_not_before(
    world: World, emitted: Callable[[], Emitted], kind: SweepKind
) -> None:
    world.subscribe("1")
    with without_sqs(), pytest.raises(EndpointConnectionError):
        world.tick(kind, PARIS_FEBRUARY)
    assert emitted() == {}, "counted without sweeps: the alarm for missing ticks stays silent"
    world.tick(kind, PARIS_FEBRUARY)
    assert list(emitted().values()) == [[1]]


def test_movements_and_emails_are_told_of_once_sqs_has_the_messages_and_not_before(
    world: World, emitted: Callable[[], Emitted], caplog: pytest.LogCaptureFixture
) -> None:
    world.subscribe("1", plan="starter")
    world.subscribe("2")
    world.allocate_at(PARIS_FEBRUARY)
    emitted()
    caplog.set_level("INFO")
    caplog.clear()
    with without_sqs(), pytest.raises(EndpointConnectionError):
        world.queue_mails()
    assert emitted() == {}, "the stream delivers the records again: counted twice"
    assert "emails queued" not in caplog.messages, "none was queued yet"
    world.queue_mails()
    assert emitted() == {"Allocations": [2], "CreditsAllocated": [600]}
    assert [vars(each)["mails"] for each in caplog.records if each.msg == "emails queued"] == [2]


def test_usages_and_reversals_are_counted_by_their_amounts(
    world: World, emitted: Callable[[], Emitted]
) -> None:
    for user_id, used in (("1", 60), ("2", 7)):
        world.subscribe(user_id)
        world.grant(user_id, 100, user_id)
        on_request.use_credits(
            world.services, user_id, used, "Export", caller="shop", key=f"use {user_id}"
        )
    on_request.reverse_usage(world.services, "1", "1-2", 20, "Oops", caller="shop", key="r")
    emitted()
    world.queue_mails()
    assert emitted() == {
        "CreditsGranted": [200],
        "CreditsUsed": [67],
        "CreditsReversed": [20],
    }
    # What moves nothing is no point of a graph either: each costs money.
    world.subscribe("3")
    world.grant("3", -5, "nothing", up_to_available=True)
    world.queue_mails(world.stream()[-1:])
    assert emitted() == {}


def test_each_message_tells_how_late_its_latest_user_was_and_lateness_is_not_added_up(
    world: World, emitted: Callable[[], Emitted], caplog: pytest.LogCaptureFixture
) -> None:
    for user_id, city in enumerate(("London", "Paris", "London", "Paris"), start=1):
        world.subscribe(str(user_id), timezone=f"Europe/{city}")
    world.subscribe("5", status="paused")
    world.subscribe("6", timezone="Asia/Tokyo", eligible_from="2025-12-20T00:00:00Z")
    world.now = at("2026-02-01T00:00:00Z")
    bodies = [
        UsersMessage(world.now, users).body() for users in (("1", "2", "3", "4", "5"), ("6",))
    ]
    caplog.set_level("INFO")
    emitted()
    assert world.deliver("allocations", bodies) == []
    # London is on time, Paris an hour late; in Tokyo January was missed, too.
    in_tokyo = 31 * 24 * 3_600 + 9 * 3_600
    assert emitted() == {"AllocationLateness": [3_600, in_tokyo], "AllocationsRepaired": [4]}
    lines = [vars(record) for record in caplog.records if record.msg == "allocated"]
    told = [(line["users"], line["users_changed"], line["credits"]) for line in lines]
    assert told == [(5, 4, 2_000), (1, 1, 1_000)]


def test_a_month_that_brought_nothing_because_of_the_cap_was_late_all_the_same(
    world: World, emitted: Callable[[], Emitted]
) -> None:
    world.with_plans("pro", balance_cap=800)
    world.subscribe("1")
    world.grant("1", 1_000, "full")
    world.now = at("2026-02-01T00:00:00Z")
    emitted()
    assert world.deliver("allocations", [UsersMessage(world.now, ("1",)).body()]) == []
    assert world.history("1")[-1].amount == 0
    assert emitted() == {"AllocationLateness": [3_600], "AllocationsRepaired": [1]}


def test_what_was_posted_is_counted_though_another_user_of_the_message_failed(
    world: World, emitted: Callable[[], Emitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = world.services.ledger
    read = ledger.account

    def failing(user_id: str) -> Any:
        if user_id == "2":
            raise ZeroDivisionError
        return read(user_id)

    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
    world.now = at("2026-02-01T00:00:00Z")
    message = UsersMessage(world.now, ("1", "2", "3")).body()
    emitted()
    monkeypatch.setattr(ledger, "account", failing)
    assert world.deliver("allocations", [message]) == [message]
    found = emitted()
    assert found["AllocationsRepaired"] == [2], "users 1 and 3 were given their month"
    assert found["AllocationLateness"] == [3_600]


def test_emails_of_several_operations_are_counted_and_a_postponed_one_has_not_failed(
    world: World, emitted: Callable[[], Emitted]
) -> None:
    fates = {
        "1": None,
        "2": None,
        "3": EndpointConnectionError(endpoint_url="https://ses"),
        "4": ParamValidationError(report="no such address"),
    }
    for user_id in fates:
        world.subscribe(user_id)
        world.grant(user_id, 5, user_id)

    def meet(address: str) -> None:
        if error := fates[address.removeprefix("user").partition("@")[0]]:
            raise error

    world.outbox.before = meet
    bodies = [EntryPosted(user_id, 1, f"operation-{user_id}").body() for user_id in fates]
    emitted()
    assert len(world.deliver_mails([(body, 1) for body in bodies])) == 2
    assert emitted() == {"MailsSent": [2], "MailsFailed": [1]}


def test_an_email_belongs_to_the_operation_of_its_entry_whatever_queues_it(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    for user_id in ("1", "2", "3"):
        world.subscribe(user_id)
        with observability.correlated(f"request-{user_id}"):
            world.grant(user_id, 5, user_id)
    caplog.set_level("INFO")
    caplog.clear()
    with observability.correlated("invocation"):
        world.queue_mails()
    ids = {json.loads(body)["correlation_id"] for body in world.take("notifications")}
    assert ids == {"request-1", "request-2", "request-3"}
    assert ids == {vars(record)["correlation_id"] for record in caplog.records}
    # An entry of an operation without an id is told of under that of the invocation.
    world.subscribe("4")
    world.grant("4", 5, "none")
    with observability.correlated("invocation"):
        world.queue_mails(world.stream()[-1:])
    (body,) = world.take("notifications")
    assert json.loads(body)["correlation_id"] == "invocation"
