"""Makes the emulator's CloudFormation act with the rights of its caller, as in AWS.

Each function adds one fact about AWS, with its source. infra/local/emulator.py calls `make_strict`
in the emulator's own process, before it starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from infra.deployment.deploy_calls import NAMELESS

Json = dict[str, Any]

_VIA: Mapping[str, Any] = {"aws:calledvia": ["cloudformation.amazonaws.com"]}

_PLACES = {
    "ApiGateway::ApiKey": (
        "apigateway:{region}::/apikeys",
        "apigateway:{region}::/apikeys/{id}",
    ),
    "ApiGateway::BasePathMapping": (
        "apigateway:{region}::/domainnames/{DomainName}/basepathmappings",
    ),
    "ApiGateway::Deployment": ("apigateway:{region}::/restapis/{RestApiId}/deployments",),
    "ApiGateway::DomainName": (
        "apigateway:{region}::/domainnames",
        "apigateway:{region}::/domainnames/{DomainName}",
    ),
    "ApiGateway::RestApi": (
        "apigateway:{region}::/restapis",
        "apigateway:{region}::/restapis/{id}",
    ),
    "ApiGateway::Stage": ("apigateway:{region}::/restapis/{RestApiId}/stages",),
    "ApiGateway::UsagePlan": (
        "apigateway:{region}::/usageplans",
        "apigateway:{region}::/usageplans/{id}",
    ),
    "ApiGateway::UsagePlanKey": ("apigateway:{region}::/usageplans/{UsagePlanId}/keys",),
    "CloudWatch::Alarm": ("cloudwatch:{region}:{account}:alarm:{AlarmName}",),
    "CloudWatch::Dashboard": ("cloudwatch::{account}:dashboard/{DashboardName}",),
    "DynamoDB::Table": ("dynamodb:{region}:{account}:table/{TableName}",),
    "Events::EventBus": ("events:{region}:{account}:event-bus/{Name}",),
    "Events::Rule": ("events:{region}:{account}:rule/{Name}",),
    "IAM::Policy": ("iam::{account}:role/{Roles[0]}",),
    "IAM::Role": ("iam::{account}:role/{id}",),
    "KMS::Key": ("kms:{region}:{account}:key/{id}",),
    "Lambda::EventSourceMapping": ("lambda:{region}:{account}:event-source-mapping:{id}",),
    "Lambda::Function": ("lambda:{region}:{account}:function:{FunctionName}",),
    "Lambda::Permission": ("lambda:{region}:{account}:function:{FunctionName}",),
    "Logs::LogGroup": ("logs:{region}:{account}:log-group:{LogGroupName}",),
    "Route53::RecordSet": ("route53:::hostedzone/{HostedZoneId}",),
    "S3::Bucket": ("s3:::{BucketName}",),
    "S3::BucketPolicy": ("s3:::{Bucket}",),
    "SES::ConfigurationSet": ("ses:{region}:{account}:configuration-set/{Name}",),
    "SES::ConfigurationSetEventDestination": (
        "ses:{region}:{account}:configuration-set/{ConfigurationSetName}",
    ),
    "SES::EmailIdentity": ("ses:{region}:{account}:identity/{EmailIdentity}",),
    "SNS::Subscription": ("{TopicArn}",),
    "SNS::Topic": ("sns:{region}:{account}:{TopicName}",),
    "SNS::TopicPolicy": ("{Topics[0]}",),
    "SQS::Queue": ("sqs:{region}:{account}:{QueueName}",),
    "SQS::QueuePolicy": ("sqs:{region}:{account}:{QueueName}",),
    "SecretsManager::Secret": ("secretsmanager:{region}:{account}:secret:{Name}-AbCdEf",),
}
"""The ARNs on which the calls for a resource need rights, from its properties. Most lack their
prefix (Service Authorization Reference, "Resource types" of each service)."""


def make_strict() -> None:
    """Changes ministack, which must not have started yet."""
    _act_with_the_rights_of_the_caller()
    _read_and_transform_with_the_rights_of_the_caller()
    _name_rules_without_the_default_bus()


def _act_with_the_rights_of_the_caller() -> None:
    """Makes CloudFormation use the rights of its caller to create, change and delete resources.

    Without a role of its own it calls other services as the principal that called it, and each such
    request says so in aws:CalledVia (CloudFormation User Guide, "FAS requests and permission
    evaluation"; infra/deployment/deploy_policy.py has the address). ministack lets it do anything.
    AWS publishes the calls for a resource in the handlers of its type. The account's root user may
    do everything.
    """
    from ministack.services.cloudformation import stacks

    provision, update, delete = (
        stacks._provision_resource,  # noqa: SLF001 - it has no other door
        stacks._update_resource,  # noqa: SLF001
        stacks._delete_resource,  # noqa: SLF001
    )

    def provisioned(kind: str, logical_id: str, properties: Json, stack: str) -> Any:
        for handler in ("create", "read"):
            _refuse_without_rights(kind, handler, properties, f"{stack}-{logical_id}-0123456789AB")
        return provision(kind, logical_id, properties, stack)

    def updated(
        kind: str, physical_id: str, before: Json, after: Json, *others: Any, **named: Any
    ) -> Any:
        if before != after:
            _refuse_without_rights(kind, "update", after, physical_id)
        return update(kind, physical_id, before, after, *others, **named)

    def deleted(kind: str, physical_id: str, properties: Json, *others: Any, **named: Any) -> Any:
        _refuse_without_rights(kind, "delete", properties, physical_id)
        return delete(kind, physical_id, properties, *others, **named)

    stacks._provision_resource = provisioned  # noqa: SLF001
    stacks._update_resource = updated  # noqa: SLF001
    stacks._delete_resource = deleted  # noqa: SLF001


def _read_and_transform_with_the_rights_of_the_caller() -> None:
    """Refuses a change set if its caller may not read its template or use its transforms.

    CloudFormation reads the template from S3 as the caller. Each transform that the template names
    is a resource of the right to create change sets (CloudFormation User Guide, "Control
    CloudFormation access with AWS Identity and Access Management",
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-iam-template.html).
    """
    from ministack.core.responses import get_region
    from ministack.services.cloudformation import engine, handlers, helpers

    create = handlers._ACTION_HANDLERS["CreateChangeSet"]  # noqa: SLF001 - it has no other door

    def created(params: Json) -> Any:
        place = urlsplit(helpers._p(params, "TemplateURL")).path[1:]  # noqa: SLF001
        asked = [("s3:GetObject", f"arn:aws:s3:::{place}", _VIA)] if place else []
        body, _ = helpers._resolve_template(params)  # noqa: SLF001
        template = engine._parse_template(body) if body else {}  # noqa: SLF001
        for name in engine.declared_transforms(template):
            transform = f"aws:transform/{name.removeprefix('AWS::')}"
            arn = f"arn:aws:cloudformation:{get_region()}:{transform}"
            asked.append(("cloudformation:CreateChangeSet", arn, {}))
        refusals = filter(None, (_refusal(*each) for each in asked))
        for refusal in refusals:
            return helpers._error("AccessDenied", refusal, 403)  # noqa: SLF001
        return create(params)

    handlers._ACTION_HANDLERS["CreateChangeSet"] = created  # noqa: SLF001


def _refuse_without_rights(kind: str, handler: str, properties: Json, physical_id: str) -> None:
    """Raises ValueError for a call that the caller may not make; the resource then fails."""
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_account_id, get_region

    if ":assumed-role/" not in iam_evaluator.caller_arn():
        return
    # Imported late: the start of the emulator need not wait for it.
    from infra.deployment import deploy_policy

    account, region = get_account_id(), get_region()
    for action in sorted(deploy_policy.calls(kind, handler, properties)):
        for resource in _resources(action, kind, properties, physical_id, account, region):
            refusal = _refusal(action, resource, _context(action, properties, account, region))
            if refusal:
                raise ValueError(refusal)


def _refusal(action: str, resource: str, context: Mapping[str, Any]) -> str:
    """The refusal for the caller; None if they may make the call. The root user may do anything."""
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_account_id, get_region

    caller = iam_evaluator.caller_arn()
    if ":assumed-role/" not in caller:
        return ""
    account = get_account_id()
    role = iam_evaluator._role_name_from_assumed_arn(caller)  # noqa: SLF001 - it has no other door
    asked = iam_evaluator.EvalContext(
        principal_arn=caller,
        principal_type="AssumedRole",
        principal_account=account,
        action=action,
        resource_arn=resource,
        region=get_region(),
        service_context=dict(context),
    )
    policies = iam_evaluator._gather_role_policies(role, account)  # noqa: SLF001
    if iam_evaluator.evaluate(asked, policies).decision == "Allow":
        return ""
    return f"User: {caller} is not authorized to perform: {action} on resource: {resource}"


def _resources(
    action: str, kind: str, properties: Json, physical_id: str, account: str, region: str
) -> list[str]:
    """The ARNs that a call for a resource needs rights on, with the resource's real names."""
    if action in NAMELESS:
        return ["*"]
    match action:
        case "iam:PassRole":
            return [str(properties["Role"])]
        case "iam:CreateServiceLinkedRole":
            path = "aws-service-role/ops.apigateway.amazonaws.com/AWSServiceRoleForAPIGateway"
            return [f"arn:aws:iam::{account}:role/{path}"]
        case "s3:GetObject":
            code = properties["Code"]
            return [f"arn:aws:s3:::{code['S3Bucket']}/{code['S3Key']}"]
        case "route53:GetChange":
            return ["arn:aws:route53:::change/C0123456789"]
    values = _Values(properties, id=physical_id, region=region, account=account)
    if "FunctionName" in properties:
        values["FunctionName"] = _function(properties)
    if "Queues" in properties:
        values["QueueName"] = str(properties["Queues"][0]).rpartition("/")[2]
    places = [pattern.format_map(values) for pattern in _PLACES[kind.removeprefix("AWS::")]]
    return [place if place.startswith("arn:") else f"arn:aws:{place}" for place in places]


class _Values(dict[str, Any]):
    """The properties of a resource; a missing one reads as the id that CloudFormation assigned."""

    def __missing__(self, _key: str) -> object:
        return self["id"]


def _function(properties: Json) -> str:
    """The name of a function, from a name or an ARN."""
    return str(properties["FunctionName"]).rpartition(":")[2]


def _context(action: str, properties: Json, account: str, region: str) -> Mapping[str, Any]:
    """The context of a request for the conditions of policies."""
    context: dict[str, Any] = dict(_VIA)
    if action.endswith("EventSourceMapping"):
        name = str(properties["FunctionName"])
        arn = (
            name
            if name.startswith("arn:")
            else f"arn:aws:lambda:{region}:{account}:function:{name}"
        )
        context["lambda:functionarn"] = arn
    if action == "iam:PassRole":
        context["iam:passedtoservice"] = "lambda.amazonaws.com"
    if action == "iam:CreateServiceLinkedRole":
        context["iam:awsservicename"] = "ops.apigateway.amazonaws.com"
    return context


def _name_rules_without_the_default_bus() -> None:
    """Makes a right to a rule of the default event bus name only the rule.

    ARNs of rules on other buses name the bus, too (Service Authorization Reference, "Resource types
    defined by Amazon EventBridge":
    https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazoneventbridge.html).
    ministack expects the bus in every ARN, and so refuses callers who have the right. It takes a
    bus's name in a request for a rule.
    """
    from ministack.core import iam_actions

    known = iam_actions.extract_resource_arn

    def arn(service: str, method: str, path: str, headers: Mapping[str, str], *more: Any) -> str:
        found: str = known(service, method, path, headers, *more)
        is_of_bus = headers.get("x-amz-target", "").endswith("EventBus")
        return found.replace(":rule/default/", ":event-bus/" if is_of_bus else ":rule/")

    iam_actions.extract_resource_arn = arn
