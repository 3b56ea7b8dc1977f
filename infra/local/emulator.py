"""The emulator of AWS that everything local runs on: ministack, on loopback only.

Run as a program, this file *is* the emulator: it watches its standard input, which is a pipe from
the process that started it, and takes its whole process group (the emulated Lambda functions are
its children) down with it when that pipe closes. The pipe closes however the starter dies, so
nothing is ever left behind, not even by `kill -9`.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple

REGION = "us-east-1"

WORKSPACE = Path(__file__).resolve().parents[2] / "build"

# Where the log of the emulator that ended last is kept.
LOG_FILE = WORKSPACE / "emulator.log"

# ministack takes these for the account's root user. Functions never see them: with AUTH=true each
# runs under a session of its own role, and the role's policies are enforced.
ACCESS_KEY = "test"
SECRET_KEY = "test"  # noqa: S105 - not a secret: the emulator's well-known key

# How long the emulator may take to start, in seconds. It takes less than one on an idle machine.
START_DEADLINE = 60.0
_ATTEMPTS = 3
_LOG_LINES_SHOWN = 15


class EmulatorError(Exception):
    """The emulator did not start; the message ends with what it said last."""


class _PortTaken(EmulatorError):
    """Another process took the port between our choosing and our using it."""


class Emulator(NamedTuple):
    """A running emulator: its address, e.g. `http://127.0.0.1:51234`, and its clock.

    The clock is a file that says how many seconds the functions are ahead of this machine.
    """

    url: str
    clock_file: Path


@contextmanager
def emulator(pages: Collection[str] = ()) -> Iterator[Emulator]:
    """Run an emulator with nothing in it.

    ``pages`` are the origins of web pages that may call the APIs in it; nobody else's may ask
    anything (`infra/local/guard.py`).
    All its files are in a directory of its own, which is removed at the end; only the log is kept,
    as `LOG_FILE`. Raises `EmulatorError`.
    """
    WORKSPACE.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix="emulator-", dir=WORKSPACE))
    log = temporary / LOG_FILE.name
    clock_file = temporary / "clock"
    clock_file.write_text("0")
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            process, url = _start(temporary, log, clock_file, pages)
            try:
                _wait_until_healthy(process, url, log)
            except _PortTaken:
                _stop(process)
                if attempt == _ATTEMPTS:
                    raise
                continue
            except BaseException:
                _stop(process)
                raise
            break
        try:
            yield Emulator(url, clock_file)
        finally:
            _stop(process)
    finally:
        with suppress(FileNotFoundError):
            log.replace(LOG_FILE)
        shutil.rmtree(temporary, ignore_errors=True)


def is_healthy(url: str, tries: int = 1) -> bool:
    """Whether an emulator answers at `url`; `tries` is how often it may be too slow to answer."""
    for _ in range(tries):
        try:
            with urllib.request.urlopen(f"{url}/_ministack/health", timeout=5):  # noqa: S310 - ours
                return True
        except OSError as error:  # the parent of URLError, ConnectionError and TimeoutError
            if isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                return False  # nobody is there, who could be slow
    return False


def _start(
    temporary: Path, log: Path, clock_file: Path, pages: Collection[str]
) -> tuple[subprocess.Popen[bytes], str]:
    port = _free_port()
    # The caller's own AWS settings must not leak into the emulator, nor from it into the functions:
    # they name real accounts. PYTHONPATH would let the functions import what the archive does not
    # contain.
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("AWS_", "PYTHON", "MINISTACK_"))
    }
    environment |= {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "ALLOWED_PAGES": ",".join(pages),
        "AUTH": "true",
        "MINISTACK_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "LAMBDA_EXECUTOR": "local",
        # No other listeners, and hands off the user's Docker.
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{temporary}/no-docker.sock",
        "TMPDIR": str(temporary),
        # Not for the emulator: the functions it runs inherit it.
        "CLOCK_FILE": str(clock_file),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            env=environment,
            cwd=temporary,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Its own group: Ctrl-C reaches the starter only, which then ends the group as a whole.
            start_new_session=True,
        )
    return process, f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + START_DEADLINE
    while time.monotonic() < end:
        if process.poll() is not None:
            said = _last_lines(log)
            kind = _PortTaken if "in use" in said else EmulatorError
            raise kind(f"The emulator ended with status {process.returncode}:\n{said}")
        if is_healthy(url):
            return
        time.sleep(0.05)
    raise EmulatorError(
        f"The emulator did not answer within {START_DEADLINE:.0f} s. It said:\n{_last_lines(log)}"
    )


def _last_lines(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES_SHOWN:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the emulator and every function it runs, at once: nothing in it is worth saving."""
    # When it has ended by itself, so have its children: they end when their input does.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _die_with_starter() -> None:
    """Wait for the starter's end of the pipe to close, then clean up and end this process group."""
    while os.read(0, 4096):
        pass
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _authorize_batches() -> None:
    """Has a batch of messages authorized as AWS does: by the right of the single operation.

    (Amazon SQS API Reference, AddPermission:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_AddPermission.html)
    ministack asks for rights such as `sqs:SendMessageBatch`, which IAM does not have.
    """
    from ministack.core import iam_actions

    known = iam_actions.extract_iam_action

    def extract(*request: Any) -> str | None:
        action: str | None = known(*request)
        if action and action.startswith("sqs:"):
            return action.removesuffix("Batch")
        return action

    iam_actions.extract_iam_action = extract


def _tell_what_authorizers_say() -> None:
    """Has API Gateway's own answers replace `$context.authorizer.<property>`, as AWS does.

    It is one of its variables for data transformations: a property of the context that the
    authorizer returned with its policy. ministack drops that context when the policy denies.
    """
    from ministack.services import apigateway_v1 as api_gateway

    keep = api_gateway._cache_authorizer_result  # noqa: SLF001 - it has no other door
    evaluate = api_gateway._evaluate_policy  # noqa: SLF001
    respond = api_gateway._gateway_error_response  # noqa: SLF001
    said: ContextVar[dict[str, str]] = ContextVar("said")

    def kept(key: Any, expires_at: float, policy: dict[str, Any], context: dict[str, str]) -> None:
        # Beside the statements, which are what is evaluated.
        policy["context"] = context
        keep(key, expires_at, policy, context)

    def evaluated(policy: dict[str, Any], method_arn: str) -> Any:
        said.set(policy.get("context", {}))
        return evaluate(policy, method_arn)

    def responded(error: Any, request: dict[str, Any]) -> tuple[int, Any, bytes]:
        status, headers, body = respond(error, request)
        context = said.get({})
        return (
            status,
            headers,
            _OF_AUTHORIZER.sub(lambda found: context.get(found[1].decode(), "").encode(), body),
        )

    api_gateway._cache_authorizer_result = kept  # noqa: SLF001
    api_gateway._evaluate_policy = evaluated  # noqa: SLF001
    api_gateway._gateway_error_response = responded  # noqa: SLF001


def _take_keys_from_authorizers() -> None:
    """Has an API whose source of keys is the authorizer take them from there, as AWS does.

    A method that needs a key is then limited by the plan of the key that the authorizer named
    (`usageIdentifierKey`), and refuses a request of which it named none, or one without a plan.
    What a request says in `x-api-key` counts for nothing. ministack knows that header alone.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-api-key-source.html
    """
    from ministack.services import apigateway_v1 as api_gateway

    import_api = api_gateway._import_rest_api  # noqa: SLF001 - it has no other door
    invoke = api_gateway._invoke_authorizer_lambda  # noqa: SLF001
    evaluate = api_gateway._evaluate_policy  # noqa: SLF001
    check = api_gateway._check_api_key  # noqa: SLF001
    named: ContextVar[str] = ContextVar("named")

    def imported(definition: dict[str, Any], *more: Any) -> Any:
        api_id = import_api(definition, *more)
        source = definition.get("x-amazon-apigateway-api-key-source", "HEADER")
        api_gateway._rest_apis[api_id]["apiKeySource"] = source  # noqa: SLF001
        return api_id

    async def invoked(*of: Any) -> Any:
        result = await invoke(*of)
        answer = (result or {}).get("body")
        if isinstance(answer, str | bytes):
            answer = json.loads(answer)
        if isinstance(answer, dict) and isinstance(answer.get("policyDocument"), dict):
            # Beside the statements: it is kept with them, and they alone are evaluated.
            answer["policyDocument"]["key"] = answer.get("usageIdentifierKey") or ""
            result["body"] = answer
        return result

    def evaluated(policy: dict[str, Any], method_arn: str) -> Any:
        named.set(policy.get("key", ""))
        return evaluate(policy, method_arn)

    def checked(method: Any, api_id: str, stage: str, headers: dict[str, str]) -> Any:
        if api_gateway._rest_apis[api_id].get("apiKeySource") == "AUTHORIZER":  # noqa: SLF001
            headers = {"x-api-key": named.get("")}
        return check(method, api_id, stage, headers)

    api_gateway._import_rest_api = imported  # noqa: SLF001
    api_gateway._invoke_authorizer_lambda = invoked  # noqa: SLF001
    api_gateway._evaluate_policy = evaluated  # noqa: SLF001
    api_gateway._check_api_key = checked  # noqa: SLF001


def _guard_the_accounts_settings() -> None:
    """Has `GetAccountSettings` of Lambda asked for, as AWS does: ministack lets everybody read it.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
    """
    from ministack.core import iam_actions

    known = iam_actions._lambda_action  # noqa: SLF001 - it has no other door

    def action(method: str, path: str) -> str | None:
        is_settings = path.rstrip("/").endswith("/account-settings")
        return "GetAccountSettings" if is_settings else known(method, path)

    iam_actions._lambda_action = action  # noqa: SLF001


def _wait_for_subscribers() -> None:
    """Has a subscriber by email confirm it first, and a list say so of all who have not.

    It has `PendingConfirmation` in the place of their ARN, and nothing is sent to them
    (https://docs.aws.amazon.com/sns/latest/dg/sns-email-notifications.html,
    https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html). ministack asks
    only those by HTTP, and lists an ARN for everybody.
    """
    from ministack.services import sns
    from ministack.services.cloudformation import provisioners

    of_stacks = provisioners._RESOURCE_HANDLERS["AWS::SNS::Subscription"]  # noqa: SLF001
    create, subscribe = of_stacks["create"], sns._subscribe  # noqa: SLF001 - no other doors
    describe = sns._list_subscriptions_by_topic  # noqa: SLF001

    def unconfirmed(topic_arn: str) -> list[dict[str, Any]]:
        topic = sns._topics.get(topic_arn) or {"subscriptions": []}  # noqa: SLF001
        for each in topic["subscriptions"]:
            if each["protocol"] == "email" and "is_asked" not in each:
                each |= {"confirmed": False, "token": secrets.token_hex(16), "is_asked": True}
        return [each for each in topic["subscriptions"] if not each["confirmed"]]

    def created(logical_id: str, properties: dict[str, Any], stack: str) -> Any:
        made = create(logical_id, properties, stack)
        unconfirmed(properties["TopicArn"])
        return made

    def masked(answer: Any, topic_arn: str, words: str) -> Any:
        status, headers, body = answer
        for each in unconfirmed(topic_arn):
            body = body.replace(f">{each['arn']}<".encode(), f">{words}<".encode())
        return status, headers, body

    def topic_of(params: dict[str, Any]) -> str:
        return str(sns._p(params, "TopicArn"))  # noqa: SLF001

    of_stacks["create"] = created
    sns._subscribe = lambda params: masked(  # noqa: SLF001
        subscribe(params), topic_of(params), "pending confirmation"
    )
    sns._list_subscriptions_by_topic = lambda params: masked(  # noqa: SLF001
        describe(params), topic_of(params), "PendingConfirmation"
    )


def _look_for_dkim() -> None:
    """Has the identity of a domain wait for its DNS entries, with the three tokens that name them.

    SES verifies a domain by them, and looks for up to 72 hours
    (https://docs.aws.amazon.com/ses/latest/dg/creating-identities.html). ministack takes one that a
    stack makes for verified at once, and gives it no tokens. Mails are sent from it all the same.
    """
    from ministack.services import ses_v2
    from ministack.services.cloudformation import provisioners

    known = provisioners._ses_email_identity_apply  # noqa: SLF001 - it has no other door

    def apply(identity: str, properties: dict[str, Any]) -> Any:
        record = known(identity, properties)
        if record["IdentityType"] == "DOMAIN" and not record["DkimAttributes"]["Tokens"]:
            attributes = ses_v2._easy_dkim_attributes(identity, "DOMAIN", {})  # noqa: SLF001
            attributes["SigningEnabled"] = record["DkimAttributes"]["SigningEnabled"]
            record |= {"VerifiedForSendingStatus": False, "VerificationStatus": "PENDING"}
            record["DkimAttributes"] = attributes | {"SigningHostedZone": "dkim.amazonses.com"}
            record["MailFromAttributes"]["MailFromDomainStatus"] = "PENDING"
        return record

    provisioners._ses_email_identity_apply = apply  # noqa: SLF001


def _extract_metrics() -> None:
    """Has CloudWatch take the metrics out of log lines in its embedded metric format.

    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html)
    ministack keeps them as lines only. Its alarms are not evaluated by them: it does so wrongly.
    """
    from ministack.services import cloudwatch, cloudwatch_logs

    append = cloudwatch_logs._append_log_events  # noqa: SLF001 - it has no other door

    def appended(stream: Any, events: list[dict[str, Any]]) -> Any:
        for event in events:
            if '"CloudWatchMetrics"' in event["message"]:
                with suppress(ValueError, LookupError, TypeError):
                    extract(json.loads(event["message"]))
        return append(stream, events)

    def extract(document: dict[str, Any]) -> None:
        at = document["_aws"]["Timestamp"] / 1000
        for directive in document["_aws"]["CloudWatchMetrics"]:
            for names in directive["Dimensions"]:
                dimensions = {name: document[name] for name in names}
                for metric in directive["Metrics"]:
                    found = document[metric["Name"]]
                    cloudwatch._store_datum(  # noqa: SLF001
                        directive["Namespace"],
                        metric["Name"],
                        dimensions,
                        at,
                        metric.get("Unit", "None"),
                        None,
                        found if isinstance(found, list) else [found],
                        None,
                        None,
                    )

    cloudwatch_logs._append_log_events = appended  # noqa: SLF001


def _count_hops() -> None:
    """Has Lambda end a chain of more than 16 invocations through a queue, as AWS does.

    What a function sends bears the lineage of the invocation it was sent in; a function that is
    invoked more often than that in one chain is not invoked again, and what it should have been
    given is gone, unless its property `RecursiveLoop` is `Allow`. The metric
    `RecursiveInvocationsDropped` is all that tells of it. (AWS Lambda Developer Guide, "Use Lambda
    recursive loop detection": https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html)

    ministack counts invocations that functions ask for themselves. Here the count travels with the
    messages, too; of a batch, that which has come farthest counts.
    """
    from ministack.services import lambda_svc, sqs
    from ministack.services.cloudformation import provisioners

    handle = sqs.handle_request
    attributes_of = sqs._build_send_sys_attrs  # noqa: SLF001 - they have no other door
    run_batch = lambda_svc._run_sqs_batch  # noqa: SLF001
    hops: ContextVar[int] = ContextVar("hops", default=0)

    async def handled(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, Any]
    ) -> Any:
        hops.set(lambda_svc._inbound_invoke_depth(headers))  # noqa: SLF001
        return await handle(method, path, headers, body, query)

    def attributes(now: float, given: dict[str, Any]) -> dict[str, Any]:
        return {**attributes_of(now, given), "Hops": hops.get()}

    def run(
        mapping: dict[str, Any],
        function: dict[str, Any],
        event: dict[str, Any],
        batch: list[dict[str, Any]],
        queue_url: str,
        *rest: Any,
    ) -> None:
        hop = 1 + max(message.get("sys", {}).get("Hops", 0) for message in batch)
        if lambda_svc._recursive_loop_drop(mapping["FunctionName"], function, hop):  # noqa: SLF001
            handles = {message["receipt_handle"] for message in batch}
            sqs._delete_messages_for_esm(queue_url, handles)  # noqa: SLF001
            return
        lambda_svc._invoke_depth.set(hop)  # noqa: SLF001
        run_batch(mapping, function, event, batch, queue_url, *rest)

    def obeying(provision: Any, place: int) -> Any:
        """Has what makes or changes a function, by the properties at a place, heed `RecursiveLoop`.

        Only the API of its own does so in ministack.
        """

        def provisioned(*arguments: Any, **more: Any) -> Any:
            name, attributes = provision(*arguments, **more)
            loop = arguments[place].get("RecursiveLoop", "Terminate")
            lambda_svc._functions[name]["recursive_loop"] = loop  # noqa: SLF001
            return name, attributes

        return provisioned

    sqs.handle_request = handled
    sqs._build_send_sys_attrs = attributes  # noqa: SLF001
    lambda_svc._run_sqs_batch = run  # noqa: SLF001
    function = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]  # noqa: SLF001
    function["create"] = obeying(function["create"], 1)
    function["update"] = obeying(function["update"], 2)


def _as_over_tls(app: Callable[..., Any]) -> Callable[..., Any]:
    """Has every request count as one over TLS, but those that say `X-Forwarded-Proto: http`.

    Policies refuse the others (infra/deployment/tls.py), and to ministack all are such: it listens
    without a certificate, on loopback. What services do for others goes over TLS on AWS.
    """
    from ministack.core import iam_evaluator

    origin = ContextVar("origin", default=("127.0.0.1", True))
    iam_evaluator._request_origin = origin  # noqa: SLF001 - it has no other door

    async def over_tls(scope: Any, receive: Any, send: Any) -> None:
        headers = scope.get("headers", [])
        if scope["type"] == "http" and not any(name == b"x-forwarded-proto" for name, _ in headers):
            scope = {**scope, "headers": [*headers, (b"x-forwarded-proto", b"https")]}
        await app(scope, receive, send)

    return over_tls


_OF_AUTHORIZER = re.compile(rb"\$context\.authorizer\.(\w+)")


def _main() -> None:
    threading.Thread(target=_die_with_starter, daemon=True, name="die-with-starter").start()
    # Not at the top of the file: only the emulator's own process needs (and waits for) this import.
    from ministack import app as ministack

    _authorize_batches()
    _tell_what_authorizers_say()
    _take_keys_from_authorizers()
    # This program runs without the checkout on its path.
    sys.path.insert(0, str(WORKSPACE.parent))
    from infra.local import emulated_deployments, emulated_statements, guard

    ministack.app = guard.guarded(
        _as_over_tls(ministack.app),
        int(os.environ["GATEWAY_PORT"]),
        os.environ["ALLOWED_PAGES"].split(","),
    )
    emulated_deployments.make_strict()
    emulated_statements.make_strict()
    _guard_the_accounts_settings()
    _wait_for_subscribers()
    _look_for_dkim()
    _extract_metrics()
    _count_hops()
    # ministack reads the command line, of which this program's has nothing for it.
    sys.argv[1:] = []
    ministack.main()


if __name__ == "__main__":
    _main()
