"""Makes the parameter Tracing apply to every function, and gives each role the right to trace."""

from __future__ import annotations

from typing import Any

ACTIONS = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")


def complete(template: dict[str, Any]) -> None:
    """Adds the policy to the packaged template; infra/resources.yaml has its condition."""
    resources = template["Resources"]
    roles = set()
    for resource in resources.values():
        if resource["Type"] == "AWS::Serverless::Function":
            roles.add(resource["Properties"]["Role"]["Fn::GetAtt"][0])
            # Chalice switches tracing off for every function, and a function's setting overrides
            # `Globals` (AWS SAM Developer Guide, "Globals section of the AWS SAM template").
            resource["Properties"].pop("Tracing", None)
    resources["TracingPolicy"] = {
        "Type": "AWS::IAM::Policy",
        "Condition": "IsTraced",
        "Properties": {
            "PolicyName": "tracing",
            "Roles": [{"Ref": role} for role in sorted(roles)],
            "PolicyDocument": {
                "Version": "2012-10-17",
                # The actions of X-Ray cannot be limited to some resources.
                "Statement": [{"Effect": "Allow", "Action": list(ACTIONS), "Resource": "*"}],
            },
        },
    }
