"""What refuses requests that do not come over TLS is added to whatever there is to protect."""

import copy
from typing import Any

import pytest

from infra.deployment import tls

REFUSAL = {
    "Sid": "OnlyOverTls",
    "Effect": "Deny",
    "Principal": "*",
    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
}


def completed(**resources: dict[str, Any]) -> dict[str, Any]:
    template = {"Resources": copy.deepcopy(resources)}
    tls.complete(template)
    return template["Resources"]


@pytest.mark.parametrize(
    ("kind", "policy", "about", "said"),
    [
        (
            "AWS::S3::Bucket",
            "AWS::S3::BucketPolicy",
            {"Bucket": {"Ref": "One"}},
            {
                "Action": "s3:*",
                "Resource": [{"Fn::GetAtt": ["One", "Arn"]}, {"Fn::Sub": "${One.Arn}/*"}],
            },
        ),
        (
            "AWS::SQS::Queue",
            "AWS::SQS::QueuePolicy",
            {"Queues": [{"Ref": "One"}]},
            {"Action": "sqs:*", "Resource": [{"Fn::GetAtt": ["One", "Arn"]}]},
        ),
        (
            "AWS::SNS::Topic",
            "AWS::SNS::TopicPolicy",
            {"Topics": [{"Ref": "One"}]},
            {"Action": "sns:Publish", "Resource": [{"Ref": "One"}]},
        ),
    ],
)
def test_one_without_a_policy_gets_one_and_a_policy_that_is_there_keeps_what_it_says(
    kind: str, policy: str, about: dict[str, Any], said: dict[str, Any]
) -> None:
    bare = completed(One={"Type": kind})
    assert bare["OnePolicy"] == {
        "Type": policy,
        "Properties": {
            **about,
            "PolicyDocument": {"Version": "2012-10-17", "Statement": [REFUSAL | said]},
        },
    }
    assert set(bare) == {"One", "OnePolicy"}
    other = {"Ref": "Other"}
    others = {"Type": policy, "Properties": dict.fromkeys(about, other)}
    document = {"Version": "2012-10-17", "Statement": [{"Sid": "Own"}]}
    own = {"Type": policy, "Properties": {**about, "PolicyDocument": document}}
    found = completed(Others=others, Own=own, One={"Type": kind})
    assert set(found) == {"One", "Others", "Own"}
    assert found["Others"] == others
    assert found["Own"]["Properties"]["PolicyDocument"]["Statement"] == [
        {"Sid": "Own"},
        REFUSAL | said,
    ]


def test_one_that_a_stage_may_not_have_takes_its_policy_with_it() -> None:
    found = completed(One={"Type": "AWS::SQS::Queue", "Condition": "IsFull"})
    assert found["OnePolicy"]["Condition"] == "IsFull"


def test_nothing_else_gets_a_policy() -> None:
    assert set(completed(Table={"Type": "AWS::DynamoDB::Table"})) == {"Table"}
