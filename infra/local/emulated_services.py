"""Makes services of the emulator behave as AWS does, where they are more lenient or lack something.

Each function adds one fact about AWS, with its source. infra/local/emulator.py calls `make_strict`
in the emulator's own process, before it starts. CloudFormation and PartiQL have their own files.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

_OF_AUTHORIZER = re.compile(rb"\$context\.authorizer\.(\w+)")


def make_strict() -> None:
    """Makes the emulator of this process behave as AWS does. Call it before the emulator starts."""
    _authorize_batches()
    _tell_what_authorizers_say()
    _take_keys_from_authorizers()
    _guard_the_accounts_settings()
    _wait_for_subscribers()
    _look_for_dkim()
    _extract_metrics()
    _ask_about_alarms()
    _count_hops()


def _authorize_batches() -> None:
    """Authorizes a batch of messages as AWS does: by the right to the single operation.

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
    """Makes API Gateway's own answers fill in `$context.authorizer.<property>`, as AWS does.

    The variable is a property of the context that the authorizer returned with its policy.
    ministack drops that context when the policy denies.
    """
    from ministack.services import apigateway_v1 as api_gateway

    keep = api_gateway._cache_authorizer_result  # noqa: SLF001 - it has no other door
    evaluate = api_gateway._evaluate_policy  # noqa: SLF001
    respond = api_gateway._gateway_error_response  # noqa: SLF001
    said: ContextVar[dict[str, str]] = ContextVar("said")

    def kept(key: Any, expires_at: float, policy: dict[str, Any], context: dict[str, str]) -> None:
        # Stored beside the statements; only the statements are evaluated.
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
    """Makes an API take its keys from the authorizer if that is their source, as AWS does.

    The plan of the key that the authorizer named (`usageIdentifierKey`) then limits a method that
    needs a key. The method refuses a request if the authorizer named no key, or one without a plan.
    The header `x-api-key` does not count. ministack knows only that header.
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
            # Stored beside the statements; only the statements are evaluated.
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
    """Makes Lambda's `GetAccountSettings` need its right, as in AWS: ministack lets all call it.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
    """
    from ministack.core import iam_actions

    known = iam_actions._lambda_action  # noqa: SLF001 - it has no other door

    def action(method: str, path: str) -> str | None:
        is_settings = path.rstrip("/").endswith("/account-settings")
        return "GetAccountSettings" if is_settings else known(method, path)

    iam_actions._lambda_action = action  # noqa: SLF001


def _wait_for_subscribers() -> None:
    """Makes subscribers by email confirm first, and lists of subscriptions show who has not.

    Such a list has `PendingConfirmation` in place of an ARN, and SNS sends these people nothing
    (https://docs.aws.amazon.com/sns/latest/dg/sns-email-notifications.html,
    https://docs.aws.amazon.com/sns/latest/api/API_ListSubscriptionsByTopic.html). ministack asks
    only subscribers by HTTP, and lists an ARN for everybody.
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
    """Makes the identity of a domain wait for its DNS entries, whose names are three tokens.

    SES verifies a domain by these entries, and looks for up to 72 hours
    (https://docs.aws.amazon.com/ses/latest/dg/creating-identities.html). In ministack the identity
    that a stack makes is verified at once and has no tokens. Here it can send emails anyway.
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
    """Makes CloudWatch read the metrics from log lines in its embedded metric format.

    (https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html)
    ministack only keeps the lines. Its alarms do not use these metrics: it evaluates them wrongly.
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


def _ask_about_alarms() -> None:
    """Makes `DescribeAlarms` without names need the right to all alarms, as AWS does.

    (Service Authorization Reference, "Actions defined by Amazon CloudWatch":
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoncloudwatch.html;
    Amazon CloudWatch API Reference, DescribeAlarms: with a narrower scope than `*` there are no
    composite alarms in the answer.) ministack checks the right to `*`, which no right to alarms
    covers.
    """
    from ministack.core import iam_actions

    known = iam_actions.extract_resource_arn

    def arn(service: str, *request: Any) -> str:
        found: str = known(service, *request)
        *asked, region, account = request
        action = iam_actions.extract_iam_action(service, *asked)
        if found == "*" and action == "cloudwatch:DescribeAlarms":
            return f"arn:aws:cloudwatch:{region}:{account}:alarm:*"
        return found

    iam_actions.extract_resource_arn = arn


def _count_hops() -> None:
    """Makes Lambda end a chain of more than 16 invocations through a queue, as AWS does.

    A message carries the lineage of the invocation that sent it. Lambda does not invoke a function
    more often than that in one chain: the message is lost, unless the function's property
    `RecursiveLoop` is `Allow`. Only the metric `RecursiveInvocationsDropped` shows it. (AWS Lambda
    Developer Guide, "Use Lambda recursive loop detection":
    https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html)

    ministack counts direct invocations only. Here messages carry the count, too; the message with
    the longest chain decides for its batch.
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
        """Makes an operation that creates or changes a function heed `RecursiveLoop`.

        In ministack only the separate API for that property does so.
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


def as_over_tls(app: Callable[..., Any]) -> Callable[..., Any]:
    """Treats every request as one over TLS, unless it says `X-Forwarded-Proto: http`.

    Policies refuse requests without TLS (infra/deployment/tls.py). ministack listens on loopback
    without a certificate, so it would refuse every request. On AWS, services call each other over
    TLS.
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
