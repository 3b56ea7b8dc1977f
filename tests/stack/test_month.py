"""The month turns on the deployed stack: ticks, queues, workers, each under its own role."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from chalicelib.domain import ledger
from chalicelib.domain.instants import format_instant
from chalicelib.domain.ledger import Request
from chalicelib.store.ledger import draft
from infra import run
from infra.csv_file import UnreadableFileError
from infra.csv_file import read as read_csv
from infra.import_balances import BALANCES
from infra.import_subscriptions import SUBSCRIPTIONS
from infra.importing import import_rows
from infra.local import LocalStack
from infra.stacks import services_of_local
from tests.stack.conftest import quick_redelivery, wait_for

ROWS = run.SAMPLE.read_text().splitlines()


def csv_file(directory: Path, rows: list[str]) -> Path:
    file = directory / "people.csv"
    file.write_text("\n".join((ROWS[0], *rows)) + "\n")
    return file


def test_a_file_of_subscriptions_is_imported_turned_shown_and_every_invariant_holds(
    stack: LocalStack, tmp_path: Path
) -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=140)
    rows = ROWS[1:61]
    zones = {row.split(",")[2] for row in rows}
    assert run.story(stack, csv_file(tmp_path, rows), console, zones)
    text = shown.getvalue()
    assert "Imported 60 subscriptions: 60 new, 0 changed, 0 unchanged, 0 outdated." in text
    assert "credits granted" in text
    assert "credits expired" in text
    assert text.count("holds") == 6
    assert "BROKEN" not in text


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
    with quick_redelivery(stack, queue):
        sqs.send_message(QueueUrl=stack.queues[queue], MessageBody=body)

        def dead() -> str | None:
            messages = sqs.receive_message(QueueUrl=stack.queues[f"{queue}-dlq"]).get("Messages")
            return str(messages[0]["Body"]) if messages else None

        assert wait_for(dead, "the message in the dead-letter queue") == body
    sqs.purge_queue(QueueUrl=stack.queues[f"{queue}-dlq"])


def test_an_admin_invokes_manual_allocate_by_its_name(stack: LocalStack, tmp_path: Path) -> None:
    services = services_of_local(stack)
    row = "lambda-1,ada@example.com,Europe/Paris,pro,yearly,active,2025-01-01T00:00:00Z,,"
    checked = SUBSCRIPTIONS.check(services, read_csv(csv_file(tmp_path, [row])))
    import_rows(SUBSCRIPTIONS, services, checked.good)
    event = {
        "user_id": "lambda-1",
        "amount": 50,
        "reason": "Goodwill",
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
