"""Has every bucket, queue and topic refuse what does not come over TLS.

The SDK speaks nothing else; what is refused is a program with a mistake in it, whose messages would
be read on their way. A queue's policy is about that queue alone, so each gets one of its own
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html,
https://docs.aws.amazon.com/sns/latest/dg/sns-security-best-practices.html).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]


class _Kind(NamedTuple):
    """How the resources of a type are protected.

    ``policy``: the type of their policies. ``about``: the property of such a policy that names one,
    and ``named`` how. ``arns``: what a statement is about.
    """

    policy: str
    about: str
    named: Callable[[str], object]
    action: str
    arns: Callable[[str], list[Json]]


def _arn(name: str) -> Json:
    return {"Fn::GetAtt": [name, "Arn"]}


_KINDS: Mapping[str, _Kind] = {
    "AWS::S3::Bucket": _Kind(
        "AWS::S3::BucketPolicy",
        "Bucket",
        lambda name: {"Ref": name},
        "s3:*",
        lambda name: [_arn(name), {"Fn::Sub": f"${{{name}.Arn}}/*"}],
    ),
    "AWS::SQS::Queue": _Kind(
        "AWS::SQS::QueuePolicy",
        "Queues",
        lambda name: [{"Ref": name}],
        "sqs:*",
        lambda name: [_arn(name)],
    ),
    "AWS::SNS::Topic": _Kind(
        "AWS::SNS::TopicPolicy",
        "Topics",
        lambda name: [{"Ref": name}],
        # A topic's policy takes no wildcard; nothing else carries what is published.
        "sns:Publish",
        lambda name: [{"Ref": name}],
    ),
}


def complete(template: Json) -> None:
    """Adds the refusal to the policy that a resource of a packaged template has, or makes one."""
    resources: dict[str, Json] = template["Resources"]
    for name, resource in list(resources.items()):
        kind = _KINDS.get(resource["Type"])
        if kind is not None:
            statements = _policy(resources, name, kind)["PolicyDocument"]["Statement"]
            statements.append(
                {
                    "Sid": "OnlyOverTls",
                    "Effect": "Deny",
                    "Principal": "*",
                    "Action": kind.action,
                    "Resource": kind.arns(name),
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                }
            )


def _policy(resources: dict[str, Json], name: str, kind: _Kind) -> Json:
    """The properties of the one policy of a resource: a second one would take the first's place."""
    about = {kind.about: kind.named(name)}
    for resource in resources.values():
        properties: Json = resource.get("Properties", {})
        if resource["Type"] == kind.policy and properties.get(kind.about) == about[kind.about]:
            return properties
    made: Json = {**about, "PolicyDocument": {"Version": "2012-10-17", "Statement": []}}
    condition = {key: resources[name][key] for key in ("Condition",) if key in resources[name]}
    resources[f"{name}Policy"] = {"Type": kind.policy, **condition, "Properties": made}
    return made
