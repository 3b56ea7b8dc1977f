"""The DynamoDB in memory answers as moto does: the same random calls, one after the other."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from moto import mock_aws
from moto.core.models import botocore_stubber

from chalicelib.store.wire.sdk_shaped import SdkShaped
from tests.aws import partiql
from tests.simulation import aws, dynamodb
from tests.simulation.conformance import BUCKET, Call, Calls, create_tables, difference

SEQUENCES, CALLS = 12, 60


def _differences(monkeypatch: pytest.MonkeyPatch, calls: Callable[[Calls], Any]) -> list[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    partiql.install(monkeypatch)
    services = aws.Services(aws.create("dev"))
    with mock_aws(), aws.answering(services):
        moto = boto3.client("dynamodb", region_name=aws.REGION)
        create_tables(moto, services.state.dynamodb.tables.values())
        ours = SdkShaped(aws.dynamodb())
        found = (
            difference(ours, moto, calls(Calls(seed, "dev", f"sequence{seed}")))
            for seed in range(SEQUENCES)
        )
        return [each for each in found if each]


def _some(calls: Calls) -> Iterator[Call]:
    return calls.some(CALLS)


def test_the_database_in_memory_answers_as_moto_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _differences(monkeypatch, _some) == []


def test_a_page_ends_at_as_many_bytes_as_in_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _differences(monkeypatch, Calls.of_many_bytes) == []


def test_the_bucket_in_memory_answers_as_in_moto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    ours = aws.client("s3", 4)
    # A client asks everybody who could answer: moto would carry out our calls, too.
    ours.meta.events.unregister("before-send", botocore_stubber)
    with mock_aws(), aws.answering(aws.Services()):
        moto = boto3.client("s3", region_name="us-east-1")
        moto.create_bucket(Bucket=BUCKET)
        for seed in range(SEQUENCES):
            assert difference(ours, moto, Calls(seed, "dev", "").of_objects(CALLS)) is None


def test_a_database_that_answers_otherwise_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with patch.object(dynamodb.Tables, "_check", lambda *_: None):
        assert _differences(monkeypatch, _some)
    with patch.object(dynamodb, "MOST_PAGE_BYTES", 2_000_000), monkeypatch.context() as more:
        assert _differences(more, Calls.of_many_bytes)
