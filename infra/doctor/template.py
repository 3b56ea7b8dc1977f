"""What the stack needs from an account, according to infra/resources.yaml: names, concurrency."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from infra.deployment import packaging
from infra.doctor.site import Site

Json = dict[str, Any]

TEMPLATE_FILE = packaging.ROOT / "infra" / "resources.yaml"

NAMED = {
    "AWS::DynamoDB::Table": "TableName",
    "AWS::Events::EventBus": "Name",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::SES::ConfigurationSet": "Name",
    "AWS::SES::EmailIdentity": "EmailIdentity",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SQS::Queue": "QueueName",
    "AWS::SecretsManager::Secret": "Name",
}
"""The types whose names are unique, and the property that holds the name."""


@dataclass(frozen=True)
class Named:
    """A resource of the stack with a fixed name.

    ``is_kept``: it can outlive its stack, with its content.
    """

    kind: str
    name: str
    is_kept: bool = False


def names(site: Site) -> Iterator[Named]:
    """Every name that the stack takes, including the log groups and rules of its functions."""
    for resource in _template()["Resources"].values():
        properties = resource.get("Properties", {})
        # Chalice marks its functions only by this property.
        is_function = "FunctionName" in properties
        kind = "AWS::Lambda::Function" if is_function else resource.get("Type", "")
        if kind not in NAMED or not _is_made(resource, site):
            continue
        name = _value(properties[NAMED[kind]], site)
        yield Named(kind, name, is_kept="DeletionPolicy" in resource)
        if is_function:
            yield Named("AWS::Logs::LogGroup", f"/aws/lambda/{name}")
        for source in properties.get("Events", {}).values():
            if source.get("Type") == "Schedule":
                yield Named("AWS::Events::Rule", _value(source["Properties"]["Name"], site))


def _is_made(resource: Json, site: Site) -> bool:
    """Whether the stage has the resource: its condition may depend on parameters."""
    return "Condition" not in resource or _holds(resource, site)


def _holds(condition: Json, site: Site) -> bool:
    """Whether a condition of the template holds; ours use only these forms."""
    match condition:
        case {"Fn::Equals": [{"Ref": name}, value]}:
            return bool(parameter(site, name) == value)
        case {"Fn::Not": [other]}:
            return not _holds(other, site)
        case {"Fn::And": others}:
            return all(_holds(other, site) for other in others)
    return _holds(_template()["Conditions"][condition["Condition"]], site)


def concurrency(stage: str) -> int:
    """How many invocations the stack's queues start at once, at most."""
    template = _template()
    sources = (
        source.get("Properties", {}).get("ScalingConfig", {}).get("MaximumConcurrency")
        for resource in template["Resources"].values()
        for source in resource.get("Properties", {}).get("Events", {}).values()
    )
    settings = template["Mappings"]["Stages"][stage]
    return sum(settings[found["Fn::FindInMap"][-1]] for found in sources if found)


@cache
def _template() -> Json:
    template: Json = yaml.safe_load(TEMPLATE_FILE.read_text("utf-8"))
    return template


def _value(text: Mapping[str, str], site: Site) -> str:
    """A name with its values filled in; our template uses only these forms."""
    values = {
        **_defaults(),
        **site.parameters,
        "Stage": site.stage,
        "AWS::AccountId": site.account,
        "AWS::Region": site.region,
    }
    if "Ref" in text:
        return values[text["Ref"]]
    name = text["Fn::Sub"]
    for variable, value in values.items():
        name = name.replace(f"${{{variable}}}", value)
    return name


@cache
def _defaults() -> dict[str, str]:
    declared = _template()["Parameters"].items()
    return {name: str(rule["Default"]) for name, rule in declared if "Default" in rule}


def parameter(site: Site, name: str) -> str:
    """The future value of a parameter: given, or the template's default."""
    return site.parameters.get(name, _defaults().get(name, ""))
