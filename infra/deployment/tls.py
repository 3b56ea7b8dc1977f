"""Makes every bucket, queue and topic refuse requests without TLS.

The SDK always uses TLS. The policies stop faulty programs, whose messages others could read on the
way. A queue's policy covers only that queue, so each queue gets its own
(https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-security-best-practices.html,
https://docs.aws.amazon.com/AmazonS3/latest/userguide/security-best-practices.html,
https://docs.aws.amazon.com/sns/latest/dg/sns-security-best-practices.html).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]


class _Kind(NamedTuple):
    """How to protect the resources of a type.

    ``policy``: the type of their policies. ``about``: the property of a policy that refers to the
    resource, and ``named``: the reference. ``arns``: the resources of a statement.
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
        # A topic's policy takes no wildcard. No other action carries published messages.
        "sns:Publish",
        lambda name: [{"Ref": name}],
    ),
}


def complete(template: Json) -> None:
    """Adds the refusal to the policy of each resource of a packaged template, or makes a policy."""
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
    """The properties of a resource's only policy: a second policy would replace the first."""
    about = {kind.about: kind.named(name)}
    for resource in resources.values():
        properties: Json = resource.get("Properties", {})
        if resource["Type"] == kind.policy and properties.get(kind.about) == about[kind.about]:
            return properties
    made: Json = {**about, "PolicyDocument": {"Version": "2012-10-17", "Statement": []}}
    condition = {key: resources[name][key] for key in ("Condition",) if key in resources[name]}
    resources[f"{name}Policy"] = {"Type": kind.policy, **condition, "Properties": made}
    return made
