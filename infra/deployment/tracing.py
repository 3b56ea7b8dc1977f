"""Has the parameter Tracing decide for every function, and gives each role its right then."""

from __future__ import annotations

from typing import Any

ACTIONS = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")


def complete(template: dict[str, Any]) -> None:
    """Adds the policy to the packaged template; infra/resources.yaml says when it holds."""
    resources = template["Resources"]
    for resource in resources.values():
        if resource["Type"] == "AWS::Serverless::Function":
            # Chalice says of every function that it is not traced, and what a function says wins
            # over `Globals` (AWS SAM Developer Guide, "Globals section of the AWS SAM template").
            resource["Properties"].pop("Tracing", None)
    roles = sorted(
        name for name, resource in resources.items() if resource["Type"] == "AWS::IAM::Role"
    )
    resources["TracingPolicy"] = {
        "Type": "AWS::IAM::Policy",
        "Condition": "IsTraced",
        "Properties": {
            "PolicyName": "tracing",
            "Roles": [{"Ref": role} for role in roles],
            "PolicyDocument": {
                "Version": "2012-10-17",
                # X-Ray knows no finer resource than all.
                "Statement": [{"Effect": "Allow", "Action": list(ACTIONS), "Resource": "*"}],
            },
        },
    }
