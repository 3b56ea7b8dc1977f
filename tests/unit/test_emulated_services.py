"""What is changed in the emulator's services, each fact on its own, without a server."""

import asyncio
import contextvars
import json
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.core import iam_actions, iam_evaluator, lambda_runtime
from ministack.services import apigateway_v1, cloudwatch, cloudwatch_logs, lambda_svc, sns, sqs
from ministack.services.cloudformation import provisioners

from infra.local import emulated_services, unpacking

Json = dict[str, Any]
HTTP = "x-forwarded-proto"

Replace = Callable[..., None]


@pytest.fixture
def replace(monkeypatch: pytest.MonkeyPatch) -> Replace:
    """Puts stand-ins in the place of what the emulator has; all is as it was after the test."""

    def replaced(module: Any, **parts: Any) -> None:
        for name, part in parts.items():
            monkeypatch.setattr(module, name, part)

    return replaced


def test_a_batch_of_messages_needs_the_right_to_the_single_operation(replace: Replace) -> None:
    replace(iam_actions, extract_iam_action=lambda action: action)
    emulated_services._authorize_batches()
    for asked, needed in (
        ("sqs:SendMessageBatch", "sqs:SendMessage"),
        ("sqs:DeleteMessageBatch", "sqs:DeleteMessage"),
        ("sqs:SendMessage", "sqs:SendMessage"),
        ("sns:PublishBatch", "sns:PublishBatch"),
        (None, None),
        ("", ""),
    ):
        assert iam_actions.extract_iam_action(asked) == needed


def test_a_refusal_says_what_the_authorizer_said_of_that_request(replace: Replace) -> None:
    kept: list[Any] = []
    body = b'{"a": "$context.authorizer.reason", "b": "$context.authorizer.no"}'
    replace(
        apigateway_v1,
        _cache_authorizer_result=lambda *entry: kept.append(entry),
        _evaluate_policy=lambda policy, arn: (policy["Statement"], arn),
        _gateway_error_response=lambda *_: (403, {"x": "y"}, body),
    )
    emulated_services._tell_what_authorizers_say()

    def answer(policy: Json | None) -> bytes:
        if policy is not None:
            assert apigateway_v1._evaluate_policy(policy, "arn") == ("deny", "arn")
        status, headers, said = apigateway_v1._gateway_error_response("error", {})
        assert (status, headers) == (403, {"x": "y"})
        return bytes(said)

    policy: Json = {"Statement": "deny"}
    apigateway_v1._cache_authorizer_result("key", 5.0, policy, {"reason": "zu spät"})
    assert kept == [("key", 5.0, policy, {"reason": "zu spät"})]
    of_request = contextvars.copy_context().run
    assert of_request(answer, policy) == '{"a": "zu spät", "b": ""}'.encode()
    # The next one is told nothing of that.
    assert of_request(answer, {"Statement": "deny"}) == b'{"a": "", "b": ""}'
    assert contextvars.copy_context().run(answer, None) == b'{"a": "", "b": ""}'


def test_an_api_takes_its_keys_from_the_authorizer_only_where_that_is_their_source(
    replace: Replace,
) -> None:
    answers: Iterator[Any] = iter(())

    async def invoke(*_: Any) -> Any:
        return next(answers)

    replace(
        apigateway_v1,
        _rest_apis={"of authorizer": {}, "of header": {}},
        _import_rest_api=lambda definition, *_: definition["id"],
        _invoke_authorizer_lambda=invoke,
        _evaluate_policy=lambda *_: "Allow",
        _check_api_key=lambda *asked: asked,
    )
    emulated_services._take_keys_from_authorizers()
    source = {"x-amazon-apigateway-api-key-source": "AUTHORIZER"}
    imported = apigateway_v1._import_rest_api
    assert imported({"id": "of authorizer", **source}, 1) == "of authorizer"
    assert imported({"id": "of header"}, 1) == "of header"

    def checked(api: str, answer: Any) -> tuple[Any, Any]:
        nonlocal answers
        answers = iter([answer])
        result = asyncio.run(apigateway_v1._invoke_authorizer_lambda("of", "it"))
        found = result["body"]["policyDocument"]
        assert apigateway_v1._evaluate_policy(found, "arn") == "Allow"
        *asked, headers = apigateway_v1._check_api_key("method", api, "v1", {"x-api-key": "own"})
        assert asked == ["method", api, "v1"]
        return headers, found["Statement"]

    of_request = contextvars.copy_context().run
    for key, named in (("ada's", "ada's"), (None, ""), ("", "")):
        said = {"policyDocument": {"Statement": [key]}, "usageIdentifierKey": key}
        for body in (said, json.dumps(said), json.dumps(said).encode()):
            found = of_request(checked, "of authorizer", {"body": body})
            assert found == ({"x-api-key": named}, [key])
    found = of_request(checked, "of header", {"body": said})
    assert found[0] == {"x-api-key": "own"}

    def check_again() -> Any:
        for policy in ({"key": "ada's"}, {}):  # the second one names no key
            apigateway_v1._evaluate_policy(policy, "arn")
        return apigateway_v1._check_api_key("method", "of authorizer", "v1", {})[-1]

    assert contextvars.copy_context().run(check_again) == {"x-api-key": ""}
    # An authorizer that failed is not ours.
    for broken in (None, {"body": None}, {"body": "[]"}, {"body": {"policyDocument": "x"}}):
        answers = iter([broken])
        assert asyncio.run(apigateway_v1._invoke_authorizer_lambda()) == broken
    fresh = apigateway_v1._check_api_key("method", "of authorizer", "v1", {"x-api-key": "own"})
    assert fresh[-1] == {"x-api-key": ""}


def test_the_settings_of_the_account_need_a_right(replace: Replace) -> None:
    replace(iam_actions, _lambda_action=lambda method, path: f"{method} {path}")
    emulated_services._guard_the_accounts_settings()
    for path in ("/2016-08-19/account-settings", "/2016-08-19/account-settings/"):
        assert iam_actions._lambda_action("GET", path) == "GetAccountSettings"
    for path in ("/2015-03-31/functions/account-settings-x", "/account-settings/x"):
        assert iam_actions._lambda_action("GET", path) == f"GET {path}"


def test_subscribers_by_email_are_sent_nothing_and_listed_as_pending_until_they_confirm(
    replace: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def subscription(number: int, protocol: str) -> Json:
        return {"arn": f"arn:t:{number}", "protocol": protocol, "confirmed": True}

    topic = {"subscriptions": [subscription(1, "email"), subscription(2, "sqs")]}
    other = {"subscriptions": [subscription(9, "email")]}
    listed = b"<a>arn:t:1</a><a>arn:t:2</a><a>arn:t:11</a>"

    def create(*asked: Any) -> str:
        topic["subscriptions"].append(subscription(11, "email"))
        return "/".join(map(str, asked))

    replace(
        sns,
        _topics={"arn:t": topic, "arn:other": other},
        _subscribe=lambda _: (200, {}, listed),
        _list_subscriptions_by_topic=lambda _: (200, {"x": "y"}, listed),
        _p=lambda params, name: params[name],
    )
    handlers = {"create": create}
    monkeypatch.setitem(provisioners._RESOURCE_HANDLERS, "AWS::SNS::Subscription", handlers)
    emulated_services._wait_for_subscribers()
    asked = {"TopicArn": "arn:t"}
    assert sns._subscribe(asked)[2] == (b"<a>pending confirmation</a><a>arn:t:2</a><a>arn:t:11</a>")
    assert handlers["create"]("Id", asked, "stack") == f"Id/{asked}/stack"
    by_email = [each for each in topic["subscriptions"] if each["protocol"] == "email"]
    assert [each["confirmed"] for each in topic["subscriptions"]] == [False, True, False]
    assert len({each["token"] for each in by_email}) == 2
    assert sns._list_subscriptions_by_topic(asked) == (
        200,
        {"x": "y"},
        b"<a>PendingConfirmation</a><a>arn:t:2</a><a>PendingConfirmation</a>",
    )
    by_email[0]["confirmed"] = True
    assert sns._list_subscriptions_by_topic(asked)[2] == (
        b"<a>arn:t:1</a><a>arn:t:2</a><a>PendingConfirmation</a>"
    )
    assert other["subscriptions"] == [subscription(9, "email")], "nobody asked about that topic"
    assert sns._list_subscriptions_by_topic({"TopicArn": "arn:gone"})[2] == listed


@pytest.mark.parametrize("is_signing", [True, False])
def test_the_identity_of_a_domain_waits_for_three_entries_of_dns(
    replace: Replace, *, is_signing: bool
) -> None:
    def known(identity: str, properties: Json) -> Json:
        return {
            "IdentityType": "EMAIL_ADDRESS" if "@" in identity else "DOMAIN",
            "VerifiedForSendingStatus": True,
            "VerificationStatus": "SUCCESS",
            "DkimAttributes": {"Tokens": properties["tokens"], "SigningEnabled": is_signing},
            "MailFromAttributes": {"MailFromDomainStatus": "SUCCESS"},
        }

    replace(provisioners, _ses_email_identity_apply=known)
    emulated_services._look_for_dkim()
    record = provisioners._ses_email_identity_apply("example.com", {"tokens": []})
    dkim = record["DkimAttributes"]
    assert len(set(dkim["Tokens"])) == 3
    assert (dkim["SigningEnabled"], dkim["SigningHostedZone"]) == (is_signing, "dkim.amazonses.com")
    assert record["VerifiedForSendingStatus"] is False
    assert record["VerificationStatus"] == "PENDING"
    assert record["MailFromAttributes"]["MailFromDomainStatus"] == "PENDING"
    for identity, tokens in (("ada@example.com", []), ("example.com", ["its", "own"])):
        asked = {"tokens": tokens}
        assert provisioners._ses_email_identity_apply(identity, asked) == known(identity, asked)


def test_metrics_are_read_from_lines_and_no_line_is_lost(replace: Replace) -> None:
    stored: list[Any] = []
    replace(
        cloudwatch_logs, _append_log_events=lambda stream, events: (stream, [*events], len(stored))
    )
    replace(cloudwatch, _store_datum=lambda *datum: stored.append(datum))
    emulated_services._extract_metrics()
    names = [{"Name": "Granted", "Unit": "Count"}, {"Name": "Took"}]
    directive = {
        "Namespace": "Credits",
        "Dimensions": [["stage"], ["stage", "function"]],
        "Metrics": names,
    }
    more = {**directive, "Namespace": "Other", "Dimensions": [[]], "Metrics": names[:1]}
    document = {
        "_aws": {"Timestamp": 1_780_000_000_500, "CloudWatchMetrics": [directive, more]},
        "stage": "local",
        "function": "tick",
        "Granted": 3.5,
        "Took": [1, 2.5],
    }
    without = {**document, "Took": 0}
    del without["Granted"]
    events = [
        {"message": text}
        for text in (
            "plain",
            '{"CloudWatchMetrics": 1',
            '["CloudWatchMetrics"]',
            '{"CloudWatchMetrics": 1}',
            json.dumps(without),
            json.dumps(document),
        )
    ]
    assert cloudwatch_logs._append_log_events("stream", events) == ("stream", events, 5)
    at, stage = 1_780_000_000.5, {"stage": "local"}
    both = {**stage, "function": "tick"}
    assert stored == [
        ("Credits", "Granted", stage, at, "Count", None, [3.5], None, None),
        ("Credits", "Took", stage, at, "None", None, [1, 2.5], None, None),
        ("Credits", "Granted", both, at, "Count", None, [3.5], None, None),
        ("Credits", "Took", both, at, "None", None, [1, 2.5], None, None),
        ("Other", "Granted", {}, at, "Count", None, [3.5], None, None),
    ]


def test_who_asks_about_alarms_without_names_asks_about_all_of_them(replace: Replace) -> None:
    replace(
        iam_actions,
        extract_iam_action=lambda service, action: f"{service}:{action}",
        extract_resource_arn=lambda _service, action, *_: "arn:one" if "One" in action else "*",
    )
    emulated_services._ask_about_alarms()
    place = ("eu-west-1", "123456789012")
    arn = iam_actions.extract_resource_arn
    alarms = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:*"
    assert arn("cloudwatch", "DescribeAlarms", *place) == alarms
    assert arn("cloudwatch", "ListDashboards", *place) == "*"
    assert arn("other", "DescribeAlarms", *place) == "*"
    assert arn("cloudwatch", "DescribeAlarmsOne", *place) == "arn:one"
    replace(iam_actions, extract_iam_action=lambda *_: "cloudwatch:DescribeAlarms")
    assert arn("cloudwatch", "DescribeOne", *place) == "arn:one"


def test_a_chain_of_messages_ends_where_lambda_says_so_and_its_batch_is_lost(
    replace: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Any] = []
    deleted: list[Any] = []
    sent: list[Json] = []

    async def handle(*request: Any) -> str:
        sent.append(sqs._build_send_sys_attrs(5.0, {"a": 1}))
        return f"handled {len(request)}"

    def run(*asked: Any) -> None:
        ran.append((asked, lambda_svc._invoke_depth.get()))

    replace(
        sqs,
        handle_request=handle,
        _build_send_sys_attrs=lambda now, given: {"at": now, **given},
        _delete_messages_for_esm=lambda *asked: deleted.append(asked),
    )
    replace(
        lambda_svc,
        _inbound_invoke_depth=lambda headers: headers["depth"],
        _run_sqs_batch=run,
        _recursive_loop_drop=lambda name, function, hop: (name, function) == ("f", {}) and hop > 16,
        _functions={"f": {}, "g": {}},
    )
    handlers: Json = {
        "create": lambda *_: ("f", {"Arn": "of f"}),
        "update": lambda *_: ("g", {"Arn": "of g"}),
    }
    monkeypatch.setitem(provisioners._RESOURCE_HANDLERS, "AWS::Lambda::Function", handlers)
    emulated_services._count_hops()

    async def two_requests() -> list[str]:
        asked = [sqs.handle_request("POST", "/", {"depth": hop}, b"", {}) for hop in (0, 7)]
        return [*await asyncio.gather(*asked)]

    assert asyncio.run(two_requests()) == ["handled 5"] * 2
    assert sent == [{"at": 5.0, "a": 1, "Hops": 0}, {"at": 5.0, "a": 1, "Hops": 7}]

    def batch(*hops: int | None) -> list[Json]:
        return [
            {"receipt_handle": f"r{n}", "sys": {} if hop is None else {"Hops": hop}}
            for n, hop in enumerate(hops)
        ] + [{"receipt_handle": "last"}]

    def deliver(*hops: int | None) -> None:
        contextvars.copy_context().run(
            lambda_svc._run_sqs_batch, {"FunctionName": "f"}, {}, {"e": 1}, batch(*hops), "url", 1
        )

    deliver(None)
    deliver(3, 15, 4)
    assert [(asked[1:], hop) for asked, hop in ran] == [
        (({}, {"e": 1}, batch(None), "url", 1), 1),
        (({}, {"e": 1}, batch(3, 15, 4), "url", 1), 16),
    ]
    assert deleted == []
    deliver(3, 16)
    assert len(ran) == 2
    assert deleted == [("url", {"r0", "r1", "last"})]
    allow = {"RecursiveLoop": "Allow"}
    assert handlers["create"]("Id", allow, "stack") == ("f", {"Arn": "of f"})
    assert handlers["update"]("g", {}, allow, "stack") == ("g", {"Arn": "of g"})
    assert lambda_svc._functions == {
        "f": {"recursive_loop": "Allow"},
        "g": {"recursive_loop": "Allow"},
    }
    handlers["update"]("g", allow, {}, "stack")
    assert lambda_svc._functions["g"] == {"recursive_loop": "Terminate"}


def test_every_request_is_one_over_tls_unless_it_says_otherwise(replace: Replace) -> None:
    replace(iam_evaluator, _request_origin=iam_evaluator._request_origin)
    seen: list[Any] = []

    async def app(*asked: Any) -> None:
        seen.append(asked)

    over_tls = emulated_services.as_over_tls(app)
    assert iam_evaluator._request_origin.get() == ("127.0.0.1", True), "what no request asks for"
    host, plain = (b"host", b"x"), (HTTP.encode(), b"http")
    other = (b"x-forwarded-protocol", b"http")
    given = [host, other]
    for kind, headers in (("http", given), ("http", [host, plain]), ("lifespan", None)):
        scope = {"type": kind} | ({} if headers is None else {"headers": headers})
        asyncio.run(over_tls(scope, "receive", "send"))
    secure = (HTTP.encode(), b"https")
    assert given == [host, other], "what the server has of the request is as it was"
    assert seen == [
        ({"type": "http", "headers": [host, other, secure]}, "receive", "send"),
        ({"type": "http", "headers": [host, plain]}, "receive", "send"),
        ({"type": "lifespan"}, "receive", "send"),
    ]


def test_functions_share_one_copy_of_the_same_code_and_none_of_another(
    tmp_path: Path, replace: Replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(lambda_runtime, zipfile=zipfile)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lock, fails = threading.Lock(), ["at first"]

    class Archive(zipfile.ZipFile):
        def extractall(self, *asked: Any) -> None:
            assert lock.locked(), "two unpack it at once"
            if fails:
                raise OSError(fails.pop())
            super().extractall(*asked)

    replace(unpacking, threading=SimpleNamespace(Lock=lambda: lock))
    replace(zipfile, ZipFile=Archive)
    unpacking.unpack_once()
    assert isinstance(lambda_runtime.zipfile, SimpleNamespace)
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(zipfile.ZipInfo("app.py"), text)
        (tmp_path / name).mkdir()
        with lambda_runtime.zipfile.ZipFile(tmp_path / f"{name}.zip") as archive:
            if fails:
                with pytest.raises(OSError, match="at first"):
                    archive.extractall(tmp_path / name)
            archive.extractall(tmp_path / name)
    assert [(tmp_path / name / "app.py").read_text() for name in "abc"] == ["1", "1", "2"]
    a, b, c = ((tmp_path / name).readlink() for name in "abc")
    assert (a == b, a == c) == (True, False)
    assert lambda_runtime.zipfile.BadZipFile is zipfile.BadZipFile
