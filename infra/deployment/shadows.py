"""Shadows: stages that run beside an old system and send nothing, until the switch.

The parameter Shadow is ``on`` from the first deployment of such a stage. Only `make cutover` ends
that, and puts the instant of the switch into the parameter. So a deployment never changes it:
turning a shadow off would tell users of credits that nobody has checked, and turning it on would
silence ledgers that count.
"""

from __future__ import annotations

from typing import Any

from infra.deployment.errors import DeployError
from infra.deployment.stack_facts import UNMADE, Json, describe_stack, stack_name
from infra.session import Clients
from infra.terminal import Say

PARAMETER = "Shadow"
ON, OFF = "on", "off"

IS_ONE = "it sends nothing, neither emails nor events, until make cutover (docs/migrating.md)"


def shadow_of(cloudformation: Any, stage: str) -> str | None:
    """The parameter Shadow of a deployed stage; None if the stage is not deployed."""
    description = describe_stack(cloudformation, stack_name(stage))
    status = description["StackStatus"] if description else ""
    if description is None or status in UNMADE or status == "REVIEW_IN_PROGRESS":
        return None
    return shadow_in(description)


def shadow_in(description: Json) -> str:
    """The parameter in CloudFormation's description of a stack."""
    parameters = description.get("Parameters", ())
    found = {each["ParameterKey"]: each["ParameterValue"] for each in parameters}
    # Stacks of earlier releases have no such parameter.
    return str(found.get(PARAMETER, OFF))


def line_of(stage: str, value: str) -> str:
    """The line that the file of parameters must have for a stage."""
    return f'{PARAMETER} = "{value}" under [{stage}] in infra/parameters.toml'


def check_deployment(stage: str, client: Clients, wanted: str, say: Say) -> None:
    """Tells whether a deployment makes or keeps a shadow.

    Raises `DeployError` if the deployment would turn a shadow into a ledger, or a ledger into a
    shadow. A stage whose ledgers are empty may become a shadow.
    """
    deployed = shadow_of(client("cloudformation"), stage)
    if deployed is None or deployed == wanted:
        if wanted == ON:
            what = "becomes" if deployed is None else "is"
            say(f"Stage {stage} {what} a shadow: {IS_ONE}")
        return
    keep = f"To deploy it as it is, write {line_of(stage, deployed)}."
    if deployed == ON:
        raise DeployError(
            f"Stage {stage} is a shadow, and a deployment does not end that: make cutover "
            f"STAGE={stage} does, once what is to be checked is well.\n{keep}"
        )
    if deployed != OFF or wanted != ON:
        raise DeployError(
            f"{PARAMETER} has changed: {deployed!r} for stage {stage}, and now {wanted!r}.\n{keep}"
        )
    if not _is_empty(stage, client("dynamodb")):
        raise DeployError(
            f"Stage {stage} has ledgers that count: as a shadow it would fall silent about them. "
            f"A stage is a shadow from its first deployment on.\n{keep}"
        )
    say(f"Stage {stage} becomes a shadow: {IS_ONE}")


def _is_empty(stage: str, dynamodb: Any) -> bool:
    """Whether nothing was posted yet, by DynamoDB's six-hourly count: no item is read."""
    table = dynamodb.describe_table(TableName=f"{stack_name(stage)}-ledger")["Table"]
    return bool(table["ItemCount"] == 0)
