"""The month turns on the deployed stack: ticks, queues, workers, each under its own role."""

import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console

from chalicelib.domain import calendar, ledger
from chalicelib.domain.entries import EntryType
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Request
from chalicelib.store.ledger import draft
from infra import reach
from infra.commands import completeness, run
from infra.imports.balances import BALANCES
from infra.imports.csv_file import UnreadableFileError
from infra.imports.csv_file import read as read_csv
from infra.imports.importing import import_rows
from infra.imports.subscriptions import SUBSCRIPTIONS
from infra.local import turn
from infra.local.clock import LocalClock
from infra.local.month import latest_period
from infra.local.services import services_of_local
from infra.local.stacks import LocalStack, local_stack
from infra.repair import allocate, replay
from infra.ticks import TickFailedError, Ticks
from tests.stack.conftest import Packaged, wait_for

ROWS = run.SAMPLE.read_text().splitlines()


@pytest.fixture(scope="module")
def stack(packaged: Packaged) -> Iterator[LocalStack]:
    """A stack for these tests alone: they move its clock."""
    with local_stack(schedules=False, make_package=packaged) as deployed:
        yield deployed


def csv_file(directory: Path, rows: list[str]) -> Path:
    file = directory / "people.csv"
    file.write_text("\n".join((ROWS[0], *rows)) + "\n")
    return file


def test_neither_a_tick_nor_a_repair_nor_a_count_is_ahead_of_the_clock(
    stack: LocalStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reached = reach.reach_local(stack)
    monkeypatch.setattr(reach, "reach", lambda *_: reached)
    services = services_of_local(stack)
    timezone = "Pacific/Honolulu"
    values = {
        "user_id": "ahead",
        "email": "ahead@example.com",
        "timezone": timezone,
        "plan": "pro",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
    }
    reach.enter(services, values, services.now())
    month = calendar.period_at(timezone, services.now()).next()
    start = calendar.month_start(timezone, month)
    for period in (month, month.plus(4)):
        for how in ("--dry-run", "--yes"):
            words = ["--period", str(period), "--user-id", "ahead", how, "--json"]
            assert allocate.main(words) == 0
            (user,) = json.loads(capsys.readouterr().out)["users"]
            assert user["because"]["code"] == "not_begun"
    replayed = ["--from", format_instant(start), "--kind", "allocation", "--yes"]
    assert replay.main(replayed) == 1
    assert "must not be ahead of the clock" in capsys.readouterr().err
    with pytest.raises(TickFailedError, match="must not be ahead of the clock"):
        Ticks(stack).invoke("allocation-tick", start, [timezone])
    assert services.ledger.account("ahead").last is None

    # Two hours before it begins there, the month is complete where it has begun.
    LocalClock(stack).move(start - timedelta(hours=2) + timedelta(minutes=1))
    assert completeness.main([str(month), "--zones", f"{timezone},UTC", "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["zones"], counted["missing"]) == (1, 0)
    assert timezone not in counted["by_zone"]
    assert completeness.main([str(month), "--zones", timezone]) == 1
    assert "has not begun" in capsys.readouterr().err
    LocalClock(stack).move(start)
    (granted,) = services.ledger.history("ahead")
    assert (granted.effective_at, granted.posted_at >= start) == (start, True)
    assert completeness.main([str(month), "--zones", timezone]) == 0


def test_what_the_first_sweep_lost_comes_with_the_re_sweep_on_the_way(stack: LocalStack) -> None:
    services = services_of_local(stack)
    timezone = "Pacific/Marquesas"
    now = services.now()
    month = calendar.period_at(timezone, now)
    start = calendar.month_start(timezone, month)
    assert start < now < start + timedelta(days=7)
    values = {
        "user_id": "lost",
        "email": "lost@example.com",
        "timezone": timezone,
        "plan": "pro",
        "billing_interval": "yearly",
        "status": "active",
        "started_at": "2025-01-01T00:00:00Z",
        "eligible_from": format_instant(start),
    }
    # The month has begun without them: as if the first sweep had never come to them.
    reach.enter(services, values, now)
    re_sweep = min(start + age for age in calendar.RESWEEP_AGES if start + age > now)
    LocalClock(stack).move(re_sweep - timedelta(minutes=2))
    assert services.ledger.account("lost").last is None
    LocalClock(stack).move(re_sweep + timedelta(minutes=2))
    (granted,) = services.ledger.history("lost")
    assert granted.effective_at == start
    assert timedelta(0) <= granted.posted_at - re_sweep < timedelta(minutes=2)


def test_a_file_of_subscriptions_is_imported_turned_shown_and_every_invariant_holds(
    stack: LocalStack, tmp_path: Path
) -> None:
    """After the tests that move the clock: its users make every move of it longer."""
    shown = io.StringIO()
    console = Console(file=shown, width=140)
    rows = ROWS[1:21]
    zones = {row.split(",")[2] for row in rows}
    month = latest_period(services_of_local(stack).now()).next()
    assert run.story(stack, csv_file(tmp_path, rows), console, zones)
    text = shown.getvalue()
    assert "Imported 20 subscriptions: 20 new, 0 changed, 0 unchanged, 0 outdated." in text
    assert "credits granted" in text
    assert "credits expired" in text
    assert text.count("holds") == 6
    assert "BROKEN" not in text
    services = services_of_local(stack)
    posted = [entry for row in rows for entry in services.ledger.history(row.split(",")[0])]
    assert {entry.type for entry in posted} == {EntryType.ALLOCATION, EntryType.EXPIRATION}
    # Nothing is posted before it is due, nor long after: the clock stood there.
    late = [entry.posted_at - entry.effective_at for entry in posted]
    assert all(timedelta(0) <= each < timedelta(minutes=10) for each in late)
    assert max(entry.posted_at for entry in posted) <= services.now()
    # It stands where the credits of the lowest plan have expired, wherever somebody lives.
    expires_on = month.first_day + timedelta(days=turn.EXPIRY_TURN_AFTER)
    expired_at = max(calendar.midnight(zone, expires_on) for zone in zones)
    assert timedelta(0) <= services.now() - expired_at < timedelta(minutes=5)


def test_a_file_with_a_bad_row_imports_nothing(stack: LocalStack, tmp_path: Path) -> None:
    file = csv_file(tmp_path, ["nobody-1,nobody,UTC,pro,yearly,active,2025-01-01T00:00:00Z,,"])
    with pytest.raises(UnreadableFileError, match="1 rows are wrong"):
        run.story(stack, file, Console(file=io.StringIO()))
    assert services_of_local(stack).subscriptions.find("nobody-1") is None


@pytest.mark.parametrize("queue", ["sweeps", "allocations", "expiries"])
def test_a_malformed_message_ends_in_the_dead_letter_queue_with_its_body_intact(
    stack: LocalStack, queue: str
) -> None:
    sqs = stack.client("sqs")
    body = '{"this is": "no message of ours", "ünïcode": "✓"'
    sqs.send_message(QueueUrl=stack.queues[queue], MessageBody=body)

    def dead() -> str | None:
        messages = sqs.receive_message(QueueUrl=stack.queues[f"{queue}-dlq"]).get("Messages")
        return str(messages[0]["Body"]) if messages else None

    # Its function hands it back, and does not wait for the queue's timeout of half a minute.
    assert wait_for(dead, "the message in the dead-letter queue", 60) == body
    sqs.purge_queue(QueueUrl=stack.queues[f"{queue}-dlq"])


def test_an_admin_invokes_manual_allocate_by_its_name(stack: LocalStack, tmp_path: Path) -> None:
    services = services_of_local(stack)
    row = "lambda-1,ada@example.com,Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z,,"
    checked = SUBSCRIPTIONS.check(services, read_csv(csv_file(tmp_path, [row])))
    import_rows(SUBSCRIPTIONS, services, checked.good)
    event = {
        "user_id": "lambda-1",
        "amount": 50,
        "description": "Goodwill",
        "actor": "ada",
        "idempotency_key": "a",
    }
    functions = stack.client("lambda")

    def invoke(**changes: object) -> dict[str, object]:
        answer = functions.invoke(
            FunctionName="credits-local-manual-allocate",
            Payload=json.dumps({**event, **changes}).encode(),
        )
        assert "FunctionError" not in answer
        payload: dict[str, object] = json.loads(answer["Payload"].read())
        return payload

    expected = {"success": True, "new_balance": 50, "transaction_id": "lambda-1-1"}
    assert invoke() == expected
    assert invoke() == expected
    assert invoke(amount=51)["success"] is False
    assert invoke(amount=0)["error"]["errors"][0]["field"] == "amount"  # type: ignore[index]
    assert len(services.ledger.history("lambda-1")) == 1


def test_a_users_many_batches_are_all_written_in_the_order_of_the_file(
    stack: LocalStack, tmp_path: Path
) -> None:
    services = services_of_local(stack)
    users = ("many-1", "many-2")
    rows = [f"{user},,UTC,pro,yearly,active,2025-01-01T00:00:00Z,," for user in users]
    people = SUBSCRIPTIONS.check(services, read_csv(csv_file(tmp_path, rows)))
    import_rows(SUBSCRIPTIONS, services, people.good)
    batches = [
        f"{user}/{place},{user},{place},2025-01-01T00:00:00Z"
        for place in range(1, 41)
        for user in users
    ]
    text = "\n".join(("reference,user_id,amount,granted_at", *batches))
    imported = import_rows(BALANCES, services, BALANCES.check(services, text).good)
    assert (imported.counts, imported.failures) == ({"new": 80}, [])
    for user in users:
        account = services.ledger.verify(user)
        assert [batch.remaining for batch in account.batches] == list(range(1, 41))
    again = import_rows(BALANCES, services, BALANCES.check(services, text).good)
    assert again.counts == {"unchanged": 80}


def test_the_ledgers_stream_carries_every_entry(stack: LocalStack) -> None:
    services = services_of_local(stack)
    entry = services.ledger.history("lambda-1")[0]
    request = Request("manual#test#batch", "test", "Inserted in a batch", silent=True)
    second = draft(
        services.ledger.account("lambda-1"),
        lambda account: ledger.grant(account, 1, request, services.now(), "UTC", None),
    )
    assert second
    assert services.ledger.insert([second]).appended == [second]
    streams = stack.client("dynamodbstreams")
    arn = stack.client("dynamodb").describe_table(TableName=stack.tables["ledger"])["Table"][
        "LatestStreamArn"
    ]
    found = []
    for shard in streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]:
        iterator = streams.get_shard_iterator(
            StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            page = streams.get_records(ShardIterator=iterator)
            found += [record["dynamodb"]["Keys"] for record in page["Records"]]
            iterator = page.get("NextShardIterator") if page["Records"] else None
    for number in (1, 2):
        assert {"user_id": {"S": "lambda-1"}, "entry": {"S": f"entry#{number:012}"}} in found
    assert format_instant(entry.posted_at)
