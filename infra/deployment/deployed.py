"""The parts of a deployed stage, and its deployed plans."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from infra.deployment import plan_changes
from infra.deployment.errors import DeployError
from infra.deployment.stack_facts import describe_stack, stack_name
from infra.session import Clients, told


@dataclass(frozen=True)
class Deployment:
    """A deployed stack: the names of its parts by short keys, e.g. `tables["ledger"]`."""

    stack: str
    stage: str
    changed: bool
    api_id: str
    api_url: str
    functions: dict[str, str]
    tables: dict[str, str]
    queues: dict[str, str]
    buckets: dict[str, str]
    outputs: dict[str, str] = field(repr=False)


def describe(stage: str, client: Clients, *, changed: bool = False) -> Deployment:
    """Looks up a deployed stage.

    Raises `DeployError` when there is no such stack, or none that was ever made.
    """
    name = stack_name(stage)
    with told():
        description = describe_stack(client("cloudformation"), name)
    if description is None or not description.get("Outputs"):
        # A stack that failed, or is not made yet, has none.
        what = f"Stack {name} is {description['StackStatus']}" if description else None
        what = what or f"There is no stack {name}"
        raise DeployError(f"{what}. Deploy it first: make deploy STAGE={stage}")
    outputs = {item["OutputKey"]: item["OutputValue"] for item in description["Outputs"]}
    return Deployment(
        stack=name,
        stage=stage,
        changed=changed,
        api_id=outputs["RestAPIId"],
        # Stacks of earlier releases do not output their public address.
        api_url=outputs.get("ApiUrl", outputs["EndpointURL"]).rstrip("/"),
        functions=_with_suffix(outputs, "FunctionName"),
        tables=_with_suffix(outputs, "TableName"),
        queues=_with_suffix(outputs, "QueueUrl"),
        buckets=_with_suffix(outputs, "BucketName"),
        outputs=outputs,
    )


def _with_suffix(outputs: dict[str, str], suffix: str) -> dict[str, str]:
    """The outputs whose names end in `suffix`: `SweepsDlqQueueUrl` becomes `sweeps-dlq`."""
    return {
        re.sub(r"(?<!^)(?=[A-Z])", "-", key.removesuffix(suffix)).lower(): value
        for key, value in sorted(outputs.items())
        if key.endswith(suffix)
    }


def deployed_plans(stage: str, lambda_: Any) -> str | None:
    """The catalogue that a stage uses; None if the stage is not deployed."""
    return plan_changes.deployed(lambda_, f"{stack_name(stage)}-allocate-accounts")
