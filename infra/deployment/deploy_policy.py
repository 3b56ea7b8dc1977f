"""The rights that a deployment takes, as policy documents for IAM.

A deployment calls CloudFormation, and CloudFormation calls the other services with the rights of
its caller. So there are two lists. `OWN_CALLS` holds the calls of infra/ itself: when you add a
call to a deployment, add it there. The calls of CloudFormation are derived from the template. For
each type of resource AWS publishes the calls that create, read, update and delete it (the
`handlers` of the type's schema, which cfn-lint brings). `ONLY_WITH` names those of them that are
only made for properties that a resource may lack.

Every right is bound to the names of one stage. The rights for CloudFormation's calls only hold when
CloudFormation makes them (aws:CalledVia): the role itself can read no table and make no queue.
CloudFormation User Guide, "Forward access sessions (FAS) requests and permission evaluation":
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/fas-requests-and-permission-evaluation.html
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from functools import cache
from typing import Any

import botocore.session
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

from infra.deployment.artifacts import artifacts_bucket
from infra.deployment.errors import DeployError
from infra.deployment.parameters import declared_parameters
from infra.deployment.stack_facts import stack_name

Json = dict[str, Any]

LARGEST_POLICY = 6_144
"""The most characters of a managed policy, white space not counted (IAM User Guide, "IAM and AWS
STS quotas"). A role takes ten such policies."""

HANDLERS = ("create", "read", "update", "delete")

_BUCKETS = (
    "s3:::{stack}-anchors-{account}-{region}",
    "s3:::{stack}-reports-{account}-{region}",
)

OWN_CALLS: Sequence[tuple[tuple[str, ...], tuple[str, ...]]] = (
    (
        ("cloudformation:{region}:{account}:stack/{stack}/*",),
        (
            "cloudformation:CreateChangeSet",
            "cloudformation:DeleteChangeSet",
            "cloudformation:DeleteStack",
            "cloudformation:DescribeChangeSet",
            "cloudformation:DescribeStackEvents",
            "cloudformation:DescribeStacks",
            "cloudformation:ExecuteChangeSet",
            "cloudformation:ListStackResources",
            "cloudformation:TagResource",
        ),
    ),
    # The transforms that the template names (CloudFormation User Guide, "Control CloudFormation
    # access with AWS Identity and Access Management").
    (
        (
            "cloudformation:{region}:aws:transform/LanguageExtensions",
            "cloudformation:{region}:aws:transform/Serverless-2016-10-31",
        ),
        ("cloudformation:CreateChangeSet",),
    ),
    # The archive and the template: CloudFormation and Lambda read them with our rights.
    (
        ("s3:::{artifacts}",),
        (
            "s3:CreateBucket",
            "s3:ListBucket",
            "s3:PutBucketPublicAccessBlock",
            "s3:PutEncryptionConfiguration",
        ),
    ),
    (("s3:::{artifacts}/*",), ("s3:GetObject", "s3:PutObject")),
    # The alarms that roll an update back. Not by their names: we ask for a list of alarms.
    (("*",), ("cloudwatch:DescribeAlarms",)),
    # Resources that an earlier stack left (infra/deployment/retained.py).
    (
        ("dynamodb:{region}:{account}:table/{stack}-*",),
        (
            "dynamodb:DescribeContinuousBackups",
            "dynamodb:DescribeTable",
            "dynamodb:DescribeTimeToLive",
        ),
    ),
    (_BUCKETS, ("s3:ListBucket",)),
    (
        ("secretsmanager:{region}:{account}:secret:{stack}-*",),
        ("secretsmanager:DescribeSecret",),
    ),
    # What the doctor looks at before a deployment (infra/doctor/): the account, and taken names.
    # The plans are read from the code of a running function, too.
    (("*",), ("lambda:GetAccountSettings", "logs:DescribeLogGroups", "ses:GetAccount")),
    (("apigateway:{region}::/account",), ("apigateway:GET",)),
    (("events:{region}:{account}:rule/{stack}-*",), ("events:DescribeRule",)),
    (("lambda:{region}:{account}:function:{stack}-*",), ("lambda:GetFunction",)),
    (
        ("ses:{region}:{account}:configuration-set/{stack}",),
        ("ses:GetConfigurationSet",),
    ),
    (("ses:{region}:{account}:identity/{mail_domain}",), ("ses:GetEmailIdentity",)),
    (("sns:{region}:{account}:{stack}-*",), ("sns:GetTopicAttributes",)),
    (("sqs:{region}:{account}:{stack}-*",), ("sqs:GetQueueUrl",)),
)
"""The calls of a deployment itself: the ARNs (without arn:aws:) and the actions on them."""

_APIS = tuple(f"apigateway:{{region}}::/{part}" for part in ("restapis*", "usageplans*", "tags/*"))
_ROLES = ("iam::{account}:role/{stack}-*",)

ARNS: Mapping[str, tuple[str, ...]] = {
    "AWS::ApiGateway::ApiKey": ("apigateway:{region}::/apikeys*", "apigateway:{region}::/tags/*"),
    "AWS::ApiGateway::BasePathMapping": ("apigateway:{region}::/domainnames/{api_domain}*",),
    "AWS::ApiGateway::Deployment": _APIS,
    "AWS::ApiGateway::DomainName": (
        "apigateway:{region}::/domainnames",
        "apigateway:{region}::/domainnames/{api_domain}*",
        "apigateway:{region}::/tags/*",
    ),
    "AWS::ApiGateway::RestApi": _APIS,
    "AWS::ApiGateway::Stage": _APIS,
    "AWS::ApiGateway::UsagePlan": _APIS,
    "AWS::ApiGateway::UsagePlanKey": _APIS,
    "AWS::CloudWatch::Alarm": ("cloudwatch:{region}:{account}:alarm:{stack}-*",),
    "AWS::CloudWatch::Dashboard": ("cloudwatch::{account}:dashboard/{stack}",),
    "AWS::DynamoDB::Table": ("dynamodb:{region}:{account}:table/{stack}-*",),
    "AWS::Events::Rule": ("events:{region}:{account}:rule/{stack}-*",),
    "AWS::IAM::Policy": _ROLES,
    "AWS::IAM::Role": _ROLES,
    "AWS::KMS::Key": ("kms:{region}:{account}:key/*",),
    "AWS::Lambda::EventSourceMapping": ("lambda:{region}:{account}:event-source-mapping:*",),
    "AWS::Lambda::Function": ("lambda:{region}:{account}:function:{stack}-*",),
    "AWS::Lambda::Permission": ("lambda:{region}:{account}:function:{stack}-*",),
    "AWS::Logs::LogGroup": (
        "logs:{region}:{account}:log-group:/aws/lambda/{stack}-*",
        "logs:{region}:{account}:log-group:/aws/apigateway/{stack}*",
    ),
    "AWS::Route53::RecordSet": ("route53:::hostedzone/{hosted_zone}",),
    "AWS::S3::Bucket": _BUCKETS,
    "AWS::S3::BucketPolicy": _BUCKETS,
    "AWS::SES::ConfigurationSet": ("ses:{region}:{account}:configuration-set/{stack}",),
    "AWS::SES::ConfigurationSetEventDestination": (
        "ses:{region}:{account}:configuration-set/{stack}",
    ),
    "AWS::SES::EmailIdentity": ("ses:{region}:{account}:identity/{mail_domain}",),
    "AWS::SNS::Subscription": ("sns:{region}:{account}:{stack}-*",),
    "AWS::SNS::Topic": ("sns:{region}:{account}:{stack}-*",),
    "AWS::SNS::TopicPolicy": ("sns:{region}:{account}:{stack}-*",),
    "AWS::SQS::Queue": ("sqs:{region}:{account}:{stack}-*",),
    "AWS::SQS::QueuePolicy": ("sqs:{region}:{account}:{stack}-*",),
    "AWS::SecretsManager::Secret": ("secretsmanager:{region}:{account}:secret:{stack}-*",),
    "AWS::WAFv2::WebACLAssociation": (
        "apigateway:{region}::/restapis/*/stages/*",
        "{web_acl}",
    ),
}
"""The resources of a type that a stage has. Ids of APIs, keys and mappings are not known before."""

NAMELESS = frozenset(
    {
        "kms:CreateKey",
        "lambda:CreateEventSourceMapping",
        "lambda:GetAccountSettings",
        "logs:DescribeIndexPolicies",
        "logs:DescribeLogGroups",
        "logs:DescribeResourcePolicies",
        "secretsmanager:GetRandomPassword",
        "ses:DescribeConfigurationSet",
        "ses:GetAccount",
        "sns:GetSubscriptionAttributes",
        "sns:SetSubscriptionAttributes",
        "sns:Unsubscribe",
    }
)
"""Actions that IAM only allows on all resources (Service Authorization Reference, "Actions,
resources, and condition keys for AWS services")."""

_OF_MAPPINGS = frozenset(
    f"lambda:{verb}EventSourceMapping" for verb in ("Create", "Delete", "Get", "Update")
)

ONLY_WITH: Mapping[str, Mapping[str | None, str]] = {
    "AWS::ApiGateway::RestApi": {
        "BodyS3Location": "s3:GetObject",
        "Policy": "apigateway:UpdateRestApiPolicy",
        # A role for API Gateway to call the function of a route; ours has a permission instead.
        "credentials": "iam:PassRole",
    },
    "AWS::DynamoDB::Table": {
        "ContributorInsightsSpecification": "dynamodb:UpdateContributorInsights",
        "ImportSourceSpecification": "dynamodb:*Import* logs:* s3:*",
        "KMSMasterKeyId": "kms:*",
        "KinesisStreamSpecification": (
            "dynamodb:EnableKinesis* dynamodb:DisableKinesis* dynamodb:UpdateKinesis* kinesis:* "
            "iam:CreateServiceLinkedRole"
        ),
        "ResourcePolicy": "dynamodb:PutResourcePolicy dynamodb:DeleteResourcePolicy",
        "TimeToLiveSpecification": "dynamodb:UpdateTimeToLive",
        # For replicas, which only another type has. A deployment reads no ledger.
        None: "dynamodb:*Replica dynamodb:*Item dynamodb:Query dynamodb:Scan",
    },
    "AWS::Events::Rule": {"RoleArn": "iam:PassRole"},
    "AWS::IAM::Policy": {"Groups": "iam:*GroupPolicy", "Users": "iam:*UserPolicy"},
    "AWS::IAM::Role": {
        "Description": "iam:UpdateRoleDescription",
        "ManagedPolicyArns": "iam:AttachRolePolicy iam:DetachRolePolicy",
        "MaxSessionDuration": "iam:UpdateRole",
        "PermissionsBoundary": "iam:*RolePermissionsBoundary",
    },
    "AWS::KMS::Key": {"Enabled": "kms:DisableKey kms:EnableKey"},
    "AWS::Lambda::EventSourceMapping": {"KmsKeyArn": "kms:*"},
    "AWS::Lambda::Function": {
        "CapacityProviderConfig": "lambda:PassCapacityProvider",
        "CodeSigningConfigArn": (
            "lambda:GetCodeSigningConfig lambda:PutFunctionCodeSigningConfig "
            "lambda:DeleteFunctionCodeSigningConfig"
        ),
        "FileSystemConfigs": "elasticfilesystem:* s3files:*",
        "FunctionScalingConfig": "lambda:PutFunctionScalingConfig",
        "KmsKeyArn": "kms:*",
        "Layers": "lambda:GetLayerVersion",
        "PublishToLatestPublished": "lambda:PublishVersion",
        "RecursiveLoop": "lambda:PutFunctionRecursionConfig",
        "ReservedConcurrentExecutions": (
            "lambda:PutFunctionConcurrency lambda:DeleteFunctionConcurrency"
        ),
        "RuntimeManagementConfig": "lambda:AssociateRuntimeAlias lambda:PutRuntimeManagementConfig",
        "S3ObjectVersion": "s3:GetObjectVersion",
        "VpcConfig": "ec2:*",
    },
    "AWS::Logs::LogGroup": {
        "BearerTokenAuthenticationEnabled": "logs:PutBearerTokenAuthentication",
        "DataProtectionPolicy": (
            "firehose:* logs:CreateLogDelivery logs:PutDataProtectionPolicy s3:* "
            "logs:DeleteDataProtectionPolicy"
        ),
        "DeletionProtectionEnabled": "logs:PutLogGroupDeletionProtection",
        "FieldIndexPolicies": "logs:PutIndexPolicy logs:DeleteIndexPolicy",
        "KmsKeyId": "logs:AssociateKmsKey logs:DisassociateKmsKey",
        "ResourcePolicyDocument": "logs:PutResourcePolicy logs:DeleteResourcePolicy",
    },
    "AWS::Route53::RecordSet": {"HostedZoneName": "route53:ListHostedZones"},
    "AWS::S3::Bucket": {
        "AbacStatus": "s3:PutBucketAbac",
        "AccelerateConfiguration": "s3:PutAccelerateConfiguration",
        "AccessControl": "s3:PutBucketAcl s3:PutObjectAcl",
        "AnalyticsConfigurations": "s3:PutAnalyticsConfiguration s3:DeleteBucketAnalytics*",
        "CorsConfiguration": "s3:PutBucketCORS s3:DeleteBucketCors",
        "IntelligentTieringConfigurations": "s3:PutIntelligentTieringConfiguration",
        "InventoryConfigurations": "s3:PutInventoryConfiguration",
        "LifecycleConfiguration": "s3:PutLifecycleConfiguration s3:DeleteBucketLifecycle",
        "LoggingConfiguration": "s3:PutBucketLogging",
        "MetadataConfiguration": "s3tables:* s3:CreateBucketMetadata* s3:UpdateBucketMetadata*",
        "MetadataTableConfiguration": "s3tables:* s3:*BucketMetadataTableConfiguration",
        "MetricsConfigurations": "s3:PutMetricsConfiguration s3:DeleteBucketMetrics*",
        "NotificationConfiguration": "s3:PutBucketNotification",
        "ObjectLockConfiguration": "s3:PutBucketObjectLock* s3:PutObjectLockConfiguration",
        "ReplicationConfiguration": (
            "iam:PassRole s3:PutBucketReplication s3:PutReplicationConfiguration "
            "s3:DeleteBucketReplication"
        ),
        "WebsiteConfiguration": "s3:PutBucketWebsite s3:DeleteBucketWebsite",
        # No rights to the objects in the bucket.
        None: "s3:DeleteObject",
    },
    "AWS::SES::ConfigurationSet": {
        "ArchivingOptions": "ses:PutConfigurationSetArchivingOptions",
        "DeliveryOptions": "ses:PutConfigurationSetDeliveryOptions",
        "TrackingOptions": "ses:PutConfigurationSetTrackingOptions",
        "VdmOptions": "ses:PutConfigurationSetVdmOptions",
    },
    # The role for a Firehose stream.
    "AWS::SES::ConfigurationSetEventDestination": {"IAMRoleARN": "iam:PassRole"},
    "AWS::SES::EmailIdentity": {
        "ConfigurationSetAttributes": "ses:PutEmailIdentityConfigurationSetAttributes",
    },
    "AWS::SNS::Subscription": {"SubscriptionRoleArn": "iam:GetRole iam:PassRole"},
    "AWS::SNS::Topic": {
        "DataProtectionPolicy": "sns:PutDataProtectionPolicy",
        "DeliveryStatusLogging": "iam:GetRole iam:PassRole",
        "Subscription": "sns:Subscribe sns:Unsubscribe",
    },
    # Services other than API Gateway that can have a web ACL.
    "AWS::WAFv2::WebACLAssociation": {
        None: (
            "amplify:* apprunner:* appsync:* bedrock-agentcore:* cognito-idp:* ec2:* "
            "elasticloadbalancing:*"
        ),
    },
    "AWS::SecretsManager::Secret": {
        "ReplicaRegions": "secretsmanager:ReplicateSecretToRegions secretsmanager:RemoveRegions*",
    },
}
"""Actions in AWS's lists that are only called if a resource has a property, at any depth: patterns.
None stands for actions that no property of the type needs."""

# API Gateway creates the role that reads certificates when the first domain name is made, with the
# rights of that caller (API Gateway Developer Guide, "Using service-linked roles"). No list has it.
_ALSO_CALLED = {("AWS::ApiGateway::DomainName", "create"): ("iam:CreateServiceLinkedRole",)}

_SERVICE_LINKED = "ops.apigateway.amazonaws.com"


@dataclass(frozen=True)
class Names:
    """The stage, account and region that rights are bound to."""

    partition: str
    account: str
    region: str
    stack: str
    artifacts: str
    mail_domain: str
    api_domain: str
    hosted_zone: str
    web_acl: str

    def arns(self, patterns: Iterable[str]) -> tuple[str, ...]:
        """ARNs from their patterns, without those that name a parameter the stage lacks."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return tuple(
            pattern if pattern == "*" else f"arn:{self.partition}:{pattern.format_map(values)}"
            for pattern in patterns
            if all(values[name] for name in re.findall(r"{(\w+)}", pattern))
        )


@dataclass(frozen=True)
class Right:
    """An action, on some resources, under conditions: operator, key, value."""

    action: str
    resources: tuple[str, ...]
    conditions: tuple[tuple[str, str, str], ...] = ()


_VIA = ("ForAnyValue:StringEquals", "aws:CalledVia", "cloudformation.amazonaws.com")


@cache
def _published(resource_type: str) -> Mapping[str, tuple[str, ...]]:
    """The actions that AWS lists for a type, by handler."""
    # Imported here: only this function needs it, and the import takes a second.
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", resource_type).schema
    handlers = schema.get("handlers", {})
    return {name: tuple(handlers.get(name, {}).get("permissions", ())) for name in HANDLERS}


def calls(resource_type: str, handler: str, properties: object) -> frozenset[str]:
    """The actions that CloudFormation calls for a resource with such properties."""
    published = _published(resource_type)
    keys = _keys(properties)
    left_out = [
        pattern
        for key, patterns in ONLY_WITH.get(resource_type, {}).items()
        if key not in keys
        for pattern in patterns.split()
    ]
    called = {*published[handler], *_ALSO_CALLED.get((resource_type, handler), ())}
    return frozenset(
        action for action in called if not any(fnmatch(action, pattern) for pattern in left_out)
    )


def _keys(value: object) -> set[str]:
    """Every key in a value, at any depth."""
    match value:
        case dict():
            return set(value).union(*map(_keys, value.values()))
        case list():
            return set().union(*map(_keys, value))
    return set()


def transformed(template: Json, region: str, **parameters: str) -> Json:
    """The template that SAM makes of a packaged one, and that CloudFormation deploys."""
    before = os.environ.get("AWS_DEFAULT_REGION")
    os.environ["AWS_DEFAULT_REGION"] = region  # it names a partition
    try:
        made: Json = Translator(None, Parser()).translate(
            copy.deepcopy(template),
            parameter_values={"Stage": "prod", **parameters},
            get_managed_policy_map=dict,
        )
    finally:
        os.environ.pop("AWS_DEFAULT_REGION")
        if before is not None:
            os.environ["AWS_DEFAULT_REGION"] = before
    return made


def rights(template: Json, names: Names) -> Iterator[Right]:
    """Every right that deploying a transformed template needs; some more than once."""
    for patterns, actions in OWN_CALLS:
        yield from (Right(action, names.arns(patterns)) for action in actions)
    for resource in template["Resources"].values():
        resource_type = resource["Type"]
        if resource_type not in ARNS:
            raise DeployError(
                f"Nobody has said how resources of type {resource_type} are called: add it to ARNS "
                "in infra/deployment/deploy_policy.py."
            )
        arns = names.arns(ARNS[resource_type])
        is_had = len(arns) == len(ARNS[resource_type])
        for handler in HANDLERS if is_had else ():
            for action in calls(resource_type, handler, resource.get("Properties", {})):
                yield _via(action, arns, names)


def _via(action: str, arns: tuple[str, ...], names: Names) -> Right:
    """The right to one action that CloudFormation calls."""
    conditions = [_VIA]
    if action in _OF_MAPPINGS:
        (function,) = names.arns(ARNS["AWS::Lambda::Function"])
        conditions.append(("ArnLike", "lambda:FunctionArn", function))
    if action in NAMELESS:
        return Right(action, ("*",), tuple(conditions))
    match action:
        case "iam:PassRole":
            arns = names.arns(_ROLES)
            conditions.append(("StringEquals", "iam:PassedToService", "lambda.amazonaws.com"))
        case "iam:CreateServiceLinkedRole":
            arns = names.arns([f"iam::{{account}}:role/aws-service-role/{_SERVICE_LINKED}/*"])
            conditions.append(("StringEquals", "iam:AWSServiceName", _SERVICE_LINKED))
        case "route53:GetChange":
            arns = names.arns(["route53:::change/*"])
        case "s3:GetObject":
            # Lambda reads the code with our rights, so OWN_CALLS has this.
            return Right(action, names.arns(["s3:::{artifacts}/*"]))
    return Right(action, arns, tuple(conditions))


def documents(found: Iterable[Right]) -> list[Json]:
    """The rights as policy documents, each small enough for IAM."""
    statements: dict[Any, set[str]] = defaultdict(set)
    for right in found:
        service = right.action.partition(":")[0]
        statements[not right.conditions, service, right.resources, right.conditions].add(
            right.action
        )
    made: list[Json] = []
    for own, _, resources, conditions in sorted(statements, key=lambda key: (not key[0], *key[1:])):
        statement = _statement(
            sorted(statements[own, _, resources, conditions]), resources, conditions
        )
        if not made or _size(made[-1]) + _size(statement) + 1 > LARGEST_POLICY:
            made.append({"Version": "2012-10-17", "Statement": []})
        made[-1]["Statement"].append(statement)
    return made


def _statement(
    actions: list[str], resources: tuple[str, ...], conditions: tuple[tuple[str, str, str], ...]
) -> Json:
    statement: Json = {"Effect": "Allow", "Action": actions, "Resource": list(resources)}
    for operator, key, value in conditions:
        statement.setdefault("Condition", {}).setdefault(operator, {})[key] = value
    return statement


def _size(document: Json) -> int:
    """The characters that IAM counts."""
    return len(json.dumps(document, separators=(",", ":")))


def names_of(stage: str, account: str, region: str, parameters: Mapping[str, str]) -> Names:
    """The scope of a stage in an account and a region, deployed with these `parameters`."""
    defaults = {name: str(rule.get("Default", "")) for name, rule in declared_parameters().items()}
    given = defaults | dict(parameters)
    return Names(
        partition=botocore.session.get_session().get_partition_for_region(region),
        account=account,
        region=region,
        stack=stack_name(stage),
        artifacts=artifacts_bucket(account, region),
        mail_domain=given["MailDomain"],
        api_domain=given["ApiDomain"],
        hosted_zone=given["ApiHostedZoneId"],
        web_acl=":".join(given["WebAclArn"].split(":")[2:]),
    )


def policies(template: Json, names: Names) -> dict[str, Json]:
    """The policies of a stage by name; `template` is a packaged one."""
    made = documents(rights(transformed(template, names.region), names))
    return {
        f"{names.stack}-deploy-{number}": made[number - 1] for number in range(1, len(made) + 1)
    }


EXAMPLE = {
    "MailDomain": "example.com",
    "ApiDomain": "credits.example.com",
    "ApiHostedZoneId": "Z0123456789EXAMPLE",
    "WebAclArn": (
        "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/credits/"
        "11111111-2222-3333-4444-555555555555"
    ),
}
"""The parameters of the example stage in docs/deploying.md: it has a domain name and a web ACL."""


def text_of(made: Mapping[str, Json]) -> str:
    """The policies as JSON, one statement a line."""
    lines = ["{"]
    for name, document in made.items():
        statements = ",\n".join(f"    {json.dumps(each)}" for each in document["Statement"])
        comma = "," if name != list(made)[-1] else ""
        head = f'  "{name}": {{"Version": "{document["Version"]}", "Statement": ['
        lines += [head, statements, f"  ]}}{comma}"]
    return "\n".join([*lines, "}"])
