"""Limits what one caller may ask of the API: usage plans, and a key for each lane of callers.

The keys are always made, and the authorizer always names one (`chalicelib/api/lanes.py`). Methods
require a key only where the parameter CallerLimits is on. One deployment cannot do both: a method
that requires a key answers 403 to requests without one, and CloudFormation creates keys after the
stage. Also, authorizer answers that API Gateway has cached name no key for a minute, and a new key
takes some time to take effect. So `require` is for a stack whose keys an earlier deployment
created.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from chalicelib.api.lanes import BACKEND, LANES, key_of

Json = dict[str, Any]

PARAMETER = "CallerLimits"

AT_ONCE = 4
"""How many keys are created at the same time. An account may create five a second
(https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html)."""

SOURCE = "x-amazon-apigateway-api-key-source"
SCHEME = "api_key"

NOT_YET = (
    f"{PARAMETER} is on: the keys are made now, and asked for from the next deployment on. Deploy "
    "again in five minutes."
)

LANE_KEYS = "credits${Stage}"
"""The prefix of every key, for `Fn::Sub`."""


def complete(template: Json) -> None:
    """Adds the keys of the lanes to the packaged template, and to the authorizer's settings."""
    authorizer = template["Resources"]["Authorizer"]["Properties"]
    authorizer["Environment"]["Variables"]["LANE_KEYS"] = {"Fn::Sub": LANE_KEYS}
    template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"][SOURCE] = "AUTHORIZER"
    for place, lane in enumerate(LANES):
        key, plan = _key(lane), "BackendPlan" if lane == BACKEND else "UsagePlan"
        before = [LANES[place - AT_ONCE]] if place >= AT_ONCE else []
        template["Resources"][key] = {
            "Type": "AWS::ApiGateway::ApiKey",
            "DependsOn": [_key(other) for other in before],
            "Properties": {
                "Name": {"Fn::Sub": f"credits-${{Stage}}-{lane}"},
                "Description": "A lane of callers, named by the authorizer; no secret.",
                "Enabled": True,
                "Value": {"Fn::Sub": key_of(LANE_KEYS, lane)},
            },
        }
        template["Resources"][f"{key}InPlan"] = {
            "Type": "AWS::ApiGateway::UsagePlanKey",
            "Properties": {
                "KeyId": {"Ref": key},
                "KeyType": "API_KEY",
                "UsagePlanId": {"Ref": plan},
            },
        }


def _key(lane: str) -> str:
    return f"{lane.title()}Lane"


def are_ready(resources: Collection[str]) -> bool:
    """Whether these resources of a stack, by logical id, include every key in its plan."""
    return all(f"{_key(lane)}InPlan" in resources for lane in LANES)


def require(template: Json) -> None:
    """Makes every method behind the authorizer require the key that the authorizer names.

    A condition of the template could not do it: SAM makes a new deployment of the API only when the
    text of its definition changes, and the text of a condition does not change.
    """
    definition = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    definition["securityDefinitions"][SCHEME] = {
        "type": "apiKey",
        "name": "x-api-key",
        "in": "header",
    }
    for path in definition["paths"].values():
        for operation in path.values():
            if operation.get("security"):
                operation["security"] = [*operation["security"], {SCHEME: []}]
