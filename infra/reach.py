"""The services of a stage as a command on this machine reaches them: local or deployed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from chalicelib.anchors import Anchors
from chalicelib.domain.edits import BY_IMPORT
from chalicelib.domain.plans import CatalogueError, PlanCatalogue, parse_catalogue
from chalicelib.domain.subscriptions import Subscription, register
from chalicelib.queues import Queues
from chalicelib.services import Services
from chalicelib.settings import Settings
from chalicelib.store.database import connect
from infra.deployment import deploy, packaging
from infra.local import emulator, stacks
from infra.session import AwsError, ClientFactory, open_session, told

if TYPE_CHECKING:
    from pynamodb.connection import Connection

THREADS = 32
"""How many requests a command keeps under way."""


class StageServices(Services):
    """The services of a stage, by the plans that are deployed: those of this checkout may differ.

    A plan that begins to grant in an edited file would else be granted by a command, for months
    that a deployment refuses.
    """

    def __init__(self, settings: Settings, client: ClientFactory, connection: Connection) -> None:
        super().__init__(settings, connection=connection)
        self._client = client

    @cached_property
    def catalogue(self) -> PlanCatalogue:
        """The plans on offer. Raises `AwsError` when they cannot be read."""
        stage = self.settings.stage
        with told():
            text = deploy.deployed_plans(stage, self._client("lambda"))
        try:
            return parse_catalogue(text or "", f"the deployed {packaging.PLANS}")
        except CatalogueError as error:
            raise deploy.DeployError(
                f"{error}\nUse the checkout that stage {stage} was deployed from."
            ) from error

    @cached_property
    def anchors(self) -> Anchors:
        """The anchors bucket, read with the rights of whoever gives the command."""
        if not self.settings.anchors_bucket:
            raise deploy.DeployError(
                f"Stage {self.settings.stage} has no bucket of anchors: deploy it first."
            )
        with told():
            return Anchors(self.settings, self._client("s3"))


@dataclass(frozen=True)
class Reach:
    """What a command can get hold of in a stage: services, and names by their short keys."""

    stage: str
    services: Services
    functions: dict[str, str]
    queues: dict[str, str]
    client: ClientFactory


def reach(stage: str, region: str | None = None) -> Reach:
    """The running local stack, or a stage deployed to AWS; whose account that is, is shown.

    Raises `NotRunningError` or `AwsError`, which say what to do.
    """
    check_name(stage)
    if stage == stacks.STAGE:
        return reach_local(running_stack(region))
    aws = open_session(region)
    # What a command prints for programs goes to standard output.
    print(f"Stage {stage} in {aws}", file=sys.stderr)
    deployment = deploy.describe(stage, aws.client)
    settings = _settings(stage, aws.region.name, deployment)
    with told():
        connection = connect(aws.region.name, THREADS)
    return Reach(
        stage,
        StageServices(settings, aws.client, connection),
        deployment.functions,
        deployment.queues,
        aws.client,
    )


def running_stack(region: str | None = None) -> stacks.LocalStack:
    """The running local stack. Raises `NotRunningError`, and `AwsError` if a region is given."""
    if region:
        raise AwsError("The local stack is in no region. For a stage in AWS: STAGE=prod REGION=...")
    return stacks.running_stack()


def check_name(stage: str) -> None:
    """Raises `DeployError` unless there is a stage of that name, deployed or not."""
    names = packaging.stages()
    if stage not in names:
        raise deploy.DeployError(f"There is no stage {stage!r}; the stages are {', '.join(names)}")


def reach_local(stack: stacks.LocalStack) -> Reach:
    """A local stack, under the emulator's root user."""
    services = services_of_local(stack)
    services.queues = queues_of_local(stack)
    return Reach(stack.stage, services, stack.functions, stack.queues, stack.client)


def services_of(stage: str, region: str | None = None) -> Services:
    """The services of a stage; see `reach`."""
    return reach(stage, region).services


def services_of_local(stack: stacks.LocalStack) -> Services:
    """The services of a local stack, by its own clock, under the emulator's root user."""
    return StageServices(
        replace(
            _settings(stack.stage, emulator.REGION, stack),
            clock_file=stack.clock_file,
        ),
        stack.client,
        connect(
            emulator.REGION,
            THREADS,
            endpoint_url=stack.endpoint_url,
            access_key=emulator.ACCESS_KEY,
            secret_key=emulator.SECRET_KEY,
        ),
    )


def enter(services: Services, values: Mapping[str, object], at: datetime) -> Subscription:
    """Registers a user, or replaces their subscription, as an import does, and grants nothing."""
    return services.subscriptions.change(
        str(values["user_id"]),
        lambda existing: register(values, services.catalogue, at, existing),
        BY_IMPORT,
        at,
    )


def queues_of_local(stack: stacks.LocalStack) -> Queues:
    """The queues of a local stack, under the emulator's root user."""
    settings = _settings(stack.stage, emulator.REGION, stack)
    return Queues(settings, client=stack.client("sqs"))


def _settings(stage: str, region: str, stack: deploy.Deployment | stacks.LocalStack) -> Settings:
    tables, queues = stack.tables, stack.queues
    return Settings(
        stage=stage,
        region=region,
        ledger_table=tables["ledger"],
        subscriptions_table=tables["subscriptions"],
        sweeps_queue_url=queues["sweeps"],
        allocations_queue_url=queues["allocations"],
        expiries_queue_url=queues["expiries"],
        notifications_queue_url=queues["notifications"],
        mails_table=tables["mails"],
        edits_table=tables["edits"],
        anchors_bucket=stack.buckets.get("anchors", ""),
    )
