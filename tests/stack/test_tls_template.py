"""No bucket, queue or topic of the stack takes what does not come over TLS; every one is found."""

from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from ministack.core.iam_evaluator import EvalContext, evaluate_resource_policy

from infra.local.stacks import LocalStack
from tests.stack.resolved import Json, Stack, Template, resolve
from tests.stack.test_deploy import as_role_of

ACTIONS = {
    "AWS::S3::Bucket": ("s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:PutBucketPolicy"),
    "AWS::SQS::Queue": ("sqs:SendMessage", "sqs:ReceiveMessage", "sqs:DeleteMessage"),
    "AWS::SNS::Topic": ("sns:Publish",),
}
ABOUT = {
    "AWS::S3::BucketPolicy": "Bucket",
    "AWS::SQS::QueuePolicy": "Queues",
    "AWS::SNS::TopicPolicy": "Topics",
}


@pytest.fixture(scope="module", params=["dev", "prod"])
def stack_of_aws(template: Template, request: pytest.FixtureRequest) -> Stack:
    return resolve(template, request.param)


def protected(stack: Stack) -> Iterator[tuple[str, str]]:
    """The name and the type of all that can be reached without TLS unless it refuses that."""
    for kind in ACTIONS:
        for name, _ in stack.of_type(kind):
            yield name, kind


def policies_of(stack: Stack, name: str) -> list[Json]:
    reference = stack.resources[name]["Ref"]
    return [
        policy["PolicyDocument"]
        for kind, about in ABOUT.items()
        for _, policy in stack.of_type(kind)
        if policy[about] in (reference, [reference])
    ]


def decision(document: Json, action: str, resource: str, *, over_tls: bool) -> str:
    asked = EvalContext(
        principal_arn="arn:aws:sts::000000000000:assumed-role/any/session",
        principal_type="AssumedRole",
        principal_account="000000000000",
        action=action,
        resource_arn=resource,
        region="us-east-1",
        secure_transport=over_tls,
    )
    return str(evaluate_resource_policy(document, asked).decision)


def test_each_has_one_policy_for_a_second_would_take_its_place(stack_of_aws: Stack) -> None:
    found = dict(protected(stack_of_aws))
    assert set(found.values()) == set(ACTIONS)
    assert {name: len(policies_of(stack_of_aws, name)) for name in found} == dict.fromkeys(found, 1)


def test_what_does_not_come_over_tls_is_refused_by_all_and_what_does_by_none(
    stack_of_aws: Stack,
) -> None:
    for name, kind in protected(stack_of_aws):
        (document,) = policies_of(stack_of_aws, name)
        its_arn = stack_of_aws.arn(name)
        for action in ACTIONS[kind]:
            resource = f"{its_arn}/a/b" if action.endswith("Object") else its_arn
            assert decision(document, action, resource, over_tls=False) == "Deny", (name, action)
            assert decision(document, action, resource, over_tls=True) != "Deny", (name, action)


def test_a_policy_is_about_its_own_resource_and_no_other(stack_of_aws: Stack) -> None:
    """SQS takes no policy that is about another queue."""
    for name, _ in protected(stack_of_aws):
        (document,) = policies_of(stack_of_aws, name)
        its_arn = stack_of_aws.arn(name)
        for statement in document["Statement"]:
            resources = statement["Resource"]
            named = {resources} if isinstance(resources, str) else {*resources}
            assert named <= {its_arn, f"{its_arn}/*"}


def test_a_deployed_queue_refuses_a_role_that_does_not_speak_tls(stack: LocalStack) -> None:
    sqs = as_role_of(stack, "sweep-zone", "sqs")
    queue = {"QueueUrl": stack.queues["allocations"], "MessageBody": "tls"}

    def plain(request: Json, **_: object) -> None:
        request.headers["X-Forwarded-Proto"] = "http"  # type: ignore[attr-defined]

    sqs.meta.events.register("before-sign.sqs.SendMessage", plain)
    with pytest.raises(ClientError, match=r"explicit deny in a resource-based policy"):
        sqs.send_message(**queue)
