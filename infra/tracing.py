"""What X-Ray needs once a stage is traced: a right of every function's role, given only then."""

from __future__ import annotations

from typing import Any

ACTIONS = ("xray:PutTelemetryRecords", "xray:PutTraceSegments")


def complete(template: dict[str, Any]) -> None:
    """Adds the policy to the packaged template; infra/resources.yaml says when it holds."""
    resources = template["Resources"]
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
