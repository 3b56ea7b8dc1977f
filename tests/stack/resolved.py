"""The template as CloudFormation would have it: transformed by SAM, and every name looked up.

The emulator's own CloudFormation looks up conditions, mappings and references. What AWS would call
each thing, once it is there, is said here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services.cloudformation import engine

from infra.deployment import deploy_policy

Template = dict[str, Any]
Json = dict[str, Any]

PARAMETERS = {
    "TokenIssuer": "https://issuer.example.com/",
    "TokenAudience": "credits-api",
    "Tracing": "Active",
    "AlarmEmail": "ops@example.com",
    "Events": "on",
    "EventsWebhookUrl": "https://example.com/credits",
}
"""Those under which the stack has all that it can have."""

# By type: the property that names one, its service, and how its ARN goes on.
_ARNS = {
    "AWS::ApiGateway::RestApi": ("", "apigateway", "/restapis/{}"),
    "AWS::CloudWatch::Alarm": ("AlarmName", "cloudwatch", "alarm:{}"),
    "AWS::DynamoDB::Table": ("TableName", "dynamodb", "table/{}"),
    "AWS::Events::ApiDestination": ("Name", "events", "api-destination/{}/1"),
    "AWS::Events::Connection": ("Name", "events", "connection/{}/1"),
    "AWS::Events::EventBus": ("Name", "events", "event-bus/{}"),
    "AWS::Events::Rule": ("Name", "events", "rule/{}"),
    "AWS::KMS::Key": ("", "kms", "key/{}"),
    "AWS::Lambda::Function": ("FunctionName", "lambda", "function:{}"),
    "AWS::S3::Bucket": ("BucketName", "s3", "{}"),
    "AWS::SNS::Topic": ("TopicName", "sns", "{}"),
    "AWS::SQS::Queue": ("QueueName", "sqs", "{}"),
    "AWS::SecretsManager::Secret": ("Name", "secretsmanager", "secret:{}-AbCdEf"),
    "AWS::IAM::Role": ("", "iam", "role/{}"),
}
_NAMED = {
    "AWS::ApiGateway::Stage": "StageName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::SES::ConfigurationSet": "Name",
    "AWS::SES::EmailIdentity": "EmailIdentity",
}
# `Ref` is the ARN of these, and the URL of a queue.
_BY_ARN = {"AWS::SNS::Topic", "AWS::SecretsManager::Secret"}


def transform(template: Template, **parameters: str) -> Template:
    """What SAM makes of a packaged template, which is what CloudFormation deploys."""
    return deploy_policy.transformed(template, "eu-west-1", **parameters)


@dataclass(frozen=True)
class Stack:
    """What there is in a stage, with nothing left to look up."""

    resources: dict[str, Json]

    def of_type(self, kind: str) -> Iterator[tuple[str, Json]]:
        """The names and the properties of all resources of a type."""
        for name, resource in self.resources.items():
            if resource["Type"] == kind:
                yield name, resource.get("Properties", {})

    def arn(self, name: str) -> str:
        """The ARN of a resource of the template."""
        found: str = self.resources[name]["Attributes"]["Arn"]
        return found


def arn(service: str, rest: str) -> str:
    """An ARN in the emulator's account and region; S3 has neither in its own, and IAM no region."""
    region = "" if service in ("iam", "s3") else get_region()
    account = "" if service == "s3" else get_account_id()
    return f"arn:aws:{service}:{region}:{account}:{rest}"


def resolve(template: Template, stage: str, **changed: str) -> Stack:
    """What a packaged template is in a stage, with some parameters changed."""
    given = {**PARAMETERS, **changed, "Stage": stage}
    transformed = transform(template, **given)
    parameters = engine._resolve_parameters(
        transformed,
        [{"Key": name, "Value": value} for name, value in given.items()],
    )
    conditions = engine._evaluate_conditions(transformed, parameters)
    declared = {
        name: resource
        for name, resource in transformed["Resources"].items()
        if conditions.get(resource.get("Condition", ""), True)
    }

    def looked_up(value: Any, known: dict[str, Json]) -> Any:
        return engine._resolve_refs(
            value, known, parameters, conditions, transformed["Mappings"], "credits", "credits/1"
        )

    known: dict[str, Json] = {}
    for name in sorted(declared, key=lambda name: declared[name]["Type"] == "AWS::Logs::LogGroup"):
        known[name] = _made(name, declared[name], lambda value: looked_up(value, known))
    return Stack(
        {
            name: {
                **looked_up(resource, known),
                "Ref": known[name]["PhysicalResourceId"],
                "Attributes": known[name]["Attributes"],
            }
            for name, resource in declared.items()
        }
    )


def _made(name: str, resource: Json, looked_up: Any) -> Json:
    """What CloudFormation knows of a resource once it is there."""
    kind = resource["Type"]
    naming, service, rest = _ARNS.get(kind, (_NAMED.get(kind, ""), "", "{}"))
    called = looked_up(resource["Properties"][naming]) if naming else name.lower()
    if naming and not isinstance(called, str):
        raise AssertionError(f"{name} has no name that is known")
    its_arn = arn(service, rest.format(called)) if service else called
    identity = its_arn if kind in _BY_ARN else called
    if kind == "AWS::SQS::Queue":
        identity = f"https://sqs.{get_region()}.amazonaws.com/{get_account_id()}/{called}"
    attributes = {
        "Arn": its_arn,
        "Id": identity,
        "StreamArn": f"{its_arn}/stream/2026-01-01",
        **({naming: called} if naming else {}),
    }
    return {"PhysicalResourceId": identity, "Attributes": attributes}
