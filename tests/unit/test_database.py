"""The client of DynamoDB: how long it waits, how often it tries again, and what it is told."""

import random
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from pynamodb.connection import Connection
from pynamodb.exceptions import PutError

from chalicelib import metrics, retries
from chalicelib.metrics import Metric
from chalicelib.store import database, errors
from chalicelib.store.errors import OutOfTime
from chalicelib.store.throttling import patient


def client_error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "PutItem")


def test_a_client_gives_up_in_seconds_and_has_a_connection_for_every_thread() -> None:
    connection = database.connect(
        "eu-west-1",
        threads=20,
        endpoint_url="http://127.0.0.1:9",
        access_key="who",
        secret_key="secret",  # noqa: S106 - of nobody
    )
    client = connection._client
    assert client, "it is made before threads ask for it"
    config: Any = client.meta.config
    assert (config.connect_timeout, config.read_timeout) == (2, 5)
    assert config.retries["total_max_attempts"] == 1 + 3
    assert config.max_pool_connections == 20
    assert config.user_agent.startswith("credits botocore/1.")
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.endpoint_url == "http://127.0.0.1:9"
    credentials = client._request_signer._credentials
    assert (credentials.access_key, credentials.secret_key) == ("who", "secret")


def test_a_client_waits_for_room_no_longer_than_an_invocation_can() -> None:
    connection = database.connect("eu-west-1", access_key="who", secret_key="secret")  # noqa: S106
    throttled = (None, {"Error": {"Code": "ThrottlingException"}})
    with patient(lambda: 0, 5_000), pytest.raises(OutOfTime):
        connection.client.meta.events.emit(
            "needs-retry.dynamodb.Query", response=throttled, attempts=1
        )


def test_a_client_has_ten_connections_at_least() -> None:
    connection = database.connect("eu-west-1", access_key="who", secret_key="secret")  # noqa: S106
    config: Any = connection.client.meta.config
    assert config.max_pool_connections == 10


def test_a_table_is_described_so_that_aws_need_not_be_asked() -> None:
    connection = Connection(region="eu-west-1")
    database.describe(connection, "t", ("user", "line"), by_zone=("zone", "user"))
    assert connection.get_meta_table("t").data == {
        "TableName": "t",
        "KeySchema": [
            {"AttributeName": "user", "KeyType": "HASH"},
            {"AttributeName": "line", "KeyType": "RANGE"},
        ],
        "AttributeDefinitions": [
            {"AttributeName": name, "AttributeType": "S"} for name in ("line", "user", "zone")
        ],
        "GlobalSecondaryIndexes": [
            {
                "IndexName": "by_zone",
                "KeySchema": [
                    {"AttributeName": "zone", "KeyType": "HASH"},
                    {"AttributeName": "user", "KeyType": "RANGE"},
                ],
            },
        ],
    }


def test_pauses_are_random_under_a_ceiling_that_doubles_up_to_half_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    bounds: list[float] = []

    def uniform(low: float, high: float) -> float:
        bounds.extend((low, high))
        return high / 2

    monkeypatch.setattr(random, "uniform", uniform)
    monkeypatch.setattr(time, "sleep", slept.append)
    for attempt in (1, 2, 3, 6, 7, 24):
        retries.pause_with_jitter(attempt)
    assert bounds[::2] == [0] * 6
    assert bounds[1::2] == pytest.approx([0.01, 0.02, 0.04, 0.32, 0.5, 0.5])
    assert slept == [high / 2 for high in bounds[1::2]]


def test_attempts_are_bounded_and_each_but_the_first_is_paused_before() -> None:
    paused: list[int] = []
    assert list(retries.attempts(paused.append)) == list(range(25))
    assert paused == list(range(1, 25))


def test_every_race_that_was_lost_is_counted() -> None:
    metrics.flush()
    for attempt in database.races(lambda _: None):
        if attempt == 3:
            break
    assert metrics._counted.get(Metric.CONFLICTS_RETRIED) == [3]
    metrics._counted.clear()


def test_an_error_has_the_services_code_however_it_is_wrapped_and_no_code_without_an_answer() -> (
    None
):
    assert errors.error_code(client_error("Throttled")) == "Throttled"
    assert errors.error_code(PutError("no", client_error("Throttled"))) == "Throttled"
    timeout = ConnectTimeoutError(endpoint_url="http://127.0.0.1:9")
    assert errors.error_code(PutError("no", timeout)) is None
    assert errors.error_code(PutError("no")) is None


def test_attributes_are_written_as_dynamodb_has_them() -> None:
    assert database.text("a") == {"S": "a"}
    assert database.number(-5) == {"N": "-5"}


def test_a_batch_has_as_many_keys_as_dynamodb_takes() -> None:
    """docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
    assert database.MOST_KEYS_A_BATCH == 100
