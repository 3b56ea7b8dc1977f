"""The client of DynamoDB: how long it waits, how often it tries again, and what it is told."""

import random
import sys
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from chalicelib import metrics, retries
from chalicelib.metrics import Metric
from chalicelib.store import database, errors
from chalicelib.store.conditions import is_still, when
from chalicelib.store.database import number, text
from chalicelib.store.errors import OutOfTime
from chalicelib.store.throttling import patient
from chalicelib.store.wire.client import MOST_ATTEMPTS
from chalicelib.store.wire.credentials import Found
from chalicelib.store.wire.errors import WireError
from chalicelib.store.wire.exchange import Answer
from chalicelib.store.wire.signing import Keys


def test_a_client_gives_up_in_seconds_and_keeps_a_connection_for_every_thread() -> None:
    client = database.connect(
        "eu-west-1",
        threads=20,
        endpoint_url="http://127.0.0.1:9",
        access_key="who",
        secret_key="secret",  # noqa: S106 - of nobody
    )
    transport = client.transport
    assert (transport.connect_timeout, transport.read_timeout) == (2, 5)
    assert (transport.endpoint.url, transport._most_kept) == ("http://127.0.0.1:9", 20)
    assert MOST_ATTEMPTS == 1 + 3
    assert client._credentials() == Keys("who", "secret")


def test_a_client_finds_endpoint_and_credentials_by_itself_and_keeps_ten_connections_at_least(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    client = database.connect("eu-west-1")
    assert isinstance(client._credentials, Found)
    assert client.transport.endpoint.url == "https://dynamodb.eu-west-1.amazonaws.com"
    assert client.transport._most_kept == 10


def test_a_client_waits_for_room_no_longer_than_an_invocation_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = database.connect("eu-west-1", access_key="who", secret_key="secret")  # noqa: S106
    throttled = Answer(400, {}, b'{"__type": "x#ThrottlingException"}')
    monkeypatch.setattr(client.transport, "send", lambda *_: throttled)
    with patient(lambda: 0, 5_000), pytest.raises(OutOfTime):
        client.call("Query", {})


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


def test_the_faults_of_the_sdk_count_only_where_something_has_imported_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert errors.faults() == (WireError, OutOfTime, BotoCoreError, ClientError)
    monkeypatch.delitem(sys.modules, "botocore.exceptions")
    assert errors.faults() == (WireError, OutOfTime)


def test_a_write_depends_on_the_version_that_was_read_though_it_may_have_none() -> None:
    missing = {
        "ConditionExpression": "attribute_not_exists (#0)",
        "ExpressionAttributeNames": {"#0": "version"},
    }
    assert when(is_still(None)) == when(is_still({"user_id": text("1")})) == missing
    assert when(is_still({"version": number(7)})) == {
        "ConditionExpression": "#0 = :0",
        "ExpressionAttributeNames": {"#0": "version"},
        "ExpressionAttributeValues": {":0": {"N": "7"}},
    }


def test_attributes_are_written_as_dynamodb_has_them() -> None:
    assert text("a") == {"S": "a"}
    assert number(-5) == {"N": "-5"}


def test_a_batch_has_as_many_keys_as_dynamodb_takes() -> None:
    """docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
    assert database.MOST_KEYS_A_BATCH == 100
