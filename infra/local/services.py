"""The services of a local stack, by its own clock, under the emulator's root user."""

from __future__ import annotations

from chalicelib.queues import Queues
from chalicelib.services import Services
from chalicelib.store.database import connect
from infra.deployment.stage_services import THREADS, StageServices, settings_of
from infra.local import emulator
from infra.local.stacks import LocalStack


def services_of_local(stack: LocalStack, threads: int = THREADS) -> Services:
    """The services of a local stack, by its own clock, under the emulator's root user.

    ``threads``: how many may use them at once.
    """
    return StageServices(
        settings_of(stack.stage, emulator.REGION, stack)._replace(
            clock_file=stack.clock_file,
        ),
        stack.client,
        connect(
            emulator.REGION,
            threads,
            endpoint_url=stack.endpoint_url,
            access_key=emulator.ACCESS_KEY,
            secret_key=emulator.SECRET_KEY,
        ),
    )


def queues_of_local(stack: LocalStack) -> Queues:
    """The queues of a local stack, under the emulator's root user."""
    settings = settings_of(stack.stage, emulator.REGION, stack)
    return Queues(settings, client=stack.client("sqs"))
