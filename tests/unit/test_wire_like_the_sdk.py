"""The wire sends what botocore sends, and makes of every answer what botocore makes of it.

Botocore knows the operations from AWS's own model of the service, and from that model come the
examples here: neither is ours.
"""

import io
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as NotConnected
from botocore.retries.standard import ThrottledRetryableChecker, TransientRetryableChecker
from hypothesis import given, settings
from hypothesis import strategies as st

from chalicelib.store.wire import retrying
from chalicelib.store.wire.client import Client
from chalicelib.store.wire.endpoints import endpoint_of
from chalicelib.store.wire.errors import NoAnswer, ServiceError
from chalicelib.store.wire.exchange import Answer
from chalicelib.store.wire.signing import Keys
from chalicelib.store.wire.transport import Transport

REGION = "eu-west-1"
NOW = 1_800_000_000.0
KEYS = Keys("AKIDEXAMPLE", "secret", "token")

OPERATIONS = [
    *("BatchExecuteStatement", "BatchGetItem", "DeleteItem", "DescribeTable", "ExecuteStatement"),
    *("ExecuteTransaction", "GetItem", "PutItem", "Query", "Scan", "TransactGetItems"),
    "UpdateItem",
]
"""What the product calls."""


# --- Examples from the model ---------------------------------------------------------------------


def example(shape: Any, dice: random.Random, depth: int = 0) -> Any:  # noqa: PLR0911 - one a type
    """A value of a shape. Binary values and instants are left out: there the two differ."""
    least = int(shape.metadata.get("min", 0))
    match shape.type_name:
        case "structure":
            return _structure(shape, dice, depth)
        case "list":
            size = max(least, dice.randrange(3) if depth < 6 else 0)
            return [example(shape.member, dice, depth + 1) for _ in range(size)]
        case "map":
            size = max(least, dice.randrange(3) if depth < 6 else 0)
            return {
                example(shape.key, dice): example(shape.value, dice, depth + 1) for _ in range(size)
            }
        case "string":
            if shape.enum:
                return dice.choice(shape.enum)
            return "".join(dice.choices('aZ09_#:" \\/\n\x7fäß€😀\u2028', k=max(least, 3)))
        case "boolean":
            return dice.random() < 0.5
        case "double":
            return dice.choice([0.5, 1.0, 2.5, 1e22])
        case _:  # integer, long
            return max(least, dice.choice([0, 1, 7, 2**31 - 1]))


def _structure(shape: Any, dice: random.Random, depth: int) -> dict[str, Any]:
    members = {
        name: member
        for name, member in shape.members.items()
        if member.type_name not in ("blob", "timestamp")
        and name not in ("BS", "ClientRequestToken")
    }
    if shape.name == "AttributeValue":
        name = dice.choice(sorted(members if depth < 6 else ["S", "N"]))
        return {name: example(members[name], dice, depth + 1)}
    return {
        name: example(member, dice, depth + 1)
        for name, member in members.items()
        if name in shape.required_members or (depth < 6 and dice.random() < 0.5)
    }


class _Body(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


class Sdk:
    """Botocore's client, as the product has had it, and what it sends."""

    def __init__(self) -> None:
        self.client: Any = botocore.session.get_session().create_client(
            "dynamodb",
            region_name=REGION,
            endpoint_url=f"https://dynamodb.{REGION}.amazonaws.com",
            aws_access_key_id=KEYS.access_key,
            aws_secret_access_key=KEYS.secret_key,
            aws_session_token=KEYS.token,
            config=Config(retries={"mode": "standard", "total_max_attempts": 4}),
        )
        self.client.meta.events.register_first("before-send.dynamodb", self._answer)
        self.sent: list[tuple[str, str]] = []
        self.answer: Answer | Exception = Answer(200, {}, b"{}")

    def _answer(self, request: AWSPreparedRequest, **_: object) -> Any:
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        self.sent.append((headers["authorization"], _text(request.body)))
        if isinstance(self.answer, Exception):
            raise self.answer
        status, said, body = self.answer
        raw: Any = _Body(body)
        return AWSResponse(request.url, status, HTTPHeaders.from_dict(said), raw)

    def outcome(self, operation: str, parameters: dict[str, Any]) -> Any:
        """What it answers, or the code of its error; and how often it sent."""
        self.sent.clear()
        try:
            said = self.client._make_api_call(operation, parameters)
        except ClientError as error:
            response: Any = error.response
            failed = response["Error"]
            reasons = response.get("CancellationReasons")
            return failed["Code"], failed["Message"], reasons, len(self.sent)
        except (NotConnected, HTTPClientError):
            return "none", len(self.sent)
        del said["ResponseMetadata"]
        return said, len(self.sent)


class Wire(Transport):
    """Ours, and what it sends."""

    def __init__(self) -> None:
        super().__init__(endpoint_of(REGION, environment={}), 2, 5, 10)
        self.client = Client(REGION, self, lambda: KEYS)
        self.sent: list[tuple[str, str]] = []
        self.answer: Answer | NoAnswer = Answer(200, {}, b"{}")

    def send(self, headers: dict[str, str], body: bytes) -> Answer:
        self.sent.append((headers["authorization"], body.decode()))
        if isinstance(self.answer, NoAnswer):
            raise self.answer
        return self.answer

    def outcome(self, operation: str, parameters: dict[str, Any]) -> Any:
        """The same."""
        self.sent.clear()
        try:
            said = self.client.call(operation, parameters)
        except ServiceError as error:
            reasons = error.said.get("CancellationReasons")
            return error.code, error.message, reasons, len(self.sent)
        except NoAnswer:
            return "none", len(self.sent)
        return said, len(self.sent)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)


@cache
def _both() -> tuple[Sdk, Wire]:
    return Sdk(), Wire()


@pytest.fixture(autouse=True)
def both() -> Iterator[tuple[Sdk, Wire]]:
    """The two, at the same instant; nothing sleeps, and both may retry as much as they want."""
    sdk, wire = _both()
    wire.client.quota.give_back(500)
    wire.client._skew = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.auth.get_current_datetime", _then)
        patch.setattr(time, "sleep", lambda _: None)
        patch.setattr("botocore.retries.quota.RetryQuota.acquire", lambda *_: True)
        patch.setattr(time, "time", lambda: NOW)
        yield sdk, wire


def _then(remove_tzinfo: bool = True) -> datetime:  # noqa: FBT001, FBT002 - as botocore calls it
    then = datetime.fromtimestamp(NOW, UTC)
    return then.replace(tzinfo=None) if remove_tzinfo else then


def _model(operation: str) -> Any:
    return _both()[0].client.meta.service_model.operation_model(operation)


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(deadline=None, max_examples=15)
@given(dice=st.randoms(use_true_random=False))
def test_a_request_has_the_body_and_the_signature_that_botocore_gives_it(
    operation: str, dice: random.Random
) -> None:
    sdk, wire = _both()
    parameters = example(_model(operation).input_shape, dice)
    if operation == "ExecuteTransaction":
        parameters["ClientRequestToken"] = "one"
    sdk.answer = wire.answer = Answer(200, {}, b"{}")
    assert sdk.outcome(operation, parameters) == wire.outcome(operation, parameters) == ({}, 1)
    assert wire.sent == sdk.sent


@pytest.mark.parametrize("operation", OPERATIONS)
@settings(deadline=None, max_examples=15)
@given(dice=st.randoms(use_true_random=False))
def test_an_answer_is_read_as_botocore_reads_it(operation: str, dice: random.Random) -> None:
    sdk, wire = _both()
    said = example(_model(operation).output_shape, dice)
    sdk.answer = wire.answer = Answer(200, {}, json.dumps(said).encode())
    parameters = {**example(_model(operation).input_shape, dice), **_TOKEN.get(operation, {})}
    assert wire.outcome(operation, parameters) == sdk.outcome(operation, parameters) == (said, 1)


_TOKEN = {"ExecuteTransaction": {"ClientRequestToken": "one"}}

_QUERY = {"TableName": "table"}

_THROTTLED_CHECKER: Any = ThrottledRetryableChecker
_TRANSIENT_CHECKER: Any = TransientRetryableChecker

CODES = sorted(
    {
        *_THROTTLED_CHECKER._THROTTLED_ERROR_CODES,
        *_TRANSIENT_CHECKER._TRANSIENT_ERROR_CODES,
        *("AccessDeniedException", "ConditionalCheckFailedException", "DuplicateItemException"),
        *("ExpiredTokenException", "InternalServerError", "ItemCollectionSizeLimitExceeded"),
        *("RequestTimeTooSkewed", "InvalidSignatureException", "ReplicatedWriteConflictException"),
        *("ResourceNotFoundException", "ThrottlingError", "TransactionCanceledException"),
        *("TransactionConflictException", "UnrecognizedClientException", "ValidationException"),
    }
)


@pytest.mark.parametrize("code", CODES)
def test_an_error_is_met_as_often_and_means_the_same_as_with_botocore(
    both: tuple[Sdk, Wire], code: str
) -> None:
    sdk, wire = both
    reasons = [{"Code": "None"}, {"Code": "ConditionalCheckFailed", "Message": "no"}]
    for status in (400, 500, 503):
        for form in ("{}", "com.amazonaws.dynamodb.v20120810#{}", "a.b#{}:http://internal/"):
            for key in ("message", "Message"):
                said: dict[str, Any] = {"__type": form.format(code), key: "so it is"}
                if code == "TransactionCanceledException":
                    said["CancellationReasons"] = reasons
                sdk.answer = wire.answer = Answer(status, {}, json.dumps(said).encode())
                wire.client.quota.give_back(500)
                ours = wire.outcome("ExecuteTransaction", {"TransactStatements": _STATEMENTS})
                theirs = sdk.outcome("ExecuteTransaction", {"TransactStatements": _STATEMENTS})
                assert ours == theirs


_STATEMENTS = [{"Statement": "INSERT"}]


@pytest.mark.parametrize("status", [301, 400, 403, 404, 413, 500, 502, 503, 504])
@pytest.mark.parametrize("body", ["", "<html>Bad Gateway</html>", "{}"])
def test_an_error_that_is_not_dynamodbs_has_the_status_for_a_code(
    both: tuple[Sdk, Wire], status: int, body: str
) -> None:
    sdk, wire = both
    sdk.answer = wire.answer = Answer(status, {}, body.encode())
    ours, theirs = wire.outcome("Query", _QUERY), sdk.outcome("Query", _QUERY)
    assert (ours[0], ours[-1]) == (theirs[0], theirs[-1])


def test_no_answer_is_met_as_often_as_with_botocore(both: tuple[Sdk, Wire]) -> None:
    sdk, wire = both
    sdk.answer, wire.answer = HTTPClientError(error="gone"), NoAnswer("gone")
    assert wire.outcome("Query", _QUERY) == sdk.outcome("Query", _QUERY) == ("none", 4)


def test_the_codes_of_throttling_are_botocores() -> None:
    assert {*_THROTTLED_CHECKER._THROTTLED_ERROR_CODES} == retrying.THROTTLED
    assert {*_TRANSIENT_CHECKER._TRANSIENT_ERROR_CODES} == retrying.TRANSIENT
    statuses = _TRANSIENT_CHECKER._TRANSIENT_STATUS_CODES
    assert {*statuses} == retrying.TRANSIENT_STATUSES


# --- Endpoints -----------------------------------------------------------------------------------


def test_every_region_has_the_endpoint_that_botocore_gives_it() -> None:
    session = botocore.session.get_session()
    loader = session.get_component("data_loader")
    partitions = loader.load_data("partitions")
    rules = loader.load_service_model("dynamodb", "endpoint-rule-set-1")
    provider = EndpointProvider(rules, partitions)
    regions = [region for each in partitions["partitions"] for region in each["regions"]]
    assert len(regions) > 40
    for region in (*regions, "eu-somewhere-9"):
        if region.endswith("-global"):
            continue
        for is_fips in (False, True):
            for is_dual in (False, True):
                theirs = provider.resolve_endpoint(
                    Region=region, UseFIPS=is_fips, UseDualStack=is_dual
                )
                environment = {
                    "AWS_USE_FIPS_ENDPOINT": str(is_fips),
                    "AWS_USE_DUALSTACK_ENDPOINT": str(is_dual).lower(),
                }
                ours = endpoint_of(region, environment=environment)
                assert (f"https://{ours.host}", ours.is_https, ours.port) == (theirs.url, True, 443)
