"""The calls of a deployment: its own, and additions to those that CloudFormation makes for it.

When you add a call to a deployment, add it to `OWN_CALLS`. When you add a type of resource to the
template, add the form of its names to `ARNS`. Add to `ONLY_WITH` which of its calls are only made
for properties that a resource may lack. infra/deployment/deploy_policy.py makes the policies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    # The alarms that roll an update back. Not by their names: we request a list of alarms.
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
    # What the doctor checks before a deployment (infra/doctor/): the account, and taken names. The
    # plans are also read from the code of a running function.
    (("*",), ("lambda:GetAccountSettings", "logs:DescribeLogGroups", "ses:GetAccount")),
    (("apigateway:{region}::/account",), ("apigateway:GET",)),
    (("events:{region}:{account}:rule/{stack}-*",), ("events:DescribeRule",)),
    (("events:{region}:{account}:event-bus/{stack}",), ("events:DescribeEventBus",)),
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
ROLES = ("iam::{account}:role/{stack}-*",)

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
    "AWS::Events::ApiDestination": (
        "events:{region}:{account}:api-destination/{stack}-{webhook}/*",
    ),
    "AWS::Events::Connection": ("events:{region}:{account}:connection/{stack}-{webhook}/*",),
    "AWS::Events::EventBus": ("events:{region}:{account}:event-bus/{stack}",),
    # Of the default bus, and of the stage's own.
    "AWS::Events::Rule": (
        "events:{region}:{account}:rule/{stack}-*",
        "events:{region}:{account}:rule/{stack}/*",
    ),
    "AWS::IAM::Policy": ROLES,
    "AWS::IAM::Role": ROLES,
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
"""The resources of a type that a stage has. Ids of APIs, keys and mappings are not known
beforehand.
"""

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

OF_MAPPINGS = frozenset(
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
        # For replicas, which only another type of resource has. A deployment reads no ledger.
        None: "dynamodb:*Replica dynamodb:*Item dynamodb:Query dynamodb:Scan",
    },
    "AWS::Events::Connection": {"KmsKeyIdentifier": "kms:*"},
    "AWS::Events::EventBus": {
        "KmsKeyIdentifier": "kms:*",
        "Policy": "events:PutPermission events:RemovePermission",
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
# rights of that caller (API Gateway Developer Guide, "Using service-linked roles"). No list of AWS
# contains it.
ALSO_CALLED = {("AWS::ApiGateway::DomainName", "create"): ("iam:CreateServiceLinkedRole",)}

SERVICE_LINKED = {
    "AWS::ApiGateway::DomainName": "ops.apigateway.amazonaws.com",
    # It keeps the secrets of connections (EventBridge User Guide, "Service-linked roles for API
    # destinations").
    "AWS::Events::Connection": "apidestinations.events.amazonaws.com",
}
"""The services whose linked role the first resource of a type creates."""

PASSED_TO = {"AWS::Events::Rule": "events.amazonaws.com"}
"""The services to which resources of a type pass a role, where that is not Lambda."""
