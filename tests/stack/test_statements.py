"""PartiQL on the emulator does what it does on AWS, where ministack's own does not."""

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra.local.stacks import LocalStack
from tests.stack.conftest import wait_for

Json = dict[str, Any]


class Table:
    """A table with an index and a stream, all to itself."""

    def __init__(self, stack: LocalStack) -> None:
        self.client = stack.client("dynamodb")
        self._streams = stack.client("dynamodbstreams")
        self.name = "statements"
        keys = ("id", "part", "zone", "due")
        made = self.client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=_schema("id", "part"),
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "due",
                    "KeySchema": _schema("zone", "due"),
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            ],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )
        self._stream = made["TableDescription"]["LatestStreamArn"]

    def insertion(self, identity: str, **more: str) -> Json:
        """The statement that inserts an item."""
        item = {"id": identity, "part": "1", **more}
        names = ", ".join(f"'{name}': ?" for name in item)
        return {
            "Statement": f'INSERT INTO "{self.name}" VALUE {{{names}}}',
            "Parameters": [{"S": value} for value in item.values()],
        }

    def items(self) -> set[str]:
        """What is there."""
        return {item["id"]["S"] for item in self.client.scan(TableName=self.name)["Items"]}

    def changes(self) -> list[tuple[str, str]]:
        """What the stream says, in order."""
        described = self._streams.describe_stream(StreamArn=self._stream)["StreamDescription"]
        (shard,) = described["Shards"]
        iterator = self._streams.get_shard_iterator(
            StreamArn=self._stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = self._streams.get_records(ShardIterator=iterator)["Records"]
        return [(each["eventName"], each["dynamodb"]["Keys"]["id"]["S"]) for each in records]


def _schema(partition: str, sort: str) -> list[Json]:
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": sort, "KeyType": "RANGE"},
    ]


@pytest.fixture
def table(stack: LocalStack) -> Iterator[Table]:
    made = Table(stack)
    yield made
    made.client.delete_table(TableName=made.name)


def refused(call: Any, **asked: Any) -> Json:
    """What an operation is refused with."""
    with pytest.raises(ClientError) as error:
        call(**asked)
    said: Json = dict(error.value.response)
    return said


def test_an_item_that_is_there_is_a_duplicate_however_it_is_inserted(table: Table) -> None:
    there, new = table.insertion("a", text="first"), table.insertion("b")
    table.client.execute_statement(**there)
    second = table.insertion("a", text="second")
    alone = refused(table.client.execute_statement, **second)
    assert alone["Error"]["Code"] == "DuplicateItemException"
    batch = table.client.batch_execute_statement(Statements=[second, new])["Responses"]
    assert [each.get("Error", {}).get("Code") for each in batch] == ["DuplicateItem", None]
    for statements, codes in (
        ([table.insertion("c"), second], ["None", "DuplicateItem"]),
        ([second, new], ["DuplicateItem", "DuplicateItem"]),
    ):
        whole = refused(table.client.execute_transaction, TransactStatements=statements)
        assert whole["Error"]["Code"] == "TransactionCanceledException"
        assert [each["Code"] for each in whole["CancellationReasons"]] == codes
        assert not any("Item" in each for each in whole["CancellationReasons"])
    assert table.items() == {"a", "b"}
    key = {"id": {"S": "a"}, "part": {"S": "1"}}
    found = table.client.get_item(TableName=table.name, Key=key)["Item"]
    assert found["text"] == {"S": "first"}


def test_a_transaction_of_inserts_is_carried_out_once_however_often_it_is_asked_for(
    table: Table,
) -> None:
    asked = {"TransactStatements": [table.insertion("a"), table.insertion("b")]}
    for _ in range(2):
        table.client.execute_transaction(**asked, ClientRequestToken="token")
    other = {"TransactStatements": [table.insertion("c")], "ClientRequestToken": "token"}
    said = refused(table.client.execute_transaction, **other)
    assert said["Error"]["Code"] == "IdempotentParameterMismatchException"
    assert table.items() == {"a", "b"}


def test_what_is_no_item_is_not_inserted(table: Table) -> None:
    empty = table.insertion("a", zone="", due="2026-01-01")
    assert refused(table.client.execute_statement, **empty)["Error"]["Code"] == (
        "ValidationException"
    )
    (answer,) = table.client.batch_execute_statement(Statements=[empty])["Responses"]
    assert answer["Error"]["Code"] == "ValidationError"
    for statements in ([empty], [table.insertion("b"), table.insertion("b", text="again")]):
        said = refused(table.client.execute_transaction, TransactStatements=statements)
        assert said["Error"]["Code"] == "ValidationException"
    assert table.items() == set()


def test_all_that_partiql_changes_is_in_the_stream_and_nothing_else(table: Table) -> None:
    client = table.client
    where = "WHERE id = ? AND part = ?"

    def statement(words: str, identity: str, *values: str) -> Json:
        parameters = [{"S": value} for value in (*values, identity, "1")]
        return {"Statement": f"{words} {where}", "Parameters": parameters}

    update = f'UPDATE "{table.name}" SET words = ?'  # noqa: S608 - of this file alone
    delete = f'DELETE FROM "{table.name}"'  # noqa: S608 - of this file alone
    client.execute_statement(**table.insertion("a"))
    client.batch_execute_statement(Statements=[table.insertion("b"), table.insertion("a")])
    client.execute_transaction(TransactStatements=[table.insertion("c"), table.insertion("d")])
    client.execute_statement(**statement(update, "a", "x"))
    client.batch_execute_statement(Statements=[statement(update, "b", "x")])
    client.execute_transaction(
        TransactStatements=[statement(update, "c", "x"), statement(delete, "d")]
    )
    refused(
        client.execute_transaction,
        TransactStatements=[statement(delete, "a"), statement(update, "nobody", "x")],
    )
    client.execute_statement(**statement(delete, "a"))
    expected = [
        *(("INSERT", identity) for identity in "abcd"),
        *(("MODIFY", identity) for identity in "abc"),
        ("REMOVE", "d"),
        ("REMOVE", "a"),
    ]
    assert wait_for(lambda: len(table.changes()) >= len(expected), "the stream")
    assert table.changes() == expected


def test_an_insert_costs_what_a_put_of_the_item_costs(table: Table) -> None:
    """A unit for each kilobyte begun, one more for the index, and twice that in a transaction.

    (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/read-write-operations.html)
    """
    asked = {"ReturnConsumedCapacity": "TOTAL"}
    for number, (more, units) in enumerate(
        (
            ({}, 1),
            ({"text": "x" * 2500}, 3),
            ({"zone": "Europe/Paris", "due": "2026-01-01"}, 2),
        )
    ):
        alone = table.client.execute_statement(**table.insertion(f"alone{number}", **more), **asked)
        assert alone["ConsumedCapacity"]["CapacityUnits"] == units
        batch = table.client.batch_execute_statement(
            Statements=[table.insertion(f"batch{number}", **more)], **asked
        )
        assert [each["CapacityUnits"] for each in batch["ConsumedCapacity"]] == [units]
        whole = table.client.execute_transaction(
            TransactStatements=[table.insertion(f"whole{number}", **more)], **asked
        )
        # The index follows by itself, at the usual price.
        expected = units * 2 if "zone" not in more else 3
        assert [each["CapacityUnits"] for each in whole["ConsumedCapacity"]] == [expected]


def test_of_a_transaction_of_several_verbs_each_reason_has_its_name(table: Table) -> None:
    client = table.client
    client.execute_statement(**table.insertion("a"))
    update = {
        "Statement": f'UPDATE "{table.name}" SET "words" = ? WHERE "id" = ? AND "part" = ?',  # noqa: S608 - of this file alone
        "Parameters": [{"S": "new"}, {"S": "nobody"}, {"S": "1"}],
    }

    def reasons(*statements: Json) -> list[str]:
        with pytest.raises(ClientError) as refused:
            client.execute_transaction(TransactStatements=list(statements))
        answer: Json = dict(refused.value.response)
        return [reason["Code"] for reason in answer["CancellationReasons"]]

    assert reasons(table.insertion("b"), update) == ["None", "ConditionalCheckFailed"]
    assert table.items() == {"a"}, "all or nothing"
    client.execute_statement(**table.insertion("c"))
    there = {**update, "Parameters": [{"S": "new"}, {"S": "c"}, {"S": "1"}]}
    assert reasons(table.insertion("a"), there) == ["DuplicateItem", "None"]
