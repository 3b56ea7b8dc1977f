"""AWS in memory, below all clients: exactly the operations Credits uses, strictly, and failures.

Clients are the real ones. What the wire to DynamoDB would send is answered here, and so is what
botocore would (`before-send`): their serializers, parsers and retries all take part. An operation
or a parameter that is not modelled stops the simulation by name: nothing is answered by guessing.
"""

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import botocore.session
import yaml
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from botocore.retries import quota

from chalicelib.store.database import connect
from chalicelib.store.wire.client import Client
from chalicelib.store.wire.errors import NoAnswer
from chalicelib.store.wire.exchange import Answer
from chalicelib.store.wire.transport import Transport
from tests.simulation.dynamodb import MOST_PAGE_BYTES, NotModelledError, Refused, Table, Tables

REGION = "eu-west-1"
ISSUER = "issuer"
"""The service that publishes the keys of tokens: not AWS, but a call that can fail like all."""
RESOURCES = Path(__file__).parents[2] / "infra" / "resources.yaml"

Json = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """One request as it comes from the SDK; every attempt of the SDK is one."""

    service: str
    operation: str
    parameters: Json

    def __str__(self) -> str:
        return f"{self.service}.{self.operation}"


# --- SQS, SES, S3 --------------------------------------------------------------------


@dataclass
class Message:
    """A message in a queue; ``visible_at`` is when it may be received (0: at once)."""

    id: str
    body: str
    receives: int = 0
    visible_at: float = 0


@dataclass(frozen=True)
class Mail:
    """What SES took."""

    user_id: str
    kind: str
    address: str
    subject: str
    text: str
    correlation: str = ""


@dataclass
class State:
    """All that AWS keeps."""

    dynamodb: Tables = field(default_factory=Tables)
    queues: dict[str, list[Message]] = field(default_factory=dict)
    mails: list[Mail] = field(default_factory=list)
    events: list[Json] = field(default_factory=list)
    """What EventBridge took, as it was asked to."""
    messages: int = 0
    objects: dict[tuple[str, str], str] = field(default_factory=dict)
    """By bucket and key; a text of a character for each byte."""

    def copy(self) -> "State":
        queues = {
            name: [Message(m.id, m.body, m.receives, m.visible_at) for m in messages]
            for name, messages in self.queues.items()
        }
        tables, mails, objects = self.dynamodb.copy(), list(self.mails), dict(self.objects)
        return State(tables, queues, mails, list(self.events), self.messages, objects)

    def bucket(self, name: str) -> dict[str, str]:
        return {key: text for (bucket, key), text in self.objects.items() if bucket == name}


@dataclass
class Services:
    """Everything in AWS that Credits talks to. ``interfere`` decides what becomes of each call."""

    state: State = field(default_factory=State)
    clock: Callable[[], float] = lambda: 0.0
    calls: int = 0
    interfere: "Interference | None" = None
    sent: list[tuple[str, str]] = field(default_factory=list)
    """The queue and the body of every message that was ever taken, in that order."""
    keys: Json = field(default_factory=dict)
    """What the issuer of tokens publishes."""
    put: list[tuple[str, Json]] = field(default_factory=list)
    """The table and the item of all that was ever written but by a plain INSERT, in that order."""

    def answer(self, call: Call) -> Json:
        """Performs a call, unless something interferes."""
        self.calls += 1
        if self.interfere is None:
            return self.perform(call)
        return self.interfere(call, self.perform)

    def perform(self, call: Call, most: int | None = None) -> Json:
        """What the service does. ``most``: a part of what was asked for is enough."""
        if call.service == "dynamodb":
            is_new = call.parameters.get("ClientRequestToken") not in self.state.dynamodb.tokens
            answer = self.state.dynamodb.perform(call.operation, call.parameters, most)
            if call.operation == "PutItem":
                self.put.append((call.parameters["TableName"], call.parameters["Item"]))
            if call.operation == "ExecuteTransaction" and is_new:
                self.put += self.state.dynamodb.left_by(call.parameters["TransactStatements"])
            return answer
        if call.operation in ("SendMessageBatch", "PutEvents"):
            act = self._send if call.service == "sqs" else self._publish
            return act(call.parameters, most)
        acts = {
            "ChangeMessageVisibilityBatch": self._delay,
            "GetQueueAttributes": self._depth,
            "DescribeAlarms": lambda _: {"MetricAlarms": []},
            "SendEmail": self._mail,
        }
        if call.operation in acts:
            return acts[call.operation](call.parameters)
        if call.service == ISSUER:
            return self.keys
        if call.service == "s3":
            return self._object(call.operation, **call.parameters)
        raise NotModelledError(str(call))

    def _send(self, parameters: Json, most: int | None) -> Json:
        name = parameters["QueueUrl"].rpartition("/")[2]
        queue = self.state.queues[name]
        entries = parameters["Entries"]
        if not 1 <= len(entries) <= 10 or len({entry["Id"] for entry in entries}) < len(entries):
            raise Refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
        taken = entries if most is None else entries[:most]
        for entry in taken:
            self.state.messages += 1
            queue.append(Message(f"message-{self.state.messages}", entry["MessageBody"]))
            self.sent.append((name, entry["MessageBody"]))
        left = {"Code": "InternalError", "SenderFault": False}
        return {
            "Successful": [
                {"Id": each["Id"], "MessageId": each["Id"], "MD5OfMessageBody": _md5(each)}
                for each in taken
            ],
            "Failed": [{"Id": each["Id"], **left} for each in entries[len(taken) :]],
        }

    def _delay(self, parameters: Json) -> Json:
        queue = self.state.queues[parameters["QueueUrl"].rpartition("/")[2]]
        by_id = {message.id: message for message in queue}
        done, failed = [], []
        for entry in parameters["Entries"]:
            if not 0 <= entry["VisibilityTimeout"] <= 43_200:
                raise Refused("InvalidParameterValue")
            message = by_id.get(entry["ReceiptHandle"].removeprefix("receipt of "))
            if message is None:  # deleted meanwhile
                code = "AWS.SimpleQueueService.MessageNotInflight"
                failed.append({"Id": entry["Id"], "Code": code, "SenderFault": True})
                continue
            message.visible_at = self.clock() + entry["VisibilityTimeout"]
            done.append({"Id": entry["Id"]})
        return {"Successful": done, "Failed": failed}

    def _depth(self, parameters: Json) -> Json:
        waiting = len(self.state.queues[parameters["QueueUrl"].rpartition("/")[2]])
        numbers = dict.fromkeys(parameters["AttributeNames"], "0")
        return {"Attributes": numbers | {"ApproximateNumberOfMessages": str(waiting)}}

    def _mail(self, parameters: Json) -> Json:
        tags = {tag["Name"]: tag["Value"] for tag in parameters["EmailTags"]}
        (address,) = parameters["Destination"]["ToAddresses"]
        content = parameters["Content"]["Simple"]
        user, correlation = bytes.fromhex(tags["user"]).decode(), tags.get("correlation", "")
        subject, text = content["Subject"]["Data"], content["Body"]["Text"]["Data"]
        mail = Mail(user, tags["kind"], address, subject, text, correlation)
        self.state.mails.append(mail)
        return {"MessageId": f"mail-{len(self.state.mails)}"}

    def _publish(self, parameters: Json, most: int | None) -> Json:
        entries = parameters["Entries"]
        if not 1 <= len(entries) <= 10:
            raise Refused("ValidationException")
        taken = entries if most is None else entries[:most]
        self.state.events += taken
        left = [{"ErrorCode": "InternalFailure"} for _ in entries[len(taken) :]]
        return {
            "FailedEntryCount": len(left),
            "Entries": [*({"EventId": "1"} for _ in taken), *left],
        }

    def _object(self, operation: str, bucket: str, key: str, text: str = "", **more: bool) -> Json:
        """Of S3: what is put under a key, what is there, and which keys begin so."""
        objects = self.state.objects
        if not len(key.encode()) <= _MOST_OBJECT_KEY_BYTES:
            raise Refused("KeyTooLongError")
        match operation:
            case "PutObject" if more["must_be_new"] and (bucket, key) in objects:
                raise Refused("PreconditionFailed", 412)
            case "PutObject":
                objects[bucket, key] = text
                return {}
            case "GetObject" if (bucket, key) in objects:
                return {"text": objects[bucket, key]}
            case "GetObject":
                raise Refused("NoSuchKey", 404)
            case "ListObjectsV2" | "ListObjectVersions":
                keys = sorted(name for name in self.state.bucket(bucket) if name.startswith(key))
                return {"keys": keys}
        raise NotModelledError(f"s3.{operation}")


_MOST_OBJECT_KEY_BYTES = 1024

Perform = Callable[..., Json]
Interference = Callable[[Call, Perform], Json]


def _md5(entry: Json) -> str:
    return hashlib.md5(entry["MessageBody"].encode(), usedforsecurity=False).hexdigest()


def create(stage: str) -> State:
    """The tables and queues of ``infra/resources.yaml``, empty."""
    state = State()
    for resource in _resources():
        properties = resource["Properties"]
        if resource.get("Type") == "AWS::DynamoDB::Table":
            name = properties["TableName"]["Fn::Sub"].replace("${Stage}", stage)
            indexes: Any = {
                index["IndexName"]: _key_names(index["KeySchema"])
                for index in properties.get("GlobalSecondaryIndexes", ())
            }
            keys, has_stream = properties["KeySchema"], "StreamSpecification" in properties
            state.dynamodb.tables[name] = Table(name, _key_names(keys), indexes, has_stream)
        if resource.get("Type") == "AWS::SQS::Queue":
            name = properties["QueueName"]["Fn::Sub"].replace("${Stage}", stage)
            state.queues[name] = []
    return state


@cache
def _resources() -> tuple[Json, ...]:
    document = yaml.safe_load(RESOURCES.read_text(encoding="utf-8"))
    return tuple(document["Resources"].values())


def _key_names(schema: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    by_kind = {key["KeyType"]: key["AttributeName"] for key in schema}
    return tuple(by_kind[kind] for kind in ("HASH", "RANGE") if kind in by_kind)


# --- Between botocore and the wire ----------------------------------------------------------------


class _Body(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


_ANSWERING: list[Services] = []
"""Whose turn it is to answer: the last one."""


@contextmanager
def answering(services: Services) -> Iterator[None]:
    """Within the block these services answer what `client` and `dynamodb` clients ask."""
    _ANSWERING.append(services)
    try:
        yield
    finally:
        _ANSWERING.pop()


def _before_send(request: AWSPreparedRequest, event_name: str, **_: object) -> AWSResponse:
    service, operation = event_name.split(".")[1:]
    is_s3 = service == "s3"
    asked = _asked_of_s3(request, operation) if is_s3 else _asked(request)
    status, answer = 200, Json()
    try:
        answer = _ANSWERING[-1].answer(Call(service, operation, asked))
    except Refused as error:
        status, answer = error.status, error.body
    said = _said_by_s3(operation, answer) if is_s3 else json.dumps(answer).encode()
    headers: dict[str, Any] = {"content-length": str(len(said))}
    if status >= 400:
        headers["x-amzn-errortype"] = answer["__type"]
    return AWSResponse(request.url, status, headers, _Body(said))  # type: ignore[arg-type]


def _asked(request: AWSPreparedRequest) -> Json:
    body: Any = request.body or b"{}"
    asked: Json = json.loads(body)
    return asked


def _asked_of_s3(request: AWSPreparedRequest, operation: str) -> Json:
    url = urlsplit(request.url)
    bucket, _slash, key = unquote(url.path).lstrip("/").partition("/")
    asked: Json = {"bucket": bucket, "key": key}
    if operation in _LISTS:
        asked["key"] = parse_qs(url.query)["prefix"][0]
    if operation == "GetObject":
        asked["of_version"] = "versionId=" in url.query
    if operation == "PutObject":
        body: Any = getattr(request.body, "_raw", request.body)  # before it is sent in chunks
        content: bytes = body if isinstance(body, bytes) else body.read()
        asked["text"] = content.decode("latin-1")
        asked["must_be_new"] = "If-None-Match" in request.headers
    return asked


def _said_by_s3(operation: str, answer: Json) -> bytes:
    if "__type" in answer:
        return f"<Error><Code>{answer['__type']}</Code></Error>".encode()
    if operation not in _LISTS:
        return str(answer.get("text", "")).encode("latin-1")
    form, each = _LISTS[operation]
    return form.format("".join(each.format(escape(key)) for key in answer["keys"])).encode()


_LISTS = {
    "ListObjectsV2": (
        "<ListBucketResult><IsTruncated>false</IsTruncated>{}</ListBucketResult>",
        "<Contents><Key>{}</Key></Contents>",
    ),
    "ListObjectVersions": (
        "<ListVersionsResult><IsTruncated>false</IsTruncated>{}</ListVersionsResult>",
        "<Version><Key>{}</Key><VersionId>1</VersionId></Version>",
    ),
}
"""What they answer, and what they say of each key."""


_BUCKETS: list[quota.RetryQuota] = []
"""What limits the retries of a client, and lasts as long as the client does."""


def refill_retries() -> None:
    """A client retries less once it had to retry much: makes it forget."""
    for bucket in _BUCKETS:
        bucket.release(bucket.INITIAL_CAPACITY)
    for wire in _WIRES:
        wire.quota.give_back(wire.quota.CAPACITY)


_WIRES: list[Client] = []
"""The wires to DynamoDB: each limits its retries itself."""


class _KnownQuota(quota.RetryQuota):
    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        _BUCKETS.append(self)


def _quotas_known() -> AbstractContextManager[object]:
    return patch.object(quota, "RetryQuota", _KnownQuota)


def _attached(client: Any) -> Any:
    client.meta.events.register_first("before-send.*.*", _before_send)
    return client


@cache
def dynamodb() -> Client:
    """The client that the product makes for itself."""
    client = connect(REGION, access_key="simulated", secret_key="simulated")  # noqa: S106
    _WIRES.append(client)
    client.transport = _Simulated(client.transport.endpoint, 2, 5, 0)
    return client


class _Simulated(Transport):
    """The end of a wire to DynamoDB: what is raised here, is raised by the network."""

    def send(self, headers: dict[str, str], body: bytes) -> Answer:
        operation = headers["x-amz-target"].partition(".")[2]
        status, answer = 200, Json()
        try:
            answer = _ANSWERING[-1].answer(Call("dynamodb", operation, json.loads(body)))
        except Refused as error:
            status, answer = error.status, error.body
        except (ConnectTimeoutError, ReadTimeoutError) as error:
            is_connected = isinstance(error, ReadTimeoutError)
            raise NoAnswer(str(error), is_timeout=True, is_connected=is_connected) from error
        said = json.dumps(answer).encode()
        return Answer(status, {"x-amz-crc32": str(zlib.crc32(said))}, said)


@cache
def client(service: str, attempts: int) -> Any:
    """A client with as many attempts as the product allows it."""
    with _quotas_known():
        return _attached(
            botocore.session.get_session().create_client(
                service,
                region_name=REGION,
                aws_access_key_id="simulated",
                aws_secret_access_key="simulated",  # noqa: S106
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": attempts},
                    # An object travels as it is, and not in chunks with a checksum behind them.
                    s3={"addressing_style": "path"},
                    request_checksum_calculation="when_required",
                ),
            )
        )


__all__ = ["MOST_PAGE_BYTES", "NotModelledError", "Refused", "Table", "Tables"]
