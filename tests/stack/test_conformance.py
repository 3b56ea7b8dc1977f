"""The DynamoDB in memory, the simulation's, answers as the emulator's does."""

from collections.abc import Iterator

import pytest

from chalicelib.store.wire.sdk_shaped import SdkShaped
from infra.local.stacks import LocalStack
from tests.simulation import aws
from tests.simulation.conformance import BUCKET, Calls, create_tables, difference

STAGE = "conformance"
SEQUENCES, CALLS = 12, 60


@pytest.fixture
def tables(stack: LocalStack) -> Iterator[aws.State]:
    """The tables of a stage of its own, in both: nobody listens to their stream."""
    state = aws.create(STAGE)
    client = stack.client("dynamodb")
    create_tables(client, state.dynamodb.tables.values())
    yield state
    for table in state.dynamodb.tables:
        client.delete_table(TableName=table)


def test_the_database_in_memory_answers_as_the_emulator_does(
    stack: LocalStack, tables: aws.State
) -> None:
    emulator = stack.client("dynamodb")
    with aws.answering(aws.Services(tables)):
        for seed in range(SEQUENCES):
            calls = Calls(seed, STAGE, f"sequence{seed}").some(CALLS)
            assert difference(SdkShaped(aws.dynamodb()), emulator, calls) is None


def test_the_bucket_in_memory_answers_as_the_emulator_does(stack: LocalStack) -> None:
    emulator = stack.client("s3")
    emulator.create_bucket(Bucket=BUCKET)
    with aws.answering(aws.Services()):
        for seed in range(SEQUENCES):
            calls = Calls(seed, STAGE, "").of_objects(CALLS)
            assert difference(aws.client("s3", 4), emulator, calls) is None
