"""Gives a command on this machine the services of a stage, local or deployed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from chalicelib.domain.edits import BY_IMPORT
from chalicelib.domain.subscriptions import Subscription
from chalicelib.domain.terms import Terms, read_terms, successor
from chalicelib.services import Services
from chalicelib.store.database import connect
from infra.deployment import packaging
from infra.deployment.deployed import describe
from infra.deployment.errors import DeployError
from infra.deployment.stage_services import THREADS, StageServices, settings_of
from infra.local import stacks
from infra.local.services import queues_of_local, services_of_local
from infra.session import AwsError, ClientFactory, open_session, told


@dataclass(frozen=True)
class Reach:
    """The parts of a stage that a command can use: services, and names by short keys."""

    stage: str
    services: Services
    functions: dict[str, str]
    queues: dict[str, str]
    client: ClientFactory
    account: str | None = None
    """The AWS account; None for the local stack."""
    caller: str = ""
    """The ARN of the caller of AWS; empty for the local stack."""


def reach(stage: str, region: str | None = None) -> Reach:
    """The running local stack, or a stage deployed to AWS; then it shows the account.

    Raises `NotRunningError` or `AwsError`, which say what to do.
    """
    check_name(stage)
    if stage == stacks.STAGE:
        return reach_local(running_stack(region))
    aws = open_session(region)
    # Standard output is for programs, so this goes to standard error.
    print(f"Stage {stage} in {aws}", file=sys.stderr)
    deployment = describe(stage, aws.client)
    settings = settings_of(stage, aws.region.name, deployment)
    with told():
        dynamodb = connect(aws.region.name, THREADS)
    return Reach(
        stage,
        StageServices(settings, aws.client, dynamodb),
        deployment.functions,
        deployment.queues,
        aws.client,
        aws.account,
        aws.caller,
    )


def running_stack(region: str | None = None) -> stacks.LocalStack:
    """The running local stack. Raises `NotRunningError`, and `AwsError` if a region is given."""
    if region:
        raise AwsError("The local stack is in no region. For a stage in AWS: STAGE=prod REGION=...")
    return stacks.running_stack()


def check_name(stage: str) -> None:
    """Raises `DeployError` unless a stage of that name exists, deployed or not."""
    names = packaging.stages()
    if stage not in names:
        raise DeployError(f"There is no stage {stage!r}; the stages are {', '.join(names)}")


def reach_local(stack: stacks.LocalStack) -> Reach:
    """A local stack, under the emulator's root user."""
    services = services_of_local(stack)
    services.queues = queues_of_local(stack)
    return Reach(stack.stage, services, stack.functions, stack.queues, stack.client)


def services_of(stage: str, region: str | None = None) -> Services:
    """The services of a stage; see `reach`."""
    return reach(stage, region).services


def enter(services: Services, values: Mapping[str, object], at: datetime) -> Subscription:
    """Registers a user, or replaces their subscription, as an import does, and grants nothing."""

    def decide(existing: Subscription | None) -> Subscription:
        stored = Terms.of(existing) if existing else None
        terms = read_terms(values, services.catalogue, at, stored)
        return successor(existing, terms, services.catalogue, at)

    return services.subscriptions.change(str(values["user_id"]), decide, BY_IMPORT, at)
