"""The keys of the lanes, and which methods ask for one."""

from typing import Any

from chalicelib.api.lanes import LANES
from infra.deployment import caller_limits

Json = dict[str, Any]


def completed() -> Json:
    template: Json = {
        "Resources": {
            "Authorizer": {"Properties": {"Environment": {"Variables": {"STAGE": "dev"}}}},
            "RestAPI": {"Properties": {"DefinitionBody": {"swagger": "2.0"}}},
        }
    }
    caller_limits.complete(template)
    return template


def test_each_lane_has_a_key_in_its_plan_that_the_authorizer_can_name() -> None:
    resources = completed()["Resources"]
    assert resources.pop("Authorizer")["Properties"]["Environment"]["Variables"] == {
        "STAGE": "dev",
        "LANE_KEYS": {"Fn::Sub": "credits${Stage}"},
    }
    assert resources.pop("RestAPI")["Properties"]["DefinitionBody"] == {
        "swagger": "2.0",
        "x-amazon-apigateway-api-key-source": "AUTHORIZER",
    }
    names = [f"{lane.title()}Lane" for lane in LANES]
    expected: Json = {}
    for place, (lane, name) in enumerate(zip(LANES, names, strict=True)):
        expected[name] = {
            "Type": "AWS::ApiGateway::ApiKey",
            # Of a new key, AWS makes no more than five a second.
            "DependsOn": names[place - 4 : place - 3] if place >= 4 else [],
            "Properties": {
                "Name": {"Fn::Sub": f"credits-${{Stage}}-{lane}"},
                "Description": "A lane of callers, named by the authorizer; no secret.",
                "Enabled": True,
                "Value": {"Fn::Sub": f"credits${{Stage}}{lane}lane"},
            },
        }
        expected[f"{name}InPlan"] = {
            "Type": "AWS::ApiGateway::UsagePlanKey",
            "Properties": {
                "KeyId": {"Ref": name},
                "KeyType": "API_KEY",
                "UsagePlanId": {"Ref": "BackendPlan" if lane == "backend" else "UsagePlan"},
            },
        }
    assert resources == expected
    assert len(names) == 18


def test_keys_may_be_asked_for_once_each_is_in_its_plan() -> None:
    resources = {*completed()["Resources"]}
    assert caller_limits.are_ready(resources)
    for lane in ("Users00", "Backend", "Admins"):
        assert not caller_limits.are_ready(resources - {f"{lane}LaneInPlan"})


def test_methods_behind_the_authorizer_ask_for_a_key_and_no_others() -> None:
    template = completed()
    definition = template["Resources"]["RestAPI"]["Properties"]["DefinitionBody"]
    behind: Json = {"security": [{"Authorizer": []}], "produces": ["application/json"]}
    before: Json = {"produces": ["application/json"]}
    definition["paths"] = {
        "/plans": {"get": {**behind}, "post": {**behind}, "options": {**before}},
        "/open": {"get": {"security": []}},
    }
    definition["securityDefinitions"] = {"Authorizer": {"type": "apiKey"}}
    caller_limits.require(template)
    asking = {**behind, "security": [{"Authorizer": []}, {"api_key": []}]}
    assert definition["paths"] == {
        "/plans": {"get": asking, "post": asking, "options": before},
        "/open": {"get": {"security": []}},
    }
    assert definition["securityDefinitions"] == {
        "Authorizer": {"type": "apiKey"},
        "api_key": {"type": "apiKey", "name": "x-api-key", "in": "header"},
    }
