"""The services of a stage as a command on this machine reaches them: local or deployed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import botocore.session

from chalicelib.queues import Queues
from chalicelib.services import Services
from chalicelib.settings import Settings
from chalicelib.store.database import connect
from infra import deploy, emulator, local

THREADS = 32
"""How many requests a command keeps under way."""


def services_of(stage: str) -> Services:
    """The services of the running local stack, or of a stage deployed to AWS.

    Raises `NotRunningError` or `DeployError`, which say what to do.
    """
    if stage == local.STAGE:
        return services_of_local(local.running_stack())
    session = botocore.session.get_session()
    region = session.get_config_variable("region") or os.environ.get("AWS_REGION")
    if not region:
        raise deploy.DeployError("No region is set. Set one: export AWS_REGION=eu-west-1")

    def client(service: str) -> Any:
        return session.create_client(service, region_name=region)

    deployment = deploy.describe(stage, client)
    return Services(
        _settings(stage, region, deployment.tables, deployment.queues),
        connection=connect(region, THREADS),
    )


class Clients(NamedTuple):
    """What calls the services of a stage, and the names of its functions."""

    client: Callable[[str], Any]
    functions: dict[str, str]


def clients_of(stage: str) -> Clients:
    """The same of the running local stack, or of a stage deployed to AWS.

    Raises `NotRunningError` or `DeployError`, which say what to do.
    """
    if stage == local.STAGE:
        stack = local.running_stack()
        return Clients(stack.client, stack.functions)
    session = botocore.session.get_session()
    region = session.get_config_variable("region") or os.environ.get("AWS_REGION")
    if not region:
        raise deploy.DeployError("No region is set. Set one: export AWS_REGION=eu-west-1")

    def client(service: str) -> Any:
        return session.create_client(service, region_name=region)

    return Clients(client, deploy.describe(stage, client).functions)


def services_of_local(stack: local.LocalStack) -> Services:
    """The services of a local stack, by its own clock, under the emulator's root user."""
    return Services(
        replace(
            _settings(stack.stage, emulator.REGION, stack.tables, stack.queues),
            clock_file=stack.clock_file,
        ),
        connection=connect(
            emulator.REGION,
            THREADS,
            endpoint_url=stack.endpoint_url,
            access_key=emulator.ACCESS_KEY,
            secret_key=emulator.SECRET_KEY,
        ),
    )


def queues_of_local(stack: local.LocalStack) -> Queues:
    """The queues of a local stack, under the emulator's root user."""
    settings = _settings(stack.stage, emulator.REGION, stack.tables, stack.queues)
    return Queues(settings, client=stack.client("sqs"))


def _settings(stage: str, region: str, tables: dict[str, str], queues: dict[str, str]) -> Settings:
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
    )
