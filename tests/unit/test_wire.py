"""The wire to DynamoDB: what it signs, how often it sends, and what it makes of answers."""

import random
import time
import zlib
from email.utils import formatdate
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ReadTimeoutError,
)

from chalicelib.store.errors import OutOfTime
from chalicelib.store.partiql import cancelled_for
from chalicelib.store.throttling import ask_again, patient
from chalicelib.store.wire import credentials
from chalicelib.store.wire.client import Client
from chalicelib.store.wire.credentials import Found
from chalicelib.store.wire.endpoints import endpoint_of
from chalicelib.store.wire.errors import NoAnswer, ServiceError, WireError
from chalicelib.store.wire.exchange import Answer
from chalicelib.store.wire.retrying import Quota
from chalicelib.store.wire.sdk_shaped import SdkShaped
from chalicelib.store.wire.signing import Keys, signed
from chalicelib.store.wire.transport import Transport
from infra.faults import FAULTS

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
STS = "".join(
    (
        "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRX",
        "mxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburE",
        "Dy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL",
        "64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA==",
    )
)
NOW = 1440938160.0  # 2015-08-30T12:36:00Z, the moment of AWS's examples


class Scripted(Transport):
    """Gives the answers it was told, the last one again and again; keeps what was sent."""

    def __init__(self, *answers: Answer | WireError) -> None:
        super().__init__(endpoint_of("eu-west-1", environment={}), 2, 5, 10)
        self.answers = list(answers)
        self.sent: list[tuple[dict[str, str], bytes]] = []

    def send(self, headers: dict[str, str], body: bytes) -> Answer:
        self.sent.append((headers, body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, WireError):
            raise answer
        return answer


def answer(body: str = "{}", status: int = 200, **headers: str) -> Answer:
    return Answer(
        status, {name.replace("_", "-"): each for name, each in headers.items()}, body.encode()
    )


def refusal(code: str, status: int = 400, **headers: str) -> Answer:
    return answer(f'{{"__type": "com.amazonaws.dynamodb.v20120810#{code}"}}', status, **headers)


def client(transport: Transport, **more: Any) -> Client:
    return Client("eu-west-1", transport, lambda: KEYS, **more)


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)
    return found


# --- Signing -------------------------------------------------------------------------------------


def test_aws_example_of_a_signed_post_has_the_signature_that_aws_published() -> None:
    """`post-vanilla` and `post-sts-header-before` of AWS's Signature Version 4 test suite."""
    headers = signed(KEYS, "us-east-1", "service", {"host": "example.amazonaws.com"}, b"", NOW)
    assert headers["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
    )
    headers = signed(
        Keys(KEYS.access_key, KEYS.secret_key, STS),
        *("us-east-1", "service", {"host": "example.amazonaws.com"}, b"", NOW),
    )
    assert headers["x-amz-security-token"] == STS
    assert headers["authorization"].endswith(
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    )


@pytest.mark.parametrize("token", ["", "a session's token"])
def test_a_signature_is_botocores(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(token)
    monkeypatch.setattr("botocore.auth.get_current_datetime", _then, raising=False)
    for _ in range(200):
        secret = "".join(dice.choices("abcXYZ019/+=", k=40))
        keys = Keys("AKID" + "".join(dice.choices("ABC2345", k=16)), secret, token)
        region = dice.choice(["eu-west-1", "cn-north-1", "us-gov-west-1"])
        host = dice.choice(["dynamodb.eu-west-1.amazonaws.com", "127.0.0.1:4566"])
        headers = {
            "content-type": dice.choice(["application/x-amz-json-1.0", "json;  charset=utf-8 "]),
            "x-amz-target": f"DynamoDB_20120810.{dice.choice(['Query', 'PutItem'])}",
        }
        body = dice.randbytes(dice.randrange(200))
        request = AWSRequest("POST", f"https://{host}/", headers=headers, data=body)
        SigV4Auth(
            Credentials(keys.access_key, keys.secret_key, token or None), "dynamodb", region
        ).add_auth(request)
        ours = signed(keys, region, "dynamodb", {**headers, "host": host}, body, NOW)
        assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
        assert ours["authorization"] == request.headers["Authorization"]


def _then(remove_tzinfo: bool = True) -> Any:  # noqa: FBT001, FBT002 - as botocore calls it
    from datetime import UTC, datetime

    then = datetime.fromtimestamp(NOW, UTC)
    return then.replace(tzinfo=None) if remove_tzinfo else then


# --- What is sent --------------------------------------------------------------------------------


def test_a_transaction_has_one_token_however_often_it_is_sent(slept: list[float]) -> None:
    wire = Scripted(NoAnswer("lost"), answer())
    client(wire).call("ExecuteTransaction", {"TransactStatements": []})
    client(wire).call("ExecuteTransaction", {"TransactStatements": []})
    first, again, another = (body for _, body in wire.sent)
    assert first == again != another
    assert b'"ClientRequestToken": "' in first
    assert len(slept) == 1


def test_a_token_that_is_given_is_kept_and_other_operations_have_none() -> None:
    wire = Scripted(answer())
    client(wire).call("ExecuteTransaction", {"ClientRequestToken": "mine"})
    client(wire).call("PutItem", {"TableName": "t"})
    assert [body for _, body in wire.sent] == [
        b'{"ClientRequestToken": "mine"}',
        b'{"TableName": "t"}',
    ]


def test_the_header_of_traces_is_sent_on_lambda_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire = Scripted(answer())
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988;Parent=53;Sampled=1\n")
    client(wire).call("Query", {})
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "worker")
    client(wire).call("Query", {})
    (off_lambda, _), (on_lambda, _) = wire.sent
    assert "x-amzn-trace-id" not in off_lambda
    assert on_lambda["x-amzn-trace-id"] == "Root=1-5759e988;Parent=53;Sampled=1%0A"
    assert "x-amzn-trace-id" not in on_lambda["authorization"]


# --- Credentials ---------------------------------------------------------------------------------


def test_the_credentials_of_the_environment_are_read_anew_for_each_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_CREDENTIAL_EXPIRATION", raising=False)
    source = Found()
    for number in "12":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"who{number}")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"secret{number}")
        monkeypatch.setenv("AWS_SESSION_TOKEN", f"token{number}")
        assert source() == Keys(f"who{number}", f"secret{number}", f"token{number}")


@pytest.mark.parametrize("lacks", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_without_them_the_sdk_finds_and_renews_the_credentials(
    monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "half")
    monkeypatch.delenv(lacks)

    class Chain:
        renewed = 0

        def get_credentials(self) -> "Chain":
            return self

        def get_frozen_credentials(self) -> Credentials:
            self.renewed += 1
            return Credentials(
                f"who{self.renewed}", "secret", "token" if self.renewed == 1 else None
            )

    monkeypatch.setattr("botocore.session.get_session", Chain)
    source = Found()
    assert [source(), source()] == [Keys("who1", "secret", "token"), Keys("who2", "secret", "")]
    monkeypatch.setenv(lacks, "other half")
    assert "half" in source().access_key, "those of the environment come first, whenever they come"


def test_where_nobody_has_credentials_the_sdks_own_error_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setattr("botocore.session.Session.get_credentials", lambda _: None)
    with pytest.raises(NoCredentialsError):
        Found()()


def test_credentials_that_end_are_the_sdks_to_renew(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CREDENTIAL_EXPIRATION"):
        monkeypatch.setenv(name, "2015-08-30T12:36:00Z")
    assert credentials._of_environment() is None


def test_who_prints_keys_prints_no_secret() -> None:
    assert str(KEYS) == repr(KEYS) == f"{KEYS}" == "Keys(…)"


@pytest.mark.parametrize(
    "failure", [refusal("AccessDeniedException"), answer("<html>", 502), NoAnswer("broken")]
)
def test_no_error_says_a_key_a_token_or_what_was_sent(
    slept: list[float], failure: Answer | WireError
) -> None:
    keys = Keys("AKIDSECRET", "SECRETKEY", "SECRETTOKEN")
    with pytest.raises(WireError) as raised:
        Client("eu-west-1", Scripted(failure), lambda: keys).call("Query", {"SECRET": "BODY"})
    assert "SECRET" not in f"{raised.value!r} {raised.value} {vars(raised.value)}"
    assert slept or isinstance(failure, Answer)


def test_what_aws_says_of_a_signature_is_said_without_the_headers_it_has_seen() -> None:
    body = '{"__type": "a#InvalidSignatureException", "message": "No match.\\n\\ntoken:SECRET"}'
    with pytest.raises(ServiceError) as raised:
        client(Scripted(answer(body, 400))).call("Query", {})
    assert raised.value.message == "No match."
    assert "SECRET" not in f"{vars(raised.value)} {raised.value}"


def test_credentials_that_no_header_may_have_are_refused_without_saying_them() -> None:
    for keys in (Keys("SECRET\n", "x"), Keys("x", "x", "SECRET\n")):
        with pytest.raises(ValueError, match="no header may have") as raised:
            Client("eu-west-1", Scripted(answer()), lambda keys=keys: keys).call("Query", {})  # type: ignore[misc]
        assert "SECRET" not in str(raised.value)


# --- Retries -------------------------------------------------------------------------------------


def test_a_request_is_sent_four_times_with_pauses_that_double(slept: list[float]) -> None:
    wire = Scripted(NoAnswer("lost"))
    with pytest.raises(NoAnswer, match="lost"):
        client(wire).call("Query", {})
    assert len(wire.sent) == 4
    assert slept == [1, 2, 4]


def test_pauses_are_random(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    monkeypatch.setattr(time, "sleep", lambda _: None)

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return 0.0

    monkeypatch.setattr(random, "uniform", uniform)
    client(Scripted(NoAnswer("lost"), answer())).call("Query", {})
    assert asked == [(0, 1)]


def test_each_attempt_is_signed_for_its_own_time(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([NOW, NOW + 1])
    monkeypatch.setattr(time, "time", lambda: next(clock))
    wire = Scripted(NoAnswer("lost"), answer())
    client(wire).call("Query", {})
    dates = [headers["x-amz-date"] for headers, _ in wire.sent]
    assert dates == ["20150830T123600Z", "20150830T123601Z"]
    assert len(slept) == 1


@pytest.mark.parametrize(
    "code",
    ["TransactionCanceledException", "ConditionalCheckFailedException", "ValidationException"],
)
def test_what_sending_again_does_not_mend_is_sent_once(slept: list[float], code: str) -> None:
    wire = Scripted(refusal(code))
    with pytest.raises(ServiceError) as raised:
        client(wire).call("Query", {})
    assert (raised.value.code, len(wire.sent), slept) == (code, 1, [])


def test_the_quota_ends_retries_until_requests_succeed_again(slept: list[float]) -> None:
    wire = Scripted(NoAnswer("slow", is_timeout=True))
    ours = client(wire)
    for _ in range(20):
        with pytest.raises(NoAnswer):
            ours.call("Query", {})
    # 500 pay for fifty retries after a timeout, and twenty calls are sent anyhow.
    assert len(wire.sent) == 20 + 50
    assert ours.quota.left == 0
    wire.answers = [answer()]
    for _ in range(5):
        ours.call("Query", {})
    assert ours.quota.left == 5
    wire.answers = [refusal("ThrottlingException"), answer()]
    ours.call("Query", {})
    assert (len(wire.sent), ours.quota.left) == (20 + 50 + 5 + 2, 5), "it got back what it took"
    assert len(slept) == 51


def test_what_a_retry_took_is_given_back_though_another_pause_came_after_it(
    slept: list[float],
) -> None:
    wire = Scripted(NoAnswer("slow", is_timeout=True), refusal("ThrottlingException"), answer())
    ours = client(wire, ask_again=lambda *_: 0.5)
    ours.call("Query", {})
    assert (slept, ours.quota.left) == ([1, 0.5], Quota.CAPACITY)


def test_the_quota_never_holds_more_than_it_began_with() -> None:
    quota = Quota()
    assert quota.take(5)
    quota.give_back(10)
    assert quota.left == Quota.CAPACITY


def test_who_asks_again_otherwise_has_neither_the_limit_nor_the_quota(slept: list[float]) -> None:
    wire = Scripted(*[refusal("ThrottlingException")] * 7, answer())
    ours = client(wire, ask_again=lambda code, attempt: attempt / 8 if "Thr" in code else None)
    ours.call("Query", {})
    assert slept == [each / 8 for each in range(1, 8)]
    assert ours.quota.left == Quota.CAPACITY


# --- Answers -------------------------------------------------------------------------------------


def test_an_answer_that_was_damaged_on_its_way_is_asked_for_again(slept: list[float]) -> None:
    good = '{"Count": 1}'
    crc = str(zlib.crc32(good.encode()))
    wire = Scripted(answer('{"Count": 7}', x_amz_crc32=crc), answer(good, x_amz_crc32=crc))
    assert client(wire).call("Query", {}) == {"Count": 1}
    assert len(slept) == 1


@pytest.mark.parametrize("body", ["", "<html>", "[]", "\udcff"])
def test_an_answer_that_cannot_be_read_is_asked_for_again(slept: list[float], body: str) -> None:
    unreadable = Answer(200, {}, body.encode(errors="surrogateescape"))
    assert client(Scripted(unreadable, answer())).call("Query", {}) == {}
    assert len(slept) == 1


def test_the_reasons_of_a_cancelled_transaction_are_said() -> None:
    body = (
        '{"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", '
        '"Message": "cancelled", "CancellationReasons": [{"Code": "None"}, {"Code": "X"}]}'
    )
    with pytest.raises(ServiceError) as raised:
        client(Scripted(answer(body, 400))).call("ExecuteTransaction", {})
    assert raised.value.said["CancellationReasons"] == [{"Code": "None"}, {"Code": "X"}]
    assert raised.value.message == "cancelled"


SKEWS = ["InvalidSignatureException", "RequestTimeTooSkewed"]


@pytest.mark.parametrize("code", SKEWS)
@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_wrong_is_corrected_by_that_of_aws(
    slept: list[float], monkeypatch: pytest.MonkeyPatch, code: str, hours: int
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    theirs = NOW + hours * 3600
    wire = Scripted(refusal(code, date=formatdate(theirs, usegmt=True)), answer())
    ours = client(wire)
    ours.call("Query", {})
    ours.call("Query", {})
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(theirs))
    dates = [headers["x-amz-date"] for headers, _ in wire.sent]
    assert dates == ["20150830T123600Z", stamp, stamp]
    assert slept == [0]


def test_a_clock_that_jumps_back_is_corrected_by_how_far_it_is_off_now(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corrected twice, it is as far off as it was found the second time, and not both times."""
    clock = [NOW - 3600]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    skewed = refusal("RequestTimeTooSkewed", date=formatdate(NOW, usegmt=True))
    wire = Scripted(skewed, answer(), skewed, answer())
    ours = client(wire)
    ours.call("Query", {})
    clock[0] = NOW
    ours.call("Query", {})
    dates = [headers["x-amz-date"] for headers, _ in wire.sent]
    right, ahead = "20150830T123600Z", "20150830T133600Z"
    assert dates == ["20150830T113600Z", right, ahead, right]
    assert slept == [0, 0]


@pytest.mark.parametrize("code", SKEWS)
@pytest.mark.parametrize("date", [formatdate(NOW + 200, usegmt=True), "yesterday", None])
def test_a_signature_that_is_wrong_for_other_reasons_is_sent_once(
    monkeypatch: pytest.MonkeyPatch, code: str, date: str | None
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    wire = Scripted(refusal(code, 400, **({"date": date} if date else {})))
    with pytest.raises(ServiceError):
        client(wire).call("Query", {})
    assert len(wire.sent) == 1


def test_a_clock_that_stays_wrong_ends_after_four_attempts(
    slept: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter(range(0, 36_000, 3_600))
    monkeypatch.setattr(time, "time", lambda: NOW)
    wire = Scripted(answer())
    monkeypatch.setattr(
        wire,
        "send",
        lambda *_: refusal("RequestTimeTooSkewed", date=formatdate(NOW + 600 + next(hours))),
    )
    with pytest.raises(ServiceError):
        client(wire).call("Query", {})
    assert slept == [0, 0, 0]


# --- In the shape of the SDK's client ------------------------------------------------------------


def shaped(*answers: Answer | WireError) -> SdkShaped:
    return SdkShaped(client(Scripted(*answers)))


def test_a_method_is_the_operation_of_its_name() -> None:
    client = shaped(answer('{"Items": []}'))
    assert client.transact_get_items(TransactItems=[]) == {"Items": []}
    assert not hasattr(client, "_endpoint")


def test_an_error_is_botocores() -> None:
    body = '{"__type": "x#TransactionCanceledException", "CancellationReasons": [{"Code": "A"}]}'
    with pytest.raises(ClientError) as raised:
        shaped(answer(body, 400)).execute_transaction(TransactStatements=[])
    said: Any = raised.value.response
    assert said["CancellationReasons"] == [{"Code": "A"}]
    assert said["Error"]["Code"] == "TransactionCanceledException"
    assert raised.value.operation_name == "ExecuteTransaction"


def test_the_reasons_of_a_cancelled_transaction_are_read_from_its_error() -> None:
    body = '{"__type": "x#TransactionCanceledException", "CancellationReasons": [{"Code": "A"}]}'
    with pytest.raises(ServiceError) as raised:
        client(Scripted(answer(body, 400))).call("ExecuteTransaction", {})
    assert cancelled_for(raised.value) == {"A"}


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (NoAnswer("x", is_timeout=True), ReadTimeoutError),
        (NoAnswer("x", is_timeout=True, is_connected=False), ConnectTimeoutError),
        (NoAnswer("x", is_connected=False), EndpointConnectionError),
        (NoAnswer("x"), ConnectionClosedError),
    ],
)
def test_what_is_not_answered_is_a_fault_of_botocores_kind(
    slept: list[float], failure: NoAnswer, kind: type[Exception]
) -> None:
    with pytest.raises(kind) as raised:
        shaped(failure).query(TableName="t")
    assert isinstance(raised.value, FAULTS)
    assert len(slept) == 3


def test_a_throttled_table_is_waited_for_as_long_as_an_invocation_can(slept: list[float]) -> None:
    throttled = [refusal("ThrottlingException")] * 6
    with patient(lambda: 60_000, 5_000):
        asked = client(Scripted(*throttled, answer()), ask_again=ask_again).call("Query", {})
    assert asked == {}
    assert slept == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 4.0])
    with patient(lambda: 0, 5_000), pytest.raises(OutOfTime):
        client(Scripted(*throttled), ask_again=ask_again).call("Query", {})
