"""The only way to deploy Credits: to AWS and, with the same steps, to the local emulator.

`deploy` packages and uploads the app, shows the changes that CloudFormation would make, and asks.
Then it makes the changes and reports the stack's events as they happen. When the stack fails, it
names the resource that failed first and why. Deploying the same thing twice changes nothing, and
says so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from chalicelib.domain.plans import PlanCatalogue
from infra.deployment import caller_limits, packaging, plan_changes, retained, shadows
from infra.deployment.artifacts import artifacts_of
from infra.deployment.deployed import Deployment, deployed_plans, describe
from infra.deployment.errors import DeployError
from infra.deployment.parameters import check_parameters
from infra.deployment.rollback import UNWATCHED, rollback_on_alarms
from infra.deployment.stack import Stack
from infra.deployment.stack_facts import stack_name
from infra.session import Clients, told
from infra.terminal import Confirm, Say, agree, say_nothing


class PackageMaker(Protocol):
    """Makes the package to deploy, as `packaging.package` does."""

    def __call__(self, stage: str, output: Path, /, *, region: str) -> packaging.Package:
        """Package `stage` into the empty directory `output`."""


def _compare_plans(stage: str, lambda_: Any, after: PlanCatalogue, now: datetime) -> list[str]:
    """What a deployment changes about the plans. Raises `DeployError` for a forbidden change."""
    deployed = deployed_plans(stage, lambda_)
    if deployed is None:
        return []
    try:
        before = plan_changes.terms_of(deployed)
    except ValueError as error:
        # Broken plans granted nothing, and a deployment that fixes them must not be stopped.
        return [f"The deployed plans have a mistake, so nothing is compared with them: {error}"]
    refused = plan_changes.refusals(before, after, now)
    if refused:
        raise DeployError(
            "\n".join([*refused, "Nobody is granted anything for the time before a deployment."])
        )
    return list(plan_changes.changes(before, after))


def deploy(
    stage: str,
    client: Clients,
    *,
    region: str,
    parameters: Mapping[str, str],
    say: Say,
    say_detail: Say = say_nothing,
    confirm: Confirm = agree,
    make_package: PackageMaker = packaging.package,
) -> Deployment:
    """Deploy `stage` and return the parts of the deployed stack.

    `client` makes a botocore client for a service, and so decides where this deploys to.
    `parameters` are those of infra/resources.yaml without the stage. `confirm` is called once the
    changes have been shown; if it says no, nothing is changed. `say` gets each step, `say_detail`
    each change and each event of the stack. Raises `AwsError`, and the errors of
    `packaging.package`.

    If a deployment of this stage is under way, this one waits for it. It removes a stack whose
    creation failed, and takes over the resources that an earlier stack left. It calls `confirm`
    before that, too.
    """
    plans = packaging.catalogue()
    client = cache(client)  # making a client takes longer than a request
    with told():
        account = client("sts").get_caller_identity()["Account"]
        check_parameters(stage, parameters, region)
        stack = Stack(client("cloudformation"), stack_name(stage), region, say, say_detail)
        stack.wait_for_what_is_under_way()
        wanted = parameters.get(shadows.PARAMETER, shadows.OFF)
        shadows.check_deployment(stage, client, wanted, say)
        plan_lines = _compare_plans(stage, client("lambda"), plans, datetime.now(UTC))
        with tempfile.TemporaryDirectory() as output:
            say(f"Packaging stage {stage} ...")
            package = make_package(stage, Path(output), region=region)
            size = package.archive.stat().st_size / 1e6
            say(f"Uploading the Lambda archive ({size:.1f} MB) ...")
            artifacts = artifacts_of(client("s3"), account=account, region=region)
            template = package.template_for(artifacts.upload_archive(package))
        if parameters.get(caller_limits.PARAMETER) == "on":
            if caller_limits.are_ready(stack.resources()):
                caller_limits.require(template)
            else:
                say(caller_limits.NOT_YET)
        if not stack.make_way(confirm):
            found = retained.leftovers(template, stage, client, account=account, region=region)
            stack.take_over(stage, found, confirm)
        for line in plan_lines:
            say(line)
        rollback = rollback_on_alarms(client("cloudwatch"), stage, say)
        first, new = retained.unprotected(template, stage, stack.resources())
        if new:
            say(f"Protected from deletion as soon as they are made: {', '.join(new)}")
        given = {**parameters, "Stage": stage}
        changed = stack.apply(artifacts.upload_template(first), given, rollback, confirm)
        if new:
            say("Protecting the new tables from deletion ...")
            stack.apply(artifacts.upload_template(template), given, UNWATCHED, agree)
        return describe(stage, client, changed=changed)
