"""The emulator's CloudFormation acts with the rights of its caller, as AWS's does."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ministack.core import iam_actions, iam_evaluator, responses
from ministack.services.cloudformation import engine, handlers, helpers, stacks

import infra.deployment
from infra.deployment.deploy_calls import ARNS, NAMELESS
from infra.local import emulated_rights

Json = dict[str, Any]

REGION, ACCOUNT = "eu-west-1", "123456789012"
DEPLOYER = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/session"
QUEUE = "AWS::SQS::Queue"
VIA = {"aws:calledvia": ["cloudformation.amazonaws.com"]}


class Rights:
    """What the caller may do, and which calls a resource needs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.caller = DEPLOYER
        self.statements: list[Json] = []
        self.calls: dict[str, set[str]] = {}
        self.asked: list[Any] = []
        self.done: list[Any] = []

        def replace(module: Any, **parts: Any) -> None:
            for name, part in parts.items():
                monkeypatch.setattr(module, name, part, raising=False)

        def policies(role: str, account: str) -> Any:
            assert (role, account) == ("deployer", ACCOUNT)
            document = {"Version": "2012-10-17", "Statement": self.statements}
            return [iam_evaluator.parse_policy_document(document)]

        replace(responses, get_account_id=lambda: ACCOUNT, get_region=lambda: REGION)
        replace(iam_evaluator, caller_arn=lambda: self.caller, _gather_role_policies=policies)
        replace(infra.deployment, deploy_policy=SimpleNamespace(calls=self._calls))
        replace(
            stacks,
            _provision_resource=self._doing("create"),
            _update_resource=self._doing("update"),
            _delete_resource=self._doing("delete"),
        )

    def _calls(self, kind: str, handler: str, properties: Json) -> frozenset[str]:
        self.asked.append((kind, handler, properties))
        return frozenset(self.calls.get(handler, ()))

    def _doing(self, what: str) -> Callable[..., str]:
        def do(*asked: Any, **named: Any) -> str:
            self.done.append((what, *asked, named))
            return f"{what}d"

        return do

    def allow(self, action: str, resource: str, **conditions: Json) -> None:
        statement = {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:{resource}"}
        self.statements.append(statement | ({"Condition": conditions} if conditions else {}))


@pytest.fixture
def rights(monkeypatch: pytest.MonkeyPatch) -> Rights:
    made = Rights(monkeypatch)
    emulated_rights._act_with_the_rights_of_the_caller()
    return made


def test_a_resource_is_made_changed_and_deleted_with_the_callers_rights_to_each_call(
    rights: Rights,
) -> None:
    queue = {"QueueName": "one"}
    rights.calls = {
        "create": {"sqs:CreateQueue"},
        "read": {"sqs:GetQueueAttributes", "sqs:ListQueueTags"},
        "update": {"sqs:SetQueueAttributes"},
        "delete": {"sqs:DeleteQueue"},
    }

    def do() -> list[Callable[[], object]]:
        return [
            lambda: stacks._provision_resource(QUEUE, "Queue", queue, "stack"),
            lambda: stacks._update_resource(QUEUE, "id", queue, {**queue, "x": 1}, "more", of=1),
            lambda: stacks._delete_resource(QUEUE, "id", queue, "more", of=1),
        ]

    needed = ("sqs:CreateQueue", "sqs:SetQueueAttributes", "sqs:DeleteQueue")
    for call, action in zip(do(), needed, strict=True):
        with pytest.raises(ValueError, match=f"{DEPLOYER} is not .* perform: {action} on .*:one$"):
            call()
        rights.allow(action, f"sqs:{REGION}:{ACCOUNT}:one")
    for action in ("sqs:GetQueueAttributes", "sqs:ListQueueTags"):
        with pytest.raises(ValueError, match=f"perform: {action} on"):
            stacks._provision_resource(QUEUE, "Queue", queue, "stack")
        rights.allow(action, f"sqs:{REGION}:{ACCOUNT}:one")
    assert rights.done == []
    assert [call() for call in do()] == ["created", "updated", "deleted"]
    changed = {**queue, "x": 1}
    assert rights.done == [
        ("create", QUEUE, "Queue", queue, "stack", {}),
        ("update", QUEUE, "id", queue, changed, "more", {"of": 1}),
        ("delete", QUEUE, "id", queue, "more", {"of": 1}),
    ]
    assert rights.asked[-4:] == [
        (QUEUE, "create", queue),
        (QUEUE, "read", queue),
        (QUEUE, "update", changed),
        (QUEUE, "delete", queue),
    ]


def test_what_stays_as_it_is_and_what_the_root_user_does_needs_no_right(rights: Rights) -> None:
    rights.calls = {handler: {"sqs:Any"} for handler in ("create", "read", "update", "delete")}
    same = {"QueueName": "one"}
    assert stacks._update_resource(QUEUE, "id", same, {**same}) == "updated"
    rights.caller = f"arn:aws:iam::{ACCOUNT}:root"
    assert stacks._provision_resource(QUEUE, "Queue", same, "stack") == "created"
    assert stacks._update_resource(QUEUE, "id", same, {}) == "updated"
    assert stacks._delete_resource(QUEUE, "id", same) == "deleted"
    assert emulated_rights._refusal("sqs:Any", "arn:aws:sqs:::x", {}) == ""


def test_a_resource_that_has_no_name_yet_is_known_by_its_stack_and_place_in_it(
    rights: Rights,
) -> None:
    rights.calls = {"create": {"iam:CreateRole"}}
    with pytest.raises(ValueError, match=rf"iam::{ACCOUNT}:role/stack-Role-0123456789AB$"):
        stacks._provision_resource("AWS::IAM::Role", "Role", {}, "stack")


def test_a_right_to_the_first_of_two_resources_is_not_enough(rights: Rights) -> None:
    rights.calls = {"delete": {"apigateway:DELETE"}}
    kind = "AWS::ApiGateway::RestApi"
    for place in ("/restapis", "/restapis/id"):
        with pytest.raises(ValueError, match=f"::{place}$"):
            stacks._delete_resource(kind, "id", {})
        rights.allow("apigateway:DELETE", f"apigateway:{REGION}::{place}")
    assert stacks._delete_resource(kind, "id", {}) == "deleted"


def test_a_condition_of_a_right_is_asked_of_each_request(rights: Rights) -> None:
    rights.calls = {"create": {"iam:PassRole"}}
    properties = {"Role": f"arn:aws:iam::{ACCOUNT}:role/of-a-function"}
    role = f"iam::{ACCOUNT}:role/of-a-function"
    rights.allow("iam:PassRole", role, StringEquals={"iam:PassedToService": "ec2.amazonaws.com"})
    with pytest.raises(ValueError, match="iam:PassRole"):
        stacks._provision_resource("AWS::Lambda::Function", "F", properties, "stack")
    rights.allow(
        "iam:PassRole",
        role,
        StringEquals={
            "iam:PassedToService": "lambda.amazonaws.com",
            "aws:PrincipalAccount": ACCOUNT,
            "aws:RequestedRegion": REGION,
        },
        **{"ForAnyValue:StringEquals": {"aws:CalledVia": ["cloudformation.amazonaws.com"]}},
    )
    assert stacks._provision_resource("AWS::Lambda::Function", "F", properties, "stack")


SERVICE_ROLE = (
    f"iam::{ACCOUNT}:role/aws-service-role/ops.apigateway.amazonaws.com/AWSServiceRoleForAPIGateway"
)
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:f"
CODE = {"Code": {"S3Bucket": "bucket", "S3Key": "a/b.zip"}}


@pytest.mark.parametrize(
    ("action", "kind", "properties", "resources"),
    [
        ("sqs:X", "SQS::Queue", {"QueueName": "q"}, [f"sqs:{REGION}:{ACCOUNT}:q"]),
        ("sqs:X", "SQS::Queue", {}, [f"sqs:{REGION}:{ACCOUNT}:id"]),
        ("sqs:X", "SQS::QueuePolicy", {"Queues": ["http://x/1/q"]}, [f"sqs:{REGION}:{ACCOUNT}:q"]),
        ("sns:X", "SNS::TopicPolicy", {"Topics": ["arn:aws:sns:::t", "arn:u"]}, ["sns:::t"]),
        ("sns:X", "SNS::Subscription", {"TopicArn": "arn:aws:sns:::t"}, ["sns:::t"]),
        ("lambda:X", "Lambda::Permission", {"FunctionName": FUNCTION}, [FUNCTION[8:]]),
        ("lambda:X", "Lambda::Function", {"FunctionName": "f"}, [FUNCTION[8:]]),
        (
            "apigateway:X",
            "ApiGateway::RestApi",
            {"Name": "api"},
            [f"apigateway:{REGION}::/restapis", f"apigateway:{REGION}::/restapis/id"],
        ),
        (
            "apigateway:X",
            "ApiGateway::Stage",
            {"RestApiId": "r"},
            [f"apigateway:{REGION}::/restapis/r/stages"],
        ),
        ("iam:X", "IAM::Policy", {"Roles": ["r", "s"]}, [f"iam::{ACCOUNT}:role/r"]),
        ("iam:PassRole", "Lambda::Function", {"Role": "arn:aws:iam::1:role/r"}, ["iam::1:role/r"]),
        ("s3:GetObject", "Lambda::Function", CODE, ["s3:::bucket/a/b.zip"]),
        ("route53:GetChange", "Route53::RecordSet", {}, ["route53:::change/C0123456789"]),
        (
            "iam:CreateServiceLinkedRole",
            "ApiGateway::DomainName",
            {},
            [SERVICE_ROLE],
        ),
    ],
)
def test_a_call_needs_rights_on_the_resources_by_their_real_names(
    action: str, kind: str, properties: Json, resources: list[str]
) -> None:
    found = emulated_rights._resources(action, f"AWS::{kind}", properties, "id", ACCOUNT, REGION)
    assert found == [f"arn:aws:{resource}" for resource in resources]


def test_resources_are_where_the_policy_of_who_deploys_looks_for_them() -> None:
    """Service, region and account of each ARN; the policy names stages, and these resources."""
    for kind, places in emulated_rights._PLACES.items():
        looked_for = {tuple(arn.split(":")[:3]) for arn in ARNS[f"AWS::{kind}"]}
        whole = {place for place in places if not place.startswith("{")}
        assert {tuple(place.split(":")[:3]) for place in whole} <= looked_for, kind


def test_a_call_that_takes_no_resource_needs_the_right_to_all_of_them() -> None:
    for action in sorted(NAMELESS):
        assert emulated_rights._resources(action, QUEUE, {}, "id", ACCOUNT, REGION) == ["*"]


@pytest.mark.parametrize(
    ("action", "properties", "more"),
    [
        ("sqs:CreateQueue", {"FunctionName": "f"}, {}),
        (
            "lambda:DeleteEventSourceMapping",
            {"FunctionName": "f"},
            {"lambda:functionarn": FUNCTION},
        ),
        (
            "lambda:GetEventSourceMapping",
            {"FunctionName": FUNCTION},
            {"lambda:functionarn": FUNCTION},
        ),
        ("iam:PassRole", {}, {"iam:passedtoservice": "lambda.amazonaws.com"}),
        (
            "iam:CreateServiceLinkedRole",
            {},
            {"iam:awsservicename": "ops.apigateway.amazonaws.com"},
        ),
    ],
)
def test_conditions_can_ask_for_what_aws_tells_of_a_call(
    action: str, properties: Json, more: Json
) -> None:
    assert emulated_rights._context(action, properties, ACCOUNT, REGION) == VIA | more


def test_a_change_set_needs_the_right_to_its_template_and_to_each_transform(
    rights: Rights, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = {
        "many": '{"Transform": ["AWS::LanguageExtensions", "AWS::Serverless-2016-10-31"]}',
        "none": "{}",
        "gone": None,
    }

    def resolve(params: Json) -> tuple[str | None, None]:
        return bodies[params["body"]], None

    monkeypatch.setattr(helpers, "_resolve_template", resolve)
    monkeypatch.setitem(handlers._ACTION_HANDLERS, "CreateChangeSet", lambda asked: ("made", asked))
    emulated_rights._read_and_transform_with_the_rights_of_the_caller()
    create = handlers._ACTION_HANDLERS["CreateChangeSet"]
    asked = {"TemplateURL": ["https://s3.eu-west-1.amazonaws.com/bucket/a/b.json"], "body": "many"}
    transform = f"cloudformation:{REGION}:aws:transform/"
    for action, resource in (
        ("s3:GetObject", "s3:::bucket/a/b.json"),
        ("cloudformation:CreateChangeSet", f"{transform}LanguageExtensions"),
        ("cloudformation:CreateChangeSet", f"{transform}Serverless-2016-10-31"),
    ):
        status, _, body = create(asked)
        assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)
        assert f"perform: {action} on resource: arn:aws:{resource}<" in body.decode()
        by_stack = {"ForAnyValue:StringEquals": {"aws:CalledVia": VIA["aws:calledvia"]}}
        rights.allow(action, resource, **(by_stack if action.startswith("s3:") else {}))
    assert create(asked) == ("made", asked)
    rights.statements = []
    for without in ({"body": "none"}, {"body": "gone"}):
        assert create(without) == ("made", without), "a template that comes with the request"
    rights.caller = f"arn:aws:iam::{ACCOUNT}:root"
    assert create(asked) == ("made", asked)
    assert engine.declared_transforms({}) == []


def test_a_rule_of_the_default_bus_is_named_alone_and_the_bus_is_no_rule(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        iam_actions, "extract_resource_arn", lambda *asked: f"arn:aws:events:::rule/{asked[2]}"
    )
    emulated_rights._name_rules_without_the_default_bus()
    arn = iam_actions.extract_resource_arn
    rule, bus = ({"x-amz-target": f"AWSEvents.{name}"} for name in ("PutRule", "DescribeEventBus"))
    assert arn("events", "POST", "default/tick", rule, b"") == "arn:aws:events:::rule/tick"
    assert arn("events", "POST", "credits/tick", rule, b"") == "arn:aws:events:::rule/credits/tick"
    assert (
        arn("events", "POST", "default/credits", bus, b"") == "arn:aws:events:::event-bus/credits"
    )
    assert arn("events", "POST", "default/tick", {}) == "arn:aws:events:::rule/tick"
