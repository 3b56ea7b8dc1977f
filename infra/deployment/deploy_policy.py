"""The rights that a deployment needs, as policy documents for IAM.

A deployment calls CloudFormation, and CloudFormation calls the other services with the rights of
its caller. infra/deployment/deploy_calls.py lists the former calls. The latter are derived from the
template: for each type of resource AWS publishes the calls that create, read, update and delete it
(the `handlers` of the type's schema, which cfn-lint brings). That file has the additions.

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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from functools import cache
from typing import Any

import botocore.session
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]

from infra.deployment.artifacts import artifacts_bucket
from infra.deployment.deploy_calls import (
    ALSO_CALLED,
    ARNS,
    NAMELESS,
    OF_MAPPINGS,
    ONLY_WITH,
    OWN_CALLS,
    PASSED_TO,
    ROLES,
    SERVICE_LINKED,
)
from infra.deployment.errors import DeployError
from infra.deployment.parameters import declared_parameters
from infra.deployment.stack_facts import stack_name

Json = dict[str, Any]

LARGEST_POLICY = 6_144
"""The most characters of a managed policy, white space not counted (IAM User Guide, "IAM and AWS
STS quotas"). A role takes ten such policies."""

HANDLERS = ("create", "read", "update", "delete")


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
    webhook: str

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
def published(resource_type: str) -> Mapping[str, Any]:
    """AWS's schema of a type of resource: its properties, its identifier, its handlers."""
    # Imported here: only this function needs it, and the import takes a second.
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    schema: Mapping[str, Any] = PROVIDER_SCHEMA_MANAGER.get_resource_schema(
        "us-east-1", resource_type
    ).schema
    return schema


@cache
def _permissions(resource_type: str) -> Mapping[str, tuple[str, ...]]:
    """The actions that AWS lists for a type, by handler."""
    handlers = published(resource_type).get("handlers", {})
    return {name: tuple(handlers.get(name, {}).get("permissions", ())) for name in HANDLERS}


def calls(resource_type: str, handler: str, properties: object) -> frozenset[str]:
    """The actions that CloudFormation calls for a resource with such properties."""
    keys = _keys(properties)
    left_out = [
        pattern
        for key, patterns in ONLY_WITH.get(resource_type, {}).items()
        if key not in keys
        for pattern in patterns.split()
    ]
    called = {*_permissions(resource_type)[handler], *ALSO_CALLED.get((resource_type, handler), ())}
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
    """The template after SAM's transform, as CloudFormation deploys it."""
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
                "in infra/deployment/deploy_calls.py."
            )
        arns = names.arns(ARNS[resource_type])
        is_had = len(arns) == len(ARNS[resource_type])
        for handler in HANDLERS if is_had else ():
            for action in calls(resource_type, handler, resource.get("Properties", {})):
                yield _via(action, resource_type, arns, names)


def _via(action: str, resource_type: str, arns: tuple[str, ...], names: Names) -> Right:
    """The right to one action that CloudFormation calls for a resource of a type."""
    conditions = [_VIA]
    if action in OF_MAPPINGS:
        (function,) = names.arns(ARNS["AWS::Lambda::Function"])
        conditions.append(("ArnLike", "lambda:FunctionArn", function))
    if action in NAMELESS:
        return Right(action, ("*",), tuple(conditions))
    match action:
        case "iam:PassRole":
            arns = names.arns(ROLES)
            service = PASSED_TO.get(resource_type, "lambda.amazonaws.com")
            conditions.append(("StringEquals", "iam:PassedToService", service))
        case "iam:CreateServiceLinkedRole":
            service = SERVICE_LINKED[resource_type]
            arns = names.arns([f"iam::{{account}}:role/aws-service-role/{service}/*"])
            conditions.append(("StringEquals", "iam:AWSServiceName", service))
        case "route53:GetChange":
            arns = names.arns(["route53:::change/*"])
        case _ if resource_type == "AWS::Events::Connection" and "secretsmanager:" in action:
            # EventBridge stores the given secret, ours, in a secret of its own.
            own = ("{stack}-{webhook}-*", "events!connection/{stack}-{webhook}/*")
            arns = names.arns(f"secretsmanager:{{region}}:{{account}}:secret:{it}" for it in own)
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
        webhook="webhook" if given["EventsWebhookUrl"] else "",
    )


def policies(template: Json, names: Names) -> dict[str, Json]:
    """The policies of a stage by name; `template` is a packaged one."""
    made = documents(rights(transformed(template, names.region), names))
    return {
        f"{names.stack}-deploy-{number}": made[number - 1] for number in range(1, len(made) + 1)
    }


EXAMPLE = {
    "MailDomain": "example.com",
    "EventsWebhookUrl": "https://example.com/credits",
    "ApiDomain": "credits.example.com",
    "ApiHostedZoneId": "Z0123456789EXAMPLE",
    "WebAclArn": (
        "arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/credits/"
        "11111111-2222-3333-4444-555555555555"
    ),
}
"""The parameters of the example stage in docs/deploying.md: it has a domain name, a web ACL and a
webhook."""


def text_of(made: Mapping[str, Json]) -> str:
    """The policies as JSON, one statement a line."""
    lines = ["{"]
    for name, document in made.items():
        statements = ",\n".join(f"    {json.dumps(each)}" for each in document["Statement"])
        comma = "," if name != list(made)[-1] else ""
        head = f'  "{name}": {{"Version": "{document["Version"]}", "Statement": ['
        lines += [head, statements, f"  ]}}{comma}"]
    return "\n".join([*lines, "}"])
